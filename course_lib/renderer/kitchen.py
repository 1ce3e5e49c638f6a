"""Warm dishes and platters: hard negatives with the meat and the sauces of hot dogs."""

from __future__ import annotations

import math
from random import Random

import torch
from torch import Tensor

from course_lib.renderer.ingredients import (
    TURN,
    Dish,
    Spot,
    crumbs,
    crust,
    disc_spot,
    dressed,
    leaf,
    meat,
    new_seed,
    sauce,
)
from course_lib.renderer.march import Solid, placed
from course_lib.renderer.materials import (
    Material,
    bumps,
    fractal,
    mix,
    noise,
    plain,
    ramp,
    rgb,
    speckled,
    two_tone,
)
from course_lib.renderer.sdf import (
    Shape,
    arc,
    box,
    capsule,
    disc,
    ellipsoid,
    half_space,
    length,
    sheet,
    smooth_union,
    torus,
    union,
)


def sausages(rng: Random) -> Dish:
    """Sausage without a bun: a coil on mash with peas, or coins in ketchup."""
    solids: list[Solid] = []
    if rng.random() < 0.5:
        mash = ellipsoid(0.92, 0.92, 0.3).displaced(
            lambda p: 0.08 * fractal(p * 4.0, 3, 4), 0.08, 1.7
        )
        potato = Material(plain(rgb("#ead9a0"), 0.08), 0.3, 30.0, 0.5)
        solids.append(Solid(mash, potato))
        skin = meat(rng)
        coil = union(*(torus(ring, 0.125) for ring in (0.14, 0.38, 0.62)))
        tail = capsule((0.68, 0.1, 0), (0.72, 0.5, -0.05), 0.125, 0.1)
        coiled = Solid(smooth_union(0.05, coil, tail), skin)
        solids.append(coiled.placed(z=0.4, roll=rng.gauss(0, 0.06), yaw=rng.uniform(0, TURN)))
        peas = disc_spot(rng, 0.3, 0.06)
        solids += placed(crumbs(rng, "peas", 36, peas), x=-0.85, y=-0.5)
        return Dish(solids, "a coil of sausage on mashed potato with peas")
    skin, cut = meat(rng), rgb("#d08a6c")

    def paint(p: Tensor) -> Tensor:
        face = ramp(p[2].abs(), 0.05, 0.06) * ramp(length(p[:2]), 0.21, 0.19)
        return mix(skin.paint(p), cut * (0.85 + 0.3 * noise(p * 20.0, 2)), face)

    coin = Material(paint, 0.9, 60.0, 0.25)
    for k in range(24):
        away, angle = 0.75 * math.sqrt((k + 0.5) / 24), 2.4 * k
        piece = Solid(disc(0.21, 0.065, 0.025), coin).placed(
            pitch=rng.gauss(0, 0.45), roll=rng.gauss(0, 0.45)
        )
        height = 0.12 + 0.18 * (1.0 - away) + rng.uniform(0.0, 0.08)
        solids.append(piece.placed(away * math.cos(angle), away * math.sin(angle), height))
    pool = ellipsoid(0.9, 0.9, 0.12).displaced(lambda p: 0.04 * noise(p * 4.0, 1), 0.04, 1.3)
    solids.append(Solid(pool, sauce(rng, "ketchup")).placed(z=0.02))
    return Dish(solids, "sliced sausage in ketchup")


def pizza(rng: Random) -> Dish:
    """A whole pizza, or most of one, with pepperoni, olives and herbs."""
    melted = two_tone(rgb("#e3b04c"), rgb("#c8451f"), 5.0, 0.15, new_seed(rng))
    toasted = speckled(melted, rgb("#8a4a1c"), 7.0, 0.25, new_seed(rng))
    base = disc(0.98, 0.05, 0.04).displaced(lambda p: 0.03 * fractal(p * 6.0, 2, 3), 0.03, 1.3)
    rim = torus(1.0, 0.1).displaced(lambda p: 0.05 * noise(p * 5.0, 6), 0.05, 1.3)
    solids = [
        Solid(base, Material(toasted, 0.6, 35.0, 0.3)).placed(z=0.07),
        Solid(rim, crust(rng, 0.12)).placed(z=0.09),
    ]
    meaty = Material(two_tone(rgb("#9c2a14"), rgb("#b8452a"), 14.0, 0.2, new_seed(rng)), 0.8, 50.0)
    for k in range(rng.choice([0, 9, 11, 13])):
        r, a = (0.3 if k < 4 else 0.72) * rng.uniform(0.9, 1.1), k * 2.4 + rng.gauss(0, 0.2)
        slice_ = Solid(disc(0.15, 0.02, 0.015), meaty, shadow=False)
        solids.append(slice_.placed(r * math.cos(a), r * math.sin(a), 0.15))
    for name, count in (("olives", 12), ("herbs", 22)):
        if rng.random() < 0.6:
            solids += crumbs(rng, name, count, disc_spot(rng, 0.85, 0.16))
    return dressed(rng, Dish(placed(solids, scale=1.05), "a pizza"), 0.17, 0.65, 0.5)


