"""What you have solved, kept in one small file on this machine and sent nowhere.

The file is ``progress.json`` in :func:`course_lib.paths.cache_dir`, or where the environment
variable ``COURSE_PROGRESS`` says; ``COURSE_PROGRESS=off`` keeps none. On Colab and Kaggle it is
where something lasts (your mounted Drive, the notebook's output), if there is such a place.
Keeping it never disturbs a check: a folder that can't be written to means only that nothing is
kept.
"""

import contextlib
import getpass
import json
import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

from course_lib.paths import cache_dir, host, lasting_dir, write_file

ENVIRONMENT_VARIABLE = "COURSE_PROGRESS"
FILE = "progress.json"
VERSION = 1
Entry = dict[str, Any]
EMPTY: Entry = {"passed": False, "attempts": 0, "hints": 0, "solution": False}


def location() -> Path | None:
    """Where the file is or would be; None when no progress is kept."""
    chosen = os.environ.get(ENVIRONMENT_VARIABLE, "").strip()
    if chosen.lower() == "off":
        return None
    return Path(chosen).expanduser() if chosen else (lasting_dir() or cache_dir()) / FILE


def learner() -> str:
    """Who learns here, to shuffle by; it is kept and sent nowhere.

    Empty where ``COURSE_PROGRESS`` says where progress goes, as when a notebook is built, and on a
    host, where the machine is another one tomorrow: there the printed order stays.
    """
    if os.environ.get(ENVIRONMENT_VARIABLE, "").strip() or host() is not None:
        return ""
    try:
        return f"{getpass.getuser()}@{platform.node()}"
    except (OSError, KeyError, ImportError):  # a user without a name
        return platform.node()


def set_aside() -> list[Path]:
    """Damaged files that were put aside earlier, so that nothing of yours is thrown away."""
    path = location()
    return sorted(path.parent.glob(f"{path.stem}.damaged*{path.suffix}")) if path else []


def entries() -> dict[str, Entry]:
    """Exercise or question number to what is known of it; empty when nothing is."""
    path = location()
    if path is None:
        return {}
    try:
        return understood(path.read_bytes())
    except FileNotFoundError:
        return {}
    except ValueError:  # no JSON, no text, or not our layout
        with contextlib.suppress(OSError):
            path.replace(_unused_name(path))
        return {}
    except OSError:
        return {}


def note_attempt(number: str, passed: bool) -> None:
    """One more attempt; what was passed once stays passed."""

    def note(entry: Entry) -> None:
        entry["attempts"] += 1
        entry["passed"] |= passed

    _update(number, note)


def note_hints(number: str, hints: int) -> None:
    """How many hints were read."""
    _update(number, lambda entry: entry.update(hints=max(hints, entry["hints"])))


def note_solution(number: str) -> None:
    """The solution was read."""
    _update(number, lambda entry: entry.update(solution=True))


def read(path: Path) -> dict[str, Entry]:
    """The entries of another progress file; empty when it isn't there or isn't one."""
    try:
        return understood(path.read_bytes())
    except (OSError, ValueError):
        return {}


def join(others: dict[str, Entry]) -> None:
    """Add the entries of another file: of each number, what is the most of either counts."""
    for number, other in others.items():

        def note(entry: Entry, other: Entry = other) -> None:
            entry.update({key: max(entry[key], other[key]) for key in EMPTY})

        _update(number, note)


def understood(raw: bytes) -> dict[str, Entry]:
    """The entries in the bytes of a file of ours.

    Raises:
        ValueError: they are those of something else.
    """
    content = json.loads(raw)
    if not isinstance(content, dict) or content.get("version") != VERSION:
        raise ValueError("not a progress file of this version")
    found = content.get("entries")
    if not isinstance(found, dict):
        raise ValueError("no entries")
    for entry in found.values():
        if not isinstance(entry, dict) or {k: type(v) for k, v in entry.items()} != {
            k: type(v) for k, v in EMPTY.items()
        }:
            raise ValueError("an entry of another kind")
    return found


def _unused_name(path: Path) -> Path:
    """A free name beside the file: progress.damaged.json, progress.damaged-2.json, ..."""
    candidate, count = path.with_name(f"{path.stem}.damaged{path.suffix}"), 1
    while candidate.exists():
        count += 1
        candidate = path.with_name(f"{path.stem}.damaged-{count}{path.suffix}")
    return candidate


def _update(number: str, note: Callable[[Entry], None]) -> None:
    """Read, change one entry, write: another notebook's entries are kept."""
    path = location()
    if path is None:
        return
    known = entries()
    entry = dict(known.get(number, EMPTY))
    note(entry)
    if known.get(number) == entry:
        return
    content = {"version": VERSION, "entries": {**known, number: entry}}
    with contextlib.suppress(OSError):
        write_file(path, json.dumps(content, indent=1, sort_keys=True))
