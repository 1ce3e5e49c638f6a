"""Two codes: a swap hands over what it says, the losses are those by hand, probes find chance."""

import pytest
import torch
from torch.nn import functional as F

from course_lib.features import classifiers
from course_lib.strategies import disentangling
from course_lib.strategies.inserts import StrategyError
from tests.strategies.conftest import copies, same


@pytest.fixture
def model():
    torch.manual_seed(0)
    return disentangling.TwoCodes().eval()


def pictures(count, seed=0):
    return torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(seed))


def test_a_swap_with_itself_is_the_reconstruction(model):
    x = pictures(6)
    assert torch.equal(disentangling.swap(model, x, x), model(x))


def test_the_codes_that_are_swapped_are_those_handed_over(model):
    first, second = pictures(6), pictures(6, seed=1)
    seen = []
    model.decoder.register_forward_pre_hook(lambda _, codes: seen.append(codes[0]))
    disentangling.swap(model, first, second)
    content, style = model.encode(first)[0], model.encode(second)[1]
    assert (content.shape, style.shape) == ((6, 16), (6, 4))
    assert torch.equal(seen[0], torch.cat([content, style], dim=1))
    assert not torch.equal(content, model.encode(second)[0])


def test_codes_have_mean_zero_and_variance_one_in_training(model):
    assert not list(model.encoder[-1].parameters())  # no scale to grow or shrink by
    for code in model.train().encode(pictures(50)):
        torch.testing.assert_close(code.mean(0), torch.zeros(code.shape[1]), atol=1e-5, rtol=0)
        variance = code.var(0, unbiased=False)
        torch.testing.assert_close(variance, torch.ones(code.shape[1]), atol=0.05, rtol=0)


def test_losses_are_those_by_hand(model):
    here, there, others = (pictures(5, seed) for seed in range(3))
    found = disentangling.code_losses(model, here, there, others)
    whole = torch.cat([here, there, others])
    content, style = model.encode(here)[0], model.encode(others)[1]
    expected = (
        ((model(whole) - whole) ** 2).mean(),
        ((model.decode(content, style) - there) ** 2).mean(),
        ((content - model.encode(there)[0]) ** 2).mean(),
    )
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_looks_are_what_they_are_called():
    x = torch.zeros(1, 1, 8, 8)
    x[..., 2:6, 4] = 1
    plain, inverted, thick, slanted = disentangling.in_all_looks(x)
    assert torch.equal(plain, x)
    assert torch.equal(inverted, 1 - x)
    assert thick.sum() == 10  # one more to the left and above: 2 by 5
    assert (thick >= x).all()
    assert slanted.sum() == pytest.approx(float(x.sum()), abs=0.8)
    assert not torch.equal(slanted, x)


def test_swaps_teach_what_reconstruction_does_not():
    """Eight pictures in four looks: with the swaps' loss another's style can be put on."""
    looks = disentangling.in_all_looks(pictures(8).round())
    wrong = {}
    for swaps in (0.0, 1.0):
        made = disentangling.train_two_codes(looks, swaps=swaps, pairs=0, steps=200, seed=1)
        assert not made.training
        with torch.no_grad():
            mixed = disentangling.swap(made, looks[0], looks[1].flip(0))
        wrong[swaps] = F.mse_loss(mixed, looks[1])
    assert wrong[1.0] < 0.05 < 0.1 < wrong[0.0]


def test_the_seed_decides_and_the_outer_stream_stays():
    looks = disentangling.in_all_looks(pictures(8))
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one, two, three = (disentangling.train_two_codes(looks, steps=2, seed=s) for s in (1, 1, 2))
    assert torch.equal(before, torch.get_rng_state())
    assert same(copies(one), copies(two))
    assert not same(copies(one), copies(three))
    for wrong in (looks[0], looks[:1], looks[:, :1]):
        with pytest.raises(StrategyError, match="two looks and two pictures"):
            disentangling.train_two_codes(wrong)


def test_probes_find_chance_in_random_codes_and_everything_in_one_hot_ones():
    stream = torch.Generator().manual_seed(3)
    known = [torch.arange(1200) % 4, torch.arange(800) % 4]
    drawn = [torch.randn(len(each), 6, generator=stream) for each in known]
    chance = disentangling.probe_codes((drawn[0], known[0]), (drawn[1], known[1]))
    assert set(chance) < set(classifiers())
    assert all(abs(each - 0.25) < 0.06 for each in chance.values())
    exact = [F.one_hot(each, 4).float() for each in known]
    found = disentangling.probe_codes((exact[0], known[0]), (exact[1], known[1]))
    assert set(found.values()) == {1.0}


def test_what_no_line_can_read_the_others_can():
    """Two numbers of equal or unequal sign: a line is at chance, and chance is no proof."""
    stream = torch.Generator().manual_seed(4)
    codes = [torch.randn(800, 2, generator=stream) for _ in range(2)]
    parts = [(each, (each.prod(dim=1) > 0).long()) for each in codes]
    found = disentangling.probe_codes(*parts)
    assert found["logistic_regression"] < 0.7 < 0.9 < min(found["svm"], found["knn"])
