# %% [markdown]
# # Start here
#
# This course teaches three things about neural networks in PyTorch: how to **start from weights
# that somebody else trained**, how to **fine-tune** them on your own pictures, and how to
# **freeze** the parts that should stay as they are.
#
# It takes 10 minutes to read this page. You need to know Python, and to have seen a training loop
# once. You don't need a GPU, and after the installation you don't need the Internet.

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
# ## What the course promises
#
# Everything on these pages was executed, and is executed again by the tests. If a page gives a
# result as a number, a cell or an experiment computed it, and a test compares the stored one with a
# fresh one. At most four cells a page print what may differ from machine to machine, such as
# timings; the cell after each checks what it was to show. When a result is disappointing, you will
# read that it is.

# %% [markdown]
# ## The way through
#
# Run this cell: click on it and press Shift and Enter together. (On Colab and Kaggle, run the one at
# the top first.)

# %%
from course_lib import profile
from course_lib.display import plots
from course_lib.chapters import CHAPTERS

active = profile.start()
plots.show(
    plots.course_map(CHAPTERS),
    alt="""Map of the course. Start here, chapter 00, leads to chapters 01 (pretrain, fine-tune)
    and 02 (hot dogs). 02 leads to 03 (loading weights), to 04 (freezing layers) and, with 01, to
    05 (features, classics). 04 and 05 lead to 06 (staged fine-tuning), and 06 to 07 (two hops)
    and 11, the claims ledger.""",
)
for chapter in CHAPTERS:
    state = f"{chapter.minutes} minutes" if chapter.written else "being written"
    print(f"{chapter.number}  {chapter.question}  ({state})")

# %% [markdown]
# The minutes are for reading and running; the exercises take about as long again. An arrow means
# "read this one first". If you have one evening, read
# [02, the hot dogs](02_hotdog.ipynb): it has the whole story once, from the pictures to a network
# that you can try on a picture of your own.
#
# And if you have only that evening and a folder of your own photographs, one folder inside it for
# each class, three lines will do. Chapter 02 shows them at work, 06 how they decide:
#
# ```python
# mine = recipe.fit("my_pictures", save_to="mine.safetensors")  # train
# print(mine.report())  # how good it is
# recipe.load("mine.safetensors").predict("photo.jpg")  # ask it, today or tomorrow
# ```

# %% [markdown]
# ## How a chapter works
#
# - It begins with **what you will be able to do**, and how long it takes.
# - Before an important cell stands **Predict**. Put your guess in place of the dots, or on paper.
#   A guess that turns out wrong is worth more than a page read quickly.
# - The result is folded away below **What happened**: click on the arrow beside it, or on "cells
#   hidden". Your guess is set beside it, and the text explains. Code that only draws is folded away,
#   too; three dots, or *Show code*, bring it. (VS Code folds nothing: guess before you scroll.)
# - **Pitfalls** lists what goes wrong in practice.
# - **Exercises** and questions are for you; a **summary** of five lines closes the chapter.
#
# Change whatever you like: a number in a cell, or all of a chapter's at once in its first lines, as in
# `profile.start(epochs=5, seed=1)`. The text stays about the printed run. *File → Revert Notebook to Checkpoint* brings a page back as you last
# saved it. What `course lab` opens is your own copy, `notebooks/my_course`: delete a page there, and
# the next start brings it as it came. What is new in the course never overwrites what you wrote.
#
# Here is an exercise to warm up. Run the first cell to see what is asked. Then put your answer in
# place of the dots in the second one. `ex0_1.hint()` helps, `ex0_1.solution()` shows the answer and
# why. Leaving an exercise alone is no error: *Run All* goes through.
# And if you clear all outputs, that first cell brings the text back.

# %%
from course_lib.exercises import progress
from course_lib.exercises.chapter_00 import ex0_1, q0_1

ex0_1

# %% tags=["exercise"]
tiny = profile.named("tiny")
pictures_shown = ...


ex0_1.check(pictures_shown)

# %% [markdown]
# A question has options. Answer it with a letter, such as `q0_1.answer("a")`: each option comes
# with an explanation, the wrong ones too.

# %%
q0_1

# %% tags=["exercise"]
q0_1.answer(...)

# %% [markdown]
# What you have solved is kept in a file on this machine and sent nowhere. `course progress` shows it
# in a terminal:

# %% tags=["nbval-ignore-output"]
solved = progress()
solved

# %%
assert all(len(row.passed) <= row.exercises for row in solved.rows)
print("exercises in the course:", sum(row.exercises for row in solved.rows))
print("questions:", sum(row.questions for row in solved.rows))

# %% [markdown]
# ## Is this machine ready?
#
# The next cell looks at what the chapters need. It changes nothing and downloads nothing. You get
# the same table in a terminal with `course doctor`.

# %% tags=["nbval-ignore-output"]
from course_lib.setup import doctor

