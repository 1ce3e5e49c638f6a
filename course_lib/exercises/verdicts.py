"""What a check can say, and the small helpers that judges say it with."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

PASSED = "passed"
NOT_YET = "not yet"
NOT_ATTEMPTED_YET = "not attempted yet"
STOPPED = "stopped by an error"

WORDS = {
    int: "a whole number",
    float: "a number",
    str: "a text",
    list: "a list",
    tuple: "a tuple",
    dict: "a dictionary",
    type(None): "None",
    type(...): "`...`",
}


@dataclass(frozen=True)
class Verdict:
    """What a check found.

    Attributes:
        kind: ``"passed"``, ``"not yet"``, ``"not attempted yet"`` or ``"stopped by an error"``.
        message: what the learner reads.
        mistake: name of the known wrong answer that this looks like, or None.
    """

    kind: str
    message: str = ""
    mistake: str | None = None

    @property
    def passed(self) -> bool:
        """Whether the answer is right."""
        return self.kind == PASSED

    def _ipython_display_(self) -> None:
        """Nothing: a check has shown its verdict already."""


class Unfinished(Exception):  # noqa: N818 (a reply, no fault of the program)
    """Raised by a judge's helper to end the judging: the message is for the learner.

    Args:
        message: what the learner reads.
        of_value: that, where the answer is a value and no function; by default the same.
    """

    def __init__(self, message: str, of_value: str = "") -> None:
        super().__init__(message)
        self.of_value = of_value or message


def passed(message: str) -> Verdict:
    """The answer is right; the message adds something worth knowing."""
    return Verdict(PASSED, message)


def not_yet(message: str) -> Verdict:
    """The answer is wrong in a way that has no name."""
    return Verdict(NOT_YET, message)


def mistake(name: str) -> Verdict:
    """The answer looks like the known wrong answer of that name, which has its own message."""
    return Verdict(NOT_YET, mistake=name)


def returned(value: Any, expected: type | tuple[type, ...], what: str) -> Any:
    """The value, if it is what the function was to return.

    Args:
        value: what the learner's function returned.
        expected: its type, or several.
        what: the type in words with its article, such as ``"a dictionary"``.

    Raises:
        Unfinished: it is something else.
    """
    if isinstance(value, expected):
        return value
    if value is ...:
        raise Unfinished(
            "Your function still returns `...`: put your result in its place.",
            "There is still `...` in your answer: put your result in its place.",
        )
    of_value = f"Your answer has {named(value)}; expected {what}."
    if value is None:
        raise Unfinished(
            f"Your function returns None; it should return {what}. Is there a `return`?", of_value
        )
    raise Unfinished(f"Your function returns {named(value)}; it should return {what}.", of_value)


def number(value: Any, what: str) -> float:
    """A number from what a learner may give: int, float, numpy scalar, tensor with one element.

    Raises:
        Unfinished: it is no such thing.
    """
    if isinstance(value, torch.Tensor) and value.numel() == 1:
        value = value.detach().item()
    if isinstance(value, bool | torch.Tensor | type) or not hasattr(value, "__float__"):
        returned(value, (), what)
    return float(value)


def numbers(value: Any, shape: Sequence[int], what: str) -> torch.Tensor:
    """A float64 tensor of that shape from a tensor, an array or (nested) sequences.

    Axes of length one beside the expected ones are forgiven: (1, 3, 1, 1) is as good as (3,).

    Raises:
        Unfinished: it can't be read so.
    """
    if value is None or value is ...:
        returned(value, (), what)
    try:
        if isinstance(value, list | tuple) and any(
            isinstance(each, torch.Tensor) for each in value
        ):
            value = torch.stack([torch.as_tensor(each).detach() for each in value])
        tensor = torch.as_tensor(value).detach().double().cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        raise Unfinished(f"Expected {what}, found {named(value)}.") from error
    if [side for side in tensor.shape if side != 1] != [side for side in shape if side != 1]:
        raise Unfinished(
            f"Expected {what}, of shape {tuple(shape)}; yours has shape {tuple(tensor.shape)}."
        )
    return tensor.reshape(tuple(shape))


def close(found: Any, expected: Any, relative: float = 1e-4) -> bool:
    """Whether two numbers or tensors agree, but for rounding."""
    found, expected = (torch.as_tensor(each).detach().double() for each in (found, expected))
    return found.shape == expected.shape and torch.allclose(
        found, expected, rtol=relative, atol=relative * 1e-2
    )


def named(value: Any) -> str:
    """A value's type in words."""
    if type(value) in WORDS:
        return WORDS[type(value)]
    name = type(value).__name__
    if callable(value) and not isinstance(value, torch.nn.Module):
        return "a function"
    if isinstance(value, torch.Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"
