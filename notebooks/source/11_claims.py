# %% [markdown]
# # The claims ledger: what is said, and what came out
#
# Texts about fine-tuning say many things. C1 to C18 come from the five texts that this course grew out
# of; the other lines are the course's own. Each has an experiment, with its design written down before
# the result, in a **laboratory** that anybody can run again from the checkout, and where we could also
# on **photographs**. Here are all verdicts on one page.
#
# You need 20 minutes to read it, and it is the page to come back to.

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
# - read an effect with its interval, and say what it does and doesn't tell;
# - look up what came out for each claim, and in which chapter it is explained;
# - run an experiment again, or with other seeds.
#
# ## How a verdict is reached
#
# An experiment compares arms: say, fine-tuned and from scratch. For each seed, all arms get the same
# data, and each arm gets the same budget. Where a rate or a stopping point is chosen, it is chosen on
# validation data and recorded; accuracies come from test data. So each seed gives one difference, and
# the table has their mean with a 95 % interval. Where a claim has several comparisons, its intervals are
# widened so that together they are right 19 times out of 20.
#
# Each comparison states the smallest effect that matters, in accuracy: 0.02 on digits, two in a hundred;
# 0.03 on pictures, of which there are fewer to test on; another where there is a reason for it.
#
# - **held**: the whole interval lies where the claim puts it.
# - **did not hold**: a gain that would matter lies outside of the interval.
# - **no difference that matters**: the whole interval lies closer to none than that.
# - **undecided**: it reaches over the border. The table says how much more would decide it.
# - **holds when ...**: several comparisons were made, and these are the ones that held.
#
# Where "almost as good" is claimed, the question is whether the loss is at most so much, and being
# better counts as well.
#
# The draws of two seeds overlap: there are only so many pictures. So where a network's answers are kept
# picture by picture, the interval resamples seeds *and* test pictures. Files of weights are read or not
# read, whatever the seed: C7, C14 and C15 are exact and have no interval.

# %% [markdown]
# **Predict.** Of the claims C1 to C18, how many held in the laboratory as they are said, without
# "when"?

# %%
from IPython.display import Markdown

from course_lib import evidence
from course_lib.display import plots
from course_lib.evidence import situations, statistics
from course_lib.exercises import compare, predict

predict("claims that held", ...)

# %%
ledger = evidence.show()
said = [entry for entry in ledger.entries if entry.claim.id in [f"C{i}" for i in range(1, 19)]]
counts = dict.fromkeys(
    (
        "held",
        "holds when",
        "no difference that matters",
        "undecided",
        "did not hold",
        "not run yet",
    ),
    0,
)
for entry in said:
    kind = "holds when" if entry.verdict.startswith("holds when") else entry.verdict
    counts[kind] += 1
print(f"of {len(said)} claims:", ", ".join(f"{number} {kind}" for kind, number in counts.items()))
compare("claims that held", counts["held"], digits=0)

# %% [markdown]
# ## What to do, by what you have
#
# Differences are in test accuracy, with a linear head or a trained network on ImageNet's weights. Read
# the last column before you act: what it was measured on is what it is about.

# %%
Markdown(situations.by_situation())

# %% [markdown]
# ## All of them
#
# "More" and "less" are in the units of what was measured: 0.10 in test accuracy is ten pictures in a
# hundred. A slash means a ratio: 1 is "no difference" there, as 0 is for a minus sign.

# %%
ledger

# %% [markdown]
# Some lines seem to contradict each other. On digits, fine-tuning gains nothing in accuracy; on
# photographs it gains much. The source of the digits is a network that saw about 900 digits of other
# classes, and that of the photographs one that saw a million pictures. What you start from matters;
# that is why each cell says what it was measured on.
#
# ## The same as a picture
#
# The main comparison of each claim that was decided by test accuracy on photographs.

# %%
rows = {}
for entry in ledger.entries:
    for effect in entry.effects[:1]:
        if entry.on_photographs and not effect.contrast.ratio:
            found = effect.interval
            name = entry.claim.id.removesuffix("_photographs")
            rows[f"{name} {effect.contrast.name}"] = found.value, found.low, found.high
plots.show(
    plots.intervals(rows, xlabel="difference in the measure"),
    alt="""Estimates with their intervals, one row for each claim that was decided on photographs. The
    numbers stand in the table above.""",
)
above = [name.split()[0] for name, (_, low, _) in rows.items() if low > 0]
below = [name.split()[0] for name, (_, _, high) in rows.items() if high < 0]
print("interval above zero:", ", ".join(above) or "none")
print("interval below zero:", ", ".join(below) or "none")

# %% [markdown]
# ## How often we looked
#
# Each claim's intervals are right together 19 times out of 20. There are many claims, so one verdict in
# twenty or so may be chance. How many of those that held would hold if every interval were widened for
# all comparisons of the ledger at once?

# %%
effects = [effect for entry in ledger.entries for effect in entry.effects]
held = [e for e in effects if e.verdict == "held" and e.interval.seeds > 1]
print(f"{len(effects)} comparisons; {len(held)} of those with an interval held")
print(f"{sum(statistics.survives(e.contrast, e.interval, len(effects)) for e in held)} of them "
      "would with intervals widened for all")  # fmt: skip
