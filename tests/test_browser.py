"""The pages in a real browser: journeys of a person, hostile content, accessibility, many users at once."""

import io
import json
import re
import shutil
import socket
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from playwright.sync_api import Page, expect

from ingest.jobs import ingest_folder
from ingest.sync import Progress
from rag_app.settings import Settings
from rag_app.store.kept import KeptStore
from rag_app.store.stored import Version, Written
from tests.browsing import Site, answered, axe, environment, last_first, needs_chromium, running, until
from tests.helpers import ROOT
from tests.test_store import chunk
from tests.wire import Reply, chat, embeddings, events, rerank, serve

pytestmark = needs_chromium
HOSTILE_NAME = "bad <img src=x onerror=pwned()> ![p](http:evil.example) $x$ \u202egpj.md"
HOSTILE = """# <script>pwned()</script> <b>Title</b>

## ![pixel](http://evil.example/h.png) [heading](javascript:pwned())

Dinner <img src="http://evil.example/d.png" onerror="pwned()"> ![m](http://evil.example/m.png) <iframe src="//evil.example"></iframe>
[link](javascript:pwned()) http://evil.example/auto $\\def\\x{\\x\\x}\\x$ \u202etxet desrever\u202c :red[directive] <style>*{display:none}</style>
"""
EVIL_ANSWER = (
    "<script>pwned()</script> ![a](http://evil.example/a.png) [b](javascript:pwned()) <img src=http://evil.example/i.png "
    "onerror=pwned()> $$\\def\\x{\\x\\x}\\x$$ \u202eevil\u202c <http://evil.example> [1]\n\n# <svg onload=pwned()> [2]"
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The application over some documents, hostile ones too, and the scripted gateway; shared by the tests of this file."""
    folder = tmp_path_factory.mktemp("site")
    corpus = folder / "data" / "corpus"
    (corpus / "policies").mkdir(parents=True)
    for n in range(12):
        (corpus / "policies" / f"travel-{n}.md").write_text(
            f"# Travel policy {n}\n\n## Dinner\n\nDinner in France costs up to {30 + n} EUR.\n\n## Hotels\n\nA hotel: {90 + n} EUR.\n"
        )
    shutil.copy(ROOT / "data" / "corpus" / "products" / "calibration-intervals.pdf", corpus / "calibration.pdf")
    chinese = "# 差旅政策\n\n出差期间的晚餐最多可报销三十二欧元，酒店每晚一百五十欧元。\n"
    (corpus / "zh.md").write_text(chinese, encoding="gb18030")
    (corpus / "line\nbreak.md").write_text("A name in two lines.")
    (corpus / HOSTILE_NAME).write_text(HOSTILE)
    # As text its tags are words, and are stored.
    (corpus / "raw.txt").write_text(HOSTILE)
    with serve() as wire:
        env = environment(folder, wire)
        names = {name.removeprefix("RAG_").lower(): value for name, value in env.items()}
        settings = Settings(_env_file=None, **names)  # type: ignore[call-arg]
        ingest_folder(settings, corpus, Progress())
        with running(folder, env) as url:
            yield Site(url, folder, wire, settings)


def ask(page: Page, question: str) -> None:
    page.get_by_label("Question", exact=True).fill(question)
    page.keyboard.press("Enter")
    page.get_by_role("heading", name=question).wait_for()
    answered(page)


def choose(page: Page, document: str) -> None:
    """Choose a document on the page of documents, by typing its name."""
    page.get_by_role("combobox", name="Selected").click()
    page.keyboard.type(document)
    # While the list still narrows, a click can miss.
    expect(page.get_by_role("option")).to_have_count(1)
    page.get_by_role("option", name=document).click()
    expect(page).to_have_url(re.compile("document="))
    page.keyboard.press("Escape")


class TestJourneys:
    def test_ask_read_and_open_the_passage_behind_a_citation(self, site: Site, visit: Callable[..., Page]) -> None:
        page = visit()
        ask(page, "dinner in France")
        expect(page.locator(".answer")).to_contain_text("Dinner in France costs up to 32 EUR")
        expect(page.locator(".receipt")).to_contain_text("Reranking")
        expect(page.locator(".stages li.done")).to_have_count(4)
        page.get_by_role("button", name="Passage 1").click()
        card = page.locator(".card:popover-open")
        expect(card).to_be_visible()
        expect(card.locator("mark").first).to_contain_text("in France costs up to")
        expect(card).to_contain_text("policies/travel-")
        box = card.bounding_box()
        assert box and box["x"] >= 0 and box["x"] + box["width"] <= 1400
        page.keyboard.press("Escape")
        expect(card).to_have_count(0)
        chart = page.get_by_test_id("stVegaLiteChart").locator("canvas, svg").first
        size = chart.bounding_box()
        assert size and size["width"] > 600 and size["height"] > 400
        page.get_by_role("tab", name="Lists").click()
        expect(page.locator(".lists tbody tr")).to_have_count(30)

    def test_the_ranking_is_there_while_the_model_thinks(self, site: Site, visit: Callable[..., Page]) -> None:
        page, go_on = visit(), threading.Event()

        def thinking() -> Iterator[bytes]:
            while not go_on.wait(0.1):
                yield events({"choices": [{"delta": {"reasoning_content": "hm"}}]}, finish=None, done=False)
            yield events("Dinner costs 32 EUR [1].")

        site.wire.on("/chat/completions", lambda body: Reply(parts=thinking(), kind="text/event-stream"))
        try:
            page.get_by_label("Question", exact=True).fill("dinner in France")
            page.keyboard.press("Enter")
            expect(page.locator("p.quiet", has_text="The model is thinking")).to_contain_text(re.compile("[1-9] s"))
            expect(page.locator(".receipt")).to_contain_text("Reranking")
            page.get_by_test_id("stVegaLiteChart").locator("canvas, svg").first.wait_for()
            expect(page.locator(".answer")).to_have_count(0)
        finally:
            go_on.set()
        answered(page)
        expect(page.locator(".answer")).to_contain_text("Dinner costs 32 EUR")
        expect(page.locator(".receipt")).to_have_count(1)

    def test_an_original_opens_as_what_it_is_and_never_as_a_page(self, site: Site, visit: Callable[..., Page]) -> None:
        page = visit("/?documents=calibration.pdf&q=How+often+is+it+calibrated")
        answered(page)
        page.get_by_role("button", name="Passage 1").click()
        href = page.locator(".card:popover-open").get_by_role("link", name="Open the document").get_attribute("href")
        assert href is not None and re.fullmatch(r"/original/handbook/calibration\.pdf#page=\d", href)
        reply = httpx.get(site.url + href.partition("#")[0])
        assert reply.headers["content-type"] == "application/pdf" and reply.content.startswith(b"%PDF-")
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["content-disposition"].startswith("inline")
        reply = httpx.get(f"{site.url}/original/handbook/zh.md")
        assert reply.headers["content-type"].startswith("text/plain") and "差旅政策" in reply.text
        assert httpx.get(f"{site.url}/original/handbook/line%0Abreak.md").text == "A name in two lines."
        for path in ("nothing.md", "..%2f..%2f..%2fetc%2fpasswd", "%2fetc%2fpasswd", "..%2fchroma%2fchroma.sqlite3"):
            assert httpx.get(f"{site.url}/original/handbook/{path}").status_code in (400, 403, 404)

    def test_a_citation_leads_to_its_passage_beside_the_original(self, site: Site, visit: Callable[..., Page]) -> None:
        page = visit("/?documents=calibration.pdf&q=How+often+is+it+calibrated")
        answered(page)
        page.get_by_role("button", name="Passage 1").click()
        with page.context.expect_page() as opened:
            page.locator(".card:popover-open").get_by_role("link", name="Compare with the original").click()
        beside = opened.value
        # The first page is drawn by a process that has to start.
        beside.get_by_role("img", name="Page 2 of the original").wait_for()
        expect(beside.locator(".chunks .wanted")).to_contain_text("On-site calibration is possible")
        picture = beside.get_by_role("img", name="Page 2 of the original")
        expect(picture).to_be_visible()
        expect(beside.locator("p.quiet", has_text="in no chunk")).to_contain_text(
            re.compile(r"200 words, 4 .*: orrery, page, 2, 2")
        )
        # It stands above what else can be done with documents.
        upload = beside.get_by_role("tab", name="Upload").bounding_box()
        place = picture.bounding_box()
        assert place and upload and place["y"] < upload["y"] and place["width"] > 400
        beside.get_by_test_id("stPagination").get_by_text("1", exact=True).click()
        beside.get_by_role("img", name="Page 1 of the original").wait_for()
        assert not axe(beside)

    def test_a_text_is_shown_beside_its_chunks_with_every_word_accounted_for(
        self, site: Site, visit: Callable[..., Page]
    ) -> None:
        page = visit("/documents?document=zh.md")
        page.locator(".original").wait_for()
        expect(page.locator(".original")).to_contain_text("差旅政策")
        expect(page.locator("p.quiet", has_text="in no chunk")).to_contain_text("0 of them")
        page = visit("/documents?document=raw.txt")
        page.locator(".original").wait_for()
        expect(page.locator(".original")).to_contain_text("<script>pwned()</script>")

    def test_moving_the_passages_asks_nobody(self, site: Site, visit: Callable[..., Page]) -> None:
        page = visit()
        ask(page, "dinner in France")
        before = len(site.wire.sent)
        page.get_by_role("slider", name="Passages").press("ArrowLeft")
        page.get_by_text("Showing 3 passages").wait_for()
        # The address may follow what is drawn by a moment.
        page.wait_for_url(re.compile(r"[?&]passages=3"))
        assert len(site.wire.sent) == before
        page.get_by_role("button", name="Answer from these 3 passages").click()
        expect(page.get_by_text("Showing 3 passages")).to_have_count(0)
        until(lambda: len(site.wire.sent) > before)
        assert len(site.wire.sent) == before + 1

    def test_the_address_of_a_question_can_be_sent(self, site: Site, visit: Callable[..., Page]) -> None:
        page = visit("/?candidates=20&passages=5&rerank=false")
        ask(page, "dinner in France")
        expect(page.locator(".receipt.skipped")).to_be_visible()
        other = visit(page.url.removeprefix(site.url))
        other.get_by_role("heading", name="dinner in France").wait_for()
        expect(other.locator(".receipt.skipped")).to_be_visible()
        expect(other.get_by_role("slider", name="Candidates")).to_have_value("20")

    def test_with_and_without_stream_side_by_side(self, site: Site, visit: Callable[..., Page]) -> None:
        site.wire.on("/rerank", last_first)
        page = visit("/?mode=both")
        ask(page, "dinner in France")
        expect(page.locator(".answer")).to_have_count(2)
        expect(page.get_by_role("heading", name="Without reranking")).to_be_visible()
        expect(page.locator("button.cite.only")).to_have_count(2)
        site.wire.on("/rerank", rerank)

    def test_a_judgement_and_a_thumb_are_kept(self, site: Site, visit: Callable[..., Page]) -> None:
        page = visit()
        ask(page, "which hotel")
        page.get_by_role("tab", name="Passages sent").click()
        page.get_by_text("This passage is relevant").first.click()
        qrels = site.folder / "data" / "eval" / "qrels.jsonl"
        until(lambda: qrels.exists() and "travel" in qrels.read_text("utf-8"))
        page.get_by_role("radio", name="Thumbs up").click()
        page.get_by_label("What was good, or what was missing?").fill("just right")
        page.keyboard.press("Enter")
        until(lambda: "just right" in (site.folder / "data" / "feedback" / "feedback.jsonl").read_text("utf-8"))

    def test_an_answer_is_exported_with_everything(self, site: Site, visit: Callable[..., Page]) -> None:
        page = visit()
        ask(page, "dinner in France")
        page.get_by_role("button", name="Export").click()
        with page.expect_download() as download:
            page.get_by_role("button", name="Full record (JSON)").click()
        exported = json.loads(Path(download.value.path()).read_text("utf-8"))
        assert exported["question"] == "dinner in France" and len(exported["candidates"]) == 30
        assert "sk-secret" not in json.dumps(exported)

    def test_a_keyboard_alone_is_enough(self, site: Site, visit: Callable[..., Page]) -> None:
        page = visit()
        page.get_by_label("Question", exact=True).focus()
        page.keyboard.type("dinner in France")
        page.keyboard.press("Enter")
        answered(page)
        for _ in range(40):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.className").startswith("cite"):
                break
        page.keyboard.press("Enter")
        expect(page.locator(".card:popover-open")).to_be_visible()
        page.keyboard.press("Tab")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "open"
        page.keyboard.press("Escape")
        expect(page.locator(".card:popover-open")).to_have_count(0)

    def test_upload_ask_about_it_look_at_its_chunks_and_delete_it(self, site: Site, visit: Callable[..., Page]) -> None:
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w") as archive:
            archive.writestr("inside/wombat.md", "# Wombat leave\n\nWombat keepers get nine extra days.")
            archive.writestr("../evil.md", "no")
        page = visit("/documents")
        page.locator("input[type=file]").first.set_input_files(
            [
                {"name": "platypus.md", "mimeType": "text/markdown", "buffer": b"# Platypus\n\nA platypus costs 77 EUR."},
                {"name": "pack.zip", "mimeType": "application/zip", "buffer": content.getvalue()},
                {"name": "nothing.txt", "mimeType": "text/plain", "buffer": b""},
            ]
        )
        page.get_by_role("button", name="Add to handbook").click()
        page.get_by_text(re.compile(r"done in")).first.wait_for()
        expect(page.get_by_text("2 added · 1 empty · 1 refused")).to_be_visible()
        stored = set(KeptStore(site.settings.chroma_path, "handbook").documents())
        assert {"uploads/platypus.md", "uploads/pack/inside/wombat.md"} <= stored
        asking = visit("/?documents=uploads/&q=What+does+a+platypus+cost")
        answered(asking)
        prompt = site.wire.sent[-1].body["messages"][1]["content"]
        assert "A platypus costs 77 EUR." in prompt
        choose(page, "uploads/platypus.md")
        expect(page.locator(".chunks li")).to_contain_text("A platypus costs 77 EUR.")
        page.get_by_role("button", name="Delete", exact=True).click()
        page.get_by_role("button", name="Delete 1 document").click()
        until(lambda: "uploads/platypus.md" not in KeptStore(site.settings.chroma_path, "handbook").documents())
        # The file goes after its document.
        until(lambda: not (site.folder / "data" / "uploads" / "handbook" / "uploads" / "platypus.md").exists())

    def test_a_run_goes_on_when_the_browser_closes(self, site: Site, visit: Callable[..., Page]) -> None:
        def slow(body: Any) -> Reply:
            time.sleep(0.5)
            return embeddings(body)

        site.wire.on("/embeddings", slow)
        page = visit("/documents?collection=later")
        page.get_by_text("No documents yet").wait_for()
        files = [
            {"name": f"{n}.md", "mimeType": "text/markdown", "buffer": f"# T{n}\n\n{f'Word{n} and more. ' * 200}".encode()}
            for n in range(12)
        ]
        page.locator("input[type=file]").first.set_input_files(files)  # type: ignore[arg-type]
        page.get_by_role("button", name="Add to later").click()
        page.get_by_text("Continues if you close this page.").wait_for()
        page.context.close()
        until(lambda: len(KeptStore(site.settings.chroma_path, "later", create=True).documents()) == 12)
        site.wire.on("/embeddings", embeddings)
        again = visit("/documents?collection=later")
        again.get_by_text(re.compile("done in")).wait_for()

    def test_a_folder_of_the_server_is_ingested_by_name(self, site: Site, visit: Callable[..., Page]) -> None:
        (site.folder / "data" / "more").mkdir(exist_ok=True)
        (site.folder / "data" / "more" / "one.md").write_text("# One\n\nA line.")
        page = visit("/documents?collection=folders")
        page.get_by_role("tab", name="Server folder").click()
        page.get_by_role("combobox", name="Folder under data").fill("more")
        page.get_by_role("option", name="more").first.click()
        page.get_by_role("button", name="Ingest into folders").click()
        page.get_by_text(re.compile("done in")).wait_for()
        assert list(KeptStore(site.settings.chroma_path, "folders").documents()) == ["one.md"]


def test_a_large_collection_is_looked_through_folder_by_folder(site: Site, visit: Callable[..., Page]) -> None:
    with KeptStore(site.settings.chroma_path, "handbook") as small:
        recipe, dimension = small.recipe, small.dimension
    assert dimension
    names = [*(f"dept{i % 4}/team{i % 12}/doc{i:05}.md" for i in range(1100)), "top.md"]
    vectors = np.random.default_rng(0).normal(size=(len(names), dimension)).astype(np.float32)
    with KeptStore(site.settings.chroma_path, "large", create=True) as store:
        store.create(recipe, dimension)
        version = Version("/r", "h", 1, 1.7e9)
        store.put([Written(name, version, [chunk(name)], vectors[i : i + 1]) for i, name in enumerate(names)])
    page = visit("/documents?collection=large")
    page.get_by_text("1,101 documents, 1,101 chunks").wait_for()
    page.get_by_text("1 document shown: search, or open a folder.").wait_for()
    page.get_by_role("combobox", name="Folder").click()
    page.get_by_role("option", name="dept1/", exact=True).click()
    page.get_by_text("0 documents shown").wait_for()
    page.get_by_label("Search").first.fill("team5 english")
    page.get_by_text("92 documents shown").wait_for()
    # What is not among the names is typed.
    page = visit("/?collection=large")
    page.get_by_role("combobox", name="Documents").click()
    page.keyboard.type("dept1/team5/")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("team5"))
    page.keyboard.press("Escape")
    ask(page, "anything")
    expect(page.locator(".receipt")).to_contain_text("30 of 30 scored")


class TestFailures:
    def test_a_wrong_key_and_a_reranker_that_is_down_are_said_on_every_page(
        self, site: Site, visit: Callable[..., Page], tmp_path: Path
    ) -> None:
        shutil.copytree(site.settings.chroma_path, tmp_path / "chroma", ignore=shutil.ignore_patterns("keeper.*"))
        with serve() as wire, socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            down = f"http://127.0.0.1:{unused.getsockname()[1]}/v1"
            wire.on("/chat/completions", lambda body: Reply({"error": {"message": "invalid token sk-secret"}}, 401))
            env = environment(tmp_path, wire, RAG_RERANK_URL=down, RAG_RERANK_DEADLINE="3", RAG_TITLE="Our handbook")
            with running(tmp_path, env) as url:
                page = visit(base=url)
                assert page.get_by_role("heading", name="Our handbook").inner_text()
                ask(page, "dinner in France")
                expect(page.get_by_role("heading", name="The endpoint rejected the key")).to_be_visible()
                expect(page.locator(".receipt.fallback")).to_contain_text("Reranking failed")
                expect(page.locator(".receipt.fallback")).to_contain_text("is it running?")
                page.get_by_role("link", name="Check the connections").click()
                expect(page.locator(".part.fail")).to_have_count(2)
                expect(page.locator(".part.ok")).to_have_count(2)
                expect(page.get_by_text("sk-secret")).to_have_count(0)
                assert "sk-secret" not in page.content()
                wire.on("/chat/completions", lambda body: chat("The code word is kestrel [1]."))
                page.get_by_role("button", name="Try again").click()
                expect(page.locator(".part.fail")).to_have_count(1)
        assert "sk-secret" not in (tmp_path / "streamlit.log").read_text("utf-8")


class TestManyUsers:
    def test_two_users_do_not_see_each_others_questions(self, visit: Callable[..., Page]) -> None:
        first, second = visit("/?follow_ups=false"), visit()
        ask(first, "dinner in France")
        ask(second, "hotel in Lyon")
        ask(first, "parking")
        first.get_by_test_id("stExpander").get_by_text("dinner in France", exact=True).wait_for(state="attached")
        assert "hotel in Lyon" not in first.content()
        assert "dinner in France" not in second.content()

    def test_twenty_sessions_ask_at_once_and_each_gets_its_own_answer(self, site: Site, visit: Callable[..., Page]) -> None:
        def own(body: Any) -> Reply:
            asked = body["messages"][1]["content"].rpartition("Question: ")[2]
            return chat(f"Answer to {asked} [1].")

        site.wire.on("/chat/completions", own)
        # Each tab is a session; in one browser the files of the page are loaded once.
        first = visit(width=700, height=500)
        pages = [first, *(visit(tab_of=first) for _ in range(19))]
        for n, page in enumerate(pages):
            page.get_by_label("Question", exact=True).fill(f"hotel number {n}")
        for page in pages:
            page.get_by_role("button", name="Ask", exact=True).click(no_wait_after=True)
        for n, page in enumerate(pages):
            expect(page.locator(".answer")).to_contain_text(f"Answer to hotel number {n}", timeout=60_000)
            answered(page)


class TestHostileContent:
    @pytest.mark.parametrize("lang", ["en", "zh"])
    def test_it_never_runs_and_never_loads_anything(self, site: Site, visit: Callable[..., Page], lang: str) -> None:
        site.wire.on("/chat/completions", lambda body: chat(*[EVIL_ANSWER[i : i + 7] for i in range(0, len(EVIL_ANSWER), 7)]))
        question = "dinner <img src=http://evil.example/q.png onerror=pwned()> ![q](http://evil.example/q2.png) [x](javascript:x) $\\x$"
        page = visit(f"/?lang={lang}&mode=both")
        page.get_by_label({"en": "Question", "zh": "问题"}[lang], exact=True).fill(question)
        page.keyboard.press("Enter")
        answered(page)
        page.locator("button.cite").first.click()
        page.keyboard.press("Escape")
        for n in range(5):
            page.get_by_role("tab").nth(n).click()
            page.wait_for_timeout(700)
        page.get_by_role("tab").nth(3).click()
        page.wait_for_timeout(700)
        for box in page.get_by_test_id("stExpander").all()[:6]:
            box.locator("summary").click()
            page.wait_for_timeout(150)
        page.wait_for_timeout(500)
        links = page.evaluate("[...document.querySelectorAll('a[href]')].map(a => a.getAttribute('href'))")
        assert not [
            link for link in links if "evil" in re.split("/original/|/documents[?]", link)[0] or link.startswith("javascript")
        ]
        assert (
            page.evaluate("document.querySelectorAll('.stHtml script, .stHtml img, .stHtml iframe, .stHtml svg').length") == 0
        )
        assert page.evaluate("document.querySelectorAll('.katex').length") == 0
        assert not set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069") & set(page.evaluate("document.body.innerText"))

    def test_nor_on_the_page_of_documents(self, site: Site, visit: Callable[..., Page]) -> None:
        stored = next(name for name in KeptStore(site.settings.chroma_path, "handbook").documents() if name.startswith("bad "))
        page = visit("/documents")
        choose(page, "bad <img")
        page.locator(".chunks li").first.wait_for()
        page.get_by_role("button", name="Delete", exact=True).click()
        page.get_by_role("button", name="Delete 1 document").wait_for()
        assert page.locator("[role=dialog] img").count() == 0 and stored.startswith("bad <img")
        assert "\u202e" not in page.evaluate("document.body.innerText")
        page = visit("/documents?document=raw.txt")
        expect(page.locator(".chunks")).to_contain_text("Dinner <img src=")
        assert page.locator(".chunks img, .chunks script, .chunks iframe").count() == 0

    def test_the_server_tells_browsers_to_stay_on_it(self, site: Site) -> None:
        for path in ("/", "/documents", "/original/handbook/zh.md"):
            policy = httpx.get(site.url + path).headers["content-security-policy"]
            assert "default-src 'self'" in policy and "http:" not in policy and "https:" not in policy


class TestAccess:
    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_axe_finds_no_serious_fault(self, site: Site, visit: Callable[..., Page], scheme: str) -> None:
        page = visit("/?mode=both", color_scheme=scheme)
        page.get_by_label("Question", exact=True).wait_for()
        faults = axe(page)
        ask(page, "dinner in France")
        for n in range(5):
            page.get_by_role("tab").nth(n).click()
            page.wait_for_timeout(600)
            faults += axe(page)
        page.locator("button.cite").first.click()
        faults += axe(page)
        for path, there in (("/documents", ".stDataFrame"), ("/connections", ".part.ok")):
            other = visit(path, color_scheme=scheme)
            other.locator(there).first.wait_for()
            faults += axe(other)
        assert not faults, "\n".join(dict.fromkeys(faults))

    def test_a_narrow_window_shows_everything_without_scrolling_sideways(self, visit: Callable[..., Page]) -> None:
        page = visit(width=390, height=800)
        ask(page, "dinner in France")
        for n in range(5):
            page.get_by_role("tab").nth(n).click()
            page.wait_for_timeout(400)
            assert page.evaluate("document.documentElement.scrollWidth") <= 390
        page.locator("button.cite").first.click()
        box = page.locator(".card:popover-open").bounding_box()
        assert box and box["x"] >= 0 and box["x"] + box["width"] <= 390

    def test_the_interface_speaks_chinese_by_the_browser_and_by_the_address(self, visit: Callable[..., Page]) -> None:
        page = visit(locale="zh-CN")
        page.get_by_role("button", name="提问").wait_for()
        page = visit("/documents?lang=zh")
        page.get_by_role("heading", name="文档").first.wait_for()
        page.get_by_role("link", name="连接").click()
        page.get_by_role("heading", name="连接").wait_for()


@pytest.fixture
def demo(sample: Settings, tmp_path: Path) -> Iterator[str]:
    """The application over the sample corpus with built-in models, as `make demo` serves it."""
    folder = tmp_path / "demo"
    folder.mkdir()
    with running(folder, {"RAG_CHROMA_PATH": str(sample.chroma_path), "RAG_EVAL_PATH": str(ROOT / "data" / "eval")}) as url:
        yield url


def test_the_demo_answers_an_example_with_the_built_in_models(demo: str, visit: Callable[..., Page]) -> None:
    page = visit(base=demo)
    page.get_by_text("How often should a Callisto C5 be recalibrated?").click(timeout=60_000)
    answered(page, timeout=60_000)
    assert page.get_by_text("Callisto C5 | Interval: 9 months").first.is_visible()
    # How many depends on the processor: quantised models round differently on each.
    assert page.get_by_text(
        re.compile(r"Reranking (put \d of the 4 passages into this answer|kept the same passages)")
    ).is_visible()
    assert page.get_by_text("it quotes from the passages or declines").is_visible()


class TestMetadata:
    def test_chips_limit_a_question_to_what_has_their_values(self, visit: Callable[..., Page], tmp_path: Path) -> None:
        corpus = tmp_path / "data" / "corpus"
        corpus.mkdir(parents=True)
        for year in (2024, 2025, 2026):
            for kind in ("rule", "<img src=x onerror=pwned()> **b**"):
                front = json.dumps({"year": year, "kind": kind})
                (corpus / f"{year}-{kind[:2].strip('<')}.md").write_text(
                    f"---\n{front}\n---\nDinner in {year}: {year - 2000} EUR."
                )
        with serve() as wire:
            wire.on("/chat/completions", lambda body: chat("26 EUR [1]."))
            env = environment(tmp_path, wire, RAG_METADATA="kind,year:int")
            names = {name.removeprefix("RAG_").lower(): value for name, value in env.items()}
            ingest_folder(Settings(_env_file=None, **names), corpus, Progress())  # type: ignore[call-arg]
            with running(tmp_path, env) as url:
                page = visit(base=url, width=1400)
                years = page.get_by_test_id("stSidebar").get_by_test_id("stButtonGroup").filter(has_text="2026")
                expect(years.get_by_role("button")).to_have_text(["2026 (2)", "2025 (2)", "2024 (2)"])
                years.get_by_role("button", name="2026 (2)").click()
                expect(page).to_have_url(re.compile("where-year=2026$"))
                ask(page, "What may a dinner cost?")
                expect(page.locator(".receipt")).to_contain_text("2 of 2 scored")
                # The address keeps it; taken off, it is asked of all.
                page = visit(path="/?where-year=2026&where-year=1999", base=url)
                expect(years.get_by_role("button", name="2026 (2)")).to_be_visible()
                page.get_by_test_id("stSidebar").get_by_role("button", name="2026 (2)").click()
                expect(page).not_to_have_url(re.compile("where-year"))
                page = visit(path=f"/?{page.url.partition('?')[2]}", base=url)
                ask(page, "What may a dinner cost?")
                expect(page.locator(".receipt")).to_contain_text("6 of 6 scored")
                assert "<img src=x onerror=pwned()> **b** (3)" in page.get_by_test_id("stSidebar").inner_text()
                # The chat model may read a value out of the question, which can be taken off.
                wire.on("/chat/completions", lambda body: chat('{"year": 2025}' if "JSON" in str(body) else "25 EUR [1]."))
                page = visit(base=url)
                page.get_by_text("Limit by the question").click()
                ask(page, "What did a dinner cost in 2025?")
                page.get_by_text("Searched only in year=2025, as the question says.").wait_for()
                expect(page.locator(".receipt")).to_contain_text("2 of 2 scored")
                page.get_by_role("button", name="Search everything").click()
                expect(page.locator(".receipt")).to_contain_text("6 of 6 scored")
                page = visit("/documents", base=url)
                page.get_by_text("6 documents, 6 chunks").wait_for()
                narrow = visit(base=url, width=390, height=800)
                narrow.wait_for_timeout(2500)
                assert narrow.evaluate("document.documentElement.scrollWidth") <= 390


def test_a_question_is_sought_in_the_phrasings_of_the_chat_model(site: Site, visit: Callable[..., Page]) -> None:
    page = visit()
    site.wire.on(
        "/chat/completions",
        lambda body: chat(
            "<b>Limit</b> for a meal\nCost of a dinner **abroad**" if "search engine" in str(body) else "Up to 32 EUR [1]."
        ),
    )
    page.get_by_test_id("stSidebar").get_by_text("Phrasings", exact=True).click()
    expect(page).to_have_url(re.compile("plan=phrasings"))
    ask(page, "What may dinner cost in France?")
    expect(page.locator(".plan li")).to_have_text(
        ["What may dinner cost in France?", "<b>Limit</b> for a meal", "Cost of a dinner **abroad**"]
    )
    expect(page.locator(".stages")).to_contain_text("plan")
    with page.expect_download() as download:
        page.get_by_role("button", name="Export").click()
        page.get_by_role("button", name="Readable copy").click()
    assert "Sought in several phrasings" in Path(download.value.path()).read_text()
