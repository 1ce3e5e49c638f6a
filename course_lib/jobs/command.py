"""``course train CONFIG.toml``: a job from the command line."""

import argparse
import warnings
from typing import Any

from course_lib.jobs.config import described, read_config
from course_lib.jobs.plan import dry_run
from course_lib.jobs.run import STOPPED, train
from course_lib.text import printable_lines, ruled

SHARED = ("out", "model", "size")  # keys that are options of the recipe, too


def run(options: argparse.Namespace) -> int:
    """Do a job, or tell what it would do.

    Returns:
        0 when it is finished, ``STOPPED`` (75) when it was asked to stop and has saved.

    Raises:
        CourseError: what :func:`course_lib.jobs.train` raises.
    """
    if options.keys:
        print(ruled([("key", "what it is (by default)"), *described()]))
        return 0
    words: list[str] = list(options.rest)
    for name in SHARED:
        if (value := getattr(options, name)) is not None:
            words += [f"--{name}", str(value)]
    config = read_config(options.config or options.folder, words)
    with warnings.catch_warnings():
        warnings.showwarning = _tell
        if options.dry_run:
            _say(dry_run(config))
            return 0
        done = train(config, say=_say)
    return 0 if done.finished else STOPPED


def _say(text: str) -> None:
    # A job's output is read while it runs; names in it may be a stranger's.
    print(printable_lines(text), flush=True)


def _tell(message: Any, *_: Any, **__: Any) -> None:
    import sys

    print(f"course: {printable_lines(str(message))}", file=sys.stderr)
