"""The library as Robot Framework and Libdoc see it."""

import inspect
import subprocess
import sys
from functools import cache

import pytest
from robot.libdocpkg import LibraryDocumentation
from robot.libdocpkg.model import KeywordDoc, LibraryDoc

TAGS = {
    "host", "region", "namespace", "content", "guest", "inside", "ownership", "claim", "server", "dax", "filesystem",
    "health",
    "getter", "assertion", "prediction", "destructive",
}  # fmt: skip


@cache
def libdoc() -> LibraryDoc:
    return LibraryDocumentation("VpmemLibrary")


def keywords() -> list[KeywordDoc]:
    return list(libdoc().keywords)


@pytest.mark.parametrize("keyword", keywords(), ids=lambda keyword: keyword.name)
def test_every_keyword_is_documented_with_an_example(keyword: KeywordDoc) -> None:
    assert keyword.doc.strip(), "no documentation"
    assert "Example" in keyword.doc
    assert "```robotframework" in keyword.doc


@pytest.mark.parametrize("keyword", keywords(), ids=lambda keyword: keyword.name)
def test_every_argument_is_typed_and_documented(keyword: KeywordDoc) -> None:
    for argument in keyword.to_dictionary()["args"]:
        if argument["name"]:
            assert argument["type"], f"{argument['name']} has no type"
            assert argument["doc"], f"{argument['name']} is not documented"


@pytest.mark.parametrize("keyword", keywords(), ids=lambda keyword: keyword.name)
def test_what_is_returned_is_documented(keyword: KeywordDoc) -> None:
    described = keyword.to_dictionary()
    if (described["returnType"] or {}).get("name") != "None":
        assert described["returnDoc"]


@pytest.mark.parametrize("keyword", keywords(), ids=lambda keyword: keyword.name)
def test_tags_are_the_small_vocabulary(keyword: KeywordDoc) -> None:
    assert keyword.tags
    assert set(keyword.tags) <= TAGS


def test_the_library_and_its_import_are_documented() -> None:
    assert "Ownership" in libdoc().doc
    for argument in libdoc().inits[0].to_dictionary()["args"]:
        assert argument["doc"]


def test_importing_loads_no_heavy_library() -> None:
    heavy = "paramiko libvirt lxml qemu.qmp rich hypothesis psutil"
    code = inspect.cleandoc(f"""
        import sys
        from VpmemLibrary import VpmemLibrary
        VpmemLibrary()
        print(*(name for name in {heavy.split()!r} if name in sys.modules))
    """)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_plain_python_parts_load_no_robot() -> None:
    code = inspect.cleandoc("""
        import pkgutil, importlib, sys, VpmemLibrary
        for package in ("host", "guest", "inventory", "content", "nova", "lab"):
            parent = importlib.import_module(f"VpmemLibrary.{package}")
            for module in pkgutil.walk_packages(parent.__path__, parent.__name__ + "."):
                importlib.import_module(module.name)
        print(*(name for name in sys.modules if name == "robot" or name.startswith("robot.")))
    """)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
