"""A trained network in one file, with all that it takes to ask it about a picture.

The weights are a safetensors file, which can't hold code. Its metadata say, beside what
:func:`course_lib.weights.save_weights` notes: :data:`PARTS`.
"""

import contextlib
import datetime
import os
import reprlib
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

import course_lib
from course_lib import backbones, profile
from course_lib.backbones.heads import HeadError, num_outputs, swappable
from course_lib.errors import CourseError
from course_lib.paths import user_path
from course_lib.recipe.prediction import Predictor
from course_lib.weights import CheckpointError, LoadError, load_model, load_weights, save_weights
from course_lib.weights.reading.checkpoint import open_catalogue
from course_lib.weights.saving.save import check_ending

FORMAT = 1
"""Version of the metadata. It goes up when an older course could misunderstand a file."""

LARGEST = 4096  # side of a picture, in pixels: a file may claim anything
MARGIN = 1_000_000  # bytes beside the weights: the header, and what the file system needs

AGAIN = "Train it again with recipe.fit(..., save_to=...), or get the file again."


def _number(value: Any, low: float, high: float, kinds: Any = int | float) -> bool:
    return isinstance(value, kinds) and not isinstance(value, bool) and low <= value <= high


def _three(value: Any, low: float) -> bool:
    whole = isinstance(value, list) and len(value) == 3
    return whole and all(_number(each, low, 1e6) for each in value)


def _texts(value: Any) -> bool:
    texts = isinstance(value, list) and all(isinstance(each, str) and each for each in value)
    return texts and len(set(value)) == len(value) > 1


def _head(value: Any) -> bool:
    known = isinstance(value, Mapping) and isinstance(value.get("name"), str)
    return known and value.get("kind") in ("Linear", "Conv2d")


def _date(value: Any) -> bool:
    with contextlib.suppress(TypeError, ValueError):
        return datetime.datetime.fromisoformat(value).tzinfo is not None
    return False


Check = Callable[[Any], bool]

PREPARATION: dict[str, tuple[str, Check]] = {
    "size": ("a side in whole pixels", lambda v: _number(v, 1, LARGEST, int)),
    "resize": ("a side in whole pixels", lambda v: _number(v, 1, 2 * LARGEST, int)),
    "crop": ("'center'", lambda v: v == "center"),
    "interpolation": ("'bilinear' or 'bicubic'", lambda v: v in ("bilinear", "bicubic")),
    "mean": ("three finite numbers", lambda v: _three(v, -1e6)),
    "std": ("three positive numbers", lambda v: _three(v, 1e-6)),
}
"""What is done to a picture. For a network of one's own it may be unknown: then all are None."""

PARTS: dict[str, tuple[str, Check]] = {
    "classes": ("two or more different names", _texts),
    "backbone": ("a backbone's name, or '' for a network of one's own", lambda v: type(v) is str),
    "licence": ("the licence of the backbone's weights", lambda v: type(v) is str),
    "head": ("name and kind ('Linear' or 'Conv2d') of the head", _head),
    **PREPARATION,
    "temperature": ("a positive number", lambda v: _number(v, 1e-3, 1e3)),
    "threshold": ("a number from 0 to 1", lambda v: _number(v, 0, 1)),
    "plan": ("the plan as text", lambda v: type(v) is str),
    "result": ("what was measured, by name", lambda v: isinstance(v, Mapping)),
    "course": ("the course's version", lambda v: type(v) is str),
    "date": ("the time of saving, in ISO 8601 with its zone", _date),
}
"""What must be in a file: name -> what is expected, and whether a value is that."""


