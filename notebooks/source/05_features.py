# %% [markdown]
# # Features: run the network once, then use classical classifiers
#
# A frozen network gives the same numbers for the same picture, every time. So let it look at each
# picture once, and keep the numbers. What is left is a table with a row a picture, and what
# statistics has for tables takes about a second: linear layers, support vector machines, nearest
# neighbours, cross-validation, learning curves, maps.
#
# You need 50 minutes to read and run it, and about 45 more for the exercises.

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
# - compute a frozen network's features once, and keep them in a cache that can't lie;
# - train a head on them, the same that the frozen network would have got;
# - put classical classifiers on features, without leaks;
# - learn from classes of unequal size, and judge the result;
# - join two networks' features, and draw a map of what one sees;
# - tell from a learning curve how many examples are enough.

# %%
import copy
import tempfile
from pathlib import Path

import numpy as np
import torch
from sklearn.decomposition import PCA
from sklearn.metrics import recall_score
from sklearn.model_selection import cross_val_score
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.transforms import v2

from course_lib import backbones, data, features, freezing, profile, training
from course_lib.display import plots
from course_lib.evidence import table
from course_lib.exercises import compare, predict

p = profile.start()  # with other numbers: profile.start(epochs=5, seed=1)
see = backbones.preprocessing(p.backbone)
pictures = {split: data.hotdog(split=split) for split in ("train", "test")}
prepared = {split: data.hotdog(split=split, transform=see.eval) for split in pictures}
print(f"profile {p.name}: {p.backbone} at {p.image_size} pixels")
print({split: len(dataset) for split, dataset in pictures.items()})

# %% [markdown]
# ## A picture becomes a row of numbers
#
# What enters a network's last layer, the head, are the **features**: a short summary of the picture
# that the body learned to write from ImageNet's million pictures. (Articles also say *bottleneck
# features*.) `features.extract` collects them in inference mode, without gradients, batch by batch.

# %%
cache = tempfile.TemporaryDirectory()  # so that this page starts anew each time
folder = Path(cache.name)
body = backbones.load(p.backbone).to(p.device)
rows = {s: features.extract(body, prepared[s], cache_dir=folder) for s in prepared}
for split, found in rows.items():
    print(f"{split:<6}{found}")
print("one picture:", pictures["train"][0][0].size, "pixels became", len(rows["train"].values[0]))

# %% [markdown]
# In your own work leave `cache_dir` out; then they are kept in the course's cache.
#
# ## A cache that can't lie
#
# A cache can do worse than be slow: hand out the features of *another* network, or of other pictures,
# and nobody notices. So the file's name is a **key**, a hash of everything that the numbers depend
# on. If any of it changes, nothing is found under the old name.
#
# Here are ten calls, on eight pictures:
#
# | | call |
# |---|---|
# | 1 | the first one |
# | 2 | the same again |
# | 3 | the network in training mode |
# | 4 | another batch size |
# | 5 | one weight larger by 0.01 |
# | 6 | one running mean of BatchNorm larger by 0.01 |
# | 7 | another picture among the eight |
# | 8 | another mean and std in the preparation |
# | 9 | another layer |
# | 10 | a head of two classes instead of a thousand |
#
# **Predict.** In how many of the ten does the network have to run?

# %%
predict("calls that run the network", ...)

# %% jupyter={"source_hidden": true}
# What the calls need: a network with another weight, other pictures, another preparation.
layers = {
    "efficientnet_lite0": ["blocks.0", "blocks.2", "blocks.4", "blocks.6"],
    "resnet18": ["layer1", "layer2", "layer3", "layer4"],
}[p.backbone]
train_set = prepared["train"]
smallest = min(map(train_set.targets.count, set(train_set.targets)))  # pictures of a class
few = data.balanced_subset(train_set, 8, seed=p.seed)
swapped = data.LabelledSubset(train_set, [*few.indices[:-1], len(train_set) - 1])
steps = list(see.eval.transforms)
otherwise = v2.Compose([*steps[:-1], v2.Normalize([0.4] * 3, [0.25] * 3)])
renormalised = data.balanced_subset(data.hotdog(split="train", transform=otherwise), 8, seed=p.seed)
nudged, drifted = copy.deepcopy(body), copy.deepcopy(body)
with torch.no_grad():
    next(nudged.parameters()).view(-1)[0] += 0.01
    next(b for b in drifted.buffers() if b.is_floating_point())[0] += 0.01

# %%
ran = []


def ask(what, model=body, dataset=few, **settings):
    """Extract, and say whether the network ran: then there is a new file."""
    before = set(folder.iterdir())
    found = features.extract(model, dataset, cache_dir=folder, **settings)
    ran.append(set(folder.iterdir()) != before)
    print(f"{len(ran):>2}  {what:<18}{'computed' if ran[-1] else 'read from disk'}")
    return found


eight = ask("first")
ask("again")
ask("training mode", body.train())
ask("batch size", batch_size=3)
ask("a weight", nudged)
ask("a running mean", drifted)
ask("a picture", dataset=swapped)
ask("mean and std", dataset=renormalised)
ask("a layer", layer=layers[2])
ask("two classes", backbones.load(p.backbone, num_classes=2).to(p.device))
compare("calls that run the network", sum(ran), digits=0)

# %% [markdown]
# `extract` computes in inference mode whatever the mode is, and the batch size changes nothing but
# rounding. The last line is caution: the head comes *after* the features, but the key hashes the whole
# network. A key that changes too often costs a minute; one that changes too seldom, the truth.
#
# Two more guards. Each file carries a checksum of its content; a damaged one is computed anew. And pictures
# that are cropped at random are refused: the crop that happened to come up would be kept for good.

