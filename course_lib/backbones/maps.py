"""Where the places of a picture are in what a layer gives.

A shape alone doesn't tell: (1, 7, 7, 768) is a map of 7 x 7 places with its channels last in a Swin
transformer, and 7 channels of 7 x 768 places nowhere. So it is measured. A part of a noise picture
is changed, and an axis that counts rows is one along which the change moves when that part moves
from the top to the bottom. Along an axis of channels it moves nowhere. The same for columns.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

#: How far a change must move to be seen moving, as a share of the axis. Where rows are rows, it is
#: 0.013 (MaxViT, untrained) to 0.5; along an axis of channels it is 0.007 at most.
CLEAR = 0.01
#: In a map a change moves as far along the rows as along the columns, or nearly so. In a table of
#: tokens against channels or tokens against tokens it doesn't.
EVEN = 0.2
#: Where the kind tells the axis of the channels, a map that moves less is believed; of a picture's
#: tokens, a sequence without a grid, or channels that come first, only if it moves more.
TOLD, LINES = CLEAR / 4, 4 * CLEAR
DRAWS = 2  # noise pictures whose changes are averaged

#: Layers that have one layout only, whatever is measured. ``Linear`` and a plain ``LayerNorm`` work
#: on the last axis; torchvision's and timm's ``LayerNorm2d`` are other classes.
CHANNELS_FIRST = (
    nn.Conv1d, nn.Conv2d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.BatchNorm1d, nn.BatchNorm2d,
    nn.MaxPool1d, nn.MaxPool2d, nn.AvgPool1d, nn.AvgPool2d, nn.AdaptiveAvgPool1d,
    nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.InstanceNorm1d,
    nn.InstanceNorm2d, nn.GroupNorm, nn.Dropout1d, nn.Dropout2d,
)  # fmt: skip
CHANNELS_LAST = (nn.Linear, nn.Embedding, nn.RMSNorm)


@dataclass(frozen=True)
class Layout:
    """How to read what a layer gives for a batch of B pictures.

    Attributes:
        channels: the axis of the channels: 1 for (B, C, H, W) and (B, C, T), -1 for (B, H, W, C)
            and (B, T, C).
        grid: rows and columns (H, W) of the places; None for a sequence without a known grid.
        prefixes: tokens before the grid, such as a class token.
        suffixes: tokens after it.
    """

    channels: int
    grid: tuple[int, int] | None
    prefixes: int = 0
    suffixes: int = 0

    def to_map(self, values: Tensor) -> Tensor:
        """What the layer gave, as a map (B, C, H, W), without the tokens that have no place."""
        assert self.grid is not None
        first = _first(self.channels, values)
        if first.ndim == 4:
            return first
        places = first[:, :, self.prefixes : first.shape[2] - self.suffixes]
        return places.unflatten(2, self.grid)

    def average(self, values: Tensor) -> Tensor:
        """The mean over places and tokens, (B, C)."""
        first = _first(self.channels, values)
        return first.flatten(2).mean(dim=2)


class _SeenError(Exception):
    """The layer was seen; the rest of the network needn't be computed."""


@dataclass(eq=False)
class Survey:
    """What a run of a network on changed noise shows about its layers.

    Attributes:
        layouts: of each module that gives a tensor with places, by name, in the order in which the
            modules finish; of one that is used several times, the last time.
        repeats: names of modules that hand on another one's tensor as it is.
        blind: names of modules whose tensor has the shape of a map, and no places to be seen.
    """

    layouts: dict[str, Layout] = field(default_factory=dict)
    repeats: set[str] = field(default_factory=set)
    blind: set[str] = field(default_factory=set)


