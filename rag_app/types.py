"""The records that travel between the stages.

All records are frozen and go to JSON and back (`model_dump_json`, `model_validate_json`). Ranks count from 1; of scores,
higher is better, and scores of different rankings are never mixed.
"""

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict

from rag_app import builtin
from rag_app.words import NOTHING, Message, Said, joined, msg, nmsg

SEPARATOR = " › "
# How the ranks of both first stages are headed where they stand in one column.
FOUND = msg("vector / words")
# What finds the candidates: both rankings fused, or one of them alone.
FirstStage = Literal["hybrid", "dense", "lexical"]
# How a question is sought beside as it stands: in other phrasings too, or part by part.
PlanKind = Literal["phrasings", "parts"]


# In a filter, before a field and its value: all documents that have it, where:year=2026.
WHERE = "where:"
# A document's metadata, by field.
FieldValue = int | str
Fields = dict[str, tuple[FieldValue, ...]]


class Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Chunk(Record):
    """A piece of a document as it was cut, under an id that lasts while its text does.

    `position` counts a document's chunks from 0; `start` and `end` are its characters in the document's text as read.
    `image` is the URL or data URI of a picture whose caption is the text; `ocr` says that some of it was read from a picture.
    `fields` are the metadata of its document.
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
    ocr: bool = False
    fields: Fields = {}

    @property
    def text_in_context(self) -> str:
        """The text under its title and headings: what is embedded and what is reranked."""
        return f"{path}\n{self.text}" if (path := self.heading_path) else self.text

    @property
    def heading_path(self) -> str:
        """Title and headings on one line."""
        return SEPARATOR.join(filter(None, (self.title, *self.headings)))

    @property
    def page_label(self) -> Message:
        """The page as people name it, and whether it was read by OCR; empty where the document has no pages."""
        if self.ocr:
            return msg("page {page}, read by OCR", page=self.page or 1)
        return msg("page {page}", page=self.page) if self.page else NOTHING

    @property
    def place(self) -> Message:
        """Document, headings and page on one line."""
        return joined(SEPARATOR, (*(" ".join(part.split()) for part in (self.document, *self.headings)), self.page_label))


def joined_text(chunks: Sequence[Chunk]) -> str:
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
# What reranking did to a candidate, in the one word of a table.
FATES: dict[Fate, Message] = {"promoted": msg("added"), "kept": msg("kept"), "lost": msg("dropped"), "unused": NOTHING}
# The stages of a question, in order.
STAGES = {
    "rewrite": msg("rewrite"),
    "limit": msg("limit"),
    "plan": msg("plan"),
    "embed": msg("embed"),
    "retrieve": msg("retrieve"),
    "rerank": msg("rerank"),
    "answer": msg("answer"),
}


class Score(Record):
    """What the numbers of a ranking are: their name, and the format that shows them, as both Python and d3 read it."""

    name: Said
    format: str = ".3f"

    def shown(self, ranking: "Ranking | None") -> Message:
        """Return the score of a ranking as people read it; a dash where there is none."""
        return Message(f"{{score:{self.format}}}", {"score": ranking.score}) if ranking else Message("–")


class Ranking(Record):
    """A place in one ranking: rank from 1, and the raw score it comes from."""

    rank: int
    score: float


class Candidate(Chunk):
    """A chunk as retrieved and, once reranked, as reranked; `Search` says what both scores are.

    `retrieval` is the place that reranking starts from; where it fuses two rankings, `dense` is the place by vector and
    `lexical` that by words, each None where it was not found so. `context` is a passage's text with its neighbours, where
    those go to the chat model too.
    """

    retrieval: Ranking
    dense: Ranking | None = None
    lexical: Ranking | None = None
    rerank: Ranking | None = None
    passage: bool = False
    passage_without_rerank: bool = False
    context: str = ""

    @property
    def found(self) -> Message:
        """Its ranks by vector and by words, with a dash where it was not found so."""
        return Message(" / ".join(str(ranking.rank) if ranking else "–" for ranking in (self.dense, self.lexical)))

    @property
    def words_only(self) -> bool:
        """Whether its words alone found it, and its vector did not."""
        return self.lexical is not None and self.dense is None

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
    reply that named no candidate or no number, `truncated` documents sent shortened; `usage` is what the endpoint reported.
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
    def facts(self) -> tuple[Message, ...]:
        """What happened, without the reason and the warnings: the status first, then models and counts."""
        if self.status == "skipped":
            return (msg("rerank skipped"),)
        if self.status == "fallback":
            return (msg("RERANK FAILED, retrieval order used"),)
        facts = [
            msg("rerank applied") if self.status == "applied" else msg("rerank partial"),
            msg("{model} at {endpoint}", model=self.model, endpoint=self.endpoint),
            msg("{scored} of {sent} scored", scored=self.scored, sent=self.sent),
            seconds(self.ms),
        ]
        if self.attempts > 1:
            facts.append(nmsg("{n} request", "{n} requests", self.attempts))
        if self.truncated:
            facts.append(nmsg("{n} document truncated", "{n} documents truncated", self.truncated))
        return tuple(facts)

    @property
    def line(self) -> Message:
        """The receipt as one line of text."""
        if self.status in ("skipped", "fallback"):
            return joined(": ", (*self.facts, self.reason))
        return joined(" · ", (*self.facts, self.reason, *self.warnings))

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


class Part(Record):
    """A question that was sought for the one asked: a phrasing of it, or a part. `found` are its candidates, best first.

    `answer` is what the chat model answered a part by, where a later one builds on it.
    """

    question: str
    answer: str = ""
    found: tuple[str, ...] = ()

    @property
    def line(self) -> Message:
        """The question, with its answer if there is one."""
        return joined(" → ", filter(None, (self.question, self.answer)))


class Plan(Record):
    """How a question was sought, and what the chat model took to plan it; `reason` is why there are no parts."""

    kind: PlanKind
    parts: tuple[Part, ...]
    ms: float
    prompt_tokens: int | None = None
    answer_tokens: int | None = None
    reason: Said = NOTHING

    @property
    def title(self) -> Message:
        """What its parts are."""
        return msg("Sought part by part") if self.kind == "parts" else msg("Sought in several phrasings")

    @property
    def lines(self) -> tuple[Message, ...]:
        """Each part on one line, with its answer; or why there is none."""
        if not self.parts:
            return (msg("Sought as it was asked: {reason}", reason=self.reason),)
        return tuple(part.line for part in self.parts)


class Limit(Record):
    """The values of fields that the chat model read out of a question, as a filter names them, and what that took."""

    names: tuple[str, ...]
    ms: float
    prompt_tokens: int | None = None
    answer_tokens: int | None = None

    @property
    def line(self) -> Message:
        """What was searched, and why."""
        if not self.names:
            return msg("The chat model read no value of a field out of the question: everything was searched.")
        names = ", ".join(name.removeprefix(WHERE) for name in self.names)
        return msg("Searched only in {names}, as the question says.", names=names)


class Search(Record):
    """A question and its candidates in retrieval order, each with both its places.

    `only` names what it was limited to: documents, folders ending in "/", languages as language:de, values of fields as
    where:year=2026; `limit` says which of these the chat model read out of the question. `rewrite` is what it was before the
    chat model made it stand alone. The scores say what the numbers of both rankings are.
    """

    question: str
    candidates: tuple[Candidate, ...]
    retrieval_score: Score = Score(name=msg("retrieval score"))
    rerank_score: Score = Score(name=msg("rerank score"))
    rerank: Receipt
    ms: SearchMs
    tokens: Tokens = Tokens()
    only: tuple[str, ...] = ()
    rewrite: Rewrite | None = None
    limit: Limit | None = None
    plan: Plan | None = None

    @property
    def limited_to(self) -> str:
        """What `only` names, on one line."""
        return ", ".join(name.removeprefix(WHERE) for name in self.only)

    @property
    def is_hybrid(self) -> bool:
        """Whether the candidates were found by vectors and by words, each with its rank in both."""
        return any(c.dense or c.lexical for c in self.candidates)

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
    def stages(self) -> dict[str, float]:
        """The milliseconds of each stage, in order, under its name in STAGES."""
        before = {name: one.ms for name, one in (("rewrite", self.rewrite), ("limit", self.limit), ("plan", self.plan)) if one}
        return {**before, "embed": self.ms.embed, "retrieve": self.ms.retrieve, "rerank": self.ms.rerank}

    @property
    def stage_line(self) -> Message:
        """The stages with their times on one line."""
        return joined(" ▸ ", (msg("{stage} {time}", stage=STAGES[name], time=seconds(ms)) for name, ms in self.stages.items()))

    @property
    def effect(self) -> Message:
        """What reranking did to this answer, in one sentence."""
        passages, without = self.passages, self.passages_without_rerank
        n, promoted = len(passages), sum(not c.passage_without_rerank for c in passages)
        if not self.candidates:
            return msg("Nothing was found: there was nothing to rerank.")
        if self.rerank.status == "fallback":
            return msg("Reranking failed: the passages are in retrieval order.")
        if self.rerank.status == "skipped":
            return msg("Reranking was skipped: the passages are in retrieval order.")
        if not passages:
            return msg("Reranking found no candidate relevant enough.")
        if promoted:
            return nmsg(
                "Reranking put the only passage into this answer.",
                "Reranking put {promoted} of the {n} passages into this answer.",
                n,
                promoted=promoted,
            )
        if n < len(without):
            return msg(
                "Reranking kept {n} of {without} passages: the others are not relevant enough.", n=n, without=len(without)
            )
        if passages == without:
            return msg("Reranking changed nothing: the same passages in the same order.")
        return msg("Reranking kept the same passages and changed their order.")


Finish = Literal["stop", "length", "filtered", "cut_short"]


class Citation(Record):
    """A marker [n] in an answer and the passage it points to."""

    marker: int
    id: str
    document: str


class Answer(Record):
    """The text with its checked [n] markers.

    `finish`: stop; length (the model's token limit); filtered (withheld from there on); cut_short (the stream ended without
    saying why, or by a failure). `dropped` are markers that pointed to no passage and were taken out of the text. `left_out`
    counts the last passages that were not sent, and `shortened` tells that of the only one a part was, since the prompt was
    too long for the model.
    """

    text: str
    citations: tuple[Citation, ...]
    finish: Finish
    model: str
    dropped: tuple[int, ...] = ()
    left_out: int = 0
    shortened: bool = False

    @property
    def notes(self) -> tuple[Message, ...]:
        """What a reader should know about the answer, each as one sentence; `ending` is not among them."""
        notes = []
        if self.model == builtin.CHAT_MODEL:
            notes.append(msg("Built-in extractive model: it quotes from the passages or declines, no language model."))
        if self.dropped:
            markers = ", ".join(f"[{n}]" for n in self.dropped)
            notes.append(
                nmsg(
                    "Removed citation {markers}: no such passage.",
                    "Removed citations {markers}: no such passages.",
                    len(self.dropped),
                    markers=markers,
                )
            )
        if self.left_out:
            notes.append(
                nmsg(
                    "The prompt was too long for the chat model: the last {n} passage was not sent.",
                    "The prompt was too long for the chat model: the last {n} passages were not sent.",
                    self.left_out,
                )
            )
        if self.shortened:
            notes.append(msg("The prompt was too long for the chat model: only the beginning of the first passage was sent."))
        return tuple(notes)

    @property
    def ending(self) -> Message:
        """How the answer ended, if the chat model did not end it; else empty."""
        if self.finish == "length":
            return msg("The answer stops at the model's token limit.")
        if self.finish == "filtered":
            return msg("The answer was cut off by a content filter.")
        return msg("The answer may be cut short: the response ended unexpectedly.") if self.finish == "cut_short" else NOTHING


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

    @property
    def stages(self) -> dict[str, float]:
        """The milliseconds of each stage, in order, under its name in STAGES."""
        return {**super().stages, "answer": self.ms.chat}


def after_rerank(candidate: Candidate) -> tuple[bool, int]:
    """Sort key: reranked candidates by rerank rank, then the others by retrieval rank."""
    if candidate.rerank:
        return False, candidate.rerank.rank
    return True, candidate.retrieval.rank


def arrow(distance: int) -> str:
    """Return ▲5, ▼13 or nothing for a way up, down or none in a ranking."""
    return f"▲{distance}" if distance > 0 else f"▼{-distance}" if distance < 0 else ""


def seconds(ms: float) -> Message:
    """Return milliseconds as a person reads them: `9 ms`, `1.4 s`."""
    return msg("{ms:.0f} ms", ms=ms) if ms < 1000 else msg("{s:.1f} s", s=ms / 1000)
