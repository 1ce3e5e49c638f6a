"""Pretraining without labels: turns beside numpy's, the contrast beside a loop, views that move."""

import math

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from course_lib.strategies import unlabelled
from course_lib.strategies.inserts import StrategyError
from tests.strategies.conftest import copies, same


@pytest.fixture(scope="module")
def images():
    return torch.tensor(load_digits().images[:96] / 16, dtype=torch.float32).unsqueeze(1)


def body(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten())


def by_loop(first, second, temperature):
    """Equation 1 of the paper, pair by pair, in Python's numbers."""
    rows = [*first.double().tolist(), *second.double().tolist()]

    def like(a, b):
        lengths = math.hypot(*a) * math.hypot(*b)
        return math.exp(sum(x * y for x, y in zip(a, b, strict=True)) / lengths / temperature)

    count, total = len(first), 0.0
    for place, row in enumerate(rows):
        partner = rows[(place + count) % (2 * count)]
        others = sum(like(row, each) for k, each in enumerate(rows) if k != place)
        total -= math.log(like(row, partner) / others)
    return total / len(rows)


@pytest.mark.parametrize("temperature", [0.1, 0.5, 2.0])
@pytest.mark.parametrize("count", [2, 5])
def test_the_contrast_is_that_of_the_paper(count, temperature):
    torch.manual_seed(count)
    first, second = torch.randn(count, 7), 3 * torch.randn(count, 7)
    found = float(unlabelled.nt_xent(first, second, temperature))
    assert found == pytest.approx(by_loop(first, second, temperature), rel=1e-5)
    assert found == pytest.approx(float(unlabelled.nt_xent(second, first, temperature)), rel=1e-5)


def test_views_that_agree_cost_less():
    torch.manual_seed(0)
    first, noise = torch.randn(8, 16), torch.randn(8, 16)
    losses = [float(unlabelled.nt_xent(first, first + far * noise)) for far in (0.0, 0.5, 5.0)]
    assert losses == sorted(losses)
    assert losses[0] < float(unlabelled.nt_xent(first, first.roll(1, 0))) - 1


def test_rows_that_are_all_alike_cost_the_logarithm_of_their_number():
    """A network that gives every picture the same features has learned nothing, and pays for it."""
    same_rows = torch.ones(8, 4)
    assert float(unlabelled.nt_xent(same_rows, same_rows)) == pytest.approx(math.log(15), rel=1e-5)


def test_turns_are_numpys_and_labelled(images):
    turned, turns = unlabelled.rotated(images)
    assert turned.shape == (4 * 96, 1, 8, 8)
    assert turns.tolist() == [0] * 96 + [1] * 96 + [2] * 96 + [3] * 96
    for picture, turn, before in zip(turned, turns, [*images] * 4, strict=True):
        expected = np.rot90(before[0].numpy(), int(turn))
        assert np.array_equal(picture[0].numpy(), expected)
    again = unlabelled.rotated(unlabelled.rotated(images)[0][96 : 2 * 96])[0][3 * 96 :]
    assert torch.equal(again, images)  # one turn and three are a full one


def test_views_differ_from_the_picture_and_from_each_other(images):
    stream = torch.Generator().manual_seed(0)
    first, second = (unlabelled.digit_view(images, stream) for _ in range(2))
    assert first.shape == images.shape
    assert not torch.equal(first, second)
    own = (first - images).flatten(1).norm(dim=1)
    other = (first - images.roll(1, 0)).flatten(1).norm(dim=1)
    assert float((own < other).float().mean()) > 0.85  # still the same digit


def test_a_digit_is_never_mirrored_and_a_photograph_is():
    """A bright left half: the share of views that have it on the right."""
    half = torch.zeros(400, 3, 16, 16)
    half[..., :8] = 1.0
    stream = torch.Generator().manual_seed(0)

    def mirrored(view):
        seen = view(half, stream)
        return float((seen[..., 8:].mean((1, 2, 3)) > seen[..., :8].mean((1, 2, 3))).float().mean())

    assert mirrored(unlabelled.digit_view) == 0
    assert 0.3 < mirrored(unlabelled.photograph_view) < 0.7


def test_a_view_without_any_change_is_the_picture(images):
    stream = torch.Generator().manual_seed(0)
    one = {"turn": 0.0, "sizes": (1.0, 1.0), "move": 0.0, "flip": False, "noise": 0.0}
    seen = unlabelled._seen(images, stream, **one)
    strength = seen.flatten(1).sum(1) / images.flatten(1).sum(1)
    assert 0.7 <= float(strength.min()) <= float(strength.max()) <= 1.3
    torch.testing.assert_close(seen, images * strength[:, None, None, None], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("way", ["rotation", "contrast"])
def test_training_lowers_the_loss_repeats_and_leaves_the_stream_alone(images, way):
    def pretrain(seed, model):
        if way == "rotation":
            return model, unlabelled.by_rotation(model, images, steps=60, seed=seed)
        view = unlabelled.digit_view
        return model, unlabelled.by_contrast(
            model, images, view, steps=60, batch_size=48, seed=seed
        )

    torch.manual_seed(5)
    expected = torch.rand(1)
    model = body()
    start = copies(model)
    torch.manual_seed(5)
    _, losses = pretrain(0, model)
    assert torch.equal(torch.rand(1), expected)
    assert len(losses) == 60
    assert sum(losses[-10:]) < 0.9 * sum(losses[:10])
    assert not model.training
    assert not same(start, copies(model))
    again, repeated = pretrain(0, body())
    assert losses == repeated
    assert same(copies(model), copies(again))
    assert pretrain(1, body())[1] != losses


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: unlabelled.nt_xent(torch.ones(1, 4), torch.ones(1, 4)), "two pictures or more"),
        (lambda: unlabelled.nt_xent(torch.ones(3, 4), torch.ones(2, 4)), "two pictures or more"),
        (lambda: unlabelled.nt_xent(torch.ones(3, 4), torch.ones(3, 4), 0.0), "above 0"),
        (lambda: unlabelled.rotated(torch.ones(2, 1, 4, 6)), "squares"),
        (lambda: unlabelled.by_rotation(nn.Conv2d(1, 2, 3), torch.ones(4, 1, 8, 8)), "Pool or"),
    ],
)
def test_what_is_refused(call, words):
    with pytest.raises(StrategyError, match=words):
        call()


@pytest.mark.parametrize(("count", "batch_size"), [(1, 8), (0, 8), (6, 1)])
def test_one_picture_alone_is_refused_before_anything_is_trained(count, batch_size):
    body = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 4))
    before = body[1].weight.clone()
    with pytest.raises(StrategyError, match="two or more"):
        unlabelled.by_contrast(
            body, torch.rand(count, 1, 8, 8), unlabelled.digit_view, batch_size=batch_size
        )
    assert torch.equal(body[1].weight, before)
