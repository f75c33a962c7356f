"""Readers: one module a kind of file; `load` has the table of them."""
