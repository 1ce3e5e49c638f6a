"""Install the course from a bundle: no network, nothing but Python. INSTALL starts it.

    python install.py [FOLDER]      into FOLDER; by default pretrain-finetune-freeze at home
    python install.py --no-open     without opening the course afterwards
    python install.py --check       only tell whether this machine can take it; nothing is changed

A second run finds everything done and opens the course, as START in FOLDER does.
"""

import sys

# Python looks for modules beside this file first, and nothing there is checked yet.
if __name__ == "__main__" and not getattr(sys.flags, "safe_path", sys.flags.isolated):
    del sys.path[0]

import argparse
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
STARTERS = {
    "START.sh": '#!/bin/sh\nexec "$(dirname "$0")/.venv/bin/course" lab "$@"\n',
    "START.bat": '@"%~dp0.venv\\Scripts\\course.exe" lab %*\r\n',
}
AGAIN = "Copy the bundle again (or make it again with course bundle), then run this once more."
# What a computer puts into the folders that somebody looks into, or onto a stick.
NOT_OURS = re.compile(r"\.DS_Store|\._.*|Thumbs\.db|desktop\.ini", re.IGNORECASE)
KEPT = ("notebooks", "data")  # where learners write: their files there are never touched


class InstallError(Exception):
    """Something is in the way; the message is one line and says what to do."""


def this_target() -> str:
    """This machine and its Python, as the bundle names them."""
    kind = {"Darwin": "macos"}.get(platform.system(), platform.system().lower())
    machine = {"amd64": "x86_64"}.get(platform.machine().lower(), platform.machine().lower())
    return f"{kind}-{machine}-{sys.version_info[0]}.{sys.version_info[1]}"


def sums() -> dict[str, str]:
    """Name and SHA-256 of every file, as the bundle lists them.

    Raises:
        InstallError: the list is missing or damaged, or names what is elsewhere.
    """
    listing = HERE / "SHA256SUMS"
    try:
        real = listing.is_file() and not is_link(listing)  # not a pipe, nor a file without an end
        lines = listing.read_text(encoding="utf-8").splitlines() if real else []
    except (OSError, ValueError):
        lines = []
    found = {line[66:]: line[:64] for line in lines if re.match("[0-9a-f]{64}  ", line)}
    odd = [each for each in found if not each or "\\" in each or ":" in each or not
           {"", ".", ".."}.isdisjoint(each.split("/"))]  # fmt: skip
    if odd or not lines or len(found) < len(lines):
        raise InstallError(f"SHA256SUMS is missing or damaged. {AGAIN}")
    return found


def check_files(names: Iterable[str], listed: dict[str, str]) -> None:
    """Compare files with their checksums; a link or a pipe in the place of one is none."""
    for name in names:
        path = HERE / name
        links = [each for each in (path, *path.parents) if HERE in each.parents and is_link(each)]
        try:
            good = not links and path.is_file() and digest_of(path) == listed.get(name)
        except OSError:
            good = False
        if not good:
            raise InstallError(f"{printable(name)} is missing or damaged. {AGAIN}")


def is_link(path: Path) -> bool:
    """Whether it leads elsewhere; a junction does, on Windows."""
    return path.is_symlink() or (hasattr(path, "is_junction") and path.is_junction())


def digest_of(path: Path) -> str:
    """A file's SHA-256."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def check_added(listed: dict[str, str]) -> None:
    """Refuse what was put beside the files that are installed."""
    for top in ("course", "wheels"):
        for each in (HERE / top).rglob("*"):
            name = each.relative_to(HERE).as_posix()
            known = name in listed or NOT_OURS.fullmatch(each.name)
            if is_link(each) or not (known or each.is_dir()):
                raise InstallError(
                    f"{printable(name)} isn't in SHA256SUMS: somebody added it to the bundle. "
                    "Copy the bundle again from where it was made."
                )


def printable(name: str) -> str:
    """A name from a stranger, without what a terminal would obey."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in name)


def check_all(about: dict[str, Any], mine: str, listed: dict[str, str]) -> None:
    """Check every file that is going to be used, before the first is."""
    check_added(listed)
    courses = [name for name in listed if name.startswith("course/")]
    wheels = [f"wheels/{name}" for name in about["targets"][mine]]
    check_files([*courses, *wheels], listed)


def copy_course(target: Path, listed: dict[str, str]) -> None:
    """Copy the course; files that are there already, such as your answers, stay."""
    for name, expected in listed.items():
        folder, _, rest = name.partition("/")
        place = target / rest
        if folder != "course" or (rest.split("/")[0] in KEPT and place.exists()):
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(HERE / name, place)
        if digest_of(place) != expected:  # changed since it was checked
            raise InstallError(f"{printable(name)} changes while it is read. {AGAIN}")


def links_page(wheels: Iterable[str], listed: dict[str, str]) -> str:
    """A page for pip with the checked wheels and no others; it compares each when it reads it."""
    return "".join(
        f'<a href="{(HERE / "wheels" / name).as_uri()}#sha256={listed[f"wheels/{name}"]}">'
        f"{escape(name)}</a>\n"
        for name in wheels
    )


