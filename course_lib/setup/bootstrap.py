"""Make ``.venv`` and install the course in it: what ``make lab`` and ``make test`` do first.

Needs nothing but Python itself. A second run finds its stamp and installs nothing. When something
is in the way (disk, network, venv), it says so in one line and leaves a log.

    python -m course_lib.setup.bootstrap             # PyTorch from PyPI (with CUDA on Linux)
    python -m course_lib.setup.bootstrap --torch cpu # PyTorch's CPU build: a third of the download
"""

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OLDEST, NEWEST = (3, 11), (3, 13)
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
GIGABYTE = 10**9
SPACE_NEEDED = {"default": 8 * GIGABYTE, "cpu": 3 * GIGABYTE}
INPUTS = ("pyproject.toml", "constraints.txt", "requirements-nodeps.txt")

# What pip writes to its log, and what that means in one line. The first match wins.
CAUSES = (
    (
        r"No space left on device|Errno 28",
        "The disk is full. Free about {space:.0f} GB where the course is, or take the smaller "
        "CPU build with: make lab TORCH=cpu",
    ),
    (
        r"NewConnectionError|Connection refused|Name or service not known|ConnectTimeout"
        r"|Temporary failure in name resolution|getaddrinfo failed|Network is unreachable"
        r"|Read timed out|ProxyError|RemoteDisconnected|ConnectionResetError"
        r"|\(from versions: none\)",
        "The package index can't be reached. Connect to the Internet for the installation and "
        "run the command again (afterwards the course works offline).",
    ),
    (
        r"SSLError|CERTIFICATE_VERIFY_FAILED",
        "The package index's certificate was not accepted. Set your network's certificate with: "
        "pip config set global.cert FILE, and run the command again.",
    ),
    (
        r"Permission denied|Errno 13",
        "A file could not be written. Clone the course into a folder of your own and run the "
        "command again.",
    ),
)


class SetupError(Exception):
    """Something is in the way; the message is one line and says what to do."""


def check_python(version: tuple[int, int]) -> None:
    """Refuse a Python that the course isn't tested on."""
    if not OLDEST <= version <= NEWEST:
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
    """One line for a failed installation, from what pip wrote."""
    for pattern, meaning in CAUSES:
        if re.search(pattern, log):
            return meaning.format(space=SPACE_NEEDED[torch] / GIGABYTE)
    errors = [line.strip() for line in log.splitlines() if line.lower().startswith("error")]
    return errors[-1] if errors else "pip stopped without an error message."


def make_venv(venv: Path) -> Path:
    """Create the virtual environment unless it is there; return its Python."""
    python = venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    works = (
        python.exists()
        and not subprocess.run(
            [python, "-m", "pip", "--version"], capture_output=True, check=False
        ).returncode
    )
    if not works:
        command = [sys.executable, "-m", "venv", "--clear", str(venv)]
        made = subprocess.run(command, capture_output=True, text=True, check=False)
        if made.returncode:
            raise SetupError(
                f"{sys.executable} can't make a virtual environment. On Debian and Ubuntu: "
                "apt install python3-venv; then run the command again."
            )
    return python


def pip_commands(python: Path, torch: str) -> list[list[str]]:
    """The installation: the course with its tools, then d2l without its old pins."""
    pip = [str(python), "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
    extra = ["--extra-index-url", CPU_INDEX] if torch == "cpu" else []
    return [
        [*pip, "-c", "constraints.txt", *extra, "-e", ".[dev]"],
        [*pip, "--no-deps", "-r", "requirements-nodeps.txt"],
    ]


def run_logged(command: list[str], log: Path, what: str) -> None:
    """Run a command with its output in ``log``; on a terminal, show that it lives."""
    shows = sys.stdout.isatty()
    with log.open("a", encoding="utf-8") as out:
        out.write(f"$ {' '.join(command)}\n")
        out.flush()
        start = time.monotonic()
        process = subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=subprocess.STDOUT)
        while process.poll() is None:
            time.sleep(0.2)
            if shows:
                print(f"\r{what} ... {time.monotonic() - start:4.0f} s", end="", flush=True)
    if shows:
        print()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)


def install(venv: Path, torch: str) -> None:
    """Bring ``venv`` in step with the course's requirements; do nothing when it is."""
    check_python(sys.version_info[:2])
    stamp = venv / "course-installed"
    wanted = digest(torch, sys.version.split()[0])
    if stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
        return
    if not stamp.exists():
        check_space(venv.parent, SPACE_NEEDED[torch])
    print(
        f"Installing the course into {venv.name} (once; about "
        f"{SPACE_NEEDED[torch] / GIGABYTE:.0f} GB, a few minutes).",
        flush=True,
    )
    python = make_venv(venv)
    stamp.unlink(missing_ok=True)
    log = venv / "install.log"
    log.write_text("", encoding="utf-8")
    try:
        for command in pip_commands(python, torch):
            run_logged(command, log, "Installing")
    except subprocess.CalledProcessError:
        reason = explain(log.read_text(encoding="utf-8", errors="replace"), torch)
        raise SetupError(f"{reason} (Full log: {log})") from None
    stamp.write_text(wanted, encoding="utf-8")


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
