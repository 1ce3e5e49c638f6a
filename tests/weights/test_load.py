"""Loading: exactly what was said, or nothing, and the truth about it."""

import signal

import pytest
import torch
from torch import nn

from course_lib.errors import UnknownNameError
from course_lib.freezing.bits import same_bits
from course_lib.weights import CheckpointError, LoadError, load_weights, read_checkpoint
from tests.weights.conftest import Small, Tied, make, same, snapshot, untouched


def identities(model):
    return [(id(p), p.requires_grad, p.device) for p in model.parameters()]


def test_everything_fits(model, other, pth):
    before = identities(model)
    report = load_weights(model, pth)
    assert same(snapshot(model), snapshot(other))
    assert identities(model) == before
    assert len(report.loaded) == 15
    assert report.numbers == report.total_numbers == 391
    assert report.complete
    assert report.how == "the same names"
    assert not (report.converted)
    assert not (report.nonfinite)
    assert not (report.tied)
    assert not (report.adapted)
    assert [each.parameter for each in report.loaded].count(True) == 9


@pytest.mark.parametrize("kind", ["path", "text", "checkpoint", "state", "nested", "model"])
def test_every_kind_of_source(model, other, pth, kind):
    source = {
        "path": pth, "text": str(pth), "checkpoint": read_checkpoint(pth),
        "state": other.state_dict(), "nested": {"epoch": 1, "model": other.state_dict()},
        "model": other,
    }[kind]  # fmt: skip
    load_weights(model, source)
    assert same(snapshot(model), snapshot(make(2)))
    assert same(snapshot(other), snapshot(make(2)))  # the source is not used up
    with torch.no_grad():
        model.head.weight.zero_()
    assert same(snapshot(other), snapshot(make(2)))  # nor shared


def test_a_model_from_itself(model):
    before = snapshot(model)
    load_weights(model, model.state_dict())
    assert untouched(model, before)


@pytest.mark.parametrize(
    "prefix", ["module.", "_orig_mod.", "model.", "a.b.c.", "module._orig_mod."]
)
def test_wrapper_prefixes_removed_and_added(model, other, prefix):
    state = {prefix + name: each for name, each in other.state_dict().items()}
    report = load_weights(model, state)
    assert same(snapshot(model), snapshot(other))
    assert report.how == f"the same names without the prefix {prefix!r}"
    assert report.complete

    class Outer(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

    wrapped = Outer(make(5))
    report = load_weights(wrapped, other.state_dict())
    assert same(snapshot(wrapped.inner), snapshot(other))
    assert report.how == "the same names with the prefix 'inner.' added"


def test_averaged_models_bring_a_counter(model, other):
    averaged = torch.optim.swa_utils.AveragedModel(other)
    report = load_weights(model, averaged.state_dict())
    assert same(snapshot(model), snapshot(other))
    assert report.ignored == ("n_averaged",)


def test_two_prefixes_are_ambiguous(model, other):
    before = snapshot(model)
    state = {
        f"{part}.{k}": v for part in ("student", "teacher") for k, v in other.state_dict().items()
    }
    with pytest.raises(LoadError, match=r"more than one way.*student.*teacher.*prefix='student\.'"):
        load_weights(model, state)
    assert untouched(model, before)
    report = load_weights(model, state, prefix="teacher.")
    assert same(snapshot(model), snapshot(other))
    assert len(report.ignored) == 15
    with pytest.raises(LoadError, match=r"Did you mean 'teacher.'"):
        load_weights(model, state, prefix="teachr.")
    twins = nn.ModuleDict({"q": make(1), "k": make(3)})
    with pytest.raises(LoadError, match="Load into the part you mean"):
        load_weights(twins, other.state_dict())


def test_exact_names_win_over_prefixes(other):
    """A prefix is looked for only when not one name fits as it is."""
    model = nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.ModuleDict({"a": nn.Linear(2, 2)})})
    state = {"a.weight": torch.ones(2, 2), "a.bias": torch.ones(2)}
    report = load_weights(model, state, strict=False)
    assert [each.name for each in report.loaded] == ["a.weight", "a.bias"]
    assert report.missing == ("b.a.weight", "b.a.bias")


