# %% [markdown]
# # Adapters and averages: train a little, or average a lot
#
# Freezing keeps a whole network as it is, fine-tuning lets all of it go. Between them stand methods
# that keep every weight and train a small part beside it: LoRA, adapters, biases, norms, prompt
# tokens. And when the training is over, there is a last choice: which weights to keep, those at the
# start, those at the end, or an average. This chapter builds each method by hand, shows that it is
# what the library has, and tells you what came out when it was set against the plain way.
#
# You need 50 minutes to read and run it, and about 45 more for the exercises. The claims are those
# of the papers named at the end; the numbers with intervals come from the course's claims ledger.

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
# - put LoRA into any linear layer or convolution, train it, merge it or take it out again;
# - build adapters and prompt tokens, and train biases or norms alone;
# - say what each of them saves: work, memory, and bytes on the disk;
# - say where LoRA saves memory and where it doesn't;
# - choose between a linear probe first, one layer, and all layers;
# - average weights, and know when not to.

# %%
import copy

import torch
from torch import nn
from torch.utils.data import TensorDataset

from course_lib import backbones, evidence, freezing, profile, training
from course_lib.display import plots
from course_lib.evidence import digit_vit, digits
from course_lib.evidence.studies import shift
from course_lib.exercises import compare, predict
from course_lib.freezing.costs import cost_of_step
from course_lib.strategies import adapters, averages, inserts, lora, probing, prompts, subsets

p = profile.start()  # with other numbers: profile.start(epochs=5, seed=1)

# %% [markdown]
# ## A laboratory with tokens
#
# Most of these methods come from transformers, so here is a small one: timm's `VisionTransformer` on
# scikit-learn's digits. A picture of 8 by 8 pixels becomes 16 patches and a class token, 17 tokens
# of 48 numbers; three blocks follow, each an attention and an MLP. It was trained on the digits 0 to
# 4. Its new task: tell 5 to 9 apart, from 50 pictures. One training takes about a second.

# %%
task = digits.target_task(seed=0, n=50)
vit = digit_vit.pretrained(seed=0)
with torch.no_grad():
    print("tokens of one picture:", tuple(vit.forward_features(task.train.images[:1]).shape[1:]))
print("numbers in the network:", f"{inserts.count(vit.parameters()):,}")
print("one block:", ", ".join(n for n, m in vit.blocks[0].named_modules() if type(m) is nn.Linear))

# %% [markdown]
# ## LoRA by hand
#
# Fine-tuning adds a change to each weight matrix. LoRA says: let the change have a low rank. Then it
# is a product of two thin matrices, and only they train:
#
# $$y = W x + \frac{\alpha}{r}\, B A x$$
#
# $W$ is frozen. $A$ goes down to $r$ numbers, $B$ up again; $B$ begins at zero, so that the network
# begins as what it was. The factor $\alpha/r$ keeps the change about as large when you try another
# rank.


# %%
class LowRank(nn.Module):
    """A linear layer, and a change of low rank beside it."""

    def __init__(self, base, rank, alpha):
        super().__init__()
        self.base, self.scale = base, alpha / rank
        self.down = nn.Linear(base.in_features, rank, bias=False)
        self.up = nn.Linear(rank, base.out_features, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, x):
        return self.base(x) + self.scale * self.up(self.down(x))


def by_hand(model, names, rank, alpha):
    """Put one around each named layer; these and the head train."""
    model.requires_grad_(False)
    for name in names:
        model.set_submodule(name, LowRank(model.get_submodule(name), rank, alpha))
    model.head.requires_grad_(True)
    return model


places = [f"blocks.{number}.attn.qkv" for number in range(3)]
places += [f"blocks.{number}.mlp.fc1" for number in range(3)]

# %% [markdown]
# Now the same from the library: `lora.add` puts the matrices in and gives their names, and
# `subsets.train_only` freezes everything else, bit for bit, statistics included.

# %%
hand = by_hand(digit_vit.pretrained(seed=0), places, rank=4, alpha=8)
ours = digit_vit.pretrained(seed=0)
added = lora.add(ours, places, rank=4, alpha=8)
trains = subsets.train_only(ours, [*added, "head"])

