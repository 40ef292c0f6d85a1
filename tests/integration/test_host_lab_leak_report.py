"""The report that closes a run, on a lab host: clean, with something left, and clean again."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from host_under_test import labeled

from VpmemLibrary.cli.main import main
from VpmemLibrary.host.host import Host
from VpmemLibrary.ownership.marks import RunMark
from VpmemLibrary.pmem.records import NamespaceMode
from VpmemLibrary.sizes import MiB, Size
from VpmemLibrary.transport.ssh.transport import SshTransport

pytest_plugins = ["host_under_test"]
pytestmark = pytest.mark.lab


def leaks(action: str, hosts: Path, states: Path) -> Result:
    return CliRunner().invoke(main, ["leaks", action, str(hosts), str(states)])


def test_what_is_left_fails_the_report_and_is_named(
    lab_hosts: Path, lab_transport: SshTransport, tmp_path: Path
) -> None:
    host = labeled(Host("lab", lab_transport))
    region = max(host.ndctl.inventory().regions, key=lambda region: region.free_extent).dev
    states = tmp_path / "before.json"
    assert leaks("remember", lab_hosts, states).exit_code == 0
    clean = leaks("compare", lab_hosts, states)
    assert (clean.exit_code, "nothing is left over" in clean.output) == (0, True)

    uuid = RunMark.of_this_run().new_uuid()
    left = host.namespaces.create(region, mode=NamespaceMode.devdax, size=Size(64 * MiB), name="left", uuid=uuid)
    forgotten = "/var/lib/libvirt/images/forgotten by a run"
    host.run(["touch", forgotten]).check()
    try:
        found = leaks("compare", lab_hosts, states)
    finally:
        host.namespaces.destroy(left)
        host.run(["rm", forgotten]).check()
    assert found.exit_code == 1
    assert f"leaked: namespace left in {region}" in found.output
    assert f"leaked: file {forgotten}" in found.output
    assert "LEFT OVER" in found.output
    assert leaks("compare", lab_hosts, states).exit_code == 0


def test_a_host_that_was_not_looked_at_before_is_reported(lab_hosts: Path, tmp_path: Path) -> None:
    states = tmp_path / "before.json"
    states.write_text("{}")
    found = leaks("compare", lab_hosts, states)
    assert found.exit_code == 1
    assert "has no host" in found.output
