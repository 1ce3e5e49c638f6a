"""Save weights so that there is always a whole file: the old one or the new one."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

import safetensors.torch
import torch
from torch import nn
from zlib_ng import zlib_ng

from course_lib.errors import interrupts_delayed
from course_lib.freezing.bits import same_bits
from course_lib.paths import atomic_write, user_path
from course_lib.weights.errors import CheckpointError, NotWrittenError
from course_lib.weights.reading.plainfiles import ABOUT, CHECKSUMS, checksums_crc, names_crc

TORCH_ENDINGS = (".pth", ".pt", ".bin", ".ckpt")
ENDINGS = (".safetensors", *TORCH_ENDINGS)


def check_ending(path: Path, endings: Sequence[str] = ENDINGS) -> None:
    """Refuse a file name that doesn't say which format is meant.

    Raises:
        CheckpointError: the name has another ending.
    """
    if path.suffix not in endings:
        raise CheckpointError(
            f"{path.name!r} ends in {path.suffix!r}; expected {', '.join(endings)}."
        )


def save_weights(
    model: nn.Module | Mapping[str, torch.Tensor],
    path: str | Path,
    *,
    what: str = "",
    source: object = "",
    metrics: Mapping[str, float] | None = None,
    extra: Mapping[str, Any] | None = None,
) -> Path:
    """Save weights, atomically, with what is to be known about them.

    Args:
        model: a model or a state dict; tensors on any device.
        path: the ending decides: ``.safetensors`` (can't hold code, has a checksum a tensor here),
            or ``.pth``, ``.pt``, ``.bin``, ``.ckpt`` (``torch.save``).
        what: in words, what this is: ``"hot dogs, head only, 3 epochs"``.
        source: from which weights it was made: words, or the :class:`LoadReport` of the load.
        metrics: name -> value, such as ``{"test accuracy": 0.94}``.
        extra: whatever else, as JSON could hold it.

    Returns:
        The path. ``read_checkpoint(path).metadata`` gives back what was said, along with the
        model's class, the names of its frozen parameters, and the version of torch.
        ``torch.load(path)["state_dict"]`` has the weights of a ``.pth`` file.

    Raises:
        CheckpointError: another ending; something that isn't a tensor; metadata that aren't JSON.
        NotWrittenError: a full disk, no permission.
    """
    path = user_path(path)
    check_ending(path)
    about = _about(model, what, source, metrics, extra)
    state = model.state_dict() if isinstance(model, nn.Module) else dict(model)
    for name, tensor in state.items():
        if not isinstance(tensor, torch.Tensor):
            raise CheckpointError(
                f"{name!r} is a {type(tensor).__name__}; only tensors can be saved as weights. "
                "For a whole training run there is save_checkpoint."
            )
    with written(path) as file:
        _write(state, about, path.suffix not in TORCH_ENDINGS, file)
    return path


@contextmanager
def written(path: Path) -> Iterator[BinaryIO]:
    """A file for weights that takes its place when it is whole.

    Raises:
        NotWrittenError: a full disk, no permission, a folder in its place.
    """
    kept: list[BaseException] = []
    try:
        with atomic_write(path) as file, interrupts_delayed() as interrupts:
            try:
                yield cast(BinaryIO, _Telling(file, kept, interrupts))
            except RuntimeError:  # torch puts it in the place of what the file raised
                if kept:
                    raise kept[0] from None
                raise
    except OSError as error:
        told = NotWrittenError(
            f"{path} can't be written: {error.strerror or error}. What was there before is still "
            "there. Make room, or name another place."
        )
        told.errno, told.strerror = error.errno, error.strerror
        raise told from error


class _Telling:
    """A file that remembers what it raised, and ends at Ctrl-C between two writes.

    Anywhere else, torch would leave a writer behind that ends the process when it is tidied up.
    """

    def __init__(self, file: BinaryIO, raised: list[BaseException], interrupts: list[Any]) -> None:
        self._file, self._raised, self._interrupts = file, raised, interrupts

    def write(self, data: bytes) -> int:
        try:
            if self._interrupts:
                raise KeyboardInterrupt
            return self._file.write(data)
        except BaseException as error:
            self._raised.append(error)
            raise

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def _write(state: Mapping[str, Any], about: Any, plain: bool, file: BinaryIO) -> None:
    if plain:
        tensors, names = _without_ties(state)
        metadata = {"format": "pt", ABOUT: json.dumps(about), **names}
        checksums = {name: _crc(each) for name, each in tensors.items()}
        listed = {"tensors": checksums, "header": names_crc(tensors, metadata),
                  "list": checksums_crc(checksums)}  # fmt: skip
        metadata[CHECKSUMS] = json.dumps(listed)
        file.write(safetensors.torch.save(tensors, metadata))
    else:
        compact = {name: _compact(tensor) for name, tensor in state.items()}
        torch.save({"state_dict": compact, "metadata": about}, file)


def _about(
    model: nn.Module | Mapping[str, torch.Tensor],
    what: str,
    source: object,
    metrics: Mapping[str, float] | None,
    extra: Mapping[str, Any] | None,
) -> dict[str, Any]:
    about: dict[str, Any] = {
        "what": what,
        "source": str(source).splitlines()[0] if str(source) else "",
        "metrics": {name: float(value) for name, value in (metrics or {}).items()},
        "torch": torch.__version__,
    }
    if isinstance(model, nn.Module):
        about["model"] = type(model).__name__
        about["frozen"] = [name for name, p in model.named_parameters() if not p.requires_grad]
    if extra:
        about["extra"] = dict(extra)
    try:
        return json.loads(json.dumps(about))
    except (TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"The metadata can't be saved: {error}. Use numbers, texts, lists and dictionaries."
        ) from None


def _without_ties(
    state: Mapping[str, torch.Tensor],
) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Each memory once, and the other names of it: the format allows no sharing."""
    tensors: dict[str, torch.Tensor] = {}
    first: dict[tuple[object, ...], str] = {}
    names: dict[str, str] = {}
    for name, tensor in state.items():
        key = (tensor.device, tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride())
        if tensor.numel() and key in first and same_bits(tensor, state[first[key]]):
            names[name] = first[key]
            continue
        first.setdefault(key, name)
        tensors[name] = _compact(tensor).cpu().contiguous()
    taken = {"format", ABOUT, CHECKSUMS} & names.keys()
    for name in taken:  # a tensor of that name can't be noted there; so it is written twice
        tensors[name] = tensors[names.pop(name)].clone()
    return tensors, names


def _compact(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor without the rest of the memory that it is a part of."""
    tensor = tensor.detach()
    if tensor.untyped_storage().nbytes() > tensor.numel() * tensor.itemsize:
        return tensor.clone()
    return tensor


def _crc(tensor: torch.Tensor) -> int:
    if tensor.numel() == 0:
        return 0
    return zlib_ng.crc32(tensor.view(-1).view(torch.uint8).numpy().data)
