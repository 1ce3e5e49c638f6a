"""The cache is used when nothing changed, and never when anything did."""

import copy
import functools
import multiprocessing
import os
import warnings
from collections import OrderedDict

import numpy as np
import pytest
import timm
import torch
import torchvision
from PIL import Image
from safetensors.torch import save
from torch import nn
from torch.utils.data import Subset, TensorDataset
from torchvision.transforms import v2

from course_lib import backbones, features, freezing
from course_lib import data as course_data
from course_lib.features import cache as disk
from course_lib.features import keys
from course_lib.features.taps import Tap

STEPS = (v2.Resize(10), v2.ToImage(), v2.ToDtype(torch.float32, scale=True))


@pytest.fixture
def runs(monkeypatch):
    """Counts how many batches a network computes; the one picture that tells the layout aside."""
    count, take = [], Tap.take

    def counted(tap, images):
        count.extend([1] * (len(images) > 1))
        return take(tap, images)

    monkeypatch.setattr(Tap, "take", counted)
    return count


def extract(net, data, cache_dir, **settings):
    return features.extract(net, data, cache_dir=cache_dir, batch_size=100, **settings)


def test_the_second_time_nothing_is_computed(net, data, cache_dir, runs):
    first = extract(net, data, cache_dir)
    again = extract(net, data, cache_dir)
    assert len(runs) == 1
    assert first.key == again.key
    assert torch.equal(first.values, again.values)
    assert torch.equal(first.targets, again.targets)
    net.train()  # neither mode nor flags change the features
    net.fc.requires_grad_(False)
    assert extract(net, data, cache_dir).key == first.key
    freezing.freeze(net, ["stem", "body.1"])  # nor does what is frozen
    net.eval()
    assert extract(net, data, cache_dir).key == first.key
    assert len(runs) == 1
    extract(net, data, cache_dir, cache=False)
    assert len(runs) == 2


def bump(tensor):
    with torch.no_grad():
        tensor.view(-1)[0] += 1e-6 + tensor.view(-1)[0].abs() * 1e-6


