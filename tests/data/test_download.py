import hashlib
import os
import subprocess
import sys
import threading
import zipfile

import pytest
from filelock import FileLock

from course_lib import profile
from course_lib.data import HOTDOG, Archive, Patience, download, download_hotdog, fetch, hotdog
from course_lib.errors import DataError, OfflineError
from course_lib.paths import repo_root
from tests.data.loopback import Loopback, zip_of

MEMBERS = [
    (f"photos/{split}/{cls}/{number}.jpg", f"{split}{cls}{number}".encode() * 700)
    for split in ("train", "test")
    for cls in ("hotdog", "not-hotdog")
    for number in range(2)
]
BODY = zip_of(MEMBERS)
HASTY = Patience(seconds=0.4, least=100, attempts=2, pause=0)


def archive(url, body=BODY, **options):
    sha1 = hashlib.sha1(body).hexdigest()
    return Archive(url, sha1, "photos.zip", advice="Or put it into {folder}.", **options)


@pytest.fixture
def web():
    with Loopback(BODY) as server:
        yield server


@pytest.fixture
def data(tmp_path):
    return tmp_path / "data"


def get(source, data):
    return fetch(source, data, HASTY)


def tree(folder):
    """Every visible file below a folder, with its bytes."""
    return {
        at.relative_to(folder).as_posix(): at.read_bytes()
        for at in sorted(folder.rglob("*"))
        if at.is_file() and not at.name.startswith(".") and at.suffix != ".lock"
    }


WHOLE = {"photos.zip": BODY, **dict(MEMBERS)}
NOTHING: dict[str, bytes] = {}


def refused(error, source, data, left=NOTHING):
    """The message when it fails; afterwards the folder holds just what it held before."""
    with pytest.raises(error) as caught:
        get(source, data)
    assert tree(data) == left
    assert not [at for at in data.iterdir() if at.is_dir() and at.name != "photos"]
    return str(caught.value)


def test_a_good_download_is_complete_and_in_its_place(web, data):
    assert get(archive(web.url("good")), data) == data / "photos"
    assert tree(data) == WHOLE
    assert sorted(at.name for at in data.iterdir()) in (
        ["photos", "photos.zip"],
        ["photos", "photos.zip", "photos.zip.lock"],
    )


def test_it_is_found_again_without_network_and_without_the_zip(web, data):
    source = archive(web.url("good"))
    get(source, data)
    (data / "photos.zip").unlink()
    assert get(source, data) == data / "photos"
    assert len(web.requests) == 1


def test_through_redirects(web, data):
    get(archive(web.url("to/to/good")), data)
    assert tree(data) == WHOLE


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("short", "the connection broke off"),
        ("status-404", "error 404"),
        ("status-500", "error 500"),
        ("stall-300", "sent nothing for 0.4 s"),
        ("silent", "sent nothing for 0.4 s"),
        ("round", "without end"),
    ],
)
def test_failures_of_the_network_leave_nothing_and_say_what_to_do(web, data, how, words):
    message = refused(OfflineError, archive(web.url(how)), data)
    assert words in message
    assert message.endswith(f"Or put it into {data}.")
    assert "\n" not in message


@pytest.mark.parametrize("how", ["tampered", "longer"])
def test_anything_but_the_archive_itself_is_thrown_away(web, data, how):
    message = refused(DataError, archive(web.url(how)), data)
    assert "sha1" in message
    assert "thrown away" in message


def test_an_error_page_is_not_taken_for_the_archive(data):
    with Loopback(b"<html>Sign in to the hotel's network</html>") as web:
        assert "thrown away" in refused(DataError, archive(web.url("good")), data)


def test_redirects_to_http_elsewhere_are_refused(web, data):
    web.elsewhere = "http://example.com/photos.zip"
    assert "only https is safe" in refused(DataError, archive(web.url("to/good")), data)


