"""All recipes by name: the hot dog and the foods that are none."""

from __future__ import annotations

from course_lib.renderer.bakery import (
    bagel,
    burger,
    cake,
    croissant,
    eclair,
    empty_bun,
    pancakes,
    pretzel,
    sub,
)
from course_lib.renderer.garden import banana, carrots, corn, fruit, salad
from course_lib.renderer.hotdogs import hotdog
from course_lib.renderer.ingredients import Recipe
from course_lib.renderer.kitchen import eggs, fries, pizza, sausages, spaghetti, sushi, taco

HOTDOG = "hotdog"


NEGATIVES: dict[str, Recipe] = {
    "burger": burger,
    "pizza": pizza,
    "bagel": bagel,
    "sub": sub,
    "sausages": sausages,
    "empty_bun": empty_bun,
    "eclair": eclair,
    "banana": banana,
    "taco": taco,
    "fries": fries,
    "salad": salad,
    "eggs": eggs,
    "croissant": croissant,
    "pancakes": pancakes,
    "fruit": fruit,
    "cake": cake,
    "sushi": sushi,
    "pretzel": pretzel,
    "spaghetti": spaghetti,
    "corn": corn,
    "carrots": carrots,
}


TURNS = [*NEGATIVES, *list(NEGATIVES)[:7], "taco", "croissant"]


RECIPES: dict[str, Recipe] = {HOTDOG: hotdog, **NEGATIVES}
