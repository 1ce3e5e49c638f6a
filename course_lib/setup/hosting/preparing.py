"""What the first cell of a notebook does on a host, once it has fetched the course."""

import contextlib
import os
import sys
import threading
import urllib.request
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path

from course_lib import paths, profile
from course_lib.errors import CourseError
from course_lib.paths import repo_root
from course_lib.setup.hosting.errors import HostingError
from course_lib.setup.hosting.packages import install_missing
from course_lib.setup.hosting.work import export_work

PATIENCE = 10.0  # seconds for a server to answer

_chosen: list[str] = []  # the profile that was chosen here, not by you


def prepare() -> None:
    """Install what is missing, choose the profile, find a place that lasts, and say so.

    Run twice, or after a restart of the runtime, it finds everything done. On your own machine it
    does nothing at all.

    Raises:
        HostingError: something is in the way; the message is one line.
    """
    if paths.host() is None:
        return
    installed = install_missing()
    print(f"The course is in {repo_root()}." + (
        f" Installed: {', '.join(installed)}." if installed else " Nothing had to be installed."
    ))  # fmt: skip
    renewed = [name for name in installed if name.replace("-", "_") in sys.modules]
    if renewed:
        print(f"Restart the runtime, so that the new {', '.join(renewed)} is used.")
    print(choose_profile())
    print(_where_work_goes())


def choose_profile() -> str:
    """Take ``full`` on a host with a GPU that can reach its downloads; otherwise stay ``tiny``.

    What ``COURSE_PROFILE`` says always wins. The choice is written there, so that it holds for
    everything in this kernel and for what is started from it.

    Returns:
        One line that tells the choice and its reason.
    """
    said = os.environ.get(profile.ENVIRONMENT_VARIABLE, "").strip()
    if said and [said] != _chosen:
        return f"Profile {said}, as {profile.ENVIRONMENT_VARIABLE} says."
    if profile.best_device() != "cuda":
        change = " (Runtime > Change runtime type)" if paths.host() == "colab" else ""
        return f"Profile tiny: this runtime has no GPU. With one{change} it would be full."
    unreachable = first_unreachable(_downloads())
    if unreachable:
        return f"Profile tiny: there is a GPU, but {unreachable} can't be reached."
    os.environ[profile.ENVIRONMENT_VARIABLE] = "full"
    _chosen[:] = ["full"]
    return "Profile full: this runtime has a GPU. For the small one: %env COURSE_PROFILE=tiny"


def first_unreachable(addresses: Iterable[str]) -> str | None:
    """The first of these that doesn't answer well in time; None when all do.

    Nothing is downloaded. Each is asked in a thread of its own: a header that comes byte by byte
    never ends, whatever the time-out of its socket.
    """
    well: list[str] = []

    def ask(url: str) -> None:
        with contextlib.suppress(Exception):  # no network, a proxy that answers anything at all
            question = urllib.request.Request(url, method="HEAD")
            with urllib.request.urlopen(question, timeout=PATIENCE):
                well.append(url)

    for url in addresses:
        asking = threading.Thread(target=ask, args=(url,), daemon=True)
        asking.start()
        asking.join(PATIENCE)
        if url not in well:
            return url
    return None


def keep_work() -> Path:
    """Keep progress and saved models where they outlive the runtime; on Colab, in your Drive.

    Mounts the Drive if it isn't (Colab asks you), brings along the progress made so far, and makes
    the lasting folder the current one: what you save under a plain name lands there.

    Returns:
        The folder.

    Raises:
        HostingError: this is no host, or the Drive was not mounted.
    """
    where = paths.host()
    if where is None:
        raise HostingError(
            "This is your own machine: what you do here stays here anyway. To carry it to another "
            "one: course export"
        )
    if where == "colab" and paths.lasting_dir() is None:
        _mount_drive()
    folder = paths.lasting_dir()
    if folder is None:
        raise HostingError(
            f"No folder that lasts was found: there is no {paths.DRIVE}. Mount the Drive in the "
            "panel on the left, or take your work home as a file: hosting.export_work()"
        )
    _move_in(folder)
    print(_kept_in(folder))
    return folder


def take_home() -> None:
    """Keep what was done in a chapter; what its last cell does.

    On your own machine it stays anyway. On a host with a place that lasts, it is there already.
    Elsewhere it becomes one file; on Colab your browser downloads it.
    """
    folder = paths.lasting_dir()
    if paths.host() is None:
        print("Your own machine: what you did stays here.")
    elif folder is not None:
        print(_kept_in(folder))
    else:
        try:
            export_work()
        except HostingError as error:  # nothing done yet, say: no reason to stop Run All
            print(error)


def _mount_drive() -> None:
    try:
        drive = import_module("google.colab.drive")
        drive.mount(str(paths.DRIVE.parent))
    except Exception as error:  # Colab raises ValueError and more, when you say no
        raise HostingError(
            f"The Drive was not mounted ({error}). Without it, take your work home as a file: "
            "hosting.export_work()"
        ) from error


def _move_in(folder: Path) -> None:
    """Make the folder the current one, and join the progress of this runtime to what is there."""
    from course_lib.exercises import progress_file
    from course_lib.paths import cache_dir

    try:
        folder.mkdir(parents=True, exist_ok=True)
        os.chdir(folder)
        if progress_file.location() == folder / progress_file.FILE:  # or you chose another place
            progress_file.join(progress_file.read(cache_dir() / progress_file.FILE))
    except OSError as error:
        raise HostingError(f"{folder} can't be used: {error.strerror}.") from error


def _where_work_goes() -> str:
    folder = paths.lasting_dir()
    if folder is None:
        return (
            "This runtime forgets what you do. hosting.keep_work() keeps progress and saved models "
            "in your Drive; hosting.export_work() gives them to you as a file."
        )
    try:
        _move_in(folder)
    except CourseError as error:
        return f"{error} To take your work home as a file: hosting.export_work()"
    return _kept_in(folder)


def _kept_in(folder: Path) -> str:
    return f"Progress, and what you save under a plain name, goes to {folder}."


def _downloads() -> list[str]:
    """What the full profile fetches first: the pictures and ResNet-18."""
    from torchvision.models import ResNet18_Weights

    from course_lib.data.download import HOTDOG

    return [HOTDOG.url, str(ResNet18_Weights.IMAGENET1K_V1.url)]
