"""The real experiments: sound designs, results in step with the code, numbers that repeat."""

import re

import pytest

from course_lib import evidence
from course_lib.evidence import runner, table
from course_lib.evidence.prose import prose_of
from course_lib.paths import repo_root
from course_lib.publishing import notebooks

EXACT = ("C7", "C14", "C15")


def test_every_claim_has_an_experiment_of_its_own():
    assert list(evidence.experiments()) == [each.id for each in evidence.CLAIMS]


def test_results_and_code_agree():
    """Of every experiment whose results are stored; an unfinished ledger says so in `show`."""
    stored = [each.id for each in evidence.CLAIMS if table.path_of(each.id).exists()]
    assert stored
    assert evidence.check(stored) == []


def test_no_results_without_a_claim():
    assert {path.stem for path in table.folder().glob("*.csv")} <= set(evidence.experiments())


def test_numbers_in_the_chapters_and_the_readme_are_those_of_the_results():
    pages = [notebooks.notebook_path(name) for name in notebooks.sources()]
    cited = 0
    for page in [*pages, repo_root() / "README.md"]:
        assert evidence.check_document(page) == []
        cited += len(evidence.citations(prose_of(page)))
    assert cited


def test_every_design_names_data_arms_measure_and_prediction():
    for each in evidence.experiments().values():
        for word in ("Data:", "Arms", "Prediction of the claims?:"):
            assert re.search(word, " ".join(each.design.split())), (each.id, word)


def test_the_whole_ledger_takes_an_hour_and_a_half_on_two_cores_or_little_more():
    assert sum(each.minutes for each in evidence.experiments().values()) / 2 <= 100


def test_counterexamples_on_every_seed():
    recipe = evidence.get("C7").run(3)
    assert {arm: each["loaded"] for arm, each in recipe.items()} == {
        "same network": 1, "a key more": 0, "equal numel": 0, "another size": 1
    }  # fmt: skip
    assert evidence.get("C15").run(3) == {"as it is": {"loaded": 1}, "plain dict": {"loaded": 1}}
    looking = evidence.get("C14").run(3)
    assert looking["by looking"]["right"] == 1
    assert looking["by the ending"]["right"] == pytest.approx(1 / 3)


@pytest.mark.parametrize("id", EXACT)
def test_a_seed_run_again_gives_the_same_numbers(id):
    assert evidence.differences(id, 1) == []


def test_processes_change_nothing(tmp_path, monkeypatch):
    """The same results from two processes as from one."""
    kept = {id: table.read(id).outcomes for id in EXACT}
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    results = evidence.run(EXACT, 2, jobs=2)
    for id in EXACT:
        assert results[id].outcomes == {seed: kept[id][seed] for seed in (0, 1)}
        assert table.read(id).outcomes == results[id].outcomes


@pytest.mark.slow
@pytest.mark.parametrize("id", ["C18", "C12"])
def test_trained_results_repeat(id):
    """Bit for bit only on the kind of processor and the torch that made the file."""
    results = table.read(id)
    assert results is not None
    if results.made_with != runner.made_with():
        pytest.skip(f"made with {results.made_with}")
    assert evidence.differences(id, 0) == []
