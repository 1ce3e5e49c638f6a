"""Ctrl-C at each call: it stays itself, what is written is old or new, and nothing lies about.

The signal is sent where a function begins, of the course or of a library: there Python looks for
signals. Each line of the course that calls one counts by itself.
"""

import gc
import os
import random
import shutil
import signal
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from course_lib import data, features, paths, training
from course_lib.errors import interrupts_delayed, interrupts_kept
from course_lib.exercises import predictions, progress_file
from course_lib.features import cache
from course_lib.setup import hosting, lab
from course_lib.setup.hosting import work
from course_lib.weights import load_weights, resume_checkpoint, save_checkpoint, save_weights
from tests.weights.conftest import make, same, snapshot
from tests.weights.test_resume_damaged import started

# A generator that is thrown away tells of what it was interrupted by; nobody can catch that.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning",
                                        "ignore::ResourceWarning")  # fmt: skip
COURSE = str(Path(data.__file__).parents[1])


class Moments:
    """Runs something again and again, and interrupts it at another call each time."""

    def __init__(self, most, own_gradients):
        self.most, self.places, self.at = most, [], None
        self.own_gradients = own_gradients  # elsewhere, torch's no_grad may leave them off

    def run(self, call):
        """One run; the first one only notes which calls there are."""
        seen = set()
        self.at = self.places.pop() if self.places else None

        def trace(frame, _, __):
            code, back = frame.f_code, frame.f_back
            own = back is not None and back.f_code.co_filename.startswith(COURSE)
            place = (code, back.f_code, back.f_lineno) if own else (code,)
            if place == self.at:
                sys.settrace(None)
                os.kill(os.getpid(), signal.SIGINT)
            seen.add(place)

        sys.settrace(trace)
        try:
            call()
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(None)
            gradients = torch.is_grad_enabled()
            torch.set_grad_enabled(True)
        assert gradients or not self.own_gradients, self.at
        if self.at is None:
            order = sorted(seen, key=str)
            self.places = random.Random(1).sample(order, min(self.most, len(order)))


def names(folder):
    return sorted(each.relative_to(folder).as_posix() for each in folder.rglob("*"))


def emptied(folder):
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


# --- each gives, anew, what is run, and what must hold afterwards ------------------------------


def loading(ending):
    def case(folder):
        path = folder / f"x{ending}"
        if not path.exists():
            save_weights(make(2), path)
        model = make(1)
        before, after = snapshot(model), snapshot(make(2))

        def check():
            assert same(snapshot(model), before) or same(snapshot(model), after)

        return lambda: load_weights(model, path), check

    return case


def resuming(folder):
    path, generator = folder / "x.pth", torch.Generator().manual_seed(3)
    model, optimizer, scheduler, scaler = started(1)
    if not path.exists():
        save_checkpoint(path, model, optimizer, scheduler, epoch=2, scaler=scaler,
                        generators={"mine": generator})  # fmt: skip
    whole = repr((model.state_dict(), optimizer.state_dict(), scheduler.state_dict(),
                  generator.get_state().tolist()))  # fmt: skip
    model, optimizer, scheduler, scaler = started(5)
    generator = torch.Generator().manual_seed(9)

    def state():
        return repr((model.state_dict(), optimizer.state_dict(), scheduler.state_dict(),
                     generator.get_state().tolist()))  # fmt: skip

    before = state()

    def check():
        assert state() in (before, whole)

    return lambda: resume_checkpoint(path, model, optimizer, scheduler, scaler=scaler,
                                     generators={"mine": generator}), check  # fmt: skip


def saving(ending):
    def case(folder):
        path = emptied(folder / "s") / f"x{ending}"

        def save(seed):
            if ending == ".ckpt":
                save_checkpoint(path, make(seed), epoch=1)
            else:
                save_weights(make(seed), path)

        def check():
            assert names(path.parent) == [path.name]
            model = make(3)
            if ending == ".ckpt":
                resume_checkpoint(path, model)
            else:
                load_weights(model, path)
            assert same(snapshot(model), snapshot(make(1))) or same(
                snapshot(model), snapshot(make(2))
            )

        save(1)
        return lambda: save(2), check

    return case


def extracting(folder):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.Linear(3, 2))
    rows = TensorDataset(torch.randn(6, 4), torch.arange(6) % 2)
    place = emptied(folder / "f")

    def check():
        assert all(each.endswith(".safetensors") for each in names(place))
        for each in place.iterdir():
            assert cache.load(place, each.stem, 6)
        assert all(each.training and not each._forward_hooks for each in net.modules())

    return lambda: features.extract(net, rows, cache_dir=place, progress=False), check


def measuring(folder):
    net, rows = nn.Linear(4, 3), TensorDataset(torch.randn(6, 4), torch.arange(6) % 2)

    def check():
        assert net.training

    return lambda: training.evaluate(net, rows), check


def exporting(folder):
    place = emptied(folder / "e")

    def check():
        assert names(place) in ([], ["w.zip"])

    return lambda: hosting.export_work(place / "w.zip"), check


