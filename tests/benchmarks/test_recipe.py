"""What the benchmark compares is compared rightly (how fast anything is, is no test's business)."""

import importlib.util
import os
import re
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, balanced_accuracy_score, log_loss
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from course_lib import backbones, cli, data, paths
from course_lib.benchmarks import recipe as benchmark
from course_lib.benchmarks.recipe import Draw, Row, Trial
from course_lib.features import Features

SIZE = 64
FASTAI = importlib.util.find_spec("fastai") is not None


def paint(folder, count, colour, seed):
    """Noisy pictures of one colour; each file differs."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(seed)
    for number in range(count):
        noise = random.normal(colour, 60, (80, 80, 3)).clip(0, 255).astype("uint8")
        Image.fromarray(noise).save(folder / f"{number}.png")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    root = tmp_path_factory.mktemp("pictures")
    for split, count in (("train", 10), ("test", 6)):
        paint(root / split / "blue", count, (100, 110, 150), len(split))
        paint(root / split / "red", count, (150, 110, 100), 10 + len(split))
    return root


@pytest.fixture(scope="module")
def pool(pictures):
    return benchmark.learning_and_test(pictures)[0]


def rows_of(count, classes=2, seed=0, width=12):
    """Features that overlap, equally many of each class."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.arange(count) % classes
    values = torch.randn(count, width, generator=generator)
    values[:, 0] += targets
    return Features(values, targets, torch.arange(count), None, "", str(seed))


def test_training_and_validation_pictures_are_learned_from_and_no_test_picture(pictures):
    pool, test = benchmark.learning_and_test(pictures)
    assert sorted(pool.paths) == sorted((pictures / "train").rglob("*.png"))
    assert sorted(test.paths) == sorted((pictures / "test").rglob("*.png"))
    for path, target in zip(pool.paths, pool.targets, strict=True):
        assert path.parent.name == pool.classes[target]


@pytest.mark.parametrize("seed", range(3))
def test_the_penalty_is_the_one_of_scikit_learns_own_search(seed):
    rows = rows_of(60, classes=3, seed=seed)
    search = GridSearchCV(
        make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)),
        {"logisticregression__C": [1 / each for each in benchmark.PENALTIES]},
        scoring="neg_log_loss",
        cv=StratifiedKFold(5, shuffle=True, random_state=0),
    ).fit(*rows.arrays())
    expected = 1 / search.best_params_["logisticregression__C"]
    assert benchmark.best_penalty(rows, 3) == pytest.approx(expected)
    assert expected > min(benchmark.PENALTIES)  # so that always the first is wrong


@pytest.mark.filterwarnings("error")  # scikit-learn warns of more parts than pictures of a class
def test_the_penalty_is_chosen_with_two_pictures_of_a_class():
    rows = rows_of(40)
    few = torch.cat([(rows.targets == 0).nonzero()[:2], (rows.targets == 1).nonzero()]).flatten()
    assert benchmark.best_penalty(rows.subset(few), 2) in benchmark.PENALTIES


def test_scores_are_those_of_scikit_learn():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(50, 4, generator=generator)
    targets = torch.randint(0, 3, (50,), generator=generator)  # no picture of the fourth class
    found = benchmark.scored(logits, targets)
    assert found.accuracy == pytest.approx(accuracy_score(targets, logits.argmax(1)))
    assert found.loss == pytest.approx(
        log_loss(targets, logits.double().softmax(1), labels=range(4)), rel=1e-5
    )
    recalls = [(logits.argmax(1)[targets == c] == c).float().mean() for c in range(3)]
    assert benchmark.balanced_accuracy(found) == pytest.approx(float(torch.stack(recalls).mean()))
    some = targets != 2
    unequal = benchmark.scored(logits[some, :2], targets[some])
    expected = balanced_accuracy_score(targets[some], logits[some, :2].argmax(1))
    assert benchmark.balanced_accuracy(unequal) == pytest.approx(expected)


