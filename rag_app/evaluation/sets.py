"""Evaluation sets: questions with the chunks that answer them, from our labels or a folder in BEIR format.

In BEIR format (Thakur et al. 2021) a folder holds corpus.jsonl[.gz] (`_id`, `title`, `text`), queries.jsonl (`_id`, `text`)
and qrels.tsv. Beyond BEIR a query may hold `answer` or `answers`, and `answer` null or `answerable` false says that
nothing in the corpus answers it.
"""

import gzip
import hashlib
import json
import random
import zlib
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rag_app.errors import RagError
from rag_app.evaluation.trec import read_qrels
from rag_app.labels import jsonl
from rag_app.labels.labels import Labels
from rag_app.store.protocol import Store
from rag_app.types import Chunk
from rag_app.words import Message, joined, msg


@dataclass(frozen=True)
class Question:
    """A question, the ids of chunks with their grades (0: judged, and not relevant), and what is expected of an answer.

    `answers` is None where nothing is known, and empty where the documents do not answer the question. `lost` are judgements
    that match no chunk.
    """

    id: str
    text: str
    qrels: Mapping[str, int]
    answers: tuple[str, ...] | None = None
    lost: tuple[Message, ...] = ()

    @property
    def answerable(self) -> bool:
        """Whether something that is relevant is known."""
        return any(grade > 0 for grade in self.qrels.values())

    @property
    def unanswerable(self) -> bool:
        """Whether it is known that nothing answers it."""
        return self.answers == () and not self.answerable


@dataclass(frozen=True)
class EvalSet:
    """Questions of one name, in order.

    `state` is that of the collection whose chunks the judgements were mapped onto, "" where they name records; `left_out`
    counts records of the corpus that are not stored: empty or refused ones.
    """

    name: str
    questions: tuple[Question, ...]
    state: str = ""
    left_out: int = 0

    def sample(self, n: int | None, seed: int = 0) -> "EvalSet":
        """Return n of the questions drawn by a seed, in their order; all if there are no more."""
        if n is None or n >= len(self.questions):
            return self
        drawn = set(random.Random(seed).sample(range(len(self.questions)), n))
        return replace(self, questions=tuple(q for i, q in enumerate(self.questions) if i in drawn))

    def stored(self, names: set[str], left_out: int) -> "EvalSet":
        """Return the same questions with the judgements of what is stored; the others are lost."""

        def there(q: Question) -> Question:
            lost = tuple(
                msg("{name} is not stored", name=name) for name, grade in q.qrels.items() if name not in names and grade > 0
            )
            return replace(q, qrels={name: grade for name, grade in q.qrels.items() if name in names}, lost=lost)

        return replace(self, questions=tuple(map(there, self.questions)), left_out=left_out)

    def judged_by(self, qrels: Mapping[str, Mapping[str, int]]) -> "EvalSet":
        """Return the same questions with other judgements."""
        return replace(self, questions=tuple(replace(q, qrels=qrels.get(q.id, {}), lost=()) for q in self.questions))


def name_of(folder: Path) -> str:
    """Return the name of a folder's set: its last two parts, since many folders are called `test`."""
    return "/".join(folder.resolve().parts[-2:])


def is_beir(folder: Path) -> bool:
    """Whether a folder seems to be in BEIR format: it has a corpus, or qrels as BEIR names them."""
    return _corpus(folder) is not None or (_qrels(folder).is_file() and not (folder / "qrels.jsonl").is_file())


def from_labels(labels: Labels, store: Store, name: str) -> EvalSet:
    """Return our labelled questions with each judgement mapped onto the chunks of the store. RagError if there are none."""
    queries, judgements, state = labels.questions(), labels.judgements(), store.revision
    if not queries:
        raise RagError(
            msg("{folder} has no labelled questions", folder=labels.folder),
            msg("judge candidates on the page, draft some with `rag-app questions`, or name a folder in BEIR format"),
        )
    texts = {name: Spread([c for c, _ in store.chunks_of(name)]) for name in {row["document"] for row in judgements}}
    judged: dict[str, list[jsonl.Row]] = {}
    for row in judgements:
        judged.setdefault(row["query"], []).append(row)
    questions = []
    for query in queries:
        # A quote that is wholly in the chunk counts before a longer one that is partly in it.
        whole: dict[str, int] = {}
        partly: dict[str, int] = {}
        lost = []
        for row in judged.get(query["_id"], []):
            holding = texts[row["document"]].holders(row["quote"])
            if not holding:
                lost.append(joined(": ", (row["document"], row["quote"][:80])))
            for chunk in holding:
                found = whole if "".join(row["quote"].split()) in "".join(chunk.text.split()) else partly
                found[chunk.id] = max(row["grade"], found.get(chunk.id, 0))
        questions.append(Question(query["_id"], query["text"], partly | whole, _answers(query), tuple(lost)))
    return EvalSet(name, tuple(questions), state)


