"""Wrong answers that were once passed, or told something that wasn't true of them."""

import pytest

from course_lib import exercises

ALL = {e.number: e for c in exercises.chapters() for e in exercises.exercises_of(c)}
FC1_CLEARED = """
def let_in(model, optimizer):
    model.fc1.zero_grad()
    optimizer.add_param_group({"params": model.fc1.parameters(), "lr": 0.01})
"""
TEMPLATE = """
from scipy import stats

def what_it_says(transfer, scratch):
    d = np.array(transfer) - np.array(scratch)
    half = HALF
    return "helps" if d.mean() > half else "hurts" if d.mean() < -half else "open"
"""
T_95 = "stats.t.ppf(0.975, len(d) - 1) * d.std(ddof=1) / len(d) ** 0.5"
TOLD = {  # number and what it does: the answer, words of what is said
    "1.2 whole names": ("""
def numbers_that_learn(model, frozen):
    return sum(p.numel() for n, p in model.named_parameters() if n not in frozen)
""", "nothing was left out"),
    "1.3 each pixel by itself": ("""
def like_source(pictures, source_mean, source_std):
    alone = (pictures - pictures.mean(0)) / (pictures.std(0) + 1e-8)
    return alone * source_std + source_mean
""", "right, but not by one shift"),
    "1.4 squares": ("""
def travelled(before, after):
    found = {}
    for part in {name.split(".")[0] for name in before}:
        mine = [name for name in before if name.split(".")[0] == part]
        change = sum(((after[n] - before[n]) ** 2).sum() for n in mine)
        found[part] = change / sum((before[n] ** 2).sum() for n in mine)
    return found
""", "Take the root"),
    "1.4 begins": ("""
def travelled(before, after):
    found = {}
    for part in {name.split(".")[0] for name in before}:
        mine = [name for name in before if name.startswith(part)]
        change = sum(((after[n] - before[n]) ** 2).sum() for n in mine)
        found[part] = (change / sum((before[n] ** 2).sum() for n in mine)) ** 0.5
    return found
""", "For `fc` you have"),
    "1.5 two deviations": (TEMPLATE.replace("HALF", "2 * d.std(ddof=1)"), 'that is "helps"'),
    "1.5 99 per cent": (TEMPLATE.replace("HALF", T_95.replace("975", "995")), 'that is "helps"'),
    "1.5 90 per cent": (TEMPLATE.replace("HALF", T_95.replace("975", "95")), 'that is "open"'),
    "1.5 ddof": (TEMPLATE.replace("HALF", T_95.replace("ddof=1", "")), 'that is "open"'),
    "3.2 split": ("""
def without_wrapper(state):
    return {n.split(".", 1)[1] if n != "fc.bias" else n: t for n, t in state.items()}
""", "`encoder.module.bias` should stay as it is"),
    "3.3 updated": ("""
def what_fits(model_state, file_state):
    model_state.update({n: t for n, t in file_state.items()
                        if n in model_state and t.shape == model_state[n].shape})
    return model_state
""", "Tensors of the model"),
    "3.3 get": ("""
def what_fits(model_state, file_state):
    return {n: t for n, t in file_state.items() if t.shape == model_state.get(n).shape}
""", "None from `.get`"),
    "3.4 a slip": ("""
def find_state(checkpoint):
    return max(checkpoint.values(), key=len) if "epoch" in checkpoint else checkpoint
""", "has no len"),
    "3.6 numel": ("""
def rename_in_order(model_state, file_state):
    renamed = dict(zip(model_state, file_state.values(), strict=True))
    assert all(renamed[n].numel() == model_state[n].numel() for n in renamed)
    return renamed
""", "shapes weren't compared"),
    "3.7 objects": ("""
def make_checkpoint(model, optimizer):
    return {"model": copy.deepcopy(model), "optimizer": copy.deepcopy(optimizer)}
""", 'Under "model" you put a CharacterModel'),
    "3.7 half": ("""
def make_checkpoint(model, optimizer):
    return {"model": copy.deepcopy(model.state_dict()), "optimizer": ...}
""", 'Under "optimizer" you put `...`'),
    "4.1 misspelt": ("""
def freeze_fc1(model):
    model.fc1.weight.require_grad = model.fc1.bias.require_grad = False
    return torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
""", "of every parameter is still True"),
    "4.1 rate 0": ("""
def freeze_fc1(model):
    rest = [p for n, p in model.named_parameters() if not n.startswith("fc1")]
    groups = [{"params": rest}, {"params": model.fc1.parameters(), "lr": 0.0}]
    return torch.optim.SGD(groups, lr=0.1)
""", "the optimizer still has it"),
    "4.2 the weight only": ("""
def thaw_fc1(model, optimizer):
    model.fc1.requires_grad_(True)
    optimizer.add_param_group({"params": [model.fc1.weight]})
""", "still lacks `fc1.bias`"),
    "4.3 cleared": (FC1_CLEARED, "The old gradients are gone"),
    "4.3 clipped": (
        FC1_CLEARED.replace("model.fc1.zero_grad()",
                            "nn.utils.clip_grad_norm_(model.fc1.parameters(), 1.0)"),
        "no cure",
    ),
    "4.4 a name only": ("""
def keep(layer):
    saved = {name: parameter.detach().clone() for name, parameter in layer.named_parameters()}

    def restore():
        for name, parameter in layer.named_parameters():
            parameter = saved[name]

    return restore
""", "writes nothing into the layer"),
    "4.5 fetched": ("""
def scores_with_fc1_frozen(model, text):
    with torch.no_grad():
        weight, bias = model.fc1.weight, model.fc1.bias
    hidden = torch.tanh(F.linear(model.em(text).mean(dim=1), weight, bias))
    return model.fc3(torch.tanh(model.fc2(hidden)))
""", "were no constants"),
    "4.6 modulo": ("""
def freeze_children(model, names=(), idxs=()):
    names = {names} if isinstance(names, str) else set(names)
    idxs = [idxs] if isinstance(idxs, int) else list(idxs)
    children = list(model.named_children())
    if not names <= {name for name, _ in children}:
        raise LookupError
    for idx, (name, child) in enumerate(children):
        if name in names or idx in {each % len(children) for each in idxs}:
            child.requires_grad_(False)
""", "an index beyond the ends"),
    "4.7 no train": ("""
def hold_body(model):
    model.body.requires_grad_(False).eval()
    model.body.train = None
""", "must be a function"),
    "4.8 gradients": ("""
def what_moved(model, step):
    step()
    return [n for n, p in model.named_parameters() if p.grad is not None]
""", "or it got a gradient"),
}  # fmt: skip


@pytest.mark.parametrize("case", TOLD)
def test_what_is_said_is_true_of_the_answer(case):
    exercise = ALL[case.split()[0]]
    code, words = TOLD[case]
    verdict = exercise.verdict(exercise.answer_from(code))
    assert not verdict.passed
    assert words in " ".join(verdict.message.split())
