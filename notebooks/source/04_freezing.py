# %% [markdown]
# # Freezing layers: five ways, and what each lets through
#
# Freezing means: this part of the network stays exactly as it is while the rest learns. There are
# five ways that people do it. Each leaves something open, and none of these **leaks** makes a noise: the
# loss goes down, the accuracy looks right, and the layer that you froze has moved.
#
# You need 75 minutes to read and run it, and about an hour more for the exercises. The five
# methods, and the small character model, follow a forum article; what is wrong in its snippets is
# part of the lesson.

# %% jupyter={"source_hidden": true} tags=["setup"]
# On Colab and Kaggle, this cell fetches the course. On your own machine it does nothing.
import os
import subprocess
import sys
from pathlib import Path

REPO, REF = "OWNER/NAME", "TAG"

if "google.colab" in sys.modules or "KAGGLE_KERNEL_RUN_TYPE" in os.environ:
    if REPO == "OWNER/NAME":
        raise SystemExit("No address is set: write the course's GitHub repository and tag above.")
    url, folder = f"https://github.com/{REPO}", Path.home() / "course" / REPO / REF
    if not folder.exists():
        partial = f"{folder}.{os.getpid()}"  # moved to its place when it is whole
        fetch = ["git", "clone", "--quiet", "--depth=1", f"--branch={REF}", url, partial]
        never_ask = {**os.environ, "GIT_TERMINAL_PROMPT": "0"}
        git = subprocess.run(fetch, capture_output=True, text=True, env=never_ask)
        if git.returncode:
            raise SystemExit(
                f"The course could not be fetched from {url} at {REF}. Is the Internet on, the "
                f"address right and public? git says: {' '.join(git.stderr.split())}"
            )
        Path(partial).rename(folder)
    sys.path.insert(0, str(folder))
    from course_lib.setup import hosting

    hosting.prepare()

# %% [markdown]
# ## What you will be able to do
#
# - freeze a layer in five ways, and say what each one leaks;
# - ask an **audit** what a training step would touch, tensor by tensor, and why;
# - find the fault in a freezing snippet by what it does, not by how it looks;
# - freeze a network with BatchNorm so that nothing moves, through every `model.train()`;
# - freeze and unfreeze by name, by several, by index and from the end, with helpers that don't misread;
# - compare the methods in ten questions, each answered by running it;
# - say what freezing saves in time and memory, and why.

# %%
import copy
import math
import time

import torch
from torch import nn

from course_lib import backbones, freezing, profile
from course_lib.display import plots
from course_lib.benchmarks import throughput
from course_lib.exercises import compare, predict
from course_lib.freezing import matrix, methods
from course_lib.freezing.costs import cost_of_step

p = profile.start()
backbone = "efficientnet_lite0"  # in every profile: its layers are named and counted below

# %% [markdown]
# ## A small model
#
# It reads three letters and guesses the fourth: an embedding `em` (a row of numbers for each
# letter) and three linear layers, with a weight and a bias each. It will not write novels. It is here
# because you can know all of its seven tensors by name.

# %%
text = "freezing keeps a part of a network exactly as it is while the rest of it learns. " * 4
letters = sorted(set(text))
windows = torch.tensor([letters.index(letter) for letter in text]).unfold(0, 4, 1)
x, y = windows[:, :3], windows[:, 3]


class LetterModel(nn.Module):
    """Three letters in, scores for the fourth out: (B, 3) -> (B, number of letters)."""

    def __init__(self):
        super().__init__()
        self.em = nn.Embedding(len(letters), 8)
        self.fc1 = nn.Linear(24, 32)
        self.fc2 = nn.Linear(32, 32)
        self.fc3 = nn.Linear(32, len(letters))

    def forward(self, letters):
        hidden = self.fc1(self.em(letters).flatten(1)).relu()
        return self.fc3(self.fc2(hidden).relu())


def new_model():
    """The same model every time."""
    torch.manual_seed(p.seed)
    return LetterModel()


# %%
def loss_of(model):
    """How wrong the model is about the fourth letters."""
    return nn.functional.cross_entropy(model(x), y)


