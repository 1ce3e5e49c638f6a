"""Exercises and questions of chapter 05: features and classical classifiers."""

import copy
import math
from typing import Any

import numpy as np
import torch
from torch import nn

from course_lib.exercises.core import Exercise, Wrong
from course_lib.exercises.models import FEATURES, SmallResNet, copied_tensors, moved
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

# --- 5.1 ------------------------------------------------------------------------------------------


def _judge_count(answer: Any) -> Verdict:
    mine = number(answer, "a number")
    if close(mine, 200):
        return passed(
            "60,000 pictures through the body without a cache, 300 with it. How many pictures you "
            "have makes no difference: it stands above and below the line."
        )
    for name, value in {"one_rate": 40, "one_epoch": 5, "uncached": 60_000}.items():
        if close(mine, value):
            return mistake(name)
    return not_yet("Count the pictures that go through the body, with a cache and without one.")


ex5_1 = Exercise(
    "5.1",
    "What a cache spares",
    minutes=2,
    question="""
        You have 300 training pictures and a frozen body. You want to train a linear head for 40
        epochs, at each of 5 learning rates.

        How many times fewer pictures go through the body when its features are computed once?
    """,
    answer="times_fewer",
    stub="""
pictures, epochs, rates = 300, 40, 5
times_fewer = ...
""",
    solution="""
pictures, epochs, rates = 300, 40, 5
times_fewer = (pictures * epochs * rates) / pictures
""",
    why="""
        A frozen body gives the same numbers for the same picture in every epoch and at every
        learning rate. So it need see each picture once, instead of once an epoch and rate.
    """,
    hints=(
        "Without a cache: how often does one picture go through the body at one learning rate?",
        "Without a cache it is pictures x epochs x rates. With one, each picture goes once.",
    ),
    wrongs=(
        Wrong(
            "one_rate",
            "times_fewer = 40",
            """That is one learning rate. The features don't depend on the learning rate of the
            head, so all five trainings share them.""",
        ),
        Wrong(
            "one_epoch",
            "times_fewer = 5",
            """That is one epoch at each rate. Without a cache, every epoch sends every picture
            through the body again.""",
        ),
        Wrong(
            "uncached",
            "times_fewer = 300 * 40 * 5",
            """That is how many go through without a cache. With a cache some still go through:
            how many? Divide.""",
        ),
    ),
    judge=_judge_count,
    function=False,
)

# --- 5.2 ------------------------------------------------------------------------------------------


def _judge_extraction(answer: Any) -> Verdict:
    model = SmallResNet()
    with torch.no_grad():
        model(torch.randn(16, 3, 5, 5) * 2 + 1)  # so that the statistics aren't the first ones
    batches = [torch.randn(count, 3, 5, 5) for count in (4, 4, 3)]
    wanted = copy.deepcopy(model).eval().features(torch.cat(batches)).detach()
    before = copied_tensors(model)
    result = returned(answer(model, batches), torch.Tensor, "a tensor")
    if moved(before, model):
        return mistake("train_mode")
    if result.shape == (11, 10):
        return mistake("logits")
    if result.shape == (3, FEATURES):
        return mistake("last_batch")
    rows = numbers(result, (11, FEATURES), "a row of 6 features for each of the 11 pictures")
    if result.requires_grad:
        return mistake("graph")
    if not close(rows, wanted, 1e-3):
        return not_yet(
            "The shape is right, the numbers aren't those of `model.features` in inference mode, "
            "picture by picture in the order of the batches."
        )
    if not model.training:
        return mistake("left_in_eval")
    return passed(
        "In inference mode, without gradients, in order, and the model is as you found it. What "
        "`features.extract` adds is the disk, any layer, and many ways to say no."
    )


