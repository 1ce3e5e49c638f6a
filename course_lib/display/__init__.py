"""Everything that is looked at.

* ``plots``: the figures that the chapters share, in one style
* ``heatmaps``: which places of a picture speak for a class
* ``panels``: controls to try things with
"""
