"""The suite of behaviours: run for ours and for timm, stored, shown; and that it can fail."""

import importlib.util
import re

import pytest
import torch

from course_lib.benchmarks import peers
from course_lib.benchmarks.peers import adapters, behaviours, results
from course_lib.benchmarks.peers.bench_model import batches, new_bench_model
from course_lib.errors import DataError

FAIL, NOT_OFFERED, PASS = behaviours.FAIL, behaviours.NOT_OFFERED, behaviours.PASS

# Everything else passes. A change here is news: say it in the chapter.
OTHERWISE = {
    "this course": {"batchnorm_on_purpose": NOT_OFFERED, "head_then_all": NOT_OFFERED},
    "timm": {
        "dropout_off": FAIL,
        "freeze_after_backward": FAIL,
        "same_objects": FAIL,
        "flags_come_back": FAIL,
        "optimizer_gets_all": NOT_OFFERED,
        "optimizer_gets_equal_values": NOT_OFFERED,
        "optimizer_gets_none_twice": NOT_OFFERED,
        "momentum_is_gone": NOT_OFFERED,
        "one_tensor": NOT_OFFERED,
        "empty_list": FAIL,
        "head_then_all": NOT_OFFERED,
    },
}


@pytest.fixture(scope="module")
def fresh():
    return peers.run()


@pytest.mark.parametrize("library", OTHERWISE)
def test_ours_and_timm_do_what_is_expected_of_each_behaviour(fresh, library):
    found = {row.behaviour: row.verdict for row in fresh.rows if row.library == library}
    assert found == {each.name: PASS for each in peers.BEHAVIOURS} | OTHERWISE[library]


def test_the_stored_rows_are_those_of_a_fresh_run(fresh):
    stored = peers.table()
    assert stored.behaviours == fresh.behaviours
    assert stored.libraries == fresh.libraries == [each.title for each in peers.LIBRARIES]
    for row in fresh.rows:
        if row.library in OTHERWISE:
            assert stored.row(row.behaviour, row.library) == row


def test_the_stored_table_was_measured_with_every_library(fresh):
    stored = peers.table()
    assert len(stored.behaviours) >= 10
    assert all(re.fullmatch(r"\d+\.\d+\.\d+\S*", version) for version in stored.versions.values())
    assert results.NOT_INSTALLED not in {row.verdict for row in stored.rows}
    assert all(row.why.endswith(".") for row in stored.rows)


@pytest.mark.skipif(importlib.util.find_spec("lightning") is not None, reason="it is installed")
def test_a_library_that_is_missing_is_said_to_be(fresh):
    rows = [row for row in fresh.rows if row.library == "Lightning"]
    assert {row.verdict for row in rows} == {results.NOT_INSTALLED}
    assert "bench" in rows[0].why
    assert fresh.versions["Lightning"] == ""


class DoesNothing(adapters.Adapter):
    """Says it froze, and didn't."""

    title, package = "nothing", "torch"

    def freeze(self):
        pass

    def unfreeze(self):
        for parameter in self.model.parameters():
            parameter.requires_grad_(True)
            if self.optimizer:
                self.optimizer.param_groups[0]["params"].append(parameter)

    def freeze_tensor(self, name):
        pass

    def freeze_but_batchnorm(self):
        pass

    def head_then_all(self):
        self.start()
        self.train()


class FreezesAll(DoesNothing):
    """Replaces what it freezes, and freezes too much."""

    def freeze(self):
        for parameter in self.model.backbone.parameters():
            parameter.requires_grad_(False)
        self.model.backbone.stem.bn = torch.nn.Identity()


def test_every_behaviour_can_fail():
    """A suite that passes whatever it is given would say nothing."""
    failed = {each.name for each in peers.BEHAVIOURS if each(DoesNothing).verdict == FAIL}
    failed |= {
        each.name
        for each in peers.BEHAVIOURS
        if each.name in ("same_objects", "empty_list", "checkpoint_loads")
        and each(FreezesAll).verdict == FAIL
    }
    # Nothing to add to the optimizer is no fault of a library that froze nothing.
    free = {"optimizer_gets_all", "optimizer_gets_equal_values"}
    assert {each.name for each in peers.BEHAVIOURS} - failed == free


def test_a_parameter_that_never_reaches_the_optimizer_is_found():
    class Forgets(adapters.Ours):
        def unfreeze(self):
            self.model.requires_grad_(True)

    for look in (behaviours.optimizer_gets_all, behaviours.optimizer_gets_equal_values):
        outcome = look(Forgets)
        assert outcome.verdict == FAIL
        assert "backbone.stem.conv.weight" in outcome.why


def test_a_library_that_stops_the_head_is_no_result():
    class StopsAll(adapters.Ours):
        def freeze(self):
            self.model.head.requires_grad_(False)

    with pytest.raises(AssertionError, match="says nothing"):
        behaviours.weights_stay(StopsAll)


def test_the_model_and_the_pictures_are_the_same_every_time():
    first, second = new_bench_model().state_dict(), new_bench_model().state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert all(torch.equal(a[0], b[0]) for a, b in zip(batches(), batches(), strict=True))


def test_text_and_html_say_every_verdict_in_words():
    stored = peers.table()
    text, html = str(stored), stored._repr_html_()
    for behaviour in stored.behaviours:
        line = next(
            each for each in text.splitlines() if each.startswith(results.TITLES[behaviour])
        )
        found = [stored.row(behaviour, each).verdict for each in stored.libraries]
        assert re.findall(
            r"not offered|pass|fail", line.removeprefix(results.TITLES[behaviour])
        ) == (found)
    for verdict in (PASS, FAIL, NOT_OFFERED):
        count = sum(row.verdict == verdict for row in stored.rows)
        shown = re.sub(r"<th.*?</th>", "", re.sub(r"</?b>", "", html))
        assert len(re.findall(rf"[✓✗·] {verdict}</td>", shown)) == count
    assert html.count('scope="row"') + html.count("scope='row'") == len(stored.behaviours) + 1
    assert "<script" not in html
    assert "style='color" not in html


def test_sentences_name_what_did_not_pass():
    said = peers.table().sentences("timm")
    assert said.startswith("timm:")
    assert "Unfreezing gives back the same objects: fail. 6 are new objects" in said
    assert "Lightning" not in said


def test_storing_keeps_what_was_measured_elsewhere(tmp_path, monkeypatch):
    path = tmp_path / "peers.csv"
    monkeypatch.setattr(results, "stored_at", lambda: path)
    with pytest.raises(DataError, match="course bench peers"):
        peers.table()
    row = results.Row("weights_stay", "Lightning", FAIL, "It moved, or so.")
    results.write(path, results.Table((row,), {"Lightning": "9.9"}))
    missing = results.Row("weights_stay", "Lightning", results.NOT_INSTALLED, "install it")
    results.Table((missing,), {"Lightning": ""}).store()
    assert peers.table() == results.Table((row,), {"Lightning": "9.9"})
    again = results.Row("weights_stay", "Lightning", PASS, "It holds.")
    results.Table((again,), {"Lightning": "10.0"}).store()
    assert peers.table() == results.Table((again,), {"Lightning": "10.0"})


@pytest.mark.parametrize("text", ["", "# version: timm\n", "behaviour,library\nx,y\n", "\xff"])
def test_a_damaged_file_is_said_to_be_damaged(text, tmp_path, monkeypatch):
    path = tmp_path / "peers.csv"
    path.write_text(text, encoding="latin-1")
    monkeypatch.setattr(results, "stored_at", lambda: path)
    with pytest.raises(DataError, match="course bench peers"):
        print(peers.table())
