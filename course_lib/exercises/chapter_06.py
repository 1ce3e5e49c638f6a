"""Exercises and questions of chapter 06: staged fine-tuning."""

import math
from typing import Any

import torch
from torch import nn

from course_lib.exercises.core import Exercise, Wrong
from course_lib.exercises.models import (
    CharacterModel,
    SmallResNet,
    copied_tensors,
    listed,
    moved,
    of_layer,
    pictures,
    texts,
    train,
)
from course_lib.exercises.quiz import Option, Question
from course_lib.exercises.verdicts import (
    Verdict,
    close,
    mistake,
    not_yet,
    number,
    passed,
    returned,
)
from course_lib.text import counted

LAYERS = ("em", "fc1", "fc2", "fc3")

# --- 6.1 ------------------------------------------------------------------------------------------


def _judge_groups(answer: Any) -> Verdict:
    for rate, factor in ((0.1, 10.0), (0.08, 2.0)):
        model = CharacterModel()
        groups = returned(answer(model, rate, factor), list, "a list of dictionaries")
        optimizer = torch.optim.SGD(groups, lr=77.0)
        found = {
            id(each): group["lr"] for group in optimizer.param_groups for each in group["params"]
        }
        rates = {name: found.get(id(each)) for name, each in model.named_parameters()}
        missing = {name for name, each in rates.items() if each is None}
        if missing:
            return not_yet(f"{listed(missing)} is in no group, so it would never train.")
        if 77.0 in rates.values():
            return not_yet("A group has no `lr` of its own: it would take the optimizer's.")
        expected = {name: rate / factor ** (3 - place) for place, name in enumerate(LAYERS)}
        wanted = {name: expected[name.split(".")[0]] for name in rates}
        if all(close(rates[name], wanted[name]) for name in rates):
            continue
        turned = {name: rate / factor**place for place, name in enumerate(LAYERS)}
        if all(close(rates[name], turned[name.split(".")[0]]) for name in rates):
            return mistake("upside_down")
        linear = {name: rate / (factor * (3 - place) or 1) for place, name in enumerate(LAYERS)}
        if all(close(rates[name], linear[name.split(".")[0]]) for name in rates):
            return mistake("times_the_depth")
        if close(rates["fc3.weight"], rate) and close(rates["em.weight"], rate / factor):
            return mistake("two_rates")
        shown = ", ".join(f"`{name}` {rates[f'{name}.weight']:g}" for name in LAYERS)
        return not_yet(f"With `rate={rate:g}` and `factor={factor:g}` the rates are {shown}.")
    return passed("Each layer learns slower than the one behind it, and the head the fastest.")


ex6_1 = Exercise(
    "6.1",
    "A learning rate for each depth",
    minutes=8,
    question="""
        The model has the layers `em`, `fc1`, `fc2`, `fc3`, in this order. Return a list of
        parameter groups, one a layer, for an optimizer: `fc3` learns at `rate`, and each layer
        before it `factor` times slower than the layer behind it. (The chapter's `depth_factor`
        multiplies; it is one over this factor.)
    """,
    answer="groups_by_depth",
    stub="""
def groups_by_depth(model, rate, factor):
    groups = []
    for layer in model.children():
        groups.append({"params": list(layer.parameters()), "lr": ...})
    return groups
""",
    solution="""
def groups_by_depth(model, rate, factor):
    groups = []
    for layer in reversed(list(model.children())):
        groups.append({"params": list(layer.parameters()), "lr": rate})
        rate = rate / factor
    return groups
""",
    why="""
        Going from the head backwards, each rate is the last one divided by the factor. The first
        layers are thought to hold what most examples have in common, so they get the smallest
        steps.
    """,
    hints=(
        "Which layer gets `rate` itself? Begin there.",
        "`reversed(list(model.children()))` goes from `fc3` to `em`.",
        "Divide the rate by the factor after each layer.",
    ),
    wrongs=(
        Wrong(
            "generator",
            """
def groups_by_depth(model, rate, factor):
    groups = []
    for layer in reversed(model.children()):
        groups.append({"params": list(layer.parameters()), "lr": rate})
        rate = rate / factor
    return groups
""",
            """`children()` gives one layer after the other and doesn't know its end, so it can't be
            turned round. Make it a list first.""",
            raises="not reversible",
        ),
        Wrong(
            "upside_down",
            """
def groups_by_depth(model, rate, factor):
    groups = []
    for layer in model.children():
        groups.append({"params": list(layer.parameters()), "lr": rate})
        rate = rate / factor
    return groups
""",
            """It is upside down: the embedding, the first layer, learns fastest and the head
            slowest. `children()` goes from the input to the head; go the other way.""",
        ),
        Wrong(
            "two_rates",
            """
def groups_by_depth(model, rate, factor):
    return [
        {
            "params": list(layer.parameters()),
            "lr": rate if name == "fc3" else rate / factor,
        }
        for name, layer in model.named_children()
    ]
""",
            """These are two rates, one for the head and one for all the rest: the usual split. Here
            each layer is to be slower than the one behind it, so there are four.""",
        ),
        Wrong(
            "times_the_depth",
            """
def groups_by_depth(model, rate, factor):
    layers = list(model.children())
    return [
        {
            "params": list(layer.parameters()),
            "lr": rate / ((factor * (len(layers) - 1 - place)) or 1),
        }
        for place, layer in enumerate(layers)
    ]
""",
            """You divide by `factor` *times* the number of layers behind. Each layer should be
            `factor` times slower than its neighbour, so take `factor` to that power.""",
        ),
    ),
    judge=_judge_groups,
)

