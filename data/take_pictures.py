"""Take the README's pictures again: `make screenshots`. Built-in models, the sample corpus, a store and a server of their own.

Needs Chromium. What the built-in chat model cannot show (two answers that differ in words) is not staged.
"""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).parents[1]
PICTURES = ROOT / "data" / "pictures"
QUESTION = "How often should a Callisto C5 be recalibrated?"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync"]


def main() -> None:
    """Ingest, serve, and take each picture."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("error: no Chromium found: install it (apt-get install chromium), then run `make screenshots` again")
    folder = Path(tempfile.mkdtemp(prefix="rag-app-pictures-"))
    env = {name: value for name, value in os.environ.items() if not name.startswith("RAG_")}
    env |= {"RAG_CHROMA_PATH": str(folder / "chroma")}
    shutil.copytree(ROOT / "data" / "eval", folder / "data" / "eval")
    shutil.copytree(ROOT / ".streamlit", folder / ".streamlit")
    programs = Path(sys.executable).parent
    subprocess.run([programs / "rag-app", "ingest", ROOT / "data" / "corpus"], cwd=folder, env=env, check=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [programs / "streamlit", "run", ROOT / "streamlit_app.py", "--server.port", str(port)]
    with subprocess.Popen(command, cwd=folder, env=env, stdout=subprocess.DEVNULL) as server, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        wait_for(port)
        address = f"http://localhost:{port}"
        page = browser.new_page(viewport={"width": 1280, "height": 1150})
        ask(page, address)
        page.screenshot(path=PICTURES / "page.png")
        page.locator("button.cite").first.click()
        page.wait_for_timeout(500)
        page.screenshot(path=PICTURES / "passage.png", clip={"x": 290, "y": 60, "width": 990, "height": 620})
        page.keyboard.press("Escape")
        page.goto(f"{address}/documents?document=travel/france-2026.pdf")
        page.locator(".chunks li").first.wait_for(timeout=60_000)
        page.wait_for_timeout(1500)
        page.screenshot(path=PICTURES / "documents.png")
        page.goto(f"{address}/evaluate")
        page.get_by_role("button", name="Measure", exact=True).click(timeout=60_000)
        page.get_by_role("heading", name="Time and cost").wait_for(timeout=600_000)
        page.wait_for_timeout(1500)
        page.screenshot(path=PICTURES / "evaluate.png", clip={"x": 290, "y": 60, "width": 990, "height": 960})
        dark = browser.new_page(viewport={"width": 1280, "height": 800}, color_scheme="dark", locale="zh-CN")
        ask(dark, address)
        dark.screenshot(path=PICTURES / "dark-chinese.png")
        browser.close()
        server.terminate()
    shutil.rmtree(folder)


def ask(page: Page, address: str) -> None:
    """Open the front page with the question, and wait until all is drawn."""
    page.goto(f"{address}/?q={QUESTION}")
    page.get_by_test_id("stTabs").wait_for(timeout=60_000)
    page.get_by_test_id("stVegaLiteChart").locator("svg, canvas").first.wait_for(timeout=60_000)
    page.wait_for_timeout(1500)


def wait_for(port: int) -> None:
    """Wait until the server listens."""
    deadline = time.monotonic() + 60
    while True:
        try:
            socket.create_connection(("localhost", port), timeout=1).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


if __name__ == "__main__":
    main()
