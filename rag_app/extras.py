"""Packages that not everybody needs: each extra of pyproject.toml, and the one sentence where it is missing."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from rag_app.errors import RagError
from rag_app.words import Message, msg

Extra = Literal["page", "eval", "files", "builtin"]
# What needs the extra, as the sentence begins.
_NEED: dict[Extra, Message] = {
    "page": msg("The pages need more packages"),
    "eval": msg("Evaluation needs more packages"),
    "files": msg("Reading this kind of file needs more packages"),
    "builtin": msg("The built-in models need more packages (or set RAG_BASE_URL to an endpoint of your own)"),
}


class MissingExtraError(RagError):
    """An extra is not installed; the remedy is the command that installs it."""

    def __init__(self, extra: Extra, who: Message | None = None) -> None:
        super().__init__(who or _NEED[extra], msg('pip install "rag_app[{extra}]"', extra=extra))


@contextmanager
def needs(extra: Extra, who: Message | None = None) -> Iterator[None]:
    """Import packages of an extra within. MissingExtraError if one is not there; `who` begins its sentence in other words."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingExtraError(extra, who) from error
