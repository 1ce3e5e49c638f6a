"""Exercises and questions of chapter 02: hot dogs."""

from typing import Any

import torch
from torch import nn

from course_lib.exercises.core import Exercise, Wrong
from course_lib.exercises.models import (
    FEATURES,
    SmallResNet,
    copied_tensors,
    listed,
    moved,
    of_layer,
    pictures,
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

# --- 2.1 ------------------------------------------------------------------------------------------


def _judge_channels(answer: Any) -> Verdict:
    sizes = ((6, 8), (20, 12), (5, 5))
    shots = [
        torch.randint(place * 40, place * 40 + 120, (3, *size), dtype=torch.uint8)
        for place, size in enumerate(sizes)
    ]
    shots[1] //= 2
    pair = returned(answer([shot.clone() for shot in shots]), (tuple, list, torch.Tensor), "a pair")
    if len(pair) != 2:
        return not_yet(f"Return two things, means and standard deviations; got {len(pair)}.")
    mean = numbers(pair[0], (3,), "one mean for each channel")
    std = numbers(pair[1], (3,), "one standard deviation for each channel")
    pixels = torch.cat([shot.double().flatten(1) for shot in shots], dim=1) / 255
    each = [shot.double().flatten(1) / 255 for shot in shots]
    if close(mean, pixels.mean(1) * 255, 1e-3):
        return mistake("scale")
    if close(mean, torch.stack([shot.mean(1) for shot in each]).mean(0), 1e-3):
        return mistake("mean_of_means")
    if not close(mean, pixels.mean(1), 1e-3):
        return not_yet("The means aren't those of all pixels: add up each channel, then divide.")
    if not bool(std.isfinite().all()):
        return mistake("overflow")
    if close(std, torch.stack([shot.std(1) for shot in each]).mean(0), 5e-3):
        return mistake("mean_of_stds")
    if close(std, pixels.var(1), 5e-3):
        return not_yet("The means are right. What you call std is the variance: take its root.")
    if not close(std, pixels.std(1), 5e-3):
        return not_yet("The means are right; the standard deviations aren't those of all pixels.")
    return passed(
        "Every pixel counts once, in big pictures as in small ones, on the scale from 0 to 1 that "
        "the network sees."
    )


ex2_1 = Exercise(
    "2.1",
    "Where the normalising numbers come from",
    minutes=8,
    question="""
        Compute what a line such as `mean=(0.485, 0.456, 0.406)` holds, for pictures of your own.

        You get a list of pictures: tensors of type uint8 and shape (3, H, W), each of another
        size. Return two tensors of shape (3,): mean and standard deviation of each channel, over
        all pixels of all pictures, on the scale from 0 to 1.
    """,
    answer="channel_numbers",
    stub="""
def channel_numbers(pictures):
    mean = ...
    std = ...
    return mean, std
""",
    solution="""
def channel_numbers(pictures):
    pixels = torch.cat([picture.flatten(1) for picture in pictures], dim=1).float() / 255
    return pixels.mean(dim=1), pixels.std(dim=1)
""",
    why="""
        Laid side by side, all pixels are one long row for each channel, and the size of the
        picture that one came from no longer matters. With more pictures than fit into memory you
        would add up count, sum and sum of squares, picture by picture, in float64.
    """,
    hints=(
        "Two pictures, one of 4 pixels and one of 4 million: how much should each pixel count?",
        "`picture.flatten(1)` has shape (3, H·W). Such tensors can be joined, whatever H and W.",
        "Join them with `torch.cat(..., dim=1)`, divide by 255, then mean and std along `dim=1`.",
    ),
    wrongs=(
        Wrong(
            "mean_of_means",
            """
def channel_numbers(pictures):
    means = torch.stack([(picture / 255).mean(dim=(1, 2)) for picture in pictures])
    stds = torch.stack([(picture / 255).std(dim=(1, 2)) for picture in pictures])
    return means.mean(dim=0), stds.mean(dim=0)
""",
            """You took the mean of the pictures' means. So a pixel of a small picture counts more
            than one of a large picture. Let every pixel count once.""",
        ),
        Wrong(
            "scale",
            """
def channel_numbers(pictures):
    pixels = torch.cat([picture.flatten(1) for picture in pictures], dim=1).float()
    return pixels.mean(dim=1), pixels.std(dim=1)
""",
            """The numbers are right for bytes, from 0 to 255. The network's preprocessing divides
            by 255 first and normalises afterwards, so the numbers must be on the scale from 0
            to 1.""",
        ),
        Wrong(
            "mean_of_stds",
            """
def channel_numbers(pictures):
    pixels = torch.cat([picture.flatten(1) for picture in pictures], dim=1).float() / 255
    stds = torch.stack([(picture / 255).std(dim=(1, 2)) for picture in pictures])
    return pixels.mean(dim=1), stds.mean(dim=0)
""",
            """The means are right. The mean of the pictures' standard deviations leaves out how
            much the pictures differ from one another, so it is too small. (ImageNet's famous
            0.229, 0.224, 0.225 seem to be of that kind. Here, take all pixels together.)""",
        ),
        Wrong(
            "overflow",
            """
def channel_numbers(pictures):
    count = sum(picture[0].numel() for picture in pictures)
    mean = sum(picture.sum(dim=(1, 2)) for picture in pictures) / count / 255
    squares = sum((picture**2).sum(dim=(1, 2)) for picture in pictures) / count / 255**2
    return mean, (squares - mean**2).sqrt()
""",
            """The means are right; the standard deviations are no numbers. A uint8 holds 0 to 255,
            and its square starts again at 0: 16 squared is 0. Turn the pixels to float before you
            square them.""",
        ),
    ),
    judge=_judge_channels,
)

# --- 2.2 ------------------------------------------------------------------------------------------


def _judge_undo(answer: Any) -> Verdict:
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    m, s = (torch.tensor(each).view(3, 1, 1) for each in (mean, std))
    for shape in ((2, 3, 4, 3), (1, 3, 6, 5)):
        picture = torch.rand(shape)
        batch = (picture - m) / s
        given = batch.clone()
        back = numbers(
            returned(answer(given, mean, std), (torch.Tensor,), "a tensor"), shape, "pictures"
        )
        if close(back, batch * s.view(3) + m.view(3), 1e-3) if shape[-1] == 3 else False:
            return mistake("wrong_axis")
        if close(back, (batch + m) * s, 1e-3):
            return mistake("wrong_order")
        if close(back, (batch - m) / s, 1e-3):
            return mistake("twice")
        if not (back - picture).abs().max() < 1e-4:
            return not_yet(
                "The pictures that come back aren't those that were normalised. Normalising was "
                "(picture - mean) / std, channel by channel."
            )
        if not torch.equal(given, batch):
            return mistake("in_place")
    return passed("What comes back is what went in, and the batch itself is untouched.")


ex2_2 = Exercise(
    "2.2",
    "Back to a picture",
    minutes=5,
    question="""
        A batch was normalised: from each channel its mean was taken, then it was divided by its
        standard deviation. To look at it, undo that.

        You get the batch, shape (N, 3, H, W), and `mean` and `std` as three numbers each. Return
        the pictures on the scale from 0 to 1. Leave the batch as it is: somebody may still train
        on it.
    """,
    answer="undo_normalising",
    stub="""
def undo_normalising(batch, mean, std):
    return ...
""",
    solution="""
def undo_normalising(batch, mean, std):
    mean = torch.tensor(mean).view(3, 1, 1)
    std = torch.tensor(std).view(3, 1, 1)
    return batch * std + mean
""",
    why="""
        The last step is undone first: times std, then plus mean. With the shape (3, 1, 1) the
        three numbers go along the channels; torch lines shapes up from the right, so a plain
        (3,) would go along the width.
    """,
    hints=(
        "First came minus, then divided by. What comes first on the way back?",
        "Torch lines up shapes from the right. Which shape must three numbers have to go along "
        "the second axis of (N, 3, H, W)?",
        "`torch.tensor(std).view(3, 1, 1)`, the same for the mean; then `batch * std + mean`.",
    ),
    wrongs=(
        Wrong(
            "wrong_order",
            """
def undo_normalising(batch, mean, std):
    mean = torch.tensor(mean).view(3, 1, 1)
    std = torch.tensor(std).view(3, 1, 1)
    return (batch + mean) * std
""",
            """Both steps are there, in the wrong order. Shoes come off before socks: the last step
            of normalising, the division, is undone first.""",
        ),
        Wrong(
            "wrong_axis",
            """
def undo_normalising(batch, mean, std):
    return batch * torch.tensor(std) + torch.tensor(mean)
""",
            """Your three numbers went along the width, and not along the channels, since shapes
            are lined up from the right. Pictures three pixels wide go through without any error
            and come out wrong; others raise one. Give the numbers the shape (3, 1, 1).""",
        ),
        Wrong(
            "in_place",
            """
def undo_normalising(batch, mean, std):
    std, mean = torch.tensor(std).view(3, 1, 1), torch.tensor(mean).view(3, 1, 1)
    return batch.mul_(std).add_(mean)
""",
            """The pictures are right, but the batch that you were given has changed with them:
            operations such as `mul_` or `*=` write into their tensor. Whoever trains on the batch
            afterwards trains on other numbers. Make a new tensor.""",
        ),
        Wrong(
            "twice",
            """
def undo_normalising(batch, mean, std):
    mean, std = torch.tensor(mean).view(3, 1, 1), torch.tensor(std).view(3, 1, 1)
    return (batch - mean) / std
""",
            """You normalised the batch once more. Undo it: the opposite of each step, the last one
            first.""",
        ),
    ),
    judge=_judge_undo,
)

# --- 2.3 ------------------------------------------------------------------------------------------


def _judge_new_head(answer: Any) -> Verdict:
    for classes in (2, 5):
        model = SmallResNet()
        body = {name: each for name, each in model.named_parameters() if name[:3] != "fc."}
        before, old_head = copied_tensors(model), list(model.fc.parameters())
        result = returned(answer(model, classes), nn.Module, "the model")
        mine = {id(parameter) for parameter in result.parameters()}
        if any(id(parameter) in mine for parameter in old_head):
            outputs = result(pictures()[0]).shape[-1]
            return mistake("stacked" if outputs == classes else "attribute")
        lost = [name for name, parameter in body.items() if id(parameter) not in mine]
        if len(lost) == len(body):
            return mistake("rebuilt")
        if lost:
            return not_yet(f"These parameters of the body are gone: {listed(lost)}.")
        after = dict(result.named_parameters())
        changed = [n for n in body if n in after and not torch.equal(before[n], after[n])]
        if changed:
            return not_yet(f"These weights of the body have other values now: {listed(changed)}.")
        if not all(parameter.requires_grad for parameter in result.parameters()):
            return not_yet("The new head is there, but something is frozen. Leave all trainable.")
        outputs = tuple(result(pictures(4)[0]).shape)
        if outputs != (4, classes):
            return not_yet(
                f"For 4 pictures and {classes} classes the model should give (4, {classes}); it "
                f"gives {outputs}."
            )
    return passed(
        "A new head on the old features, and every other parameter is the same object as before: "
        "an optimizer that knows the body goes on knowing it. It doesn't know the new head."
    )


ex2_3 = Exercise(
    "2.3",
    "A new head",
    minutes=5,
    question="""
        Your classes are not ImageNet's. Put a new last layer on `model` that has `classes` outputs
        and stands on the same features as the old one. The old one is `model.fc`, an `nn.Linear`.
        Keep everything else, down to the same `Parameter` objects, and return the model.
    """,
    answer="swap_head",
    stub="""
def swap_head(model, classes):
    ...
    return model
""",
    solution="""
def swap_head(model, classes):
    model.fc = nn.Linear(model.fc.in_features, classes)
    return model
""",
    why="""
        Setting an attribute replaces the registered layer, and only that. The number of features
        is asked of the old layer, so that it works for any network with an `fc`.
    """,
    hints=(
        "A linear layer is two tensors of a certain shape. Can a layer with 10 outputs become one "
        "with 2, or is another one needed?",
        "How many features come in is written in the old layer: `model.fc.in_features`.",
        "`model.fc = nn.Linear(...)` takes the old layer out and the new one in.",
    ),
    wrongs=(
        Wrong(
            "attribute",
            """
def swap_head(model, classes):
    model.fc.out_features = classes
    return model
""",
            """`out_features` is only a note on the layer: changing it changes no tensor, and the
            old layer still gives its old number of outputs. You need a new layer.""",
        ),
        Wrong(
            "stacked",
            """
def swap_head(model, classes):
    return nn.Sequential(model, nn.Linear(model.fc.out_features, classes))
""",
            """The number of outputs is right, but the new layer stands on the old layer's outputs,
            its scores for the old classes, and not on the features. What the old head threw away
            is lost. Put the new layer in the old one's place.""",
        ),
        Wrong(
            "rebuilt",
            """
def swap_head(model, classes):
    model = copy.deepcopy(model)
    model.fc = nn.Linear(model.fc.in_features, classes)
    return model
""",
            """The model that you return shares no parameter with the one that you got: it is a
            copy, or was built anew. An optimizer that was made for the old one would train into
            the void. Change the model itself.""",
        ),
        Wrong(
            "hard_coded",
            """
def swap_head(model, classes):
    model.fc = nn.Linear(512, classes)
    return model
""",
            """512 features are a ResNet-18's; this network has another number of them. Ask the
            old layer: `model.fc.in_features`.""",
            raises="shapes cannot be multiplied",
        ),
    ),
    judge=_judge_new_head,
)

# --- 2.4 ------------------------------------------------------------------------------------------


def _judge_two_rates(answer: Any) -> Verdict:
    for eta in (0.01, 0.3):
        model = SmallResNet(2)
        optimizer = answer(model, eta)
        if isinstance(optimizer, list):
            optimizer = torch.optim.SGD(optimizer, lr=eta)
        returned(optimizer, torch.optim.Optimizer, "an optimizer")
        rates: dict[int, list[float]] = {}
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                rates.setdefault(id(parameter), []).append(float(group["lr"]) / eta)
        factor = {name: rates.pop(id(each), []) for name, each in model.named_parameters()}
        if rates:
            return not_yet(
                "The optimizer has parameters that aren't the model's. Hand it the model's own, "
                "not copies."
            )
        double = [name for name, each in factor.items() if len(each) > 1]
        if double:
            return mistake("twice")
        missing = [name for name, each in factor.items() if not each]
        if missing == ["fc.bias"]:
            return mistake("no_bias")
        if missing:
            return not_yet(f"The optimizer doesn't know {listed(missing)}: they would never move.")
        fast = {name for name, each in factor.items() if abs(each[0] - 10) < 1e-3}
        slow = {name for name, each in factor.items() if abs(each[0] - 1) < 1e-3}
        head = of_layer(factor, "fc")
        if fast == set(factor) - head and slow == head:
            return mistake("swapped")
        if fast == head | of_layer(factor, "gate_fc"):
            return mistake("substring")
        if fast != head or slow != set(factor) - head:
            odd = (fast ^ head) | (set(factor) - fast - slow)
            return not_yet(
                f"The head should learn with 10 eta, the rest with eta. Look at {listed(odd)}."
            )
    return passed("Each parameter stands in one group: the body with eta, the head with 10 eta.")


ex2_4 = Exercise(
    "2.4",
    "Two learning rates",
    minutes=8,
    question="""
        The body knows a lot already and should take small steps; the new head knows nothing.
        Return an optimizer (`torch.optim.SGD`, say) that trains every parameter of `model` exactly
        once: those of the head `model.fc` with the learning rate `10 * eta`, all others with
        `eta`.
    """,
    answer="two_rates",
    stub="""
def two_rates(model, eta):
    head = ...
    body = ...
    return torch.optim.SGD(...)
""",
    solution="""
def two_rates(model, eta):
    head = list(model.fc.parameters())
    in_head = {id(parameter) for parameter in head}
    body = [parameter for parameter in model.parameters() if id(parameter) not in in_head]
    return torch.optim.SGD([{"params": body}, {"params": head, "lr": 10 * eta}], lr=eta)
""",
    why="""
        A group without a learning rate of its own takes the one given for all. Parameters are told
        apart by identity: two of them may hold equal numbers and still be two, and comparing
        tensors with `in` compares numbers. Names work too, as long as they are whole:
        `name.startswith("fc.")`.
    """,
    hints=(
        'An optimizer takes a list of groups: `[{"params": ..., "lr": ...}, ...]`.',
        "The head's parameters are `model.fc.parameters()`: a weight and a bias. The body's are "
        "all others. `model.named_parameters()` tells which is which.",
        'Body: those whose name doesn\'t start with `"fc."`, with the dot. There is a `gate_fc`.',
    ),
    wrongs=(
        Wrong(
            "no_bias",
            """
def two_rates(model, eta):
    body = [p for name, p in model.named_parameters() if not name.startswith("fc.")]
    groups = [{"params": body}, {"params": [model.fc.weight], "lr": 10 * eta}]
    return torch.optim.SGD(groups, lr=eta)
""",
            """The optimizer doesn't know `fc.bias`: it would stay as it was drawn. A linear layer
            has two parameters, weight and bias; `model.fc.parameters()` gives both.""",
        ),
        Wrong(
            "substring",
            """
def two_rates(model, eta):
    head = [p for name, p in model.named_parameters() if "fc" in name]
    body = [p for name, p in model.named_parameters() if "fc" not in name]
    return torch.optim.SGD([{"params": body}, {"params": head, "lr": 10 * eta}], lr=eta)
""",
            """`gate_fc` learns fast too: its name contains "fc", but it is part of the body. Many
            networks have such layers. Take `model.fc.parameters()`, or compare whole names.""",
        ),
        Wrong(
            "swapped",
            """
def two_rates(model, eta):
    body = [p for name, p in model.named_parameters() if not name.startswith("fc.")]
    return torch.optim.SGD(
        [{"params": body, "lr": 10 * eta}, {"params": model.fc.parameters()}], lr=eta
    )
""",
            """The rates are swapped: the body, which knows something, takes the big steps. The
            head is the one that begins at nothing.""",
        ),
        Wrong(
            "twice",
            """
def two_rates(model, eta):
    groups = [{"params": model.parameters()}, {"params": model.fc.parameters(), "lr": 10 * eta}]
    return torch.optim.SGD(groups, lr=eta)
""",
            """`model.parameters()` holds the head's parameters as well, so they stand in both
            groups. Leave them out of the first.""",
            raises="more than one parameter group",
        ),
    ),
    judge=_judge_two_rates,
)

# --- 2.5 ------------------------------------------------------------------------------------------


def _judge_only_head(answer: Any) -> Verdict:
    model = SmallResNet(2)
    result = answer(model)
    if isinstance(result, SmallResNet):
        model = result
    head = of_layer(dict(model.named_parameters()), "fc")
    trainable = {name for name, each in model.named_parameters() if each.requires_grad}
    if not trainable:
        return mistake("all_frozen")
    if trainable == {"fc.weight"}:
        return mistake("bias")
    if trainable == {name for name, _ in model.named_parameters()}:
        return mistake("nothing_frozen")
    before, batch = copied_tensors(model), pictures()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    train(model, optimizer, batch)
    changed = moved(before, model)
    still = head - changed
    if still:
        return not_yet(f"The head should train, and {listed(still)} did not move.")
    statistics = {name for name, _ in model.named_buffers()} & changed
    if changed - statistics - head:
        return not_yet(f"These moved, and should be frozen: {listed(changed - statistics - head)}.")
    if statistics:
        return mistake("statistics")
    model.train()
    train(model, optimizer, batch, steps=1)
    if moved(before, model) - head:
        return passed(
            "The head trains, and the body stays, bit for bit. One thing to know: a loop that "
            "calls `model.train()`, as d2l's does for every batch, wakes the BatchNorm layers up "
            "again. Chapter 04 shows how to hold them."
        )
    return passed("The head trains, the body stays, and even `model.train()` doesn't wake it up.")


ex2_5 = Exercise(
    "2.5",
    "The book's snippet, put right",
    minutes=10,
    question="""
        The d2l book's third exercise freezes a network so that only its new head trains. As
        printed it fails: try it, and read the error.

        Fix it. The function gets a model in training mode whose new head `model.fc` is in place.
        Afterwards only the head may be trainable, weight and bias, and three training steps must
        leave everything else as it was, bit for bit: the running statistics of the BatchNorm
        layers too. The check does not call `model.train()`.
    """,
    answer="only_the_head",
    stub="""
def only_the_head(model):
    for parameter in model.parameters():
        parameter.requires_grad = False
    return model
""",
    solution="""
def only_the_head(model):
    for parameter in model.parameters():
        parameter.requires_grad = False
    for parameter in model.fc.parameters():
        parameter.requires_grad = True
    model.eval()
    model.fc.train()
    return model
""",
    why="""
        The loop over all parameters takes the head with it, so it is made trainable again. And
        running statistics are no parameters: `requires_grad` means nothing to them. They move in
        every forward pass in training mode; `eval()` stops that, until somebody calls `train()`.
    """,
    hints=(
        "Which parameters does `model.parameters()` give: those of the body, or all?",
        "Make the head's parameters trainable again, all of them. Then look at `model.bn1`: what "
        "changes in it when data goes through, without any optimizer?",
        "In evaluation mode, BatchNorm uses its statistics and leaves them: `model.eval()`.",
    ),
    wrongs=(
        Wrong(
            "all_frozen",
            """
def only_the_head(model):
    model.eval()
    return model.requires_grad_(False)
""",
            """Nothing is trainable, the new head included, so `backward()` would find nothing to do
            and raise "element 0 of tensors does not require grad". That is what happens to the
            snippet as printed.""",
        ),
        Wrong(
            "statistics",
            """
def only_the_head(model):
    for name, parameter in model.named_parameters():
        parameter.requires_grad = name.startswith("fc.")
    return model
""",
            """All parameters are right. But the BatchNorm layers' running means and variances
            moved: they are buffers, no gradient and no optimizer moves them; each forward pass in
            training mode does. In which mode do they rest?""",
        ),
        Wrong(
            "bias",
            """
def only_the_head(model):
    model.eval()
    model.requires_grad_(False)
    model.fc.weight.requires_grad = True
    return model
""",
            """The head's weight is trainable, its bias isn't. A layer has all the parameters that
            `model.fc.parameters()` gives.""",
        ),
        Wrong(
            "nothing_frozen",
            """
def only_the_head(model):
    model.eval()
    model.requires_grad = False
    model.fc.requires_grad = True
    return model
""",
            """Everything is still trainable. Either nothing was frozen, or by a line without
            effect: `model.requires_grad = False` only hangs a new attribute on the module, and
            Python says nothing. The flag belongs to each parameter; the method that sets all is
            `requires_grad_`, with an underscore.""",
        ),
    ),
    judge=_judge_only_head,
)

# --- 2.6 ------------------------------------------------------------------------------------------


def _judge_share_right(answer: Any) -> Verdict:
    what = "a number from 0 to 1"
    for sizes in ((4, 4, 1), (3,), (5, 2)):
        batches, right = [], []
        for place, size in enumerate(sizes):
            logits, labels = torch.randn(size, 3), torch.randint(3, (size,))
            sure = torch.full((size,), 9.0)
            sure[: size // 2] = 9.0 if place % 2 == 0 else -9.0
            logits[torch.arange(size), labels] += sure
            batches.append((logits, labels))
            right.append(int((logits.argmax(1) == labels).sum()))
        share = number(answer(batches), what)
        true = sum(right) / sum(sizes)
        if close(share, true):
            continue
        if close(share, sum(r / n for r, n in zip(right, sizes, strict=True)) / len(sizes)):
            return mistake("mean_of_batches")
        if close(share, true * 100):
            return not_yet("That is the share in per cent; return it as a number from 0 to 1.")
        if close(share, sum(right)):
            return mistake("count")
        if close(share, sum(right) / (len(sizes) * sizes[0])):
            return mistake("full_batches")
        return not_yet(f"For batches of {sizes} with {right} right, you gave {share:.4f}.")
    return passed("Every picture counts once, also those in the odd last batch.")


ex2_6 = Exercise(
    "2.6",
    "The odd last batch",
    minutes=5,
    question="""
        You get the results of an evaluation: a list of pairs (logits, labels), one for each batch,
        with shapes (B, C) and (B,). The last batch may be smaller. Return the accuracy, the share
        of pictures whose highest logit is the label's, as a number from 0 to 1.
    """,
    answer="share_right",
    stub="""
def share_right(batches):
    return ...
""",
    solution="""
def share_right(batches):
    right = total = 0
    for logits, labels in batches:
        right += (logits.argmax(dim=1) == labels).sum().item()
        total += len(labels)
    return right / total
""",
    why="""
        Count, and divide once, at the end. Averaging the batches' accuracies gives a picture in a
        last batch of one the weight of a whole batch: with 32, 32 and 1 pictures of which 30, 30
        and 0 are right, it says 0.625 where 60 of 65, 0.923, are right.
    """,
    hints=(
        "Batches of 4, 4 and 1. How much should the one picture in the last batch count?",
        "`logits.argmax(dim=1) == labels` is true for each picture that is right.",
        "Add up the right ones and the pictures over all batches; divide at the end.",
    ),
    wrongs=(
        Wrong(
            "mean_of_batches",
            """
def share_right(batches):
    shares = [(logits.argmax(1) == labels).float().mean() for logits, labels in batches]
    return sum(shares) / len(shares)
""",
            """You averaged the batches' accuracies. In a last batch of one, a single picture then
            counts as much as a whole batch. Add up right ones and pictures, divide at the end.""",
        ),
        Wrong(
            "full_batches",
            """
def share_right(batches):
    right = sum((logits.argmax(1) == labels).sum().item() for logits, labels in batches)
    return right / (len(batches) * len(batches[0][1]))
""",
            """You counted as if all batches were as large as the first. The last one is often
            smaller, so you divided by too much.""",
        ),
        Wrong(
            "count",
            """
def share_right(batches):
    return sum((logits.argmax(1) == labels).sum().item() for logits, labels in batches)
""",
            """That is the number of right answers. For a share, divide it by the number of
            pictures.""",
        ),
    ),
    judge=_judge_share_right,
)

# --- 2.7 ------------------------------------------------------------------------------------------


def _judge_row_head(answer: Any) -> Verdict:
    for row, scale in ((3, 1.0), (8, 0.5)):
        old = nn.Linear(FEATURES, 9)
        before = copied_tensors(old)
        head = returned(answer(old, row, scale), nn.Linear, "an nn.Linear")
        if tuple(head.weight.shape) != (2, FEATURES):
            return not_yet(
                f"The head's weight should have shape (2, {FEATURES}); it has "
                f"{tuple(head.weight.shape)}."
            )
        if moved(before, old):
            return not_yet("The old layer has changed. Read from it, and write into a new one.")
        if head.bias is None:
            return mistake("no_bias")
        if not (head.weight.requires_grad and head.bias.requires_grad):
            return not_yet("The head's numbers are set, but it can't train: requires_grad is off.")
        reply = _compare_head(head, before["weight"], before["bias"], row, scale)
        if not reply.passed:
            return reply
        with torch.no_grad():
            head.weight.zero_()
            head.bias.zero_()
        if moved(before, old):
            return not_yet("The new head shares memory with the old layer: copy the numbers.")
    return reply


def _compare_head(
    head: nn.Linear, weight: torch.Tensor, bias: torch.Tensor, row: int, scale: float
) -> Verdict:
    """What is right and wrong about the numbers of a head made from a row of another."""
    others = torch.arange(len(bias)) != row
    plain = weight[others].mean(0)
    by_share = bias[others].softmax(0) @ weight[others]  # as the chapter's own helper does it
    bar = bias[others].logsumexp(0)
    w, b = head.weight.detach(), head.bias.detach()
    hot, level = weight[row] * scale, torch.stack([bias[row], bar])
    if close(w[1], hot) and close(w[0], plain * scale):
        return mistake("swapped")
    if not close(w[0], hot):
        return not_yet("The weight of output 0 should be the old row's, times scale.")
    if close(w[1], weight.mean(0) * scale):
        return mistake("row_among_others")
    if not (close(w[1], plain * scale) or close(w[1], by_share * scale)):
        return not_yet("The weight of output 1 should be the mean of all other rows, times scale.")
    if close(b, level * scale):
        return passed(
            "Where the features say nothing, the new head is exactly as sure of a hot dog as the "
            "old one was with all its classes. A smaller scale makes it less sure, and leaves the "
            "order of the two scores as it is."
        )
    if close(b, level):
        return mistake("scale")
    if close(b, torch.stack([bias[row], bias[others].mean()]) * scale):
        return mistake("one_class")
    return mistake("no_bias")


ex2_7 = Exercise(
    "2.7",
    "A head that knows hot dogs",
    minutes=12,
    question="""
        ImageNet has a class for hot dogs, row 934 of its 1000-way output layer. So a head for two
        classes needn't begin at random. Given `old`, an `nn.Linear`, and a row, return a new
        `nn.Linear` with two outputs:

        - output 0, hot dog: that row's weight and bias;
        - output 1, anything else: as weight the mean of all other rows; as bias the logarithm of
          the sum of the exponentials of all other biases, since it stands for all of them together.

        Multiply all these numbers by `scale`. Leave the old layer as it is.
    """,
    answer="head_from_row",
    stub="""
def head_from_row(old, row, scale=1.0):
    new = nn.Linear(old.in_features, 2)
    ...
    return new
""",
    solution="""
def head_from_row(old, row, scale=1.0):
    new = nn.Linear(old.in_features, 2)
    others = [index for index in range(old.out_features) if index != row]
    with torch.no_grad():
        new.weight[0] = old.weight[row] * scale
        new.bias[0] = old.bias[row] * scale
        new.weight[1] = old.weight[others].mean(dim=0) * scale
        new.bias[1] = old.bias[others].logsumexp(dim=0) * scale
    return new
""",
    why="""
        In ImageNet's softmax, hot dogs stand against 999 other classes, and the other side of the
        scales is the log of the sum of their exponentials. No linear layer computes that exactly;
        this one agrees where the features are zero. Even if each of the 999 scores 0, together they
        weigh log 999 = 6.9. `course_lib.backbones.hotdog_head` does the same, and can set the bar
        by your own pictures.
    """,
    hints=(
        "A row of the weight has one entry in the bias. Which numbers make up one output?",
        "`old.weight[others].mean(dim=0)` is the mean of several rows; `logsumexp` is a method of "
        "tensors.",
        "Inside `torch.no_grad()`, set `new.weight[0]`, `new.bias[0]`, and from all other rows "
        "`new.weight[1]`, `new.bias[1]`; all times scale.",
    ),
    wrongs=(
        Wrong(
            "no_bias",
            """
def head_from_row(old, row, scale=1.0):
    new = nn.Linear(old.in_features, 2)
    others = [index for index in range(old.out_features) if index != row]
    with torch.no_grad():
        new.weight.copy_(torch.stack([old.weight[row], old.weight[others].mean(0)]) * scale)
    return new
""",
            """The weights are right, the biases aren't. Both belong to what the old layer knew: how
            likely a hot dog is before the picture says anything.""",
        ),
        Wrong(
            "one_class",
            """
def head_from_row(old, row, scale=1.0):
    new = nn.Linear(old.in_features, 2)
    others = [index for index in range(old.out_features) if index != row]
    with torch.no_grad():
        new.weight.copy_(torch.stack([old.weight[row], old.weight[others].mean(0)]) * scale)
        new.bias.copy_(torch.stack([old.bias[row], old.bias[others].mean()]) * scale)
    return new
""",
            """You took the mean of the other biases, as if "anything else" were one class among a
            thousand. It is 999 of them together. With their mean, the bar stands about log 999 =
            6.9 too low, and nearly all food is called a hot dog. Take `logsumexp`.""",
        ),
        Wrong(
            "scale",
            """
def head_from_row(old, row, scale=1.0):
    new = nn.Linear(old.in_features, 2)
    others = [index for index in range(old.out_features) if index != row]
    with torch.no_grad():
        new.weight.copy_(torch.stack([old.weight[row], old.weight[others].mean(0)]) * scale)
        new.bias.copy_(torch.stack([old.bias[row], old.bias[others].logsumexp(0)]))
    return new
""",
            """You scaled the weights and not the biases, so the border between the classes has
            moved: some pictures change sides. Scale both, and only the sureness changes.""",
        ),
        Wrong(
            "row_among_others",
            """
def head_from_row(old, row, scale=1.0):
    new = nn.Linear(old.in_features, 2)
    with torch.no_grad():
        new.weight.copy_(torch.stack([old.weight[row], old.weight.mean(0)]) * scale)
        new.bias.copy_(torch.stack([old.bias[row], old.bias.logsumexp(0)]) * scale)
    return new
""",
            """Your second row was made from all rows, the hot dog's included. "Anything else" means
            all others.""",
        ),
        Wrong(
            "swapped",
            """
def head_from_row(old, row, scale=1.0):
    new = nn.Linear(old.in_features, 2)
    others = [index for index in range(old.out_features) if index != row]
    with torch.no_grad():
        new.weight.copy_(torch.stack([old.weight[others].mean(0), old.weight[row]]) * scale)
        new.bias.copy_(torch.stack([old.bias[others].logsumexp(0), old.bias[row]]) * scale)
    return new
""",
            """The two outputs are swapped. Classes are numbered in the order of their folders'
            names, and "hotdog" comes before "not-hotdog": hot dogs are output 0. A head the wrong
            way round starts with nearly everything wrong.""",
        ),
    ),
    judge=_judge_row_head,
)

# --- questions ------------------------------------------------------------------------------------

q2_1 = Question(
    "2.1",
    """
    You fine-tune a network that was trained on ImageNet, with pictures of food. With which mean
    and standard deviation do you normalise your pictures?
    """,
    (
        Option(
            "With those of my own pictures, since they are the data that I train on.",
            """The first layers were trained on inputs normalised in one certain way. With other
            numbers, the same picture reaches them brighter, or with another contrast, than
            anything that they know.""",
        ),
        Option(
            "With those that the network was trained with.",
            """The numbers belong to the weights, like a unit of measure. EfficientNet-Lite0 wants
            0.5 and 0.5; most of torchvision's networks want ImageNet's.""",
            right=True,
        ),
        Option(
            "It doesn't matter: BatchNorm normalises anyway.",
            """In evaluation mode BatchNorm uses the statistics that it stored during training. It
            doesn't adapt to your picture.""",
        ),
    ),
)
q2_2 = Question(
    "2.2",
    "Why does the new head get a learning rate ten times that of the rest?",
    (
        Option(
            "Because it has more parameters than each of the layers that were copied before it.",
            """It has few: two rows of features. The number of parameters says nothing about how
            far each has to go.""",
        ),
        Option(
            "Because it starts at random and has far to go, while the rest is nearly right.",
            """Yes. Small steps keep what the body knows; the head would need many such steps to
            get anywhere.""",
            right=True,
        ),
        Option(
            "Because gradients get smaller on the way from the first layer to the last one.",
            """They come from there: the last layer is the first that the gradient reaches. What
            vanishes does so towards the input.""",
        ),
        Option(
            "Because ten is the best factor.",
            """Ten is a habit that often works, no law. The chapter tries other factors, with the
            same number of runs for each.""",
        ),
    ),
)
q2_3 = Question(
    "2.3",
    """
    You set `requires_grad = False` for the whole body and train the head with `model.train()` on.
    What of the body moves?
    """,
    (
        Option(
            "Nothing: that is what freezing a layer means.",
            "It is what freezing should mean. `requires_grad` speaks of gradients only.",
        ),
        Option(
            "The weights of BatchNorm.",
            """Its weight and bias are parameters like others. Without gradient, the optimizer
            leaves them alone.""",
        ),
        Option(
            "The running means and variances of BatchNorm.",
            """They are buffers, updated in each forward pass in training mode, without any
            gradient. So the "frozen" body answers the same picture in another way at the end.""",
            right=True,
        ),
    ),
)
q2_4 = Question(
    "2.4",
    """
    You swap the sum of the losses for their mean and keep the learning rate. With which optimizer
    do you notice least?
    """,
    (
        Option(
            "SGD",
            "Its step is rate times gradient: smaller by the whole batch size.",
        ),
        Option(
            "SGD with momentum",
            "Momentum adds up gradients. If each is smaller, so is their sum.",
        ),
        Option(
            "Adam",
            """It divides the gradient by a running estimate of its size. A constant factor is in
            both and cancels; only the tiny eps remains.""",
            right=True,
        ),
    ),
)
q2_5 = Question(
    "2.5",
    """
    The test accuracy is 0.92 with everything frozen but the head, 0.93 with everything fine-tuned.
    One run each, 800 test pictures. Which is better on new pictures?
    """,
    (
        Option(
            "Fine-tuning everything, by about one point.",
            """On 800 pictures, chance alone moves such an accuracy by about two points either way,
            and another seed moves it again.""",
        ),
        Option(
            "That can't be told from these two numbers.",
            """Right: the difference is smaller than what chance does. Several seeds, and an
            interval for the difference, would tell.""",
            right=True,
        ),
        Option(
            "Neither: a difference of one point is none.",
            "Not having seen a difference isn't having seen that there is none.",
        ),
    ),
)

EXERCISES = (ex2_1, ex2_2, ex2_3, ex2_4, ex2_5, ex2_6, ex2_7)
QUESTIONS = (q2_1, q2_2, q2_3, q2_4, q2_5)
