"""Make weights fit another input: other channels, or a picture with more or fewer patches."""

import re
from math import isqrt

import torch
from torch.nn import functional as F

_POSITION = re.compile(
    r"(^|[._])(abs_)?pos(ition(al)?)?_?(s|emb\w*|encoding\w*)$|position_embedding"
)


def is_position_embedding(name: str, old: tuple[int, ...], new: tuple[int, ...]) -> bool:
    """Whether a mismatch looks like position embeddings of another number of patches.

    Args:
        name: the tensor's name.
        old: shape in the file, (1, N, D) or (N, D).
        new: shape in the model, the same with another N.
    """
    return (
        bool(_POSITION.search(name.removesuffix(".weight")))
        and len(old) == len(new)
        and len(old) in (2, 3)
        and old[-1] == new[-1]
        and old[:-2] == new[:-2]
        and prefix_tokens(old[-2], new[-2]) is not None
    )


def prefix_tokens(old: int, new: int) -> int | None:
    """How many of ``old`` and ``new`` tokens are no patches (class token, distillation token).

    The rest must be square grids; None if no number up to 2 makes them so.
    """
    for extra in (1, 0, 2):
        grids = [count - extra for count in (old, new)]
        if min(grids) > 0 and all(isqrt(count) ** 2 == count for count in grids):
            return extra
    return None


def resize_positions(embedding: torch.Tensor, count: int) -> torch.Tensor:
    """Position embeddings for another number of patches, by bicubic interpolation of the grid.

    Args:
        embedding: shape (1, N, D) or (N, D): N - p patches of a square grid, after p other tokens.
        count: the new N.

    Returns:
        Shape (1, count, D) or (count, D); the p other tokens are kept as they are.

    Raises:
        ValueError: N - p and count - p are no two square numbers for any p up to 2.

    Source: Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021, section 3.2.
    """
    *lead, tokens, width = embedding.shape
    extra = prefix_tokens(tokens, count)
    if extra is None:
        raise ValueError(f"{tokens} and {count} tokens are no square grids of patches")
    flat = embedding.reshape(tokens, width)
    old, new = isqrt(tokens - extra), isqrt(count - extra)
    grid = flat[extra:].float().reshape(1, old, old, width).permute(0, 3, 1, 2)
    grid = F.interpolate(grid, size=(new, new), mode="bicubic", antialias=True, align_corners=False)
    patches = grid.permute(0, 2, 3, 1).reshape(new * new, width).to(embedding.dtype)
    return torch.cat([flat[:extra], patches]).reshape(*lead, count, width)


def fits_input(old: tuple[int, ...], new: tuple[int, ...]) -> bool:
    """Whether two shapes differ in the input channels of a convolution and in nothing else.

    Args:
        old: shape in the file, (out, channels, height, width) or with one or three sizes.
        new: shape in the model.
    """
    return (
        len(old) == len(new) >= 3 and old[0] == new[0] and old[2:] == new[2:] and old[1] != new[1]
    )


def input_channels(weight: torch.Tensor, channels: int, how: str) -> torch.Tensor:
    """The first convolution's weight for another number of input channels.

    Args:
        weight: shape (out, C, ...).
        channels: the new C.
        how: ``"repeat"``: the kernels in turn, scaled by C / channels, so that the sum over equal
            channels stays the same; ``"zeros"``: the kernels as they are, and zero for further
            channels, so that at first these don't count.

    Returns:
        Shape (out, channels, ...). For one channel, both give the sum over the channels: a grey
        picture then has the same outputs as its three-channel copy.
    """
    old = weight.shape[1]
    if channels == 1:
        return weight.sum(dim=1, keepdim=True)
    if how == "zeros" and channels > old:
        zeros = weight.new_zeros((weight.shape[0], channels - old, *weight.shape[2:]))
        return torch.cat([weight, zeros], dim=1)
    turns = [channel % old for channel in range(channels)]
    return weight[:, turns] * (old / channels)
