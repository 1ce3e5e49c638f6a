"""Is this machine ready for the course? Versions, device, weights, data, and what to do if not."""

import json
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html import escape
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

from course_lib import profile
from course_lib.errors import CourseError
from course_lib.paths import data_dir, file_hash, read_file, repo_root
from course_lib.setup.bundle.making import APART
from course_lib.setup.bundle.systems import PYTHONS
from course_lib.text import counted, printable

OK, NOTE, PROBLEM = "ok", "note", "PROBLEM"
DISTRIBUTION = "pretrain-finetune-freeze"


@dataclass(frozen=True)
class Check:
    """One thing that was checked: its state is ``ok``, ``note`` or ``PROBLEM``."""

    what: str
    found: str
    state: str = OK
    advice: str = ""


@dataclass(frozen=True)
class Report:
    """All checks; prints as a table, also in a notebook."""

    checks: tuple[Check, ...]
    good: str = "Ready: every chapter runs on this machine."

    @property
    def ready(self) -> bool:
        """Whether no check found a problem."""
        return all(check.state != PROBLEM for check in self.checks)

    @property
    def verdict(self) -> str:
        """One line for the whole."""
        if self.ready:
            return self.good
        count = sum(check.state == PROBLEM for check in self.checks)
        return f"Not ready: {counted(count, 'problem')}, each with what to do above."

    def __str__(self) -> str:
        width = max(len(check.what) for check in self.checks)
        lines = []
        for each in self.checks:
            lines.append(f"{each.state:<8}{each.what:<{width + 2}}{each.found}")
            if each.advice:
                lines.append(" " * 8 + " " * (width + 2) + f"-> {each.advice}")
        return "\n".join([*lines, "", self.verdict])

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{escape(each.state)}</td><td style='text-align:left'>{escape(each.what)}"
            f"</td><td style='text-align:left'>{escape(each.found)}"
            + (f"<br><b>What to do:</b> {escape(each.advice)}" if each.advice else "")
            + "</td></tr>"
            for each in self.checks
        )
        head = "<tr><th>state</th><th>what</th><th>found</th></tr>"
        return f"<table>{head}{rows}</table><p>{escape(self.verdict)}</p>"


def examine() -> Report:
    """Check everything that a chapter needs; nothing is changed and nothing is downloaded."""
    kinds: tuple[Callable[[], Iterator[Check]], ...] = (
        _python,
        _packages,
        _profile,
        _device,
        _weights,
        _bundled_data,
        _real_data,
        _space,
    )
    return Report(tuple(check for each in kinds for check in each()))


def examine_room(folder: Path) -> Report:
    """Check a bundle before it goes to a room: all there, for which machines, with which pages.

    Args:
        folder: the bundle, as ``course bundle`` made it; nothing in it is changed.
    """
    try:
        about = json.loads(read_file(folder / "bundle.json"))
        targets, size = [*map(printable, about["targets"])], len([*folder.glob("wheels/*.whl")])
        build, sums = about["torch"], _sums(folder)
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        missing = Check("bundle", f"none in {folder}", PROBLEM, "course bundle FOLDER makes one.")
        return Report((missing,))
    checks = [Check("bundle", f"{counted(size, 'package')} in {folder}"), sums]
    pythons = sorted({name.rpartition("-")[2] for name in targets})
    systems = sorted({name.rpartition("-")[0] for name in targets})
    for system in systems:
        mine = sorted(name.rpartition("-")[2] for name in targets if name.startswith(system))
        checks.append(Check("machines", f"{system} with Python {', '.join(mine)}"))
    need = f"Install one of {', '.join(pythons)} on each machine before the day."
    checks.append(Check("Python", "not in the bundle", NOTE, need))
    lacking = [name for name in PYTHONS if name not in pythons]
    if lacking:
        more = "Unless you know the room's Pythons: course bundle again, without --python."
        checks.append(Check("other Pythons", f"not for {', '.join(lacking)}", NOTE, more))
    if build != "cpu":
        smaller = "Most rooms have none: --torch cpu saves 4 GB a machine."
        checks.append(Check("PyTorch", "the build for NVIDIA cards", NOTE, smaller))
    return Report((*checks, *_pages(folder)), "Ready: the bundle can go to the room.")


