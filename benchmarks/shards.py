"""Four processes that ingest a part each into one Chroma server, against one process that ingests all.

    python benchmarks/shards.py [CHUNKS]

The embeddings endpoint is slow and answers each process alike, so that neither the server nor this machine is the limit;
there are enough chunks that the start of four processes on two cores, some 15 seconds, is not either.
Wanted: at least three times the rate, and the same documents. Exit 1 if a limit is broken.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import fixed_gateway
from indexing import chroma_server, chunk_texts, write_files
from rich.console import Console

from rag_app.settings import load_settings
from rag_app.store.opening import open_store

LIMIT = 3.0
PARTS = 4
PER_FILE = 5
EMBED = 0.6
console = Console(highlight=False)


def main() -> int:
    """Run the benchmark."""
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 6000
    fixed_gateway.EMBED = EMBED
    url = fixed_gateway.start_process()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        write_files(work / "files", chunk_texts(n), PER_FILE)
        with chroma_server(work / "server") as server:
            given = {"base_url": url, "embedding_model": "fixed", "chroma_url": server}
            given |= {"embedding_batch_size": "16", "embedding_concurrency": "1"}
            kept = {key: value for key, value in os.environ.items() if not key.startswith("RAG_")}
            env = {**kept, **{f"RAG_{key.upper()}": value for key, value in given.items()}}

            def ingest(collection: str, *options: str) -> "subprocess.Popen[str]":
                command = [str(Path(sys.executable).with_name("rag-app")), "ingest", str(work / "files"), *options]
                command += ["--collection", collection]
                quiet = subprocess.DEVNULL
                return subprocess.Popen(command, cwd=work, env=env, text=True, stdout=quiet, stderr=subprocess.PIPE)

            seconds = []
            split = [["--shard", f"{i}/{PARTS}"] for i in range(1, PARTS + 1)]
            for collection, parts in (("one", [list[str]()]), ("four", split)):
                start = time.perf_counter()
                processes = [ingest(collection, *options) for options in parts]
                for process in processes:
                    _, stderr = process.communicate()
                    assert process.returncode == 0, stderr
                seconds.append(time.perf_counter() - start)
                console.print(f"{len(parts)} process(es): {n} chunks in {seconds[-1]:.1f} s, {n / seconds[-1]:.0f} chunks/s")
            stored = []
            for collection in ("one", "four"):
                with open_store(load_settings(**given, collection=collection)) as store:
                    stored.append({d.document: d.chunks for d in store.documents().values() if d.whole})
    assert stored[0] == stored[1], "not the same documents"
    ratio = seconds[0] / seconds[1]
    console.print(f"{ratio:.2f} times the rate (at least {LIMIT}): {'held' if ratio >= LIMIT else 'BROKEN'}")
    return 0 if ratio >= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
