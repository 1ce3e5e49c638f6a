"""Take what a layer gives while a network computes, without changing the network."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import Tensor, nn

from course_lib import backbones
from course_lib.backbones.maps import Layout, channel_axis, survey
from course_lib.errors import UnknownNameError, suggest
from course_lib.features.containers import FeaturesError
from course_lib.freezing.report import normalises_by_batch
from course_lib.text import few

BEFORE_HEAD = "before the head"


class _ReachedError(Exception):
    """The layer has given its output; the rest of the network needn't be computed."""


class Tap:
    """Collects one layer's output, or the head's input.

    Args:
        model: the network.
        layer: dotted name of a module, or None for what enters the head.

    Raises:
        UnknownNameError: no such module.
        HeadError: ``layer`` is None and the head can't be told for certain.
    """

    def __init__(self, model: nn.Module, layer: str | None) -> None:
        self.model, self.layer = model, layer
        self.name = layer if layer is not None else BEFORE_HEAD
        self.at_input = layer is None
        name = backbones.head_name(model) if layer is None else layer
        modules = dict(model.named_modules())
        if name not in modules:
            direct = ", ".join(repr(each) for each, _ in model.named_children())
            raise UnknownNameError(
                f"The model has no layer {name!r}.{suggest(name, modules)} Its direct children are "
                f"{direct or 'none'}."
            )
        self.module = modules[name]
        self.caught: list[Tensor] = []
        self.known_to_be_called_once = False

    @contextmanager
    def open(self) -> Iterator[None]:
        """While it is open, running the model fills the tap; afterwards the hook is gone."""
        if self.at_input:
            # First of all hooks, as what enters the head is what the layer before it gave.
            handle = self.module.register_forward_pre_hook(
                lambda _, inputs: self._catch(inputs[0] if inputs else None), prepend=True
            )
        else:
            handle = self.module.register_forward_hook(lambda _, __, output: self._catch(output))
        try:
            yield
        finally:
            handle.remove()

    def take(self, images: Tensor) -> Tensor:
        """The layer's output for a batch (B, ...), of whatever shape it has.

        The first time the whole network is run, to be sure that the layer is used exactly once;
        from then on it stops as soon as the layer has given its output.

        Raises:
            FeaturesError: the layer isn't used, or more than once; or a BatchNorm without running
                statistics got one value a channel.
        """
        if not self._run(images):
            raise FeaturesError(
                f"BatchNorm without running statistics can't normalise a batch of {len(images)}: "
                "it has one value a channel. Take a network that normalises by running statistics."
            )
        if len(self.caught) != 1:
            times = f"{len(self.caught)} times" if self.caught else "not at all"
            raise FeaturesError(
                f"The layer {self.name!r} is used {times} for one batch; expected once. Name a "
                "layer around it, or another one."
            )
        self.known_to_be_called_once = True
        return self.caught.pop()

    def check_neighbours(self, images: Tensor, found: Tensor) -> None:
        """See that a picture's output is its own: compute some with fewer others around them.

        Args:
            images: a batch (B, ...) of two or more.
            found: what :meth:`take` gave for it, (B, ...).

        Raises:
            FeaturesError: they differ by more than rounding.
        """
        count = 1 if len(images) < 4 else 2
        told = "one alone can't be computed"
        if self._run(images[:count]):
            apart = (self.caught.pop() - found[:count]).abs().max().item()
            scale = found.abs().max().item()
            if not apart > _slack(self.model, found) * scale:  # so nan is left to be found later
                return
            told = (
                f"they change by {apart:.2g} (the largest is {scale:.2g}) between {len(images)} at "
                f"once and {count}"
            )
        way = ", or batch_size=1, where each picture is normalised by itself"
        norms = [name for name, each in self.model.named_modules() if normalises_by_batch(each)]
        cause = f" {few(norms)}: BatchNorm without running statistics." if norms else ""
        raise FeaturesError(
            f"The features of a picture hang on the others in its batch: {told}.{cause} Kept, they "
            "would be those of one order of the data. Take a network that normalises by running "
            f"statistics{way if self._run(images[:1]) else ''}."
        )

    def _run(self, images: Tensor) -> bool:
        """Run the network; False where BatchNorm finds a single value in each channel."""
        self.caught.clear()
        try:
            with suppress(_ReachedError):
                self.model(images)
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            return False
        return True

    def _catch(self, value: Any) -> None:
        if not isinstance(value, Tensor):
            raise FeaturesError(
                f"The layer {self.name!r} gives a {type(value).__name__}; expected a tensor. Name "
                "a layer inside it."
            )
        # A copy: the next layer may work in place, as ReLU(inplace=True) does.
        self.caught.append(value.detach().clone())
        if self.known_to_be_called_once:
            raise _ReachedError


def _slack(model: nn.Module, found: Tensor) -> float:
    """What other batch sizes may change by rounding: another order of sums, on a GPU also TF32."""
    kinds = (each.dtype for each in model.parameters() if each.is_floating_point())
    precision = max((torch.finfo(kind).eps for kind in kinds), default=0.0)
    return max(precision**0.5, 1e-3 if found.device.type == "cpu" else 2e-2)


def layout_for(tap: Tap, images: Tensor, values: Tensor) -> Layout | None:
    """How to average what a layer gave for images; None where there is nothing to average.

    Args:
        tap: the layer, its network in evaluation mode.
        images: (B, ...), what went in.
        values: what the layer gave for them.

    Raises:
        FeaturesError: a shape that can't be averaged, or one whose channels can't be told.
    """
    if values.ndim <= 2:
        return None
    if values.ndim > 4:
        raise FeaturesError(
            f"The layer {tap.name!r} gives the shape {tuple(values.shape)}, and averaging is for "
            "maps and tokens. Keep it with pool=None."
        )
    if tap.at_input:  # what a head takes, its kind tells
        axis = channel_axis(tap.module)
    elif (axis := channel_axis(tap.module)) is None:
        found = survey(tap.model, images, only=tap.layer, stop=True).layouts.get(tap.name)
        if found is not None:
            return found
        if values.ndim == 4 and values.shape[2:] == (1, 1):
            axis = 1
    if axis is None:
        raise FeaturesError(
            f"The layer {tap.name!r} gives the shape {tuple(values.shape)}, and which of its axes "
            "are places can't be told from how it reacts to a change in the picture. Name a layer "
            "next to it, or keep all with pool=None and average them yourself."
        )
    return Layout(axis, None)


def pooled(values: Tensor, layout: Layout | None, layer: str) -> Tensor:
    """One row a picture: maps and tokens are averaged over their places, (B, C).

    Without a layout they are kept as they are.

    Raises:
        FeaturesError: not a row a picture.
    """
    if values.ndim < 2:
        raise FeaturesError(
            f"The layer {layer!r} gives the shape {tuple(values.shape)}; expected a row a picture."
        )
    values = values.to(torch.float32)
    return values if layout is None else layout.average(values)
