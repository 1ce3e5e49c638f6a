"""What a notebook's cells put out, as blocks: printed text, pictures, tables, boxes."""

import io
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from bs4 import BeautifulSoup, NavigableString, Tag
from PIL import Image

from course_lib.exercises import predictions
from course_lib.publishing.handouts import document as doc
from course_lib.publishing.handouts import markdown
from course_lib.publishing.handouts.document import Block, HandoutError, Inline, words
from course_lib.publishing.pictures import picture_of

DOTS_PER_INCH = 100  # on the screen, as in course_lib.display.plots
LEFT_OUT = ("style", "script", "template", "head")
PARTS = ("div", "section", "article", "details", "body", "html", "center", "figure")


def blocks_of(outputs: Iterable[Any]) -> list[Block]:
    """The blocks of a cell's outputs, in order."""
    found: list[Block] = []
    for output in outputs:
        if output.output_type == "stream":
            if output.name == "stdout" and output.text.strip():
                found.append(doc.Output(output.text.strip("\n")))
        elif output.output_type == "error":
            found.append(doc.Output(f"{output.ename}: {output.evalue}"))
        else:
            found += _shown(output)
    return found


def _shown(output: Any) -> list[Block]:
    """What was displayed: the picture, or else the HTML, or else the text."""
    data = output.data
    try:
        if shown := picture_of(output):
            width = shown.width or Image.open(io.BytesIO(shown.data)).width
            return [doc.Picture(shown.data, shown.kind, shown.alt, width / DOTS_PER_INCH)]
    except (OSError, TypeError, ValueError, AttributeError) as error:
        raise HandoutError(f"A stored picture can't be read: {error}.") from error
    if "application/vnd.jupyter.widget-view+json" in data:
        return []  # what needs a running program; the static picture stands beside it
    if "text/html" in data:
        found = from_html(data["text/html"])
        # Nothing was predicted when the page was executed; on paper it may have been.
        return found[:1] if output.metadata.get(predictions.NO_GUESS) else found
    if "text/markdown" in data:
        return list(markdown.read(data["text/markdown"].replace("<br>", " · ")))
    text = data.get("text/plain", "")
    return [doc.Output(text)] if text.strip() else []


def from_html(html: str) -> list[Block]:
    """Simple HTML as blocks: paragraphs, lists, code, tables. Styles and scripts are left out."""
    soup = BeautifulSoup(html, "html.parser")
    for tag in soup.find_all(LEFT_OUT):
        tag.decompose()
    try:
        return _blocks(soup)
    except RecursionError:  # thousands of elements inside each other: their words are kept
        return from_html(escape(soup.get_text(" ", strip=True)))


def _blocks(node: Tag) -> list[Block]:
    found: list[Block] = []
    line: list[Inline] = []

    def end_line() -> None:
        if words(tuple(line)).strip():
            found.append(doc.Paragraph(tuple(line)))
        line.clear()

    for child in node.children:
        block = _block(child) if isinstance(child, Tag) else None
        if block is None:
            line.extend(_inline(child))
        else:
            end_line()
            found.extend(block)
    end_line()
    return found


def _block(tag: Tag) -> list[Block] | None:
    """The blocks of an element; None when it belongs into a line."""
    if tag.name in PARTS:
        return _blocks(tag)
    if tag.name in ("p", "summary", "h1", "h2", "h3", "h4", "h5", "h6", "caption"):
        inside = _inlines(tag)
        if tag.name != "p":
            inside = (doc.Strong(inside),)
        return [doc.Paragraph(inside)] if words(inside).strip() else []
    if tag.name == "pre":
        return [doc.Program(tag.get_text().strip("\n"), "text")]
    if tag.name in ("ul", "ol"):
        items = tuple(tuple(_blocks(item)) for item in tag.find_all("li", recursive=False))
        return [doc.Bullets(items, tag.name == "ol")]
    if tag.name == "table":
        return [_table(tag)]
    return [] if tag.name == "hr" else None


def _inlines(tag: Tag) -> tuple[Inline, ...]:
    return tuple(inline for child in tag.children for inline in _inline(child))


def _inline(node: Any) -> Sequence[Inline]:
    if not isinstance(node, Tag):
        if type(node) is not NavigableString or not node.strip("\n"):
            return ()  # comments and the like
        text = " ".join(str(node).split())
        before = " " if str(node)[:1].isspace() else ""
        after = " " if text and str(node)[-1:].isspace() else ""
        return (doc.Text(before + text + after),)
    if node.name == "br":
        return (doc.Break(),)
    if node.name in ("code", "tt", "kbd"):
        return (doc.Code(node.get_text()),)
    if node.name in ("strong", "b"):
        return (doc.Strong(_inlines(node)),)
    if node.name in ("em", "i"):
        return (doc.Emphasis(_inlines(node)),)
    if node.name == "img":
        raise HandoutError("A picture stands inside of HTML. Show it as an image of its own.")
    return _inlines(node)


def _table(tag: Tag) -> doc.Table:
    """A table: pandas' too, whose first column is the index and whose header may have two rows."""
    rows = [row.find_all(["th", "td"]) for row in tag.find_all("tr")]
    rows = [row for row in rows if row]
    if not rows:
        return doc.Table((), ())
    width = max(len(row) for row in rows)
    # A row of its own for the index's name, as pandas writes it, is a second row of headings.
    cells = [[_inlines(cell) for cell in row] + [()] * (width - len(row)) for row in rows]
    has_header = all(cell.name == "th" for cell in rows[0][1:])
    body = cells[1:] if has_header else cells
    header = cells[0] if has_header else [()] * width
    right = [bool(body) and all(_is_number(row[place]) for row in body) for place in range(width)]
    row_headings = len(rows) > 1 and rows[1][0].name == "th"
    return doc.Table(tuple(header), tuple(map(tuple, body)), tuple(right), row_headings)


def _is_number(cell: object) -> bool:
    text = words(cell).strip().rstrip("%").replace(",", "").replace("−", "-")
    try:
        float(text)
    except ValueError:
        return False
    return True