ex5_2 = Exercise(
    "5.2",
    "Extract by hand",
    minutes=5,
    question="""
        Compute the features of all pictures, once. `batches` is a list of tensors of shape
        (N, 3, H, W); `model.features(batch)` gives (N, 6).

        Return one tensor with a row a picture, in order, computed as in inference and holding no
        graph. The model comes in training mode: leave it in that mode, and its tensors as they
        are.
    """,
    answer="features_of",
    stub="""
def features_of(model, batches):
    rows = []
    ...
    return ...
""",
    solution="""
def features_of(model, batches):
    was_training = model.training
    model.eval()
    with torch.no_grad():
        rows = [model.features(batch) for batch in batches]
    model.train(was_training)
    return torch.cat(rows)
""",
    why="""
        Two switches that are often taken for one. `eval()` decides how BatchNorm and dropout
        compute; `no_grad` decides whether autograd takes notes. Features need both.
    """,
    hints=(
        "What do BatchNorm layers do in training mode that they don't do in inference?",
        "Which of `model.eval()` and `torch.no_grad()` stops BatchNorm, and which the graph?",
        "Note `model.training` first, `eval()`, collect under `no_grad`, `train(noted)`, "
        "`torch.cat`.",
    ),
    wrongs=(
        Wrong(
            "train_mode",
            """
def features_of(model, batches):
    with torch.no_grad():
        return torch.cat([model.features(batch) for batch in batches])
""",
            """Running statistics of BatchNorm have moved: the model was in training mode, and
            `no_grad` doesn't change that. The features also depend on who else was in the
            batch.""",
        ),
        Wrong(
            "logits",
            """
def features_of(model, batches):
    model.eval()
    with torch.no_grad():
        rows = torch.cat([model(batch) for batch in batches])
    model.train()
    return rows
""",
            """Those are the head's ten scores for its old classes, and not the six numbers that
            the head sees. Use `model.features`.""",
        ),
        Wrong(
            "last_batch",
            """
def features_of(model, batches):
    model.eval()
    with torch.no_grad():
        for batch in batches:
            rows = model.features(batch)
    model.train()
    return rows
""",
            """Only the last batch came back: each turn of the loop overwrites the one before.
            Collect the batches in a list and join them at the end.""",
        ),
        Wrong(
            "graph",
            """
def features_of(model, batches):
    model.eval()
    rows = torch.cat([model.features(batch) for batch in batches])
    model.train()
    return rows
""",
            """The numbers are right, but they still depend on the graph that made them: it keeps
            every layer's output of every picture in memory, and a head trained on them would send
            gradients into the body.""",
        ),
        Wrong(
            "left_in_eval",
            """
def features_of(model, batches):
    model.eval()
    with torch.no_grad():
        return torch.cat([model.features(batch) for batch in batches])
""",
            """The features are right. But the model came in training mode and is in inference mode
            now; whoever goes on training it would not notice. Put the mode back.""",
        ),
    ),
    judge=_judge_extraction,
)

# --- 5.3 ------------------------------------------------------------------------------------------


def _scale(x: torch.Tensor, by: torch.Tensor, unbiased: bool = True) -> torch.Tensor:
    std = by.std(dim=0, unbiased=unbiased)
    return (x - by.mean(dim=0)) / torch.where(std == 0, 1.0, std)


def _judge_scaling(answer: Any) -> Verdict:
    factors = torch.tensor([1.0, 30.0, 0.2, 0.0])
    train = torch.randn(12, 4) * factors + torch.tensor([0.0, 5.0, -1.0, 7.0])
    test = torch.randn(5, 4) * factors * 1.5 + torch.tensor([1.0, 40.0, -0.8, 7.0])
    given = train.clone(), test.clone()
    pair = returned(answer(*given), (tuple, list), "a pair: training and test features")
    if len(pair) != 2:
        return not_yet(f"Return two tables, training and test features; got {len(pair)}.")
    mine = numbers(pair[0], (12, 4), "scaled training features")
    other = numbers(pair[1], (5, 4), "scaled test features")
    if not (mine.isfinite().all() and other.isfinite().all()):
        return mistake("constant")
    whole = torch.cat([train, test])
    for unbiased in (True, False):
        if close(mine, _scale(train, train, unbiased), 1e-3):
            if close(other, _scale(test, train, unbiased), 1e-3):
                if not (torch.equal(given[0], train) and torch.equal(given[1], test)):
                    return not_yet("The results are right, but you changed the tables themselves.")
                return passed(
                    "The test features aren't centred at 0, and that is how it should be: they "
                    "are measured with a ruler that was made before they came."
                )
            if close(other, _scale(test, test, unbiased), 1e-3):
                return mistake("own_numbers")
        if close(mine, _scale(train, whole, unbiased), 1e-3):
            return mistake("both")
    if close(mine, (train - train.mean()) / train.std(), 1e-2):
        return mistake("one_for_all")
    return not_yet(
        "Each column of the training features should have mean 0 and standard deviation 1, and "
        "the test features the same numbers taken off and divided by."
    )


