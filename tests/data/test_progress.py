"""Bars are for who watches: none in a log, one where it is wished for, and none is left behind."""

import hashlib
import os
import re
import subprocess
import sys

import pytest

from tests.data.loopback import Loopback, zip_of

FETCH = """
import sys
from pathlib import Path
from course_lib.data import Archive, fetch
from course_lib.data.inspection import inspect
from course_lib.data import progress

url, sha1, folder = sys.argv[1:]
into = fetch(Archive(url, sha1, "photos.zip", advice="-"), Path(folder))
inspect(into.rglob("*.jpg"), into)
list(progress.bar(3, "Counting", unit="file", iterable=range(3)))
"""


@pytest.mark.parametrize(("wish", "seen"), [("", False), ("0", False), ("1", True)])
def test_a_log_has_no_bars_unless_they_are_wished_for(wish, seen, tmp_path):
    """Downloading, unpacking, looking through the files: standard error is a pipe here."""
    body = zip_of([(f"photos/train/a/{n}.jpg", b"x" * 9000) for n in range(3)])
    with Loopback(body) as server:
        done = subprocess.run(
            [sys.executable, "-c", FETCH, server.url("good"),
             hashlib.sha1(body).hexdigest(), str(tmp_path)],
            capture_output=True, timeout=120,
            env={**os.environ, "COURSE_PROGRESS_BAR": wish, "TQDM_MININTERVAL": "0"},
        )  # fmt: skip
    shown = done.stderr.decode()
    assert done.returncode == 0, shown
    for word in ("Unpacking", "photos.zip", "Counting"):
        assert (word in shown) is seen, shown
    if seen:  # each bar comes to its end, and wipes its line
        for ends in (r"photos.zip: 100%", r"Unpacking photos.zip: 100%", r"Counting: 100%"):
            assert re.search(ends, shown), shown
        assert shown.rpartition("\r")[2] == ""
        assert shown.rstrip("\r").rpartition("\r")[2].strip() == ""
    assert done.stdout == b""
