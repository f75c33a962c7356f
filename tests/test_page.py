"""The page: its logic with AppTest, and once in a real browser."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from rag_app.settings import Settings
from tests.conftest import ROOT
from tests.test_cli import run
from tests.wire import Reply, Wire, chat

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync"]


@pytest.fixture
def page(settings: Settings, corpus: Path) -> Iterator[AppTest]:
    """The page over three small documents and the scripted gateway."""
    (corpus / "hostile.md").write_text(
        "# <script>alert(1)</script>\n\nDinner ![x](http://127.0.0.1:9/x.png) [link](javascript:alert(1))"
    )
    assert run("ingest", "docs").exit_code == 0
    st.cache_resource.clear()
    yield AppTest.from_file(str(ROOT / "streamlit_app.py"), default_timeout=30)
    st.cache_resource.clear()


def ask(page: AppTest, question: str) -> str:
    """Ask on the page and return all Markdown on it."""
    page.run()
    page.text_input[0].set_value(question)
    page.button[0].click().run()
    assert not page.exception
    return "\n".join(element.value for element in [*page.markdown, *page.caption, *page.subheader])


def test_a_question_is_answered_with_its_passages_and_what_reranking_did(page: AppTest, wire: Wire) -> None:
    wire.on("/chat/completions", lambda body: chat("Up to ", "32 EUR [1]."))
    text = ask(page, "dinner in France")
    assert "Up to 32 EUR \\[1\\]\\." in text
    assert "Dinner is paid up to 32 EUR in France\\." in text
    assert "Reranking " in text and "rerank applied · rr at" in text and "8 of 8 scored" in text
    assert [len(table.value) for table in page.dataframe] == [8, 8]


def test_nothing_from_a_document_or_a_model_is_markup(page: AppTest, wire: Wire) -> None:
    wire.on("/chat/completions", lambda body: chat("![a](http://x.example/a.png) <img src=x> :red[b] $x$ www.evil.example [2]"))
    text = ask(page, "dinner ![q](http://x.example/q.png)")
    for mark in (r"!\[", r"\]\(", "<img", "<script", r":red", r"www\.", r"\$", "://"):
        assert not re.search(rf"(?<!\\){mark}", text)
    assert all(not element.allow_html for element in page.markdown)


@pytest.mark.parametrize(
    ("reply", "happened", "to_do"),
    [
        (Reply({"message": "quota used up"}, 402), "402 Payment Required: quota used up", "top up the account"),
        (Reply({"error": {"message": "invalid token"}}, 401), "401 Unauthorized: invalid token", "check RAG_RERANK_API_KEY"),
        (Reply({"error": {"message": "model rr not found"}}, 404), "model rr not found", "check RAG_RERANK_MODEL"),
        (Reply(b"<html>", kind="text/html"), "not JSON but text/html", "is /v1 missing or doubled?"),
        (Reply({"success": False, "message": "no channel"}), "no results: no channel", "check RAG_RERANK_URL"),
        (Reply(b"", 302, headers={"location": "/v2"}), "302 Found (to /v2)", "put the address that it redirects to"),
        (Reply({"message": "slow down"}, 429, headers={"retry-after": "99"}), "429 Too Many Requests", "wait and try again"),
    ],
    ids=["quota", "key", "model", "web page", "failure in 200", "redirect", "rate limit"],
)
def test_a_failed_rerank_is_one_loud_line_with_what_to_do(
    page: AppTest, wire: Wire, reply: Reply, happened: str, to_do: str
) -> None:
    wire.on("/rerank", lambda body: reply)
    text = ask(page, "dinner in France")
    said = page.error[0].value.replace("\\", "").replace("\u2060", "")
    assert "Reranking failed" in text and happened in said and to_do in said
    terminal = run("ask", "dinner in France").stdout
    assert sum("RERANK FAILED" in line and happened in line and to_do in line for line in terminal.splitlines()) == 1


def test_a_dead_chat_endpoint_is_one_error_with_its_remedy(page: AppTest, wire: Wire) -> None:
    wire.on("/chat/completions", lambda body: Reply({"error": {"message": "bad key"}}, 401))
    text = ask(page, "dinner")
    assert "8 of 8 scored" in text and [len(table.value) for table in page.dataframe] == [8, 8]
    assert len(page.error) == 1 and "RAG\\_CHAT\\_API\\_KEY" in page.error[0].value and "sk-secret" not in page.error[0].value


def test_the_switch_turns_reranking_off(page: AppTest, wire: Wire) -> None:
    page.run()
    page.toggle[0].set_value(False)
    text = ask(page, "dinner")
    assert "Reranking was skipped" in text and wire.count("/rerank") == 0


def test_a_changed_setting_is_remarked_on_until_it_is_asked_again(page: AppTest) -> None:
    ask(page, "dinner")
    page.toggle[0].set_value(False).run()
    assert "press Ask to see the difference" in page.info[0].value
    page.button[0].click().run()
    assert not page.info and any("Reranking was skipped" in element.value for element in page.markdown)


def test_an_empty_collection_says_what_to_run(settings: Settings) -> None:
    st.cache_resource.clear()
    page = AppTest.from_file(str(ROOT / "streamlit_app.py"), default_timeout=30).run()
    assert not page.exception and "rag\\-app ingest PATH" in page.error[0].value


@pytest.fixture
def address(sample: Settings) -> Iterator[str]:
    """The page served by a real `streamlit run` over the sample corpus with built-in models."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "streamlit", "run", str(ROOT / "streamlit_app.py"), "--server.port", str(port)]
    env = {**os.environ, "RAG_CHROMA_PATH": str(sample.chroma_path)}
    with subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        deadline = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("localhost", port), timeout=1).close()
                break
            except OSError:
                assert server.poll() is None and time.monotonic() < deadline, "streamlit did not start"
                time.sleep(0.1)
        yield f"http://localhost:{port}"
        server.terminate()


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine: apt-get install chromium")
def test_in_a_real_browser_a_question_is_asked_and_both_rankings_are_drawn(address: str) -> None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        outside: list[str] = []
        page.on("request", lambda request: None if address.split("//")[1] in request.url else outside.append(request.url))
        page.goto(address)
        page.get_by_label("Question").fill("How often should a Callisto C5 be recalibrated?", timeout=60_000)
        page.keyboard.press("Enter")
        page.get_by_text("Passages as sent").wait_for(timeout=60_000)
        assert page.get_by_text("Callisto C5 | Interval: 9 months").first.is_visible()
        # How many depends on the processor: quantised models round differently on each.
        assert page.get_by_text(re.compile(r"Reranking put \d of the 4 passages into this answer")).is_visible()
        chart = page.get_by_test_id("stVegaLiteChart").locator("svg, canvas").first
        chart.wait_for(timeout=30_000)
        box = chart.bounding_box()
        assert box and box["width"] > 600 and box["height"] > 400
        page.get_by_role("tab", name="Lists").click()
        page.get_by_text("After reranking").wait_for(timeout=10_000)
        browser.close()
    assert errors == []
    assert [url for url in outside if not url.startswith(("data:", "blob:"))] == []
