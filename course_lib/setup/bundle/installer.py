"""Install the course from a bundle: no network, nothing but Python. INSTALL starts it.

    python install.py [FOLDER]      into FOLDER; by default pretrain-finetune-freeze at home
    python install.py --no-open     without opening the course afterwards
    python install.py --check       only tell whether this machine can take it; nothing is changed

A second run finds everything done and opens the course, as START in FOLDER does.
"""

import argparse
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
STARTERS = {
    "START.sh": '#!/bin/sh\nexec "$(dirname "$0")/.venv/bin/course" lab "$@"\n',
    "START.bat": '@"%~dp0.venv\\Scripts\\course.exe" lab %*\r\n',
}
KEPT = ("notebooks", "data")  # where learners write: their files there are never touched


class InstallError(Exception):
    """Something is in the way; the message is one line and says what to do."""


def this_target() -> str:
    """This machine and its Python, as the bundle names them."""
    kind = {"Darwin": "macos"}.get(platform.system(), platform.system().lower())
    machine = {"amd64": "x86_64"}.get(platform.machine().lower(), platform.machine().lower())
    return f"{kind}-{machine}-{sys.version_info[0]}.{sys.version_info[1]}"


def check_files(wheels: list[str]) -> None:
    """Compare what will be used with its checksums."""
    lines = (HERE / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
    sums = {line[66:]: line[:64] for line in lines}
    used = [name for name in sums if name.startswith("course/")]
    there = ((HERE / "course").rglob("*"), HERE)
    added = [p for p in there[0] if not p.is_dir() and p.relative_to(HERE).as_posix() not in sums]
    if added:
        raise InstallError(
            f"{added[0].relative_to(HERE)} isn't in SHA256SUMS: somebody added it to the bundle. "
            "Copy the bundle again from where it was made."
        )
    for name in ["bundle.json", "install.py", *used, *(f"wheels/{wheel}" for wheel in wheels)]:
        try:
            with (HERE / name).open("rb") as stream:
                good = hashlib.file_digest(stream, "sha256").hexdigest() == sums.get(name)
        except OSError:
            good = False
        if not good:
            raise InstallError(
                f"{name} is missing or damaged. Copy the bundle again (or make it again with "
                "course bundle), then run this once more."
            )


def copy_course(target: Path) -> None:
    """Copy the course; files that are there already, such as your answers, stay."""
    for source in sorted((HERE / "course").rglob("*")):
        name = source.relative_to(HERE / "course")
        place = target / name
        if source.is_dir() or (name.parts[0] in KEPT and place.exists()):
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, place)


def suited() -> tuple[dict[str, Any], str]:
    """What the bundle says of itself, and the name of this machine, which it is for.

    Raises:
        InstallError: it isn't for this machine, or not for this Python.
    """
    about = json.loads((HERE / "bundle.json").read_text(encoding="utf-8"))
    mine = this_target()
    if mine not in about["targets"]:
        raise InstallError(
            f"This is {mine}; the bundle is for {', '.join(about['targets'])}. Start INSTALL with "
            "one of these Pythons, or ask for a bundle for this machine."
        )
    oldest = about["oldest_python"][mine]
    if sys.version_info[:3] < tuple(map(int, oldest.split("."))):
        raise InstallError(
            f"This is Python {platform.python_version()}; the packages need {oldest} or a later "
            "one of its line. Install it, then start INSTALL again."
        )
    return about, mine


def check(target: Path) -> str:
    """A line that says that the course can be installed; nothing is changed.

    Raises:
        InstallError: it can't: another machine or Python, damaged files, too little room.
    """
    about, mine = suited()
    check_files(about["targets"][mine])
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
    return sum(1 for _ in venv.glob("[Ll]ib*/**/site-packages/*.dist-info"))


def install(target: Path) -> Path:
    """Install into ``target/.venv``; return its Python. Nothing is done twice."""
    about, mine = suited()
    python = target / ".venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    stamp = target / ".venv" / "course-installed"
    if stamp.exists() and python.exists():
        return python
    count = len(about["targets"][mine])
    print(f"Checking {count} packages and the course ...", flush=True)
    check_files(about["targets"][mine])
    copy_course(target)
    bootstrap = bootstrap_of(target)
    bootstrap.check_space(target, bootstrap.SPACE_NEEDED[about["torch"]])
    log = target / "install.log"
    log.write_text("", encoding="utf-8")
    print(f"Installing into {target} (some minutes) ...", flush=True)
    python = bootstrap.make_venv(target / ".venv")
    pip = [*bootstrap.pip_install(python), "--isolated", "--no-index",
           "--find-links", str(HERE / "wheels")]  # fmt: skip

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
