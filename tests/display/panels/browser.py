"""JupyterLab in headless Chromium, driven by the browser's own debugging protocol."""

import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import websocket

ROOT = Path(__file__).parents[3]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
ON_A_COPY = """
import pathlib, sys
from course_lib import cli
from course_lib.setup import lab
lab.folder = lambda: pathlib.Path(sys.argv[1])
cli.main(sys.argv[2:])
"""
PATIENCE = 120  # seconds until something that should appear counts as missing


class Page:
    """A tab of the browser."""

    def __init__(self, address):
        self._socket = websocket.create_connection(address, timeout=PATIENCE)
        self._numbers = itertools.count(1)
        self._events = []  # that came while an answer was awaited

    def do(self, method, **params):
        """Send a command of the protocol and wait for its answer."""
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": params}))
        while (answer := json.loads(self._socket.recv())).get("id") != number:
            self._events.append(answer)
        assert "error" not in answer, (method, answer["error"])
        return answer["result"]

    def close(self):
        """Let go of the tab."""
        self._socket.close()

    def js(self, expression):
        """The value of a JavaScript expression in the page."""
        made = self.do("Runtime.evaluate", expression=expression, returnByValue=True,
                       awaitPromise=True)  # fmt: skip
        assert "exceptionDetails" not in made, made
        return made["result"].get("value")

    def until(self, expression, what="", patience=PATIENCE):
        """Wait until an expression is true; that it never is fails the test."""
        end = time.monotonic() + patience
        while not (value := self.js(expression)):
            if time.monotonic() > end:
                page = self.js("document.body.innerText")
                raise AssertionError(f"never came: {what or expression}\n{page}")
            time.sleep(0.1)
        return value

    def middle(self, selector):
        """Where an element is, scrolled into sight."""
        return self.js(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
            "e.scrollIntoView({block: 'center'}); const r = e.getBoundingClientRect();"
            "return {x: r.x + r.width / 2, y: r.y + r.height / 2} })()"
        )

    def click(self, selector):
        """Press and release the mouse over an element."""
        place = self.middle(selector) | {"button": "left", "clickCount": 1}
        for kind in ("mousePressed", "mouseReleased"):
            self.do("Input.dispatchMouseEvent", type=kind, **place)

    def choose(self, selector, path):
        """Click on what opens the file dialog, and choose a file there."""
        self.do("Page.enable")
        self.do("Page.setInterceptFileChooserDialog", enabled=True)
        self._events.clear()
        end = time.monotonic() + PATIENCE
        while not (opened := [e for e in self._events if e["method"] == "Page.fileChooserOpened"]):
            assert time.monotonic() < end, f"no file dialog opened by a click on {selector}"
            self.click(selector)  # again, if the page moved under the mouse
            self.js("new Promise(done => setTimeout(done, 500))")
        self.do("DOM.setFileInputFiles", files=[str(path)],
                backendNodeId=opened[0]["params"]["backendNodeId"])  # fmt: skip

    def drop(self, selector, path):
        """Drag a file over an element and let it go, as from the desktop."""
        data = {"items": [], "files": [str(path)], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self.do("Input.dispatchDragEvent", type=kind, data=data, **self.middle(selector))

    def keys(self, text):
        """Type into what has the focus; a newline is the Enter key, a tab the Tab key."""
        for letter in text:
            key = {"\n": ("Enter", 13, "\r"), "\t": ("Tab", 9, "")}.get(letter)
            if not key:
                self.do("Input.insertText", text=letter)
                continue
            about = {"key": key[0], "code": key[0], "windowsVirtualKeyCode": key[1]}
            self.do("Input.dispatchKeyEvent", type="keyDown", text=key[2], **about)
            self.do("Input.dispatchKeyEvent", type="keyUp", **about)


@contextmanager
def process(command, said, log, **options):
    """A program that has written a line that matches; the match; it is ended afterwards."""
    with log.open("wb") as stream:
        child = subprocess.Popen(command, stdout=stream, stderr=stream, **options)
    try:
        end = time.monotonic() + PATIENCE
        while not (found := re.search(said, log.read_text(errors="replace"))):
            assert child.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.1)
        yield found
    finally:
        child.terminate()
        try:
            child.wait(20)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


@contextmanager
def tab(folder):
    """A tab of a browser with a profile of its own, in ``folder``."""
    browser = [
        CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0",
        "--remote-allow-origins=*", f"--user-data-dir={folder / 'chromium'}", "--no-first-run",
        "--disable-background-networking", "--window-size=1100,1300", "about:blank",
    ]  # fmt: skip
    log = folder / "chromium.log"
    with process(browser, r"ws://127\.0\.0\.1:(\d+)/", log) as debugging:
        listed = f"http://127.0.0.1:{debugging[1]}/json/list"
        with urllib.request.urlopen(listed) as answer:
            tabs = json.load(answer)
        page = Page(next(tab for tab in tabs if tab["type"] == "page")["webSocketDebuggerUrl"])
        try:
            yield page
        finally:
            page.close()


@contextmanager
def course_lab(folder, *options):
    """What ``course lab`` starts, and its address; all that it writes is in ``folder``."""
    home = {name: str(folder / name) for name in
            ("JUPYTER_CONFIG_DIR", "JUPYTERLAB_SETTINGS_DIR", "JUPYTERLAB_WORKSPACES_DIR",
             "JUPYTER_RUNTIME_DIR")}  # fmt: skip
    server = [
        sys.executable, "-c", ON_A_COPY, str(folder / "my_course"), "lab", "--no-browser",
        "--port=0", "--ServerApp.ip=127.0.0.1", "--IdentityProvider.token=",
        "--expose-app-in-browser", *options,
    ]  # fmt: skip
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, **home, "PYTHONPATH": path}
    log = folder / "lab.log"
    with process(server, r"(http://127\.0\.0\.1:\d+/lab)", log, env=environment) as said:
        yield said[1]


@contextmanager
def lab(folder, notebook):
    """JupyterLab with a notebook of ``folder`` open in the browser, its first cell run.

    It has settings and a browser profile of its own, in ``folder``.
    """
    with course_lab(folder, f"--ServerApp.root_dir={folder}") as address, tab(folder) as page:
        page.do("Page.navigate", url=f"{address}/tree/{notebook}?reset")
        run = '.jp-NotebookPanel-toolbar jp-button[data-command*="notebook:run-cell"]'
        page.until(f"!!document.querySelector({run!r})", "the notebook's toolbar")
        started = "/[*1]/.test(document.querySelector('.jp-Notebook .jp-InputPrompt')?.innerText)"
        end = time.monotonic() + PATIENCE
        while not page.js(started):  # without a kernel, a click only goes on to the next cell
            assert time.monotonic() < end, page.js("document.body.innerText")
            page.click(".jp-Notebook .jp-InputPrompt")  # the first cell's
            page.click(run)
            time.sleep(1)
        yield page
