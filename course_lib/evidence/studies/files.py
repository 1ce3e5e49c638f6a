"""C7, C14, C15: claims about loading that a counterexample decides.

Nothing is drawn, so that one run says all and there is no interval.
"""

from collections import OrderedDict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors.torch import save_file
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
    seeds=1, exact=True, minutes=0.1,
)  # fmt: skip
def numel_filter(seed: int) -> Outcome:
    """The recipe: keep the entries with ``numel`` equal to the model's, load with strict=False.

    Data: state dicts of two-layer networks, of fixed sizes. Arms: the network's own
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


EXPECTED = {
    ".pth": "state dict",
    ".pt": "module",
    ".bin": "state dict",
    ".ckpt": "more",
    ".tar": "more",
    ".safetensors": "state dict",
}
"""What texts and tools mean by each ending."""


def by_ending(path: Path) -> str:
    """What a file's ending says that is in it."""
    return EXPECTED[path.suffix]


def by_looking(path: Path) -> str:
    """What is in a file, by reading it."""
    if path.read_bytes()[8:9] == b"{":  # safetensors: a length, then JSON
        return "state dict"
    # weights_only=False: we wrote it ourselves, and want a module back.
    content: Any = torch.load(path, weights_only=False)
    if isinstance(content, nn.Module):
        return "module"
    return "state dict" if all(isinstance(each, Tensor) for each in content.values()) else "more"


@experiment(
    "C14", arms=("by the ending", "by looking"), measures=(Measure("right"),),
    contrasts=(Contrast("ending", "by the ending", "by looking", "right", "same", margin=0.05),),
    seeds=1, exact=True, minutes=0.1,
)  # fmt: skip
def endings(seed: int) -> Outcome:
    """Can the ending of a weights file tell what is in it?

    Data: for each of five endings in use, three files on disk: a state dict, a dictionary with a
    state dict and other things, and a whole module, as ``torch.save`` writes them under any name;
    and a file of safetensors. Arms: what the ending says, as texts and tools use it (``.pth`` and
    ``.bin`` a state dict, ``.pt`` a module, ``.ckpt`` and ``.tar`` more, ``.safetensors`` a state
    dict); and what is found by reading the file. Measure: share of files told rightly. Prediction
    of the claim: the two don't differ by more than 0.05.
    """
    model = small_network(seed)
    weights = model.state_dict()
    contents: dict[str, Any] = {
        "state dict": weights, "more": {"model": weights, "epoch": seed}, "module": model
    }  # fmt: skip
    right: dict[str, list[bool]] = {"by the ending": [], "by looking": []}
    with TemporaryDirectory() as folder:
        files = {Path(folder) / "weights.safetensors": "state dict"}
        save_file(weights, next(iter(files)))
        for ending in EXPECTED:
            for number, (kind, content) in enumerate(contents.items()):
                if ending != ".safetensors":
                    path = Path(folder) / f"{number}{ending}"
                    torch.save(content, path)
                    files[path] = kind
        for path, kind in files.items():
            right["by the ending"].append(by_ending(path) == kind)
            right["by looking"].append(by_looking(path) == kind)
    return {arm: {"right": sum(each) / len(each)} for arm, each in right.items()}


@experiment(
    "C15", arms=("as it is", "plain dict"), measures=(LOADED,),
    contrasts=(Contrast("plain", "plain dict", "as it is", "loaded", "more"),),
    seeds=1, exact=True, minutes=0.1,
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
