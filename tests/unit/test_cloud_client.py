"""The client of a cloud, against the recorded answers of a real one."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cloud_replay import Replay, replay, write_clouds_yaml

from VpmemLibrary import OpenStack
from VpmemLibrary.cloud.client import Cloud
from VpmemLibrary.cloud.compute_hosts import adopt, compute_host
from VpmemLibrary.cloud.placement import classes_of
from VpmemLibrary.cloud.records import CloudServer, ServerState
from VpmemLibrary.errors import CloudError, InvalidValueError, NotFoundError
from VpmemLibrary.keywords.cloud.clouds import CloudKeywords
from VpmemLibrary.ownership.marks import RunMark
from VpmemLibrary.session.session import Session
from VpmemLibrary.sizes import KiB, MiB, Size

pytest.importorskip("openstack")

RUN = RunMark("0123abcd")


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Replay]:
    """The recorded cloud, which is the cloud `recorded` of clouds.yaml."""
    with replay() as made:
        write_clouds_yaml(tmp_path / "clouds.yaml", made)
        monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", str(tmp_path / "clouds.yaml"))
        yield made


@pytest.fixture
def cloud(server: Replay) -> Iterator[Cloud]:
    opened = Cloud.open("recorded", RUN, timeout=30)
    yield opened
    opened.close()


def create(cloud: Cloud, name: str, pmem: str) -> CloudServer:
    flavor = cloud.create_flavor(
        {"one": "small", "two": "many"}[name], ram=Size(256 * MiB), vcpus=1, extra_specs={"hw:pmem": pmem}
    )
    assert flavor.pmem == tuple(pmem.split(","))
    return cloud.create_server(flavor, image="vpmem-guest", name=name)


def test_a_server_becomes_active_with_its_namespace_in_placement(cloud: Cloud) -> None:
    one = create(cloud, "one", "SMALL")
    assert one.name == "vpmem-0123abcd-one"
    state = cloud.wait(one, "ACTIVE", timeout=60)
    assert (state.status, state.task_state, state.fault, state.host) == ("ACTIVE", "", "", "lab-1")
    assert state.domain.startswith("instance-")
    assert cloud.placement.allocations(one) == classes_of(["SMALL"]) == {"CUSTOM_PMEM_NAMESPACE_SMALL": 1}
    assert (
        cloud.placement.total("SMALL", "lab-1"),
        cloud.placement.used("SMALL", "lab-1"),
        cloud.placement.total("64GB", "lab-1"),
    ) == (2, 1, 0)


def test_a_server_without_a_free_namespace_is_in_error_with_its_fault(cloud: Cloud) -> None:
    two = create(cloud, "two", "SMALL,SMALL,SMALL")
    state = cloud.wait(two, "ACTIVE", timeout=60)
    assert state.status == "ERROR"
    assert "No valid host was found" in state.fault
    assert cloud.placement.allocations(two) == {}


def test_an_action_that_the_cloud_refuses_is_an_error_with_its_reason(cloud: Cloud) -> None:
    one = create(cloud, "one", "SMALL")
    with pytest.raises(CloudError, match=r"could not start server vpmem-0123abcd-one: .*vm_state active"):
        cloud.act(one, "start_server")


def test_clean_up_deletes_what_the_run_made_and_asks_for_nothing_else(cloud: Cloud, server: Replay) -> None:
    one = create(cloud, "one", "SMALL")
    cloud.wait(one, "ACTIVE", timeout=60)
    cloud.wait(create(cloud, "two", "SMALL,SMALL,SMALL"), "ERROR", timeout=60)
    server.forget(one.id)
    deleted = cloud.clean_up(timeout=60)
    assert sorted(deleted) == [
        f"{what} vpmem-0123abcd-{name}"
        for what, name in (("flavor", "many"), ("flavor", "small"), ("server", "one"), ("server", "two"))
    ]
    assert len([key for key in server.seen if " DELETE " in key]) == 4


def test_an_unknown_cloud_is_refused_with_those_that_there_are(server: Replay) -> None:
    with pytest.raises(InvalidValueError, match=r"cloud 'record' cannot be used: .*clouds\.yaml \(.*recorded"):
        Cloud.open("record", RUN, timeout=30)


def test_an_unknown_image_is_refused_with_those_that_there_are(cloud: Cloud) -> None:
    with pytest.raises(NotFoundError, match=r"No image 'vpmem-gest' on recorded\. .*Did you mean vpmem-guest\?"):
        cloud.image_id("vpmem-gest")


def test_an_unknown_resource_provider_is_refused(cloud: Cloud) -> None:
    with pytest.raises(NotFoundError, match=r"No resource provider 'lab-7' on recorded\. There are: lab-1"):
        cloud.placement.total("SMALL", "lab-7")


def test_a_cloud_that_does_not_answer_is_an_error(server: Replay) -> None:
    server.answers.clear()
    with pytest.raises(CloudError, match="Cloud recorded could not log in"):
        Cloud.open("recorded", RUN, timeout=5)


def test_ram_is_in_whole_mib(cloud: Cloud) -> None:
    with pytest.raises(InvalidValueError, match="whole MiB"):
        cloud.create_flavor("x", ram=Size(100 * KiB), vcpus=1, extra_specs={})


def test_without_a_host_the_state_of_a_server_is_named() -> None:
    with pytest.raises(CloudError, match="Nova reports no compute host for server a, which is ERROR: No valid host"):
        compute_host(Session(RUN), ServerState("ERROR", fault="No valid host"), CloudServer("1", "a"))


def test_a_compute_host_that_is_not_open_is_named(cloud: Cloud) -> None:
    one = create(cloud, "one", "SMALL")
    cloud.wait(one, "ACTIVE", timeout=60)
    with pytest.raises(NotFoundError, match=r"No open host with the hypervisor host name 'lab-1'\. There is none\."):
        adopt(Session(RUN), cloud, one)


@pytest.fixture
def keywords(server: Replay) -> Iterator[CloudKeywords]:
    session = Session(RUN)
    made = CloudKeywords(lambda: session)
    made.open_cloud("recorded")
    yield made
    made.close_cloud()


def test_keywords_fail_with_the_fault(keywords: CloudKeywords) -> None:
    flavor = keywords.create_flavor("many", **{"hw:pmem": "SMALL,SMALL,SMALL"})
    two = keywords.create_server(flavor, image="vpmem-guest", name="two")
    with pytest.raises(AssertionError, match=r"two should become ACTIVE, but it is ERROR: No valid host"):
        keywords.server_should_become(two, "ACTIVE", timeout=timedelta(seconds=60))
    with pytest.raises(AssertionError, match=r"should hold \{'CUSTOM_PMEM_NAMESPACE_SMALL': 3\} .* it holds \{\}"):
        keywords.placement_should_hold(two, "SMALL", "SMALL", "SMALL")
    keywords.placement_should_hold(two)


def test_keywords_need_an_open_cloud() -> None:
    made: Any = CloudKeywords(lambda: Session(RUN))
    made.close_cloud()
    with pytest.raises(NotFoundError, match="No open cloud"):
        made.clean_up_cloud()


def test_each_keyword_of_the_library_has_arguments_results_errors_and_an_example() -> None:
    library = OpenStack.OpenStack()
    names = library.get_keyword_names()
    assert {"open_cloud", "create_server", "placement_should_hold"} <= set(names)
    for name in names:
        text = library.get_keyword_documentation(name)
        assert "Example:\n\n```robotframework\n*** " in text, name
        assert ("Raises:" in text) == (name != "close_cloud"), name
