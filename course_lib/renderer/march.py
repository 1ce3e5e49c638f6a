"""Sphere tracing: follow each ray in steps as long as the distance field allows.

Each solid is marched alone, in its own coordinates, by the rays that enter its box; a depth
buffer keeps the nearest hit. Rays that are done leave the computation. Light is one soft lamp
with shadows, a sky with ambient occlusion, and reflections of a window that isn't there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

from course_lib.renderer.camera import Camera
from course_lib.renderer.materials import Material, Paint, hashed, mix, ramp, rgb
from course_lib.renderer.sdf import Shape, column, dot, length

FAR = 40.0
TILE = 96  # the picture is computed in squares of this side, small enough for the cache


def rotation(yaw: float = 0.0, pitch: float = 0.0, roll: float = 0.0) -> Tensor:
    """Turn about x by `roll`, then y by `pitch`, then z by `yaw` (radians): (3, 3)."""
    cz, sz, cy, sy = math.cos(yaw), math.sin(yaw), math.cos(pitch), math.sin(pitch)
    cx, sx = math.cos(roll), math.sin(roll)
    z = torch.tensor([[cz, -sz, 0.0], [sz, cz, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
    y = torch.tensor([[cy, 0.0, sy], [0.0, 1.0, 0.0], [-sy, 0.0, cy]], dtype=torch.float64)
    x = torch.tensor([[1.0, 0.0, 0.0], [0.0, cx, -sx], [0.0, sx, cx]], dtype=torch.float64)
    return z @ y @ x


@dataclass(frozen=True)
class Solid:
    """A shape with a material, somewhere in the world: world = turn @ local * scale + at."""

    shape: Shape
    material: Material
    at: Tensor = field(default_factory=lambda: column(0.0, 0.0, 0.0))
    turn: Tensor = field(default_factory=lambda: torch.eye(3, dtype=torch.float64))
    scale: float = 1.0
    shadow: bool = True

    def placed(
        self,
        x: float = 0.0,
        y: float = 0.0,
        z: float = 0.0,
        yaw: float = 0.0,
        pitch: float = 0.0,
        roll: float = 0.0,
        scale: float = 1.0,
    ) -> Solid:
        """Scaled, turned, then moved, on top of where it already is."""
        turn = rotation(yaw, pitch, roll)
        return replace(
            self,
            at=turn @ self.at * scale + column(x, y, z),
            turn=turn @ self.turn,
            scale=self.scale * scale,
        )

    @cached_property
    def ball(self) -> tuple[Tensor, float]:
        """Middle (3, 1) and radius of a ball that holds the solid."""
        low, high = column(*self.shape.low), column(*self.shape.high)
        middle = self.turn @ ((low + high) / 2.0) * self.scale + self.at
        return middle, float(length(high - low)) / 2.0 * self.scale

    def local(self, points: Tensor) -> Tensor:
        """World points (3, N) in the solid's own coordinates."""
        return self.turn.T @ (points - self.at) / self.scale


def placed(solids: Sequence[Solid], **pose: float) -> list[Solid]:
    """Every solid of a group moved together; the pose is that of `Solid.placed`."""
    return [solid.placed(**pose) for solid in solids]


@dataclass(frozen=True)
class Light:
    """The lamp, the sky and what glossy things mirror.

    toward: unit vector to the lamp (3, 1). softness: width of the shadow's edge.
    """

    toward: Tensor
    lamp: Tensor
    sky: Tensor
    ground: Tensor
    softness: float
    panes: float = 0.5

    def mirrored(self, direction: Tensor) -> Tensor:
        """What a mirror sees in each direction (3, N): a bright room with one window."""
        room = mix(self.ground * 0.5, self.sky, ramp(direction[2], -0.2, 0.7))
        side = torch.linalg.cross(column(0.0, 0.0, 1.0), self.toward, dim=0)
        side = side / length(side).clamp_min(1e-6)
        up = torch.linalg.cross(self.toward, side, dim=0)
        ahead = dot(direction, self.toward)
        u = (dot(direction, side) / ahead.clamp_min(0.05)).abs()
        v = (dot(direction, up) / ahead.clamp_min(0.05)).abs()
        window = ramp(u, 0.36, 0.3) * ramp(v, 0.5, 0.42) * (ahead > 0.05)
        bars = 1.0 - self.panes * ramp(u, 0.05, 0.02)
        return room + self.lamp * (2.2 * window * bars)


