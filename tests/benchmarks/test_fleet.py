"""What a claim costs in a fleet that is ten times as large: the search for a host must not grow with it."""

from __future__ import annotations

from functools import partial

import pytest
from ratios import require, timed
from recorded_fleet import SMALL, Machine

from VpmemLibrary.claims.claims import Fleet

pytestmark = pytest.mark.benchmark
CLAIMS = 500


def test_a_claim_beside_one_in_a_tenth_of_the_fleet() -> None:
    fleets = [
        Fleet([Machine(f"host-{number}", namespaces=9).seen_by("1") for number in range(hosts)])
        for hosts in (2000, 200)
    ]
    for fleet in fleets:
        fleet.claim([SMALL])
    large, small = ([timed(partial(fleet.claim, [SMALL])) for _ in range(CLAIMS)] for fleet in fleets)
    require("a claim among 2000 hosts against one among 200", large, small, 1.5)