@pytest.mark.parametrize("cut", [0, 1, 29, 30, 31, 100, 512, len(BODY) // 2, len(BODY) - 1])
def test_after_an_interruption_at_any_byte_the_next_run_succeeds(web, data, cut):
    refused(OfflineError, archive(web.url(f"cut-{cut}")), data)
    get(archive(web.url("good")), data)
    assert tree(data) == WHOLE


@pytest.mark.parametrize(
    "name", ["../evil", "/evil", "photos/../../evil", "C:/evil", "photos\\..\\..\\evil"]
)
def test_members_that_leave_the_folder_are_refused(data, name):
    info = zipfile.ZipInfo(name)
    body = zip_of([*MEMBERS, (info, b"evil")])
    with Loopback(body) as web:
        source = archive(web.url("good"), body)
        message = refused(DataError, source, data, left={"photos.zip": body})
    assert "nothing was unpacked" in message
    assert tree(data.parent) == {"data/photos.zip": body}


def test_links_are_refused(data):
    info = zipfile.ZipInfo("photos/link")
    info.external_attr = 0o120777 << 16
    body = zip_of([(info, b"/etc"), ("photos/link/x", b"evil")])
    with Loopback(body) as web:
        assert "is a link" in refused(
            DataError, archive(web.url("good"), body), data, left={"photos.zip": body}
        )


def test_a_bomb_is_refused(data):
    body = zip_of([("photos/zeros", bytes(3_000_000))])
    with Loopback(body) as web:
        source = archive(web.url("good"), body, largest=1_000_000)
        assert "is refused" in refused(DataError, source, data, left={"photos.zip": body})


def test_a_zip_that_is_there_is_used_without_network(data):
    data.mkdir()
    (data / "photos.zip").write_bytes(BODY)
    get(archive("https://127.0.0.1:9/photos.zip"), data)
    assert tree(data) == WHOLE


def test_another_zip_that_is_there_is_told_and_kept_until_the_right_one_came(web, data):
    data.mkdir()
    (data / "photos.zip").write_bytes(BODY[:1000])  # d2l's own download, interrupted
    left = {"photos.zip": BODY[:1000]}
    message = refused(OfflineError, archive(web.url("status-404")), data, left)
    assert "its sha1 differs" in message
    get(archive(web.url("good")), data)
    assert tree(data) == WHOLE


def test_what_d2l_has_unpacked_is_used_as_it_is(data):
    data.mkdir()
    (data / "photos.zip").write_bytes(BODY)
    with zipfile.ZipFile(data / "photos.zip") as opened:
        opened.extractall(data)
    first = data / MEMBERS[0][0]
    os.utime(first, (1, 1))
    get(archive("https://127.0.0.1:9/photos.zip"), data)
    assert first.stat().st_mtime == 1
    (data / "photos.zip").unlink()
    get(archive("https://127.0.0.1:9/photos.zip"), data)


def test_what_d2l_has_unpacked_by_half_is_completed(data):
    data.mkdir()
    (data / "photos.zip").write_bytes(BODY)
    with zipfile.ZipFile(data / "photos.zip") as opened:
        opened.extractall(data, [name for name, _ in MEMBERS[:3]])
    half = data / MEMBERS[2][0]
    half.write_bytes(half.read_bytes()[:100])
    get(archive("https://127.0.0.1:9/photos.zip"), data)
    assert tree(data) == WHOLE


@pytest.mark.parametrize("name", ["mine.jpg", "train/hotdog/mine.jpg", "train/hotdog/0.jpg"])
def test_pictures_of_ones_own_are_never_lost(data, name):
    own = data / "photos" / name
    own.parent.mkdir(parents=True)
    own.write_bytes(b"mine" * 5000)
    (data / "photos.zip").write_bytes(BODY)
    source = archive("https://127.0.0.1:9/photos.zip")
    left = {"photos.zip": BODY, f"photos/{name}": b"mine" * 5000}
    message = refused(DataError, source, data, left)
    assert name in message
    assert "Move the folder away" in message


def test_a_file_that_went_from_the_unpacked_folder_comes_back(web, data):
    source = archive(web.url("good"))
    get(source, data)
    (data / MEMBERS[0][0]).unlink()
    (data / MEMBERS[1][0]).write_bytes(b"")
    get(source, data)
    assert tree(data) == WHOLE
    assert len(web.requests) == 1


@pytest.mark.parametrize("manifest", ["", "{", "[]", '{"sha1": 1}', '{"sha1": "x", "files": 3}'])
def test_a_damaged_manifest_does_no_harm(web, data, manifest):
    source = archive(web.url("good"))
    get(source, data)
    (data / "photos" / ".complete.json").write_text(manifest)
    get(source, data)
    assert tree(data) == WHOLE


def test_another_version_of_the_archive_replaces_nothing_that_it_doesnt_know(web, data):
    get(archive(web.url("good")), data)
    body = zip_of([("photos/new.jpg", b"new")])
    with Loopback(body) as other, pytest.raises(DataError, match="not from there"):
        get(archive(other.url("good"), body), data)
    assert (data / MEMBERS[0][0]).read_bytes() == MEMBERS[0][1]


def test_a_file_where_the_folder_should_be(web, data):
    data.write_text("a file")
    with pytest.raises(DataError, match="can't be kept in"):
        get(archive(web.url("good")), data)
    assert data.read_text() == "a file"


def test_a_link_where_the_unpacked_folder_should_be_is_left_alone(web, data, tmp_path):
    data.mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "x").write_bytes(b"x")
    (data / "photos").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    with pytest.raises(DataError, match="Move it away"):
        get(archive(web.url("good")), data)
    assert tree(tmp_path / "elsewhere") == {"x": b"x"}


def test_two_at_once_download_once(web, data, capsys):
    source = archive(web.url("good"))
    results = []
    both = [threading.Thread(target=lambda: results.append(get(source, data))) for _ in range(2)]
    with FileLock(_made(data) / "photos.zip.lock"):
        for each in both:
            each.start()
    for each in both:
        each.join()
    assert results == [data / "photos"] * 2
    assert tree(data) == WHOLE
    assert len(web.requests) == 1


def _made(folder):
    folder.mkdir()
    return folder


KILLED = """
import importlib.util, os, signal, sys, time, types
from pathlib import Path

room = types.ModuleType("course_lib.data")  # the room without its other modules: they load torch,
room.__path__ = importlib.util.find_spec("course_lib").submodule_search_locations[0] + "/data",
sys.modules["course_lib.data"] = room  # and downloading must not need it
from course_lib.data.download import Archive, fetch
from course_lib.data.transfer import Patience

server, sha1, base, step = sys.argv[1:]
EVENTS = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "socket.connect"}

def start(data, how="good", kill_at=None):
    "Fetch in a process of its own; the system ends it at one of its dealings with files."
    child = os.fork()
    if child:
        return child
    seen = 0
    def watch(event, arguments):
        nonlocal seen
        if event == "socket.connect" or event in EVENTS and base in str(arguments):
            seen += 1
            if seen == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
    if kill_at:
        sys.addaudithook(watch)
    try:
        source = Archive(f"{server}/{how}/photos.zip", sha1, "photos.zip")
        fetch(source, data, Patience(30, 0, 1, 0))
    finally:
        os._exit(0)

def end(child):
    return os.waitpid(child, 0)[1]

def state(data):
    return {p.relative_to(data).as_posix(): p.read_bytes() for p in data.rglob("*")
            if p.is_file() and p.suffix != ".lock" and ".partial" not in str(p)}

def check_next_run(data):
    for name, content in state(data).items():  # whatever is in its place is whole
        assert content == whole[name], (data, name)
    if (data / "photos").exists():
        assert state(data).keys() == whole.keys(), (data, state(data).keys())
    assert end(start(data)) == 0
    assert state(data) == whole, (data, state(data).keys())
    assert not (data / "photos.zip.partial").exists(), data

assert end(start(Path(base) / "whole")) == 0
whole = state(Path(base) / "whole")

for sent in (0, 1, 700):  # while bytes are coming
    data = Path(base) / f"sent-{sent}"
    child = start(data, f"stall-{sent}")
    while not any(data.glob("photos.zip.partial/*")):
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    assert end(child) == signal.SIGKILL
    check_next_run(data)

kill_at = moments = 1
while True:  # at every step-th dealing with files, until there are no more of them
    data = Path(base) / f"killed-{kill_at}"
    status = end(start(data, kill_at=kill_at))
    if status == 0:
        assert state(data) == whole
        break
    assert status == signal.SIGKILL
    check_next_run(data)
    kill_at += int(step)
    moments += 1
assert "torch" not in sys.modules
print(moments)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize(("step", "least"), [(5, 6), pytest.param(1, 26, marks=pytest.mark.slow)])
def test_killed_at_any_moment_the_next_run_succeeds(tmp_path, step, least):
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    base = tmp_path / "data"
    base.mkdir()
    body = zip_of(MEMBERS[:3])
    path = [str(repo_root()), os.environ.get("PYTHONPATH", "")]
    with Loopback(body) as web:
        server = web.url("").split("//photos")[0]
        done = subprocess.run(
            [sys.executable, script, server, hashlib.sha1(body).hexdigest(), base, str(step)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path)},
            capture_output=True,
            text=True,
            timeout=300,
        )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= least  # moments at which it was killed


def test_the_address_is_that_of_d2l_but_https():
    d2l = pytest.importorskip("d2l.torch")
    url, sha1 = d2l.DATA_HUB["hotdog"]
    assert HOTDOG.url == url.replace("http://", "https://")
    assert HOTDOG.sha1 == sha1
    assert HOTDOG.folder == "hotdog"


def test_d2l_uses_what_we_have_downloaded(web, data, monkeypatch):
    d2l = pytest.importorskip("d2l.torch")
    get(archive(web.url("good")), data)
    notebooks = data.parent / "notebooks"
    notebooks.mkdir()
    monkeypatch.chdir(notebooks)
    sha1 = hashlib.sha1(BODY).hexdigest()
    monkeypatch.setitem(d2l.DATA_HUB, "photos", (web.url("status-404"), sha1))
    assert d2l.download("photos") == os.path.join("..", "data", "photos.zip")  # noqa: PTH118
    assert d2l.download_extract("photos") == os.path.join("..", "data", "photos")  # noqa: PTH118
    assert len(web.requests) == 1
    assert tree(data) == WHOLE


def test_the_full_profile_uses_the_downloaded_photos(monkeypatch, tmp_path, own_cache):
    from PIL import Image

    names = [
        f"hotdog/{split}/{cls}/{number}.png"
        for split in ("train", "test")
        for cls in ("hotdog", "not-hotdog")
        for number in range(3)
    ]
    picture = tmp_path / "picture.png"
    Image.new("RGB", (4, 4)).save(picture)
    body = zip_of([(name, picture.read_bytes() + bytes([i])) for i, name in enumerate(names)])
    monkeypatch.setenv("COURSE_PROFILE", "full")
    monkeypatch.setenv("COURSE_DATA", str(tmp_path / "data"))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "hotdog.zip").write_bytes(body)
    sha1 = hashlib.sha1(body).hexdigest()
    monkeypatch.setattr(download, "HOTDOG", Archive(HOTDOG.url, sha1, "hotdog.zip"))
    data = hotdog(split="test")
    assert profile.current().data == "d2l"
    assert data.root == tmp_path / "data" / "hotdog"
    assert data.targets == [0, 0, 0, 1, 1, 1]
    assert download_hotdog() == data.root


def test_offline_the_message_tells_what_to_do(tmp_path, monkeypatch):
    with Loopback(b"") as gone:
        url = gone.url("good")
    source = Archive(url, HOTDOG.sha1, HOTDOG.name, HOTDOG.advice)
    message = refused(OfflineError, source, tmp_path / "data")
    assert url in message
    assert f"put a copy of hotdog.zip into {tmp_path / 'data'}" in message
    assert "COURSE_PROFILE=tiny" in message