# %% [markdown]
# ## The same head, without the network
#
# Training a head on a frozen network computes the same features in every epoch. Training it on the
# table should give the same head. Here are both: the body frozen, the same weights to begin with, the same
# pictures in the same order.
#
# **Predict.** How many times faster is an epoch on the table?

# %%
predict("times faster", ...)

# %%
some = data.balanced_subset(train_set, 48, seed=p.seed)
settings = {"epochs": 3, "lr": p.learning_rate, "momentum": p.momentum, "seed": p.seed}
net = backbones.load(p.backbone, num_classes=2).to(p.device)
name = backbones.head_name(net)
start = copy.deepcopy(net.get_submodule(name)).cpu()
freezing.freeze(net, [child for child, _ in net.named_children() if child != name])
table_of_48 = features.extract(net, some, cache_dir=folder)

batches = []
counter = net.register_forward_pre_hook(lambda module, inputs: batches.append(len(inputs[0])))
on_network = training.finetune(net, some, **settings)
through_the_body = len(batches)
head, on_table = features.train_head(table_of_48, start=start, **settings)
counter.remove()

# %%
trained = net.get_submodule(name)
apart = max(
    (a.detach().cpu() - b.detach()).abs().max().item()
    for a, b in zip(trained.parameters(), head.parameters(), strict=True)
)
assert (head.weight - start.weight).abs().max().item() > 1e-3
assert apart < 1e-5
assert len(batches) == through_the_body
print(f"largest difference between the two heads in any weight: {apart:.4f}")
print("batches through the body:", through_the_body, "on the network,", end=" ")
print(len(batches) - through_the_body, "on the table")
with FlopCounterMode(display=False) as counted, torch.no_grad():
    net(some[0][0][None].to(p.device))
work, of_head = counted.get_total_flops(), 2 * head.weight.numel()
assert work > 1000 * of_head
print(f"one picture through the network: {work / 1e6:,.0f} million additions and multiplications")
print(f"one row through the head: {of_head:,}")

# %% tags=["nbval-ignore-output"]
seconds = [min(epoch.seconds for epoch in history) for history in (on_network, on_table)]
for way, each in zip(("frozen network", "table"), seconds, strict=True):
    print(f"{way:<16}{each:>10.5f} s an epoch")
compare("times faster", seconds[0] / seconds[1], digits=0, within=200, unit="times")
assert seconds[0] > seconds[1]

# %% [markdown]
# The work explains the time. The factor isn't the same, because a step so small is mostly the loop
# around it.
#
# When does extraction pay? It costs about *one* epoch on the frozen network. From the second epoch on
# you win; from the second learning rate or question on, again.
#
# A head by itself classifies nothing. `head_into` puts it into its network:

# %%
whole_net = backbones.load(p.backbone, num_classes=2).to(p.device)
features.head_into(whole_net, head)
batch = torch.stack([few[i][0] for i in range(8)]).to(p.device)
with torch.no_grad():
    by_network = whole_net.eval()(batch).cpu().argmax(dim=1)
    by_table = head(eight.values).argmax(dim=1)
same = int((by_network == by_table).sum())
print(f"from picture and from row, the same answer for {same} of {len(batch)}")

# %% [markdown]
# ## One linear layer
#
# How good can one layer be? Here it is trained to its optimum: logistic regression is a linear head
# with the cross-entropy loss and a penalty on large weights. Beside it, the same on features of the
# same architecture with random weights.
#
# **Predict.** Guessing gives 0.5. Which test accuracy comes from the trained network's features, and
# which from the untrained one's?

# %%
predict("accuracy, trained body", ...)
predict("accuracy, untrained body", ...)

# %%
torch.manual_seed(p.seed)
untrained = backbones.load(p.backbone, pretrained=False).to(p.device)
new_rows = {
    s: features.extract(untrained, prepared[s], cache_dir=folder) for s in ("train", "test")
}


def linear_accuracy(train, test):
    """Test accuracy of logistic regression on scaled features."""
    pipeline = features.classifiers()["logistic_regression"]
    return pipeline.fit(*train.arrays()).score(*test.arrays())


accuracy = {
    "trained body": linear_accuracy(rows["train"], rows["test"]),
    "untrained body": linear_accuracy(new_rows["train"], new_rows["test"]),
}

# %% tags=["nbval-ignore-output"]
for name, each in accuracy.items():
    compare(f"accuracy, {name}", each, within=0.05)
assert accuracy["trained body"] > accuracy["untrained body"] + 0.2

# %% [markdown]
# The architecture alone knows hardly anything about hot dogs. What the layer reads was learned on
# ImageNet.
#
# That is one run. The course keeps a **ledger** of claims that articles make, each tested over several
# draws of the data (`course evidence show` prints it). Claim C12: one new layer "separates a new problem's
# classes well". "Well" was set beforehand to mean more than nine in ten, on <!-- evidence: C12_photographs.on -->96 photographs of food at 224 pixels to learn from, 400 to test; ImageNet's weights; 20 draws<!-- end -->.
#
# The layer was right for <!-- evidence: C12_photographs.trained network.test_accuracy -->0.905<!-- end --> of the test photographs,
# which is <!-- evidence: C12_photographs.well -->0.005 [-0.016, 0.024]<!-- end --> more than nine in ten: the difference and its 95 % **confidence interval**, which
# holds the true value in 19 experiments of 20. Against nine in ten, that is <!-- evidence: C12_photographs.well.verdict -->no difference that matters<!-- end -->.
#
# What is sure is the gain: <!-- evidence: C12_photographs.training -->0.324 [0.286, 0.364]<!-- end --> over the untrained
# body, <!-- evidence: C12_photographs.pixels -->0.331 [0.295, 0.365]<!-- end --> over a linear layer on the pixels. On the drawn pictures the three
# are <!-- evidence: C12.well -->0.012 [-0.007, 0.030]<!-- end -->, <!-- evidence: C12.training -->0.384 [0.358, 0.408]<!-- end --> and <!-- evidence: C12.pixels -->0.372 [0.344, 0.399]<!-- end -->.
#
# ImageNet has food too. On X-rays the same layer may find much less.

