"""What a teacher may say at each section: kept as Markdown, one file a chapter.

A file begins with a paragraph or two about the chapter. Then each heading of level 2 names a
section of the notebook, with what to say there.
"""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from course_lib.publishing.handouts import markdown
from course_lib.publishing.handouts.document import Block, Heading, Paragraph, bold, words

FOLDER = Path(__file__).parent / "content" / "talking"


@dataclass(frozen=True)
class Points:
    """A chapter's talking points.

    Attributes:
        opening: what holds for the whole chapter.
        sections: title of a section to what is to say there.
    """

    opening: tuple[Block, ...]
    sections: dict[str, tuple[Block, ...]]

    def for_section(self, title: str | None) -> tuple[Block, ...]:
        """What is to say at a section; empty when there is nothing."""
        return self.sections.get(title or "", ())

    def missing(self, titles: Collection[str | None]) -> list[Block]:
        """What belongs to sections that the notebook doesn't have: it stands apart."""
        found: list[Block] = []
        for title, blocks in self.sections.items():
            if title not in titles:
                found += [Paragraph(bold(title)), *blocks]
        return found


def points(name: str) -> Points:
    """The talking points of a chapter such as ``"02_hotdog"``; none when there is no file."""
    path = FOLDER / f"{name[:2]}.md"
    if not path.exists():
        return Points((), {})
    opening: list[Block] = []
    sections: dict[str, list[Block]] = {}
    into = opening
    for block in markdown.read(path.read_text(encoding="utf-8")):
        if isinstance(block, Heading) and block.level == 2:
            into = sections.setdefault(words(block.inside), [])
        else:
            into.append(block)
    return Points(tuple(opening), {title: tuple(blocks) for title, blocks in sections.items()})
