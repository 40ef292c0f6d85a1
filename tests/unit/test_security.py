"""Passphrases and erasures of DIMMs, on what ndctl 81 lists and exits with on a test bus (kernel 6.12)."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from recorded_host import RecordedHost, left

from VpmemLibrary.errors import (
    BusyError,
    CommandError,
    CommandTimeoutError,
    ForeignError,
    InvalidValueError,
    NotFoundError,
    ToolMissingError,
    UnsupportedError,
    VpmemError,
)
from VpmemLibrary.host.host import Host
from VpmemLibrary.keywords.pmem.security import SecurityKeywords
from VpmemLibrary.ownership.marks import RunMark
from VpmemLibrary.pmem.media.security import EraseMethod, Security
from VpmemLibrary.pmem.ndctl import Ndctl
from VpmemLibrary.session.open_host import OpenHost
from VpmemLibrary.session.session import Session
from VpmemLibrary.transport.base import CommandResult

DIMM = {"dev": "nmem0", "id": "cdab-0a-07e0-ffffffff", "handle": 0, "phys_id": 0}
PLAIN = {"dev": "nmem4", "id": "cdab-0a-07e0-fffffeff", "handle": 65536, "phys_id": 0, "flag_failed_save": True}


def listing(*states: str, region: str = "disabled", provider: str = "nfit_test.0") -> list[str | CommandResult]:
    """Return a listing for each state of nmem0: its security state, and `frozen` if it is frozen."""
    results: list[str | CommandResult] = []
    for state in states:
        security: dict[str, Any] = {"security": state.split()[0]} if state else {}
        if "frozen" in state:
            security["security_frozen"] = True
        regions = [{"dev": "region1", "size": 536870912, "type": "pmem", "mappings": [{"dimm": "nmem0"}]}]
        regions[0] |= {"state": region} if region else {}
        bus = {"provider": provider, "dev": "ndbus0", "dimms": [{**DIMM, **security}, PLAIN], "regions": regions}
        results.append(left(0, json.dumps([bus])))
    return results


def security(*states: str, **answers: CommandResult) -> tuple[Security, RecordedHost]:
    """Return the security of a host whose regions are disabled."""
    given = {name.replace("_", "-"): answer for name, answer in answers.items()}
    machine = RecordedHost({"ndctl list": listing(*states), "forget_passphrase": left(0), **given})
    return Security(Ndctl(machine)), machine


DONE = left(0, "", "passphrase enabled for 1 nmem.\n")


def test_the_state_is_that_of_the_listing() -> None:
    for listed, shown in (("disabled", "disabled"), ("unlocked frozen", "unlocked frozen"), ("", "")):
        assert str(security(listed)[0].state("nmem0")) == shown
    with pytest.raises(NotFoundError, match="nmem0, nmem4"):
        security("disabled")[0].state("nmem7")


def test_a_passphrase_is_set_and_changed_with_a_named_master_key_and_no_secret_in_the_command() -> None:
    for before, verb in (("disabled", "setup"), ("unlocked", "update")):
        secured, machine = security(before, before, "unlocked", **{f"{verb}_passphrase": DONE})
        assert secured.set_passphrase("nmem0", "qa").state == "unlocked"
        act = machine.acts[-1]
        command = ("acts", "with_keys", "qa", "", "ndctl", f"{verb}-passphrase", "@dimm@", "--key-handle", "user:qa")
        assert act.command == command
        assert act.targets == (f"-d {DIMM['id']}",)


def test_a_passphrase_that_is_not_there_afterwards_is_a_failure() -> None:
    secured, _ = security("disabled", setup_passphrase=DONE)
    with pytest.raises(CommandError, match="ndctl exited 0, but the security state is disabled"):
        secured.set_passphrase("nmem0", "qa")
    secured, _ = security("unlocked", remove_passphrase=left(0))
    with pytest.raises(CommandError, match="ndctl exited 0, but the security state is unlocked"):
        secured.remove_passphrase("nmem0")
    secured, _ = security("unlocked", freeze_security=left(0))
    with pytest.raises(CommandError, match="not frozen"):
        secured.freeze("nmem0")
    secured, _ = security("locked", enable_dimm=left(0, "", "enabled 1 nmem\n"))
    with pytest.raises(CommandError, match=r"still locked.*/etc/ndctl/keys.*keyctl show @u"):
        secured.unlock("nmem0")


@pytest.mark.parametrize(
    ("state", "change", "text"),
    [
        ("", lambda s: s.set_passphrase("nmem0", "qa"), "has no security"),
        ("locked", lambda s: s.set_passphrase("nmem0", "qa"), "it is locked"),
        ("locked", lambda s: s.erase("nmem0", EraseMethod.overwrite), "it is locked"),
        ("disabled", lambda s: s.remove_passphrase("nmem0"), "it is in state disabled"),
        ("unlocked frozen", lambda s: s.set_passphrase("nmem0", "qa"), "frozen until it loses its power"),
        ("unlocked frozen", lambda s: s.remove_passphrase("nmem0"), "frozen"),
        ("unlocked frozen", lambda s: s.erase("nmem0", EraseMethod.crypto), "frozen"),
        ("unlocked frozen", lambda s: s.freeze("nmem0"), "frozen"),
    ],
)
def test_what_the_state_does_not_allow_is_refused_before_any_change(
    state: str, change: Callable[[Security], object], text: str
) -> None:
    secured, machine = security(state)
    with pytest.raises(UnsupportedError, match=text):
        change(secured)
    assert machine.acts == []


def test_a_dimm_with_an_enabled_region_is_not_changed() -> None:
    machine = RecordedHost({"ndctl list": listing("unlocked", region="")})
    secured = Security(Ndctl(machine))
    changes: list[Callable[[], object]] = [
        lambda: secured.set_passphrase("nmem0", "qa"),
        lambda: secured.remove_passphrase("nmem0"),
        lambda: secured.erase("nmem0", EraseMethod.crypto),
    ]
    for change in changes:
        with pytest.raises(BusyError, match=r"while regions on the DIMM are enabled: region1\. Nothing was changed"):
            change()
    assert machine.acts == []


def test_an_overwrite_is_waited_for_and_only_a_secure_erase_takes_the_master_passphrase() -> None:
    # Linux before 6.2 lists no state during an overwrite of its test bus.
    for during in ("overwrite", ""):
        secured, machine = security("unlocked", "unlocked", during, "unlocked", sanitize_dimm=left(0))
        assert secured.erase("nmem0", EraseMethod.overwrite).state == "unlocked"
        assert machine.acts[-1].command[:4] == ("acts", "keep_passphrase", DIMM["id"], "with_keys")
        secured, machine = security("unlocked", "unlocked", during, sanitize_dimm=left(0))
        with pytest.raises(CommandTimeoutError, match=r"overwrite of DIMM nmem0.*did not end within 0 s\. It"):
            secured.erase("nmem0", EraseMethod.overwrite, timeout=0)
    with pytest.raises(InvalidValueError, match="only crypto-erase supports the master passphrase"):
        secured.erase("nmem0", EraseMethod.overwrite, master=True)
    secured, machine = security("locked", "locked", "disabled", sanitize_dimm=left(0))
    assert secured.erase("nmem0", EraseMethod.crypto, master=True).state == "disabled"
    assert machine.changes[-1].endswith(f"forget_passphrase {DIMM['id']}")


def test_a_host_without_keyctl_is_told_its_package() -> None:
    secured, _ = security("disabled", setup_passphrase=left(127, "", "keyctl is not installed\n"))
    with pytest.raises(ToolMissingError, match="install the package keyutils"):
        secured.set_passphrase("nmem0", "qa")


def keywords(machine: RecordedHost, patch: pytest.MonkeyPatch, others: list[str]) -> SecurityKeywords:
    session = Session(RunMark("01234567"), 60)
    opened = OpenHost(Host("recorded", machine), session.run)
    patch.setattr(opened.tenancy, "leases_of_others", lambda: others)
    session.add(opened)
    return SecurityKeywords(session)


def test_a_dimm_of_a_real_bus_and_a_host_that_others_use_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    real = RecordedHost({"ndctl list": listing("disabled", provider="ACPI.NFIT")})
    for keyword in ("set_passphrase", "remove_passphrase", "freeze_dimm_security", "erase_dimm"):
        with pytest.raises(ForeignError, match=r"its bus is real \(provider ACPI\.NFIT\).*foreign=True"):
            getattr(keywords(real, monkeypatch, []), keyword)("nmem0")
        with pytest.raises(ForeignError, match="other workers have leases on the host: ns1 is held by run 89abcdef"):
            getattr(keywords(real, monkeypatch, ["ns1 is held by run 89abcdef"]), keyword)("nmem0", foreign=True)
    with pytest.raises(InvalidValueError, match=r"master_key.*keyctl show @u"):
        keywords(real, monkeypatch, []).set_passphrase("nmem0", foreign=True)
    assert real.acts == []


def test_errors_are_the_librarys_own_for_any_state() -> None:
    for state in ("overwrite", "master", "7", "null"):
        secured, _ = security(state)
        with pytest.raises(VpmemError):
            secured.remove_passphrase("nmem0")
