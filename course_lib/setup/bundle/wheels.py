"""Collect every wheel that one system needs, on whatever system this runs.

pip can download for another system, but it reads the markers of requirements (``; sys_platform ==
"win32"``) as if for this one. So the walk from package to package is made here: read a wheel's
requirements, keep those whose marker holds over there, fetch what is not in the folder yet, and
begin again, until nothing is missing. What is in the folder already is not fetched again: a run
that was stopped goes on where it was.
"""

import email.parser
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from email.message import Message
from functools import lru_cache
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name, parse_wheel_filename

from course_lib.errors import CourseError
from course_lib.setup.bootstrap import CPU_INDEX
from course_lib.setup.bundle.systems import System

LATEST = 40  # no Python has had more bug-fix releases; see :func:`oldest_python`
ROUNDS = 40  # far more than the longest chain of requirements


class BundleError(CourseError):
    """A bundle that can't be made."""


@dataclass(frozen=True)
class Wants:
    """What is to be collected.

    Attributes:
        whole: requirements, each with all that it requires in turn.
        alone: requirements without what they require.
        pins: the tested version of each package, by canonical name.
    """

    whole: tuple[Requirement, ...]
    alone: tuple[Requirement, ...]
    pins: dict[str, SpecifierSet]


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

    @property
    def cpu_build(self) -> bool:
        """Whether PyTorch comes as a build of another name; elsewhere PyPI's own is for CPUs."""
        return self.torch == "cpu" and self.system.name.startswith("linux")

    def pinned(self, name: str, pins: dict[str, SpecifierSet]) -> SpecifierSet:
        """The versions of a package that are allowed; one build of PyTorch excludes the other."""
        allowed = pins.get(name, SpecifierSet())
        if name not in ("torch", "torchvision"):
            return allowed
        if self.cpu_build:
            return SpecifierSet(",".join(f"{each}+cpu" for each in allowed))
        return allowed & SpecifierSet(",".join(f"!={each.version}+cpu" for each in allowed))


def collect(folder: Path, target: Target, wants: Wants) -> list[Path]:
    """Fill the folder with all wheels that a target needs.

    Returns:
        Those wheels, sorted. Others may be in the folder for other targets.

    Raises:
        BundleError: pip found no wheel, or can't reach its index.
    """
    folder.mkdir(parents=True, exist_ok=True)
    allowed: dict[str, SpecifierSet] = {}
    for _ in range(ROUNDS):
        chosen, missing = _walk(folder, target, wants, allowed)
        if not missing:
            return sorted(chosen.values())
        print(f"{target.name}: {len(chosen)} wheels are there, fetching {len(missing)} more.")
        requirements = [f"{name}{allowed[name]}" for name in sorted(missing)]
        for cpu in (True, False):  # the CPU build first: it is the one that may be out of reach
            some = [each for each in requirements if ("+cpu" in each and target.cpu_build) == cpu]
            if some:
                _fetch(folder, target, some, cpu)
    raise BundleError(f"The requirements for {target.name} don't come to an end: {missing}.")


def _walk(
    folder: Path, target: Target, wants: Wants, allowed: dict[str, SpecifierSet]
) -> tuple[dict[str, Path], set[str]]:
    """Follow the requirements through the wheels that are there; narrow ``allowed`` on the way.

    Returns:
        The wheel of each package, and the packages whose wheel is missing.
    """
    there = _fitting(folder, target)
    chosen: dict[str, Path] = {}
    missing: set[str] = set()
    environment = target.system.environment(target.python)
    queue = [(each, True) for each in wants.whole] + [(each, False) for each in wants.alone]
    seen: set[tuple[str, bool]] = set()
    while queue:
        requirement, further = queue.pop()
        name = canonicalize_name(requirement.name)
        before = allowed.get(name, target.pinned(name, wants.pins))
        allowed[name] = before & requirement.specifier
        wheel = _newest(there.get(name, ()), allowed[name])
        if wheel is None:
            missing.add(name)
            continue
        chosen[name] = wheel
        missing.discard(name)
        for extra in ("", *sorted(requirement.extras)) if further else ():
            if (f"{name}[{extra}]", further) in seen:
                continue
            seen.add((f"{name}[{extra}]", further))
            queue += [
                (each, True)
                for each in requirements_of(wheel)
                if _holds(each, environment, extra)
            ]  # fmt: skip
    return {name: wheel for name, wheel in chosen.items() if name not in missing}, missing


