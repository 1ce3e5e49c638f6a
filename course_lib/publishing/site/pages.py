"""The site's pages as Sphinx reads them: chapters, cheat sheets, glossary, reference, the first."""

import re
import shutil
from collections.abc import Iterable, Sequence
from html import escape
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

import course_lib
from course_lib.chapters import Chapter
from course_lib.paths import data_dir, repo_root
from course_lib.publishing import notebooks
from course_lib.publishing.addresses import Address
from course_lib.publishing.handouts import paper, sheets
from course_lib.publishing.site import chapter, glossary

WITHOUT_REFERENCE = {"cli", "publishing", "setup", "benchmarks"}  # nobody imports from these
_TO_CHAPTER = re.compile(r"\[(?P<said>[^\]]+)\]\((?:notebooks/)?(?P<name>\d\d_\w+)\.ipynb\)")
FILES = "files"  # the folder of what is downloaded


def write(folder: Path, chosen: Sequence[Chapter], where: Address | None, whole: bool) -> None:
    """Write the sources of the pages into an empty folder.

    Args:
        folder: for the sources; what is to be downloaded goes into ``files`` in it.
        chosen: the chapters.
        where: the repository that buttons lead to; None: no such buttons.
        whole: with the reference, which takes longest.
    """
    for name in (FILES, "sheets", "reference"):
        (folder / name).mkdir()
    names = [each.name for each in chosen]
    for each in chosen:
        stored = notebooks.read(each.name)
        assert stored is not None, each.name
        made = chapter.page(each.name, stored, _row(each, where))
        for cell in made.cells:
            if cell.cell_type == "markdown":
                cell.source = _leading(cell.source, names)
        notebooks.write(made, folder / f"{each.name}.ipynb")
        shutil.copy(notebooks.notebook_path(each.name), folder / FILES)
    papers = [
        name for name in sheets.names() if name in names or (whole and name == sheets.COURSE_SHEET)
    ]
    for name in papers:
        _write(folder / "sheets" / f"{name}.md", _sheet(name))
        (folder / FILES / f"sheet_{name}.pdf").write_bytes(paper.pdf(sheets.make(name)))
    shutil.copy(glossary.FILE, folder)
    shutil.copy(data_dir() / "readme.png", folder)
    lists = {
        "Chapters": [f"{_title(each)} <{each.name}>" for each in chosen],
        "Cheat sheets": [f"sheets/{name}" for name in papers],
        "To look things up": ["glossary"] + ["reference/index"] * whole,
    }
    _write(folder / "index.md", _index(chosen, lists))
    if whole:
        rooms = [each.name for each in iter_modules(course_lib.__path__)]
        _write_reference(folder / "reference", [n for n in rooms if n not in WITHOUT_REFERENCE])


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def _leading(text: str, names: Sequence[str]) -> str:
    """A text whose links to chapters that are left out are words."""
    return _TO_CHAPTER.sub(lambda link: link[0] if link["name"] in names else link["said"], text)


def _title(each: Chapter) -> str:
    return f"{each.number} {' '.join(each.title.split())}"


def _row(each: Chapter, where: Address | None) -> str:
    """Below a chapter's title: what it builds on, buttons."""
    buttons = [(f"{FILES}/{each.name}.ipynb", "Download the notebook")]
    if where is not None:
        buttons.append((where.colab(each.name), "Open in Colab"))
        buttons.append((where.report(each.name), "Report this page"))
    links = "".join(f'<a class="button" href="{escape(to)}">{said}</a>\n' for to, said in buttons)
    after = f" Builds on {' and '.join(each.after)}." if each.after else ""
    said = f"<span>A stored run: to read it, you install nothing.{after}</span>"
    return chapter.raw(f'<div class="buttons">{said}\n{links}</div>')


def _sheet(name: str) -> str:
    """A cheat sheet as a page."""
    title, _, rest = sheets.text(name).partition("\n")
    number = "" if name == sheets.COURSE_SHEET else f"{name[:2]}  "
    button = f'<a class="button" href="../{FILES}/sheet_{name}.pdf">Download as a PDF</a>'
    row = chapter.raw(f'<div class="buttons">{button}</div>')
    return f"# {number}{title.removeprefix('# ')}\n\n{row}\n{rest}"


def _write_reference(folder: Path, rooms: Sequence[str]) -> None:
    """A page for each room, and one that leads to them."""
    for name in rooms:
        _write(folder / f"{name}.rst", _reference(name))
    about = {name: (import_module(f"course_lib.{name}").__doc__ or "") for name in rooms}
    rows = [f"- [`course_lib.{name}`]({name}.rst): {about[name].splitlines()[0]}" for name in rooms]
    text = "What the chapters import, room by room, from the docstrings."
    _write(
        folder / "index.md", "\n".join(["# Reference", "", text, "", *rows, "", _toctree(rooms)])
    )


def _reference(room: str) -> str:
    """A room's page: what it offers; or, if it has no such list, what its modules do."""
    module = import_module(f"course_lib.{room}")
    modules = [module.__name__]
    if hasattr(module, "__path__") and not hasattr(module, "__all__"):
        modules += [f"{module.__name__}.{each.name}" for each in iter_modules(module.__path__)]
    title = f"course_lib.{room}"
    parts = [f".. automodule:: {name}\n   :members:\n" for name in modules]
    return "\n".join([title, "=" * len(title), "", *parts])


def _toctree(documents: Iterable[str], caption: str = "") -> str:
    head = f":caption: {caption}\n" if caption else ""
    return "```{toctree}\n:hidden:\n" + head + "\n" + "\n".join(documents) + "\n```\n"


def _index(chosen: Sequence[Chapter], lists: dict[str, list[str]]) -> str:
    """The first page: the README's opening, the chapters, the contents."""
    readme = (repo_root() / "README.md").read_text(encoding="utf-8")
    opening = readme.partition("\n## ")[0].replace("](data/readme.png)", "](readme.png)")
    opening = _leading(opening, [each.name for each in chosen]).replace("](notebooks/", "](")
    rows = "\n".join(
        f"| [{_title(each)}]({each.name}.ipynb) | {each.question} | {each.minutes} |"
        for each in chosen
    )
    contents = "\n".join(_toctree(documents, caption) for caption, documents in lists.items())
    return (
        f"{opening}\n\n## Chapters\n\n| chapter | its question | minutes |\n|---|---|--:|\n{rows}\n"
        f"\n{contents}"
    )
