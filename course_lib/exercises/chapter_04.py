"""Exercises and questions of chapter 04: freezing layers.

Most stubs are the kind of code that is passed around for freezing, with the fault that it has:
finding it is the exercise.
"""

import copy
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from course_lib.exercises.core import Exercise, Wrong
from course_lib.exercises.models import (
    CharacterModel,
    copied_tensors,
    listed,
    moved,
    of_layer,
    texts,
    train,
)
from course_lib.exercises.quiz import Option, Question
from course_lib.exercises.verdicts import Verdict, close, mistake, not_yet, passed, returned

FC1 = {"fc1.weight", "fc1.bias"}


def _groups(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, int]:
    """Parameter name to how often the optimizer has it."""
    ids = [id(each) for group in optimizer.param_groups for each in group["params"]]
    return {name: ids.count(id(each)) for name, each in model.named_parameters()}


# --- 4.1 ------------------------------------------------------------------------------------------


def _judge_freeze_fc1(answer: Any) -> Verdict:
    model = CharacterModel()
    before = copied_tensors(model)
    optimizer = returned(answer(model), torch.optim.Optimizer, "an optimizer")
    flags = {name for name, each in model.named_parameters() if not each.requires_grad}
    counts = _groups(model, optimizer)
    train(model, optimizer, texts())
    changed = moved(before, model)
    if changed & FC1:
        if flags & FC1 == {"fc1.weight"}:
            return mistake("weight_only")
        if "requires_grad" in vars(model.fc1):
            return mistake("on_the_module")
        if flags:
            return not_yet(f"After three steps {listed(changed & FC1)} had moved.")
        return not_yet(
            "Nothing is frozen: after your function, `requires_grad` of every parameter is still "
            "True. (`print(model.fc1.weight.requires_grad)` shows it.)"
        )
    still = set(before) - changed - FC1
    if still:
        return not_yet(f"`fc1` stays, but {listed(still)} should train, and did not move.")
    if any(each.grad is not None for each in model.fc1.parameters()):
        if any(counts[name] for name in FC1):
            return not_yet(
                "`fc1` stays where it is, but its gradients are still computed, at full price, and "
                "the optimizer still has it. Its flags should be off, so that there are none."
            )
        return mistake("left_out")
    return passed(
        "`fc1` is bit for bit what it was, no gradient was computed for it, the rest moved."
    )


ex4_1 = Exercise(
    "4.1",
    "Method one: find the bug",
    minutes=5,
    question="""
        The model has an embedding `em` and three linear layers, `fc1` to `fc3`. The code below is
        meant to freeze `fc1`: no gradient for it, and the optimizer trains the rest. It doesn't
        freeze all of it. Fix it.
    """,
    answer="freeze_fc1",
    stub="""
def freeze_fc1(model):
    model.fc1.weight.requires_grad = False
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return torch.optim.SGD(trainable, lr=0.1)
""",
    solution="""
def freeze_fc1(model):
    model.fc1.requires_grad_(False)
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return torch.optim.SGD(trainable, lr=0.1)
""",
    why="""
        `requires_grad_`, with the underscore, sets the flag of every parameter of a module: of a
        linear layer the weight and the bias. In whole blocks it is easy to forget one when they
        are named one by one.
    """,
    hints=(
        "Which parameters does a linear layer have?",
        "`for name, each in model.named_parameters(): print(name, each.requires_grad)`",
        "A module has a method that sets the flag of all its parameters: `requires_grad_`.",
    ),
    wrongs=(
        Wrong(
            "weight_only",
            """
def freeze_fc1(model):
    for name, parameter in model.named_parameters():
        parameter.requires_grad = name != "fc1.weight"
    return torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
""",
            """`fc1.weight` stays, `fc1.bias` goes on training. So the layer's outputs change, and
            what stands behind it gets other inputs than before. Freeze both.""",
        ),
        Wrong(
            "on_the_module",
            """
def freeze_fc1(model):
    model.fc1.requires_grad = False
    return torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
""",
            """Nothing is frozen. A module has no flag `requires_grad`; setting it only makes a new
            attribute that nobody reads, and there is no error. The method is `requires_grad_`.""",
        ),
        Wrong(
            "left_out",
            """
def freeze_fc1(model):
    rest = [p for name, p in model.named_parameters() if not name.startswith("fc1.")]
    return torch.optim.SGD(rest, lr=0.1)
""",
            """`fc1` stays, since the optimizer doesn't know it. But its gradients are still
            computed, at full price, and pile up in `.grad`: that is method two. Here the flags
            should be off, so that there are no gradients.""",
        ),
        Wrong(
            "everything",
            """
def freeze_fc1(model):
    model.requires_grad_(False)
    return torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
""",
            """You froze the whole model, so that no parameter is left for the optimizer. Freeze
            `model.fc1` only.""",
            raises="empty parameter list",
        ),
    ),
    judge=_judge_freeze_fc1,
)

# --- 4.2 ------------------------------------------------------------------------------------------


