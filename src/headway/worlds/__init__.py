"""Worlds put together: a clock, executors, instances behind ports, and a workload. So far the simulated one."""

from headway.worlds.simulated import Policies, SimulatedPool, Simulation

__all__ = ["Policies", "SimulatedPool", "Simulation"]