for name in added:  # the same first numbers in both
    ours.get_submodule(name).load_state_dict(hand.get_submodule(name).state_dict())
before = copy.deepcopy(ours.state_dict())
for model in (hand, ours):
    digit_vit.fit(model, task.train, rate=0.01, seed=0)

x = task.test.images
with torch.no_grad():
    scores = ours(x)
    print(f"by hand and from the library, apart by {(hand(x) - scores).abs().max():.4f}")
share = sum(ours.get_parameter(each).numel() for each in trains) / inserts.count(vit.parameters())
print(f"{len(trains)} tensors train: {100 * share:.0f} % of the network's numbers")

# %% [markdown]
# ## What trains: ask the audit
#
# **Predict.** There are twelve thin matrices, two in each of six layers. In the *first* step from
# the pretrained weights, how many of the twelve move?

# %%
predict("thin matrices that move", ...)


# %%
def one_step(model, optimizer):
    """One step on 16 pictures."""
    model.train()
    optimizer.zero_grad()
    batch = task.train.images[:16], task.train.targets[:16]
    nn.functional.cross_entropy(model(batch[0]), batch[1]).backward()
    optimizer.step()


fresh = digit_vit.pretrained(seed=0)
subsets.train_only(fresh, [*lora.add(fresh, places, rank=4, alpha=8), "head"])
trained = [each for each in fresh.parameters() if each.requires_grad]
first = freezing.audit(fresh, torch.optim.SGD(trained, lr=0.1), one_step)
later = freezing.audit(
    ours, torch.optim.SGD([p for p in ours.parameters() if p.requires_grad], lr=0.1), one_step
)
thin = [name for name in first.changed if not name.startswith("head")]
compare("thin matrices that move", len(thin), digits=0)
print("these are:", {name.split(".")[-2] for name in thin})
print("after training:", sum(not name.startswith("head") for name in later.changed))
assert set(later.changed) <= set(trains)

# %% [markdown]
# The gradient of `down` passes through `up`, and `up` is zero. So in the first step only `up` moves,
# and `down` follows from the second on. (Were both zero, nothing would ever move.) The base stands
# still, as the audit shows.
#
# ## Merge it, or take it out
#
# $W$ and $BA$ are both linear, so their sum is one matrix: after training you can add the change to
# the weights, and the network costs what it did before. Or you take the change out and have the old
# network again: not nearly, but bit for bit, since its weights were never touched.

# %%
merged = copy.deepcopy(ours)
print("merged:", len(lora.merge(merged)), "layers")
with torch.no_grad():
    print(f"  its scores differ by {(merged(x) - scores).abs().max():.3f}")
names = sum(name in vit.state_dict() for name in merged.state_dict())
print(f"  {names} of {len(vit.state_dict())} names are those of the start")

saved = inserts.trained_state(ours)
inserts.remove(ours, lora.LoRA)
freezing.unfreeze(ours, "*")
same = [n for n, t in ours.state_dict().items() if torch.equal(t, vit.state_dict()[n])]
print(f"taken out: {len(same)} of {len(vit.state_dict())} tensors bit for bit, but for the head")
print(
    f"to be saved: {inserts.count(saved.values()):,} of {inserts.count(vit.parameters()):,} numbers"
)

# %% [markdown]
# Ten tasks are then one network and ten small files. The file alone is worth nothing without its
# base *and its alpha*, which stands in no shape: keep both beside it.
#
# The library that most people use for this is `peft`. It does the same, and the course's tests hold
# the two together: with the same first numbers, outputs before and after ten steps, the matrices and
# the merged weights agree to 1e-6; so do norm-only tuning and the DoRA of exercise 9.4. (It brings
# `transformers` along, so this page does without.)
#
# ```python
# config = peft.LoraConfig(r=4, lora_alpha=8, target_modules=places, modules_to_save=["head"])
# model = peft.get_peft_model(vit, config)
# ```
#
# ## Adapters and prompt tokens by hand
#
# An **adapter** stands *behind* a layer: down to a few numbers, a nonlinearity, up again, and added.
# **Prompt tokens** are a few learned vectors that go through the blocks beside the picture's tokens;
# only the attention can read them. **BitFit** trains the biases that are there already, **norm-only**
# the weights and biases of the normalisation layers. A new head trains in each of them.


