"""Images that a run uploads, against a real HTTP server in the place of glance."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from cloud_replay import Replay, replay, write_clouds_yaml

from VpmemLibrary.cloud import client
from VpmemLibrary.cloud.client import Cloud
from VpmemLibrary.cloud.records import CloudImage, MarkedObject
from VpmemLibrary.errors import CloudError, InvalidValueError, NotFoundError
from VpmemLibrary.ownership.marks import RunMark

pytest.importorskip("openstack")

ID = "2da8fae1-58b7-5009-a8b9-000000000001"
NAME = "vpmem-0123abcd-mine"
CREATE = "glance POST /v2/images"
FILE = f"glance PUT /v2/images/{ID}/file"
SHOW = f"glance GET /v2/images/{ID}"
DELETE = f"glance DELETE /v2/images/{ID}"
KERNEL, INITRD = "bc31eeb5-cf3e-5756-b4ac-5c7f68f78a1b", "86a65a07-b24a-5eb5-9efa-3e2ac44c5c55"


def shown(status: str) -> str:
    return json.dumps({"id": ID, "name": NAME, "status": status, "disk_format": "raw", "container_format": "bare"})


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Replay]:
    monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", str(tmp_path / "clouds.yaml"))
    monkeypatch.setattr(client, "_POLL", 0.01)
    with replay() as made:
        write_clouds_yaml(tmp_path / "clouds.yaml", made)
        made.answer(CREATE, (201, shown("queued")))
        made.answer(FILE, (204, ""))
        made.answer(SHOW, (200, shown("saving")), (503, ""), (200, shown("active")))
        made.answer(DELETE, (204, ""))
        yield made


@pytest.fixture
def cloud(server: Replay) -> Iterator[Cloud]:
    opened = Cloud.open("recorded", RunMark("0123abcd"), timeout=2)
    yield opened
    opened.close()


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    (tmp_path / "disk.raw").write_bytes(b"disk" * 100_000)
    return tmp_path / "disk.raw"


def upload(cloud: Cloud, path: Path, *, kernel: str = "", timeout: float = 30) -> CloudImage:
    return cloud.create_image(
        path,
        name="mine",
        disk_format="raw",
        kernel=kernel,
        ramdisk="vpmem-guest-initrd" if kernel else "",
        properties={"os_command_line": "console=ttyS0", "hw_qemu_guest_agent": "yes"},
        timeout=timeout,
    )


def test_an_image_has_the_bytes_of_the_file_and_its_properties(cloud: Cloud, server: Replay, disk: Path) -> None:
    assert upload(cloud, disk, kernel="vpmem-guest-kernel") == CloudImage(ID, NAME)
    assert server.bodies[FILE] == disk.read_bytes()
    sent = json.loads(server.bodies[CREATE])
    wanted = {"name": NAME, "disk_format": "raw", "container_format": "bare", "os_command_line": "console=ttyS0"}
    wanted |= {"kernel_id": KERNEL, "ramdisk_id": INITRD, "hw_qemu_guest_agent": "yes"}
    assert {key: sent.get(key) for key in wanted} == wanted


def test_an_image_without_a_kernel_has_none(cloud: Cloud, server: Replay, disk: Path) -> None:
    upload(cloud, disk)
    assert not {"kernel_id", "ramdisk_id"} & set(json.loads(server.bodies[CREATE]))


def test_an_image_that_does_not_become_active_is_an_error(cloud: Cloud, server: Replay, disk: Path) -> None:
    server.answer(SHOW, (200, shown("saving")))
    with pytest.raises(CloudError, match=rf"Image {NAME} .* should be active after 0\.5 s, but it is saving"):
        upload(cloud, disk, timeout=0.5)


def test_an_upload_that_is_too_slow_is_ended_and_deleted(cloud: Cloud, server: Replay, disk: Path) -> None:
    with pytest.raises(CloudError, match="the upload did not end in time, after 0 bytes"):
        upload(cloud, disk, timeout=-1)
    assert DELETE in server.seen


def test_an_upload_that_glance_refuses_is_deleted(cloud: Cloud, server: Replay, disk: Path) -> None:
    server.answer(FILE, (413, "<html>The quota has been exceeded: image_storage_quota</html>"))
    with pytest.raises(CloudError, match=r"a quota of the project does not allow it: .*\(HTTP 413\)"):
        upload(cloud, disk)
    assert DELETE in server.seen


def test_a_file_that_cannot_be_read_is_refused_before_a_request(cloud: Cloud, server: Replay, tmp_path: Path) -> None:
    for path in (tmp_path / "absent.raw", tmp_path):
        with pytest.raises(InvalidValueError, match="a file on the controller"):
            upload(cloud, path)
    assert CREATE not in server.seen


def test_an_unknown_kernel_is_refused(cloud: Cloud, server: Replay, disk: Path) -> None:
    with pytest.raises(NotFoundError, match=r"No image 'vpmem-guest-kernal' .*Did you mean vpmem-guest-kernel"):
        upload(cloud, disk, kernel="vpmem-guest-kernal")
    assert CREATE not in server.seen


def test_clean_up_finds_and_deletes_the_images_of_the_run(cloud: Cloud, server: Replay) -> None:
    server.answer("nova GET /v2.1/servers/detail?name=vpmem-0123abcd-", (200, '{"servers": []}'))
    server.answer("nova GET /v2.1/flavors/detail?is_public=None", (200, '{"flavors": []}'))
    others = [{"id": "1", "name": None}, {"id": "2", "name": "vpmem-guest"}, {"id": "3", "name": "vpmem-ffffffff-x"}]
    server.answer("glance GET /v2/images", (200, json.dumps({"images": [json.loads(shown("active")), *others]})))
    assert cloud.marked("0123abcd") == [MarkedObject("image", ID, NAME, "0123abcd")]
    assert cloud.clean_up(timeout=10) == [f"image {NAME}"]
    assert [key for key in server.seen if " DELETE " in key] == [DELETE]
