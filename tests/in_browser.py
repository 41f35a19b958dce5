"""Chromium for tests: skipped where there is none, except in continuous integration, where it has to be."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "google-chrome")
CHROMIUM = next((path for path in map(shutil.which, NAMES) if path), "")
needs_chromium = pytest.mark.skipif(not CHROMIUM and not os.environ.get("CI"), reason="Chromium is not installed")
QUIET = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
)  # fmt: skip


def in_browser(page: Path, script: str, folder: Path, hash_: str = "") -> Any:
    """What an asynchronous script returns that runs at the end of a page: the page itself is a copy with it added."""
    assert CHROMIUM, f"none of {', '.join(NAMES)} is installed"
    probe = f"(async () => {{ {script} }})().then((found) => {{ document.body.dataset.found = JSON.stringify(found); }})"
    probed = folder / f"probed_{page.name}"
    text = page.read_text(encoding="utf-8")
    probed.write_text(text.replace("</body>", f"<script>{probe}</script></body>"), encoding="utf-8")
    where = ["--virtual-time-budget=5000", f"--user-data-dir={folder / 'profile'}", "--dump-dom", f"{probed.as_uri()}{hash_}"]
    ended = subprocess.run([CHROMIUM, *QUIET, *where], capture_output=True, text=True, timeout=60, check=True)
    found = re.search(r'<body data-found="([^"]*)"', ended.stdout)
    assert found, ended.stdout[:2000] + ended.stderr
    return json.loads(unescape(found[1]))
