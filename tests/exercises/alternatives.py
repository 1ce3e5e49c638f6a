"""Other right answers, written another way than the solutions: each must pass too."""

ALTERNATIVES: dict[str, list[str]] = {
    "0.1": ["pictures_shown = 288", "pictures_shown = 3 * 96.0"],
    "2.1": [
        """
import numpy as np

def channel_numbers(pictures):
    pixels = np.concatenate([p.numpy().reshape(3, -1) for p in pictures], axis=1) / 255
    return tuple(pixels.mean(axis=1)), list(pixels.std(axis=1))
""",
        """
def channel_numbers(pictures):
    count = sum(p.shape[1] * p.shape[2] for p in pictures)
    total = sum(p.double().sum((1, 2)) for p in pictures)
    squares = sum((p.double() ** 2).sum((1, 2)) for p in pictures)
    mean = total / count
    return torch.stack([mean, (squares / count - mean**2).sqrt()]) / 255
""",
    ],
    "2.2": [
        """
def undo_normalising(batch, mean, std):
    channels = [batch[:, c] * std[c] + mean[c] for c in range(3)]
    return torch.stack(channels, dim=1).clamp(0, 1)
""",
        """
from torchvision.transforms.v2.functional import normalize

def undo_normalising(batch, mean, std):
    return normalize(batch, [-m / s for m, s in zip(mean, std)], [1 / s for s in std])
""",
    ],
    "2.3": [
        """
def swap_head(model, classes):
    setattr(model, "fc", nn.Sequential(nn.Dropout(0.1), nn.LazyLinear(classes)))
    model(torch.zeros(1, 3, 4, 4))
    return model
""".replace("    model(torch.zeros(1, 3, 4, 4))\n", "    model.eval()(torch.zeros(1, 3, 4, 4))\n"),
        """
def swap_head(model, classes):
    del model.fc
    model.add_module("fc", nn.Linear(6, classes, bias=False))
    return model
""",
    ],
    "2.4": [
        """
def two_rates(model, eta):
    groups = [
        {"params": [p], "lr": eta * (10 if name in ("fc.weight", "fc.bias") else 1)}
        for name, p in model.named_parameters()
    ]
    return torch.optim.AdamW(groups)
""",
        """
def two_rates(model, eta):
    body = [p for name, p in model.named_parameters() if not name.startswith("fc.")]
    return [{"params": body}, {"params": list(model.fc.parameters()), "lr": 10 * eta}]
""",
    ],
    "2.5": [
        """
def only_the_head(model):
    for name, child in model.named_children():
        if name != "fc":
            child.requires_grad_(False)
            child.eval()
            child.train = lambda mode=True, child=child: child
""",
        """
def only_the_head(model):
    model.requires_grad_(False).fc.requires_grad_(True)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    return model
""",
    ],
    "2.6": [
        """
def share_right(batches):
    logits = torch.cat([each for each, _ in batches])
    labels = torch.cat([each for _, each in batches])
    return (logits.softmax(1).argmax(1) == labels).double().mean()
""",
        """
def share_right(batches):
    right = [bool(r) for z, y in batches for r in z.numpy().argmax(1) == y.numpy()]
    return torch.tensor(right, dtype=torch.float64).mean().reshape(1)
""",
    ],
    "2.7": [
        """
def head_from_row(old, row, scale=1.0):
    new = nn.Linear(old.in_features, 2)
    mix = torch.full((2, old.out_features), 1 / (old.out_features - 1))
    mix[0], mix[1, row] = torch.eye(old.out_features)[row], 0
    new.weight = nn.Parameter(scale * mix @ old.weight.detach())
    rest = torch.cat([old.bias.data[:row], old.bias.data[row + 1 :]])
    new.bias.data = scale * torch.stack([old.bias.data[row], rest.exp().sum().log()])
    return new
""",
        """
def head_from_row(old, row, scale=1.0):
    new = nn.Linear(old.in_features, 2)
    rest = torch.arange(old.out_features) != row
    shares = old.bias[rest].softmax(0)
    weights = torch.stack([old.weight[row], shares @ old.weight[rest]])
    biases = torch.stack([old.bias[row], old.bias[rest].logsumexp(0)])
    new.load_state_dict({"weight": weights * scale, "bias": biases * scale})
    return new
""",
    ],
}

