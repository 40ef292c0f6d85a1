"""What a lab host gets before nova-compute starts on it, and what is read of placement and Nova."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from VpmemLibrary.cloud import compute
from VpmemLibrary.cloud.boot_image import BootImages
from VpmemLibrary.cloud.compute import ComputeHost, give_own_zone, pmem_total
from VpmemLibrary.cloud.settings import Ports, Settings
from VpmemLibrary.errors import LabError
from VpmemLibrary.transport.base import CommandResult

SETTINGS = Settings(Ports(*range(20001, 20010)), "0123456789abcdef")
IMAGES = BootImages("6a1b64b1-0d5d-5a3c-8a3c-0a2f6a9d7f01", "9c1b64b1-0d5d-5a3c-8a3c-0a2f6a9d7f02")
DIMMS = '[{"dev":"nmem0","id":"8680-56341200","handle":1,"phys_id":0}]'


class Host:
    """A lab host that accepts every command. `failing` has the starts of those that fail."""

    name, private_address, user, port = "lab-1", "192.168.77.1", "root", 22001

    def __init__(self, key_file: Path = Path("/dev/null")) -> None:
        image = SimpleNamespace(key_file=key_file, host_public_key="ssh-ed25519 AAAA")
        self.qemu = SimpleNamespace(image=image, accelerator=SimpleNamespace(name="tcg"))
        self.commands: list[str] = []
        self.files: dict[str, str] = {}
        self.failing = ["systemctl is-active", "test -e /var/lib/nova/compute_id"]

    @contextmanager
    def transport(self) -> Iterator[Host]:
        yield self

    def run(self, argv: Sequence[str], *, timeout: float = 60, stdin: bytes = b"") -> CommandResult:
        line = " ".join(argv)
        self.commands.append(line)
        said = {"ndctl list -D": DIMMS, "tail": "ERROR nova NoValidHost\n"}
        text = next((text for start, text in said.items() if line.startswith(start)), "")
        status = 1 if any(line.startswith(start) for start in self.failing) else 0
        return CommandResult(tuple(argv), status, text.encode(), b"", 0.1)

    def write_file(self, path: str, data: bytes, *, mode: int = 0o600) -> None:
        self.files[path] = data.decode()


class Answers:
    """The answers of a cloud by the last part of the path. It records each request that changes anything."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.sent: list[tuple[str, str, object]] = []

    def get(self, service: str, path: str) -> Any:
        return self.answers[path.rpartition("/")[2].partition("?")[0].replace("-", "_")]

    def send(self, method: str, service: str, path: str, *, data: object) -> SimpleNamespace:
        self.sent.append((method, path, data))
        return SimpleNamespace(body='{"aggregate": {"id": 4, "name": "lab-1"}}')


PROVIDERS = {"resource_providers": [{"uuid": "u", "name": "lab-1"}]}
INVENTORIES = {
    "inventories": {
        "VCPU": {"total": 1},
        "CUSTOM_PMEM_NAMESPACE_4GB": {"total": 1},
        "CUSTOM_PMEM_NAMESPACE_SMALL": {"total": 2},
    }
}


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    monkeypatch.setattr(ComputeHost, "_connect", lambda _: None)
    return Host()


def compute_of(host: Host, tmp_path: Path) -> ComputeHost:
    return ComputeHost(host, tmp_path / "tunnel", SETTINGS)  # type: ignore[arg-type]


def test_a_new_compute_host_gets_namespaces_images_settings_and_an_identity(host: Host, tmp_path: Path) -> None:
    assert compute_of(host, tmp_path).start(IMAGES)
    text = "\n".join(host.commands)
    steps = [
        "ndctl init-labels -f nmem0",
        "-n ns_0 -s 67108864",
        "-n ns_1 -s 33554432",
        "-n ns_2",
        "cp ",
        "systemctl daemon-reload",
        "systemctl start nova-compute",
    ]
    assert [text.index(step) for step in steps] == sorted(text.index(step) for step in steps)
    assert f"_base/{hashlib.sha1(IMAGES.kernel.encode()).hexdigest()}" in text
    assert "pmem_namespaces = 4GB:ns_0,SMALL:ns_1|ns_2" in host.files["/etc/nova/nova.conf"]
    assert SETTINGS.secret not in text
    assert "Requires=nova-preload.service" in host.files["/etc/systemd/system/nova-compute.service"]
    assert host.files["/root/.ssh/known_hosts"] == "192.168.77.* ssh-ed25519 AAAA\n"
    again = Host()
    compute_of(again, tmp_path).start(IMAGES)
    assert again.files["/var/lib/nova/compute_id"] == host.files["/var/lib/nova/compute_id"]


