import os

import pytest

from course_lib.data.layout import class_name, files_below, read_layout
from course_lib.errors import DataError


def folders(root, *names):
    for name in names:
        (root / name).mkdir(parents=True, exist_ok=True)
    return root


@pytest.mark.parametrize(
    "name", ["hotdog", "hot-dog", "hot_dog", "Hot Dog", "HOTDOG", "hot dogs", "hotdogs", "HotDog"]
)
def test_every_spelling_of_hotdog(name):
    assert class_name(name) == "hotdog"


@pytest.mark.parametrize(
    "name",
    ["not-hotdog", "not_hotdog", "not_hot_dog", "Not Hotdog", "nothotdog", "no-hotdog",
     "non_hotdog", "not-hot-dogs", "not a hotdog", "NotHotDog"],
)  # fmt: skip
def test_every_spelling_of_not_hotdog(name):
    assert class_name(name) == "not-hotdog"


@pytest.mark.parametrize(
    "name", ["cats", "Siamese_Cats", "hot", "hotdog_stand", "香肠", "_", "not"]
)
def test_other_names_stay_as_they_are(name):
    assert class_name(name) == name


@pytest.mark.parametrize(
    ("names", "roles"),
    [
        (("train", "test"), {"train", "test"}),
        (("Train", "Validation"), {"train", "val"}),
        (("training", "valid", "testing"), {"train", "val", "test"}),
        (("TRAIN", "dev"), {"train", "val"}),
    ],
)
def test_splits_and_their_other_names(tmp_path, names, roles):
    folders(tmp_path, *(f"{name}/{cls}" for name in names for cls in ("not hotdog", "Hot-Dog")))
    layout = read_layout(tmp_path)
    assert layout.classes == ("hotdog", "not-hotdog")
    assert layout.folders.keys() == roles
    for pair in layout.folders.values():
        assert [at.name for at in pair] == ["Hot-Dog", "not hotdog"]


def test_class_folders_may_be_spelt_differently_in_each_split(tmp_path):
    folders(tmp_path, "train/hot_dog", "train/not_hot_dog", "test/Hotdog", "test/nothotdog")
    folders(tmp_path, "val/HOTDOGS", "val/no hotdog")
    layout = read_layout(tmp_path)
    assert layout.classes == ("hotdog", "not-hotdog")
    assert [at.name for at in layout.folders["test"]] == ["Hotdog", "nothotdog"]


def test_other_classes_match_whatever_their_capitals_and_separators(tmp_path):
    folders(tmp_path, "train/Red_Fox", "train/cat", "test/red fox", "test/Cat")
    layout = read_layout(tmp_path)
    assert layout.classes == ("cat", "Red_Fox")
    assert [at.name for at in layout.folders["test"]] == ["Cat", "red fox"]


def test_folders_of_classes_without_a_split(tmp_path):
    layout = read_layout(folders(tmp_path, "dogs", "cats", "birds"))
    assert layout.classes == ("birds", "cats", "dogs")
    assert layout.folders.keys() == {"all"}


def test_accents_written_in_two_ways_are_one_class(tmp_path):
    folders(tmp_path, "train/Ka\u0308se", "train/Wurst", "test/K\u00e4se", "test/Wurst")
    assert len(read_layout(tmp_path).classes) == 2


def test_train_may_be_a_class_beside_plane_and_car(tmp_path):
    layout = read_layout(folders(tmp_path, "train", "plane", "car"))
    assert layout.classes == ("car", "plane", "train")


def test_order_is_that_of_torchvision_for_names_without_capitals(tmp_path):
    from torchvision.datasets.folder import find_classes

    folders(tmp_path, "not-hotdog", "hotdog")
    assert list(read_layout(tmp_path).classes) == find_classes(str(tmp_path))[0]


def test_hidden_folders_and_leftovers_of_systems_play_no_role(tmp_path):
    folders(tmp_path, "a", "b", ".git/x", "__MACOSX/a", "@eaDir", ".ipynb_checkpoints")
    assert read_layout(tmp_path).classes == ("a", "b")


def test_folders_beside_the_splits_are_told(tmp_path):
    folders(tmp_path, "train/a", "train/b", "test/a", "test/b", "sketches")
    assert [at.name for at in read_layout(tmp_path).unused] == ["sketches"]


def refused(root):
    with pytest.raises(DataError) as caught:
        read_layout(root)
    message = str(caught.value)
    assert str(root) in message
    return message


def test_a_root_that_is_not_there_or_is_a_file(tmp_path):
    assert "doesn't exist" in refused(tmp_path / "nowhere")
    (tmp_path / "file.zip").write_bytes(b"x")
    assert "is a file, not a folder" in refused(tmp_path / "file.zip")


