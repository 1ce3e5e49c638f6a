"""Each hint of an error, obeyed: all that fits is loaded, and only what doesn't is left alone."""

import re
from collections import OrderedDict

import pytest
import timm
import torch
import torchvision
from torch import nn

from course_lib.freezing.bits import same_bits
from course_lib.weights import LoadError, load_weights
from tests.weights.conftest import make, snapshot, untouched

OPTION = re.compile(
    r"\b(?P<name>keep|drop|rename|adapt_input|resize_positions|skip_mismatched|strict)="
    r"(?P<value>\[[^\]]*\]|'[^']*'|True|False|lambda name: name(?:\.replace\([^)]*\))+)"
)


def hinted(message):
    """The options of each hint: those of a sentence belong together, but strict=False stands alone.

    (With skip_mismatched=True it doesn't.)
    """
    for sentence in re.split(r"(?<=[a-z\])'])\.(?: |$)", message):
        options = {m["name"]: eval(m["value"]) for m in OPTION.finditer(sentence)}
        if "strict" in options and len(options) > 1 and "skip_mismatched" not in options:
            yield {"strict": options.pop("strict")}
        if options:
            yield options


class Text(nn.Module):
    def __init__(self, words=11, ids=True):
        super().__init__()
        self.embeddings = nn.Module()
        self.embeddings.words = nn.Embedding(words, 4)
        self.embeddings.position_embeddings = nn.Embedding(6, 4)
        if ids:
            self.embeddings.register_buffer("position_ids", torch.arange(6))
        self.head = nn.Linear(4, 2)


class Net(nn.Module):
    def __init__(self, classes=3, channels=3):
        super().__init__()
        self.stem = nn.Conv2d(channels, 4, 3)
        self.features = nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4))
        self.fc = nn.Linear(4, classes)


def without(state, *names):
    left = type(state)((name, each) for name, each in state.items() if name not in names)
    if hasattr(state, "_metadata"):
        left._metadata = state._metadata
    return left


def counts(state):
    return [name for name in state if name.endswith("num_batches_tracked")]


def case(name):
    """A model, a state dict, and the names of the model that no way of obeying can fill."""
    net, text = make(2, Net).state_dict(), make(2, Text).state_dict()
    return {
        "no counts, though the version says so": (
            make(1, torchvision.models.resnet18),
            without(s := make(2, torchvision.models.resnet18).state_dict(), *counts(s)), counts(s)),
        "no bias": (make(1, Net), without(net, "fc.bias"), ["fc.bias"]),
        "a part more": (make(1, Net), {**net, "aux.weight": torch.ones(2)}, []),
        "a name more in a part": (make(1, Net), {**net, "fc.scale": torch.ones(2)}, []),
        "position_ids too many": (make(1, Text, ids=False), text, []),
        "position_ids too few": (make(1, Text),
                                 without(text, "embeddings.position_ids"),
                                 ["embeddings.position_ids"]),
        "another head": (make(1, Net, classes=5), net, ["fc.weight", "fc.bias"]),
        "other inputs of the head": (
            make(1, Net), {**net, "fc.weight": torch.ones(3, 9)}, ["fc.weight"]),
        "another vocabulary": (make(1, Text, words=15), text, ["embeddings.words.weight"]),
        "another head and no bias": (
            make(1, Net, classes=5), without(net, "stem.bias"),
            ["fc.weight", "fc.bias", "stem.bias"]),
        "a head, a part less, a part more": (
            make(1, Net, classes=5), {**without(net, "stem.bias"), "aux.w": torch.ones(2)},
            ["fc.weight", "fc.bias", "stem.bias"]),
        "a wrapper inside": (
            make(1, Net),
            {n.replace("features.", "features._orig_mod."): t for n, t in net.items()}, []),
        "a wrapper inside the model": (
            nn.ModuleDict({"a": nn.DataParallel(make(1, Net)), "b": nn.Linear(2, 2)}),
            {f"a.{n}": t for n, t in net.items()} | {
                f"b.{n}": t for n, t in nn.Linear(2, 2).state_dict().items()}, []),
        "another convolution in the middle": (
            make(1, Net), {**net, "features.0.weight": torch.ones(4, 7, 3, 3)},
            ["features.0.weight"]),
    }[name]  # fmt: skip


