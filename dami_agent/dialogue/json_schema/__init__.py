"""JSON Schema: what is refused as malformed, what a grammar makes of it, and how a finished value is checked."""

from dami_agent.dialogue.json_schema.check import check, check_arguments, sound_part
from dami_agent.dialogue.json_schema.enforcement import SchemaWarning, Unenforced, enforceable, json_rule, warn_once
from dami_agent.dialogue.json_schema.strict import strict_schema
from dami_agent.dialogue.json_schema.validation import Validator, answer_error, validator

__all__ = [
    "SchemaWarning",
    "Unenforced",
    "Validator",
    "answer_error",
    "check",
    "check_arguments",
    "enforceable",
    "json_rule",
    "sound_part",
    "strict_schema",
    "validator",
    "warn_once",
]
