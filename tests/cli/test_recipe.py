"""``course train`` and ``course predict``: what is printed where, and the exit status."""

import csv
import io
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from PIL import Image

from course_lib import backbones, cli, recipe
from course_lib.data.manifest import bundled_folder
from course_lib.recipe import Predictor, command, saved

NAME = "squeezenet1_1"
CLASSES = ("hotdog", "not-hotdog", "other", "crème brûlée 🍮")


@pytest.fixture(scope="module")
def photos():
    return sorted((bundled_folder() / "test").rglob("*.jpg"))[::32]


@pytest.fixture
def room(tmp_path, monkeypatch, photos):
    """A folder to work in, with a network, three photographs and a folder of two."""
    torch.manual_seed(0)
    model = backbones.load(NAME, num_classes=len(CLASSES), pretrained=False).eval()
    predictor = Predictor(model, CLASSES, backbones.preprocessing(NAME, 64), threshold=0,
                          about={"backbone": NAME})  # fmt: skip
    saved.save(predictor, tmp_path / "mine.safetensors")
    for at, photo in zip(("a.jpg", "b c.jpg", "-d.jpg"), photos, strict=False):
        (tmp_path / at).write_bytes(photo.read_bytes())
    (tmp_path / "more").mkdir()
    for at in ("x.jpg", "y.jpg"):
        (tmp_path / "more" / at).write_bytes(photos[0].read_bytes())
    (tmp_path / "more" / "notes.txt").write_text("no picture")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(capsys, *words):
    status = cli.main(list(words))
    said = capsys.readouterr()
    return status, said.out, said.err


def test_a_table_of_files_and_folders(room, capsys):
    status, out, err = run(capsys, "predict", "mine.safetensors", "a.jpg", "b c.jpg", "more")
    assert (status, err) == (0, "")
    expected = recipe.load("mine.safetensors").predict(["a.jpg", "b c.jpg", "more/x.jpg"])
    lines = out.splitlines()
    assert [line.split("  ")[0] for line in lines] == [
        "a.jpg", "b c.jpg", str(Path("more", "x.jpg")), str(Path("more", "y.jpg"))
    ]  # fmt: skip
    for line, each in zip(lines, expected, strict=False):
        assert [each.answer, *each.best()] == [
            part.strip() for part in line.split("  ")[1:] if part
        ]


def test_json_and_csv_say_the_same_as_the_library(room, capsys):
    words = ["predict", "mine.safetensors", "a.jpg", "b c.jpg"]
    expected = recipe.load("mine.safetensors").predict(["a.jpg", "b c.jpg"])
    status, out, err = run(capsys, *words, "--json")
    assert (status, err) == (0, "")
    for found, each in zip(json.loads(out), expected, strict=True):
        assert list(found) == ["file", "label", "sure", "probabilities"]
        assert found["file"] == each.source
        assert (found["label"], found["sure"]) == (each.label, each.sure)
        assert list(found["probabilities"].items()) == list(each.probabilities.items())
    status, out, err = run(capsys, *words, "--csv")
    assert (status, err) == (0, "")
    rows = list(csv.reader(io.StringIO(out)))
    assert rows[0] == ["file", "label", "sure", *CLASSES]
    for row, each in zip(rows[1:], expected, strict=True):
        assert row[:3] == [each.source, each.label, "true"]
        assert list(map(float, row[3:])) == [each.probabilities[name] for name in CLASSES]


def test_the_threshold_can_be_another(room, capsys):
    words = ["predict", "mine.safetensors", "a.jpg", "--threshold"]
    assert "not sure" not in run(capsys, *words, "0")[1]
    assert "not sure" in run(capsys, *words, "1")[1]
    assert json.loads(run(capsys, *words, "1", "--json")[1])[0]["sure"] is False
    for value in ("-0.1", "1.1", "nan", "half"):
        with pytest.raises(SystemExit) as stop:
            cli.main([*words, value])
        assert stop.value.code == 2
        assert "probability from 0 to 1" in capsys.readouterr().err