CASES = [
    "no counts, though the version says so", "no bias", "a part more", "a name more in a part",
    "position_ids too many", "position_ids too few", "another head", "other inputs of the head",
    "another vocabulary", "another head and no bias", "a head, a part less, a part more",
    "a wrapper inside", "a wrapper inside the model", "another convolution in the middle",
]  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_every_hint_obeyed(name):
    model, state, open_names = case(name)
    before = snapshot(model)
    with pytest.raises(LoadError) as caught:
        load_weights(model, state)
    assert untouched(model, before)
    hints = [each for each in hinted(str(caught.value)) if each]
    assert hints, str(caught.value)
    if "wrapper" in name:
        hints = [each for each in hints if "rename" in each]
        hints = [{"rename": each["rename"]} for each in hints]
        assert hints, str(caught.value)
    for options in hints:
        load_weights(model, before)
        report = load_weights(model, state, **options)
        left = set(before) - {each.name for each in report.loaded} - set(report.supplied)
        assert left == set(open_names), (options, str(caught.value))
        for open_name in open_names:
            assert same_bits(snapshot(model)[open_name], before[open_name])


def other(**pieces):
    """The state of a Net, with pieces of its names replaced."""

    def changed(name):
        for old, new in pieces.items():
            name = name.replace(f"{old}.", f"{new}.")
        return name

    return OrderedDict((changed(k), v) for k, v in make(2, Net).state_dict().items())


OTHER_NAMES = {  # a model, a file, the only hint's other options, what no hint can fill
    "a wrapper inside, another head": (
        {"classes": 5}, other(features="features.module._orig_mod"), {"keep": "fc"}, ["fc"]),
    "a wrapper inside, a part less, a part more": (
        {}, {**without(other(features="features.module"), "fc.weight", "fc.bias"),
             "aux.weight": torch.ones(1)}, {"keep": "fc", "drop": "aux"}, ["fc"]),
    "two wrappers": ({}, other(features="features.module", fc="fc.base_layer"), {}, []),
    "two other parts": ({}, other(features="trunk", fc="classifier.1"), {}, []),
    "an adapter around the head": (
        {}, {**other(fc="fc.base_layer"), "fc.lora_A.weight": torch.ones(2, 4)},
        {"drop": "fc.lora_A"}, []),
    "TensorFlow's words": (
        {}, {n.replace("s.1.weight", "s.1.gamma").replace("s.1.bias", "s.1.beta")
             .replace("running_mean", "moving_mean"): t for n, t in other().items()}, {}, []),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHER_NAMES)
def test_other_names_are_brought_in_step_with_all_that_is_beside_them(name):
    options, state, beside, open_parts = OTHER_NAMES[name]
    model, right = make(1, Net, **options), make(2, Net).state_dict()
    before = snapshot(model)
    with pytest.raises(LoadError) as caught:
        load_weights(model, state)
    hints = list(hinted(str(caught.value)))
    assert all("rename" in each for each in hints), str(caught.value)
    assert {k: v for k, v in hints[0].items() if k != "rename"} == beside
    for options in hints:
        load_weights(model, before)
        load_weights(model, state, **options)
        for key, value in model.state_dict().items():
            expected = before if key.partition(".")[0] in open_parts else right
            assert same_bits(value, expected[key]), key


@pytest.mark.parametrize("words", [
    ("fc.weight_g", "fc.weight_v"),
    ("fc.parametrizations.weight.original0", "fc.parametrizations.weight.original1"),
])  # fmt: skip
def test_a_part_of_a_weight_is_not_taken_for_the_weight(words):
    state = without(make(2, Net).state_dict(), "fc.weight")
    state |= {words[0]: torch.ones(3, 1), words[1]: torch.ones(3, 4)}
    with pytest.raises(LoadError) as caught:
        load_weights(make(1, Net), state)
    assert "rename" not in str(caught.value)


