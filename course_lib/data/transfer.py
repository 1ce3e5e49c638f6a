"""Bring one file over the network: https, its hash checked, bounded patience, clear messages.

The pictures (:mod:`course_lib.data.download`) and the weights (:mod:`course_lib.backbones.sources`)
come this way.
"""

import contextlib
import ctypes
import hashlib
import ipaddress
import re
import shutil
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from queue import Empty, Full, Queue
from typing import Any, BinaryIO
from urllib.parse import urljoin, urlsplit

import requests
from requests.exceptions import ConnectionError, ProxyError, SSLError
from urllib3.exceptions import HTTPError, ReadTimeoutError

from course_lib.data.progress import bar
from course_lib.errors import DataError, OfflineError

WANTS_NAME = "the proxy wants a name and a password (407); set HTTPS_PROXY to http://NAME:PASSWORD@PROXY:PORT"
_CHUNK = 1 << 16
_MOST_REDIRECTS = 5


@dataclass(frozen=True)
class Patience:
    """How long to wait for a server.

    Attributes:
        seconds: until the answer's header is there, whatever comes before it, and then for each
            ``least`` bytes; else an attempt is given up.
        least: bytes that must arrive in that time; a trickle is as good as nothing.
        attempts: how often to try in all.
        pause: seconds before the second attempt; twice as long before the third, and so on.
    """

    seconds: float = 30.0
    least: int = 1 << 16
    attempts: int = 3
    pause: float = 1.0


@dataclass(frozen=True)
class Remote:
    """A file on the web and what is known about it.

    Attributes:
        url: https; or http, if the server runs on this very machine.
        digest: hash of the file in hexadecimal digits, or the first digits of it, at least 8.
        largest: more bytes than this are refused.
        algorithm: of the hash, as :mod:`hashlib` names it.
        advice: what to do without a network or with a wrong file; the end of the message.
    """

    url: str
    digest: str
    largest: int
    algorithm: str = "sha256"
    advice: str = ""

    def __post_init__(self) -> None:
        if not re.fullmatch("[0-9a-f]{8,}", self.digest):
            raise DataError(
                f"{self.url} is not downloaded: {self.digest!r} is no hash to check it by. "
                "Expected: 8 or more hexadecimal digits in lower case."
            )

    @property
    def name(self) -> str:
        """The last part of the address: the file's name."""
        return PurePosixPath(urlsplit(self.url).path).name


class _PassingError(Exception):
    """The attempt failed in a way that may pass."""


class _LastingError(Exception):
    """The attempt failed in a way that won't pass."""


def transfer(wanted: Remote, file: BinaryIO, patience: Patience | None = None) -> None:
    """Write what a server sends into a file, and make sure that it is the right thing.

    Until this returns, the file may hold anything: it should be one under a temporary name, such as
    :func:`course_lib.paths.atomic_write` gives.

    Args:
        wanted: what to get, and from where.
        file: open for writing.
        patience: how long to wait for the server, and how often to try.

    Raises:
        OfflineError: the server can't be reached, stalls, breaks off or has no such file.
        DataError: the way there is not safe, the file is too large or another one than expected,
            or there is no room for it.
        OSError: the file can't be written.
    """
    found = _with_retries(wanted, file, patience or Patience())
    if not found.startswith(wanted.digest):
        raise DataError(
            f"What came from {wanted.url} is not the right file: its {wanted.algorithm} is "
            f"{found}, expected {wanted.digest}. It was thrown away. Try again on another network. "
            f"{wanted.advice}".rstrip()
        )


def _with_retries(wanted: Remote, file: BinaryIO, patience: Patience) -> str:
    """Fill the file, in as many attempts as are allowed; the hash of what came."""
    tries = 0
    while True:
        tries += 1
        try:
            file.seek(0)
            file.truncate()
            return _receive(wanted, file, patience)
        except _LastingError as error:
            why = str(error)
            break
        except (requests.RequestException, HTTPError, _PassingError) as error:
            why = _in_words(error, wanted.url, patience)
            if tries >= patience.attempts:
                break
        time.sleep(patience.pause * 2 ** (tries - 1))
    times = f" (tried {tries} times)" if tries > 1 else ""
    raise OfflineError(f"{wanted.url} can't be downloaded: {why}{times}. {wanted.advice}".rstrip())


def _open(url: str, patience: Patience) -> requests.Response:
    """The server's answer, its body not read yet; redirects are followed if they are safe."""
    start = url
    direct = dict.fromkeys(("http", "https", "all"), "")  # no proxy between us and ourselves
    with requests.Session() as session:
        for _ in range(_MOST_REDIRECTS + 1):
            _require_https(url, start)
            response = session.get(
                url, stream=True, timeout=patience.seconds, allow_redirects=False,
                headers={"Accept-Encoding": "identity"},
                proxies=direct if _is_this_machine(url) else None,
            )  # fmt: skip
            if not response.is_redirect:
                return response
            response.close()
            url = urljoin(url, response.headers["location"])
    raise _LastingError("it leads from one address to the next without end")


def _require_https(url: str, start: str) -> None:
    """Refuse a connection that anybody on the way could change."""
    if urlsplit(url).scheme == "https":
        return
    on_this_machine = _is_this_machine(start) and _is_this_machine(url)
    if on_this_machine and urlsplit(url).scheme == urlsplit(start).scheme == "http":
        return
    where = url if url == start else f"{url}, where {start} leads"
    raise DataError(f"Nothing is downloaded from {where}: only https is safe from changes.")


