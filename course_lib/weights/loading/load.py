"""Load weights into a model: everything that fits, exactly as you said, or nothing at all."""

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import _IncompatibleKeys

from course_lib.weights.errors import LoadError
from course_lib.weights.loading.adapt import Grids
from course_lib.weights.loading.commit import commit
from course_lib.weights.loading.hints import Found, judge
from course_lib.weights.loading.look import Look
from course_lib.weights.loading.model_tensors import ModelTensors
from course_lib.weights.loading.plan import Dtype, Names, Options, Plan, make_plan
from course_lib.weights.loading.report import LoadReport
from course_lib.weights.loading.stage import Staged, stage
from course_lib.weights.matching.match import Rename
from course_lib.weights.reading import locate
from course_lib.weights.reading.checkpoint import Catalogue, Checkpoint, open_catalogue
from course_lib.weights.reading.locate import Place

Source = str | Path | Catalogue | Checkpoint | nn.Module | Mapping[str, Any]


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
    resize_positions: Grids = False,
    dtype: Dtype = "model",
    lossy: bool = False,
    nonfinite: bool = False,
    where: str | None = None,
) -> LoadReport:
    """Load weights into a model, all or nothing, and tell what was done.

    The file's names are matched with the model's in this order: the same names; the same names
    without, or with, one wrapper's prefix (``module.`` of DataParallel, say); then, on request,
    by order and shape. All values are read, converted and checked before the first tensor of
    the model changes. Then they are copied; where a module has loading code of its own (hooks,
    versions, other names), the model's ``load_state_dict`` puts them in, so that this code runs as
    it does for torch, and the old values are kept, and go back if anything goes wrong. The
    parameters stay the same objects in the same memory, on their device, trainable or frozen as
    before, so an optimizer that has them goes on working, and views and NumPy arrays of them see
    the new values.

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
        resize_positions: interpolate position embeddings of another number of patches. The
            model's grid of patches is read from the model; the file's is taken for a square, or
            give it: (rows, columns). Both, where the model doesn't tell: ((r, c), (r, c)).
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
    text, place = opened(source, where)
    with Look(place.tensors.values()) as look:
        into = ModelTensors.of(model)
        _refuse_meta(into)
        return load_place(into, text, place, options, look, keep_old=True)


def opened(source: Source, where: str | None) -> tuple[str, Place]:
    """A source in words, and its weights, all checksums compared; not yet read from a file.

    Raises:
        CheckpointError: it can't be read.
        LoadError: it is no source of weights.
    """
    if isinstance(source, str | Path):
        source = open_catalogue(source, where, checked=True)
    if isinstance(source, Catalogue):
        place = source.place
        return source.path.name + (f" at {place.where!r}" if place.where else ""), place
    if isinstance(source, Checkpoint):
        text = source.path.name + (f" at {source.where!r}" if source.where else "")
        versions = getattr(source.tensors, "_metadata", None)
        return text, Place((), dict(source.tensors), dict(source.objects), versions)
    if isinstance(source, nn.Module):
        return f"a {type(source).__name__}", Place.of(source.state_dict())
    if isinstance(source, Mapping):
        return "a state dict", locate.find(source, "The state dict", where)[0]
    raise LoadError(
        f"Weights can't come from an object of type {type(source).__name__}; expected a path, "
        "a Checkpoint, a state dict, or a model."
    )


def load_place(
    into: ModelTensors, text: str, place: Place, options: Options, look: Look, *, keep_old: bool
) -> LoadReport:
    """Match, check and load weights that are there.

    Args:
        into: the model.
        text: where the weights came from, in words.
        place: the weights.
        options: of the call.
        look: at the weights.
        keep_old: whether the model's values must be able to go back.

    Raises:
        LoadError, UnknownNameError: as :func:`load_weights`.
    """
    said = options.rename is not None or options.prefix is not None or options.by_order
    if into.own and not said and not {*place.tensors, *place.odd}.intersection(into.names):
        # No name is the model's. Its own code may know them, as they are; else a prefix is sought.
        with suppress(LoadError):
            plan = make_plan(into, place, options, as_they_are=True)
            return _load(into, text, plan, options, look, keep_old)
    plan = make_plan(into, place, options)
    try:
        return _load(into, text, plan, options, look, keep_old)
    except _RefusedError as error:
        # Of another shape, and the module's own code has no use for it: it doesn't fit.
        odd = [name for name, value in plan.others.items() if into.shapes.get(name) is not None]
        if not odd:
            raise LoadError(str(error)) from error.__cause__
    plan = make_plan(into, place, options, given_up=odd)
    return _load(into, text, plan, options, look, keep_old)


class _RefusedError(LoadError):
    """The model's own code raised something."""


