"""The pages in a real browser: an application that runs, visits to it, and what its tests ask of a page."""

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from rag_app.settings import Settings
from tests.helpers import ROOT
from tests.listening import free_port, listening
from tests.wire import Reply, Wire, chat

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
# In CI they fail: a journey that nobody made proves nothing.
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None and not os.environ.get("CI"), reason="no Chromium on this machine: apt-get install chromium"
)
# What a test visited: where it fails, conftest.py says what the pages showed.
VISITED = pytest.StashKey[list[BrowserContext]]()


@dataclass
class Site:
    """A running application and the gateway behind it."""

    url: str
    folder: Path
    wire: Wire
    settings: Settings


@contextmanager
def running(folder: Path, env: dict[str, str], *options: str) -> Iterator[str]:
    """Serve the application by a real `streamlit run` from a folder of its own; its address."""
    port = free_port()
    command = [sys.executable, "-m", "streamlit", "run", str(ROOT / "streamlit_app.py"), "--server.port", str(port), *options]
    shutil.copytree(ROOT / ".streamlit", folder / ".streamlit", dirs_exist_ok=True)
    with (
        (folder / "streamlit.log").open("w") as log,
        listening(command, port, "localhost", cwd=folder, env={**os.environ, **env}, stdout=log, stderr=log),
    ):
        yield f"http://localhost:{port}"


def environment(folder: Path, wire: Wire, **more: str) -> dict[str, str]:
    return {
        "RAG_BASE_URL": wire.url,
        "RAG_API_KEY": "sk-secret",
        "RAG_EMBEDDING_MODEL": "emb",
        "RAG_RERANK_MODEL": "rr",
        "RAG_CHAT_MODEL": "chat",
        "RAG_CHROMA_PATH": str(folder / "chroma"),
        **more,
    }


def answered(page: Page, timeout: float | None = None) -> None:
    """Wait until a question is answered: what can be pressed below the answer comes last."""
    page.get_by_test_id("stTabs").wait_for(timeout=timeout)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    assert CHROMIUM, "CI is set, and there is no Chromium: apt-get install chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser: Browser, site: Site, request: pytest.FixtureRequest) -> Iterator[Callable[..., Page]]:
    """Open a page as a new visitor, or in a tab of one; what it loads from outside, or what fails in it, ends the test."""
    contexts: list[BrowserContext] = []
    request.node.stash[VISITED] = contexts
    outside: list[str] = []
    problems: list[str] = []

    def loads(url: str) -> None:
        if not url.startswith((site.url, site.url.replace("http", "ws"), "data:", "blob:")):
            outside.append(url)

    def open_page(
        path: str = "/", width: int = 1400, height: int = 1000, base: str = "", tab_of: Page | None = None, **options: Any
    ) -> Page:
        if tab_of:
            context = tab_of.context
        else:
            context = browser.new_context(viewport={"width": width, "height": height}, **options)
            contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(30_000)
        page.on("request", lambda sent: None if base else loads(sent.url))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("dialog", lambda dialog: (problems.append(dialog.message), dialog.dismiss()))
        page.add_init_script("window.pwned = () => { throw new Error('hostile content ran') }")
        page.goto((base or site.url) + path)
        return page

    site.wire.on("/chat/completions", lambda body: chat("Dinner in France costs ", "up to 32 EUR [1]."))
    yield open_page
    for context in contexts:
        context.close()
    assert problems == [] and outside == []


def settled(page: Page) -> None:
    """Wait until the script has run and nothing fades: what is being replaced is pale until then."""
    page.locator("[data-testid=stApp][data-test-script-state=notRunning]").wait_for()
    page.wait_for_timeout(500)
    page.wait_for_function("document.getAnimations().every(one => one.playState != 'running')")


def axe(page: Page) -> list[str]:
    """Return what axe finds of serious and critical faults."""
    settled(page)
    found = Axe().run(page).response["violations"]
    return [
        f"{fault['id']}: {node['html'][:200]} {node['failureSummary'][:200]}"
        for fault in found
        if fault["impact"] in ("serious", "critical")
        for node in fault["nodes"]
    ]


def last_first(body: Any) -> Reply:
    return Reply({"results": [{"index": i, "relevance_score": i / 100} for i in range(len(body["documents"]))]})


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.1)