def step(model, optimizer):
    """One training step, as everybody writes it."""
    optimizer.zero_grad()
    loss_of(model).backward()
    optimizer.step()


def sgd(parameters):
    """The optimizer of this chapter: with momentum, so that it remembers."""
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9)


model = new_model()
for name, tensor in model.named_parameters():
    print(f"{name:<12}{tuple(tensor.shape)}")

# %% [markdown]
# The task, all through the chapter: freeze `fc1`, train the rest.
#
# ## The audit
#
# You could train for an hour and compare the weights. `freezing.audit` is quicker: it runs **one**
# step on a copy of the model and the optimizer, looks at every tensor before and after, and leaves
# the originals as they were.
#
# The article freezes `fc1` with one line, `model.fc1.weight.requires_grad = False`, and gives the optimizer
# what still requires a gradient.
#
# **Predict.** How many of the two tensors of `fc1`, weight and bias, will move?

# %%
predict("moved in fc1", ...)

# %%
model = new_model()
model.fc1.weight.requires_grad = False
optimizer = sgd([tensor for tensor in model.parameters() if tensor.requires_grad])
report = freezing.audit(model, optimizer, step, frozen=["fc1"])
moved = [name for name in report.changed if name.startswith("fc1")]
print("changed in fc1:", moved)
print("reason:", report["fc1.bias"].reason)
compare("moved in fc1", len(moved), digits=0)

# %% [markdown]
# A linear layer has two tensors, and the line freezes one. The whole report says what to write instead:

# %% tags=["nbval-ignore-output"]
print(report)

# %%
assert report["fc1.bias"].level == "leak"
assert report["fc1.weight"].verdict == "frozen"
print("leaks:", [row.name for row in report.leaks])

# %% [markdown]
# ## Five ways
#
# `course_lib.freezing.methods` has the five as they are *meant*, weight and bias alike, behind one
# small interface: `freeze`, `make_optimizer`, `step`, `unfreeze`. So one loop can run them all.
#
# 1. **`requires_grad = False`**, and the optimizer gets only what requires a gradient.
# 2. **Left out**: every parameter requires a gradient, but the optimizer isn't given those of `fc1`.
# 3. **Cached and restored**: the optimizer moves everything; after each step a copy is put back.
# 4. **`no_grad`**: the layer's `forward` runs under `torch.no_grad()`.
# 5. **By names and indices**: helpers over the model's children; these are the course's own.
#
# **Predict.** One of the five keeps a layer from learning that nobody froze. Which number, and which
# layer?

# %%
predict("method that stops another layer", ...)

# %%
facts = {}
for number, method in enumerate(methods.METHODS, start=1):
    model, way = new_model(), method()
    before = copy.deepcopy(model.state_dict())
    way.freeze(model, "fc1")
    optimizer = way.make_optimizer(model, sgd)
    for _ in range(5):
        way.step(model, optimizer, loss_of)
    still = [name for name, now in model.state_dict().items() if torch.equal(now, before[name])]
    remembers = any(
        "momentum_buffer" in optimizer.state.get(tensor, {}) for tensor in model.fc1.parameters()
    )
    facts[number] = (model.fc1.weight.grad is not None, remembers, "em.weight" in still)
    print(f"{number}. {method.title}\n   stands still: {', '.join(still)}")
stopper = [number for number, (_, _, em_stands) in facts.items() if em_stands]
compare("method that stops another layer", stopper[0], digits=0)

# %% [markdown]
# All five hold `fc1`. The fourth holds `em` as well: under `no_grad` nothing is recorded, so the
# gradient can't pass through `fc1` to what lies before it. The embedding was meant to train, and no
# error says that it doesn't.
#
# ## By name and by index
#
# The fifth way needs a closer look. The article's helpers walk over `model.named_children()`, the layers
# directly inside the model, and ask whether a child's name is in what you gave. Here is that test:


# %%
def freeze_if_in(model, names):
    """Freeze each child whose name is `in` names, as the helper is passed around."""
    for name, child in model.named_children():
        if name in names:
            child.requires_grad_(False)


def frozen_children(model):
    """Names of the children with nothing left to train."""
    children = model.named_children()
    return [n for n, child in children if not any(t.requires_grad for t in child.parameters())]