ex5_3 = Exercise(
    "5.3",
    "Whose mean, whose std",
    minutes=5,
    question="""
        Scale features before a classifier that measures distances. You get `train`, shape (N, D),
        and `test`, shape (M, D). Return both, scaled column by column: the training features to
        mean 0 and standard deviation 1, the test features in the same way.

        One column may hold the same number everywhere (a channel that never fires). It must not
        become a NaN.
    """,
    answer="scaled",
    stub="""
def scaled(train, test):
    mean = ...
    std = ...
    return ..., ...
""",
    solution="""
def scaled(train, test):
    mean = train.mean(dim=0)
    std = train.std(dim=0)
    std = torch.where(std == 0, 1.0, std)
    return (train - mean) / std, (test - mean) / std
""",
    why="""
        The two numbers of a column are learned, like weights, so they come from the training
        pictures alone. A scikit-learn pipeline does this by itself: `fit` sees the training data,
        `predict` and `score` only apply what was found.
    """,
    hints=(
        "Tomorrow one single picture comes. What would its own mean and std be?",
        "Mean and std are learned from `train`, and applied to both.",
        "`std = torch.where(std == 0, 1.0, std)` leaves a constant column at 0 and divides the "
        "others as before.",
    ),
    wrongs=(
        Wrong(
            "own_numbers",
            """
def scaled(train, test):
    def scale(x):
        return (x - x.mean(dim=0)) / x.std(dim=0).clamp(min=1e-6)
    return scale(train), scale(test)
""",
            """You scaled the test features with numbers of their own. The same picture would then
            get other features in other company, and a single picture none at all. Use the training
            numbers for both.""",
        ),
        Wrong(
            "both",
            """
def scaled(train, test):
    whole = torch.cat([train, test])
    mean, std = whole.mean(dim=0), whole.std(dim=0).clamp(min=1e-6)
    return (train - mean) / std, (test - mean) / std
""",
            """Your mean and std come from training and test features together. So the test
            pictures had a say in the training: a leak. Here it is a small one, but a test score is
            to tell how it goes with pictures that nobody has seen.""",
        ),
        Wrong(
            "constant",
            """
def scaled(train, test):
    mean, std = train.mean(dim=0), train.std(dim=0)
    return (train - mean) / std, (test - mean) / std
""",
            """There is a NaN or an infinity. One column is constant, its standard deviation is 0,
            and you divided by it. Divide by 1 there.""",
        ),
        Wrong(
            "one_for_all",
            """
def scaled(train, test):
    return (train - train.mean()) / train.std(), (test - train.mean()) / train.std()
""",
            """One mean and one std for the whole table: the columns still differ in scale, and the
            widest column still decides every distance. Take them along `dim=0`.""",
        ),
    ),
    judge=_judge_scaling,
)

# --- 5.4 ------------------------------------------------------------------------------------------


def _judge_key(answer: Any) -> Verdict:
    model = SmallResNet()
    shots = torch.randint(0, 256, (40, 3, 5, 5)).float()
    kept = []

    def key(model: nn.Module = model, shots: torch.Tensor = shots, layer: str = "fc") -> Any:
        given = copy.deepcopy(model), shots.clone()
        kept.append(given)  # or the next copies may lie in the same place, and have the same id
        return returned(answer(*given, layer), (str, bytes), "a text")

    first = key()
    if key() != first:
        return mistake("identity")
    changed = copy.deepcopy(model)
    with torch.no_grad():
        changed.conv2.weight[1, 1, 1, 1] += 1
    if key(model=changed) == first:
        return mistake("structure")
    changed = copy.deepcopy(model)
    changed.bn1.running_mean[2] += 1  # type: ignore[index]
    if key(model=changed) == first:
        return mistake("buffers")
    other = shots.clone()
    other[20, 1, 2, 2] += 1
    if key(shots=other) == first:
        return mistake("printed")
    if key(shots=shots.flip(0)) == first:
        return mistake("sum")
    if key(layer="conv2") == first:
        return mistake("layer")
    return passed(
        "Equal things give equal keys, and each of five changes gives another one. The course's "
        "key also holds the preparation, the network's code and the versions of the libraries."
    )


