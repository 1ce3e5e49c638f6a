"""Small models and checkpoints that the tests of weights share."""

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from course_lib.freezing.bits import same_bits


class Small(nn.Module):
    """A convolution, a normalisation, a head: 3x8x8 pictures, three classes."""

    def __init__(self, classes: int = 3, channels: int = 3) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(channels, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
        self.body = nn.Sequential(nn.Conv2d(4, 6, 3, bias=False), nn.BatchNorm2d(6), nn.ReLU())
        self.head = nn.Linear(6, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(self.stem(x)).mean((2, 3)))


class Tied(nn.Module):
    """An embedding whose matrix is the output layer's too."""

    def __init__(self, tie: bool = True) -> None:
        super().__init__()
        self.embed = nn.Embedding(7, 5)
        self.out = nn.Linear(5, 7, bias=False)
        if tie:
            self.out.weight = self.embed.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.embed(x))


def make(seed: int = 0, kind: Callable[..., nn.Module] = Small, **arguments: object) -> nn.Module:
    """A model with random weights and random statistics."""
    torch.manual_seed(seed)
    model = kind(**arguments)
    for buffer in model.buffers():
        if buffer.is_floating_point():
            buffer.uniform_(0.5, 1.5)
        else:
            buffer.fill_(seed + 1)
    return model


def snapshot(model: nn.Module) -> dict[str, torch.Tensor]:
    """A copy of all tensors."""
    return {name: each.detach().clone() for name, each in model.state_dict().items()}


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    """Equal names, order and bits."""
    return list(first) == list(second) and all(same_bits(first[n], second[n]) for n in first)


def untouched(model: nn.Module, before: dict[str, torch.Tensor]) -> bool:
    """Whether the model still is as the snapshot."""
    return same(snapshot(model), before)


def rezip(path: Path, change: Callable[[str, bytes], tuple[str, bytes] | None]) -> None:
    """Write a zip file again, uncompressed, with changed members and true checksums."""
    with zipfile.ZipFile(path) as archive:
        members = [(each.filename, archive.read(each)) for each in archive.infolist()]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members:
            changed = change(name, content)
            if changed is not None:
                archive.writestr(*changed)
    path.write_bytes(buffer.getvalue())


@pytest.fixture
def model() -> nn.Module:
    return make(1)


@pytest.fixture
def other() -> nn.Module:
    """The same architecture with other weights."""
    return make(2)


@pytest.fixture
def pth(tmp_path: Path, other: nn.Module) -> Path:
    path = tmp_path / "other.pth"
    torch.save(other.state_dict(), path)
    return path
