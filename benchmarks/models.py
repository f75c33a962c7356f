"""How fast the built-in models are here, and what the cross-encoder does to a ranking.

    python benchmarks/models.py [FOLDER]

Without a folder: texts embedded and query-passage pairs scored a second. With a folder in BEIR layout (corpus.jsonl,
queries.jsonl, qrels.tsv), also nDCG@10 of the 50 nearest before and after reranking, over 300 questions drawn with a
fixed seed; nDCG by Järvelin & Kekäläinen 2002.
"""

import json
import math
import random
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from rich.progress import track

from rag_app import builtin
from rag_app.builtin.models import CrossEncoder, Embedder

SENTENCE = "A trip is approved by the manager before anything is booked, and the claim is handed in within six weeks. "
QUESTIONS = 300
CANDIDATES = 50


def of_length(encoder: Embedder | CrossEncoder, tokens: int) -> str:
    """Return a text of about so many tokens."""
    text = SENTENCE * (tokens // 10)
    encoding = encoder.tokenizer.encode(text, add_special_tokens=False)
    return text[: encoding.offsets[tokens - 1][1]]


def speed(embedder: Embedder, cross_encoder: CrossEncoder) -> None:
    """Print texts and pairs a second, best of three runs."""
    for tokens, count in ((100, 120), (250, 48)):
        texts = [of_length(embedder, tokens)] * count
        seconds = min(timed(partial(embedder.embed, texts)) for _ in range(3))
        print(f"{count / seconds:5.0f} texts of {tokens} tokens embedded a second")
    for tokens, count in ((75, 120), (225, 48)):
        texts = [of_length(cross_encoder, tokens)] * count
        seconds = min(timed(partial(cross_encoder.scores, "Who approves a trip?", texts)) for _ in range(3))
        print(f"{count / seconds:5.0f} pairs of {tokens} tokens reranked a second")


def timed(work: Callable[[], object]) -> float:
    """Return the seconds that a call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def ndcg(ranked: list[str], gains: dict[str, int], k: int = 10) -> float:
    """Return nDCG@k of a ranking of ids, linear gain."""
    dcg = sum(gains.get(identity, 0) / math.log2(rank + 1) for rank, identity in enumerate(ranked[:k], 1))
    ideal = sum(gain / math.log2(rank + 1) for rank, gain in enumerate(sorted(gains.values(), reverse=True)[:k], 1))
    return dcg / ideal


def quality(folder: Path, embedder: Embedder, cross_encoder: CrossEncoder) -> None:
    """Print nDCG@10 before and after reranking."""
    documents = [json.loads(line) for line in (folder / "corpus.jsonl").open(encoding="utf-8")]
    texts = [" ".join(filter(None, (document.get("title"), document["text"]))) for document in documents]
    qrels: dict[str, dict[str, int]] = {}
    for line in (folder / "qrels.tsv").read_text("utf-8").splitlines()[1:]:
        query, document, grade = line.split("\t")[:3]
        qrels.setdefault(query, {})[document] = int(grade)
    queries = [json.loads(line) for line in (folder / "queries.jsonl").open(encoding="utf-8")]
    queries = [query for query in queries if query["_id"] in qrels]
    random.Random(0).shuffle(queries)
    queries = queries[:QUESTIONS]
    vectors, _ = embedder.embed(texts)
    asked, _ = embedder.embed([builtin.QUESTION_PREFIX + query["text"] for query in queries])
    before, after = [], []
    for query, similarities in track(list(zip(queries, asked @ vectors.T, strict=True)), "reranking"):
        nearest = np.argsort(-similarities, kind="stable")[:CANDIDATES]
        scores, _ = cross_encoder.scores(query["text"], [texts[i] for i in nearest])
        order = np.argsort(-np.array(scores), kind="stable")
        before.append(ndcg([documents[i]["_id"] for i in nearest], qrels[query["_id"]]))
        after.append(ndcg([documents[nearest[i]]["_id"] for i in order], qrels[query["_id"]]))
    print(f"{folder.name}: nDCG@10 {np.mean(before):.3f} before, {np.mean(after):.3f} after, {len(queries)} questions")


def main() -> None:
    """Run the benchmark."""
    embedder, cross_encoder = Embedder(), CrossEncoder()
    speed(embedder, cross_encoder)
    for folder in sys.argv[1:]:
        quality(Path(folder), embedder, cross_encoder)


if __name__ == "__main__":
    main()