def test_the_head_is_measured_on_the_test_pictures_with_nothing_kept(
    pictures, tmp_path, monkeypatch
):
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path))
    row = benchmark.run_head(pictures, SIZE)
    assert not (paths.cache_dir() / "features").exists()
    assert (row.size, row.pictures, row.test.n) == (SIZE, 20, 12)
    assert row.cpu > 0
    see = backbones.preprocessing("efficientnet_lite0", SIZE).eval
    body = backbones.load("efficientnet_lite0").eval()
    arrays = []
    for split in ("train", "test"):
        found = data.image_folder(pictures, split, see)
        with torch.no_grad():
            images = torch.stack([image for image, _ in found])
            rows = body.forward_head(body.forward_features(images), pre_logits=True)
        arrays.append((rows.numpy(), found.targets))
    x, y = arrays[0]
    other = make_pipeline(StandardScaler(), LogisticRegression(C=0.01)).fit(x, y)
    assert abs(other.score(*arrays[1]) - row.test.accuracy) <= 2 / 12


def test_samples_have_their_counts_and_are_nested(pool):
    for counts in ((4, 4), (2, 9)):
        for seed in range(3):
            part = benchmark.sample(pool, counts, seed)
            assert Counter(part.targets) == dict(enumerate(counts))
            assert len(set(part.paths)) == sum(counts)
            larger = benchmark.sample(pool, [n + 1 for n in counts], seed)
            assert set(part.paths) < set(larger.paths)
            assert benchmark.sample(pool, counts, seed).indices == part.indices
    drawn = {tuple(benchmark.sample(pool, (4, 4), seed).indices) for seed in range(5)}
    assert len(drawn) == 5


def test_a_sample_laid_out_is_read_back_as_it_is(pool, tmp_path):
    part = benchmark.sample(pool, (3, 5), seed=1)
    benchmark.lay_out(part, tmp_path / "train")
    benchmark.lay_out(pool, tmp_path / "test")
    read = [data.image_folder(tmp_path, split) for split in ("train", "val", "test")]
    assert {each.classes for each in read} == {pool.classes}
    learned = [(path.read_bytes(), target) for each in read[:2] for path, target in zip(
        each.paths, each.targets, strict=True)]  # fmt: skip
    expected = [(path.read_bytes(), target) for path, target in zip(
        part.paths, part.targets, strict=True)]  # fmt: skip
    assert sorted(learned) == sorted(expected)
    assert len(read[2]) == len(pool)


def test_a_sample_that_cannot_be_drawn_is_left_out_and_said(pool):
    fitting, told = benchmark.samples(pool, [(4, 4), (11, 11), (8, 10), (1, 5), (3, 3, 3)])
    assert fitting == [(4, 4), (8, 10)]
    assert len(told) == 3
    assert "11" in told[0]
    assert "1 against 5" in told[1]
    assert "there are 2 classes" in told[2]


def made_up(counts, recipe, head, size=160):
    return [
        Draw(counts, seed, size, ours, theirs, 10.0)
        for seed, (ours, theirs) in enumerate(zip(recipe, head, strict=True))
    ]


def test_the_difference_is_of_pairs_with_students_interval():
    ours, theirs = [0.90, 0.85, 0.88, 0.95], [0.86, 0.86, 0.80, 0.93]
    expected = stats.ttest_rel(ours, theirs).confidence_interval(0.95)
    found = benchmark.difference(made_up((8, 112), ours, theirs))
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    other = made_up((10, 10), [0.7, 0.6], [0.7, 0.7], size=96)
    text = benchmark.compared(made_up((8, 112), ours, theirs) + other).splitlines()
    assert text[2].startswith("8 against 112")
    assert f"{np.mean(ours) - np.mean(theirs):+.3f}" in text[2]
    assert f"{expected.low:+.3f} to {expected.high:+.3f}" in text[2]
    assert "160 px x 4" in text[2]
    assert re.match(r"10 +2 +0\.650 +0\.700 +-0\.050", text[3])


def test_the_tables_show_what_was_measured():
    logits = torch.tensor([[2.0, 0], [2, 0], [2, 0], [0, 2], [2, 0]])
    test = benchmark.scored(logits, torch.tensor([0, 0, 0, 1, 1]))
    rows = [Row("recipe", 160, 20, test, 12.4, 23.6), Row("other", 224, note="not here")]
    lines = benchmark.table(rows).splitlines()
    assert lines[2].split() == "recipe 160 px 20 4 of 5 0.8000 0.7500 0.527 12 24".split()
    assert lines[3].split() == "other 224 px not here".split()
    text = benchmark.tried([Trial(96, 0.85, 0.4, 12.0), Trial(160, 0.912, 0.25, 30.0)])
    assert re.search(r"160 px +0\.912 +0\.250 +30", text)


