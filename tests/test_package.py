"""Importing the course costs nothing; its paths, errors and profiles are what they say."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import course_lib
from course_lib import paths, profile
from course_lib.data import DataWarning
from course_lib.errors import (
    CourseError,
    CourseWarning,
    DataError,
    OfflineError,
    UnknownNameError,
    suggest,
)
from course_lib.text import counted, few


def loaded_by(code):
    """The modules that a fresh Python has loaded after running the code."""
    command = [sys.executable, "-c", f"{code}\nimport sys\nprint(*sys.modules)"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "code",
    [
        "import course_lib",
        "import course_lib.profile, course_lib.errors; course_lib.profile.current()",
        "import course_lib.cli",
    ],
)
def test_importing_loads_nothing_heavy(code):
    heavy = {"torch", "torchvision", "numpy", "matplotlib", "timm", "d2l", "IPython", "pandas"}
    assert not loaded_by(code) & heavy


def test_rooms_are_loaded_when_named():
    for name in course_lib._ROOMS:
        assert getattr(course_lib, name).__name__ == f"course_lib.{name}"
        assert name in dir(course_lib)
    with pytest.raises(AttributeError, match="no attribute 'kitchen'"):
        course_lib.kitchen  # noqa: B018


def test_every_room_is_listed():
    folder = Path(course_lib.__file__).parent
    rooms = {path.stem for path in folder.glob("[a-z]*.py")}
    rooms |= {path.parent.name for path in folder.glob("*/__init__.py")}
    assert rooms - {"cli", "bootstrap"} == set(course_lib._ROOMS)


def test_tiny_is_the_default_and_needs_nothing(monkeypatch):
    for value in (None, "", "  ", "tiny"):
        if value is None:
            monkeypatch.delenv(profile.ENVIRONMENT_VARIABLE, raising=False)
        else:
            monkeypatch.setenv(profile.ENVIRONMENT_VARIABLE, value)
        active = profile.current()
        assert (active.name, active.device, active.threads) == ("tiny", "cpu", 1)


def test_full_uses_the_gpu_when_there_is_one(monkeypatch):
    monkeypatch.setenv(profile.ENVIRONMENT_VARIABLE, "full")
    active = profile.current()
    assert active.device == profile.best_device()
    assert active.amp == (active.device == "cuda")
    assert active.data == "d2l"


@pytest.mark.parametrize("name", ["ful", "Tiny", "gpu"])
def test_another_profile_is_an_error_that_names_both(monkeypatch, name):
    monkeypatch.setenv(profile.ENVIRONMENT_VARIABLE, name)
    with pytest.raises(UnknownNameError, match="expected 'tiny' or 'full'"):
        profile.current()


def test_a_profile_can_not_be_changed_by_accident():
    with pytest.raises(AttributeError):
        profile.current().seed = 1


RERUN = """
import numpy, random, torch
from course_lib import profile
profile.start()
net = torch.nn.Sequential(torch.nn.Linear(20, 50), torch.nn.Dropout(), torch.nn.Linear(50, 2))
trainer = torch.optim.Adam(net.parameters())
for _ in range(20):
    loss = net(torch.randn(8, 20)).square().sum()
    trainer.zero_grad(); loss.backward(); trainer.step()
bits = b"".join(p.detach().numpy().tobytes() for p in net.parameters())
import hashlib
bits = hashlib.sha256(bits).hexdigest()
print(bits, random.random(), numpy.random.rand(), torch.get_num_threads())
"""


def test_reruns_are_bit_identical_from_process_to_process():
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    runs = {
        subprocess.run(
            [sys.executable, "-c", RERUN],
            capture_output=True,
            text=True,
            check=True,
            env=environment,
        ).stdout
        for _ in range(2)
    }
    assert len(runs) == 1
    assert runs.pop().split()[-1] == "1"  # the profile's thread count, not the environment's


def test_a_stream_of_its_own_leaves_the_global_one_alone():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    torch.rand(5, generator=profile.seeded_generator(0))
    assert torch.equal(torch.rand(2), expected)


def test_paths_can_be_chosen(monkeypatch, tmp_path):
    assert paths.data_dir() == paths.repo_root() / "data"
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    assert paths.data_dir() == tmp_path
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path / "cache"))
    assert paths.cache_dir() == tmp_path / "cache"


@pytest.mark.parametrize("kind", [UnknownNameError, DataError, OfflineError])
def test_messages_read_as_written(kind):
    error = kind("Plain words.")
    assert str(error) == "Plain words."
    assert isinstance(error, CourseError)


WARNED = """
import warnings
import torch
from course_lib import backbones
net = torch.nn.Sequential(torch.nn.Linear(4, 3)).requires_grad_(False)
backbones.replace_head(net, 2, head="0")
warnings.warn("somebody else's", UserWarning)
"""


def test_a_warning_of_the_course_is_a_sentence_without_anybody_s_code(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(WARNED)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60)
    first, *others = done.stderr.splitlines()
    assert first.startswith("CourseWarning: The new head '0' is random and frozen")
    assert others == [
        f"{script}:7: UserWarning: somebody else's",
        """  warnings.warn("somebody else's", UserWarning)""",
    ]


def test_every_warning_of_the_course_is_of_that_kind():
    kinds = {}
    for file in sorted(Path(course_lib.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "warnings.warn":
                kind = ast.unparse(node.args[1]) if len(node.args) > 1 else "none"
                kinds[f"{file.name}:{node.lineno}"] = kind.rpartition(".")[2]
    assert issubclass(DataWarning, CourseWarning)
    assert set(kinds.values()) == {"CourseWarning", "DataWarning"}, kinds


def test_suggestions():
    assert suggest("layer5", ["conv1", "layer4"]) == " Did you mean 'layer4'?"
    assert suggest("zebra", ["conv1", "layer4"]) == ""


def test_counts_have_their_words():
    said = [counted(number, "tensor") for number in (0, 1, 1200)]
    assert said == ["0 tensors", "1 tensor", "1,200 tensors"]
    assert counted(1, "buffer moves", "buffers move") == "1 buffer moves"
    assert counted(2, "buffer moves", "buffers move") == "2 buffers move"


def test_few_says_how_many_more():
    assert few([]) == ""
    assert few("abcd") == "a, b, c, d"
    assert few("abcdef") == "a, b, c, d and 2 more"
    assert few(range(3), 1, "; ") == "0 and 2 more"
