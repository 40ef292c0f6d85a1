"""The lab's private network is one process, and giving a lab host its power starts both once."""

from __future__ import annotations

import json
import stat
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
from fake_qemu import FAKE_QEMU

from VpmemLibrary.errors import LabError
from VpmemLibrary.lab import lab as lab_module
from VpmemLibrary.lab.image import Image
from VpmemLibrary.lab.lab import Lab, LabHost
from VpmemLibrary.lab.network import MOST_HOSTS, Network, network_socket
from VpmemLibrary.lab.ports import free_port
from VpmemLibrary.lab.qemu_host import QemuHost
from VpmemLibrary.lab.report import lab_status, status_text


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    monkeypatch.setenv("VPMEM_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("VPMEM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(Image, "tool", lambda *_: FAKE_QEMU)
    found = Lab()
    yield found
    found.down()


@pytest.fixture
def host(lab: Lab, tmp_path: Path) -> LabHost:
    directory = lab.directory / "lab-1"
    directory.mkdir(parents=True)
    shape = {"image": str(tmp_path / "image-1"), "accelerator": "tcg", "accelerator_reason": "asked for"}
    (directory / "host.json").write_text(json.dumps({"port": free_port(), "uuid": "u", **shape}))
    return LabHost(directory)


def test_every_host_has_a_port_on_one_hub(lab: Lab) -> None:
    image = Image(Path("/cache/image-1"))
    lab.network.start(image)
    process = lab.network.process
    assert process is not None
    lab.network.start(image)
    assert lab.network.process == process
    (arguments,) = (lab.network.directory / "arguments").read_text().splitlines()
    for number in range(1, MOST_HOSTS + 1):
        path = Path(network_socket(f"lab-{number}")).name
        assert f"stream,id=lab-{number},server=on,addr.type=unix,addr.path={path} " in arguments
        assert f"hubport,id=port-lab-{number},hubid=0,netdev=lab-{number}" in arguments
    assert stat.S_IMODE(lab.network.directory.stat().st_mode) == 0o700
    lab.network.kill()
    assert lab.network.process is None


def test_a_host_connects_to_its_socket_of_the_switch_beside_it(host: LabHost, lab: Lab) -> None:
    (private,) = [part for part in host.qemu._command(1, None, "") if part.startswith("stream,id=private")]
    path = dict(part.split("=", 1) for part in private.split(",")[1:])["addr.path"]
    assert (host.directory / path).resolve() == (lab.network.directory / "lab-1.sock").resolve()


def test_status_shows_the_network_and_that_it_is_down(host: LabHost, lab: Lab) -> None:
    assert lab_status(lab)["network"] is None
    assert "private network  DOWN (vpmem lab up)" in status_text(lab_status(lab))
    host.qemu.start(host.port)
    assert not lab_status(lab)["ok"]
    lab.network.start(host.qemu.image)
    assert lab_status(lab)["ok"]
    process = lab.network.process
    assert process is not None
    assert f"private network  process {process.pid}" in status_text(lab_status(lab))


def test_down_ends_the_network(host: LabHost, lab: Lab) -> None:
    lab.network.start(host.qemu.image)
    assert lab.down() == ["lab-1"]
    assert lab.network.process is None
    assert not lab.network.directory.exists()


ADDRESS = "eth1             UP             192.168.77.1/24 \n"
"""The answer of ``ip -4 -br address show dev eth1 up`` (iproute2 6.15)."""


class Answers:
    """A host that gives each command the next text. The last text is given to all that follow."""

    def __init__(self, *texts: str) -> None:
        self.texts = list(texts)

    def run(self, _: object) -> SimpleNamespace:
        return SimpleNamespace(text=self.texts.pop(0) if len(self.texts) > 1 else self.texts[0])


def test_a_host_is_up_when_it_has_its_address(host: LabHost, lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lab_module, "wait_for_ssh", lambda *_: None)
    answers = Answers("", "eth1             UP             192.168.77.12/24 \n", ADDRESS)
    monkeypatch.setattr(LabHost, "transport", lambda _: nullcontext(answers))
    host.power_on()
    assert answers.texts == [ADDRESS], "it was asked until it had the address"
    monkeypatch.setattr(lab_module, "_NETWORK_SECONDS", 0.0)
    monkeypatch.setattr(LabHost, "transport", lambda _: nullcontext(Answers("", "State: off (unmanaged)")))
    with pytest.raises(LabError, match=r"lab-1 has no address 192\.168\.77\.1 on the network .*\nState: off"):
        host.power_on()


def test_power_that_comes_from_two_at_once_starts_one_machine_and_its_network(
    host: LabHost, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    both_look = threading.Barrier(2)

    def looked(asked: LabHost) -> bool:
        found = asked.qemu.process is not None
        with suppress(threading.BrokenBarrierError):
            both_look.wait(0.5)
        return found

    monkeypatch.setattr(LabHost, "alive", property(looked))
    waited: list[QemuHost] = []
    monkeypatch.setattr(lab_module, "wait_for_ssh", lambda machine, *_: waited.append(machine))
    monkeypatch.setattr(LabHost, "transport", lambda _: nullcontext(Answers(ADDRESS)))
    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(LabHost(host.directory).power_on) for _ in range(2)]:
            done.result(timeout=30)
    assert len((host.directory / "arguments").read_text().splitlines()) == 1
    assert len(waited) == 2, "a host that has power is waited for"
    assert Network(lab.directory.parent).process is not None
    host.power_cut()
    assert host.qemu.process is None
