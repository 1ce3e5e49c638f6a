"""The README's table of chapters, from their list; with Colab badges once there is an address."""

import re

from course_lib.chapters import CHAPTERS
from course_lib.errors import CourseError
from course_lib.paths import repo_root, write_file
from course_lib.publishing.addresses import Address

FILE = repo_root() / "README.md"
_TABLE = re.compile(r"^\| notebook \|.*\n(?:\|.*\n)+", re.M)
_BADGE = "[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]"


def table(where: Address | None) -> str:
    """The chapters that are written: link, question, minutes; and a badge if it leads somewhere."""
    rows = [["notebook", "its question", "minutes"], ["---", "---", "--:"]]
    for each in CHAPTERS:
        if each.written:
            title = f"{each.number} {' '.join(each.title.split())}"
            link = f"[{title}](notebooks/{each.name}.ipynb)"
            rows.append([link, each.question, str(each.minutes)])
    if where is not None:
        chapters = [each.name for each in CHAPTERS if each.written]
        badges = [f"{_BADGE}({where.colab(name)})" for name in chapters]
        rows = [[*row, last] for row, last in zip(rows, ["Colab", "---", *badges], strict=True)]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def stamp(where: Address | None, check: bool = False) -> bool:
    """Bring the table in line with the chapters and the address.

    Args:
        where: the course's address.
        check: change nothing, only tell.

    Returns:
        Whether it had to be changed.

    Raises:
        CourseError: the README has no such table.
    """
    text = FILE.read_text(encoding="utf-8")
    if not _TABLE.search(text):
        raise CourseError(f"{FILE} has no table of chapters: a line that begins `| notebook |`.")
    stamped = _TABLE.sub(lambda _: table(where), text, count=1)
    if stamped != text and not check:
        write_file(FILE, stamped)
    return stamped != text
