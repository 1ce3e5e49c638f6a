"""The recipe from beginning to end: what it keeps, changes, says, saves and refuses."""

import os
import warnings

import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import ConcatDataset, Subset, TensorDataset

from course_lib import backbones, data, features, recipe, training
from course_lib.backbones import HeadError
from course_lib.errors import DataError, UnknownNameError
from course_lib.recipe import run as recipe_run
from course_lib.recipe.heads import linear_heads
from course_lib.recipe.plan import Plan, Stage
from course_lib.recipe.stages import between
from course_lib.training import TrainingError
from course_lib.weights import CheckpointError, read_checkpoint
from tests.training.conftest import make_net, make_set, same_tensors, tensors_of


@pytest.fixture
def sets():
    return [make_set(30, seed=1), make_set(24, seed=2), make_set(24, seed=3)]


def run_it(sets, model=None, **settings):
    settings = {"budget": 700, "batch_size": 10, "cache": False, "say": lambda _: None} | settings
    return recipe.fit(*sets, model=model or make_net(), **settings)


def flat(text):
    """Without line breaks."""
    return " ".join(text.split())


def blind():
    """A network whose features tell little: they see a pixel only where it is far from zero."""
    net = make_net()
    with torch.no_grad():
        net[0].weight.zero_()
        net[0].weight[:, 0, 1, 1] = torch.tensor([1.0, 1.0, -1.0, -1.0])
        net[0].bias.fill_(BLIND)
    return net


BLIND = -3.5  # of what a pixel shows, so much is lost


def make_folded(n, seed):
    """Classes that differ by how far one pixel is from zero, to either side."""
    stream = torch.Generator().manual_seed(seed)
    targets = torch.arange(n) % 3
    images = torch.randn(n, 1, 4, 4, generator=stream) * 0.5
    sign = torch.randint(0, 2, (n,), generator=stream) * 2 - 1
    images[:, 0, 1, 1] += 3.0 * targets * sign
    return TensorDataset(images, targets)


LONG = Stage("long", ("0", "1"), (0.03,), 1.0, 40)


# --- what is kept ---------------------------------------------------------------------------------


def test_it_learns_and_leaves_the_model_alone(sets):
    net = make_net()
    before, flags = tensors_of(net), [each.requires_grad for each in net.parameters()]
    run = run_it(sets, net)
    assert same_tensors(net, before)
    assert [each.requires_grad for each in net.parameters()] == flags
    assert run.model is not net
    assert run.val.accuracy > 0.6
    assert run.steps[0].name == "head"
    assert not run.model.training
    assert all(each.requires_grad for each in run.model.parameters())
    looked = training.evaluate(run.model, sets[2])
    assert looked.correct == run.test.correct
    assert torch.equal(looked.confusion, run.test.confusion)


def test_the_last_head_is_fitted_on_training_and_validation_pictures(sets):
    net = make_net().eval()
    run = run_it(sets, net, stages=(), penalties=(3.0,))
    rows = features.extract(net, ConcatDataset(sets[:2]), cache=False)
    [(_, layer)] = linear_heads(rows, 3, (3.0,), "balanced")
    torch.testing.assert_close(run.model[5].weight, layer.weight)
    assert run.val.n == 54, "each was predicted by a head that hadn't seen it"


def test_a_stage_is_kept_only_if_it_wins_by_more_than_chance():
    kept = set()
    stream = torch.Generator().manual_seed(0)
    noise = [
        TensorDataset(torch.randn(n, 1, 4, 4, generator=stream), torch.arange(n) % 3)
        for n in (60, 30)
    ]
    for parts, net in ((noise, make_net()), ([make_folded(90, 1), make_folded(45, 2)], blind())):
        run = run_it(parts, net, stages=(LONG,), budget=100_000)
        step = run.steps[1]
        assert step.kept == (step.gain.low > 0)
        assert run.kept == ("long" if step.kept else "head")
        kept.add(step.kept)
    assert kept == {False, True}, "both cases were seen"


