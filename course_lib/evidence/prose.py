"""Numbers in prose, checked against the results.

Write a citation between two marks that no reader sees::

    Fine-tuning gained <!-- evidence: C18.effect -->0.31 [0.20, 0.42]<!-- end --> in accuracy.

What stands between them must be, to the character, what :func:`course_lib.evidence.quote` gives
for the claim and the name in the first mark. :func:`fill` writes it there. Numbers of others stand
in a sentence that names the source, between ``<!-- given -->`` and ``<!-- end -->``.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from course_lib.errors import CourseError
from course_lib.evidence.design import EvidenceError
from course_lib.evidence.ledger import quote

OPENED = re.compile(r"<!--\s*evidence:\s*(\w+)\.(.+?)\s*-->")
CITATION = re.compile(OPENED.pattern + r"(.*?)<!--\s*end\s*-->", re.DOTALL)
MARKED = re.compile(r"<!--\s*(?:evidence:|given).*?<!--\s*end\s*-->", re.DOTALL)
MEASURED = re.compile(r"(?<![\w.,/])0\.\d{2,}(?!\w)")


@dataclass(frozen=True)
class Citation:
    """A number that a text cites: claim, name of the number, and the text between the marks."""

    claim: str
    what: str
    text: str


def citations(text: str) -> list[Citation]:
    """Every citation in a text, in order.

    Raises:
        EvidenceError: a mark that is opened and not closed.
    """
    found = CITATION.findall(text)
    if len(found) != len(OPENED.findall(text)) or any("<!--" in each[2] for each in found):
        raise EvidenceError(
            "A citation is opened and not closed. Write: <!-- evidence: C1.effect -->0.31 [0.20, "
            "0.42]<!-- end -->"
        )
    return [Citation(*each) for each in found]


def check_prose(text: str) -> list[str]:
    """Compare every citation in a text with the results.

    Returns:
        One line for each that doesn't agree; an empty list when all do.
    """
    try:
        cited = citations(text)
    except EvidenceError as error:
        return [str(error)]
    problems = []
    for each in cited:
        name = f"{each.claim}.{each.what}"
        try:
            expected = quote(each.claim, each.what)
        except CourseError as error:
            problems.append(f"{name}: {error}")
            continue
        if each.text != expected:
            found = f"the text says {each.text!r}, the results say {expected!r}"
            problems.append(f"{name}: {found}.")
    return problems


def check_document(path: Path | str) -> list[str]:
    """The same for a file: the prose cells of a notebook (.ipynb), or the whole of any other."""
    path = Path(path)
    return [f"{path.name}: {each}" for each in check_prose(prose_of(path))]


def bare_numbers(notebook: Path | str) -> list[str]:
    """Decimals of two places or more in a notebook's prose that come from nowhere.

    They are no citation, are not marked as given by others, and stand neither in the notebook's own
    code nor in what it printed.
    """
    cells = json.loads(Path(notebook).read_text(encoding="utf-8"))["cells"]
    shown = "".join(
        "".join(cell["source"]) + json.dumps(cell["outputs"])
        for cell in cells
        if cell["cell_type"] == "code"
    )
    prose = MARKED.sub("", prose_of(notebook))
    return [each for each in MEASURED.findall(prose) if each not in shown]


def prose_of(path: Path | str) -> str:
    """The text of a file; of a notebook, its Markdown cells."""
    path = Path(path)
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".ipynb":
        return text
    cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "markdown"]
    return "\n\n".join("".join(cell["source"]) for cell in cells)


def fill(text: str) -> str:
    """The text with every citation brought up to date; write ``<!-- evidence: C1.effect --><!--
    end -->`` and let this put in the number.

    Raises:
        EvidenceError, UnknownNameError: a citation of something that isn't there.
    """
    citations(text)

    def current(match: re.Match[str]) -> str:
        claim, what, _ = match.groups()
        opening = match.group(0)[: match.start(3) - match.start(0)]
        return f"{opening}{quote(claim, what)}<!-- end -->"

    return CITATION.sub(current, text)
