"""What a job is to do: one TOML file, every key of it also an option, every mistake said by name.

::

    data = "pictures"
    model = "efficientnet_lite0"
    batch_size = 32

    [[stages]]
    thaw = []                # the head alone
    epochs = 2

    [[stages]]
    thaw = ["blocks.5", "blocks.6"]
    epochs = 3
    lr = 0.003
"""

import contextlib
import dataclasses
import json
import math
import re
import reprlib
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torchvision.transforms import v2

from course_lib import backbones
from course_lib.errors import CourseError, UnknownNameError, suggest
from course_lib.paths import read_file, user_path
from course_lib.text import few

Check = Callable[[Any], bool]
_LARGEST = 1 << 20  # bytes of a file; nobody writes more by hand
_MOST = 1 << 53  # a whole number that every reader of a checkpoint takes


class ConfigError(CourseError, ValueError):
    """A config that can't be used; the message names each key, its line and what was expected."""


def _key(default: Any, what: str, check: Check | None = None, expected: str = "") -> Any:
    about = {"what": what, "check": check, "expected": expected}
    if isinstance(default, list):
        return field(default_factory=tuple, metadata=about)
    return field(default=default, metadata=about)


def _one_of(*names: str) -> tuple[Check, str]:
    return (lambda value: value in names), "one of " + ", ".join(map(repr, names))


def _from(low: float, high: float = math.inf) -> tuple[Check, str]:
    said = f"at least {low:g}" if high == math.inf else f"from {low:g} to {high:,}"
    return (lambda value: low <= value <= high and value < math.inf), said


def _above(low: float) -> tuple[Check, str]:
    return (lambda value: low < value < math.inf), f"a number above {low:g}"


@dataclass(frozen=True)
class StageConfig:
    """One stage: which parts train, for how long, how fast. The head always trains.

    Attributes are the keys of a ``[[stages]]`` table.
    """

    thaw: tuple[str, ...] = _key([], "parts of the body that train: names, patterns, or 'all'")
    epochs: int = _key(1, "passes over the training pictures", *_from(1, 1_000_000))
    lr: float = _key(0.01, "learning rate at the head", *_above(0))
    depth_factor: float = _key(0.3, "the first part learns at lr times this", *_from(0, 1))
    name: str = _key("", "what the stage is called")


@dataclass(frozen=True)
class JobConfig:
    """Everything that a job is told. Attributes are the keys of the file, and its options."""

    data: str = _key("", "folder, list (CSV: path,label[,split]) or shards (*.tar)")
    val: str = _key("", "the same to choose by; without it, drawn or the folder's own")
    test: str = _key("", "the same to measure by, once")
    classes: tuple[str, ...] = _key([], "names of the classes; needed for shards")
    out: str = _key("run", "folder for checkpoints, logs, network and report")

    model: str = _key(
        "efficientnet_lite0", "a backbone of the course, of torchvision, or timm/NAME"
    )
    pretrained: bool = _key(True, "start from published weights")
    weights: str = _key("", "a file of weights to start from, instead")
    size: int = _key(
        0, "side of the pictures; 0: the profile's, or the backbone's", *_from(0, 8192)
    )

    plan: str = _key("staged", "which stages, where the file has no [[stages]]",
                     *_one_of("staged", "head", "all", "recipe"))  # fmt: skip
    stages: tuple[StageConfig, ...] = _key([], "stages of your own")
    optimizer: str = _key("sgd", "'sgd' (momentum 0.9) or 'adamw'", *_one_of("sgd", "adamw"))
    weight_decay: float = _key(0.0, "of the optimizer", *_from(0))
    clip: float = _key(0.0, "largest norm of the gradients; 0: as they are", *_from(0))
    warm_up: float = _key(0.1, "share of a stage in which the rates rise", *_from(0, 0.9))
    schedule: str = _key("cosine", "of the rates, afterwards", *_one_of("cosine", "constant"))
    hold_statistics: bool = _key(True, "BatchNorm keeps the statistics that it has")
    sync_batchnorm: bool = _key(False, "several GPUs compute BatchNorm's statistics together")
    shard: bool = _key(
        False, "processes share every layer out among them (FSDP2), if one device can't hold all"
    )
    class_weight: str = _key("none", "'balanced': each class counts the same",
                             *_one_of("none", "balanced"))  # fmt: skip
    label_smoothing: float = _key(0.0, "of the targets", *_from(0, 0.9))
    patience: int = _key(0, "epochs of a stage without a better one before it ends; 0: never",
                         *_from(0))  # fmt: skip

    batch_size: int = _key(32, "pictures a step, of all processes together", *_from(1, 1_000_000))
    augment: tuple[Any, ...] = _key(
        [], "transforms of torchvision v2, in order; none: crop, mirror"
    )
    workers: int = _key(0, "processes that read pictures, for each that trains", *_from(0, 256))
    amp: str = _key("auto", "mixed precision; 'auto': on CUDA",
                    *_one_of("auto", "off", "float16", "bfloat16"))  # fmt: skip
    channels_last: str = _key("auto", "layout of pictures; 'auto': on CUDA",
                              *_one_of("auto", "on", "off"))  # fmt: skip
    device: str = _key("auto", "where to compute", *_one_of("auto", "cpu", "cuda", "mps"))
    threads: int = _key(0, "of the processor; 0: as many as there are cores", *_from(0, 4096))

    checkpoint_every: int = _key(0, "steps between checkpoints; 0: at each epoch's end", *_from(0))
    keep: int = _key(2, "checkpoints that stay", *_from(1))
    log_every: int = _key(10, "steps between two lines of the log", *_from(1))
    tensorboard: bool = _key(True, "write TensorBoard's files, too")
    seed: int = _key(0, "of order, augmentation and new weights", *_from(0, 2**31 - 1))

    def differences(self, other: Mapping[str, Any]) -> list[str]:
        """Names of the keys that differ from a saved config and would change what is computed."""
        mine = as_plain(self)
        return [key for key in mine if key not in FREE and other.get(key) != mine[key]]