def _judge_thaw(answer: Any) -> Verdict:
    for known in (set(), {"fc1.bias"}):
        model = CharacterModel()
        model.fc1.weight.requires_grad = False
        model.fc1.bias.requires_grad = bool(known)
        given = [p for n, p in model.named_parameters() if n not in FC1 or n in known]
        optimizer = torch.optim.SGD(given, lr=0.1, momentum=0.9)
        train(model, optimizer, texts(), steps=2)
        before = copied_tensors(model)
        momentum = optimizer.state[model.fc2.weight]["momentum_buffer"].clone()
        result = answer(model, optimizer)
        if isinstance(result, torch.optim.Optimizer) and result is not optimizer:
            return mistake("rebuilt")
        if moved(before, model):
            return not_yet("Thawing should change no number; training does that later.")
        off = {name for name, each in model.named_parameters() if not each.requires_grad}
        if off:
            return not_yet(f"{listed(off)} still has `requires_grad` off.")
        counts = _groups(model, optimizer)
        missing = {name for name, count in counts.items() if not count}
        if missing == FC1 - known:
            return mistake("flag_only")
        if missing:
            return not_yet(
                f"The optimizer still lacks {listed(missing)}, and never moves it. What is missing "
                "isn't always the same: look at what the optimizer has."
            )
        kept = optimizer.state.get(model.fc2.weight, {}).get("momentum_buffer")
        if kept is None or not torch.equal(kept, momentum):
            return not_yet("The momentum of the other layers is lost. Leave the optimizer's state.")
        double = {name for name, count in counts.items() if count > 1}
        if double:
            return not_yet(f"The optimizer has {listed(double)} twice.")
        train(model, optimizer, texts())
        if not moved(before, model) >= FC1:
            return not_yet("After three steps, part of `fc1` had not moved.")
    return passed("`fc1` trains again, each parameter is known once, and no momentum was lost.")


ex4_2 = Exercise(
    "4.2",
    "Thaw without adding twice",
    minutes=8,
    question="""
        `fc1` was frozen, wholly or only its weight, and the optimizer got the parameters that were
        trainable then. The code below thaws it. When only the weight was frozen, it stops with an
        error. Fix it so that it works in both cases: the same optimizer knows each parameter once,
        and what it remembers of the others (momentum) is kept.
    """,
    answer="thaw_fc1",
    stub="""
def thaw_fc1(model, optimizer):
    model.fc1.requires_grad_(True)
    optimizer.add_param_group({"params": model.fc1.parameters()})
""",
    solution="""
def thaw_fc1(model, optimizer):
    model.fc1.requires_grad_(True)
    known = {id(each) for group in optimizer.param_groups for each in group["params"]}
    missing = [each for each in model.fc1.parameters() if id(each) not in known]
    if missing:
        optimizer.add_param_group({"params": missing})
""",
    why="""
        An optimizer refuses a parameter that it has already. So look at what it has, by identity:
        `in` would compare the tensors' numbers. A new optimizer would train as well, but begin
        with no momentum, and Adam with no moments.
    """,
    hints=(
        "Read the error: which parameter does the optimizer know already?",
        '`optimizer.param_groups` is a list of dictionaries; `group["params"]` are lists.',
        "Collect `id(parameter)` of all that are known, and add those of `fc1` that aren't.",
    ),
    wrongs=(
        Wrong(
            "twice",
            """
def thaw_fc1(model, optimizer):
    for parameter in model.fc1.parameters():
        parameter.requires_grad = True
        optimizer.add_param_group({"params": [parameter]})
""",
            """The optimizer has one of these parameters already: when only the weight was frozen,
            the bias went into it at the start. Add what is missing, and only that.""",
            raises="more than one parameter group",
        ),
        Wrong(
            "by_value",
            """
def thaw_fc1(model, optimizer):
    model.fc1.requires_grad_(True)
    known = [each for group in optimizer.param_groups for each in group["params"]]
    missing = [each for each in model.fc1.parameters() if each not in known]
    optimizer.add_param_group({"params": missing})
""",
            """`in` asks each tensor whether it equals the other, number by number, which fails, or
            worse, says yes for two parameters that hold the same numbers. Compare with `is`, or
            collect `id(parameter)`.""",
            raises="size of tensor|Boolean value of Tensor",
        ),
        Wrong(
            "flag_only",
            """
def thaw_fc1(model, optimizer):
    model.fc1.requires_grad_(True)
""",
            """The flag is on, so gradients are computed; but the optimizer doesn't know the
            parameters and never moves them. There is no error: `fc1` just stays still.""",
        ),
        Wrong(
            "rebuilt",
            """
def thaw_fc1(model, optimizer):
    model.fc1.requires_grad_(True)
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
""",
            """A new optimizer knows each parameter once, but has forgotten the momentum of all of
            them, and a scheduler made for the old one goes on steering the old one. Add to the
            optimizer that there is.""",
        ),
    ),
    judge=_judge_thaw,
)

# --- 4.3 ------------------------------------------------------------------------------------------


def _steps_clearing_last(
    model: nn.Module, optimizer: torch.optim.Optimizer, batch: Any, steps: int
) -> None:
    """A loop that clears the gradients after the step and not before it."""
    for _ in range(steps):
        nn.functional.cross_entropy(model(batch[0]), batch[1]).backward()
        optimizer.step()
        optimizer.zero_grad()


