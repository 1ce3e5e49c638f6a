"""The teachers' plan: timetables for half a day to three days, and what to skip.

Its text is Markdown in ``content/teachers/plan.md``. A table there that begins with the column
"min" is a day: it gets a column with the time of day, and a row with its end.
"""

from pathlib import Path

from course_lib.publishing.handouts import markdown
from course_lib.publishing.handouts.document import Block, Document, Table, line, words

FILE = Path(__file__).parent / "content" / "teachers" / "plan.md"
BEGINS = 9 * 60  # minutes after midnight, of every day


def make() -> Document:
    """The plan as a document."""
    title, subtitle, *blocks = markdown.read(FILE.read_text(encoding="utf-8"))
    return Document(
        words(title), "teacher edition", words(subtitle), tuple(map(_with_times, blocks))
    )


def clock(minutes: int) -> str:
    """Minutes after midnight as a time of day."""
    return f"{minutes // 60}:{minutes % 60:02d}"


def _with_times(block: Block) -> Block:
    """A timetable with the time at which each of its rows begins; other blocks as they are."""
    if not isinstance(block, Table) or words(block.header[0]) != "min":
        return block
    rows, now = [], BEGINS
    for row in block.rows:
        rows.append((line(clock(now)), *row))
        now += int(words(row[0]))
    rows.append((line(clock(now)), (), line("End"), ()))
    return Table((line("at"), *block.header), tuple(rows), (True, *block.right))
