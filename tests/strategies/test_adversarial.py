"""The reversal against a gradient by hand, statistics against torch's, whose labels are used."""

import math

import pytest
import torch
from torch import nn

from course_lib import freezing
from course_lib.data.manifest import bundled_folder
from course_lib.errors import UnknownNameError
from course_lib.strategies import adversarial, domain_data
from course_lib.strategies.inserts import StrategyError
from tests.strategies.conftest import copies, same


def parts(seed=0, width=3):
    torch.manual_seed(seed)
    body = nn.Sequential(nn.Linear(5, width), nn.BatchNorm1d(width))
    return body, nn.Linear(width, 2), adversarial.domain_head(width, hidden=4)


def pictures(count, seed):
    return torch.randn(count, 5, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("strength", [0.0, 0.3, 2.0])
def test_the_reversed_gradient_is_that_of_a_hand_count(strength):
    x = torch.tensor([1.0, -2.0, 3.0], requires_grad=True)
    turned = adversarial.reverse(x, strength)
    assert torch.equal(turned, x)
    (turned**2).sum().backward()
    torch.testing.assert_close(x.grad, -strength * 2 * x.detach(), rtol=0, atol=0)


def test_the_ramp_is_the_papers():
    assert adversarial.ramp(0) == 0
    assert adversarial.ramp(0.1) == pytest.approx((1 - math.exp(-1)) / (1 + math.exp(-1)))
    assert adversarial.ramp(1) == pytest.approx(math.tanh(5))


def test_the_critic_learns_to_tell_and_the_body_to_hide():
    """The same domain loss: its gradient in the body is turned, in the critic it isn't."""
    body, head, critic = parts()
    source, target = (pictures(8, 1), torch.arange(8) % 2), pictures(6, 2)
    found = {}
    for strength in (-1.0, 0.5):  # at -1 nothing is turned
        _, domains = adversarial.adversarial_losses(body, head, critic, source, target, strength)
        for part in (body, head, critic):
            part.zero_grad()
        domains.backward()
        found[strength] = body[0].weight.grad.clone(), critic[0].weight.grad.clone()
        assert head.weight.grad is None
    plain, turned = found[-1.0], found[0.5]
    torch.testing.assert_close(turned[0], -0.5 * plain[0])
    torch.testing.assert_close(turned[1], plain[1])
    assert plain[0].abs().max() > 1e-3


def test_only_source_labels_reach_the_classifier():
    """The loss of the classes is torch's on the source, and the target has no part in it."""
    body, head, critic = parts()
    source, target = (pictures(8, 1), torch.arange(8) % 2), pictures(6, 2).requires_grad_()
    classes, _ = adversarial.adversarial_losses(body, head, critic, source, target, 1.0)
    expected = nn.functional.cross_entropy(head(body(source[0])), source[1])
    torch.testing.assert_close(classes, expected)
    assert torch.autograd.grad(classes, target, allow_unused=True) == (None,)


def test_at_strength_zero_the_target_leaves_body_and_head_alone():
    source = pictures(40, 1), torch.arange(40) % 2
    weights = []
    for target in (pictures(30, 2), 5 + 3 * pictures(30, 3)):
        networks = parts()
        adversarial.train_adversarial(*networks, source, target, strength=0, steps=5, seed=0)
        weights.append([each.detach() for part in networks[:2] for each in part.parameters()])
    assert all(map(torch.equal, *weights))


def test_on_slanted_digits_the_reversal_helps():
    found = domain_data.two_domains("digits", draw=5)
    right = {}
    for strength in (0.0, 0.3):
        networks = domain_data.new_networks(found, 5)
        model = adversarial.train_adversarial(
            *networks, found.source, found.target[0], strength=strength, steps=200, seed=5
        )
        assert not model.training
        with torch.no_grad():
            scores = adversarial.statistics_of(model, found.target[0])(found.test[0])
        right[strength] = (scores.argmax(1) == found.test[1]).float().mean()
    assert right[0.3] > right[0.0] + 0.1 > 0.4


def test_a_domain_without_pictures_and_labels_too_few_are_refused():
    source = pictures(8, 1), torch.arange(8) % 2
    for wrong in ((source, source[0][:0]), ((source[0], source[1][:7]), source[0])):
        with pytest.raises(StrategyError, match="expected a class for each source picture"):
            adversarial.train_adversarial(*parts(), *wrong)


def conv():
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Dropout(), nn.Conv2d(3, 2, 3)]
    return nn.Sequential(*layers, nn.BatchNorm2d(2, momentum=0.3))


