"""Cheat sheets: one page for each chapter, and one for the course.

Their texts are Markdown in ``content/sheets``. Numbers in them are citations of the ledger, filled
in when a sheet is made. A comment such as ``<!-- ledger: C3 C5 -->`` becomes a list of
these claims with their verdicts as they stand.
"""

import re
from pathlib import Path

from course_lib import evidence
from course_lib.errors import UnknownNameError, suggest
from course_lib.publishing.handouts import document as doc
from course_lib.publishing.handouts import markdown
from course_lib.publishing.handouts.document import Document, HandoutError, words

FOLDER = Path(__file__).parent / "content" / "sheets"
COURSE_SHEET = "course"
LEDGER = re.compile(r"<!--\s*ledger:\s*([\w ]+?)\s*-->")


def names() -> list[str]:
    """The sheets that there are: ``"course"`` first, then chapters in order."""
    found = sorted(path.stem for path in FOLDER.glob("*.md"))
    return sorted(found, key=lambda name: (name != COURSE_SHEET, name))


def make(name: str, address: str | None = None) -> Document:
    """One sheet.

    Args:
        name: of a chapter, such as ``"04_freezing"``, or ``"course"``.
        address: where its notebook is, if it is known.

    Raises:
        UnknownNameError: there is no such sheet.
        HandoutError: its text has no title, or cites a result that isn't there.
    """
    title, *blocks = markdown.read(text(name))
    if not isinstance(title, doc.Heading) or title.level != 1:
        raise HandoutError(f"The sheet {name} has no title: a heading of level 1.")
    subtitle = ""
    if blocks and isinstance(blocks[0], doc.Paragraph):
        subtitle = words(blocks.pop(0))
    number = "" if name == COURSE_SHEET else f"{name[:2]}  "
    return Document(
        number + words(title.inside), "cheat sheet", subtitle, tuple(blocks), address, one_page=True
    )


def text(name: str) -> str:
    """A sheet's Markdown, with the numbers and verdicts of the ledger; errors as above."""
    if name not in names():
        raise UnknownNameError(f"There is no sheet {name!r}.{suggest(name, names())}")
    written = (FOLDER / f"{name}.md").read_text(encoding="utf-8")
    return evidence.fill(LEDGER.sub(lambda match: verdicts(match[1].split()), written))


def verdicts(ids: list[str]) -> str:
    """A Markdown list of claims, from the ledger: verdict, what decided it, and on what.

    Where a claim was decided on photographs, that comes first.
    """
    entries = evidence.show().entries
    rows = []
    for id in ids:
        its = [each for each in entries if each.name == id and each.effects]
        its.sort(key=lambda each: not each.on_photographs)
        said = " ".join(
            f"*{each.measured_on[0].upper()}{each.measured_on[1:]}:* **{each.verdict}** "
            f"({'; '.join(map(str, each.decisive))})."
            for each in its
        )
        rows.append(f"- **{id}** {evidence.claim(id).text} {said}")
    return "\n".join(rows)
