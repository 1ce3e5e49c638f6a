"""Documents as pages for a browser: one file each, without scripts, with everything inside."""

import base64
import re
from collections.abc import Iterable
from html import escape
from pathlib import Path

from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name
from pygments.util import ClassNotFound

from course_lib.publishing.handouts import document as doc
from course_lib.publishing.handouts.document import (
    Block,
    Document,
    Inline,
    flat_enough,
    legible,
    words,
)
from course_lib.publishing.handouts.formulas import mathml
from course_lib.publishing.handouts.frame import COURSE, LICENCE, qr_code

STYLE = Path(__file__).parent / "style" / "page.css"
MIME = {"png": "image/png", "jpeg": "image/jpeg", "svg": "image/svg+xml"}


@flat_enough()
def html(document: Document) -> str:
    """The document as one HTML file."""
    title = escape(f"{document.title} ({document.edition})")
    address, code = "", ""
    if document.address:
        link = escape(document.address)
        address = f'<p class="address">Notebook: <a href="{link}">{link}</a></p>'
        source = _embedded(qr_code(document.address), "svg")
        code = f'<img class="qr" src="{source}" alt="QR code: {link}">'
    subtitle = f'<p class="subtitle">{escape(document.subtitle)}</p>' if document.subtitle else ""
    kind = ' class="sheet"' if document.one_page else ""
    return legible(
        "<!DOCTYPE html>\n"
        '<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{STYLE.read_text(encoding='utf-8')}</style></head>\n"
        f"<body{kind}><header>{code}<p>{escape(COURSE)} · {escape(document.edition)}</p>"
        f"<h1>{escape(document.title)}</h1>{subtitle}{address}</header>\n"
        f"<main>\n{blocks(document.blocks)}\n</main>\n"
        f"<footer><p>{escape(LICENCE)}</p></footer></body></html>\n"
    )


def blocks(inside: Iterable[Block]) -> str:
    """Several blocks."""
    return "\n".join(block(each) for each in inside)


def block(one: Block) -> str:
    """One block."""
    match one:
        case doc.Heading(level, inside):
            return f"<h{level}>{inlines(inside)}</h{level}>"
        case doc.Paragraph(inside):
            return f"<p>{inlines(inside)}</p>"
        case doc.Bullets(items, numbered, start):
            tag, at = ("ol", f' start="{start}"' if start != 1 else "") if numbered else ("ul", "")
            inner = "".join(f"<li>{blocks(item)}</li>" for item in items)
            return f"<{tag}{at}>{inner}</{tag}>"
        case doc.Program(code, language):
            return f'<pre class="program"><code>{_coloured(code, language)}</code></pre>'
        case doc.Output(text):
            return f'<pre class="output"><samp>{escape(text)}</samp></pre>'
        case doc.Formula(latex):
            return f'<p class="formula">{mathml(latex, display=True)}</p>'
        case doc.Picture(data, kind, alt, inches):
            source, width = _embedded(data, kind), round(inches * 100)
            return (
                f'<p class="picture"><img src="{source}" alt="{escape(alt)}" width="{width}"></p>'
            )
        case doc.Table():
            return _table(one)
        case doc.Box("result", title, inside):
            top = f"<summary>{escape(title)}</summary>"
            return f'<details class="result">{top}{blocks(inside)}</details>'
        case doc.Box(kind, title, inside):
            top = f'<p class="title">{escape(title)}</p>' if title else ""
            return f'<div class="box {kind}">{top}{blocks(inside)}</div>'
        case doc.Room(lines):
            return f'<div class="room" style="height: {8 * lines}mm"></div>'
        case doc.Blank(label):
            return f'<p class="blank"><span>{escape(label)}:</span><span class="line"></span></p>'
        case doc.Choices(options, right):
            return _choices(options, right)
        case doc.NewPage():
            return '<div class="new-page"></div>'


def inlines(inside: Iterable[Inline]) -> str:
    """What stands in a line."""
    return "".join(inline(each) for each in inside)


def inline(one: Inline) -> str:
    """One piece of a line."""
    match one:
        case doc.Text(text):
            return escape(text, quote=False)
        case doc.Code(code):
            return f"<code>{escape(code, quote=False)}</code>"
        case doc.Math(latex):
            return mathml(latex, display=False)
        case doc.Break():
            return "<br>"
        case doc.Strong(inside):
            return f"<strong>{inlines(inside)}</strong>"
        case doc.Emphasis(inside):
            return f"<em>{inlines(inside)}</em>"
        case doc.Link(inside, to):
            there = re.sub(r"\.ipynb(?=$|#)", ".html", to)
            if re.match(r"https?://", to) or re.fullmatch(r"[\w./-]+\.(html|pdf)", there):
                return f'<a href="{escape(there)}">{inlines(inside)}</a>'
            return inlines(inside)


def _embedded(data: bytes, kind: str) -> str:
    return f"data:{MIME[kind]};base64,{base64.b64encode(data).decode()}"


def _coloured(code: str, language: str) -> str:
    """Code with its kinds of words marked: bold, slanted or grey, never by colour alone."""
    try:
        lexer = get_lexer_by_name(language, stripnl=False)
    except ClassNotFound:
        return escape(code, quote=False)
    return highlight(code, lexer, HtmlFormatter(nowrap=True)).rstrip("\n")


def _table(table: doc.Table) -> str:
    right = table.right or (False,) * len(table.header)
    sides = [' class="right"' if each else "" for each in right]
    header = "".join(
        f'<th scope="col"{side}>{inlines(cell)}</th>' if words(cell).strip() else f"<td{side}></td>"
        for cell, side in zip(table.header, sides, strict=True)
    )
    rows = ""
    for row in table.rows:
        cells = [f"<td{side}>{inlines(c)}</td>" for c, side in zip(row, sides, strict=True)]
        if table.row_headings:
            cells[0] = f'<th scope="row">{inlines(row[0])}</th>'
        rows += f"<tr>{''.join(cells)}</tr>\n"
    head = f"<thead><tr>{header}</tr></thead>\n" if words(table.header).strip() else ""
    return f"<table>{head}<tbody>{rows}</tbody></table>"


def _choices(options: Iterable[tuple[str, tuple[Inline, ...]]], right: str | None) -> str:
    items = ""
    for letter, inside in options:
        said = "<strong>right:</strong> " if letter == right else ""
        items += f"<li><span class='tick'>{'×' if letter == right else ''}</span> {letter}) "
        items += f"{said}{inlines(inside)}</li>"
    return f'<ul class="choices">{items}</ul>'
