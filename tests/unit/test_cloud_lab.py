"""The lab's cloud without a cloud: what its commands say, what they refuse, and what they leave alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from VpmemLibrary.cli.main import main
from VpmemLibrary.cloud import lab_cloud
from VpmemLibrary.cloud.lab_cloud import LabCloud
from VpmemLibrary.cloud.report import cloud_status, status_text
from VpmemLibrary.cloud.settings import Ports
from VpmemLibrary.cloud.template import template_name
from VpmemLibrary.cloud.tree import tree_name
from VpmemLibrary.errors import LabError
from VpmemLibrary.lab.lab import Lab
from VpmemLibrary.lab.report import lab_status


@pytest.fixture(autouse=True)
def own_directories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VPMEM_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("VPMEM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(lab_cloud, "require_root", lambda: None)


def put_host(name: str, release: str) -> None:
    directory = Lab().directory / name
    directory.mkdir(parents=True)
    record = {"port": 40001, "uuid": "u", "image": "/cache/image-1", "accelerator": "tcg", "accelerator_reason": "x"}
    (directory / "host.json").write_text(json.dumps({**record, "release": release}))


def put_cloud() -> None:
    directory = LabCloud().directory
    directory.mkdir(parents=True)
    Ports(*range(20001, 20010)).write(directory / "ports.json")
    (directory / "secret").write_text("0123456789abcdef")
    (directory / "release").write_text("trixie")


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["cloud", *arguments])
    return result.exit_code, result.output


def test_without_a_cloud_each_command_says_so() -> None:
    assert run("status") == (0, "there is no cloud\n")
    assert run("down") == (0, "there was no cloud\n")
    assert run("log", "keystone") == (1, "Error: There is no cloud: vpmem cloud up\n")


def test_a_cloud_that_ended_is_shown_and_fails_the_status() -> None:
    put_cloud()
    code, said = run("status")
    assert code == 1
    assert "control plane   DOWN (vpmem cloud up)" in said
    assert "nova-api        DOWN (vpmem cloud up)  port 20009" in said
    code, said = run("status", "--json")
    assert code == 1
    assert [service["name"] for service in json.loads(said)["services"]] == [
        *("mariadb", "rabbitmq", "keystone", "placement", "glance", "neutron", "nova-api"),
        *("nova-conductor", "nova-scheduler"),
    ]
    assert "0123456789abcdef" not in said


def test_the_log_of_an_unknown_service_lists_those_that_there_are() -> None:
    put_cloud()
    code, said = run("log", "nova-ap")
    assert code == 1
    assert "No service or compute host 'nova-ap'. There are: mariadb, rabbitmq" in said
    assert "Did you mean nova-api?" in said
    (LabCloud().directory / "log").mkdir()
    (LabCloud().directory / "log/nova-api.log").write_text("a line\nthe last line\n")
    assert run("log", "nova-api", "--lines", "1") == (0, "the last line\n")


def test_a_lab_host_without_nova_compute_is_not_replaced() -> None:
    put_host("lab-1", "trixie")
    with pytest.raises(LabError, match=r"lab-1 has no nova-compute(?s:.*)vpmem lab down(?s:.*)VPMEM_STATE"):
        LabCloud().up()


def test_down_removes_the_cloud_and_its_compute_hosts_alone() -> None:
    put_cloud()
    put_host("lab-1", "trixie-nova")
    put_host("lab-2", "trixie")
    assert run("down") == (0, "the cloud is removed\n")
    assert not LabCloud().exists
    assert [host.name for host in Lab().hosts()] == ["lab-2"]


def test_clean_keeps_what_this_version_uses_and_what_belongs_to_the_lab(tmp_path: Path) -> None:
    for name in (tree_name("trixie"), template_name("trixie"), "cloud-tree-old", "image-old"):
        (tmp_path / "cache" / name).mkdir(parents=True)
    assert run("clean") == (0, f"removed: {tmp_path / 'cache/cloud-tree-old'}\n")
    assert {path.name for path in Lab().clean()} == {"image-old"}
    assert lab_status(Lab())["cache"] == []
    kept = {tree_name("trixie"), template_name("trixie")}
    assert {Path(path).name for path in cloud_status(LabCloud())["cache"]} == kept


def test_the_status_of_a_cloud_that_runs_has_the_variables_for_clients() -> None:
    status = {
        "exists": True,
        "name": "vpmem-lab",
        "release": "trixie",
        "clouds_yaml": "/state/clouds.yaml",
        "container": 11,
        "services": [{"name": "keystone", "pid": 12, "port": 20005, "log": "/log"}],
        "compute": [
            {"name": "lab-1", "tunnel": 13, "active": True, "reason": ""},
            {"name": "lab-2", "tunnel": None, "active": False, "reason": "no answer"},
        ],
        "cache": ["/cache/cloud-tree-1"],
    }
    assert status_text(status).splitlines() == [
        "control plane   process 11  trixie",
        "keystone        process 12  port 20005",
        "lab-1           nova-compute up, tunnel process 13",
        "lab-2           nova-compute DOWN no answer, tunnel DOWN (vpmem cloud up)",
        "OS_CLIENT_CONFIG_FILE=/state/clouds.yaml OS_CLOUD=vpmem-lab",
        "cache           /cache/cloud-tree-1",
    ]


@pytest.mark.parametrize(("text", "said"), [("buster", "has the unknown release 'buster'"), (None, "cannot be read")])
def test_a_cloud_of_an_unknown_release_can_only_be_removed(text: str | None, said: str) -> None:
    put_cloud()
    path = LabCloud().directory / "release"
    path.write_text(text) if text else path.unlink()
    code, output = run("status")
    assert code == 1
    assert said in output
    assert "vpmem cloud down" in output
    assert run("down") == (0, "the cloud is removed\n")


def test_only_a_compute_host_of_the_cloud_is_connected_again() -> None:
    assert run("connect", "lab-1") == (1, "Error: There is no cloud: vpmem cloud up\n")
    put_cloud()
    put_host("lab-1", "trixie-nova")
    code, said = run("connect", "lab-2")
    assert (code, said) == (1, "Error: No compute host 'lab-2'. There are: lab-1. Did you mean lab-1?\n")
