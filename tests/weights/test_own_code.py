"""Whatever torch loads strictly, load_weights loads with the same result, modules' code run."""

import copy
import warnings
from collections import OrderedDict
from types import MethodType

import pytest
import timm
import torch
import torchvision
from timm.layers import FrozenBatchNormAct2d
from torch import nn
from torch.nn.utils import parametrizations
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads
from torchvision.models.detection.retinanet import (
    RetinaNetClassificationHead,
    RetinaNetRegressionHead,
)
from torchvision.models.detection.rpn import RPNHead
from torchvision.models.vision_transformer import MLPBlock
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.misc import FrozenBatchNorm2d

from course_lib.freezing.bits import same_bits
from course_lib.weights import LoadError, load_model, load_weights, read_checkpoint
from course_lib.weights.loading import commit, model_tensors
from course_lib.weights.loading.commit import Before
from tests.weights.conftest import make, same, snapshot, untouched
from tests.weights.test_roundtrips import TIMM, build, scramble


class Renames(nn.Linear):
    """Knows an old name of its weight."""

    def __init__(self):
        super().__init__(3, 2)
        self._register_load_state_dict_pre_hook(self.rename)

    def rename(self, state, prefix, *_):
        if f"{prefix}matrix" in state:
            state[f"{prefix}weight"] = state.pop(f"{prefix}matrix")


class PublicHook(nn.Linear):
    def __init__(self):
        super().__init__(3, 2)
        self.register_load_state_dict_pre_hook(PublicHook.rename)

    @staticmethod
    def rename(module, state, prefix, *_):
        if f"{prefix}matrix" in state:
            state[f"{prefix}weight"] = state.pop(f"{prefix}matrix")


class Caches(nn.Linear):
    """Keeps the sum of its weight, refreshed after loading."""

    def __init__(self):
        super().__init__(3, 2)
        self.calls = []
        self.refresh(self, None)
        self.register_load_state_dict_post_hook(Caches.refresh)

    @staticmethod
    def refresh(module, _):
        module.calls.append("refreshed")
        module.total = module.weight.detach().sum()


class Forgives(nn.Linear):
    """Its hook takes its bias from the list of what is missing."""

    def __init__(self):
        super().__init__(3, 2)
        self.register_load_state_dict_post_hook(Forgives.forgive)

    @staticmethod
    def forgive(module, keys):
        keys.missing_keys[:] = [each for each in keys.missing_keys if not each.endswith("bias")]


class Versioned(nn.Module):
    """Version 1 kept the logarithm."""

    _version = 2

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3))

    def _load_from_state_dict(self, state, prefix, metadata, *rest):
        if metadata.get("version", 1) < 2:
            state[f"{prefix}scale"] = state[f"{prefix}scale"].exp()
        super()._load_from_state_dict(state, prefix, metadata, *rest)


class Reshapes(nn.Linear):
    """Old files have the weight as a vector of another type."""

    def __init__(self):
        super().__init__(3, 2)
        self._register_load_state_dict_pre_hook(self.reshape)

    def reshape(self, state, prefix, *_):
        state[f"{prefix}weight"] = state[f"{prefix}weight"].view(2, 3) / 10


class Extra(nn.Linear):
    def __init__(self):
        super().__init__(3, 2)
        self.told = {"epoch": 0, "moments": torch.zeros(2)}

    def get_extra_state(self):
        return self.told

    def set_extra_state(self, state):
        self.told = state


class RootOverride(nn.Linear):
    """Its own load_state_dict unpacks what is inside, and gives nothing back."""

    def __init__(self):
        super().__init__(3, 2)

    def load_state_dict(self, state, strict=True, assign=False):
        state = OrderedDict((name.replace("old_", ""), each) for name, each in state.items())
        super().load_state_dict(state, strict=True)


def one_object_doubles():
    """Loading code of this object, not of its class."""

    def load(module, state, prefix, *rest):
        state[f"{prefix}bias"] = state[f"{prefix}bias"] * 2
        nn.Module._load_from_state_dict(module, state, prefix, *rest)

    module = nn.Linear(3, 2)
    module._load_from_state_dict = MethodType(load, module)
    return module


