"""What things are made of: colours, noise and the patterns that turn shapes into food.

A material gives each point of a surface its colour (linear light, not the sRGB numbers of a
file), how glossy it is, and small bumps. Noise comes from an integer hash, so that a picture is
the same on every machine: integers don't round.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from course_lib.renderer.sdf import Field, length

Paint = Callable[[Tensor], Tensor]
"""Points (3, N) in the object's own coordinates to linear RGB (3, N)."""


@dataclass(frozen=True)
class Material:
    """How a surface answers light.

    gloss: share of mirror-like reflection, 0 (cloth) to 1 (metal).
    sharpness: how small highlights are (the exponent of Blinn and Phong).
    wrap: how far light creeps round the surface, a cheap stand-in for the glow of bread or cheese.
    metal: whether the reflection takes the surface's colour and nothing is scattered.
    bump: height of small bumps, seen by the shading alone.
    """

    paint: Paint
    gloss: float = 0.1
    sharpness: float = 30.0
    wrap: float = 0.2
    metal: bool = False
    bump: Field | None = None


def rgb(code: str) -> Tensor:
    """'#d9a05b' as linear light: a (3, 1) tensor."""
    values = [int(code[i : i + 2], 16) / 255.0 for i in (1, 3, 5)]
    return torch.tensor([[v**2.2] for v in values], dtype=torch.float64)


def mix(a: Tensor, b: Tensor, share: Tensor) -> Tensor:
    """From a (share 0) to b (share 1); a and b are (3, 1) or (3, N), share is (N,)."""
    return a + (b - a) * share


