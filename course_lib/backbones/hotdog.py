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
  that you expect is above it.
"""

import torch
from torch import Tensor, nn

from course_lib.backbones.catalogue import HOTDOG_CLASS, imagenet_classes
from course_lib.backbones.heads import (
    Head,
    HeadError,
    head_names,
    head_weights,
    install,
    like,
    num_outputs,
    swappable,
)
from course_lib.errors import DataError
from course_lib.text import counted


def hotdog_head(
    model: nn.Module, hotdog_index: int = 0, features: Tensor | None = None, share: float = 0.5
) -> nn.Module:
    """Replace a thousand-class head, in place, by one of two classes with ImageNet's hot-dog row.

    What goes where:

    ================  ==============================================  ========================
    row               weight                                          bias
    ================  ==============================================  ========================
    ``hotdog_index``  row 934, bit for bit                            bias 934, bit for bit
    the other one     average of the 999 others, weighted by shares   height of L at f = 0
    ================  ==============================================  ========================

    With ``features``, the bias of the other row is set so that p(hot dog) is above 1/2 for the
    given ``share`` of them.

    The head works before any training: the hot-dog chapter shows how well. The rest of the model
    stays the very same objects; device, dtype, mode and ``requires_grad`` flags are kept.

    Args:
        model: a network with ImageNet's thousand-class head and one head only.
        hotdog_index: which output means "hot dog" (folders in alphabetical order: ``hotdog`` is 0,
            ``not-hotdog`` is 1).
        features: (N, d) what the head is given for N training pictures of yours, without labels.
        share: which part of those pictures you expect to be hot dogs.

    Returns:
        The same model.

    Raises:
        HeadError: no thousand-class head, several heads, or numbers that don't fit; the model is
            unchanged.
        DataError: features of another shape, or not finite.
    """
    imagenet_classes()  # checks that 934 is the hot dog
    _check(hotdog_index, features, share)
    name, old = _thousand_class_head(model)
    rows, biases = head_weights(old)
    known = _check_features(features, rows)
    row, bias = _rest(rows, biases)
    if known is not None:
        hot = known @ rows[HOTDOG_CLASS] + biases[HOTDOG_CLASS]
        bias = (hot - known @ row).quantile(1 - share)  # that share lies above it

    new = like(old, 2)
    assert new.bias is not None
    assert old.bias is not None
    with torch.no_grad():
        new.weight[:] = row.to(new.weight).view_as(new.weight[0])
        new.bias[:] = bias.item()
        new.weight[hotdog_index] = old.weight[HOTDOG_CLASS]
        new.bias[hotdog_index] = old.bias[HOTDOG_CLASS]
    install(model, {name: new})
    return model


def _rest(rows: Tensor, biases: Tensor) -> tuple[Tensor, Tensor]:
    """Slope (d,) and height () of the tangent plane at f = 0 of L, for the 999 other classes."""
    others = torch.arange(len(rows)) != HOTDOG_CLASS
    shares = biases[others].softmax(0)  # at f = 0 the scores are the biases
    return shares @ rows[others], biases[others].logsumexp(0)


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


def _check(index: int, features: Tensor | None, share: float) -> None:
    if isinstance(index, bool) or index not in (0, 1):
        raise HeadError(f"hotdog_index is {index!r}; expected a class number from 0 to 1.")
    if features is None and share != 0.5:
        raise HeadError("share says how many of the features are hot dogs: hand them over too.")
    if not 0 < share < 1:
        raise HeadError(f"share is {share!r}; expected a number between 0 and 1, such as 0.5.")


def _check_features(features: Tensor | None, rows: Tensor) -> Tensor | None:
    if features is None:
        return None
    wanted = f"expected (N, {rows.shape[1]}): what the head is given for N pictures"
    if features.ndim != 2 or features.shape[1] != rows.shape[1] or len(features) == 0:
        raise DataError(f"The features have the shape {tuple(features.shape)}; {wanted}.")
    if not bool(features.isfinite().all()):
        raise DataError("Some of the features are not finite (NaN or infinite).")
    return features.detach().cpu().double()
