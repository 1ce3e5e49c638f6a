"""The README's picture: there, small, described, and drawn by a script that still runs."""

import re
from dataclasses import replace

import pytest
from PIL import Image

from course_lib.errors import CourseError
from course_lib.paths import data_dir, repo_root
from course_lib.publishing import readme_picture

STORED = data_dir() / "readme.png"
LARGEST = 200_000  # bytes


@pytest.fixture(scope="module")
def run():
    return readme_picture.measure(epochs=1, images=8)


def test_the_readme_shows_it_with_its_text_alternative():
    text = (repo_root() / "README.md").read_text(encoding="utf-8")
    ((alt, target),) = re.findall(r"!\[([^\]]+)\]\(([^)]+)\)", text)
    assert (repo_root() / target) == STORED
    assert alt == readme_picture.ALT
    assert text.index("![") < text.index("\n## ")
    contributing = (repo_root() / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert f"python -m {readme_picture.__name__}" in contributing


def test_it_is_small_and_as_wide_as_the_script_draws_it(run, tmp_path):
    better = {way: [0.5, 0.9 if way == "fine-tuned" else 0.6] for way in run.accuracy}
    readme_picture.store(replace(run, accuracy=better), tmp_path / "again.png")
    for path in (STORED, tmp_path / "again.png"):
        with Image.open(path) as picture:
            assert picture.format == "PNG"
            assert picture.size == (1360, 884)
            assert picture.convert("RGB").getpixel((2, 2)) == (255, 255, 255)
        assert path.stat().st_size < LARGEST


def test_it_says_the_truth_about_the_run(run):
    assert len(run.shown) == 6
    assert [each.guess for each in run.shown].count("hotdog") == 3
    assert all(moved > 0 for moved in run.moved["fine-tuned"].values())
    assert [block for block, moved in run.moved["head only"].items() if moved] == ["classifier"]


def test_a_run_that_contradicts_its_words_is_not_drawn(run):
    equal = {way: [0.5, 0.7] for way in run.accuracy}
    with pytest.raises(CourseError, match="no better than training from scratch"):
        readme_picture.draw(replace(run, accuracy=equal))
