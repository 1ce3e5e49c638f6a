"""Install what a host lacks, and change nothing that it has.

Colab and Kaggle come with hundreds of packages that fit together, torch and its drivers first. So
every installed package is pinned to the version that is there while pip looks for the missing
ones. If that can't be done, pip stops, and nothing has changed.
"""

import importlib
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from course_lib.paths import repo_root
from course_lib.setup.hosting.errors import HostingError

NEVER = frozenset({"torch", "torchvision", "numpy"})  # used as they are, or not at all
FROM_HOST = frozenset({"jupyterlab", "ipykernel", "ipython", "ipywidgets"})  # its own notebook


def required(root: Path) -> tuple[list[Requirement], list[Requirement]]:
    """What the checkout in ``root`` needs: with dependencies, and without (d2l: old pins)."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [Requirement(line) for line in project["dependencies"]], _listed(
        root / "requirements-nodeps.txt"
    )


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
    if whole:
        changing = {canonicalize_name(each.name) for each in whole}
        pins = {name: version for name, version in there.items() if name not in changing}
        tested = [
            each
            for each in _listed(root / "constraints.txt")
            if canonicalize_name(each.name) not in pins
        ]
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "constraints.txt"
            file.write_text("\n".join([*_pinned(pins), *map(str, tested)]), encoding="utf-8")
            _pip(["-c", str(file)], whole)
    if alone:
        _pip(["--no-deps"], alone)
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
        try:
            lines.append(f"{name}=={Version(version)}")
        except InvalidVersion:
            continue
    return lines


def _pip(options: list[str], requirements: list[Requirement]) -> None:
    command = [
        sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
        "--no-input", *options, *map(str, requirements),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        names = ", ".join(each.name for each in requirements)
        raise HostingError(
            f"{names} could not be installed. Is the Internet on (on Kaggle: Settings > Internet)? "
            f"pip says: {said[-1].removeprefix('ERROR: ') if said else 'nothing'}"
        )


def _listed(file: Path) -> list[Requirement]:
    """The requirements in a file, one a line; those of other systems are left out."""
    found = []
    for line in file.read_text(encoding="utf-8").splitlines():
        try:
            requirement = Requirement(line.partition("#")[0].strip())
        except InvalidRequirement:
            continue  # an empty line or a comment
        if requirement.marker is None or requirement.marker.evaluate():
            found.append(requirement)
    return found
