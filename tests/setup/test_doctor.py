"""The doctor's checks, made from real conditions."""

import json
import os

import pytest

from course_lib import cli
from course_lib.setup import doctor
from course_lib.setup.bundle import making
from course_lib.setup.doctor import NOTE, OK, PROBLEM, Check, Report


@pytest.fixture(scope="module")
def report():
    return doctor.examine()


def test_it_looks_at_everything_a_chapter_needs(report):
    looked_at = {check.what for check in report.checks}
    assert looked_at >= {
        "Python", "torch", "torchvision", "timm", "d2l", "jupyterlab", "profile", "threads",
        "device", "weights", "bundled pictures", "d2l pictures", "disk",
    }  # fmt: skip
    assert report.ready


def test_every_problem_says_what_to_do():
    report = Report((Check("a", "fine"), Check("b", "bad", PROBLEM, "do this")))
    assert not report.ready
    assert "do this" in str(report)
    assert "do this" in report._repr_html_()
    assert "1 problem," in report.verdict


def test_a_note_is_no_problem():
    assert Report((Check("a", "x", NOTE, "could do"), Check("b", "y", OK))).ready


def test_html_is_escaped():
    assert "<script>" not in Report((Check("a", "<script>"),))._repr_html_()


def test_a_missing_package_is_found(monkeypatch):
    real = doctor.metadata.version

    def without_timm(name):
        if name == "timm":
            raise doctor.metadata.PackageNotFoundError(name)
        return "2.0" if name == "torch" else real(name)

    monkeypatch.setattr(doctor.metadata, "version", without_timm)
    (problem,) = [each for each in doctor._packages() if each.state == PROBLEM]
    assert "missing timm" in problem.found
    assert "torch 2.0 (needs >=2.9)" in problem.found
    assert "make install" in problem.advice


@pytest.fixture
def bundle(tmp_path):
    """What the doctor looks at in a bundle."""
    folder = tmp_path / "stick"
    (folder / "wheels").mkdir(parents=True)
    (folder / "wheels" / "a-1.0-py3-none-any.whl").write_bytes(b"a wheel")
    (folder / "handouts" / "sheets").mkdir(parents=True)
    targets = {f"linux-x86_64-{each}": [] for each in ("3.11", "3.12", "3.13")}
    (folder / "bundle.json").write_text(json.dumps({"torch": "cpu", "targets": targets}))
    making._write_sums(folder)
    return folder


def states(report):
    return {check.what: check.state for check in report.checks}


def test_a_whole_bundle_can_go_to_the_room(bundle, capsys):
    assert cli.main(["doctor", "--room", str(bundle)]) == 0
    said = capsys.readouterr().out
    assert "Install one of 3.11, 3.12, 3.13 on each machine before the day." in said
    assert "linux-x86_64 with Python 3.11, 3.12, 3.13" in said
    assert said.strip().endswith("Ready: the bundle can go to the room.")


def test_what_is_damaged_or_tells_answers_is_a_problem(bundle, tmp_path):
    (bundle / "handouts" / "answers").mkdir()
    assert states(doctor.examine_room(bundle))["handouts"] == PROBLEM
    (bundle / "wheels" / "a-1.0-py3-none-any.whl").write_bytes(b"half")
    found = doctor.examine_room(bundle)
    assert states(found)["files"] == PROBLEM
    assert "a-1.0-py3-none-any.whl is missing or damaged" in str(found)
    assert not doctor.examine_room(tmp_path).ready


def test_a_bundle_for_one_python_or_with_cuda_gets_a_note(bundle):
    about = {"torch": "default", "targets": {"linux-x86_64-3.12": []}}
    (bundle / "bundle.json").write_text(json.dumps(about))
    making._write_sums(bundle)
    found = states(doctor.examine_room(bundle))
    assert found["other Pythons"] == found["PyTorch"] == NOTE


@pytest.mark.parametrize("content", [
    "[1]", "[" * 5000, '{"targets": [1], "torch": "cpu"}', '{"targets": {"linux-3.11": []}}',
    "\udcff",
])  # fmt: skip
def test_a_bundle_that_says_something_else_is_none(bundle, content):
    (bundle / "bundle.json").write_text(content, errors="surrogateescape")
    assert states(doctor.examine_room(bundle)) == {"bundle": PROBLEM}


def test_a_bundle_of_pipes_and_words_that_a_terminal_obeys(bundle):
    targets = {"\x1b[2Jlinux-3.11": [], "x-3.12": []}
    (bundle / "bundle.json").write_text(json.dumps({"torch": "cpu", "targets": targets}))
    (bundle / "SHA256SUMS").write_text(f"{'0' * 64}  \x1b[2J\n")
    said = str(doctor.examine_room(bundle))
    assert all(line.isprintable() for line in said.split("\n"))
    for name in ("SHA256SUMS", "bundle.json"):
        (bundle / name).unlink()
        os.mkfifo(bundle / name)
        assert states(doctor.examine_room(bundle)) == {"bundle": PROBLEM}