def _holds(requirement: Requirement, environment: dict[str, str], extra: str) -> bool:
    marker = requirement.marker
    if marker is None:
        return extra == ""
    if extra and marker.evaluate({**environment, "extra": ""}):
        return False  # asked for without the extra already
    return marker.evaluate({**environment, "extra": extra})


def _fitting(folder: Path, target: Target) -> dict[str, list[Path]]:
    """The wheels in the folder that run on the target, by package."""
    found: dict[str, list[Path]] = {}
    tags = target.system.tags(target.python)
    for path in sorted(folder.glob("*.whl")):
        name, _, _, own = parse_wheel_filename(path.name)
        if own & tags:
            found.setdefault(name, []).append(path)
    return found


def _newest(wheels: Iterable[Path], allowed: SpecifierSet) -> Path | None:
    versions = [(parse_wheel_filename(path.name)[1], path) for path in wheels]
    fitting = [each for each in versions if allowed.contains(each[0], prereleases=True)]
    return max(fitting)[1] if fitting else None


def oldest_python(wheels: Iterable[Path], python: str) -> str:
    """The first bug-fix release of a Python, such as ``"3.11.5"``, that all wheels accept.

    Some say in their metadata that 3.11 is too little and 3.11.5 is enough; a machine with an older
    one then can't install them.
    """
    limits = [SpecifierSet(_metadata(each).get("Requires-Python", "")) for each in wheels]
    for patch in range(LATEST):
        if all(limit.contains(f"{python}.{patch}") for limit in limits):
            return f"{python}.{patch}"
    raise BundleError(f"No Python {python} suits all of the wheels.")


@lru_cache(maxsize=2048)
def requirements_of(wheel: Path) -> tuple[Requirement, ...]:
    """What a wheel says that it requires, markers included."""
    return tuple(Requirement(line) for line in _metadata(wheel).get_all("Requires-Dist", ()))


def _metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [
            each
            for each in archive.namelist()
            if each.endswith(".dist-info/METADATA") and each.count("/") == 1
        ]
        text = archive.read(name).decode("utf-8", errors="replace")
    return email.parser.HeaderParser().parsestr(text)


def _fetch(folder: Path, target: Target, requirements: list[str], cpu: bool) -> None:
    """Let pip download (it compares each file with the index's hash); move in what is whole."""
    arriving = folder / ".arriving"
    shutil.rmtree(arriving, ignore_errors=True)
    command = [
        sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check",
        "--no-input", "--no-deps", "--only-binary=:all:", "--dest", str(arriving),
        "--implementation", "cp", "--python-version", f"{target.python}.{LATEST}",
    ]  # fmt: skip
    for tag in target.system.platforms:
        command += ["--platform", tag]
    if cpu:
        command += ["--extra-index-url", CPU_INDEX]
    try:
        done = subprocess.run(
            [*command, *requirements], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise BundleError(_explain(done.stderr, target, cpu))
        for wheel in sorted(arriving.glob("*.whl")):
            if not is_whole(wheel):
                raise BundleError(f"{wheel.name} arrived damaged. Run the command again.")
            wheel.replace(folder / wheel.name)
    finally:
        shutil.rmtree(arriving, ignore_errors=True)


def is_whole(wheel: Path) -> bool:
    """Whether every file in a wheel has the checksum that the wheel states."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            return archive.testzip() is None
    except (zipfile.BadZipFile, OSError, EOFError):
        return False


def _explain(log: str, target: Target, cpu: bool) -> str:
    if "No space left" in log:
        return "The disk is full. Free some space and run the command again: it goes on from here."
    if cpu:
        return (
            f"PyTorch's CPU build for {target.name} can't be fetched from {CPU_INDEX}. Is the "
            "network on? Run the command again, or take the default build: --torch default"
        )
    errors = [line.removeprefix("ERROR: ") for line in log.splitlines() if line[:5] == "ERROR"]
    return (
        f"Wheels for {target.name} are missing. Is the network on? The command run again goes on "
        f"from here. pip says: {errors[-1] if errors else 'nothing'}"
    )
