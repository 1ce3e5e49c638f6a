import re

import torch

from course_lib import cli
from course_lib.benchmarks import gpu


def test_it_measures_each_way_and_prints_ratios(capsys):
    """Small numbers, on the CPU; the head alone is far faster anywhere."""
    assert cli.main(["bench", "gpu", "--model", "resnet18", "--size", "32", "--batch", "4",
                     "--repeats", "2"]) == 0  # fmt: skip
    said = capsys.readouterr().out
    for name in (*gpu.WAYS, "reading and decoding", "augmenting", "copying"):
        assert re.search(rf"^{re.escape(name)} +[\d,]+ ", said, re.M), name
    assert re.search(rf"^{gpu.PLAIN} +[\d,]+ +1\.00$", said, re.M)


def test_the_ways_differ_in_what_they_say_they_do(monkeypatch):
    images, targets = torch.randn(2, 3, 32, 32), torch.tensor([0, 1])
    plain, kept = torch.optim.SGD, []
    monkeypatch.setattr(torch.optim, "SGD", lambda params, **given: (
        kept.append(sum(each.numel() for each in params)), plain(params, **given))[1]
    )  # fmt: skip
    for way in gpu.WAYS.values():
        gpu._step(way, "resnet18", images, targets, torch.device("cpu"))()
    made = dict(zip(gpu.WAYS, kept, strict=True))
    assert made["frozen body"] == made["head on cached features"] == 2 * 512 + 2
    assert made[gpu.PLAIN] == made["all layers, both"] > 11_000_000
