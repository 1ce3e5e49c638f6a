"""Random streams and environment variables are put back, whatever happens in between."""

import os
import random
from contextlib import suppress
from dataclasses import FrozenInstanceError

import numpy
import pytest
import torch

from course_lib import profile
from course_lib.errors import UnknownNameError


def drawn():
    return random.random(), numpy.random.rand(), torch.rand(1).item()


@pytest.mark.parametrize("seed", [None, 3])
def test_what_is_drawn_inside_leaves_the_streams_alone(seed):
    profile.seed_everything(1)
    expected = drawn()
    profile.seed_everything(1)
    with suppress(ZeroDivisionError), profile.own_streams(seed):
        inside = drawn()
        drawn()
        raise ZeroDivisionError
    assert drawn() == expected
    assert (inside == expected) == (seed is None)
    profile.seed_everything(3)
    assert (drawn() == inside) == (seed == 3)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_streams_of_a_gpu_too():
    def on_gpu():
        return torch.rand(1, device="cuda").item()

    torch.manual_seed(1)
    expected = on_gpu()
    torch.manual_seed(1)
    with profile.own_streams(seed=2):  # it is in use by now
        assert on_gpu() == expected, "the seed is for the processor"
    with profile.own_streams(devices=["cuda"]):
        torch.manual_seed(5)
    assert on_gpu() == expected


@pytest.mark.parametrize("before", [None, "old"])
def test_an_environment_variable_is_as_it_was(before, monkeypatch):
    monkeypatch.delenv("COURSE_TEST", raising=False)
    if before is not None:
        monkeypatch.setenv("COURSE_TEST", before)
    with suppress(ZeroDivisionError), profile.environment("COURSE_TEST", "new"):
        assert os.environ["COURSE_TEST"] == "new"
        raise ZeroDivisionError
    assert os.environ.get("COURSE_TEST") == before
    with profile.environment("COURSE_TEST", "new"):
        del os.environ["COURSE_TEST"]
    assert os.environ.get("COURSE_TEST") == before


def test_a_chapter_starts_with_other_numbers_and_says_so_when_one_is_set_later():
    started = profile.start(profile.named("tiny"), epochs=5, seed=2)
    assert (started.epochs, started.seed, started.name) == (5, 2, "tiny")
    with pytest.raises(FrozenInstanceError, match=r"p = profile\.start\(epochs=7\)"):
        started.epochs = 7
    assert started.epochs == 5
    with pytest.raises(UnknownNameError, match="Did you mean 'epochs'"):
        profile.start(epoch=5)
