"""The hosts file is one that the library and pabot read; status shows what is there."""

from __future__ import annotations

import configparser
import json
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner
from pabot.pabotlib import PabotLib

from VpmemLibrary.cli.main import main
from VpmemLibrary.errors import InvalidValueError, LabError, NotFoundError, UnreachableError
from VpmemLibrary.host.hosts_file import read_hosts
from VpmemLibrary.lab.image import GUEST_COMMAND_LINE, Image, image_name
from VpmemLibrary.lab.lab import Lab, LabHost
from VpmemLibrary.lab.paths import this_machine
from VpmemLibrary.lab.report import hosts_file, lab_status, rough_ssh_config
from VpmemLibrary.transport.ssh.transport import SshTransport


@pytest.fixture(autouse=True)
def own_directories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VPMEM_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("VPMEM_CACHE", str(tmp_path / "cache"))


def put_host(
    name: str,
    port: int,
    image: str = "/cache/image-1",
    accelerator: str = "tcg",
    *,
    cxl: bool = False,
    shape: str = "nvdimm",
    machine: str = "",
) -> LabHost:
    directory = Lab().directory / name
    directory.mkdir(parents=True)
    record: dict[str, object] = {
        "port": port,
        "uuid": "u",
        "image": image,
        "accelerator": accelerator,
        "accelerator_reason": "probed",
        "shape": shape,
        "machine": machine,
        "machine_name": f"name of {machine}",
    }
    if cxl:
        record["cxl"] = True
    (directory / "host.json").write_text(json.dumps(record))
    return LabHost(directory)


def test_the_hosts_file_is_read_by_the_library_and_by_pabot(tmp_path: Path) -> None:
    hosts = [put_host("lab-1", 40001), put_host("lab-2", 40002)]
    path = tmp_path / "hosts.dat"
    path.write_text(hosts_file(hosts))
    entries = read_hosts(path)
    assert [(entry.name, entry.port) for entry in entries] == [("lab-1", 40001), ("lab-2", 40002)]
    assert entries[0].guest_cmdline == GUEST_COMMAND_LINE
    assert entries[0].may_initialize_labels
    assert entries[0].power is not None
    assert entries[0].power.off[-4:] == ("lab", "power-cut", "--stay-off", "lab-1")
    assert entries[0].power.on[:2] == ("env", f"VPMEM_STATE={tmp_path / 'state'}")
    values = PabotLib()._parse_values(str(path))
    assert values["lab-2"]["host_port"] == "40002"
    assert values["lab-2"]["tags"] == ["vpmem"]


@pytest.mark.parametrize(
    ("accelerator", "asked", "confined"), [("tcg", False, False), ("tcg", True, True), ("kvm", False, True)]
)
def test_guests_on_an_emulated_host_are_confined_where_it_is_asked_for(
    tmp_path: Path, accelerator: str, asked: bool, confined: bool
) -> None:
    path = tmp_path / "hosts.dat"
    path.write_text(hosts_file([put_host("lab-1", 40001, accelerator=accelerator)], confined=asked))
    assert read_hosts(path)[0].guest_confined is confined


def test_only_a_host_that_takes_a_cxl_device_is_given_one(tmp_path: Path) -> None:
    path = tmp_path / "hosts.dat"
    hosts = [put_host("lab-1", 40001), put_host("lab-2", 40002, cxl=True)]
    path.write_text(hosts_file(hosts))
    without, with_one = read_hosts(path)
    assert without.cxl is None
    assert with_one.cxl is not None
    assert with_one.cxl.add[-3:] == ("lab", "cxl-add", "lab-2")
    assert with_one.cxl.remove[-3:] == ("lab", "cxl-remove", "lab-2")
    with pytest.raises(
        LabError, match=r"Lab host lab-1 accepts no CXL device\. Start one that does: vpmem lab up --cxl"
    ):
        hosts[0].add_cxl_device()


def test_a_host_whose_content_is_lost_at_a_reboot_is_not_rebooted(tmp_path: Path) -> None:
    path = tmp_path / "hosts.dat"
    path.write_text(hosts_file([put_host("lab-1", 40001, shape="nfit-test"), put_host("lab-2", 40002, shape="cxl")]))
    mock, cxl = read_hosts(path)
    assert (mock.may_reboot, mock.power, mock.test_bus) == (False, None, None)
    assert cxl.may_reboot
    assert cxl.power
    assert cxl.test_bus is None