# %%
def adapted(h, down, up):
    """What an adapter makes of a layer's output."""
    return h + up(nn.functional.gelu(down(h)))


def with_tokens(seen, learned):
    """Learned tokens (n, width) behind a picture's tokens (B, T, width)."""
    return torch.cat([seen, learned.expand(len(seen), *learned.shape)], dim=1)


model = digit_vit.pretrained(seed=0)
adapters.add(model, "blocks.0.mlp.fc2", size=4)
prompts.add(model, "norm_pre", count=4, width=48)
layer, h = model.get_submodule("blocks.0.mlp.fc2"), torch.randn(2, 17, 96)
nn.init.normal_(layer.up.weight)
with torch.no_grad():
    behind = adapted(layer.base(h), layer.down, layer.up)
    print(f"adapter, by hand and from the library: apart by {(layer(h) - behind).abs().max():.4f}")
    seen = torch.randn(2, 17, 48)
    both = with_tokens(seen, model.norm_pre.tokens)
    print(f"prompts: apart by {(model.norm_pre(seen) - both).abs().max():.4f}", tuple(both.shape))
biases = [name for name, _ in vit.named_parameters() if name.endswith("bias")]
print(f"biases: {len(biases)} by hand, {len(subsets.biases(vit))} from the library")
assert biases == subsets.biases(vit)

# %%
for way in digit_vit.WAYS:
    model = digit_vit.prepare(digit_vit.pretrained(seed=0), way, seed=0)
    numbers = inserts.count(each for each in model.parameters() if each.requires_grad)
    print(f"{way:<12}{numbers:>7,} numbers train")

# %% [markdown]
# ## What they cost
#
# The transformer is too small to matter. Take a network of the size you will use, EfficientNet-Lite0
# with two classes, and count one training step (`cost_of_step`, chapter 04): work, and bytes kept
# for the backward pass. LoRA of rank 4 stands beside every convolution of one pixel.
#
# **Predict.** LoRA trains 3 % of the numbers. What share of full training's memory for the backward pass
# does its step keep?

# %%
predict("LoRA's share of the memory", ...)


# %%
def costs_of(way):
    """Numbers that train, and the cost of one step of Adam on eight pictures."""
    torch.manual_seed(0)
    net = backbones.load("efficientnet_lite0", num_classes=2, pretrained=False)
    if way == "LoRA, rank 4":
        pointwise = [n for n, m in net.named_modules() if getattr(m, "kernel_size", 0) == (1, 1)]
        subsets.train_only(net, [*lora.add(net, pointwise, rank=4), "classifier"])
    elif way != "all layers":
        names = {"head": [], "last block": ["blocks.6", "conv_head", "bn2"],
                 "norms": subsets.norms(net)}[way]  # fmt: skip
        subsets.train_only(net, [*names, "classifier"])
    batch = torch.randn(8, 3, 96, 96), torch.arange(8) % 2
    trained = [each for each in net.train().parameters() if each.requires_grad]
    optimizer = torch.optim.Adam(trained)

    def step():
        nn.functional.cross_entropy(net(batch[0]), batch[1]).backward()
        optimizer.step()

    return inserts.count(trained), cost_of_step(net, optimizer, step, batch)


# %%
ways = ("all layers", "head", "last block", "norms", "LoRA, rank 4")
cost = {way: costs_of(way) for way in ways}
full = cost["all layers"][1]
print(f"{'':<14}{'work':>6}{'kept':>7}{'trains':>11}")
for way, (numbers, each) in cost.items():
    work, kept = each.flops / full.flops, each.activations / full.activations
    print(f"{way:<14}{work:>6.2f}{kept:>7.2f}{numbers:>11,}")