ALTERNATIVES |= {
    "3.8": [
        """
from course_lib import weights

def load_backbone(detector, state):
    weights.load_weights(detector.backbone.body, state, drop="fc")
""",
        """
def load_backbone(detector, state):
    head = set(state) - set(detector.backbone.body.state_dict())
    assert head == {"fc.weight", "fc.bias"}, head
    inside = {f"backbone.body.{n}": t for n, t in state.items() if n not in head}
    detector.load_state_dict(detector.state_dict() | inside)
    assert set(inside) == {n for n in detector.state_dict() if n.startswith("backbone.body.")}
""",
    ],
    "4.1": [
        """
def freeze_fc1(model):
    for parameter in (model.fc1.weight, model.fc1.bias):
        parameter.requires_grad = False
    return torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.1)
""",
    ],
    "4.2": [
        """
def thaw_fc1(model, optimizer):
    model.fc1.requires_grad_(True)
    for p in model.fc1.parameters():
        if not any(p is known for group in optimizer.param_groups for known in group["params"]):
            optimizer.param_groups[0]["params"].append(p)
    return optimizer
""",
    ],
    "4.3": [
        """
def let_in(model, optimizer):
    optimizer.add_param_group({"params": list(model.fc1.parameters()), "lr": 0.1})
    optimizer.zero_grad(set_to_none=False)
""",
        """
def let_in(model, optimizer):
    model.zero_grad()
    optimizer.param_groups[0]["params"] += list(model.fc1.parameters())
""",
    ],
    "4.4": [
        """
def keep(layer):
    saved = copy.deepcopy(layer.state_dict())
    return lambda: layer.load_state_dict(saved)
""",
        """
def keep(layer):
    saved = [p.detach().numpy().copy() for p in layer.parameters()]

    @torch.no_grad()
    def restore():
        for parameter, numbers in zip(layer.parameters(), saved):
            parameter[...] = torch.from_numpy(numbers)

    return restore
""",
    ],
    "4.5": [
        """
from torch.func import functional_call

def scores_with_fc1_frozen(model, text):
    fixed = {n: p.detach() if n.startswith("fc1.") else p for n, p in model.named_parameters()}
    return functional_call(model, fixed, (text,))
""",
        """
def scores_with_fc1_frozen(model, text):
    model.fc1.requires_grad_(False)
    scores = model(text)
    model.fc1.requires_grad_(True)
    return scores
""",
    ],
    "4.6": [
        """
def freeze_children(model, names=(), idxs=()):
    wanted = {names} if isinstance(names, str) else set(names)
    every = [name for name, _ in model.named_children()]
    wanted |= {every[idx] for idx in (idxs if hasattr(idxs, "__iter__") else [idxs])}
    assert wanted <= set(every), "unknown name"
    for name in wanted:
        for parameter in getattr(model, name).parameters():
            parameter.requires_grad = False
    return model
""",
        """
from course_lib import freezing

def freeze_children(model, names=(), idxs=()):
    freezing.freeze_by_names(copy.deepcopy(model), names)  # refuses before the model is touched
    freezing.freeze_by_idxs(model, idxs)
    freezing.freeze_by_names(model, names)
""",
    ],
    "4.7": [
        """
def hold_body(model):
    model.body.requires_grad_(False)
    model.body.register_forward_pre_hook(lambda module, inputs: module.eval() and None)
""",
        """
class Held(nn.Sequential):
    def train(self, mode=True):
        return super().train(False)

def hold_body(model):
    model.body.requires_grad_(False)
    model.body.__class__ = Held
    model.body.eval()
    return model
""",
        """
from course_lib.freezing import freeze

def hold_body(model):
    freeze(model, "body")
""",
    ],
    "4.8": [
        """
def what_moved(model, step):
    old = copy.deepcopy(model)
    step()
    pairs = list(zip(old.named_parameters(), model.parameters()))
    pairs += zip(old.named_buffers(), model.buffers())
    return [name for (name, before), after in pairs if (before != after).any()]
""",
    ],
}

