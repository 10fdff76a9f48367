"""The little world: the same answer twice, errors that name what works, names that stay apart."""

from random import Random

import pytest

from dami_agent.tasks import CATALOGUE, World
from dami_agent.tasks.world import HELD, SEEN, mended


def test_wrong_arguments_are_an_error_text():
    tool = CATALOGUE["get_price"].bind(World(1))
    assert tool.call({"item": "lamp"}).isdigit()
    assert tool.call({"item": "LAMP"}) == tool.call({"item": "lamp"})
    assert tool.call({}).startswith("Error")
    assert tool.call({"item": "lamp", "colour": "red"}).startswith("Error")
    assert CATALOGUE["convert_units"].bind(World(1)).call({"amount": 3, "unit": "stones"}).startswith("Error")


def test_worlds_differ_and_repeat():
    assert World(1).value(0, 10**6, "price", "lamp") == World(1).value(0, 10**6, "price", "lamp")
    assert World(1).value(0, 10**6, "price", "lamp") != World(2).value(0, 10**6, "price", "lamp")


@pytest.mark.parametrize("name", CATALOGUE)
def test_a_lookup_works_or_says_what_does(name):
    rng, kind, failures = Random(f"world:{name}"), CATALOGUE[name], 0
    for _ in range(400):
        world, names = World(rng.getrandbits(32)), rng.choice((SEEN, HELD))
        asked = kind.ask(rng, names)
        result = kind.bind(world).call(asked.arguments)
        found = mended(world, name, asked.arguments)
        assert result.startswith("Error") == (found is not None)
        if found:
            failures += 1
            value = next(iter(found[1].values()))
            assert str(value) in result
            assert not kind.bind(world).call(found[1]).startswith("Error")
            assert set(found[1]) == set(asked.arguments)
    assert failures or name in ("get_budget", "convert_units")
    assert failures < 60


def test_every_kind_says_what_it_finds():
    rng = Random(3)
    for kind in CATALOGUE.values():
        asked = kind.ask(rng, SEEN)
        said = kind.noun.format(**asked.arguments)
        assert all(str(value) in said for value in asked.arguments.values())
        assert "{" not in said + asked.phrase


def test_unseen_people_know_only_unseen_people_and_towns():
    rng = Random(8)
    for _ in range(300):
        world, names = World(rng.getrandbits(32)), rng.choice((SEEN, HELD))
        person = rng.choice(names.people) + rng.choice(("", " K"))
        arguments = {"person": person}
        assert CATALOGUE["boss_of"].answer(world, arguments, SEEN) in set(names.people) - {person}
        assert CATALOGUE["town_of"].answer(world, arguments, SEEN) in names.towns
    assert not {*SEEN.people, *SEEN.items, *SEEN.towns} & {*HELD.people, *HELD.items, *HELD.towns}
