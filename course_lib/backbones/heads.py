"""Find a network's classifier and swap it for one with another number of classes.

The head is the layer whose outputs are the class scores ("logits"): a linear layer, or in a few
networks a 1x1 convolution. Everything before it is the backbone. Swapping the head keeps what the
backbone learned, and starts the last layer anew for your classes.

Which layer is the head? Three sources are asked, and a guess is never made:

1. timm models say it themselves (``model.pretrained_cfg["classifier"]``);
2. otherwise a direct child with one of the field's usual names (:data:`USUAL_NAMES`): the layer
   itself, or the last layer with parameters of an ``nn.Sequential`` (this covers torchvision);
3. otherwise, for a model that is an ``nn.Sequential``, its last layer with parameters.

Some networks carry more than one head: GoogLeNet and Inception v3 have auxiliary ones that help
training, distilled transformers have a second one. All of them predict the same classes, so all
are swapped together.
"""

import math
import operator
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from course_lib.errors import CourseError, CourseWarning, suggest
from course_lib.text import counted

USUAL_NAMES = ("fc", "classifier", "head", "heads", "last_linear", "classif")

# Heads in the middle of torchvision's GoogLeNet and Inception v3, used in training only.
AUXILIARY_NAMES = ("AuxLogits.fc", "aux1.fc2", "aux2.fc2")

Head = nn.Linear | nn.Conv2d


class HeadError(CourseError, ValueError):
    """The classifier can't be found or can't be swapped; the model is as it was."""


def head_name(model: nn.Module) -> str:
    """The dotted name of the layer whose outputs are the class scores.

    >>> import torchvision
    >>> head_name(torchvision.models.alexnet())
    'classifier.6'

    Raises:
        HeadError: the head can't be told for certain; the message names the candidates.
    """
    return head_names(model)[0]


def head_names(model: nn.Module) -> tuple[str, ...]:
    """Like :func:`head_name`, followed by the names of the model's further heads, if any.

    Raises:
        HeadError: the head can't be told for certain.
    """
    names = _names_from_timm(model) or _names_from_layout(model)
    if not names:
        raise HeadError(_cannot_tell(model))
    return names


def replace_head(
    model: nn.Module,
    num_classes: int | nn.Module,
    seed: int | None = None,
    head: str | None = None,
) -> nn.Module:
    """Swap the classifier, in place, for a new one with ``num_classes`` outputs.

    With a module in the place of the number, such as an ``nn.Sequential`` with a hidden layer, that
    very module becomes the head: it goes to the old one's device, dtype and mode, and its numbers
    and flags stay. Train it whole by its name: ``training.finetune(..., head="classifier")``.

    The new layer is of the old one's kind (linear or 1x1 convolution), with a bias if the old one
    had one, on the same device, in the same dtype and in the same mode (``train`` or ``eval``).
    Its parameters keep the old ``requires_grad`` flags; a warning tells you when that makes a new
    head that can't learn. Everything else in the model stays the very same objects. Hooks on the
    old layer go with it, and an optimizer that was built before still holds the old layer: build
    it after the swap.

    Initialisation: weights and bias are drawn from U(-k, k) with k = 1/sqrt(fan_in), where fan_in
    is the number of inputs of one output. That is what ``nn.Linear`` and ``nn.Conv2d`` do by
    themselves. Numbers are drawn in float32 on the CPU, so that a seed gives the same head on
    every device.

    Args:
        model: any torchvision or timm classification model, or one of yours.
        num_classes: outputs of the new head, at least 1; or the new head.
        seed: seed of the initialisation; by default torch's global random stream is used.
        head: dotted name of the layer to swap, for a model whose head can't be found by itself.

    Returns:
        The same model.

    Raises:
        HeadError: no head found, or one that can't be swapped; the model is unchanged.
    """
    count = 1 if isinstance(num_classes, nn.Module) else check_num_classes(num_classes)
    names = head_names(model) if head is None else (_named_head(model, head),)
    old = {name: swappable(model, name) for name in names}
    if isinstance(num_classes, nn.Module):
        return _put(model, old, num_classes)
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    new = {name: _fresh(layer, count, generator) for name, layer in old.items()}
    install(model, new)
    _warn_if_frozen(new)
    return model


def _put(model: nn.Module, old: dict[str, Head], head: nn.Module) -> nn.Module:
    """Make a module of the user's the head."""
    (name, layer), *others = old.items()
    if others:
        raise HeadError(
            f"This model has {len(old)} heads, {', '.join(map(repr, old))}, and they need a module "
            "each. Swap one after the other: head='...'."
        )
    outputs = outputs_of(head, layer)
    install(model, {name: head.to(layer.weight).train(layer.training)}, outputs)
    return model