@pytest.mark.parametrize("form", ["--json", "--csv", None])
def test_bad_pictures_are_named_and_skipped(room, capsys, form):
    (room / "bad.jpg").write_bytes(b"nothing")
    (room / "more" / "cut.jpg").write_bytes((room / "a.jpg").read_bytes()[:500])
    (room / "empty").mkdir()
    words = ["predict", "mine.safetensors", "a.jpg", "bad.jpg", "gone.jpg", "more", "empty"]
    status, out, err = run(capsys, *words, *([form] if form else []))
    assert status == 1
    names = ["a.jpg", str(Path("more", "x.jpg")), str(Path("more", "y.jpg"))]
    if form == "--json":
        assert [each["file"] for each in json.loads(out)] == names
    else:
        first = [line.split("," if form else "  ")[0] for line in out.splitlines()]
        assert first == (["file", *names] if form else names)
    problems = err.splitlines()
    assert len(problems) == 4
    for name in ("bad.jpg", "gone.jpg", "cut.jpg", "empty"):
        assert any(line.startswith("course: ") and name in line for line in problems)


def test_nothing_that_could_be_predicted_is_valid_output_too(room, capsys):
    words = ["predict", "mine.safetensors", "gone.jpg"]
    assert run(capsys, *words)[:2] == (1, "")
    status, out, _ = run(capsys, *words, "--json")
    assert (status, json.loads(out)) == (1, [])
    assert run(capsys, *words, "--csv")[1].startswith("file,label,sure,")


def test_names_with_dashes_and_patterns(room, capsys):
    status, out, _ = run(capsys, "predict", "mine.safetensors", "--", "-d.jpg")
    assert status == 0
    assert out.startswith("-d.jpg  ")
    (room / "[a].jpg").write_bytes((room / "a.jpg").read_bytes())  # a pattern, but also a file
    status, out, _ = run(capsys, "predict", "mine.safetensors", "[a].jpg", "m*/?.jpg")
    names = [line.split("  ")[0] for line in out.splitlines()]
    assert names == ["[a].jpg", str(Path("more", "x.jpg")), str(Path("more", "y.jpg"))]
    status, out, err = run(
        capsys, "predict", "mine.safetensors", str(room / "m*" / "x.jpg"), "*.bmp"
    )
    assert status == 1
    assert out.startswith(str(room / "more" / "x.jpg"))
    assert "no file *.bmp" in err


@pytest.mark.parametrize("file", ["a.jpg", "gone.safetensors", "more"])
def test_a_file_that_is_no_network_is_one_line(room, capsys, file):
    status, out, err = run(capsys, "predict", file, "a.jpg")
    assert (status, out) == (1, "")
    assert err.startswith("course: ")
    assert len(err.splitlines()) == 1


def test_a_name_that_would_move_the_cursor_is_escaped(room, capsys):
    (room / "new\nline\x1b[2J.jpg").write_bytes((room / "a.jpg").read_bytes())
    _, out, _ = run(capsys, "predict", "mine.safetensors", "new\nline\x1b[2J.jpg")
    assert out.startswith(r"new\nline\x1b[2J.jpg  ")
    assert len(out.splitlines()) == 1


def test_a_folders_names_and_warnings_are_escaped_too(room, capsys):
    (room / "more" / "\x1b[2J.jpg").write_bytes(b"\xff\xd8no picture")
    assert run(capsys, "predict", "mine.safetensors", "more", "\x1b[2J")[2].count("\\x1b[2J") == 2
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        command._tell(UserWarning("\x1b[2J"))
    assert capsys.readouterr().err == "course: \\x1b[2J\n"


def in_a_console(room, encoding, *words, **variables):
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0", **variables}
    command = [sys.executable, "-m", "course_lib.cli", *words]
    return subprocess.run(command, cwd=room, env=environment, capture_output=True, check=False)


SLOW = [pytest.param(each, marks=pytest.mark.slow) for each in ("cp1252", "ascii", "utf-8")]


