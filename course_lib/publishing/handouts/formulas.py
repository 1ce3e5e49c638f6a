"""Formulas: LaTeX's notation into MathML for pages, and MathML into typst's notation for paper.

Notebooks write formulas as LaTeX does. A browser sets MathML without any script; typst has a
notation of its own. One way leads to both, so page and paper can't disagree.
"""

import re
from xml.etree import ElementTree

import latex2mathml.converter

from course_lib.publishing.handouts.document import HandoutError

_SPACE = "{http://www.w3.org/1998/Math/MathML}"
# In typst's formulas these have a meaning of their own.
_SPECIAL = re.compile(r"""([\\/_^&#$"'`*~()\[\]{}|,;:@<>=!.\-+])""")
_ACCENTS = {"^": "hat", "ˆ": "hat", "~": "tilde", "˜": "tilde", "¯": "macron", "→": "arrow",
            "˙": "dot", "¨": "dot.double", "ˇ": "caron"}  # fmt: skip


def mathml(latex: str, display: bool) -> str:
    """A formula as MathML.

    Args:
        latex: the formula without its dollars.
        display: on a line of its own.

    Raises:
        HandoutError: it is no formula, or uses a command that has no MathML.
    """
    # Numbered equations come out with their numbers; nothing here refers to them.
    latex = re.sub(r"\\(begin|end)\{(align|gather|equation)\}", r"\\\1{\2*}", latex)
    latex = re.sub(r"\\(?:begin|end)\{equation\*\}", "", latex)
    try:
        found = latex2mathml.converter.convert(latex, display="block" if display else "inline")
        ElementTree.fromstring(found)
    except Exception as error:  # the converter has a dozen types, without a common base
        raise HandoutError(f"The formula {latex!r} can't be read: {error!r}.") from error
    unknown = re.search(r"\\[A-Za-z]+", found)
    if unknown:
        raise HandoutError(f"The formula {latex!r} uses {unknown[0]}, which has no MathML.")
    return found


def typst_math(latex: str, display: bool) -> str:
    """A formula in typst's notation, with its dollars; arguments and errors as above."""
    try:
        inside = _set(ElementTree.fromstring(mathml(latex, display)))
    except RecursionError as error:
        raise HandoutError(f"The formula {latex[:40]!r}... is nested too deeply.") from error
    return f"$ {inside} $" if display else f"${inside.strip()}$"


def _children(node: ElementTree.Element) -> str:
    return " ".join(filter(None, map(_set, node)))


def _argument(node: ElementTree.Element) -> str:
    return _set(node) or '""'


def _set(node: ElementTree.Element) -> str:
    """One element of MathML, and what is in it."""
    kind = node.tag.removeprefix(_SPACE)
    if kind == "mrow":
        return _row(node)
    if kind in ("math", "mstyle", "mpadded", "semantics", "mtd"):
        return _children(node)
    if kind in ("mi", "mn", "mo", "mtext"):
        return _token(kind, (node.text or "").replace("\xa0", " "))
    if kind == "mspace":
        width = node.get("width", "0em")
        return f"#h({width}, weak: false)" if re.fullmatch(r"[\d.]+em", width) else ""
    if kind in ("mfrac", "msqrt", "mroot"):
        return _fraction_or_root(kind, node)
    if kind in ("msub", "msup", "msubsup", "munder", "mover", "munderover"):
        return _attached(kind, node)
    if kind == "mtable":
        return " \\ ".join(" & ".join(map(_set, row)) for row in node)
    raise HandoutError(f"There is no way to set MathML's {kind!r} on paper.")


def _row(node: ElementTree.Element) -> str:
    """A row; between stretching delimiters, these grow with what is between them."""
    if len(node) > 1 and node[0].get("fence") == "true" and node[-1].get("fence") == "true":
        return f"lr({_children(node)})"
    return _children(node)


def _token(kind: str, text: str) -> str:
    if not text:
        return ""
    if kind == "mtext":
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if kind in ("mi", "mo") and len(text) > 1 and text.isalpha():
        return f'op("{text}")'
    if text == "′":
        return "prime"
    return _SPECIAL.sub(r"\\\1", text)


def _fraction_or_root(kind: str, node: ElementTree.Element) -> str:
    if kind == "mfrac":
        return f"frac({_argument(node[0])}, {_argument(node[1])})"
    if kind == "mroot":
        return f"root({_argument(node[1])}, {_argument(node[0])})"
    return f"sqrt({_children(node)})"


def _attached(kind: str, node: ElementTree.Element) -> str:
    base = _argument(node[0])
    mark = (node[1].text or "").strip()
    if kind == "mover" and (mark in _ACCENTS or mark == "‾"):
        return f"accent({base}, {_ACCENTS.get(mark, 'macron')})"
    if kind.startswith(("munder", "mover")):
        base = f"limits({base})"
    sides = {"msub": "b", "munder": "b", "msup": "t", "mover": "t"}.get(kind, "bt")  # bottom, top
    parts = [f"{side}: {_argument(each)}" for side, each in zip(sides, node[1:], strict=True)]
    return f"attach({', '.join([base, *parts])})"
