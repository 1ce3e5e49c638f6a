"""Fuzzing every boundary that a stranger's bytes cross, for as long as is asked for.

``COURSE_FUZZ_SECONDS`` says how long each boundary is tried by the slow test (60 by default); the
quick one takes the first cases. A case is damaged bytes, or a value changed inside a file that is
whole by its checksums. Each ends in one of five ways, and the last four must not occur:

- clean: an error of the course's, or what was asked for;
- raw: another exception;
- hang: 10 s of processor time, or 100 s in all;
- crash: the process ended;
- silently wrong: no error, and another result or other files than there should be.
"""

import copy
import dataclasses
import io
import json
import math
import os
import pickle
import random
import signal
import time
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from course_lib import exercises, recipe
from course_lib.data import images, inspection
from course_lib.data.unzip import unzip
from course_lib.errors import CourseError
from course_lib.exercises import collecting, predictions, progress_file
from course_lib.features import cache, keys
from course_lib.jobs import JobConfig, StageConfig, read_config
from course_lib.jobs.config import as_plain, augmentation, augmentations, from_plain
from course_lib.publishing import addresses
from course_lib.setup import hosting
from course_lib.setup.hosting import work
from course_lib.weights import (
    inspect,
    load_weights,
    read_checkpoint,
    resume_checkpoint,
    save_checkpoint,
    save_weights,
)
from tests.data.loopback import zip_of
from tests.weights.conftest import make, same, snapshot, untouched
from tests.weights.test_fuzz import CHECKED, damage, original

SECONDS = float(os.environ.get("COURSE_FUZZ_SECONDS", "60"))
QUICK = 40  # cases of a boundary in `make test`


class HangError(BaseException):
    """The case took too long."""


class WrongError(Exception):
    """No error, and yet not what it should be."""


def right(condition, what):
    if not condition:
        raise WrongError(what)


ODD = (None, True, -1, 0, 1, 2**70, 1e300, float("nan"), "", "x", "\x1b[31m", "$x^$", "../x",
       "\ud800", [], {}, [1], {"a": 1}, [[[]]], b"x", (), torch.zeros(2), 10**400)  # fmt: skip


def changed(tree, rng, plain=True):
    """The same with one node replaced, left out, doubled or renamed; with JSON's values only."""
    odd = [each for each in ODD if not plain or not isinstance(each, bytes | tuple | torch.Tensor)]
    tree = copy.deepcopy(tree)
    nodes = []

    def walk(value):
        if isinstance(value, dict | list):
            for key in value if isinstance(value, dict) else range(len(value)):
                nodes.append((value, key))
                walk(value[key])

    walk(tree)
    if not nodes or rng.random() < 0.03:
        return rng.choice(odd)
    for _ in range(rng.choice([1, 1, 1, 3])):
        holder, key = rng.choice(nodes)
        how = rng.choice(["odd", "odd", "odd", "gone", "other", "deep"])
        if isinstance(holder, list) and key >= len(holder):
            continue
        if isinstance(holder, dict) and key not in holder:
            continue
        if how == "gone":
            del holder[key]
        elif how == "other":
            other, place = rng.choice(nodes)
            try:
                holder[key] = copy.deepcopy(other[place])
            except (KeyError, IndexError, RecursionError):
                continue
        else:
            value = rng.choice(odd)
            for _ in range(rng.choice([30, 3000]) if how == "deep" else 0):
                value = [value]
            holder[key] = value
    return tree


def as_json(tree):
    try:
        return json.dumps(tree).encode("utf-8", "replace")
    except (RecursionError, ValueError):
        return b"[" * 5000


WORDS = (b"q\x01", b"h\x01", b"\x86", b"}", b"]a", b"cbuiltins\nbytearray\n",
         b"J\x00\x00\x00\x70", b"\x85R")  # fmt: skip


# --- the boundaries: each gives a function that tries one case ----------------------------------


