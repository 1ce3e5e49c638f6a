"""The five methods, and the course's own ``freeze``, against ten questions: measured, not told.

Each question is a function that takes one method, runs it on a small model and says what came out
in a word, with the reason in a sentence. Nothing is written down beforehand: change a method, and
its cells change. ``measure_all()`` asks all questions of all methods and gives a table.

Two models suffice. ``LetterReader`` has no buffers: freeze its ``fc1``, in the middle. In
``PictureReader`` the frozen ``body`` has BatchNorm and dropout, and only the ``head`` trains. The
same questions are answered for other kinds of network, each again as two: see ``SUBJECTS``.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.parametrizations import _SpectralNorm
from torch.optim import Optimizer

from course_lib import profile
from course_lib.errors import UnknownNameError, suggest
from course_lib.freezing.core import freeze, unfreeze
from course_lib.freezing.costs import StepCost, cost_of_step
from course_lib.freezing.matrix_table import Cell, Matrix
from course_lib.freezing.methods import METHODS, Method, RequiresGrad
from course_lib.freezing.select import Names
from course_lib.freezing.state import freeze_state, restore_freeze_state
from course_lib.freezing.subjects import PLAIN, SUBJECTS, LetterReader, PictureReader, Subject

__all__ = [
    "METHODS", "QUESTIONS", "ROWS", "SUBJECTS", "CourseFreeze", "LetterReader", "PictureReader",
    "Run", "measure", "measure_all",
]  # fmt: skip

STEPS = 10  # enough for gradients and momentum to pile up
RATE = 0.02


class CourseFreeze(Method):
    """The course's own ``freeze`` as a sixth method: any names, parameters and buffers."""

    title = "the course's freeze"
    names: Names = ()

    def freeze(self, model: nn.Module, names: Names) -> None:
        """Hold the named parts."""
        freeze(model, names)
        self.names = names

    def unfreeze(self, model: nn.Module, optimizer: Optimizer, **group: Any) -> None:
        """Let them go, and give the optimizer what it lacks."""
        unfreeze(model, self.names, optimizer, **group)


ROWS: tuple[type[Method], ...] = (*METHODS, CourseFreeze)


class Run:
    """A model with a method applied to a part of it, ready to take steps.

    Args:
        kind: the method; None freezes nothing.
        letters: the subject's network with a layer in the middle frozen, which for the plain one
            reads letters; or else the one with its body frozen.
        subject: the kind of network.
    """

    def __init__(
        self, kind: type[Method] | None, letters: bool = True, subject: Subject = PLAIN
    ) -> None:
        torch.manual_seed(0)
        setting = subject.middle if letters else subject.body
        self.model, self.name, self.before = setting.build(), setting.part, setting.before
        self.batch = setting.batch()
        self.part = self.model.get_submodule(self.name)
        # A method that was never told to freeze anything is the plain loop.
        self.method = (kind or RequiresGrad)()
        if kind:
            self.method.freeze(self.model, self.name)
        self.optimizer = self.method.make_optimizer(self.model, _sgd)

    def loss(self, model: nn.Module) -> torch.Tensor:
        """How wrong the model is about the batch: cross-entropy, shape ()."""
        return nn.functional.cross_entropy(model(self.batch[0]), self.batch[1])

    def step(self, held: bool = False) -> None:
        """One training step, in training mode, as loops do it; a held part is put back in eval."""
        self.model.train()
        if held:
            self.part.eval()
        self.method.step(self.model, self.optimizer, self.loss)

    def cost(self) -> StepCost:
        """What a step costs; the optimizer has its moments by then."""
        self.step()
        copies = getattr(self.method, "cache", ())
        return cost_of_step(self.model, self.optimizer, self.step, self.batch, copies)

    def weights(self) -> dict[str, torch.Tensor]:
        """Copies of what the part computes with, biases apart: also what it computes them from.

        Under weight_norm and the like a layer's ``weight`` is no parameter: it is computed from
        some, and from buffers too.
        """
        named = self.part.named_parameters()
        found: dict[str, torch.Tensor] = {n: p for n, p in named if not n.endswith("bias")}
        modes = [(module, module.training) for module in self.part.modules()]
        for module, _ in modes:
            module.training = False  # or looking at it would change it
        for name, module in self.part.named_modules():
            weight = getattr(module, "weight", None)
            if isinstance(weight, torch.Tensor):
                found[f"{name}.weight".lstrip(".")] = weight
        for module, mode in modes:
            module.training = mode
        return {name: each.detach().clone() for name, each in found.items()}


def weights(kind: type[Method], subject: Subject = PLAIN) -> Cell:
    """Is the frozen weight bit for bit the same after training?"""
    run = Run(kind, subject=subject)
    return _stand_still(run, run.weights, "weight")


