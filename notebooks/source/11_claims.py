# %% [markdown]
# # The claims ledger: what is said, and what came out
#
# Texts about fine-tuning say many things. Eighteen of them, C1 to C18, come from the five texts
# that this course grew out of; the last lines of the table are the course's own. Each has an
# experiment, with its design written down before the result. Here are all verdicts on one page.
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
# An experiment compares arms: say, fine-tuned and from scratch. For each seed, all arms get the
# same data, and each arm gets the same budget. Where a rate or a stopping point is chosen, it is
# chosen on validation data; accuracies come from test data. So each seed gives one difference, and
# the table has their mean with a 95 % interval. Where an experiment makes several comparisons, its
# intervals are widened so that together they are right 19 times out of 20.
#
# - **held**: the whole interval lies where the claim puts it.
# - **did not hold**: the whole interval lies elsewhere.
# - **undecided**: it reaches over the border. The experiment was too small to tell, and says so.
# - **holds when ...**: several comparisons were made, and these are the ones that held.
#
# A claim of several parts of which none held, and at least one came out the other way, did not hold.
# The line of each part says what became of it.
#
# The interval covers what the seed changes: first weights, order, and which pictures were drawn. It
# says nothing about other data, so each verdict is about what its line names: handwritten digits of
# 8 by 8 pixels, the drawn food, or a few hundred photographs. A rule may hold on a million of them and
# not here.

# %% [markdown]
# **Predict.** Of the eighteen claims C1 to C18, how many held as they are said, without "when"?

# %%
from course_lib import evidence
from course_lib.display import plots
from course_lib.exercises import compare, predict

predict("claims that held", ...)

# %%
ledger = evidence.show()
said = [entry for entry in ledger.entries if entry.claim.id[1:].isdigit()]
counts = {"held": 0, "holds when": 0, "undecided": 0, "did not hold": 0}
for entry in said:
    kind = "holds when" if entry.verdict.startswith("holds when") else entry.verdict
    counts[kind] += 1
print(f"of {len(said)} claims:", ", ".join(f"{number} {kind}" for kind, number in counts.items()))
compare("claims that held", counts["held"], digits=0)

# %% [markdown]
# ## All of them
#
# "More" and "less" are in the units of what was measured: 0.10 in test accuracy is ten
# pictures in a hundred. A slash means a ratio: 1 is "no difference" there, as 0 is for a minus
# sign.

# %%
ledger

# %% [markdown]
# Two pairs of lines seem to contradict each other. C1 and C18 found no gain in accuracy from
# fine-tuning, and `hotdog_margin` found a large one. The first two are about digits, with a source
# network that saw about 900 digits of other classes. The last is about food, with a network that
# saw a million photographs. What you start from matters; that is why each line names its arms.
#
# ## The same as a picture
#
# The main comparison of each claim that is about test accuracy. An interval that doesn't touch the
# line at zero is a difference that another draw of seeds would rarely turn around.

# %%
rows = {}
for entry in ledger.entries:
    effect = entry.effects[0]
    if effect.contrast.measure == "test_accuracy" and not effect.contrast.ratio:
        found = effect.interval
        rows[f"{entry.claim.id} {effect.contrast.name}"] = found.value, found.low, found.high
plots.show(
    plots.intervals(rows, xlabel="difference in test accuracy"),
    alt="""Estimates with their intervals, one row for each claim whose main comparison is about
    test accuracy. The numbers stand in the table above.""",
)
above = [name.split()[0] for name, (_, low, _) in rows.items() if low > 0]
below = [name.split()[0] for name, (_, _, high) in rows.items() if high < 0]
print("interval above zero:", ", ".join(above) or "none")
print("interval below zero:", ", ".join(below) or "none")

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
# course evidence run --again      # all of them, an hour and a half on two cores
# course evidence run              # all that has no results yet: a stopped run goes on
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
# - **"Undecided" is not "false".** The interval contains zero and much else. With few seeds, a
#   difference of two pictures in a hundred is often not seen.
# - **One seed is an anecdote.** The same arms with another seed can come out the other way
#   round. That is why there are at least five, and why the table has intervals.
# - **Five seeds say nothing about your pictures.** They repeat the same small world. For your
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
# - All of it is about small pictures on a laptop, and can be rerun with one command.
#
# ## Sources
#
# The claims are from five texts: a forum article on when and how to fine-tune and how to freeze;
# the forum thread under the fine-tuning section of *Dive into Deep Learning* (A. Zhang et al.,
# d2l.ai); an introduction to transfer learning; a text on loading pretrained weights and
# freezing layers; and a text about pretraining and fine-tuning. The table names the text for
# each claim. On intervals for few seeds: X. Bouthillier et al., *Accounting for Variance in
# Machine Learning Benchmarks*, MLSys 2021.