def test_a_stage_that_gains_much_is_trained_once_more_with_all_pictures():
    sets = [make_folded(90, 1), make_folded(45, 2), make_folded(150, 3)]
    run = run_it(sets, blind(), stages=(LONG,), budget=100_000)
    assert run.plan.folds == 3
    assert run.kept == "long"
    assert run.val.n == 135
    head = run_it(sets, blind(), stages=())
    assert torch.equal(head.model[0].weight, blind()[0].weight)
    assert run.test.accuracy > head.test.accuracy + 0.1


def test_with_enough_validation_pictures_they_decide():
    sets = [make_folded(90, 1), make_folded(120, 2)]
    run = run_it(sets, blind(), stages=(LONG,))
    assert run.plan.folds == 1
    assert run.kept == "long"
    assert run.val.n == 120


def test_a_dropped_stage_leaves_no_trace(sets):
    alone = run_it(sets, stages=())
    ruined = Stage("ruined", ("0", "1"), (50.0,), 1.0, 2)
    run = run_it(sets, stages=(ruined,), shares=(1.0,))
    assert [each.kept for each in run.steps[1:]] in ([], [False])
    assert same_tensors(run.model, tensors_of(alone.model))


def test_that_nothing_beats_the_head_is_called_usual(sets):
    run = run_it(sets, stages=(Stage("idle", ("1",), (1e-12,), 1.0, 1),))
    assert not run.steps[1].kept
    assert "Nothing beat the head" in flat(run.report())


def test_a_rate_that_diverges_is_told_and_survived(sets):
    run = run_it(sets, stages=(Stage("wild", ("0", "1"), (1e30,), 1.0, 3),))
    assert [each.name for each in run.steps] == ["head"]
    assert "too high" in flat(run.report())


def test_what_is_not_let_go_stays_bit_for_bit():
    sets, net = [make_folded(90, 1), make_folded(120, 2)], blind()
    run = run_it(sets, net, stages=(Stage("late", ("1",), (0.03,), 1.0, 40),))
    assert torch.equal(net[0].weight, run.model[0].weight)
    assert torch.equal(net[1].running_mean, run.model[1].running_mean)
    if run.kept == "late":
        assert not torch.equal(net[1].weight, run.model[1].weight)


def test_same_seed_same_bits(sets):
    first, second = (run_it(sets, seed=3) for _ in range(2))
    assert same_tensors(first.model, tensors_of(second.model))
    assert [each.setting for each in first.steps] == [each.setting for each in second.steps]


def test_test_pictures_have_no_say(sets):
    one = run_it(sets)
    other = run_it([sets[0], sets[1], make_set(24, seed=99)])
    none = run_it(sets[:2])
    assert same_tensors(one.model, tensors_of(other.model))
    assert none.test is None
    assert "a little less elsewhere" in flat(none.report())


def test_between_two_networks():
    net, other = make_net(), make_net()
    with torch.no_grad():
        for each in other.parameters():
            each += 1
    middle = between(net, other, 0.25)
    for first, mixed in zip(net.parameters(), middle.parameters(), strict=True):
        torch.testing.assert_close(mixed, first + 0.25)
    assert same_tensors(between(net, other, 1.0), tensors_of(other))


def test_the_counted_passes_are_those_that_were_planned(sets):
    stage = Stage("late", ("1",), (0.01, 0.02), 1.0, 2)
    run = run_it(sets, stages=(stage,))
    # Two rates, three folds: two epochs with two thirds of 54, and twice a third for features.
    assert run.steps[1].passes == 2 * 3 * (2 * 36 + 2 * 18)
    assert run.passes <= run.plan.passes(run.facts)
    many = [make_set(30, seed=1), make_set(120, seed=2)]
    run = run_it(many, stages=(stage,))
    assert run.passes == run.plan.passes(run.facts) == 2 * (2 * 30 + 2 * 50)


