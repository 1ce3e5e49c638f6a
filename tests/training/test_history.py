import pytest

from course_lib.training import EpochRecord, History


def record(epoch, val=None, test=None, lr=(0.001, 0.01)):
    val_loss, val_acc = val or (None, None)
    test_loss, test_acc = test or (None, None)
    return EpochRecord(
        epoch, 0.5 / epoch, 0.75, lr, 2.0, 50.0, val_loss, val_acc, test_loss, test_acc
    )


def test_table_shows_rounded_numbers_and_no_timings():
    history = History([record(1, test=(0.6666, 0.5)), record(2, test=(0.5555, 0.75))], 2)
    assert history.table() == (
        "epoch  train loss  train acc  test loss  test acc  learning rate\n"
        "    1        0.50       0.75       0.67      0.50   0.001 / 0.01\n"
        "    2        0.25       0.75       0.56      0.75   0.001 / 0.01"
    )
    assert repr(history) == history.table()
    assert "0.6666" in history.table(digits=4)
    assert history.table(timings=True).splitlines()[1].endswith("2.0        50")


def test_table_says_what_the_model_holds_and_why_it_stopped():
    history = History([record(1), record(2)], 1, "interrupted in epoch 3, batch 4")
    assert history.table().splitlines()[-2:] == [
        "stopped early: interrupted in epoch 3, batch 4",
        "the model holds the weights of epoch 1",
    ]
    empty = History(stopped="interrupted in epoch 1, batch 1")
    assert "epoch" in empty.table()
    assert len(empty) == 0


@pytest.mark.parametrize(
    ("vals", "best"),
    [
        ([(0.5, 0.8), (0.4, 0.9), (0.3, 0.9), (0.2, 0.8)], 3),  # accuracy first, then loss
        ([(0.5, 0.9), (0.5, 0.9)], 1),  # then the earlier
        ([(0.5, 0.9)], 1),
    ],
)
def test_best_epoch(vals, best):
    assert History([record(i + 1, val) for i, val in enumerate(vals)]).best_epoch == best


def test_the_test_set_does_not_choose():
    assert History([record(1, test=(0.1, 0.9))]).best_epoch is None
    assert History().best_epoch is None


def test_columns():
    history = History([record(1, (0.4, 0.8)), record(2, (0.3, 0.9))], 2)
    assert history.train_loss == [0.5, 0.25]
    assert history.val_acc == [0.8, 0.9]
    assert history.test_acc == []
    assert history.images_per_second == pytest.approx(50)
    assert [each.epoch for each in history] == [1, 2]
    assert history[-1].epoch == 2
