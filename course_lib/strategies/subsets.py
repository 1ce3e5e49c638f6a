"""Train some of the weights that are there, and nothing else: biases, norms, one layer.

* **BitFit** trains all biases: E. Ben Zaken et al.: BitFit, ACL 2022, arXiv:2106.10199.
* **Norm-only** trains the weights and biases of the normalisation layers: J. Frankle et al.:
  Training BatchNorm and Only BatchNorm, ICLR 2021, arXiv:2003.00152.
* **Surgical** fine-tuning trains one block: Y. Lee et al.: Surgical Fine-Tuning Improves Adaptation
  to Distribution Shifts, ICLR 2023, arXiv:2210.11466.
"""

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from course_lib import freezing
from course_lib.freezing.select import Names, select
from course_lib.strategies.inserts import StrategyError

NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


def train_only(model: nn.Module, names: Names) -> list[str]:
    """Freeze the whole model but the named parts, bit for bit, statistics of BatchNorm included.

    A parameter named on its own trains while its module computes as in inference: a BatchNorm
    layer whose weight is named goes on using its running statistics.
    ``freezing.unfreeze(model, "*")`` gives everything back.

    Args:
        model: any model.
        names: what trains: modules, parameters or patterns.

    Returns:
        The names of the parameters that train, in model order.

    Raises:
        UnknownNameError: a name stands for nothing; nothing has been changed.
        StrategyError: nothing would train; nothing has been changed.
    """
    names = names if isinstance(names, str | nn.Module | Tensor) else list(names)
    if not select(model, names).parameters:
        raise StrategyError("No parameter is among the names, so that nothing would train.")
    freezing.freeze(model, "*")
    freezing.unfreeze(model, names)
    return [name for name, each in model.named_parameters() if each.requires_grad]


def biases(model: nn.Module) -> list[str]:
    """The names of all biases: what BitFit trains beside the head."""
    return [name for name, _ in model.named_parameters() if name.rpartition(".")[2] == "bias"]


def norms(model: nn.Module) -> list[str]:
    """The names of the weights and biases of all normalisation layers."""
    return [
        f"{place}.{name}".lstrip(".")
        for place, module in model.named_modules() if isinstance(module, NORMS)
        for name, _ in module.named_parameters(recurse=False)
    ]  # fmt: skip