# --- 6.2 ------------------------------------------------------------------------------------------


def _judge_two_stages(answer: Any) -> Verdict:
    model, batch = CharacterModel(), texts()
    seen: list[set[str]] = []

    def fit(optimizer: Any) -> None:
        before = copied_tensors(model)
        train(model, returned(optimizer, torch.optim.Optimizer, "an optimizer"), batch)
        seen.append(moved(before, model))

    answer(model, fit)
    if len(seen) != 2:
        return not_yet(f"`fit` should be called twice, once for each stage; you called it "
                       f"{counted(len(seen), 'time')}.")  # fmt: skip
    head = of_layer(copied_tensors(model), "fc3")
    everything = set(copied_tensors(model))
    if seen[0] == everything and seen[1] == head:
        return mistake("body_first")
    if seen[0] != head:
        return not_yet(f"In the first stage {listed(seen[0])} moved; expected the head alone.")
    if seen[1] == head:
        off = any(not each.requires_grad for each in model.parameters())
        return mistake("still_frozen" if off else "old_optimizer")
    if seen[1] != everything:
        return not_yet(f"In the second stage {listed(everything - seen[1])} did not move.")
    return passed("First the head alone, then everything together.")


ex6_2 = Exercise(
    "6.2",
    "Head first, then everything",
    minutes=6,
    question="""
        `fit(optimizer)` trains the model for a while with the optimizer you give it. The code below
        means to train the head `fc3` first, then all layers. In the second stage the body still
        doesn't move, and nothing complains. Fix it.
    """,
    answer="two_stages",
    stub="""
def two_stages(model, fit):
    model.requires_grad_(False)
    model.fc3.requires_grad_(True)
    optimizer = torch.optim.SGD(model.fc3.parameters(), lr=0.1)
    fit(optimizer)
    model.requires_grad_(True)
    fit(optimizer)
""",
    solution="""
def two_stages(model, fit):
    model.requires_grad_(False)
    model.fc3.requires_grad_(True)
    optimizer = torch.optim.SGD(model.fc3.parameters(), lr=0.1)
    fit(optimizer)
    model.requires_grad_(True)
    body = [each for name, each in model.named_parameters() if not name.startswith("fc3.")]
    optimizer.add_param_group({"params": body, "lr": 0.01})
    fit(optimizer)
""",
    why="""
        Two things have to happen at an unfreezing: the flag goes on, and the optimizer learns of
        the parameters. `freezing.unfreeze(model, names, optimizer=optimizer, lr=0.01)` does both,
        and clears old gradients.
    """,
    hints=(
        "After the second stage, look at `model.fc1.weight.requires_grad` and at its `.grad`.",
        "The gradient is there. Who should use it? Look at `optimizer.param_groups`.",
        "`optimizer.add_param_group`, or a new optimizer over all parameters.",
    ),
    wrongs=(
        Wrong(
            "old_optimizer",
            """
def two_stages(model, fit):
    optimizer = torch.optim.SGD(model.fc3.parameters(), lr=0.1)
    fit(optimizer)
    for parameter in model.parameters():
        parameter.requires_grad = True
        parameter.grad = None
    fit(optimizer)
""",
            """All parameters require a gradient and get one, but the optimizer was built when there
            was only the head. It never learns of the others.""",
        ),
        Wrong(
            "still_frozen",
            """
def two_stages(model, fit):
    model.requires_grad_(False)
    model.fc3.requires_grad_(True)
    fit(torch.optim.SGD(model.fc3.parameters(), lr=0.1))
    fit(torch.optim.SGD(model.parameters(), lr=0.1))
""",
            """The optimizer of the second stage knows everything, but the body's flags are still
            off: it gets no gradients, and the optimizer passes over what has none.""",
        ),
        Wrong(
            "body_first",
            """
def two_stages(model, fit):
    fit(torch.optim.SGD(model.parameters(), lr=0.1))
    model.requires_grad_(False)
    model.fc3.requires_grad_(True)
    fit(torch.optim.SGD(model.fc3.parameters(), lr=0.1))
""",
            """The order is turned round: the body trained while the head was still random. The head
            comes first, so that the errors that reach the body mean something.""",
        ),
    ),
    judge=_judge_two_stages,
)

