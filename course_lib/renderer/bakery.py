"""Foods of bread and dough: hard negatives that share a hot dog's crust, colours and shape."""

from __future__ import annotations

import math
from random import Random

import torch
from torch import Tensor

from course_lib.renderer.ingredients import (
    TURN,
    Dish,
    any_sauce,
    cheese_slice,
    crumbs,
    crust,
    disc_spot,
    dressed,
    ellipsoid_bar,
    leaf,
    meat,
    new_seed,
    open_bun,
    sauce,
    tomato_slice,
)
from course_lib.renderer.march import Solid, placed
from course_lib.renderer.materials import (
    Material,
    bread,
    bumps,
    fractal,
    mix,
    noise,
    plain,
    ramp,
    rgb,
    speckled,
)
from course_lib.renderer.sdf import (
    Field,
    Shape,
    arc,
    box,
    capsule,
    disc,
    ellipsoid,
    half_space,
    length,
    sheet,
    smooth_cut,
    smooth_union,
    sphere,
    torus,
    union,
    zigzag,
)


def burger(rng: Random) -> Dish:
    """A burger with cheese, lettuce, tomato and sesame."""
    solids = [Solid(disc(0.72, 0.13, 0.1).moved(z=0.13), crust(rng, 0.3))]
    patty = disc(0.76, 0.11, 0.09).displaced(lambda p: 0.03 * fractal(p * 9.0, 2, 5), 0.03, 1.5)
    roast = meat(rng).paint
    brown = speckled(roast, rgb("#4a2212"), 9.0, 0.5, new_seed(rng))
    z = 0.3
    if rng.random() < 0.7:
        solids.append(leaf(rng, 0.92).placed(z=z + 0.03))
        z += 0.08
    for _ in range(rng.choice([1, 1, 2])):
        solids.append(Solid(patty, Material(brown, 0.6, 40.0)).placed(z=z + 0.11))
        z += 0.23
        if rng.random() < 0.85:
            solids.append(cheese_slice(rng, 0.66).placed(z=z + 0.01, yaw=rng.uniform(0, TURN)))
            z += 0.04
    if rng.random() < 0.6:
        for angle in (0.4, 2.5, 4.6):
            spot = {"x": 0.36 * math.cos(angle), "y": 0.36 * math.sin(angle)}
            solids.append(tomato_slice(rng, 0.36).placed(z=z + 0.03, **spot))
        z += 0.07
    for _ in range(rng.choice([0, 6, 9])):
        # Sauce that was pressed out between bread and meat.
        angle, name = rng.uniform(0, TURN), any_sauce(rng)
        run = capsule((0.62, 0, 0), (0.78, 0, -0.03), 0.07, 0.05)
        drop = smooth_union(0.05, run, capsule((0.78, 0, -0.03), (0.79, 0, -0.17), 0.05, 0.06))
        solids.append(Solid(drop, sauce(rng, name), shadow=False).placed(z=z, yaw=angle))
    dome = smooth_union(
        0.1, half_space((0, 0, -1), 0.0, ellipsoid(0.8, 0.8, 0.52)), disc(0.7, 0.05)
    )
    top = Solid(dome, crust(rng, 0.42)).placed(z=z + 0.05)
    solids.append(top.placed(yaw=0.0))
    if rng.random() < 0.75:

        def seed_spot() -> tuple[float, float, float]:
            x, y, _ = disc_spot(rng, 0.55, 0.0)()
            return x, y, z + 0.06 + 0.52 * math.sqrt(1 - (x * x + y * y) / 0.64)

        solids += crumbs(rng, "sesame", 45, seed_spot)
    return Dish(placed(solids, scale=rng.uniform(0.95, 1.15)), "a burger")


def _beyond(shape: Shape) -> Field:
    """Negative outside `shape`: marks the face that a knife has left as crumb."""
    return lambda p: -shape.distance(p) - 0.01


