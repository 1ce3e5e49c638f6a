"""Published architectures with random weights: freeze all but the head, train, unfreeze.

The frozen part has to be bit-equal after two steps, the head changed, and after unfreezing
everything is as it was. A few run always; the whole list, about 190 networks, is marked slow:
with the slow tests of weights it takes 20 minutes of one core, and 4 GB of memory.
"""

import hashlib

import pytest
import timm
import torch
import torchvision

from course_lib.backbones.heads import head_names
from course_lib.freezing import freeze, frozen_names, unfreeze
from tests.freezing.conftest import fingerprint

TORCHVISION = torchvision.models.list_models(module=torchvision.models)
# Networks whose input size is fixed when they are built, and those that need more than 64 pixels.
TORCHVISION_OPTIONS = {name: {"image_size": 32} for name in TORCHVISION if name.startswith("vit_")}
TORCHVISION_OPTIONS["vit_h_14"] = {"image_size": 28}
TORCHVISION_SIZES = {"inception_v3": 299, "maxvit_t": 224, "vit_h_14": 28, "alexnet": 80}
TORCHVISION_SIZES |= {name: 32 for name in TORCHVISION_OPTIONS if name != "vit_h_14"}

TIMM = """
    beit_base_patch16_224 botnet26t_256 caformer_s18 cait_xxs24_224 coat_lite_tiny
    coatnet_pico_rw_224 convformer_s18 convit_tiny convmixer_768_32 convnext_atto
    convnextv2_atto crossvit_tiny_240 cs3darknet_s csatv2 cspresnet50 davit_tiny
    deit_tiny_distilled_patch16_224 deit_tiny_patch16_224 densenet121 dla34 dm_nfnet_f0 dpn48b
    eca_nfnet_l0 edgenext_xx_small efficientformer_l1 efficientformerv2_s0 efficientnet_b0
    efficientvit_b0 efficientvit_m0 eva02_tiny_patch14_224 fastvit_t8 fbnetc_100
    focalnet_tiny_srf gcvit_xxtiny gernet_s ghostnet_100 ghostnetv2_100 halonet26t hardcorenas_a
    hgnet_tiny hgnetv2_b0 hiera_tiny_224 hrnet_w18_small inception_next_tiny inception_v4
    lambda_resnet26t lcnet_050 legacy_seresnet18 levit_128s maxvit_rmlp_pico_rw_256
    mixer_s32_224 mixnet_s mnasnet_small mobilenetv2_035 mobilenetv3_small_050
    mobilenetv4_conv_small_035 mobileone_s0 mobilevit_xxs mobilevitv2_050 mvitv2_tiny nest_tiny
    nextvit_small pit_ti_224 poolformer_s12 pvt_v2_b0 regnetx_002 regnety_002 repghostnet_050
    repvgg_a0 repvit_m0_9 res2net50_14w_8s resmlp_12_224 resnest14d resnet10t resnetv2_50
    rexnet_100 rexnetr_100 sequencer2d_s shvit_s1 skresnet18 starnet_s1
    swin_tiny_patch4_window7_224 swinv2_tiny_window8_256 tf_efficientnet_lite0 tiny_vit_5m_224
    tinynet_e tnt_s_legacy_patch16_224 tresnet_m twins_svt_small vgg11_bn visformer_tiny
    vit_tiny_patch16_224 volo_d1_224 vovnet39a xception41 xcit_nano_12_p16_224
""".split()
FAST = ["mobilenet_v3_small", "resnet18", "shufflenet_v2_x0_5", "squeezenet1_1"]
FAST_TIMM = ["tf_efficientnet_lite0", "convnext_atto", "mobilevit_xxs", "regnety_002"]


def digests(model):
    """A digest of each tensor's bytes: the big networks don't fit in memory several times."""
    named = [*model.named_parameters(), *model.named_buffers()]
    return {
        name: hashlib.blake2b(tensor.detach().cpu().contiguous().numpy().tobytes()).digest()
        for name, tensor in named
    }


def loss_of(output):
    """A number that depends on everything a network puts out, whatever the structure."""
    if isinstance(output, torch.Tensor):
        return (output.float() - 1).square().mean()
    values = output.values() if isinstance(output, dict) else output
    return sum(loss_of(value) for value in values if value is not None)