def _sums(folder: Path) -> Check:
    lines = read_file(folder / "SHA256SUMS").decode().splitlines()
    listed = {line[66:]: line[:64] for line in lines}
    bad = [
        name
        for name, digest in listed.items()
        if not (folder / name).is_file() or file_hash(folder / name) != digest
    ]
    if bad:
        again = "Run course bundle again: it fetches only what is damaged."
        return Check("files", f"{printable(bad[0])} is missing or damaged", PROBLEM, again)
    return Check("files", f"{len(listed)}, all as SHA256SUMS says")


def _pages(folder: Path) -> Iterator[Check]:
    found = [each.name for each in folder.glob("handouts/*")]
    answers = [name for name in found if name in APART]
    if answers:
        what = f"{', '.join(answers)} in the bundle"
        yield Check("handouts", what, PROBLEM, "Run course bundle again: answers stand beside it.")
    elif found:
        yield Check("handouts", "the students' pages, without answers")
    else:
        how = "course handouts, then course bundle again."
        yield Check("handouts", "none in the bundle", NOTE, how)


def _python() -> Iterator[Check]:
    found = f"{platform.python_version()} on {platform.system()} ({platform.machine()})"
    if (3, 11) <= sys.version_info[:2] <= (3, 13):
        yield Check("Python", found)
    else:
        yield Check("Python", found, PROBLEM, "Install Python 3.11, 3.12 or 3.13.")


def _requirements() -> Iterator[Requirement]:
    """What the course needs at run time; d2l stands apart, since its own pins are too old."""
    try:
        lines = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        lines = []
    for requirement in map(Requirement, lines):
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield requirement
    yield Requirement("d2l==1.0.3")


def _packages() -> Iterator[Check]:
    shown = {"torch", "torchvision", "timm", "d2l", "jupyterlab"}
    missing, old = [], []
    for requirement in _requirements():
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            missing.append(requirement.name)
            continue
        if not requirement.specifier.contains(Version(version).base_version, prereleases=True):
            old.append(f"{requirement.name} {version} (needs {requirement.specifier})")
        elif requirement.name in shown:
            yield Check(requirement.name, version)
    if missing or old:
        advice = "In the course's folder: make install (or the two pip commands of README.md)"
        found = "; ".join(filter(None, [", ".join(missing) and f"missing {', '.join(missing)}",
                                        ", ".join(old)]))  # fmt: skip
        yield Check("packages", found, PROBLEM, advice)


def _profile() -> Iterator[Check]:
    try:
        active = profile.current()
    except CourseError as error:
        yield Check("profile", str(os.environ.get("COURSE_PROFILE")), PROBLEM, str(error))
        return
    found = f"{active.name}: {active.backbone}, {active.image_size} pixels, {active.data} pictures"
    yield Check("profile", found)
    yield Check("threads", f"{active.threads} of {os.cpu_count()} processors")


def _device() -> Iterator[Check]:
    best = profile.best_device()
    if best == "cpu":
        yield Check("device", "cpu (no GPU found; the tiny profile needs none)")
    else:
        import torch

        name = torch.cuda.get_device_name() if best == "cuda" else "Apple GPU"
        advice = "" if profile.current().name == "full" else "To use it: %env COURSE_PROFILE=full"
        yield Check("device", f"{best}: {name}", OK if not advice else NOTE, advice)


def _weights() -> Iterator[Check]:
    from course_lib import backbones

    try:
        backbones.load("efficientnet_lite0")
    except (CourseError, ImportError) as error:
        yield Check("weights", "EfficientNet-Lite0 not usable", PROBLEM, str(error))
    else:
        yield Check("weights", "EfficientNet-Lite0, ImageNet, from the installed package")


def _bundled_data() -> Iterator[Check]:
    from course_lib.data import manifest

    try:
        count = manifest.verify(manifest.bundled_folder())
    except (CourseError, OSError) as error:
        yield Check("bundled pictures", str(error), PROBLEM, "course data render")
    else:
        yield Check("bundled pictures", f"{count} of {count}, all as the manifest says")


def _real_data() -> Iterator[Check]:
    if (data_dir() / "hotdog" / "train").is_dir():
        yield Check("d2l pictures", "found in data/hotdog")
    else:
        yield Check("d2l pictures", "not here (only the full profile needs them)", OK)


def _space() -> Iterator[Check]:
    free = shutil.disk_usage(repo_root()).free / 1e9
    if free < 1:
        yield Check("disk", f"{free:.1f} GB free", PROBLEM, "Free at least 1 GB.")
    else:
        yield Check("disk", f"{free:.0f} GB free")
