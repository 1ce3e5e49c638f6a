"""What ``save_checkpoint`` writes, ``resume_checkpoint`` reads: every kind of state there is."""

import warnings

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune
from torch.optim.swa_utils import AveragedModel

from course_lib.freezing import freeze, frozen_names
from course_lib.freezing.bits import same_bits
from course_lib.weights import CheckpointError, LoadError, resume_checkpoint, save_checkpoint


class Extra(nn.Linear):
    """A layer whose extra state scales what it gives."""

    def __init__(self, make=lambda x: x, read=lambda x: x):
        super().__init__(4, 4)
        self.factor, self.make, self.read = float(torch.rand(())), make, read

    def get_extra_state(self):
        return self.make(self.factor)

    def set_extra_state(self, state):
        self.factor = self.read(state)

    def forward(self, x):
        return super().forward(x) * self.factor


class Factor:
    """An object of one's own."""

    def __init__(self, value):
        self.value = value


class Cloning(nn.Linear):
    """Its state dict holds copies."""

    def __init__(self):
        super().__init__(4, 4)
        self._register_state_dict_hook(
            lambda module, state, prefix, _: state.update({k: v.clone() for k, v in state.items()})
        )


class Renaming(nn.Linear):
    """Saved under another name, as older versions of it were."""

    def __init__(self):
        super().__init__(4, 4)
        self.register_state_dict_post_hook(
            lambda module, state, prefix, _: state.update(
                {f"{prefix}gamma": state.pop(f"{prefix}weight")}
            )
        )
        self.register_load_state_dict_pre_hook(
            lambda module, state, prefix, *_: state.update(
                {f"{prefix}weight": state.pop(f"{prefix}gamma")}
            )
        )


class Versioned(nn.Linear):
    """Halves what version 1 saved."""

    _version = 2

    def __init__(self):
        super().__init__(4, 4)

    def _load_from_state_dict(self, state, prefix, metadata, *rest):
        if metadata.get("version", 1) < 2:
            state[f"{prefix}weight"] = state[f"{prefix}weight"] / 2
        super()._load_from_state_dict(state, prefix, metadata, *rest)


class Cached(nn.Linear):
    """Computes with a transposed copy, made anew after loading."""

    def __init__(self):
        super().__init__(4, 4)
        self.refresh(self, None)
        self.register_load_state_dict_post_hook(self.refresh)

    @staticmethod
    def refresh(module, _):
        module.turned = module.weight.detach().t().clone()

    def forward(self, x):
        return super().forward(x) + x @ self.turned


class Counting(nn.Linear):
    """Its buffers aren't in its state dict; one of them grows."""

    def __init__(self):
        super().__init__(4, 4)
        self.register_buffer("count", torch.zeros(()), persistent=False)
        self.register_buffer("seen", torch.zeros(0), persistent=False)

    def forward(self, x):
        if self.training:
            self.count += 1
            self.seen = torch.cat([self.seen, x.detach().mean()[None]])
        return super().forward(x) * (1 + self.count) + self.seen.sum()


class Packed(nn.Module):
    """Two matrices in one stretch of memory, as cuDNN wants those of an RNN."""

    def __init__(self):
        super().__init__()
        self.flat = torch.randn(32)
        self.one = nn.Parameter(self.flat[:16].view(4, 4))
        self.two = nn.Parameter(self.flat[16:].view(4, 4))

    def forward(self, x):
        return x @ self.one @ self.two


class Odd(nn.Module):
    """Buffers of other layouts and types, and one that isn't there."""

    def __init__(self):
        super().__init__()
        self.body = nn.Linear(4, 4)
        self.register_buffer("sparse", torch.eye(4).mul(torch.rand(4)).to_sparse())
        self.register_buffer("complex", torch.randn(3, dtype=torch.complex64))
        self.register_buffer("bits", torch.randint(0, 2, (5,), dtype=torch.bool))
        self.register_buffer("none", None)
        self.register_buffer("turned", torch.randn(3, 2).t())
        self.register_buffer("empty", torch.zeros(0, 3))

    def forward(self, x):
        return self.body(x) @ self.sparse.to_dense() * self.complex.abs().sum()


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(4, 4), nn.Linear(4, 4)
        self.two.weight = self.one.weight
        self.three = self.one

    def forward(self, x):
        return self.three(self.two(self.one(x)))


def quiet(make):
    def made():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's own: quantisation moves to torchao
            return make()

    return made


@quiet
def observed():
    from torch.ao import quantization

    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    model.qconfig = quantization.get_default_qat_qconfig("x86")
    return quantization.prepare_qat(model.train())


@quiet
def dynamic():
    from torch.ao import quantization

    return quantization.quantize_dynamic(nn.Sequential(nn.Linear(4, 4)), {nn.Linear})


