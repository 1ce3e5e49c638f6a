"""What ``course evidence run|show|check`` does: print, and say how it went by a number."""

import os
from collections.abc import Sequence

from course_lib.evidence.ledger import check, show
from course_lib.evidence.runner import differences, run


def cli_run(
    ids: Sequence[str] = (), seeds: int | None = None, again: bool = False, jobs: int | None = None
) -> int:
    """Run experiments (all when none is named) with a line for each seed, then show them.

    Args:
        ids: of the experiments; all by default.
        seeds: how many; by default as each design says.
        again: remove the results that are there first.
        jobs: processes; by default two, or one on a machine with one core.
    """
    jobs = min(2, os.cpu_count() or 1) if jobs is None else jobs
    done = run(
        list(ids) or None,
        seeds,
        again=again,
        jobs=jobs,
        report=lambda line: print(line, flush=True),
    )
    print(show(list(done)))
    return 0


def cli_show(ids: Sequence[str] = ()) -> int:
    """Print the ledger, or the lines of the claims that are named."""
    print(show(list(ids) or None))
    return 0


def cli_check(ids: Sequence[str] = (), recompute: bool = False) -> int:
    """Print what is wrong with the results, if anything; 1 if so, else 0.

    Args:
        ids: of the experiments; all by default.
        recompute: also run the first seed of each again and compare every number.
    """
    problems = check(list(ids) or None)
    if recompute and not problems:
        from course_lib.evidence.design import experiments

        for each in ids or experiments():
            problems += differences(each, 0)
            print(f"{each}: seed 0 run again", flush=True)
    for line in problems:
        print(line)
    if not problems:
        print("Results and code agree.")
    return 1 if problems else 0