def outputs_of(head: nn.Module, like: Head) -> int:
    """How many classes a module tells apart in the place of a head, tried on zeros.

    Raises:
        HeadError: it can't take what the old head takes, or doesn't give a score for each class.
    """
    shape: tuple[int, ...] = (
        (2, like.in_features) if isinstance(like, nn.Linear) else (2, like.in_channels, 7, 7)
    )
    mode = head.training
    try:
        with torch.no_grad():
            zeros = next(head.parameters(), torch.zeros(())).new_zeros(shape)
            scores = head.eval()(zeros)
    except (RuntimeError, ValueError, TypeError) as error:
        raise HeadError(
            f"The new head can't take what the old one took, {shape[1]} features: "
            f"{str(error).splitlines()[0]}. Its first layer must have that many inputs."
        ) from error
    finally:
        head.train(mode)
    if not isinstance(scores, Tensor) or scores.ndim != len(shape) or len(scores) != 2:
        got = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
        raise HeadError(f"The new head gives {got} for {shape}; expected a score for each class.")
    return int(scores.shape[1])


def check_num_classes(num_classes: object) -> int:
    """The number as an ``int``.

    Raises:
        HeadError: it is no whole number of at least 1: 0, -1, True, 2.0 or "2", say.
    """
    wanted = "expected a whole number of classes, 1 or more. For two classes write num_classes=2."
    try:
        count = operator.index(num_classes)  # type: ignore[arg-type]
    except TypeError:
        count = 0
    if count < 1 or isinstance(num_classes, bool):
        raise HeadError(f"num_classes is {num_classes!r}; {wanted}")
    return count


def swappable(model: nn.Module, name: str) -> Head:
    """The layer of that name, checked to be one that can be swapped without side effects.

    Raises:
        HeadError: it is another kind of layer, lazy, parametrised, grouped, or shares its
            parameters.
        AttributeError: the model has no layer of that name.
    """
    layer = model.get_submodule(name)
    if not isinstance(layer, nn.Linear | nn.Conv2d):
        raise HeadError(
            f"The head {name!r} is a {type(layer).__name__}; expected nn.Linear or nn.Conv2d."
            f"{_candidates_sentence(model)}"
        )
    if isinstance(layer, nn.modules.lazy.LazyModuleMixin):
        raise HeadError(
            f"The head {name!r} doesn't know its number of inputs yet (it is lazy). Run one batch "
            "through the model first."
        )
    if parametrize.is_parametrized(layer):
        raise HeadError(
            f"The head {name!r} is parametrised (weight or spectral norm, ...), and a swap would "
            "drop that silently. Remove the parametrisation first."
        )
    if isinstance(layer, nn.Conv2d) and layer.groups != 1:
        raise HeadError(
            f"The head {name!r} is a convolution in {layer.groups} groups, where the number of "
            "classes must divide into the groups. Swap it by hand."
        )
    shared = _shared_parameters(model, name)
    if shared:
        raise HeadError(
            f"The head {name!r} shares its parameters with {', '.join(shared)}; a swap would "
            "break that tie silently. Untie them first."
        )
    return layer


def install(model: nn.Module, layers: Mapping[str, nn.Module], outputs: int | None = None) -> None:
    """Put the new layers in place of the old ones, and bring the model's own counts in step.

    timm models (and some of torchvision's) note their number of classes in ``num_classes``, on
    the model and on the modules that contain the head. By default it is read off the layer.
    """
    for name, layer in layers.items():
        path = name.split(".")
        above = [model.get_submodule(".".join(path[:depth])) for depth in range(len(path))]
        if isinstance(layer, nn.Linear | nn.Conv2d):
            outputs = num_outputs(layer)
        for module in above:
            if isinstance(getattr(module, "num_classes", None), int):
                setattr(module, "num_classes", outputs)  # noqa: B010 (a module's own attribute)
        setattr(above[-1], path[-1], layer)


def num_outputs(layer: Head) -> int:
    """How many classes a head tells apart."""
    return layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels


def like(layer: Head, num_classes: int) -> Head:
    """An uninitialised layer of the same kind, device, dtype, mode and flags as ``layer``."""
    device, dtype = layer.weight.device, layer.weight.dtype
    bias = layer.bias is not None
    new: Head
    if isinstance(layer, nn.Linear):
        new = nn.Linear(layer.in_features, num_classes, bias, device="meta", dtype=dtype)
    else:
        kept = "kernel_size stride padding dilation padding_mode".split()
        same: dict[str, Any] = {key: getattr(layer, key) for key in kept}
        new = nn.Conv2d(
            layer.in_channels, num_classes, bias=bias, device="meta", dtype=dtype, **same
        )
    new = new.to_empty(device=device).train(layer.training)
    for key, parameter in new.named_parameters():
        parameter.requires_grad_(getattr(layer, key).requires_grad)
    return new


@torch.no_grad()
def _fresh(layer: Head, num_classes: int, generator: torch.Generator | None) -> Head:
    new = like(layer, num_classes)
    bound = 1 / math.sqrt(new.weight[0].numel())
    for parameter in new.parameters():
        drawn = torch.empty(parameter.shape, device="cpu", dtype=torch.float32)
        parameter.copy_(drawn.uniform_(-bound, bound, generator=generator))
    return new