# --- unequal and tiny classes ---------------------------------------------------------------------


def unequal(counts, seed=0):
    stream = torch.Generator().manual_seed(seed)
    targets = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    images = torch.randn(len(targets), 1, 4, 4, generator=stream)
    images[:, 0, 0, 0] += 1.0 * targets
    return TensorDataset(images, targets)


def test_weighing_the_classes_helps_the_small_one():
    sets = [unequal((90, 8), 1), unequal((22, 3), 2), unequal((200, 200), 3)]
    weighed, not_weighed = (
        run_it(sets, make_net(2), stages=(), class_weight=each) for each in ("balanced", None)
    )
    recalls = [run.test.confusion[1, 1] / 200 for run in (weighed, not_weighed)]
    assert recalls[0] > recalls[1] + 0.1
    assert "class_weight='balanced'" in flat(weighed.report())
    assert "class_weight=None" in flat(not_weighed.report())
    with pytest.raises(TrainingError, match="'balanced' or None"):
        run_it(sets, make_net(2), class_weight="equal")


@pytest.mark.parametrize("counts", [(40, 3), (40, 1), (3, 3), (100, 8)])
def test_tiny_classes_are_named_and_nothing_is_nan(counts):
    sets = [unequal(counts, 1), unequal((8, 1), 2), unequal((30, 30), 3)]
    told = []
    run = run_it(sets, make_net(2), say=told.append)
    report = flat("\n".join([*told, run.report()]))
    assert "nan" not in report
    assert "1 has" in report
    assert "cross-validation" in report
    assert "far from this task" not in report
    assert f"always answering 0 would get {0.5:.2f}" in report
    assert run.facts.separated.low < 1


def test_the_baseline_and_the_recalls_are_in_the_report():
    sets = [unequal((100, 8), 1), unequal((20, 2), 2), unequal((100, 8), 3)]
    run = run_it(sets, make_net(2), stages=())
    report = flat(run.report())
    assert f"always answering 0 would get {100 / 108:.2f}" in report
    right = run.test.confusion.diagonal().tolist()
    assert f"{right[0]} of 100" in report
    assert f"{right[1]} of 8" in report
    assert f"balanced accuracy {(right[0] / 100 + right[1] / 8) / 2:.2f}" in report
    assert "expected calibration error" in report


# --- the plan of your own -------------------------------------------------------------------------


def test_plan_only_trains_nothing_and_a_plan_of_your_own_is_followed(sets):
    said = []
    run = run_it(sets, plan_only=True, say=said.append)
    assert run.steps == []
    assert said == [f"The plan\n{run.plan}"]
    assert repr(run).endswith("a plan, nothing trained.")
    with pytest.raises(TrainingError, match="Leave out plan_only"):
        run.predict(sets[0][0][0])
    mine = run.plan.changed(stages=(), penalties=(3.0,))
    assert run_it(sets, plan=mine).steps[0].setting == "penalty 3"
    changed = run_it(sets, plan=lambda plan: plan.changed(stages=(), penalties=(7.0,)))
    assert changed.steps[0].setting == "penalty 7"
    shorter = run_it(sets, plan=lambda plan: plan.changed(stages=plan.stages[:1]), plan_only=True)
    assert len(shorter.plan.stages) == 1
    assert isinstance(shorter.plan, Plan)
    with pytest.raises(TrainingError, match="must be a Plan"):
        run_it(sets, plan=lambda plan: None)


def test_time_that_is_not_there_buys_no_stage(sets):
    run = run_it(sets, budget=None, minutes=1e-6)
    assert run.plan.stages == ()
    assert run.test is not None
    assert "more minutes would let it try" in flat(run.report())
    assert run_it(sets, budget=None, minutes=None, plan_only=True).plan.stages
    with pytest.raises(TrainingError, match="minutes=0"):
        run_it(sets, budget=None, minutes=0)


