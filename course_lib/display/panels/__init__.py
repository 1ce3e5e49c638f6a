"""Panels to try things in: pick layers to freeze, and look at photographs of your own.

In JupyterLab, Notebook, VS Code and Colab they have controls. Where nobody can click, as in a
handout or when a notebook is executed by a program, each shows its first state as a picture with a
text, always the same.

* ``base``: what both share: the choice between controls and picture, and how results are shown
* ``freezing``: what trains, what it costs, and what the audit says, for the layers you pick
* ``photographs``: how a photograph gets into a panel, and how the result is drawn
* ``picture``: what a network says of a picture, and which places speak for it
* ``prediction``: what a network trained by :mod:`course_lib.recipe` says of a photograph
"""

from course_lib.display.panels.base import Panel, View, has_front_end
from course_lib.display.panels.freezing import FreezingPanel
from course_lib.display.panels.picture import PicturePanel
from course_lib.display.panels.prediction import PredictionPanel

__all__ = [
    "FreezingPanel",
    "Panel",
    "PicturePanel",
    "PredictionPanel",
    "View",
    "has_front_end",
]
