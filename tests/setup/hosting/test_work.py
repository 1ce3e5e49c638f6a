"""What you did on a host comes home: whole, checked, and joined with what is there."""

import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import types
import unicodedata
import zipfile

import pytest
import torch

from course_lib import paths
from course_lib.exercises import predictions, progress_file
from course_lib.setup import hosting, lab
from course_lib.setup.hosting import HostingError, work

ENTRY = {"passed": True, "attempts": 2, "hints": 0, "solution": False}


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A course of one's own: folders for notebooks, data, progress, and a current folder."""
    for name in ("notebooks", "data", "here"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(work, "repo_root", lambda: tmp_path)
    monkeypatch.setattr(lab, "repo_root", lambda: tmp_path)
    monkeypatch.setattr(work, "_answered", lambda: iter(()))
    monkeypatch.setenv("COURSE_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("COURSE_PROGRESS", str(tmp_path / "progress.json"))
    monkeypatch.setattr(predictions, "_noted", {})
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path


def files_below(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def some_work(home):
    progress_file.join({"4.1": ENTRY})
    predictions._noted.update({"accuracy": 0.9, "order": ["a", "b"]})
    (home / "notebooks" / "my_notes.ipynb").write_text("{}")
    (home / "data" / "my_pictures" / "train").mkdir(parents=True)
    (home / "data" / "my_pictures" / "train" / "one.jpg").write_bytes(b"picture")
    (home / "here" / "model.safetensors").write_bytes(b"weights")
    (home / "here" / "other.txt").write_text("not yours to carry")


def test_there_and_back(home, monkeypatch):
    some_work(home)
    archive = hosting.export_work()
    assert archive == home / "here" / "course-work.zip"
    with zipfile.ZipFile(archive) as inside:
        assert set(inside.namelist()) == {
            "progress.json", "predictions.json", "notebooks/my_notes.ipynb",
            "data/my_pictures/train/one.jpg", "models/model.safetensors", "course-work.json",
        }  # fmt: skip
    for each in ("notebooks/my_notes.ipynb", "progress.json", "here/model.safetensors"):
        (home / each).unlink()
    shutil.rmtree(home / "data" / "my_pictures")
    predictions._noted.clear()

    written = hosting.import_work(archive)
    assert {path.relative_to(home).as_posix() for path in written} == {
        "notebooks/my_notes.ipynb", "data/my_pictures/train/one.jpg",
        "notebooks/my_models/model.safetensors",
    }  # fmt: skip
    assert progress_file.entries() == {"4.1": ENTRY}
    assert predictions._noted == {"accuracy": 0.9, "order": ["a", "b"]}
    assert hosting.import_work(archive) == [], "a second time there is nothing to write"
    assert hosting.export_work(archive) == archive, "an older export is replaced, not packed"


@pytest.mark.parametrize("place", ["here", "notebooks/my_models"])
def test_an_imported_model_is_packed_once(home, monkeypatch, place):
    (home / "here" / "model.safetensors").write_bytes(b"weights")
    (home / "here" / "my_runs" / "a").mkdir(parents=True)
    (home / "here" / "my_runs" / "a" / "log.txt").write_text("log")
    hosting.import_work(hosting.export_work())
    monkeypatch.chdir(home / place)
    with zipfile.ZipFile(hosting.export_work("again.zip")) as inside:
        packed = [each.rpartition("/")[2] for each in inside.namelist()]
    assert sorted(packed) == ["course-work.json", "log.txt", "model.safetensors"]


def test_another_model_of_the_same_name_is_packed_too(home):
    (home / "notebooks" / "my_models").mkdir()
    (home / "notebooks" / "my_models" / "model.safetensors").write_bytes(b"older weights")
    (home / "here" / "model.safetensors").write_bytes(b"weights")
    with zipfile.ZipFile(hosting.export_work()) as inside:
        assert sum(each.endswith("model.safetensors") for each in inside.namelist()) == 2


def test_progress_is_joined_and_nothing_of_yours_is_overwritten(home):
    some_work(home)
    archive = hosting.export_work()
    (home / "notebooks" / "my_notes.ipynb").write_text("newer")
    progress_file.location().unlink()
    progress_file.join({"4.1": {**ENTRY, "passed": False, "attempts": 5, "hints": 1}, "2.1": ENTRY})
    hosting.import_work(archive)
    assert progress_file.entries() == {
        "4.1": {"passed": True, "attempts": 5, "hints": 1, "solution": False}, "2.1": ENTRY,
    }  # fmt: skip
    assert (home / "notebooks" / "my_notes.ipynb").read_text() == "newer"
    assert (home / "notebooks" / "my_notes-2.ipynb").read_text() == "{}"


def rewritten(archive, target, change):
    with zipfile.ZipFile(archive) as old:
        members = {name: old.read(name) for name in old.namelist()}
    members = change(members)
    with zipfile.ZipFile(target, "w") as new:
        for name, content in members.items():
            new.writestr(name, content)
    return target


def test_an_export_that_fails_leaves_the_one_before(home, monkeypatch):
    some_work(home)
    hosting.export_work()
    before = files_below(home)

    def full(file):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(work, "file_hash", full)
    with pytest.raises(HostingError, match=r"can't be written: No space left"):
        hosting.export_work()
    assert files_below(home) == before


def listing(members, name, digest="0" * 64):
    content = json.loads(members["course-work.json"])
    content["files"][name] = digest
    return {**members, "course-work.json": json.dumps(content).encode(), name: b"x"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda m: {**m, "models/model.safetensors": b"other"}, "is damaged"),
        (lambda m: {k: v for k, v in m.items() if k != "progress.json"}, "no whole export"),
        (lambda m: {k: v for k, v in m.items() if k != "course-work.json"}, "no whole export"),
        (lambda m: listing(m, "../escaped.txt"), "doesn't belong"),
        (lambda m: listing(m, "notebooks/../../my_x"), "doesn't belong"),
        (lambda m: listing(m, "/etc/my_x"), "doesn't belong"),
        (lambda m: listing(m, "notebooks/02_hotdog.ipynb"), "doesn't belong"),
        (lambda m: listing(m, "models/run.py"), "doesn't belong"),
        (lambda m: listing(m, "notebooks/my_x\\..\\y"), "doesn't belong"),
        (lambda m: {**m, "progress.json": b"{}"}, "progress.json is damaged"),
        (lambda m: listing(m, "models/\x1b[31m.pth"), "doesn't belong"),
        (lambda m: listing(m, "models/a\nb.pth"), "doesn't belong"),
        (lambda m: listing(m, "models/gnp\u202ehtp.pth"), "doesn't belong"),
        (lambda m: listing(m, "models\\model.pth"), "doesn't belong"),
        (lambda m: {k.replace("/", "\\"): v for k, v in m.items()}, "no whole export"),
        (lambda m: {f"course-work/{k}": v for k, v in m.items()}, "no whole export"),
    ],
)
def test_a_damaged_or_strange_file_changes_nothing(home, tmp_path, change, said):
    some_work(home)
    strange = rewritten(hosting.export_work(), home / "here" / "strange.zip", change)
    (home / "notebooks" / "my_notes.ipynb").unlink()
    progress_file.location().unlink()
    before = files_below(tmp_path)
    with pytest.raises(HostingError, match=said):
        hosting.import_work(strange)
    assert files_below(tmp_path) == before


def raw(members, name, content):
    """With a record of these bytes, truly listed."""
    listed = json.loads(members["course-work.json"])
    listed["files"][name] = hashlib.sha256(content).hexdigest()
    return {**members, name: content, "course-work.json": json.dumps(listed).encode()}


@pytest.mark.parametrize("change", [
    lambda m: raw(m, "predictions.json", b"[1]"),
    lambda m: raw(m, "predictions.json", b'{"a": {}}'),
    lambda m: raw(m, "predictions.json", b"[" * 100_000),
    lambda m: raw(m, "progress.json", b"[" * 100_000),
    lambda m: raw(m, "progress.json", b'{"version": 1, "entries": []}'),
    lambda m: {**m, "course-work.json": b"[" * 100_000},
    lambda m: {**m, "course-work.json": b"[]"},
    lambda m: {**m, "course-work.json": b'{"version": 1}'},
    lambda m: {**m, "course-work.json": b'{"version": 1, "files": {"models/a.pt": 3}}'},
    lambda m: {**m, "course-work.json": b'{"version": 1, "files": [1]}'},
    lambda m: {**m, "course-work.json": b'{"version": 9, "files": {}}'},
])  # fmt: skip
def test_records_of_another_kind_change_nothing(home, tmp_path, change):
    some_work(home)
    strange = rewritten(hosting.export_work(), home / "here" / "strange.zip", change)
    (home / "notebooks" / "my_notes.ipynb").unlink()
    before = files_below(tmp_path)
    with pytest.raises(HostingError, match="no whole export"):
        hosting.import_work(strange)
    assert files_below(tmp_path) == before


@pytest.mark.parametrize("damage", ["packing", "encrypted", "method", "bomb", "list"])
def test_archives_that_libraries_stumble_over(home, tmp_path, damage):
    some_work(home)
    archive = hosting.export_work()
    content = bytearray(archive.read_bytes())
    with zipfile.ZipFile(archive) as inside:
        first = inside.infolist()[0]
    table = content.index(b"PK\x01\x02")
    if damage == "packing":
        at = first.header_offset + 30 + len(first.filename)
        content[at : at + 10] = b"\xff" * 10
    elif damage == "encrypted":
        content[first.header_offset + 6] |= 1
        content[table + 8] |= 1
    elif damage == "method":
        content[first.header_offset + 8] = content[table + 10] = 97
    archive.write_bytes(content)
    if damage in ("bomb", "list"):
        name = "course-work.json" if damage == "list" else "models/a.pt"
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
            packed.writestr("course-work.json" if damage == "bomb" else "x", "{}")
            with packed.open(name, "w") as file:
                for _ in range(1100 if damage == "bomb" else 20):
                    file.write(bytes(1 << 20))
    (home / "notebooks" / "my_notes.ipynb").unlink()
    before = files_below(tmp_path)
    with pytest.raises(HostingError, match="no whole export"):
        hosting.import_work(archive)
    assert files_below(tmp_path) == before


@pytest.mark.parametrize("trouble", ["full", "conflict", "rename", "progress", "stopped"])
def test_an_import_is_whole_or_nothing(home, tmp_path, monkeypatch, trouble):
    some_work(home)
    archive = hosting.export_work()
    for name in ("notebooks/my_notes.ipynb", "data/my_pictures/train/one.jpg", "progress.json"):
        (home / name).unlink()
    (home / "data/my_pictures/train").rmdir()
    (home / "data/my_pictures").rmdir()
    calls, error = [], KeyboardInterrupt if trouble == "stopped" else OSError(28, "No space left")

    def failing(real):
        def third(*arguments, **options):
            calls.append(1)
            if len(calls) == (1 if trouble == "progress" else 3):
                raise error
            return real(*arguments, **options)

        return third

    def failing_always(*_):
        raise PermissionError(1, "Operation not permitted")

    if trouble == "conflict":
        (home / "notebooks" / "my_models").write_text("no folder")
    elif trouble == "rename":
        monkeypatch.setattr("pathlib.Path.hardlink_to", failing_always)  # as on some file systems
        monkeypatch.setattr("pathlib.Path.rename", failing(work.Path.rename))
    elif trouble == "progress":
        monkeypatch.setattr(progress_file, "write_file", failing(progress_file.write_file))
    else:
        monkeypatch.setattr(work.os, "fsync", failing(work.os.fsync))
    before = files_below(tmp_path)
    with pytest.raises(KeyboardInterrupt if trouble == "stopped" else HostingError):
        hosting.import_work(archive)
    assert files_below(tmp_path) == before
    assert not (home / "data" / "my_pictures").exists()


def test_what_another_process_puts_there_at_the_last_moment_stays(home, monkeypatch):
    some_work(home)
    archive = hosting.export_work()
    notes = home / "notebooks" / "my_notes.ipynb"
    notes.write_text("another's")
    monkeypatch.setattr(work.os.path, "lexists", lambda path: False)  # it wasn't there when asked
    hosting.import_work(archive)
    assert notes.read_text() == "another's"
    assert (home / "notebooks" / "my_notes-2.ipynb").read_text() != "another's"


def test_names_that_no_import_takes_are_not_exported(home):
    some_work(home)
    for name in (
        b"my_\xff.txt",
        b"my_\x1b[31m",
        b"my_a\\b",
        b"my_a:b",
        b"my_a?",
        b"my_a.",
        b"my_ ",
    ):
        odd = home / "here" / os.fsdecode(name)
        odd.write_text("x")
        with pytest.raises(HostingError, match=r"can't go into an archive.*Rename"):
            hosting.export_work()
        odd.unlink()
    assert not (home / "here" / "course-work.zip").exists()


def test_what_a_file_manager_leaves_is_not_packed(home):
    (home / "notebooks" / "my_notes").mkdir()
    for name in (".DS_Store", "._a.txt", "Thumbs.db", "a.txt"):
        (home / "notebooks" / "my_notes" / name).write_text("x")
    with zipfile.ZipFile(hosting.export_work()) as inside:
        assert set(inside.namelist()) == {"notebooks/my_notes/a.txt", "course-work.json"}


def packed(home, *names, **members):
    """An export with these files, as another system might write it."""
    digests = {name: hashlib.sha256(name.encode()).hexdigest() for name in names}
    path = home / "here" / "other.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, name)
        for name, content in members.items():
            archive.writestr(name, content)
        archive.writestr("course-work.json", json.dumps({"version": 1, "files": digests}))
    return path


@pytest.mark.parametrize("name", [
    "notebooks/my_a/CON", "notebooks/my_a/aux.tar.gz", "models/NUL.pth", "models/com1.pth",
    "data/my_a/LPT¹", "data/my_a/nul .txt", "notebooks/my_a.", "notebooks/my_a ", "data/my_a /x",
    "data/my_a./x", "notebooks/my_a?", "notebooks/my_*", 'notebooks/my_"', "notebooks/my_<b>",
    "notebooks/my_a|b", "notebooks/my_a:stream", "C:/my_a", "C:my_a", "//host/share/my_a",
    "notebooks\\my_a", "models\\..\\my_a", "__MACOSX/notebooks/._my_a", "notebooks/._my_a",
    "notebooks/my_a/", "notebooks//my_a", "notebooks/my_a\0b", "Notebooks/my_a", "PROGRESS.JSON",
])  # fmt: skip
def test_names_that_mean_another_file_elsewhere_are_refused(home, tmp_path, name):
    archive = packed(home, "notebooks/my_good.txt", name)
    before = files_below(tmp_path)
    with pytest.raises(HostingError, match="no whole export"):
        hosting.import_work(archive)
    assert files_below(tmp_path) == before


@pytest.mark.parametrize("names", [
    ("notebooks/my_a.txt", "notebooks/my_A.txt"), ("data/my_x/a", "data/my_X/a"),
    ("notebooks/my_K\u00e4se.txt", "notebooks/my_Ka\u0308se.txt"),
    ("notebooks/my_stra\u00dfe", "notebooks/my_STRASSE"),
    ("notebooks/my_a", "notebooks/my_a/b"), ("notebooks/my_a/b", "notebooks/my_a"),
])  # fmt: skip
def test_names_that_are_one_elsewhere_are_all_taken_in(home, names, monkeypatch):
    """Where capitals don't count, or forms of a letter, the later one gets a number."""

    def folded(path):
        return unicodedata.normalize("NFC", str(path)).casefold()

    def exists(path):
        return folded(path) in {folded(each) for each in home.rglob("*")}

    monkeypatch.setattr(work.os.path, "lexists", exists)
    archive = packed(home, *names)
    written = hosting.import_work(archive)
    assert sorted(each.read_text() for each in written) == sorted(names)
    if not any(f"{one}/" in other for one in names for other in names) and "/a" not in names[0]:
        assert len({folded(each) for each in written}) == len(names)


def test_what_a_mac_adds_is_passed_over(home):
    archive = packed(home, "notebooks/my_a", "data/my_b/.DS_Store", "data/my_b/._x",
                     **{"__MACOSX/notebooks/._my_a": b"fork", ".DS_Store": b"x"})  # fmt: skip
    written = hosting.import_work(archive)
    assert [each.name for each in written] == ["my_a"]
    assert not (home / "data" / "my_b").exists()


@pytest.mark.parametrize("written_as", ["cp437", "utf-8"])
def test_names_of_an_old_packer_are_understood_or_refused(home, tmp_path, written_as):
    """CP437 is what an archive's names are in unless it says otherwise; some write UTF-8 there."""
    listed = "notebooks/my_Käse.txt"
    archive = packed(home, listed)
    plain = "notebooks/my_K" + "?" * len("ä".encode(written_as)) + "se.txt"
    with zipfile.ZipFile(archive, "w") as again:
        again.writestr(plain, listed)
        digest = hashlib.sha256(listed.encode()).hexdigest()
        again.writestr("course-work.json", json.dumps({"version": 1, "files": {listed: digest}}))
    content = archive.read_bytes().replace(plain.encode(), listed.encode(written_as))
    archive.write_bytes(content)
    before = files_below(tmp_path)
    if written_as == "cp437":
        assert [each.name for each in hosting.import_work(archive)] == ["my_Käse.txt"]
        return
    with pytest.raises(HostingError, match="no whole export"):
        hosting.import_work(archive)
    assert files_below(tmp_path) == before


def test_an_archive_that_was_packed_again_is_told(home):
    with zipfile.ZipFile(home / "here" / "again.zip", "w") as archive:
        archive.writestr("course-work/course-work.json", "{}")
    with pytest.raises(HostingError, match="unpacked, and packed again"):
        hosting.import_work("again.zip")


def test_a_file_from_before_there_were_archives_is_packed(home):
    some_work(home)
    old = home / "here" / "my_old.txt"
    old.write_text("x")
    os.utime(old, (0, 0))
    archive = hosting.export_work()
    assert "models/my_old.txt" in zipfile.ZipFile(archive).namelist()


def test_what_is_no_export_is_said(home):
    with pytest.raises(HostingError, match="There is no file"):
        hosting.import_work("nothing.zip")
    (home / "here" / "text.zip").write_text("text")
    with pytest.raises(HostingError, match="no whole export"):
        hosting.import_work("text.zip")


def test_nothing_to_export_is_said(home):
    with pytest.raises(HostingError, match="nothing to export yet"):
        hosting.export_work()
    assert list((home / "here").iterdir()) == []


def test_answers_in_a_chapter_come_as_a_notebook_of_your_own(home, monkeypatch):
    (home / "notebooks" / "02_x.ipynb").write_text('{"answers": 1}')
    found = [("my_02_x.ipynb", home / "notebooks" / "02_x.ipynb")]
    monkeypatch.setattr(work, "_answered", lambda: iter(found))
    (written,) = hosting.import_work(hosting.export_work())
    assert written == home / "notebooks" / "my_02_x.ipynb"


def test_chapters_as_they_were_built_are_not_answers(monkeypatch):
    """In this checkout, untouched, only what is out of step would be exported."""
    from course_lib.publishing import notebooks

    changed = [
        f"my_{name}.ipynb"
        for name in notebooks.sources()
        if notebooks.notebook_path(name).exists() and not notebooks.in_step(name)
    ]
    assert [name for name, _ in work._answered() if "/" not in name] == changed
    monkeypatch.setenv("KAGGLE_KERNEL_RUN_TYPE", "Interactive")
    assert list(work._answered()) == []


def test_what_lies_in_your_copy_of_the_chapters_goes_there_and_back(home, monkeypatch):
    copy = home / "notebooks" / "my_course"
    copy.mkdir()
    for name in ("02_x.ipynb", "my_notes.txt", "mine.safetensors", ".course/copied.json"):
        (copy / name).parent.mkdir(exist_ok=True)
        (copy / name).write_text(name)
    found = [("my_course/my_02_x.ipynb", copy / "02_x.ipynb")]
    monkeypatch.setattr(work, "_answered", lambda: iter(found))
    for here in ("here", "notebooks/my_course"):
        monkeypatch.chdir(home / here)
        archive = hosting.export_work(home / "work.zip")
        assert set(zipfile.ZipFile(archive).namelist()) == {
            "notebooks/my_course/my_02_x.ipynb", "notebooks/my_course/my_notes.txt",
            "notebooks/my_course/mine.safetensors", "course-work.json",
        }  # fmt: skip
    before = files_below(copy)
    written = hosting.import_work(archive)
    assert written == [copy / "my_02_x.ipynb"], "the others are there"
    assert before.items() <= files_below(copy).items()


def test_four_imports_at_once_bring_each_file_once(home, tmp_path):
    for number in range(30):
        (home / "notebooks" / f"my_{number}.txt").write_text("x" * number)
    archive = hosting.export_work()
    brought = files_below(home / "notebooks")
    shutil.rmtree(home / "notebooks")
    (home / "notebooks").mkdir()
    context = multiprocessing.get_context("fork")  # what `home` has set goes along
    together = context.Barrier(4)

    def one():
        together.wait()
        hosting.import_work(archive)

    running = [context.Process(target=one) for _ in range(4)]
    for each in running:
        each.start()
    for each in running:
        each.join()
    assert [each.exitcode for each in running] == [0] * 4
    assert files_below(home / "notebooks") == brought


def test_an_import_goes_to_where_your_copy_is(home):
    some_work(home)
    archive = hosting.export_work()
    copy = home / "notebooks" / "my_course"
    copy.mkdir()
    (home / "notebooks" / "my_notes.ipynb").unlink()
    hosting.import_work(archive)
    assert set(files_below(copy)) == {"my_notes.ipynb", "my_models/model.safetensors"}
    assert hosting.import_work(archive) == []


@pytest.fixture
def colab(home, monkeypatch):
    """Colab's modules, with a Drive that mounts into a folder of this test."""
    google, package = types.ModuleType("google"), types.ModuleType("google.colab")
    files, drive = types.ModuleType("google.colab.files"), types.ModuleType("google.colab.drive")
    drive_folder = home / "drive" / "MyDrive"
    files.download = lambda path: downloaded.append(path)
    drive.mount = lambda where: drive_folder.mkdir(parents=True)
    downloaded = package.downloaded = []
    for module in (google, package, files, drive):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(paths, "DRIVE", drive_folder)
    monkeypatch.setenv("COURSE_CACHE", str(home / "cache"))
    monkeypatch.delenv("COURSE_PROGRESS")
    return package


def test_on_colab_the_browser_gets_the_file(colab, home):
    some_work(home)
    archive = hosting.export_work()
    assert colab.downloaded == [str(archive)]


def test_keep_mounts_the_drive_and_brings_the_progress_along(colab, home, capsys):
    progress_file.join({"4.1": ENTRY})
    assert progress_file.location() == home / "cache" / "progress.json"
    folder = hosting.keep_work()
    assert folder == paths.DRIVE / "course-work"
    assert progress_file.location() == folder / "progress.json"
    assert progress_file.entries() == {"4.1": ENTRY}
    assert paths.Path.cwd() == folder, "what is saved under a plain name lands there"
    assert str(folder) in capsys.readouterr().out
    progress_file.note_attempt("2.1", True)
    assert set(progress_file.read(folder / "progress.json")) == {"4.1", "2.1"}
    hosting.keep_work()
    assert set(progress_file.entries()) == {"4.1", "2.1"}


def test_the_last_cell_of_a_chapter_takes_the_work_home(colab, home, capsys):
    hosting.take_home()
    assert "nothing to export yet" in capsys.readouterr().out, "Run All stays green"
    assert colab.downloaded == []
    some_work(home)
    hosting.take_home()
    assert colab.downloaded == [str(home / "here" / "course-work.zip")]
    hosting.keep_work()
    capsys.readouterr()
    hosting.take_home()
    assert f"goes to {paths.DRIVE / 'course-work'}" in capsys.readouterr().out
    assert len(colab.downloaded) == 1, "in the Drive it is safe already"


def test_a_refused_drive_is_one_line_with_the_other_way(colab, monkeypatch):
    def refuse(where):
        raise ValueError("mount failed")

    monkeypatch.setattr(sys.modules["google.colab.drive"], "mount", refuse)
    with pytest.raises(HostingError, match=r"not mounted \(mount failed\).*export_work"):
        hosting.keep_work()


def test_on_kaggle_the_output_lasts(home, monkeypatch):
    monkeypatch.setenv("KAGGLE_KERNEL_RUN_TYPE", "Batch")
    monkeypatch.delenv("COURSE_PROGRESS")
    monkeypatch.setattr(paths, "KAGGLE_OUTPUT", home / "here")
    assert hosting.host() == "kaggle"
    assert progress_file.location() == home / "here" / "course-work" / "progress.json"


def test_on_your_own_machine_nothing_is_elsewhere(home, monkeypatch, capsys):
    assert hosting.host() is None
    assert hosting.lasting_dir() is None
    some_work(home)
    hosting.take_home()
    assert capsys.readouterr().out == "Your own machine: what you did stays here.\n"
    assert not list((home / "here").glob("*.zip"))
    monkeypatch.delenv("COURSE_PROGRESS")
    assert progress_file.location() == paths.cache_dir() / "progress.json"
    with pytest.raises(HostingError, match="your own machine"):
        hosting.keep_work()


KILLED = """
import os, signal, sys
from pathlib import Path
from course_lib.setup import lab
from course_lib.setup.hosting import work

home, at, seen = Path(sys.argv[1]), int(sys.argv[2]), 0
work.repo_root = lab.repo_root = lambda: home
os.chdir(home / "here")

def watch(event, arguments):
    global seen
    if event.startswith(("open", "os.", "fcntl.")) and str(home) in str(arguments):
        seen += 1
        if seen == at:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(watch)
work.import_work(home / "work.zip")
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="another way to end a process there")
def test_killed_at_any_moment_nothing_is_left_that_grows(home, monkeypatch):
    """At every ninth dealing with files: whole files or none, and the next import tidies up."""
    some_work(home)
    (home / "data" / "my_pictures" / "two.jpg").write_bytes(os.urandom(300_000))
    predictions._noted.clear()
    hosting.export_work(home / "work.zip")
    whole = set(files_below(home).values())
    for name in ("tmp", "cache"):
        (home / name).mkdir()
    monkeypatch.setenv("TMPDIR", str(home / "tmp"))
    monkeypatch.setenv("COURSE_CACHE", str(home / "cache"))

    def run(at):
        for each in ("notebooks", "data"):
            shutil.rmtree(home / each, ignore_errors=at > 1)
            (home / each).mkdir()
        command = [sys.executable, "-c", KILLED, str(home), str(at)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    at = 1
    while (done := run(at)).returncode == -signal.SIGKILL:
        there = files_below(home).items()
        assert {each for name, each in there if "/my_" in name and ".course-" not in name} <= whole
        assert len(list((home / "cache" / "importing").glob(".course-*"))) <= 1
        assert not any((home / "tmp").iterdir())
        at += 9
    assert done.returncode == 0, done.stderr
    assert at > 40
    assert not list(home.rglob(".course-*"))


def test_what_an_import_left_when_it_was_killed_goes_with_the_next(home, monkeypatch):
    some_work(home)
    archive = hosting.export_work()
    (home / "notebooks" / "my_notes.ipynb").unlink()
    monkeypatch.setenv("COURSE_CACHE", str(home / "cache"))
    with subprocess.Popen([sys.executable, "-c", ""]) as dead:
        pass
    name = paths.temporary_beside(home / "x").name.replace(f"-{os.getpid()}-", f"-{dead.pid}-")
    for place in (home / "notebooks", home / "cache" / "importing"):
        (place / name).mkdir(parents=True)
    hosting.import_work(archive)
    assert not list(home.rglob(".course-*"))


@pytest.mark.parametrize("guess", [10**400, {"a": 1}, {1}, torch.zeros(2), [torch.zeros(2), 1]],
                         ids=["large", "dictionary", "set", "tensor", "list"])  # fmt: skip
def test_predictions_of_every_kind_are_taken_along(home, guess):
    predictions._noted["x"] = guess
    archive = hosting.export_work()
    predictions._noted.clear()
    hosting.import_work(archive)
    predictions.compare("x", 0.5)
