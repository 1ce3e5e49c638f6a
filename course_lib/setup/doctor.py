"""Is this machine ready for the course? Versions, device, weights, data, and what to do if not."""

import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html import escape
from importlib import metadata

from packaging.requirements import Requirement
from packaging.version import Version

from course_lib import profile
from course_lib.errors import CourseError
from course_lib.paths import data_dir, repo_root
from course_lib.text import counted

OK, NOTE, PROBLEM = "ok", "note", "PROBLEM"
DISTRIBUTION = "pretrain-finetune-freeze"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: its state is ``ok``, ``note`` or ``PROBLEM``."""

    what: str
    found: str
    state: str = OK
    advice: str = ""


@dataclass(frozen=True)
class Report:
    """All findings; prints as a table, also in a notebook."""

    findings: tuple[Finding, ...]

    @property
    def ready(self) -> bool:
        """Whether no finding is a problem."""
        return all(finding.state != PROBLEM for finding in self.findings)

    @property
    def verdict(self) -> str:
        """One line for the whole."""
        if self.ready:
            return "Ready: every chapter runs on this machine."
        count = sum(finding.state == PROBLEM for finding in self.findings)
        return f"Not ready: {counted(count, 'problem')}, each with what to do above."

    def __str__(self) -> str:
        width = max(len(finding.what) for finding in self.findings)
        lines = []
        for each in self.findings:
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
            for each in self.findings
        )
        head = "<tr><th>state</th><th>what</th><th>found</th></tr>"
        return f"<table>{head}{rows}</table><p>{escape(self.verdict)}</p>"


def examine() -> Report:
    """Look at everything that a chapter needs; nothing is changed and nothing is downloaded."""
    looks: tuple[Callable[[], Iterator[Finding]], ...] = (
        _python,
        _packages,
        _profile,
        _device,
        _weights,
        _bundled_data,
        _real_data,
        _space,
    )
    return Report(tuple(finding for look in looks for finding in look()))


def _python() -> Iterator[Finding]:
    found = f"{platform.python_version()} on {platform.system()} ({platform.machine()})"
    if (3, 11) <= sys.version_info[:2] <= (3, 13):
        yield Finding("Python", found)
    else:
        yield Finding("Python", found, PROBLEM, "Install Python 3.11, 3.12 or 3.13.")


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


def _packages() -> Iterator[Finding]:
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
            yield Finding(requirement.name, version)
    if missing or old:
        advice = "In the course's folder: make install (or the two pip commands of README.md)"
        found = "; ".join(filter(None, [", ".join(missing) and f"missing {', '.join(missing)}",
                                        ", ".join(old)]))  # fmt: skip
        yield Finding("packages", found, PROBLEM, advice)


def _profile() -> Iterator[Finding]:
    try:
        active = profile.current()
    except CourseError as error:
        yield Finding("profile", str(os.environ.get("COURSE_PROFILE")), PROBLEM, str(error))
        return
    found = f"{active.name}: {active.backbone}, {active.image_size} pixels, {active.data} pictures"
    yield Finding("profile", found)
    yield Finding("threads", f"{active.threads} of {os.cpu_count()} processors")


def _device() -> Iterator[Finding]:
    best = profile.best_device()
    if best == "cpu":
        yield Finding("device", "cpu (no GPU found; the tiny profile needs none)")
    else:
        import torch

        name = torch.cuda.get_device_name() if best == "cuda" else "Apple GPU"
        advice = "" if profile.current().name == "full" else "To use it: %env COURSE_PROFILE=full"
        yield Finding("device", f"{best}: {name}", OK if not advice else NOTE, advice)


def _weights() -> Iterator[Finding]:
    from course_lib import backbones

    try:
        backbones.load("efficientnet_lite0")
    except (CourseError, ImportError) as error:
        yield Finding("weights", "EfficientNet-Lite0 not usable", PROBLEM, str(error))
    else:
        yield Finding("weights", "EfficientNet-Lite0, ImageNet, from the installed package")


def _bundled_data() -> Iterator[Finding]:
    from course_lib import renderer as render

    root = data_dir() / "hotdog_rendered"
    try:
        count = render.verify(root)
    except (CourseError, OSError) as error:
        yield Finding("bundled pictures", str(error), PROBLEM, "course data render")
    else:
        yield Finding("bundled pictures", f"{count} of {count}, all as the manifest says")


def _real_data() -> Iterator[Finding]:
    if (data_dir() / "hotdog" / "train").is_dir():
        yield Finding("d2l pictures", "found in data/hotdog")
    else:
        yield Finding("d2l pictures", "not here (only the full profile needs them)", OK)


def _space() -> Iterator[Finding]:
    free = shutil.disk_usage(repo_root()).free / 1e9
    if free < 1:
        yield Finding("disk", f"{free:.1f} GB free", PROBLEM, "Free at least 1 GB.")
    else:
        yield Finding("disk", f"{free:.0f} GB free")