class Spread:
    """A document as far as its chunks have it, without white space, and the place of each letter in it."""

    def __init__(self, chunks: Sequence[Chunk]) -> None:
        letters: dict[int, str] = {}
        for chunk in chunks:
            letters.update((chunk.start + i, c) for i, c in enumerate(chunk.text) if not c.isspace())
        places = sorted(letters)
        self.text = "".join(letters[place] for place in places)
        self.spans = [(bisect_left(places, c.start), bisect_left(places, c.end), c) for c in chunks]

    def holders(self, quote: str) -> list[Chunk]:
        """Return the chunks that hold quoted words, by the overlap of their spans; none if the words occur nowhere.

        A chunk holds them if it has half of the quote, or half of it is quoted: one does, however the quote is cut. Words that
        occur several times are held in each place.
        """
        sought = "".join(quote.split())
        holding: dict[str, Chunk] = {}
        found = self.text.find(sought) if sought else -1
        while found >= 0:
            for first, last, chunk in self.spans:
                shared = min(last, found + len(sought)) - max(first, found)
                if shared > 0 and (2 * shared >= len(sought) or 2 * shared >= last - first):
                    holding[chunk.id] = chunk
            found = self.text.find(sought, found + len(sought))
        return list(holding.values())


@dataclass(frozen=True)
class Beir:
    """A folder in BEIR format as read: records (id, title, text), questions, and what the corpus' content hashes to."""

    name: str
    records: tuple[tuple[str, str, str], ...]
    questions: EvalSet
    digest: str


def read_beir(folder: Path) -> Beir:
    """Read a folder in BEIR format. RagError, which names the file and line, if something is missing or malformed."""
    corpus = _corpus(folder)
    missing = [] if corpus else ["corpus.jsonl"]
    missing += [path.name for path in (folder / "queries.jsonl", _qrels(folder)) if not path.is_file()]
    if corpus is None or missing:
        raise RagError(
            msg("{folder} is not an evaluation set, {missing} missing", folder=folder, missing=joined(", ", missing)),
            msg("add corpus.jsonl or corpus.jsonl.gz, queries.jsonl and qrels.tsv"),
        )
    records: dict[str, tuple[str, str, str]] = {}
    for n, row in _rows(corpus):
        identity, text = _identity(corpus, n, row), row.get("text")
        title = row["title"] if isinstance(row.get("title"), str) else ""
        if not jsonl.is_text(text) or not jsonl.is_text(title):
            raise jsonl.bad_line(corpus, n, msg("needs _id and text"))
        if identity in records:
            raise jsonl.bad_line(corpus, n, msg("repeats the _id {id}", id=identity))
        records[identity] = (identity, title, text)
    qrels = read_qrels(_qrels(folder))
    questions = []
    for n, row in _rows(folder / "queries.jsonl"):
        identity, text = _identity(folder / "queries.jsonl", n, row), row.get("text")
        # One without words is asked like the others, and fails as itself: published sets have some.
        if not jsonl.is_text(text):
            raise jsonl.bad_line(folder / "queries.jsonl", n, msg("needs _id and text"))
        questions.append(Question(identity, text, qrels.get(identity, {}), _answers(row)))
    if len({q.id for q in questions}) < len(questions):
        raise RagError(msg("{path} repeats an _id", path=folder / "queries.jsonl"), msg("give every question its own"))
    if not questions or not records:
        raise RagError(msg("{folder} has no questions or no records", folder=folder), msg("name another folder"))
    digest = hashlib.sha256(json.dumps(sorted(records.values())).encode()).hexdigest()
    return Beir(folder.resolve().name, tuple(records.values()), EvalSet(name_of(folder), tuple(questions)), digest)


def _corpus(folder: Path) -> Path | None:
    return next((path for name in ("corpus.jsonl", "corpus.jsonl.gz") if (path := folder / name).is_file()), None)


def _qrels(folder: Path) -> Path:
    # As BEIR's own downloads have it.
    split = folder / "qrels" / "test.tsv"
    return split if split.is_file() and not (folder / "qrels.tsv").is_file() else folder / "qrels.tsv"


def _identity(path: Path, n: int, row: jsonl.Row) -> str:
    """Return a row's _id, without the white space around it that qrels cannot have."""
    identity = row.get("_id")
    if not jsonl.is_text(identity) or not identity.strip():
        raise jsonl.bad_line(path, n, msg("needs _id and text"))
    return identity.strip()


def _rows(path: Path) -> Iterator[tuple[int, jsonl.Row]]:
    """Return number and row of each line that has one."""
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        return jsonl.numbered(path, content.decode("utf-8-sig"))
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise RagError(
            msg("{path} cannot be read ({reason})", path=path, reason=error), msg("fix it or name another folder")
        ) from None


def _answers(row: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Return the answers that a query names, () if it says that there is none, None if it says nothing."""
    if row.get("answerable") is False or ("answer" in row and row["answer"] is None):
        return ()
    found = row["answers"] if isinstance(row.get("answers"), list) else [row.get("answer")]
    return tuple(answer for answer in found if isinstance(answer, str) and answer.strip()) or None
