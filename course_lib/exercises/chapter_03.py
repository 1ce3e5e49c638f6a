"""Exercises and questions of chapter 03: loading weights."""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from course_lib.exercises.core import Exercise, Wrong
from course_lib.exercises.models import (
    FEATURES,
    CharacterModel,
    SmallResNet,
    copied_tensors,
    listed,
    moved,
    pictures,
    texts,
    train,
)
from course_lib.exercises.quiz import Option, Question
from course_lib.exercises.verdicts import Verdict, mistake, named, not_yet, passed, returned

State = dict[str, torch.Tensor]


def _copied(state: Mapping[str, torch.Tensor]) -> State:
    return {name: tensor.detach().clone() for name, tensor in state.items()}


def _same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two state dicts have the same names with the same tensors, bit for bit."""
    return set(one) == set(other) and all(
        isinstance(one[name], torch.Tensor) and torch.equal(one[name], other[name]) for name in one
    )


# --- 3.1 ------------------------------------------------------------------------------------------


def _judge_snapshot(answer: Any) -> Verdict:
    model = SmallResNet(2)
    wanted = _copied(model.state_dict())
    got = returned(answer(model), Mapping, "a state dict, a dictionary of tensors")
    if set(got) == {name for name, _ in model.named_parameters()}:
        return mistake("parameters_only")
    if not _same(got, wanted):
        return not_yet("It should have the names and the tensors of the model's state dict.")
    train(model, torch.optim.SGD(model.parameters(), lr=0.1), pictures())
    if not _same(got, wanted):
        return mistake("alias")
    model.load_state_dict(dict(got))
    if moved(wanted, model):
        return not_yet("Loading it doesn't bring the model back to where it was.")
    return passed("Training goes on, the snapshot stays, and loading it brings all of it back.")


ex3_1 = Exercise(
    "3.1",
    "A snapshot that stays",
    minutes=5,
    question="""
        You want to remember the best weights so far and go on training. Return a state dict of the
        model that stays as it is while the model trains, and that `load_state_dict` takes.
    """,
    answer="snapshot",
    stub="""
def snapshot(model):
    return ...
""",
    solution="""
def snapshot(model):
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
""",
    why="""
        `state_dict()` doesn't copy: its tensors are the model's own memory. That makes it quick,
        and "the best weights so far" turn into the last ones. A deep copy of the state dict does as
        well.
    """,
    hints=(
        "Take `model.state_dict()`, train a step, and look at it again.",
        "The dictionary is new, the tensors in it are the model's. Each has to be copied.",
        "`tensor.detach().clone()` for each entry, or `copy.deepcopy` for the whole.",
    ),
    wrongs=(
        Wrong(
            "alias",
            """
def snapshot(model):
    return dict(model.state_dict())
""",
            """It trained along with the model. A state dict holds the model's own tensors, and a
            new dictionary around them (`dict(...)`, `.copy()`) copies none. Clone each tensor.""",
        ),
        Wrong(
            "parameters_only",
            """
def snapshot(model):
    return {name: p.detach().clone() for name, p in model.named_parameters()}
