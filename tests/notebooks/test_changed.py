"""A learner changes numbers, layers and pictures: every notebook runs to its end all the same.

Each change is written as a learner would type it: what stands in a cell, and what instead. It must
stand there, so that a change of a chapter that undoes one of these tests is noticed.
"""

import re
import shutil

import pytest

from course_lib import paths
from course_lib.publishing import learner, notebooks

START = r"profile\.start\(\)"
SMALL = "profile.start(seed=3, epochs=1, batch_size=5, train_images=24, test_images=20)"
LONG = "profile.start(seed=1, epochs=5, train_images=16, test_images=16)"
MINE = (r"data\.hotdog\(split=", "data.hotdog('{mine}', split=")

CHANGES = {
    "00 seed": ("00_start_here", [(START, "profile.start(seed=5)")]),
    "01 numbers": (
        "01_pretrain_finetune",
        [(START, SMALL), (r'\("train", 96\), \("test", 64\)', '("train", 40), ("test", 30)'),
         (r"epochs=2, batch_size=8", "epochs=1, batch_size=5"), MINE],
    ),
    "02 short": ("02_hotdog", [(START, SMALL), MINE]),
    "02 long": ("02_hotdog", [(START, LONG), (r"size=160, stages=\(\)", "size=96, stages=()")]),
    "03 another network": ("03_loading_weights", [(START, SMALL), (r"lr=0\.1\b", "lr=0.03")]),
    "04 another layer": (
        "04_freezing", [(r'"fc1\b', '"fc2'), (r"model\.fc1", "model.fc2"), (START, SMALL)]
    ),
    "05 pictures": ("05_features", [(START, SMALL), MINE, (r'"epochs": 3', '"epochs": 5')]),
    "06 amounts": (
        "06_staged",
        [(START, SMALL), (r"seed=0, n=25", "seed=2, n=10"), (r"seed=0, n=50", "seed=1, n=20"),
         (r"epochs = 4\b", "epochs = 1"), (r"patience=5", "patience=2")],
    ),
    "07 numbers": ("07_two_hops", [(START, SMALL), (r"epochs=8", "epochs=2")]),
    "08 numbers": ("08_strategies", [(START, "profile.start(seed=3)")]),
    "09 numbers": ("09_adapters", [(START, SMALL), (r"rank=4", "rank=2")]),
    "10 numbers": (
        "10_job",
        [(START, "profile.start(seed=2)"), (r"batch_size = 32", "batch_size = 24"),
         (r"epochs, batch = 10, 64", "epochs, batch = 3, 16"),
         (r"one_save, one_device = 20", "one_save, one_device = 45")],
    ),
}  # fmt: skip
QUICK = {"00 seed"}


@pytest.fixture(scope="module")
def mine(tmp_path_factory):
    """A folder of a learner's own: other class names, other amounts, one part not drawn yet."""
    root = tmp_path_factory.mktemp("pictures")
    bundled = paths.data_dir() / "hotdog_rendered"
    for part, amount in (("train", 30), ("test", 25)):
        for place, (of, name) in enumerate({"hotdog": "pear", "not-hotdog": "zucchini"}.items()):
            (root / part / name).mkdir(parents=True)
            for file in sorted((bundled / part / of).iterdir())[: amount + 3 * place]:
                shutil.copy(file, root / part / name / file.name)
    return root


@pytest.mark.parametrize(
    "change", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow)
               for name in CHANGES],
)  # fmt: skip
def test_a_notebook_runs_with_other_numbers(change, mine):
    name, pairs = CHANGES[change]
    book = notebooks.from_source(notebooks.sources()[name])
    cells = [
        cell
        for cell in book.cells
        if cell.cell_type == "code" and not learner.UNTOUCHED & set(cell.metadata.get("tags", ()))
    ]
    for old, new in pairs:
        assert any(re.search(old, cell.source) for cell in cells), f"{old} stands nowhere"
        for cell in cells:
            cell.source = re.sub(old, new.replace("{mine}", str(mine)), cell.source)
    notebooks.execute(book)  # an error in a cell is raised


def test_every_notebook_with_a_number_to_change_is_tried():
    tried = {name for name, _ in CHANGES.values()}
    assert tried | {"11_claims"} >= set(notebooks.sources())