@quiet
def static():
    from torch.ao import quantization

    model = nn.Sequential(
        quantization.QuantStub(), nn.Linear(4, 4), quantization.DeQuantStub()
    ).eval()  # fmt: skip
    model.qconfig = quantization.get_default_qconfig("x86")
    prepared = quantization.prepare(model)
    prepared(torch.randn(20, 4))
    return quantization.convert(prepared)


@quiet
def old_weight_norm():
    return nn.utils.weight_norm(nn.Linear(4, 4))


KINDS = {
    "extra number": Extra,
    "extra dict": lambda: Extra(lambda f: {"deep": [f, (1, "a")]}, lambda s: s["deep"][0]),
    "extra tensor": lambda: Extra(torch.tensor, float),
    "extra trainable": lambda: Extra(lambda f: torch.tensor(f, requires_grad=True), float),
    "extra bytes": lambda: Extra(lambda f: str(f).encode(), lambda s: float(s)),
    "extra set": lambda: Extra(lambda f: {f}, lambda s: next(iter(s))),
    "extra object": lambda: Extra(Factor, lambda s: s.value),
    "hook clones": Cloning,
    "hook renames": Renaming,
    "version": Versioned,
    "post hook": Cached,
    "not persistent": Counting,
    "packed": Packed,
    "lazy": lambda: nn.Sequential(nn.LazyLinear(4), nn.LazyBatchNorm1d()),
    "tied": Tied,
    "odd": Odd,
    "observers": observed,
    "quantised dynamically": dynamic,
    "quantised": static,
    "weight_norm, old": old_weight_norm,
    "weight_norm": lambda: parametrizations.weight_norm(nn.Linear(4, 4)),
    "spectral_norm": lambda: parametrizations.spectral_norm(nn.Linear(4, 4)),
    "orthogonal": lambda: parametrizations.orthogonal(nn.Linear(4, 4)),
    "bfloat16": lambda: nn.Linear(4, 4).bfloat16().float().double(),
    "pruned": lambda: prune.random_unstructured(nn.Linear(4, 4), "weight", 0.5),
    "script": lambda: torch.jit.script(nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))),
    "rnn": lambda: nn.Sequential(nn.Linear(4, 4), Last(nn.LSTM(4, 4, 2))),
    "averaged": lambda: AveragedModel(nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))),
    "checkpointed": lambda: checkpointed(),
}


class Last(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x)[0]


def checkpointed():
    from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

    return nn.Sequential(checkpoint_wrapper(nn.Linear(4, 4)), nn.BatchNorm1d(4))


def built(kind, seed):
    torch.manual_seed(seed)
    return nn.Sequential(KINDS[kind](), nn.Tanh())


def trained(model, steps=2):
    """A few steps, where there is something to train; the inputs are the same each time."""
    torch.manual_seed(3)
    dtype = next((p.dtype for p in model.parameters()), torch.float32)
    given = torch.randn(6, 4).to(dtype)
    outputs = []
    optimizer = None
    for _ in range(steps):
        loss = model(given).float().square().mean()
        if loss.requires_grad:
            optimizer = optimizer or torch.optim.SGD(model.parameters(), 0.01)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        outputs.append(loss.detach())
    return outputs


