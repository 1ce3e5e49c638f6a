# %% [markdown]
# # From the notebook to a job
#
# A notebook is a good place to find out what works. Then there are a hundred thousand pictures, a
# machine in another building, and a training that takes a night. Or the network is done, and is to run
# where there is no Python. This chapter keeps your functions and changes what is around them: one
# config file, one command, checkpoints, several processes, a file for other engines. And it shows how
# to know beforehand what that will cost.
#
# You need 50 minutes to read and run it, and about 40 more for the exercises. Nothing here needs a GPU;
# the same commands use one where there is one.

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
# - write a job's config, and read what it would do before it does it;
# - stop, kill and resume a training without changing its result;
# - find the bottleneck by measuring, and say what freezing can't make faster;
# - start several processes, in the right order with freezing;
# - estimate hours and price, from a laptop to 64 machines, with assumptions that you can change;
# - say how often to save;
# - export a network with its preparation inside, and check that it answers the same.

# %%
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from course_lib import backbones, data, freezing, jobs, profile, recipe
from course_lib.data.manifest import bundled_folder
from course_lib.display import plots
from course_lib.exercises import compare, predict
from course_lib.freezing.costs import cost_of_step
from course_lib.jobs import costs, export, orders, run

p = profile.start()
room = Path(tempfile.mkdtemp())

# %% [markdown]
# ## One file says what is done
#
# In a notebook, settings are spread over cells, and some of them are what you typed an hour ago. A job
# has one file. Here the head trains for an epoch, then the last two parts of Lite0, with the rest frozen
# as in chapter 04. Keys that aren't there have defaults: `course train --keys` lists them.

# %%
config_file = room / "job.toml"
config_file.write_text(f"""
data = "{bundled_folder()}"   # a folder, a list (.csv) or WebDataset shards (.tar)
out = "run"
model = "efficientnet_lite0"  # any of torchvision's, or timm/NAME
size = 64
batch_size = 32
checkpoint_every = 2          # steps
tensorboard = false
threads = 1
device = "cpu"

[[stages]]                    # the head alone
epochs = 1
lr = 0.003

[[stages]]
thaw = ["blocks.6", "conv_head", "bn2"]
epochs = 1
lr = 0.003
""")
config = jobs.read_config(config_file)
print(config.batch_size, config.optimizer, [stage.thaw for stage in config.stages])

# %% [markdown]
# A night is a long time to wait for a typing error. So every key is checked before anything starts, and
# all mistakes come at once, with line and nearest name.

# %%
(room / "typos.toml").write_text('data = "pictures"\nbatchsize = 32\n\n[[stages]]\nepochs = "3"\n')
try:
    jobs.read_config(room / "typos.toml")
except jobs.ConfigError as error:
    print(str(error).replace(str(room), "..."))

# %% [markdown]
# `course train job.toml --dry-run` says what would be done, what is frozen, and how long a step takes on
# this machine. In a notebook it is `jobs.dry_run`. (The minutes differ from machine to machine, so this
# page shows only the part that doesn't.)

# %%
said = jobs.dry_run(config)
print(said[: said.index("efficientnet_lite0 at")])
print(said[said.index("Frozen in") : said.index("About")])

# %% [markdown]
# ## Stopped, killed, resumed
#
# A process on a cluster ends when it pleases the cluster. What must be in a checkpoint so that the run
# goes on as if nothing had happened? Weights; the optimizer's moments; the position in the plan; the
# frozen state. And two things that people forget: **the random streams**, and **which pictures of the
# epoch came already**.
#
# A job here stores neither of the two. The order of an epoch's pictures, the augmentation of each and
# the dropout of each step follow from the seed and the step's number alone. What isn't stored can't be
# stored wrongly, and another number of workers changes nothing.
#
# **Predict.** Two runs of this config: one undisturbed, one that is asked to stop after step 4 (a signal
# from outside, as on a cluster) and goes on. How many of their tensors will differ at the end?

# %%
predict("tensors that differ", ...)


# %%
def quiet(line):
    """A job tells of each epoch; here it is to be silent."""


whole = jobs.train(config, quiet)


