"""The pictures that come with the course: where they are, and whether they are as they should be.

Their manifest (``manifest.json``) gives for each file its SHA-256, split, class, kind of food,
seed, size and scene in words, and the version of what compressed it. :mod:`course_lib.renderer`
writes it.
"""

import json
from pathlib import Path
from typing import Any

from course_lib.errors import DataError
from course_lib.paths import data_dir, file_hash
from course_lib.text import few

MANIFEST = "manifest.json"
_REMEDY = "Draw it again with `course data render`."


def bundled_folder() -> Path:
    """Where the bundled set lies in a checkout."""
    return data_dir() / "hotdog_rendered"


def more_folder() -> Path:
    """Where further pictures lie, on which experiments are tested."""
    return data_dir() / "hotdog_more"


def read_manifest(folder: Path) -> dict[str, Any]:
    """What the manifest of a rendered set says; DataError if there is none, or a damaged one."""
    path = folder / MANIFEST
    if not path.is_file():
        raise DataError(
            f"There is no {MANIFEST} in {folder}, so this is no complete rendered set. {_REMEDY}"
        )
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        for entry in manifest["pictures"].values():
            str(entry["sha256"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"{path} is damaged ({error!r}). {_REMEDY}") from error
    return manifest


def verify(folder: Path) -> int:
    """Compare every file of a rendered set with its manifest; return how many pictures there are.

    Raises:
        DataError: it names what is missing, changed or not part of the set.
    """
    pictures = read_manifest(folder)["pictures"]
    problems = []
    for path, entry in pictures.items():
        file = folder / path
        if not file.is_file():
            problems.append(f"{path} is missing")
        elif file_hash(file) != entry["sha256"]:
            problems.append(f"{path} has changed")
    found = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    problems += [f"{path} is not part of the set" for path in found - set(pictures) - {MANIFEST}]
    if problems:
        raise DataError(
            f"The rendered set in {folder} is not as its manifest says: "
            f"{few(sorted(problems), 5, '; ')}. {_REMEDY}"
        )
    return len(pictures)
