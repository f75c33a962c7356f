"""A million chunks in one folder: how fast they are stored, found and opened again, and in how much memory.

    python benchmarks/million.py store [CHUNKS]    write, open again, ask: 1,000,000 by default (about an hour, 8 GB of disk)
    python benchmarks/million.py files [FILES]     a second run over unchanged files: 50,000 by default

`store` writes through the store itself, 384 dimensions, chunks of 800 characters, 20 a document, vectors around topics as
recall.py makes them. `files` ingests small files as the command does. Exit 1 if a limit is broken.
"""

import argparse
import os
import random
import resource
import socket
import struct
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fixed_gateway
import numpy as np
from indexing import ours
from rich.console import Console

from rag_app.store.kept import KeptStore, alone, connect
from rag_app.store.stored import Version, Written
from rag_app.types import Chunk

RATE, P50, P95, RECALL, GIGABYTES, OPENING, PAGE, UNCHANGED = 0.8, 25.0, 60.0, 0.98, 3.0, 10.0, 1.0, 60.0
PER_DOCUMENT, AT_ONCE, CANDIDATES, QUESTIONS = 20, 50, 50, 100
# Chunks over which a rate is taken, and the size from which it is compared.
WINDOW, FROM = 25_000, 100_000
console = Console(highlight=False)
rng = np.random.default_rng(0)
TOPICS = rng.standard_normal((500, 60), dtype=np.float32)
SPACE = rng.standard_normal((60, 384), dtype=np.float32)
WORDS = [f"word{i}" for i in range(20_000)]


def vectors(n: int) -> Any:
    """Return unit vectors around topics."""
    points = TOPICS[rng.integers(0, 500, n)] + 0.6 * rng.standard_normal((n, 60), dtype=np.float32)
    found = points @ SPACE + 0.5 * rng.standard_normal((n, 384), dtype=np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def name_of(number: int) -> str:
    """Return a document's name: twenty departments of fifty teams each."""
    return f"department{number % 20:02}/team{number % 1000:03}/document{number:06}.md"


def written(number: int) -> Written:
    """Return a document to store."""
    name = name_of(number)
    chunks = [
        Chunk(
            id=f"{name}#{part}",
            document=name,
            title=f"Document {number}",
            headings=(f"Part {part}",),
            page=None,
            position=part,
            start=part * 800,
            end=part * 800 + 800,
            language="en",
            text=" ".join(random.choices(WORDS, k=85)),
        )
        for part in range(PER_DOCUMENT)
    ]
    return Written(name, Version("/files", f"{number:064x}", 800 * PER_DOCUMENT, 1.0), chunks, vectors(PER_DOCUMENT))


def peak_of_keeper(folder: Path) -> float:
    """Return the most memory that a folder's keeper has had, in GB."""
    with connect(folder) as connection, socket.socket(fileno=os.dup(connection.fileno())) as client:
        pid = struct.unpack("3i", client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))[0]
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1e6


def fill(folder: Path, n: int, exact: np.memmap[Any, Any]) -> tuple[float, float]:
    """Store n chunks; return the chunks a second at the size of comparison, and at the end."""
    rates: list[tuple[int, float]] = []
    with KeptStore(folder, "million", create=True).create({"embedding_model": "made"}, 384) as store:
        stored, window, spent = 0, 0, 0.0
        while stored < n:
            first = stored // PER_DOCUMENT
            documents = [written(number) for number in range(first, first + AT_ONCE)]
            exact[stored : stored + AT_ONCE * PER_DOCUMENT] = np.concatenate([w.vectors for w in documents])
            start = time.perf_counter()
            store.put(documents)
            spent += time.perf_counter() - start
            stored += AT_ONCE * PER_DOCUMENT
            window += AT_ONCE * PER_DOCUMENT
            if window == WINDOW:
                rates.append((stored, window / spent))
                console.print(
                    f"{stored:9,} chunks: {rates[-1][1]:5.0f} chunks/s, keeper {peak_of_keeper(folder):.2f} GB at most"
                )
                window, spent = 0, 0.0
    at = [rate for size, rate in rates if FROM - 2 * WINDOW < size <= FROM + 2 * WINDOW] or [rates[0][1]]
    return float(np.median(at)), float(np.median([rate for _, rate in rates[-4:]]))


def timed(times: int, what: Any) -> float:
    """Return the seconds that something takes, the median."""
    took = []
    for _ in range(times):
        start = time.perf_counter()
        what()
        took.append(time.perf_counter() - start)
    return float(np.median(took))


def verdicts(held: list[tuple[str, bool]]) -> int:
    """Print each limit and whether it held; return the exit code."""
    for text, whether in held:
        console.print(f"{text}: {'held' if whether else 'BROKEN'}")
    return 0 if all(whether for _, whether in held) else 1