def checkpoints(format):
    def boundary(folder):
        content, path = original(folder, format), folder / "bad"
        model = make(1)
        before, whole = snapshot(model), snapshot(make(2))

        def case(rng):
            _, bad = damage(content, rng)
            path.write_bytes(bad)
            for look in (inspect, read_checkpoint):
                try:
                    found = look(path)
                except CourseError:
                    continue
                str(found)
                if look is read_checkpoint and format in CHECKED:
                    right(same(dict(sorted(found.tensors.items())), dict(sorted(whole.items()))),
                          "other tensors")  # fmt: skip
            try:
                load_weights(model, path)
            except CourseError:
                right(untouched(model, before), "a failed load changed the model")
            else:
                right(format not in CHECKED or same(snapshot(model), whole), "other values")
                load_weights(model, before)

        return case

    return boundary


def pickles(folder):
    """Programs of the pickle machine, of random instructions, in a file that is whole."""
    torch.save({"state_dict": make(2).state_dict()}, folder / "x.pth")
    with zipfile.ZipFile(folder / "x.pth") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    (program,) = (name for name in members if name.endswith("data.pkl"))
    codes = [getattr(pickle, name) for name in dir(pickle) if name.isupper()]
    codes = [each for each in codes if isinstance(each, bytes) and len(each) == 1]

    def case(rng):
        data = bytearray(members[program])
        for _ in range(rng.choice([1, 3, 20])):
            at = rng.randrange(2, len(data))
            new = rng.choice([*codes, rng.randbytes(1), *WORDS])
            data[at : at + rng.choice([0, len(new)])] = new
        with zipfile.ZipFile(folder / "bad", "w") as archive:
            for name, content in members.items():
                archive.writestr(name, bytes(data) if name == program else content)
        for look in (inspect, read_checkpoint):
            try:
                str(look(folder / "bad"))
            except CourseError:
                continue

    return case


def runs(folder):
    """Training checkpoints with a value changed inside."""
    path = folder / "run.pth"

    def started(seed):
        torch.manual_seed(seed)
        model = make(seed)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        steps(model, optimizer)
        return model, optimizer, torch.optim.lr_scheduler.StepLR(optimizer, 1)

    def steps(model, optimizer):
        sum(p.square().sum() for p in model.parameters()).backward()
        optimizer.step()

    save_checkpoint(path, *started(1), epoch=2)
    content = torch.load(path, weights_only=True)
    model, optimizer, scheduler = started(2)
    before, state = snapshot(model), copy.deepcopy(optimizer.state_dict())

    def case(rng):
        try:
            torch.save(changed(content, rng, plain=False), folder / "bad")
        except RecursionError:
            return
        try:
            resume_checkpoint(folder / "bad", model, optimizer, scheduler)
        except CourseError:
            right(untouched(model, before), "a failed resume changed the model")
            torch.testing.assert_close(optimizer.state_dict(), state, rtol=0, atol=0)
            return
        try:
            steps(model, optimizer)
            scheduler.step()
        finally:
            load_weights(model, before)
            optimizer.load_state_dict(copy.deepcopy(state))

    return case


def pictures(folder):
    image = Image.fromarray(np.random.default_rng(1).integers(0, 255, (40, 50, 3), np.uint8))
    files = []
    for kind in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"):
        buffer = io.BytesIO()
        image.save(buffer, kind)
        files.append(buffer.getvalue())

    def case(rng):
        _, bad = damage(rng.choice(files), rng)
        path = folder / "picture.jpg"
        path.write_bytes(bad)
        try:
            found = images.open_image(path)
        except CourseError:
            return
        right(found.mode == "RGB" and max(found.size) < 1 << 16, "no picture")

    return case


