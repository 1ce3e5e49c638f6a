"""The recipe: from a folder of pictures to a trained network with an honest report.

>>> from course_lib import recipe
>>> run = recipe.fit("my_pictures", save_to="mine.safetensors")
>>> run.predict("photo.jpg")
>>> recipe.load("mine.safetensors").predict("photo.jpg")  # tomorrow

Read it in this order: ``pictures`` (what is learned from), ``heads`` and ``answers`` (linear heads,
and how they compare), ``sizes`` (what each size of the pictures costs and gives), ``facts`` (what
that says about the task), ``plan`` (what follows from it), ``stages`` (trials of training),
``following`` (the plan carried out), ``report`` (what came out), ``run`` (the whole of it); then
``calibration``, ``prediction`` and ``saved`` (asking the network), ``command`` (the same from the
command line).
"""

from course_lib.recipe.facts import Facts
from course_lib.recipe.plan import Plan, Stage
from course_lib.recipe.prediction import Prediction, Predictor
from course_lib.recipe.report import NotSavedError, RecipeRun
from course_lib.recipe.run import fit
from course_lib.recipe.saved import load

__all__ = [
    "Facts", "NotSavedError", "Plan", "Prediction", "Predictor", "RecipeRun", "Stage",
    "fit", "load",
]  # fmt: skip
