"""The recipe: from a folder of pictures to a trained network with an honest report.

>>> from course_lib import recipe
>>> run = recipe.fit("my_pictures", save_to="mine.safetensors")

Read it in this order: ``plan`` (facts that are measured, and what follows from them), ``stages``
(heads, stages and averages that compete), ``report`` (what came out), ``run`` (the whole of it).
"""

from course_lib.recipe.plan import Facts, Plan, Stage
from course_lib.recipe.report import RecipeRun, wilson
from course_lib.recipe.run import fit

__all__ = [
    "Facts",
    "Plan",
    "RecipeRun",
    "Stage",
    "fit",
    "wilson",
]
