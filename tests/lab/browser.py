"""A real browser without a window: Chromium, which shows pages and says what it thinks of them."""

from __future__ import annotations

import html
import json
import re
import shutil
from typing import TYPE_CHECKING, Any

from tests.lab.daemons import Daemons

if TYPE_CHECKING:
    from pathlib import Path

    from typing_extensions import Self

_POLICY = re.compile(r"default-src 'none'")
_RESULT = re.compile(r"<output>(.*?)</output>", re.DOTALL)
_FRAME = (  # a window has a least width, a frame has none
    '<!doctype html><meta name="color-scheme" content="light dark"><output></output>'
    '<iframe style="width:{width}px;height:900px;border:0" srcdoc="{page}"></iframe></html>'
)
_MEASURE = (  # what is not laid out until it is seen would be laid out again for each measure
    "<style>details {{ content-visibility: visible !important }}</style>{output}<script>"
    "const done = (found) => {{ top.document.querySelector('output').textContent = JSON.stringify(found); }};"
    "window.onload = () => {{ {script} }};</script></html>"
)
_ARGUMENTS = (
    "--headless",
    "--no-sandbox",  # root cannot have it
    "--disable-gpu",
    "--hide-scrollbars",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-dev-shm-usage",
    "--enable-logging=stderr",
    "--virtual-time-budget=3000",
)


class Browser:
    """Chromium with a profile of its own; each call is one run of it, and nothing is left of it afterwards."""

    def __init__(self) -> None:
        self._daemons = Daemons("browser-lab")

    @staticmethod
    def missing() -> bool:
        """Tell whether there is none on this machine."""
        return shutil.which("chromium") is None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._daemons.stop()

    @property
    def folder(self) -> Path:
        """Where its pages and its profile lie."""
        return self._daemons.folder

    def dom(self, page: str, *, dark: bool = False) -> tuple[str, list[str]]:
        """Return what becomes of a page, as HTML, and what the browser complained about meanwhile."""
        file = self.folder / "page.html"
        file.write_text(page, encoding="utf-8")
        errors = self.folder / "errors"
        profile = self.folder / "profile"
        shutil.rmtree(profile, ignore_errors=True)
        scheme = 0 if dark else 1  # Blink's numbers
        command = [
            "chromium", *_ARGUMENTS, f"--user-data-dir={profile}", "--window-size=1400,1000",
            f"--blink-settings=preferredColorScheme={scheme}", "--dump-dom", file.as_uri(),
        ]  # fmt: skip
        with errors.open("w") as said:
            done = self._daemons.run(command, stderr=said)
        text = errors.read_text(errors="replace")
        if done.returncode or "<html" not in done.stdout:
            raise RuntimeError(f"chromium: exit status {done.returncode}\n{text}")
        return done.stdout, [line for line in text.splitlines() if "CONSOLE" in line]

    def measured(self, page: str, script: str, width: int = 0, *, dark: bool = False) -> dict[str, Any]:
        """Return what a script finds out in a copy of the page that lets it run; it gives its result to ``done()``.

        With a ``width`` the page is shown in a frame of so many pixels.
        """
        copy, changed = _POLICY.subn("default-src 'none'; script-src 'unsafe-inline'", page, count=1)
        assert changed == 1
        shown = copy.replace("</html>", _MEASURE.format(script=script, output="" if width else "<output></output>"))
        if width:
            shown = _FRAME.format(width=width, page=html.escape(shown))
        dom, _complaints = self.dom(shown, dark=dark)
        result = _RESULT.search(dom)
        assert result, dom[-500:]
        assert result[1], "the script has broken off"
        found: dict[str, Any] = json.loads(html.unescape(result[1]))
        return found
