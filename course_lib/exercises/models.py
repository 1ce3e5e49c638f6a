"""Networks so small that a check takes milliseconds, and what a judge asks of them."""

from collections.abc import Iterable, Iterator

import torch
from torch import nn

FEATURES = 6  # what the small picture network knows of a picture, in front of its head


class SmallResNet(nn.Module):
    """A picture network with a ResNet's parts and its name for the head, ``fc``.

    The layer ``gate_fc`` stands in the body, like those of squeeze-and-excitation blocks: its name
    contains that of the head.

    Args:
        classes: outputs of the head.
    """

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, FEATURES, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(FEATURES)
        self.conv2 = nn.Conv2d(FEATURES, FEATURES, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(FEATURES)
        self.gate_fc = nn.Linear(FEATURES, FEATURES)
        self.fc = nn.Linear(FEATURES, classes)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Shape (N, 3, H, W) to (N, 6)."""
        x = torch.relu(self.bn1(self.conv1(x)))
        x = torch.relu(x + self.bn2(self.conv2(x)))
        pooled = x.mean(dim=(2, 3))
        return pooled * torch.sigmoid(self.gate_fc(pooled))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Shape (N, 3, H, W) to (N, classes)."""
        return self.fc(self.features(x))


class CharacterModel(nn.Module):
    """An embedding of 12 characters and three linear layers, the last with 3 outputs.

    It is the model that chapter 04 freezes ``fc1`` of.
    """

    def __init__(self) -> None:
        super().__init__()
        self.em = nn.Embedding(12, 5)
        self.fc1 = nn.Linear(5, 7)
        self.fc2 = nn.Linear(7, 6)
        self.fc3 = nn.Linear(6, 3)

    def forward(self, text: torch.Tensor) -> torch.Tensor:
        """Whole numbers of shape (N, length) to (N, 3)."""
        hidden = self.em(text).mean(dim=1)
        hidden = torch.tanh(self.fc1(hidden))
        hidden = torch.tanh(self.fc2(hidden))
        return self.fc3(hidden)


def pictures(count: int = 6, classes: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    """A random batch: (N, 3, 5, 5) and labels (N,) that take turns."""
    return torch.randn(count, 3, 5, 5) + 0.5, torch.arange(count) % classes


def texts() -> tuple[torch.Tensor, torch.Tensor]:
    """A random batch of character numbers (6, 4), and labels (6,) that take turns."""
    return torch.randint(12, (6, 4)), torch.arange(6) % 3


def train(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batch: tuple[torch.Tensor, torch.Tensor],
    steps: int = 3,
) -> None:
    """Some steps on one batch; gradients are cleared first, the model's mode is left alone."""
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(batch[0]), batch[1]).backward()
        optimizer.step()


def copied_tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    """Copies of all parameters and buffers by name."""
    return {name: tensor.detach().clone() for name, tensor in _tensors(model)}


def moved(before: dict[str, torch.Tensor], model: nn.Module) -> set[str]:
    """Names of the tensors that are not bit for bit what they were."""
    now = dict(_tensors(model))
    return {name for name in before if name not in now or not torch.equal(before[name], now[name])}


def of_layer(names: Iterable[str], layer: str) -> set[str]:
    """Those names that belong to a layer: ``fc1`` has ``fc1.weight``, not ``fc12.weight``."""
    return {name for name in names if name == layer or name.startswith(f"{layer}.")}


def listed(names: Iterable[str]) -> str:
    """Names as text: sorted, and of many the first four."""
    known = sorted(names)
    text = ", ".join(f"`{name}`" for name in known[:4])
    return text + (f" and {len(known) - 4} more" if len(known) > 4 else "")


def _tensors(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    yield from model.named_parameters()
    yield from model.named_buffers()
