"""Where a network looks: Grad-CAM over its last feature map."""

from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import Any

import torch
from torch import Tensor, nn

from course_lib.backbones import HeadError, head_name
from course_lib.backbones.maps import Layout, noise, survey
from course_lib.errors import CourseError, UnknownNameError, suggest
from course_lib.training.evaluation import evaluation_mode, model_device

NORMS = (nn.LayerNorm, nn.RMSNorm, nn.modules.batchnorm._BatchNorm, nn.GroupNorm)


class HeatmapError(CourseError, ValueError):
    """No heat map can be made from this model and these pictures."""


def last_feature_map(model: nn.Module, images: Tensor) -> str:
    """The dotted name of the layer that gives the last map on which the scores depend.

    Of a transformer's tokens it is the last normalisation: in one that reads its scores off a class
    token, the one before the last attention, after which no other token counts.

    Args:
        model: run on noise of the images' shape and on the first image, in inference mode; its
            modes are put back.
        images: (B, 3, H, W).

    Raises:
        HeatmapError: no layer gives a map, or images and model are none.
    """
    images = _checked(model, images)
    with evaluation_mode(model):
        return _last(model, images)[0]


def grad_cam(
    model: nn.Module, images: Tensor, target: int | Tensor, layer: str | None = None
) -> Tensor:
    """How much each place of a picture speaks for a class.

    Each channel of the layer's map is weighed by the mean gradient of the class's score; the
    weighted maps are added, what is negative is dropped, and the result is enlarged to the
    picture's size and scaled so that the strongest place is 1 (Selvaraju et al., Grad-CAM, ICCV
    2017, arXiv:1610.02391). All zeros mean that no place speaks for the class.

    Where places and channels are in the layer's output is measured
    (:mod:`course_lib.backbones.maps`): maps with the channels first or last, and tokens on a grid.

    Args:
        model: gives scores (B, C). It computes as in inference and is left as it was.
        images: (B, 3, H, W), preprocessed.
        target: the class, one for all pictures or a tensor (B,).
        layer: dotted name; by default :func:`last_feature_map`. Of one that is used several times,
            the last output counts.

    Returns:
        Strengths from 0 to 1, shape (B, H, W), float32.

    Raises:
        UnknownNameError: no layer of that name.
        HeatmapError: no map in the layer or the model; images, classes or scores of another kind;
            a call under ``torch.inference_mode()``.
    """
    images = _checked(model, images)
    if layer is not None:
        _check_name(model, layer)
    with evaluation_mode(model):
        if layer is None:
            layer, layout = _last(model, images)
        else:
            layout = _layout_of(model, images, layer)
        caught = _Caught()
        with torch.enable_grad(), caught.watch(model, [layer]):
            scores = _scores(model, images)
            chosen = scores.gather(1, _targets(target, scores)[:, None]).sum()
            values = caught.outputs[layer]
            (slope,) = torch.autograd.grad(chosen, [values], allow_unused=True)
    if slope is None:
        raise HeatmapError(
            f"The scores don't depend on what the layer {layer!r} gives, so it has no heat map. "
            "Name another one with layer=..."
        )
    channels = layout.to_map(values.detach().float())
    weights = layout.to_map(slope.float()).mean(dim=(2, 3), keepdim=True)
    maps = (weights * channels).sum(dim=1, keepdim=True).relu()
    if not maps.isfinite().all():
        raise HeatmapError(
            "The heat map is infinite or not a number. Look at the network's weights, and at the "
            "scores that it gives for these pictures."
        )
    maps = nn.functional.interpolate(maps, tuple(images.shape[2:]), mode="bilinear").squeeze(1)
    strongest = maps.amax(dim=(1, 2), keepdim=True)
    return torch.where(strongest > 0, maps / strongest.clamp_min(1e-12), 0)


class _Caught:
    """What layers gave, by name; of one that is used several times, the last time."""

    def __init__(self) -> None:
        self.outputs: dict[str, Tensor] = {}

    def watch(self, model: nn.Module, names: list[str]) -> ExitStack:
        """A context in which they are caught as part of the graph."""
        stack = ExitStack()
        for name in names:
            stack.callback(model.get_submodule(name).register_forward_hook(self._hook(name)).remove)
        return stack

    def _hook(self, name: str) -> Callable[[nn.Module, Any, Any], Any]:
        def hook(_: nn.Module, __: Any, output: Any) -> Any:
            if not isinstance(output, Tensor):
                return output
            self.outputs[name] = output
            # The next layer may work in place, as ReLU(inplace=True) does: on a copy.
            return output.clone()

        return hook


def _last(model: nn.Module, images: Tensor) -> tuple[str, Layout]:
    """The last layer with a map on whose places the scores depend, and how to read it."""
    found = survey(model, images)
    rows = {name for name, each in model.named_modules() if type(each) is nn.Sequential}
    blind = {name for name in found.blind if not (name in rows and name in found.repeats)}
    names = [
        name for name, each in found.layouts.items()
        if each.grid and name not in found.repeats and not _inside(name, blind)
    ]  # fmt: skip
    slopes = _slopes(model, images, names)
    live = [
        name for name in names if name in slopes and found.layouts[name].to_map(slopes[name]).any()
    ]
    if not live:
        raise HeatmapError(
            "The model has no feature map with more than one place on which its scores depend, so "
            "there is nothing to show on the picture. Name a layer that has one with layer=..."
        )
    name = live[-1]
    if slopes[name].ndim == 3:
        modules = {each: model.get_submodule(each) for each in live}
        # Not what is inside an attention, where queries, keys and values are.
        whole = [
            each for each in live if isinstance(modules[each], NORMS) or [*modules[each].children()]
        ]
        name = whole[-1] if whole else name
    return name, found.layouts[name]


