"""Ingest: read documents, cut them into chunks, make the store equal to them."""
