"""A plugin beside nbval: after a notebook's cell, what its source asserts about it.

``pytest --nbval -p asserted notebooks``. The assertions aren't in what a learner opens. And of
figures, which are elements of HTML, nothing is compared, as nbval does for pictures.
"""

from collections import defaultdict
from pathlib import Path

import nbformat
import pytest

from course_lib.publishing import learner, notebooks


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    found = {}
    for item in list(items):
        name = Path(str(item.fspath)).stem
        if not hasattr(item, "cell_num") or name not in notebooks.sources():
            continue
        item.parent.sanitize_patterns[r"<img [^>]*>"] = "<img>"
        if name not in found:
            book = notebooks.from_source(notebooks.sources()[name], checked=True)
            found[name] = [each for each in book.cells if each.cell_type == "code"]
        check = found[name][item.cell_num].metadata.get(learner.CHECK)
        if check:
            cell = nbformat.v4.new_code_cell(check)  # never run: nothing is compared
            extra = type(item).from_parent(
                item.parent, name=f"{item.name} asserted", cell_num=item.cell_num, cell=cell,
                options=defaultdict(bool),
            )  # fmt: skip
            items.insert(items.index(item) + 1, extra)