# %% [markdown]
# **Predict.** The children are `em`, `fc1`, `fc2` and `fc3`. What does `freeze_if_in(model, "embedding")`
# freeze: `"nothing"`, `"em"` or `"everything"`?

# %%
predict("frozen by 'embedding'", ...)

# %%
model = new_model()
freeze_if_in(model, "embedding")
compare("frozen by 'embedding'", ", ".join(frozen_children(model)) or "nothing")

model = new_model()
for helper, which in (
    (freezing.freeze_by_names, "em"),
    (freezing.freeze_by_names, ["fc2", "fc3"]),
    (freezing.unfreeze_by_names, "fc3"),
    (freezing.freeze_by_idxs, 1),
    (freezing.freeze_by_idxs, -1),
    (freezing.unfreeze_by_idxs, [0, -1]),
):
    helper(model, which)
    call = f"{helper.__name__}(model, {which!r})"
    print(f"{call:<42}frozen: {', '.join(frozen_children(model))}")
for helper, which in ((freezing.freeze_by_names, "embedding"), (freezing.freeze_by_idxs, 4)):
    try:
        helper(model, which)
    except LookupError as error:
        print("refused:", error)

# %% [markdown]
# To Python a text is a sequence of characters, and `"em" in "embedding"` asks for a part of it. So a name
# that isn't there froze a layer that you didn't mean. The course's four helpers take one text as one
# name, and refuse what isn't there before anything changes. An index counts the children in order, a
# negative one from the end; both unfreezing helpers take `optimizer=`. Exercise 4.6 is yours to write.
#
# ## What stays behind
#
# The weights stand still; something else may not. Two things were noted above: whether a gradient was
# computed for `fc1` all the same, and whether the optimizer keeps a momentum for it.

# %%
print(f"{'method':<30}{'gradient computed':<20}{'momentum kept':<16}{'stops em'}")
for number, method in enumerate(methods.METHODS, start=1):
    print(
        f"{method.title:<30}"
        + "".join(
            f"{'yes' if fact else 'no':<{width}}"
            for fact, width in zip(facts[number], (20, 16, 8), strict=False)
        )
    )

# %% [markdown]
# **A gradient that is computed** costs the time that freezing was to save. Where the optimizer
# doesn't know the layer, its `zero_grad()` doesn't clear it either: it piles up in `.grad`, step by
# step. Here is what happens at the moment of unfreezing, when the pile is used:

# %%
model = new_model()
way = methods.LeftOut()
way.freeze(model, "fc1")
optimizer = way.make_optimizer(model, sgd)
sizes = []
for _ in range(20):
    way.step(model, optimizer, loss_of)
    sizes.append(model.fc1.weight.grad.norm().item())
assert sizes[-1] > 10 * sizes[0]
print(f"the gradient after 20 steps is {sizes[-1] / sizes[0]:.0f} times that after one")

# %% [markdown]
# `optimizer.add_param_group` lets the layer in, pile and all. A loop that clears the gradients only
# *after* the step then takes one step of that size. So clear them when you let the layer in.
#
# **A momentum that is kept**, as by method 3, moves the layer after you let it go, though it was gathered
# in steps that were taken back.
#
# `freezing.unfreeze(model, "fc1", optimizer=optimizer)` sees to both: it clears the gradient, drops momentum
# from before the freeze, and gives the optimizer what it lacks.
#
# Here are three runs of a loop that clears after the step: all layers learn; `fc1` is left out, then added
# with its pile; `fc1` is frozen by the course, then unfrozen. Across stands how far `fc1` has gone from its
# start, upwards how far the other layers have.

