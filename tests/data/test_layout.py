import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from torchvision.datasets import ImageFolder

from course_lib.data.layout import class_name, files_below, nearly_equal, read_layout, same_class
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
    assert layout.classes == ("Red_Fox", "cat")
    assert [at.name for at in layout.folders["test"]] == ["red fox", "Cat"]


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


def torchvisions(root):
    return ImageFolder.find_classes(None, os.fspath(root))[0]


@pytest.mark.parametrize(
    "names",
    [("cat_a", "cat2"), ("_other", "ants"), ("class_1", "class10", "class_2"), ("t-shirt", "t_bag"),
     ("a b", "a-a"), ("Bees", "ants"), ("Zebra", "ape", "Bear"), ("not-hotdog", "hotdog"),
     ("éclair", "zebra", "Éclair au chocolat"), ("cat", "Cat"), ("a-b", "a_b", "a b"),
     ("10", "9", "1"), ("a", "a.b", "a-c", "a c", "aB")],
)  # fmt: skip
def test_order_is_that_of_torchvision(tmp_path, names):
    folders(tmp_path, *names)
    layout = read_layout(tmp_path)
    assert list(layout.classes) == torchvisions(tmp_path)
    assert [at.name for at in layout.folders["all"]] == torchvisions(tmp_path)


LETTERS = st.sampled_from("abAB019_- .éßẞÄµ#$~(!香İ")


@given(
    names=st.lists(st.text(LETTERS, min_size=1, max_size=5), min_size=2, max_size=6, unique=True)
)
def test_order_is_that_of_torchvision_whatever_the_names(tmp_path_factory, names):
    names = [
        name for name in names if name.strip(". ") == name
    ]  # hidden, or not possible everywhere
    assume(len(names) > 1)
    root = folders(tmp_path_factory.mktemp("classes"), *names)
    layout = read_layout(root)
    assert list(layout.classes) == torchvisions(root)
    divided = folders(
        tmp_path_factory.mktemp("split"), *(f"{s}/{n}" for s in ("train", "test") for n in names)
    )
    layout = read_layout(divided)
    assert list(layout.classes) == torchvisions(divided / "train")
    assert [at.name for at in layout.folders["test"]] == torchvisions(divided / "test")


def test_names_that_differ_in_capitals_or_separators_are_classes_and_matched_exactly(tmp_path):
    names = ("Cat", "a-b", "a_b", "cat", "dog")
    folders(tmp_path, *(f"{split}/{name}" for split in ("train", "test") for name in names))
    if (tmp_path / "train/CAT").exists():
        pytest.skip("this file system takes Cat and cat for one")
    layout = read_layout(tmp_path)
    assert layout.classes == names
    assert [at.name for at in layout.folders["test"]] == list(names)
    assert nearly_equal(names) == ["Cat", "cat", "a-b", "a_b"]
    assert same_class("Cat", "cat")
    assert not same_class("Cat", "cats")
    (tmp_path / "test/cat").rename(tmp_path / "test/CAT")
    assert "lacks 'cat' and has 'CAT'" in refused(tmp_path)


def test_the_courses_own_classes_are_sorted_by_what_they_are_called(tmp_path):
    layout = read_layout(folders(tmp_path, "Not_Hot_Dog", "hot dogs"))
    assert layout.classes == ("hotdog", "not-hotdog")
    assert [at.name for at in layout.folders["all"]] == ["hot dogs", "Not_Hot_Dog"]


LEFTOVERS = [
    "lost+found", "LOST.DIR", "$RECYCLE.BIN", "$Recycle.Bin", "RECYCLER", "Config.Msi",
    "System Volume Information", "found.000", "FOUND.012", "$WinREAgent", "__MACOSX",
    "Network Trash Folder", "Temporary Items", ".Trashes", ".Trash-1000", ".Spotlight-V100",
    ".fseventsd", ".TemporaryItems", ".DocumentRevisions-V100", "@eaDir", "#recycle", "#snapshot",
    "@Recycle", "@Recently-Snapshot", ".ipynb_checkpoints", "__pycache__", ".thumbnails", ".git",
    ".dropbox.cache", ".849C9593-D756-4E56-8D6E-42412F2A707B", ".tmp.drivedownload",
    "PaxHeaders.12345",
]  # fmt: skip


@pytest.mark.parametrize("name", LEFTOVERS)
def test_leftovers_of_systems_and_programs_are_no_classes(tmp_path, name):
    folders(tmp_path / "flat", "a", "b", f"{name}/x")
    assert read_layout(tmp_path / "flat").classes == ("a", "b")
    inside = [f"{split}/{each}" for split in ("train", "test") for each in ("a", "b", name)]
    folders(tmp_path / "divided", *inside, name)
    layout = read_layout(tmp_path / "divided")
    assert layout.classes == ("a", "b")
    assert layout.unused == ()
    (tmp_path / "flat" / name / "x.jpg").write_bytes(b"x")
    assert files_below(tmp_path / "flat")[0] == []


def test_names_that_only_resemble_leftovers_are_classes(tmp_path):
    names = ("found", "lost", "recycled paper", "trash", "thumbnails", "found.footage")
    assert list(read_layout(folders(tmp_path, *names)).classes) == sorted(names)


def touched(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    return root


@pytest.mark.parametrize("test", ["test/1.jpg", "test/images/1.jpg", "test/unknown/1.jpg"])
def test_an_unlabelled_test_is_left_alone(tmp_path, test):
    folders(tmp_path, "train/a", "train/b", "val/a", "val/b")
    layout = read_layout(touched(tmp_path, test))
    assert layout.folders.keys() == {"train", "val"}
    assert layout.unlabelled == tmp_path / "test"
    assert layout.classes == ("a", "b")


def test_beside_an_unlabelled_test_train_alone_is_divided(tmp_path):
    layout = read_layout(touched(folders(tmp_path, "train/a", "train/b"), "test/1.jpg"))
    assert [at.parent.name for at in layout.folders["all"]] == ["train", "train"]


@pytest.mark.parametrize("test", ["test", "test/a"])
def test_an_empty_test_and_one_with_a_single_class_are_mistakes(tmp_path, test):
    with pytest.raises(DataError, match=r"test has (nothing in it|only one class folder, a/)"):
        read_layout(folders(tmp_path, "train/a", "train/b", "val/a", "val/b", test))


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


def test_a_thousand_folders_in_each_other(tmp_path):
    """More than Python's calls may be deep, and longer than a path may be."""
    os.chdir(folders(tmp_path, "a", "b") / "a")
    for _ in range(1100):
        Path("n" * 5).mkdir()
        os.chdir("n" * 5)
    os.chdir(tmp_path)
    try:
        files, closed = files_below(tmp_path / "a")
        assert len(files) + len(closed) <= 1  # the one whose path is too long
    finally:
        subprocess.run(["rm", "-r", tmp_path / "a"], check=True)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="root tries it as another user")
def test_a_root_that_may_not_be_read(tmp_path):
    root = folders(tmp_path / "x", "a", "b")
    root.chmod(0o711)
    os.seteuid(12345)
    try:
        with pytest.raises(DataError, match=r"can't be read: Permission denied|doesn't exist"):
            read_layout(root)
    finally:
        os.seteuid(0)
