"""A copy of a model's weights and buffers that can be put back."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from course_lib.training.errors import TrainingError


def named_tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Every parameter and buffer (...) with its name, the buffers that aren't saved too."""
    yield from model.named_parameters()
    yield from model.named_buffers()


class WeightSnapshot:
    """Every parameter and buffer of a model as it is now, in memory of its own.

    A ``state_dict()`` won't do: its tensors *are* the model's, so they go on training.
    """

    def __init__(self, model: nn.Module) -> None:
        for name, tensor in named_tensors(model):
            if is_lazy(tensor):
                raise TrainingError(
                    f"{name!r} has no shape yet (a lazy module). Run one batch through the model "
                    "first: model(images)."
                )
        self.tensors = {name: each.detach().clone() for name, each in named_tensors(model)}

    def restore(self, model: nn.Module) -> None:
        """Put the copied values back into the model's own tensors, bit by bit.

        The tensors stay the same objects, so an optimizer that holds them goes on holding them;
        one that hasn't changed isn't touched.
        """
        try:
            self._copy_into(model)
        except KeyboardInterrupt:  # an impatient second one: half a model would be worse
            self._copy_into(model)
            raise

    @torch.no_grad()
    def _copy_into(self, model: nn.Module) -> None:
        for name, tensor in named_tensors(model):
            if not torch.equal(tensor, self.tensors[name]):
                tensor.copy_(self.tensors[name])
