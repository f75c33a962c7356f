"""What the program keeps for one visit, and the keys under which Streamlit keeps the values of widgets."""

import random
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Literal

import streamlit as st
from streamlit.navigation.page import StreamlitPage

from rag_app.endpoints.chat import Answering
from rag_app.errors import RagError
from rag_app.labels.feedback import Better
from rag_app.types import Ask, FirstStage, PlanKind, Search

Mode = Literal["one", "both", "blind"]


class Widget(StrEnum):
    """Keys of widgets. Those that the address remembers are its parameters, which links hold."""

    LANGUAGE = "lang"
    COLLECTION = "collection"
    CANDIDATES = "candidates"
    FIRST_STAGE = "first_stage"
    PASSAGES = "passages"
    RERANK = "rerank"
    MODE = "mode"
    PLAN = "plan"
    LIMIT = "limit"
    FILTER = "documents"
    # Before the name of a field.
    WHERE = "where-"
    FOLLOW_UPS = "follow_ups"
    QUESTION = "question"
    EXAMPLE = "example"
    SELECTED = "document"
    PASSAGE = "passage"
    VIEW = "view"
    REPORT = "report"


@dataclass(frozen=True)
class Choice:
    """What the sidebar says a question is asked with."""

    collection: str
    n_candidates: int
    n_passages: int
    rerank: bool
    only: tuple[str, ...]
    first_stage: FirstStage
    plan: PlanKind | Literal["none"]
    limit: bool

    def same_ranking(self, other: "Choice") -> bool:
        """Whether both lead to the same ranking, from which the passages can be cut without asking again."""
        return replace(self, n_passages=other.n_passages) == other


@dataclass(eq=False)
class Turn:
    """One question of a visit, and what has come of it so far.

    `history` holds earlier questions and answers if it may build on them; `side` is the answer without reranking until the
    other one has come; `left` says which answer stands on the left of a blind vote.
    """

    typed: str
    choice: Choice
    mode: Mode
    history: list[tuple[str, str]] = field(default_factory=list)
    side: Answering | None = None
    id: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    search: Search | None = None
    error: RagError | None = None
    left: Literal["with", "without"] = field(default_factory=lambda: "with" if random.random() < 0.5 else "without")
    voted: Better | Literal["", "not"] = ""

    def renew(self) -> None:
        """Make it another answer for what is stored and shown of it, with the sides of a vote drawn again."""
        fresh = Turn(self.typed, self.choice, self.mode)
        self.id, self.left, self.voted, self.side = fresh.id, fresh.left, "", None

    @property
    def ask(self) -> Ask | None:
        return self.search if isinstance(self.search, Ask) else None

    @property
    def blind(self) -> bool:
        """Whether which answer is which is still hidden."""
        return self.mode == "blind" and not self.voted and bool(self.ask and self.ask.without_rerank)


@dataclass
class Visit:
    """Everything that the program keeps for one visit.

    `picked` is a question to ask that nobody typed: of the link that was followed, or an example. `pending` says that the
    turn shown has something to ask. `uploads` counts those taken, `problem` is an error of a dialog that has closed,
    `labelled` a question and which of its candidates was gone to.
    """

    picked: str = ""
    turns: list[Turn] = field(default_factory=list)
    shown: Turn | None = None
    pending: bool = False
    pages: Mapping[str, StreamlitPage] = field(default_factory=dict)
    uploads: int = 0
    problem: RagError | None = None
    labelled: tuple[str, int] | None = None

    def ask(self, turn: Turn) -> None:
        """Show a turn, and have what it lacks asked when the page is drawn next."""
        # A new one is kept before it is asked, so that what came of it is shown even if it is interrupted.
        if turn not in self.turns:
            self.turns.append(turn)
        self.shown, self.pending = turn, True


def visit() -> Visit:
    """Return the record of the visit that this page is drawn for."""
    if "visit" not in st.session_state:
        st.session_state["visit"] = Visit(st.query_params.get("q", ""))
    found: Visit = st.session_state["visit"]
    return found