def test_what_does_not_fit_is_refused(sets):
    with pytest.raises(TrainingError, match="validation pictures"):
        run_it(sets[:1])
    with pytest.raises(TrainingError, match="empty"):
        run_it([sets[0], TensorDataset(torch.zeros(0, 1, 4, 4), torch.zeros(0))])
    with pytest.raises(HeadError):
        run_it(sets, nn.Sequential(nn.Flatten()))
    with pytest.raises(TrainingError, match="is for a folder"):
        run_it(sets, size=64)
    for wrong in ({"nothing": 1}, {"penalties": (0.0,)}):
        with pytest.raises((UnknownNameError, TrainingError)):
            recipe.fit(*sets, model=Bomb(), say=lambda _: None, **wrong)
    one = TensorDataset(sets[0].tensors[0][:6], torch.zeros(6, dtype=torch.int64))
    with (
        pytest.warns(data.DataWarning, match="6 of the 6"),
        pytest.raises(TrainingError, match="two classes"),
    ):
        run_it([one, one])


class Bomb(nn.Module):
    """Fails when it is computed: what can be refused is refused before."""

    def forward(self, images):
        raise AssertionError("computed")


# --- stopped by hand ------------------------------------------------------------------------------


WITHIN = Stage("late", ("net.0", "net.1"), (0.02,), 1.0, 2)


class StopsAt(nn.Module):
    """A network that is interrupted the so-many-th time that it computes."""

    def __init__(self, count):
        super().__init__()
        whole = make_net()
        self.net, self.fc, self.left = whole[:4], whole[5], [count]

    def forward(self, images):
        self.left[0] -= 1
        if self.left[0] == 0:
            raise KeyboardInterrupt
        return self.fc(self.net(images))

    def __deepcopy__(self, memo):
        made = StopsAt(0)
        made.load_state_dict(self.state_dict())
        made.left = self.left  # all copies count together
        return made


