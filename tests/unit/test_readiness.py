"""Waiting until a guest answers: a domain of libvirt's test driver, an agent with real processes, a console's log."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import libvirt
import libvirt_qemu
import pytest
from guest_agent import NOT_CONNECTED, Agent, silence

from VpmemLibrary.errors import AgentRefusedError, GuestError, LibvirtError
from VpmemLibrary.guest import lifecycle
from VpmemLibrary.guest.channel.channels import GuestAccess, GuestChannel
from VpmemLibrary.guest.channel.libvirt_deadline import libvirt_deadline
from VpmemLibrary.guest.channel.libvirt_link import LibvirtLink
from VpmemLibrary.guest.domain.states import GONE, OFF
from VpmemLibrary.guest.guest import Guest
from VpmemLibrary.guest.readiness import current_boot_id, failure_text, wait_until_ready, wait_until_rebooted
from VpmemLibrary.transport.local import LocalTransport

ROOM = 10.0
"""Seconds that a wait may take on a busy machine. No test waits that long if the code is right."""

LONG = 2 * ROOM
"""A timeout that no test reaches if the code is right."""

XML = """
<domain type='test'><name>a</name><memory>65536</memory><os><type>hvm</type></os>
  <devices><serial type='pty'><log file='{log}' append='on'/></serial></devices>
</domain>
"""
PANIC = "[    1.5] Kernel panic - not syncing: VFS: Unable to mount root fs\n" + "after\n" * 10
OLD, NEW = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"


class BootedAgent(Agent):
    """An agent whose guest has a boot id of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.boot = OLD

    def guest_exec(
        self, path: str, arg: list[str], env: list[str], capture_output: bool, input_data: str = ""
    ) -> dict[str, Any]:
        if path == "cat":
            path, arg = "echo", [self.boot]
        return super().guest_exec(path, arg, env, capture_output, input_data)


class Bench:
    """A running guest, its agent, and the log of its console."""

    def __init__(self, link: LibvirtLink, agent: BootedAgent, log: Path) -> None:
        self.agent = agent
        self.log = log
        self.guest = Guest(LocalTransport(name="rack1"), link, "a")

    def answers_after(self, pings: int, meanwhile: Callable[[], object] = lambda: None) -> None:
        """Let the agent leave a number of pings without an answer. Call `meanwhile` at each of them."""
        left = iter(range(pings))

        def before(execute: str) -> None:
            if execute == "guest-ping" and next(left, None) is not None:
                meanwhile()
                raise silence(NOT_CONNECTED)

        self.agent.before = before

    def never_answers(self, meanwhile: Callable[[], object] = lambda: None) -> None:
        self.answers_after(1 << 30, meanwhile)

    def destroy(self) -> None:
        if self.guest.state_and_reason()[0] == "running":
            lifecycle.destroy(self.guest)


@pytest.fixture
def link() -> Iterator[LibvirtLink]:
    opened = LibvirtLink(LocalTransport(name="rack1"), uri="test:///default")
    yield opened
    opened.close()


