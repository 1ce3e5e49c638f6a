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

from course_lib.paths import alone, cache_dir, host, lasting_dir, read_file, user_path, write_file

ENVIRONMENT_VARIABLE = "COURSE_PROGRESS"
FILE = "progress.json"
VERSION = 1
PATIENCE = 5.0  # seconds to wait for another notebook that is writing
Entry = dict[str, Any]
EMPTY: Entry = {"passed": False, "attempts": 0, "hints": 0, "solution": False}


def location() -> Path | None:
    """Where the file is or would be; None when no progress is kept."""
    chosen = os.environ.get(ENVIRONMENT_VARIABLE, "").strip()
    if chosen.lower() == "off":
        return None
    return user_path(chosen) if chosen else (lasting_dir() or cache_dir()) / FILE


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
    path = _real(location())
    return sorted(path.parent.glob(f"{path.stem}.damaged*{path.suffix}")) if path else []


def passed_over() -> list[str]:
    """What the file has that this version of the course doesn't know; it is kept as it is."""
    path = location()
    try:
        content = _content(read_file(path)) if path else {"entries": {}}
    except (OSError, ValueError):
        return []
    odd = [number for number, entry in content["entries"].items() if not _is_entry(entry)]
    more = [key for key in content if key not in ("version", "entries")]
    newer = [f"version {content['version']}"] * (content.get("version") != VERSION)
    return [*newer, *more, *odd]


def entries() -> dict[str, Entry]:
    """Exercise or question number to what is known of it; empty when nothing is."""
    path = _real(location())
    if path is None:
        return {}
    try:
        return understood(read_file(path))
    except OSError:
        return {}
    except ValueError:  # no JSON, no text, or not our layout
        with alone(path, PATIENCE):
            return _known(_or_set_aside(path))


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
        return understood(read_file(path))
    except (OSError, ValueError):
        return {}


def join(others: dict[str, Entry]) -> None:
    """Add the entries of another file: of each number, what is the most of either counts.

    Raises:
        OSError: they can't be written.
    """

    def note(known: dict[str, Entry]) -> None:
        for number, other in others.items():
            mine = known.get(number, EMPTY)
            known[number] = {key: max(mine[key], other[key]) for key in EMPTY}

    _change(note)


def understood(raw: bytes) -> dict[str, Entry]:
    """The entries in the bytes of a file of ours; those of an unknown kind are passed over.

    Raises:
        ValueError: they are those of something else.
    """
    return _known(_content(raw))


def _content(raw: bytes) -> dict[str, Any]:
    """A whole file of ours, with whatever a later version has put into it."""
    try:
        content = json.loads(raw)
        json.dumps(content, indent=1)  # as it will be written: that takes more room than reading
    except RecursionError:
        raise ValueError("nested too deep") from None
    if not isinstance(content, dict) or not isinstance(content.get("version"), int):
        raise ValueError("not a progress file")
    if not isinstance(content.get("entries"), dict):
        raise ValueError("no entries")
    return content


def _is_entry(entry: Any) -> bool:
    return isinstance(entry, dict) and all(
        type(entry.get(key)) is type(usual) and usual <= entry[key] < 1 << 53
        for key, usual in EMPTY.items()
    )


def _known(content: dict[str, Any]) -> dict[str, Entry]:
    found = content["entries"].items()
    return {
        number: {key: entry[key] for key in EMPTY} for number, entry in found if _is_entry(entry)
    }


def _real(path: Path | None) -> Path | None:
    """What a link leads to: it stays a link."""
    return path and Path(os.path.realpath(path))


def _or_set_aside(path: Path) -> dict[str, Any]:
    """What is in the file, or of a new one, when that can't be read and was put aside."""
    try:
        return _content(read_file(path))
    except FileNotFoundError:
        pass
    except ValueError:
        with contextlib.suppress(OSError):
            path.replace(_unused_name(path))
    return {"version": VERSION, "entries": {}}


def _unused_name(path: Path) -> Path:
    """A free name beside the file: progress.damaged.json, progress.damaged-2.json, ..."""
    candidate, count = path.with_name(f"{path.stem}.damaged{path.suffix}"), 1
    while os.path.lexists(candidate):
        count += 1
        candidate = path.with_name(f"{path.stem}.damaged-{count}{path.suffix}")
    return candidate


def _update(number: str, note: Callable[[Entry], None]) -> None:
    """Change one entry, if the file can be written."""

    def change(known: dict[str, Entry]) -> None:
        note(known.setdefault(number, dict(EMPTY)))

    with contextlib.suppress(OSError):
        _change(change)


def _change(change: Callable[[dict[str, Entry]], None]) -> None:
    """Read, change, write, while no other process does: what others have noted is kept."""
    path = _real(location())
    if path is None:
        return
    with alone(path, PATIENCE):
        content = _or_set_aside(path)
        before, known = _known(content), _known(content)
        change(known)
        if known == before:
            return
        if not isinstance(content.get("passed over", {}), dict):  # somebody else's of that name
            content["passed over"] = {"passed over": content["passed over"]}
        for number in known.keys() - before.keys():
            if (odd := content["entries"].get(number)) is not None:  # of an unknown kind
                content.setdefault("passed over", {}).setdefault(number, odd)
        for number, entry in known.items():
            old = content["entries"].get(number)
            content["entries"][number] = {**(old if number in before else {}), **entry}
        write_file(path, json.dumps(content, indent=1, sort_keys=True))
