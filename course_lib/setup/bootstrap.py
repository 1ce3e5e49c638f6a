"""Make ``.venv`` and install the course in it: what ``make lab`` and ``make test`` do first.

Needs nothing but a Python (3.8 will do: uv brings a fitting one). uv installs, in seconds; it comes
from the path, or from pip into ``.venv-uv``. Where uv can't be had, pip installs the same. Every
file is compared with its hash in ``requirements.lock``. A second run finds its stamp and installs
nothing. When something is in the way (disk, network, ...), it says so in one line and leaves a log.

    python course_lib/setup/bootstrap.py             # PyTorch from PyPI (with CUDA on Linux)
    python course_lib/setup/bootstrap.py --torch cpu # PyTorch's CPU build: a third of the download
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OLDEST, NEWEST = (3, 11), (3, 13)
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
BUILT_FOR_CPU = ("torch", "torchvision")  # what comes from there
CUDA = ("cuda-", "nvidia-", "triton")  # so begin the names of what only a CUDA build needs
GIGABYTE = 10**9
SPACE_NEEDED = {"default": 8 * GIGABYTE, "cpu": 3 * GIGABYTE}
LOCK = "requirements.lock"
EVERY = 15  # seconds between lines that tell how far an installation is
INPUTS = ("pyproject.toml", LOCK)

# What uv and pip write to the log, and what that means in one line. The first match wins.
CAUSES = (
    (
        r"No space left on device|Errno 28|os error 28|os error 112",
        "The disk is full. Free about {space:.0f} GB where the course is, or take the smaller "
        "CPU build with: make lab TORCH=cpu",
    ),
    (
        r"Hash mismatch for|DO NOT MATCH THE HASHES",
        "A package is not the one that the course was tested with, so it was not installed: its "
        f"hash isn't that in {LOCK}. Run the command again; if that is no help, ask whoever runs "
        "your package index.",
    ),
    (
        r"No interpreter found|Failed to download `[^`]*/cpython-",
        "No Python 3.11, 3.12 or 3.13 was found, and uv could not fetch one. Install one from "
        "python.org or your package manager, or name it: make lab PYTHON=/path/to/python3.12",
    ),
    (
        r"407 Proxy Authentication|proxy authorization required",
        "The proxy wants a name and a password. Set them with: "
        "export HTTPS_PROXY=http://NAME:PASSWORD@PROXY:PORT, and run the command again.",
    ),
    (
        r"SSLError|CERTIFICATE_VERIFY_FAILED|invalid peer certificate",
        "The package index's certificate was not accepted. Set your network's certificate with: "
        "pip config set global.cert FILE, and run the command again.",
    ),
    (
        r"Permission denied|Errno 13|os error 13|os error 30|Errno 30",
        "A file could not be written. Clone the course into a folder of your own and run the "
        "command again.",
    ),
    (
        r"NewConnectionError|Connection refused|Name or service not known|ConnectTimeout"
        r"|Temporary failure in name resolution|getaddrinfo failed|Network is unreachable"
        r"|Read timed out|ProxyError|RemoteDisconnected|ConnectionResetError"
        r"|error sending request|HTTP status server error|operation timed out",
        "The package index can't be reached. Connect to the Internet for the installation and "
        "run the command again (afterwards the course works offline).",
    ),
    (
        r"\(from versions: none\)|was not found in the package registry",
        "The package index lacks a package. If pip is set to a mirror (pip config list), ask "
        "whoever runs it, or take PyPI itself; then run the command again.",
    ),
)

# How pip's settings are called in uv's environment.
UV_NAMES = {
    "index-url": ("UV_DEFAULT_INDEX",),
    "extra-index-url": ("UV_INDEX",),
    "find-links": ("UV_FIND_LINKS",),
    "no-index": ("UV_NO_INDEX",),
    "trusted-host": ("UV_INSECURE_HOST",),
    "retries": ("UV_HTTP_RETRIES",),
    "timeout": ("UV_HTTP_TIMEOUT",),
    "default-timeout": ("UV_HTTP_TIMEOUT",),
    "cert": ("SSL_CERT_FILE",),
    "proxy": ("HTTP_PROXY", "HTTPS_PROXY"),
}
UV_INDEXES = ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX", "UV_EXTRA_INDEX_URL", "UV_NO_INDEX")


class SetupError(Exception):
    """Something is in the way; the message is one line and says what to do."""


def fits(version: tuple[int, int]) -> bool:
    """Whether the course is tested on a Python."""
    return OLDEST <= version <= NEWEST


def check_python(version: tuple[int, int]) -> None:
    """Refuse a Python that the course isn't tested on."""
    if not fits(version):
        found, low, high = (".".join(map(str, each)) for each in (version, OLDEST, NEWEST))
        raise SetupError(
            f"This is Python {found}; the course needs {low} to {high}. Install one of them, "
            "then name it: make lab PYTHON=python3.12"
        )