def linear_state(**changes):
    state = {"weight": torch.randn(2, 3), "bias": torch.randn(2)}
    return {changes.get(name, name): each for name, each in state.items()}


def old_weight_norm():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nn.utils.weight_norm(nn.Linear(3, 2)).state_dict()


def versioned(version):
    state = OrderedDict(scale=torch.tensor([0.0, 1.0, 2.0]))
    state._metadata = OrderedDict({"": {"version": version}})
    return state


def with_observer():
    observer = torch.ao.quantization.PerChannelMinMaxObserver()
    observer(torch.randn(4, 5))
    return observer


def quantised():
    module = nn.Sequential(nn.Linear(3, 2))
    return torch.ao.quantization.quantize_dynamic(module, {nn.Linear})


def observed():
    """Quantisation-aware training, some steps in."""
    module = nn.Sequential(nn.Linear(3, 4), nn.ReLU()).train()
    module.qconfig = torch.ao.quantization.get_default_qat_qconfig("x86")
    return torch.ao.quantization.prepare_qat(module)


def run_through(module):
    module(torch.randn(5, 3))
    return module


RPN_OLD = {
    name.replace("conv.0.0.", "conv."): torch.randn_like(each)
    for name, each in RPNHead(4, 3).state_dict().items()
}


def batch_norm():
    return {name: torch.rand(3) for name in ("weight", "bias", "running_mean", "running_var")}


KINDS = {
    "pre-hook": (Renames, lambda: linear_state(weight="matrix")),
    "pre-hook with every name its own": (Renames, lambda: {
        "matrix": torch.randn(2, 3), "bias": torch.randn(2)}),
    "public pre-hook": (PublicHook, lambda: linear_state(weight="matrix")),
    "post-hook with a cache": (Caches, linear_state),
    "post-hook that forgives": (Forgives, lambda: {"weight": torch.randn(2, 3)}),
    "version 1": (Versioned, lambda: versioned(1)),
    "version 2": (Versioned, lambda: versioned(2)),
    "no version": (Versioned, lambda: dict(versioned(1))),
    "another shape and type": (Reshapes, lambda: {
        "weight": torch.arange(6, dtype=torch.int64), "bias": torch.ones(2)}),
    "extra state: a dictionary": (Extra, lambda: {
        **linear_state(), "_extra_state": {"epoch": 3, "moments": torch.ones(2)}}),
    "extra state: a tensor": (Extra, lambda: {**linear_state(), "_extra_state": torch.ones(5)}),
    "extra state: larger than the weights": (Extra, lambda: {
        **linear_state(), "_extra_state": {str(n): torch.ones(1) for n in range(9)}}),
    "a load_state_dict of its own": (RootOverride, lambda: linear_state(weight="old_weight")),
    "code of one object": (one_object_doubles, linear_state),
    "BatchNorm of an old file": (lambda: nn.BatchNorm2d(3), batch_norm),
    "a scalar of torch 0.3": (lambda: nn.BatchNorm2d(3), lambda: {
        **batch_norm(), "num_batches_tracked": torch.tensor([7])}),
    "weight_norm's g and v": (
        lambda: parametrizations.weight_norm(nn.Linear(3, 2)), old_weight_norm),
    "spectral_norm": (lambda: nn.utils.spectral_norm(nn.Linear(3, 2)),
                      lambda: nn.utils.spectral_norm(nn.Linear(3, 2)).state_dict()),
    "torchvision's MLPBlock": (lambda: MLPBlock(3, 5, 0.0), lambda: {
        "linear_1.weight": torch.randn(5, 3), "linear_1.bias": torch.randn(5),
        "linear_2.weight": torch.randn(3, 5), "linear_2.bias": torch.randn(3)}),
    "torchvision's RPNHead": (lambda: RPNHead(4, 3), lambda: RPN_OLD),
    "FrozenBatchNorm2d": (lambda: FrozenBatchNorm2d(3), lambda: {
        **batch_norm(), "num_batches_tracked": torch.tensor(7)}),
    "attention": (lambda: nn.MultiheadAttention(4, 2),
                  lambda: nn.MultiheadAttention(4, 2).state_dict()),
    "quantisable attention": (
        lambda: torch.ao.nn.quantizable.MultiheadAttention(4, 2),
        lambda: torch.ao.nn.quantizable.MultiheadAttention(4, 2).state_dict()),
    "a lazy layer": (lambda: nn.LazyLinear(2), linear_state),
    "an observer that resizes": (torch.ao.quantization.PerChannelMinMaxObserver,
                                 lambda: with_observer().state_dict()),
    "quantised": (quantised, lambda: quantised().state_dict()),
    "QAT": (observed, lambda: run_through(observed()).state_dict()),
}  # fmt: skip
KINDS |= {
    f"inside: {name}": (lambda kind=kind: nn.Sequential(nn.BatchNorm1d(2), kind()),
                        lambda state=state: nest(state()))
    for name, (kind, state) in KINDS.items() if kind is not RootOverride
}  # fmt: skip


