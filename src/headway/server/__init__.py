"""An OpenAI-compatible HTTP server in front of a fleet. This process never imports torch and never waits for a step."""
