"""What leaves the notebook answers as what stays: pixels in, the same scores out."""

import json
import os
import pickle
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from course_lib import backbones, cli
from course_lib.backbones import Preprocessing
from course_lib.data.images import open_image
from course_lib.data.manifest import bundled_folder
from course_lib.errors import CourseError
from course_lib.jobs import export
from course_lib.jobs.resampling import Prepare
from course_lib.recipe import Predictor
from course_lib.recipe.saved import save
from tests.data.loopback import zip_of

CLASSES = ("hotdog", "not-hotdog", "crème brûlée 🍮")


def predictor(name, size):
    torch.manual_seed(0)
    offline = name in backbones.names()[:2]
    model = backbones.load(name, len(CLASSES), pretrained=offline).eval()
    return Predictor(model, CLASSES, backbones.preprocessing(name, size), temperature=1.7,
                     about={"backbone": name})  # fmt: skip


@pytest.fixture(scope="module")
def photos():
    files = sorted((bundled_folder() / "test").rglob("*.jpg"))[::24]
    return [np.array(open_image(each)) for each in files]


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("shape", [(200, 150), (97, 311), (30, 40), (110, 110), (96, 500)])
def test_preparing_in_the_graph_is_pillows(interpolation, shape):
    """Level by level, for pictures that shrink, grow, and stay."""
    see = Preprocessing("x", 96, (0.4, 0.5, 0.6), (0.2, 0.25, 0.3), interpolation)
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    expected = see.eval(Image.fromarray(pixels))
    found = Prepare(see)(torch.from_numpy(pixels)[None])[0]
    assert torch.allclose(found, expected, atol=1e-5)  # a level is 0.01


NETWORKS = [("efficientnet_lite0", 96), ("resnet18", 64), ("mobilenet_v3_small", 64),
            ("timm/test_vit", 160)]  # fmt: skip


