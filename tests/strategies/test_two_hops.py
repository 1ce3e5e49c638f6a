"""Two hops: the second network has the first one's body, bit for bit, and a head of its own."""

import contextlib
import copy
import hashlib
import io
import pickle
import socket
import tarfile

import numpy as np
import pytest
import torch
import torchvision
from torch import nn

from course_lib import freezing, training, weights
from course_lib.errors import OfflineError
from course_lib.strategies import hop_data, two_hops
from course_lib.strategies.inserts import StrategyError
from course_lib.strategies.two_hops import PretrainedModel, TransferModel
from tests.data.loopback import Loopback

TEN = [f"class {each}" for each in range(10)]
IMAGES = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def first():
    torch.manual_seed(0)
    return PretrainedModel("resnet18", TEN, pretrained=False).eval()


def test_body_and_head_compute_what_torchvision_computes(first):
    reference = torchvision.models.resnet18(weights=None, num_classes=10).eval()
    state = {key.removeprefix("body."): value for key, value in first.state_dict().items()}
    state["fc.weight"], state["fc.bias"] = state.pop("head.weight"), state.pop("head.bias")
    reference.load_state_dict(state)
    with torch.no_grad():
        torch.testing.assert_close(first(IMAGES), reference(IMAGES), rtol=0, atol=0)
        assert first.body(IMAGES).shape == (4, 512)


def test_the_new_head_stands_on_the_features_not_on_the_old_scores(first):
    second = TransferModel(first, ["a", "b", "c"])
    assert (second.head.in_features, second.head.out_features) == (512, 3)
    with torch.no_grad():
        assert torch.equal(second.eval().body(IMAGES), first.body(IMAGES))
    assert second.body is not first.body


def test_the_frozen_body_stays_through_training_and_the_first_network_too(first):
    second = TransferModel(first, [str(each) for each in range(100)])
    before = copy.deepcopy(second.body.state_dict()), copy.deepcopy(first.state_dict())
    labels = torch.tensor([0, 99, 3, 50])
    optimizer = torch.optim.SGD(second.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)

    def step(model, optimizer):
        model.train()
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(IMAGES), labels).backward()
        optimizer.step()

    report = freezing.audit(second, optimizer, step)
    assert set(report.changed) == {"head.weight", "head.bias"}
    step(second, optimizer)
    for old, now in zip(before, (second.body, first), strict=True):
        assert all(torch.equal(old[key], value) for key, value in now.state_dict().items())


def test_saved_and_loaded_it_computes_the_same_and_is_still_frozen(first, tmp_path):
    path = first.save(tmp_path / "first.safetensors", what="a first hop")
    again = PretrainedModel.load(path)
    assert again.classes == TEN
    second = TransferModel(path, ["a", "b"])
    kept = TransferModel.load(second.save(tmp_path / "second.safetensors"))
    with torch.no_grad():
        assert torch.equal(again(IMAGES), first(IMAGES))
        assert torch.equal(kept(IMAGES), second.eval()(IMAGES))
    assert kept.classes == ["a", "b"]
    assert not any(each.requires_grad for each in kept.body.parameters())
    assert not kept.train().body.training
    assert weights.read_checkpoint(path).metadata["what"] == "a first hop"


def test_a_file_of_another_model_is_refused(first, tmp_path):
    path = first.save(tmp_path / "first.safetensors")
    with pytest.raises(StrategyError, match="holds PretrainedModel; expected a TransferModel"):
        TransferModel.load(path)
    bare = weights.save_weights(first.head, tmp_path / "bare.safetensors")
    with pytest.raises(StrategyError, match="holds Linear"):
        PretrainedModel.load(bare)


def test_labels_that_have_no_output_are_named(first):
    with pytest.raises(StrategyError, match="from 0 to 99, and the head has 10 outputs"):
        first.check_labels(range(100))
    with pytest.raises(StrategyError, match="from -1 to 3"):
        first.check_labels(torch.tensor([3, -1]))
    with pytest.raises(StrategyError, match="from 10 to 10"):
        first.check_labels([10])
    first.check_labels(torch.tensor([0, 9]))
    first.check_labels([])


@pytest.mark.parametrize("classes", ["cat", [], ["a", "a"]])
def test_classes_that_are_no_list_of_names_are_refused(classes, first):
    with pytest.raises(StrategyError, match="classes is"):
        TransferModel(first, classes)


def test_a_head_that_is_no_linear_layer_is_refused():
    with pytest.raises(StrategyError, match="expected one linear layer"):
        PretrainedModel("squeezenet1_1", ["a", "b"], pretrained=False)


def test_old_head_on_new_body_is_measured_as_by_hand_and_leaves_the_modes(first):
    body, head = copy.deepcopy(first.body).train(), first.head
    body.layer1.eval()
    modes = [each.training for each in body.modules()]
    targets = first(IMAGES).argmax(dim=1)
    targets[0] = (targets[0] + 1) % 10
    assert two_hops.accuracy_with(head, body, IMAGES, targets) == 0.75
    assert [each.training for each in body.modules()] == modes


def test_finetune_finds_the_head_and_moves_nothing_else(first):
    first_task, _ = hop_data.two_tasks("digits", torchvision.transforms.Compose([
        torchvision.transforms.Resize(32), torchvision.transforms.ToTensor(),
    ]))  # fmt: skip
    second = TransferModel(first, first_task.classes)
    before = copy.deepcopy(second.state_dict())
    few = [first_task.train[each] for each in range(8)]
    batch = (torch.stack([image for image, _ in few]), torch.tensor([label for _, label in few]))
    training.finetune(second, [batch], epochs=1, lr=0.1, seed=0, device="cpu", progress=False)
    moved = [n for n, now in second.state_dict().items() if not torch.equal(now, before[n])]
    assert moved == ["head.weight", "head.bias"]


