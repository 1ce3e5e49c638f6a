"""How long a section takes in class: an estimate from what stands in it."""

import re
from collections.abc import Iterable

from course_lib.publishing.handouts import document as doc
from course_lib.publishing.handouts.document import Block, walk, words

WORDS = 100  # read and talked about, a minute
LINES = 9  # of code, a minute
OUTPUT_LINES = 20
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
        if isinstance(block, doc.Program):
            total += len([line for line in block.code.splitlines() if line.strip()]) / LINES
        elif isinstance(block, doc.Output):
            total += len(block.text.splitlines()) / OUTPUT_LINES
        elif isinstance(block, doc.Picture | doc.Table | doc.Blank | doc.Room):
            total += 1
        elif isinstance(block, doc.Heading | doc.Paragraph):
            total += len(re.findall(r"\w+", words(block))) / WORDS
    return total


def rounded(exact: float) -> int:
    """Whole minutes, at least one."""
    return max(1, round(exact))