def _judge_let_in(answer: Any) -> Verdict:
    model, batch = CharacterModel(), texts()
    rest = [each for name, each in model.named_parameters() if name not in FC1]
    optimizer = torch.optim.SGD(rest, lr=0.1)
    _steps_clearing_last(model, optimizer, batch, 8)
    clean = copy.deepcopy(model)
    clean.zero_grad()
    before = copied_tensors(model)
    answer(model, optimizer)
    if moved(before, model):
        return not_yet("Letting `fc1` in should change no number; the next step does.")
    cleared = all(each.grad is None or not each.grad.any() for each in model.fc1.parameters())
    counts = _groups(model, optimizer)
    if not all(counts[name] for name in FC1):
        return mistake("not_added")
    if any(count != 1 for count in counts.values()):
        return not_yet("The optimizer should know each parameter of the model once.")
    _steps_clearing_last(model, optimizer, batch, 1)
    _steps_clearing_last(clean, torch.optim.SGD(clean.parameters(), lr=0.1), batch, 1)
    wrong = {
        name
        for (name, mine), other in zip(model.named_parameters(), clean.parameters(), strict=True)
        if not close(mine, other)
    }
    if wrong == FC1 and cleared:
        return not_yet(
            "The old gradients are gone, and yet the next step of `fc1` isn't as long as its own "
            "gradient says. Let it in at the optimizer's own learning rate."
        )
    if wrong == FC1:
        return mistake("piled_up")
    if wrong and wrong < FC1:
        return mistake("half_cleared")
    if wrong:
        return not_yet(f"After the next step, {listed(wrong)} is not where it should be.")
    return passed("The first step of `fc1` is as long as its own gradient says, and no longer.")


ex4_3 = Exercise(
    "4.3",
    "Method two: the first step is a leap",
    minutes=6,
    question="""
        `fc1` was left out of the optimizer for a while, which freezes it. Its flags were never
        off. The loop runs `backward()`, `optimizer.step()`, `optimizer.zero_grad()`, in this order.
        The code below lets `fc1` in. In the next step it leaps much too far. Why? Fix it.
    """,
    answer="let_in",
    stub="""
def let_in(model, optimizer):
    optimizer.add_param_group({"params": model.fc1.parameters()})
""",
    solution="""
def let_in(model, optimizer):
    for parameter in model.fc1.parameters():
        parameter.grad = None
    optimizer.add_param_group({"params": model.fc1.parameters()})
""",
    why="""
        `backward()` adds to `.grad`, and `optimizer.zero_grad()` clears only what the optimizer
        knows. So the gradients of a layer that was left out pile up, step by step, and the first
        step after letting it in takes them all at once.
    """,
    hints=(
        "Nobody moved `fc1`. What did `backward()` do with it, in each of those steps?",
        "Look at `model.fc1.weight.grad` before you add the layer. Who clears it?",
        "`optimizer.zero_grad()` clears the optimizer's parameters. Clear those of `fc1` yourself.",
    ),
    wrongs=(
        Wrong(
            "piled_up",
            """
def let_in(model, optimizer):
    optimizer.zero_grad()
    optimizer.add_param_group({"params": list(model.fc1.parameters())})
""",
            """The gradients of all the steps before are still in `.grad` of `fc1`: `backward()`
            adds to them, and `optimizer.zero_grad()` clears only what the optimizer knows at that
            moment. The first step takes them all at once. Making them or the step smaller is no
            cure: they are of other weights than those of now.""",
        ),
        Wrong(
            "half_cleared",
            """
def let_in(model, optimizer):
    model.fc1.weight.grad = None
    optimizer.add_param_group({"params": model.fc1.parameters()})
""",
            """You cleared the old gradient of one of the layer's two parameters. The other one
            still leaps.""",
        ),
        Wrong(
            "not_added",
            """
def let_in(model, optimizer):
    model.fc1.requires_grad_(True)
    model.zero_grad()
""",
            """The old gradients are gone, but the optimizer still doesn't know `fc1`, so that it
            will never move.""",
        ),
    ),
    judge=_judge_let_in,
)

# --- 4.4 ------------------------------------------------------------------------------------------


def _judge_keep(answer: Any) -> Verdict:
    model = CharacterModel()
    before = copied_tensors(model.fc1)
    parameters = list(model.fc1.parameters())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    restore: Callable[[], Any] = answer(model.fc1)
    if not callable(restore):
        return not_yet("Return a function without arguments that puts the numbers back.")
    if moved(before, model.fc1):
        return not_yet("Taking the copy should change nothing.")
    for turn in range(3):
        train(model, optimizer, texts())
        trained = copied_tensors(model)
        restore()
        if any(
            mine is not old for mine, old in zip(model.fc1.parameters(), parameters, strict=True)
        ):
            return mistake("new_parameters")
        now = moved(before, model.fc1)
        if now == set(before) and turn == 0:
            for each in model.fc1.parameters():
                each.data = each.data + 1  # memory of its own: nothing saved can move along
            there = copied_tensors(model.fc1)
            restore()
            if moved(there, model.fc1):
                return mistake("alias")
            return not_yet(
                "Your `restore` writes nothing into the layer. `parameter = saved[name]` only "
                "gives a name to another tensor; `parameter.copy_(saved[name])` writes."
            )
        if now and turn == 0:
            return not_yet(f"Put back everything: {listed(now)} is still as training left it.")
        if now:
            return mistake("only_once")
        if moved(trained, model) - FC1:
            return not_yet("Putting back should touch this layer only.")
    return passed("The layer comes back bit for bit, each time, and its parameters are the same.")


