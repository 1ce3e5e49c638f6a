"""What is in a picture besides the food: table, plate or tray, clutter, a hand, side dishes.

Nothing here knows which food is served, so nothing here can tell the classes apart.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random

import torch
from torch import Tensor

from course_lib.renderer.ingredients import (
    TURN,
    any_sauce,
    crust,
    disc_spot,
    leaf,
    meat,
    pickle_slice,
    sauce,
    tomato_slice,
)
from course_lib.renderer.march import Solid, placed
from course_lib.renderer.materials import (
    Material,
    Paint,
    gingham,
    marble,
    mix,
    noise,
    plain,
    ramp,
    rgb,
    ringed,
    speckled,
    striped,
    tiles,
    two_tone,
    wood,
)
from course_lib.renderer.sdf import (
    box,
    capsule,
    disc,
    ellipsoid,
    lathe,
    smooth_union,
    sphere,
    zigzag,
)

COLOURS = {
    "white": "#efece4",
    "cream": "#e6d9bd",
    "red": "#b3261a",
    "blue": "#2f5f8f",
    "sky blue": "#8fb3c9",
    "green": "#4f7a4a",
    "grey": "#8f8f8c",
    "black": "#26262a",
    "yellow": "#e0b040",
    "pink": "#d99a9a",
    "brown": "#6f4a2c",
    "teal": "#3f7f80",
}


def colour(rng: Random, *names: str) -> tuple[str, Tensor]:
    """One of the named colours (or of all), a little darker or lighter each time."""
    name = rng.choice(names or tuple(COLOURS))
    return name, rgb(COLOURS[name]) * rng.uniform(0.85, 1.1)


def table(rng: Random) -> tuple[Material, str]:
    """A table top and its words: wood, cloth, tiles, stone or paint."""
    seed = rng.randrange(1_000_000)
    kind = rng.choice(["wood", "wood", "wood", "gingham", "stripes", "tiles", "marble", "plain"])
    angle, shift = rng.uniform(0, TURN), rng.uniform(0, 9)
    gloss = 0.05
    if kind == "wood":
        pairs = {
            "oak": ("#c79a63", "#96683a"),
            "walnut": ("#7d5233", "#4a2c19"),
            "pine": ("#dfbd85", "#bf9156"),
            "grey wood": ("#9c9184", "#6f655b"),
            "dark wood": ("#4f3525", "#2c1b12"),
            "painted wood": ("#d9dad4", "#a9aba6"),
        }
        word = rng.choice(sorted(pairs))
        light, dark = (rgb(code) for code in pairs[word])
        paint = wood(light, dark, rng.uniform(0.5, 1.4), seed)
        gloss = rng.choice([0.05, 0.3, 0.6])
    elif kind in ("gingham", "stripes"):
        name, a = colour(rng, "red", "blue", "green", "grey", "teal", "yellow", "sky blue")
        cloth = gingham if kind == "gingham" else striped
        paint = cloth(a, rgb(COLOURS["white"]), rng.uniform(0.25, 0.6))
        word = f"{name} {'gingham' if kind == 'gingham' else 'striped cloth'}"
    elif kind == "tiles":
        name, a = colour(rng)
        paint = tiles(a, a * 0.8, rgb("#cfcbc0"), rng.uniform(0.5, 1.2), seed)
        word, gloss = f"{name} tiles", 0.6
    elif kind == "marble":
        name, a = colour(rng, "white", "grey", "black", "cream")
        paint = marble(a, rgb("#77716a"), rng.uniform(0.6, 1.4), seed)
        word, gloss = f"{name} stone", 0.6
    else:
        name, a = colour(rng)
        paint = speckled(plain(a, 0.08, 2.0, seed), a * 0.8, 30.0, 0.3, seed)
        word = f"{name} table"

    turn = torch.tensor(
        [[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0], [0, 0, 1]],
        dtype=torch.float64,
    )
    return Material(lambda p: paint(turn @ p + shift), gloss, 60.0, 0.0), word


def _plate(rng: Random) -> tuple[list[Solid], float, str]:
    name, a = colour(rng, "white", "white", "white", "cream", "sky blue", "grey", "black", "teal")
    paint = plain(a, 0.03)
    if rng.random() < 0.35:
        band, b = colour(rng, "blue", "red", "green", "grey", "teal", "brown")
        paint, name = (
            ringed(paint, b, 1.68, rng.uniform(0.06, 0.16)),
            f"{name} plate with {band} rim",
        )
    else:
        name = f"{name} plate"
    profile = [(0.0, 0.05), (1.05, 0.05), (1.25, 0.14), (1.7, 0.24)]
    return [Solid(lathe(profile, 0.035), Material(paint, 1.0, 100.0, 0.1))], 0.085, name


def _board(rng: Random) -> tuple[list[Solid], float, str]:
    light, dark = rng.choice(
        [("#c98f55", "#9c6431"), ("#8a5a35", "#5a351c"), ("#dcb88a", "#b98c58")]
    )
    seed = rng.randrange(1_000_000)
    paint = wood(rgb(light), rgb(dark), 3.7, seed)
    shape = box(1.65, rng.uniform(1.1, 1.3), 0.07, 0.05)
    return [Solid(shape, Material(paint, 0.15, 30.0)).placed(z=0.07)], 0.14, "wooden board"


def _paper(rng: Random) -> tuple[list[Solid], float, str]:
    name, a = colour(rng, "white", "cream", "brown", "red", "blue")
    checked = name in ("red", "blue")
    white = rgb(COLOURS["white"])
    paint: Paint = gingham(a, white, 0.3) if checked else plain(a, 0.05, 3.0)

    sheet = box(1.5, 1.25, 0.012, 0.01).displaced(
        lambda p: 0.03 * noise(p * 2.0, 7) + 0.008 * noise(p * 7.0, 8), 0.04, 1.1
    )
    word = f"{name} checked paper" if checked else f"{name} paper"
    return [Solid(sheet, Material(paint, 0.1, 20.0, 0.4)).placed(z=0.015)], 0.06, word


def _tray(rng: Random) -> tuple[list[Solid], float, str]:
    name, a = colour(rng, "white", "brown", "cream", "red")
    white = rgb(COLOURS["white"])
    paint = gingham(a, white, 0.35) if name == "red" else plain(a, 0.05)
    skin = Material(paint, 0.15, 25.0, 0.3)
    long, wide, tall = 1.35, 1.1, 0.22
    walls = [Solid(box(long, wide, 0.015), skin).placed(z=0.02)]
    for side in (-1, 1):
        wall = Solid(box(long + 0.1, tall, 0.015), skin).placed(roll=side * 1.1)
        walls.append(wall.placed(y=side * (wide + 0.09), z=0.2))
        end = Solid(box(tall, wide + 0.1, 0.015), skin).placed(pitch=-side * 1.1)
        walls.append(end.placed(x=side * (long + 0.09), z=0.2))
    return walls, 0.04, f"{name} paper tray"


def _basket(rng: Random) -> tuple[list[Solid], float, str]:
    name, a = colour(rng, "red", "black", "brown", "green", "yellow")
    skin = Material(plain(a, 0.05), 0.5, 50.0, 0.1)
    liner = Material(plain(rgb(COLOURS["white"]), 0.04, 4.0), 0.1, 20.0, 0.4)
    bowl = lathe([(0.0, 0.03), (1.2, 0.05), (1.5, 0.42)], 0.03)
    rim = lathe([(1.5, 0.42), (1.58, 0.42)], 0.045)
    paper = lathe([(0.0, 0.09), (1.15, 0.1), (1.5, 0.5)], 0.012).displaced(
        lambda p: 0.05 * noise(p * 3.0, 5), 0.05, 1.2
    )
    solids = [Solid(bowl, skin), Solid(rim, skin), Solid(paper, liner)]
    return solids, 0.14, f"{name} basket lined with paper"


def _bare(rng: Random) -> tuple[list[Solid], float, str]:
    return [], 0.0, "nothing under the food"


SUPPORTS: list[Callable[[Random], tuple[list[Solid], float, str]]] = [
    _plate, _plate, _plate, _board, _board, _paper, _paper, _tray, _basket, _bare,
]  # fmt: skip


def _glass(rng: Random) -> list[Solid]:
    drink = rgb(rng.choice(["#8a3a10", "#d99a1c", "#c9d9d9", "#5a1a10", "#e8e0c8"]))
    body = lathe([(0.0, 0.05), (0.3, 0.05), (0.4, 1.1)], 0.03)
    fill = capsule((0, 0, 0.35), (0, 0, 0.75), 0.3, 0.34)
    clear = rgb("#c4cfd0")
    skin = Material(lambda p: mix(drink, clear, ramp(p[2], 0.85, 1.0)), 1.0, 120.0, 0.5)
    return [Solid(body, skin), Solid(fill, Material(plain(drink), 0.8, 80.0), shadow=False)]


def _mug(rng: Random) -> list[Solid]:
    _, a = colour(rng)
    body = lathe([(0.0, 0.05), (0.36, 0.05), (0.38, 0.75)], 0.04)
    coffee = disc(0.34, 0.02).moved(z=0.6)
    return [
        Solid(body, Material(plain(a, 0.04), 1.0, 90.0)),
        Solid(coffee, Material(plain(rgb("#3a1e10")), 0.8, 90.0), shadow=False),
    ]


def _bottle(rng: Random) -> list[Solid]:
    a = rgb(rng.choice(["#b3140f", "#e0b012", "#ece8dc", "#3f6a2c"]))
    body = lathe([(0.0, 0.0), (0.3, 0.02), (0.3, 0.9), (0.12, 1.15), (0.05, 1.5)], 0.04)
    return [Solid(body, Material(plain(a, 0.04), 0.8, 70.0, 0.3))]


def _bowl(rng: Random) -> list[Solid]:
    _, a = colour(rng, "white", "black", "grey", "blue", "cream")
    dip = sauce(rng, any_sauce(rng))
    body = lathe([(0.0, 0.03), (0.25, 0.04), (0.42, 0.3)], 0.03)
    pool = ellipsoid(0.38, 0.38, 0.05).moved(z=0.24)
    return [Solid(body, Material(plain(a, 0.04), 1.0, 90.0)), Solid(pool, dip, shadow=False)]


def _cutlery(rng: Random) -> list[Solid]:
    steel = Material(plain(rgb("#c9c9c6"), 0.04), 0.9, 120.0, 0.0, metal=True)
    handle = capsule((-1.0, 0, 0), (0.1, 0, 0), 0.06, 0.04)
    if rng.random() < 0.5:
        blade = ellipsoid(0.5, 0.11, 0.02).moved(x=0.55)
        shape = smooth_union(0.04, handle, blade)
    else:
        root = ellipsoid(0.22, 0.13, 0.03).moved(x=0.22)
        tines = [
            capsule((0.35, y, 0), (0.75, y, 0.03), 0.022) for y in (-0.08, -0.027, 0.027, 0.08)
        ]
        shape = smooth_union(0.03, handle, root, *tines)
    return [Solid(shape, steel).placed(z=0.06)]


def _napkin(rng: Random) -> list[Solid]:
    _, a = colour(rng)
    cloth = box(0.6, 0.55, 0.03, 0.02).displaced(lambda p: 0.04 * noise(p * 3.0, 9), 0.04, 1.1)
    return [Solid(cloth, Material(plain(a, 0.06, 3.0), 0.02, 10.0, 0.3)).placed(z=0.03)]


def _side_plate(rng: Random) -> list[Solid]:
    solids, height, _ = _plate(rng)
    crisp = Material(plain(rgb("#e6b85a"), 0.12, 6.0), 0.4, 30.0, 0.5)
    heap = list(solids)
    for _ in range(7):
        x, y, z = disc_spot(rng, 0.7, height + 0.15)()
        chip = Solid(ellipsoid(0.35, 0.27, 0.03).bent(0.0, 0.5), crisp)
        heap.append(chip.placed(x, y, z, rng.uniform(0, TURN), rng.gauss(0, 0.4)))
    return placed(heap, scale=0.65)


def _tomatoes(rng: Random) -> list[Solid]:
    red = Material(plain(rgb("#b81c10"), 0.08), 1.0, 100.0, 0.25)
    spots = [(0.0, 0.0), (0.32, 0.1), (0.1, 0.34)]
    return [Solid(sphere(0.18), red).placed(x, y, 0.18) for x, y in spots]


CLUTTER: dict[str, Callable[[Random], list[Solid]]] = {
    "a glass": _glass,
    "a mug": _mug,
    "a sauce bottle": _bottle,
    "a bowl of dip": _bowl,
    "cutlery": _cutlery,
    "a napkin": _napkin,
    "a plate of crisps": _side_plate,
    "tomatoes": _tomatoes,
}


def hand(rng: Random) -> list[Solid]:
    """A hand that reaches in along -x; its finger tips are near the origin."""
    tone = rgb(rng.choice(["#d9a686", "#c68a66", "#e6bfa3", "#8a5a3c", "#5f3a26", "#b87a54"]))
    skin = Material(two_tone(tone, tone * 0.85, 3.0, 0.5, rng.randrange(1000)), 0.35, 22.0, 0.4)
    fingers = []
    for k, (reach, y) in enumerate([(0.55, 0.33), (0.7, 0.11), (0.68, -0.11), (0.5, -0.31)]):
        knuckle = (0.62, 0.8 * y, 0.42 - 0.03 * k)
        fingers.append(capsule((1.1, 0.8 * y, 0.32), knuckle, 0.14, 0.115))
        fingers.append(capsule(knuckle, (0.72 - reach, y, 0.14), 0.115, 0.09))
    palm = ellipsoid(0.55, 0.42, 0.2).moved(x=1.35, z=0.28)
    thumb = capsule((1.3, 0.4, 0.25), (0.62, 0.62, 0.14), 0.15, 0.1)
    wrist = capsule((1.5, 0, 0.3), (3.4, 0, 0.5), 0.27, 0.34)
    _, cloth = colour(rng)
    sleeve = Solid(
        capsule((2.3, 0, 0.39), (4.2, 0, 0.6), 0.4), Material(plain(cloth, 0.1), 0.02, 8)
    )
    return [Solid(smooth_union(0.1, *fingers, palm, thumb, wrist), skin), sleeve]


def sides(rng: Random, surface: float) -> tuple[list[Solid], list[str]]:
    """Small things next to the food, on the same plate."""
    solids: list[Solid] = []
    words = []
    gold = Material(plain(rgb("#dca03c"), 0.15, 6.0), 0.4, 30.0, 0.4)
    for _ in range(rng.choices([0, 1, 2, 3], [0.3, 0.3, 0.25, 0.15])[0]):
        kind = rng.choice(
            ["chips", "lettuce", "gherkins", "tomato", "sauce", "crisps", "bread", "meatballs"]
        )
        angle, away = rng.uniform(0, TURN), rng.uniform(0.98, 1.2)
        group: list[Solid] = []
        if kind == "chips":
            for _ in range(9):
                stick = Solid(box(rng.uniform(0.25, 0.4), 0.05, 0.05, 0.016), gold)
                x, y, z = disc_spot(rng, 0.2, rng.uniform(0.05, 0.2))()
                group.append(stick.placed(x, y, z, rng.uniform(0, TURN), rng.gauss(0, 0.2)))
        elif kind == "lettuce":
            group = [leaf(rng, 0.36).placed(x=0.1 * k, z=0.08 + 0.05 * k) for k in range(3)]
        elif kind in ("gherkins", "tomato"):
            make = pickle_slice if kind == "gherkins" else tomato_slice
            for k in range(3):
                group.append(make(rng, 0.19).placed(0.17 * k, 0.06 * k, 0.04 + 0.04 * k, 0, 0.2))
        elif kind == "bread":
            slice_ = Solid(disc(0.36, 0.09, 0.04), crust(rng, 0.1))
            group = [slice_.placed(0.2 * k, 0.1 * k, 0.1 + 0.14 * k, 0, 0.2) for k in range(2)]
        elif kind == "meatballs":
            ball = Solid(sphere(0.15), meat(rng))
            group = [ball.placed(0.3 * (k % 2), 0.28 * (k // 2), 0.14) for k in range(4)]
        elif kind == "sauce":
            blob = zigzag(0.3, 0.14, 5, 0.05)
            group = [Solid(blob, sauce(rng, any_sauce(rng))).placed(z=0.03)]
        else:
            for _ in range(4):
                x, y, z = disc_spot(rng, 0.22, rng.uniform(0.06, 0.15))()
                chip = Solid(ellipsoid(0.26, 0.2, 0.025).bent(0.0, 0.6), gold)
                group.append(chip.placed(x, y, z, rng.uniform(0, TURN), rng.gauss(0, 0.4)))
        spot = (away * math.cos(angle), away * math.sin(angle))
        solids += placed(group, x=spot[0], y=spot[1], z=surface, yaw=rng.uniform(0, TURN))
        words.append(kind)
    return solids, words