def ramp(value: Tensor, start: float, end: float) -> Tensor:
    """0 at `start`, 1 at `end`, smooth between (either order)."""
    t = ((value - start) / (end - start)).clamp(0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def hashed(x: Tensor, y: Tensor, z: Tensor | int = 0) -> Tensor:
    """A pseudo-random number in [0, 1) for each integer lattice point (int64 tensors)."""
    return _scramble(x * 374761393 ^ y * 668265263 ^ z * 927340031)


def _scramble(h: Tensor) -> Tensor:
    h = h & 0xFFFFFFFF
    h = (h ^ (h >> 15)).mul_(739982445).bitwise_and_(0xFFFFFFFF)
    h = (h ^ (h >> 13)).mul_(695872825).bitwise_and_(0xFFFFFFFF)
    return (h ^ (h >> 16)).double().mul_(1.0 / 4294967296.0)


def noise(p: Tensor, seed: int = 0) -> Tensor:
    """Smooth random hills: lattice values in [0, 1), blended. Points (3, N) to (N,)."""
    cell = p.floor()
    f = p - cell
    f = f * f * (3.0 - 2.0 * f)
    lattice = cell.long()
    xs = [(lattice[0] + i + seed * 7919) * 374761393 for i in (0, 1)]
    ys = [(lattice[1] + i) * 668265263 for i in (0, 1)]
    zs = [(lattice[2] + i) * 927340031 for i in (0, 1)]
    planes = []
    for z in zs:
        rows = []
        for y in ys:
            yz = y ^ z
            a, b = _scramble(xs[0] ^ yz), _scramble(xs[1] ^ yz)
            rows.append(a + (b - a) * f[0])
        planes.append(rows[0] + (rows[1] - rows[0]) * f[1])
    return planes[0] + (planes[1] - planes[0]) * f[2]


def fractal(p: Tensor, octaves: int = 3, seed: int = 0) -> Tensor:
    """Noise at doubling frequencies and halving strength, in [0, 1)."""
    total, weight = noise(p, seed), 1.0
    for octave in range(1, octaves):
        total = total + noise(p * 2.0**octave, seed + octave) * 0.5**octave
        weight += 0.5**octave
    return total / weight


def stretched(p: Tensor, x: float, y: float, z: float) -> Tensor:
    """Points scaled apart along each axis, to make noise streaky."""
    return torch.stack([p[0] * x, p[1] * y, p[2] * z])


def plain(colour: Tensor, variation: float = 0.12, scale: float = 5.0, seed: int = 0) -> Paint:
    """One colour with soft patches a little darker and lighter."""
    return lambda p: colour * (1.0 - variation + 2.0 * variation * noise(p * scale, seed))


def two_tone(a: Tensor, b: Tensor, scale: float, sharp: float = 0.2, seed: int = 0) -> Paint:
    """Patches of two colours: melted cheese, chocolate chips, rust."""
    return lambda p: mix(a, b, ramp(fractal(p * scale, 2, seed), 0.5 - sharp, 0.5 + sharp))


def bread(
    crust: Tensor, pale: Tensor, crumb: Tensor, top: float, inside: Field | None, seed: int
) -> Paint:
    """Baked crust: dark where it rose to `top`, paler below; crumb where `inside` is below 0."""

    def paint(p: Tensor) -> Tensor:
        patches = fractal(p * 3.0, 2, seed)
        browned = ramp(p[2] / top + 0.7 * (patches - 0.5), 0.25, 0.95)
        colour = mix(pale, crust, browned)
        flecks = noise(p * 22.0, seed + 9)
        colour = colour * (0.9 + 0.2 * flecks)
        if inside is None:
            return colour
        holes = 0.86 + 0.2 * noise(p * 30.0, seed + 5)
        return mix(crumb * holes, colour, ramp(inside(p), 0.0, 0.035))

    return paint


def sausage_skin(base: Tensor, dark: Tensor, grill: float, skew: float, seed: int) -> Paint:
    """Glossy skin along the x axis; `grill` (0 to 1) is how black the stripes of the grill are."""
    char = rgb("#2a130b")

    def paint(p: Tensor) -> Tensor:
        colour = mix(base, dark, ramp(fractal(stretched(p, 3.0, 5.0, 5.0), 2, seed), 0.35, 0.75))
        if grill <= 0.0:
            return colour
        wobble = 0.15 * noise(p * 6.0, seed + 3)
        phase = (p[0] + skew * p[1] + wobble) * 4.2
        stripe = ramp((phase - phase.floor() - 0.5).abs(), 0.2, 0.08)
        return mix(colour, char, grill * stripe * (0.6 + 0.4 * noise(p * 14.0, seed + 4)))

    return paint


def speckled(base: Paint, spot: Tensor, scale: float, amount: float, seed: int) -> Paint:
    """`base` with small spots: banana flecks, herbs, poppy seeds."""

    def paint(p: Tensor) -> Tensor:
        spots = ramp(noise(p * scale, seed), 1.0 - amount, 1.0 - 0.7 * amount)
        return mix(base(p), spot, spots)

    return paint


def bumps(scale: float, height: float, seed: int = 0) -> Field:
    """Fine relief for `Material.bump`."""
    return lambda p: height * noise(p * scale, seed)


# Tables, boards and cloths: patterns over x and y. -----------------------------------------


def wood(light: Tensor, dark: Tensor, plank: float, seed: int) -> Paint:
    """Planks along x, each with its own tone, grain and gap."""

    def paint(p: Tensor) -> Tensor:
        row = (p[1] / plank).floor()
        number = row.long() + seed
        tone = hashed(number, number * 0 + 17)
        shifted = torch.stack([p[0] * 0.7 + 31.0 * tone, p[1] * 7.0, p[2] * 2.0])
        rings = fractal(shifted, 3, seed)
        lines = 0.5 + 0.5 * torch.sin(40.0 * rings + 6.0 * noise(shifted * 0.5, seed + 2))
        grain = noise(stretched(p, 3.0, 60.0, 3.0), seed + 1)
        colour = mix(light, dark, 0.25 * lines + 0.3 * grain + 0.45 * rings)
        edge = (p[1] / plank - row - 0.5).abs()
        gap = 1.0 - 0.75 * ramp(edge, 0.485, 0.498)
        return colour * (0.75 + 0.5 * tone) * gap

    return paint


def gingham(a: Tensor, b: Tensor, size: float) -> Paint:
    """Checked cloth: full colour where stripes cross, half where one runs."""

    def paint(p: Tensor) -> Tensor:
        thread = 0.93 + 0.07 * torch.sin(p[0] * 160.0) * torch.sin(p[1] * 160.0)
        stripes = [ramp(((v / size) - (v / size).floor() - 0.5).abs(), 0.24, 0.26) for v in p[:2]]
        return mix(a, b, 0.5 * (stripes[0] + stripes[1])) * thread

    return paint


def striped(a: Tensor, b: Tensor, size: float) -> Paint:
    """Cloth with broad stripes."""

    def paint(p: Tensor) -> Tensor:
        thread = 0.93 + 0.07 * torch.sin(p[0] * 140.0) * torch.sin(p[1] * 140.0)
        v = p[1] / size
        return mix(a, b, ramp((v - v.floor() - 0.5).abs(), 0.36, 0.38)) * thread

    return paint


def tiles(a: Tensor, b: Tensor, grout: Tensor, size: float, seed: int) -> Paint:
    """Square tiles, each between colours a and b, with joints."""

    def paint(p: Tensor) -> Tensor:
        cell = (p[:2] / size).floor()
        tone = hashed(cell[0].long() + seed, cell[1].long())
        edge = (p[:2] / size - cell - 0.5).abs()
        joint = ramp(torch.maximum(edge[0], edge[1]), 0.475, 0.487)
        return mix(mix(a, b, tone) * (0.92 + 0.16 * noise(p * 3.0, seed)), grout, joint)

    return paint


def marble(base: Tensor, vein: Tensor, scale: float, seed: int) -> Paint:
    """Stone with veins where the noise crosses its middle."""

    def paint(p: Tensor) -> Tensor:
        clouds = fractal(p * scale, 4, seed)
        veins = ramp((clouds - 0.5).abs(), 0.05, 0.0) * noise(p * scale * 0.6, seed + 8)
        return mix(base * (0.85 + 0.3 * clouds), vein, 0.8 * veins)

    return paint


def ringed(inner: Paint, band: Tensor, radius: float, width: float) -> Paint:
    """A plate's painted rim: `band` between radius - width and radius."""

    def paint(p: Tensor) -> Tensor:
        away = (length(p[:2]) - radius + width / 2).abs()
        return mix(inner(p), band, ramp(away, width / 2 + 0.015, width / 2))

    return paint