def _names_from_timm(model: nn.Module) -> tuple[str, ...]:
    """What a timm model says about itself, as far as those layers are there and are heads."""
    config = getattr(model, "pretrained_cfg", None)
    if not isinstance(config, dict) or not hasattr(model, "get_classifier"):
        return ()
    said = config.get("classifier") or ()
    names = (said,) if isinstance(said, str) else tuple(said)
    modules = dict(model.named_modules())
    return tuple(name for name in names if isinstance(modules.get(name), nn.Linear | nn.Conv2d))


def _names_from_layout(model: nn.Module) -> tuple[str, ...]:
    usual = [name for name, _ in model.named_children() if name in USUAL_NAMES]
    if len(usual) == 1:
        main = _last_layer(model.get_submodule(usual[0]), usual[0])
    elif not usual and isinstance(model, nn.Sequential):
        main = _last_layer(model, "")
    else:
        main = None
    if not main:
        return ()
    modules = dict(model.named_modules())
    further = (name for name in AUXILIARY_NAMES if isinstance(modules.get(name), nn.Linear))
    return (main, *further)


def _last_layer(module: nn.Module, name: str) -> str | None:
    """The head in ``module``: itself, or the last layer with parameters of a Sequential."""
    if isinstance(module, nn.Linear | nn.Conv2d):
        return name
    if not isinstance(module, nn.Sequential):
        return None
    for key, child in reversed(module._modules.items()):
        if child is not None and any(True for _ in child.parameters()):
            return _last_layer(child, f"{name}.{key}".lstrip("."))
    return None


def _named_head(model: nn.Module, name: str) -> str:
    known = [each for each, _ in _layers(model)]
    if name not in known:
        raise HeadError(
            f"There is no linear or convolutional layer {name!r} in this "
            f"{type(model).__name__}.{suggest(name, known)}{_candidates_sentence(model)}"
        )
    return name


def _layers(model: nn.Module) -> Iterator[tuple[str, Head]]:
    for name, module in model.named_modules():
        if name and isinstance(module, nn.Linear | nn.Conv2d):
            yield name, module


def _candidates_sentence(model: nn.Module) -> str:
    """The last layers that could be a head, as a sentence with a leading space."""
    layers = list(_layers(model))
    linear = [(name, layer) for name, layer in layers if isinstance(layer, nn.Linear)]
    shown = linear[-5:] or layers[-5:]
    if not shown:
        return ""
    listed = ", ".join(
        f"{name!r} ({counted(num_outputs(layer), 'output')})" for name, layer in shown
    )
    return f" Candidates, the last ones of the model: {listed}. Name one with head='...'."


def _cannot_tell(model: nn.Module) -> str:
    kind = type(model).__name__
    if isinstance(model, nn.Linear | nn.Conv2d):
        return f"This model is a single {kind}: there is nothing around it to put a new head in."
    children = [name for name, _ in model.named_children()]
    if children == ["module"]:
        return f"This is a {kind} around a model. Swap the head of the model in it: model.module."
    usual = [name for name in children if name in USUAL_NAMES]
    if getattr(model, "num_classes", None) == 0 or (
        usual and isinstance(model.get_submodule(usual[-1]), nn.Identity)
    ):
        return (
            f"This {kind} was built without a head, as a feature extractor. Build it with one: "
            "num_classes=2, say, instead of num_classes=0."
        )
    if len(usual) > 1:
        why = f"{' and '.join(map(repr, usual))} could both be it"
    elif usual:
        why = f"{usual[0]!r} doesn't end in a linear or convolutional layer"
    else:
        why = f"expected a direct child called {', '.join(USUAL_NAMES[:-1])} or {USUAL_NAMES[-1]}"
    return f"The head of this {kind} can't be told for certain: {why}.{_candidates_sentence(model)}"


def _shared_parameters(model: nn.Module, name: str) -> list[str]:
    """Names outside the layer under which its parameters, or the layer itself, occur again."""
    own = {id(parameter) for parameter in model.get_submodule(name).parameters()}
    everywhere = model.named_parameters(remove_duplicate=False)
    return [
        other
        for other, parameter in everywhere
        if id(parameter) in own and other.rpartition(".")[0] != name
    ]


def _warn_if_frozen(layers: dict[str, Head]) -> None:
    frozen = [name for name, layer in layers.items() if not layer.weight.requires_grad]
    if frozen:
        warnings.warn(
            f"The new head {', '.join(map(repr, frozen))} is random and frozen, as the old one "
            "was frozen: it can't learn. Unfreeze it before you train.",
            CourseWarning,
            stacklevel=3,
        )


def head_weights(layer: Head) -> tuple[Tensor, Tensor]:
    """A head's rows as a matrix (classes, inputs), and its bias (classes,), zeros if it has none.

    Copies to compute with, in float64 on the CPU, wherever the layer is.
    """
    rows = layer.weight.detach().flatten(1).cpu().double()
    if layer.bias is None:
        return rows, rows.new_zeros(len(rows))
    return rows, layer.bias.detach().cpu().double()