def test_a_host_whose_image_has_no_test_bus_is_given_none(tmp_path: Path) -> None:
    path = tmp_path / "hosts.dat"
    boot = tmp_path / "image-2/tools/boot"
    boot.mkdir(parents=True)
    (boot / "test-bus.log").write_text("the archive has no headers of kernel 6.1.0-56-cloud-amd64\n")
    hosts = [put_host("lab-1", 40001), put_host("lab-2", 40002, image=str(tmp_path / "image-2"))]
    path.write_text(hosts_file(hosts))
    with_one, without = read_hosts(path)
    assert with_one.test_bus
    assert without.test_bus is None
    assert hosts[1].qemu.image.test_bus_failure == "the archive has no headers of kernel 6.1.0-56-cloud-amd64"


def test_a_host_that_is_lost_in_the_exchange_of_its_bus_is_told_with_the_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(_: LabHost) -> SshTransport:
        raise UnreachableError("The connection to 127.0.0.1:40001 broke after 3.8 s.")

    monkeypatch.setattr(LabHost, "transport", lost)
    with pytest.raises(LabError, match=r"lab-1 was lost .*: vpmem lab power-on lab-1\nThe connection to 127"):
        put_host("lab-1", 40001).set_test_bus(on=True)


def test_an_image_notes_the_modules_that_could_not_be_built(tmp_path: Path) -> None:
    boot = tmp_path / "tools/boot"
    boot.mkdir(parents=True)
    assert Image(tmp_path).notes() == []
    (boot / "svm-exit.log").write_text("svm.h: No such file or directory\n")
    [note] = Image(tmp_path).notes()
    assert "guests on emulated lab hosts of this image may stop" in note
    assert note.endswith("could not be built for their kernel:\nsvm.h: No such file or directory")
    (boot / "test-bus.log").write_text("no headers\n")
    assert ["no test bus" in note for note in Image(tmp_path).notes()] == [True, False]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shape": "round"}, "shape 'round' cannot be used: expected one of nvdimm, nfit-test, cxl, unlabeled"),
        (
            {"release": "sid"},
            "release 'sid' cannot be used: expected one of bookworm, trixie, forky, trixie-nova, sid-nova",
        ),
    ],
)
def test_a_shape_or_release_that_does_not_exist_is_refused(options: dict[str, str], message: str) -> None:
    with pytest.raises(InvalidValueError, match=message):
        Lab().up(1, **options)  # type: ignore[arg-type]
    assert not Lab().directory.exists()


def test_a_path_that_pabot_cannot_read_is_refused() -> None:
    with pytest.raises(InvalidValueError, match="without %"):
        hosts_file([put_host("lab-1", 40001, image="/cache%20/image-1")])


def test_hosts_come_in_the_order_of_their_numbers() -> None:
    for number in (10, 2, 1):
        put_host(f"lab-{number}", 40000 + number)
    assert [host.name for host in Lab().hosts()] == ["lab-1", "lab-2", "lab-10"]
    assert Lab().host("lab-2").port == 40002
    assert Lab().host().name == "lab-1"
    with pytest.raises(NotFoundError, match=r"No lab host 'lab-3'\. There are: lab-1, lab-2, lab-10"):
        Lab().host("lab-3")


@pytest.mark.parametrize("number", [0, -1, 17, True])
def test_a_number_of_hosts_that_makes_no_sense_is_refused(number: int) -> None:
    with pytest.raises(InvalidValueError, match="a whole number from 1 to 16"):
        Lab().up(number)
    assert not Lab().directory.exists()


def test_status_shows_crashed_hosts_half_made_hosts_and_a_broken_cache(tmp_path: Path) -> None:
    assert lab_status(Lab())["ok"]
    put_host("lab-1", 40001)
    (Lab().directory / "lab-2").mkdir()
    (tmp_path / "cache/image-1").mkdir(parents=True)
    status = lab_status(Lab())
    assert not status["ok"]
    assert [host["alive"] for host in status["hosts"]] == [False]
    assert status["unfinished"] == [str(Lab().directory / "lab-2")]
    assert status["cache"][0]["faults"] == ["manifest.json is missing"]
    result = CliRunner().invoke(main, ["lab", "status"])
    assert result.exit_code == 1
    assert "CRASHED" in result.output
    assert "unfinished" in result.output
    assert "BROKEN" in result.output


