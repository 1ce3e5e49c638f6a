import pytest
import torch

from course_lib.benchmarks import training as benchmark
from course_lib.benchmarks.throughput import images_per_second, median_ratio, take_turns
from course_lib.training import TrainingError
from tests.training.conftest import batches_of, make_net, make_set, same_tensors, tensors_of


@pytest.mark.parametrize("train", [True, False])
def test_measuring_changes_nothing(train):
    net = make_net(dropout=0.5)
    net[1].eval()
    gradient = net[5].bias.grad = torch.ones(3)
    before, modes = tensors_of(net), [module.training for module in net.modules()]
    stream = torch.get_rng_state()
    speed = images_per_second(net, make_set().tensors, steps=2, train=train)
    assert speed > 0
    assert same_tensors(net, before)
    assert [module.training for module in net.modules()] == modes
    assert net[5].bias.grad is gradient
    assert torch.equal(gradient, torch.ones(3))
    assert net[0].weight.grad is None
    assert torch.equal(torch.get_rng_state(), stream)


def test_training_steps_train_and_inference_does_not():
    net = make_net()
    modes, backward = [], []
    net[1].register_forward_hook(lambda module, args, out: modes.append(module.training))
    net[5].register_full_backward_hook(lambda *args: backward.append(1))
    images_per_second(net, make_set().tensors, steps=3, warmup=1)
    assert (modes, len(backward)) == ([True] * 4, 4)
    modes.clear()
    images_per_second(net, make_set().tensors, steps=2, warmup=0, train=False)
    assert (modes, len(backward)) == ([False] * 2, 4)


def test_what_cannot_be_measured_is_refused():
    batch = make_set().tensors
    with pytest.raises(TrainingError, match="steps >= 1"):
        images_per_second(make_net(), batch, steps=0)
    frozen = make_net().requires_grad_(False)
    with pytest.raises(TrainingError, match="Nothing to train"):
        images_per_second(frozen, batch)
    assert images_per_second(frozen, batch, steps=1, train=False) > 0


def test_ways_take_turns():
    calls = []
    ways = {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}
    seconds = take_turns(ways, repeats=3)
    assert "".join(calls) == "ab" + "ba" + "ab" + "ba"
    assert [len(each) for each in seconds.values()] == [3, 3]
    assert median_ratio([1.0, 4.0, 9.0], [1.0, 2.0, 3.0]) == 2.0


def test_both_loops_of_the_benchmark_do_the_same_work(monkeypatch):
    made = []
    for name in ("bare_step", "finetune"):  # as they are, with a note of the model they get
        real = getattr(benchmark, name)

        def noted(net, *args, real=real, **options):
            made.append(net)
            return real(net, *args, **options)

        monkeypatch.setattr(benchmark, name, noted)
    batches = batches_of(make_set())
    seconds = benchmark.side_by_side(make_net(), batches, epochs=2)
    assert all(each > 0 for each in seconds)
    bare, again, ours = made
    assert same_tensors(bare, tensors_of(ours))
    assert same_tensors(again, tensors_of(ours))
    assert not same_tensors(ours, tensors_of(make_net()))


def test_the_benchmark_prints_a_ratio():
    line = benchmark.compare(make_net_rgb, side=4, batch=4, steps=2, epochs=1, repeats=2)
    assert "course/bare" in line


def make_net_rgb():
    net = make_net(classes=2)
    net[0] = torch.nn.Conv2d(3, 4, 3, padding=1)
    return net
