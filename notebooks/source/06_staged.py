# %% [markdown]
# # Staged fine-tuning: in which order, and how fast
#
# A pretrained network has a body that knows something and a head that knows nothing. Train both
# at once, at one rate, and the head's first errors go through the body like a stranger through a
# workshop. So people train in stages, with slower steps for what is already good. This chapter
# tries each of these rules, and ends with one call that puts them together.
#
# You need 50 minutes to read and run it, and about 55 more for the exercises. The numbers with
# intervals come from the course's claims ledger. Where a page is called *the forum article* or *the
# repost*, it stands under Sources.

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
# - train the head first, then let the body go, and measure how far the features travelled;
# - choose a learning rate for fine-tuning, and rates by depth;
# - say why learning rate 0 isn't freezing;
# - unfreeze step by step, stop in the middle and go on, with warm-up, a schedule and early stopping;
# - say what BatchNorm wants, and what `reduction` does to your learning rate;
# - pull weights back to where they started;
# - weigh larger pictures against a trained body;
# - call the recipe, read its plan, and change any number of it.

# %%
import copy
import math
import tempfile
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.flop_counter import FlopCounterMode

from course_lib import backbones, data, features, freezing, profile, recipe, training, weights
from course_lib.display import plots
from course_lib.evidence import digits
from course_lib.evidence.studies import steps
from course_lib.exercises import compare, predict

p = profile.start()

# %% [markdown]
# ## A laboratory
#
# Testing the rules takes hundreds of trainings, so the network is small: three convolutions and a
# linear head `fc`, trained on scikit-learn's pictures of the digits 0 to 4, 8 by 8 pixels. Its new
# task is to tell 5 to 9 apart, from a few pictures.

# %%
task = digits.target_task(seed=0, n=25)
for name, part in (("train", task.train), ("val", task.val), ("test", task.test)):
    print(f"{name:<6}{len(part):>4} pictures of {len(part.targets.unique())} digits")
net = digits.pretrained(seed=0)
print("layers:", ", ".join(digits.LAYERS))

# %% [markdown]
# ## Why the head first
#
# The gradient that reaches the body has passed through the head. Compare it with a random head and with
# one that was trained for 100 steps while the body was frozen.
#
# **Predict.** The body's gradient is how many times as large with the random head, rounded down to a
# power of ten: 1, 10, 100 or 1000?

# %%
predict("times as large, power of ten", ...)


# %%
def body_gradient(model):
    """The norm of the gradient of all layers before the head, on all training pictures."""
    model.zero_grad()
    nn.functional.cross_entropy(model(task.train.images), task.train.targets).backward()
    squares = [
        layer.weight.grad.square().sum() for layer in (model.conv1, model.conv2, model.conv3)
    ]
    return torch.stack(squares).sum().sqrt().item()


warmed = digits.freeze(digits.pretrained(seed=0), digits.BODY)
digits.fit(warmed, task.train, rate=0.03, steps=100, seed=0)
warmed.requires_grad_(True)
times = body_gradient(digits.pretrained(seed=0)) / body_gradient(warmed)
compare("times as large, power of ten", 10 ** int(math.log10(times)), within=0, digits=0)

# %% [markdown]
# The trained head has left little error to send back. So train in two stages: the head alone, then
# everything. Otherwise, says the forum article under Sources, the random head's errors *destroy what the
# layers knew*. Two things can be measured: the accuracy, and how far the features travelled, in units of how
# much they vary from picture to picture.

# %%
at_once = digits.tuned(lambda: digits.pretrained(seed=0), task, seed=0)
staged = digits.best(steps.head_first(0, task, rate) for rate in digits.RATES)
travelled = {
    name: steps.drift(found.model, digits.pretrained(seed=0), task.test)
    for name, found in (("all at once", at_once), ("head first", staged))
}
for name, far in travelled.items():
    print(f"{name:<12} the features travelled {far:.1f}")
assert travelled["head first"] < travelled["all at once"]

# %% [markdown]
# One training is an anecdote; the ledger has many, with four learning rates for each way. There,
# on <!-- evidence: C6.on -->25 digits of 8 x 8 pixels to learn from, 450 to test; 16 draws<!-- end -->, the features travel <!-- evidence: C6.all at once.drift -->1.04<!-- end --> of their spread when everything is trained at once
# and <!-- evidence: C6.head first.drift -->0.29<!-- end --> with the head first, a difference of <!-- evidence: C6.drift -->-0.75 [-0.90, -0.60]<!-- end -->.
#
# And the accuracy? Beside head first stands another cure: **warm-up**, a rate that starts small and rises.
#
# | in test accuracy | digits | photographs |
# |---|---|---|
# | head first minus all at once | <!-- evidence: C6.gain -->-0.005 [-0.009, -0.001]<!-- end -->: <!-- evidence: C6.gain.verdict -->no difference that matters<!-- end --> | <!-- evidence: C6_photographs.gain -->0.026 [0.006, 0.046]<!-- end -->: <!-- evidence: C6_photographs.gain.verdict -->held<!-- end --> |
# | warm-up minus a constant rate | <!-- evidence: C20.warmup -->0.009 [0.004, 0.014]<!-- end -->: <!-- evidence: C20.warmup.verdict -->no difference that matters<!-- end --> | <!-- evidence: C20_photographs.warmup -->-0.002 [-0.018, 0.015]<!-- end -->: <!-- evidence: C20_photographs.warmup.verdict -->no difference that matters<!-- end --> |
# | head first minus warm-up | <!-- evidence: C20.still -->-0.014 [-0.020, -0.007]<!-- end -->: <!-- evidence: C20.still.verdict -->did not hold<!-- end --> | <!-- evidence: C20_photographs.still -->0.028 [0.006, 0.051]<!-- end -->: <!-- evidence: C20_photographs.still.verdict -->held<!-- end --> |
#
# (The same digits; <!-- evidence: C6_photographs.on -->50 photographs of food at 96 pixels to learn from, 400 to test; ImageNet's weights; 30 draws<!-- end -->.) "Held" means that the first of the two was better.
#
# So the features travel less (their body also trains for half as many steps). Whether this is *good*
# depends: on digits it gained nothing; on photographs it did, also over warm-up, which gained nothing.
# Kumar and colleagues found that in large networks head first paid most on pictures unlike the training
# pictures.

