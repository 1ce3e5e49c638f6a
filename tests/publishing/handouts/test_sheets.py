"""Cheat sheets and the plan: all there, one page each, and what they name exists."""

import importlib
import re

import pytest

from course_lib import evidence
from course_lib.chapters import CHAPTERS
from course_lib.errors import UnknownNameError
from course_lib.publishing.handouts import paper, plan, sheets
from course_lib.publishing.handouts.document import Table, walk, words
from tests.publishing.handouts.conftest import Pages

ROOMS = "backbones|data|features|freezing|training|weights"


def test_one_for_each_chapter_and_one_for_the_course():
    chapters = {each.name for each in CHAPTERS if not each.name.startswith("09")}
    assert {"course"} | chapters == set(sheets.names())
    assert sheets.names()[0] == "course"


@pytest.mark.parametrize("name", sheets.names())
def test_a_sheet_is_one_a4_page_with_its_text_inside(name):
    pages = Pages(paper.pdf(sheets.make(name)))
    assert len(pages) == 1
    for _, left, _, right, _ in pages.boxes():
        assert left >= 35  # the margin is 1.3 cm; a comma may hang out at the right
        assert right <= 595.28 - 30


@pytest.mark.parametrize("name", sheets.names())
def test_what_a_sheet_names_exists(name):
    text = (sheets.FOLDER / f"{name}.md").read_text(encoding="utf-8")
    for room, member in re.findall(rf"\b({ROOMS})\.([a-z_]+)", text):
        assert hasattr(importlib.import_module(f"course_lib.{room}"), member), f"{room}.{member}"


def test_numbers_come_from_the_ledger():
    """No interval is typed by hand: without its citations a sheet has none."""
    for name in sheets.names():
        text = (sheets.FOLDER / f"{name}.md").read_text(encoding="utf-8")
        assert not re.search(r"\[-?\d\.\d+, ", text)
        assert not re.search(r"<!-- evidence[^>]*-->[^<]", text)
    assert evidence.quote("C3", "few_similar") in words(sheets.make("01_pretrain_finetune").blocks)


def test_the_three_things_for_the_course():
    said = words(sheets.make("course").blocks)
    for what in ("Five ways of freezing", "Loading errors", "The four cases", "size mismatch"):
        assert what in said


def test_an_unknown_sheet_is_named():
    with pytest.raises(UnknownNameError, match="04_freezing"):
        sheets.make("04_freezin")


def test_verdicts_are_those_of_the_ledger():
    made = sheets.verdicts(["C14"])
    assert f"**{evidence.entry('C14').verdict}**" in made


def test_timetables_fit_their_days():
    for timetable, (hours, ends) in zip(
        plan.TIMETABLES, ((3.5, 12 * 60 + 30), (8, 17 * 60), (8, 17 * 60)), strict=True
    ):
        for day in timetable.days:
            assert day.ends <= ends
            assert day.ends - day.begins <= hours * 60
            stretch = 0
            for slot in day.slots:
                stretch = 0 if slot in (plan.BREAK, plan.LUNCH) else stretch + slot.minutes
                assert stretch <= 135, f"{timetable.title}: no break for {stretch} minutes"
    assert [len(each.days) for each in plan.TIMETABLES] == [1, 1, 2]


def test_the_plan_says_when_what_and_what_to_skip():
    document = plan.make()
    tables = [each for each in walk(document.blocks) if isinstance(each, Table)]
    timetables = [each for each in tables if words(each.header) == "atminwhatskip"]
    assert len(timetables) == 4
    for table in timetables:
        assert words(table.rows[0][0]) == "9:00"
        assert any(words(row[3]) for row in table.rows)
    paper.pdf(document)
