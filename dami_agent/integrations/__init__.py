"""Where the world outside plugs in: one file per integration, each with an extra and a test of its own."""
