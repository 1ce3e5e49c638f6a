"""Tables as text: for the terminal, and for a notebook."""

from collections.abc import Sequence

WIDTH = 88  # characters a line: fits a terminal, a notebook and A4


def ruled(lines: Sequence[Sequence[str]], heads: int = 1) -> str:
    """Aligned columns, with a rule below the heads.

    Args:
        lines: of equally many cells each.
        heads: how many lines stand above the rule.
    """
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    made = [*lines[:heads], ["─" * width for width in widths], *lines[heads:]]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in made)
