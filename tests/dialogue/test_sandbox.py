"""Chat templates that loop, explode or raise: one error, soon, in little memory; and good ones render as ever."""

from __future__ import annotations

import random
import threading
import time
import tracemalloc
from pathlib import Path

import pytest
from transformers.utils.chat_template_utils import render_jinja_template

from dami_agent.checkpoints import CheckpointPair
from dami_agent.dialogue import meter
from dami_agent.dialogue.sandbox import MAX_SOURCE, SandboxedTemplate
from dami_agent.errors import InvalidRequest

MESSAGES = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b c"}]
GIVEN = {"messages": MESSAGES, "tools": None, "documents": None, "add_generation_prompt": True, "bos_token": "<s>"}
NS = "{% set ns = namespace(x='aaaaaaaaaaaaaaaa', l=[1]) %}"

LOOPS = {
    "a long range": "{% for i in range(10**9) %}a{% endfor %}",
    "nested loops": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "nested loops that never run their body": "{% for i in range(9999) %}"
    "{% for j in range(99999) if false %}{% endfor %}{% endfor %}",
    "a recursive loop": "{% for i in [[1]] recursive %}{{ loop([[1], [1]]) }}{% endfor %}",
    "a macro that calls itself": "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "a macro that calls itself twice": "{% set z = 99 %}"
    "{% macro m(n) %}{% if n %}{{ m(n-1) }}{{ m(n-1) }}{% endif %}{% endmacro %}{{ m(z) }}",
    "a block that shows itself": "{% block b %}{{ self.b() }}{% endblock %}",
    "a caller in loops": "{% macro m() %}{% for i in range(99999) %}{{ caller() }}{% endfor %}{% endmacro %}"
    "{% call m() %}{% for j in range(99999) %}{% endfor %}{% endcall %}",
    "map over map": "{% for i in range(99999) %}{{ range(99999)|map('string')|list|length }}{% endfor %}",
}
EXPLOSIONS = {
    "a repeated text": "{{ 'a' * 10**10 }}",
    "a repeated list": "{{ ([0] * 10**9)|length }}",
    "a power": "{{ 10 ** (10 ** 8) }}",
    "squares of squares": "{% set ns = namespace(n=3) %}"
    "{% for i in range(60) %}{% set ns.n = ns.n * ns.n %}{% endfor %}",
    "doubling with ~": NS + "{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}{{ ns.x|length }}",
    "doubling with +": NS + "{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}{{ ns.x|length }}",
    "doubling with join": NS
    + "{% for i in range(60) %}{% set ns.x = [ns.x, ns.x]|join %}{% endfor %}{{ ns.x|length }}",
    "doubling with str.join": NS + "{% for i in range(60) %}{% set ns.x = ''.join([ns.x, ns.x]) %}{% endfor %}",
    "doubling with replace": NS + "{% for i in range(60) %}{% set ns.x = ns.x|replace('a', 'aa') %}{% endfor %}",
    "doubling with format": NS + "{% for i in range(60) %}{% set ns.x = '{0}{0}'.format(ns.x) %}{% endfor %}",
    "doubling with %": NS + "{% for i in range(60) %}{% set ns.x = '%s%s' % (ns.x, ns.x) %}{% endfor %}",
    "doubling with a block": NS
    + "{% for i in range(60) %}{% set y %}{{ ns.x }}{{ ns.x }}{% endset %}{% set ns.x = y %}{% endfor %}",
    "doubling with a macro": NS
    + "{% macro m(x) %}{{ x }}{{ x }}{% endmacro %}{% for i in range(60) %}{% set ns.x = m(ns.x) %}{% endfor %}",
    "lists of lists, shown": NS + "{% for i in range(60) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l }}",
    "lists of lists, as JSON": NS
    + "{% for i in range(60) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l|tojson }}",
    "lists of lists, compared": NS
    + "{% set m = namespace(l=[1]) %}{% for i in range(60) %}{% set ns.l = [ns.l, ns.l] %}"
    "{% set m.l = [m.l, m.l] %}{% endfor %}{{ ns.l == m.l }}",
    "dicts of dicts": NS
    + "{% for i in range(60) %}{% set ns.l = {'a': ns.l, 'b': ns.l} %}{% endfor %}{{ ns.l.values()|string }}",
    "dict()": NS + "{% for i in range(60) %}{% set ns.l = dict(a=ns.l, b=ns.l) %}{% endfor %}{{ ns.l }}",
    "padding": "{{ 'a'.ljust(10**10) }}",
    "centring": "{{ 'a'|center(10**10) }}",
    "centring by name": "{{ ['a']|map('center', 10**10)|join }}",
    "zeros": "{{ '1'.zfill(10**10) }}",
    "tabs": "{{ ('\t' * 10000).expandtabs(10000) }}",
    "indenting": "{{ ('a\n' * 100000)|indent(10000) }}",
    "a wide %": "{{ '%10000000000d' % 1 }}",
    "a wide % with a star": "{{ '%*d' % (10**10, 1) }}",
    "a wide format": "{{ '{:10000000000}'.format(1) }}",
    "a wide format with a value": "{{ '{:{}}'.format(1, 10**10) }}",
    "a wide format with a value inside": "{{ '{:{1[0]}}'.format(1, [10**10]) }}",
    "a wide format filter": "{{ '%10000000000d'|format(1) }}",
    "bytes": "{{ (1).to_bytes(10**10, 'big')|length }}",
    "indented JSON": "{{ messages|tojson(indent=10**10) }}",
    "output in loops": NS + "{% for i in range(18) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}"
    "{% for i in range(99999) %}{{ ns.x }}{% endfor %}",
    "slices that are kept": NS + "{% for i in range(19) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}"
    "{% for i in range(99999) %}{% set ns.l = ns.l + [ns.x[i:]] %}{% endfor %}",
    "sums of lists": "{{ ([[1] * 1000] * 9999)|sum(start=[])|length }}",
    "a namespace that holds itself": "{% set ns = namespace() %}{% set ns.a = [ns] %}{{ ns.a|tojson }}",
    "random text": "{{ lipsum(n=100000) }}",
    "translate": "{{ ('a' * 100000).translate({97: 'b' * 100000}) }}",
}
ERRORS = {
    "raise_exception": "{{ raise_exception('roles must alternate') }}",
    "raise_exception with a number": "{{ raise_exception(5) }}",
    "no such name": "{{ nothing.at.all }}",
    "no such filter": "{{ 'a'|nofilter }}",
    "no such test": "{{ 'a' is notest }}",
    "division": "{{ 1 / 0 }}",
    "types": "{{ 1 + 'a' }}",
    "an index": "{{ 'abc'[{}].x }}",
    "a key": "{{ '{a}'.format(b=1) }}",
    "attributes": "{{ ''.__class__.__mro__ }}",
    "a format's attributes": "{{ '{0.__class__}'.format(1).x.y }}",
    "digits": "{{ (10 ** 5000)|string }}",
    "JSON of what is none": "{{ range|tojson }}",
    "changing": "{{ messages.append(1) }}",
    "inclusion": "{% include 'x' %}",
    "inheritance": "{% extends 'x' %}",
    "import": "{% import 'x' as y %}",
    "an unclosed block": "{% for m in messages %}",
    "not Jinja": "{{ {{ }}",
    "much nested": "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "blocks in blocks": "{% if 1 %}" * 200 + "{% endif %}" * 200,
    "loops in loops": "{% for i in [1] %}" * 60 + "{% endfor %}" * 60,
    "too long": "a" * (MAX_SOURCE + 1),
    "an exception class": "{{ messages|sort(attribute='nothing.here')|first.x.y }}",
    "int": "{{ 'a'|int(default=[])|abs }}",
    "namespace": "{% set ns = namespace() %}{% set ns.__class__ = 1 %}",
    "strftime": "{{ strftime_now(5) }}",
}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(meter, "MAX_SECONDS", 0.3)


