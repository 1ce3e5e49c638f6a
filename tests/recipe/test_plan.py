"""The plan: what follows from which facts, within which budget, and what it says about it."""

import pytest
import torch
from torch import nn

from course_lib.errors import UnknownNameError
from course_lib.recipe.answers import Answers, Share
from course_lib.recipe.facts import Facts, body_blocks
from course_lib.recipe.plan import PENALTIES, Stage, check, make_plan
from course_lib.recipe.sizes import Climb, Looked, SizeTrial
from course_lib.training import TrainingError

BLOCKS = ("conv1", "conv2", "conv3")
FAR, NEAR = Share(0.6, 0.55, 0.65), Share(0.97, 0.96, 0.98)
MIDDLING = Share(0.85, 0.82, 0.88)


def facts(training=(60, 60), validation=(60, 60), separated=MIDDLING, blocks=BLOCKS):
    names = tuple("abcdefg"[: len(training)])
    return Facts(names, training, validation, separated, blocks)


def climb(size=96):
    trial = SizeTrial(size, Share(0.8, 0.7, 0.9), 0.4, 10.0, 3.0)
    answers = Answers(torch.zeros(2, 2), torch.tensor([0, 1]), torch.ones(2))
    return Climb([trial], [], Looked(None, None, {10.0: answers}, trial, 1.0))


def plan_for(found, budget=20_000, **options):
    return make_plan(found, climb(), "balanced", PENALTIES, 8, budget, **options)


def told_by(plan):
    """Without line breaks."""
    return " ".join(str(plan).split())


def test_similarity_is_the_share_of_the_way_from_guessing_to_perfect():
    assert facts(separated=Share(0.5, 0.4, 0.6)).similarity.value == 0
    assert facts(separated=Share(0.75, 0.7, 0.8)).similarity.value == pytest.approx(0.5)
    assert facts(separated=Share(1.0, 0.9, 1.0)).similarity.low == pytest.approx(0.8)
    assert [facts(separated=each).distance for each in (FAR, facts().separated, NEAR)] == [
        "far", "middling", "close"
    ]  # fmt: skip
    assert facts((15, 15), (4, 4), FAR).distance == "unclear", "a head fails with few anyway"
    three = facts((9, 9, 9), (9, 9, 9), Share(2 / 3, 0.6, 0.7))
    assert three.similarity.value == pytest.approx(0.5)


def test_a_wide_interval_tells_no_cause():
    found = facts((40, 300), (10, 80), Share(0.7, 0.45, 0.95))
    assert found.distance == "unclear"
    told = told_by(plan_for(found))
    assert "too few pictures to tell" in told
    assert "far from this task" not in told


def test_amounts_are_those_of_the_smallest_class():
    amounts = [facts((300, each), (0, 0)).amount for each in (19, 20, 200)]
    assert amounts == ["few", "some", "many"]
    assert facts((30, 0), (10, 0)).smallest == 40, "a class without pictures is no small class"


def test_small_classes_are_named_with_what_to_do():
    found = facts((100, 6, 40, 0), (50, 2, 3, 0)).warnings()
    assert [each.split()[0] for each in found] == ["b", "c", "d"]
    assert "8 pictures in all" in found[0]
    assert "Add pictures" in found[0]
    assert "cross-validation over all its 43" in found[1]
    assert facts().warnings() == []


def test_few_validation_pictures_mean_cross_validation():
    assert facts().folds == 1
    assert facts(validation=(49, 49)).folds == 3
    assert facts(validation=(200, 9)).folds == 3


def test_the_plan_depends_on_the_facts_and_says_so():
    far, near = (plan_for(facts(separated=each), 4000) for each in (FAR, NEAR))
    assert [each.name for each in far.stages] == ["all layers"]
    assert [each.name for each in near.stages] == ["last third", "all layers"]
    assert near.stages[0].thaw == BLOCKS[-1:]
    assert "from the first layer on" in told_by(far)
    assert "two stages" in told_by(near)
    assert plan_for(facts(blocks=())).stages == ()


def test_it_says_what_the_sizes_gave():
    told = told_by(plan_for(facts()))
    assert "96 pixels: balanced accuracy 0.80 [0.70, 0.90], log-loss 0.400; 3 s" in told
    assert "class_weight='balanced'" in told


@pytest.mark.parametrize("validation", [(60, 60), (5, 5)])
@pytest.mark.parametrize("separated", [FAR, NEAR])
@pytest.mark.parametrize("budget", [0, 100, 700, 1500, 5000, 30_000])
def test_the_plan_stays_within_the_budget(validation, separated, budget):
    found = facts(validation=validation, separated=separated)
    plan = plan_for(found, budget)
    assert plan.passes(found) <= budget
    assert all(each.epochs >= 2 for each in plan.stages)
    assert plan.folds == found.folds
    if not plan.stages:
        assert f"there is room for {budget:,}" in told_by(plan)


def test_more_budget_buys_more():
    names = [
        [(each.name, len(each.rates)) for each in plan_for(facts(), budget).stages]
        for budget in (0, 700, 2000, 5000, 40_000)
    ]
    assert names == [
        [],
        [("last third", 1)],
        [("last third", 1), ("all layers", 1)],
        [("last third", 1), ("all layers", 3)],
        [("all layers", 3), ("all at once, new head", 3)],
    ]


def test_every_number_can_be_changed_and_only_those_there_are():
    plan = plan_for(facts())
    assert plan.changed(momentum=0.5, stages=()).momentum == 0.5
    assert plan.changed().stages == plan.stages
    with pytest.raises(UnknownNameError, match="Did you mean 'momentum'"):
        plan.changed(momemtum=7)
    for name, value in (
        ("penalties", ()), ("penalties", (0.0,)), ("shares", (1.5,)), ("batch_size", 0),
        ("pull", -1.0), ("momentum", 1.0), ("folds", 0), ("class_weight", "equal"),
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
