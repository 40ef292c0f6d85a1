"""Log in to a cloud of clouds.yaml, or to the lab's cloud."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from VpmemLibrary.cloud.answers import asked
from VpmemLibrary.errors import CloudError, InvalidValueError, VpmemError
from VpmemLibrary.extras import require_extra

LAB = "lab"
"""The name of the lab's cloud. Every other name is a cloud of clouds.yaml."""


def log_in(name: str, *, timeout: float) -> Any:
    """Return a connection of openstacksdk that is logged in.

    openstacksdk reads clouds.yaml, so each kind of credentials, region and CA file that it knows can be used.

    Args:
        name: A cloud of clouds.yaml, or ``lab`` for the lab's cloud.
        timeout: Seconds that one request may take.

    Raises:
        UnsupportedError: The packages of the extra `openstack` are not installed.
        InvalidValueError: clouds.yaml has no such cloud.
        CloudError: clouds.yaml cannot be used, or the cloud did not answer, or refused the credentials.
    """
    require_extra("openstack", "A cloud")
    import openstack.connection  # noqa: PLC0415

    region = _region(name, timeout)
    with asked(name, "log in"):
        connection = openstack.connection.Connection(config=region)
        try:
            connection.session.get_token()
        except BaseException:
            connection.close()
            raise
    return connection


def _region(name: str, timeout: float) -> Any:
    """Return the part of clouds.yaml for a cloud."""
    with _readable(name):
        config, cloud = _configuration(name)
        known = sorted(each for each in config.cloud_config["clouds"] if each != "defaults")
    if cloud not in known:
        valid = f"{LAB}, or a cloud of clouds.yaml ({', '.join(known) or 'there is none'})"
        raise InvalidValueError("cloud", name, ". ".join([valid, *_skipped_files()]))
    with _readable(name):
        return config.get_one(cloud=cloud, api_timeout=timeout, app_name="vpmem")


@contextmanager
def _readable(name: str) -> Iterator[None]:
    """Raise the errors of openstacksdk about clouds.yaml as errors of this library."""
    import keystoneauth1.exceptions  # noqa: PLC0415
    import openstack.exceptions  # noqa: PLC0415

    try:
        yield
    except VpmemError:
        raise
    except (openstack.exceptions.SDKException, keystoneauth1.exceptions.ClientException) as error:
        raise CloudError(f"clouds.yaml cannot be used for cloud {name!r}: {error}") from error
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        # The text of the error is left out, because it may have a value of the file, and so a password.
        raise CloudError(
            f"clouds.yaml cannot be used for cloud {name!r}: it does not have the structure that openstacksdk expects. "
            "`clouds` has a mapping for each cloud, and `auth` in it is a mapping too."
        ) from error


def _configuration(name: str) -> tuple[Any, str]:
    """Return the configuration of openstacksdk, and the name of the cloud in it."""
    import openstack.config  # noqa: PLC0415

    if name != LAB:
        return openstack.config.OpenStackConfig(), name
    from VpmemLibrary.cloud.lab_cloud import LabCloud  # noqa: PLC0415
    from VpmemLibrary.cloud.settings import CLOUD_NAME  # noqa: PLC0415

    lab = LabCloud()
    if not lab.exists:
        raise InvalidValueError("cloud", name, "a cloud that runs: start the lab's cloud by vpmem cloud up")
    # Without the environment, so that no OS_CLIENT_CONFIG_FILE takes the place of the lab's file.
    return openstack.config.OpenStackConfig(config_files=[str(lab.clouds_yaml)], load_envvars=False), CLOUD_NAME


def _skipped_files() -> list[str]:
    """Describe each clouds.yaml that exists and cannot be read. openstacksdk reads the next file instead."""
    import openstack.config.loader  # noqa: PLC0415
    import yaml  # noqa: PLC0415

    found = []
    own = os.environ.get("OS_CLIENT_CONFIG_FILE")
    if own and not Path(own).exists():
        found.append(f"OS_CLIENT_CONFIG_FILE names {own}, which does not exist")
    for path in dict.fromkeys(Path(each) for each in ([own] if own else []) + openstack.config.loader.CONFIG_FILES):
        try:
            with path.open() as file:  # YAML quotes the lines of a text in its errors, but not those of a file
                yaml.safe_load(file)
        except FileNotFoundError:
            continue
        except (OSError, ValueError, yaml.YAMLError) as error:
            found.append(f"{path} was skipped, because it cannot be read: {' '.join(str(error).split())}")
    return found
