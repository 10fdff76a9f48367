"""Realistic pydantic models: what a random model writes they accept, and what they accept it can write."""

from __future__ import annotations

import json
import re
import warnings
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, IntEnum
from random import Random
from typing import Annotated, Any, Literal, Optional, Union
from uuid import UUID

import pytest
from pydantic import BaseModel, ConfigDict, Field, HttpUrl, StringConstraints, TypeAdapter, ValidationError
from typing_extensions import NotRequired, TypedDict

from dami_agent.dialogue.json_schema import check, enforceable, validator

from .grammar import Grammar
from .instances import drawn
from .support import TOKENIZER


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Level(IntEnum):
    LOW = 1
    HIGH = 9


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"
    lives: Annotated[int, Field(ge=0, le=9)] = 9


class Dog(BaseModel):
    kind: Literal["dog"] = "dog"
    name: Annotated[str, Field(min_length=1, max_length=8)]


class Owner(BaseModel):
    pet: Annotated[Union[Cat, Dog], Field(discriminator="kind")]


class Owners(BaseModel):
    pets: list[Annotated[Union[Cat, Dog], Field(discriminator="kind")]] = []


class Plain(BaseModel):
    pet: Union[Cat, Dog]


class Tree(BaseModel):
    value: int
    children: list[Tree] = []


class Left(BaseModel):
    right: Optional[Right] = None
    n: int = 0


class Right(BaseModel):
    left: Optional[Left] = None
    flag: bool


class Money(BaseModel):
    amount: Annotated[float, Field(ge=0, le=1000, multiple_of=0.01)]


class Price(BaseModel):
    price: Annotated[Decimal, Field(max_digits=8, decimal_places=2)]


class Named(BaseModel):
    slug: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{1,30}$")]
    key: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,255}$")] = "k"


class Digits(BaseModel):
    digits: Annotated[str, StringConstraints(pattern=r"^\d{1,500}$")]


class Letters(BaseModel):
    word: Annotated[str, StringConstraints(pattern=r"^\p{L}+$")]


class Password(BaseModel):
    model_config = ConfigDict(regex_engine="python-re")
    password: Annotated[str, StringConstraints(pattern=r"^(?=.*\d)[a-z0-9]{2,12}$")]


class Site(BaseModel):
    url: HttpUrl


class Machine(BaseModel):
    serial: Annotated[int, Field(ge=0, le=2**64 - 1)]
    offset: Annotated[int, Field(ge=-(2**63), le=2**63 - 1)] = 0


class Tags(BaseModel):
    tags: set[Literal["a", "b", "c"]]


class Numbers(BaseModel):
    numbers: set[int] = set()
    pair: tuple[int, str]
    any_length: tuple[float, ...] = ()


class Scores(BaseModel):
    scores: dict[str, int]
    by_level: dict[Literal["low", "high"], float] = {}


class Patterned(BaseModel):
    values: dict[Annotated[str, StringConstraints(pattern="^x_")], int]


class When(BaseModel):
    day: date
    at: datetime
    clock: Optional[time] = None
    lasts: Optional[timedelta] = None


class Ids(BaseModel):
    id: UUID
    others: list[UUID] = []


class Bounds(BaseModel):
    share: Annotated[float, Field(gt=0, lt=1)]
    count: Annotated[int, Field(gt=-5, lt=5)]
    items: Annotated[list[Annotated[int, Field(ge=1, le=3)]], Field(min_length=1, max_length=3)]


class Maybe(BaseModel):
    a: Optional[int] = None
    b: Union[int, str, None] = None
    c: Union[bool, list[str]]


class Enums(BaseModel):
    colour: Colour
    level: Level = Level.LOW
    mixed: Literal[1, "one", True, None]


class Nested(BaseModel):
    grid: list[list[int]]
    deep: dict[str, dict[str, list[bool]]] = {}


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")
    a: int
    b: str = "b"


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")
    a: int


class Described(BaseModel):
    """A person."""

    name: str = Field(description="The name.", examples=["Ada"])
    age: int = Field(default=30, title="Age", ge=0)
    alias: Optional[str] = Field(default=None, alias="other-name")


