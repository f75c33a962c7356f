"""One answer with everything that led to it, as Markdown for people; for programs there is `model_dump_json`."""

import re
from collections.abc import Sequence

from rag_app import prompt
from rag_app.price import Cost
from rag_app.types import FATES, FOUND, Answer, Ask, Candidate, Search, arrow
from rag_app.words import Words, msg


def markdown(search: Search, words: Words, cost: Cost | None = None) -> str:
    """Return a question, its answer, the passages as sent, both rankings and the receipt, said by `words`.

    What comes from documents and models stands in code fences or is escaped: it brings no links, pictures or HTML along.
    """

    def said(text: str) -> str:
        return escaped(words(text))

    def answered(title: str, answer: Answer, passages: Sequence[Candidate]) -> list[str]:
        cited = "\n".join(f"- [{c.marker}] {said(passages[c.marker - 1].place)}" for c in answer.citations)
        notes = [cited, *map(said, (*answer.notes, answer.ending)), said(msg("Model: {model}", model=answer.model))]
        return [f"## {words(title)}", fenced(answer.text), *filter(None, notes)]

    parts = [f"# {escaped(search.question)}"]
    if search.rewrite:
        parts.append(said(msg("You asked “{typed}”. Rewritten as a standalone question.", typed=search.rewrite.typed)))
    if search.plan:
        parts.append(
            "\n".join([said(search.plan.title), "", *(f"{n}. {said(line)}" for n, line in enumerate(search.plan.lines, 1))])
        )
    if search.only:
        parts.append(said(msg("Searched only in {names}", names=search.limited_to)))
    if isinstance(search, Ask):
        parts += answered(msg("Answer"), search.answer, search.passages)
        if other := search.without_rerank:
            parts += answered(msg("Answer without reranking"), other.answer, search.passages_without_rerank)
    parts += [
        f"## {words(msg('Effect of reranking'))}",
        words(search.effect),
        said(search.rerank.line),
        words(search.stage_line),
    ]
    parts += map(words, cost.said if cost else ())
    parts += [_table(search, words), f"## {words(msg('Passages sent'))}"]
    for n, passage in enumerate(search.passages, 1):
        parts += [f"### {n}. {said(passage.place)}", fenced(passage.sent)]
    if search.passages:
        parts += [f"## {words(msg('Full prompt'))}"]
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


def _table(search: Search, words: Words) -> str:
    before, after = search.retrieval_score, search.rerank_score
    found = [FOUND] if search.is_hybrid else []
    headings = [msg("after"), msg("before"), msg("moved"), after.name, before.name, *found, "", msg("document")]
    rows = [list(map(words, headings)), ["--:"] * (5 + len(found)) + ["---"] * 2]
    for rank, c in enumerate(search.reranked, 1):
        scores = [words(after.shown(c.rerank)), words(before.shown(c.retrieval))]
        moved = arrow(c.retrieval.rank - rank) or "="
        ranks = [words(c.found)] if found else []
        rows.append([str(rank), str(c.retrieval.rank), moved, *scores, *ranks, words(FATES[c.fate]), escaped(words(c.place))])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
