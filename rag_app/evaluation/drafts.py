"""Draft questions: a chat model writes them; they count once a person accepts them."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson

from rag_app import prompt
from rag_app.errors import RagError
from rag_app.labels import jsonl
from rag_app.labels.labels import Labels
from rag_app.pipeline import Pipeline
from rag_app.types import Chunk, Record
from rag_app.words import Message, msg

# A shorter chunk seldom holds an answer.
_LEAST = 200


class Draft(Record):
    """A question with its answer, and the words of a document that hold it."""

    question: str
    answer: str
    document: str
    quote: str


@dataclass(frozen=True)
class Drafts:
    """The drafts of one evaluation folder, in drafts.jsonl; dropped ones stay, so that they are not drafted again."""

    folder: Path

    @property
    def path(self) -> Path:
        return self.folder / "drafts.jsonl"

    def waiting(self) -> list[Draft]:
        """Return the drafts that nobody has accepted or dropped, oldest first. RagError if a line is not a draft."""
        return [self._draft(row) for row in jsonl.read(self.path) if not row.get("dropped")]

    def add(self, draft: Draft) -> bool:
        """Add a draft; False if the file has it already."""
        added: list[jsonl.Row] = []

        def with_it(rows: list[jsonl.Row]) -> list[jsonl.Row]:
            added.extend([] if any(_same(row, draft) for row in rows) else [draft.model_dump()])
            return [*rows, *added]

        jsonl.change(self.path, with_it)
        return bool(added)

    def accept(self, draft: Draft, question: str = "", answer: str = "") -> None:
        """Make a draft a labelled question, with the person's wording where given. RagError if the question exists."""
        said = question.strip() or draft.question, answer.strip() or draft.answer
        Labels(self.folder).add(*said, draft.document, draft.quote)
        jsonl.change(self.path, lambda rows: [row for row in rows if not _same(row, draft)])

    def drop(self, draft: Draft) -> None:
        """Mark a draft as dropped, so that it is not drafted again."""
        jsonl.change(self.path, lambda rows: [row | {"dropped": True} if _same(row, draft) else row for row in rows])

    def _draft(self, row: jsonl.Row) -> Draft:
        try:
            return Draft(**{name: row[name] for name in Draft.model_fields})
        except (KeyError, ValueError):
            raise RagError(msg("{file} has a line that is not a draft", file=self.path), msg("remove the line")) from None


def _same(row: jsonl.Row, draft: Draft) -> bool:
    return row.get("question") == draft.question and row.get("document") == draft.document


def draft(
    pipeline: Pipeline, documents: Sequence[str], n: int, drafts: Drafts, on_chunk: Callable[[int, int], None]
) -> tuple[list[Draft], dict[Message, int]]:
    """Draft up to n questions, one a chunk, spread over the documents; return those added, and how many each reason excluded.

    RagError if the chat model is the built-in one, which only quotes, or if it fails; earlier drafts are kept.
    """
    if not pipeline.rewrites:
        raise RagError(
            msg("the built-in chat model only quotes and cannot draft questions"), msg("set RAG_CHAT_URL and RAG_CHAT_MODEL")
        )
    chunks = spread([[chunk for chunk, _ in pipeline.store.chunks_of(name)] for name in documents], n)
    if not chunks:
        raise RagError(msg("no chunk of these documents has {n} characters", n=_LEAST), msg("name longer documents"))
    added, refused = [], Counter[Message]()
    for i, chunk in enumerate(chunks):
        on_chunk(i, len(chunks))
        reply, _ = pipeline.chat.reply(prompt.drafting(chunk.heading_path, chunk.text))
        found = read(reply, chunk)
        if isinstance(found, Message):
            refused[found] += 1
        elif drafts.add(found):
            added.append(found)
        else:
            refused[msg("already drafted or dropped")] += 1
    return added, dict(refused)


def spread(documents: Sequence[Sequence[Chunk]], n: int) -> list[Chunk]:
    """Return up to n chunks: of every document one, evenly chosen, before any has two."""
    fitting = [[chunk for chunk in chunks if len(chunk.text) >= _LEAST] for chunks in documents]
    orders = [sorted(range(len(chunks)), key=lambda i: _bits_turned(i, len(chunks))) for chunks in fitting]
    rounds = range(max(map(len, fitting), default=0))
    return [chunks[order[i]] for i in rounds for chunks, order in zip(fitting, orders, strict=True) if i < len(order)][:n]


def _bits_turned(i: int, n: int) -> int:
    """Return a place in an order in which every beginning is spread evenly (van der Corput 1935)."""
    width = max(1, (n - 1).bit_length())
    return int(f"{i:0{width}b}"[::-1], 2)


def read(reply: str, chunk: Chunk) -> Draft | Message:
    """Return the draft in a reply, or why there is none: the quote must be in the chunk, white space aside."""
    start, end = reply.find("{"), reply.rfind("}")
    try:
        found = orjson.loads(reply[start : end + 1])
        question, answer, quote = (_said(found[name]) for name in ("question", "answer", "quote"))
    except (ValueError, KeyError, TypeError):
        return msg("the reply was not the requested JSON")
    if not question or not answer or not quote:
        return msg("the question, answer or quote was missing")
    if "".join(quote.split()) not in "".join(chunk.text.split()):
        return msg("the quote is not in the passage")
    return Draft(question=question, answer=answer, document=chunk.document, quote=quote)


def _said(value: object) -> str:
    """Return a text or number of a reply as text, null as none. TypeError if it is something else."""
    if value is not None and not isinstance(value, str | int | float):
        raise TypeError
    return "" if value is None else str(value).strip()
