"""Exercises and questions of chapter 01: what pretrained weights know, and when they help."""

import copy
from collections import OrderedDict
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from course_lib.evidence.statistics import paired_interval
from course_lib.exercises.core import PREAMBLE, Exercise, Wrong
from course_lib.exercises.models import SmallResNet, copied_tensors, listed, moved
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

# --- 1.1 ------------------------------------------------------------------------------------------

WORDS = ("scratch", "fine-tune", "freeze")


def _judge_words(answer: Any) -> Verdict:
    given = returned(answer, (list, tuple), "a list of three words")
    said = tuple(str(each).strip().lower() for each in given)
    if len(said) != 3 or not set(said) <= set(WORDS):
        return not_yet('Write three of the words "scratch", "fine-tune" and "freeze" in a list.')
    if said == ("fine-tune", "freeze", "scratch"):
        return passed(
            "The start tells scratch from the rest; what moved tells the other two apart."
        )
    if said == ("freeze", "fine-tune", "scratch"):
        return mistake("swapped")
    if said == ("fine-tune", "fine-tune", "scratch"):
        return mistake("all_fine")
    return not_yet("Not all three. Ask of each run: where did the body's weights come from?")


ex1_1 = Exercise(
    "1.1",
    "Three words",
    minutes=2,
    question="""
        Three networks have been trained. Say of each what was done: "scratch", "fine-tune" or
        "freeze".

        - First: the body was copied from an ImageNet network and the head was new. Afterwards every
          layer differs from what it was at the start.
        - Second: the body was copied from an ImageNet network and the head was new. Afterwards only
          the head differs from what it was at the start.
        - Third: all weights were drawn at random. Afterwards every layer differs from what it was.
    """,
    answer="words",
    stub="""
words = [..., ..., ...]
""",
    solution="""
words = ["fine-tune", "freeze", "scratch"]
""",
    why="""
        Two questions are enough. Where did the weights come from: drawn, or copied? And did the
        copied ones move? Fine-tuning and freezing start from the same place.
    """,
    hints=(
        "Ask first where the weights of the body came from.",
        "Two of the three start alike. Which of their layers moved?",
    ),
    wrongs=(
        Wrong(
            "swapped",
            """
words = ["freeze", "fine-tune", "scratch"]
""",
            """You have the first two the other way round. Frozen means: it stays. Fine-tuned means:
            it was copied, and then it moved.""",
        ),
        Wrong(
            "all_fine",
            """
words = ["fine-tune", "fine-tune", "scratch"]
""",
            """Two runs start from copied weights, and both are transfer learning. But in the second
            the copied part did not move: nothing in it was tuned.""",
        ),
    ),
    judge=_judge_words,
    function=False,
)

# --- 1.2 ------------------------------------------------------------------------------------------


def _judge_count(answer: Any) -> Verdict:
    def with_two_heads() -> SmallResNet:
        model = SmallResNet(classes=3)
        model.add_module("fc_more", nn.Linear(3, 2))  # its name begins with another's
        return model

    children = [name for name, _ in with_two_heads().named_children()]
    for frozen in (["conv1", "bn1"], ["fc"], [], children[:-1]):
        model = with_two_heads()
        before = copied_tensors(model)
        mine = number(answer(model, frozen), "a whole number")
        if moved(before, model) or not all(each.requires_grad for each in model.parameters()):
            return not_yet("Only count: the model should be what it was, flags included.")
        named = list(model.named_parameters())
        learning = [each for name, each in named if name.split(".")[0] not in frozen]
        held = [each for name, each in named if name.split(".")[0] in frozen]
        if close(mine, sum(each.numel() for each in learning)):
            continue
        if close(mine, len(learning)):
            return mistake("tensors")
        if close(mine, sum(each.numel() for each in held)):
            return mistake("the_frozen")
        if close(mine, sum(each.numel() for _, each in named)):
            return mistake("flags")
        rest = [each for n, each in before.items() if n.split(".")[0] not in frozen]
        if close(mine, sum(each.numel() for each in rest)):
            return mistake("buffers")
        if frozen == ["fc"]:
            return mistake("substring")
        return not_yet(f"With {frozen} frozen, {mine:g} is not how many numbers learn.")
    return passed(
        "With only the head left, it is a few numbers of many. That is why few pictures will do."
    )