def survey(model: nn.Module, images: Tensor, only: str | None = None, stop: bool = False) -> Survey:
    """Measure the layout of a network's layers.

    Args:
        model: computes as it is set, without gradients; put it into evaluation mode before.
        images: (B, 3, H, W), or whatever else the network takes; only their shape, type and device
            count, and the range of whole numbers.
        only: the name of one module; by default all.
        stop: compute no further once that module was used.
    """
    parts = _parts(images)
    found, sight = Survey(), _Sight(len(parts), images.shape[2:] if images.ndim == 4 else None)
    last: list[tuple[Tensor, int] | None] = [None]

    def watch(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, _: Any, output: Any) -> None:
            if not isinstance(output, Tensor):
                return
            sight.notice(output)
            if only is not None and name != only:
                return
            found.layouts.pop(name, None)
            found.repeats.discard(name)
            found.blind.discard(name)
            layout = sight.layout(module, output)
            if sight.unclear and (layout is None or layout.grid is None):
                found.blind.add(name)
            if layout is not None:
                found.layouts[name] = layout
            if stop:
                raise _SeenError
            before, last[0] = last[0], (output, output._version)
            if before and before[0] is output and before[1] == output._version:
                found.repeats.add(name)

        return hook

    def enter(_: nn.Module, inputs: Any) -> None:
        for each in inputs:
            if isinstance(each, Tensor):
                sight.notice(each)

    handles = []
    for name, module in model.named_modules():
        if name:
            handles.append(module.register_forward_pre_hook(enter))
            handles.append(module.register_forward_hook(watch(name)))
    try:
        with torch.no_grad(), suppress(_SeenError):
            model(_probes(images, parts))
    finally:
        for handle in handles:
            handle.remove()
    return found


def _parts(images: Tensor) -> list[tuple[Any, ...]]:
    """The parts of a picture (3, H, W) that are changed: top, bottom, left, right.

    Of anything else than a picture, the first and the last half of its last axis.
    """
    half = images.shape[-1] // 2
    sides: list[tuple[Any, ...]] = [(..., slice(half)), (..., slice(half, None))]
    if images.ndim != 4:
        return sides
    half = images.shape[2] // 2
    return [(..., rows, slice(None)) for rows in (slice(half), slice(half, None))] + sides


def _probes(images: Tensor, parts: list[tuple[slice, ...]]) -> Tensor:
    """For each draw a noise picture, and the same with each part drawn anew: (N, 3, H, W)."""
    stream = torch.Generator().manual_seed(0)
    made = []
    for _ in range(DRAWS):
        base, other = (_noise(images, stream) for _ in range(2))
        made.append(base)
        for part in parts:
            changed = base.clone()
            changed[part] = other[part]
            made.append(changed)
    return torch.stack(made)


def noise(images: Tensor) -> Tensor:
    """One noise picture (1, 3, H, W) of the images' shape, type and device."""
    return _noise(images, torch.Generator().manual_seed(0))[None]


def _noise(images: Tensor, stream: torch.Generator) -> Tensor:
    shape = images.shape[1:]
    if images.is_floating_point():
        return torch.randn(shape, generator=stream).to(images.device, images.dtype)
    values = images.flatten()
    return values[torch.randint(len(values), shape, generator=stream).to(images.device)]


