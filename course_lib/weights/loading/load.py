"""Load weights into a model: everything that fits, exactly as you said, or nothing at all."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from course_lib.weights.errors import LoadError
from course_lib.weights.loading.commit import Change, commit, is_alone
from course_lib.weights.loading.model_tensors import ModelTensors
from course_lib.weights.loading.plan import Dtype, Names, Options, Plan, make_plan
from course_lib.weights.loading.report import LoadReport
from course_lib.weights.loading.stage import Staged, one_of_each_memory, stage
from course_lib.weights.matching.match import Rename
from course_lib.weights.reading import locate
from course_lib.weights.reading.checkpoint import Checkpoint, open_catalogue
from course_lib.weights.reading.stored import Stamps, Stored
from course_lib.weights.reading.torchfile import replace_tensors

Source = str | Path | Checkpoint | nn.Module | Mapping[str, Any]


def load_weights(
    model: nn.Module,
    source: Source,
    *,
    rename: Rename | None = None,
    prefix: str | None = None,
    by_order: bool = False,
    strict: bool | Names = True,
    keep: Names = (),
    drop: Names = (),
    skip_mismatched: bool = False,
    adapt_input: str | None = None,
    resize_positions: bool = False,
    dtype: Dtype = "model",
    lossy: bool = False,
    nonfinite: bool = False,
    where: str | None = None,
) -> LoadReport:
    """Load weights into a model, all or nothing, and tell what was done.

    The file's names are matched with the model's in this order: the same names; the same names
    without, or with, one wrapper's prefix (``module.`` of DataParallel, say); then, on request,
    by order and shape. All values are read, converted and checked before the first tensor of
    the model changes. Then a tensor that is the only user of its memory gets the new memory, and
    into every other one the values are copied and verified bit for bit, so that views and NumPy
    arrays of it see them; if anything goes wrong, the old values go back. The parameters stay the
    same objects, on their device, trainable or frozen as before, so an optimizer that has them goes
    on working.

    Args:
        model: the model; only values change (with ``dtype="file"`` types too).
        source: a path (see :func:`read_checkpoint`), a :class:`Checkpoint`, a state dict, a
            dictionary with one inside, or another model.
        rename: other names: a dictionary from the file's names to the model's, the name of a
            table of :mod:`course_lib.weights.matching.names`, or a function from one name to
            another (or to None, which leaves the tensor out). Names not in a dictionary stay as
            they are.
        prefix: take only the file's names with this beginning, and remove it.
        by_order: pair what has no partner by name in order, by equal shapes and kinds (a weight
            is no bias), if there is exactly one way to do so.
        strict: True: every tensor of the model must get values, and every one of the file must be
            used. Names of the model's tensors, modules or patterns: that holds for these parts.
            False: what fits is loaded, the rest is reported.
        keep: names, modules or patterns of the model that stay as they are (a new head, say).
        drop: names, modules or patterns of the file that are left out.
        skip_mismatched: leave tensors of another shape as they are instead of refusing.
        adapt_input: another number of input channels: ``"repeat"`` takes the kernels in turn and
            scales them, ``"zeros"`` ignores further channels at first. To one channel, both sum.
        resize_positions: interpolate position embeddings of another number of patches.
        dtype: ``"model"``: convert to the model's types and report what that cost; ``"file"``:
            give the model the file's types; ``"exact"``: refuse if they differ.
        lossy: accept conversions that destroy numbers: overflow to infinity, imaginary parts and
            fractions cut off. (Rounding is always accepted, and reported.)
        nonfinite: accept NaN and infinite numbers, and report them.
        where: the place of the weights in the file, when there are several.

    Returns:
        The report; print it.

    Raises:
        CheckpointError: the file can't be read; see :func:`read_checkpoint`.
        LoadError: weights and model don't fit.
        UnknownNameError: ``keep``, ``drop`` or ``strict`` names something that doesn't exist.
        In all cases the model is as it was, bit for bit.
    """
    options = Options(
        rename=rename, prefix=prefix, by_order=by_order, strict=strict, keep=keep, drop=drop,
        skip_mismatched=skip_mismatched, adapt_input=adapt_input, dtype=dtype, lossy=lossy,
        resize_positions=resize_positions, nonfinite=nonfinite,
    )  # fmt: skip
    into = ModelTensors.of(model)
    _refuse_meta(into)
    values, report = prepare(into, source, options, where)
    changes = [_change(each, into) for each in values.values()]
    try:
        commit(changes)
    except RuntimeError as error:
        raise LoadError(
            f"The model refused its new values ({str(error).splitlines()[0]}) and has its old ones "
            "again, bit for bit."
        ) from error
    return report


def _change(staged: Staged, into: ModelTensors) -> Change:
    name = staged.loaded.name
    target = into.tensors[name]
    moved = staged.value.dtype != target.dtype or is_alone(target)
    return Change(name, target, staged.value, moved)


def prepare(
    into: ModelTensors, source: Source, options: Options, where: str | None
) -> tuple[dict[str, Staged], LoadReport]:
    """Find, match, read and check: everything but the change itself.

    Returns:
        The leader of each memory in the model -> its new value; and the report.

    Raises:
        CheckpointError, LoadError, UnknownNameError: as :func:`load_weights`.
    """
    text, place, stamps = _open(source, where)
    plan = make_plan(into, place.tensors, options)
    staged = stage(plan, stamps, options)
    values = one_of_each_memory(staged, into)
    return values, _report(plan, staged, into, text, place.odd)


def _report(
    plan: Plan, staged: list[Staged], into: ModelTensors, source: str, odd: Iterable[str]
) -> LoadReport:
    done = {each.loaded.name: each.loaded for each in staged}
    return LoadReport(
        source=source, how=plan.matching.how,
        loaded=tuple(done[name] for name in into.tensors if name in done), missing=plan.missing,
        unexpected=plan.matching.unexpected, mismatched=plan.mismatched, kept=plan.kept,
        ignored=(*plan.matching.ignored, *odd),
        tied=tuple(group for group in into.ties if done.keys() & set(group)),
        total=len(into.tensors),
        total_numbers=sum(into.tensors[name].numel() for name in set(into.leader.values())),
    )  # fmt: skip


def _open(source: Source, where: str | None) -> tuple[str, locate.Place, Stamps]:
    """A source in words, its weights, and the files that they are in."""
    if isinstance(source, str | Path):
        catalogue = open_catalogue(source, where)
        place = catalogue.place
        text = catalogue.path.name + (f" at {place.where!r}" if place.where else "")
        return text, place, catalogue.stamps
    if isinstance(source, Checkpoint):
        text = source.path.name + (f" at {source.where!r}" if source.where else "")
        return text, _in_memory(source.tensors), {}
    if isinstance(source, nn.Module):
        return f"a {type(source).__name__}", _in_memory(source.state_dict()), {}
    if isinstance(source, Mapping):
        tree = replace_tensors(dict(source), Stored.of)
        return "a state dict", locate.find(tree, "The state dict", where)[0], {}
    raise LoadError(
        f"Weights can't come from an object of type {type(source).__name__}; expected a path, a "
        "Checkpoint, a state dict, or a model."
    )


def _in_memory(tensors: Mapping[str, Any]) -> locate.Place:
    stored = {n: Stored.of(each) for n, each in tensors.items() if isinstance(each, torch.Tensor)}
    return locate.Place((), stored, {})


def _refuse_meta(into: ModelTensors) -> None:
    for name, tensor in into.tensors.items():
        if tensor.device.type == "meta":
            raise LoadError(
                f"{name!r} is on the meta device: it has a shape but no memory. "
                "Use load_model(factory, source), which builds and loads in one go."
            )
