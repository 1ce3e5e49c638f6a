"""Choose tensors by name: one name, everything in a module, or a shell-style pattern."""

from collections.abc import Collection, Iterable
from fnmatch import fnmatchcase

from course_lib.errors import UnknownNameError, suggest

Names = str | Collection[str]


def select(wanted: Names, known: Iterable[str], where: str) -> tuple[str, ...]:
    """The names in ``known`` that ``wanted`` means, in the order of ``known``.

    Args:
        wanted: one or several of: a tensor's name (``"fc.weight"``), a module's (``"layer4.0"``:
            all its tensors), or a pattern (``"*.bias"``, ``"layer[34].*"``). A string is one name.
        known: all names.
        where: what they belong to, for messages: ``"the model"``.

    Raises:
        UnknownNameError: something in ``wanted`` means no tensor.
    """
    names = list(known)
    chosen: set[str] = set()
    for each in [wanted] if isinstance(wanted, str) else wanted:
        if any(sign in each for sign in "*?["):
            found = {name for name in names if fnmatchcase(name, each)}
        else:
            found = {name for name in names if name == each or name.startswith(f"{each}.")}
        if not found:
            parts = {name.rsplit(".", depth)[0] for name in names for depth in range(4)}
            raise UnknownNameError(
                f"{where} has no tensor, module or pattern {each!r}.{suggest(each, parts)}"
            )
        chosen |= found
    return tuple(name for name in names if name in chosen)