# %% [markdown]
# ## Any layer
#
# Features can be taken anywhere. Name a layer; maps are averaged over their places, so that each
# channel gives one number. Which layer to take is a **hyperparameter**: training doesn't learn it, you
# choose it.
#
# Not by the test pictures. With a table there is something better than one validation part:
# **cross-validation**. Divide the training pictures in five, train on four parts, measure on the fifth,
# five times over.
#
# **Predict.** From the first block to the features before the head: does the accuracy rise all the
# way, or is the best in the middle? Write `"late"` or `"early or in the middle"`.

# %%
predict("best depth", ...)

# %%
by_layer = {
    layer: features.extract(body, train_set, layer=layer, cache_dir=folder) for layer in layers
} | {"before head": rows["train"]}
logistic = features.classifiers()["logistic_regression"]
depth = {
    layer: cross_val_score(logistic, *found.arrays(), cv=5) for layer, found in by_layer.items()
}
figure = plots.lines(
    {"mean of five parts": (range(len(depth)), [each.mean() for each in depth.values()])},
    "layer, and how many features it gives",
    "accuracy (cross-validation)",
    level=(0.5, "guessing"),
)
axis = figure.axes[0]
names = [f"{layer}\n{found.flat.shape[1]}" for layer, found in by_layer.items()]
axis.set_xticks(range(len(names)), names)
for place, each in enumerate(depth.values()):
    axis.plot([place] * len(each), each, "_", color="#666666")
plots.show(
    figure,
    alt="""Accuracy of a linear layer on features from five depths of the network, with a dash for
    each of the five parts. It rises steeply over the first layers and levels off at the last.""",
)
means = [each.mean() for each in depth.values()]
late = means.index(max(means)) >= 3
compare("best depth", "late" if late else "early or in the middle")
assert means.index(min(means)) == 0
print("features at each depth:", *(found.flat.shape[1] for found in by_layer.values()))

# %% [markdown]
# The dashes are the five parts: they lie further apart than the last two layers do. So "late is good",
# and not which of the last two is better. For pictures less like the source's, a layer in the middle can
# be the best.
#
# ## Classical classifiers
#
# Before networks were trained end to end, the classifier was another piece, and there were many:
#
# - **logistic regression**: a linear layer, again;
# - **SVM** (support vector machine): the widest margin between the classes; with a Gaussian kernel,
#   the border may bend;
# - **naive Bayes**: each feature is a bell curve in each class, and features are taken as independent;
# - **k-NN** (nearest neighbours): the five most similar training pictures vote.
#
# `features.classifiers()` gives them as scikit-learn **pipelines**: scaling first (naive Bayes does
# without), then the classifier. The scaler's means and standard deviations must come from the training
# part only; inside a pipeline they do, in cross-validation too.
#
# **Predict.** Which of the four will be worst? Its name, in quotes, as the next cell prints it.

# %%
for name, pipeline in features.classifiers().items():
    print(f"{name:<20}", " -> ".join(type(step).__name__ for _, step in pipeline.steps))
predict("worst classifier", ...)

# %% tags=["nbval-ignore-output"]
scores = {
    name: pipeline.fit(*rows["train"].arrays()).score(*rows["test"].arrays())
    for name, pipeline in features.classifiers().items()
}
for name, score in scores.items():
    print(f"{name:<20} test accuracy {score:.2f}")
compare("worst classifier", min(scores, key=scores.get))

# %%
assert min(scores.values()) > 0.6

# %% [markdown]
# One run ranks nothing. The ledger's claim: an SVM or naive Bayes works, which was set to mean at most 0.03
# less than a linear layer. On <!-- evidence: C17_photographs.on -->96 photographs of food at 224 pixels to learn from, 400 to test; ImageNet's weights; 50 draws<!-- end -->, and on drawn pictures:
#
# | minus linear layer | photographs | verdict | drawn | verdict |
# |---|---|---|---|---|
# | SVM | <!-- evidence: C17_photographs.svm -->-0.053 [-0.076, -0.032]<!-- end --> | <!-- evidence: C17_photographs.svm.verdict -->did not hold<!-- end --> | <!-- evidence: C17.svm -->-0.030 [-0.047, -0.014]<!-- end --> | <!-- evidence: C17.svm.verdict -->undecided<!-- end --> |
# | naive Bayes | <!-- evidence: C17_photographs.naive_bayes -->-0.097 [-0.115, -0.080]<!-- end --> | <!-- evidence: C17_photographs.naive_bayes.verdict -->did not hold<!-- end --> | <!-- evidence: C17.naive_bayes -->-0.134 [-0.156, -0.112]<!-- end --> | <!-- evidence: C17.naive_bayes.verdict -->did not hold<!-- end --> |
#
# On photographs both are worse than the linear layer by more than that. Still, naive Bayes and five nearest
# neighbours get <!-- evidence: C17_photographs.naive_bayes.test_accuracy -->0.803<!-- end -->
# and <!-- evidence: C17_photographs.knn.test_accuracy -->0.803<!-- end --> of the photographs right, the linear layer on *pixels*
# only <!-- evidence: C17_photographs.pixels.test_accuracy -->0.550<!-- end -->. The features do the work; the classifier matters less.
#
# ## Two networks joined
#
# Another network may see what the first one misses. So put both rows side by side. Each network gets
# pictures prepared in **its** way; `features.join` checks that the rows are of the same pictures in the
# same order.

