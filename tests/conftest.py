"""Settings of every test run: one thread, fixed seeds, no timed assertions."""

from __future__ import annotations

import hypothesis

# No deadline: a slow machine is not a failure. Derandomised: a red run is red again.
hypothesis.settings.register_profile("saccade", deadline=None, derandomize=True, max_examples=60)
hypothesis.settings.load_profile("saccade")
