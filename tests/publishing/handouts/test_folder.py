"""A folder of handouts: whole or not at all, and nobody's files are replaced."""

import pytest

from course_lib import cli
from course_lib.errors import UnknownNameError
from course_lib.publishing.addresses import Address
from course_lib.publishing.handouts import HandoutError, build


def test_one_chapter_in_both_editions_its_sheet_and_an_index(tmp_path):
    target = tmp_path / "made"
    where = Address("owner/course", "v1.0")
    made = {path.relative_to(target).as_posix() for path in build(target, ["00_start_here"], where)}
    folders = ("workshop", "quiz", "answers", "student", "teacher", "sheets", "slides")
    places = [f"{each}/00_start_here" for each in folders] + ["slides/notes_00_start_here"]
    read = {f"{p}.html" for p in places if not p.startswith(("student", "sheets"))}  # site's pages
    assert made == {f"{p}.pdf" for p in places} | read | {"index.html"}
    assert all((target / name).stat().st_size > 1000 for name in made)
    index = (target / "index.html").read_text(encoding="utf-8")
    assert all(f'href="{name}"' in index for name in made if name != "index.html")
    assert "owner/course" in (target / "teacher/00_start_here.html").read_text(encoding="utf-8")
    assert {path.name for path in tmp_path.iterdir()} == {"made"}


def test_what_was_made_before_is_replaced(tmp_path):
    (tmp_path / ".course-handouts").touch()
    (tmp_path / "old.pdf").touch()
    list(build(tmp_path, ["00_start_here"]))
    assert not (tmp_path / "old.pdf").exists()
    assert (tmp_path / "index.html").exists()


def test_other_files_are_never_replaced(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(HandoutError, match="other things"):
        list(build(tmp_path, ["00_start_here"]))
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_an_unknown_chapter_leaves_nothing_behind(tmp_path):
    with pytest.raises(UnknownNameError, match="02_hotdog"):
        list(build(tmp_path / "made", ["02_hotdg"]))
    assert not list(tmp_path.iterdir())


def test_repository_and_tag_go_together(capsys):
    assert cli.main(["handouts", "--repo", "owner/course"]) == 1
    assert "--ref TAG" in capsys.readouterr().err
