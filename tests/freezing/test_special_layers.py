"""Layers that write into their own tensors, in ways that requires_grad doesn't reach."""

import copy
import threading
import warnings

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations
from torch.optim.swa_utils import AveragedModel, update_bn

from course_lib.freezing import freeze, frozen_names, unfreeze
from tests.freezing.conftest import fingerprint, moved, snapshot


class Counts(nn.Module):
    """A layer of one's own which counts in a buffer, in eval mode too, and uses the count."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Linear(4, 4)
        self.register_buffer("calls", torch.zeros(1))
        self.register_buffer("last", torch.zeros(4), persistent=False)

    def forward(self, x):
        self.calls += 1
        self.last = x.detach().mean(0)  # replaced, not written into
        return self.scale(x) * self.calls


class CountingLinear(nn.Linear):
    def __init__(self, size):
        super().__init__(size, size)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls.add_(1)
        return super().forward(x)


class FirstOutput(nn.Module):
    """Recurrent and attention layers return tuples; this takes the first element."""

    def __init__(self, inner, repeat=1):
        super().__init__()
        self.inner, self.repeat = inner, repeat

    def forward(self, x):
        x = x.unsqueeze(1)
        return self.inner(*[x] * self.repeat)[0].squeeze(1)


class Bagged(nn.Module):
    def __init__(self):
        super().__init__()
        self.bag = nn.EmbeddingBag(7, 4, max_norm=0.1)
        self.table = nn.Embedding(7, 4, max_norm=0.1, norm_type=1.0)

    def forward(self, x):
        tokens = (x.detach() * 10).long() % 7
        return x + self.bag(tokens) + self.table(tokens).sum(1)


LAYERS = {
    "batchnorm": lambda: nn.BatchNorm1d(4),
    "batchnorm, cumulative": lambda: nn.BatchNorm1d(4, momentum=None),
    "batchnorm, not affine": lambda: nn.BatchNorm1d(4, affine=False),
    "batchnorm, not tracking": lambda: nn.BatchNorm1d(4, track_running_stats=False),
    "instance norm": lambda: nn.Sequential(
        nn.Unflatten(1, (2, 2)), nn.InstanceNorm1d(2, track_running_stats=True), nn.Flatten()
    ),
    "spectral norm, old": lambda: nn.utils.spectral_norm(nn.Linear(4, 4)),
    "spectral norm": lambda: parametrizations.spectral_norm(nn.Linear(4, 4)),
    "weight norm": lambda: parametrizations.weight_norm(nn.Linear(4, 4)),
    "orthogonal": lambda: parametrizations.orthogonal(nn.Linear(4, 4)),
    "embedding with max_norm": Bagged,
    "attention": lambda: FirstOutput(nn.MultiheadAttention(4, 2, dropout=0.5), 3),
    "transformer": lambda: nn.TransformerEncoderLayer(4, 2, 8, dropout=0.5),
    "lstm": lambda: FirstOutput(nn.LSTM(4, 4, num_layers=2, dropout=0.5)),
    "dropout": lambda: nn.Dropout(0.5),
    "random relu": nn.RReLU,
    "buffers of one's own": Counts,
    "subclass of a known layer": lambda: CountingLinear(4),
    "prelu": nn.PReLU,
    "group norm": lambda: nn.GroupNorm(2, 4),
}
# weight_norm's old form is still what many published models use, but warns.
OLD_WEIGHT_NORM = "weight norm, old"


def build(name):
    if name == OLD_WEIGHT_NORM:
        with pytest.warns(FutureWarning, match="weight_norm"):
            middle = nn.utils.weight_norm(nn.Linear(4, 4))
    else:
        middle = LAYERS[name]()
    return nn.Sequential(nn.Linear(4, 4), middle, nn.Linear(4, 2))


@pytest.mark.parametrize("name", [*LAYERS, OLD_WEIGHT_NORM])
def test_held_bit_exact_and_as_in_inference(name):
    model = build(name)
    x = torch.randn(5, 4)
    model(x)  # a first call in training mode, so that lazy things have happened
    with torch.no_grad():
        model(x)  # and none of the layers keeps a graph that could not be copied
    inference = copy.deepcopy(model).eval()
    before_all = fingerprint(model)

    freeze(model, "1")
    before = snapshot(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.1)
    for step in range(3):
        model.train()
        optimizer.zero_grad(set_to_none=bool(step % 2))
        out = model(x)
        if step == 0:
            assert torch.equal(out, inference(x))
        out.square().mean().backward()
        optimizer.step()
    assert moved(model, before) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert model[0].weight.grad.abs().sum() > 0  # gradients passed through

    unfreeze(model, "1")
    assert fingerprint(model) == before_all


def test_max_norm_output_is_the_renormalised_one():
    table = nn.Embedding(5, 3, max_norm=0.1)
    freeze(table, table)
    assert table(torch.arange(5)).norm(dim=1).max() < 0.1001
    assert table.weight.norm(dim=1).max() > 0.5


def test_forward_that_fails_still_puts_everything_back():
    model = nn.Sequential(Counts())
    freeze(model, "0")
    before = fingerprint(model), snapshot(model)
    with pytest.raises(RuntimeError, match="shapes"):
        model(torch.zeros(2, 9))
    assert (fingerprint(model)) == before[0]
    assert moved(model, before[1]) == []


def test_a_layer_that_calls_itself():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("calls", torch.zeros(1))

        def forward(self, x, again=True):
            self.calls += 1
            return self(x, again=False) if again else x * self.calls

    model = Twice()
    freeze(model, model)
    assert model(torch.ones(1)).item() == 2
    assert model.calls.item() == 0


def test_attention_is_held_whole():
    model = nn.MultiheadAttention(4, 2)
    freeze(model, model)
    assert "in_proj_weight" in frozen_names(model)
    assert "in_proj_bias" in frozen_names(model)


def test_a_forward_put_on_the_instance_runs_and_comes_back():
    model = nn.Sequential(Counts())
    calls = []

    def forward(x):
        calls.append(1)
        return type(model[0]).forward(model[0], x)

    model[0].forward = forward
    freeze(model, "0")
    model(torch.randn(2, 4))
    assert calls == [1]
    assert model[0].calls.item() == 0
    unfreeze(model, "0")
    assert model[0].__dict__["forward"] is forward


@pytest.mark.parametrize("name", ["batchnorm", "embedding with max_norm", "buffers of one's own"])
def test_compiled(name):
    model = build(name)
    freeze(model, "1")
    before, x = snapshot(model), torch.randn(5, 4)
    expected = model(x)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    compiled.train()
    torch.testing.assert_close(compiled(x), expected)
    optimizer = torch.optim.SGD(compiled.parameters(), lr=0.1)
    compiled(x).sum().backward()
    optimizer.step()
    assert moved(model, before) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    unfreeze(compiled, "*")
    compiled.train()
    compiled(x)
    assert "1.running_mean" in moved(model, before) or name != "batchnorm"


def test_symbolic_trace():
    model = build("batchnorm")
    freeze(model, "1")
    traced = torch.fx.symbolic_trace(model)
    traced.train()
    before, x = snapshot(model), torch.randn(5, 4)
    assert torch.equal(traced(x), model(x))
    assert moved(model, before) == []


def test_distributed_on_one_process(tmp_path):
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1
    )
    try:
        model = build("batchnorm")
        freeze(model, "1")
        wrapped = nn.parallel.DistributedDataParallel(model)
        before, x = snapshot(model), torch.randn(5, 4)
        optimizer = torch.optim.AdamW(wrapped.parameters(), lr=0.1)
        for _ in range(2):
            wrapped.train()
            optimizer.zero_grad()
            wrapped(x).sum().backward()
            optimizer.step()
        assert moved(model, before) == ["0.weight", "0.bias", "2.weight", "2.bias"]
        assert "wrap the inner module again" in repr(unfreeze(wrapped, "module.1"))
    finally:
        torch.distributed.destroy_process_group()


def test_used_by_two_threads_in_turn():
    model = nn.Sequential(Counts())
    freeze(model, "0")
    results = []
    for _ in range(2):
        thread = threading.Thread(target=lambda: results.append(model(torch.ones(1, 4))))
        thread.start()
        thread.join()
    assert torch.equal(*results)


def test_gradient_checkpointing():
    model = build("batchnorm")
    freeze(model, "1")
    before, x = snapshot(model), torch.randn(5, 4, requires_grad=True)
    torch.utils.checkpoint.checkpoint(model, x, use_reentrant=False).sum().backward()
    assert model[0].weight.grad is not None
    assert moved(model, before) == []


def test_swa_and_functional_call():
    model = build("batchnorm")
    freeze(model, "1")
    averaged = torch.optim.swa_utils.AveragedModel(model)
    averaged.train()
    assert not averaged.module[1].training
    parameters = {name: p.detach() + 1 for name, p in model.named_parameters()}
    before = snapshot(model)
    torch.func.functional_call(model, parameters, torch.randn(5, 4))
    assert moved(model, before) == []


# --- BatchNorm: no running statistics, and statistics that somebody resets -----------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.BatchNorm1d(4, track_running_stats=False),
        lambda: nn.BatchNorm2d(4, affine=False, track_running_stats=False),
        lambda: nn.SyncBatchNorm(4, track_running_stats=False),
    ],
)
def test_batchnorm_without_running_statistics_is_said(make):
    model = nn.Sequential(nn.Linear(4, 4), nn.Sequential(make()), nn.BatchNorm1d(4))
    notes = freeze(model, model).notes
    assert [note for note in notes if note.startswith("1.0: BatchNorm without running statistics")]
    assert not unfreeze(model, model).notes


def test_taken_away_by_hand_is_said_and_with_statistics_is_not():
    norm = nn.BatchNorm1d(4)
    assert not freeze(nn.Sequential(norm), "0").notes
    bare = nn.BatchNorm1d(4)
    bare.running_mean = None
    assert "0: BatchNorm without" in freeze(nn.Sequential(bare), "0").notes[0]
    assert not freeze(nn.Sequential(nn.InstanceNorm1d(4), nn.GroupNorm(2, 4)), "*").notes


@pytest.mark.parametrize("average", [True, False])
def test_update_bn_leaves_frozen_statistics_and_says_so(average):
    """torch would set them to zero, and then collect nothing."""
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.BatchNorm1d(4))
    model(torch.randn(8, 4))
    freeze(model, "1")
    model = AveragedModel(model) if average else model
    body = model.module if average else model
    before = {name: each.clone() for name, each in body[1].named_buffers()}
    loader = [torch.randn(6, 4), torch.randn(6, 4)]
    with pytest.warns(UserWarning, match=r"frozen BatchNorm1d stay as they are.*unfreeze"):
        update_bn(loader, model)
    assert all(torch.equal(each, before[name]) for name, each in body[1].named_buffers())
    twin = copy.deepcopy(body)
    twin[2].reset_running_stats()
    twin[2].momentum = None
    for x in loader:
        twin.train()(x)
    assert torch.equal(body[2].running_mean, twin[2].running_mean)

    unfreeze(model, "*")  # the advice
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        update_bn(loader, model)
    assert not torch.equal(body[1].running_mean, before["running_mean"])
    assert "reset_running_stats" not in vars(body[1])


def test_what_has_no_statistics_has_none_to_keep():
    model = nn.Sequential(nn.BatchNorm1d(4, track_running_stats=False))
    freeze(model, "0")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        update_bn([torch.randn(6, 4)], model)


def test_scripted():
    model = torch.jit.script(nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)))
    freeze(model, ["0", "1"])
    before = snapshot(model)
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model(torch.randn(5, 4)).square().mean().backward()
    optimizer.step()
    assert moved(model, before) == ["2.weight", "2.bias"]
    unfreeze(model, "*")
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize("mode", [True, False])
def test_a_compiled_part_gets_its_mode_back(mode):
    """What torch.compile puts around it has none of its own: it answers with the inner one's."""
    inner = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    model = nn.Sequential(torch.compile(inner, backend="eager"), nn.Linear(4, 2)).train(mode)
    before = fingerprint(model)
    for _ in range(2):
        freeze(model, "0")
        assert not any(module.training for module in inner.modules())
        unfreeze(model, "0")
        assert fingerprint(model) == before
    freeze(model, "0")
    model.train(not mode)
    unfreeze(model, "0")
    assert all(module.training is not mode for module in model.modules())
