"""Keywords for values in suites, so that no test contains a Python expression.

This module supports this project's own suites. It is not a part of the library.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
from robot.api.deco import keyword, library

from VpmemLibrary.host.hosts_entry import HostEntry
from VpmemLibrary.host.hosts_file import settings_of
from VpmemLibrary.lab.paths import open_private
from VpmemLibrary.sizes import Size


@library(scope="GLOBAL", auto_keywords=False)
class suite_support:  # noqa: N801  # Robot Framework finds the library's class by the module's name
    """Keywords for records, sizes, JSON and processes."""

    @keyword
    def get_field_of_each(self, records: Sequence[Any], field: str) -> list[Any]:
        """Return the field of each record, in the order of the records."""
        return [getattr(record, field) for record in records]

    @keyword
    def get_records_with(self, records: Sequence[Any], **fields: object) -> list[Any]:
        """Return the records whose fields have these values, in their order."""
        return [each for each in records if all(getattr(each, field) == value for field, value in fields.items())]

    @keyword
    def get_record_with(self, records: Sequence[Any], **fields: object) -> Any:
        """Return the only record whose fields have these values.

        Raises:
            AssertionError: No record has these values, or several records have them.
        """
        found = self.get_records_with(records, **fields)
        if len(found) != 1:
            raise AssertionError(f"{len(found)} of {len(records)} records have {fields}; expected 1: {records}")
        return found[0]

    @keyword
    def get_records_that_share(self, records: Sequence[Any], field: str, values: Sequence[str]) -> list[Any]:
        """Return the records whose field has a value in common with the given values."""
        return [each for each in records if set(getattr(each, field)) & set(values)]

    @keyword
    def fields_should_be_equal(self, first: object, second: object, *fields: str) -> None:
        """Fail unless two records have the same value in each of these fields."""
        if not fields:
            raise ValueError("Name at least one field to compare.")
        for field in fields:
            one, other = getattr(first, field), getattr(second, field)
            if one != other:
                raise AssertionError(f"The records differ in their field {field}: {one} != {other}")

    @keyword
    def multiply_size(self, size: int | str, factor: int) -> Size:
        """Return the size times `factor`."""
        return Size(Size.parse(size) * factor)

    @keyword
    def add_sizes(self, *sizes: int | str) -> Size:
        """Return the sum of the sizes."""
        return Size(sum(Size.parse(size) for size in sizes))

    @keyword
    def subtract_size(self, size: int | str, *less: int | str) -> Size:
        """Return the size minus each of the other sizes."""
        return Size.parse(int(Size.parse(size)) - sum(Size.parse(each) for each in less))

    @keyword
    def get_size_in_kib(self, size: Size) -> int:
        """Return the number of whole KiB in a size, as libvirt's XML has it."""
        return int(size) // 1024

    @keyword
    def get_size_in_bytes(self, size: Size) -> int:
        """Return the number of bytes of a size, as the tools of a host take it."""
        return int(size)

    @keyword
    def get_known_hosts_name(self, entry: HostEntry) -> str:
        """Return the name under which a known_hosts file has the key of a host."""
        return settings_of(entry).key_name

    @keyword
    def fill_in_values(self, text: str, **values: object) -> str:
        """Return the text with each name, such as `@PATH@`, replaced by its value."""
        for name, value in values.items():
            text = text.replace(name, str(value))
        return text

    @keyword
    def get_words(self, text: str) -> list[str]:
        """Return the words of a text, which white space separates."""
        return text.split()

    @keyword
    def read_json(self, text: str) -> Any:
        """Return the value of a JSON text. Return an empty list for an empty text, which ndctl prints for no object."""
        return json.loads(text) if text.strip() else []

    @keyword
    def choose_from_seed(self, seed: str, values: Sequence[str], longest: float) -> tuple[str, float]:
        """Return one of the values and a number of seconds up to `longest`. A seed always gives the same choice."""
        chance = random.Random(seed)  # noqa: S311  # a repeatable choice, not a secret
        return chance.choice(list(values)), round(chance.uniform(0, longest), 2)

    @keyword
    def kill_process_and_its_children(self, process_id: int) -> None:
        """Kill a process of this machine and all processes below it, without notice.

        Raises:
            psutil.NoSuchProcess: The process has ended.
        """
        process = psutil.Process(process_id)
        for each in [*process.children(recursive=True), process]:
            try:
                os.kill(each.pid, 9)
            except ProcessLookupError:
                if each is process:
                    raise

    @keyword
    def get_kernel_command_line_of_lab_guests(self) -> str:
        """Return the kernel command line with which the kernel of the lab's guests boots."""
        from VpmemLibrary.lab.image import GUEST_COMMAND_LINE  # noqa: PLC0415  most suites need no lab

        return GUEST_COMMAND_LINE

    @keyword
    def write_clouds_yaml_of_lab(self, path: str, password: str = "") -> None:
        """Write a clouds.yaml with the lab's cloud, `vpmem-lab`, and another password. The lab's password is in no log.

        It has no default microversion, as users' files have none.
        """
        from VpmemLibrary.cloud.lab_cloud import LabCloud  # noqa: PLC0415  most suites need no lab

        settings = LabCloud().settings
        found = json.loads(replace(settings, secret=password or settings.secret).clouds_yaml())
        for cloud in found["clouds"].values():
            del cloud["compute_default_microversion"]
        with open_private(Path(path)) as file:
            file.write(json.dumps(found).encode())