def check_space(folder: Path, needed: int) -> None:
    """Refuse to begin a download that can't fit."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise SetupError(
            f"There are {free / GIGABYTE:.1f} GB free in {folder}; the installation needs "
            f"{needed / GIGABYTE:.0f} GB. Free some, or take the smaller CPU build with: "
            "make lab TORCH=cpu"
        )


def digest(torch: str, python: str) -> str:
    """What the installation depends on, as one hash: equal hash, nothing to install."""
    parts = [torch, python, str(ROOT)]
    parts += [(ROOT / name).read_text(encoding="utf-8") for name in INPUTS]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def explain(log: str, torch: str) -> str:
    """One line for a failed installation, from what uv or pip wrote."""
    for pattern, meaning in CAUSES:
        if re.search(pattern, log):
            return meaning.format(space=SPACE_NEEDED[torch] / GIGABYTE)
    errors = [line.strip() for line in log.splitlines() if line.lower().startswith("error")]
    return errors[-1] if errors else "The installation stopped without an error message."


def locked(lock: Path) -> list[tuple[str, list[str]]]:
    """What a lock holds: requirements such as ``"six==1.17.0"``, each with its hashes."""
    found: list[tuple[str, list[str]]] = []
    for line in lock.read_text(encoding="utf-8").splitlines():
        words = line.strip(" \\")
        if words.startswith("--hash="):
            found[-1][1].append(words)
        elif words and not words.startswith("#"):
            found.append((words, []))
    return found


def write_lock(file: Path, entries: list[tuple[str, list[str]]]) -> None:
    """Write a part of a lock, as :func:`locked` returns it."""
    lines = (" \\\n    ".join([requirement, *hashes]) for requirement, hashes in entries)
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")


def python_of(venv: Path) -> Path:
    """Where a virtual environment has its Python."""
    return venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def make_venv(venv: Path) -> Path:
    """Create a virtual environment with pip in it unless it is there; return its Python."""
    python = python_of(venv)
    works = _runs([python, "-m", "pip", "--version"])
    if not works and not _runs([sys.executable, "-m", "venv", "--clear", venv]):
        raise SetupError(
            f"{sys.executable} can't make a virtual environment. On Debian and Ubuntu: "
            "apt install python3-venv; then run the command again."
        )
    return python


def _runs(command: list[str | Path]) -> bool:
    try:
        return not subprocess.run(command, capture_output=True, check=False).returncode
    except OSError:
        return False


def pip_install(python: Path) -> list[str]:
    """The words with which pip installs into the environment of ``python``."""
    return [str(python), "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]


def find_uv(venv: Path, log: Path) -> str | None:
    """uv from the path, else from an environment of its own, beside ``venv``, made when needed.

    Returns:
        How to call it, or None where the package index has none or it doesn't run.

    Raises:
        CalledProcessError: what kept pip from fetching it would keep it from anything else.
    """
    uv = shutil.which("uv")
    if uv and venv not in Path(uv).absolute().parents and _runs([uv, "--version"]):
        return uv
    own = venv.with_name(venv.name + "-uv")
    uv = str(python_of(own).with_name("uv"))
    if not _runs([uv, "--version"]):
        python = make_venv(own)
        write_lock(own / LOCK, [each for each in locked(ROOT / LOCK) if each[0].startswith("uv==")])
        words = ["--no-deps", "--require-hashes", "-r", str(own / LOCK)]
        try:
            run_logged([*pip_install(python), *words], log, "Fetching uv")
        except subprocess.CalledProcessError:
            said = log.read_text(encoding="utf-8", errors="replace")
            if any(re.search(pattern, said) for pattern, _ in CAUSES[:-1]):
                raise
    return uv if _runs([uv, "--version"]) else None


def uv_environment(python: str | Path) -> dict[str, str]:
    """What pip is told of mirrors, proxies and certificates, for uv, which doesn't read it.

    What uv is told itself holds: then pip's indexes are left out.
    """
    listed = subprocess.run(
        [python, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    ).stdout
    settings: dict[str, str] = {}
    for source in ("global", "install", ":env:"):  # the later one wins, as in pip
        for name, text in re.findall(rf"^{source}\.([\w-]+)=('.*'|\".*\")$", listed, re.MULTILINE):
            settings[name] = ast.literal_eval(text)
    configured = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config", "uv/uv.toml")
    own = configured.exists() or any(name in os.environ for name in UV_INDEXES)
    found = {}
    for name, value in settings.items():
        if name in ("extra-index-url", "find-links"):  # pip skips a folder that isn't there
            places = [each for each in value.split() if _may_be_there(each)]
            value = ("," if name == "find-links" else " ").join(places)
        for variable in UV_NAMES.get(name, ()):
            told = not os.environ.keys().isdisjoint((variable, variable.lower()))
            if value and not told and not (own and name in ("index-url", "extra-index-url")):
                found[variable] = value
    if "UV_INDEX" in found:  # all indexes are asked, as pip does; the hashes decide
        found["UV_INDEX_STRATEGY"] = "unsafe-best-match"
    return found


def _may_be_there(place: str) -> bool:
    path = place[len("file://") :] if place.startswith("file://") else place
    return "://" in path or Path(path).exists()


def commands(install: list[str], venv: Path, torch: str, uv: bool = True) -> list[list[str]]:
    """The installation: what the lock holds, then the course itself.

    The lock is whole, so nothing has to be resolved. It holds what builds the course, too. The
    hashes of PyTorch's CPU build are not in it; elsewhere than on Linux PyPI has no other build.

    Args:
        install: the words with which uv or pip installs.
        venv: the environment; the part of the lock that is for it is written into it.
        torch: ``"default"`` or ``"cpu"``.
        uv: whether uv can be had; else it is left out.
    """
    entries, builds, left_out = locked(ROOT / LOCK), [], () if uv else ("uv==",)
    if cpu_build(torch):
        builds = [f"{each}+cpu" for each, _ in entries if each.split("==")[0] in BUILT_FOR_CPU]
        left_out = (*left_out, *CUDA, *(f"{name}==" for name in BUILT_FOR_CPU))
    write_lock(venv / LOCK, [each for each in entries if not each[0].startswith(left_out)])
    alone = [*install, "--no-deps"]
    found = [[*alone, "--only-binary", ":all:", "--require-hashes", "-r", str(venv / LOCK)]]
    if builds:
        option = "--index-url" if "-m" in install else "--index"  # of pip, of uv
        found.append([*alone, option, CPU_INDEX, *builds])
    return [*found, [*alone, "--no-build-isolation", "-e", "."]]


def cpu_build(torch: str) -> bool:
    """Whether PyTorch comes from its own index."""
    return torch == "cpu" and sys.platform.startswith("linux")


def run_logged(
    command: list[str],
    log: Path,
    what: str,
    environment: dict[str, str] | None = None,
    how_far: Callable[[], str] | None = None,
) -> None:
    """Run a command with its output in ``log``; on a terminal, show that it lives.

    With ``how_far``, that is told as well, elsewhere than on a terminal by a line now and then.
    """
    shows = sys.stdout.isatty()
    told = time.monotonic()
    with log.open("a", encoding="utf-8") as out:
        out.write(f"$ {' '.join(command)}\n")
        out.flush()
        start = time.monotonic()
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, **(environment or {})},
            stdout=out,
            stderr=subprocess.STDOUT,
        )
        while process.poll() is None:
            time.sleep(0.2)
            line = f"{what} ... {time.monotonic() - start:4.0f} s"
            if shows:
                far = f", {how_far()}" if how_far else ""
                print(f"\r{line}{far}", end="", flush=True)
            elif how_far and time.monotonic() - told > EVERY:
                told = time.monotonic()
                print(f"{line}, {how_far()}", flush=True)
    if shows:
        print()
    elif how_far:
        print(f"{what}: {how_far()}", flush=True)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)


def install(venv: Path, torch: str) -> None:
    """Bring ``venv`` in step with the lock; do nothing when it is."""
    stamp = venv / "course-installed"
    wanted = digest(torch, sys.version.split()[0])
    if stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
        return
    if not stamp.exists():
        check_space(venv.parent, SPACE_NEEDED[torch])
    stamp.unlink(missing_ok=True)
    print(
        f"Installing the course into {venv.name} (once; about "
        f"{SPACE_NEEDED[torch] / GIGABYTE:.0f} GB).",
        flush=True,
    )
    log = venv.with_name("install.log")
    log.write_text("", encoding="utf-8")
    try:
        _install(venv, torch, log)
    except subprocess.CalledProcessError:
        reason = explain(log.read_text(encoding="utf-8", errors="replace"), torch)
        raise SetupError(f"{reason} (Full log: {log})") from None
    stamp.write_text(wanted, encoding="utf-8")


def _install(venv: Path, torch: str, log: Path) -> None:
    """With uv, which also finds or fetches a fitting Python; else with pip and this Python."""
    uv, python, environment = find_uv(venv, log), python_of(venv), None
    if uv:
        environment = uv_environment(sys.executable)
        right = f"import sys; sys.exit(not {OLDEST} <= sys.version_info[:2] <= {NEWEST})"
        if not _runs([python, "-c", right]):
            shutil.rmtree(venv, ignore_errors=True)
            fitting = ">={}.{},<={}.{}.99".format(*OLDEST, *NEWEST)
            base = sys.executable if fits(sys.version_info[:2]) else fitting
            run_logged([uv, "venv", "--python", base, str(venv)], log, "Preparing", environment)
        words = [uv, "pip", "install", "--python", str(python)]
    else:
        check_python(sys.version_info[:2])
        print("uv can't be had, so pip installs: minutes instead of seconds.", flush=True)
        words = pip_install(make_venv(venv))
    for command in commands(words, venv, torch, bool(uv)):
        run_logged(command, log, "Installing", environment)
    if cpu_build(torch):
        print(
            f"Not checked: {' and '.join(BUILT_FOR_CPU)}, which came from {CPU_INDEX} and whose "
            f"hashes are not in {LOCK}. Those of everything else agree with it.",
            flush=True,
        )


def main(arguments: list[str] | None = None) -> int:
    """Install; print one line and return 1 when something is in the way."""
    parser = argparse.ArgumentParser(prog="bootstrap", description=__doc__.splitlines()[0])
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv")
    parser.add_argument("--torch", choices=sorted(SPACE_NEEDED), default="default")
    options = parser.parse_args(arguments)
    try:
        install(options.venv.absolute(), options.torch)
    except SetupError as problem:
        print(f"course: {problem}", file=sys.stderr)
        return 1
    except OSError as problem:
        print(f"course: {problem.strerror}: {problem.filename}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("course: stopped. Run the command again to go on.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
