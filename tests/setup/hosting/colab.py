"""A simulated Colab: a `google.colab`, a home of its own, GitHub on this machine's disk."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import nbformat
from nbclient import NotebookClient

REPO, REF = "someone/course", "v1.0"

DRIVE = """
from pathlib import Path

def mount(mountpoint):
    Path(mountpoint, "MyDrive").mkdir(parents=True, exist_ok=True)
"""
FILES = """
downloaded = []

def download(path):
    downloaded.append(path)
"""


def git(folder, *words):
    identity = ["-c", "user.name=Author", "-c", "user.email=author@example.org"]
    quiet = ["-c", "init.defaultBranch=main", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *identity, *quiet, *words], cwd=folder, check=True, capture_output=True)


def publish(checkout, github, repo=REPO, tag=REF):
    """Commit a folder and put it, with a tag, where a simulated Colab finds GitHub."""
    git(checkout, "init", "--quiet")
    git(checkout, "add", "--all")
    git(checkout, "commit", "--quiet", "--message=The course")
    git(checkout, "tag", tag)
    bare = github / repo
    bare.parent.mkdir(parents=True, exist_ok=True)
    git(checkout, "clone", "--quiet", "--bare", str(checkout), str(bare))


class Host:
    """A machine that looks like Colab or Kaggle from inside.

    Args:
        folder: for everything it has.
        github: a folder in which ``OWNER/NAME`` is a repository; asked instead of github.com.
        python: its Python, as the notebook's kernel.
        kind: ``"colab"`` or ``"kaggle"``.
    """

    def __init__(self, folder, github, python, kind="colab", **environment):
        self.python, self.home = Path(python), folder / "home"
        self.content = folder / ("content" if kind == "colab" else "working")
        preloaded = folder / "preloaded"
        for each in (self.home, self.content, preloaded):
            each.mkdir(parents=True)
        config = folder / "gitconfig"
        config.write_text(f'[url "file://{github}/"]\n\tinsteadOf = https://github.com/\n')
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "GIT_CONFIG_GLOBAL": str(config),
            "GIT_CONFIG_NOSYSTEM": "1",
            "OMP_NUM_THREADS": "1",
            "MPLBACKEND": "agg",
            **{name: value for name, value in os.environ.items() if name.startswith("PIP_")},
            "PYTHONPATH": str(preloaded),
            **environment,
        }
        if kind == "colab":
            package = preloaded / "google" / "colab"
            package.mkdir(parents=True)
            (package / "__init__.py").write_text("")
            (package / "drive.py").write_text(DRIVE)
            (package / "files.py").write_text(FILES)
            (preloaded / "sitecustomize.py").write_text("import google.colab\n")
            self.environment["COLAB_RELEASE_TAG"] = "release-colab_20260801"
        else:
            self.environment["KAGGLE_KERNEL_RUN_TYPE"] = "Interactive"

    @property
    def checkout(self):
        return self.home / "course" / REPO / REF

    def run(self, code, **environment):
        """Run code as one cell would be, in a process of its own."""
        return subprocess.run(
            [self.python, "-c", code],
            cwd=self.content,
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )

    def play(self, notebook, timeout=300, **environment):
        """Run a notebook in a kernel of this host, with its folder as the current one."""
        kernels = self.home / "jupyter" / "kernels" / "simulated"
        kernels.mkdir(parents=True, exist_ok=True)
        spec = {
            "argv": [str(self.python), "-m", "ipykernel_launcher", "-f", "{connection_file}"],
            "display_name": "Python 3",
            "language": "python",
        }
        (kernels / "kernel.json").write_text(json.dumps(spec))
        before = os.environ.get("JUPYTER_PATH")
        os.environ["JUPYTER_PATH"] = str(kernels.parent.parent)
        try:
            NotebookClient(
                notebook,
                timeout=timeout,
                kernel_name="simulated",
                coalesce_streams=True,
                resources={"metadata": {"path": str(self.content)}},
            ).execute(env={**self.environment, **environment})
        finally:
            os.environ.pop("JUPYTER_PATH")
            if before is not None:
                os.environ["JUPYTER_PATH"] = before
        return notebook


def cell_book(*sources):
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(each) for each in sources])


def installed(python):
    """Version of every installed package, and when its list of files was last written."""
    code = (
        "import json, os\nfrom importlib import metadata\n"
        "print(json.dumps({d.metadata['Name'].lower(): [d.version, "
        "os.stat(d.locate_file(f'{d._path.name}/RECORD')).st_mtime_ns] "
        "for d in metadata.distributions()}))"
    )
    done = subprocess.run(
        [python, "-I", "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    return json.loads(done.stdout)


def copy_package(name, site):
    """Copy an installed pure package of this Python into another one."""
    from importlib import metadata

    for file in metadata.files(name):
        if ".." not in file.parts and "__pycache__" not in file.parts:
            target = site / file
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file.locate(), target)
