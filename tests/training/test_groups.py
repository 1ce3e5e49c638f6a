import pytest
import torch
import torchvision
from torch import nn

from course_lib.errors import UnknownNameError
from course_lib.training import TrainingError, parameter_groups

from .conftest import make_net


def ids(group):
    return [id(parameter) for parameter in group["params"]]


def test_body_and_head_with_their_learning_rates(net):
    body, head = parameter_groups(net, 0.02, head_lr_factor=5, weight_decay=0.1)
    assert (body["name"], body["lr"], body["weight_decay"]) == ("body", 0.02, 0.1)
    assert (head["name"], head["lr"], head["weight_decay"]) == ("head", 0.02 * 5, 0.1)
    assert ids(head) == [id(net[5].weight), id(net[5].bias)]
    assert ids(body) + ids(head) == [id(parameter) for parameter in net.parameters()]
    assert torch.optim.SGD([body, head]).param_groups[1]["name"] == "head"


def test_the_usual_head_is_ten_times_faster(net):
    body, head = parameter_groups(net, 1e-3)
    assert head["lr"] == pytest.approx(10 * body["lr"])


def test_a_real_network():
    model = torchvision.models.resnet18(num_classes=2)
    body, head = parameter_groups(model, 1e-3)
    assert ids(head) == [id(model.fc.weight), id(model.fc.bias)]
    assert len(set(ids(body) + ids(head))) == len(list(model.parameters()))


@pytest.mark.parametrize("name", ["0", "1", "5"])
def test_head_by_name_or_module_or_list(net, name):
    by_name = parameter_groups(net, 1.0, head=name)
    by_module = parameter_groups(net, 1.0, head=net[int(name)])
    by_list = parameter_groups(net, 1.0, head=[name])
    assert [ids(each) for each in by_name] == [ids(each) for each in by_module]
    assert [ids(each) for each in by_name] == [ids(each) for each in by_list]
    assert ids(by_name[1]) == [id(parameter) for parameter in net[int(name)].parameters()]


def test_frozen_parameters_are_in_no_group(net):
    net[0].weight.requires_grad_(False)
    net[5].bias.requires_grad_(False)
    body, head = parameter_groups(net, 1.0)
    assert id(net[0].weight) not in ids(body)
    assert ids(head) == [id(net[5].weight)]


def test_a_frozen_body_has_no_group(net):
    net[:5].requires_grad_(False)
    (head,) = parameter_groups(net, 1.0)
    assert head["name"] == "head"


def test_a_tied_weight_is_in_one_group_once():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.again, self.fc = (nn.Linear(3, 3) for _ in range(3))
            self.again.weight = self.first.weight
            self.fc.weight = self.first.weight

    model = Tied()
    body, head = parameter_groups(model, 1.0)
    assert ids(body) == [id(model.first.bias), id(model.again.bias)]
    assert ids(head) == [id(model.first.weight), id(model.fc.bias)]


def test_errors_name_what_is_wrong(net):
    with pytest.raises(UnknownNameError, match=r"no module named 'fc'.*'0', '1'"):
        parameter_groups(net, 1.0, head="fc")
    with pytest.raises(UnknownNameError, match="no module named ''"):
        parameter_groups(net, 1.0, head="")
    with pytest.raises(UnknownNameError, match="Linear given as head is not a part"):
        parameter_groups(net, 1.0, head=nn.Linear(1, 1))
    with pytest.raises(TrainingError, match="names no head"):
        parameter_groups(net, 1.0, head=[])
    with pytest.raises(TrainingError, match="The head 2 has no parameter"):
        parameter_groups(net, 1.0, head="2")
    for name in ("lr", "head_lr_factor", "weight_decay"):
        with pytest.raises(TrainingError, match=f"{name} must be"):
            parameter_groups(net, **{"lr": 1.0, name: -1.0})
    with pytest.raises(TrainingError, match="lr must be"):
        parameter_groups(net, float("nan"))


def test_the_nearest_names_are_offered():
    model = torchvision.models.resnet18(num_classes=2)
    with pytest.raises(UnknownNameError, match=r"'layer5'.*Did you mean 'layer[1-4]'"):
        parameter_groups(model, 1.0, head="layer5")


def test_nothing_to_train_says_so():
    net = make_net().requires_grad_(False)
    with pytest.raises(TrainingError, match="Nothing to train"):
        parameter_groups(net, 1.0)
