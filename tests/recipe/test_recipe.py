"""The recipe: what it measures, plans, keeps, changes and saves."""

import math
import warnings

import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

from course_lib import data, profile, recipe, training
from course_lib.backbones import HeadError
from course_lib.errors import DataError, UnknownNameError
from course_lib.features import Features
from course_lib.recipe.facts import Facts, body_blocks, separated
from course_lib.recipe.heads import classifier, linear_heads
from course_lib.recipe.plan import Plan, Stage, check, make_plan
from course_lib.recipe.report import wilson
from course_lib.recipe.stages import Candidate, between, scaled_loss
from course_lib.training import TrainingError
from course_lib.weights import CheckpointError, read_checkpoint
from tests.training.conftest import make_net, make_set, same_tensors, tensors_of

BLOCKS = ("conv1", "conv2", "conv3")


def facts(pictures=60, smallest=30, separated=0.85, blocks=BLOCKS):
    return Facts(pictures, 2, smallest, separated, 0.5, blocks)


def rows_of(n=40, classes=2, noise=0.3, seed=0):
    stream = torch.Generator().manual_seed(seed)
    targets = torch.arange(n) % classes
    values = torch.randn(n, 6, generator=stream) * noise + 3.0
    values[:, 0] += targets
    return Features(values, targets, torch.arange(n), None, "before the head", "test")


@pytest.fixture
def sets():
    return [make_set(30, seed=1), make_set(24, seed=2), make_set(24, seed=3)]


def run_it(sets, model=None, **settings):
    settings = {"budget": 240, "batch_size": 10, "cache": False, "say": lambda _: None} | settings
    return recipe.fit(*sets, model=model or make_net(), **settings)


# --- the plan -------------------------------------------------------------------------------------


def test_similarity_is_the_share_of_the_way_from_guessing_to_perfect():
    assert facts(separated=0.5).similarity == 0
    assert facts(separated=0.75).similarity == pytest.approx(0.5)
    assert facts(separated=1.0).similarity == 1
    assert [facts(separated=each).distance for each in (0.7, 0.9, 0.97)] == [
        "far", "middling", "close"
    ]  # fmt: skip
    assert [facts(smallest=each).amount for each in (19, 20, 200)] == ["few", "some", "many"]


def test_the_plan_depends_on_the_facts_and_says_so():
    far, near = (make_plan(facts(separated=each), 8, 2000) for each in (0.7, 0.9))
    assert [each.name for each in far.stages] == ["all layers"]
    assert [each.name for each in near.stages] == ["last third", "all layers"]
    assert near.stages[0].thaw == BLOCKS[-1:]
    assert "70%" in str(far)
    assert "first layer on" in str(far)
    assert "two stages" in str(near)
    assert make_plan(facts(blocks=()), 8, 2000).stages == ()


def test_an_ample_budget_buys_a_trial_from_a_new_head():
    for separation in (0.7, 0.9):
        plan = make_plan(facts(pictures=100, separated=separation), 8, 6 * 9 * 100)
        assert [each.new_head for each in plan.stages] == [False, True]
        assert {each.epochs for each in plan.stages} == {8}
        assert plan.passes(100) == 6 * 9 * 100
        scarce = make_plan(facts(pictures=100, separated=separation), 8, 6 * 9 * 100 - 1)
        assert not any(each.new_head for each in scarce.stages)


@pytest.mark.parametrize("pictures", [10, 60, 250, 333])
def test_the_plan_stays_within_the_budget_while_it_can(pictures):
    plan = make_plan(facts(pictures=pictures), 8, 2000)
    assert plan.passes(pictures) <= 2000
    assert all(each.epochs >= 2 for each in plan.stages)


def test_with_many_pictures_there_are_two_epochs_and_one_rate():
    plan = make_plan(facts(pictures=50_000), 8, 2000)
    assert {(len(each.rates), each.epochs) for each in plan.stages} == {(1, 2)}


def test_every_number_can_be_changed_and_only_those_there_are():
    plan = make_plan(facts(), 8, 2000)
    assert plan.changed(patience=7, stages=()).patience == 7
    assert plan.changed().stages == plan.stages
    with pytest.raises(UnknownNameError, match="Did you mean 'patience'"):
        plan.changed(patiense=7)
    for name, value in (
        ("penalties", ()), ("penalties", (0.0,)), ("shares", (1.5,)), ("batch_size", 0),
        ("pull", -1.0), ("momentum", 1.0),
        ("stages", (Stage("x", (), (0.1,), 1.0, 1),)),
        ("stages", (Stage("x", ("a",), (0.1,), 1.0, 0),)),
        ("stages", (Stage("x", ("a",), (0.1,), 1.0, 1),) * 2),
    ):  # fmt: skip
        with pytest.raises(TrainingError):
            check(plan.changed(**{name: value}))


def test_blocks_are_the_parts_before_the_head():
    net = nn.Sequential(
        nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2)), nn.ReLU(), nn.Linear(2, 3)
    )
    assert body_blocks(net, "2") == ("0.0", "0.2")
    assert body_blocks(net[0], "2") == ("0",)


