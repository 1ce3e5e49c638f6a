"""The doctor's checks, made from real conditions."""

import pytest

from course_lib.setup import doctor
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
