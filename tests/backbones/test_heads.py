"""The head swap: every torchvision classification model, the timm families, models of one's own."""

import warnings
from contextlib import contextmanager

import numpy as np
import pytest
import timm
import torch
import torchvision
from timm.models._registry import _model_to_module
from torch import nn
from torchvision.models.regnet import BlockParams

from course_lib import backbones, training
from course_lib.backbones import HeadError, head_name, head_names, replace_head

TORCHVISION = torchvision.models.list_models(module=torchvision.models)

# One of each kind of head: plain, in a Sequential, a convolution, nested, auxiliary ones.
TORCHVISION_FAST = {
    "alexnet": "classifier.6",
    "convnext_tiny": "classifier.2",
    "densenet121": "classifier",
    "efficientnet_b0": "classifier.1",
    "googlenet": "fc",
    "inception_v3": "fc",
    "maxvit_t": "classifier.5",
    "mobilenet_v3_small": "classifier.3",
    "regnet_y_400mf": "fc",
    "resnet18": "fc",
    "squeezenet1_1": "classifier.1",
    "swin_t": "head",
    "vit_b_32": "heads.head",
}

TIMM_FAST = {
    "resnet18": ("fc",),
    "vit_tiny_patch16_224": ("head",),
    "convnext_atto": ("head.fc",),
    "dla34": ("fc",),  # a convolution
    "deit_tiny_distilled_patch16_224": ("head", "head_dist"),
    "levit_128": ("head.linear", "head_dist.linear"),
    "crossvit_9_240": ("head.0", "head.1"),
    "efficientvit_b0": ("head.classifier.4",),
    "resnetv2_18": ("head.fc",),  # a convolution
    "tf_efficientnet_lite0": ("classifier",),
    "repvit_m1": ("head.head.l", "head.head_dist.l"),
}

# The rest of the families that people use, for the long run.
TIMM_SLOW = """beit_base_patch16_224 halonet26t gernet_l cait_xxs24_224 coat_tiny convit_tiny
convmixer_768_32 darknet17 davit_tiny densenet121 dpn68 edgenext_small efficientformer_l1
efficientformerv2_s0 eva02_tiny_patch14_336 fastvit_t8 focalnet_tiny_srf gcvit_xxtiny ghostnet_050
hardcorenas_a hgnet_tiny hiera_tiny_224 hrnet_w18_small inception_next_atto inception_resnet_v2
inception_v4 mambaout_femto maxvit_nano_rw_256 caformer_s18 mixer_s32_224 mobilenetv3_small_050
mobilevit_xxs mvitv2_tiny nest_tiny nfnet_f0 pit_ti_224 pvt_v2_b0 regnety_002 repghostnet_050
res2net50d resnest14d rexnet_100 selecsls42 sequencer2d_s skresnet18 starnet_s1 swiftformer_xs
swin_tiny_patch4_window7_224 swinv2_tiny_window8_256 tiny_vit_5m_224 tnt_s_patch16_224 tresnet_m
twins_pcpvt_small vgg11 visformer_tiny volo_d1_224 legacy_xception xcit_nano_12_p8_224""".split()


@contextmanager
def no_numbers():
    """Build on the meta device: shapes without memory, so that even the largest model is quick.

    RegNet computes its plan with tensors, which need numbers: that one step runs on the CPU.
    """
    plan = BlockParams.from_init_params.__func__

    def on_cpu(cls, *args, **kwargs):
        with torch.device("cpu"):
            return plan(cls, *args, **kwargs)

    BlockParams.from_init_params = classmethod(on_cpu)
    try:
        with torch.device("meta"):
            yield
    finally:
        BlockParams.from_init_params = classmethod(plan)


def vision(name, **options):
    if name in ("googlenet", "inception_v3"):
        options.setdefault("init_weights", False)
    if name.startswith("vit"):
        options.setdefault("image_size", backbones.card(name).input_size)
    return torchvision.models.get_model(name, weights=None, **options)


