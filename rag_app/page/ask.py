"""The front page: the question, and the turns of this session, the newest first."""

from typing import Any, Literal

import streamlit as st

from rag_app.page import resources, result, states
from rag_app.page.asking import history_of, run
from rag_app.page.hostile import plain, visible
from rag_app.page.say import remembered, t
from rag_app.page.visit import Choice, Mode, Turn, Visit, Widget, visit
from rag_app.pipeline import Pipeline
from rag_app.settings import Settings
from rag_app.store.stored import LANGUAGE
from rag_app.types import WHERE, FirstStage, PlanKind
from rag_app.words import msg, nmsg

MODES: dict[Mode, str] = {"one": msg("Single answer"), "both": msg("Side by side"), "blind": msg("Blind")}
FIRST_STAGES: dict[FirstStage, str] = {"hybrid": msg("Hybrid"), "dense": msg("Vectors"), "lexical": msg("Words")}
PLANS: dict[PlanKind | Literal["none"], str] = {
    "none": msg("As asked"),
    "phrasings": msg("Phrasings"),
    "parts": msg("Parts"),
}
MAX_QUESTION = 4000
# Values of a field that are shown side by side.
_MOST_PILLS = 12


def page(controls: Any) -> None:
    """Lay out the page."""
    st.title(plain(resources.title_and_icon()[0]), anchor=False)
    lay_out(controls, visit())


def lay_out(controls: Any, visit: Visit) -> None:
    """Show what a question is asked with, the question box, and the turns; ask what was just typed."""
    with controls:
        collection = choose_collection()
        with st.spinner(t("Loading models"), show_time=False):
            pipeline = resources.pipeline(collection)
        revision = pipeline.store.revision
        choice, mode, follow_up = choose(visit, pipeline, collection, revision)
    question = question_box(visit, collection, revision)
    if question:
        visit.ask(Turn(question, choice, mode, history_of(visit.turns) if follow_up else []))
    shown = visit.shown
    if shown is None:
        return
    # The address is of what is shown, also after another page or an earlier question.
    st.query_params["q"] = shown.typed
    pipeline = resources.pipeline(shown.choice.collection)
    asking, visit.pending = visit.pending, False
    under_way = st.empty()
    # An empty place clears at once what an earlier question left; a container keeps it until it is drawn again.
    place = st.empty() if asking else st.container()
    if asking:
        run(pipeline, shown, under_way)
        under_way.empty()
    with place.container():
        result.show(pipeline, shown, choice, mode)
        if earlier := [turn for turn in reversed(visit.turns) if turn is not shown]:
            show_earlier(earlier)


def choose_collection() -> str:
    """Offer the collections; the address remembers which is chosen."""
    names = resources.collection_names()
    return str(st.selectbox(t("Collection"), names, key=Widget.COLLECTION, bind="query-params"))


def choose(visit: Visit, pipeline: Pipeline, collection: str, revision: str) -> tuple[Choice, Mode, bool]:
    """Offer what a question is asked with; the address remembers what is chosen."""
    settings = pipeline.settings
    top = settings.n_passages
    fewest, most = candidates_range(settings)
    n_candidates = st.slider(t("Candidates"), fewest, most, settings.n_candidates, key=Widget.CANDIDATES, bind="query-params")
    n_passages = st.slider(t("Passages"), min(3, top), max(5, top), top, key=Widget.PASSAGES, bind="query-params")
    first_stage = next(iter(pipeline.retrievers))
    if len(pipeline.retrievers) > 1:
        first_stage = remembered(st.segmented_control, msg("First stage"), FIRST_STAGES, Widget.FIRST_STAGE, required=True)
    plan: PlanKind | Literal["none"] = "none"
    if pipeline.rewrites:
        plans = {settings.plan: PLANS[settings.plan], **PLANS}
        plan = remembered(st.segmented_control, msg("Plan"), plans, Widget.PLAN, required=True)
    rerank = st.toggle(t("Rerank"), value=True, key=Widget.RERANK, bind="query-params")
    label = msg("Answers with and without reranking")
    mode = remembered(st.segmented_control, label, MODES, Widget.MODE, required=True, disabled=not rerank)
    only = st.multiselect(
        t("Documents"),
        filters(collection, revision),
        format_func=visible,
        placeholder=t("all"),
        key=Widget.FILTER,
        bind="query-params",
        # Not all names of a large collection are among those to pick.
        accept_new_options=not resources.listing(collection, revision).whole,
    )
    only += choose_fields(collection, revision)
    limit = False
    if pipeline.rewrites and resources.listing(collection, revision).fields:
        limit = st.toggle(
            t("Limit by the question"),
            value=settings.limit_by_question,
            key=Widget.LIMIT,
            bind="query-params",
            help=t("The chat model reads the values of these fields out of the question; chips that are chosen count more."),
        )
    follow_up = st.toggle(
        t("Follow-ups"),
        value=pipeline.rewrites,
        disabled=not pipeline.rewrites,
        key=Widget.FOLLOW_UPS,
        bind="query-params",
        help=t("The chat model rewrites a question that builds on the one before as a standalone question.")
        if pipeline.rewrites
        else t(
            "The built-in extractive model only quotes: it cannot rewrite a follow-up. Set RAG_CHAT_URL to use one that can."
        ),
    )
    if st.button(t("New question"), icon=":material/add:", width="stretch"):
        visit.turns, visit.shown = [], None
        st.query_params.pop("q", None)
    n_chunks = pipeline.store.count()
    stored = nmsg("{n:,} chunk in {collection}", "{n:,} chunks in {collection}", n_chunks, collection=collection)
    st.caption(plain(t(stored)))
    if settings.endpoint("CHAT").builtin:
        st.caption(t("Built-in models, on this machine, no key needed. The chat model only quotes."))
    for line in settings.advice():
        st.caption(plain(t(line)))
    return (
        Choice(collection, n_candidates, n_passages, rerank, tuple(only), first_stage, plan, limit),
        mode,
        follow_up and pipeline.rewrites,
    )


