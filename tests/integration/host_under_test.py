"""The lab host that the host-side tests use: the first one of the hosts file that ``VPMEM_TEST_HOSTS`` names."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from VpmemLibrary.host.host import Host
from VpmemLibrary.host.hosts_file import read_hosts, settings_of
from VpmemLibrary.transport.ssh.transport import SshSettings, SshTransport


def lab_settings() -> SshSettings:
    """Return the way to the host, or skip where there is none."""
    hosts = os.environ.get("VPMEM_TEST_HOSTS")
    if not hosts:
        pytest.skip("no lab host: start one with `vpmem lab up` and name its hosts file in VPMEM_TEST_HOSTS")
    entry = read_hosts(Path(hosts))[0]
    if not entry.may_initialize_labels:
        pytest.skip(f"[{entry.name}] of {hosts} does not say host_may_initialize_labels = yes")
    return settings_of(entry)


def labeled(host: Host) -> Host:
    """Return the host with labels in one region at least; the other regions stay as they are."""
    unlabeled = host.regions.unlabeled()
    if len(unlabeled) == len(host.ndctl.inventory().regions):
        host.regions.initialize_labels(unlabeled[0])
    return host


@pytest.fixture(scope="module")
def lab_transport() -> Iterator[SshTransport]:
    """One connection to the lab host for the tests of a module."""
    with SshTransport(lab_settings()) as transport:
        yield transport
