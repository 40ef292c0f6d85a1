"""The hosts file: what it may say, and what is refused."""

from pathlib import Path

import pytest
from pabot.pabotlib import _PabotLib

from VpmemLibrary.errors import InvalidValueError, NotFoundError
from VpmemLibrary.host.hosts_file import find_host, read_hosts

TWO_HOSTS = """
[left]
tags = vpmem, numa
host_address = 192.0.2.13
host_port = 2222
host_user = qa
host_key_file = ~/key
host_sudo = yes
host_power_off = ipmitool -H 'rack 1' chassis power off
host_power_on = ipmitool -H 'rack 1' chassis power on
host_power_env = IPMI_PASSWORD, IPMI_KGKEY=RACK_1_KEY

[right]
host_address = local
host_may_initialize_labels = yes
guest_kernel = /boot/vmlinuz
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "hosts.dat"
    path.write_text(text)
    return path


def test_every_field_is_read(tmp_path: Path) -> None:
    left, right = read_hosts(write(tmp_path, TWO_HOSTS))
    assert (left.name, left.address, left.port, left.user, left.sudo) == ("left", "192.0.2.13", 2222, "qa", True)
    assert left.key_file == Path("~/key").expanduser()
    assert not left.may_initialize_labels
    assert left.power is not None
    assert left.power.off == ("ipmitool", "-H", "rack 1", "chassis", "power", "off")
    assert left.power.on[-1] == "on"
    assert left.power.variables == {"IPMI_PASSWORD": "IPMI_PASSWORD", "IPMI_KGKEY": "RACK_1_KEY"}
    assert right.power is None
    assert (right.address, right.port, right.may_initialize_labels) == ("local", 22, True)
    assert right.guest_kernel == "/boot/vmlinuz"


def test_pabot_reads_the_same_file(tmp_path: Path) -> None:
    values = _PabotLib(str(write(tmp_path, TWO_HOSTS)))._values
    assert set(values) == {"left", "right"}
    assert values["left"]["tags"] == ["vpmem", "numa"]


def test_a_host_is_found_by_name_or_is_the_first(tmp_path: Path) -> None:
    path = write(tmp_path, TWO_HOSTS)
    assert find_host(read_hosts(path)).name == "left"
    assert find_host(read_hosts(path), "right").name == "right"


def test_an_unknown_host_is_told_with_those_that_are_there(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"No host 'middle'.*left, right"):
        find_host(read_hosts(write(tmp_path, TWO_HOSTS)), "middle")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "at least one"),
        ("host_address = a", "sections of"),
        ("[a]\nhost_user = root", "host_address of .*a name, an IP address"),
        ("[a]\nhost_address = x\nhost_colour = red", "host_colour.*one of"),
        ("[a]\nhost_address = x\nhost_port = 0", "host_port of .*1 to 65535"),
        ("[a]\nhost_address = x\nhost_port = ssh", "host_port of .*1 to 65535"),
        ("[a]\nhost_address = x\nguest_channel = telnet", "guest_channel of .*one of agent, ssh, serial"),
        ("[a]\nhost_address = x\nguest_sudo = perhaps", "guest_sudo of .*yes or no"),
        ("[a]\nhost_address = x\nhost_sudo = perhaps", "host_sudo of .*yes or no"),
        ("[a]\nhost_address = x\nhost_libvirt_uri = xen:///system", r"host_libvirt_uri of .*\[a\].*qemu:///session"),
        ("[a]\nhost_address = x\nguest_confined = selinux", "guest_confined of .*yes or no"),
        ("[a]\nhost_address = x\nhost_power_off = ipmitool off", "host_power_on of .*a command"),
        ("[a]\nhost_address = x\nhost_power_on = ipmitool on", "host_power_off of .*a command"),
        ("[a]\nhost_address = x\nhost_power_off = 'a", "host_power_off of .*quoted as in a shell"),
        ("[a]\nhost_address = x\nhost_power_env = IPMI_PASSWORD", "host_power_env of .*a command that gets it"),
        ("[a]\nhost_address = x\nhost_cxl_env = TOKEN", "host_cxl_env of .*a command that gets it"),
        ("[a]\nhost_address = x\nhost_cxl_add = fm bind", "host_cxl_remove of .*a command"),
        ("[a]\nhost_address = x\nhost_cxl_remove = fm unbind", "host_cxl_add of .*a command"),
        ("[a]\nhost_address = x\nhost_user = 50%", "no percent sign"),
        ("[a]\nhost_address = x\n[b]\nhost_address = x", r"another host than \[a\]"),
        ("[a]\nhost_address = x\n[a]\nhost_address = y", "sections of"),
    ],
)
def test_a_wrong_file_is_refused_with_what_would_be_right(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InvalidValueError, match=message):
        read_hosts(write(tmp_path, text))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidValueError, match=r"nowhere\.dat"):
        read_hosts(tmp_path / "nowhere.dat")


def test_how_to_log_in_to_guests_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = """
[a]
host_address = x
guest_channel = serial
guest_user = qa
guest_key_file = ~/guest
guest_known_hosts = /etc/guests
guest_host_key_name = guest
guest_password_env = GUEST_PASSWORD
guest_sudo = yes
guest_bridge = br0
guest_confined = no

