"""One turn as it is shown: the answer, what reranking did to it, and everything that led to it."""

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Literal

import streamlit as st

from rag_app import export
from rag_app.labels import feedback
from rag_app.labels.feedback import Better
from rag_app.page import states
from rag_app.page.asking import comparable, plan_html, stage_line
from rag_app.page.citations import answer_html
from rag_app.page.evidence import evidence, receipt
from rag_app.page.hostile import html, plain
from rag_app.page.say import t, w
from rag_app.page.visit import Choice, Mode, Turn, visit
from rag_app.pipeline import Pipeline
from rag_app.price import cost
from rag_app.types import Answer, Ask, Candidate, Limit, Search
from rag_app.words import msg, nmsg

VOTES = {"with": msg("with reranking"), "without": msg("without reranking"), "neither": msg("no difference")}
INTERRUPTED = msg("Interrupted")
# How an unfinished answer ended: title, what happened, what to do.
UNFINISHED = {
    "length": (
        msg("The answer stops in the middle"),
        msg("The chat model reached its token limit."),
        msg("Ask a narrower question, or raise the limit at the endpoint."),
    ),
    "filtered": (
        msg("The answer was cut off"),
        msg("A content filter of the endpoint withheld the rest."),
        msg("Rephrase the question."),
    ),
    "cut_short": (
        msg("The answer may be incomplete"),
        msg("The response ended unexpectedly."),
        msg("Try again; if it keeps happening, check the endpoint."),
    ),
}


def show(pipeline: Pipeline, turn: Turn, choice: Choice, mode: Mode) -> None:
    """Show a turn, and what can be done with it."""
    st.subheader(plain(turn.search.question if turn.search else turn.typed), anchor=False)
    search = turn.search
    if search and search.rewrite and search.rewrite.typed != search.question:
        states.note(msg("You asked “{typed}”. Rewritten as a standalone question.", typed=search.rewrite.typed), "edit_note")
    if search:
        st.html(stage_line(search.stages))
        if search.limit:
            _limited(turn, search.limit, mode)
        if search.plan:
            st.html(html('<p class="quiet">{title}</p>', title=t(search.plan.title)) + plan_html(search.plan.lines))
    if turn.error:
        states.show_error(turn.error)
    if search is None:
        if not turn.error:
            states.show(INTERRUPTED, msg("You left before the question was answered."), msg("Ask it again."))
        _again(turn, choice, mode)
        return
    if not search.candidates:
        names = search.limited_to or turn.choice.collection
        states.show(msg("Nothing found"), msg("No content in {names}.", names=names), msg("Remove the filter."))
        return
    show_answers(turn)
    _state_of_answer(turn, search)
    if turn.blind and turn.ask:
        _vote(pipeline, turn, turn.ask)
        return
    if turn.ask and search.passages:
        _actions(pipeline, turn, turn.ask, mode)
    # Another number of passages cuts the same ranking; nobody is asked.
    view = search if choice.n_passages == turn.choice.n_passages else pipeline.recut(search, choice.n_passages)
    _changes(turn, choice, mode, view)
    st.html(receipt(view, pipeline))
    evidence(pipeline, turn, view)


