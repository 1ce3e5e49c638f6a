"""Every command on consoles that can't show every character, and on a narrow one."""

import io
import os
import subprocess
import sys

import pytest
from PIL import Image

from course_lib import cli


def commands(parser, words=()):
    """The words of every command, found in the parser itself."""
    inner = [each for each in parser._actions if hasattr(each, "choices") and each.nargs == "A..."]
    if not inner:
        yield list(words)
    for name, each in inner[0].choices.items() if inner else ():
        yield from commands(each, (*words, name))


ALL = list(commands(cli._parser()))
CHEAP = [["evidence", "show"], ["progress"], ["predict", "no\u2212such.safetensors", "π.jpg"],
         ["train", "no\u2212such"], ["notebooks", "build", "no\u2212such"], ["import", "−.zip"],
         ["evidence", "show", "no\u2212such"]]  # fmt: skip
MANY = {"ascii", "cp1252", "cp437", "cp850", "cp932"}


@pytest.fixture
def console(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COURSE_PROGRESS", str(tmp_path / "progress.json"))

    def run(words, encoding, columns="80"):
        monkeypatch.setenv("COLUMNS", columns)
        streams = [io.TextIOWrapper(io.BytesIO(), encoding=encoding) for _ in range(2)]
        monkeypatch.setattr(sys, "stdout", streams[0])
        monkeypatch.setattr(sys, "stderr", streams[1])
        try:
            code = cli.main(words)
        except SystemExit as stop:
            code = stop.code
        for stream in streams:
            stream.flush()
        return code, *(each.buffer.getvalue().decode(encoding) for each in streams)

    return run


def test_the_commands_are_found():
    assert ["evidence", "show"] in ALL
    assert len(ALL) > 12


@pytest.mark.parametrize("encoding", sorted(MANY))
def test_the_help_of_every_command_is_shown(console, encoding):
    for words in ALL:
        for columns in ("20", "80"):
            code, out, _ = console([*words, "--help"], encoding, columns)
            assert code == 0
            assert "usage:" in out


@pytest.mark.parametrize("encoding", sorted(MANY))
@pytest.mark.parametrize("words", CHEAP, ids=" ".join)
def test_what_a_console_can_not_show_is_escaped(console, encoding, words):
    code, out, err = console(words, encoding)
    assert code in (0, 1)
    assert (out if code == 0 else err).strip()
    assert "Traceback" not in err


def test_nothing_is_lost_where_everything_can_be_shown(console):
    _, wide, _ = console(["evidence", "show"], "utf-8")
    _, plain, _ = console(["evidence", "show"], "cp437")
    assert "−" in wide
    assert plain == wide.encode("cp437", "backslashreplace").decode("cp437")


# Beside those above, what works with pictures, models and archives: in a process of its own, with
# names that hold an accent, a minus sign and a bee.
WHOLE = [
    ["data", "verify"],
    ["train", "pictures \u2212é", "--minutes", "0.02", "--size", "64", "--out",
     "net \u2212é.safetensors"],
    ["predict", "net \u2212é.safetensors", "pictures \u2212é"],
    ["predict", "net \u2212é.safetensors", "pictures \u2212é", "--csv"],
    ["predict", "net \u2212é.safetensors", "pictures \u2212é", "--json"],
    ["train", "job.toml", "--dry-run"],
    ["train", "--keys"],
    ["export", "work \u2212é.zip"],
    ["import", "work \u2212é.zip"],
    ["colab", "--check"],
    ["evidence", "check"],
    ["handouts", "no \u2212é"],
    ["export-model", "no \u2212é"],
    ["serve", "no \u2212é"],
    ["bundle", "out", "--for", "no \u2212é"],
    ["doctor"],
]  # fmt: skip
CONSOLES = {
    "C": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "cp1252": {"PYTHONIOENCODING": "cp1252"},
    "cp437": {"PYTHONIOENCODING": "cp437"},
    "narrow": {"COLUMNS": "40"},
}
MAY_FAIL = {"doctor", "evidence check", "data verify"}  # they tell of this very machine


@pytest.mark.slow
@pytest.mark.parametrize("name", CONSOLES)
def test_every_command_in_a_process_of_its_own(tmp_path, name):
    where = os.environ | CONSOLES[name]
    where |= {"COURSE_PROGRESS": str(tmp_path / "progress.json"), "COURSE_DATA": str(tmp_path)}
    for label in ("bees \u2212é\U0001f41d", "ants"):
        folder = tmp_path / "pictures \u2212é" / label
        folder.mkdir(parents=True)
        for number in range(10):
            noise = Image.effect_noise((40, 40), 20 + 80 * (label == "ants"))
            noise.convert("RGB").save(folder / f"{number} \u2212é.png")
    (tmp_path / "job.toml").write_text(
        'data = "pictures \u2212é"\nsize = 64\nbatch_size = 4\n', encoding="utf-8"
    )
    for words in WHOLE:
        ran = subprocess.run(
            [sys.executable, "-m", "course_lib.cli", *words], cwd=tmp_path, env=where,
            stdin=subprocess.DEVNULL, capture_output=True, timeout=600,
        )  # fmt: skip
        told = ran.stderr.decode(errors="replace")
        assert "Traceback" not in told, (words, told)
        expected = 1 if any("no \u2212" in word for word in words) else 0
        # Under C, Python can't know the bytes of a name that stands in a file.
        free = words[0] in MAY_FAIL or " ".join(words) in MAY_FAIL or name == "C"
        assert ran.returncode == expected or (free and ran.returncode == 1), (words, told)
