"""The results of the suite: run, stored as CSV, shown as text and as HTML.

A verdict is always a word; a sign in front of it only helps the eye.
"""

import csv
import io
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from course_lib.benchmarks.peers.adapters import LIBRARIES, Adapter, version_of
from course_lib.benchmarks.peers.behaviours import (
    BEHAVIOURS,
    FAIL,
    NOT_INSTALLED,
    NOT_OFFERED,
    PASS,
    Behaviour,
    Outcome,
)
from course_lib.errors import DataError
from course_lib.paths import data_dir, write_file
from course_lib.text import WIDTH, ruled

SIGNS = {PASS: "✓", FAIL: "✗", NOT_OFFERED: "·", NOT_INSTALLED: "?"}
MISSING = Outcome(NOT_INSTALLED, 'pip install -e ".[bench]"')
TITLES = {each.name: each.title for each in BEHAVIOURS}


@dataclass(frozen=True)
class Row:
    """What one library did in one behaviour."""

    behaviour: str
    library: str
    verdict: str
    why: str


@dataclass(frozen=True, repr=False)
class Table:
    """The results of all libraries.

    Attributes:
        rows: behaviour by behaviour.
        versions: library to the version that was measured; empty if it wasn't.
    """

    rows: tuple[Row, ...]
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def libraries(self) -> list[str]:
        """Their names, ours first."""
        return list(dict.fromkeys(row.library for row in self.rows))

    @property
    def behaviours(self) -> list[str]:
        """Their names, in the order of the suite."""
        return list(dict.fromkeys(row.behaviour for row in self.rows))

    def row(self, behaviour: str, library: str) -> Row:
        """One result.

        Raises:
            KeyError: there is none.
        """
        return {(each.behaviour, each.library): each for each in self.rows}[behaviour, library]

    def count(self, library: str) -> int:
        """How many behaviours a library passes."""
        return sum(each.library == library and each.verdict == PASS for each in self.rows)

    def sentences(self, *libraries: str) -> str:
        """Why each verdict that isn't a pass is what it is, library by library."""
        parts = []
        for library in libraries or self.libraries:
            said = [
                textwrap.fill(f"- {TITLES[row.behaviour]}: {row.verdict}. {row.why}", WIDTH,
                              subsequent_indent="  ")
                for row in self.rows if row.library == library and row.verdict != PASS
            ]  # fmt: skip
            parts.append("\n".join([f"{library}:", *(said or ["- all pass."])]))
        return "\n\n".join(parts)

    def store(self) -> Path:
        """Write what was measured; rows of libraries that aren't installed stay as stored."""
        path = stored_at()
        kept = read(path) if path.is_file() else None
        rows, versions = [], dict(self.versions)
        for row in self.rows:
            if row.verdict == NOT_INSTALLED and kept and row.library in kept.libraries:
                versions[row.library] = kept.versions[row.library]
                if row.behaviour in kept.behaviours:
                    row = kept.row(row.behaviour, row.library)
            rows.append(row)
        write(path, Table(tuple(rows), versions))
        return path

    def __str__(self) -> str:
        versions = [self.versions.get(each, "") for each in self.libraries]
        lines = [["", *self.libraries], ["", *versions]]
        for name in self.behaviours:
            found = [self.row(name, library).verdict for library in self.libraries]
            lines.append([TITLES[name], *(f"{SIGNS[each]} {each}" for each in found)])
        lines.append(["passes", *(self._score(each) for each in self.libraries)])
        return ruled(lines, heads=2)

    __repr__ = __str__

    def _score(self, library: str) -> str:
        return f"{self.count(library)} of {len(self.behaviours)}"

    def _repr_html_(self) -> str:
        head = "".join(
            f'<th scope="col" style="text-align:left">{escape(each)}<br>'
            f'<span style="font-weight:normal">{escape(self.versions.get(each, ""))}</span></th>'
            for each in self.libraries
        )
        body = "".join(self._html_row(name) for name in self.behaviours)
        score = "".join(
            f"<td style='text-align:left'>{self._score(e)}</td>" for e in self.libraries
        )
        return (
            f'<table><thead><tr><th scope="col" style="text-align:left">behaviour</th>{head}</tr>'
            f"</thead><tbody>{body}<tr><th scope='row' style='text-align:left'>passes</th>{score}"
            "</tr></tbody></table>"
        )

    def _html_row(self, name: str) -> str:
        found = [self.row(name, library) for library in self.libraries]
        cells = "".join(
            f"<td style='text-align:left;white-space:nowrap'>{SIGNS[each.verdict]} "
            f"{_bold(each.verdict)}</td>"
            for each in found
        )
        title = escape(TITLES[name], quote=False)
        style = "text-align:left;font-weight:normal"
        return f'<tr><th scope="row" style="{style}">{title}</th>{cells}</tr>'


def _bold(verdict: str) -> str:
    return f"<b>{verdict}</b>" if verdict == FAIL else verdict


def run(
    libraries: Sequence[type[Adapter]] = LIBRARIES, behaviours: Iterable[Behaviour] = BEHAVIOURS
) -> Table:
    """Run the suite now. A library that isn't installed is said to be so, never guessed."""
    versions = {each.title: version_of(each) for each in libraries}
    rows = []
    for behaviour in behaviours:
        for library in libraries:
            found = behaviour(library) if versions[library.title] else MISSING
            rows.append(Row(behaviour.name, library.title, found.verdict, found.why))
    return Table(tuple(rows), versions)


def stored_at() -> Path:
    """The file with the results."""
    return data_dir() / "benchmarks" / "peers.csv"


def table() -> Table:
    """The stored results, to print or to show.

    Raises:
        DataError: they are missing or damaged.
    """
    path = stored_at()
    if not path.is_file():
        raise DataError(f"There is no {path.name} in data/benchmarks. Run: course bench peers")
    return read(path)


def read(path: Path) -> Table:
    """The results in a file.

    Raises:
        DataError: the file is damaged.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
        head = [line[1:].strip() for line in lines if line.startswith("#")]
        versions = dict(line.removeprefix("version: ").rsplit(" ", 1) for line in head)
        records = csv.DictReader(line for line in lines if not line.startswith("#"))
        rows = tuple(Row(**record) for record in records)
        if not rows or any(r.verdict not in SIGNS or r.behaviour not in TITLES for r in rows):
            raise ValueError("no results, or an unknown verdict or behaviour")
    except (ValueError, TypeError, csv.Error) as error:
        raise DataError(
            f"{path.name} can't be read ({error!r}). Run: course bench peers"
        ) from error
    return Table(rows, versions)


def write(path: Path, results: Table) -> None:
    """Store results: the old file stays until the new one is whole."""
    out = io.StringIO()
    for library, version in results.versions.items():
        out.write(f"# version: {library} {version or '-'}\n")
    rows = csv.writer(out, lineterminator="\n")
    rows.writerow(["behaviour", "library", "verdict", "why"])
    rows.writerows([row.behaviour, row.library, row.verdict, row.why] for row in results.rows)
    write_file(path, out.getvalue())
