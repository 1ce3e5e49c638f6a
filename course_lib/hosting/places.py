"""Whose machine this is, and where on it something lasts."""

import os
import sys
from pathlib import Path

DRIVE = Path("/content/drive/MyDrive")  # where Colab mounts a Google Drive
KAGGLE_OUTPUT = Path("/kaggle/working")  # what Kaggle keeps of a saved version
FOLDER = "course-work"


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
        return DRIVE / FOLDER
    if where == "kaggle" and KAGGLE_OUTPUT.is_dir():
        return KAGGLE_OUTPUT / FOLDER
    return None
