"""The file of a trained network: the same answers from it, and a refusal that names the part."""

import dataclasses
import json
import math
import os
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

import course_lib
from course_lib import backbones, recipe
from course_lib.freezing.bits import same_bits
from course_lib.recipe import Predictor, saved
from course_lib.weights import CheckpointError, read_checkpoint, save_weights
from course_lib.weights.reading.plainfiles import CHECKSUMS, names_crc

FAST = ("efficientnet_lite0", "alexnet", "squeezenet1_1", "googlenet", "mobilenet_v3_small",
        "shufflenet_v2_x0_5", "resnet18")  # fmt: skip
HUGE = 100_000_000  # parameters


def smallest(name):
    card = backbones.card(name)
    return card.input_size if card.fixed_size else card.min_size


def random_predictor(name="squeezenet1_1", classes=("a", "b", "c"), size=None, **options):
    torch.manual_seed(0)
    model = backbones.load(name, num_classes=len(classes), pretrained=False).eval()
    for module in model.modules():  # statistics that a file must bring along
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    options.setdefault(
        "about", {"backbone": name, "plan": "head only", "result": {"accuracy": 0.5}}
    )
    see = backbones.preprocessing(name, size or smallest(name))
    return Predictor(model, classes, see, **options)


@pytest.fixture
def picture():
    pixels = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def check_round_trip(name, picture, path):
    before = random_predictor(name)
    answer = before.predict(picture)
    assert all(map(math.isfinite, answer.probabilities.values()))
    saved.save(before, path)
    state = {key: tensor.clone() for key, tensor in before.model.state_dict().items()}
    del before
    torch.manual_seed(7)
    stream = torch.get_rng_state()
    after = recipe.load(path, device="cpu")
    assert torch.equal(torch.get_rng_state(), stream)
    assert after.predict(picture) == answer
    assert not any(module.training for module in after.model.modules())
    found = after.model.state_dict()
    assert found.keys() == state.keys()
    assert all(same_bits(tensor, state[key]) for key, tensor in found.items())


def test_classes_and_weights_are_those_of_one_file(picture, tmp_path, monkeypatch):
    """Another file takes the name while it is opened: the answer is the first's, or an error."""
    path, other = tmp_path / "net.safetensors", tmp_path / "other.safetensors"
    first = random_predictor()
    answer = first.predict(picture)
    saved.save(first, path)
    head = first.model.get_submodule("classifier.1")
    head.weight.data.neg_()
    saved.save(first, other)
    check = saved._check

    def swapped(*given):
        check(*given)
        other.replace(path)

    monkeypatch.setattr(saved, "_check", swapped)
    assert recipe.load(path, device="cpu").predict(picture) == answer
    assert not other.exists()


@pytest.mark.parametrize("name", FAST)
def test_the_file_predicts_as_the_network_did(name, picture, tmp_path):
    check_round_trip(name, picture, tmp_path / "mine.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(backbones.names()) - set(FAST)))
def test_every_backbone_predicts_from_its_file_as_before(name, picture, tmp_path):
    path = tmp_path / "mine.safetensors"
    check_round_trip(name, picture, path)
    path.unlink()  # two gigabytes, for some


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_a_network_that_was_pretrained_is_built_as_it_was(name, monkeypatch, tmp_path, picture):
    """torchvision builds these two in another way when it gets weights for them."""
    torch.manual_seed(1)
    build = torchvision.models.get_model
    weights = build(name, weights=None, init_weights=False, aux_logits=True).state_dict()
    enum = type(backbones.catalogue.default_weights(name))
    monkeypatch.setattr(enum, "get_state_dict", lambda *_, **__: weights)  # the download
    model = build(name, weights=backbones.catalogue.default_weights(name))
    model = backbones.replace_head(model, 2, seed=0).eval()
    see = backbones.preprocessing(name, smallest(name))
    before = Predictor(model, ("a", "b"), see, about={"backbone": name})
    path = saved.save(before, tmp_path / "mine.safetensors")
    after = recipe.load(path)
    assert after.predict(picture) == before.predict(picture)
    assert after.model.state_dict().keys() == model.state_dict().keys()


def nested():
    body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten())
    return nn.Sequential(body, nn.Sequential(nn.Linear(16, 8), nn.Sequential(nn.Linear(8, 2))))


