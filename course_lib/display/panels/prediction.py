"""Ask a network trained by the recipe about a photograph: the answer, its bars, and a heat map."""

from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from course_lib.display import heatmaps
from course_lib.display.panels.base import View
from course_lib.display.panels.photographs import Bar, PhotographPanel, as_seen, draw
from course_lib.errors import DataError
from course_lib.training.evaluation import model_device

MOST_SHOWN = 8  # classes in the bar chart: those that the network finds likeliest


class PredictionPanel(PhotographPanel):
    """A panel to ask a trained network about photographs.

    ::

        panels.PredictionPanel(recipe.load("mine.safetensors"))

    Without controls, ``panel.show("photo.jpg")`` shows the same as a picture with a text.

    Args:
        predictor: what :func:`course_lib.recipe.load` or :func:`course_lib.recipe.fit` gave. It is
            asked, never changed.
        picture: what is shown at first, a picture or its path; None to wait for one.

    Raises:
        DataError: nothing was trained, or how photographs are prepared for the network isn't known.
        ImageError: the first picture can't be read.
    """

    hint = (
        f"{PhotographPanel.hint} Of a photograph of something else than its classes, the network "
        "may be just as sure."
    )

    def __init__(self, predictor: Any, picture: Image.Image | Path | str | None = None) -> None:
        super().__init__(picture)
        self._predictor = getattr(predictor, "predictor", predictor)  # of a run: what it made
        if self._predictor is None:
            raise DataError(
                "Nothing was trained: this run only planned. Leave out plan_only, and make the "
                "panel of the new run."
            )
        if self._predictor.preparation is None:
            raise DataError(
                "How photographs are prepared for this network isn't known, since it was trained "
                "on data sets of your own. Train it on a folder (recipe.fit('my_pictures')), or "
                "hand prepared tensors to predict()."
            )

    def view(self) -> View:
        """Predict, and make the heat map of the best class."""
        if self._problem is not None:
            raise self._problem
        if self._picture is None:
            waiting = 'No photograph yet. Without controls: panel.show("photo.jpg").'
            return View(waiting, None, "", waiting)
        found = self._predictor.predict(self._picture)
        bars = [
            Bar(name, found.probabilities[name], words.removeprefix(f"{name} "))
            for name, words in zip(found.probabilities, found.best(MOST_SHOWN), strict=False)
        ]
        hidden = len(found.probabilities) - len(bars)
        listed = ", ".join(found.best(MOST_SHOWN)) + (f" and {hidden} more" if hidden else "")
        says = f"{self.name}: {found.answer}."
        if not found.sure:
            says += f" The best class is {found.label}, below the threshold."
        prepared = self._predictor.preparation.eval(self._picture)
        strength, speaks = self._heat_map(prepared, found.label)
        alt = f"Left, {self.name} as the network sees it. "
        if strength is not None:
            alt += (
                f"Middle, the same with the places that speak for {found.label} bright and inside "
                "a yellow line. "
            )
        threshold = f"the threshold {found.threshold:.2f}"
        alt += f"Right, a bar for each class and a line at {threshold}: {listed}. {says}"
        image = as_seen(self._predictor.preparation, prepared)
        text = f"{says}\nProbabilities: {listed}; {threshold}.\n{speaks}"
        return View(
            text, draw(image, strength, bars, found.threshold), alt, f"{says}\n{speaks}"
        )  # fmt: skip

    def _heat_map(self, prepared: Tensor, label: str) -> tuple[Tensor | None, str]:
        """Strengths (H, W), None for a network without a map; and a sentence about them."""
        model = self._predictor.model
        target = list(self._predictor.classes).index(label)
        try:
            strength = heatmaps.grad_cam(model, prepared[None].to(model_device(model)), target)
        except heatmaps.HeatmapError:
            return None, "There is no heat map: this network has no map of a picture's places."
        if not strength.any():
            return strength[0].cpu(), f"No place of the picture speaks for {label}."
        return strength[0].cpu(), f"The map shows which places speak for {label}."
