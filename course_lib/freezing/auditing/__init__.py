"""The audit: one training step on a copy, and for every tensor what it did and why.

* ``replica``: the copy to run on, and a guard that the originals stay as they were
* ``watch``: what is observed while the step runs
* ``facts``: everything known about one tensor afterwards
* ``reasons``: the catalogue of what can be wrong, with the line that fixes it
* ``judge``: from facts to a row: what a tensor does, and what is wrong with that
* ``figure``: the rows as a figure
* ``report``: the result, as text, as HTML and for tests
* ``run``: ``audit`` itself, which goes through all these in turn
"""