def archives(folder):
    members = [(f"a/{place}.txt", bytes([place]) * 500) for place in range(6)]
    content = zip_of([*members, ("other/x", b"x")])
    truth = {name.removeprefix("a/"): data for name, data in members}

    def case(rng):
        (folder / "bad.zip").write_bytes(damage(content, rng)[1])
        into = folder / f"into{rng.random()}"
        into.mkdir()
        around = sorted(each.name for each in folder.iterdir())
        try:
            unzip(folder / "bad.zip", "a", into, 1 << 20)
        except CourseError:
            pass
        else:
            found = {p.relative_to(into).as_posix(): p.read_bytes() for p in into.rglob("*.txt")}
            right(set(found.values()) <= set(truth.values()), "other contents")
        right(sorted(each.name for each in folder.iterdir()) == around, "files outside")

    return case


KNOWN = {"passed": True, "attempts": 2, "hints": 0, "solution": False}
PROGRESS = {"version": 1, "entries": {"4.1": KNOWN, "4.2": {**KNOWN, "passed": False}}}


def progress(folder):
    os.environ["COURSE_PROGRESS"] = str(folder / "progress.json")

    def case(rng):
        content = as_json(changed(PROGRESS, rng))
        if rng.random() < 0.4:
            content = damage(as_json(PROGRESS), rng)[1]
        (folder / "progress.json").write_bytes(content)
        found = progress_file.entries()
        str(exercises.progress())
        exercises.progress()._repr_html_()
        progress_file.note_attempt("9.9", True)
        right(
            progress_file.entries() == {**found, "9.9": {**KNOWN, "attempts": 1}}, "other entries"
        )
        for each in folder.glob("*damaged*"):
            each.unlink()

    return case


def imports(folder):
    os.environ["COURSE_PROGRESS"] = str(folder / "progress.json")
    os.environ["COURSE_DATA"] = str(folder / "data")
    for name in ("notebooks", "data", "here"):
        (folder / name).mkdir()
    os.chdir(folder / "here")
    work.repo_root = lambda: folder
    work._answered = lambda: iter(())
    progress_file.join(PROGRESS["entries"])
    predictions._noted.update({"a": 0.5, "b": ["x"]})
    (folder / "notebooks" / "my_notes.ipynb").write_text("{}" * 200)
    content = hosting.export_work().read_bytes()
    (folder / "notebooks" / "my_notes.ipynb").unlink()
    (folder / "progress.json").unlink()

    def files():
        return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name != "bad.zip"}

    before = files()

    def case(rng):
        bad = damage(content, rng)[1]
        if rng.random() < 0.5:
            with zipfile.ZipFile(io.BytesIO(content)) as old:
                members = {name: old.read(name) for name in old.namelist()}
            name = rng.choice(["progress.json", "predictions.json", "course-work.json"])
            members[name] = as_json(changed(json.loads(members[name]), rng))
            if name != "course-work.json":
                listed = json.loads(members["course-work.json"])
                listed["files"][name] = __import__("hashlib").sha256(members[name]).hexdigest()
                members["course-work.json"] = as_json(listed)
            bad = zip_of(list(members.items()))
        (folder / "bad.zip").write_bytes(bad)
        try:
            hosting.import_work(folder / "bad.zip")
        except CourseError:
            right(files() == before, "a failed import changed files")
        new = files().keys() - before.keys()
        right({p.name for p in new} <= {"my_notes.ipynb", "progress.json"}, "other files")
        for path in new:
            path.unlink()

    return case


def features(folder):
    values, targets = torch.randn(30, 8), torch.arange(30)
    path = cache.store(folder, "key", values, targets)
    content = path.read_bytes()

    def case(rng):
        if rng.random() < 0.3:
            shape = rng.choice([(30, 8), (29, 8), (30,), (0, 2), (30, 2, 2)])
            other = torch.full(shape, float(rng.choice([1, "nan", "inf"])))
            told = {"key": "key", "checksum": keys.of_tensors(other, targets)}
            path.write_bytes(__import__("safetensors.torch").torch.save(
                {"values": other, "targets": targets}, told))  # fmt: skip
            found = cache.load(folder, "key", 30)
            right(found is None or (len(found[0]) == 30 and found[0].isfinite().all()), "odd rows")
            return
        path.write_bytes(damage(content, rng)[1])
        found = cache.load(folder, "key", 30)
        right(
            found is None or same(dict(enumerate(found)), {0: values, 1: targets}), "other values"
        )

    return case


