"""Build a model straight from its weights: no random start that is overwritten a moment later."""

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from course_lib.weights.errors import LoadError
from course_lib.weights.loading.load import Source, load_place, opened
from course_lib.weights.loading.look import Look
from course_lib.weights.loading.model_tensors import ModelTensors
from course_lib.weights.loading.plan import Options, make_plan
from course_lib.weights.loading.report import LoadReport
from course_lib.weights.reading.locate import Place

Model = TypeVar("Model", bound=nn.Module)


def load_model(
    factory: Callable[[], Model], source: Source, *, where: str | None = None, **options: Any
) -> tuple[Model, LoadReport]:
    """Build a model and load its weights, in the memory and about the time of the file alone.

    The model is first built on the meta device, where tensors have shapes but no memory; then
    it gets memory, which the file's values fill. That needs every tensor to come from the file.
    Where that isn't so (a new head, buffers that aren't saved, a factory that computes with its
    tensors), the model is built as usual and loaded with :func:`load_weights`: the result is the
    same. On the meta device no random numbers are drawn.

    Args:
        factory: builds the model, without arguments, such as ``torchvision.models.resnet18``.
        source: as for :func:`load_weights`.
        where: as for :func:`load_weights`.
        **options: as for :func:`load_weights`.

    Returns:
        The model on the CPU, and the report.

    Raises:
        CheckpointError, LoadError, UnknownNameError: as :func:`load_weights`.
        TypeError: there is no such option.
    """
    checked = Options.of_call("load_model", options)
    text, place = opened(source, where)
    with Look(place.tensors.values()) as look:
        model = _build_on_meta(factory)
        if model is not None and _fills(model, place, checked):
            _give_memory(model)
        else:
            model = factory()
        into = ModelTensors.of(model)
        return model, load_place(into, text, place, checked, look, keep_old=False)


def _fills(model: nn.Module, place: Place, options: Options) -> bool:
    """Whether every tensor of a model gets its values straight from the file."""
    into = ModelTensors.of(model)
    try:
        plan = make_plan(into, place, options)
    except LoadError:
        return False  # perhaps the model's own code knows better, once it has memory
    return {into.leader[item.name] for item in plan.items} == set(into.leader.values())


_FILLS = {torch.Tensor.normal_, torch.Tensor.uniform_, torch.Tensor.fill_, torch.Tensor.zero_}


class _NoFilling(TorchFunctionMode):
    """On the meta device, starting values are not even pretended: that alone took longest."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in _FILLS or getattr(func, "__module__", "") == "torch.nn.init":
            filled = args[0] if args else kwargs.get("tensor")
            if isinstance(filled, torch.Tensor) and filled.device.type == "meta":
                return filled
        return func(*args, **kwargs)


def _build_on_meta(factory: Callable[[], Model]) -> Model | None:
    """The model on the meta device; None if it can't be built or completed from there."""
    try:
        with torch.device("meta"), _NoFilling():
            model = factory()
    except Exception:
        return None  # it needs its values while it is built, so it is built as usual
    saved = {id(tensor) for tensor in model.state_dict(keep_vars=True).values()}
    for module in model.modules():
        inside = [*module._buffers.values(), *_held(vars(module))]
        if any(isinstance(each, torch.Tensor) and id(each) not in saved for each in inside):
            return None  # a tensor that no file has: its values come from the factory
    every = [*model.parameters(), *model.buffers()]
    return model if all(tensor.device.type == "meta" for tensor in every) else None


def _held(attributes: dict[str, Any]) -> Iterator[Any]:
    """A module's plain attributes, with what is in lists, tuples and dictionaries."""
    for name, value in attributes.items():
        if name in ("_parameters", "_buffers", "_modules"):
            continue
        if isinstance(value, dict):
            yield from value.values()
        elif isinstance(value, list | tuple):
            yield from value
        else:
            yield value


def _give_memory(model: nn.Module) -> None:
    """Memory, with nothing in it yet, for the meta tensors; what was one object stays one."""
    made: dict[int, torch.Tensor] = {}
    for module in model.modules():
        stores: tuple[dict[str, Any], ...] = (module._parameters, module._buffers)
        for store in stores:
            for key, old in store.items():
                if old is not None:
                    store[key] = made.setdefault(id(old), _like(old))


def _like(old: torch.Tensor) -> torch.Tensor:
    value = torch.empty_strided(old.shape, old.stride(), dtype=old.dtype, device="cpu")
    if not isinstance(old, nn.Parameter):
        return value
    new = type(old)(value, requires_grad=old.requires_grad)
    vars(new).update(vars(old))  # attributes that a factory gave to its parameters
    return new
