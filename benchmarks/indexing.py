"""Speed and memory of ingest, against what its parts allow: embedding overlapped with bare `collection.add`.

    python benchmarks/indexing.py speed [CHUNKS] [--server]   ours / the limit in the same run (at least 0.9), and a second run
    python benchmarks/indexing.py curve [CHUNKS]              time and peak memory as it grows (under 700 MB at 100,000)

Both embed by the same gateway with fixed service times. Ours starts from files, five chunks each, reads and cuts them; the
limit has its chunks in memory. Exit 1 if a limit is broken.
"""

import argparse
import base64
import contextlib
import multiprocessing
import random
import resource
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import chromadb
import fixed_gateway
import httpx
import numpy as np
import orjson
from chromadb.config import Settings as ChromaSettings
from rich.progress import track

from ingest import sync
from ingest.planning import look_through
from ingest.worker import WORKERS
from rag_app.endpoints.opening import open_embeddings
from rag_app.settings import load_settings
from rag_app.store.chroma import ChromaStore
from rag_app.store.opening import open_store
from rag_app.store.stored import Where

SPEED = 0.9
SECOND_RUN = 2.0
MEGABYTES = 700
BATCH = 64
CONCURRENCY = 8
# Chunks a file: of text files that cost little to read, and of small Markdown files.
LONG, SMALL = 100, 5
AT_ONCE = 1000


def chunk_texts(n: int) -> list[str]:
    """Return n texts of 150 words."""
    rng = random.Random(0)
    words = [f"w{i}" for i in range(20000)]
    weights = [1 / (i + 1) for i in range(20000)]
    return [" ".join(rng.choices(words, weights, k=150)) for _ in track(range(n), "writing texts")]


def write_files(folder: Path, texts: list[str], per_file: int) -> None:
    """Write files so that each text becomes a chunk: long ones as text, small ones as Markdown with a section each."""
    folder.mkdir()
    for number, start in enumerate(range(0, len(texts), per_file)):
        part = texts[start : start + per_file]
        if per_file == SMALL:
            sections = "\n".join(f"## Part {i}\n\n{text}\n" for i, text in enumerate(part))
            (folder / f"f{number:06}.md").write_text(f"# File {number}\n\n{sections}")
        else:
            (folder / f"f{number:06}.txt").write_text("\n\n".join(part))


def limit(texts: list[str], chroma: Any, url: str) -> float:
    """Return the seconds that embedding, eight requests at once, and adding a thousand chunks at a time take side by side."""
    collection = chroma.create_collection("limit", embedding_function=None, configuration={"hnsw": {"space": "cosine"}})
    http = httpx.Client(timeout=60)

    def embed(start: int) -> tuple[int, list[Any]]:
        body = {"model": "m", "input": texts[start : start + BATCH], "encoding_format": "base64"}
        rows = orjson.loads(http.post(f"{url}/embeddings", json=body).content)["data"]
        return start, [np.frombuffer(base64.b64decode(row["embedding"]), np.float32) for row in rows]

    def add(batches: list[tuple[int, list[Any]]]) -> None:
        rows = [i for start, vectors in batches for i in range(start, start + len(vectors))]
        collection.add(
            ids=[str(i) for i in rows],
            embeddings=np.stack([vector for _, vectors in batches for vector in vectors]),
            documents=[texts[i] for i in rows],
            metadatas=[{"source": f"f{i // SMALL}.md", "n": i % SMALL} for i in rows],
        )

    start = time.perf_counter()
    with ThreadPoolExecutor(CONCURRENCY) as embedders, ThreadPoolExecutor(1) as writer:
        held: list[tuple[int, list[Any]]] = []
        writes = []
        for batch in embedders.map(embed, range(0, len(texts), BATCH)):
            held.append(batch)
            if sum(len(vectors) for _, vectors in held) >= AT_ONCE:
                writes.append(writer.submit(add, held))
                held = []
        add(held) if not writes else writes.append(writer.submit(add, held))
        for write in writes:
            write.result()
    seconds = time.perf_counter() - start
    assert collection.count() == len(texts)
    return seconds


def ours(folder: Path, path: Path, chroma_url: str, url: str) -> sync.Report:
    """Ingest a folder as the command does; return its report."""
    settings = load_settings(
        base_url=url, embedding_model="fixed", embedding_batch_size=BATCH, embedding_concurrency=CONCURRENCY
    )
    settings = settings.model_copy(update={"chroma_path": path, "chroma_url": chroma_url, "collection": "ours"})
    store = open_store(settings, create=True)
    return sync.ingest(look_through([folder], store), store, open_embeddings(settings), *sync.cutting_and_limits(settings))


