"""What each way costs on the network that the course uses: counted, so the same everywhere."""

import pytest
import torch
from torch import nn

from course_lib import backbones
from course_lib.freezing.costs import cost_of_step
from course_lib.strategies import inserts, lora, subsets


def pointwise(net):
    return [
        name for name, each in net.named_modules()
        if isinstance(each, nn.Conv2d) and each.kernel_size == (1, 1)
    ]  # fmt: skip


WAYS = {
    "all": lambda net: None,
    "head": lambda net: ["classifier"],
    "last block": lambda net: ["blocks.6", "conv_head", "bn2", "classifier"],
    "norms": lambda net: [*subsets.norms(net), "classifier"],
    "LoRA": lambda net: [*lora.add(net, pointwise(net), rank=4), "classifier"],
}


def cost(way):
    torch.manual_seed(0)
    net = backbones.load("efficientnet_lite0", num_classes=2, pretrained=False)
    names = WAYS[way](net)
    if names:
        subsets.train_only(net, names)
    trained = [each for each in net.train().parameters() if each.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.1)
    batch = torch.randn(4, 3, 96, 96), torch.arange(4) % 2

    def step():
        nn.functional.cross_entropy(net(batch[0]), batch[1]).backward()
        optimizer.step()

    return cost_of_step(net, optimizer, step, batch), inserts.count(trained)


@pytest.fixture(scope="module")
def full():
    return cost("all")[0]


@pytest.mark.parametrize(
    ("way", "work", "kept", "numbers"),
    [
        ("head", 0.34, 0.00, 2_562),
        ("last block", 0.41, 0.03, 1_020_162),
        ("norms", 0.66, 0.99, 44_578),
        ("LoRA", 0.73, 0.90, 93_698),
    ],
)
def test_work_memory_and_numbers_of_lite0(full, way, work, kept, numbers):
    found, trained = cost(way)
    assert trained == numbers
    assert found.flops / full.flops == pytest.approx(work, abs=0.006)
    assert found.activations / full.activations == pytest.approx(kept, abs=0.006)
    assert found.gradients == 4 * numbers