# %%
start, let_go, last_step = new_model(), 20, 30
paths = {"all layers": [], "left out, then added": [], "freezing.unfreeze": []}
for run, path in paths.items():
    model = new_model()
    if run == "freezing.unfreeze":
        freezing.freeze(model, "fc1")
    others = [tensor for name, tensor in model.named_parameters() if not name.startswith("fc1")]
    optimizer = sgd(model.parameters() if run == "all layers" else others)
    for done in range(last_step + 1):
        far = {True: 0.0, False: 0.0}  # of fc1, of the others: how far from the start
        for name, then in start.named_parameters():
            gone = (model.get_parameter(name) - then).detach().norm()
            far[name.startswith("fc1")] = math.hypot(far[name.startswith("fc1")], gone)
        path.append(tuple(far.values()))
        if done == let_go and run == "left out, then added":
            optimizer.add_param_group({"params": model.fc1.parameters()})
        elif done == let_go and run == "freezing.unfreeze":
            freezing.unfreeze(model, "fc1", optimizer=optimizer)
        loss_of(model).backward()
        optimizer.step()
        optimizer.zero_grad()


# %% jupyter={"source_hidden": true}
def paths_until(done):
    """The three paths as far as they are after so many steps."""
    ends = [path[-1] for path in paths.values()]
    right, top = (1.08 * max(each) for each in zip(*ends, strict=True))
    axis = plots.new_axes(5.6, 3.2)[1][0, 0]
    until = {run: tuple(zip(*path[: done + 1], strict=True)) for run, path in paths.items()}
    figure = plots.lines(until, "way of fc1", "way of the other layers", axis=axis)
    axis.set(xlim=(-0.04 * right, right), ylim=(-0.04 * top, top))
    axis.legend(loc="lower right", fontsize=8)
    axis.set_title(f"after step {done}")
    if done >= let_go:
        place = paths["freezing.unfreeze"][let_go]
        text = f"until step {let_go}, fc1 is frozen"
        axis.annotate(text, place, xytext=(8, -16), textcoords="offset points", fontsize=8)
    return figure


plots.show_motion(
    map(paths_until, range(2, last_step + 1, 2)),
    alt="""Three paths that grow step by step, across how far fc1 has gone, upwards how far the other
    layers have. With all layers the path rises aslant. The two with fc1 frozen rise straight up until
    step 20. Then the one with the pile turns sharply to the right, in long steps; the one unfrozen by
    the course bends to the right little by little.""",
)
first = {run: path[let_go + 1][0] - path[let_go][0] for run, path in paths.items()}
print("the first step of fc1 after it was let go is", end=" ")
print(
    f"{first['left out, then added'] / first['freezing.unfreeze']:.0f} times as long with the pile"
)
assert first["left out, then added"] > 5 * first["freezing.unfreeze"] > 0

# %% [markdown]
# While `fc1` is frozen, no step goes across. The pile throws it far, and momentum carries it on. Unfrozen
# cleanly, it begins with its own gradient. (On a screen, the picture moves once, when it comes into view.)
#
# ## The leak that the article misses
#
# The small model has no **buffers**, tensors that a layer keeps beside its parameters. Real
# networks do: BatchNorm keeps a running mean and variance of its inputs, and *any* forward pass in
# training mode moves them. `requires_grad` has no say in it.
#
# **Predict.** EfficientNet-Lite0 has 49 BatchNorm layers, with three buffers each. Freeze all but its
# head with `requires_grad = False`, and take one training step. How many buffers move?

# %%
predict("buffers that move", ...)

# %%
net = backbones.load(backbone, num_classes=2)
head = backbones.head_name(net)
for name, parameter in net.named_parameters():
    parameter.requires_grad = name.startswith(head)
images, labels = torch.randn(8, 3, 64, 64), torch.tensor([0, 1] * 4)


def train_step(model, optimizer):
    """A training step on a batch of noise: enough to see what moves."""
    model.train()
    optimizer.zero_grad()
    nn.functional.cross_entropy(model(images), labels).backward()
    optimizer.step()


def sgd_of(model):
    """The optimizer over what requires a gradient."""
    return sgd([tensor for tensor in model.parameters() if tensor.requires_grad])


leaky = freezing.audit(net, sgd_of(net), train_step)
compare("buffers that move", len(leaky.leaks), digits=0)
print("reasons:", sorted({row.reason for row in leaky.leaks}))