ex1_2 = Exercise(
    "1.2",
    "How many numbers learn?",
    minutes=4,
    question="""
        You get a model and the names of those of its direct children that are frozen. Return how
        many numbers are left to learn: those of all parameters that belong to no frozen child.
        Count, and change nothing.
    """,
    answer="numbers_that_learn",
    stub="""
def numbers_that_learn(model, frozen):
    return ...
""",
    solution="""
def numbers_that_learn(model, frozen):
    learning = [child for name, child in model.named_children() if name not in frozen]
    return sum(p.numel() for child in learning for p in child.parameters())
""",
    why="""
        A parameter is a tensor, and `numel()` is how many numbers it holds. BatchNorm's running
        mean and variance are no parameters: no gradient reaches them.
    """,
    hints=(
        "`model.named_children()` gives pairs of name and child.",
        "`child.parameters()` gives its tensors; `tensor.numel()` how many numbers are in one.",
        "Add them up for each child whose name isn't in the list.",
    ),
    wrongs=(
        Wrong(
            "tensors",
            """
def numbers_that_learn(model, frozen):
    return len([1 for n, c in model.named_children() if n not in frozen for p in c.parameters()])
""",
            """That is how many tensors learn. A tensor holds many numbers, and they are what has to
            be found from your pictures: ask each for `numel()`.""",
        ),
        Wrong(
            "the_frozen",
            """
def numbers_that_learn(model, frozen):
    frozen = [child for name, child in model.named_children() if name in frozen]
    return sum(p.numel() for child in frozen for p in child.parameters())
""",
            """That is how many numbers are frozen. Asked is the other part: those that learn.""",
        ),
        Wrong(
            "flags",
            """
def numbers_that_learn(model, frozen):
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
""",
            """That is how many numbers the whole model has: nothing was left out. No flag is set
            here; and a name in `frozen`, such as "conv1", is that of a child, while its parameters
            are called `conv1.weight` and so on. Go by the children.""",
        ),
        Wrong(
            "buffers",
            """
def numbers_that_learn(model, frozen):
    return sum(t.numel() for n, t in model.state_dict().items() if n.split(".")[0] not in frozen)
""",
            """A state dict holds more than parameters: BatchNorm's running mean, its variance and
            its counter are in it too, and no gradient ever reaches those.""",
        ),
        Wrong(
            "substring",
            """
def numbers_that_learn(model, frozen):
    return sum(
        p.numel() for name, p in model.named_parameters() if not any(f in name for f in frozen)
    )
""",
            """With "fc" frozen you leave out too much: `"fc" in name` is true for `gate_fc.weight`
            as well, and `fc_more.weight` begins with it. Compare whole names, not pieces.""",
        ),
    ),
    judge=_judge_count,
)

# --- 1.3 ------------------------------------------------------------------------------------------


def _judge_like_source(answer: Any) -> Verdict:
    shapes = torch.rand(40, 1, 8, 8)
    target = 0.3 * shapes * torch.linspace(0.2, 1.0, 40).reshape(-1, 1, 1, 1) + 0.55
    target[0] = 0.55
    before, mean, std = target.clone(), 0.31, 0.38
    mine = numbers(answer(target, mean, std), target.shape, "pictures").float()
    if not torch.equal(before, target):
        return not_yet("You changed the pictures that came in. Return new ones.")

    def near(other: Tensor) -> bool:
        return bool((mine - other).abs().max() < 2e-3)

    standard = (target - target.mean()) / target.std()
    if near(standard * std + mean):
        return passed(
            "No label was needed, and the target's pictures now have the numbers that the "
            "network knows."
        )
    if near((target - mean) / std):
        return mistake("by_source")
    if near(target - target.mean() + mean):
        return mistake("mean_only")
    if near(standard):
        return mistake("half_way")
    each = (1, 2, 3)
    alone = target - target.mean(each, keepdim=True)
    if mine.isnan().any() or near(alone / (target.std(each, keepdim=True) + 1e-8) * std + mean):
        return mistake("each_alone")
    if abs(mine.mean() - mean) < 0.005 and abs(mine.std() - std) < 0.005:
        return not_yet(
            "Mean and standard deviation are right, but not by one shift and one factor for all "
            "pixels of all pictures: what is bright beside what has changed."
        )
    return not_yet(
        f"Together your pictures have mean {mine.mean():.2f} and standard deviation "
        f"{mine.std():.2f}; wanted are {mean} and {std}, by one shift and one factor for all."
    )


