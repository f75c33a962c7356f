"""Evaluate: what reranking is worth on labelled questions, the verdict first, and the kept runs."""

import time
from functools import partial
from pathlib import Path
from typing import Any

import streamlit as st

from ingest.corpus_records import store_records
from rag_app.errors import RagError
from rag_app.evaluation import measures, runs
from rag_app.evaluation.bench import Bench
from rag_app.evaluation.report import Report
from rag_app.evaluation.sets import is_beir, name_of
from rag_app.evaluation.sweep import depths, sweep
from rag_app.page import labelling, movement, resources, states
from rag_app.page import report_view as report_page
from rag_app.page.hostile import visible
from rag_app.page.say import remembered, t
from rag_app.page.visit import Widget
from rag_app.settings import Settings
from rag_app.types import seconds
from rag_app.words import Message, joined, msg, nmsg

VIEWS = {"measure": msg("Measure"), "label": msg("Label"), "drafts": msg("Drafts")}
SAMPLES = (0, 50, 100, 200, 500)
PASSAGES = (1, 2, 3, 4, 5, 8)
# How many levels below RAG_SERVER_PATH folders in BEIR format are searched for.
DEEP = 3
# How many kept runs are compared over time.
RUNS = 50


def page(controls: Any) -> None:
    """Lay out the page."""
    st.title(t("Evaluate"), anchor=False)
    with controls:
        collection = st.selectbox(t("Collection"), resources.collection_names(), key=Widget.COLLECTION, bind="query-params")
        settings = resources.of(collection)
    view = remembered(st.segmented_control, msg("What to do"), VIEWS, Widget.VIEW, required=True, label_visibility="collapsed")
    if view == "label":
        labelling.label(settings)
    elif view == "drafts":
        labelling.drafts(settings)
    else:
        measure(settings)


def measure(settings: Settings) -> None:
    """Offer a set and options, run it, and show the newest report or the chosen one."""
    sets = question_sets(settings.eval_path, settings.server_path)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        chosen = st.selectbox(t("Questions"), list(sets), format_func=visible, key="set", bind="query-params")
        n = st.number_input(t("Candidates"), 1, 1000, settings.n_candidates, key="eval_candidates")
        sample = st.selectbox(
            t("Sample"), SAMPLES, format_func=lambda size: f"{size}" if size else t("all questions"), key="sample"
        )
        answers = st.toggle(t("Answers too"), key="answers", help=t("Asks the chat model twice for each question."))
        fresh = st.toggle(t("Ignore cache"), key="fresh", help=t("Otherwise cached results are reused."))
        pressed = st.button(t("Measure"), type="primary", icon=":material/straighten:")
    st.caption(t("Interrupted runs resume where they stopped."))
    place = st.empty()
    if pressed:
        with place.container():
            kept, took = run(settings, sets[chosen], int(n), sample or None, answers=answers, fresh=fresh)
        place.empty()
        st.session_state[Widget.REPORT] = kept.name
        states.note(took, "task_alt")
    show_kept(settings, name_of(sets[chosen] or settings.eval_path))


@st.cache_data(show_spinner=False, ttl=60)
def question_sets(labels: Path, below: Path) -> dict[str, Path | None]:
    """Return the evaluation sets by name: our labelled questions (None), and folders in BEIR format below another."""
    found = {path.parent for deep in range(DEEP + 1) for path in below.glob("/".join(["*"] * deep + ["queries.jsonl"]))}
    return {str(labels): None, **{str(path): path for path in sorted(found) if is_beir(path)}}


def run(
    settings: Settings, folder: Path | None, n: int, sample: int | None, *, answers: bool, fresh: bool
) -> tuple[Path, Message]:
    """Ask all questions, with a bar that shows the time left; return the file of the report, and what it took."""
    if answers:
        # A chat model or judge without a name or address fails before anything is paid for.
        _ = settings.endpoint("CHAT"), settings.judge
    bar = st.progress(0.0, t("Reading the questions"))
    began = time.monotonic()

    def told(what: Message) -> Any:
        start = time.monotonic()

        def tell(done: int, of: int, failed: int) -> None:
            left = (time.monotonic() - start) / done * (of - done) if done else 0.0
            said = msg("{what}: {done} of {of}, about {left} left", what=what, done=done, of=of, left=seconds(1000 * left))
            bar.progress(done / of, t(joined(", ", (said, msg("{n} failed", n=failed) if failed else ""))))

        return tell

    embedding = told(msg("Embedding the corpus"))
    with Bench(settings, folder, store_records, fresh=fresh, sample=sample, on_record=embedding) as bench:
        asked = bench.ask(n, told(msg("Asking")))
        answered = bench.answers(asked, told(msg("Answering, with and without reranking"))) if answers else None
        bar.progress(1.0, t("Counting"))
        report = bench.report(asked, measures.usual(settings.n_passages), n, answered)
        if report.measured:
            swept = sweep(report.set, asked, bench.settings, depths(n), [p for p in PASSAGES if p <= n])
            report = report.model_copy(update={"sweep": swept})
        kept = bench.keep(report, asked)
    return kept, nmsg(
        "{n} API call in {seconds:.0f} s; the rest came from cache.",
        "{n} API calls in {seconds:.0f} s; the rest came from cache.",
        bench.pipeline.n_calls,
        seconds=time.monotonic() - began,
    )


def show_kept(settings: Settings, name: str) -> None:
    """Show one of the kept runs of a set, which the reader chooses, compared with the others."""
    kept = runs.kept(settings.runs_path, name)
    if not kept:
        states.show(
            msg("No runs yet"),
            msg("A run asks every labelled question, and says whether reranking helps on these documents."),
            msg("Press Measure, or run `rag-app eval`."),
        )
        return
    names = [path.name for path in kept]
    if st.session_state.get(Widget.REPORT) not in names:
        st.session_state[Widget.REPORT] = names[0]
    chosen = st.selectbox(t("Run"), names, format_func=_run_name, key=Widget.REPORT)
    report = read_run(str(settings.runs_path / chosen))
    report_page.show(report, partial(show_rankings, settings.runs_path, report))
    report_page.over_time(report, [other for path in reversed(kept[:RUNS]) if (other := _readable(path))])


def show_rankings(folder: Path, report: Report, question: str) -> None:
    """Show both rankings of a question of a kept run, by its id, as they were measured: no endpoint or store is used."""
    try:
        search = runs.measured(folder, report, question)
    except RagError as error:
        states.note(error.message, "error")
        return
    states.note(search.effect, "swap_vert")
    chart, lists = st.tabs([t("Movement"), t("Lists")])
    with chart:
        st.html(movement.legend(search))
        dark = st.context.theme.type == "dark"
        st.altair_chart(movement.chart(search, set(), dark=dark), theme=None, alt=t(search.effect))
    with lists:
        st.html(movement.lists(search, set()))


def _readable(path: Path) -> Report | None:
    """Return a kept run, or None if it is of another version."""
    try:
        return read_run(str(path))
    except RagError:
        return None


@st.cache_data(show_spinner=False, max_entries=50)
def read_run(path: str) -> Report:
    """Return a kept run; they never change."""
    return runs.read(Path(path))


def _run_name(name: str) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(runs.when(Path(name))))