def sub(rng: Random) -> Dish:
    """A thick sandwich in a ciabatta, cut across into two halves."""
    solids: list[Solid] = []
    for side in (-1, 1):
        loaf = half_space((-side, 0, 0), 0.0, box(0.72, 0.5, 0.3, 0.22).moved(x=side * 0.1))
        crumb_face = half_space((-side, 0, 0), -0.03, loaf)
        skin = crust(rng, 0.32, _beyond(crumb_face))
        piece = [Solid(half_space((0, 0, 1), -0.02, loaf), skin).placed(z=0.3)]
        for x in (0.18, 0.5):
            piece.append(leaf(rng, 0.5).placed(x=side * x, z=0.32))
            piece.append(tomato_slice(rng, 0.33).placed(side * x, rng.uniform(-0.12, 0.12), 0.41))
            ham = Material(plain(rgb("#cf8f80"), 0.15), 0.5, 40.0, 0.4)
            fold = sheet(0.47, 0.025, 0.05, 4, rng.uniform(0, TURN))
            piece.append(Solid(fold, ham).placed(x=side * x, z=0.47))
        piece.append(cheese_slice(rng, 0.46, 0.12).placed(x=side * 0.34, z=0.53))
        lid = half_space((0, 0, -1), 0.0, loaf)
        piece.append(Solid(lid, skin).placed(z=0.54, roll=rng.uniform(-0.08, 0.08)))
        apart = rng.uniform(0.12, 0.3)
        solids += placed(
            piece, x=side * apart, y=side * rng.uniform(0, 0.25), yaw=rng.gauss(0, 0.25)
        )
    return Dish(solids, "a ciabatta sandwich with ham, lettuce, cheese and tomato, cut in two")


def empty_bun(rng: Random) -> Dish:
    """Long rolls with nothing inside: closed, scored on top, or cut open and empty."""
    solids: list[Solid] = []
    count = rng.choice([1, 2, 3])
    style = rng.choice(["closed", "scored", "scored", "open"])
    for k in range(count):
        half = rng.uniform(0.8, 1.0)
        loaf = ellipsoid_bar(half, 0.32, 0.28)
        if style == "scored":
            cuts = [
                capsule((x - 0.16, -0.2, 0.3), (x + 0.16, 0.2, 0.3), 0.05)
                for x in (-0.56, -0.28, 0.0, 0.28, 0.56)
            ]
            tool = union(*cuts)
            skin = crust(rng, 0.24, tool.grown(0.005).distance)
            roll = Solid(smooth_cut(loaf, tool, 0.05), skin).placed(z=0.28)
        elif style == "open":
            roll = open_bun(rng, half, rng.uniform(0.19, 0.23))
        else:
            roll = Solid(loaf, crust(rng, 0.24)).placed(z=0.28)
        solids.append(roll.placed(y=(k - (count - 1) / 2) * 0.72, yaw=rng.gauss(0, 0.1)))
    dish = Dish(solids, f"{style} bread rolls with nothing inside")
    return dressed(rng, Dish(placed(dish.solids, y=0.2), dish.words), 0.05, 0.45, 0.5)


def _icing(ring: Shape, phase: float) -> Shape:
    """A coat over the upper part of a ring, its lower edge in waves."""
    coat = ring.grown(0.02)

    def distance(p: Tensor) -> Tensor:
        edge = 0.02 + 0.035 * torch.sin(torch.atan2(p[1], p[0]) * 7.0 + phase)
        return torch.maximum(coat.distance(p), (edge - p[2]) * 0.8)

    return Shape(distance, coat.low, coat.high)


def bagel(rng: Random) -> Dish:
    """Bagels with seeds, or doughnuts with icing and sprinkles."""
    iced = rng.random() < 0.6
    solids: list[Solid] = []
    count = rng.choice([1, 1, 2, 3])
    for k in range(count):
        ring, tube = rng.uniform(0.4, 0.46), rng.uniform(0.23, 0.27)
        base = torus(ring, tube)
        piece = [Solid(base, crust(rng, tube)).placed(z=tube)]

        def seed_spot(ring: float = ring, tube: float = tube) -> tuple[float, float, float]:
            a, t = rng.uniform(0, TURN), rng.gauss(0, 0.5)
            r = ring + tube * math.sin(t)
            return r * math.cos(a), r * math.sin(a), tube + tube * math.cos(t) + 0.012

        if iced:
            icing = _icing(base, rng.uniform(0, TURN))
            colour = rgb(
                rng.choice(["#e88aa8", "#5a2d17", "#f3ead8", "#8a4420", "#4a2412", "#a8552c"])
            )
            piece.append(Solid(icing, Material(plain(colour, 0.05), 0.9, 60.0, 0.3)).placed(z=tube))
            if rng.random() < 0.7:
                piece += crumbs(rng, "sprinkles", 40, seed_spot)
        else:
            piece += crumbs(rng, "sesame", 60, seed_spot)
        angle, away = k * TURN / 3 + rng.random(), 0.0 if count == 1 else 0.62
        solids += placed(piece, x=away * math.cos(angle), y=away * math.sin(angle), yaw=angle)
    scale = {1: 1.25, 2: 0.95, 3: 0.85}[count]
    dish = Dish(placed(solids, scale=scale), "iced doughnuts" if iced else "bagels with sesame")
    return dish if iced else dressed(rng, dish, 0.5 * scale, 0.6, 0.3)


