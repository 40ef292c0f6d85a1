"""What is told where the guest agent's answer does not come; the texts are those of libvirt 11.3."""

from __future__ import annotations

import json

import pytest

from VpmemLibrary.errors import GuestError, LibvirtError
from VpmemLibrary.guest.agent import AgentTransport

NOT_CONNECTED = "Guest agent is not responding: QEMU guest agent is not connected"
TOO_LONG = "Unable to encode message payload"


def agent_that_fails(at: str, code: int, text: str) -> AgentTransport:
    def call(command: str, _timeout: int) -> str:
        execute = json.loads(command)["execute"]
        if execute == at:
            raise LibvirtError("ask the agent", code, text)
        return json.dumps({"return": {"pid": 7}})

    return AgentTransport("a", call)


def test_an_agent_that_does_not_answer_is_told_with_the_mend() -> None:
    with pytest.raises(GuestError, match=r"of guest a did not do guest-exec: .*code 86\)\. The guest must run qemu-gu"):
        agent_that_fails("guest-exec", 86, NOT_CONNECTED).run(["true"])


def test_output_that_is_too_long_for_libvirt_is_not_taken_for_an_agent_that_is_missing() -> None:
    with pytest.raises(GuestError, match=r"guest a answered .* 3 MiB of a command's output\. Write it") as caught:
        agent_that_fails("guest-exec-status", 39, TOO_LONG).run(["cat", "/proc/kallsyms"])
    assert "must run qemu-guest-agent" not in str(caught.value)
