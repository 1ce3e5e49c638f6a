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
import copy

import torch
from torch import nn
from torch.nn import functional as F

from course_lib import profile
from course_lib.display import plots
from course_lib.evidence import digits
from course_lib.evidence.studies import distillation as school
from course_lib.evidence.studies import shift
from course_lib.evidence.studies import unlabelled as free
from course_lib.exercises import compare, predict
from course_lib.strategies import distillation, unlabelled

p = profile.start()

# >>> adversarial
# <<< adversarial

# >>> distillation

# %% [markdown]
# ## Distillation: learn from answers
#
# A label says "8" and nothing else. A trained network says "8, perhaps 3, certainly no 4". A small
# network, the student, can learn these answers from a large one, the teacher. A temperature $T$
# divides all scores and makes the answers softer, so that the small numbers are seen:
#
# $$\lambda\,\mathrm{CE}(s, y) + (1 - \lambda)\,T^2\,\mathrm{KL}\big(\sigma(t/T)\,\|\,\sigma(s/T)\big)$$
#
# with the scores $s$ of the student and $t$ of the teacher, and the softmax $\sigma$. The gradients
# of the second part shrink with $T^2$; the factor makes up for it, so that the share $\lambda$ means
# the same at every temperature.


# %%
def soft_and_hard(student, teacher, targets, temperature, share):
    """The loss above, written out."""
    mine, theirs = ((each / temperature).softmax(dim=1) for each in (student, teacher))
    soft = (theirs * (theirs.log() - mine.log())).sum(dim=1).mean()
    hard = F.cross_entropy(student, targets)
    return share * hard + (1 - share) * temperature**2 * soft


torch.manual_seed(0)
scores = torch.randn(8, 10), 3 * torch.randn(8, 10), torch.arange(8)
pairs = [(soft_and_hard(*scores, T, 0.3), distillation.distillation_loss(*scores, T, 0.3))
         for T in (1, 2, 5)]  # fmt: skip
print("by hand and from the library, the same:", all(torch.allclose(*pair) for pair in pairs))

# %% [markdown]
# The laboratory: ten digits. The teacher learns from 400 labelled pictures; the student, with an
# eighth of its channels, has 100 others. Here is what the teacher says to two of the student's.

# %%
images, labels, (source, mine, choose, test) = shift.ten_digits(0, per_class=10)
few, val, exam = (digits.Part(images[rows], labels[rows]) for rows in (mine, choose, test))
lesson = digits.Part(images[source[:400]], labels[source[:400]])
teacher = digits.fit(school.plain_network(32, seed=0), lesson, 0.03, 400, seed=0)
answers = distillation.answers(teacher, few.images)
small = school.plain_network(4, seed=0)
sizes = [sum(each.numel() for each in model.parameters()) for model in (teacher, small)]
print(f"numbers: {sizes[0]:,} and {sizes[1]:,}")

# %%
unsure = answers.softmax(dim=1).amax(dim=1).argsort()[:2].tolist()
figure, axes = plots.new_axes(8.5, 2.6, columns=4)
for place, row in enumerate(unsure):
    axes[0, 2 * place].imshow(few.images[row, 0], cmap="gray_r")
    axes[0, 2 * place].set_title(f"label: {few.targets[row]}")
    axes[0, 2 * place].axis("off")
    soft = {f"T = {T}": (range(10), (answers[row] / T).softmax(dim=0)) for T in (1, 2, 5)}
    plots.lines(soft, "digit", "the teacher's answer", axis=axes[0, 2 * place + 1])
plots.show(figure, alt="""Two digits of which the teacher is unsure, each beside its answers for the
    ten digits at temperatures 1, 2 and 5. At 1 most of it lies on two digits; at 5 more digits
    have a share that can be seen, and their order is the same.""")  # fmt: skip
softest = [float((answers / T).softmax(dim=1).amax(dim=1).mean()) for T in (1, 2, 5)]
print("the higher T, the smaller the first answer:", softest == sorted(softest, reverse=True))