compare("LoRA's share of the memory", cost["LoRA, rank 4"][1].activations / full.activations,
        within=0.1)  # fmt: skip

# %%
plots.show(
    plots.strips(
        {
            way: [
                ("kept for the backward pass", each.activations / 1e6),
                ("gradients", each.gradients / 1e6),
                ("Adam's moments", each.moments / 1e6),
            ]
            for way, (_, each) in cost.items()
        },
        "megabytes beyond the weights, eight pictures of 96 x 96",
    ),
    alt="""Strips of memory for five ways of training EfficientNet-Lite0. What is kept for the
    backward pass is the longest part for all layers, norms and LoRA, and nearly the same for the three; the
    head and the last block keep next to nothing. Gradients and Adam's moments are visible for all
    layers only, and short for the last block.""",
)
spared = full.gradients + full.moments - cost["LoRA, rank 4"][1].gradients
spared -= cost["LoRA, rank 4"][1].moments
print(f"gradients and moments that LoRA spares: {spared / 1e6:.0f} megabytes")

# %% [markdown]
# Full training's work is one third forward, one third back for the inputs, one third for the
# weights. LoRA and the norms spare the last third, and LoRA's thin matrices cost a little. Both stand
# in *all* depths, so that the gradient has to pass through the whole network, and what a layer needs
# to pass it on is kept: activation functions, norms, and for each `down` its input. The last block
# ends the backward pass early, and that is what saves memory.
#
# So where does LoRA's fame come from? Large language models: there the weights are so many that
# gradients and Adam's moments outgrow the rest, three more numbers a weight, and those LoRA does
# spare. With a small network and many pixels it is the other way round. Anywhere, the files are
# small: 94 thousand numbers instead of 3.4 million.
#
# ## How well they do
#
# **Predict.** Here are four learning rates, a factor of about three apart. At the smallest, which of
# the three is best: `"all layers"`, `"LoRA"` or `"head"`?

# %%
predict("best at the smallest rate", ...)

# %%
RATES = (0.0003, 0.001, 0.003, 0.01)
curves = {}
for way in ("all layers", "LoRA", "head"):
    found = []
    for rate in RATES:
        model = digit_vit.prepare(digit_vit.pretrained(seed=0), way, seed=0)
        digit_vit.fit(model, task.train, rate, seed=0)
        found.append(digits.look(model, task.val)[0])
    curves[way] = (RATES, found)

# %%
plots.show(
    plots.lines(
        curves, "learning rate", "validation accuracy", log_x=True, level=(0.2, "guessing")
    ),
    alt="""Validation accuracy over four learning rates, logarithmic, for all layers, LoRA and the
    head. All layers are far ahead at the smallest rate, and best at 0.001; LoRA rises up to 0.003,
    where it is nearest to them, and falls at 0.01; the head stays low and nearly flat.""",
)
compare("best at the smallest rate", max(curves, key=lambda way: curves[way][1][0]))
assert curves["LoRA"][1][2] > curves["LoRA"][1][0]
print("learning rates:", *curves["LoRA"][0])

# %% [markdown]
# `up` begins at zero and has to grow: at small rates LoRA has hardly left its start when everything
# together has arrived. Compare two methods at *one* rate, and you have compared the rate.
#
# In the ledger each way had six rates, the best by validation, on <!-- evidence: adapters.seeds -->21<!-- end --> draws. (That LoRA's best rate
# is three times that of all layers was expected and not shown.) Here is each small part minus the
# head alone, in test accuracy:

# %%
effects = {each.contrast.name: each for each in evidence.entry("adapters").effects}
rows = {
    way: tuple(getattr(effects[way.lower()].interval, end) for end in ("value", "low", "high"))
    for way in ("LoRA", "adapters", "biases", "norms", "prompts")
}
plots.show(
    plots.intervals(rows, "test accuracy, minus that of the head alone"),
    alt="""Five intervals of the gain in test accuracy over the head alone, for LoRA, adapters,
    biases, norms and prompt tokens, beside a line at zero. The printed lines say the same.""",
)
for way in rows:
    print(f"{way:<10}{effects[way.lower()].text}")

