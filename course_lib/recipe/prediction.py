"""Ask a trained network about pictures: files, folders, PIL images, arrays, prepared tensors.

Pictures go through the network one by one. In a batch, the last digits of the scores depend on how
many pictures are in it; so the answer about a picture would depend on what else was asked. On a
processor that costs little: EfficientNet-Lite0 at 224 pixels and two threads takes 80 pictures a
second one by one, and 50 to 93 in batches of 2 to 32.
"""

import os
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor, nn

from course_lib import backbones, profile
from course_lib.backbones import HeadError, Preprocessing
from course_lib.data import DataWarning, ImageError, open_image
from course_lib.data.classes import carry
from course_lib.data.images import to_rgb
from course_lib.data.inspection import inspect
from course_lib.data.layout import files_below
from course_lib.data.progress import bar
from course_lib.errors import DataError, suggest
from course_lib.paths import is_folder, user_path
from course_lib.text import counted, few, printable
from course_lib.training.evaluation import evaluation_mode, model_device

THRESHOLD = 0.7
"""Below this probability of the best class a prediction isn't sure.

On real photographs (two classes, 50 to 474 to learn from), with calibrated probabilities, that were
8 to 11 in 100 pictures, of which about half were right; of the others, 94 to 97 in 100 were right,
instead of 91 to 93 of all."""


@dataclass(frozen=True, repr=False)
class Prediction:
    """What the network says about one picture.

    It chooses among the classes that it knows: of a picture of something else it may be just as
    sure.

    Attributes:
        probabilities: class -> probability, the best class first; they add up to 1.
        source: which picture: its path, or its place in the list.
        threshold: what the best class needs for :attr:`sure`.
    """

    probabilities: dict[str, float]
    source: str
    threshold: float = THRESHOLD

    @property
    def label(self) -> str:
        """The most probable class, however probable it is; see :attr:`sure`."""
        return next(iter(self.probabilities))

    @property
    def sure(self) -> bool:
        """Whether the most probable class reaches the threshold."""
        return self.probabilities[self.label] >= self.threshold

    @property
    def answer(self) -> str:
        """The label, or ``"not sure"``."""
        return self.label if self.sure else "not sure"

    def best(self, limit: int = 3) -> list[str]:
        """The most probable classes in words, such as ``"hotdog 0.97"``."""
        return [f"{name} {share(p)}" for name, p in list(self.probabilities.items())[:limit]]

    def __str__(self) -> str:
        hidden = len(self.probabilities) - 3
        more = f" and {hidden} more" if hidden > 0 else ""
        return printable(f"{self.source}: {self.answer} ({', '.join(self.best())}{more})")

    def __repr__(self) -> str:
        return f"<{self}>"


def share(probability: float) -> str:
    """Two digits, and never a certainty that isn't one.

    >>> share(0.974), share(0.9999), share(0.0001)
    ('0.97', '>0.99', '<0.01')
    """
    if 0.995 <= probability < 1:
        return ">0.99"
    return "<0.01" if 0 < probability < 0.005 else f"{probability:.2f}"


