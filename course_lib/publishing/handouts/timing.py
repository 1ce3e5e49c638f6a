"""How long a section takes in class: an estimate from what stands in it."""

import re
from collections.abc import Iterable

from course_lib.publishing.handouts.document import (
    Blank,
    Block,
    Heading,
    Output,
    Paragraph,
    Picture,
    Program,
    Room,
    Table,
    walk,
    words,
)

WORDS = 100  # read and talked about, a minute
LINES = 9  # of code, a minute
OUTPUT_LINES = 20
PICTURE, TABLE, PREDICTION = 1.0, 1.0, 1.0  # minutes for each
QUESTION = 1.5  # minutes for each question of the quiz
RULE = (
    f"The minutes of a section are an estimate from what stands in it: {WORDS} words, {LINES} "
    f"lines of code or {OUTPUT_LINES} lines of output a minute, and a minute for each picture, "
    f"table and prediction. Those of an exercise are its own; a question takes {QUESTION:g}. Your "
    "group may well need twice or half of it: write down what it needed."
)


def minutes(blocks: Iterable[Block]) -> float:
    """Minutes to read and run these blocks."""
    total = 0.0
    for block in walk(blocks):
        if isinstance(block, Program):
            total += len([line for line in block.code.splitlines() if line.strip()]) / LINES
        elif isinstance(block, Output):
            total += len(block.text.splitlines()) / OUTPUT_LINES
        elif isinstance(block, Picture):
            total += PICTURE
        elif isinstance(block, Table):
            total += TABLE
        elif isinstance(block, Blank | Room):
            total += PREDICTION
        elif isinstance(block, Heading | Paragraph):
            total += len(re.findall(r"\w+", words(block))) / WORDS
    return total


def rounded(exact: float) -> int:
    """Whole minutes, at least one."""
    return max(1, round(exact))
