"""The site's pages as Sphinx reads them: chapters, cheat sheets, glossary, reference, the first."""

import re
import shutil
from collections.abc import Iterable, Sequence
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
FILES = "files"  # the folder of what is downloaded


def write(folder: Path, chosen: Sequence[Chapter], where: Address | None) -> None:
    """Write the sources of all pages into an empty folder.

    Args:
        folder: for the sources; what is to be downloaded goes into ``files`` in it.
        chosen: the chapters.
        where: the repository that buttons lead to; None: no such buttons.
    """
    for name in (FILES, "sheets", "reference"):
        (folder / name).mkdir()
    names = [each.name for each in chosen]
    for each in chosen:
        stored = notebooks.read(each.name)
        assert stored is not None, each.name
        notebooks.write(chapter.page(each.name, stored, _row(each, where)), _ipynb(folder, each))
        shutil.copy(notebooks.notebook_path(each.name), folder / FILES)
    papers = [name for name in sheets.names() if name in names or name == sheets.COURSE_SHEET]
    for name in papers:
        _write(folder / "sheets" / f"{name}.md", _sheet(name))
        (folder / FILES / f"sheet_{name}.pdf").write_bytes(paper.pdf(sheets.make(name)))
    rooms = [each.name for each in iter_modules(course_lib.__path__)]
    rooms = [name for name in rooms if name not in WITHOUT_REFERENCE]
    for name in rooms:
        _write(folder / "reference" / f"{name}.rst", _reference(name))
    shutil.copy(glossary.FILE, folder)
    shutil.copy(data_dir() / "readme.png", folder)
    lists = {
        "Chapters": names,
        "Cheat sheets": [f"sheets/{name}" for name in papers],
        "To look things up": ["glossary", "reference/index"],
    }
    _write(folder / "index.md", _index(chosen, lists))
    contents = _toctree([f"{name}" for name in rooms])
    _write(
        folder / "reference" / "index.md",
        "# Reference\n\nWhat the chapters import, room by room, from the docstrings.\n\n"
        + "\n".join(f"- [`course_lib.{name}`]({name}.rst): {_about(name)}" for name in rooms)
        + f"\n\n{contents}",
    )


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def _ipynb(folder: Path, each: Chapter) -> Path:
    return folder / f"{each.name}.ipynb"


def _row(each: Chapter, where: Address | None) -> str:
    """Below a chapter's title: its minutes, what it builds on, buttons."""
    buttons = [(f"{FILES}/{each.name}.ipynb", "Download the notebook")]
    if where is not None:
        buttons.append((where.colab(each.name), "Open in Colab"))
        buttons.append((where.report(each.name), "Report this page"))
    links = "".join(f'<a class="button" href="{to}">{said}</a>\n' for to, said in buttons)
    after = f", after {' and '.join(each.after)}" if each.after else ""
    return chapter.raw(
        f'<div class="row"><span>{each.minutes} minutes to read and run{after}. This page shows '
        f"a stored run.</span>\n{links}</div>"
    )


def _sheet(name: str) -> str:
    """A cheat sheet as a page."""
    title, _, rest = sheets.text(name).partition("\n")
    number = "" if name == sheets.COURSE_SHEET else f"{name[:2]}  "
    button = f'<a class="button" href="../{FILES}/sheet_{name}.pdf">Download as a PDF</a>'
    row = chapter.raw(f'<div class="row">{button}</div>')
    return f"# {number}{title.removeprefix('# ')}\n\n{row}\n{rest}"


def _about(room: str) -> str:
    return (import_module(f"course_lib.{room}").__doc__ or "").partition("\n")[0]


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
    opening = re.sub(r"\]\(notebooks/(\w+)\.ipynb\)", r"](\1.ipynb)", opening)
    rows = "\n".join(
        f"| [{each.number} {' '.join(each.title.split())}]({each.name}.ipynb) | {each.question} "
        f"| {each.minutes} |"
        for each in chosen
    )
    contents = "\n".join(_toctree(documents, caption) for caption, documents in lists.items())
    return (
        f"{opening}\n\n## Chapters\n\n| chapter | its question | minutes |\n|---|---|--:|\n{rows}\n"
        f"\n{contents}"
    )
