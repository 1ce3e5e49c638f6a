"""Adapters: a small bottleneck behind a frozen layer, which trains.

``y = h + up(gelu(down(h)))`` with ``h = base(x)``. ``up`` begins at zero, so that the model begins
as what it was. In a transformer block they stand behind the last linear layer of the attention
and of the MLP, before the sums with the residual.

Source: N. Houlsby et al.: Parameter-Efficient Transfer Learning for NLP, ICML 2019,
arXiv:1902.00751.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.freezing.select import Names
from course_lib.strategies.inserts import Insert, StrategyError, wrap


class Adapter(Insert):
    """A linear layer with a bottleneck behind it.

    Args:
        base: the layer in front.
        size: width of the bottleneck.

    Raises:
        StrategyError: the size is below 1.
    """

    NEW = ("down", "up")

    def __init__(self, base: nn.Linear, size: int) -> None:
        super().__init__(base)
        if size < 1:
            raise StrategyError(f"The bottleneck's size is {size}; expected 1 or more, such as 8.")
        self.down = nn.Linear(base.out_features, size)
        self.up = nn.Linear(size, base.out_features)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)
        self.to(base.weight.device, base.weight.dtype)

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) to (..., out)."""
        hidden = self.base(x)
        return hidden + self.up(F.gelu(self.down(hidden)))


def add(model: nn.Module, names: Names, *, size: int = 8) -> list[str]:
    """Put a bottleneck behind each named linear layer.

    Args:
        model: any model.
        names: linear layers, modules that hold some, or patterns.
        size: width of each bottleneck.

    Returns:
        The names of the new parts, to be trained.

    Raises:
        UnknownNameError, StrategyError: nothing has been changed.
    """
    return wrap(model, names, (nn.Linear,), lambda base: Adapter(base, size))
