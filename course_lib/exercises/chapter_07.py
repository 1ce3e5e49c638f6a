"""Exercises and questions of chapter 07: two hops."""

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
    passed,
    returned,
)

# --- 7.1 ------------------------------------------------------------------------------------------


def _judge_outputs(answer: Any) -> Verdict:
    for train_labels, test_labels, expected in (
        ([0, 1, 2, 3], [3, 2, 1, 0], 4),
        ([0, 2, 5, 2], [1, 3], 6),
        ([0, 1], [0, 7], 8),
    ):
        found = number(answer(list(train_labels), list(test_labels)), "a number")
        if close(found, expected):
            continue
        labels = train_labels + test_labels
        if close(found, len(set(labels))):
            return mistake("counted")
        if close(found, max(labels)):
            return mistake("largest")
        if close(found, max(train_labels) + 1):
            return mistake("train_only")
        return not_yet(f"For the labels {train_labels} and {test_labels} it gives {found:g}.")
    return passed("The largest label is the last output, and counting begins at 0.")


ex7_1 = Exercise(
    "7.1",
    "How many outputs",
    minutes=4,
    question="""
        Labels are whole numbers from 0. Return the smallest number of outputs with which neither
        the training nor the test labels raise an IndexError. Some classes may have no picture.
    """,
    answer="outputs_for",
    stub="""
def outputs_for(train_labels, test_labels):
    return ...
""",
    solution="""
def outputs_for(train_labels, test_labels):
    return max([*train_labels, *test_labels]) + 1
""",
    why="""
        Output `i` belongs to label `i`, so the largest label decides, plus one since counting
        begins at 0. Better still is a list of class names that comes with the data.
    """,
    hints=(
        "Which output does the label 99 need? How many outputs are there then?",
        "A class without a picture still has its number.",
        "The largest of all labels, plus one.",
    ),
    wrongs=(
        Wrong(
            "counted",
            """
def outputs_for(train_labels, test_labels):
    return len(set(train_labels) | set(test_labels))
""",
            """You counted the classes that occur. With labels 0, 2 and 5 that is three, and label 5
            needs output 5.""",
        ),
        Wrong(
            "largest",
            """
def outputs_for(train_labels, test_labels):
    return max(max(train_labels), max(test_labels))
""",
            """One too few: the outputs are numbered from 0, so label 3 is the fourth output.""",
        ),
        Wrong(
            "train_only",
            """
def outputs_for(train_labels, test_labels):
    return max(train_labels) + 1
""",
            """A class may have no training picture and still turn up in the test part, and raise
            the error there.""",
        ),
    ),
    judge=_judge_outputs,
)

# --- 7.2 ------------------------------------------------------------------------------------------


def _judge_features(answer: Any) -> Verdict:
    first, (images, _) = SmallResNet(classes=10), pictures(6)
    before = copied_tensors(first)
    second = returned(answer(first, 4), nn.Module, "a model")
    if second is first or isinstance(first.fc, nn.Identity) or first.fc.out_features != 10:
        return mistake("spoiled")
    if moved(before, first):
        return not_yet("The first network's weights are not what they were.")
    seen: list[tuple[int, ...]] = []
    layers = [each for each in second.modules() if isinstance(each, nn.Linear)]
    new = [each for each in layers if each.out_features == 4]
    if len(new) != 1:
        return not_yet(f"Expected one layer with 4 outputs; there are {len(new)}.")
    new[0].register_forward_hook(lambda _, inputs, __: seen.append(tuple(inputs[0].shape)))
    with torch.no_grad():
        scores = second.eval()(images)
    if tuple(scores.shape) != (6, 4):
        return not_yet(f"The scores of 6 pictures have shape {tuple(scores.shape)}, not (6, 4).")
    if seen and seen[0][1] == 10:
        return mistake("on_logits")
    if not seen or seen[0][1] != FEATURES:
        return not_yet("The new layer doesn't see the network's features.")
    own = {each.data_ptr() for each in first.parameters()}
    if any(each.data_ptr() in own for each in second.parameters()):
        return mistake("shared")
    return passed("The new head sees what the old one saw, and the first network is whole.")


