"""Verdicts, numbers and the prose that cites them."""

import json
import re

import pytest

from course_lib import evidence
from course_lib.errors import UnknownNameError
from course_lib.evidence import EvidenceError, situations, table
from course_lib.evidence.design import Contrast
from course_lib.evidence.ledger import Effect, Entry
from course_lib.evidence.prose import bare_numbers
from course_lib.evidence.statistics import Interval, judge


@pytest.mark.parametrize(("value", "pictures", "tells"), [
    (-0.0200, 320, "undecided; 1.9 times as many draws and pictures would decide it"),
    (-0.0200, 0, "undecided; about 39 draws would decide it"),
    (-0.0299, 320, "undecided; it lies on the border, so no number of draws would decide it"),
    (0.0, 320, "held"),
])  # fmt: skip
def test_what_is_open_says_what_would_decide_it(value, pictures, tells):
    """Half an interval of 0.014, and 0.010 to the margin: 1.44 squared times as many, and
    Student's quantile falls from 2.093 to 2.023: 39 in the place of 20."""
    contrast = Contrast("one", "a", "b", "accuracy", "not less", margin=0.03)
    interval = Interval(value, value - 0.0144, value + 0.0144, 20, 0.95, pictures)
    effect = Effect(contrast, interval, judge(contrast, interval), 3)
    assert effect.says == tells


@pytest.fixture
def done(toy):
    evidence.run()
    return toy


def test_the_ledger_shows_a_verdict_with_its_interval(done):
    assert evidence.entry("C18").verdict == "held"
    (effect,) = evidence.entry("C18").effects
    differences = [
        row["b"]["accuracy"] - row["a"]["accuracy"] for row in table.read("C18").outcomes.values()
    ]
    assert effect.interval.value == pytest.approx(sum(differences) / 6)
    text = str(evidence.show(["C18"]))
    assert text.splitlines()[:3] == [
        "C18: held", f"  {evidence.claim('C18').text}", f"  on {evidence.claim('C18').on}; 6 draws",
    ]  # fmt: skip
    assert f"accuracy, b − a: {effect.text}: held" in text
    page = evidence.show()._repr_markdown_()
    assert page.count("\n") == len({each.name for each in evidence.show().entries}) + 1
    assert "not run yet" in page
    row = next(line for line in page.splitlines() if line.startswith("| C18 "))
    assert f"{evidence.claim('C18').on}; 6 draws" in row


def test_photographs_stand_beside_the_laboratory():
    """Each claim has one line, its photographs in the first column of results."""
    table_ = evidence.show(["C9", "C9_photographs"])
    (pair,) = table_.pairs()
    assert [each.on_photographs for each in pair] == [False, True]
    cells = table_._repr_markdown_().splitlines()[-1].split(" | ")
    assert "photographs of food" in cells[2]
    assert "drawn pictures" in cells[3]


def test_every_situation_says_what_its_comparison_says():
    """What to do is the arm that was better, or either where the interval has zero in it."""
    for each in situations.SITUATIONS:
        found = {one.contrast.name: one for one in evidence.entry(each.claim).effects}
        interval = found[each.contrast].interval
        better = each.first if interval.low > 0 else each.second
        do = better if interval.low > 0 or interval.high < 0 else situations.OPEN
        assert f"| **{do}** |" in each.row
        assert found[each.contrast].text in each.row
        assert evidence.entry(each.claim).measured_on in each.row


def test_a_verdict_rests_on_what_held_else_on_what_did_not_else_on_all():
    def effect(verdict):
        return Effect(Contrast("gain", "b", "a", "accuracy", "more"), None, verdict, 2)

    def rests_on(*verdicts):
        line = Entry(evidence.claim("C18"), tuple(map(effect, verdicts)), 6)
        return [each.verdict for each in line.decisive]

    assert rests_on("held", "undecided", "did not hold", "held") == ["held", "held"]
    assert rests_on("undecided", "did not hold") == ["did not hold"]
    assert rests_on("undecided", "undecided") == ["undecided", "undecided"]
    assert rests_on() == []


