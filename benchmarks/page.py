"""What the page adds to a question, in a real browser, against the same pipeline called directly.

    python benchmarks/page.py [QUESTIONS]

Both ask the same gateway with fixed service times, in turn, over the sample corpus. Printed: the time from pressing Enter until
the answer is whole on the page, less what the pipeline takes by itself (limit 150 ms); until the movement is drawn too; with 30
and with 50 candidates; and what a first visitor waits for the question box, just after the server has started. Needs Chromium.
Exit 1 if the limit is crossed.
"""

import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import fixed_gateway
from playwright.sync_api import Page, sync_playwright
from rich.progress import track

from ingest.jobs import ingest_folder
from ingest.sync import Progress
from rag_app.pipeline import Pipeline, asked
from rag_app.settings import Settings

LIMIT_MS = 150.0
ROOT = Path(__file__).parents[1]
WARM_UP = 3
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
# When the answer is whole, and when the movement is drawn, in milliseconds from now on; looked at with every frame. What stood
# there before has to go first.
WATCH = """n => { const start = performance.now(); window.seen = {}; const look = () => {
  const now = performance.now() - start;
  const asked = [...document.querySelectorAll('h3')].some(h => h.textContent.endsWith(' number ' + n + '?'));
  const whole = (document.querySelector('.answer')?.textContent || '').trim().endsWith('2.');
  const drawn = document.querySelector('[data-testid=stVegaLiteChart] canvas, [data-testid=stVegaLiteChart] svg');
  if (asked && !whole && !drawn) seen.gone = now;
  if (seen.gone && whole && !seen.answer) seen.answer = now;
  if (seen.gone && drawn && !seen.chart) seen.chart = now;
  if (!(seen.chart && seen.answer)) requestAnimationFrame(look); }; look(); }"""


def main(n_questions: int = 15) -> int:
    """Measure, print, and return the exit code."""
    url = fixed_gateway.start_process()
    folder = Path(tempfile.mkdtemp(prefix="rag-app-page-"))
    settings = Settings(
        _env_file=None,  # type: ignore[call-arg]
        base_url=url,
        embedding_model="fixed",
        rerank_model="fixed",
        chat_model="fixed",
        chroma_path=folder / "chroma",
    )
    ingest_folder(settings, ROOT / "data" / "corpus", Progress())
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    names = {"base_url": url, "embedding_model": "fixed", "rerank_model": "fixed", "chat_model": "fixed"}
    env = {**os.environ, **{f"RAG_{name.upper()}": value for name, value in names.items()}}
    env["RAG_CHROMA_PATH"] = str(folder / "chroma")
    shutil.copytree(ROOT / ".streamlit", folder / ".streamlit")
    command = [sys.executable, "-m", "streamlit", "run", str(ROOT / "streamlit_app.py"), "--server.port", str(port)]
    worst = 0.0
    with (
        subprocess.Popen(command, cwd=folder, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        wait_for(port)
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        start = time.perf_counter()
        page.goto(f"http://localhost:{port}/")
        page.get_by_label("Question", exact=True).wait_for()
        first = time.perf_counter() - start
        paint = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0]?.startTime")
        print(f"first visit after the start: first paint {paint / 1000:.1f} s, question box {first:.1f} s")
        pipeline = Pipeline.open(settings)
        for n_candidates in (30, 50):
            page.goto(f"http://localhost:{port}/?candidates={n_candidates}&follow_ups=false")
            page.get_by_label("Question", exact=True).wait_for()
            answers, charts, direct = [], [], []
            for n in track(range(n_questions + WARM_UP), f"{n_candidates} candidates"):
                seen = on_the_page(page, n)
                answers.append(seen["answer"])
                charts.append(seen["chart"])
                direct.append(directly(pipeline, n, n_candidates))
            answer, chart, alone = (statistics.median(values[WARM_UP:]) for values in (answers, charts, direct))
            worst = max(worst, answer - alone)
            print(
                f"{n_candidates} candidates: pipeline {alone:.0f} ms; answer whole on the page {answer:.0f} ms, "
                f"{answer - alone:.0f} ms more (limit {LIMIT_MS:.0f}); movement drawn {chart:.0f} ms"
            )
        browser.close()
        server.terminate()
    shutil.rmtree(folder)
    return int(worst > LIMIT_MS)


def on_the_page(page: Page, n: int) -> dict[str, float]:
    """Ask on the page; return the milliseconds until the answer and the movement are there."""
    page.get_by_label("Question", exact=True).fill(f"What about number {n}?")
    page.evaluate(WATCH, n)
    page.keyboard.press("Enter")
    page.wait_for_function("window.seen.chart && window.seen.answer", timeout=60_000)
    page.wait_for_timeout(300)
    return dict(page.evaluate("window.seen"))


def directly(pipeline: Pipeline, n: int, n_candidates: int) -> float:
    """Ask the pipeline; return its milliseconds."""
    start = time.perf_counter()
    search = pipeline.search(f"What about number {n}?", n_candidates=n_candidates)
    answering = pipeline.answer(search)
    list(answering)
    asked(search, answering)
    return (time.perf_counter() - start) * 1000


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
            time.sleep(0.05)


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
