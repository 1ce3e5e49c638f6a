"""Fruit and vegetables, some of them as long and bent as a sausage."""

from __future__ import annotations

import math
from random import Random

import torch
from torch import Tensor

from course_lib.renderer.ingredients import (
    TURN,
    Dish,
    crumbs,
    disc_spot,
    dressed,
    green,
    leaf,
    new_seed,
    pickle_slice,
    tomato_slice,
)
from course_lib.renderer.march import Solid, placed
from course_lib.renderer.materials import (
    Material,
    Paint,
    bumps,
    mix,
    noise,
    plain,
    ramp,
    rgb,
    speckled,
    two_tone,
)
from course_lib.renderer.sdf import (
    arc,
    box,
    capsule,
    ellipsoid,
    sheet,
    smooth_cut,
    smooth_union,
    sphere,
)


def salad(rng: Random) -> Dish:
    """Leaves, tomatoes and cucumber."""
    solids = []
    for _ in range(22):
        x, y, _ = disc_spot(rng, 0.65, 0.0)()
        piece = leaf(rng, rng.uniform(0.28, 0.42))
        piece = piece.placed(pitch=rng.gauss(0, 0.5), roll=rng.gauss(0, 0.5))
        solids.append(piece.placed(x, y, rng.uniform(0.12, 0.4)))
    for _ in range(7):
        x, y, z = disc_spot(rng, 0.7, rng.uniform(0.35, 0.5))()
        cut = tomato_slice(rng, 0.24) if rng.random() < 0.5 else pickle_slice(rng, 0.22)
        solids.append(cut.placed(x, y, z, 0, rng.gauss(0, 0.5), rng.gauss(0, 0.5)))
    solids += crumbs(rng, "onion", 10, disc_spot(rng, 0.6, 0.5))
    croutons = Material(plain(rgb("#b87a3a"), 0.2, 6.0), 0.2, 20.0)
    for _ in range(8):
        x, y, z = disc_spot(rng, 0.65, rng.uniform(0.4, 0.5))()
        cube = Solid(box(0.09, 0.09, 0.08, 0.02), croutons)
        solids.append(cube.placed(x, y, z, rng.uniform(0, TURN), rng.gauss(0, 0.4)))
    return dressed(rng, Dish(solids, "a salad with croutons"), 0.5)


def banana(rng: Random) -> Dish:
    """Bananas: yellow, long and bent."""
    solids = []
    count = rng.choice([1, 2, 3])
    for k in range(count):
        body = arc(1.0, 0.72, 0.17)
        stalk = capsule((-0.66, 0.75, 0), (-0.86, 0.6, 0), 0.1, 0.05)
        tip = capsule((0.66, 0.75, 0), (0.8, 0.64, 0), 0.1, 0.05)
        base = speckled(plain(rgb("#e6bc24"), 0.1, 3.0), rgb("#5a3a14"), 9.0, 0.22, new_seed(rng))

        def paint(p: Tensor, base: Paint = base) -> Tensor:
            ends = ramp(p[0].abs(), 0.66, 0.82)
            return mix(base(p), rgb("#5f5a1c"), ends)

        fruit = Solid(smooth_union(0.12, body, stalk, tip), Material(paint, 0.4, 25.0, 0.35))
        solids.append(
            fruit.placed(y=-0.85 + 0.3 * (k - count / 2), z=0.17, scale=1.15, yaw=0.06 * k)
        )
    return dressed(rng, Dish(solids, "bananas"), 0.38, 0.5, 0.5)


