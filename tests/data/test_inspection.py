import hashlib
import importlib.util
import json
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest
from PIL import Image

from course_lib.data import inspection
from course_lib.data.images import PictureMemoryError, open_image
from course_lib.data.inspection import inspect
from course_lib.training import OutOfMemoryError
from course_lib.training.memory import told_when_full
from tests.weights.test_hostile import little_memory

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture
def looked_at(monkeypatch):
    """The sizes of what is really decoded, by watching the real check."""
    seen = []
    real = inspection.verify

    def watched(data, side):
        seen.append(len(data))
        return real(data, side)

    monkeypatch.setattr(inspection, "verify", watched)
    return seen


def test_pictures_damaged_ones_and_other_things(tmp_path, save_picture):
    good = save_picture(tmp_path / "good.jpg")
    nameless = save_picture(tmp_path / "photo", format="PNG")
    wrong_ending = save_picture(tmp_path / "photo.txt", format="WEBP")
    lying = save_picture(tmp_path / "lying.png", format="JPEG")
    broken = tmp_path / "broken.JPG"
    broken.write_bytes(good.read_bytes()[:-30])
    broken_too = tmp_path / "nameless-and-broken"
    broken_too.write_bytes(good.read_bytes()[:-30])
    text = tmp_path / "labels.csv"
    text.write_text("file,label")
    fake = tmp_path / "fake.png"
    fake.write_text("file,label")
    phone = tmp_path / "IMG_1.HEIC"
    phone.write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0")
    raw = tmp_path / "IMG_1.CR3"
    raw.write_bytes(b"\0\0\0\x18ftypcrx \0\0\0\1crx isom")

    paths = [good, nameless, wrong_ending, lying, broken, broken_too, text, fake, phone, raw]
    found = inspect(paths, tmp_path)
    assert list(found.whole) == [good, nameless, wrong_ending, lying]
    assert found.whole[good] == hashlib.sha256(good.read_bytes()).hexdigest()
    assert list(found.skipped) == [broken, broken_too, fake, phone, raw]
    assert "truncated" in found.skipped[broken]
    assert found.skipped[phone]  # damaged, or the package for HEIC is missing
    assert "a camera's raw format" in found.skipped[raw]
    assert found.ignored == [text]


def test_links_and_special_files_are_reported(tmp_path):
    (tmp_path / "link.jpg").symlink_to(tmp_path / "nowhere.jpg")
    (tmp_path / "self.jpg").symlink_to(tmp_path / "self.jpg")
    files = [tmp_path / "link.jpg", tmp_path / "self.jpg"]
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.jpg")
        files.append(tmp_path / "pipe.jpg")
    found = inspect(files, tmp_path)
    assert list(found.skipped) == files
    assert not found.whole


def test_what_was_whole_is_not_looked_at_again(tmp_path, save_picture, looked_at, own_cache):
    files = [save_picture(tmp_path / f"{n}.jpg") for n in range(3)]
    first = inspect(files, tmp_path)
    assert len(looked_at) == 3
    again = inspect(files, tmp_path)
    assert len(looked_at) == 3
    assert again.whole == first.whole
    assert [each.suffix for each in (own_cache / "inspected").iterdir()] == [".json"]


def test_a_changed_file_is_looked_at_again(tmp_path, save_picture, looked_at):
    path = save_picture(tmp_path / "x.jpg")
    inspect([path], tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])  # another size
    assert inspect([path], tmp_path).skipped
    path.write_bytes(whole[:-20] + bytes(20))  # the old size, at another time
    os.utime(path, ns=(1, 1))
    assert inspect([path], tmp_path).skipped
    assert len(looked_at) == 3


def test_what_was_whole_is_checked_again_when_heic_can_no_longer_be_read(
    tmp_path, save_picture, looked_at, monkeypatch
):
    path = save_picture(tmp_path / "x.jpg")
    found = importlib.util.find_spec("pillow_heif")
    inspect([path], tmp_path)
    other = None if found else importlib.util.find_spec("json")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: other)
    inspect([path], tmp_path)
    assert len(looked_at) == 2