ALTERNATIVES |= {
    "3.1": [
        """
def snapshot(model):
    return copy.deepcopy(model).state_dict()
""",
        """
import io

def snapshot(model):
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    return torch.load(file, weights_only=True)
""",
    ],
    "3.2": [
        """
import re

def without_wrapper(state):
    renamed = {}
    for name in state:
        renamed[re.sub(r"^module[.]", "", name)] = state[name].clone()
    return renamed
""",
        """
def without_wrapper(state):
    head = "module."
    return {n[len(head):] if n.startswith(head) else n: t for n, t in state.items()}
""",
    ],
    "3.3": [
        """
def what_fits(model_state, file_state):
    fits = {}
    for name in set(model_state) & set(file_state):
        if list(model_state[name].size()) == list(file_state[name].size()):
            fits[name] = file_state[name]
    return fits
""",
    ],
    "3.4": [
        """
def find_state(checkpoint):
    def states(here):
        if isinstance(here, dict):
            if {type(value) for value in here.values()} == {torch.Tensor}:
                yield here
            for value in here.values():
                yield from states(value)

    return sorted(states(checkpoint), key=len)[-1]
""",
    ],
    "3.5": [
        """
def load_whole(model, state):
    before = copy.deepcopy(model.state_dict())
    try:
        model.load_state_dict(state, strict=True)
    except RuntimeError:
        model.load_state_dict(before)
        raise
""",
        """
def load_whole(model, state):
    trial = copy.deepcopy(model)
    trial.load_state_dict(state)
    model.load_state_dict(trial.state_dict())
""",
        """
from course_lib.weights import load_weights

def load_whole(model, state):
    load_weights(model, state)
""",
    ],
    "3.6": [
        """
def rename_in_order(model_state, file_state):
    theirs = list(file_state)
    assert len(theirs) == len(model_state)
    result = {}
    for place, (name, tensor) in enumerate(model_state.items()):
        assert tensor.shape == file_state[theirs[place]].shape
        result[name] = file_state[theirs[place]]
    return result
""",
    ],
    "3.7": [
        """
import io

def make_checkpoint(model, optimizer):
    file = io.BytesIO()
    torch.save({"optimizer": optimizer.state_dict(), "model": model.state_dict(), "n": 3}, file)
    file.seek(0)
    return torch.load(file)
""",
    ],
    "6.1": [
        """
def groups_by_depth(model, rate, factor):
    layers = list(model.children())
    return [
        {"params": layer.parameters(), "lr": rate * factor ** (place - len(layers) + 1)}
        for place, layer in enumerate(layers)
    ]
""",
    ],
    "6.2": [
        """
def two_stages(model, fit):
    fit(torch.optim.Adam(model.fc3.parameters()))
    model.zero_grad()
    fit(torch.optim.Adam(model.parameters()))
""",
        """
from course_lib import freezing

def two_stages(model, fit):
    body = ["em", "fc1", "fc2"]
    freezing.freeze(model, body)
    optimizer = torch.optim.SGD(model.fc3.parameters(), lr=0.1)
    fit(optimizer)
    freezing.unfreeze(model, body, optimizer=optimizer, lr=0.01)
    fit(optimizer)
""",
    ],
    "6.3": [
        """
from course_lib.exercises.models import SmallResNet

changed = sorted(name for name, _ in SmallResNet().named_buffers())
""",
    ],
    "6.4": [
        """
def factor(step, warm, total):
    rise = (step + 1) / warm
    fall = math.cos(math.pi * (step - warm) / (2 * (total - warm))) ** 2
    return torch.tensor(rise if step < warm else fall)
""",
    ],
    "6.5": [
        """
def rate_for_mean(optimizer, rate, batch_size):
    return {"sgd": rate * batch_size, "adam": rate}[optimizer]
""",
    ],
    "6.6": [
        """
def pull_of(model):
    body = [each for name, each in model.named_parameters() if "fc3" not in name]
    start = [torch.tensor(each.tolist()) for each in body]
    return lambda: sum((now - then).pow(2).sum() / 2 for now, then in zip(body, start))
""",
    ],
    "6.7": [
        """
def train_with_patience(model, train_epoch, score, patience, most):
    best, kept, at = -1.0, {}, 0
    for epoch in range(1, most + 1):
        train_epoch()
        now = score()
        if now > best:
            best, at = now, epoch
            kept = {name: each.clone() for name, each in model.state_dict().items()}
        if epoch - at >= patience:
            break
    model.load_state_dict(kept)
""",
    ],
    "6.8": [
        """
def times_the_work(large, small, epochs, rates):
    passes = [1 + 2 for rate in range(rates) for epoch in range(epochs)]
    return sum(passes) * (small / large) ** 2
""",
        """
def times_the_work(large, small, epochs, rates):
    forth = torch.tensor([large, small], dtype=torch.float64) ** 2
    return 3 * epochs * rates * forth[1] / forth[0]
""",
    ],
    "5.1": ["times_fewer = 200.0", "times_fewer = sum(40 for rate in range(5))"],
    "5.2": [
        """
@torch.inference_mode()
def features_of(model, batches):
    twin = copy.deepcopy(model).eval()
    return twin.features(torch.cat(batches)).clone()
""",
        """
def features_of(model, batches):
    mode = model.training
    model.train(False)
    result = torch.zeros(0, 6)
    for batch in batches:
        for picture in batch:
            result = torch.vstack([result, model.features(picture[None]).detach()])
    model.train(mode)
    return result
""",
    ],
    "5.3": [
        """
from sklearn.preprocessing import StandardScaler

def scaled(train, test):
    scaler = StandardScaler().fit(train.numpy())
    return [scaler.transform(each.numpy()) for each in (train, test)]
""",
        """
def scaled(train, test):
    mean, std = train.mean(0), train.std(0).clamp(min=1e-6)
    return torch.cat([train - mean, test - mean]).div(std).split([len(train), len(test)])
""",
    ],
    "5.4": [
        """
import hashlib
import io

def key_of(model, pictures, layer):
    parts = [layer, str(tuple(pictures.shape))]
    for each in [*model.parameters(), *model.buffers(), pictures]:
        parts.append(str(each.flatten().tolist()))
    return hashlib.md5("|".join(parts).encode()).digest()
""",
    ],
    "5.5": [
        """
def equal_say(one, two):
    def fair(x):
        return (x - x.mean(0)) / x.std(0) / x.shape[1] ** 0.5
    return torch.cat([fair(one), fair(two)], dim=1)
""",
        """
import numpy as np

def equal_say(one, two):
    a, b = one.numpy(), two.numpy()
    table = np.hstack([a / np.sqrt(a.var(0).sum()), b / np.sqrt(b.var(0).sum())])
    return torch.from_numpy(table)
""",
    ],
    "5.6": [
        """
def one_layer(mean, std, weight, bias):
    layer = nn.Linear(len(mean), len(bias))
    layer.weight = nn.Parameter(weight @ torch.diag(1 / std))
    layer.bias = nn.Parameter(bias - (weight / std) @ mean)
    return layer
""",
    ],
    "5.7": [
        """
from sklearn.feature_selection import SelectKBest, f_classif
from sklearn.model_selection import StratifiedKFold
from sklearn.svm import SVC

def honest_score(x, y):
    right = 0
    for train, test in StratifiedKFold(6).split(x, y):
        best = SelectKBest(f_classif, k=20).fit(x[train], y[train])
        model = SVC(kernel="linear").fit(best.transform(x[train]), y[train])
        right += (model.predict(best.transform(x[test])) == y[test]).sum()
    return right / len(y)
""",
    ],
}

