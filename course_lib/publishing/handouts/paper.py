"""Documents on paper: written in typst's notation, set into a PDF by typst. No network, no LaTeX.

typst comes as one wheel with its fonts. So the same text gives the same PDF on every machine.
"""

import bisect
import itertools
import re
import shutil
import tempfile
import textwrap
from collections.abc import Iterable
from pathlib import Path

import pypdfium2
import typst

from course_lib.display import plots
from course_lib.publishing.handouts import document as doc
from course_lib.publishing.handouts.document import (
    Block,
    Document,
    HandoutError,
    Inline,
    flat_enough,
    legible,
    words,
)
from course_lib.publishing.handouts.formulas import typst_math
from course_lib.publishing.handouts.frame import COURSE, LICENCE, qr_code

STYLE = Path(__file__).parent / "style"
TEXT_WIDTH = 482  # points between the margins of A4
LETTER = 0.602  # width of a letter of the code font, in units of its size
LARGEST, SMALLEST = 7.9, 6.2  # points: sizes of code
WIDEST = (
    6.69  # inches, for figures: as wide as the text; narrower ones are as their author made them
)
SHEET_SIZES = (10.6, 10.2, 9.8, 9.4, 9.0, 8.6, 8.2, 7.8)  # points; the first that fits one page
NARROW = 16  # letters: a column of a table that need not share its width
ENDLESS = 60  # letters without a blank: such a word may be broken anywhere
LONG = 28  # lines: longer code may be broken between pages


def pdf(document: Document) -> bytes:
    """The document as a PDF on A4.

    Raises:
        HandoutError: a sheet that has to fit on one page doesn't at any readable size.
    """
    if not document.one_page:
        return _compiled(document, document.size)
    fitting = bisect.bisect_left(SHEET_SIZES, True, key=lambda size: _fits(document, size, 100))
    if fitting == len(SHEET_SIZES):
        raise HandoutError(f"{document.title!r} doesn't fit on one page: shorten it.")
    size = SHEET_SIZES[fitting]
    shares = range(20, 100)  # of the height: the least gives columns of one length
    least = bisect.bisect_left(shares, True, key=lambda share: _fits(document, size, share))
    return _compiled(document, size, shares[0] + least)


def _fits(document: Document, size: float, share: int) -> bool:
    """Whether a sheet in type of that size fits in that share of a page's height."""
    return _pages(_compiled(document, size, share)) == 1


def pages(document: Document) -> int:
    """How many pages a document takes on A4."""
    return _pages(pdf(document))


def _pages(pdf_file: bytes) -> int:
    """How many pages a PDF has."""
    return len(pypdfium2.PdfDocument(pdf_file))


def _compiled(document: Document, size: float, share: int = 100) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return _compiled_in(Path(folder), document, size, share)


@flat_enough()
def _compiled_in(folder: Path, document: Document, size: float, share: int) -> bytes:
    for name in ("paper.typ", "print.tmTheme"):
        shutil.copy(STYLE / name, folder / name)
    source = _Writer(folder, document.one_page).whole(document, size, share)
    main = folder / "main.typ"
    main.write_text(legible(source, "\\\\"), encoding="utf-8")
    try:
        made = typst.compile(
            str(main), root=str(folder), ignore_system_fonts=True, pdf_standards=["ua-1"]
        )
    except typst.TypstError as error:
        raise refused(document.title, error) from error
    assert isinstance(made, bytes)
    return made


def refused(title: str, error: typst.TypstError) -> HandoutError:
    """What to say when typst can't set something."""
    then = " Write it in letters that the fonts have." if "be displayed" in error.message else ""
    return HandoutError(f"{title!r} can't be set: {error.message}.{then}")


def string(text: str) -> str:
    """A text as typst's string literal."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def escaped(text: str) -> str:
    """A text as typst's markup that means only itself; quotes become typographic ones."""
    return re.sub(r"""([\\*_#$@<>~`=\-+/\[\]{}.:])""", r"\\\1", breakable(text))


def breakable(text: str) -> str:
    """The text, with places to break words that no line has room for."""
    return re.sub(
        rf"\S{{{ENDLESS},}}", lambda word: re.sub(r"(.{8})(?=.)", "\\1\u200b", word[0]), text
    )


def fitted(text: str, width: float = TEXT_WIDTH - 14) -> tuple[str, float]:
    """Code or output, and the size in points at which its lines fit between the margins.

    Lines that would need a size too small to read are broken; ``↪`` begins what was broken off.
    """
    longest = max((len(line) for line in text.splitlines()), default=1)
    size = min(LARGEST, width / (LETTER * max(longest, 1)))
    if size >= SMALLEST:
        return text, round(size, 2)
    room = int(width / (LETTER * LARGEST)) - 1
    return "\n".join(_broken(text.splitlines(), room)), LARGEST


