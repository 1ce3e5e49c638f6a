import torch

from course_lib.benchmarks import training as benchmark
from course_lib.benchmarks.throughput import median_ratio, take_turns
from tests.training.conftest import batches_of, make_net, make_set, same_tensors, tensors_of


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
