"""Two tensors are the same when their memory is: whatever the numbers stand for."""

import pytest
import torch
from torch import nn

from course_lib.freezing import audit
from course_lib.freezing.bits import same_bits

NAN = float("nan")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (torch.tensor([NAN, 1.0]), torch.tensor([NAN, 1.0]), True),
        (torch.tensor([0.0]), torch.tensor([-0.0]), False),
        (torch.zeros(2), torch.zeros(2, 1), False),
        (torch.zeros(2), torch.zeros(2).int(), False),
        (torch.zeros(0), torch.zeros(0), True),
        (torch.arange(9.0)[1:], torch.arange(1.0, 9.0), True),  # begins at an odd place
        (torch.arange(9.0)[1:], torch.arange(8.0), False),
        (torch.eye(3).t(), torch.eye(3), True),
        (torch.tensor([True]), torch.tensor([False]), False),
        (torch.tensor([1 + 2j]).conj(), torch.tensor([1 - 2j]), True),
        (torch.tensor([1 + 2j]).conj(), torch.tensor([1 + 2j]), False),
    ],
)
def test_same_bits(one, other, same):
    assert same_bits(one, other) is same_bits(other, one) is same


@pytest.mark.parametrize("layout", [torch.sparse_coo, torch.sparse_csr])
@pytest.mark.filterwarnings("ignore:Sparse")
def test_sparse_tensors_by_what_they_stand_for(layout):
    one = torch.tensor([[0.0, NAN], [3.0, 0.0]])
    other = one.clone()
    other[1, 0] = 4
    first, second = (each.to_sparse(layout=layout) for each in (one, other))
    assert same_bits(first, first.clone())
    assert same_bits(first, one)
    assert not same_bits(first, second)


def test_audit_of_sparse_buffers():
    model = nn.Linear(2, 2)
    for name in ("still", "moved"):
        model.register_buffer(name, torch.tensor([[0.0, NAN], [3.0, 0.0]]).to_sparse())

    def step(model, optimizer):
        model(torch.ones(1, 2)).sum().backward()
        model.moved = torch.tensor([[0.0, NAN], [5.0, 0.0]]).to_sparse()
        optimizer.step()

    report = audit(model, torch.optim.SGD(model.parameters(), lr=0.1), step)
    assert not report["still"].changed
    assert report["moved"].changed
    assert "not_finite" in {each.code for each in report["still"].findings}


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_quantised_tensors_by_number_and_scale():
    numbers = torch.tensor([1.0, 2.0])
    one, other = (torch.quantize_per_tensor(numbers, scale, 0, torch.qint8) for scale in (0.1, 0.2))
    assert same_bits(one, one.clone())
    assert not same_bits(one, other)
