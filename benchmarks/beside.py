"""Questions beside an ingest that rewrites a tenth of the collection, over and over, against the same questions alone.

    python benchmarks/beside.py [CHUNKS] [--seconds 60] [--rate 1] [--kills 40] [--server]

Half of the questions are limited to one document, and must find all its chunks in one version; the others must find as many
candidates as were asked for, none twice. Wanted: no error, no half document, and at the 95th percentile a question takes at
most twice its time alone. With --kills the ingests are killed at random moments, each until it is completed by the next. The
embeddings and rerank endpoints have fixed service times. Exit 1 if a limit is broken.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import fixed_gateway
import numpy as np
from indexing import chroma_server
from rich.console import Console

from rag_app.errors import RagError
from rag_app.pipeline import Pipeline
from rag_app.settings import Settings, load_settings

LIMIT = 2.0
PER_DOCUMENT = 20
CANDIDATES = 30
console = Console(highlight=False)


def write(folder: Path, number: int, version: int) -> None:
    """Write a document of which each chunk tells its place and version."""
    rng = random.Random(number * 1000 + version)
    parts = [
        f"## Part {part}\n\nDocument {number} part {part} version {version}. "
        + " ".join(f"w{rng.randrange(5000)}" for _ in range(100))
        for part in range(PER_DOCUMENT)
    ]
    (folder / f"f{number % 10}").mkdir(exist_ok=True)
    (folder / f"f{number % 10}" / f"d{number}.md").write_text(f"# D{number}\n\n" + "\n\n".join(parts))


class Asker(threading.Thread):
    """Asks at a rate, and keeps how long it took and what was wrong."""

    def __init__(self, settings: Settings, documents: int, rate: float) -> None:
        super().__init__()
        self.settings, self.documents, self.rate = settings, documents, rate
        self.ended = threading.Event()
        self.total: list[float] = []
        self.retrieve: list[float] = []
        self.wrong: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()

    def run(self) -> None:
        rng = random.Random(0)
        with Pipeline.open(self.settings) as pipeline:
            pipeline.search("warm up")
            n = 0
            while not self.ended.wait(1 / self.rate):
                n += 1
                number = rng.randrange(self.documents)
                only = [f"f{number % 10}/d{number}.md"] if n % 2 else []
                try:
                    found = pipeline.search(f"question {n}", only=only)
                except RagError as error:
                    self.errors[str(error)[:200]] += 1
                    continue
                self.total.append(found.ms.total)
                self.retrieve.append(found.ms.retrieve)
                self._check(found.candidates, whole=bool(only))

    def _check(self, candidates: Any, *, whole: bool) -> None:
        versions: dict[str, set[str]] = {}
        for c in candidates:
            versions.setdefault(c.document, set()).add(c.text.partition(" version ")[2].partition(".")[0])
        self.wrong["two versions"] += any(len(found) > 1 for found in versions.values())
        self.wrong["a chunk twice"] += len({c.id for c in candidates}) != len(candidates)
        self.wrong["not all chunks"] += len(candidates) != (PER_DOCUMENT if whole else CANDIDATES)


def asked(settings: Settings, documents: int, rate: float, seconds: float, beside: Any = None) -> Asker:
    """Ask for a while, or as long as something takes."""
    asker = Asker(settings, documents, rate)
    asker.start()
    time.sleep(1)
    if beside:
        beside()
    else:
        time.sleep(seconds)
    asker.ended.set()
    asker.join()
    return asker


def memory_and_files(folder: Path) -> tuple[float, int]:
    """Return the MB and the open files of the process that has the folder open."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes()
            if str(folder).encode() in command and (b"keeper" in command or b"\0run\0" in command):
                resident = next(line for line in (process / "status").read_text().splitlines() if line.startswith("VmRSS"))
                return int(resident.split()[1]) / 1024, len(list((process / "fd").iterdir()))
        except (OSError, StopIteration):
            continue
    return 0.0, 0


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("chunks", nargs="?", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--rate", type=float, default=1.0, help="questions a second")
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--server", action="store_true", help="with a real `chroma run` server")
    options = parser.parse_args()
    documents = options.chunks // PER_DOCUMENT
    rng = random.Random(0)
    url = fixed_gateway.start_process()
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        work = Path(name)
        chroma = work / "chroma"
        corpus = work / "files"
        corpus.mkdir()
        for number in range(documents):
            write(corpus, number, 0)
        given = {"base_url": url, "embedding_model": "fixed", "rerank_model": "fixed", "chat_model": "fixed"}
        given |= {"chroma_path": str(chroma), "n_candidates": str(CANDIDATES), "collection": "beside"}
        if options.server:
            given["chroma_url"] = stack.enter_context(chroma_server(chroma))
        settings = load_settings(**given)
        kept = {key: value for key, value in os.environ.items() if not key.startswith("RAG_")}
        env = {**kept, **{f"RAG_{key.upper()}": value for key, value in given.items()}}

        def ingest() -> "subprocess.Popen[str]":
            command = [str(Path(sys.executable).with_name("rag-app")), "ingest", str(corpus)]
            return subprocess.Popen(command, cwd=work, env=env, text=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

        def completed() -> None:
            with ingest() as process:
                _, stderr = process.communicate()
            assert process.returncode == 0, stderr

        start = time.perf_counter()
        completed()
        console.print(f"{documents} documents, {options.chunks} chunks stored in {time.perf_counter() - start:.1f} s")
        runs = Counter[str]()

        def rewriting() -> None:
            until = time.monotonic() + options.seconds
            while time.monotonic() < until or runs["killed"] < options.kills:
                version = runs.total() + 1
                for number in rng.sample(range(documents), documents // 10):
                    write(corpus, number, version)
                if runs["killed"] < options.kills:
                    with ingest() as process:
                        time.sleep(rng.uniform(0.5, 4.0))
                        process.send_signal(signal.SIGKILL)
                        process.communicate()
                    runs["killed"] += 1
                else:
                    completed()
                    runs["completed"] += 1

        quiet = asked(settings, documents, max(options.rate, 4), min(options.seconds, 30))
        before = memory_and_files(chroma)
        beside = asked(settings, documents, options.rate, options.seconds, rewriting)
        after = memory_and_files(chroma)
        completed()
    for what, times in (("question", "total"), ("retrieval", "retrieve")):
        for asker, when in ((quiet, "alone"), (beside, "beside")):
            p50, p95, most = np.percentile(getattr(asker, times), [50, 95, 100])
            console.print(f"{what:9} {when:6}: p50 {p50:6.1f} ms, p95 {p95:6.1f} ms, longest {most:6.0f} ms")
    console.print(f"ingests beside: {dict(runs)}; questions: {len(beside.total)}; answers not whole: {dict(+beside.wrong)}")
    console.print(f"memory {before[0]:.0f} → {after[0]:.0f} MB, open files {before[1]} → {after[1]}")
    for error, n in beside.errors.items():
        console.print(f"{n} × {error}", markup=False)
    ratio = float(np.percentile(beside.total, 95) / np.percentile(quiet.total, 95))
    held = not beside.errors and not +beside.wrong and not +quiet.wrong and ratio <= LIMIT
    console.print(f"errors {beside.errors.total()}, p95 ratio {ratio:.2f} (at most {LIMIT}): {'held' if held else 'BROKEN'}")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
