"""Distances are true: a marcher that trusts them meets every surface and jumps through none."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from course_lib.renderer import sdf

BALL = sdf.sphere(0.5)
SHAPES = {
    "sphere": BALL,
    "ellipsoid": sdf.ellipsoid(0.9, 0.5, 0.3),
    "box": sdf.box(0.7, 0.4, 0.2, 0.1),
    "capsule": sdf.capsule((-0.6, 0, 0), (0.5, 0.2, 0.1), 0.2),
    "cone": sdf.capsule((-0.6, 0, 0), (0.6, 0, 0), 0.3, 0.05),
    "disc": sdf.disc(0.8, 0.15, 0.05),
    "torus": sdf.torus(0.6, 0.2),
    "arc": sdf.arc(0.7, 0.9, 0.12),
    "wide arc": sdf.arc(0.6, 2.4, 0.12),
    "lathe": sdf.lathe([(0.0, 0.0), (0.6, 0.0), (0.9, 0.3)], 0.04),
    "zigzag": sdf.zigzag(0.9, 0.1, 9, 0.04),
    "tight zigzag": sdf.zigzag(0.9, 0.12, 17, 0.04),
    "sheet": sdf.sheet(0.6, 0.03, 0.1, 6, 0.4),
    "moved": BALL.moved(0.3, -0.2, 0.1),
    "grown": sdf.box(0.4, 0.3, 0.2).grown(0.1),
    "bent": sdf.capsule((-0.8, 0, 0), (0.8, 0, 0), 0.2).bent(0.2, -0.1),
    "draped": sdf.zigzag(0.8, 0.1, 9, 0.04).draped(0.16),
    "displaced": BALL.displaced(lambda p: 0.02 * torch.sin(8.0 * p[0]), 0.02),
    "union": sdf.union(BALL, sdf.box(0.7, 0.1, 0.1)),
    "smooth union": sdf.smooth_union(0.2, BALL, BALL.moved(0.7)),
    "cut": sdf.smooth_cut(BALL, sdf.capsule((-1, 0, 0.4), (1, 0, 0.4), 0.2), 0.05),
    "half": sdf.half_space((0, 0.5, 1), 0.1, BALL),
}


def cloud(count: int, seed: int, reach: float = 1.4) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(3, count, generator=generator, dtype=torch.float64) * 2 - 1) * reach


@pytest.mark.parametrize("name", SHAPES)
def test_a_step_of_the_distance_goes_through_no_surface(name):
    """The ball around a point whose radius is the distance there holds no inside point."""
    shape = SHAPES[name]
    points = cloud(1500, 1)
    distance = shape.distance(points)
    points, distance = points[:, distance > 0.01], distance[distance > 0.01]
    for seed in range(12):
        way = cloud(points.shape[1], 10 + seed)
        there = points + way / sdf.length(way) * distance * 0.97
        assert float(shape.distance(there).min()) > -0.012


@pytest.mark.parametrize("name", SHAPES)
def test_a_distance_changes_no_faster_than_one_moves(name):
    shape = SHAPES[name]
    here, step = cloud(4000, 2), cloud(4000, 3, 0.01)
    change = (shape.distance(here + step) - shape.distance(here)).abs() / sdf.length(step)
    assert float(change.quantile(0.995)) < 1.08
    assert float(change.max()) > 0.1, "a field this flat would never be reached"


@pytest.mark.parametrize("name", SHAPES)
def test_the_box_holds_the_shape(name):
    shape = SHAPES[name]
    points = cloud(40000, 4)
    inside = points[:, shape.distance(points) <= 0]
    assert inside.shape[1] > 5
    assert bool((inside >= sdf.column(*shape.low) - 1e-9).all())
    assert bool((inside <= sdf.column(*shape.high) + 1e-9).all())


coordinate = st.floats(-2, 2)


@given(coordinate, coordinate, coordinate)
def test_plain_shapes_agree_with_their_formulas(x, y, z):
    p = sdf.column(x, y, z)
    rho = math.hypot(x, y)
    assert float(sdf.sphere(0.7).distance(p)) == pytest.approx(math.hypot(x, y, z) - 0.7)
    ring = math.hypot(rho - 0.8, z) - 0.1
    assert float(sdf.torus(0.8, 0.1).distance(p)) == pytest.approx(ring)
    beyond = [max(abs(v) - h, 0.0) for v, h in zip((x, y, z), (0.5, 0.4, 0.3), strict=True)]
    if any(beyond):
        assert float(sdf.box(0.5, 0.4, 0.3).distance(p)) == pytest.approx(math.hypot(*beyond))
        along = min(max(x, -0.5), 0.5)
        tube = math.hypot(x - along, y, z) - 0.2
        bar = sdf.capsule((-0.5, 0, 0), (0.5, 0, 0), 0.2)
        assert float(bar.distance(p)) == pytest.approx(tube)
        plate = math.hypot(max(rho - 0.6, 0.0), max(abs(z) - 0.1, 0.0))
        if plate > 0:
            assert float(sdf.disc(0.6, 0.1).distance(p)) == pytest.approx(plate)


@given(coordinate, coordinate, st.floats(0.01, 1.0))
def test_a_smooth_minimum_fills_the_seam_and_nothing_else(a, b, blend):
    value = float(sdf.smooth_min(torch.tensor(a), torch.tensor(b), blend))
    assert min(a, b) - blend / 4 - 1e-6 <= value <= min(a, b) + 1e-6
    if abs(a - b) >= blend:
        assert value == pytest.approx(min(a, b))


def test_an_arc_is_the_torus_within_its_angle_and_a_ball_at_its_ends():
    arc, ring = sdf.arc(0.7, 0.9, 0.1), sdf.torus(0.7, 0.1)
    for angle in (-0.8, 0.0, 0.5):
        p = sdf.column(0.9 * math.sin(angle), 0.9 * math.cos(angle), 0.1)
        assert float(arc.distance(p)) == pytest.approx(float(ring.distance(p)))
    end = sdf.column(0.7 * math.sin(0.9), 0.7 * math.cos(0.9), 0.0)
    p = sdf.column(1.0, 0.1, 0.2)
    assert float(arc.distance(p)) == pytest.approx(float(sdf.length(p - end)) - 0.1)
