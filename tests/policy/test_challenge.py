"""A challenge is heard in every language of the table, and other talk is not taken for it."""

from __future__ import annotations

import pytest

from dami_agent.policy import ReasoningPolicy
from dami_agent.policy.challenge import CHALLENGES, LONGEST, is_challenge
from tests.policy.support import FRONTIER, never, round_of, said, saying, step, user

CHALLENGE = {
    "en": "Are you sure?|are you really sure about that?|That's wrong.|I don't think so|You're wrong, it is 5.|"
    "That isn't right|No, that is incorrect.|Is that correct?|Double-check!|I don’t think that’s so",
    "de": "Bist du sicher?|Sind Sie sich da wirklich sicher?|Das ist falsch.|Das stimmt so nicht!|Stimmt das?|"
    "Das kann doch nicht sein|Du hast dich verrechnet|Rechne das bitte nochmal nach|Das ist nicht richtig.",
    "fr": "Tu es sûr ?|Êtes-vous certaine ?|C'est faux.|Ce n'est pas correct|Tu te trompes|C’est vrai ?|Revérifie !",
    "es": "¿Estás seguro?|¿Está usted equivocado? Eso está mal.|No es correcto|¿Es eso cierto?|Te equivocas|Revísalo",
    "it": "Sei sicuro?|Non è giusto|È sbagliato.|Ti sbagli|È corretto?|Ricontrolla, per favore",
    "pt": "Você tem certeza?|Tens a certeza?|Isso está errado.|Não está correto|Isso é verdade?|Pense de novo",
    "nl": "Weet je het zeker?|Ben je daar zeker van?|Dat klopt niet.|Dat is fout|Is dat waar?|Controleer het nog eens",
    "pl": "Jesteś pewien?|Na pewno?|To jest błędne|Mylisz się|Sprawdź to jeszcze raz",
    "ru": "Ты уверен?|Вы точно уверены?|Это неверно|Ты ошибаешься|Это правда?|Проверьте ещё раз",
    "zh": "你确定吗？|您確定嗎?|这个答案不对|你错了|真的吗？|再检查一遍|重新计算",
    "ja": "本当ですか？|本当に？|確かですか|間違っています|それは違います|もう一度確認してください|合っていますか",
    "ko": "확실해요?|정말?|틀렸어요|다시 확인해 주세요|맞나요?",
}
OTHER = {
    "en": "Thanks!|What is wrong with my car?|Make sure to add 5|That is right, thank you.",
    "de": "Danke, das stimmt.|Was ist ein sicherer Ort?|Es kann morgen regnen.|Rechne 5 dazu.",
    "fr": "C'est juste, merci.|Je suis sûr de moi.|Et avec 5 de plus ?|C'est vrai.",
    "es": "Eso es correcto, gracias.|Busca un lugar seguro.|Suma 5.",
    "it": "È vero, grazie.|Un posto sicuro|Aggiungi 5.",
    "pt": "Isso está certo, obrigado.|Com certeza!|Soma 5.",
    "nl": "Dat klopt, bedankt.|Het is niet ver van hier.|Tel er 5 bij op.",
    "pl": "Dziękuję, to prawda.|Dodaj 5.",
    "ru": "Спасибо, это верно.|Прибавь 5.",
    "zh": "谢谢，答案是对的。|再算上五个苹果。|请确定会议的时间。",
    "ja": "ありがとうございます。|本当の名前は何ですか？|五を足してください。",
    "ko": "고마워요.|정말 좋은 식당이 어디예요?|다섯을 더해 주세요.",
}
ASKED = (user("1 + 1?"), said("3"))


def test_every_language_of_the_table_is_tried() -> None:
    assert set(CHALLENGE) == set(OTHER) == set(CHALLENGES)


@pytest.mark.parametrize("language", CHALLENGE)
def test_a_challenge_is_heard(language: str) -> None:
    for text in CHALLENGE[language].split("|"):
        assert is_challenge((*ASKED, user(text))), text
        assert is_challenge((*ASKED, user(text.upper()))), text
        assert is_challenge((*ASKED, user(text), *round_of("a"))), text
        assert not is_challenge((user(text),)), text  # nothing was said before that could be challenged


@pytest.mark.parametrize("language", OTHER)
def test_other_talk_is_no_challenge(language: str) -> None:
    for text in OTHER[language].split("|"):
        assert not is_challenge((*ASKED, user(text))), text


def test_a_long_text_is_a_task_that_happens_to_hold_such_words() -> None:
    assert not is_challenge((*ASKED, user("Write a story. " * (LONGEST // 15) + "Are you sure?")))


def test_other_words_are_heard_by_a_rule() -> None:
    when = {"pattern": "(?i)är du säker", "messages": [3, None]}
    policy = ReasoningPolicy(frontier=FRONTIER, rules=[{"name": "challenged", "when": when, "effort": "high"}])
    assert policy.decide(step(*ASKED, user("Är du säker?")), 0, never).intensity == FRONTIER.for_effort("high")
    assert policy.decide(step(user("Är du säker?")), 0, saying(0)).intensity == 0
