import hashlib
import json

import pytest

from course_lib.data.manifest import read_manifest, verify
from course_lib.errors import DataError

FILES = {f"train/hotdog/{number}.jpg": bytes([number]) * 100 for number in range(7)}


@pytest.fixture
def folder(tmp_path):
    """A small set with its manifest."""
    for name, content in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    pictures = {name: {"sha256": hashlib.sha256(each).hexdigest()} for name, each in FILES.items()}
    (tmp_path / "manifest.json").write_text(json.dumps({"pictures": pictures}))
    return tmp_path


def said(folder):
    with pytest.raises(DataError, match="course data render") as caught:
        verify(folder)
    return str(caught.value)


def test_a_whole_set_is_counted(folder):
    assert verify(folder) == 7


def test_what_is_missing_changed_or_foreign_is_named(folder):
    first, second, *_ = FILES
    (folder / first).write_bytes(FILES[first][:-1] + b"x")
    (folder / second).unlink()
    (folder / "train" / "extra.jpg").write_bytes(b"")
    message = said(folder)
    for words in (f"{first} has changed", f"{second} is missing", "train/extra.jpg is not part"):
        assert words in message


def test_of_many_problems_some_are_named_and_the_rest_counted(folder):
    for name in FILES:
        (folder / name).unlink()
    assert said(folder).count("is missing") == 5
    assert "and 2 more" in said(folder)


def test_no_manifest(tmp_path):
    assert "no manifest.json" in said(tmp_path)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "3", "{}", '{"pictures": [1]}', '{"pictures": {"a": {}}}', "\0\xe9"]
)
def test_a_damaged_manifest(folder, text):
    (folder / "manifest.json").write_bytes(text.encode("latin-1"))
    assert "is damaged" in said(folder)
    with pytest.raises(DataError):
        read_manifest(folder)
