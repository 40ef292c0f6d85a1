"""The requests of the keywords for actions on servers and for compute services, and what they refuse."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from VpmemLibrary.cloud.client import Cloud
from VpmemLibrary.cloud.records import AvailabilityZone, CloudServer
from VpmemLibrary.errors import NotFoundError
from VpmemLibrary.keywords.cloud import compute_services
from VpmemLibrary.keywords.cloud.compute_services import ComputeServiceKeywords
from VpmemLibrary.keywords.cloud.server_actions import ServerActionKeywords
from VpmemLibrary.ownership.marks import RunMark
from VpmemLibrary.session.session import Session

pytest.importorskip("openstack")

SERVER = CloudServer("id-1", "one")
RUN = RunMark("0123abcd")


class Compute:
    """The compute service of openstacksdk. It records each call, and has nova-compute on lab-1 and lab-2."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.reports = ["10:00:00"]
        self.actions = [
            SimpleNamespace(action="shelve", message="Error"),
            SimpleNamespace(action="create", message=None),
        ]

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *arguments, **named: self.calls.append((name, *arguments, named))

    def get_server(self, _: str) -> SimpleNamespace:
        return SimpleNamespace(
            status="ACTIVE", task_state=None, fault=None, hypervisor_hostname="lab-1", instance_name="instance-1"
        )

    def server_actions(self, _: str) -> list[SimpleNamespace]:
        return self.actions

    def availability_zones(self, *, details: bool) -> list[SimpleNamespace]:
        """The zones of Nova 31 with a zone for lab-1, as openstacksdk returns them."""
        assert details
        ours = {"nova-compute": {"active": True}}
        return [
            SimpleNamespace(name="internal", hosts={"control": {"nova-scheduler": {"active": True}}}),
            SimpleNamespace(name="zone-lab-1", hosts={"lab-1": ours}),
            SimpleNamespace(name="nova", hosts={"lab-3": ours, "lab-2": ours}),
            SimpleNamespace(name="empty", hosts=None),
        ]

    def services(self, binary: str) -> list[SimpleNamespace]:
        assert binary == "nova-compute"
        report = self.reports.pop(0) if len(self.reports) > 1 else self.reports[0]
        return [SimpleNamespace(id=f"service-{n}", host=f"lab-{n}", updated_at=report) for n in (1, 2)]


@pytest.fixture
def compute() -> Compute:
    return Compute()


@pytest.fixture
def cloud(compute: Compute) -> Cloud:
    images = SimpleNamespace(images=lambda: [SimpleNamespace(id="image-1", name="vpmem-guest")])
    return Cloud("recorded", SimpleNamespace(compute=compute, image=images, session=SimpleNamespace(timeout=30.0)), RUN)


@pytest.fixture
def services(cloud: Cloud) -> ComputeServiceKeywords:
    session = Session(RUN)
    return ComputeServiceKeywords(lambda: cloud, lambda: session)


@pytest.mark.parametrize(
    ("keyword", "arguments", "call"),
    [
        ("reboot_server", {}, ("reboot_server", "id-1", "SOFT", {})),
        ("reboot_server", {"hard": True}, ("reboot_server", "id-1", "HARD", {})),
        ("shelve_server", {}, ("shelve_server", "id-1", {})),
        ("unshelve_server", {}, ("unshelve_server", "id-1", {})),
        ("unshelve_server", {"host": "lab-2"}, ("unshelve_server", "id-1", {"host": "lab-2"})),
        ("rebuild_server", {"image": "vpmem-guest"}, ("rebuild_server", "id-1", "image-1", {})),
        ("evacuate_server", {}, ("evacuate_server", "id-1", {})),
        ("evacuate_server", {"host": "lab-2"}, ("evacuate_server", "id-1", {"host": "lab-2"})),
        (
            "live_migrate_server",
            {"host": "lab-2"},
            ("live_migrate_server", "id-1", {"host": "lab-2", "block_migration": "auto"}),
        ),
    ],
)
def test_each_action_is_one_request(cloud: Cloud, compute: Compute, keyword: str, arguments: Any, call: Any) -> None:
    getattr(ServerActionKeywords(lambda: cloud), keyword)(SERVER, **arguments)
    assert compute.calls == [call]


def test_a_compute_service_is_set_down_and_up_by_its_id(services: ComputeServiceKeywords, compute: Compute) -> None:
    services.set_compute_service_down(host="lab-2")
    services.set_compute_service_up(host="lab-2")
    assert compute.calls == [
        ("update_service", "service-2", {"forced_down": True}),
        ("update_service", "service-2", {"forced_down": False}),
    ]


def test_an_unknown_compute_service_is_refused_with_those_that_there_are(services: ComputeServiceKeywords) -> None:
    with pytest.raises(NotFoundError, match=r"No compute service 'lab-3' on recorded\. There are: lab-1, lab-2"):
        services.set_compute_service_down(host="lab-3")


def test_the_zone_of_a_compute_host_has_the_hosts_with_nova_compute(services: ComputeServiceKeywords) -> None:
    assert services.get_availability_zone(host="lab-1") == AvailabilityZone("zone-lab-1", ("lab-1",))
    assert services.get_availability_zone(host="lab-3") == AvailabilityZone("nova", ("lab-2", "lab-3"))
    with pytest.raises(
        NotFoundError, match=r"No compute service 'control' on recorded\. There are: lab-1, lab-2, lab-3"
    ):
        services.get_availability_zone(host="control")


def test_the_next_report_of_a_compute_service_is_awaited(
    services: ComputeServiceKeywords, compute: Compute, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compute_services, "_POLL", 0.01)
    compute.reports = ["10:00:00"] * 3 + ["10:00:05"]
    services.compute_service_should_report("lab-1", "lab-2")
    with pytest.raises(AssertionError, match=r"on lab-1 should report to Nova, but its last report .* of 10:00:05"):
        services.compute_service_should_report("lab-1", timeout=timedelta(seconds=0.1))


def test_a_server_whose_last_action_failed_is_not_awaited_to_the_end(cloud: Cloud, compute: Compute) -> None:
    state = cloud.wait(SERVER, "SHELVED_OFFLOADED", timeout=60)
    assert str(state) == "ACTIVE, and its last action failed: shelve"
    compute.actions.pop(0)
    state = cloud.wait(SERVER, "SHELVED_OFFLOADED", timeout=0.1)
    assert str(state) == "ACTIVE"
    assert not cloud.wait(SERVER, "ACTIVE", timeout=60).failed