""",
            """The parameters are safe; the buffers are missing, such as BatchNorm's running mean
            and variance. Without them the model that you load answers differently. A state dict
            has both.""",
        ),
    ),
    judge=_judge_snapshot,
)

# --- 3.2 ------------------------------------------------------------------------------------------


def _judge_prefix(answer: Any) -> Verdict:
    cases = (
        ("module.encoder.weight", "encoder.weight"),
        ("module.em.weight", "em.weight"),
        ("module.encoder.module.weight", "encoder.module.weight"),
        ("encoder.module.bias", "encoder.module.bias"),
        ("fc.bias", "fc.bias"),
        ("module.module.weight", "module.weight"),
        ("modules.weight", "modules.weight"),
    )
    got: dict[str, str] = {}
    for place, (name, _) in enumerate(cases):
        state = {name: torch.full((2,), float(place))}
        result = returned(answer(state), Mapping, "a dictionary")
        if len(result) != 1:
            return not_yet(f"One entry went in, `{name}`; {len(result)} came out.")
        ((got[name], tensor),) = result.items()
        if not torch.equal(tensor, torch.full((2,), float(place))):
            return not_yet("The names change, the tensors should not.")
        if list(state) != [name]:
            return not_yet("The dictionary that you were given has changed. Make a new one.")
    if got["module.em.weight"] == "module.em.weight":
        return not_yet("`module.em.weight` should become `em.weight`.")
    if got["module.em.weight"] != "em.weight":
        return mistake("lstrip")
    if got["fc.bias"] == "fc.bias"[7:]:
        return mistake("slice")
    if got["module.encoder.module.weight"] == "encoder.weight":
        return mistake("replace")
    for name, wanted in cases:
        if got[name] != wanted == name:
            return not_yet(f"`{name}` should stay as it is; you made `{got[name]}` of it.")
        if got[name] != wanted:
            return not_yet(f"`{name}` should become `{wanted}`; you made `{got[name]}` of it.")
    return passed("Once, at the beginning, and only where it is there.")


ex3_2 = Exercise(
    "3.2",
    "Take off the wrapper",
    minutes=6,
    question="""
        A model that was wrapped for several GPUs saves its tensors under names such as
        `module.fc.weight`. Return a new dictionary with `module.` taken off each name, once, where
        the name begins with it. Other names stay: a model may have a layer of its own that is
        called `module`.
    """,
    answer="without_wrapper",
    stub="""
def without_wrapper(state):
    return ...
""",
    solution="""
def without_wrapper(state):
    return {name.removeprefix("module."): tensor for name, tensor in state.items()}
""",
    why="""
        `removeprefix` takes off exactly this text, exactly at the beginning, at most once. With
        `strict=False` and the wrong names, nothing at all would be loaded, without an error.
    """,
    hints=(
        "What becomes of `encoder.module.weight`, and of `fc.bias`?",
        "Look at the beginning of each name: `name.startswith(...)`.",
        "Since Python 3.9, texts have a method `removeprefix`.",
    ),
    wrongs=(
        Wrong(
            "replace",
            """
def without_wrapper(state):
    return {name.replace("module.", ""): tensor for name, tensor in state.items()}
""",
            """`replace` takes it off everywhere: `module.encoder.module.weight` became
            `encoder.weight`, and the model's own layer lost its name. Only the beginning is the
            wrapper's.""",
        ),
        Wrong(
            "slice",
            """
def without_wrapper(state):
    return {name[7:]: tensor for name, tensor in state.items()}
""",
            """You cut off seven characters, whatever they are: from `fc.bias`, which has no prefix,
            nothing is left. Look first whether the name begins with it.""",
        ),
        Wrong(
            "lstrip",
            """
def without_wrapper(state):
    return {name.lstrip("module."): tensor for name, tensor in state.items()}
""",
            """`lstrip` takes a set of characters, not a word: it goes on as long as it finds any of
            m, o, d, u, l, e and the dot, and so ate the beginning of `em.weight`. You want
            `removeprefix`.""",
        ),
    ),
    judge=_judge_prefix,
)

# --- 3.3 ------------------------------------------------------------------------------------------


def _judge_matching(answer: Any) -> Verdict:
    mine = {
        "conv.weight": torch.zeros(4, 3, 3, 3),
        "conv.bias": torch.zeros(4),
        "mix.weight": torch.zeros(2, 6),
        "fc.weight": torch.zeros(2, 4),
        "one.scale": torch.zeros(1),
    }
    theirs = {
        "conv.weight": torch.randn(4, 3, 3, 3),
        "conv.bias": torch.randn(4),
        "mix.weight": torch.randn(3, 4),
        "fc.weight": torch.randn(10, 4),
        "one.scale": torch.randn(()),
    }
    for extra in ({}, {"aux.weight": torch.randn(3)}):
        file = {**theirs, **extra}
        got = returned(answer(dict(mine), dict(file)), Mapping, "a dictionary")
        wanted = {"conv.weight", "conv.bias"}
        if set(got) & set(extra):
            return not_yet(f"The model has no {listed(extra)}: leave it out.")
        if any(got.get(name) is tensor for name, tensor in mine.items()):
            return not_yet(
                "Tensors of the model are in what you return. Return the file's only, and only "
                "those that fit; the model's dictionary can be updated with them later."
            )
        if set(got) == set(mine):
            return mistake("names_only")
        if "mix.weight" in got:
            return mistake("numel")
        if set(got) != wanted:
            return not_yet(f"What fits is {listed(wanted)}; you have {listed(got) or 'nothing'}.")
        if any(
            got[name] is not file[name] and not torch.equal(got[name], file[name]) for name in got
        ):
            return not_yet("The names are right; the tensors should be the file's.")
    return passed("Same name and same shape, and nothing else gets through.")