def ask_to_stop(step):
    """A job whose process gets SIGTERM in the given step, as from a cluster that needs the room."""
    plain = run.Job._step

    def with_signal(job, *given):
        if job.at.total == step - 1:
            run.signal.raise_signal(run.signal.SIGTERM)
        return plain(job, *given)

    return plain, with_signal


# %%
hurt = jobs.read_config(config_file, ["--out", str(room / "hurt")])
plain, run.Job._step = ask_to_stop(4)
stopped = jobs.train(hurt, quiet)
run.Job._step = plain
resumed = jobs.train(hurt, quiet)
print("finished:", stopped.finished, "then", resumed.finished)
print("exit status for the cluster's script:", jobs.STOPPED)


# %%
def end_state(folder):
    """The saved network's tensors by name."""
    return recipe.load(folder / "model.safetensors").model.state_dict()


one, other = end_state(whole.folder), end_state(resumed.folder)
differ = [name for name in one if not torch.equal(one[name], other[name])]
compare("tensors that differ", len(differ), within=0, digits=0)

# %% [markdown]
# Bit for bit. The course's tests do the same with SIGKILL, which no program can catch: at random moments,
# in the middle of writing too. A checkpoint is written under another name and renamed when it is whole;
# a damaged one is passed over. A full disk, a GPU without memory and a loss that became NaN end the job
# with a message, and what was saved stays.
#
# Beside the checkpoints there are the logs (CSV, and TensorBoard's), and a report: one HTML file with
# curves, confusion matrix, the worst pictures and calibration.

# %%
for path in sorted(whole.folder.iterdir()):
    print(path.name + ("/" if path.is_dir() else ""))
result = json.loads((whole.folder / "result.json").read_text())
assert result["low"] > 0.5
print("measured on", result["pictures"], result["measured on"], "pictures")

# %% [markdown]
# ## Where the time goes
#
# A picture is read and decoded, augmented, copied to the device, and passes through the network. With
# workers, the first two happen while the device computes; then the slower side decides. So measure
# each part before you make one faster.
#
# **Predict.** Lite0 at 96 pixels on one CPU thread. A step with a frozen body takes what share of one
# that trains all layers, in tenths? (Chapter 04 counted the operations.)

# %%
predict("share of a full step, in tenths", ...)

# %% jupyter={"source_hidden": true}
files = data.hotdog(split="train").paths[:16]
pictures = [data.open_image(each) for each in files]
see = backbones.preprocessing("efficientnet_lite0", 96)
targets = torch.arange(16) % 2


def step_of(frozen):
    """A training step on 16 pictures, and its network and optimizer."""
    torch.manual_seed(0)
    model = backbones.load("efficientnet_lite0", 2).train()
    if frozen:
        freezing.freeze(model, [n for n, _ in model.named_children() if n != "classifier"])
    moving = [each for each in model.parameters() if each.requires_grad]
    optimizer = torch.optim.SGD(moving, lr=1e-3)
    images = torch.stack([see(each) for each in pictures])

    def step():
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(images), targets).backward()
        optimizer.step()

    return model, optimizer, step, images


full, frozen = step_of(False), step_of(True)
work = {
    name: cost_of_step(model, optimizer, step, [images]).flops
    for name, (model, optimizer, step, images) in (("full", full), ("frozen", frozen))
}
compare("share of a full step, in tenths", round(10 * work["frozen"] / work["full"]), within=1,
        digits=0)  # fmt: skip

# %% [markdown]
# Now the seconds, each part three times in turns, the fastest counts. These depend on your machine; the
# cell after it holds what they have in common.

# %% tags=["nbval-ignore-output"]
head = torch.nn.Linear(1280, 2)
cached = torch.randn(16, 1280)
parts = {
    "reading and decoding": lambda: [data.open_image(each) for each in files],
    "augmenting": lambda: [see(each, augment=True) for each in pictures],
    "step, all layers": full[2],
    "step, frozen body": frozen[2],
    "step, cached features": lambda: torch.nn.functional.cross_entropy(
        head(cached), targets
    ).backward(),
}
seconds = {name: [] for name in parts}
for _ in range(3):
    for name, part in parts.items():
        began = time.perf_counter()
        part()
        seconds[name].append((time.perf_counter() - began) / 16)