@dataclass(eq=False, repr=False)
class Predictor:
    """A network, with all that is needed to ask it about a picture.

    The network's weights are laid out channels last, as convolutions on a processor like them:
    their layout is part of the last digits of a result.

    Attributes:
        model: prepared pictures (1, 3, H, W) -> scores (1, C).
        classes: their names, in the order of the scores.
        preparation: what is done to a picture; None if that isn't known. Then only prepared
            tensors can be predicted.
        temperature: the probabilities are ``softmax(scores / temperature)``.
        threshold: what the best class needs for :attr:`Prediction.sure`.
        about: what else is known: backbone, plan, result, ... (see :mod:`course_lib.recipe.saved`).
    """

    model: nn.Module
    classes: tuple[str, ...]
    preparation: Preprocessing | None = None
    temperature: float = 1.0
    threshold: float = THRESHOLD
    about: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.model.to(memory_format=torch.channels_last)
        self.classes = tuple(self.classes)
        try:
            head = self.model.get_submodule(backbones.head_name(self.model))
        except HeadError:
            head = self.model
        carry(head, self.classes)

    def __repr__(self) -> str:
        name = self.about.get("backbone") or type(self.model).__name__
        size = f", {self.preparation.size} pixels" if self.preparation else ""
        return f"<Predictor: {few(self.classes)}; {name}{size}>"

    def predict(
        self, pictures: Any, *, skip: bool = False, progress: bool | None = None
    ) -> Prediction | list[Prediction]:
        """What is on a picture, or on each of several.

        The answer about a picture doesn't depend on the others, and nothing about the network
        changes: neither modes nor gradients, and no random stream.

        Args:
            pictures: one picture, a list of them, or a folder (with the folders inside it). A
                picture is

                * the path of a file;
                * a PIL image;
                * pixels from 0 to 255: an array (H, W), (H, W, 3) or (H, W, 4), or a tensor
                  (C, H, W), of uint8 (an array of grey may be uint16);
                * a prepared picture, as a data set gives it: a tensor (3, size, size) of floating
                  point numbers, already normalised.
            skip: leave out files that can't be read, and name them in one
                :class:`~course_lib.data.DataWarning`. With a folder that is always so.
            progress: show a bar for a list or not; by default where somebody is watching.

        Returns:
            A :class:`Prediction`; for a list or a folder, a list of them. ``.source`` tells which
            picture it is about.

        Raises:
            ImageError: a file that can't be read.
            DataError: something that is no picture, or a folder without one.
        """
        folder = _as_folder(pictures)
        if folder is None and (isinstance(pictures, _ONE) or not isinstance(pictures, Iterable)):
            return self.predict_one(pictures)
        files, bad = pictures_in(folder) if folder else (list(pictures), {})
        made: list[Prediction] = []
        with bar(len(files), "Predicting", progress) as shown:
            shown.unit = "picture"
            for number, each in enumerate(files, start=1):
                try:
                    made.append(self.predict_one(each, f"picture {number}"))
                except ImageError as error:
                    if not (skip or folder):
                        raise
                    bad[str(each)] = str(error)
                shown.update()
        if folder and not made:
            raise DataError(_describe_bad(f"There is no picture to predict in {folder}.", bad))
        if bad:
            warnings.warn(_describe_bad("Left out:", bad), DataWarning, stacklevel=2)
        return made

    def predict_one(self, picture: Any, name: str = "the picture") -> Prediction:
        """What is on one picture; ``name`` is its source if it is no file.

        Raises:
            ImageError, DataError: as :meth:`predict`.
        """
        if isinstance(picture, str | Path):
            name = str(picture)
        elif isinstance(picture, Image.Image):
            name = str(getattr(picture, "filename", "")) or name
        place = model_device(self.model)
        with profile.own_streams(devices=[place]), evaluation_mode(self.model), torch.no_grad():
            scores = self.model(self._prepare(picture, name)[None].to(place))
        if tuple(scores.shape) != (1, len(self.classes)):
            raise DataError(
                f"The network's scores have the shape {tuple(scores.shape)}; expected (1, "
                f"{len(self.classes)}) for the classes {few(self.classes)}."
            )
        if not scores.isfinite().all():
            raise DataError(
                f"The network's scores for {name} are not all finite: there is NaN or infinity in "
                "the prepared picture or in the weights."
            )
        shares = (scores[0].cpu().double() / self.temperature).softmax(dim=0)
        order = shares.argsort(descending=True, stable=True).tolist()
        return Prediction({self.classes[i]: float(shares[i]) for i in order}, name, self.threshold)

    def _prepare(self, picture: Any, name: str) -> Tensor:
        """The tensor (3, H, W) that the network takes."""
        if isinstance(picture, Tensor) and picture.is_floating_point():
            side = self.preparation.size if self.preparation else None
            if picture.ndim != 3 or (side and tuple(picture.shape) != (3, side, side)):
                expected = f"(3, {side}, {side})" if side else "(3, H, W)"
                raise DataError(
                    f"{name} is a tensor of shape {tuple(picture.shape)}; expected {expected}, one "
                    "prepared picture. Of a batch, make a list: predict(list(batch))."
                )
            return picture.detach().float()
        if self.preparation is None:
            raise DataError(
                f"{name} is a {type(picture).__name__}, and how pictures were prepared for this "
                "network isn't known: it was trained on data sets of your own. Hand over what "
                "your data set's transform gives: a tensor (3, H, W) of floating point numbers."
            )
        return self.preparation.eval(_as_image(picture, name))


