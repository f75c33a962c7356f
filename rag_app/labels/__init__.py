"""Labelled questions, feedback, and the JSON Lines files that hold them."""
