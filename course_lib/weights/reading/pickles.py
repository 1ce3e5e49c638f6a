"""Why a pickle was refused: which Python names it wants, without running any of it.

A pickle is a small program. One of its instructions says "import this name", another "call it".
``torch.load(weights_only=True)`` knows the few names that tensors need and refuses all others.
This module reads such a program as text to say, in a sentence, what it wanted.
"""

import io
import pickletools
import re
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Collection, Iterator
from typing import Any

import numpy as np

from course_lib.text import few
from course_lib.weights.errors import UnsafeCheckpointError

_TENSOR_NAMES = re.compile(
    r"torch\.(_utils\._rebuild_\w+|_tensor\._rebuild_from_type_v2|\w*Storage|"
    r"storage\.\w*Storage|nn\.parameter\.Parameter|Size|Tensor|device|float\w*|bfloat16|half|"
    r"double|u?int\d*|long|short|bool|complex\w*|cuda\.\w+|serialization\._get_layout)"
    r"|collections\.(OrderedDict|Counter|defaultdict)|_codecs\.encode|__builtin__\.set|"
    r"builtins\.(set|complex|bytearray|dict|list|int|float)"
)

# Names that turn up in honest checkpoints: the author saved more than weights.
_USUAL = {
    "argparse.Namespace": "the training script's options",
    "numpy": "a NumPy number or array",
    "pathlib": "a path",
    "omegaconf": "a configuration",
    "lightning.fabric.utilities.data.AttributeDict": "Lightning's dictionary of options",
    "datetime": "a date",
}


def wanted_names(program: bytes) -> tuple[str, ...]:
    """The names that a pickle would import, other than those that tensors need, in its order.

    Files of torch before 1.6 are several pickles in a row: all of them are searched.
    """
    found = (name for name in _imports(program) if not _TENSOR_NAMES.fullmatch(name))
    return tuple(dict.fromkeys(found))


def _imports(program: bytes) -> Iterator[str]:
    strings: list[str] = []  # what STACK_GLOBAL takes its two words from
    for name, argument in _instructions(program):
        if name in ("GLOBAL", "INST"):
            yield _today(str(argument))
        elif name == "STACK_GLOBAL":
            yield ".".join(strings[-2:])
        elif isinstance(argument, str):
            strings.append(argument)


def _instructions(program: bytes) -> Iterator[tuple[str, Any]]:
    """Name and argument of each instruction, of one pickle after the other."""
    file = io.BytesIO(program)
    try:
        while True:
            for instruction, argument, _ in pickletools.genops(file):
                yield instruction.name, argument
    except (ValueError, IndexError, OverflowError, MemoryError):
        return  # a damaged program: what was found so far is what can be said


def _today(words: str) -> str:
    """``module name`` as Python 3 calls it: old protocols write the names of Python 2."""
    module, _, name = words.partition(" ")
    module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
    return f"{module}.{name}"


def refusal(where: str, program: bytes, reason: str) -> UnsafeCheckpointError:
    """The error for a pickle that ``torch.load(weights_only=True)`` refused.

    Args:
        where: the file, for the message.
        program: the bytes of the pickle.
        reason: what torch said.
    """
    wanted = wanted_names(program)
    wanted = (*wanted, *_array_types(program, wanted))
    if not wanted:
        return UnsafeCheckpointError(
            f"{where} was refused: it holds instructions that weights don't need, or it is "
            f"damaged ({_first_sentence(reason)}). Nothing of it was run. Get the file again, or "
            "ask its author for a .safetensors file."
        )
    shown, classes = few(wanted, 5), "..."
    usual = [f"{name} is {what}" for name in wanted for start, what in _USUAL.items()
             if name == start or name.startswith(f"{start}.")]  # fmt: skip
    if len(usual) == len(wanted):
        classes = ", ".join(map(_expression, wanted))
        usual = usual[:5]
        cause = f"Such names are common in honest files ({'; '.join(usual)}). "
    elif any(word in shown for word in (".models.", ".nn.modules.", "__main__", "_Module")):
        cause = (
            "It looks like a whole model saved with torch.save(model): a pickle of classes, all "
            "named in error.wanted. "
        )
    else:
        cause = "Weights never need that; if you don't know exactly why it is there, delete it. "
    third = (
        "(3) only if you wrote the file or trust its author as you trust a program, name the "
        f"classes: with torch.serialization.safe_globals([{classes}]): read_checkpoint(path)."
    )
    if _has_old_modules(program):
        third = "(Naming the classes doesn't help: torch before 1.6 wrote their source code along.)"
    return UnsafeCheckpointError(
        f"{where} was refused: to be read it wants to import and use {shown}, which may run any "
        f"code on your machine. Nothing of it was run. {cause}Safe ways on: (1) look for the same "
        "weights as .safetensors; (2) ask the author for torch.save(model.state_dict(), path); "
        f"{third}",
        wanted,
    )


def _has_old_modules(program: bytes) -> bool:
    """Whether torch before 1.6 wrote a whole module, which ``weights_only=True`` never reads."""
    steps = [each for each in _instructions(program) if not each[0].endswith(("PUT", "MEMOIZE"))]
    ends = zip(steps, steps[1:], steps[5:], strict=False)  # ("module", class, file, source)
    return any(
        first[1] == "module" and second[0] == "GLOBAL" and last[0] == "BINPERSID"
        for first, second, last in ends
    )


def _expression(name: str) -> str:
    """A name as an element of the list that ``safe_globals`` takes."""
    if name.startswith("numpy.core."):  # NumPy 1 wrote it so, and NumPy 2 has it elsewhere
        return f"({name.replace('numpy.core.', 'numpy._core.')}, {name!r})"
    return name.removeprefix("builtins.")


def _array_types(program: bytes, wanted: Collection[str]) -> tuple[str, ...]:
    """The classes of NumPy's types in a pickle, which torch wants to be named as well."""
    if "numpy.dtype" not in wanted:
        return ()
    texts = (str(argument) for _, argument in _instructions(program))
    codes = (text for text in texts if re.fullmatch(r"[biufcSU]\d+", text))
    kinds = (type(np.dtype(code)).__name__ for code in codes)
    return tuple(dict.fromkeys(f"numpy.dtypes.{kind}" for kind in kinds))


def _first_sentence(text: str) -> str:
    torchs_own = ("Weights only load failed", "Check the")
    lines = text.split("WeightsUnpickler error:")[-1].splitlines()
    told = (line for line in lines if line.strip() and not line.startswith(torchs_own))
    text = re.sub(r"\s+", " ", next(told, ""))
    return text.strip().split(". ")[0][:160].rstrip(".") or "no reason given"
