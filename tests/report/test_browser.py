"""report.html opened in headless Chromium without a console error."""

import os
import re
import shutil
import subprocess

import pytest
from report.fake_run import make_run

from mmae_jax.report import write_report

# A snap's Chromium cannot read the temporary folders of tests.
BROWSER = next(
  (
    found
    for found in map(shutil.which, ("chromium", "google-chrome"))
    if found and "snap" not in os.path.realpath(found)
  ),
  None,
)
pytestmark = pytest.mark.skipif(
  BROWSER is None, reason="no Chromium is installed"
)


def _open(path, profile):
  """The page after its scripts, and the lines of its console."""
  command = [
    BROWSER,
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    f"--user-data-dir={profile}",
    "--enable-logging=stderr",
    "--v=0",
    "--virtual-time-budget=2000",
    "--dump-dom",
    f"file://{os.fspath(path)}",
  ]
  done = subprocess.run(command, capture_output=True, text=True, timeout=60)
  assert done.returncode == 0, done.stderr[-2000:]
  return done.stdout, re.findall(r".*CONSOLE.*", done.stderr)


def test_the_page_opens_without_a_console_message(tmp_path):
  path = write_report(make_run(tmp_path, 10))
  page = path.read_text()
  # Asks the browser itself whether every picture could be decoded.
  probe = """<script>addEventListener("load", () => {
    const bad = [...document.images].filter(image => !image.naturalWidth);
    const wide = document.documentElement.scrollWidth > innerWidth;
    document.title = `${document.images.length} images, ${bad.length} bad, `
      + `overflow ${wide}`;
  });</script></body>"""
  probed = tmp_path / "probed.html"
  probed.write_text(page.replace("</body>", probe))
  dom, console = _open(probed, tmp_path / "profile")
  assert console == []
  title = re.search(r"<title>(.*?)</title>", dom)[1]
  assert title == f"{page.count('<img ')} images, 0 bad, overflow false"


def test_a_console_error_would_be_seen(tmp_path):
  path = tmp_path / "bad.html"
  path.write_text("<!doctype html><script>nowhere()</script>")
  _, console = _open(path, tmp_path / "profile")
  assert any("nowhere" in line for line in console)