ex1_3 = Exercise(
    "1.3",
    "Other pictures, no labels",
    minutes=6,
    question="""
        A network was trained on pictures whose pixels have the mean `source_mean` and the standard
        deviation `source_std`. You get target pictures of shape (N, 1, H, W) from a paler camera,
        without labels. Return them shifted and scaled, all by the same two numbers, so that
        together they have the source's mean and standard deviation.
    """,
    answer="like_source",
    stub="""
def like_source(pictures, source_mean, source_std):
    return ...
""",
    solution="""
def like_source(pictures, source_mean, source_std):
    standard = (pictures - pictures.mean()) / pictures.std()
    return standard * source_std + source_mean
""",
    why="""
        First take away what is special about the target's numbers, then put in what is special
        about the source's. This needs pictures of the target and no label: a small case of
        transductive transfer. It helps when the difference is a shift and a factor, and in no
        other case.
    """,
    hints=(
        "Make the mean 0 and the standard deviation 1 first, with the target's own numbers.",
        "`pictures.mean()` and `pictures.std()` run over all pictures and pixels.",
        "Then multiply by the source's standard deviation and add the source's mean.",
    ),
    wrongs=(
        Wrong(
            "by_source",
            """
def like_source(pictures, source_mean, source_std):
    return (pictures - source_mean) / source_std
""",
            """That normalises by the source's numbers. The target's pictures have others, and the
            difference stays. Take away the target's own mean and divide by its own deviation
            first.""",
        ),
        Wrong(
            "mean_only",
            """
def like_source(pictures, source_mean, source_std):
    return pictures + (source_mean - pictures.mean())
""",
            """The brightness is right now, the contrast isn't: the standard deviation is still that
            of the target.""",
        ),
        Wrong(
            "half_way",
            """
def like_source(pictures, source_mean, source_std):
    return (pictures - pictures.mean()) / pictures.std()
""",
            """The pictures have mean 0 and deviation 1 now. The network was trained on other
            numbers: bring them there.""",
        ),
        Wrong(
            "each_alone",
            """
def like_source(pictures, source_mean, source_std):
    mean = pictures.mean(dim=(1, 2, 3), keepdim=True)
    std = pictures.std(dim=(1, 2, 3), keepdim=True)
    return (pictures - mean) / std * source_std + source_mean
""",
            """You treat each picture by itself. A pale picture then looks like a strong one, and a
            blank one is divided by zero. Asked are two numbers for all of them.""",
        ),
    ),
    judge=_judge_like_source,
)

# --- 1.4 ------------------------------------------------------------------------------------------


def _judge_distance(answer: Any) -> Verdict:
    torch.manual_seed(1)
    model = SmallResNet(classes=3)
    before = {name: each.detach().clone() for name, each in model.named_parameters()}
    before["fc_more.weight"] = torch.randn(2, 3)  # its name begins with another's
    after = {name: each + 0.1 * torch.randn_like(each) for name, each in before.items()}
    after["bn1.weight"] = before["bn1.weight"].clone()
    kept = copy.deepcopy((before, after))
    found = returned(answer(before, after), dict, "a dictionary from part to number")
    if any(not torch.equal(kept[0][n], before[n]) for n in before):
        return not_yet("You changed the tensors that came in.")
    parts = list(dict.fromkeys(name.split(".")[0] for name in before))
    if set(found) != set(parts):
        return not_yet(f"The parts are {', '.join(parts)}: what stands before the first dot.")
    of = {part: [name for name in before if name.split(".")[0] == part] for part in parts}

    def like(rule: Any) -> bool:
        return all(close(number(found[p], "a number"), rule(of[p]), 1e-3) for p in parts)

    def moved_by(names: Sequence[str]) -> Tensor:
        return torch.cat([(after[n] - before[n]).flatten() for n in names]).norm()

    def length(names: Sequence[str]) -> Tensor:
        return torch.cat([before[n].flatten() for n in names]).norm()

    def of_whole(part: str) -> Tensor:
        return moved_by(of[part]) / length(of[part])

    if all(close(number(found[p], "a number"), of_whole(p), 1e-3) for p in parts):
        return passed("A share of the length: parts of any size can be compared.")
    if like(moved_by):
        return mistake("absolute")
    if like(lambda ns: torch.stack([moved_by([n]) / length([n]) for n in ns]).mean()):
        return mistake("averaged")
    if like(lambda ns: sum(moved_by([n]) for n in ns) / sum(length([n]) for n in ns)):
        return mistake("norms_added")
    if like(lambda names: (moved_by(names) / length(names)) ** 2):
        return not_yet("These are the squares. Take the root.")
    part = next(p for p in parts if not close(number(found[p], "a number"), of_whole(p), 1e-3))
    return not_yet(
        f"The parts are right. For `{part}` you have {float(found[part]):.3f}; the length of its "
        f"change is {float(moved_by(of[part])):.3f}, its length before "
        f"{float(length(of[part])):.3f}, each over all numbers of {listed(of[part])}."
    )


