"""The first command: what it does when all is well, and its one line when something is not.

The real uv and the real pip, against small wheels and servers of this machine.
"""

import ast
import functools
import hashlib
import http.server
import os
import shutil
import ssl
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from course_lib.paths import repo_root
from course_lib.setup import bootstrap
from tests.setup.shelf import BACKEND, PROJECT, lock, wheel

CLOSED = "http://127.0.0.1:9"  # nothing listens there
BESIDE = str(Path(sys.executable).parent)
UV = shutil.which("uv", path=os.pathsep.join([BESIDE, os.environ["PATH"]]))
ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="PyTorch has a CPU build for Linux")


@pytest.fixture
def clone(tmp_path):
    """What the set-up reads, in a folder of its own: a small course."""
    root = tmp_path / "clone with spaces"
    (root / "course_lib" / "setup").mkdir(parents=True)
    for name in ("Makefile", "course_lib/setup/bootstrap.py"):
        shutil.copy(repo_root() / name, root / name)
    (root / "pyproject.toml").write_text(PROJECT)
    (root / "backend.py").write_text(BACKEND)
    wheel(tmp_path / "wheels", "alpha", "1.0")
    (root / "requirements.lock").write_text(lock(tmp_path / "wheels", "alpha==1.0"))
    return root


@pytest.fixture
def tools(tmp_path):
    """A path with uv on it and nothing else."""
    assert UV, "uv is among the tools that the course installs"
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools" / "uv").symlink_to(UV)
    return str(tmp_path / "tools")


@pytest.fixture(scope="module")
def pip_alone(tmp_path_factory):
    """What ``.venv-uv`` is before pip has brought uv."""
    return bootstrap.make_venv(tmp_path_factory.mktemp("pip") / "venv").parents[1]


@pytest.fixture
def path(request, clone, tools, pip_alone):
    """With uv, or with pip that wants to fetch uv first."""
    if request.param == "uv":
        return tools
    wheel(clone.parent / "gone", "uv", "0.9")
    with (clone / "requirements.lock").open("a") as file:
        file.write(lock(clone.parent / "gone", "uv==0.9"))
    (clone / ".venv-uv").symlink_to(pip_alone)
    return ""


BOTH = pytest.mark.parametrize("path", ["uv", "pip"], indirect=True)


class Answers(http.server.SimpleHTTPRequestHandler):
    """Serves a folder; as a proxy, asks for a password."""

    def do_CONNECT(self):
        self.send_error(407, "Proxy Authentication Required")

    def log_message(self, *_):
        pass


@pytest.fixture
def serve():
    """Starts a server for a folder and returns its address."""
    servers = []

    def start(folder, context=None):
        handler = functools.partial(Answers, directory=folder)
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        if context:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"{'https' if context else 'http'}://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def index(folder, *wheels):
    """A package index of wheels, as a folder that a server can serve."""
    for path in wheels:
        place = folder / path.name.split("-")[0].replace("_", "-")
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        link = f'<a href="{path.name.replace("+", "%2B")}#sha256={digest}">{path.name}</a>\n'
        with (place / "index.html").open("a") as page:
            page.write(link)
    return folder


