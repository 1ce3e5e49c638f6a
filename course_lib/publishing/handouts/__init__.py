"""Handouts: every chapter on paper and as a page, cheat sheets, a plan for teachers.

:func:`build` makes them all. A handout is a :class:`Document` of blocks; one writer sets it as a
PDF (``paper``), another as an HTML file without scripts (``page``).
"""

from course_lib.publishing.handouts.document import Document, HandoutError
from course_lib.publishing.handouts.editions import STUDENT, TEACHER, make
from course_lib.publishing.handouts.folder import build

__all__ = ["STUDENT", "TEACHER", "Document", "HandoutError", "build", "make"]
