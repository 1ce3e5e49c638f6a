"""A page on this machine that answers about a photograph: ``course serve mine.safetensors``.

It listens on 127.0.0.1 unless told otherwise: nobody but this machine reaches it. Photographs are
answered and forgotten; nothing is written and nothing is fetched from elsewhere.
"""

import contextlib
import html
import ipaddress
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

from course_lib import recipe
from course_lib.data.images import decode
from course_lib.errors import CourseError, DataError
from course_lib.jobs.data import library
from course_lib.recipe.prediction import Predictor
from course_lib.text import few

LARGEST = 20 * 2**20
"""Bytes of a photograph; what is larger is refused while it arrives."""

AT_ONCE = 4
"""So many photographs are decoded at a time; the next ones wait."""

PAGE = Path(__file__).with_name("page.html")
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src blob:; connect-src 'self'"
)
HEADERS = {
    "Content-Security-Policy": POLICY + "; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}  # fmt: skip


def application(predictor: Predictor, hosts: tuple[str, ...] = (), largest: int = LARGEST) -> Any:
    """The page and its one question, as an ASGI application.

    ``POST /predict`` takes the bytes of a picture and answers in JSON: ``label``, ``sure``,
    ``probabilities``. Status 413: too large; 415: no picture that can be read.

    Args:
        predictor: who answers.
        hosts: names under which it may be asked, beside those of this machine. Another site's
            script can make a browser ask 127.0.0.1 under the site's own name; such are refused.
        largest: bytes of a photograph.
    """
    starlette = library("starlette.applications")
    answers, routing = library("starlette.responses"), library("starlette.routing")
    trusted = library("starlette.middleware.trustedhost").TrustedHostMiddleware
    middleware = library("starlette.middleware").Middleware
    limiter = anyio.CapacityLimiter(AT_ONCE)
    document, script, style = page(predictor)

    def sends(text: str, kind: str) -> Callable[[Any], Awaitable[Any]]:
        async def send(_: Any) -> Any:
            return answers.Response(text, media_type=kind, headers=HEADERS)

        return send

    def refuse(status: int, why: str) -> Any:
        return answers.JSONResponse({"error": why}, status, headers=HEADERS)

    async def predict(request: Any) -> Any:
        if request.headers.get("sec-fetch-site") not in (None, "same-origin"):
            return refuse(403, "Asked by another site.")
        too_large = f"More than {largest / 2**20:.0f} MB; send a smaller picture."
        if int(request.headers.get("content-length") or 0) > largest:
            return refuse(413, too_large)
        body = bytearray()
        async for part in request.stream():
            body += part
            if len(body) > largest:
                return refuse(413, too_large)
        try:
            made = await anyio.to_thread.run_sync(_answer, predictor, bytes(body), limiter=limiter)
        except DataError as error:
            return refuse(415, str(error))
        return answers.JSONResponse(made, headers=HEADERS)

    routes = [
        routing.Route("/", sends(document, "text/html")),
        routing.Route("/page.js", sends(script, "text/javascript")),
        routing.Route("/page.css", sends(style, "text/css")),
        routing.Route("/predict", predict, methods=["POST"]),
    ]
    names = ["localhost", "127.0.0.1", "[::1]", *hosts]
    return starlette.Starlette(
        routes=routes, middleware=[middleware(trusted, allowed_hosts=names, www_redirect=False)]
    )


def _answer(predictor: Predictor, data: bytes) -> dict[str, Any]:
    try:
        picture = decode(data)
    except ValueError as error:
        raise DataError(f"This can't be read: {error}.") from error
    made = predictor.predict_one(picture)
    return {"label": made.label, "sure": made.sure, "probabilities": made.probabilities}


def page(predictor: Predictor) -> tuple[str, str, str]:
    """The page, its script and its style."""
    about = predictor.about
    told = f"{about.get('backbone') or 'A network'} that knows {few(predictor.classes, 12)}."
    measured = about.get("result") or {}
    # A file may say anything of itself.
    with contextlib.suppress(LookupError, TypeError, ValueError, OverflowError):
        told += (
            f" Accuracy {measured['accuracy']:.2f} on {measured['pictures']:,} "
            f"{measured['measured on']} pictures."
        )
    text = PAGE.read_text(encoding="utf-8")
    style, rest = text.split("<style>", 1)[1].split("</style>", 1)
    script = rest.split("<script>", 1)[1].split("</script>", 1)[0]
    document = text.replace(f"<style>{style}</style>", '<link rel="stylesheet" href="page.css">')
    document = document.replace(
        f"<script>{script}</script>", '<script src="page.js" defer></script>'
    )
    return document.replace("{{about}}", html.escape(told)), script, style


def serve(file: str | Path, host: str = "127.0.0.1", port: int = 8000) -> None:
    """Open a trained network and answer until Ctrl-C.

    Raises:
        CheckpointError: the file is none of the recipe's or a job's.
        CourseError: the port is taken.
    """
    uvicorn = library("uvicorn")
    predictor = recipe.load(file)
    if predictor.preparation is None:
        raise CourseError(f"{file} doesn't say how pictures are prepared, so it can't answer.")
    local = _is_local(host)
    if not local:
        print(f"Anybody who reaches {host} may ask: there is no password and no encryption.")
    app = application(predictor, () if local else ("*",))
    config = uvicorn.Config(app, host=host, port=port, log_level="warning", access_log=False,
                            limit_concurrency=64, timeout_keep_alive=5)  # fmt: skip
    server = uvicorn.Server(config)
    try:
        listening = config.bind_socket()
    except SystemExit as error:
        raise CourseError(
            f"Port {port} of {host} can't be opened; another program may have it. Name another: "
            "--port 8001"
        ) from error
    name = f"[{host}]" if ":" in host else host
    print(f"http://{name}:{listening.getsockname()[1]}/ (Ctrl-C ends it)", flush=True)
    server.run(sockets=[listening])


def _is_local(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def command(options: Any) -> None:
    """``course serve``."""
    serve(options.file, options.host, options.port)
