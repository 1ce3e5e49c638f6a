"""Getting the course onto a machine.

* ``bootstrap``: a laptop (``make lab``)
* ``hosting``: Colab and Kaggle, and what you take home from there
* ``bundle``: a room without a network
* ``lab``: JupyterLab on a copy of the chapters (``course lab``)
* ``doctor``: is this machine ready? (``course doctor``)
"""
