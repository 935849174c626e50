"""Measures any OpenAI-compatible endpoint: sends a workload on schedule, and reports what clients saw."""
