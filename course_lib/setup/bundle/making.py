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
SUMS = "SHA256SUMS"
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
        pythons: such as ``"3.12"``; by default the one that this runs on.
        torch: ``"cpu"``, or ``"default"`` for the build with CUDA on Linux.
        handouts: a folder of printed pages to put with it; by default ``handouts/`` in the course's
            folder, if there is one.
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
        _check_space(out, targets, torch)
        needed, oldest = {}, {}
        for target in targets:
            found = collect(wheels, target, root / bootstrap.LOCK)
            needed[target.name] = [each.name for each in found]
            oldest[target.name] = oldest_python(found, target.python)
        _drop_others(wheels, needed)
        _copy_course(root, out / "course")
        if printed.is_dir():
            shutil.rmtree(out / "handouts", ignore_errors=True)
            shutil.copytree(printed, out / "handouts")
        about = {"torch": torch, "targets": needed, "oldest_python": oldest}
        (out / "bundle.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
        scripts.write(out, oldest)
        _write_sums(out)
    except OSError as error:
        raise BundleError(f"{error.filename or out}: {error.strerror}.") from error
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    count = len({name for names in needed.values() for name in names})
    print(f"{out}: {count} wheels and the course, {size / GIGABYTE:.1f} GB. Next: README.html.")
    return out


def _check_space(out: Path, targets: list[Target], torch: str) -> None:
    there = sum(path.stat().st_size for path in (out / "wheels").glob("*.whl"))
    needed = max(0.0, len(targets) * SPACE[torch] - there)
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
