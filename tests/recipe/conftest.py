"""The small network of training's tests serves here too."""

from tests.training.conftest import net

__all__ = ["net"]
