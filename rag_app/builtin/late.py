"""Late interaction: passages scored by the vectors of their tokens (ColBERT, Khattab & Zaharia 2020).

The model that embeds gives a vector for each token on the way. They are kept when a corpus is embedded, so that reranking runs
the model on the question alone.
"""

import hashlib
import logging
import sqlite3
import threading
from collections.abc import Mapping, Sequence
from contextlib import closing
from importlib.resources import files
from pathlib import Path

import numpy as np

log = logging.getLogger(__name__)
# The mean of the tokens' vectors, which all share; benchmarks/centre.py makes it.
_CENTRE = np.load(str(files("rag_app.builtin") / "centre.npy")).astype(np.float32)
# A number of a centred vector is kept in two bits: its sign, and whether it is large. Where that begins, and what is read back,
# lose least of a normal distribution (Max 1960); in units of its standard deviation.
_LARGE = 0.9816
_LEVELS = np.array([-0.4528, -1.510, 0.4528, 1.510], dtype=np.float32)
_FOUR = _LEVELS[(np.arange(256)[:, np.newaxis] >> np.array([6, 4, 2, 0])) & 3]
# A piece of a word weighs minus its log-probability less this, at least a little: what every text holds says nothing.
_COMMON, _LEAST = 4.0, 0.05
# Another name when the same text has other vectors.
_FILE = "tokens-1.sqlite3"
# Bytes of token vectors that are kept; the oldest go first.
_MOST = 2_000_000_000


def weight_of(log_probability: float) -> float:
    """Return how much a piece of a question counts: the rarer in the tokenizer's own corpus, the more."""
    return max(-log_probability - _COMMON, _LEAST)


def centred(vectors: np.ndarray) -> np.ndarray:
    """Return vectors of tokens, shape (tokens, width), without what all have in common, at unit length."""
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    apart = unit - _CENTRE
    unit_again: np.ndarray = apart / np.maximum(np.linalg.norm(apart, axis=1, keepdims=True), 1e-12)
    return unit_again


def coded(vectors: np.ndarray) -> bytes:
    """Return the vectors of a passage's tokens, shape (tokens, width), in width / 4 bytes each."""
    numbers = centred(vectors) * np.sqrt(vectors.shape[1])
    two = ((numbers > 0) * 2 + (np.abs(numbers) > _LARGE)).astype(np.uint8).reshape(len(vectors), -1, 4)
    packed: np.ndarray = two[..., 0] << 6 | two[..., 1] << 4 | two[..., 2] << 2 | two[..., 3]
    return packed.tobytes()


def score(question: np.ndarray, weights: np.ndarray, passage: bytes) -> float:
    """Return the mean over a question's tokens, weighted, of the highest cosine with a token of the passage: MaxSim.

    `question` are its centred vectors, shape (tokens, width); a passage without tokens scores -1.
    """
    tokens = _FOUR[np.frombuffer(passage, np.uint8)].reshape(-1, question.shape[1])
    if not len(tokens) or not len(question):
        return -1.0
    cosines = (question @ tokens.T) / np.linalg.norm(tokens, axis=1)
    return float(cosines.max(axis=1) @ weights / weights.sum())


class KeptTokens:
    """Token vectors of passages by the sha256 of their text, in a file that may be deleted at any time."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / _FILE
        self._writing = threading.Lock()

    def get(self, texts: Sequence[str]) -> dict[str, bytes]:
        """Return those that are kept."""
        keys = {_key(text): text for text in texts}
        if not self.path.exists():
            return {}
        try:
            with closing(self._open()) as database:
                marks = ",".join("?" * len(keys))
                rows = database.execute(f"SELECT key, codes FROM kept WHERE key IN ({marks})", list(keys)).fetchall()  # noqa: S608
        except sqlite3.Error as error:
            self._forget(error)
            return {}
        return {keys[key]: codes for key, codes in rows}

    def put(self, passages: Mapping[str, bytes]) -> None:
        """Keep the token vectors of texts."""
        with self._writing:
            try:
                with closing(self._open()) as database, database:
                    rows = [(_key(text), codes) for text, codes in passages.items()]
                    database.executemany("INSERT OR IGNORE INTO kept (key, codes) VALUES (?, ?)", rows)
                    pages, free, size = (
                        database.execute(f"PRAGMA {what}").fetchone()[0]
                        for what in ("page_count", "freelist_count", "page_size")
                    )
                    if (pages - free) * size > _MOST:
                        database.execute("DELETE FROM kept WHERE n < (SELECT min(n) + count(*) / 10 FROM kept)")
            except (sqlite3.Error, OSError) as error:
                self._forget(error)

    def remove(self) -> None:
        """Delete them all; what is asked for next is computed."""
        for path in (self.path, *(self.path.with_name(f"{self.path.name}{end}") for end in ("-wal", "-shm"))):
            path.unlink(missing_ok=True)

    def _open(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        database = sqlite3.connect(self.path, timeout=30)
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = OFF")
        database.execute("CREATE TABLE IF NOT EXISTS kept (n INTEGER PRIMARY KEY, key BLOB UNIQUE, codes BLOB)")
        return database

    def _forget(self, error: Exception) -> None:
        """Start anew where the file is spoilt; where it cannot be written to, nothing is kept."""
        log.warning("token vectors are not kept in %s (%s)", self.path, error)
        if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError):
            self.remove()


def _key(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
