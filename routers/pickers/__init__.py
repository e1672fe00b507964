"""From scores to who serves: one file a picker. Those that need no package beyond the standard library are named here."""

from routers.pickers.best import Best
from routers.pickers.weighted import Weighted

__all__ = ["Best", "Weighted"]
