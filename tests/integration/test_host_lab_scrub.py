"""Scrubs and clearing errors on the lab, whose emulated NVDIMMs know neither: refused, with nothing changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from host_under_test import labeled

from VpmemLibrary.errors import UnsupportedError
from VpmemLibrary.host.host import Host
from VpmemLibrary.ownership.cleanup import clean_up
from VpmemLibrary.ownership.marks import RunMark
from VpmemLibrary.pmem.media.scrub import ScrubState
from VpmemLibrary.pmem.records import Namespace, NamespaceMode
from VpmemLibrary.sizes import MiB, Size
from VpmemLibrary.transport.ssh.transport import SshTransport

pytest_plugins = ["host_under_test"]
pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def host(lab_transport: SshTransport) -> Host:
    return labeled(Host("lab", lab_transport))


@pytest.fixture(scope="module")
def namespace(host: Host) -> Iterator[Namespace]:
    region = max(host.ndctl.inventory().regions, key=lambda region: region.free_extent)
    run = RunMark.of_this_run()
    try:
        yield host.namespaces.create(region, mode=NamespaceMode.fsdax, size=Size(16 * MiB), uuid=run.new_uuid())
    finally:
        clean_up(host, run)


@pytest.mark.parametrize(
    "step",
    [
        lambda host, namespace: host.scrub.start(namespace.bus),
        lambda host, namespace: host.scrub.wait(namespace.bus, timeout=60),
        lambda host, namespace: host.scrub.clear_errors(namespace, timeout=60),
        lambda host, namespace: host.scrub.clear_errors(namespace, scrub=True, timeout=60),
    ],
    ids=["start", "wait", "clear", "scrub and clear"],
)
def test_what_the_bus_cannot_do_is_refused_with_the_mend(
    host: Host, namespace: Namespace, step: Callable[[Host, Namespace], None]
) -> None:
    if host.scrub.state(namespace.bus) is not ScrubState.unsupported:
        pytest.skip(f"{namespace.bus} of this host can scrub: this is about one that cannot")
    with pytest.raises(UnsupportedError, match=r"does not support this\. Nothing was changed\..*nfit_test"):
        step(host, namespace)
    assert host.ndctl.namespace(namespace) == namespace
