"""A job from start to report; killed, stopped or out of room, it goes on with the same bits."""

import csv
import io
import json
import os
import random
import re
import signal
import time
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from course_lib import backbones, cli, recipe
from course_lib.errors import CourseError, DataError
from course_lib.jobs import STOPPED, StageConfig, dry_run, run, train
from course_lib.jobs.config import as_plain
from course_lib.jobs.data import find, training_batches, transforms
from course_lib.jobs.plan import build, enter, stages_of
from course_lib.jobs.ranks import Ranks
from course_lib.weights import read_checkpoint
from tests.jobs.conftest import CLASSES, final, in_process, job

DROPOUT = {"model": "mobilenet_v3_small", "pretrained": False}  # and BatchNorm


def quiet(_):
    pass


def same(one, other):
    assert one.keys() == other.keys()
    return [name for name in one if not torch.equal(one[name], other[name])]


@pytest.fixture(scope="module")
def unhurt(pictures, tmp_path_factory):
    """The job that nobody disturbs."""
    folder = tmp_path_factory.mktemp("unhurt")
    done = train(job(pictures, folder), quiet)
    return folder, done


def test_it_leaves_a_network_logs_and_a_report(unhurt, pictures):
    folder, done = unhurt
    assert (done.finished, done.step) == (True, 15)  # 40 pictures, 8 a step, 3 epochs
    rows = list(csv.DictReader(io.StringIO((folder / "epochs.csv").read_text())))
    assert [(row["epoch"], row["stage"]) for row in rows] == [
        ("1", "head"), ("2", "blocks.6, conv_head, bn2"),
        ("3", "blocks.6, conv_head, bn2"),
    ]  # fmt: skip
    steps = [line.split(",")[0] for line in (folder / "steps.csv").read_text().splitlines()]
    assert steps == ["step", *map(str, range(1, 16))]
    predictor = recipe.load(folder / "model.safetensors")
    test = sorted((pictures / "test").rglob("*.png"))
    right = sum(predictor.predict_one(each).label == each.parent.name for each in test)
    result = json.loads((folder / "result.json").read_text())
    assert result["pictures"] == len(test) == 13
    assert result["accuracy"] == pytest.approx(right / 13)
    best = min(rows, key=lambda row: float(row["val_loss"]))
    assert result["best epoch"] == int(best["epoch"])


def test_the_report_needs_nothing_else_and_says_the_numbers(unhurt):
    folder, done = unhurt
    page = (folder / "report.html").read_text()
    assert not re.search(r"""(src|href)\s*=\s*["'](?!data:)""", page.replace('xlink:href="#', ""))
    assert "<script" not in page
    assert f"{done.result['accuracy']:.3f}" in page
    for heading in ("Curves", "What was taken for what", "worst pictures", "Calibration"):
        assert heading in page
    assert page.count("<svg") == 3
    assert page.count('role="img" aria-label=') == 3
    table = re.search(r'class="matrix".*?</table>', page, re.S)[0]
    cells = [int(each) for each in re.findall(r"<td[^>]*>(\d+)</td>", table)]
    assert sum(cells) == 13
    assert round(13 * done.result["accuracy"]) == cells[0] + cells[3]
    assert page.count("data:image/jpeg") == 13 - cells[0] - cells[3]


def test_names_in_the_report_are_text(pictures, tmp_path):
    evil = "<b onclick=x>"
    rows = ["path,label,split"]
    for split in ("train", "val"):
        for name in CLASSES:
            rows += [f"{each},{name if name == 'red' else evil},{split}"
                     for each in sorted((pictures / split / name).iterdir())[:4]]  # fmt: skip
    (tmp_path / "list.csv").write_text("\n".join(rows))
    stages = (StageConfig(epochs=1),)
    train(job(tmp_path / "list.csv", tmp_path / "out", stages=stages), quiet)
    page = (tmp_path / "out" / "report.html").read_text()
    assert evil not in page
    assert "&lt;b onclick=x&gt;" in page


def test_frozen_parts_keep_their_bits(pictures, unhurt):
    """The first stage's best weights differ from the start in the head alone."""
    folder, _ = unhurt
    config = job(pictures, folder)
    start = build(config, CLASSES).state_dict()
    end = read_checkpoint(folder / "model.safetensors").tensors
    moved = {name for name in start if not torch.equal(start[name], end[name])}
    assert moved
    assert all(re.match(r"classifier|blocks\.6|conv_head|bn2", name) for name in moved)
    assert not any("running" in name or "num_batches" in name for name in moved)


