"""What a user relies on: one small function a behaviour, the same for every library.

A behaviour builds the network, hands it to an adapter, and checks what came of it. It returns a
verdict and one sentence. None of them asks how a library does a thing.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from course_lib import profile
from course_lib.benchmarks.peers.adapters import Adapter, NotOffered, ids
from course_lib.benchmarks.peers.bench_model import bench_loss, new_bench_model, tensors

PASS, FAIL, NOT_OFFERED, NOT_INSTALLED = "pass", "fail", "not offered", "not installed"
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


@dataclass(frozen=True)
class Outcome:
    """What was found: a verdict and a sentence."""

    verdict: str
    why: str


@dataclass(frozen=True)
class Behaviour:
    """One thing that a user relies on.

    Attributes:
        name: short, for tests and the file.
        title: what holds if it passes.
        check: from a library to the outcome.
    """

    name: str
    title: str
    check: Callable[[type[Adapter]], Outcome]

    def __call__(self, library: type[Adapter]) -> Outcome:
        """Check whether the library has it; what it doesn't offer is no failure."""
        with profile.own_streams(seed=0):
            try:
                return self.check(library)
            except NotOffered as said:
                return Outcome(NOT_OFFERED, str(said))


BEHAVIOURS: list[Behaviour] = []
Check = Callable[[type[Adapter]], Outcome]


def _behaviour(title: str) -> Callable[[Check], Check]:
    def enter(check: Check) -> Check:
        BEHAVIOURS.append(Behaviour(check.__name__, title, check))
        return check

    return enter


def _outcome(holds: bool, good: str, bad: str) -> Outcome:
    return Outcome(PASS, good) if holds else Outcome(FAIL, bad)


def _moved(model: nn.Module, action: Callable[[], object], part: str = "") -> list[str]:
    """The tensors of a part that an action changes, be it by a bit; gone ones don't count."""
    before = tensors(model)
    action()
    after = tensors(model)
    changed = [n for n, was in before.items() if n in after and not torch.equal(was, after[n])]
    return [name for name in changed if name.startswith(part)]


def _none(found: list[str], good: str, bad: str) -> Outcome:
    """Pass if there is none; else say how many there are, and one of them."""
    return Outcome(FAIL, bad.format(len(found), found[0])) if found else Outcome(PASS, good)


def _still(moved: list[str], good: str) -> Outcome:
    return _none(moved, good, "{1} moved, for one.")


def _frozen(library: type[Adapter], model: nn.Module | None = None, **settings: Any) -> Adapter:
    """The backbone frozen, then the optimizer made: the usual order."""
    adapter = library(model or new_bench_model(), **settings)
    adapter.freeze()
    adapter.start()
    return adapter


def _trained(library: type[Adapter]) -> Adapter:
    """All layers trained for an epoch, nothing frozen yet."""
    adapter = library(new_bench_model())
    adapter.start()
    adapter.train()
    return adapter


def _moved_while_frozen(library: type[Adapter], defaults: bool = False) -> list[str]:
    """What moved of the backbone while it was frozen and trained for two epochs."""
    model = new_bench_model()

    def freeze_and_train() -> None:
        adapter = _frozen(library, model, defaults=defaults)
        adapter.train()
        adapter.train()

    moved = _moved(model, freeze_and_train)
    if not any(name.startswith("head") for name in moved):
        raise AssertionError("The head didn't train: the measurement says nothing.")
    return [name for name in moved if name.startswith("backbone")]


@_behaviour("Frozen weights and biases stay bit-exact")
def weights_stay(library: type[Adapter]) -> Outcome:
    """Two epochs with momentum and weight decay."""
    moved = [name for name in _moved_while_frozen(library) if not name.endswith(STATISTICS)]
    return _still(moved, "Nothing moved in two epochs with momentum and weight decay.")


@_behaviour("BatchNorm's statistics stay, through model.train()")
def statistics_stay(library: type[Adapter]) -> Outcome:
    """Each library is asked to hold BatchNorm too, in its own way."""
    moved = [name for name in _moved_while_frozen(library) if name.endswith(STATISTICS)]
    return _still(moved, "No running statistic moved.")


@_behaviour("Nothing frozen moves with the defaults")
def defaults_hold(library: type[Adapter]) -> Outcome:
    """The first line of the documentation, without further arguments."""
    moved = _moved_while_frozen(library, defaults=True)
    return _still(moved, "No parameter and no buffer moved.")


@_behaviour("Frozen BatchNorm computes as in inference")
def batchnorm_as_in_inference(library: type[Adapter]) -> Outcome:
    """By its running statistics, whatever else is in the batch."""
    # What it was given and what its neighbour gave: the BatchNorm itself may have been replaced.
    model = new_bench_model()
    reference = copy.deepcopy(model).eval()
    adapter = _frozen(library, model)
    given: list[Tensor] = []
    got: list[Tensor] = []
    stem = model.get_submodule("backbone.stem")
    stem.get_submodule("conv").register_forward_hook(lambda _, __, out: given.append(out.detach()))
    stem.get_submodule("relu").register_forward_hook(lambda _, x, __: got.append(x[0].detach()))
    adapter.train()
    expected = reference.get_submodule("backbone.stem.bn")(given[0])
    return _outcome(
        torch.allclose(got[0], expected, atol=1e-5),
        "It normalises by its running statistics.",
        "It normalises by the batch: what a picture gives depends on the others.",
    )


