"""What a chunker makes of retrieval: how much of the asked-for text comes back, and how much else with it.

    python benchmarks/chunking.py FOLDER [--chunkers fixed recursive ours] [--sizes 500 1000 1500] [--overlaps 0 0.2]

FOLDER holds corpora/*.md and queries.jsonl: questions, each with the exact excerpts that answer it, as character offsets
into one document. Every chunker cuts all the documents, the built-in model embeds chunks and questions, and each question
takes its 5 nearest chunks (exact cosine) of all documents.

Recall, precision, IoU and Precision_Ω as Smith & Troynikov 2024 ("Evaluating Chunking Strategies for Retrieval", Chroma)
define them and as their code, brandonstarxel/chunking_evaluation, computes them: over characters, averaged over questions.

- found: characters of the excerpts that the chunks cover, each counted once
- recall = found / excerpts
- precision = found / read, where read is the length of all 5 chunks: characters in two chunks count twice
- IoU = found / (read + excerpts not found)
- Precision_Ω: the IoU of all chunks that touch an excerpt, overlaps counted once; no retrieval, what cutting alone costs

Five long chunks hold more than five short ones, so "recall in 5,000" gives all chunkers the same reading: chunks in rank
order up to 5,000 characters, the last one counted for the share of it that still fits.

Differences are to recursive splitting of the same size without overlap, with 95% intervals (paired bootstrap over
questions, 10,000 draws). The documents are read as plain text and chunks embedded bare: what headings add to a chunk is not
measured. The table is Markdown.
"""

import argparse
import hashlib
import json
import re
import sqlite3
import tempfile
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
from rich.box import MARKDOWN
from rich.console import Console
from rich.progress import track
from rich.table import Table

from ingest.chunk import Cutting, chunks, text_of
from ingest.readers.load import read
from rag_app import builtin
from rag_app.builtin.models import EnglishEmbedder

Span = tuple[int, int]
Chunker = Callable[[str, str, int, int], list[Span]]
TOP = 5
BUDGET = 5000
# Smith & Troynikov's, but a piece keeps the separator at its end: theirs begins the next piece with the full stop.
SEPARATORS = ("\n\n", "\n", ".", "?", "!", " ", "")
METRICS = (f"recall @{TOP}", "precision", "IoU", "Precision_Ω", f"recall in {BUDGET:,}")


def fixed(name: str, text: str, size: int, overlap: int) -> list[Span]:
    """Cut every so many characters."""
    return [(start, min(start + size, len(text))) for start in range(0, max(len(text) - overlap, 1), size - overlap)]


def recursive(name: str, text: str, size: int, overlap: int) -> list[Span]:
    """Cut at the coarsest separator that will do, as LangChain's RecursiveCharacterTextSplitter."""

    def split(start: int, end: int, separators: tuple[str, ...]) -> Iterator[Span]:
        while separators[0] not in text[start:end]:
            separators = separators[1:]
        found = re.finditer(re.escape(separators[0]), text[start:end])
        run = [start]
        for a, b in pairwise(sorted({start, *(start + match.end() for match in found), end})):
            if b - a < size:
                run.append(b)
                continue
            yield from merged(run)
            yield from split(a, b, separators[1:])
            run = [b]
        yield from merged(run)

    def merged(cuts: list[int]) -> Iterator[Span]:
        first = 0
        for last in range(1, len(cuts)):
            if cuts[last] - cuts[first] > size:
                yield cuts[first], cuts[last - 1]
                while cuts[last - 1] - cuts[first] > overlap or cuts[last] - cuts[first] > size:
                    first += 1
        if len(cuts) > 1:
            yield cuts[first], cuts[-1]

    return [span for span in (stripped(text, *span) for span in split(0, len(text), SEPARATORS)) if span[0] < span[1]]


def stripped(text: str, start: int, end: int) -> Span:
    """Return the span without white space at its ends."""
    piece = text[start:end]
    return end - len(piece.lstrip()), start + len(piece.rstrip())


def ours(name: str, text: str, size: int, overlap: int) -> list[Span]:
    """Cut as the app does, the document read as plain text."""
    document = read(Path(f"{name}.txt"), text.encode())
    whole = text_of(document)
    assert text.split() == whole.split(), f"reading {name} changed more than white space"
    places, known = solid(text), solid(whole)
    cut = chunks(name, document, Cutting(size, overlap))
    return [(places[bisect_left(known, c.start)], places[bisect_left(known, c.end) - 1] + 1) for c in cut]


def solid(text: str) -> list[int]:
    """Return the offsets of all characters but white space: the same character has the same index in both texts."""
    return [i for i, character in enumerate(text) if not character.isspace()]


# A chunker takes a document's name and text, a size and an overlap in characters, and returns spans of the text.
CHUNKERS: dict[str, Chunker] = {"fixed": fixed, "recursive": recursive, "ours": ours}


def vectors(texts: list[str], embedder: EnglishEmbedder, cache: sqlite3.Connection, label: str) -> np.ndarray:
    """Return one unit vector per text, in the order given; those not in the cache are embedded and put there."""
    keys = [hashlib.sha256(f"{embedder.name}\0{text}".encode()).digest() for text in texts]
    known = {key for (key,) in cache.execute("SELECT key FROM vector")}
    missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in known}
    todo = sorted(missing.items(), key=lambda item: len(item[1]))
    for start in track(range(0, len(todo), 32), label, console=Console(stderr=True), transient=True):
        batch = todo[start : start + 32]
        rows = embedder.embed([text for _, text in batch])[0]
        with cache:
            pairs = [(key, row.tobytes()) for (key, _), row in zip(batch, rows, strict=True)]
            cache.executemany("INSERT OR IGNORE INTO vector VALUES (?, ?)", pairs)
    find = "SELECT vector FROM vector WHERE key = ?"
    return np.array([np.frombuffer(cache.execute(find, (key,)).fetchone()[0], dtype=np.float32) for key in keys])


