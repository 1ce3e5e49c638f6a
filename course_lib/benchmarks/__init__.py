"""Measurements of time: each prints ratios of things measured side by side in one run.

Seconds differ from machine to machine, and from minute to minute on one; the ratio of two things
that took turns hardly does.
"""
