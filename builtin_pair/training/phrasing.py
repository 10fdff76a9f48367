"""Ways of asking that change nothing in what is asked: politeness, context, lower case, a missing full stop."""

from __future__ import annotations

from random import Random

_BEFORE = (
    "Please help me: ",
    "Hi! ",
    "Hello, ",
    "Quick question: ",
    "I have a question. ",
    "Can you help? ",
    "Hey, ",
    "One more thing: ",
    "For my homework: ",
    "I need help with this: ",
    "Could you do this for me? ",
    "So, ",
    "OK. ",
    "My boss asks: ",
)
_AFTER = (" Thanks!", " Thank you.", " Please.", " Thanks in advance.", " Be quick, please.", " I am in a hurry.")
_ASKS = (
    ("What is ", ("Can you tell me what is ", "Tell me what is ", "what's ", "What's ", "Do you know what is ")),
    ("How many ", ("Can you tell me how many ", "how many ", "Do you know how many ", "I wonder how many ")),
    ("How much ", ("Can you tell me how much ", "how much ", "Do you know how much ", "I wonder how much ")),
    ("Who ", ("Can you tell me who ", "who ", "Do you know who ")),
    ("Tell me ", ("Please tell me ", "Could you tell me ", "I'd like to know ", "I want to know ")),
    ("Find ", ("Please find ", "Could you find ", "Can you find ", "Go and find ", "find ")),
    ("I need ", ("I'd like ", "Give me ", "Get me ", "i need ", "I want ")),
    ("List ", ("Please list ", "Can you list ", "Give me ", "list ")),
)

_PLAIN = {
    "What",
    "How",
    "Who",
    "Which",
    "Tell",
    "Find",
    "The",
    "Start",
    "Take",
    "We",
    "List",
    "Get",
    "Call",
    "Use",
    "From",
}
"""First words that may be written small: no names."""


def rephrased(rng: Random, text: str) -> str:
    """Put other words around a request; quoted values and code stay as they are."""
    for opening, others in _ASKS:
        if text.startswith(opening) and rng.random() < 0.6:
            text = rng.choice(others) + text.removeprefix(opening)
            break
    roll = rng.random()
    if roll < 0.3:
        text = rng.choice(_BEFORE) + text
    elif roll < 0.5:
        text += rng.choice(_AFTER)
    elif roll < 0.65 and text.split(" ", 1)[0] in _PLAIN:
        text = text[:1].lower() + text[1:]
    if rng.random() < 0.25 and text[-1] in ".?":
        text = text[:-1]
    return text
