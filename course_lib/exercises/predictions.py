"""Write down what you expect before you run the cell; afterwards see both side by side.

A guess that turns out wrong is remembered better than a result that was only read. Nothing is
marked, nothing is kept: predictions live as long as the notebook's kernel, unless you
:func:`share` them.
"""

import secrets
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from course_lib.errors import suggest
from course_lib.exercises import collecting, prose
from course_lib.paths import is_folder, user_path, write_file
from course_lib.text import printable

NO_GUESS = "course_no_guess"  # in an output's metadata: only its first paragraph says something
_noted: dict[str, Any] = {}
_SHEET = secrets.token_hex(4)  # tells this kernel's predictions from those of others


def predict(name: str, value: Any = ...) -> None:
    """Note what you expect.

    Args:
        name: of the quantity, the same as in :func:`compare`.
        value: a number, a choice (a text), or an order (a list, first comes first). ``...`` or
            None: no prediction, and an earlier one is forgotten.
    """
    if _is_blank(value):
        _noted.pop(name, None)
        text = f"No prediction for {name} yet. Put yours in place of `...`; a guess will do."
    else:
        _noted[name] = list(value) if _is_order(value) else value
        text = f"Noted. You expect {name} to be {_shown(value)}."
    prose.show(prose.to_plain(text), prose.to_html(text))


def compare(
    name: str, result: Any, *, digits: int = 2, within: float | None = None, unit: str = ""
) -> None:
    """Set what happened beside what you expected.

    Args:
        name: as in :func:`predict`.
        result: what came out, of the same kind: number, choice or order.
        digits: decimals that are shown; choose so few that another machine shows the same.
        within: how far a number may be off and still count as a good guess; by default half a
            unit of the last digit shown.
        unit: printed behind numbers, such as ``"images/s"``.
    """
    happened = f"What happened, {name}: {_shown(result, digits, unit)}."
    if name not in _noted:
        near = suggest(name, _noted)
        said = f"You wrote down no prediction for {name}." + (near and f" {near.strip()}")
    else:
        guess = _noted[name]
        said = f"You expected {_shown(guess, digits, unit)}. "
        if _is_number(guess) and _is_number(result):
            said += _beside_number(float(guess), float(result), digits, within, unit)
        elif _is_order(guess) and _is_order(result):
            said += _beside_order(list(guess), list(result))
        elif _kind(guess) == _kind(result):
            same = _plain(guess) == _plain(result)
            said += "So it was." if same else "It came out otherwise: what did you think of?"
        else:
            said += f"That is {_kind(guess)}, the result {_kind(result)}: compare them yourself."
    text, box = prose.to_plain(f"{happened}\n\n{said}"), prose.boxed(happened, said)
    prose.show(text, box, None if name in _noted else {NO_GUESS: True})


def share(who: str = "", to: Path | str = ".") -> Path:
    """Your predictions as a small file, and as a QR code, for the teacher to collect.

    They go nowhere by themselves. ``course predictions FOLDER`` counts what a room has shared.

    Args:
        who: a name or a table's number, if it should be known.
        to: a folder, such as one that the room shares.

    Returns:
        The file; sharing again replaces it.

    Raises:
        CollectingError: nothing is predicted yet, the folder isn't there, or can't be
            written to.
    """
    text = collecting.packed(_noted, _SHEET, who)
    folder = user_path(to)
    if not is_folder(folder):
        raise collecting.CollectingError(f"There is no folder {folder}. Name one that is there.")
    file = folder / f"predictions-{_SHEET}.txt"
    try:
        write_file(file, text + "\n")
    except OSError as error:
        raise collecting.CollectingError(
            f"{file} can't be written: {error.strerror or error}. Name another folder: to=..."
        ) from error
    print(f"{file}: give it to your teacher, or let the code be scanned.")
    _show_code(text)
    return file


def _show_code(text: str) -> None:
    """The text as a QR code, where that can be shown and what is needed is installed."""
    try:
        import segno
        from IPython.display import SVG, display
    except ImportError:
        return
    try:
        code = segno.make(text, error="l", micro=False)
    except segno.DataOverflowError:
        return  # more than a code can hold; there is the file
    alt = "QR code of your predictions, the same as in the file."
    display(SVG(code.svg_inline(scale=3, light="white", title=alt)))


@dataclass(frozen=True)
class _Pairs:
    """How many pairs of an order are as expected."""

    right: int
    total: int


def _beside_number(
    guess: float, result: float, digits: int, within: float | None, unit: str
) -> str:
    off = result - guess
    if abs(off) <= (0.5 * 10**-digits if within is None else within) * (1 + 1e-9):
        return "That was a good guess."
    direction = "more" if off > 0 else "less"
    return f"It came out {_shown(abs(off), digits, unit)} {direction} than you thought: why?"


def _beside_order(guess: list[Any], result: list[Any]) -> str:
    if sorted(map(str, guess)) != sorted(map(str, result)):
        return "Your list doesn't hold the same names as the result: compare them yourself."
    pairs = _pairs(guess, result)
    if pairs.right == pairs.total:
        return "So it was."
    return f"{pairs.right} of {pairs.total} pairs stand in the order that came out."


def _pairs(guess: Sequence[Hashable], result: Sequence[Hashable]) -> _Pairs:
    place = {str(name): position for position, name in enumerate(result)}
    places = [place[str(name)] for name in guess]
    total = len(places) * (len(places) - 1) // 2
    right = sum(a < b for i, a in enumerate(places) for b in places[i + 1 :])
    return _Pairs(right, total)


def _is_blank(value: Any) -> bool:
    if _is_order(value):
        return all(each is ... for each in value)
    return value is None or value is ...


def _is_order(value: Any) -> bool:
    return isinstance(value, list | tuple)


def _is_number(value: Any) -> bool:
    """Numbers of Python, numpy and torch with one element; truth values are choices."""
    if isinstance(value, bool | str) or _is_order(value):
        return False
    if isinstance(value, int) and abs(value) >= 1 << 1000:  # more than a float can hold
        return False
    size = getattr(value, "numel", None)
    return hasattr(value, "__float__") and (size is None or size() == 1)


def _kind(value: Any) -> str:
    if _is_number(value):
        return "a number"
    return "an order" if _is_order(value) else "a choice"


def _plain(value: Any) -> str:
    return " ".join(str(value).split()).lower()


def _shown(value: Any, digits: int | None = None, unit: str = "") -> str:
    if _is_order(value):
        return printable(", ".join(str(each) for each in value))
    if _is_number(value):
        number = float(value)
        text = f"{number:g}" if digits is None else f"{number:.{digits}f}"
        return f"{text} {unit}".strip()
    return printable(str(value))  # it may have come with an import
