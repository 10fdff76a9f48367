"""Policy files: the same in YAML, TOML and Python; what is wrong is named with file, line and field."""

from __future__ import annotations

from pathlib import Path

import pytest

from dami_agent.errors import InvalidPolicy
from dami_agent.policy import PRESETS, ReasoningPolicy, Rule, RunBudget, Settings, ToolSettings, When

YAML = """
name: careful
accuracy_over_cost: 0.6
default: {intensity: auto, max_reasoning_tokens: 256}
tools:
  search: {intensity: [0, .3], max_reasoning_tokens: 64, run_max_reasoning_tokens: 400}
  no: {intensity: 0}
nodes:
  planner: {effort: high}
rules:
  - name: forms
    when: {structured: true, step: [2, null], tags: prod}
    intensity: [none, medium]
  - when: {pattern: "(?i)prove"}
    effort: max
run: {max_tokens: 4000, per: thread, on_exhausted: end}
escalation: {max_attempts: 2, on: [invalid_tool_call]}
"""
TOML = """
name = "careful"
accuracy_over_cost = 0.6
default = {intensity = "auto", max_reasoning_tokens = 256}
[tools]
search = {intensity = [0, 0.3], max_reasoning_tokens = 64, run_max_reasoning_tokens = 400}
no = {intensity = 0}
[nodes.planner]
effort = "high"
[[rules]]
name = "forms"
when = {structured = true, step = [2, 99], tags = "prod"}
intensity = ["none", "medium"]
[[rules]]
effort = "max"
[rules.when]
pattern = "(?i)prove"
[run]
max_tokens = 4000
per = "thread"
on_exhausted = "end"
[escalation]
max_attempts = 2
on = ["invalid_tool_call"]
"""


def written(tmp_path: Path, text: str, name: str) -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


def test_yaml_toml_and_python_say_the_same(tmp_path: Path) -> None:
    from_yaml = ReasoningPolicy.from_file(written(tmp_path, YAML, "p.yaml"))
    from_toml = ReasoningPolicy.from_file(written(tmp_path, TOML, "p.toml"))
    in_python = ReasoningPolicy(
        name="careful",
        accuracy_over_cost=0.6,
        default=Settings(intensity="auto", max_reasoning_tokens=256),
        tools={
            "search": ToolSettings(intensity=(0, 0.3), max_reasoning_tokens=64, run_max_reasoning_tokens=400),
            "no": {"intensity": 0},
        },
        nodes={"planner": Settings(effort="high")},
        rules=[
            Rule(name="forms", when=When(structured=True, step=(2, None), tags="prod"), intensity=("none", "medium")),
            {"when": {"pattern": "(?i)prove"}, "effort": "max"},
        ],
        run=RunBudget(max_tokens=4000, per="thread", on_exhausted="end"),
        escalation={"max_attempts": 2, "on": ["invalid_tool_call"]},
    )
    assert from_yaml == in_python
    assert repr(from_yaml) == repr(in_python)
    assert from_toml.tools == from_yaml.tools
    assert from_toml.rules[1] == from_yaml.rules[1]
    assert from_yaml.rules[1].name == "rule 2"  # a nameless rule is called by its place
    assert ReasoningPolicy.from_file(written(tmp_path, "{}", "empty.yml")).name == "empty"


def test_the_repr_tells_policies_apart() -> None:
    one, same = ReasoningPolicy.preset("frugal"), ReasoningPolicy.preset("frugal")
    assert repr(one) == repr(same)
    others = [
        ReasoningPolicy(),
        ReasoningPolicy.preset("thorough"),
        ReasoningPolicy(tools={"a": {"intensity": 0.1}}),
        ReasoningPolicy(tools={"a": {"intensity": 0.2}}),
        ReasoningPolicy(challenge=True),
        ReasoningPolicy(verifier=lambda step, reply: True),
    ]
    assert len({repr(p) for p in [one, *others]}) == 1 + len(others)


