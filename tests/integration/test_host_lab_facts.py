"""Facts and preflight of the lab host, beside what its own tools say."""

from __future__ import annotations

import pytest

from VpmemLibrary.host.host import Host
from VpmemLibrary.transport.ssh.transport import SshTransport

pytest_plugins = ["host_under_test"]
pytestmark = pytest.mark.lab


def test_facts_are_what_the_tools_say(lab_transport: SshTransport) -> None:
    host = Host("lab", lab_transport)
    facts = host.facts()
    assert facts.kernel == host.run(["uname", "-r"]).text.strip()
    assert facts.ndctl == host.run(["ndctl", "--version"]).text.strip()
    assert facts.hostname == host.run(["uname", "-n"]).text.strip()
    assert [(region.dev, region.size) for region in facts.regions] == [
        (region.dev, region.size) for region in host.ndctl.inventory().regions
    ]


def test_the_lab_host_passes_the_preflight(lab_transport: SshTransport) -> None:
    preflight = Host("lab", lab_transport).preflight()
    assert preflight.passed, preflight.describe()
