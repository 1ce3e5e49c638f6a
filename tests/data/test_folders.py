import os
import shutil
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from course_lib.data import DataWarning, ImageError, hotdog, image_folder
from course_lib.errors import DataError, UnknownNameError

pytestmark = pytest.mark.usefixtures("own_cache")

D2L = {"train/hotdog": 10, "train/not-hotdog": 10, "test/hotdog": 4, "test/not-hotdog": 6}


def splits(root, **options):
    return {split: image_folder(root, split, **options) for split in ("train", "val", "test")}


def names(data):
    return [path.relative_to(data.root).as_posix() for path in data.paths]


def test_the_layout_of_the_book(make_folders, recwarn):
    root = make_folders(D2L)
    parts = splits(root)
    assert {split: len(data) for split, data in parts.items()} == {
        "train": 16,
        "val": 4,
        "test": 10,
    }
    for data in parts.values():
        assert data.classes == ("hotdog", "not-hotdog")
        assert len(data.paths) == len(data.targets) == len(data)
    assert [parts["val"].targets.count(i) for i in (0, 1)] == [2, 2]
    assert parts["test"].targets == [0] * 4 + [1] * 6
    assert not set(names(parts["train"])) & set(names(parts["val"]))
    assert sorted(names(parts["train"]) + names(parts["val"])) == sorted(
        f"train/{c}/{n:03}.jpg" for c in ("hotdog", "not-hotdog") for n in range(10)
    )
    assert "val is a fifth of train/, drawn by a seed" in parts["val"].note
    assert not recwarn.list


def test_items_are_rgb_pictures_with_their_class(make_folders):
    data = image_folder(make_folders(D2L), "test")
    image, target = data[9]
    assert image.mode == "RGB"
    assert image.size == (13, 9)
    assert target == 1
    assert data[-1][1] == 1
    assert [item[1] for item in data] == data.targets
    with pytest.raises(IndexError):
        data[10]


def test_the_transform_is_applied(make_folders):
    data = image_folder(make_folders(D2L), "test", v2.Compose([v2.ToImage(), v2.Resize((4, 5))]))
    assert data[0][0].shape == (3, 4, 5)


def test_equal_to_torchvision_on_a_clean_folder(make_folders):
    root = make_folders(D2L)
    ours, theirs = image_folder(root, "test"), ImageFolder(root / "test")
    assert list(ours.classes) == theirs.classes
    assert ours.targets == theirs.targets
    assert [str(path) for path in ours.paths] == [path for path, _ in theirs.samples]
    for mine, other in zip(ours, theirs, strict=True):
        assert np.array_equal(np.asarray(mine[0]), np.asarray(other[0]))


def test_the_drawn_split_is_the_same_every_time_and_hangs_on_the_seed(make_folders, tmp_path):
    root = make_folders(D2L)
    val = names(image_folder(root, "val"))
    assert names(image_folder(root, "val")) == val
    moved = shutil.copytree(root, tmp_path / "moved")
    assert names(image_folder(moved, "val")) == val
    assert names(image_folder(root, "val", seed=1)) != val
    everything = names(image_folder(root, "val", seed=1)) + names(image_folder(root, seed=1))
    assert len(set(everything)) == 20


def test_own_validation_and_test_folders_are_taken_as_they_are(make_folders):
    root = make_folders({f"{split}/{c}": 3 for split in ("train", "valid", "test") for c in "ab"})
    parts = splits(root)
    assert [len(data) for data in parts.values()] == [6, 6, 6]
    assert {name.split("/")[0] for name in names(parts["val"])} == {"valid"}
    assert parts["val"].note == "train is train/, val is valid/, test is test/."


def test_validation_without_test_plays_the_test_and_says_so(make_folders):
    root = make_folders({f"{split}/{c}": 5 for split in ("train", "val") for c in "ab"})
    with pytest.warns(DataWarning, match="val/ is the test split, and the val split is a fifth of"):
        parts = splits(root)
    assert {name.split("/")[0] for name in names(parts["test"])} == {"val"}
    assert {name.split("/")[0] for name in names(parts["val"])} == {"train"}
    assert [len(data) for data in parts.values()] == [8, 2, 10]