def equal(one, other):
    if isinstance(one, torch.Tensor):
        if one.is_quantized:
            return torch.equal(one, other)
        return same_bits(one, other)
    if isinstance(one, dict):
        return list(one) == list(other) and all(equal(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    return vars(one) == vars(other) if isinstance(one, Factor) else one == other


@pytest.fixture(autouse=True)
def _own_class():
    with torch.serialization.safe_globals([Factor]):
        yield


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore")
def test_comes_back_and_goes_on_alike(tmp_path, kind):
    model = built(kind, 1)
    trained(model)
    if kind == "post hook":
        Cached.refresh(model[0], None)
    path = save_checkpoint(tmp_path / "run.pt", model, epoch=1)
    again = built(kind, 2)
    if kind == "packed":
        flat = again[0].flat
    assert not resume_checkpoint(path, again).skipped
    assert equal(dict(again.state_dict()), dict(model.state_dict()))
    assert equal(trained(again, 3), trained(model, 3))
    assert equal(dict(again.state_dict()), dict(model.state_dict()))
    if kind == "packed":
        assert again[0].one.data_ptr() == flat.data_ptr()
    if kind == "tied":
        assert again[0].two.weight is again[0].one.weight


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore")
def test_a_later_failure_leaves_it_as_it_was(tmp_path, kind):
    """The second module doesn't fit, after the first got its values."""
    whole = nn.ModuleList([built(kind, 1), nn.Linear(2, 2)])
    trained(whole[0])
    path = save_checkpoint(tmp_path / "run.pt", whole, epoch=1)
    other = nn.ModuleList([built(kind, 2), nn.Linear(2, 3)])
    twin = built(kind, 2)
    before = dict(twin.state_dict())
    with pytest.raises(LoadError, match=r"'1\.weight' has the shape"):
        resume_checkpoint(path, other)
    lazy = [n for n, each in before.items() if nn.parameter.is_lazy(each)]
    after = dict(other[0].state_dict())
    assert lazy == [n for n, each in after.items() if nn.parameter.is_lazy(each)]
    for name in before.keys() - set(lazy):
        assert equal(after[name], before[name]), name
    assert equal(trained(other[0]), trained(twin))


def test_lazy_without_a_shape_yet(tmp_path):
    path = save_checkpoint(tmp_path / "run.pt", built("lazy", 1), epoch=0)
    again = built("lazy", 2)
    resume_checkpoint(path, again)
    assert nn.parameter.is_lazy(again[0][0].weight)
    trained(again)
    before = {n: each.clone() for n, each in again.state_dict().items()}
    with pytest.raises(LoadError):
        resume_checkpoint(path, again)
    assert equal(dict(again.state_dict()), before)


def test_lazy_and_frozen(tmp_path):
    model = built("lazy", 1)
    trained(model)
    freeze(model, "0.1")
    path = save_checkpoint(tmp_path / "run.pt", model, epoch=0)
    again = built("lazy", 2)
    resume_checkpoint(path, again)
    assert frozen_names(again) == frozen_names(model)
    assert equal(trained(again), trained(model))


def test_an_object_that_nobody_allowed(tmp_path):
    """Named when it is saved, with what to do; what was allowed only then is refused later."""

    class Unknown:
        pass

    model = Extra(lambda _: Unknown(), lambda _: 1.0)
    with pytest.raises(CheckpointError, match=r"model\._extra_state.*Unknown.*add_safe_globals"):
        save_checkpoint(tmp_path / "run.pt", model, epoch=1)
    assert not list(tmp_path.iterdir())
    path = save_checkpoint(tmp_path / "run.pt", built("extra object", 1), epoch=1)
    torch.serialization.clear_safe_globals()
    with pytest.raises(CheckpointError, match=r"Factor.*safe_globals\(\[\.\.\.\]\)"):
        resume_checkpoint(path, built("extra object", 2))
    with torch.serialization.safe_globals([Factor]):
        resume_checkpoint(path, built("extra object", 2))


def test_extra_state_that_is_changed_in_place_goes_back(tmp_path):
    class Table(nn.Module):
        def __init__(self, entries):
            super().__init__()
            self.table = dict(entries)

        def get_extra_state(self):
            return self.table

        def set_extra_state(self, state):
            self.table.clear()
            self.table.update(state)

    path = save_checkpoint(
        tmp_path / "run.pt", nn.ModuleList([Table({"a": 1}), nn.Linear(2, 2)]), epoch=1
    )  # fmt: skip
    again = nn.ModuleList([Table({"b": 2}), nn.Linear(2, 3)])
    with pytest.raises(LoadError):
        resume_checkpoint(path, again)
    assert again[0].table == {"b": 2}


def test_what_only_one_side_has_is_said(tmp_path):
    model = nn.Sequential(nn.Linear(2, 2))
    path = save_checkpoint(tmp_path / "run.pt", model, epoch=1)
    again = nn.Sequential(nn.Linear(2, 2), nn.Dropout())
    again.register_buffer("mask", torch.ones(2), persistent=False)
    assert resume_checkpoint(path, again).skipped == ("1", "mask")


def test_a_checkpoint_of_another_format_is_told_from_a_damaged_one(tmp_path):
    path = save_checkpoint(tmp_path / "run.pt", nn.Linear(2, 2), epoch=1)
    content = torch.load(path, weights_only=True)
    torch.save(content | {"version": 3}, path)
    with pytest.raises(CheckpointError, match=r"format 3; this one reads 1 to 2.*where='model'"):
        resume_checkpoint(path, nn.Linear(2, 2))
    from course_lib.weights import load_weights

    load_weights(nn.Linear(2, 2), path, where="model")  # the advice


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", ["NAdam", "RAdam", "ASGD", "Adagrad", "Rprop", "Adafactor"])
def test_moments_keep_their_types(tmp_path, kind, dtype):
    """torch's load_state_dict converts them, and NAdam's next steps differ."""

    def run(seed):
        torch.manual_seed(seed)
        model = nn.Linear(4, 3).to(dtype)
        return model, getattr(torch.optim, kind)(model.parameters(), lr=0.01)

    def steps(model, optimizer, count):
        torch.manual_seed(5)
        for _ in range(count):
            optimizer.zero_grad()
            model(torch.randn(6, 4).to(dtype)).square().mean().backward()
            optimizer.step()

    model, optimizer = run(1)
    steps(model, optimizer, 3)
    path = save_checkpoint(tmp_path / "run.pt", model, optimizer, epoch=1)
    again, other = run(2)
    resume_checkpoint(path, again, other)
    steps(model, optimizer, 5)
    steps(again, other, 5)
    assert equal(dict(again.state_dict()), dict(model.state_dict()))
