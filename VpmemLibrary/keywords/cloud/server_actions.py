"""Keywords for the actions on a cloud's servers. Each one asks the cloud, and returns at once."""

from __future__ import annotations

from collections.abc import Callable

from robot.api.deco import keyword

from VpmemLibrary.cloud.client import Cloud
from VpmemLibrary.cloud.records import CloudFlavor, CloudServer


class ServerActionKeywords:
    """Keywords for the actions on servers of the open cloud.

    Args:
        cloud: Returns the open cloud.
    """

    def __init__(self, cloud: Callable[[], Cloud]) -> None:
        self._cloud = cloud

    @keyword(tags=("cloud", "server"))
    def stop_server(self, server: CloudServer) -> None:
        """Ask the cloud to stop a server, and return at once.

        Args:
            server: The server.

        Raises:
            CloudError: The cloud refused.

        Example:

        ```robotframework
        *** Test Cases ***
        Off
            Stop Server    ${server}
            Server Should Become    ${server}    SHUTOFF
        ```
        """
        self._cloud().act(server, "stop_server")

    @keyword(tags=("cloud", "server"))
    def start_server(self, server: CloudServer) -> None:
        """Ask the cloud to start a stopped server, and return at once.

        Args:
            server: The server.

        Raises:
            CloudError: The cloud refused.

        Example:

        ```robotframework
        *** Test Cases ***
        On
            Start Server    ${server}
            Server Should Become    ${server}    ACTIVE
        ```
        """
        self._cloud().act(server, "start_server")

    @keyword(tags=("cloud", "server"))
    def resize_server(self, server: CloudServer, flavor: CloudFlavor) -> None:
        """Ask the cloud to resize a server, and return at once.

        Args:
            server: The server.
            flavor: The new flavor.

        Raises:
            CloudError: The cloud refused.

        Example:

        ```robotframework
        *** Test Cases ***
        Larger
            Resize Server    ${server}    ${larger}
            Server Should Become    ${server}    VERIFY_RESIZE
        ```
        """
        self._cloud().act(server, "resize_server", flavor.id)

    @keyword(tags=("cloud", "server", "destructive"))
    def confirm_resize(self, server: CloudServer) -> None:
        """Ask the cloud to confirm a resize, and return at once.

        Args:
            server: The server, which is in VERIFY_RESIZE.

        Raises:
            CloudError: The cloud refused.

        Example:

        ```robotframework
        *** Test Cases ***
        Keep
            Confirm Resize    ${server}
            Server Should Become    ${server}    ACTIVE
        ```
        """
        self._cloud().act(server, "confirm_server_resize")

    @keyword(tags=("cloud", "server", "destructive"))
    def revert_resize(self, server: CloudServer) -> None:
        """Ask the cloud to revert a resize, and return at once.

        Args:
            server: The server, which is in VERIFY_RESIZE.

        Raises:
            CloudError: The cloud refused.

        Example:

        ```robotframework
        *** Test Cases ***
        Back
            Revert Resize    ${server}
            Server Should Become    ${server}    ACTIVE
        ```
        """
        self._cloud().act(server, "revert_server_resize")

    @keyword(tags=("cloud", "server", "destructive"))
    def reboot_server(self, server: CloudServer, *, hard: bool = False) -> None:
        """Ask the cloud to reboot a server, and return at once.

        Nova makes a hard reboot of a soft one that does not end in time.

        Args:
            server: The server.
            hard: Reboot without the server's operating system, as by a power cut.

        Raises:
            CloudError: The cloud refused.

        Example:

        ```robotframework
        *** Test Cases ***
        Again
            Reboot Server    ${server}
            Server Should Become    ${server}    ACTIVE
        ```
        """
        self._cloud().act(server, "reboot_server", "HARD" if hard else "SOFT")

    @keyword(tags=("cloud", "server", "destructive"))
    def shelve_server(self, server: CloudServer) -> None:
        """Ask the cloud to shelve a server, and return at once.

        Nova stores an image of its disk. Then it removes the server from its compute host, at once or after the time in
        `shelved_offload_time`. The status is SHELVED, then SHELVED_OFFLOADED.

        Args:
            server: The server.

        Raises:
            CloudError: The cloud refused.

        Example:

        ```robotframework
        *** Test Cases ***
        Put Away
            Shelve Server    ${server}
            Server Should Become    ${server}    SHELVED_OFFLOADED
        ```
        """
        self._cloud().act(server, "shelve_server")

    @keyword(tags=("cloud", "server"))
    def unshelve_server(self, server: CloudServer, *, host: str = "") -> None:
        """Ask the cloud to unshelve a server, and return at once.

        Args:
            server: The server.
            host: The host name of the compute host. Without it the scheduler chooses.

        Raises:
            CloudError: The cloud refused.

        Example:

        ```robotframework
        *** Test Cases ***
        Back Again
            Unshelve Server    ${server}
            Server Should Become    ${server}    ACTIVE
        ```
        """
        self._cloud().act(server, "unshelve_server", **({"host": host} if host else {}))

    @keyword(tags=("cloud", "server", "destructive"))
    def rebuild_server(self, server: CloudServer, image: str) -> None:
        """Ask the cloud to rebuild a server from an image, and return at once.

        The server keeps its id, its compute host and its flavor.

        Args:
            server: The server.
            image: The name or id of the image.

        Raises:
            NotFoundError: The cloud has no such image.
            CloudError: The cloud refused.

        Example:

        ```robotframework
        *** Test Cases ***
        From The Start
            Rebuild Server    ${server}    vpmem-guest
            Server Should Become    ${server}    ACTIVE
        ```
        """
        cloud = self._cloud()
        cloud.act(server, "rebuild_server", cloud.image_id(image))

    @keyword(tags=("cloud", "server", "destructive"))
    def evacuate_server(self, server: CloudServer, *, host: str = "") -> None:
        """Ask the cloud to make a server again on another compute host, and return at once.

        Nova refuses this while the compute service of the server's host is up; see [Set Compute Service Down]. Since
        microversion 2.95 the server is stopped on its new host.

        Args:
            server: The server.
            host: The host name of the compute host. Without it the scheduler chooses.

        Raises:
            CloudError: The cloud refused.

        Example:

        ```robotframework
        *** Test Cases ***
        Away From A Lost Host
            Set Compute Service Down    host=rack1-pmem1
            Evacuate Server    ${server}
            Server Should Become    ${server}    SHUTOFF
        ```
        """
        self._cloud().act(server, "evacuate_server", **({"host": host} if host else {}))

    @keyword(tags=("cloud", "server", "destructive"))
    def live_migrate_server(self, server: CloudServer, *, host: str = "") -> None:
        """Ask the cloud to migrate a running server to another compute host, and return at once.

        Nova itself decides whether the server's disks have to be copied.

        Args:
            server: The server.
            host: The host name of the compute host. Without it the scheduler chooses.

        Raises:
            CloudError: The cloud refused.

        Example:

        ```robotframework
        *** Test Cases ***
        Without A Break
            Live Migrate Server    ${server}    host=rack1-pmem2
            Server Should Become    ${server}    ACTIVE
        ```
        """
        self._cloud().act(server, "live_migrate_server", host=host or None, block_migration="auto")