@pytest.mark.parametrize(("name", "size"), NETWORKS)
def test_onnx_is_torch_to_1e_4_on_pictures(name, size, photos, tmp_path):
    """Against the predictor itself, which resizes with Pillow; one by one and in batches."""
    mine = predictor(name, size)
    made = export.export_model(mine, tmp_path / "m.onnx")
    assert made.difference <= 1e-4
    run = export.runner(tmp_path / "m.onnx")
    same_size = [each for each in photos if each.shape == photos[0].shape]
    scores, shares = run(np.stack(same_size))
    assert scores.shape == (len(same_size), len(CLASSES))
    for each, score, share in zip(same_size, scores, shares, strict=True):
        assert run(each[None])[0][0] == pytest.approx(score, abs=1e-4)
        expected = mine.predict_one(each).probabilities
        found = dict(zip(CLASSES, share.tolist(), strict=True))
        assert found == pytest.approx(expected, abs=1e-4)
    wide = np.ascontiguousarray(photos[0][: photos[0].shape[0] // 2])  # another size, same file
    assert run(wide[None])[1][0].sum() == pytest.approx(1, abs=1e-5)
    with torch.no_grad():
        prepared = Prepare(mine.preparation)(torch.from_numpy(np.stack(same_size)))
        direct = mine.model(prepared).numpy()
    assert np.abs(direct - scores).max() <= 1e-4 * max(1, np.abs(direct).max())


def test_pt2_is_torch_and_says_its_classes(photos, tmp_path):
    mine = predictor("mobilenet_v3_small", 64)
    made = export.export_model(mine, tmp_path / "m.pt2")
    assert made.difference <= 1e-5
    assert export.metadata(tmp_path / "m.pt2")["classes"] == list(CLASSES)
    assert export.runner(tmp_path / "m.pt2")(photos[0][None])[0].shape == (1, 3)


def test_the_command_exports_and_quantises(tmp_path, capsys):
    import onnxruntime

    file = tmp_path / "mine.safetensors"
    save(predictor("efficientnet_lite0", 96), file)
    folder = str(bundled_folder() / "train" / "hotdog")
    words = ["export-model", str(file), "--to", "onnx", "--int8"]
    assert cli.main([*words, "static", "--calibrate", folder]) == 0
    said = capsys.readouterr().out
    assert "mine.onnx" in said
    whole, small = tmp_path / "mine.onnx", tmp_path / "mine-int8.onnx"
    assert small.stat().st_size < 0.4 * whole.stat().st_size
    told = onnxruntime.InferenceSession(str(whole)).get_modelmeta().custom_metadata_map
    assert "cr\\u00e8me" in told["course"]
    assert export.metadata(whole)["classes"] == list(CLASSES)
    assert export.metadata(small)["classes"] == list(CLASSES)
    assert "tensor_type" not in "".join(capsys.readouterr())
    assert cli.main([*words, "dynamic"]) == 0
    assert cli.main([*words, "static"]) == 1
    assert "--calibrate FOLDER" in capsys.readouterr().err
    assert sorted(each.name for each in tmp_path.iterdir()) == [
        "mine-int8.onnx", "mine.onnx", "mine.safetensors"
    ]  # fmt: skip


def test_measured_beside_each_other_by_hand_counted_answers(tmp_path):
    """The classes turned round: what was right is wrong. Other names: nothing can be right."""
    mine = predictor("mobilenet_v3_small", 64)
    made = export.export_model(mine, tmp_path / "m.onnx")
    small = export.quantise(made.path, tmp_path / "small.onnx", mine)
    torch_, whole, bits = export.measure(mine, [made.path, small.path])
    files = sorted((bundled_folder() / "test").rglob("*.jpg"))
    right = [mine.predict_one(each).label == each.parent.name for each in files]
    assert torch_.accuracy == whole.accuracy == pytest.approx(sum(right) / len(files))
    assert (torch_.pictures, bits.name, bits.bytes) == (len(files), "small.onnx", small.bytes)
    assert min(each.per_second for each in (torch_, whole, bits)) > 0
    mine.classes = ("a", "b", "c")
    assert export.measure(mine, [])[0].accuracy is None


def test_pictures_are_taken_from_every_class():
    for limit in (8, 64, 90):
        found = export._files(bundled_folder() / "test", limit)
        assert len(set(found)) == limit
        assert {each.parent.name for each in found} == {"hotdog", "not-hotdog"}
        hotdogs = sum(each.parent.name == "hotdog" for each in found)
        assert abs(2 * hotdogs - limit) <= 2


def test_what_differs_is_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr(export, "CLOSE", -1.0)
    with pytest.raises(CourseError, match="isn't written: its scores differ"):
        export.export_model(predictor("mobilenet_v3_small", 64), tmp_path / "m.onnx")
    assert list(tmp_path.iterdir()) == []


def test_what_cant_be_exported_is_said(tmp_path):
    mine = predictor("mobilenet_v3_small", 64)
    with pytest.raises(CourseError, match="must end in"):
        export.export_model(mine, tmp_path / "m.onx")
    mine.preparation = None
    with pytest.raises(CourseError, match="isn't known"):
        export.export_model(mine, tmp_path / "m.onnx")
    with pytest.raises(CourseError, match="no folder"):
        export.export_model(
            predictor("mobilenet_v3_small", 64), tmp_path / "m.onnx", tmp_path / "x"
        )


class Program:
    """What a pickle runs when it is read."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


def test_what_an_exported_file_says_is_read_without_running_it(tmp_path):
    path, evil = tmp_path / "m.pt2", pickle.dumps(Program(tmp_path / "ran"))
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("m/data/constants/model_constants_config.json", "m/data.pkl", "m/archive"):
            archive.writestr(name, evil)
        archive.writestr("m/extra/course", json.dumps({"classes": ["a"]}))
    assert export.metadata(path) == {"classes": ["a"]}
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("ending", ["onnx", "pt2"])
@pytest.mark.parametrize("content", [b"", b"x" * 100, zip_of([("m/extra/course", b"[" * 9999)]),
                                     zip_of([("m/extra/course", b"[1]")]), None])  # fmt: skip
def test_files_that_are_no_exported_ones(tmp_path, ending, content):
    path = tmp_path / f"m.{ending}"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CourseError, match=r"can't be read|says nothing"):
        export.metadata(path)


@pytest.mark.parametrize("ending", ["onnx", "pt2"])
def test_files_made_to_hang_or_to_fill_the_memory(tmp_path, ending):
    os.mkfifo(tmp_path / f"pipe.{ending}")
    (tmp_path / f"x.{ending}").write_bytes(zip_of([("m/extra/course", bytes(1 << 28))]))
    for name in ("pipe", "x"):
        with pytest.raises(CourseError, match="can't be read"):
            export.metadata(tmp_path / f"{name}.{ending}")