def run(command, folder, **environment):
    outside = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PIP_", "UV_", "SSL_", "REQUESTS_CA", "CURL_CA"))
    }
    own = {
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_RETRIES": "0",
        "PYTHONPATH": "",
        "HOME": str(folder.parent),
        "UV_CACHE_DIR": str(folder.parent / "cache"),
    }
    return subprocess.run(
        command,
        cwd=folder,
        env={**outside, **own, **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def set_up(clone, *words, **environment):
    script = [sys.executable, "course_lib/setup/bootstrap.py", *words]
    return run(script, clone, **environment)


def one_line(answer):
    assert answer.returncode == 1, answer.stdout + answer.stderr
    assert "Traceback" not in answer.stderr
    lines = answer.stderr.strip().splitlines()
    assert len(lines) == 1, answer.stderr
    return lines[0]


def versions(clone):
    code = "import json; from importlib import metadata as m; print(json.dumps(" \
           "{d.name: d.version for d in m.distributions()}))"  # fmt: skip
    python = bootstrap.python_of(clone / ".venv")
    shown = subprocess.run([python, "-I", "-c", code], capture_output=True, text=True, check=True)
    return ast.literal_eval(shown.stdout)


@pytest.mark.parametrize("version", [(2, 7), (3, 10), (3, 14)])
def test_another_python_is_refused_with_what_to_do(version):
    with pytest.raises(bootstrap.SetupError, match=r"needs 3\.11 to 3\.13.*PYTHON="):
        bootstrap.check_python(version)


@pytest.mark.parametrize("version", [(3, 11), (3, 12), (3, 13)])
def test_the_tested_pythons_are_accepted(version):
    bootstrap.check_python(version)


def test_an_old_python_can_read_it():
    """It starts uv, which brings a Python that fits."""
    ast.parse(Path(bootstrap.__file__).read_text(), feature_version=(3, 8))


def test_no_python_is_one_line(clone):
    answer = run(["make", "--no-print-directory", "install", "PYTHON="], clone)
    assert answer.returncode != 0
    assert "no Python 3.11, 3.12 or 3.13 was found" in answer.stderr.splitlines()[0]
    assert "Traceback" not in answer.stderr


def test_make_asks_uv_for_a_python_where_none_is_on_the_path(clone, tmp_path):
    """A stand-in for uv that knows of one; pip then meets a closed port, so it has started."""
    (tmp_path / "tools").mkdir()
    for tool in ("make", "sh", "test"):
        (tmp_path / "tools" / tool).symlink_to(shutil.which(tool))
    known = f'#!/bin/sh\ntest "$1 $2" = "python find" && echo "{sys.executable}"\n'
    (tmp_path / "tools" / "uv").write_text(known)
    (tmp_path / "tools" / "uv").chmod(0o755)
    environment = {"PATH": str(tmp_path / "tools"), "PIP_INDEX_URL": CLOSED, "PIP_RETRIES": "1"}
    with (clone / "requirements.lock").open("a") as file:
        file.write("uv==0.9 --hash=sha256:" + 64 * "0")
    answer = run(["make", "--no-print-directory", "install"], clone, **environment)
    assert "package index can't be reached" in answer.stderr.splitlines()[0]


def test_too_little_space_is_said_before_the_download(tmp_path):
    with pytest.raises(bootstrap.SetupError, match=r"GB free in .* needs .*TORCH=cpu"):
        bootstrap.check_space(tmp_path, 10**18)


def test_uv_installs_what_the_lock_says_from_where_pip_is_told_to(clone, tools, serve, tmp_path):
    """Not the newest; the second run needs neither uv nor an index."""
    newer = wheel(tmp_path / "newer", "alpha", "2.0")
    address = serve(index(tmp_path / "index", newer, *(tmp_path / "wheels").glob("*.whl")))
    answer = set_up(clone, PATH=tools, PIP_INDEX_URL=address)
    assert answer.returncode == 0, answer.stderr
    assert versions(clone) == {"alpha": "1.0", "small-course": "1"}
    assert address not in "".join(path.read_text() for path in clone.rglob("*.lock"))
    again = set_up(clone, PATH="", PIP_INDEX_URL=CLOSED)
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")


@ON_LINUX
@BOTH
def test_the_cpu_build_comes_from_its_own_index_and_that_is_said(clone, path, serve, tmp_path):
    """With uv; and without: the index has none, so pip installs the same. Nor has it a torch."""
    wheels = tmp_path / "wheels"
    wheel(wheels, "torch", "2.14.1")
    wheel(wheels, "nvidia-big", "1.0")
    with (clone / "requirements.lock").open("a") as file:
        file.write(lock(wheels, "nvidia-big==1.0", "torch==2.14.1"))
    small = wheel(tmp_path / "small", "torch", "2.14.1+cpu")
    pypi = serve(index(tmp_path / "index", *wheels.glob("[an]*.whl")))
    other = serve(index(tmp_path / "cpu", small))
    script = clone / "course_lib" / "setup" / "bootstrap.py"
    script.write_text(script.read_text().replace(bootstrap.CPU_INDEX, other))
    answer = set_up(clone, "--torch", "cpu", PATH=path, PIP_INDEX_URL=pypi)
    assert answer.returncode == 0, answer.stderr + (clone / "install.log").read_text()
    found = versions(clone)
    assert found["torch"] == "2.14.1+cpu"
    assert found["alpha"] == "1.0"
    assert found.keys().isdisjoint({"nvidia-big", "uv"})
    assert f"Not checked: torch and torchvision, which came from {other}" in answer.stdout
    assert ("pip installs" in answer.stdout) == (path == "")


@BOTH
def test_without_a_network_one_line_says_so_and_the_next_try_begins_afresh(clone, path):
    """A closed port of this machine."""
    line = one_line(set_up(clone, PATH=path, PIP_INDEX_URL=CLOSED, PIP_RETRIES="1"))
    assert "package index can't be reached" in line
    log = Path(line.rpartition("Full log: ")[2].rstrip(")"))
    assert "Connection refused" in log.read_text()
    assert not (clone / ".venv" / "course-installed").exists()


def test_another_file_than_the_locked_one_is_refused(clone, tools, serve, tmp_path):
    other = wheel(tmp_path / "other", "alpha", "1.0", ["something-else"])
    line = one_line(set_up(clone, PATH=tools, PIP_INDEX_URL=serve(index(tmp_path / "i", other))))
    assert "hash isn't that in requirements.lock" in line
    assert "alpha" not in versions(clone)


@BOTH
def test_a_certificate_that_nobody_knows_is_one_line(clone, path, serve, tmp_path):
    if not shutil.which("openssl"):
        pytest.skip("needs openssl to make a certificate")
    key, certificate = tmp_path / "key", tmp_path / "certificate"
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=127.0.0.1",
            "-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=CA:FALSE",
            "-keyout", key, "-out", certificate]  # fmt: skip
    subprocess.run(make, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    address = serve(tmp_path, context)
    line = one_line(set_up(clone, PATH=path, PIP_INDEX_URL=address, PIP_RETRIES="1"))
    assert "certificate was not accepted" in line


@BOTH
def test_a_proxy_that_asks_for_a_password_is_one_line(clone, path, serve, tmp_path):
    told = {"PIP_INDEX_URL": "https://nowhere.invalid/simple", "PIP_PROXY": serve(tmp_path)}
    line = one_line(set_up(clone, PATH=path, PIP_RETRIES="1", **told))
    assert "proxy wants a name and a password" in line


@pytest.mark.parametrize(
    ("log", "expected"),
    [
        ("ERROR: Could not install: [Errno 28] No space left on device", "disk is full"),
        ("cause: failed to write to file `c/CACHEDIR.TAG`: (os error 28)", "disk is full"),
        ("[Errno 13] Permission denied: '/usr/lib'", "folder of your own"),
        ("cause: failed to create directory `c`: Permission denied (os error 13)", "of your own"),
        ("error: failed to create directory `t`: Read-only file system (os error 30)", "your own"),
        ("error: Failed to download `x/cpython-3.12.1-x86_64.tar.gz`\n cause: tcp", "python.org"),
        ("error: No interpreter found for Python >=3.11, <=3.13.99 in managed", "No Python 3.11"),
        ("cause: dns error\n cause: failed to lookup: Name or service not known", "be reached"),
        ("cause: HTTP status server error (502 Bad Gateway) for url (http://x/)", "be reached"),
        ("cause: Because six was not found in the package registry and you", "lacks a package"),
        ("ERROR: No matching distribution (from versions: none)", "lacks a package"),
        ("Collecting x\nERROR: something else", "ERROR: something else"),
        ("", "without an error message"),
    ],
)
def test_what_uv_and_pip_say_becomes_one_line(log, expected):
    """Words of the two, on a full and on a read-only file system and of other failures."""
    assert expected in bootstrap.explain(log, "default")


def test_what_pip_is_told_reaches_uv(tmp_path, monkeypatch):
    for name in list(os.environ):
        if name.startswith(("PIP_", "UV_", "SSL_")) or "PROXY" in name.upper():
            monkeypatch.delenv(name)
    (tmp_path / "wheels").mkdir()
    settings = tmp_path / "pip.conf"
    settings.write_text(
        "[global]\nindex-url = https://mirror.example/simple\ncert = /etc/school.pem\n"
        f"find-links = {tmp_path}/wheels {tmp_path}/gone\nproxy = http://proxy.example:3128\n"
        "[install]\nextra-index-url = https://more.example/simple\n  file:///no/such/folder\n"
    )
    monkeypatch.setenv("PIP_CONFIG_FILE", str(settings))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    elsewhere = {
        "SSL_CERT_FILE": "/etc/school.pem",
        "UV_FIND_LINKS": f"{tmp_path}/wheels",
        "HTTP_PROXY": "http://proxy.example:3128",
        "HTTPS_PROXY": "http://proxy.example:3128",
    }
    indexes = {
        "UV_DEFAULT_INDEX": "https://mirror.example/simple",
        "UV_INDEX": "https://more.example/simple",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
    }
    assert bootstrap.uv_environment(sys.executable) == {**elsewhere, **indexes}
    monkeypatch.setenv("PIP_INDEX_URL", "https://nearer.example/simple")
    told = bootstrap.uv_environment(sys.executable)
    assert told["UV_DEFAULT_INDEX"] == "https://nearer.example/simple"
    monkeypatch.setenv("UV_INDEX", "https://own.example/simple")
    assert bootstrap.uv_environment(sys.executable) == elsewhere, "uv's own setting holds"
    monkeypatch.delenv("UV_INDEX")
    (tmp_path / "uv").mkdir()
    (tmp_path / "uv" / "uv.toml").write_text("")
    monkeypatch.setenv("https_proxy", "http://mine.example")
    elsewhere.pop("HTTPS_PROXY")
    assert bootstrap.uv_environment(sys.executable) == elsewhere


def test_a_second_run_installs_nothing(tmp_path):
    """With the stamp of the same requirements, not even the venv's Python is looked for."""
    venv = tmp_path / ".venv"
    venv.mkdir()
    stamp = bootstrap.digest("cpu", sys.version.split()[0])
    (venv / "course-installed").write_text(stamp)
    bootstrap.install(venv, "cpu")
    assert [path.name for path in venv.iterdir()] == ["course-installed"]


def test_changed_requirements_or_another_build_install_again():
    python = sys.version.split()[0]
    assert bootstrap.digest("cpu", python) != bootstrap.digest("default", python)
    assert bootstrap.digest("cpu", python) != bootstrap.digest("cpu", "3.12.0")
