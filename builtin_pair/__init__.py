"""How the pair that ships with `dami_agent` is trained and accepted; runs from a checkout, and is not in the wheel."""
