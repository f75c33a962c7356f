"""The application: its pages, and what is served beside them. Run: `streamlit run streamlit_app.py`."""

from streamlit.starlette import App

from rag_app.page.server import MIDDLEWARE, ROUTES

app = App("rag_app/page/app.py", routes=ROUTES, middleware=MIDDLEWARE)