def biases(kind: type[Method], subject: Subject = PLAIN) -> Cell:
    """And the bias?"""
    run = Run(kind, subject=subject)
    named = [(n, p) for n, p in run.part.named_parameters() if n.endswith("bias")]
    return _stand_still(run, lambda: {n: p.detach().clone() for n, p in named}, "bias")


def buffers(kind: type[Method], subject: Subject = PLAIN) -> Cell:
    """Are BatchNorm's running statistics the same after training?"""
    run = Run(kind, letters=False, subject=subject)
    before = {name: tensor.clone() for name, tensor in run.part.named_buffers()}
    if not before:
        return Cell("none", True, "The frozen part has no buffers.")
    _repeat(run.step)
    moved = [n for n, tensor in run.part.named_buffers() if not torch.equal(tensor, before[n])]
    if moved:
        cause = (
            "BatchNorm in training mode takes its running mean and variance from every batch"
            if _has(run.part, _BatchNorm)
            else "spectral norm in training mode improves its vectors at every forward"
        )
        why = f"{len(moved)} of {len(before)} buffers moved: {cause}, whatever the gradients do."
        return Cell("move", False, why)
    return Cell("kept", True, f"All {len(before)} buffers are bit for bit what they were.")


def optimizer_state(kind: type[Method], subject: Subject = PLAIN) -> Cell:
    """Does the optimizer gather momentum for what is frozen?"""
    run = Run(kind, subject=subject)
    _repeat(run.step)
    kept = [each for each in run.part.parameters() if run.optimizer.state.get(each)]
    if kept:
        why = (
            f"A momentum is kept and moved for {len(kept)} frozen tensors, of steps that were "
            "taken back."
        )
        return Cell("grows", False, why)
    return Cell("empty", True, "The optimizer remembers nothing of the frozen tensors.")


def gradients_upstream(kind: type[Method], subject: Subject = PLAIN) -> Cell:
    """Does the embedding before the frozen layer get the gradient that it would have anyway?

    A frozen layer that computes as in inference is compared with one that was put in eval mode.
    """
    run, free = Run(kind, subject=subject), Run(None, subject=subject)
    run.step()
    free.step(held=not run.part.training)
    gradient, expected = (each.model.get_parameter(each.before).grad for each in (run, free))
    if gradient is None:
        why = "No gradient passes through the frozen layer: the embedding before it never learns."
        return Cell("cut off", False, why)
    if expected is None or not torch.equal(gradient, expected):
        return Cell("changed", False, "The gradient before the frozen layer isn't the true one.")
    return Cell("whole", True, "The embedding gets the same gradient, bit for bit, as without.")


def first_step_after(kind: type[Method], subject: Subject = PLAIN) -> Cell:
    """Is the first step after unfreezing as long as its own gradient says?

    The loop is one that clears the gradients after the step, so that at the moment of unfreezing
    those of all that the optimizer knows are clear. With fresh momentum, the step of SGD is the
    learning rate times the gradient.
    """
    run = Run(kind, subject=subject)
    _repeat(run.step)
    run.optimizer.zero_grad()
    run.method.unfreeze(run.model, run.optimizer)
    run.model.eval()  # the same function twice: its own gradient, and the step's
    before = [each.detach().clone() for each in run.part.parameters()]
    own = torch.autograd.grad(run.loss(run.model), list(run.part.parameters()))
    run.loss(run.model).backward()
    run.optimizer.step()
    steps = [old - new.detach() for old, new in zip(before, run.part.parameters(), strict=True)]
    times = _length(steps) / (RATE * _length(own))
    if times > 1.01:
        piled_up = _length(each.grad for each in run.part.parameters()) > 1.01 * _length(own)
        cause = (
            "the gradients of all the steps before have piled up, and a loop that clears them "
            "after its step doesn't reach them"
            if piled_up
            else "its momentum ran on all the while"
        )
        return Cell("leaps", False, f"It is {times:.0f} times as long as it should be: {cause}.")
    return Cell("normal", True, "It is as long as the learning rate times its own gradient.")


def time_a_step(kind: type[Method], subject: Subject = PLAIN) -> Cell:
    """How much of the work of training everything is left, counted in operations?"""
    share = (
        Run(kind, letters=False, subject=subject).cost().flops
        / Run(None, letters=False, subject=subject).cost().flops
    )
    said = f"{share:.0%} of the operations of training everything"
    if share < 0.45:
        return Cell("a third", True, f"{said}: forward, and the head's own backward pass.")
    return Cell("all", False, f"{said}: every gradient of the frozen part is computed too.")


