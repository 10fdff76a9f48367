"""Open what a configured model needs on first use, share it among copies, and make a step of every call."""

from __future__ import annotations

import os
import threading
from functools import cached_property
from typing import TYPE_CHECKING, Any

from langchain_core.messages import BaseMessage
from pydantic import PrivateAttr
from typing_extensions import Self

from dami_agent.chat_model import request
from dami_agent.chat_model.configured import ConfiguredChatModel
from dami_agent.chat_model.history import to_messages
from dami_agent.chat_model.profile import profile_of
from dami_agent.chat_model.run_tree import run_context_of
from dami_agent.chat_model.structured import Structured, for_pair
from dami_agent.errors import InvalidRequest, one_error
from dami_agent.ledger import Ledger
from dami_agent.pipeline import Pipeline
from dami_agent.policy import ReasoningPolicy
from dami_agent.session import Session, SessionKey, close_session, dialogue_of, open_session
from dami_agent.types import Engine, Estimator, Intensity, Step, Template

if TYPE_CHECKING:
    from dami_agent.dialogue import Dialogue


_SHARED_BY_COPIES = (
    "engine", "dialogue", "estimator", "policy", "budgets", "ledger", "callbacks", "cache", "rate_limiter"
)  # fmt: skip

# One for all models: a lock of each model's own would have to be left out of its copies, pickles and forked children.
# Held for as long as a pipeline takes to be put together; pairs are opened before, under the session's lock.
_lock = threading.RLock()


def _forget_lock() -> None:
    global _lock
    _lock = threading.RLock()  # a thread of the parent may hold the other


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_lock)


class OpenedChatModel(ConfiguredChatModel):
    """Own a model's session, pipeline and step building; use :class:`~dami_agent.chat_model.ChatDAMI`."""

    _pipeline: Pipeline | None = PrivateAttr(default=None)

    # ---- the shared session -------------------------------------------------------------------------------------

    @cached_property
    def _key(self) -> SessionKey:
        return SessionKey(
            engine=self.engine if isinstance(self.engine, str) else "object",
            instruct=self.instruct,
            thinking=self.thinking,
            revision=self.revision,
            device=self.device,
            dtype=self.dtype,
            weights_mode=self.weights_mode,
            context_length=self.context_length,
            max_batch_size=self.max_batch_size,
            keep_reasoning=self.keep_reasoning,
            closing_words=self.closing_words,
            base_url=self.base_url,
            api_key=self._server_key() if self.base_url is not None else None,
        )

    def _server_key(self) -> str | None:
        return os.environ.get("DAMI_API_KEY") if self.api_key is None else self.api_key.get_secret_value()

    def _session(self) -> Session:
        if isinstance(self.engine, str):
            return open_session(self._key)
        if self.dialogue is None:
            raise InvalidRequest("an engine given as an object needs its dialogue=")
        engine: Engine = self.engine
        dialogue: Dialogue = self.dialogue
        policy = self.policy or ReasoningPolicy()
        return Session(engine=engine, dialogue=dialogue, frontier=policy.frontier)

    def _counting_dialogue(self) -> tuple[Dialogue, Template]:
        dialogue = dialogue_of(self._key) if isinstance(self.engine, str) else self._session().dialogue
        return dialogue, "instruct" if request.intensity_request(self._levels({})).intensity == Intensity(
            0
        ) else "thinking"

    def pipeline(self) -> Pipeline:
        """Return the pipeline behind this model, opened on first use.

        Raises:
            CheckpointError: the checkpoints are no usable pair.
        """
        session = self._session()
        pipeline = self._pipeline
        if pipeline is None or pipeline.engine is not session.engine:  # closed, or this is a forked child
            with _lock:  # calls that come first at the same time share one pipeline, and one ledger
                pipeline = self._pipeline
                if pipeline is None or pipeline.engine is not session.engine:
                    self._pipeline = pipeline = self._new_pipeline(session)
        return pipeline

    def _new_pipeline(self, session: Session) -> Pipeline:
        if self.profile is not None and "max_input_tokens" not in self.profile:  # a hub id that was not here yet
            found = profile_of(self.model_name, self._folders(), self.context_length, engine=session.engine)
            self.profile = {**found, **self.profile}
        estimator: Estimator = self.estimator
        policy = self.policy or ReasoningPolicy()
        policy.frontier.of_pair(session.engine.info.fingerprint)
        return Pipeline(
            engine=session.engine,
            dialogue=session.dialogue,
            policy=policy.with_frontier(session.frontier),
            estimator=estimator,
            ledger=Ledger.of(self.ledger),
            budgets=self.budgets,
        )

    def _measured_digest(self) -> str:
        from dami_agent.estimators.heads import usable_heads  # imports torch

        pipeline = self.pipeline()
        heads = usable_heads(pipeline.engine.info.fingerprint)
        digests = ("" if heads is None else heads.digest, pipeline.policy.frontier.fingerprint)
        return " ".join(each for each in digests if each)

    def close(self) -> None:
        """Free the pair's memory, for every model that shares it; the next call opens it again."""
        self._pipeline = None
        if isinstance(self.engine, str):
            close_session(self._key)
        else:
            self.engine.close()

    # ---- copies -------------------------------------------------------------------------------------------------

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        """Copy the settings and share what they name: engine, ledger, policy with its budgets, callbacks, cache."""
        shared = (getattr(self, name) for name in _SHARED_BY_COPIES)
        known = {id(value): value for value in (*shared, self._pipeline) if value is not None}
        return super().__deepcopy__({**(memo or {}), **known})

    def __getstate__(self) -> dict[Any, Any]:
        """Leave out what is open: another process opens the pair and the ledger anew, and begins new budgets."""
        state = super().__getstate__()
        return {**state, "__pydantic_private__": {**(state["__pydantic_private__"] or {}), "_pipeline": None}}

    # ---- settings -> step -------------------------------------------------------------------------------------------

    def _default_max_tokens(self) -> int | None:
        return open_session(self._key).max_tokens if isinstance(self.engine, str) else None

    @one_error("the call")
    def build_step(
        self, messages: list[BaseMessage], stop: list[str] | None, manager: Any, kwargs: dict[str, Any]
    ) -> Step:
        """Build the step that a call asks the pipeline for.

        Args:
            messages: the history.
            stop: stop strings given to the call itself; None: those among ``kwargs``.
            manager: LangChain's callback manager of the call, which knows its run; None outside a run.
            kwargs: the call's own settings, tools and response format.

        Raises:
            InvalidRequest: a setting, tool or schema cannot be read.
        """
        call = request.normalize_settings(kwargs, "the call")
        self._check_pair(call)
        call = for_pair(call, shows_tools=lambda: self.pipeline().dialogue.shows_tools)
        levels = self._levels(call)
        given = request.merge_levels(levels)
        tools = request.tools(call.get("tools"), call.get("strict"))
        stops = stop if stop is not None else call.get("stop")
        wanted = Structured.of(call)
        return Step(
            messages=request.with_schema_instructions(to_messages(messages), call.get("response_format")),
            tools=tuple(request.require_unique_names(tools)),
            tool_choice=request.tool_choice(call.get("tool_choice"), tools),
            parallel_tool_calls=call.get("parallel_tool_calls") is not False,
            response_format=request.response_format(call.get("response_format")),
            structured=wanted is not None,
            check=wanted.check if wanted is not None else None,
            intensity_request=request.intensity_request(levels),
            sampling=request.sampling(given),
            limits=request.limits(given, self._stops(stops), self._default_max_tokens()),
            prefix=request.prefix(given),
            run_context=run_context_of(manager, calling=True),
        )