@pytest.mark.parametrize(("accelerator", "confined"), [("tcg", True), ("kvm", False)])
def test_servers_are_confined_with_kvm_or_if_asked_for(
    host: Host, tmp_path: Path, accelerator: str, confined: bool
) -> None:
    compute_of(host, tmp_path).start(IMAGES)
    assert "security_driver" in "\n".join(host.commands)
    other = Host()
    other.qemu.accelerator.name = accelerator
    compute_of(other, tmp_path).start(IMAGES, confined=confined)
    assert "security_driver" not in "\n".join(other.commands)


def test_a_compute_host_that_was_configured_keeps_its_namespaces(host: Host, tmp_path: Path) -> None:
    host.failing = ["systemctl is-active"]
    assert compute_of(host, tmp_path).start(IMAGES)
    assert not [command for command in host.commands if command.startswith("ndctl")]
    assert host.files == {}


def test_nova_compute_that_runs_is_not_touched(host: Host, tmp_path: Path) -> None:
    host.failing = []
    assert not compute_of(host, tmp_path).start(IMAGES)
    assert host.commands == ["systemctl is-active --quiet nova-compute"]


def test_the_wait_ends_when_placement_has_persistent_memory(host: Host, tmp_path: Path) -> None:
    host.failing = []
    known = {"os_hypervisors": {"hypervisors": [{"hypervisor_hostname": "lab-1"}]}, "os_aggregates": {"aggregates": []}}
    api: Any = Answers(**known, resource_providers=PROVIDERS, inventories=INVENTORIES)
    assert pmem_total(api, "lab-1") == {"CUSTOM_PMEM_NAMESPACE_4GB": 1, "CUSTOM_PMEM_NAMESPACE_SMALL": 2}
    compute_of(host, tmp_path).wait(api, timeout=5)
    assert api.sent == [
        ("POST", "/v2.1/os-aggregates", {"aggregate": {"name": "lab-1", "availability_zone": "zone-lab-1"}}),
        ("POST", "/v2.1/os-aggregates/4/action", {"add_host": {"host": "lab-1"}}),
    ]
    nobody: Any = Answers(os_hypervisors={"hypervisors": []}, resource_providers={"resource_providers": []})
    assert pmem_total(nobody, "lab-1") == {}
    without: Any = Answers(**known, resource_providers=PROVIDERS, inventories={"inventories": {}})
    with pytest.raises(LabError, match=r"was not ready within 0\.1 s"):
        compute_of(host, tmp_path).wait(without, timeout=0.1)


def test_nova_compute_that_ended_or_is_never_ready_is_an_error_with_its_log(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compute, "_POLL", 0.01)
    nobody: Any = Answers(os_hypervisors={"hypervisors": []})
    with pytest.raises(LabError, match=r"nova-compute ended on lab-1(?s:.*)NoValidHost"):
        compute_of(host, tmp_path).wait(nobody, timeout=5)
    host.failing = []
    with pytest.raises(LabError, match=r"was not ready within 0\.1 s(?s:.*)NoValidHost"):
        compute_of(host, tmp_path).wait(nobody, timeout=0.1)


@pytest.mark.parametrize(
    ("hosts", "sent"),
    [(["lab-1"], []), ([], [("POST", "/v2.1/os-aggregates/7/action", {"add_host": {"host": "lab-1"}})])],
)
def test_a_compute_host_gets_one_zone_alone(hosts: list[str], sent: list[object]) -> None:
    api: Any = Answers(os_aggregates={"aggregates": [{"id": 7, "name": "lab-1", "hosts": hosts}]})
    give_own_zone(api, "lab-1")
    assert api.sent == sent
