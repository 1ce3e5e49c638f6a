"""A small notebook with one of everything, and ways to look into a PDF."""

import base64
import io

import nbformat
import pypdfium2
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

from course_lib.exercises.predictions import NO_GUESS
from course_lib.publishing import notebooks
from course_lib.publishing.handouts import STUDENT, TEACHER, make

LONG_LINE = "total = " + " + ".join(f"number_{i}" for i in range(40))
UNBROKEN = "x" * 300
FRAME = (
    "<style scoped>th {color: red}</style><table><thead><tr><th></th><th>rows</th></tr></thead>"
    "<tbody><tr><th>first</th><td>12</td></tr><tr><th>second</th><td>7</td></tr></tbody></table>"
)


def png():
    buffer = io.BytesIO()
    Image.new("RGB", (640, 320), "white").save(buffer, format="png")
    return base64.b64encode(buffer.getvalue()).decode()


A_PNG = png()


def shown(about=None, **data):
    about = {"image/png": {"alt": "A white rectangle."}} if "image/png" in data else about
    return new_output("display_data", data=data, metadata=about or {})


@pytest.fixture(scope="session")
def small():
    """Two exercises and two questions of chapter 02, with everything else that cells can hold."""
    cells = [
        new_markdown_cell("# A small page\n\nIt has *one* of everything: `code_in_a_line`."),
        new_markdown_cell(
            "## Formulas\n\n"
            r"Inline $x_1 \le \sqrt{2}$, then $$L = \log \sum_{k \ne 934} e^{z_k}$$ and"
            "\n\n" + r"\begin{align} a &= \frac{b}{c} \\ &= \hat{d} \end{align}"
        ),
        new_markdown_cell("| a | b |\n|---|--:|\n| `one` | 3 |"),
        new_markdown_cell("A number: <!-- evidence: X.y -->0.3<!-- end -->."),
        new_markdown_cell("**Predict.** How many?"),
        new_code_cell('predict("how many", ...)', outputs=[shown(**{"text/plain": "none yet"})]),
        new_code_cell(
            f"{LONG_LINE}\nname = '{UNBROKEN}'",
            outputs=[
                new_output("stream", name="stdout", text=f"{'wide ' * 60}\n{UNBROKEN}\n"),
                shown(**{"text/html": FRAME, "text/plain": "rows first 12"}),
                shown(**{"image/png": png()}),
                shown({NO_GUESS: True}, **{"text/html": "<p>What happened: 3.</p>"
                      "<p>You wrote down no prediction for how many.</p>"}),
            ],
        ),
        new_markdown_cell("## Exercises"),
        new_code_cell("from course_lib.exercises.chapter_02 import ex2_1, ex2_2\n"),
        new_markdown_cell("### 2.1  One"),
        new_code_cell("ex2_1"),
        new_code_cell("def channel_numbers(pictures):\n    ...\n\n\nex2_1.check(channel_numbers)"),
        new_markdown_cell("### 2.2  Two"),
        new_code_cell("ex2_2"),
        new_code_cell("ex2_2.check(undo_normalising)"),
        new_code_cell("q2_1"),
        new_code_cell("q2_1.answer(...)"),
        new_code_cell("q2_2"),
        new_markdown_cell("## Summary\n\n1. One thing."),
    ]  # fmt: skip
    return nbformat.from_dict(new_notebook(cells=cells))


@pytest.fixture(scope="session")
def real():
    """A chapter of the course."""
    return notebooks.read("02_hotdog")


@pytest.fixture(scope="session", params=["small", "real"])
def notebook(request):
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="session")
def editions(notebook):
    """Both editions of a notebook: ``{"student edition": document, ...}``."""
    address = "https://github.com/owner/course/blob/v1.0/notebooks/02_hotdog.ipynb"
    return {each: make("02_hotdog", notebook, each, address) for each in (STUDENT, TEACHER)}


class Pages:
    """A PDF's pages: their sizes, texts and where the text stands."""

    def __init__(self, data):
        self.file = pypdfium2.PdfDocument(data)

    def __len__(self):
        return len(self.file)

    @property
    def sizes(self):
        return [page.get_size() for page in self.file]

    @property
    def texts(self):
        return [page.get_textpage().get_text_bounded() for page in self.file]

    def boxes(self):
        """(page, left, bottom, right, top) of each piece of text, in points."""
        for number, page in enumerate(self.file):
            text = page.get_textpage()
            for place in range(text.count_rects()):
                yield number, *text.get_rect(place)