# --- 6.3 ------------------------------------------------------------------------------------------


def _judge_rate_zero(answer: Any) -> Verdict:
    named = {each for each in answer if isinstance(each, str)}
    model = SmallResNet()
    known = set(copied_tensors(model))
    strangers = named - known
    if strangers:
        return not_yet(f"The model has no tensor {listed(strangers)}.")
    before = copied_tensors(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0, momentum=0.9, weight_decay=0.1)
    train(model.train(), optimizer, pictures())
    truth = moved(before, model)
    if named == truth:
        return passed("Six buffers of two BatchNorm layers. No weight moved, and yet the network "
                      "computes something else than before.")  # fmt: skip
    weights = {name for name, _ in model.named_parameters()}
    if named & weights:
        return mistake("weights")
    if named and named == {each for each in truth if "num_batches" not in each}:
        return mistake("no_counter")
    if not named:
        return mistake("nothing")
    return not_yet(f"Wrong or missing: {len(named ^ truth)} of the names.")


ex6_3 = Exercise(
    "6.3",
    "What moves at learning rate 0",
    minutes=6,
    question="""
        A `SmallResNet` has the layers `conv1`, `bn1`, `conv2`, `bn2`, `gate_fc`, `fc`. All of it is
        trained for three steps in training mode, by SGD with momentum, weight decay and learning
        rate **0**. Give the list of the names (as in `state_dict`) of all tensors that are not what
        they were. You may find them by trying: `from course_lib.exercises.models import
        SmallResNet, pictures`.
    """,
    answer="changed",
    stub="""
changed = [...]
""",
    solution="""
changed = [
    f"{layer}.{buffer}"
    for layer in ("bn1", "bn2")
    for buffer in ("running_mean", "running_var", "num_batches_tracked")
]
""",
    why="""
        A learning rate multiplies what the optimizer does, weight decay included. BatchNorm's
        statistics are no business of the optimizer: every forward pass in training mode moves
        them.
    """,
    hints=(
        "What does the learning rate multiply, and what does it not?",
        "Which layers note something about their inputs in a forward pass?",
        "Each BatchNorm layer has three buffers; look at `model.state_dict().keys()`.",
    ),
    wrongs=(
        Wrong(
            "weights",
            'changed = ["conv1.weight", "conv2.weight", "bn1.weight", "bn2.weight"]',
            """You named weights. SGD's step is the learning rate times gradient, momentum and
            weight decay together, and times 0 that is nothing.""",
        ),
        Wrong(
            "no_counter",
            """
changed = ["bn1.running_mean", "bn1.running_var", "bn2.running_mean", "bn2.running_var"]
""",
            """Nearly all. BatchNorm has a third buffer, which counts the batches it has seen in
            training mode; it moves too. `model.state_dict()` shows its name.""",
        ),
        Wrong(
            "nothing",
            "changed = []",
            """Something does move. No weight does; but some layers write down what passes through
            them, in buffers, whatever the learning rate is.""",
        ),
    ),
    judge=_judge_rate_zero,
    function=False,
)

# --- 6.4 ------------------------------------------------------------------------------------------


def _judge_warm_up(answer: Any) -> Verdict:
    for warm, total in ((4, 20), (1, 10), (5, 6)):
        found = [number(answer(step, warm, total), "a number") for step in range(total)]
        rise = [(step + 1) / warm for step in range(warm)]
        fall = [
            0.5 * (1 + math.cos(math.pi * (step - warm) / (total - warm)))
            for step in range(warm, total)
        ]
        if close(found, [*rise, *fall]):
            continue
        if any(each < 0 or each > 1 + 1e-6 for each in found):
            place = next(i for i, each in enumerate(found) if each < 0 or each > 1 + 1e-6)
            if place >= warm and found[place] > 1:
                return mistake("no_end")
            return not_yet(f"In step {place} the factor is {found[place]:g}.")
        if close(found[0], 0.0):
            return mistake("starts_at_zero")
        if close(found[:warm], rise) and not close(found[warm], 1.0):
            return mistake("a_jump")
        where = next(
            step
            for step, pair in enumerate(zip(found, [*rise, *fall], strict=True))
            if not close(*pair)
        )
        return not_yet(
            f"With {warm} steps of warm-up of {total}: in step {where} the factor is "
            f"{found[where]:.3f}, expected {[*rise, *fall][where]:.3f}."
        )
    return passed("It rises, meets its highest value without a jump, and falls.")


