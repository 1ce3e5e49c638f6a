"""Look at a picture of your own: what the network says, and which places speak for it."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor, nn

from course_lib.data.images import ImageError, decode, open_image
from course_lib.display import heatmaps, plots
from course_lib.display.panels.base import Panel, View
from course_lib.errors import DataError
from course_lib.training.evaluation import modes_of, restore_modes

MOST_SHOWN = 5  # classes in the bar chart: those that the network finds likeliest


class PicturePanel(Panel):
    """A panel to look at pictures of your own: prediction, probabilities and heat map.

    The model is asked, never changed; nothing leaves this machine.

    Args:
        model: gives scores (B, classes) for pictures (B, 3, H, W).
        preprocess: from a picture to the tensor (3, H, W) that the model was trained with.
        classes: a name for each score.
        picture: what is shown at first, a picture or its path.
        layer: dotted name of the layer for the heat map; by default the last feature map.

    Attributes:
        classes: the class names.
        name: what the present picture is called.
        shown_class: number of the class that the heat map is about; None for the likeliest.

    Raises:
        ImageError: the first picture can't be read.
        DataError: as many names as scores are needed.
    """

    photographs = True

    def __init__(
        self,
        model: nn.Module,
        preprocess: Callable[[Any], Tensor],
        classes: Sequence[str],
        picture: Image.Image | Path | str,
        *,
        layer: str | None = None,
    ) -> None:
        super().__init__()
        self._model, self._preprocess, self._layer = model, preprocess, layer
        self.classes = list(classes)
        self.name = "the bundled picture"
        self.shown_class: int | None = None
        self._problem: ImageError | None = None
        if not isinstance(picture, Image.Image):
            self.name, picture = Path(picture).name, open_image(picture)
        self._picture = picture
        probabilities = self.probabilities()
        if probabilities.shape != (len(self.classes),):
            raise DataError(
                f"The model gives {tuple(probabilities.shape)} scores a picture, and "
                f"{len(self.classes)} class names were given. Give one name for each score."
            )

    def open(self, path: Path | str) -> None:
        """Look at a picture file on this machine; an unreadable one is said to be so."""
        file = Path(str(path).strip().strip("\"'"))  # pasted paths come with quotes
        self._take(file.name, lambda: open_image(file))

    def receive(self, name: str, content: bytes) -> None:
        """Look at a picture that was uploaded."""

        def read() -> Image.Image:
            try:
                return decode(bytes(content))
            except ValueError as error:
                raise ImageError(
                    f"{name} can't be read: {error}. Save it again as JPEG, PNG or WebP."
                ) from error

        self._take(name, read)

    def _take(self, name: str, read: Callable[[], Image.Image]) -> None:
        try:
            self._picture, self.name, self._problem = read(), name, None
        except ImageError as error:
            self._problem = error
        self.refresh()

    def probabilities(self) -> Tensor:
        """One number a class, adding up to 1, shape (classes,); the model is left as it was."""
        modes = modes_of(self._model)
        try:
            self._model.eval()
            with torch.no_grad():
                return self._model(self._batch()).float().softmax(dim=1)[0].cpu()
        finally:
            restore_modes(self._model, modes)

    def view(self) -> View:
        """Predict, and make the heat map."""
        if self._problem is not None:
            raise self._problem
        found = self.probabilities()
        first = int(found.argmax())
        target = first if self.shown_class is None else self.shown_class
        batch = self._batch()
        strength = heatmaps.grad_cam(self._model, batch, target, self._layer)[0].cpu()
        order = found.argsort(descending=True)[:MOST_SHOWN].tolist()
        listed = ", ".join(f"{self.classes[i]} {found[i]:.0%}" for i in order)
        says = f"{self.name}: the network says {self.classes[first]}."
        speaks = f"The map shows which places speak for {self.classes[target]}."
        if not strength.any():
            speaks = f"No place of the picture speaks for {self.classes[target]}."
        alt = (
            f"Left, {self.name} as the network sees it. Middle, the same with the places that "
            f"speak for {self.classes[target]} bright and inside a yellow line. Right, bars with "
            f"the probability of each class: {listed}."
        )
        figure = self._draw(batch[0].cpu(), strength, found, order)
        return View(f"{says}\nProbabilities: {listed}.\n{speaks}", figure, alt, f"{says}\n{speaks}")

    def controls(self) -> list[Any]:
        """An upload, a path with a button, and the class of the map."""
        import ipywidgets as w

        wide = {"description_width": "initial"}
        upload = w.FileUpload(
            accept="image/*", multiple=False, description="Upload a picture",
            tooltip="A JPEG, PNG, WebP, GIF or BMP file", layout=w.Layout(width="16em"),
        )  # fmt: skip
        upload.observe(self._uploaded, names="value")
        path = w.Text(
            description="or a file's path", placeholder="pictures/lunch.jpg", style=wide,
            layout=w.Layout(width="28em"), continuous_update=False,
        )  # fmt: skip
        go = w.Button(description="Look at it", tooltip="Open the file at this path")
        go.on_click(lambda _: self.open(path.value))
        options = [("the likeliest class", -1)] + [(name, i) for i, name in enumerate(self.classes)]
        target = w.Dropdown(
            options=options, value=-1, description="Heat map for", style=wide,
            layout=w.Layout(width="22em"),
        )  # fmt: skip
        target.observe(self._target_changed, names="value")
        return [upload, w.HBox([path, go]), target]

    def _uploaded(self, change: Any) -> None:
        for name, content in _files(change["new"]):
            self.receive(name, content)

    def _target_changed(self, change: Any) -> None:
        self.shown_class = None if change["new"] < 0 else change["new"]
        self.refresh()

    def _batch(self) -> Tensor:
        device = next((each.device for each in self._model.parameters()), torch.device("cpu"))
        return self._preprocess(self._picture)[None].to(device)

    def _draw(self, seen: Tensor, strength: Tensor, found: Tensor, order: list[int]) -> Figure:
        undo = getattr(self._preprocess, "denormalise", None)
        image = np.asarray((undo(seen) if undo else _stretched(seen)).permute(1, 2, 0))
        figure, axes = plots.new_axes(7.2, 2.4, 1, 3)
        axes[0, 0].imshow(np.clip(image, 0, 1))
        axes[0, 0].axis("off")
        plots.overlay(axes[0, 1], image, strength)
        bars = axes[0, 2]
        places = range(len(order))[::-1]
        bars.barh(places, [float(found[i]) for i in order], color=plots.COLOURS["blue"])
        bars.set_yticks(list(places), [self.classes[i] for i in order])
        bars.set_xlim(0, 1.25)
        bars.set_xticks([0, 0.5, 1])
        bars.set_xlabel("probability")
        for place, i in zip(places, order, strict=True):
            bars.text(float(found[i]) + 0.02, place, f"{found[i]:.0%}", va="center", fontsize=8)
        return figure


def _files(value: Any) -> list[tuple[str, bytes]]:
    """Name and content of what was uploaded, as ipywidgets 7 (a dict) and 8 (a tuple) say it."""
    if isinstance(value, dict):
        return [(name, bytes(each["content"])) for name, each in value.items()]
    return [(each["name"], bytes(each["content"])) for each in value]


def _stretched(seen: Tensor) -> Tensor:
    """Values brought to 0..1, for a preprocessing that can't be undone."""
    low, high = seen.min(), seen.max()
    return (seen - low) / (high - low).clamp_min(1e-12)
