"""Our own time of a question up to the first token, against the same question by hand-written httpx and Chroma calls.

    python benchmarks/question.py [CHUNKS] [QUESTIONS]

All ask the same gateway with fixed service times, in turn, over the same collection; wall time less the service times is
what the application itself takes, with and without the lexical index. Exit 1 if a ratio of the medians is above its limit.
"""

import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import chromadb
import chromadb.config
import fixed_gateway
import httpx
import numpy as np
from rich.progress import track

from rag_app.pipeline import Pipeline
from rag_app.settings import load_settings
from rag_app.store.kept import KeptStore
from rag_app.store.stored import Version, Written
from rag_app.types import Chunk

LIMITS = {"vectors": 1.2, "hybrid": 1.35}
SERVICE = fixed_gateway.EMBED + fixed_gateway.RERANK + fixed_gateway.FIRST_TOKEN
WARM_UP = 5
PROMPT = "Answer from the passages, cite them as [n].\n\n{}\n\nQuestion: {}"


def fill(path: Path, n: int, texts: list[str]) -> None:
    """Store n chunks with random unit vectors."""
    vectors = np.random.default_rng(0).standard_normal((n, fixed_gateway.DIMENSIONS), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    store = KeptStore(path, "bench", create=True).create(
        {"embedding_model": "fixed", "passage_prefix": ""}, fixed_gateway.DIMENSIONS
    )
    chunks = [
        Chunk(
            id=str(i),
            document=f"{i}.md",
            title=f"{i}",
            headings=(),
            page=None,
            position=0,
            start=0,
            end=len(text),
            language="en",
            text=text,
        )
        for i, text in enumerate(texts)
    ]
    version = Version("", "", 1, 0.0)
    for start in track(range(0, n, 2000), "storing chunks"):
        part = range(start, min(start + 2000, n))
        store.put([Written(chunks[i].document, version, [chunks[i]], vectors[i : i + 1]) for i in part])


def by_hand(path: Path, url: str) -> Any:
    """Return a function that asks with httpx and Chroma alone, as short as it can be written."""
    http = httpx.Client(timeout=30)
    settings = chromadb.config.Settings(anonymized_telemetry=False)
    collection = chromadb.PersistentClient(path, settings).get_collection("bench", embedding_function=None)

    def ask(question: str) -> Iterator[str]:
        body = {"model": "m", "input": [question], "encoding_format": "float"}
        vector = http.post(f"{url}/embeddings", json=body).json()["data"][0]["embedding"]
        found = collection.query(query_embeddings=[vector], n_results=30, include=["documents", "metadatas", "distances"])
        documents = found["documents"][0]
        body = {"model": "m", "query": question, "documents": documents, "top_n": 4}
        rows = http.post(f"{url}/rerank", json=body).json()["results"]
        prompt = PROMPT.format("\n".join(documents[row["index"]] for row in rows[:4]), question)
        body = {"model": "m", "stream": True, "messages": [{"role": "user", "content": prompt}]}
        with http.stream("POST", f"{url}/chat/completions", json=body) as stream:
            for line in stream.iter_lines():
                if line.startswith("data: {") and (content := json.loads(line[6:])["choices"][0]["delta"].get("content")):
                    yield content

    return ask


def ours(path: Path, url: str, *, lexical: bool) -> Any:
    """Return a function that asks through the pipeline."""
    models = {f"{stage}_model": "fixed" for stage in ("embedding", "rerank", "chat")}
    place = {"chroma_path": path, "collection": "bench", "lexical": lexical, "lexical_path": path / "lexical"}
    pipeline = Pipeline.open(load_settings(base_url=url, **models, **place))
    return lambda question: pipeline.answer(pipeline.search(question))


def own_ms(ask: Any, question: str) -> float:
    """Return the milliseconds to the first token less the service times."""
    start = time.perf_counter()
    stream = iter(ask(question))
    next(stream)
    first = time.perf_counter() - start
    list(stream)
    return (first - SERVICE) * 1000


def main() -> int:
    """Run the benchmark."""
    n_chunks = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    n_questions = int(sys.argv[2]) if len(sys.argv) > 2 else 120
    rng = random.Random(0)
    words = [f"w{i}" for i in range(20000)]
    weights = [1 / (i + 1) for i in range(20000)]
    texts = [" ".join(rng.choices(words, weights, k=150)) for _ in range(n_chunks)]
    questions = [" ".join(rng.choices(words, weights, k=10)) for _ in range(n_questions + WARM_UP)]
    url = fixed_gateway.start_process()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        fill(path, n_chunks, texts)
        peers = {"by hand": by_hand(path, url)}
        peers |= {name: ours(path, url, lexical=name == "hybrid") for name in LIMITS}
        times: dict[str, list[float]] = {name: [] for name in peers}
        for i, question in enumerate(track(questions, "asking")):
            # In turn, since whoever asks second finds the caches warm.
            for name in (list(peers) * 2)[i % 3 : i % 3 + 3]:
                times[name].append(own_ms(peers[name], question))
    medians = {name: statistics.median(values[WARM_UP:]) for name, values in times.items()}
    for name, median in medians.items():
        print(f"{name:8}  own time to the first token, median of {n_questions}: {median:6.1f} ms")
    ratios = {name: medians[name] / medians["by hand"] for name in LIMITS}
    for name, ratio in ratios.items():
        print(f"{name}: ratio {ratio:.2f}, limit {LIMITS[name]}: {'held' if ratio <= LIMITS[name] else 'BROKEN'}")
    return 0 if all(ratio <= LIMITS[name] for name, ratio in ratios.items()) else 1


if __name__ == "__main__":
    sys.exit(main())