ex1_4 = Exercise(
    "1.4",
    "How far did each part travel?",
    minutes=8,
    question="""
        You get the parameters of a network before and after fine-tuning, as dictionaries from name
        to tensor. The part of `conv1.weight` is what stands before the first dot: `conv1`. Return a
        dictionary from part to distance: take all numbers of the part as one long vector, and
        divide the length of its change by its length before.
    """,
    answer="travelled",
    stub="""
def travelled(before, after):
    return {...}
""",
    solution="""
def travelled(before, after):
    change, length = {}, {}
    for name, old in before.items():
        part = name.split(".")[0]
        change[part] = change.get(part, 0) + ((after[name] - old) ** 2).sum()
        length[part] = length.get(part, 0) + (old**2).sum()
    return {part: (change[part] / length[part]).sqrt().item() for part in change}
""",
    why="""
        The length of a long vector is the root of the sum of all squares, so squares may be added
        piece by piece, and lengths may not. Dividing by the length before makes a large part and a
        small one comparable.
    """,
    hints=(
        'The part is `name.split(".")[0]`. Several tensors belong to one part.',
        "Add up the squares of the changes of a part, and the squares of its numbers before.",
        "Divide one sum by the other and take the root.",
    ),
    wrongs=(
        Wrong(
            "absolute",
            """
def travelled(before, after):
    squares = {}
    for name in before:
        part = name.split(".")[0]
        squares[part] = squares.get(part, 0) + ((after[name] - before[name]) ** 2).sum()
    return {part: float(s.sqrt()) for part, s in squares.items()}
""",
            """That is the length of the change alone. A part with many numbers then seems to travel
            far. Divide by the part's length before.""",
        ),
        Wrong(
            "averaged",
            """
def travelled(before, after):
    ratios = {}
    for name, old in before.items():
        ratio = (after[name] - old).norm() / old.norm()
        ratios.setdefault(name.split(".")[0], []).append(ratio)
    return {part: float(sum(each) / len(each)) for part, each in ratios.items()}
""",
            """You average over a part's tensors: a bias with six numbers then counts as much as a
            weight with hundreds. Take the numbers of a part as one vector.""",
        ),
        Wrong(
            "norms_added",
            """
def travelled(before, after):
    change, length = {}, {}
    for name, old in before.items():
        part = name.split(".")[0]
        change[part] = change.get(part, 0) + (after[name] - old).norm()
        length[part] = length.get(part, 0) + old.norm()
    return {part: float(change[part] / length[part]) for part in change}
""",
            """Lengths of pieces don't add up to the length of the whole: 3 and 4 give 5. Add the
            squares, and take the root at the end.""",
        ),
    ),
    judge=_judge_distance,
)

# --- 1.5 ------------------------------------------------------------------------------------------

SCRATCH = (0.71, 0.93, 0.82, 0.64, 0.88, 0.77)
CASES: tuple[tuple[tuple[float, ...], str, str], ...] = (
    # Differences by seed, what they say, and which mistake shows here.
    ((0.05, -0.03, 0.06, -0.04, 0.07, -0.02), "open", "mean_only"),
    ((0.011, 0.009, 0.013, 0.010, 0.012, 0.008), "helps", "unpaired"),
    ((0.10, 0.01, 0.02, 0.12), "open", "normal"),
    ((-0.03, -0.02, -0.04, -0.03, -0.02, -0.03), "hurts", "unpaired"),
    ((0.05, 0.02, 0.03, 0.0, 0.06, 0.03), "helps", ""),  # 3.6 standard errors, 1.5 deviations
    ((0.06, 0.0, 0.02, 0.03, 0.0, 0.02), "open", ""),  # 2.4 standard errors, of the 2.6 needed
)


def _judge_verdict(answer: Any) -> Verdict:
    for differences, expected, fault in CASES:
        scratch = list(SCRATCH[: len(differences)])
        transfer = [a + b for a, b in zip(scratch, differences, strict=True)]
        interval = paired_interval(transfer, scratch)
        said = returned(answer(transfer, scratch), str, "one of three words").strip().lower()
        if said not in ("helps", "hurts", "open"):
            return not_yet('Return "helps", "hurts" or "open".')
        if said == expected:
            continue
        if expected != "open" and said != "open":
            return not_yet("You say that it hurts where it helps, or the other way round.")
        if fault and (expected == "open") == (said != "open"):
            return mistake(fault)
        return not_yet(
            f"With the differences {', '.join(f'{each:g}' for each in differences)} the interval "
            f'is {interval.text(3)}: that is "{expected}", and you say "{said}".'
        )
    return passed("In pairs, with an interval, and with a word for not knowing.")


