"""pyproject.toml and the lock agree, and every way to install takes the lock."""

import subprocess
import sys
import tomllib
from importlib import metadata

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from course_lib.paths import repo_root
from course_lib.setup import bootstrap

# Without these there is no course; the charter names them.
NAMED = {"torch", "torchvision", "jupyterlab", "matplotlib"}
PYPROJECT = tomllib.loads((repo_root() / "pyproject.toml").read_text())
ENTRIES = [
    (Requirement(line), hashes) for line, hashes in bootstrap.locked(repo_root() / bootstrap.LOCK)
]
LOCKED = {canonicalize_name(entry.name): entry for entry, _ in ENTRIES}


def wanted():
    """What pyproject.toml asks for: the course, its tools, what installs and builds them."""
    lines = [*PYPROJECT["project"]["dependencies"], *PYPROJECT["build-system"]["requires"]]
    extras = PYPROJECT["project"]["optional-dependencies"]
    lines += extras["dev"] + extras["jobs"]  # the former asks for the latter
    lines.remove(f"{PYPROJECT['project']['name']}[jobs]")
    lines += [line for group in PYPROJECT["dependency-groups"].values() for line in group]
    return [Requirement(line) for line in lines]


def version(entry):
    (only,) = entry.specifier
    assert only.operator == "==", entry
    return Version(only.version)


def further(requirement):
    """What a package requires here in turn; None if its locked version isn't installed here."""
    name = canonicalize_name(requirement.name)
    if name in ("d2l", "axe-playwright-python"):  # come without their dependencies
        return []
    try:
        found = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return None
    if Version(found.version).public != str(version(LOCKED[name])):
        return None
    extras = [{"extra": extra} for extra in ("", *requirement.extras)]
    lines = map(Requirement, found.requires or ())
    return [each for each in lines
            if each.marker is None or any(map(each.marker.evaluate, extras))]  # fmt: skip


def test_every_requirement_is_in_the_lock_and_nothing_else_is():
    """Followed from package to package, as far as this machine has the locked versions."""
    queue = [(each, "pyproject.toml") for each in wanted()]
    seen, whole = set(), True
    while queue:
        requirement, asks = queue.pop()
        name = canonicalize_name(requirement.name)
        entry = LOCKED.get(name)
        hint = f"{asks} wants {requirement}; the lock has {entry}. Run: make lock"
        assert entry is not None, hint
        assert requirement.specifier.contains(version(entry), prereleases=True), hint
        if (name, *requirement.extras) in seen:
            continue
        seen.add((name, *requirement.extras))
        more = further(requirement)
        whole = whole and more is not None
        queue += [(each, name) for each in more or ()]
    here = {name for name, each in LOCKED.items() if each.marker is None or each.marker.evaluate()}
    if whole:  # else what is missing here may require them
        assert here == {name for name, *_ in seen}, "Run: make lock"


def test_every_entry_has_hashes_and_a_version_and_no_address():
    for entry, hashes in ENTRIES:
        assert version(entry)
        assert hashes, entry
        assert all(each.startswith("--hash=sha256:") and len(each) == 78 for each in hashes), entry
    assert len(LOCKED) == len(ENTRIES), "one version of each, on every system"
    assert "://" not in (repo_root() / bootstrap.LOCK).read_text()


def test_named_packages_are_dependencies():
    assert {Requirement(line).name for line in PYPROJECT["project"]["dependencies"]} >= NAMED


def test_d2l_comes_without_its_old_pins():
    """pip would otherwise find no solution for: pip install -e ."""
    assert "d2l" in LOCKED
    extras = PYPROJECT["project"]["optional-dependencies"].values()
    lines = [*PYPROJECT["project"]["dependencies"], *(line for each in extras for line in each)]
    assert all(Requirement(line).name != "d2l" for line in lines)


def test_the_readme_installs_as_make_does(tmp_path):
    """Word for word: pip with the lock, then the course alone."""
    readme = (repo_root() / "README.md").read_text()
    exact, course = bootstrap.commands(["python", "-m", "pip", "install"], tmp_path, "default")
    exact[-1] = bootstrap.LOCK
    assert " ".join(exact) in readme
    assert " ".join(course) in readme
    assert "environment.yml" in readme


@pytest.mark.parametrize("words", [["-m", "pip", "wheel", "--no-deps", "--wheel-dir"],
                                   ["-m", "pip", "install", "--no-deps", "--target"]])  # fmt: skip
def test_a_wheel_that_would_miss_the_data_is_refused_in_one_sentence(tmp_path, words):
    command = [sys.executable, *words, tmp_path / "out", "--no-build-isolation", repo_root()]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 1
    assert "a wheel would miss its notebooks and data" in done.stdout + done.stderr
    assert not list(tmp_path.rglob("*.whl"))
