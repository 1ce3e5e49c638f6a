"""How long a chapter is, and how much of it is in a tired reader's way.

``python -m tests.notebooks.test_length`` prints the counts of every chapter. Exercises, and an
appendix behind them, are not counted: they are the reader's choice.
"""

import re

import pytest

from course_lib.publishing import notebooks

MOST_WORDS = 2500
MOST_CELLS = 70
LONGEST_CELL = 25  # lines of code in sight


def of_chapter(notebook):
    """The cells of a chapter without exercises, appendix and the cell that hosts need."""
    kept, within = [], False
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and re.search(r"^## ", cell.source, re.M):
            appendix = within and re.search(r"^## Appendix", cell.source, re.M)
            within = bool(re.search(r"^## Exercises", cell.source, re.M) or appendix)
        if not within and "setup" not in cell.metadata.get("tags", ()):
            kept.append(cell)
    return kept


def counts(name):
    """Words of prose, cells, long cells of code in sight, and outputs that say only "True"."""
    cells = of_chapter(notebooks.from_source(notebooks.sources()[name]))
    text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    text = re.sub(r"<!--.*?-->|```.*?```", "", text, flags=re.S)
    seen = [
        cell.source
        for cell in cells
        if cell.cell_type == "code" and not cell.metadata.get("jupyter", {}).get("source_hidden")
    ]
    stored = notebooks.read(name)
    told = [
        output.text
        for cell in of_chapter(stored)
        for output in cell.get("outputs", ())
        if output.output_type == "stream"
    ]
    return {
        "words": len(re.findall(r"[A-Za-z][\w'’-]*", text)),
        "cells": len(cells),
        "long": sum(len(source.splitlines()) > LONGEST_CELL for source in seen),
        "True": sum(len(re.findall(r": True$", text, re.M)) for text in told),
    }


@pytest.mark.parametrize("name", list(notebooks.sources()))
def test_a_chapter_is_short_enough_to_be_finished(name):
    found = counts(name)
    assert found["words"] <= MOST_WORDS, found
    assert found["cells"] <= MOST_CELLS, found
    assert found["long"] == found["True"] == 0, found


if __name__ == "__main__":
    for each in notebooks.sources():
        print(each, counts(each))
