"""LoRA: a frozen layer plus a product of two thin matrices, which train.

``y = base(x) + alpha / rank * up(down(x))``. The change of the weights has at most the given rank;
``up`` begins at zero, so that the model begins as what it was.

Source: E. Hu et al.: LoRA: Low-Rank Adaptation of Large Language Models, ICLR 2022,
arXiv:2106.09685.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from course_lib.freezing.select import Names
from course_lib.strategies.inserts import Insert, StrategyError, inserts, remove, wrap


class LoRA(Insert):
    """A linear or convolutional layer with a low-rank change beside it.

    Args:
        base: ``nn.Linear``, or ``nn.Conv2d`` without groups. For a convolution, ``down`` is one of
            the same kernel, stride and padding, and ``up`` one of a single pixel.
        rank: of the change.
        alpha: its strength: the change is multiplied by ``alpha / rank``.

    Raises:
        StrategyError: the rank is below 1, or the convolution has groups.
    """

    NEW = ("down", "up")
    base: nn.Linear | nn.Conv2d

    def __init__(self, base: nn.Linear | nn.Conv2d, rank: int, alpha: float) -> None:
        super().__init__(base)
        if rank < 1:
            raise StrategyError(f"The rank is {rank}; expected 1 or more, such as 4.")
        self.down: nn.Linear | nn.Conv2d
        self.up: nn.Linear | nn.Conv2d
        if isinstance(base, nn.Linear):
            self.down = nn.Linear(base.in_features, rank, bias=False)
            self.up = nn.Linear(rank, base.out_features, bias=False)
        elif base.groups == 1:
            same = ("kernel_size", "stride", "padding", "dilation", "padding_mode")
            settings: dict[str, Any] = {name: getattr(base, name) for name in same}
            self.down = nn.Conv2d(base.in_channels, rank, bias=False, **settings)
            self.up = nn.Conv2d(rank, base.out_channels, 1, bias=False)
        else:
            raise StrategyError(
                f"A convolution in {base.groups} groups has no low-rank change of this kind. "
                "Name layers without groups."
            )
        nn.init.kaiming_uniform_(self.down.weight, a=math.sqrt(5))
        nn.init.zeros_(self.up.weight)
        self.scale = alpha / rank
        self.to(base.weight.device, base.weight.dtype)

    def forward(self, x: Tensor) -> Tensor:
        """The base's output (..., out), or (B, out, H, W), with the change added."""
        return self.base(x) + self.scale * self.up(self.down(x))

    @torch.no_grad()
    def change(self) -> Tensor:
        """What it adds to the weights of the base, of their shape."""
        down, up = self.down.weight, self.up.weight
        return self.scale * (up.flatten(1) @ down.flatten(1)).reshape(self.base.weight.shape)


def add(model: nn.Module, names: Names, *, rank: int = 4, alpha: float | None = None) -> list[str]:
    """Give the named linear and convolutional layers a low-rank change.

    Nothing is frozen here; :func:`course_lib.strategies.subsets.train_only` does that.

    Args:
        model: any model.
        names: layers, modules that hold some, or patterns.
        rank: of each change.
        alpha: strength; ``2 * rank`` by default, so that the change counts twice.

    Returns:
        The names of the new parts, to be trained.

    Raises:
        UnknownNameError, StrategyError: nothing has been changed.
    """
    strength = 2 * rank if alpha is None else alpha
    return wrap(model, names, (nn.Linear, nn.Conv2d), lambda base: LoRA(base, rank, strength))


@torch.no_grad()
def merge(model: nn.Module) -> list[str]:
    """Add every change to the weights beside it, and take the inserts out.

    The model then computes the same, up to rounding, at the price of the model without LoRA.

    Returns:
        The names of the layers whose weights changed.
    """
    for _, insert in inserts(model, LoRA):
        insert.base.weight.add_(insert.change())
    return remove(model, LoRA)