def nest(state):
    first = nn.BatchNorm1d(2).state_dict()
    nested = OrderedDict({f"0.{name}": each for name, each in first.items()})
    nested |= {f"1.{name}": each for name, each in state.items()}
    if hasattr(state, "_metadata"):
        nested._metadata = OrderedDict({"": {"version": 1}, "0": {"version": 2}})
        nested._metadata |= {f"1.{name}".rstrip("."): v for name, v in state._metadata.items()}
    return nested


def flat(value):
    """Everything that a module holds, as one list: names, tensors, numbers."""
    if isinstance(value, nn.Module):
        inside = {name: each for name, each in vars(value).items()
                  if "hook" not in name and not isinstance(each, MethodType)}  # fmt: skip
        return flat([inside, value.state_dict()])
    if isinstance(value, dict):
        return [each for name in value for each in (name, *flat(value[name]))]
    if isinstance(value, list | tuple):
        return [each for inner in value for each in flat(inner)]
    return [value]


def equal(one, other):
    one, other = flat(one), flat(other)
    return len(one) == len(other) and all(map(alike, one, other))


def alike(one, other):
    if type(one) is not type(other):
        return False
    if isinstance(one, nn.UninitializedParameter):
        return True
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other) if one.is_quantized else same_bits(one, other)
    return one == other if isinstance(one, str | int | float) else True


def seeded(kind):
    torch.manual_seed(2)
    return kind()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("source", ["a file", "a state dict", "a checkpoint", "with a prefix"])
@pytest.mark.parametrize("name", KINDS)
def test_as_torch_does(tmp_path, name, source):
    kind, state = KINDS[name]
    torch.manual_seed(1)
    state = state()
    mine, theirs, before = (seeded(kind) for _ in range(3))
    theirs.load_state_dict(copy.deepcopy(state), strict=True)
    if source == "with a prefix":
        if not name.startswith("inside"):
            pytest.skip("a prefix is found where some names are the model's")
        wrapped = OrderedDict((f"module.{key}", each) for key, each in state.items())
        if hasattr(state, "_metadata"):
            wrapped._metadata = OrderedDict({"": {"version": 1}})
            wrapped._metadata |= {f"module.{n}".rstrip("."): v for n, v in state._metadata.items()}
        state = wrapped
    path = tmp_path / "m.pth"
    torch.save(state, path)
    if source == "a checkpoint":
        state = read_checkpoint(path)
    report = load_weights(mine, path if source == "a file" else state)
    assert equal(mine, theirs)
    assert not report.missing
    assert not report.unexpected
    assert not equal(mine, before)


