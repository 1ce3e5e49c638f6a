"""What a person gives by mistake or a stranger on purpose: the course's errors, no library's."""

import numpy as np
import pytest
from PIL import Image

from course_lib import cli
from course_lib.display import plots
from course_lib.errors import CourseError
from course_lib.publishing.addresses import Address
from course_lib.publishing.handouts import outputs
from course_lib.publishing.handouts.document import words
from course_lib.training.optimizers import check_settings

NAMES = ["$x^$", "a$b$c", "$\\frac{$", "<b>&"]


@pytest.mark.parametrize("draw", [
    lambda: plots.confusion(np.eye(4), NAMES),
    lambda: plots.gallery([Image.new("RGB", (8, 8))] * 4, NAMES),
    lambda: plots.lines({name: ([1, 2], [3, 4]) for name in NAMES}, NAMES[0], NAMES[1]),
], ids=["confusion", "gallery", "lines"])  # fmt: skip
def test_class_names_are_no_formulas(draw):
    assert plots.encode(draw()).data.startswith(b"\x89PNG")
    figure = draw()
    figure.canvas.draw()


@pytest.mark.parametrize("value", [1e9, 2.0, "3", True, [1]])
@pytest.mark.parametrize("which", ["epochs", "patience"])
def test_numbers_of_epochs(which, value):
    settings = {"epochs": 1, "patience": None} | {which: value}
    with pytest.raises(CourseError, match=f"{which} must be a whole number"):
        check_settings(**settings, has_val=True, loss=len)


@pytest.mark.parametrize("parts", [(None, "v1"), (3, "v1"), ("a/b", None), ("a/b", b"v1")])
def test_addresses(parts):
    with pytest.raises(CourseError):
        Address(*parts)


def test_elements_inside_each_other_keep_their_words():
    html = "<div>" * 5000 + "deep &lt;inside&gt;" + "</div>" * 5000
    assert [words(block.inside) for block in outputs.from_html(html)] == ["deep <inside>"]


def test_an_error_of_the_system_is_one_line_at_the_command_line(tmp_path, monkeypatch, capsys):
    def fails(*_):
        raise PermissionError(13, "Permission denied", "a\x1b[31mb")

    monkeypatch.setattr(cli, "_doctor", fails)
    assert cli.main(["doctor"]) == 1
    assert capsys.readouterr().err == "course: a\\x1b[31mb: Permission denied.\n"