def test_stopped_anywhere_the_best_so_far_is_kept_and_saved(sets, tmp_path):
    """However often the network has computed by then: either nothing came out, or a whole run."""
    ends = {"nothing": 0, "a run": 0}
    quiet = StopsAt(-1)
    run_it(sets, quiet, stages=(WITHIN,))
    total = -1 - quiet.left[0]
    for count in range(1, total + 1, max(1, total // 12)):
        path = tmp_path / f"{count}.safetensors"
        torch.manual_seed(0)
        try:
            run = run_it(sets, StopsAt(count), stages=(WITHIN,), save_to=path)
        except KeyboardInterrupt:
            ends["nothing"] += 1
            assert not path.exists()
            continue
        ends["a run"] += 1
        assert run.interrupted
        assert "You stopped it" in flat(run.report())
        assert run.path == path
        run.model.left[0] = -1
        assert training.evaluate(run.model, sets[1]).n == 24
        assert read_checkpoint(path).metadata["extra"]["classes"] == ["0", "1", "2"]
    assert not [each for each in tmp_path.iterdir() if each.suffix != ".safetensors"]
    assert min(ends.values()) > 0, ends


# --- saved ----------------------------------------------------------------------------------------


def test_saved_with_what_is_to_be_known(sets, tmp_path):
    run = run_it(sets, save_to=tmp_path / "net.safetensors")
    found = read_checkpoint(run.path)
    extra = found.metadata["extra"]
    assert extra["classes"] == ["0", "1", "2"]
    assert extra["result"]["accuracy"] == pytest.approx(run.test.accuracy)
    assert extra["result"]["low"] < run.test.accuracy < extra["result"]["high"]
    assert extra["plan"] == str(run.plan)
    assert str(run.path) in flat(run.report())
    for name, tensor in run.model.state_dict().items():
        assert torch.equal(found.tensors[name], tensor)
    again = recipe.load(run.path, model=make_net())
    picture = sets[2][0][0]
    assert again.predict(picture).probabilities == run.predict(picture).probabilities


@pytest.mark.parametrize("where", ["net.zip", "folder", "net.safetensors/net.safetensors"])
def test_what_would_fail_at_the_end_fails_at_the_start(sets, tmp_path, where):
    (tmp_path / "folder").mkdir()
    (tmp_path / "net.safetensors").write_text("kept")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(CheckpointError):
        recipe.fit(*sets, model=Bomb(), save_to=tmp_path / where, say=lambda _: None)
    assert sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / "net.safetensors").read_text() == "kept"


def test_a_disk_that_is_full_at_the_end_loses_nothing(sets, tmp_path, monkeypatch):
    path = tmp_path / "net.safetensors"
    path.write_text("older")

    def full(*_):
        raise OSError(28, os.strerror(28))

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(recipe.NotSavedError, match="No space left") as caught:
            run_it(sets, stages=(), save_to=path)
    assert path.read_text() == "older"
    assert list(tmp_path.iterdir()) == [path], "nothing half written is left"
    assert caught.value.run.save(path) == path
    assert recipe.load(path, model=make_net()).classes == ("0", "1", "2")


# --- a folder of your own -------------------------------------------------------------------------


def draw(root, classes, each=8, seed=0, side=48):
    stream = torch.Generator().manual_seed(seed)
    for place, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for number in range(each):
            pixels = torch.randint(0, 90, (side, side + 8, 3), generator=stream).to(torch.uint8)
            pixels[..., place % 3] += 120
            Image.fromarray(pixels.numpy()).save(root / name / f"{number}.png")
    return root


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path / "cache"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", data.DataWarning)
        yield draw(tmp_path / "mine", ("red", "green"))


def test_from_a_folder_to_a_prediction(folder, tmp_path):
    said = []
    run = recipe.fit(
        folder, save_to=tmp_path / "mine.safetensors", size=32, cache=False, stages=(),
        say=said.append,
    )  # fmt: skip
    assert run.classes == ("green", "red")
    assert run.facts.pictures == 12
    assert run.size == 32
    assert [each.splitlines()[0] for each in said] == [
        "Before it starts",
        "The plan",
        repr(run),
    ]
    result = f"accuracy {run.test.accuracy:.2f} ["
    assert result in said[-1]
    assert result in flat(run.report()).split("95 % interval")[0]
    picture = folder / "red" / "0.png"
    now, tomorrow = run.predict(picture), recipe.load(run.path).predict(picture)
    assert now.label == "red"
    assert tomorrow.probabilities == now.probabilities
    assert [each.label for each in run.predict(folder)] == ["green"] * 8 + ["red"] * 8
    assert training.evaluate(run.model, test_set(folder, 32)).correct == run.test.correct


def test_set(folder, size):
    return data.image_folder(
        folder, "test", backbones.preprocessing("efficientnet_lite0", size).eval
    )


test_set.__test__ = False


def test_sizes_are_tried_and_nothing_is_computed_twice(folder, monkeypatch):
    asked, whole = [], features.extract

    def counting(model, part, **options):
        asked.append((len(part), tuple(part[0][0].shape)))
        return whole(model, part, **options)

    monkeypatch.setattr(features, "extract", counting)
    run = recipe.fit(folder, budget=0, cache=False, say=lambda _: None)
    assert [each.size for each in run.plan.sizes] == [96, 160, 224]
    assert run.size == 224
    assert len(asked) == len(set(asked))
    assert (4, (3, 224, 224)) in asked


def test_threads_make_no_difference_to_the_head(folder, monkeypatch):
    found = []
    for count in ("1", "3"):
        monkeypatch.setenv("OMP_NUM_THREADS", count)
        before = torch.get_num_threads()
        run = recipe.fit(folder, size=64, stages=(), cache=False, say=lambda _: None)
        assert run.threads == int(count)
        assert torch.get_num_threads() == before
        found.append(tensors_of(run.model))
    assert all(torch.equal(each, found[1][name]) for name, each in found[0].items())


def test_a_body_is_trained_on_a_folder_too(folder, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    settings = {"size": 32, "cache": False, "say": lambda _: None, "batch_size": 4}
    stage = Stage("late", ("blocks.6", "conv_head"), (0.01,), 1.0, 1)
    first, second = (recipe.fit(folder, stages=(stage,), **settings) for _ in range(2))
    assert first.steps[1].passes > 0
    assert first.steps[1].loss == second.steps[1].loss, "mirrored by the seed"


def test_copies_in_two_splits_are_told(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path / "cache"))
    root = tmp_path / "mine"
    for split in ("train", "test"):
        draw(root / split, ("red", "green"), 6 if split == "train" else 3, seed=0, side=32)
    for number in range(3):  # the very files of train
        data_of = (root / "train" / "red" / f"{number}.png").read_bytes()
        (root / "test" / "red" / f"{number}.png").write_bytes(data_of)
    with pytest.warns(data.DataWarning, match="3 of the 6 pictures in test"):
        run = recipe.fit(root, size=32, stages=(), cache=False, say=lambda _: None)
    assert "3 of the 6 pictures in test" in flat(run.report())
    assert "red/0.png" in flat(run.report())


def test_copies_among_data_sets_are_told(sets):
    with pytest.warns(data.DataWarning, match="10 of the 10 pictures in test"):
        run_it([sets[0], sets[1], Subset(sets[0], range(10))], stages=())


def test_data_sets_of_the_course_can_be_asked_about_files(folder):
    see = backbones.preprocessing("efficientnet_lite0", 32)
    parts = [data.image_folder(folder, each, see.eval) for each in ("train", "val", "test")]
    run = recipe.fit(*parts, stages=(), cache=False, say=lambda _: None)
    assert run.predictor.preparation == see or run.predictor.preparation.eval is not None
    assert run.predict(folder / "red" / "0.png").label == "red"
    assert run.size == 32


@pytest.mark.parametrize("name", ["squeezenet1_1", "mobilenet_v3_small"])
def test_other_heads_come_back_from_their_file(folder, tmp_path, monkeypatch, name):
    made = backbones.load(name, 2, pretrained=False)
    monkeypatch.setattr(recipe_run.backbones, "load", lambda *_, **__: made)
    run = recipe.fit(
        folder, model=name, size=64, stages=(), save_to=tmp_path / "net.safetensors", cache=False,
        say=lambda _: None,
    )  # fmt: skip
    monkeypatch.undo()
    pictures = sorted(folder.rglob("*.png"))
    again = recipe.load(run.path).predict(pictures)
    for mine, theirs in zip(run.predict(pictures), again, strict=True):
        assert mine.probabilities == theirs.probabilities


def test_errors_of_a_folder_are_those_of_the_loader(folder, tmp_path):
    with pytest.raises(DataError, match=r"nowhere"):
        recipe.fit(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError):
        recipe.fit(tmp_path / "empty")
    with pytest.raises(DataError):
        recipe.fit(draw(tmp_path / "one class", ("red",)))
    with pytest.raises(DataError, match="needs at least 2"):
        recipe.fit(draw(tmp_path / "one each", ("red", "green"), each=1))
    broken = draw(tmp_path / "broken", ("red", "green"))
    for path in broken.rglob("*.png"):
        path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(DataError, match="No picture can be read"):
        recipe.fit(broken)
    for path in (folder / "red").iterdir():
        path.unlink()
    with pytest.raises(DataError, match=r"red"):
        recipe.fit(folder)
    with pytest.raises(TrainingError, match="name the backbone"):
        recipe.fit(folder, model=make_net())
    with pytest.raises(UnknownNameError):
        recipe.fit(folder, model="efficientnet_lite00")