def shapes(model):
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def check_swap(build, classes=7):
    """After a swap the model is the one built for so many classes; the rest is untouched."""
    with no_numbers(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model, reference = build(), build(num_classes=classes)
    model.eval()
    parameters = dict(model.named_parameters())
    buffers = dict(model.named_buffers())
    heads = head_names(model)
    assert replace_head(model, classes) is model
    assert shapes(model) == shapes(reference)
    assert getattr(model, "num_classes", None) == getattr(reference, "num_classes", None)
    changed = {n for n, p in model.named_parameters() if parameters[n] is not p}
    assert changed, "no parameter was changed"
    assert {name.rpartition(".")[0] for name in changed} == set(heads)
    assert all(buffers[name] is buffer for name, buffer in model.named_buffers())
    assert not any(module.training for module in model.modules())
    assert head_names(model) == heads
    return model


@torch.no_grad()
def output_of(model, size):
    return model(torch.empty(2, 3, size, size, device="meta"))


def check_torchvision(name):
    model = check_swap(lambda **options: vision(name, **options))
    size = backbones.card(name).input_size
    assert output_of(model, size).shape == (2, 7)


@pytest.mark.parametrize(("name", "head"), TORCHVISION_FAST.items())
def test_torchvision_kinds(name, head):
    with no_numbers():
        assert head_name(vision(name)) == head
    check_torchvision(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", TORCHVISION)
def test_every_torchvision_model(name):
    check_torchvision(name)


def check_timm(name):
    model = check_swap(lambda **options: timm.create_model(name, pretrained=False, **options))
    assert output_of(model, model.pretrained_cfg["input_size"][-1]).shape == (2, 7)
    return head_names(model)


@pytest.mark.parametrize(("name", "heads"), TIMM_FAST.items())
def test_timm_kinds(name, heads):
    assert check_timm(name) == heads


@pytest.mark.slow
@pytest.mark.parametrize("name", TIMM_SLOW)
def test_timm_families(name):
    check_timm(name)


def test_timm_list_covers_most_families():
    covered = {_model_to_module[name] for name in [*TIMM_SLOW, *TIMM_FAST]}
    assert len(covered) >= 60


def test_auxiliary_heads_follow_in_training():
    with no_numbers():
        inception, googlenet = vision("inception_v3"), vision("googlenet")
    assert head_names(inception) == ("fc", "AuxLogits.fc")
    assert head_names(googlenet) == ("fc", "aux1.fc2", "aux2.fc2")
    replace_head(inception, 5)
    replace_head(googlenet, 5)
    outputs = output_of(inception.train(), 299)
    assert outputs.logits.shape == outputs.aux_logits.shape == (2, 5)
    assert all(each.shape == (2, 5) for each in output_of(googlenet.train(), 224))


def small_net():
    return nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4))


class Named(nn.Module):
    """A network with children of the given names, and a forward that runs them in order."""

    def __init__(self, **children):
        super().__init__()
        for name, child in children.items():
            self.add_module(name, child)

    def forward(self, x):
        for child in self.children():
            x = child(x)
        return x


