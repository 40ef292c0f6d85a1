"""The hosts file: what it may say, and what is refused."""

from pathlib import Path

import pytest
from pabot.pabotlib import _PabotLib

from VpmemLibrary import VpmemLibrary
from VpmemLibrary.errors import InvalidValueError, NotFoundError, UnreachableError
from VpmemLibrary.host.hosts_file import configured, find_host, read_hosts, settings_of, transport_to

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
    assert (right.address, right.port, right.may_initialize_labels) == ("local", None, True)
    assert right.guest_kernel == "/boot/vmlinuz"


def test_pabot_reads_the_same_file(tmp_path: Path) -> None:
    values = _PabotLib(str(write(tmp_path, TWO_HOSTS)))._values
    assert set(values) == {"left", "right"}
    assert values["left"]["tags"] == ["vpmem", "numa"]


def test_a_host_is_found_by_name_or_is_the_first(tmp_path: Path) -> None:
    path = write(tmp_path, TWO_HOSTS)
    assert find_host(read_hosts(path)).name == "left"
    assert find_host(read_hosts(path), "right").name == "right"


def test_an_unknown_host_is_reported_with_the_known_hosts(tmp_path: Path) -> None:
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
        ("[a]\nhost_address = x\nhost_power_env = IPMI_PASSWORD", "host_power_env of .*expected host_.* as well"),
        ("[a]\nhost_address = x\nhost_cxl_env = TOKEN", "host_cxl_env of .*expected host_.* as well"),
        ("[a]\nhost_address = x\nhost_cxl_add = fm bind", "host_cxl_remove of .*a command"),
        ("[a]\nhost_address = x\nhost_cxl_remove = fm unbind", "host_cxl_add of .*a command"),
        ("[a]\nhost_address = x\nhost_test_bus_add = swap on", "host_test_bus_remove of .*set both or neither"),
        ("[a]\nhost_address = x\nhost_user = 50%", "%% for each percent sign"),
        ("[a]\nhost_address = x\n[b]\nhost_address = x", r"another host than \[a\]"),
        ("[a]\nhost_address = x\n[a]\nhost_address = y", "sections of .*'a' already exists"),
        ("[a]\nhost_address = x\nhost_address = y", "sections of .*'host_address' .* already exists"),
        ("[a]\nhost_address = x\nhost_adress = x", "host_adress' .*host_address .the most similar name., or one of"),
        ("[a]\nhost_address = x\nHost_Sude = no", "host_sude' .*expected host_sudo .the most similar name."),
        ("[a]\nhost_address = x\nhost_user = qa ; the user", "host_user of .*'qa ; the user'.*a separate line"),
        ("[a]\nhost_address = x # the third", "host_address of .*'x # the third'.*a separate line"),
        ("[a]\nhost_address = x\nhost_sudo = yes\t; why", "host_sudo of .*a separate line"),
        ("[a]\nhost_address = x\nhost_user = qa ; it's", "host_user of .*a separate line"),
        ("[a]\nhost_address = x\nhost_user = qa;comment", "host_user of .*nothing after the name"),
        ("[a]\nhost_address = x\nguest_cmdline = quiet # less", "guest_cmdline of .*a separate line"),
        ('[a]\nhost_address = "x"', "host_address of .*without quotes: host_address = x"),
        (
            "[a]\nhost_address = x\nhost_key_file = '~/my key'",
            "host_key_file of .*without quotes: host_key_file = ~/my key",
        ),
        ("[a]\nhost_address = x\nhost_user = “qa”", "host_user of .*without quotes"),
        ("[a]\nhost_address = x\n  host_user = qa", "host_address of .*next line .host_user. is indented"),
        ("[a]\nhost_address = x\n\thost_user : qa", "host_address of .*next line .host_user. is indented"),
        ("[a]\nhost_address = x\n\n  y", "host_address of .*the next line is indented"),
        ("[a]\nhost_address = x\nhost_user = q\ta", "host_user of .*"),
        ("[a]\nhost_address = x\nhost_user = qa\u200b", "host_user of .*invisible"),
        ("[a]\nhost_address = qa@x\nhost_user = root", "host_user of .*'root'.*expected 'qa' as in host_address"),
        ("[a]\nhost_address = x:22\nhost_port = 2222", "host_port of .*2222 .*expected 22 as in host_address"),
        ("[a]\nhost_address = qa:s3cret@x", "host_address of .*no password in the address"),
        ("[a]\nhost_address = http://x", "host_address of .*only ssh:// is supported"),
        ("[a]\nhost_address = x\nhost_port = " + "9" * 5000, "host_port of .*1 to 65535"),
        ("[a]\nhost_address = x\nhost_port = ٢٢", "host_port of .*1 to 65535"),
        ("[a]\nhost_address = x\nhost_key_file = ~no-such-user/key", "host_key_file of .*a user who exists"),
        ("[a]\nhost_address = x\nhost_ssh_config = ~no-such-user/c", "host_ssh_config of .*a user who exists"),
        ("[a]\nhost_address = x\nhost_address", "wrong: line 3"),
        ("[a]\nhost_address x", "wrong: line 2"),
        ("[ a ]\nhost_address = x", r"section of .*' a '.*\[a\]"),
        ("[a] host_user = qa\nhost_address = x", "alone on line 1, without brackets"),
        ("[a]] # [b]\nhost_address = x", "alone on line 1, without brackets"),
        ("[a]\nhost_address = X\n[b]\nhost_address = x.:22", r"another host than \[a\]"),
    ],
)
def test_a_wrong_file_is_refused_with_what_would_be_right(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InvalidValueError, match=message):
        read_hosts(write(tmp_path, text))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidValueError, match=r"nowhere\.dat"):
        read_hosts(tmp_path / "nowhere.dat")
    with pytest.raises(InvalidValueError, match=r"a readable file.*Is a directory"):
        read_hosts(tmp_path)