def test_killed_at_random_moments_it_ends_with_the_same_weights(pictures, tmp_path, unhurt):
    kill_and_go_on(pictures, tmp_path, unhurt, kills=2, seed=0)


@pytest.mark.slow
def test_killed_at_five_random_moments_too(pictures, tmp_path, unhurt):
    kill_and_go_on(pictures, tmp_path, unhurt, kills=5, seed=1)


def kill_and_go_on(pictures, folder, unhurt, kills, seed):
    """SIGKILL in the middle of steps and of writing; each step has its checkpoint here."""
    config = job(pictures, folder, checkpoint_every=1, workers=0)
    chance = random.Random(seed)
    said = folder / "said"

    def child():
        with said.open("a") as file:
            train(config, lambda line: print(line, file=file, flush=True))

    hurt = 0
    while hurt < kills:
        before = lines(folder)
        process = in_process(child)
        goal = before + 2  # steps later, and a moment
        while process.is_alive() and lines(folder) < goal:
            time.sleep(0.005)
        time.sleep(chance.random() * 0.02)
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        assert process.exitcode == -signal.SIGKILL
        hurt += 1
    last = []
    train(config, last.append)
    assert "Going on from" in last[0]
    assert same(final(unhurt[0]), final(folder)) == []
    # The log has each step once, as if nothing had happened; losses are those of the unhurt run.
    for name in ("epochs.csv",):
        assert (folder / name).read_text() == (unhurt[0] / name).read_text()
    one, other = (
        [line.split(",")[:2] for line in (at / "steps.csv").read_text().splitlines()]
        for at in (unhurt[0], folder)
    )
    assert one == other


def lines(folder):
    path = folder / "steps.csv"
    return path.read_text().count("\n") if path.exists() else 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_asked_to_stop_it_saves_and_the_same_command_goes_on(
    pictures, tmp_path, unhurt, monkeypatch, capsys, number
):
    """Through the command, whose exit status says so; the signal comes within a step."""
    path = tmp_path / "job.toml"
    config = as_plain(job(pictures, "out"))
    stages = config.pop("stages")
    text = [f"{key} = {json.dumps(value)}" for key, value in config.items() if value != ""]
    for each in stages:
        text += ["[[stages]]", *(f"{key} = {json.dumps(value)}" for key, value in each.items())]
    path.write_text("\n".join(line for line in text if not line.startswith("plan")))
    step = run.Job._step
    monkeypatch.setattr(run.Job, "_step", lambda self, *given: (
        os.kill(os.getpid(), number) if self.at.total == 6 else None, step(self, *given))[1]
    )  # fmt: skip
    before = signal.getsignal(number)
    assert cli.main(["train", str(path)]) == STOPPED == 75
    assert "Stopped and saved at step" in capsys.readouterr().out
    assert signal.getsignal(number) is before
    monkeypatch.undo()
    assert cli.main(["train", str(path), "--workers", "1"]) == 0  # other workers, the same batches
    assert "Going on from" in capsys.readouterr().out
    assert same(final(unhurt[0]), final(tmp_path / "out")) == []
    assert cli.main(["train", str(path)]) == 0
    assert "This job is finished" in capsys.readouterr().out
    assert cli.main(["train", str(path), "--seed", "7"]) == 1
    assert "another config: seed differ" in capsys.readouterr().err


def test_a_damaged_checkpoint_is_passed_over(pictures, tmp_path, unhurt):
    config = job(pictures, tmp_path, checkpoint_every=3)
    stop_at(config, 8)
    newest = sorted((tmp_path / "checkpoints").glob("step-*"))[-1]
    newest.write_bytes(newest.read_bytes()[:-5000])
    with pytest.warns(UserWarning, match="The one before it is taken"):
        train(config, quiet)
    assert same(final(unhurt[0]), final(tmp_path)) == []


def stop_at(config, step):
    """Run a job until a step is done, then ask it to stop."""
    plain = run.Job._step

    def asking(self, stage, images, targets, asked):
        return plain(self, stage, images, targets, asked or self.at.total + 1 == step)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run.Job, "_step", asking)
        done = train(config, quiet)
    assert (done.finished, done.step) == (False, step)


