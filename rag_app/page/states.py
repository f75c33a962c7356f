"""What a person sees where something went wrong: what it is, and the next step."""

from collections.abc import Callable

import streamlit as st

from rag_app.endpoints.failures import EndpointError, Kind
from rag_app.errors import RagError, SettingsError
from rag_app.page.hostile import html, plain
from rag_app.page.say import t
from rag_app.page.visit import visit
from rag_app.store.stored import EmptyCollectionError
from rag_app.words import msg

FAILURES: dict[Kind, str] = {
    "unreachable": msg("The endpoint cannot be reached"),
    "timeout": msg("The endpoint takes too long"),
    "auth": msg("The endpoint rejected the key"),
    "model": msg("The endpoint does not have this model"),
    "url": msg("Wrong endpoint address"),
    "redirect": msg("Wrong endpoint address"),
    "rate": msg("Rate limit reached"),
    "quota": msg("Endpoint quota exhausted"),
    "too_many": msg("The request is too large for the endpoint"),
    "too_long": msg("The request is too large for the endpoint"),
    "request": msg("The endpoint rejected the request"),
    "reply": msg("Unexpected response from the endpoint"),
    "server": msg("The endpoint returned a server error"),
}
CONNECTIONS, DOCUMENTS = "connections", "documents"
# Page that helps: what the link to it says, its icon.
LINKS = {CONNECTIONS: (msg("Check the connections"), "cable"), DOCUMENTS: (msg("Add documents"), "library_add")}


def show(title: str, happened: str, to_do: str, *, link: str = "") -> None:
    """Show a state: title, what happened, what to do, and a link to the page that helps."""
    with st.container(border=True):
        st.html(
            html(
                '<div class="state" role="status"><h3>{title}</h3><p>{happened}</p><p class="todo">→ {to_do}</p></div>',
                title=t(title),
                happened=t(happened),
                to_do=t(to_do),
            )
        )
        if link:
            label, icon = LINKS[link]
            st.page_link(visit().pages[link], label=t(label), icon=f":material/{icon}:")


def show_error(error: RagError) -> None:
    """Show an error as a state."""
    title: str = msg("Something went wrong")
    happened, remedy, link = error.happened, error.remedy or msg("Try again."), ""
    if isinstance(error, EmptyCollectionError):
        title, link = msg("No documents yet"), DOCUMENTS
        remedy = msg("Upload documents on the page Documents, or run rag-app ingest PATH.")
    elif isinstance(error, EndpointError):
        title, link = FAILURES[error.kind], CONNECTIONS
    elif isinstance(error, SettingsError):
        title = msg("Invalid setting")
        # Its own remedy says which value to use.
        happened, remedy = error.message, msg("Fix it in .env, then reload this page.")
    show(title, happened, remedy, link=link)


def note(text: str, icon: str = "info") -> None:
    """Show a quiet line."""
    st.caption(f":material/{icon}: {plain(t(text))}")


def stored(write: Callable[[], None]) -> bool:
    """Write something down; say it if that fails."""
    try:
        write()
    except RagError as error:
        st.toast(plain(t(error.message)), icon=":material/error:")
        return False
    return True
