"""Two hops: a network is trained for a first task, and what it learned is the start for a second.

Hop one gives a :class:`PretrainedModel`, which is saved. Hop two loads it into a
:class:`TransferModel`: the same body, held fixed, with a new head on the body's features::

    first = PretrainedModel("resnet18", cifar10.classes)
    training.finetune(first, cifar10, ...)
    first.save("first.safetensors")

    second = TransferModel(PretrainedModel.load("first.safetensors"), cifar100.classes)
    training.finetune(second, cifar100, ...)
    second.save("second.safetensors")

Transfer from an intermediate task, and when it pays: J. Phang, T. Févry, S. Bowman: Sentence
Encoders on STILTs, 2018, arXiv:1811.01088; A. Zamir et al.: Taskonomy, CVPR 2018,
arXiv:1804.08328.
"""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from course_lib import backbones, freezing, weights
from course_lib.backbones.heads import Head, head_names
from course_lib.strategies.inserts import StrategyError


class TwoPartModel(nn.Module):
    """A body and a head: scores (B, K) for images (B, 3, H, W).

    Attributes:
        backbone: name of the body's architecture, as in :func:`course_lib.backbones.names`.
        classes: names of the K classes.
        body: gives features (B, F) for images.
        head: one linear layer, gives scores for features.
    """

    def __init__(self, backbone: str, body: nn.Module, features: int, classes: Sequence[str]):
        super().__init__()
        if isinstance(classes, str) or not classes or len(set(classes)) != len(classes):
            raise StrategyError(
                f"classes is {classes!r}; expected a list of different names, one a class."
            )
        self.backbone, self.classes = backbone, [str(each) for each in classes]
        self.body = body
        self.head = nn.Linear(features, len(self.classes))

    def forward(self, images: Tensor) -> Tensor:
        """Scores (B, K) for images (B, 3, H, W)."""
        return self.head(self.body(images))

    def check_labels(self, targets: Sequence[int] | Tensor) -> None:
        """Refuse labels that the head has no output for.

        Args:
            targets: class numbers (N,).

        Raises:
            StrategyError: a label below 0, or of an output that doesn't exist.
        """
        found = sorted({int(each) for each in targets})
        if found and not 0 <= found[0] <= found[-1] < len(self.classes):
            raise StrategyError(
                f"The labels go from {found[0]} to {found[-1]}, and the head has "
                f"{len(self.classes)} outputs, 0 to {len(self.classes) - 1}. Make the model with "
                "the classes of these data."
            )

    def save(self, path: str | Path, **about: Any) -> Path:
        """Save weights, architecture and class names in one file.

        Args:
            path: as for :func:`course_lib.weights.save_weights`, which takes ``about`` too.
        """
        known = {"backbone": self.backbone, "classes": self.classes}
        return weights.save_weights(self, path, extra=known, **about)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """The model that was saved, in evaluation mode, frozen where it was made frozen.

        Raises:
            CheckpointError: the file can't be read.
            StrategyError: the file holds another kind of model.
        """
        checkpoint = weights.read_checkpoint(path)
        about = checkpoint.metadata
        if about.get("model") != cls.__name__ or "extra" not in about:
            raise StrategyError(
                f"{Path(path).name} holds {about.get('model') or 'weights without a name'}; "
                f"expected a {cls.__name__} that its own save() wrote."
            )
        model = cls._blank(about["extra"]["backbone"], about["extra"]["classes"])
        weights.load_weights(model, checkpoint)
        return model.eval()

    @classmethod
    def _blank(cls, backbone: str, classes: Sequence[str]) -> Self:
        """A model of that architecture whose weights are still to come."""
        raise NotImplementedError


class PretrainedModel(TwoPartModel):
    """The first hop's network.

    Args:
        backbone: a name such as ``"resnet18"``.
        classes: of the first task.
        pretrained: start from ImageNet's weights. Then the first hop is a fine-tuning already; with
            False it is a training from scratch.

    Raises:
        UnknownNameError: no such backbone.
        StrategyError: classes that aren't a list of different names, or a network whose head is not
            one linear layer.
    """

    def __init__(self, backbone: str, classes: Sequence[str], pretrained: bool = True) -> None:
        network = backbones.load(backbone, pretrained=pretrained)
        body, features = _without_head(network)
        super().__init__(backbone, body, features, classes)

    @classmethod
    def _blank(cls, backbone: str, classes: Sequence[str]) -> Self:
        return cls(backbone, classes, pretrained=False)


class TransferModel(TwoPartModel):
    """The second hop's network: the first one's body, frozen, and a new head on its features.

    The first network stays as it is. The body is held by :func:`course_lib.freezing.freeze`,
    BatchNorm's statistics included; ``freezing.unfreeze(model, "body", optimizer=...)`` lets it go.

    Args:
        first: the network of the first hop, or the path of its file.
        classes: of the second task.

    Raises:
        StrategyError: classes that aren't a list of different names, or a file of another model.
    """

    def __init__(self, first: PretrainedModel | str | Path, classes: Sequence[str]) -> None:
        if not isinstance(first, PretrainedModel):
            first = PretrainedModel.load(first)
        features = first.head.in_features
        super().__init__(first.backbone, copy.deepcopy(first.body), features, classes)
        freezing.freeze(self, "body")

    @classmethod
    def _blank(cls, backbone: str, classes: Sequence[str]) -> Self:
        return cls(PretrainedModel(backbone, ["any"], pretrained=False), classes)


def _without_head(network: nn.Module) -> tuple[nn.Module, int]:
    """The network with an identity where its head was, and how many features come out."""
    names = head_names(network)
    head: Head = network.get_submodule(names[0])  # type: ignore[assignment]
    if len(names) != 1 or not isinstance(head, nn.Linear):
        raise StrategyError(
            f"The head of this {type(network).__name__} is {', '.join(names)}; expected one linear "
            "layer, as ResNets and EfficientNets have it."
        )
    network.set_submodule(names[0], nn.Identity())
    return network, head.in_features


@torch.no_grad()
def accuracy_with(head: nn.Module, body: nn.Module, images: Tensor, targets: Tensor) -> float:
    """How much of a task is left: accuracy of an old head on a body that has learned since.

    Args:
        head: gives scores (B, K) for features; left as it was when its task was learned.
        body: gives features (B, F) for images; computes in evaluation mode.
        images: (N, 3, H, W), of the old task.
        targets: their classes (N,).
    """
    modes = {each: each.training for each in body.modules()}
    scores = head(body.eval()(images))
    for each, mode in modes.items():
        each.training = mode
    return float((scores.argmax(dim=1) == targets).double().mean())
