"""A real ImageNet network and the course's drawn pictures at 96 pixels, for several studies.

EfficientNet-Lite0, the bundled hot-dog pictures without augmentation. The seed draws which training
pictures are used; validation and test pictures are always the same. Studies whose seeds draw all
three anew use :mod:`course_lib.evidence.pools`.
"""

from collections.abc import Sequence
from functools import cache

import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn
from torch.utils.data import TensorDataset
from torchvision.transforms import v2

from course_lib import backbones, data, features
from course_lib.evidence.design import Measure
from course_lib.paths import data_dir
from course_lib.profile import seeded_generator

NETWORK, SECOND, SIZE = "efficientnet_lite0", "efficientnet_lite1", 96
FILES = ("hotdog_rendered/manifest.json",)
ACCURACY = Measure("test_accuracy", digits=3)
PENALTIES = (0.01, 0.1, 1.0, 10.0)  # inverse strengths of the L2 penalty, tried for every arm

Rows = features.Features


def normalised(mean: Sequence[float], std: Sequence[float]) -> v2.Transform:
    """The network's preparation for testing, with other numbers in the last step."""
    steps = list(backbones.preprocessing(NETWORK, SIZE).eval.transforms)
    return v2.Compose([*steps[:-1], v2.Normalize(list(mean), list(std))])


OWN = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
Numbers = tuple[tuple[float, ...], tuple[float, ...]]


def pictures(split: str, numbers: Numbers = OWN) -> data.ImageFolderDataset:
    """One split of the bundled pictures, prepared."""
    return data.hotdog(data_dir() / "hotdog_rendered", split, normalised(*numbers))


@cache
def network(weights: int | None = None, name: str = NETWORK) -> nn.Module:
    """A network with ImageNet's weights, or with new ones drawn from a seed."""
    if weights is None:
        return backbones.load(name).eval()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(weights)
        return backbones.load(name, pretrained=False).eval()


@cache
def rows(
    split: str,
    numbers: Numbers = OWN,
    layer: str | None = None,
    weights: int | None = None,
    name: str = NETWORK,
) -> Rows:
    """Features of a split, kept on disk."""
    return features.extract(
        network(weights, name), pictures(split, numbers), layer=layer, batch_size=16, progress=False
    )


def drawn(seed: int, targets: Tensor, n: int) -> list[int]:
    """Places of ``n`` training pictures, half of each class, drawn by the seed.

    ``targets`` (N,) are the classes 0 and 1 of all that there are.
    """
    order = torch.randperm(len(targets), generator=seeded_generator(seed))
    chosen = [order[targets[order] == each][: n // 2] for each in (0, 1)]
    return sorted(torch.cat(chosen).tolist())


def best_linear(train: Rows, val: Rows, test: Rows) -> float:
    """Test accuracy of logistic regression, its penalty chosen by validation accuracy."""

    def fitted(penalty: float) -> Pipeline:
        steps = StandardScaler(), LogisticRegression(C=penalty, max_iter=2000)
        return make_pipeline(*steps).fit(*train.arrays())

    best = max((fitted(each) for each in PENALTIES), key=lambda each: each.score(*val.arrays()))
    return float(best.score(*test.arrays()))


def in_memory(
    dataset: data.ImageFolderDataset, places: Sequence[int] | None = None
) -> TensorDataset:
    """Pictures (N, 3, H, W), prepared once, with their classes (N,)."""
    items = [dataset[i] for i in (range(len(dataset)) if places is None else places)]
    return TensorDataset(torch.stack([x for x, _ in items]), torch.tensor([y for _, y in items]))