def test_a_file_in_the_home_directory_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    path = write(tmp_path, "[a]\nhost_address = 192.0.2.1\n")
    assert read_hosts(Path("~") / path.name) == read_hosts(path)


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
guest_cmdline = console=ttyS0 quiet

[b]
host_address = y
guest_disk = /images/guest.qcow2
"""
    a, b = read_hosts(write(tmp_path, text))
    assert (a.guest_kernel, a.guest_initrd, a.guest_cmdline) == ("/boot/kernel", "/boot/initrd", "console=ttyS0 quiet")
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


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\xef\xbb\xbf[a]\nhost_address = x\n", "without a byte order mark.*sed -i"),
        ("[a]\nhost_address = x\n".encode("utf-16"), "UTF-16: iconv -f UTF-16 -t UTF-8"),
        ("[a]\nhost_address = x\n".encode("utf-16-le"), "UTF-16: iconv"),
        ("[a]\nhost_address = x\n".encode("utf-32"), "UTF-16: iconv"),
        (
            "[a]\n# Prüfstand\nhost_address = x\n".encode("latin-1"),
            "UTF-8, but line 2 has another encoding: iconv -f LATIN1",
        ),
        (b"[a]\nhost_address = x\n" + b"#" * (1 << 20), "at most 1024 KiB"),
    ],
)
def test_a_file_in_another_encoding_is_refused_with_the_command_that_converts_it(
    tmp_path: Path, data: bytes, message: str
) -> None:
    path = tmp_path / "hosts.dat"
    path.write_bytes(data)
    with pytest.raises(InvalidValueError, match=message):
        read_hosts(path)


@pytest.mark.parametrize(
    "text",
    [
        "[a]\r\nhost_address = qa@x:23\r\nhost_sudo = Yes \r\n",
        "  # comment\n; comment\n[a] # the third\n  host_address : qa@x:23\n  host_sudo=TRUE\n  ; comment\n",
        "[DEFAULT]\nhost_user = qa\nhost_sudo = on\n\n[a]\nhost_address\t=\tx\nhost_port:23\n",
        "[a]\nHOST_ADDRESS = ssh://qa@x:23\nhost_sudo = 1\nhost_user =\nhost_key_file =\nguest_channel =\n",
    ],
)
def test_forms_that_mean_the_same_are_understood(tmp_path: Path, text: str) -> None:
    path = tmp_path / "hosts.dat"
    path.write_bytes(text.encode())
    (entry,) = read_hosts(path)
    assert (entry.name, entry.address, entry.user, entry.port, entry.sudo) == ("a", "x", "qa", 23, True)
    assert set(_PabotLib(str(path))._values) == {"a"}


def test_commands_keep_their_quotes_and_may_stand_on_several_lines(tmp_path: Path) -> None:
    text = (
        "[a]\nhost_address = x\nhost_power_off = sh -c 'one ; two # no comment'\n    -P \"a ; b\" c#d e;f\n"
        "host_power_on = on\nguest_cmdline = console=ttyS0\n   quiet\n"
    )
    (entry,) = read_hosts(write(tmp_path, text))
    assert entry.power is not None
    assert entry.power.off == ("sh", "-c", "one ; two # no comment", "-P", "a ; b", "c#d", "e;f")
    assert entry.guest_cmdline == "console=ttyS0 quiet"


def test_a_percent_sign_is_written_twice_as_pabot_reads_it(tmp_path: Path) -> None:
    path = write(tmp_path, "[a]\nhost_address = fe80::1%%eth0\nhost_key_file = /keys/50%%\n")
    (entry,) = read_hosts(path)
    assert (entry.address, entry.key_file) == ("fe80::1%eth0", Path("/keys/50%"))
    assert _PabotLib(str(path))._values["a"]["host_address"] == "fe80::1%eth0"


def test_a_section_is_completed_by_the_ssh_configuration_unless_it_says_no(tmp_path: Path) -> None:
    config = tmp_path / "ssh config"
    config.write_text("Host rack1\n HostName 192.0.2.13\n User qa\n Port 2222\n IdentityFile /keys/rack\n")
    text = "[{0}]\nhost_address = rack1\nhost_ssh_config = {1}\n{2}\n"
    for name, value, more, expected in (
        ("a", config, "", ("192.0.2.13", "qa", 2222, (Path("/keys/rack"),))),
        ("b", config, "host_port = 22\nhost_user = root", ("192.0.2.13", "root", 22, (Path("/keys/rack"),))),
        ("c", "no", "", ("rack1", "root", 22, ())),
    ):
        (entry,) = read_hosts(write(tmp_path, text.format(name, value, more)))
        settings = settings_of(entry)
        assert (settings.address, settings.user, settings.port, settings.identity_files) == expected
    (entry,) = read_hosts(write(tmp_path, text.format("a", config, "host_through = nice")))
    note = configured(transport_to(entry))
    assert f"HostName 192.0.2.13 ({config} line 2)" in note


def test_the_log_has_what_came_from_the_ssh_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "config"
    config.write_text("Host rack1\n ProxyCommand false\n")
    logged: list[str] = []
    monkeypatch.setattr("VpmemLibrary.keywords.support.progress.logger.info", logged.append)
    library = VpmemLibrary()
    with pytest.raises(UnreachableError, match=r"ProxyCommand \(false \.\.\.\)"):
        library.run_keyword("open_host", ["qa@rack1"], {"ssh_config": str(config)})
    assert logged == [f"SSH configuration of rack1: ProxyCommand false ... ({config} line 2)"]


def test_a_host_that_is_nearly_named_is_suggested(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="Did you mean right"):
        find_host(read_hosts(write(tmp_path, TWO_HOSTS)), "rigth")


def test_the_libvirt_of_a_host_is_the_systems_unless_a_section_says_otherwise(tmp_path: Path) -> None:
    file = tmp_path / "hosts.dat"
    file.write_text(
        "[a]\nhost_address = x\n[b]\nhost_address = y\nhost_libvirt_uri = qemu:///session?socket=/srv/libvirt-sock\n"
    )
    assert [entry.libvirt_uri for entry in read_hosts(file)] == [
        "qemu:///system",
        "qemu:///session?socket=/srv/libvirt-sock",
    ]