ex3_3 = Exercise(
    "3.3",
    "What fits",
    minutes=6,
    question="""
        From a file's state dict, pick what fits a model's state dict: the name is there, and the
        shape is the same. Return it as a dictionary of the file's tensors. The file may hold names
        that the model lacks.
    """,
    answer="what_fits",
    stub="""
def what_fits(model_state, file_state):
    return ...
""",
    solution="""
def what_fits(model_state, file_state):
    return {
        name: tensor
        for name, tensor in file_state.items()
        if name in model_state and tensor.shape == model_state[name].shape
    }
""",
    why="""
        Two conditions, in this order: first that the name is there, or the lookup fails. An equal
        number of entries isn't enough: (2, 6) and (3, 4) both hold 12, and `load_state_dict`
        refuses the one for the other, `strict=False` or not. Say what was left out, too: a filter
        that matches nothing raises no error.
    """,
    hints=(
        "Which two things must agree for a tensor to be loaded?",
        "A name that the model lacks can't be looked up in it: ask `name in model_state` first.",
        "Then compare `tensor.shape`, not the number of entries.",
    ),
    wrongs=(
        Wrong(
            "numel",
            """
def what_fits(model_state, file_state):
    return {
        name: tensor
        for name, tensor in file_state.items()
        if name in model_state and tensor.numel() == model_state[name].numel()
    }
""",
            """`mix.weight` is (2, 6) in the model and (3, 4) in the file: as many entries
            (`numel()`) and as many dimensions, and different tensors. `load_state_dict` would raise
            on it, also with `strict=False`. Compare shapes.""",
        ),
        Wrong(
            "key_error",
            """
def what_fits(model_state, file_state):
    return {n: t for n, t in file_state.items() if t.shape == model_state[n].shape}
""",
            """The file holds a name that the model lacks, and looking it up fails: with a KeyError,
            or with None from `.get`. Ask `name in model_state` first; `and` stops there when it
            isn't.""",
            raises="KeyError|'NoneType' object has no attribute",
        ),
        Wrong(
            "names_only",
            """
def what_fits(model_state, file_state):
    return {name: tensor for name, tensor in file_state.items() if name in model_state}
""",
            """The names fit, the shapes don't: the file's `fc.weight` has 10 rows, the model's has
            2. `strict=False` forgives names, never sizes.""",
        ),
    ),
    judge=_judge_matching,
)

# --- 3.4 ------------------------------------------------------------------------------------------


def _judge_find(answer: Any) -> Verdict:
    state = _copied(SmallResNet(2).state_dict())
    moments = {"fc.weight": torch.zeros(2, 6), "fc.bias": torch.zeros(2)}
    cases: tuple[tuple[str, dict[str, Any]], ...] = (
        ("the state dict itself", dict(state)),
        ("one with it under `state_dict`", {"epoch": 3, "state_dict": dict(state)}),
        (
            "one with it under `model`, beside an optimizer",
            {"optimizer": {"moments": dict(moments)}, "model": dict(state)},
        ),
        (
            "one with it two levels down",
            {"meta": {"lr": 0.1}, "net": {"tag": "a", "params": dict(state)}},
        ),
    )
    for what, checkpoint in cases:
        try:
            got = answer(copy.deepcopy(checkpoint))
        except KeyError:
            return mistake("one_key")
        if not isinstance(got, Mapping):
            returned(got, Mapping, "a dictionary")
        if _same(got, state):
            continue
        if _same(got, moments):
            return mistake("first_found")
        if set(got) == set(checkpoint):
            return mistake("outer")
        return not_yet(f"The checkpoint was {what}; you return another dictionary.")
    return passed("Wherever it was put, you find it by what it is, not by what it is called.")


