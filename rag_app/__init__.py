"""Retrieval-augmented generation that shows, measures and never hides what its reranker did.

The names of `__all__` are loaded when they are first used: importing this package alone is quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rag_app.errors import RagError
    from rag_app.pipeline import Pipeline
    from rag_app.settings import Settings, load_settings
    from rag_app.types import Ask, Search

__version__ = "0.1.0"
__all__ = ["Ask", "Pipeline", "RagError", "Search", "Settings", "load_settings"]
_HOMES = {
    "Ask": "types",
    "Pipeline": "pipeline",
    "RagError": "errors",
    "Search": "types",
    "Settings": "settings",
    "load_settings": "settings",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
