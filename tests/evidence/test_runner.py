"""Runs: resumed where they stopped, identical when repeated, written whole or not at all."""

import multiprocessing
from contextlib import contextmanager
from functools import partial

import pytest

from course_lib import cli, evidence, profile
from course_lib.evidence import Contrast, EvidenceError, Measure, table
from course_lib.evidence.design import Answers


def read_text():
    return table.path_of("C18").read_text()


def stops(toy, monkeypatch):
    """Makes contexts in which Ctrl-C is pressed at a seed; the design counts as unchanged."""
    monkeypatch.setattr("course_lib.evidence.runner.fingerprint", lambda _: "0" * 16)
    original = toy.run

    @contextmanager
    def stopping_at(last):
        def interrupted(seed):
            if seed == last:
                raise KeyboardInterrupt
            return original(seed)

        object.__setattr__(toy, "run", interrupted)
        yield
        object.__setattr__(toy, "run", original)

    return stopping_at


def test_a_run_writes_a_row_for_each_seed_and_arm(toy):
    lines = []
    results = evidence.run(report=lines.append)["C18"]
    assert results.seeds == [0, 1, 2, 3, 4, 5]
    text = read_text().splitlines()
    assert text[0] == "# experiment: C18"
    assert text[3] == "seed,arm,accuracy,seconds"
    assert len(text) == 4 + 6 * 2
    assert lines[0].startswith("C18 seed 0: ")
    assert len(lines) == 6
    assert evidence.check() == []


def test_by_default_the_numbered_claims_are_run_in_the_laboratory(toy, registry):
    def register(id, **more):
        settings = {"arms": toy.arms, "measures": toy.measures, "contrasts": toy.contrasts} | more
        evidence.experiment(id, seeds=6, **settings)(toy.run)

    register("hops")
    register("C1_photographs", photographs="food_photographs")
    chosen = partial(evidence.run, seeds=1)  # of six
    assert set(chosen()) == {"C18"}
    assert set(chosen(own=True)) == {"C18", "hops"}
    assert set(chosen(["hops"])) == {"hops"}


def test_a_stopped_run_goes_on(toy):
    evidence.run(seeds=2)
    assert toy.calls == [0, 1]
    assert "2 of 6 seeds" in evidence.check()[0]
    evidence.run()
    assert toy.calls == [0, 1, 2, 3, 4, 5]
    evidence.run()
    assert len(toy.calls) == 6
    evidence.run(again=True, seeds=6)
    assert len(toy.calls) == 12


def test_a_stopped_rerun_goes_on_from_its_own_seeds(toy, monkeypatch):
    stopping_at = stops(toy, monkeypatch)
    evidence.run()
    with stopping_at(2), pytest.raises(KeyboardInterrupt):
        evidence.run(again=True)
    assert table.read("C18").seeds == [0, 1]
    evidence.run()
    assert table.read("C18").seeds == [0, 1, 2, 3, 4, 5]
    assert toy.calls == [0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5]


def test_an_interruption_keeps_the_seeds_that_are_done(toy, monkeypatch):
    with stops(toy, monkeypatch)(3), pytest.raises(KeyboardInterrupt):
        evidence.run()
    assert table.read("C18").seeds == [0, 1, 2]
    assert [path.name for path in table.folder().iterdir()] == ["C18.csv"]


def test_another_design_starts_anew(toy):
    evidence.run(seeds=3)
    results = table.read("C18")
    results.design = "another"
    table.write(toy, results)
    assert "was changed after its results" in evidence.check()[0]
    evidence.run(seeds=1)
    assert table.read("C18").seeds == [0]


def test_reruns_are_identical_but_for_timings(toy):
    evidence.run()
    before = table.read("C18")
    assert evidence.compare("C18", 2) == evidence.Comparison(True, ())
    before.outcomes[2]["b"]["accuracy"] += 0.01
    table.write(toy, before)
    assert "C18 seed 2, b, accuracy" in evidence.compare("C18", 2).problems[0]
    with pytest.raises(EvidenceError, match="no results for seed 9"):
        evidence.compare("C18", 9)