def test_every_claim_says_what_it_is_measured_on():
    for each in evidence.CLAIMS:
        assert re.search("digit|drawn|photograph|state dict|files", each.on), each.id


def test_numbers_and_quotes(done):
    assert evidence.quote("C18") == evidence.quote("C18", "gain")
    assert evidence.quote("C18").startswith("0.2")
    assert evidence.quote("C18", "verdict") == "held"
    assert evidence.quote("C18", "seeds") == "6"
    assert evidence.quote("C18", "a.accuracy") == "0.50"
    ends = [float(evidence.quote("C18", f"gain.{each}")) for each in ("low", "value", "high")]
    assert ends == sorted(ends)
    assert evidence.quote("C18") == "{1:.2f} [{0:.2f}, {2:.2f}]".format(*ends)
    assert evidence.quote("C18", "effect.verdict") == "held"
    with pytest.raises(UnknownNameError, match="Did you mean 'gain'"):
        evidence.quote("C18", "gains")
    with pytest.raises(EvidenceError, match="C1 has no results to cite"):
        evidence.quote("C1")


def test_prose_is_compared_to_the_character(done):
    right = f"It gained <!-- evidence: C18.effect -->{evidence.quote('C18')}<!-- end -->."
    assert evidence.check_prose(right) == []
    assert len(evidence.citations(right)) == 1
    wrong = right.replace("0.2", "0.3", 1)
    assert "the text says '0.3" in evidence.check_prose(wrong)[0]
    assert evidence.fill(wrong) == right
    assert evidence.fill("<!-- evidence: C18.verdict --><!-- end -->").count("held") == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("<!-- evidence: C18.effect -->0.31", "opened and not closed"),
        (
            "<!-- evidence: C18.effect -->1 <!-- evidence: C18.seeds -->6<!-- end -->",
            "opened and not closed",
        ),
        ("<!-- evidence: C1.effect -->0.31<!-- end -->", "no results to cite"),
        ("<!-- evidence: C99.effect -->0.31<!-- end -->", "no claim 'C99'"),
        ("<!-- evidence: C18.gian -->0.31<!-- end -->", "Did you mean 'gain"),
    ],
)
def test_citations_that_can_not_be_right(done, text, said):
    assert said in evidence.check_prose(text)[0]


def test_documents(done, tmp_path):
    cite = "<!-- evidence: C18.seeds -->7<!-- end -->"
    page = tmp_path / "page.md"
    page.write_text(f"Over {cite} seeds.")
    assert evidence.check_document(page) == [
        "page.md: C18.seeds: the text says '7', the results say '6'."
    ]
    book = tmp_path / "book.ipynb"
    cells = [
        {"cell_type": "markdown", "source": ["Over ", cite]},
        {"cell_type": "code", "source": [f"# {cite}"]},
    ]
    book.write_text(json.dumps({"cells": cells}))
    assert len(evidence.check_document(book)) == 1


def test_numbers_from_nowhere_are_seen(tmp_path):
    """In prose a measured number is cited, given by others, or printed by the page itself."""
    cells = [
        {"cell_type": "markdown", "source": [
            "It was <!-- given -->0.922<!-- end --> there, <!-- evidence: C1.x -->0.31 [0.20, "
            "0.42]<!-- end --> in the ledger, 0.75 above, 0.5 by guessing, and 0.867 of late."]},
        {"cell_type": "code", "source": ["print(score)"], "outputs": [{"text": ["0.75"]}]},
    ]  # fmt: skip
    book = tmp_path / "book.ipynb"
    book.write_text(json.dumps({"cells": cells}))
    assert bare_numbers(book) == ["0.867"]


def test_a_stranger_in_the_folder_is_named(done):
    table.path_of("C77").write_text("")
    assert evidence.check() == ["data/evidence/C77.csv belongs to no experiment."]
