"""JupyterLab as a learner opens it: on a copy of the chapters, with their contents beside them.

The copy lies in ``notebooks/my_course``, which git ignores: a pull never meets what you wrote. How
JupyterLab looks is said in ``lab_settings``, in its own words: settings, a first arrangement of the
panels, and a style. The first arrangement opens chapter 00; later, what was open is open again.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path

from course_lib.errors import CourseError
from course_lib.paths import alone, file_hash, repo_root, write_file

MINE = "my_course"
KEPT = ".course"  # in there: which versions were copied, and how JupyterLab was left
CHAPTERS = "[0-9][0-9]_*.ipynb"
SETTINGS = Path(__file__).parent / "lab_settings"
WORKSPACE = "default-37a8.jupyterlab-workspace"  # JupyterLab's name for the one that it opens
PATIENCE = 10.0  # seconds to wait for another JupyterLab that copies


def folder() -> Path:
    """Where a learner's copy is, or would be."""
    return repo_root() / "notebooks" / MINE


def options(yours: Sequence[str] = ()) -> list[str]:
    """What to start JupyterLab with; what you name yourself is left out.

    Args:
        yours: options for JupyterLab. If they name a ``--ServerApp.root_dir``, nothing is copied.
    """
    made = {
        "--ServerApp.root_dir": str(folder()),
        # In there: no question about news over the page, no call to the Internet.
        "--LabApp.app_settings_dir": str(SETTINGS),
        "--LabApp.workspaces_dir": str(folder() / KEPT),
        "--LabApp.custom_css": "True",
        "--ServerApp.tornado_settings": f"static_custom_path={SETTINGS}",
    }
    named = {each.partition("=")[0] for each in yours}
    if "--ServerApp.root_dir" in named:
        del made["--LabApp.workspaces_dir"]
    chosen = [f"{name}={value}" for name, value in made.items() if name not in named]
    # JupyterLab refuses root unless told; in a container there is often nobody else.
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        chosen.append("--allow-root")
    if "--ServerApp.root_dir" not in named:
        print("\n".join(refresh()))
    return [*chosen, *yours]


def refresh() -> list[str]:
    """Bring the copy up to date, and overwrite nothing of the learner's.

    A chapter that isn't there is copied, and one that nobody has touched since is replaced by its
    new version. Beside one that was touched, a new version is put once, as ``NN_name_new.ipynb``.

    Returns:
        What to tell the learner.

    Raises:
        CourseError: a full disk, no permission. What is there stays.
    """
    mine = folder()
    try:
        return _refreshed(mine)
    except OSError as error:
        raise CourseError(
            f"Your copy of the chapters, {mine}, can't be brought up to date: "
            f"{error.strerror or error}. What is there stays. Make room, and start again."
        ) from error


def _refreshed(mine: Path) -> list[str]:
    said = [f"Your copy of the chapters: {mine}"]
    record = mine / KEPT / "copied.json"
    with alone(record, PATIENCE):
        known = _known(record)
        for path in sorted((repo_root() / "notebooks").glob(CHAPTERS)):
            copy, fresh, before = mine / path.name, file_hash(path), known.get(path.name)
            known[path.name] = fresh
            if not copy.exists():
                write_file(copy, path.read_bytes())
            elif fresh == before:
                continue
            elif file_hash(copy) in (before, fresh):
                write_file(copy, path.read_bytes())
                if before:
                    said.append(f"{path.name} is new in the course, and in your copy.")
            elif _source(copy) != _source(path):
                beside = _free_name(mine / f"{path.stem}_new.ipynb")
                write_file(beside, path.read_bytes())
                said.append(f"{path.name} is new in the course: it is {beside.name} beside yours.")
        write_file(record, json.dumps(known, indent=1))
        arrangement = mine / KEPT / WORKSPACE
        if not arrangement.exists():
            write_file(arrangement, (SETTINGS / "workspace.json").read_bytes())
    return said


def is_untouched(copy: Path) -> bool:
    """Whether a chapter of the copy is as it was copied."""
    return _known(folder() / KEPT / "copied.json").get(copy.name) == file_hash(copy)


def _known(record: Path) -> dict[str, str]:
    """Name to hash of the version that was copied, or put beside, last."""
    try:
        known = json.loads(record.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return known if isinstance(known, dict) else {}


def _source(notebook: Path) -> str | None:
    """The source that a notebook was built from; None if it doesn't say."""
    try:
        found = json.loads(notebook.read_bytes())["metadata"]["course"]["source_sha256"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return str(found)


def _free_name(path: Path) -> Path:
    number, free = 1, path
    while free.exists():
        number += 1
        free = path.with_name(f"{path.stem}-{number}{path.suffix}")
    return free
