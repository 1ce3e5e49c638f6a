"""A hash of an experiment's design: when code and results part ways, it tells.

It covers the announced arms, measures and contrasts, the function with its docstring, every
function, class and constant of ``course_lib.evidence`` that it uses, directly or not, and the data
files that it names. Comments and layout don't count. What it uses of the rest of the library is
not in it: that such a change leaves results alone is shown by running a seed again
(``course evidence check --recompute``).
"""

import ast
import hashlib
import inspect
import io
import tokenize
from collections.abc import Iterator
from types import CodeType, FunctionType, ModuleType
from typing import Any

from course_lib.evidence.design import (
    Answers,
    Contrast,
    EvidenceError,
    Experiment,
    Measure,
    sharing,
)
from course_lib.paths import data_dir, file_hash

PACKAGE = "course_lib.evidence"
LENGTH = 16
FRAME = (Experiment, Measure, Contrast, EvidenceError, Answers)  # of every experiment alike


def fingerprint(experiment: Experiment) -> str:
    """Sixteen hexadecimal digits that change with the design.

    Raises:
        EvidenceError: a data file that the experiment names isn't there.
    """
    announced = (
        experiment.results,
        experiment.arms,
        tuple(repr(each) for each in experiment.measures),
        [(each.id, *map(repr, each.contrasts)) for each in sharing(experiment)],
    )
    source = "\n" + _source(experiment.run)
    parts = {"announced": repr(announced), "run": _squeezed(source[source.index("\ndef ") :])}
    _collect(experiment.run, parts)
    for name in experiment.files:
        path = data_dir() / name
        if not path.is_file():
            raise EvidenceError(f"{experiment.id} needs {path}, which isn't there.")
        parts[f"file {name}"] = file_hash(path)
    digest = hashlib.sha256()
    for key in sorted(parts):
        digest.update(f"{key}\0{parts[key]}\0".encode())
    return digest.hexdigest()[:LENGTH]


def _collect(used: Any, parts: dict[str, str]) -> None:
    """Enter everything of this package that ``used`` refers to by name."""
    for name, value in _references(used):
        _enter(name, value, parts)


def _enter(name: str, value: Any, parts: dict[str, str]) -> None:
    value = inspect.unwrap(value) if callable(value) else value  # what is cached, too
    if isinstance(value, FunctionType | type):
        key = f"{value.__module__}.{value.__qualname__}"
        ours = value.__module__.startswith(PACKAGE) and value not in FRAME
        if ours and key not in parts:
            parts[key] = _squeezed(_without_docstrings(_source(value)))
            _collect(value, parts)
    elif isinstance(value, dict):
        for key, inner in value.items():
            _enter(f"{name}[{key!r}]", inner, parts)
    elif isinstance(value, tuple | list):
        parts[f"length {name}"] = str(len(value))
        for place, inner in enumerate(value):
            _enter(f"{name}[{place}]", inner, parts)
    elif isinstance(value, set | frozenset):
        parts[f"constant {name}"] = repr(sorted(map(repr, value)))
    elif isinstance(value, int | float | str | bytes):
        parts[f"constant {name}"] = repr(value)
    elif type(value).__module__.startswith(PACKAGE) and not isinstance(value, FRAME):
        _enter(f"kind of {name}", type(value), parts)
        _enter(name, vars(value), parts)


def _references(used: Any) -> Iterator[tuple[str, Any]]:
    """Pairs (name, value) of the globals that a function or a class's methods use."""
    functions = [used] if isinstance(used, FunctionType) else _methods(used)
    for function in functions:
        names = sorted(_names(function.__code__))
        for name in names:
            value = function.__globals__.get(name)
            if isinstance(value, ModuleType):
                if value.__name__.startswith(PACKAGE):
                    yield from (
                        (f"{value.__name__}.{inner}", getattr(value, inner))
                        for inner in names
                        if hasattr(value, inner)
                    )
            elif value is not None:
                yield f"{function.__module__}.{name}", value


def _methods(kind: type) -> list[FunctionType]:
    values = [getattr(each, "fget", each) for each in vars(kind).values()]
    return [each for each in values if isinstance(each, FunctionType)]


def _names(code: CodeType) -> set[str]:
    inner = (each for each in code.co_consts if isinstance(each, CodeType))
    return set(code.co_names).union(*(_names(each) for each in inner))


def _source(value: Any) -> str:
    return inspect.cleandoc("\n" + inspect.getsource(value))


def _without_docstrings(source: str) -> str:
    lines = source.splitlines()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node):
            text = node.body[0]
            for number in range(text.lineno, (text.end_lineno or text.lineno) + 1):
                lines[number - 1] = ""
    return "\n".join(lines)


def _squeezed(source: str) -> str:
    """The source without comments and white space, so that layout doesn't count."""
    lines = source.splitlines(keepends=True)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column] + "\n"
    text = "".join("".join(lines).split())
    for closing in ")]}":
        text = text.replace(f",{closing}", closing)
    return text
