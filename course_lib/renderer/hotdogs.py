"""Hot dogs: a sausage in a long bun, with what people put on it."""

from __future__ import annotations

import math
from random import Random

from course_lib.renderer.ingredients import (
    SAUCES,
    Dish,
    any_sauce,
    crumbs,
    leaf,
    open_bun,
    sauce,
    sausage,
)
from course_lib.renderer.march import Solid, placed
from course_lib.renderer.sdf import zigzag

TOPPINGS = ["relish", "onion", "fried onion", "cheese", "chilli", "sauerkraut"]


def one_hotdog(rng: Random, style: list[str]) -> Dish:
    """One hot dog along x; `style` holds the sauces and toppings to put on it."""
    half = rng.uniform(0.85, 1.0)
    sausage_half = half * rng.uniform(0.97, 1.16)
    radius = rng.uniform(0.15, 0.18)
    height = 0.41
    rise = rng.uniform(0.0, 0.05)
    link = sausage(rng, sausage_half, radius)
    link = Solid(link.shape.bent(rng.uniform(-0.04, 0.04), rise), link.material).placed(z=height)
    solids = [open_bun(rng, half, rng.uniform(0.19, 0.23)), link]
    for name in style:
        if name in SAUCES:
            solids.append(stripe(rng, name, sausage_half - 0.12, radius, rise).placed(z=height))
        else:

            def spot() -> tuple[float, float, float]:
                x, y = rng.uniform(-0.9, 0.9) * half, rng.uniform(-0.16, 0.16)
                lift = math.sqrt(max(radius**2 - y**2, 0.0)) if abs(y) < radius else 0.0
                return x, y, height + rise * x * x + lift + 0.01

            solids += crumbs(rng, name, rng.randint(14, 30), spot)
    return Dish(solids, "")


def stripe(rng: Random, name: str, half: float, radius: float, rise: float) -> Solid:
    """Sauce on a sausage's back: a zigzag, a tight wave, or one line."""
    thick = rng.uniform(0.032, 0.048)
    kind = rng.choice(["zigzag", "zigzag", "tight", "line"])
    if kind == "line":
        line = zigzag(half, 0.02, 6, thick * 1.3)
    else:
        line = zigzag(half, radius * rng.uniform(0.5, 0.72), 9 if kind == "zigzag" else 17, thick)
    shape = line.draped(radius + 0.3 * thick).bent(0.0, rise)
    return Solid(shape, sauce(rng, name), shadow=False)


def hotdog(rng: Random) -> Dish:
    """One to three hot dogs with sauces and toppings."""
    count = rng.choices([1, 2, 3], [0.68, 0.24, 0.08])[0]
    style = [any_sauce(rng)] if rng.random() < 0.85 else []
    if style and rng.random() < 0.3:
        style.append("ketchup" if style[0] != "ketchup" else "mustard")
    if rng.random() < 0.35:
        style.append(rng.choice(TOPPINGS))
    solids: list[Solid] = []
    for number in range(count):
        lean = rng.gauss(0, 0.12)
        offset = (number - (count - 1) / 2) * rng.uniform(0.84, 0.95)
        piece = one_hotdog(rng, style).solids
        piece = placed(piece, roll=lean)
        solids += placed(piece, x=rng.gauss(0, 0.06), y=offset, yaw=rng.gauss(0, 0.07))
    if rng.random() < 0.15:
        under = [
            leaf(rng, 0.34).placed(x=x, y=rng.choice([-0.25, 0.25]), z=0.16, pitch=0.3)
            for x in (-0.5, 0.2, 0.6)
        ]
        solids += under
        style.append("lettuce")
    scale = {1: 1.0, 2: 0.9, 3: 0.78}[count]
    number_word = {1: "a hot dog", 2: "two hot dogs", 3: "three hot dogs"}[count]
    words = number_word + (" with " + " and ".join(style) if style else "")
    return Dish(placed(solids, scale=scale), words)
