"""Retrieval-augmented generation that shows, measures and never hides what its reranker did."""

__version__ = "0.1.0"
