"""The records that travel between the stages.

All records are frozen and go to JSON and back (`model_dump_json`, `model_validate_json`). Ranks count from 1; of scores,
higher is better, and scores of different rankings are never mixed.
"""

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict

from rag_app.words import Said

SEPARATOR = " › "


class Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Chunk(Record):
    """A piece of a document as it was cut, under an id that lasts while its text does.

    `position` counts a document's chunks from 0; `start` and `end` are its characters in the document's text as read.
    `image` is the URL or data URI of a picture whose caption is the text.
    """

    id: str
    document: str
    title: str
    headings: tuple[str, ...]
    page: int | None
    position: int
    start: int
    end: int
    language: str
    text: str
    image: str = ""

    @property
    def text_in_context(self) -> str:
        """The text under its title and headings: what is embedded and what is reranked."""
        return f"{path}\n{self.text}" if (path := self.heading_path) else self.text

    @property
    def heading_path(self) -> str:
        """Title and headings on one line."""
        return SEPARATOR.join(filter(None, (self.title, *self.headings)))


def joined(chunks: Sequence[Chunk]) -> str:
    """Return the text of chunks of one document, in order, with what overlaps once and headings where they change."""
    text, before = "", None
    for chunk in sorted(chunks, key=lambda chunk: chunk.position):
        if before is None:
            text = chunk.text
        elif chunk.start < before.end:
            text += chunk.text[before.end - chunk.start :]
        else:
            heading = f"{chunk.headings[-1]}\n" if chunk.headings and chunk.headings != before.headings else ""
            text += f"\n\n{heading}{chunk.text}"
        before = chunk
    return text


Fate = Literal["promoted", "kept", "lost", "unused"]


class Ranking(Record):
    """A place in one ranking: rank from 1, and the raw score it comes from."""

    rank: int
    score: float


class Candidate(Chunk):
    """A chunk as retrieved (score: cosine similarity) and, once reranked, as reranked (score: raw, in the model's own unit).

    `context` is a passage's text with its neighbours, where those go to the chat model too.
    """

    retrieval: Ranking
    rerank: Ranking | None = None
    passage: bool = False
    passage_without_rerank: bool = False
    context: str = ""

    @property
    def sent(self) -> str:
        """What the chat model gets of a passage."""
        return self.context or self.text

    @property
    def fate(self) -> Fate:
        """What reranking meant for its place among the passages."""
        if self.passage:
            return "kept" if self.passage_without_rerank else "promoted"
        return "lost" if self.passage_without_rerank else "unused"


class Receipt(Record):
    """What the reranker did to one question.

    applied: every candidate was scored; partial: some were, the others follow in retrieval order; skipped: not asked, for
    the reason given; fallback: it failed, for the reason given, and retrieval order was used. `dropped` counts rows of the
    reply that named no candidate or no number, `truncated` documents sent cut; `usage` is what the endpoint reported.
    """

    status: Literal["applied", "skipped", "fallback", "partial"]
    model: str
    endpoint: str = ""
    dialect: str = ""
    sent: int = 0
    scored: int = 0
    dropped: int = 0
    truncated: int = 0
    attempts: int = 0
    reason: Said = ""
    ms: float = 0.0
    usage: dict[str, float] = {}
    warnings: tuple[Said, ...] = ()

    @property
    def line(self) -> str:
        """The receipt as one line of text."""
        where = f"{self.model} at {self.endpoint}"
        if self.status == "skipped":
            return f"rerank skipped: {self.reason}"
        if self.status == "fallback":
            return f"RERANK FAILED, retrieval order used: {self.reason}"
        parts = [f"rerank {self.status}", where, f"{self.scored} of {self.sent} scored", seconds(self.ms)]
        if self.attempts > 1:
            parts.append(f"{self.attempts} requests")
        if self.truncated:
            parts.append(f"{self.truncated} documents sent cut")
        return " · ".join([*parts, *filter(None, [self.reason]), *self.warnings])

    @property
    def tokens(self) -> int | None:
        """Tokens used, if the endpoint reported more than zero."""
        names = ("total_tokens", "prompt_tokens", "input_tokens", "tokens")
        counts = (int(count) for name, count in self.usage.items() if name.rpartition(".")[2] in names and count > 0)
        return max(counts, default=None)


class Tokens(Record):
    """Tokens as each endpoint reported them; None where it did not."""

    embed: int | None = None
    rerank: int | None = None
    chat_prompt: int | None = None
    chat_answer: int | None = None


class SearchMs(Record):
    """Wall-clock milliseconds per stage."""

    embed: float
    retrieve: float
    rerank: float
    total: float


