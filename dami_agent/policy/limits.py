"""Limit what a policy file may hold; far above what people write, far below what stops a process."""

LARGEST_FILE = 256 * 1024
"""Bytes of a policy file."""

DEEPEST = 32
"""Levels of mappings and lists inside one another."""

MOST_VALUES = 20_000
"""Keys and values, with YAML's aliases written out."""

MOST_FINDINGS = 20
"""Errors of one policy that are listed."""

LARGEST_COUNT = 2**53
"""Tokens, steps and characters; above it a float does not know every whole number."""
