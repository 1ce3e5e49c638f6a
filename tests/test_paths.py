"""Files are written whole or not at all, wherever the course writes one; and hashed."""

import errno
import hashlib
import os
import re
import stat
import subprocess
import sys
import threading

import pytest

from course_lib import paths
from course_lib.paths import atomic_write, file_hash, repo_root, write_file

unix = pytest.mark.skipif(os.name == "nt", reason="modes, links and signals are of Unix")


def modes(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize(("content", "stored"), [(b"\0\r\n", b"\0\r\n"), ("é\n", b"\xc3\xa9\n")])
def test_bytes_and_texts_into_folders_that_are_made(tmp_path, content, stored):
    write_file(tmp_path / "a" / "b" / "c", content)
    assert (tmp_path / "a" / "b" / "c").read_bytes() == stored


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "full"), KeyboardInterrupt(), ValueError()]
)
@pytest.mark.parametrize("old", [b"old", None])
def test_whatever_stops_it_the_old_file_stays_and_nothing_else(tmp_path, error, old):
    path = tmp_path / "a.bin"
    if old is not None:
        path.write_bytes(old)
    with pytest.raises(type(error)), atomic_write(path) as file:  # noqa: PT012
        file.write(b"new, but not all of")
        raise error
    assert {each.name: each.read_bytes() for each in tmp_path.iterdir()} == (
        {} if old is None else {"a.bin": old}
    )


FULL = """
import resource, signal, sys
from course_lib.paths import write_file
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
write_file(sys.argv[1], bytes(2000))
"""


@unix
def test_a_disk_that_takes_no_more(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    done = subprocess.run([sys.executable, "-c", FULL, path], capture_output=True, text=True)
    assert "OSError" in done.stderr
    assert [each.read_bytes() for each in tmp_path.iterdir()] == [b"old"]


@unix
@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_a_new_file_has_the_mode_of_a_plainly_opened_one(tmp_path, mask):
    before = os.umask(mask)
    try:
        write_file(tmp_path / "ours", b"")
        (tmp_path / "plain").write_bytes(b"")
    finally:
        os.umask(before)
    assert modes(tmp_path / "ours") == modes(tmp_path / "plain") == 0o666 & ~mask


@unix
def test_an_old_files_mode_is_kept_while_writing_too(tmp_path):
    path = tmp_path / "secret"
    path.write_bytes(b"old")
    path.chmod(0o600)
    with atomic_write(path) as file:
        file.write(b"new")
        assert {modes(each) for each in tmp_path.iterdir()} == {0o600}
    assert modes(path) == 0o600
    assert path.read_bytes() == b"new"


@unix
def test_a_link_stays_a_link(tmp_path):
    real = tmp_path / "store" / "a"
    write_file(real, b"old")
    link = tmp_path / "link"
    link.symlink_to(real)
    write_file(link, b"new")
    assert link.is_symlink()
    assert real.read_bytes() == b"new"


@unix
def test_a_planted_link_is_not_written_through(tmp_path, monkeypatch):
    """Even if somebody guessed the temporary file's name."""
    victim = tmp_path / "victim"
    victim.write_bytes(b"theirs")
    monkeypatch.setattr("secrets.token_hex", lambda count: "ab" * count)
    (tmp_path / f".course-{paths._machine()}-{os.getpid()}-{'ab' * 8}.tmp").symlink_to(victim)
    with pytest.raises(FileExistsError):
        write_file(tmp_path / "a", b"ours")
    assert victim.read_bytes() == b"theirs"


def test_no_two_temporary_files_have_one_name(tmp_path):
    with atomic_write(tmp_path / "a") as first, atomic_write(tmp_path / "a") as second:
        assert first.name != second.name
        first.write(b"first")
        second.write(b"second")
    assert (tmp_path / "a").read_bytes() == b"first"  # closed last


def test_threads_that_write_one_path(tmp_path):
    path = tmp_path / "a"
    contents = [bytes([number]) * 100_000 for number in range(8)]
    threads = [threading.Thread(target=write_file, args=(path, each)) for each in contents]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert path.read_bytes() in contents
    assert list(tmp_path.iterdir()) == [path]


@unix
def test_what_killed_processes_left_is_removed(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    ours, end = f".course-{paths._machine()}", f"{'0' * 16}.tmp"
    abandoned = tmp_path / f"{ours}-{dead.pid}-{end}"
    kept = [
        tmp_path / f"{ours}-{os.getppid()}-{end}",
        tmp_path / f"{ours}-{dead.pid}-mine.tmp",
        tmp_path / f".course-00000000-{dead.pid}-{end}",  # of another machine, on a shared disk
        tmp_path / "a.tmp",
    ]
    (tmp_path / f"{ours}-{dead.pid}-{'1' * 16}.tmp").mkdir()  # can't be removed: no reason to stop
    for each in (abandoned, *kept):
        each.write_bytes(b"half")
    write_file(tmp_path / "a", b"")
    assert not abandoned.exists()
    assert all(each.exists() for each in kept)


def test_a_file_with_the_longest_name_that_the_system_takes(tmp_path):
    write_file(tmp_path / ("a" * 255), b"1")
    assert (tmp_path / ("a" * 255)).read_bytes() == b"1"


def test_this_is_the_one_place_where_files_are_written_whole_and_hashed():
    package = repo_root() / "course_lib"
    alone = {"setup/bundle/installer.py"}  # it runs before there is a course
    by_hand = re.compile(r"mkstemp|NamedTemporaryFile|file_digest|sha256\(\S+read_bytes")
    found = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if by_hand.search(path.read_text(encoding="utf-8"))
    }
    assert found == {"paths.py"} | alone


@pytest.mark.parametrize("algorithm", ["sha256", "sha1"])
def test_hashes(tmp_path, algorithm):
    path = tmp_path / "a"
    path.write_bytes(bytes(range(256)) * 5000)
    assert file_hash(path, algorithm) == hashlib.new(algorithm, path.read_bytes()).hexdigest()
    assert len(file_hash(path)) == 64


def test_a_file_that_grows_while_it_is_read_is_read_whole(tmp_path, monkeypatch):
    path, told = tmp_path / "lines.txt", os.fstat
    path.write_bytes(b"a" * 1000)

    def longer(number):
        found = told(number)
        with path.open("ab") as file:
            file.write(b"b" * 100_000)
        return found

    monkeypatch.setattr(os, "fstat", longer)
    assert len(paths.read_file(path)) == 101_000
    with pytest.raises(ValueError, match="more than 150,000 bytes"):
        paths.read_file(path, 150_000)
