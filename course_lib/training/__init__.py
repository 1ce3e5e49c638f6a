"""Train a model and measure it: the loop, parameter groups, evaluation, history.

Start with :func:`finetune`; :func:`evaluate` and :func:`predict` measure the result.
``course_lib.recipe`` does it all for a folder of pictures.
"""

from course_lib.training.epochs import EpochEnd
from course_lib.training.errors import NonFiniteLossError, OutOfMemoryError, TrainingError
from course_lib.training.evaluation import Evaluation, Predictions, evaluate, predict
from course_lib.training.groups import parameter_groups
from course_lib.training.history import EpochRecord, History
from course_lib.training.loop import finetune
from course_lib.training.metrics import accuracy, confusion_matrix
from course_lib.training.snapshot import WeightSnapshot
from course_lib.training.staged import depth_rates, hold_statistics, pull_to_start, warm_up_and_fall

__all__ = [
    "EpochEnd", "EpochRecord", "Evaluation", "History", "NonFiniteLossError", "OutOfMemoryError",
    "Predictions", "TrainingError", "WeightSnapshot", "accuracy", "confusion_matrix",
    "depth_rates", "evaluate", "finetune", "hold_statistics", "parameter_groups", "predict",
    "pull_to_start", "warm_up_and_fall",
]  # fmt: skip
