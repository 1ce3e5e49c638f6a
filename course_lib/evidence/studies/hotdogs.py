"""The comparison of chapter 02, with the chapter's own data and budget."""

import torch

from course_lib import backbones, data, profile, training
from course_lib.evidence.design import Contrast, Measure, Outcome, experiment
from course_lib.paths import data_dir

RATES = (0.3, 1.0, 3.0)
"""Both arms try the same multiples of their usual learning rate."""


@experiment(
    "hotdog_margin", seeds=5, arms=("from scratch", "fine-tuned"),
    measures=(Measure("test_accuracy"), Measure("val_accuracy")),
    contrasts=(Contrast("gain", "fine-tuned", "from scratch", "test_accuracy", "more"),),
    files=("hotdog_rendered/manifest.json",), minutes=6,
)  # fmt: skip
def few_pictures(seed: int) -> Outcome:
    """Few pictures: fine-tuning against training from scratch, as in chapter 02.

    Data: the bundled pictures at 96 pixels; 96 training pictures drawn by the seed, the validation
    split to choose by, and 64 test pictures, which are measured once. Arms: EfficientNet-Lite0 from
    ImageNet's weights with a new head, learning rates eta and 10 eta; the same network from random
    weights, 10 eta everywhere, as the book does. Budget: three epochs of SGD with momentum, batches
    of 8; each arm tries three learning rates (0.3, 1 and 3 times its usual one). Selection: the
    rate and the epoch with the best validation accuracy. Prediction of the claim: fine-tuned is
    better.
    """
    tiny = profile.named("tiny")
    see = backbones.preprocessing(tiny.backbone, size=tiny.image_size)
    root = data_dir() / "hotdog_rendered"
    train = data.balanced_subset(
        data.hotdog(root, split="train", transform=see.train), tiny.train_images or 96, seed
    )
    val = data.hotdog(root, split="val", transform=see.eval)
    test = data.balanced_subset(
        data.hotdog(root, split="test", transform=see.eval), tiny.test_images or 64, 0
    )
    outcome = {}
    for arm in ("from scratch", "fine-tuned"):
        pretrained = arm == "fine-tuned"
        best, chosen = -1.0, None
        for factor in RATES:
            torch.manual_seed(seed)
            model = backbones.load(tiny.backbone, num_classes=2, pretrained=pretrained)
            model.to(memory_format=torch.channels_last)  # the same numbers, faster
            history = training.finetune(
                model, train, val=val, epochs=tiny.epochs,
                lr=factor * tiny.learning_rate * (1 if pretrained else 10),
                head_lr_factor=10 if pretrained else 1, momentum=tiny.momentum,
                batch_size=tiny.batch_size, device="cpu", amp=False, seed=seed, progress=False,
            )  # fmt: skip
            reached = max(history.val_acc)
            if reached > best:
                best, chosen = reached, model
        assert chosen is not None
        found = training.evaluate(chosen, test)
        outcome[arm] = {"test_accuracy": found.accuracy, "val_accuracy": best}
    return outcome
