"""Labelled questions: which passage answers which question, as people judged it. Files: queries.jsonl and qrels.jsonl.

A query has `_id`, `text` and, where it is known, `answer` (null: the documents do not answer it). A judgement has `query`,
`document`, `quote` (words of the document) and `grade` (2 answers, 1 helps, 0 does not).
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from rag_app.errors import RagError
from rag_app.labels import jsonl
from rag_app.types import Candidate
from rag_app.words import msg

GRADE = 2
# Measures take memory by the highest grade.
MOST_GRADE = 1000
# Prefixes of the ids of questions that were added on the page, and of accepted drafts.
ADDED = "page-"
DRAFTED = "draft-"


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

    def grade(self, question: str, candidate: Candidate) -> int | None:
        """Return the grade of a candidate for a question, by a quote in it or around it; None if it is not judged."""
        judged = self._judged(question)
        of_it = [row["grade"] for row in judged if _is_of(row, candidate)]
        # A longer quote around it counts only where no quote is within it.
        around = [row["grade"] for row in judged if _is_around(row, candidate)]
        return max(of_it or around, default=None)

    def judge(self, question: str, candidate: Candidate, grade: int | None) -> None:
        """Store the grade of a candidate for a question, or remove it (None); a new question is added.

        RagError if the question is labelled as unanswerable, or the files cannot be written.
        """
        with jsonl.locked(self.folder / "labels"):
            self._judge(question, candidate, grade)

    def _judge(self, question: str, candidate: Candidate, grade: int | None) -> None:
        query = self._find(question)
        if query is not None and grade and "answer" in query and query["answer"] is None:
            raise RagError(
                msg("{file} says that no document answers this question ({id})", file=self.queries, id=query["_id"]),
                msg('remove its "answer": null first'),
            )
        identity = str(query["_id"]) if query else self._unused(ADDED, question)
        row = {"query": identity, "document": candidate.document, "quote": candidate.text, "grade": grade}

        def judged(rows: list[jsonl.Row]) -> list[jsonl.Row]:
            mine = [other for other in rows if other.get("query") == identity and _is_of(other, candidate)]
            if grade is None:
                return [other for other in rows if other not in mine]
            # The words that a person quoted stay.
            return [other | {"grade": grade} if other in mine else other for other in rows] if mine else [*rows, row]

        def asked(rows: list[jsonl.Row]) -> list[jsonl.Row]:
            others = [other for other in rows if other.get("_id") != identity]
            if grade is not None:
                return rows if len(others) < len(rows) else [*rows, {"_id": identity, "text": question}]
            # A question that was added with its first judgement goes with its last.
            return others if identity.startswith(ADDED) and not self._judged(question) else rows

        jsonl.change(self.qrels, judged)
        jsonl.change(self.queries, asked)

    def add(self, question: str, answer: str, document: str, quote: str) -> None:
        """Add a question with its answer and the words of a document that hold it. RagError if the question exists."""
        with jsonl.locked(self.folder / "labels"):
            if self._find(question):
                raise RagError(msg("{file} already has this question", file=self.queries), msg("drop the draft"))
            identity = self._unused(DRAFTED, question)
            jsonl.append(self.qrels, {"query": identity, "document": document, "quote": quote, "grade": GRADE})
            jsonl.append(self.queries, {"_id": identity, "text": question, "answer": answer})

    def examples(self, stored: Callable[[set[str]], Collection[str]], n: int = 3) -> list[str]:
        """Return labelled questions that are answered: those marked `example` first, then the first ones.

        `stored` returns which of some documents there are.
        """
        judged = [row for row in self.judgements() if row["grade"]]
        there = stored({row["document"] for row in judged})
        answered = {row["query"] for row in judged if row["document"] in there}
        fitting = [query for query in self.questions() if query["_id"] in answered]
        return [query["text"] for query in sorted(fitting, key=lambda query: not query.get("example"))[:n]]

    def _judged(self, question: str) -> list[jsonl.Row]:
        query = self._find(question)
        return [row for row in self.judgements() if query and row.get("query") == query["_id"]]

    def _find(self, question: str) -> jsonl.Row | None:
        return next((query for query in self.questions() if _squeezed(query["text"]) == _squeezed(question)), None)

    def _unused(self, prefix: str, question: str) -> str:
        """Return an id for a new question, by its words; a question that was reworded in the file keeps its own."""
        name = f"{prefix}{hashlib.sha256(_squeezed(question).encode()).hexdigest()[:10]}"
        taken = {row["_id"] for row in self.questions()}
        return next(i for n in count(1) if (i := name if n == 1 else f"{name}-{n}") not in taken)

    def questions(self) -> list[jsonl.Row]:
        """Return the questions. RagError, which names the file, if a line is incomplete or an _id repeats."""
        rows = jsonl.read(self.queries)
        if any(not jsonl.is_text(row.get(name)) or not row[name].strip() for row in rows for name in ("_id", "text")):
            raise RagError(msg("{file} has a line without _id or text", file=self.queries), msg("fix or remove the line"))
        if twice := [name for name, n in Counter(row["_id"] for row in rows).items() if n > 1]:
            raise RagError(
                msg("{file} repeats the _id {id}", file=self.queries, id=twice[0]), msg("give every question its own")
            )
        return rows

    def judgements(self) -> list[jsonl.Row]:
        """Return the judgements. RagError, which names the judgement, if one is incomplete."""
        rows = jsonl.read(self.qrels)
        for n, row in enumerate(rows, 1):
            words = all(isinstance(row.get(name), str) and row[name].strip() for name in ("query", "document", "quote"))
            if not words or not isinstance(row.get("grade"), int) or abs(row["grade"]) > MOST_GRADE:
                raise RagError(
                    msg(
                        "{file}, judgement {n} needs query, document, quote and a whole grade of at most {most}",
                        file=self.qrels,
                        n=n,
                        most=MOST_GRADE,
                    ),
                    msg("fix or remove it"),
                )
        return rows


def _is_of(row: jsonl.Row, candidate: Candidate) -> bool:
    """Whether a judgement is of a candidate: its quote is in it."""
    return row.get("document") == candidate.document and _squeezed(str(row.get("quote"))) in _squeezed(candidate.text)


def _is_around(row: jsonl.Row, candidate: Candidate) -> bool:
    """Whether a candidate is within the quote, as after chunks have become smaller."""
    return row.get("document") == candidate.document and _squeezed(candidate.text) in _squeezed(str(row.get("quote")))


def _squeezed(text: str) -> str:
    return " ".join(text.split())