def croissant(rng: Random) -> Dish:
    """A croissant: overlapping rolls along an arc, thick in the middle."""
    parts = []
    base = crust(rng, 0.3)

    def paint(p: Tensor) -> Tensor:
        # The rolls stand on edge, so their own x axis points down; their rims bake darkest.
        upright = torch.stack([p[2], p[1], 0.55 * length(p[:2]) - 0.45 * p[0]])
        return base.paint(upright)

    skin = Material(paint, 0.7, 35.0, 0.3, bump=bumps(16.0, 0.006, new_seed(rng)))
    for k in range(-5, 6):
        angle = k * 0.25
        fat = 0.36 * math.cos(k * 0.26) + 0.04
        x, y = 0.82 * math.sin(angle), 0.82 * math.cos(angle) - 0.6
        roll = ellipsoid(fat, fat * 1.05, 0.24)
        turned = Solid(roll, skin).placed(pitch=math.pi / 2, yaw=-angle + 0.12)
        parts.append(turned.placed(x, y, fat * 0.85))
    return dressed(rng, Dish(placed(parts, scale=1.15), "a croissant"), 0.78, 0.4, 0.4)


def pretzel(rng: Random) -> Dish:
    """A pretzel: a bow with crossed arms, salted."""
    tube = 0.12
    bow = arc(0.62, 2.35, tube)
    arms = [
        capsule((s * 0.44, -0.44, 0.0), (-s * 0.3, 0.42, 0.1), tube * 0.95, tube * 0.7)
        for s in (-1, 1)
    ]
    crossing = sphere(0.1).moved(y=-0.05, z=0.06)
    shape = smooth_union(0.08, bow, *arms, crossing)
    brown = bread(rgb("#7a3a12"), rgb("#a3581f"), rgb("#ead2a0"), 0.2, None, new_seed(rng))
    solids = [Solid(shape, Material(brown, 0.9, 40.0, 0.25)).placed(z=tube)]

    def spot() -> tuple[float, float, float]:
        angle = rng.uniform(-2.0, 2.0)
        return 0.62 * math.sin(angle), 0.62 * math.cos(angle), 2.0 * tube

    solids += crumbs(rng, "onion", 22, spot)
    return dressed(rng, Dish(placed(solids, scale=1.45), "a salted pretzel"), 0.04, 0.4)


def eclair(rng: Random) -> Dish:
    """Eclairs: choux buns filled with cream, icing along the back."""
    solids: list[Solid] = []
    count = rng.choice([2, 3, 4])
    codes = ["#3d1c0e", "#6a2f18", "#e9d9b8", "#a8552c", "#b5653a", "#d87a9a"]
    colour = rgb(rng.choice(codes))
    cream = Material(plain(rgb("#f4ead2"), 0.04), 0.5, 40.0, 0.5, bump=bumps(14.0, 0.02))
    for k in range(count):
        body = ellipsoid_bar(0.6, 0.26, 0.19)
        coat = half_space((0, 0, -1), -0.05, ellipsoid_bar(0.57, 0.245, 0.185).grown(0.025))
        skin = crust(rng, 0.3)
        piece = [
            Solid(half_space((0, 0, 1), 0.0, body), skin).placed(z=0.19),
            Solid(ellipsoid_bar(0.6, 0.285, 0.1), cream).placed(z=0.24),
            Solid(half_space((0, 0, -1), 0.0, body), skin).placed(z=0.3),
            Solid(coat, Material(plain(colour, 0.04), 1.0, 80.0)).placed(z=0.3),
        ]
        if rng.random() < 0.4:
            line = zigzag(0.45, 0.12, 11, 0.018).draped(0.27)
            piece.append(Solid(line, sauce(rng, any_sauce(rng)), shadow=False).placed(z=0.24))
        solids += placed(piece, y=(k - (count - 1) / 2) * 0.64, yaw=rng.gauss(0, 0.1))
    return Dish(placed(solids, scale=1.0 if count < 4 else 0.85), "eclairs filled with cream")


