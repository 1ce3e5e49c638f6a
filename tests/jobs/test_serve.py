"""The page answers as the network does, refuses what it should, and works in a browser."""

import os
import sys

import pytest
import torch
from PIL import Image
from starlette.testclient import TestClient

from course_lib import backbones, cli
from course_lib.data.manifest import bundled_folder
from course_lib.jobs.serve import application, page
from course_lib.recipe import Predictor
from course_lib.recipe.saved import save
from tests.display.panels.browser import CHROMIUM, ROOT, process, tab

NAME = "mobilenet_v3_small"
CLASSES = ("hot<b>dog</b>", "crème brûlée 🍮")


@pytest.fixture(scope="module")
def predictor():
    torch.manual_seed(0)
    model = backbones.load(NAME, len(CLASSES), pretrained=False).eval()
    return Predictor(model, CLASSES, backbones.preprocessing(NAME, 64), threshold=0.0,
                     about={"backbone": NAME})  # fmt: skip


@pytest.fixture(scope="module")
def photo():
    return next((bundled_folder() / "test").rglob("*.jpg"))


@pytest.fixture
def client(predictor):
    return TestClient(application(predictor, largest=100_000), base_url="http://127.0.0.1")


def test_it_answers_as_the_network_does(client, predictor, photo):
    answer = client.post("/predict", content=photo.read_bytes())
    assert answer.status_code == 200
    expected = predictor.predict_one(photo)
    assert answer.json() == {
        "label": expected.label, "sure": True, "probabilities": expected.probabilities
    }  # fmt: skip
    assert list(answer.json()["probabilities"]) == list(expected.probabilities)


def test_what_is_too_large_is_refused_while_it_arrives(client):
    assert client.post("/predict", content=bytes(100_001)).status_code == 413
    taken = []

    def parts():  # no length is told beforehand
        for _ in range(1000):
            taken.append(1)
            yield bytes(10_000)

    assert client.post("/predict", content=parts()).status_code == 413
    said = client.post("/predict", content=bytes(100_001)).json()["error"]
    assert "send a smaller picture" in said


@pytest.mark.parametrize("data", [b"", b"not a picture", b"\xff\xd8\xff\xe0 cut off"])
def test_what_is_no_picture_is_said(client, data):
    answer = client.post("/predict", content=data)
    assert answer.status_code == 415
    assert "can't be read" in answer.json()["error"]


def test_a_picture_that_claims_to_be_enormous_is_refused(client, tmp_path):
    Image.new("1", (20_000, 20_000)).save(tmp_path / "large.png")
    data = (tmp_path / "large.png").read_bytes()
    assert len(data) < 100_000
    assert client.post("/predict", content=data).status_code == 415


def test_other_sites_cant_ask(client, predictor, photo):
    data = photo.read_bytes()
    assert client.post("/predict", content=data, headers={"Host": "evil.org"}).status_code == 400
    other = {"Sec-Fetch-Site": "cross-site"}
    assert client.post("/predict", content=data, headers=other).status_code == 403
    assert client.get("/predict").status_code == 405
    assert client.get("/../mine.safetensors").status_code == 404


def test_the_page_runs_nothing_from_elsewhere(client):
    page = client.get("/")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "http" not in page.text.replace("http-equiv", "")
    assert "hot&lt;b&gt;dog&lt;/b&gt;" in page.text


@pytest.mark.skipif(not CHROMIUM, reason="needs Chromium")
def test_in_a_browser_a_dropped_photograph_is_answered(predictor, photo, tmp_path):
    save(predictor, tmp_path / "mine.safetensors")
    (tmp_path / "no.jpg").write_text("no picture")
    command = [sys.executable, "-m", "course_lib.cli", "serve", str(tmp_path / "mine.safetensors"),
               "--port", "0"]  # fmt: skip
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    with (
        process(command, r"(http://127\.0\.0\.1:\d+/)", tmp_path / "serve.log",
                env={**os.environ, "PYTHONPATH": path}) as at,
        tab(tmp_path) as page,
    ):  # fmt: skip
        page.do("Page.navigate", url=at[1])
        page.until("document.readyState === 'complete' && !!document.querySelector('#drop')")
        expected = predictor.predict_one(photo)
        said = "document.querySelector('#answer').textContent"
        page.drop("#drop", photo)
        assert page.until(f"!/Looking/.test({said}) && {said}") == expected.label
        rows = page.js("[...document.querySelectorAll('#shares tr')].map(r => r.innerText.trim())")
        assert [row.split("\t")[0] for row in rows] == list(expected.probabilities)
        assert page.js("document.querySelectorAll('b').length") == 0
        shown = "document.querySelector('#picture').naturalWidth"
        assert page.until(f"{shown} > 0 && {shown}") == Image.open(photo).width
        page.drop("#drop", tmp_path / "no.jpg")
        page.until(f"/can't be read/.test({said})")
        assert page.js("document.querySelector('#answer').className") == "error"
        assert page.js("document.querySelectorAll('#shares tr').length") == 0


def test_a_port_that_is_taken_is_said(predictor, tmp_path, capsys):
    import socket

    save(predictor, tmp_path / "mine.safetensors")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        status = cli.main(["serve", str(tmp_path / "mine.safetensors"), "--port", port])
    assert status == 1
    assert "--port 8001" in capsys.readouterr().err


@pytest.mark.parametrize("said", [
    {"accuracy": "good"}, {"accuracy": 1}, {"accuracy": 10**400, "pictures": 1, "measured on": "x"},
    {"accuracy": None, "pictures": [], "measured on": {}},
])  # fmt: skip
def test_what_a_strangers_file_says_of_itself_is_no_trouble(predictor, said):
    strange = Predictor(predictor.model, CLASSES, predictor.preparation, about={"result": said})
    assert "that knows" in page(strange)[0]
