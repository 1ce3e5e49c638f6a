"""The pack for the room: four pages, the troubles that can happen, a poster that leads there."""

import re
from pathlib import Path

import pytest

from course_lib import cli
from course_lib.publishing.addresses import Address
from course_lib.publishing.handouts import paper, room
from course_lib.publishing.handouts.document import Choices, Picture, Room, Table, walk, words
from course_lib.publishing.handouts.frame import qr_code
from course_lib.setup.bundle import installer, scripts
from course_lib.setup.bundle.systems import PYTHONS

WHERE = Address("owner/course", "v1.0")


@pytest.mark.parametrize("name", room.documents())
def test_each_is_one_page(name):
    assert paper.pages(room.documents(WHERE)[name]) == 1
    assert paper.pages(room.documents()[name]) == 1


def test_fifteen_troubles_each_with_what_helps():
    (table,) = (b for b in room.documents()["troubles"].blocks if isinstance(b, Table))
    assert len(table.rows) == 15
    assert all(words(cell).strip() for row in table.rows for cell in row)


def test_what_the_installer_says_is_among_the_troubles():
    """Word for word, so that who reads the screen finds the row."""
    said = words(room.documents()["troubles"].blocks)
    code = " ".join(Path(installer.__file__).read_text(encoding="utf-8").split())
    for text in ("the packages need", "is missing or damaged", "the bundle is for"):
        assert text in code
        assert text in said
    assert "was not found" in scripts._SH
    assert "was not found" in said


def test_before_you_come_names_the_pythons_and_commands_that_are_there():
    said = words(room.documents()["before"].blocks)
    assert f"{', '.join(PYTHONS[:-1])} or {PYTHONS[-1]}" in said
    commands = re.findall(r"course (\w+)", said)
    known = cli._parser().format_help()
    assert commands
    assert all(each in known for each in commands if each != "folder")


def test_the_posters_code_is_that_of_the_address():
    (picture,) = (b for b in room.documents(WHERE)["poster"].blocks if isinstance(b, Picture))
    assert picture.data == qr_code("https://github.com/owner/course/tree/v1.0")
    assert picture.inches >= 4
    without = room.documents()["poster"].blocks
    assert not [b for b in without if isinstance(b, Picture)]


def test_feedback_can_be_ticked_and_written():
    kinds = [type(each) for each in walk(room.documents()["feedback"].blocks)]
    assert kinds.count(Choices) == 4
    assert kinds.count(Room) == 4