def test_two_folders_of_pictures_are_divided_and_it_says_so(make_folders):
    root = make_folders({"hot_dog": 20, "not_hot_dog": 30})
    with pytest.warns(DataWarning, match=r"not divided into train/ and test/"):
        parts = splits(root)
    assert [len(data) for data in parts.values()] == [32, 8, 10]
    assert parts["test"].targets.count(0) == 4
    assert parts["val"].targets.count(0) == 3
    everything = [name for data in parts.values() for name in names(data)]
    assert len(everything) == len(set(everything)) == 50
    assert parts["train"].classes == ("hotdog", "not-hotdog")


def test_many_classes(make_folders):
    root = make_folders(dict.fromkeys(("ant", "bee", "cat", "dog", "elk"), 3))
    with pytest.warns(DataWarning):
        parts = splits(root)
    for data in parts.values():
        assert data.classes == ("ant", "bee", "cat", "dog", "elk")
        assert sorted(set(data.targets)) == [0, 1, 2, 3, 4]
        assert len(data) == 5


def test_copies_of_a_picture_never_end_up_in_two_splits(make_folders, save_picture):
    root = make_folders({"a": 12, "b": 12})
    for number in range(0, 12, 2):
        shutil.copy(root / f"a/{number:03}.jpg", root / f"a/{number:03} (copy).jpg")
        shutil.copy(root / f"a/{number:03}.jpg", root / f"b/{number:03} (wrong class).jpg")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        contents = [{path.read_bytes() for path in data.paths} for data in splits(root).values()]
    assert not contents[0] & contents[1]
    assert not contents[0] & contents[2]
    assert not contents[1] & contents[2]


@settings(max_examples=15)
@given(
    counts=st.lists(st.integers(3, 12), min_size=2, max_size=4),
    divided=st.booleans(),
    seed=st.integers(0, 3),
)
def test_every_picture_is_in_exactly_one_split(tmp_path_factory, counts, divided, seed):
    root = tmp_path_factory.mktemp("pictures")
    for split in ("train", "test") if divided else ("",):
        for target, count in enumerate(counts):
            folder = root / split / f"class{target}"
            folder.mkdir(parents=True)
            for number in range(count):
                colour = (number, target, len(split))
                Image.new("RGB", (1, 1), colour).save(folder / f"{number}.png")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        parts = splits(root, seed=seed)
    everything = [path for data in parts.values() for path in data.paths]
    assert sorted(everything) == sorted(root.rglob("*.png"))
    for data in parts.values():
        assert set(data.targets) == set(range(len(counts)))