def save(
    predictor: Predictor,
    path: str | Path,
    *,
    what: str = "",
    metrics: Mapping[str, float] | None = None,
) -> Path:
    """Save a network so that :func:`load` can ask it about pictures.

    Args:
        predictor: its ``about`` says which ``backbone`` it is (by name; none for a network of your
            own), and may hold the ``plan`` (text), the ``result`` (a dictionary as JSON can hold
            it) and its ``date``.
        path: a ``.safetensors`` file (or ``.pth``; see :func:`course_lib.weights.save_weights`).
        what: in words, what this is.
        metrics: name -> value.

    Returns:
        The path.

    Raises:
        CheckpointError: another ending, a part that :func:`load` would refuse, or the file can't be
            written. An older one of that name is still there.
    """
    about = predictor.about
    backbone, see = about.get("backbone", ""), predictor.preparation
    extra = {
        "recipe": FORMAT,
        "classes": list(predictor.classes),
        "backbone": backbone,
        "licence": backbones.card(backbone).licence if backbone else "",
        "head": _describe_head(predictor.model, len(predictor.classes)),
        "size": see.size if see else None,
        "resize": see.shorter_side if see else None,
        "crop": "center" if see else None,
        "interpolation": see.interpolation if see else None,
        "mean": list(see.mean) if see else None,
        "std": list(see.std) if see else None,
        "temperature": predictor.temperature,
        "threshold": predictor.threshold,
        "plan": about.get("plan", ""),
        "result": about.get("result", {}),
        "course": course_lib.__version__,
        "date": about.get("date") or datetime.datetime.now(datetime.UTC).isoformat("T", "seconds"),
    }
    _check(extra, f"{path} isn't written: the network", "Correct it first.")
    source = backbone or type(predictor.model).__name__
    return save_weights(
        predictor.model, path, what=what, source=source, metrics=metrics, extra=extra
    )


def load(
    path: str | Path,
    *,
    model: nn.Module | None = None,
    device: str | torch.device | None = None,
) -> Predictor:
    """Open a network that :func:`course_lib.recipe.fit` has saved, to ask it about pictures.

    >>> from course_lib import recipe
    >>> recipe.load("mine.safetensors").predict("photo.jpg")  # doctest: +SKIP

    Nothing in the file is run, and nothing is downloaded. What the file says is checked before a
    network is built.

    Args:
        path: the file.
        model: for a file whose network is no backbone of the course: the network, with a head for
            as many classes. It gets the file's weights, and is put into evaluation mode.
        device: where to compute; by default the profile's.

    Raises:
        CheckpointError: no such file, or one that is damaged, was saved in another way, lacks a
            part, or doesn't fit the network that it names. The message says which part.
    """
    catalogue = open_catalogue(path, checked=True)
    path, extra = catalogue.path, catalogue.metadata.get("extra")
    if not isinstance(extra, Mapping) or "recipe" not in extra:
        raise CheckpointError(
            f"{path} holds weights, but not what it takes to predict with them (classes, size of "
            f"the pictures, ...). recipe.load opens what recipe.fit(..., save_to=...) has saved; "
            "for other files there is course_lib.weights.load_weights."
        )
    if not _number(extra["recipe"], 1, FORMAT, int):
        raise CheckpointError(
            f"{path} is of format {extra['recipe']!r}; this course ({course_lib.__version__}) "
            f"reads up to {FORMAT}. Install the course's version in which it was saved "
            f"({extra.get('course', 'unknown')}), or a newer one."
        )
    _check(extra, str(path), AGAIN)
    classes, backbone, head = extra["classes"], extra["backbone"], extra["head"]
    see = _preparation(path, extra)
    rows = catalogue.stored.get(f"{head['name']}.weight") if head else None
    if head and (rows is None or rows.shape[:1] != (len(classes),)):
        found = f"gives {rows.shape[0]} scores" if rows and rows.shape else "isn't there"
        raise CheckpointError(
            f"{path} names {len(classes)} classes, but its head {head['name']!r} {found}. {AGAIN}"
        )
    if not backbone and model is None:
        raise CheckpointError(
            f"{path} holds the weights of a network of somebody's own "
            f"({catalogue.metadata.get('model', 'unknown')}), which can't be built from a name. "
            "Build it, and hand it over: recipe.load(path, model=...)."
        )
    try:
        with profile.own_streams():
            if model is not None:
                load_weights(model, catalogue)
            else:
                count = len(classes)
                model, _ = load_model(lambda: backbones.load(backbone, count, False), catalogue)
    except LoadError as error:
        name = backbone or type(model).__name__
        raise CheckpointError(f"{path} doesn't fit {name}. {error}") from error
    place = profile.current().device if device is None else device
    about = {**extra, "torch": catalogue.metadata.get("torch", "")}
    return Predictor(
        model.to(place).eval(), tuple(classes), see, extra["temperature"], extra["threshold"], about
    )