ex6_4 = Exercise(
    "6.4",
    "Warm up, then fall",
    minutes=7,
    question="""
        Write the factor by which the learning rate is multiplied in step `step` (from 0) of
        `total`. In the first `warm` steps it rises evenly: `1/warm`, `2/warm`, ... up to 1. From
        step `warm` on it falls along half a cosine, `0.5 * (1 + cos(pi * done))`, where `done` goes
        from 0 in step `warm` towards 1, which it would reach in step `total`.
    """,
    answer="factor",
    stub="""
def factor(step, warm, total):
    if step < warm:
        return ...
    done = ...
    return 0.5 * (1 + math.cos(math.pi * done))
""",
    solution="""
def factor(step, warm, total):
    if step < warm:
        return (step + 1) / warm
    done = (step - warm) / (total - warm)
    return 0.5 * (1 + math.cos(math.pi * done))
""",
    why="""
        Small first steps, while momentum and Adam's moments know nothing yet; large ones in the
        middle; small ones at the end, to settle. PyTorch's scheduler takes a function of the step
        alone: `LambdaLR(optimizer, lambda step: factor(step, warm, total))`.
    """,
    hints=(
        "In the first step the factor is `1/warm`, not 0.",
        "`done` is a share: steps since the warm-up over all steps after the warm-up.",
        "`done = (step - warm) / (total - warm)`",
    ),
    wrongs=(
        Wrong(
            "starts_at_zero",
            """
def factor(step, warm, total):
    if step < warm:
        return step / warm
    done = (step - warm) / (total - warm)
    return 0.5 * (1 + math.cos(math.pi * done))
""",
            """The factor of the first step is 0: a whole batch is computed and nothing is learned.
            Count the first step as one.""",
        ),
        Wrong(
            "a_jump",
            """
def factor(step, warm, total):
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * step / total))
""",
            """The rate jumps when the warm-up ends: the cosine has been running since step 0, and
            is already on its way down. It has to begin where the warm-up ends.""",
        ),
        Wrong(
            "no_end",
            """
def factor(step, warm, total):
    if step < total:
        return (step + 1) / warm
    done = (step - warm) / (total - warm)
    return 0.5 * (1 + math.cos(math.pi * done))
""",
            """The factor goes on rising past 1 after the warm-up. With it the learning rate becomes
            larger than the one you chose; the rise ends at step `warm`.""",
        ),
    ),
    judge=_judge_warm_up,
    preamble="import math\n\nimport torch\nfrom torch import nn\n",
)

# --- 6.5 ------------------------------------------------------------------------------------------


def _judge_reduction(answer: Any) -> Verdict:
    found = {
        (name, size): number(answer(name, 0.002, size), "a number")
        for name in ("sgd", "adam")
        for size in (8, 64)
    }
    sgd = [found["sgd", size] for size in (8, 64)]
    adam = [found["adam", size] for size in (8, 64)]
    if close(sgd, [0.002 / 8, 0.002 / 64]):
        return mistake("the_wrong_way")
    if not close(sgd, [0.016, 0.128]):
        return not_yet(
            f"For SGD with 0.002 and batches of 8 you give {sgd[0]:g}. By which factor is the "
            "gradient of the mean smaller?"
        )
    if close(adam, sgd):
        return mistake("adam_too")
    if not close(adam, [0.002, 0.002]):
        return not_yet(f"For Adam with 0.002 you give {adam[0]:g}.")
    return passed("SGD's step is proportional to the gradient; Adam's hardly depends on its size.")


ex6_5 = Exercise(
    "6.5",
    "From the sum to the mean",
    minutes=6,
    question="""
        Somebody trained well with `CrossEntropyLoss(reduction="sum")` at learning rate `rate`, in
        batches of `batch_size`. You want to take the mean instead and have the same steps. Return
        the learning rate for it, for `optimizer` `"sgd"` or `"adam"`.
    """,
    answer="rate_for_mean",
    stub="""
def rate_for_mean(optimizer, rate, batch_size):
    if optimizer == "sgd":
        return ...
    return ...
""",
    solution="""
def rate_for_mean(optimizer, rate, batch_size):
    if optimizer == "sgd":
        return rate * batch_size
    return rate
""",
    why="""
        The mean is the sum divided by the batch size, and so is its gradient. SGD multiplies the
        gradient by the rate, so the rate has to make up for it. Adam divides the gradient by its
        own usual size, and a factor that is in both cancels.
    """,
    hints=(
        "Write down the gradient of the sum and that of the mean: which is larger, by how much?",
        "SGD's step is `rate * gradient`. What keeps that product the same?",
        "Adam's step is about `rate * m / sqrt(v)`; put the gradient times 16 into `m` and `v`.",
    ),
    wrongs=(
        Wrong(
            "the_wrong_way",
            """
def rate_for_mean(optimizer, rate, batch_size):
    return rate / batch_size if optimizer == "sgd" else rate
""",
            """The gradient of the mean is *smaller* than that of the sum, by the batch size. With a
            smaller rate as well, the steps would be smaller twice over.""",
        ),
        Wrong(
            "adam_too",
            """
def rate_for_mean(optimizer, rate, batch_size):
    return rate * batch_size
""",
            """Right for SGD. Adam divides each gradient by the square root of its average square;
            a factor that all gradients have cancels, so its rate stays.""",
        ),
    ),
    judge=_judge_reduction,
)