FREE = ("out", "workers", "checkpoint_every", "keep", "log_every", "tensorboard", "device", "shard")
"""Keys that may change between two parts of one run: no weight depends on them. (With shards, the
order of the pictures depends on ``workers``; a job checks that itself.)"""

PATHS = ("data", "val", "test", "out", "weights")


def as_plain(config: JobConfig) -> dict[str, Any]:
    """Keys and values as lists, texts and numbers, to be saved."""

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: plain(each) for key, each in value.items()}
        return [plain(each) for each in value] if isinstance(value, list | tuple) else value

    made: dict[str, Any] = plain(dataclasses.asdict(config))
    return made


def from_plain(plain: Mapping[str, Any]) -> JobConfig:
    """The way back from :func:`as_plain`."""
    values: dict[str, Any] = {
        key: tuple(each) if isinstance(each, list) else each for key, each in plain.items()
    }
    stages = tuple(StageConfig(**{**each, "thaw": tuple(each["thaw"])}) for each in plain["stages"])
    values["stages"] = stages
    return JobConfig(**values)


def read_config(path: str | Path | None = None, options: Sequence[str] = ()) -> JobConfig:
    """The config of a file, with options that go before it.

    Args:
        path: a TOML file; None: defaults and options alone. Paths in it are taken from its folder.
        options: ``--key value`` or ``--key=value``, with the keys of :class:`JobConfig`
            (``batch-size`` is ``batch_size``). A key that is true or false needs no value. Lists
            and stages are written as in the file: ``--stages '[{thaw = ["all"], epochs = 3}]'``.

    Raises:
        ConfigError: the file can't be read, or keys or values are wrong: all of them, each with
            its line.
    """
    given: dict[str, Any] = {}
    lines: dict[str, str] = {}
    if path is not None:
        path = user_path(path)
        text = _text(path)
        try:
            given = tomllib.loads(text)
        except (ValueError, RecursionError) as error:  # also digits or brackets by the thousand
            raise ConfigError(
                f"{path} is no TOML: {error}. A line of it looks like: epochs = 3, or data = "
                '"pictures" (texts in quotation marks).'
            ) from error
        lines = _lines(text)
        for key in PATHS:
            if isinstance(given.get(key), str) and given[key]:
                given[key] = str(path.parent / user_path(given[key]))
    for key, value in _options(options).items():
        given[key] = value
        lines[key] = f"option --{key.replace('_', '-')}"
    problems = _Problems(lines)
    values = problems.fields(JobConfig, given, "")
    made = None if problems.found else JobConfig(**values)
    if made is not None:
        problems.together(made)
    if problems.found or made is None:
        where = f"{path} can't be used" if path is not None else "The options can't be used"
        raise ConfigError("\n  ".join([f"{where}:", *problems.found]))
    return made


def _text(path: Path) -> str:
    try:
        return read_file(path, _LARGEST).decode("utf-8-sig")
    except FileNotFoundError as error:
        near = [each.name for each in path.parent.glob("*.toml")]
        raise ConfigError(f"There is no file {path}.{suggest(path.name, near)}") from error
    except (OSError, ValueError) as error:
        text = "it is no text in UTF-8" if isinstance(error, UnicodeDecodeError) else error
        reason = getattr(error, "strerror", None) or text
        raise ConfigError(f"{path} can't be read: {reason}.") from error


