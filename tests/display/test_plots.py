"""Figures: described, light, and readable without colour."""

import io
import itertools

import numpy as np
import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from nbformat.v4 import new_output
from PIL import Image

from course_lib.chapters import CHAPTERS
from course_lib.display import plots
from course_lib.errors import DataError
from course_lib.publishing.pictures import picture_of


def pixels(figure):
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return np.asarray(Image.open(buffer).convert("RGB"))


FIGURES = {
    "gallery": lambda: plots.gallery([np.zeros((4, 6, 3)), np.ones((6, 4, 3))], ["a", "b"]),
    "lines": lambda: plots.lines({"a": ([1, 2], [3, 4]), "b": ([1, 2], [4, 3])}, "x", "y"),
    "confusion": lambda: plots.confusion([[5, 1], [2, 8]], ["yes", "no"]),
    "intervals": lambda: plots.intervals({"a": (0.2, 0.1, 0.3), "b": (-0.1, -0.3, 0.1)}, "gain"),
    "strips": lambda: plots.strips({"a": [("x", 2), ("y", 1)], "b": [("y", 3)]}, "bytes"),
    "interval_panels": lambda: plots.interval_panels(
        {"one": {"a": (0.5, 0.4, 0.6), "b": (0.6, 0.5, 0.7)}, "two": {"a": (0.9, 0.8, 1.0)}},
        "accuracy",
        {"one": "b"},
    ),
    "three_ways": plots.three_ways,
    "picture_map": lambda: plots.picture_map(
        [(0, 0), (1, 2)], [np.zeros((4, 6, 3)), np.ones((6, 4, 3))], [0, 1], ["yes", "no"]
    ),
    "matching": lambda: plots.matching(
        [[0.1, 0.9], [0.2, 0.3], [0.8, 0.1]], [np.zeros((4, 6, 3)), np.ones((6, 4, 3))], list("abc")
    ),
    "course_map": lambda: plots.course_map(CHAPTERS),
}


@pytest.mark.parametrize("name", FIGURES)
def test_the_ground_is_opaque_white_for_dark_themes(name):
    corners = pixels(FIGURES[name]())[[0, 0, -1, -1], [0, -1, 0, -1]]
    assert (corners == 255).all()


@pytest.mark.parametrize("photographs", [False, True])
def test_a_stored_figure_has_twice_the_dots_of_the_screen(photographs):
    figure = plots.new_figure(3.0, 1.5)
    made = plots.encode(figure, photographs)
    stored = Image.open(io.BytesIO(made.data))
    assert (stored.format or "").lower() == made.kind == ("jpeg" if photographs else "png")
    assert (made.width, made.height) == (300, 150)
    assert stored.size == (600, 300)


def test_lines_differ_in_more_than_colour():
    axis = plots.lines({str(i): ([0, 1], [0, i]) for i in range(6)}, "x", "y").axes[0]
    cues = {(line.get_marker(), str(line._dash_pattern)) for line in axis.get_lines()}
    assert len(cues) == 6


def test_a_start_looks_the_same_in_every_figure():
    def looks(*names):
        drawn = plots.lines({name: ([0, 1], [0, 1]) for name in names}, "x", "y").axes[0]
        return {line.get_label(): line.get_color() for line in drawn.get_lines()}

    one = looks("fine-tuned", "from scratch", "head only")
    other = looks("LoRA", "head only", "from scratch", "fine-tuned")
    assert {name: other[name] for name in one} == one
    assert len(set(other.values())) == 4
    assert looks("scratch", "all layers") == {
        "scratch": one["from scratch"], "all layers": one["fine-tuned"]
    }  # fmt: skip
    assert list(looks("a", "b").values()) == plots.CYCLE[:2]


def test_strips_lie_end_to_end_and_name_each_kind_once():
    axis = plots.strips({"a": [("x", 2), ("y", 1)], "b": [("y", 3)]}, "bytes").axes[0]
    bars = [(bar.get_x(), bar.get_width(), round(bar.get_y() + 0.35)) for bar in axis.patches]
    assert bars == [(0, 2, 1), (2, 1, 1), (0, 3, 0)]
    assert [text.get_text() for text in axis.get_yticklabels()] == ["b", "a"]
    assert axis.get_legend_handles_labels()[1] == ["x", "y"]
    looks = {(bar.get_facecolor(), bar.get_hatch()) for bar in axis.patches}
    assert len(looks) == 2
    with pytest.raises(ValueError, match="5 kinds"):
        plots.strips({"a": [(str(kind), 1) for kind in range(6)]}, "bytes")


def test_a_confusion_matrix_prints_its_counts():
    axis = plots.confusion([[5, 1], [2, 8]], ["yes", "no"]).axes[0]
    assert sorted(text.get_text() for text in axis.texts) == ["1", "2", "5", "8"]


def test_a_matching_frames_the_largest_of_each_row():
    axis = FIGURES["matching"]().axes[0]
    assert [tuple(line.get_xydata()[0]) for line in axis.get_lines()] == [(1, 0), (1, 1), (0, 2)]
    assert [text.get_text() for text in axis.get_yticklabels()] == ["a", "b", "c"]
    with pytest.raises(ValueError, match=r"\(2, 2\); expected \(3, 2\)"):
        plots.matching(np.eye(2), [np.zeros((4, 6, 3))] * 2, ["a", "b", "c"])


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
        plots.show(FIGURES["lines"](), 'Two <lines>\n    that "cross".', photographs)
    (output,) = captured.outputs
    picture = picture_of(new_output("display_data", data=output.data))
    assert picture.alt == 'Two <lines> that "cross".'
    assert picture.kind == ("jpeg" if photographs else "png")
    assert picture.is_plot()
    assert Image.open(io.BytesIO(picture.data)).width == 2 * picture.width
    assert output.data["text/plain"] == f"Figure, {picture.width} x 320 pixels"


