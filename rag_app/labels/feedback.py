"""Feedback: thumbs with comments, and blind votes, a line of JSON each; of the same answer the last line counts."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from rag_app.labels import jsonl
from rag_app.types import Ask, Candidate

FILE = "feedback.jsonl"
Better = Literal["with", "without", "neither"]


def rate(folder: Path, answer_id: str, ask: Ask, rating: Literal["up", "down"] | None, comment: str = "") -> None:
    """Store whether an answer was good (None: undone), and a comment. RagError if the file cannot be written."""
    _add(folder, "rating", answer_id, ask, {"rating": rating, "comment": comment})


def vote(folder: Path, answer_id: str, ask: Ask, better: Better, left: str) -> None:
    """Store which of two answers, shown blind, was better; `left` says which was on the left. RagError as for `rate`."""
    other = ask.without_rerank
    _add(
        folder,
        "vote",
        answer_id,
        ask,
        {
            "better": better,
            "left": left,
            "answer_without": other.answer.text if other else "",
            "passages_without": _names(ask.passages_without_rerank),
        },
    )


def _add(folder: Path, kind: str, answer_id: str, ask: Ask, said: dict[str, object]) -> None:
    row = {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "kind": kind,
        "answer_id": answer_id,
        "question": ask.question,
        **said,
        "answer": ask.answer.text,
        "passages": _names(ask.passages),
        "rerank": {"status": ask.rerank.status, "model": ask.rerank.model},
        "chat_model": ask.answer.model,
    }
    jsonl.append(folder / FILE, row)


def _names(passages: tuple[Candidate, ...]) -> list[dict[str, str]]:
    return [{"id": passage.id, "document": passage.document} for passage in passages]