def test_zero_matches_is_an_error(model):
    before = snapshot(model)
    for strict in (True, False):
        with pytest.raises(LoadError, match=r"Not one of the file's 2 names.*'x\.weight'.*stem\.0"):
            load_weights(model, {"x.weight": torch.ones(1), "y.bias": torch.ones(1)}, strict=strict)
    assert untouched(model, before)


@pytest.mark.parametrize("how", ["dict", "function", "partial"])
def test_renaming(model, other, how):
    names = {name: name.replace("stem", "first").replace(".", "/") for name in other.state_dict()}
    state = {names[name]: each for name, each in other.state_dict().items()}
    table = {new: old for old, new in names.items()}
    rename = table if how == "dict" else table.get
    if how == "partial":
        state = {("q" if n == "head.bias" else n): t for n, t in other.state_dict().items()}
        rename = {"q": "head.bias"}
    report = load_weights(model, state, rename=rename)
    assert same(snapshot(model), snapshot(other))
    assert report.how == f"a rename {'function' if how == 'function' else 'table'}"


def test_renaming_that_goes_wrong(model, other):
    before, state = snapshot(model), other.state_dict()

    def refused(rename, says, **options):
        with pytest.raises((LoadError, UnknownNameError), match=says):
            load_weights(model, state, rename=rename, **options)
        assert untouched(model, before)

    refused({"hed.bias": "head.bias"}, "Did you mean 'head.bias'")
    refused({"head.bias": "head.weight"}, "Two names of the file become 'head.weight'")
    refused({"head.bias": "hed.bias"}, "leads to no name of the model.*Did you mean 'head.bias'")
    refused(lambda name: 3, "expected a name, or None")
    refused(lambda name: "same", "Two names of the file become 'same'")
    refused("no_such_table", "no name table 'no_such_table'")
    report = load_weights(model, state, rename=lambda n: None if "head" in n else n, strict=False)
    assert report.ignored == ("head.weight", "head.bias") == report.missing


def test_by_order_with_proof(model, other):
    state = {f"t{number}": each for number, each in enumerate(other.state_dict().values())}
    report = load_weights(model, state, by_order=True)
    assert same(snapshot(model), snapshot(other))
    assert report.how == "order and shape"
    with pytest.raises(LoadError, match="Not one of the file's 15 names"):
        load_weights(model, state)


def test_by_order_without_proof(model, other):
    before = snapshot(model)
    state = {f"t{number}": each for number, each in enumerate(other.state_dict().values())}
    del state["t3"]  # one of four vectors of length 4 in a row is missing: which?
    with pytest.raises(LoadError, match=r"leave 4 of 14 entries open.*could be"):
        load_weights(model, state, by_order=True, strict=False)
    with pytest.raises(LoadError, match="has no partner"):
        load_weights(model, dict(reversed(state.items())), by_order=True)
    contradiction = {"one/bias": torch.ones(6), "two/weight": torch.ones(6)}
    with pytest.raises(LoadError, match="don't fit"):  # in another order than the model's
        load_weights(nn.LayerNorm(6), contradiction, by_order=True)
    assert untouched(model, before)


def test_shape_mismatches_are_listed_and_hinted(other, pth):
    model = make(1, classes=10)
    before = snapshot(model)
    with pytest.raises(LoadError, match=r"'head\.weight' is \(3, 6\) in the file and "
                       r"\(10, 6\) in the model; 'head\.bias' is \(3,\).*keep='head'"):  # fmt: skip
        load_weights(model, pth)
    assert untouched(model, before)
    report = load_weights(model, pth, skip_mismatched=True)
    assert [(m.name, m.in_file, m.in_model) for m in report.mismatched] == [
        ("head.weight", (3, 6), (10, 6)), ("head.bias", (3,), (10,)),
    ]  # fmt: skip
    after = snapshot(model)
    for name, each in other.state_dict().items():
        expected = before[name] if name.startswith("head") else each
        assert same_bits(after[name], expected)


