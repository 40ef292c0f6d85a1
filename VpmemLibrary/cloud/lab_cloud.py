"""The lab's cloud: start it, find it again from later processes, and remove it.

Example::

    cloud = LabCloud()
    cloud.up(hosts=1)
    print(cloud.clouds_yaml)
    cloud.down()
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from VpmemLibrary.cloud.boot_image import boot_images, initrd_name, upload_image
from VpmemLibrary.cloud.catalogue import catalogue
from VpmemLibrary.cloud.compute import ComputeHost
from VpmemLibrary.cloud.container import Container, require_root
from VpmemLibrary.cloud.http import Api
from VpmemLibrary.cloud.services import (
    READY_SECONDS,
    Service,
    broker,
    database,
    openstack,
    start_missing,
    wait_for,
    wait_until_ready,
)
from VpmemLibrary.cloud.settings import Ports, Settings
from VpmemLibrary.cloud.template import (
    copy_template,
    find_or_make_template,
    read_secret,
    run_sql,
    template_name,
    write_configuration,
)
from VpmemLibrary.cloud.tree import find_or_build_tree, tree_name
from VpmemLibrary.errors import InvalidValueError, LabError, NotFoundError
from VpmemLibrary.extras import require_extra
from VpmemLibrary.lab.cache import locked
from VpmemLibrary.lab.image import image_name
from VpmemLibrary.lab.lab import Lab, LabHost
from VpmemLibrary.lab.paths import cache_directory, no_raw_errors, open_private, private_directory, state_directory
from VpmemLibrary.lab.process import kill_process
from VpmemLibrary.lab.progress import SILENT, Progress
from VpmemLibrary.lab.recipe import COMPUTE_RELEASES, DEFAULT_RELEASE

_PORTS = "ports.json"
_RELEASE = "release"


class LabCloud:
    """The lab's cloud of the current user.

    Args:
        progress: Shows steps that take a while.

    Raises:
        UnsupportedError: The packages of the extra `lab` are not installed.
    """

    def __init__(self, progress: Progress = SILENT) -> None:
        require_extra("lab", "The lab's cloud")
        self._progress = progress
        self._root = state_directory()
        self._lab = Lab(progress)

    @property
    def directory(self) -> Path:
        """The directory of the cloud: its state, its logs and its configuration."""
        return self._root / "cloud"

    @property
    def clouds_yaml(self) -> Path:
        """The clouds.yaml for OpenStack's clients. It names this cloud ``vpmem-lab``."""
        return self.directory / "clouds.yaml"

    @property
    def exists(self) -> bool:
        """Whether the cloud was started and not removed. It may have crashed."""
        return self.directory.is_dir()

    @property
    def release(self) -> str:
        """The cloud's release of Debian.

        Raises:
            LabError: There is no cloud, or the file with the release cannot be read.
        """
        path = self.directory / _RELEASE
        try:
            found = path.read_text("ascii").strip()
        except (OSError, ValueError) as error:
            raise LabError(f"{path} cannot be read ({error}). Remove the cloud: vpmem cloud down") from error
        if found not in COMPUTE_RELEASES:
            raise LabError(f"{path} has the unknown release {found!r}. Remove the cloud: vpmem cloud down")
        return found

    @property
    def settings(self) -> Settings:
        """The settings of the cloud.

        Raises:
            LabError: There is no cloud, or one of its files cannot be read.
        """
        if not self.exists:
            raise LabError("There is no cloud: vpmem cloud up")
        return Settings(Ports.read(self.directory / _PORTS), read_secret(self.directory))

    @property
    def container(self) -> Container:
        """The container of the control plane."""
        return Container(self.directory, cache_directory() / tree_name(self.release) / "root")

    @property
    def services(self) -> list[Service]:
        """The services of the control plane."""
        settings = self.settings
        return [database(settings.ports), broker(settings.ports), *openstack(settings)]

    def compute_hosts(self) -> list[ComputeHost]:
        """Return the compute hosts of the cloud, running or not."""
        settings = self.settings
        return [self._compute(host, settings) for host in self._compute_lab_hosts()]

    def up(self, hosts: int = 1, *, release: str = "", confined: bool = False) -> list[ComputeHost]:
        """Start the cloud with the compute hosts ``lab-1`` to ``lab-N``, and wait until servers can be created.

        The first time, this builds the tree of the control plane, its databases, and the image of the compute hosts.
        Running services and compute hosts are not touched. A service that has ended is started again.

        Args:
            hosts: The number of compute hosts.
            release: The release of Debian whose OpenStack the cloud has: ``trixie`` or ``sid``. The default is that
                of the cloud that exists, or ``trixie``.
            confined: Let AppArmor confine the servers of new compute hosts. With KVM it always does.

        Raises:
            UnsupportedError: This process is not root.
            InvalidValueError: The number of compute hosts or the release is invalid, or the cloud that runs has another
                release.
            LabError: A part of the cloud cannot be made or started. The message has the last lines of its log.
        """
        require_root()
        if release and release not in COMPUTE_RELEASES:
            raise InvalidValueError("release", release, f"one of {', '.join(COMPUTE_RELEASES)}")
        with self._locked():
            release = release or (self.release if self.exists else DEFAULT_RELEASE)
            self._refuse_other_hosts(hosts, release)
            tree = find_or_build_tree(release, self._progress)
            settings = self._prepared(release, tree, find_or_make_template(release, tree, self._progress))
            lab_hosts = self._lab.up(hosts, release=COMPUTE_RELEASES[release])
            container = self.container
            with self._progress.step("starting the cloud's control plane", 35):
                if container.process is None:
                    container.start()
                self._start_stores(container, settings)
                services = openstack(settings)
                start_missing(container, services)
                for service in services[:2]:  # nova-compute needs keystone and placement from the start
                    wait_until_ready(container, service)
            computes = [self._compute(host, settings) for host in lab_hosts]
            boot = boot_images(lab_hosts[0])
            with self._progress.step("starting nova-compute", 10), ThreadPoolExecutor(len(computes)) as pool:
                list(pool.map(lambda compute: compute.start(boot, confined=confined), computes))
            with self._progress.step("waiting for the other services", 15):
                for service in services[2:]:
                    wait_until_ready(container, service)
                api = Api(settings)
                wait_for(container, "neutron", lambda: _networks(api), "to list networks", READY_SECONDS)
                for name in ("nova-conductor", "nova-scheduler"):
                    wait_for(container, name, partial(_reports, api, name), "to report", READY_SECONDS)
            upload_image(api, lab_hosts[0], self.directory, self._progress)
            with self._progress.step(f"waiting for nova-compute on {', '.join(c.name for c in computes)}", 60):
                for compute in computes:
                    compute.wait(api)
            return computes

    def connect(self, name: str) -> ComputeHost:
        """Connect a compute host to the services again after a reboot, start its nova-compute, and wait for it.

        Args:
            name: The name of the lab host. Other compute hosts are not touched.

        Raises:
            UnsupportedError: This process is not root.
            NotFoundError: The cloud has no such compute host.
            LabError: There is no cloud, or nova-compute cannot be started. The message has the last lines of its log.
        """
        require_root()
        with self._locked():
            settings = self.settings
            hosts = {host.name: host for host in self._compute_lab_hosts()}
            if name not in hosts:
                raise NotFoundError("compute host", name, list(hosts))
            compute = self._compute(hosts[name], settings)
            compute.start(boot_images(hosts[name]))
        with no_raw_errors(), self._progress.step(f"waiting for nova-compute on {name}", 60):
            compute.wait(Api(settings))
        return compute

    def down(self) -> bool:
        """End the cloud and its compute hosts, and remove all their files. Return whether there was a cloud.

        The cache stays.
        """
        with self._locked():
            there = self.exists
            self._remove()
            return there

    def clean(self) -> list[Path]:
        """Remove from the cache the cloud's directories that this version does not use. Return these directories."""
        with self._locked():
            used = {
                name
                for release, compute in COMPUTE_RELEASES.items()
                for name in (tree_name(release), template_name(release), initrd_name(image_name(compute)))
            }
            found = [path for path in cache_directory().glob("cloud-*") if path.is_dir() and path.name not in used]
            for path in found:
                shutil.rmtree(path)
            return found

    def _compute_lab_hosts(self) -> list[LabHost]:
        return [host for host in self._lab.hosts() if host.release in COMPUTE_RELEASES.values()]

    def _refuse_other_hosts(self, hosts: int, release: str) -> None:
        if self.exists and self.container.process is not None and self.release != release:
            raise InvalidValueError(
                "release", release, f"{self.release}, which the cloud has (or first: vpmem cloud down)"
            )
        wanted = {f"lab-{number}" for number in range(1, hosts + 1)}
        computes = {host.name for host in self._compute_lab_hosts()}
        others = [host.name for host in self._lab.hosts() if host.name in wanted - computes]
        if others:
            raise LabError(
                f"The lab host {', '.join(others)} has no nova-compute, because it was started without the cloud. "
                "Remove the lab (vpmem lab down), or set VPMEM_STATE to another directory for the cloud."
            )

    def _prepared(self, release: str, tree: Path, template: Path) -> Settings:
        """Return the settings of the cloud. A new cloud gets its directory, its ports and its configuration first."""
        if self.exists and self.container.process is None:
            self._progress.note("the cloud does not run any more: it is made again")
            self._remove()
        if not self.exists:
            self._remove()  # compute hosts of an earlier cloud use the ports of that cloud
            fresh = private_directory(self._root) / ".making-cloud"
            shutil.rmtree(fresh, ignore_errors=True)
            private_directory(fresh)
            copy_template(template, fresh)
            ports = Ports.choose()
            ports.write(fresh / _PORTS)
            for name in ("images", "staging", "tasks", "nova", "neutron", "lock", "rabbitmq"):
                private_directory(fresh / name)
            (fresh / _RELEASE).write_text(release)
            settings = Settings(ports, read_secret(fresh))
            write_configuration(fresh, settings)
            with open_private(fresh / "clouds.yaml") as file:
                file.write(settings.clouds_yaml().encode())
            # nova-api finds this file only beside its nova.conf.
            shutil.copy(tree / "usr/share/nova-common/api-paste.ini", fresh / "etc/nova/api-paste.ini")
            fresh.rename(self.directory)
        return self.settings

    def _remove(self) -> None:
        """End all processes of the cloud. Remove its files and its compute hosts."""
        for path in sorted((self.directory / "tunnels").glob("*")):
            kill_process(path)
        kill_process(self.directory)  # the first process of the container
        if computes := [host.name for host in self._compute_lab_hosts()]:
            self._lab.down(computes)
        if self.exists:
            shutil.rmtree(self.directory)

    def _start_stores(self, container: Container, settings: Settings) -> None:
        stores = [database(settings.ports), broker(settings.ports)]
        start_missing(container, stores)
        for store in stores:
            wait_until_ready(container, store)
        if container.service("keystone") is None:
            run_sql(container, catalogue(settings), "write the catalogue")

    def _compute(self, host: LabHost, settings: Settings) -> ComputeHost:
        return ComputeHost(host, self.directory / "tunnels" / host.name, settings)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with no_raw_errors(), locked(self._root / "cloud.lock", self._progress, "changing the cloud"):
            yield


def _networks(api: Api) -> bool:
    api.get("neutron", "/v2.0/networks")
    return True


def _reports(api: Api, binary: str) -> bool:
    services = api.get("nova", "/v2.1/os-services")["services"]
    return any(each["binary"] == binary and each["state"] == "up" for each in services)
