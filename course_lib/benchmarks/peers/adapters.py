"""Each library behind the same few calls.

An adapter is thin: every method is what the library's documentation tells a user to write. Where a
library has no call for something, the adapter says so (:class:`NotOffered`) and doesn't help out.
"""

import abc
import importlib.metadata
import logging
import warnings
from collections.abc import Iterable, Sequence
from functools import cached_property, partial
from typing import Any

import torch
from torch import nn

from course_lib import freezing
from course_lib.benchmarks.peers import bench_model
from course_lib.benchmarks.peers.bench_model import LR, MOMENTUM, WEIGHT_DECAY


class NotOffered(Exception):  # noqa: N818 - it is an answer, no error
    """The library has no call for this; the message is a sentence that says what it has."""


class Adapter(abc.ABC):
    """One model in the hands of one library. What it has no call for raises NotOffered.

    Args:
        model: the model to work on.
        part: dotted names of the modules that ``freeze`` and ``unfreeze`` are about.
        defaults: use only what the library does unasked. Otherwise it is asked to hold BatchNorm
            too, as its documentation says.
    """

    title: str
    package: str
    part_by = "You write its name."  # how a user says what to freeze
    stages_by = ""  # what trains in stages, if there is such a thing
    no_names = ""  # why there can't be a wrong name
    no_lists = ""  # why there can't be an empty list

    def __init__(
        self, model: nn.Module, part: Sequence[str] = ("backbone",), defaults: bool = False
    ) -> None:
        self.model, self.part, self.defaults = model, list(part), defaults
        self.optimizer: Any = None
        self.data = bench_model.batches()

    @abc.abstractmethod
    def freeze(self) -> None:
        """Freeze the part."""

    @abc.abstractmethod
    def unfreeze(self) -> None:
        """Let the part go again."""

    def unfreeze_into_optimizer(self) -> None:
        """Let the part go, and see to it that the running optimizer knows it."""
        self.unfreeze()

    def start(self) -> None:
        """Make the optimizer: SGD with momentum and weight decay."""
        trainable = [each for each in self.model.parameters() if each.requires_grad]
        self.optimizer = torch.optim.SGD(
            trainable, lr=LR, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY
        )

    def train(self) -> None:
        """One epoch."""
        bench_model.train(self.model, self.optimizer, self.data)

    def held(self) -> list[nn.Parameter]:
        """All parameters in the optimizer; one that is there twice stands here twice."""
        return [each for group in self.optimizer.param_groups for each in group["params"]]

    def freeze_tensor(self, name: str) -> None:
        """Freeze one parameter by its name."""
        raise NotOffered("It freezes whole modules.")

    def freeze_but_batchnorm(self) -> None:
        """Freeze the part in one call and let its BatchNorm layers train on purpose."""
        raise NotOffered("There is no switch for it.")

    def head_then_all(self) -> None:
        """One call or one object that trains the head first, then everything."""
        raise NotOffered("Your own loop trains in stages.")

    def modules(self) -> list[nn.Module]:
        """The modules of the part."""
        return [self.model.get_submodule(name) for name in self.part]


class Ours(Adapter):
    """``course_lib.freezing``."""

    title, package = "this course", "pretrain-finetune-freeze"

    def freeze(self) -> None:
        """By names."""
        freezing.freeze(self.model, self.part)

    def unfreeze(self) -> None:
        """By names, with the optimizer at hand."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it says what stays off, since you had switched it off
            freezing.unfreeze(self.model, self.part, optimizer=self.optimizer)

    def freeze_tensor(self, name: str) -> None:
        """A parameter's name is a name like any other."""
        freezing.freeze(self.model, name)

    def freeze_but_batchnorm(self) -> None:
        """Not offered: one names what is to be frozen."""
        raise NotOffered("No switch: you name the layers to freeze, all but BatchNorm.")

    def head_then_all(self) -> None:
        """Not offered here."""
        raise NotOffered("course_lib.freezing freezes; stages are the training loop's.")


class Timm(Adapter):
    """``timm.utils.model.freeze`` and ``unfreeze``; the optimizer is timm's too."""

    title, package = "timm", "timm"

    def freeze(self) -> None:
        """By dotted names; BatchNorm is frozen along unless you say otherwise."""
        from timm.utils.model import freeze

        freeze(self.model, self.part)

    def unfreeze(self) -> None:
        """By dotted names. timm knows of no running optimizer."""
        from timm.utils.model import unfreeze

        unfreeze(self.model, self.part)

    def unfreeze_into_optimizer(self) -> None:
        """Not offered."""
        raise NotOffered("timm's calls know no optimizer: you make a new one after unfreezing.")

    def start(self) -> None:
        """timm's factory takes the parameters that require a gradient."""
        from timm.optim import create_optimizer_v2

        self.optimizer = create_optimizer_v2(
            self.model, opt="momentum", lr=LR, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY
        )

    def freeze_but_batchnorm(self) -> None:
        """The argument is about the running statistics."""
        from timm.utils.model import freeze

        freeze(self.model, self.part, include_bn_running_stats=False)