ex4_4 = Exercise(
    "4.4",
    "Method three: a copy that is one",
    minutes=8,
    question="""
        Method three lets everything train and puts a layer's numbers back after each step. The code
        below remembers them and returns a function that puts them back; call it as often as you
        like. It puts back nothing. Fix it. The layer must keep its `Parameter` objects.
    """,
    answer="keep",
    stub="""
def keep(layer):
    saved = {name: parameter.data for name, parameter in layer.named_parameters()}

    def restore():
        for name, parameter in layer.named_parameters():
            parameter.data.copy_(saved[name])

    return restore
""",
    solution="""
def keep(layer):
    saved = {name: parameter.detach().clone() for name, parameter in layer.named_parameters()}

    def restore():
        with torch.no_grad():
            for name, parameter in layer.named_parameters():
                parameter.copy_(saved[name])

    return restore
""",
    why="""
        `parameter.data`, `.detach()` and `state_dict()` are other names for the same memory; only
        `.clone()` or a deep copy makes a second one. And putting back means writing the numbers
        into the parameter: pointing it at the copy makes the two one again, and the next step
        trains the copy.
    """,
    hints=(
        "After a training step, print what was saved, and what it was before.",
        "Does `parameter.data` have memory of its own?",
        "`.detach().clone()` has. To put back, write into the parameter with `copy_`.",
    ),
    wrongs=(
        Wrong(
            "alias",
            """
def keep(layer):
    saved = layer.state_dict()
    return lambda: layer.load_state_dict(saved)
""",
            """What you saved has changed together with the layer: `.data`, `.detach()` and
            `state_dict()` give the same memory under another name. A copy takes `.clone()` or
            `copy.deepcopy`.""",
        ),
        Wrong(
            "only_once",
            """
def keep(layer):
    saved = {name: parameter.detach().clone() for name, parameter in layer.named_parameters()}

    def restore():
        for name, parameter in layer.named_parameters():
            parameter.data = saved[name]

    return restore
""",
            """It works once. By `parameter.data = saved[name]` the parameter lives in the saved
            tensor's memory from then on, and the next step trains the saved numbers. Write into
            the parameter instead: `copy_`.""",
        ),
        Wrong(
            "new_parameters",
            """
def keep(layer):
    saved = copy.deepcopy(layer)

    def restore():
        layer.weight = nn.Parameter(saved.weight.detach().clone())
        layer.bias = nn.Parameter(saved.bias.detach().clone())

    return restore
""",
            """The numbers are back, in new parameters. The optimizer still has the old ones and
            would never train these. Write into the parameters that there are.""",
        ),
        Wrong(
            "recorded",
            """
def keep(layer):
    saved = {name: parameter.detach().clone() for name, parameter in layer.named_parameters()}

    def restore():
        for name, parameter in layer.named_parameters():
            parameter.copy_(saved[name])

    return restore
""",
            """Writing into a parameter would be part of what is differentiated, which torch
            refuses. Put it under `with torch.no_grad():`.""",
            raises="leaf Variable that requires grad",
        ),
    ),
    judge=_judge_keep,
)

# --- 4.5 ------------------------------------------------------------------------------------------


def _judge_forward(answer: Any) -> Verdict:
    model, (text, labels) = CharacterModel(), texts()
    true = copy.deepcopy(model)
    nn.functional.cross_entropy(true(text), labels).backward()
    wanted = {name: each.grad for name, each in true.named_parameters()}
    before = copied_tensors(model)
    scores = returned(answer(model, text), torch.Tensor, "the scores, a tensor")
    if moved(before, model):
        return not_yet("A forward pass should change no parameter.")
    if scores.shape != true(text).shape or not close(scores, true(text)):
        return not_yet("The scores differ from the model's own. Only gradients should.")
    if not scores.requires_grad:
        return not_yet("Nothing can be trained: the scores are cut off from all parameters.")
    nn.functional.cross_entropy(scores, labels).backward()
    if not all(each.requires_grad for each in model.parameters()):
        return not_yet("The scores are right, but flags were left off: put them back as they were.")
    has = {name for name, each in model.named_parameters() if each.grad is not None}
    if "em.weight" not in has:
        return mistake("cut_off")
    if has >= FC1:
        return mistake("trains")
    if has & FC1:
        return mistake("half")
    if has != set(wanted) - FC1:
        return not_yet(f"There is no gradient for {listed(set(wanted) - FC1 - has)}.")
    got = {name: each.grad for name, each in model.named_parameters() if name in has}
    if not all(close(got[name], wanted[name]) for name in has):
        return not_yet("The gradients of the other layers aren't what they should be.")
    return passed("`fc1` gets no gradient, and the embedding in front of it gets its own, whole.")