# %% [markdown]
# All five are ahead of the head, LoRA and the norms most. But LoRA is not as
# good as training everything, as is often said. All layers
# reached <!-- evidence: adapters.all layers.test_accuracy -->0.774<!-- end -->,
# LoRA <!-- evidence: adapters.LoRA.test_accuracy -->0.697<!-- end -->, the
# head <!-- evidence: adapters.head.test_accuracy -->0.581<!-- end -->; LoRA minus all layers
# is <!-- evidence: adapters.lora_all -->-0.077 [-0.107, -0.048]<!-- end -->.
#
# Why not here? A low-rank change is enough where little has to change: in a large network that has
# seen nearly everything. This one is small and knew five digits; to see the other five it must
# learn new features, and four directions a layer are few. How LoRA does on a network of a billion
# weights is beyond this page; the paper says.
#
# And on photographs? EfficientNet-Lite0, with 100 photographs of food to learn from, five draws: LoRA minus
# the head is <!-- evidence: adapters_photographs.lora -->-0.003 [-0.035, 0.029]<!-- end -->, the norms minus the head <!-- evidence: adapters_photographs.norms -->0.004 [-0.036, 0.045]<!-- end -->, LoRA minus all layers <!-- evidence: adapters_photographs.lora_all -->0.038 [-0.010, 0.087]<!-- end -->. None of it decides: ImageNet's features leave little to learn.

# %% [markdown]
# ## A linear probe first
#
# LP-FT is chapter 06's head first, with one more thing to say: the probe is trained to its end,
# since on stored features that costs next to nothing; then everything, from there. Kumar and
# colleagues claim that it is as good as training at once on pictures like the training pictures,
# and better on others.

# %%
conv = digits.target_task(seed=0, n=25)
pictures = TensorDataset(conv.train.images, conv.train.targets)
probe, tune = {"epochs": 10, "lr": 0.1}, {"epochs": 5, "lr": 0.01}

hand = digits.pretrained(seed=0)
freezing.freeze(hand, digits.BODY)
training.finetune(hand, pictures, **probe, seed=0)
freezing.unfreeze(hand, digits.BODY)
training.finetune(hand, pictures, **tune, seed=0)

ours = digits.pretrained(seed=0)
probing.probe_then_tune(ours, pictures, "fc", probe=probe, tune=tune, seed=0)
pairs = zip(hand.parameters(), ours.parameters(), strict=True)
equal = [torch.equal(a, b) for a, b in pairs]
print(f"by hand and from the library: {sum(equal)} of {len(equal)} tensors are the same")

# %% [markdown]
# In the ledger, the body had been pretrained on clean and noisy digits, and was tuned on 25 clean
# ones, in <!-- evidence: lp_ft.seeds -->30<!-- end --> draws. On noisy test pictures LP-FT differed from training at once
# by <!-- evidence: lp_ft.out -->-0.052 [-0.073, -0.031]<!-- end -->, on clean ones
# by <!-- evidence: lp_ft.within -->-0.054 [-0.072, -0.037]<!-- end -->. The claim: <!-- evidence: lp_ft.verdict -->did not hold<!-- end -->.
#
# Why not? In the paper the probe alone beats fine-tuning on pictures that look otherwise: the old
# features are better there, and LP-FT keeps them. Here the probe alone
# was <!-- evidence: lp_ft.probe -->-0.053 [-0.075, -0.032]<!-- end --> against training at once, on the noisy pictures. The old features, of
# other digits, had nothing that was worth keeping. Look at that number first; it tells you whether
# LP-FT can help.
#
# ## One layer
#
# Surgical fine-tuning asks where the change is. If the *pictures* changed, an early layer should be
# enough; if the *labels* did, the last. In the ledger a network that knew ten digits got 50 pictures,
# inverted, or with their labels in another order, and trained all layers or one.

# %%
for effect in evidence.entry("surgical").effects:
    arms = f"{effect.contrast.treatment} minus {effect.contrast.control.split()[-1]}"
    print(f"{arms:<30}{effect.text}")

