"""A plan: a question sought in several phrasings, or part by part, or limited, as the chat model writes it down.

Phrasings find what other words say (query expansion; Wang, Yang & Wei 2023 measured it with language models). Parts are for
questions that take several facts (multi-hop), answered one after the other where a later one needs an earlier one's answer
(decomposed prompting; Khot et al. 2023). Both are off by default: `rag-app compare now plan=phrasings` measures them.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence

from rag_app import prompt
from rag_app.endpoints.chat import Answering
from rag_app.retrieval import scaled
from rag_app.types import WHERE, Candidate, Limit, Part, Plan, PlanKind, Ranking, Score
from rag_app.words import NOTHING, Message, msg

# Phrasings or parts beside the question itself, and the longest of them.
MOST, LONGEST = 3, 400
SCORES: dict[PlanKind, Score] = {
    "phrasings": Score(name=msg("mean score of the phrasings")),
    "parts": Score(name=msg("1 / best rank in a part")),
}
Reply = Callable[[Sequence[prompt.Message]], tuple[str, Answering]]
Seek = Callable[[str], list[Candidate]]
OnPart = Callable[[Part], None]
_MARK = re.compile(r"^\s*(?:[-*•]|\(?\d+[.):])\s+|^[\"“„']|[\"”“']$")
_EARLIER = re.compile(r"#(\d)(?!\d)")
_NUMBERED = re.compile(r"^\s*\(?\d+[.):]\s")


def carried_out(
    kind: PlanKind, question: str, reply: Reply, seek: Seek, n: int, n_passages: int, on_part: OnPart = lambda part: None
) -> tuple[list[Candidate], Plan]:
    """Return at most n candidates for a question by a plan, best first, ranked from 1, and the plan.

    `seek` finds the candidates of one question; `on_part` hears each part once it was sought. Where the chat model gives
    nothing to seek, the question is sought as it is, and the plan says so. EndpointError if the model cannot be asked.
    """
    talk = _Talk(reply)
    written = _lines(talk.say(prompt.planning(kind, question, MOST)))
    if kind == "phrasings":
        written = [text for text in dict.fromkeys(written) if text != question]
    written = written[:MOST]
    if not written or written == [question]:
        reason = (
            msg("the chat model found nothing to take apart")
            if kind == "parts"
            else msg("the chat model gave no other phrasings")
        )
        return seek(question)[:n], talk.plan(kind, (), reason)
    parts: list[Part] = []
    rankings: list[list[Candidate]] = []

    def sought(text: str, found: list[Candidate], said: str = "") -> None:
        parts.append(Part(question=text, answer=said, found=tuple(c.id for c in found)))
        rankings.append(found)
        on_part(parts[-1])

    if kind == "phrasings":
        for text in (question, *written):
            sought(text, seek(text))
        order = by_mean(rankings)
    else:
        for i, text in enumerate(written):
            whole = _EARLIER.sub(lambda match: _answer_of(parts, int(match[1])) or match[0], text)
            found = seek(whole)
            needed = found and any(f"#{i + 1}" in later for later in written[i + 1 :])
            said = talk.say(prompt.short_answer(whole, found[:n_passages])) if needed else ""
            sought(whole, found, " ".join(said.split())[:LONGEST])
        # What the question finds as a whole comes after what its parts find.
        order = in_turn([*rankings, seek(question)])
    ranked = [c.model_copy(update={"retrieval": Ranking(rank=i, score=s)}) for i, (c, s) in enumerate(order[:n], 1)]
    return ranked, talk.plan(kind, tuple(parts))


def _answer_of(parts: Sequence[Part], n: int) -> str:
    return parts[n - 1].answer if 0 < n <= len(parts) else ""


def limit_of(question: str, fields: Mapping[str, Mapping[str, int]], reply: Reply) -> Limit:
    """Return the values of fields that a question is limited to, as the chat model reads it, of those that documents have.

    What it makes up is left out. EndpointError if the model cannot be asked.
    """
    few = {name: list(values) for name, values in fields.items() if values}
    talk = _Talk(reply)
    said = re.search(r"\{.*\}", talk.say(prompt.limiting(question, few)), re.DOTALL)
    try:
        read = json.loads(said[0]) if said else {}
    except ValueError:
        read = {}
    names = []
    for name, values in read.items() if isinstance(read, dict) else ():
        wanted = {str(one).strip().casefold() for one in (values if isinstance(values, list) else [values])}
        names += [f"{WHERE}{name}={value}" for value in few.get(name, ()) if value.casefold() in wanted]
    (spent,) = talk.tokens
    return Limit(names=tuple(dict.fromkeys(names)), ms=talk.ms, prompt_tokens=spent[0], answer_tokens=spent[1])


class _Talk:
    """What is asked of the chat model for a plan, and what that takes."""

    def __init__(self, reply: Reply) -> None:
        self.reply = reply
        self.ms = 0.0
        self.tokens: list[tuple[int | None, int | None]] = []

    def say(self, messages: Sequence[prompt.Message]) -> str:
        text, answering = self.reply(messages)
        self.ms += answering.ms
        self.tokens.append(answering.tokens)
        return text

    def plan(self, kind: PlanKind, parts: tuple[Part, ...], reason: Message = NOTHING) -> Plan:
        prompts, answers = ([n for n in column if n is not None] for column in zip(*self.tokens, strict=True))
        known = len(prompts) == len(answers) == len(self.tokens)
        return Plan(
            kind=kind,
            parts=parts,
            ms=self.ms,
            prompt_tokens=sum(prompts) if known else None,
            answer_tokens=sum(answers) if known else None,
            reason=reason,
        )


def _lines(reply: str) -> list[str]:
    """Return the questions of a reply, one a line, without bullets, numbers and quotation marks; what leads in is none."""
    lines = [line for line in reply.splitlines() if line.strip() and not line.rstrip().endswith((":", "："))]
    # Where some are numbered, the others are no questions.
    lines = [line for line in lines if _NUMBERED.match(line)] or lines
    bare = (_MARK.sub("", _MARK.sub("", line.strip())).strip() for line in lines)
    return [line for line in bare if line and len(line) <= LONGEST]


def by_mean(rankings: Sequence[Sequence[Candidate]]) -> list[tuple[Candidate, float]]:
    """Return the candidates of several rankings by the mean of their scores, each scaled to 0..1 within its ranking.

    What a ranking lacks has 0 there (CombSUM; Fox & Shaw 1994).
    """
    scores: dict[str, float] = {}
    for ranking in rankings:
        for name, score in scaled([(c.id, c.retrieval.score) for c in ranking]).items():
            scores[name] = scores.get(name, 0.0) + score / len(rankings)
    return sorted(((c, scores[c.id]) for c in _best_of(rankings)), key=lambda pair: -pair[1])


def in_turn(rankings: Sequence[Sequence[Candidate]]) -> list[tuple[Candidate, float]]:
    """Return the first of each ranking in turn, then the second of each, and so on; the score is 1 / the best rank."""
    return [(c, 1 / c.retrieval.rank) for c in sorted(_best_of(rankings), key=lambda c: c.retrieval.rank)]


def _best_of(rankings: Sequence[Sequence[Candidate]]) -> list[Candidate]:
    """Return each candidate as it stands in the ranking where it is highest, the first of those."""
    best: dict[str, Candidate] = {}
    for ranking in rankings:
        for c in ranking:
            if c.id not in best or c.retrieval.rank < best[c.id].retrieval.rank:
                best[c.id] = c
    return list(best.values())