def test_a_figure_without_a_text_alternative_is_refused():
    with pytest.raises(ValueError, match="text alternative"):
        plots.show(FIGURES["lines"](), "  ")
    with pytest.raises(ValueError, match="text alternative"):
        plots.show_motion([FIGURES["lines"]()], "  ")


def growing(steps):
    line = [1, 3, 2, 4][:steps]
    figure = plots.lines({"a": (range(steps), line)}, "x", "y", axis=plots.new_axes()[1][0, 0])
    figure.axes[0].set(xlim=(-0.2, 3.2), ylim=(0, 5))
    return figure


def test_what_moves_stops_soon_and_its_still_is_the_last_figure(shell):
    shown = []
    for _ in range(2):
        with capture_output() as captured:
            plots.show_motion(map(growing, (1, 2, 3, 4)), "A line that grows by four points.")
        (output,) = captured.outputs
        shown.append(picture_of(new_output("display_data", data=output.data)))
    assert shown[0].data == shown[1].data
    assert shown[0].is_plot()
    file = Image.open(io.BytesIO(shown[0].data))
    assert file.width == 2 * shown[0].width
    assert file.n_frames == 1 + 4, "the still is none of the four"
    assert file.info["loop"] == 1
    frames, milliseconds = [], 0.0
    for place in range(file.n_frames):
        file.seek(place)
        frames.append(np.asarray(file.convert("RGB")))
        milliseconds += file.info.get("duration", 0) if place else 0
    assert milliseconds <= 5000, "longer motion needs a button that stops it"
    assert (frames[0] == frames[-1]).all(), "on paper, the still is all there is"
    assert all((one != other).any() for one, other in itertools.pairwise(frames))
    assert (frames[0][[0, 0, -1, -1], [0, -1, 0, -1]] == 255).all()


def test_overlay_keeps_the_bright_part_bright():
    figure, axes = plots.new_axes()
    strength = np.zeros((8, 8))
    strength[:, 4:] = 1
    plots.overlay(axes[0, 0], np.full((8, 8, 3), 0.8), strength)
    shown = axes[0, 0].get_images()[0].get_array()
    assert shown[:, 4:].mean() > 2 * shown[:, :4].mean()
    pixels(figure)


def test_overlay_of_a_dark_picture_is_not_nearly_black():
    figure, axes = plots.new_axes()
    dark = np.linspace(0.02, 0.35, 64).reshape(8, 8, 1).repeat(3, -1)
    plots.overlay(axes[0, 0], dark, np.zeros((8, 8)))
    assert axes[0, 0].get_images()[0].get_array().mean() > 0.25
    pixels(figure)


def test_interval_panels_share_an_axis_and_mark_one_row_by_shape():
    figure = FIGURES["interval_panels"]()
    one, two = (axis for axis in figure.axes if axis.get_title())
    assert one.get_xlim() == two.get_xlim()
    markers = [line.get_marker() for line in one.get_lines() if line.get_marker() != "None"]
    assert sorted(markers) == ["o", "s"]
    assert "s" not in [line.get_marker() for line in two.get_lines()]


def test_the_three_ways_say_in_words_what_each_layer_does():
    texts = [text.get_text() for text in plots.three_ways().axes[0].texts]
    assert texts.count("random\nlearns") == 4 + 1 + 1
    assert texts.count("copied\nlearns slowly") == texts.count("copied\nstays") == 3


def test_a_map_of_pictures_frames_them_by_class_in_colour_and_in_shape():
    axis = FIGURES["picture_map"]().axes[0]
    placed = [each for each in axis.artists if hasattr(each, "xybox")]
    assert [each.xy for each in placed] == [(0, 0), (1, 2)]
    frames = [each.patch for each in placed]
    assert frames[0].get_edgecolor() != frames[1].get_edgecolor()
    assert type(frames[0].get_boxstyle()) is not type(frames[1].get_boxstyle())
    low, high = axis.get_xlim()
    assert low < 0
    assert high > 1


def test_a_map_of_pictures_refuses_what_does_not_go_together():
    with pytest.raises(ValueError, match="there are 1, 2 and 1"):
        plots.picture_map([(0, 0)], [np.zeros((4, 4, 3))] * 2, [0], ["yes"])


def test_powers_of_ten_and_odd_names_are_both_read_as_they_are():
    """A name between dollars is no formula, and a logarithmic axis shows none of TeX's words."""
    figure = plots.lines({"$x^$": ([0.001, 0.1], [1, 2])}, "rate", "score", log_x=True)
    figure.savefig(io.BytesIO())
    axis = figure.axes[0]
    shown = {each.get_text() for each in axis.get_xticklabels()}
    assert {"0.001", "0.01", "0.1"} <= shown
    assert not any("$" in each for each in shown)
    assert [each.get_text() for each in axis.get_legend().get_texts()] == ["$x^$"]


def test_names_and_cells_of_a_confusion_matrix_are_as_many():
    for names in (("ants",), ("ants", "bees", "wasps")):
        with pytest.raises(DataError, match=r"shape \(2, 2\) for . classes"):
            plots.confusion([[1, 2], [3, 4]], names)


def test_a_gallery_has_a_title_for_each_picture():
    with pytest.raises(DataError, match="2 pictures with 1 titles"):
        plots.gallery([np.zeros((4, 4, 3))] * 2, ["one"])
    with pytest.raises(DataError, match="0 pictures"):
        plots.gallery([])
