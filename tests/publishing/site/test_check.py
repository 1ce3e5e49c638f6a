"""The check finds what a site must not have; and a folder is replaced only if it was made here."""

import pytest

from course_lib import cli
from course_lib.errors import UnknownNameError
from course_lib.publishing import site
from course_lib.publishing.site import SiteError, check

PAGE = '<!DOCTYPE html><html lang="en"><title>t</title><body><h1 id="top">t</h1>{}</body></html>'


@pytest.mark.parametrize(
    ("inside", "said"),
    [
        ('<script src="https://cdn.example/x.js"></script>', "loads https://cdn.example/x.js"),
        ('<img src="//cdn.example/x.png" alt="x">', "loads //cdn.example/x.png"),
        ('<link rel="stylesheet" href="https://fonts.example/f.css">', "loads https://fonts"),
        ('<script src="gone.js"></script>', "loads gone.js, which isn't there"),
        ('<a href="gone.html">x</a>', "a link to gone.html, which isn't there"),
        ('<a href="other.html#gone">x</a>', "other.html#gone, where there is no such place"),
        ('<a href="#gone">x</a>', "#gone, where there is no such place"),
        ('<img src="data:image/png;base64,AA==" alt="">', "a picture without a text alternative"),
        ("<p>| claim | <b>said</b> |\n|---|---|</p>", "a table that was set as prose: | claim"),
    ],
)
def test_faults_are_told(tmp_path, inside, said):
    (tmp_path / "index.html").write_text(PAGE.format(inside))
    (tmp_path / "other.html").write_text(PAGE.format('<a href="index.html#top">back</a>'))
    with pytest.raises(SiteError) as told:
        check.check(tmp_path)
    assert said in str(told.value)
    assert str(told.value).count("\n") == 1


@pytest.mark.parametrize(
    "style", ["@import 'https://x.example/y.css';", "a{src:url(//x.example/f)}"]
)
def test_styles_that_load_from_elsewhere_are_told(tmp_path, style):
    (tmp_path / "site.css").write_text(style)
    with pytest.raises(SiteError, match=r"site\.css: loads .*x\.example"):
        check.check(tmp_path)


def test_other_files_are_never_replaced(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(SiteError, match="other things"):
        site.build(tmp_path, ["00_start_here"])
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_an_unknown_chapter_leaves_nothing_behind(tmp_path):
    with pytest.raises(UnknownNameError, match="02_hotdog"):
        site.build(tmp_path / "made", ["02_hotdg"])
    assert not list(tmp_path.iterdir())


def test_the_command_replaces_what_it_made_and_without_address_has_no_buttons(tmp_path, capsys):
    target = tmp_path / "made"
    target.mkdir()
    (target / ".course-site").touch()
    (target / "old.html").touch()
    assert cli.main(["site", str(target), "--only", "00_start_here"]) == 0
    assert capsys.readouterr().out.strip() == str(target / "index.html")
    assert not (target / "old.html").exists()
    page = (target / "00_start_here.html").read_text(encoding="utf-8")
    assert "Download the notebook" in page
    assert "Open in Colab" not in page
    assert "Report this page" not in page
    assert [path.name for path in tmp_path.iterdir()] == ["made"]
