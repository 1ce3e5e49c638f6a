"""Progress: kept on this machine, whole or not at all, and never in the way of a check."""

import json
import os
import subprocess
import sys

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
        b'{"version": 1}',
        b'{"version": 1, "entries": 7}',
        b'{"version": "one", "entries": {}}',
        b"[" * 100_000,
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


KNOWN = {"passed": True, "attempts": 2, "hints": 0, "solution": False}


@pytest.mark.parametrize("content", [
    {"version": 99, "entries": {"0.2": KNOWN}},
    {"version": 1, "entries": {"0.2": {**KNOWN, "minutes": 3}}, "name": "Ada"},
    {"version": 1, "entries": {"0.2": KNOWN, "7.1": {"passed": "yes"}, "7.2": 3, "7.3": None}},
    {"version": 1, "entries": {"0.2": KNOWN, "7.4": {**KNOWN, "attempts": -1}}},
    {"version": 1, "entries": {"0.2": KNOWN, "7.4": {**KNOWN, "attempts": 10**4299}}},
])  # fmt: skip
def test_what_a_later_version_has_noted_is_kept_and_passed_over(path, content):
    path.parent.mkdir()
    path.write_text(json.dumps(content))
    assert progress_file.entries() == {"0.2": KNOWN}
    assert "is kept, and passed over" in str(exercises.progress()) or "minutes" in str(content)
    progress_file.note_attempt("0.1", True)
    now = json.loads(path.read_text())
    assert now["entries"].pop("0.1") == {**KNOWN, "attempts": 1}
    assert now == content
    assert progress_file.set_aside() == []


def test_an_entry_that_is_not_understood_is_kept_when_it_is_written_anew(path):
    path.parent.mkdir()
    path.write_text(json.dumps({"version": 1, "entries": {"0.1": [1, 2]}}))
    progress_file.note_attempt("0.1", False)
    assert json.loads(path.read_text())["passed over"] == {"0.1": [1, 2]}
    assert progress_file.entries()["0.1"]["attempts"] == 1


@pytest.mark.parametrize("odd", [{"attempts": 10**4300 - 1}, {"passed": 3}],
                         ids=["attempts", "passed"])  # fmt: skip
def test_what_can_not_be_counted_on_is_kept_beside(path, odd):
    path.parent.mkdir()
    content = {"version": 1, "entries": {"0.1": {**KNOWN, **odd}}, "passed over": [1]}
    path.write_text(json.dumps(content))
    progress_file.note_attempt("0.1", True)
    assert progress_file.entries()["0.1"] == {**KNOWN, "attempts": 1}
    kept = json.loads(path.read_text())["passed over"]
    assert kept == {"passed over": [1], "0.1": content["entries"]["0.1"]}


@pytest.mark.parametrize("content", ["damaged", json.dumps({"version": 1, "entries": {}})])
def test_a_link_stays_a_link(path, tmp_path, content):
    path.parent.mkdir()
    (tmp_path / "elsewhere").mkdir()
    target = tmp_path / "elsewhere" / "true.json"
    target.write_text(content)
    path.symlink_to(target)
    progress_file.note_attempt("0.1", True)
    assert path.is_symlink()
    assert set(json.loads(target.read_text())["entries"]) == {"0.1"}
    assert [each.name for each in progress_file.set_aside()] == (
        ["true.damaged.json"] if content == "damaged" else []
    )


@pytest.mark.parametrize("make", [lambda p: os.mkfifo(p), lambda p: p.symlink_to("/dev/zero"),
                                  lambda p: p.symlink_to(p), lambda p: p.mkdir()])  # fmt: skip
def test_what_is_no_file_disturbs_no_check(path, make):
    path.parent.mkdir()
    make(path)
    ex0_1.check(288)
    assert progress_file.entries() == {}


NOTE = """
import sys
from course_lib.exercises import progress_file
for place in range(40):
    progress_file.note_attempt(sys.argv[1], True)
    progress_file.note_attempt("shared", True)
"""


def test_two_notebooks_that_note_at_once_lose_nothing(path):
    environment = {**os.environ, "COURSE_PROGRESS": str(path)}
    both = [subprocess.Popen([sys.executable, "-c", NOTE, name], env=environment) for name in "ab"]
    assert [each.wait() for each in both] == [0, 0]
    counts = {number: entry["attempts"] for number, entry in progress_file.entries().items()}
    assert counts == {"a": 40, "b": 40, "shared": 80}
    assert [each.name for each in path.parent.iterdir()] == [path.name]