ex7_2 = Exercise(
    "7.2",
    "On the features, not on the logits",
    minutes=7,
    question="""
        `first` is a small ResNet with a head `fc`. Return a second network: the same body with the
        same weights, and a new head for `classes` classes that sees the *features*. `first` must
        keep its head, and share no weight with the second. The code below puts the new layer on the
        old scores, and shares everything. Fix it.
    """,
    answer="second_network",
    stub="""
def second_network(first, classes):
    return nn.Sequential(first, nn.Linear(first.fc.out_features, classes))
""",
    solution="""
def second_network(first, classes):
    second = copy.deepcopy(first)
    second.fc = nn.Linear(first.fc.in_features, classes)
    return second
""",
    why="""
        `first.fc.in_features` numbers enter the old head: the new one takes its place. The copy
        comes first, since assigning to `first.fc` would take the first network's head away, and
        without a copy the second hop would train the first network too.
    """,
    hints=(
        "The new head takes the old one's place: `model.fc = ...`. How many inputs has it?",
        "If you assign to `first.fc`, what is left of the first task?",
        "`copy.deepcopy(first)` before you change anything.",
    ),
    wrongs=(
        Wrong(
            "on_logits",
            """
def second_network(first, classes):
    return nn.Sequential(copy.deepcopy(first), nn.Linear(10, classes))
""",
            """The new layer sees the 10 old scores. What the old head didn't ask for is gone by
            then. Put the new layer in the place of `fc`.""",
        ),
        Wrong(
            "spoiled",
            """
def second_network(first, classes):
    first.fc = nn.Linear(first.fc.in_features, classes)
    return first
""",
            """The head is in its place, but it is the first network's: its own head is gone, and
            with it the first task. Work on a copy.""",
        ),
        Wrong(
            "shared",
            """
def second_network(first, classes):
    second = copy.copy(first)
    second._modules = dict(first._modules)
    second.fc = nn.Linear(first.fc.in_features, classes)
    return second
""",
            """Both networks share the body's weights: train the second, and the first moves along.
            A shallow copy copies names, not tensors.""",
        ),
    ),
    judge=_judge_features,
)

# --- 7.3 ------------------------------------------------------------------------------------------


def _judge_frozen(answer: Any) -> Verdict:
    model, batch = SmallResNet(classes=4), pictures(6, classes=4)
    answer(model)
    before = copied_tensors(model)
    chosen = [each for each in model.parameters() if each.requires_grad]
    if not chosen:
        return not_yet("Nothing requires a gradient: the head should train.")
    optimizer = torch.optim.SGD(chosen, lr=0.1, momentum=0.9)
    for _ in range(2):  # as a loop does: training mode in each epoch
        model.train()
        train(model, optimizer, batch)
    changed = moved(before, model)
    head = of_layer(before, "fc")
    buffers = {name for name, _ in model.named_buffers()}
    if changed == head:
        return passed("Only the head moved, through two epochs of `model.train()`.")
    if head - changed:
        return not_yet(f"{listed(head - changed)} should have moved.")
    if changed - head <= buffers:
        return mistake("flags_only")
    if of_layer(changed, "gate_fc"):
        return mistake("by_ending")
    return not_yet(f"{listed(changed - head)} moved.")


