"""The same classes in two domains: digits upright and slanted, offline; hot dogs drawn and real."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib import backbones, data, features
from course_lib.data.download import download_hotdog
from course_lib.data.manifest import bundled_folder
from course_lib.errors import UnknownNameError
from course_lib.profile import own_streams, seeded_generator
from course_lib.strategies.adversarial import domain_head

NAMES = ("digits", "hotdogs")
SOURCE, TARGET = 700, 600  # digits to train on in each domain; the other 497 are to test
DRAWN, REAL, REAL_TEST = 150, 400, 300  # hot dogs and other food, at most
SIDE = 96  # pixels, for the frozen network
SLANT = 0.6  # how far a row's pixels move for each row that lies between

Part = tuple[Tensor, Tensor]
"""Pictures or features (N, ...), and their classes (N,)."""


@dataclass(frozen=True)
class Domains:
    """Two domains with the same classes; no picture is in two parts.

    Attributes:
        classes: their names.
        source: to train on, with its classes.
        target: of the other domain, to train on *without* its classes; they are here to measure.
        test: of the target.
    """

    classes: tuple[str, ...]
    source: Part
    target: Part
    test: Part


def two_domains(name: str, draw: int = 0, photographs: Path | str | None = None) -> Domains:
    """Source and target.

    Args:
        name: ``"digits"``: scikit-learn's, upright (source) and slanted (target), as pictures
            (N, 1, 8, 8) from 0 to 1. ``"hotdogs"``: drawn (source) and photographed (target), as
            features (N, 1280) of the frozen EfficientNet-Lite0 at 96 pixels.
        draw: which pictures go where.
        photographs: folder of the photographs; by default those of the d2l book, downloaded.

    Raises:
        UnknownNameError: another name.
        OfflineError: the photographs aren't there and can't be downloaded.
    """
    if name == "digits":
        return _digits(draw)
    if name == "hotdogs":
        return _hotdogs(draw, Path(photographs) if photographs else download_hotdog())
    raise UnknownNameError(f"There are no domains {name!r}; there are {' and '.join(NAMES)}.")


def slanted(images: Tensor) -> Tensor:
    """Pictures (N, 1, H, W), sheared: the upper part to one side, the lower to the other."""
    shear = torch.tensor([[1.0, SLANT, 0.0], [0.0, 1.0, 0.0]]).expand(len(images), 2, 3)
    places = F.affine_grid(shear, list(images.shape), align_corners=False)
    return F.grid_sample(images, places, align_corners=False)


def with_other_shares(domains: Domains) -> Domains:
    """The source as it is; of the target's pictures, one in ten from the first half of classes.

    Of digits 0 to 4 so many are left that nine others come on each; of hot dogs likewise.
    """
    half = len(domains.classes) // 2
    parts = []
    for images, targets in (domains.target, domains.test):
        many = targets >= half
        few = (~many).nonzero()[:, 0][: int(many.sum()) // 9]
        rows = torch.cat([many.nonzero()[:, 0], few])
        parts.append((images[rows], targets[rows]))
    return replace(domains, target=parts[0], test=parts[1])


def new_networks(domains: Domains, seed: int) -> tuple[nn.Module, nn.Module, nn.Module]:
    """A body with BatchNorm that gives 64 features, a head, and a critic, drawn from the seed.

    For pictures two convolutions and a linear layer; for features of a frozen network a linear
    layer.
    """
    with own_streams(seed):
        first = domains.source[0]
        layers: list[nn.Module] = [nn.Linear(first.shape[1], 64)]
        if first.ndim == 4:
            layers = [
                nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
                nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
                nn.Flatten(), nn.Linear(512, 64),
            ]  # fmt: skip
        body = nn.Sequential(*layers, nn.BatchNorm1d(64), nn.ReLU())
        return body, nn.Linear(64, len(domains.classes)), domain_head(64)


def _digits(draw: int) -> Domains:
    from sklearn.datasets import load_digits  # a second; only here

    held = load_digits()
    images = torch.tensor(held.images / 16, dtype=torch.float32).unsqueeze(1)
    order = torch.randperm(len(images), generator=seeded_generator(draw))
    targets = torch.tensor(held.target, dtype=torch.int64)
    rows = order[:SOURCE], order[SOURCE:][:TARGET], order[SOURCE + TARGET :]
    source, target, test = ((images[each], targets[each]) for each in rows)
    names = tuple(str(each) for each in held.target_names)
    return Domains(names, source, (slanted(target[0]), target[1]), (slanted(test[0]), test[1]))


def _hotdogs(draw: int, photographs: Path) -> Domains:
    see = backbones.preprocessing("efficientnet_lite0", size=SIDE)
    body = backbones.load("efficientnet_lite0").eval()
    stream = seeded_generator(draw)
    parts = []
    for root, split, count in (
        (bundled_folder(), "train", DRAWN), (photographs, "train", REAL),
        (photographs, "test", REAL_TEST),
    ):  # fmt: skip
        pictures = data.image_folder(root, split=split, transform=see.eval)
        found = features.extract(body, pictures, progress=False)
        rows = torch.randperm(len(pictures), generator=stream)[:count]
        parts.append((found.values[rows], found.targets[rows]))
    return Domains(pictures.classes, *parts)