ex3_4 = Exercise(
    "3.4",
    "Where are the weights?",
    minutes=12,
    question="""
        `torch.load` gave you a dictionary. It may be a state dict, or hold one under some name, at
        any depth, beside an epoch, an optimizer's state and what not. Return the state dict: the
        dictionary, here or further down, whose values are all tensors. If there are several, it is
        the one with the most entries.
    """,
    answer="find_state",
    stub="""
def find_state(checkpoint):
    return ...
""",
    solution="""
def find_state(checkpoint):
    found, waiting = [], [checkpoint]
    while waiting:
        here = waiting.pop()
        if here and all(isinstance(value, torch.Tensor) for value in here.values()):
            found.append(here)
        waiting += [value for value in here.values() if isinstance(value, dict)]
    return max(found, key=len)
""",
    why="""
        Neither a file's ending nor the names inside are agreed on: `state_dict`, `model`, `net` and
        others occur. So look at what is there. An optimizer's state holds tensors too, hence the
        rule about size; a reader that is asked to guess should say what it took.
    """,
    hints=(
        "How do you tell a state dict from another dictionary, without knowing its name?",
        "If it isn't one itself, look into each value that is a dictionary, and so on.",
        "Collect all that qualify, then `max(found, key=len)`.",
    ),
    wrongs=(
        Wrong(
            "one_key",
            """
def find_state(checkpoint):
    return checkpoint["state_dict"]
""",
            """That works for files that use this name. Others say `model` or `net`, or are the
            state dict themselves, and then there is a KeyError. Go by what the values are.""",
        ),
        Wrong(
            "outer",
            """
def find_state(checkpoint):
    return checkpoint.get("state_dict", checkpoint)
""",
            """Where the name is another, you return the whole checkpoint, with epoch and all. With
            `strict=False` nothing of it would be loaded, without an error.""",
        ),
        Wrong(
            "first_found",
            """
def find_state(checkpoint):
    if all(isinstance(value, torch.Tensor) for value in checkpoint.values()):
        return checkpoint
    for value in checkpoint.values():
        if isinstance(value, dict):
            found = find_state(value)
            if found:
                return found
""",
            """You took the first dictionary of tensors. It was the optimizer's, which holds
            tensors as well. Collect all of them, and take the largest.""",
        ),
    ),
    judge=_judge_find,
)

# --- 3.5 ------------------------------------------------------------------------------------------


def _judge_all_or_nothing(answer: Any) -> Verdict:
    good = _copied(CharacterModel().state_dict())
    short = {name: tensor for name, tensor in good.items() if name != "fc2.bias"}
    cases = (
        {**good, "fc3.bias": torch.zeros(10)},  # the last one has another shape
        short,
        {**good, "aux.weight": torch.zeros(3)},
    )
    model = CharacterModel()
    answer(model, _copied(good))
    if moved(good, model):
        return not_yet("A state dict that fits wasn't loaded.")
    for state in cases:
        model = CharacterModel()
        before = copied_tensors(model)
        flags = [each.requires_grad for each in model.parameters()]
        try:
            answer(model, _copied(state))
        except Exception:
            if moved(before, model):
                return mistake("half_loaded")
            if flags != [each.requires_grad for each in model.parameters()]:
                return not_yet("The numbers are as they were, but flags of parameters changed.")
            continue
        return mistake("silent" if moved(before, model) else "swallowed")
    return passed("It loads whole or not at all, and says when it doesn't.")