def test_unreadable_files_are_named_once_and_left_out(make_folders, save_picture):
    root = make_folders(D2L)
    (root / "train/hotdog/003.jpg").write_bytes(b"")
    whole = (root / "train/not-hotdog/007.jpg").read_bytes()
    (root / "train/not-hotdog/007.jpg").write_bytes(whole[: len(whole) // 2])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        train, val = image_folder(root, "train"), image_folder(root, "val")
    (warning,) = caught  # once, though both splits were made
    assert issubclass(warning.category, DataWarning)
    message = str(warning.message)
    assert message.startswith("2 files can't be read and are left out:")
    assert "train/hotdog/003.jpg: the file is empty" in message
    assert "train/not-hotdog/007.jpg: damaged or truncated" in message
    assert len(train) + len(val) == 18
    assert train.skipped == val.skipped
    assert [path.name for path in train.skipped] == ["003.jpg", "007.jpg"]
    for data in (train, val):
        assert all(image.mode == "RGB" for image, _ in data)
    assert "2 unreadable left out" in repr(train)


def test_other_files_are_ignored_quietly_and_listed(make_folders, recwarn):
    root = make_folders(D2L)
    (root / "train/hotdog/notes.txt").write_text("mustard!")
    (root / "train/hotdog/.DS_Store").write_bytes(b"\0\0\0\1Bud1")
    (root / "train/hotdog/Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0")
    (root / "train/.hidden").mkdir()
    (root / "manifest.json").write_text("{}")
    data = image_folder(root)
    assert [path.name for path in data.ignored] == ["notes.txt"]
    assert data.skipped == {}
    assert "1 other file ignored" in repr(data)
    assert not recwarn.list


def test_every_kind_of_picture_in_one_folder(make_folders, recwarn):
    root = make_folders(D2L)
    folder = root / "test" / "hotdog"
    Image.new("L", (5, 4), 9).save(folder / "grey.png")
    Image.new("P", (5, 4), 9).save(folder / "palette.PNG")
    Image.new("CMYK", (5, 4)).save(folder / "print.jpeg")
    Image.new("RGBA", (5, 4)).save(folder / "alpha.webp")
    Image.fromarray(np.zeros((4, 5), np.uint16)).save(folder / "deep.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (4, 5)).save(folder / "turned.JPG", exif=exif)
    data = image_folder(root, "test")
    assert data.targets.count(0) == 10
    assert {image.mode for image, _ in data} == {"RGB"}
    sizes = {path.name: data[i][0].size for i, path in enumerate(data.paths)}
    assert all(sizes[n] == (5, 4) for n in ("grey.png", "print.jpeg", "deep.png", "turned.JPG"))
    assert not recwarn.list


def test_an_empty_class_says_what_was_found(make_folders):
    root = make_folders({**D2L, "train/not-hotdog": 0})
    with pytest.raises(DataError) as caught:
        image_folder(root)
    message = str(caught.value)
    assert "No picture can be read in train/not-hotdog/" in message
    assert "train/hotdog/: 10 pictures" in message
    assert "train/not-hotdog/: 0 pictures" in message
    assert "Expected train/ and test/" in message


def test_a_class_of_unreadable_files_is_empty_and_they_are_named(make_folders):
    root = make_folders({**D2L, "test/hotdog": 0})
    (root / "test/hotdog/a.jpg").write_text("not a picture")
    (root / "test/hotdog/b.csv").write_text("not a picture either")
    with pytest.raises(DataError, match=r"test/hotdog/a\.jpg: not a picture") as caught:
        image_folder(root, "test")
    assert "1 file that is no picture" in str(caught.value)
    assert len(image_folder(root, "train")) == 16  # the other split is as good as ever


@pytest.mark.parametrize("content", [None, b"not a picture"])
def test_an_empty_class_in_val_is_told_when_train_is_opened(make_folders, content):
    root = make_folders({f"{split}/{c}": 5 for split in ("train", "val", "test") for c in "ab"})
    shutil.rmtree(root / "val/b")
    (root / "val/b").mkdir()
    if content:
        (root / "val/b/x.jpg").write_bytes(content)
    with pytest.warns(DataWarning, match=r"No picture can be read in val/b/ of .*, so val/ can't"):
        assert len(image_folder(root, "train")) == 10
    with pytest.raises(DataError, match="No picture can be read in val/b/"):
        image_folder(root, "val")


def test_an_unlabelled_test_doesnt_block_the_rest_and_is_told(make_folders, save_picture):
    root = make_folders({f"{split}/{c}": 5 for split in ("train", "val") for c in "ab"})
    save_picture(root / "test/1.jpg")
    with pytest.warns(DataWarning, match=r"test/ \(no class folders: its pictures have no labels"):
        parts = splits(root)
    assert {name.split("/")[0] for name in names(parts["test"])} == {"val"}
    shutil.rmtree(root / "val")
    with pytest.warns(
        DataWarning, match="train/ is not divided into .*so a seed divides it.*Not used"
    ):
        parts = splits(root)
    everything = [name for data in parts.values() for name in names(data)]
    assert sorted(everything) == sorted(f"train/{c}/{n:03}.jpg" for c in "ab" for n in range(5))


def test_classes_with_nearly_the_same_name_are_told(make_folders):
    root = make_folders({"a b": 5, "a_b": 5, "dog": 5})
    with pytest.warns(DataWarning, match="The classes 'a b' and 'a_b' differ in capitals"):
        assert image_folder(root).classes == ("a b", "a_b", "dog")


def test_many_unreadable_files_are_told_in_few_lines(make_folders):
    root = make_folders(D2L)
    for number in range(300):
        (root / f"train/hotdog/x{number}.jpg").write_bytes(b"")
    with pytest.warns(DataWarning, match=r"^300 files can't be read") as caught:
        data = image_folder(root)
    (message,) = (str(each.message) for each in caught)
    assert message.count("\n") == 20
    assert message.endswith("and 280 more")
    assert len(data.skipped) == 300


def test_photographs_as_telephones_make_them(make_folders, recwarn):
    heif = pytest.importorskip("pillow_heif")
    root = make_folders(D2L)
    picture = Image.new("RGB", (64, 48), (200, 30, 40))
    heif.from_pillow(picture).save(root / "test/hotdog/IMG_1.HEIC")
    picture.save(root / "test/hotdog/IMG_2.avif")
    picture.save(root / "test/hotdog/scan.tif")
    picture.save(root / "test/hotdog/IMG_3.jpg", "MPO", save_all=True, append_images=[picture])
    picture.save(root / "test/hotdog/old.jp2")
    data = image_folder(root, "test")
    new = {path.name: data[at][0] for at, path in enumerate(data.paths) if path.suffix != ".jpg"}
    assert sorted(new) == ["IMG_1.HEIC", "IMG_2.avif", "old.jp2", "scan.tif"]
    for image in new.values():
        assert image.size == (64, 48)
        assert np.abs(np.subtract(image.getpixel((30, 20)), (200, 30, 40))).max() <= 6
    assert not data.skipped
    assert not recwarn.list


def test_no_pictures_at_all(make_folders):
    with pytest.raises(DataError, match=r"No picture can be read in cats/ and dogs/"):
        image_folder(make_folders({"cats": 0, "dogs": 0}))


def test_too_few_pictures_to_divide(make_folders):
    root = make_folders({"train/a": 1, "train/b": 5, "test/a": 1, "test/b": 1})
    with pytest.raises(DataError, match=r"can't be divided. Class 'a' has 1 different picture"):
        image_folder(root)
    assert len(image_folder(root, "test")) == 2
    flat = make_folders({"a": 2, "b": 5}, name="flat")
    for split in ("train", "val"):
        with pytest.raises(DataError, match="make folders train/, val/ and test/ yourself"):
            image_folder(flat, split)


def test_layout_errors_come_through(tmp_path, make_folders):
    with pytest.raises(DataError, match="doesn't exist"):
        image_folder(tmp_path / "nowhere")
    with pytest.raises(DataError, match="no folder test/ or val/"):
        hotdog(make_folders({"train/hotdog": 2, "train/not-hotdog": 2}))


@pytest.mark.parametrize("make", [image_folder, hotdog])
def test_unknown_splits_are_refused_with_the_nearest_name(make, tmp_path):
    with pytest.raises(UnknownNameError, match=r"no split 'tets'.*Did you mean 'test'"):
        make(tmp_path, "tets")
    with pytest.raises(UnknownNameError, match="expected 'train', 'val' or 'test'"):
        make(tmp_path, None)


def test_a_file_that_broke_or_went_after_the_check_is_named(make_folders):
    data = image_folder(make_folders(D2L), "test")
    data.paths[0].write_bytes(data.paths[0].read_bytes()[:200])
    with pytest.raises(ImageError, match=r"000\.jpg can't be read: damaged or truncated"):
        data[0]
    data.paths[1].unlink()
    with pytest.raises(ImageError, match=r"001\.jpg can't be read: there is no such file"):
        data[1]


def test_the_note_tells_of_folders_without_a_role(make_folders):
    root = make_folders({**D2L, "sketches": 2})
    assert image_folder(root).note.endswith("Not used: sketches/.")


def test_a_relative_folder_stays_valid_after_a_change_of_folder(make_folders, monkeypatch):
    root = make_folders(D2L)
    monkeypatch.chdir(root)
    data = image_folder(".", "test")
    monkeypatch.chdir(root.parent)
    assert data[0][0].mode == "RGB"
    assert repr(data).startswith("<pictures, test")


def test_repr_tells_what_is_inside_and_not_where_on_this_machine(make_folders):
    data = image_folder(make_folders(D2L), "test")
    assert repr(data) == "<pictures, test: 10 pictures (4 hotdog, 6 not-hotdog)>"


def test_hotdog_without_a_folder_takes_the_bundled_pictures(make_folders, monkeypatch):
    root = make_folders(D2L, name="hotdog_rendered")
    monkeypatch.setenv("COURSE_DATA", str(root.parent))
    monkeypatch.delenv("COURSE_PROFILE", raising=False)
    assert hotdog().root == root
    assert len(hotdog(split="test")) == 10
    assert len(hotdog(split="train")) == 16


def test_missing_bundled_pictures_tell_how_to_draw_them(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    with pytest.raises(DataError, match="Draw them again with: course data render"):
        hotdog()


def test_hotdog_takes_a_folder_whatever_the_profile(make_folders, monkeypatch):
    root = make_folders(D2L)
    monkeypatch.setenv("COURSE_PROFILE", "full")
    assert len(hotdog(root, "test")) == 10
    assert len(hotdog(os.fspath(root), "test")) == 10