def settings(folder):
    """Files of settings: the address, notes on pictures, an index of shards, a saved recipe."""
    addresses.FILE = folder / "address.json"
    os.environ["COURSE_CACHE"] = str(folder / "cache")
    root = folder / "pictures"
    root.mkdir()
    Image.new("RGB", (40, 40), "red").save(root / "a.png")
    index = {"metadata": {"total": 3}, "weight_map": dict.fromkeys(make(2).state_dict(), "s.pth")}
    torch.save(make(2).state_dict(), folder / "s.pth")
    extra = {"recipe": 1, "classes": ["a", "b"], "backbone": "", "licence": "", "head": None,
             "size": 8, "resize": 8, "crop": "center", "interpolation": "bilinear",
             "mean": [0.5] * 3, "std": [0.5] * 3, "temperature": 1.0, "threshold": 0.5, "plan": "",
             "result": {}, "course": "0", "date": "2026-01-01T00:00:00+00:00"}  # fmt: skip

    def case(rng):
        what = rng.randrange(4)
        if what == 0:
            addresses.FILE.write_bytes(as_json(changed({"repo": "a/b", "ref": "v1"}, rng)))
            addresses.address()
        elif what == 1:
            notes = inspection.Notes(root)
            notes.file.parent.mkdir(parents=True, exist_ok=True)
            entry = [1, 2, "hash", "sketch"]
            known = {"version": notes.version, "files": {"a.png": entry, "b": entry}}
            notes.file.write_bytes(as_json(changed(known, rng)))
            notes = inspection.Notes(root)
            notes.get(root / "a.png")
            notes.add(root / "a.png", "h", "s")
            notes.save()
        elif what == 2:
            path = folder / "model.index.json"
            path.write_bytes(as_json(changed(index, rng)))
            read_checkpoint(path)
        else:
            path = folder / "mine.safetensors"
            try:
                told = json.loads(as_json(changed(extra, rng)))
            except RecursionError:
                return
            save_weights(make(2), path, extra=told if isinstance(told, dict) else {"recipe": told})
            recipe.load(path, model=make(1))

    return case


WORDS_OF_TOML = (
    "nan", "-inf", "1e999", "9" * 400, "9" * 5000, "0x" + "f" * 400, "true", "-1", "0", "1_0", "3",
    "0.5", "1979-05-27", "07:32:00", '""', '"x"', '"\\u0000"', '"~\\u0000"', '"\\u001b[31m"', '"~"',
    '"~nobody/x"', '"pipe"', '"/dev/zero"', '"loop/x"', '"none.tar"', '"\\ud800"', "[]", "{}",
    "[{}]", "{name = ['x']}", "[[['all']]]", '"all"', '"staged"', '["a", "b"]', "[" * 90 + "]" * 90,
    "{a = " * 60 + "1" + "}" * 60,
)  # fmt: skip


