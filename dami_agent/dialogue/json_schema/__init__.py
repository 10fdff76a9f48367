"""JSON Schema: what is refused as malformed, what a grammar makes of it, and how a finished value is checked."""

from dami_agent.dialogue.json_schema.check import check
from dami_agent.dialogue.json_schema.enforcement import SchemaWarning, Unenforced, enforceable, json_rule, warn_once
from dami_agent.dialogue.json_schema.strict import strict_schema
from dami_agent.dialogue.json_schema.validation import Validator, answer_error, validator

__all__ = [
    "SchemaWarning",
    "Unenforced",
    "Validator",
    "answer_error",
    "check",
    "enforceable",
    "json_rule",
    "strict_schema",
    "validator",
    "warn_once",
]
