"""The picture at the top of the README: what a learner will see, drawn from one real run.

``python -m course_lib.publishing.readme_picture`` trains for a minute or two on the CPU and draws
``data/readme.png`` again.
"""

import io
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from torch import nn

from course_lib import backbones, data, freezing, profile, training
from course_lib.display import plots
from course_lib.errors import CourseError
from course_lib.paths import data_dir

ALT = (
    "Pretrain, fine-tune, freeze. Above: six drawn test pictures, hot dogs and other food, each "
    "with the first guess of the ImageNet network and with the answer of the same network after "
    "fine-tuning. Below left: validation accuracy over three epochs; starting from ImageNet's "
    "weights ends far above starting from random ones. Below right: how far each block of layers "
    "moved in training; where it was frozen, by exactly 0."
)
SHOWN = ("hotdog/900033-hotdog", "not-hotdog/900027-eclair", "hotdog/900031-hotdog",
         "not-hotdog/900039-fries", "hotdog/900040-hotdog", "not-hotdog/900028-taco")  # fmt: skip
WAYS = ("fine-tuned", "head only", "from scratch")
DPI = 170  # 1360 pixels wide, shown at about 800


@dataclass(frozen=True)
class Shown:
    """One of the pictures: what is on it, and what two networks say.

    Attributes:
        image: shape (H, W, 3), values 0..1, as the first network sees it.
        guess: the first of ImageNet's thousand classes.
        hotdog: what the fine-tuned network gives for "hotdog", 0..1.
        right: whether its answer is.
    """

    image: Any
    guess: str
    hotdog: float
    right: bool


@dataclass(frozen=True)
class Run:
    """What the figure is drawn from.

    Attributes:
        shown: the pictures.
        accuracy: way of training -> validation accuracy before the first epoch and after each.
        moved: way of training -> block of layers -> how far its weights and buffers moved, as a
            share of their own length; 0 where not one bit changed.
    """

    shown: tuple[Shown, ...]
    accuracy: dict[str, list[float]]
    moved: dict[str, dict[str, float]]


def measure(epochs: int = 3, images: int = 96) -> Run:
    """Train in three ways with the numbers of chapter 02, and note what the figure shows.

    Args:
        epochs: passes over the training pictures.
        images: how many training pictures.
    """
    tiny = profile.named("tiny")
    torch.set_num_threads(tiny.threads)  # at equal thread counts a rerun gives the same bits
    see = backbones.preprocessing(tiny.backbone, size=tiny.image_size)
    root = data_dir() / "hotdog_rendered"
    train = data.balanced_subset(
        data.hotdog(root, split="train", transform=see.train), images, tiny.seed
    )
    val = data.hotdog(root, split="val", transform=see.eval)
    accuracy, moved, models = {}, {}, {}
    for way in WAYS:
        torch.manual_seed(tiny.seed)
        model = backbones.load(tiny.backbone, num_classes=2, pretrained=way != "from scratch")
        head = backbones.head_name(model)
        if way == "head only":
            freezing.freeze(model, [name for name, _ in model.named_children() if name != head])
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        start = training.evaluate(model, val).accuracy
        scratch = way == "from scratch"
        history = training.finetune(
            model, train, val=val, epochs=epochs, batch_size=tiny.batch_size,
            lr=tiny.learning_rate * (10 if scratch else 1), head_lr_factor=1 if scratch else 10,
            momentum=tiny.momentum, device="cpu", seed=tiny.seed, restore_best=False,
        )  # fmt: skip
        accuracy[way] = [start, *history.val_acc]
        moved[way] = _moved(before, model)
        models[way] = model
    return Run(_shown(root / "test", models["fine-tuned"], see), accuracy, moved)


def _moved(before: dict[str, torch.Tensor], model: nn.Module) -> dict[str, float]:
    """Block -> length of its parameters' change over their length before; 0: no bit changed."""
    change: dict[str, float] = {}
    length: dict[str, float] = {}
    parameters = dict(model.named_parameters())
    for name, now in model.state_dict().items():
        old, parts = before[name], name.split(".")
        block = f"blocks.{parts[1]}" if parts[0] == "blocks" else parts[0]
        change.setdefault(block, 0.0)
        if not torch.equal(now, old):  # a buffer, such as BatchNorm's mean, counts as a trace
            change[block] += (now - old).square().sum().item() if name in parameters else 1e-12
        if name in parameters:
            length[block] = length.get(block, 0.0) + old.square().sum().item()
    return {block: (change[block] / length[block]) ** 0.5 for block in change}


def _shown(folder: Path, finetuned: nn.Module, see: Any) -> tuple[Shown, ...]:
    large = backbones.preprocessing(profile.named("tiny").backbone, size=224)
    imagenet = backbones.load(profile.named("tiny").backbone).eval()
    classes, found = backbones.imagenet_classes(), []
    for name in SHOWN:
        picture = Image.open(folder / f"{name}.jpg").convert("RGB")
        with torch.no_grad():
            seen = large.eval(picture)
            guess = classes[int(imagenet(seen[None]).argmax())]
            hotdog = float(finetuned(see.eval(picture)[None]).softmax(dim=1)[0, 0])
        image = large.denormalise(seen).permute(1, 2, 0).numpy()
        found.append(Shown(image, guess, hotdog, (hotdog > 0.5) == name.startswith("hotdog/")))
    return tuple(found)