def union(spans: Iterable[Span]) -> int:
    """Return the number of characters in any of the spans."""
    total = reached = 0
    for start, end in sorted(spans):
        total += max(0, end - max(start, reached))
        reached = max(reached, end)
    return total


def common(spans: list[Span], excerpts: list[Span]) -> int:
    """Return the number of characters of the excerpts that the spans cover."""
    return union((max(a, c), min(b, d)) for a, b in spans for c, d in excerpts if max(a, c) < min(b, d))


def scores(document: str, excerpts: list[Span], ranked: list[tuple[str, Span]], spans: list[Span]) -> list[float]:
    """Return METRICS for one question; `spans` are all chunks of its document. Its excerpts must not overlap."""
    wanted = union(excerpts)
    found = [0]
    read = [0]
    for rank, (_, (start, end)) in enumerate(ranked, 1):
        found.append(common([span for name, span in ranked[:rank] if name == document], excerpts))
        read.append(read[-1] + end - start)
        if rank >= TOP and read[-1] >= BUDGET:
            break
    within = float(np.interp(BUDGET, read, found))
    touching = [(a, b) for a, b in spans if any(a <= d and c <= b for c, d in excerpts)]
    cut = common(touching, excerpts)
    return [
        found[TOP] / wanted,
        found[TOP] / read[TOP],
        found[TOP] / (read[TOP] + wanted - found[TOP]),
        cut / (union(touching) + wanted - cut),
        within / wanted,
    ]


def difference(ours: np.ndarray, theirs: np.ndarray) -> str:
    """Return the mean difference with its 95% interval, paired bootstrap over questions."""
    per_question = ours - theirs
    if not per_question.any():
        return ""
    draws = np.random.default_rng(0).integers(len(per_question), size=(10_000, len(per_question)))
    low, high = np.quantile(per_question[draws].mean(axis=1), (0.025, 0.975))
    return f"{per_question.mean():+.3f} ({low:+.3f} to {high:+.3f})"


def main() -> None:
    """Run the benchmark and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--chunkers", nargs="+", choices=CHUNKERS, default=list(CHUNKERS))
    parser.add_argument("--sizes", nargs="+", type=int, default=[500, 1000, 1500], help="characters")
    parser.add_argument("--overlaps", nargs="+", type=float, default=[0, 0.2], help="shares of the size")
    parser.add_argument("--documents", nargs="+", help="these alone, by name without .md")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir(), "chunk-cache"), help="a folder for vectors")
    options = parser.parse_args()

    texts = {path.stem: path.read_text("utf-8") for path in sorted((options.folder / "corpora").glob("*.md"))}
    texts = {name: text for name, text in texts.items() if name in (options.documents or texts)}
    questions = [json.loads(line) for line in (options.folder / "queries.jsonl").open(encoding="utf-8")]
    questions = [question for question in questions if question["document"] in texts]
    options.cache.mkdir(parents=True, exist_ok=True)
    cache = sqlite3.connect(options.cache / "vectors.sqlite", timeout=60)
    cache.execute("CREATE TABLE IF NOT EXISTS vector (key BLOB PRIMARY KEY, vector BLOB) WITHOUT ROWID")
    embedder = EnglishEmbedder()
    asked = vectors(
        [builtin.PREFIXES[builtin.BGE][0] + question["text"] for question in questions], embedder, cache, "questions"
    )

    def measure(name: str, size: int, share: float) -> tuple[list[int], np.ndarray]:
        """Return the lengths of the chunks and METRICS by question."""
        spans = {document: CHUNKERS[name](document, text, size, int(size * share)) for document, text in texts.items()}
        placed = [(document, span) for document in spans for span in spans[document]]
        label = f"{name} {size} {share:.0%}"
        embedded = vectors([texts[document][a:b] for document, (a, b) in placed], embedder, cache, label)
        rows = []
        for question, similarities in zip(questions, asked @ embedded.T, strict=True):
            ranked = [placed[i] for i in np.argsort(-similarities, kind="stable")]
            excerpts = [(excerpt["start"], excerpt["end"]) for excerpt in question["excerpts"]]
            rows.append(scores(question["document"], excerpts, ranked, spans[question["document"]]))
        return [end - start for _, (start, end) in placed], np.array(rows)

    differ = {i: f"Δ {METRICS[i]}" for i in (0, 2, 4)}
    table = Table("chunker", "size", "overlap", "chunks", "mean", *METRICS, *differ.values(), box=MARKDOWN)
    for size in options.sizes:
        baseline = measure("recursive", size, 0)[1]
        for name in options.chunkers:
            for share in options.overlaps:
                lengths, rows = measure(name, size, share)
                means = [f"{mean:.3f}" for mean in rows.mean(axis=0)]
                changes = [difference(rows[:, i], baseline[:, i]) for i in differ]
                setting = (name, str(size), f"{share:.0%}", f"{len(lengths):,}", f"{np.mean(lengths):,.0f}")
                table.add_row(*setting, *means, *changes)
    Console(width=300).print(table)


if __name__ == "__main__":
    main()
