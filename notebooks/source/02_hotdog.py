# %% [markdown]
# # Hot dog or not? Fine-tuning on a few pictures
#
# A network that learned a thousand classes from the million pictures of **ImageNet** has learned to see.
# This chapter teaches such a network, with a few dozen pictures and in seconds, to tell hot dogs from
# other food. Then it asks what made that work; and at the end it does the same with a folder of yours.
#
# You need 60 minutes to read and run it, and about an hour more for the exercises. The example comes
# from *Dive into Deep Learning* (d2l), section 14.2; the experiments follow the exercises there.

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
# - load pictures, augment them, and normalise them with the right numbers;
# - give a pretrained network a new output layer and fine-tune it with two learning rates;
# - measure what pretraining brought, against the same network from scratch;
# - freeze all but the head, and say what it saves;
# - start a new head from a class that the network knows already;
# - look at its mistakes, and at where it looks;
# - go from a folder of your own photographs to a network, a report and an answer.

# %%
import copy
from dataclasses import replace

import torch
from d2l import torch as d2l
from torch import nn

from course_lib import backbones, data, features, freezing, profile, training
from course_lib.display import heatmaps, plots
from course_lib.exercises import compare, predict

p = profile.start()  # with other numbers: profile.start(epochs=5, seed=1)
print(f"profile {p.name}: {p.backbone} at {p.image_size} pixels, {p.data} pictures")

# %% [markdown]
# ## The pictures
#
# The book's data set has 1,400 pictures of hot dogs and 1,400 of other food, found on the web. A
# **profile** sets all numbers of a chapter: `full` downloads these pictures. `tiny`, the default, has
# pictures that nobody took: `course_lib.renderer` drew them, light, bread and table. The real network
# that you load below takes them for food.

# %%
pictures = {split: data.hotdog(split=split) for split in ("train", "val", "test")}
for split, dataset in pictures.items():
    counts = {name: dataset.targets.count(i) for i, name in enumerate(dataset.classes)}
    print(f"{split:<6}{len(dataset):>5} pictures: {counts}")

# %% [markdown]
# The network learns from **train**. You choose by **val** (validation) what training doesn't learn, the
# **hyperparameters**: which epoch, which learning rate. And **test** is looked at once, at the end. A
# network can learn its training pictures by heart and fail on others (**overfitting**); only pictures
# that nothing was fitted to or chosen by can tell. The book chooses and reports on the same part.

# %%
shown = data.balanced_subset(pictures["train"], 24, seed=3)
order = sorted(range(24), key=lambda i: shown.targets[i])
plots.show(
    plots.gallery([shown[i][0] for i in order]),
    alt="""Three rows of eight pictures. The first twelve are hot dogs in buns, on plates, boards
    and paper, some with zigzags of mustard or ketchup. The other twelve are other food on the same
    plates and tables, such as doughnuts, pancakes, a pretzel, a pizza, bananas and chips.""",
    photographs=True,
)
print(
    "the first twelve:", pictures["train"].classes[0], "| the others:", pictures["train"].classes[1]
)

# %% [markdown]
# The other food is hard on purpose: even a sausage without a bun and a bun without a sausage.
#
# ## What the network sees
#
# A picture has some size and values from 0 to 255. The network wants a square of a fixed size, and
# numbers that are shifted and scaled, channel by channel:
#
# $$x' = \frac{x/255 - \text{mean}}{\text{std}}$$
#
# You find `mean = 0.485, 0.456, 0.406` and `std = 0.229, 0.224, 0.225` in nearly every example. Where
# do they come from? Somebody computed them from ImageNet's pictures. Here is the computation, on
# the pictures of this chapter:

# %%
mean, std = data.channel_statistics(pictures["train"])
for name, values in (("mean", mean), ("std", std)):
    print(name, *(f"{channel} {value:.2f}" for channel, value in zip("RGB", values, strict=True)))

# %% [markdown]
# Food on wooden tables is reddish. (This `std` is over all pixels of all pictures together, the pooled
# one. ImageNet's 0.229 is known as the mean of each picture's own, over a subset that is lost, so nobody
# can compute it again.)
#
# Should you now use *these* numbers? **No.** The first layer's weights expect values in the range that
# they were trained with. Each **backbone**, the network that you start from, says what it wants:

# %%
see = backbones.preprocessing(p.backbone)
print(see)

# %% [markdown]
# What do the wrong numbers cost? The network knows a class "hotdog" already, number 934 of ImageNet's
# thousand. So you can test without training anything.
#
# **Predict.** The network as it was downloaded, the test pictures, the thousand classes: which share
# of the hot dogs does it name "hotdog" at first guess? And with the wrong mean and std? Put two
# numbers from 0 to 1 in the place of the dots.

# %%
predict("named hotdog", ...)
predict("named hotdog, wrong numbers", ...)

