"""Wherever two sets meet, a number means the same class in both."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import ConcatDataset, DataLoader, Subset, TensorDataset

from course_lib import backbones, data, features, recipe
from course_lib.errors import DataError
from course_lib.features import Features
from course_lib.recipe.prediction import Predictor
from course_lib.training import evaluate, finetune, predict


class Named(TensorDataset):
    def __init__(self, classes, n=12, side=8):
        super().__init__(torch.randn(n, 3, side, side), torch.arange(n) % len(classes or "12"))
        self.targets = self.tensors[1].tolist()
        if classes is not None:
            self.classes = classes


def rows(classes):
    targets = torch.arange(8) % 2
    return Features(torch.randn(8, 4), targets, torch.arange(8), None, "fc", "key", classes)


def net():
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 2))


def head_for(classes):
    return features.train_head(rows(classes), 2, epochs=1)[0]


OTHERS = [("bees", "wasps"), ("bees", "ants"), ("Ants", "bees"), ("ants", "bees", "wasps")]
USES = {
    "finetune test": lambda a, b: finetune(net(), Named(a), Named(b), epochs=1),
    "finetune val": lambda a, b: finetune(net(), Named(a), val=Named(b), epochs=1),
    "finetune loaders": lambda a, b: finetune(
        net(), DataLoader(Named(a)), DataLoader(Subset(Named(b), [0, 1])), epochs=1
    ),
    "train_head test": lambda a, b: features.train_head(rows(a), 3, test=rows(b), epochs=1),
    "train_head val": lambda a, b: features.train_head(rows(a), 3, val=rows(b), epochs=1),
    "evaluate a recipe's": lambda a, b: evaluate(Predictor(net(), a).model, Named(b)),
    "predict by a recipe's": lambda a, b: predict(Predictor(net(), a).model, DataLoader(Named(b))),
    "evaluate a head": lambda a, b: evaluate(head_for(a), rows(b).dataset()),
    "evaluate it in a network": lambda a, b: evaluate(
        features.head_into(nn.Sequential(nn.Linear(4, 2)), head_for(a)), rows(b).dataset()
    ),
    "finetune a head": lambda a, b: finetune(
        nn.Sequential(nn.Linear(4, 3)), rows(a).dataset(), rows(b).dataset(), epochs=1
    ),
    "join": lambda a, b: features.join(rows(a), rows(b)),
    "in a row": lambda a, b: data.class_names(ConcatDataset([Named(a), Named(b)])),
    "recipe val": lambda a, b: recipe.fit(Named(a), val=Named(b), model=net()),
    "recipe test": lambda a, b: recipe.fit(Named(a), val=Named(a), test=Named(b), model=net()),
    "recipe augmented": lambda a, b: recipe.fit(
        Named(a), val=Named(a), augmented=Named(b), model=net()
    ),
}


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("use", USES)
def test_other_classes_are_refused_with_both_lists(use, other):
    with pytest.raises(DataError) as told:
        USES[use](("ants", "bees"), other)
    assert "ants, bees" in str(told.value)
    assert ", ".join(other) in str(told.value)


@pytest.mark.parametrize("use", [use for use in USES if "recipe" not in use and use != "join"])
@pytest.mark.parametrize("other", [["ants", "bees"], None])
def test_the_same_classes_and_sets_without_names_go_together(use, other):
    USES[use](("ants", "bees"), other)


def test_a_folder_and_a_test_set_of_other_classes(make_folders):
    pictures = make_folders({"ants": 8, "bees": 8})
    other = Named(("bees", "wasps"), side=64)
    with pytest.raises(DataError, match=r"bees, wasps; the training data has ants, bees"):
        recipe.fit(pictures, test=other)


def test_features_know_the_classes_of_their_pictures(tmp_path):
    body = nn.Sequential(nn.Flatten(), nn.Linear(192, 4), nn.Linear(4, 2))
    named = data.LabelledSubset(Named(["ants", "bees"]), range(6))
    for _ in range(2):  # computed, and from the disk
        found = features.extract(body, named, cache_dir=tmp_path)
        assert found.classes == found.subset([0]).classes == ("ants", "bees")
    assert features.extract(body, Named(None), cache=False).classes is None


def test_the_encoding_of_an_accent_makes_no_other_class():
    composed, apart = "caf\u00e9", "cafe\u0301"
    data.check_same_classes({"training": Named([composed, "tea"]), "test": Named([apart, "tea"])})
    with pytest.raises(DataError, match="in another order"):
        data.check_same_classes({"one": Named([composed, "tea"]), "two": Named(["tea", apart])})


def test_names_are_found_in_wrappers_and_circles_end():
    named = Named(["ants", "bees"])
    assert data.class_names(DataLoader(Subset(Subset(named, [0, 1]), [0]))) == ("ants", "bees")
    circle = SimpleNamespace()
    circle.dataset = SimpleNamespace(dataset=circle)
    assert data.class_names(circle) is None
    assert data.class_names([1, 2]) is None


def test_numbers_by_name_and_arrays_of_names_count():
    numbered = SimpleNamespace(class_to_idx={"bees": 1, "ants": 0})
    assert data.class_names(numbered) == ("ants", "bees")
    assert data.class_names(SimpleNamespace(class_to_idx={"bees": 1, "ants": 1})) is None
    assert data.class_names(SimpleNamespace(classes=np.array(["ants", "bees"]))) == ("ants", "bees")


def test_a_network_that_learns_other_classes_forgets_the_names():
    model = Predictor(net(), ("ants", "bees")).model
    assert data.class_names(model) == ("ants", "bees")
    finetune(model, Named(("ants", "bees")), epochs=1)
    assert data.class_names(model) == ("ants", "bees")
    finetune(model, Named(("bees", "wasps")), epochs=1)
    assert data.class_names(model) is None
    evaluate(model, Named(("bees", "wasps")))
    again = Predictor(net(), ("ants", "bees")).model
    backbones.replace_head(again, 2)
    evaluate(again, Named(("bees", "wasps")))