# %%
pair = {"tiny": ("efficientnet_lite0", "efficientnet_lite1"), "full": ("alexnet", "vgg16")}[p.name]
parts = {}
for name in pair:
    prepare = backbones.preprocessing(name).eval
    model = backbones.load(name).to(p.device)
    parts[name] = {
        s: features.extract(model, data.hotdog(split=s, transform=prepare), cache_dir=folder)
        for s in ("train", "test")
    }
one, two = (parts[name] for name in pair)
both = {split: features.join(one[split], two[split]) for split in ("train", "test")}
print(f"{one['train'].flat.shape[1]} + {two['train'].flat.shape[1]} features:", both["train"])

# %% [markdown]
# In the ledger, joined minus one network: <!-- evidence: C17_photographs.joined -->0.011 [0.004, 0.019]<!-- end --> on photographs
# (<!-- evidence: C17_photographs.joined.verdict -->no difference that matters<!-- end -->), <!-- evidence: C17.joined -->0.015 [0.008, 0.022]<!-- end --> on drawn pictures (<!-- evidence: C17.joined.verdict -->no difference that matters<!-- end -->). Such near
# relatives hardly see more than one.
#
# When you join, whoever has the larger numbers, or more columns, has the say in distances and penalties: the
# appendix after the exercises shows it, and how best to scale when pictures are few.
#
# ## Classes of unequal size
#
# You may have 8 pictures of one class and 90 of another. Then look at the **baseline** first, what
# takes no learning: always answering the larger class. It is right on 90 of 98 such pictures, 0.92, and
# never finds what you look for. So accuracy misleads. Take each class's **recall**, the share of its
# pictures that is found, and their mean, **balanced accuracy**: always answering the larger class
# gets 0.5, whatever the proportion.
#
# `class_weight="balanced"` lets every class count the same in the loss: each of the 8 pictures
# like 11 of the others. Here are twelve draws of hot dogs beside 90 other pictures; the test part has
# as many of both.
#
# **Predict.** Which share of the test hot dogs does logistic regression find when it has seen 8? And
# with weights?

# %%
predict("recall of hot dogs", ...)
predict("recall of hot dogs, weighted", ...)

# %%
x, y = rows["test"].arrays()
hotdogs, others = (np.flatnonzero(rows["train"].arrays()[1] == each) for each in (0, 1))
shelf, draws = [n for n in (8, 20, 45, 90) if n <= len(hotdogs)], 12
recalls = {"plain": [], "weighted": []}
for way, weight in {"plain": None, "weighted": "balanced"}.items():
    linear = features.classifiers()["logistic_regression"]
    linear.set_params(classify__class_weight=weight)
    for n in shelf:
        found = []
        for k in range(draws):
            few_hotdogs = np.random.default_rng(k).choice(hotdogs, n, replace=False)
            some = rows["train"].subset([*few_hotdogs, *others[:90]])
            guessed = linear.fit(*some.arrays()).predict(x)
            found.append(recall_score(y, guessed, average=None))
        recalls[way].append(np.mean(found, axis=0))

# %% jupyter={"source_hidden": true}
plots.show(
    plots.lines(
        {
            f"{name}, {way}": (shelf, [each[number] for each in found])
            for number, name in enumerate(("hot dogs", "other food"))
            for way, found in recalls.items()
        },
        "training pictures of hot dogs, beside 90 of other food",
        "recall",
    ),
    alt="""Recall over 8, 20, 45 and 90 training hot dogs. That of other food stays near 1, with and
    without weights. That of the hot dogs climbs from about a quarter to nearly 1; with weights it
    starts higher, at about 0.4, and the two lines meet where the classes are of equal size.""",
)
print(f"{'8 hot dogs, 90 others':<24}{'hot dogs':>10}{'others':>10}{'balanced':>10}")
ways = {"always 'other food'": (0.0, 1.0)} | {way: each[0] for way, each in recalls.items()}
for way, (hot, other) in ways.items():
    print(f"{way:<24}{hot:>10.1f}{other:>10.1f}{(hot + other) / 2:>10.1f}")
in_proportion = [(8 * hot + 90 * other) / 98 for hot, other in ways.values()]
assert min(in_proportion) > 0.9
print("accuracy where 8 in 98 are hot dogs:", *(f"{each:.1f}" for each in in_proportion))
compare("recall of hot dogs", recalls["plain"][0][0], digits=1, within=0.1)
compare("recall of hot dogs, weighted", recalls["weighted"][0][0], digits=1, within=0.1)

# %% [markdown]
# By accuracy the three would look alike. The weights find more of the small class and cost the large
# one next to nothing here; most hot dogs are still missed. What helps more is in the figure: more pictures
# of the small class.
#
# In the ledger, ten draws each, weighted minus plain, in balanced accuracy:
#
# | to learn from | drawn pictures | photographs of food, 224 pixels |
# |---|---|---|
# | 8 and 90 | <!-- evidence: unequal_classes.few -->0.078 [0.047, 0.109]<!-- end --> | <!-- evidence: unequal_photographs.few -->0.080 [0.062, 0.098]<!-- end --> |
# | 20 and 90 | <!-- evidence: unequal_classes.some -->0.039 [0.022, 0.055]<!-- end --> | <!-- evidence: unequal_photographs.some -->0.024 [0.015, 0.032]<!-- end --> |
#
# At 8 photographs, balanced accuracy rose
# from <!-- evidence: unequal_photographs.plain 8.balanced_accuracy -->0.704<!-- end -->
# to <!-- evidence: unequal_photographs.balanced 8.balanced_accuracy -->0.784<!-- end -->. That weights raise it and the small class's
# recall <!-- evidence: unequal_classes.verdict -->held<!-- end --> on the drawn pictures, <!-- evidence: unequal_photographs.verdict -->held<!-- end --> on the photographs.
# So `recipe.fit` weighs by default, and reports each class's recall.