@_behaviour("Frozen dropout is off")
def dropout_off(library: type[Adapter]) -> Outcome:
    """A frozen part gives the same features for the same picture."""
    adapter = _frozen(library)
    same: list[bool] = []
    adapter.model.get_submodule("backbone.body.drop").register_forward_hook(
        lambda _, given, got: same.append(torch.equal(given[0], got))
    )
    adapter.train()
    return _outcome(
        same[0], "The frozen part computes as in inference.", "Dropout goes on in the frozen part."
    )


@_behaviour("No gradient is computed for what is frozen")
def no_gradient(library: type[Adapter]) -> Outcome:
    """That is the time which freezing saves."""
    adapter = _frozen(library)
    bench_loss(adapter.model, adapter.data[0]).backward()
    parameters = adapter.model.named_parameters()
    computed = [n for n, p in parameters if "head" not in n and p.grad is not None]
    return _outcome(
        not computed, "Only the head gets gradients.", f"{len(computed)} frozen parameters get one."
    )


@_behaviour("Freezing between two epochs holds")
def freeze_between_epochs(library: type[Adapter]) -> Outcome:
    """The optimizer holds the part, its momentum, and the last gradients."""
    adapter = _trained(library)
    adapter.freeze()
    moved = _moved(adapter.model, adapter.train, "backbone")
    return _still(moved, "Nothing moved after an epoch of training it.")


@_behaviour("Freezing after backward, before the step, holds")
def freeze_after_backward(library: type[Adapter]) -> Outcome:
    """As in the middle of an accumulation."""
    adapter = _trained(library)
    bench_loss(adapter.model, adapter.data[0]).backward()
    adapter.freeze()
    moved = _moved(adapter.model, adapter.optimizer.step, "backbone")
    return _still(moved, "The stale gradient was not used.")


@_behaviour("Unfreezing gives back the same objects")
def same_objects(library: type[Adapter]) -> Outcome:
    """Hooks, references and the optimizer's entries go on working."""
    model = new_bench_model()
    before = dict(model.named_modules()) | dict(model.named_parameters())
    adapter = _frozen(library, model)
    adapter.train()
    adapter.unfreeze()
    after = dict(model.named_modules()) | dict(model.named_parameters())
    other = [n for n, each in before.items() if after.get(n) is not each]
    good = "All modules and parameters are the ones from before."
    return _none(other, good, "{} are new objects, {} for one.")


@_behaviour("Flags from before come back")
def flags_come_back(library: type[Adapter]) -> Outcome:
    """A parameter that you had switched off stays off."""
    model = new_bench_model()
    model.get_parameter("backbone.stem.conv.bias").requires_grad_(False)
    adapter = _frozen(library, model)
    adapter.unfreeze()
    return _outcome(
        not model.get_parameter("backbone.stem.conv.bias").requires_grad,
        "What was off before is off after.",
        "Unfreezing switches on what was off before freezing.",
    )


def _thawed(library: type[Adapter]) -> Adapter:
    """A backbone frozen before the optimizer was made, trained for an epoch, and unfrozen."""
    adapter = _frozen(library)
    adapter.train()
    adapter.unfreeze_into_optimizer()
    return adapter


@_behaviour("Unfreezing adds to the optimizer what it lacks")
def optimizer_gets_all(library: type[Adapter]) -> Outcome:
    """The whole backbone in one call."""
    return _all_in_optimizer(_thawed(library))


@_behaviour("Unfreezing stage after stage misses none, equal values or not")
def optimizer_gets_equal_values(library: type[Adapter]) -> Outcome:
    """Two new BatchNorm layers hold the same numbers, and are two all the same."""
    adapter = _frozen(library)
    adapter.train()
    for stage in ("backbone.body", "backbone.stem"):
        adapter.part = [stage]
        adapter.unfreeze_into_optimizer()
    return _all_in_optimizer(adapter)


def _all_in_optimizer(adapter: Adapter) -> Outcome:
    held = ids(adapter.held())
    missing = [n for n, p in adapter.model.named_parameters() if id(p) not in held]
    return _none(missing, "Every parameter is in the optimizer.", "{} are left out, {} for one.")


@_behaviour("No parameter enters the optimizer twice")
def optimizer_gets_none_twice(library: type[Adapter]) -> Outcome:
    """Unfreezing what is unfrozen already is harmless."""
    adapter = _thawed(library)
    adapter.unfreeze_into_optimizer()
    held = adapter.held()
    return _outcome(
        len(held) == len(ids(held)),
        "Unfreezing twice adds nothing twice.",
        f"{len(held) - len(ids(held))} parameters are there twice.",
    )


