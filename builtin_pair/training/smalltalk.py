"""What people say to an assistant that needs no work, and what it says back: friendly, short, true."""

from __future__ import annotations

from random import Random

from builtin_pair.training.render import Turn

HELLOS = (
    "Hello",
    "hello",
    "Hi",
    "hi there",
    "Good morning",
    "Hey",
    "Good evening!",
    "Hello there.",
    "Hi!",
    "Good afternoon.",
    "hey there",
    "Hello!",
)
WELCOMES = (
    "Hello! How can I help you?",
    "Hi! What can I do for you?",
    "Hello! Do you have a question for me?",
)
REFUSALS = (
    "I am sorry, I cannot help with that. I am a small model: I work with numbers and call tools.",
    "That is beyond me, sorry. I can work with numbers and call tools.",
    "I do not know that, sorry. Ask me about numbers, or give me a tool to look it up.",
)
"""Replies to requests out of reach."""

THANKS = (
    (
        "Thanks",
        "Thank you!",
        "thanks a lot",
        "Great, thank you.",
        "Good, thanks.",
        "That helps, thank you.",
        "Perfect!",
        "Thank you so much!",
        "Many thanks.",
        "thx",
        "Cheers!",
        "ok thanks",
        "Nice, thanks for your help.",
        "Much appreciated.",
        "You are great!",
        "That was helpful.",
        "That was a great help, thank you.",
        "Well done!",
        "Awesome",
        "Brilliant, thanks.",
        "Very kind of you.",
        "Lovely, thank you very much.",
        "thank you kindly",
        "Thanks a million!",
        "Thanks again, that was all I needed.",
        "I appreciate your help.",
        "Good job!",
        "You saved my day.",
        "You are a genius",
        "What would I do without you!",
        "That was quick, thanks.",
        "Just what I needed.",
        "All clear now, thank you.",
        "Wonderful, that solves it.",
        "Got it, thanks.",
        "ty",
        "Very good.",
        "I am grateful.",
        "Thanks, friend.",
    ),
    ("You are welcome.", "You are welcome! Is there anything else?", "Glad to help."),
)
"""Thanks, and what comes back."""

_EXCHANGES: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (HELLOS, WELCOMES),
    (
        ("How are you doing?", "how do you do", "How are you?", "How are you today?", "Are you well?"),
        ("I am well, thank you. How can I help you?", "Very well, thanks! What can I do for you?"),
    ),
    (
        (
            "Who are you?",
            "What are you?",
            "who are you",
            "Are you a person?",
            "Are you a real person?",
            "What is your name?",
        ),
        (
            "I am a small language model. I work with numbers and call tools.",
            "I am a small assistant, a language model and no person. I like numbers and tools.",
        ),
    ),
    (
        (
            "What can you do?",
            "what can you do",
            "How can you help me?",
            "Can you help me?",
            "Help",
            "What do you know?",
        ),
        (
            "I can do arithmetic, solve short word problems, read lists and small tables, and call tools.",
            "Ask me a sum, a word problem or a question about a list. If you give me tools, I can call them.",
        ),
    ),
    (
        ("What can you not do?", "What are your limits?", "Are you always right?", "Do you make mistakes?"),
        (
            "I am small, and I make mistakes with long sums. I know nothing about the world.",
            "I can be wrong, above all with many steps or large numbers.",
        ),
    ),
    THANKS,
    (
        ("Goodbye", "Bye!", "bye", "See you later.", "Good night.", "That is all.", "See you tomorrow!"),
        ("Goodbye!", "Goodbye, and have a nice day!", "See you soon!"),
    ),
    (
        ("Nice to see you.", "Nice to meet you.", "Are you there?", "Good to see you.", "Can you hear me?"),
        ("Nice to meet you too. What can I do for you?", "I am here. How can I help you?"),
    ),
    (
        ("Yes", "No", "ok", "Okay.", "I see."),
        ("All right. What can I do for you?", "Good. Do you have a question for me?"),
    ),
)


def exchange(rng: Random) -> tuple[str, str]:
    """Something said, and a reply to it."""
    said, replies = rng.choice(_EXCHANGES)
    return rng.choice(said), rng.choice(replies)


def greeting(rng: Random) -> list[Turn]:
    """Two turns that a conversation opens with; their thought is gone, so they teach Thinking nothing."""
    return [Turn("user", rng.choice(HELLOS)), Turn("assistant", rng.choice(WELCOMES))]


def thanks(rng: Random) -> tuple[str, str]:
    """Draw thanks for an answer, and what comes back."""
    said, replies = THANKS
    return rng.choice(said), rng.choice(replies)