# %% [markdown]
# ## A map of what it sees
#
# A row of a thousand numbers is a point in a thousand dimensions. To look at it, choose the two
# directions in which the training pictures differ most: **PCA** (principal components). It sees no
# labels, so it can't flatter you. Then place the *test* pictures by it.

# %%
pca = PCA(2, svd_solver="full").fit(rows["train"].arrays()[0])
places = pca.transform(rows["test"].arrays()[0])
most = 2 * min(map(pictures["test"].targets.count, (0, 1)))
shown = data.balanced_subset(pictures["test"], min(60, most), seed=p.seed).indices
shares = pca.explained_variance_ratio_
plots.show(
    plots.picture_map(
        places[shown],
        [pictures["test"][i][0].resize((40, 40)) for i in shown],
        [pictures["test"].targets[i] for i in shown],
        pictures["test"].classes,
        tuple(f"component {k}: {share:.0%} of the variance" for k, share in enumerate(shares, 1)),
    ),
    alt="""A map with sixty test pictures as points. Hot dogs, in round blue frames, lie mostly on one
    side; other food, in square orange frames, mostly on the other. In between, both kinds of frame
    overlap.""",
    photographs=True,
)
print("pictures drawn:", len(shown))
assert shares.sum() < 1 / 3

# %% [markdown]
# Nobody told PCA what a hot dog is, and yet the classes lie mostly apart. Look where they meet: what
# do neighbours share, the food, the plate, the light?
#
# Don't draw such a map along a direction that was **fitted to the labels of the same pictures**. To see why,
# toss a coin for each label:
#
# **Predict.** A linear layer on the training features, with labels from a coin: which training
# accuracy does it reach?

# %%
predict("training accuracy on coins", ...)

# %%
coins = np.random.default_rng(p.seed).integers(0, 2, len(rows["train"]))
train_x, test_x = rows["train"].arrays()[0], rows["test"].arrays()[0]
other_coins = np.random.default_rng(p.seed + 1).integers(0, 2, len(test_x))
tosser = features.classifiers()["logistic_regression"].fit(train_x, coins)
compare("training accuracy on coins", tosser.score(train_x, coins), digits=1)
on_test = tosser.score(test_x, other_coins)
assert 0.3 < on_test < 0.7
print(f"on new pictures with new coins: {on_test:.1f}")

# %% [markdown]
# With more features than pictures, a linear layer can part *any* labels. It has learned its pictures by
# heart and knows nothing of new ones: **overfitting**. So a training accuracy of 1.0 says nothing, and
# a map along such a direction shows two clean clouds whatever the labels are.

# %% [markdown]
# ## How many examples are enough?
#
# With a table, a **learning curve** costs next to nothing: draw 4 training pictures, 8, 16 ..., fit,
# measure; five draws each, since with four pictures it matters much which four.
#
# **Predict.** How many training pictures, of both classes together, does it take until the mean test
# accuracy is 0.85 or more? Say 4, 8, 16, 32, 64 or 128.

# %%
predict("pictures needed", ...)

# %%
amounts = [n for n in (4, 8, 16, 32, 64, 128) if n <= 2 * smallest]
curves = {"trained body": rows, "untrained body": new_rows}
drawn = {name: [] for name in curves}
for amount in amounts:
    chosen = [data.balanced_subset(pictures["train"], amount, seed=k).indices for k in range(5)]
    for name, of in curves.items():
        drawn[name].append([linear_accuracy(of["train"].subset(c), of["test"]) for c in chosen])


def draw_curves(figure, found, amounts):
    """Add to a figure of means the range from the lowest to the highest."""
    for line, values in zip(figure.axes[0].get_lines(), found.values(), strict=False):
        lows, highs = [min(each) for each in values], [max(each) for each in values]
        figure.axes[0].fill_between(
            amounts, lows, highs, color=line.get_color(), alpha=0.15, linewidth=0
        )
    figure.axes[0].set_xticks(amounts, [str(each) for each in amounts])
    figure.axes[0].minorticks_off()
    figure.axes[0].set_xlim(0.85 * amounts[0], 1.6 * amounts[-1])
    return figure


figure = plots.lines(
    {name: (amounts, np.mean(values, axis=1)) for name, values in drawn.items()},
    "training pictures",
    "test accuracy",
    log_x=True,
    level=(0.5, "guessing"),
)
plots.show(
    draw_curves(figure, drawn, amounts),
    alt="""Test accuracy over 4 to 128 training pictures, with bands from the lowest to the highest of
    five draws. On the trained body's features it climbs from about 0.6 to above 0.9, fastest
    between 8 and 32 pictures; on the untrained body's it stays near one half throughout.""",
)
enough = [
    n for n, each in zip(amounts, drawn["trained body"], strict=True) if np.mean(each) >= 0.85
]
print("amounts tried:", *amounts)
compare("pictures needed", min(enough, default=0), digits=0)
ends = [np.mean(drawn["trained body"][place]) for place in (0, -1)]
assert ends[0] < 0.75
assert ends[1] > 0.85

# %% [markdown]
# A few dozen. With four pictures, the best features in the house give little more than guessing. Where
# the last doubling still gains, more pictures are likely to help; where it is flat, better features
# might.

# %% [markdown]
# ### Pretrained against from scratch
#
# What if the whole network may learn? The ledger's runs use a small network on scikit-learn's digits:
# pretrained on the digits 0 to 4 and fine-tuned on 5 to 9, or trained on 5 to 9 from new weights. Both
# chose their rate by validation. The figure shows the stored results.
#
# **Predict.** With 10 training pictures, two of each digit: how far is the fine-tuned network ahead
# in test accuracy? 0.1 would be ten points.