def test_down_removes_crashed_and_half_made_hosts() -> None:
    put_host("lab-1", 40001)
    (Lab().directory / "lab-2").mkdir()
    assert Lab().down() == ["lab-1", "lab-2"]
    assert lab_status(Lab())["ok"]
    assert list(Lab().directory.iterdir()) == []


def test_clean_removes_what_neither_this_version_nor_a_host_uses(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    put_host("lab-1", 40001, image=str(cache / "image-used"))
    for name in (image_name(), "image-used", "image-old", "state-a", ".making-image-new"):
        (cache / name).mkdir(parents=True)
    (cache / "acceleration.json").touch()
    assert [path.name for path in Lab().clean()] == ["image-old", "state-a"]
    kept = {image_name(), "image-used", ".making-image-new", "acceleration.json"}
    assert {path.name for path in cache.iterdir()} == kept


def test_the_hosts_of_another_machine_are_not_crashed_and_are_left_alone() -> None:
    host = put_host("lab-1", 40001, machine="of-another-machine")
    status = lab_status(Lab())
    assert status["ok"]
    result = CliRunner().invoke(main, ["lab", "status"])
    assert "CRASHED" not in result.output
    assert "on name of of-another-machine, which shares this directory" in result.output
    for change in (Lab().up, Lab().reset):
        with pytest.raises(LabError, match=r"lab hosts of another machine: lab-1 of name of(?s:.*)VPMEM_STATE"):
            change()
    for use in (host.power_cut, host.power_on, host.transport):
        with pytest.raises(LabError, match="lab-1 runs on another machine, name of of-another-machine: use it there"):
            use()
    put_host("lab-2", 40002, machine=this_machine())
    result = CliRunner().invoke(main, ["lab", "down"])
    assert result.exit_code == 0
    assert "lab-1 runs on name of of-another-machine and is left alone" in result.output
    assert [host.name for host in Lab().hosts()] == ["lab-1"]


def test_a_host_of_this_machine_that_does_not_run_has_crashed() -> None:
    put_host("lab-1", 40001, machine=this_machine())
    assert not lab_status(Lab())["ok"]
    assert "CRASHED" in CliRunner().invoke(main, ["lab", "status"]).output


def test_the_rough_entry_is_an_ordinary_user_behind_a_jump_host(tmp_path: Path) -> None:
    ssh_config = tmp_path / "hosts.dat.ssh_config"
    hosts = [put_host("lab-1", 40001, image=str(tmp_path / "with blank")), put_host("lab-2", 40002)]
    ssh_config.write_text(rough_ssh_config(hosts))
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string(hosts_file(hosts, ssh_config=ssh_config))
    fields = {field: value for field, value in parser["lab-2"].items() if field.startswith("host_")}
    assert fields["host_address"] == "rough-lab-2"
    assert fields["host_user"] == "rough"
    assert fields["host_sudo"] == "yes"
    assert fields["host_ssh_config"] == str(ssh_config)
    assert not {"host_port", "host_key_file", "host_known_hosts"} & fields.keys()
    resolved = subprocess.run(
        ["ssh", "-F", str(ssh_config), "-G", "rough-lab-1"], check=True, capture_output=True, text=True
    ).stdout.splitlines()
    assert {"hostname 127.0.0.1", "port 2222", "user rough", "proxyjump rough-lab-1-jump"} <= set(resolved)
    assert f"identityfile {tmp_path}/with blank/keys/id_ed25519" in resolved
    jump = subprocess.run(
        ["ssh", "-F", str(ssh_config), "-G", "rough-lab-1-jump"], check=True, capture_output=True, text=True
    ).stdout.splitlines()
    assert {"port 40001", "user jump"} <= set(jump)


def test_an_error_is_shown_as_its_message_alone() -> None:
    result = CliRunner().invoke(main, ["lab", "reset", "lab-7"])
    assert result.exit_code == 1
    assert result.output == "Error: No lab host 'lab-7'. There is none.\n"
    result = CliRunner().invoke(main, ["lab", "hosts-file", "x.dat"])
    assert "No lab host runs: vpmem lab up" in result.output


def test_help_names_the_commands() -> None:
    result = CliRunner().invoke(main, ["--help"])
    assert "lab" in result.output
    assert CliRunner().invoke(main, ["no-such"]).exit_code == 2
