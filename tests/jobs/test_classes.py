"""A number means the same class in every source of a job."""

import gzip
import io
import itertools
import os
import tarfile
import unicodedata
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from course_lib.errors import DataError
from course_lib.jobs.data import Stream, _class_number, _shards, find

from .conftest import draw, job


def listed(folder, name, rows):
    path = folder / name
    path.write_text("\n".join(["path,label", *rows]), encoding="utf-8")
    return path


def shard(path, labels):
    with tarfile.open(path, "w") as tar:
        for number, label in enumerate(labels):
            for ending, data in (("png", b"x"), ("cls", label.encode())):
                about = tarfile.TarInfo(f"{number:04}.{ending}")
                about.size = len(data)
                tar.addfile(about, io.BytesIO(data))
    return str(path)


def test_lists_and_shards_are_read_in_the_order_of_the_training_classes(pictures, tmp_path):
    files = sorted((pictures / "val").rglob("*.png"))
    rows = [f"{each},{each.parent.name}" for each in reversed(files)]
    found = find(job(pictures, tmp_path, val=str(listed(tmp_path, "val.csv", rows))))
    assert [found.classes[i] for i in found.val.targets] == ["red"] * 6 + ["blue"] * 6
    red_first = shard(tmp_path / "a.tar", ["red", "blue", "1", "red"])
    counted = find(job(pictures, tmp_path, val=str(red_first))).val.counts
    assert counted == (1, 3)  # blue, red


@pytest.mark.parametrize("part", ["val", "test"])
def test_another_class_is_refused_by_name(pictures, tmp_path, part):
    picture = next(pictures.rglob("*.png"))
    for source in (
        listed(tmp_path, "a.csv", [f"{picture},Red"]),
        shard(tmp_path / "a.tar", ["green"]),
    ):
        with pytest.raises(DataError, match=r"Red|green") as told:
            find(job(pictures, tmp_path, **{part: str(source)}))
        assert "red" in str(told.value)
    draw(tmp_path / "set", 3)
    (tmp_path / "set" / "red").rename(tmp_path / "set" / "wine")
    with pytest.raises(DataError, match=r"blue, wine; the .* data has blue, red"):
        find(job(pictures, tmp_path, **{part: str(tmp_path / "set")}))


def test_classes_of_the_config_must_be_the_folders(pictures, tmp_path):
    assert find(job(pictures, tmp_path, classes=("blue", "red"))).classes == ("blue", "red")
    for named in (("red", "blue"), ("blue", "wine")):
        with pytest.raises(DataError, match=f"config's data has {named[0]}, {named[1]}"):
            find(job(pictures, tmp_path, classes=named))


def test_spaces_and_accents_make_no_new_class(pictures, tmp_path):
    files = sorted((pictures / "train" / "red").iterdir())
    accents = [unicodedata.normalize(form, "Käse") for form in ("NFC", "NFD")]
    names = [accents[0], accents[1], f" {accents[0]} ", "red", "red\t"] * 4
    rows = [f"{each},{name}" for each, name in zip(files, names, strict=True)]
    found = find(job(listed(tmp_path, "a.csv", rows), tmp_path))
    assert found.classes == (accents[0], "red")
    assert sum(found.train.counts) + sum(found.val.counts) == 20
    assert found.train.counts[0] + found.val.counts[0] == 12


@pytest.mark.parametrize("label", ["0", "3", "²", "9" * 5000, "-1", ""])
def test_a_number_is_not_guessed_where_classes_are_numbers(label):
    with pytest.raises(DataError, match="expected one of"):
        _class_number(label.encode(), ("1", "2", "10"), "0001.cls")
    assert _class_number(b"10", ("1", "2", "10"), "0001.cls") == 2
    assert _class_number(b"1", ("ants", "bees"), "0001.cls") == 1


def wants(pictures, folder, source):
    """What is said of a source of pictures that can't be used."""
    with pytest.raises(DataError) as error:
        find(job(pictures, folder, val=str(source)))
    return str(error.value)


def test_a_file_whose_name_is_a_command_is_only_a_file(pictures, tmp_path, monkeypatch):
    """WebDataset runs what stands behind "pipe:"; a pattern finds whatever lies there."""
    monkeypatch.chdir(tmp_path)
    shard(tmp_path / "pipe:touch ran;.tar", ["red", "blue"])
    (path,) = find(job(pictures, tmp_path, val="*.tar")).val.paths
    assert path == str(tmp_path / "pipe:touch ran;.tar")