@pytest.mark.parametrize("version", [None, 1, 2])
def test_whether_batches_may_be_missing_depends_on_the_version(version):
    state = nn.BatchNorm1d(2).state_dict()
    del state["num_batches_tracked"]
    state._metadata = OrderedDict() if version is None else OrderedDict({"": {"version": version}})
    try:
        nn.BatchNorm1d(2).load_state_dict(state, strict=True)
    except RuntimeError:
        with pytest.raises(LoadError, match="keep='num_batches_tracked'"):
            load_weights(nn.BatchNorm1d(2), state)
    else:
        assert load_weights(nn.BatchNorm1d(2), state).supplied == ("num_batches_tracked",)


class Fails(nn.Linear):
    """Changes all that it holds, and raises."""

    def __init__(self):
        super().__init__(3, 2)
        self.register_buffer("seen", torch.zeros(3), persistent=False)
        self.told = {"list": [1, [2]], "set": {1}, "tensor": torch.ones(2)}
        self.register_load_state_dict_post_hook(Fails.fail)

    @staticmethod
    def fail(module, _):
        module.seen += 1
        module.told["list"][1].append(3)
        module.told["set"].add(2)
        module.told["tensor"].zero_()
        module.told["new"] = 1
        module.other = 5
        module.weight = nn.Parameter(torch.zeros(2, 3))
        raise RuntimeError("no")


RENAMING = {
    MLPBlock: (4, 8, 0.0), RPNHead: (4, 3), FrozenBatchNorm2d: (4,), FrozenBatchNormAct2d: (4,),
    FeaturePyramidNetwork: ([4, 4], 4), MaskRCNNHeads: (4, [4], 1),
    RetinaNetClassificationHead: (4, 2, 2), RetinaNetRegressionHead: (4, 2),
}  # fmt: skip


def test_code_that_is_said_to_rename_leaves_names_of_the_model_alone():
    known = {f"{each.__module__}.{each.__name__}._load_from_state_dict" for each in RENAMING}
    assert known == model_tensors._RENAMING
    for kind, arguments in RENAMING.items():
        module = kind(*arguments)
        for version in (None, 1, 2):
            entries = OrderedDict(module.state_dict())
            before, errors = dict(entries), []
            metadata = {} if version is None else {"version": version}
            module._load_from_state_dict(entries, "", metadata, True, [], [], errors)
            assert entries.keys() == before.keys()
            assert errors == []
            assert all(entries[name] is value for name, value in before.items())


@pytest.mark.parametrize("hurt", ["", "hook", "old name"])
def test_old_values_are_kept_only_where_something_can_fail(monkeypatch, hurt):
    model = nn.Sequential(MLPBlock(4, 8, 0.0), nn.Linear(4, 2))
    state = OrderedDict((name, torch.rand_like(each)) for name, each in model.state_dict().items())
    kept = []
    monkeypatch.setattr(commit, "Before", lambda model: kept.append(model) or Before(model))
    if hurt == "hook":
        model.register_load_state_dict_post_hook(lambda *_: None)
    if hurt == "old name":
        state["0.linear_1.weight"] = state.pop("0.0.weight")
    load_weights(model, state)
    assert bool(kept) == bool(hurt)
    state["0.0.weight"] = state.pop("0.linear_1.weight", state.get("0.0.weight"))
    assert all(same_bits(each, state[name]) for name, each in model.state_dict().items())


def test_own_code_that_raises_is_undone():
    model = nn.Sequential(nn.BatchNorm1d(3), Fails(), nn.LazyLinear(4))
    before, parameters = copy.deepcopy(model), list(model.parameters())
    other = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 2), nn.Linear(2, 4))
    with pytest.raises(LoadError, match=r"refused its new values \(no\)"):
        load_weights(model, other.state_dict())
    assert equal(model, before)
    assert all(a is b for a, b in zip(parameters, model.parameters(), strict=True))
    assert isinstance(model[2].weight, nn.UninitializedParameter)


