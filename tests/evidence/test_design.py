"""A design that a statistician wouldn't sign is refused; a change of it is noticed."""

import importlib.util
import inspect
import linecache
import os
import subprocess
import sys

import pytest

from course_lib import evidence
from course_lib.errors import UnknownNameError
from course_lib.evidence import Contrast, EvidenceError, Measure, fingerprint

SOUND = {
    "seeds": 5,
    "arms": ("a", "b"),
    "measures": (Measure("accuracy"),),
    "contrasts": (Contrast("gain", "b", "a", "accuracy", "more"),),
}


def documented(seed):
    """Data, arms, budget and prediction: all are said here at some length, as they must be, since
    nobody signs what is not said, and twenty words are soon written."""
    return {}


def stated(seed):
    """Data, arms, budget and prediction: all are said here at some length, as they must be, since
    nobody signs what is not said, and twenty words are soon written."""
    return {arm: {"accuracy": 0.5} for arm in "ab"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"seeds": 4}, "4 seeds; expected at least 5"),
        ({"arms": ("a", "a", "b")}, "an arm or a measure twice"),
        ({"contrasts": ()}, "no contrast"),
        ({"contrasts": (Contrast("gain", "c", "a", "accuracy", "more"),)}, "'c', which is no arm"),
        ({"contrasts": (Contrast("gain", "b", "a", "loss", "more"),)}, "'loss', which is no"),
        ({"contrasts": (Contrast("two words", "b", "a", "accuracy", "more"),)}, "one word"),
        ({"contrasts": (Contrast("gain", "b", "a", "accuracy", "same", -1),)}, "margin -1"),
        ({"contrasts": (Contrast("gain", "b", "a", "accuracy", "more", matters=-1),)}, "-1 as the"),
        ({"exact": True}, "5 seeds; expected 1, as nothing is drawn"),
    ],
)
def test_unsound_designs_are_refused(registry, change, said):
    with pytest.raises(EvidenceError, match=said):
        evidence.experiment("C1", **{**SOUND, **change})(documented)
    assert not registry


def test_a_design_must_be_stated(registry):
    with pytest.raises(EvidenceError, match="no design in its docstring"):
        evidence.experiment("C1", **SOUND)(lambda seed: {})
    with pytest.raises(UnknownNameError, match="no claim 'C99'"):
        evidence.experiment("C99", **SOUND)(documented)


def test_the_same_trainings_may_decide_several_claims(registry):
    """They share one file, and a contrast of either is part of its design."""

    def made(margin):
        registry.clear()
        evidence.experiment("both", **{**SOUND, "contrasts": {
            "C1": SOUND["contrasts"],
            "C18": (Contrast("gain", "b", "a", "accuracy", "more", margin),),
        }})(stated)  # fmt: skip
        return registry["C1"], registry["C18"]

    first, second = made(0)
    assert first.results == second.results == "both"
    before = fingerprint.fingerprint(first)
    assert fingerprint.fingerprint(second) == before
    assert fingerprint.fingerprint(made(0.1)[0]) != before


def test_unknown_experiments_are_named(toy):
    with pytest.raises(UnknownNameError, match="there are C18"):
        evidence.get("C1")
    assert evidence.get("C18") is toy


def test_the_claims_are_c1_to_c18_and_ours():
    ids = [each.id for each in evidence.CLAIMS]
    assert ids[:18] == [f"C{i}" for i in range(1, 19)]
    assert len(set(ids)) == len(ids)
    assert all(each.text and each.source and each.chapters for each in evidence.CLAIMS)
    with pytest.raises(UnknownNameError, match="Did you mean 'hotdog_margin'"):
        evidence.claim("hotdog_margins")


def test_the_claims_point_at_chapters_that_exist():
    from course_lib.chapters import CHAPTERS

    known = {each.name for each in CHAPTERS}
    assert {name for each in evidence.CLAIMS for name in each.chapters} <= known