ex7_3 = Exercise(
    "7.3",
    "Frozen means buffers too",
    minutes=6,
    question="""
        Freeze everything but the head `fc`, so that two epochs of a loop that calls `model.train()`
        move nothing else: no weight, and no statistic of BatchNorm. The code below lets six
        buffers move. You may use `freezing`.
    """,
    answer="freeze_body",
    preamble="import torch\nfrom torch import nn\n\nfrom course_lib import freezing\n",
    stub="""
def freeze_body(model):
    for name, parameter in model.named_parameters():
        parameter.requires_grad = name.startswith("fc.")
""",
    solution="""
def freeze_body(model):
    freezing.freeze(model, [name for name, _ in model.named_children() if name != "fc"])
""",
    why="""
        `requires_grad` speaks of parameters. The statistics are buffers, and move in every pass in
        training mode. `freezing.freeze` holds both, and keeps the modules in evaluation mode
        through `model.train()`. A layer's `eval()` alone lasts until the loop's next epoch.
    """,
    hints=(
        "Which tensors of a BatchNorm layer are no parameters?",
        "`model.train()` sets all layers to training mode again. What survives it?",
        "`freezing.freeze(model, names)` with the names of all children but `fc`.",
    ),
    wrongs=(
        Wrong(
            "flags_only",
            """
def freeze_body(model):
    model.requires_grad_(False)
    model.eval()
    model.fc.requires_grad_(True)
""",
            """The weights stay, and BatchNorm's statistics moved: `eval()` was undone by the loop's
            `model.train()`.""",
        ),
        Wrong(
            "by_ending",
            """
def freeze_body(model):
    freezing.freeze(model, ["conv1", "bn1", "conv2", "bn2"])
""",
            """`gate_fc` moved. It ends like the head's name but lies in the body; name all children
            but `fc`, so that none is forgotten.""",
        ),
    ),
    judge=_judge_frozen,
)

# --- 7.4 ------------------------------------------------------------------------------------------


def _judge_old_examples(answer: Any) -> Verdict:
    body, old_head, new_head = nn.Linear(4, 3), nn.Linear(3, 5), nn.Linear(3, 2)
    new = torch.randn(8, 4), torch.arange(8) % 2
    old = torch.randn(3, 4), torch.tensor([4, 0, 3])
    entropy = nn.functional.cross_entropy
    a = entropy(new_head(body(new[0])), new[1]).item()
    b = entropy(old_head(body(old[0])), old[1]).item()
    loss = answer(body, old_head, new_head, new, old)
    found = number(loss, "a number")
    if close(found, a):
        return mistake("new_only")
    weighted = (8 * a + 3 * b) / 11
    if close(found, weighted):
        return mistake("pooled")
    if not close(found, a + b):
        return not_yet(f"Expected the sum of both mean losses, {a + b:.4f}; it is {found:.4f}.")
    if not isinstance(loss, torch.Tensor) or not loss.requires_grad:
        return not_yet("Keep the loss a tensor, so that gradients flow.")
    loss.backward()
    with_old = body.weight.grad
    alone = torch.autograd.grad(entropy(new_head(body(new[0])), new[1]), body.weight)[0]
    if with_old is None or torch.allclose(with_old, alone):
        return mistake("no_gradient")
    return passed("Both tasks pull at the body, each through its own head.")


ex7_4 = Exercise(
    "7.4",
    "A few old examples",
    minutes=7,
    question="""
        So that the first task isn't forgotten, each step of the second one also sees a few old
        examples. `new` and `old` are pairs of inputs and labels. Return the loss: the mean
        cross-entropy of the new ones, through the new head, *plus* that of the old ones, through
        the old head.
    """,
    answer="joint_loss",
    stub="""
def joint_loss(body, old_head, new_head, new, old):
    of_new = nn.functional.cross_entropy(new_head(body(new[0])), new[1])
    return of_new + ...
""",
    solution="""
def joint_loss(body, old_head, new_head, new, old):
    of_new = nn.functional.cross_entropy(new_head(body(new[0])), new[1])
    of_old = nn.functional.cross_entropy(old_head(body(old[0])), old[1])
    return of_new + of_old
""",
    why="""
        The body has to serve both heads, so it gets the gradients of both. Each loss is a mean over
        its own examples: three old ones then count as much as eight new ones.
    """,
    hints=(
        "The old examples go through the same body, then through which head?",
        "Two means, added. No gradient may be cut off.",
    ),
    wrongs=(
        Wrong(
            "new_only",
            """
def joint_loss(body, old_head, new_head, new, old):
    return nn.functional.cross_entropy(new_head(body(new[0])), new[1])
""",
            """The old examples have no say: this is the loss of the second task alone.""",
        ),
        Wrong(
            "pooled",
            """
def joint_loss(body, old_head, new_head, new, old):
    entropy = nn.functional.cross_entropy
    of_new = entropy(new_head(body(new[0])), new[1], reduction="sum")
    of_old = entropy(old_head(body(old[0])), old[1], reduction="sum")
    return (of_new + of_old) / (len(new[1]) + len(old[1]))
""",
            """This is one mean over all examples, in which the few old ones hardly count. Add the
            two means.""",
        ),
        Wrong(
            "no_gradient",
            """
def joint_loss(body, old_head, new_head, new, old):
    of_new = nn.functional.cross_entropy(new_head(body(new[0])), new[1])
    with torch.no_grad():
        of_old = nn.functional.cross_entropy(old_head(body(old[0])), old[1])
    return of_new + of_old
""",
            """The number is right, but the old examples' part has no gradient: the body is free to
            forget.""",
        ),
    ),
    judge=_judge_old_examples,
)

