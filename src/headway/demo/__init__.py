"""The story in two minutes: serve a real model, calibrate on it, forecast an overload, then run it for real."""

from headway.demo.story import tell

__all__ = ["tell"]
