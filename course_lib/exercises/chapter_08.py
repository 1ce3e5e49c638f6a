"""Exercises and questions of chapter 08: strategies of transfer."""

from typing import Any

import torch

from course_lib.exercises.core import Exercise, Wrong
from course_lib.exercises.quiz import Option, Question
from course_lib.exercises.verdicts import (
    Verdict,
    close,
    mistake,
    not_yet,
    numbers,
    passed,
)

# --- 8.1 ------------------------------------------------------------------------------------------

# >>> adversarial
# <<< adversarial

# --- 8.2 ------------------------------------------------------------------------------------------

# >>> distillation
# <<< distillation

# --- 8.3 ------------------------------------------------------------------------------------------

# >>> disentangling
# <<< disentangling

# --- 8.4 ------------------------------------------------------------------------------------------

# >>> crossmodal
# <<< crossmodal

# --- 8.5 ------------------------------------------------------------------------------------------

# >>> fewshot
# <<< fewshot

# --- 8.6 ------------------------------------------------------------------------------------------

# >>> unlabelled
# <<< unlabelled


# >>> question adversarial
# <<< question adversarial

# >>> question distillation
# <<< question distillation

# >>> question disentangling
# <<< question disentangling

# >>> question crossmodal
# <<< question crossmodal

# >>> question fewshot
# <<< question fewshot

# >>> question unlabelled
# <<< question unlabelled

EXERCISES = (ex8_1, ex8_2, ex8_3, ex8_4, ex8_5, ex8_6)
QUESTIONS = (q8_1, q8_2, q8_3, q8_4, q8_5, q8_6)
