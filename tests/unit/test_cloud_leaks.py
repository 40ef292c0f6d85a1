"""What is left over in a cloud and on its compute hosts, before and after a run."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from VpmemLibrary.cloud import leaks
from VpmemLibrary.cloud.client import Cloud
from VpmemLibrary.cloud.leaks import CloudState
from VpmemLibrary.cloud.records import Consumer, MarkedObject
from VpmemLibrary.errors import CloudForbiddenError, CloudUnavailableError, UnsupportedError
from VpmemLibrary.keywords.cloud import cloud_leaks
from VpmemLibrary.keywords.cloud.cloud_leaks import CloudLeakKeywords
from VpmemLibrary.ownership.marks import RunMark
from VpmemLibrary.session.session import Session
from VpmemLibrary.transport.local import LocalTransport

LIVING, GONE, MOVING = (f"{n}{n}{n}{n}{n}{n}{n}{n}-0000-4000-8000-000000000000" for n in "123")


class Fake:
    """A cloud with one compute host, of which a test changes what there is."""

    name = "recorded"

    def __init__(self, instances: Path) -> None:
        self.instances = instances
        self.objects: list[MarkedObject] = []
        self.used: list[Consumer] = [Consumer(LIVING, "lab-1", "1 CUSTOM_PMEM_NAMESPACE_SMALL")]
        self.domains = {"instance-00000001": LIVING, "somebody-elses": GONE}
        self.forbidden: set[str] = set()
        self.unavailable = 0
        self.placement = SimpleNamespace(consumers=lambda: self.given("placement", self.used))

    def given(self, what: str, value: Any) -> Any:
        if what in self.forbidden:
            raise CloudForbiddenError(f"{what} is forbidden")
        return value

    def marked(self, run_id: str) -> list[MarkedObject]:
        assert run_id == "0123abcd"
        if self.unavailable:
            self.unavailable -= 1
            raise CloudUnavailableError("HTTP 503")
        return self.objects

    def servers_of_all_projects(self) -> set[str]:
        return cast("set[str]", self.given("servers", {LIVING}))

    def unfinished_migrations(self) -> set[str]:
        return {MOVING}

    def session(self) -> Session:
        def call(_: str, request: Any) -> Any:
            domains = [
                SimpleNamespace(name=lambda n=name: n, UUIDString=lambda u=uuid: u)
                for name, uuid in self.domains.items()
            ]
            return request(SimpleNamespace(listAllDomains=lambda: domains, getHostname=lambda: "lab-1"))

        opened = SimpleNamespace(
            guests=SimpleNamespace(link=SimpleNamespace(call=call)),
            host=SimpleNamespace(transport=LocalTransport()),
            guest=None,
        )
        return cast(Session, SimpleNamespace(aliases=["a"], find={"a": opened}.__getitem__, run=RunMark("0123abcd")))


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    monkeypatch.setattr(leaks, "INSTANCES", str(tmp_path))
    monkeypatch.setattr(cloud_leaks, "_POLL", 0.01)
    for name in (LIVING, f"{GONE}_resize", "_base", "locks"):
        (tmp_path / name).mkdir()
    return Fake(tmp_path)


def read(fake: Fake) -> CloudState:
    return CloudState.read(fake.session(), cast(Cloud, fake))


def test_each_kind_of_leftover_is_reported_and_nothing_that_was_there_before(fake: Fake) -> None:
    before = read(fake)
    assert before.difference(read(fake)) == ()
    fake.objects.append(MarkedObject("image", "id-1", "vpmem-0123abcd-mine", "0123abcd"))
    fake.used += [Consumer(GONE, "lab-1", "1 CUSTOM_PMEM_NAMESPACE_4GB"), Consumer(MOVING, "lab-1", "1 VCPU")]
    fake.domains["instance-00000002"] = GONE
    for name in (GONE, f"{LIVING}_resize"):
        (fake.instances / name).mkdir()
    assert before.difference(read(fake)) == (
        "leaked: image vpmem-0123abcd-mine, id-1",
        f"leaked: directory {fake.instances}/{GONE} on lab-1",
        "leaked: domain instance-00000002 on lab-1",
        f"leaked: allocation of 1 CUSTOM_PMEM_NAMESPACE_4GB on lab-1, by {GONE}, which is no server",
    )


def test_a_host_without_the_directory_of_nova_has_none(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaks, "INSTANCES", "/absent")
    assert read(fake).left["compute host lab-1"] == frozenset()


def test_what_the_policy_forbids_is_not_compared_and_is_named(fake: Fake) -> None:
    before = read(fake)
    fake.forbidden = {"placement"}
    now = read(fake)
    assert (before.difference(now), before.not_compared(now)) == (
        (),
        ("allocations in placement: placement is forbidden",),
    )
    fake.forbidden = {"servers"}
    now = read(fake)
    assert len(now.not_compared(before)) == 2
    fake.objects.append(MarkedObject("flavor", "id-1", "vpmem-0123abcd-small", "0123abcd"))
    assert len(before.difference(read(fake))) == 1


@pytest.fixture
def keywords(fake: Fake) -> CloudLeakKeywords:
    return CloudLeakKeywords(lambda: cast(Cloud, fake), fake.session)


def test_the_keyword_waits_until_nova_has_removed_everything(fake: Fake, keywords: CloudLeakKeywords) -> None:
    keywords.remember_cloud_state()
    fake.unavailable = 2
    keywords.cloud_should_have_no_leaks(timeout=timedelta(seconds=5))
    fake.domains["instance-00000002"] = GONE
    with pytest.raises(AssertionError, match=r"leaks after 0\.1 s:\nleaked: domain instance-00000002 on lab-1$"):
        keywords.cloud_should_have_no_leaks(timeout=timedelta(seconds=0.1))
    fake.unavailable = 1_000_000
    with pytest.raises(CloudUnavailableError, match="503"):
        keywords.cloud_should_have_no_leaks(timeout=timedelta(seconds=0.1))


def test_a_state_has_to_be_remembered_first(keywords: CloudLeakKeywords) -> None:
    with pytest.raises(UnsupportedError, match="Call Remember Cloud State first"):
        keywords.cloud_should_have_no_leaks()
