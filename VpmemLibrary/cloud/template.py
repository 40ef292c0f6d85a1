"""The template of a cloud: its databases, keys and secret, made once and copied for each new cloud."""

from __future__ import annotations

import hashlib
import json
import secrets
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from VpmemLibrary.cloud.container import STATE, Container, last_lines
from VpmemLibrary.cloud.services import database, start_missing, wait_until_ready
from VpmemLibrary.cloud.settings import DATABASES, REGION, Ports, Settings
from VpmemLibrary.cloud.tree import tree_name
from VpmemLibrary.errors import LabError
from VpmemLibrary.lab.cache import cached
from VpmemLibrary.lab.paths import cache_directory, open_private, private_directory
from VpmemLibrary.lab.progress import Progress
from VpmemLibrary.lab.tools import run_tool
from VpmemLibrary.polling import poll

SECRET = "secret"  # noqa: S105  the name of a file
"""The file with the secret, in the template and in a cloud's directory."""

_FORMAT = 1
_KEPT = ("db", "fernet", "credential", SECRET)
_STEP_SECONDS = 600.0
_STOP_SECONDS = 60.0
_POLL = 0.1


def template_name(release: str) -> str:
    """Return the name of a release's template in the cache.

    It contains a hash of everything that determines the template, except its secret and keys.
    """
    recipe = json.dumps([_FORMAT, tree_name(release), DATABASES, _chains()])
    return f"cloud-database-{hashlib.sha256(recipe.encode()).hexdigest()[:16]}"


def find_or_make_template(release: str, tree: Path, progress: Progress) -> Path:
    """Return a release's template in the cache. Make the template if it is missing or broken.

    Raises:
        LabError: A step failed. The message has the last lines of its output.
    """
    path = cache_directory() / template_name(release)
    return cached(path, lambda directory: _make(directory, tree, progress), progress)


def copy_template(template: Path, directory: Path) -> None:
    """Copy the template into the directory of a new cloud.

    Raises:
        ToolError: There is not enough space, or a file cannot be written.
    """
    command = ["cp", "--archive", "--reflink=auto", *(str(template / name) for name in _KEPT), str(directory)]
    run_tool(command, "copy the template of the cloud", timeout=_STEP_SECONDS)


def read_secret(directory: Path) -> str:
    """Return the secret in a template or in a cloud's directory.

    Raises:
        LabError: The file cannot be read.
    """
    try:
        return (directory / SECRET).read_text("ascii").strip()
    except (OSError, ValueError) as error:
        raise LabError(f"{directory / SECRET} cannot be read ({error}). Remove the cloud: vpmem cloud down") from error


def write_configuration(directory: Path, settings: Settings) -> None:
    """Write the configuration files of the control plane. Only this user can read these files."""
    for name, text in settings.configuration().items():
        path = directory / "etc" / name
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open_private(path) as file:
            file.write(text.encode())


def run_sql(container: Container, text: str, purpose: str) -> None:
    """Run SQL statements as the database's administrator.

    Raises:
        ToolError: A statement failed.
    """
    path = container.directory / "statements.sql"
    with open_private(path) as file:  # not as an argument, because all users see the arguments of a process
        file.write(text.encode())
    try:
        command = ["mariadb", "--no-defaults", f"--socket={STATE}/db.sock", "-e", f"source {STATE}/{path.name}"]
        container.run(command, purpose, timeout=_STEP_SECONDS)
    finally:
        path.unlink()