open_ones = [e for e in effects if e.verdict == "undecided"]
print(f"{len(open_ones)} are undecided")

# %% [markdown]
# ## Which photographs, and which not
#
# Two sets are behind the column "on photographs": 992 of Food-101 (hot dogs and other food), and
# CIFAR-10 in a public copy as JPEG, whose pixels differ a little from the original's. Their pictures
# are no part of the course. With a network, `course evidence photographs` makes such sets by
# torchvision's downloads; the results carry the hash of what was used.
#
# The popular hot-dog collections were examined and refused, for reasons worth knowing before you choose
# your own test pictures:
#
# - **Seen in pretraining.** In one, 138 of the 200 test hot dogs are ImageNet's own: the network had
#   very likely trained on them, and its scores would measure memory.
# - **The format gives the class away.** 149 of those 200 are squares of 299 pixels, and none of the
#   others is: "square means hot dog" is right on 87 in a hundred without looking.
# - **The same picture on both sides**, to learn from and to be tested on: 9 pairs in one collection,
#   nearly all test hot dogs in the other.
#
# ## What else to know
#
# - The bundled drawn pictures were drawn again, better, after the first results; all stored results are
#   of the present ones.
# - For the experiments of chapters 07 to 09, the recipe's, and those on unequal classes, sizes and
#   scaling, the smallest effect that matters was stated after their results, the same for all.
# - On pictures it was 0.02 at first, and became 0.03 when results were known. That turned about a dozen
#   "undecided" into "no difference that matters" or "did not hold", and none into "held".
# - Some experiments got more seeds after a first look, so that they are decided (those of chapters 07 to
#   09 as many as their first intervals asked for, and a half more); C9, C11, C12 and C17 got
#   three times as many drawn pictures.
# - C18 on digits had trainings of its own at first; now C21's decide it, which are the same, in more seeds.
# - Results carry the processor that they were made on. On another, last digits differ, and trained
#   networks differ by more; `course evidence check --recompute` then compares verdicts and intervals,
#   and says so.
#
# **What wasn't tested**: ImageNet's weights with more than a few hundred photographs to learn from, other
# backbones than EfficientNet-Lite0, medical or aerial pictures, text, sound, detectors. C2, C4, C13 and
# C19 need a network from scratch that learns, and enough photographs: they were measured on CIFAR-10's
# two halves with a small network. The dissimilar cases of C3 were not measured on photographs. C7, C14
# and C15 are about files.

# %% [markdown]
# ## Look into one
#
# The design of an experiment is its docstring: data, arms, budget, how choices are made, and
# what the claim predicts. Read it before you believe the verdict.

# %%
print(evidence.get("C9").design)

# %% [markdown]
# ## Run it yourself
#
# ```sh
# course evidence show C9          # what the files say
# course evidence check            # whether results and experiments belong together
# course evidence run C9 --again   # one experiment anew
# course evidence run --again      # C1 to C21 in the laboratory: under half an hour on two cores
# course evidence run --again --own   # with the chapters' own measurements: 80 minutes
# course evidence run --photographs --data FOLDER   # those on photographs, too; a stopped run goes on
# ```
#
# In Python, `evidence.run(["C9"], seeds=10, report=print)` runs more of it than was announced. All
# of these write into `data/evidence`; `git checkout data/evidence` brings the course's own results
# back.
#
# The results are tables in `data/evidence`. Each carries a fingerprint of its design: change the
# experiment, and the tests ask for new results. Numbers in the chapters are compared with these
# files by a test, to the last digit.

# %% [markdown]
# ## Pitfalls
#
# - **"Undecided" is not "false".** The interval contains both: nothing, and something that matters. "No
#   difference that matters" is another verdict, and needs a narrow interval.
# - **One seed is an anecdote.** The same arms with another seed can come out the other way
#   round. That is why there are at least five, and why the table has intervals.
# - **Twenty seeds say nothing about your pictures.** They repeat the same small world. For your
#   data, run your own comparison: the same code, your folder.
#
# ## Exercises
#
# Each claim's exercises are in its chapter. Here is one for paper: choose a claim that came out
# undecided, read its design, and write down which single change would decide it: more seeds, more
# test pictures, or a larger difference between the arms. Then run it with that change.
#
# ## Summary
#
# - Each claim has an experiment whose design was written before the result.
# - Arms of a seed share data and budget; choices are made on validation data, numbers come from
#   test data.
# - A verdict rests on an interval, never on a single run.
# - Undecided is a result, and is printed like the others.
# - The laboratory can be rerun with one command; photographs come first where both were measured.
#
# ## Sources
#
# The claims are from five texts: a forum article on when and how to fine-tune and how to freeze;
# the forum thread under the fine-tuning section of *Dive into Deep Learning* (A. Zhang et al.,
# d2l.ai); an introduction to transfer learning; a text on loading pretrained weights and
# freezing layers; and a text about pretraining and fine-tuning. The table names the text for
# each claim. On intervals for few seeds: X. Bouthillier et al., *Accounting for Variance in
# Machine Learning Benchmarks*, MLSys 2021.