# %% [markdown]
# ## How fast: the factor ten
#
# The forum article: take a learning rate ten times smaller than for training from scratch. The rate is a
# **hyperparameter**: training doesn't learn it, you choose it. Here are seven, for new and for pretrained
# weights, on 50 pictures.

# %%
task50 = digits.target_task(seed=0, n=50)
starts = {
    "from scratch": lambda: digits.new_network(7000),
    "fine-tuned": lambda: digits.pretrained(seed=0),
}
curves = {}
for name, start in starts.items():
    found = [digits.train_and_score(start(), task50, rate, seed=0).val for rate in steps.FINE_RATES]
    curves[name] = (steps.FINE_RATES, found)

# %% tags=["nbval-ignore-output"]
plots.show(
    plots.lines(
        curves, "learning rate", "validation accuracy", log_x=True, level=(0.2, "guessing")
    ),
    alt="""Validation accuracy over learning rates from 0.0003 to 0.3, on a logarithmic axis, for a
    network from scratch and a fine-tuned one. Both have a wide flat top; the fine-tuned one is
    far ahead at the smallest rates, and both fall to guessing at the largest one.""",
)
low, high = steps.FINE_RATES[0], steps.FINE_RATES[-1]
for name, (_, values) in curves.items():
    print(
        f"{name:<13}{values[0]:.2f} at {low}, at best {max(values):.2f}, {values[-1]:.2f} at {high}"
    )
flat = {name: sum(v > max(values) - 0.05 for v in values) for name, (_, values) in curves.items()}
assert curves["fine-tuned"][1][0] > curves["from scratch"][1][0]
assert all(values[-1] < max(values) for _, values in curves.values())
assert min(flat.values()) >= 3

# %% [markdown]
# Both tops are wide and flat. So where is the best rate? The ledger puts a parabola through the validation
# losses of the seven and takes its lowest point. The best rate from scratch was <!-- evidence: C4.factor -->11.7 [6.0, 23.0]<!-- end --> times the
# best for fine-tuning (<!-- evidence: C4.on -->50 digits of 8 x 8 pixels to learn from, 450 to test; 16 draws<!-- end -->); with the smallest of the seven losses instead, <!-- evidence: C4.lowest -->7.0 [3.2, 15.1]<!-- end --> times
# (<!-- evidence: C4.lowest.verdict -->held<!-- end -->). A tenth of the scratch rate changed the accuracy by <!-- evidence: C4.tenth -->0.006 [-0.001, 0.013]<!-- end --> against the
# tuned one: <!-- evidence: C4.tenth.verdict -->held<!-- end -->, a fair place to begin on digits.
#
# On photographs it came out the other way round: from scratch, the best rate
# was <!-- evidence: C4_photographs.factor -->0.15 [0.04, 0.54]<!-- end --> times the best for fine-tuning, and a tenth of it changed the accuracy
# by <!-- evidence: C4_photographs.tenth -->-0.237 [-0.274, -0.199]<!-- end --> (<!-- evidence: C4_photographs.tenth.verdict -->did not hold<!-- end -->; <!-- evidence: C4_photographs.on -->250 photographs of CIFAR-10 to learn from, 1,000 to test; weights of its other five classes; 5 draws<!-- end -->).
# A likely reason, not tested: new weights learn 250 pictures by heart, which costs least at a small rate.
#
# So ten is no law. Try three or four rates, a factor of three apart, and let validation choose.
#
# ## A rate for each depth
#
# If early layers hold what most pictures have in common, they should move less than late ones. So let
# the rate fall from the head to the first layer (Howard and Ruder: discriminative fine-tuning):

# %%
rates = training.depth_rates(digits.BODY, rate=0.03, depth_factor=0.1) | {"fc": 0.03}
for layer, rate in rates.items():
    print(f"{layer:<7}{rate:.4f}")

# %% [markdown]
# ## Learning rate 0 is not freezing
#
# The repost (under Sources): rate 0 for all other layers and a high one for the last makes that one converge fast. But does
# the body stand still? Ask the audit of chapter 04, with a network that has BatchNorm.
#
# **Predict.** A body with two BatchNorm layers at rate 0, one step in training mode: how many of its
# tensors move, parameters and buffers counted?

# %%
predict("tensors that move at rate 0", ...)