@pytest.mark.parametrize("step", [1, 5, 7, 14])
def test_it_resumes_at_any_step(pictures, tmp_path, unhurt, step):
    """The first step, the last of a stage, the middle of an epoch, the last but one."""
    config = job(pictures, tmp_path)
    stop_at(config, step)
    train(config, quiet)
    assert same(final(unhurt[0]), final(tmp_path)) == []


def test_amp_adamw_clipping_and_class_weights_resume_as_well(pictures, tmp_path):
    changes = {"optimizer": "adamw", "amp": "bfloat16", "clip": 0.5, "class_weight": "balanced",
               "label_smoothing": 0.1, "weight_decay": 0.01, "channels_last": "on",
               "hold_statistics": False,
               "augment": ("TrivialAugmentWide", "RandomErasing"),
               "stages": (StageConfig(thaw=("features.1[12]",), epochs=2),)} | DROPOUT  # fmt: skip
    whole = job(pictures, tmp_path / "whole", **changes)
    train(whole, quiet)
    parts = job(pictures, tmp_path / "parts", **changes)
    stop_at(parts, 7)
    train(parts, quiet)
    assert same(final(tmp_path / "whole"), final(tmp_path / "parts")) == []


def test_patience_ends_a_stage(pictures, tmp_path):
    """At a rate that undoes what was learned, nothing gets better after the first epochs."""
    stages = (StageConfig(epochs=9, lr=1e-9), StageConfig(epochs=1))
    done = train(job(pictures, tmp_path, stages=stages, patience=2), quiet)
    rows = list(csv.DictReader(io.StringIO((tmp_path / "epochs.csv").read_text())))
    first = [float(row["val_loss"]) for row in rows if row["epoch"] != rows[-1]["epoch"]]
    best = first.index(min(first))
    assert len(first) == min(9, best + 3)
    assert done.finished


def spoiled(step, spoil):
    """What a test patches in for the loss: at one step it is spoiled."""
    plain = run.Job._loss

    def loss(self, logits, targets):
        value = plain(self, logits, targets)
        return spoil(value) if self.at.total == step else value

    return loss


def of_cuda(*_):
    raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


def of_the_cpu(*_):
    torch.empty(1 << 50, dtype=torch.uint8)


def of_python(*_):
    bytearray(1 << 60)


@pytest.mark.parametrize("full", [of_cuda, of_the_cpu, of_python])
def test_out_of_memory_is_said_and_nothing_is_lost(pictures, tmp_path, unhurt, monkeypatch, full):
    """At step 8 of 15, in the middle of an epoch, and no checkpoint since the last one's end."""
    config = job(pictures, tmp_path)
    monkeypatch.setattr(run.Job, "_loss", spoiled(8, full))
    with pytest.raises(CourseError, match="memory is full at step 8") as error:
        train(config, quiet)
    assert "batch_size = 4" in str(error.value)
    assert f"{tmp_path}/checkpoints/step-00000008" in str(error.value)
    monkeypatch.undo()
    train(config, quiet)  # with room, the same job goes on
    assert same(final(unhurt[0]), final(tmp_path)) == []


@pytest.mark.parametrize("place", ["step", "measure"])
def test_out_of_memory_in_the_middle_of_a_change_saves_nothing_of_it(
    pictures, tmp_path, unhurt, monkeypatch, place
):
    """Half of the weights may be of one step, half of the next: what counts was saved before."""
    config = job(pictures, tmp_path)
    if place == "step":
        real, calls = torch.amp.GradScaler.step, []

        def halfway(self, optimizer, *given):
            calls.append(1)
            if len(calls) == 9:
                with torch.no_grad():
                    optimizer.param_groups[0]["params"][0].add_(1)
                of_the_cpu()
            return real(self, optimizer, *given)

        monkeypatch.setattr(torch.amp.GradScaler, "step", halfway)
    else:
        measured = run.measure
        calls = []

        def full(*given, **named):
            calls.append(1)
            if len(calls) == 2:
                of_the_cpu()
            return measured(*given, **named)

        monkeypatch.setattr(run, "measure", full)
    with pytest.raises(CourseError, match=r"memory is full.*batch_size = 4") as error:
        train(config, quiet)
    assert "checkpoints/step-00000005" in str(error.value)
    monkeypatch.undo()
    train(config, quiet)
    assert same(final(unhurt[0]), final(tmp_path)) == []