ex1_5 = Exercise(
    "1.5",
    "Did it help?",
    minutes=10,
    question="""
        Two lists of test accuracies, one number a seed, seeds in the same order: with transfer and
        from scratch. In each seed both saw the same pictures. Take the difference in each seed, and
        the 95 % interval of its mean by Student's t. Return "helps" if all of the interval is above
        0, "hurts" if all of it is below, and "open" otherwise. There are as few as four seeds.
    """,
    answer="what_it_says",
    stub="""
def what_it_says(transfer, scratch):
    return ...
""",
    solution="""
from scipy import stats


def what_it_says(transfer, scratch):
    differences = np.array(transfer) - np.array(scratch)
    error = differences.std(ddof=1) / len(differences) ** 0.5
    half = stats.t.ppf(0.975, len(differences) - 1) * error
    if differences.mean() - half > 0:
        return "helps"
    return "hurts" if differences.mean() + half < 0 else "open"
""",
    why="""
        Some seeds draw easy pictures and some draw hard ones; in the difference of a pair that
        drops out. And with four seeds the spread itself is only guessed, so the interval is wider
        than 1.96 standard errors: 3.18 of them. `course_lib.evidence.paired_interval` does it.
    """,
    hints=(
        "Subtract seed by seed first. Then forget the two lists.",
        "The standard error of a mean is the standard deviation (`ddof=1`) over the root of n.",
        "`scipy.stats.t.ppf(0.975, n - 1)` says how many standard errors go to each side.",
    ),
    wrongs=(
        Wrong(
            "mean_only",
            """
def what_it_says(transfer, scratch):
    gain = np.mean(transfer) - np.mean(scratch)
    return "helps" if gain > 0 else "hurts"
""",
            """Two means are never equal, so you always have an answer. With gains in half of the
            seeds and losses in the other half, the honest word is "open".""",
        ),
        Wrong(
            "unpaired",
            """
from scipy import stats


def what_it_says(transfer, scratch):
    low = stats.ttest_ind(transfer, scratch)
    if low.pvalue > 0.05:
        return "open"
    return "helps" if np.mean(transfer) > np.mean(scratch) else "hurts"
""",
            """You compare two heaps of numbers, and the seeds differ so much that a gain in every
            single one is lost in it. Take the difference within each seed.""",
        ),
        Wrong(
            "normal",
            """
def what_it_says(transfer, scratch):
    d = np.array(transfer) - np.array(scratch)
    half = 1.96 * d.std(ddof=1) / len(d) ** 0.5
    return "helps" if d.mean() > half else "hurts" if d.mean() < -half else "open"
""",
            """Four gains, and yet it is open: the interval for four seeds is wider than you take it
            to be. 1.96 standard errors hold when the spread is known; here it is guessed from four
            numbers. Use Student's t with n - 1 degrees of freedom.""",
        ),
    ),
    judge=_judge_verdict,
    preamble=PREAMBLE + "import numpy as np\n",
)

# --- 1.6 ------------------------------------------------------------------------------------------

LAYERS = ("conv1", "conv2", "fc")


def _small_network() -> nn.Sequential:
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(1, 3, 3, padding=1),
            relu1=nn.ReLU(),
            conv2=nn.Conv2d(3, 4, 3, padding=1),
            relu2=nn.ReLU(),
            flatten=nn.Flatten(),
            fc=nn.Linear(100, 3),
        )
    )


def _judge_keep_first(answer: Any) -> Verdict:
    for k in (1, 2, 0, 3):
        trained, fresh = _small_network(), _small_network()
        was = copied_tensors(trained)
        new = copied_tensors(fresh)
        made = returned(answer(k, trained, fresh), nn.Module, "a network")
        now = copied_tensors(made)
        if set(now) != set(was):
            return not_yet("The network should have the layers that the two have, by their names.")
        kept = [
            name for name in LAYERS if torch.equal(now[f"{name}.weight"], was[f"{name}.weight"])
        ]
        ours = {id(each) for each in made.parameters()}
        if any(id(each) in ours for each in trained.parameters()):
            return mistake("alias")
        if k == 2 and kept == ["conv1"]:
            return mistake("counts_all")
        if kept != list(LAYERS[:k]):
            return not_yet(f"With k = {k}, the layers kept are {kept or 'none'}.")
        later = [n for n in new if n.split(".")[0] in LAYERS[k:]]
        if not all(torch.equal(now[name], new[name]) for name in later):
            return not_yet("The layers after the first k should be those of `fresh`.")
        if any(not torch.equal(now[n], was[n]) for n in was if n not in later):
            return not_yet("Of a layer that is kept, weight and bias are kept.")
        learning = {n.split(".")[0] for n, each in made.named_parameters() if each.requires_grad}
        if learning == set(LAYERS) and k:
            return mistake("not_frozen")
        if learning != set(LAYERS[k:]):
            return not_yet(f"With k = {k}, these learn: {', '.join(sorted(learning)) or 'none'}.")
        if moved(was, trained) or not all(each.requires_grad for each in trained.parameters()):
            return not_yet("`trained` should be as it was, flags included: it is used again.")
    return passed("With k = 0, 1, 2 ... you can now measure how far the source's layers carry.")