@pytest.mark.parametrize("encoding", ["cp437", *SLOW])
def test_a_console_that_lacks_characters_shows_them_escaped(room, encoding):
    name = "日本 é 🌭.jpg"
    (room / name).write_bytes((room / "a.jpg").read_bytes())
    (room / "-d.jpg").rename(room / os.fsdecode(b"\xff.jpg"))
    for form in ([], ["--csv"], ["--json"]):
        words = [
            "predict",
            "mine.safetensors",
            *form,
            name,
            os.fsdecode(b"\xff.jpg"),
            "gone é 日.jpg",
        ]
        done = in_a_console(room, encoding, *words)
        assert done.returncode == 1
        assert b"Traceback" not in done.stderr
        shown = name.encode(encoding, "backslashreplace")
        if form == ["--json"]:
            said = json.loads(done.stdout)
            assert [each["file"] for each in said] == [name, os.fsdecode(b"\xff.jpg")]
        else:
            assert shown in done.stdout
            assert b"\\udcff.jpg" in done.stdout
        assert "gone é 日.jpg".encode(encoding, "backslashreplace") in done.stderr


def test_a_narrow_console_gets_shorter_names(room, capsys, monkeypatch):
    long = "a" * 30 + "/" + "b" * 60 + ".jpg"
    (room / ("a" * 30)).mkdir()
    (room / long).write_bytes((room / "a.jpg").read_bytes())
    words = ["predict", "mine.safetensors", long]
    assert run(capsys, *words)[1].startswith(long)  # not cut where nobody is watching
    monkeypatch.setattr(type(sys.stdout), "isatty", lambda _: True)
    monkeypatch.setenv("COLUMNS", "100")
    _, out, _ = run(capsys, *words)
    (line,) = out.splitlines()
    assert len(line) <= 100
    assert line.startswith("...")
    assert "b.jpg  " in line


def test_many_files(room, capsys):
    Image.new("RGB", (8, 8)).save(room / "tiny.png")
    status, out, _ = run(capsys, "predict", "mine.safetensors", *["tiny.png"] * 300)
    assert status == 0
    assert len(out.splitlines()) == 300
    assert len(set(out.splitlines())) == 1


@pytest.mark.parametrize(
    "words", [["predict"], ["predict", "mine.safetensors"], ["train"],
              ["predict", "mine.safetensors", "a.jpg", "--json", "--csv"],
              ["train", ".", "--minutes", "nan"], ["train", ".", "--minutes", "-1"],
              ["train", ".", "--size", "large"]]
)  # fmt: skip
def test_wrong_words_show_the_usage(room, words, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(words)
    assert stop.value.code == 2
    assert "usage: course" in capsys.readouterr().err


def test_a_network_that_is_there_is_not_replaced_unasked(room, capsys):
    before = (room / "mine.safetensors").read_bytes()
    status, _, err = run(capsys, "train", "more")
    assert status == 1
    assert "--out" in err
    assert (room / "mine.safetensors").read_bytes() == before


def test_stopping_with_nothing_to_keep(room, monkeypatch, capsys):
    def stopped(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(recipe, "fit", stopped)  # Ctrl-C before there is a head
    status, _, err = run(capsys, "train", "more", "--out", "new.safetensors")
    assert status == 130
    assert err == "course: stopped.\n"
    assert command.OUT == "mine.safetensors"


def test_train_and_predict_as_a_person_does(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for label in ("hotdog", "not-hotdog"):
        (tmp_path / "pictures" / label).mkdir(parents=True)
        for each in sorted((bundled_folder() / "train" / label).glob("*.jpg"))[:20]:
            (tmp_path / "pictures" / label / each.name).write_bytes(each.read_bytes())
    status, out, _ = run(capsys, "train", "pictures", "--minutes", "0.1", "--size", "64")
    assert status == 0
    assert out.count("What was done") == out.count("(95 % interval)") == 1
    assert "course predict mine.safetensors PHOTO" in out
    status, out, _ = run(capsys, "predict", "mine.safetensors", "pictures", "--json")
    assert status == 0
    found = json.loads(out)
    assert len(found) == 40
    right = [Path(each["file"]).parent.name == each["label"] for each in found]
    assert sum(right) >= 32


@pytest.mark.parametrize("folder", ["gone", "empty", "mine.safetensors"])
def test_a_folder_that_cannot_be_used_is_one_line(room, capsys, folder):
    (room / "empty").mkdir()
    status, _, err = run(capsys, "train", folder, "--out", "new.safetensors")
    assert status == 1
    assert err.startswith("course: ")
    assert not (room / "new.safetensors").exists()