def test_same_numel_or_broadcastable_shapes_are_mismatches():
    model = nn.Linear(4, 3)
    for shape in [(4, 3), (12,), (1, 4), (3, 1), (1, 3, 4)]:
        with pytest.raises(LoadError, match="Shapes differ"):
            load_weights(model, {"weight": torch.ones(shape), "bias": torch.ones(3)})


def test_keep_drop_and_strict(other):
    model = make(1, classes=10)
    before = snapshot(model)
    report = load_weights(model, other, keep="head")
    assert report.kept == ("head.weight", "head.bias") == report.ignored
    assert not report.missing
    assert not report.unexpected
    assert not report.complete
    assert same_bits(model.head.weight, before["head.weight"])
    state = other.state_dict() | {"aux.weight": torch.ones(2)}
    with pytest.raises(LoadError, match=r"no place for 1: aux\.weight.*drop='aux'"):
        load_weights(model, state, keep="head")
    assert load_weights(model, state, keep="head", drop="aux").ignored == (
        "aux.weight", "head.weight", "head.bias",
    )  # fmt: skip
    assert load_weights(model, state, keep="head", strict=False).unexpected == ("aux.weight",)
    part = {name: each for name, each in state.items() if not name.startswith("body")}
    with pytest.raises(LoadError, match=r"nothing for 5: body\.0.*keep=\['head', 'body'\]"):
        load_weights(model, part, keep="head")
    assert load_weights(model, part, keep="head", strict="stem").missing[0] == "body.0.weight"
    with pytest.raises(LoadError, match="nothing for 5"):
        load_weights(model, part, keep="head", strict=["stem", "body"])
    with pytest.raises(LoadError, match="nothing for 2: head"):
        load_weights(model, other, skip_mismatched=True, strict="head")
    for option in ("keep", "drop", "strict"):
        with pytest.raises(UnknownNameError, match=r"'heat'.*Did you mean 'head'"):
            load_weights(model, other, **{option: "heat"})


def test_a_string_is_one_name_not_its_letters_nor_a_substring(model, other):
    for wrong in ("h", "hea", "weight", "ead"):
        with pytest.raises(UnknownNameError):
            load_weights(model, other, keep=wrong)
    assert len(load_weights(model, other, keep="*.bias").kept) == 4
    assert len(load_weights(model, other, keep=["stem.1", "head.bias"]).kept) == 6


def test_names_are_those_of_freezing(model, other):
    """A pattern also matches modules, and holds for what only the file has."""
    assert (
        load_weights(model, other, keep="st?m").kept == load_weights(model, other, keep="stem").kept
    )
    state = other.state_dict() | {"head.aux": torch.ones(1)}
    assert load_weights(model, state, strict="st*").unexpected == ("head.aux",)
    with pytest.raises(LoadError, match=r"no place for 1: head\.aux"):
        load_weights(model, state, strict="h*d")
    with pytest.raises(UnknownNameError, match=r"^The file has no .* the pattern 'x\*'"):
        load_weights(model, other, drop="x*")
    odd = nn.ParameterDict({"a*": nn.Parameter(torch.zeros(1)), "ab": nn.Parameter(torch.ones(1))})
    assert load_weights(odd, odd.state_dict(), keep="a*").kept == ("a*",)


def test_frozen_flags_optimizer_and_modes_stay(model, other):
    model.stem.requires_grad_(False)
    model.body.eval()
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad])
    model(torch.ones(2, 3, 8, 8)).sum().backward()
    grads = [None if p.grad is None else p.grad.clone() for p in model.parameters()]
    before = identities(model)
    load_weights(model, other)
    assert identities(model) == before
    assert not model.body.training
    assert model.stem.training
    for p, grad in zip(model.parameters(), grads, strict=True):
        assert (p.grad is None) == (grad is None)
        assert grad is None or torch.equal(p.grad, grad)
    optimizer.step()
    assert not torch.equal(model.head.bias, other.head.bias)
    assert torch.equal(model.stem[0].weight, other.stem[0].weight)


