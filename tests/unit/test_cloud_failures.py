"""What a cloud can do wrong, and what a user can: each is an error of the library with what to do."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from cloud_replay import Replay, replay, write_clouds_yaml

from VpmemLibrary.cloud import client
from VpmemLibrary.cloud.client import Cloud
from VpmemLibrary.cloud.records import CloudFlavor, CloudServer, MarkedObject
from VpmemLibrary.errors import (
    CloudError,
    CloudForbiddenError,
    CloudUnavailableError,
    InvalidValueError,
    NotFoundError,
    UnsupportedError,
)
from VpmemLibrary.keywords.cloud.clouds import CloudKeywords
from VpmemLibrary.ownership.marks import RunMark
from VpmemLibrary.session.session import Session
from VpmemLibrary.sizes import GiB, MiB, Size

pytest.importorskip("openstack")

RUN = RunMark("0123abcd")
SERVER = CloudServer("ef2837df-4cd6-49b2-a6a9-e8f922f8bd43", "vpmem-0123abcd-one")
SHOW = f"nova GET /v2.1/servers/{SERVER.id}"
SMALL = CloudFlavor("9d4a7a46-5d39-4c2e-9f43-6f1c0b5b1d0a", "vpmem-0123abcd-small", ("SMALL",))
CREATE = "nova POST /v2.1/servers vpmem-0123abcd-one"
FLAVOR = "nova POST /v2.1/flavors vpmem-0123abcd-small"
TOKENS = "keystone POST /v3/auth/tokens"
REFUSALS = Path(__file__).parents[1] / "data/cloud/refusals-2025.1.json"
GARBAGE = "<html><body>Under maintenance</body></html>"


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The path of the user's clouds.yaml."""
    monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", str(tmp_path / "clouds.yaml"))
    return tmp_path / "clouds.yaml"


@pytest.fixture
def server(file: Path) -> Iterator[Replay]:
    with replay() as made:
        write_clouds_yaml(file, made)
        yield made


@pytest.fixture
def cloud(server: Replay) -> Iterator[Cloud]:
    opened = Cloud.open("recorded", RUN, timeout=3)
    yield opened
    opened.close()


def fault(status: int, text: str) -> tuple[int, str]:
    """Return an answer in Nova's format for errors."""
    return status, json.dumps({"fault": {"code": status, "message": text}})


def recorded(name: str) -> tuple[int, str]:
    """Return a refusal that OpenStack 2025.1 of Debian 13 gave."""
    answer = json.loads(REFUSALS.read_text())[name]
    return answer["status"], answer["body"]


AUTH = "auth: {auth_url: 'http://127.0.0.1:1/v3', username: a, project_name: p, password: geheim"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"clouds\.yaml \(there is none\)"),
        (
            "clouds:\n  recorded:\n    auth: {password: geheim\n",
            r"(?s)there is none.*clouds\.yaml was skipped, .*line 4",
        ),
        ("\tclouds: {recorded: {auth: {password: geheim}}}\n", r"clouds\.yaml was skipped, because .*line 1, column 1"),
        ("clouds: {recorded: {auth: {password: geheim, @}}}\n", r"clouds\.yaml was skipped, .*cannot start any token"),
        ("- recorded", "not a valid mapping"),
        ("clouds:", "does not have the structure"),
        ("clouds:\n  recorded:", "does not have the structure"),
        ("clouds:\n  recorded: geheim", "does not have the structure"),
        ("clouds:\n  recorded:\n    auth: geheim", "does not have the structure"),
        ("clouds:\n  recorded:\n    auth: {password: geheim}", "clouds.yaml cannot be used .*not given: auth_url"),
        (f"clouds:\n  recorded:\n    auth_type: odd\n    {AUTH}}}", "plugin odd could not be found"),
        (f"clouds:\n  recorded:\n    {AUTH}}}", r"could not log in: .*127\.0\.0\.1:1/v3/auth/tokens.*refused"),
        (
            f"clouds:\n  recorded:\n    cacert: /absent.pem\n    {AUTH.replace('http:', 'https:')}}}",
            "could not log in: .*CA certificate bundle, invalid path: /absent.pem",
        ),
        (
            "clouds:\n  other: {}",
            r"cloud 'recorded' cannot be used: expected lab, or a cloud of clouds\.yaml \(other\)",
        ),
    ],
)
def test_a_clouds_yaml_that_cannot_be_used_is_an_error_without_its_secrets(file: Path, text: str, message: str) -> None:
    file.write_text(text)
    with pytest.raises((CloudError, InvalidValueError), match=message) as caught:
        Cloud.open("recorded", RUN, timeout=1)
    assert "geheim" not in str(caught.value)