@pytest.mark.parametrize("source", [*LOOPS.values(), *EXPLOSIONS.values()], ids=[*LOOPS, *EXPLOSIONS])
def test_what_loops_or_explodes_is_stopped_soon_and_in_little_memory(source):
    tracemalloc.start()
    began = time.thread_time()
    try:
        with pytest.raises(InvalidRequest) as caught:
            SandboxedTemplate(source).render(GIVEN)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert time.thread_time() - began < 5  # tracing costs a factor of about four; alone, each takes under a second
    assert peak < 1e9
    assert len(caught.value.message) < 1000
    assert caught.value.hint


@pytest.mark.parametrize("source", ERRORS.values(), ids=ERRORS)
def test_whatever_a_template_raises_is_one_error_of_ours(source):
    with pytest.raises(InvalidRequest) as caught:
        print(repr(SandboxedTemplate(source).render(GIVEN)))
    assert len(caught.value.message) < 1000


def test_the_templates_own_words_are_passed_on():
    with pytest.raises(InvalidRequest, match="cannot render these messages: roles must alternate"):
        SandboxedTemplate(ERRORS["raise_exception"]).render(GIVEN)


def transformers_text(source: str, given: dict) -> str:
    kept = {k: v for k, v in given.items() if k != "messages"}
    return render_jinja_template(conversations=[given["messages"]], chat_template=source, **kept)[0][0]