ex1_6 = Exercise(
    "1.6",
    "Keep the first k",
    minutes=12,
    question="""
        Build the network for one point of a transferability curve. `trained` and `fresh` are two
        `nn.Sequential` networks of the same form, with layers that have weights (`conv1`, `conv2`,
        `fc`) and layers that have none (ReLU, Flatten). Return a network whose first `k` layers
        *with weights* come from `trained` and are frozen, and whose later ones come from `fresh`
        and learn. `trained` is needed again for the next `k`: leave it as it is.
    """,
    answer="keep_first",
    stub="""
def keep_first(k, trained, fresh):
    return ...
""",
    solution="""
import copy


def keep_first(k, trained, fresh):
    network = copy.deepcopy(fresh)
    for name, layer in trained.named_children():
        if k > 0 and list(layer.parameters()):
            setattr(network, name, copy.deepcopy(layer).requires_grad_(False))
            k -= 1
    return network
""",
    why="""
        Without the deep copy, the new network and `trained` would share layers: freezing one
        freezes the other, and what one learns the other learns too. Layers without weights don't
        count, or else k = 2 would be a convolution and a ReLU.
    """,
    hints=(
        "Which children have weights? `list(layer.parameters())` is empty for a ReLU.",
        "`setattr(network, name, layer)` puts a layer in the place of another.",
        "`copy.deepcopy` gives layers of their own, that may be frozen without touching `trained`.",
    ),
    wrongs=(
        Wrong(
            "alias",
            """
import copy


def keep_first(k, trained, fresh):
    network = copy.deepcopy(fresh)
    for name in ("conv1", "conv2", "fc")[:k]:
        setattr(network, name, getattr(trained, name).requires_grad_(False))
    return network
""",
            """Your network holds the very layers of `trained`. Freezing them froze them there too,
            and for the next k you would start from a changed network. Copy them.""",
        ),
        Wrong(
            "counts_all",
            """
import copy


def keep_first(k, trained, fresh):
    network = copy.deepcopy(fresh)
    for place in range(k):
        network[place] = copy.deepcopy(trained[place]).requires_grad_(False)
    return network
""",
            """With k = 2 you kept one convolution and its ReLU, which has nothing to keep. Count
            the layers that have weights.""",
        ),
        Wrong(
            "not_frozen",
            """
import copy


def keep_first(k, trained, fresh):
    network = copy.deepcopy(fresh)
    for name in ("conv1", "conv2", "fc")[:k]:
        getattr(network, name).load_state_dict(getattr(trained, name).state_dict())
    return network
""",
            """The right weights are in the right places, but all of them go on learning. Then the
            curve shows how good a start they are, and not what they know. Freeze the first k.""",
        ),
    ),
    judge=_judge_keep_first,
)

# --- 1.7 ------------------------------------------------------------------------------------------


class _Noise(nn.Module):
    """Features that say nothing about the picture, and a different thing for each."""

    def __init__(self) -> None:
        super().__init__()
        stream = torch.Generator().manual_seed(5)
        self.register_buffer("mix", torch.randn(64, 300, generator=stream))

    def forward(self, pictures: Tensor) -> Tensor:
        return torch.sin(1e3 * pictures.flatten(1) @ self.get_buffer("mix"))


@cache
def _digit_parts() -> tuple[Tensor, Tensor]:
    from sklearn.datasets import load_digits

    digits = load_digits()
    order = torch.randperm(len(digits.target), generator=torch.Generator().manual_seed(3))
    images = torch.tensor(digits.images / 16, dtype=torch.float32).unsqueeze(1)
    return images[order], torch.tensor(digits.target)[order]


