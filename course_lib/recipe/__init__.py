"""The recipe: from a folder of pictures to a trained network with an honest report.

>>> from course_lib import recipe
>>> run = recipe.fit("my_pictures", save_to="mine.safetensors")

Read it in this order: ``facts`` (what is measured), ``plan`` (what follows from it), ``pictures``
and ``heads`` (what the stages work with), ``stages`` (trials that compete), ``following`` (the plan
carried out), ``report`` (what came out), ``run`` (the whole of it).
"""

from course_lib.recipe.facts import Facts
from course_lib.recipe.plan import Plan, Stage
from course_lib.recipe.prediction import Prediction, Predictor
from course_lib.recipe.report import RecipeRun
from course_lib.recipe.run import fit
from course_lib.recipe.saved import load

__all__ = ["Facts", "Plan", "Prediction", "Predictor", "RecipeRun", "Stage", "fit", "load"]