fastest = {name: min(found) for name, found in seconds.items()}
for name, found in fastest.items():
    print(f"{name:<22}{1 / found:>10,.0f} pictures/s")

# %% jupyter={"source_hidden": true}
assert fastest["step, frozen body"] < 0.75 * fastest["step, all layers"]
assert fastest["step, cached features"] < 0.02 * fastest["step, frozen body"]
before = fastest["reading and decoding"] + fastest["augmenting"]
shares = [before / (before + fastest[f"step, {each}"]) for each in
          ("all layers", "frozen body", "cached features")]  # fmt: skip
assert shares == sorted(shares)
assert shares[2] > 0.9

# %% [markdown]
# The faster the step, the more of the time is preparing. On a GPU, a step is ten to a hundred times
# faster and decoding is not, so there a frozen body often gains nothing until something is done about
# the pictures:
#
# - more `workers`; files that were resized beforehand (decoding a photograph of 12 megapixels for 224
#   pixels throws away nearly all of its work);
# - **cached features** (chapter 05), which decode once, at the price of augmentation;
# - **shards**: with a million small files, *opening* them is the limit. WebDataset puts some thousands
#   into a tar file that is read from front to end. `data = "train-{000..099}.tar"` reads such;
# - on the GPU's side: mixed precision and `channels_last`, which a job takes by itself on CUDA.
#
# `course bench gpu` measures all of these in one run.

# %% [markdown]
# ## Several processes
#
# `DistributedDataParallel` (DDP) starts one process for each device. Each has the whole network and its
# part of the batch; after the backward pass the gradients are averaged, so that all take the same step.
# The command is the same one, started by `torchrun`:
#
# ```sh
# torchrun --nproc-per-node 8 --max-restarts 3 -m course_lib.cli train job.toml
# ```
#
# `batch_size` is that of all processes together, so 8 GPUs do what one would, faster. The tests compare
# two processes with one: equal up to the rounding of sums in another order. If a process dies, torchrun
# starts all of them again, and they go on from the last checkpoint.
#
# DDP notes *when it is made* which parameters require a gradient. Freezing, which changes that, has to
# come before. What happens otherwise? Two processes on this machine try it, with a network of three
# layers `body`, `norm` and `head`.
#
# **Predict.** Wrapped while `body` was frozen, unfrozen in the middle, and not wrapped again: does torch
# raise an error? 1 for yes, 0 for no.

# %%
predict("an error for unfreezing in the middle", ...)

# %%
outcomes = {each.order: each for each in orders.try_orders()}
for each in outcomes.values():
    print(f"{each.order}\n    {each.error or 'runs'}", end="")
    if not each.error:
        apart = ", ".join(each.apart) or "nothing"
        print(
            f"; between the processes differs: {apart}; BatchNorm's mean: {each.statistics}", end=""
        )
    print()
compare("an error for unfreezing in the middle",
        int(bool(outcomes["unfreeze in the middle"].error)), within=0, digits=0)  # fmt: skip

# %% [markdown]
# No error, and the processes have different networks from then on: each trains the new layer by its own
# pictures. The right order is *freeze, then wrap; after every change, wrap again*. `find_unused_parameters`
# makes the other order run, and looks through the network in every step for it.
#
# BatchNorm in training mode is a matter of its own. DDP sends the buffers of process 0 to the others, so
# the statistics are those of its pictures alone. With 4 pictures on each GPU that is little: **hold** the
# statistics (chapter 04; a job's default) or let GPUs compute them together (`sync_batchnorm`).
#
# **Measuring** has a trap too. `DistributedSampler` fills up the last batch with pictures that were there
# already, since in training nobody may run out first. In a test they would count twice. A job deals the
# pictures out instead: exercise 10.1.
#
# With DDP each device holds everything. A network that one can't hold needs another kind of sharing:
# each device keeps a part of every layer and fetches the rest when that layer's turn comes. That is torch's
# FSDP2, in a job `shard = true`. Here nothing is noted beforehand, so unfreezing needs no new wrapping; in
# return the weights travel in every step, too. The networks of this course are far from needing it.

# %% [markdown]
# ## What it costs
#
# From a few measured steps, arithmetic says what 10^8 pictures take. Every number below is an assumption
# with a name. The speeds are round figures for a network like ResNet-50; put in what *you* measured, and
# the prices that you pay.

