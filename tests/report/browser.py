"""A page in headless Chromium, unchanged, at any width, and a script that uses it from outside."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")

_FRAME = """<!DOCTYPE html><title>nothing</title><body style="margin:0">
<iframe src="{page}" width="{width}" height="{height}" style="border:0" {sandbox}></iframe><script>
onload = async () => {{
  const view = document.querySelector("iframe").contentWindow, page = view.document;
  const all = (css) => [...page.querySelectorAll(css)];
  document.title = JSON.stringify(await (async () => {{ {script} }})());
}};
</script>"""


def use(
    page: Path,
    script: str,
    *,
    width: int = 1400,
    height: int = 900,
    scripts: bool = True,
    console: bool = False,
    options: tuple[str, ...] = (),
) -> Any:
    """What a script returns that sees the page's window as ``view`` and document as ``page``.

    Anything on the console is an error, unless ``console``. The page is in a frame, as windows of
    Chromium are 500 pixels wide at least.

    Args:
        page: path of the page.
        script: body of an async function; ``all(css)`` lists elements.
        width: of the page.
        height: of the part that is visible.
        scripts: whether scripts of the page run.
        console: whether the page may write to the console.
        options: further options of Chromium.
    """
    frame = page.with_suffix(".frame.html")
    sandbox = "" if scripts else 'sandbox="allow-same-origin"'
    values = {"page": page.as_uri(), "width": width, "height": height, "sandbox": sandbox}
    frame.write_text(_FRAME.format(script=script, **values), encoding="utf-8")
    done = subprocess.run(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"]
        + ["--disable-web-security", f"--user-data-dir={page.parent}/chromium", "--dump-dom"]
        + ["--force-prefers-reduced-motion", "--virtual-time-budget=20000", "--hide-scrollbars"]
        + [f"--window-size={max(width, 500)},{height}", *options, frame.as_uri()],
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert console or "CONSOLE" not in done.stderr, done.stderr
    if any(option.startswith("--screenshot") for option in options):
        return None
    return json.loads(html.unescape(re.search("<title>(.*?)</title>", done.stdout, re.S)[1]))
