"""What the demo asks the real model: short openings, and one long passage that would stall everybody else."""

from __future__ import annotations

OPENINGS = (
    "The capital of France is",
    "To make a good cup of tea, you should",
    "The three primary colours are",
    "A queue grows whenever",
    "In the morning the harbour was quiet, and",
    "Water boils at",
    "The best thing about a small machine is",
)

LONG = (
    "The lighthouse keeper wrote down every ship that passed: its name, its flag, the hour and the weather. "
    "On clear days he wrote a line for each; in fog he wrote only what he heard. "
) * 12 + "One evening"
