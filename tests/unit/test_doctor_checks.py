"""The doctor's checks on what a real host answered (tests/data/doctor), each broken once."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pytest
from fuzz import fuzz, fuzzed
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from recorded_host import left

from VpmemLibrary.doctor import checks
from VpmemLibrary.doctor.facts import GUARD_TOOLS, DoctorFacts, decode_doctor_facts
from VpmemLibrary.doctor.findings import Finding, Verdict, run_check
from VpmemLibrary.doctor.image import decode_image
from VpmemLibrary.doctor.libvirt import LibvirtFacts, decode_capabilities
from VpmemLibrary.errors import UnreadableOutputError, VpmemError
from VpmemLibrary.guest.channel.agent_rules import AGENT_COMMANDS, refused_commands
from VpmemLibrary.host.facts import HostFacts
from VpmemLibrary.host.packages import PACKAGES, install
from VpmemLibrary.host.preflight import Preflight, PreflightItem, PreflightStatus
from VpmemLibrary.pmem.records import Region
from VpmemLibrary.sizes import GiB, KiB, MiB, Size

DATA = Path(__file__).parents[1] / "data" / "doctor"
DEBIAN = HostFacts(distribution_family=("debian",))


def values() -> dict[str, str]:
    """What a lab host answered."""
    found = json.loads((DATA / "facts_debian-13_lab-host.json").read_text())["facts"]
    return {name: value if isinstance(value, str) else "\n".join(value) for name, value in found.items()}


def facts(**changed: str) -> DoctorFacts:
    """What a lab host answered, with some answers changed; a blank in a fact's name is an underscore here."""
    there = values()
    now = float(there["now"])
    return DoctorFacts({**there, **{name.replace("_TOOL_", "tool "): text for name, text in changed.items()}}, now, now)


def libvirt() -> LibvirtFacts:
    return decode_capabilities(
        "11.3.0",
        (DATA / "capabilities_debian-13_lab-host.xml").read_text(),
        (DATA / "domain_capabilities_debian-13_lab-host.xml").read_text(),
    )


def verdicts(found: Iterable[Finding]) -> dict[str, Verdict]:
    return {each.check: each.verdict for each in found}


def the(found: Iterable[Finding], check: str) -> Finding:
    (one,) = [each for each in found if each.check == check]
    return one


@pytest.mark.parametrize(
    "check",
    [
        lambda: checks.check_tools(facts(), DEBIAN),
        lambda: checks.check_directories(facts()),
        lambda: checks.check_clock(facts()),
        lambda: checks.check_leases(facts()),
        lambda: checks.check_relay(facts(), DEBIAN),
        lambda: checks.check_sockets(facts()),
        lambda: checks.check_qemu(facts()),
        lambda: checks.check_machines(libvirt()),
        lambda: checks.check_confinement(facts(), libvirt().models, confined=True),
    ],
)
def test_nothing_is_wrong_with_a_lab_host(check: Callable[[], Iterable[Finding]]) -> None:
    found = list(check())
    assert found
    assert {each.verdict for each in found} == {Verdict.ok}, found
    assert {each.fix for each in found} == {""}