def _broken(lines: Iterable[str], room: int) -> Iterable[str]:
    for line in lines:
        if len(line) <= room:
            yield line
            continue
        indent = " " * min(len(line) - len(line.lstrip()), room // 3)
        yield from textwrap.wrap(
            line, room, subsequent_indent=f"{indent}  ↪ ", drop_whitespace=True,
            break_long_words=True, break_on_hyphens=False, replace_whitespace=False,
        )  # fmt: skip


class _Writer:
    """Writes blocks; the pictures go into files beside the text."""

    def __init__(self, folder: Path, one_page: bool) -> None:
        self.folder = folder
        self.one_page = one_page
        self.pictures = 0

    def whole(self, document: Document, size: float, share: int) -> str:
        """The whole text of a document."""
        address, qr = "none", "none"
        if document.address:
            (self.folder / "qr.svg").write_bytes(qr_code(document.address))
            address, qr = string(document.address), '"qr.svg"'
        return (
            '#import "paper.typ": *\n'
            f"#show: paper.with(title: {string(breakable(document.title))}, "
            f"edition: {string(breakable(document.edition))}, "
            f"subtitle: {string(breakable(document.subtitle))}, "
            f"course: {string(COURSE)}, licence: {string(LICENCE)}, address: {address}, qr: {qr}, "
            f"one-page: {str(document.one_page).lower()}, size: {size}pt, "
            f"share: {share}%)\n\n" + self.blocks(document.blocks)
        )

    def blocks(self, blocks: Iterable[Block]) -> str:
        found, listed = [], list(blocks)
        for each, following in itertools.zip_longest(listed, listed[1:]):
            text = self.block(each)
            to_write_on = isinstance(following, doc.Room) or (
                isinstance(following, doc.Box) and following.kind == "prediction"
            )
            announced = isinstance(following, doc.Program) and words(each).rstrip().endswith(":")
            if isinstance(each, doc.Paragraph) and (to_write_on or announced):
                text = f"#block(sticky: true)[{text}]"  # what it is about follows on the same page
            found.append(text)
        return "\n\n".join(found)

    def block(self, block: Block) -> str:
        match block:
            case doc.Heading(level, inside):
                return f"#heading(level: {level})[{self.inlines(inside)}]"
            case doc.Paragraph(inside):
                return self.inlines(inside)
            case doc.Bullets(items, numbered, start):
                each = "".join(f"[{self.blocks(item)}]" for item in items)
                return f"#enum(start: {start}){each}" if numbered else f"#list{each}"
            case doc.Program(code, language):
                return self._code("program", code, f", language: {string(language)}")
            case doc.Output(text):
                return self._code("output", text)
            case doc.Formula(latex):
                formula = typst_math(latex, display=True)
                return f"#math.equation(block: true, alt: {string(latex)}, {formula})"
            case doc.Picture():
                return self._picture(block)
            case doc.Table():
                return self._table(block)
            case doc.Box("result", title, inside):
                head = f"#pagebreak(weak: true)\n\n#heading(level: 3)[{escaped(title)}]"
                return f"{head}\n\n{self.blocks(inside)}"
            case doc.Box("together", _, inside):
                above = "1.9em" if isinstance(inside[0], doc.Heading) else "1em"
                return f"#block(breakable: false, above: {above})[{self.blocks(inside)}]"
            case doc.Box(kind, title, inside):
                return f"#box-of({string(kind)}, {string(breakable(title))})[{self.blocks(inside)}]"
            case doc.Room(lines):
                return f"#room({lines})"
            case doc.Blank(label):
                return f"#blank({string(breakable(label))})"
            case doc.Choices(options, right):
                return "".join(
                    f"#choice({string(letter)}, {str(letter == right).lower()})"
                    f"[{self.inlines(inside)}]\n"
                    for letter, inside in options
                )
            case doc.NewPage():
                return "#pagebreak(weak: true)"

    def inlines(self, inlines: Iterable[Inline]) -> str:
        return "".join(self.inline(each) for each in inlines)

    def inline(self, inline: Inline) -> str:
        match inline:
            case doc.Text(text):
                return escaped(text)
            case doc.Code(code):
                return f"#raw({string(breakable(code))});"
            case doc.Math(latex):
                formula = typst_math(latex, display=False)
                return f"#math.equation(alt: {string(latex)}, {formula});"
            case doc.Break():
                return "#linebreak();"
            case doc.Strong(inside):
                return f"#strong[{self.inlines(inside)}];"
            case doc.Emphasis(inside):
                return f"#emph[{self.inlines(inside)}];"
            case doc.Link(inside, to):
                if re.match(r"https?://", to):
                    return f"#link({string(to)})[{self.inlines(inside)}];"
                return self.inlines(inside)  # a file beside the page is no place on paper

    def _code(self, kind: str, code: str, more: str = "") -> str:
        width = TEXT_WIDTH - 14 if not self.one_page else (TEXT_WIDTH + 40 - 20) / 2 - 14
        text, size = fitted(code.rstrip(), width)
        whole = str(text.count("\n") < LONG).lower()
        return f"#{kind}(size: {size}pt, whole: {whole}{more}, {string(text)})"

    def _picture(self, picture: doc.Picture) -> str:
        self.pictures += 1
        name = f"picture{self.pictures}.{picture.kind}"
        (self.folder / name).write_bytes(picture.data)
        width = min(picture.inches, plots.PAPER)
        return f"#picture({string(name)}, {width:.3f}in, {string(picture.alt)})"

    def _table(self, table: doc.Table) -> str:
        count = len(table.header)
        right = table.right or (False,) * count
        columns = ", ".join(_widths(table))
        sides = ", ".join("right" if each else "left" for each in right)
        header = ", ".join(f"[{self.inlines(cell)}]" for cell in table.header)
        rows = ", ".join(f"[{self.inlines(cell)}]" for row in table.rows for cell in row)
        return (
            f"#sheet-table(columns: ({columns},), align: ({sides},), header: ({header},), "
            f"rows: ({rows},), whole: {str(len(table.rows) < LONG).lower()})"
        )


def _widths(table: doc.Table) -> list[str]:
    """Narrow columns as wide as they need, wide ones sharing what is left by their text."""
    longest = [
        max(len(words(cell)) for cell in column)
        for column in zip(table.header, *table.rows, strict=True)
    ]
    if sum(longest) <= 60:
        return ["auto"] * len(longest)
    return ["auto" if each <= NARROW else f"{min(each, 90) ** 0.75:.1f}fr" for each in longest]