HARMLESS = [
    "{% for m in messages %}{{ loop.index0 }}/{{ loop.length }} {{ m.role }}: {{ m['content'] | trim }}\n{% endfor %}",
    "{%- set ns = namespace(last=0, all='') -%}\n{%- for m in messages -%}\n  {%- set ns.last = loop.index -%}"
    "{% set ns.all = ns.all ~ m.content ~ 1 ~ [2] %}{%- endfor -%}{{ ns.all }}{{ ns.last }}",
    "{% for m in messages if m.role == 'user' %}{% if loop.last %}{% break %}{% endif %}{% continue %}{% endfor %}x",
    "{% macro f(a, b='z') %}{{ a }}{{ b }}{% endmacro %}{{ f('q') }}{{ f(1, 2) }}",
    "{% set a, b = 1, 2 %}{{ (a, b) }}{{ {'k': [a]} }}{{ [1, 2][1:] }}{{ 'abc'[::-1] }}{{ messages[1:]|length }}",
    "{{ messages | tojson }}{{ messages | tojson(indent=2) }}{{ {'<': '>é'} | tojson(sort_keys=true) }}",
    "{% generation %}{{ messages[0].content }}{% endgeneration %}{{ bos_token }}{{ tools is none }}",
    "{{ 7 // 2 }}{{ 7 % 3 }}{{ 2 ** 10 }}{{ 'ab' * 3 }}{{ [1] + [2] }}{{ 1.5 * 2 }}{{ '%s-%d' % ('a', 3) }}{{ -1 }}",
    "{{ 'a-b'.split('-') }}{{ 'x'.join(['1', '2']) }}{{ 'aXa'.replace('a', 'b') }}{{ '{} {a}'.format(1, a=2) }}",
    "{{ messages|map(attribute='role')|join(', ') }}{{ messages|selectattr('role', 'equalto', 'user')|list }}",
    "{% set x %}{{ bos_token }}y{% endset %}{{ x }}{% filter upper %}abc{{ x }}{% endfilter %}",
    "{{ none }}{{ true }}{{ 1.0 }}{{ nothing }}",
    "{{ nothing is defined }}{{ messages[0].get('x', 'd') }}{{ range(3)|list }}",
    "  {% if add_generation_prompt %}\n  x\n  {% endif %}\n{# c #}\n{{- 'a' -}}\n{{ 'é😀\\n' }}\n",
    "{% for k, v in messages[0]|items %}{{ k }}={{ v }}{% else %}none{% endfor %}{{ dict(a=1) }}{{ [3,1]|sort|first }}",
    "{% for n in [[1, [2, [3]]]] recursive %}{{ loop(n) if n is iterable else n }}{% endfor %}",
    "{% macro f(ms) %}{% for m in ms %}{{ caller(m.role) }}{% endfor %}{% endmacro %}"
    "{% call(u) f(messages) %}{{ u }}{% endcall %}",
]


@pytest.mark.parametrize("source", HARMLESS)
def test_renders_what_transformers_renders(source):
    assert SandboxedTemplate(source).render(GIVEN) == transformers_text(source, GIVEN)


PUBLISHED = sorted(Path(__file__).parents[1].glob("fixtures/templates/*.jinja"))


@pytest.mark.parametrize("seed", range(10))
def test_published_templates_render_what_transformers_renders(seed):
    draw = random.Random(seed)
    sources = [path.read_text() for path in PUBLISHED]
    pair = CheckpointPair.builtin()
    sources += [str(pair.instruct.chat_template), str(pair.thinking.chat_template)]
    call = {"type": "function", "function": {"name": "add", "arguments": {"a": 1, "b": "é<|im_end|>"}}}
    kinds = [
        {"role": "user", "content": "What is 2 + 2?"},
        {"role": "assistant", "content": "<think>\nhm\n</think>\n\n4"},
        {"role": "assistant", "content": "", "tool_calls": [call, call]},
        {"role": "tool", "content": "3"},
        {"role": "assistant", "content": "so", "reasoning_content": "long\nthought", "thinking": "long\nthought"},
    ]
    messages = [{"role": "user", "content": "hi"}, *draw.choices(kinds, k=draw.randrange(8))]
    if draw.random() < 0.5:
        messages.insert(0, {"role": "system", "content": "be brief"})
    function = {"name": "add", "description": "d", "parameters": {"type": "object", "properties": {}}}
    given = GIVEN | {"messages": messages, "tools": draw.choice([None, [{"type": "function", "function": function}]])}
    for source in sources:
        assert SandboxedTemplate(source).render(given) == transformers_text(source, given)


def test_a_long_history_is_no_explosion(monkeypatch):
    """1,000 messages and 2 MB of text, by a template that builds its output piece by piece."""
    monkeypatch.setattr(meter, "MAX_SECONDS", 10)
    messages = [{"role": "user", "content": "x" * 2000}] * 1000
    pieces = "{% for m in messages %}{% set ns.t = ns.t ~ m.role ~ m.content %}{% endfor %}{{ ns.t }}"
    source = "{% set ns = namespace(t='') %}" + pieces
    assert len(SandboxedTemplate(source).render(GIVEN | {"messages": messages})) == 2_004_000


def test_threads_do_not_count_for_each_other(monkeypatch):
    monkeypatch.setattr(meter, "MAX_STEPS", 3000)
    monkeypatch.setattr(meter, "MAX_SECONDS", 10)
    template = SandboxedTemplate("{% for i in range(1000) %}{{ i }}{% endfor %}")
    want, got = "".join(map(str, range(1000))), []
    threads = [threading.Thread(target=lambda: got.extend(template.render(GIVEN) for _ in range(5))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == [want] * 20
