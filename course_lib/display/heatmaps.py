"""Where a network looks: Grad-CAM over its last feature map."""

from collections.abc import Callable

import torch
from captum.attr import LayerAttribution, LayerGradCam
from torch import Tensor, nn

from course_lib.errors import CourseError, UnknownNameError, suggest
from course_lib.training.evaluation import modes_of, restore_modes


class HeatmapError(CourseError, ValueError):
    """No heat map can be made from this model and these pictures."""


def last_feature_map(model: nn.Module, images: Tensor) -> str:
    """The dotted name of the last module that gives a map: (B, C, H, W) with H and W above 1.

    Args:
        model: run once on the first image, in inference mode; its modes are put back.
        images: (B, 3, H, W).

    Raises:
        HeatmapError: no module gives such a map.
    """
    last = [""]

    def note(name: str) -> Callable[[nn.Module, object, object], None]:
        def hook(_: nn.Module, __: object, output: object) -> None:
            if isinstance(output, Tensor) and output.ndim == 4 and min(output.shape[2:]) > 1:
                last[0] = name

        return hook

    handles = [
        module.register_forward_hook(note(name))
        for name, module in model.named_modules()
        if name and not list(module.children())
    ]
    modes = modes_of(model)
    try:
        model.eval()
        with torch.no_grad():
            model(images[:1])
    finally:
        for handle in handles:
            handle.remove()
        restore_modes(model, modes)
    if not last[0]:
        raise HeatmapError(
            "The model has no feature map of shape (B, C, H, W) with more than one place, so there "
            "is nothing to show on the picture. Name a layer that has one with layer=..."
        )
    return last[0]


def grad_cam(
    model: nn.Module, images: Tensor, target: int | Tensor, layer: str | None = None
) -> Tensor:
    """How much each place of a picture speaks for a class.

    Each channel of the layer's map is weighed by the mean gradient of the class's score; the
    weighted maps are added, what is negative is dropped, and the result is enlarged to the
    picture's size and scaled so that the strongest place is 1 (Selvaraju et al., Grad-CAM, ICCV
    2017, arXiv:1610.02391; computed by Captum). All zeros mean that no place speaks for the class.

    Args:
        model: gives scores (B, C). It computes as in inference and is left as it was.
        images: (B, 3, H, W), preprocessed.
        target: the class, one for all pictures or a tensor (B,).
        layer: dotted name; by default the last feature map.

    Returns:
        Strengths from 0 to 1, shape (B, H, W), float32.

    Raises:
        UnknownNameError: no layer of that name.
        HeatmapError: the model has no feature map.
    """
    layer = layer or last_feature_map(model, images)
    modules = dict(model.named_modules())
    if layer not in modules:
        raise UnknownNameError(f"There is no layer {layer!r}.{suggest(layer, modules)}")
    grads = [parameter.grad for parameter in model.parameters()]
    modes = modes_of(model)
    try:
        model.eval()
        # The picture asks for a gradient, so that a frozen network has a graph too.
        pictures = images.detach().clone().requires_grad_()
        maps = LayerGradCam(model, modules[layer]).attribute(
            pictures, target=target, relu_attributions=True
        )
        maps = LayerAttribution.interpolate(maps, tuple(images.shape[2:]), "bilinear")
    finally:
        restore_modes(model, modes)
        for parameter, grad in zip(model.parameters(), grads, strict=True):
            parameter.grad = grad
    maps = maps.detach().float().squeeze(1)
    strongest = maps.amax(dim=(1, 2), keepdim=True)
    return torch.where(strongest > 0, maps / strongest.clamp_min(1e-12), 0)