@pytest.mark.parametrize(
    ("text", "line", "field", "says"),
    [
        ("name: x\ntools:\n  search:\n    intensty: 0.3\n", 4, "tools.search.intensty", "did you mean 'intensity'"),
        ("run:\n  max_tokns: 3\n", 2, "run.max_tokns", "did you mean 'max_tokens'"),
        ("rules:\n- when:\n    digest: a\n", 3, "rules[0].when.digest", "did you mean 'digests'"),
        ("default: {intensity: 1.5}\n", 1, "default.intensity", "not a number in [0, 1]"),
        ("default:\n  effort: hihg\n", 2, "default.effort", "did you mean 'high'"),
        ("default:\n  intensity: [.6, .2]\n", 2, "default.intensity", "empty"),
        ("default:\n  intensity: [high, low]\n", 2, "default.intensity", "empty"),
        ("rules:\n- name: a\n- name: b\n  when:\n    pattern: '('\n", 5, "rules[1].when.pattern", "regular expression"),
        ("rules:\n- name: a\n- intensity: 0\n  name: a\n", 4, "rules[1].name", "two rules are named 'a'"),
        ("run:\n  max_tokens: 0\n", 2, "run.max_tokens", "greater than or equal to 1"),
        ("run:\n  max_cost: 1\n", 2, "run.max_cost", "max_cost without a price"),
        ("tools:\n  a: {intensity: 0}\n  a: {intensity: 1}\n", 3, "", "'a' is given twice"),
        ("tools: [\n", 2, "", "invalid YAML"),
        ("- a\n", None, "", "a policy is a mapping"),
        ("rules:\n- when: {attempt: -1}\n", 2, "rules[0].when.attempt", "not a whole number"),
    ],
)
def test_yaml_errors_name_line_and_field(tmp_path: Path, text: str, line: int | None, field: str, says: str) -> None:
    with pytest.raises(InvalidPolicy) as caught:
        ReasoningPolicy.from_file(written(tmp_path, text, "p.yaml"))
    assert says in str(caught.value)
    assert f"p.yaml:{line}: {field}" in str(caught.value) if line else "p.yaml: " in str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("text", "line", "field"),
    [
        ("name = 'x'\n[tools.search]\nintensity = 7\n", 3, "tools.search.intensity"),
        ("[tools]\nsearch = {intensty = 1}\n", 2, "tools.search.intensty"),
        ("[[rules]]\nname = 'a'\n[[rules]]\nname = 'b'\n[rules.when]\nnode = 3\n", 6, "rules[1].when.node"),
        ("[[rules]]\nname = 'a'\nwhen.step = 'x'\n[[rules]]\nname = 'b'\n", 3, "rules[0].when.step"),
        ('["tools"."my tool"]\nmax_tokens = -1\n', 2, "tools.my tool.max_tokens"),
        ("name = \n", 1, ""),
        ("rules = [\n  # two of them\n  {name = 'a'},\n\n  {name = 'b', intensty = 3},\n]\n", 5, "rules[1].intensty"),
        ("[escalation]\non = [\n  'invalid_tool_call',\n  'nobody',\n]\n", 4, "escalation.on[1]"),
        ("name = '''\n[run]\nmax_tokens = 0\n'''\n[run]\nmax_tokens = -3\n", 6, "run.max_tokens"),
        ('# one\n\n[[rules]]\n[rules.when]\npattern = """\n("""\n', 5, "rules[0].when.pattern"),
        ("[tools.a]\nintensity = [\n  0,\n  7,\n]\n", 2, "tools.a.intensity"),
        ("run.max_tokens = 5\nrun.price.output = -1\n", 2, "run.price.output"),
    ],
)
def test_toml_errors_name_line_and_field(tmp_path: Path, text: str, line: int, field: str) -> None:
    with pytest.raises(InvalidPolicy) as caught:
        ReasoningPolicy.from_file(written(tmp_path, text, "p.toml"))
    assert f"p.toml:{line}: {field}" in str(caught.value)


def test_every_finding_is_listed_and_other_sources_are_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidPolicy) as caught:
        ReasoningPolicy.from_dict({"runn": {}, "default": {"effort": "x", "max_tokens": 0}})
    assert {line.split(":")[1].strip() for line in caught.value.message.splitlines()} == {
        "runn",
        "default.effort",
        "default.max_tokens",
    }
    with pytest.raises(InvalidPolicy, match=r"unknown kind of file '\.json'"):
        ReasoningPolicy.from_file(written(tmp_path, "{}", "p.json"))
    with pytest.raises(InvalidPolicy, match="cannot read"):
        ReasoningPolicy.from_file(tmp_path / "none.yaml")
    with pytest.raises(InvalidPolicy, match="did you mean 'balanced'"):
        ReasoningPolicy.preset("balance")
    with pytest.raises(InvalidPolicy, match=r"accuracy_over_cost"):
        ReasoningPolicy(accuracy_over_cost=2)


def test_presets_load() -> None:
    assert [ReasoningPolicy.preset(name).name for name in PRESETS] == ["frugal", "balanced", "thorough"]


def test_the_example_of_the_docs_loads(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "policy.md").read_text(encoding="utf-8")
    example = page.split("```yaml\n")[1].split("```")[0]
    policy = ReasoningPolicy.from_file(written(tmp_path, example, "policy.yaml"))
    assert [rule.name for rule in policy.rules] == ["forms", "proofs"]
    assert policy.tools["search"].run_max_reasoning_tokens == 400
    assert policy.run.max_tokens == 4000


def test_keys_of_earlier_files_are_read_with_a_warning_that_names_the_new_ones(tmp_path: Path) -> None:
    old, new = tmp_path / "old.yaml", tmp_path / "new.yaml"
    old.write_text("name: p\ndefault: {deadline: 9}\nrun: {max_money: 1, price: {output: 2}}\n")
    new.write_text("name: p\ndefault: {timeout: 9}\nrun: {max_cost: 1, price: {output: 2}}\n")
    with pytest.warns(FutureWarning) as warned:
        read = ReasoningPolicy.from_file(old)
    assert {str(each.message) for each in warned} == {
        "policies: deadline is called timeout now; write timeout",
        "policies: max_money is called max_cost now; write max_cost",
    }
    assert read == ReasoningPolicy.from_file(new)


def test_a_key_given_under_both_names_is_refused() -> None:
    with pytest.raises(InvalidPolicy, match="unknown key 'deadline'"):
        ReasoningPolicy.from_dict({"default": {"deadline": 9, "timeout": 9}})