_ONE = (str, bytes, Path, Image.Image, np.ndarray, Tensor, Mapping)


def pictures_in(folder: Path) -> tuple[list[Path], dict[str, str]]:
    """The pictures in a folder and in those inside it, sorted; and what can't be read, with why."""
    files, closed = files_below(folder)
    found = inspect(files, folder)
    return list(found.whole), {str(path): why for path, why in {**closed, **found.skipped}.items()}


def _as_folder(pictures: Any) -> Path | None:
    if not isinstance(pictures, str | Path):
        return None
    path = user_path(pictures)
    return path if is_folder(path) else None


def _as_image(picture: Any, name: str) -> Image.Image:
    """Upright RGB.

    Raises:
        ImageError: a file or a PIL image that can't be read.
        DataError: it is no picture, or pixels that can mean several things.
    """
    if isinstance(picture, str | Path):
        path = user_path(picture)
        if not os.path.lexists(path):
            near = (each.name for each in path.parent.iterdir()) if is_folder(path.parent) else ()
            raise ImageError(f"There is no file {picture}.{suggest(path.name, near)}")
        return open_image(path)
    if isinstance(picture, Image.Image):
        try:
            return to_rgb(ImageOps.exif_transpose(picture))
        except (OSError, ValueError, SyntaxError) as error:  # Pillow reads it only now
            raise ImageError(f"{name} can't be read: {error}.") from error
    if isinstance(picture, Tensor) and picture.ndim == 3:
        pixels = picture.permute(1, 2, 0).cpu().numpy()
    elif isinstance(picture, np.ndarray):
        pixels = picture
    else:
        raise DataError(f"{name} is {_describe(picture)}. {_EXPECTED}")
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    grey = pixels.ndim == 2
    fits = grey or (pixels.ndim == 3 and pixels.shape[2] in (3, 4))
    if not fits or not pixels.size or pixels.dtype not in ([np.uint8, np.uint16][: 1 + grey]):
        raise DataError(f"{name} is {_describe(picture)}. {_EXPECTED}")
    return to_rgb(Image.fromarray(np.ascontiguousarray(pixels)))


_EXPECTED = (
    "Expected a path, a PIL image, or pixels from 0 to 255: an array (H, W), (H, W, 3) or (H, W, "
    "4), or a tensor (C, H, W), of uint8. Values from 0 to 1 become pixels by "
    "(x * 255).round().astype('uint8'); several pictures go into a list."
)


def _describe(picture: Any) -> str:
    if isinstance(picture, Tensor | np.ndarray):
        kind = "a tensor" if isinstance(picture, Tensor) else "an array"
        dtype = str(picture.dtype).removeprefix("torch.")
        return f"{kind} of {dtype}, shape {tuple(picture.shape)}"
    return f"of type {type(picture).__name__}"


def _describe_bad(begin: str, bad: Mapping[str, str]) -> str:
    lines = [f"  {why}" if path in why else f"  {path}: {why}" for path, why in bad.items()]
    end = f" {counted(len(lines), 'file')} can't be read:" if lines else ""
    return "\n".join([begin + end, *lines])
