"""The page Evaluate in a real browser: measuring, a bar that leads to its rankings, labelling by keyboard, drafts."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from ingest.jobs import ingest_folder
from ingest.sync import Progress
from rag_app.evaluation.drafts import Draft, Drafts
from rag_app.labels import jsonl
from rag_app.settings import Settings
from tests.browsing import Site, axe, environment, last_first, needs_chromium, running
from tests.wire import Reply, chat, rerank, serve

pytestmark = needs_chromium
HOSTILE = "dinner <img src=http://evil.example/q.png onerror=pwned()> ![q](http://evil.example/q2.png) in town 1?"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """Twenty-four towns with a labelled question each, a question without an answer, and the scripted gateway."""
    corpus, labels = tmp_path / "data" / "corpus", tmp_path / "data" / "eval"
    corpus.mkdir(parents=True)
    labels.mkdir()
    for n in range(24):
        (corpus / f"town-{n}.md").write_text(
            f"# Rules of town {n}\n\nA dinner in town {n} costs {30 + n} EUR, says rule x{n}.\n"
        )
        question = HOSTILE if n == 1 else f"What does a dinner cost in town {n}, and x{(n + 1) % 24}?"
        jsonl.append(labels / "queries.jsonl", {"_id": f"q{n}", "text": question, "answer": f"{30 + n} EUR"})
        judged = {"query": f"q{n}", "document": f"town-{n}.md", "quote": f"costs {30 + n} EUR", "grade": 2}
        jsonl.append(labels / "qrels.jsonl", judged)
    jsonl.append(labels / "queries.jsonl", {"_id": "none", "text": "Who is the king?", "answer": None})
    with serve() as wire:
        env = environment(tmp_path, wire)
        names = {name.removeprefix("RAG_").lower(): value for name, value in env.items()}
        settings = Settings(_env_file=None, **names)  # type: ignore[call-arg]
        ingest_folder(settings, corpus, Progress())
        with running(tmp_path, env) as url:
            yield Site(url, tmp_path, wire, settings)


def measure(page: Page) -> None:
    page.get_by_role("button", name="Measure", exact=True).click()
    # While a report is drawn anew, the one before stands below it.
    expect(page.locator(".verdict")).to_have_count(1, timeout=60_000)
    expect(page.get_by_role("heading", name="Time and cost")).to_have_count(1, timeout=60_000)


def test_measure_read_the_verdict_and_open_a_question_from_its_bar(site: Site, visit: Callable[..., Page]) -> None:
    page = visit("/evaluate")
    page.get_by_text("No runs yet").wait_for()
    measure(page)
    assert site.wire.count("/rerank") == 25
    expect(page.locator(".verdict h3")).to_contain_text(re.compile(r"Reranking (helps|hurts)|No difference seen at this size"))
    expect(page.locator(".verdict .todo")).to_contain_text("→ ")
    expect(page.locator(".measures tbody tr").first).to_contain_text("nDCG@10")
    for heading in ("Question by question", "How many candidates and passages", "Unanswerable questions"):
        expect(page.get_by_role("heading", name=heading)).to_be_visible()
    assert page.locator(".stHtml img, .stHtml script").count() == 0
    with page.expect_download() as download:
        page.get_by_role("button", name="Report (HTML)").click()
    report = Path(download.value.path()).read_text("utf-8")
    assert "Is reranking worth it?" in report and "<svg" in report and "<img" not in report
    # A second run asks nobody, and is kept beside the first.
    n = len(site.wire.sent)
    measure(page)
    page.get_by_role("heading", name="Runs over time").wait_for()
    assert len(site.wire.sent) == n and len(list((site.folder / "data" / "runs").glob("*.json"))) == 2
    chart = page.get_by_test_id("stVegaLiteChart").first
    chart.scroll_into_view_if_needed()
    box = chart.bounding_box()
    assert box
    # The bar at the right end is the question that gained most, from the line of 0 upwards.
    gained = page.get_by_test_id("stExpander").first.inner_text().split(" · ", 1)[1].strip()
    chart.click(position={"x": box["width"] - 8, "y": box["height"] * 0.25})
    page.locator(".legend").wait_for()
    expect(page.get_by_text(gained.split("<")[0].strip()).first).to_be_visible()
    page.get_by_role("tab", name="Lists").click()
    # As measured, and asking nobody.
    expect(page.locator(".lists tbody tr")).to_have_count(24)
    assert "/evaluate" in page.url and len(site.wire.sent) == n


def test_a_question_is_opened_by_keyboard_and_failures_are_said(site: Site, visit: Callable[..., Page]) -> None:
    def fails_for_one(body: dict[str, str]) -> Reply:
        return Reply({"error": {"message": "out of order"}}, 400) if "town 5," in body["query"] else rerank(body)

    site.wire.on("/rerank", fails_for_one)
    page = visit("/evaluate")
    # Fewer than the Ask page offers.
    page.get_by_role("spinbutton", name="Candidates").fill("10")
    page.keyboard.press("Enter")
    page.wait_for_timeout(500)
    measure(page)
    expect(page.get_by_text("Failed (excluded): 1 question")).to_be_visible()
    expect(page.get_by_text("23 measured")).to_be_visible()
    n = len(site.wire.sent)
    page.get_by_role("button", name="Show its rankings").last.press("Enter")
    page.get_by_role("tab", name="Lists").click()
    expect(page.locator(".lists tbody tr")).to_have_count(10)
    assert len(site.wire.sent) == n


def test_rankings_are_shown_without_the_collection_and_what_was_not_kept_is_said(
    site: Site, visit: Callable[..., Page]
) -> None:
    page = visit("/evaluate")
    measure(page)
    (path,) = (site.folder / "data" / "runs").glob("*.json")
    later = path.with_name(f"20990101T000000.000-{path.name.partition('-')[2]}")
    run = path.read_text("utf-8").replace('"collection":"handbook"', '"collection":"gone"')
    later.write_text(run, "utf-8")
    page = visit("/evaluate")
    page.locator(".verdict").wait_for()
    page.get_by_role("button", name="Show its rankings").last.click()
    page.locator(".legend").wait_for()
    # A run of whose searches nothing is kept.
    foreign = re.sub(r'"when":[0-9.e+]+', '"when":1.0', run)
    later.with_name(later.name.replace("20990101", "20990102")).write_text(foreign, "utf-8")
    page = visit("/evaluate")
    page.locator(".verdict").wait_for()
    page.get_by_role("button", name="Show its rankings").last.click()
    page.get_by_text(re.compile("The rankings of question .* are not kept with this run")).wait_for()


def test_answers_are_measured_and_shown_beside_what_was_expected(site: Site, visit: Callable[..., Page]) -> None:
    site.wire.on("/rerank", last_first)
    site.wire.on("/chat/completions", lambda body: chat(f"It is {re.findall(r'costs (.. EUR)', str(body))[0]} [1]."))
    page = visit("/evaluate")
    page.get_by_text("Answers too").click()
    measure(page)
    page.get_by_role("heading", name="Answers", exact=True).wait_for()
    expect(page.locator(".measures").last).to_contain_text("token F1")
    expect(page.get_by_text("An answer takes")).to_be_visible()
    changed = page.get_by_test_id("stExpander").filter(has_text="What does a dinner cost").last
    changed.click()
    expect(changed).to_contain_text("expected")


def test_candidates_are_judged_by_keyboard_with_the_coverage_shown(site: Site, visit: Callable[..., Page]) -> None:
    labels = site.folder / "data" / "eval"
    page = visit("/evaluate?view=label")
    page.get_by_role("combobox", name="Question").fill("What is a dinner in town 7?")
    page.keyboard.press("Enter")
    page.get_by_text(re.compile(r"0 of \d+ candidates judged")).wait_for()
    page.get_by_role("heading", name="Evaluate").click()
    for n, key in enumerate(("y", "p", "n"), 1):
        page.keyboard.press(key)
        page.get_by_text(re.compile(rf"{n} of \d+ candidates judged")).wait_for()
    assert [row["grade"] for row in jsonl.read(labels / "qrels.jsonl")[24:]] == [2, 1, 0]
    assert jsonl.read(labels / "queries.jsonl")[-1]["text"] == "What is a dinner in town 7?"
    page.keyboard.press("ArrowLeft")
    page.get_by_text(re.compile(r"candidate 3 of \d+ · Not")).wait_for()
    # Drawn after the words: a key for a button that cannot be pressed yet does nothing.
    expect(page.get_by_role("button", name=re.compile("Undo"))).to_be_enabled()
    page.keyboard.press("t")
    page.get_by_text(re.compile(r"2 of \d+ candidates judged")).wait_for()
    assert len(jsonl.read(labels / "qrels.jsonl")) == 26
    page.get_by_text("Measure", exact=True).first.click()
    measure(page)
    # What was judged here is measured at once.
    expect(page.get_by_text("26 questions, 25 measured")).to_be_visible()


def test_a_draft_counts_when_it_is_accepted_also_with_mended_words(site: Site, visit: Callable[..., Page]) -> None:
    labels = site.folder / "data" / "eval"
    drafts = Drafts(labels)
    for n in (1, 2):
        quote = f"A dinner in town {n} costs {30 + n} EUR"
        drafts.add(Draft(question=f"Draft {n}?", answer="EUR", document=f"town-{n}.md", quote=quote))
    page = visit("/evaluate?view=drafts")
    page.get_by_text("2 drafts are waiting").wait_for()
    assert not [row for row in jsonl.read(labels / "queries.jsonl") if row["_id"].startswith("draft-")]
    # The click on Accept is what ends the typing.
    page.get_by_label("Question", exact=True).fill("Mended?")
    page.get_by_role("button", name="Accept").click()
    page.get_by_text("1 draft is waiting").wait_for()
    page.get_by_role("button", name="Drop").click()
    page.get_by_text("No drafts are waiting").wait_for()
    added = [row for row in jsonl.read(labels / "queries.jsonl") if row["_id"].startswith("draft-")]
    assert [row["text"] for row in added] == ["Mended?"] and drafts.waiting() == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_fault_and_a_narrow_window_does_not_scroll_sideways(
    site: Site, visit: Callable[..., Page], scheme: str
) -> None:
    page = visit("/evaluate", color_scheme=scheme, width=390, height=800)
    measure(page)
    faults = axe(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    for view in ("label", "drafts"):
        other = visit(f"/evaluate?view={view}", color_scheme=scheme)
        other.get_by_role("heading", name="Evaluate").wait_for()
        faults += axe(other)
    assert not faults, "\n".join(dict.fromkeys(faults))


def test_the_verdict_speaks_chinese(site: Site, visit: Callable[..., Page]) -> None:
    page = visit("/evaluate?lang=zh")
    page.get_by_role("button", name="评测", exact=True).click()
    expect(page.locator(".verdict h3")).to_contain_text(re.compile("重排|看不出差别"), timeout=30_000)
