"""The network that every library freezes a part of, its pictures, and a training loop."""

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from course_lib import profile

LR, MOMENTUM, WEIGHT_DECAY = 0.1, 0.9, 0.01
Batches = list[tuple[Tensor, Tensor]]


class Stage(nn.Sequential):
    """Convolution, BatchNorm, ReLU, dropout: (B, C, H, W) to (B, 4, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 4, 3, padding=1)
        self.bn = nn.BatchNorm2d(4)
        self.relu = nn.ReLU()
        self.drop = nn.Dropout(0.5)


class PictureNet(nn.Module):
    """A backbone of two stages and a head: (B, 3, H, W) to (B, 2)."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential()
        self.backbone.stem = Stage(3)
        self.backbone.body = Stage(4)
        self.head = nn.Linear(4, 2)

    def forward(self, pictures: Tensor) -> Tensor:
        """Class scores: (B, 3, H, W) to (B, 2)."""
        return self.head(self.backbone(pictures).mean(dim=(2, 3)))


def batches() -> Batches:
    """Two batches of eight pictures of noise, brighter than any normalised picture."""
    stream = torch.Generator().manual_seed(1)
    pictures = 1 + 2 * torch.randn(16, 3, 6, 6, generator=stream)
    labels = torch.arange(16) % 2
    return [(pictures[:8], labels[:8]), (pictures[8:], labels[8:])]


def new_bench_model() -> PictureNet:
    """The same network every time. Its BatchNorm has seen other pictures than :func:`batches`."""
    with profile.own_streams(seed=0):
        model = PictureNet()
        with torch.no_grad():
            for _ in range(5):
                model(torch.randn(16, 3, 6, 6))
    return model


def bench_loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Cross-entropy of pictures (B, 3, H, W) and labels (B,), the mean over the batch."""
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


def train(model: nn.Module, optimizer: Optimizer, data: Batches) -> None:
    """One epoch, as everybody writes it."""
    model.train()
    for batch in data:
        optimizer.zero_grad()
        bench_loss(model, batch).backward()
        optimizer.step()


def tensors(model: nn.Module) -> dict[str, Tensor]:
    """Copies of all parameters and buffers by name.

    Lists what is there now: a library may have put another kind of module in place.
    """
    found = [*model.named_parameters(), *model.named_buffers()]
    return {name: tensor.detach().clone() for name, tensor in found}
