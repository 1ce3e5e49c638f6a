"""Weights of another framework: the same numbers with their axes in another order.

PyTorch keeps a convolution's kernels as (out, in, height, width) and a linear layer's matrix as
(out, in). TensorFlow, Keras and JAX keep (height, width, in, out) and (in, out), because their
pictures are (height, width, channels). Names differ as well. Which axes to move is decided by the
layer that receives the numbers, never by guessing from shapes.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

from course_lib.errors import suggest
from course_lib.weights.errors import LoadError
from course_lib.weights.matching.match import Rename, renaming

_CONV = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_CONV_TRANSPOSE = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_PLAIN = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm, nn.Embedding, nn.PReLU)


def to_torch_layout(
    arrays: Mapping[str, "np.ndarray | torch.Tensor"],
    model: nn.Module,
    names: Rename | None = None,
    flattened: Mapping[str, tuple[int, int, int]] | None = None,
) -> dict[str, torch.Tensor]:
    """Arrays with channels last, as a state dict with the model's names and axes.

    Args:
        arrays: the other framework's name -> array: convolutions (height, width, in, out),
            depthwise ones (height, width, channels, multiplier), transposed ones (height, width,
            out, in), dense layers (in, out), all else as in PyTorch. An ``.npz`` file comes
            so from ``read_checkpoint(path).tensors``.
        model: the one that gets them.
        names: their names -> the model's: a dictionary, the name of a table, or a function.
            None if they agree.
        flattened: dense layers that see flattened pictures: module name -> (channels, height,
            width) of the picture. The other framework flattens it with the channels last, so the
            rows of the matrix have another order.

    Returns:
        Model name -> tensor: for :func:`load_weights`. Check equal outputs: weights don't say how
        a framework pads, nor the epsilon of its normalisation (Keras: 0.001, PyTorch: 0.00001).

    Raises:
        LoadError: a name leads nowhere, a shape doesn't fit, or a layer's axes aren't known here.
        UnknownNameError: there is no name table ``names``.
    """
    change = renaming({} if names is None else names)
    shapes = {name: tuple(each.shape) for name, each in model.state_dict().items()}
    modules = dict(model.named_modules())
    result: dict[str, torch.Tensor] = {}
    for source, array in arrays.items():
        name = change(source)
        if name is None:
            continue
        if name not in shapes:
            raise LoadError(
                f"{source!r} becomes {name!r}, which the model doesn't have.{suggest(name, shapes)}"
            )
        if name in result:
            raise LoadError(f"Two arrays become {name!r}; {source!r} is the second.")
        tensor = array if isinstance(array, torch.Tensor) else torch.from_numpy(np.array(array))
        owner, _, kind = name.rpartition(".")
        moved = _move_axes(modules[owner], kind, tensor, name, (flattened or {}).get(owner))
        if tuple(moved.shape) != shapes[name]:
            raise LoadError(
                f"{source!r} has shape {tuple(tensor.shape)}, which becomes {tuple(moved.shape)} "
                f"for {name!r}; the model has {shapes[name]}."
            )
        result[name] = moved.contiguous()
    return {name: result[name] for name in shapes if name in result}


def _move_axes(
    module: nn.Module, kind: str, tensor: torch.Tensor, name: str, picture: tuple[int, ...] | None
) -> torch.Tensor:
    """One array in PyTorch's order of axes."""
    if kind != "weight" or tensor.dim() < 2 or isinstance(module, _PLAIN):
        if kind in ("weight", "bias") or isinstance(module, _PLAIN):
            return tensor
    elif isinstance(module, _CONV):
        return _convolution(module, tensor)
    elif isinstance(module, _CONV_TRANSPOSE):
        if module.groups == 1:
            return tensor.permute(-1, -2, *range(tensor.dim() - 2))
    elif isinstance(module, nn.Linear):
        if picture is not None:
            channels, height, width = picture
            rows = tensor.reshape(height, width, channels, -1).permute(2, 0, 1, 3)
            tensor = rows.reshape(tensor.shape)
        return tensor.t()
    raise LoadError(
        f"{name!r} belongs to a {type(module).__name__}, whose axes in other frameworks aren't "
        "known here. Convert this array yourself and add it to the result."
    )


def _convolution(module: nn.Module, kernel: torch.Tensor) -> torch.Tensor:
    groups = int(getattr(module, "groups", 1))
    spatial = range(kernel.dim() - 2)
    depthwise = groups > 1 and kernel.shape[-2] == groups
    if depthwise:  # (..., channels, multiplier) -> (channels * multiplier, 1, ...)
        moved = kernel.permute(-2, -1, *spatial)
        return moved.reshape(-1, 1, *kernel.shape[:-2])
    return kernel.permute(-1, -2, *spatial)
