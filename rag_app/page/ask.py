"""The front page: the question, and the turns of this session, the newest first."""

from typing import Any, cast

import streamlit as st

from rag_app.errors import RagError
from rag_app.page import resources, result, states
from rag_app.page.asking import Choice, Mode, Turn, history_of, run
from rag_app.page.hostile import plain, visible
from rag_app.page.say import address, t, to_address
from rag_app.pipeline import Pipeline
from rag_app.settings import Settings
from rag_app.store.records import LANGUAGE
from rag_app.words import msg

MODES: dict[Mode, str] = {"one": msg("One"), "both": msg("Side by side"), "blind": msg("Blind")}
# More documents than this are offered by folder alone.
MAX_LISTED = 2000
MAX_QUESTION = 4000


def page(controls: Any) -> None:
    """Lay out the page."""
    st.title(plain(resources.title_and_icon()[0]), anchor=False)
    try:
        lay_out(controls, st.session_state.setdefault("turns", []))
    except RagError as error:
        resources.outdated(error)
        states.show_error(error)


def lay_out(controls: Any, turns: list[Turn]) -> None:
    """Show what a question is asked with, the question box, and the turns; ask what was just typed."""
    with controls:
        collection = choose_collection()
        with st.spinner(t("Starting the models"), show_time=False):
            pipeline = resources.pipeline(collection)
        revision = pipeline.store.revision
        choice, mode, follow_up = choose(pipeline, collection, revision)
    question = question_box(turns, collection, revision)
    if question:
        # Kept before it is asked: what comes of it is worth seeing also if it is broken off.
        turns.append(Turn(question, choice, mode, history_of(turns) if follow_up else []))
        st.session_state["open"] = turns[-1].id
    shown = next((turn for turn in turns if turn.id == st.session_state.get("open")), turns[-1] if turns else None)
    if shown is None:
        return
    # The address is of what is shown, also after another page or an earlier question.
    st.query_params["q"] = shown.typed
    pipeline = resources.pipeline(shown.choice.collection)
    asking = bool(st.session_state.pop("go_on", False) or question)
    under_way = st.empty()
    # What an earlier question left goes at once where it is an empty place; a container keeps it until it is drawn anew.
    place = st.empty() if asking else st.container()
    if asking:
        run(pipeline, shown, under_way)
        under_way.empty()
    with place.container():
        result.show(pipeline, shown, choice, mode)
        if earlier := [turn for turn in reversed(turns) if turn is not shown]:
            show_earlier(earlier)


def choose_collection() -> str:
    """Let the collection be chosen; the address remembers it."""
    names = resources.collection_names()
    return str(st.selectbox(t("Collection"), names, key="collection", bind="query-params"))


def choose(pipeline: Pipeline, collection: str, revision: str) -> tuple[Choice, Mode, bool]:
    """Let be chosen what a question is asked with; the address remembers it."""
    settings = pipeline.settings
    top = settings.n_passages
    fewest, most = candidates_range(settings)
    n_candidates = st.slider(t("Candidates"), fewest, most, settings.n_candidates, key="candidates", bind="query-params")
    n_passages = st.slider(t("Passages"), min(3, top), max(5, top), top, key="passages", bind="query-params")
    rerank = st.toggle(t("Rerank"), value=True, key="rerank", bind="query-params")
    address("mode", MODES, "one")
    st.segmented_control(
        t("Answers with and without reranking"),
        list(MODES),
        required=True,
        format_func=lambda mode: t(MODES[mode]),
        key="mode",
        persist_state="session",
        disabled=not rerank,
    )
    mode = cast("Mode", to_address("mode", "one"))
    only = st.multiselect(
        t("Documents"),
        filters(collection, revision),
        format_func=visible,
        placeholder=t("all"),
        key="documents",
        bind="query-params",
    )
    follow_up = st.toggle(
        t("Follow-ups"),
        value=pipeline.rewrites,
        disabled=not pipeline.rewrites,
        key="follow_ups",
        bind="query-params",
        help=t("A question that builds on the one before is rewritten by the chat model so that it stands alone.")
        if pipeline.rewrites
        else t("The built-in extractive model only quotes: it cannot rewrite a follow-up. Set RAG_CHAT_URL for one that can."),
    )
    if st.button(t("New question"), icon=":material/add:", width="stretch"):
        st.session_state["turns"].clear()
        st.query_params.pop("q", None)
    st.caption(t("{n} chunks in {collection}", n=f"{pipeline.store.count():,}", collection=plain(collection)))
    if settings.endpoint("CHAT").builtin:
        st.caption(t("Built-in models: English, on this machine, without a key. The chat model only quotes."))
    for line in settings.advice():
        st.caption(plain(line))
    return Choice(collection, n_candidates, n_passages, rerank, tuple(only)), mode, follow_up and pipeline.rewrites


def candidates_range(settings: Settings) -> tuple[int, int]:
    """Return how few and how many candidates a question can be asked with."""
    return min(20, settings.n_candidates), max(50, settings.n_candidates)


@st.cache_data(show_spinner=False, max_entries=20)
def filters(collection: str, revision: str) -> list[str]:
    """Return what a search can be limited to: languages, folders, and documents if they are not too many.

    `revision` is the collection's state, which what is remembered hangs on.
    """
    stored = resources.documents(collection, revision)
    languages = sorted({document.language for document in stored})
    folders = {f"{'/'.join(parts[:i])}/" for d in stored for parts in [d.document.split("/")] for i in range(1, len(parts))}
    names = [document.document for document in stored] if len(stored) <= MAX_LISTED else []
    return [*(f"{LANGUAGE}{code}" for code in languages if len(languages) > 1), *sorted(folders), *names]


def question_box(turns: list[Turn], collection: str, revision: str) -> str:
    """Show the question box, and examples as long as nothing was asked; return a question that was just asked, or ""."""
    examples = resources.examples(collection, revision)
    with st.form("ask_form", border=False, clear_on_submit=True):
        left, right = st.columns([6, 1], vertical_alignment="bottom")
        hint = t("Ask a follow-up, or something else") if turns else examples[0] if examples else t("Ask something")
        question = left.text_input(t("Question"), placeholder=hint, key="question")
        pressed = right.form_submit_button(t("Ask"), type="primary", width="stretch")
    asked = question if pressed and question else st.session_state.pop("picked", "")
    # A link that holds a question asks it, once.
    if not st.session_state.setdefault("link_asked", False):
        st.session_state["link_asked"] = True
        asked = asked or st.query_params.get("q", "")
    if not turns and not asked and examples:
        st.pills(t("Examples"), examples, format_func=plain, key="example", on_change=_pick_example)
    asked = str(asked).strip()
    if len(asked) > MAX_QUESTION:
        states.show(
            "short_text",
            t("The question is too long"),
            t("It has {n} characters, and at most {most} are asked.", n=f"{len(asked):,}", most=f"{MAX_QUESTION:,}"),
            t("Ask for one thing in a few sentences."),
        )
        return ""
    return asked


def _pick_example() -> None:
    if example := st.session_state["example"]:
        st.session_state["picked"] = example
        st.session_state["example"] = None


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
                st.button(t("Show with its rankings"), key=f"again-{turn.id}", on_click=_open, args=(turn.id,))


def _open(turn_id: str) -> None:
    st.session_state["open"] = turn_id
