"""On a host with a GPU and a network the profile is `full`; your word always wins."""

import pytest

from course_lib import profile
from course_lib.setup import hosting
from course_lib.setup.hosting import preparing
from course_lib.setup.hosting.packages import present
from tests.data.loopback import Loopback


@pytest.fixture
def colab(monkeypatch):
    monkeypatch.setenv("COLAB_RELEASE_TAG", "release")
    monkeypatch.setenv(profile.ENVIRONMENT_VARIABLE, "")  # so that it is put back afterwards
    monkeypatch.delenv(profile.ENVIRONMENT_VARIABLE)
    monkeypatch.setattr(preparing, "_chosen", [])


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.setattr(profile, "best_device", lambda: "cuda")


@pytest.fixture
def web(monkeypatch):
    """A server of this machine in the place of those that the full profile needs."""
    with Loopback(b"x") as server:
        monkeypatch.setattr(preparing, "_downloads", lambda: [server.url("good")])
        handler = server.server.RequestHandlerClass
        monkeypatch.setattr(handler, "do_HEAD", handler.do_GET, raising=False)
        yield server


def test_with_a_gpu_and_a_network_it_is_full(colab, gpu, web):
    assert hosting.host() == "colab"
    assert "Profile full: this runtime has a GPU" in preparing.choose_profile()
    active = profile.current()
    assert (active.name, active.device, active.amp) == ("full", "cuda", True)
    assert "Profile full: this runtime has a GPU" in preparing.choose_profile(), "again"


def test_without_a_gpu_it_stays_tiny_and_says_so(colab):
    assert profile.best_device() == "cpu"
    assert "Profile tiny: this runtime has no GPU" in preparing.choose_profile()
    assert profile.current().name == "tiny"


def test_without_the_downloads_it_stays_tiny_and_says_which(colab, gpu, web, monkeypatch):
    missing = web.url("status-404")
    monkeypatch.setattr(preparing, "_downloads", lambda: [web.url("good"), missing])
    assert f"there is a GPU, but {missing} can't be reached" in preparing.choose_profile()
    assert profile.current().name == "tiny"


def test_nobody_there_is_not_reachable():
    assert preparing.first_unreachable(["http://127.0.0.1:9/x"]) == "http://127.0.0.1:9/x"


@pytest.mark.parametrize("how", ["drips header", "drips status", "drips continue", "silent"])
def test_a_server_that_never_comes_to_an_end_is_not_reachable(web, monkeypatch, how):
    monkeypatch.setattr(preparing, "PATIENCE", 0.3)
    url = web.url(how.replace(" ", "%20"))
    assert preparing.first_unreachable([url, web.url("good")]) == url


@pytest.mark.parametrize("said", ["tiny", "full"])
def test_your_word_wins(colab, gpu, web, monkeypatch, said):
    monkeypatch.setenv(profile.ENVIRONMENT_VARIABLE, said)
    assert preparing.choose_profile() == f"Profile {said}, as COURSE_PROFILE says."
    assert profile.current().name == said


def test_your_word_after_the_choice_wins_too(colab, gpu, web, monkeypatch):
    preparing.choose_profile()
    monkeypatch.setenv(profile.ENVIRONMENT_VARIABLE, "tiny")
    assert "as COURSE_PROFILE says" in preparing.choose_profile()
    assert profile.current().name == "tiny"


def test_on_your_own_machine_nothing_changes(monkeypatch, capsys, gpu):
    monkeypatch.setenv(profile.ENVIRONMENT_VARIABLE, "")  # so that it is put back afterwards
    monkeypatch.delenv(profile.ENVIRONMENT_VARIABLE)
    before = present()
    hosting.prepare()
    assert capsys.readouterr().out == ""
    assert profile.current().name == "tiny"
    assert present() == before


def test_the_downloads_are_those_of_the_full_profile():
    from course_lib.data.download import HOTDOG

    pictures, weights = preparing._downloads()
    assert pictures == HOTDOG.url
    assert "resnet18" in weights
    assert profile.named("full").backbone == "resnet18"


def test_errors_are_one_line_in_a_notebook():
    error = hosting.HostingError("Plain words.")
    assert error._render_traceback_() == ["HostingError: Plain words."]
