# %% [markdown]
# # Strategies: what other courses only name
#
# Opening.

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
# TODO

# %%
import torch
from torch import nn
from torch.nn import functional as F

from course_lib import profile
from course_lib.exercises import compare, predict

p = profile.start()

# >>> adversarial
# <<< adversarial

# >>> distillation
# <<< distillation

# >>> disentangling
# <<< disentangling

# >>> crossmodal
# <<< crossmodal

# >>> fewshot
# <<< fewshot

# >>> unlabelled
# <<< unlabelled

# %% [markdown]
# ## Pitfalls
#
# TODO

# %% [markdown]
# ## Exercises
#
# Write your answer in place of the dots and run the cell. Each has hints, and a solution with reasons.

# %%
from course_lib.exercises.chapter_08 import ex8_1, ex8_2, ex8_3, ex8_4, ex8_5, ex8_6
from course_lib.exercises.chapter_08 import q8_1, q8_2, q8_3, q8_4, q8_5, q8_6

# >>> exercise adversarial
# <<< exercise adversarial

# >>> exercise distillation
# <<< exercise distillation

# >>> exercise disentangling
# <<< exercise disentangling

# >>> exercise crossmodal
# <<< exercise crossmodal

# >>> exercise fewshot
# <<< exercise fewshot

# >>> exercise unlabelled
# <<< exercise unlabelled

# %% [markdown]
# ### Questions
#
# Put the letter of your answer in place of the dots.

# %%
q8_1

# %% tags=["exercise"]
q8_1.answer(...)

# %%
q8_2

# %% tags=["exercise"]
q8_2.answer(...)

# %%
q8_3

# %% tags=["exercise"]
q8_3.answer(...)

# %%
q8_4

# %% tags=["exercise"]
q8_4.answer(...)

# %%
q8_5

# %% tags=["exercise"]
q8_5.answer(...)

# %%
q8_6

# %% tags=["exercise"]
q8_6.answer(...)

# %% tags=["keep"]
# On Colab and Kaggle, this cell keeps what you did: in your Drive if it is mounted, or as a file.
from course_lib.setup import hosting

hosting.take_home()

# %% [markdown]
# ## Summary
#
# TODO

# %% [markdown]
# ## Sources
#
# TODO
