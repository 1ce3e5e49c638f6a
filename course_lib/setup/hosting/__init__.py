"""The course on machines of others: Colab, Kaggle, and what you take home from there.

============================  ================================================================
:func:`host`                  ``"colab"``, ``"kaggle"`` or None: whose machine this is
:func:`prepare`               what a notebook's first cell does there, once the course is fetched
:func:`keep_work`             keep progress and saved models in Google Drive
:func:`take_home`             what a chapter's last cell does there: keep the work, or export it
:func:`export_work`           your work as one zip file (`course export`)
:func:`import_work`           and back (`course import`)
============================  ================================================================

Nothing here imports torch before it has to: the first cell runs before anything is installed.
"""

from course_lib.paths import host, lasting_dir
from course_lib.setup.hosting.errors import HostingError
from course_lib.setup.hosting.preparing import keep_work, prepare, take_home
from course_lib.setup.hosting.work import export_work, import_work

__all__ = ["HostingError", "export_work", "host", "import_work", "keep_work", "lasting_dir",
           "prepare", "take_home"]  # fmt: skip
