"""A real browser without a window, driven through two pipes: no port, no WebSocket, nothing to install but the browser.

See https://chromedevtools.github.io/devtools-protocol/.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
DEADLINE = 30.0
"""Seconds for an answer; the first one waits for the browser to start."""


def find_browser() -> str | None:
    return next((path for name in NAMES if (path := shutil.which(name))), None)


@dataclass
class Visit:
    """What happened while a page was open."""

    requests: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)


class Browser:
    """One tab of a browser."""

    def __init__(self, to: int, of: int) -> None:
        self._to, self._of, self._count, self._rest = to, of, 0, b""
        self._session: dict[str, Any] = {}
        self.visit = Visit()
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self._session = {"sessionId": session}
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._count += 1
        message = {"id": self._count, "method": method, "params": parameters, **self._session}
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._count:
                assert "error" not in answer, f"{method}: {answer['error']}"
                result: dict[str, Any] = answer["result"]
                return result

    def _read(self) -> dict[str, Any]:
        end = time.monotonic() + DEADLINE
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._of], [], [], max(0.0, end - time.monotonic()))
            data = os.read(self._of, 1 << 16) if ready else b""
            assert data, "the browser does not answer"
            self._rest += data
        text, _, self._rest = self._rest.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        self._note(message.get("method", ""), message.get("params", {}))
        return message

    def _note(self, event: str, facts: dict[str, Any]) -> None:
        if event == "Network.requestWillBeSent":
            self.visit.requests.append(facts["request"]["url"])
        elif event == "Network.loadingFailed":
            self.visit.failures.append(facts["errorText"])
        elif event in ("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown"):
            self.visit.messages.append(json.dumps(facts))

    def open(self, page: Path, *, width: int) -> Visit:
        """Load a file in a window of this width, and wait until it is there."""
        self.visit = Visit()
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=width < 600
        )
        self.call("Page.navigate", url=page.as_uri())
        while self.evaluate("document.readyState") != "complete" or self.evaluate("location.protocol") != "file:":
            time.sleep(0.02)
        # Two frames later everything has been laid out and drawn.
        self.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(1))))")
        return self.visit

    def evaluate(self, script: str) -> Any:
        """The value of a piece of JavaScript, as JSON."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")


@contextmanager
def browser(path: str, profile: Path) -> Iterator[Browser]:
    """A browser with an empty profile in the folder `profile`; ended afterwards."""
    their_input, ours_out = os.pipe()
    ours_in, their_output = os.pipe()
    flags = "--headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run --remote-debugging-pipe"
    flags += " --disable-background-networking --disable-component-update"
    process = subprocess.Popen(
        # The browser reads file descriptor 3 and writes 4.
        [
            "bash",
            "-c",
            f'exec "$0" {flags} "$1" about:blank 3<&{their_input} 4>&{their_output}',
            path,
            f"--user-data-dir={profile}",
        ],
        pass_fds=(their_input, their_output),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(their_input)
    os.close(their_output)
    try:
        yield Browser(ours_out, ours_in)
    finally:
        process.terminate()
        process.wait(20)
        os.close(ours_out)
        os.close(ours_in)