def test_the_digits_are_two_tasks_of_five_classes_without_a_common_picture():
    first_task, second_task = hop_data.two_tasks("digits")
    assert first_task.classes == ["0", "1", "2", "3", "4"]
    assert second_task.classes == ["5", "6", "7", "8", "9"]
    seen = set()
    for task in (first_task, second_task):
        for part in (task.train, task.val, task.test):
            assert set(part.targets) == set(range(5))
            here = {part[each][0].tobytes() for each in range(len(part))}
            assert not here & seen
            seen |= here
    total = sum(len(p) for t in (first_task, second_task) for p in (t.train, t.val, t.test))
    assert total == 1797
    assert first_task.train[0][0].size == (8, 8)


def test_pixels_are_those_of_scikit_learn():
    from sklearn.datasets import load_digits

    task = hop_data.two_tasks("digits")[1]
    row = task.test.indices[0]
    held = load_digits()
    original = held.images[held.target >= 5][row]
    shown = torch.tensor(np.asarray(task.test[0][0].convert("L")))
    assert (shown - torch.tensor(original * 255 / 16)).abs().max() <= 0.5


def test_cifar_without_a_network_says_what_to_do(tmp_path, monkeypatch):
    def closed(*_, **__):
        raise OSError("no network here")

    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    monkeypatch.setattr(socket.socket, "connect", closed)
    monkeypatch.setattr(socket, "getaddrinfo", closed)
    with pytest.raises(OfflineError, match=r"CIFAR10 isn't in"):
        hop_data.two_tasks("cifar")


def served_as(kind, how, web_of, monkeypatch, per_class=5):
    """CIFAR's own class, its address and hashes those of a small archive of the same layout."""
    fine = kind is torchvision.datasets.CIFAR100
    names = [f"name {each}" for each in range(100 if fine else 10)]
    key, values = ("fine_labels" if fine else "labels"), np.random.default_rng(0)
    files, hashes = {}, {}
    for name in [each[0] for each in kind.train_list + kind.test_list]:
        labels = [each for each in range(len(names)) for _ in range(per_class)]
        pixels = values.integers(0, 256, (len(labels), 3072), dtype=np.uint8)
        files[name] = {"data": pixels, key: labels}
    files[kind.meta["filename"]] = {kind.meta["key"]: names}
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as packed:
        for name, held in files.items():
            body = pickle.dumps(held)
            hashes[name] = hashlib.md5(body).hexdigest()
            entry = tarfile.TarInfo(f"{kind.base_folder}/{name}")
            entry.size = len(body)
            packed.addfile(entry, io.BytesIO(body))
    web = web_of(out.getvalue())
    monkeypatch.setattr(kind, "url", web.url(how))
    monkeypatch.setattr(kind, "tgz_md5", hashlib.md5(web.body).hexdigest())
    monkeypatch.setattr(kind, "train_list", [[n, hashes[n]] for n, _ in kind.train_list])
    monkeypatch.setattr(kind, "test_list", [[n, hashes[n]] for n, _ in kind.test_list])
    meta = kind.meta | {"md5": hashes[kind.meta["filename"]]}
    monkeypatch.setattr(kind, "meta", meta)
    return web, files


@pytest.fixture
def web_of():
    with contextlib.ExitStack() as open_ones:
        yield lambda body: open_ones.enter_context(Loopback(body))


def test_cifar_is_downloaded_once_and_divided(tmp_path, monkeypatch, web_of):
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    ten, _ = served_as(torchvision.datasets.CIFAR10, "good", web_of, monkeypatch)
    hundred, files = served_as(torchvision.datasets.CIFAR100, "good", web_of, monkeypatch)
    first_task, second_task = hop_data.two_tasks("cifar")
    asked = len(ten.requests) + len(hundred.requests)
    hop_data.two_tasks("cifar")
    assert len(ten.requests) + len(hundred.requests) == asked
    assert (len(first_task.classes), len(second_task.classes)) == (10, 100)
    # five files of ten classes with five pictures each; one in five is for validation
    assert [len(each) for each in (first_task.train, first_task.val, first_task.test)] == [
        200, 50, 50,
    ]  # fmt: skip
    assert set(second_task.test.targets) == set(range(100))
    assert set(second_task.val.targets) == set(range(100))
    shown, target = second_task.test[7]
    assert target == files["test"]["fine_labels"][7]
    red = files["test"]["data"][7].reshape(3, 32, 32)[0]
    assert np.array_equal(np.asarray(shown)[..., 0], red)


@pytest.mark.parametrize("how", ["tampered", "status-404"])
def test_a_cifar_that_arrives_damaged_is_refused(how, tmp_path, monkeypatch, web_of):
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    served_as(torchvision.datasets.CIFAR10, how, web_of, monkeypatch)
    with pytest.raises(OfflineError, match=r"CIFAR10 isn't in .* could not be downloaded"):
        hop_data.two_tasks("cifar")
    served_as(torchvision.datasets.CIFAR10, "good", web_of, monkeypatch)
    served_as(torchvision.datasets.CIFAR100, "good", web_of, monkeypatch)
    assert len(hop_data.two_tasks("cifar")[0].classes) == 10  # nothing damaged was kept


def test_unknown_tasks_are_named():
    with pytest.raises(LookupError, match="digits and cifar"):
        hop_data.two_tasks("digit")
