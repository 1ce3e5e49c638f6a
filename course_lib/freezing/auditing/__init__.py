"""The audit: one training step on a copy, and for every tensor what it did and why.

* ``replica``: the copy to run on, and a guard that the originals stay as they were
* ``watch``: what is looked at while the step runs
* ``facts``: everything known about one tensor afterwards
* ``reasons``: the catalogue of what can be wrong, each with the line that mends it
* ``judge``: from facts to reasons
* ``report``: the result, as text and for tests
* ``show``: the result as a coloured table and as a figure
"""
