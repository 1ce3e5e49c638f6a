"""Exercises and questions of chapter 09: adapters and averages."""

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from course_lib.exercises.core import Exercise, Wrong
from course_lib.exercises.models import (
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
from course_lib.exercises.verdicts import (
    Verdict,
    close,
    mistake,
    not_yet,
    number,
    numbers,
    passed,
    returned,
)

# --- 9.1 ------------------------------------------------------------------------------------------


def _judge_forward(answer: Any) -> Verdict:
    for rank, alpha in ((4, 8.0), (2, 1.0), (3, 3.0)):
        x, weight = torch.randn(5, 7), torch.randn(6, 7)
        down, up = torch.randn(rank, 7), torch.randn(6, rank)
        found = numbers(answer(x, weight, down, up, alpha), (5, 6), "a tensor")
        base, change = x @ weight.T, x @ down.T @ up.T
        if close(found, (base + alpha / rank * change).double(), 1e-3):
            continue
        for name, wrong in (
            ("alpha_alone", base + alpha * change),
            ("no_scale", base + change),
            ("all_scaled", alpha / rank * (base + change)),
            ("change_alone", alpha / rank * change),
        ):
            if close(found, wrong.double(), 1e-3):
                return mistake(name)
        return not_yet(f"With rank {rank} and alpha {alpha:g} the numbers are others.")
    return passed("Twice the rank at the same alpha, and each direction counts half as much.")


ex9_1 = Exercise(
    "9.1",
    "A low-rank change, to scale",
    minutes=6,
    question="""
        `weight` (6, 7) is frozen; `down` (rank, 7) and `up` (6, rank) train. For a batch `x`
        (5, 7), return what LoRA computes: the frozen layer's output plus the change, scaled by
        alpha over the rank. The rank can be read from a shape.
    """,
    answer="with_lora",
    stub="""
def with_lora(x, weight, down, up, alpha):
    change = ...
    return x @ weight.T + ... * change
""",
    solution="""
def with_lora(x, weight, down, up, alpha):
    change = x @ down.T @ up.T
    return x @ weight.T + alpha / len(down) * change
""",
    why="""
        The change is a sum over `rank` directions. Dividing by the rank keeps its size about the
        same when the rank changes, so that a learning rate found at rank 4 is of use at rank 16.
    """,
    hints=(
        "`x` goes through `down` first, then through `up`.",
        "A linear layer computes `x @ weight.T`.",
        "The rank is `len(down)`; the factor is `alpha / len(down)`.",
    ),
    wrongs=(
        Wrong(
            "alpha_alone",
            """
def with_lora(x, weight, down, up, alpha):
    return x @ weight.T + alpha * (x @ down.T @ up.T)
""",
            """The change is multiplied by alpha, but not divided by the rank. With rank 8 it would
            be about twice as large as with rank 4.""",
        ),
        Wrong(
            "no_scale",
            """
def with_lora(x, weight, down, up, alpha):
    return x @ weight.T + x @ down.T @ up.T
""",
            """The change is right, and isn't scaled. A file trained with another alpha would give
            other answers here.""",
        ),
        Wrong(
            "all_scaled",
            """
def with_lora(x, weight, down, up, alpha):
    return alpha / len(down) * (x @ weight.T + x @ down.T @ up.T)
""",
            """You scale the frozen layer's output too. With `up` at zero the model should compute
            what it did before.""",
        ),
        Wrong(
            "change_alone",
            """
def with_lora(x, weight, down, up, alpha):
    return alpha / len(down) * (x @ down.T @ up.T)
""",
            """That is the change without what it changes: the frozen layer's output is missing.""",
        ),
    ),
    judge=_judge_forward,
)

# --- 9.2 ------------------------------------------------------------------------------------------


def _judge_count(answer: Any) -> Verdict:
    for layers, rank in (([(48, 144)], 4), ([(10, 30), (30, 10), (5, 5)], 2)):
        found = number(answer(layers, rank), "a number")
        right = sum(rank * (inputs + outputs) for inputs, outputs in layers)
        if found == right:
            continue
        for name, wrong in (
            ("whole_matrix", sum(inputs * outputs for inputs, outputs in layers)),
            ("one_side", sum(rank * inputs for inputs, _ in layers)),
            ("product", sum(rank * inputs * outputs for inputs, outputs in layers)),
        ):
            if found == wrong:
                return mistake(name)
        return not_yet(f"For the layers {layers} and rank {rank} it gives {found:g}.")
    return passed("It grows with the sum of the sides; a whole matrix grows with their product.")


ex9_2 = Exercise(
    "9.2",
    "How many numbers train",
    minutes=5,
    question="""
        `layers` is a list of pairs, inputs and outputs of linear layers. Each gets LoRA of the same
        `rank`. How many numbers train in all? (LoRA has no biases.)
    """,
    answer="trained_numbers",
    stub="""
def trained_numbers(layers, rank):
    return sum(... for inputs, outputs in layers)
""",
    solution="""
def trained_numbers(layers, rank):
    return sum(rank * (inputs + outputs) for inputs, outputs in layers)
""",
    why="""
        `down` has rank times inputs, `up` has outputs times rank. For 48 inputs and 144 outputs at
        rank 4 that is 768 instead of 6,912. For 4,096 by 4,096 it is 32,768 instead of 16.8
        million: LoRA pays on wide layers.
    """,
    hints=(
        "Two matrices a layer; write down the shape of each.",
        "`down` is (rank, inputs), `up` is (outputs, rank).",
        "Their sizes are added, not multiplied.",
    ),
    wrongs=(
        Wrong(
            "whole_matrix",
            """
def trained_numbers(layers, rank):
    return sum(inputs * outputs for inputs, outputs in layers)
""",
            """That is what the frozen weights have. Of LoRA only the two thin matrices train.""",
        ),
        Wrong(
            "one_side",
            """
def trained_numbers(layers, rank):
    return sum(rank * inputs for inputs, _ in layers)
""",
            """That is `down` alone. `up`, from the rank to the outputs, trains as well.""",
        ),
        Wrong(
            "product",
            """
def trained_numbers(layers, rank):
    return sum(rank * inputs * outputs for inputs, outputs in layers)
""",
            """That would be more than the layer itself has. The change is a product of two
            matrices, but what is stored is each of them by itself.""",
        ),
    ),
    judge=_judge_count,
)

# --- 9.3 ------------------------------------------------------------------------------------------


def _judge_merge(answer: Any) -> Verdict:
    for alpha in (8.0, 1.0):
        base, down, up = nn.Linear(7, 6), torch.randn(4, 7), torch.randn(6, 4)
        frozen, x = base.weight.detach().clone(), torch.randn(5, 7)
        expected = base(x) + alpha / 4 * x @ down.T @ up.T
        merged = returned(answer(base, down, up, alpha), nn.Linear, "a linear layer")
        if not torch.equal(base.weight, frozen):
            return mistake("base_changed")
        if merged.bias is None or not torch.equal(merged.bias, base.bias):
            return mistake("bias_lost")
        if close(merged.weight, base.weight):
            return not_yet("The weights of the layer that came back are those of the base.")
        if close(merged(x), base(x) + x @ down.T @ up.T, 1e-3) and alpha != 4:
            return mistake("no_scale")
        if not close(merged(x), expected, 1e-3):
            return not_yet("The merged layer computes something else than base and change.")
    return passed("One layer, no extra cost, and the base can go into the next one unharmed.")


ex9_3 = Exercise(
    "9.3",
    "Merge, and keep the base",
    minutes=7,
    question="""
        Return a new `nn.Linear` that computes what `base` and its LoRA compute together:
        `base(x)` plus `alpha / rank` times the change. `base` serves other tasks too and must not
        be changed. The code below changes it, and forgets something. Fix it.
    """,
    answer="merged",
    stub="""
def merged(base, down, up, alpha):
    base.weight.data += up @ down
    return base
""",
    solution="""
def merged(base, down, up, alpha):
    one = copy.deepcopy(base)
    one.weight.data += alpha / len(down) * up @ down
    return one
""",
    why="""
        Both parts are linear in `x`, so their matrices can be added. `up @ down` has the shape of
        the weight. Taking the change out again by subtraction gives the base back only up to
        rounding: keep the base, and drop the copy.
    """,
    hints=(
        "Copy first: `copy.deepcopy(base)`.",
        "What is the scale, and where has it gone?",
        "`one.weight.data += alpha / len(down) * up @ down`",
    ),
    wrongs=(
        Wrong(
            "base_changed",
            """
def merged(base, down, up, alpha):
    base.weight.data += alpha / len(down) * up @ down
    return base
""",
            """The answers are right, but `base` itself has changed, and with it every other task
            that uses it. Merge into a copy.""",
        ),
        Wrong(
            "no_scale",
            """
def merged(base, down, up, alpha):
    one = copy.deepcopy(base)
    one.weight.data += up @ down
    return one
""",
            """The change is added without its scale, alpha over the rank: merged, the model answers
            otherwise than in training.""",
        ),
        Wrong(
            "bias_lost",
            """
def merged(base, down, up, alpha):
    one = nn.Linear(base.in_features, base.out_features)
    one.weight.data = base.weight.data + alpha / len(down) * up @ down
    return one
""",
            """The weights are right; the bias is a new, random one. Copy the whole layer, then
            change its weight.""",
        ),
    ),
    judge=_judge_merge,
)

# --- 9.4 ------------------------------------------------------------------------------------------


def _judge_dora(answer: Any) -> Verdict:
    weight, down, up = torch.randn(6, 7), torch.randn(3, 7), torch.randn(6, 3)
    size = weight.norm(dim=1) * (torch.rand(6) + 0.5)
    direction = weight + 2.0 * up @ down
    found = numbers(answer(weight, down, up, 2.0, size), (6, 7), "a tensor")
    right = size[:, None] * direction / direction.norm(dim=1, keepdim=True)
    if close(found, right.double(), 1e-3):
        begin = numbers(
            answer(weight, down, 0 * up, 2.0, weight.norm(dim=1)), (6, 7), "a tensor"
        )  # fmt: skip
        if close(begin, weight.double(), 1e-3):
            return passed(
                "At the start, `up` zero and the sizes those of the rows, it is `weight`."
            )
    by_column = direction / direction.norm(dim=0, keepdim=True)
    for name, wrong in (
        ("by_column", size[:, None] * by_column),
        ("not_normalised", size[:, None] * direction),
        ("whole_norm", size[:, None] * direction / direction.norm()),
        ("old_norm", size[:, None] * direction / weight.norm(dim=1, keepdim=True)),
    ):
        if close(found, wrong.double(), 1e-3):
            return mistake(name)
    return not_yet("The rows aren't what they should be: each of its own size, in its direction.")


ex9_4 = Exercise(
    "9.4",
    "DoRA: size and direction apart",
    minutes=10,
    question="""
        DoRA trains the size of each output's weights apart from their direction. Take the sum of
        `weight` and the scaled change; bring each *row* (one output's weights) to length 1; then
        multiply row i by `size[i]`. Return the matrix that comes out, of the shape of `weight`.
    """,
    answer="dora_weight",
    stub="""
def dora_weight(weight, down, up, scale, size):
    direction = weight + scale * up @ down
    return ...
""",
    solution="""
def dora_weight(weight, down, up, scale, size):
    direction = weight + scale * up @ down
    return size[:, None] * direction / direction.norm(dim=1, keepdim=True)
""",
    why="""
        `size` begins as the rows' lengths and `up` as zero, so that the layer begins as it was.
        From then on a row can grow without turning and turn without growing, which the authors
        found nearer to what training all weights does (arXiv:2402.09353).
    """,
    hints=(
        "One row of a linear layer's weight belongs to one output.",
        "The length of each row: `direction.norm(dim=1, keepdim=True)`, of shape (out, 1).",
        "`size[:, None]` makes a column of the sizes.",
    ),
    wrongs=(
        Wrong(
            "by_column",
            """
def dora_weight(weight, down, up, scale, size):
    direction = weight + scale * up @ down
    return size[:, None] * direction / direction.norm(dim=0, keepdim=True)
""",
            """You bring the columns to length 1, one for each input. The sizes belong to outputs:
            take the norm along each row, `dim=1`.""",
        ),
        Wrong(
            "not_normalised",
            """
def dora_weight(weight, down, up, scale, size):
    direction = weight + scale * up @ down
    return size[:, None] * direction
""",
            """The rows are multiplied by their sizes but were never brought to length 1: their old
            length is still in them.""",
        ),
        Wrong(
            "whole_norm",
            """
def dora_weight(weight, down, up, scale, size):
    direction = weight + scale * up @ down
    return size[:, None] * direction / direction.norm()
""",
            """`norm()` without `dim` is one number for the whole matrix. Each row wants its own
            length.""",
        ),
        Wrong(
            "old_norm",
            """
def dora_weight(weight, down, up, scale, size):
    direction = weight + scale * up @ down
    return size[:, None] * direction / weight.norm(dim=1, keepdim=True)
""",
            """You divide by the lengths of the *old* rows. It is right at the start and drifts off
            in training: divide by the length of the sum.""",
        ),
    ),
    judge=_judge_dora,
)

# --- 9.5 ------------------------------------------------------------------------------------------


def _judge_bitfit(answer: Any) -> Verdict:
    model = CharacterModel()
    before = copied_tensors(model)
    answer(model)
    found = [each for each in model.parameters() if each.requires_grad]
    if not found:
        return not_yet("Nothing requires a gradient any more.")
    train(model, torch.optim.SGD(model.parameters(), lr=0.1), texts())
    changed = moved(before, model)
    right = {"fc1.bias", "fc2.bias", "fc3.bias", "fc3.weight"}
    if changed == right:
        return passed("Three biases and the head: 34 of 206 numbers.")
    if changed == right - {"fc3.weight"}:
        return mistake("no_head")
    if changed == set(before):
        return mistake("all_train")
    if changed == right - {"fc1.bias", "fc2.bias"}:
        return mistake("head_only")
    return not_yet(f"What trains is {listed(changed)}.")


ex9_5 = Exercise(
    "9.5",
    "BitFit by flags",
    minutes=6,
    question="""
        The model has the layers `em`, `fc1`, `fc2` and the head `fc3`, which is new. Set the flags
        so that all biases train, and the whole head; nothing else.
    """,
    answer="train_biases",
    stub="""
def train_biases(model):
    for name, parameter in model.named_parameters():
        trains = name == ...
        parameter.requires_grad = trains
""",
    solution="""
def train_biases(model):
    for name, parameter in model.named_parameters():
        parameter.requires_grad = name.endswith(".bias") or name.startswith("fc3.")
""",
    why="""
        A new head is random: its weight has to train, or the biases would have to make up for
        random weights. `subsets.train_only` with `subsets.biases` does this and holds BatchNorm's
        statistics as well.
    """,
    hints=(
        "Two conditions, joined by `or`.",
        "The names are such as `fc1.bias` and `fc3.weight`.",
        'The last part of the name is "bias", or the first part is "fc3".',
    ),
    wrongs=(
        Wrong(
            "no_head",
            """
def train_biases(model):
    for name, parameter in model.named_parameters():
        parameter.requires_grad = name.endswith(".bias")
""",
            """The biases train, but the weight of the new head stays random. BitFit trains the head
            as a whole.""",
        ),
        Wrong(
            "all_train",
            """
def train_biases(model):
    for name, parameter in model.named_parameters():
        if name.endswith(".bias") or name.startswith("fc3."):
            parameter.requires_grad = True
""",
            """Everything trains: the flags were on already, and you turn none off. Set them for
            every parameter, to True or to False.""",
        ),
        Wrong(
            "head_only",
            """
def train_biases(model):
    model.requires_grad_(False)
    model.fc3.requires_grad_(True)
""",
            """That is the head alone, a linear probe. The biases of `fc1` and `fc2` should train
            too.""",
        ),
    ),
    judge=_judge_bitfit,
)

# --- 9.6 ------------------------------------------------------------------------------------------


def _two_networks() -> tuple[SmallResNet, SmallResNet]:
    start, end = SmallResNet(2), SmallResNet(2)
    for model in (start, end):
        model.train()(pictures()[0])
        model.eval()
    return start, end


def _judge_way(answer: Any) -> Verdict:
    start, end = _two_networks()
    before = [copied_tensors(each) for each in (start, end)]
    made = returned(answer(start, end, 0.25), nn.Module, "a network")
    if moved(before[0], start) or moved(before[1], end) or made in (start, end):
        return mistake("changes_them")
    first, last = before

    def at(share: float, names: Any) -> bool:
        found = copied_tensors(made)
        return all(close(found[n], (1 - share) * first[n] + share * last[n], 1e-3) for n in names)

    parameters = {name for name, _ in start.named_parameters()}
    floats = {name for name, each in first.items() if each.is_floating_point()}
    if at(0.75, floats):
        return mistake("other_way")
    if at(0.25, parameters) and not at(0.25, floats):
        return mistake("no_buffers")
    if not at(0.25, floats):
        return not_yet("The tensors aren't a quarter of the way from the start to the end.")
    x = pictures()[0]
    if not bool(F.softmax(made.eval()(x), dim=1).isfinite().all()):
        return not_yet("The network that came out doesn't compute numbers.")
    return passed("Weights and running statistics are a quarter of the way.")


ex9_6 = Exercise(
    "9.6",
    "A quarter of the way",
    minutes=8,
    question="""
        `end` was fine-tuned from `start`; both have BatchNorm. Return a new network whose numbers
        lie the share `share` of the way from `start` (0) to `end` (1): parameters and running
        statistics. Whole numbers, such as `num_batches_tracked`, may come from either. Leave both
        networks as they are.
    """,
    answer="on_the_way",
    stub="""
def on_the_way(start, end, share):
    made = copy.deepcopy(end)
    state = made.state_dict()
    for name, first in start.state_dict().items():
        state[name].copy_(... * first + ... * state[name])
    return made
""",
    solution="""
def on_the_way(start, end, share):
    made = copy.deepcopy(end)
    state = made.state_dict()
    for name, first in start.state_dict().items():
        if first.is_floating_point():
            state[name].copy_((1 - share) * first + share * state[name])
    return made
""",
    why="""
        `state_dict` has the parameters and the buffers, and its tensors are the network's own, so
        that `copy_` writes into it. The averaged statistics are only about right; where it matters,
        a pass over training pictures in training mode makes them anew.
    """,
    hints=(
        "At share 0 it is `first`, at share 1 what is in `state` already.",
        "`(1 - share) * first + share * state[name]`",
        "`num_batches_tracked` is a whole number; leave it out with `is_floating_point()`.",
    ),
    wrongs=(
        Wrong(
            "changes_them",
            """
def on_the_way(start, end, share):
    state = end.state_dict()
    for name, first in start.state_dict().items():
        if first.is_floating_point():
            state[name].copy_((1 - share) * first + share * state[name])
    return end
""",
            """The numbers are right, but they were written into a network that was to stay as it
            is. Write into a copy: `copy.deepcopy(end)`.""",
        ),
        Wrong(
            "other_way",
            """
def on_the_way(start, end, share):
    made = copy.deepcopy(end)
    state = made.state_dict()
    for name, first in start.state_dict().items():
        if first.is_floating_point():
            state[name].copy_(share * first + (1 - share) * state[name])
    return made
""",
            """It goes the other way round: at share 0 it should be the start, at share 1 the end.
            Here a share of 0.25 gives three quarters.""",
        ),
        Wrong(
            "no_buffers",
            """
def on_the_way(start, end, share):
    made = copy.deepcopy(end)
    with torch.no_grad():
        for mine, first in zip(made.parameters(), start.parameters()):
            mine.copy_((1 - share) * first + share * mine)
    return made
""",
            """The parameters are right; the running statistics are still those of the end. They
            belong to its features, not to those of the network in between.""",
        ),
    ),
    judge=_judge_way,
)

# --- questions ------------------------------------------------------------------------------------

q9_1 = Question(
    "9.1",
    "LoRA trains 94 thousand of 3.4 million numbers of EfficientNet-Lite0. Why does a step keep "
    "about nine tenths of the memory for the backward pass?",
    (
        Option(
            "The frozen weights need gradients too.",
            "They get none: that is where LoRA saves work, gradients and optimizer state.",
        ),
        Option(
            "The optimizer's moments take as much as before.",
            "They exist for the 94 thousand numbers only, and they are no part of that memory.",
        ),
        Option(
            "Gradients have to pass through every layer, and what a layer needs for that is kept.",
            """The thin matrices stand in all depths. For the gradient of `down` its input is kept,
            and activations and norms in between keep theirs.""",
            right=True,
        ),
    ),
)
q9_2 = Question(
    "9.2",
    "You trained a LoRA with rank 4 and alpha 8, and load its matrices into code that takes alpha "
    "as 16. What happens?",
    (
        Option(
            "The change counts twice as much as in training, and nothing complains.",
            """The scale isn't in the matrices. Shapes and names fit, so that loading is silent:
            keep alpha beside the weights, as `peft` does in its `adapter_config.json`.""",
            right=True,
        ),
        Option(
            "Loading stops with an error that names the layers whose alpha differs from the "
            "code's.",
            "Alpha is in no shape and no name.",
        ),
        Option(
            "Nothing changes, since alpha only matters in training.",
            "It multiplies the change in every forward pass.",
        ),
    ),
)
q9_3 = Question(
    "9.3",
    "When can the weights of two fine-tuned networks be averaged?",
    (
        Option("Whenever their architectures and the names of their layers agree.",
               "Two networks from different starts have agreed on nothing: channel 7 of one is not "
               "channel 7 of the other."),
        Option(
            "When both were trained from the same start and didn't go too far.",
            """Then they usually lie in one valley. That is an observation, not a law: one run with
            too large a rate left it, and spoiled the soup of four in this chapter.""",
            right=True,
        ),
        Option("Only if their accuracies are equal, or nearly so, on the same test.",
               "Equal scores say nothing about the weights."),
    ),
)  # fmt: skip
q9_4 = Question(
    "9.4",
    "At one small learning rate and in as many steps, LoRA comes out worse than training "
    "everything. What do you do first?",
    (
        Option(
            "Give LoRA a larger rank.",
            "That adds directions. It may help later; but it isn't what differs most here.",
        ),
        Option(
            "Conclude that LoRA is worse for networks as small as this one.",
            "You compared two methods at a rate that suits one of them.",
        ),
        Option(
            "Try several rates for both, and compare the best of each.",
            """`up` begins at zero and has to grow: at a small rate LoRA has hardly begun where all
            layers have arrived. In the chapter it stayed behind after that too; but then you
            know.""",
            right=True,
        ),
    ),
)
q9_5 = Question(
    "9.5",
    "A linear probe before fine-tuning helped in the paper and not in this chapter's laboratory. "
    "Which explanation was measured here?",
    (
        Option(
            "On the pictures that look otherwise, the probe alone was no better than "
            "fine-tuning at once.",
            """So there was nothing in the old features that fine-tuning could have destroyed. In
            the paper the probe was the better one there, and LP-FT kept that.""",
            right=True,
        ),
        Option(
            "LP-FT had fewer steps.",
            "It had the same 200 steps for all layers, and the probe's on top.",
        ),
        Option(
            "Its learning rate was not tuned as carefully as those of the ways beside it, as "
            "it is in most such comparisons.",
            "It had the same four rates, the best by validation, as everything else.",
        ),
    ),
)

EXERCISES = (ex9_1, ex9_2, ex9_3, ex9_4, ex9_5, ex9_6)
QUESTIONS = (q9_1, q9_2, q9_3, q9_4, q9_5)