def _make(directory: Path, tree: Path, progress: Progress) -> None:
    with open_private(directory / SECRET) as file:
        file.write(secrets.token_hex(16).encode())
    settings = Settings(Ports.choose(), read_secret(directory))
    for name in ("fernet", "credential", "lock"):
        private_directory(directory / name)
    write_configuration(directory, settings)
    container = Container(directory, tree)
    with progress.step("making the cloud's databases", 90):
        try:
            container.start()
            _install_database(container, settings)
            with ThreadPoolExecutor(2) as pool:
                list(pool.map(lambda chain: _run_chain(container, settings, chain), _chains().items()))
            _stop_database(container)
        finally:
            container.kill()
    for path in directory.iterdir():
        if path.name not in _KEPT:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _install_database(container: Container, settings: Settings) -> None:
    install = ["mariadb-install-db", "--no-defaults", "--user=root", f"--datadir={STATE}/db", "--skip-test-db"]
    # The administrator logs in by the socket as root, and has no password.
    sockets = ["--auth-root-authentication-method=socket", "--auth-root-socket-user=root"]
    container.run([*install, *sockets], "make an empty database", timeout=_STEP_SECONDS)
    server = database(settings.ports)
    start_missing(container, [server])
    wait_until_ready(container, server)
    lines = [
        "DELETE FROM mysql.global_priv WHERE User='' OR (User='root' AND Host<>'localhost');",
        "FLUSH PRIVILEGES;",
        f"CREATE USER 'os'@'127.0.0.1' IDENTIFIED BY '{settings.secret}';",
    ]
    for name in DATABASES:
        lines += [f"CREATE DATABASE {name} CHARACTER SET utf8mb3;", f"GRANT ALL ON {name}.* TO 'os'@'127.0.0.1';"]
    run_sql(container, "\n".join(lines), "make the databases")


def _stop_database(container: Container) -> None:
    run_sql(container, "SHUTDOWN;", "stop the database")
    poll(
        lambda: container.service("mariadb") is None,
        "the database to stop",
        timeout=_STOP_SECONDS,
        interval=_POLL,
        failure=lambda _: LabError(
            f"The database did not stop within {_STOP_SECONDS:g} s. Its log:\n{last_lines(container.log('mariadb'))}"
        ),
    )


def _run_chain(container: Container, settings: Settings, chain: tuple[str, Sequence[Sequence[str]]]) -> None:
    name, steps = chain
    environment = {
        "OS_KEYSTONE_CONFIG_DIR": f"{STATE}/etc/keystone",
        "OS_BOOTSTRAP_PASSWORD": settings.secret,
    }
    for step in steps:
        container.run(step, f"make the database of {name}", timeout=_STEP_SECONDS, environment=environment)


def _chains() -> dict[str, list[list[str]]]:
    """Return for each service the commands that make its database, in order. No command contains a port or a secret."""
    etc = f"{STATE}/etc"
    keystone = ["keystone-manage", "--config-file", f"{etc}/keystone/keystone.conf"]
    nova = ["nova-manage", "--config-file", f"{etc}/nova/nova.conf"]
    as_root = ["--keystone-user", "root", "--keystone-group", "root"]
    service = ["--bootstrap-username", "service", "--bootstrap-project-name", "service"]
    # Each nova process replaces the parts in braces by those of its own settings.
    place = "{scheme}://{username}:{password}@{hostname}:{port}"
    return {
        "neutron": [["neutron-db-manage", "--config-file", f"{etc}/neutron/neutron.conf", "upgrade", "heads"]],
        "nova": [
            [*nova, "api_db", "sync"],
            [*nova, "cell_v2", "map_cell0", "--database_connection", f"{place}/nova_cell0?{{query}}"],
            [
                *(*nova, "cell_v2", "create_cell", "--name", "cell1"),
                *("--transport-url", f"{place}/{{path}}", "--database_connection", f"{place}/{{path}}?{{query}}"),
            ],
            [*nova, "db", "sync"],
        ],
        "keystone": [
            [*keystone, "db_sync"],
            [*keystone, "fernet_setup", *as_root],
            [*keystone, "credential_setup", *as_root],
            [*keystone, "bootstrap", "--bootstrap-region-id", REGION],
            [*keystone, "bootstrap", "--bootstrap-region-id", REGION, *service],
        ],
        "glance": [["glance-manage", "--config-file", f"{etc}/glance/glance-api.conf", "db_sync"]],
        "placement": [["placement-manage", "--config-file", f"{etc}/placement/placement.conf", "db", "sync"]],
    }