ex4_5 = Exercise(
    "4.5",
    "Method four: what no_grad cuts off",
    minutes=10,
    question="""
        Method four runs the frozen layer under `torch.no_grad()`. The forward pass below does so
        for `fc1`, and the embedding in front of it stops learning as well. Fix it: the same
        scores, no gradient for the weight and bias of `fc1`, the true gradients for all others.
        Leave the flags `requires_grad` on.
    """,
    answer="scores_with_fc1_frozen",
    stub="""
def scores_with_fc1_frozen(model, text):
    hidden = model.em(text).mean(dim=1)
    with torch.no_grad():
        hidden = torch.tanh(model.fc1(hidden))
    hidden = torch.tanh(model.fc2(hidden))
    return model.fc3(hidden)
""",
    solution="""
def scores_with_fc1_frozen(model, text):
    hidden = model.em(text).mean(dim=1)
    weight, bias = model.fc1.weight.detach(), model.fc1.bias.detach()
    hidden = torch.tanh(nn.functional.linear(hidden, weight, bias))
    hidden = torch.tanh(model.fc2(hidden))
    return model.fc3(hidden)
""",
    why="""
        The gradient of the embedding passes through `fc1`: it needs the layer's numbers, not
        their gradients. `no_grad` cuts the path itself. Detaching weight and bias leaves the path
        and makes the two constants. This is also why `no_grad` fits only the front part of a
        network, with nothing trainable before it.
    """,
    hints=(
        "On which way does the gradient reach the embedding?",
        "The path must stay open; only weight and bias of `fc1` should be constants.",
        "`nn.functional.linear(hidden, weight, bias)` computes the layer from tensors; they may be "
        "detached.",
    ),
    wrongs=(
        Wrong(
            "cut_off",
            """
def scores_with_fc1_frozen(model, text):
    hidden = model.em(text).mean(dim=1)
    hidden = torch.tanh(model.fc1(hidden)).detach()
    hidden = torch.tanh(model.fc2(hidden))
    return model.fc3(hidden)
""",
            """The embedding gets no gradient. Its path to the loss goes through `fc1`, and
            `detach()` or `no_grad` cuts that path. Keep it, and make only the layer's weight and
            bias constants.""",
        ),
        Wrong(
            "trains",
            """
def scores_with_fc1_frozen(model, text):
    with torch.no_grad():
        model.fc1(model.em(text).mean(dim=1))
    return model(text)
""",
            """`fc1` gets gradients, so it will train: in what the scores were computed from, its
            weight and bias were no constants. What else ran under `no_grad`, or was fetched there,
            doesn't count.""",
        ),
        Wrong(
            "half",
            """
def scores_with_fc1_frozen(model, text):
    hidden = model.em(text).mean(dim=1)
    hidden = torch.tanh(nn.functional.linear(hidden, model.fc1.weight.detach(), model.fc1.bias))
    return model.fc3(torch.tanh(model.fc2(hidden)))
""",
            """One of the two parameters of `fc1` still gets a gradient. Weight and bias, both have
            to be constants.""",
        ),
    ),
    judge=_judge_forward,
)

# --- 4.6 ------------------------------------------------------------------------------------------


def _judge_by_names(answer: Any) -> Verdict:
    every = ("em", "embed", "fc1", "fc10")

    def fresh() -> nn.Module:
        return nn.Sequential(OrderedDict((name, nn.Linear(2, 2)) for name in every))

    def frozen(model: nn.Module) -> set[str]:
        children = dict(model.named_children())
        off = {n for n, c in children.items() if not any(p.requires_grad for p in c.parameters())}
        on = {n for n, c in children.items() if all(p.requires_grad for p in c.parameters())}
        return off | {f"half of {name}" for name in set(children) - off - on}

    for names in ("embed", "fc10", ["fc10"], ["em", "fc1"], ("embed",), []):
        model = fresh()
        answer(model, names)
        wanted = {names} if isinstance(names, str) else set(names)
        if frozen(model) == wanted:
            continue
        if isinstance(names, str) and frozen(model) > wanted:
            return mistake("substring")
        got = listed(frozen(model)) or "nothing"
        return not_yet(f"With {names!r} your function froze {got}.")
    for idxs in (0, [1], (0, 2), -1, [0, -1], range(4), []):
        model = fresh()
        answer(model, idxs=idxs)
        chosen = [idxs] if isinstance(idxs, int) else list(idxs)
        if frozen(model) == {every[idx] for idx in chosen}:
            continue
        if any(idx < 0 for idx in chosen):
            return mistake("negative")
        got = listed(frozen(model)) or "nothing"
        return not_yet(f"With idxs={idxs!r} your function froze {got}.")
    wrong: tuple[dict[str, Any], ...] = (
        {"names": "f"}, {"names": ["fc1", "fc2"]}, {"names": ["fc10", "em", "embd"]},
        {"idxs": 4}, {"idxs": [0, -5]}, {"names": "em", "idxs": [1, 7]},
    )  # fmt: skip
    for given in wrong:
        model = fresh()
        try:
            answer(model, **given)
        except Exception:
            if frozen(model):
                return mistake("half_done")
            continue
        return mistake("silent")
    return passed(
        "Exact names and indices, one or several, also from the end; what isn't there is an error, "
        "and no harm done."
    )


