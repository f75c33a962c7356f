"""Labelled questions: which passage answers which question, as people judged it. Files: queries.jsonl and qrels.jsonl.

A query has `_id`, `text` and, where it is known, `answer` (null: the documents do not answer it). A judgement has `query`,
`document`, `quote` (words of the document) and `grade` (2 answers, 1 helps).
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from rag_app import jsonl
from rag_app.types import Candidate, RagError

GRADE = 2
# How the ids of questions begin that were added on the page.
ADDED = "page-"


@dataclass(frozen=True)
class Labels:
    """The labelled questions of one folder."""

    folder: Path

    @property
    def queries(self) -> Path:
        return self.folder / "queries.jsonl"

    @property
    def qrels(self) -> Path:
        return self.folder / "qrels.jsonl"

    def relevant(self, question: str, candidate: Candidate) -> bool:
        """Whether a candidate was judged to answer a question: words of it, if a person quoted only these."""
        return any(_is_of(row, candidate) for row in self._judged(question))

    def judge(self, question: str, candidate: Candidate, relevant: bool = True) -> None:
        """Write down that a candidate answers a question, or take that back; a question that is new is added with it.

        RagError if the question is labelled as one that nothing answers.
        """
        query = self._find(question)
        if query is not None and relevant and "answer" in query and query["answer"] is None:
            raise RagError(
                f"{self.queries} says that no document answers this question ({query['_id']}): take out its answer null first"
            )
        identity = str(query["_id"]) if query else f"{ADDED}{hashlib.sha256(_squeezed(question).encode()).hexdigest()[:10]}"
        row = {"query": identity, "document": candidate.document, "quote": candidate.text, "grade": GRADE}

        def judged(rows: list[jsonl.Row]) -> list[jsonl.Row]:
            others = [other for other in rows if other.get("query") != identity or not _is_of(other, candidate)]
            if not relevant:
                return others
            # Words that a person chose stay as they were quoted.
            return rows if len(others) < len(rows) else [*rows, row]

        def asked(rows: list[jsonl.Row]) -> list[jsonl.Row]:
            others = [other for other in rows if other.get("_id") != identity]
            if relevant:
                return rows if len(others) < len(rows) else [*rows, {"_id": identity, "text": question}]
            # A question that was added with its first judgement goes with its last.
            return others if identity.startswith(ADDED) and not self._judged(question) else rows

        jsonl.change(self.qrels, judged)
        jsonl.change(self.queries, asked)

    def examples(self, documents: set[str], n: int = 3) -> list[str]:
        """Return labelled questions that these documents answer: those marked `example` first, then the first ones."""
        answered = {row.get("query") for row in self._judgements() if row.get("document") in documents}
        fitting = [query for query in self._queries() if query["_id"] in answered]
        return [query["text"] for query in sorted(fitting, key=lambda query: not query.get("example"))[:n]]

    def _judged(self, question: str) -> list[jsonl.Row]:
        query = self._find(question)
        return [row for row in self._judgements() if query and row.get("query") == query["_id"]]

    def _find(self, question: str) -> jsonl.Row | None:
        return next((query for query in self._queries() if _squeezed(query["text"]) == _squeezed(question)), None)

    def _queries(self) -> list[jsonl.Row]:
        rows = jsonl.read(self.queries)
        if any(not isinstance(row.get("_id"), str) or not isinstance(row.get("text"), str) for row in rows):
            raise RagError(f"{self.queries}: every line needs _id and text: mend or remove the one that does not")
        return rows

    def _judgements(self) -> list[jsonl.Row]:
        return jsonl.read(self.qrels)


def _is_of(row: jsonl.Row, candidate: Candidate) -> bool:
    """Whether a judgement is of a candidate: its quote stands in it."""
    return row.get("document") == candidate.document and _squeezed(str(row.get("quote"))) in _squeezed(candidate.text)


def _squeezed(text: str) -> str:
    return " ".join(text.split())
