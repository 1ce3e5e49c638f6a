"""What kind of file is this? Told by its first bytes, never by its name.

The ending of a file is a habit: ``.pth``, ``.pt``, ``.ckpt`` and ``.bin`` may each hold any of the
formats below, and a failed download may hold a web page.
"""

import json
import struct
import zipfile
from pathlib import Path
from typing import Any

from course_lib.errors import suggest
from course_lib.text import few
from course_lib.weights.errors import CheckpointError
from course_lib.weights.reading.damage import Held

ZIP, LEGACY, SAFETENSORS, SHARDED, NUMPY = "zip", "legacy", "safetensors", "sharded", "numpy"
LARGEST_JSON = 1 << 28  # an index of a hundred thousand tensors has 10 MB

# torch.save before 1.6 (and _use_new_zipfile_serialization=False): the pickle of a magic number.
LEGACY_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."

_STRANGERS = (
    (b"version https://git-lfs", "a Git LFS pointer: a note where the weights are stored, not the "
     "weights. Fetch the file itself with: git lfs pull"),
    (b"\x1f\x8b", "a gzip archive. Unpack it first, then read the file inside"),
    (b"\x89HDF", "an HDF5 file (Keras saves its weights so). Export its arrays with numpy.savez, "
     "then see course_lib.weights.to_torch_layout"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive. Unpack it first, then read the file inside"),
    (b"GGUF", "a GGUF file (quantised weights of another framework), which torch can't load"),
    (b"\x93NUMPY", "a single NumPy array without a name. Save named arrays with numpy.savez"),
)  # fmt: skip


def sniff(held: Held) -> str:
    """The format of a file: ``zip``, ``legacy``, ``safetensors``, ``sharded`` or ``numpy``.

    Raises:
        CheckpointError: it is none of these; the message says what it is.
    """
    path, size, file = held.path, held.size, held.file
    if size == 0:
        raise CheckpointError(
            f"{path} is empty (0 bytes): a download or a save that stopped before it began. "
            "Get the file again."
        )
    file.seek(0)
    head = file.read(1024)
    file.seek(max(0, size - 512))
    tail = file.read(512)
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        raise CheckpointError(
            f"{path} is a web page, not weights: the download was answered with an error or a "
            "sign-in page. Open the address in a browser, find the file's direct link, and "
            "download it again."
        )
    for magic, what in _STRANGERS:
        if head.startswith(magic):
            raise CheckpointError(f"{path} is {what}.")
    if head.startswith(b"PK\x03\x04"):
        return _kind_of_zip(held)
    if head.startswith(LEGACY_MAGIC):
        return LEGACY
    if _looks_like_safetensors(head):
        return SAFETENSORS
    if text.startswith(b"{"):
        return _kind_of_json(held)
    raise CheckpointError(f"{path} {_unknown(head, tail, size)}")


def check_there(path: Path) -> None:
    """Say what is wrong with a path that is no file.

    Raises:
        CheckpointError: a folder, nothing, or a link that leads nowhere.
    """
    if path.is_dir():
        inside = sorted(each.name for each in path.iterdir())
        raise CheckpointError(
            f"{path} is a folder; expected a file. It holds: {few(inside, 8) or 'nothing'}."
        )
    if path.is_symlink() and not path.exists():
        raise CheckpointError(f"{path} is a link that leads to no file, or back to itself.")
    if not path.exists():
        known = (each.name for each in path.parent.iterdir()) if path.parent.is_dir() else ()
        raise CheckpointError(f"There is no file {path}.{suggest(path.name, known)}")


def _kind_of_zip(held: Held) -> str:
    path, size = held.path, held.size
    try:
        with zipfile.ZipFile(held.file) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, ValueError, OSError, EOFError, struct.error,
            NotImplementedError, UnicodeDecodeError):  # fmt: skip
        raise CheckpointError(
            f"{path} begins like a checkpoint of torch.save but its table of contents, at the end "
            f"of the file, is missing or damaged: truncated at {size:,} bytes, or altered. "
            "Get the file again."
        ) from None
    if any(name.endswith("data.pkl") for name in names):
        return ZIP
    if names and all(name.endswith(".npy") for name in names):
        return NUMPY
    shown = few(names, 5) or "nothing"
    raise CheckpointError(
        f"{path} is a zip archive without a checkpoint in it (no data.pkl); it holds: {shown}. "
        "If the weights are inside, unpack it first."
    )


def _looks_like_safetensors(head: bytes) -> bool:
    """Eight bytes with the header's length, then a header in JSON."""
    if len(head) < 9 or head[8:9] != b"{":
        return False
    (length,) = struct.unpack("<Q", head[:8])
    return 2 <= length < 1 << 40


def _kind_of_json(held: Held) -> str:
    path = held.path
    if held.size > LARGEST_JSON:
        raise CheckpointError(f"{path} is a JSON text of {held.size:,} bytes, not weights.")
    try:
        held.file.seek(0)
        content: Any = json.loads(held.file.read().decode("utf-8-sig"))
    except (ValueError, RecursionError):
        raise CheckpointError(f"{path} is damaged JSON text, not weights.") from None
    if isinstance(content, dict) and isinstance(content.get("weight_map"), dict):
        return SHARDED
    raise CheckpointError(
        f"{path} is a JSON text, not weights, and no index of shards either (it has no "
        "'weight_map'). Look beside it for .safetensors, .bin or .pth."
    )


def _unknown(head: bytes, tail: bytes, size: int) -> str:
    if b"PK\x05\x06" in tail:
        return (
            "ends like a checkpoint of torch.save but its beginning is damaged: the first bytes "
            f"are {head[:8]!r}. Get the file again."
        )
    if not head.strip(b"\0"):
        return "begins with nothing but zeros: an unfinished download or a damaged disk."
    if head[257:262] == b"ustar":
        return "is a tar archive (torch.save before 0.2, or packed weights). Unpack it first."
    if head[:1] == b"\x80" and len(head) > 1 and head[1] <= 5:
        return (
            "is a Python pickle, but not one that torch.save wrote (wrong magic number). Reading "
            "a pickle runs code, so it is refused. Ask for a .safetensors or .pth file."
        )
    if all(byte in b"\t\r\n" or 32 <= byte < 127 for byte in head):
        return f"is a text, not weights; it begins: {head[:60].decode()!r}."
    return (
        f"is no checkpoint that is known here: {size:,} bytes, beginning {head[:8]!r}. Expected a "
        "file of torch.save, a .safetensors file, an index of shards, or a NumPy .npz archive."
    )
