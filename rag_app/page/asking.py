"""A question being asked: its stages as they end, its answers as they stream; each step keeps what it knows."""

import time
from collections.abc import Sequence
from typing import Any

import streamlit as st
from markupsafe import Markup

from rag_app.endpoints.chat import Answering
from rag_app.errors import RagError
from rag_app.page import resources
from rag_app.page.citations import answer_html
from rag_app.page.evidence import ranking
from rag_app.page.hostile import html, joined, plain
from rag_app.page.say import t
from rag_app.page.together import together
from rag_app.page.visit import Turn
from rag_app.pipeline import Pipeline, asked, with_side
from rag_app.types import STAGES, Part, Search, seconds

# The shortest time between two drawings of an answer that streams in.
REDRAW_SECONDS = 0.06
# After this time the ranking is drawn before the answer is there. Drawing it sooner would delay a quick answer.
PATIENCE_SECONDS = 1.0
HISTORY = 3
HISTORY_CHARACTERS = 2000


def comparable(search: Search) -> bool:
    """Whether the passages with and without reranking differ, so that two answers are worth comparing."""
    before, after = [c.id for c in search.passages_without_rerank], [c.id for c in search.passages]
    return bool(before and after) and before != after


def run(pipeline: Pipeline, turn: Turn, place: Any) -> None:
    """Ask a turn's question, or only what it still lacks, drawing into a place; errors are kept in the turn."""
    turn.error = None
    with place.container():
        st.subheader(plain(turn.search.question if turn.search else turn.typed), anchor=False)
        line = st.empty()
        try:
            if turn.search is None:
                turn.search = _search(pipeline, turn, line)
            _answer(pipeline, turn, line)
        except RagError as error:
            resources.outdated(error)
            turn.error = error


def _search(pipeline: Pipeline, turn: Turn, line: Any) -> Search:
    ms: dict[str, float] = {}
    question, rewrite = turn.typed, None
    if turn.history:
        line.html(stage_line({}, "rewrite"))
        question, rewrite = pipeline.standalone(turn.typed, turn.history)
        ms["rewrite"] = rewrite.ms

    def on_stage(stage: str, value: float) -> None:
        ms[stage] = value
        names = list(STAGES)
        line.html(stage_line(ms, names[names.index(stage) + 1]))

    choice = turn.choice
    line.html(stage_line(ms, "embed" if choice.plan == "none" else "plan"))
    parts: list[Part] = []
    below = st.empty()

    def on_part(part: Part) -> None:
        parts.append(part)
        below.html(plan_html([part.line for part in parts]))

    search = pipeline.search(
        question,
        rerank=choice.rerank,
        n_candidates=choice.n_candidates,
        n_passages=choice.n_passages,
        only=choice.only,
        first_stage=choice.first_stage,
        plan=choice.plan,
        limit=choice.limit,
        on_stage=on_stage,
        on_part=on_part,
    )
    return search.model_copy(update={"rewrite": rewrite})


def _answer(pipeline: Pipeline, turn: Turn, line: Any) -> None:
    """Stream the answers that are missing, side by side if there are two."""
    search = turn.search
    if search is None:
        return
    wanted: dict[str, Answering] = {}
    if turn.ask is None:
        wanted["with"] = pipeline.answer(search)
    if turn.mode != "one" and comparable(search) and not (turn.side or (turn.ask and turn.ask.without_rerank)):
        wanted["without"] = pipeline.answer_without_rerank(search)
    if not wanted:
        return
    line.html(stage_line(search.stages, "answer"))
    order = ["with", "without"] if turn.mode != "blind" or turn.left == "with" else ["without", "with"]
    shown = [side for side in order if side in wanted or (side == "with" and turn.ask)]
    columns = dict(zip(shown, st.columns(len(shown)) if len(shown) > 1 else [st.container()], strict=True))
    titles = {"with": t("With reranking"), "without": t("Without reranking")}
    # Before a blind vote nothing tells which is which.
    named = len(shown) > 1 and turn.mode == "both"
    head = {side: html("<h4>{title}</h4>", title=titles[side]) if named else Markup("") for side in shown}
    if turn.ask and "with" in columns and "with" not in wanted:
        columns["with"].html(head["with"] + answer_html(turn.ask.answer.text))
    places = {side: columns[side].empty() for side in wanted}
    below = st.container()
    # Before a blind vote the rankings stay hidden.
    hidden = not search.candidates or (turn.mode == "blind" and comparable(search))
    sides = list(wanted)
    text, drawn, drawn_at = dict.fromkeys(sides, ""), dict.fromkeys(sides, Markup("")), dict.fromkeys(sides, 0.0)
    began = time.monotonic()
    try:
        for came in together([wanted[side] for side in sides], every=REDRAW_SECONDS):
            now = time.monotonic()
            if came:
                text[sides[came[0]]] += came[1]
            if not hidden and now - began > PATIENCE_SECONDS:
                hidden = True
                with below:
                    ranking(pipeline, search, f"while-answering-{turn.id}")
            for side in (side for side in sides if now - drawn_at[side] > REDRAW_SECONDS):
                said = html('<p class="quiet">{said}</p>', said=t(wanted[side].waiting(now - began)))
                content = head[side] + (answer_html(text[side]) if text[side] else said)
                if content != drawn[side]:
                    places[side].html(content)
                    drawn[side], drawn_at[side] = content, now
    finally:
        # The answer that came is kept even if the other failed.
        if "with" in wanted and wanted["with"].answer:
            turn.search = asked(search, wanted["with"])
        if "without" in wanted and wanted["without"].answer:
            turn.side = wanted["without"]
        if turn.ask and turn.side:
            turn.search, turn.side = with_side(turn.ask, turn.side), None


def stage_line(ms: dict[str, float], running: str = "") -> Markup:
    """Return the stages: those done with their times, the one that runs, and those to come."""
    items = []
    for stage, name in STAGES.items():
        if stage in ("rewrite", "limit", "plan") and not (stage in ms or running == stage):
            continue
        state = "done" if stage in ms else "running" if stage == running else "waiting"
        time_taken = t(seconds(ms[stage])) if stage in ms else "…" if state == "running" else ""
        items.append(html('<li class="{state}">{name} <b>{time}</b></li>', state=state, name=t(name), time=time_taken))
    return html('<ol class="stages" aria-label="{label}">{items}</ol>', label=t("Stages"), items=joined(items))


def plan_html(lines: Sequence[str]) -> Markup:
    """Return the parts of a plan as a list."""
    return html('<ol class="plan">{items}</ol>', items=joined([html("<li>{line}</li>", line=t(line)) for line in lines]))


def history_of(turns: Sequence[Turn]) -> list[tuple[str, str]]:
    """Return the last questions with their answers, as context for a follow-up."""
    answered = [turn.ask for turn in turns if turn.ask]
    return [(ask.question, ask.answer.text[:HISTORY_CHARACTERS]) for ask in answered[-HISTORY:]]
