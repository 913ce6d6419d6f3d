"""Chromium without a screen, which opens a page in frames of several widths and says what it sees."""

import json
import re
import shutil
import subprocess

import pytest

_SECONDS = 60
_FRAMES = """<!DOCTYPE html><meta charset="utf-8"><body>
<pre id="found"></pre>
<script>
const widths = %s, page = %s, found = {};
function look(frame) {
  const view = frame.contentWindow, body = frame.contentDocument.body;
  return (%s)(view, body);
}
for (const width of widths) {
  const frame = document.createElement("iframe");
  frame.style.width = width + "px"; frame.style.height = "900px"; frame.style.border = "none";
  frame.onload = () => {
    found[width] = look(frame);
    document.getElementById("found").textContent = JSON.stringify(found);
  };
  frame.srcdoc = page;
  document.body.append(frame);
}
</script>
"""


def find_chromium():
    """Returns the path of Chromium; without one, the test is skipped."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            return path
    pytest.skip("Chromium is not on the PATH. Install it: make chromium")


def look(page, script, folder, *, widths, dark=False):
    """Opens a page, and returns width → what a script says of it.

    Args:
        page: the HTML.
        script: a JavaScript function (window, body) → a value that JSON has.
        folder: a folder for the browser's files.
        widths: the widths in pixels.
        dark: whether the user wants dark colours.
    """
    # Within a script, "</" would end it.
    text = json.dumps(page).replace("</", "<\\/")
    harness = folder / "frames.html"
    harness.write_text(_FRAMES % (json.dumps(list(widths)), text, script))
    command = [
        *(
            find_chromium(),
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            f"--user-data-dir={folder / 'profile'}",
        ),
        *(f"--blink-settings=preferredColorScheme={0 if dark else 1}", "--virtual-time-budget=5000", "--dump-dom"),
        f"file://{harness}",
    ]
    # `run` ends the browser by SIGKILL when the time is over.
    done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=True)
    match = re.search(r'<pre id="found">(.+?)</pre>', done.stdout)
    assert match, done.stderr[-2000:]
    found = json.loads(match[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
    return {width: found[str(width)] for width in widths}
