"""`headway policies`, `models` and `devices`: what can be named."""

import inspect
import json as json_text
from typing import Annotated, Any

from typer import Option

_Json = Annotated[bool, Option("--json", help="Print JSON.")]


def policies(*, json: _Json = False) -> None:
    """List every policy by kind, with its options and their defaults."""
    from headway.runtime import policy_names
    from headway.runtime.loader import KINDS, policy_class, policy_options

    rows = []
    for kind in KINDS:
        for name in policy_names(kind):
            module = inspect.getmodule(policy_class(kind, name))
            about = (inspect.getdoc(module) or "").partition("\n")[0]
            options = policy_options(kind, name)
            rows.append({"kind": kind, "name": name, "about": about, "options": options})
    _print(rows, json=json)


def models(*, json: _Json = False) -> None:
    """List the bundled models."""
    from headway.timing import load_model, model_names

    rows = []
    for name in model_names():
        sheet = load_model(name)
        rows.append(
            {
                "name": name,
                "parameters_b": round(sheet.parameters / 1e9, 2),
                "precision": sheet.precision,
                "weights_gb": round(sheet.weight_bytes / 1e9, 1),
                "kv_kb_per_token": round(sheet.kv_bytes_per_token(1) / 1e3, 1),
                "max_context": sheet.max_context,
                "approximate": sheet.approximate,
            }
        )
    _print(rows, json=json)


def devices(*, json: _Json = False) -> None:
    """List the bundled devices."""
    from headway.timing import devices as bundled

    rows = [
        {
            "name": sheet.name,
            "aliases": list(sheet.aliases),
            "title": sheet.title,
            "memory_gb": round(sheet.memory_bytes / 1e9, 1),
            "bandwidth_gb_per_s": round(sheet.memory_bytes_per_s / 1e9),
            "peak_16_bit_tflops": round(sheet.peak("bf16") / 1e12, 1),
            "tdp_watts": sheet.tdp_watts,
        }
        for sheet in bundled().values()
    ]
    _print(rows, json=json)


def _print(rows: list[dict[str, Any]], *, json: bool) -> None:
    if json:
        print(json_text.dumps(rows, indent=2, ensure_ascii=False))
        return
    from rich.table import Table

    from headway.cli.output import show

    def table(_: int) -> Table:
        built = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
        for head in rows[0]:
            built.add_column(head.replace("_", " "), no_wrap=head == "name")
        for row in rows:
            built.add_row(*map(_cell, row.values()))
        return built

    show(table)


def _cell(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}={default}" for name, default in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return str(value)
