"""The catalogue of the cloud's services in keystone."""

from __future__ import annotations

from VpmemLibrary.cloud.settings import REGION, Settings


def catalogue(settings: Settings) -> str:
    """Return the SQL that writes the catalogue. The template has no catalogue, because each cloud has its own ports."""
    services, endpoints = [], []
    for kind, (name, url) in settings.catalogue.items():
        services.append(_row(name, kind, 1, f'{{"name": "{name}"}}'))
        endpoints += [
            _row(f"{name}-{interface}", interface, name, url, 1, REGION, "{}")
            for interface in ("public", "internal", "admin")
        ]
    return "\n".join(
        [
            "USE keystone;",
            "DELETE FROM endpoint;",
            "DELETE FROM service;",
            _insert("IGNORE INTO region (id, description, extra)", [_row(REGION, "", "{}")]),
            _insert("INTO service (id, type, enabled, extra)", services),
            _insert("INTO endpoint (id, interface, service_id, url, enabled, region_id, extra)", endpoints),
        ]
    )


def _insert(into: str, rows: list[str]) -> str:
    return f"INSERT {into} VALUES {', '.join(rows)};"  # noqa: S608  every value is from this package


def _row(*values: str | int) -> str:
    """Return a row of literals. No value has an apostrophe or a backslash."""
    literals = [str(value) if isinstance(value, int) else f"'{value}'" for value in values]
    return f"({', '.join(literals)})"
