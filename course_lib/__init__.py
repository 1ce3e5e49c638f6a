"""The tested package behind the course on pretraining, fine-tuning and freezing.

Importing it is instant: a room such as ``course_lib.freezing`` is loaded when you first name it.
"""

from importlib import import_module
from types import ModuleType

__version__ = "0.1.0"

_ROOMS = (
    "backbones",
    "benchmarks",
    "chapters",
    "data",
    "display",
    "errors",
    "evidence",
    "exercises",
    "features",
    "freezing",
    "jobs",
    "paths",
    "profile",
    "publishing",
    "recipe",
    "renderer",
    "setup",
    "strategies",
    "text",
    "training",
    "weights",
)


def __getattr__(name: str) -> ModuleType:
    if name in _ROOMS:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_ROOMS])
