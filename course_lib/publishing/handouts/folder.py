"""All handouts into one folder, with an index."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from course_lib.paths import folder_in_place, repo_root
from course_lib.publishing import notebooks
from course_lib.publishing.addresses import Address
from course_lib.publishing.handouts import document as doc
from course_lib.publishing.handouts import (
    editions,
    page,
    paper,
    plan,
    room,
    sheets,
    slides,
    workshop,
)
from course_lib.publishing.handouts.document import Block, Document, HandoutError, line

FOLDERS = {editions.STUDENT: "student", editions.TEACHER: "teacher"}
ON_THE_SITE = ("student", "sheets")  # folders whose pages to read `course site` makes
MARK = ".course-handouts"  # a folder with this file was made here and may be replaced


def default_folder() -> Path:
    """Where handouts go when nobody says otherwise; git ignores it."""
    return repo_root() / "handouts"


def documents(
    names: Iterable[str] = (), where: Address | None = None
) -> Iterator[tuple[str, Document | slides.Deck]]:
    """Every handout with its place in the folder, such as ``"student/02_hotdog"``.

    Args:
        names: chapters such as ``"02_hotdog"``; all that are there, when none is named. With
            names, sheets and plan that belong to no chapter are left out.
        where: the repository that links and QR codes lead to; None: no links.

    Raises:
        UnknownNameError: there is no such chapter.
    """
    known = [name for name in notebooks.sources() if notebooks.read(name) is not None]
    wanted = notebooks.checked(names, known)
    for name in wanted or known:
        notebook, address = notebooks.read(name), where.page(name) if where else None
        yield f"workshop/{name}", workshop.make(name, notebook, address)
        if (quiz := workshop.quiz(name, notebook, address)) is not None:
            yield f"quiz/{name}", quiz
        yield f"answers/{name}", workshop.answers(name, notebook, address)
        deck = slides.make(name, notebook, address)
        yield f"slides/{name}", deck
        yield f"slides/notes_{name}", slides.notes(deck)
        for edition, folder in FOLDERS.items():
            yield f"{folder}/{name}", editions.make(name, notebook, edition, address)
    for name in sheets.names():
        if not wanted or name in wanted:
            address = where.page(name) if where and name in known else None
            yield f"sheets/{name}", sheets.make(name, address)
    if not wanted:
        yield "teacher/plan", plan.make()
        yield from ((f"room/{name}", each) for name, each in room.documents(where).items())


def build(
    folder: Path | str | None = None, names: Iterable[str] = (), where: Address | None = None
) -> Iterator[Path]:
    """Write every handout as PDF, what the site doesn't have also as HTML, and ``index.html``; all
    of them or none.

    Args:
        folder: where to; by default ``handouts/`` in the checkout.
        names, where: as in :func:`documents`.

    Yields:
        The files as they are made, at the place where they will be.

    Raises:
        HandoutError: something can't be set, or the folder holds other things; what was there
            stays.
        UnknownNameError: there is no such chapter.
    """
    target = Path(folder) if folder else default_folder()
    if target.exists() and any(target.iterdir()) and not (target / MARK).exists():
        raise HandoutError(
            f"{target} holds other things than handouts, and would be replaced. Name a new folder: "
            "course handouts --to FOLDER"
        )
    try:
        with folder_in_place(target) as made:
            yield from _fill(made, target, names, where)
    except OSError as error:
        raise HandoutError(
            f"{target} can't be written: {error.strerror or error}. What was there stays. Make "
            "room, or name another folder: course handouts --to FOLDER"
        ) from error
    yield target / "index.html"


def _fill(made: Path, target: Path, names: Iterable[str], where: Address | None) -> Iterator[Path]:
    """Write all handouts into ``made``; tell where in ``target`` they will be."""
    (made / MARK).write_text("Made by `course handouts`.\n", encoding="utf-8")
    listed = []
    for place, document in documents(names, where):
        (made / place).parent.mkdir(exist_ok=True)
        if isinstance(document, slides.Deck):
            as_pdf, as_html = slides.pdf(document), slides.html(document)
        else:
            as_pdf, as_html = paper.pdf(document), page.html(document)
        (made / f"{place}.pdf").write_bytes(as_pdf)
        yield target / f"{place}.pdf"
        if not place.startswith(ON_THE_SITE):
            (made / f"{place}.html").write_text(as_html, encoding="utf-8")
            yield target / f"{place}.html"
        listed.append((place, document.title))
    (made / "index.html").write_text(page.html(_index(listed)), encoding="utf-8")


def _index(listed: list[tuple[str, str]]) -> Document:
    """The page that leads to all others."""
    titles = {
        "workshop": "Workshop edition: to print for everybody, 4 to 6 pages a chapter",
        "quiz": "Quiz sheets: one page a chapter, without answers",
        "answers": "Workshop answers, for the teacher: results, solutions, the quiz explained",
        "slides": "Slides: ten to twelve a chapter, and what to say",
        "student": "Student edition: the whole chapter, for those who learn alone",
        "teacher": "Teacher edition: solutions, timings, what to say",
        "sheets": "Cheat sheets: one page each",
        "room": "For the room: before you come, troubles, a poster, feedback",
    }
    blocks: list[Block] = [
        doc.Paragraph(
            line(
                "Each as a PDF to print (A4), and most as a page that needs no network. Chapters "
                "and sheets to read are pages of the site: course site."
            )
        )
    ]
    for folder, heading in titles.items():
        rows = tuple(
            (
                line(f"{title}, speaker's notes" if "/notes_" in place else title),
                (doc.Link(line(f"PDF of {title}"), f"{place}.pdf"),),
                line("on the site")
                if folder in ON_THE_SITE
                else (doc.Link(line(f"page of {title}"), f"{place}.html"),),
            )
            for place, title in listed
            if place.startswith(f"{folder}/")
        )
        if rows:
            header = tuple(map(line, ("handout", "to print", "to read")))
            blocks += [doc.Heading(2, line(heading)), doc.Table(header, rows)]
    return Document("Handouts", "index", "", tuple(blocks))
