"""A config is read whole or not at all; each mistake is said with key, line and what was meant."""

import dataclasses
import os
import tomllib

import pytest
from torchvision.transforms import v2

from course_lib import cli
from course_lib.jobs import ConfigError, JobConfig, StageConfig, read_config
from course_lib.jobs.config import as_plain, augmentation, from_plain

GOOD = """# a job
data = "pictures"   # a folder

batch_size = 16
augment = ["RandomHorizontalFlip", {name = "ColorJitter", brightness = 0.2}]

[[stages]]
epochs = 2

[[stages]]
thaw = ["blocks.6"]
lr = 1
"""

BAD = [
    ("dat = 'p'", ["line 1: dat: there is no such key", "'data'"]),
    ("epochs = 3", ["line 1: epochs: there is no such key"]),
    ("batch_size = 3", ["data: it is missing"]),
    ("data = 'p'\nepoch = 3", ["line 2: epoch: there is no such key"]),
    ("data = 'p'\nepochs = 3", ["line 2: epochs", "belongs into a table [[stages]]"]),
    ("data = 'p'\n\nbatchsize = 3", ["line 3: batchsize", "'batch_size'"]),
    ("data = 'p'\nbatch_size = '3'", ["line 2: batch_size: expected a whole number; got '3'"]),
    ("data = 'p'\nbatch_size = 3.5", ["line 2: batch_size: expected a whole number; got 3.5"]),
    ("data = 'p'\nbatch_size = true", ["batch_size: expected a whole number; got True"]),
    ("data = 'p'\nbatch_size = 0", ["line 2: batch_size: expected from 1 to 1,000,000; got 0"]),
    ("data = 3", ["line 1: data: expected a text; got 3"]),
    ("data = ['a', 'b']", ["line 1: data: expected a text"]),
    ("data = 'p'\noptimizer = 'adam'", ["line 2: optimizer: expected one of", "'adamw'?"]),
    ("data = 'p'\nmodel = 'resnet81'", ["line 2: model: There is no backbone", "'resnet18'"]),
    ("data = 'p'\nmodel = 'timm/resnet10x'", ["line 2: model: timm has no", "'resnet10t'"]),
    ("data = 'p'\nsize = 8", ["line 2: size: size is 8", "at least 32"]),
    ("data = 'p'\nmodel = 'vit_b_16'\nsize = 96", ["line 3: size", "at least 224"]),
    ("data = 'p'\namp = true", ["line 2: amp: expected a text; got True"]),
    ("data = 'p'\namp = 'bf16'", ["line 2: amp: expected one of 'auto'", "'bfloat16'"]),
    ("data = 'p'\ndevice = 'gpu'", ["line 2: device: expected one of", "'cuda'"]),
    ("data = 'p'\nlabel_smoothing = 1", ["line 2: label_smoothing: expected from 0 to 0.9"]),
    ("data = 'p'\nclip = nan", ["line 2: clip: expected at least 0; got nan"]),
    ("data = 'p'\nclasses = ['a']", ["line 2: classes: expected two or more different names"]),
    ("data = 'p'\nclasses = ['a', 'a']", ["line 2: classes: expected two or more different"]),
    ("data = 'p'\nclasses = ['a', 3]", ["line 2: classes: expected a list of texts"]),
    ("data = 'p'\naugment = ['RandomCorp']", ["line 2: augment", "'RandomCrop'"]),
    ("data = 'p'\naugment = [{name = 'ColorJitter', bright = 1}]",
     ["line 2: augment: ColorJitter can't be made", "bright"]),
    ("data = 'p'\n[stages]\nlr = 1", ["line 2: stages: expected tables", "[[stages]]"]),
    ("data = 'p'\n[[stages]]\n[[stages]]\nlr = -1", ["line 4: stages[1].lr", "above 0; got -1"]),
    ("data = 'p'\n[[stages]]\nepochs = 0", ["line 3: stages[0].epochs: expected from 1"]),
    ("data = 'p'\n[[stages]]\nthaws = ['a']", ["line 3: stages[0].thaws", "'thaw'"]),
    ("data = 'p'\n[[stages]]\nbatch_size = 2", ["stages[0].batch_size", "the top of the file"]),
    ("data = 'p'\nplan = 'all'\n[[stages]]\nlr = 1", ["line 2: plan: there are [[stages]]"]),
    ("data = 'p'\n[[stages]]\nname = 'a'\n[[stages]]\nname = 'a'", ["two stages of one name"]),
    ("data = 'a'\nsize = " + "9" * 5000, ["is no TOML"]),
    ("data = " + "[" * 5000, ["is no TOML"]),
    ("data = 'a'\nweight_decay = inf", ["weight_decay: expected at least 0; got inf"]),
    ("data = 'a'\nclip = nan", ["clip: expected at least 0; got nan"]),
    ("data = 'a'\nsize = 1000000000000", ["size: expected from 0 to 8,192"]),
    ("data = 'a'\nbatch_size = 99999999999999999999", ["batch_size: expected from 1 to 1,000,000"]),
    ("data = 'a'\n[[stages]]\nepochs = 1000000000", ["epochs: expected from 1 to 1,000,000"]),
    ("data = 'p'\n[[stages]]\nlr = 1" + "0" * 400, ["stages[0].lr: expected a number; got 1000"]),
    ("data = 'p'\nkeep = 0x" + "f" * 4000, ["keep: expected a smaller number; got a int"]),
    ("data = 'p'\nsize" + ".a" * 3000 + " = 1", ["size: expected a whole number; got {'a': {"]),
    ("data = 'p'\naugment = [{name = ['x']}]", ["augment: there is no transform ['x']"]),
    ("data = 'p'\naugment = [{name = 'RandomErasing', p = nan}]", ["RandomErasing can't be made"]),
    ("data = 'p'\naugment = [{name = 'RandomErasing', scale = 1979-05-27}]", ["can't be made"]),
    ("data = \"~\\u0000\"", ["data: expected a text of one line"]),
    ("data = 'p'\nout = \"a\\u0000\"", ["out: expected a text of one line"]),
    ("data = 'p'\n[[stages]]\nname = \"\\u001b[2J\"", ["stages[0].name: expected a text of one"]),
    ("data = 'p'\nclasses = [\"a\\u202e\", 'b']", ["classes: expected a list of texts"]),
    ("data = 'a.tar'", ["val: shards aren't divided", "classes: shards hold numbers"]),
    ("data = 'p'\nsync_batchnorm = true", ["line 2: sync_batchnorm", "hold_statistics = false"]),
    ("data = p", ["is no TOML", "line 1"]),
    ("data = 'p'\ndata = 'q'", ["is no TOML", "overwrite"]),
]  # fmt: skip


