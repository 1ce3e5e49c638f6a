"""A small ray marcher that draws the bundled hot-dog set.

    from course_lib.renderer import render
    picture = render("hotdog", seed=7)      # uint8 tensor, (height, width, 3)

Read it in this order: `sdf` (shapes), `materials` (colours), `march` (rays and light), `camera`
(lens and film), `foods` (recipes), `scene` (a whole picture from a seed), `build` (the set).
"""

from course_lib.renderer.build import build, default_root, read_manifest, verify
from course_lib.renderer.scene import compose, render

__all__ = ["build", "compose", "default_root", "read_manifest", "render", "verify"]