def test_on_another_processor_verdict_and_interval_are_compared(toy):
    """Last digits differ there, and that is no fault; another verdict is."""
    evidence.run()
    results = table.read("C18")
    results.made = dict.fromkeys(results.seeds, "torch 2.14.1 on AVX512 (another)")
    results.outcomes[2]["b"]["accuracy"] += 0.001
    table.write(toy, results)
    assert evidence.compare("C18", 2) == evidence.Comparison(False, ())
    for seed in results.seeds:
        results.outcomes[seed]["b"]["accuracy"] -= 0.5
    table.write(toy, results)
    assert "with seed 2 of this processor" in evidence.compare("C18", 2).problems[0]


def test_a_run_may_go_on_on_another_processor(toy):
    """Each seed keeps what it was made with, and is compared accordingly."""
    evidence.run(seeds=2)
    begun = table.read("C18")
    here = begun.made[0]
    begun.made = dict.fromkeys(begun.seeds, "torch 2.14.1 on AVX512 (another)")
    table.write(toy, begun)
    evidence.run()
    kept = table.path_of("C18").read_text(encoding="utf-8")
    assert "# made with: torch 2.14.1 on AVX512 (another); seeds 0 1\n" in kept
    assert f"# made with: {here}; seeds 2 3 4 5\n" in kept
    assert [evidence.compare("C18", seed).exact for seed in (1, 2)] == [False, True]


def test_answers_are_kept_picture_by_picture(registry):
    """What is read is what was written, and the interval is that of the answers."""

    @evidence.experiment(
        "C18", arms=("a", "b"), measures=(Measure("accuracy"),),
        contrasts=(Contrast("gain", "b", "a", "accuracy", "more"),),
    )  # fmt: skip
    def made(seed):
        """Data: none. Arms: a and b, each right on other pictures of a pool of a hundred, as the
        seed draws them. Prediction: b wins, as it is right more often than a is, by design."""
        places = tuple(range(seed, 100, 3))
        return {arm: {"accuracy": Answers(places, tuple(at % 7 > least for at in places))}
                for arm, least in (("a", 3), ("b", 1))}  # fmt: skip

    ran = evidence.run()["C18"]
    read = table.read("C18")
    assert read.answers == ran.answers
    assert read.outcomes == ran.outcomes
    assert read.answers[1]["a"]["accuracy"].places[:3] == (1, 4, 7)
    interval = evidence.entry("C18").effects[0].interval
    assert interval.pictures == 100
    assert interval.value == pytest.approx(2 / 7, abs=0.02)


def test_an_exact_result_has_no_interval(registry):
    @evidence.experiment(
        "C18", seeds=1, exact=True, arms=("a", "b"), measures=(Measure("accuracy"),),
        contrasts=(Contrast("gain", "b", "a", "accuracy", "more"),),
    )  # fmt: skip
    def made(seed):
        """Data: none. Arms: a and b, whose numbers are written below and never drawn, so that one
        run says all there is to say about them. Prediction: b has more than a."""
        return {"a": {"accuracy": 0.25}, "b": {"accuracy": 0.75}}

    evidence.run()
    assert evidence.check() == []
    assert evidence.quote("C18") == "0.50"
    assert evidence.entry("C18").measured_on.endswith("; exact")
    assert evidence.entry("C18").verdict == "held"


@pytest.mark.parametrize(
    ("outcome", "said"),
    [
        ({"a": {"accuracy": 1, "seconds": 1}}, "announced the arms a, b and gave a"),
        ({"a": {"accuracy": 1}, "b": {"accuracy": 1}}, "announced the measures"),
        (
            {arm: {"accuracy": float("nan"), "seconds": 1} for arm in "ab"},
            "accuracy of 'a' is nan",
        ),
    ],
)
def test_an_outcome_that_was_not_announced_is_refused(toy, monkeypatch, outcome, said):
    monkeypatch.setattr("course_lib.evidence.runner._timed", lambda *_: (outcome, 0.0))
    with pytest.raises(EvidenceError, match=said):
        evidence.run()
    assert not table.path_of("C18").exists()


