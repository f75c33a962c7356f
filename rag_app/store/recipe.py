"""The recipe of a collection: what its vectors were made with. Questions and new chunks must be made the same way."""

from collections.abc import Mapping

from rag_app.errors import RagError
from rag_app.words import Message, joined, msg


class RecipeError(RagError):
    """The collection was made with another model or other settings than those in use."""


def check_recipe(collection: str, recipe: Mapping[str, str], wanted: Mapping[str, str]) -> None:
    """RecipeError, which names what differs, unless a collection's recipe has everything that is wanted; "" is nothing."""
    differs: list[Message] = [
        msg("{part} {old!r}, not {wanted!r}", part=part.replace("_", " "), old=recipe[part], wanted=value)
        if part in recipe
        else msg("{part} unknown, not {wanted!r}", part=part.replace("_", " "), wanted=value)
        for part, value in wanted.items()
        if recipe.get(part, "") != value
    ]
    if differs:
        raise RecipeError(
            msg(
                "collection {collection} was made with {differences}", collection=collection, differences=joined(", ", differs)
            ),
            msg("restore the old settings, or rebuild it with `rag-app reindex`"),
        )


def check_dimension(collection: str, dimension: int | None, returned: int) -> None:
    """RagError unless vectors have the dimension of their collection."""
    if dimension != returned:
        raise RagError(
            msg(
                "collection {collection} has {dimension} dimensions, but its model now returned {returned}",
                collection=collection,
                dimension=dimension or 0,
                returned=returned,
            ),
            msg("the endpoint serves another model: restore that one, or rebuild the collection with `rag-app reindex`"),
        )