# %%
predict("ahead at 10 pictures", ...)

# %%
counts = (10, 25, 100, 200)
by_way = {way: [] for way in ("fine-tuned", "scratch")}
for way, values in by_way.items():
    further = [table.read("C13").column(f"{way} {n}", "test_accuracy") for n in counts[1:]]
    few = table.read("C21").column(f"{way} 10", "test_accuracy")
    values += [few[: len(further[0])], *further]
figure = plots.lines(
    {way: (counts, np.mean(values, axis=1)) for way, values in by_way.items()},
    "training pictures, five classes together",
    "test accuracy",
    log_x=True,
    level=(0.2, "guessing"),
)
plots.show(
    draw_curves(figure, by_way, counts),
    alt="""Test accuracy on the digits 5 to 9 over 10, 25, 100 and 200 training pictures, for a
    fine-tuned network and one from new weights, with bands from the lowest to the highest seed. Both
    climb from about 0.8 to above 0.95, and the two lines lie on top of each other.""",
)
ahead = [np.mean(f) - np.mean(s) for f, s in zip(*by_way.values(), strict=True)]
print("pictures           ", *(f"{n:>6}" for n in counts))
print("fine-tuned ahead by", *(f"{gap:>6.2f}" for gap in np.round(ahead, 2) + 0.0))
compare("ahead at 10 pictures", ahead[0] + 0.0, digits=1)

# %% [markdown]
# On digits, hardly. Four claims of the ledger:
#
# - **Few examples** (C18): "a model trained on a few examples only is worse than a fine-tuned
#   one". With ten *photographs* and ImageNet's weights, all layers trained minus
#   scratch: <!-- evidence: C18_photographs.gain_10 -->0.049 [0.009, 0.086]<!-- end -->; the head only minus scratch: <!-- evidence: C18_photographs.head_10 -->0.199 [0.152, 0.240]<!-- end -->
#   (<!-- evidence: C18_photographs.verdict -->held<!-- end -->). With ten digits: <!-- evidence: C18.gain -->-0.003 [-0.017, 0.011]<!-- end --> (<!-- evidence: C18.verdict -->no difference that matters<!-- end -->).
# - **Enough data** (C13): "with enough data, scratch is better". At 200 digits, scratch minus fine-tuned is <!-- evidence: C13.enough -->-0.005 [-0.013, 0.004]<!-- end -->
#   (<!-- evidence: C13.enough.verdict -->no difference that matters<!-- end -->; on <!-- evidence: C13.on -->25, 100 or 200 digits of 8 x 8 pixels to learn from, 450 to test; 16 draws<!-- end -->). At all 24,000 photographs it is
#   still <!-- evidence: C13_photographs.enough -->-0.041 [-0.052, -0.030]<!-- end -->.
# - **Far fewer examples** (C13, too): "transfer needs far fewer". Fine-tuned with 25 digits minus scratch with 100 is <!-- evidence: C13.fewer -->-0.070 [-0.089, -0.051]<!-- end -->
#   (<!-- evidence: C13.fewer.verdict -->did not hold<!-- end -->). But 250 photographs did more than 2,500 from scratch,
#   by <!-- evidence: C13_photographs.far_fewer -->0.056 [0.039, 0.074]<!-- end --> (<!-- evidence: C13_photographs.far_fewer.verdict -->held<!-- end -->; on <!-- evidence: C13_photographs.on -->50 to 24,000 photographs of CIFAR-10 to learn from, 1,000 to test; weights of its other five classes; 30 draws<!-- end -->).
# - **Robust** (C19): "models made by transfer are more robust in varied, hard conditions". On photographs
#   with noise, blur and the like, fine-tuned with 250 minus scratch is <!-- evidence: C19_photographs.accuracy -->0.089 [0.080, 0.097]<!-- end --> in accuracy. But
#   strong corruptions cost it <!-- evidence: C19_photographs.strong_250 -->0.054 [0.042, 0.066]<!-- end --> more of the accuracy: it ends ahead, as it
#   began ahead (on <!-- evidence: C19_photographs.on -->250 or 24,000 photographs of CIFAR-10 to learn from, 1,000 to test; weights of its other five classes; 30 draws<!-- end -->; <!-- evidence: C19_photographs.verdict -->holds when 250 pictures, by accuracy on corrupted pictures<!-- end -->).
#
# What fine-tuning did save on the digits is training steps: with 50 pictures (C1) it
# took <!-- evidence: C1.compute -->0.3 [0.2, 0.3]<!-- end --> times as many to the same validation accuracy.
#
# Why so little? A likely reason, not tested here: five digits of 8 by 8 pixels may teach little
# that ten pictures of other digits don't. "Pretrained" is not an amount of knowledge.

# %% [markdown]
# ## Which one, when
#
# | you have | take |
# |---|---|
# | few pictures, like the network's | features and logistic regression |
# | a question about layer, classifier, amount | features: an answer in seconds |
# | classes of unequal size | weights; recall class by class; more of the small one |
# | two networks | join, mind the scales, compare with each alone |
# | more pictures, and time | fine-tune (chapters 02, 06); this head is a good start |
#
# ## Pitfalls
#
# - **Scaling, selecting or reducing before you divide.** Whatever is fitted belongs inside the
#   pipeline. Outside, test pictures have a say in the training.
# - **Choosing by the test pictures.** The best of sixty test accuracies is too good.
# - **Augmentation with cached features** is none. Store several fixed copies of each picture, or train
#   the network.
# - **A file called `features.pt`**: its name is a key too, one that never changes.
# - **Fine-tuning with stale features**: once the body learns, the table is history. Cache where the
#   frozen part ends.

