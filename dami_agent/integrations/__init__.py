"""Plug into the world outside: one file per integration, each with an extra and a test of its own."""