class Lightning(Adapter):
    """``BaseFinetuning``'s calls, which a callback makes before training and between epochs."""

    title, package = "Lightning", "lightning"
    part_by = "You hand over the module itself."
    stages_by = "The callback BackboneFinetuning does both stages."
    no_names = "Lightning takes modules, no names; a misspelt attribute is Python's error."

    def freeze(self) -> None:
        """By modules; BatchNorm goes on training unless ``train_bn=False``."""
        from lightning.pytorch.callbacks import BaseFinetuning

        BaseFinetuning.freeze(self.modules(), **({} if self.defaults else {"train_bn": False}))

    def unfreeze(self) -> None:
        """A new parameter group with what the optimizer lacks."""
        from lightning.pytorch.callbacks import BaseFinetuning

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it says which parameters it skips
            BaseFinetuning.unfreeze_and_add_param_group(self.modules(), self.optimizer, lr=LR)

    def freeze_but_batchnorm(self) -> None:
        """``train_bn=True`` is the default."""
        self.defaults = True
        self.freeze()

    def head_then_all(self) -> None:
        """A Trainer with the callback ``BackboneFinetuning``."""
        from lightning.pytorch import LightningModule, Trainer
        from lightning.pytorch.callbacks import BackboneFinetuning

        model = self.model
        loader: Any = torch.utils.data.DataLoader(self.data, batch_size=None)  # type: ignore[arg-type]

        class Module(LightningModule):
            def __init__(self) -> None:
                super().__init__()
                self.whole, self.backbone = model, model.backbone

            def training_step(self, batch: Any, _: int) -> torch.Tensor:
                return nn.functional.cross_entropy(self.whole(batch[0]), batch[1])

            def configure_optimizers(self) -> torch.optim.Optimizer:
                trainable = [each for each in self.parameters() if each.requires_grad]
                return torch.optim.SGD(trainable, lr=LR, momentum=MOMENTUM)

        logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # hints on speed, and on parameters it skips
            trainer = Trainer(
                max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False,
                enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
                callbacks=[BackboneFinetuning(unfreeze_backbone_at_epoch=1, train_bn=False)],
            )  # fmt: skip
            trainer.fit(Module(), loader)


class Fastai(Adapter):
    """A ``Learner`` with two parameter groups; ``freeze_to`` freezes all groups before one."""

    title, package = "fastai", "fastai"
    part_by = "You write a splitter that makes it a group."
    stages_by = "fine_tune does both stages."
    no_names = "fastai takes groups, no names; a misspelt attribute is Python's error."
    no_lists = "fastai freezes all groups before one of them; there is no list."

    first: list[nn.Parameter] | None = None  # of the two groups

    def freeze(self) -> None:
        """All groups but the last."""
        self.learner.freeze()
        self.optimizer = self.learner.opt

    def unfreeze(self) -> None:
        """All groups."""
        self.learner.unfreeze()

    def start(self) -> None:
        """The Learner makes its optimizer, over all groups."""
        if self.learner.opt is None:
            self.learner.create_opt()
        self.optimizer = self.learner.opt

    def train(self) -> None:
        """``fit`` for one epoch, without bar and log."""
        with self.learner.no_bar(), self.learner.no_logging():
            self.learner.fit(1)
        self.optimizer = self.learner.opt

    def freeze_tensor(self, name: str) -> None:
        """A splitter may put any parameter into the first group."""
        self.first = [self.model.get_parameter(name)]
        self.freeze()

    def freeze_but_batchnorm(self) -> None:
        """``train_bn=True`` is the default."""
        self.defaults = True
        self.freeze()

    def head_then_all(self) -> None:
        """``fine_tune``: one epoch frozen, then one for everything."""
        with self.learner.no_bar(), self.learner.no_logging():
            self.learner.fine_tune(1)

    def _split(self, model: nn.Module) -> list[list[nn.Parameter]]:
        from fastai.torch_core import params

        if self.first is None:
            self.first = [each for module in self.modules() for each in params(module)]
        inside = {id(each) for each in self.first}
        return [self.first, [each for each in params(model) if id(each) not in inside]]

    @cached_property
    def learner(self) -> Any:
        """Made when it is first asked for, with the settings of that moment."""
        from fastai.callback.training import BnFreeze
        from fastai.data.core import DataLoaders
        from fastai.learner import Learner
        from fastai.optimizer import SGD

        import fastai.callback.schedule  # isort: skip  # noqa: F401 - fine_tune lives there

        pictures = [pair for x, y in self.data for pair in zip(x, y, strict=True)]
        loaders = DataLoaders.from_dsets(
            pictures, pictures, bs=8, shuffle=False, num_workers=0, device=torch.device("cpu")
        )
        still: dict[str, Any] = {} if self.defaults else {"train_bn": False, "cbs": [BnFreeze()]}
        return Learner(
            loaders, self.model, loss_func=nn.CrossEntropyLoss(), lr=LR, wd=WEIGHT_DECAY,
            opt_func=partial(SGD, mom=MOMENTUM), moms=(MOMENTUM,) * 3, splitter=self._split,
            **still,
        )  # fmt: skip


LIBRARIES: tuple[type[Adapter], ...] = (Ours, Timm, Lightning, Fastai)


def version_of(library: type[Adapter]) -> str:
    """The version that is installed; empty if there is none."""
    try:
        return importlib.metadata.version(library.package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def ids(parameters: Iterable[nn.Parameter]) -> set[int]:
    """Which objects these are: equal values don't make two parameters one."""
    return {id(each) for each in parameters}
