"""Find a device's or a link's sheet: bundled by name or alias, or a device from a TOML file."""

from __future__ import annotations

from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from headway.errors import UnknownNameError
from headway.timing.device_sheet import DeviceSheet
from headway.timing.link import Link
from headway.timing.sheet_file import BUNDLED, build_sheet, read_toml

_FOLDER = BUNDLED / "devices"
_IDLE_SHARE = 0.15  # of the TDP where nobody measured it; servers idle at 10 to 20 %


@cache
def links() -> dict[str, Link]:
    """All bundled links by name."""
    tables = read_toml(BUNDLED / "links.toml")
    return {
        name: build_sheet(Link, {"name": name} | table, "links.toml")
        for name, table in tables.items()
    }


@cache
def devices() -> dict[str, DeviceSheet]:
    """All bundled devices by name."""
    sheets = (_read(path) for path in sorted(_FOLDER.glob("*.toml")))
    return {sheet.name: sheet for sheet in sheets}


def load_link(name: str) -> Link:
    """Return a bundled link, e.g. nvlink4, pcie5, ndr400, 10gbe."""
    found = links().get(name.lower())
    if found is None:
        raise UnknownNameError.among("link", name, links())
    return found


def load_device(name_or_path: str | Path) -> DeviceSheet:
    """Return the sheet of a bundled name, of an alias (h100, a100, 4090, ...) or of a TOML file.

    Raises:
        UnknownNameError: neither a bundled name nor an existing path; lists the nearest names.
        OptionError: a TOML sheet that is malformed.
    """
    name = str(name_or_path)
    wanted = name.lower().replace("_", "-").replace(" ", "-")
    for sheet in devices().values():
        if wanted == sheet.name or wanted in sheet.aliases:
            return sheet
    path = Path(name)
    if path.suffix == ".toml" and path.exists():
        return _read(path)
    known = [*devices(), *(alias for sheet in devices().values() for alias in sheet.aliases)]
    raise UnknownNameError.among("device", name, known)


def _read(path: Path) -> DeviceSheet:
    table: dict[str, Any] = {"name": path.stem, **read_toml(path)}
    for role in ("scale_up", "host", "network"):
        link = table.get(role)
        if isinstance(link, str):
            table[role] = asdict(load_link(link))
        elif isinstance(link, dict):
            table[role] = {"name": role} | link
    tdp = table.get("tdp_watts")
    if "idle_watts" not in table and isinstance(tdp, int | float):
        table["idle_watts"] = _IDLE_SHARE * tdp
    return build_sheet(DeviceSheet, table, path.name)
