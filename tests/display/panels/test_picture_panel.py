"""The panel for a picture of one's own: uploads, paths, faults, and a model left in peace."""

import datetime
import io
import re

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from course_lib.backbones import Preprocessing
from course_lib.data import ImageError
from course_lib.display.panels import PicturePanel
from course_lib.errors import DataError
from tests.display.panels.test_freezing_panel import find, says

SEE = Preprocessing("efficientnet_lite0", 32, (0.5,) * 3, (0.5,) * 3, "bilinear")
CLASSES = ["hotdog", "not-hotdog"]


class Reds(nn.Module):
    """Says hotdog where a picture is red; dropout and BatchNorm would show a wrong mode."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 1)
        self.bn = nn.BatchNorm2d(2)
        self.drop = nn.Dropout(0.5)
        with torch.no_grad():
            self.conv.weight.copy_(torch.tensor([[9.0, -9, 0], [-9, 9, 0]]).view(2, 3, 1, 1))
            self.conv.bias.zero_()

    def forward(self, pictures):
        return self.drop(self.bn(self.conv(pictures))).mean(dim=(2, 3))


def picture(colour):
    return Image.new("RGB", (40, 30), colour)


def png(colour):
    buffer = io.BytesIO()
    picture(colour).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def model():
    return Reds()


@pytest.fixture
def panel(model):
    return PicturePanel(model, SEE, CLASSES, picture("red"))


def upload(panel, name, content):
    """As the front end hands over what was chosen; afterwards it may be chosen again."""
    (control,) = find(panel.widget, "FileUpload")
    made = {"name": name, "type": "image/png", "size": len(content), "content": content}
    control.value = ({**made, "last_modified": datetime.datetime.now(datetime.UTC)},)
    assert control.value == ()


def test_the_first_picture_is_there_at_once(panel):
    assert panel.text.startswith("the bundled picture: the network says hotdog.")
    assert "Probabilities: hotdog 100%, not-hotdog 0%." in panel.text
    assert "speak for hotdog" in panel.text


def test_an_upload_is_looked_at(panel):
    upload(panel, "salad.png", png("green"))
    assert "salad.png: the network says not-hotdog." in says(panel)
    assert "salad.png as the network sees it" in panel.widget.children[-1].value
    panel._uploaded({"new": {"roll.png": {"content": png("red")}}})  # ipywidgets 7
    assert "roll.png: the network says hotdog." in says(panel)


def test_an_unreadable_upload_gives_the_loaders_reason(panel):
    before = panel.widget.children[-1].value
    upload(panel, "half.png", png("green")[:60])
    assert "half.png can&#x27;t be read: damaged or truncated" in says(panel)
    assert panel.widget.children[-1].value == ""
    upload(panel, "page.html", b"<html>")
    assert "it is a text (a web page or a drawing)" in says(panel)
    upload(panel, "empty.png", b"")
    assert "the file is empty" in says(panel)
    upload(panel, "good.png", png("red"))
    assert "good.png: the network says hotdog." in says(panel)
    assert before.startswith("<img ")


def test_a_path_is_opened_by_the_button(panel, tmp_path):
    (path,) = find(panel.widget, "Text")
    (go,) = find(panel.widget, "Button")
    picture("green").save(tmp_path / "mine.jpg")
    path.value = f' "{tmp_path / "mine.jpg"}" '
    go.click()
    assert "mine.jpg: the network says not-hotdog." in says(panel)
    path.value = str(tmp_path / "yours.jpg")
    go.click()
    assert "yours.jpg can&#x27;t be read: there is no such file" in says(panel)


def test_the_map_can_be_about_the_other_class(panel):
    (target,) = find(panel.widget, "Dropdown")
    assert [name for name, _ in target.options] == ["the likeliest class", *CLASSES]
    target.value = 1
    assert "No place of the picture speaks for not-hotdog." in says(panel)
    target.value = -1
    assert "The map shows which places speak for hotdog." in says(panel)


@pytest.mark.parametrize("training", [True, False])
def test_nothing_changes_in_the_model(model, training):
    model.train(training)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.conv.weight.grad = torch.ones_like(model.conv.weight)
    panel = PicturePanel(model, SEE, CLASSES, picture("red"))
    upload(panel, "a.png", png("green"))
    upload(panel, "b.png", b"nonsense")
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(each.training is training for each in model.modules())
    assert torch.equal(model.conv.weight.grad, torch.ones_like(model.conv.weight))
    assert model.conv.bias.grad is None


def test_the_fixed_text_has_no_digits_that_another_machine_may_change(panel):
    view = panel.view()
    assert view.fixed == (
        "the bundled picture: the network says hotdog.\n"
        "The map shows which places speak for hotdog."
    )
    assert "hotdog 100%" in view.alt
    assert len(view.figure.axes) == 3


def test_a_wrong_set_up_is_an_error_at_once(model, tmp_path):
    with pytest.raises(DataError, match=r"gives \(2,\) scores a picture, and 3 class names"):
        PicturePanel(model, SEE, ["a", "b", "c"], picture("red"))
    with pytest.raises(ImageError, match="there is no such file"):
        PicturePanel(model, SEE, CLASSES, tmp_path / "none.jpg")


def test_many_classes_show_the_likeliest():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 9, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    panel = PicturePanel(
        model, lambda image: torch.ones(3, 8, 8), list("abcdefghi"), picture("red")
    )
    line = panel.text.splitlines()[1]
    shares = [int(each) for each in re.findall(r"(\d+)%", line)]
    assert len(shares) == 5
    assert shares == sorted(shares, reverse=True)


def test_every_control_is_labelled(panel):
    for kind in ("FileUpload", "Text", "Dropdown", "Button"):
        controls = find(panel.widget, kind)
        assert controls
        assert all(each.description for each in controls)


def test_a_picture_may_be_an_array_free_preprocessing(model):
    """A preprocessing that can't be undone is shown stretched."""
    panel = PicturePanel(
        model, lambda image: torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1) / 255,
        CLASSES, picture("red"),
    )  # fmt: skip
    assert "says hotdog" in panel.text