def test_a_full_disk_is_said_and_what_was_saved_is_whole(pictures, tmp_path, unhurt, monkeypatch):
    config = job(pictures, tmp_path, checkpoint_every=3)
    save = torch.save
    calls = []

    def full(content, file, *given, **named):
        calls.append(1)
        if len(calls) > 2:
            file.write(b"half of it")
            raise OSError(28, "No space left on device")
        return save(content, file, *given, **named)

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(CourseError, match="No space left on device") as error:
        train(config, quiet)
    assert "goes on from there" in str(error.value)
    assert not list((tmp_path / "checkpoints").glob("*.tmp"))
    monkeypatch.undo()
    train(config, quiet)
    assert same(final(unhurt[0]), final(tmp_path)) == []


def test_a_disk_with_too_little_room_is_refused_at_the_start(pictures, tmp_path, monkeypatch):
    usage = run.checkpoints.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(run.checkpoints.shutil, "disk_usage", lambda _: usage._replace(free=10**6))
    with pytest.raises(CourseError, match="MB for checkpoints"):
        train(job(pictures, tmp_path), quiet)
    assert not list((tmp_path / "checkpoints").iterdir())


def test_a_folder_that_cant_be_written_is_refused_at_the_start(pictures, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CourseError, match="can't be written into"):
        train(job(pictures, tmp_path / "file" / "out"), quiet)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write anywhere")