ex3_5 = Exercise(
    "3.5",
    "All or nothing",
    minutes=10,
    question="""
        `load_state_dict` raises on a tensor of the wrong shape, and has loaded the others by then.
        Fix the function below: it loads `state` into `model` if every name and every shape agrees.
        Otherwise it raises an error (any), and the model is as it was, bit for bit.
    """,
    answer="load_whole",
    stub="""
def load_whole(model, state):
    model.load_state_dict(state)
""",
    solution="""
def load_whole(model, state):
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in state.items()}
    if wanted != found:
        wrong = sorted(set(wanted.items()) ^ set(found.items()))
        raise ValueError(f"Nothing was loaded; these don't agree: {wrong}")
    model.load_state_dict(state)
""",
    why="""
        Check everything, then do it. The other way, to do it and go back when it fails, needs a
        true copy of all weights: a `state_dict()` kept aside would change along.
    """,
    hints=(
        "Load a state dict with one wrong shape, catch the error, and compare the other weights.",
        "Can you know that loading will work before you load?",
        "Compare names and shapes of `model.state_dict()` and `state`; raise if they differ.",
    ),
    wrongs=(
        Wrong(
            "half_loaded",
            """
def load_whole(model, state):
    before = model.state_dict()
    try:
        model.load_state_dict(state)
    except RuntimeError:
        model.load_state_dict(before)
        raise
""",
            """It raises, and the model is half loaded: `load_state_dict` copies what fits and
            complains at the end. (A `state_dict()` kept to go back to is no copy: it has changed
            along.)""",
        ),
        Wrong(
            "silent",
            """
def load_whole(model, state):
    mine = model.state_dict()
    fits = {n: t for n, t in state.items() if n in mine and t.shape == mine[n].shape}
    model.load_state_dict(fits, strict=False)
""",
            """A state dict that doesn't fit was loaded in part, and nobody was told. The caller
            goes on with a model that is half theirs and half random.""",
        ),
        Wrong(
            "swallowed",
            """
def load_whole(model, state):
    mine = model.state_dict()
    if all(n in mine and t.shape == mine[n].shape for n, t in state.items()):
        if len(mine) == len(state):
            model.load_state_dict(state)
""",
            """The model is untouched, and so is the caller's belief that all went well. Raise an
            error that says what doesn't agree.""",
        ),
    ),
    judge=_judge_all_or_nothing,
)

# --- 3.6 ------------------------------------------------------------------------------------------


def _judge_rename(answer: Any) -> Verdict:
    mine = {
        "stem.weight": torch.zeros(4, 3),
        "block.b.weight": torch.zeros(4, 4),
        "block.a.weight": torch.zeros(4, 4),
        "head.bias": torch.zeros(2),
    }
    shapes = [tensor.shape for tensor in mine.values()]
    theirs = {f"features.{9 - place}": torch.randn(shape) for place, shape in enumerate(shapes)}
    got = returned(answer(dict(mine), dict(theirs)), Mapping, "a dictionary")
    wanted = dict(zip(mine, theirs.values(), strict=True))
    if set(got) == set(theirs):
        return not_yet("The result has the file's names. It should have the model's.")
    if set(got) != set(mine):
        return not_yet(f"The result should have the model's names; it has {listed(got)}.")
    for name, tensor in got.items():
        if tensor.shape != mine[name].shape or not torch.equal(tensor, wanted[name]):
            same_pair = torch.equal(got["block.b.weight"], got["block.a.weight"])
            return mistake("by_shape" if same_pair else "sorted")
    swapped = dict(zip(theirs, [list(theirs.values())[i] for i in (0, 1, 3, 2)], strict=True))
    longer = {**theirs, "features.extra": torch.randn(2)}
    shorter = dict(list(theirs.items())[:3])
    turned = {**theirs, next(iter(theirs)): torch.randn(3, 4)}  # as many numbers, another shape
    for file in (swapped, longer, shorter, turned):
        try:
            answer(dict(mine), dict(file))
        except Exception:
            continue
        return mistake("unchecked")
    return passed(
        "In order, one to one, with every shape checked. Two neighbours of equal shape could still "
        "have changed places: only the network's behaviour tells."
    )


