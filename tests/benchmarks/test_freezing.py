"""The benchmark measures what it says (how fast is not a test's business)."""

import pytest
import torch

from course_lib.benchmarks import freezing as bench
from course_lib.freezing.matrix import PictureReader

BODY, HEAD = "body.3.weight", "head.weight"


def small(backbone):
    torch.manual_seed(0)
    return PictureReader()


@pytest.fixture(autouse=True)
def _small_models(monkeypatch):
    monkeypatch.setattr(bench, "build", small)
    monkeypatch.setattr(bench.backbones, "head_name", lambda model: "head")


def trained(way):
    model, batch = small(""), bench.random_batch(16, 4)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    ready = bench.trainer(way, model, batch)
    for _ in range(2):
        ready.step()
    after = model.state_dict()
    return after, {name for name in before if not torch.equal(before[name], after[name])}


def test_the_bound_computes_just_what_the_frozen_run_does():
    ours, changed = trained(bench.OURS)
    assert changed == {"head.weight", "head.bias"}
    bound, also = trained(bench.BOUND)
    assert also == changed
    assert all(torch.equal(ours[name], bound[name]) for name in ours)


def test_full_training_trains_everything_and_methods_hold_the_body():
    for way in bench.WAYS:
        _, changed = trained(way)
        assert HEAD in changed
        assert (BODY in changed) == (way == bench.FULL)


def test_table(monkeypatch):
    monkeypatch.setattr(
        bench, "peak_in_fresh_process", lambda *asked: max(bench.peak_memory(*asked), 1)
    )
    results = bench.measure("small", side=16, size=4, repeats=2)
    text = bench.table(results)
    assert [each.way for each in results] == list(bench.WAYS)
    for way in bench.WAYS:
        assert way in text
    assert f"the bar of {bench.BAR:.2f}" in text
    costs = {each.way: each.cost for each in results}
    assert costs[bench.OURS].flops == costs[bench.BOUND].flops < costs[bench.FULL].flops
    assert costs[bench.OURS].memory == costs[bench.BOUND].memory < costs[bench.FULL].memory


@pytest.mark.slow
def test_memory_of_a_fresh_process():
    full, ours = (
        bench.peak_in_fresh_process(way, "efficientnet_lite0", 64, 4)
        for way in (bench.FULL, bench.OURS)
    )
    assert 0 < ours < full / 4
