"""The systems that a bundle can be for, as pip and its markers see them."""

from collections.abc import Iterator
from dataclasses import dataclass

from packaging.tags import Tag, compatible_tags, cpython_tags, mac_platforms

from course_lib.errors import UnknownNameError, suggest
from course_lib.setup.bundle.installer import this_target


@dataclass(frozen=True)
class System:
    """One kind of machine.

    Attributes:
        name: as in ``course bundle --for``.
        platforms: tags of the wheels that run on it, newest first.
        markers: what it answers to the first four questions of environment markers: os_name,
            sys_platform, platform_system, platform_machine.
    """

    name: str
    platforms: tuple[str, ...]
    markers: tuple[str, str, str, str]

    def environment(self, python: str) -> dict[str, str]:
        """The environment of markers under a Python such as ``"3.12"``."""
        os_name, sys_platform, system, machine = self.markers
        return {
            "os_name": os_name,
            "sys_platform": sys_platform,
            "platform_system": system,
            "platform_machine": machine,
            "implementation_name": "cpython",
            "platform_python_implementation": "CPython",
            "platform_release": "",
            "platform_version": "",
            "implementation_version": f"{python}.0",
            "python_full_version": f"{python}.0",
            "python_version": python,
            "extra": "",
        }

    def tags(self, python: str) -> frozenset[Tag]:
        """The tags of the wheels that run on it under a Python such as ``"3.12"``."""
        major, minor = map(int, python.split("."))
        version = (major, minor)
        interpreter = f"cp{major}{minor}"
        own = cpython_tags(version, platforms=self.platforms)
        return frozenset([*own, *compatible_tags(version, interpreter, self.platforms)])


def _linux(machine: str) -> System:
    glibc = [f"manylinux_2_{minor}_{machine}" for minor in range(35, 16, -1)]
    older = [f"manylinux2014_{machine}"]
    if machine == "x86_64":
        older += [f"manylinux_2_{minor}_{machine}" for minor in range(16, 4, -1)]
        older += [f"manylinux2010_{machine}", f"manylinux1_{machine}"]
    tags = (*glibc, *older, f"linux_{machine}")
    return System(f"linux-{machine}", tags, ("posix", "linux", "Linux", machine))


_MAC = tuple(mac_platforms((14, 0), "arm64"))
SYSTEMS = {
    each.name: each
    for each in (
        _linux("x86_64"),
        _linux("aarch64"),
        System("windows-x86_64", ("win_amd64",), ("nt", "win32", "Windows", "AMD64")),
        System("macos-arm64", _MAC, ("posix", "darwin", "Darwin", "arm64")),
    )
}
PYTHONS = ("3.11", "3.12", "3.13")


def this_system() -> str:
    """The name of the machine that this runs on, whether or not a bundle can be for it."""
    return this_target().rpartition("-")[0]


def chosen(systems: list[str], pythons: list[str]) -> Iterator[tuple[System, str]]:
    """Every pair of system and Python; without a choice, this system and every Python.

    The room's machines have one of them, and nobody knows which.

    Raises:
        UnknownNameError: a system or a Python that the course isn't for.
    """
    systems = systems or [this_system()]
    pythons = pythons or [*PYTHONS]
    for given, known, what in ((systems, SYSTEMS, "system"), (pythons, PYTHONS, "Python")):
        for name in given:
            if name not in known:
                raise UnknownNameError(
                    f"There is no bundle for the {what} {name!r}; there is one for "
                    f"{', '.join(known)}.{suggest(name, known)}"
                )
    for name in dict.fromkeys(systems):
        for python in dict.fromkeys(pythons):
            yield SYSTEMS[name], python