def test_a_clouds_yaml_that_does_not_exist_is_named(file: Path) -> None:
    with pytest.raises(InvalidValueError, match=rf"OS_CLIENT_CONFIG_FILE names {file}, which does not exist"):
        Cloud.open("recorded", RUN, timeout=1)


def test_wrong_credentials_are_an_error_without_them(server: Replay) -> None:
    server.answer(TOKENS, recorded("wrong password"))
    with pytest.raises(
        CloudError, match=r"refused the credentials: .*requires auth.*\(HTTP 401\)\. Check `auth`"
    ) as caught:
        Cloud.open("recorded", RUN, timeout=1)
    assert "geheim" not in str(caught.value)


@pytest.mark.parametrize("answer", [(500, ""), (503, GARBAGE), (200, GARBAGE), (0, ""), (-1, "")])
def test_a_keystone_that_does_not_work_is_an_error_in_time(server: Replay, answer: tuple[int, str]) -> None:
    server.answer("keystone GET /v3", answer)
    server.answer(TOKENS, answer)
    started = time.monotonic()
    with pytest.raises(CloudError, match="Cloud recorded could not log in"):
        Cloud.open("recorded", RUN, timeout=0.5)
    assert time.monotonic() - started < 10


def test_an_application_credential_is_sent_as_it_is(server: Replay, file: Path) -> None:
    secret = {"application_credential_id": "an-id", "application_credential_secret": "geheim"}
    auth = {"auth_url": f"{server.url}/keystone/v3", **secret}
    write_clouds_yaml(file, server, auth_type="v3applicationcredential", auth=auth)
    Cloud.open("recorded", RUN, timeout=1).close()
    assert json.loads(server.bodies[TOKENS])["auth"]["identity"] == {
        "methods": ["application_credential"],
        "application_credential": {"id": "an-id", "secret": "geheim"},
    }


def test_a_microversion_that_the_cloud_does_not_have_is_named(server: Replay, file: Path) -> None:
    write_clouds_yaml(file, server, compute_default_microversion="2.999")
    cloud = Cloud.open("recorded", RUN, timeout=1)
    message = r"does not have the microversion: .*2\.999 .*minimum of 2\.1 and a maximum of 2\.100\. Change or remove"
    with pytest.raises(CloudError, match=message):
        cloud.state(SERVER)
    with pytest.raises(CloudError, match=message):
        cloud.marked()
    cloud.close()


def test_without_a_microversion_in_clouds_yaml_the_newest_common_one_is_used(server: Replay, file: Path) -> None:
    write_clouds_yaml(file, server, compute_default_microversion=None)
    cloud = Cloud.open("recorded", RUN, timeout=1)
    assert cloud.state(SERVER).status == "BUILD"
    assert server.headers[SHOW]["OpenStack-API-Version"] == "compute 2.100"
    cloud.close()


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (413, "Quota exceeded for cores: Requested 8, but already used 15 of 20 cores"),
        (403, "Project 4f2c is over a limit for [Resource servers is over limit of 10]"),
        (413, "Denying attempt to upload image because it exceeds the quota"),
    ],
)
def test_a_quota_is_not_reported_as_a_policy(cloud: Cloud, server: Replay, status: int, said: str) -> None:
    server.answer(FLAVOR, fault(status, said))
    with pytest.raises(
        CloudError, match=rf"a quota of the project does not allow it: {re.escape(said)} .*openstack quota set"
    ) as caught:
        cloud.create_flavor("small", ram=Size(60 * GiB), vcpus=1, extra_specs={})
    assert not isinstance(caught.value, CloudForbiddenError)


def test_the_quota_of_a_server_is_named(cloud: Cloud, server: Replay) -> None:
    server.answer(CREATE, recorded("quota"))
    message = r"a quota of the project does not allow it: Quota exceeded for ram: Requested 60000, .*of 51200 ram"
    with pytest.raises(CloudError, match=message):
        cloud.create_server(SMALL, image="vpmem-guest", name="one")