def write(folder, text):
    path = folder / "job.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(("text", "said"), BAD, ids=[each[0][-40:] for each in BAD])
def test_each_mistake_is_said_by_key_line_and_nearest(tmp_path, text, said):
    with pytest.raises(ConfigError) as error:
        read_config(write(tmp_path, text))
    for words in said:
        assert words in str(error.value)


def test_all_mistakes_are_said_at_once(tmp_path):
    with pytest.raises(ConfigError) as error:
        read_config(write(tmp_path, "data = 1\nbatch_size = 0\nmodell = 'x'"))
    assert [f"line {n}:" in str(error.value) for n in (1, 2, 3)] == [True] * 3


def test_what_is_written_is_what_is_read(tmp_path):
    config = read_config(write(tmp_path, GOOD))
    assert config.data == str(tmp_path / "pictures")  # from the file's folder
    assert config.batch_size == 16
    assert config.stages == (
        StageConfig(epochs=2), StageConfig(thaw=("blocks.6",), lr=1.0)
    )  # fmt: skip
    jitter = augmentation(config.augment[1], 64)
    assert isinstance(jitter, v2.ColorJitter)
    assert jitter.brightness == (0.8, 1.2)
    assert from_plain(as_plain(config)) == config


def test_every_key_is_an_option_and_goes_before_the_file(tmp_path):
    """Each value comes back from the words that a person would write for it."""
    path = write(tmp_path, GOOD.partition("[[stages]]")[0])
    other = {
        "classes": ("a", "b"), "stages": (StageConfig(thaw=("all",), lr=0.5),),
        "augment": ("RandomGrayscale", {"name": "RandomErasing", "p": 0.1}), "size": 64,
        "model": "resnet18", "plan": "head", "optimizer": "adamw", "schedule": "constant",
        "class_weight": "balanced", "amp": "bfloat16", "channels_last": "on", "device": "cpu",
    }  # fmt: skip
    words = {"classes": "a,b", "stages": "[{thaw = ['all'], lr = 0.5}]",
             "augment": "['RandomGrayscale', {name = 'RandomErasing', p = 0.1}]"}  # fmt: skip
    for key in dataclasses.fields(JobConfig):
        value = other.get(key.name)
        if value is None:
            value = {bool: not key.default, int: 3, float: 0.25, str: "x"}[key.type]
        if key.name == "sync_batchnorm":
            continue  # only with another key: below
        said = words.get(key.name, str(value).lower() if key.type is bool else str(value))
        option = "--" + key.name.replace("_", "-")
        for given in ([option, said], [f"{option}={said}"]):
            assert getattr(read_config(path, given), key.name) == value, key.name
    flags = read_config(path, ["--sync-batchnorm", "--hold-statistics=false"])
    assert (flags.sync_batchnorm, flags.hold_statistics) == (True, False)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--batchsize", "3"], "--batch-size"),
        (["--seed"], "--seed needs a value"),
        (["--seed", "x"], "option --seed: seed: expected a whole number"),
        (["batch_size", "3"], "There is no option 'batch_size'"),
    ],
)
def test_wrong_options_are_said(tmp_path, words, said):
    with pytest.raises(ConfigError, match=said):
        read_config(write(tmp_path, GOOD), words)