@dataclass(frozen=True)
class World:
    """All there is to see: solids on a table (the plane z = 0) and a blurred room behind."""

    solids: Sequence[Solid]
    table: Material
    light: Light
    room: Paint  # ray directions (3, N) to linear RGB
    table_end: float = 9.0


def _along(solids: Sequence[Solid], start: Tensor, ray: Tensor) -> list[int]:
    """Numbers of the solids that a bundle of rays from one point may meet, nearest first."""
    axis = ray.mean(1, keepdim=True)
    axis = axis / length(axis)
    spread = math.acos(float(dot(ray, axis).min().clamp(-1.0, 1.0)))
    found = []
    for number, solid in enumerate(solids):
        middle, radius = solid.ball
        away = middle - start
        distance = max(float(length(away)), 1e-9)
        angle = math.acos(max(-1.0, min(1.0, float(dot(away, axis)) / distance)))
        if distance <= radius or angle <= spread + math.asin(radius / distance):
            found.append((distance - radius, number))
    return [number for _, number in sorted(found)]


def _near(
    solids: Sequence[Solid], points: Tensor, reach: float, toward: Tensor | None = None
) -> list[Solid]:
    """The solids within `reach` of a cloud of points, or in their way in direction `toward`."""
    low, high = points.min(1, keepdim=True).values, points.max(1, keepdim=True).values
    centre, size = (low + high) / 2.0, float(length(high - low)) / 2.0
    found = []
    for solid in solids:
        middle, radius = solid.ball
        away = middle - centre
        if toward is not None:
            away = away - toward * dot(away, toward).clamp_min(0.0)
        if float(length(away)) <= radius + size + reach:
            found.append(solid)
    return found


def _entry(shape: Shape, start: Tensor, ray: Tensor, pad: float) -> tuple[Tensor, Tensor]:
    """Where rays enter and leave the shape's box (enter > leave: they miss)."""
    low, high = column(*shape.low) - pad, column(*shape.high) + pad
    inverse = 1.0 / torch.where(ray.abs() < 1e-9, 1e-9, ray)
    a, b = (low - start) * inverse, (high - start) * inverse
    near, far = torch.minimum(a, b), torch.maximum(a, b)
    enter = torch.maximum(torch.maximum(near[0], near[1]), near[2]).clamp_min(0.0)
    return enter, torch.minimum(torch.minimum(far[0], far[1]), far[2])


def _march(shape: Shape, start: Tensor, ray: Tensor, t: Tensor, end: Tensor) -> Tensor:
    """Distance along each ray at which it meets the shape; inf if it leaves at `end` first."""
    result = torch.full_like(t, math.inf)
    index = torch.arange(t.shape[0])
    for _ in range(70):
        gap = shape.distance(start + ray * t)
        hit = gap < 0.0008 * (1.0 + t)
        result[index[hit]] = t[hit]
        t = t + gap
        going = ~hit & (t < end)
        if not bool(going.all()):
            keep = going.nonzero()[:, 0]
            if keep.numel() == 0:
                break
            index, t, end = index[keep], t[keep], end[keep]
            start, ray = start[:, keep] if start.shape[1] > 1 else start, ray[:, keep]
    return result


def cast(solids: Sequence[Solid], start: Tensor, ray: Tensor) -> tuple[Tensor, Tensor]:
    """First hit of each ray from one point: distance (inf: none) and index of the solid."""
    best = torch.full((ray.shape[1],), math.inf, dtype=torch.float64)
    which = torch.full((ray.shape[1],), -1, dtype=torch.long)
    for number in _along(solids, start, ray):
        solid = solids[number]
        origin, toward = solid.local(start), solid.turn.T @ ray
        enter, leave = _entry(solid.shape, origin, toward, 0.0)
        leave = torch.minimum(leave, best / solid.scale)
        some = (enter < leave).nonzero()[:, 0]
        if some.numel() == 0:
            continue
        t = _march(solid.shape, origin, toward[:, some], enter[some], leave[some]) * solid.scale
        nearer = t < best[some]
        best[some[nearer]] = t[nearer]
        which[some[nearer]] = number
    return best, which


