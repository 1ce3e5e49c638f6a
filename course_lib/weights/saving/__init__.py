"""Saving: weights to use, and training runs to go on with; always a whole file."""