def memory(kind: type[Method], subject: Subject = PLAIN) -> Cell:
    """How much memory beyond the weights is left, counted in bytes?"""
    cost, full = (
        Run(kind, letters=False, subject=subject).cost(),
        Run(None, letters=False, subject=subject).cost(),
    )
    share = cost.memory / full.memory
    said = f"{share:.1%} of what training everything needs beyond the weights"
    if share < 0.1:
        return Cell(
            "little", True, f"{said}: nothing of the frozen part is kept for a backward pass."
        )
    if share <= 1:
        why = f"{said}: only its momentum is saved, activations and gradients are all there."
        return Cell("most", False, why)
    return Cell("more", False, f"{said}: all of that, and a copy of the frozen weights.")


def survives_train(kind: type[Method], subject: Subject = PLAIN) -> Cell:
    """Put the frozen part in eval mode by hand, call ``model.train()``: is its answer the same?"""
    run = Run(kind, letters=False, subject=subject)
    run.model.eval()
    before = run.part(run.batch[0])
    run.model.train()
    if torch.equal(run.part(run.batch[0]), before):
        return Cell("holds", True, "The frozen part computes as in inference, whatever the mode.")
    causes = {
        "BatchNorm on the batch's own statistics": _has(run.part, _BatchNorm),
        "spectral norm with vectors that move on": _has(run.part, _SpectralNorm),
        "dropout on": True,
    }
    listed = ", ".join(each for each, holds in causes.items() if holds)
    why = f"The frozen part computes other numbers than before: {listed}."
    return Cell("undone", False, why)


def survives_resume(kind: type[Method], subject: Subject = PLAIN) -> Cell:
    """Save weights and freeze state, load both into a new model, train all: is it frozen?"""
    run = Run(kind, subject=subject)
    run.step()
    weights, state = run.model.state_dict(), freeze_state(run.model)
    resumed = Run(None, subject=subject)
    resumed.model.load_state_dict(weights)
    restore_freeze_state(resumed.model, state)
    before = [each.detach().clone() for each in resumed.part.parameters()]
    _repeat(resumed.step)
    pairs = zip(resumed.part.parameters(), before, strict=True)
    if all(torch.equal(now, old) for now, old in pairs):
        return Cell("back", True, "restore_freeze_state freezes in the new model what was frozen.")
    why = (
        "Nothing that is saved knows of the freeze: unless you freeze again after loading, the "
        "layer trains."
    )
    return Cell("lost", False, why)


QUESTIONS: dict[str, Callable[[type[Method], Subject], Cell]] = {
    "weights": weights, "biases": biases, "buffers": buffers, "optimizer state": optimizer_state,
    "gradients upstream": gradients_upstream, "first step after": first_step_after,
    "time a step": time_a_step, "memory": memory, "survives train()": survives_train,
    "survives resume": survives_resume,
}  # fmt: skip


def measure(kind: type[Method], question: str, subject: Subject = PLAIN) -> Cell:
    """One cell: run ``kind`` on the networks of ``subject`` and answer ``question``.

    The global random stream is left where it was.

    Raises:
        UnknownNameError: no such question.
    """
    if question not in QUESTIONS:
        raise UnknownNameError(
            f"The matrix has no question {question!r}.{suggest(question, QUESTIONS)} "
            f"It has: {', '.join(QUESTIONS)}."
        )
    with profile.own_streams():
        return QUESTIONS[question](kind, subject)


def measure_all(subject: Subject = PLAIN) -> Matrix:
    """All questions to all methods; a second or two, for the transformer some more."""
    cells = {(k.title, each): measure(k, each, subject) for k in ROWS for each in QUESTIONS}
    return Matrix(tuple(kind.title for kind in ROWS), tuple(QUESTIONS), cells)


def _stand_still(run: Run, look: Callable[[], dict[str, torch.Tensor]], key: str) -> Cell:
    before = look()
    _repeat(run.step)
    moved = [name for name, each in look().items() if not torch.equal(each, before[name])]
    name = f"{run.name}.{key}"
    if not moved:
        return Cell("kept", True, f"{name} is bit for bit what it was after {STEPS} steps.")
    own = {name for name, _ in run.part.named_parameters()}
    if not own & {*moved}:
        why = f"{name} isn't what it was: it is computed from buffers too, which move."
        return Cell("moves", False, why)
    return Cell("moves", False, f"{name} isn't what it was: the method misses it.")


def _has(part: nn.Module, kind: type[nn.Module]) -> bool:
    return any(isinstance(module, kind) for module in part.modules())


def _repeat(step: Callable[[], None]) -> None:
    for _ in range(STEPS):
        step()


def _length(tensors: Any) -> float:
    """Euclidean length of several tensors as one vector."""
    return sum(tensor.square().sum().item() for tensor in tensors) ** 0.5


def _sgd(parameters: Any) -> Optimizer:
    """The optimizer of the matrix: with momentum, so that it remembers."""
    return torch.optim.SGD(parameters, lr=RATE, momentum=0.9)