@pytest.mark.parametrize("field", ["networks", "host"])
def test_a_field_that_an_old_microversion_lacks_is_told_as_that(cloud: Cloud, server: Replay, field: str) -> None:
    server.answer(CREATE, recorded(f"{field} of an old microversion"))
    with pytest.raises(CloudError, match=rf"its microversion is too old: .*{field}.*compute_default_microversion"):
        cloud.create_server(SMALL, image="vpmem-guest", name="one")


def test_a_policy_that_forbids_is_named(cloud: Cloud, server: Replay) -> None:
    server.answer(FLAVOR, recorded("policy of nova"))
    message = (
        r"could not create flavor vpmem-0123abcd-small, because its policy forbids this to the user: Policy doesn't"
    )
    with pytest.raises(CloudForbiddenError, match=message):
        cloud.create_flavor("small", ram=Size(256 * MiB), vcpus=1, extra_specs={})


def test_the_reason_of_placement_is_shown(cloud: Cloud, server: Replay) -> None:
    server.answer("placement GET /resource_providers", recorded("policy of placement"))
    with pytest.raises(
        CloudForbiddenError, match=r"forbids this to the user: Access was .* Policy does not allow plac"
    ):
        cloud.placement.consumers()


@pytest.mark.parametrize("answer", [(500, ""), (503, GARBAGE), (502, "{}"), (200, GARBAGE), (0, ""), (-1, "")])
def test_a_request_that_is_not_answered_well_is_an_error_in_time(
    cloud: Cloud, server: Replay, answer: tuple[int, str]
) -> None:
    for key in (FLAVOR, SHOW, "placement GET /resource_providers", "nova GET /v2.1/flavors/detail?is_public=None"):
        server.answer(key, answer)
    started = time.monotonic()
    for request in (
        lambda: cloud.create_flavor("small", ram=Size(256 * MiB), vcpus=1, extra_specs={"hw:pmem": "SMALL"}),
        lambda: cloud.state(SERVER),
        lambda: cloud.placement.total("SMALL", "lab-1"),
        cloud.marked,
    ):
        with pytest.raises(CloudUnavailableError, match="Cloud recorded"):
            request()
    assert time.monotonic() - started < 20


def test_a_wait_goes_on_after_answers_that_were_no_success(cloud: Cloud, server: Replay) -> None:
    good = server.answers[SHOW]
    server.answer(SHOW, (503, GARBAGE), (-1, ""), (200, GARBAGE), (500, ""))
    server.answers[SHOW] += good
    assert cloud.wait(SERVER, "ACTIVE", timeout=60).status == "ACTIVE"


def test_a_wait_ends_with_the_last_error_at_its_deadline(cloud: Cloud, server: Replay) -> None:
    server.answers[SHOW] = server.answers[SHOW][:1]
    building = server.answers[SHOW][0]
    server.answer(SHOW, (503, GARBAGE))
    server.answers[SHOW].insert(0, building)
    with pytest.raises(CloudUnavailableError, match=r"(?s)Under maintenance \(HTTP 503\).*after 2 s.* is BUILD, task"):
        cloud.wait(SERVER, "ACTIVE", timeout=2)


