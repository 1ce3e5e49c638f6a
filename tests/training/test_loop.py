import copy
import subprocess
import sys
from itertools import chain
from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, ReduceLROnPlateau, StepLR
from torch.utils.data import DataLoader, Dataset, TensorDataset

from course_lib.errors import UnknownNameError
from course_lib.training import History, TrainingError, evaluate, finetune

from .conftest import batches_of, make_net, make_set, same_tensors, tensors_of


def bare_loop(model, batches, optimizer, epochs=2):
    for _ in range(epochs):
        model.train()
        for images, targets in batches:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images), targets).backward()
            optimizer.step()


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("sgd", lambda groups: torch.optim.SGD(groups, momentum=0.9)),
        ("adam", torch.optim.Adam),
        ("adamw", torch.optim.AdamW),
        (torch.optim.RMSprop, torch.optim.RMSprop),
    ],
)
def test_bit_equal_to_a_bare_loop(batches, name, make):
    ours, bare = make_net(), make_net()
    momentum = 0.9 if name == "sgd" else 0.0
    history = finetune(
        ours, batches, epochs=2, lr=0.01, optimizer=name, momentum=momentum, weight_decay=0.01
    )
    groups = [
        {"params": [*bare[0].parameters(), *bare[1].parameters()], "lr": 0.01},
        {"params": bare[5].parameters(), "lr": 0.1},
    ]
    bare_loop(bare, batches, make([group | {"weight_decay": 0.01} for group in groups]))
    assert same_tensors(ours, tensors_of(bare))
    assert history.kept_epoch == len(history) == 2
    assert history[0].lr == (0.01, 0.1)


def test_it_learns_and_reports_what_evaluate_finds(net):
    train, val, test = (batches_of(make_set(seed=seed)) for seed in (0, 1, 2))
    history = finetune(net, train, test, val=val, epochs=8, lr=0.01)
    assert history.train_loss[-1] < 0.6 * history.train_loss[0]
    best = history[history.best_epoch - 1]
    assert history.kept_epoch == history.best_epoch
    assert evaluate(net, val).loss == best.val_loss
    assert evaluate(net, test).accuracy == best.test_acc
    assert evaluate(net, test).loss == best.test_loss
    assert not any(module.training for module in net.modules())
    assert all(parameter.grad is None for parameter in net.parameters())
    assert history.stopped == ""


def test_the_training_figures_are_averages_over_examples(net, batches):
    """With a learning rate of 0 and without BatchNorm's training mode nothing moves."""
    net[1].train = lambda mode=True: net[1]  # keeps itself in evaluation mode, as frozen ones do
    net[1].training = False
    history = finetune(net, batches, epochs=1, lr=0.0)
    expected = evaluate(net, batches)
    assert history[0].train_loss == pytest.approx(expected.loss, rel=1e-6)
    assert history[0].train_acc == expected.accuracy
    assert net[1].num_batches_tracked == 0


def test_a_model_that_comes_in_evaluation_mode_is_trained_all_the_same(batches):
    """As it does from a run before: BatchNorm must go by the batch, and learn its statistics."""
    ready, fresh = make_net().eval(), make_net().train()
    finetune(ready, batches, epochs=1, lr=0.01)
    finetune(fresh, batches, epochs=1, lr=0.01)
    assert same_tensors(ready, tensors_of(fresh))
    assert ready[1].num_batches_tracked == len(batches)


def test_without_validation_the_last_epoch_stays(batches):
    seen = []
    net = make_net()
    history = finetune(
        net,
        batches,
        batches,
        epochs=3,
        lr=0.5,
        on_epoch_end=lambda end: seen.append(tensors_of(net)),
    )
    assert same_tensors(net, seen[-1])
    assert (history.kept_epoch, history.best_epoch) == (3, None)