def show_answers(turn: Turn) -> None:
    """Show the answer, or the two answers side by side with what differs marked."""
    ask = turn.ask
    if ask is None:
        return
    if not (other := ask.without_rerank):
        st.html(_answer(turn, ask.answer, ask.passages, "a"))
        _notes(ask.answer)
        return
    cited = {side: {c.id for c in answer.citations} for side, answer in (("with", ask.answer), ("without", other.answer))}
    sides = {
        "with": (t("With reranking"), ask.answer, ask.passages, cited["with"] - cited["without"]),
        "without": (t("Without reranking"), other.answer, ask.passages_without_rerank, cited["without"] - cited["with"]),
    }
    left = turn.left if turn.mode == "blind" else "with"
    order = (left, "without" if left == "with" else "with")
    # Nothing tells which is which, not even the page's source.
    for column, side, hidden in zip(st.columns(2, border=True), order, (t("Left"), t("Right")), strict=True):
        title, answer, passages, only_here = sides[side]
        with column:
            st.html(
                html("<h4>{title}</h4>", title=hidden if turn.blind else title)
                + _answer(turn, answer, passages, str(order.index(side)), () if turn.blind else only_here)
            )
            if not turn.blind:
                _notes(answer)
    if turn.voted:
        voted = msg("Your vote: {vote}.", vote=VOTES[turn.voted]) if turn.voted in VOTES else msg("Shown without a vote.")
        states.note(voted, "how_to_vote")
    if not turn.blind and (cited["with"] ^ cited["without"]):
        st.html(html('<p class="quiet"><span class="cite only">n</span> {says}</p>', says=t("cited in this answer only")))


def _answer(turn: Turn, answer: Answer, passages: tuple[Candidate, ...], side: str, only_here: Collection[str] = ()) -> str:
    return answer_html(
        answer.text,
        passages,
        collection=turn.choice.collection,
        prefix=f"card-{turn.id}-{side}",
        only_here=only_here,
    )


def _notes(answer: Answer) -> None:
    """Say what a reader should know about an answer."""
    for note in answer.notes:
        states.note(note)


def _state_of_answer(turn: Turn, search: Search) -> None:
    """Show what is wrong with an answer and what to do."""
    ask = turn.ask
    if ask is None:
        if not turn.error:
            states.show(INTERRUPTED, msg("You left before the answer finished."), msg("Ask for it again."))
        st.button(
            t("Answer from these passages"),
            key=f"answer-{turn.id}",
            on_click=_go_on,
            args=(turn, search, turn.choice.n_passages),
        )
        return
    if not search.passages:
        states.show(
            msg("Nothing relevant enough"),
            msg("Every candidate scored below the threshold, so no chat model was asked."),
            msg("Rephrase, increase Candidates, or lower RAG_RERANK_MIN_SCORE; the scores are below."),
        )
    for answer in (ask.answer, *([ask.without_rerank.answer] if ask.without_rerank else [])):
        if answer.finish in UNFINISHED:
            states.show(*UNFINISHED[answer.finish], link=states.CONNECTIONS if answer.finish == "cut_short" else "")


def _vote(pipeline: Pipeline, turn: Turn, ask: Ask) -> None:
    """Ask which of two answers is better, before it is revealed which is which."""
    st.markdown(f"**{t('Which answer is better? What reranking did is shown afterwards.')}**")
    right: Better = "without" if turn.left == "with" else "with"
    votes: list[tuple[str, Better]] = [(t("Left"), turn.left), (t("Right"), right), (t("No difference"), "neither")]

    def vote(better: Better) -> None:
        if states.stored(lambda: feedback.vote(pipeline.settings.feedback_path, turn.id, ask, better, turn.left)):
            turn.voted = better

    def skip() -> None:
        turn.voted = "not"

    with st.container(horizontal=True):
        for i, (label, better) in enumerate(votes):
            kind: Literal["primary", "secondary"] = "secondary" if better == "neither" else "primary"
            st.button(label, key=f"vote-{i}-{turn.id}", type=kind, on_click=vote, args=(better,))
        st.button(t("Show without voting"), key=f"vote-none-{turn.id}", type="tertiary", on_click=skip)