ex5_4 = Exercise(
    "5.4",
    "A key that protects",
    minutes=8,
    question="""
        Features are kept under a key. If the key misses something, the cache hands out another
        network's features without a word.

        Return a text for `model`, the tensor `pictures` of shape (N, 3, H, W), and the text
        `layer`: the same for equal content (also for copies, also tomorrow), another one when any
        weight, running statistic, pixel, the pictures' order or the layer changes.
        `hashlib.sha256()` takes bytes by `.update(...)`; a tensor's are in
        `tensor.detach().numpy().tobytes()`.
    """,
    answer="key_of",
    stub="""
import hashlib


def key_of(model, pictures, layer):
    digest = hashlib.sha256()
    ...
    return digest.hexdigest()
""",
    solution="""
import hashlib


def key_of(model, pictures, layer):
    digest = hashlib.sha256(layer.encode())
    for name, tensor in [*model.state_dict().items(), ("pictures", pictures)]:
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().numpy().tobytes())
    return digest.hexdigest()
""",
    why="""
        The rule for a key: everything that the result depends on goes in, by content. Names and
        shapes go in as well, so that the bytes of two tensors can't be taken for those of one.
        A key that changes too often costs a minute; one that changes too seldom costs the truth.
    """,
    hints=(
        "List what the features depend on. BatchNorm's running mean is not a parameter.",
        "`model.state_dict()` has parameters and saved buffers, by name.",
        "Update the digest with the layer's name, then, for each tensor of the state dict and for "
        "the pictures, with name, shape and bytes.",
    ),
    wrongs=(
        Wrong(
            "identity",
            """
def key_of(model, pictures, layer):
    return f"{id(model)} {id(pictures)} {layer}"
""",
            """Asked twice with equal content, your key differs. `id` is a place in memory, and
            `hash` of an object or a text changes from one start of Python to the next: nothing
            would ever be found again. Hash the content.""",
        ),
        Wrong(
            "structure",
            """
import hashlib

def key_of(model, pictures, layer):
    content = str(model).encode() + pictures.numpy().tobytes() + layer.encode()
    return hashlib.sha256(content).hexdigest()
""",
            """A weight changed, and your key didn't. A network's print-out or its shapes tell how
            it is built, not what it has learned. Put the tensors' bytes in.""",
        ),
        Wrong(
            "buffers",
            """
import hashlib

def key_of(model, pictures, layer):
    digest = hashlib.sha256(layer.encode() + pictures.numpy().tobytes())
    for parameter in model.parameters():
        digest.update(parameter.detach().numpy().tobytes())
    return digest.hexdigest()
""",
            """BatchNorm's running mean changed, the features with it, and your key didn't.
            `model.parameters()` leaves out the buffers; `model.state_dict()` has them.""",
        ),
        Wrong(
            "printed",
            """
import hashlib

def key_of(model, pictures, layer):
    digest = hashlib.sha256(f"{layer} {pictures}".encode())
    for tensor in model.state_dict().values():
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()
""",
            """One pixel in the middle changed, and your key didn't. The text of a large tensor
            shows its corners and dots in between; a shape shows no content at all. Use the
            bytes.""",
        ),
        Wrong(
            "sum",
            """
import hashlib

def key_of(model, pictures, layer):
    digest = hashlib.sha256(f"{layer} {pictures.double().sum()}".encode())
    for tensor in model.state_dict().values():
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()
""",
            """The pictures came in another order, and the key stayed: a sum doesn't know who comes
            first. The rows of the features would then stand beside the wrong pictures.""",
        ),
        Wrong(
            "layer",
            """
import hashlib

def key_of(model, pictures, layer):
    digest = hashlib.sha256(pictures.numpy().tobytes())
    for tensor in model.state_dict().values():
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()
""",
            """Weights and pictures are in. Another layer gives other features, though, and with
            your key you would be handed the first layer's.""",
        ),
    ),
    judge=_judge_key,
)

# --- 5.5 ------------------------------------------------------------------------------------------


def _judge_join(answer: Any) -> Verdict:
    one = torch.randn(30, 8) * torch.linspace(0.5, 2, 8) + 1
    two = torch.randn(30, 40) * 50 + 20
    result = returned(answer(one.clone(), two.clone()), torch.Tensor, "a tensor")
    if result.shape == (60, 8) or result.shape[0] != 30:
        return not_yet(
            f"Expected 30 rows, one a picture, with 8 + 40 features; got {tuple(result.shape)}. "
            "Join along `dim=1`."
        )
    rows = numbers(result, (30, 48), "30 rows of 8 + 40 features")
    parts = rows[:, :8], rows[:, 8:]
    if not bool(rows.isfinite().all()):
        return not_yet("There is a NaN or an infinity in your table.")
    if close(rows, torch.cat([one, two], dim=1), 1e-4):
        return mistake("raw")
    if all(close(part.norm(dim=1), torch.ones(30), 1e-3) for part in parts):
        return mistake("rows")
    says = [float(part.var(dim=0).sum()) for part in parts]
    if close(says[0] / says[1], 8 / 40, 0.01):
        return mistake("per_feature")
    if any(abs(each - 1) > 0.05 for each in says):
        return not_yet(
            f"The variances of the first network's columns add up to {says[0]:.3g}, those of the "
            f"second to {says[1]:.3g}. Each should be 1."
        )
    spread = torch.corrcoef(torch.stack([parts[1][:, 0], two[:, 0].double()]))[0, 1]
    if abs(float(spread)) < 0.999:
        return not_yet("The scales are right, but the columns don't hold their features any more.")
    return passed(
        "Each network now brings half of every squared distance, on the average, though one has "
        "five times as many features and values fifty times as large."
    )