def pancakes(rng: Random) -> Dish:
    """A stack of pancakes with butter and syrup."""
    solids, z = [], 0.0
    for _ in range(rng.randint(3, 5)):
        gold = rgb("#b87a32")

        def paint(p: Tensor, gold: Tensor = gold, seed: int = new_seed(rng)) -> Tensor:
            top = ramp(p[2].abs(), 0.03, 0.06) * ramp(length(p[:2]), 0.8, 0.72)
            return mix(rgb("#ecce8c"), gold * (0.7 + 0.6 * fractal(p * 4.0, 2, seed)), top)

        cake = disc(0.8, 0.07, 0.06)
        solids.append(
            Solid(cake, Material(paint, 0.2, 20.0, 0.4)).placed(
                rng.gauss(0, 0.04), rng.gauss(0, 0.04), z + 0.07
            )
        )
        z += 0.135
    butter = Material(plain(rgb("#f2d675"), 0.03), 0.8, 50.0, 0.6)
    solids.append(Solid(box(0.15, 0.15, 0.06, 0.03), butter).placed(z=z + 0.05, yaw=0.4))
    syrup = Material(plain(rgb("#8a4310"), 0.1), 1.0, 120.0, 0.4)
    pool = sheet(0.55, 0.02, 0.0, 5, rng.uniform(0, TURN))
    solids.append(Solid(pool, syrup, shadow=False).placed(z=z + 0.005))
    for _ in range(4):
        a = rng.uniform(0, TURN)
        drop = capsule((0.5, 0, 0), (0.81, 0, 0), 0.06)
        run = capsule((0.81, 0, 0), (0.81, 0, -rng.uniform(0.1, 0.4)), 0.05, 0.06)
        shape = smooth_union(0.05, drop, run)
        solids.append(Solid(shape, syrup, shadow=False).placed(z=z - 0.02, yaw=a))
    return Dish(placed(solids, scale=1.1), "pancakes with butter and syrup")


def cake(rng: Random) -> Dish:
    """A slice of layered cake with cream and a cherry."""
    sponge, cream = rng.choice(
        [("#5a2f18", "#f0e4cc"), ("#e2b566", "#f4e9d4"), ("#8a2018", "#f6efe2")]
    )

    def paint(p: Tensor) -> Tensor:
        layer = p[2] / 0.2
        filled = ramp((layer - layer.floor() - 0.5).abs(), 0.36, 0.42)
        holes = 0.8 + 0.35 * noise(p * 26.0, 3)
        return mix(rgb(sponge) * holes, rgb(cream), filled)

    round_ = disc(1.3, 0.3, 0.04)
    wedge = half_space((0.36, 1, 0), 0.0, half_space((0.36, -1, 0), 0.0, round_))
    wedge = Shape(wedge.distance, (-1.3, -0.55, -0.3), (0.1, 0.55, 0.3))
    top_shape = half_space(
        (0.36, 1, 0), 0.0, half_space((0.36, -1, 0), 0.0, disc(1.33, 0.05, 0.03))
    )
    top_shape = Shape(top_shape.distance, (-1.33, -0.55, -0.05), (0.1, 0.55, 0.05))
    icing = Material(plain(rgb(rng.choice([cream, "#4a2412", "#e89ab0"])), 0.04), 0.7, 50.0, 0.4)
    solids = [
        Solid(wedge, Material(paint, 0.1, 15.0, 0.4)).placed(z=0.3),
        Solid(top_shape, icing).placed(z=0.63),
        Solid(sphere(0.14), Material(plain(rgb("#9c1016"), 0.1), 1.0, 100.0)).placed(-1.0, 0, 0.82),
        Solid(ellipsoid(0.2, 0.2, 0.1), Material(plain(rgb("#f6efe2"), 0.03), 0.4)).placed(
            -1.0, 0, 0.7
        ),
    ]
    return dressed(
        rng, Dish(placed(placed(solids, x=0.75), scale=1.2), "a slice of cake"), 0.04, 0.6
    )