# %%
machines = [
    costs.Machines("one CPU", 1, 10, 200, price=0.1),
    costs.Machines("one GPU", 1, 1_000, 2_000, price=2, hours_between_failures=20_000),
    costs.Machines("8 GPUs", 8, 1_000, 2_000, 100e9, 16, hours_between_failures=20_000),
    costs.Machines("64 x 8 GPUs", 512, 1_000, 2_000, 10e9, 1_024, hours_between_failures=20_000),
]
body = 23_500_000  # numbers in the body
third = work["frozen"] / work["full"]  # measured above
methods = [
    costs.Method("all layers", 1.0, trained=body),
    costs.Method("frozen body", third, trained=4_000),
    costs.Method("cached features", 0.0, trained=4_000, once=third, reads=False),
    costs.Method("LoRA", 0.73, trained=100_000),  # chapter 09's count for Lite0
]
epochs, batch = 10, 64  # batch: for each device

# %% [markdown]
# For training all layers, on one GPU, with 10^6 pictures: 10^6 x 10 epochs / 1,000 a second = 10,000 s,
# or 2.8 hours. Preparing them, 2,000 a second: 1.4 hours, at the same time. The slower one counts.
#
# **Predict.** The same with a frozen body, whose step takes about a third. How many hours, to one digit?

# %%
predict("hours with a frozen body", ...)

# %%
by_name = {(m.name, w.name): (m, w) for m in machines for w in methods}
one_gpu = costs.cost(10**6, epochs, batch, *by_name["one GPU", "frozen body"])
print("it waits for:", one_gpu.limit)
compare("hours with a frozen body", one_gpu.hours, within=0.1, digits=1)

# %% [markdown]
# A third of 2.8 would be 0.9. But the pictures can't be prepared that fast: the frozen body made the step
# cheap, and the limit moved.

# %%
sizes = [10**k for k in range(3, 9)]
print("hours of", epochs, "epochs".ljust(29), "".join(f"{f'10^{k}':>9}" for k in range(3, 9)))
for machine in machines:
    for method in methods:
        hours = [costs.cost(n, epochs, batch, machine, method).hours for n in sizes]
        told = "".join(f"{h:>9.1g}" if h < 10 else f"{h:>9,.0f}" for h in hours)
        print(f"{machine.name:<14}{method.name:<27}{told}")

# %% [markdown]
# Read it by lines. A thousand pictures are nothing to talk about, anywhere. From 10^5 on, a CPU is for
# heads on cached features. LoRA saves memory and files, and costs three quarters of the work (chapter
# 09). And 512 GPUs don't make a small job small: below some size, starting the processes takes longer.
#
# **When does the network between machines become the limit?** In a ring, each device sends
# 2 (n - 1) / n times the gradients in every step. Full fine-tuning sends 94 MB; a head sends 16 kB.

# %%
for bandwidth, name in (
    (100e9, "between GPUs of one machine, 100 GB/s"),
    (10e9, "a fast network, 10 GB/s"),
    (0.125e9, "office Ethernet, 1 Gbit/s"),
):
    exchange = costs.all_reduce_seconds(4 * body, 512, bandwidth)
    part = exchange / (exchange + batch / 1_000)
    print(f"{name:<40}{part:>5.0%} of a step is exchange")

# %% [markdown]
# Then larger batches on each device help, or methods that train few numbers. DDP hides a part of it: it
# sends the last layers' gradients while the first ones are computed. And since all wait for the slowest,
# one process with a slow disk makes everybody slow (a **straggler**); so does one shard that is twice as
# large as the others. Storage counts as well: 10^8 pictures of 100 kB are 10 TB, read once an epoch.

# %% [markdown]
# ## How often to save
#
# A checkpoint takes time, a failure costs what was done since the last one. With an interval $t$, saving
# time $s$ and mean time $m$ between failures, the share that is lost is about
#
# $$\frac{s}{t} + \frac{t}{2m}$$
#
# and lowest at Young's $t = \sqrt{2 s m}$. A failure of any device stops all, so $m$ is divided by their
# number.

