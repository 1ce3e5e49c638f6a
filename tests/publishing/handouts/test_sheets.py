"""Cheat sheets and the plan: all there, one page each, and what they name exists."""

import importlib
import itertools
import re

import pypdfium2
import pytest

from course_lib import evidence
from course_lib.chapters import CHAPTERS
from course_lib.errors import UnknownNameError
from course_lib.publishing.handouts import paper, plan, sheets
from course_lib.publishing.handouts.document import (
    Document,
    Heading,
    Paragraph,
    Table,
    line,
    walk,
    words,
)
from tests.publishing.handouts.conftest import Pages

ROOMS = "backbones|data|features|freezing|training|weights"


def test_one_for_each_chapter_and_one_for_the_course():
    chapters = {each.name for each in CHAPTERS if not each.name.startswith("11")}
    assert {"course"} | chapters == set(sheets.names())
    assert sheets.names()[0] == "course"


@pytest.mark.parametrize("name", sheets.names())
def test_a_sheet_is_one_a4_page_with_its_text_inside(name):
    pages = Pages(paper.pdf(sheets.make(name)))
    assert len(pages) == 1
    for _, left, _, right, _ in pages.boxes():
        assert left >= 35  # the margin is 1.3 cm; a comma may hang out at the right
        assert right <= 595.28 - 30


@pytest.mark.parametrize("words_in_all", [150, 400, 900, 1600])
def test_both_columns_of_a_sheet_are_filled(words_in_all):
    """To about one height; where that is less than the page, lines for notes fill the rest."""
    blocks = [
        Paragraph(line("seven words and a full stop here. " * 4))
        for _ in range(0, words_in_all, 28)
    ]
    (page,) = pypdfium2.PdfDocument(
        paper.pdf(Document("T", "cheat sheet", "", tuple(blocks), one_page=True))
    )
    text = page.get_textpage()
    rects = [text.get_rect(number) for number in range(text.count_rects())]
    body = [(left, low) for left, low, _, top in rects if low > 45 and top < 790]
    ends = [min(low for left, low in body if (left < 297) == first) for first in (True, False)]
    assert abs(ends[0] - ends[1]) < 60  # points
    ruled = [
        each.get_bounds()[1] for each in page.get_objects(filter=[pypdfium2.raw.FPDF_PAGEOBJ_PATH])
    ]
    lowest = min(*ends, *(low for low in ruled))
    assert lowest < 0.15 * page.get_height()


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
    made = sheets.verdicts(["C14", "C18"]).splitlines()
    for id, row in zip(["C14", "C18"], made, strict=True):
        entry = evidence.entry(id)
        assert row.startswith(f"- **{id}** {entry.claim.text} *")
        assert entry.decisive[0].text in row
        on = entry.measured_on
        assert f"*{on[0].upper()}{on[1:]}:* **{entry.verdict}** (" in row
    photographs = evidence.entry("C18_photographs")
    assert made[1].index(photographs.measured_on[3:]) < made[1].index(on[3:])  # they come first


def timetables():
    """Title of each timetable to its days; a day is its rows as (begins, minutes, what)."""
    found, title = {}, ""
    for block in walk(plan.make().blocks):
        if isinstance(block, Heading) and block.level == 2:
            title = words(block)
        if isinstance(block, Table) and words(block.header) == "atminwhatskip":
            found.setdefault(title, []).append([tuple(map(words, row)) for row in block.rows])
    return found


@pytest.mark.parametrize(
    ("title", "days", "hours", "ends"),
    [
        ("Half a day", 1, 3.5, "12:30"),
        ("One day", 1, 8, "17:00"),
        ("Two days", 2, 8, "17:00"),
        ("A third day", 1, 8, "17:00"),
    ],
)
def test_timetables_fit_their_days(title, days, hours, ends):
    assert len(timetables()[title]) == days
    for *slots, end in timetables()[title]:
        assert len(end[0]) == 5
        assert end[0] <= ends
        assert sum(int(minutes) for _, minutes, *_ in slots) <= hours * 60
        stretch = 0
        for at, minutes, what, _ in slots:
            stretch = 0 if what in ("Break", "Lunch") else stretch + int(minutes)
            assert stretch <= 135, f"{title}, {at}: no break for {stretch} minutes"


def test_each_time_is_the_one_before_and_its_minutes():
    def minutes(clock):
        hours, rest = clock.split(":")
        return 60 * int(hours) + int(rest)

    for day in (each for days in timetables().values() for each in days):
        assert day[0][0] == "9:00"
        for (at, took, *_), (following, *_) in itertools.pairwise(day):
            assert minutes(following) == minutes(at) + int(took)


def test_the_plan_says_when_what_and_what_to_skip():
    days = [each for days in timetables().values() for each in days]
    assert len(days) == 5
    assert all(any(skip for *_, skip in day) for day in days)
    paper.pdf(plan.make())