def lit(solids: Sequence[Solid], points: Tensor, toward: Tensor, softness: float) -> Tensor:
    """Share of the lamp that reaches each point (N,), 0 in full shadow.

    A ray that passes close by a solid is partly shaded: the closer, for its distance, the darker.
    """
    share = torch.ones(points.shape[1], dtype=torch.float64)
    casting = [solid for solid in solids if solid.shadow]
    for solid in _near(casting, points, 0.12, toward):
        open_still = (share > 0.02).nonzero()[:, 0]
        if open_still.numel() == 0:
            break
        start, ray = solid.local(points[:, open_still]), solid.turn.T @ toward
        pad = 0.12 / solid.scale
        enter, leave = _entry(solid.shape, start, ray, pad)
        some = (enter < leave).nonzero()[:, 0]
        if some.numel() == 0:
            continue
        index, start = open_still[some], start[:, some]
        t, end = enter[some].clamp_min(0.02), leave[some]
        for _ in range(18):
            gap = solid.shape.distance(start + ray * t)
            clear = (0.5 + 0.5 * gap / (softness * t + 0.004)).clamp(0.0, 1.0)
            share[index] = torch.minimum(share[index], clear * clear * (3.0 - 2.0 * clear))
            t = t + gap.clamp_min(0.02)
            keep = ((t < end) & (clear > 0.02)).nonzero()[:, 0]
            if keep.numel() == 0:
                break
            index, start, t, end = index[keep], start[:, keep], t[keep], end[keep]
    return share


def openness(solids: Sequence[Solid], points: Tensor, normals: Tensor) -> Tensor:
    """How much of the sky each point sees (N,), from three probes along the normal."""
    hidden = torch.zeros(points.shape[1], dtype=torch.float64)
    solids = _near(solids, points, 0.8)
    for reach, weight in ((0.06, 3.0), (0.16, 1.6), (0.4, 0.9)):
        probe = points + normals * reach
        free = torch.minimum(torch.full_like(hidden, reach), probe[2])
        for solid in solids:
            where = solid.local(probe)
            pad = reach / solid.scale
            low, high = column(*solid.shape.low) - pad, column(*solid.shape.high) + pad
            inside = ((where > low) & (where < high)).all(0)
            some = inside.nonzero()[:, 0]
            if some.numel():
                gap = solid.shape.distance(where[:, some]) * solid.scale
                free[some] = torch.minimum(free[some], gap)
        hidden = hidden + weight * (reach - free.clamp_min(-reach))
    return torch.exp(-1.4 * hidden)


def _surface(solid: Solid, points: Tensor) -> tuple[Tensor, Tensor]:
    """Colour and unit normal (both (3, N)) of points on a solid.

    The normal is the gradient of the field, from its values at the corners of a tetrahedron.
    """
    p = solid.local(points)
    bump = solid.material.bump
    step = 0.003
    normal = torch.zeros_like(p)
    for corner in ((1.0, -1.0, -1.0), (-1.0, -1.0, 1.0), (-1.0, 1.0, -1.0), (1.0, 1.0, 1.0)):
        at = p + column(*corner) * step
        value = solid.shape.distance(at)
        if bump is not None:
            value = value - bump(at)
        normal = normal + column(*corner) * value
    normal = solid.turn @ normal
    return solid.material.paint(p), normal / length(normal).clamp_min(1e-12)


def shade(world: World, start: Tensor, ray: Tensor) -> tuple[Tensor, Tensor]:
    """Linear light (3, N) and depth (N,) seen along rays (3, N) from the point `start`."""
    depth, which = cast(world.solids, start, ray)
    ground = torch.where(ray[2] < -1e-6, -start[2] / ray[2].clamp_max(-1e-6), math.inf)
    on_table = (ground < depth) & (ground < FAR)
    depth = torch.where(on_table, ground, depth)
    which = torch.where(on_table, len(world.solids), which)
    light = world.room(ray)
    seen = (which >= 0).nonzero()[:, 0]
    depth = depth.clamp_max(FAR)
    if seen.numel():
        points = start + ray[:, seen] * depth[seen]
        colours = _lighted(world, points, ray[:, seen], which[seen])
        # The table fades into the room at its far end.
        away = length(points[:2])
        light[:, seen] = mix(
            colours, light[:, seen], ramp(away, world.table_end, 1.6 * world.table_end)
        )
    return light, depth


