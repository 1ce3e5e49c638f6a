"""From a seed to a picture: the setting, the dish on it, the camera and the film.

The setting (table, plate, clutter, hand, light, camera, size, compression) is drawn from the
seed alone and the dish from the seed and its kind. So the same seed with another kind gives a
*twin*: the same photograph with other food on the plate. A data set of twins teaches the food,
because nothing else tells the classes apart.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from random import Random

from torch import Tensor

from course_lib.errors import UnknownNameError, suggest
from course_lib.renderer.camera import Camera, Film, out_of_focus
from course_lib.renderer.foods import RECIPES
from course_lib.renderer.ingredients import TURN
from course_lib.renderer.march import Light, Solid, World, blurred_room, expose, placed
from course_lib.renderer.materials import (
    Material,
    Paint,
    rgb,
)
from course_lib.renderer.sdf import (
    column,
)
from course_lib.renderer.surroundings import CLUTTER, SUPPORTS, hand, sides, table

OVERSAMPLING = 1.25  # rays a pixel's side


@dataclass
class Setting:
    """Everything in a picture but the food, with the words for it."""

    size: tuple[int, int]  # height, width
    quality: int
    camera: Camera
    film: Film
    light: Light
    room: Paint
    table: Material
    solids: list[Solid] = field(default_factory=list)
    surface: float = 0.0
    food_yaw: float = 0.0
    food_at: tuple[float, float] = (0.0, 0.0)
    words: dict[str, str] = field(default_factory=dict)


def _light(rng: Random) -> tuple[Light, str]:
    height, heading = math.radians(rng.uniform(28, 72)), rng.uniform(0, TURN)
    toward = column(
        math.cos(height) * math.cos(heading), math.cos(height) * math.sin(heading), math.sin(height)
    )
    word, lamp, sky = rng.choice(
        [
            ("daylight", "#fff6e6", "#dfe8f2"),
            ("evening sun", "#ffdca6", "#d6dcea"),
            ("a warm lamp", "#ffd9a0", "#f2dcc0"),
            ("an overcast sky", "#f6f6f6", "#eef0f2"),
            ("a flash", "#ffffff", "#e6e6e6"),
        ]
    )
    soft = {"an overcast sky": 0.5, "a flash": 0.05}.get(word, rng.uniform(0.08, 0.3))
    key = {"an overcast sky": 1.1, "a flash": 2.2}.get(word, rng.uniform(1.5, 2.3))
    fill = {"an overcast sky": 1.05}.get(word, rng.uniform(0.45, 0.75))
    light = Light(
        toward, rgb(lamp) * key, rgb(sky) * fill, rgb("#b8a48c") * fill * 0.55, soft, rng.random()
    )
    return light, word


def _camera(rng: Random) -> tuple[Camera, str]:
    elevation = rng.choice([rng.uniform(24, 45), rng.uniform(35, 65), rng.uniform(60, 89)])
    reach = rng.uniform(0.8, 1.4)
    shift = 0.22 * reach
    target = (rng.gauss(0, shift), rng.gauss(0, 0.7 * shift), 0.25)
    view = "from the side" if elevation < 40 else "from above" if elevation > 65 else "at an angle"
    crop = (
        "close" if reach < 1.0 else "with room around it" if reach > 1.25 else "filling the frame"
    )
    aperture = rng.choice([0.0, 2.0, rng.uniform(2, 6)])
    camera = Camera(
        target,
        rng.uniform(4.0, 8.0),
        elevation,
        rng.uniform(0, 360),
        rng.gauss(0, 4),
        reach,
        aperture,
    )
    return camera, f"{view}, {crop}"


def _size(rng: Random) -> tuple[int, int]:
    long = rng.randint(190, 280)
    ratio = rng.choice([1.0, 4 / 3, 4 / 3, 3 / 2, 3 / 2, 16 / 9, rng.uniform(1.0, 1.6)])
    short = max(150, round(long / ratio))
    return (short, long) if rng.random() < 0.72 else (long, short)


def _metered(rng: Random) -> tuple[float, float, float]:
    """The mean colour that the camera aims at: a warm grey, brighter or darker, never the same."""
    bright = math.exp(rng.gauss(0.0, 0.12))
    red, green, blue = (
        bright * mean * math.exp(rng.gauss(0.0, 0.06)) for mean in (0.50, 0.42, 0.34)
    )
    return red, green, blue


def setting(seed: int) -> Setting:
    """The place, light and camera of one seed; no knowledge of the food goes in."""
    rng = Random(f"setting {seed}")
    size, quality = _size(rng), rng.randint(72, 90)
    camera, view = _camera(rng)
    light, lamp = _light(rng)
    top, table_word = table(rng)
    support, surface, support_word = rng.choice(SUPPORTS)(rng)
    room = rng.choice([("#6f5a48", "#e8c890"), ("#8a8f96", "#e6eaf0"), ("#3c4a38", "#c9d6a0"),
                       ("#2f2a2a", "#e0a860"), ("#a89c8c", "#f2ead8")])  # fmt: skip
    film = Film(
        exposure=max(-1.0, min(1.0, rng.gauss(0.0, 0.5))),
        warmth=max(-0.35, min(0.4, rng.gauss(0.02, 0.2))),
        contrast=rng.uniform(0.95, 1.2),
        saturation=rng.uniform(0.65, 1.3),
        grain=rng.choice([0.0, rng.uniform(0.5, 3.0), rng.uniform(2.0, 6.0)]),
        vignette=rng.uniform(0.0, 0.35),
        softness=rng.choice([0.0, 0.0, rng.uniform(0.2, 0.9)]),
        metered=_metered(Random(f"meter {seed}")),
    )
    turn = rng.uniform(0, TURN)
    solids = placed(support, yaw=turn)
    beside, words = sides(rng, surface)
    solids += beside
    clutter = rng.choices([0, 1, 2, 3], [0.3, 0.35, 0.25, 0.1])[0]
    for name in rng.sample(sorted(CLUTTER), clutter):
        angle, away = rng.uniform(0, TURN), rng.uniform(2.15, 2.9)
        thing = placed(CLUTTER[name](rng), yaw=rng.uniform(0, TURN), scale=rng.uniform(0.85, 1.15))
        solids += placed(thing, x=away * math.cos(angle), y=away * math.sin(angle))
        words.append(name)
    if rng.random() < 0.16:
        angle = rng.uniform(0, TURN)
        reaching = placed(hand(rng), yaw=angle, z=surface)
        solids += placed(reaching, x=1.05 * math.cos(angle), y=1.05 * math.sin(angle))
        words.append("a hand")
    # People turn the plate so that long food lies across the picture, more or less.
    across = math.radians(camera.heading) + (0.0 if size[1] >= size[0] else 0.6)
    return Setting(
        size,
        quality,
        camera,
        film,
        light,
        blurred_room(*room, seed=rng.randrange(1000)),
        top,
        solids,
        surface,
        across + rng.gauss(0.0, 0.5) + rng.choice([0.0, math.pi]),
        (rng.gauss(0, 0.05), rng.gauss(0, 0.05)),
        {
            "table": table_word,
            "support": support_word,
            "around": ", ".join(words) if words else "nothing",
            "light": lamp,
            "view": view,
        },
    )


def compose(kind: str, seed: int) -> tuple[Setting, World, dict[str, str]]:
    """The setting of a seed, the world with a dish of `kind` in it, and both in words."""
    if kind not in RECIPES:
        raise UnknownNameError(
            f"There is no recipe for {kind!r}.{suggest(kind, list(RECIPES))} "
            f"Known: {', '.join(RECIPES)}."
        )
    place = setting(seed)
    dish = RECIPES[kind](Random(f"{kind} {seed}"))
    x, y = place.food_at
    food = placed(dish.solids, x=x, y=y, z=place.surface, yaw=place.food_yaw)
    world = World([*food, *place.solids], place.table, place.light, place.room)
    return place, world, {"food": dish.words, **place.words}


def render(kind: str, seed: int, size: tuple[int, int] | None = None) -> Tensor:
    """Draw one picture: uint8, shape (height, width, 3).

    kind: 'hotdog' or one of `foods.NEGATIVES`. The same kind and seed give the same picture, and
    another kind with the same seed its twin. size (height, width) overrides the seed's own.
    """
    place, world, _ = compose(kind, seed)
    height, width = size or place.size
    tall, wide = round(height * OVERSAMPLING), round(width * OVERSAMPLING)
    light, depth = expose(world, place.camera, tall, wide)
    light = out_of_focus(light, depth, place.camera.distance, place.camera.aperture)
    return place.film.develop(light, (height, width), seed)