BROKEN: list[tuple[Callable[[], Iterable[Finding]], str, Verdict, str, str]] = [
    (
        lambda: checks.check_tools(facts(_TOOL_flock="", _TOOL_awk=""), DEBIAN),
        *("guard", Verdict.problem, "no flock, awk", "apt install util-linux mawk"),
    ),
    (
        lambda: checks.check_tools(facts(bash="GNU bash, version 4.2.46(2)-release"), DEBIAN),
        *("bash version", Verdict.problem, "4.2", "apt install bash"),
    ),
    (
        lambda: checks.check_directories(facts(run="/run\nno\nno\ndrwxr-xr-x\ntmpfs 1 1 804152 1% /run", uid="1000")),
        *("locks", Verdict.problem, "/run cannot be written", "host_sudo = yes"),
    ),
    (
        lambda: checks.check_directories(facts(run="/run/vpmem\nyes\nyes\ndrwxrwxrwx\ntmpfs 1 1 804152 1% /run")),
        *("locks", Verdict.problem, "drwxrwxrwx", "chmod go-w /run/vpmem"),
    ),
    (
        lambda: checks.check_directories(facts(run="/run/vpmem\nyes\nno\ndrwxr-xr-x\ntmpfs 1 1 804152 1% /run")),
        *("locks", Verdict.problem, "must belong to user root", "chown root /run/vpmem"),
    ),
    (
        lambda: checks.check_directories(
            facts(lease_directory="/var/lib\nyes\nyes\ndrwxr-xr-x\n/dev/vda 9 9 10 99% /")
        ),
        *("leases' directory", Verdict.problem, "0B free", "df -h /var/lib"),
    ),
    (
        lambda: checks.check_directories(facts(run="")),
        *("locks", Verdict.problem, "could not be checked", ""),
    ),
    (
        lambda: skewed(-3600),
        *("clock", Verdict.warning, "3599 s behind", "timedatectl"),
    ),
    (lambda: skewed(60), "clock", Verdict.warning, "60 s ahead", "timedatectl"),
    (lambda: checks.check_clock(facts(now="")), "clock", Verdict.problem, "could not be checked", ""),
    (lambda: checks.check_clock(facts(now="\u00b2")), "clock", Verdict.problem, "could not be checked", ""),
    (
        lambda: checks.check_leases(
            facts(leases="host 77 run=0a1b2c3d&worker=w&controller=ci-7&token=t&fence=3&since=1", locks="12\n77")
        ),
        *("leases", Verdict.warning, "host by run 0a1b2c3d from ci-7", "Wait until that run ends"),
    ),
    (
        lambda: checks.check_relay(facts(relays="nc without -U"), DEBIAN),
        *("libvirt relay", Verdict.problem, "does not support unix sockets", "apt install netcat-openbsd"),
    ),
    (
        lambda: checks.check_relay(facts(relays=""), replace(DEBIAN, distribution_family=("rocky", "rhel", "fedora"))),
        *("libvirt relay", Verdict.problem, "the host has no program that connects", "dnf install nmap-ncat"),
    ),
    (
        lambda: checks.check_sockets(facts(sockets="")),
        *("libvirt socket", Verdict.problem, "no socket in /run/libvirt", "systemctl enable --now virtqemud.socket"),
    ),
    (
        lambda: checks.check_sockets(facts(sockets="/run/libvirt/libvirt-sock closed", user="qa")),
        *("libvirt socket", Verdict.problem, "may not be used by user qa", "usermod -aG libvirt qa"),
    ),
    (
        lambda: checks.check_sockets(facts(sockets="/run/libvirt/virtqemud-sock-ro open")),
        *("libvirt socket", Verdict.problem, "only the read-only socket", "systemctl enable"),
    ),
    (
        lambda: checks.check_sockets(facts(sockets="/run/user/1000/libvirt/libvirt-sock open")),
        *("libvirt socket", Verdict.problem, "only a session daemon runs", "systemctl enable"),
    ),
    (
        lambda: checks.check_qemu(facts(pmem="align=<int>\n  share=<bool>")),
        *("QEMU pmem", Verdict.warning, "without libpmem", "--enable-libpmem"),
    ),
    (
        lambda: checks.check_qemu(facts(pmem="")),
        *("QEMU pmem", Verdict.problem, "could not be checked", "memory-backend-file,help"),
    ),
    (
        lambda: checks.check_machines(replace(libvirt(), machines=("microvm", "isapc"))),
        *("machine types", Verdict.problem, "none of microvm, isapc", "Install the QEMU"),
    ),
    (
        lambda: checks.check_machines(replace(libvirt(), machines=())),
        *("machine types", Verdict.problem, "found no QEMU", "capabilities"),
    ),
    (
        lambda: checks.check_machines(replace(libvirt(), machine="microvm")),
        *("machine types", Verdict.warning, "default is microvm", "Name the machine type"),
    ),
    (
        lambda: checks.check_confinement(facts(), ("none", "dac"), confined=True),
        *("confinement", Verdict.warning, "libvirt confines no guest", "security_driver"),
    ),
    (
        lambda: checks.check_preflight(
            Preflight("a", (PreflightItem("daxctl", PreflightStatus.missing, "", "reads", "Run: apt install daxctl"),))
        ),
        *("daxctl", Verdict.problem, "missing", "apt install daxctl"),
    ),
    (lambda: region(state="disabled"), "region region0", Verdict.warning, "disabled", "ndctl enable-region region0"),
    (lambda: region(unlabeled=True), "region region0", Verdict.warning, "without labels", "init-labels nmem0"),
    (lambda: region(unlabeled=True), "regions", Verdict.problem, "no namespace can be", "See the findings"),
    (lambda: region(dimms=()), "region region0", Verdict.warning, "no DIMM", ""),
    (lambda: region(max_available_extent=Size(0)), "region region0", Verdict.warning, "full", "destroy-namespace"),
]


