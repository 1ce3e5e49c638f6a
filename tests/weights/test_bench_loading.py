"""The benchmark runs, and its table says what was measured (how fast is not a test's business)."""

import torch

from course_lib.benchmarks import loading


def test_every_way_in_this_process(tmp_path, monkeypatch):
    def small():
        return torch.nn.Sequential(torch.nn.Linear(500, 500), torch.nn.BatchNorm1d(500))

    monkeypatch.setattr(loading, "factory", lambda model: small)
    loading.write_files("mobilenet_v3_large", tmp_path)
    results = []
    for situation in loading.SITUATIONS:
        times = loading.seconds(situation, "mobilenet_v3_large", tmp_path, repeats=2)
        assert list(times) == list(loading.WAYS)
        for way, found in times.items():
            assert len(found["cold"]) == len(found["warm"]) == 2
            peak = loading.peak(way, situation, "mobilenet_v3_large", tmp_path)
            results.append(loading.Measured(way, situation, "mobilenet_v3_large", peak, **found))
    assert abs(loading.size_of("mobilenet_v3_large") / 1e6 - 1.01) < 0.01
    assert torch.get_num_threads() == 1
    text = loading.table(results)
    assert "From nothing to a ready model" in text
    assert "Into a model that exists" in text
    assert text.count("mobilenet_v3_large (1 MB)") == 2
    for way in loading.WAYS:
        assert text.count(way) >= 2


def test_a_ratio_is_the_median_of_the_rounds():
    def row(way, cold):
        return loading.Measured(way, "new", "m", 1.0, cold, [1.0] * len(cold))

    rows = [
        row("ours .pth", [1.0, 8.0, 3.0]),
        row("torch.load", [2.0, 8.0, 9.0]),
        row("timm", [9.0, 2.0, 6.0]),
        row("safetensors", [0.1, 0.1, 0.1]),
    ]
    assert loading.ratio(rows[0], rows, "cold") == 0.5  # of 1/2, 8/2 and 3/6
    assert loading.ratio(rows[0], rows, "warm") == 1.0