# %% [markdown]
# The pattern is there, with one surprise. On changed labels the head alone reached <!-- evidence: surgical.labels: fc.test_accuracy -->0.858<!-- end -->, all
# layers <!-- evidence: surgical.labels: all.test_accuracy -->0.722<!-- end -->; it was ahead in each of the <!-- evidence: surgical.seeds -->45<!-- end --> draws. On
# inverted pictures it was not the first layer that helped: <!-- evidence: surgical.pictures: conv1.test_accuracy -->0.577<!-- end -->, and <!-- evidence: surgical.pictures: all.test_accuracy -->0.569<!-- end --> with
# all at once, which swing so much from draw to draw that nothing is decided between these two. The second
# layer reached <!-- evidence: surgical.pictures: conv2.test_accuracy -->0.777<!-- end -->: the first has 160 numbers here, too few to turn dark into bright for all that
# follows. Even the last layer alone came to <!-- evidence: surgical.pictures: fc.test_accuracy -->0.778<!-- end -->. With 50 pictures and a
# network far from home, fewer moving parts were the safer choice. So try each layer, and let the
# validation pictures decide; the rule tells you where to begin.

# %% [markdown]
# ## Half of the way back
#
# Fine-tuning moves the weights from a start to an end. What lies between? WiSE-FT takes the straight
# line: $(1 - s)\,\theta_0 + s\,\theta_1$. There is no reason why a network half way should work at
# all; where both ends lie in one valley, it does.
#
# The network here knew ten digits in four looks: as they are, inverted, noisy, turned. It is tuned on
# 100 pictures as they are. *In* is the accuracy on such pictures, *out* the mean over the other three
# looks.
#
# **Predict.** Half of the way between start and end: is the accuracy out of distribution
# `"above the end"` or `"below the end"`?

# %%
predict("out, half way", ...)

# %%
four = shift.four_looks(0)
tuned = shift.tuned_at(four, rate=0.03, seed=0).model
shares = [number / 10 for number in range(11)]
line = [shift.in_and_out(averages.interpolate(four.start, tuned, s), four) for s in shares]

half = copy.deepcopy(tuned)
with torch.no_grad():
    for mine, first in zip(half.parameters(), four.start.parameters(), strict=True):
        mine.copy_(0.5 * first + 0.5 * mine)
assert shift.in_and_out(half, four) == line[5]

# %%
plots.show(
    plots.lines(
        {kind: (shares, [each[kind] for each in line]) for kind in ("in", "out")},
        "share of the way from the start to the fine-tuned weights",
        "test accuracy",
    ),
    alt="""Test accuracy along the straight line from the start to the fine-tuned weights, in and out
    of distribution. Both curves are smooth and have no valley between the ends. The one in
    distribution is highest about a third of the way; the one out of it falls towards the fine-tuned
    end, the faster the nearer.""",
)
assert max(line, key=lambda each: each["in"]) != line[-1]
print("places along the line:", len(line))
compare("out, half way", "above the end" if line[5]["out"] > line[-1]["out"] else "below the end")

# %% [markdown]
# This run had a large learning rate and forgot more than most; the best place on its line is nearer
# to the start. In the ledger, over <!-- evidence: wise_ft.seeds -->60<!-- end --> draws with tuned rates, half way differed from the fine-tuned end
# by <!-- evidence: wise_ft.out -->0.024 [0.010, 0.038]<!-- end --> out of distribution and by <!-- evidence: wise_ft.within -->0.003 [-0.001, 0.006]<!-- end --> in it. Fine-tuning itself
# had changed the accuracy out of distribution by <!-- evidence: wise_ft.forgets -->-0.026 [-0.044, -0.007]<!-- end -->. So the average gave
# back what the other looks had lost, and the new look paid nothing that could be seen: for the
# price of no training at all. It is the surest of this chapter's gains, and a small one. On a larger
# shift it was larger: Lite0, tuned from a probe on 96 drawn pictures and tested on photographs, in five
# draws, gained <!-- evidence: averages_photographs.wise -->0.068 [0.001, 0.135]<!-- end --> half way, and on drawn pictures <!-- evidence: averages_photographs.wise_in -->0.010 [-0.038, 0.058]<!-- end -->.
#
# ## A soup of three runs
#
# You tried three learning rates anyway. Instead of keeping the best and dropping two, average them.
#
# **Predict.** A fourth run, at rate 0.1, was too fast and came to little. The average of all four: is
# it `"close to the best"` or `"worse than the worst of the three"`?

