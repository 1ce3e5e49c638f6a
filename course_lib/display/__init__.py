"""Everything to see: figures, heat maps, panels.

* ``plots``: the figures that the chapters share, in one style
* ``heatmaps``: which places of a picture speak for a class
* ``panels``: controls to try things with
"""
