import copy
import random
from functools import partial

import hypothesis.strategies as st
import numpy
import pytest
import torch
from hypothesis import given
from sklearn import metrics
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from course_lib import data
from course_lib.training import (
    TrainingError,
    accuracy,
    confusion_matrix,
    evaluate,
    finetune,
    predict,
)

from .conftest import batches_of, make_net, make_set, same_tensors, tensors_of


class Scores(nn.Module):
    """A model whose input is its output."""

    def forward(self, x):
        return x


class Drawing(Dataset):
    """Examples that draw from every stream, and don't change."""

    def __init__(self, inner):
        self.inner = inner

    def __len__(self):
        return len(self.inner)

    def __getitem__(self, index):
        torch.rand(1), random.random(), numpy.random.rand()
        return self.inner[index]


@st.composite
def tasks(draw):
    """Scores and targets, cut into batches of any sizes, a class maybe absent."""
    n, classes = draw(st.integers(1, 30)), draw(st.integers(2, 5))
    numbers = draw(st.lists(st.integers(-3, 3), min_size=n * classes, max_size=n * classes))
    logits = torch.tensor(numbers, dtype=torch.float32).reshape(n, classes)  # ties too
    targets = torch.tensor(draw(st.lists(st.integers(0, classes - 1), min_size=n, max_size=n)))
    return logits, targets, draw(st.integers(1, n))


@given(tasks())
def test_accuracy_and_confusion_are_those_of_scikit_learn(task):
    logits, targets, size = task
    classes = logits.shape[1]
    found = evaluate(Scores(), batches_of(TensorDataset(logits, targets), size))
    chosen = logits.argmax(1)
    assert found.accuracy == accuracy(logits, targets) == metrics.accuracy_score(targets, chosen)
    wanted = metrics.confusion_matrix(targets, chosen, labels=range(classes))
    assert found.confusion.tolist() == wanted.tolist()
    assert found.n == len(targets) == int(found.confusion.sum())
    assert found.correct == int((logits.argmax(1) == targets).sum())


@given(tasks(), st.sampled_from(["mean", "sum", "none"]))
def test_loss_is_the_mean_over_the_examples_whatever_the_batches(task, reduction):
    logits, targets, size = task
    loss = nn.CrossEntropyLoss(reduction=reduction)
    found = evaluate(Scores(), batches_of(TensorDataset(logits, targets), size), loss)
    assert found.loss == pytest.approx(float(nn.CrossEntropyLoss()(logits, targets)), rel=1e-5)


def test_a_function_as_loss_is_taken_for_a_mean(net, batches):
    by_module = evaluate(net, batches)
    by_function = evaluate(net, batches, lambda x, y: nn.functional.cross_entropy(x, y))
    assert by_function.loss == by_module.loss


class Summing(nn.Module):
    """Says nothing of how it adds up."""

    def forward(self, logits, targets):
        return -logits.log_softmax(1).gather(1, targets[:, None]).sum()


LOSSES = {
    "partial sum": partial(F.cross_entropy, reduction="sum"),
    "lambda sum": lambda x, y: F.cross_entropy(x, y, reduction="sum"),
    "module sum": Summing(),
    "lambda mean": lambda x, y: F.cross_entropy(x, y),
    "each": partial(F.cross_entropy, reduction="none"),
}