class Movie(TypedDict):
    name: str
    year: NotRequired[int]
    tags: list[Literal["a", "b"]]


class Step(BaseModel):
    op: Literal["add", "mul"]
    left: Union[float, Step]
    right: Union[float, Step]


class Empty(BaseModel):
    pass


MODELS: list[Any] = [
    *(Owner, Owners, Plain, Tree, Left, Money, Price, Named, Digits, Letters, Password, Site, Machine, Tags, Numbers),
    *(Scores, Patterned, When, Ids, Bounds, Maybe, Enums, Nested, Strict, Open, Described, Movie, Step, Empty),
    *(list[Cat], Union[Cat, Dog, None], Literal["yes", "no"], dict[str, Colour], tuple[int, int, bool]),
]
EXAMPLES = {
    "Owner": {"pet": {"kind": "dog", "name": "Rex"}},
    "Owners": {"pets": [{"kind": "cat", "lives": 3}, {"kind": "dog", "name": "Rex"}]},
    "Money": {"amount": 12.34},
    "Price": {"price": "12.30"},
    "Letters": {"word": "Straße"},
    "Password": {"password": "abc1"},
    "Site": {"url": "https://example.com/a?b=1#c"},
    "Machine": {"serial": 2**64 - 1, "offset": -(2**63)},
    "Patterned": {"values": {"x_1": 1, "x_b": -2}},
    "When": {"day": "2024-02-29", "at": "2024-02-29T12:30:00.5Z", "clock": "23:59:59Z", "lasts": "P1DT2H"},
    "Ids": {"id": "123e4567-e89b-12d3-a456-426614174000"},
    "Bounds": {"share": 0.5, "count": -4, "items": [1, 3]},
    "Digits": {"digits": "7" * 500},
    "Open": {"a": 1, "more": [1, {"b": 2}]},
    "Described": {"name": "Ada", "age": 36, "other-name": None},
}
NOT_HELD = {"Price", "Password", "Machine", "Tags", "Numbers", "Site"}
"""Where pydantic asks more than a grammar holds: look-ahead, sets, 64 bits, or more than the schema says."""


def name_of(model: Any) -> str:
    return re.sub(r"[\w.]*\.", "", getattr(model, "__name__", str(model)) if "[" not in str(model) else str(model))


def keys(value: Any) -> set[str]:
    if isinstance(value, dict):
        return {*value, *(key for each in value.values() for key in keys(each))}
    return {key for each in value for key in keys(each)} if isinstance(value, list) else set()


def test_there_are_thirty_four() -> None:
    assert len(MODELS) == 34


@pytest.mark.parametrize("model", MODELS, ids=name_of)
def test_what_is_written_is_valid_and_what_is_valid_can_be_written(model: Any) -> None:
    adapter: TypeAdapter[Any] = TypeAdapter(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydantic's, of defaults that are no JSON
        schema = adapter.json_schema()
    check(schema, "test")
    narrowed, problems = enforceable(schema)
    assert bool(problems) <= (name_of(model) in NOT_HELD), problems
    grammar, rng, judge = Grammar(narrowed), Random(name_of(model)), validator(schema)
    ended = accepted = 0
    for _ in range(8):
        ids, done = grammar.walk(rng, 600)
        if done:
            ended += 1
            value = json.loads(TOKENIZER.decode(ids))
            assert problems or judge.is_valid(value), value
            if name_of(model) not in NOT_HELD:
                adapter.validate_json(json.dumps(value))
    values = drawn(schema, rng, 60)
    values += [EXAMPLES[name_of(model)]] if name_of(model) in EXAMPLES else []
    for value in values:
        try:
            read = adapter.dump_python(adapter.validate_json(json.dumps(value)), mode="json", by_alias=True)
        except ValidationError:
            continue
        if judge.is_valid(value) and keys(value) <= keys(read):  # nothing was left out because it is undeclared
            assert grammar.accepts(json.dumps(value, ensure_ascii=False)), value
            accepted += 1
    assert ended
    assert accepted
