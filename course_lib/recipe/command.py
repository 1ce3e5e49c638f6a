"""``course train`` and ``course predict``: the recipe from the command line."""

import argparse
import csv
import json
import shutil
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from course_lib import recipe
from course_lib.data.progress import bar
from course_lib.errors import CourseError, DataError
from course_lib.recipe.prediction import Prediction, pictures_in
from course_lib.text import printable, printable_lines

OUT = "mine.safetensors"


def train(options: argparse.Namespace) -> None:
    """Train on a folder of pictures, and save the network.

    Raises:
        CourseError: the folder can't be used, or a file would be replaced that wasn't named.
    """
    if options.out is None and Path(OUT).exists():
        raise CourseError(
            f"{OUT} is there already. To replace it, or to save under another name, say so: "
            "--out NAME.safetensors"
        )
    chosen = {"model": options.model, "size": options.size, "minutes": options.minutes}
    given: dict[str, Any] = {name: value for name, value in chosen.items() if value is not None}
    with warnings.catch_warnings():
        warnings.showwarning = _tell
        run = recipe.fit(options.folder, save_to=options.out or OUT, **given)
    print(run.report(plan=False))
    if run.path is not None:
        print(f"Saved in {run.path}. To ask it: course predict {run.path} PHOTO")


def predict(options: argparse.Namespace) -> int:
    """Say what is on pictures: as a table, as JSON or as CSV on stdout; what is wrong on stderr.

    JSON is a list of objects with ``file``, ``label``, ``sure`` and ``probabilities`` (class ->
    probability, best first). CSV has the columns ``file``, ``label``, ``sure``, and one for each
    class, in the order of the classes.

    Returns:
        0 if every picture was predicted, else 1.

    Raises:
        CheckpointError: the file is none of the recipe's.
    """
    predictor = recipe.load(options.file)
    if options.threshold is not None:
        predictor.threshold = options.threshold
    files, bad = _files(options.photos)
    made: list[Prediction] = []
    with bar(len(files), "Predicting", None) as shown:
        shown.unit = "picture"
        for each in files:
            try:
                made.append(predictor.predict_one(each))
            except DataError as error:
                bad.append(str(error))
            shown.update()
    if options.json:
        print(json.dumps([_record(each) for each in made], indent=1))
    elif options.csv:
        _write_csv(made, predictor.classes)
    else:
        _print_table(made)
    for problem in bad:
        print(f"course: {printable_lines(problem)}", file=sys.stderr)
    return int(bool(bad))


def _tell(message: Warning | str, *_: Any, **__: Any) -> None:
    print(f"course: {printable_lines(str(message))}", file=sys.stderr)


def _files(photos: Sequence[str]) -> tuple[list[str], list[str]]:
    """The files meant, with those in folders and those that fit a pattern; and what is wrong.

    A shell that leaves patterns alone (Windows has two) hands over ``*.jpg`` as it is.
    """
    files: list[str] = []
    bad: list[str] = []
    for photo in photos:
        named = [photo] if Path(photo).exists() else _matching(photo)
        for each in named:
            if not Path(each).is_dir():
                files.append(each)
                continue
            found, unreadable = pictures_in(Path(each))
            files += map(str, found)
            bad += [f"{path} can't be read: {why}." for path, why in unreadable.items()]
            if not found:
                bad.append(f"There is no picture to predict in {each}.")
    return files, bad


def _matching(pattern: str) -> list[str]:
    """The files that fit a pattern; the pattern itself if there are none."""
    root = Path(pattern).anchor
    try:
        found = sorted(map(str, Path(root or ".").glob(pattern.removeprefix(root))))
    except (ValueError, NotImplementedError, OSError):  # no pattern at all
        found = []
    return found or [pattern]


def _record(made: Prediction) -> dict[str, Any]:
    return {"file": made.source, "label": made.label, "sure": made.sure,
            "probabilities": made.probabilities}  # fmt: skip


def _write_csv(made: Sequence[Prediction], classes: Sequence[str]) -> None:
    table = csv.writer(sys.stdout, lineterminator="\n")
    table.writerow(["file", "label", "sure", *map(printable, classes)])
    for each in made:
        shares = [each.probabilities[name] for name in classes]
        words = [printable(each.source), printable(each.label), str(each.sure).lower()]
        table.writerow([*words, *shares])


def _print_table(made: Sequence[Prediction]) -> None:
    """File, answer and the best three classes; long names are cut in front on a narrow console."""
    rows = [[printable(each.source), printable(each.answer), *map(printable, each.best())]
            for each in made]  # fmt: skip
    if not rows:
        return
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    if sys.stdout.isatty():
        room = shutil.get_terminal_size().columns - sum(widths[1:]) - 2 * len(widths)
        widths[0] = min(widths[0], max(room, 12))
    for name, *others in rows:
        short = name if len(name) <= widths[0] else "..." + name[3 - widths[0] :]
        print("  ".join(map(str.ljust, [short, *others], widths)).rstrip())
