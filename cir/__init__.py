"""CIR: a small, typed, framework-neutral graph IR. See README.md for the map."""