class _Sight:
    """Judges tensors of a run on :func:`_probes`.

    Args:
        parts: how many parts are changed in turn.
        size: (H, W) of the pictures, None for other inputs.
    """

    def __init__(self, parts: int, size: torch.Size | None) -> None:
        self.parts, self.size = parts, size
        self.grids: list[tuple[int, int]] = []  # seen so far
        self.still: dict[int, tuple[int, int]] = {}  # tokens -> those before and after the grid
        self.unclear = False  # whether the last module's output has the shape of a map, no more

    def notice(self, values: Tensor) -> None:
        """Remember grids, and the tokens that don't depend on the picture where they join.

        They are told apart before the first attention, after which everything depends on all.
        """
        if len(values) != DRAWS * (self.parts + 1) or values.ndim not in (3, 4):
            return
        if values.ndim == 4:
            _, first, second, third = values.shape
            self.grids += [grid for grid in ((second, third), (first, second)) if self._fits(grid)]
            return
        if values.shape[1] in self.still or not values.is_floating_point():
            return
        moved = (self._changes(values).flatten(0, 1) != 0).any(dim=2).any(dim=0)
        places = moved.nonzero().flatten().tolist()
        if places and places[-1] - places[0] + 1 == len(places):
            self.still[values.shape[1]] = (places[0], len(moved) - 1 - places[-1])

    def layout(self, module: nn.Module, values: Tensor) -> Layout | None:
        """The layout of what a module gave, None where there are no places to be seen."""
        self.unclear = False
        if len(values) != DRAWS * (self.parts + 1) or not values.is_floating_point():
            return None
        if values.ndim == 4:
            return self._of_map(module, values)
        return self._of_tokens(module, values) if values.ndim == 3 else None

    def _of_map(self, module: nn.Module, values: Tensor) -> Layout | None:
        choices = []
        for channels in (1, -1):
            rows, columns = _first(channels, values).shape[2:]
            if channels == channel_axis(module) and min(rows, columns) > 1:
                self.grids.append((rows, columns))  # of whatever strides
            if self._fits((rows, columns)):
                choices.append(Layout(channels, (rows, columns)))
        return self._clearest(choices, module, values)

    def _of_tokens(self, module: nn.Module, values: Tensor) -> Layout | None:
        choices = []
        for channels in (-1, 1):
            count = values.shape[1 if channels == -1 else 2]
            before, after = self.still.get(count, (0, 0))
            for grid in self._grids(count - before - after):
                choices.append(Layout(channels, grid, before, after))
        lines = [Layout(-1, None), Layout(1, None)]
        return self._clearest(choices, module, values) or self._clearest(lines, module, values)

    def _clearest(self, choices: list[Layout], module: nn.Module, values: Tensor) -> Layout | None:
        """The layout along which changes move the clearest, if they do.

        Of a layer that nothing reaches, such as one after a dead ReLU, the kind alone tells.
        """
        told = channel_axis(module)
        choices = [each for each in choices if told in (None, each.channels)]
        if not choices:
            return None
        changes = self._changes(values)
        if told and not changes.any():
            return choices[0]
        clarity, place = max(
            (self._clarity(each, changes), -place) for place, each in enumerate(choices)
        )
        best = choices[-place]
        least = TOLD if told and values.ndim == 4 else CLEAR
        if self.size and values.ndim == 3 and (best.grid is None or best.channels == 1):
            least = LINES
        self.unclear = self.unclear or (best.grid is not None and clarity <= least)
        return best if clarity > least else None

    def _fits(self, grid: tuple[int, int]) -> bool:
        """Whether a map of that size can be one of the picture: as wide for its height."""
        if grid in self.grids:
            return True
        if self.size is None or min(grid) < 2:
            return False
        rows, columns = (of / n for of, n in zip(self.size, grid, strict=True))  # pixels a place
        return abs(rows - columns) <= max(rows / grid[1], columns / grid[0])

    def _grids(self, places: int) -> Iterator[tuple[int, int]]:
        """Grids with that many places: those seen before, and one of square patches."""
        known = [grid for grid in self.grids if math.prod(grid) == places]
        if self.size is not None:
            rows = round(math.sqrt(places * self.size[0] / self.size[1]))
            if rows > 1 and places % rows == 0 and places // rows > 1:
                known.append((rows, places // rows))
        yield from dict.fromkeys(known)

    def _changes(self, values: Tensor) -> Tensor:
        """What changing each part changed: (parts, DRAWS, ...)."""
        drawn = values.float().unflatten(0, (DRAWS, self.parts + 1))
        return (drawn[:, 1:] - drawn[:, :1]).transpose(0, 1)

    def _clarity(self, layout: Layout, changes: Tensor) -> float:
        """How clearly a change moves with the part, read so: of rows and columns the lesser."""
        places = _first(layout.channels, changes.flatten(0, 1))
        if layout.grid is not None:
            places = layout.to_map(changes.flatten(0, 1))
        shares = _shares(places.abs().mean(dim=1).unflatten(0, changes.shape[:2]))
        if layout.grid is None:
            return _moved(shares[1] - shares[0])
        top, bottom, left, right = shares
        ways = _moved((bottom - top).sum(dim=2)), _moved((right - left).sum(dim=1))
        return min(ways) if min(ways) > EVEN * max(ways) else 0.0


def _first(channels: int, values: Tensor) -> Tensor:
    return values if channels == 1 else values.movedim(-1, 1)


def _shares(changes: Tensor) -> Tensor:
    """Each part's and draw's change as shares of its sum; zeros where there is none."""
    sums = changes.flatten(2).sum(dim=2).reshape(*changes.shape[:2], *[1] * (changes.ndim - 2))
    shares = changes / sums.clamp_min(1e-30)
    return torch.where(shares.isfinite(), shares, 0)


def _moved(difference: Tensor) -> float:
    """How far the middle of a change moved, as a share of the axis, from (DRAWS, n)."""
    along = torch.linspace(-0.5, 0.5, difference.shape[1], device=difference.device)
    return float((difference * along).sum(dim=1).mean())


def channel_axis(module: nn.Module) -> int | None:
    """The axis of the channels, for a kind of layer that has only one; None for another kind."""
    if isinstance(module, CHANNELS_FIRST):
        return 1
    plain = type(module) is nn.LayerNorm and len(module.normalized_shape) == 1
    return -1 if plain or isinstance(module, CHANNELS_LAST) else None