def test_files_that_cant_be_read_are_said(tmp_path):
    write(tmp_path, GOOD)
    with pytest.raises(ConfigError, match=r"Did you mean 'job\.toml'"):
        read_config(tmp_path / "jop.toml")
    (tmp_path / "job.toml").write_bytes(b"data = '\xff'")
    with pytest.raises(ConfigError, match="no text in UTF-8"):
        read_config(tmp_path / "job.toml")
    with pytest.raises(ConfigError, match="can't be read"):
        read_config(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "large").write_bytes(b"#" * (1 << 20) + b"#")
    for path in (tmp_path / "pipe", "/dev/zero", tmp_path / "large", tmp_path / "a\0"):
        with pytest.raises(ConfigError, match="can't be read"):
            read_config(path)


def test_the_command_tells_and_lists(tmp_path, capsys):
    assert cli.main(["train", str(write(tmp_path, "data = 3"))]) == 1
    assert "line 1: data: expected a text" in capsys.readouterr().err
    assert cli.main(["train", "--keys"]) == 0
    listed = capsys.readouterr().out
    assert all(each.name in listed for each in dataclasses.fields(JobConfig))
    assert cli.main(["train", "folder", "--dry-run"]) == 1
    assert "CONFIG.toml" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.main(["train", "folder", "--epochs", "3"])


def test_the_lines_are_those_of_the_file(tmp_path):
    """Against tomllib: a file in which each line has a mistake names each of its lines."""
    keys = [each.name for each in dataclasses.fields(JobConfig) if each.type in (int, float)]
    text = "\n".join(f"{key} = 'wrong'" for key in keys)
    assert list(tomllib.loads(text)) == keys
    with pytest.raises(ConfigError) as error:
        read_config(write(tmp_path, text))
    for number, key in enumerate(keys, start=1):
        assert f"line {number}: {key}: expected" in str(error.value)
