"""A tiny set of pictures, jobs on it, and processes that can be killed."""

import multiprocessing
import os
import socket

import numpy as np
import pytest
import torch
from PIL import Image

from course_lib.jobs import JobConfig, StageConfig
from course_lib.weights.reading.checkpoint import read_object

CLASSES = ("blue", "red")


def draw(folder, per_class, seed=0):
    """Noisy pictures of two colours, a folder a class."""
    stream = np.random.default_rng(seed)
    for place, name in enumerate(CLASSES):
        (folder / name).mkdir(parents=True)
        for number in range(per_class):
            pixels = stream.integers(0, 160, (40, 48, 3))
            pixels[..., 2 - 2 * place] += 90
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{number:03}.png")


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    """20 training, 6 validation and 7 test pictures a class (odd sums, to be shared unequally)."""
    root = tmp_path_factory.mktemp("pictures")
    for seed, (split, count) in enumerate((("train", 20), ("val", 6), ("test", 7))):
        draw(root / split, count, seed)
    (root / "test" / "red" / "006.png").unlink()
    return root


def job(pictures, out, **changes):
    """Two stages on a real network and small pictures, in seconds."""
    values = {
        "data": str(pictures), "out": str(out), "model": "efficientnet_lite0",
        "size": 32, "batch_size": 8, "threads": 1, "log_every": 1, "tensorboard": False,
        "device": "cpu", "stages": (
            StageConfig(epochs=1, lr=0.003),
            StageConfig(thaw=("blocks.6", "conv_head", "bn2"), epochs=2, lr=0.003),
        ),
    }  # fmt: skip
    return JobConfig(**{**values, **changes})


def in_process(target, *given, **environment):
    """A child that runs a function; a fork, since importing torch anew takes seconds."""

    def run():
        os.environ.update({name: str(value) for name, value in environment.items()})
        target(*given)

    child = multiprocessing.get_context("fork").Process(target=run)
    child.start()
    return child


def together(target, world, *given):
    """The exit statuses of processes that join each other as torchrun's do."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    where = {"WORLD_SIZE": world, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    children = [
        in_process(target, *given, RANK=rank, LOCAL_RANK=rank, **where) for rank in range(world)
    ]
    for each in children:
        each.join(120)
    return [each.exitcode for each in children]


def final(folder):
    """Everything of the last checkpoint that a step changes, as name -> tensor."""
    content = read_object(max((folder / "checkpoints").glob("step-*.ckpt")))
    moments = content["optimizer"]["state"]
    return dict(content["model"]) | {
        f"{number}.{name}": value
        for number, state in moments.items()
        for name, value in state.items()
        if isinstance(value, torch.Tensor)
    }
