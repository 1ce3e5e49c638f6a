"""A network whose layers are shared out among processes (FSDP2), and the whole one beside it.

Each process keeps a part of every layer, of its gradients and moments, and fetches the rest of a
layer when its turn comes. For networks that one device can't hold with all that training needs.
Files hold whole networks: what one process has begun, two with shared layers may go on with.
"""

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from course_lib.jobs.ranks import Ranks


def shared_out(model: nn.Module, parts: Sequence[str], place: Ranks) -> nn.Module:
    """A copy of a network on the processes' devices, its layers shared out among them.

    Args:
        model: whole, in the processor's memory; it stays as it is.
        parts: names of the layers that are fetched one at a time; what is in none of them is
            fetched with the network itself.
        place: the processes.
    """
    made = copy.deepcopy(model).to(place.device)
    mesh = init_device_mesh(place.device.type, (place.world,))
    for name in parts:
        for each in _called(made.get_submodule(name)):
            if any(True for _ in each.parameters()):
                fully_shard(each, mesh=mesh)
    fully_shard(made, mesh=mesh)
    return made


def _called(part: nn.Module) -> Iterator[nn.Module]:
    """The layers in a part that are called: a list of layers is none itself."""
    if isinstance(part, nn.ModuleList | nn.ModuleDict):
        for each in part.children():
            yield from _called(each)
    else:
        yield part


def collect(shared: nn.Module, optimizer: Optimizer, whole: nn.Module, whole_s: Optimizer) -> None:
    """Bring network and optimizer as they are into the whole ones; every process calls it.

    Args:
        shared: made by :func:`shared_out`.
        optimizer: its own.
        whole: the network that gets its values.
        whole_s: the optimizer of ``whole``, with the same groups.
    """
    whole.load_state_dict(_whole(shared.state_dict()))
    whole_s.load_state_dict(_whole(optimizer.state_dict()))


def spread(whole: nn.Module, shared: nn.Module) -> None:
    """Give every process its part of the whole network's values."""
    values = whole.state_dict()
    with torch.no_grad():
        for name, mine in shared.state_dict().items():
            mine.copy_(_like(values[name], mine))


def spread_optimizer(whole_s: Optimizer, optimizer: Optimizer) -> None:
    """Give every process its part of the whole optimizer's moments."""
    state = whole_s.state_dict()
    mine = [each for group in optimizer.param_groups for each in group["params"]]
    for number, moments in state["state"].items():
        for name, value in moments.items():
            if isinstance(value, torch.Tensor) and value.shape == mine[number].shape:
                moments[name] = _like(value, mine[number])
    optimizer.load_state_dict(state)


def _whole(value: Any) -> Any:
    if isinstance(value, DTensor):
        return value.full_tensor().cpu()
    if isinstance(value, torch.Tensor):
        return value.cpu()
    if isinstance(value, dict):
        return type(value)((key, _whole(each)) for key, each in value.items())
    return [_whole(each) for each in value] if isinstance(value, list) else value


def _like(value: torch.Tensor, mine: torch.Tensor) -> torch.Tensor:
    """A whole value as the part of it that ``mine`` is."""
    value = value.detach().to(mine.device)
    if not isinstance(mine, DTensor):
        return value
    return distribute_tensor(value, mine.device_mesh, mine.placements)
