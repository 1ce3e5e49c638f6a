"""Draw the bundled data set and write its manifest (:mod:`course_lib.data.manifest`).

The set is made of twins: for each seed one hot dog and one other food in the same setting (same
table, plate, clutter, light, camera, size and compression). **No picture was selected**: seeds
count up without a gap, and the negatives take turns. Train and test share no seed.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import multiprocessing
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import PIL
import torch
from PIL import Image

from course_lib.data.manifest import MANIFEST, bundled_folder, read_manifest
from course_lib.data.progress import bar
from course_lib.errors import DataError
from course_lib.paths import write_file
from course_lib.renderer.foods import HOTDOG, TURNS
from course_lib.renderer.scene import compose, render

CLASSES = ("hotdog", "not-hotdog")
FIRST_SEED = {"train": 1000, "test": 900000, "more": 500000}
PAIRS = {"test": 48, "train": 112}
MORE = {"more": 320}  # data/hotdog_more: no chapter shows them, experiments are tested on them
# The renderer had another address when the set was drawn. The text stays as it is: experiments note
# the hash of the manifest, and the set can be drawn again byte for byte.
ABOUT = (
    "Drawn by course_lib.data.render; no picture was selected. Pairs of files with one seed are "
    "twins: the same setting with other food."
)


@dataclass(frozen=True)
class Order:
    """One picture to draw."""

    split: str
    label: str
    kind: str
    seed: int

    @property
    def path(self) -> str:
        """Where the picture goes, relative to the root of the set."""
        return f"{self.split}/{self.label}/{self.seed}-{self.kind}.jpg"


def orders(pairs: dict[str, int] | None = None) -> Iterator[Order]:
    """Every picture of the set; `pairs` gives the number of twins for each split."""
    for split, count in (pairs or PAIRS).items():
        for number in range(count):
            seed = FIRST_SEED[split] + number
            yield Order(split, "hotdog", HOTDOG, seed)
            yield Order(split, "not-hotdog", TURNS[number % len(TURNS)], seed)


def encode(order: Order) -> tuple[bytes, dict[str, Any]]:
    """Draw a picture: the bytes of its JPEG file and its entry in the manifest."""
    place, _, words = compose(order.kind, order.seed)
    image = Image.fromarray(render(order.kind, order.seed).numpy())
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=place.quality, optimize=True)
    data = buffer.getvalue()
    entry = {
        "sha256": hashlib.sha256(data).hexdigest(),
        "bytes": len(data),
        "split": order.split,
        "class": order.label,
        "kind": order.kind,
        "seed": order.seed,
        "width": image.width,
        "height": image.height,
        "quality": place.quality,
        "scene": words,
    }
    return data, entry


def _draw(job: tuple[Order, str]) -> tuple[str, dict[str, Any]]:
    order, root = job
    data, entry = encode(order)
    file = Path(root) / order.path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
    return order.path, entry


def _one_thread() -> None:
    torch.set_num_threads(1)


def _drawn(jobs: list[tuple[Order, str]], workers: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Draw every job, in order, in this process (workers = 0) or in others."""
    if workers == 0:
        yield from map(_draw, jobs)
        return
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=spawn, initializer=_one_thread) as pool:
        yield from pool.map(_draw, jobs)


def build(
    root: Path | str | None = None,
    *,
    pairs: dict[str, int] | None = None,
    workers: int = 2,
) -> Path:
    """Draw the whole set into `root` and return it; the bundled set comes out byte for byte.

    Pictures are drawn into a folder beside `root` and moved in when all are there: if drawing is
    interrupted, an older set stays as it was. Files of an older set that are not part of the new
    one are removed; other files are left alone. `workers` processes draw at the same time (0:
    this one). With the same version of Pillow the files are the same on every machine.
    """
    root = bundled_folder() if root is None else Path(root)
    root.mkdir(parents=True, exist_ok=True)
    old: set[str] = set()
    with contextlib.suppress(DataError):  # there is none, or it is damaged
        old = set(read_manifest(root)["pictures"])
    with tempfile.TemporaryDirectory(dir=root.parent, prefix=".drawing-") as staging:
        jobs = [(order, staging) for order in orders(pairs)]
        drawn = bar(len(jobs), "Drawing", unit="picture", iterable=_drawn(jobs, workers))
        entries = dict(drawn)
        (root / MANIFEST).unlink(missing_ok=True)
        for path in entries:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (Path(staging) / path).replace(root / path)
    for path in old - set(entries):
        (root / path).unlink(missing_ok=True)
    manifest = {
        "about": ABOUT,
        "licence": "CC BY 4.0",
        "remake": f"course data render{' --more' if pairs == MORE else ''}",
        "pillow": PIL.__version__,
        "pictures": dict(sorted(entries.items())),
    }
    write_file(root / MANIFEST, json.dumps(manifest, indent=1) + "\n")
    return root