def _actions(pipeline: Pipeline, turn: Turn, ask: Ask, mode: Mode) -> None:
    """Show what can be done with an answer: judge it, compare it, export it."""
    folder = pipeline.settings.feedback_path
    with st.container(horizontal=True, vertical_alignment="center"):
        rating = st.feedback("thumbs", key=f"thumbs-{turn.id}", on_change=_rate, args=(turn, folder), persist_state="session")
        if not ask.without_rerank:
            st.button(
                t("Compare with/without"),
                key=f"compare-{turn.id}",
                icon=":material/compare_arrows:",
                disabled=not comparable(ask),
                help=t("A second answer, from the passages before reranking, beside this one.")
                if comparable(ask)
                else t("Reranking changed nothing, so both answers would be the same."),
                on_click=_compare,
                args=(turn,),
            )
        with st.popover(t("Export"), icon=":material/download:"):
            name, words, price = f"answer-{turn.id}", w(), cost(ask, pipeline.settings)
            for label, make, ending, kind in (
                (t("Full record (JSON)"), lambda: ask.model_dump_json(indent=2), "json", "application/json"),
                (t("Readable copy (Markdown)"), lambda: export.markdown(ask, words, price), "md", "text/markdown"),
            ):
                st.download_button(label, make, f"{name}.{ending}", kind, on_click="ignore")
    if rating is not None:
        st.text_input(
            t("What was good, or what was missing?"),
            key=f"comment-{turn.id}",
            on_change=_rate,
            args=(turn, folder),
            max_chars=2000,
            persist_state="session",
        )


def _rate(turn: Turn, folder: Path) -> None:
    rating, ask = st.session_state.get(f"thumbs-{turn.id}"), turn.ask
    comment = st.session_state.get(f"comment-{turn.id}") or ""
    if ask is not None:
        said: Literal["up", "down"] | None = None if rating is None else "up" if rating else "down"
        if states.stored(lambda: feedback.rate(folder, turn.id, ask, said, comment)):
            st.toast(t("Thanks, saved."))


def _compare(turn: Turn) -> None:
    turn.mode = "both"
    visit().ask(turn)


def _go_on(turn: Turn, view: Search, n_passages: int) -> None:
    """Have only the answer written again, from the passages of a view."""
    fields = {name: getattr(view, name) for name in Search.model_fields}
    ms = {name: getattr(view.ms, name) for name in ("embed", "retrieve", "rerank")}
    turn.search = Search(**{**fields, "ms": {**ms, "total": sum(ms.values())}})
    if turn.ask:
        turn.renew()
    turn.choice = replace(turn.choice, n_passages=n_passages)
    visit().ask(turn)


def _changes(turn: Turn, choice: Choice, mode: Mode, view: Search) -> None:
    """Say where the sidebar differs from what was asked with."""
    alone = mode != "one" and turn.ask is not None and not turn.ask.without_rerank and comparable(turn.ask)
    if alone or not choice.same_ranking(turn.choice):
        states.note(msg("The settings have changed since this was asked."), "tune")
        _again(turn, choice, mode)
    if view is not turn.search:
        before, n = turn.choice.n_passages, len(view.passages)
        states.note(
            nmsg(
                "Showing {n} passage; the answer above used {before}.",
                "Showing {n} passages; the answer above used {before}.",
                choice.n_passages,
                before=before,
            ),
            "content_cut",
        )
        label = t(nmsg("Answer from this passage", "Answer from these {n} passages", n))
        st.button(label, key=f"recut-{turn.id}", on_click=_go_on, args=(turn, view, choice.n_passages), disabled=not n)


def _limited(turn: Turn, limit: Limit, mode: Mode) -> None:
    """Say what the question was limited to, and offer to take that off."""
    states.note(limit.line, "filter_alt")
    if not limit.names:
        return
    whole = replace(turn.choice, limit=False)
    label, icon = t("Search everything"), ":material/filter_alt_off:"
    st.button(label, key=f"whole-{turn.id}", icon=icon, on_click=_ask_again, args=(turn, whole, mode))


def _again(turn: Turn, choice: Choice, mode: Mode) -> None:
    st.button(
        t("Ask again"), key=f"ask-again-{turn.id}", icon=":material/refresh:", on_click=_ask_again, args=(turn, choice, mode)
    )


def _ask_again(turn: Turn, choice: Choice, mode: Mode) -> None:
    turn.search, turn.error = None, None
    turn.choice, turn.mode = choice, mode
    turn.renew()
    visit().ask(turn)