# %% [markdown]
# Methods 2, 3 and 4 leak in just the same way: neither the optimizer nor `no_grad` has a say in which mode
# BatchNorm runs. And calling `.eval()` on the frozen part helps only until the next `model.train()`, which
# training loops call each epoch.
#
# Does it matter? The network computes with other numbers than those that you froze, and features that
# were computed before (chapter 05) no longer fit it.
#
# ## Freezing that holds
#
# `freezing.freeze` holds parameters and buffers, keeps the frozen modules computing as in inference
# through every `model.train()`, and drops gradients that are lying about.

# %%
net = backbones.load(backbone, num_classes=2)
frozen = freezing.freeze(net, [name for name, _ in net.named_children() if name != head])
print(frozen)
before = copy.deepcopy(net.state_dict())
optimizer = sgd_of(net)
tight = freezing.audit(net, optimizer, train_step)
print("leaks:", len(tight.leaks))
tight.assert_frozen(frozen.tensors)  # for tests of your own code: the error names what moved
for _ in range(3):
    train_step(net, optimizer)
changed = [n for n, now in net.state_dict().items() if not torch.equal(now, before[n])]
print("changed by three real steps:", changed)

# %%
plots.show(
    tight.figure(),
    alt="""The network by depth after one step, a mark for every tensor: all tensors of the body
    stand still, and only the two of the head, at the far right, changed.""",
)
print("drawn:", len(tight.changed), "tensors that changed,", len(tight.leaks), "leaks")
try:
    freezing.freeze(net, "block.0")
except LookupError as error:
    print(error)

# %% [markdown]
# A dotted name means that module, and all that is in it; a pattern such as `"blocks.*"` works as in a
# shell. A name that isn't there is refused.
#
# ## Letting go
#
# `unfreeze` gives back what was there: the same parameter objects, the same flags, the mode that the
# module would have had. Here it lets the last block go, and adds it to the optimizer.

# %%
identity = id(net.blocks[6][0].conv_pw.weight)
print(freezing.unfreeze(net, "blocks.6", optimizer=optimizer, lr=0.01))
print("new objects:", int(id(net.blocks[6][0].conv_pw.weight) != identity))
after = freezing.audit(net, optimizer, train_step)
trains = {name.rpartition(".")[0].split(".")[0] for name in after.changed}
print("now changing:", sorted(trains), "| leaks:", len(after.leaks))
after.assert_trained("blocks.6")  # and here, what stood still

# %% [markdown]
# ## One table
#
# Here are all methods against ten questions; the sixth is the course's own `freeze`. `measure_all` runs
# each one on a letter model like yours, with `fc1` frozen, and on a small convolutional network with
# BatchNorm and dropout, with all but the head frozen.
#
# | question | asks |
# |---|---|
# | weights, biases, buffers | Are they the same, bit for bit, after ten steps? |
# | optimizer state | Does the optimizer gather momentum for the frozen layer? |
# | gradients upstream | Does the embedding before `fc1` get its true gradient? |
# | first step after | After unfreezing: is the step as long as its own gradient says? |
# | time a step | How much of the work of training everything is left? |
# | memory | How much of the memory beyond the weights is left? |
# | survives `train()` | You put the frozen part in `eval` mode: does it stay so? |
# | survives resume | Saved and loaded into a new model: is it still frozen? |
#
# **Predict.** Method 1, `requires_grad = False`, is the one that most people use. How many of the ten
# does it answer as you would want from a frozen layer?

# %%
predict("good answers of method 1", ...)

# %%
table = matrix.measure_all()
table

# %%
compare("good answers of method 1", 10 - len(table.bad(1)), digits=0)
print(table.reasons())

