"""What the rooms of chapter 08 compute stays where its input is: a fake GPU, which only checks."""

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from course_lib.strategies import (
    adversarial,
    crossmodal,
    disentangling,
    distillation,
    fewshot,
    unlabelled,
)

STREAM = torch.Generator().manual_seed(0)


def images(channels=1):
    return torch.rand(6, channels, 8, 8, device="cuda")


def rows(width=5):
    return torch.randn(6, width, device="cuda", requires_grad=True)


def targets():
    return torch.arange(6, device="cuda") % 3


def towers():
    with torch.device("cuda"):
        made = crossmodal.TwoTowers(5, ["a", "hot", "dog"])
    lines = ["a dog", "hot"] * 3
    return crossmodal.contrastive_loss(made.pictures(rows()), made.texts(lines), made.scale)


def critic_loss():
    with torch.device("cuda"):
        parts = nn.Linear(5, 4), nn.Linear(4, 3), adversarial.domain_head(4)
    return sum(adversarial.adversarial_losses(*parts, (rows(), targets()), rows(), 0.5))


def codes():
    with torch.device("cuda"):
        made = disentangling.TwoCodes()
    return sum(disentangling.code_losses(made, images(), images(), images()))


CASES = {
    "turns": lambda: unlabelled.rotated(images())[1],
    "contrast": lambda: unlabelled.nt_xent(rows(), rows()),
    "digits": lambda: unlabelled.digit_view(images(), STREAM),
    "photographs": lambda: unlabelled.photograph_view(images(3), STREAM),
    "towers": towers,
    "critic": critic_loss,
    "distillation": lambda: distillation.distillation_loss(rows(), rows(), targets()),
    "prototypes": lambda: fewshot.nearest(rows(), rows()),
    "codes": codes,
}


@pytest.mark.parametrize("name", CASES)
def test_it_stays_on_the_device(name):
    with FakeTensorMode(allow_non_fake_inputs=True):
        assert CASES[name]().device.type == "cuda"
