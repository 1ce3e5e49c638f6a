"""The PDFs: A4, page numbers, nothing outside of the margins, the same file every time."""

import re

import pypdfium2
import pytest
from matplotlib.text import Text
from PIL import Image

from course_lib.display import plots
from course_lib.publishing.handouts import STUDENT, Document, HandoutError, paper
from course_lib.publishing.handouts import document as doc
from course_lib.publishing.handouts.document import Heading, Paragraph, Picture, Program
from course_lib.publishing.handouts.formulas import mathml, typst_math
from course_lib.publishing.handouts.frame import LICENCE
from tests.publishing.handouts.conftest import LONG_LINE, UNBROKEN, Pages

A4 = (595.28, 841.89)
MARGIN = 56.69  # two centimetres
HANGING = 6  # points: a comma and a blank at the end of a line may stand out


@pytest.fixture(scope="session")
def files(editions):
    return {edition: paper.pdf(document) for edition, document in editions.items()}


def test_every_page_is_a4_with_number_title_and_licence(files, editions):
    for edition, data in files.items():
        pages = Pages(data)
        assert len(pages) == paper._pages(data)
        for number, (size, text) in enumerate(zip(pages.sizes, pages.texts, strict=True), start=1):
            assert size == pytest.approx(A4, abs=0.5)
            flat = " ".join(text.split())
            assert f"page {number} of {len(pages)}" in flat
            assert LICENCE in flat
            assert editions[edition].title.split("  ")[1][:20] in flat
            assert edition in flat


def test_no_text_leaves_the_margins(files):
    """Also not the code line of 400 letters, nor the name of 300 without a blank."""
    for data in files.values():
        for _, left, bottom, right, top in Pages(data).boxes():
            assert left >= MARGIN - 1
            assert right <= A4[0] - MARGIN + HANGING
            assert bottom >= 20
            assert top <= A4[1] - 20


@pytest.mark.parametrize("width", [3.6, 6.4, 8, 10])
def test_text_in_a_figure_is_seven_points_or_more_on_paper(width):
    """Its size in the file, times what the figure is shrunk by: as set, and in a gallery."""
    figure, axes = plots.new_axes(width, 3)
    axes[0, 0].set_title("small", fontsize=5)
    axes[0, 0].text(0.5, 0.5, "smaller", fontsize=4)
    titled = plots.gallery([Image.new("RGB", (50, 50))] * 8, ["a title"] * 8, side=width / 8)
    for each in (figure, titled):
        made = plots.encode(each)
        picture = Picture(made.data, made.kind, "alt", made.width / plots.DPI)
        (inside,) = pypdfium2.PdfDocument(paper.pdf(Document("T", "e", "", (picture,))))
        (image,) = inside.get_objects(filter=[pypdfium2.raw.FPDF_PAGEOBJ_IMAGE])
        left, _, right, _ = image.get_bounds()
        shrunk = (right - left) / 72 / each.get_figwidth()
        said = [text for text in each.findobj(Text) if text.get_text()]
        assert min(text.get_fontsize() for text in said) * shrunk >= 6.99


def test_long_lines_are_broken_and_nothing_is_lost(small):
    text, size = paper.fitted(LONG_LINE)
    assert size >= paper.SMALLEST
    assert max(map(len, text.splitlines())) * size * paper.LETTER <= paper.TEXT_WIDTH
    assert re.sub(r"\s+|↪", "", text) == LONG_LINE.replace(" ", "")
    text, _ = paper.fitted(f"    {UNBROKEN}")
    assert re.sub(r"\s+|↪", "", text) == UNBROKEN


def test_no_heading_is_the_last_thing_on_a_page(files, editions):
    for edition, data in files.items():
        titles = {"".join(_words(each)) for each in editions[edition].blocks if _is_heading(each)}
        for text in Pages(data).texts:
            lines = [line.strip() for line in text.splitlines() if line.strip()]
            body = [line for line in lines if not line.startswith((LICENCE[:20], "page "))]
            assert body[-1] not in titles


def _is_heading(block):
    return isinstance(block, Heading)


def _words(block):
    return [each.text for each in block.inside if isinstance(each, doc.Text)]


def test_the_same_document_gives_the_same_bytes(small):
    document = Document("T", "e", "", (Paragraph((doc.Text("hello"),)),))
    assert paper.pdf(document) == paper.pdf(document)


def test_marks_of_typst_mean_only_themselves():
    strange = (
        r"""#set page() $x$ *a* _b_ `c` <d> @e \f [g] {h} // i /* j */ = k -- l ~ "m" 'n' - 1. o"""
    )
    document = Document(strange, "e", strange, (Paragraph((doc.Text(strange),)), Program(strange)))
    (text,) = Pages(paper.pdf(document)).texts
    flat = re.sub(r"\s+", "", text)
    assert re.sub(r"""[\s"']""", "", strange) in re.sub(r"""["'“”‘’]""", "", flat)


def test_a_sheet_that_fits_no_page_says_so():
    long = Document("Long", "e", "", (Paragraph((doc.Text("words " * 5000),)),), one_page=True)
    with pytest.raises(HandoutError, match="one page"):
        paper.pdf(long)


@pytest.mark.parametrize(
    ("latex", "parts"),
    [
        (r"\frac{a}{b}", ["frac(a, b)"]),
        (r"\sum_{k \ne 934} e^{z_k}", ["limits(∑)", "attach(e, t: attach(z, b: k))"]),
        (r"\text{hot dog}", ['"hot dog"']),
        (r"\log x", ['op("log")']),
        (r"\bar{x} + \hat{y}", ["accent(x, macron)", "accent(y, hat)"]),
        (r"\left( x \right)", ["lr("]),
        (r"f(a, b)", [r"\,"]),
    ],
)
def test_formulas_in_typst(latex, parts):
    made = typst_math(latex, display=True)
    assert all(part in made for part in parts), made


def test_equations_that_are_aligned_have_their_rows_and_no_numbers():
    made = typst_math(r"\begin{align} a &= b \\ &= c \end{align}", display=True)
    assert made.count("&") == 2
    assert made.count(" \\ ") == 1
    assert "1" not in made
    assert "(1)" not in mathml(r"\begin{align} a &= b \\ &= c \end{align}", display=True)


@pytest.mark.parametrize("latex", [r"\nocommand{x}", r"\left( x", r"x_1_2"])
def test_formulas_that_cannot_be_read_are_named(latex):
    with pytest.raises(HandoutError, match="formula"):
        mathml(latex, display=False)


def test_the_student_edition_has_the_address_and_its_code(files):
    first = Pages(files[STUDENT]).texts[0]
    assert "github.com/owner/course" in first
