"""What must hold of the site's files: links lead somewhere, and nothing comes from elsewhere."""

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

from bs4 import BeautifulSoup

from course_lib.errors import CourseError

LOADS = {  # elements that fetch when a page is opened, and what names the file
    "img": "src", "script": "src", "iframe": "src", "source": "src", "video": "src", "audio": "src",
    "embed": "src", "object": "data", "link": "href", "input": "src",
}  # fmt: skip
NOT_FETCHED = {"canonical", "next", "prev", "search", "index", "author", "license"}  # kinds of link
_IN_STYLE = re.compile(r"""(?:url\(\s*|@import\s+)["']?([^"')\s]+)""")


class SiteError(CourseError):
    """A site that can't be made, or has a fault."""


def check(folder: Path) -> None:
    """Look at every page and style of a site.

    Raises:
        SiteError: with each fault: the page, what is wrong in it.
    """
    found = [*_in_pages(folder), *_in_styles(folder)]
    if found:
        raise SiteError("The site has faults:\n" + "\n".join(sorted(set(found))[:40]))


def _in_pages(folder: Path) -> Iterator[str]:
    pages = {
        path.resolve(): BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
        for path in folder.rglob("*.html")
        if "_static" not in path.parts
    }
    anchors = {
        path: {str(tag.get(name)) for name in ("id", "name") for tag in soup.select(f"[{name}]")}
        for path, soup in pages.items()
    }
    for path, soup in pages.items():
        name = path.relative_to(folder.resolve()).as_posix()
        for tag in soup.find_all(list(LOADS)):
            to = str(tag.get(LOADS[tag.name]) or "")
            if tag.name == "link" and NOT_FETCHED & set(tag.get("rel") or ()):
                continue
            if _elsewhere(to):
                yield f"{name}: loads {to}"
            elif not to.startswith("data:") and to and not _file(path, to).exists():
                yield f"{name}: loads {to}, which isn't there"
            if tag.name == "img" and not str(tag.get("alt", "")).strip():
                yield f"{name}: a picture without a text alternative: {to[:60]}"
        for text in (tag.get_text() for tag in soup.find_all("p")):
            if re.match(r"\|.*\|", text):
                yield f"{name}: a table that was set as prose: {text.splitlines()[0][:60]}"
        for tag in soup.find_all("a", href=True):
            to = str(tag["href"])
            if _elsewhere(to) or to.startswith("mailto:"):
                continue
            file = _file(path, to)
            if not file.exists():
                yield f"{name}: a link to {to}, which isn't there"
            elif (anchor := unquote(urlsplit(to).fragment)) and anchor not in anchors.get(file, ()):
                yield f"{name}: a link to {to}, where there is no such place"


def _in_styles(folder: Path) -> Iterator[str]:
    for path in folder.rglob("*.css"):
        for to in _IN_STYLE.findall(path.read_text(encoding="utf-8")):
            if _elsewhere(to):
                yield f"{path.name}: loads {to}"


def _elsewhere(to: str) -> bool:
    return bool(re.match(r"(https?:)?//", to))


def _file(page: Path, to: str) -> Path:
    path = unquote(urlsplit(to).path)
    return (page.parent / path).resolve() if path else page