def _load(
    into: ModelTensors, text: str, plan: Plan, options: Options, look: Look, keep_old: bool
) -> LoadReport:
    staged = stage(plan, into, options, look)
    found = predicted(plan, into)
    # What torch's own modules will find is known, so nothing is touched in vain.
    foreseen = not into.own or (into.only_renames and not plan.others)
    if foreseen:
        judge(plan, found, into, options)
    if not staged and not plan.others:
        raise LoadError("Nothing would be loaded: every tensor that has a partner is left out.")

    def by_copies() -> None:
        with torch.no_grad():
            for each in staged:
                into.tensors[each.loaded.name].copy_(each.value)

    def by_its_own_code() -> None:
        nonlocal found
        entries = OrderedDict((each.loaded.name, each.value) for each in staged)
        entries.update(plan.others)
        if plan.versions is not None:
            entries._metadata = plan.versions  # type: ignore[attr-defined]
        # A load_state_dict of the model's own may tell nothing; then it must be the one to refuse.
        strict = options.strict is True and not (plan.kept or plan.mismatched) and into.own_root
        result = into.model.load_state_dict(entries, strict=strict)
        if not foreseen:
            found = reported(result, plan, into)
            if not staged and not plan.tensor_names.difference(found.unexpected):
                raise LoadError("Nothing would be loaded: the model uses not one of the names.")
        judge(plan, found, into, options)

    copies = foreseen and into.plain
    types = {
        into.tensors[each.loaded.name]: item.dtype
        for each, item in zip(staged, plan.items, strict=True)
        if item.name in into.tensors
        and options.dtype == "file"
        and item.dtype != into.tensors[item.name].dtype
    }
    try:
        commit(into.model, by_copies if copies else by_its_own_code, types,
               keep_old=keep_old and not copies)  # fmt: skip
    except LoadError:
        raise
    except Exception as error:
        raise _RefusedError(
            f"The model refused its new values ({_reason(error)}) and has its old ones "
            "again, bit for bit."
        ) from error
    return _report(plan, staged, into, text, found)


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines()] or [type(error).__name__]
    return lines[1] if lines[0].startswith("Error(s) in loading") and len(lines) > 1 else lines[0]


def predicted(plan: Plan, into: ModelTensors) -> Found:
    """What a load comes to in models all of whose modules load as torch's own do."""
    wanting = without_tied(plan.matching.missing, plan, into)
    supplied = tuple(name for name in wanting if into.supplied(name, plan.versions))
    missing = tuple(name for name in wanting if name not in supplied)
    return Found(missing, plan.matching.unexpected, supplied)


def reported(result: Any, plan: Plan, into: ModelTensors) -> Found:
    """What a load came to in all others: by what ``load_state_dict`` says."""
    left = {*plan.kept, *(each.name for each in plan.mismatched)}
    result = result or _IncompatibleKeys([], [])
    odd = {first for first in plan.matching.unexpected if first not in plan.tensor_names}
    missing = [name for name in dict.fromkeys(result.missing_keys) if name not in left]
    missing = without_tied(missing, plan, into)
    unexpected = (plan.matching.rest.get(name, name) for name in result.unexpected_keys)
    done = {*left, *missing, *(item.name for item in plan.items)}
    supplied = without_tied([name for name in into.names if name not in done], plan, into)
    return Found(
        tuple(missing), tuple(name for name in unexpected if name not in odd), tuple(supplied)
    )


def without_tied(names: Iterable[str], plan: Plan, into: ModelTensors) -> list[str]:
    """A name is not missing when its memory gets its values under another name."""
    served = {into.leader.get(item.name, item.name) for item in plan.items}
    return [name for name in names if into.leader.get(name, name) not in served]


def _report(
    plan: Plan, staged: list[Staged], into: ModelTensors, source: str, found: Found
) -> LoadReport:
    done = {each.loaded.name: each.loaded for each in staged}
    odd = [first for name, first in plan.matching.rest.items()
           if first not in plan.tensor_names and not into.decides(name)]  # fmt: skip
    return LoadReport(
        source=source, how=plan.matching.how,
        loaded=tuple(done[name] for name in into.names if name in done), missing=found.missing,
        unexpected=found.unexpected, mismatched=plan.mismatched, kept=plan.kept,
        ignored=(*plan.matching.ignored, *plan.odd, *odd),
        tied=tuple(group for group in into.ties if done.keys() & set(group)),
        total=len(into.names),
        total_numbers=sum(into.tensors[name].numel() for name in set(into.leader.values())
                          if into.shapes[name] is not None and name in into.tensors),
        supplied=found.supplied,
    )  # fmt: skip


def _refuse_meta(into: ModelTensors) -> None:
    for name, tensor in into.tensors.items():
        if tensor.device.type == "meta":
            raise LoadError(
                f"{name!r} is on the meta device: it has a shape but no memory. "
                "Use load_model(factory, source), which builds and loads in one go."
            )
