"""Messages and tools to a prompt, tokens to a reply."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

from dami_agent.dialogue import constraint
from dami_agent.dialogue.calls import CallReader
from dami_agent.dialogue.control import ChatTokenizer, ControlGuard
from dami_agent.dialogue.json_schema import answer_error
from dami_agent.dialogue.one_thought import one_thought
from dami_agent.dialogue.parser import ReplyParser
from dami_agent.dialogue.template import ChatTemplate, KeepReasoning
from dami_agent.dialogue.text import TokenText
from dami_agent.errors import InvalidRequest, one_error
from dami_agent.types import Generation, Prompt, Reply, Step, Template, TokenEvent


class Dialogue:
    """The two chat templates of a pair, its tokenizer, and the reading of what the model writes; safe to share.

    Args:
        tokenizer: the pair's fast tokenizer (transformers' ``PreTrainedTokenizerFast``).
        templates: Jinja chat templates of the two checkpoints.
        keep_reasoning: thoughts of earlier turns in the prompt: ``template`` as each template does by itself (Qwen3's
            Thinking keeps those after the last user query, so within a run of tool calls; Instruct's none), ``all`` of
            them under both templates, or ``none``.
        control: control tokens to protect; None: found in the tokenizer (see :class:`ControlGuard`).
    """

    def __init__(
        self,
        tokenizer: ChatTokenizer,
        *,
        templates: Mapping[Template, str],
        keep_reasoning: KeepReasoning = "template",
        control: Collection[str] | None = None,
    ) -> None:
        if keep_reasoning not in ("template", "all", "none"):
            raise InvalidRequest(f"keep_reasoning={keep_reasoning!r}", hint="use 'template', 'all' or 'none'")
        self._guard = ControlGuard(tokenizer, control)
        self._text = TokenText(tokenizer.backend_tokenizer)
        self._templates = {
            name: ChatTemplate(tokenizer, source, self._guard, keep_reasoning)
            for name, source in templates.items()
            if source
        }

    @one_error("the prompt")
    def render(self, step: Step, template: Template, context_length: int | None = None) -> Prompt:
        """Render the prompt for the next assistant message, in the words of one checkpoint's template.

        Args:
            step: the call.
            template: whose.
            context_length: tokens; a text that cannot fit is refused before it is encoded.

        Raises:
            ContextOverflow: the text is too long for certain.
            InvalidRequest: no such template; messages, tools or a tool choice that cannot be rendered.
            InvalidSchema: a schema that is malformed, or that nothing can satisfy.
        """
        chat_template = self._chat_template(template)
        grammar = constraint.build(step, self._guard.ids)
        rendered = chat_template.render(step)
        return Prompt(
            token_ids=tuple(self._guard.encode(rendered.text, rendered.markers, context_length)),
            template=template,
            in_thought=rendered.in_thought,
            constraint=grammar,
            continues=rendered.continues,
            tools=len(step.tools),
        )

    def count(self, step: Step, template: Template) -> int:
        """Count the tokens of the prompt that :meth:`render` makes; schemas are not looked at.

        Raises:
            InvalidRequest: as for :meth:`render`.
        """
        rendered = self._chat_template(template).render(step)
        return len(self._guard.encode(rendered.text, rendered.markers))

    def encode(self, text: str) -> list[int]:
        """Token ids of ``text`` as it stands in a prompt; what spells a control token stays text."""
        escaper = self._guard.escaper([text])
        return list(self._guard.encode(*escaper.split(escaper.text(text))))

    def _chat_template(self, template: Template) -> ChatTemplate:
        if template not in self._templates:
            raise InvalidRequest(
                f"the {template} checkpoint has no chat template",
                hint="add chat_template.jinja to it, or pass templates={...} with one of the same format",
            )
        return self._templates[template]

    @property
    def shows_tools(self) -> bool:
        """Return whether the templates of both checkpoints show tools to the model."""
        return all(template.shows_tools for template in self._templates.values())

    def parser(self, prompt: Prompt, step: Step) -> ReplyParser:
        """Make a parser for one generation of ``prompt``, fed token by token."""
        return ReplyParser(self._text, CallReader(step), prompt, step)

    def parse(self, generation: Generation, prompt: Prompt, step: Step) -> Reply:
        """Parse a finished generation; the reply equals what its tokens give one by one."""
        parser = self.parser(prompt, step)
        parser.read(generation.events)
        return parser.finish(generation)[1]

    def wrong_answer(self, step: Step, reply: Reply) -> str:
        """Return how a complete structured answer breaks the schema asked for; "" if it does not, or is none."""
        wanted = step.response_format
        if wanted is None or reply.tool_calls or reply.invalid_tool_calls or reply.finish_reason == "length":
            return ""
        return answer_error(wanted.schema, reply.content)

    def one_thought(self, events: Iterable[TokenEvent], step: Step) -> Iterator[TokenEvent]:
        """Mark what stands before a reply's last close marker as reasoning, whatever the engine called it.

        Of a structured output the grammar wrote every token, and there is no marker in it.
        """
        if step.response_format is not None:
            return iter(events)
        return one_thought(events, **self._text.thought_markers)

    def token_text(self, token_id: int) -> str:
        """Decode one token by itself; a piece of a character shows as U+FFFD."""
        stream = self._text.stream()
        return stream.feed(token_id) + stream.finish()
