"""What all sessions of this process share: the settings, one pipeline a collection, and the runs of ingest."""

import logging
from collections.abc import Collection
from pathlib import Path

import streamlit as st

from ingest.jobs import Jobs
from rag_app.errors import RagError, SettingsError
from rag_app.labels.labels import Labels
from rag_app.pipeline import Pipeline
from rag_app.settings import Settings, load_settings
from rag_app.store.opening import collections, open_store
from rag_app.store.protocol import Store
from rag_app.store.recipe import RecipeError
from rag_app.store.stored import Listing, StoredDocument

ICON = Path(__file__).with_name("icon.svg")


@st.cache_resource(show_spinner=False)
def settings() -> Settings:
    """Return the settings, read once; SettingsError if one cannot work, and then they are read again."""
    found = load_settings()
    logging.basicConfig(level="ERROR", format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("rag_app").setLevel(found.log_level.upper())
    return found


def title_and_icon() -> tuple[str, str]:
    """Return the page's title and icon, those of the template while the settings cannot be read."""
    try:
        return settings().title, settings().icon or str(ICON)
    except SettingsError:
        return str(Settings.model_fields["title"].default), str(ICON)


def of(collection: str) -> Settings:
    """Return the settings for a collection; SettingsError if it cannot have this name."""
    return settings().with_collection(collection)


class _SharedPipeline(Pipeline):
    """A pipeline that is closed once the cache has dropped it and the last visit that uses it has ended."""

    def __del__(self) -> None:
        self.close()


@st.cache_resource(show_spinner=False)
def pipeline(collection: str) -> Pipeline:
    """Return the one pipeline of a collection that all sessions share."""
    return _SharedPipeline.open(of(collection))


def store(collection: str) -> Store:
    """Return a collection's store, for pages that ask no model; whoever takes it closes it."""
    return open_store(of(collection))


def revision(collection: str) -> str:
    """Return the state of a collection, another after each change. EmptyCollectionError if it is not there."""
    with store(collection) as found:
        return found.revision


@st.cache_resource(show_spinner=False)
def jobs() -> Jobs:
    """Return the runs of ingest in this process."""
    return Jobs()


def outdated(error: RagError) -> None:
    """After an error that means other settings or another collection, drop what depends on the old ones."""
    if isinstance(error, (SettingsError, RecipeError)):
        forget()


def forget() -> None:
    """Drop settings and pipelines: .env is read again when they are next needed."""
    settings.clear()
    pipeline.clear()


def collection_names() -> list[str]:
    """Return the collections that there are, the one in the settings first."""
    own = settings().collection
    return [own, *(name for name in collections(settings()) if name != own)]


@st.cache_data(show_spinner=False, max_entries=50)
def listing(collection: str, revision: str, folder: str = "", words: tuple[str, ...] = ()) -> Listing:
    """Return what there is to choose from in a collection; `revision` is its state, which what is remembered hangs on."""
    with store(collection) as found:
        return found.listing(folder, words)


def documents(collection: str, names: Collection[str]) -> list[StoredDocument]:
    """Return the documents of these names that are stored in a collection now."""
    with store(collection) as found:
        return list(found.documents(list(names)).values())


@st.cache_data(show_spinner=False, max_entries=20, ttl=60)
def examples(collection: str, revision: str) -> list[str]:
    """Return questions to begin with: labelled ones that the collection answers."""
    try:
        return Labels(settings().eval_path).examples(lambda names: {d.document for d in documents(collection, names)})
    except RagError as error:
        logging.getLogger("rag_app").warning("no examples: %s", error)
        return []
