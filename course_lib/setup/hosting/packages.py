"""Install what a host lacks, and change nothing that it has.

Colab and Kaggle come with hundreds of packages that fit together, torch and its drivers first. So
every installed package is pinned to the version that is there while pip looks for the missing
ones, and what it finds is compared with the lock's hashes. If that can't be done, pip stops, and
nothing has changed.
"""

import contextlib
import importlib
import json
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from course_lib.paths import repo_root
from course_lib.setup import bootstrap
from course_lib.setup.hosting.errors import HostingError

NEVER = frozenset({"torch", "torchvision", "numpy"})  # used as they are, or not at all
FROM_HOST = frozenset({"jupyterlab", "ipykernel", "ipython", "ipywidgets"})  # its own notebook


def required(root: Path) -> tuple[list[Requirement], list[Requirement]]:
    """What the checkout in ``root`` needs: with dependencies, and without (d2l: old pins)."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    alone = project["dependency-groups"]["without-dependencies"]
    return [*map(Requirement, project["project"]["dependencies"])], [*map(Requirement, alone)]


def present() -> dict[str, str]:
    """Every installed package and its version."""
    found: dict[str, str] = {}
    for distribution in metadata.distributions():
        name = distribution.metadata["Name"]
        if name:
            found.setdefault(canonicalize_name(name), distribution.version)  # the first is imported
    return found


def install_missing() -> list[str]:
    """Install what the course needs and this machine lacks; nothing when nothing is missing.

    Returns:
        The names of what was installed.

    Raises:
        HostingError: torch, torchvision or numpy is missing or too old here, or pip failed.
    """
    root, there = repo_root(), present()
    whole, alone = required(root)
    _check_untouchable(whole, there)
    wanted = [each for each in whole if canonicalize_name(each.name) not in NEVER | FROM_HOST]
    whole = [each for each in wanted if not _satisfied(each, there)]
    alone = [each for each in alone if not _satisfied(each, there)]
    if whole or alone:
        tested = _locked(root)
        with tempfile.TemporaryDirectory() as folder:
            chosen = _resolved(whole, tested, there, Path(folder)) if whole else []
            chosen += [str(each) for each in alone]
            lines = [(each, tested.get(each, [])) for each in chosen]
            bootstrap.write_lock(Path(folder) / "chosen.lock", lines)
            _pip(
                ["--no-deps", "--require-hashes", "-r", str(Path(folder) / "chosen.lock")],
                [each.name for each in (*whole, *alone)],
            )
    importlib.invalidate_caches()
    return [each.name for each in (*whole, *alone)]


def _satisfied(requirement: Requirement, there: dict[str, str]) -> bool:
    if requirement.marker is not None and not requirement.marker.evaluate():
        return True
    version = there.get(canonicalize_name(requirement.name))
    return version is not None and requirement.specifier.contains(version, prereleases=True)


def _check_untouchable(requirements: Iterable[Requirement], there: dict[str, str]) -> None:
    for each in requirements:
        name = canonicalize_name(each.name)
        if name in NEVER and not _satisfied(each, there):
            raise HostingError(
                f"This runtime has {each.name} {there.get(name, '(none)')}; the course needs "
                f"{each.name}{each.specifier}, and never replaces a host's own. Choose a newer "
                "runtime (on Colab: Runtime > Change runtime type > Runtime version: latest)."
            )


def _pinned(there: dict[str, str]) -> list[str]:
    """Constraints that hold every package where it is; versions that pip can't read are left."""
    lines = []
    for name, version in sorted(there.items()):
        with contextlib.suppress(InvalidVersion):
            lines.append(f"{name}=={Version(version)}")
    return lines


def _resolved(
    wanted: list[Requirement], tested: dict[str, list[str]], there: dict[str, str], folder: Path
) -> list[str]:
    """What pip would install, such as ``"six==1.17.0"``; what is there holds its place."""
    changing = {canonicalize_name(each.name) for each in wanted}
    pins = {name: version for name, version in there.items() if name not in changing}
    limits = [*_pinned(pins), *(each for each in tested if each.partition("==")[0] not in pins)]
    constraints, report = folder / "constraints.txt", folder / "report.json"
    constraints.write_text("\n".join(limits), encoding="utf-8")
    _pip(
        ["--dry-run", "--report", str(report), "-c", str(constraints), *map(str, wanted)],
        [each.name for each in wanted],
    )
    found = json.loads(report.read_text(encoding="utf-8"))["install"]
    names = [(each["metadata"]["name"], each["metadata"]["version"]) for each in found]
    return [f"{canonicalize_name(name)}=={version}" for name, version in names]


def _pip(words: list[str], names: list[str]) -> None:
    command = [*bootstrap.pip_install(Path(sys.executable)), "--quiet", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise HostingError(
            f"{', '.join(names)} could not be installed. Is the Internet on (on Kaggle: Settings > "
            f"Internet)? pip says: {said[-1].removeprefix('ERROR: ') if said else 'nothing'}"
        )


def _locked(root: Path) -> dict[str, list[str]]:
    """The tested versions on this system, such as ``"six==1.17.0"``, each with its hashes."""
    entries = [
        (Requirement(line), hashes) for line, hashes in bootstrap.locked(root / bootstrap.LOCK)
    ]
    return {
        f"{canonicalize_name(each.name)}{each.specifier}": hashes
        for each, hashes in entries
        if each.marker is None or each.marker.evaluate()
    }