# --- the parts ------------------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [2, 3])
def test_a_head_predicts_what_scikit_learn_predicts(classes):
    rows = rows_of(30, classes)
    (penalty, layer), _ = linear_heads(rows, classes, (0.5, 5.0))
    x, y = rows.arrays()
    expected = torch.tensor(classifier(penalty).fit(x, y).predict_proba(x))
    torch.testing.assert_close(
        layer(rows.values).softmax(1).double(), expected.double(), atol=1e-4, rtol=1e-3
    )


def test_a_class_without_a_picture_is_never_chosen():
    [(_, layer)] = linear_heads(rows_of(20, 2), 4, (1.0,))
    assert set(layer(rows_of(20, 2).values).argmax(1).tolist()) <= {0, 1}
    with pytest.raises(TrainingError, match="two or more"):
        linear_heads(rows_of(20, 1), 2, (1.0,))
    with pytest.raises(TrainingError, match="from 0 to 1"):
        linear_heads(rows_of(20, 3), 2, (1.0,))


def test_separation_is_measured_on_rows_that_were_not_seen():
    assert separated(rows_of(noise=0.05)) == 1
    shuffled = rows_of(60, noise=0.05)
    drawn = shuffled.targets[torch.randperm(60)]
    assert separated(Features(shuffled.values, drawn, shuffled.indices, None, "", "")) < 0.8
    assert math.isnan(separated(rows_of(2)))


def test_between_two_networks(net):
    other = make_net()
    with torch.no_grad():
        for each in other.parameters():
            each += 1
    middle = between(net, other, 0.25)
    for first, mixed in zip(net.parameters(), middle.parameters(), strict=True):
        torch.testing.assert_close(mixed, first + 0.25)
    assert same_tensors(between(net, other, 1.0), tensors_of(other))


def test_wilson_stays_inside_and_is_never_empty():
    assert str(wilson(40, 40)) == "1.00 [0.91, 1.00]"
    assert str(wilson(0, 10)) == "0.00 [0.00, 0.28]"
    for right in range(11):
        found = wilson(right, 10)
        assert 0 <= found.low <= found.value <= found.high <= 1
        assert found.high - found.low > 0.2


def test_being_too_sure_costs_no_rank():
    stream = torch.Generator().manual_seed(0)
    targets = torch.arange(40) % 3
    logits = F.one_hot(targets, 3) + torch.randn(40, 3, generator=stream)
    ranks = [
        Candidate("", logits * sure, targets, make_net).rank for sure in (0.2, 1.0, 5.0)
    ]  # fmt: skip
    assert [each[0] for each in ranks] == [ranks[0][0]] * 3
    assert [each[1] for each in ranks] == pytest.approx([ranks[0][1]] * 3, rel=0.01)
    best = min(
        F.cross_entropy(logits * scale, targets).item() for scale in torch.arange(1, 500) / 100
    )
    assert scaled_loss(logits, targets) == pytest.approx(best, rel=0.01)
    worse = logits.roll(1, 0)
    assert Candidate("", worse, targets, make_net).rank < ranks[0]


def test_a_head_fitted_anew_is_among_the_outcomes(sets):
    """With averages that stay at the start, only a new head makes use of the trained body."""
    stage = Stage("late", ("0", "1"), (0.02,), 1.0, 4)
    run = run_it(sets, stages=(stage,), shares=(1e-9,), seed=1)
    plain = run_it(sets, stages=(stage,), shares=(1e-9,), seed=1, refit=False)
    assert run.steps[1].kept
    assert not plain.steps[1].kept
    assert "head fitted anew, penalty" in run.steps[1].setting
    looked = training.evaluate(run.model, sets[1])
    assert looked.accuracy == run.steps[1].val == run.val.accuracy


# --- the whole ------------------------------------------------------------------------------------


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


def test_a_stage_is_kept_only_if_it_wins_on_validation(sets):
    run = run_it(sets)
    held = (run.steps[0].val, -run.steps[0].val_loss)
    for step in run.steps[1:]:
        now = (step.val, -step.val_loss)
        assert step.kept == (now > held)
        held = max(held, now)
    assert run.val.accuracy == held[0]
    harmful = Stage("harmful", ("0",), (1e-12,), 0.0, 1)
    run = run_it(sets, stages=(harmful,), shares=(1.0,), hold_statistics=False)
    assert run.kept == ("harmful" if run.steps[1].kept else "head")


def test_a_dropped_stage_leaves_no_trace(sets):
    alone = run_it(sets, stages=())
    ruined = Stage("ruined", ("0", "1"), (50.0,), 1.0, 2)
    run = run_it(sets, stages=(ruined,), shares=(1.0,))
    assert not any(each.kept for each in run.steps[1:])
    assert same_tensors(run.model, tensors_of(alone.model))


def test_a_rate_that_diverges_is_told_and_survived(sets):
    run = run_it(sets, stages=(Stage("wild", ("0", "1"), (1e30,), 1.0, 3),))
    assert [each.name for each in run.steps] == ["head"]
    assert "too high" in run.report()


