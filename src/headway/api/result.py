"""What a run was worth: numbers, a table, a page, JSON and the requests one by one."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from headway.api.pages import as_text, latency_figure, run_page, run_view
from headway.api.scenario import Scenario
from headway.metrics import Recorder, curves
from headway.metrics.recorder import COLUMNS
from headway.metrics.summary import attained_mask


@dataclass(frozen=True)
class Result:
    """One simulated run. Equal scenarios give equal results, `meta` apart.

    `summary` has the keys of `vllm bench serve` and more (`headway.metrics.definitions` defines each).
    `provenance` says where numbers come from that were not simulated; `notes` what to know of this run.
    """

    scenario: Scenario
    summary: dict[str, Any]
    config: Mapping[str, Any]  # every option as it was resolved
    provenance: Mapping[str, str]
    notes: tuple[str, ...]
    meta: Mapping[str, Any]  # wall time and versions: the only part that differs between equal runs
    recorder: Recorder = field(repr=False, compare=False)

    @cached_property
    def curves(self) -> dict[str, Any]:
        """Distributions and attainment over time, ready for JSON and for plots."""
        return curves(self.recorder)

    @property
    def title(self) -> str:
        """The run in one line."""
        config = self.config
        devices = f"{config['instances']} × " if config["instances"] > 1 else ""
        parallel = f" × {config['tp']}" if config["tp"] > 1 else ""
        policies = " + ".join(config[kind] for kind in ("batching", "ordering", "memory"))
        fleet = f" + {config['routing']}" if config["instances"] > 1 else ""
        return f"{config['model']} on {devices}{config['gpu']}{parallel}: {policies}{fleet}"

    def table(self, width: int = 100) -> str:
        """The run as plain text, at most 40 lines, each metric with its definition and unit."""
        return as_text(self.view(width), width)

    def view(self, width: int = 100) -> Any:
        """The same table as something that rich prints."""
        slos = self.config["slo"] or ()
        return run_view(self.title, self.summary, slos, self.provenance, self.notes, width)

    def html(self, title: str | None = None) -> str:
        """Return the run as one self-contained page; needs plotly."""
        return run_page(self.summary, self.curves, title or self.title)

    def plot(self) -> Any:
        """Return the latency distributions as a plotly figure; needs plotly."""
        return latency_figure(self.curves, self.title)

    def document(self) -> dict[str, Any]:
        """All of it as one dict ready for JSON."""
        config = self.config
        return {
            "model_id": config["model"],
            "num_prompts": self.summary["offered"],
            "request_rate": config["rate_rps"],
            "max_concurrency": config["concurrency"],
            **self.summary,
            "config": config,
            "provenance": self.provenance,
            "notes": self.notes,
            "meta": self.meta,
        }

    def json(self, *, meta: bool = True) -> str:
        """`document` as JSON text; without `meta`, equal runs give equal bytes."""
        document = self.document()
        if not meta:
            del document["meta"]
        return msgspec.json.format(msgspec.json.encode(document), indent=2).decode()

    def requests(self) -> dict[str, npt.NDArray[Any]]:
        """Ended requests by column, in order of their end: times in ns (-1: never), tokens, outcome.

        The keys are `id`, `slo_class`, `tenant`, `arrival_ns`, `started_ns`, `first_token_ns`,
        `last_token_ns`, `end_ns`, `prompt_tokens`, `cached_tokens`, `output_tokens`, `preemptions`,
        `outcome` and `attained`.
        """
        rows = self.recorder.rows()
        ended = {name: rows[:, index] for index, name in enumerate(COLUMNS)}
        groups, outcomes = self.recorder.groups, self.recorder.outcomes
        columns: dict[str, npt.NDArray[Any]] = {
            "id": ended["id"],
            "slo_class": np.array([group.slo_class for group in groups])[ended["group"]],
            "tenant": np.array([group.tenant for group in groups])[ended["group"]],
        }
        times = {"arrival": "arrival_ns", "started": "started_ns", "first": "first_token_ns"}
        times |= {"last": "last_token_ns", "end": "end_ns"}
        columns |= {name: ended[column] for column, name in times.items()}
        columns |= {f"{name}_tokens": ended[name] for name in ("prompt", "cached", "output")}
        columns["preemptions"] = ended["preemptions"]
        columns["outcome"] = np.array(outcomes)[ended["outcome"]]
        columns["attained"] = attained_mask(ended)
        return columns


def meta_of(wall_s: float, **more: Any) -> dict[str, Any]:
    """What differs between equal runs."""
    version = getattr(sys.modules.get("headway"), "__version__", "unknown")
    python = ".".join(map(str, sys.version_info[:3]))
    return {"headway": version, "python": python, "wall_s": round(wall_s, 3), **more}
