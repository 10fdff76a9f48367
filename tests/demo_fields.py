"""What ``dami demo --json`` says of each step at least, in a checkout as in an installed wheel."""

STEP_FIELDS = frozenset(
    ("task", "step", "tool", "lambda", "reason", "prompt_tokens", "reasoning_tokens", "answer_tokens", "seconds")
)
