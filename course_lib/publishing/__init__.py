"""From the sources to what people open, print and follow.

* ``notebooks``: from the scripts in ``notebooks/source`` to executed notebooks
* ``addresses``, ``cells``, ``stamping``: where the course is published; badge and first cell
* ``handouts``: chapters on paper and as pages, cheat sheets, a plan for teachers
* ``site``: all of it as a static site
"""
