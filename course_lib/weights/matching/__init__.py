"""Matching: which tensor of a file belongs to which tensor of a model."""