def _source_body(labels_drawn: bool) -> nn.Sequential:
    """A linear map that was fitted to 1,000 pictures, with or without their true labels."""
    images, targets = (each[500:1500] for each in _digit_parts())
    stream = torch.Generator().manual_seed(4)
    if labels_drawn:
        targets = targets[torch.randperm(len(targets), generator=stream)]
    x = images.flatten(1).double()
    wanted = nn.functional.one_hot(targets, 10).double()
    weights = torch.linalg.solve(x.T @ x + 3 * torch.eye(64).double(), x.T @ wanted)
    linear = nn.Linear(64, 10, bias=False)
    linear.weight.data = 8 * weights.T.float().contiguous()  # scores as large as a network's
    return nn.Sequential(nn.Flatten(), linear, nn.BatchNorm1d(10))


def _judge_choose(answer: Any) -> Verdict:
    images, targets = _digit_parts()
    train, val = (images[:60], targets[:60]), (images[100:300], targets[100:300])
    for labels_drawn, best in ((False, "elsewhere"), (True, "pixels")):
        bodies = {
            "noise": _Noise(),
            "elsewhere": _source_body(labels_drawn),
            "pixels": nn.Sequential(nn.Flatten()),
        }
        before = {name: copied_tensors(body) for name, body in bodies.items()}
        chosen = returned(answer(dict(bodies), train, val), str, "the name of a body")
        if chosen not in bodies:
            return not_yet(f"{chosen!r} is none of the bodies: {', '.join(bodies)}.")
        if any(moved(before[name], body) for name, body in bodies.items()):
            return mistake("stirred")
        if chosen == "noise":
            return mistake("on_train")
        if chosen != best and best == "pixels":
            return mistake("always_transfer")
        if chosen != best:
            return not_yet(f"You chose {chosen}. Another body does better on the second part.")
    return passed(
        "You chose the source by measuring, and took none where the source would have hurt."
    )


ex1_7 = Exercise(
    "1.7",
    "Choose a source, or none",
    minutes=20,
    question="""
        The start of a real project: several pretrained bodies are on offer, and you have 60
        labelled pictures to train on and 200 to choose by. `bodies` is a dictionary from name to
        module, which turns pictures (N, 1, 8, 8) into features (N, D). One of them, "pixels", only
        flattens the pictures: it stands for no transfer at all. `train` and `val` are pairs
        (pictures, labels). Return the name of the body on whose features a classifier of your
        choice, fitted on `train`, does best on `val`. The bodies come in training mode and have
        BatchNorm; leave their numbers as they are.
    """,
    answer="choose_source",
    stub="""
def choose_source(bodies, train, val):
    return ...
""",
    solution="""
import copy


def choose_source(bodies, train, val):
    scores = {}
    for name, body in bodies.items():
        body = copy.deepcopy(body).eval()
        with torch.no_grad():
            known, unknown = body(train[0]).numpy(), body(val[0]).numpy()
        model = LogisticRegression(max_iter=500).fit(known, train[1].numpy())
        scores[name] = model.score(unknown, val[1].numpy())
    return max(scores, key=scores.get)
""",
    why="""
        What a source is worth for your task, your pictures tell, and its size or its fame don't.
        Features that are rich enough fit any 60 labels, so look at other pictures than those. And
        always have "no transfer" among the candidates: it is what shows negative transfer.
    """,
    hints=(
        "For each body: features of both parts, a classifier fitted on `train`, scored on `val`.",
        "`copy.deepcopy(body).eval()` computes as in inference, and `torch.no_grad()` saves time.",
        "`LogisticRegression(max_iter=500).fit(features, labels)` has a method `score`.",
    ),
    wrongs=(
        Wrong(
            "on_train",
            """
import copy


def choose_source(bodies, train, val):
    scores = {}
    for name, body in bodies.items():
        with torch.no_grad():
            known = copy.deepcopy(body).eval()(train[0]).numpy()
        scores[name] = LogisticRegression(C=1e4, max_iter=500).fit(known, train[1]).score(
            known, train[1]
        )
    return max(scores, key=scores.get)
""",
            """You chose "noise": 300 features that say nothing of the picture. With 60 pictures, a
            classifier fits any labels on them. Take the highest score, on pictures that it wasn't
            fitted on.""",
        ),
        Wrong(
            "stirred",
            """
def choose_source(bodies, train, val):
    scores = {}
    for name, body in bodies.items():
        with torch.no_grad():
            known, unknown = body(train[0]).numpy(), body(val[0]).numpy()
        scores[name] = LogisticRegression(max_iter=500).fit(known, train[1]).score(unknown, val[1])
    return max(scores, key=scores.get)
""",
            """A body came out changed. In training mode BatchNorm normalises by the batch and moves
            its running statistics, `no_grad` or not. Use it in evaluation mode.""",
        ),
        Wrong(
            "always_transfer",
            """
def choose_source(bodies, train, val):
    return "elsewhere"
""",
            """In the second round the source had learned labels that were drawn at random, and its
            features are worse than the pixels themselves. That is negative transfer: "pixels", no
            transfer, has to be among the candidates.""",
        ),
    ),
    judge=_judge_choose,
    preamble=PREAMBLE + "from sklearn.linear_model import LogisticRegression\n",
)