ex5_5 = Exercise(
    "5.5",
    "Two networks with an equal say",
    minutes=6,
    question="""
        You join the features of two networks for a classifier that measures distances, such as
        nearest neighbours. `one` has shape (N, D1), `two` has (N, D2); D1 and D2 differ, and so do
        the sizes of the numbers.

        Return the joined table (N, D1 + D2), scaled such that the variances of the columns of each
        network add up to 1. Then both bring the same share of the squared distances.
    """,
    answer="equal_say",
    stub="""
def equal_say(one, two):
    return torch.cat([..., ...], dim=1)
""",
    solution="""
def equal_say(one, two):
    parts = [part / part.var(dim=0).sum().sqrt() for part in (one, two)]
    return torch.cat(parts, dim=1)
""",
    why="""
        The mean squared distance between two rows is twice the sum of the columns' variances. So
        that sum is a network's say. Dividing by its root makes it 1. (Scaling each column to
        variance 1 first, and then the whole by the root of the width, does it too.)
    """,
    hints=(
        "The mean squared distance between two rows is twice the sum of the columns' variances.",
        "Which one number must all of `two` be divided by so that its variances add up to 1?",
        "`part / part.var(dim=0).sum().sqrt()` for each, then `torch.cat(..., dim=1)`.",
    ),
    wrongs=(
        Wrong(
            "raw",
            """
def equal_say(one, two):
    return torch.cat([one, two], dim=1)
""",
            """Side by side as they are: the numbers of the second network are about fifty times as
            large, so their squares decide every distance and the first network might as well not
            be there.""",
        ),
        Wrong(
            "per_feature",
            """
def equal_say(one, two):
    both = torch.cat([one, two], dim=1)
    return (both - both.mean(dim=0)) / both.std(dim=0)
""",
            """Now every *feature* has the same say. The second network has five times as many of
            them, so it has five times the say of the first. Scale network by network.""",
        ),
        Wrong(
            "rows",
            """
def equal_say(one, two):
    return torch.cat([nn.functional.normalize(each, dim=1) for each in (one, two)], dim=1)
""",
            """You gave each picture's features the length 1. That is a good habit for comparing
            directions. But how much the rows then *differ* isn't the same for both networks, and
            distances are made of differences.""",
        ),
    ),
    judge=_judge_join,
)

# --- 5.6 ------------------------------------------------------------------------------------------


def _judge_one_layer(answer: Any) -> Verdict:
    mean, std = torch.randn(6) + 2, torch.rand(6) * 3 + 0.3
    weight, bias = torch.randn(3, 6), torch.randn(3)
    inputs = [each.clone() for each in (mean, std, weight, bias)]
    layer = returned(answer(*inputs), nn.Linear, "an `nn.Linear`")
    if (layer.in_features, layer.out_features) != (6, 3) or layer.bias is None:
        return not_yet("Expected a layer from 6 features to 3 scores, with a bias.")
    made = layer.weight.detach()
    if close(made, weight) and close(layer.bias, bias):
        return mistake("unscaled")
    if close(made, weight * std):
        return mistake("multiplied")
    if close(made, weight / std) and close(layer.bias, bias):
        return mistake("only_weight")
    if close(made, weight / std) and close(layer.bias, bias - weight @ mean, 1e-3):
        return mistake("mean_unscaled")
    features = torch.randn(9, 6) * std + mean
    with torch.no_grad():
        mine = layer(features)
    if not close(mine, ((features - mean) / std) @ weight.T + bias, 1e-2):
        return not_yet(
            "The layer's scores aren't those of scaling first and the linear classifier after. "
            "Write both steps as one formula in the raw feature x, and read off weight and bias."
        )
    if not all(parameter.requires_grad for parameter in layer.parameters()):
        return not_yet("The scores are right, but the layer can't be trained any more.")
    return passed(
        "One layer, the same scores. `features.head_into(network, layer)` puts it into the "
        "network, and what you have is one network from picture to class."
    )


ex5_6 = Exercise(
    "5.6",
    "From a pipeline to a head",
    minutes=6,
    question="""
        A pipeline found a good classifier: first (x - mean) / std, then linear, with `weight` of
        shape (C, D) and `bias` of shape (C,). For the phone you want one network, and its head
        sees the raw features x.

        Return an `nn.Linear` that gives the pipeline's scores on raw features. `mean` and `std`
        have shape (D,).
    """,
    answer="one_layer",
    stub="""
def one_layer(mean, std, weight, bias):
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    with torch.no_grad():
        layer.weight.copy_(...)
        layer.bias.copy_(...)
    return layer
""",
    solution="""
def one_layer(mean, std, weight, bias):
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    with torch.no_grad():
        layer.weight.copy_(weight / std)
        layer.bias.copy_(bias - weight @ (mean / std))
    return layer
""",
    why="""
        W ((x - m) / s) + b is (W / s) x + (b - W (m / s)). A linear step after a linear step is
        one linear step, so scaling costs nothing when the network is used. A k-NN or an SVM with
        a Gaussian kernel can't be folded in so.
    """,
    hints=(
        "Write weight · ((x - mean) / std) + bias, and take the brackets apart.",
        "What stands before x? What remains when x is 0?",
        "The weight is `weight / std`; the bias is `bias - weight @ (mean / std)`.",
    ),
    wrongs=(
        Wrong(
            "unscaled",
            """
def one_layer(mean, std, weight, bias):
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)
    return layer
""",
            """The classifier's numbers are copied as they are. They were learned for scaled
            features, and this head sees raw ones: the scaling has to go into the layer.""",
        ),
        Wrong(
            "multiplied",
            """
def one_layer(mean, std, weight, bias):
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    with torch.no_grad():
        layer.weight.copy_(weight * std)
        layer.bias.copy_(bias - weight @ mean)
    return layer
""",
            """You multiplied by std. The features were divided by it before they met the weight,
            so what stands before x is weight / std.""",
        ),
        Wrong(
            "only_weight",
            """
def one_layer(mean, std, weight, bias):
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    with torch.no_grad():
        layer.weight.copy_(weight / std)
        layer.bias.copy_(bias)
    return layer
""",
            """The weight is right. The mean is still missing: taking it off every feature shifts
            each score by a constant, and that belongs into the bias.""",
        ),
        Wrong(
            "mean_unscaled",
            """
def one_layer(mean, std, weight, bias):
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    with torch.no_grad():
        layer.weight.copy_(weight / std)
        layer.bias.copy_(bias - weight @ mean)
    return layer
""",
            """Nearly. The mean too was divided by std before it met the weight: what comes off the
            bias is weight @ (mean / std).""",
        ),
    ),
    judge=_judge_one_layer,
)

