"""The small files around a bundle: INSTALL for each kind of system, and a page that explains."""

import shutil
from html import escape
from pathlib import Path

from course_lib.setup.bundle import installer

_SH = """\
#!/bin/sh
# Installs the course from this folder, without a network, then opens it. Further words, such as a
# folder to install into, are handed on.
here=$(cd "$(dirname "$0")" && pwd)
for python in {names} python3 python; do
    fits='import sys; sys.exit(sys.version_info[:2] not in {versions})'
    if "$python" -I -c "$fits" 2>/dev/null; then
        exec "$python" -I "$here/install.py" "$@"
    fi
done
echo "course: Python {words} was not found. Install it, then run this again." >&2
exit 1
"""

_BAT = """\
@echo off
rem Installs the course from this folder, without a network, then opens it.
for %%v in ({versions}) do (
    py -%%v -I -c "import sys" >nul 2>&1
    if not errorlevel 1 (
        py -%%v -I "%~dp0install.py" %*
        goto end
    )
)
python -I -c "import sys; sys.exit(sys.version_info[:2] not in {tuples})" >nul 2>&1
if not errorlevel 1 (
    python -I "%~dp0install.py" %*
    goto end
)
echo course: Python {words} was not found. Install it from python.org, then run this again.
:end
pause
"""

_PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Pretrain, fine-tune, freeze: install without a network</title>
<style>
body {{ font: 1.1rem/1.5 system-ui, sans-serif; max-width: 42rem; margin: 2rem auto;
  padding: 0 1rem; color: #1a1a1a; background: #fff; }}
code {{ background: #eee; padding: 0 .2em; }}
li {{ margin: .5rem 0; }}
</style>
</head>
<body>
<h1>Install the course without a network</h1>
<h2>Before the day</h2>
<p><strong>Each machine needs Python {words}; it isn't in this folder.</strong> On Windows and macOS
the installer from python.org brings it (64 bits), on Linux the package manager, with
<code>python3-venv</code> on Debian and Ubuntu. Then <code>INSTALL.bat --check</code>, or
<code>sh INSTALL.sh --check</code>, says whether this machine can take the course.</p>
<h2>What is here</h2>
<p>Everything else that the course needs is in this folder: its pages and pictures, the Python
packages, and the pretrained weights. It is for these machines:</p>
<ul>
{targets}
</ul>
<h2>What you do</h2>
<ol>
<li><strong>Windows:</strong> double-click <code>INSTALL.bat</code>.<br>
<strong>macOS and Linux:</strong> open a terminal in this folder and type
<code>sh INSTALL.sh</code>.</li>
<li>It checks the files, installs into the folder <code>pretrain-finetune-freeze</code> in your home
folder (a few minutes), and opens the course in your browser.</li>
</ol>
<p>The next day, open the course from that folder: <code>START.bat</code> on Windows,
<code>sh START.sh</code> elsewhere. This folder, or the stick that it is on, isn't needed any
more.</p>
<p>To install into another folder, name it: <code>sh INSTALL.sh /another/folder</code>.</p>
<h2>For a room of machines</h2>
<p>Copy this folder to each machine, or put it on a share that all can read; nothing is ever written
into it. <code>python install.py --no-open</code> installs without opening the course.
<code>sha256sum -c SHA256SUMS</code> checks every file; the installation does so by itself.</p>
<h2>If something is in the way</h2>
<p>The last line says what it is and what to do. More is in <code>install.log</code> in the folder
of the installation. To begin anew, delete the folder <code>.venv</code> there and start INSTALL
again.</p>
</body>
</html>
"""


def write(out: Path, targets: dict[str, str]) -> None:
    """Write the installer, its two starters and the page into a bundle.

    Args:
        out: the bundle.
        targets: such as ``"linux-x86_64-3.12"``, each with the oldest Python that will do.
    """
    pythons = sorted({name.rpartition("-")[2] for name in targets}, reverse=True)
    tuples = tuple(tuple(map(int, python.split("."))) for python in pythons)
    words = " or ".join(filter(None, [", ".join(pythons[:-1]), pythons[-1]]))
    shutil.copyfile(installer.__file__, out / "install.py")
    names = " ".join(f"python{python}" for python in pythons)
    shell = out / "INSTALL.sh"
    shell.write_text(_SH.format(names=names, versions=tuples, words=words), "utf-8", newline="\n")
    shell.chmod(0o755)
    batch = _BAT.format(versions=" ".join(pythons), tuples=tuples, words=words)
    (out / "INSTALL.bat").write_text(batch, "utf-8", newline="\r\n")
    items = "\n".join(f"<li>{escape(_described(*each))}</li>" for each in targets.items())
    (out / "README.html").write_text(_PAGE.format(targets=items, words=words), "utf-8")


def _described(target: str, oldest: str) -> str:
    system, machine, python = target.split("-")
    kind = {"linux": "Linux", "windows": "Windows", "macos": "macOS"}[system]
    newer = "" if oldest == f"{python}.0" else f" ({oldest} or a later {python})"
    return f"{kind}, {machine}, with Python {python}{newer}"