ALTERNATIVES |= {
    "1.1": ['words = ("Fine-tune", "freeze", "scratch ")'],
    "1.2": [
        """
def numbers_that_learn(model, frozen):
    total = 0
    for name, parameter in model.named_parameters():
        if name.partition(".")[0] not in set(frozen):
            total += parameter.numel()
    return torch.tensor(total)
""",
    ],
    "1.3": [
        """
def like_source(pictures, source_mean, source_std):
    numbers = pictures.numpy().astype("float64")
    factor = source_std / numbers.std()
    return numbers * factor + (source_mean - factor * numbers.mean())
""",
    ],
    "1.4": [
        """
def travelled(before, after):
    parts = {}
    for name in before:
        parts.setdefault(name.split(".")[0], []).append(name)
    found = {}
    for part, names in parts.items():
        old = torch.cat([before[n].reshape(-1) for n in names])
        new = torch.cat([after[n].reshape(-1) for n in names])
        found[part] = torch.dist(new, old) / torch.linalg.vector_norm(old)
    return found
""",
    ],
    "1.5": [
        """
from course_lib.evidence import paired_interval

def what_it_says(transfer, scratch):
    found = paired_interval(transfer, scratch)
    if found.low > 0:
        return "Helps"
    return "hurts" if found.high < 0 else "open"
""",
        """
from scipy import stats

def what_it_says(transfer, scratch):
    found = stats.ttest_rel(transfer, scratch)
    if found.pvalue >= 0.05:
        return "open"
    return "helps" if found.statistic > 0 else "hurts"
""",
    ],
    "1.6": [
        """
def keep_first(k, trained, fresh):
    network, left = copy.deepcopy(fresh), k
    for mine, theirs in zip(network, trained):
        if left and any(True for _ in mine.parameters()):
            mine.load_state_dict(theirs.state_dict())
            mine.requires_grad_(False)
            left -= 1
    return network
""",
    ],
    "1.7": [
        """
from sklearn.neighbors import NearestCentroid

def choose_source(bodies, train, val):
    best, name_of_best = -1.0, None
    for name, body in bodies.items():
        was = body.training
        body.eval()
        with torch.inference_mode():
            features = [body(each[0]) for each in (train, val)]
        body.train(was)
        right = NearestCentroid().fit(features[0], train[1]).predict(features[1])
        share = (right == val[1].numpy()).mean()
        if share > best:
            best, name_of_best = share, name
    return name_of_best
""",
    ],
    "7.1": [
        """
def outputs_for(train_labels, test_labels):
    return torch.tensor(train_labels + test_labels).max() + 1
""",
    ],
    "7.2": [
        """
def second_network(first, classes):
    body = copy.deepcopy(first)
    body.fc = nn.Identity()
    return nn.Sequential(body, nn.Linear(first.fc.weight.shape[1], classes))
""",
    ],
    "7.3": [
        """
def freeze_body(model):
    for name, child in model.named_children():
        if name != "fc":
            child.requires_grad_(False)
            child.eval()
            child.train = lambda mode=True, child=child: child
""",
    ],
    "7.4": [
        """
def joint_loss(body, old_head, new_head, new, old):
    pairs = ((new_head, new), (old_head, old))
    return sum(nn.CrossEntropyLoss()(head(body(x)), y) for head, (x, y) in pairs)
""",
    ],
    "7.5": [
        """
def part_of_the_way(start, end, share):
    state = copy.deepcopy(end.state_dict())
    for name, value in start.state_dict().items():
        if value.is_floating_point():
            state[name].mul_(share).add_(value, alpha=1 - share)
    return dict(state)
""",
    ],
    "7.6": [
        """
def forgotten(body_before, body_now, old_head, images, targets):
    right = []
    for body in (body_before, body_now):
        found = nn.Sequential(body, old_head).eval()(images).max(dim=1).indices
        right.append(int((found == targets).sum()))
    return (right[0] - right[1]) / len(targets)
""",
    ],
}

