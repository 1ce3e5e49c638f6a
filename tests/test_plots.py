"""Figures: described, light, and readable without colour."""

import io

import numpy as np
import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from PIL import Image

from course_lib import plots
from course_lib.chapters import CHAPTERS


def pixels(figure):
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return np.asarray(Image.open(buffer).convert("RGB"))


FIGURES = {
    "gallery": lambda: plots.gallery([np.zeros((4, 6, 3)), np.ones((6, 4, 3))], ["a", "b"]),
    "lines": lambda: plots.lines({"a": ([1, 2], [3, 4]), "b": ([1, 2], [4, 3])}, "x", "y"),
    "confusion": lambda: plots.confusion([[5, 1], [2, 8]], ["yes", "no"]),
    "intervals": lambda: plots.intervals({"a": (0.2, 0.1, 0.3), "b": (-0.1, -0.3, 0.1)}, "gain"),
    "course_map": lambda: plots.course_map(CHAPTERS),
}


@pytest.mark.parametrize("name", FIGURES)
def test_the_ground_is_opaque_white_for_dark_themes(name):
    corners = pixels(FIGURES[name]())[[0, 0, -1, -1], [0, -1, 0, -1]]
    assert (corners == 255).all()


def test_lines_differ_in_more_than_colour():
    axis = plots.lines({str(i): ([0, 1], [0, i]) for i in range(6)}, "x", "y").axes[0]
    cues = {(line.get_marker(), str(line._dash_pattern)) for line in axis.get_lines()}
    assert len(cues) == 6


def test_a_confusion_matrix_prints_its_counts():
    axis = plots.confusion([[5, 1], [2, 8]], ["yes", "no"]).axes[0]
    assert sorted(text.get_text() for text in axis.texts) == ["1", "2", "5", "8"]


def contrast(colour):
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    luminance = sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
    return 1.05 / (luminance + 0.05)


def test_text_is_dark_enough_on_white():
    """WCAG 2.2 asks for a contrast of 4.5 for text."""
    for key in ("text.color", "axes.labelcolor", "xtick.color", "ytick.color"):
        assert contrast(plots.STYLE[key]) >= 4.5


@pytest.fixture
def shell():
    """A real IPython, as in a notebook: without one, display only prints."""
    yield InteractiveShell.instance()
    InteractiveShell.clear_instance()


@pytest.mark.parametrize("photographs", [False, True])
def test_shown_with_its_text_alternative(photographs, shell):
    with capture_output() as captured:
        plots.show(FIGURES["lines"](), "Two lines\n    that cross.", photographs)
    (output,) = captured.outputs
    kind = "image/jpeg" if photographs else "image/png"
    assert output.metadata[kind]["alt"] == "Two lines that cross."
    assert output.data[kind]


def test_a_figure_without_a_text_alternative_is_refused():
    with pytest.raises(ValueError, match="text alternative"):
        plots.show(FIGURES["lines"](), "  ")


def test_overlay_keeps_the_bright_part_bright():
    figure, axes = plots.new_axes()
    strength = np.zeros((8, 8))
    strength[:, 4:] = 1
    plots.overlay(axes[0, 0], np.full((8, 8, 3), 0.8), strength)
    shown = axes[0, 0].get_images()[0].get_array()
    assert shown[:, 4:].mean() > 2 * shown[:, :4].mean()
    pixels(figure)
