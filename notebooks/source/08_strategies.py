# %% [markdown]
# # Strategies: what other courses only name
#
# Texts on transfer learning end with a list: domain-adversarial training, teacher and student,
# content and style apart, pictures and sentences in one space, few-shot and zero-shot, learning
# without labels. Here each of them runs, in the smallest form that is still honest: built by hand,
# compared with the library, and set beside the plain way that it has to beat. Some win and some
# don't; the page says which, and on what.
#
# You need 60 minutes to read and run it, and about 45 more for the exercises. Each section stands by
# itself, so begin with the one that you came for. The numbers with intervals come from the course's
# claims ledger.

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
# - reverse a gradient so that two domains mix, and know when mixing does harm;
# - teach a small network by a large one's answers;
# - part content from style, and measure what leaks;
# - put pictures and sentences into one space, and find where the words end;
# - name classes from one, two, five or ten pictures, or from none;
# - pretrain without labels, and see what that is worth.

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
# - **A strategy without its baseline**: with as many steps and as much tuning, the plain way is often
#   level.
# - **A strength chosen by the target's labels**: then they weren't missing.
# - **Domains aligned whose classes are mixed otherwise**: the alignment pulls classes over each other.
# - **A temperature without its square**: the soft part fades, and nobody notices.
# - **"Disentangled" because the swaps look good**: ask a probe what is left in each code.
# - **Prompts, bars and penalties chosen on test pictures**, as for any other number.
# - **One episode**: with one picture a class, the draw decides.
# - **A question that the pictures can't answer**, or views that change what a class is.

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
# 1. A reversed gradient mixes two domains; it helps where only the look differs, and harms where the
#    classes' shares do.
# 2. A student learns more from soft answers than from labels, most where it gets them for pictures
#    that have no labels.
# 3. Content and style part as far as a probe can tell, and the probe decides, not the eye.
# 4. Words can stand in for labels: those words, and pictures like those, that were learned together.
# 5. With few labels, take prototypes or a linear head on good features; without any, pretraining on
#    the task's own pictures is the start that was shown to help.

# %% [markdown]
# ## Sources
#
# - Y. Ganin and others: *Domain-Adversarial Training of Neural Networks*, JMLR 2016,
#   arXiv:1505.07818; Y. Li and others: *Revisiting Batch Normalization for Practical Domain
#   Adaptation*, 2016, arXiv:1603.04779.
# - G. Hinton, O. Vinyals, J. Dean: *Distilling the Knowledge in a Neural Network*, 2015,
#   arXiv:1503.02531; T. Furlanello and others: *Born-Again Neural Networks*, ICML 2018,
#   arXiv:1805.04770; L. Beyer and others: *Knowledge distillation: A good teacher is patient and
#   consistent*, CVPR 2022, arXiv:2106.05237.
# - A. Radford and others: *Learning Transferable Visual Models From Natural Language Supervision*,
#   ICML 2021, arXiv:2103.00020: CLIP; J. Yang and others: *Unified Contrastive Learning in
#   Image-Text-Label Space*, CVPR 2022, arXiv:2204.03610.
# - J. Snell, K. Swersky, R. Zemel: *Prototypical Networks for Few-shot Learning*, NeurIPS 2017,
#   arXiv:1703.05175; O. Vinyals and others: *Matching Networks for One Shot Learning*, NeurIPS 2016,
#   arXiv:1606.04080.
# - S. Gidaris, P. Singh, N. Komodakis: *Unsupervised Representation Learning by Predicting Image
#   Rotations*, ICLR 2018, arXiv:1803.07728; T. Chen and others: *A Simple Framework for Contrastive
#   Learning of Visual Representations*, ICML 2020, arXiv:2002.05709.
# - The list of strategies: an introduction to transfer learning, its principle and an example.
