"""Make a bundle: wheels, course, handouts, installer, checksums."""

import json
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

from course_lib.paths import repo_root, user_path, write_file
from course_lib.setup import bootstrap
from course_lib.setup.bundle import scripts
from course_lib.setup.bundle.systems import chosen
from course_lib.setup.bundle.wheels import BundleError, Target, collect, digest, oldest_python

GIGABYTE = 10**9
SPACE = {"cpu": 1 * GIGABYTE, "default": 5 * GIGABYTE}  # a target; measured, with room to spare
# A further Python of the same system: what isn't built for any Python.
MORE = {"cpu": 0.5 * GIGABYTE, "default": 0.5 * GIGABYTE}
SUMS = "SHA256SUMS"
APART = ("answers", "slides", "teacher", "index.html")  # folders of handouts with answers
# Left out when there is no git to ask what belongs to the course.
NOT_OURS = frozenset(".git .venv __pycache__ .mypy_cache .ruff_cache .pytest_cache .hypothesis "
                     ".ipynb_checkpoints build dist".split())  # fmt: skip


def make(
    folder: Path | str,
    systems: Iterable[str] = (),
    pythons: Iterable[str] = (),
    torch: str = "cpu",
    handouts: Path | str | None = None,
    root: Path | None = None,
) -> Path:
    """Fill a folder with all that a room without a network needs.

    A run that was stopped goes on where it was; one that finds everything in place only checks it.
    The bundle is for the systems of the last run: wheels that only others need are deleted.

    Args:
        folder: where the bundle is made.
        systems: such as ``"windows-x86_64"``; by default the one that this runs on.
        pythons: such as ``"3.12"``; by default each that the course runs on.
        torch: ``"cpu"``, or ``"default"`` for the build with CUDA on Linux.
        handouts: a folder of printed pages; by default ``handouts/`` in the course's folder, if
            there is one. The students' come with the bundle, the teachers' into a folder beside it.
        root: the checkout; by default the one that this is.

    Returns:
        The folder.

    Raises:
        BundleError: no room, no network, or no wheel for one of the systems.
    """
    out, root = user_path(folder).absolute(), root or repo_root()
    targets = [Target(system, python, torch) for system, python in chosen([*systems], [*pythons])]
    wheels = out / "wheels"
    printed = user_path(handouts) if handouts else root / "handouts"
    if handouts and not printed.is_dir():
        raise BundleError(f"There is no folder {printed}. Make the handouts first.")
    try:
        wheels.mkdir(parents=True, exist_ok=True)
        _announce(out, targets, torch)
        _check_space(out, targets, torch)
        needed, oldest = {}, {}
        for target in targets:
            found = collect(wheels, target, root / bootstrap.LOCK)
            needed[target.name] = [each.name for each in found]
            oldest[target.name] = oldest_python(found, target.python)
        _drop_others(wheels, needed)
        _copy_course(root, out / "course")
        if printed.is_dir():
            _copy_handouts(printed, out)
        about = {
            "torch": torch,
            "targets": needed,
            "oldest_python": oldest,
            "space": bootstrap.SPACE_NEEDED[torch],
        }
        (out / "bundle.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
        scripts.write(out, oldest)
        _write_sums(out)
    except OSError as error:
        raise BundleError(f"{error.filename or out}: {error.strerror}.") from error
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    count = len({name for names in needed.values() for name in names})
    print(f"{out}: {count} wheels and the course, {size / GIGABYTE:.1f} GB. Next: README.html.")
    if (teachers := beside(out)).exists():
        print(f"{teachers}: the teachers' pages. They don't go on the stick.")
    return out


def beside(out: Path) -> Path:
    """The folder for the teachers' pages of a bundle."""
    return out.with_name(f"{out.name}-teachers")


def _announce(out: Path, targets: list[Target], torch: str) -> None:
    """What will be made, how large it is, and what it doesn't bring: before it begins."""
    systems = ", ".join(dict.fromkeys(target.system.name for target in targets))
    pythons = ", ".join(dict.fromkeys(target.python for target in targets))
    size = _size(targets, torch) / GIGABYTE
    print(f"{out}: for {systems} with Python {pythons}, up to {size:.1f} GB.")
    print(
        f"Not in it: Python. Before the day, install one of {pythons} on each machine (python.org; "
        "on Linux the package manager); `INSTALL --check` there says whether it will do."
    )


def _size(targets: list[Target], torch: str) -> float:
    """Bytes of all wheels: the first Python of a system brings those that the others share."""
    systems = len({target.system.name for target in targets})
    return systems * SPACE[torch] + (len(targets) - systems) * MORE[torch]


def _copy_handouts(printed: Path, out: Path) -> None:
    """The students' pages into the bundle; those with answers, and the index, beside it."""
    shutil.rmtree(out / "handouts", ignore_errors=True)
    kept_apart = (
        shutil.ignore_patterns(*APART) if any((printed / n).is_dir() for n in APART) else None
    )
    shutil.copytree(printed, out / "handouts", ignore=kept_apart)
    if kept_apart:
        shutil.rmtree(beside(out), ignore_errors=True)
        shutil.copytree(printed, beside(out))


def _check_space(out: Path, targets: list[Target], torch: str) -> None:
    there = sum(path.stat().st_size for path in (out / "wheels").glob("*.whl"))
    needed = max(0.0, _size(targets, torch) - there)
    free = shutil.disk_usage(out).free
    if free < needed:
        raise BundleError(
            f"There are {free / GIGABYTE:.1f} GB free in {out}; the bundle needs about "
            f"{needed / GIGABYTE:.1f} GB. Free some, name fewer systems, or take --torch cpu."
        )


def _drop_others(wheels: Path, needed: dict[str, list[str]]) -> None:
    """Delete what no target needs: versions of an older lock, another build of PyTorch."""
    kept = {name for names in needed.values() for name in names}
    for wheel in wheels.glob("*.whl"):
        if wheel.name not in kept:
            wheel.unlink()


def _course_files(root: Path) -> Iterator[Path]:
    """What belongs to the course, relative to its folder."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=root, capture_output=True, text=True, check=False
    ) if shutil.which("git") and (root / ".git").exists() else None  # fmt: skip
    if listed is not None and listed.returncode == 0:
        names = [Path(name) for name in listed.stdout.split("\0") if name]
    else:
        names = [
            path.relative_to(root)
            for path in sorted(root.rglob("*"))
            if not any(part in NOT_OURS or part.endswith(".egg-info") for part in path.parts)
        ]
    yield from (name for name in names if (root / name).is_file())


def _copy_course(root: Path, target: Path) -> None:
    """Copy the course afresh, and put it into its place when it is whole."""
    fresh = target.with_name(".course.partial")
    shutil.rmtree(fresh, ignore_errors=True)
    names = [name for name in _course_files(root) if not (root / name).is_relative_to(target)]
    if target.parent.is_relative_to(root):
        inside = target.parent.relative_to(root)
        names = [name for name in names if not name.is_relative_to(inside)]
    for name in names:
        (fresh / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / name, fresh / name)
    shutil.rmtree(target, ignore_errors=True)
    fresh.replace(target)


def _write_sums(out: Path) -> None:
    """The digest of every file of the bundle, in the format of ``sha256sum -c``."""
    files = {path.relative_to(out).as_posix(): path for path in out.rglob("*") if path.is_file()}
    lines = [f"{digest(files[name])}  {name}\n" for name in sorted(files) if name != SUMS]
    write_file(out / SUMS, "".join(lines))
