"""The pages below a path of a real nginx, with the lines of docs/pages.md."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser

from rag_app.settings import load_settings
from tests.browsing import answered, environment, running
from tests.helpers import ROOT, ingest_into
from tests.listening import free_port, listening
from tests.wire import Wire

pytestmark = pytest.mark.skipif(not shutil.which("nginx"), reason="nginx is not here")


@pytest.fixture
def url(wire: Wire, tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of the pages behind the proxy."""
    env = environment(tmp_path, wire)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    ingest_into(load_settings(), corpus)
    lines = (ROOT / "docs" / "pages.md").read_text("utf-8").partition("```nginx\n")[2].partition("```")[0]
    port = free_port()
    with running(tmp_path, env, "--server.baseUrlPath", "rag") as pages:
        lines = lines.replace("127.0.0.1:8501", f"127.0.0.1:{pages.rpartition(':')[2]}")
        logs = "\n".join(f"{name}_temp_path {tmp_path};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        config = tmp_path / "nginx.conf"
        config.write_text(
            f"daemon off; pid {tmp_path}/nginx.pid; error_log {tmp_path}/error.log; events {{}}\n"
            f"http {{ access_log off; {logs} server {{ listen 127.0.0.1:{port}; {lines} }} }}"
        )
        with listening(["nginx", "-c", str(config), "-e", str(tmp_path / "error.log")], port):
            yield f"http://127.0.0.1:{port}/rag"


def test_a_question_is_answered_and_its_document_opens_below_the_path(url: str, browser: Browser) -> None:
    page = browser.new_page()
    page.goto(f"{url}/")
    page.get_by_label("Question", exact=True).fill("dinner in France")
    page.get_by_role("button", name="Ask", exact=True).click()
    answered(page)
    href = page.get_by_text(re.compile("Open the document")).first.get_attribute("href")
    assert href and href.startswith("/rag/original/")
    reply = httpx.get(f"{url.removesuffix('/rag')}{href}")
    assert reply.status_code == 200 and "content-security-policy" in reply.headers
    page.close()