# %% [markdown]
# ## Exercises
#
# Write your answer in place of the dots and run the cell. Each has hints, and a solution with reasons.

# %%
from course_lib.exercises.chapter_05 import ex5_1, ex5_2, ex5_3, ex5_4, ex5_5, ex5_6, ex5_7, ex5_8
from course_lib.exercises.chapter_05 import q5_1, q5_2, q5_3, q5_4, q5_5, q5_6

# %% [markdown]
# ### 5.1  What a cache spares

# %%
ex5_1

# %% tags=["exercise"]
pictures, epochs, rates = 300, 40, 5
times_fewer = ...


ex5_1.check(times_fewer)

# %% [markdown]
# ### 5.2  Extract by hand

# %%
ex5_2


# %% tags=["exercise"]
def features_of(model, batches):
    rows = []
    ...
    return ...


ex5_2.check(features_of)

# %% [markdown]
# ### 5.3  Whose mean, whose std

# %%
ex5_3


# %% tags=["exercise"]
def scaled(train, test):
    mean = ...
    std = ...
    return ..., ...


ex5_3.check(scaled)

# %% [markdown]
# ### 5.4  A key that protects

# %%
ex5_4

# %% tags=["exercise"]
import hashlib


def key_of(model, pictures, layer):
    digest = hashlib.sha256()
    ...
    return digest.hexdigest()


ex5_4.check(key_of)

# %% [markdown]
# ### 5.5  Two networks with an equal say

# %%
ex5_5


# %% tags=["exercise"]
def equal_say(one, two):
    return torch.cat([..., ...], dim=1)


ex5_5.check(equal_say)

# %% [markdown]
# ### 5.6  From a pipeline to a head

# %%
ex5_6


# %% tags=["exercise"]
def one_layer(mean, std, weight, bias):
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    with torch.no_grad():
        layer.weight.copy_(...)
        layer.bias.copy_(...)
    return layer


ex5_6.check(one_layer)

# %% [markdown]
# ### 5.7  Ninety per cent on noise

# %%
ex5_7

# %% tags=["exercise"]
from sklearn.feature_selection import SelectKBest, f_classif
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score


def honest_score(x, y):
    best = SelectKBest(f_classif, k=20).fit_transform(x, y)
    return cross_val_score(LogisticRegression(), best, y, cv=5).mean()


ex5_7.check(honest_score)

# %% [markdown]
# ### 5.8  Every class counts the same

# %%
ex5_8


# %% tags=["exercise"]
def mean_recall(targets, predicted):
    return (targets == predicted).double().mean()


ex5_8.check(mean_recall)

# %% [markdown]
# ### Questions
#
# Put the letter of your answer in place of the dots. Each option is explained, the wrong ones too.

# %%
q5_1

# %% tags=["exercise"]
q5_1.answer(...)

# %%
q5_2

# %% tags=["exercise"]
q5_2.answer(...)

# %%
q5_3

# %% tags=["exercise"]
q5_3.answer(...)

# %%
q5_4

# %% tags=["exercise"]
q5_4.answer(...)

# %%
q5_5

# %% tags=["exercise"]
q5_5.answer(...)

# %%
q5_6

# %% tags=["exercise"]
q5_6.answer(...)

# %% [markdown]
# ## Appendix: who has the say?
#
# For two tables side by side. Nearest neighbours, SVMs and penalties depend on the size of the numbers. A
# squared distance adds up over the columns, so a network whose numbers are larger, or that has more
# columns, brings more of the sum: its mean is twice the sum of the columns' variances.
#
# EfficientNet-Lite0 and Lite1 happen to agree in size and number. So here is also a less equal pair: a
# network's last features and those of one of its own middle layers.
#
# **Predict.** After scaling every column to variance 1, what share of the squared distance comes from
# the middle layer, with its fewer columns? Write `"less"` than half, or `"half or more"`.

# %%
predict("share of the middle layer, scaled", ...)


# %%
def share_of_second(first, second, scaling):
    """The second table's share of the mean squared distance between rows."""
    tables = [first.flat.double(), second.flat.double()]
    if scaling == "each column":
        tables = [each / each.std(dim=0).clamp(min=1e-9) for each in tables]
    if scaling == "each network":
        tables = [each / each.var(dim=0).sum().sqrt() for each in tables]
    says = [each.var(dim=0).sum().item() for each in tables]
    return says[1] / sum(says)


middle = by_layer[layers[2]]
pairs = {
    "second network beside first": (one["train"], two["train"]),
    "middle layer beside last": (rows["train"], middle),
}
print(f"{'share of the second part':<30}{'as they are':>14}{'each column':>14}{'each network':>14}")
for name, (first, second) in pairs.items():
    shares = [share_of_second(first, second, s) for s in ("none", "each column", "each network")]
    print(f"{name:<30}" + "".join(f"{share:>14.0%}" for share in shares))
scaled_share = share_of_second(rows["train"], middle, "each column")
compare("share of the middle layer, scaled", "less" if scaled_share < 0.45 else "half or more")

# %% [markdown]
# Three answers to one question:
#
# - **as they are**: larger numbers have the say, and sizes are an accident;
# - **each column** scaled to variance 1, as in the pipelines: more columns have the say, and a channel
#   that hardly ever fires counts like one that tells classes apart;
# - **each network** divided by one number, so that its variances add up to 1: an equal say
#   (exercise 5.5).
#
# Does it change results? Here are nearest neighbours on one network, with the pipeline's scaler and
# without, on eight draws of 96 training pictures.
#
# **Predict.** In how many of the eight is the one *with* the scaler better?

# %%
predict("draws won by scaling each column", ...)

