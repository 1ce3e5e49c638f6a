"""However a run ends, the model holds the weights of the best epoch that was finished."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import example, given, settings
from torch import nn

from course_lib.training import NonFiniteLossError, TrainingError, WeightSnapshot, finetune

from .conftest import batches_of, make_net, make_set, same_tensors, tensors_of

EPOCHS, BATCHES, VAL_BATCHES = 3, 6, 2
VAL = batches_of(make_set(8, seed=1), 5)


class Trap:
    """Batches that raise before the given one of all that are asked for."""

    def __init__(self, batches, at, error):
        self.batches, self.at, self.error, self.asked = batches, at, error, 0

    def __len__(self):
        return len(self.batches)

    def __iter__(self):
        for batch in self.batches:
            if self.asked == self.at:
                raise self.error
            self.asked += 1
            yield batch


def run(train, val, net, **options):
    """Train, and keep what the model was after each epoch."""
    seen = [tensors_of(net)]
    history = error = None
    try:
        history = finetune(
            net, train, val=val, epochs=EPOCHS, lr=0.02, momentum=0.9,
            on_epoch_end=lambda end: seen.append(tensors_of(end.model)), **options
        )  # fmt: skip
    except BaseException as raised:  # KeyboardInterrupt too
        error = raised
    return seen, history, error


def best_of(epochs):
    return min(epochs, key=lambda each: (-each.val_acc, each.val_loss)).epoch if epochs else 0


@settings(max_examples=25)
@given(st.integers(0, EPOCHS * BATCHES - 1), st.booleans())
@example(0, True)
@example(BATCHES, True)
@example(EPOCHS * BATCHES - 1, False)
def test_stopped_at_any_training_batch(at, with_val):
    net = make_net()
    train = Trap(batches_of(make_set()), at, KeyboardInterrupt())
    seen, history, error = run(train, VAL if with_val else None, net)
    assert error is None
    finished = at // BATCHES
    assert len(history) == finished
    kept = best_of(history) if with_val else finished
    assert history.kept_epoch == kept
    assert same_tensors(net, seen[kept])
    where = f", batch {at % BATCHES}" if at % BATCHES else ""
    assert history.stopped == f"interrupted in epoch {finished + 1}{where}"
    assert history.interrupted
    assert all(parameter.grad is None for parameter in net.parameters())
    assert {module.training for module in net.modules()} == {finished == 0}


@settings(max_examples=10)
@given(st.integers(0, EPOCHS * VAL_BATCHES - 1))
def test_stopped_at_any_validation_batch(at):
    net = make_net()
    seen, history, _ = run(batches_of(make_set()), Trap(VAL, at, KeyboardInterrupt()), net)
    assert len(history) == at // VAL_BATCHES
    assert same_tensors(net, seen[best_of(history)])


def test_a_script_can_let_the_interrupt_go_on():
    net = make_net()
    train = Trap(batches_of(make_set()), BATCHES + 2, KeyboardInterrupt())
    seen, _, error = run(train, None, net, on_interrupt="raise")
    assert isinstance(error, KeyboardInterrupt)
    assert error.__notes__ == [
        "The training ended in epoch 2, batch 2; the model holds the weights of epoch 1."
    ]
    assert same_tensors(net, seen[1])


@pytest.mark.parametrize("at", [0, 3, BATCHES + 3])
def test_an_error_in_the_data_leaves_the_best_weights(at):
    net = make_net()
    net[1].eval()
    seen, _, error = run(Trap(batches_of(make_set()), at, OSError("disk gone")), VAL, net)
    assert str(error) == "disk gone"
    assert "the model holds the weights" in error.__notes__[0]
    assert same_tensors(net, seen[at // BATCHES])
    if at < BATCHES:  # nothing finished: modes as they were, too
        assert [module.training for module in net] == [True, False, True, True, True, True]


def test_an_interrupt_in_the_callback_keeps_the_epoch():
    net, seen = make_net(), []

    def callback(end):
        seen.append(tensors_of(end.model))
        end.model[5].weight.data.zero_()
        raise KeyboardInterrupt

    history = finetune(net, batches_of(make_set()), epochs=2, on_epoch_end=callback)
    assert history.kept_epoch == len(history) == 1
    assert same_tensors(net, seen[0])


def test_a_loss_that_is_not_finite_is_named():
    net = make_net()
    train = batches_of(make_set())
    poison = [*train[:2], (train[2][0] * float("inf"), train[2][1]), *train[3:]]

    class Later(list):
        def __iter__(self):
            self.rounds = getattr(self, "rounds", 0) + 1
            return iter(train if self.rounds == 1 else poison)

    seen, _, error = run(Later(train), VAL, net)
    assert isinstance(error, NonFiniteLossError)
    assert (error.epoch, error.batch) == (2, 3)
    assert "training loss became nan in epoch 2 of 3, batch 3" in str(error)
    assert "0.02 for body, 0.2 for head" in str(error)
    assert "lr=0.002" in str(error)
    assert "holds the weights of epoch 1" in str(error)
    assert same_tensors(net, seen[1])


@pytest.mark.parametrize("every", [1, 4, 100])
def test_the_first_such_batch_is_named_when_read_later(every, monkeypatch):
    from course_lib.training.epochs import _Sums

    told = []
    refuse = lambda value, batch: told.append(batch)  # noqa: E731
    sums = _Sums(every, nn.functional.cross_entropy, refuse)
    for value in (1.0, 2.0, float("inf"), 1.0, float("nan")):
        scores, targets = torch.tensor([[0.0, 1.0], [1.0, 0.0]]), torch.tensor([1, 1])
        sums.add(torch.tensor(value), scores, targets)
    sums.settle()
    assert told[0] == 3
    assert (sums.right, sums.n) == (5, 10)


def test_a_learning_rate_far_too_high_stops_with_finite_weights():
    net = make_net()
    before = tensors_of(net)
    with pytest.raises(NonFiniteLossError, match="ten times smaller"):
        finetune(net, batches_of(make_set()), epochs=50, lr=1e30)
    assert all(each.isfinite().all() for each in tensors_of(net).values())
    assert same_tensors(net, before)


def test_weights_ruined_by_the_last_step_are_seen():
    net = make_net()
    before = tensors_of(net)
    with pytest.raises(NonFiniteLossError, match="weights are no longer finite in epoch 1 of 1 "):
        finetune(
            net, batches_of(make_set(4)), epochs=1, lr=1e20,
            loss=lambda logits, targets: 1e30 * nn.functional.cross_entropy(logits, targets),
        )  # fmt: skip
    assert same_tensors(net, before)


def test_a_validation_loss_that_is_not_finite_is_named():
    net = make_net()
    before = tensors_of(net)
    bad = [(VAL[0][0] * float("nan"), VAL[0][1])]
    with pytest.raises(NonFiniteLossError, match="validation loss became nan in epoch 1") as error:
        finetune(net, batches_of(make_set()), val=bad, epochs=2)
    assert error.value.batch is None
    assert same_tensors(net, before)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, y: (x, y + 1), "classes 1 to 3, but the model scores 3 classes"),
        (lambda x, y: (x, y.float()), "class numbers"),
        (lambda x, y: (x, y, y), "Batch 1 is a tuple of 3"),
        (lambda x, y: {"x": x}, "Batch 1 is a dict"),
    ],
)
def test_batches_that_do_not_fit_are_refused_and_nothing_changes(change, message):
    net = make_net()
    before = tensors_of(net)
    with pytest.raises(TrainingError, match=message):
        finetune(net, [change(*batch) for batch in batches_of(make_set(), 6)], epochs=1)
    assert same_tensors(net, before)
    assert net.training


def test_outputs_and_losses_that_do_not_fit_are_refused():
    net = make_net()
    train = batches_of(make_set())
    before = tensors_of(net)
    with pytest.raises(TrainingError, match=r"got shape \(5,\). Choose its reduction"):
        finetune(net, train, loss=nn.CrossEntropyLoss(reduction="none"))
    with pytest.raises(TrainingError, match="got float"):
        finetune(net, train, loss=lambda logits, targets: 1.0)
    assert same_tensors(net, before)
    with pytest.raises(TrainingError, match=r"got shape \(5, 4, 4, 4\)"):
        finetune(net[:3], train, head="0")


def test_a_batch_of_one_example_gets_advice():
    net = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(16), nn.Linear(16, 3))
    with pytest.raises(ValueError, match="more than 1 value per channel") as error:
        finetune(net, batches_of(make_set()))
    assert "drop_last=True" in error.value.__notes__[1]


def test_a_snapshot_gives_back_the_same_objects_and_touches_only_what_changed():
    net = make_net()
    net.register_buffer("aside", torch.zeros(2), persistent=False)
    snapshot = WeightSnapshot(net)
    before = tensors_of(net)
    objects = [id(each) for each in [*net.parameters(), *net.buffers()]]
    with torch.no_grad():
        net[5].weight.fill_(float("nan"))
        net.aside.add_(1)
    untouched = net[0].weight._version
    snapshot.restore(net)
    assert same_tensors(net, before)
    assert [id(each) for each in [*net.parameters(), *net.buffers()]] == objects
    assert net[0].weight._version == untouched


def test_a_second_interrupt_does_not_leave_half_a_model(monkeypatch):
    net = make_net()
    snapshot, before = WeightSnapshot(net), tensors_of(net)
    with torch.no_grad():
        for each in net.parameters():
            each.add_(1)
    equal, calls = torch.equal, []

    def impatient(a, b):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return equal(a, b)

    monkeypatch.setattr(torch, "equal", impatient)
    with pytest.raises(KeyboardInterrupt):
        snapshot.restore(net)
    monkeypatch.undo()
    assert same_tensors(net, before)