def check_target(path: str | Path, needed_bytes: int = 0) -> None:
    """Try, before a long training, what could fail when its result is saved.

    A file is written and removed again where the result is going to be; folders that are missing
    are made for it, and removed too.

    Args:
        path: where the network is to be saved.
        needed_bytes: the size of its weights.

    Raises:
        CheckpointError: another ending, something else is in the way, the place can't be written
            to, or has too little space.
    """
    path = user_path(path)
    check_ending(path)
    target = Path(os.path.realpath(path))  # as it is written: to what a link leads to
    try:
        if target.exists() and not target.is_file():
            kind = "a folder" if target.is_dir() else "not a regular file"
            raise CheckpointError(f"{path} is {kind}; name a file to save to.")
        with _folders(target.parent), tempfile.TemporaryFile(dir=target.parent):
            free = shutil.disk_usage(target.parent).free
    except OSError as error:
        raise CheckpointError(
            f"{path} can't be written: {error.strerror or error}. Name another place to save to."
        ) from error
    if free < needed_bytes + MARGIN:
        raise CheckpointError(
            f"{path} needs {(needed_bytes + MARGIN) / 1e6:.0f} MB, and {free / 1e6:.0f} MB are "
            "free there. Make room, or name another place to save to."
        )


@contextlib.contextmanager
def _folders(folder: Path) -> Iterator[None]:
    """The folder is there inside; those that had to be made for it are gone afterwards."""
    missing = [each for each in (folder, *folder.parents) if not os.path.lexists(each)]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    finally:
        for each in missing:
            with contextlib.suppress(OSError):
                each.rmdir()


def _describe_head(model: nn.Module, classes: int) -> dict[str, str] | None:
    try:
        name = backbones.head_name(model)
        layer = swappable(model, name)
    except HeadError:
        return None
    if num_outputs(layer) != classes:
        raise CheckpointError(
            f"The head {name!r} gives {num_outputs(layer)} scores for {classes} classes."
        )
    return {"name": name, "kind": type(layer).__name__}


def _check(extra: Mapping[str, Any], whose: str, then: str) -> None:
    """Every part is there and is what it should be.

    Raises:
        CheckpointError: the first that isn't, by name.
    """
    lacking = [name for name in PARTS if name not in extra]
    if lacking:
        wanted = ", ".join(f"{name!r} ({PARTS[name][0]})" for name in lacking)
        raise CheckpointError(f"{whose} lacks {wanted}. {then}")
    unknown: set[str] = set()  # as it may be for a network of one's own
    if extra["backbone"] == "":
        unknown |= {"head"} if extra["head"] is None else set()
        unknown |= set(PREPARATION) if all(extra[each] is None for each in PREPARATION) else set()
    for name, (expected, fits) in PARTS.items():
        if name not in unknown and not fits(extra[name]):
            raise CheckpointError(
                f"{whose} has {name!r}: {reprlib.repr(extra[name])}; expected {expected}. {then}"
            )


def _preparation(path: Path, extra: Mapping[str, Any]) -> backbones.Preprocessing | None:
    """What is done to a picture, within what the backbone can take."""
    if extra["size"] is None:
        return None
    size, resize = extra["size"], extra["resize"]
    if not size <= resize <= 2 * size:
        raise CheckpointError(
            f"{path} has 'resize': {resize}; expected from {size} to {2 * size}, its 'size' and "
            f"twice that. {AGAIN}"
        )
    try:
        if extra["backbone"]:
            backbones.preprocessing(extra["backbone"], size)
    except CourseError as error:
        raise CheckpointError(f"{path} can't be used: {error}") from error
    mean, std = tuple(extra["mean"]), tuple(extra["std"])
    return backbones.Preprocessing(
        extra["backbone"], size, mean, std, extra["interpolation"], resize
    )
