"""The README tells of what is there; tests/test_contributing.py follows its paths and commands."""

import re

from course_lib import evidence
from course_lib.chapters import CHAPTERS
from course_lib.publishing import addresses, notebooks, readme

TEXT = readme.FILE.read_text(encoding="utf-8")


def test_every_written_chapter_stands_in_the_table_with_its_question_and_minutes():
    rows = re.findall(r"^\| \[[^\]]+\]\(notebooks/(\w+)\.ipynb\) \| (.+?) \| (\d+) \|", TEXT, re.M)
    expected = [(each.name, each.question, str(each.minutes)) for each in CHAPTERS if each.written]
    assert rows == expected


def test_the_table_has_badges_where_the_address_leads_and_none_without(tmp_path, monkeypatch):
    copy = tmp_path / "README.md"
    copy.write_text(TEXT, encoding="utf-8")
    monkeypatch.setattr(readme, "FILE", copy)
    assert readme.stamp(addresses.address(), check=True) is False
    where = addresses.Address("someone/course", "v1.0")
    assert readme.stamp(where)
    stamped = copy.read_text(encoding="utf-8")
    assert all(f"]({where.colab(each.name)})" in stamped for each in CHAPTERS if each.written)
    assert readme.stamp(None)
    assert "colab-badge" not in copy.read_text(encoding="utf-8")
    assert not readme.stamp(None)


def test_a_chapter_states_the_minutes_of_the_list():
    for each in CHAPTERS:
        text = notebooks.sources()[each.name].read_text(encoding="utf-8")
        for stated in re.findall(r"You need (\d+) minutes", text):
            assert int(stated) == each.minutes, each.name


def test_the_surprise_is_the_ledgers():
    opening = TEXT.partition("\n## ")[0]
    assert len(evidence.citations(opening)) == 1
    assert evidence.check_prose(TEXT) == []


def test_the_two_commands_stand_on_the_first_screen():
    screen = "\n".join(TEXT.splitlines()[:30])
    assert "make lab " in screen
    assert "make test " in screen


def test_one_page():
    assert len(TEXT.splitlines()) <= 110