# %%
def batchnorm_network(seed):
    """Convolutions with BatchNorm, and a head for five classes."""
    torch.manual_seed(seed)
    body = [nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU()]
    body += [nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.BatchNorm2d(32), nn.ReLU()]
    return nn.Sequential(*body, nn.Flatten(), nn.Linear(512, 5))


def one_step(model, optimizer):
    """One step of training on 16 pictures."""
    model.train()
    optimizer.zero_grad()
    batch = task50.train.images[:16], task50.train.targets[:16]
    nn.functional.cross_entropy(model(batch[0]), batch[1]).backward()
    optimizer.step()


# %%
model = batchnorm_network(0)
body = [each for name, each in model.named_parameters() if not name.startswith("7.")]
optimizer = torch.optim.SGD(
    [{"params": body, "lr": 0.0}, {"params": model[7].parameters(), "lr": 0.1}],
    lr=0.1,
    momentum=0.9,
)
report = freezing.audit(model, optimizer, one_step)
moved = [name for name in report.changed if not name.startswith("7.")]
print("moved in the body:", ", ".join(moved))
compare("tensors that move at rate 0", len(moved), digits=0)

# %% [markdown]
# No weight moved; the six buffers did. Two more things differ from freezing. Every gradient of the body is
# computed, at full price. And the optimizer collects momentum, for the first step after you raise the rate:

# %%
for _ in range(20):
    one_step(model, optimizer)
collected = optimizer.state[model[0].weight]["momentum_buffer"].norm().item()
last = model[0].weight.grad.norm().item()
computed = sum(each.grad is not None for each in body)
waiting = sum("momentum_buffer" in optimizer.state[each] for each in body)
print(
    f"of {len(body)} weights and biases in the body: {computed} with a gradient, {waiting} with momentum"
)
assert collected > last

# %% [markdown]
# And does the last layer converge fast? In the ledger, rate 0 in the body is set against one rate for all.
# On digits (<!-- evidence: C16.on -->50 digits of 8 x 8 pixels to learn from, 450 to test; 16 draws<!-- end -->) it
# took <!-- evidence: C16.steps -->1.0 [0.9, 1.2]<!-- end --> times the steps to validation accuracy 0.8, each at the rate that got there first
# (<!-- evidence: C16.steps.verdict -->did not hold<!-- end -->), and its final accuracy differed by <!-- evidence: C16.accuracy -->-0.010 [-0.020, 0.000]<!-- end -->
# (<!-- evidence: C16.accuracy.verdict -->no difference that matters<!-- end -->).
#
# On photographs (<!-- evidence: C16_photographs.on -->50 photographs of food at 96 pixels to learn from, 400 to test; ImageNet's weights; 30 draws<!-- end -->), with each way's rate chosen by validation loss, it
# took <!-- evidence: C16_photographs.steps -->0.4 [0.3, 0.5]<!-- end --> times the steps to 0.7 (<!-- evidence: C16_photographs.steps.verdict -->held<!-- end -->), and its final
# accuracy differed by <!-- evidence: C16_photographs.accuracy -->-0.003 [-0.025, 0.019]<!-- end --> (<!-- evidence: C16_photographs.accuracy.verdict -->no difference that matters<!-- end -->).

# %% [markdown]
# ## Letting go, layer by layer
#
# Gradual unfreezing starts with the head and lets one part more go every few epochs, from the top
# down. Flags, the optimizer's groups, old gradients and momentum must be right at each of these moments;
# `freezing.unfreeze` with `optimizer=` sees to all of them.

# %%
parts = {
    name: TensorDataset(each.images, each.targets)
    for name, each in (("train", task50.train), ("val", task50.val))
}
order = {5: "conv3", 10: "conv2", 15: "conv1"}  # after this epoch, this layer too
folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
saved = Path(folder.name, "staged.ckpt")
came = digits.pretrained(seed=0)  # to compare with: it stays as it is


def how_far(model, layers=digits.LAYERS):
    """How far these layers' weights are from the start, in units of their size there."""
    pairs = [(model.get_submodule(n).weight, came.get_submodule(n).weight) for n in layers]
    moved = sum((now - then).square().sum() for now, then in pairs)
    return (moved / sum(then.square().sum() for _, then in pairs)).sqrt().item()


def first_start(seed):
    """Network, optimizer and loader, and the stream that shuffles."""
    model = digits.pretrained(seed=0)
    freezing.freeze(model, digits.BODY)
    optimizer = torch.optim.SGD(model.fc.parameters(), lr=0.03, momentum=0.9)
    shuffle = torch.Generator().manual_seed(seed)
    return model, optimizer, DataLoader(parts["train"], 16, shuffle=True, generator=shuffle)


# %%
def go_on(model, optimizer, loader, done=0, until=20):
    """The epochs after those that are done; how far each layer was after each of them."""
    way = {layer: [] for layer in digits.LAYERS}

    def after_epoch(end):
        epoch = done + end.epoch
        for layer in way:
            way[layer].append(how_far(model, [layer]))
        if epoch in order:
            freezing.unfreeze(model, order[epoch], optimizer=optimizer, lr=0.003)
        if epoch == 12:
            streams = {"shuffle": loader.generator}
            weights.save_checkpoint(saved, model, optimizer, epoch=epoch, generators=streams)

    training.finetune(
        model, loader, epochs=until - done, optimizer=optimizer, on_epoch_end=after_epoch
    )
    return way