# %% [markdown]
# All six hold the weights. If you check only that, the methods look alike. Method 1 fails elsewhere:
# buffers, `train()`, and the moment of loading a checkpoint. Methods 2 and 3 save no time, since every
# gradient is computed all the same. Method 4 is as cheap as method 1, and cuts off what lies before it.
#
# The fifth column equals the sixth because the course's helpers call its `freeze`. The article's helpers
# only set `requires_grad`: they are method 1.
#
# A cross isn't always a fault: somebody who wants BatchNorm to adapt to new pictures wants its buffers to
# move. It is a fault when you didn't know.
#
# ## What it saves
#
# The forward pass of a linear layer or a convolution multiplies inputs by weights. In the backward pass
# there are two products of the same size: one gives the gradient of the layer's inputs, which the layers before
# it need, and one gives the gradient of its weights. So where all layers train, each costs three equal
# parts: **a third forward, a third back to the inputs, a third back to the weights**.
#
# What a frozen layer saves depends on what lies before it, nearer to the input. If nothing there trains,
# nobody asks for either gradient, and the forward third is left. If something there trains, the gradient
# has to pass through the frozen layer to reach it, and only the weights' third is saved.
#
# Memory follows. The backward pass needs what the forward pass computed: the inputs of each layer, kept until
# its turn comes. Where there is no backward pass, there is nothing to keep.
#
# **Predict.** EfficientNet-Lite0, all but the head frozen. What part of the work of a full training step
# is left, as a number between 0 and 1?

# %%
predict("work left with the body frozen", ...)

# %%
children = [name for name, _ in backbones.load(backbone, num_classes=2).named_children()]
body = [name for name in children if name != head]
first = ["conv_stem", "bn1", *(f"blocks.{number}" for number in range(4))]
last = [*(f"blocks.{number}" for number in range(4, 7)), "conv_head", "bn2"]
plans = {
    "nothing frozen": [],
    "all but the head": body,
    "the first layers": first,
    "the last layers": last,
    "left out, method 2": body,
}
batch = (torch.randn(8, 3, p.image_size, p.image_size), torch.tensor([0, 1] * 4))


# %%
def batch_loss(model):
    """How wrong the network is about the batch of noise."""
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


def stepper(plan):
    """The network frozen by a plan, its optimizer, and a function that takes one step."""
    net = backbones.load(backbone, num_classes=2)
    way = methods.LeftOut() if "method 2" in plan else matrix.CourseFreeze()
    way.freeze(net, plans[plan])
    optimizer = way.make_optimizer(net, sgd)
    return net, optimizer, lambda: way.step(net, optimizer, batch_loss)


steps = {plan: stepper(plan) for plan in plans}
costs = {plan: cost_of_step(*parts, batch) for plan, parts in steps.items()}
full = costs["nothing frozen"]
print(f"{'frozen':<22}{'operations':>12}{'kept for the backward pass':>30}")
for plan, cost in costs.items():
    work, kept = cost.flops / full.flops, cost.activations / full.activations
    print(f"{plan:<22}{work:>12.2f}{kept:>30.2f}")
compare("work left with the body frozen", costs["all but the head"].flops / full.flops, within=0.03)

# %% [markdown]
# These are counts, as shares of full training: multiplications and additions in convolutions and linear
# layers, and bytes that the forward pass kept. They come out the same on every machine.
#
# With all but the head frozen a third is left, as the theory says. (A little more than a third: the very
# first layer never had a gradient to pass on, so full training is a little less than three times
# forward.) And nearly nothing is kept.
#
# Compare the first layers with the last. Frozen first layers need no backward pass at all. Frozen *last*
# layers are passed through on the way to the layers that train, so that half of their backward pass stays.
# They save no memory either: PyTorch's convolution keeps its inputs whether or not its weights are frozen.
#
# Method 2 computes everything, keeps everything, and then doesn't use it.
#
# Does the time follow? Here the five take turns, three rounds, on the processor's clock.

# %% tags=["nbval-ignore-output"]
seconds = throughput.take_turns(
    {plan: take_step for plan, (_, _, take_step) in steps.items()},
    repeats=3,
    clock=time.process_time,
)
print(f"{'frozen':<22}{'ms a step':>12}{'time':>10}{'operations':>14}")
for plan, each in seconds.items():
    share = throughput.median_ratio(each, seconds["nothing frozen"])
    work = costs[plan].flops / full.flops
    print(f"{plan:<22}{1e3 * min(each):>12.0f}{share:>10.2f}{work:>14.2f}")

# %%
assert costs["all but the head"].flops < 0.4 * full.flops
assert costs["the first layers"].flops < costs["the last layers"].flops < full.flops
assert costs["left out, method 2"].flops == full.flops
untouched = [
    t.grad is None
    for name, t in steps["all but the head"][0].named_parameters()
    if head not in name
]
print(
    "gradients computed in the frozen body:", len(untouched) - sum(untouched), "of", len(untouched)
)

