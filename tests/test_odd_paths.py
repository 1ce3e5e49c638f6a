"""Paths that no system has, at every door: the course's error, in a line that can be printed."""

import pytest
from torch import nn

from course_lib import data, recipe, weights
from course_lib.errors import CourseError
from course_lib.jobs import read_config, report
from course_lib.recipe import Predictor
from course_lib.setup import hosting
from course_lib.text import wrapped

DOORS = {
    "read_checkpoint": weights.read_checkpoint,
    "inspect": weights.inspect,
    "load_weights": lambda path: weights.load_weights(nn.Linear(2, 2), path),
    "resume_checkpoint": lambda path: weights.resume_checkpoint(path, nn.Linear(2, 2)),
    "save_weights": lambda path: weights.save_weights(nn.Linear(2, 2), f"{path}.safetensors"),
    "save_checkpoint": lambda path: weights.save_checkpoint(
        f"{path}.pth", nn.Linear(2, 2), epoch=1
    ),
    "image_folder": lambda path: data.image_folder(path, "train"),
    "recipe.load": recipe.load,
    "read_config": read_config,
    "predict": lambda path: Predictor(nn.Linear(2, 2), ("a", "b")).predict(path),
    "import_work": hosting.import_work,
}
PATHS = {
    "a home of nobody": "~nobody-of-this-name/x",
    "a null character": "a\0b",
    "half a character": "\ud800",
    "an order to a terminal": "\x1b[31m\nx",
    "too long": "a" * 5000,
}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("door", DOORS)
def test_the_error_is_ours_and_can_be_printed(tmp_path, monkeypatch, door, path):
    monkeypatch.chdir(tmp_path)
    before = list(tmp_path.iterdir())
    saves = door.startswith("save")
    if saves and path in ("a home of nobody", "an order to a terminal"):
        DOORS[door](PATHS[path])  # such a name is possible
        return
    with pytest.raises(CourseError) as told:
        DOORS[door](PATHS[path])
    assert all(line.isprintable() for line in str(told.value).split("\n"))
    assert list(tmp_path.iterdir()) == before


def test_names_in_reports_are_words():
    """A class's name goes into them; half a character can't be printed or written at all."""
    name = "<\x1b[31m\n\ud800"
    assert wrapped(name) == r"<\x1b[31m\n\ud800"
    assert report._text(name) == "&lt;\\x1b[31m\n\\ud800"