ex3_6 = Exercise(
    "3.6",
    "Other names, same network",
    minutes=10,
    question="""
        A file holds the weights of your architecture under other names. Both state dicts list their
        tensors in the same order. Return the file's tensors under the model's names. If the two
        don't agree in number, or in the shape at any place, raise an error (any).
    """,
    answer="rename_in_order",
    stub="""
def rename_in_order(model_state, file_state):
    return ...
""",
    solution="""
def rename_in_order(model_state, file_state):
    renamed = dict(zip(model_state, file_state.values(), strict=True))
    for name, tensor in renamed.items():
        if tensor.shape != model_state[name].shape:
            raise ValueError(f"{name}: {tuple(tensor.shape)} doesn't fit.")
    return renamed
""",
    why="""
        A state dict keeps the order in which the layers were registered, and that order often
        outlives a renaming: so it is for the 296 tensors of EfficientNet-Lite0. `strict=True` makes
        `zip` refuse lists of different length. That shapes agree is evidence, no proof; the proof
        is that the network recognises things.
    """,
    hints=(
        "What do both state dicts have in common, if not the names?",
        "`zip` pairs them up in order. What does it do when one is longer?",
        "`zip(..., strict=True)`, and compare the shapes of each pair.",
    ),
    wrongs=(
        Wrong(
            "unchecked",
            """
def rename_in_order(model_state, file_state):
    return dict(zip(model_state, file_state.values()))
""",
            """For files that fit, this is right. For others it says nothing: `zip` stops at the end
            of the shorter list, and shapes weren't compared. Raise an error in both cases.""",
        ),
        Wrong(
            "by_shape",
            """
def rename_in_order(model_state, file_state):
    by_shape = {tensor.shape: tensor for tensor in file_state.values()}
    return {name: by_shape[tensor.shape] for name, tensor in model_state.items()}
""",
            """You went by shape alone, so two layers of one shape got the same tensor. Networks are
            full of such layers. Keep to the order.""",
        ),
        Wrong(
            "sorted",
            """
def rename_in_order(model_state, file_state):
    return {m: file_state[f] for m, f in zip(sorted(model_state), sorted(file_state), strict=True)}
""",
            """The pairs are mixed up, as they are when names are sorted first: different names sort
            differently. The order in the state dicts is what they have in common; keep to it.""",
        ),
    ),
    judge=_judge_rename,
)

# --- 3.7 ------------------------------------------------------------------------------------------


def _judge_checkpoint(answer: Any) -> Verdict:
    def fresh() -> tuple[nn.Module, torch.optim.Optimizer]:
        model = CharacterModel()
        return model, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    batch = texts()
    model, optimizer = fresh()
    train(model, optimizer, batch, steps=3)
    at_the_time = copied_tensors(model)
    kept = returned(answer(model, optimizer), dict, "a dictionary")
    if "model" not in kept:
        return not_yet('Put the model\'s state under the name "model".')
    if not kept.get("optimizer"):
        return mistake("no_optimizer")
    for name, state in (("model", kept["model"]), ("optimizer", kept["optimizer"])):
        if not isinstance(state, Mapping):
            return not_yet(
                f'Under "{name}" you put {"`...`" if state is ... else named(state)}. Put there '
                f"what `{name}.state_dict()` gives."
            )
    train(model, optimizer, batch, steps=2)
    resumed, second = fresh()
    resumed.load_state_dict(kept["model"])
    if moved(at_the_time, resumed):
        return mistake("weights_alias")
    second.load_state_dict(kept["optimizer"])
    train(resumed, second, batch, steps=2)
    if moved(copied_tensors(model), resumed):
        return mistake("momentum_alias")
    return passed("Two steps on, the resumed run is where the first one is, bit for bit.")


ex3_7 = Exercise(
    "3.7",
    "Stop and go on",
    minutes=8,
    question="""
        Return a checkpoint, a dictionary with the names "model" and "optimizer", from which a run
        can be resumed as if it had never stopped. The first run goes on training after your
        function returns; the checkpoint must not change with it.
    """,
    answer="make_checkpoint",
    stub="""
def make_checkpoint(model, optimizer):
    return {"model": ..., "optimizer": ...}
""",
    solution="""
def make_checkpoint(model, optimizer):
    return copy.deepcopy({"model": model.state_dict(), "optimizer": optimizer.state_dict()})
""",
    why="""
        With momentum, the next step depends on the steps before it, and that memory is in the
        optimizer. Both state dicts point to live tensors; writing them to a file copies them, and
        in memory a deep copy does. A real checkpoint also holds the scheduler, the epoch, the
        random states, and which layers are frozen.
    """,
    hints=(
        "What does the next step depend on, beside the weights and the data?",
        "The optimizer has a `state_dict()` as well, with its momentum.",
        "Both hold live tensors. `copy.deepcopy` copies a whole dictionary.",
    ),
    wrongs=(
        Wrong(
            "no_optimizer",
            """
def make_checkpoint(model, optimizer):
    return {"model": copy.deepcopy(model.state_dict()), "optimizer": None}
""",
            """The optimizer's state is missing: the resumed run begins without momentum, and its
            first steps are other ones. It looks like a bump in the loss curve.""",
        ),
        Wrong(
            "weights_alias",
            """
def make_checkpoint(model, optimizer):
    return {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
""",
            """The weights in the checkpoint went on training with the model: a state dict holds the
            live tensors. Copy it.""",
        ),
        Wrong(
            "momentum_alias",
            """
def make_checkpoint(model, optimizer):
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    return {"model": weights, "optimizer": optimizer.state_dict()}
""",
            """The weights are those of the moment, the momentum is not: the optimizer's state dict
            holds live tensors as well, and they went on. Copy both.""",
        ),
    ),
    judge=_judge_checkpoint,
)