def choose_fields(collection: str, revision: str) -> list[str]:
    """Offer the values that fields of documents have, with the number of documents of each; return the filter's names."""
    only: list[str] = []
    for name, counts in resources.listing(collection, revision).fields.items():
        key = f"{Widget.WHERE}{name}"
        # Numbers by their size, the greatest first: the newest year.
        values = sorted(counts, key=lambda value: (not value.isdecimal(), -int(value) if value.isdecimal() else 0, value))
        # The address names values as they are: a label has their number too, which changes.
        asked = st.session_state[key] if key in st.session_state else st.query_params.get_all(key)
        # Of a field with too many values none is offered, and any can be typed.
        there = [value for value in dict.fromkeys(asked) if value in counts or not counts]
        if key not in st.session_state or there != asked:
            st.session_state[key] = there
        few = 0 < len(values) <= _MOST_PILLS

        def shown(value: str, counts: dict[str, int] = counts, few: bool = few) -> str:
            # Of the two, pills read Markdown.
            return (plain if few else visible)(f"{value} ({counts[value]:,})" if value in counts else value)

        if few:
            chosen = st.pills(plain(name), values, format_func=shown, key=key, selection_mode="multi", persist_state="session")
        else:
            options = values or there
            chosen = st.multiselect(
                plain(name),
                options,
                format_func=shown,
                placeholder=t("all"),
                key=key,
                accept_new_options=not counts,
                persist_state="session",
            )
        if chosen:
            st.query_params[key] = chosen
        elif key in st.query_params:
            del st.query_params[key]
        only += [f"{WHERE}{name}={value}" for value in chosen]
    return only


def candidates_range(settings: Settings) -> tuple[int, int]:
    """Return how few and how many candidates a question can be asked with."""
    return min(20, settings.n_candidates), max(50, settings.n_candidates)


def filters(collection: str, revision: str) -> list[str]:
    """Return what a search can be limited to: languages, folders, and documents.

    Of a large collection those at the top, and what was typed or is in the address.
    """
    listing = resources.listing(collection, revision)
    languages = [f"{LANGUAGE}{code}" for code in listing.languages if len(listing.languages) > 1]
    chosen = [*st.query_params.get_all(Widget.FILTER), *st.session_state.get(Widget.FILTER, [])]
    names = [*languages, *listing.folders, *(document.document for document in listing.documents)]
    return [*names, *(name for name in dict.fromkeys(chosen) if name not in names and not listing.whole)]


def question_box(visit: Visit, collection: str, revision: str) -> str:
    """Show the question box, and examples until something is asked; return the question just asked, or ""."""
    examples = resources.examples(collection, revision)
    with st.form("ask_form", border=False, clear_on_submit=True):
        left, right = st.columns([6, 1], vertical_alignment="bottom")
        hint = t("Ask a follow-up, or something else") if visit.turns else examples[0] if examples else t("Ask a question")
        question = left.text_input(t("Question"), placeholder=hint, key=Widget.QUESTION)
        pressed = right.form_submit_button(t("Ask"), type="primary", width="stretch")
    asked = question if pressed and question else visit.picked
    visit.picked = ""
    if not visit.turns and not asked and examples:
        st.pills(t("Examples"), examples, format_func=plain, key=Widget.EXAMPLE, on_change=_pick_example)
    asked = str(asked).strip()
    if len(asked) > MAX_QUESTION:
        states.show(
            msg("The question is too long"),
            msg("It has {n:,} characters; the limit is {most:,}.", n=len(asked), most=MAX_QUESTION),
            msg("Ask one thing in a few sentences."),
        )
        return ""
    return asked


def _pick_example() -> None:
    if example := st.session_state[Widget.EXAMPLE]:
        visit().picked = example
        st.session_state[Widget.EXAMPLE] = None


def show_earlier(turns: list[Turn]) -> None:
    """Show the other turns of this session, closed."""
    st.subheader(t("Earlier in this conversation"), anchor=False)
    for turn in turns:
        about = st.expander(plain(turn.typed), key=f"earlier-{turn.id}", on_change="rerun")
        if about.open:
            with about:
                result.show_answers(turn)
                if turn.search:
                    st.caption(plain(t(turn.search.effect)))
                st.button(t("Show with rankings"), key=f"again-{turn.id}", on_click=_open, args=(turn,))


def _open(turn: Turn) -> None:
    visit().shown = turn
