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

    def judged(self, question: str) -> set[tuple[str, str]]:
        """Return (document, quote) of all that was judged relevant to a question."""
        if not (query := self._find(question)):
            return set()
        return {(str(row["document"]), str(row["quote"])) for row in self._judgements() if row.get("query") == query["_id"]}

    def judge(self, question: str, candidate: Candidate, relevant: bool = True) -> None:
        """Write down that a candidate answers a question, or take that back; the question is added if it is new.

        RagError if the question is labelled as one that nothing answers.
        """
        query = self._find(question)
        if query is not None and relevant and "answer" in query and query["answer"] is None:
            raise RagError(
                f"{self.queries} says that no document answers this question ({query['_id']}): take out its answer null first"
            )
        identity = str(query["_id"]) if query else f"page-{hashlib.sha256(_squeezed(question).encode()).hexdigest()[:10]}"
        if query is None:
            if not relevant:
                return
            jsonl.append(self.queries, {"_id": identity, "text": question})
        row = {"query": identity, "document": candidate.document, "quote": candidate.text, "grade": GRADE}
        same = ("query", "document", "quote")
        jsonl.change(
            self.qrels,
            lambda rows: [r for r in rows if any(r.get(name) != row[name] for name in same)] + ([row] if relevant else []),
        )

    def examples(self, documents: set[str], n: int = 3) -> list[str]:
        """Return labelled questions that these documents answer: those marked `example` first, then the first ones."""
        answered = {row.get("query") for row in self._judgements() if row.get("document") in documents}
        fitting = [query for query in self._queries() if query["_id"] in answered]
        return [query["text"] for query in sorted(fitting, key=lambda query: not query.get("example"))[:n]]

    def _find(self, question: str) -> jsonl.Row | None:
        return next((query for query in self._queries() if _squeezed(query["text"]) == _squeezed(question)), None)

    def _queries(self) -> list[jsonl.Row]:
        rows = jsonl.read(self.queries)
        if any(not isinstance(row.get("_id"), str) or not isinstance(row.get("text"), str) for row in rows):
            raise RagError(f"{self.queries}: every line needs _id and text: mend or remove the one that does not")
        return rows

    def _judgements(self) -> list[jsonl.Row]:
        return jsonl.read(self.qrels)


def _squeezed(text: str) -> str:
    return " ".join(text.split())
