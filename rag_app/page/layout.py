"""What every visit begins with: look, language, and the pages with their addresses."""

from functools import partial
from pathlib import Path
from typing import Any

import streamlit as st

from rag_app.page import ask, connections, documents, resources
from rag_app.page.say import address, t, to_address
from rag_app.page.visit import Widget, visit
from rag_app.words import languages, msg, words

LANGUAGE = msg("Language")
CSS = Path(__file__).with_name("style.css")


def evaluation(controls: Any) -> None:
    """Show the page Evaluate; its statistics take a second to load, which nobody else waits for."""
    from rag_app.page import evaluate

    evaluate.page(controls)


# Name in the address: title, icon, what draws it; the first is the front page.
PAGES = {
    "ask": (msg("Ask"), "forum", ask.page),
    "evaluate": (msg("Evaluate"), "straighten", evaluation),
    "documents": (msg("Documents"), "folder_open", documents.page),
    "connections": (msg("Connections"), "cable", connections.page),
}


def main() -> None:
    title, icon = resources.title_and_icon()
    st.set_page_config(page_title=title, page_icon=icon, layout="wide")
    st.html(CSS)
    controls = st.sidebar.container()
    codes = ["auto", *languages()]
    address(Widget.LANGUAGE, codes, "auto")
    with st.sidebar:
        st.selectbox(
            " · ".join(words(code)(LANGUAGE) for code in languages()),
            codes,
            format_func=lambda code: t("Auto") if code == "auto" else words(code).name,
            key=Widget.LANGUAGE,
            persist_state="session",
            filter_mode=None,
        )
    to_address(Widget.LANGUAGE, "auto")
    visit().pages = {
        name: st.Page(partial(draw, controls), title=t(title), icon=f":material/{icon}:", url_path=name, default=i == 0)
        for i, (name, (title, icon, draw)) in enumerate(PAGES.items())
    }
    st.navigation(list(visit().pages.values()), position="top").run()
