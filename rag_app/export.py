"""One answer with everything that led to it, as Markdown for people; for programs there is `model_dump_json`."""

import re
from collections.abc import Sequence

from rag_app import prompt
from rag_app.price import Cost
from rag_app.types import Answer, Ask, Candidate, Search, arrow, seconds


def markdown(search: Search, cost: Cost | None = None) -> str:
    """Return a question, its answer, the passages as sent, both rankings and the receipt.

    What comes from documents and models stands in code fences or is escaped: it brings no links, pictures or HTML along.
    """
    parts = [f"# {escaped(search.question)}"]
    if search.rewrite:
        parts.append(f"Typed as: {escaped(search.rewrite.typed)}")
    if search.only:
        parts.append(f"Looked for in: {escaped(', '.join(search.only))}")
    if isinstance(search, Ask):
        parts += _answer("Answer", search.answer, search.passages)
        if other := search.without_rerank:
            parts += _answer("Answer without reranking", other.answer, search.passages_without_rerank)
    parts += ["## What reranking did", search.effect, escaped(search.rerank.line), _stages(search)]
    if cost:
        missing = f"not known for {', '.join(cost.unknown)}: no tokens were reported" if cost.unknown else ""
        parts.append("Price: " + "; ".join(filter(None, [str(cost) if cost.known else "", missing])))
    parts += [_table(search), "## Passages as sent"]
    for n, passage in enumerate(search.passages, 1):
        parts += [f"### {n}. {escaped(place(passage))}", fenced(passage.sent)]
    if search.passages:
        parts += ["## The prompt"]
        for message in prompt.messages(search.question, search.passages):
            parts += [f"### {message['role']}", fenced(message["content"])]
    return "\n\n".join(parts) + "\n"


def escaped(text: str) -> str:
    """Return text on one line that Markdown shows as it stands."""
    visible = "".join(c if c.isprintable() else " " if c.isspace() else "" for c in text)
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", re.sub(r"(?<=:)(?=//)|(?<=\bwww)(?=\.)|(?=@)", "\u2060", visible))


def fenced(text: str) -> str:
    """Return text in a code fence that it cannot close."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{text}\n{fence}"


def place(candidate: Candidate) -> str:
    """Return document, heading path and page of a chunk on one line."""
    page = f", p. {candidate.page}" if candidate.page else ""
    return f"{candidate.document}: {candidate.heading_path}{page}"


def _answer(title: str, answer: Answer, passages: Sequence[Candidate]) -> list[str]:
    cited = [f"- [{c.marker}] {escaped(place(passages[c.marker - 1]))}" for c in answer.citations]
    note = {"length": "It stops at the model's token limit.", "cut_short": "It may be cut short: its stream broke off."}
    notes = list(filter(None, ["\n".join(cited), note.get(answer.finish, "")]))
    return [f"## {title}", fenced(answer.text), *notes, f"By {escaped(answer.model)}."]


def _stages(search: Search) -> str:
    ms = search.ms
    stages = [f"embed {seconds(ms.embed)}", f"retrieve {seconds(ms.retrieve)}", f"rerank {seconds(ms.rerank)}"]
    if search.rewrite:
        stages.insert(0, f"rewrite {seconds(search.rewrite.ms)}")
    if isinstance(search, Ask):
        stages.append(f"answer {seconds(search.ms.chat)}")
    return " ▸ ".join(stages)


def _table(search: Search) -> str:
    rows = ["| after | before | moved | rerank score | cosine | | document |", "|--:|--:|--:|--:|--:|---|---|"]
    for after, c in enumerate(search.reranked, 1):
        score = f"{c.rerank.score:.4g}" if c.rerank else "–"
        fate = "" if c.fate == "unused" else c.fate
        moved = arrow(c.retrieval.rank - after) or "="
        where = escaped(place(c))
        rows.append(f"| {after} | {c.retrieval.rank} | {moved} | {score} | {c.retrieval.score:.4f} | {fate} | {where} |")
    return "\n".join(rows)
