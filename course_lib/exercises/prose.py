"""Short texts for two readers: plain lines for a terminal, simple HTML for a notebook.

The texts of exercises and questions use a little Markdown: paragraphs, lists with ``-``, code
indented by four spaces, `code` between backticks, *emphasis* and **more**. Nothing else.
"""

import html
import re
import sys
import textwrap
from collections.abc import Iterator
from typing import Any

from course_lib.text import WIDTH

_SPAN = re.compile(
    r"`(?P<code>[^`]+)`|\*\*(?P<strong>[^\s*`][^*`]*)\*\*"
    r"|(?<!\w)\*(?P<em>[^\s*`][^*`]*)(?<!\s)\*(?!\w)"
)


def blocks(text: str) -> Iterator[tuple[str, str]]:
    """The parts of a text in order, each as (kind, content).

    Kinds: ``"paragraph"`` and ``"item"`` (of a list), both on one line, and ``"code"``.
    """
    for block in re.split(r"\n\s*\n", text.strip("\n")):
        if not block.strip():
            continue
        if block.startswith("    "):
            yield "code", textwrap.dedent(block).rstrip()
        else:
            for part in re.split(r"\n(?=- )", block.strip()):
                kind = "item" if part.startswith("- ") else "paragraph"
                yield kind, " ".join(part.removeprefix("- ").split())


def _joined(text: str) -> list[tuple[str, str]]:
    """The blocks, with neighbouring pieces of code made one again."""
    joined: list[tuple[str, str]] = []
    for kind, content in blocks(text):
        if kind == "code" and joined and joined[-1][0] == "code":
            joined[-1] = ("code", f"{joined[-1][1]}\n\n{content}")
        else:
            joined.append((kind, content))
    return joined


def to_plain(text: str) -> str:
    """The text in lines of at most 88 characters; code lines stay as they are."""
    lines: list[str] = []
    last = ""
    for kind, content in _joined(text):
        if lines and not (kind == last == "item"):
            lines.append("")
        if kind == "code":
            lines.append(textwrap.indent(content, "    "))
        else:
            first, rest = ("- ", "  ") if kind == "item" else ("", "")
            lines += textwrap.wrap(
                inline_plain(content), WIDTH, initial_indent=first, subsequent_indent=rest,
                break_long_words=False, break_on_hyphens=False,
            )  # fmt: skip
        last = kind
    return "\n".join(lines)


def spans(line: str) -> Iterator[tuple[str, str]]:
    """The parts of one line, each as (kind, content).

    Kinds: ``"text"``, ``"code"``, ``"strong"`` and ``"em"``.
    """
    end = 0
    for found in _SPAN.finditer(line):
        if found.start() > end:
            yield "text", line[end : found.start()]
        yield str(found.lastgroup), found[str(found.lastgroup)]
        end = found.end()
    if end < len(line):
        yield "text", line[end:]


def inline_plain(line: str) -> str:
    """One line for a terminal: code between backticks, emphasis unmarked."""
    return "".join(f"`{text}`" if kind == "code" else text for kind, text in spans(line))


def inline_html(line: str) -> str:
    """One line as HTML: everything escaped, code and what is emphasised set so."""
    return "".join(
        text if kind == "text" else f"<{kind}>{text}</{kind}>"
        for kind, text in spans(html.escape(line, quote=False))
    )


def to_html(text: str) -> str:
    """The text as HTML paragraphs, lists and code, without scripts or ids."""
    parts: list[str] = []
    for kind, content in _joined(text):
        if kind == "code":
            code = html.escape(content, quote=False)
            parts.append(f'<pre style="margin: 0 0 1em 0"><code>{code}</code></pre>')
        elif kind == "item":
            item = f"<li>{inline_html(content)}</li>"
            if parts and parts[-1].endswith("</ul>"):
                parts[-1] = f"{parts[-1].removesuffix('</ul>')}{item}</ul>"
            else:
                parts.append(f"<ul>{item}</ul>")
        else:
            parts.append(f"<p>{inline_html(content)}</p>")
    return "".join(parts)


def boxed(title: str, text: str, colour: str = "#0072B2", folds: bool = False) -> str:
    """HTML with a coloured line at its left; the title says in words what the colour means.

    Args:
        title: one line.
        text: what stands below it.
        colour: of the line.
        folds: a click on the title, or Enter, folds the text away; at first it is open.
    """
    heading, body = f"<strong>{inline_html(title)}</strong>", to_html(text)
    inside = (
        f'<details open><summary style="margin-bottom: 1em">{heading}</summary>{body}</details>'
        if folds
        else f"<p>{heading}</p>{body}"
    )
    return f'<div style="border-left: 4px solid {colour}; padding-left: 12px">{inside}</div>'


def show(plain: str, as_html: str, about: dict[str, Any] | None = None) -> None:
    """Display in a notebook, print elsewhere. The same input always gives the same output.

    Args:
        plain: the text for a terminal.
        as_html: the text for a notebook.
        about: facts that the stored output carries as its metadata, for those who read notebooks.
    """
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    if getattr(shell, "kernel", None) is None:
        print(plain)
        return
    from IPython.display import display

    display({"text/plain": plain, "text/html": as_html}, metadata=about, raw=True)
