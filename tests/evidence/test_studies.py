"""The real experiments: sound designs, results in step with the code, numbers that repeat."""

import re

import pytest
import torch

from course_lib import evidence
from course_lib.evidence import pools, table
from course_lib.evidence.prose import bare_numbers, prose_of
from course_lib.paths import repo_root
from course_lib.publishing import notebooks

EXACT = ("C7", "C14", "C15")


def test_every_claim_has_an_experiment_of_its_own():
    assert list(evidence.experiments()) == [each.id for each in evidence.CLAIMS]


def test_results_and_code_agree():
    """Of every experiment whose results are stored; an unfinished ledger says so in `show`."""
    stored = [id for id, each in evidence.experiments().items()
              if table.path_of(each.results).exists()]  # fmt: skip
    assert stored
    assert evidence.check(stored) == []


def test_what_a_claim_says_of_its_test_part_is_what_was_tested():
    """Counted from the answers that the files keep, picture by picture."""
    counted = 0
    for id, each in evidence.experiments().items():
        results = table.read(each.results)
        kept = results.answers.values() if results else ()
        sizes = {len(found.places) for arms in kept for arm in arms.values()
                 for found in arm.values()}  # fmt: skip
        if sizes:
            said = re.search(r"([\d,]+) to test", evidence.claim(id).on)
            assert int(said[1].replace(",", "")) == max(sizes), id
            counted += 1
    assert counted > 10


def test_no_results_without_a_claim():
    known = {each.results for each in evidence.experiments().values()}
    assert {path.stem for path in table.folder().glob("*.csv")} <= known


def test_numbers_in_the_chapters_and_the_readme_are_those_of_the_results():
    pages = [notebooks.notebook_path(name) for name in notebooks.sources()]
    cited = 0
    for page in [*pages, repo_root() / "README.md"]:
        assert evidence.check_document(page) == []
        cited += len(evidence.citations(prose_of(page)))
    assert cited
    assert {page.stem: found for page in pages if (found := bare_numbers(page))} == {}


def test_every_design_names_data_arms_measure_and_prediction():
    for each in evidence.experiments().values():
        for word in ("Data:", "Arms", "Prediction of the claims?:"):
            assert re.search(word, " ".join(each.design.split())), (each.id, word)


def test_the_laboratory_takes_half_an_hour_for_the_claims_and_80_minutes_in_all_on_two_cores():
    alone = {evidence.get(each).results: evidence.get(each) for each in evidence.laboratory()}
    claims = [each.minutes for each in alone.values() if evidence.claim(each.id).numbered]
    assert 10 < sum(claims) / 2 < 30
    assert sum(each.minutes for each in alone.values()) / 2 < 80


def test_counterexamples():
    recipe = evidence.get("C7").run(0)
    assert {arm: each["loaded"] for arm, each in recipe.items()} == {
        "same network": 1, "a key more": 0, "equal numel": 0, "another size": 1
    }  # fmt: skip
    assert evidence.get("C15").run(0) == {"as it is": {"loaded": 1}, "plain dict": {"loaded": 1}}
    looking = evidence.get("C14").run(0)
    assert looking["by looking"]["right"] == 1
    assert looking["by the ending"]["right"] == pytest.approx(6 / 16)  # counted by hand


def test_a_draw_tests_on_nothing_that_was_learned_from():
    """Both classes equally often, no picture in two parts, smaller draws part of larger ones."""
    targets = pools.targets("drawn")
    for seed in range(5):
        few, many = (pools.draw("drawn", seed, n, 40, 120) for n in (8, 96))
        assert set(few.train) < set(many.train)
        assert (few.val, few.test) == (many.val, many.test)
        parts = many.train, many.val, many.test
        assert [len(each) for each in parts] == [96, 40, 120]
        assert len(set().union(*parts)) == 256
        assert all(targets[list(each)].sum() == len(each) // 2 for each in parts)
    assert pools.draw("drawn", 0, 8, 40, 120) != pools.draw("drawn", 1, 8, 40, 120)


def test_near_duplicates_are_never_in_two_parts(monkeypatch):
    targets = torch.arange(60) % 2
    together = tuple(place // 4 * 2 + place % 2 for place in range(60))  # pairs of one class
    monkeypatch.setattr(pools, "targets", lambda _: targets)
    monkeypatch.setattr(pools, "groups", lambda _: together)
    for seed in range(20):
        drawn = pools.draw("any", seed, 10, 6, 14)
        parts = [{together[at] for at in part} for part in (drawn.train, drawn.val, drawn.test)]
        assert len(set().union(*parts)) == sum(map(len, parts))


@pytest.mark.parametrize("id", EXACT)
def test_a_seed_run_again_gives_the_same_numbers(id):
    assert evidence.compare(id, 0).problems == ()


def test_processes_change_nothing(tmp_path, monkeypatch):
    """The same results from two processes as from one."""
    kept = {id: table.read(id).outcomes for id in EXACT}
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    results = evidence.run(EXACT, jobs=2)
    for id in EXACT:
        assert results[id].outcomes == kept[id]
        assert table.read(id).outcomes == results[id].outcomes


@pytest.mark.slow
@pytest.mark.parametrize("id", [each for each in evidence.laboratory() if each not in EXACT])
def test_trained_results_repeat(id):
    """Number by number on the processor and the torch that made the file, else by verdict."""
    assert evidence.compare(id, 0).problems == ()