def _lines(text: str) -> dict[str, str]:
    """Key, as ``batch_size`` or ``stages[1].lr`` -> ``line 7``."""
    found: dict[str, str] = {}
    table, counts = "", dict[str, int]()
    for number, line in enumerate(text.splitlines(), start=1):
        if head := re.match(r"\s*\[\[\s*([\w.-]+)\s*\]\]", line):
            place = counts.get(head[1], 0)
            counts[head[1]] = place + 1
            found.setdefault(head[1], f"line {number}")
            table = f"{head[1]}[{place}]"
            found[table] = f"line {number}"
        elif head := re.match(r"\s*\[\s*([\w.-]+)\s*\]\s*(#.*)?$", line):
            table = head[1]
            found.setdefault(table, f"line {number}")
        elif pair := re.match(r"""\s*["']?([\w-]+)["']?\s*=""", line):
            found.setdefault(f"{table}.{pair[1]}".lstrip("."), f"line {number}")
    return found


def _options(words: Sequence[str]) -> dict[str, Any]:
    """Key -> value of options."""
    kinds = {each.name: each.type for each in dataclasses.fields(JobConfig)}
    found: dict[str, Any] = {}
    left = list(words)
    while left:
        word = left.pop(0)
        name, has_value, value = word.removeprefix("--").partition("=")
        key = name.replace("-", "_")
        if not word.startswith("--") or key not in kinds:
            known = [f"--{each.replace('_', '-')}" for each in kinds]
            near = suggest(word if not has_value else f"--{name}", known)
            raise ConfigError(f"There is no option {word!r}.{near} An option is a key: --epochs 3.")
        if not has_value:
            flag = kinds[key] is bool and (not left or left[0].startswith("--"))
            if not flag and not left:
                raise ConfigError(f"The option {word} needs a value: {word} VALUE")
            value = "true" if flag else left.pop(0)
        found[key] = value if kinds[key] is str else _value(value, kinds[key])
    return found


def _value(text: str, kind: Any) -> Any:
    """What a text would mean in the file; a list may be written without brackets."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        return text.split(",") if str(kind).startswith("tuple") else text


class _Problems:
    """What is wrong with a config, all of it."""

    def __init__(self, lines: Mapping[str, str]) -> None:
        self.lines, self.found = lines, list[str]()

    def add(self, key: str, what: str) -> Any:
        where = self.lines.get(key) or self.lines.get(key.rpartition(".")[0], "")
        self.found.append(f"{where + ': ' if where else ''}{key}: {what}")

    def fields(self, kind: Any, given: Mapping[str, Any], inside: str) -> dict[str, Any]:
        known = {each.name: each for each in dataclasses.fields(kind)}
        values: dict[str, Any] = {}
        for key, value in given.items():
            place = f"{inside}{key}"
            if key not in known:
                elsewhere = StageConfig if kind is JobConfig else JobConfig
                other = key in {each.name for each in dataclasses.fields(elsewhere)}
                where = "a table [[stages]]" if kind is JobConfig else "the top of the file"
                hint = f" It belongs into {where}." if other else suggest(key, known)
                self.add(place, f"there is no such key.{hint}")
            elif (made := self._made(place, value, known[key])) is not None:
                values[key] = made
        return values

    def _made(self, place: str, value: Any, about: dataclasses.Field[Any]) -> Any:
        """The value in its type; None, and a problem, if it isn't what it should be."""
        if about.name == "stages":
            return self._stages(place, value)
        if about.name == "augment":
            return self._augment(place, value)
        kind = about.type
        if kind == tuple[str, ...]:
            listed = [value] if isinstance(value, str) else value
            if not isinstance(listed, list) or not all(
                isinstance(x, str) and x and x.isprintable() for x in listed
            ):
                return self.add(
                    place, f'expected a list of texts, such as ["a", "b"]; got {_shown(value)}'
                )
            return tuple(listed)
        if kind is float and type(value) is int:
            with contextlib.suppress(OverflowError):
                value = float(value)
        if type(value) is not kind:
            words: dict[Any, str] = {
                str: "a text",
                int: "a whole number",
                float: "a number",
                bool: "true or false",
            }
            return self.add(place, f"expected {words[kind]}; got {_shown(value)}")
        if kind is str and not value.isprintable() and (about.name not in PATHS or "\0" in value):
            return self.add(place, f"expected a text of one line; got {_shown(value)}")
        check, expected = about.metadata["check"], about.metadata["expected"]
        if check and not check(value):
            names = re.findall(r"'([^']*)'", expected)
            hint = suggest(value, names) if isinstance(value, str) else ""
            return self.add(place, f"expected {expected}; got {_shown(value)}.{hint}")
        if kind is int and value > _MOST:
            return self.add(place, f"expected a smaller number; got {_shown(value)}")
        return value

    def _stages(self, place: str, value: Any) -> tuple[StageConfig, ...] | None:
        if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
            return self.add(place, "expected tables: a line [[stages]], its keys below it")
        before = len(self.found)
        made = [
            self.fields(StageConfig, each, f"stages[{i}].") for i, each in enumerate(value)
        ]  # fmt: skip
        return None if len(self.found) > before else tuple(StageConfig(**each) for each in made)

    def _augment(self, place: str, value: Any) -> tuple[Any, ...] | None:
        listed = [value] if isinstance(value, str | dict) else value
        if not isinstance(listed, list):
            return self.add(place, f"expected a list of transforms; got {_shown(value)}")
        for each in listed:
            if problem := _augmentation_problem(each):
                return self.add(place, problem)
        return tuple(listed)

    def together(self, config: JobConfig) -> None:
        """What is wrong only in view of another key."""
        if not config.data:
            self.add("data", "it is missing: the folder, list or shards to learn from")
        if config.stages and "plan" in self.lines:
            self.add("plan", "there are [[stages]] as well; take one of them out")
        if is_shards(config.data):
            if not config.val:
                self.add("val", "shards aren't divided: name those to choose by")
            if len(config.classes) < 2:
                self.add("classes", 'shards hold numbers: name the classes, ["cat", "dog"]')
        if len(set(config.classes)) != len(config.classes) or len(config.classes) == 1:
            self.add("classes", "expected two or more different names")
        names = [each.name for each in config.stages if each.name]
        if len(set(names)) != len(names):
            self.add("stages", f"two stages of one name: {few(names)}")
        if config.sync_batchnorm and config.hold_statistics:
            self.add("sync_batchnorm", "BatchNorm is held; set hold_statistics = false, too")
        try:
            backbones.preprocessing(config.model, config.size or None)
        except UnknownNameError as error:
            self.add("model", str(error))
        except CourseError as error:
            self.add("size", str(error))