@pytest.mark.parametrize("restore_best", [True, False])
def test_the_best_epoch_by_validation_comes_back(batches, restore_best):
    """A scheduler that ruins the last epochs makes sure that the best one isn't the last."""
    seen = []
    net = make_net()
    val = batches_of(make_set(seed=1))
    history = finetune(
        net, batches, val=val, epochs=5, lr=0.01, restore_best=restore_best,
        scheduler=lambda opt: torch.optim.lr_scheduler.LambdaLR(opt, lambda e: 1 if e < 3 else -30),
        on_epoch_end=lambda end: seen.append(tensors_of(end.model)),
    )  # fmt: skip
    assert history.best_epoch < 5
    kept = history.best_epoch if restore_best else 5
    assert history.kept_epoch == kept
    assert same_tensors(net, seen[kept - 1])


def test_looking_at_validation_and_test_data_changes_nothing_in_the_training():
    weights = []
    for looks in ({}, {"val": make_set(seed=1), "test": make_set(seed=2)}):
        torch.manual_seed(5)
        net = make_net(dropout=0.5)
        train = DataLoader(make_set(), batch_size=5, shuffle=True)  # from the global stream
        finetune(net, train, epochs=2, lr=0.01, restore_best=False, **looks)
        weights.append(tensors_of(net))
    assert same_tensors(net, weights[0])


def test_patience_and_callback_stop_the_run(batches):
    constant = {"lr": 0.0, "val": batches, "epochs": 9}
    net = make_net()
    net[1].eval()
    net[1].train = lambda mode=True: net[1]
    history = finetune(net, batches, patience=2, **constant)
    assert len(history) == 3
    assert history.stopped == "no epoch after 1 was better"
    ends = []

    def second(end):
        ends.append(end)
        return end.epoch == 2

    history = finetune(make_net(), batches, epochs=5, on_epoch_end=second)
    assert len(history) == 2
    assert history.stopped == "on_epoch_end asked for it after epoch 2"
    assert ends[1].history is history
    assert ends[1].optimizer.param_groups[1]["name"] == "head"
    assert finetune(make_net(), batches, epochs=2, on_epoch_end=second).stopped == ""


def test_schedulers_take_a_step_after_each_epoch(batches):
    history = finetune(
        make_net(), batches, epochs=3, lr=0.01, scheduler=lambda opt: StepLR(opt, 1, gamma=0.5)
    )
    assert [each.lr for each in history] == [(0.01, 0.1), (0.005, 0.05), (0.0025, 0.025)]
    cosine = finetune(
        make_net(),
        batches,
        epochs=2,
        lr=0.01,
        scheduler=lambda opt: CosineAnnealingLR(opt, T_max=2),
    )
    assert cosine[1].lr == pytest.approx((0.005, 0.05))
    plateau = finetune(
        make_net(), batches, epochs=3, lr=0.0,
        optimizer=lambda groups: torch.optim.SGD(groups),
        scheduler=lambda opt: ReduceLROnPlateau(opt, patience=0, threshold=1e9),
    )  # fmt: skip
    assert len(plateau) == 3


@pytest.mark.parametrize("amp", [True, torch.bfloat16, torch.float16])
def test_mixed_precision_on_the_cpu(amp):
    dtypes = []
    net = make_net()
    net[5].register_forward_hook(lambda module, args, out: dtypes.append(out.dtype))
    train = batches_of(make_set(), 9)
    full = finetune(make_net(), train, epochs=4, lr=0.01, amp=False)
    mixed = finetune(net, train, epochs=4, lr=0.01, amp=amp, device="cpu")
    assert set(dtypes) == {torch.bfloat16 if amp is True else amp}
    assert {parameter.dtype for parameter in net.parameters()} == {torch.float32}
    assert mixed.train_loss == pytest.approx(full.train_loss, abs=0.05)
    assert mixed.train_loss != full.train_loss


def test_a_step_that_overflows_is_left_out_by_the_scaler(batches):
    """float16: the loss times its first scale, 2 ** 16, overflows; then the scale is halved."""
    net = make_net()
    before = [parameter.clone() for parameter in net.parameters()]
    history = finetune(
        net, batches[:1], epochs=1, amp=torch.float16, lr=1e-6,
        loss=lambda logits, targets: 3e4 * nn.functional.cross_entropy(logits, targets),
    )  # fmt: skip
    assert len(history) == 1
    for parameter, other in zip(net.parameters(), before, strict=True):
        assert torch.equal(parameter, other)


