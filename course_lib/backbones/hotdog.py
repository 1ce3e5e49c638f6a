"""Start a hot-dog head from what ImageNet's thousand-class head already knows.

ImageNet has a class "hotdog": row 934 of the output layer. A new two-class head need not start at
random, then. But which numbers go where? Follow the thousand-class softmax. Write z_k = w_k·f + b_k
for the score ("logit") of class k on the features f. Exactly,

    p(hot dog) = sigmoid(z_934 - L),   L = log of the sum of exp(z_k) over the 999 other classes,

and a two-class softmax computes p(hot dog) = sigmoid(z_hotdog - z_rest). So the hot-dog row should
be row 934, and the other one should be as much like L as a row can be:

- **Rows.** L is no linear function of the features, but it has a tangent plane. Its slope is the
  average of the 999 other rows, each weighted by its class's share among them. With no pictures at
  hand the tangent is taken at f = 0, where all shares are nearly equal: the plain average, a row
  almost of zeros, since a softmax's rows balance out.
- **Bias.** "Not a hot dog" is not one class but the sum of 999. Even if each of them scores 0,
  their L is log(999) = 6.9. A bias of 0 there (or a random row) sets the bar 6.9 too low, and
  nearly every picture of food is called a hot dog.
- **Scale.** Trained rows are about four times as long as freshly drawn ones, and features grow when
  pictures are smaller than those of the training (the norm layers' statistics no longer fit): at
  96 pixels the scores are more than twice those at 224, and 6.9 is too low a bar again. Hand over
  features of some of your pictures, without labels, and the bar is set where the share of hot dogs
  that you expect is above it; hand over features and labels to :func:`calibrate`, and scale and
  bias are both fitted.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from course_lib.backbones.catalogue import HOTDOG_CLASS, imagenet_classes
from course_lib.backbones.heads import (
    Head,
    HeadError,
    check_num_classes,
    head_names,
    head_weights,
    install,
    like,
    num_outputs,
    swappable,
)
from course_lib.errors import DataError
from course_lib.text import counted

NEWTON_STEPS = 50


def hotdog_head(
    model: nn.Module,
    num_classes: int = 2,
    hotdog_index: int = 0,
    features: Tensor | None = None,
    share: float | None = None,
) -> nn.Module:
    """Replace a thousand-class head, in place, by one that starts from ImageNet's hot-dog row.

    What goes where (d features, n = ``num_classes``):

    ======================  ==================================  ====================================
    row                     weight                              bias
    ======================  ==================================  ====================================
    ``hotdog_index``        row 934, bit for bit                bias 934, bit for bit
    each of the n - 1 rest  average of the 999 other rows,      height of L there, less log(n - 1):
                            weighted by their shares            together they stand for L
    ======================  ==================================  ====================================

    With ``features``, the bias of the rest is set so that p(hot dog) is above 1/2 for the given
    ``share`` of them.

    The head works before any training: the hot-dog chapter shows how well. The rest of the model
    stays the very same objects; device, dtype, mode and ``requires_grad`` flags are kept.

    Args:
        model: a network with ImageNet's thousand-class head and one head only.
        num_classes: outputs of the new head, at least 2.
        hotdog_index: which output means "hot dog" (folders in alphabetical order: ``hotdog`` is 0,
            ``not-hotdog`` is 1).
        features: (N, d) what the head is given for N training pictures of yours, without labels.
        share: which part of those pictures you expect to be hot dogs; by default 1 in n.

    Returns:
        The same model.

    Raises:
        HeadError: no thousand-class head, several heads, or numbers that don't fit; the model is
            unchanged.
        DataError: features of another shape, or not finite.
    """
    imagenet_classes()  # checks that 934 is the hot dog
    count = check_num_classes(num_classes)
    _check_index(count, hotdog_index)
    expected = _check_share(share, features, count)
    name, old = _thousand_class_head(model)
    rows, biases = head_weights(old)
    known = _check_features(features, rows)
    row, bias = _rest(rows, biases)
    if known is not None:
        hot = known @ rows[HOTDOG_CLASS] + biases[HOTDOG_CLASS]
        bias = (hot - known @ row).quantile(1 - expected)  # that share lies above it

    new = like(old, count)
    assert new.bias is not None
    assert old.bias is not None
    with torch.no_grad():
        new.weight[:] = row.to(new.weight).view_as(new.weight[0])
        new.bias[:] = bias.item() - math.log(count - 1)
        new.weight[hotdog_index] = old.weight[HOTDOG_CLASS]
        new.bias[hotdog_index] = old.bias[HOTDOG_CLASS]
    install(model, {name: new})
    return model


def _rest(rows: Tensor, biases: Tensor) -> tuple[Tensor, Tensor]:
    """Slope (d,) and height () of the tangent plane at f = 0 of L, for the 999 other classes."""
    others = torch.arange(len(rows)) != HOTDOG_CLASS
    shares = biases[others].softmax(0)  # at f = 0 the scores are the biases
    return shares @ rows[others], biases[others].logsumexp(0)


@dataclass(frozen=True)
class Calibration:
    """What :func:`calibrate` did: new difference of the scores = scale x old difference + shift."""

    scale: float
    shift: float


def calibrate(
    model: nn.Module, features: Tensor, labels: Tensor, hotdog_index: int = 0
) -> Calibration:
    """Fit scale and bias of a two-class head to training pictures, in place.

    Two numbers are fitted by logistic regression on the difference of the two scores (J. Platt,
    Probabilistic outputs for support vector machines, 1999; with his softened targets, so that
    perfectly separated pictures don't drive the scale to infinity). Both rows are multiplied by
    the scale; the shift goes into the bias of the other class. Use training pictures only: fitted
    on test pictures, the test would tell nothing any more.

    Args:
        model: a network with a two-class head, as from :func:`hotdog_head`.
        features: (N, d) what the head is given for N training pictures.
        labels: (N,) their classes, 0 or 1; both must occur.
        hotdog_index: the class that means "hot dog".

    Raises:
        HeadError: no two-class head, or more than one.
        DataError: features or labels of another shape; a class that doesn't occur; or pictures
            that the head can't tell apart in the right direction (the scale would not be positive).
    """
    name, head = _single_head(model)
    _check_index(2, hotdog_index)
    if num_outputs(head) != 2 or head.bias is None:
        raise HeadError(
            f"The head {name!r} has {counted(num_outputs(head), 'output')}; expected two, with a "
            "bias."
        )
    rows, biases = head_weights(head)
    known = _check_features(features, rows)
    assert known is not None
    positive = _check_labels(labels, len(known)) == hotdog_index
    scores = known @ rows.T + biases
    scale, shift = _platt(scores[:, hotdog_index] - scores[:, 1 - hotdog_index], positive)
    if not scale > 0:
        raise DataError(
            "On these pictures the hot-dog score doesn't rise with being a hot dog. Check that "
            f"class {hotdog_index} is the hot dog and that the features come from this model."
        )
    with torch.no_grad():
        head.weight *= scale
        head.bias *= scale
        head.bias[1 - hotdog_index] -= shift
    return Calibration(scale, shift)


def _platt(difference: Tensor, positive: Tensor) -> tuple[float, float]:
    """Scale and shift that make sigmoid(scale x difference + shift) likeliest, by Newton's method.

    The targets are (n + 1) / (n + 2) and 1 / (n + 2) rather than 1 and 0, n being the pictures of
    the class.
    """
    n_yes, n_no = int(positive.sum()), int((~positive).sum())
    yes, no = (n_yes + 1) / (n_yes + 2), 1 / (n_no + 2)
    target = torch.where(positive, yes, no).double()
    spread = difference.std().clamp_min(1e-12)  # in units of the spread, Newton starts well
    inputs = torch.stack([difference / spread, torch.ones_like(difference)], dim=1)
    fitted = torch.zeros(2, dtype=torch.float64)
    loss = _log_loss(inputs, target, fitted)
    for _ in range(NEWTON_STEPS):
        p = (inputs @ fitted).sigmoid()
        slope = inputs.T @ (p - target)
        curvature = (inputs * (p * (1 - p))[:, None]).T @ inputs
        step = torch.linalg.solve(curvature + 1e-9 * torch.eye(2, dtype=torch.float64), slope)
        while _log_loss(inputs, target, fitted - step) > loss and step.abs().max() > 1e-12:
            step = step / 2  # too far: the loss rose
        fitted = fitted - step
        loss = _log_loss(inputs, target, fitted)
        if step.abs().max() < 1e-10:
            break
    return (fitted[0] / spread).item(), fitted[1].item()


def _log_loss(inputs: Tensor, target: Tensor, fitted: Tensor) -> Tensor:
    return nn.functional.binary_cross_entropy_with_logits(inputs @ fitted, target)


def _single_head(model: nn.Module) -> tuple[str, Head]:
    name, *further = head_names(model)
    if further:
        raise HeadError(
            f"This {type(model).__name__} has several heads ({', '.join([name, *further])}); "
            "this start is defined for one."
        )
    return name, swappable(model, name)


def _thousand_class_head(model: nn.Module) -> tuple[str, Head]:
    name, head = _single_head(model)
    if num_outputs(head) != len(imagenet_classes()):
        raise HeadError(
            f"The head {name!r} has {counted(num_outputs(head), 'output')}; expected ImageNet's "
            "1,000. Load the model without num_classes first."
        )
    if head.bias is None:
        raise HeadError(f"The head {name!r} has no bias, which this start needs.")
    if head.weight[0].numel() != head.weight.shape[1]:
        raise HeadError(f"The head {name!r} is a convolution larger than 1x1, which has no rows.")
    if head.weight.is_meta:
        raise HeadError(
            f"The head {name!r} is on the meta device: it has no numbers to start from."
        )
    return name, head


def _check_index(num_classes: int, index: int) -> None:
    if num_classes < 2:
        raise HeadError(f"num_classes is {num_classes}; a hot dog and something else make 2.")
    if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < num_classes:
        raise HeadError(
            f"hotdog_index is {index!r}; expected a class number from 0 to {num_classes - 1}."
        )


def _check_share(share: float | None, features: Tensor | None, num_classes: int) -> float:
    if share is None:
        return 1 / num_classes
    if features is None:
        raise HeadError("share says how many of the features are hot dogs: hand them over too.")
    if not 0 < share < 1:
        raise HeadError(f"share is {share!r}; expected a number between 0 and 1, such as 0.5.")
    return share


def _check_features(features: Tensor | None, rows: Tensor) -> Tensor | None:
    if features is None:
        return None
    wanted = f"expected (N, {rows.shape[1]}): what the head is given for N pictures"
    if features.ndim != 2 or features.shape[1] != rows.shape[1] or len(features) == 0:
        raise DataError(f"The features have the shape {tuple(features.shape)}; {wanted}.")
    if not bool(features.isfinite().all()):
        raise DataError("Some of the features are not finite (NaN or infinite).")
    return features.detach().cpu().double()


def _check_labels(labels: Tensor, count: int) -> Tensor:
    if labels.shape != (count,):
        raise DataError(
            f"The labels have the shape {tuple(labels.shape)}; expected ({count},), one a picture."
        )
    found = sorted(labels.unique().tolist())
    if found != [0, 1]:
        raise DataError(f"The labels are {found}; expected 0 and 1, both of them.")
    return labels.cpu()
