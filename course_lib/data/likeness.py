"""Recognise a photograph that was saved again: at another size, in another format or quality.

A picture's sketch says, for neighbouring cells of a 17 x 17 grid, which is brighter (a difference
hash with a third answer, "about equal", so that plain backgrounds don't count as likeness), and the
colours of a 4 x 4 grid. Measured on 992 clean photographs (491,536 pairs): the sketches of a
photograph and of its copies (JPEG quality 40 to 90, a third to twice the size, 10 % brighter)
differ in at most 9 % of what they say, those of two photographs in at least 69 %; two drawings of
the bundled set in at least 28 %, two handwritten digits of scikit-learn's in at least 13 %. Copies
that are cropped by 2 % or more differ by 12 % or more and are not recognised.
"""

import base64
import binascii
from collections.abc import Sequence

import numpy as np
from PIL import Image

SMALL = 128
"""A picture may be decoded at any size from this many pixels a side for its sketch."""

MOST = 5000
"""With more pictures than this, comparing each with each takes longer than it is worth."""

_GRID = 16
_EQUAL = 4  # levels of grey
_DIFFERENT = 0.1  # of the answers that aren't "about equal" in both
_COLOUR = 30  # levels
_ANSWERS = 64  # the fewest that say something
_BITS = 4 * _GRID**2


def sketch(image: Image.Image) -> str:
    """What :func:`alike` compares, in 236 characters.

    Args:
        image: of mode RGB, upright.
    """
    side = _GRID + 1
    small = image.resize((side, side), Image.Resampling.BICUBIC, reducing_gap=3)
    colours = np.asarray(small, dtype=np.float32)
    grey = colours @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    across, down = np.diff(grey, axis=1)[:_GRID], np.diff(grey, axis=0)[:, :_GRID]
    steps = np.concatenate([across.ravel(), down.ravel()])
    answers = np.packbits(np.concatenate([steps > _EQUAL, steps < -_EQUAL]))
    quarters = colours[:_GRID, :_GRID].reshape(4, 4, 4, 4, 3).mean(axis=(1, 3)).astype(np.uint8)
    return base64.b64encode(answers.tobytes() + quarters.tobytes()).decode("ascii")


def alike(sketches: Sequence[str]) -> list[tuple[int, int]]:
    """Pairs of indices, ascending, whose pictures seem to be one; none beyond :data:`MOST`."""
    if not 2 <= len(sketches) <= MOST:
        return []
    read = [_read(each) for each in sketches]
    answers = np.stack([bits for bits, _ in read]).astype(np.float32)
    colours = np.stack([levels for _, levels in read]).astype(np.int16)
    said = answers[:, : _BITS // 2] + answers[:, _BITS // 2 :]
    pairs: list[tuple[int, int]] = []
    for start in range(0, len(read), 500):  # so that the tables stay small
        rows = slice(start, start + 500)
        either = said[rows].sum(1)[:, None] + said.sum(1) - said[rows] @ said.T
        apart = answers[rows].sum(1)[:, None] + answers.sum(1) - 2 * answers[rows] @ answers.T
        near = (apart <= _DIFFERENT * either) & (either >= _ANSWERS)
        for row, second in zip(*near.nonzero(), strict=True):
            first = start + int(row)
            if first < second and np.abs(colours[first] - colours[second]).max() <= _COLOUR:
                pairs.append((first, int(second)))
    return pairs


def _read(text: str) -> tuple[np.ndarray, np.ndarray]:
    """The answers, one by one, and the colours; of a damaged sketch one that is like no other."""
    try:
        raw = np.frombuffer(base64.b64decode(text), dtype=np.uint8)
    except (binascii.Error, ValueError):
        raw = np.zeros(0, dtype=np.uint8)
    if len(raw) != _BITS // 8 + 48:
        raw = np.zeros(_BITS // 8 + 48, dtype=np.uint8)
    return np.unpackbits(raw[: _BITS // 8]), raw[_BITS // 8 :]
