"""Shared by all tests: one thread, fixed hypothesis examples, the tiny profile, no colour."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "agg")
os.environ.pop("COURSE_PROFILE", None)

import pytest
import torch
from hypothesis import HealthCheck, settings

settings.register_profile(
    "course",
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("course")


@pytest.fixture(autouse=True)
def _same_start_for_every_test():
    """One thread and a fixed seed, whatever the test before it did."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.use_deterministic_algorithms(False)
