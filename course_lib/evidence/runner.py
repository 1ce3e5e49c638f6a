"""Run experiments, seed by seed; stop and go on as you like."""

import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager

from course_lib import profile
from course_lib.evidence import table
from course_lib.evidence.design import EvidenceError, Experiment, Outcome
from course_lib.evidence.fingerprint import fingerprint
from course_lib.evidence.studies import experiments, get
from course_lib.evidence.table import Results

Report = Callable[[str], None]


def run(
    ids: Sequence[str] | None = None,
    seeds: int | None = None,
    *,
    again: bool = False,
    jobs: int = 1,
    report: Report | None = None,
) -> dict[str, Results]:
    """Run experiments and keep their results under ``data/evidence``.

    Each finished seed is saved at once, so a run that was stopped goes on where it was. Results
    made with another design are dropped when the first seed of the new one is done.

    Args:
        ids: of the experiments; all by default.
        seeds: how many, 0, 1, 2 ...; by default as each design says.
        again: remove the results of these experiments first, so that all seeds are run anew; a run
            that was stopped goes on without it.
        jobs: processes, with one thread each; the numbers don't depend on how many.
        report: gets a line after each seed; ``print`` shows them.

    Raises:
        UnknownNameError: no such experiment.
        EvidenceError: ``seeds`` or ``jobs`` below 1, or an outcome that isn't as announced.
    """
    for name, value in (("seeds", seeds), ("jobs", jobs)):
        if value is not None and value < 1:
            raise EvidenceError(f"{name} must be 1 or more; got {value}.")
    chosen = [get(each) for each in ids] if ids is not None else list(experiments().values())
    say = report or (lambda _: None)
    if again:
        for each in chosen:
            table.path_of(each.id).unlink(missing_ok=True)
    results = {each.id: _start(each) for each in chosen}
    todo = [
        (each, seed)
        for each in chosen
        for seed in range(seeds or each.seeds)
        if seed not in results[each.id].outcomes
    ]
    if not todo:
        say("Nothing to run: every seed is there.")
    began = time.perf_counter()
    for number, (each, seed, outcome, seconds) in enumerate(_outcomes(todo, jobs), start=1):
        each.check_outcome(outcome)
        results[each.id].add(seed, outcome)
        table.write(each, results[each.id])
        spent = (time.perf_counter() - began) / 60
        say(f"{each.id} seed {seed}: {seconds:.0f} s  ({number}/{len(todo)}, {spent:.1f} min)")
    return results


def run_seed(id: str, seed: int) -> Outcome:
    """One seed of an experiment: one thread, all streams seeded, profile ``tiny``, on the CPU.

    Afterwards torch's thread count and the profile are what they were.
    """
    with _standard_conditions(seed):
        return get(id).run(seed)


def differences(id: str, seed: int) -> list[str]:
    """Run one seed anew and compare it with the file; timings aside.

    Returns:
        One line for each number that differs.

    Raises:
        UnknownNameError: no such experiment.
        EvidenceError: the file has no results for that seed.
    """
    experiment, results = get(id), table.read(id)
    if results is None or seed not in results.outcomes:
        raise EvidenceError(f"{id} has no results for seed {seed}. Run: course evidence run {id}")
    again = Results(id, results.design)
    again.add(seed, run_seed(id, seed))
    return [
        f"{id} seed {seed}, {arm}, {each.name}: {old[each.name]:g} in the file, "
        f"{again.outcomes[seed][arm][each.name]:g} now"
        for arm, old in results.outcomes[seed].items()
        for each in experiment.measures
        if not each.timing and again.outcomes[seed][arm][each.name] != old[each.name]
    ]


def _start(experiment: Experiment) -> Results:
    design = fingerprint(experiment)
    before = table.read(experiment.id)
    if before is not None and before.design == design:
        before.made_with = made_with()
        return before
    return Results(experiment.id, design, made_with())


def made_with() -> str:
    """torch's version and the processor's kind, on which last digits depend."""
    import torch

    return f"torch {torch.__version__.split('+')[0]} on {torch.backends.cpu.get_cpu_capability()}"


def _outcomes(
    todo: list[tuple[Experiment, int]], jobs: int
) -> Iterator[tuple[Experiment, int, Outcome, float]]:
    if jobs == 1 or len(todo) < 2:
        for each, seed in todo:
            yield each, seed, *_timed(each.id, seed)
        return
    fresh = multiprocessing.get_context("spawn")  # a fork would inherit torch's threads
    one_thread = profile.environment("OMP_NUM_THREADS", "1")
    with one_thread, ProcessPoolExecutor(jobs, mp_context=fresh) as pool:
        futures = {pool.submit(_timed, each.id, seed): (each, seed) for each, seed in todo}
        try:
            for future in as_completed(futures):
                each, seed = futures[future]
                yield each, seed, *future.result()
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _timed(id: str, seed: int) -> tuple[Outcome, float]:
    began = time.perf_counter()
    outcome = run_seed(id, seed)
    return {arm: dict(values) for arm, values in outcome.items()}, time.perf_counter() - began


@contextmanager
def _standard_conditions(seed: int) -> Iterator[None]:
    import torch

    threads, exact = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    with profile.environment(profile.ENVIRONMENT_VARIABLE, "tiny"):
        try:
            profile.start()
            profile.seed_everything(seed)
            yield
        finally:
            torch.set_num_threads(threads)
            torch.use_deterministic_algorithms(exact)