def test_views_of_the_old_values_see_the_new_ones(model, other):
    """Loading writes into the same memory, as load_state_dict does."""
    alias = model.state_dict()["head.weight"]
    load_weights(model, other)
    assert torch.equal(alias, other.head.weight)


def test_channels_last_and_strange_layouts(model, other, pth):
    model.to(memory_format=torch.channels_last)
    load_weights(model, pth)
    assert all(same_bits(a, b) for a, b in zip(snapshot(model).values(), snapshot(other).values(),
                                               strict=True))  # fmt: skip
    assert model.stem[0].weight.is_contiguous(memory_format=torch.channels_last)
    flat = torch.zeros(40)
    holder = nn.Module()
    holder.register_buffer("a", flat[1:20:2])
    holder.register_buffer("b", flat[20:23])
    load_weights(holder, {"a": torch.arange(10.0), "b": torch.ones(3)})
    assert flat[1:20:2].tolist() == list(range(10))
    assert flat.sum() == 45 + 3


def test_tied_weights(tmp_path):
    tied, before = make(1, Tied), None
    good = make(2, Tied)
    for state in (good.state_dict(), {"embed.weight": good.embed.weight},
                  {"out.weight": good.embed.weight}):  # fmt: skip
        tied = make(1, Tied)
        report = load_weights(tied, state)
        assert tied.out.weight is tied.embed.weight
        assert torch.equal(tied.out.weight, good.out.weight)
        assert report.tied == (("embed.weight", "out.weight"),)
        assert not report.missing
        assert report.numbers == report.total_numbers == 35
    before = snapshot(tied)
    with pytest.raises(LoadError, match=r"are one tensor in the model .tied., but differ"):
        load_weights(tied, make(3, Tied, tie=False))
    assert untouched(tied, before)
    load_weights(tied, make(3, Tied, tie=False), drop="out")
    untied = make(4, Tied, tie=False)
    load_weights(untied, good)
    assert untied.out.weight is not untied.embed.weight
    with pytest.raises(LoadError, match=r"nothing for 1: out.weight"):
        load_weights(untied, {"embed.weight": good.embed.weight})


def test_memory_that_is_shared_in_part_is_refused():
    model = nn.Module()
    flat = torch.zeros(6)
    model.register_buffer("a", flat[:4])
    model.register_buffer("b", flat[2:])
    with pytest.raises(LoadError, match="share a part of their memory"):
        load_weights(model, {"a": torch.ones(4), "b": torch.zeros(4)})
    columns = nn.Module()
    matrix = torch.zeros(3, 4)
    columns.register_buffer("a", matrix[:, :2])
    columns.register_buffer("b", matrix[:, 2:])
    load_weights(columns, {"a": torch.ones(3, 2), "b": torch.full((3, 2), 2.0)})
    assert matrix.tolist() == [[1, 1, 2, 2]] * 3


CONVERSIONS = [
    # from, to, value, cost, refused
    (torch.float64, torch.float32, 0.5, "exact", False),
    (torch.float64, torch.float32, 0.1, "rounded, by up to 1.5e-08 of a number", False),
    (torch.float64, torch.float32, 1e300, "1 number became infinite", True),
    (torch.float64, torch.float32, 1e-300, "rounded; 1 number became zero", False),
    (torch.float32, torch.float16, 70000.0, "1 number became infinite", True),
    (torch.float32, torch.float16, 1.0, "exact", False),
    (torch.float32, torch.bfloat16, 1.001, "rounded, by up to 1.0e-03 of a number", False),
    (torch.float16, torch.float32, 0.1, "exact", False),
    (torch.bfloat16, torch.float32, 0.1, "exact", False),
    (torch.int64, torch.float32, 7, "exact", False),
    (torch.int64, torch.float32, 16777217, "1 number rounded", False),
    (torch.complex64, torch.float32, 1 + 0j, "exact", False),
    (torch.complex64, torch.float32, 1 + 2j, "1 number lost an imaginary part", True),
    (torch.float32, torch.complex64, 0.1, "exact", False),
    (torch.float32, torch.int64, 3.0, "exact", False),
    (torch.float32, torch.int64, 3.5, "1 number lost a fraction or more", True),
    (torch.int64, torch.int32, 1 << 40, "1 number changed", True),
    (torch.bool, torch.float32, True, "exact", False),
    (torch.int64, torch.bool, 2, "1 number changed", True),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "value", "cost", "refused"), CONVERSIONS)