@pytest.mark.skipif(FASTAI, reason="it is installed")
def test_fastai_missing_is_a_row_that_says_how_to_get_it(pictures):
    row = benchmark.run_fastai(pictures, SIZE, threads=1)
    assert row.test is None
    assert "pip install fastai" in benchmark.table([row])


@pytest.mark.skipif(not FASTAI, reason="fastai isn't installed")
def test_fastai_learns_from_the_same_split(pictures):
    row = benchmark.run_fastai(pictures, SIZE, threads=1)
    train = data.image_folder(pictures, "train")
    assert (row.pictures, row.test.n) == (len(train), 12)
    assert row.test.confusion.sum(dim=1).tolist() == [6, 6]
    again = benchmark.run_fastai(pictures, SIZE, threads=1)
    assert again.test.loss == row.test.loss


def test_cores_and_threads_are_as_before_afterwards():
    cores, threads = benchmark.usable_cores(), torch.get_num_threads()
    with benchmark.using(cores[:1]):
        assert torch.get_num_threads() == 1
        if hasattr(os, "sched_getaffinity"):
            assert benchmark.usable_cores() == cores[:1]
    assert (benchmark.usable_cores(), torch.get_num_threads()) == (cores, threads)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="only Unix counts a child's seconds")
def test_processes_count_into_the_processors_seconds():
    busy = "import time\nwhile time.process_time() < 0.5: pass"
    code, _, cpu = benchmark.clocked(lambda: subprocess.call([sys.executable, "-c", busy]))
    assert code == 0
    assert cpu > 0.45


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--draws 1", "two or more"),
        ("--threads 0", "--threads must be 1"),
        ("--jobs 0", "--jobs must be 1"),
        ("--sizes 96,x", "expected numbers such as"),
        ("--sizes 0", "expected numbers such as"),
    ],
)
def test_wrong_options_are_refused(arguments, said, capsys):
    with pytest.raises(SystemExit) as stopped:
        benchmark.main(["here", *arguments.split()])
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err


def test_what_would_fail_later_is_refused_at_the_start(pictures, tmp_path, capsys):
    assert cli.main(["bench", "recipe", str(tmp_path / "nowhere")]) == 1
    assert "nowhere" in capsys.readouterr().err
    assert cli.main(["bench", "recipe", str(pictures), "--sizes", "8"]) == 1
    assert "8" in capsys.readouterr().err


def test_the_command_compares_all_of_them(pictures, capsys):
    options = f"--sizes {SIZE} --minutes 0.1 --draws 2 --per-class 4,50 --unequal 3,6 --threads 1"
    assert cli.main(["bench", "recipe", str(pictures), *options.split()]) == 0
    text = capsys.readouterr().out
    assert re.search(r"^recipe +\d+ px +20 +\d+ of 12 ", text, re.M)
    assert re.search(rf"^linear head +{SIZE} px +20 +\d+ of 12 ", text, re.M)
    assert re.search(r"^fastai fine_tune\(3\) +224 px ", text, re.M)
    assert re.search(r"^\d+ px +[01]\.\d{3} +\d+\.\d{3} +\d+$", text, re.M)  # a size that it tried
    assert "Left out: 50" in text
    assert re.search(r"^4 +2 +[01]\.", text, re.M)
    assert re.search(r"^3 against 6 +2 +[01]\.", text, re.M)


@pytest.mark.slow
@pytest.mark.skipif(len(benchmark.usable_cores()) < 2, reason="needs two cores")
def test_draws_in_processes_are_those_of_one_process(pictures):
    cores = benchmark.usable_cores()
    with benchmark.using(cores[:1]):
        alone = benchmark.draws(pictures, [(4, 4)], 2, 1, cores[:1], jobs=1)
    shared = benchmark.draws(pictures, [(4, 4)], 2, 1, cores[:2], jobs=2)
    assert [(each.counts, each.seed) for each in shared] == [((4, 4), 0), ((4, 4), 1)]
    for one, other in zip(alone, shared, strict=True):
        assert one.head == other.head