def _is_this_machine(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _announced(response: requests.Response, largest: int, folder: Path) -> int | None:
    """The length that a good answer announces, if it does, and if that can be taken."""
    status = response.status_code
    if status != 200:
        passing = status in (408, 429) or status >= 500
        said = WANTS_NAME if status == 407 else f"the server answers with error {status}"
        raise (_PassingError if passing else _LastingError)(said)
    announced = response.headers.get("Content-Length", "")
    if not announced.isdecimal():
        return None
    length, free = int(announced), shutil.disk_usage(folder).free
    if length > largest:
        raise DataError(f"{response.url} has {length:,} bytes; more than {largest:,} are refused.")
    if length > free:
        raise DataError(
            f"{response.url} has {length / 1e6:.0f} MB, and only {free / 1e6:.0f} MB are free at "
            f"{folder}. Make room and try again."
        )
    return length


class _Exchange:
    """One attempt, in a thread of its own, with one deadline for all of it.

    A server may drip its header, its "100 Continue" or the lengths of its chunks for ever, and each
    byte sets the clock of a socket back. So the clock is here: whoever reads from this waits no
    longer than is allowed, whatever the network's libraries are doing meanwhile.
    """

    def __init__(self, wanted: Remote, folder: Path, patience: Patience) -> None:
        self._wanted, self._folder, self._patience = wanted, folder, patience
        self._arrived: Queue[Any] = Queue(maxsize=16)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._bytes, self._since, self._last = 0, time.monotonic(), time.monotonic()

    def __enter__(self) -> "_Exchange":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        number = self._thread.ident
        if self._thread.is_alive() and number is not None:  # it may be in an endless loop
            set_error = ctypes.pythonapi.PyThreadState_SetAsyncExc
            set_error(ctypes.c_ulong(number), ctypes.py_object(SystemExit))

    def next(self) -> Any:
        """What came: first the length or None, then bytes, which are empty at the end.

        Raises:
            _PassingError: too little came in the time allowed.
            Whatever else the attempt raises.
        """
        limit = self._patience.seconds
        while True:
            left = self._since + limit - time.monotonic()
            if left <= 0 and self._bytes < self._patience.least:
                silent = time.monotonic() - self._last > 0.9 * limit
                host = urlsplit(self._wanted.url).hostname
                raise _PassingError(
                    f"{host} sent nothing for {limit:g} s"
                    if silent
                    else f"only {self._bytes} bytes came in {limit:g} s"
                )
            if left <= 0:
                self._bytes, self._since = 0, time.monotonic()
                continue
            with contextlib.suppress(Empty):
                found = self._arrived.get(timeout=left)
                break
        if isinstance(found, BaseException):
            raise found
        if isinstance(found, bytes):
            self._bytes += len(found)
            self._last = time.monotonic()
        else:  # the header is here: the body has its own time
            self._bytes, self._since = 0, time.monotonic()
        return found

    def _run(self) -> None:
        try:
            with _open(self._wanted.url, self._patience) as response:
                self._put(_announced(response, self._wanted.largest, self._folder))
                while chunk := response.raw.read1(_CHUNK):  # what is there, not waiting for more
                    self._put(chunk)
                self._put(b"")
        except SystemExit:
            return  # nobody waits for it any more
        except Exception as error:
            with contextlib.suppress(SystemExit):
                self._put(error)

    def _put(self, found: Any) -> None:
        while not self._over.is_set():
            with contextlib.suppress(Full):
                return self._arrived.put(found, timeout=0.2)
        sys.exit()  # this thread


def _receive(wanted: Remote, file: BinaryIO, patience: Patience) -> str:
    """Write the body of an answer, as long as enough of it keeps coming; its hash."""
    digest, total = hashlib.new(wanted.algorithm), 0
    with (
        _Exchange(wanted, Path(file.name).parent, patience) as exchange,
        bar(exchange.next(), wanted.name, unit="B") as seen,
    ):
        while chunk := exchange.next():
            file.write(chunk)
            digest.update(chunk)
            seen.update(len(chunk))
            total += len(chunk)
            if total > wanted.largest:
                raise DataError(f"{wanted.url} sends more than {wanted.largest:,} bytes; refused.")
    if seen.total is not None and total != seen.total:
        raise _PassingError(f"the connection broke off after {total:,} of {seen.total:,} bytes")
    return digest.hexdigest()


def _in_words(error: Exception, url: str, patience: Patience) -> str:
    """One line that a person understands, instead of the layers of the network libraries."""
    host = urlsplit(url).hostname
    if isinstance(error, _PassingError):
        return str(error)
    if isinstance(error, requests.Timeout | ReadTimeoutError):
        return f"{host} sent nothing for {patience.seconds:g} s"
    if isinstance(error, SSLError):
        return (
            f"the certificate of {host} was not accepted; is the computer's clock right? (Behind a "
            "firewall with a certificate of its own, set REQUESTS_CA_BUNDLE to its file.)"
        )
    if isinstance(error, ProxyError):
        return _of_proxy(error)
    if isinstance(error, ConnectionError):
        return f"no connection to {host}; is there a network?"
    if isinstance(error, HTTPError):
        return "the connection broke off"
    return f"{type(error).__name__}: {error}".splitlines()[0]


def _of_proxy(error: ProxyError) -> str:
    """What is wrong with the proxy: it refuses, or isn't there."""
    refused = re.search(r"Tunnel connection failed: (\d+)", str(error))
    if refused and refused[1] == "407":
        return WANTS_NAME
    if refused:
        return f"the proxy refuses this address with error {refused[1]}; ask who runs it"
    return "the proxy doesn't answer; is HTTPS_PROXY right, or should it be unset?"
