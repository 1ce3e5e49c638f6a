"""A small ray marcher that draws the bundled hot-dog set.

    from course_lib.renderer import render
    picture = render("hotdog", seed=7)      # uint8 tensor, (height, width, 3)

Read it in this order: `sdf` (shapes), `materials` (colours), `march` (rays and light), `camera`
(lens and film), `foods` (recipes), `scene` (a whole picture from a seed), `drawing` (the set).
"""

from course_lib.renderer.drawing import build
from course_lib.renderer.scene import compose, render

__all__ = ["build", "compose", "render"]
