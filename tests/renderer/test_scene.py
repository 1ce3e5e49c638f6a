"""One seed, one picture; the setting knows nothing of the food."""

import math
import os
import subprocess
import sys
from random import Random

import pytest
import torch

from course_lib.errors import UnknownNameError
from course_lib.renderer import compose, render
from course_lib.renderer.foods import NEGATIVES, RECIPES
from course_lib.renderer.march import Solid, World, cast, expose, lit, openness, rotation
from course_lib.renderer.materials import Material, fractal, hashed, noise, plain, rgb
from course_lib.renderer.scene import setting
from course_lib.renderer.sdf import column, length, sphere

SMALL = (24, 32)


def test_the_same_seed_gives_the_same_picture_and_another_seed_another():
    first = render("hotdog", 5, SMALL)
    assert first.shape == (24, 32, 3)
    assert first.dtype == torch.uint8
    assert torch.equal(first, render("hotdog", 5, SMALL))
    assert not torch.equal(first, render("hotdog", 6, SMALL))


def test_twins_differ_in_the_food_alone():
    _, hotdog, words = compose("hotdog", 11)
    _, salad, other = compose("salad", 11)
    assert words.pop("food") != other.pop("food")
    assert words == other
    assert torch.equal(hotdog.light.toward, salad.light.toward)
    assert setting(11).camera == setting(11).camera
    assert setting(11).size == setting(11).size
    assert len(setting(11).solids) == len(hotdog.solids) - _food_solids("hotdog", 11)


def _food_solids(kind, seed):
    return len(RECIPES[kind](Random(f"{kind} {seed}")).solids)


@pytest.mark.parametrize("kind", RECIPES)
def test_every_recipe_stands_on_the_table_within_reach(kind):
    for seed in range(4):
        dish = RECIPES[kind](Random(seed))
        assert dish.words
        assert dish.solids
        for solid in dish.solids:
            middle, radius = solid.ball
            assert float(length(middle)) - radius < 1.6
            assert float(middle[2]) + radius > 0.0


def test_pictures_agree_between_instruction_sets_and_thread_counts():
    """The renderer works in float64, so that the last bits never reach the eight of a pixel."""
    script = (
        "import sys, torch; from course_lib.renderer import render;"
        "torch.set_num_threads(int(sys.argv[1]));"
        "sys.stdout.buffer.write(render('hotdog', 5, (24, 32)).numpy().tobytes())"
    )
    for capability, threads in (("default", "1"), ("avx2", "2")):
        env = {**os.environ, "ATEN_CPU_CAPABILITY": capability}
        run = subprocess.run(
            [sys.executable, "-c", script, threads], env=env, capture_output=True, check=True
        )
        assert run.stdout == render("hotdog", 5, SMALL).numpy().tobytes()


def test_an_unknown_food_is_named_with_the_nearest_known_one():
    with pytest.raises(UnknownNameError, match=r"'burgr'.*'burger'"):
        render("burgr", 1)


def test_a_ray_meets_a_ball_where_geometry_says():
    ball = Solid(sphere(0.5), Material(plain(rgb("#ffffff")))).placed(z=1.0, scale=2.0)
    start = column(0.0, 0.0, 5.0)
    x = torch.linspace(-0.3, 0.3, 7, dtype=torch.float64)
    ray = torch.stack([x, 0 * x, -(1 - x * x).sqrt()])
    distance, which = cast([ball], start, ray)
    expected = 4.0 * -ray[2] - (1.0 - 16.0 * x * x).sqrt()
    hits = x.abs() < 0.25
    assert (which[hits] == 0).all()
    assert torch.allclose(distance[hits], expected[hits], atol=0.01)
    assert torch.isinf(distance[~hits]).all()
    # Below the ball lies its shadow, and the table there sees less of the sky.
    table = torch.tensor([[0.0, 6.0], [0.0, 0.0], [0.01, 0.01]], dtype=torch.float64)
    up = column(0.0, 0.0, 1.0)
    assert lit([ball], table, up, 0.1).tolist() == pytest.approx([0.0, 1.0], abs=0.02)
    sky = openness([ball], table, up.expand(3, 2))
    assert sky[0] < 0.6 < sky[1]


def test_noise_is_smooth_bounded_and_the_same_everywhere():
    p = torch.linspace(-9, 9, 3001, dtype=torch.float64)
    p = torch.stack([p, 0.3 * p, 2 - p])
    hills = noise(p)
    assert 0.0 <= float(hills.min()) < 0.2
    assert 0.8 < float(hills.max()) < 1.0
    assert float((hills[1:] - hills[:-1]).abs().max()) < 0.05
    assert 0.0 <= float(fractal(p).min()) <= float(fractal(p).max()) < 1.0
    numbers = torch.arange(10000)
    lots = hashed(numbers, numbers * 0)
    assert abs(float(lots.mean()) - 0.5) < 0.02
    assert abs(float(lots.std()) - math.sqrt(1 / 12)) < 0.02


def test_rotations_turn_and_keep_lengths():
    turn = rotation(0.3, -0.7, 1.1)
    assert torch.allclose(turn @ turn.T, torch.eye(3, dtype=torch.float64))
    assert torch.allclose(rotation(math.pi / 2) @ column(1, 0, 0), column(0, 1, 0))


def test_an_empty_table_is_a_picture_too():
    place = setting(3)
    world = World([], place.table, place.light, place.room)
    light, depth = expose(world, place.camera, 16, 16)
    assert light.isfinite().all()
    assert (depth > 0).all()


def test_there_are_many_kinds_of_hard_negatives():
    assert len(NEGATIVES) >= 15
    assert "hotdog" not in NEGATIVES
