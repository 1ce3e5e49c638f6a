"""A small experiment of its own for every test, and a data folder of its own."""

import pytest

from course_lib import evidence
from course_lib.evidence import Contrast, Measure, design

OFFSETS = {"a": 0.0, "b": 0.2}


def noise(seed):
    return (seed * 7919 % 11) / 100


@pytest.fixture
def registry(monkeypatch, tmp_path):
    """An empty registry (the real experiments are put aside) and an empty data folder."""
    evidence.experiments()
    monkeypatch.setattr(design, "REGISTRY", {})
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    return design.REGISTRY


@pytest.fixture
def toy(registry):
    """Arm b is better than arm a by 0.2 and a little that depends on the seed."""

    @evidence.experiment(
        "C18",
        seeds=6,
        arms=("a", "b"),
        measures=(Measure("accuracy"), Measure("seconds", digits=1, timing=True)),
        contrasts=(Contrast("gain", "b", "a", "accuracy", "more"),),
    )
    def toy(seed):
        """Data: none. Arms: a and b, whose numbers come from the seed by a formula that is
        written down above, so that the test knows what must come out. Prediction: b wins."""
        calls.append(seed)
        drawn = noise(seed)
        return {
            arm: {"accuracy": 0.5 + offset * (1 + drawn), "seconds": 1.0 + len(calls)}
            for arm, offset in OFFSETS.items()
        }

    calls = []
    object.__setattr__(toy, "calls", calls)
    return toy