report = doctor.examine()
report

# %%
assert report.ready, "Do what stands in the table under 'What to do', then run this page again."
print(report.verdict)

# %% [markdown]
# If it says that something is missing, the table tells you what to type. It may be that the notebook
# runs in another Python than the one you installed the course into. The kernel's name is at the
# top right; start JupyterLab with `make lab`, and they are the same.

# %% [markdown]
# ## Two sizes: tiny and full
#
# Each chapter runs in one of two **profiles**. They differ in settings, never in code.

# %%
tiny, full = profile.named("tiny"), profile.named("full")
print(f"{'':<12}{'tiny':<20}full")
for row in ("backbone", "data", "image_size", "batch_size", "epochs"):
    print(f"{row:<12}{getattr(tiny, row)!s:<20}{getattr(full, row)}")
print(f"\nThis notebook runs in the profile {active.name!r}.")

# %% [markdown]
# **tiny** is the default. It uses real ImageNet weights (41 MB) that were installed with the
# course, and pictures that come with it. A chapter runs in about a minute on a laptop.
#
# **full** uses the real hot-dog pictures and ResNet-18, which are downloaded once (about 300 MB),
# and a GPU if there is one. Take it on a workstation. On Colab and Kaggle, the first cell takes it by
# itself when there is a GPU and the downloads can be reached.
#
# To switch, make this the first cell of a chapter, then *Kernel → Restart Kernel and Run All
# Cells*:
#
# ```python
# %env COURSE_PROFILE=full
# ```
#
# With `full` your numbers differ from the stored ones: other data, another network. The text stays
# about the stored ones.

# %% [markdown]
# ## When a download fails
#
# `tiny` downloads nothing. In `full`, and where you name another network, pictures and weights come over
# https. The course gives a server 30 seconds to answer, tries three times, compares each file's hash, and
# throws away what is broken or half there. Then it says what you can do. Here is such a message: this cell
# asks for the pictures through a proxy that doesn't exist.

# %%
import os
import tempfile
from unittest import mock

from course_lib import data
from course_lib.errors import OfflineError

nowhere = dict.fromkeys(("HTTPS_PROXY", "https_proxy"), "http://127.0.0.1:9")
nowhere |= dict.fromkeys(("NO_PROXY", "no_proxy"), "")
with (
    tempfile.TemporaryDirectory() as empty,
    mock.patch.dict(os.environ, nowhere | {"COURSE_DATA": empty}),
):
    try:
        data.download_hotdog()
    except OfflineError as error:
        print(str(error).replace(empty, "data"))

# %% [markdown]
# | in the way | what helps; set variables before JupyterLab starts |
# |---|---|
# | a **proxy**, the only door to the Internet in many offices | `HTTPS_PROXY=http://PROXY:PORT`; if it wants a name, `http://NAME:PASSWORD@PROXY:PORT`. `NO_PROXY` lists the hosts that need none. |
# | a firewall with a **certificate** of its own | `REQUESTS_CA_BUNDLE=FILE`, the file that your network's people give you |
# | an index of packages that can't be reached | a **mirror**, a copy of it nearer to you: `pip config set global.index-url ADDRESS`. `make lab` and `make install` tell uv of it. |
# | no network on this machine | Fetch the file on another one and put it where the message says. Its hash is checked all the same. `COURSE_DATA` names another folder for pictures, `TORCH_HOME` one for weights. |
# | no network in the whole room | `course bundle OUT` packs all that is needed, on a machine that has one. |
#
# A download that broke off begins anew. Nothing switches the check of the hash off.

# %% [markdown]
# ## Why your numbers can differ in the last digits
#
# The same code with the same seed gives the same bits with the same versions of the libraries, on
# the same kind of processor, with the same number of threads. Elsewhere, sums may be added in
# another order, and rounding differs. After some training steps that can show. So the pages print
# what does not depend on it, and the profile fixes the number of threads.

# %%
import torch

numbers = torch.tensor([1e8, 1.0, -1e8])
print("in this order:    ", (numbers[0] + numbers[1] + numbers[2]).item())
print("in another order: ", (numbers[0] + numbers[2] + numbers[1]).item())

# %% [markdown]
# Both are the sum of the same three numbers. In 32 bits, 100,000,000 + 1 is 100,000,000: the one is
# lost when it is added first.

# %% tags=["keep"]
# On Colab and Kaggle, this cell keeps what you did: in your Drive if it is mounted, or as a file.
from course_lib.setup import hosting

hosting.take_home()

# %% [markdown]
# ## Go on
#
# Open [02_hotdog](02_hotdog.ipynb) and press *Run → Run All Cells*, or read and run cell by cell.
#
# *Code: Apache-2.0. Text and pictures: CC BY 4.0. The pretrained weights keep their own licences;
# `course_lib.backbones.card(name)` tells each.*
