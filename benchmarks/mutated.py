"""Damaged files: no reader may crash, hang or run away with memory, whatever a file holds.

    python benchmarks/mutated.py FOLDER [N]

Of each format in FOLDER the three smallest files are damaged N times (default 1,000) by the same random numbers: bytes
changed, cut out, doubled, zeroed or the end lost; in ZIPs also inside one member. Each is read and cut in the worker
processes of an ingest. Printed per format: how many gave a document, how many said why not, how many crashed, hung or
ran out of memory, of which the limit is 0. Exit 1 if there is one.
"""

import io
import random
import sys
import tempfile
import time
import zipfile
from collections import Counter, defaultdict
from pathlib import Path

from rich.progress import track

from ingest.chunk import Cutting
from ingest.worker import Limits, Workers, result

LIMITS = Limits(seconds=30)
# Larger ones only take longer.
LARGEST = 1_000_000


def damaged(content: bytes, chance: random.Random) -> bytes:
    """Return bytes with one to five things wrong."""
    body = bytearray(content)
    for _ in range(chance.randint(1, 5)):
        at = chance.randrange(len(body)) if body else 0
        length = min(int(chance.paretovariate(0.6)), 5000)
        match chance.randrange(6):
            case 0:
                body[at : at + length] = chance.randbytes(min(length, len(body) - at))
            case 1:
                del body[at : at + length]
            case 2:
                body[at:at] = body[at : at + length]
            case 3:
                body[at : at + length] = bytes(min(length, len(body) - at))
            case 4 if chance.random() < 0.2:
                del body[at:]
            case _ if body:
                body[at] = chance.choice(b"0123456789<>/\"'&;(){}[]\\\xff\x00-")
    return bytes(body)


def damaged_inside(content: bytes, chance: random.Random) -> bytes:
    """Return a ZIP with one of its members damaged."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as package, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as copy:
        members = package.infolist()
        victim = chance.choice(members)
        for member in members:
            body = package.read(member)
            copy.writestr(member.filename, damaged(body, chance) if member is victim else body)
    return out.getvalue()


def main(folder: Path, n: int) -> int:
    """Damage, read, print, and return the exit code."""
    sources: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(folder.rglob("*"), key=lambda path: path.stat().st_size):
        if path.is_file() and 0 < path.stat().st_size < LARGEST and len(sources[path.suffix.lower()]) < 3:
            sources[path.suffix.lower()].append(path)
    workers, bad = Workers(), 0
    with tempfile.TemporaryDirectory() as temporary:
        for kind, paths in sorted(sources.items()):
            chance = random.Random(kind)
            ends: Counter[str] = Counter()
            reasons: Counter[str] = Counter()
            start, running = time.perf_counter(), []
            for i in track(range(n + 20), f"{kind or 'no name'}"):
                if i < n:
                    content = chance.choice(paths).read_bytes()
                    inside = content.startswith(b"PK\x03\x04") and chance.random() < 0.7
                    path = Path(temporary) / f"{i}{kind}"
                    path.write_bytes((damaged_inside if inside else damaged)(content, chance))
                    running.append((path, workers.submit(path, path.name, Cutting(), LIMITS)))
                if running and (i >= n or len(running) > 20):
                    path, future = running.pop(0)
                    found = result(future, LIMITS)
                    gone = any(word in found.reason for word in ("crashed", "RAG_READ", "it cannot be read"))
                    ends["crashed" if gone else found.state] += 1
                    if gone:
                        bad += 1
                        reasons[found.reason] += 1
                        kept = Path(tempfile.gettempdir()) / f"mutated-{path.name}"
                        path.replace(kept)
                        print(f"  {kept}: {found.reason}")
                    path.unlink(missing_ok=True)
            told = ", ".join(f"{ends[state]} {state}" for state in ("read", "empty", "skipped", "failed", "crashed"))
            print(f"{kind:10} {told}; {time.perf_counter() - start:.0f} s")
    workers.stop()
    return int(bad > 0)


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) == 3 else 1000))
