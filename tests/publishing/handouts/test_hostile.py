"""Strangers' words on paper: a title, an answer, a class's name come out as they are, and no more.

Nothing of them is run or read by typst, nothing of them is lost, and what can't be set is said.
"""

import base64
import contextlib
import re

import pytest
from nbformat.v4 import new_output

from course_lib.publishing.handouts import Document, HandoutError, markdown, outputs, page, paper
from course_lib.publishing.handouts import document as doc
from course_lib.publishing.handouts.document import Paragraph, Text
from course_lib.publishing.handouts.slides import Deck, Slide
from course_lib.publishing.handouts.slides import html as slides_html
from course_lib.publishing.handouts.slides import pdf as slides_pdf
from tests.publishing.handouts.conftest import A_PNG, Pages, shown

SECRET = "root:x:0:0"  # as in /etc/passwd, which is everywhere
HOSTILE = {
    "calls": '#read("/etc/passwd") #include "a.typ" #sys.inputs #{1 + 1} #raw(read("main.typ"))',
    "imports": '#import "@preview/x:1.0.0": * #import "paper.typ": room #plugin("a.wasm")',
    "marks": r"$x$ \ \u{41} @a <b> ``c`` ```d``` [e] {f} *g* _h_ = i ~ j ^ k",
    "ends": '"] ") ]; #end \\" \\',
    "comments": "a // b /* c */ d -- e --- f ... -? g https://example.org/h",
    "blocks": "a\n\n= b\n- c\n+ d\n/ e: f\n1. g\n#h",
    "ansi": "a\x1b[31mred\x1b[0m \x07\x00\x7f\x9b",
    "turned": "abc\u202edef\u202c \u2066x\u2069",
    "halves": "a\ud800b\udfff",
    "endless": "x" * 600,
    "pages": "/Type /Pages /Count 99",
}
PLACES = {
    "title": lambda text: Document(text, "e", "", (Paragraph((Text("x"),)),)),
    "subtitle": lambda text: Document("T", text, text, (Paragraph((Text("x"),)),)),
    "words": lambda text: said(Paragraph((Text(text), doc.Strong((Text(text),))))),
    "code": lambda text: said(Paragraph((doc.Code(text),))),
    "program": lambda text: said(doc.Program(text, text), doc.Output(text)),
    "cell": lambda text: said(doc.Table(((Text(text),),), (((Text(text),),),))),
    "box": lambda text: said(doc.Box("note", text, (Paragraph((Text(text),)),)), doc.Blank(text)),
    "choice": lambda text: said(doc.Choices((("a", (Text(text),)), ("b", (doc.Code(text),))), "a")),
}  # fmt: skip


def said(*blocks):
    return Document("T", "e", "", blocks)


def bare(text):
    """Without what setting may change: blanks, places to break, the form of quotes."""
    return re.sub(r"[\s\u200b\ufffe\"'“”‘’]|↪", "", text)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", HOSTILE)
def test_words_come_out_as_they_are(kind, place):
    document = PLACES[place](HOSTILE[kind])
    data = paper.pdf(document)
    pages = Pages(data)
    assert paper.pages(document) == len(pages)
    set_text = bare("".join(pages.texts))
    assert bare(doc.legible(HOSTILE[kind])) in set_text
    assert SECRET not in set_text
    assert all(right < 595 for _, _, _, right, _ in pages.boxes())
    page.html(document).encode()


@pytest.mark.parametrize("kind", HOSTILE)
def test_on_slides_too(kind):
    text = " ".join(HOSTILE[kind][:80].split())
    deck = Deck(text, text, (Slide("first", ()), Slide(text, (Paragraph((Text(text),)),))))
    made = bare("".join(Pages(slides_pdf(deck)).texts))
    assert made.count(bare(doc.legible(text))) >= 2
    slides_html(deck).encode()


DEEP = {
    "boxes": lambda n: said(nested(n, lambda inside: doc.Box("note", "n", (inside,)))),
    "bold": lambda n: said(Paragraph((nested(n, lambda i: doc.Strong((i,)), Text("x")),))),
    "roots": lambda n: said(doc.Formula(r"\sqrt{" * n + "x" + "}" * n)),
    "emphasis": lambda n: said(*markdown.read("*a " * n + " b*" * n)),
    "quotes": lambda n: said(*markdown.read(">" * n + " x")),
    "html": lambda n: said(*outputs.from_html("<ul><li>" * n + "x")),
}  # fmt: skip


def nested(levels, wrap, inside=None):
    inside = inside or Paragraph((Text("x"),))
    for _ in range(levels):
        inside = wrap(inside)
    return inside


@pytest.mark.parametrize("write", [paper.pdf, page.html])
@pytest.mark.parametrize("levels", [100, 300, 3000])
@pytest.mark.parametrize("kind", DEEP)
def test_thousands_of_levels_are_set_or_refused(kind, levels, write):
    with contextlib.suppress(HandoutError):
        assert write(DEEP[kind](levels))


@pytest.mark.parametrize("latex", ["a\x1b[31mb", "a\ud800", "\\text{\x0b\uffff}", "a\x00"])
def test_formulas_of_what_is_no_text_are_refused(latex):
    for write in (paper.pdf, page.html):
        with pytest.raises(HandoutError, match="formula"):
            write(said(doc.Formula(latex)))


def test_letters_that_no_font_has_are_named():
    with pytest.raises(HandoutError, match=r"🍕.*letters that the fonts have"):
        paper.pdf(said(Paragraph((Text("a 🍕"),))))


@pytest.mark.parametrize(
    ("data", "about"),
    [
        ("no base64!", {"alt": "a"}), ("AAAA", {"alt": "a"}),
        (A_PNG, {"alt": "a", "width": "wide"}), (A_PNG, {"alt": 7}), (A_PNG, [1]),
        (base64.b64encode(base64.b64decode(A_PNG)[:60]).decode(), {"alt": "a"}),
    ],
)  # fmt: skip
def test_pictures_that_are_none_are_refused(data, about):
    output = shown(**{"image/png": data})
    output.metadata["image/png"] = about
    with pytest.raises(HandoutError):
        paper.pdf(said(*outputs.blocks_of([output])))


def test_an_error_in_colours_is_printed_without_them():
    """As IPython stores it: the name and the text of an error may hold anything."""
    failed = new_output("error", ename="E\x1b[31m", evalue="#read('/etc/passwd')\x1b[0m")
    (text,) = Pages(paper.pdf(said(*outputs.blocks_of([failed])))).texts
    assert r"E\x1b[31m: #read('/etc/passwd')\x1b[0m" in text
