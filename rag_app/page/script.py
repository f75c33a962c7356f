"""The script that Streamlit runs for every visit.

Under this name alone: the processes that read files import it under another, and shall not draw pages.
"""

if __name__ == "__main__":
    from rag_app.page.navigation import main

    main()