def taco(rng: Random) -> Dish:
    """Tacos: folded shells full of mince, lettuce and cheese."""
    solids: list[Solid] = []
    count = rng.choice([1, 2, 3])
    shell_colour = two_tone(rgb("#e0a94a"), rgb("#c98a30"), 7.0, 0.3, new_seed(rng))
    for k in range(count):
        round_ = disc(0.62, 0.02, 0.015)
        piece = []
        for side in (-1, 1):
            half = half_space((0, -1, 0), 0.0, round_)
            shell = Solid(half, Material(shell_colour, 0.3, 25.0, 0.4))
            tilt = shell.placed(roll=math.pi / 2 - side * 0.3)
            piece.append(tilt.placed(y=side * 0.05, z=0.02))
        fill = half_space((0, 0, -1), 0.0, ellipsoid(0.55, 0.17, 0.5))
        brown = meat(rng).paint
        lumps = fill.displaced(lambda p: 0.03 * noise(p * 12.0, 8), 0.03, 1.4)
        piece.append(Solid(lumps, Material(brown, 0.5, 30.0)).placed(z=0.03))
        top = half_ring(rng, 0.5)
        piece += crumbs(rng, "cheese", 12, top) + crumbs(rng, "relish", 10, top)
        for t in (-0.7, -0.2, 0.3, 0.75):
            lettuce = leaf(rng, 0.2).placed(pitch=rng.uniform(-0.5, 0.5), roll=rng.gauss(0, 0.5))
            piece.append(lettuce.placed(x=0.5 * math.sin(t), z=0.52 * math.cos(t)))
        solids += placed(piece, y=(k - (count - 1) / 2) * 0.6, yaw=rng.gauss(0, 0.06))
    return dressed(rng, Dish(placed(solids, scale=1.2 if count < 3 else 1.0), "tacos"), 0.05, 0.5)


def half_ring(rng: Random, radius: float) -> Spot:
    """Random places along an upright half circle: the open edge of a taco."""

    def spot() -> tuple[float, float, float]:
        t = rng.uniform(-1.1, 1.1)
        return radius * math.sin(t), rng.uniform(-0.15, 0.15), radius * math.cos(t) + 0.06

    return spot


def fries(rng: Random) -> Dish:
    """A heap of chips, with a squiggle of ketchup."""
    solids = []
    gold = Material(
        two_tone(rgb("#e0a840"), rgb("#c98524"), 5.0, 0.4, new_seed(rng)), 0.4, 30.0, 0.4
    )
    for _ in range(46):
        stick = box(rng.uniform(0.3, 0.5), 0.055, 0.055, 0.018)
        x, y, _ = disc_spot(rng, 0.72, 0.0)()
        z = 0.08 + 0.42 * max(0.0, 0.85 - math.hypot(x, y)) * rng.random()
        lie = Solid(stick, gold).placed(yaw=rng.uniform(0, TURN), pitch=rng.gauss(0, 0.25))
        solids.append(lie.placed(x, y, z + 0.05))
    return dressed(rng, Dish(solids, "chips"), 0.42)


def spaghetti(rng: Random) -> Dish:
    """Spaghetti with tomato sauce and herbs."""
    pasta = Material(plain(rgb("#e6c06a"), 0.06), 0.6, 40.0, 0.4)
    solids = []
    for k in range(60):
        ring = arc(rng.uniform(0.25, 0.7), rng.uniform(1.2, 2.9), 0.035)
        x, y, _ = disc_spot(rng, 0.3, 0.0)()
        flat = Solid(ring, pasta, shadow=k % 3 == 0).placed(yaw=rng.uniform(0, TURN))
        tip = flat.placed(pitch=rng.gauss(0, 0.12), roll=rng.gauss(0, 0.12))
        solids.append(tip.placed(x, y, 0.08 + 0.25 * rng.random()))
    lump = ellipsoid(0.42, 0.38, 0.16).displaced(lambda p: 0.06 * fractal(p * 6, 2, 2), 0.06, 1.6)
    red = two_tone(rgb("#9c1f0e"), rgb("#7a2a12"), 8.0, 0.3, new_seed(rng))
    solids.append(Solid(lump, Material(red, 0.8, 50.0)).placed(z=0.36))
    solids += crumbs(rng, "herbs", 12, disc_spot(rng, 0.3, 0.56))
    return Dish(placed(solids, scale=1.1), "spaghetti with tomato sauce")


