"""Prompt tokens: a few learned vectors beside the tokens of the picture, the network frozen.

Only the attention sees them: the other tokens read them as they read each other. They stand in
front of the first block ("shallow" in the paper), behind the picture's own tokens, so that the
place of the class token stays what it was.

Source: M. Jia et al.: Visual Prompt Tuning, ECCV 2022, arXiv:2203.12119.
"""

import torch
from torch import Tensor, nn

from course_lib.freezing.select import Names
from course_lib.strategies.inserts import Insert, StrategyError, wrap


class Prompts(Insert):
    """A layer that gives tokens, with learned tokens added to them.

    Args:
        base: gives tokens (B, T, width).
        count: how many to add.
        width: of a token.

    Raises:
        StrategyError: there is nothing to add.
    """

    NEW = ("tokens",)

    def __init__(self, base: nn.Module, count: int, width: int) -> None:
        super().__init__(base)
        if count < 1 or width < 1:
            raise StrategyError(f"{count} tokens of width {width}; expected 1 or more of each.")
        self.tokens = nn.Parameter(0.02 * torch.randn(count, width))

    def forward(self, x: Tensor) -> Tensor:
        """The base's tokens (B, T, width), then the learned ones: (B, T + count, width)."""
        seen = self.base(x)
        return torch.cat([seen, self.tokens.to(seen.dtype).expand(len(seen), -1, -1)], dim=1)


def add(model: nn.Module, name: Names, *, count: int = 4, width: int) -> list[str]:
    """Add learned tokens behind the layer of that name.

    Args:
        model: a transformer that reads its answer from the class token, not from a mean of tokens.
        name: the layer whose output enters the first block; ``"norm_pre"`` in timm's transformers.
        count: how many tokens.
        width: of a token; ``model.embed_dim`` there.

    Returns:
        The name of the new tokens, to be trained.

    Raises:
        UnknownNameError, StrategyError: nothing has been changed.
    """
    device = next((each.device for each in model.parameters()), None)
    return wrap(model, name, (nn.Module,), lambda base: Prompts(base, count, width).to(device))