# --- 7.5 ------------------------------------------------------------------------------------------


def _judge_average(answer: Any) -> Verdict:
    start, end = SmallResNet(4), SmallResNet(4)
    with torch.no_grad():
        state = end.state_dict()  # the model's own tensors
        state["bn1.num_batches_tracked"].fill_(7)
        state["bn1.running_mean"].fill_(1.0)
    kept = copied_tensors(start), copied_tensors(end)
    state = returned(answer(start, end, 0.25), dict, "a dictionary of tensors")
    if moved(kept[0], start) or moved(kept[1], end):
        return mistake("in_place")
    if set(state) != set(kept[0]):
        return not_yet("The names are not those of the model's state dict.")
    weight = "conv1.weight"
    expected = kept[0][weight] + 0.25 * (kept[1][weight] - kept[0][weight])
    turned = kept[1][weight] + 0.25 * (kept[0][weight] - kept[1][weight])
    if torch.allclose(state[weight], turned, atol=1e-6):
        return mistake("turned")
    if not torch.allclose(state[weight], expected, atol=1e-6):
        return not_yet("`conv1.weight` isn't a quarter of the way from start to end.")
    if not torch.allclose(state["bn1.running_mean"], torch.full((FEATURES,), 0.25), atol=1e-6):
        return mistake("weights_only")
    if state["bn1.num_batches_tracked"].is_floating_point():
        return not_yet("`num_batches_tracked` counts: keep it a whole number.")
    SmallResNet(4).load_state_dict(state)
    return passed("A quarter of the way, statistics included, and both networks are whole.")


