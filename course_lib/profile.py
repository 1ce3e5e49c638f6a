"""The active profile: every number that differs between a laptop and a GPU, in one place.

``tiny`` (the default) runs offline on one CPU thread; ``full`` uses the real data set, ResNet-18
and a GPU if there is one. They differ in numbers, never in code. Choose with the environment
variable ``COURSE_PROFILE``, before the notebook's kernel starts or in its first cell::

    %env COURSE_PROFILE=full

On Colab and Kaggle, the first cell of a notebook sets it to ``full`` when the runtime has a GPU and
the downloads can be reached, unless you have set it yourself: see
:func:`course_lib.setup.hosting.prepare`.
"""

import os
import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import FrozenInstanceError, dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from course_lib.errors import UnknownNameError, suggest

if TYPE_CHECKING:
    import torch

ENVIRONMENT_VARIABLE = "COURSE_PROFILE"
NAMES = ("tiny", "full")


@dataclass(frozen=True)
class Profile:
    """The numbers of one way to run the course.

    Attributes:
        name: ``"tiny"`` or ``"full"``.
        backbone: name of the pretrained model, for :func:`course_lib.backbones.load`.
        data: ``"bundled"`` (the drawn pictures) or ``"d2l"`` (the real ones, downloaded).
        image_size: side of the square that a network sees, in pixels.
        batch_size: examples a training step.
        epochs: passes over the training data in a chapter's main run.
        train_images: how many training pictures a chapter uses; None for all.
        test_images: how many test pictures a chapter uses; None for all.
        learning_rate: step size for the pretrained layers, for a loss that is the mean over a
            batch; a new head takes ten times as much.
        momentum: of SGD.
        device: ``"cpu"``, ``"cuda"`` or ``"mps"``.
        threads: CPU threads for torch; results are bit-identical only at equal counts.
        workers: processes that load pictures; 0 means in the main process.
        amp: mixed precision (only ever true on a CUDA device).
        seed: the first seed of every random stream.
    """

    name: str
    backbone: str
    data: str
    image_size: int
    batch_size: int
    epochs: int
    train_images: int | None
    test_images: int | None
    learning_rate: float
    momentum: float
    device: str
    threads: int
    workers: int
    amp: bool
    seed: int = 0


def _refuse(self: Profile, name: str, value: object) -> None:
    raise FrozenInstanceError(
        f"A profile stays as it was started: the cells above have used it. Write "
        f"p = profile.start({name}={value!r}) in the chapter's first cell, and run on from there."
    )


Profile.__setattr__ = _refuse  # type: ignore[assignment, method-assign]


def current() -> Profile:
    """The profile that ``COURSE_PROFILE`` names; ``tiny`` when it is unset or empty.

    Raises:
        UnknownNameError: the variable holds another name.
    """
    return named(os.environ.get(ENVIRONMENT_VARIABLE, "").strip() or "tiny")


def named(name: str) -> Profile:
    """The profile of that name, whichever is active.

    Raises:
        UnknownNameError: there is no such profile.
    """
    if name == "tiny":
        return _tiny()
    if name == "full":
        return _full()
    raise UnknownNameError(
        f"There is no profile {name!r}; expected 'tiny' or 'full'.{suggest(name.lower(), NAMES)} "
        f"Set {ENVIRONMENT_VARIABLE} again, or unset it for 'tiny'."
    )


def _tiny() -> Profile:
    return Profile(
        name="tiny",
        backbone="efficientnet_lite0",
        data="bundled",
        image_size=96,
        batch_size=8,
        epochs=3,
        train_images=96,
        test_images=64,
        learning_rate=0.001,
        momentum=0.9,
        device="cpu",
        threads=1,
        workers=0,
        amp=False,
    )


