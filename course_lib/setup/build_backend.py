"""Builds the course for ``pip install -e .``: setuptools, which refuses to make a wheel of it.

A wheel would hold the package and miss what the package works on: notebooks, pictures, results.
"""

from typing import NoReturn

from setuptools.build_meta import (
    build_editable,
    get_requires_for_build_editable,
    prepare_metadata_for_build_editable,
)

__all__ = ["build_editable", "build_wheel", "get_requires_for_build_editable",
           "prepare_metadata_for_build_editable"]  # fmt: skip


def build_wheel(*_: object, **__: object) -> NoReturn:
    """Refuse, in one sentence that pip and uv show."""
    raise SystemExit(
        "The course is installed in place, since a wheel would miss its notebooks and data. "
        "Clone it, then run: make install (without make: see README.md)."
    )