def jobs_settings(folder):
    """What a job is told: mutated, random and grammar-made TOML, and options."""
    os.mkfifo(folder / "pipe")
    (folder / "loop").symlink_to("loop")
    (folder / "zero").symlink_to("/dev/zero")
    keys = [each.name for each in dataclasses.fields(JobConfig)]
    inner = [each.name for each in dataclasses.fields(StageConfig)]
    good = 'data = "p"\nsize = 64\nlr = 1\naugment = ["RandomGrayscale"]\n[[stages]]\nepochs = 2\n'
    path = folder / "job.toml"

    def value(rng):
        if rng.random() < 0.1:
            name = rng.choice([*augmentations(), "None"])
            more = [f"{rng.choice(['p', 'size', 'degrees', 'padding', 'mean', 'x'])} = {value(rng)}"
                    for _ in range(rng.randrange(3))]  # fmt: skip
            return f"[{{{', '.join([f'name = {json.dumps(name)}', *more])}}}]"
        return rng.choice(WORDS_OF_TOML)

    def text(rng):
        lines = []
        for _ in range(rng.randrange(8)):
            deep = rng.choice([".a", ".lr", ".'\x1b'", ".a" * 2000]) if rng.random() < 0.2 else ""
            key = rng.choice([*keys, *inner, "x", '"\\u202e"', '"\\u0000"', "''"]) + deep
            head = rng.choice(["", "", "", "[[stages]]\n", "[stages]\n", "[[a.b]]\n"])
            lines.append(f"{head}{key} = {value(rng)}")
        return ("data = 'p'\n" * rng.randrange(2) + "\n".join(lines)).encode("utf-8", "replace")

    def case(rng):
        bad = damage(rng.choice([good.encode(), text(rng) or b"x"]), rng)[1]
        path.write_bytes(rng.choice([text(rng), bad, rng.randbytes(200)]))
        options = [f"--{rng.choice(keys)}={value(rng)}" for _ in range(rng.randrange(3))]
        others = [folder / name for name in ("pipe", "zero", "loop", "a\0", "\ud800")]
        where = rng.choice([path] * 20 + others)
        config = read_config(where, options)
        right(from_plain(as_plain(config)) == config, "it isn't what it says")
        for each in (config, *config.stages):
            numbers = [n for n in vars(each).values() if isinstance(n, int | float)]
            right(all(map(math.isfinite, numbers)), "a number without end")
        for each in config.augment:
            augmentation(each, 32)

    return case


def sheets(folder):
    """What a room has shared: files, lines of codes, and what else lies there."""
    os.mkfifo(folder / "pipe")
    (folder / "loop").symlink_to("loop")
    (folder / "zero").symlink_to("/dev/zero")
    (folder / "a folder.txt").mkdir()
    told = {"sheet": "0123", "who": "", "predictions": {"a": 0.5, "b": "x", "c": True}}
    (folder / "good.txt").write_text(collecting.packed({"kept": 7}, "good"))

    def case(rng):
        guesses = {"a": 0.5, "b": ["x", "y"], "\x1b[31m": rng.choice([1, "\n"])}
        whole = collecting.packed(guesses, "1")
        lines = [as_json(changed(told, rng)) for _ in range(rng.randrange(4))]
        lines = [collecting.MARK.encode() + b" " + each for each in lines]
        lines += [damage(whole.encode(), rng)[1], rng.randbytes(50)]
        for name in ("a.txt", "\x1b[2J.txt"):
            (folder / name).write_bytes(b"\n".join(rng.sample(lines, rng.randrange(len(lines)))))
        said = collecting.collect(folder)
        right("kept: 1 guess from 7 to 7" in said, "a good sheet was lost")
        right(all(line.isprintable() for line in said.split("\n")), "what a terminal would obey")

    return case


BOUNDARIES = {
    ".pth": checkpoints("zip"), "old .pth": checkpoints("legacy"),
    ".safetensors of ours": checkpoints("safetensors"),
    ".safetensors": checkpoints("plain safetensors"), ".npz": checkpoints("numpy"),
    "pickles": pickles, "training checkpoints": runs, "pictures": pictures, "archives": archives,
    "progress": progress, "imports": imports, "features' cache": features, "settings": settings,
    "jobs' settings": jobs_settings, "shared predictions": sheets,
}  # fmt: skip


def one(case, seed):
    """How a case ends, and what to say of it."""
    try:
        case(random.Random(seed))
    except (CourseError, HangError) as error:
        return ("hang" if isinstance(error, HangError) else "clean"), ""
    except (WrongError, AssertionError) as error:
        return "silently wrong", f"{error}"
    except Exception as error:
        return "raw", f"{type(error).__name__}: {error}"
    return "clean", ""


