"""Measures of a ranking against judgements, by trec_eval (pytrec_eval, Van Gysel & de Rijke 2018).

Names as ir-measures writes them: nDCG@k (Järvelin & Kekäläinen 2002; gains are grades), RR@k (reciprocal rank), R@k (recall),
P@k, Success@k (one relevant at least), AP. A grade above 0 is relevant. Ties are broken as trec_eval does, by name of document
downwards; a document that was not judged is not relevant.
"""

import re
from collections.abc import Mapping, Sequence

import pytrec_eval

from rag_app.errors import SettingsError
from rag_app.evaluation.trec import Qrels, Run
from rag_app.words import msg

_NAMED = re.compile(r"(nDCG|RR|R|P|Success|AP)(?:@([1-9][0-9]{0,3}))?")
_OF_TREC = {"nDCG": "ndcg_cut", "RR": "recip_rank", "R": "recall", "P": "P", "Success": "success", "AP": "map_cut"}
_WHOLE = {"nDCG": "ndcg", "RR": "recip_rank", "AP": "map"}


def checked(names: Sequence[str]) -> tuple[str, ...]:
    """Return the names of measures, each once. SettingsError if one is not a measure."""
    for name in names:
        found = _NAMED.fullmatch(name)
        if not found or (not found[2] and found[1] not in _WHOLE):
            raise SettingsError(
                msg("{name!r} is not a measure", name=name),
                msg("write nDCG@10, RR@10, R@10, P@10, Success@10 or AP, with any cutoff"),
            )
    if not names:
        raise SettingsError(msg("no measure is named"), msg("write nDCG@10, for example"))
    return tuple(dict.fromkeys(names))


def usual(n_passages: int) -> tuple[str, ...]:
    """Return the measures that tell most where so many passages go to the chat model."""
    n = n_passages
    return ("nDCG@10", "RR@10", "AP", f"R@{n}", f"Success@{n}", f"P@{n}")


def measure(names: Sequence[str], qrels: Qrels, run: Run) -> dict[str, dict[str, float]]:
    """Return measure → query → value, for the queries that qrels and run share; a query with nothing found counts as 0."""
    shared = {query: {d: float(score) for d, score in run[query].items()} for query in qrels if query in run}
    found = {query: documents for query, documents in shared.items() if documents}
    wanted = {name: _named(name) for name in names}
    judged = {query: {d: int(grade) for d, grade in qrels[query].items()} for query in found}
    values = pytrec_eval.RelevanceEvaluator(judged, {asked for asked, _, _ in wanted.values()}).evaluate(found) if found else {}

    def value(query: str, result: str, deepest: int | None) -> float:
        got = float(values[query][result]) if query in values else 0.0
        # Of the reciprocal rank trec_eval has no cutoff.
        return got if deepest is None or got * deepest >= 1 - 1e-9 else 0.0

    return {name: {q: value(q, result, deepest) for q in shared} for name, (_, result, deepest) in wanted.items()}


def ideal(grades: Mapping[str, int], found: Sequence[str]) -> list[str]:
    """Return documents in the best order that there is: by grade, those of one grade as they were."""
    return sorted(found, key=lambda document: -grades.get(document, 0))


def ranked(documents: Sequence[str]) -> dict[str, float]:
    """Return an order as scores that fall with the rank, so that a measure sees the same order."""
    return {document: float(len(documents) - i) for i, document in enumerate(documents)}


def _named(name: str) -> tuple[str, str, int | None]:
    """Return what a measure is asked of trec_eval by, what it is called in the answer, and a cutoff that is ours to make."""
    kind, _, cutoff = name.partition("@")
    if not cutoff or kind == "RR":
        return _WHOLE[kind], _WHOLE[kind], int(cutoff) if cutoff else None
    return f"{_OF_TREC[kind]}.{cutoff}", f"{_OF_TREC[kind]}_{cutoff}", None
