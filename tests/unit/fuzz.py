"""How often the tests that feed outside text to the library do so: 200 times, and 10,000 times with `make fuzz`."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

_EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "200"))

fuzzed = settings(
    max_examples=_EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
"""The settings of such a test; it is marked as `fuzz` as well, so that `make fuzz` finds it."""

fuzz = pytest.mark.fuzz
"""The mark of such a test."""