@pytest.mark.parametrize(("check", "name", "verdict", "found", "fix"), BROKEN, ids=lambda each: str(each)[:24])
def test_a_fault_is_found_with_its_fix(
    check: Callable[[], Iterable[Finding]], name: str, verdict: Verdict, found: str, fix: str
) -> None:
    one = the(check(), name)
    assert one.verdict is verdict, one
    assert found in one.found
    assert fix in one.fix
    assert "\n" not in str(one)


def skewed(seconds: int) -> Iterable[Finding]:
    there = facts()
    return checks.check_clock(replace(there, values={**there.values, "now": str(int(there["now"]) + seconds)}))


def region(*, unlabeled: bool = False, **changed: object) -> list[Finding]:
    one = Region(
        "region0", size=Size(GiB), available_size=Size(GiB), align=Size(16 * MiB), type="pmem", dimms=("nmem0",)
    )
    made = replace(one, **changed)
    return list(checks.check_regions([made], ["region0"] if unlabeled else [], may_label=False))


@pytest.mark.parametrize("late", [0.0, 2.0])
def test_a_clock_within_the_time_of_the_question_is_right(late: float) -> None:
    now = float(values()["now"])
    there = DoctorFacts(values(), now - late, now + late + 0.9)
    assert verdicts(checks.check_clock(there)) == {"clock": Verdict.ok}


def test_a_region_says_which_sizes_fit() -> None:
    assert the(region(), "region region0").found == "1GiB, sizes in steps of 16MiB; namespaces from 16MiB to 1GiB fit"
    six = tuple(f"nmem{number}" for number in range(6))
    found = the(region(dimms=six, align=Size(96 * MiB)), "region region0")
    assert "steps of 96MiB, interleaved over 6 DIMMs; namespaces from 96MiB to 960MiB fit" in found.found


def test_the_sizes_that_fit_are_those_of_the_machines_own_alignments() -> None:
    """arm64 with pages of 64 KiB maps 512 MiB at once."""
    capabilities = [{"mode": "devdax", "alignments": [64 * KiB, 512 * MiB]}]
    found = the(region(extra={"capabilities": capabilities}), "region region0").found
    assert found == "1GiB, sizes in steps of 512MiB; namespaces from 512MiB to 1GiB fit"


def test_a_read_only_region_takes_no_namespace() -> None:
    one = Region("region0", size=Size(GiB), available_size=Size(GiB), type="pmem", dimms=("nmem0", "nmem1"))
    findings = list(checks.check_regions([one], [], may_label=True, read_only={"region0"}))
    assert "read-only" in the(findings, "region region0").found
    assert the(findings, "region region0").fix.startswith("ndctl list -D -d nmem0 -d nmem1")
    assert the(findings, "regions").verdict is Verdict.problem


def test_regions_that_are_no_persistent_memory_are_left_alone() -> None:
    found = region(type="volatile")
    assert the(found, "region region0").verdict is Verdict.ok
    assert the(found, "regions").verdict is Verdict.problem


def test_labels_may_be_written_where_the_hosts_file_says_so() -> None:
    one = Region("region0", size=Size(GiB), align=Size(16 * MiB), type="pmem", dimms=("nmem0",))
    assert verdicts(checks.check_regions([one], ["region0"], may_label=True)) == {"region region0": Verdict.ok}


def test_leases_of_runs_that_ended_are_no_fault() -> None:
    found = the(checks.check_leases(facts(leases="host 77 run=1&controller=a&fence=1", locks="12")), "leases")
    assert found.verdict is Verdict.ok
    assert "1 leftovers of ended runs" in found.found


def test_half_an_answer_is_an_error() -> None:
    with pytest.raises(UnreadableOutputError, match="did not run to its end"):
        decode_doctor_facts(left(0, "now\0001\0uid\0000\000"), 0, 0)


def test_a_check_that_fails_or_hangs_hides_no_other() -> None:
    def fail() -> Sequence[Finding]:
        raise KeyError("x")

    def hang() -> Sequence[Finding]:
        import threading  # noqa: PLC0415

        threading.Event().wait(5)
        return []

    (failed,) = run_check("sudo", fail, 5)
    (hung,) = run_check("libvirt", hang, 0.05)
    assert (failed.verdict, failed.found) == (Verdict.problem, "could not be checked: 'x'")
    assert (hung.verdict, hung.found) == (Verdict.problem, "could not be checked: no answer within 0.05 s")