# %%
one_save, one_device = 20, 20_000 * 3600  # seconds
intervals = np.geomspace(30, 30_000, 40)
curves = {}
for devices in (8, 512):
    lost = [100 * costs.overhead(t, one_save, one_device / devices) for t in intervals]
    curves[f"{devices} devices"] = (list(intervals), lost)
    best = costs.young(one_save, one_device / devices)
    print(f"{devices:>3} devices: every {best / 60:.0f} minutes; lost then:",
          f"{costs.overhead(best, one_save, one_device / devices):.1%}")  # fmt: skip
plots.show(
    plots.lines(curves, "seconds between checkpoints", "per cent lost", log_x=True),
    alt="""Per cent of time that is lost over the interval between checkpoints, for 8 and 512
    devices, on a logarithmic axis. Both curves fall, are flat around their lowest point, and rise;
    that of 512 devices is higher on the right and has its lowest point at a shorter interval.""",
)

# %% [markdown]
# The valley is flat: half or twice the best interval costs little. Save too often rather than never.

# %% [markdown]
# ## Out of the notebook
#
# The network is trained. Where it is used there may be no Python and no torch: a server in another
# language, a telephone, a browser. **ONNX** is a file format that many engines run; `pt2` is torch's own.
#
# The commonest fault on the way is not in the network. It is that pictures are resized or normalised in
# another way than in training (chapter 02: wrong numbers there cost a third of the accuracy, in silence).
# So the preparation goes into the file: pixels of any size in, probabilities out.
#
# **Predict.** The exported file against torch, on eight pictures: the largest difference of a score, as a
# power of ten (-1, -4, -8)?

# %%
predict("power of ten of the difference", ...)

# %%
mine = recipe.load(whole.folder / "model.safetensors", device="cpu")
made = export.export_model(mine, room / "mine.onnx")
print("same answers:", f"{made.same:.0%}", "of", made.pictures)
assert made.difference < 1e-4
print("it knows its classes:", export.metadata(made.path)["classes"])
compare("power of ten of the difference", -6, within=3, digits=0)

# %% [markdown]
# `export_model` compares by itself, and doesn't write a file that differs by more than 0.0001. Never trust
# an exporter that you didn't check on pictures.
#
# **8 bits.** Weights take a quarter of the room as whole numbers from -128 to 127. *Dynamic*: the ranges
# of what flows between the layers are found anew for each picture. *Static*: they are fixed beforehand,
# by pictures that you give (training pictures, not the test). What does each cost? They take turns on the
# same test pictures, one by one on one thread. (Speed is this machine's and this moment's.)

# %% tags=["nbval-ignore-output"]
static = export.quantise(made.path, room / "static.onnx", mine, bundled_folder() / "train")
dynamic = export.quantise(made.path, room / "dynamic.onnx", mine)
for row in export.measure(mine, [made.path, static.path, dynamic.path]):
    print(row)

# %%
print("size, share of the original:", round(static.bytes / made.bytes, 1))
print("pictures compared:", static.pictures)
assert static.same >= 0.5

# %% [markdown]
# The size is certain; the rest depends on the network, the pictures and the processor. Finding the ranges
# anew for every picture can cost more time than the small numbers save. And on 96 pictures a few answers
# more or less are chance. So measure all of it on *your* pictures, many of them, and on the machine where
# it will run. The command does:
#
# ```sh
# course export-model mine.safetensors --to onnx --int8 static --calibrate train --pictures test
# course serve mine.safetensors      # a page on this machine: drop a photograph
# ```
#
# The page listens on 127.0.0.1, where nobody else reaches it, takes no file above 20 MB, keeps nothing,
# and loads nothing from elsewhere. Before you let others ask it, put something in front of it that knows
# who they are.

# %% [markdown]
# ## What changes, and what doesn't
#
# | | notebook | job |
# |---|---|---|
# | settings | cells | one file, checked at the start, saved with the result |
# | random numbers | a seed, then in order | from the seed and the step's number |
# | when it ends early | begin anew | go on, bit for bit |
# | batch | as it fits | that of all processes together, kept |
# | freezing | `freezing.freeze` | the same, before wrapping |
# | measuring | all pictures | each once, whoever measures it |
# | a result | a number on the screen | network, report, log, interval |
#
# The functions in the middle are those of the chapters before.