def _full() -> Profile:
    device = best_device()
    return Profile(
        name="full",
        backbone="resnet18",
        data="d2l",
        image_size=224,
        batch_size=128,
        epochs=5,
        train_images=None,
        test_images=None,
        learning_rate=5e-5 * 128,  # the book's 5e-5 is for the sum over a batch of 128
        momentum=0.0,
        device=device,
        threads=os.cpu_count() or 1,
        workers=min(4, os.cpu_count() or 1),
        amp=device == "cuda",
    )


def cores() -> int:
    """Cores to compute on: ``OMP_NUM_THREADS`` where it is set, else all that this process may use.

    Chapters take the profile's ``threads`` instead, so that their results are the same everywhere.
    """
    wish = os.environ.get("OMP_NUM_THREADS", "")
    if wish.isdecimal() and int(wish) > 0:
        return int(wish)
    if hasattr(os, "sched_getaffinity"):  # not on Windows and macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def best_device() -> str:
    """``"cuda"`` if torch sees a CUDA GPU, else ``"mps"`` on a Mac that has it, else ``"cpu"``."""
    import torch  # here, not above: naming a profile must not cost the import of torch

    if torch.cuda.is_available():
        return "cuda"
    if torch.backends.mps.is_available():
        return "mps"
    return "cpu"


def start(profile: Profile | None = None, **numbers: Any) -> Profile:
    """Fix threads and seeds for a chapter, so that a rerun gives the same bits.

    Every chapter calls this once, in its first cell. Equal bits need an equal thread count and
    the same kind of processor: the order of a sum is part of its result.

    Args:
        profile: the profile to start; by default the one that is active.
        numbers: of the profile that are to be others, such as ``epochs=5, seed=1``.

    Returns:
        The profile.

    Raises:
        UnknownNameError: a profile has no number of that name.
    """
    import torch

    known = [each.name for each in fields(Profile)]
    for name in numbers:
        if name not in known:
            raise UnknownNameError(
                f"A profile has no {name!r}; it has {', '.join(known)}.{suggest(name, known)}"
            )
    profile = replace(profile or current(), **numbers)
    torch.set_num_threads(profile.threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = False
    seed_everything(profile.seed)
    return profile


def seed_everything(seed: int) -> None:
    """Seed the random streams of Python, NumPy and torch (all devices)."""
    import numpy
    import torch

    random.seed(seed)
    numpy.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def seeded_generator(seed: int) -> "torch.Generator":
    """A random stream of its own: drawing from it leaves the global ones where they are."""
    import torch

    return torch.Generator().manual_seed(seed)


@contextmanager
def own_streams(
    seed: int | None = None, devices: Iterable["torch.device | str"] = ()
) -> Iterator[None]:
    """Whatever is drawn inside leaves the random streams where they were.

    Those are the streams of Python, of NumPy, of torch on the processor, and of torch on the GPUs
    that may be drawn from. A GPU that isn't in use stays unused.

    Args:
        seed: where the streams of Python, NumPy and torch's processor start inside; by default
            they go on from where they are.
        devices: where the code inside computes; a GPU that is the current one by then needn't
            be named.
    """
    import numpy
    import torch

    gpus = [each for each in map(torch.device, devices) if each.type == "cuda"]
    if torch.cuda.is_initialized():
        gpus.append(torch.device("cuda", torch.cuda.current_device()))
    python, numbers, processor = random.getstate(), numpy.random.get_state(), torch.get_rng_state()
    on_gpus = [torch.cuda.get_rng_state(each) for each in gpus]
    try:
        if seed is not None:
            random.seed(seed)
            numpy.random.seed(seed % 2**32)
            torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed every GPU
        yield
    finally:
        random.setstate(python)
        numpy.random.set_state(numbers)
        torch.set_rng_state(processor)
        for each, state in zip(gpus, on_gpus, strict=True):
            torch.cuda.set_rng_state(state, each)


@contextmanager
def environment(name: str, value: str) -> Iterator[None]:
    """An environment variable with another value for a while; afterwards it is as it was."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = before
