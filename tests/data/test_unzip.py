import io
import stat
import struct
import warnings
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from course_lib.data.unzip import unzip
from course_lib.errors import DataError
from tests.data.loopback import zip_of

GOOD = [("photos/train/a/1.jpg", b"one"), ("photos/train/b/2.jpg", b"two" * 5000)]


def everything(folder):
    return sorted(at.relative_to(folder).as_posix() for at in folder.rglob("*"))


def unpack(tmp_path, data, largest=10**6):
    """Unpack into a folder inside the test's own; gives the folder."""
    file = tmp_path / "photos.zip"
    file.write_bytes(data)
    into = tmp_path / "deep" / "inside" / "photos"
    into.mkdir(parents=True)
    unzip(file, "photos", into, largest)
    return into


def refused(tmp_path, data, **options):
    """The message; nothing may have been written, inside or outside."""
    with pytest.raises(DataError) as caught:
        unpack(tmp_path, data, **options)
    assert everything(tmp_path) == ["deep", "deep/inside", "deep/inside/photos", "photos.zip"]
    assert "photos.zip" in str(caught.value)
    return str(caught.value)


def member(name, mode=stat.S_IFREG | 0o644):
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    return info


def test_a_good_archive_comes_out_as_it_went_in(tmp_path):
    folders = [(member("photos/", stat.S_IFDIR | 0o755), b""), ("photos/empty/", b"")]
    into = unpack(tmp_path, zip_of(folders + GOOD))
    assert (into / "train/a/1.jpg").read_bytes() == b"one"
    assert (into / "train/b/2.jpg").read_bytes() == b"two" * 5000
    assert everything(into) == ["train", "train/a", "train/a/1.jpg", "train/b", "train/b/2.jpg"]


def test_what_lies_beside_the_folder_stays_packed(tmp_path):
    extra = [("__MACOSX/photos/._1.jpg", b"x"), ("README", b"x"), ("photos2/y", b"x")]
    assert len(everything(unpack(tmp_path, zip_of(GOOD + extra)))) == 5
    assert everything(tmp_path)[0] == "deep"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("../evil", "leads out of the folder"),
        ("photos/../../evil", "leads out of the folder"),
        ("photos/../photos/x", "leads out of the folder"),
        ("photos/..", "leads out of the folder"),
        ("photos\\..\\..\\evil", "leads out of the folder"),
        ("a/" * 101 + "x", "lies more than 100 folders deep"),
        ("/etc/evil", "absolute path"),
        ("//server/share/evil", "absolute path"),
        ("C:/evil", "means something else"),
        ("photos/C:evil", "means something else"),
        ("photos/1.jpg:stream", "means something else"),
        ("photos\\evil", "means something else"),
        (".", "means something else"),
        ("photos/CON", "means something else"),
        ("photos/nul.jpg", "means something else"),
        ("photos/COM1 .txt", "means something else"),
        ("photos/end.", "means something else"),
        ("photos/end /x", "means something else"),
        ("photos/a?", "means something else"),
        ("photos/\x1b[2J", "means something else"),
        ("beside/\u202egpj.exe", "means something else"),
    ],
)
@pytest.mark.parametrize("last", [False, True])
def test_names_that_leave_the_folder_are_refused(tmp_path, name, reason, last):
    bad = [(member(name), b"evil")]
    assert reason in refused(tmp_path, zip_of(GOOD + bad if last else bad + GOOD))


def test_a_name_with_a_nul_is_refused(tmp_path):
    data = zip_of([*GOOD, ("photos/1.jpgX.exe", b"evil")]).replace(b"1.jpgX", b"1.jpg\0")
    assert "means something else" in refused(tmp_path, data)


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFSOCK])
def test_links_and_special_files_are_refused(tmp_path, kind):
    bad = [(member("photos/train/a/link", kind | 0o777), b"/etc")]
    message = refused(tmp_path, zip_of(bad + GOOD))
    assert ("is a link" if kind == stat.S_IFLNK else "neither a file nor a folder") in message