@pytest.mark.parametrize("n", [1, 4, 6])
def test_one_batch_an_odd_last_one_and_an_absent_class(n):
    dataset = make_set(26, classes=2)
    images, targets = dataset.tensors
    some = TensorDataset(images[targets == 0][:n], targets[targets == 0][:n])  # class 1 is absent
    net = make_net(classes=2)
    history = finetune(net, batches_of(some, 4), batches_of(some, 4), epochs=1, lr=0.1)
    assert history[0].test_acc == evaluate(net, batches_of(some, 4)).accuracy


class Noisy(Dataset):
    """Examples with an augmentation drawn from torch's stream."""

    def __init__(self):
        self.inner = make_set()

    def __len__(self):
        return len(self.inner)

    def __getitem__(self, index):
        image, target = self.inner[index]
        return image + 0.1 * torch.randn(image.shape), target


def rerun(kind="data set", drawn_before=0):
    net = make_net(dropout=0.3)
    torch.rand(drawn_before)
    train = Noisy()
    if kind == "loader":
        train = DataLoader(train, batch_size=5, shuffle=True)
    finetune(net, train, val=make_set(seed=1), epochs=2, lr=0.05, batch_size=4, seed=11)
    return torch.cat([each.detach().flatten().double() for each in net.state_dict().values()])


@pytest.mark.parametrize("kind", ["data set", "loader"])
def test_a_rerun_gives_the_same_bits(kind):
    assert torch.equal(rerun(kind), rerun(kind, drawn_before=3))


def test_a_rerun_starts_a_loaders_own_stream_again():
    loader = DataLoader(make_set(), batch_size=5, shuffle=True, generator=torch.Generator())
    weights = []
    for seed in (1, 1, 2):
        net = make_net()
        finetune(net, loader, epochs=1, lr=0.1, seed=seed)
        weights.append(tensors_of(net))
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert any(not torch.equal(weights[0][name], weights[2][name]) for name in weights[0])


def test_a_fresh_process_gives_the_same_bits(tmp_path):
    code = "import sys, torch; torch.set_num_threads(1)\n"
    code += "from tests.training.test_loop import rerun\ntorch.save(rerun(), sys.argv[1])"
    here = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "bits.pt")], check=True, cwd=here)
    assert torch.equal(torch.load(tmp_path / "bits.pt"), rerun())