class Untold(nn.Module):
    """A network whose head nobody can find."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 2, 3), nn.Linear(2, 2)

    def forward(self, x):
        return self.second(self.first(x).mean((2, 3)))


@pytest.mark.parametrize("build", [nested, Untold])
@pytest.mark.parametrize("ending", ["safetensors", "pth"])
def test_a_network_of_ones_own_comes_back_into_one_like_it(build, ending, tmp_path):
    torch.manual_seed(0)
    before = Predictor(build().eval(), ("a", "b"), temperature=2.0, threshold=0.9)
    path = saved.save(before, tmp_path / f"mine.{ending}")
    with pytest.raises(CheckpointError, match=r"recipe\.load\(path, model="):
        recipe.load(path)
    after = recipe.load(path, model=build())
    prepared = torch.randn(3, 12, 12)
    assert after.predict(prepared) == before.predict(prepared)
    assert (after.preparation, after.temperature, after.threshold) == (None, 2.0, 0.9)
    with pytest.raises(CheckpointError, match="doesn't fit"):
        recipe.load(path, model=nn.Sequential(nn.Linear(3, 2)))


@pytest.mark.parametrize("ending", ["safetensors", "pth", "pt"])
def test_everything_that_was_said_comes_back(ending, tmp_path, picture):
    classes = tuple(f"class {i} ü" for i in range(12))
    before = random_predictor(classes=classes, size=224, temperature=1.7, threshold=0.55)
    before.preparation = dataclasses.replace(before.preparation, resize=224)
    path = saved.save(before, tmp_path / f"mine.{ending}", what="twelve", metrics={"accuracy": 0.5})
    after = recipe.load(path)
    assert after.classes == classes
    assert after.preparation == before.preparation
    assert (after.preparation.size, after.preparation.shorter_side) == (224, 224)
    assert (after.temperature, after.threshold) == (1.7, 0.55)
    assert after.predict(picture) == before.predict(picture)
    about = after.about
    assert (about["plan"], about["result"]) == ("head only", {"accuracy": 0.5})
    assert (about["course"], about["torch"]) == (course_lib.__version__, torch.__version__)
    assert about["licence"] == backbones.card("squeezenet1_1").licence
    assert about["head"] == {"name": "classifier.1", "kind": "Conv2d"}
    assert about["date"].endswith("+00:00")
    metadata = read_checkpoint(path).metadata
    assert (metadata["what"], metadata["metrics"]) == ("twelve", {"accuracy": 0.5})
    again = recipe.load(saved.save(after, tmp_path / "again.safetensors"))
    assert again.about == about
    assert again.predict(picture) == before.predict(picture)


def test_a_file_at_224_pixels_is_opened_at_224_pixels(monkeypatch, tmp_path, picture):
    before = random_predictor(size=224)
    path = saved.save(before, tmp_path / "mine.safetensors")
    monkeypatch.setenv("COURSE_PROFILE", "tiny")
    assert recipe.load(path).preparation.size == 224
    assert recipe.load(path).predict(picture) == before.predict(picture)


def test_other_programs_can_read_the_file(tmp_path):
    path = saved.save(random_predictor(), tmp_path / "mine.safetensors")
    with safe_open(path, "pt") as file:
        said = json.loads(file.metadata()["about"])["extra"]
    assert said["classes"] == ["a", "b", "c"]
    assert said.keys() == {"recipe", *saved.PARTS}


def rewritten(path, change, to=None):
    """The file with other metadata: the header is JSON after eight bytes with its length."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    about = json.loads(header["__metadata__"]["about"])
    change(about["extra"])
    header["__metadata__"]["about"] = json.dumps(about)
    metadata = {key: text for key, text in header["__metadata__"].items() if key != CHECKSUMS}
    listed = json.loads(header["__metadata__"][CHECKSUMS])
    listed["header"] = names_crc(load_file(path), metadata)  # a file of somebody who can write one
    header["__metadata__"][CHECKSUMS] = json.dumps(listed)
    text = json.dumps(header).encode()
    to = to or path.with_name("changed.safetensors")
    to.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])
    return to


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return saved.save(random_predictor(), tmp_path_factory.mktemp("good") / "mine.safetensors")