# %% [markdown]
# Expect the two columns near each other. Normalisation and activation functions do few operations and
# take time all the same, since they wait for memory; a frozen BatchNorm is cheaper than one that takes
# the batch's statistics. `course bench freezing`, in a terminal, measures it with care.
#
# The third that is left gives the same for the same input in every epoch. Why compute it more than
# once? That is chapter 05.

# %% [markdown]
# ## Try it yourself
#
# Tick layers, choose a way to freeze them, and see at once what still trains, what a step costs, and
# what the audit says. Everything happens on a copy. On paper, and where nothing can be clicked, you
# see the first choice: the stem and all blocks, frozen by `freezing.freeze`.
#
# **Predict.** Keep the ticks, and change the way to `requires_grad = False`. Which verdict will the
# audit give? And when only the *last* layers are frozen, `blocks.6` to `bn2`: does a step get much
# cheaper, `"yes"` or `"no"`?

# %%
predict("verdict with requires_grad = False", ...)
predict("much cheaper with the last layers frozen", ...)

# %%
from course_lib.display import panels

panels.FreezingPanel(
    backbones.load(backbone, num_classes=2),
    sgd_of,
    train_step,
    frozen=["conv_stem", "bn1", "blocks"],
)

# %%
compare("verdict with requires_grad = False", "leak" if leaky.leaks else "frozen")
cheap = costs["the last layers"].flops < 0.6 * full.flops
compare("much cheaper with the last layers frozen", "yes" if cheap else "no")

# %% [markdown]
# With `requires_grad = False`, a step costs the same, and the running statistics of every ticked
# BatchNorm leak. A frozen *last* part saves less than a frozen first one: the gradient has to pass
# through it.
#
# ## Which one, when
#
# | you want | take |
# |---|---|
# | a part to stay exactly as it is | `freezing.freeze` |
# | to understand somebody's code | ask `freezing.audit` what its step touches |
# | only the gradients off, BatchNorm adapting | `requires_grad = False`, on purpose |
# | a frozen first part without BatchNorm, nothing before it | `no_grad` in forward does it too |
# | to keep the frozen part for many epochs | compute its features once (chapter 05) |
# | to put weights back after each step | don't |

# %% [markdown]
# ## Beside other libraries
#
# Three well-known libraries, used as their documentation says, on the same small network:

# %%
from course_lib.benchmarks import peers

peers.table()

# %% [markdown]
# timm holds BatchNorm unasked, but *replaces* its layers, so an optimizer from before keeps the old ones. Lightning and fastai go on training BatchNorm in the frozen part, by default; fastai's
# `BnFreeze` stops that. Lightning's stages come as a callback, fastai's with one call. Adapting
# BatchNorm may help on pictures of another kind. `course bench peers` gives the reasons, cell by cell.

# %% [markdown]
# ## Pitfalls
#
# - **`model.train()` undoes `.eval()`** on frozen layers. Training loops call it.
# - **`module.requires_grad = False`** on a module freezes nothing: it makes a new attribute. Write
#   `module.requires_grad_(False)`.
# - **Freezing after `backward`** is too late for that step: the gradient is there, and the optimizer
#   uses it. If gradients are then set to zeros and not to `None`, weight decay and momentum move it
#   on. `freeze` drops the gradient.
# - **A "copy" that isn't one**: `saved = layer.weight.data` shares the memory. Write `.clone()`.
# - **Flags aren't saved**: a `state_dict` doesn't know what was frozen. `weights.save_checkpoint` does
#   (chapter 03); or store `freezing.freeze_state(model)` beside it.
# - **Weight decay** doesn't move a parameter whose `.grad` is None, though you can read that it does.

# %% [markdown]
# ## Exercises
#
# Write your answer in place of the dots and run the cell. Each has hints, and a solution with reasons.

# %%
from course_lib.exercises.chapter_04 import ex4_1, ex4_2, ex4_3, ex4_4, ex4_5, ex4_6, ex4_7, ex4_8
from course_lib.exercises.chapter_04 import q4_1, q4_2, q4_3, q4_4