# %%
predict("the average of all four", ...)

# %%
runs = [shift.tuned_at(four, rate, seed=s) for s, rate in enumerate((0.003, 0.01, 0.03, 0.1))]
networks = [each.model for each in runs]
worst = min(each.test for each in runs[:3])


def by_validation(model):
    return digits.look(model, four.task.val)[0]


soups = {
    "three": averages.average(networks[:3]),
    "all four": averages.average(networks),
    "greedy": averages.greedy_soup(networks, by_validation),
}
accuracy = {name: digits.look(model, four.task.test)[0] for name, model in soups.items()}
compare(
    "the average of all four",
    "close to the best" if accuracy["all four"] > worst else "worse than the worst of the three",
)
best = max(each.test for each in runs)
assert min(accuracy["three"], accuracy["greedy"]) > best - 0.02
for name in ("three", "greedy"):
    print(f"test accuracy of the soup of {name}: {accuracy[name]:.1f}")

# %% [markdown]
# The mean takes in everything, the noise too: a network that diverged lies in no valley with the
# others. A greedy soup asks the validation pictures before it takes one in.
#
# In the ledger, over <!-- evidence: soup.seeds -->40<!-- end --> draws, the soup of three good runs differed from the best of them
# by <!-- evidence: soup.within -->0.004 [0.000, 0.008]<!-- end --> in distribution and by <!-- evidence: soup.out -->0.007 [-0.003, 0.017]<!-- end --> out of it; with the fast run among
# them, the plain soup of four by <!-- evidence: soup.spoiled -->-0.497 [-0.586, -0.409]<!-- end -->, the greedy one
# by <!-- evidence: soup.greedy -->0.003 [0.001, 0.006]<!-- end -->. Good runs from one start agree so well
# that their mean costs nothing and gains little: less than matters, on either kind of picture. One bad
# run costs half of everything. From drawn pictures to photographs, a soup of three runs was no surer a gain:
# it differed from the best by <!-- evidence: averages_photographs.soup -->-0.033 [-0.096, 0.030]<!-- end -->.

# %% [markdown]
# ## Pitfalls
#
# - **One learning rate for all methods**: each wants its own, tuned with equal effort.
# - **A LoRA file without its alpha**: it loads, and counts too much or too little.
# - **LoRA to save memory** in a small network with large pictures: train late layers instead.
# - **Prompt tokens and a mean over tokens**: they would be averaged into the answer.
# - **A new head left frozen**: biases and norms can't make up for a random head.
# - **Averaging networks from different starts**, or one run that diverged: the average is noise.
# - **The share chosen by the pictures out of distribution**: then they are in it.

# %% [markdown]
# ## Exercises
#
# Write your answer in place of the dots and run the cell. Each has hints, and a solution with reasons.

# %%
from course_lib.exercises.chapter_09 import ex9_1, ex9_2, ex9_3, ex9_4, ex9_5, ex9_6
from course_lib.exercises.chapter_09 import q9_1, q9_2, q9_3, q9_4, q9_5

# %% [markdown]
# ### 9.1  A low-rank change, to scale

# %%
ex9_1


# %% tags=["exercise"]
def with_lora(x, weight, down, up, alpha):
    change = ...
    return x @ weight.T + ... * change


ex9_1.check(with_lora)

# %% [markdown]
# ### 9.2  How many numbers train

# %%
ex9_2


# %% tags=["exercise"]
def trained_numbers(layers, rank):
    return sum(... for inputs, outputs in layers)


ex9_2.check(trained_numbers)

# %% [markdown]
# ### 9.3  Merge, and keep the base