def member(path, kind, size=0, name="a.cls"):
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        about = tarfile.TarInfo(name)
        about.type, about.linkname = kind, "nowhere"
        if size:
            about.pax_headers = {"GNU.sparse.major": "0", "GNU.sparse.size": str(size),
                                 "GNU.sparse.map": "0,0", "GNU.sparse.numblocks": "1"}  # fmt: skip
        tar.addfile(about)
    return path


def test_shards_made_to_hang_or_to_fill_the_memory(pictures, tmp_path):
    os.mkfifo(tmp_path / "pipe.tar")
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "zero.csv").symlink_to("/dev/zero")
    for name in ("pipe.tar", "pipe.csv", "zero.csv", "a\0.csv", "a\0.tar"):
        assert "can't be read" in wants(pictures, tmp_path, tmp_path / name)
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE):
        assert "says ''" in wants(pictures, tmp_path, member(tmp_path / "odd.tar", kind))
    sparse = member(tmp_path / "sparse.tar", tarfile.REGTYPE, 1 << 40)
    assert "claims" in wants(pictures, tmp_path, sparse)
    assert "more than 100,000" in wants(pictures, tmp_path, "x{0..99999999999}.tar")
    whole = gzip.compress(Path(shard(tmp_path / "x.tar", ["red"])).read_bytes())
    (tmp_path / "cut.tar").write_bytes(whole[:60])
    assert "can't be read" in wants(pictures, tmp_path, tmp_path / "cut.tar")


PICTURE = io.BytesIO()
Image.new("RGB", (8, 8)).save(PICTURE, "PNG")


def members(path, *names, mode="w"):
    """A shard with a picture under every name, but for labels."""
    with tarfile.open(path, mode) as tar:
        for name in names:
            data = b"0" if name.endswith(".cls") else PICTURE.getvalue()
            about = tarfile.TarInfo(name)
            about.size = len(data)
            tar.addfile(about, io.BytesIO(data))
    return str(path)


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # WebDataset's, of a file it had begun
@pytest.mark.parametrize(("names", "said"), [
    (["0.png", "0.cls", "1.png"], "1 says ''"),
    (["0.png", "0.cls", "0.png"], "can't be read: .*duplicate"),
    (["0.png", "0.cls", "0.__url__"], "can't be read: .*duplicate"),
    ([".png", ".cls"], "no picture in"),
    (["__x__/0.png", "__x__/0.cls"], "no picture in"),
])  # fmt: skip
def test_shards_that_webdataset_stumbles_over(tmp_path, names, said):
    """Not its error, and not an epoch without an end."""
    source = _shards(members(tmp_path / "x.tar", *names), ("red", "blue"))
    one = SimpleNamespace(rank=0, world=1)
    with pytest.raises(DataError, match=said):
        list(itertools.islice(Stream(source, lambda image: image, one, seed=0), 3))


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_packed_shard_whose_names_are_a_gigabyte_long(pictures, tmp_path, kind):
    about = tarfile.TarInfo("x")
    about.type, about.size = kind, 1 << 30
    (tmp_path / "x.tar").write_bytes(gzip.compress(about.tobuf(tarfile.GNU_FORMAT) + bytes(10_000)))
    assert "claims 1,073,741,824 bytes for a note" in wants(pictures, tmp_path, tmp_path / "x.tar")
    members(tmp_path / "y.tar", "0.png", "0.cls", mode="w:gz")  # packed ones are read
    assert _shards(str(tmp_path / "y.tar"), ("red", "blue")).counts == (1, 0)


def test_a_small_file_that_says_it_holds_gigabytes(pictures, tmp_path):
    about = tarfile.TarInfo("0.png")
    about.size = 1 << 20
    with gzip.open(tmp_path / "x.tar", "wb") as file:
        for _ in range(1200):
            file.write(about.tobuf() + bytes(1 << 20))
    assert "claims" in wants(pictures, tmp_path, tmp_path / "x.tar")


@pytest.mark.parametrize(("rows", "said"), [
    (["a" * 5000 + ",x,train"], "no file"),
    (["{0},x,test", "{0},y,test"], "no picture for train"),
    (["{0},x,test", "{0},y,val"], "no picture for train"),
])  # fmt: skip
@pytest.mark.parametrize("val", [True, False])
def test_lists_without_training_pictures_or_with_endless_names(pictures, tmp_path, rows, said, val):
    file = next(pictures.rglob("*.png"))
    text = "\n".join(["path,label,split", *(each.format(file) for each in rows)])
    (tmp_path / "x.csv").write_text(text)
    more = {"val": str(pictures / "val")} if val else {}
    with pytest.raises(DataError, match=said):
        find(job(tmp_path / "x.csv", tmp_path, **more))
