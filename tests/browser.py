"""A real browser without a screen and without a network, spoken to by its DevTools."""

import asyncio
import base64
import contextlib
import json
import shutil
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tornado.websocket import WebSocketClientConnection, websocket_connect

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
_OPTIONS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0"),
    *("--no-first-run", "--disable-extensions", "--disable-background-networking"),
    "--host-resolver-rules=MAP * ~NOTFOUND",
)


class Page:
    """One page, and what it complained of or asked a network for."""

    def __init__(self, loop: asyncio.AbstractEventLoop, socket: WebSocketClientConnection):
        self._loop, self._socket, self._number = loop, socket, 0
        self.complaints: list[str] = []
        self.asked: list[str] = []
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Ask the browser, and note what it tells meanwhile."""
        self._number += 1
        question = {"id": self._number, "method": method, "params": parameters}
        return self._loop.run_until_complete(asyncio.wait_for(self._ask(question), 60))

    async def _ask(self, question: dict[str, Any]) -> dict[str, Any]:
        await self._socket.write_message(json.dumps(question))
        while True:
            told = await self._socket.read_message()
            assert told is not None, "the browser has gone"
            answer = json.loads(told)
            if answer.get("id") == question["id"]:
                assert "error" not in answer, answer
                return answer["result"]
            self._note(answer.get("method"), answer.get("params", {}))

    def _note(self, event: str | None, about: dict[str, Any]) -> None:
        if event == "Network.requestWillBeSent":
            self.asked.append(about["request"]["url"])
        elif event == "Runtime.exceptionThrown":
            self.complaints.append(str(about["exceptionDetails"]))
        elif event == "Log.entryAdded" and about["entry"]["level"] in ("warning", "error"):
            self.complaints.append(about["entry"]["text"])
        elif event == "Runtime.consoleAPICalled" and about["type"] in ("warning", "error"):
            self.complaints.append(str(about["args"]))

    def open(self, path: Path, width: int, height: int = 900) -> None:
        """Open a file in a window of so many pixels."""
        shape = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        self.call("Emulation.setDeviceMetricsOverride", **shape)
        self.call("Page.navigate", url=path.as_uri())
        end = time.monotonic() + 60
        while self.run("document.readyState") != "complete":
            assert time.monotonic() < end

    def run(self, script: str) -> Any:
        """The value of a script, or of what it promises."""
        options = {"awaitPromise": True, "returnByValue": True}
        found = self.call("Runtime.evaluate", expression=script, **options)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def click(self, x: float, y: float) -> None:
        """As with a mouse."""
        for event in ("mousePressed", "mouseReleased"):
            about = {"type": event, "x": x, "y": y, "button": "left", "clickCount": 1}
            self.call("Input.dispatchMouseEvent", **about)

    def point(self, x: float, y: float) -> None:
        """With a mouse."""
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def picture(self, path: Path) -> None:
        """The whole page as a PNG, to be looked at."""
        taken = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(taken["data"]))


@contextlib.contextmanager
def page() -> Iterator[Page]:
    """An empty page of a new browser, which ends with it."""
    assert CHROMIUM is not None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        command = [CHROMIUM, *_OPTIONS, f"--user-data-dir={folder}", "about:blank"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        loop = asyncio.new_event_loop()
        try:
            socket = loop.run_until_complete(_connected(_address(Path(folder), process)))
            yield Page(loop, socket)
            socket.close()
            loop.run_until_complete(asyncio.sleep(0.1))
        finally:
            process.terminate()
            process.wait(30)
            loop.close()


async def _connected(address: str) -> WebSocketClientConnection:
    return await websocket_connect(address, max_message_size=2**28)


def _address(folder: Path, process: subprocess.Popen) -> str:
    """Where its first page listens."""
    told, end = folder / "DevToolsActivePort", time.monotonic() + 60
    while not (told.exists() and told.read_text().strip()):
        assert process.poll() is None, "the browser did not start"
        assert time.monotonic() < end
        time.sleep(0.05)
    port = told.read_text().split()[0]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list") as answer:
        found = json.loads(answer.read())
    return next(each["webSocketDebuggerUrl"] for each in found if each["type"] == "page")
