"""The mean of the token vectors of multilingual-e5-small, which late interaction takes off: rag_app/builtin/centre.npy.

    python benchmarks/centre.py

Read are the sample corpus's Markdown files and the texts of the page in each language.
"""

import re
from pathlib import Path

import numpy as np
from rich.progress import track

from rag_app.builtin import models

ROOT = Path(__file__).parents[1]
FILE = ROOT / "rag_app" / "builtin" / "centre.npy"


def texts() -> list[list[str]]:
    """Return passages of some 1,000 characters: a list for each language."""
    sources = [[path.read_text("utf-8") for path in sorted((ROOT / "data" / "corpus").rglob("*.md"))]]
    sources += [
        [" ".join(re.findall(r'^(?:msgstr )?"(.+)"$', path.read_text("utf-8"), re.MULTILINE))]
        for path in sorted((ROOT / "rag_app" / "locale").glob("*.po"))
    ]
    return [
        ["passage: " + text[at : at + 1000] for text in source for at in range(0, len(text), 1000)][:200] for source in sources
    ]


def main() -> None:
    """Write the mean of the languages' means."""
    embedder = models.Embedder()
    means = []
    for passages in track(texts(), "reading"):
        encodings = embedder.tokenizer.encode_batch([embedder.normalized(text) for text in passages])
        rows = embedder.run_all(encodings)
        tokens = np.concatenate([row[embedder.n_prefix[1] : len(e.ids) - 1] for row, e in zip(rows, encodings, strict=True)])
        means.append((tokens / np.linalg.norm(tokens, axis=1, keepdims=True)).mean(axis=0))
    np.save(FILE, np.mean(means, axis=0).astype(np.float16))
    print(f"{FILE.relative_to(ROOT)}: length {np.linalg.norm(np.load(FILE).astype(np.float32)):.3f}")


if __name__ == "__main__":
    main()
