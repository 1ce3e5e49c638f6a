"""Shapes as signed distances, and the operators that combine them.

A signed distance field answers one question: how far is this point from the surface?
(Negative means inside.) That is all a ray marcher needs, and it makes soft, rounded things such
as bread easy: a *smooth* minimum of two distances is the union of two shapes, grown together.

Points are float64 tensors of shape (3, N), rows x, y, z; z is up; distances have shape (N,).
A `Shape` also carries a box that holds it, which the marcher uses to skip empty space.
Every distance may be too small, never much too large: marching on it must not jump through
a surface. J. C. Hart, "Sphere tracing" (The Visual Computer 12, 1996) is the classic account.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

Field = Callable[[Tensor], Tensor]
Vector = tuple[float, float, float]


def length(vector: Tensor) -> Tensor:
    """Euclidean length of each column: (3, N) or (2, N) to (N,)."""
    total = vector[0] * vector[0]
    for row in vector[1:]:
        total = total + row * row
    return total.sqrt()


def dot(a: Tensor, b: Tensor) -> Tensor:
    """Row-wise inner product of two (3, N) tensors: (N,)."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def column(x: float, y: float, z: float) -> Tensor:
    """One point as a (3, 1) tensor, ready to broadcast."""
    return torch.tensor([[x], [y], [z]], dtype=torch.float64)


@dataclass(frozen=True)
class Shape:
    """A distance field and the corners of a box that holds every point with distance <= 0."""

    distance: Field
    low: Vector
    high: Vector

    def moved(self, x: float = 0.0, y: float = 0.0, z: float = 0.0) -> Shape:
        """The same shape, shifted."""
        shift = column(x, y, z)
        low = (self.low[0] + x, self.low[1] + y, self.low[2] + z)
        high = (self.high[0] + x, self.high[1] + y, self.high[2] + z)
        return Shape(lambda p: self.distance(p - shift), low, high)

    def grown(self, by: float) -> Shape:
        """The shape with a skin of thickness `by` added; corners become round."""
        low, high = _padded(self.low, self.high, by)
        return Shape(lambda p: self.distance(p) - by, low, high)

    def displaced(self, height: Field, most: float, steepness: float = 1.3) -> Shape:
        """Raised by `height(p)`, at most `most`; `steepness` bounds the new gradient."""
        low, high = _padded(self.low, self.high, most)
        return Shape(lambda p: (self.distance(p) - height(p)) / steepness, low, high)

    def bent(self, sideways: float = 0.0, upward: float = 0.0) -> Shape:
        """Curved like a banana: the point at x moves by `sideways`·x² in y, `upward`·x² in z."""
        reach = max(abs(self.low[0]), abs(self.high[0]))
        steep = 2.0 * reach * math.hypot(sideways, upward)
        factor = 1.0 / (0.5 * steep + math.sqrt(1.0 + 0.25 * steep * steep))

        def distance(p: Tensor) -> Tensor:
            x2 = p[0].clamp(-reach, reach) ** 2
            moved = torch.stack([p[0], p[1] - sideways * x2, p[2] - upward * x2])
            return self.distance(moved) * factor

        shift = (0.0, sideways * reach**2, upward * reach**2)
        low = tuple(v + min(0.0, s) for v, s in zip(self.low, shift, strict=True))
        high = tuple(v + max(0.0, s) for v, s in zip(self.high, shift, strict=True))
        return Shape(distance, low, high)  # type: ignore[arg-type]

    def draped(self, radius: float) -> Shape:
        """Laid over a cylinder of `radius` along the x axis (for |y| up to 0.8 of the radius)."""

        def distance(p: Tensor) -> Tensor:
            y = p[1].clamp(-0.8 * radius, 0.8 * radius)
            lift = (radius * radius - y * y).sqrt()
            return self.distance(torch.stack([p[0], p[1], p[2] - lift])) * 0.5

        low = (self.low[0], self.low[1], self.low[2] + 0.6 * radius)
        return Shape(distance, low, (self.high[0], self.high[1], self.high[2] + radius))


def _padded(low: Vector, high: Vector, by: float) -> tuple[Vector, Vector]:
    return (
        (low[0] - by, low[1] - by, low[2] - by),
        (high[0] + by, high[1] + by, high[2] + by),
    )


def sphere(radius: float) -> Shape:
    """A ball around the origin (exact)."""
    r = radius
    return Shape(lambda p: length(p) - r, (-r, -r, -r), (r, r, r))