def test_two_members_of_one_name_are_refused(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = zip_of([*GOOD, GOOD[0]])
    assert "is there twice" in refused(tmp_path, data)


def test_two_spellings_of_one_name_are_refused(tmp_path):
    assert "is there twice" in refused(tmp_path, zip_of([*GOOD, ("photos/./train//a/1.jpg", b"")]))


def test_a_file_that_is_also_a_folder_is_refused(tmp_path):
    data = zip_of([*GOOD, ("photos/train/a", b"")])
    assert "both a file and a folder" in refused(tmp_path, data)


def test_an_encrypted_member_is_refused(tmp_path):
    data = bytearray(zip_of(GOOD))
    entry = data.index(b"PK\1\2")
    data[entry + 8] |= 1
    assert "is encrypted" in refused(tmp_path, bytes(data))


def test_an_archive_that_unpacks_to_too_much_is_refused(tmp_path):
    data = zip_of([("photos/bomb", bytes(3_000_000))])
    assert len(data) < 10_000
    assert "claims 1 members with 3,000,000 bytes" in refused(tmp_path, data)


def test_more_than_the_disk_has_is_refused(tmp_path):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        info = zipfile.ZipInfo("photos/huge")
        info.file_size, info.compress_size, info.CRC, info.header_offset = 1 << 55, 1, 0, 0
        archive.filelist.append(info)
        archive._didModify = True
    assert "Make room and try again" in refused(tmp_path, stream.getvalue(), largest=1 << 60)


def test_a_member_that_is_larger_than_it_claims_is_noticed(tmp_path):
    data = bytearray(zip_of([("photos/a", b"x" * 1000)]))
    entry = data.index(b"PK\1\2")
    data[entry + 24 : entry + 28] = struct.pack("<I", 10)
    with pytest.raises(DataError, match="list doesn't agree"):
        unpack(tmp_path, bytes(data))


@pytest.mark.parametrize(
    "members", [[], [("other/a", b"x")], [("photos/", b"")], [("photos", b"")]]
)
def test_an_archive_without_the_folder_is_refused(tmp_path, members):
    assert "has no folder photos/ with files" in refused(tmp_path, zip_of(members))


@pytest.mark.parametrize("data", [b"", b"PK\3\4", b"<html>404</html>", zip_of(GOOD)[:-30]])
def test_what_is_no_zip_file_is_refused(tmp_path, data):
    assert "is no zip file, or damaged" in refused(tmp_path, data)


@given(place=st.integers(0, 10_000), value=st.integers(1, 255))
def test_damage_anywhere_never_writes_outside(tmp_path_factory, place, value):
    tmp_path = tmp_path_factory.mktemp("zip")
    data = bytearray(zip_of(GOOD))
    data[place % len(data)] ^= value
    try:
        into = unpack(tmp_path, bytes(data))
    except DataError:
        into = tmp_path / "deep/inside/photos"
    outside = [at for at in tmp_path.rglob("*") if not at.is_relative_to(into) and at.is_file()]
    assert outside == [tmp_path / "photos.zip"]


@pytest.mark.parametrize("gone", ["checksum and packed size", "checksum and both sizes"])
def test_a_member_that_the_list_calls_empty(tmp_path, gone):
    """zipfile believes the list of contents, and would give a file of no bytes."""
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/1.txt", b"x" * 500)
    content = bytearray(path.read_bytes())
    entry = content.index(b"PK\x01\x02")
    until = 24 if gone == "checksum and packed size" else 28
    content[entry + 16 : entry + until] = bytes(until - 16)
    path.write_bytes(content)
    (tmp_path / "into").mkdir()
    with pytest.raises(DataError, match="list doesn't agree"):
        unzip(path, "a", tmp_path / "into", 1 << 20)
    assert not list((tmp_path / "into").iterdir())


def test_an_error_of_a_decoder_without_a_number_is_damage(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("a/1.txt", bytes(range(256)) * 20)
    content = bytearray(path.read_bytes())
    start = content.index(b"BZh")
    content[start + 4 : start + 12] = bytes(8)
    path.write_bytes(content)
    (tmp_path / "into").mkdir()
    with pytest.raises(DataError, match="damaged: Invalid data stream"):
        unzip(path, "a", tmp_path / "into", 1 << 20)