# %%
ex9_3


# %% tags=["exercise"]
def merged(base, down, up, alpha):
    base.weight.data += up @ down
    return base


ex9_3.check(merged)

# %% [markdown]
# ### 9.4  DoRA: size and direction apart

# %%
ex9_4


# %% tags=["exercise"]
def dora_weight(weight, down, up, scale, size):
    direction = weight + scale * up @ down
    return ...


ex9_4.check(dora_weight)

# %% [markdown]
# ### 9.5  BitFit by flags

# %%
ex9_5


# %% tags=["exercise"]
def train_biases(model):
    for name, parameter in model.named_parameters():
        trains = name == ...
        parameter.requires_grad = trains


ex9_5.check(train_biases)

# %% [markdown]
# ### 9.6  A quarter of the way

# %%
ex9_6


# %% tags=["exercise"]
def on_the_way(start, end, share):
    made = copy.deepcopy(end)
    state = made.state_dict()
    for name, first in start.state_dict().items():
        state[name].copy_(... * first + ... * state[name])
    return made


ex9_6.check(on_the_way)

# %% [markdown]
# ### Questions
#
# Put the letter of your answer in place of the dots.

# %%
q9_1

# %% tags=["exercise"]
q9_1.answer(...)

# %%
q9_2

# %% tags=["exercise"]
q9_2.answer(...)

# %%
q9_3

# %% tags=["exercise"]
q9_3.answer(...)

# %%
q9_4

# %% tags=["exercise"]
q9_4.answer(...)

# %%
q9_5

# %% tags=["exercise"]
q9_5.answer(...)

# %% tags=["keep"]
# On Colab and Kaggle, this cell keeps what you did: in your Drive if it is mounted, or as a file.
from course_lib.setup import hosting

hosting.take_home()

# %% [markdown]
# ## Summary
#
# 1. LoRA is a change of low rank beside a frozen weight: scaled by alpha over the rank, merged or
#    taken out without a trace.
# 2. What trains in all depths needs the backward pass through all depths: it saves work, gradients and
#    files, and hardly any of the memory that the forward pass keeps.
# 3. Small parts beat the head here, LoRA and the norms most, and all layers beat LoRA; each with its own learning rate.
# 4. Whether a probe first or one layer alone helps depends on what the old features are worth and on
#    what has changed; measure the probe before you decide.
# 5. Networks from one start can be averaged; one bad run spoils the mean, and a greedy soup leaves
#    it out.

# %% [markdown]
# ## Sources
#
# - E. Hu and others: *LoRA: Low-Rank Adaptation of Large Language Models*, ICLR 2022,
#   arXiv:2106.09685.
# - S.-Y. Liu and others: *DoRA: Weight-Decomposed Low-Rank Adaptation*, ICML 2024, arXiv:2402.09353.
# - N. Houlsby and others: *Parameter-Efficient Transfer Learning for NLP*, ICML 2019,
#   arXiv:1902.00751: adapters.
# - E. Ben Zaken, S. Ravfogel, Y. Goldberg: *BitFit*, ACL 2022, arXiv:2106.10199.
# - J. Frankle, D. Schwab, A. Morcos: *Training BatchNorm and Only BatchNorm*, ICLR 2021,
#   arXiv:2003.00152.
# - M. Jia and others: *Visual Prompt Tuning*, ECCV 2022, arXiv:2203.12119.
# - A. Kumar and others: *Fine-Tuning can Distort Pretrained Features and Underperform
#   Out-of-Distribution*, ICLR 2022, arXiv:2202.10054: LP-FT.
# - Y. Lee and others: *Surgical Fine-Tuning Improves Adaptation to Distribution Shifts*, ICLR 2023,
#   arXiv:2210.11466.
# - M. Wortsman and others: *Robust fine-tuning of zero-shot models*, CVPR 2022, arXiv:2109.01903:
#   WiSE-FT; and *Model soups*, ICML 2022, arXiv:2203.05482.
# - The `peft` library of Hugging Face, with which the course's LoRA is compared.