# %% [markdown]
# **Predict.** The student learns its 100 pictures, once with their `"labels"`, once with the
# teacher's `"answers"` alone, the labels unused. Equal steps, three learning rates each. Which is
# better in the test?

# %%
predict("the better lesson", ...)

# %%
lessons = {"labels": (answers, 1.0), "answers": (answers, 0.0)}
tested = {}
for name, (said, share) in lessons.items():
    students = [
        distillation.distil(copy.deepcopy(small), said, few.images, few.targets,
                            hard_share=share, rate=rate, steps=400)
        for rate in (0.003, 0.01, 0.03)
    ]  # fmt: skip
    best = max(students, key=lambda student: digits.look(student, val))
    tested[name] = digits.look(best, exam)[0]
compare("the better lesson", max(tested, key=tested.get))

# %% [markdown]
# In the ledger, over eight draws, the answers were ahead
# by <!-- evidence: distillation.better -->0.055 [0.035, 0.075]<!-- end -->; 400 unlabelled pictures, for which only the
# teacher had an answer, added <!-- evidence: distillation.extra -->0.030 [0.017, 0.044]<!-- end -->; and soft answers
# were ahead of the teacher's first choices, taken as labels,
# by <!-- evidence: distillation.soft -->0.022 [0.001, 0.044]<!-- end -->.
#
# How much of it was the teacher's schooling, 400 labels of its own? From a teacher that was only
# wider, and had the student's 100 labels, the gain was <!-- evidence: distillation.equal -->0.018 [0.000, 0.036]<!-- end -->; from the
# student itself, trained alone (born again), <!-- evidence: distillation.again -->-0.001 [-0.021, 0.018]<!-- end -->:
# both undecided.
#
# **Its limit**: with the unlabelled pictures the student reached <!-- evidence: distillation.extra.test_accuracy -->0.937<!-- end -->,
# the teacher <!-- evidence: distillation.teacher.test_accuracy -->0.951<!-- end -->, and what the teacher
# gets wrong is taught as well. Have a good teacher and many pictures, labelled or not. Read on in
# Hinton and others, and in Beyer and others, *A good teacher is patient and consistent*.

# <<< distillation

# >>> disentangling
# <<< disentangling

# >>> crossmodal
# <<< crossmodal

# >>> fewshot
# <<< fewshot

# >>> unlabelled

# %% [markdown]
# ## No labels: let the picture ask
#
# Pictures are many, labels few. So pose a question that the pictures answer themselves, train on
# that, and keep the body. **Rotation**: by how many quarter turns was it turned? **Contrast**
# (SimCLR): two changed views of a picture go through the body and a small projection; of all other
# views in the batch, which one shows the same picture?

# %%
six, five = images[labels == 6][0], images[labels == 5][0]
turned = torch.cat([unlabelled.rotated(each[None])[0] for each in (six, five)])
stream = torch.Generator().manual_seed(0)
views = [unlabelled.digit_view(each.expand(4, 1, 8, 8), stream) for each in (six, five)]
shown = (1 - torch.cat([turned, *views]).clamp(0, 1)).permute(0, 2, 3, 1).expand(-1, -1, -1, 3)
plots.show(plots.gallery(list(shown), columns=8), alt="""A six and a five. Above, each in its four
    quarter turns; the six on its head is a nine. Below, four views of each: shifted, scaled, turned
    a little, noisy, and never mirrored.""")  # fmt: skip
print("pictures:", len(shown), "of them turns:", len(turned))

# %% [markdown]
# Look at the six on its head: for digits, the turn can't always be told. And see what the views leave
# alone. Nothing is mirrored, nothing turned far, since a mirrored 2 is no 2: what the views change,
# the features learn to overlook.


# %%
def who_is_my_partner(first, second, temperature):
    """SimCLR's loss, view by view."""
    views = F.normalize(torch.cat([first, second]), dim=1)
    count, losses = len(first), []
    for i, view in enumerate(views):
        others = [j for j in range(2 * count) if j != i]
        likeness = views[others] @ view / temperature
        partner = others.index((i + count) % (2 * count))
        losses.append(F.cross_entropy(likeness, torch.tensor(partner)))
    return torch.stack(losses).mean()


