"""Ingest killed at random moments, again and again: the store must end as a run that never failed would have left it.

    python benchmarks/kills.py [KILLS]

Between kills files are added, changed, moved, copied and deleted. After every ten kills one run goes to its end, and its store
is compared with one made afresh: same documents, chunks, texts, order, and vectors. Exit 1 if anything is lost or twice.
"""

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import fixed_gateway
import numpy as np
from rich.progress import track

from rag_app.store.kept import KeptStore

EVERY = 10


def change(folder: Path, rng: random.Random) -> None:
    """Do one thing to the files that people do."""
    files = sorted(folder.rglob("*.md"))
    what = rng.choice(["add", "add", "change", "move", "copy", "delete"]) if len(files) > 20 else "add"
    file = rng.choice(files) if files else folder
    new = folder / f"d{rng.randrange(5)}" / f"{rng.randrange(10**9)}.md"
    new.parent.mkdir(exist_ok=True)
    if what == "add":
        new.write_text(f"# Title {new.stem}\n\n" + "\n\n".join(paragraph(rng) for _ in range(rng.randint(1, 30))))
    elif what == "change":
        parts = file.read_text().split("\n\n")
        parts[rng.randrange(1, len(parts))] = paragraph(rng)
        file.write_text("\n\n".join(parts))
    elif what == "move":
        file.rename(new)
    elif what == "copy":
        new.write_bytes(file.read_bytes())
    else:
        file.unlink()


def paragraph(rng: random.Random) -> str:
    """Return about 600 characters."""
    return " ".join(f"word{rng.randrange(5000)}" for _ in range(70)) + "."


def content(path: Path, name: str) -> dict[tuple[str, int], Any]:
    """Return what is stored: (document, position) → text, place in the text, and vector. Nothing may be there twice."""
    store = KeptStore(path, name)
    found: dict[tuple[str, int], Any] = {}
    for document in store.documents().values():
        assert document.whole, f"{document.document} is not whole"
        for chunk, vector in store.chunks_of(document.document):
            key = document.document, chunk.position
            assert key not in found, f"{key} is stored twice"
            found[key] = (chunk.id, chunk.text, chunk.start, vector / np.linalg.norm(vector))
    assert store.count() == len(found), f"{store.count()} chunks stored, {len(found)} belong to documents"
    return found


def main() -> int:
    """Run the benchmark."""
    kills = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    rng = random.Random(int(sys.argv[2]) if len(sys.argv) > 2 else 0)
    fixed_gateway.EMBED = 0.02
    url = fixed_gateway.start_process()
    done = 0
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        folder = work / "files"
        folder.mkdir()
        for _ in range(60):
            change(folder, rng)
        env = {
            **{key: value for key, value in os.environ.items() if not key.startswith("RAG_")},
            "PYTHONPATH": str(Path(__file__).parents[1]),
            "RAG_BASE_URL": url,
            "RAG_EMBEDDING_MODEL": "fixed",
            "RAG_EMBEDDING_BATCH_SIZE": "8",
        }

        def command(collection: str) -> "subprocess.Popen[str]":
            command = [str(Path(sys.executable).with_name("rag-app")), "ingest", str(folder), "--collection", collection]
            pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
            return subprocess.Popen(command, cwd=work, env=env, **pipes)

        for kill in track(range(1, kills + 1), "killing"):
            for _ in range(rng.randrange(6)):
                change(folder, rng)
            with command("killed") as process:
                # From the start of Python to about the end of the work.
                time.sleep(rng.uniform(0.3, 4.0))
                done += process.poll() is not None
                process.send_signal(signal.SIGKILL)
                process.communicate()
            if kill % EVERY == 0:
                for collection in ("killed", f"fresh{kill}"):
                    with command(collection) as process:
                        _, stderr = process.communicate()
                    assert process.returncode == 0, stderr
                killed, fresh = content(work / "data/chroma", "killed"), content(work / "data/chroma", f"fresh{kill}")
                differ = [key for key in killed.keys() | fresh.keys() if killed.get(key, [])[:3] != fresh.get(key, [])[:3]]
                assert not differ, f"after {kill} kills {len(differ)} chunks differ: {sorted(differ)[:5]}"
                assert all(np.allclose(killed[key][3], fresh[key][3], atol=1e-5) for key in killed), "vectors differ"
    print(f"{kills} kills ({done} came after the end): nothing lost, nothing twice")
    return 0


if __name__ == "__main__":
    sys.exit(main())