def test_what_is_not_let_go_stays_bit_for_bit(sets):
    head = run_it(sets, stages=())
    run = run_it(sets, stages=(Stage("late", ("1",), (0.01,), 1.0, 3),))
    assert torch.equal(head.model[0].weight, run.model[0].weight)
    assert torch.equal(head.model[1].running_mean, run.model[1].running_mean)


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
    assert "a little less elsewhere" in none.report()


def test_plan_only_trains_nothing_and_a_plan_of_your_own_is_followed(sets):
    said = []
    run = run_it(sets, plan_only=True, say=said.append)
    assert run.steps == []
    assert said == [f"The plan\n{run.plan}"]
    mine = run.plan.changed(stages=(), penalties=(3.0,))
    assert run_it(sets, plan=mine).steps[0].setting == "penalty 3"
    shorter = run_it(sets, plan=lambda plan: plan.changed(stages=plan.stages[:1]), plan_only=True)
    assert len(shorter.plan.stages) == 1
    assert isinstance(shorter.plan, Plan)
    with pytest.raises(TrainingError, match="must be a Plan"):
        run_it(sets, plan=lambda plan: None)


def test_the_counted_passes_are_those_that_were_made(sets):
    run = run_it(sets, stages=(Stage("late", ("1",), (0.01, 0.02), 1.0, 2),), patience=9)
    assert run.steps[1].passes == 2 * (2 + 1) * 30  # two rates; two epochs, and one for the head
    assert run.passes == run.plan.passes(30) == 180
    run = run_it(sets, stages=(Stage("late", ("1",), (0.01,), 1.0, 2),), patience=9, refit=False)
    assert run.passes == run.plan.passes(30) == 60


def test_stopped_by_hand_keeps_the_best_so_far(sets, monkeypatch):
    from course_lib.recipe import stages as recipe_stages

    whole, seen = recipe_stages.finetune, []

    def interrupted(*arguments, **settings):
        history = whole(*arguments, **settings)
        history.interrupted = True
        seen.append(len(history))
        return history

    monkeypatch.setattr(recipe_stages, "finetune", interrupted)
    run = run_it(sets)
    assert len(run.steps) == 2
    assert run.steps[1].passes == seen[0] * 30, "no pass for a new head is started after it"
    assert "You stopped it" in run.report()


def test_what_does_not_fit_is_refused(sets):
    with pytest.raises(TrainingError, match="validation pictures"):
        run_it(sets[:1])
    with pytest.raises(TrainingError, match="empty"):
        run_it([sets[0], TensorDataset(torch.zeros(0, 1, 4, 4), torch.zeros(0))])
    with pytest.raises(HeadError):
        run_it(sets, nn.Sequential(nn.Flatten()))
    with pytest.raises(UnknownNameError):
        run_it(sets, nothing=1)


def test_saved_with_what_is_to_be_known(sets, tmp_path):
    with pytest.raises(CheckpointError, match="safetensors"):
        run_it(sets, save_to=tmp_path / "net.zip")
    run = run_it(sets, save_to=tmp_path / "net.safetensors")
    found = read_checkpoint(run.path)
    assert found.metadata["extra"]["classes"] == ["0", "1", "2"]
    assert found.metadata["metrics"]["test accuracy"] == pytest.approx(run.test.accuracy)
    assert str(run.path) in run.report()
    for name, tensor in run.model.state_dict().items():
        assert torch.equal(found.tensors[name], tensor)


# --- a folder of your own -------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    stream = torch.Generator().manual_seed(0)
    for name, channel in (("red", 0), ("blue", 2)):
        (tmp_path / "mine" / name).mkdir(parents=True)
        for number in range(8):
            pixels = torch.randint(0, 90, (40, 48, 3), generator=stream).to(torch.uint8)
            pixels[..., channel] += 120
            picture = Image.fromarray(pixels.numpy())
            picture.save(tmp_path / "mine" / name / f"{number}.png")
    return tmp_path / "mine"


def test_from_a_folder_to_a_saved_network(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path / "cache"))
    said = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", data.DataWarning)
        run = recipe.fit(
            folder, save_to=tmp_path / "mine.safetensors", size=32, budget=20, cache=False,
            say=said.append,
        )  # fmt: skip
    assert run.classes == ("blue", "red")
    assert run.facts.pictures == 10
    assert run.path.is_file()
    assert "The plan" in said[0]
    assert "95 % interval" in said[1]
    assert run.plan.batch_size == profile.current().batch_size
    assert read_checkpoint(run.path).metadata["extra"]["backbone"] == profile.current().backbone


def test_errors_of_a_folder_are_those_of_the_loader(folder, tmp_path):
    with pytest.raises(DataError, match=r"nowhere"):
        recipe.fit(tmp_path / "nowhere")
    for path in (folder / "red").iterdir():
        path.unlink()
    with pytest.raises(DataError, match=r"red"):
        recipe.fit(folder)
    with pytest.raises(TrainingError, match="name the backbone"):
        recipe.fit(folder, model=make_net())
    with pytest.raises(UnknownNameError):
        recipe.fit(folder, model="efficientnet_lite00")
