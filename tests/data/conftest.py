"""Pictures and folders to test with."""

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    """A cache of the test's own, so that no note of another run helps or hinders."""
    cache = tmp_path / "cache-of-the-test"
    monkeypatch.setenv("COURSE_CACHE", str(cache))
    return cache


@pytest.fixture
def save_picture():
    """Writes a small noisy picture; no two are equal unless their seeds are."""

    def save(path, seed=None, size=(13, 9), **options):
        path.parent.mkdir(parents=True, exist_ok=True)
        seed = sum(map(ord, str(path))) if seed is None else seed
        pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path, **options)
        return path

    return save


@pytest.fixture
def make_folders(tmp_path, save_picture):
    """Writes pictures into folders: ``make_folders({"train/hotdog": 5, ...})`` gives the root."""

    def make(counts, name="pictures", ending=".jpg"):
        root = tmp_path / name
        root.mkdir(exist_ok=True)
        for place, (folder, count) in enumerate(counts.items()):
            (root / folder).mkdir(parents=True, exist_ok=True)
            for number in range(count):
                save_picture(root / folder / f"{number:03}{ending}", seed=1000 * place + number)
        return root

    return make
