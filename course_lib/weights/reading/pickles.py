"""Why a pickle was refused: which Python names it wants, without running any of it.

A pickle is a small program. One of its instructions says "import this name", another "call it".
``torch.load(weights_only=True)`` knows the few names that tensors need and refuses all others.
This module reads such a program as text to say, in a sentence, what it wanted.
"""

import io
import math
import pickletools
import re
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from course_lib.text import few, printable
from course_lib.weights.errors import CheckpointError, UnsafeCheckpointError

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
    found = (name for name in _Machine(program).names if not _TENSOR_NAMES.fullmatch(name))
    return tuple(dict.fromkeys(map(printable, found)))


def check_claims(where: str, program: bytes, limit: int) -> None:
    """Refuse a pickle that asks for memory by a number instead of by what is in the file.

    ``bytearray(6_000_000_000)`` is 30 bytes of a pickle, and torch's safe reading makes it.

    Args:
        where: the file, for the message.
        program: the bytes of the pickle.
        limit: the size of the file in bytes.

    Raises:
        CheckpointError: a number in such a call is larger than the file.
    """
    if not _ALLOCATING.search(program):
        return
    for name, arguments in _Machine(program).calls:
        claimed = max(_numbers(arguments), default=0)
        if _ALLOCATORS.fullmatch(name) and claimed > limit:
            raise CheckpointError(
                f"{where} is refused: it asks for {name} of {claimed:,} elements, and the whole "
                f"file has {limit:,} bytes. Weights never need that; delete it."
            )


def check_doubling(where: str, program: bytes) -> None:
    """Refuse a pickle whose tuples hold each other so often that to use one never ends.

    A tuple that holds one twice, 45 times over, is small in memory. Python's hash of it, which a
    dictionary needs for its keys, is not: it takes 2**45 steps. So is its text in a message.

    Raises:
        CheckpointError: some tuple has far more parts than the pickle has instructions; or
            something is called that isn't a name.
    """
    put = {m[1] or m[2] for m in _PUT.finditer(program)}
    got = Counter(m[1] or m[2] for m in _GET.finditer(program))
    if math.prod(1 + min(got[each], 1 << 20) for each in put) < _MOST_COPIES:
        return
    machine = _Machine(program)
    if max(machine.sizes.values(), default=0) > max(_MOST_COPIES, 4 * len(program)):
        raise CheckpointError(
            f"{where} is refused: its objects hold each other again and again. Weights never need "
            "that; delete it."
        )
    if any(not name for name, _ in machine.calls):
        raise CheckpointError(f"{where} is refused: it calls what isn't a name. Delete it.")


_MOST_COPIES = 1_000_000
_PUT = re.compile(rb"[t\x85-\x87)\]}](?:q(.)|r(.{4}))", re.DOTALL)  # a container, into the memo
_GET = re.compile(rb"h(.)|j(.{4})", re.DOTALL)

# What allocates as much as it is told to. torch reads no names but those that are there in full.
_ALLOCATORS = re.compile(
    r"builtins\.bytearray|torch\.(\w+\.)*\w*(Tensor|UntypedStorage|TypedStorage)|"
    r"torch\._utils\._rebuild_qtensor"
)
_ALLOCATING = re.compile(rb"(bytearray|Tensor|UntypedStorage|TypedStorage|_rebuild_qtensor)\n")


def _numbers(arguments: tuple[Any, ...]) -> Iterator[int]:
    """The whole numbers among arguments, and the products of tuples of such: shapes."""
    todo, seen = [arguments], {id(arguments)}
    while todo:
        value = todo.pop()
        yield math.prod(each for each in value if isinstance(each, int))
        for each in value:
            if isinstance(each, tuple) and id(each) not in seen:
                seen.add(id(each))
                todo.append(each)


