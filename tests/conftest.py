"""What holds for every test."""

from __future__ import annotations

import os

from hypothesis import settings

# Machines that run tests are shared and slow at times, so no example has a deadline; in CI the examples are the same every time.
settings.register_profile("here", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "here")