def _lighted(world: World, points: Tensor, ray: Tensor, which: Tensor) -> Tensor:
    """Light sent back from surface points (3, N) against the rays that found them."""
    colour, normal = torch.empty_like(points), torch.empty_like(points)
    traits = torch.empty(4, points.shape[1], dtype=torch.float64)
    for number in which.unique().tolist():
        some = (which == number).nonzero()[:, 0]
        if number < len(world.solids):
            material = world.solids[number].material
            colour[:, some], normal[:, some] = _surface(world.solids[number], points[:, some])
        else:
            material = world.table
            colour[:, some] = material.paint(points[:, some])
            normal[:, some] = column(0.0, 0.0, 1.0)
        for row, trait in enumerate(
            (material.gloss, material.sharpness, material.wrap, float(material.metal))
        ):
            traits[row, some] = trait
    gloss, sharpness, wrap, metal = traits
    light = world.light
    raised = points + normal * 0.012
    facing = dot(normal, light.toward)
    share = torch.zeros_like(facing)
    front = (facing > -wrap).nonzero()[:, 0]
    share[front] = lit(world.solids, raised[:, front], light.toward, light.softness)
    free = openness(world.solids, points, normal)

    direct = ((facing + wrap) / (1.0 + wrap) ** 2).clamp_min(0.0) * share
    hemisphere = mix(light.ground, light.sky, 0.5 + 0.5 * normal[2])
    # Light that bounces between coloured surfaces keeps their colour in the creases.
    crease = free + (1.0 - free) * 0.35 * colour
    scattered = colour * (light.lamp * direct + hemisphere * crease) * (1.0 - metal)

    halfway = light.toward - ray
    halfway = halfway / length(halfway)
    glint = dot(normal, halfway).clamp_min(0.0) ** sharpness * (sharpness + 8.0) / 25.0
    away = ray - 2.0 * dot(ray, normal) * normal
    fresnel = 0.04 + 0.96 * (1.0 + dot(ray, normal).clamp(-1.0, 0.0)) ** 5
    polish = gloss * (fresnel + (1.0 - fresnel) * metal)
    tint = mix(column(1.0, 1.0, 1.0), colour, metal)
    mirror = light.mirrored(away) * free * (0.35 + 0.65 * share) * ramp(sharpness, 5.0, 60.0)
    return scattered + tint * polish * (mirror + light.lamp * glint * share * (facing > 0.0))


def expose(world: World, camera: Camera, height: int, width: int) -> tuple[Tensor, Tensor]:
    """The whole picture: linear light (3, height, width) and depth (height, width)."""
    rays, start = camera.rays(height, width).view(3, height, width), camera.position
    light = torch.empty(3, height, width, dtype=torch.float64)
    depth = torch.empty(height, width, dtype=torch.float64)
    for top in range(0, height, TILE):
        for left in range(0, width, TILE):
            tile = (slice(top, top + TILE), slice(left, left + TILE))
            part = rays[:, *tile]
            seen, far = shade(world, start, part.reshape(3, -1))
            light[:, *tile] = seen.view(part.shape)
            depth[tile] = far.view(part.shape[1:])
    return light, depth


def blurred_room(base: str, glow: str, seed: int) -> Paint:
    """Walls out of focus, with a few round lights."""
    wall, lamp = rgb(base), rgb(glow)

    def paint(ray: Tensor) -> Tensor:
        colour = wall * (0.6 + 0.9 * ramp(ray[2], -0.5, 0.6))
        angle, height = torch.atan2(ray[0], ray[1]) * 5.0, ray[2] * 6.0
        cell_x, cell_y = angle.floor(), height.floor()
        lot = hashed(cell_x.long() + seed, cell_y.long())
        radius = length(torch.stack([angle - cell_x - 0.5, height - cell_y - 0.5]))
        return mix(colour, lamp, 0.8 * ramp(radius, 0.34, 0.28) * (lot > 0.7))

    return paint