# %% [markdown]
# ## Pitfalls
#
# - **A resume that restarts the epoch**: some pictures come twice, others not, and the order differs.
# - **Saving in place**: killed while writing, you have neither the old checkpoint nor the new.
# - **Freezing after wrapping**, or unfreezing without wrapping again: an error, or worse, none.
# - **More GPUs, same batch on each**: another training. Keep the global batch, or tune the rate.
# - **Padded test sets**: some pictures count twice.
# - **Making the fast side faster**: measure first.
# - **Other preparation at the other end**: put it into the file.
# - **8 bits without a measurement**: the size is certain, the accuracy isn't.

# %% [markdown]
# ## Exercises
#
# Write your answer in place of the dots and run the cell. Each has hints, and a solution with reasons.

# %%
from course_lib.exercises.chapter_10 import (
    ex10_1,
    ex10_2,
    ex10_3,
    ex10_4,
    ex10_5,
    ex10_6,
    q10_1,
    q10_2,
    q10_3,
)

# %% [markdown]
# ### 10.1  Every picture once

# %%
ex10_1


# %% tags=["exercise"]
def own_share(n, rank, world):
    return ...


ex10_1.check(own_share)

# %% [markdown]
# ### 10.2  How often to save

# %%
ex10_2


# %% tags=["exercise"]
def interval(save_seconds, hours, devices):
    return ...


ex10_2.check(interval)

# %% [markdown]
# ### 10.3  Which side waits

# %%
ex10_3


# %% tags=["exercise"]
def pictures_per_second(prepare, workers, step, batch):
    return ...


ex10_3.check(pictures_per_second)

# %% [markdown]
# ### 10.4  A file that is whole

# %%
ex10_4


# %% tags=["exercise"]
def write_whole(path, parts):
    with path.open("wb") as file:
        for part in parts:
            file.write(part)


ex10_4.check(write_whole)

# %% [markdown]
# ### 10.5  What the exchange costs

# %%
ex10_5


# %% tags=["exercise"]
def exchange_seconds(params, devices, speed):
    return ...


ex10_5.check(exchange_seconds)

# %% [markdown]
# ### 10.6  The same batch on other machines

# %%
ex10_6


# %% tags=["exercise"]
def passes_of(batch, world, most):
    return ...


ex10_6.check(passes_of)

# %% [markdown]
# ### Questions

# %%
q10_1

# %% tags=["exercise"]
q10_1.answer(...)

# %%
q10_2

# %% tags=["exercise"]
q10_2.answer(...)

# %%
q10_3

# %% tags=["exercise"]
q10_3.answer(...)

# %% tags=["keep"]
# On Colab and Kaggle, this cell keeps what you did: in your Drive if it is mounted, or as a file.
from course_lib.setup import hosting

hosting.take_home()

# %% [markdown]
# ## Summary
#
# 1. One file says what is done; all of it is checked before anything starts.
# 2. What follows from the seed and the step's number needs no storing: kills change nothing.
# 3. The slower side decides. Freezing makes the step cheaper, not the decoding.
# 4. Freeze, then wrap; after every change, wrap again. Measure each picture once.
# 5. Export the preparation with the network, and compare on pictures before you trust it.

# %% [markdown]
# ## Sources
#
# - S. Li and others: *PyTorch Distributed: Experiences on Accelerating Data Parallel Training*, VLDB
#   2020, arXiv:2006.15704: DDP, buckets, and why the order of wrapping matters.
# - P. Patarasuk, X. Yuan: *Bandwidth Optimal All-reduce Algorithms for Clusters of Workstations*,
#   J. Parallel Distrib. Comput. 69, 2009: the ring.
# - J. W. Young: *A First Order Approximation to the Optimum Checkpoint Interval*, CACM 17, 1974.
# - P. Goyal and others: *Accurate, Large Minibatch SGD*, 2017, arXiv:1706.02677: batch and rate.
# - B. Jacob and others: *Quantization and Training of Neural Networks for Efficient
#   Integer-Arithmetic-Only Inference*, CVPR 2018, arXiv:1712.05877.
# - WebDataset, ONNX and onnxruntime: the documentation of these libraries.