def test_values_come_out_for_real():
    model = backbones.load("squeezenet1_1", num_classes=3, pretrained=False).eval()
    assert model(torch.rand(2, 3, 64, 64)).shape == (2, 3)
    assert model(torch.rand(1, 3, 64, 64)).shape == (1, 3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("bias", [True, False])
def test_dtype_mode_flags_and_bias_are_kept(dtype, bias):
    model = Named(body=nn.Linear(4, 4), fc=nn.Linear(4, 9, bias=bias)).to(dtype)
    model.train()
    model.fc.eval()
    replace_head(model, 2)
    assert model.fc.weight.dtype == dtype
    assert (model.fc.bias is not None) == bias
    assert model.fc.training is False
    assert model.body.training is True
    assert all(p.requires_grad for p in model.parameters())
    assert model(torch.rand(3, 4, dtype=dtype)).shape == (3, 2)


def test_flags_follow_the_old_head_with_a_warning():
    model = small_net().requires_grad_(False)
    with pytest.warns(UserWarning, match=r"'2' is random and frozen"):
        replace_head(model, 2)
    assert not any(p.requires_grad for p in model.parameters())
    model[2].weight.requires_grad_(True)
    replace_head(model, 3)  # no warning: the weight learns
    assert model[2].weight.requires_grad
    assert not model[2].bias.requires_grad


def test_a_convolution_keeps_its_geometry():
    conv = nn.Conv2d(4, 9, (1, 3), stride=(1, 2), padding=(0, 1), padding_mode="reflect")
    model = Named(classifier=nn.Sequential(nn.Dropout(), conv, nn.ReLU(), nn.AdaptiveAvgPool2d(1)))
    replace_head(model, 2)
    new = model.classifier[1]
    assert (new.kernel_size, new.stride, new.padding) == ((1, 3), (1, 2), (0, 1))
    assert new.padding_mode == "reflect"
    assert model.eval()(torch.rand(5, 4, 6, 6)).shape == (5, 2, 1, 1)


def test_initialisation_is_that_of_pytorch():
    model = small_net()
    torch.manual_seed(3)
    replace_head(model, 7)
    torch.manual_seed(3)
    reference = nn.Linear(5, 7)
    torch.testing.assert_close(model[2].weight, reference.weight, rtol=1e-6, atol=0)
    torch.testing.assert_close(model[2].bias, reference.bias, rtol=1e-6, atol=0)
    conv = Named(classifier=nn.Sequential(nn.Conv2d(3, 4, 2)))
    torch.manual_seed(3)
    replace_head(conv, 7)
    torch.manual_seed(3)
    torch.testing.assert_close(conv.classifier[0].weight, nn.Conv2d(3, 7, 2).weight)


def test_a_seed_gives_the_same_head_and_leaves_the_global_stream():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first, second, other = (replace_head(small_net(), 2, seed=s)[2] for s in (5, 5, 6))
    assert torch.equal(first.weight, second.weight)
    assert torch.equal(first.bias, second.bias)
    assert not torch.equal(first.weight, other.weight)
    torch.set_rng_state(before)
    model = small_net()
    after_building = torch.get_rng_state()
    replace_head(model, 2, seed=5)
    assert torch.equal(torch.get_rng_state(), after_building)
    half = replace_head(small_net().half(), 2, seed=5)
    assert torch.equal(half[2].weight, first.weight.half())


def test_one_class_and_many_and_numpy_integers():
    for count in (1, 2, 5000, np.int64(3)):
        assert replace_head(small_net(), count)[2].out_features == int(count)


@pytest.mark.parametrize("bad", [0, -1, True, False, 2.0, "2", None, float("nan"), np.float32(2)])
def test_a_wrong_number_of_classes_is_refused(bad):
    model = small_net()
    head = model[2]
    with pytest.raises(HeadError, match="expected a whole number of classes"):
        replace_head(model, bad)
    assert model[2] is head


def deep(inputs, outputs=2):
    return nn.Sequential(nn.Linear(inputs, 8), nn.ReLU(), nn.Linear(8, outputs))


def test_a_head_of_several_layers_takes_the_place_of_the_old_one():
    model, head = backbones.load("efficientnet_lite0", pretrained=False).eval(), deep(1280, 3)
    first = head[0].weight.clone()
    assert replace_head(model, head) is model
    assert model.classifier is head
    assert torch.equal(head[0].weight, first)
    assert not head.training
    assert model.num_classes == 3
    assert model(torch.rand(2, 3, 64, 64)).shape == (2, 3)
    groups = training.parameter_groups(model, 0.001, head="classifier")
    assert {id(each) for each in groups[1]["params"]} == {id(each) for each in head.parameters()}
    conv = nn.Sequential(nn.Conv2d(512, 8, 1), nn.ReLU(), nn.Conv2d(8, 3, 1))
    squeezed = replace_head(backbones.load("squeezenet1_1", pretrained=False).double(), conv)
    assert squeezed(torch.rand(2, 3, 64, 64).double()).shape == (2, 3)


@pytest.mark.parametrize(
    ("head", "said"),
    [
        (deep(6), "can't take what the old one took, 5 features: .*must have that many inputs"),
        (nn.Flatten(0), r"gives \(10,\) for \(2, 5\); expected a score for each class"),
        (nn.LSTM(5, 2), "gives tuple for"),
    ],
)
def test_a_module_that_is_no_head_here_is_refused(head, said):
    model = small_net()
    old = model[2]
    with pytest.raises(HeadError, match=said):
        replace_head(model, head)
    assert model[2] is old
    assert head.training


def test_several_heads_want_a_module_each():
    with no_numbers():
        model = vision("inception_v3")
    with pytest.raises(HeadError, match=r"2 heads, 'fc', 'AuxLogits\.fc', and they need a module"):
        replace_head(model, deep(2048))
    with no_numbers():
        replace_head(model, deep(2048), head="fc")
    assert len(model.fc) == 3


class Tied(Named):
    def __init__(self):
        super().__init__(embedding=nn.Embedding(9, 4), fc=nn.Linear(4, 9, bias=False))
        self.fc.weight = self.embedding.weight


def refusals():
    linear, norm = nn.Linear(3, 3), nn.BatchNorm1d(3)
    weight_normed = nn.utils.parametrizations.weight_norm(nn.Linear(3, 3))
    return {
        "no usual name": (
            Named(body=linear, score_it=nn.Linear(3, 5)),
            r"'score_it' \(5 outputs\)",
        ),
        "two usual names": (Named(fc=linear, head=nn.Linear(3, 2)), "'fc' and 'head' could both"),
        "ends in a norm": (Named(fc=nn.Sequential(linear, norm)), "doesn't end in a linear"),
        "not a layer": (Named(head=Named(score=linear)), "'head.score'"),
        "no head": (timm.create_model("test_vit", num_classes=0), "as a feature extractor"),
        "empty": (Named(body=linear, fc=nn.Identity()), "as a feature extractor"),
        "itself": (nn.Linear(3, 3), "a single Linear"),
        "wrapped": (nn.DataParallel(small_net()), r"model\.module"),
        "tied": (Tied(), r"shares its parameters with embedding\.weight"),
        "twice": (nn.Sequential(linear, linear), r"shares its parameters with 0\.weight"),
        "lazy": (nn.Sequential(nn.LazyLinear(3)), "Run one batch"),
        "groups": (nn.Sequential(nn.Conv2d(4, 4, 1, groups=2)), "2 groups"),
        "parametrised": (Named(fc=weight_normed), "parametrised"),
        "nothing in it": (nn.Sequential(nn.ReLU()), "can't be told"),
    }


@pytest.mark.parametrize("case", refusals())
def test_what_cannot_be_swapped_is_refused_and_left(case):
    model, message = refusals()[case]
    modules = dict(model.named_modules(remove_duplicate=False))
    with pytest.raises(HeadError, match=message):
        replace_head(model, 2)
    assert dict(model.named_modules(remove_duplicate=False)) == modules


def test_all_heads_or_none():
    """A second head that can't be swapped keeps the first one too."""
    with no_numbers():
        model = vision("inception_v3")
    model.AuxLogits.fc.weight = model.fc.weight
    main = model.fc
    with pytest.raises(HeadError, match="shares its parameters"):
        replace_head(model, 2)
    assert model.fc is main


def test_a_head_can_be_named():
    model = Named(body=nn.Linear(3, 3), score_it=nn.Linear(3, 5))
    assert replace_head(model, 2, head="score_it")(torch.rand(4, 3)).shape == (4, 2)
    with pytest.raises(HeadError, match=r"Did you mean 'score_it'"):
        replace_head(model, 2, head="scoreit")
    with pytest.raises(HeadError, match="no linear or convolutional layer ''"):
        replace_head(model, 2, head="")


def test_the_new_head_learns_and_the_old_one_is_gone():
    model = small_net()
    old = model[2].weight
    replace_head(model, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = model[2].weight.detach().clone()
    model(torch.rand(8, 6)).square().sum().backward()
    optimizer.step()
    assert not torch.equal(model[2].weight, before)
    assert all(p is not old for p in model.parameters())