def store_and_ask(n: int) -> int:
    """Run the benchmark of the store."""
    with tempfile.TemporaryDirectory(dir=".") as name:
        folder = Path(name).resolve() / "chroma"
        exact = np.memmap(Path(name) / "exact", np.float32, "w+", shape=(n, 384))
        early, late = fill(folder, n, exact)
        writer = peak_of_keeper(folder)
        with alone(folder, "the benchmark begins anew"):
            pass
        questions = vectors(QUESTIONS)
        start = time.perf_counter()
        with KeptStore(folder, "million") as store:
            store.nearest(questions[0], CANDIDATES)
            opening = time.perf_counter() - start
            took, hits = [], 0
            for question in questions:
                start = time.perf_counter()
                found = store.nearest(question, CANDIDATES)
                took.append(1000 * (time.perf_counter() - start))
                best = set(np.argpartition(-_similarity(exact, question), CANDIDATES)[:CANDIDATES].tolist())
                hits += len(best & {_number(candidate.id) for candidate in found})
            recall = hits / QUESTIONS / CANDIDATES
            p50, p95 = np.percentile(took, [50, 95])
            one = timed(20, lambda: store.nearest(questions[1], CANDIDATES, [name_of(7)]))
            inside = timed(20, lambda: store.nearest(questions[1], CANDIDATES, ["department03/team123/"]))
            wide = timed(5, lambda: store.nearest(questions[1], CANDIDATES, ["department03/"]))
            pages = {
                "the page Documents": timed(3, store.listing),
                "a folder of it": timed(3, lambda: store.listing("department03/")),
                "a search in it": timed(3, lambda: store.listing(words=["document001234"])),
                "a search that finds all": timed(3, lambda: store.listing(words=["document"])),
            }
            console.print(
                f"in one document {1000 * one:.0f} ms, in a folder {1000 * inside:.0f} ms, in a twentieth {wide:.2f} s"
            )
            reader = peak_of_keeper(folder)
        on_disk = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e9
    console.print(f"{n:,} chunks are {on_disk:.1f} GB on disk")
    return verdicts(
        [
            (
                f"rate at the end {late:.0f} chunks/s, at {FROM:,} {early:.0f}: {late / early:.2f} (at least {RATE})",
                late >= RATE * early,
            ),
            (f"retrieval p50 {p50:.1f} ms (under {P50:.0f})", p50 < P50),
            (f"retrieval p95 {p95:.1f} ms (under {P95:.0f})", p95 < P95),
            (f"recall of {CANDIDATES} candidates {recall:.4f} (at least {RECALL})", recall >= RECALL),
            (
                f"memory of who writes {writer:.2f} GB, of who reads {reader:.2f} GB (under {GIGABYTES})",
                max(writer, reader) < GIGABYTES,
            ),
            (f"opening to the first answer {opening:.1f} s (under {OPENING:.0f})", opening < OPENING),
            *((f"{what} {seconds:.2f} s (under {PAGE:.0f})", seconds < PAGE) for what, seconds in pages.items()),
        ]
    )


def _similarity(exact: np.memmap[Any, Any], question: Any) -> Any:
    return np.concatenate([exact[start : start + 100_000] @ question for start in range(0, len(exact), 100_000)])


def _number(chunk_id: str) -> int:
    document, _, part = chunk_id.partition("#")
    return int(document[-9:-3]) * PER_DOCUMENT + int(part)


def small_files(folder: Path, n: int) -> Iterator[Path]:
    """Write small files, a hundred a folder."""
    for number in range(n):
        path = folder / f"{number // 100:04}" / f"{number:06}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"# File {number}\n\n" + " ".join(random.choices(WORDS, k=60)))
        yield path


def unchanged(n: int) -> int:
    """Run the benchmark of a second run."""
    url = fixed_gateway.start_process()
    with tempfile.TemporaryDirectory(dir=".") as name:
        folder, path = Path(name).resolve() / "files", Path(name).resolve() / "chroma"
        assert sum(1 for _ in small_files(folder, n)) == n
        start = time.perf_counter()
        report = ours(folder, path, "", url)
        console.print(f"first run: {time.perf_counter() - start:.0f} s, {report.chunks.stored:,} chunks")
        memory = []
        for _ in range(2):
            start = time.perf_counter()
            again = ours(folder, path, "", url)
            took = time.perf_counter() - start
            assert again.embedding_requests == 0
            memory.append((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, peak_of_keeper(path)))
            console.print(f"again: {took:.1f} s, {memory[-1][0]:.2f} GB at most, its keeper {memory[-1][1]:.2f} GB")
    return verdicts([(f"an unchanged run over {n:,} files {took:.1f} s (under {UNCHANGED:.0f})", took < UNCHANGED)])


def main() -> int:
    """Run the benchmark that is named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["store", "files"])
    parser.add_argument("n", nargs="?", type=int)
    options = parser.parse_args()
    return unchanged(options.n or 50_000) if options.what == "files" else store_and_ask(options.n or 1_000_000)


if __name__ == "__main__":
    sys.exit(main())
