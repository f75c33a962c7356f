"""What the page says, in the language of the visit."""

from collections.abc import Iterable

import streamlit as st

from rag_app.page.visit import Widget
from rag_app.words import Words, nearest, words


def w() -> Words:
    """Return the words of this visit: of the language chosen, else the browser's, else English."""
    chosen = str(st.session_state.get(Widget.LANGUAGE, "auto"))
    return words(nearest(st.context.locale or "") if chosen == "auto" else chosen)


def t(text: str, /, **values: object) -> str:
    """Return a message, or a text with values in its places, in the language of this visit."""
    return w()(text, **values)


def address(name: str, options: Iterable[str], default: str) -> None:
    """Let the value of a widget that follows, with this key, begin as the address says it."""
    if name not in st.session_state:
        asked = st.query_params.get(name, default)
        st.session_state[name] = asked if asked in options else default


def to_address(name: str, default: str) -> str:
    """Write the value of a widget into the address, unless it is the default, and return it.

    Streamlit's own binding writes what is shown of an option, which is another text in another language.
    """
    value = str(st.session_state.get(name) or default)
    if value != default:
        st.query_params[name] = value
    elif name in st.query_params:
        del st.query_params[name]
    return value
