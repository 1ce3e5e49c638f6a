"""The laboratories of chapter 09: what trains in each way, and parts that share no picture."""

import itertools

import pytest
import torch

from course_lib.evidence import digit_vit, digits
from course_lib.evidence.studies import shift
from course_lib.strategies import inserts


@pytest.mark.parametrize(
    ("way", "numbers"),
    [
        ("all layers", 58_325),
        ("head", 49 * 5),
        ("LoRA", 3 * 4 * (48 + 144 + 48 + 96) + 245),
        ("adapters", 6 * (4 * 48 + 4 + 48 * 4 + 48) + 245),
        ("biases", 48 + 3 * (48 + 144 + 48 + 48 + 96 + 48) + 48 + 245),
        ("norms", 7 * 2 * 48 + 245),
        ("prompts", 4 * 48 + 245),
    ],
)
def test_each_way_trains_what_it_says(way, numbers):
    """Counted by hand from the widths 48, 144 and 96."""
    model = digit_vit.prepare(digit_vit.new_vit(0), way, seed=0)
    assert inserts.count(each for each in model.parameters() if each.requires_grad) == numbers
    before = {name: each.clone() for name, each in model.named_parameters()}
    task = digits.target_task(0, 25)
    digit_vit.fit(model, task.train, 0.01, steps=3, seed=0)
    for name, each in model.named_parameters():
        assert torch.equal(each, before[name]) != each.requires_grad, name


def test_the_same_seed_adds_the_same_numbers():
    made = [digit_vit.prepare(digit_vit.new_vit(0), "LoRA", seed=1) for _ in range(2)]
    weights = [inserts.inserts(each, inserts.Insert)[0][1].down.weight for each in made]
    assert torch.equal(*weights)


def test_parts_of_ten_digits_share_no_picture():
    _, labels, parts = shift.ten_digits(3, per_class=10)
    for one, other in itertools.combinations(parts, 2):
        assert not set(one.tolist()) & set(other.tolist())
    assert labels[parts[1]].bincount().tolist() == [10] * 10


def test_one_layer_alone_trains():
    net = digits.new_network(0)
    for layer in shift.LAYERS:
        made = shift.only(net, layer)()
        trains = {
            name.split(".")[0] for name, each in made.named_parameters() if each.requires_grad
        }
        assert trains == (set(digits.LAYERS) if layer == "all" else {layer})