@pytest.mark.parametrize("part", saved.PARTS)
def test_a_file_that_lacks_a_part_is_refused_by_its_name(part, good, monkeypatch):
    path = rewritten(good, lambda extra: extra.pop(part))
    monkeypatch.setattr(backbones, "load", None)  # it is refused before anything is built
    with pytest.raises(CheckpointError, match=rf"lacks '{part}' \("):
        recipe.load(path)


NONSENSE = [None, True, 10**400, "x" * 3000, "", [], {}, -1, 0.5, math.nan, math.inf, 1e300, [1, 2],
            ["a", "a", "b"], ["a", "", "b"], ["a", 1, "c"], [0.5, 0.5, math.nan], [0.0, 1.0, 1.0],
            [1, 1, True], {"name": 1}, {"name": "classifier.1", "kind": "Conv3d"},
            {"name": "other", "kind": "Linear"}, 5000, 1000.5, "efficientnet_lite9", "2026-99-99",
            "2026-01-01"]  # fmt: skip
FITS = {  # what of it is a legal value
    "licence": str, "plan": str, "course": str, "result": dict, "mean": [[0.0, 1.0, 1.0]],
    "temperature": [0.5], "threshold": [0.5],
}  # fmt: skip


def nonsense():
    for part in saved.PARTS:
        fits = FITS.get(part, [])
        for value in NONSENSE:
            if not (isinstance(value, fits) if isinstance(fits, type) else value in fits):
                yield pytest.param(part, value, id=f"{part} {value!r:.30}")


@pytest.mark.parametrize(("part", "value"), [*nonsense()])
def test_a_part_that_is_nonsense_is_refused_by_its_name(part, value, good, monkeypatch):
    path = rewritten(good, lambda extra: extra.update({part: value}))
    monkeypatch.setattr(backbones, "load", None)
    with pytest.raises(CheckpointError) as caught:
        recipe.load(path)
    if (part, value) not in [("backbone", "")]:
        assert part in str(caught.value)
    assert len(str(caught.value)) < 4000


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"backbone": "resnet81"}, "Did you mean 'resnet18'"),
        ({"size": 16, "resize": 18}, "at least 32 pixels"),
        ({"backbone": "vit_b_16", "size": 256, "resize": 256}, "224 pixels a side only"),
        ({"classes": ["a", "b"]}, "names 2 classes, but its head 'classifier.1' gives 3 scores"),
        ({"recipe": 2, "course": "9.9"}, r"format 2; this course .* reads up to 1.*9\.9"),
        ({"recipe": "1"}, "format '1'"),
        ({"backbone": "squeezenet1_0"}, "doesn't fit squeezenet1_0"),
        ({"resize": 5000}, "'resize': 5000; expected"),
    ],
)
def test_parts_that_contradict_each_other_are_refused(change, said, good):
    with pytest.raises(CheckpointError, match=said):
        recipe.load(rewritten(good, lambda extra: extra.update(change)))


