"""The panel to ask a trained network: answers, the threshold, bars, maps, faults."""

import io
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import nbformat
import numpy as np
import pytest
import torch
from nbclient import NotebookClient
from PIL import Image
from torch import nn

from course_lib import data, recipe
from course_lib.display.panels import PredictionPanel
from course_lib.errors import DataError
from course_lib.publishing.pictures import picture_of
from tests.display.panels.test_freezing_panel import find, says
from tests.display.panels.test_picture_panel import CLASSES, SEE, Reds, picture, png, upload


def made(**changes):
    """Says hotdog where a picture is red."""
    return recipe.Predictor(**{"model": Reds(), "classes": CLASSES, "preparation": SEE, **changes})


class Even(nn.Module):
    """The same scores whatever is shown."""

    def __init__(self, *scores):
        super().__init__()
        self.conv = nn.Conv2d(3, len(scores), 1)
        nn.init.zeros_(self.conv.weight)
        with torch.no_grad():
            self.conv.bias.copy_(torch.tensor(scores))

    def forward(self, pictures):
        return self.conv(pictures).mean(dim=(2, 3))


@pytest.fixture
def panel():
    return PredictionPanel(made())


def test_it_waits_for_a_photograph(panel):
    assert panel.text.startswith("No photograph yet.")
    assert panel.widget.children[-1].value == ""


@pytest.mark.parametrize("kind", ["upload", "path", "show"])
def test_the_answer_is_that_of_predict(panel, tmp_path, kind):
    file = tmp_path / "salad.png"
    file.write_bytes(png("green"))
    if kind == "upload":
        upload(panel, file.name, file.read_bytes())
    else:
        getattr(panel, {"path": "open", "show": "show"}[kind])(file)
    found = made().predict(file)
    assert found.label == "not-hotdog"
    assert panel.text.splitlines() == [
        f"salad.png: {found.answer}.",
        f"Probabilities: {', '.join(found.best())}; the threshold 0.70.",
        "The map shows which places speak for not-hotdog.",
    ]
    assert f"{', '.join(found.best())}" in panel.view().alt


def test_a_run_is_asked_like_what_it_saved():
    predictor = made()
    run = SimpleNamespace(predictor=predictor, predict=predictor.predict, classes=CLASSES)
    assert PredictionPanel(run, picture("red")).text.startswith("the bundled picture: hotdog.")
    with pytest.raises(DataError, match="only planned"):
        PredictionPanel(SimpleNamespace(predictor=None))
    with pytest.raises(DataError, match="data sets of your own"):
        PredictionPanel(made(preparation=None))


def test_below_the_threshold_it_is_not_sure():
    panel = PredictionPanel(made(model=Even(0.4, 0.0)), picture("red"))
    assert panel.text.startswith(
        "the bundled picture: not sure. The best class is hotdog, below the threshold."
    )
    bars = panel.view().figure.axes[-1]
    assert [bar.get_hatch() for bar in bars.patches] == ["////", "////"]
    assert bars.lines[0].get_xdata()[0] == 0.7
    sure = PredictionPanel(made(model=Even(9.0, 0.0)), picture("red")).view().figure.axes[-1]
    assert [bar.get_hatch() or "" for bar in sure.patches] == ["", "////"]


def test_eight_bars_best_first():
    scores = [float(each) for each in range(11)]
    classes = [f"{number} $x$ " + "long" * number for number in range(11)]
    panel = PredictionPanel(
        made(model=Even(*scores), classes=classes, threshold=0.1), picture("red")
    )
    bars = panel.view().figure.axes[-1]
    expected = torch.tensor(scores).softmax(0).sort(descending=True).values[:8]
    assert [bar.get_width() for bar in bars.patches] == pytest.approx(expected.tolist())
    names = [label.get_text() for label in bars.get_yticklabels()]
    assert names[0] == "10 $x$ longlonglonglong…"
    assert len(names) == 8
    heights = bars.get_yticks()
    assert list(heights) == sorted(heights, reverse=True)
    assert "and 3 more" in panel.text