def test_conversions_tell_what_they_cost(old, new, value, cost, refused):
    model = nn.Module()
    model.register_buffer("a", torch.zeros(3, dtype=new))
    source = torch.tensor([0, value, 1], dtype=old)
    kinds = [str(each).removeprefix("torch.") for each in (old, new)]
    if refused:
        with pytest.raises(LoadError, match=f"destroy numbers.*{cost}"):
            load_weights(model, {"a": source})
        assert not model.a.any()
    report = load_weights(model, {"a": source}, lossy=refused)
    assert report.loaded[0].converted == f"{kinds[0]} -> {kinds[1]}: {cost}"
    assert report.loaded[0].lossy is refused
    expected = source.real.to(new) if source.is_complex() and not new.is_complex else source.to(new)
    assert same_bits(model.a, expected)
    with pytest.raises(LoadError, match="1 tensor has another type in the file"):
        load_weights(model, {"a": source}, dtype="exact")
    load_weights(model, {"a": source}, dtype="file")
    assert same_bits(model.a, source)


def test_half_precision_files(model, other, tmp_path):
    half = {n: t.half() if t.is_floating_point() else t for n, t in other.state_dict().items()}
    torch.save(half, tmp_path / "half.pth")
    report = load_weights(model, tmp_path / "half.pth")
    assert len(report.converted) == 13
    assert all("exact" in c.converted for c in report.converted)
    parameters = list(model.parameters())
    load_weights(model, tmp_path / "half.pth", dtype="file")
    assert model.head.weight.dtype == torch.float16
    assert model.stem[1].num_batches_tracked == 3
    assert all(a is b for a, b in zip(model.parameters(), parameters, strict=True))
    with pytest.raises(LoadError, match="parameters are floating-point"):
        load_weights(nn.Linear(1, 1), {"weight": torch.ones(1, 1).int(), "bias": torch.ones(1)},
                     dtype="file")  # fmt: skip


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_numbers_that_are_not_finite(bad, dtype):
    model = nn.Linear(4, 2).to(dtype)
    before = snapshot(model)
    state = {"weight": torch.ones(2, 4, dtype=dtype), "bias": torch.ones(2, dtype=dtype)}
    state["weight"][1, 2] = bad
    with pytest.raises(LoadError, match=r"1 tensor has numbers that are NaN.*'weight': 1 of 8"):
        load_weights(model, state)
    assert untouched(model, before)
    report = load_weights(model, state, nonfinite=True)
    assert report.nonfinite[0].nonfinite == 1
    assert same_bits(model.weight, state["weight"])


def test_models_that_can_not_be_written_to(other):
    with torch.inference_mode():
        frozen = Small()
    for model, says in [
        (frozen, "inference_mode"), (nn.LazyLinear(3), "more than one way"),
        (nn.Identity(), "no parameters and no buffers"),
        (Small().to("meta"), "Use load_model"),
    ]:  # fmt: skip
        with pytest.raises(LoadError, match=says):
            load_weights(model, other, strict=False)
    with pytest.raises(LoadError, match="expected a path"):
        load_weights(make(1), 3)
    expanded = nn.Module()
    expanded.register_buffer("a", torch.zeros(1).expand(3))
    with pytest.raises(LoadError, match="expanded"):
        load_weights(expanded, {"a": torch.ones(3)})