def test_data_sets_get_loaders_with_the_profiles_numbers(monkeypatch):
    sizes, orders = [], []

    class Watched(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = make_net()

        def forward(self, images):
            if self.training:
                sizes.append(len(images))
                orders.append(images[:, 0, 0, 1].tolist())
            return self.net(images)

    history = finetune(Watched(), make_set(), epochs=None, head="net.5")
    assert len(history) == 3  # the tiny profile's
    assert sizes == [8, 8, 8, 2] * 3
    first, second = (list(chain(*orders[at : at + 4])) for at in (0, 4))
    assert first != second
    assert sorted(first) == sorted(second)
    sizes.clear()
    finetune(Watched(), make_set(), epochs=1, head="net.5", batch_size=20)
    assert sizes == [20, 6]


def test_frozen_parts_stay_and_stale_gradients_go(net, batches):
    from course_lib.freezing import freeze

    nn.functional.cross_entropy(net(batches[0][0]), batches[0][1]).backward()
    freeze(net, ["0", "1"])
    before = tensors_of(net)
    finetune(net, batches, epochs=2, lr=0.1, momentum=0.9)
    after = tensors_of(net)
    assert {name for name in after if not torch.equal(after[name], before[name])} == {
        "5.weight",
        "5.bias",
    }
    assert not net[1].training


def test_gradients_do_not_pile_up_outside_the_optimizer(net, batches):
    largest = []

    def watch(end):
        largest.append(float(net[0].weight.grad.abs().max()))

    optimizer = torch.optim.SGD(net[5].parameters(), lr=1e-6)
    finetune(net, batches * 5, epochs=2, optimizer=optimizer, on_epoch_end=watch)
    single = make_net()
    single.train()
    nn.functional.cross_entropy(single(batches[-1][0]), batches[-1][1]).backward()
    assert largest[0] == pytest.approx(float(single[0].weight.grad.abs().max()), rel=1e-2)


def test_a_real_network_trains():
    model = torchvision.models.squeezenet1_1(num_classes=2)
    images = torch.randn(4, 3, 64, 64)
    history = finetune(model, [(images, torch.arange(4) % 2)], epochs=1, lr=1e-4)
    assert isinstance(history, History)


def test_bad_settings_change_nothing(net, batches):
    before, modes = tensors_of(net), [module.training for module in net.modules()]
    stranger = torch.optim.SGD(nn.Linear(2, 2).parameters(), lr=1.0)
    stream = torch.get_rng_state()
    cases = [
        ({"epochs": 0}, TrainingError, "epochs must be"),
        ({"patience": 0}, TrainingError, "patience must be"),
        ({"patience": 1}, TrainingError, "give validation data"),
        ({"loss": 3}, TrainingError, "loss must be a function"),
        ({"batch_size": 4}, TrainingError, "batch_size=4 is for data sets"),
        ({"amp": torch.float64}, TrainingError, "amp must be"),
        ({"optimizer": "adm"}, UnknownNameError, "Did you mean 'adam'"),
        ({"optimizer": "adam", "momentum": 0.9}, TrainingError, "momentum=0.9 is for 'sgd'"),
        ({"momentum": -1.0}, TrainingError, "momentum must be"),
        ({"optimizer": lambda groups: 3}, TrainingError, "a function that makes one"),
        ({"optimizer": 3}, TrainingError, "a function that makes one"),
        ({"optimizer": stranger}, TrainingError, "2 of the optimizer's 2 parameters are not"),
        ({"optimizer": stranger, "lr": 0.1}, TrainingError, "this one exists"),
        ({"lr": -0.1}, TrainingError, "lr must be"),
        ({"head": "7"}, UnknownNameError, "no module named '7'"),
        ({"val": []}, TrainingError, "validation loader has no batch"),
        ({"test": []}, TrainingError, "test loader has no batch"),
    ]
    for options, error, message in cases:
        with pytest.raises(error, match=message):
            finetune(net, batches, seed=1, **options)
    with pytest.raises(TrainingError, match="training loader has no batch"):
        finetune(net, [], seed=1)
    assert same_tensors(net, before)
    assert [module.training for module in net.modules()] == modes
    assert torch.equal(torch.get_rng_state(), stream)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    net.requires_grad_(False)
    for how in ({}, {"optimizer": optimizer}):
        with pytest.raises(TrainingError, match="Nothing to train"):
            finetune(net, batches, **how)


def test_a_lazy_model_is_told_to_run_once(batches):
    net = nn.Sequential(nn.Flatten(), nn.LazyLinear(3))
    with pytest.raises(TrainingError, match="Run one batch through"):
        finetune(net, batches, head="1")


def test_a_generator_lasts_for_one_epoch(net, batches):
    with pytest.raises(TrainingError, match=r"no example in epoch 2\. A generator") as error:
        finetune(net, iter(batches), epochs=2)
    assert "holds the weights of epoch 1" in error.value.__notes__[0]


def test_bars_are_silent_unless_asked_for(net, batches, capsys, monkeypatch):
    monkeypatch.delenv("COURSE_PROGRESS_BAR", raising=False)
    finetune(net, batches, epochs=2)
    assert capsys.readouterr() == ("", "")
    finetune(net, batches, epochs=1, progress=True)
    assert "epoch 1/1" in capsys.readouterr().err
    monkeypatch.setenv("COURSE_PROGRESS_BAR", "1")
    finetune(net, batches, epochs=1)
    assert "epoch 1/1" in capsys.readouterr().err
    finetune(net, batches, epochs=1, progress=False)
    monkeypatch.setenv("COURSE_PROGRESS_BAR", "0")
    finetune(net, batches, epochs=1)
    assert capsys.readouterr() == ("", "")


def test_copies_train_alike(net, batches):
    other = copy.deepcopy(net)
    finetune(net, batches, epochs=1)
    finetune(other, batches, epochs=1)
    assert same_tensors(net, tensors_of(other))
