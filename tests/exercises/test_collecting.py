"""A room's predictions: shared as a file and a code, counted from a folder, nothing else read."""

import io
import json
import os

import pytest
import segno

from course_lib import cli
from course_lib.exercises import collecting, predict, predictions
from course_lib.exercises.collecting import CollectingError, collect


@pytest.fixture(autouse=True)
def _nothing_noted(monkeypatch):
    monkeypatch.setattr(predictions, "_noted", {})


def sheet(folder, name, **guesses):
    text = collecting.packed(guesses, name)
    (folder / f"{name}.txt").write_text(text, encoding="utf-8")


def test_from_a_learners_cell_to_the_teachers_page(tmp_path, capsys):
    predict("moved in fc1", 2)
    predict("best depth", "late")
    predict("order", ["head", "body"])
    file = predictions.share("table 3", to=tmp_path)
    sheet(tmp_path, "b", **{"moved in fc1": 0.0, "best depth": "late"})
    sheet(tmp_path, "c", **{"moved in fc1": 1, "best depth": "early"})
    capsys.readouterr()
    assert cli.main(["predictions", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "3 sheets of predictions." in said
    assert "moved in fc1: 3 guesses from 0 to 2, the middle one 1 (0, 1, 2)" in said
    assert "best depth: 2 said 'late'; 1 said 'early'" in said
    assert "order: 1 said 'head, body'" in said
    assert "table 3" in file.read_text(encoding="utf-8")


def test_codes_scanned_into_one_file_count_each(tmp_path):
    """With blanks and other words around them, as a scanner's app leaves them."""
    lines = [collecting.packed({"share": each / 10}, str(each)) for each in (3, 5, 9)]
    (tmp_path / "scanned.txt").write_text("Scanned today:\n  " + "\n\n".join(lines) + "\n")
    assert "share: 3 guesses from 0.3 to 0.9, the middle one 0.5" in collect(tmp_path)


def test_the_same_guess_of_two_people_counts_twice_and_a_sheet_shared_again_once(tmp_path):
    sheet(tmp_path, "a", x=1)
    sheet(tmp_path, "b", x=1)
    (tmp_path / "0.txt").write_text(collecting.packed({"x": 1, "y": 2}, "a"))
    said = collect(tmp_path)
    assert "x: 2 guesses" in said
    assert "y: 1 guess from" in said


def test_other_files_are_named_and_do_no_harm(tmp_path):
    sheet(tmp_path, "a", x=1)
    (tmp_path / "picture.png").write_bytes(bytes(range(256)))
    (tmp_path / "half.txt").write_text(f'{collecting.MARK} {{"sheet": "z", "predictions": {{"x"')
    strange = {"sheet": "n", "predictions": {"x": float("nan")}}
    (tmp_path / "nan.txt").write_text(f"{collecting.MARK} {json.dumps(strange)}")
    said = collect(tmp_path)
    assert "x: 1 guess from 1 to 1" in said
    assert said.endswith("Not read, since they hold no predictions: half.txt, picture.png")


@pytest.mark.parametrize("said", [
    "[" * 5000, *({"sheet": "z", "predictions": each} for each in
                  ({"x": 10**400}, ["xy"], {"x": [[[]]]}, {"x": True}, {"x": None})),
])  # fmt: skip
def test_what_no_share_writes_is_passed_over(tmp_path, said):
    sheet(tmp_path, "a", x=1)
    text = said if isinstance(said, str) else json.dumps(said)
    (tmp_path / "b.txt").write_text(f"{collecting.MARK} {text}")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    assert "x: 1 guess from 1 to 1, the middle one 1 (1)" in collect(tmp_path)


def test_what_strangers_wrote_is_shown_as_words(tmp_path):
    sheet(tmp_path, "a", **{"\x1b[2J\nx": 1, "y": "\x1b[31m\u202e"})
    (tmp_path / "\x1b[2J.txt").write_text("")
    assert all(line.isprintable() for line in collect(tmp_path).split("\n"))


@pytest.mark.parametrize("folder", ["~nobody-here/x", "~\0", "a\0", "\ud800"])
def test_folders_that_nobody_has(folder):
    predict("x", 1)
    for use in (collect, lambda folder: predictions.share(to=folder)):
        with pytest.raises(CollectingError, match="no folder"):
            use(folder)


@pytest.mark.parametrize("make", [True, False])
def test_nothing_to_count_says_what_to_do(tmp_path, make):
    with pytest.raises(CollectingError, match="share" if make else "no folder"):
        collect(tmp_path if make else tmp_path / "none")


def test_sharing_nothing_and_sharing_to_nowhere_are_refused(tmp_path):
    with pytest.raises(CollectingError, match="Nothing is predicted yet"):
        predictions.share(to=tmp_path)
    predict("x", 1)
    with pytest.raises(CollectingError, match="no folder"):
        predictions.share(to=tmp_path / "none")
    assert not list(tmp_path.iterdir())


def test_a_chapters_predictions_fit_a_code():
    """Twelve of them, with long names, are far from what a phone can't read."""
    noted = {f"a quantity with a rather long name, number {n}": 0.123 for n in range(12)}
    code = segno.make(collecting.packed(noted, "abcd1234", "table 12"), error="l", micro=False)
    assert code.version <= 25
    code.save(io.BytesIO(), kind="svg")


def test_what_somebody_is_sharing_right_now_is_no_strange_file(tmp_path):
    sheet(tmp_path, "a", x=1)
    (tmp_path / ".course-0-0-0.tmp").write_text("half")
    assert "Not read" not in collect(tmp_path)


@pytest.mark.parametrize("guess", [10**400, "\ud800", ["\x1b[31m"]],
                         ids=["large", "half a character", "colour"])  # fmt: skip
def test_guesses_that_no_float_and_no_terminal_takes(tmp_path, capsys, guess):
    predict("x", guess)
    predictions.compare("x", 3.0)
    predictions.share("\ud800", tmp_path)
    assert all(line.isprintable() for line in capsys.readouterr().out.split("\n"))
    assert collect(tmp_path).startswith("1 sheet")
