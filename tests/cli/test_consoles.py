"""Every command on consoles that can't show every character, and on a narrow one."""

import io
import sys

import pytest

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