def child(boundary, folder, first, enough, log):
    """Try cases until it is enough, in a process of its own; each is noted before it is tried."""

    def hang(*_):
        raise HangError

    signal.signal(signal.SIGPROF, hang)
    signal.signal(signal.SIGALRM, hang)
    case = boundary(folder)
    seed = first
    with log.open("a") as file:
        while not enough(seed):
            print(seed, "?", file=file, flush=True)
            signal.setitimer(signal.ITIMER_PROF, 10)
            signal.setitimer(signal.ITIMER_REAL, 100)
            result, said = one(case, seed)
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.setitimer(signal.ITIMER_REAL, 0)
            print(seed, result, " ".join(said.split())[:300], sep="\t", file=file, flush=True)
            seed += 1


def fuzz(name, folder, enough):
    """Counts of how the cases ended, and a line for each that must not be."""
    counts, lines, seed = Counter(), [], 0
    log = folder / "log"
    while not enough(seed):
        place = folder / f"from{seed}"
        place.mkdir()
        number = os.fork()
        if number == 0:
            status = 1
            try:
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, 1)
                os.dup2(null, 2)
                child(BOUNDARIES[name], place, seed, enough, log)
                status = 0
            finally:
                os._exit(status)
        _, status = os.waitpid(number, 0)
        noted = log.read_text().splitlines() if log.exists() else []
        if status == 0:
            break
        assert noted, f"{name} can't begin"
        seed = int(noted[-1].split()[0]) + 1
    for line in log.read_text().splitlines():
        place, *told = line.split("\t")
        if told:
            counts[told[0]] += 1
            counts["tried"] -= 1
            lines += [] if told[0] == "clean" else [f"{name}, case {place}: {' '.join(told)}"]
        else:
            counts["tried"] += 1
    counts["crash"] = counts.pop("tried", 0)
    return counts, lines


def row(name, counts):
    kinds = ("clean", "raw", "hang", "crash", "silently wrong")
    return f"{name:22}" + "  ".join(f"{kind} {counts[kind]}" for kind in kinds)


@pytest.mark.parametrize("name", BOUNDARIES)
def test_the_first_cases(tmp_path, name):
    counts, lines = fuzz(name, tmp_path, lambda seed: seed >= QUICK)
    assert not lines, "\n".join(lines)
    assert counts == {"clean": QUICK, "crash": 0}


@pytest.mark.slow
@pytest.mark.parametrize("name", BOUNDARIES)
def test_for_as_long_as_is_asked_for(tmp_path, name):
    end = time.monotonic() + SECONDS
    counts, lines = fuzz(name, tmp_path, lambda _: time.monotonic() > end)
    print(row(name, counts))
    if table := os.environ.get("COURSE_FUZZ_TABLE"):
        with Path(table).open("a") as file:
            print(row(name, counts), *lines, sep="\n", file=file)
    assert not lines, "\n".join(lines[:20])
    assert counts["crash"] == 0
    assert counts["clean"] > 0


@pytest.mark.parametrize(("what", "kind"), [
    (lambda rng: None, "clean"), (lambda rng: 1 / 0, "raw"),
    (lambda rng: right(False, "wrong"), "silently wrong"),
    (lambda rng: os.kill(os.getpid(), signal.SIGKILL), "crash"),
    (lambda rng: os.kill(os.getpid(), signal.SIGALRM), "hang"),
])  # fmt: skip
def test_the_fuzz_would_notice(tmp_path, monkeypatch, what, kind):
    monkeypatch.setitem(BOUNDARIES, "trial", lambda folder: what)
    counts, _ = fuzz("trial", tmp_path, lambda seed: seed >= 3)
    assert counts[kind] == 3
    assert sum(counts.values()) == 3
