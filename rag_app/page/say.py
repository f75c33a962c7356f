"""What the page says, in the language of the visit, and choices that the address remembers."""

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar, cast

import streamlit as st

from rag_app.page.visit import Widget
from rag_app.words import Words, nearest, words

Option = TypeVar("Option", bound=str)


def w() -> Words:
    """Return the words of this visit: of the language chosen, else the browser's, else English."""
    chosen = str(st.session_state.get(Widget.LANGUAGE, "auto"))
    return words(nearest(st.context.locale or "") if chosen == "auto" else chosen)


def t(text: str, /, **values: object) -> str:
    """Return a message, or a text with values in its places, in the language of this visit."""
    return w()(text, **values)


def segments(label: str, options: Mapping[Option, str], key: Widget, **more: Any) -> Option:
    """Offer options, as value and label, the first by default; return the value chosen, which the address remembers."""
    default = next(iter(options))
    address(key, options, default)
    st.segmented_control(
        t(label),
        list(options),
        required=True,
        format_func=lambda option: t(options[option]),
        key=key,
        persist_state="session",
        **more,
    )
    return cast("Option", to_address(key, default))


def address(key: Widget, options: Iterable[str], default: str) -> None:
    """Let the value of a widget that follows, with this key, begin as the address says it."""
    if key not in st.session_state:
        asked = st.query_params.get(key, default)
        st.session_state[key] = asked if asked in options else default


def to_address(key: Widget, default: str) -> str:
    """Write the value of a widget into the address, unless it is the default, and return it.

    Streamlit's own binding writes what is shown of an option, which is another text in another language.
    """
    value = str(st.session_state.get(key) or default)
    if value != default:
        st.query_params[key] = value
    elif key in st.query_params:
        del st.query_params[key]
    return value
