"""Who a device is by its label area, on bytes that ndctl 81 and kernel 6.12 wrote (tests/data/labels)."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from VpmemLibrary.errors import InvalidValueError, ViewsDisagreeError
from VpmemLibrary.guest.domain.records import VpmemDevice
from VpmemLibrary.guest.identity import compare_labels, cookie_problem, read_label_area
from VpmemLibrary.pmem.records import Namespace, NamespaceMode, Region
from VpmemLibrary.sizes import KiB, MiB, Size

LABELS = gzip.decompress((Path(__file__).parents[1] / "data" / "labels" / "used-1.2.bin.gz").read_bytes())
DEVICE = VpmemDevice(path="/dev/dax0.0", size=Size(66 * MiB), label_size=Size(128 * KiB))


class Backing:
    """A backing whose end is a label area."""

    def __init__(self, labels: bytes) -> None:
        self._labels = labels

    def read(self, path: str, offset: int, length: int) -> bytes:
        """Return the label area; nothing else may be asked for."""
        assert (path, offset, length) == (DEVICE.path, 66 * MiB - 128 * KiB, 128 * KiB)
        return self._labels


def read(labels: bytes = LABELS) -> Any:
    return read_label_area(Backing(labels), DEVICE)  # type: ignore[arg-type]  # all that is used of a store


def region() -> Region:
    """Return what the kernel makes of the labels."""
    _, area = read()
    namespaces = [
        Namespace(f"namespace0.{number}", NamespaceMode.raw, name=label.name, uuid=label.uuid)
        for number, label in enumerate(area.labels)
    ]
    return Region("region0", namespaces=tuple(namespaces))


def test_an_identity_is_the_same_wherever_it_is_read() -> None:
    first, _ = read()
    again, area = read()
    assert first == again
    assert first.labels == tuple(sorted((label.uuid, label.name) for label in area.labels))
    assert first.labels


@pytest.mark.parametrize("at", [0, 70, 600, len(LABELS) - 1])
def test_one_other_byte_is_another_identity(at: int) -> None:
    changed = bytearray(LABELS)
    changed[at] ^= 1
    assert read(bytes(changed))[0] != read()[0]


def test_a_device_without_a_label_area_has_no_identity() -> None:
    with pytest.raises(InvalidValueError, match="a device with a label area"):
        read_label_area(Backing(LABELS), replace(DEVICE, label_size=None))  # type: ignore[arg-type]


def test_labels_agree_with_the_kernel_that_made_namespaces_of_them() -> None:
    compare_labels(read()[1], region()).require()


def test_a_label_that_the_kernel_has_not_is_found() -> None:
    listed = region()
    with pytest.raises(ViewsDisagreeError, match="no such namespace"):
        compare_labels(read()[1], replace(listed, namespaces=listed.namespaces[1:])).require()


def test_a_namespace_without_a_label_is_found() -> None:
    listed = region()
    more = Namespace("namespace0.9", NamespaceMode.raw, name="other", uuid="94d02aa7-b6f2-4a01-a98b-bb4ad5be5e8c")
    with pytest.raises(ViewsDisagreeError, match="no such namespace"):
        compare_labels(read()[1], replace(listed, namespaces=(*listed.namespaces, more))).require()


def test_labels_of_another_slot_are_told_as_such() -> None:
    area = read()[1]
    cookie = area.labels[0].isetcookie
    assert cookie_problem(area, replace(region(), iset_id=cookie)) == ""
    assert f"is interleave set {cookie + 1:#x}" in cookie_problem(area, replace(region(), iset_id=cookie + 1))
    assert cookie_problem(area, region()) == ""


def test_another_name_is_found() -> None:
    listed = region()
    renamed = replace(listed.namespaces[0], name="another")
    with pytest.raises(ViewsDisagreeError, match="another"):
        compare_labels(read()[1], replace(listed, namespaces=(renamed, *listed.namespaces[1:]))).require()