def test_statistics_are_torchs_own_layer_by_layer():
    model, x = conv(), 3 + torch.randn(20, 1, 8, 8)
    before = copies(model)
    made = adversarial.statistics_of(model, x)
    assert same(before, copies(model))
    assert not made.training
    assert made[4].momentum == 0.3
    with torch.no_grad():
        first = model[0](x)
        mean, spread = first.mean((0, 2, 3)), first.var((0, 2, 3), unbiased=False)
        shaped = [each[None, :, None, None] for each in (mean, spread)]
        second = model[3]((first - shaped[0]) / (shaped[1] + 1e-5).sqrt())
    for layer, values in ((made[1], first), (made[4], second)):
        torch.testing.assert_close(layer.running_mean, values.mean((0, 2, 3)))
        torch.testing.assert_close(layer.running_var, values.var((0, 2, 3)))


def test_frozen_layers_keep_their_statistics():
    model, x = conv(), 3 + torch.randn(20, 1, 8, 8)
    freezing.freeze(model, "1")
    made = adversarial.statistics_of(model, x)
    assert torch.equal(made[1].running_mean, model[1].running_mean)
    assert not torch.equal(made[4].running_mean, model[4].running_mean)
    freezing.freeze(model, "4")
    with pytest.raises(StrategyError, match="unfreeze"):
        adversarial.statistics_of(model, x)
    with pytest.raises(StrategyError, match="two pictures"):
        adversarial.statistics_of(conv(), x[:1])


def test_domains_share_no_picture_and_other_shares_are_one_in_ten():
    found = domain_data.two_domains("digits", draw=1)
    assert [len(each[1]) for each in (found.source, found.target, found.test)] == [700, 600, 497]
    upright = domain_data.slanted(found.source[0]).flatten(1)
    nearest = torch.cdist(upright, found.target[0].flatten(1)).min()
    assert nearest > 0.1  # the slanted source is not among the target
    other = domain_data.with_other_shares(found)
    assert torch.equal(other.source[0], found.source[0])
    for _, targets in (other.target, other.test):
        assert (targets < 5).float().mean() == pytest.approx(0.1, abs=0.005)


def test_a_slanted_line_leans():
    line = torch.zeros(1, 1, 8, 8)
    line[..., 4] = 1
    columns = domain_data.slanted(line)[0, 0].argmax(dim=1)
    assert columns.diff().abs().max() >= 1
    assert columns[0] > columns[4] > columns[7] or columns[0] < columns[4] < columns[7]


def test_hot_dogs_take_the_same_path(tmp_path):
    """Drawn pictures in the place of the photographs; a few, since a network sees them."""
    for split in ("train", "test"):
        for name in ("hotdog", "not-hotdog"):
            folder = tmp_path / split / name
            folder.mkdir(parents=True)
            for path in sorted((bundled_folder() / "test" / name).iterdir())[split == "test" :: 6]:
                (folder / path.name).write_bytes(path.read_bytes())
    found = domain_data.two_domains("hotdogs", photographs=tmp_path)
    assert found.classes == ("hotdog", "not-hotdog")
    assert found.source[0].shape == (150, 1280)
    assert found.target[0].shape[1] == 1280
    networks = domain_data.new_networks(found, 0)
    model = adversarial.train_adversarial(
        *networks, found.source, found.target[0], steps=3, batch_size=8
    )
    assert adversarial.statistics_of(model, found.target[0])(found.test[0]).shape[1] == 2
    with pytest.raises(UnknownNameError, match="digits and hotdogs"):
        domain_data.two_domains("cats")
