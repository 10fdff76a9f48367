"""What people say after an answer, put together from parts: doubts and thanks in more words than a list can hold.

Lists of whole sentences (``conversations``, ``smalltalk``) teach their sentences. What is composed here teaches what
such sentences have in common: a doubt asks about the answer, thanks asks nothing.
"""

from __future__ import annotations

from random import Random

_SURE = ("sure", "certain", "confident", "convinced")
_HOW_SURE = ("", "quite ", "really ", "absolutely ", "totally ", "completely ", "a hundred percent ", "still ")
_ABOUT = ("", "", " of that", " of it", " about that", " about the answer", " that it is right", " this is right")
_CHECK = (
    "check",
    "verify",
    "recheck",
    "confirm",
    "redo",
    "recompute",
    "recalculate",
    "look at",
    "go over",
    "work out",
    "prove",
    "count",
    "try",
    "test",
    "inspect",
)
_IT = ("that", "it", "this", "the answer", "your answer", "the result", "that number", "your working", "everything")
_AGAIN = ("", "", " again", " once more", " for me", " properly", " a second time", " to be safe", " carefully")
_ASK = ("Can you", "Could you", "Would you", "Will you", "Can we", "Please", "You should", "Could you please", "Let us")
_OTHERS = (
    "My teacher",
    "My spreadsheet",
    "The notebook",
    "My boss",
    "Our accountant",
    "My brother",
    "The app",
    "The solution sheet",
    "My phone",
    "The computer",
    "Her list",
    "Anna",
    "Another tool",
)
_SAY = ("says", "shows", "has", "gives", "got", "thinks it is", "claims")
_ELSE = ("something else", "another number", "a different answer", "another result", "something different", "otherwise")
_I = ("I get", "I got", "I have", "I count", "We get", "I expected", "I remember", "I see")
_THAT = ("That", "This", "It", "The answer", "Your answer", "The number")
_LOOKS = ("looks", "seems", "sounds", "feels", "is", "may be", "must be", "cannot be", "might be")
_OFF = ("wrong", "too high", "too low", "odd", "strange", "off", "not right", "a mistake", "incorrect", "too large")
_BEFORE = ("Hmm, ", "Wait, ", "Sorry, ", "ok but ", "Thanks, but ", "Well, ", "Hold on, ", "Hey, ", "No, ", "Oh, ")

_THANKS = ("Thanks", "Thank you", "Many thanks", "Thx", "thanks", "Thank you")
_WORD = ("Cheers", "Great", "Perfect", "Super", "Nice", "Good", "Top", "Wow", "Excellent", "Fine")
_MUCH = ("", "", " a lot", " so much", " again", " indeed", " for that", " for your help", " for this", " as always")
_PRAISE = (
    "that helps",
    "that was quick",
    "that was fast",
    "that is all I wanted to know",
    "that is what I needed",
    "this is very useful",
    "you are a hero",
    "you are a legend",
    "you are a treasure",
    "you are the best",
    "you are so kind",
    "you rock",
    "I owe you one",
    "how kind",
    "what a help",
    "great work",
    "nice work",
    "well explained",
    "I am happy now",
    "that makes my day",
    "I can go on now",
    "now I understand",
    "that will do",
    "bless you",
    "well spotted",
    "very helpful",
    "all good then",
)


def doubt(rng: Random) -> str:
    """Compose a doubt about the last answer."""
    pick = rng.choice
    kind = rng.randrange(6)
    if kind == 0:
        said = f"{pick(('Are you', 'You are', 'are you'))} {pick(_HOW_SURE)}{pick(_SURE)}{pick(_ABOUT)}?"
    elif kind in (1, 2):
        ask, again = pick(_ASK), pick(_AGAIN)
        said = f"{ask} {pick(_CHECK)} {pick(_IT)}{again}{'?' if ask[0] in 'CW' else '.'}"
    elif kind == 3:
        said = f"{pick(_OTHERS)} {pick(_SAY)} {pick(_ELSE)}."
    elif kind == 4:
        said = f"{pick(_I)} {pick(_ELSE[:-1])}."
    else:
        said = f"{pick(_THAT)} {pick(_LOOKS)} {pick(_OFF)}{pick(('.', '?', '!'))}"
    return _loosely(rng, pick(_BEFORE) + _small(said) if rng.random() < 0.25 else said)


def thanks(rng: Random) -> str:
    """Compose thanks or praise for the last answer."""
    pick = rng.choice
    word = pick(_WORD) if rng.random() < 0.4 else pick(_THANKS) + pick(_MUCH)
    kind = rng.randrange(4)
    if kind == 0:
        return _loosely(rng, word + pick((".", "!", "")))
    praise = pick(_PRAISE)
    if kind == 1:
        return _loosely(rng, praise[0].upper() + praise[1:] + pick((".", "!")))
    if kind == 2:
        return _loosely(rng, f"{praise[0].upper()}{praise[1:]}, {_small(word)}{pick(('.', '!'))}")
    return _loosely(rng, f"{word}, {praise}{pick(('.', '!', ''))}")


def _small(said: str) -> str:
    """Write the first letter small, unless the word is a name or I."""
    return said if said.startswith(("I ", "Anna")) else said[0].lower() + said[1:]


def _loosely(rng: Random, said: str) -> str:
    """Write as people type: at times in small letters or without the last stop."""
    if rng.random() < 0.15:
        said = said.lower()
    return said.rstrip(".!") if rng.random() < 0.15 else said
