"""A user's whole XML, checked before libvirt sees it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from lxml import etree
from recorded_guest import INACTIVE_XML, LIVE_XML

from VpmemLibrary.errors import InvalidValueError
from VpmemLibrary.guest.domain.xml_checks import check_domain

Edit = Callable[["etree._Element"], object]


def changed(edit: Edit) -> str:
    root = etree.fromstring(INACTIVE_XML)
    edit(root)
    return etree.tostring(root, encoding="unicode")


def remove(path: str) -> Edit:
    def edit(root: etree._Element) -> None:
        element = root.find(path)
        assert element is not None
        parent = element.getparent()
        assert parent is not None
        parent.remove(element)

    return edit


def text(path: str, value: str) -> Edit:
    def edit(root: etree._Element) -> None:
        element = root.find(path)
        assert element is not None
        element.text = value

    return edit


def attribute(path: str, name: str, value: str | None) -> Edit:
    def edit(root: etree._Element) -> None:
        element = root.find(path)
        assert element is not None
        if value is None:
            del element.attrib[name]
        else:
            element.set(name, value)

    return edit


def add_uuid(root: etree._Element) -> None:
    element = root.find("./devices/memory")
    assert element is not None
    etree.SubElement(element, "uuid").text = "94d02aa7-b6f2-4a01-a98b-bb4ad5be5e8c"


MEMORY = "./devices/memory"


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (remove("./maxMemory"), "domain XML 'without <maxMemory>'"),
        (text("./maxMemory", "1024"), "<maxMemory> of the domain XML '1MiB'.*or more"),
        (attribute("./maxMemory", "slots", None), "slots of <maxMemory> 'none'.*2 or more"),
        (attribute("./maxMemory", "slots", "1"), "slots of <maxMemory> '1'.*2 or more"),
        (attribute("./maxMemory", "slots", "x"), "slots of <maxMemory> 'x'.*a whole number"),
        (remove(f"{MEMORY}/target/node"), "node of /dev/dax0.1 None"),
        (text(f"{MEMORY}/target/node", "1"), "node of /dev/dax0.1 1.*node of the guest: 0"),
        (remove(f"{MEMORY}/source/path"), "memory device 'without a path'"),
        (text(f"{MEMORY}/source/path", "dax0.1"), "absolute path"),
        (text(f"{MEMORY}/source/path", "/dev/dax0.0"), "another backing"),
        (text(f"{MEMORY}/target/label/size", "64"), "label_size of /dev/dax0.1 '64KiB'"),
        (text(f"{MEMORY}/target/label/size", "260096"), "label_size of /dev/dax0.1 '254MiB'"),
        (add_uuid, "uuid of /dev/dax0.1.*only pSeries"),
        (attribute(MEMORY, "discard", "yes"), "discard of /dev/dax0.1 'yes'"),
        (attribute(MEMORY, "access", None), "nothing persists"),
        (attribute(MEMORY, "model", "virtio-pmem"), "no label area"),
    ],
)
def test_a_mistake_is_refused_with_what_would_be_right(edit: Edit, message: str) -> None:
    with pytest.raises(InvalidValueError, match=message):
        check_domain(changed(edit))


@pytest.mark.parametrize("xml", [INACTIVE_XML, LIVE_XML, "<domain><name>without any device</name></domain>"])
def test_a_good_domain_is_taken(xml: str) -> None:
    check_domain(xml)


def test_a_size_that_libvirt_rounds_up_is_taken() -> None:
    check_domain(changed(text(f"{MEMORY}/target/size", "259000")))


def test_what_does_not_persist_is_taken_when_it_is_wanted_so() -> None:
    check_domain(changed(attribute(MEMORY, "access", None)), unshared=True)
