"""What a name means: one rule wherever the course takes the names of modules and tensors.

A name is one of

* a dotted module name (``"layer4.0.bn1"``): the module and everything below it,
* the name of a parameter (``"fc.weight"``) or a buffer (``"bn1.running_mean"``),
* a shell-style pattern (``"layer[34].*"``, ``"*.bias"``): everything whose name it matches,
  upper and lower case told apart; ``*`` also crosses dots.

A string is one name, never a sequence of characters. A thing of exactly that name comes before a
pattern.
"""

from collections.abc import Callable, Collection, Iterable
from fnmatch import fnmatchcase

from course_lib.errors import UnknownNameError, suggest


def matching(name: str, known: Collection[str]) -> list[str]:
    """The known names that ``name`` stands for: itself, or all that match the pattern."""
    if name in known or not is_pattern(name):
        return [name] if name in known else []
    return [each for each in known if fnmatchcase(each, name)]


def is_pattern(name: str) -> bool:
    """Whether a name may stand for several."""
    return any(sign in name for sign in "*?[")


def resolve(
    name: str,
    known: Collection[str],
    where: str,
    hint: Callable[[str, Collection[str]], str] = suggest,
) -> list[str]:
    """As :func:`matching`, but standing for nothing is an error.

    Args:
        name: an exact name or a pattern.
        known: the names of all modules, parameters and buffers.
        where: what they belong to, for the message: ``"This model"``.
        hint: gives the end of the message; by default the nearest names.

    Raises:
        UnknownNameError: it stands for nothing.
    """
    found = matching(name, known)
    if not found:
        kind = "that matches the pattern" if is_pattern(name) else "named"
        raise UnknownNameError(
            f"{where} has no module, parameter or buffer {kind} {name!r}.{hint(name, known)}"
        )
    return found


def below(name: str, names: Iterable[str]) -> list[str]:
    """Those ``names`` that are ``name`` itself or lie in the module of that name."""
    prefix = f"{name}." if name else ""
    return [each for each in names if each == name or each.startswith(prefix)]


def with_modules(tensors: Iterable[str]) -> dict[str, None]:
    """The names of tensors and of all modules that they lie in, in order, as keys."""
    known: dict[str, None] = {}
    for name in tensors:
        parts = name.split(".")
        known |= dict.fromkeys(".".join(parts[:depth]) for depth in range(1, len(parts) + 1))
    return known
