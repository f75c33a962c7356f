"""`python -m ingest PATH…` is `rag-app ingest PATH…`."""

import sys

from rag_app.cli.app import main

if __name__ == "__main__":
    main(["ingest", *sys.argv[1:]])