# --- 6.6 ------------------------------------------------------------------------------------------


def _judge_pull(answer: Any) -> Verdict:
    model = CharacterModel()
    penalty = answer(model)
    if not callable(penalty):
        return not_yet("Return a function without arguments that computes the penalty.")
    first = number(penalty(), "a number")
    if not close(first, 0.0):
        total = sum(float((each.detach() ** 2).sum()) for each in model.parameters())
        return mistake("towards_zero") if first > total / 4 else not_yet(
            f"At the start the penalty should be 0; it is {first:g}."
        )  # fmt: skip
    with torch.no_grad():
        for name, each in model.named_parameters():
            each.add_(0.5 if name.startswith("fc1.") else 0.0)
    expected = 0.5 * 0.25 * sum(each.numel() for each in model.fc1.parameters())
    now = penalty()
    if close(number(now, "a number"), 0.0):
        return mistake("an_alias")
    with torch.no_grad():
        for each in model.fc3.parameters():
            each.add_(1.0)
    later = number(penalty(), "a number")
    if not close(later, number(now, "a number")):
        return mistake("the_head_too")
    if close(number(now, "a number"), 2 * expected):
        return not_yet("It is twice what it should be: half of the sum of squares.")
    if not close(number(now, "a number"), expected):
        return not_yet("After `fc1` moved by 0.5 everywhere, the penalty isn't what it should be.")
    value = penalty()
    if not isinstance(value, torch.Tensor) or not value.requires_grad:
        return mistake("no_gradient")
    return passed("Its gradient is the distance from the start, and the head is free.")


ex6_6 = Exercise(
    "6.6",
    "A pull back to the start",
    minutes=8,
    question="""
        `pull_of(model)` is called before training. It returns a function that gives a penalty to be
        added to the loss: half the sum of the squared distances of all weights from where they were
        when `pull_of` was called. The new head `fc3` is left out, since its start was random. The
        code below always gives 0. Fix it.
    """,
    answer="pull_of",
    stub="""
def pull_of(model):
    start = {name: p.data for name, p in model.named_parameters() if not name.startswith("fc3.")}

    def penalty():
        weights = dict(model.named_parameters())
        return 0.5 * sum(((weights[name] - start[name]) ** 2).sum() for name in start)

    return penalty
""",
    solution="""
def pull_of(model):
    start = {
        name: p.detach().clone()
        for name, p in model.named_parameters()
        if not name.startswith("fc3.")
    }

    def penalty():
        weights = dict(model.named_parameters())
        return 0.5 * sum(((weights[name] - start[name]) ** 2).sum() for name in start)

    return penalty
""",
    why="""
        `.data` is the same memory under another name, so the start moved along with the weights.
        `.clone()` makes a copy. The penalty's gradient is the distance itself: the farther a weight
        has gone, the stronger it is pulled.
    """,
    hints=(
        'What is `start["fc1.weight"]` after a training step?',
        "`parameter.data` shares the parameter's memory.",
        "Keep a copy: `.detach().clone()`.",
    ),
    wrongs=(
        Wrong(
            "an_alias",
            """
def pull_of(model):
    start = model.state_dict()

    def penalty():
        return 0.5 * sum(
            ((p - start[name]) ** 2).sum()
            for name, p in model.named_parameters()
            if not name.startswith("fc3.")
        )

    return penalty
""",
            """The penalty is always 0. What you kept isn't a copy: it shares its memory with the
            model, and moves with it. That is so for `state_dict()` as for `.data`.""",
        ),
        Wrong(
            "towards_zero",
            """
def pull_of(model):
    def penalty():
        return 0.5 * sum(
            (p**2).sum() for name, p in model.named_parameters() if not name.startswith("fc3.")
        )

    return penalty
""",
            """This pulls towards zero: ordinary weight decay. A pretrained weight isn't better near
            zero; take the distance from where it started.""",
        ),
        Wrong(
            "the_head_too",
            """
def pull_of(model):
    start = {name: p.detach().clone() for name, p in model.named_parameters()}

    def penalty():
        return 0.5 * sum(((p - start[name]) ** 2).sum() for name, p in model.named_parameters())

    return penalty
""",
            """The head `fc3` is pulled too, back to random numbers. Leave it out: its start means
            nothing.""",
        ),
        Wrong(
            "no_gradient",
            """
def pull_of(model):
    start = {
        name: p.detach().clone()
        for name, p in model.named_parameters()
        if not name.startswith("fc3.")
    }

    def penalty():
        weights = dict(model.named_parameters())
        return 0.5 * sum(((weights[n] - start[n]) ** 2).sum().item() for n in start)

    return penalty
""",
            """The number is right, but it is a plain number: no gradient flows back through it, so
            that nothing is pulled. Keep it a tensor, without `.item()` or `.detach()` of the
            weights.""",
        ),
    ),
    judge=_judge_pull,
)

