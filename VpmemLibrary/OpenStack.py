"""The Robot Framework library of keywords for OpenStack. It uses the open hosts of VpmemLibrary."""

from __future__ import annotations

from typing import Any

from robot.api.deco import library
from robot.libraries.BuiltIn import BuiltIn

from VpmemLibrary.keywords.cloud.cloud_leaks import CloudLeakKeywords
from VpmemLibrary.keywords.cloud.clouds import CloudKeywords
from VpmemLibrary.keywords.cloud.compute_services import ComputeServiceKeywords
from VpmemLibrary.keywords.cloud.server_actions import ServerActionKeywords
from VpmemLibrary.keywords.support.components import ComponentLibrary
from VpmemLibrary.keywords.support.converters import CONVERTERS
from VpmemLibrary.session.session import Session
from VpmemLibrary.version import __version__


@library(scope="GLOBAL", version=__version__, doc_format="MARKDOWN", converters=CONVERTERS)
class OpenStack(ComponentLibrary):
    """Keywords for a cloud with vPMEM. Import VpmemLibrary too: its keywords prove what a server has on its host."""

    def __init__(self) -> None:
        clouds = CloudKeywords(_session)
        super().__init__(
            [
                clouds,
                ServerActionKeywords(lambda: clouds.cloud),
                ComputeServiceKeywords(lambda: clouds.cloud, _session),
                CloudLeakKeywords(lambda: clouds.cloud, _session),
            ]
        )


def _session() -> Session:
    """Return the session of VpmemLibrary in the running suite."""
    vpmem: Any = BuiltIn().get_library_instance("VpmemLibrary")
    found: Session = vpmem.session
    return found
