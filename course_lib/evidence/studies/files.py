"""C7, C14, C15: claims about loading that a counterexample decides.

Nothing is random here but the sizes of the networks; all seeds agree or the claim is half true.
"""

import io
from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, nn

from course_lib.evidence.design import Contrast, Measure, Outcome, experiment
from course_lib.profile import seeded_generator

LOADED = Measure("loaded", digits=1)


def small_network(seed: int) -> nn.Sequential:
    """Two linear layers whose sizes depend on the seed; 2 to 9, and never square."""
    drawn = torch.randperm(8, generator=seeded_generator(seed))[:3] + 2
    first, middle, last = drawn.tolist()
    return nn.Sequential(OrderedDict(a=nn.Linear(first, middle), b=nn.Linear(middle, last)))


def loads_by_numel(model: nn.Module, weights: dict[str, Tensor]) -> float:
    """Follow the recipe: 1 if the model ends with every weight that has a place, 0 if it fails."""
    own = model.state_dict()
    try:
        kept = {key: each for key, each in weights.items() if each.numel() == own[key].numel()}
        model.load_state_dict(kept, strict=False)
    except (KeyError, RuntimeError):
        return 0.0
    return float(all(torch.equal(model.state_dict()[key], each) for key, each in kept.items()))


@experiment(
    "C7", arms=("same network", "a key more", "equal numel", "another size"), measures=(LOADED,),
    contrasts=(
        Contrast("key_more", "a key more", "same network", "loaded", "same", when="no key is new"),
        Contrast("equal_numel", "equal numel", "same network", "loaded", "same",
                 when="equal numel means equal shape"),
        Contrast("another_size", "another size", "same network", "loaded", "same",
                 when="entries of another size are left out"),
    ),
    minutes=0.1,
)  # fmt: skip
def numel_filter(seed: int) -> Outcome:
    """The recipe: keep the entries with ``numel`` equal to the model's, load with strict=False.

    Data: state dicts of two-layer networks, sizes drawn by the seed. Arms: the network's own
    state dict (the control); the same with one key more, which the model lacks; the same with a
    weight transposed, so that numel is equal and the shape isn't; the same with an output more in
    the last layer, as when the number of classes differs. Measure: 1 if the recipe ends with the
    kept weights loaded, 0 if it raises. Prediction of the claim: no arm differs from the control.
    """
    weights = {key: each.clone() + 1 for key, each in small_network(seed).state_dict().items()}
    more = {**weights, "c.weight": torch.zeros(2)}
    turned = {**weights, "a.weight": weights["a.weight"].T.contiguous()}
    larger = {key: torch.cat([each, each[:1]]) if key[0] == "b" else each
              for key, each in weights.items()}  # fmt: skip
    cases = {
        "same network": weights, "a key more": more, "equal numel": turned, "another size": larger
    }  # fmt: skip
    return {
        arm: {"loaded": loads_by_numel(small_network(seed), each)} for arm, each in cases.items()
    }


ENDINGS = (".pth", ".pt", ".bin", ".ckpt", ".tar")


def kind_of(content: Any) -> str:
    """What was saved, by looking at it."""
    if isinstance(content, nn.Module):
        return "module"
    return "state dict" if all(isinstance(each, Tensor) for each in content.values()) else "more"


@experiment(
    "C14", arms=("by the ending", "by looking"), measures=(Measure("right"),),
    contrasts=(Contrast("ending", "by the ending", "by looking", "right", "same", margin=0.05),),
    minutes=0.1,
)  # fmt: skip
def endings(seed: int) -> Outcome:
    """Can the ending of a weights file tell what is in it?

    Data: for each of five endings in use, three files: a state dict, a dictionary with a state
    dict and other things, and a whole module, all as ``torch.save`` writes them. Arms: the content
    as the ending suggests it, by the one rule from ending to content that is right most often on
    these very files (which flatters the ending); and the content found by looking at what was
    read. Measure: share of files told rightly. Prediction of the claim: the two don't differ by
    more than 0.05. The seed draws the networks' sizes.
    """
    model = small_network(seed)
    weights = model.state_dict()
    contents: dict[str, Any] = {
        "state dict": weights, "more": {"model": weights, "epoch": seed}, "module": model
    }  # fmt: skip
    found: dict[str, list[tuple[str, str]]] = {each: [] for each in ENDINGS}
    for ending in ENDINGS:
        for kind, content in contents.items():
            file = io.BytesIO()
            torch.save(content, file)  # what it writes doesn't depend on the name
            file.seek(0)
            # weights_only=False: we wrote it ourselves a line above, and want the module back.
            found[ending].append((kind, kind_of(torch.load(file, weights_only=False))))
    files = sum(len(each) for each in found.values())
    looking = sum(truth == seen for each in found.values() for truth, seen in each)
    guessing = sum(
        max(sum(truth == kind for truth, _ in each) for kind in contents) for each in found.values()
    )
    return {"by the ending": {"right": guessing / files}, "by looking": {"right": looking / files}}


@experiment(
    "C15", arms=("as it is", "plain dict"), measures=(LOADED,),
    contrasts=(Contrast("plain", "plain dict", "as it is", "loaded", "more"),),
    minutes=0.1,
)  # fmt: skip
def plain_dict(seed: int) -> Outcome:
    """Must a model's state dict become a plain ``dict`` before it is updated and loaded?

    Data: a two-layer network and another one's weights for its first layer, sizes drawn by the
    seed. Arms: ``own = model.state_dict()``, and ``own = dict(model.state_dict())``; both then
    ``own.update(matched)`` and ``model.load_state_dict(own)``, strictly. Measure: 1 if the model
    ends with exactly the updated weights, 0 otherwise. Prediction of the claim: only the plain
    dict works, so that the difference is more than 0.
    """
    results: dict[str, dict[str, float]] = {}
    for arm in ("as it is", "plain dict"):
        model, other = small_network(seed), small_network(seed)
        nn.init.constant_(other.get_parameter("a.weight"), 0.5)
        own: Any = model.state_dict() if arm == "as it is" else dict(model.state_dict())
        matched = {key: each for key, each in other.state_dict().items() if key[0] == "a"}
        try:
            own.update(matched)
            model.load_state_dict(own)
        except RuntimeError:
            results[arm] = {"loaded": 0.0}
            continue
        now = model.state_dict()
        results[arm] = {
            "loaded": float(all(torch.equal(now[key], each) for key, each in matched.items()))
        }
    return results