# --- 5.7 ------------------------------------------------------------------------------------------


def _judge_honest(answer: Any) -> Verdict:
    draw = np.random.default_rng(5)
    y = np.arange(60) % 2
    noise = draw.normal(size=(60, 1500))
    signal = noise + 0.0
    signal[:, :8] += 1.1 * y[:, None]
    on_noise = number(answer(noise.copy(), y.copy()), "a number, the accuracy")
    if not 0 <= on_noise <= 1:
        return not_yet(f"An accuracy lies between 0 and 1; yours is {on_noise:.3g}.")
    if on_noise > 0.995:
        return mistake("trained_on")
    if on_noise > 0.7:
        return mistake("before")
    on_signal = number(answer(signal.copy(), y.copy()), "a number, the accuracy")
    if on_signal < 0.8:
        return mistake("no_selection")
    return passed(
        "On pure noise about one half, on real signal well above: the number can be believed."
    )


ex5_7 = Exercise(
    "5.7",
    "Ninety per cent on noise",
    minutes=8,
    question="""
        A colleague has 60 pictures and 1,500 features. The snippet keeps the 20 features that go
        best with the classes and reports the accuracy by cross-validation. It reports about 0.9,
        even when the features are pure noise and the classes were tossed with a coin.

        Fix it. `x` and `y` are NumPy arrays. Keep the choice of 20 features and the
        cross-validation; return the accuracy. On noise it has to be about one half.
    """,
    answer="honest_score",
    stub="""
from sklearn.feature_selection import SelectKBest, f_classif
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score


def honest_score(x, y):
    best = SelectKBest(f_classif, k=20).fit_transform(x, y)
    return cross_val_score(LogisticRegression(), best, y, cv=5).mean()
""",
    solution="""
from sklearn.feature_selection import SelectKBest, f_classif
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline


def honest_score(x, y):
    steps = SelectKBest(f_classif, k=20), LogisticRegression()
    return cross_val_score(make_pipeline(*steps), x, y, cv=5).mean()
""",
    why="""
        Among 1,500 columns of noise, twenty go well with any 60 labels by chance. Chosen on all
        pictures, they go well with the held-out labels too, as those had a say in the choice.
        Whatever looks at labels belongs inside the pipeline, so that each fold chooses anew from
        its own training part.
    """,
    hints=(
        "Which labels did `SelectKBest` see? Which labels is the score then computed on?",
        "The choice has to be made again in each fold, from that fold's training part alone.",
        "`make_pipeline(SelectKBest(f_classif, k=20), LogisticRegression())` is one classifier "
        "that can be given to `cross_val_score` with the raw `x`.",
    ),
    wrongs=(
        Wrong(
            "before",
            """
from sklearn.feature_selection import SelectKBest, f_classif
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

def honest_score(x, y):
    best = SelectKBest(f_classif, k=20).fit(x, y).transform(x)
    model = make_pipeline(StandardScaler(), LogisticRegression())
    return cross_val_score(model, best, y, cv=5).mean()
""",
            """On pure noise it still reports far more than one half. The features are chosen
            before the pictures are divided, so the labels that you test on helped to choose
            them.""",
        ),
        Wrong(
            "trained_on",
            """
from sklearn.feature_selection import SelectKBest, f_classif
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

def honest_score(x, y):
    model = make_pipeline(SelectKBest(f_classif, k=20), LogisticRegression(C=100))
    return model.fit(x, y).score(x, y)
""",
            """On pure noise it reports nearly 1. The accuracy is measured on the very pictures that
            the classifier was fitted on: that tells how well it remembers. Score pictures that it
            hasn't seen.""",
        ),
        Wrong(
            "no_selection",
            """
from sklearn.dummy import DummyClassifier
from sklearn.model_selection import cross_val_score

def honest_score(x, y):
    return cross_val_score(DummyClassifier(), x, y, cv=5).mean()
""",
            """On noise about one half, as it should be. But where twenty good features can be
            found, yours misses them: is the choice of features still made, in each fold?""",
        ),
    ),
    judge=_judge_honest,
)

