"""Where the course's files are: the checkout, its data folder, the cache; whose machine it is."""

import os
import sys
from pathlib import Path

from course_lib.errors import CourseError

DRIVE = Path("/content/drive/MyDrive")  # where Colab mounts a Google Drive
KAGGLE_OUTPUT = Path("/kaggle/working")  # what Kaggle keeps of a saved version
WORK_FOLDER = "course-work"


def repo_root() -> Path:
    """The checkout: the folder that holds ``pyproject.toml`` and ``notebooks/``.

    Looked for above this file first, then above the current folder.

    Raises:
        CourseError: there is no checkout in either place.
    """
    here = Path(__file__).resolve()
    for folder in [*here.parents, *Path.cwd().resolve().parents, Path.cwd().resolve()]:
        if (folder / "pyproject.toml").is_file() and (folder / "notebooks").is_dir():
            return folder
    raise CourseError(
        "The course's folder was not found: expected a folder with pyproject.toml and notebooks/ "
        f"above {here.parent} or above the current folder. Clone the course and install it from "
        "there with: pip install -e ."
    )


def data_dir() -> Path:
    """The folder for pictures and results: ``data/`` in the checkout, or ``$COURSE_DATA``."""
    chosen = os.environ.get("COURSE_DATA")
    return Path(chosen).expanduser() if chosen else repo_root() / "data"


def cache_dir() -> Path:
    """A folder for what can be computed again: ``~/.cache/course_lib``, or ``$COURSE_CACHE``."""
    chosen = os.environ.get("COURSE_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base).expanduser() / "course_lib"


def host() -> str | None:
    """``"colab"``, ``"kaggle"``, or None on any other machine."""
    if "google.colab" in sys.modules or "COLAB_RELEASE_TAG" in os.environ:
        return "colab"
    if "KAGGLE_KERNEL_RUN_TYPE" in os.environ:
        return "kaggle"
    return None


def lasting_dir() -> Path | None:
    """The folder on a host that outlives its runtime; None if there is none, or no host.

    On Colab that is ``course-work`` in your Drive, when it is mounted; on Kaggle, the notebook's
    output. The folder need not exist yet.
    """
    where = host()
    if where == "colab" and DRIVE.is_dir():
        return DRIVE / WORK_FOLDER
    if where == "kaggle" and KAGGLE_OUTPUT.is_dir():
        return KAGGLE_OUTPUT / WORK_FOLDER
    return None
