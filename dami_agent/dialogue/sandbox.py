"""Renders chat templates, which are strangers' programs: what they cost is bounded, and what they raise is one error.

The environment is the one in which transformers renders (same filters, globals and whitespace), with a meter in it.
jinja2's sandbox keeps a template from the interpreter, but lets it loop for hours or fill the memory. Here every pass
of a loop and every call is a step, values are measured before or when they are made, the output is summed up piece by
piece, and what exceeds the limits is stopped by an exception from within: no thread has to be killed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import jinja2
import jinja2.ext
from jinja2 import nodes
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

from dami_agent.dialogue.meter import Meter, TooMuch, measured_filter
from dami_agent.errors import InvalidRequest

MAX_SOURCE = 1 << 20  # characters; published templates have up to 40,000
SHOWN = 500  # characters of a template's own message that are passed on
PUBLISHED = "use the chat template that the checkpoint was published with"


class SandboxedTemplate:
    """One compiled chat template; may be rendered by several threads at once.

    Args:
        source: the Jinja template.

    Raises:
        InvalidRequest: it does not compile.
    """

    def __init__(self, source: str) -> None:
        if len(source) > MAX_SOURCE:
            raise InvalidRequest(f"the chat template has {len(source)} characters", hint=PUBLISHED)
        try:
            environment = _Environment()
            with environment.meter.running(source):
                tree = _Metering().visit(environment.parse(source))
                code = environment.compile(tree)
            self._template = jinja2.Template.from_code(environment, code, environment.make_globals(None))
            self._meter = environment.meter
        except Exception as error:  # whatever a parser or compiler can stumble over
            raise InvalidRequest(f"the chat template is broken: {said(error)}", hint=PUBLISHED) from error

    def render(self, variables: Mapping[str, Any]) -> str:
        """Render the template with these variables.

        Raises:
            InvalidRequest: it raises anything, or takes more steps, memory or time than any chat can need.
        """
        try:
            with self._meter.running(variables):
                return self._meter.join(self._template.generate(dict(variables)))
        except TooMuch as error:
            raise InvalidRequest(f"the chat template was stopped: {error}", hint=PUBLISHED) from error
        except Exception as error:  # a template can raise whatever Python can
            raise InvalidRequest(
                f"the chat template cannot render these messages: {said(error)}",
                hint="check the order of the messages; the template's own words are above",
            ) from error


def said(error: BaseException) -> str:
    """Return what an exception of foreign code says, on one screen; its class where it says nothing."""
    try:
        text = str(error)
    except Exception:
        text = ""
    text = text if len(text) <= SHOWN else text[:SHOWN] + "…"
    known = isinstance(error, jinja2.TemplateError) and text
    return text if known else f"{type(error).__name__}{': ' if text else ''}{text}"


class _Environment(ImmutableSandboxedEnvironment):
    """transformers' environment for chat templates, measured."""

    intercepted_binops = frozenset({"*", "**", "+", "%"})

    def __init__(self) -> None:
        self.meter = Meter()
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[_Generation, jinja2.ext.loopcontrols],
            finalize=self.meter.shown,
        )
        self.filters["tojson"] = _to_json
        self.filters = {name: measured_filter(self.meter, name, function) for name, function in self.filters.items()}
        self.globals |= {
            "raise_exception": _raise,
            "strftime_now": lambda form: datetime.now().strftime(form),
            "dict": _Dict(),
            "namespace": _Namespace,
        }
        del self.globals["lipsum"]
        self.concat = self.meter.join  # type: ignore[method-assign]

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805
        if getattr(__obj, "__self__", None) is __self.meter:
            return __obj(*args)
        __self.meter.before_call(__obj, args, kwargs)
        return __self.meter.made(super().call(__context, __obj, *args, **kwargs))

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        self.meter.before_operator(operator, left, right)
        return self.meter.holding(super().call_binop(context, operator, left, right))


class _Metering(NodeTransformer):
    """Adds to a parsed template what no hook of the environment sees: loops, ``~``, slices, new lists and dicts."""

    def visit(self, node: Any, *args: Any, **kwargs: Any) -> Any:
        """Visit a node's children, and put a call of the meter into it or around it."""
        self.generic_visit(node)
        if isinstance(node, (nodes.For, nodes.Macro, nodes.CallBlock, nodes.Block)):
            step = nodes.ExprStmt(_call(node, "meter.step", []), lineno=node.lineno, environment=node.environment)
            node.body = [step, *node.body]
        elif isinstance(node, nodes.Concat):
            return _call(node, "meter.concatenate", node.nodes)
        elif isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Slice):
            return _call(node, "meter.made", [node])
        elif isinstance(node, (nodes.List, nodes.Dict)) or (isinstance(node, nodes.Tuple) and node.ctx == "load"):
            return _call(node, "meter.holding", [node])
        return node


def _call(at: nodes.Node, function: str, arguments: Sequence[nodes.Node]) -> nodes.Call:
    """Make a call of one of the environment's functions, at the place of ``at``. No template can spell its name."""
    place = {"lineno": at.lineno, "environment": at.environment}
    return nodes.Call(nodes.EnvironmentAttribute(function, **place), list(arguments), [], None, None, **place)


class _Generation(jinja2.ext.Extension):
    """Reads transformers' ``{% generation %}…{% endgeneration %}``, which marks text and changes none."""

    tags = {"generation"}  # noqa: RUF012  (as the base class has it)

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True)).set_lineno(line)


class _Dict:
    """``dict`` without its attributes, as in transformers' environment."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict(*args, **kwargs)

    def fromkeys(self, *args: Any) -> dict[Any, Any]:
        return dict.fromkeys(*args)


class _Namespace(Namespace):
    """``namespace`` that keeps no name with a leading underscore, as in transformers' environment."""

    def __init__(*args: Any, **kwargs: Any) -> None:
        self, rest = args[0], args[1:]
        attributes = dict(*rest, **kwargs)
        for name in attributes:
            _check_name(name)
        Namespace.__init__(self, attributes)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_name(name)
        super().__setitem__(name, value)

    def __repr__(self) -> str:
        return "<Namespace>"  # not its values, which may hold it again


def _check_name(name: Any) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise jinja2.exceptions.SecurityError(f"a chat template may not keep {name!r} in a namespace; rename it")


def _raise(message: Any) -> None:
    raise jinja2.TemplateError(str(message)[:SHOWN])


def _to_json(
    value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