MODULE = '''
"""A module of experiments."""
from functools import cache
from course_lib.evidence import Contrast, Measure, experiment

FACTOR = 3
TABLE = {"x": (1, 2), "set": frozenset({"u", "v", "w"})}


class Helper:
    """Words."""

    def value(self):
        """Words."""
        return deep() * FACTOR


@cache
def deep():
    """Words."""
    return len(TABLE)


@experiment(
    "C18",
    seeds=5,
    arms=("a", "b"),
    measures=(Measure("accuracy"),),
    contrasts=(Contrast("gain", "b", "a", "accuracy", "more"),),
)
def made(seed):
    """Data, arms, budget and prediction: all are said here at some length, as they must be, since
    nobody signs what is not said, and twenty words are soon written."""
    return [Helper().value() for _ in range(2)]  # a remark
'''


def fingerprint_of(source, tmp_path):
    """The fingerprint of the experiment in a module of that source."""
    path = tmp_path / "study.py"
    path.write_text(source)
    linecache.clearcache()
    spec = importlib.util.spec_from_file_location("course_lib.evidence.studies.made_up", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
        return fingerprint.fingerprint(module.made)
    finally:
        del sys.modules[spec.name]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("FACTOR = 3", "FACTOR = 4"),
        ("(1, 2)", "(1, 3)"),
        ('"w"', '"z"'),
        ("len(TABLE)", "len(TABLE) + 1"),
        ("range(2)", "range(3)"),
        ("soon written", "slowly written"),
        ('"more")', '"less")'),
        ("* FACTOR", "/ FACTOR"),
        ('"more")', '"more", matters=0.1)'),
    ],
)
def test_every_change_of_the_design_changes_the_hash(registry, tmp_path, old, new):
    assert old in MODULE
    before = fingerprint_of(MODULE, tmp_path)
    assert fingerprint_of(MODULE.replace(old, new), tmp_path) != before


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("  # a remark", "  # another"),
        ('"""Words."""', '"""Other words."""'),
        ("deep() * FACTOR", "deep()  *  FACTOR"),
        ('arms=("a", "b"),', 'arms=(\n        "a",\n        "b",\n    ),'),
        ("FACTOR = 3", "FACTOR = 3\nUNUSED = 4"),
        ("seeds=5", "seeds=50"),
        ('@experiment(\n    "C18"', '@experiment("C18"'),
    ],
)
def test_layout_and_remarks_do_not(registry, tmp_path, old, new):
    before = fingerprint_of(MODULE, tmp_path)
    assert fingerprint_of(MODULE.replace(old, new), tmp_path) == before


def test_the_hash_is_the_same_in_another_process():
    """String hashing differs from process to process; the fingerprint must not."""
    code = inspect.cleandoc(
        """
        from course_lib import evidence
        from course_lib.evidence.fingerprint import fingerprint
        for each in evidence.experiments().values():
            print(each.id, fingerprint(each))
        """
    )
    environment = {**os.environ, "PYTHONHASHSEED": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    here = [f"{id} {fingerprint.fingerprint(each)}" for id, each in evidence.experiments().items()]
    assert done.stdout.splitlines() == here


def test_a_data_file_is_part_of_the_design(registry, tmp_path):
    made = evidence.experiment("C18", files=("manifest.json",), **SOUND)(documented)
    with pytest.raises(EvidenceError, match=r"manifest\.json, which isn't there"):
        fingerprint.fingerprint(made)
    (tmp_path / "manifest.json").write_text("one")
    before = fingerprint.fingerprint(made)
    (tmp_path / "manifest.json").write_text("two")
    assert fingerprint.fingerprint(made) != before


def test_what_matters_is_larger_on_pictures_than_on_digits():
    """0.02 of 450 digits is nine of them; 0.03 of 120 drawn pictures, three or four."""
    found = {
        id: {each.matters for each in of.contrasts if not each.ratio}
        for id, of in evidence.experiments().items()
    }
    assert found["C1"] == found["C3"] == {0.02}
    assert found["C12"] == found["C12_photographs"] == found["C2_photographs"] == {0.03}
    assert found["C6"] == {0.02, 0.1}  # the drift is no accuracy
