"""Full or mixed precision, on one code path."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim import Optimizer

from course_lib.training.errors import TrainingError


@dataclass(frozen=True)
class Precision:
    """Where and how precisely to compute.

    Attributes:
        device: the device.
        dtype: of the matrix products and convolutions in mixed precision; None for full.
        scaler: multiplies the loss so that small float16 gradients don't become zero; it passes
            everything through unchanged when it isn't needed.
    """

    device: torch.device
    dtype: torch.dtype | None
    scaler: torch.amp.GradScaler

    @classmethod
    def choose(cls, device: torch.device, amp: bool | torch.dtype) -> "Precision":
        """The precision for ``amp`` on ``device``: see :func:`course_lib.training.finetune`.

        Raises:
            TrainingError: a dtype that isn't one of mixed precision.
        """
        usual = torch.float16 if device.type == "cuda" else torch.bfloat16
        dtype = amp if isinstance(amp, torch.dtype) else usual if amp else None
        if dtype not in (None, torch.float16, torch.bfloat16):
            raise TrainingError(
                f"amp must be True, False, torch.float16 or torch.bfloat16; got {amp!r}."
            )
        # bfloat16 has the range of float32: only float16 needs its loss scaled.
        scaler = torch.amp.GradScaler(device.type, enabled=dtype is torch.float16)
        return cls(device, dtype, scaler)

    @property
    def overlap(self) -> bool:
        """Whether copies to the device may go on while the program does."""
        return self.device.type == "cuda"

    def autocast(self) -> AbstractContextManager[None]:
        """The context for the forward pass, whatever precision it is called in."""
        if self.dtype is None and not torch.is_autocast_enabled(self.device.type):
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype is not None)

    def step(self, loss: Tensor, optimizer: Optimizer) -> None:
        """Backward pass from a loss (), and optimizer step."""
        self.scaler.scale(loss).backward()
        self.scaler.step(optimizer)
        self.scaler.update()
