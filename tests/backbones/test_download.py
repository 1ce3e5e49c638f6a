"""Downloaded weights, against a server on this machine: what arrives whole is used, nothing else.

A small architecture is registered with torchvision, with an address of the test's own server, so
that `load` runs from end to end as it does for resnet18.
"""

import hashlib
import io
import pickle
import threading
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from torch import nn
from torchvision.models import Weights, WeightsEnum
from torchvision.models._api import BUILTIN_MODELS, register_model
from torchvision.transforms._presets import ImageClassification

from course_lib import backbones
from course_lib.backbones import WeightsFileError, sources
from course_lib.backbones.sources import PACKAGED, cached_path, fetch, hash_prefix
from course_lib.data import Patience
from course_lib.errors import OfflineError

NAME = "resnet_of_the_test"
HASTY = Patience(seconds=0.3, attempts=2, pause=0)


class Probe(nn.Module):
    def __init__(self, num_classes=10):
        super().__init__()
        self.body = nn.Conv2d(3, 4, 3)
        self.fc = nn.Linear(4, num_classes)

    def forward(self, x):
        return self.fc(self.body(x).mean((2, 3)))


def saved(thing):
    stream = io.BytesIO()
    torch.save(thing, stream)
    return stream.getvalue()


class Server(ThreadingHTTPServer):
    """Answers every request as `how` says, with `body`; counts the requests."""

    daemon_threads = False  # so that closing it waits for the last answer

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.body, self.how, self.requests = b"", "whole", 0
        self.released = threading.Event()


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_GET(self):
        server, body = self.server, self.server.body
        server.requests += 1
        how = server.how
        if how == "missing":
            self.send_error(404)
            return
        if how == "redirected" and "/moved/" not in self.path:
            self.send_response(302)
            self.send_header("Location", "/moved" + self.path)
            self.end_headers()
            return
        if how == "elsewhere":
            self.send_response(302)
            self.send_header("Location", "http://weights.example" + self.path)
            self.end_headers()
            return
        if how == "busy at first" and server.requests == 1:
            self.send_error(503)
            return
        if how == "silent":
            server.released.wait(30)
            return
        self.send_response(200)
        if how != "truncated, of unknown length":
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if how == "tampered":
            body = body[:100] + bytes([body[100] ^ 1]) + body[101:]
        if how == "page":
            body = b"<html>Log in to the network</html>".ljust(len(body))
        if how.startswith(("truncated", "stalled")):
            body = body[: len(body) // 2]
        self.wfile.write(body)
        if how == "stalled":
            self.wfile.flush()
            server.released.wait(30)


@pytest.fixture
def server():
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.released.set()
        running.shutdown()
        thread.join()


@pytest.fixture
def publish(server, tmp_path, monkeypatch):
    """Publish bytes as the weights of the test's architecture; returns their address."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(backbones, "fetch", partial(fetch, patience=HASTY))

    def register(body):
        server.body = body
        digest = hashlib.sha256(body).hexdigest()[:8]
        url = f"http://127.0.0.1:{server.server_port}/models/probe-{digest}.pth"
        weights = Weights(url, partial(ImageClassification, crop_size=32), {"categories": []})
        enum = WeightsEnum("Probe_Weights", {"V1": weights, "DEFAULT": weights})

        def builder(*, weights: enum | None = None, progress: bool = True, **options):
            model = Probe(**options)
            if weights is not None:
                model.load_state_dict(weights.get_state_dict(progress=progress, check_hash=True))
            return model

        builder.__module__ = "torchvision.models.resnet_of_the_test"
        BUILTIN_MODELS.pop(NAME, None)
        register_model(NAME)(builder)
        return url

    yield register
    BUILTIN_MODELS.pop(NAME, None)


def kept(url):
    folder = cached_path(url).parent
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def same(model, other):
    return all(
        torch.equal(a, b)
        for a, b in zip(model.state_dict().values(), other.state_dict().values(), strict=True)
    )


def test_downloaded_once_and_found_again_without_network(publish, server):
    trained = Probe()
    url = publish(saved(trained.state_dict()))
    assert backbones.find_weights(NAME) is None
    assert same(backbones.load(NAME), trained)
    assert server.requests == 1
    assert kept(url) == [cached_path(url).name]
    assert backbones.find_weights(NAME) == cached_path(url)
    server.how = "missing"
    assert same(backbones.load(NAME), trained)
    assert server.requests == 1


def test_with_a_new_head(publish):
    trained = Probe()
    publish(saved(trained.state_dict()))
    model = backbones.load(NAME, num_classes=2)
    assert torch.equal(model.body.weight, trained.body.weight)
    assert model(torch.rand(3, 3, 8, 8)).shape == (3, 2)


def test_a_redirect_is_followed(publish, server):
    trained = Probe()
    publish(saved(trained.state_dict()))
    server.how = "redirected"
    assert same(backbones.load(NAME), trained)


def test_a_redirect_to_plain_http_elsewhere_is_refused(publish, server):
    url = publish(saved(Probe().state_dict()))
    server.how = "elsewhere"
    with pytest.raises(WeightsFileError, match="only https is safe"):
        backbones.load(NAME)
    assert server.requests == 1
    assert kept(url) == []


def test_more_than_a_network_can_have_is_refused(publish, server, monkeypatch):
    monkeypatch.setattr(sources, "LARGEST", 1000)
    url = publish(saved(Probe().state_dict()))
    with pytest.raises(WeightsFileError, match="more than 1,000 are refused"):
        backbones.load(NAME)
    assert kept(url) == []


def test_a_server_that_fails_once_is_asked_again(publish, server):
    trained = Probe()
    publish(saved(trained.state_dict()))
    server.how = "busy at first"
    assert same(backbones.load(NAME), trained)
    assert server.requests == 2


@pytest.mark.parametrize("how", ["tampered", "truncated, of unknown length", "page"])
def test_what_is_not_the_published_file_is_not_kept(publish, server, how):
    url = publish(saved(Probe().state_dict()))
    server.how = how
    with pytest.raises(WeightsFileError, match=r"thrown away\. Try again"):
        backbones.load(NAME)
    assert kept(url) == []
    server.how = "whole"
    backbones.load(NAME)


def test_a_connection_that_breaks_off_leaves_nothing(publish, server):
    url = publish(saved(Probe().state_dict()))
    server.how = "truncated"
    with pytest.raises(OfflineError, match=r"broke off.*tried 2 times"):
        backbones.load(NAME)
    assert kept(url) == []


def test_a_missing_file_is_told_with_the_ways_on(publish, server):
    url = publish(saved(Probe().state_dict()))
    server.how = "missing"
    with pytest.raises(OfflineError) as caught:
        backbones.load(NAME)
    message = str(caught.value)
    assert "404" in message
    assert url in message
    assert "load('efficientnet_lite0')" in message
    assert str(cached_path(url)) in message
    assert "pretrained=False" in message
    assert kept(url) == []


def test_offline(publish, server):
    url = publish(saved(Probe().state_dict()))
    server.shutdown()
    server.server_close()
    with pytest.raises(OfflineError, match=r"no connection to 127.*copy the file"):
        backbones.load(NAME)
    assert kept(url) == []
    # The message's advice works: copy the file there, and it is found.
    cached_path(url).write_bytes(server.body)
    backbones.load(NAME)


@pytest.mark.parametrize("how", ["silent", "stalled"])
def test_a_silent_server_is_given_up(publish, server, how):
    url = publish(saved(Probe().state_dict()))
    server.how = how
    with pytest.raises(OfflineError, match=r"sent nothing for 0\.3 s"):
        backbones.load(NAME)
    assert kept(url) == []


def test_a_damaged_file_in_the_cache_is_replaced(publish):
    trained = Probe()
    url = publish(saved(trained.state_dict()))
    cached_path(url).parent.mkdir(parents=True)
    cached_path(url).write_bytes(b"half a file")
    assert same(backbones.load(NAME), trained)
    assert hashlib.sha256(cached_path(url).read_bytes()).hexdigest().startswith(hash_prefix(url))


def test_a_damaged_file_in_the_cache_is_told_when_offline(publish, server):
    url = publish(saved(Probe().state_dict()))
    cached_path(url).parent.mkdir(parents=True)
    cached_path(url).write_bytes(b"half a file")
    server.how = "missing"
    with pytest.raises(OfflineError, match=r"copy the file .* is damaged"):
        backbones.load(NAME)
    assert cached_path(url).read_bytes() == b"half a file"


def test_a_file_that_brings_code_is_refused(publish, tmp_path):
    """Even with the right hash in its name, and nothing of it runs."""
    witness = tmp_path / "it-ran"

    class Trap:
        def __reduce__(self):
            return (type(witness).touch, (witness,))

    url = publish(saved({"body.weight": Trap()}))
    with pytest.raises(WeightsFileError, match="right hash"):
        backbones.load(NAME)
    assert not witness.exists()
    with cached_path(url).open("rb") as stream, pytest.raises(pickle.UnpicklingError):
        torch.load(stream, weights_only=True)  # the same file, refused for the same reason
    torch.load(cached_path(url), weights_only=False)
    assert witness.exists()  # the trap was a real one


def test_weights_of_another_network_are_told(publish):
    publish(saved(Probe(num_classes=3).state_dict()))
    with pytest.raises(WeightsFileError, match="doesn't hold the weights"):
        backbones.load(NAME)


def test_the_number_of_classes_is_checked_before_the_download(publish, server):
    publish(saved(Probe().state_dict()))
    with pytest.raises(backbones.HeadError):
        backbones.load(NAME, num_classes=0)
    assert server.requests == 0


def test_random_weights_need_no_network(publish, server):
    publish(b"")
    backbones.load(NAME, pretrained=False)
    assert server.requests == 0


def test_a_cache_that_cannot_be_written(publish, tmp_path, monkeypatch):
    publish(saved(Probe().state_dict()))
    (tmp_path / "a-file").write_text("in the way")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "a-file"))
    with pytest.raises(WeightsFileError, match="TORCH_HOME"):
        backbones.load(NAME)


def test_addresses_that_cannot_be_checked_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(WeightsFileError, match="only https is safe"):
        fetch("http://weights.example/net-0123abcd.pth", "net")
    with pytest.raises(WeightsFileError, match="no hash in its name"):
        fetch("https://weights.example/net.pth", "net")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_every_torchvision_file_has_a_hash_in_its_name():
    for name in set(backbones.names()) - set(PACKAGED):
        url = backbones.catalogue.default_weights(name).url
        assert url.startswith("https://")
        assert len(hash_prefix(url)) >= 8
