"""From the notebook to a job: one config file, one command, checkpoints, several processes.

====================================  ===========================================================
:func:`read_config`                   a TOML file and options -> :class:`JobConfig`, all checked
:func:`train`                         train, save on the way, go on where it stopped; a report
:func:`dry_run`                       what would be done, what it costs, what is frozen
``jobs.export``                       out of torch: ONNX, torch.export, 8 bits
``jobs.serve``                        a page on this machine that answers about a photograph
====================================  ===========================================================
"""

from course_lib.jobs.config import ConfigError, JobConfig, StageConfig, read_config
from course_lib.jobs.plan import dry_run
from course_lib.jobs.run import STOPPED, JobResult, train

__all__ = [
    "STOPPED", "ConfigError", "JobConfig", "JobResult", "StageConfig", "dry_run", "read_config",
    "train",
]  # fmt: skip
