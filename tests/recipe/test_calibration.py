"""Temperature and calibration error, against torchmetrics, a direct optimiser and a hand count."""

import math

import pytest
import torch
from torchmetrics.classification import MulticlassCalibrationError

from course_lib.errors import DataError
from course_lib.recipe.calibration import (
    COLDEST,
    HOTTEST,
    bins_for,
    calibration_error,
    temperature,
)


def sample(n, classes, hot, seed=0):
    """Logits that are ``hot`` times too large for the targets, which are drawn from them."""
    stream = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(n, classes, generator=stream)
    targets = torch.multinomial(logits.softmax(1), 1, generator=stream).flatten()
    return logits * hot, targets


def by_lbfgs(logits, targets, weights=None):
    """Guo et al.'s own way: gradient steps on the temperature."""
    value = torch.ones(1, dtype=torch.float64, requires_grad=True)
    steps = torch.optim.LBFGS([value], max_iter=500, line_search_fn="strong_wolfe",
                              tolerance_grad=1e-12, tolerance_change=1e-14)  # fmt: skip
    share = torch.ones(len(targets)) if weights is None else weights

    def closure():
        steps.zero_grad()
        losses = torch.nn.functional.cross_entropy(
            logits.double() / value, targets, reduction="none"
        )
        loss = (losses * share).sum() / share.sum()
        loss.backward()
        return loss

    steps.step(closure)
    return value.item()


@pytest.mark.parametrize("classes", [2, 7])
@pytest.mark.parametrize("hot", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("weighted", [False, True])
def test_temperature_is_the_optimum_of_the_cross_entropy(classes, hot, weighted):
    logits, targets = sample(400, classes, hot)
    weights = torch.rand(400) if weighted else None
    found = temperature(logits, targets, weights)
    assert found == pytest.approx(by_lbfgs(logits, targets, weights), rel=1e-5)
    assert found == pytest.approx(hot, rel=0.2)


def test_a_weight_counts_as_that_many_pictures():
    logits, targets = sample(30, 3, 2.0)
    counts = torch.arange(30) % 3
    repeated = temperature(logits.repeat_interleave(counts, 0), targets.repeat_interleave(counts))
    assert temperature(logits, targets, counts) == pytest.approx(repeated, rel=1e-6)


@pytest.mark.parametrize(
    ("logits", "targets", "expected"),
    [
        ([[3.0, 0.0], [0.0, 3.0]], [0, 1], COLDEST),  # all right: the colder the better
        ([[3.0, 0.0], [0.0, 3.0]], [1, 0], HOTTEST),  # all wrong
        ([[1.0, 1.0], [1.0, 1.0]], [1, 0], 1.0),  # no temperature changes anything
        ([[2.0]], [0], 1.0),  # a single class
        ([[1e30, 0.0], [0.0, 1e30]], [0, 1], 1.0),  # perfect already
    ],
)
def test_where_there_is_no_optimum_the_temperature_stays_within_its_bounds(
    logits, targets, expected
):
    assert temperature(torch.tensor(logits), torch.tensor(targets)) == pytest.approx(expected)


def test_the_prior_holds_few_pictures_near_one_and_gives_way_to_many():
    def shift(n, prior):
        return abs(math.log(temperature(*sample(n, 3, 3.0), prior=prior) / 3))

    logits, targets = torch.tensor([[3.0, 0.0], [0.0, 3.0]]), torch.tensor([0, 1])
    assert COLDEST < temperature(logits, targets, prior=4.0) < 1
    assert shift(5000, 4.0) == pytest.approx(shift(5000, 0.0), abs=0.01)


@pytest.mark.parametrize("bins", [5, 15, 40])
@pytest.mark.parametrize("classes", [2, 6])
def test_calibration_error_is_that_of_torchmetrics(classes, bins):
    logits, targets = sample(300, classes, 2.5)
    shares = logits.double().softmax(1)
    theirs = MulticlassCalibrationError(classes, n_bins=bins, norm="l1")(shares, targets)
    assert calibration_error(shares, targets, bins) == pytest.approx(theirs.item(), abs=1e-6)


def test_calibration_error_by_hand():
    shares = (
        torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.55, 0.45], [0.4, 0.6]]).double().round(decimals=2)
    )
    targets = torch.tensor([0, 0, 0, 1])
    # Of two bins, (0, 0.5] is empty; in (0.5, 1] the mean is 0.7125 and 3 of 4 are right.
    assert calibration_error(shares, targets, 2) == pytest.approx(0.0375)
    # Of five, (0.4, 0.6] has 0.55 and 0.6, both right; (0.6, 0.8] and (0.8, 1] have one each.
    expected = (2 * (1 - 0.575) + (1 - 0.9) + 0.8) / 4
    assert calibration_error(shares, targets, 5) == pytest.approx(expected)


def test_temperature_lowers_the_error_of_a_network_that_is_too_sure():
    logits, targets = sample(2000, 4, 4.0)
    found = temperature(logits[:1000], targets[:1000])
    before = calibration_error(logits[1000:].softmax(1), targets[1000:])
    after = calibration_error((logits[1000:] / found).softmax(1), targets[1000:])
    assert after < before / 3


def test_few_bins_are_nearer_to_the_truth_on_few_pictures():
    """Targets drawn from the probabilities themselves: the true error is 0."""

    def mean(n, bins):
        drawn = [sample(n, 2, 1.0, seed) for seed in range(30)]
        return sum(calibration_error(z.softmax(1), t, bins) for z, t in drawn) / len(drawn)

    assert bins_for(50) < 15 == bins_for(200)
    assert mean(50, bins_for(50)) < 0.75 * mean(50, 15)


@pytest.mark.parametrize(
    ("scores", "targets"),
    [
        (torch.zeros(0, 2), torch.zeros(0, dtype=torch.long)),
        (torch.zeros(3, 2), torch.tensor([0, 1])),
        (torch.zeros(2), torch.tensor([0, 1])),
        (torch.zeros(2, 2), torch.tensor([0, 2])),
        (torch.zeros(2, 2), torch.tensor([0, -1])),
        (torch.tensor([[math.nan, 0.0], [0.0, 1.0]]), torch.tensor([0, 1])),
    ],
)
def test_what_cannot_be_measured_is_refused(scores, targets):
    for measure in (temperature, calibration_error):
        with pytest.raises(DataError):
            measure(scores, targets)


def test_weights_and_probabilities_that_are_none_are_refused():
    logits, targets = sample(4, 2, 1.0)
    for weights in (torch.ones(3), -torch.ones(4), torch.full((4,), math.nan)):
        with pytest.raises(DataError, match="weights"):
            temperature(logits, targets, weights)
    with pytest.raises(DataError, match="probabilities"):
        calibration_error(logits, targets)
    with pytest.raises(DataError, match="bin"):
        calibration_error(logits.softmax(1), targets, 0)