whole, optimizer, loader = first_start(seed=0)
way = go_on(whole, optimizer, loader)

# %% jupyter={"source_hidden": true}
names = {layer: "head" if layer == "fc" else layer for layer in reversed(digits.LAYERS)}
after = range(len(way["fc"]) + 1)
series = {name: (after, [0, *way[layer]]) for layer, name in names.items()}
figure, axes = plots.new_axes(7.2, 2.8, 1, 2)
for axis in axes.flat:
    plots.lines(series, "epochs done", "way from the start", axis=axis)
axes[0, 1].set_ylim(-0.005, 1.1 * max(max(way[layer]) for layer in digits.BODY))
axes[0, 1].set_title("the same, close to 0")
axes[0, 1].get_legend().remove()
plots.show(
    figure,
    alt="""How far each layer is from its start, over 20 epochs; on the right the same, close to 0. The
    head moves from the first epoch on and goes by far the farthest. conv3 lies at exactly 0 until
    epoch 5, conv2 until 10 and conv1 until 15; then each rises a little, the later the less.""",
)
for epoch in (5, 10, 15, 20):
    moved = [names[layer] for layer in names if way[layer][epoch - 1]]
    print(f"after epoch {epoch:>2}, not where it started:", *moved)

# %% [markdown]
# A layer stands still, to the bit, until its turn. And if the machine goes down in the middle? The run saved
# itself after epoch 12, with two layers of three let go. Now it is resumed from there.
#
# **Predict.** Of the network's 8 tensors, how many are equal, bit for bit, at the end of the resumed run
# and of the one that never stopped?

# %%
predict("equal after resuming", ...)

# %%
model, optimizer, loader = first_start(seed=1)  # a new process: frozen, one group, another order
streams = {"shuffle": loader.generator}
progress = weights.resume_checkpoint(saved, model, optimizer, generators=streams)
print("resumed after epoch", progress.epoch, "| added:", *progress.added)
print("frozen again:", *freezing.frozen_names(model))
go_on(model, optimizer, loader, done=progress.epoch)
ends = zip(model.state_dict().values(), whole.state_dict().values(), strict=True)
compare("equal after resuming", sum(torch.equal(*pair) for pair in ends), digits=0)

# %% [markdown]
# The checkpoint knows what was frozen, which groups came on the way, the momentum, and where the streams of
# random numbers were: the loader's own goes in as `generators=`, an average of the weights as `averaged=`.
#
# ### Warm up, then fall
#
# **A schedule** multiplies the rates of all groups by a factor that changes over time. Warm-up starts small,
# while the optimizer's averages of past gradients (momentum, Adam's moments) know nothing yet; then the rates
# fall.

# %%
curve = training.warm_up_and_fall(warm_up=2, epochs=10)  # epoch, from 0 -> factor

# %% jupyter={"source_hidden": true}
plots.show(
    plots.lines(
        {
            "head" if layer == "fc" else layer: (range(1, 11), [rate * curve(e) for e in range(10)])
            for layer, rate in reversed(rates.items())
        },
        "epoch",
        "learning rate",
        axis=plots.new_axes(5.6, 2.6)[1][0, 0],
    ),
    alt="""The rates of the head and of three layers over ten epochs, one below the other. All rise in
    equal steps over the first three epochs and then fall along half a cosine almost to 0.""",
)
print("factor of the rates:", " ".join(f"{curve(epoch):.2f}" for epoch in range(10)))

# %% [markdown]
# In `finetune` it goes in as `scheduler=lambda each: LambdaLR(each, curve)`, PyTorch's own class. A scheduler
# is built for the groups of that moment; `unfreeze` warns you when one comes later. The simplest way out is
# to build both anew for each stage.
#
# ### When to stop
#
# **Early stopping** ends **overfitting**, when a network learns its training pictures by heart and gets
# worse on others. With `val=` and `patience=`, `finetune` stops when so many epochs in a row brought
# nothing better, and gives back the weights of the best epoch.

# %%
model = digits.pretrained(seed=0)
history = training.finetune(
    model, parts["train"], val=parts["val"], epochs=60, lr=0.003, momentum=0.9, patience=5, seed=0
)
print("epochs since the best one:", len(history) - history.best_epoch)
print("from the best to the one that the network holds:", history.kept_epoch - history.best_epoch)
assert len(history) < 60

# %% [markdown]
# ## What BatchNorm wants
#
# A BatchNorm layer in training mode normalises by the *batch's* mean and variance; in evaluation
# mode by its running statistics. In small batches each picture's features depend on which others happen to
# be with it. How much? The same network, the same 48 pictures, in batches of 4, 16 and 48:

# %%
bn_net = batchnorm_network(0)
digits.fit(bn_net, digits.target_task(seed=1, n=200).train, rate=0.03, steps=200, seed=0)
x = task50.train.images[:48]
seen, noise = {}, {}
with torch.no_grad():
    expected = bn_net.eval()[:-1](x)
    spread = (expected - expected.mean(0)).norm()
    for size in (4, 16, 48):
        looker = copy.deepcopy(bn_net).train()
        seen[size] = torch.cat([looker[:-1](part) for part in x.split(size)])
        noise[size] = ((seen[size] - expected).norm() / spread).item()