@pytest.mark.parametrize(("changes", "adapted"), [
    ({"img_size": 64}, {"resize_positions": True}),
    ({"in_chans": 1}, {"adapt_input": "repeat"}),
    ({"in_chans": 1, "img_size": 64}, {"adapt_input": "repeat", "resize_positions": True}),
    ({"img_size": 64, "num_classes": 5}, {"resize_positions": True, "keep": "head"}),
    ({"in_chans": 1, "img_size": 64, "num_classes": 5},
     {"adapt_input": "repeat", "resize_positions": True, "keep": "head"}),
])  # fmt: skip
def test_what_can_be_adapted_is_hinted_at_together_with_what_can_not(changes, adapted):
    def small(**options):
        return timm.create_model("vit_tiny_patch16_224", depth=1, **{"num_classes": 3, **options})

    model, state = make(1, small, **changes), make(2, small).state_dict()
    before = snapshot(model)
    with pytest.raises(LoadError) as caught:
        load_weights(model, state)
    hints = list(hinted(str(caught.value)))
    assert adapted in hints
    theirs = timm.models.vision_transformer.checkpoint_filter_fn(dict(state), model)
    for options in hints:
        load_weights(model, before)
        report = load_weights(model, state, **options)
        if options == adapted:
            left = set(before) - {each.name for each in report.loaded}
            assert left == ({"head.weight", "head.bias"} if "num_classes" in changes else set())
            torch.testing.assert_close(model.pos_embed, theirs["pos_embed"], rtol=1e-4, atol=1e-5)


def test_what_may_be_adapted_is_decided_by_the_role():
    """Position embeddings as a picture look like the kernels of a convolution."""
    model, file = nn.Module(), nn.Module()
    for module, size in ((model, 5), (file, 3)):
        module.stem = nn.Conv2d(3, 4, 3)
        module.pos_embed = nn.Parameter(torch.ones(1, size, 6, 6))
    with pytest.raises(LoadError) as caught:
        load_weights(model, file)
    assert "adapt_input" not in str(caught.value)
    with pytest.raises(LoadError, match="Shapes differ"):
        load_weights(model, file, adapt_input="repeat")


def vit(size, patch=16):
    return timm.create_model("vit_tiny_patch16_224", img_size=size, depth=1, num_classes=3)


def test_grids_that_are_no_squares_as_in_timm():
    square, long = vit((64, 64)), vit((512, 128))
    assert long.patch_embed.grid_size == (32, 8)
    report = load_weights(long, square, resize_positions=True)
    expected = timm.layers.resample_abs_pos_embed(square.pos_embed, [32, 8])
    torch.testing.assert_close(long.pos_embed, expected)
    assert report.adapted[0].adapted == "positions 4x4 -> 32x8"
    again, state = vit((64, 64)), long.state_dict()
    report = load_weights(again, state, resize_positions=(32, 8))
    expected = timm.layers.resample_abs_pos_embed(long.pos_embed, [4, 4], [32, 8])
    torch.testing.assert_close(again.pos_embed, expected)
    with pytest.raises(LoadError, match=r"no square.*resize_positions=\(\(rows, columns\)"):
        load_weights(again, vit((48, 32)), resize_positions=True)


def test_a_text_is_no_picture():
    model, file = make(1, Text), make(2, Text).state_dict()
    file["embeddings.position_embeddings.weight"] = torch.ones(9, 4)
    with pytest.raises(LoadError) as caught:
        load_weights(model, file)
    assert "resize_positions" not in str(caught.value)
    with pytest.raises(LoadError, match=r"a text has no grid.*resize_positions="):
        load_weights(model, file, resize_positions=True)