def test_the_map_is_about_the_best_class_and_the_picture_is_what_went_in(tmp_path):
    half = np.zeros((32, 64, 3), np.uint8)
    half[:, :32, 0], half[:, 32:, 2] = 255, 255  # red on the left, blue on the right
    turned = Image.fromarray(half).transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # shown after a quarter turn to the right
    turned.save(tmp_path / "turned.png", exif=exif)
    panel = PredictionPanel(made(), tmp_path / "turned.png")
    seen, _, _ = panel.view().figure.axes
    shown = seen.images[0].get_array()
    assert shown.shape == (32, 32, 3)
    assert shown[:, :12, 0].min() > 0.99
    assert shown[:, 20:, 2].min() > 0.99
    strength, text = panel._heat_map(SEE.eval(data.open_image(tmp_path / "turned.png")), "hotdog")
    assert text == "The map shows which places speak for hotdog."
    assert strength[:, :12].mean() > strength[:, 20:].mean()


def test_a_network_without_a_map_says_so():
    flat = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 2))
    view = PredictionPanel(made(model=flat), picture("red")).view()
    assert view.text.splitlines()[-1].startswith("There is no heat map")
    assert len(view.figure.axes) == 2
    assert "Middle" not in view.alt


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("half.png", png("green")[:60], "damaged or truncated"),
        ("empty.png", b"", "the file is empty"),
        ("page.jpg", b"<html>", "it is a text"),
    ],
)
def test_a_bad_file_is_named_and_the_next_one_works(panel, tmp_path, capsys, name, content, said):
    upload(panel, name, content)
    assert f"{name} can&#x27;t be read: {said}" in says(panel)
    assert panel.widget.children[-1].value == ""
    (tmp_path / name).write_bytes(content)
    panel.show(tmp_path / name)
    assert f"{name} can't be read: {said}" in capsys.readouterr().out
    upload(panel, "good.png", png("red"))
    assert "good.png: hotdog." in says(panel)


def test_an_empty_path_and_one_in_the_home_folder(panel, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    picture("red").save(tmp_path / "mine.png")
    (go,) = find(panel.widget, "Button")
    go.click()
    assert "No path was given." in says(panel)
    find(panel.widget, "Text")[0].value = "~/mine.png"
    go.click()
    assert "mine.png: hotdog." in says(panel)


def test_every_kind_that_is_read_goes_in(panel):
    for kind in ("JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000"):
        stream = io.BytesIO()
        picture("red").save(stream, kind)
        upload(panel, f"a.{kind}", stream.getvalue())
        assert f"a.{kind}: hotdog." in says(panel)


def test_nothing_changes_in_the_network():
    predictor = made()
    predictor.model.train()
    before = {name: each.clone() for name, each in predictor.model.state_dict().items()}
    panel = PredictionPanel(predictor, picture("red"))
    panel.view()
    assert all(torch.equal(before[n], each) for n, each in predictor.model.state_dict().items())
    assert all(each.training for each in predictor.model.modules())
    assert all(each.grad is None for each in predictor.model.parameters())


def test_a_script_gets_the_text(tmp_path):
    picture("red").save(tmp_path / "a.png")
    script = (
        "from tests.display.panels.test_prediction_panel import *\n"
        f"PredictionPanel(made()).show({str(tmp_path / 'a.png')!r})"
    )
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True)
    assert done.stdout.startswith("a.png: hotdog.\nProbabilities: hotdog"), done.stderr


def test_an_executed_notebook_is_the_same_every_time(tmp_path):
    picture("red").save(tmp_path / "a.png")
    cell = (
        "from tests.display.panels.test_prediction_panel import PredictionPanel, made\n"
        f"PredictionPanel(made(), {str(tmp_path / 'a.png')!r})"
    )

    def outputs():
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell)])
        root = {"metadata": {"path": Path(__file__).parents[3]}}
        NotebookClient(
            notebook, timeout=120, kernel_name="python3", resources=root, coalesce_streams=True
        ).execute()
        assert "widgets" not in notebook.metadata
        return notebook.cells[0].outputs

    text, image = outputs()
    assert text.text == "a.png: hotdog.\nThe map shows which places speak for hotdog.\n"
    assert "hotdog" in picture_of(image).alt
    again = outputs()
    assert (again[0].text, again[1].data) == (text.text, image.data)
