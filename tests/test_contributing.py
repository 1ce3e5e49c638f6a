"""CONTRIBUTING and README name what is there: files, names, commands."""

import re
import tomllib
from pathlib import Path

import pytest

from course_lib import cli
from course_lib.paths import repo_root

ROOT = repo_root()
TEXTS = {
    name: (ROOT / name).read_text(encoding="utf-8") for name in ("CONTRIBUTING.md", "README.md")
}
WHERE = re.findall(r"^\| (.+\?) \| `(\S+)` \| `(\w+)` \|$", TEXTS["CONTRIBUTING.md"], re.M)


def code_lines(text):
    """What stands in code blocks, a line each without its comment, and between backticks."""
    blocks = re.findall(r"^ *```\w*\n(.*?)^ *```$", text, re.M | re.S)
    spans = re.findall(r"`([^`\n]+)`", re.sub(r"^ *```.*?^ *```$", "", text, flags=re.M | re.S))
    lines = [line.partition("#")[0] for block in blocks for line in block.splitlines()]
    return [line.strip() for line in [*lines, *spans] if line.strip()]


@pytest.fixture(params=TEXTS)
def text(request):
    return TEXTS[request.param]


def test_every_path_is_there(text):
    linked = re.findall(r"\]\((?!https?:)([^)#]+)\)", text)
    tops = {path.name for path in ROOT.iterdir()} - {".venv"}
    words = [word.strip('",;()') for line in code_lines(text) for word in line.split()]
    named = [word for word in words if re.fullmatch(r"[\w./-]+", word) and "/" in word]
    named = [word for word in named if Path(word).parts[0] in tops | {"course_lib", "tests"}]
    assert linked
    assert named
    assert [path for path in [*linked, *named] if not (ROOT / path).exists()] == []


def test_every_make_target_is_there(text):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    named = {
        word for line in code_lines(text) for word in re.findall(r"\bmake ([a-z][a-z-]*)", line)
    }
    assert named
    assert named <= targets


def test_every_command_parses(text):
    commands = [line for line in code_lines(text) if line.startswith("course ")]
    assert commands
    for command in commands:
        try:
            cli._parser().parse_args(command.split()[1:])
        except SystemExit as stopped:
            pytest.fail(f"`{command}`: {stopped}")


def test_twenty_questions_are_answered():
    assert len({question for question, _, _ in WHERE}) == 20


@pytest.mark.parametrize(("question", "file", "name"), WHERE)
def test_where_is(question, file, name):
    source = (ROOT / file).read_text(encoding="utf-8")
    assert re.search(rf"^(def|class) {name}\b|^{name}\b.* = |^\w.*, {name} = ", source, re.M), (
        question
    )


def test_the_rooms_stand_in_the_order_that_is_checked():
    """The table of rooms is [tool.importlinter]'s, line by line."""
    checked = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    layers = [set(re.split(r" [:|] ", layer)) for layer in checked["contracts"][0]["layers"]]
    part = TEXTS["CONTRIBUTING.md"].partition("| rooms, from top")[2].partition("\n\n")[0]
    rows = [line.split("|")[1] for line in part.splitlines()[2:]]
    assert [set(re.findall(r"course_lib/(\w+)", row)) for row in rows] == layers