# --- 3.8 ------------------------------------------------------------------------------------------


class _Detector(nn.Module):
    """A classifier's layers without its head as ``backbone.body``, and a head for four numbers."""

    def __init__(self) -> None:
        super().__init__()
        body = SmallResNet()
        del body.fc
        self.backbone = nn.ModuleDict({"body": body})
        self.box = nn.Linear(FEATURES, 4)


def _judge_backbone(answer: Any) -> Verdict:
    detector, classifier = _Detector(), SmallResNet(5)
    train(classifier, torch.optim.SGD(classifier.parameters(), lr=0.1), pictures(classes=5))
    state = _copied(classifier.state_dict())
    wanted = {name: tensor for name, tensor in state.items() if not name.startswith("fc.")}
    box = copied_tensors(detector.box)
    answer(detector, _copied(state))
    body = detector.backbone["body"].state_dict()
    if body.keys() != wanted.keys():
        return mistake("head_put_back")
    if moved(box, detector.box):
        return not_yet("The detector's own head, `box`, has changed. It should stay as it is.")
    left = {name for name in wanted if not torch.equal(body[name], wanted[name])}
    if left == wanted.keys():
        return mistake("nothing")
    if left and all("fc" in name for name in left):
        return mistake("substring")
    if left:
        return not_yet(f"{listed(left)} of the body is not what the file has.")
    other = {f"encoder.{name}": tensor for name, tensor in state.items()}
    for file in (other, {name: tensor for name, tensor in state.items() if name != "bn2.bias"}):
        try:
            answer(_Detector(), file)
        except Exception:
            continue
        return mistake("silent")
    return passed(
        "The body is the classifier's, the head is the detector's, and nothing is missed."
    )


ex3_8 = Exercise(
    "3.8",
    "A backbone for another task",
    minutes=8,
    question="""
        `state` is the state dict of a classifier whose head is `fc`. `detector.backbone.body` has
        the same layers without the head; the detector's other parts have nothing to do with the
        file. Load the body, whole and exact. A file that lacks a tensor of the body raises an error
        (any). The code below loads nothing, and says so nowhere.
    """,
    answer="load_backbone",
    stub="""
def load_backbone(detector, state):
    detector.load_state_dict(state, strict=False)
""",
    solution="""
def load_backbone(detector, state):
    body = {name: tensor for name, tensor in state.items() if not name.startswith("fc.")}
    detector.backbone.body.load_state_dict(body)
""",
    why="""
        The body alone is asked, so its names are those of the file. What the file has too much is
        taken out by name, and the rest is loaded strictly, so that a name that is missing can't be
        missed. `weights.load_weights(detector.backbone.body, state, drop="fc")` is the same.
    """,
    hints=(
        "What are the names in `detector.state_dict()`, and what are those in `state`?",
        "`detector.backbone.body` is a module too, with a `load_state_dict` of its own.",
        "Take out the names that begin with `fc.`, and load the rest into the body strictly.",
    ),
    wrongs=(
        Wrong(
            "nothing",
            """
def load_backbone(detector, state):
    mine = detector.state_dict()
    detector.load_state_dict({n: t for n, t in state.items() if n in mine}, strict=False)
""",
            """Nothing was loaded. In the detector the names begin with `backbone.body.`, in the
            file they don't; `strict=False` lets that pass. Load into `detector.backbone.body`.""",
        ),
        Wrong(
            "substring",
            """
def load_backbone(detector, state):
    body = {name: tensor for name, tensor in state.items() if "fc" not in name}
    detector.backbone.body.load_state_dict(body, strict=False)
""",
            """The body has a layer `gate_fc`, whose name contains `fc`; it stayed random. Leave out
            the names that begin with `fc.`, and load the rest strictly.""",
        ),
        Wrong(
            "substring_strictly",
            """
def load_backbone(detector, state):
    body = {name: tensor for name, tensor in state.items() if "fc" not in name}
    detector.backbone.body.load_state_dict(body)
""",
            """The body has a layer `gate_fc`, whose name contains `fc`: it was left out too, and
            the strict loading found that. Leave out only the names that begin with `fc.`.""",
            raises='Missing key.*state_dict: "gate_fc',
        ),
        Wrong(
            "silent",
            """
def load_backbone(detector, state):
    detector.backbone.body.load_state_dict(state, strict=False)
""",
            """This file fits. With one that lacks a tensor, or has other names, you wouldn't hear
            of it: `strict=False` forgives what is missing as well. Take out the head by name, and
            load the rest strictly.""",
        ),
        Wrong(
            "head_put_back",
            """
def load_backbone(detector, state):
    detector.backbone.body.fc = nn.Linear(*reversed(state["fc.weight"].shape))
    detector.backbone.body.load_state_dict(state)
""",
            """The body got other names than it had: the classifier's head is in it now, which the
            detector never asks. Leave the head out of the state dict instead.""",
        ),
    ),
    judge=_judge_backbone,
)

