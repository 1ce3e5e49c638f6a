"""Progress: kept on this machine, whole or not at all, and never in the way of a check."""

import json

import pytest

from course_lib import exercises
from course_lib.errors import UnknownNameError
from course_lib.exercises import progress_file
from course_lib.exercises.chapter_00 import ex0_1, q0_1


@pytest.fixture
def path(tmp_path, monkeypatch):
    path = tmp_path / "folder" / "mine.json"
    monkeypatch.setenv("COURSE_PROGRESS", str(path))
    return path


def row(chapter="00"):
    return next(row for row in exercises.progress().rows if row.chapter == chapter)


def test_it_notes_what_was_done(path):
    ex0_1.check()
    assert not path.exists(), "not attempted is nothing to note"
    ex0_1.check(1)
    assert row().tried == ("0.1",)
    ex0_1.check(288)
    ex0_1.check(2)
    q0_1.answer("a")
    assert (row().passed, row().tried, row().answered) == (("0.1",), (), 0)
    q0_1.answer("b")
    ex0_1.hint()
    ex0_1.solution()
    assert row().answered == 1
    assert progress_file.entries()["0.1"] == {
        "passed": True, "attempts": 3, "hints": 1, "solution": True,
    }  # fmt: skip
    assert [each.name for each in path.parent.iterdir()] == ["mine.json"]
    path.unlink()
    assert progress_file.entries() == {}


def test_off_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path))
    for value in ("off", "OFF", " off "):
        monkeypatch.setenv("COURSE_PROGRESS", value)
        ex0_1.check(288)
        ex0_1.solution()
        assert list(tmp_path.iterdir()) == []
        assert row().passed == ()
        assert "No progress is kept" in str(exercises.progress())


def test_by_default_it_is_in_the_cache(tmp_path, monkeypatch):
    monkeypatch.delenv("COURSE_PROGRESS")
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path))
    ex0_1.check(288)
    assert [each.name for each in tmp_path.iterdir()] == ["progress.json"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe\x00",
        b"[]",
        b'{"version": 99, "entries": {}}',
        b'{"version": 1}',
        b'{"version": 1, "entries": {"0.1": 3}}',
        b'{"version": 1, "entries": {"0.1": {"passed": "yes"}}}',
    ],
)
def test_a_damaged_file_is_set_aside_and_said(path, content):
    path.parent.mkdir()
    path.write_bytes(content)
    ex0_1.check(288)
    assert row().passed == ("0.1",)
    aside = path.parent / "mine.damaged.json"
    assert aside.read_bytes() == content
    assert "mine.damaged.json" in str(exercises.progress())
    assert "mine.damaged.json" in exercises.progress()._repr_html_()
    path.write_bytes(content)
    exercises.progress()
    assert (path.parent / "mine.damaged-2.json").read_bytes() == content
    assert aside.read_bytes() == content


def test_a_check_says_the_same_whatever_is_kept(path, monkeypatch, capsys):
    def said():
        ex0_1.check(288)
        return capsys.readouterr()

    first = said()
    path.write_text("damaged")
    assert said() == first
    monkeypatch.setenv("COURSE_PROGRESS", "off")
    assert said() == first
    monkeypatch.setenv("COURSE_PROGRESS", "/dev/null/nowhere/progress.json")
    assert said() == first
    assert row().passed == ()


def test_writing_that_fails_leaves_the_old_file(path, monkeypatch):
    ex0_1.check(288)
    before = path.read_bytes()

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr("pathlib.Path.replace", fail)
    ex0_1.check(1)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_another_notebooks_entries_are_kept(path):
    progress_file.note_attempt("4.1", True)
    content = json.loads(path.read_text())
    content["entries"]["3.1"] = dict(progress_file.EMPTY)
    path.write_text(json.dumps(content))
    progress_file.note_attempt("4.1", False)
    assert set(json.loads(path.read_text())["entries"]) == {"3.1", "4.1"}
    assert progress_file.entries()["4.1"]["attempts"] == 2


def test_the_table_reads_well(path):
    text = str(exercises.progress())
    assert text.splitlines()[0].split("  ")[0] == "chapter"
    assert "0 of 1" in text
    assert repr(exercises.progress()) == text
    html = exercises.progress()._repr_html_()
    assert html.count("<tr>") == len(exercises.chapters()) + 1
    assert 'scope="row"' in html


def test_chapters_by_number_or_name():
    assert exercises.exercises_of("00") == exercises.exercises_of("00_start_here")
    assert exercises.exercises_of("00")[0] is ex0_1
    assert exercises.questions_of("00") == (q0_1,)
    with pytest.raises(UnknownNameError, match="no exercises for chapter '99'"):
        exercises.exercises_of("99")
