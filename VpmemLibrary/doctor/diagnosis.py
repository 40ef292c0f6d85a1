"""Run all checks of one host, in the order in which a run needs their results."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack
from functools import partial
from typing import Generic, TypeVar

from VpmemLibrary.doctor import account, checks, reach
from VpmemLibrary.doctor.facts import read_doctor_facts
from VpmemLibrary.doctor.findings import Diagnosis, Finding, Verdict, ok, problem, reason, run_check
from VpmemLibrary.doctor.image import IMAGE_TIMEOUT, check_image
from VpmemLibrary.doctor.libvirt import LibvirtFacts, ask_libvirt
from VpmemLibrary.errors import VpmemError
from VpmemLibrary.host.host import Host
from VpmemLibrary.host.hosts_entry import HostEntry
from VpmemLibrary.host.hosts_file import transport_to
from VpmemLibrary.host.libvirt_daemon import Daemon
from VpmemLibrary.host.preflight import check_facts
from VpmemLibrary.pmem.records import Region
from VpmemLibrary.transport.base import Transport
from VpmemLibrary.transport.controller import start_thread
from VpmemLibrary.transport.ssh.transport import SshTransport

_DEADLINE = 20.0
"""Maximum seconds for each check. On a healthy host, a check is much faster."""

_ECHO = "vpmem"

T = TypeVar("T")


def diagnose(entry: HostEntry, *, guest_image: str = "") -> Diagnosis:
    """Find the problems that would break a run on a host. Change nothing on the host.

    Args:
        entry: How to reach the host.
        guest_image: A disk image on the host, to check its guest agent too. Empty for none.

    Returns:
        The findings. A check that fails is a finding too.

    Example: ``diagnose(HostEntry("rack1", "192.0.2.13", user="qa", sudo=True)).passed``.
    """
    started = time.monotonic()
    findings: list[Finding] = []
    try:
        plain = reach.plain_transport_to(entry)
    except VpmemError as error:  # e.g. the environment variable for the password is not set
        findings.append(problem("settings", reason(error)))
    else:
        with ExitStack() as stack:
            stack.callback(plain.close)
            found, reached, elevated = _log_in(plain, entry)
            findings += found
            if reached:
                # If sudo refuses, the user that logs in runs the other checks, so that they find other problems too.
                transport = transport_to(entry) if elevated else plain
                stack.callback(transport.close)
                findings += _look(transport, entry, guest_image)
    return Diagnosis(entry.name, tuple(findings), time.monotonic() - started)


def _log_in(plain: Transport, entry: HostEntry) -> tuple[list[Finding], bool, bool]:
    """Check the connection and the log-in.

    Returns:
        The findings, whether a user is logged in, and whether commands run as root as the entry requires.
    """
    accounts: list[reach.Account] = []

    def ask(question: Callable[[], reach.Account]) -> Iterable[Finding]:
        accounts.append(question())
        return account.check_shell(accounts[0])

    findings: list[Finding] = []
    if isinstance(plain, SshTransport):
        link = reach.Link(plain.settings)
        try:
            findings += run_check("address", link.log_in, _DEADLINE)
            if not link.is_open:
                return findings, False, False
            findings += run_check("sessions", link.count_sessions, _DEADLINE)
            findings += run_check("login shell", lambda: ask(link.ask_account), _DEADLINE)
        finally:
            link.close()
    else:
        findings.append(ok("address", "this machine, without SSH"))
        findings += run_check("login shell", lambda: ask(reach.ask_local_account), _DEADLINE)
    root = [each for known in accounts for each in account.check_elevation(known, sudo=entry.sudo)]
    return [*findings, *root], True, all(each.verdict is not Verdict.problem for each in root)


class _Question(Generic[T]):
    """A question to the host, asked once, in a thread of its own. All checks that need the answer share it."""

    def __init__(self, ask: Callable[[], T]) -> None:
        self._answer: Future[T] = Future()
        self._deadline = time.monotonic() + _DEADLINE

        def run() -> None:
            try:
                self._answer.set_result(ask())
            except BaseException as error:  # `answer` raises the error
                self._answer.set_exception(error)

        start_thread(run, "a question of the doctor")

    def answer(self) -> T:
        """Wait for the answer and return it. If the question failed, raise its error.

        Raises:
            TimeoutError: There is no answer within the deadline.
        """
        return self._answer.result(max(0.0, self._deadline - time.monotonic()))


def _read_regions(host: Host) -> tuple[tuple[Region, ...], tuple[str, ...], set[str]]:
    listed = host.ndctl.inventory()
    unlabeled = tuple(region.dev for region in host.regions.unlabeled(listed))
    return listed.regions, unlabeled, host.ndctl.read_only(listed.regions)


def _look(transport: Transport, entry: HostEntry, guest_image: str) -> list[Finding]:
    """Run all checks that follow the log-in, and return the findings."""
    machine = Host(entry.name, transport)
    host = _Question(machine.facts)
    facts = _Question(lambda: read_doctor_facts(transport))
    libvirt = _Question(lambda: ask_libvirt(transport, Daemon.of(entry.libvirt_uri)))
    there = _Question(lambda: _read_regions(machine))

    def confinement() -> Iterable[Finding]:
        try:
            models = libvirt.answer().models
        except (VpmemError, TimeoutError):  # the check of libvirt reports this error
            models = ()
        return checks.check_confinement(facts.answer(), models, confined=entry.guest_confined)

    def regions() -> Iterable[Finding]:
        listed, unlabeled, read_only = there.answer()
        return checks.check_regions(listed, unlabeled, may_label=entry.may_initialize_labels, read_only=read_only)

    steps: list[tuple[str, Callable[[], Iterable[Finding]]]] = [
        ("commands", lambda: _check_commands(transport)),
        ("preflight", lambda: checks.check_preflight(check_facts(host.answer(), entry.name))),
        ("guard", lambda: checks.check_tools(facts.answer(), host.answer())),
        ("locks", lambda: checks.check_directories(facts.answer())),
        ("libvirt socket", lambda: checks.check_sockets(facts.answer())),
        ("libvirt relay", lambda: checks.check_relay(facts.answer(), host.answer())),
        ("libvirt answers", lambda: [_answered(libvirt.answer())]),
        ("QEMU pmem", lambda: checks.check_qemu(facts.answer())),
        ("machine types", lambda: checks.check_machines(libvirt.answer())),
        ("confinement", confinement),
        ("regions", regions),
        ("leases", lambda: checks.check_leases(facts.answer())),
        ("clock", lambda: checks.check_clock(facts.answer())),
    ]
    findings = [each for check, work in steps for each in run_check(check, work, _DEADLINE + 1)]
    if guest_image:
        image = partial(check_image, transport, guest_image)
        findings += run_check("guest image", lambda: image(host.answer()), IMAGE_TIMEOUT)
    return findings


def _check_commands(transport: Transport) -> Iterator[Finding]:
    """Check that the output of a command arrives unchanged over the transport of a run."""
    result = transport.run(["printf", "%s", _ECHO], timeout=_DEADLINE).check()
    if result.text == _ECHO:
        yield ok("commands", "their output arrives unchanged")
    else:
        found = f"the output of a command is {result.text[:80]!r} instead of {_ECHO!r}"
        yield problem("commands", found, "See the finding on noise")


def _answered(facts: LibvirtFacts) -> Finding:
    return ok("libvirt answers", f"as version {facts.version}")