# %%
imagenet_net = backbones.load(p.backbone).eval().to(memory_format=torch.channels_last)
test_hotdogs = [i for i, target in enumerate(pictures["test"].targets) if target == 0]
asked = test_hotdogs if p.test_images is None else test_hotdogs[:24]


def share_named_hotdog(preprocess):
    """Share of the test hot dogs for which class 934 is the first of the thousand."""
    batch = torch.stack([preprocess(pictures["test"][i][0]) for i in asked])
    with torch.no_grad():
        first = torch.cat([imagenet_net(part).argmax(dim=1) for part in batch.split(16)])
    return (first == backbones.HOTDOG_CLASS).float().mean().item()


at_224 = backbones.preprocessing(p.backbone, size=224)
wrong = replace(at_224, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
shares = {"its own": share_named_hotdog(at_224), "another's": share_named_hotdog(wrong)}
for name, share in shares.items():
    print(f"normalised with {name:<10} numbers: {share:.0%} of {len(asked)} hot dogs")
compare("named hotdog", shares["its own"], within=0.1)
compare("named hotdog, wrong numbers", shares["another's"], within=0.1)
assert shares["another's"] < shares["its own"]
assert shares["its own"] >= 0.5

# %% [markdown]
# No error message, and a good part of the knowledge is gone.
#
# That was one run. The course's [ledger](11_claims.ipynb) repeats such comparisons (this one is C11), and gives the mean and its
# 95 % **confidence interval**, which holds the true mean 19 times in 20. On photographs of hot dogs, the
# share that it names rightly changes by <!-- evidence: C11_photographs.unlearned -->-0.31 [-0.36, -0.25]<!-- end -->,
# on drawn ones by <!-- evidence: C11.unlearned -->-0.16 [-0.21, -0.11]<!-- end -->.
#
# When a new output layer is *trained* with the wrong numbers, test accuracy changes only by <!-- evidence: C11_photographs.learned -->-0.045 [-0.060, -0.030]<!-- end --> on <!-- evidence: C11_photographs.on -->96 photographs of food at 224 pixels to learn from, 400 to test; ImageNet's weights; 50 draws<!-- end -->, and by <!-- evidence: C11.learned -->-0.012 [-0.023, -0.001]<!-- end --> on
# drawn pictures. The wrong numbers cost most where nothing is trained.
#
# Training shows each picture in a new form every time, a random crop, now and then mirrored, so that it
# can't be learned by heart. That is **augmentation**. For testing, it is always the middle.

# %%
one = pictures["train"][shown.indices[order[0]]][0]
torch.manual_seed(1)
forms = [see(one)] + [see(one, augment=True) for _ in range(6)]
plots.show(
    plots.gallery(
        [one] + [see.denormalise(form).permute(1, 2, 0) for form in forms],
        ["as stored", "for testing"] + ["for training"] * 6,
        side=1.1,
    ),
    alt="""One hot dog eight times: as stored, its middle as for testing, and six random crops as
    for training, some of them mirrored.""",
    photographs=True,
)
print("shape of each:", *forms[0].shape, "| values from", end=" ")
print(f"{min(f.min() for f in forms):.0f} to {max(f.max() for f in forms):.0f}")

# %% [markdown]
# ## Four steps
#
# 1. **Pretrain** a source network on a large data set. Somebody did this for you on ImageNet.
# 2. **Copy** it, all but its output layer.
# 3. Add a **new output layer** with as many outputs as you have classes. Its weights are random.
# 4. **Train** on your pictures: the new layer from nothing, the copied ones from what they know.

# %%
print(backbones.card(p.backbone))


def new_net(**settings):
    """The backbone with two outputs; see the note below on the order in memory."""
    net = backbones.load(p.backbone, **{"num_classes": 2} | settings)
    return net.to(memory_format=torch.channels_last)


net = new_net()
head = backbones.head_name(net)
source, target = imagenet_net.state_dict(), net.state_dict()
copied = [name for name in target if torch.equal(target[name], source[name])]
new = [name for name in target if name not in copied]
print(f"{len(copied)} tensors copied, {len(new)} new:")
for name in new:
    print(f"  {name}: {tuple(source[name].shape)} became {tuple(target[name].shape)}")

# %% [markdown]
# Steps 2 and 3 are one line of code. The others check it: a network whose weights were *not* loaded
# looks the same from outside. (`channels_last` is an order in memory in which convolutions run faster.)
#
# ## Two learning rates: η and 10η
#
# The copied layers, the **body**, are nearly right and should move a little. The new layer, the **head**,
# knows nothing and should move a lot. So the body gets a learning rate η (eta), the head 10η.

# %%
for group in training.parameter_groups(net, lr=p.learning_rate, head=head):
    count = sum(parameter.numel() for parameter in group["params"])
    print(f"{group['name']:<5} {count:>9,} numbers, learning rate {group['lr']:g}")

# %% [markdown]
# The book trains with its own function, `train_ch13`. One step of it, beside one step of this
# course's loop: the same network, the same batch, the same optimizer.

# %%
train_set = data.hotdog(split="train", transform=see.train)
batch = next(iter(data.loader(train_set, batch_size=16, shuffle=True)))
by_book, by_course = copy.deepcopy(net), copy.deepcopy(net)


def sgd(model):
    """The two groups, with a learning rate for a loss that is summed over 16 pictures."""
    return torch.optim.SGD(training.parameter_groups(model, p.learning_rate / 16))


devices = d2l.try_all_gpus() or [d2l.cpu()]
by_book.to(devices[0])
each_loss = nn.CrossEntropyLoss(reduction="none")
d2l.train_batch_ch13(by_book, *batch, each_loss, sgd(by_book), devices)
summed_loss = nn.CrossEntropyLoss(reduction="sum")
training.finetune(
    by_course, [batch], epochs=1, loss=summed_loss, optimizer=sgd(by_course), device=devices[0]
)
pairs = list(zip(by_book.state_dict().values(), by_course.state_dict().values(), strict=True))
equal = [torch.equal(a, b) for a, b in pairs]
assert all(equal)
print(f"{sum(equal)} of {len(equal)} tensors are equal, bit for bit")

# %% [markdown]
# Three things about the book's function cost people an evening:
#
# - **Without a GPU** `d2l.try_all_gpus()` is an empty list, and `train_ch13` stops with an
#   `IndexError`. Write `d2l.try_all_gpus() or [d2l.cpu()]`, as above.
# - **Fewer than five batches** make it divide by zero: it draws a point every `num_batches // 5`.
# - It **sums** the losses of a batch. Its learning rate, 5e-5, goes with the sum over 128 pictures; with
#   the mean, PyTorch's default, the same steps need a rate 128 times as large (chapter 06).
#
# ## Fine-tuned against from scratch
#
# Two networks: the same architecture, pictures, order and epochs. One starts from ImageNet's weights, the
# other from random ones, with one larger learning rate for all layers, as in the book.
#
# **Predict.** Two classes, so guessing gives an accuracy of 0.5. Where will each of the two be on the
# test pictures?

# %%
predict("fine-tuned accuracy", ...)
predict("accuracy from scratch", ...)

# %%
sets = {"train": train_set}
sets |= {split: data.hotdog(split=split, transform=see.eval) for split in ("val", "test")}
if p.train_images:
    most = {"train": p.train_images, "val": p.test_images // 2, "test": p.test_images}
    sets = {split: data.balanced_subset(sets[split], n, seed=p.seed) for split, n in most.items()}
print({split: len(dataset) for split, dataset in sets.items()})


def train_and_test(model, **settings):
    """Fine-tune on this chapter's pictures; choose the epoch by val; measure test once, after."""
    history = training.finetune(
        model, sets["train"], val=sets["val"], seed=p.seed, momentum=p.momentum,
        **{"lr": p.learning_rate} | settings,
    )  # fmt: skip
    return history, training.evaluate(model, sets["test"])


runs, histories = {}, {}
finetuned = new_net()
histories["fine-tuned"], runs["fine-tuned"] = train_and_test(finetuned)
torch.manual_seed(p.seed)
scratch = new_net(pretrained=False)
histories["from scratch"], runs["from scratch"] = train_and_test(
    scratch, lr=10 * p.learning_rate, head_lr_factor=1
)

# %% tags=["nbval-ignore-output"]
plots.show(
    plots.lines(
        {name: (range(1, len(each) + 1), each.val_acc) for name, each in histories.items()},
        "epoch",
        "validation accuracy",
        level=(0.5, "guessing"),
    ),
    alt="""Validation accuracy over the epochs, for two networks. The fine-tuned one is near the top
    from the first or second epoch on; the one from scratch stays near one half.""",
)
for name, found in runs.items():
    print(f"{name:<13} test accuracy {found.accuracy:.2f}, loss {found.loss:.2f}")
compare("fine-tuned accuracy", runs["fine-tuned"].accuracy, within=0.05)
compare("accuracy from scratch", runs["from scratch"].accuracy, within=0.05)

# %%
assert runs["fine-tuned"].accuracy > runs["from scratch"].accuracy

# %% [markdown]
# On so few pictures, in so few steps, the network from scratch does no better than guessing. Is that
# luck? Over several draws of the pictures, with both choosing among three learning rates by validation,
# the fine-tuned network was better by <!-- evidence: hotdog_margin.gain -->0.367 [0.299, 0.437]<!-- end --> in accuracy
# (<!-- evidence: hotdog_margin.on -->96 drawn pictures to learn from, 120 to test, 96 pixels; ImageNet's weights; 5 draws<!-- end -->). The gain is counted from near chance.
#
# ## Growing the learning rate, and tuning both
#
# What happens when the learning rate grows? And would the network from scratch catch up, if its
# rate were tuned too? Both get the same four rates, and one pass over the pictures at each.
#
# **Predict.** At the largest of the four, a hundred times the rate used above, will the fine-tuned
# network be `"better"` than at that rate, or `"worse"`? And does the network from scratch catch up
# anywhere, `"yes"` or `"no"`?

# %%
predict("fine-tuned at the largest rate", ...)
predict("scratch catches up", ...)

# %%
few = data.balanced_subset(sets["train"], min(32, len(sets["train"])), seed=p.seed)
rates = [p.learning_rate * factor for factor in (0.1, 1, 10, 100)]
sweep = {"fine-tuned": [], "from scratch": []}
for rate in rates:
    for name, accuracies in sweep.items():
        torch.manual_seed(p.seed)
        pretrained = name == "fine-tuned"
        model = new_net(pretrained=pretrained)
        try:
            history = training.finetune(
                model, few, val=sets["val"], epochs=1, seed=p.seed, momentum=p.momentum,
                lr=rate, head_lr_factor=10 if pretrained else 1,
            )  # fmt: skip
            accuracies.append(history.val_acc[-1])
        except training.NonFiniteLossError:
            accuracies.append(0.5)  # the loss left the numbers: no better than guessing

# %%
plots.show(
    plots.lines(
        {name: (rates, accuracies) for name, accuracies in sweep.items()},
        "learning rate of the body (the fine-tuned network's head: ten times as much)",
        "validation accuracy",
        log_x=True,
        level=(0.5, "guessing"),
    ),
    alt="""Validation accuracy after one epoch over four learning rates, each ten times the one
    before. The fine-tuned network is best at the third and falls to guessing at the largest; the
    network from scratch is lower at its best, and at guessing elsewhere.""",
)
best = {name: max(accuracies) for name, accuracies in sweep.items()}
assert best["fine-tuned"] > best["from scratch"]
largest = sweep["fine-tuned"][-1] > sweep["fine-tuned"][1]
print(f"rates tried: {len(rates)}")
compare("fine-tuned at the largest rate", "better" if largest else "worse")
compare("scratch catches up", "yes" if best["from scratch"] >= best["fine-tuned"] else "no")

# %% [markdown]
# A learning rate can be too large for fine-tuning: the steps then destroy what the copied layers knew.
# And with its rate tuned likewise, the network from scratch doesn't catch up in one pass.
#
# ## Freezing all but the head
#
# If the copied layers are good, why train them at all? The book's third exercise trains the new layer
# only. This is what it tells you to write:

# %%
net = new_net()
for parameter in net.parameters():
    parameter.requires_grad = False
images, targets = batch
try:
    nn.functional.cross_entropy(net(images), targets).backward()
except RuntimeError as error:
    print("RuntimeError:", str(error).splitlines()[0])

# %% [markdown]
# It froze *every* parameter, the new head included: nothing is left to train. A second fault makes no
# noise. `requires_grad = False` is about parameters. The **BatchNorm** layers, which bring each channel to
# mean 0 and variance 1, keep a running mean and variance and a count of batches as **buffers**, numbers
# that no gradient changes. A forward pass in training mode moves them, frozen or not:

# %%
net = new_net()
for name, parameter in net.named_parameters():
    parameter.requires_grad = name.startswith(head)
before = copy.deepcopy(net.state_dict())
net.train()(images)
moved = [name for name, now in net.state_dict().items() if not torch.equal(now, before[name])]
kinds = sorted({name.rsplit(".", 1)[1] for name in moved})
print(f"{len(moved)} tensors moved without a single training step: {', '.join(kinds)}")

# %% [markdown]
# `course_lib.freezing.freeze` holds parameters and buffers, through every call of `model.train()`. Chapter
# 04 is about how.
#
# **Predict.** How many times as fast is a training step when only the head learns? And what will it
# do to the accuracy?

# %%
predict("times as fast", ...)
predict("accuracy, head only", ...)

# %%
frozen = new_net()
body = [name for name, _ in frozen.named_children() if name != head]
print(freezing.freeze(frozen, body))
kept = {name: tensor.clone() for name, tensor in frozen.state_dict().items()}
histories["head only"], runs["head only"] = train_and_test(frozen)

# %% tags=["nbval-ignore-output"]
for name in ("fine-tuned", "head only"):
    speed, found = histories[name].images_per_second, runs[name]
    print(f"{name:<11} {speed:>7.1f} pictures/s in training, test accuracy {found.accuracy:.2f}")
ratio = histories["head only"].images_per_second / histories["fine-tuned"].images_per_second
print(f"training the head alone is {ratio:.1f} times as fast")
compare("times as fast", ratio, digits=1, within=0.5)
compare("accuracy, head only", runs["head only"].accuracy, within=0.05)

# %%
changed = [n for n, now in frozen.state_dict().items() if not torch.equal(now, kept[n])]
assert changed == [f"{head}.weight", f"{head}.bias"]
assert runs["head only"].accuracy > runs["from scratch"].accuracy
print("changed by the training:", *changed)

# %% [markdown]
# Why is it faster? A training step has three parts of about equal cost: the forward pass, the gradients
# of each layer's inputs, and those of its weights. With a frozen body only the first is left. What it
# gives, the **features**, could be computed once and for all: that is chapter 05.
#
# The accuracy doesn't suffer, where the new question is near to what ImageNet asked. A reader of the book
# measured ResNet-18 on the real pictures, once each (the forum under Sources): <!-- given -->0.922<!-- end --> with the
# head alone, <!-- given -->0.927<!-- end --> with everything, and 1.46 times the speed on four GPUs.
#
# In the ledger (C8) each way's learning rate is chosen on validation pictures. Test accuracy of the head
# alone, minus that of all layers:
#
# | learned from | difference |
# |---|---|
# | 50 photographs | <!-- evidence: C8_photographs.accuracy_50 -->0.124 [0.093, 0.157]<!-- end --> |
# | 200 photographs | <!-- evidence: C8_photographs.accuracy_200 -->0.056 [0.031, 0.082]<!-- end --> |
# | 200, with BatchNorm's statistics held while all layers train | <!-- evidence: C8_photographs.held_200 -->0.002 [-0.015, 0.018]<!-- end --> |
# | 96 drawn pictures | <!-- evidence: C8.accuracy -->0.052 [-0.001, 0.109]<!-- end --> |
#
# "At most <!-- given -->0.03<!-- end --> less" was asked for, on photographs: it <!-- evidence: C8_photographs.verdict -->held<!-- end -->; the lead itself is gone once BatchNorm stands
# still. On drawn pictures the head alone was <!-- evidence: C8.speed -->4.4 [3.7, 5.2]<!-- end --> times as fast.
# (Photographs: <!-- evidence: C8_photographs.on -->50 or 200 photographs of food at 96 pixels to learn from, 400 to test; ImageNet's weights; 18 draws<!-- end -->.)
#
# In the book's run, accuracy on the training pictures stands *below* that on the test pictures. It is
# measured while the network still learns, and on augmented pictures. Measured afterwards, on whole ones,
# it is the other way round. Accuracy on its own photographs minus that on others (C21):
#
# | photographs | all layers trained | head only |
# |---|---|---|
# | 10 | <!-- evidence: C21_photographs.10: all layers.gap -->0.425<!-- end --> | <!-- evidence: C21_photographs.10: head only.gap -->0.275<!-- end --> |
# | 50 | <!-- evidence: C21_photographs.50: all layers.gap -->0.304<!-- end --> | <!-- evidence: C21_photographs.50: head only.gap -->0.184<!-- end --> |
# | 200 | <!-- evidence: C21_photographs.200: all layers.gap -->0.198<!-- end --> | <!-- evidence: C21_photographs.200: head only.gap -->0.089<!-- end --> |
#
# That gap is overfitting. It shrinks with more pictures, and with fewer weights that may move.
#
# ## Starting from the class "hotdog"
#
# The new head starts from random numbers. But ImageNet's output layer has a **row** of weights for each of
# its classes, and row 934 is "hotdog".
#
# Call the scores of the thousand classes $z_0 \ldots z_{999}$. For the softmax over all of them,
# exactly:
#
# $$p(\text{hot dog}) = \sigma(z_{934} - L), \qquad L = \log \sum_{k \ne 934} e^{z_k}$$
#
# where $\sigma$ is the sigmoid. A two-class softmax computes $\sigma(z_\text{hotdog} -
# z_\text{rest})$. So the new head should hold:
#
# - **The row for "hotdog"**: row 934 as it is, weights and bias, bit for bit.
# - **The row for "not-hotdog"**: something that acts like $L$, which is not linear in the features. The
#   plain choice is the straight line that touches it: about the average of the 999 other rows.
# - **The bias of "not-hotdog"** matters most. Even if each of the 999 classes scores 0, $L$ (a
#   **log-sum-exp**) is $\log 999 = 6.9$. With a bias of 0, nearly everything would be a hot dog.
#
# At another size than 224 pixels, 6.9 need not fit. So the bias is set by the features of some training
# pictures, without their labels, such that half of them count as hot dogs.
#
# **Predict.** This head has seen no label. Guessing gives 0.5, and you know what the fine-tuned
# network reached. What will this one reach?

# %%
predict("accuracy of row 934, untrained", ...)

# %%
seeing = data.hotdog(split="train", transform=see.eval)
if p.train_images:
    seeing = data.balanced_subset(seeing, p.train_images, seed=p.seed)
known = features.extract(imagenet_net, seeing, cache=False).values
informed = backbones.hotdog_head(new_net(num_classes=None), features=known)
row = dict(informed.named_modules())[head]
difference = (row.weight[0].detach() - source[f"{head}.weight"][934]).abs().max()
print(f"row 0 differs from ImageNet's row 934 by {float(difference)}")
untrained = training.evaluate(informed, sets["test"])
assert untrained.accuracy > 0.6
histories["from row 934"], runs["from row 934"] = train_and_test(informed)

# %% tags=["nbval-ignore-output"]
compare("accuracy of row 934, untrained", untrained.accuracy, within=0.05)
print(f"{'run':<14}{'train loss':>11}{'train acc':>11}{'test acc':>10}{'images/s':>10}")
for name, history in histories.items():
    epoch = history[(history.kept_epoch or 1) - 1]
    print(
        f"{name:<14}{epoch.train_loss:>11.3f}{epoch.train_acc:>11.3f}"
        f"{runs[name].accuracy:>10.3f}{history.images_per_second:>10.1f}"
    )

# %% [markdown]
# Before a single step of training, the head from row 934 is far better than guessing. Don't rank the
# others: with 64 test pictures, an accuracy near <!-- given -->0.85<!-- end --> is good to about nine points either way.
#
# The ledger asked it (C9): test accuracy from row 934, minus that from a random head, on photographs
# and on drawn pictures.
#
# | trained on | photographs | drawn |
# |---|---|---|
# | nothing | <!-- evidence: C9_photographs.untrained -->0.343 [0.311, 0.377]<!-- end --> | <!-- evidence: C9.untrained -->0.254 [0.217, 0.291]<!-- end --> |
# | 8 | <!-- evidence: C9_photographs.few -->0.052 [0.035, 0.069]<!-- end --> | <!-- evidence: C9.few -->0.025 [0.001, 0.049]<!-- end --> |
# | about 100 | <!-- evidence: C9_photographs.from_100 -->0.001 [-0.010, 0.012]<!-- end --> | <!-- evidence: C9.more -->-0.013 [-0.026, 0.000]<!-- end --> |
#
# So the row is a head start, worth most when you have next to nothing.
#
# ## What it gets wrong
#
# The **confusion matrix** says which way the errors go. Below it are the mistakes that the network was
# surest of. Would you have known?

# %%
answers = training.predict(finetuned, sets["test"])
matrix = training.confusion_matrix(answers.predicted, answers.targets, 2)
plots.show(
    plots.confusion(matrix, pictures["test"].classes),
    alt="""Confusion matrix of the fine-tuned network on the test pictures: rows are the true
    classes, columns the predicted ones. Most of the counts are on the diagonal.""",
)
assert matrix.trace() > 0.6 * matrix.sum()
print("test pictures:", int(matrix.sum()))

look = pictures["test"]
if p.test_images:
    look = data.balanced_subset(look, p.test_images, seed=p.seed)
rows = answers.most_wrong(6)
if len(rows):
    places = answers.indices[rows]
    sure = answers.probabilities[rows].amax(dim=1)
    titles = [
        f"says {look.classes[answers.predicted[r]]}, {s:.0%}"
        for r, s in zip(rows, sure, strict=True)
    ]
    plots.show(
        plots.gallery([look[int(i)][0] for i in places], titles, columns=6, side=1.3),
        alt="""At most six test pictures that the fine-tuned network got wrong, the surest mistake
        first, each with what it says and how sure it is.""",
        photographs=True,
    )
print("shown: at most six mistakes, the surest first")

# %% [markdown]
# ## Where it looks
#
# Before its head, the network has a coarse grid of places, with 1,280 channels at each: its last **feature
# map**. **Grad-CAM** asks which places speak for a class: it weighs each channel by the gradient of the
# class's score, adds them up, and keeps what is positive. Here, for the four hot dogs it is surest of:

# %%
larger = backbones.preprocessing(p.backbone, size=round(p.image_size * 5 / 3))
inputs = torch.stack([larger(pictures["test"][i][0]) for i in asked[:24]])
with torch.no_grad():
    says_hotdog = finetuned.cpu().eval()(inputs).softmax(dim=1)[:, 0]
inputs = inputs[says_hotdog.argsort(descending=True)[:4]]
maps = heatmaps.grad_cam(finetuned, inputs, target=0)
figure, axes = plots.new_axes(9.6, 4.9, 2, len(inputs))
for picture, below, image, strength in zip(*axes, inputs, maps, strict=True):
    picture.imshow(larger.denormalise(image).permute(1, 2, 0).clamp(0, 1))
    picture.axis("off")
    plots.overlay(below, larger.denormalise(image).permute(1, 2, 0), strength)
plots.show(
    figure,
    alt="""Above, four test hot dogs. Below, the same in grey, with the places that speak for
    "hotdog" in colour and inside a yellow line.""",
    photographs=True,
)
print("maps:", *maps.shape)

# %% [markdown]
# The map is coarse: 5 by 5 places at 160 pixels, and only 3 by 3 at the 96 of the training. Use it to ask
# questions ("why does it look at the fork?"), not to prove that the network understands.
#
# ## Your own photographs
#
# For a folder of your own, `recipe.fit` takes the steps of this chapter. The folder has one folder
# inside it for each class, or `train/` and `test/` with these. ImageNet's body stays frozen, a new head
# is fitted at several sizes of the pictures, and more is trained only where that helps by more than
# chance. Three lines (or `course train my_pictures` and `course predict mine.safetensors photo.jpg`):
#
# ```python
# mine = recipe.fit("my_pictures", save_to="mine.safetensors")
# print(mine.report())
# recipe.load("mine.safetensors").predict("photo.jpg")
# ```
#
# Here the folder holds the drawn pictures; one size, and `stages=()`, which leaves it at the head, save
# time.

# %%
import contextlib
import shutil
import tempfile
from pathlib import Path

from sklearn.datasets import load_sample_image

from course_lib import paths, recipe
from course_lib.display import panels

place = Path(tempfile.mkdtemp())
for part in ("train", "test"):
    for name, mine_is in {"hotdog": "hotdog", "not-hotdog": "other food"}.items():
        drawn = paths.data_dir() / "hotdog_rendered" / part / name
        shutil.copytree(drawn, place / "my_pictures" / part / mine_is)

with contextlib.chdir(place):  # so that "my_pictures" is found
    mine = recipe.fit(
        "my_pictures", save_to="mine.safetensors", size=160, stages=(), say=lambda text: None
    )

# %% tags=["nbval-ignore-output"]
print(mine.report(plan=False))

# %%
assert mine.test.accuracy > 0.8
print("learned from", mine.facts.pictures, "pictures, tested by", mine.test.n)

# %% [markdown]
# Under "Result": the share of the test pictures that were right, with its interval. The **baseline**:
# always giving the same answer. **Balanced** accuracy counts every class the same; **log-loss** also
# asks how sure the answers were, and smaller is better. Each class's **recall**, the share of its
# pictures that was found. And **calibration**: of the answers given 0.8, are about eight in ten right?
#
# Tomorrow you open the file and ask it about a photograph. Where the best class gets less than 0.7, the
# answer is "not sure". Ask about something else, too: a photograph of a temple.
#
# **Predict.** The network knows two classes. What will it answer: `"hotdog"`, `"other food"` or
# `"not sure"`?

# %%
predict("the temple", ...)

# %%
tomorrow = recipe.load(place / "mine.safetensors")
some = [pictures["test"].paths[i] for i in test_hotdogs[:16]]
photo = max(some, key=lambda path: max(tomorrow.predict(path).probabilities.values()))
temple = load_sample_image("china.jpg")
print("a test picture:", tomorrow.predict(photo).answer)
assert tomorrow.predict(photo).probabilities == mine.predict(photo).probabilities
compare("the temple", tomorrow.predict(temple).answer)
assert max(tomorrow.predict(temple).probabilities.values()) >= 0.9

# %% [markdown]
# Sure of itself, and the temple is no food: the probabilities add up to 1 over the classes that it knows.
# "Not sure" finds pictures *between* the classes. If others may come, make them a class.

# %% [markdown]
# ## Now yours
#
# Upload or drop a photograph, or write its path; on your own machine, it stays there. Until then you see
# the hot dog that the network is surest of.

# %%
panels.PredictionPanel(tomorrow, picture=photo)

# %% [markdown]
# ## Pitfalls
#
# - **Mean and std belong to the weights**, not to your data and not to the example you copied from.
# - **Freeze, then check what moved.** `requires_grad = False` doesn't stop BatchNorm's statistics.
# - **Build the optimizer after the new head**; otherwise it trains the old one.
# - **Choose on validation, report on test.** Once you have chosen by it, the test is validation.
# - **One run is one run.** Another seed moves the accuracy by several points here.
# - **A sure answer isn't a right one**, least of all about what was in no class.

# %% [markdown]
# ## Exercises
#
# Write your answer in place of the dots and run the cell. `ex2_1.hint()` helps, several times;
# `ex2_1.solution()` shows the answer and why. Any right answer passes, not only ours.

# %%
from course_lib.exercises.chapter_02 import ex2_1, ex2_2, ex2_3, ex2_4, ex2_5, ex2_6, ex2_7
from course_lib.exercises.chapter_02 import q2_1, q2_2, q2_3, q2_4, q2_5

# %% [markdown]
# ### 2.1  Where the normalising numbers come from

# %%
ex2_1


# %% tags=["exercise"]
def channel_numbers(pictures):
    mean = ...
    std = ...
    return mean, std


ex2_1.check(channel_numbers)

# %% [markdown]
# ### 2.2  Back to a picture

# %%
ex2_2


# %% tags=["exercise"]
def undo_normalising(batch, mean, std):
    return ...


ex2_2.check(undo_normalising)

# %% [markdown]
# ### 2.3  A new head

# %%
ex2_3


# %% tags=["exercise"]
def swap_head(model, classes):
    ...
    return model


ex2_3.check(swap_head)

# %% [markdown]
# ### 2.4  Two learning rates

# %%
ex2_4


# %% tags=["exercise"]
def two_rates(model, eta):
    head = ...
    body = ...
    return torch.optim.SGD(...)


ex2_4.check(two_rates)

# %% [markdown]
# ### 2.5  The book's snippet, put right

# %%
ex2_5


# %% tags=["exercise"]
def only_the_head(model):
    for parameter in model.parameters():
        parameter.requires_grad = False
    return model


ex2_5.check(only_the_head)

# %% [markdown]
# ### 2.6  The odd last batch

# %%
ex2_6


# %% tags=["exercise"]
def share_right(batches):
    return ...


ex2_6.check(share_right)

# %% [markdown]
# ### 2.7  A head that knows hot dogs

# %%
ex2_7


# %% tags=["exercise"]
def head_from_row(old, row, scale=1.0):
    new = nn.Linear(old.in_features, 2)
    ...
    return new


ex2_7.check(head_from_row)

# %% [markdown]
# ### Questions
#
# Put the letter of your answer in place of the dots. Each option is explained, the wrong ones too.

# %%
q2_1

# %% tags=["exercise"]
q2_1.answer(...)

# %%
q2_2

# %% tags=["exercise"]
q2_2.answer(...)

# %%
q2_3

# %% tags=["exercise"]
q2_3.answer(...)

# %%
q2_4

# %% tags=["exercise"]
q2_4.answer(...)

# %%
q2_5

# %% tags=["exercise"]
q2_5.answer(...)

# %% [markdown]
# ## Appendix: what the book's readers ask
#
# **Why is accuracy on the training pictures lower than on the test pictures?** So it is in every run of the
# reader's table; when all layers learn, <!-- given -->0.901<!-- end --> against <!-- given -->0.927<!-- end -->. Training accuracy is counted *while* the
# network learns, each batch before its own step, and on random crops. The test comes afterwards, on middles.
# Here the fine-tuned network meets the pictures that it learned from once more:

# %%
history = histories["fine-tuned"]
torch.manual_seed(p.seed)
counted = {
    "its own, while it learned": history[(history.kept_epoch or 1) - 1].train_acc,
    "its own, afterwards, crops": training.evaluate(finetuned, sets["train"]).accuracy,
    "its own, afterwards, middles": training.evaluate(finetuned, seeing).accuracy,
    "test pictures, middles": runs["fine-tuned"].accuracy,
}
for name, accuracy in counted.items():
    print(f"{name:<30}{accuracy:.1f}")
assert counted["its own, afterwards, middles"] > counted["its own, while it learned"]

# %% [markdown]
# The same weights, the same pictures: on their middles the network is right more often than on crops of
# them, which may show a corner of the table. Here the crops make the difference; in the first epoch, that the
# network knew next to nothing counts as well. ([Chapter 01](01_pretrain_finetune.ipynb) has an appendix
# on what crops are good for.) So compare what was measured in one way, as the table of C21 above does.
#
# **Why was the run from row 934 slower?** In the reader's table it
# made <!-- given -->1022.9<!-- end --> pictures a second, the other <!-- given -->1501.1<!-- end -->. Count what a training step has to do:

# %%
from course_lib.freezing.costs import cost_of_step


def work_of(model):
    """Additions and multiplications of one training step on the batch from above."""
    optimizer = torch.optim.SGD(training.parameter_groups(model, p.learning_rate))

    def step():
        nn.functional.cross_entropy(model(images), targets).backward()
        optimizer.step()

    return cost_of_step(model.train(), optimizer, step, batch).flops


work = {"a random head": work_of(new_net()), "row 934": work_of(copy.deepcopy(informed).cpu())}
for name, each in work.items():
    print(f"from {name:<14}{each:,} operations a step")
assert len(set(work.values())) == 1

# %% [markdown]
# Not one operation more: the row gives the head other numbers, not other work. So the method isn't the
# cause. The table doesn't tell what else the machine did or how the pictures were read, and one timing of each
# can't; speeds in our own table above differ, too, where the work is the same.
#
# **What if the download fails?** [Chapter 00](00_start_here.ipynb) has a section on it.

# %% tags=["keep"]
# On Colab and Kaggle, this cell keeps what you did: in your Drive if it is mounted, or as a file.
from course_lib.setup import hosting

hosting.take_home()

# %% [markdown]
# ## Summary
#
# 1. Fine-tuning: copy a pretrained network, give it a new output layer, train the new layer fast and
#    the rest slowly.
# 2. The input must look as it did in pretraining: size, mean and std come with the weights.
# 3. On a few dozen pictures, starting from ImageNet beats starting from nothing by far.
# 4. The head alone trains several times as fast, and on so few pictures it is no worse.
# 5. What the network knows already, such as a row for "hotdog", can be taken over.
#
# ## Sources
#
# - A. Zhang, Z. Lipton, M. Li, A. Smola: *Dive into Deep Learning*, section 14.2, Fine-Tuning; the
#   data set and the exercises.
# - The discussion of that section in the book's forum: the questions on normalisation, on `reduction`
#   and on row 934; a reader's table.
# - M. Tan, Q. Le: *EfficientNet*, ICML 2019; the Lite variants are by R. Liu, 2020.
# - R. Selvaraju et al.: *Grad-CAM*, ICCV 2017.
