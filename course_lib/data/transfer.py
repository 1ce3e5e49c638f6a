"""Bring one file over the network: https, bounded patience, one clear line when it doesn't work."""

import ipaddress
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import requests
from requests.exceptions import ConnectionError, SSLError
from tqdm import tqdm
from urllib3.exceptions import HTTPError, ReadTimeoutError

from course_lib.errors import DataError, OfflineError

_CHUNK = 1 << 16
_MOST_REDIRECTS = 5


@dataclass(frozen=True)
class Patience:
    """How long to wait for a server.

    Attributes:
        seconds: without an answer, or without ``least`` bytes, after which an attempt is given up.
        least: bytes that must arrive in that time; a trickle is as good as nothing.
        attempts: how often to try in all.
        pause: seconds before the second attempt; twice as long before the third, and so on.
    """

    seconds: float = 30.0
    least: int = 1 << 16
    attempts: int = 3
    pause: float = 1.0


class _PassingError(Exception):
    """The attempt failed in a way that may pass."""


class _LastingError(Exception):
    """The attempt failed in a way that won't pass."""


def transfer(
    url: str, file: Path, largest: int, progress: bool = True, patience: Patience | None = None
) -> None:
    """Write what a server sends into a file. Whether it is the right thing, the caller must check.

    Args:
        url: https; or http, if the server runs on this very machine.
        file: to write; what was in it is lost.
        largest: more bytes than this are refused.
        progress: show a bar.
        patience: how long to wait for the server, and how often to try.

    Raises:
        OfflineError: the server can't be reached, stalls, breaks off or has no such file.
        DataError: the way there is not safe, the file is too large, or there is no room for it.
        OSError: the file can't be written.
    """
    patience = patience or Patience()
    tries = 0
    while True:
        tries += 1
        try:
            with _open(url, patience) as response:
                return _store(response, file, largest, progress, patience)
        except _LastingError as error:
            why = str(error)
            break
        except (requests.RequestException, HTTPError, _PassingError) as error:
            why = _in_words(error, url, patience)
            if tries >= patience.attempts:
                break
        time.sleep(patience.pause * 2 ** (tries - 1))
    times = f" (tried {tries} times)" if tries > 1 else ""
    raise OfflineError(f"{url} can't be downloaded: {why}{times}.")


def _open(url: str, patience: Patience) -> requests.Response:
    """The server's answer, its body not read yet; redirects are followed if they are safe."""
    start = url
    direct = dict.fromkeys(("http", "https", "all"), "")  # no proxy between us and ourselves
    with requests.Session() as session:
        for _ in range(_MOST_REDIRECTS + 1):
            _require_https(url, start)
            response = session.get(
                url,
                stream=True,
                timeout=patience.seconds,
                allow_redirects=False,
                headers={"Accept-Encoding": "identity"},
                proxies=direct if _is_this_machine(url) else None,
            )
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


def _store(
    response: requests.Response, file: Path, largest: int, progress: bool, patience: Patience
) -> None:
    """Write the body of an answer, as long as enough of it keeps coming."""
    status = response.status_code
    if status != 200:
        passing = status in (408, 429) or status >= 500
        raise (_PassingError if passing else _LastingError)(
            f"the server answers with error {status}"
        )
    announced = response.headers.get("Content-Length", "")
    length = int(announced) if announced.isdecimal() else None
    if length is not None and length > largest:
        raise DataError(f"{response.url} has {length:,} bytes; more than {largest:,} are refused.")
    _require_room(length or 0, file)
    total = in_window = 0
    window = time.monotonic()
    with (
        file.open("wb") as stream,
        tqdm(total=length, desc=file.name, unit="B", unit_scale=True, disable=not progress) as bar,
    ):
        while chunk := response.raw.read1(_CHUNK):  # what is there now, not waiting for more
            stream.write(chunk)
            bar.update(len(chunk))
            total += len(chunk)
            in_window += len(chunk)
            if total > largest:
                raise DataError(f"{response.url} sends more than {largest:,} bytes; refused.")
            if time.monotonic() - window > patience.seconds:
                if in_window < patience.least:
                    raise _PassingError(f"only {in_window} bytes came in {patience.seconds:g} s")
                in_window, window = 0, time.monotonic()
    if length is not None and total != length:
        raise _PassingError(f"the connection broke off after {total:,} of {length:,} bytes")


def _require_room(length: int, file: Path) -> None:
    free = shutil.disk_usage(file.parent).free
    if length > free:
        raise DataError(
            f"The file has {length / 1e6:.0f} MB, and only {free / 1e6:.0f} MB are free at "
            f"{file.parent.parent}. Make room and try again."
        )


def _in_words(error: Exception, url: str, patience: Patience) -> str:
    """One line that a person understands, instead of the layers of the network libraries."""
    host = urlsplit(url).hostname
    if isinstance(error, _PassingError):
        return str(error)
    if isinstance(error, requests.Timeout | ReadTimeoutError):
        return f"{host} sent nothing for {patience.seconds:g} s"
    if isinstance(error, SSLError):
        return f"the certificate of {host} was not accepted; is the computer's clock right?"
    if isinstance(error, ConnectionError):
        return f"no connection to {host}; is there a network?"
    if isinstance(error, HTTPError):
        return "the connection broke off"
    return f"{type(error).__name__}: {error}".splitlines()[0]
