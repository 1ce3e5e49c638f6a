"""From facts to a verdict: what does one tensor do, and what is wrong with that?

The functions below are each about one kind of tensor and return what they find, the most telling
reason first. They read like the questions one would ask at the keyboard.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.nn.utils.parametrizations import _SpectralNorm
from torch.nn.utils.spectral_norm import SpectralNorm

from course_lib.freezing.auditing.facts import StepFacts, TensorFacts
from course_lib.freezing.auditing.reasons import LEVELS, Finding, finding
from course_lib.freezing.auditing.watch import ModuleSeen
from course_lib.freezing.hold import hold_of

Findings = Iterator[Finding]
Say = Callable[..., Finding]  # a reason's code -> the finding about the tensor in question


@dataclass(frozen=True, kw_only=True)
class Row:
    """One parameter or buffer.

    Attributes:
        name, names: its first name, and all of them when it is tied or its module shared.
        kind: ``"parameter"`` or ``"buffer"``.
        shape, size: its shape, and how many numbers that are.
        requires_grad: the flag before the step; None for a buffer.
        group: index of its group in the optimizer, found by identity; None when it is in none.
        gradient: Euclidean norm of the gradient it had at the optimizer's step; None for none.
        changed: whether any bit differs after the step.
        change: largest absolute change of an element.
        state: what it is doing: trains, frozen, still, updates, moved.
        findings: what is wrong with that, worst first.
    """

    name: str
    names: tuple[str, ...]
    kind: str
    shape: tuple[int, ...]
    size: int
    requires_grad: bool | None
    group: int | None
    gradient: float | None
    changed: bool
    change: float
    state: str
    findings: tuple[Finding, ...] = ()

    @property
    def level(self) -> str:
        """The worst level among its findings: leak, stuck, risk, note or ok."""
        return self.findings[0].level if self.findings else "ok"

    @property
    def reason(self) -> str:
        """The code of the worst finding, or an empty string."""
        return self.findings[0].code if self.findings else ""

    @property
    def verdict(self) -> str:
        """The level of a finding, or what the tensor does when all is well."""
        return self.state if self.level == "ok" else self.level


def judge(facts: TensorFacts, step: StepFacts) -> Row:
    """The row of one tensor, with all findings about it."""
    findings = _findings(facts, step)
    return Row(
        name=facts.name, names=facts.names, kind="parameter" if facts.is_parameter else "buffer",
        shape=tuple(facts.tensor.shape), size=facts.tensor.numel(),
        requires_grad=facts.requires_grad if facts.is_parameter else None, group=facts.group,
        gradient=facts.gradient, changed=facts.changed, change=facts.change,
        state=_state(facts, findings), findings=findings,
    )  # fmt: skip


def _state(facts: TensorFacts, findings: tuple[Finding, ...]) -> str:
    if any(each.level == "leak" for each in findings):
        return "moved"
    if not facts.is_parameter:
        held = facts.held or facts.declared == "frozen"
        return "updates" if facts.changed else "frozen" if held else "still"
    if facts.changed:
        return "trains"
    return "frozen" if facts.meant_frozen else "still"


def _findings(facts: TensorFacts, step: StepFacts) -> tuple[Finding, ...]:
    """What is wrong with one tensor, worst first."""
    say = partial(_say, facts, step)
    if not facts.is_parameter:
        found = list(_buffer(facts, step, say))
    elif facts.meant_frozen:
        found = list(_frozen(facts, step, say))
    elif facts.trains:
        found = list(_trained(facts, step, say))
    else:
        found = list(_left_out(facts, step, say))
    if facts.declared == "trainable" and not facts.changed:
        found = [replace(each, level="stuck") for each in found]
    found += _either_way(facts, step, say)
    return tuple(sorted(found, key=lambda each: LEVELS.index(each.level)))


def _say(
    facts: TensorFacts, step: StepFacts, code: str, level: str | None = None, **more: object
) -> Finding:
    """The reason ``code`` with what is known of the tensor in its sentences."""
    return finding(
        code, level, name=facts.name, module=facts.module_name or "the model",
        kind=type(facts.owner).__name__, optimizer=type(step.optimizer).__name__, group=facts.group,
        dtype=str(facts.tensor.dtype).removeprefix("torch."), **more,
    )  # fmt: skip


# ---- buffers ---------------------------------------------------------------------------------


def _buffer(facts: TensorFacts, step: StepFacts, say: Say) -> Findings:
    if not facts.changed:
        return
    layer = step.layer_of(facts)
    nothing_trains = bool(layer) and not any(parameter.trains for parameter in layer)
    meant_frozen = facts.declared == "frozen" or facts.held or nothing_trains
    in_eval_alone = step.root_trains and not facts.owner.training
    seen = step.modules.get(facts.module_name, ModuleSeen())
    if facts.held:
        yield say("undone")
    elif in_eval_alone and seen.in_training:
        # Had the whole model been in eval mode, train() would be just how a step begins.
        yield say("eval_undone")
    elif meant_frozen:
        yield say(_writer(facts))


def _writer(facts: TensorFacts) -> str:
    """Which known layer writes this buffer."""
    owner = facts.owner
    if isinstance(owner, _BatchNorm):
        return "batchnorm_training"
    if isinstance(owner, _InstanceNorm):
        return "instance_norm_tracking"
    hooks = owner._forward_pre_hooks.values()
    if isinstance(owner, _SpectralNorm) or any(isinstance(hook, SpectralNorm) for hook in hooks):
        return "spectral_norm"
    return "buffer_written"


# ---- parameters that are meant to be frozen --------------------------------------------------


def _frozen(facts: TensorFacts, step: StepFacts, say: Say) -> Findings:
    if facts.declared == "trainable":
        tie = f"; it is one tensor with {', '.join(facts.names[1:])}" if facts.names[1:] else ""
        yield say("not_trainable", tie=tie)
    if facts.changed:
        yield _leak(facts, step, say)
        return
    if facts.address_changed:
        yield say("memory_exchanged")
    elif facts.seen.moved_by_optimizer:
        yield say("restored")
    if facts.requires_grad and facts.group is None and facts.gradient:
        yield say("left_out", level="risk")
    elif not facts.requires_grad and facts.gradient_before:
        yield say("gradient_waiting")
    yield from _clipped(facts, say)


def _leak(facts: TensorFacts, step: StepFacts, say: Say) -> Finding:
    """Why did a frozen parameter move?"""
    by_optimizer = facts.seen.moved_by_optimizer
    if facts.held and facts.requires_grad:
        return say("undone")
    if facts.flag_typo and facts.requires_grad:
        return say("no_op_flag", flag=facts.flag_typo)
    if _has_max_norm(facts.owner) and not by_optimizer:
        return say("max_norm")
    if facts.seen.alias_restored:
        return say("alias")
    if not by_optimizer:
        return say("written")
    if not facts.requires_grad:
        if facts.seen.gradient is None:
            return say("optimizer_memory")
        return say("stale_gradient" if facts.seen.gradient else "zeroed_gradient")
    return _trained_in_spite(facts, step, say) or say("trained")


def _has_max_norm(owner: nn.Module) -> bool:
    return isinstance(owner, (nn.Embedding, nn.EmbeddingBag)) and owner.max_norm is not None


def _trained_in_spite(
    facts: TensorFacts, step: StepFacts, say: Say, level: str = "leak"
) -> Finding | None:
    """Signs that somebody meant a parameter to be frozen which trains."""
    if isinstance(facts.owner, nn.MultiheadAttention) and _out_projection_is_off(facts, step):
        return say("in_projection", level)
    off = [other.slot.key for other in step.siblings(facts) if not other.requires_grad]
    if off:
        is_ = "is" if len(off) == 1 else "are"
        return say("half_frozen", level, siblings=" and ".join(off), is_=is_)
    on_purpose = hold_of(facts.owner) is not None  # its statistics are frozen by freeze()
    in_eval_alone = step.root_trains and not facts.owner.training
    if isinstance(facts.owner, _BatchNorm) and in_eval_alone and not on_purpose:
        return say("eval_only", level)
    return None


def _out_projection_is_off(facts: TensorFacts, step: StepFacts) -> bool:
    name = f"{facts.module_name}.out_proj".lstrip(".")
    inside = [p for p in step.parameters if p.module_name == name]
    return bool(inside) and not any(p.requires_grad for p in inside)


# ---- parameters that are meant to train ------------------------------------------------------


def _trained(facts: TensorFacts, step: StepFacts, say: Say) -> Findings:
    if not facts.changed:
        yield from _standing_still(facts, step, say)
    elif facts.seen.alias_restored:
        yield say("alias")
    elif _has_max_norm(facts.owner) and not facts.seen.moved_by_optimizer:
        yield say("max_norm", level="note")
    else:
        hint = _trained_in_spite(facts, step, say, level="note")
        if hint is not None:
            yield hint
    if facts.address_changed and not facts.changed:
        yield say("memory_exchanged")
    if facts.name in step.late_moments:
        yield say("stale_moments")
    if facts.group in step.stray_groups:
        yield say("unscheduled")


def _standing_still(facts: TensorFacts, step: StepFacts, say: Say) -> Findings:
    seen, rate = facts.seen, step.optimizer.param_groups[facts.group or 0].get("lr")
    if not step.stepped:
        yield say("no_step")
    elif seen.gradient is None:
        yield _no_gradient(facts, step, say)
    elif seen.moved_by_optimizer:
        if not facts.address_changed:
            yield say("restored")
    elif rate is not None and float(rate) == 0.0:
        yield say("lr_zero")
    elif seen.gradient == 0.0:
        yield say("zero_gradient")
    elif not facts.address_changed:
        yield say("too_small")


def _no_gradient(facts: TensorFacts, step: StepFacts, say: Say) -> Finding:
    ran = step.modules.get(facts.module_name, ModuleSeen())
    if ran.ran and not ran.with_gradient:
        return say("under_no_grad" if ran.no_grad else "reentrant")
    order = list(step.modules)
    here = order.index(facts.module_name) if facts.module_name in step.modules else 0
    for block in order[here + 1 :]:
        if step.modules[block].cuts:
            return say("cut_off", block=block, how=step.modules[block].cuts)
    return say("unused")


def _left_out(facts: TensorFacts, step: StepFacts, say: Say) -> Findings:
    if facts.changed:
        code = "max_norm" if _has_max_norm(facts.owner) else "written"
        yield say(code)
    if facts.gradient is None:
        yield _no_gradient(facts, step, say)
    elif step.strangers:
        yield _stranger(facts, step, say)
    else:
        yield say("left_out")
    if facts.gradient_before:
        yield say("piled_up", before=facts.gradient_before)
    yield from _clipped(facts, say)


def _stranger(facts: TensorFacts, step: StepFacts, say: Say) -> Finding:
    shapes = [tensor.shape for tensor in step.strangers]
    known = any(parameter.group is not None for parameter in step.parameters)
    if not known and facts.tensor.shape in shapes:
        return say("assigned")
    several = "a parameter" if len(shapes) == 1 else f"{len(shapes)} parameters"
    return say("replaced", strangers=several)


def _clipped(facts: TensorFacts, say: Say) -> Findings:
    if facts.seen.clip is not None and facts.seen.clip < 1:
        yield say("clipped", coefficient=facts.seen.clip)


# ---- whatever it is meant to do --------------------------------------------------------------


def _either_way(facts: TensorFacts, step: StepFacts, say: Say) -> Findings:
    if not facts.finite:
        yield say("not_finite")
    owners = [name.rpartition(".")[0] for name in facts.names]
    modules = {id(step.inventory.modules[owner]) for owner in owners}
    if facts.is_parameter and len(modules) > 1:
        yield say("tied", others=", ".join(facts.names[1:]))
