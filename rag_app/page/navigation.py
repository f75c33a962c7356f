"""The pages with their addresses, and what every visit begins with: look, language, and the errors that pages raise."""

from functools import partial
from pathlib import Path
from typing import Any

import streamlit as st

from rag_app import colours
from rag_app.errors import RagError
from rag_app.page import ask, connections, documents, resources, states
from rag_app.page.say import remembered, t
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
    st.html(f"<style>{colours.CSS}\n{CSS.read_text('utf-8')}</style>")
    controls = st.sidebar.container()
    label = " · ".join(words(code)(LANGUAGE) for code in languages())
    options = {"auto": msg("Auto"), **{code: words(code).name for code in languages()}}
    remembered(st.sidebar.selectbox, label, options, Widget.LANGUAGE, filter_mode=None)
    visit().pages = {
        name: st.Page(partial(draw, controls), title=t(title), icon=f":material/{icon}:", url_path=name, default=i == 0)
        for i, (name, (title, icon, draw)) in enumerate(PAGES.items())
    }
    page = st.navigation(list(visit().pages.values()), position="top")
    try:
        page.run()
    except RagError as error:
        resources.outdated(error)
        states.show_error(error)
