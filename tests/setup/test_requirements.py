"""The lists of packages agree with each other, whichever way the course is installed."""

import tomllib

from packaging.requirements import Requirement

from course_lib.paths import repo_root

# Without these there is no course; the charter names them.
NAMED = {"torch", "torchvision", "jupyterlab", "matplotlib"}


def requirements(path):
    lines = (line.partition("#")[0].strip() for line in path.read_text().splitlines())
    return [Requirement(line) for line in lines if line]


def project():
    return tomllib.loads((repo_root() / "pyproject.toml").read_text())["project"]


def test_every_dependency_and_tool_has_one_tested_version():
    pins = requirements(repo_root() / "constraints.txt")
    assert all(len(pin.specifier) == 1 and str(pin.specifier).startswith("==") for pin in pins)
    wanted = [*project()["dependencies"], *project()["optional-dependencies"]["dev"]]
    for requirement in map(Requirement, wanted):
        (pin,) = [pin for pin in pins if pin.name.lower() == requirement.name.lower()]
        (version,) = [specifier.version for specifier in pin.specifier]
        assert requirement.specifier.contains(version), requirement


def test_named_packages_are_dependencies():
    assert {Requirement(line).name for line in project()["dependencies"]} >= NAMED


def test_d2l_comes_without_its_old_pins():
    (only,) = requirements(repo_root() / "requirements-nodeps.txt")
    assert only.name == "d2l"
    assert all(Requirement(line).name != "d2l" for line in project()["dependencies"])


def test_conda_installs_the_same():
    text = (repo_root() / "environment.yml").read_text()
    assert "-c constraints.txt" in text
    assert "-e .[dev]" in text
    assert "pip install --no-deps -r requirements-nodeps.txt" in text
