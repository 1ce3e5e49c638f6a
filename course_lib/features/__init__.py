"""Features: run the frozen network once, then train as many small models on the result as you like.

A frozen backbone gives the same numbers for the same picture every time. So compute them once::

    body = backbones.load("efficientnet_lite0")
    train = features.extract(body, data.hotdog(split="train", transform=preparation.eval))
    head, history = features.train_head(train, num_classes=2, epochs=50)
    features.head_into(body, head)

That one linear layer on a trained network's features goes a long way was shown by Donahue et al.
(DeCAF, ICML 2014, arXiv:1310.1531) and Razavian et al. (CVPR workshops 2014, arXiv:1403.6382).
"""

from course_lib.features.classical import classifiers
from course_lib.features.containers import Features, FeaturesError, join
from course_lib.features.extraction import extract
from course_lib.features.heads import head_into, train_head

__all__ = ["Features", "FeaturesError", "classifiers", "extract", "head_into", "join", "train_head"]
