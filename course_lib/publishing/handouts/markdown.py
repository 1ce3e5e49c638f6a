"""Markdown into blocks: what notebooks' prose cells and the room's own texts are written in."""

import re
from collections.abc import Iterator, Sequence

from markdown_it import MarkdownIt
from markdown_it.token import Token
from mdit_py_plugins.dollarmath import dollarmath_plugin

from course_lib.exercises import prose
from course_lib.publishing.handouts import document as doc
from course_lib.publishing.handouts.document import Block, HandoutError, Inline, flat_enough

COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_READER = (
    MarkdownIt("commonmark", {"html": False})
    .enable("table")
    .use(dollarmath_plugin, double_inline=True)
)


@flat_enough()
def read(text: str) -> tuple[Block, ...]:
    """The blocks of a Markdown text. Comments, such as the marks of citations, are left out.

    Raises:
        HandoutError: it holds something that has no place on paper, such as a linked picture.
    """
    return _blocks(_READER.parse(_with_fenced_align(COMMENT.sub("", text))))


def read_little(text: str) -> tuple[Block, ...]:
    """The blocks of a text in the little Markdown of exercises: paragraphs, items, code."""
    found: list[Block] = []
    for kind, content in prose.blocks(text):
        if kind == "code":
            if found and isinstance(found[-1], doc.Program):
                content = f"{found.pop().code}\n\n{content}"  # type: ignore[union-attr]
            found.append(doc.Program(content))
        elif kind == "item":
            item: tuple[Block, ...] = (doc.Paragraph(little_line(content)),)
            if found and isinstance(found[-1], doc.Bullets):
                found[-1] = doc.Bullets((*found[-1].items, item))
            else:
                found.append(doc.Bullets((item,)))
        else:
            found.append(doc.Paragraph(little_line(content)))
    return tuple(found)


def little_line(text: str) -> tuple[Inline, ...]:
    """One line of that Markdown: words, some of them emphasised, and code between backticks."""
    return tuple(_span(kind, part) for kind, part in prose.spans(" ".join(text.split())))


def _span(kind: str, part: str) -> Inline:
    match kind:
        case "code":
            return doc.Code(part)
        case "strong":
            return doc.Strong((doc.Text(part),))
        case "em":
            return doc.Emphasis((doc.Text(part),))
    return doc.Text(part)


def _with_fenced_align(text: str) -> str:
    r"""Put ``\begin{align}`` between dollars, where authors left them out as MathJax allows."""
    bare = re.compile(
        r"(?<!\$)(?<!\$\n)(\\begin\{(align|equation|gather)(\*?)\}.*?\\end\{\2\3\})", re.S
    )
    return bare.sub(r"$$\1$$", text)


def _blocks(tokens: Sequence[Token]) -> tuple[Block, ...]:
    found: list[Block] = []
    for token, inside in _spans(tokens):
        match token.type:
            case "heading_open":
                found.append(doc.Heading(int(token.tag[1]), _inlines(inside[0].children or [])))
            case "paragraph_open":
                found += _paragraph(inside[0].children or [])
            case "bullet_list_open" | "ordered_list_open":
                items = tuple(_blocks(item) for _, item in _spans(inside))
                start = int(token.attrGet("start") or 1)
                found.append(doc.Bullets(items, token.type.startswith("ordered"), start))
            case "fence" | "code_block":
                language = token.info.strip() or "text"
                found.append(doc.Program(token.content.rstrip("\n"), language))
            case "math_block":
                found.append(doc.Formula(token.content.strip()))
            case "table_open":
                found.append(_table(inside))
            case "blockquote_open":
                found += _blocks(inside)
            case "hr":
                pass
            case other:
                raise HandoutError(f"There is no way to set Markdown's {other!r} on paper.")
    return tuple(found)


def _spans(tokens: Sequence[Token]) -> Iterator[tuple[Token, Sequence[Token]]]:
    """Each token that stands alone or opens something, and the tokens up to the closing one."""
    depth = opening = 0
    for place, token in enumerate(tokens):
        depth += token.nesting
        if depth == 0:
            yield tokens[opening], tokens[opening + 1 : place]
            opening = place + 1
    if depth:
        raise HandoutError("A Markdown text ends in the middle of a block.")


def _paragraph(tokens: Sequence[Token]) -> list[Block]:
    """A paragraph; a displayed formula in its middle stands on a line of its own."""
    found: list[Block] = []
    part: list[Token] = []
    for token in [*tokens, None]:
        if token is not None and token.type != "math_inline_double":
            part.append(token)
            continue
        inlines = _trimmed(_inlines(part))
        if inlines:
            found.append(doc.Paragraph(inlines))
        if token is not None:
            found.append(doc.Formula(token.content.strip()))
        part = []
    return found


def _trimmed(inlines: tuple[Inline, ...]) -> tuple[Inline, ...]:
    blank = [isinstance(each, doc.Text) and not each.text.strip() for each in inlines]
    return () if all(blank) else inlines


def _inlines(tokens: Sequence[Token]) -> tuple[Inline, ...]:
    found: list[Inline] = []
    for token, inside in _spans(tokens):
        match token.type:
            case "text" | "text_special":
                found.append(doc.Text(token.content))
            case "softbreak":
                found.append(doc.Text(" "))
            case "hardbreak":
                found.append(doc.Break())
            case "code_inline":
                found.append(doc.Code(token.content))
            case "math_inline" | "math_inline_double":
                found.append(doc.Math(token.content.strip()))
            case "strong_open":
                found.append(doc.Strong(_inlines(inside)))
            case "em_open":
                found.append(doc.Emphasis(_inlines(inside)))
            case "link_open":
                found.append(doc.Link(_inlines(inside), str(token.attrGet("href") or "")))
            case "image":
                raise HandoutError(
                    f"The picture {token.attrGet('src')!r} is linked in prose. Show it from a "
                    "code cell, so that it is stored in the notebook."
                )
            case other:
                raise HandoutError(f"There is no way to set Markdown's {other!r} in a line.")
    return tuple(each for each in found if each != doc.Text(""))


def _table(tokens: Sequence[Token]) -> doc.Table:
    rows: list[list[tuple[Inline, ...]]] = []
    right: list[bool] = []
    for place, token in enumerate(tokens):
        if token.type == "tr_open":
            rows.append([])
        elif token.type in ("th_open", "td_open"):
            rows[-1].append(_inlines(tokens[place + 1].children or []))
            if len(rows) == 1:
                right.append("right" in str(token.attrGet("style") or ""))
    return doc.Table(tuple(rows[0]), tuple(map(tuple, rows[1:])), tuple(right))