def test_files_that_are_something_else_are_refused_with_the_next_step(good, tmp_path):
    plain = save_weights(nn.Linear(2, 2), tmp_path / "plain.safetensors", extra={"classes": ["a"]})
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "plain.pth")
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(good.read_bytes()[:-1000])
    flipped = tmp_path / "flipped.safetensors"
    data = bytearray(good.read_bytes())
    data[-1000] ^= 1
    flipped.write_bytes(data)
    text = tmp_path / "text.safetensors"
    text.write_text("hello")
    for path, said in [
        (plain, r"course_lib\.weights\.load_weights"), (tmp_path / "plain.pth", "load_weights"),
        (cut, "truncated"), (flipped, "damaged|checksum|CRC"), (text, "is a text"),
        (tmp_path, "is a folder"), (tmp_path / "mine.safetensors", "no file"),
        (tmp_path / "nowhere" / "mine.safetensors", "no file"),
    ]:  # fmt: skip
        with pytest.raises(CheckpointError, match=said):
            recipe.load(path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"classes": ("a", "a", "b")}, "'classes'"),
        ({"classes": ("a", "b")}, "3 scores for 2 classes"),
        ({"temperature": math.nan}, "'temperature'"),
        ({"threshold": 1.5}, "'threshold'"),
        ({"preparation": None}, "'size'"),
        ({"about": {"backbone": "squeezenet1_1", "plan": 3}}, "'plan'"),
        ({"about": {"backbone": "squeezenet1_1", "result": {"x": object()}}}, "can't be saved"),
    ],
)
def test_what_could_not_be_opened_again_is_not_saved(change, said, tmp_path):
    with pytest.raises(CheckpointError, match=said):
        saved.save(dataclasses.replace(random_predictor(), **change), tmp_path / "x.safetensors")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("where", ["mine.safetensors", "new/folders/mine.pth", "link.safetensors"])
def test_a_target_that_will_do_is_left_as_it_was(where, tmp_path):
    (tmp_path / "old.safetensors").write_text("old")
    (tmp_path / "link.safetensors").symlink_to(tmp_path / "old.safetensors")
    before = sorted(tmp_path.rglob("*"))
    saved.check_target(tmp_path / where, 1000)
    saved.check_target(tmp_path / "old.safetensors", 1000)
    assert sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / "old.safetensors").read_text() == "old"
    saved.save(random_predictor(), tmp_path / where)  # and it does


def test_a_target_that_will_fail_is_told_before(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.pth").mkdir()
    (tmp_path / "loop.pth").symlink_to(tmp_path / "loop.pth")
    os.mkfifo(tmp_path / "pipe.pth")
    monkeypatch.setenv("HOME", str(tmp_path / "file"))
    for path, said in [
        (tmp_path / "mine.txt", "expected .safetensors"), (tmp_path / "mine", "ends in ''"),
        (tmp_path / "file" / "mine.pth", "Not a directory|exists"),
        (tmp_path / "file" / "a" / "mine.pth", "Not a directory|exists"),
        (tmp_path / "folder.pth", "is a folder"), (tmp_path / "pipe.pth", "not a regular file"),
        ("~/mine.pth", "can't be written"), ("/proc/mine.pth", "can't be written"),
        ("/proc/a/b/mine.pth", "can't be written"),
        (tmp_path / ("x" * 300 + ".pth"), "too long"),
        (tmp_path / ("y" * 300) / "a.pth", "too long"),
    ]:  # fmt: skip
        with pytest.raises(CheckpointError, match=said):
            saved.check_target(path)
    assert sorted(each.name for each in tmp_path.iterdir()) == [
        "file", "folder.pth", "loop.pth", "pipe.pth"]  # fmt: skip


def test_too_little_space_is_told_with_the_numbers(tmp_path):
    free = shutil.disk_usage(tmp_path).free
    with pytest.raises(CheckpointError, match=r"needs \d+ MB, and \d+ MB are free"):
        saved.check_target(tmp_path / "new" / "mine.safetensors", free + 10**9)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="permissions don't bind root")
def test_a_folder_without_permission_is_told(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(CheckpointError, match="Permission denied"):
        saved.check_target(tmp_path / "mine.safetensors")


def test_a_full_disk_while_saving_leaves_the_old_file(tmp_path, monkeypatch):
    path = saved.save(random_predictor(), tmp_path / "mine.safetensors")
    old = path.read_bytes()

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        saved.save(random_predictor(threshold=0.9), path)
    assert path.read_bytes() == old
    assert [Path(each).name for each in tmp_path.iterdir()] == ["mine.safetensors"]