ex7_5 = Exercise(
    "7.5",
    "A part of the way",
    minutes=8,
    question="""
        `start` and `end` are two networks of one architecture. Return a state dict that lies a part
        `share` of the way from start (0) to end (1), BatchNorm's running statistics too. Whole
        numbers such as `num_batches_tracked` are taken from `end`. The two networks stay as they
        are; the code below changes `start`. Fix it.
    """,
    answer="part_of_the_way",
    stub="""
def part_of_the_way(start, end, share):
    state, goal = start.state_dict(), end.state_dict()
    for name in state:
        if state[name].is_floating_point():
            state[name] += share * (goal[name] - state[name])
    return dict(state)
""",
    solution="""
def part_of_the_way(start, end, share):
    begin, goal = start.state_dict(), end.state_dict()
    return {
        name: begin[name] + share * (goal[name] - begin[name])
        if goal[name].is_floating_point()
        else goal[name].clone()
        for name in goal
    }
""",
    why="""
        The tensors of a state dict are the model's own, so `+=` writes into the model. A sum makes
        a new tensor. This is WiSE-FT: one more evaluation for each share, and no more training.
    """,
    hints=(
        "Whose memory is `start.state_dict()`?",
        "`a + b` makes a new tensor; `a += b` writes into `a`.",
        "At `share = 0` the result is `start`, at 1 it is `end`.",
    ),
    wrongs=(
        Wrong(
            "in_place",
            """
def part_of_the_way(start, end, share):
    state, goal = start.state_dict(), end.state_dict()
    for name in state:
        if state[name].is_floating_point():
            state[name].lerp_(goal[name], share)
    return dict(state)
""",
            """The result is right, but one of the two networks moved with it: a state dict doesn't
            copy. Make new tensors.""",
        ),
        Wrong(
            "turned",
            """
def part_of_the_way(start, end, share):
    begin, goal = start.state_dict(), end.state_dict()
    return {
        name: goal[name] + share * (begin[name] - goal[name])
        if goal[name].is_floating_point()
        else goal[name].clone()
        for name in goal
    }
""",
            """It goes from end to start. With `share = 0` the result should be the start, the
            network before the second task.""",
        ),
        Wrong(
            "weights_only",
            """
def part_of_the_way(start, end, share):
    state = copy.deepcopy(end.state_dict())
    begin = dict(start.named_parameters())
    for name, goal in end.named_parameters():
        state[name] = (begin[name] + share * (goal - begin[name])).detach()
    return dict(state)
""",
            """Weights are averaged and running statistics are not: BatchNorm then normalises by the
            end's numbers what other weights computed.""",
        ),
    ),
    judge=_judge_average,
)

# --- 7.6 ------------------------------------------------------------------------------------------


class _Bodies:
    """Two bodies that give the class away by dropout-free features; the second mixes up one."""

    def __init__(self) -> None:
        self.targets = torch.arange(8) % 4
        self.images = torch.eye(4)[self.targets]
        self.before = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Dropout(0.9))
        self.after = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Dropout(0.9))
        self.head = nn.Linear(4, 4, bias=False)
        with torch.no_grad():
            for part in (self.before, self.after, self.head):
                next(part.parameters()).copy_(torch.eye(4))
            next(self.after.parameters())[:, 3] = torch.tensor([1.0, 0, 0, 0])


def _judge_forgotten(answer: Any) -> Verdict:
    bodies = _Bodies()
    bodies.before.train(), bodies.after.train()
    found = number(
        answer(bodies.before, bodies.after, bodies.head, bodies.images, bodies.targets), "a number"
    )
    if close(found, 0.25):
        return passed("From 1.00 to 0.75, with dropout off: a quarter is forgotten.")
    if close(found, -0.25):
        return mistake("sign")
    if close(found, 0.75) and not bodies.after.training:
        return mistake("what_is_left")
    if bodies.before.training or bodies.after.training:
        return mistake("training_mode")
    return not_yet(f"It is {found:.2f}; by hand, accuracy fell from 1.00 to 0.75.")


ex7_6 = Exercise(
    "7.6",
    "How much is forgotten",
    minutes=6,
    question="""
        Return how much accuracy the first task has lost: that of `old_head` on the body as it was,
        minus that of the same head on the body as it is now. The bodies come in training mode, with
        dropout.
    """,
    answer="forgotten",
    stub="""
def forgotten(body_before, body_now, old_head, images, targets):
    def share_right(body):
        return ...

    return share_right(body_before) - share_right(body_now)
""",
    solution="""
def forgotten(body_before, body_now, old_head, images, targets):
    def share_right(body):
        with torch.no_grad():
            scores = old_head(body.eval()(images))
        return (scores.argmax(dim=1) == targets).double().mean().item()

    return share_right(body_before) - share_right(body_now)
""",
    why="""
        The same head on both bodies, in evaluation mode: the difference is the body's alone. A head
        trained anew would measure how well the task can be learned again, which is something else.
    """,
    hints=(
        "In which mode must a network be when it is measured?",
        "`body.eval()`, then `old_head(body(images)).argmax(dim=1)`.",
        "Forgetting is positive when the accuracy has fallen.",
    ),
    wrongs=(
        Wrong(
            "sign",
            """
def forgotten(body_before, body_now, old_head, images, targets):
    def share_right(body):
        scores = old_head(body.eval()(images))
        return (scores.argmax(dim=1) == targets).double().mean().item()

    return share_right(body_now) - share_right(body_before)
""",
            """The sign is turned: this is what was gained. Before minus now.""",
        ),
        Wrong(
            "what_is_left",
            """
def forgotten(body_before, body_now, old_head, images, targets):
    scores = old_head(body_now.eval()(images))
    return (scores.argmax(dim=1) == targets).double().mean().item()
""",
            """This is what is left, not what was lost: it says nothing without the accuracy that
            there was before.""",
        ),
        Wrong(
            "training_mode",
            """
def forgotten(body_before, body_now, old_head, images, targets):
    def share_right(body):
        scores = old_head(body(images))
        return (scores.argmax(dim=1) == targets).double().mean().item()

    return share_right(body_before) - share_right(body_now)
""",
            """The bodies were measured in training mode, where dropout throws features away: the
            number is chance. Call `eval()` first.""",
        ),
    ),
    judge=_judge_forgotten,
)