@pytest.mark.parametrize("name", LOSSES)
@given(tasks())
def test_how_a_loss_adds_up_is_measured(name, task):
    logits, targets, size = task
    found = evaluate(Scores(), batches_of(TensorDataset(logits, targets), size), LOSSES[name])
    assert found.loss == pytest.approx(float(F.cross_entropy(logits, targets)), rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("function", [False, True])
@given(tasks())
def test_a_mean_weighed_by_class_does_not_hang_on_the_batches(function, task):
    logits, targets, size = task
    weight = torch.tensor([5.0, 1.0, 0.3, 2.0, 1.0])[: logits.shape[1]]
    loss = partial(F.cross_entropy, weight=weight) if function else nn.CrossEntropyLoss(weight)
    found = evaluate(Scores(), batches_of(TensorDataset(logits, targets), size), loss)
    each = F.cross_entropy(logits.double(), targets, reduction="none")
    shares = weight.double()[targets] / weight.double()[targets].sum()
    expected = float((each * shares).sum())  # by hand
    assert found.loss == pytest.approx(expected, rel=2e-4, abs=1e-6)


def test_the_loss_of_a_training_epoch_is_measured_likewise():
    logits, targets = torch.randn(22, 3), torch.arange(22) % 3
    head = nn.Linear(3, 3)
    weight = torch.tensor([5.0, 1.0, 0.3])
    for loss in [*list(LOSSES.values())[:4], nn.CrossEntropyLoss(weight)]:
        expected = float(F.cross_entropy(head(logits), targets, getattr(loss, "weight", None)))
        weighed = getattr(loss, "weight", None) is not None
        # A weighed mean is taken over sixteen batches at a time.
        for size in (5, 22) if weighed else (1, 5, 22):
            given_batches = batches_of(TensorDataset(logits, targets), size)
            model = nn.Sequential(nn.Identity(), copy.deepcopy(head))
            run = finetune(model, given_batches, epochs=1, lr=0.0, head_lr_factor=1.0,
                           optimizer=lambda groups: torch.optim.SGD(groups, lr=0.0), loss=loss,
                           device="cpu", head="1")  # fmt: skip
            assert run.train_loss[0] == pytest.approx(expected, rel=1e-4)


def _focal(logits, targets, reduction="mean"):
    each = F.cross_entropy(logits, targets, reduction="none")
    each = (1 - (-each).exp()) ** 2 * each
    return each if reduction == "none" else getattr(each, reduction)()


OWN = {
    "smoothed": (nn.CrossEntropyLoss(label_smoothing=0.1), "the same"),
    "smoothed and weighed": (
        nn.CrossEntropyLoss(torch.tensor([5.0, 1.0, 0.3]), label_smoothing=0.1), "the same"),
    "a class left out": (nn.CrossEntropyLoss(ignore_index=1), "the same"),
    "the focal loss": (_focal, "the same"),
    "its sum": (partial(_focal, reduction="sum"), _focal),
    "each": (partial(_focal, reduction="none"), _focal),
    "margins": (nn.MultiMarginLoss(), "the same"),
    "binary": (lambda x, y: F.binary_cross_entropy_with_logits(
        x, F.one_hot(y, 3).float(), pos_weight=torch.tensor([5.0, 1.0, 0.3])), "the same"),
    "a root": (lambda x, y: F.cross_entropy(x, y).sqrt(), "the same"),
}  # fmt: skip


@pytest.mark.parametrize("name", OWN)
def test_other_losses_are_those_of_all_examples_at_once(name):
    torch.manual_seed(0)
    logits, targets = torch.randn(22, 3), torch.randint(0, 3, (22,))
    loss, of_all = OWN[name]
    expected = float((loss if of_all == "the same" else of_all)(logits, targets))
    for size in (1, 3, 5, 7, 21, 22):
        found = evaluate(Scores(), batches_of(TensorDataset(logits, targets), size), loss)
        assert found.loss == pytest.approx(expected, rel=2e-4)


NO_LOSSES = {
    "a number of Python's": (lambda x, y: 1.5, "as a tensor, or one an example; got float"),
    "nothing": (lambda x, y: None, "got NoneType"),
    "an array": (lambda x, y: F.cross_entropy(x, y).detach().numpy(), "got ndarray"),
    "a tuple": (lambda x, y: (F.cross_entropy(x, y), 1), "got tuple"),
    "a row of one": (lambda x, y: F.cross_entropy(x, y)[None], r"got shape \(1,\)"),
    "a table": (lambda x, y: x, r"got shape \(3, 3\)"),
    "distances, which broadcast": (nn.MSELoss(), "can't take scores of shape .3, 3. and class"),
    "the same as a function": (partial(F.l1_loss), "can't take scores"),
    "of several classes": (nn.BCEWithLogitsLoss(), "can't take scores"),
    "weights of other classes": (nn.CrossEntropyLoss(torch.ones(4)), "one for each score"),
    "a class": (nn.CrossEntropyLoss, r"loss is a class; .*: CrossEntropyLoss\(\)"),
    "a name": ("cross_entropy", "must be a function"),
}


@pytest.mark.parametrize("name", NO_LOSSES)
@pytest.mark.parametrize("way", ["evaluate", "finetune"])
def test_what_is_no_loss_is_refused(net, name, way):
    loss, said = NO_LOSSES[name]
    batches = [(torch.randn(3, 1, 4, 4), torch.tensor([0, 1, 2]))]
    ways = {"evaluate": evaluate, "finetune": partial(finetune, epochs=1, device="cpu")}
    with pytest.raises(TrainingError, match=said):
        ways[way](net, batches, loss=loss)


def test_a_loss_that_leads_back_to_no_weight_does_not_train(net, batches):
    def wrong(logits, targets):
        return (logits.argmax(1) != targets).float().mean()

    assert evaluate(net, batches, wrong).loss == pytest.approx(1 - evaluate(net, batches).accuracy)
    with pytest.raises(TrainingError, match=r"doesn't hang on the weights.*argmax"):
        finetune(net, batches, epochs=1, device="cpu", loss=wrong)


@pytest.mark.parametrize(
    ("targets", "said"),
    [
        (torch.tensor([-1, 0]), "marks examples without a label"),
        (torch.tensor([-100, 2]), "marks examples without a label"),
        (torch.tensor([-100, 7]), r"label.*For the others the head needs at least 8 outputs"),
        (torch.tensor([0, 3]), "head with at least 4 outputs"),
        (torch.tensor([True, False]), r"torch\.bool of shape \(2,\)\. Write targets\.long\(\)"),
        (torch.tensor([0, 1], dtype=torch.int32), r"Write targets\.long\(\)"),
        (torch.tensor([0, 1], dtype=torch.uint8), r"Write targets\.long\(\)"),
        (torch.tensor([0.0, 1.0]), r"Write targets\.long\(\)"),
        (torch.tensor([0.5, 1.0]), "measurements"),
        (torch.tensor([[0], [1]]), r"squeeze\(1\)"),
        (torch.eye(3)[:2], r"one-hot: take targets\.argmax\(1\)"),
        (torch.tensor([[1, 1, 0], [0, 0, 1]]), "Several classes or none"),
        (torch.tensor([[0.7, 0.3, 0.0], [0.0, 1.0, 0.0]]), "MixUp"),
        (torch.zeros(2, 4, 4, dtype=torch.int64), "one a pixel"),
        (("cat", "dog"), r"classes\.index\(name\)"),
        ([0, 1], "whole number for each example"),
    ],
)
@pytest.mark.parametrize("way", ["evaluate", "predict", "finetune"])
def test_the_advice_fits_what_is_wrong_with_targets(net, targets, said, way):
    batches = [(torch.randn(2, 1, 4, 4), targets)]
    ways = {"evaluate": evaluate, "predict": predict,
            "finetune": lambda *each: finetune(*each, epochs=1, device="cpu")}  # fmt: skip
    with pytest.raises(TrainingError, match=said) as told:
        ways[way](net, batches)
    assert ("argmax" in str(told.value)) == ("argmax" in said)


@pytest.mark.parametrize("measure", [evaluate, predict])
def test_pictures_that_are_not_numbers_are_refused(net, measure):
    images, targets = (each.clone() for each in make_set().tensors)
    images[7] = float("nan")
    with pytest.raises(TrainingError, match="scores of example 7 are not numbers"):
        measure(net, TensorDataset(images, targets))


def test_evaluation_leaves_everything_as_it_was(batches):
    net = make_net(dropout=0.5).train()
    net[1].eval()
    net[5].weight.grad = torch.ones_like(net[5].weight)
    before, modes = tensors_of(net), [module.training for module in net.modules()]
    streams = torch.get_rng_state(), random.getstate(), str(numpy.random.get_state())
    first = evaluate(net, DataLoader(Drawing(make_set()), batch_size=5, shuffle=True))
    assert same_tensors(net, before)
    assert [module.training for module in net.modules()] == modes
    assert torch.equal(net[5].weight.grad, torch.ones_like(net[5].weight))
    assert torch.equal(torch.get_rng_state(), streams[0])
    assert (random.getstate(), str(numpy.random.get_state())) == streams[1:]
    assert torch.is_grad_enabled()
    assert first.confusion.equal(evaluate(net, batches).confusion)  # dropout was off


def test_modes_come_back_after_an_error(net, batches):
    net.train()
    net[1].eval()
    with pytest.raises(ZeroDivisionError):
        evaluate(net, batches, loss=lambda logits, targets: 1 / 0)
    assert [module.training for module in net] == [True, False, True, True, True, True]
    assert torch.is_grad_enabled()


def test_an_absent_class_has_a_row_of_zeros():
    logits = torch.eye(3)[torch.tensor([0, 0, 1])]
    found = evaluate(Scores(), [(logits, torch.tensor([0, 0, 0]))])
    assert found.confusion.tolist() == [[2, 1, 0], [0, 0, 0], [0, 0, 0]]
    assert repr(found) == "loss 0.88, accuracy 0.67 (2 of 3)"


def test_predictions_are_the_scores_in_order(net):
    dataset = make_set()
    found = predict(net, DataLoader(dataset, batch_size=5))
    net.eval()
    assert torch.allclose(found.logits, net(dataset.tensors[0]).detach(), atol=1e-6)
    assert torch.equal(found.targets, dataset.tensors[1])
    assert torch.equal(found.indices, torch.arange(26))
    assert torch.allclose(found.probabilities.sum(1), torch.ones(26))
    assert found.accuracy == evaluate(net, DataLoader(dataset, batch_size=5)).accuracy
    assert repr(found) == "26 predictions over 3 classes"
    assert not found.logits.requires_grad
    assert not found.logits.is_inference()


@pytest.mark.parametrize("workers", [0, 1])
def test_indices_lead_to_the_pictures_of_a_shuffled_loader(net, workers):
    dataset = make_set()
    loader = DataLoader(dataset, batch_size=4, shuffle=True, num_workers=workers)
    found = predict(net, loader)
    assert found.indices.tolist() != list(range(26))
    assert sorted(found.indices.tolist()) == list(range(26))
    assert torch.equal(found.targets, dataset.tensors[1][found.indices])
    net.eval()
    again = net(dataset.tensors[0][found.indices]).detach()
    assert torch.allclose(found.logits, again, atol=1e-6)


def test_indices_of_the_course_loader_and_of_a_data_set(net):
    dataset = make_set()
    shuffled = predict(net, data.loader(dataset, batch_size=4, shuffle=True, seed=3))
    assert shuffled.indices.tolist() != list(range(26))
    assert torch.equal(shuffled.targets, dataset.tensors[1][shuffled.indices])
    assert torch.equal(predict(net, dataset).indices, torch.arange(26))


def test_no_indices_where_the_loader_does_not_tell(net, batches):
    class Stream(IterableDataset):
        def __iter__(self):
            yield from make_set()

    assert predict(net, batches).indices is None
    streamed = predict(net, DataLoader(Stream(), batch_size=4))
    assert streamed.indices is None
    assert len(streamed.targets) == 26


def test_most_wrong_come_first():
    logits = torch.tensor([[3.0, 0.0], [1.0, 0.0], [0.0, 9.0], [0.0, 1.0]])
    found = predict(Scores(), [(logits, torch.tensor([1, 1, 0, 1]))])
    assert found.most_wrong().tolist() == [2, 0, 1]
    assert found.most_wrong(1).tolist() == [2]
    assert predict(Scores(), [(logits, logits.argmax(1))]).most_wrong().tolist() == []


def test_confusion_counts_rows_as_truth():
    matrix = confusion_matrix(torch.tensor([1, 1, 0]), torch.tensor([0, 1, 0]), 2)
    assert matrix.tolist() == [[1, 1], [0, 1]]


def test_what_does_not_fit_is_named(net):
    images, targets = make_set().tensors
    with pytest.raises(TrainingError, match="no batch"):
        evaluate(net, [])
    with pytest.raises(TrainingError, match="no example to evaluate"):
        evaluate(net, iter([]))
    with pytest.raises(TrainingError, match="data set is empty"):
        evaluate(net, TensorDataset(images[:0], targets[:0]))
    with pytest.raises(TrainingError, match="drop_last=True"):
        evaluate(net, DataLoader(make_set(3), batch_size=4, drop_last=True))
    with pytest.raises(TrainingError, match="iterable of"):
        evaluate(net, 3)
    with pytest.raises(TrainingError, match="classes 0 to 3, but the model scores 3 classes"):
        evaluate(net, [(images[:2], torch.tensor([3, 0]))])
    with pytest.raises(TrainingError, match="classes -1 to 0"):
        evaluate(net, [(images[:2], torch.tensor([-1, 0]))])
    with pytest.raises(TrainingError, match=r"got shape \(2, 1, 4, 4\)"):
        evaluate(Scores(), [(images[:2], targets[:2])])
    with pytest.raises(TrainingError, match="class numbers"):
        evaluate(net, [(images[:2], torch.zeros(2, 3))])
    with pytest.raises(TrainingError, match="26 rows of scores for 2 targets"):
        evaluate(net, [(images, targets[:2])])
    with pytest.raises(TrainingError, match="Batch 1 is a tuple of 3"):
        evaluate(net, [(images, targets, targets)])
    with pytest.raises(TrainingError, match="images of batch 1 are a list"):
        evaluate(net, [([1], targets)])
    with pytest.raises(TrainingError, match="no examples"):
        accuracy(torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64))
