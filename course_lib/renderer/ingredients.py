"""What dishes are made of: bread, sausage, sauces, leaves, slices and small bits.

A recipe takes a random generator and returns a `Dish`: solids standing on z = 0, within about
1.2 of the origin, and the words for what was made. The world's unit is about eight centimetres.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

import torch
from torch import Tensor

from course_lib.renderer.march import Solid
from course_lib.renderer.materials import (
    Material,
    bread,
    bumps,
    mix,
    noise,
    plain,
    ramp,
    rgb,
    sausage_skin,
    two_tone,
)
from course_lib.renderer.sdf import (
    Shape,
    box,
    capsule,
    disc,
    ellipsoid,
    length,
    sheet,
    smooth_cut,
    smooth_union,
    sphere,
    torus,
    zigzag,
)


@dataclass(frozen=True)
class Dish:
    """What a recipe made: its solids and the words for it."""

    solids: list[Solid]
    words: str


Recipe = Callable[[Random], Dish]


Spot = Callable[[], tuple[float, float, float]]
"""Gives a random place each time it is called."""


TURN = 2.0 * math.pi


def new_seed(rng: Random) -> int:
    """A seed for noise."""
    return rng.randrange(1_000_000)


SAUCES = {
    "mustard": ("#e0a90c", "#f0c419"),
    "ketchup": ("#a3100a", "#bd1a10"),
    "mayonnaise": ("#efe6c8", "#f6efd8"),
    "barbecue sauce": ("#4a1409", "#5c1c0e"),
}


def sauce(rng: Random, name: str) -> Material:
    """A glossy sauce by name."""
    a, b = SAUCES[name]
    return Material(two_tone(rgb(a), rgb(b), 6.0, 0.4, new_seed(rng)), 1.0, 90.0, 0.35)


def any_sauce(rng: Random) -> str:
    """The name of a sauce; mustard and ketchup are the most common."""
    return rng.choice(["mustard", "mustard", "ketchup", "ketchup", "mayonnaise", "barbecue sauce"])


def crust(rng: Random, top: float, inside: Callable[[Tensor], Tensor] | None = None) -> Material:
    """Baked bread, from pale to well browned; crumb where `inside` is negative."""
    dark = rgb(rng.choice(["#b5702c", "#c17f36", "#a3602a", "#ca8d45", "#8a4a1c", "#d9b070"]))
    pale = rgb(rng.choice(["#e2b878", "#ecd2a4", "#d9ab66", "#c08a4c"]))
    paint = bread(dark, pale, rgb("#f0e0bd"), top, inside, new_seed(rng))
    gloss = rng.uniform(0.25, 0.8)
    return Material(paint, gloss, rng.uniform(14, 40), 0.3, bump=bumps(24.0, 0.003, new_seed(rng)))


def meat(rng: Random) -> Material:
    """Sausage skin: boiled and red, roasted and brown, or grilled with stripes."""
    base, dark = rng.choice(
        [
            ("#a8452a", "#8d3018"),
            ("#b5512f", "#94381c"),
            ("#8e3a20", "#6b2512"),
            ("#9c4f2a", "#74341a"),
            ("#c06a45", "#a24a2a"),
            ("#cf9070", "#b4714e"),
            ("#5e2a16", "#43190c"),
        ]
    )
    grill = rng.choice([0.0, 0.0, rng.uniform(0.4, 0.9)])
    skin = sausage_skin(rgb(base), rgb(dark), grill, rng.uniform(-0.6, 0.6), new_seed(rng))
    return Material(skin, 1.0, rng.uniform(50, 110), 0.25, bump=bumps(9.0, 0.006, new_seed(rng)))


def green(rng: Random) -> Material:
    """Lettuce, pale towards the rib."""
    a = rgb(rng.choice(["#4f7d1f", "#6b9a2d", "#3f6a1c"]))
    return Material(two_tone(a, rgb("#a9c558"), 3.5, 0.35, new_seed(rng)), 0.5, 35.0, 0.5)


def leaf(rng: Random, radius: float) -> Solid:
    """One ruffled leaf lying on its back."""
    ruffle = radius * rng.uniform(0.12, 0.22)
    shape = sheet(radius, 0.018, ruffle, rng.choice([5, 6, 7, 8]), rng.uniform(0, TURN))
    return Solid(shape, green(rng)).placed(yaw=rng.uniform(0, TURN))


def tomato_slice(rng: Random, radius: float) -> Solid:
    """A slice of tomato with seed chambers."""
    flesh, skin, seeds = rgb("#c8321c"), rgb("#a81c10"), rgb("#d9823c")

    def paint(p: Tensor) -> Tensor:
        rho, angle = length(p[:2]) / radius, torch.atan2(p[1], p[0])
        chamber = ramp((rho - 0.6).abs(), 0.24, 0.14) * ramp(torch.cos(angle * 5.0), -0.1, 0.4)
        return mix(mix(flesh, seeds, 0.7 * chamber), skin, ramp(rho, 0.86, 0.95))

    return Solid(disc(radius, 0.035, 0.02), Material(paint, 0.9, 60.0, 0.3))


def pickle_slice(rng: Random, radius: float) -> Solid:
    """A slice of cucumber or gherkin."""
    flesh, rim = rgb(rng.choice(["#a9b35a", "#c2cc86"])), rgb("#3f5a1c")

    def paint(p: Tensor) -> Tensor:
        rho = length(p[:2]) / radius
        seeds = ramp((rho - 0.45).abs(), 0.2, 0.1) * ramp(noise(p * 16.0, 3), 0.5, 0.6)
        return mix(mix(flesh, rgb("#dfe0a8"), seeds), rim, ramp(rho, 0.84, 0.93))

    return Solid(disc(radius, 0.03, 0.015), Material(paint, 0.8, 60.0, 0.3))


def cheese_slice(rng: Random, half: float, drop: float = 0.16) -> Solid:
    """A square slice of cheese whose corners hang down."""
    flat = box(half, half, 0.022, 0.02)

    def distance(p: Tensor) -> Tensor:
        fall = drop * ramp(length(p[:2]), 0.8 * half, 1.45 * half)
        return flat.distance(torch.stack([p[0], p[1], p[2] + fall])) * 0.75

    shape = Shape(distance, (-half, -half, -drop - 0.03), (half, half, 0.03))
    colour = rgb(rng.choice(["#e8a020", "#eeb035", "#f0c860"]))
    return Solid(shape, Material(plain(colour, 0.05), 0.5, 40.0, 0.5))


def crumbs(rng: Random, name: str, count: int, spot: Spot) -> list[Solid]:
    """Small bits scattered over spots: 'relish', 'onion', 'cheese', 'chilli', 'herbs'..."""
    colours = {
        "relish": ["#6d8a1f", "#83992c", "#55701a"],
        "onion": ["#efe6d6", "#e9dcc4", "#f3eee2"],
        "fried onion": ["#b8782e", "#a4641f", "#c48a3c"],
        "cheese": ["#eda62a", "#f2b84a", "#e89a1c"],
        "chilli": ["#5e2412", "#74301a", "#4a1a0c", "#8a2a14"],
        "herbs": ["#3f6a1c", "#55801f"],
        "sauerkraut": ["#dcc98a", "#e6d7a2", "#d2bd78"],
        "sprinkles": ["#d92f6a", "#2f8ad9", "#f2c230", "#f4f0ea", "#58b847"],
        "sesame": ["#eeddb2", "#e6d09c"],
        "olives": ["#22201c", "#2e2a22"],
        "peas": ["#6f9a2a", "#82ad38"],
    }[name]
    solids = []
    for _ in range(count):
        x, y, z = spot()
        size = rng.uniform(0.8, 1.25)
        if name in ("cheese", "sauerkraut", "fried onion", "sprinkles"):
            long, thick = (0.05, 0.018) if name == "sprinkles" else (0.13, 0.017)
            shape = capsule((-long * size, 0, 0), (long * size, 0, 0), thick)
            shape = shape if name == "sprinkles" else shape.bent(rng.uniform(-2, 2), 0)
        elif name == "sesame":
            shape = ellipsoid(0.045, 0.028, 0.016)
        elif name == "olives":
            shape = torus(0.07, 0.03)
        elif name == "peas":
            shape = sphere(0.065 * size)
        elif name == "chilli":
            shape = ellipsoid(0.075 * size, 0.06 * size, 0.055).displaced(
                lambda p: 0.015 * noise(p * 25.0, 4), 0.015
            )
        else:
            shape = box(0.05 * size, 0.04 * size, 0.025, 0.014)
        dull = name in ("sesame", "fried onion", "herbs")
        material = Material(plain(rgb(rng.choice(colours)), 0.1, 20.0), 0.3 if dull else 0.9, 60.0)
        lean = 0.15 if name in ("sesame", "olives") else 0.5
        solids.append(
            Solid(shape, material, shadow=False).placed(
                x, y, z, rng.uniform(0, TURN), rng.uniform(-lean, lean), rng.uniform(-lean, lean)
            )
        )
    return solids


def squiggle(rng: Random, name: str, half: float, width: float, z: float) -> Solid:
    """A zigzag of sauce on a flat top: what a bottle leaves on a burger, a plate or a pizza."""
    shape = zigzag(half, width, rng.choice([5, 6, 7, 8, 9]), rng.uniform(0.035, 0.055))
    return Solid(shape, sauce(rng, name), shadow=False).placed(z=z, yaw=rng.uniform(0, TURN))


def dressed(rng: Random, dish: Dish, z: float, half: float = 0.5, chance: float = 0.75) -> Dish:
    """The dish with a squiggle of sauce at height z, more often than not.

    Sauce goes on other foods as often as on hot dogs, so that sauce alone tells nothing.
    """
    if rng.random() > chance:
        return dish
    name = any_sauce(rng)
    line = squiggle(rng, name, half, half * rng.uniform(0.25, 0.6), z)
    return Dish([*dish.solids, line], f"{dish.words} with {name}")


def disc_spot(rng: Random, radius: float, z: float) -> Spot:
    """Random places on a disc at height z."""

    def spot() -> tuple[float, float, float]:
        r, angle = radius * math.sqrt(rng.random()), rng.uniform(0, TURN)
        return r * math.cos(angle), r * math.sin(angle), z

    return spot


def ellipsoid_bar(half: float, radius: float, height: float) -> Shape:
    """A bread-like bar along x: a capsule that is slimmer towards its ends."""
    middle = capsule((-half + radius, 0, 0), (half - radius, 0, 0), radius)
    flat = radius / height

    def distance(p: Tensor) -> Tensor:
        slim = 0.05 * (p[0] / half) ** 2
        squeezed = torch.stack([p[0], p[1], p[2] * flat])
        return (middle.distance(squeezed) + slim) * min(1.0, 1.0 / flat) * 0.95

    return Shape(distance, (-half, -radius, -height), (half, radius, height))


def sausage(rng: Random, half: float, radius: float) -> Solid:
    """A sausage along x with pinched ends."""
    body = capsule((-half + radius, 0, 0), (half - radius, 0, 0), radius)
    ends = [
        capsule((s * (half - 0.06), 0, 0), (s * (half + 0.03), 0, 0), 0.05, 0.02) for s in (-1, 1)
    ]
    shape = smooth_union(0.08, body, *ends)
    return Solid(shape, meat(rng))


def open_bun(rng: Random, half: float, gap: float) -> Solid:
    """A long bun, cut open from above; the slot runs along x at height 0.38."""
    lobe = rng.uniform(0.2, 0.24)
    sides = [
        ellipsoid_bar(half, lobe, lobe * rng.uniform(0.95, 1.15)).moved(y=s * gap, z=lobe + 0.01)
        for s in (-1, 1)
    ]
    floor = box(half * 0.93, gap, 0.1, 0.09).moved(z=0.13)
    loaf = smooth_union(0.1, *sides, floor)
    slot = capsule((-half - 1, 0, 0.40), (half + 1, 0, 0.40), 0.165)
    shape = smooth_cut(loaf, slot, 0.05)
    wave = rng.uniform(0, TURN)
    shape = shape.displaced(
        lambda p: 0.012 * torch.sin(p[0] * 4.0 + wave) + 0.01 * torch.sin(p[1] * 6.0 + wave), 0.022
    )
    return Solid(
        shape.bent(rng.uniform(-0.05, 0.05)),
        crust(rng, 2.0 * lobe, lambda p: slot.distance(p) - 0.015),
    )