ex4_6 = Exercise(
    "4.6",
    "Method five: names, not letters",
    minutes=12,
    question="""
        The helper below freezes direct children of a model, by one name or several, or by one index
        or several. Called with `"embed"`, it freezes a child named `em` too; with `idxs=0` it stops
        with an error, and with `idxs=[-1]` it freezes nothing; a misspelt name is ignored. Fix it:
        exact names; indices as in a list, -1 for the last; a name or an index that isn't there
        raises an error (any), before anything is frozen.
    """,
    answer="freeze_children",
    stub="""
def freeze_children(model, names=(), idxs=()):
    for idx, (name, child) in enumerate(model.named_children()):
        if name in names or idx in idxs:
            child.requires_grad_(False)
""",
    solution="""
def freeze_children(model, names=(), idxs=()):
    names = [names] if isinstance(names, str) else list(names)
    idxs = [idxs] if isinstance(idxs, int) else list(idxs)
    children = dict(model.named_children())
    in_order = list(children.values())
    unknown = [name for name in names if name not in children]
    if unknown:
        raise LookupError(f"There is no {unknown}; there are {list(children)}.")
    chosen = [children[name] for name in names] + [in_order[idx] for idx in idxs]
    for child in chosen:
        child.requires_grad_(False)
""",
    why="""
        To Python a text is a sequence of characters: `"em" in "embed"` is true. So one name is
        made a list first, and one index too. A list of the children understands negative indices
        and refuses those beyond its ends. All is looked up before anything is done, so that a
        failed call leaves the model as it was.
    """,
    hints=(
        'What is `"em" in "embed"`? And `"em" in ["embed"]`?',
        "Make a list of a single name (`isinstance(names, str)`) or index (`isinstance(idxs, int)`)"
        " first.",
        "Look up every child before freezing one: names in `dict(model.named_children())`, indices "
        "in `list(model.children())`, which knows -1 and raises beyond its ends.",
    ),
    wrongs=(
        Wrong(
            "substring",
            """
def freeze_children(model, names=(), idxs=()):
    children = dict(model.named_children())
    if not isinstance(names, str) and set(names) - set(children):
        raise LookupError(names)
    for name in children:
        if name in names:
            children[name].requires_grad_(False)
""",
            """A single name freezes more than its child: `name in names` asks for a part of the
            text when `names` is a text, and "em" is a part of "embed". Make it a list first.""",
        ),
        Wrong(
            "one_index",
            """
def freeze_children(model, names=(), idxs=()):
    names = [names] if isinstance(names, str) else names
    for idx, (name, child) in enumerate(model.named_children()):
        if name in names or idx in idxs:
            child.requires_grad_(False)
""",
            """The names are right. A single index isn't a list, and `in` can't look into a number:
            make a list of it first, as of a single name.""",
            raises="argument of type 'int' is not|'int' object is not iterable",
        ),
        Wrong(
            "negative",
            """
def freeze_children(model, names=(), idxs=()):
    names = [names] if isinstance(names, str) else names
    idxs = [idxs] if isinstance(idxs, int) else idxs
    for idx, (name, child) in enumerate(model.named_children()):
        if name in names or idx in idxs:
            child.requires_grad_(False)
""",
            """The last child is meant by -1, and no child has that number when you count from 0.
            Take the children from a list: `list(model.children())[idx]` counts from the end, too.
            """,
        ),
        Wrong(
            "silent",
            """
def freeze_children(model, names=(), idxs=()):
    names = [names] if isinstance(names, str) else names
    idxs = [idxs] if isinstance(idxs, int) else idxs
    count = len(list(model.children()))
    idxs = [idx + count if idx < 0 else idx for idx in idxs]
    for idx, (name, child) in enumerate(model.named_children()):
        if name in names or idx in idxs:
            child.requires_grad_(False)
""",
            """What isn't there raises no error: whoever misspells a name, or gives an index beyond
            the ends, trains what should have been frozen, and reads no word of it. Raise an error,
            with the names that there are.""",
        ),
        Wrong(
            "only_lists",
            """
def freeze_children(model, names=(), idxs=()):
    names = names if isinstance(names, list) else [names]
    children = dict(model.named_children())
    for child in [children[name] for name in names]:
        child.requires_grad_(False)
""",
            """Several names may come as a tuple, as those that nobody gave do. You made one name of
            it: ask whether it is a text, `isinstance(names, str)`, not whether it is a list.""",
            raises=r"\('embed',\)|Error: \(\)$",
        ),
        Wrong(
            "half_done",
            """
def freeze_children(model, names=(), idxs=()):
    for name in [names] if isinstance(names, str) else names:
        model.get_submodule(name).requires_grad_(False)
    for idx in [idxs] if isinstance(idxs, int) else idxs:
        list(model.children())[idx].requires_grad_(False)
""",
            """What isn't there raises an error, but what stood before it in the list is frozen by
            then. Whoever catches the error has a model half done. Look up all of it first.""",
        ),
        Wrong(
            "letters",
            """
def freeze_children(model, names=(), idxs=()):
    children = dict(model.named_children())
    for child in [children[name] for name in names]:
        child.requires_grad_(False)
""",
            """A text gives its letters one by one, and a child named by a letter there isn't.
            Make a single name a list first.""",
            raises="KeyError: '[a-z]'|no attribute [`'\"][a-z][`'\"]",
        ),
    ),
    judge=_judge_by_names,
)

# --- 4.7 ------------------------------------------------------------------------------------------


def _two_parts() -> nn.Sequential:
    body = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Dropout(0.5))
    head = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.Dropout(0.1), nn.Linear(4, 3))
    return nn.Sequential(OrderedDict(body=body, head=head))


