"""Freezing that really freezes, the five ways the sources freeze, and the audit of a step.

``freeze`` holds parameters *and buffers* bit-exact until ``unfreeze``; ``audit`` runs one training
step on a copy and says tensor by tensor what it would touch, and why.
"""

from course_lib.freezing.auditing.report import AuditReport
from course_lib.freezing.auditing.run import AuditError, audit
from course_lib.freezing.children import (
    ChildIndexError,
    freeze_by_idxs,
    freeze_by_names,
    unfreeze_by_idxs,
    unfreeze_by_names,
)
from course_lib.freezing.core import freeze, frozen_names, unfreeze
from course_lib.freezing.report import FreezeReport
from course_lib.freezing.select import FreezingError
from course_lib.freezing.state import freeze_state, restore_freeze_state

__all__ = [
    "AuditError", "AuditReport", "ChildIndexError", "FreezeReport", "FreezingError", "audit",
    "freeze", "freeze_by_idxs", "freeze_by_names", "freeze_state", "frozen_names",
    "restore_freeze_state", "unfreeze", "unfreeze_by_idxs", "unfreeze_by_names",
]  # fmt: skip