def freeze_all_but_the_head(model, batch, heads=None):
    heads = heads or head_names(model)
    start = fingerprint(model)
    freeze(model, "*")
    unfreeze(model, list(heads))
    inside = {name for name in digests(model) if name.startswith(tuple(f"{h}." for h in heads))}
    assert set(frozen_names(model)) >= digests(model).keys() - inside
    before = digests(model)
    # All parameters are handed over: the frozen ones have to look after themselves.
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    for _ in range(2):
        model.train()
        optimizer.zero_grad()
        loss_of(model(batch)).backward()
        optimizer.step()
    after = digests(model)
    moved = {name for name in before if before[name] != after[name]}
    assert moved
    assert moved <= inside
    assert {name for name in moved if name.startswith(f"{heads[0]}.")}
    unfreeze(model, "*")
    assert fingerprint(model) == start
    assert frozen_names(model) == []


def build_torchvision(name):
    options = dict(TORCHVISION_OPTIONS.get(name, {}))
    if name in ("googlenet", "inception_v3"):
        options["init_weights"] = False
    size = TORCHVISION_SIZES.get(name, 64)
    model = torchvision.models.get_model(name, num_classes=3, **options)
    return model, torch.randn(2, 3, size, size)


def build_timm(name):
    model = timm.create_model(name, num_classes=3)
    size = 64 if small_input(name) else model.pretrained_cfg["input_size"][-1]
    return model, torch.randn(2, 3, size, size)


def small_input(name):
    return name in FAST_TIMM


@pytest.mark.parametrize("name", FAST)
def test_torchvision_some(name):
    freeze_all_but_the_head(*build_torchvision(name))


@pytest.mark.parametrize("name", FAST_TIMM)
def test_timm_some(name):
    freeze_all_but_the_head(*build_timm(name))


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in TORCHVISION if name not in FAST])
def test_torchvision_all(name):
    freeze_all_but_the_head(*build_torchvision(name))


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in TIMM if name not in FAST_TIMM])
def test_timm_all(name):
    freeze_all_but_the_head(*build_timm(name))


def test_at_least_sixty_architectures():
    assert len(set(TIMM)) >= 60
    assert set(TIMM) <= set(timm.list_models())


SEGMENTATION = torchvision.models.list_models(module=torchvision.models.segmentation)
DETECTION = torchvision.models.list_models(module=torchvision.models.detection)
VIDEO = torchvision.models.list_models(module=torchvision.models.video)


@pytest.mark.slow
@pytest.mark.parametrize("name", SEGMENTATION)
def test_segmentation(name):
    model = torchvision.models.get_model(name, weights_backbone=None, num_classes=3)
    freeze_all_but_the_head(model, torch.randn(2, 3, 64, 64), heads=["classifier"])


@pytest.mark.slow
@pytest.mark.parametrize("name", VIDEO)
def test_video(name):
    model = torchvision.models.get_model(name, num_classes=3)
    frames, size = (16, 224) if name.startswith(("mvit", "s3d")) else (8, 64)
    heads = ["head"] if name.startswith(("mvit", "swin")) else None
    if name == "s3d":
        heads = ["classifier"]
    freeze_all_but_the_head(model, torch.randn(1, 3, frames, size, size), heads)


@pytest.mark.slow
@pytest.mark.parametrize("name", DETECTION)
def test_detection(name):
    """Detectors compute their losses only in training mode, so freeze parts, not the whole."""
    model = torchvision.models.get_model(name, weights_backbone=None, num_classes=3)
    model.transform.min_size, model.transform.max_size = (128,), 128
    start = fingerprint(model)
    freeze(model, "backbone")
    before = digests(model)
    images = [torch.rand(3, 128, 128) for _ in range(2)]
    target = {
        "boxes": torch.tensor([[10.0, 10.0, 60.0, 60.0]]),
        "labels": torch.tensor([1]),
        "masks": torch.ones(1, 128, 128, dtype=torch.uint8),
        "keypoints": torch.tensor([[[20.0, 20.0, 1.0]] * 17]),
    }
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, weight_decay=0.1)
    for _ in range(2):
        model.train()
        optimizer.zero_grad()
        sum(model(images, [dict(target), dict(target)]).values()).backward()
        optimizer.step()
    after = digests(model)
    moved = [name for name in before if before[name] != after[name]]
    assert moved
    assert not [name for name in moved if name.startswith("backbone.")]
    unfreeze(model, "*")
    assert fingerprint(model) == start