AGENTS = [
    ("[general]\nblock-rpcs = guest-exec,guest-exec-status\n", ("guest-exec", "guest-exec-status")),
    ("[general]\nblacklist=guest-file-open;guest-file-read\n", ("guest-file-open", "guest-file-read")),
    ("# BLACKLIST_RPC=guest-exec\nBLACKLIST_RPC=guest-file-write\n", ("guest-file-write",)),
    (
        'FILTER_RPC_ARGS="--allow-rpcs=guest-ping,guest-exec,guest-exec-status,guest-file-open,guest-file-read,'
        'guest-file-write,guest-file-flush"\n',
        ("guest-file-close",),
    ),
    ('DAEMON_ARGS="-b guest-exec"\n', ("guest-exec",)),
    ('# DAEMON_ARGS="-b guest-exec"\n#FILTER_RPC_ARGS="--allow-rpcs=guest-ping"\n', ()),
    ("BLACKLIST_RPC=\n", ()),
    ("", ()),
]


@pytest.mark.parametrize(("text", "refused"), AGENTS)
def test_the_commands_that_an_agent_refuses(text: str, refused: tuple[str, ...]) -> None:
    assert refused_commands(text, commands=AGENT_COMMANDS) == refused


@pytest.mark.parametrize(
    ("printed", "found", "fix"),
    [
        ("absent\0", "there is no /a.img", "ls -l /a.img"),
        ("unreadable\0", "cannot be read", "--sudo"),
        ("none\0", "no libguestfs", "apt install libguestfs-tools"),
        ("refused\0", "no operating system", "virt-inspector -a /a.img"),
        (
            "guestfish\0== /etc/sysconfig/qemu-ga\nBLACKLIST_RPC=guest-exec\n== /etc/default/qemu-guest-agent\n\0",
            "refuses guest-exec because of /etc/sysconfig/qemu-ga",
            "virt-customize -a /a.img --edit '/etc/sysconfig/qemu-ga:",
        ),
    ],
)
def test_a_fault_of_a_guest_image_is_found_with_its_fix(printed: str, found: str, fix: str) -> None:
    (one,) = decode_image(left(0, printed), DEBIAN, "/a.img")
    assert one.verdict is Verdict.problem
    assert found in one.found
    assert fix in one.fix


def test_an_image_whose_agent_refuses_nothing_is_good() -> None:
    (one,) = decode_image(left(0, "debugfs\0== /etc/default/qemu-guest-agent\n\n\0"), DEBIAN, "/a.img")
    assert one.verdict is Verdict.ok


@pytest.mark.parametrize(
    ("family", "command"),
    [
        (("ubuntu", "debian"), "apt install netcat-openbsd coreutils"),
        (("rocky", "rhel", "centos", "fedora"), "dnf install nmap-ncat coreutils"),
        (("opensuse-leap", "suse", "opensuse"), "zypper install netcat-openbsd coreutils"),
        (
            ("gentoo",),
            "Install netcat-openbsd, coreutils with the package manager of the distribution "
            "(these are Debian's names of the packages).",
        ),
    ],
)
def test_the_command_is_that_of_the_distribution(family: tuple[str, ...], command: str) -> None:
    assert install(replace(DEBIAN, distribution_family=family), "nc", "stat", "sort") == command


@pytest.mark.parametrize("tool", [*GUARD_TOOLS, "bash", "guestfish", "nc"])
def test_each_tool_that_can_be_missing_has_a_package(tool: str) -> None:
    assert install(DEBIAN, tool).startswith("apt install ")
    assert all(len(columns) == 3 for columns in PACKAGES.values())


TEXTS = st.text(st.characters(exclude_categories=()), max_size=60) | st.sampled_from(sorted(values().values()))


@fuzz
@fuzzed
@given(st.dictionaries(st.sampled_from(sorted(values())), TEXTS, max_size=6))
def test_fuzz_facts(changed: dict[str, str]) -> None:
    there = {**values(), **changed}
    made = DoctorFacts(there, 0.0, 0.0)
    found = [
        *checks.check_tools(made, DEBIAN),
        *checks.check_directories(made),
        *checks.check_clock(made),
        *checks.check_leases(made),
        *checks.check_relay(made, DEBIAN),
        *checks.check_sockets(made),
        *checks.check_qemu(made),
        *checks.check_confinement(made, ("apparmor",), confined=True),
    ]
    assert all("\n" not in str(each) for each in found)


@fuzz
@fuzzed
@given(TEXTS, TEXTS)
def test_fuzz_capabilities_and_agents(first: str, second: str) -> None:
    list(checks.check_machines(decode_capabilities("1", first, second)))
    refused_commands(first)
    printed = f"guestfish\0== /etc/{second}\n{first}\0".encode("utf-8", "surrogatepass")
    with_tool = replace(left(0), stdout=printed)
    with contextlib.suppress(VpmemError):
        list(decode_image(with_tool, DEBIAN, second))
