"""Look at a picture of your own: what the network says, and which places speak for it."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from course_lib.display import heatmaps
from course_lib.display.panels.base import View
from course_lib.display.panels.photographs import Bar, PhotographPanel, as_seen, draw
from course_lib.errors import DataError
from course_lib.training.evaluation import modes_of, restore_modes

MOST_SHOWN = 5  # classes in the bar chart: those that the network finds likeliest


class PicturePanel(PhotographPanel):
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

    def __init__(
        self,
        model: nn.Module,
        preprocess: Callable[[Any], Tensor],
        classes: Sequence[str],
        picture: Image.Image | Path | str,
        *,
        layer: str | None = None,
    ) -> None:
        super().__init__(picture)
        self._model, self._preprocess, self._layer = model, preprocess, layer
        self.classes = list(classes)
        self.shown_class: int | None = None
        probabilities = self.probabilities()
        if probabilities.shape != (len(self.classes),):
            raise DataError(
                f"The model gives {tuple(probabilities.shape)} scores a picture, and "
                f"{len(self.classes)} class names were given. Give one name for each score."
            )

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
        bars = [Bar(self.classes[i], float(found[i]), f"{found[i]:.0%}") for i in order]
        figure = draw(as_seen(self._preprocess, batch[0].cpu()), strength, bars)
        return View(f"{says}\nProbabilities: {listed}.\n{speaks}", figure, alt, f"{says}\n{speaks}")

    def more_controls(self) -> list[Any]:
        """The class of the map."""
        import ipywidgets as w

        options = [("the likeliest class", -1)] + [(name, i) for i, name in enumerate(self.classes)]
        target = w.Dropdown(
            options=options, value=-1, description="Heat map for",
            style={"description_width": "initial"}, layout=w.Layout(width="22em"),
        )  # fmt: skip
        target.observe(self._target_changed, names="value")
        return [target]

    def _target_changed(self, change: Any) -> None:
        self.shown_class = None if change["new"] < 0 else change["new"]
        self.refresh()

    def _batch(self) -> Tensor:
        device = next((each.device for each in self._model.parameters()), torch.device("cpu"))
        return self._preprocess(self._picture)[None].to(device)
