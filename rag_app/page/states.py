"""What a person sees where something did not go as hoped: what it is, and the next step."""

import re
from collections.abc import Callable

import streamlit as st

from rag_app.endpoints.failures import EndpointError
from rag_app.errors import RagError, SettingsError
from rag_app.page.hostile import html, plain
from rag_app.page.say import t
from rag_app.store.stored import EmptyCollectionError
from rag_app.words import msg

# Kind of failure: icon, title.
FAILURES: dict[str, tuple[str, str]] = {
    "unreachable": ("cloud_off", msg("The endpoint cannot be reached")),
    "timeout": ("hourglass_disabled", msg("The endpoint takes too long")),
    "auth": ("key_off", msg("The endpoint refuses the key")),
    "model": ("help_center", msg("The endpoint does not have this model")),
    "url": ("link_off", msg("This address is not the right one")),
    "redirect": ("link_off", msg("This address is not the right one")),
    "rate": ("speed", msg("Too many requests at this moment")),
    "quota": ("account_balance_wallet", msg("The account at the endpoint is used up")),
    "too_many": ("data_array", msg("The request is too large for the endpoint")),
    "too_long": ("data_array", msg("The request is too large for the endpoint")),
    "request": ("block", msg("The endpoint does not take this request")),
    "reply": ("question_mark", msg("The endpoint answered something else than expected")),
    "server": ("dns", msg("The endpoint has a problem of its own")),
}
CONNECTIONS, DOCUMENTS = "connections", "documents"


def show(icon: str, title: str, happened: str, to_do: str, link: str = "") -> None:
    """Show a state: title, what happened, what to do, and the page that helps."""
    with st.container(border=True):
        st.html(
            html(
                '<div class="state" role="status"><h3>{title}</h3><p>{happened}</p><p class="todo">→ {to_do}</p></div>',
                title=title,
                happened=happened,
                to_do=to_do,
            )
        )
        if link == CONNECTIONS:
            st.page_link(st.session_state["pages"][CONNECTIONS], label=t("Look at the connections"), icon=f":material/{icon}:")
        if link == DOCUMENTS:
            st.page_link(st.session_state["pages"][DOCUMENTS], label=t("Add documents"), icon=f":material/{icon}:")


def show_error(error: RagError) -> None:
    """Show an error as a state."""
    if isinstance(error, EmptyCollectionError):
        show(
            "library_add",
            t("No documents yet"),
            str(error),
            t("Upload documents on the page Documents, or run rag-app ingest PATH."),
            DOCUMENTS,
        )
    elif isinstance(error, EndpointError):
        icon, title = FAILURES[error.kind]
        # The name of the endpoint stands before the reason.
        show(icon, t(title), str(error).removesuffix(f"; {error.remedy}"), error.remedy, CONNECTIONS)
    elif isinstance(error, SettingsError):
        show("tune", t("A setting cannot work"), str(error), t("Mend it in .env, then reload this page."))
    else:
        # What to do stands behind the last of these.
        parts = re.fullmatch(r"(.+)(?:; |: )(.+)", str(error), re.DOTALL)
        happened, remedy = parts.groups() if parts else (str(error), t("Try again."))
        show("info", t("That did not work"), happened, remedy)


def note(text: str, icon: str = "info") -> None:
    """Show a quiet line."""
    st.caption(f":material/{icon}: {plain(text)}")


def stored(write: Callable[[], None]) -> bool:
    """Write something down; say it if that fails."""
    try:
        write()
    except RagError as error:
        st.toast(plain(str(error)), icon=":material/error:")
        return False
    return True