ALTERNATIVES |= {
    "8.4": [
        """
def recall_at(alike, fits, k):
    found = 0
    for row, right in zip(alike, fits):
        order = row.argsort(descending=True).tolist()
        found += any(bool(right[column]) for column in order[:k])
    return found / len(alike)
""",
    ],
    "8.5": [
        """
def left_out(features, targets):
    classes, named = targets.unique(), []
    for i in range(len(targets)):
        keep = [j for j in range(len(targets)) if j != i]
        means = [features[keep][targets[keep] == c].mean(0) for c in classes]
        named.append(int(torch.stack([(features[i] - m).norm() for m in means]).argmin()))
    return (torch.tensor(named) == targets).float().mean()
""",
    ],
}

ALTERNATIVES |= {
    "9.1": [
        """
def with_lora(x, weight, down, up, alpha):
    return x @ (weight + alpha / down.shape[0] * up @ down).T
""",
        """
def with_lora(x, weight, down, up, alpha):
    return F.linear(x, weight) + F.linear(F.linear(x, down), up) * (alpha / up.shape[1])
""",
    ],
    "9.2": [
        """
def trained_numbers(layers, rank):
    count = 0
    for inputs, outputs in layers:
        for matrix in (torch.zeros(rank, inputs), torch.zeros(outputs, rank)):
            count += matrix.numel()
    return torch.tensor(count)
""",
    ],
    "9.3": [
        """
def merged(base, down, up, alpha):
    one = nn.Linear(base.in_features, base.out_features)
    one.bias = nn.Parameter(base.bias.detach().clone())
    one.weight = nn.Parameter(base.weight.detach() + (up @ down) * alpha / down.shape[0])
    return one
""",
    ],
    "9.4": [
        """
def dora_weight(weight, down, up, scale, size):
    return F.normalize(weight + scale * (up @ down), dim=1) * size.unsqueeze(1)
""",
        """
def dora_weight(weight, down, up, scale, size):
    rows = [size[i] * (v := weight[i] + scale * up[i] @ down) / v.norm() for i in range(len(size))]
    return torch.stack(rows)
""",
    ],
    "9.5": [
        """
def train_biases(model):
    model.requires_grad_(False)
    model.fc3.requires_grad_(True)
    for layer in (model.fc1, model.fc2):
        layer.bias.requires_grad_(True)
""",
        """
from course_lib.strategies import subsets

def train_biases(model):
    names = [name for name in subsets.biases(model) if name != "fc3.bias"]
    subsets.train_only(model, [*names, "fc3"])
""",
    ],
    "9.6": [
        """
from course_lib.strategies import averages

def on_the_way(start, end, share):
    return averages.interpolate(start, end, share)
""",
        """
def on_the_way(start, end, share):
    made = copy.deepcopy(start)
    first, last = start.state_dict(), end.state_dict()
    made.load_state_dict({n: torch.lerp(first[n].float(), last[n].float(), share) for n in first})
    return made
""",
    ],
    "5.8": [
        """
from sklearn.metrics import recall_score

def mean_recall(targets, predicted):
    return recall_score(targets, predicted, average="macro", labels=targets.unique())
""",
        """
def mean_recall(targets, predicted):
    weights = 1 / torch.bincount(targets)[targets]
    return (weights * (targets == predicted)).sum() / weights.sum()
""",
    ],
}

