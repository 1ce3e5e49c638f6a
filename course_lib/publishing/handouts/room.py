"""What a room needs beside the chapters: before you come, troubles, a poster, feedback."""

from pathlib import Path

from course_lib.publishing.addresses import SITE, Address
from course_lib.publishing.handouts import document as doc
from course_lib.publishing.handouts import markdown
from course_lib.publishing.handouts.document import Block, Document, Paragraph, line, words
from course_lib.publishing.handouts.frame import COURSE, qr_code

FOLDER = Path(__file__).parent / "content" / "room"
EDITION = "for the room"
ON_A_WALL, FAR_AWAY = 13.0, 17.0  # points: read from a step away, and from a seat


def documents(where: Address | None = None) -> dict[str, Document]:
    """Each by its name in the folder of handouts; ``where`` is what the poster leads to."""
    return {
        "before": _read("before"),
        "troubles": _read("troubles"),
        "poster": _poster(where),
        "feedback": _feedback(),
    }


def _read(name: str) -> Document:
    title, subtitle, *blocks = markdown.read((FOLDER / f"{name}.md").read_text(encoding="utf-8"))
    return Document(words(title), EDITION, words(subtitle), tuple(blocks), size=ON_A_WALL)


def _poster(where: Address | None) -> Document:
    """The way to the course, large enough for the wall."""
    blocks: list[Block] = []
    if where:
        address = f"{SITE}/{where.repo}/tree/{where.ref}"
        blocks += [
            doc.Picture(qr_code(address), "svg", f"QR code: {address}", 4.4),
            doc.Heading(2, line("Scan, or type")),
            Paragraph((doc.Code(address),)),
        ]
    else:
        blocks += [
            doc.Heading(2, line("Address of the course, and of the room's network")),
            doc.Room(4),
        ]
    steps = (
        "No network? Take the stick, and start INSTALL in its folder.",
        "Installed? Start START in the folder pretrain-finetune-freeze.",
        "Stuck? First the last line on the screen, then the fifteen troubles, then a raised hand.",
        "Predict before you run. A wrong guess is worth more than a page read quickly.",
    )
    blocks.append(doc.Bullets(tuple((Paragraph(line(step)),) for step in steps), numbered=True))
    return Document(
        COURSE, "poster", "Start from weights that somebody else trained.", tuple(blocks),
        size=FAR_AWAY,
    )  # fmt: skip


def _feedback() -> Document:
    """One page to fill in at the end; no name is asked for."""
    scale = tuple(zip("12345", map(line, ("not at all", "", "half", "", "fully")), strict=True))
    blocks: list[Block] = []
    for said in (
        "I could follow.",
        "The pace was right for me.",
        "My predictions taught me something.",
        "I will use it in the next month.",
    ):
        blocks.append(doc.Box("question", said, (doc.Choices(scale),)))
    for asked, lines in (
        ("Which prediction surprised you most?", 2),
        ("Which page or exercise lost you, and where?", 3),
        ("What should be left out? What was missing?", 3),
        ("What will you do differently on Monday?", 2),
    ):
        blocks += [Paragraph(line(asked)), doc.Room(lines)]
    subtitle = "No name needed. It takes three minutes, and changes the next workshop."
    return Document("What was it like?", "feedback", subtitle, tuple(blocks), one_page=True)
