"""Leave the fleet as it is."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from typing import ClassVar

from headway.core import Action, FleetView


class NoControl:
    """Nothing changes."""

    period_ns: ClassVar[int] = 0  # never asked

    def tick(self, view: FleetView) -> Seq[Action]:
        """Do nothing."""
        del view
        return ()