# --- 5.8 ------------------------------------------------------------------------------------------

UNEQUAL = (
    ([0, 0, 0, 0, 1, 1, 2, 2, 2, 2, 2, 2], [0, 0, 0, 1, 1, 0, 2, 2, 2, 2, 2, 0]),
    ([0] * 8 + [1] * 90, [1] * 98),  # always the larger class
    ([0, 0, 2, 2, 2, 2], [0, 2, 2, 2, 2, 1]),  # no picture of class 1, and yet it is predicted
)


def _judge_recall(answer: Any) -> Verdict:
    for rows in UNEQUAL:
        targets, predicted = (torch.tensor(each) for each in rows)
        share = number(answer(targets.clone(), predicted.clone()), "a number")
        right = targets == predicted
        of_class = [right[targets == each].double().mean() for each in targets.unique()]
        of_answer = [right[predicted == each].double().mean() for each in predicted.unique()]
        every = int(max(targets.max(), predicted.max())) + 1
        if close(share, sum(of_class) / len(of_class)):
            continue
        if close(share, right.double().mean()):
            return mistake("plain_accuracy")
        if close(share, sum(of_answer) / len(of_answer)):
            return mistake("by_answer")
        if math.isnan(share) or close(share, sum(of_class) / every):
            return mistake("absent_class")
        return not_yet(
            f"With the classes {rows[0]} and the answers {rows[1]} it gives {share:.3f}; expected "
            f"{float(sum(of_class) / len(of_class)):.3f}."
            if len(targets) < 20
            else "With 8 pictures of class 0 and 90 of class 1, all taken for class 1, it gives "
            f"{share:.3f}; expected 0.5."
        )
    return passed(
        "Always answering the larger of two classes gets 0.5 by it, whatever the proportion."
    )


ex5_8 = Exercise(
    "5.8",
    "Every class counts the same",
    minutes=5,
    question="""
        On 8 hot dogs and 90 pictures of other food, the code below says 0.92 for a network that
        always answers "other food". Let it say how good the network is when every class counts the
        same: the mean, over the classes that occur in `targets`, of the share of the class's
        pictures that is right.

        `targets` and `predicted` are tensors (N,) of class numbers. Not every class need occur.
    """,
    answer="mean_recall",
    stub="""
def mean_recall(targets, predicted):
    return (targets == predicted).double().mean()
""",
    solution="""
def mean_recall(targets, predicted):
    right = targets == predicted
    shares = [right[targets == each].double().mean() for each in targets.unique()]
    return sum(shares) / len(shares)
""",
    why="""
        The share of a class's pictures that is found is its recall; the mean over the classes is
        balanced accuracy. Each class is divided by its own number of pictures, so a large one can't
        drown a small one. scikit-learn has it as `balanced_accuracy_score`.
    """,
    hints=(
        "How many of the 8 hot dogs does that network find? And how many of the 90 others?",
        "`right[targets == each]` are the answers for the pictures of one class.",
        "Take the mean of that for each class in `targets.unique()`, then the mean of these.",
    ),
    wrongs=(
        Wrong(
            "plain_accuracy",
            """
def mean_recall(targets, predicted):
    return (targets == predicted).sum() / len(targets)
""",
            """That is accuracy: right answers over all pictures. Of 98 answers, the 90 for the
            larger class decide it. Take a share for each class first.""",
        ),
        Wrong(
            "by_answer",
            """
def mean_recall(targets, predicted):
    right = targets == predicted
    shares = [right[predicted == each].double().mean() for each in predicted.unique()]
    return sum(shares) / len(shares)
""",
            """You grouped by what was *predicted*: of the answers "hot dog", how many are right?
            That is precision. Recall asks of the hot dogs how many are found: group by
            `targets`.""",
        ),
        Wrong(
            "absent_class",
            """
def mean_recall(targets, predicted):
    right = targets == predicted
    classes = range(int(max(targets.max(), predicted.max())) + 1)
    return sum(right[targets == each].double().mean() for each in classes) / len(classes)
""",
            """A class without a picture is counted as well. Its share is 0 / 0, so there is nothing
            to say about it: go over the classes that occur in `targets`.""",
        ),
    ),
    judge=_judge_recall,
)

