"""What a cloud answers other than success, as errors of this library."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from VpmemLibrary.errors import CloudError, CloudForbiddenError, CloudUnavailableError, VpmemError
from VpmemLibrary.visible import one_line

_QUOTA = re.compile(r"\bquota\b.{0,40}\bexceed|\bexceed\w*\b.{0,40}\bquota\b|\bover (a |the )?limit\b", re.IGNORECASE)
_UNKNOWN_FIELD = re.compile(r"Additional properties are not allowed|'none' is not of type 'array'")
_SHOWN = 400

_CREDENTIALS = (
    "Check `auth` of the cloud in clouds.yaml (user, password or application credential, project and domains), and "
    "whether they have expired."
)
_QUOTA_FIX = (
    "Delete what the project no longer needs, ask for less, or let an administrator raise this quota: openstack quota "
    "set."
)
_ROLE = "Use an account with the role that the policy names, or leave out the test."
_ENDPOINT = "Check `region_name` and `interface` of the cloud in clouds.yaml."
_MICROVERSION = (
    "Change or remove the line `..._default_microversion` of the cloud in clouds.yaml. Without the line, the newest "
    "microversion is used that the cloud and openstacksdk know."
)

_OLD_MICROVERSION = (
    "A request to Nova needs microversion 2.37 for servers without a network, and 2.74 for a chosen host: change or "
    "remove the line `compute_default_microversion` of the cloud in clouds.yaml."
)


@contextmanager
def asked(cloud: str, what: str) -> Iterator[None]:
    """Raise the errors of openstacksdk as errors of this library.

    Args:
        cloud: The cloud's name.
        what: The action for the message, e.g. ``list its images``.

    Raises:
        CloudForbiddenError: The policy forbids the request to the user, or the catalogue has no such service.
        CloudUnavailableError: The cloud did not answer in time, answered with a status of 500 or higher, or with
            something other than JSON.
        CloudError: The cloud refused the request.
    """
    import keystoneauth1.exceptions  # noqa: PLC0415
    import openstack.exceptions  # noqa: PLC0415

    try:
        yield
    except VpmemError:
        raise
    except (openstack.exceptions.SDKException, keystoneauth1.exceptions.ClientException) as error:
        raise _described(f"Cloud {cloud} could not {what}", error) from error
    except ValueError as error:
        shown = one_line(str(getattr(error, "doc", error))[:_SHOWN])
        raise CloudUnavailableError(f"Cloud {cloud} could not {what}: its answer is not JSON: {shown}") from error
    except OSError as error:  # requests: for example a CA file that does not exist
        raise CloudError(f"Cloud {cloud} could not {what}: {error}") from error


def _described(start: str, error: Exception) -> CloudError:
    """Return the error of this library for an error of openstacksdk or keystoneauth."""
    import keystoneauth1.exceptions as of_keystone  # noqa: PLC0415
    import openstack.exceptions as of_sdk  # noqa: PLC0415

    status = int(getattr(error, "status_code", None) or getattr(error, "http_status", None) or 0)
    said = _said(error, status)
    quota = status in {403, 409, 413} and _QUOTA.search(said)
    absent = isinstance(error, of_keystone.EndpointNotFound | of_sdk.ServiceDisabledException)
    broken = isinstance(error, of_keystone.ConnectionError | of_keystone.DiscoveryFailure)
    for applies, kind, why, fix in (
        (status == 401, CloudError, "it refused the credentials", _CREDENTIALS),
        (quota, CloudError, "a quota of the project does not allow it", _QUOTA_FIX),
        (status == 403, CloudForbiddenError, "its policy forbids this to the user", _ROLE),
        (absent, CloudForbiddenError, "it offers no such service", _ENDPOINT),
        (status == 406 or "microversion" in said, CloudError, "it does not have the microversion", _MICROVERSION),
        (status == 400 and _UNKNOWN_FIELD.search(said), CloudError, "its microversion is too old", _OLD_MICROVERSION),
        (status >= 500 or status == 429 or broken, CloudUnavailableError, "", ""),
    ):
        if applies:
            return kind(f"{start}{', because ' if why else ''}{why}: {said}. {fix}".rstrip())
    return CloudError(f"{start}: {said}")


def _said(error: Exception, status: int) -> str:
    """Return the cloud's answer as one line."""
    found = _detail(error) or getattr(error, "details", None) or error
    text = " ".join((str(found) or type(error).__name__).split())
    shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]} ..."
    return f"{shown.rstrip('.')} (HTTP {status})" if status and f"HTTP {status}" not in shown else shown.rstrip(".")


def _detail(error: Exception) -> str:
    """Return the reason in an answer of placement, whose format openstacksdk does not read. Empty for other answers."""
    response = getattr(error, "response", None)
    try:
        return str(response.json()["errors"][0]["detail"]) if response is not None else ""
    except (ValueError, LookupError, TypeError, AttributeError):
        return ""