def ellipsoid(a: float, b: float, c: float) -> Shape:
    """A ball stretched to half axes a, b, c. Not exact, but scaled to be a lower bound."""
    least = min(a, b, c)
    axes = column(a, b, c)
    return Shape(lambda p: (length(p / axes) - 1.0) * least, (-a, -b, -c), (a, b, c))


def box(x: float, y: float, z: float, rounding: float = 0.0) -> Shape:
    """A box of half sizes x, y, z (exact), its edges rounded inwards by `rounding`."""
    inner = column(x - rounding, y - rounding, z - rounding)

    def distance(p: Tensor) -> Tensor:
        q = p.abs() - inner
        outside = length(q.clamp_min(0.0))
        inside = torch.maximum(q[0], torch.maximum(q[1], q[2])).clamp_max(0.0)
        return outside + inside - rounding

    return Shape(distance, (-x, -y, -z), (x, y, z))


def capsule(start: Vector, end: Vector, radius: float, end_radius: float | None = None) -> Shape:
    """All points within `radius` of a segment; tapering evenly to `end_radius` if given."""
    last = radius if end_radius is None else end_radius
    a, along = column(*start), column(*(e - s for s, e in zip(start, end, strict=True)))
    span = max(float((along * along).sum()), 1e-12)
    taper = last - radius
    # A cone's distance, measured across its axis instead of its side, is too long by this factor.
    factor = 1.0 / math.sqrt(1.0 + taper * taper / span)

    def distance(p: Tensor) -> Tensor:
        q = p - a
        share = ((q * along).sum(0) / span).clamp(0.0, 1.0)
        reach = length(q - along * share)
        return (reach - radius - taper * share) * factor

    low = tuple(min(s - radius, e - last) for s, e in zip(start, end, strict=True))
    high = tuple(max(s + radius, e + last) for s, e in zip(start, end, strict=True))
    return Shape(distance, low, high)  # type: ignore[arg-type]


def disc(radius: float, half_height: float, rounding: float = 0.0) -> Shape:
    """An upright cylinder with rounded edges (exact)."""
    r, h = radius - rounding, half_height - rounding

    def distance(p: Tensor) -> Tensor:
        side = length(p[:2]) - r
        top = p[2].abs() - h
        outside = (side.clamp_min(0.0) ** 2 + top.clamp_min(0.0) ** 2).sqrt()
        return outside + torch.maximum(side, top).clamp_max(0.0) - rounding

    return Shape(distance, (-radius, -radius, -half_height), (radius, radius, half_height))


def torus(ring: float, tube: float) -> Shape:
    """A ring lying flat: radius `ring` to the middle of a tube of radius `tube` (exact)."""
    reach = ring + tube
    return Shape(
        lambda p: ((length(p[:2]) - ring) ** 2 + p[2] ** 2).sqrt() - tube,
        (-reach, -reach, -tube),
        (reach, reach, tube),
    )


def arc(ring: float, half_angle: float, tube: float) -> Shape:
    """The part of a torus within `half_angle` of the y axis, with round ends (exact)."""
    s, c = math.sin(half_angle), math.cos(half_angle)

    def distance(p: Tensor) -> Tensor:
        x = p[0].abs()
        beyond = c * x > s * p[1]
        reach = torch.where(beyond, s * x + c * p[1], length(p[:2]))
        squared = dot(p, p) + ring * ring - 2.0 * ring * reach
        return squared.clamp_min(0.0).sqrt() - tube

    wide = ring * (s if half_angle < math.pi / 2 else 1.0) + tube
    return Shape(distance, (-wide, ring * min(c, 1.0) - tube, -tube), (wide, ring + tube, tube))


def lathe(profile: Sequence[tuple[float, float]], thickness: float) -> Shape:
    """A line of (radius, height) points turned about the z axis, as on a wheel (exact)."""
    pairs = list(pairwise(profile))

    def distance(p: Tensor) -> Tensor:
        rho, z = length(p[:2]), p[2]
        nearest: Tensor | None = None
        for (r0, z0), (r1, z1) in pairs:
            dr, dz = r1 - r0, z1 - z0
            share = (((rho - r0) * dr + (z - z0) * dz) / (dr * dr + dz * dz)).clamp(0.0, 1.0)
            squared = (rho - r0 - share * dr) ** 2 + (z - z0 - share * dz) ** 2
            nearest = squared if nearest is None else torch.minimum(nearest, squared)
        assert nearest is not None
        return nearest.sqrt() - thickness

    wide = max(r for r, _ in profile) + thickness
    heights = [z for _, z in profile]
    return Shape(
        distance,
        (-wide, -wide, min(heights) - thickness),
        (wide, wide, max(heights) + thickness),
    )