@_behaviour("Old momentum is gone after unfreezing")
def momentum_is_gone(library: type[Adapter]) -> Outcome:
    """Train, freeze, train the head, unfreeze: the first step without a gradient must not move."""
    adapter = _trained(library)
    adapter.freeze()
    adapter.train()
    adapter.unfreeze_into_optimizer()
    adapter.optimizer.zero_grad()
    for group in adapter.optimizer.param_groups:
        group["weight_decay"] = 0.0  # torch's name; a step without gradient is momentum alone
    if hasattr(adapter.optimizer, "set_hypers"):
        adapter.optimizer.set_hypers(wd=0.0)  # fastai's
    for parameter in adapter.model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    moved = _moved(adapter.model, adapter.optimizer.step, "backbone")
    return _still(moved, "A step with gradients of zero moves nothing.")


@_behaviour("A dotted name freezes just that module")
def dotted_name(library: type[Adapter]) -> Outcome:
    """``backbone.body``: no more and no less."""
    adapter = _frozen(library, part=["backbone.body"])
    moved = _moved(adapter.model, adapter.train)
    inside = [name for name in moved if name.startswith("backbone.body")]
    trained = [name for name in moved if "body" not in name]
    return _outcome(
        not inside and all(any(part in n for n in trained) for part in ("stem", "head")),
        library.part_by,
        f"{len(inside)} tensors inside moved, or others stood still.",
    )


@_behaviour("One tensor can be frozen")
def one_tensor(library: type[Adapter]) -> Outcome:
    """``backbone.stem.conv.weight`` alone, its bias training."""
    adapter = library(new_bench_model())
    adapter.freeze_tensor("backbone.stem.conv.weight")
    adapter.start()
    moved = _moved(adapter.model, adapter.train)
    holds = "backbone.stem.conv.weight" not in moved and "backbone.stem.conv.bias" in moved
    return _outcome(holds, library.part_by, "The weight moved, or its bias stood still.")


@_behaviour("An unknown name is an error, and nothing has changed")
def unknown_name(library: type[Adapter]) -> Outcome:
    """A right name and a misspelt one: all or nothing."""
    if library.no_names:
        raise NotOffered(library.no_names)
    model = new_bench_model()
    try:
        library(model, part=["backbone", "bakcbone"]).freeze()
    except Exception as error:
        if all(each.requires_grad for each in model.parameters()):
            hint = "offers the nearest" if "backbone'" in str(error) else "names the missing one"
            return Outcome(PASS, f"The error {hint}.")
        return Outcome(FAIL, "It raises, and has frozen a part by then.")
    return Outcome(FAIL, "The misspelt name is passed over in silence.")


@_behaviour("An empty list freezes nothing")
def empty_list(library: type[Adapter]) -> Outcome:
    """A list that a filter left empty."""
    if library.no_lists:
        raise NotOffered(library.no_lists)
    model = new_bench_model()
    library(model, part=[]).freeze()
    return _outcome(
        all(each.requires_grad for each in model.parameters()),
        "Nothing was frozen.",
        "The whole model was frozen; the documentation says so.",
    )


@_behaviour("A checkpoint saved while frozen loads strictly into the plain model")
def checkpoint_loads(library: type[Adapter]) -> Outcome:
    """The names in a state dict are the same."""
    model = new_bench_model()
    library(model).freeze()
    try:
        new_bench_model().load_state_dict(model.state_dict(), strict=True)
    except RuntimeError as error:
        lacks = str(error).count("num_batches_tracked")
        return Outcome(FAIL, f"{lacks} entries are missing, all named num_batches_tracked.")
    return Outcome(PASS, "All names fit.")


@_behaviour("One switch lets BatchNorm adapt on purpose")
def batchnorm_on_purpose(library: type[Adapter]) -> Outcome:
    """The rest of the part stays frozen."""
    adapter = library(new_bench_model())
    adapter.freeze_but_batchnorm()
    adapter.start()
    moved = _moved(adapter.model, adapter.train, "backbone")
    return _outcome(
        any("running_mean" in n for n in moved) and not any("conv" in n for n in moved),
        "One argument; the convolutions stay frozen.",
        "The statistics stood still, or a convolution moved.",
    )


@_behaviour("One call or object trains the head first, then all")
def head_then_all(library: type[Adapter]) -> Outcome:
    """Seen from inside: at which of the forward passes the first convolution differs."""
    model = new_bench_model()
    adapter = library(model)
    conv = model.get_submodule("backbone.stem.conv")
    head = model.head
    seen: list[list[Tensor]] = []

    def note(*_: object) -> None:
        seen.append([each.detach().clone() for each in (conv.get_parameter("weight"), head.weight)])

    conv.register_forward_hook(lambda *_: note() if model.training else None)
    adapter.head_then_all()
    note()
    first_stage, (last, _) = seen[: len(adapter.data)], seen[-1]
    held = all(torch.equal(body, seen[0][0]) for body, _ in first_stage)
    learned = not torch.equal(first_stage[-1][1], seen[0][1])
    return _outcome(
        held and learned and not torch.equal(last, seen[0][0]),
        library.stages_by,
        "The stages ran together, or one of them trained nothing.",
    )
