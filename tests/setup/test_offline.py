"""The block that makes tests and notebooks run as on a train."""

import os
import subprocess
import sys

from course_lib.paths import repo_root

OUTSIDE = "192.0.2.1"  # reserved for documentation (RFC 5737): nobody's address


def python(code, blocked):
    path = str(repo_root() / "tests" / "offline") if blocked else ""
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_nothing_outside_this_machine_can_be_reached():
    answer = python(f"import socket; socket.create_connection(('{OUTSIDE}', 80), 5)", True)
    assert "tests run offline" in answer.stderr


def test_names_are_not_even_looked_up():
    answer = python("import socket; socket.getaddrinfo('pytorch.example', 443)", True)
    assert "tests run offline" in answer.stderr


def test_this_machine_can_be_reached():
    code = (
        "import socket; s = socket.create_server(('127.0.0.1', 0));"
        "c = socket.create_connection(s.getsockname()); print('connected')"
    )
    assert python(code, True).stdout.strip() == "connected"


def test_make_test_uses_the_block():
    makefile = (repo_root() / "Makefile").read_text()
    assert "PYTHONPATH=tests/offline" in makefile