def _inside(name: str, modules: set[str]) -> bool:
    """Whether a module is a part of one of these, such as the queries of an attention."""
    return any(name.startswith(f"{each}.") for each in modules)


def _slopes(model: nn.Module, images: Tensor, names: list[str]) -> dict[str, Tensor]:
    """How a mixture of the scores depends on what each layer gives for a noise picture.

    Where a head of zeros, as some are at the start, lets the scores depend on nothing, it is a
    mixture of what enters the head.
    """
    caught, entering = _Caught(), []
    stream = torch.Generator().manual_seed(0)
    with torch.enable_grad(), caught.watch(model, names) as stack:
        with suppress(HeadError):
            head = model.get_submodule(head_name(model))
            handle = head.register_forward_pre_hook(lambda _, inputs: entering.extend(inputs[:1]))
            stack.callback(handle.remove)
        scores = _scores(model, noise(images))
        outputs = [caught.outputs[name] for name in names]
        for ends in [scores, *entering]:
            if not outputs or not ends.requires_grad:
                continue
            factors = torch.rand(ends.shape, generator=stream).to(ends)
            found = torch.autograd.grad(
                (ends * factors).sum(), outputs, allow_unused=True, retain_graph=True
            )
            slopes = {n: each for n, each in zip(names, found, strict=True) if each is not None}
            if any(each.any() for each in slopes.values()):
                return slopes
    return {}


def _layout_of(model: nn.Module, images: Tensor, layer: str) -> Layout:
    layout = survey(model, images, only=layer).layouts.get(layer)
    if layout is None or layout.grid is None:
        raise HeatmapError(
            f"The layer {layer!r} gives no map of a picture's places (channels first, channels "
            "last, or tokens on a grid), as far as can be measured. Name another one, or leave out "
            "layer for the last that has one."
        )
    return layout


def _check_name(model: nn.Module, layer: object) -> None:
    modules = {name: each for name, each in model.named_modules() if name}
    if layer not in modules:
        raise UnknownNameError(f"There is no layer {layer!r}.{suggest(str(layer), modules)}")


def _scores(model: nn.Module, images: Tensor) -> Tensor:
    """The scores (B, C), with a graph, of a frozen network too: the picture asks for a gradient."""
    scores = model(images.clone().requires_grad_())
    if not isinstance(scores, Tensor) or scores.ndim != 2 or len(scores) != len(images):
        said = (
            f"shape {tuple(scores.shape)}" if isinstance(scores, Tensor) else type(scores).__name__
        )
        raise HeatmapError(
            f"A heat map needs scores of shape (batch, classes) from the model; it gives {said}."
        )
    if not scores.requires_grad:
        raise HeatmapError(
            "The model's scores carry no gradient, which a heat map is made from. Is there a "
            "detach() or torch.no_grad() in its forward()?"
        )
    return scores


def _targets(target: object, scores: Tensor) -> Tensor:
    """The class of each picture, (B,)."""
    count, classes = scores.shape
    whole = not isinstance(target, bool | float | str)
    try:
        chosen = torch.as_tensor(target, device=scores.device) if whole else None
    except (TypeError, ValueError, RuntimeError):
        chosen = None
    if (
        chosen is None
        or chosen.is_floating_point()
        or chosen.dtype == torch.bool
        or tuple(chosen.shape) not in ((), (count,))
    ):
        told = f"a tensor {tuple(target.shape)}" if isinstance(target, Tensor) else repr(target)
        raise HeatmapError(
            f"The target must be a class number, or one for each of the {count} pictures; got "
            f"{told}."
        )
    numbers = chosen.to(torch.int64).expand(count)
    if int(numbers.min()) < 0 or int(numbers.max()) >= classes:
        raise HeatmapError(
            f"The target holds class {numbers.tolist()}, and the model scores {classes} classes: "
            f"0 to {classes - 1}."
        )
    return numbers


def _checked(model: nn.Module, images: object) -> Tensor:
    """The pictures (B, 3, H, W), where the model is."""
    if torch.is_inference_mode_enabled() or any(each.is_inference() for each in model.parameters()):
        raise HeatmapError(
            "A heat map is made from gradients, which torch.inference_mode() leaves out. Make the "
            "model and the map outside of it; torch.no_grad() does no harm."
        )
    if not isinstance(images, Tensor) or not images.is_floating_point():
        told = (
            f"a tensor of {images.dtype}" if isinstance(images, Tensor) else type(images).__name__
        )
        raise HeatmapError(
            f"The pictures must be a prepared tensor of floats (B, 3, H, W); got {told}. Prepare "
            "them first: backbones.preprocessing(name).eval(picture)[None], say."
        )
    if images.ndim != 4 or 0 in images.shape:
        hint = " For one picture write images[None]." if images.ndim == 3 else ""
        raise HeatmapError(
            f"The pictures must have the shape (B, 3, H, W), one or more; got "
            f"{tuple(images.shape)}.{hint}"
        )
    if not images.isfinite().all():
        raise HeatmapError(
            "The pictures hold numbers that are infinite or not a number. Look at how they were "
            "read and prepared: images.isfinite()."
        )
    return images.detach().to(model_device(model))
