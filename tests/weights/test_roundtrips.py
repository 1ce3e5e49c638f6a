"""Whole zoos: every classification model of torchvision, and sixty and more of timm.

Each is built on the meta device (shapes alone) and given small random numbers, so that the slow
part takes minutes, not hours.
"""

import inspect
import os
import shutil

import pytest
import timm
import torch
import torchvision
from torch import nn

from course_lib.freezing.bits import same_bits
from course_lib.weights import LoadError, load_weights, save_weights
from course_lib.weights.loading.build import _build_on_meta

TORCHVISION = torchvision.models.list_models(module=torchvision.models)
LARGE = 100_000_000  # numbers; such models are tried in half precision
COPIES = 6  # of a model that are in memory at the same time

TIMM = [
    "resnet18", "resnet26d", "resnetv2_50", "resnext50_32x4d", "seresnet50", "ecaresnet50t",
    "res2net50_26w_4s", "skresnet18", "wide_resnet50_2", "densenet121", "dpn48b", "vgg11_bn",
    "inception_v3", "inception_v4", "xception41", "efficientnet_b0", "efficientnetv2_rw_t",
    "tf_efficientnet_lite0", "tf_efficientnet_lite2", "mobilenetv2_100", "mobilenetv3_small_100",
    "mobilenetv4_conv_small", "mnasnet_100", "fbnetc_100", "spnasnet_100", "hardcorenas_a",
    "ghostnet_100", "tinynet_a", "regnetx_002", "regnety_004", "rexnet_100", "hrnet_w18_small",
    "dla34", "selecsls42b", "vovnet39a", "cspresnet50", "darknet53", "convnext_atto",
    "convnextv2_atto", "convmixer_768_32", "poolformer_s12", "poolformerv2_s12" , "caformer_s18",
    "vit_tiny_patch16_224", "vit_small_patch32_224", "deit_tiny_patch16_224",
    "deit_tiny_distilled_patch16_224", "beit_base_patch16_224", "eva02_tiny_patch14_224",
    "cait_xxs24_224", "xcit_nano_12_p16_224", "swin_tiny_patch4_window7_224",
    "swinv2_tiny_window8_256", "twins_svt_small", "pvt_v2_b0", "pit_ti_224", "visformer_tiny",
    "crossvit_9_240", "levit_128s", "convit_tiny", "coat_tiny", "mixer_s32_224", "gmlp_s16_224",
    "resmlp_12_224", "maxvit_nano_rw_256", "coatnet_nano_rw_224", "mobilevit_xxs",
    "edgenext_xx_small",
    "efficientformer_l1", "fastvit_t8", "repvgg_a0", "tiny_vit_5m_224", "volo_d1_224",
    "nest_tiny_jx",
]  # fmt: skip
FAST = [("torchvision", "mobilenet_v3_small"), ("timm", "levit_128s")]


def build(library, name):
    """On the meta device first: most of the time of building goes into random numbers."""

    def factory():
        if library == "timm":
            return timm.create_model(name)
        builder = torchvision.models.get_model_builder(name)
        parts = {"weights", "weights_backbone"}.intersection(inspect.signature(builder).parameters)
        return builder(**dict.fromkeys(parts))

    model = _build_on_meta(factory)
    if model is None:
        return factory()
    if sum(each.numel() for each in model.parameters()) > LARGE:
        model.half()
    needed = COPIES * sum(each.nbytes for each in model.state_dict().values())
    if hasattr(os, "sysconf") and needed > memory() / 2:  # two tests run side by side
        pytest.skip(f"needs {needed / 1e9:.0f} GB of memory")
    return model.to_empty(device="cpu")


def memory():
    """Bytes of this machine."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def scramble(model, seed):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for number, each in enumerate([*model.parameters(), *model.buffers()]):
            if each.is_floating_point() and each.numel():
                each.fill_(float(torch.rand((), generator=generator)))
                each.view(-1)[0] = number % 1000


def head_of(model):
    """The last linear layer's name."""
    return [name for name, each in model.named_modules() if isinstance(each, nn.Linear)][-1:]


def check(library, name, folder):
    model = build(library, name)
    scramble(model, 1)
    want = {n: t.clone() for n, t in model.state_dict().items()}
    path = save_weights(model, folder / "m.safetensors")
    ddp = folder / "ddp.pth"
    torch.save({"epoch": 1, "state_dict": {f"module.{n}": t for n, t in want.items()}}, ddp)
    half = {n: t.half() if t.is_floating_point() else t for n, t in want.items()}
    counts = len(want)
    for source, how in [(path, "the same names"), (ddp, "names without the prefix 'module.'")]:
        scramble(model, 2)
        report = load_weights(model, source)
        assert how.split("names")[1] in report.how
        assert len(report.loaded) == report.total == counts
        assert report.complete
        assert report.numbers == report.total_numbers
        assert not report.converted
        assert all(same_bits(t, want[n]) for n, t in model.state_dict().items())
    scramble(model, 3)
    report = load_weights(model, half)
    floats = [n for n, t in want.items() if t.dtype == torch.float32]
    assert [each.name for each in report.converted] == floats
    assert all("exact" in each.converted for each in report.converted)
    assert all(same_bits(t, half[n].to(t.dtype)) for n, t in model.state_dict().items())
    for head in head_of(model):
        other_head(model, head, path, want)


def other_head(model, head, path, want):
    """Another number of classes: refused by name, kept on request, all else loaded."""
    parent = model.get_submodule(head.rpartition(".")[0])
    old = getattr(parent, head.rpartition(".")[2])
    setattr(parent, head.rpartition(".")[2], nn.Linear(old.in_features, 7, old.bias is not None))
    scramble(model, 4)
    before = {n: t.clone() for n, t in model.state_dict().items()}
    with pytest.raises(LoadError, match="Shapes differ"):
        load_weights(model, path)
    assert all(same_bits(t, before[n]) for n, t in model.state_dict().items())
    report = load_weights(model, path, keep=head)
    assert set(report.kept) == {n for n in before if n.startswith(f"{head}.")}
    assert not report.missing
    assert not report.unexpected
    for name, each in model.state_dict().items():
        assert same_bits(each, before[name] if name in report.kept else want[name])
    skipped = load_weights(model, path, skip_mismatched=True)
    assert {each.name for each in skipped.mismatched} == set(report.kept)


@pytest.fixture
def folder(tmp_path):
    """Empty again after the test: all the files together would fill a disk."""
    yield tmp_path
    shutil.rmtree(tmp_path)


@pytest.mark.parametrize(("library", "name"), FAST)
def test_round_trip(folder, library, name):
    check(library, name, folder)


@pytest.mark.slow
@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvision(folder, name):
    check("torchvision", name, folder)


@pytest.mark.slow
@pytest.mark.parametrize("name", TIMM)
def test_timm(folder, name):
    check("timm", name, folder)


def test_enough_of_them():
    known = set(timm.list_models())
    assert len(known.intersection(TIMM)) >= 60
    assert len(TORCHVISION) >= 70