def test_damaged_files_are_looked_at_every_time(tmp_path, save_picture, looked_at):
    path = save_picture(tmp_path / "x.jpg")
    path.write_bytes(path.read_bytes()[:-20])
    for _ in range(2):
        assert path in inspect([path], tmp_path).skipped
    assert len(looked_at) == 2


@pytest.mark.parametrize(
    "notes",
    [
        "",
        "{",
        "[]",
        "null",
        '{"version": "0", "files": {}}',
        '{"version": 1}',
        "\0",
        '{"files": 3}',
    ],
)
def test_damaged_notes_do_no_harm(tmp_path, save_picture, looked_at, own_cache, notes):
    path = save_picture(tmp_path / "x.jpg")
    inspect([path], tmp_path)
    (file,) = (own_cache / "inspected").iterdir()
    file.write_text(notes)
    assert list(inspect([path], tmp_path).whole) == [path]
    assert len(looked_at) == 2
    inspect([path], tmp_path)
    assert len(looked_at) == 2  # and they are good again


@pytest.mark.parametrize("entry", [None, [], [1], "x", {"a": 1}, [1, 2, 3, 4]])
def test_a_damaged_entry_does_no_harm(tmp_path, save_picture, own_cache, entry):
    path = save_picture(tmp_path / "x.jpg")
    expected = inspect([path], tmp_path).whole
    (file,) = (own_cache / "inspected").iterdir()
    notes = json.loads(file.read_text())
    notes["files"]["x.jpg"] = entry
    file.write_text(json.dumps(notes))
    assert inspect([path], tmp_path).whole == expected


def test_without_a_cache_it_works_all_the_same(tmp_path, save_picture, monkeypatch):
    (tmp_path / "file").write_text("a file where the cache should be")
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path / "file"))
    path = save_picture(tmp_path / "x.jpg")
    for _ in range(2):
        assert list(inspect([path], tmp_path).whole) == [path]


def test_two_data_sets_have_notes_of_their_own(tmp_path, save_picture, own_cache):
    for name in "ab":
        inspect([save_picture(tmp_path / name / "x.jpg")], tmp_path / name)
    assert len(list((own_cache / "inspected").iterdir())) == 2


def test_strange_file_names(tmp_path, save_picture):
    names = ["with space.jpg", "Käse.jpg", "香肠.jpg", "a;b'c.jpg", "100%.jpg"]
    if os.name == "posix":
        names += ["new\nline.jpg", os.fsdecode(b"latin-\xe4.jpg")]
    files = [save_picture(tmp_path / name, seed=1, format="JPEG") for name in names]
    for _ in range(2):
        assert list(inspect(files, tmp_path).whole) == files


def test_a_small_file_takes_little_memory(tmp_path, save_picture):
    path = save_picture(tmp_path / "small.png")
    with little_memory(50 << 20):
        assert list(inspect([path], tmp_path).whole) == [path]


def test_too_little_memory_is_not_called_damage(tmp_path, save_picture):
    """Whole pictures would be left out of a data set, and the result would be another one."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    large = tmp_path / "large.png"
    Image.fromarray(np.tile(noise, (80, 80, 1))).save(large)  # 79 MB of pixels in 1 MB
    # In a process of its own: one that has run for a while holds memory that it doesn't use.
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as other:
        other.submit(opened_with_little_memory, large).result()
    assert list(inspect([large], tmp_path).whole) == [large]


def opened_with_little_memory(path):
    with little_memory(60 << 20):
        with pytest.raises(PictureMemoryError, match=r"large\.png"):
            inspect([path], path.parent)
        told = told_when_full("here", "Take a smaller batch.")
        with pytest.raises(OutOfMemoryError, match="a smaller batch"), told:
            open_image(path)