# %% jupyter={"source_hidden": true}
figure, axes = plots.new_axes(7.2, 2.7, 1, len(seen))
some = slice(None, None, 37)  # one in 37 of all features of all pictures
end = max(each.max() for each in seen.values())
for axis, (size, each) in zip(axes.flat, seen.items(), strict=True):
    axis.plot([0, end], [0, end], color="#666666", linewidth=0.8)
    axis.plot(
        expected.flatten()[some], each.flatten()[some], "o",
        color=plots.COLOURS["blue"], markersize=2, alpha=0.6,
    )  # fmt: skip
    axis.set_title(f"batches of {size}")
    axis.set_xlabel("in evaluation mode")
axes[0, 0].set_ylabel("in training mode")
plots.show(
    figure,
    alt="""The same features of the same pictures, twice: across, as in evaluation mode; upwards, as
    in training mode. In batches of 48 the points lie close to the diagonal, in batches of 16 around
    it, in batches of 4 they are a wide cloud.""",
)
for size, each in noise.items():
    print(f"batches of {size:>2}: {each:.2f} of the spread away from evaluation")
assert noise[4] > noise[16] > noise[48]
assert noise[4] > 2 * noise[48]

# %% [markdown]
# So with small batches, hold the layer's statistics, and let its weight and bias train. (With large batches
# of pictures that look different, the opposite can be right.)

# %%
held = training.hold_statistics(bn_net)
print("held:", ", ".join(held))
with torch.no_grad():
    seen = torch.cat([bn_net.train()[:-1](part) for part in x.split(4)])
print(f"largest difference from evaluation, in training mode: {(seen - expected).abs().max():.4f}")
trained = [name for name, each in bn_net.named_parameters() if each.requires_grad]
print("trains as before:", ", ".join(trained))

# %% [markdown]
# ## Sum or mean
#
# The book's loop adds up the losses of a batch. A reader wrote `CrossEntropyLoss()`, the mean, and got
# "wildly different results" at the same learning rate. The mean's gradient is the sum's, divided by the
# batch size. SGD's step follows the gradient; Adam divides each gradient by its own usual size. Here is
# the first step of both, in batches of 16.
#
# **Predict.** With the sum, how many times as long is the first step of SGD? And of Adam?

# %%
predict("SGD, sum over mean", ...)
predict("Adam, sum over mean", ...)


# %%
def first_step(kind, reduction):
    """How far one step moves the weights of a pretrained network."""
    model = digits.pretrained(seed=0)
    optimizer = kind(model.parameters(), lr=0.001)
    scores = model(task50.train.images[:16])
    nn.functional.cross_entropy(scores, task50.train.targets[:16], reduction=reduction).backward()
    before = torch.cat([each.detach().flatten() for each in model.parameters()])
    optimizer.step()
    return (torch.cat([each.detach().flatten() for each in model.parameters()]) - before).norm()


for name, kind in (("SGD", torch.optim.SGD), ("Adam", torch.optim.Adam)):
    ratio = (first_step(kind, "sum") / first_step(kind, "mean")).item()
    print(f"{name}: the sum's step is {ratio:.1f} times as long")
    compare(f"{name}, sum over mean", ratio, within=0.5, digits=1)

# %% [markdown]
# In the ledger it was tried at the book's own numbers: SGD at 5e-5, batches of 128, five epochs,
# on <!-- evidence: C10_photographs.on -->512 photographs of food at 96 pixels to learn from, 400 to test; ImageNet's weights; 5 draws<!-- end -->. With the mean at the rate of the sum, the accuracy changed
# by <!-- evidence: C10_photographs.sgd -->-0.317 [-0.386, -0.248]<!-- end -->; with the rate multiplied by the batch size, by <!-- evidence: C10_photographs.rescaled -->-0.001 [-0.006, 0.002]<!-- end -->;
# with Adam, by <!-- evidence: C10_photographs.adam -->0.000 [-0.006, 0.007]<!-- end -->. So "wildly different" <!-- evidence: C10_photographs.verdict -->holds when SGD keeps its learning rate<!-- end -->. On digits,
# at the best rate for the sum, the mean changed it by <!-- evidence: C10.sgd -->-0.011 [-0.022, -0.001]<!-- end -->: there the top of the curve is flat.
#
# A learning rate means something only together with the reduction and the batch size.
#
# ## A pull back to the start
#
# Weight decay pulls every weight towards zero, where a pretrained weight has no business. L2-SP (Li and
# colleagues) pulls it to *where it started*. `training.pull_to_start` adds that to any optimizer, for all
# that it holds: here the new head too, which exercise 6.6 leaves out.

# %%
far = {}
for strength in (0.0, 0.1, 1.0):
    model = digits.pretrained(seed=0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.03)
    training.pull_to_start(optimizer, strength)
    way = far[strength] = [0.0]
    training.finetune(
        model, parts["train"], epochs=10, optimizer=optimizer, seed=0,
        on_epoch_end=lambda end, way=way: way.append(how_far(end.model)),
    )  # fmt: skip