CHANGES = {
    "a weight, a little": lambda net: bump(net.stem[0].weight),
    "a bias": lambda net: bump(net.stem[0].bias),
    "a running mean": lambda net: bump(net.body[1].running_mean),
    "epsilon": lambda net: setattr(net.stem[1], "eps", 1e-2),
    "stride": lambda net: setattr(net.body[0], "stride", (2, 2)),
    "another activation": lambda net: net.stem.__setitem__(2, nn.GELU()),
    "one layer more": lambda net: net.body.append(nn.Identity()),
    "dtype": lambda net: net.double(),
    "an attribute": lambda net: setattr(net, "scale", 2.0),
    "a table": lambda net: setattr(net, "scales", {1: 2.0}),
    "a function of torch": lambda net: setattr(net, "act_function", nn.functional.relu),
    "a tensor that isn't registered": lambda net: vars(net).update(extra=torch.ones(3)),
    "a module that isn't registered": lambda net: vars(net).update(extra=[nn.Linear(2, 2)]),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_change_of_the_network_changes_the_key(net, change):
    before = keys.of_model(net)
    assert keys.of_model(copy.deepcopy(net)) == before
    change(net)
    assert keys.of_model(net) != before


def test_settings_that_differ_in_one_place_differ_in_the_key(net):
    found = set()
    for value in ({1: "a"}, {2: "a"}, {2: "b"}, ["a"], [["a"]], {"a"}, nn.functional.gelu):
        net.setting = value
        found.add(keys.of_model(net))
    assert len(found) == 7


class Own(nn.Sequential):
    """Code that somebody may edit."""


OWN = {
    "a class": lambda net: Own(net, nn.Linear(3, 2)),
    "forward": lambda net: setattr(net, "forward", lambda x: net.fc(x)),
    "forward, in parts": lambda net: setattr(net, "forward", functools.partial(print, net)),
    "forward, under freezing's own": lambda net: (
        net.add_module("table", nn.Embedding(4, 2, max_norm=1.0)),
        setattr(net.table, "forward", lambda x: x),
        freezing.freeze(net, ["table"]),
    ),
    "a hook": lambda net: net.body.register_forward_hook(lambda m, i, o: o * 2),
    "a hook before": lambda net: net.body.register_forward_pre_hook(lambda m, i: None),
    "an object": lambda net: setattr(net, "scale", np.ones(3)),
    "a method": lambda net: setattr(net, "rule", net.stem.forward),
    "a closure": lambda net: setattr(net, "rule", nn.functional.max_pool2d),
}  # fmt: skip


@pytest.mark.parametrize("change", OWN.values(), ids=OWN)
def test_what_can_not_be_described_has_no_key(net, change):
    made = change(net)
    with pytest.raises(keys.UndescribedError):
        keys.of_model(made if isinstance(made, Own) else net)


def test_features_of_ones_own_network_are_computed_anew_and_it_is_said(net, data, cache_dir, runs):
    own = Own(OrderedDict(body=net, fc=nn.Linear(3, 2)))
    with pytest.warns(UserWarning, match=r"this Own aren't kept on disk: the code of .*\.Own"):
        first = extract(own, data, cache_dir)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = extract(own, data, cache_dir, cache=False)
    assert len(runs) == 2
    assert not cache_dir.exists()
    assert first.key == again.key
    bump(net.fc.bias)
    assert extract(own, data, cache_dir, cache=False).key != first.key


def test_networks_that_name_themselves_come_to_an_end(net):
    net.stem.parents = [net]
    net.everything = {"me": [net.body]}
    net.everything["again"] = net.everything
    assert keys.of_model(net) == keys.of_model(net)


@pytest.mark.parametrize(
    "make",
    [
        lambda: backbones.load("efficientnet_lite0", pretrained=False),
        lambda: timm.create_model("vit_tiny_patch16_224"),
        *(
            functools.partial(torchvision.models.get_model, name)
            for name in ("swin_t", "convnext_tiny", "squeezenet1_1", "shufflenet_v2_x0_5")
        ),
    ],
)
def test_real_networks_have_a_key_that_stays(make):
    model = make()
    before = keys.of_model(model)
    assert keys.of_model(copy.deepcopy(model)) == before
    freezing.freeze(model, [name for name, _ in model.named_children()][:2])
    assert keys.of_model(model) == before


def test_other_tensors_other_key(net, data, cache_dir, runs):
    first = extract(net, data, cache_dir)
    images, targets = data.tensors
    bump(images[10])
    assert extract(net, data, cache_dir).key != first.key
    other = TensorDataset(images, targets.flip(0))
    assert torch.equal(extract(net, other, cache_dir).targets, targets.flip(0))
    assert len(extract(net, Subset(data, [1, 0]), cache_dir)) == 2
    assert len(runs) == 4


def test_other_layers_and_pools_other_keys(net, data, cache_dir):
    settings = [{}, {"layer": "fc"}, {"layer": "body"}, {"layer": "body", "pool": None}]
    found = {extract(net, data, cache_dir, **each).key for each in settings}
    assert len(found) == 4


def test_files_are_known_by_their_content(net, pictures, cache_dir, runs):
    def keyed(*steps):
        train = course_data.image_folder(pictures, "train", v2.Compose(steps))
        return extract(net, train, cache_dir)

    first = keyed(*STEPS)
    assert keyed(*STEPS).key == first.key
    assert len(runs) == 1
    others = [
        keyed(v2.Resize(9), *STEPS[1:]).key,
        keyed(v2.Resize(10, interpolation=v2.InterpolationMode.NEAREST), *STEPS[1:]).key,
        keyed(*STEPS, v2.Normalize([0.5] * 3, [0.5] * 3)).key,
        keyed(*STEPS, v2.Normalize([0.4] * 3, [0.5] * 3)).key,
    ]
    path = first.paths[0]
    (path.parent / "renamed.png").write_bytes(path.read_bytes())
    path.unlink()
    renamed = keyed(*STEPS)
    pixels = Image.open(renamed.paths[0])
    pixels.putpixel((0, 0), (255 - pixels.getpixel((0, 0))[0], 0, 0))
    pixels.save(renamed.paths[0])
    others.append(keyed(*STEPS).key)
    assert len({first.key, *others}) == 6
    expected = features.extract(net, course_data.image_folder(pictures, "train",
                                v2.Compose(STEPS)), cache=False)  # fmt: skip
    assert torch.equal(keyed(*STEPS).values, expected.values)


def test_a_transform_of_ones_own_is_never_trusted_by_its_name(net, pictures, cache_dir):
    """Two functions of one name with different constants: what they give is hashed instead."""

    def made(factor):
        def scale(image):
            return v2.functional.to_image(image).float() * factor

        return scale

    found = [
        extract(net, course_data.image_folder(pictures, "train", made(f)), cache_dir)
        for f in (1.0, 2.0, 1.0)
    ]
    assert found[0].key == found[2].key
    assert found[0].key != found[1].key
    assert not torch.equal(found[0].values, found[1].values)


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "text", "swap"])
def test_damaged_files_are_made_anew(net, data, cache_dir, runs, damage):
    first = extract(net, data, cache_dir)
    (path,) = cache_dir.iterdir()
    whole = path.read_bytes()
    if damage == "cut":
        path.write_bytes(whole[: len(whole) // 2])
    elif damage == "flip":
        path.write_bytes(whole[:-5] + bytes([whole[-5] ^ 1]) + whole[-4:])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "text":
        path.write_text("not a table of features")
    else:  # a whole file, of another key
        other = extract(net, Subset(data, [0, 1]), cache_dir)
        path.write_bytes((cache_dir / f"{other.key}.safetensors").read_bytes())
    before = len(runs)
    again = extract(net, data, cache_dir)
    assert len(runs) == before + 1
    assert torch.equal(first.values, again.values)
    extract(net, data, cache_dir)
    assert len(runs) == before + 1


def led_away(path):
    path.rename(path.parent.parent / "elsewhere")
    path.symlink_to(path.parent.parent / "elsewhere")


@pytest.mark.skipif(os.name == "nt", reason="no pipes, and other rights there")
@pytest.mark.parametrize("change", [
    lambda path: (path.unlink(), os.mkfifo(path)), lambda path: path.chmod(0o666),
    lambda path: (path.unlink(), path.symlink_to("/dev/zero")), led_away,
], ids=["pipe", "others' rights", "device", "link"])  # fmt: skip
def test_what_is_no_file_of_ones_own_is_made_anew(net, data, cache_dir, runs, change):
    first = extract(net, data, cache_dir)
    (path,) = cache_dir.iterdir()
    change(path)
    away = cache_dir.parent / "elsewhere"
    if away.exists():
        away.write_bytes(b"somebody's")
    again = extract(net, data, cache_dir)
    assert torch.equal(first.values, again.values)
    before = len(runs)
    extract(net, data, cache_dir)
    assert len(runs) == before  # it is kept now
    assert not away.exists() or away.read_bytes() == b"somebody's"
    assert path.is_file()
    assert not path.is_symlink()
    assert not path.stat().st_mode & 0o022


def forged(key, values, targets):
    """A file with a checksum that is right: anybody can compute it."""
    told = {"key": key, "checksum": keys.of_tensors(values, targets)}
    return save({"values": values, "targets": targets}, told)


@pytest.mark.parametrize("change", [
    lambda v, t: (v[:-1].contiguous(), t[:-1].contiguous()), lambda v, t: (v / 0, t),
    lambda v, t: (v, t[:-1].contiguous()), lambda v, t: (v[0, 0].clone(), t),
    lambda v, t: (v, t[:, None].contiguous()), lambda v, t: (torch.zeros(0, 1 << 40), t[:0]),
])  # fmt: skip
def test_files_with_a_right_checksum_and_a_wrong_content(net, data, cache_dir, runs, change):
    first = extract(net, data, cache_dir)
    (path,) = cache_dir.iterdir()
    path.write_bytes(forged(first.key, *change(first.values, first.targets)))
    before = len(runs)
    again = extract(net, data, cache_dir)
    assert len(runs) == before + 1
    assert torch.equal(first.values, again.values)
    assert torch.equal(first.targets, again.targets)


@pytest.mark.skipif(os.name == "nt", reason="other rights there")
@pytest.mark.parametrize("mode", [0o777, 0o707, 0o1777])
def test_a_folder_that_others_can_write_to_is_not_trusted(net, data, cache_dir, runs, mode):
    first = extract(net, data, cache_dir)
    (path,) = cache_dir.iterdir()
    path.write_bytes(forged(first.key, first.values + 1, first.targets))
    cache_dir.chmod(mode)
    with pytest.warns(UserWarning, match=r"others can write to .*chmod go-w"):
        again = extract(net, data, cache_dir)
    assert torch.equal(first.values, again.values)
    cache_dir.chmod(0o755)
    assert torch.equal(extract(net, data, cache_dir).values, first.values + 1)  # it is yours again


@pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="only root gives files away")
def test_a_folder_of_somebody_else_is_not_trusted(cache_dir):
    cache_dir.mkdir(exist_ok=True)
    assert not disk.others_can_write(cache_dir)
    os.chown(cache_dir, 12345, 0)
    assert disk.others_can_write(cache_dir)


def test_a_folder_that_can_not_be_written_costs_only_time(net, data, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.warns(UserWarning, match="can't be kept"):
        found = extract(net, data, blocked / "cache")
    assert len(found) == 11


def test_the_default_folder_is_the_course_cache(net, data, tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path))
    found = features.extract(net, data)
    assert (tmp_path / "features" / f"{found.key}.safetensors").is_file()


def _work(place, queue):
    torch.set_num_threads(1)
    torch.manual_seed(3)
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 4), nn.Linear(4, 2))
    rows = TensorDataset(torch.arange(60.0).reshape(5, 12), torch.zeros(5, dtype=torch.int64))
    sums = [float(features.extract(net, rows, cache_dir=place).values.sum()) for _ in range(20)]
    queue.put(sums)


def test_processes_at_the_same_time(cache_dir):
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    workers = [context.Process(target=_work, args=(cache_dir, queue)) for _ in range(3)]
    for each in workers:
        each.start()
    sums = [value for _ in workers for value in queue.get(timeout=60)]
    for each in workers:
        each.join(timeout=60)
    assert len(set(sums)) == 1
    assert [path.suffix for path in cache_dir.iterdir()] == [".safetensors"]