@pytest.fixture
def bench(link: LibvirtLink, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    log = tmp_path / "console.log"
    log.write_text("a line of an earlier boot\n")
    link.call("define", lambda connection: connection.defineXML(XML.format(log=log)).create())
    agent = BootedAgent()
    monkeypatch.setattr(libvirt_qemu, "qemuAgentCommand", lambda _, request, timeout, __: agent(request, timeout))
    monkeypatch.setattr("VpmemLibrary.guest.guest._POLL", 0.02)
    made = Bench(link, agent, log)
    yield made
    agent.close()
    made.destroy()
    if made.guest.state_and_reason()[0] != GONE:
        link.act("a", "undefine", lambda domain: domain.undefine())


def failed(wait: Callable[[], None], expected: str) -> str:
    """Return the message of a wait that fails within the room for a busy machine."""
    began = time.monotonic()
    with pytest.raises(GuestError, match=expected) as caught:
        wait()
    assert time.monotonic() - began < ROOM
    return str(caught.value)


def test_a_guest_that_answers_is_ready_at_the_first_attempt(bench: Bench) -> None:
    wait_until_ready(bench.guest, ROOM)
    assert bench.agent.requests.count("guest-ping") == 1


def test_a_guest_is_ready_as_soon_as_it_answers(bench: Bench) -> None:
    bench.answers_after(3)
    wait_until_ready(bench.guest, ROOM)
    assert bench.agent.requests.count("guest-ping") == 4


def test_an_event_of_libvirt_ends_the_pause_between_two_attempts(
    bench: Bench, link: LibvirtLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("VpmemLibrary.guest.guest._POLL", LONG)
    bench.answers_after(1, lambda: threading.Timer(0.2, suspend_and_resume, [link]).start())
    began = time.monotonic()
    wait_until_ready(bench.guest, LONG)
    assert time.monotonic() - began < ROOM


def suspend_and_resume(link: LibvirtLink) -> None:
    link.act("a", "suspend", lambda domain: domain.suspend())
    link.act("a", "resume", lambda domain: domain.resume())


def test_a_timeout_shows_the_state_the_console_and_what_to_do(bench: Bench) -> None:
    bench.never_answers()
    with bench.log.open("a") as log:
        log.write("".join(f"line {number}\n" for number in range(30)))
    text = failed(lambda: wait_until_ready(bench.guest, 0.3), r"was not ready within 0\.3 s: it is running")
    assert "Guest a on rack1" in text
    assert "qemu-guest-agent must run in the guest" in text
    assert "pass a longer timeout" in text
    assert "line 29" in text
    assert "line 10" in text
    assert "line 9\n" not in text, "only the end of the console belongs into a message"
    assert "QEMU's log ends with" in text


@pytest.mark.parametrize(
    ("channel", "needed"), [(GuestChannel.ssh, "an SSH server must run"), (GuestChannel.serial, "on its first serial")]
)
def test_a_timeout_says_what_the_channel_needs(bench: Bench, channel: GuestChannel, needed: str) -> None:
    bench.guest.use_channel(channel, GuestAccess(address="192.0.2.1"))
    bench.guest.answers = lambda *_: False  # type: ignore[method-assign]
    assert needed in failed(lambda: wait_until_ready(bench.guest, 0.1), "not ready within")


def test_a_timeout_names_the_channel_of_another_project(bench: Bench) -> None:
    class Silent(LocalTransport):
        def ping(self, timeout: float = 5) -> bool:
            return False

    bench.guest.use_own_channel("vsock", Silent())
    message = failed(lambda: wait_until_ready(bench.guest, 0.2), "was not ready within")
    assert (
        "To answer through the channel vsock, the program that the channel connects to must run in the guest."
        in message
    )


def test_a_console_without_a_line_is_named_in_the_message(bench: Bench) -> None:
    bench.log.unlink()
    bench.never_answers()
    assert "(it wrote nothing, or has no console log)" in failed(
        lambda: wait_until_ready(bench.guest, 0.1), "not ready"
    )


def test_a_guest_that_ends_meanwhile_is_reported_at_once(bench: Bench) -> None:
    bench.never_answers(bench.destroy)
    text = failed(lambda: wait_until_ready(bench.guest, LONG), r"is shut off \(destroyed\) instead of ready")
    assert "a line of an earlier boot" in text


def test_a_domain_that_vanishes_is_reported_without_its_console(bench: Bench, link: LibvirtLink) -> None:
    """A transient domain is gone when its QEMU ends, and with it the XML that names the console's log."""
    link.act("a", "undefine", lambda domain: domain.undefine())

    def vanish() -> None:
        link.act("a", "destroy", lambda domain: domain.destroy())

    bench.answers_after(1, vanish)
    text = failed(lambda: wait_until_ready(bench.guest, LONG), "is gone instead of ready")
    assert text == "Guest a on rack1 is gone instead of ready."


def test_a_panic_is_reported_at_once_with_the_lines_around_it(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("VpmemLibrary.guest.readiness._CONSOLE_EVERY", 0.0)

    def panic() -> None:
        with bench.log.open("a") as log:
            log.write(PANIC)

    bench.never_answers(panic)
    text = failed(lambda: wait_until_ready(bench.guest, LONG), "panicked instead of being ready: Kernel panic")
    assert "Its console at the panic" in text
    assert "Unable to mount root fs" in text


def test_a_panic_that_is_seen_at_the_deadline_is_the_reason(bench: Bench) -> None:
    def panic() -> None:
        with bench.log.open("a") as log:
            log.write(PANIC)

    bench.never_answers(panic)
    text = failed(lambda: wait_until_ready(bench.guest, 0.2), r"was not ready within 0\.2 s: it panicked: Kernel panic")
    assert "must run in the guest" not in text


def test_a_panic_of_an_earlier_boot_is_no_reason(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("VpmemLibrary.guest.readiness._CONSOLE_EVERY", 0.0)
    bench.log.write_text(PANIC)
    bench.never_answers()
    assert "panicked" not in failed(lambda: wait_until_ready(bench.guest, 0.3), "it is running")


def test_a_panic_between_the_start_and_the_wait_is_seen(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("VpmemLibrary.guest.readiness._CONSOLE_EVERY", 0.0)
    bench.destroy()
    lifecycle.start(bench.guest)
    with bench.log.open("a") as log:
        log.write(PANIC)
    bench.never_answers()
    failed(lambda: wait_until_ready(bench.guest, LONG), "panicked instead of being ready")


def test_the_next_wait_does_not_blame_a_panic_before_the_guest_was_ready(bench: Bench) -> None:
    bench.destroy()
    lifecycle.start(bench.guest)
    with bench.log.open("a") as log:
        log.write(PANIC)
    wait_until_ready(bench.guest, ROOM)
    bench.never_answers()
    assert "panicked" not in failed(lambda: wait_until_ready(bench.guest, 0.1), "it is running")


def test_an_agent_that_refuses_is_reported_at_once(bench: Bench) -> None:
    def before(execute: str) -> None:
        if execute in ("guest-exec", "guest-info"):
            text = f"unable to execute QEMU agent command '{execute}': Command {execute} has been disabled"
            raise LibvirtError("call the agent", libvirt.VIR_ERR_INTERNAL_ERROR, text)

    bench.agent.before = before
    with pytest.raises(AgentRefusedError, match="allow-rpcs"):
        wait_until_ready(bench.guest, LONG)
    assert bench.agent.requests.count("guest-exec") == 1


def test_a_reboot_is_seen_by_a_new_boot_id_and_not_by_an_answer(bench: Bench) -> None:
    asked = iter(range(3))

    def before(execute: str) -> None:
        if execute == "guest-ping" and next(asked, None) is None:
            bench.agent.boot = NEW

    bench.agent.before = before
    wait_until_rebooted(bench.guest, OLD, ROOM)
    assert bench.agent.requests.count("guest-ping") == 4
    assert current_boot_id(bench.guest) == NEW


def test_a_channel_that_fails_during_the_reboot_is_tried_again(bench: Bench) -> None:
    lost = iter(range(2))

    def before(execute: str) -> None:
        if execute == "guest-exec" and next(lost, None) is not None:
            raise silence()
        bench.agent.boot = NEW

    bench.agent.before = before
    wait_until_rebooted(bench.guest, OLD, ROOM)
    assert next(lost, None) is None


@pytest.mark.parametrize("answer", ["", "no boot id"])
def test_an_answer_that_is_no_boot_id_is_no_new_boot(bench: Bench, answer: str) -> None:
    bench.agent.boot = answer
    failed(lambda: wait_until_rebooted(bench.guest, OLD, 0.3), r"was not rebooted within 0\.3 s: it is running")


def test_a_guest_with_the_old_boot_id_was_not_rebooted(bench: Bench) -> None:
    failed(lambda: wait_until_rebooted(bench.guest, OLD, 0.3), r"was not rebooted within 0\.3 s")


def test_an_agent_that_hangs_does_not_outlast_the_deadline(bench: Bench) -> None:
    release = threading.Event()

    def before(_: str) -> None:
        release.wait(LONG)
        raise silence()

    bench.agent.before = before
    try:
        failed(lambda: wait_until_ready(bench.guest, 1), "not ready within 1 s")
    finally:
        release.set()


def test_the_earlier_of_two_deadlines_holds(bench: Bench) -> None:
    bench.never_answers()
    with libvirt_deadline(0.3):
        failed(lambda: wait_until_ready(bench.guest, LONG), "it is running")


def test_a_failure_of_a_guest_that_is_off_has_its_console(bench: Bench) -> None:
    bench.destroy()
    text = failure_text(bench.guest, "did not shut down within 60 s")
    assert text.startswith("Guest a on rack1 did not shut down within 60 s.\nIts console ends with:")


def test_only_a_guest_that_is_off_is_undefined(
    bench: Bench, link: LibvirtLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifecycle, "remove_power_loss_leftovers", lambda _: None)
    with pytest.raises(GuestError, match=r"Guest a is running on rack1, so it was not undefined\. Stop it first"):
        lifecycle.undefine(bench.guest)
    link.act("a", "suspend", lambda domain: domain.suspend())
    with pytest.raises(GuestError, match="is paused"):
        lifecycle.undefine(bench.guest)
    assert link.act("a", "ask", lambda domain: domain.isPersistent())
    link.act("a", "resume", lambda domain: domain.resume())


def test_a_guest_that_is_gone_once_it_ends_is_removed(
    bench: Bench, link: LibvirtLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifecycle, "remove_power_loss_leftovers", lambda _: None)
    link.act("a", "undefine", lambda domain: domain.undefine())
    assert bench.guest.state_and_reason()[0] == "running"
    lifecycle.remove(bench.guest)
    assert bench.guest.state_and_reason()[0] == GONE
    lifecycle.remove(bench.guest)


def test_leftovers_of_a_power_loss_are_removed_and_those_of_other_guests_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The directories are those of libvirt 9.0, and of 11.3, which has no sockets of channels there."""
    lost = ("domain-27-vpmem-4e1effbe-1", "ram/27-vpmem-4e1effbe-1", "channel/target/domain-27-vpmem-4e1effbe-1")
    kept = ("domain-2-a-vpmem-4e1effbe-1", "ram/2-a-vpmem-4e1effbe-1", "channel/target/domain-3-vpmem-4e1effbe-12")
    for name in (*lost, *kept):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "org.qemu.guest_agent.0").touch()
    monkeypatch.setattr(lifecycle, "_QEMU_DIRECTORY", str(tmp_path))
    monkeypatch.setattr(Guest, "state", lambda _: OFF)
    guest = Guest.__new__(Guest)
    monkeypatch.setattr(guest, "name", "vpmem-4e1effbe-1", raising=False)
    monkeypatch.setattr(guest, "host", LocalTransport(), raising=False)
    lifecycle.remove_power_loss_leftovers(guest)
    assert [name for name in (*lost, *kept) if (tmp_path / name).exists()] == list(kept)
