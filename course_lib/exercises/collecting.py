"""A room's predictions on one page, without a server: as a file or as a QR code, then counted.

A learner's ``predictions.share()`` writes one small file and shows the same as a QR code. The
teacher puts the files into a folder, or scans the codes into a text file there, one to a line, and
``course predictions FOLDER`` prints them side by side. No names, unless somebody gives one.
"""

import json
import math
import statistics
from collections import Counter
from pathlib import Path
from typing import Any

from course_lib.errors import CourseError
from course_lib.paths import is_folder, read_file, user_path
from course_lib.text import counted, printable

MARK = "course-predictions"  # begins what was shared, so that nothing else is taken for it
LARGEST = 20_000  # bytes of one prediction sheet; nobody writes more by hand


class CollectingError(CourseError, ValueError):
    """Predictions that can't be shared or read."""


def packed(noted: dict[str, Any], sheet: str, who: str = "") -> str:
    """Predictions as one line of text: what the file holds, and the QR code.

    Args:
        noted: name of a quantity to a number, a choice, or an order.
        sheet: tells sheets apart: two people may guess the same.
        who: a name or a table's number, if it should be known.

    Raises:
        CollectingError: nothing was predicted.
    """
    if not noted:
        raise CollectingError(
            "Nothing is predicted yet. Put a guess in place of `...` in a cell with predict, run "
            "it, then share."
        )
    shown = {printable(name): plain(value) for name, value in noted.items()}
    return f"{MARK} " + json.dumps(
        {"sheet": sheet, "who": printable(who), "predictions": shown}, ensure_ascii=False
    )


def plain(value: Any) -> Any:
    """What JSON can hold of a prediction."""
    if isinstance(value, list | tuple):
        return printable(", ".join(map(str, value)))
    if isinstance(value, bool | str):
        return printable(str(value))
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return printable(str(value))


def collect(folder: Path | str) -> str:
    """All predictions of a folder, as text: for each quantity how many, and what.

    Files that hold something else are named, not read. Of a sheet that was shared twice, the one
    with more predictions counts.

    Raises:
        CollectingError: no such folder, or none with predictions.
    """
    place = user_path(folder)
    if not is_folder(place):
        raise CollectingError(f"There is no folder {place}. Put what people shared into one.")
    sheets: dict[str, dict[str, Any]] = {}
    others: list[str] = []
    try:
        # A name that begins with a dot: a file that somebody is sharing right now, or a system's.
        names = sorted(each for each in place.iterdir() if not each.name.startswith("."))
        files = [each for each in names if not is_folder(each)]
    except OSError as error:
        raise CollectingError(f"{place} can't be read: {error.strerror or error}.") from error
    for file in files:
        found = _sheets_in(file)
        for sheet, guessed in found:
            if len(guessed) >= len(sheets.get(sheet, ())):
                sheets[sheet] = guessed
        if not found:
            others.append(file.name)
    if not sheets:
        raise CollectingError(
            f"No predictions in {place}. A learner's predictions.share() writes a file; a code "
            "is scanned into a text file, one to a line."
        )
    guesses: dict[str, list[Any]] = {}
    for guessed in sheets.values():
        for name, value in guessed.items():
            guesses.setdefault(name, []).append(value)
    lines = [f"{counted(len(sheets), 'sheet')} of predictions."]
    lines += [f"{printable(name)}: {_told(values)}" for name, values in guesses.items()]
    if others:
        shown = ", ".join(map(printable, others))
        lines.append(f"Not read, since they hold no predictions: {shown}")
    return "\n".join(lines)


def _sheets_in(file: Path) -> list[tuple[str, dict[str, Any]]]:
    """The sheets in a file: what tells them apart, and what was predicted."""
    try:
        lines = read_file(file, LARGEST * 100).decode(errors="replace").splitlines()
    except (OSError, ValueError):
        return []
    found = []
    for line in lines:
        _, mark, text = line.partition(MARK)
        if not mark or len(text) > LARGEST:
            continue
        try:
            sheet = json.loads(text)
            found.append((str(sheet["sheet"]), _guesses(sheet["predictions"])))
        except (ValueError, KeyError, TypeError, RecursionError):
            continue
    return found


def _guesses(said: Any) -> dict[str, Any]:
    """What :func:`packed` writes of predictions: numbers and texts; others are passed over.

    Raises:
        TypeError: it is something else.
    """
    if not isinstance(said, dict):
        raise TypeError("no predictions")
    return {
        name: each for name, each in said.items()
        if isinstance(each, str | float) or (type(each) is int and abs(each) < 1 << 53)
    }  # fmt: skip


def _told(values: list[Any]) -> str:
    numbers = [v for v in values if not isinstance(v, str) and math.isfinite(v)]
    words = Counter(value for value in values if isinstance(value, str))
    parts = []
    if numbers:
        parts.append(
            f"{counted(len(numbers), 'guess', 'guesses')} from {min(numbers):g} to "
            f"{max(numbers):g}, the middle one {statistics.median(numbers):g} "
            f"({', '.join(f'{each:g}' for each in sorted(numbers))})"
        )
    parts += [f"{count} said {word!r}" for word, count in words.most_common()]
    return "; ".join(parts)
