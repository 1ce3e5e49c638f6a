"""What the experiments on sentences and on few pictures share: fair splits, and three ways."""

import pytest
import torch

from course_lib.data.manifest import bundled_folder, read_manifest
from course_lib.evidence import EvidenceError
from course_lib.evidence.studies import crossmodal, fewshot
from course_lib.strategies.crossmodal import sentences


def test_both_pictures_of_a_setting_are_on_one_side():
    settings = torch.arange(160).repeat(2)
    train, val, test = crossmodal.divided(settings, draw=0)
    assert [len(part) for part in (train, val, test)] == [192, 48, 80]
    assert len(torch.cat([train, val, test]).unique()) == 320
    kinds = [set(settings[part].tolist()) for part in (train, val, test)]
    assert len(set.union(*kinds)) == sum(map(len, kinds)) == 160
    assert not torch.equal(test, crossmodal.divided(settings, draw=1)[2])


def test_no_prompt_says_what_a_training_sentence_says():
    entries = read_manifest(bundled_folder())["pictures"].values()
    said = {line for each in entries for line in sentences(each["scene"])}
    prompts = [line for lines in crossmodal.PROMPTS.values() for line in lines]
    assert len(set(prompts)) == 22
    assert not said & set(prompts)
    assert set(crossmodal.PROMPTS) == {each["kind"] for each in entries}


def test_three_ways_name_what_lies_apart():
    middles = 5 * torch.eye(3)
    targets = torch.arange(12) % 3
    noise = torch.randn(12, 3, generator=torch.Generator().manual_seed(0))
    found = fewshot.three_ways(middles[targets] + 0.3 * noise, targets, middles.flip(0), 1.0)
    assert set(found) == set(fewshot.WAYS)
    assert all(named.tolist() == [2, 1, 0] for named in found.values())
    assert fewshot.share(torch.tensor([0, 1, 1, 1]), torch.tensor([0, 1, 0, 1])) == 0.75


def test_without_the_photographs_it_says_what_is_needed(monkeypatch, tmp_path):
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    with pytest.raises(EvidenceError, match=r"needs the photographs of .*food_photographs"):
        fewshot.photographs.__wrapped__("train", 96)