# %%
won, lost = 0, 0
for k in range(8):
    chosen = data.balanced_subset(prepared["train"], min(96, 2 * smallest), seed=k).indices
    train, test = rows["train"].subset(chosen).arrays(), rows["test"].arrays()
    with_scaler = features.classifiers()["knn"].fit(*train).score(*test)
    without = features.classifiers()["knn"][-1].fit(*train).score(*test)
    won, lost = won + (with_scaler > without), lost + (with_scaler < without)
compare("draws won by scaling each column", won, digits=0)
print("draws lost:", lost)

# %% [markdown]
# All eight are lost (on the same test pictures), though the usual advice is to scale before nearest
# neighbours. The advice is meant for columns in different units, metres and euros. The channels of one
# network come in one unit, and a large variance can mean that a channel tells things apart. No scaling
# is right in itself: choose by cross-validation.
#
# Nor is it a matter for neighbours only. A channel that hardly fires on a dozen pictures is blown up,
# and the first new picture on which it does gets a score beyond all others. In the ledger, a linear
# head on photographs of food, all features divided by *one* number instead of each by its own, over
# ten draws: with 6 pictures a class <!-- evidence: scaling_photographs.few -->0.107 [0.050, 0.164]<!-- end --> more in accuracy, with
# 50 <!-- evidence: scaling_photographs.more -->0.011 [0.004, 0.018]<!-- end -->; on drawn pictures <!-- evidence: scaling.few -->0.126 [0.092, 0.160]<!-- end --> and <!-- evidence: scaling.more -->0.004 [-0.003, 0.011]<!-- end -->.
# The recipe of chapter 06 divides by one number.

# %% [markdown]
# ## Appendix: a head with a hidden layer
#
# Articles often put two layers in the head's place. `start` takes a head of any layers, and `head_into`
# puts it into its network; `backbones.replace_head(network, new_head)` does so with one that is new.

# %%
torch.manual_seed(p.seed)
width, hidden = rows["train"].values.shape[1], 256
new_head = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, 2))
deep_head, _ = features.train_head(rows["train"], start=new_head, **settings)
deep_net = features.head_into(backbones.load(p.backbone), deep_head)

name = backbones.head_name(deep_net).split(".")[0]
print(f"its {name}:", deep_net.get_submodule(name))
for group in training.parameter_groups(deep_net, p.learning_rate, head=name):
    count = sum(parameter.numel() for parameter in group["params"])
    print(f"{group['name']}: {count:,} numbers")

# %% [markdown]
# To fine-tune such a network, name the whole of its head, as above: by itself, `training.finetune` takes
# the last layer for the head, and the hidden one would learn as slowly as the body.
#
# Does it help? The ledger set it against a linear head on the same features, each with the best of four
# learning rates. Test accuracy with the hidden layer minus that without:
#
# | learned from | difference |
# |---|---|
# | 20 photographs | <!-- evidence: deeper_head_photographs.few -->0.004 [-0.005, 0.013]<!-- end --> |
# | 100 photographs | <!-- evidence: deeper_head_photographs.from_100 -->0.002 [-0.004, 0.008]<!-- end --> |
# | 400 photographs | <!-- evidence: deeper_head_photographs.more -->0.002 [-0.003, 0.008]<!-- end --> |
# | 24 drawn pictures | <!-- evidence: deeper_head.few -->0.002 [-0.010, 0.013]<!-- end --> |
# | 96 drawn pictures | <!-- evidence: deeper_head.more -->0.006 [-0.001, 0.013]<!-- end --> |
#
# "A hidden layer does better": <!-- evidence: deeper_head_photographs.verdict -->no difference that matters<!-- end -->
# (<!-- evidence: deeper_head_photographs.on -->20, 100 or 400 photographs of food at 224 pixels to learn from, 400 to test; ImageNet's weights; 20 draws<!-- end -->), and on drawn pictures: <!-- evidence: deeper_head.verdict -->no difference that matters<!-- end -->
# (<!-- evidence: deeper_head.on -->24 or 96 drawn pictures to learn from, 400 to test, 96 pixels; ImageNet's weights; 30 draws<!-- end -->). The body was trained under one linear layer, so what it knows
# lies ready for one.

# %% tags=["keep"]
# On Colab and Kaggle, this cell keeps what you did: in your Drive if it is mounted, or as a file.
from course_lib.setup import hosting

hosting.take_home()

# %% [markdown]
# ## Summary
#
# 1. A frozen body gives each picture the same numbers each time: compute them once, keep them under a key
#    of everything that they depend on.
# 2. A head trained on them is the head that the frozen network would have got, in a small part of the time.
# 3. One linear layer went far on pictures like the source's, and nothing here was shown to beat it; the
#    features mattered more than the classifier.
# 4. Scale inside the pipeline. Where classes are of unequal size, weigh them, and look at each one's recall.
# 5. More features than pictures part any labels: believe only pictures that nothing was fitted on.

# %% [markdown]
# ## Sources
#
# - An article on transfer learning with an example in PyTorch (cnblogs, 18149701): bottleneck features
#   and one new layer (claim C12), enough data and few data (C13).
# - A repost on pretraining and fine-tuning: SVM, Bayes and joined features (C17), few examples (C18).
# - J. Donahue et al.: *DeCAF*, ICML 2014, arXiv:1310.1531; A. Razavian et al.: *CNN Features
#   off-the-shelf*, CVPR workshops 2014, arXiv:1403.6382.
# - T. Hastie, R. Tibshirani, J. Friedman: *The Elements of Statistical Learning*, second edition,
#   section 7.10.2, on the wrong and the right way to do cross-validation.
# - scikit-learn's user guide: *Common pitfalls and recommended practices*, on leakage and pipelines.
