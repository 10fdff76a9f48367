"""Define the value types shared by all subpackages, and the Engine, Job and Estimator protocols.

Nothing here knows torch, transformers or LangChain. All values are frozen. Token counts are ints, times are
seconds (float), λ is an :class:`Intensity`. Token ids are those of the pair's common vocabulary.
"""

from dami_agent.types.conversation import InvalidToolCall, Message, Reply, ResponseFormat, Tool, ToolCall, ToolChoice
from dami_agent.types.generation import Constraint, Generation, Prompt, Timing, TokenEvent, TokenLogprob
from dami_agent.types.intensity import (
    FinishReason,
    Intensity,
    ModuleIntensity,
    Part,
    PrefixMode,
    Role,
    Template,
    ThoughtClosedBy,
    WeightsMode,
    modules_of,
    require_one,
)
from dami_agent.types.modules import ModuleKind
from dami_agent.types.price import Price, Usage
from dami_agent.types.protocols import BUILTIN, Engine, EngineFactory, EngineInfo, Estimator, Job, StateReader
from dami_agent.types.record import CallRecord, Candidate, Decision, Estimate
from dami_agent.types.step import IntensityRequest, Limits, RunContext, Sampling, Step

__all__ = [
    "BUILTIN",
    "CallRecord",
    "Candidate",
    "Constraint",
    "Decision",
    "Engine",
    "EngineFactory",
    "EngineInfo",
    "Estimate",
    "Estimator",
    "FinishReason",
    "Generation",
    "Intensity",
    "IntensityRequest",
    "InvalidToolCall",
    "Job",
    "Limits",
    "Message",
    "ModuleIntensity",
    "ModuleKind",
    "Part",
    "PrefixMode",
    "Price",
    "Prompt",
    "Reply",
    "ResponseFormat",
    "Role",
    "RunContext",
    "Sampling",
    "StateReader",
    "Step",
    "Template",
    "ThoughtClosedBy",
    "Timing",
    "TokenEvent",
    "TokenLogprob",
    "Tool",
    "ToolCall",
    "ToolChoice",
    "Usage",
    "WeightsMode",
    "modules_of",
    "require_one",
]