ALTERNATIVES |= {
    "8.2": [
        """
def soft_part(student, teacher, temperature):
    p = (teacher / temperature).softmax(1)
    q = (student / temperature).softmax(1)
    return temperature * temperature * (p * (p / q).log()).sum() / len(p)
""",
        """
from course_lib.strategies import distillation

def soft_part(student, teacher, temperature):
    return distillation.distillation_loss(student, teacher, None, temperature, 0.0)
""",
    ],
    "8.6": [
        """
def contrast_loss(first, second, temperature):
    rows, total = [*first, *second], 0.0
    for i, row in enumerate(rows):
        likeness = {j: row @ each / temperature for j, each in enumerate(rows) if j != i}
        partner = (i + len(first)) % len(rows)
        total += torch.logsumexp(torch.stack(list(likeness.values())), 0) - likeness[partner]
    return total / len(rows)
""",
        """
from course_lib.strategies import unlabelled

def contrast_loss(first, second, temperature):
    return unlabelled.nt_xent(first, second, temperature)
""",
    ],
}

ALTERNATIVES |= {
    "8.1": [
        """
def turned_round(x, strength):
    return x.detach() + strength * (x.detach() - x)
""",
        """
from course_lib.strategies import adversarial

def turned_round(x, strength):
    return adversarial.reverse(x, strength)
""",
    ],
    "8.3": [
        """
def swap_error(encode, decode, here, there, others):
    (content, _), (_, style) = encode(here), encode(others)
    return ((decode(content, style) - there) ** 2).mean().item()
""",
    ],
}

ALTERNATIVES |= {
    "10.1": [
        """
def own_share(n, rank, world):
    return [i for i in range(n) if i % world == rank]
""",
        """
def own_share(n, rank, world):
    return torch.arange(n).tensor_split(world)[rank]
""",
    ],
    "10.2": [
        """
import math

def interval(save_seconds, hours, devices):
    return torch.tensor(2 * save_seconds * hours * 3600 / devices).sqrt()
""",
    ],
    "10.3": [
        """
def pictures_per_second(prepare, workers, step, batch):
    return batch / max(batch * prepare / workers, step)
""",
    ],
    "10.4": [
        """
from course_lib.paths import atomic_write

def write_whole(path, parts):
    with atomic_write(path) as file:
        file.writelines(parts)
""",
        """
def write_whole(path, parts):
    whole = b"".join(parts)
    beside = path.parent / "new"
    beside.write_bytes(whole)
    beside.rename(path)
""",
    ],
    "10.5": [
        """
def exchange_seconds(params, devices, speed):
    grads = torch.zeros(1, dtype=torch.float32).element_size() * params
    return (grads - grads / devices) * 2 / speed
""",
    ],
    "10.6": [
        """
def passes_of(batch, world, most):
    own = batch // world
    size = max(each for each in range(1, min(own, most) + 1) if own % each == 0)
    return size, own // size
""",
    ],
}