class _Machine:
    """A pickle's machine, with its stack and its memo, that imports nothing and calls nothing.

    In the place of what a call would make stands None.

    Attributes:
        names: what would be imported, in order.
        calls: what would be called, and with what.
        sizes: of each tuple, by its id: how many parts it has when it is written out.
        made: the tuples.
    """

    def __init__(self, program: bytes) -> None:
        self.names: list[str] = []
        self.calls: list[tuple[str, Any]] = []
        self.sizes: dict[int, int] = {}
        self.made: list[tuple[Any, ...]] = []
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        for name, argument, before, after in _instructions(program):
            if name == "PROTO":
                continue
            if name == UNTOLD:
                self.names.append(UNTOLD)
                continue
            if name == "STOP":  # each pickle of a row has a memo of its own
                self.stack, self.memo = [], {}
                continue
            try:
                self._step(name, argument, before, after)
            except (IndexError, ValueError):  # the stack has less: a damaged program
                self.stack.clear()

    def _step(self, name: str, argument: Any, before: list[Any], after: list[Any]) -> None:
        if name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            place = len(self.memo) if name == "MEMOIZE" else int(argument)
            self.memo[place] = self.stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            self.stack.append(self.memo.get(int(argument)))
        elif name == "DUP":
            self.stack.append(self.stack[-1])
        else:
            if name == "INST":  # the name comes first, and then what it is called with
                self._imported([argument])
            taken = self._take(before)
            self.stack += self._made(name, argument, taken) if after else []

    def _take(self, before: list[Any]) -> list[Any]:
        """What an instruction takes off the stack; what lies above a mark as one tuple."""
        above: list[Any] = []
        count = len(before)
        if pickletools.markobject in before:
            while (top := self.stack.pop()) is not _MARK:
                above.append(top)
            count = before.index(pickletools.markobject)
        taken = [self.stack.pop() for _ in range(count)][::-1]
        return [*taken, tuple(above[::-1])] if pickletools.markobject in before else taken

    def _made(self, name: str, argument: Any, taken: list[Any]) -> list[Any]:
        """What an instruction puts onto the stack."""
        if name == "MARK":
            return [_MARK]
        if name in ("GLOBAL", "STACK_GLOBAL") or name.startswith("EXT"):
            words = taken if name == "STACK_GLOBAL" else [argument]
            return [self._imported(words)]
        if name in ("REDUCE", "NEWOBJ", "NEWOBJ_EX", "OBJ", "INST"):
            called, *rest = taken if name != "OBJ" else taken[0]
            if name == "INST":
                called, *rest = _Name(self.names[-1]), *taken
            self.calls.append((called.name if isinstance(called, _Name) else "", tuple(rest)))
            return [None]
        if name in ("TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "EMPTY_TUPLE"):
            made = taken[0] if name == "TUPLE" else tuple(taken)
            self.sizes[id(made)] = 1 + sum(self.sizes.get(id(each), 1) for each in made)
            self.made.append(made)  # so that no other one gets its id
            return [made]
        if name in ("PERSID", "BINPERSID"):  # a storage; in old files of whole modules also a class
            return [_Name("what the file keeps apart")]
        if taken:  # it goes into the first of these: a list, a dictionary, an object
            return [taken[0]] if not isinstance(taken[0], tuple) else [None]
        return [argument]

    def _imported(self, words: list[Any]) -> "_Name":
        if all(isinstance(each, str) for each in words):
            name = ".".join(words) if len(words) == 2 else _today(words[0])
        else:
            name = f"extension {words[0]}" if len(words) == 1 else UNTOLD
        self.names.append(name)
        return _Name(name)


@dataclass(frozen=True)
class _Name:
    """What stands for something imported."""

    name: str


_MARK = object()
UNTOLD = "a name that can't be told without running it"


def _instructions(program: bytes) -> Iterator[tuple[str, Any, list[Any], list[Any]]]:
    """Each instruction of one pickle after the other: name, argument, what it takes and puts."""
    file = io.BytesIO(program)
    try:
        while True:
            for instruction, argument, _ in pickletools.genops(file):
                yield (
                    instruction.name, argument, instruction.stack_before, instruction.stack_after
                )  # fmt: skip
    except UnicodeDecodeError:  # pickletools reads names in ASCII, and Python's machine doesn't
        yield UNTOLD, None, [], []
    except (ValueError, IndexError, OverflowError, MemoryError):
        return  # a damaged program: what was found so far is what can be said


def _today(words: str) -> str:
    """``module name`` as Python 3 calls it: old protocols write the names of Python 2."""
    module, _, name = words.partition(" ")
    if " " in name:  # whose it is, nobody can tell
        return UNTOLD
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
    texts = (str(argument) for _, argument, *_ in _instructions(program))
    codes = (text for text in texts if re.fullmatch(r"[biufcSU]\d+", text))
    kinds = (type(np.dtype(code)).__name__ for code in codes)
    return tuple(dict.fromkeys(f"numpy.dtypes.{kind}" for kind in kinds))


def _first_sentence(text: str) -> str:
    torchs_own = ("Weights only load failed", "Check the")
    lines = text.split("WeightsUnpickler error:")[-1].splitlines()
    told = (line for line in lines if line.strip() and not line.startswith(torchs_own))
    text = re.sub(r"\s+", " ", next(told, ""))
    return text.strip().split(". ")[0][:160].rstrip(".") or "no reason given"