def test_numbers_below_one_are_refused(toy):
    with pytest.raises(EvidenceError, match="seeds must be 1 or more; got 0"):
        evidence.run(seeds=0)
    with pytest.raises(EvidenceError, match="jobs must be 1 or more; got -1"):
        evidence.run(jobs=-1)
    assert toy.calls == []


def test_a_damaged_file_says_what_to_do(toy):
    evidence.run()
    table.path_of("C18").write_text("# experiment: C18\nseed,arm\nx,y\n")
    with pytest.raises(EvidenceError, match="Delete it and run: course evidence run C18"):
        table.read("C18")


def test_what_a_spreadsheet_makes_of_a_file(toy):
    evidence.run()
    path = table.path_of("C18")
    whole = path.read_bytes()
    path.write_bytes(b"\xef\xbb\xbf" + whole)
    assert table.read("C18").seeds == [0, 1, 2, 3, 4, 5]
    path.write_bytes(whole.replace(b"\n0,", b"\n0,a,b,c,d,"))
    with pytest.raises(EvidenceError, match="can't be read"):
        table.read("C18")


def test_the_conditions_are_put_back(toy, monkeypatch):
    import torch

    monkeypatch.setenv(profile.ENVIRONMENT_VARIABLE, "full")
    torch.set_num_threads(2)
    evidence.run_seed("C18", 0)
    assert torch.get_num_threads() == 2
    assert profile.current().name == "full"
    assert not torch.are_deterministic_algorithms_enabled()


def test_commands(toy, capsys):
    assert cli.main(["evidence", "check"]) == 1
    assert "C18 was never run. Run: course evidence run C18" in capsys.readouterr().out
    assert cli.main(["evidence", "run", "C18", "--jobs", "1"]) == 0
    shown = capsys.readouterr().out
    assert "C18: held\n" in shown
    assert "; 6 draws\n" in shown
    assert cli.main(["evidence", "show"]) == 0
    assert "C1: not run yet" in capsys.readouterr().out
    assert cli.main(["evidence", "check", "--recompute"]) == 0
    assert "Results and code agree." in capsys.readouterr().out


def test_the_command_line_hands_its_options_on(toy, capsys):
    assert cli.main(["evidence", "run", "C18", "--jobs", "1"]) == 0
    assert len(toy.calls) == 6
    assert cli.main(["evidence", "run", "C18", "--jobs", "1"]) == 0
    assert len(toy.calls) == 6
    assert cli.main(["evidence", "run", "C18", "--again", "--jobs", "1"]) == 0
    assert len(toy.calls) == 12
    assert cli.main(["evidence", "check", "C18", "--recompute"]) == 0
    assert len(toy.calls) == 13
    assert cli.main(["evidence", "run", "C18", "--jobs", "0"]) == 1
    assert "jobs must be 1 or more; got 0" in capsys.readouterr().err


def test_two_runners_share_the_seeds_and_lose_none(toy, monkeypatch):
    """A second one starts while the first is at seed 2, and does the rest."""
    monkeypatch.setattr("course_lib.evidence.runner.fingerprint", lambda _: "0" * 16)
    original, said, context = toy.run, [], multiprocessing.get_context("fork")
    heard = context.Queue()

    def second():
        object.__setattr__(toy, "run", original)
        evidence.run(report=heard.put)

    def first(seed):
        if seed == 2:
            other = context.Process(target=second)
            other.start()
            other.join(60)
            assert other.exitcode == 0
        return original(seed)

    object.__setattr__(toy, "run", first)
    results = evidence.run(report=said.append)["C18"]
    object.__setattr__(toy, "run", original)
    assert results.seeds == table.read("C18").seeds == [0, 1, 2, 3, 4, 5]
    assert toy.calls == [0, 1, 2]
    lines = [heard.get(timeout=10) for _ in range(4)]
    assert "C18 seed 2: another runner has it" in lines[0]
    assert ["another runner has it" in line for line in said] == [False] * 3 + [True] * 3
    assert [path.name for path in table.folder().iterdir()] == ["C18.csv"]
