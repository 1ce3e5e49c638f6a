"""A real web server on this machine that behaves as well or as badly as a test asks for."""

import contextlib
import io
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Loopback:
    """Serves one body; the first part of the path says how.

    ``/good/x``, ``/short/x`` (breaks off half-way), ``/cut-100/x`` (breaks off after 100 bytes),
    ``/stall-100/x`` (sends 100 bytes, then nothing), ``/silent/x`` (not even an answer),
    ``/trickle/x`` (a byte now and then), ``/tampered/x`` (one bit differs), ``/longer/x``,
    ``/drips header/x``, ``status``, ``continue`` and ``chunk`` (a byte now and then, for ever),
    ``/endless/x`` (without a length), ``/recovers/x`` (a longer answer breaks off, the next one is
    good), ``/status-404/x``, ``/flaky-2/x`` (error 503 twice, then good), ``/to/good/x`` (redirects
    to what follows), ``/round/x`` (redirects to itself).
    """

    def __init__(self, body, tls=None):
        self.body = body
        self.requests = []
        self.finished = threading.Event()
        handler = type("Handler", (_Handler,), {"web": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        self.scheme = "https" if tls else "http"
        if tls:
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True)
        self.elsewhere = None

    def url(self, how):
        return f"{self.scheme}://127.0.0.1:{self.server.server_port}/{how}/photos.zip"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self.finished.set()
        self.server.shutdown()
        self.server.server_close()


class _Handler(BaseHTTPRequestHandler):
    web: Loopback

    def log_message(self, *_):
        pass

    def handle(self):
        with contextlib.suppress(OSError):  # the client may go at any time
            super().handle()

    def do_GET(self):
        self.web.requests.append(self.path)
        how, _, rest = self.path[1:].partition("/")
        name, _, number = how.partition("-")
        count = int(number or 0)
        body = self.web.body
        if name == "to":
            self.redirect(self.web.elsewhere or f"/{rest}")
        elif name == "round":
            self.redirect(self.path)
        elif name == "status":
            self.start(count, 9)
            self.wfile.write(b"not found")
        elif name == "flaky" and len(self.web.requests) <= count:
            self.start(503, 0)
        elif name == "silent":
            self.web.finished.wait()
        elif name == "tampered":
            self.start(200, len(body))
            self.wfile.write(body[:50] + bytes([body[50] ^ 1]) + body[51:])
        elif name == "longer":
            self.start(200, len(body) + 10)
            self.wfile.write(body + b"0123456789")
        elif name == "endless":
            self.start(200, None)
            while not self.web.finished.is_set():
                self.wfile.write(bytes(10_000))
        elif name == "trickle":
            self.start(200, len(body))
            for at in range(len(body)):
                self.wfile.write(body[at : at + 1])
                if self.web.finished.wait(0.02):
                    break
        elif name.startswith("drips"):
            self.drip(name)
        elif name == "recovers" and len(self.web.requests) == 1:
            self.start(200, 3 * len(body))
            self.wfile.write(bytes(2 * len(body)))
        elif name in ("short", "cut", "stall"):
            self.start(200, len(body))
            self.wfile.write(body[: len(body) // 2 if name == "short" else count])
            self.wfile.flush()
            if name == "stall":
                self.web.finished.wait()
        else:
            self.start(200, len(body))
            self.wfile.write(body)

    def drip(self, name):
        """Something now and then, for ever, that isn't the file."""
        first, again = {
            "drips header": (b"HTTP/1.1 200 OK\r\nX-Long: ", b"a"),
            "drips status": (b"HTTP", b"/"),
            "drips continue": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
            "drips chunk": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;a=", b"b"),
        }[name.replace("%20", " ")]
        self.wfile.write(first)
        while not self.web.finished.wait(0.02):
            self.wfile.write(again)

    def start(self, status, length):
        self.send_response(status)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.end_headers()

    def redirect(self, to):
        self.send_response(302)
        self.send_header("Location", to)
        self.send_header("Content-Length", "0")
        self.end_headers()


def zip_of(members):
    """The bytes of a zip file; members are (name, bytes) or (ZipInfo, bytes)."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return stream.getvalue()