# --- questions ------------------------------------------------------------------------------------

q3_1 = Question(
    "3.1",
    "What tells you whether a file holds a whole model, a state dict or a training checkpoint?",
    (
        Option(
            "Its ending: `.pt` is a model, `.pth` a state dict, `.ckpt` a checkpoint.",
            """Those are habits that nobody has to keep. The same bytes load under any of these
            names.""",
        ),
        Option(
            "Only what is inside: look before you load.",
            """Right. Read it safely, look at the type and the names, then decide. The page shows
            `course_lib.weights`, which does so.""",
            right=True,
        ),
        Option(
            "Its size.",
            """A checkpoint with an optimizer's state is larger than the weights alone; but so are
            the weights of a larger network.""",
        ),
    ),
)
q3_2 = Question(
    "3.2",
    """
    Your model has 2 classes, the file 1000. You call `load_state_dict(state, strict=False)`. What
    happens?
    """,
    (
        Option(
            "All but the head is loaded, and the call returns what it left out.",
            "That would be nice. But `strict` speaks of names, missing or too many, not of sizes.",
        ),
        Option(
            "It raises an error, and nothing was loaded.",
            "It raises. But by then every tensor that fits has been copied.",
        ),
        Option(
            "It raises an error, and what fits was loaded.",
            """Yes. A size mismatch is never forgiven, and the model is half loaded when you read
            about it. Take the head out of the state dict first.""",
            right=True,
        ),
    ),
)
q3_3 = Question(
    "3.3",
    """
    A wrapped model saved all names with `module.` in front. You load the file into the plain model
    with `strict=False`, and no error comes. What is in the model?
    """,
    (
        Option(
            "The file's weights: torch knows about the prefix.",
            "It doesn't. To it, `module.fc.weight` and `fc.weight` are two different names.",
        ),
        Option(
            "What was in it before.",
            """Right: no name fits, so nothing is loaded, and `strict=False` means not to complain.
            The returned lists of missing and unexpected names would have told.""",
            right=True,
        ),
        Option(
            "Zeros.",
            "Loading writes only what has a name in both. Nothing is cleared.",
        ),
    ),
)
q3_4 = Question(
    "3.4",
    "Somebody sends you a `.pth` file. Why read it with `weights_only=True`?",
    (
        Option(
            "Because it is faster.",
            "The time goes into reading the file, either way.",
        ),
        Option(
            "Because such a file can hold instructions, which reading it otherwise carries out.",
            """Right: it is a pickle, and a pickle may call any function while it is read. With
            `weights_only=True`, only tensors and plain containers are allowed; a safetensors file
            can't hold anything else.""",
            right=True,
        ),
        Option(
            "Because otherwise the optimizer's state and the training's settings are loaded "
            "as well.",
            """What you use of what you read is up to you. `weights_only` is about what reading may
            do, and it lets an optimizer's state through.""",
        ),
    ),
)

EXERCISES = (ex3_1, ex3_2, ex3_3, ex3_4, ex3_5, ex3_6, ex3_7, ex3_8)
QUESTIONS = (q3_1, q3_2, q3_3, q3_4)