# %% jupyter={"source_hidden": true}
plots.show(
    plots.lines(
        {
            f"pull {strength:g}" if strength else "fine-tuned": (range(len(found)), found)
            for strength, found in far.items()
        },
        "epochs done",
        "way from the start",
        axis=plots.new_axes(5.6, 2.6)[1][0, 0],
    ),
    alt="""How far all weights are from the start over ten epochs of fine-tuning. Without a pull the
    way grows the most; a pull of 0.1 shortens it a little, a pull of 1 by about a third.""",
)
freely = far[0.0][-1]
for strength, found in far.items():
    print(f"pull {strength:<4g} {found[-1] / freely:.1f} of the way that it goes without a pull")
assert far[1.0][-1] < far[0.1][-1] < far[0.0][-1]

# %% [markdown]
# ## Size against time
#
# There is one more thing to spend time on: larger pictures. With a frozen body and a linear head, each
# picture goes through the network once. Training the body sends each one through in every epoch, forth
# and back, at every rate tried; back costs about twice as much as forth.
#
# Here are 100 of the drawn pictures of food from chapter 02, and the network that learned on ImageNet:
# three heads, and all layers trained for four epochs at one rate.
#
# **Predict.** How many times the work of 96 pixels is 224 pixels, for one picture? And which of the
# four is right most often: `"head, 96"`, `"head, 160"`, `"head, 224"` or `"all layers, 96"`?

# %%
predict("times the work", ...)
predict("right most often", ...)

# %%
lite = backbones.load(p.backbone, num_classes=2).to(p.device)


def work_of(size):
    """Additions and multiplications for one picture's way through the network."""
    with FlopCounterMode(display=False) as counted, torch.no_grad():
        lite.eval()(torch.zeros(1, 3, size, size, device=p.device))
    return counted.get_total_flops()


# %%
work, right = {}, {}
for size in (96, 160, 224):
    see = backbones.preprocessing(p.backbone, size).eval
    some = data.balanced_subset(data.hotdog(split="train", transform=see), 100, seed=p.seed)
    new = data.hotdog(split="test", transform=see)
    train, test = (features.extract(lite, each, cache=False) for each in (some, new))
    head = features.classifiers()["logistic_regression"].fit(*train.arrays())
    work[f"head, {size}"] = len(some) * work_of(size)
    right[f"head, {size}"] = head.score(*test.arrays())
    if size == 96:
        small, tested = some, new
epochs = 4
training.finetune(lite, small, epochs=epochs, lr=p.learning_rate, momentum=p.momentum, seed=p.seed)
work["all layers, 96"] = 3 * epochs * len(small) * work_of(96)
right["all layers, 96"] = training.evaluate(lite, tested).accuracy

# %% tags=["nbval-ignore-output"]
unit = work["head, 96"]
heads = [name for name in work if name.startswith("head")]
figure = plots.lines(
    {
        label: ([work[name] / unit for name in names], [right[name] for name in names])
        for label, names in {"head": heads, "all layers": ["all layers, 96"]}.items()
    },
    "work, in passes of all pictures at 96 pixels",
    "test accuracy",
)
for name in work:
    figure.axes[0].annotate(
        name.split(", ")[1], (work[name] / unit, right[name]), xytext=(4, 5),
        textcoords="offset points", fontsize=8,
    )  # fmt: skip
plots.show(
    figure,
    alt="""Test accuracy over work. Three linear heads, joined by a line, cost 1, about 3 and about 5
    passes and are right on more than nine in ten; the larger the pictures, the more. All layers
    trained at 96 pixels cost 12 passes and lie below them.""",
)
for name in work:
    print(f"{name:<15}{work[name] / unit:>6.1f} passes, test accuracy {right[name]:.2f}")
compare("right most often", max(right, key=right.get))

# %%
assert max(work, key=work.get) == "all layers, 96"
print(
    f"all layers at 96 cost {work['all layers, 96'] / work['head, 224']:.1f} times the head at 224"
)
compare("times the work", work["head, 224"] / unit, digits=1, within=0.5)

# %% [markdown]
# One run ranks nothing; here is the ledger's: 100 training pictures a draw, five draws (drawn ones: twelve);
# the head's
# penalty by cross-validation on these; for all layers three rates of Adam, four epochs each, the rate by
# validation pictures.
#
# | test accuracy | drawn pictures | photographs of food |
# |---|---|---|
# | head at 96 pixels | <!-- evidence: picture_size.head 96.test_accuracy -->0.947<!-- end --> | <!-- evidence: size_photographs.head 96.test_accuracy -->0.844<!-- end --> |
# | head at 160 | <!-- evidence: picture_size.head 160.test_accuracy -->0.956<!-- end --> | <!-- evidence: size_photographs.head 160.test_accuracy -->0.908<!-- end --> |
# | head at 224 | <!-- evidence: picture_size.head 224.test_accuracy -->0.969<!-- end --> | <!-- evidence: size_photographs.head 224.test_accuracy -->0.925<!-- end --> |
# | all layers at 96 | <!-- evidence: picture_size.body 96.test_accuracy -->0.914<!-- end --> | <!-- evidence: size_photographs.body 96.test_accuracy -->0.795<!-- end --> |
# | 160 minus 96 | <!-- evidence: picture_size.larger -->0.009 [-0.009, 0.026]<!-- end --> | <!-- evidence: size_photographs.larger -->0.065 [0.045, 0.084]<!-- end --> |
# | 224 minus 160 | <!-- evidence: picture_size.largest -->0.013 [-0.004, 0.030]<!-- end --> | <!-- evidence: size_photographs.largest -->0.017 [-0.006, 0.039]<!-- end --> |
# | head at 224 minus all layers at 96 | <!-- evidence: picture_size.body -->0.055 [0.031, 0.079]<!-- end --> | <!-- evidence: size_photographs.body -->0.130 [0.101, 0.158]<!-- end --> |
#
# On photographs, 160 pixels gained over 96; that 224 gain more was not shown. On the drawn pictures neither
# gain matters. The head at 224 was ahead of all layers trained at 96 on both,
# with <!-- evidence: picture_size.head 224.work -->77<!-- end --> billion operations against <!-- evidence: picture_size.body 96.work -->534<!-- end -->. That is for
# 100 pictures and four epochs; with more of both, a trained body may catch up.

