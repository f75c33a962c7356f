"""What the rerank module takes over a bare httpx post of the same bytes: 50 documents of 1,000 characters.

    python benchmarks/rerank.py [ROUNDS]

Both post to the same server with a fixed service time, in turn. Exit 1 if the medians differ by more than the limit.
"""

import json
import statistics
import sys
import time

import fixed_gateway
import httpx
from pydantic import SecretStr
from rich.progress import track

from rag_app.endpoints.endpoint import Endpoint
from rag_app.endpoints.rerank import Reranker
from rag_app.settings import load_settings
from rag_app.types import Candidate, Ranking

LIMIT_MS = 2.0
DOCUMENTS = 50
CHARACTERS = 1000


def main() -> int:
    """Run the benchmark."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    url = f"{fixed_gateway.start_process()}/rerank"
    candidates = [
        Candidate(
            id=f"{i}",
            document=f"{i}.md",
            title="t",
            headings=(),
            page=None,
            position=0,
            start=0,
            end=1,
            language="en",
            text=f"{i} word " * (CHARACTERS // 7),
            retrieval=Ranking(rank=i + 1, score=1 - i / 100),
        )
        for i in range(DOCUMENTS)
    ]
    reranker = Reranker(Endpoint("RERANK", "rerank", url, "m", SecretStr("k"), timeout=30), load_settings())
    texts = [candidate.text_in_context for candidate in candidates]
    content = json.dumps({"model": "m", "query": "a question", "documents": texts, "top_n": DOCUMENTS}).encode()
    http = httpx.Client(timeout=30)
    bare: list[float] = []
    ours: list[float] = []
    for i in track(range(rounds + 5), "reranking"):
        for own in (True, False) if i % 2 else (False, True):
            start = time.perf_counter()
            if own:
                reranker.rerank("a question", candidates)
            else:
                http.post(url, content=content, headers={"content-type": "application/json"})
            if i >= 5:
                (ours if own else bare).append((time.perf_counter() - start) * 1000)
    more = statistics.median(ours) - statistics.median(bare)
    print(f"bare post {statistics.median(bare):.1f} ms, rerank {statistics.median(ours):.1f} ms, median of {rounds}")
    print(f"{more:.2f} ms more, limit {LIMIT_MS}: {'held' if more <= LIMIT_MS else 'BROKEN'}")
    return 0 if more <= LIMIT_MS else 1


if __name__ == "__main__":
    sys.exit(main())