def zigzag(half_length: float, amplitude: float, strokes: int, radius: float) -> Shape:
    """A tube of sauce drawn to and fro along the x axis, in the plane z = 0.

    Only the stroke below a point and its two neighbours are looked at, so the distance is exact
    near the tube.
    """
    stride = 2.0 * half_length / strokes
    span = stride * stride + 4.0 * amplitude * amplitude

    def distance(p: Tensor) -> Tensor:
        here = ((p[0] + half_length) / stride).floor()
        nearest: Tensor | None = None
        for step in (-1.0, 0.0, 1.0):
            cell = (here + step).clamp(0.0, strokes - 1.0)
            side = 1.0 - 2.0 * torch.remainder(cell, 2.0)
            x = p[0] + half_length - cell * stride
            y = p[1] + side * amplitude
            rise = 2.0 * amplitude * side
            share = ((x * stride + y * rise) / span).clamp(0.0, 1.0)
            squared = (x - share * stride) ** 2 + (y - share * rise) ** 2
            nearest = squared if nearest is None else torch.minimum(nearest, squared)
        assert nearest is not None
        return (nearest + p[2] ** 2).sqrt() - radius

    wide, deep = half_length + radius, amplitude + radius
    return Shape(distance, (-wide, -deep, -radius), (wide, deep, radius))


def sheet(radius: float, thickness: float, ruffle: float, folds: int, phase: float) -> Shape:
    """A round leaf whose rim goes up and down `folds` times by `ruffle`: lettuce, ham, bacon."""
    steep = math.sqrt(1.0 + (ruffle * (folds + 3.0) / radius) ** 2)

    def distance(p: Tensor) -> Tensor:
        rho = length(p[:2])
        angle = torch.atan2(p[1], p[0])
        share = (rho / radius).clamp_max(1.1)
        wave = ruffle * share * share * torch.sin(folds * angle + phase + 2.0 * share)
        slab = ((p[2] - wave).abs() - thickness) / steep
        rim = rho - radius * (0.93 + 0.07 * torch.sin(5.0 * angle + 2.0 * phase))
        return torch.maximum(slab, 0.8 * rim)

    tall = 1.3 * ruffle + thickness
    return Shape(distance, (-radius, -radius, -tall), (radius, radius, tall))


def half_space(normal: Vector, offset: float, of: Shape) -> Shape:
    """The part of `of` where normal·p <= offset: a cut with a straight knife."""
    n = column(*normal) / math.sqrt(sum(v * v for v in normal))
    return Shape(lambda p: torch.maximum(of.distance(p), (p * n).sum(0) - offset), of.low, of.high)


def union(*shapes: Shape) -> Shape:
    """All of the shapes together."""
    return smooth_union(0.0, *shapes)


def smooth_union(blend: float, *shapes: Shape) -> Shape:
    """The shapes grown together; `blend` is the width of the seam that is filled in."""

    def distance(p: Tensor) -> Tensor:
        total = shapes[0].distance(p)
        for shape in shapes[1:]:
            total = smooth_min(total, shape.distance(p), blend)
        return total

    low = tuple(min(s.low[i] for s in shapes) for i in range(3))
    high = tuple(max(s.high[i] for s in shapes) for i in range(3))
    padded = _padded(low, high, blend / 4.0)  # type: ignore[arg-type]
    return Shape(distance, *padded)


def smooth_min(a: Tensor, b: Tensor, blend: float) -> Tensor:
    """The smaller value, rounded off where both are within `blend` of each other."""
    if blend <= 0.0:
        return torch.minimum(a, b)
    near = (1.0 - (a - b).abs() / blend).clamp_min(0.0)
    return torch.minimum(a, b) - near * near * (blend / 4.0)


def smooth_cut(shape: Shape, tool: Shape, blend: float) -> Shape:
    """`shape` with `tool` carved out of it, the edge rounded by `blend`."""
    return Shape(
        lambda p: -smooth_min(-shape.distance(p), tool.distance(p), blend), shape.low, shape.high
    )
