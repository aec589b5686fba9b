# SPDX-License-Identifier: Apache-2.0
"""A headless Chromium, and the console as a process before real nodes."""

import re
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from processes import NodeProcess

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"))), None)
DESKTOP = {"viewport": {"width": 1280, "height": 860}}
PHONE = {"viewport": {"width": 390, "height": 780}, "device_scale_factor": 2, "is_mobile": True, "has_touch": True}
# As root there is no sandbox; and nothing is asked of the browser's maker.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@contextmanager
def chromium() -> Iterator:
    """A browser of playwright; skips the test where there is none."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install '.[test]'")
    with api.sync_playwright() as playwright:
        own = Path(playwright.chromium.executable_path)
        if not CHROMIUM and not own.exists():
            pytest.skip("there is no Chromium: apt-get install chromium, or playwright install chromium")
        browser = playwright.chromium.launch(executable_path=CHROMIUM or str(own), args=FLAGS)
        yield browser
        browser.close()


class ConsoleProcess:
    """`vla-sd console`; `url` is where it answers. A port of 0: any free one."""

    def __init__(self, domain, folder: Path, *arguments: str, port: int = 0):
        command = [sys.executable, "-m", "vla_sd_ros.cli", "console", "--port", str(port), *arguments]
        self._process = NodeProcess(command, domain, folder / f"console_{time.monotonic_ns()}.log")
        self.url = re.search(r"http://\S+", self._process.wait_for_line("ready: ", 60.0))[0]
        self.port = int(self.url.rpartition(":")[2])

    @property
    def log(self) -> str:
        return self._process.log

    def terminate(self) -> int:
        return self._process.terminate()

    def kill(self) -> None:
        self._process.kill()


class Page:
    """A page of an operator. Waits are of playwright: up to so many seconds for what is expected."""

    def __init__(self, browser, url: str, look: dict = DESKTOP):
        from playwright.sync_api import expect

        self._expect = expect
        self.context = browser.new_context(**look)
        self.page = self.context.new_page()
        self.asked: list[str] = []  # addresses that it loaded
        self.failures: list[str] = []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("pageerror", lambda error: self.failures.append(str(error)))
        self.page.on("console", lambda message: "Content Security" in message.text and self.failures.append(message.text))
        self.page.goto(url)

    def sees(self, selector: str, words: str, timeout: float = 10.0) -> None:
        self._expect(self.page.locator(selector)).to_contain_text(words, timeout=1e3 * timeout)

    def click(self, selector: str, timeout: float = 10.0) -> None:
        self.page.locator(selector).click(timeout=1e3 * timeout)

    def text(self, selector: str) -> str:
        return self.page.locator(selector).inner_text()

    def wait_for(self, expression: str, timeout: float = 15.0) -> None:
        """Until a JavaScript expression is true; the page forbids eval, so it is asked from here."""
        deadline = time.monotonic() + timeout
        while not self.page.evaluate(expression):
            assert time.monotonic() < deadline, f"waited {timeout} s in vain for {expression}"
            time.sleep(0.05)

    def start(self, sentence: str) -> None:
        self.page.locator("#instruction").fill(sentence)
        self.click("#start:enabled", 15.0)
        self.sees("#progress", sentence)

    def close(self) -> None:
        self.context.close()
