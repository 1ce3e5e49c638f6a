"""The networks on which the matrix measures the methods.

A subject is two networks of one kind. In one a layer *in the middle* is frozen, so that something
lies before it. In the other the whole *body* is, and only the head trains: that is where freezing
saves time, and where dropout and buffers are.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.utils import parametrizations, weight_norm

Layer = Callable[[nn.Module], nn.Module]


@dataclass(frozen=True)
class Setting:
    """A network, what to freeze of it, and a batch.

    Attributes:
        build: makes the network; ``body`` and ``head`` are the children of those of the second
            kind.
        part: the direct child to freeze.
        batch: makes inputs and class numbers, (B, ...) and (B,).
        before: a parameter that lies before ``part``, or nothing.
    """

    build: Callable[[], nn.Module]
    part: str
    batch: Callable[[], tuple[torch.Tensor, torch.Tensor]]
    before: str = ""


@dataclass(frozen=True)
class Subject:
    """A kind of network: a layer of ``middle`` is frozen, or the ``body`` of another one."""

    title: str
    middle: Setting
    body: Setting


def _plain(layer: nn.Module) -> nn.Module:
    return layer


class LetterReader(nn.Module):
    """Three letters in, scores for the fourth out: (B, 3) -> (B, 12).

    Args:
        wrap: what is done to the layer that is frozen, such as ``weight_norm``.
    """

    def __init__(self, wrap: Layer = _plain) -> None:
        super().__init__()
        self.em = nn.Embedding(12, 6)
        self.fc1 = wrap(nn.Linear(18, 16))
        self.fc2 = nn.Linear(16, 16)
        self.fc3 = nn.Linear(16, 12)

    def forward(self, letters: torch.Tensor) -> torch.Tensor:
        """Scores (B, 12) for letters (B, 3)."""
        hidden = self.fc1(self.em(letters).flatten(1)).relu()
        return self.fc3(self.fc2(hidden).relu())


class BodyAndHead(nn.Module):
    """A body with a linear head of two classes: (B, ...) -> (B, 2).

    Args:
        body: gives (B, D).
        features: D.
    """

    def __init__(self, body: nn.Module, features: int) -> None:
        super().__init__()
        self.body, self.head = body, nn.Linear(features, 2)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Scores (B, 2) for pictures (B, 3, H, W)."""
        return self.head(self.body(pictures))


class PictureReader(BodyAndHead):
    """A small convolutional network with BatchNorm and dropout: (B, 3, 16, 16) -> (B, 2)."""

    def __init__(self) -> None:
        super().__init__(convolutions(nn.BatchNorm2d(8)), 16)


def convolutions(norm: nn.Module, first: Layer = _plain, second: Layer = _plain) -> nn.Sequential:
    """Two convolutions: (B, 3, H, W) -> (B, 16)."""
    return nn.Sequential(
        first(nn.Conv2d(3, 8, 3, padding=1)), norm, nn.ReLU(),
        second(nn.Conv2d(8, 16, 3, padding=1)), nn.ReLU(), nn.Dropout(0.2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    )  # fmt: skip


def _letters() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randint(12, (64, 3)), torch.randint(12, (64,))


def _pictures() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(8, 3, 16, 16), torch.arange(8) % 2


def _old_weight_norm(layer: nn.Module) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that there is a newer one, which stands below
        return weight_norm(layer)


def _vit(classes: int, dropout: float) -> nn.Module:
    """ViT-tiny's width and heads, with two blocks and patches of 4 x 4."""
    from timm.models.vision_transformer import VisionTransformer  # takes seconds

    return VisionTransformer(
        img_size=16, patch_size=4, num_classes=classes, embed_dim=192, depth=2, num_heads=3,
        pos_drop_rate=dropout, proj_drop_rate=dropout,
    )  # fmt: skip


def _reader(wrap: Layer) -> Setting:
    return Setting(lambda: LetterReader(wrap), "fc1", _letters, "em.weight")


PLAIN = Subject("plain", _reader(_plain), Setting(PictureReader, "body", _pictures))
TRANSFORMER = Subject(
    "transformer",
    Setting(lambda: _vit(2, 0), "blocks", _pictures, "patch_embed.proj.weight"),
    Setting(lambda: BodyAndHead(_vit(0, 0.1), 192), "body", _pictures),
)
WEIGHT_NORM = Subject(
    "weight_norm",
    _reader(_old_weight_norm),
    Setting(
        lambda: BodyAndHead(convolutions(nn.Identity(), _old_weight_norm, _old_weight_norm), 16),
        "body", _pictures,
    ),
)  # fmt: skip
PARAMETRIZED = Subject(
    "parametrized",
    _reader(parametrizations.spectral_norm),
    Setting(
        lambda: BodyAndHead(
            convolutions(
                nn.Identity(), parametrizations.spectral_norm, parametrizations.weight_norm
            ),
            16,
        ),
        "body", _pictures,
    ),
)  # fmt: skip

#: The plain one is chapter 04's; the others are built in other ways.
SUBJECTS = (PLAIN, TRANSFORMER, WEIGHT_NORM, PARAMETRIZED)
