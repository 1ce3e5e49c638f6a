"""The experiments, one module a group; every module in here is found by itself.

Each experiment's design stands in its docstring and was written before it was run.
"""
