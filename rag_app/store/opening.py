"""Which store the settings mean: the one place to change for another database."""

from rag_app.settings import Settings
from rag_app.store import kept
from rag_app.store.protocol import Store
from rag_app.store.stored import is_database


def open_store(settings: Settings, *, create: bool = False) -> Store:
    """Open the collection that the settings name. EmptyCollectionError if it is not there, unless `create` is to make it."""
    if not settings.chroma_url:
        return kept.KeptStore(settings.chroma_path, settings.collection, create=create)
    # Here, for Chroma takes a second to import: an embedded one is only imported by its keeper.
    from rag_app.store import chroma

    return chroma.ChromaStore(chroma.where(settings), settings.collection, create=create)


def is_there(settings: Settings) -> bool:
    """Whether there is a database to open; a server is taken to be there."""
    return bool(settings.chroma_url) or is_database(settings.chroma_path)


def collections(settings: Settings) -> list[str]:
    """Return the names of the collections that there are, without those that a reindex is making or has replaced."""
    if not settings.chroma_url:
        return kept.collections(settings.chroma_path)
    from rag_app.store import chroma

    return chroma.collections(chroma.where(settings))