# --- questions ------------------------------------------------------------------------------------

q1_1 = Question(
    "1.1",
    "How do transfer learning and fine-tuning go together?",
    (
        Option(
            "They are two words for one thing: going on with somebody else's weights.",
            """One is an aim, the other a means. Features of a frozen network with a new head are
            transfer learning too, and nothing is tuned in the network.""",
        ),
        Option(
            "Transfer learning is the aim: use what was learned elsewhere. Fine-tuning is a means.",
            """Right. Other means are feature extraction, a head started from a known class, or
            statistics that are brought into line.""",
            right=True,
        ),
        Option(
            "Fine-tuning is what you do to all layers when transfer learning alone has failed you.",
            "Fine-tuning is one way to do transfer learning; there is nothing to wait for.",
        ),
    ),
)
q1_2 = Question(
    "1.2",
    """
    An experiment compares an odd source with starting from scratch: -0.018 in accuracy, with the
    interval from -0.043 to 0.008. What do you report?
    """,
    (
        Option(
            "The odd source hurts, by about two points.",
            "Zero is in the interval, so a loss isn't shown. It is the likelier side, no more.",
        ),
        Option(
            "The odd source does no harm.",
            """That isn't shown either: a loss of four points is in the interval. Finding nothing
            and finding that there is nothing are two things.""",
        ),
        Option(
            "Open: anything from a loss of 0.043 to a gain of 0.008 fits these runs.",
            "Yes. To know more, take more seeds, or a design in which the effect would be larger.",
            right=True,
        ),
    ),
)
q1_3 = Question(
    "1.3",
    """
    You have 10,000 film reviews without labels, and many product reviews labelled good or bad. You
    want to tell good film reviews from bad ones. Which kind of transfer is it?
    """,
    (
        Option(
            "Transductive: the same task in another domain, and its labels are missing.",
            "Yes. What you have of the target is its texts: use them to bring the two together.",
            right=True,
        ),
        Option(
            "Inductive: there are labels, after all, and they tell good from bad there.",
            """The labels are those of the source. Inductive means another task on the target, and
            some labels for it.""",
        ),
        Option(
            "Unsupervised: the reviews that you want to sort have no labels at all.",
            "Unsupervised means no labels on either side. The product reviews have some.",
        ),
    ),
)
q1_4 = Question(
    "1.4",
    """
    One linear layer on the first stage of a trained network tells hot dogs from other food hardly
    better than guessing. What follows for that first stage?
    """,
    (
        Option(
            "It learned nothing: replace it by random weights.",
            """The later stages compute with what it gives them. A probe sees only what one linear
            layer can read off directly.""",
        ),
        Option(
            "That edges and colours alone, averaged, don't say what a picture shows.",
            """Right. It is general because it says so little about any one class; the stages behind
            it make classes out of it.""",
            right=True,
        ),
        Option(
            "That it should be the first to be fine-tuned.",
            """The probe doesn't say that. A stage can be useful for every task and say little about
            each.""",
        ),
    ),
)
q1_5 = Question(
    "1.5",
    "You have 60 pictures and a network that was trained on many like them. What first?",
    (
        Option(
            "Freeze the body, train a head on its features, and compare with a simple baseline.",
            """Right: it takes seconds, and is the number that everything dearer has to beat. The
            rule of thumb agrees; the reason to do it is that it's cheap to check.""",
            right=True,
        ),
        Option(
            "Fine-tune everything for as long as you can afford, and keep the best of the epochs.",
            """Perhaps later. Without a cheap number to compare with, you won't know whether the
            hours brought anything.""",
        ),
        Option(
            "Follow the rule of the four cases, and leave it at that.",
            """A rule of thumb says where to start. On this chapter's digits, following it was in no
            case shown to be best.""",
        ),
    ),
)

EXERCISES = (ex1_1, ex1_2, ex1_3, ex1_4, ex1_5, ex1_6, ex1_7)
QUESTIONS = (q1_1, q1_2, q1_3, q1_4, q1_5)