def fruit(rng: Random) -> Dish:
    """Oranges, lemons, apples and strawberries."""
    solids: list[Solid] = []
    kinds = rng.choice([["orange"], ["apple"], ["lemon"], ["strawberry"], ["orange", "apple"]])
    small = kinds == ["strawberry"]
    count = 9 if small else rng.choice([2, 3, 4])
    for k in range(count):
        kind = kinds[k % len(kinds)]
        if kind == "orange":
            shape, skin = (
                sphere(0.42),
                Material(plain(rgb("#dc7a12"), 0.08), 0.7, 40.0, 0.3, bump=bumps(34.0, 0.008)),
            )
        elif kind == "apple":
            shape = smooth_cut(sphere(0.42), sphere(0.12).moved(z=0.46), 0.2)
            tone = rng.choice([("#9c1a14", "#c98a3c"), ("#6f9a24", "#a8b83c")])
            skin = Material(
                two_tone(rgb(tone[0]), rgb(tone[1]), 3.0, 0.3, new_seed(rng)), 1.0, 80.0
            )
        elif kind == "lemon":
            nubs = [sphere(0.09).moved(x=s * 0.43) for s in (-1, 1)]
            shape = smooth_union(0.15, ellipsoid(0.44, 0.32, 0.32), *nubs)
            skin = Material(plain(rgb("#e8c420"), 0.06), 0.6, 40.0, bump=bumps(30.0, 0.007))
        else:
            shape = smooth_union(0.2, sphere(0.2), sphere(0.07).moved(x=0.24))
            dots = speckled(plain(rgb("#b3140f"), 0.1), rgb("#e0b050"), 24.0, 0.25, new_seed(rng))
            skin = Material(dots, 0.9, 60.0, 0.3, bump=bumps(24.0, 0.012))
        ring = 0.0 if count == 1 else (0.6 if small else 0.5) * math.sqrt((k + 0.3) / count) * 1.25
        angle = 2.4 * k + rng.random() * 0.3
        lift = -shape.low[2]
        piece = Solid(shape, skin).placed(yaw=rng.uniform(0, TURN))
        solids.append(piece.placed(ring * math.cos(angle), ring * math.sin(angle), lift))
        if kind in ("apple", "orange"):
            stem = capsule((0, 0, 0.3), (0.03, 0.02, 0.5), 0.018)
            stem_skin = Material(plain(rgb("#4a3214"), 0.2))
            solids.append(
                Solid(stem, stem_skin).placed(ring * math.cos(angle), ring * math.sin(angle), lift)
            )
    return Dish(
        solids, " and ".join(f"{kind}s" if kind[-1] != "y" else "strawberries" for kind in kinds)
    )


def corn(rng: Random) -> Dish:
    """Corn on the cob: long, yellow and knobbly."""
    solids: list[Solid] = []
    count = rng.choice([1, 2])
    for k in range(count):
        cob = capsule((-0.65, 0, 0), (0.75, 0, 0), 0.24, 0.15)

        def kernels(p: Tensor) -> Tensor:
            ring = torch.sin(torch.atan2(p[1], p[2]) * 8.0)
            return 0.022 * (torch.sin(p[0] * 34.0) + ring)

        shape = cob.displaced(kernels, 0.045, 1.8)
        skin = Material(
            two_tone(rgb("#e8b92c"), rgb("#d9981a"), 6.0, 0.3, new_seed(rng)), 0.8, 60.0, 0.4
        )
        y = (k - (count - 1) / 2) * 0.62
        solids.append(Solid(shape, skin).placed(y=y, z=0.25, yaw=rng.gauss(0, 0.12)))
        for side in (-1, 1):
            husk = sheet(0.3, 0.015, 0.08, 4, rng.uniform(0, TURN))
            solids.append(Solid(husk, green(rng)).placed(-0.85, y + side * 0.12, 0.15, 0, 0.4))
    return dressed(rng, Dish(placed(solids, scale=1.2), "corn on the cob"), 0.58, 0.5)


def carrots(rng: Random) -> Dish:
    """A bunch of carrots: long and orange, with leaves."""
    solids: list[Solid] = []
    count = rng.choice([3, 4, 5])
    for k in range(count):
        body = capsule((-0.7, 0, 0), (0.85, 0, 0), 0.18, 0.03)
        rings = body.displaced(
            lambda p: 0.003 * torch.sin(p[0] * 45.0 + noise(p * 9.0) * 9.0), 0.003, 1.2
        )
        skin = Material(plain(rgb("#e2741a"), 0.14, 6.0, new_seed(rng)), 0.5, 35.0, 0.35)
        piece = [Solid(rings.bent(rng.uniform(-0.08, 0.08)), skin)]
        for lean in (-0.3, 0.0, 0.3):
            stalk = capsule((-0.75, 0, 0), (-1.15, lean, 0.08), 0.03, 0.02)
            piece.append(Solid(stalk, green(rng)))
            piece.append(leaf(rng, rng.uniform(0.16, 0.24)).placed(-1.15, lean, 0.06, 0, 0.3))
        row = (k - (count - 1) / 2) * 0.34
        solids += placed(piece, x=0.15, y=row, z=0.15, yaw=rng.gauss(0, 0.08))
    return dressed(rng, Dish(solids, "carrots"), 0.05, 0.5, 0.5)