# %% [markdown]
# ### 4.1  Method one: find the bug

# %%
ex4_1


# %% tags=["exercise"]
def freeze_fc1(model):
    model.fc1.weight.requires_grad = False
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return torch.optim.SGD(trainable, lr=0.1)


ex4_1.check(freeze_fc1)

# %% [markdown]
# ### 4.2  Thaw without adding twice

# %%
ex4_2


# %% tags=["exercise"]
def thaw_fc1(model, optimizer):
    model.fc1.requires_grad_(True)
    optimizer.add_param_group({"params": model.fc1.parameters()})


ex4_2.check(thaw_fc1)

# %% [markdown]
# ### 4.3  Method two: the first step is a leap

# %%
ex4_3


# %% tags=["exercise"]
def let_in(model, optimizer):
    optimizer.add_param_group({"params": model.fc1.parameters()})


ex4_3.check(let_in)

# %% [markdown]
# ### 4.4  Method three: a copy that is one

# %%
ex4_4


# %% tags=["exercise"]
def keep(layer):
    saved = {name: parameter.data for name, parameter in layer.named_parameters()}

    def restore():
        for name, parameter in layer.named_parameters():
            parameter.data.copy_(saved[name])

    return restore


ex4_4.check(keep)

# %% [markdown]
# ### 4.5  Method four: what no_grad cuts off

# %%
ex4_5


# %% tags=["exercise"]
def scores_with_fc1_frozen(model, text):
    hidden = model.em(text).mean(dim=1)
    with torch.no_grad():
        hidden = torch.tanh(model.fc1(hidden))
    hidden = torch.tanh(model.fc2(hidden))
    return model.fc3(hidden)


ex4_5.check(scores_with_fc1_frozen)

# %% [markdown]
# ### 4.6  Method five: names, not letters

# %%
ex4_6


# %% tags=["exercise"]
def freeze_children(model, names=(), idxs=()):
    for idx, (name, child) in enumerate(model.named_children()):
        if name in names or idx in idxs:
            child.requires_grad_(False)


ex4_6.check(freeze_children)

# %% [markdown]
# ### 4.7  Hold still through train()

# %%
ex4_7


# %% tags=["exercise"]
def hold_body(model):
    model.body.requires_grad_(False)
    model.body.eval()


ex4_7.check(hold_body)

# %% [markdown]
# ### 4.8  An audit of your own

# %%
ex4_8


# %% tags=["exercise"]
def what_moved(model, step):
    ...
    step()
    return ...


ex4_8.check(what_moved)

# %% [markdown]
# ### Questions
#
# Put the letter of your answer in place of the dots.

# %%
q4_1

# %% tags=["exercise"]
q4_1.answer(...)

# %%
q4_2

# %% tags=["exercise"]
q4_2.answer(...)

# %%
q4_3

# %% tags=["exercise"]
q4_3.answer(...)

# %%
q4_4

# %% tags=["exercise"]
q4_4.answer(...)

# %% tags=["keep"]
# On Colab and Kaggle, this cell keeps what you did: in your Drive if it is mounted, or as a file.
from course_lib.setup import hosting

hosting.take_home()

# %% [markdown]
# ## Summary
#
# 1. Frozen means: no parameter and no buffer changes, whatever the optimizer and `model.train()` do.
# 2. Each of the sources' five ways holds the weights; each leaks elsewhere, and none says so.
# 3. BatchNorm's statistics move in every forward pass in training mode; `requires_grad` can't stop it.
# 4. Freezing a whole body leaves a third of the work; leaving it out of the optimizer saves no time.
# 5. Don't trust the look of a snippet: audit one step.

# %% [markdown]
# ## Sources
#
# - A forum article on when and how to fine-tune, and how to freeze; it credits its helpers over
#   `named_children` to an answer on Zhihu (question 311095447, answer 589307812).
# - PyTorch's documentation: *Autograd mechanics*, on `requires_grad`, `no_grad` and evaluation mode.
# - S. Ioffe, C. Szegedy: *Batch Normalization*, ICML 2015, arXiv:1502.03167.
