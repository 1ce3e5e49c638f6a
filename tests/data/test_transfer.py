import hashlib
import re
import shutil
import socket
import ssl
import subprocess
import threading

import pytest

from course_lib.data.transfer import Patience, Remote, transfer
from course_lib.errors import DataError, OfflineError
from tests.data.loopback import Loopback

BODY = bytes(range(256)) * 400
DIGEST = hashlib.sha256(BODY).hexdigest()
HASTY = Patience(seconds=0.4, least=1000, attempts=2, pause=0)


@pytest.fixture(scope="module")
def tls(tmp_path_factory):
    """A server's certificate for 127.0.0.1 that nobody but the test trusts; and its file."""
    if not shutil.which("openssl"):
        pytest.skip("needs openssl to make a certificate")
    key, certificate = (tmp_path_factory.mktemp("tls") / name for name in ("key", "certificate"))
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
         "-keyout", key, "-out", certificate, "-subj", "/CN=127.0.0.1",
         "-addext", "subjectAltName=IP:127.0.0.1",
         "-addext", "keyUsage=digitalSignature,keyCertSign"],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context, certificate


@pytest.fixture
def web():
    with Loopback(BODY) as server:
        yield server


def fetch(url, tmp_path, patience=HASTY, largest=10**6, digest=DIGEST, algorithm="sha256"):
    file = tmp_path / "temporary"
    with file.open("wb") as stream:
        transfer(Remote(url, digest, largest, algorithm, "Ask a friend."), stream, patience)
    return file.read_bytes()


def message(error, url, tmp_path, **options):
    """What is said when it fails: one line with the address."""
    with pytest.raises(error) as caught:
        fetch(url, tmp_path, **options)
    text = str(caught.value)
    assert "\n" not in text
    assert "127.0.0.1" in text or "localhost" in text or url in text
    return text


def test_a_good_answer(web, tmp_path):
    assert fetch(web.url("good"), tmp_path) == BODY
    assert len(web.requests) == 1


@pytest.mark.parametrize("algorithm", ["sha256", "sha1"])
@pytest.mark.parametrize("digits", [8, None])
def test_the_hash_is_compared_as_far_as_it_is_known(web, tmp_path, algorithm, digits):
    digest = hashlib.new(algorithm, BODY).hexdigest()
    wrong = digest[:7] + ("1" if digest[7] == "0" else "0") + digest[8:]
    options = {"algorithm": algorithm, "digest": digest[:digits]}
    assert fetch(web.url("good"), tmp_path, **options) == BODY
    options["digest"] = wrong[:digits]
    text = message(DataError, web.url("good"), tmp_path, **options)
    assert f"{algorithm} is {digest}, expected {wrong[:digits]}" in text
    assert text.endswith("Ask a friend.")
    assert len(web.requests) == 2


@pytest.mark.parametrize("digest", ["", DIGEST[:7], DIGEST.upper(), "not a hash"])
def test_nothing_is_downloaded_that_cannot_be_checked(web, tmp_path, digest):
    with pytest.raises(DataError, match="no hash to check it by"):
        fetch(web.url("good"), tmp_path, digest=digest)
    assert web.requests == []


@pytest.mark.parametrize("how", ["tampered", "longer"])
def test_what_was_changed_on_the_way_is_refused(web, tmp_path, how):
    assert "is not the right file" in message(DataError, web.url(how), tmp_path)


def test_redirects_are_followed(web, tmp_path):
    assert fetch(web.url("to/to/to/good"), tmp_path) == BODY
    assert len(web.requests) == 4


def test_redirects_without_end(web, tmp_path):
    assert "without end" in message(OfflineError, web.url("round"), tmp_path)
    assert len(web.requests) == 6


@pytest.mark.parametrize("to", ["http://example.com/x.zip", "ftp://127.0.0.1/x", "file:///etc/x"])
def test_redirects_to_what_isnt_safe_are_refused(web, tmp_path, to):
    web.elsewhere = to
    text = message(DataError, web.url("to/good"), tmp_path)
    assert "only https is safe" in text
    assert to in text
    assert len(web.requests) == 1


@pytest.mark.parametrize(
    "url",
    ["http://example.com/x.zip", "http://127.0.0.1.example.com/x", "http://localhost.example/x",
     "http://user@example.com:80/127.0.0.1", "http://10.0.0.1/x", "ftp://127.0.0.1/x", "x.zip", ""],
)  # fmt: skip
def test_plain_http_is_only_for_this_machine(tmp_path, url):
    with pytest.raises(DataError, match="only https is safe"):
        fetch(url, tmp_path)


def test_https_with_a_trusted_certificate(tls, tmp_path, monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tls[1]))
    with Loopback(BODY, tls[0]) as web:
        assert fetch(web.url("good"), tmp_path) == BODY


