"""Leases over real connections: one process a connection, free at once when it is killed or the connection goes."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator

import pytest
from host_under_test import lab_settings

from VpmemLibrary.errors import BusyError, UnreachableError
from VpmemLibrary.host.host import Host
from VpmemLibrary.host.ssh import SshTransport
from VpmemLibrary.inventory.host_leases import HostLeases
from VpmemLibrary.inventory.leases import Holder, LeaseLostError, LeasesHeldError, Taken
from VpmemLibrary.inventory.ownership import RunMark
from VpmemLibrary.keywords.context import OpenHost

pytest_plugins = ["host_under_test"]
pytestmark = pytest.mark.lab


@pytest.fixture
def directory() -> Iterator[str]:
    path = f"/run/lock/vpmem-test-{secrets.token_hex(4)}"
    yield path
    with SshTransport(lab_settings()) as transport:
        transport.run(["rm", "-rf", path]).check()


@pytest.fixture
def connections() -> Iterator[tuple[SshTransport, SshTransport]]:
    with SshTransport(lab_settings()) as one, SshTransport(lab_settings()) as two:
        yield one, two


def holder_of(transport: SshTransport, directory: str) -> list[str]:
    return transport.run(["pgrep", "-f", f"vpmem-leases {directory}"]).text.split()


def test_many_leases_are_one_process_and_one_session(
    connections: tuple[SshTransport, SshTransport], directory: str
) -> None:
    one, two = connections
    leases = HostLeases(one, Holder.here("0123abcd", "1"), directory=directory)
    for number in range(30):
        leases.take([[f"ns-{number}"]])
    assert len(holder_of(two, directory)) == 1
    assert len(HostLeases(two, Holder.here("0123abcd", "2"), directory=directory).entries()) == 30
    leases.release([f"ns-{number}" for number in range(30)])
    leases.close()


@pytest.mark.parametrize("way", ["kill", "close"])
def test_a_holder_that_goes_frees_at_once(
    connections: tuple[SshTransport, SshTransport], directory: str, way: str
) -> None:
    one, two = connections
    dead = HostLeases(one, Holder.here("0123abcd", "1"), directory=directory)
    alive = HostLeases(two, Holder.here("0123abcd", "2"), directory=directory)
    dead.take([["a"]])
    with pytest.raises(LeasesHeldError):
        alive.take([["a"]])
    if way == "kill":
        two.run(["kill", "-KILL", *holder_of(two, directory)[:1]]).check()
    else:
        one.close()
    taken = _once_it_is_free(alive, "a")
    assert taken.left_by is not None
    with pytest.raises((LeaseLostError, UnreachableError)):
        dead.require(["a"])
    dead.close()
    alive.close()


def _once_it_is_free(leases: HostLeases, key: str) -> Taken:
    """Take a lease as soon as the kernel has freed it: a busy host needs a moment to end a process."""
    deadline = time.monotonic() + 30
    while True:
        try:
            return leases.take([[key]])[0]
        except LeasesHeldError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def test_a_host_is_had_by_one_worker_and_then_by_the_next(connections: tuple[SshTransport, SshTransport]) -> None:
    first, second = (
        OpenHost(Host("lab", transport), RunMark(f"0123abc{number}")) for number, transport in enumerate(connections)
    )
    first.holds.host(60)
    with pytest.raises(
        BusyError, match=r"Host lab is held by run 0123abc0, process \d+ on .*\. Nothing was given back within 0 s"
    ):
        second.holds.host(0)
    first.close()
    second.holds.host(60)
    second.close()