def _shown(value: Any) -> str:
    """A value for a message: short, however large or deep it is."""
    try:
        return repr(value) if isinstance(value, str) else reprlib.repr(value)
    except (ValueError, RecursionError):  # digits by the thousand
        return f"a {type(value).__name__}"


def is_shards(source: str) -> bool:
    """Whether a source is WebDataset shards: tar files, by name, pattern or braces."""
    return source.endswith(".tar")


def _augmentation_problem(each: Any) -> str:
    name = each if isinstance(each, str) else each.get("name") if isinstance(each, dict) else None
    known = augmentations()
    if not isinstance(name, str) or name not in known:
        near = suggest(name, known) if isinstance(name, str) else ""
        return f"there is no transform {_shown(name)} in torchvision.transforms.v2.{near}"
    try:
        augmentation(each, 64)
        json.dumps(each, allow_nan=False)  # it is saved, and compared when a run goes on
    except Exception as error:  # whatever torchvision raises about what it was given
        return f"{name} can't be made: {type(error).__name__}: {error}"
    return ""


def augmentations() -> dict[str, type[v2.Transform]]:
    """torchvision's transforms of one picture, by name."""
    batch = ("MixUp", "CutMix", "Compose", "RandomApply", "RandomChoice", "RandomOrder", "Lambda")
    kinds = {name: getattr(v2, name) for name in dir(v2) if name[0].isupper() and name not in batch}
    return {n: k for n, k in kinds.items() if isinstance(k, type) and issubclass(k, v2.Transform)}


def augmentation(each: Any, size: int) -> v2.Transform:
    """One transform of a config: its name, or a table of its name and arguments.

    Args:
        each: as in the config.
        size: side of the pictures, for a transform that crops or resizes and isn't told its own.
    """
    name, options = (each, {}) if isinstance(each, str) else (each["name"], dict(each))
    options.pop("name", None)
    kind = augmentations()[name]
    if name in ("RandomResizedCrop", "RandomCrop", "Resize", "CenterCrop"):
        options.setdefault("size", (size, size))
    return kind(**options)


def described() -> Iterable[tuple[str, str]]:
    """Each key with what it is, for ``course train --keys``."""
    for kind, before in ((JobConfig, ""), (StageConfig, "stages: ")):
        for each in dataclasses.fields(kind):
            default = each.default if each.default is not dataclasses.MISSING else "[]"
            yield f"{before}{each.name}", f"{each.metadata['what']} ({default!r})"
