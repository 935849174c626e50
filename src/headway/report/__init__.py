"""Shows runs and comparisons: tables for a terminal, pages for a browser.

Import what you need: `tables` needs rich, the pages need plotly (the extra `report`).
"""
