"""A question under way: its stages as they end, its answers as they come; what is known is kept at every step."""

import random
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import streamlit as st
from markupsafe import Markup

from rag_app.endpoints.chat import Answering
from rag_app.errors import RagError
from rag_app.labels.feedback import Better
from rag_app.page import resources
from rag_app.page.citations import answer_html
from rag_app.page.hostile import html, joined, plain
from rag_app.page.say import t
from rag_app.pipeline import Pipeline, asked, together, with_side
from rag_app.types import STAGES, Ask, Search, seconds

# Redrawn so often at most while an answer streams in.
REDRAW_SECONDS = 0.06
HISTORY = 3
HISTORY_CHARACTERS = 2000

Mode = Literal["one", "both", "blind"]


@dataclass(frozen=True)
class Choice:
    """What the sidebar says a question is asked with."""

    collection: str
    n_candidates: int
    n_passages: int
    rerank: bool
    only: tuple[str, ...]

    def same_ranking(self, other: "Choice") -> bool:
        """Whether both lead to the same ranking: the passages are cut from it without asking anew."""
        return replace(self, n_passages=other.n_passages) == other


@dataclass
class Turn:
    """One question of a session, and what has come of it so far.

    `history` is what was asked and answered before, if it may build on that; `left` the answer on the left of a blind vote.
    """

    typed: str
    choice: Choice
    mode: Mode
    history: list[tuple[str, str]] = field(default_factory=list)
    # The answer without reranking, as long as the other one has not come.
    side: Answering | None = None
    id: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    search: Search | None = None
    error: RagError | None = None
    left: Literal["with", "without"] = field(default_factory=lambda: "with" if random.random() < 0.5 else "without")
    voted: Better | Literal["", "not"] = ""

    def begin_anew(self) -> None:
        """Make it another answer for what is stored of it and shown of it, with sides drawn anew."""
        fresh = Turn(self.typed, self.choice, self.mode)
        self.id, self.left, self.voted, self.side = fresh.id, fresh.left, "", None

    @property
    def ask(self) -> Ask | None:
        return self.search if isinstance(self.search, Ask) else None

    @property
    def blind(self) -> bool:
        """Whether which answer is which is still hidden."""
        return self.mode == "blind" and not self.voted and bool(self.ask and self.ask.without_rerank)


def comparable(search: Search) -> bool:
    """Whether the passages with and without reranking differ, so that two answers tell something."""
    before, after = [c.id for c in search.passages_without_rerank], [c.id for c in search.passages]
    return bool(before and after) and before != after


def run(pipeline: Pipeline, turn: Turn, place: Any) -> None:
    """Ask a turn's question, or go on with what is missing of it, drawing into a place; errors are kept in the turn."""
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

    line.html(stage_line(ms, "embed"))
    choice = turn.choice
    search = pipeline.search(
        question,
        rerank=choice.rerank,
        n_candidates=choice.n_candidates,
        n_passages=choice.n_passages,
        only=choice.only,
        on_stage=on_stage,
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
    # Not before a blind vote: nothing tells which is which.
    named = len(shown) > 1 and turn.mode == "both"
    head = {side: html("<h4>{title}</h4>", title=titles[side]) if named else Markup("") for side in shown}
    if turn.ask and "with" in columns and "with" not in wanted:
        columns["with"].html(head["with"] + answer_html(turn.ask.answer.text))
    places = {side: columns[side].empty() for side in wanted}
    sides = list(wanted)
    text, drawn = dict.fromkeys(sides, ""), dict.fromkeys(sides, 0.0)
    try:
        for which, piece in together([wanted[side] for side in sides]):
            side = sides[which]
            text[side] += piece
            if time.monotonic() - drawn[side] > REDRAW_SECONDS:
                places[side].html(head[side] + answer_html(text[side]))
                drawn[side] = time.monotonic()
    finally:
        # What has come of two answers is kept, also if the other failed.
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
        if stage == "rewrite" and not (stage in ms or running == stage):
            continue
        state = "done" if stage in ms else "running" if stage == running else "waiting"
        time_taken = t(seconds(ms[stage])) if stage in ms else "…" if state == "running" else ""
        items.append(html('<li class="{state}">{name} <b>{time}</b></li>', state=state, name=t(name), time=time_taken))
    return html('<ol class="stages" aria-label="{label}">{items}</ol>', label=t("Stages"), items=joined(items))


def history_of(turns: Sequence[Turn]) -> list[tuple[str, str]]:
    """Return the last questions with their answers, for a follow-up to be understood by."""
    answered = [turn.ask for turn in turns if turn.ask]
    return [(ask.question, ask.answer.text[:HISTORY_CHARACTERS]) for ask in answered[-HISTORY:]]
