"""The story in two minutes: compare policies in the simulator, run one of them on a real model, check the forecast."""

from headway.demo.story import tell

__all__ = ["tell"]
