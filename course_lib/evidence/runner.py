"""Run experiments, seed by seed; stop and go on as you like."""

import copy
import multiprocessing
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from course_lib import profile
from course_lib.evidence import photographs, table
from course_lib.evidence.claims import claim
from course_lib.evidence.design import EvidenceError, Experiment, Outcome
from course_lib.evidence.fingerprint import fingerprint
from course_lib.evidence.ledger import effects
from course_lib.evidence.studies import experiments, get
from course_lib.evidence.table import Results
from course_lib.paths import alone

Report = Callable[[str], None]
PATIENCE = 60.0  # seconds to wait while another runner writes its seed


def run(
    ids: Sequence[str] | None = None,
    seeds: int | None = None,
    *,
    again: bool = False,
    with_photographs: bool = False,
    own: bool = False,
    jobs: int = 1,
    report: Report | None = None,
) -> dict[str, Results]:
    """Run experiments and keep their results under ``data/evidence``.

    Each finished seed is saved at once, so a run that was stopped goes on where it was. Several
    runners at once share the seeds: each leaves those that another one has. Results
    made with another design are dropped when the first seed of the new one is done.

    Args:
        ids: of the experiments; by default those of the laboratory, which need nothing but the
            checkout, for the claims C1 to C21.
        seeds: how many, 0, 1, 2 ...; by default as each design says.
        again: remove the results of these experiments first, so that all seeds are run anew; a run
            that was stopped goes on without it.
        with_photographs: by default those on photographs, too.
        own: by default the chapters' own measurements, too.
        jobs: processes, with one thread each; the numbers don't depend on how many.
        report: gets a line after each seed; ``print`` shows them.

    Raises:
        UnknownNameError: no such experiment.
        EvidenceError: ``seeds`` or ``jobs`` below 1, or an outcome that isn't as announced.
    """
    for name, value in (("seeds", seeds), ("jobs", jobs)):
        if value is not None and value < 1:
            raise EvidenceError(f"{name} must be 1 or more; got {value}.")
    wanted = [get(each) for each in ids] if ids is not None else [
        each for each in experiments().values()
        if (with_photographs or not each.photographs) and (own or claim(each.id).numbered)
    ]  # fmt: skip
    chosen = list({each.results: each for each in wanted}.values())
    say = report or (lambda _: None)
    if again:
        for each in chosen:
            table.path_of(each.results).unlink(missing_ok=True)
    results = {each.results: _start(each) for each in chosen}
    todo = [
        (each, seed)
        for each in chosen
        for seed in range(seeds or each.seeds)
        if seed not in results[each.results].outcomes
    ]
    if not todo:
        say("Nothing to run: every seed is there.")
    began = time.perf_counter()
    for number, (each, seed, outcome, seconds) in enumerate(_outcomes(todo, jobs), start=1):
        if outcome is None:
            say(f"{each.id} seed {seed}: another runner has it  ({number}/{len(todo)})")
            continue
        each.check_outcome(outcome)
        with alone(table.path_of(each.results), PATIENCE):
            results[each.results] = _start(each)  # with what other runners have finished
            results[each.results].add(seed, outcome)
            table.write(each, results[each.results])
        spent = (time.perf_counter() - began) / 60
        say(f"{each.id} seed {seed}: {seconds:.0f} s  ({number}/{len(todo)}, {spent:.1f} min)")
    for each in chosen:
        results[each.results] = _start(each)
    return {each.id: results[each.results] for each in wanted}


def run_seed(id: str, seed: int) -> Outcome:
    """One seed of an experiment: one thread, all streams seeded, profile ``tiny``, on the CPU.

    Afterwards torch's thread count and the profile are what they were.
    """
    with _standard_conditions(seed):
        return get(id).run(seed)


@dataclass(frozen=True)
class Comparison:
    """A seed run anew and compared with the file.

    Attributes:
        exact: number by number, as processor and torch are those of that seed; otherwise by
            what the claim's verdicts and intervals become with the new numbers in the seed's place.
        problems: a line for each thing that differs.
    """

    exact: bool
    problems: tuple[str, ...]


def compare(id: str, seed: int) -> Comparison:
    """Run one seed of an experiment anew and compare it with the file; timings aside.

    Raises:
        UnknownNameError: no such experiment.
        EvidenceError: the file has no results for that seed.
    """
    experiment = get(id)
    results = table.read(experiment.results)
    if results is None or seed not in results.outcomes:
        raise EvidenceError(f"{id} has no results for seed {seed}. Run: course evidence run {id}")
    old, again = results.outcomes[seed], copy.deepcopy(results)
    again.add(seed, run_seed(id, seed))
    if results.made[seed] == made_with():
        return Comparison(True, tuple(
            f"{id} seed {seed}, {arm}, {each.name}: {old[arm][each.name]:g} in the file, "
            f"{again.outcomes[seed][arm][each.name]:g} now"
            for arm in old
            for each in experiment.measures
            if not each.timing and again.outcomes[seed][arm][each.name] != old[arm][each.name]
        ))  # fmt: skip
    problems = []
    for before, now in zip(effects(experiment, results), effects(experiment, again), strict=True):
        inside = before.interval.low <= now.interval.value <= before.interval.high
        if before.verdict != now.verdict or not inside:
            problems.append(
                f"{id} {before.contrast.name}, with seed {seed} of this processor: {now.text}, "
                f"{now.verdict}; the file: {before.text}, {before.verdict}"
            )
    return Comparison(False, tuple(problems))


def _start(experiment: Experiment) -> Results:
    design = fingerprint(experiment)
    before = table.read(experiment.results)
    if before is not None and before.design == design:
        before.made_with = made_with()
        return before
    used = photographs.described(experiment.photographs) if experiment.photographs else ""
    return Results(experiment.results, design, made_with(), used)


def made_with() -> str:
    """torch's version and the processor with its kind, on which last digits depend."""
    import torch

    kind = torch.backends.cpu.get_cpu_capability()
    return f"torch {torch.__version__.split('+')[0]} on {kind} ({processor()})"


def processor() -> str:
    """The processor's name, as the system gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return platform.processor() or platform.machine()
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _outcomes(
    todo: list[tuple[Experiment, int]], jobs: int
) -> Iterator[tuple[Experiment, int, Outcome | None, float]]:
    if jobs == 1 or len(todo) < 2:
        for each, seed in todo:
            yield each, seed, *_claimed(each.id, seed)
        return
    fresh = multiprocessing.get_context("spawn")  # a fork would inherit torch's threads
    one_thread = profile.environment("OMP_NUM_THREADS", "1")
    with one_thread, ProcessPoolExecutor(jobs, mp_context=fresh) as pool:
        futures = {pool.submit(_claimed, each.id, seed): (each, seed) for each, seed in todo}
        try:
            for future in as_completed(futures):
                each, seed = futures[future]
                yield each, seed, *future.result()
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _claimed(id: str, seed: int) -> tuple[Outcome | None, float]:
    """Run a seed that no other runner is at, nor has finished since; None in place of any other."""
    experiment = get(id)
    path = table.path_of(experiment.results)
    with alone(path.with_name(f"{path.stem}-seed-{seed}"), 0) as free:
        if free is False or seed in _start(experiment).outcomes:
            return None, 0.0
        return _timed(id, seed)


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