# %% [markdown]
# ## The recipe
#
# `recipe.fit` puts the chapter together. From the amount of data, and how well a linear layer on the frozen
# features does in cross-validation, it makes a plan and gives its reasons:

# %% tags=["nbval-ignore-output"]
sets = [
    TensorDataset(each.images, each.targets) for each in (task50.train, task50.val, task50.test)
]
settings = {"model": digits.pretrained(seed=0), "budget": 4000, "batch_size": 16, "cache": False}
planned = recipe.fit(*sets, plan_only=True, **settings)

# %%
assert sum(planned.facts.training) == 50
assert planned.steps == []
print("amount:", planned.facts.amount, "| stages after the head:", len(planned.plan.stages))

# %% [markdown]
# Then it follows the plan:
#
# 1. The head is trained on features that are computed once (chapter 05).
# 2. Each stage starts from the best weights so far (the one with a new head, from the body as it came). It
#    is kept only if it beats what was best before by more than chance: the **confidence interval** of the
#    difference in loss, picture by picture, lies above zero. (It holds the true difference 19 times in 20.)
# 3. At the end the head is fitted once more, on training and validation pictures.
# 4. The test pictures are looked at once.
#
# The report numbers the digits 5 to 9 from 0 to 4.

# %% tags=["nbval-ignore-output"]
run = recipe.fit(*sets, **settings)
print(run.report(plan=False))

# %%
assert run.test is not None
assert run.passes <= 4000
assert run.test.accuracy >= 0.8
print("tried:", ", ".join(each.name for each in run.steps))
print("kept at first:", next(each.name for each in run.steps if each.kept))

# %% [markdown]
# Every number can be changed by name, such as `stages=()` for the head alone or `pull=0.01` for L2-SP. A
# name that doesn't exist is refused, and the nearest right one named.
#
# On a folder of your own pictures it also tries several sizes, as far as two minutes allow. Every class
# counts the same (`class_weight=None` switches that off; chapter 05). The scores are scaled by a
# **temperature**, so that of the answers given 0.8, about eight in ten are right (**calibration**):
#
# ```python
# mine = recipe.fit("my_pictures", save_to="mine.safetensors")
# print(mine.report())
# recipe.load("mine.safetensors").predict("photo.jpg")
# ```
#
# ### Is it better than what it replaces?
#
# In the ledger it was set against plain fine-tuning and the frozen head, on five tasks: digits, few and more,
# as they are and turned, inverted and noisy; and the bundled pictures with the ImageNet network. On average
# over the tasks and ten draws, its test accuracy minus plain fine-tuning's was <!-- evidence: recipe.plain -->0.030 [0.023, 0.038]<!-- end -->
# (<!-- evidence: recipe.plain.verdict -->held<!-- end -->: it is better), and minus that of a frozen head trained to its
# optimum <!-- evidence: recipe.frozen -->0.003 [-0.001, 0.007]<!-- end --> (<!-- evidence: recipe.frozen.verdict -->no difference that matters<!-- end -->). (Two earlier forms had been run on these draws.)
#
# Look at the tasks one by one before you believe an average. The gain over plain fine-tuning
# is <!-- evidence: recipe.plain_hot_dogs -->0.150 [0.103, 0.197]<!-- end --> on the hot dogs, and on the four digit tasks
# it is <!-- evidence: recipe.plain_few_digits -->0.004 [-0.006, 0.013]<!-- end -->, <!-- evidence: recipe.plain_more_digits -->0.008 [-0.001, 0.016]<!-- end -->, <!-- evidence: recipe.plain_few_odd_digits -->-0.010 [-0.021, 0.002]<!-- end -->
# and <!-- evidence: recipe.plain_more_odd_digits -->0.000 [-0.016, 0.016]<!-- end -->: one task carries it. On the hot dogs, plain fine-tuning
# reached <!-- evidence: recipe.hot dogs: plain.test_accuracy -->0.784<!-- end -->, the frozen
# head <!-- evidence: recipe.hot dogs: frozen head.test_accuracy -->0.934<!-- end -->, the
# recipe <!-- evidence: recipe.hot dogs: recipe.test_accuracy -->0.934<!-- end -->: a large network, few pictures, and not much time.
#
# A frozen head is a strong **baseline**, the simple thing that what costs more has to beat. Train it first.

# %% [markdown]
# ## Pitfalls
#
# - **Unfrozen, but not in the optimizer**: gradients come, nothing moves.
# - **Resuming with the weights alone**: the stage, the groups and the momentum are gone.
# - **Choosing the stage by the test pictures**: they were the last honest number you had.
# - **A validation part of 20 pictures**: one picture is five points.
# - **BatchNorm in training mode with batches of 4**: hold its statistics.