class AskMs(SearchMs):
    """`first_token` counts from the question to the first words of the answer; `chat` is the chat call alone."""

    first_token: float | None
    chat: float


class Rewrite(Record):
    """A follow-up as it was typed, and what it took to make it a question that stands alone."""

    typed: str
    ms: float
    prompt_tokens: int | None = None
    answer_tokens: int | None = None


class Search(Record):
    """A question and its candidates in retrieval order, each with both its places.

    `only` names the documents, or folders ending in "/", that it was limited to; `rewrite` what it was before the chat
    model made it stand alone.
    """

    question: str
    candidates: tuple[Candidate, ...]
    rerank: Receipt
    ms: SearchMs
    tokens: Tokens = Tokens()
    only: tuple[str, ...] = ()
    rewrite: Rewrite | None = None

    @property
    def reranked(self) -> tuple[Candidate, ...]:
        """The candidates in the order after reranking; those without a rerank score follow in retrieval order."""
        return tuple(sorted(self.candidates, key=after_rerank))

    @property
    def passages(self) -> tuple[Candidate, ...]:
        """What the chat model gets, best first."""
        return tuple(c for c in self.reranked if c.passage)

    @property
    def passages_without_rerank(self) -> tuple[Candidate, ...]:
        """What the chat model would have got in retrieval order."""
        return tuple(c for c in self.candidates if c.passage_without_rerank)

    @property
    def effect(self) -> str:
        """What reranking did to this answer, in one sentence."""
        sentence, counts = self.effect_in_parts
        return sentence.format(**counts)

    @property
    def effect_in_parts(self) -> tuple[str, dict[str, int]]:
        """That sentence, one of EFFECTS, and the counts for its places: for who says it in another language."""
        promoted = sum(not c.passage_without_rerank for c in self.passages)
        counts = {"promoted": promoted, "n": len(self.passages), "without": len(self.passages_without_rerank)}
        if not self.candidates:
            effect = "nothing"
        elif self.rerank.status in ("fallback", "skipped"):
            effect = self.rerank.status
        elif not self.passages:
            effect = "none"
        elif promoted:
            effect = "promoted"
        elif counts["n"] < counts["without"]:
            effect = "fewer"
        elif [c.id for c in self.passages] == [c.id for c in self.passages_without_rerank]:
            effect = "same"
        else:
            effect = "order"
        return EFFECTS[effect], counts


EFFECTS = {
    "nothing": "Nothing was found: there was nothing to rerank.",
    "fallback": "Reranking failed: the passages are in retrieval order.",
    "skipped": "Reranking was skipped: the passages are in retrieval order.",
    "none": "Reranking found no candidate relevant enough.",
    "promoted": "Reranking put {promoted} of the {n} passages into this answer.",
    "fewer": "Reranking kept {n} of {without} passages: the others are not relevant enough.",
    "same": "Reranking changed nothing: the same passages in the same order.",
    "order": "Reranking kept the same passages and changed their order.",
}

Finish = Literal["stop", "length", "cut_short"]


class Citation(Record):
    """A marker [n] in an answer and the passage it points to."""

    marker: int
    id: str
    document: str


class Answer(Record):
    """The text with its checked [n] markers.

    `finish`: stop; length (the model's token limit); cut_short (the stream ended without saying why). `dropped` are markers
    that pointed to no passage and were taken out of the text.
    """

    text: str
    citations: tuple[Citation, ...]
    finish: Finish
    model: str
    dropped: tuple[int, ...] = ()


class Side(Record):
    """Another answer to the same question, from the passages before reranking; its markers count those."""

    answer: Answer
    ms: float
    prompt_tokens: int | None = None
    answer_tokens: int | None = None


class Ask(Search):
    """A search with its answer, and the answer without reranking if that was asked for too."""

    answer: Answer
    ms: AskMs
    without_rerank: Side | None = None


def after_rerank(candidate: Candidate) -> tuple[bool, int]:
    """Sort key: reranked candidates by rerank rank, then the others by retrieval rank."""
    if candidate.rerank:
        return False, candidate.rerank.rank
    return True, candidate.retrieval.rank


def arrow(distance: int) -> str:
    """Return ▲5, ▼13 or nothing for a way up, down or none in a ranking."""
    return f"▲{distance}" if distance > 0 else f"▼{-distance}" if distance < 0 else ""


def seconds(ms: float) -> str:
    """Return milliseconds as a person reads them: `9 ms`, `1.4 s`."""
    return f"{ms:.0f} ms" if ms < 1000 else f"{ms / 1000:.1f} s"