one, two = torch.randn(6, 32), torch.randn(6, 32)
by_hand, ours = who_is_my_partner(one, two, 0.5), unlabelled.nt_xent(one, two, 0.5)
print("by hand and from the library, the same:", torch.allclose(by_hand, ours))

# %% [markdown]
# The task: 5 to 9, from *ten* labelled pictures. About 300 more lie there without labels.
#
# **Predict.** Which start is best after fine-tuning: `"scratch"`, `"rotation"` or `"contrast"`?

# %%
predict("the best start", ...)

# %%
task, own = digits.target_task(seed=0, n=10), free.own_pictures(0)
starts = {"scratch": digits.new_network(0)}
starts["rotation"] = free.rotation(digits.new_network(0), own, seed=0)
starts["contrast"] = free.contrast(digits.new_network(0), own, seed=0)
found = {}
for name, start in starts.items():
    start.fc = digits.new_network(1).fc
    found[name] = digits.tuned(lambda: copy.deepcopy(start), task, 0, (0.01, 0.03)).test
compare("the best start", max(found, key=found.get))
print("ahead of scratch by more than 0.03:", found["contrast"] - found["scratch"] > 0.03)

# %% [markdown]
# In the ledger, over eight draws and with ten labels, contrast was ahead of scratch
# by <!-- evidence: unlabelled.contrast_few -->0.091 [0.024, 0.157]<!-- end -->, with fifty
# by <!-- evidence: unlabelled.contrast_more -->0.044 [-0.010, 0.098]<!-- end -->, undecided. Rotation differed
# by <!-- evidence: unlabelled.rotation_few -->0.011 [-0.061, 0.082]<!-- end -->
# and <!-- evidence: unlabelled.rotation_more -->0.021 [-0.024, 0.066]<!-- end -->, both undecided; the six on its head may be
# a reason.
#
# What would labels have given? Contrast on the task's own 300 pictures, against pretraining on 900
# digits 0 to 4 *with* labels, made a difference
# of <!-- evidence: unlabelled.labels -->0.082 [-0.006, 0.170]<!-- end -->; contrast on these 900 without labels, against
# scratch, one of <!-- evidence: unlabelled.others -->-0.040 [-0.134, 0.055]<!-- end -->: undecided, too. The one gain that
# was shown came from pictures of the task itself.
#
# **Its limit**: the body is a start, not an answer. A linear probe on it, with ten labels, came
# to <!-- evidence: unlabelled.contrast 10: probe.test_accuracy -->0.768<!-- end -->, fine-tuning
# to <!-- evidence: unlabelled.contrast 10: tuned.test_accuracy -->0.873<!-- end -->. And the views are
# knowledge that you bring: wrong ones teach the wrong thing (question 8.6). Read on in Gidaris and
# others and in Chen and others.

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

# %% [markdown]
# ### 8.2  The soft half of the loss

# %%
ex8_2


# %% tags=["exercise"]
def soft_part(student, teacher, temperature):
    mine = F.log_softmax(student / temperature, dim=1)
    theirs = F.log_softmax(teacher / temperature, dim=1)
    gap = theirs.exp() * (theirs - mine)
    return gap.mean()


ex8_2.check(soft_part)

# <<< exercise distillation

# >>> exercise disentangling
# <<< exercise disentangling

# >>> exercise crossmodal
# <<< exercise crossmodal

# >>> exercise fewshot
# <<< exercise fewshot

# >>> exercise unlabelled

# %% [markdown]
# ### 8.6  The contrast as one cross-entropy

# %%
ex8_6


# %% tags=["exercise"]
def contrast_loss(first, second, temperature):
    rows = torch.cat([first, second])
    likeness = rows @ rows.T / temperature
    partner = ...
    return F.cross_entropy(likeness, partner)


ex8_6.check(contrast_loss)

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