def _judge_hold(answer: Any) -> Verdict:
    model = _two_parts().train()
    batch = torch.randn(8, 4) + 1, torch.arange(8) % 3
    before = copied_tensors(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    with torch.no_grad():
        as_it_was = copy.deepcopy(model).eval()[0](batch[0])
    answer(model)
    for call_train in (False, True):
        if call_train:
            model.eval()
            model.train()
        train(model, optimizer, batch)
        changed = of_layer(moved(before, model), "body")
        weights = {name for name in changed if name.endswith(("weight", "bias"))}
        if weights:
            return mistake("weights_move")
        if changed == {"body.1.num_batches_tracked"}:
            return mistake("momentum")
        if changed:
            return mistake("eval_only" if call_train else "statistics_move")
    if not model.get_submodule("head").training or not model.get_submodule("head.1").training:
        return mistake("too_much")
    if not moved(before, model) >= {f"head.{n}" for n in ("0.weight", "1.running_mean", "3.bias")}:
        return not_yet("The body stays, but the head should train, BatchNorm and all; it didn't.")
    with torch.no_grad():
        if not torch.equal(model.get_submodule("body")(batch[0]), as_it_was):
            return not_yet(
                "The numbers stay, but the body doesn't compute as in evaluation mode: it "
                "normalises by the batch, or drops out."
            )
    return passed(
        "The body stays, numbers and behaviour, whatever `train()` is called; the head trains."
    )


ex4_7 = Exercise(
    "4.7",
    "Hold still through train()",
    minutes=12,
    question="""
        The model has two parts, `body` and `head`; both contain BatchNorm and dropout. Freeze the
        body so that it really stays: no tensor of it may change, running statistics included, and
        it computes as in evaluation mode, although the training loop calls `model.train()` as
        often as it likes. The head trains as usual.
    """,
    answer="hold_body",
    stub="""
def hold_body(model):
    model.body.requires_grad_(False)
    model.body.eval()
""",
    solution="""
def hold_body(model):
    body = model.body.requires_grad_(False).eval()

    def stay(mode=True):
        return body

    body.train = stay
""",
    why="""
        `model.train()` calls `train()` of every child, and so undoes the `eval()`. Here the body
        gets a `train` of its own that changes nothing. A hook before its forward pass that calls
        `eval()` does it too. `course_lib.freezing.freeze` holds every module in this sense, and
        gives the old behaviour back when you unfreeze.
    """,
    hints=(
        "The stub is right until somebody calls `model.train()`. What does that do to the body?",
        "`model.train()` calls `train()` of each child. What if the body's did nothing?",
        "An attribute of an object hides its class's method: `model.body.train = ...`.",
    ),
    wrongs=(
        Wrong(
            "eval_only",
            """
def hold_body(model):
    for parameter in model.body.parameters():
        parameter.requires_grad = False
    model.body.train(False)
""",
            """It holds until somebody calls `model.train()`: that puts the body back into training
            mode, its running statistics move again and dropout drops. Most loops call it at every
            epoch.""",
        ),
        Wrong(
            "statistics_move",
            """
def hold_body(model):
    model.body.requires_grad_(False)
""",
            """The weights stay, the running statistics of BatchNorm move: they are buffers, and
            every forward pass in training mode updates them. The body has to be in evaluation
            mode, and to stay in it.""",
        ),
        Wrong(
            "no_mode",
            """
def hold_body(model):
    model.body.requires_grad_(False).eval()
    model.body.train = lambda: model.body
""",
            """The error comes from `model.train()`: it calls `train(mode)` of each child, with the
            mode. So what you put in its place must be a function that takes it, `mode=True`.""",
            raises="takes 0 positional arguments|'NoneType' object is not callable",
        ),
        Wrong(
            "momentum",
            """
def hold_body(model):
    model.body.requires_grad_(False)
    for module in model.body.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.momentum = 0.0
""",
            """With a momentum of 0 the running statistics stay, but the layer still counts its
            batches, and it still normalises by the batch, not by the statistics. It computes as
            in training.""",
        ),
        Wrong(
            "too_much",
            """
def hold_body(model):
    model.body.requires_grad_(False)
    model.eval()
    model.train = lambda mode=True: model
""",
            """The body stays, and the head rests with it: in evaluation mode it has no dropout, and
            its own BatchNorm doesn't follow the new data. Hold the body only.""",
        ),
        Wrong(
            "weights_move",
            """
def hold_body(model):
    model.body.eval()
    model.body.train = lambda mode=True: model.body
""",
            """The statistics stay, the weights train: evaluation mode doesn't stop gradients.
            Freezing takes both, `requires_grad_(False)` and the mode.""",
        ),
    ),
    judge=_judge_hold,
)

# --- 4.8 ------------------------------------------------------------------------------------------


def _judge_what_moved(answer: Any) -> Verdict:
    batch = torch.randn(8, 4) + 1, torch.arange(8) % 3
    for frozen in ("body.0", "head"):
        model = _two_parts()
        model.get_submodule(frozen).requires_grad_(False)
        optimizer = torch.optim.SGD(
            [p for n, p in model.named_parameters() if n != "body.1.bias"], lr=0.1
        )
        before = copied_tensors(model)
        calls: list[int] = []

        def step(
            model: nn.Module = model, optimizer: Any = optimizer, calls: list[int] = calls
        ) -> None:
            calls.append(1)
            train(model, optimizer, batch, steps=1)

        found = returned(
            answer(model, step), (list, tuple, set, frozenset, dict), "a set or list of names"
        )
        mine, true = {str(name) for name in found}, moved(before, model)
        if len(calls) != 1:
            return not_yet(f"Call `step()` once; your function called it {len(calls)} times.")
        if mine == true:
            continue
        if not mine:
            return mistake("alias")
        trainable = {name for name, each in model.named_parameters() if each.requires_grad}
        if mine == trainable:
            return mistake("flags")
        if mine == {name for name in true if name in dict(model.named_parameters())}:
            return mistake("parameters_only")
        return not_yet(
            f"These moved and you don't name them: {listed(true - mine) or 'none'}. These did "
            f"not move and you do: {listed(mine - true) or 'none'}."
        )
    return passed(
        "That is the heart of an audit: what moved is a fact, what a flag says is a wish."
    )


ex4_8 = Exercise(
    "4.8",
    "An audit of your own",
    minutes=8,
    question="""
        You get a model and a function `step` that runs one training step on it. Return the names of
        all tensors of the model, parameters and buffers, that the step changed, as a set or list.
        Call `step()` once.
    """,
    answer="what_moved",
    stub="""
def what_moved(model, step):
    ...
    step()
    return ...
""",
    solution="""
def what_moved(model, step):
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    step()
    after = model.state_dict()
    return {name for name in before if not torch.equal(before[name], after[name])}
""",
    why="""
        A state dict holds parameters and buffers, and each entry is the live tensor under another
        name: so it is cloned before the step. (Buffers that aren't saved aren't in it;
        `named_buffers()` has those too.) `course_lib.freezing.audit` does the same on a copy, and
        adds the reason.
    """,
    hints=(
        "Remember everything before the step; compare after it.",
        "Parameters are not all: BatchNorm's running mean is a buffer. `state_dict()` has both.",
        "Is what `state_dict()` gives a copy? If not, `.clone()` makes one. Then `torch.equal`.",
    ),
    wrongs=(
        Wrong(
            "alias",
            """
def what_moved(model, step):
    before = dict(model.state_dict())
    step()
    return {n for n, t in model.state_dict().items() if not torch.equal(before[n], t)}
""",
            """You found that nothing moved, and much did. Did what you remembered move along? A
            state dict gives the live tensors: clone each of them before the step. Or do you compare
            so loosely that a step doesn't show? `torch.equal` asks for the same bits.""",
        ),
        Wrong(
            "parameters_only",
            """
def what_moved(model, step):
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    step()
    return [n for n, p in model.named_parameters() if not torch.equal(before[n], p)]
""",
            """The parameters are right. You left out the buffers, and those are what moves in a
            network that is thought frozen: BatchNorm's running statistics.""",
        ),
        Wrong(
            "flags",
            """
def what_moved(model, step):
    step()
    return [name for name, p in model.named_parameters() if p.requires_grad]
""",
            """You name what may train: its flag is on, or it got a gradient. What moved is
            something else: the optimizer may not know a parameter, and buffers have neither.
            Compare the numbers.""",
        ),
    ),
    judge=_judge_what_moved,
)

# --- questions ------------------------------------------------------------------------------------

q4_1 = Question(
    "4.1",
    "Which way of freezing the front part of a network makes a training step shorter?",
    (
        Option(
            "Leaving its parameters out of the optimizer.",
            """Their gradients are computed all the same; only the small work of the update is
            saved. Measured, there is no gain.""",
        ),
        Option(
            "Switching `requires_grad` off for it.",
            """No gradients of its weights, no backward pass through it, and its activations
            needn't be kept. That is well over half of a step.""",
            right=True,
        ),
        Option(
            "Putting its weights back after each step.",
            "Everything is computed as before, and the copying comes on top.",
        ),
        Option(
            "A learning rate of 0 for it.",
            """The gradients are computed, then multiplied by 0. BatchNorm's statistics move as
            well.""",
        ),
    ),
)
q4_2 = Question(
    "4.2",
    """
    A parameter is frozen by `requires_grad = False` and its `.grad` is None. The optimizer still
    has it, with weight decay. What happens to it?
    """,
    (
        Option(
            "It shrinks a little at each step.",
            """That is often said. The optimizer skips a parameter without gradient before it comes
            to weight decay.""",
        ),
        Option(
            "Nothing.",
            """Right. But if an old gradient is still there, or has been set to zeros and not to
            None, weight decay and momentum do move it.""",
            right=True,
        ),
        Option(
            "The optimizer raises an error.",
            "Parameters without gradient are ordinary: those of a branch that wasn't used, say.",
        ),
    ),
)
q4_3 = Question(
    "4.3",
    "You freeze a layer right after `loss.backward()` and before `optimizer.step()`. What happens?",
    (
        Option(
            "The layer stays, since it no longer requires gradients.",
            "The flag speaks of gradients to come. This one is there already.",
        ),
        Option(
            "The step still moves it, by the gradient that is there.",
            """Yes: the optimizer looks at `.grad`, not at the flag. Clear the gradients when you
            freeze.""",
            right=True,
        ),
        Option(
            "`optimizer.step()` raises an error.",
            "It doesn't look at the flag at all.",
        ),
    ),
)
q4_4 = Question(
    "4.4",
    "You save a model with frozen layers by `state_dict()` and load it elsewhere. What is frozen?",
    (
        Option(
            "The same layers as in the model that was saved.",
            "A state dict holds numbers only. Neither flags nor modes are in it.",
        ),
        Option(
            "What is frozen in the model that you load into.",
            """Loading changes numbers, not flags. So a resumed run may train what was frozen;
            save the freeze state beside the weights.""",
            right=True,
        ),
        Option(
            "Everything: loaded weights need no training.",
            "Loading doesn't touch `requires_grad`.",
        ),
    ),
)

EXERCISES = (ex4_1, ex4_2, ex4_3, ex4_4, ex4_5, ex4_6, ex4_7, ex4_8)
QUESTIONS = (q4_1, q4_2, q4_3, q4_4)