def importing(folder):
    if not (folder / "w.zip").exists():
        hosting.export_work(folder / "w.zip")
    home = emptied(folder / "home")
    (home / "notebooks").mkdir()
    before = names(home)
    after = sorted([*before, "data", "data/my_x", "data/my_x/y.txt", "notebooks/my_0.ipynb",
                    "notebooks/my_1.ipynb", "progress.json"])  # fmt: skip

    def check():
        assert names(home) in (before, after)

    return lambda: hosting.import_work(folder / "w.zip"), check


def noting(folder):
    path = emptied(folder / "home") / "progress.json"
    progress_file.note_attempt("1.1", True)

    def check():
        assert names(path.parent) == ["progress.json"]
        assert progress_file.entries()["1.1"]["attempts"] in (1, 2)

    return lambda: progress_file.note_attempt("1.1", True), check


def a_folder(folder):
    place = emptied(folder / "o") / "made"
    place.mkdir()
    (place / "x").write_text("old")

    def fill():
        with paths.folder_in_place(place) as made:
            (made / "x").write_text("new")

    def check():
        assert names(place.parent) == ["made", "made/x"]
        assert (place / "x").read_text() in ("old", "new")

    return fill, check


def a_lock(folder):
    path = emptied(folder / "l") / "x"

    def lock():
        with paths.alone(path, 0) as free:
            assert free

    def check():
        lock()  # nobody has it
        assert names(path.parent) == []

    return lock, check


CASES = {
    "load .safetensors": loading(".safetensors"), "load .pth": loading(".pth"), "resume": resuming,
    "save .safetensors": saving(".safetensors"), "save .pth": saving(".pth"),
    "save a run": saving(".ckpt"), "extract": extracting, "measure": measuring,
    "export": exporting, "import": importing, "progress": noting, "a folder": a_folder,
    "a lock": a_lock,
}  # fmt: skip


def at_calls(tmp_path, monkeypatch, name, most):
    home = tmp_path / "home"
    (home / "notebooks").mkdir(parents=True)
    (home / "data" / "my_x").mkdir(parents=True)
    (home / "data" / "my_x" / "y.txt").write_text("y")
    for number in range(2):
        (home / "notebooks" / f"my_{number}.ipynb").write_text("{}" * (200 + number))
    monkeypatch.setattr(work, "repo_root", lambda: home)
    monkeypatch.setattr(work, "_answered", lambda: iter(()))
    monkeypatch.setattr(lab, "folder", lambda: home / "notebooks" / "my_course")
    monkeypatch.setattr(predictions, "_noted", {"a": 0.5})
    monkeypatch.setenv("COURSE_DATA", str(home / "data"))
    monkeypatch.setenv("COURSE_PROGRESS", str(home / "progress.json"))
    monkeypatch.chdir(tmp_path)
    progress_file.note_attempt("4.1", True)
    with answered_by(signal.default_int_handler):
        call, check = CASES[name](tmp_path)
        call()  # whatever is imported or made once
        gc.collect()
        gc.freeze()
        moments = Moments(most, name in ("measure", "extract"))
        while moments.at is None or moments.places:
            call, check = CASES[name](tmp_path)
            moments.run(call)
            gc.collect()  # frames that the error has kept
            assert signal.getsignal(signal.SIGINT) is signal.default_int_handler, moments.at
            check()
        gc.unfreeze()


@pytest.mark.parametrize("name", CASES)
def test_at_some_calls(tmp_path, monkeypatch, name):
    at_calls(tmp_path, monkeypatch, name, 40)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_at_every_call(tmp_path, monkeypatch, name):
    at_calls(tmp_path, monkeypatch, name, 400)


@contextmanager
def answered_by(handler):
    before = signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def press():
    os.kill(os.getpid(), signal.SIGINT)


def stopped_with_an_error(keeping):
    """As a library does that makes an error of its own of Ctrl-C."""
    with keeping() as caught:
        try:
            press()
        except KeyboardInterrupt:
            raise ValueError("a library's") from None
        assert len(caught or [1]) == 1
        raise ValueError("mine")


@pytest.mark.parametrize("keeping", [interrupts_delayed, interrupts_kept])
def test_an_answer_of_ones_own_is_asked_once_and_errors_stay_themselves(keeping):
    told = []
    with answered_by(lambda *_: told.append(1)), pytest.raises(ValueError, match="mine"):
        stopped_with_an_error(keeping)
    assert told == [1]
    with answered_by(signal.default_int_handler), pytest.raises(KeyboardInterrupt):
        stopped_with_an_error(keeping)
    with answered_by(signal.SIG_IGN), pytest.raises(ValueError, match="mine"):
        stopped_with_an_error(keeping)


def test_many_at_any_time(tmp_path):
    """From a clock, as fast as they come: a folder is the old one or the new one."""
    rng, place = random.Random(1), tmp_path / "made"
    place.mkdir()
    (place / "x").write_text("old")
    with answered_by(signal.default_int_handler):
        alarm = signal.signal(signal.SIGALRM, lambda *_: press())
        for _ in range(200):
            try:
                signal.setitimer(signal.ITIMER_REAL, rng.uniform(1e-5, 3e-3))
                with paths.folder_in_place(place) as made:
                    (made / "x").write_text("new")
                signal.setitimer(signal.ITIMER_REAL, 0)
            except KeyboardInterrupt:
                pass
            assert (place / "x").read_text() in ("old", "new")
        signal.signal(signal.SIGALRM, alarm)