# --- 6.7 ------------------------------------------------------------------------------------------


class _Course:
    """A training whose validation accuracy is known beforehand; each epoch sets the weight."""

    def __init__(self, scores: list[float]) -> None:
        self.scores, self.epoch = scores, 0
        self.model = nn.Linear(1, 1, bias=False)

    def train_epoch(self) -> None:
        self.epoch += 1
        with torch.no_grad():
            self.model.weight.fill_(float(self.epoch))

    def score(self) -> float:
        return self.scores[min(self.epoch, len(self.scores)) - 1]


def _judge_patience(answer: Any) -> Verdict:
    cases = (
        ([0.5, 0.7, 0.6, 0.65, 0.9, 0.9], 2, 4, 2),  # stops two epochs after the best
        ([0.5, 0.6, 0.6, 0.6, 0.6], 3, 5, 2),  # an equal one isn't better
        ([0.5, 0.4, 0.6, 0.5, 0.7], 2, 5, 5),  # the wait begins anew
    )
    for scores, patience, ends, best in cases:
        run = _Course(scores)
        answer(run.model, run.train_epoch, run.score, patience, len(scores))
        held = int(run.model.weight.item())
        if run.epoch == ends and held == best:
            continue
        if run.epoch == ends and held == ends:
            return mistake("the_last")
        if run.epoch == len(scores) > ends:
            return mistake("never_stops")
        if run.epoch < ends and best >= ends:
            return mistake("counts_all")
        told = ", ".join(f"{each:g}" for each in scores)
        return not_yet(
            f"With the accuracies {told} and patience {patience}: it trained "
            f"{counted(run.epoch, 'epoch')} and ended with the weights of epoch {held}; "
            f"expected {ends} and {best}."
        )
    return passed("It stops in time, and the model has the weights of its best epoch.")


ex6_7 = Exercise(
    "6.7",
    "Stop early, keep the best",
    minutes=8,
    question="""
        `train_epoch()` trains one epoch, `score()` gives the validation accuracy. Train for at most
        `most` epochs; stop when `patience` epochs in a row brought nothing better than the best
        before (equal isn't better); end with the weights of the best epoch. The code below stops
        well, but the model ends with the weights of the *last* epoch. Fix it.
    """,
    answer="train_with_patience",
    stub="""
def train_with_patience(model, train_epoch, score, patience, most):
    best, waited, kept = -1.0, 0, None
    for _ in range(most):
        train_epoch()
        now = score()
        if now > best:
            best, waited, kept = now, 0, model.state_dict()
        else:
            waited += 1
        if waited == patience:
            break
    model.load_state_dict(kept)
""",
    solution="""
def train_with_patience(model, train_epoch, score, patience, most):
    best, waited, kept = -1.0, 0, None
    for _ in range(most):
        train_epoch()
        now = score()
        if now > best:
            best, waited, kept = now, 0, copy.deepcopy(model.state_dict())
        else:
            waited += 1
        if waited == patience:
            break
    model.load_state_dict(kept)
""",
    why="""
        `state_dict()` doesn't copy: its tensors are the model's, and go on training. Loading it at
        the end loads the model into itself. `copy.deepcopy` makes a copy that stays.
    """,
    hints=(
        "What does `kept` hold after another epoch?",
        "`model.state_dict()` gives the model's own tensors.",
        "`copy.deepcopy(model.state_dict())`",
    ),
    wrongs=(
        Wrong(
            "the_last",
            """
def train_with_patience(model, train_epoch, score, patience, most):
    best, waited = -1.0, 0
    for _ in range(most):
        train_epoch()
        now = score()
        waited = 0 if now > best else waited + 1
        best = max(best, now)
        if waited == patience:
            return
""",
            """It stops at the right time, but with the weights of the last epoch, which was a worse
            one by then. Keep a *copy* of the best ones, and load it at the end.""",
        ),
        Wrong(
            "never_stops",
            """
def train_with_patience(model, train_epoch, score, patience, most):
    best, kept = -1.0, None
    for _ in range(most):
        train_epoch()
        now = score()
        if now > best:
            best, kept = now, copy.deepcopy(model.state_dict())
    model.load_state_dict(kept)
""",
            """The best epoch is kept, but it always trains to the end. Count the epochs in a row
            without a better one, and stop at `patience`.""",
        ),
        Wrong(
            "counts_all",
            """
def train_with_patience(model, train_epoch, score, patience, most):
    best, waited, kept = -1.0, 0, None
    for _ in range(most):
        train_epoch()
        now = score()
        if now > best:
            best, kept = now, copy.deepcopy(model.state_dict())
        else:
            waited += 1
        if waited == patience:
            break
    model.load_state_dict(kept)
""",
            """It counts all epochs without a gain, also those before the last gain. The wait begins
            anew with each better epoch: set the count back to 0.""",
        ),
    ),
    judge=_judge_patience,
)