def test_an_empty_root_and_one_with_loose_pictures(tmp_path):
    assert "nothing in it" in refused(tmp_path)
    for number in range(3):
        (tmp_path / f"{number}.jpg").write_bytes(b"x")
    message = refused(tmp_path)
    assert "no class folders, and 3 files lying in it" in message
    assert "Expected train/ and test/" in message


def test_one_class_only(tmp_path):
    message = refused(folders(tmp_path, "hotdog"))
    assert "only one class folder, hotdog/" in message
    assert "one class can't be learnt" in message


def test_one_class_only_in_one_split(tmp_path):
    message = refused(folders(tmp_path, "train/hotdog", "train/not-hotdog", "test/hotdog"))
    assert "test has only one class folder" in message


def test_one_folder_too_high(tmp_path):
    folders(tmp_path, "hotdog/train/a", "hotdog/test/a")
    assert f"Did you mean {tmp_path / 'hotdog'}?" in refused(tmp_path)


def test_a_missing_split_is_named_with_what_is_there(tmp_path):
    folders(tmp_path, "train/a", "train/b")
    message = refused(tmp_path)
    assert "has train/ but no folder test/ or val/" in message
    assert f"give {tmp_path / 'train'} itself" in message


@pytest.mark.parametrize("there", [("test",), ("test", "valid")])
def test_missing_training_pictures(tmp_path, there):
    folders(tmp_path, *(f"{name}/{cls}" for name in there for cls in "ab"))
    message = refused(tmp_path)
    assert "no folder train/" in message
    assert all(f"{name}/" in message for name in there)


def test_a_split_without_class_folders(tmp_path):
    folders(tmp_path, "train", "test/a", "test/b")
    (tmp_path / "train" / "cat.1.jpg").write_bytes(b"x")
    assert "no class folders, and 1 file lying in it" in refused(tmp_path)


def test_only_empty_splits(tmp_path):
    assert "train has nothing in it" in refused(folders(tmp_path, "train", "test"))


def test_classes_that_differ_between_splits(tmp_path):
    folders(tmp_path, "train/cat", "train/dog", "test/cat", "test/bird")
    message = refused(tmp_path)
    assert "lacks 'dog'" in message
    assert "has 'bird'" in message


def test_two_folders_for_one_split(tmp_path):
    folders(tmp_path, *(f"{name}/{c}" for name in ("train", "val", "valid") for c in "ab"))
    assert "both val/ and valid/" in refused(tmp_path)


def test_two_folders_for_one_class(tmp_path):
    folders(tmp_path, "hotdog", "Hot-Dogs", "not-hotdog")
    assert "both mean the class 'hotdog'" in refused(tmp_path)


def test_splits_inside_the_classes(tmp_path):
    folders(tmp_path, *(f"{cls}/{name}" for cls in ("cat", "dog") for name in ("train", "test")))
    message = refused(tmp_path)
    assert "test/ and train/ inside" in message
    assert "splits must be the outer folders" in message


def test_a_home_folder_may_be_abbreviated(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    folders(tmp_path, "pictures/a", "pictures/b")
    assert read_layout("~/pictures").root == tmp_path / "pictures"


def test_files_are_found_deep_sorted_and_without_junk(tmp_path):
    names = ["b.jpg", "A.jpg", "a.jpg", "B/z.png", "B/c/d/e.webp", ".hidden.jpg", "._a.jpg",
             "Thumbs.db", ".DS_Store", "desktop.ini", ".hidden/x.jpg", "notes.txt"]  # fmt: skip
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    files, closed = files_below(tmp_path)
    assert [at.relative_to(tmp_path).as_posix() for at in files] == [
        "A.jpg", "a.jpg", "B/c/d/e.webp", "B/z.png", "b.jpg", "notes.txt",
    ]  # fmt: skip
    assert closed == {}


def test_loops_of_links_end(tmp_path):
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "x.jpg").write_bytes(b"x")
    (tmp_path / "inner" / "up").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "self").symlink_to(tmp_path / "self")
    files, _ = files_below(tmp_path)
    assert sorted(at.name for at in files) == ["self", "x.jpg"]


def test_a_link_to_a_folder_elsewhere_is_followed(tmp_path):
    folders(tmp_path, "elsewhere", "cats")
    (tmp_path / "elsewhere" / "x.jpg").write_bytes(b"x")
    (tmp_path / "cats" / "more").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    assert [at.name for at in files_below(tmp_path / "cats")[0]] == ["x.jpg"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read all")
def test_a_folder_that_may_not_be_entered_is_reported(tmp_path):
    folders(tmp_path, "locked")
    (tmp_path / "locked").chmod(0)
    try:
        assert files_below(tmp_path)[1] == {tmp_path / "locked": "Permission denied"}
    finally:
        (tmp_path / "locked").chmod(0o700)
