"""`gatewayd demo`: a small fictional insurer of separate processes behind gatewayd, to try everything on.

One module per service, each run as `python -m gatewayd.demo.<service>`; `insurer` starts them all. Only the
command line imports this package.
"""

from gatewayd.demo.insurer import main

__all__ = ["main"]
