"""What the built-in pair must reach, judged from what was measured of it, and published where it is read."""