# --- 6.8 ------------------------------------------------------------------------------------------


def _judge_work(answer: Any) -> Verdict:
    for large, small, epochs, rates in ((224, 96, 4, 2), (160, 96, 10, 5)):
        mine = number(answer(large, small, epochs, rates), "a number")
        passes, area = epochs * rates, (large / small) ** 2
        if close(mine, 3 * passes / area):
            continue
        wrong = {
            "only_forth": passes / area,
            "by_side": 3 * passes / (large / small),
            "one_rate": 3 * epochs / area,
            "upside_down": area / (3 * passes),
        }
        for name, value in wrong.items():
            if close(mine, value):
                return mistake(name)
        return not_yet(
            f"For {large} and {small} pixels, {epochs} epochs and {rates} rates it gives "
            f"{mine:.3g}; expected {3 * passes / area:.3g}."
        )
    return passed(
        "At 224 and 96 pixels, with four epochs at three rates, the training is nearly seven times "
        "the work of the head, though each of its pictures has a fifth of the pixels."
    )


ex6_8 = Exercise(
    "6.8",
    "Larger pictures or more passes",
    minutes=5,
    question="""
        A linear head needs each picture once forth through the frozen network, `large` pixels wide.
        All layers are trained on pictures that are `small` pixels wide, for `epochs` epochs at each
        of `rates` learning rates. How many times the work of the head is that?

        Count the passes through the network only, for square pictures: forth costs as much as the
        picture has pixels, and back twice as much as forth.
    """,
    answer="times_the_work",
    stub="""
def times_the_work(large, small, epochs, rates):
    of_head = ...
    of_training = ...
    return of_training / of_head
""",
    solution="""
def times_the_work(large, small, epochs, rates):
    of_head = large**2
    of_training = 3 * small**2 * epochs * rates
    return of_training / of_head
""",
    why="""
        A convolution does the same sums at each place of the picture, so its work grows with the
        area. In training, each picture goes forth (1) and back (2), in every epoch and at every
        rate. The head's own training isn't counted: on stored features it is next to nothing.
    """,
    hints=(
        "How many pixels has a square picture that is 224 pixels wide?",
        "How often does one picture go through the network in the training, and what does once "
        "forth and back cost?",
        "The head: `large**2`. The training: `3 * small**2`, times epochs, times rates.",
    ),
    wrongs=(
        Wrong(
            "only_forth",
            """
def times_the_work(large, small, epochs, rates):
    return epochs * rates * small**2 / large**2
""",
            """You counted the way forth only. Training goes back as well, for the gradients, and
            that costs twice as much: 3 for each pass instead of 1.""",
        ),
        Wrong(
            "by_side",
            """
def times_the_work(large, small, epochs, rates):
    return 3 * epochs * rates * small / large
""",
            """You compared the sides. A picture twice as wide is twice as high too: take the
            area.""",
        ),
        Wrong(
            "one_rate",
            """
def times_the_work(large, small, epochs, rates):
    return 3 * epochs * small**2 / large**2
""",
            """That is the training at one learning rate. Each of the rates is a training of its
            own, from the start.""",
        ),
        Wrong(
            "upside_down",
            """
def times_the_work(large, small, epochs, rates):
    return large**2 / (3 * small**2 * epochs * rates)
""",
            """It is upside down: this is the work of the head, in units of the training. Divide
            the training's by the head's.""",
        ),
    ),
    judge=_judge_work,
)