def test_a_module_that_computes_its_state_dict(other):
    model = make(1)
    model.head._register_state_dict_hook(
        lambda module, state, prefix, meta: state.update({f"{prefix}weight": module.weight * 2})
    )
    load_weights(model, other)  # as torch does: what it computes is not asked for
    assert torch.equal(model.head.weight, other.head.weight)


def test_extra_state_counts_as_missing(other):
    class Extra(Small):
        def get_extra_state(self):
            return {"a": 1}

        def set_extra_state(self, state):
            raise AssertionError

    with pytest.raises(LoadError, match="nothing for 1: _extra_state"):
        load_weights(Extra(), other)
    assert load_weights(Extra(), other, strict=False).missing == ("_extra_state",)


def test_damage_found_late_leaves_the_model_alone(model, pth):
    """The last tensor's checksum is wrong: by then all others have been read."""
    before = snapshot(model)
    content = bytearray(pth.read_bytes())
    content[content.rindex(b"data/14") + 100] ^= 4
    pth.write_bytes(content)
    with pytest.raises(CheckpointError):
        load_weights(model, pth)
    assert untouched(model, before)


class Stubborn(torch.Tensor):
    """A tensor that can't be written to once it is armed."""

    armed = 0

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        if func is torch.Tensor.copy_ and cls.armed and not isinstance(args[1], cls):
            cls.armed -= 1
            if cls.armed == 0:
                raise RuntimeError("no")
        return super().__torch_function__(func, types, args, kwargs or {})


def test_a_tensor_that_refuses_in_the_middle(model, other):
    before = snapshot(model)
    model.head.bias = nn.Parameter(torch.randn(3).as_subclass(Stubborn))
    before["head.bias"] = model.head.bias.detach().clone()
    Stubborn.armed = 1
    try:
        with pytest.raises(LoadError, match="refused its new values"):
            load_weights(model, other)
    finally:
        Stubborn.armed = 0
    assert untouched(model, before)


@pytest.mark.parametrize("fail_at", range(0, 15, 2))
def test_a_failure_at_any_moment_is_undone(monkeypatch, model, other, fail_at):
    before, held = snapshot(model), list(model.state_dict().values())
    calls = iter(range(10**6))
    real = torch.Tensor.copy_

    def failing(target, *arguments):
        if next(calls) == fail_at:
            raise RuntimeError("no")
        return real(target, *arguments)

    monkeypatch.setattr(torch.Tensor, "copy_", failing)
    with pytest.raises(LoadError, match="has its old ones again"):
        load_weights(model, other)
    monkeypatch.undo()
    assert untouched(model, before)
    now = model.state_dict().values()
    assert [each.data_ptr() for each in held] == [each.data_ptr() for each in now]


def test_ctrl_c_waits_until_all_is_loaded(monkeypatch, model, other):
    real = nn.Module._load_from_state_dict

    def interrupted(self, *arguments):
        if self is model.body:
            signal.raise_signal(signal.SIGINT)
        real(self, *arguments)

    monkeypatch.setattr(nn.Module, "_load_from_state_dict", interrupted)
    # Set here: a process that was started in the background ignores Ctrl-C.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            load_weights(model, other)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert same(snapshot(model), snapshot(other))  # whole: all new


def test_the_report(model, other):
    state = other.state_dict() | {f"aux.{n}": torch.ones(1) for n in range(5)}
    del state["head.bias"]
    report = load_weights(model, state, strict=False)
    assert str(report) == (
        "14 of 15 tensors loaded from a state dict, matched by the same names.\n"
        "  loaded         14  388 of 391 numbers\n"
        "  missing         1  head.bias\n"
        "  unexpected      5  aux.0, aux.1, aux.2 and 2 more\n"
        "  mismatched      0\n"
        "  kept            0\n"
        "  ignored         0\n"
        "  converted       0\n"
        "  adapted         0\n"
        "  tied            0\n"
        "  non-finite      0"
    )
    assert "<td>missing</td><td>1</td>" in report._repr_html_()