# --- questions ------------------------------------------------------------------------------------

q7_1 = Question(
    "7.1",
    "A new linear layer stands on the ten scores of the first task. What is lost?",
    (
        Option(
            "Nothing: the ten scores are made of the features, all of them.",
            "They are ten weighted sums of them. 512 numbers can't be had back from ten.",
        ),
        Option(
            "Speed: the new layer has more weights.",
            "It has fewer. A step takes about as long; the body is the costly part.",
        ),
        Option(
            "What the features say and the ten old classes didn't ask for.",
            """Each score is one direction in the space of features. What lies in no such direction
            never reaches the new layer.""",
            right=True,
        ),
    ),
)
q7_2 = Question(
    "7.2",
    "Somebody reports: direct 0.85, two hops 0.88. What do you ask first?",
    (
        Option(
            "Whether both had the same pictures of the second task, tuning and head; and the "
            "interval.",
            """A hop's gain is a difference, and it means something only if the rest is equal. Three
            points may be one draw of pictures.""",
            right=True,
        ),
        Option(
            "Which optimizer and which rate the second hop used, and for how many epochs it "
            "was trained.",
            "Of use, if it was the same for both. It doesn't tell if the difference is real.",
        ),
        Option(
            "Whether the training accuracy rose as well.",
            "Training accuracy says little about a frozen body's worth for new pictures.",
        ),
    ),
)
q7_3 = Question(
    "7.3",
    "You want to know what the body has forgotten of the first task. What do you put on it?",
    (
        Option(
            "A new head, trained on the first task.",
            "That measures how well the task can be learned again, not what is still there.",
        ),
        Option(
            "The old head, as it was.",
            "Nothing but the body has changed then, so the fall in accuracy is the body's.",
            right=True,
        ),
        Option(
            "The head of the second task.",
            "It tells other classes apart, so it can't be right about these.",
        ),
        Option(
            "No head: compare the weights.",
            "How far weights moved isn't what they do; a long way may forget nothing.",
        ),
    ),
)
q7_4 = Question(
    "7.4",
    "Why can the weights before and after fine-tuning be averaged, and not those of any networks?",
    (
        Option(
            "Because averaging makes any weights smoother.",
            "The mean of two networks that were trained apart usually does no task at all.",
        ),
        Option(
            "Because fine-tuning doesn't change the weights.",
            "It does; the chapter's second task depends on it.",
        ),
        Option(
            "Because both have the same number of parameters.",
            "So have two networks trained apart, and their mean fails.",
        ),
        Option(
            "Because both come from the same start, so that a weight plays the same part in each.",
            """Networks trained apart have their channels in another order; the mean of two channels
            that mean different things means nothing.""",
            right=True,
        ),
    ),
)

EXERCISES = (ex7_1, ex7_2, ex7_3, ex7_4, ex7_5, ex7_6)
QUESTIONS = (q7_1, q7_2, q7_3, q7_4)