def test_an_api_that_hangs_does_not_outlast_a_wait(server: Replay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_LEAST", 0.5)
    cloud = Cloud.open("recorded", RUN, timeout=60)
    server.answer(SHOW, (0, ""))
    started = time.monotonic()
    with pytest.raises(CloudUnavailableError, match=r"(?s)timed out.*after 2 s\. The last known state is UNKNOWN"):
        cloud.wait(SERVER, "ACTIVE", timeout=2)
    assert time.monotonic() - started < 20
    cloud.close()


def test_a_wait_ends_at_once_if_the_cloud_refuses(cloud: Cloud, server: Replay) -> None:
    server.answer(SHOW, fault(403, "Policy doesn't allow os_compute_api:servers:show to be performed."))
    with pytest.raises(CloudForbiddenError):
        cloud.wait(SERVER, "ACTIVE", timeout=60)


def test_a_proxy_that_knows_no_path_does_not_mean_that_a_server_is_deleted(cloud: Cloud, server: Replay) -> None:
    server.answer(SHOW, (404, "<html>Not Found</html>"))
    with pytest.raises(CloudError, match="could not show server vpmem-0123abcd-one"):
        cloud.wait(SERVER, "DELETED", timeout=60)


def test_what_one_refusal_leaves_is_all_that_clean_up_leaves(cloud: Cloud, server: Replay) -> None:
    server.answer(f"nova DELETE /v2.1/servers/{SERVER.id}", fault(409, "Cannot delete a locked server"))
    objects = [
        MarkedObject("server", SERVER.id, SERVER.name, "0123abcd"),
        MarkedObject("flavor", "61566948-3b75-4f84-8fcd-3cc2a7d9792d", "vpmem-0123abcd-small", "0123abcd"),
    ]
    with pytest.raises(CloudError, match="could not delete server vpmem-0123abcd-one: Cannot delete a locked server"):
        cloud.delete(objects, timeout=60)
    assert server.seen[-1] == "nova DELETE /v2.1/flavors/61566948-3b75-4f84-8fcd-3cc2a7d9792d"


def test_a_server_that_the_cloud_keeps_after_its_delete_is_deleted_at_once(cloud: Cloud, server: Replay) -> None:
    kept = json.loads(server.answers[SHOW][-1]["body"])
    kept["server"] |= {"status": "SOFT_DELETED", "OS-EXT-STS:task_state": None}
    server.answer(SHOW, (200, json.dumps(kept)))
    server.forget(SERVER.id)
    server.answer(f"nova DELETE /v2.1/servers/{SERVER.id}", (204, ""))
    server.answer(f"nova POST /v2.1/servers/{SERVER.id}/action", (202, ""))
    assert cloud.delete([MarkedObject("server", SERVER.id, SERVER.name, "0123abcd")], timeout=60)
    assert json.loads(server.bodies[f"nova POST /v2.1/servers/{SERVER.id}/action"]) == {"forceDelete": None}


def test_a_delete_lasts_until_the_cloud_no_longer_shows_the_server(cloud: Cloud, server: Replay) -> None:
    shown = json.loads(server.answers[SHOW][-1]["body"])
    shown["server"] |= {"status": "DELETED", "OS-EXT-STS:task_state": None}
    server.answer(SHOW, (200, json.dumps(shown)))
    server.forget(SERVER.id)
    assert cloud.wait_for_deletion(SERVER, timeout=60).status == "DELETED"
    assert server.seen.count(SHOW) == 2


def test_a_server_that_stays_in_build_is_reported_with_its_task_and_the_log(server: Replay) -> None:
    server.answers[SHOW] = server.answers[SHOW][1:2]
    log = SimpleNamespace(exit_status=0, text="WARNING nova.compute waiting\n")
    opened = SimpleNamespace(host=SimpleNamespace(transport=SimpleNamespace(run=lambda _: log)), guest=None)
    session = cast(Session, SimpleNamespace(aliases=["rack1"], find={"rack1": opened}.__getitem__, run=RUN))
    keywords = CloudKeywords(lambda: session)
    keywords.open_cloud("recorded")
    message = r"(?s)one should become ACTIVE, but it is BUILD, task \w+\..*on rack1:\nWARNING nova.compute waiting"
    with pytest.raises(AssertionError, match=message):
        keywords.server_should_become(SERVER, "ACTIVE", timeout=timedelta(seconds=1))
    keywords.close_cloud()


def test_a_host_without_vpmem_has_no_labels(cloud: Cloud, server: Replay) -> None:
    assert cloud.placement.labels("lab-1") == ["4GB", "SMALL"]
    (key,) = [key for key in server.answers if key.endswith("/inventories")]
    server.answer(key, (200, '{"inventories": {"VCPU": {"total": 1}}}'))
    assert cloud.placement.labels("lab-1") == []
    assert cloud.placement.total("SMALL", "lab-1") == 0
    with pytest.raises(NotFoundError, match="No resource provider 'lab-7'"):
        cloud.placement.labels("lab-7")


def test_a_service_that_the_catalogue_does_not_have_is_named(server: Replay, file: Path) -> None:
    write_clouds_yaml(file, server, region_name="RegionTwo")
    cloud = Cloud.open("recorded", RUN, timeout=1)
    with pytest.raises(CloudForbiddenError, match=r"it offers no such service: .*Check `region_name`"):
        cloud.state(SERVER)
    cloud.close()


def test_the_extra_is_named_if_it_is_not_installed(server: Replay, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(*_: Any) -> None:
        raise UnsupportedError("pip install robotframework-vpmem[openstack]")

    monkeypatch.setattr("VpmemLibrary.cloud.login.require_extra", absent)
    with pytest.raises(UnsupportedError, match=r"\[openstack\]"):
        Cloud.open("recorded", RUN, timeout=1)