def test_what_own_code_leaves_over_is_undone_and_named():
    model = nn.Sequential(Renames(), nn.Linear(2, 2))
    state = {f"0.{n}": t for n, t in linear_state(weight="matrix").items()}
    state |= {"0.stray": torch.ones(2), "1.weight": torch.ones(2, 2)}
    before = snapshot(model)
    with pytest.raises(LoadError, match=r"nothing for 1: 1\.bias.*no place for 1: 0\.stray"):
        load_weights(model, state)
    assert untouched(model, before)
    report = load_weights(model, state, keep="1.bias", drop="0.stray")
    assert report.supplied == ("0.weight",)
    assert [each.name for each in report.loaded] == ["0.bias", "1.weight"]
    assert torch.equal(model[0].weight, state["0.matrix"])


def test_other_shapes_under_own_code_are_refused_as_elsewhere():
    model = Renames()
    before = snapshot(model)
    state = {"weight": torch.ones(4, 3), "bias": torch.ones(2)}
    with pytest.raises(LoadError, match=r"Shapes differ.*keep='weight'"):
        load_weights(model, state)
    assert untouched(model, before)
    report = load_weights(model, state, skip_mismatched=True)
    assert [each.name for each in report.mismatched] == ["weight"]
    assert model.bias.tolist() == [1, 1]


def test_a_built_model_runs_its_own_code(tmp_path):
    torch.save({f"0.{n}": t for n, t in linear_state().items()}, tmp_path / "m.pth")
    model, _ = load_model(lambda: nn.Sequential(Caches()), tmp_path / "m.pth")
    assert torch.equal(model[0].total, model[0].weight.sum())
    torch.save({f"0.{n}": t for n, t in linear_state(weight="matrix").items()}, tmp_path / "o.pth")
    model, report = load_model(lambda: nn.Sequential(Renames()), tmp_path / "o.pth")
    assert report.supplied == ("0.weight",)


# --- whole zoos ----------------------------------------------------------------------------------

FAST = [("torchvision", "resnet18"), ("torchvision", "vit_b_32"), ("timm", "levit_128s"),
        ("torchvision", "fasterrcnn_mobilenet_v3_large_fpn")]  # fmt: skip
OLD_NAMES = (("mlp.0.", "mlp.linear_1."), ("mlp.3.", "mlp.linear_2."),
             ("rpn.head.conv.0.0.", "rpn.head.conv."))  # fmt: skip


def variants(state):
    """The state dict as it is, of no version, and as older libraries wrote it."""
    yield state
    yield dict(state)
    yield {n: t for n, t in state.items() if not n.endswith("num_batches_tracked")}
    old = {}
    for name, tensor in state.items():
        for new, before in OLD_NAMES:
            name = name.replace(new, before)
        old[name] = tensor
    yield old


def check(library, name, folder):
    model = build(library, name)
    scramble(model, 1)
    state = model.state_dict()
    stored = OrderedDict((key, each.clone()) for key, each in state.items())
    stored._metadata = state._metadata
    for number, variant in enumerate(variants(stored)):
        path = folder / f"{number}.pth"
        torch.save(variant, path)
        scramble(model, 2)
        before = snapshot(model)
        try:
            model.load_state_dict(torch.load(path, weights_only=True), strict=True)
        except (RuntimeError, ValueError):  # MNASNet wants to know the version
            scramble(model, 2)
            assert same(snapshot(model), before)
            with pytest.raises(LoadError):
                load_weights(model, path)
            assert untouched(model, before)
        else:
            after = snapshot(model)
            scramble(model, 2)
            report = load_weights(model, path)
            assert same(snapshot(model), after)
            assert not report.missing
            assert len(report.loaded) + len(report.supplied) == report.total
        path.unlink()


@pytest.mark.parametrize(("library", "name"), FAST)
def test_some_models(tmp_path, library, name):
    check(library, name, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", torchvision.models.list_models())
def test_torchvision(tmp_path, name):
    check("torchvision", name, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", TIMM)
def test_timm(tmp_path, name):
    check("timm", name, tmp_path)


def test_old_files_were_tried():
    """The old names are known to the libraries that the sweep is about."""
    model = make(1, torchvision.models.vit_b_32)
    assert any("mlp.0." in name for name in model.state_dict())
    assert len({*TIMM} & {*timm.list_models()}) >= 60