def suited(listed: dict[str, str]) -> tuple[dict[str, Any], str]:
    """What the bundle says of itself, and the name of this machine, which it is for.

    Raises:
        InstallError: it is damaged, or isn't for this machine, or not for this Python.
    """
    check_files(["bundle.json", "install.py"], listed)
    mine = this_target()
    try:
        about = json.loads((HERE / "bundle.json").read_text(encoding="utf-8"))
        targets, oldest = {**about["targets"]}, {**about["oldest_python"]}
        needed = tuple(map(int, oldest.get(mine, "0").split(".")))
        wheels = targets.get(mine, [])
        strange = not isinstance(wheels, list) or not all(isinstance(each, str) for each in wheels)
        if strange or about["torch"] not in ("cpu", "default"):
            raise ValueError("no bundle of ours")
        about = {"targets": targets, "space": int(about["space"]), "torch": about["torch"]}
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError, OverflowError):
        raise InstallError(f"bundle.json is damaged. {AGAIN}") from None
    if mine not in targets:
        raise InstallError(
            f"This is {mine}; the bundle is for {printable(', '.join(targets))}. Start INSTALL "
            "with one of these Pythons, or ask for a bundle for this machine."
        )
    if sys.version_info[:3] < needed:
        raise InstallError(
            f"This is Python {platform.python_version()}; the packages need {oldest[mine]} or a "
            "later one of its line. Install it, then start INSTALL again."
        )
    return about, mine


def check(target: Path) -> str:
    """A line that says that the course can be installed; nothing is changed.

    Raises:
        InstallError: it can't: another machine or Python, damaged files, too little room.
    """
    about, mine = suited(listed := sums())
    check_all(about, mine, listed)
    needed = about["space"] / 1e9
    place = next(each for each in (target, *target.parents) if each.exists())
    free = shutil.disk_usage(place).free / 1e9
    if free < needed:
        raise InstallError(
            f"{free:.1f} GB are free in {place}, and {needed:.0f} are needed. Free some."
        )
    return f"Ready to install: Python {platform.python_version()}, {free:.0f} GB free."


def installed(venv: Path) -> int:
    """How many packages an environment has."""
    # No deeper: below, pip moves folders about while it works.
    places = [*venv.glob("lib/python*/site-packages"), venv / "Lib" / "site-packages"]
    return sum(
        each.suffix == ".dist-info"
        for place in places
        if place.is_dir()
        for each in place.iterdir()
    )


def install(target: Path) -> Path:
    """Install into ``target/.venv``; return its Python. Nothing is done twice."""
    about, mine = suited(listed := sums())
    python = target / ".venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    stamp = target / ".venv" / "course-installed"
    if stamp.exists() and python.exists():
        return python
    count = len(about["targets"][mine])
    print(f"Checking {count} packages and the course ...", flush=True)
    check_all(about, mine, listed)
    copy_course(target, listed)
    os.chdir(target)  # Python looks for modules where it is started, and that may be the bundle
    bootstrap = bootstrap_of(target)
    bootstrap.check_space(target, bootstrap.SPACE_NEEDED[about["torch"]])
    log = target / "install.log"
    log.write_text("", encoding="utf-8")
    print(f"Installing into {target} (some minutes) ...", flush=True)
    python = bootstrap.make_venv(target / ".venv")
    page = target / ".venv" / "wheels.html"
    page.write_text(links_page(about["targets"][mine], listed), encoding="utf-8")
    pip = [*bootstrap.pip_install(python), "--isolated", "--no-index", "--find-links", str(page)]

    def how_far() -> str:
        return f"{installed(target / '.venv')} of about {count} packages"

    try:
        for command in bootstrap.commands(pip, target / ".venv", about["torch"]):
            bootstrap.run_logged(command, log, "Installing", how_far=how_far)
    except subprocess.CalledProcessError:
        reason = bootstrap.explain(log.read_text(encoding="utf-8", errors="replace"), "default")
        raise InstallError(f"{reason} (Full log: {log})") from None
    for name, text in STARTERS.items():
        (target / name).write_bytes(text.encode())
    # What `make lab` looks for, so that it doesn't want the network.
    stamp.write_text(bootstrap.digest("default", sys.version.split()[0]), encoding="utf-8")
    return python


def bootstrap_of(target: Path) -> Any:
    """The installed copy's own set-up module: it takes its place for the course's folder."""
    sys.path.insert(0, str(target))
    from course_lib.setup import bootstrap

    return bootstrap


def main(arguments: list[str] | None = None) -> int:
    """Install, then open the course; one line and 1 when something is in the way."""
    parser = argparse.ArgumentParser(prog="install.py", description=__doc__)
    home = Path.home() / "pretrain-finetune-freeze"
    parser.add_argument("folder", nargs="?", type=Path, default=home)
    parser.add_argument("--no-open", action="store_true")
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args(arguments)
    try:
        if options.check:
            print(check(options.folder.expanduser().absolute()))
            return 0
        python = install(options.folder.expanduser().absolute())
    except OSError as problem:
        print(f"course: {problem.filename}: {problem.strerror}", file=sys.stderr)
        return 1
    except Exception as problem:
        if type(problem).__name__ not in ("InstallError", "SetupError"):
            raise
        print(f"course: {problem}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("course: stopped. Run it again to go on.", file=sys.stderr)
        return 130
    print(f"Installed in {options.folder}.", flush=True)
    if options.no_open:
        return 0
    command = [str(python), "-m", "course_lib.cli", "lab"]
    return subprocess.run(command, cwd=options.folder, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