[b]
host_address = y
"""
    a, b = read_hosts(write(tmp_path, text))
    assert (a.guest_channel, a.guest_user, a.guest_sudo, a.guest_bridge) == ("serial", "qa", True, "br0")
    assert (a.guest_key_file, a.guest_known_hosts) == (Path("~/guest").expanduser(), Path("/etc/guests"))
    assert a.guest_host_key_name == "guest"
    with pytest.raises(InvalidValueError, match=r"guest_password_env of \[a\] 'GUEST_PASSWORD'"):
        a.guest_password()
    monkeypatch.setenv("GUEST_PASSWORD", "secret")
    assert a.guest_password() == "secret"
    assert (b.guest_channel, b.guest_user, b.guest_password(), b.guest_bridge) == ("agent", "root", None, "")
    assert (a.guest_confined, b.guest_confined) == (False, True)


def test_what_guests_boot_from_is_read(tmp_path: Path) -> None:
    text = """
[a]
host_address = x
guest_kernel = /boot/kernel
guest_initrd = /boot/initrd
guest_nfit_test_initrd = /boot/test-bus
guest_cmdline = console=ttyS0 quiet

[b]
host_address = y
guest_disk = /images/guest.qcow2
"""
    a, b = read_hosts(write(tmp_path, text))
    assert (a.guest_kernel, a.guest_initrd, a.guest_cmdline) == ("/boot/kernel", "/boot/initrd", "console=ttyS0 quiet")
    assert (a.guest_nfit_test_initrd, b.guest_nfit_test_initrd) == ("/boot/test-bus", "")
    assert (a.guest_disk, b.guest_disk) == ("", "/images/guest.qcow2")


@pytest.mark.parametrize(
    "text",
    [
        "ipmitool -P s3cret",
        "[a]\nhost_address = x\n[b\nipmitool -P s3cret\n",
        "[a]\nhost_address = x\nipmitool -P s3cret off\n",
        "[a]\nhost_address = x\nhost_power_off = ipmitool -P 's3cret",
        "[a]\nhost_address = x\nhost_power_off = ipmitool -P s3cret",
        "[a]\nhost_address = x\nhost_power_off = a -P s3cret\nhost_power_on = a -P s3cret\nhost_power_env = s3cret",
        "[a]\nhost_address = x\nhost_power_off = a\nhost_power_on = a\nhost_power_env = IPMI_PASSWORD=s3cret",
    ],
)
def test_a_wrong_file_is_refused_without_its_secrets(tmp_path: Path, text: str) -> None:
    with pytest.raises(InvalidValueError) as caught:
        read_hosts(write(tmp_path, text))
    assert "s3cret" not in str(caught.value)


def test_an_entry_shows_no_arguments_of_power_and_cxl_commands(tmp_path: Path) -> None:
    text = "[a]\nhost_address = x\n" + "".join(
        f"host_{what} = tool -P s3cret\n" for what in ("power_off", "power_on", "cxl_add", "cxl_remove")
    )
    (entry,) = read_hosts(write(tmp_path, text))
    assert entry.power is not None
    assert entry.power.off == ("tool", "-P", "s3cret")
    assert "s3cret" not in repr(entry)
    assert "s3cret" not in str(entry)


def test_the_libvirt_of_a_host_is_the_systems_unless_a_section_says_otherwise(tmp_path: Path) -> None:
    file = tmp_path / "hosts.dat"
    file.write_text(
        "[a]\nhost_address = x\n[b]\nhost_address = y\nhost_libvirt_uri = qemu:///session?socket=/srv/libvirt-sock\n"
    )
    assert [entry.libvirt_uri for entry in read_hosts(file)] == [
        "qemu:///system",
        "qemu:///session?socket=/srv/libvirt-sock",
    ]
