"""A saved run as one HTML page that needs nothing else: no request leaves it, and it works without its few lines of JavaScript.

`page.py` puts it together from the matrix (`matrix.py`), the findings (`findings.py`), the histograms (`histograms.py`) and
what there is to say of each API (`apis.py`). Each of them turns a `SavedRun` into elements and knows of no file.
"""

from attnspec.harness.reports.page.page import page

__all__ = ["page"]