def test_https_never_leads_to_http_not_even_on_this_machine(tls, tmp_path, monkeypatch, web):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tls[1]))
    with Loopback(BODY, tls[0]) as safe:
        safe.elsewhere = web.url("good")
        text = message(DataError, safe.url("to/good"), tmp_path)
    assert f"{web.url('good')}, where {safe.url('to/good')} leads" in text
    assert web.requests == []


def test_an_unknown_certificate_is_refused(tls, tmp_path):
    with Loopback(BODY, tls[0]) as web:
        text = message(OfflineError, web.url("good"), tmp_path)
    assert "certificate of 127.0.0.1 was not accepted" in text
    assert web.requests == []


def test_a_broken_connection_is_tried_again(web, tmp_path):
    text = message(OfflineError, web.url("short"), tmp_path)
    assert "the connection broke off" in text
    assert "(tried 2 times)" in text
    assert len(web.requests) == 2


def test_a_failing_server_is_tried_again_and_may_recover(web, tmp_path):
    assert fetch(web.url("flaky-2"), tmp_path, Patience(seconds=5, attempts=3, pause=0)) == BODY
    assert len(web.requests) == 3


def test_a_second_attempt_starts_from_nothing(web, tmp_path):
    """What the first one left of the file is not mixed with the whole one."""
    assert fetch(web.url("recovers"), tmp_path, Patience(seconds=5, attempts=2, pause=0)) == BODY
    assert len(web.requests) == 2


@pytest.mark.parametrize(("status", "tries"), [(404, 1), (403, 1), (204, 1), (500, 2), (503, 2)])
def test_errors_of_the_server(web, tmp_path, status, tries):
    assert f"answers with error {status}" in message(
        OfflineError, web.url(f"status-{status}"), tmp_path
    )
    assert len(web.requests) == tries


@pytest.mark.parametrize("how", ["silent", "stall-0", "stall-5000"])
def test_a_stalled_server_is_given_up(web, tmp_path, how):
    text = message(OfflineError, web.url(how), tmp_path)
    assert "127.0.0.1 sent nothing for 0.4 s (tried 2 times)" in text


def test_a_trickle_is_given_up(web, tmp_path):
    text = message(OfflineError, web.url("trickle"), tmp_path)
    assert "bytes came in 0.4 s (tried 2 times)" in text


@pytest.mark.parametrize("what", ["header", "status", "continue", "chunk"])
def test_one_deadline_holds_for_the_whole_exchange(web, tmp_path, what):
    """Each byte sets a socket's own clock back; so these went on for ever."""
    before = threading.active_count()
    text = message(OfflineError, web.url(f"drips {what}"), tmp_path)
    assert "127.0.0.1 sent nothing for 0.4 s (tried 2 times)" in text
    for thread in threading.enumerate()[before:]:
        if "_run" in thread.name:
            thread.join(5)
            assert not thread.is_alive()


@pytest.mark.parametrize("how", ["good", "endless"])
def test_more_than_allowed_is_refused_at_once(web, tmp_path, how):
    assert "50,000" in message(DataError, web.url(how), tmp_path, largest=50_000)
    assert len(web.requests) == 1


def test_no_server_at_all(tmp_path):
    with Loopback(b"") as gone:
        url = gone.url("good")
    text = message(OfflineError, url, tmp_path)
    assert "no connection to 127.0.0.1; is there a network?" in text
    assert text.endswith("Ask a friend.")


def test_a_proxy_has_no_business_on_this_machine(web, tmp_path, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    assert fetch(web.url("to/good"), tmp_path) == BODY


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "wants a name and a password"),
        (b"HTTP/1.1 403 Forbidden\r\n\r\n", "refuses this address with error 403"),
        (None, "the proxy doesn't answer; is HTTPS_PROXY right"),
    ],
)
def test_a_proxy_in_the_way_is_named(tmp_path, monkeypatch, answer, said):
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        port = proxy.getsockname()[1]

        def refuse():
            for _ in range(2):
                connection, _ = proxy.accept()
                with connection:
                    connection.recv(4096)
                    connection.sendall(answer)

        if answer is None:
            proxy.close()
        else:
            threading.Thread(target=refuse, daemon=True).start()
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{port}")
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{port}")
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        text = message(OfflineError, "https://example.invalid/photos.zip", tmp_path)
    assert said in text
    assert "is there a network" not in text


def test_the_bar_shows_the_bytes(web, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COURSE_PROGRESS_BAR", "1")
    fetch(web.url("good"), tmp_path)
    assert re.search(r"photos.zip: +0%.* 0.00/[\d.]+k?", capsys.readouterr().err)