def draw(run: Run) -> Figure:
    """The figure, 8 by 5.2 inches: pictures above, two plots below.

    Raises:
        CourseError: the run doesn't show what the text alternative says.
    """
    if run.accuracy["fine-tuned"][-1] <= run.accuracy["from scratch"][-1]:
        raise CourseError(
            "In this run fine-tuning ended no better than training from scratch, so the README's "
            "words would not fit the picture. Expected more: train for more epochs."
        )
    width, height = 8, 5.2
    figure = plots.new_figure(width, height)
    side, middle = 1.22, 0.59
    with matplotlib.rc_context(plots.STYLE):
        figure.set_layout_engine("constrained", rect=(0, 0, 1, middle - 0.01))
        left, right = figure.subplots(1, 2, width_ratios=(1, 1.3))
        _accuracies(left, run.accuracy)
        _blocks(right, run.moved)
        gap = (width - side * len(run.shown)) / (len(run.shown) + 1)
        for number, each in enumerate(run.shown):
            corner = ((gap + number * (side + gap)) / width, middle + 0.33 / height)
            _picture(figure.add_axes((*corner, side / width, side / height)), each)
        _heading(
            figure.axes[2], "Pretrain", "the first guess of a network that has seen ImageNet; "
            "under each picture, its answer after fine-tuning", rise=24,
        )  # fmt: skip
        _heading(left, "Fine-tune", "a head start on few pictures")
        _heading(right, "Freeze", "what is frozen stays, bit for bit")
    return figure


def _heading(axis: Axes, word: str, sentence: str, rise: float = 6) -> None:
    bold = axis.annotate(
        word, (0, 1), xycoords="axes fraction", xytext=(0, rise), textcoords="offset points",
        weight="bold", fontsize=12,
    )  # fmt: skip
    axis.annotate(
        sentence, (1, 0), xycoords=bold, xytext=(7, 1.5), textcoords="offset points", fontsize=9
    )


def _picture(axis: Axes, shown: Shown) -> None:
    axis.imshow(shown.image)
    axis.axis("off")
    axis.set_title(f"“{shown.guess}”", fontsize=9, color="#444444", pad=4)
    says = "hot dog" if shown.hotdog > 0.5 else "not hot dog"
    sure = max(shown.hotdog, 1 - shown.hotdog)
    axis.text(
        0.5, -0.05, f"{'✓' if shown.right else '✗'} {says} {sure:.0%}", ha="center", va="top",
        transform=axis.transAxes, fontsize=8.5, weight="bold",
        color=plots.COLOURS["green" if shown.right else "red"],
    )  # fmt: skip


def _accuracies(axis: Axes, accuracy: dict[str, list[float]]) -> None:
    epochs = range(len(accuracy["fine-tuned"]))
    plots.lines(
        {way: (epochs, values) for way, values in accuracy.items()}, "epoch",
        "validation accuracy", axis=axis, level=(0.5, "guessing"),
    )  # fmt: skip
    axis.set_ylim(0.45, 1)
    axis.legend(fontsize=8, loc=(0.52, 0.3))


def _blocks(axis: Axes, moved: dict[str, dict[str, float]]) -> None:
    names = list(moved["fine-tuned"])
    for number, way in enumerate(WAYS[:2]):
        places = np.arange(len(names)) + 0.42 * number - 0.21
        sizes = np.array([moved[way][name] for name in names])
        colour = plots.CYCLE[plots.ROLES[way]]
        axis.bar(
            places, sizes, 0.4, color=colour, label=way, hatch="//" * number,
            edgecolor="white", linewidth=0,
        )  # fmt: skip
        for place in places[sizes == 0]:
            axis.annotate(
                "0", (place, 0), xycoords=("data", "axes fraction"), xytext=(0, 2), ha="center",
                textcoords="offset points", fontsize=8, weight="bold", color=colour,
            )  # fmt: skip
    axis.set_yscale("log")
    axis.yaxis.set_major_formatter(lambda share, _: f"{100 * share:g} %")
    axis.set_ylabel("how far the weights moved")
    axis.set_xticks(range(len(names)), names, rotation=45, ha="right", fontsize=8)
    axis.grid(axis="x", visible=False)
    axis.legend(fontsize=8, loc="upper left")


def store(run: Run, path: Path) -> None:
    """Draw and write the PNG: 256 colours, white among them, so that it stays small."""
    buffer = io.BytesIO()
    draw(run).savefig(buffer, format="png", dpi=DPI)
    image = Image.open(buffer).convert("RGB")
    few = image.quantize(palette=image.quantize(255), dither=Image.Dither.FLOYDSTEINBERG)
    few.putpalette([*(few.getpalette() or [])[: 3 * 255], 255, 255, 255])
    few.paste(255, mask=Image.fromarray((np.asarray(image) == 255).all(axis=2)))  # white stays so
    few.save(path, optimize=True)


if __name__ == "__main__":
    store(measure(), Path(sys.argv[1]) if sys.argv[1:] else data_dir() / "readme.png")
