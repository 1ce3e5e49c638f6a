"""Name tables: what a tensor is called in one checkpoint, and what it is called in a model.

Each table is a CSV file in this folder with the columns ``source`` (the name in the file) and
``target`` (the name in the model). They are data, so that you can read one, compare it with your
own checkpoint, or write a new one, without touching code.
"""

import csv
from importlib.resources import files

from course_lib.errors import DataError, UnknownNameError, suggest

HEADER = ["source", "target"]


def tables() -> tuple[str, ...]:
    """The names of the tables that ship with the course, in alphabetical order."""
    folder = files(__name__)
    found = (entry.name for entry in folder.iterdir() if entry.name.endswith(".csv"))
    return tuple(sorted(name.removesuffix(".csv") for name in found))


def name_table(name: str) -> dict[str, str]:
    """Read a name table.

    Args:
        name: a name from :func:`tables`, such as ``"efficientnet_lite0"``.

    Returns:
        Names in the checkpoint -> names in the model, in the checkpoint's order, one to one.

    Raises:
        UnknownNameError: there is no such table.
        DataError: the table is damaged: another header, a row without two names, a name twice.
    """
    if name not in tables():
        known = tables()
        raise UnknownNameError(
            f"There is no name table {name!r}; there are {', '.join(known)}.{suggest(name, known)}"
        )
    text = files(__name__).joinpath(f"{name}.csv").read_text(encoding="utf-8")
    header, *rows = csv.reader(text.splitlines())
    if header != HEADER or any(len(row) != 2 or not all(row) for row in rows):
        raise DataError(
            f"The name table {name!r} is damaged: expected the header {','.join(HEADER)} and two "
            "names a row. Restore the file from the course's repository."
        )
    table = dict(rows)
    if len(table) != len(rows) or len(set(table.values())) != len(rows):
        raise DataError(
            f"The name table {name!r} is damaged: a name occurs twice. Restore the file from the "
            "course's repository."
        )
    return table
