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
        for way in loading.WAYS:
            result = loading.measure(way, situation, "mobilenet_v3_large", tmp_path, repeats=1)
            assert result["cold"] > 0
            assert result["warm"] > 0
            results.append(result)
    assert abs(results[0]["megabytes"] - 1.01) < 0.01
    assert torch.get_num_threads() == 1
    text = loading.table(results)
    assert "From nothing to a ready model" in text
    assert "Into a model that exists" in text
    assert text.count("mobilenet_v3_large (1 MB)") == 2
    for way in loading.WAYS:
        assert text.count(way) >= 2
