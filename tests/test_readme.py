"""The README tells of what is there; tests/test_contributing.py follows its paths and commands."""

import re

from course_lib.chapters import CHAPTERS
from course_lib.paths import repo_root

TEXT = (repo_root() / "README.md").read_text(encoding="utf-8")


def test_every_written_chapter_stands_in_the_table_with_its_question():
    rows = dict(re.findall(r"^\| \[[^\]]+\]\(notebooks/(\w+)\.ipynb\) \| (.+) \|$", TEXT, re.M))
    assert rows == {each.name: each.question for each in CHAPTERS if each.written}


def test_the_two_commands_stand_on_the_first_screen():
    screen = "\n".join(TEXT.splitlines()[:30])
    assert "make lab " in screen
    assert "make test " in screen


def test_one_page():
    assert len(TEXT.splitlines()) <= 110
