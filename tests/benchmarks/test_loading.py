"""The benchmark runs, and its table says what was measured (how fast is not a test's business)."""

import gc

import torch

from course_lib.benchmarks import loading


def test_every_way_in_every_situation(tmp_path):
    loading.write_files("squeezenet1_1", tmp_path)
    results = loading.in_turns("existing", "squeezenet1_1", tmp_path, repeats=1)
    assert [each.way for each in results] == list(loading.WAYS)
    for each in results:
        assert len(each.cold) == len(each.warm) == 1
        assert min(*each.cold, *each.warm) > 0
    for way in loading.WAYS:  # in this process: quicker, and as good for seeing that it runs
        path = tmp_path / f"squeezenet1_1.{loading.ending(way)}"
        threads = torch.get_num_threads()
        once = loading.once(way, "new", "squeezenet1_1", path)
        assert torch.get_num_threads() == threads
        assert gc.isenabled()
        row = [once.seconds]
        results.append(loading.Measured(way, "new", "squeezenet1_1", once.peak, row, row))
    assert abs(loading.size_of("squeezenet1_1") / 1e6 - 4.94) < 0.01
    text = loading.table(results)
    assert "From nothing to a ready model" in text
    assert "Into a model that exists" in text
    assert text.count("squeezenet1_1 (5 MB)") == 2
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