# --- questions ------------------------------------------------------------------------------------

q6_1 = Question(
    "6.1",
    "Why may it help to train the head before the body is let go?",
    (
        Option(
            "The gradients that a random head sends through the body are large and depend on its "
            "random weights.",
            """The body's gradient is the errors times the head's random weights: the first steps
            fit the features to a head that means nothing yet. The chapter measured that they travel
            farther; a gain in accuracy wasn't shown.""",
            right=True,
        ),
        Option(
            "The head has the most parameters.",
            "In most networks it has few; the body has nearly all.",
        ),
        Option(
            "Otherwise the optimizer would not know the head.",
            "The optimizer knows what you hand over, in any order.",
        ),
    ),
)
q6_2 = Question(
    "6.2",
    "You give the body learning rate 0 instead of freezing it. What is the same as with freezing?",
    (
        Option(
            "The time of a step.",
            """All gradients are computed as before, and multiplied by 0 at the end. Nothing is
            saved.""",
        ),
        Option(
            "The weights stay.",
            """Yes, with SGD, Adam and AdamW, weight decay included, since all of it is multiplied
            by the rate. It is the only thing that is the same.""",
            right=True,
        ),
        Option(
            "BatchNorm's running statistics stay.",
            "They move in every forward pass in training mode. The optimizer has no say in it.",
        ),
        Option(
            "What the optimizer remembers.",
            """Momentum and moments are collected all the while; raise the rate later, and the first
            steps use them.""",
        ),
    ),
)
q6_3 = Question(
    "6.3",
    """
    A paper fine-tunes with Adam, sums the loss over a batch of 64 and uses a learning rate of 1e-4.
    You use the mean. What do you set?
    """,
    (
        Option("6.4e-3", "That would be right for SGD. Adam's step hardly depends on the scale."),
        Option(
            "1e-4",
            """Adam divides by the gradients' own size, and the factor 64 cancels. What does change:
            a clipping of the gradient's norm, and the tiny `eps`, if gradients are that small.""",
            right=True,
        ),
        Option("1.6e-6", "Smaller makes up for nothing: the mean's gradient is the smaller one."),
    ),
)
q6_4 = Question(
    "6.4",
    "Batches of 8, a pretrained network with BatchNorm, few pictures. What is safest?",
    (
        Option(
            "Training mode, since the statistics should fit the new pictures.",
            """They would, with thousands of pictures. From batches of 8 they are noisy, and the
            network computes with each batch's own numbers while it trains.""",
        ),
        Option(
            "Remove the BatchNorm layers.",
            "The weights behind them were trained with their scale; all features would change.",
        ),
        Option(
            "Hold the running statistics, and let weights and biases train.",
            """The layer then does in training what it will do later. Its own weight and bias can
            still move the features.""",
            right=True,
        ),
    ),
)
q6_5 = Question(
    "6.5",
    """
    Of twelve settings you keep the one with the best validation accuracy, 0.95. What do you expect
    on the test pictures?
    """,
    (
        Option(
            "0.95, since validation pictures were not trained on.",
            "You chose by them, and the best of twelve was also the luckiest of twelve.",
        ),
        Option(
            "Somewhat less than 0.95.",
            """The highest of several noisy numbers tends to lie above its true value. So the test
            pictures are looked at once, after the choice.""",
            right=True,
        ),
        Option(
            "More, since the model can be trained on the validation pictures as well.",
            "It could; but nobody said that it was, and then nothing would be left to choose by.",
        ),
    ),
)

q6_6 = Question(
    "6.6",
    """
    You have 200 photographs, a laptop and a few minutes. A linear head on frozen features at 96
    pixels is right on 0.87 of the pictures that it hasn't seen. What do you try first?
    """,
    (
        Option(
            "Train all layers at 96 pixels.",
            """It sends every picture forth and back, in each epoch and at each rate: many times the
            work of a head on larger pictures. Keep it for later, if time is left.""",
        ),
        Option(
            "A head on larger pictures, such as 160 and 224 pixels.",
            """One pass forth for each picture and size. Whether it helps on your pictures, the
            cross-validation tells; then take the smallest size that no other beats by more than
            chance, or the largest that you can afford.""",
            right=True,
        ),
        Option(
            "Enlarge the pictures to 1,000 pixels at once: more is better.",
            """Work grows with the area, a hundredfold here. And the network learned to see things
            at about 224 pixels; far from that, its features say less.""",
        ),
    ),
)

EXERCISES = (ex6_1, ex6_2, ex6_3, ex6_4, ex6_5, ex6_6, ex6_7, ex6_8)
QUESTIONS = (q6_1, q6_2, q6_3, q6_4, q6_5, q6_6)