@contextlib.contextmanager
def chroma_server(folder: Path) -> Iterator[str]:
    """A real `chroma run` server; its URL."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [str(Path(sys.executable).with_name("chroma")), "run", "--path", str(folder), "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        while True:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
        server.terminate()


def speed(n: int, server: bool) -> int:
    """Print both times, their ratio and the time of a second run; return the exit code."""
    texts = chunk_texts(n)
    url = fixed_gateway.start_process()
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        write_files(folder / "long", texts, LONG)
        write_files(folder / "small", texts, SMALL)
        address = stack.enter_context(chroma_server(folder / "server")) if server else ""
        settings = ChromaSettings(anonymized_telemetry=False)
        host, _, port = address.rpartition("//")[2].partition(":")
        client: Any = (
            chromadb.HttpClient(host=host, port=int(port), settings=settings)
            if server
            else chromadb.PersistentClient(folder / "limit", settings)
        )
        ratios = []
        # A first file starts the worker processes, which is start-up.
        warm_up = folder / "warm-up"
        write_files(warm_up, texts[:SMALL], SMALL)
        ours(warm_up, folder / "warm", "", url)
        ratios: dict[str, list[float]] = {"long": [], "small": []}
        for turn in range(3):
            bare = limit(texts, client, url)
            client.delete_collection("limit")
            print(f"{n} chunks: limit {bare:.2f} s", end="")
            for kind in ratios:
                path = folder / f"{kind}{turn}"
                report = ours(folder / kind, path, address, url)
                assert report.chunks.stored == n, report
                ratios[kind].append(bare / report.seconds)
                print(f", {kind} files {report.seconds:.2f} s ({ratios[kind][-1]:.2f})", end="", flush=True)
                again = ours(folder / kind, path, address, url)
                assert again.embedding_requests == 0
                if server:
                    ChromaStore(Where(folder, address), "ours").drop()
            print()
    ratio = sorted(ratios["long"])[1]
    held = ratio >= SPEED and again.seconds <= SECOND_RUN
    print(f"from {n // LONG} text files {ratio:.2f} of the limit, median of 3; at least {SPEED} wanted")
    print(f"from {n // SMALL} Markdown files, whose reading takes a core, {sorted(ratios['small'])[1]:.2f}")
    print(f"second run over {n // SMALL} unchanged files: {again.seconds:.2f} s; at most {SECOND_RUN} wanted")
    print("held" if held else "BROKEN")
    return 0 if held else 1


def curve(n: int) -> int:
    """Print time and peak memory of a process that ingests, as the collection grows; return the exit code."""
    texts = chunk_texts(min(n, 20_000))
    url = fixed_gateway.start_process()
    peak = 0.0
    with tempfile.TemporaryDirectory() as name:
        folder, stored = Path(name), 0
        for part in range(10):
            files = folder / f"part{part}"
            step = n // 10
            write_files(files, [f"{part} {texts[i % len(texts)]} {i}" for i in range(step)], LONG)
            here, there = multiprocessing.get_context("spawn").Pipe()
            process = multiprocessing.get_context("spawn").Process(target=measured, args=(there, files, folder / "chroma", url))
            process.start()
            seconds, megabytes = here.recv()
            process.join()
            stored += step
            peak = max(peak, megabytes)
            print(f"{stored:7} chunks: {step / seconds:6.0f} chunks/s, peak {megabytes:4.0f} MB", flush=True)
    limited = n == 100_000
    print(f"peak {peak:.0f} MB" + (f", limit {MEGABYTES}: {'held' if peak < MEGABYTES else 'BROKEN'}" if limited else ""))
    return 1 if limited and peak >= MEGABYTES else 0


def measured(connection: Any, files: Path, path: Path, url: str) -> None:
    """Ingest in a process of its own and send its seconds and its peak memory in MB."""
    report = ours(files, path, "", url)
    # A child of multiprocessing waits for its own children without end.
    WORKERS.stop()
    connection.send((report.seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))


def main() -> int:
    """Run the benchmark that is named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["speed", "curve"])
    parser.add_argument("chunks", nargs="?", type=int)
    parser.add_argument("--server", action="store_true", help="into a real `chroma run` server")
    options = parser.parse_args()
    if options.what == "curve":
        return curve(options.chunks or 100_000)
    return speed(options.chunks or 10_000, options.server)


if __name__ == "__main__":
    sys.exit(main())
