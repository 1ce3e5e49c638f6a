"""Make weights fit another input: other channels, or a picture with more or fewer patches.

What may be adapted is decided by a tensor's role, which is that of its module, never by its shape
alone.
"""

import re
from math import isqrt
from typing import TypeAlias

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.modules.conv import _ConvNd

from course_lib.weights.errors import LoadError
from course_lib.weights.loading.model_tensors import ModelTensors

Grid: TypeAlias = tuple[int, int]
Grids: TypeAlias = bool | Grid | tuple[Grid, Grid]

_POSITION = re.compile(
    r"(^|[._])(abs_)?pos(ition(al)?)?_?(s|emb\w*|encoding\w*)$|position_embedding"
)


def is_position_embedding(name: str, old: tuple[int, ...], new: tuple[int, ...]) -> bool:
    """Whether a mismatch looks like position embeddings of another number of positions.

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
    )


def grids(into: ModelTensors, name: str, old: int, new: int, given: Grids) -> tuple[Grid, Grid]:
    """The grids of patches, (rows, columns), in the file and in the model.

    The model's is read from the module that cuts its pictures into patches. The file doesn't tell
    its own; a square is assumed, as in timm, unless it was given.

    Args:
        into: the model.
        name: of the position embeddings.
        old: number of positions in the file.
        new: number of positions in the model.
        given: True, the file's grid, or the file's and the model's.

    Raises:
        LoadError: a grid isn't known, or doesn't fit the number of positions.
    """
    theirs, ours = None, None
    if not isinstance(given, bool):
        theirs, ours = given if isinstance(given[0], tuple) else (given, None)
    ours = ours or grid_of(into, name)
    if min(*(theirs or (1,)), *(ours or (1,))) < 1:
        raise LoadError(f"resize_positions={given!r}: a grid has a row and a column at least.")
    hint = "Say them: resize_positions=((rows, columns) in the file, (rows, columns) in the model)."
    if ours is None:
        raise LoadError(
            f"{name!r} has {old} positions in the file and {new} in the model, and nothing in the "
            f"model tells how they lie on a picture; a text has no grid at all. {hint}"
        )
    others = new - ours[0] * ours[1]  # class token, distillation token
    if theirs is None and isqrt(max(old - others, 0)) ** 2 == old - others > 0:
        theirs = (isqrt(old - others),) * 2
    if theirs is None or others < 0 or old - theirs[0] * theirs[1] != others:
        told = "no square" if theirs is None else f"not those of {theirs[0]} x {theirs[1]} patches"
        raise LoadError(
            f"{name!r}: the {old} positions in the file are {told}, beside {max(others, 0)} that "
            f"are no patches; the model has {new} for {ours[0]} x {ours[1]} patches. {hint}"
        )
    return theirs, ours


def grid_of(into: ModelTensors, name: str) -> Grid | None:
    """How many rows and columns of patches the model has that a position embedding belongs to."""
    shape = into.shapes.get(name)
    parts = name.split(".")[:-1]
    for end in range(len(parts), -1, -1):
        above = into.modules.get(".".join(parts[:end]))
        if above is None:
            continue
        for module in (above, *above.children()):
            grid = _grid(module)
            if grid and shape and 0 <= shape[-2] - grid[0] * grid[1] <= 8:
                return grid
    return None


def _grid(module: nn.Module) -> Grid | None:
    grid = getattr(module, "grid_size", None)
    size = next((each for each in ("image_size", "img_size") if hasattr(module, each)), "")
    if grid is None and size and hasattr(module, "patch_size"):
        picture, patch = (_two(getattr(module, each)) for each in (size, "patch_size"))
        if picture and patch and all(patch):
            grid = (picture[0] // patch[0], picture[1] // patch[1])
    return _two(grid)


def _two(size: object) -> Grid | None:
    if isinstance(size, int) and not isinstance(size, bool):
        return (size, size)
    if isinstance(size, tuple | list) and len(size) == 2 and all(type(n) is int for n in size):
        return (size[0], size[1])
    return None


def resize_positions(embedding: torch.Tensor, old: Grid, new: Grid) -> torch.Tensor:
    """Position embeddings for another number of patches, by bicubic interpolation of the grid.

    Args:
        embedding: shape (1, N, D) or (N, D): p other tokens, then the patches row by row.
        old: rows and columns of patches, N - p of them.
        new: the same for the result.

    Returns:
        Shape (1, M, D) or (M, D) with M = p + the new patches; the p are kept as they are.

    Source: Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021, section 3.2.
    """
    *lead, tokens, width = embedding.shape
    flat = embedding.reshape(tokens, width)
    extra = tokens - old[0] * old[1]
    grid = flat[extra:].float().reshape(1, *old, width).permute(0, 3, 1, 2)
    grid = F.interpolate(grid, size=new, mode="bicubic", antialias=True, align_corners=False)
    patches = grid.permute(0, 2, 3, 1).reshape(-1, width).to(embedding.dtype)
    whole = torch.cat([flat[:extra], patches])
    return whole.reshape(*lead, len(whole), width)


def fits_input(into: ModelTensors, name: str, old: tuple[int, ...], new: tuple[int, ...]) -> bool:
    """Whether a tensor is the kernels of the model's first convolution, for other channels.

    Args:
        into: the model.
        name: of the tensor.
        old: shape in the file, (out, channels, height, width) or with one or three sizes.
        new: shape in the model.
    """
    module = into.owner(name)
    if not isinstance(module, _ConvNd) or module.transposed or name.rpartition(".")[2] != "weight":
        return False
    first = next(each for each in into.modules.values() if isinstance(each, _ConvNd))
    return (
        module.groups == 1
        and len(old) == len(new)
        and (old[0], *old[2:]) == (new[0], *new[2:])
        and 0 < old[1] != new[1]
        and (module is first or old[1] == 3)
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
    if weight.dtype.itemsize == 1:  # torch can't sum these up
        weight = weight.float()
    if channels == 1:
        return weight.sum(dim=1, keepdim=True)
    if how == "zeros" and channels > old:
        zeros = weight.new_zeros((weight.shape[0], channels - old, *weight.shape[2:]))
        return torch.cat([weight, zeros], dim=1)
    turns = [channel % old for channel in range(channels)]
    return weight[:, turns] * (old / channels)