# %% [markdown]
# ## Exercises
#
# Write your answer in place of the dots and run the cell. Each has hints, and a solution with reasons.

# %%
from course_lib.exercises.chapter_06 import ex6_1, ex6_2, ex6_3, ex6_4, ex6_5, ex6_6, ex6_7, ex6_8
from course_lib.exercises.chapter_06 import q6_1, q6_2, q6_3, q6_4, q6_5, q6_6

# %% [markdown]
# ### 6.1  A learning rate for each depth

# %%
ex6_1


# %% tags=["exercise"]
def groups_by_depth(model, rate, factor):
    groups = []
    for layer in model.children():
        groups.append({"params": list(layer.parameters()), "lr": ...})
    return groups


ex6_1.check(groups_by_depth)

# %% [markdown]
# ### 6.2  Head first, then everything

# %%
ex6_2


# %% tags=["exercise"]
def two_stages(model, fit):
    model.requires_grad_(False)
    model.fc3.requires_grad_(True)
    optimizer = torch.optim.SGD(model.fc3.parameters(), lr=0.1)
    fit(optimizer)
    model.requires_grad_(True)
    fit(optimizer)


ex6_2.check(two_stages)

# %% [markdown]
# ### 6.3  What moves at learning rate 0

# %%
ex6_3

# %% tags=["exercise"]
changed = [...]


ex6_3.check(changed)

# %% [markdown]
# ### 6.4  Warm up, then fall

# %%
ex6_4


# %% tags=["exercise"]
def factor(step, warm, total):
    if step < warm:
        return ...
    done = ...
    return 0.5 * (1 + math.cos(math.pi * done))


ex6_4.check(factor)

# %% [markdown]
# ### 6.5  From the sum to the mean

# %%
ex6_5


# %% tags=["exercise"]
def rate_for_mean(optimizer, rate, batch_size):
    if optimizer == "sgd":
        return ...
    return ...


ex6_5.check(rate_for_mean)

# %% [markdown]
# ### 6.6  A pull back to the start

# %%
ex6_6


# %% tags=["exercise"]
def pull_of(model):
    start = {name: p.data for name, p in model.named_parameters() if not name.startswith("fc3.")}

    def penalty():
        weights = dict(model.named_parameters())
        return 0.5 * sum(((weights[name] - start[name]) ** 2).sum() for name in start)

    return penalty


ex6_6.check(pull_of)

# %% [markdown]
# ### 6.7  Stop early, keep the best

# %%
ex6_7


# %% tags=["exercise"]
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


ex6_7.check(train_with_patience)

# %% [markdown]
# ### 6.8  Larger pictures or more passes

# %%
ex6_8


# %% tags=["exercise"]
def times_the_work(large, small, epochs, rates):
    of_head = ...
    of_training = ...
    return of_training / of_head


ex6_8.check(times_the_work)

# %% [markdown]
# ### Questions
#
# Put the letter of your answer in place of the dots.

# %%
q6_1

# %% tags=["exercise"]
q6_1.answer(...)

# %%
q6_2

# %% tags=["exercise"]
q6_2.answer(...)

# %%
q6_3

# %% tags=["exercise"]
q6_3.answer(...)

# %%
q6_4

# %% tags=["exercise"]
q6_4.answer(...)

# %%
q6_5

# %% tags=["exercise"]
q6_5.answer(...)

# %%
q6_6

# %% tags=["exercise"]
q6_6.answer(...)

# %% tags=["keep"]
# On Colab and Kaggle, this cell keeps what you did: in your Drive if it is mounted, or as a file.
from course_lib.setup import hosting

hosting.take_home()

# %% [markdown]
# ## Summary
#
# 1. A random head sends the body large gradients; train the head first, and the features travel
#    less. On digits that gained no accuracy, on photographs it did.
# 2. The best learning rate depends on the task; a tenth of that for scratch is no law. The top is flat.
# 3. Learning rate 0 keeps the weights and nothing else: time, BatchNorm and momentum go on.
# 4. A learning rate means something together with reduction, batch size and optimizer only.
# 5. Try a head on larger pictures before you train the body. Let each stage win on validation pictures,
#    or drop it; measure once, by the test pictures.

# %% [markdown]
# ## Sources
#
# - A forum article on when and how to fine-tune, and how to freeze; the forum thread under section
#   14.2 of *Dive into Deep Learning*; a repost on pretraining and fine-tuning.
# - A. Kumar, A. Raghunathan, R. Jones, T. Ma, P. Liang: *Fine-Tuning can Distort Pretrained Features
#   and Underperform Out-of-Distribution*, ICLR 2022, arXiv:2202.10054.
# - J. Howard, S. Ruder: *Universal Language Model Fine-tuning for Text Classification*, ACL 2018,
#   arXiv:1801.06146.
# - X. Li, Y. Grandvalet, F. Davoine: *Explicit Inductive Bias for Transfer Learning with
#   Convolutional Networks*, ICML 2018, arXiv:1802.01483: L2-SP.
# - M. Wortsman and others: *Robust fine-tuning of zero-shot models*, CVPR 2022, arXiv:2109.01903.
# - S. Ioffe, C. Szegedy: *Batch Normalization*, ICML 2015, arXiv:1502.03167.
