"""The site: chapters, ledger, cheat sheets, glossary and reference as pages, from stored outputs.

:func:`build` makes it with Sphinx. ``pages`` and ``chapter`` write what Sphinx reads,
``sphinx_parts`` teaches it what it doesn't know, ``check`` looks at the result.
"""

from course_lib.publishing.site.build import build, default_folder
from course_lib.publishing.site.check import SiteError

__all__ = ["SiteError", "build", "default_folder"]
