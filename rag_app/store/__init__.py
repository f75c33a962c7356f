"""The store: one collection of chunks with their vectors, in Chroma."""
