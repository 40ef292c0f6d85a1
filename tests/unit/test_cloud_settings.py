"""What the lab's cloud writes: ports, secrets and configuration files, all for the loopback address."""

from __future__ import annotations

import configparser
import json
import re
from dataclasses import asdict
from pathlib import Path

import pytest

from VpmemLibrary.cloud import template, tree
from VpmemLibrary.cloud.catalogue import catalogue
from VpmemLibrary.cloud.compute import NAMESPACES, PMEM_NAMESPACES
from VpmemLibrary.cloud.services import broker, database, openstack
from VpmemLibrary.cloud.settings import DATABASES, Ports, Settings
from VpmemLibrary.cloud.template import read_secret, template_name, write_configuration
from VpmemLibrary.cloud.tree import mmdebstrap_command, tree_name
from VpmemLibrary.errors import LabError
from VpmemLibrary.lab.recipe import Sources

PORTS = Ports(*range(20001, 20010))
SECRET = "0123456789abcdef"
SETTINGS = Settings(PORTS, SECRET)


def parsed(text: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string(text)
    return parser


def texts() -> dict[str, str]:
    return {**SETTINGS.configuration(), "compute": SETTINGS.compute("lab-1", "192.168.77.1", PMEM_NAMESPACES)}


def test_the_ports_differ_and_are_found_again(tmp_path: Path) -> None:
    ports = Ports.choose()
    assert len(set(asdict(ports).values())) == 9
    ports.write(tmp_path / "ports.json")
    assert Ports.read(tmp_path / "ports.json") == ports
    assert (tmp_path / "ports.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"nova": 1}', json.dumps(dict.fromkeys(asdict(PORTS), "1"))])
def test_broken_ports_are_an_error_with_what_to_do(tmp_path: Path, text: str) -> None:
    (tmp_path / "ports.json").write_text(text)
    with pytest.raises(LabError, match=r"ports\.json .*vpmem cloud down"):
        Ports.read(tmp_path / "ports.json")


def test_a_missing_secret_is_an_error_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"secret cannot be read .*vpmem cloud down"):
        read_secret(tmp_path)


def test_each_configuration_is_well_formed() -> None:
    for name, text in texts().items():
        if name.startswith("rabbitmq"):
            continue
        assert parsed(text).sections(), name


def test_nothing_listens_or_connects_elsewhere_than_on_the_loopback_address() -> None:
    services = [database(PORTS), broker(PORTS), *openstack(SETTINGS)]
    everything = "\n".join(
        [
            *texts().values(),
            catalogue(SETTINGS),
            *(" ".join([*each.argv, *each.environment.values()]) for each in services),
        ]
    )
    places = set(re.findall(r"(?:://|@)([\w.-]+):\d{5}\b", everything))
    assert places == {"127.0.0.1"}
    assert set(re.findall(r"\d+\.\d+\.\d+\.\d+", everything)) == {"127.0.0.1", "192.168.77.1"}
    assert "--bind-address=127.0.0.1" in database(PORTS).argv
    assert broker(PORTS).environment["ERL_EPMD_ADDRESS"] == "127.0.0.1"


def test_no_command_has_the_secret() -> None:
    services = [database(PORTS), broker(PORTS), *openstack(SETTINGS)]
    assert all(SECRET not in " ".join([*each.argv, *each.environment.values()]) for each in services)
    assert SECRET not in json.dumps(template._chains())


def test_only_this_user_can_read_the_configuration(tmp_path: Path) -> None:
    write_configuration(tmp_path, SETTINGS)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
    assert {str(path.relative_to(tmp_path / "etc")) for path in files} == set(SETTINGS.configuration())


def test_each_service_has_its_own_database() -> None:
    used = {found for text in texts().values() for found in re.findall(r":20001/(\w+)\?", text)}
    assert used == set(DATABASES) - {"nova_cell0"}  # the map of cells names it


def test_the_compute_host_has_the_setting_and_the_address_of_its_own() -> None:
    found = parsed(SETTINGS.compute("lab-2", "192.168.77.2", "SMALL:ns_1"))
    assert found["libvirt"]["pmem_namespaces"] == "SMALL:ns_1"
    assert found["DEFAULT"]["my_ip"] == "192.168.77.2"
    assert found["DEFAULT"]["host"] == "lab-2"
    assert found["DEFAULT"]["transport_url"] == f"rabbit://nova:{SECRET}@127.0.0.1:{PORTS.broker}/"


def test_the_namespaces_of_a_compute_host_are_those_of_its_setting() -> None:
    labels = {part.split(":")[0]: part.split(":")[1].split("|") for part in PMEM_NAMESPACES.split(",")}
    assert {name for names in labels.values() for name in names} == set(NAMESPACES)


def test_clients_find_the_cloud_by_clouds_yaml() -> None:
    (cloud,) = json.loads(SETTINGS.clouds_yaml())["clouds"].values()
    assert cloud["auth"]["auth_url"] == f"http://127.0.0.1:{PORTS.keystone}/v3"
    assert cloud["auth"]["password"] == SECRET


def test_the_catalogue_has_each_service_with_its_port() -> None:
    text = catalogue(SETTINGS)
    assert text.count("'public'") == 5
    for kind, port in (("compute", PORTS.nova), ("image", PORTS.glance), ("network", PORTS.neutron)):
        assert f"'{kind}', 1," in text
        assert f"http://127.0.0.1:{port}" in text


def test_the_names_in_the_cache_change_with_the_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    before = tree_name("trixie"), template_name("trixie")
    assert (tree_name("trixie"), template_name("trixie")) == before
    assert tree_name("sid") != before[0]
    monkeypatch.setattr(tree, "PACKAGES", (*tree.PACKAGES, "python3-cinder"))
    assert tree_name("trixie") != before[0]
    assert template_name("trixie") != before[1]


def test_the_tree_is_made_without_recommended_packages_in_a_directory() -> None:
    command = mmdebstrap_command(Path("/cache/root"), "trixie", Sources(("deb http://archive.example trixie main",)))
    assert command[-3:] == ["trixie", "/cache/root", "deb http://archive.example trixie main"]
    assert command[:3] == ["setpriv", "--pdeathsig", "KILL"]
    assert '--aptopt=APT::Install-Recommends "false"' in command


def test_the_tree_of_another_release_is_made_from_an_old_archive_too() -> None:
    sources = Sources(("deb http://archive.example sid main",), expired=("sid",))
    command = mmdebstrap_command(Path("/cache/root"), "sid", sources)
    assert command[-3:] == ["sid", "/cache/root", "deb http://archive.example sid main"]
    assert '--aptopt=Acquire::Check-Valid-Until "false"' in command