def _rasher(phase: float) -> Shape:
    """A strip of bacon along x, gone wavy in the pan."""
    strip = box(0.75, 0.13, 0.02, 0.015)

    def distance(p: Tensor) -> Tensor:
        wave = 0.05 * torch.sin(p[0] * 12.0 + phase)
        return 0.7 * strip.distance(torch.stack([p[0], p[1], p[2] - wave]))

    return Shape(distance, (-0.75, -0.13, -0.08), (0.75, 0.13, 0.08))


def eggs(rng: Random) -> Dish:
    """Fried eggs and bacon, with a squiggle of sauce now and then."""
    white = Material(plain(rgb("#f3efe4"), 0.04), 0.8, 60.0, 0.5)
    yolk = Material(plain(rgb("#eda41c"), 0.05), 1.0, 110.0, 0.5)
    solids = []
    for x in rng.choice([(-0.42, 0.42), (0.0,)]):
        flat = sheet(0.56, 0.045, 0.02, 6, rng.uniform(0, TURN)).grown(0.02)
        y = rng.uniform(0.1, 0.3)
        solids.append(Solid(flat, white).placed(x, y, 0.06, rng.uniform(0, TURN)))
        solids.append(Solid(ellipsoid(0.2, 0.2, 0.14), yolk).placed(x, y, 0.1))

    def streaks(p: Tensor) -> Tensor:
        lean = ramp(fractal(torch.stack([p[0], p[1] * 9.0, p[2]]), 2, 4), 0.4, 0.6)
        return mix(rgb("#d9a284"), rgb("#8a2a16"), lean)

    for k in range(rng.choice([2, 3])):
        bacon = Solid(_rasher(rng.uniform(0, TURN)), Material(streaks, 0.8, 40.0))
        solids.append(bacon.placed(y=-0.4 - 0.3 * k, z=0.09, yaw=rng.gauss(0, 0.1)))
    dish = Dish(placed(solids, scale=1.05), "fried eggs and bacon")
    return dressed(rng, dish, 0.13, 0.45, 0.6)


def sushi(rng: Random) -> Dish:
    """Nigiri with salmon and rolls wrapped in seaweed."""
    grains = two_tone(rgb("#f4f0e6"), rgb("#d9d2c0"), 16.0, 0.2, new_seed(rng))
    rice = Material(grains, 0.4, 40.0, 0.5, bump=bumps(18.0, 0.02))

    def stripes(p: Tensor) -> Tensor:
        band = (p[0] * 7.0 + p[1] * 3.0 + 0.4 * noise(p * 5.0, 2)) % 1.0
        return mix(rgb("#e0703c"), rgb("#f2b090"), ramp((band - 0.5).abs(), 0.42, 0.48))

    solids: list[Solid] = []
    for k in range(3):
        block = box(0.4, 0.18, 0.13, 0.12)
        fish = box(0.48, 0.2, 0.045, 0.04).bent(0.0, -0.3)
        piece = [
            Solid(block, rice).placed(z=0.13),
            Solid(fish, Material(stripes, 0.9, 60.0, 0.4)).placed(z=0.31),
        ]
        solids += placed(piece, x=-0.42, y=(k - 1) * 0.55, yaw=rng.gauss(0.1, 0.06))

    def maki(p: Tensor) -> Tensor:
        rho = length(p[:2])
        inner = mix(rgb("#e0703c"), grains(p), ramp(rho, 0.08, 0.1))
        return mix(inner, rgb("#18241a"), ramp(rho, 0.215, 0.225))

    for k in range(4):
        roll = Solid(disc(0.25, 0.17, 0.025), Material(maki, 0.5, 40.0, 0.3))
        solids.append(roll.placed(0.35 + 0.56 * (k % 2), -0.35 + 0.6 * (k // 2), 0.17))
    return dressed(rng, Dish(placed(solids, scale=1.1), "sushi"), 0.05, 0.5, 0.5)
