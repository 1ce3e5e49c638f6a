"""What becomes of a source's cells: checks apart, results folded, drawing out of view."""

import nbformat
import pytest
from nbclient.exceptions import CellExecutionError

from course_lib.publishing import learner, notebooks

SOURCE = '''# %% [markdown]
# # Title
#
# ## A question
#
# **Predict.** How many?

# %%
predict("many", ...)

# %%
found = [1, 2]
assert len(found) == 2
print(len(found))

# %%
assert (
    sum(found) == 3
), "three"
# %%
compare("many", len(found))

# %% [markdown]
# Two. And next:
#
# **Predict.** How few?

# %%
predict("few", ...)

# %%
a = 1
b = 2
c = 3
few = a + b + c
figure, axes = plots.new_axes()
axes[0, 0].plot([a])
plots.show(
    figure,
    alt="""A line that starts at one and has nowhere to go from there, in a plain frame.""",
)
compare("few", few)

# %% [markdown]
# Six.
#
# ## Another thing
#
# ```python
# # no heading
# ```

# %% tags=["exercise"]
assert mine == 1
'''


@pytest.fixture
def made(tmp_path):
    path = tmp_path / "source.py"
    path.write_text(SOURCE)
    return lambda **settings: notebooks.from_source(path, **settings)


def test_the_page_in_the_order_a_learner_meets_it(made):
    cells = [(cell.cell_type, cell.source.splitlines()[0]) for cell in made().cells]
    assert cells == [
        ("markdown", "# Title"),
        ("code", 'predict("many", ...)'),
        ("markdown", "### What happened: many"),
        ("code", "found = [1, 2]"),
        ("code", 'compare("many", len(found))'),
        ("markdown", "Two. And next:"),
        ("markdown", "### Predict: few"),
        ("code", 'predict("few", ...)'),
        ("markdown", "### What happened: few"),
        ("code", "a = 1"),
        ("code", "figure, axes = plots.new_axes()"),
        ("markdown", "Six."),
        ("markdown", "## Another thing"),
        ("code", "assert mine == 1"),
    ]


def test_headings_are_collapsed_in_both_front_ends_and_drawing_is_folded(made):
    book = made()
    collapsed = [cell for cell in book.cells if cell.metadata.get(learner.COLLAPSED)]
    assert [cell.source[:9] for cell in collapsed] == ["### What "] * 2
    assert book.metadata.colab.collapsed_sections == [cell.metadata.id for cell in collapsed]
    folded = [cell for cell in book.cells if cell.metadata.get("cellView") == "form"]
    assert [cell.source.split("(")[0] for cell in folded] == [
        "compare", "figure, axes = plots.new_axes"
    ]  # fmt: skip
    assert all(cell.metadata.jupyter.source_hidden for cell in folded)
    assert book == made(), "the same source, the same notebook"


def test_checks_wait_beside_their_cell_and_are_not_stored(made):
    book = made(checked=True)
    (cell, check), *others = learner.checks(book)
    assert not others
    assert cell.source == "found = [1, 2]\nprint(len(found))"
    assert check == 'assert len(found) == 2\nassert (\n    sum(found) == 3\n), "three"'
    learner.finished(book)
    assert list(learner.checks(book)) == []
    assert "assert len" not in nbformat.writes(book)


def test_a_check_runs_after_its_cell_uncounted_and_a_false_one_is_an_error():
    cells = [nbformat.v4.new_code_cell(text) for text in ("x = 1\nx", "x + 1\nassert x == 1", "x")]
    book = nbformat.v4.new_notebook(cells=learner.prepared(cells))
    notebooks.execute(book)
    assert [cell.execution_count for cell in book.cells] == [1, 2, 3]
    assert [cell.outputs[0].data["text/plain"] for cell in book.cells] == ["1", "2", "1"]
    cells = [nbformat.v4.new_code_cell("x = 1\nassert x == 2")]
    with pytest.raises(CellExecutionError, match="assert x == 2"):
        notebooks.execute(nbformat.v4.new_notebook(cells=learner.prepared(cells)))
