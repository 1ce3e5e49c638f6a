"""The badge and the first cell of every notebook, as text.

The cell can use nothing of the course, since it fetches it. So it holds the minimum, and hands over
to :func:`course_lib.setup.hosting.prepare` as soon as it can.
"""

from course_lib.publishing.addresses import Address

TAG = "setup"  # both cells carry it, and no other cell does
NOWHERE = ("OWNER/NAME", "TAG")  # stands in the cell until an address is configured

_CELL = """\
# On Colab and Kaggle, this cell fetches the course. On your own machine it does nothing.
import os
import subprocess
import sys
from pathlib import Path

REPO, REF = "{repo}", "{ref}"

if "google.colab" in sys.modules or "KAGGLE_KERNEL_RUN_TYPE" in os.environ:
    if REPO == "OWNER/NAME":
        raise SystemExit("No address is set: write the course's GitHub repository and tag above.")
    url, folder = f"https://github.com/{{REPO}}", Path.home() / "course" / REPO / REF
    if not folder.exists():
        partial = f"{{folder}}.{{os.getpid()}}"  # moved to its place when it is whole
        fetch = ["git", "clone", "--quiet", "--depth=1", f"--branch={{REF}}", url, partial]
        never_ask = {{**os.environ, "GIT_TERMINAL_PROMPT": "0"}}
        git = subprocess.run(fetch, capture_output=True, text=True, env=never_ask)
        if git.returncode:
            raise SystemExit(
                f"The course could not be fetched from {{url}} at {{REF}}. Is the Internet on, the "
                f"address right and public? git says: {{' '.join(git.stderr.split())}}"
            )
        Path(partial).rename(folder)
    sys.path.insert(0, str(folder))
    from course_lib.setup import hosting

    hosting.prepare()
"""

_BADGE = """\
[![Open this chapter in Colab](https://colab.research.google.com/assets/colab-badge.svg)]({colab})
[![Open this chapter in Kaggle](https://kaggle.com/static/images/open-in-kaggle.svg)]({kaggle})

On Colab or Kaggle, run the next cell first. What you do there is lost when the runtime ends:
`hosting.keep_work()` keeps it in your Google Drive; without that, the last cell of the chapter
gives it to you as a file."""


def first_cell(where: Address | None) -> str:
    """The code of the first cell: the same in every notebook."""
    repo, ref = (where.repo, where.ref) if where else NOWHERE
    return _CELL.format(repo=repo, ref=ref).rstrip("\n")


def badge(where: Address, name: str) -> str:
    """The badge of a chapter such as ``"02_hotdog"``, in Markdown."""
    return _BADGE.format(colab=where.colab(name), kaggle=where.kaggle(name))
