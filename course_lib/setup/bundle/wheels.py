"""Collect every wheel that one system needs, on whatever system this runs.

The lock says which: of its entries, those whose marker (``; sys_platform == "win32"``) holds over
there. pip downloads them and compares them with the lock's hashes. What is in the folder already is
not fetched again: a run that was stopped goes on where it was.
"""

import email.parser
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name, parse_wheel_filename

from course_lib.errors import CourseError
from course_lib.paths import file_hash
from course_lib.setup import bootstrap
from course_lib.setup.bundle.systems import System

LATEST = 40  # no Python has had more bug-fix releases; see :func:`oldest_python`
AT_ONCE = 20  # wheels that pip fetches in one go: what a run that is stopped may lose
CPU_BUILD = "+cpu"


class BundleError(CourseError):
    """A bundle that can't be made."""


@dataclass(frozen=True)
class Target:
    """One system under one Python, with PyTorch's CPU build or its default one."""

    system: System
    python: str
    torch: str

    @property
    def name(self) -> str:
        """Such as ``"linux-x86_64-3.12"``."""
        return f"{self.system.name}-{self.python}"

    def wanted(self, lock: Path) -> dict[str, tuple[str, ...]]:
        """The lock's entries for it, such as ``"six==1.17.0"``, each with its hashes.

        PyTorch's CPU build for Linux has another name and no hash in the lock. Elsewhere PyPI's own
        build is for CPUs.
        """
        cpu = self.torch == "cpu" and self.system.name.startswith("linux")
        environment = self.system.environment(self.python)
        found: dict[str, tuple[str, ...]] = {}
        for line, hashes in bootstrap.locked(lock):
            each = Requirement(line)
            name = canonicalize_name(each.name)
            if each.marker and not each.marker.evaluate(environment):
                continue
            if not cpu:
                found[f"{name}{each.specifier}"] = tuple(hashes)
            elif name in bootstrap.BUILT_FOR_CPU:
                found[f"{name}{each.specifier}{CPU_BUILD}"] = ()
            elif not name.startswith(bootstrap.CUDA):
                found[f"{name}{each.specifier}"] = tuple(hashes)
        return found


def collect(folder: Path, target: Target, lock: Path) -> list[Path]:
    """Fill the folder with all wheels that a target needs.

    Returns:
        Those wheels, sorted. Others may be in the folder for other targets.

    Raises:
        BundleError: pip found no wheel, or can't reach its index.
    """
    folder.mkdir(parents=True, exist_ok=True)
    wanted = target.wanted(lock)
    there = _fitting(folder, target, wanted)
    # The CPU build first: it is the one that may be out of reach.
    missing = sorted(wanted.keys() - there, key=lambda each: (CPU_BUILD not in each, each))
    if missing:
        print(f"{target.name}: {len(there)} wheels are there, fetching {len(missing)} more.")
    for cpu, group in groupby(missing, lambda each: CPU_BUILD in each):
        some = list(group)
        for start in range(0, len(some), AT_ONCE):
            entries = [(each, list(wanted[each])) for each in some[start : start + AT_ONCE]]
            _fetch(folder, target, entries, cpu)
    there = _fitting(folder, target, wanted)
    if left := sorted(wanted.keys() - there):
        raise BundleError(f"pip brought no wheel for {target.name} of {', '.join(left)}.")
    return sorted(there.values())


def _fitting(folder: Path, target: Target, wanted: dict[str, tuple[str, ...]]) -> dict[str, Path]:
    """The wheels in the folder that the target wants; damaged ones are deleted.

    Where two fit, the one that was built for the system comes before the one for any.
    """
    found: dict[str, Path] = {}
    tags = target.system.tags(target.python)
    for path in sorted(folder.glob("*.whl"), key=lambda each: not each.name.endswith("-any.whl")):
        name, version, _, own = parse_wheel_filename(path.name)
        hashes = wanted.get(entry := f"{name}=={version}")
        if hashes is None or not own & tags:
            continue
        if f"--hash=sha256:{digest(path)}" in hashes if hashes else is_whole(path):
            found[entry] = path
        else:
            print(f"{path.name} is damaged and will be fetched again.")
            path.unlink()
    return found


def digest(path: Path) -> str:
    """The SHA-256 of a file, computed once while the file stays as it is."""
    facts = path.stat()
    return _digest(path, facts.st_size, facts.st_mtime_ns)


@cache
def _digest(path: Path, size: int, changed: int) -> str:
    return file_hash(path)


def oldest_python(wheels: Iterable[Path], python: str) -> str:
    """The first bug-fix release of a Python, such as ``"3.11.5"``, that all wheels accept.

    Some say in their metadata that 3.11 is too little and 3.11.5 is enough; a machine with an older
    one then can't install them.
    """
    limits = [SpecifierSet(_required_python(each)) for each in wheels]
    for patch in range(LATEST):
        if all(limit.contains(f"{python}.{patch}") for limit in limits):
            return f"{python}.{patch}"
    raise BundleError(f"No Python {python} suits all of the wheels.")


def _required_python(wheel: Path) -> str:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [
            each
            for each in archive.namelist()
            if each.endswith(".dist-info/METADATA") and each.count("/") == 1
        ]
        text = archive.read(name).decode("utf-8", errors="replace")
    return email.parser.HeaderParser().parsestr(text).get("Requires-Python", "")


def _fetch(folder: Path, target: Target, entries: list[tuple[str, list[str]]], cpu: bool) -> None:
    """Let pip download, which compares each file with its hash; move in what came."""
    arriving = folder / ".arriving"
    shutil.rmtree(arriving, ignore_errors=True)
    arriving.mkdir()
    bootstrap.write_lock(arriving / "wanted.lock", entries)
    command = [
        sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check",
        "--no-input", "--no-deps", "--only-binary=:all:", "--dest", str(arriving),
        "--implementation", "cp", "--python-version", f"{target.python}.{LATEST}",
        "-r", str(arriving / "wanted.lock"),
    ]  # fmt: skip
    for tag in target.system.platforms:
        command += ["--platform", tag]
    command += ["--index-url", bootstrap.CPU_INDEX] if cpu else ["--require-hashes"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BundleError(_explain(done.stderr, target, cpu))
        for wheel in sorted(arriving.glob("*.whl")):
            wheel.replace(folder / wheel.name)
    finally:
        shutil.rmtree(arriving, ignore_errors=True)


def is_whole(wheel: Path) -> bool:
    """Whether every file in a wheel has the checksum that the wheel states."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            return archive.testzip() is None
    except Exception:  # damaged bytes make it raise nearly anything
        return False


def _explain(log: str, target: Target, cpu: bool) -> str:
    if "No space left" in log:
        return "The disk is full. Free some space and run the command again: it goes on from here."
    if cpu:
        return (
            f"PyTorch's CPU build for {target.name} can't be fetched from {bootstrap.CPU_INDEX}. "
            "Is the network on? Run the command again, or take the default build: --torch default"
        )
    errors = [line.removeprefix("ERROR: ") for line in log.splitlines() if line[:5] == "ERROR"]
    return (
        f"Wheels for {target.name} are missing. Is the network on? The command run again goes on "
        f"from here. pip says: {errors[-1] if errors else 'nothing'}"
    )
