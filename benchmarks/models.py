"""How fast the built-in models are here, and what each reranker does to a ranking.

    python benchmarks/models.py [FOLDER]

Without a folder: texts embedded and query-passage pairs scored a second. With a folder in BEIR layout (corpus.jsonl,
queries.jsonl, qrels.tsv), also nDCG@10 of the 50 nearest before and after reranking, over 300 questions drawn with a
fixed seed; nDCG by Järvelin & Kekäläinen 2002.
"""

import json
import math
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from rich.progress import track

from rag_app import builtin
from rag_app.builtin.late import KeptTokens
from rag_app.builtin.models import CrossEncoder, Embedder, EnglishEmbedder, LateInteraction

SENTENCE = "A trip is approved by the manager before anything is booked, and the claim is handed in within six weeks. "
QUESTIONS = 300
CANDIDATES = 50


def of_length(encoder: Embedder | EnglishEmbedder | CrossEncoder, tokens: int) -> str:
    """Return a text of about so many tokens."""
    text = SENTENCE * (tokens // 10)
    encoding = encoder.tokenizer.encode(text, add_special_tokens=False)
    return text[: encoding.offsets[tokens - 1][1]]


def speed(embedders: Sequence[Embedder | EnglishEmbedder], late: LateInteraction, cross_encoder: CrossEncoder) -> None:
    """Print texts and pairs a second, best of three runs."""
    for embedder in embedders:
        for tokens, count in ((100, 120), (250, 48)):
            texts = [of_length(embedder, tokens)] * count
            seconds = min(timed(partial(embedder.embed, texts)) for _ in range(3))
            print(f"{count / seconds:5.0f} texts of {tokens} tokens embedded a second by {embedder.name}")
    texts = [f"{n}: {of_length(embedders[0], 225)}" for n in range(30)]
    late.scores("Who approves a trip?", texts)
    seconds = min(timed(partial(late.scores, "Who approves a trip?", texts)) for _ in range(3))
    print(f"{1000 * seconds:5.0f} ms for 30 passages of 225 tokens whose token vectors are kept, reranked by {late.name}")
    for tokens, count in ((75, 120), (225, 48)):
        texts = [of_length(cross_encoder, tokens)] * count
        seconds = min(timed(partial(cross_encoder.scores, "Who approves a trip?", texts)) for _ in range(3))
        print(f"{count / seconds:5.0f} pairs of {tokens} tokens reranked a second by {cross_encoder.name}")


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


def quality(folder: Path, embedder: Embedder | EnglishEmbedder, reranker: LateInteraction | CrossEncoder) -> None:
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
    question, passage = builtin.PREFIXES[embedder.name]
    vectors, _ = embedder.embed([passage + text for text in texts])
    asked, _ = embedder.embed([question + query["text"] for query in queries])
    before, after = [], []
    for query, similarities in track(list(zip(queries, asked @ vectors.T, strict=True)), "reranking"):
        nearest = np.argsort(-similarities, kind="stable")[:CANDIDATES]
        scores, _ = reranker.scores(query["text"], [texts[i] for i in nearest])
        order = np.argsort(-np.array(scores), kind="stable")
        before.append(ndcg([documents[i]["_id"] for i in nearest], qrels[query["_id"]]))
        after.append(ndcg([documents[nearest[i]]["_id"] for i in order], qrels[query["_id"]]))
    which = f"{folder.name}, {embedder.name}, {reranker.name}"
    print(f"{which}: nDCG@10 {np.mean(before):.3f} before, {np.mean(after):.3f} after, {len(queries)} questions")


def main() -> None:
    """Run the benchmark."""
    embedder, english, cross_encoder = Embedder(), EnglishEmbedder(), CrossEncoder()
    with tempfile.TemporaryDirectory() as folder:
        late = LateInteraction(embedder, KeptTokens(Path(folder)))
        speed([embedder, english], late, cross_encoder)
        for name in sys.argv[1:]:
            quality(Path(name), embedder, late)
            quality(Path(name), english, cross_encoder)


if __name__ == "__main__":
    main()