# --- questions ------------------------------------------------------------------------------------

q5_1 = Question(
    "5.1",
    """You want augmentation: random crops and flips. And you want cached features. What happens if
    you cache the features of a training set with random crops?""",
    (
        Option(
            "Every epoch sees new crops, as in usual training.",
            """The body runs once. Whatever crop came up then is the one that all epochs see.""",
        ),
        Option(
            "One random crop of each picture is frozen in; so `extract` refuses.",
            """It would look like augmentation and be none. What does work: extract several
            augmented copies of each picture on purpose, each with a fixed crop, and train on all
            of them.""",
            right=True,
        ),
        Option(
            "The features are averages over all the crops that came up in training.",
            "Nobody averages: one crop goes in, one row of features comes out.",
        ),
    ),
)

q5_2 = Question(
    "5.2",
    """A head was trained on cached features. Now you unfreeze the last block and want to train it
    together with the head. Can you go on with the same features?""",
    (
        Option(
            "Yes, the features are still those of the pictures.",
            """They are those of the old last block. With its first step the block gives others,
            and the file knows nothing of it.""",
        ),
        Option(
            "Yes, if the key of the cache says that it is the same body.",
            """A right key makes sure that you are not handed stale features. It can't make a
            changing body's features constant.""",
        ),
        Option(
            "No. But those of the last layer that stays frozen would do.",
            """Cache where the frozen part ends (`layer=...`, `pool=None`), and train everything
            behind it on that.""",
            right=True,
        ),
    ),
)

q5_3 = Question(
    "5.3",
    """You join 512 features of one network with 4,096 of another and scale each to variance 1. What
    decides the distances of a nearest-neighbour classifier?""",
    (
        Option(
            "Both networks to the same degree: that is what scaling is for.",
            """Each *feature* has the same say now. One network has eight times as many.""",
        ),
        Option(
            "Mostly the network with more features.",
            """Eight ninths of the squared distance, on the average. To give both the same say,
            divide each network's part by the root of its width as well.""",
            right=True,
        ),
        Option(
            "Mostly the network whose values were larger before.",
            "That may be so without scaling. After it, no feature remembers its old size.",
        ),
    ),
)

q5_4 = Question(
    "5.4",
    """Over five seeds, an SVM minus a linear layer gave a difference in accuracy with the interval
    from -0.03 to 0.06. Beforehand, "equally good" was set to mean within 0.05. What may you
    say?""",
    (
        Option(
            "The SVM is better: the middle of the interval is above 0.",
            "The interval holds 0 and values below. Other seeds may turn it round.",
        ),
        Option(
            "They are equally good: no difference was found.",
            """Equally good means that the whole interval lies within 0.05. It doesn't. Not finding
            a difference isn't finding that there is none.""",
        ),
        Option(
            "It is undecided.",
            """Neither a difference nor equality has been shown. More seeds would make the interval
            narrower; so would more test pictures.""",
            right=True,
        ),
    ),
)

q5_5 = Question(
    "5.5",
    """180 training pictures, 1,280 features. You draw a map of the *training* pictures along the
    direction of a linear classifier that was fitted on them. The classes part without one mistake.
    What does that show?""",
    (
        Option(
            "The features are excellent.",
            """It may be so, but this map can't tell: with labels tossed by a coin it would look
            the same.""",
        ),
        Option(
            "Nothing yet.",
            """With more features than pictures, some direction parts any labels. Look at pictures
            that the map wasn't fitted on. PCA, which doesn't see labels, has no such way to flatter
            you.""",
            right=True,
        ),
        Option(
            "The classifier is overfitted and its test accuracy will be near one half.",
            """That doesn't follow either. Perfect on the training pictures goes with good and with
            bad test accuracy.""",
        ),
    ),
)

q5_6 = Question(
    "5.6",
    """You learn from 8 pictures of mushrooms that are poisonous and 90 that aren't. Of new ones in
    the same proportion, 0.93 are told right. What do you know?""",
    (
        Option(
            "That it is good: 0.93 is far above the 0.5 of guessing.",
            """The baseline isn't 0.5 here. Always answering "not poisonous" gets 90 of 98,
            0.92.""",
        ),
        Option(
            "That class weights are needed: with them it would be above 0.93.",
            """Weights let the small class count as much as the large one. They may well lower
            accuracy, for which the large class counts eleven times as much.""",
        ),
        Option(
            "Nearly nothing yet: look at the recall of each class.",
            """It may find one of the 8, or all of them. Recall says it; and with 8 pictures its
            interval is wide.""",
            right=True,
        ),
    ),
)

EXERCISES = (ex5_1, ex5_2, ex5_3, ex5_4, ex5_5, ex5_6, ex5_7, ex5_8)
QUESTIONS = (q5_1, q5_2, q5_3, q5_4, q5_5, q5_6)