def test_no_permission_is_said(pictures, tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(CourseError, match="Permission denied"):
        train(job(pictures, tmp_path / "out"), quiet)


def test_a_loss_that_isnt_finite_leaves_the_last_good_checkpoint(pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(run.Job, "_loss", spoiled(4, lambda value: value * float("nan")))
    with pytest.raises(CourseError, match="The loss became nan by step 5") as error:
        train(job(pictures, tmp_path, checkpoint_every=2), quiet)
    assert "step-00000004" in str(error.value)


def test_missing_folders_and_lists_are_said(pictures, tmp_path):
    with pytest.raises(DataError, match="Did you mean 'train'"):
        train(job(pictures / "trian", tmp_path), quiet)
    bad = tmp_path / "bad.csv"
    for text, said in (
        ("file,class\n", "expected a first line path,label"),
        ("path,label\nx.png,red\n", r"line 2: there is no file .*x\.png"),
        ("path,label,split\nbad.csv,red,tset\n", "line 2: split 'tset'"),
        ("path,label\n", "lists no picture"),
    ):
        bad.write_text(text)
        with pytest.raises(DataError, match=said):
            train(job(bad, tmp_path / "out"), quiet)
    with pytest.raises(DataError, match="There is no folder"):
        train(job(pictures, tmp_path / "out", val=str(tmp_path / "none")), quiet)
    bad.write_text("path,label\nbad.csv,red\n")
    with pytest.raises(DataError, match="there is no class 'red'"):
        train(job(bad, tmp_path / "out", classes=("rad", "blue")), quiet)


def test_batches_that_cant_be_filled_are_refused(pictures, tmp_path):
    with pytest.raises(CourseError, match="there are 40 training pictures"):
        train(job(pictures, tmp_path, batch_size=41), quiet)
    config, splits = job(pictures, tmp_path, batch_size=9), find(job(pictures, tmp_path))
    with pytest.raises(CourseError, match="can't be shared by 2 processes"):
        run.check_sizes(config, splits, Ranks(0, 2, torch.device("cpu")))


def test_an_epoch_has_each_picture_at_most_once_and_no_order_twice(pictures, tmp_path):
    config = job(pictures, tmp_path, batch_size=7)
    splits = find(config)
    alone = Ranks(0, 1, torch.device("cpu"))

    def names(epoch, place=alone, start=0):
        batches = training_batches(splits, transforms(config)[1], config, place, epoch, start)
        return [list(batch[2]) for batch in batches]

    first = names(0)
    assert [len(each) for each in first] == [7] * 5
    assert len({name for batch in first for name in batch}) == 35
    assert names(0) == first
    assert names(1) != first
    assert names(0, start=3) == first[3:]
    config = job(pictures, tmp_path, batch_size=8)
    whole = names(0)
    halves = [names(0, Ranks(rank, 2, torch.device("cpu"))) for rank in range(2)]
    assert [one + other for one, other in zip(*halves, strict=True)] == whole


def test_the_dry_run_says_what_is_frozen_and_writes_nothing(pictures, tmp_path):
    stages = (StageConfig(), StageConfig(thaw=("features.1[12]", "features.10")))
    config = job(pictures, tmp_path / "out", stages=stages, **DROPOUT)
    said = dry_run(config)
    assert not (tmp_path / "out").exists()
    assert "40 pictures to learn from (blue 20, red 20), 12 to choose by, 13 test" in said
    model = build(config, CLASSES)
    head = sum(each.numel() for each in model.classifier[3].parameters())
    late = sum(p.numel() for i in (10, 11, 12) for p in model.features[i].parameters())
    for trained in (head, head + late):
        frozen = sum(p.numel() for p in model.parameters()) - trained
        assert re.search(rf"{trained:,} +{frozen:,}", said)
    assert "Frozen in 'head': features, classifier.0." in said


def test_stages_freeze_modules_and_single_parameters(pictures, tmp_path):
    """Any plan: a part of a block, a lone bias; what holds no trained parameter is held whole."""
    config = job(pictures, tmp_path, stages=(
        StageConfig(thaw=("features.12.0", "features.0.1.bias"), lr=1.0, depth_factor=0.25),
        StageConfig(thaw=("all",)),
    ), **DROPOUT)  # fmt: skip
    model = build(config, CLASSES)
    one, every = stages_of(config, find(config), model)
    optimizer = enter(model, one, config)
    moving = {name for name, p in model.named_parameters() if p.requires_grad}
    assert moving == {"features.12.0.weight", "features.0.1.bias", "classifier.3.weight",
                      "classifier.3.bias"}  # fmt: skip
    rates = {group["name"]: group["lr"] for group in optimizer.param_groups}
    assert rates == pytest.approx({"features.0": 0.25, "features.12": 0.5, "classifier.3": 1.0})
    model.train()
    assert not model.features[5].training
    assert model.classifier[2].training  # the dropout before the head works while the head learns
    enter(model, every, config)
    assert all(p.requires_grad for p in model.parameters())
    with pytest.raises(CourseError, match=r"stages\[0\]\.thaw.*featurs"):
        stages_of(job(pictures, tmp_path, stages=(StageConfig(thaw=("featurs.1",)),), **DROPOUT),
                  find(config), model)  # fmt: skip


def test_balanced_weights_are_those_of_scikit_learn(pictures, tmp_path):
    from sklearn.utils.class_weight import compute_class_weight

    rows = ["path,label,split"]
    for name, count in (("red", 3), ("blue", 12)):
        files = sorted((pictures / "train" / name).iterdir())[:count]
        rows += [f"{each},{name},train" for each in files]
        rows += [f"{each},{name},val" for each in sorted((pictures / "val" / name).iterdir())]
    (tmp_path / "list.csv").write_text("\n".join(rows))
    config = job(tmp_path / "list.csv", tmp_path / "out", class_weight="balanced")
    made = run.Job(config, Ranks(0, 1, torch.device("cpu")), quiet).weights
    expected = compute_class_weight("balanced", classes=np.array([0, 1]), y=[0] * 12 + [1] * 3)
    assert made.tolist() == pytest.approx(expected.tolist())


def test_weights_of_a_file_and_a_new_head(pictures, tmp_path, unhurt):
    """A network of two classes starts one of two; of other classes, the body alone is taken."""
    file = unhurt[0] / "model.safetensors"
    config = job(pictures, tmp_path, weights=str(file))
    theirs = read_checkpoint(file).tensors
    assert same(build(config, CLASSES).state_dict(), theirs) == []
    other = build(config, ("a", "b", "c")).state_dict()
    differ = {name for name in theirs if not torch.equal(theirs[name], other[name])}
    assert differ == {"classifier.weight", "classifier.bias"}


def test_a_model_of_timm_trains_and_predicts(pictures, tmp_path):
    stages = (StageConfig(epochs=1), StageConfig(thaw=("layer4",), epochs=1))
    config = job(
        pictures, tmp_path, model="timm/test_resnet", size=64, stages=stages, pretrained=False
    )
    assert train(config, quiet).finished
    predictor = recipe.load(tmp_path / "model.safetensors")
    assert predictor.about["backbone"] == "timm/test_resnet"
    file = next((pictures / "test").rglob("*.png"))
    assert predictor.predict_one(file).label in CLASSES


def test_the_recipes_plan_becomes_stages(pictures, tmp_path):
    config = job(
        pictures, tmp_path, plan="recipe", stages=(), model="squeezenet1_1", pretrained=False
    )
    model = backbones.load("squeezenet1_1", 2, False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        stages = stages_of(config, find(config), model)
    assert stages[0].name == "head"
    assert len(stages) > 1
    assert all(each.rates for each in stages)


def write_shards(folder, pictures, split, count):
    """WebDataset's own writer: pairs of picture and class, dealt out to shards."""
    import webdataset as wds

    files = sorted((pictures / split).rglob("*.png"))
    random.Random(0).shuffle(files)
    for number in range(count):
        with wds.TarWriter(str(folder / f"{split}-{number:03}.tar")) as tar:
            for each in files[number::count]:
                key = f"{each.parent.name}-{each.stem}"
                tar.write({"__key__": key, "png": each.read_bytes(),
                           "cls": str(CLASSES.index(each.parent.name))})  # fmt: skip
    return [f"{each.parent.name}-{each.stem}" for each in files]


@pytest.mark.parametrize("workers", [0, 2])
def test_shards_resume_at_any_step(pictures, tmp_path, workers):
    for split, count in (("train", 5), ("val", 2), ("test", 2)):
        keys = write_shards(tmp_path, pictures, split, count)
    changes = {
        "data": f"{tmp_path}/train-{{000..004}}.tar", "val": f"{tmp_path}/val-*.tar",
        "test": f"{tmp_path}/test-*.tar", "classes": CLASSES, "workers": workers,
        "stages": (StageConfig(epochs=2, lr=0.02),),
    }  # fmt: skip
    config = job(pictures, tmp_path / "whole", **changes)
    splits = find(config)
    assert (splits.train.counts, splits.test.counts) == ((20, 20), (7, 6))
    done = train(config, quiet)
    assert done.result["pictures"] == len(keys)  # each once, workers or not
    parts = job(pictures, tmp_path / "parts", **changes)
    stop_at(parts, 3)
    train(parts, quiet)
    assert same(final(tmp_path / "whole"), final(tmp_path / "parts")) == []
    files = job(pictures, tmp_path / "files", stages=config.stages)
    assert train(files, quiet).result["pictures"] == done.result["pictures"]


def test_bad_shards_are_said(pictures, tmp_path):
    write_shards(tmp_path, pictures, "val", 1)
    val = str(tmp_path / "val-000.tar")
    with pytest.raises(DataError, match="can't be read: No such file"):
        find(job(pictures, tmp_path, data=str(tmp_path / "x.tar"), val=val, classes=CLASSES))
    (tmp_path / "broken.tar").write_bytes(b"no tar" * 200)
    with pytest.raises(DataError, match=r"broken\.tar can't be read"):
        find(job(pictures, tmp_path, data=str(tmp_path / "broken.tar"), val=val, classes=CLASSES))
    with pytest.raises(DataError, match="says '1'; expected one of"):
        find(job(pictures, tmp_path, data=val, val=val, classes=("one",)))


def test_tensorboard_has_each_step_once(pictures, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    stages = (StageConfig(epochs=2),)
    config = job(pictures, tmp_path, tensorboard=True, stages=stages, checkpoint_every=3)
    stop_at(config, 4)
    train(config, quiet)
    found = EventAccumulator(str(tmp_path / "tensorboard"))
    found.Reload()
    assert [each.step for each in found.Scalars("loss/step")] == list(range(1, 11))
    logged = [line.split(",")[1] for line in (tmp_path / "steps.csv").read_text().splitlines()[1:]]
    assert [each.value for each in found.Scalars("loss/step")] == pytest.approx(
        [float(each) for each in logged], rel=1e-5
    )


def test_a_picture_too_bad_to_read_is_named(pictures, tmp_path):
    rows = ["path,label,split"]
    for split in ("train", "val"):
        rows += [f"{each},{each.parent.name},{split}" for each in (pictures / split).rglob("*.png")]
    Image.new("RGB", (8, 8)).save(tmp_path / "whole.png")
    (tmp_path / "half.png").write_bytes((tmp_path / "whole.png").read_bytes()[:40])
    rows.append("half.png,red,train")
    (tmp_path / "list.csv").write_text("\n".join(rows))
    config = job(tmp_path / "list.csv", tmp_path / "out", batch_size=41)
    with pytest.raises(DataError, match=r"half\.png can't be read"):
        train(config, quiet)
