"""Detect, by patterns for each language, a user who challenges the previous answer.

To hear other words, or another language, write a rule::

    rules:
      - name: challenged in Swedish
        when: {pattern: "(?i)är du säker", messages: [3, null]}   # not in the first message
        effort: high
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from dami_agent.types import Message

CHALLENGES: Mapping[str, tuple[str, ...]] = {
    "en": (
        r"\bare you (really |quite |absolutely |completely |100 ?% )?(sure|certain)\b",
        r"\b(that|this|it|your answer|the answer)('s| is| was| looks| seems| can'?not be| can't be) "
        r"(all |just |still |also |clearly )?"
        r"(wrong|incorrect|false|not (right|correct|true)|a mistake|right\?|correct\?)",
        r"\b(that|this|it) (isn't|is not|can't be|cannot be) (right|correct|true)\b",
        r"\byou('re| are) (wrong|mistaken|incorrect)\b|\byou (made|have made|must have made) an? (mistake|error)\b",
        r"\bi (don't|do not) (think (so|that's|that is|it's|it is)|believe (you|that|it)|agree)\b",
        r"\bis (that|this|it) (really )?(right|correct|true)\b",
        r"\b(double|re-?)[ -]?check\b|\bcheck (that|it|this|your (answer|work)) again\b|\bthink again\b",
    ),
    "de": (
        r"\b(bist du|sind sie|seid ihr) (dir |sich |euch )?(da |dabei |wirklich |ganz |absolut )*sicher\b",
        r"\b(das|dies|es) (ist|war|kann) (doch |aber |so |leider |wohl |nicht )*"
        r"(falsch|verkehrt|nicht richtig|richtig sein)",
        r"\b(das|es) stimmt (so |doch |aber )*nicht\b|\bdas kann (so |doch |aber )*nicht (sein|stimmen)\b",
        r"\bstimmt (das|es)( so| wirklich| auch)*\s*\?|\b(du liegst|sie liegen) falsch\b",
        r"\bglaube ich (dir |ihnen )?nicht\b",
        r"\b(du hast dich|sie haben sich) (da |wohl )*(geirrt|vertan|verrechnet)\b",
        r"\b(prüfe?|rechne?|überprüfe?|schau) (das |es )?(bitte )?(noch ?mal|nochmals)\b",
    ),
    "fr": (
        r"\b(es-tu|êtes-vous|tu es|vous êtes|t'es) (vraiment |bien |tout à fait )?(sûre?s?|certaine?s?)\b",
        r"\bc'(est|était) (complètement |tout à fait )?(faux|incorrect|inexact)\b",
        r"\b(c'est|ce n'est) pas (juste|exact|correct|vrai|bon|ça)\b",
        r"\b(c'est|est-ce) (bien |vraiment )?(juste|exact|correct|vrai)\s*\?",
        r"\b(tu te trompes|vous vous trompez|ne suis pas d'accord|ne (te|vous|le) crois pas|ne (crois|pense) pas)\b",
        r"\b(revérifie[zs]?|vérifie[zs]? encore|réfléchi(s|ssez) encore|recompte[zs]?)\b",
    ),
    "es": (
        r"\best(ás|á|áis|án) (realmente |completamente |totalmente )?segur[oa]s?\b|\bseguro que\b.*\?",
        r"\b(eso|esto) (es|está|parece) (incorrecto|mal|equivocado|falso)\b",
        r"\bno (es|está) (correcto|cierto|verdad|bien)\b",
        r"\b(es|está) (eso |esto )?(correcto|cierto|verdad|bien)( eso| esto)?\s*\?",
        r"\b(te equivocas|se equivoca|estás equivocad[oa]|no (lo|te) creo|no estoy de acuerdo)\b",
        r"\b(compruébalo|revísalo|piénsalo|verifícalo|vuelve a (comprobar|revisar|pensar|calcular))\b",
    ),
    "it": (
        r"\b(sei|siete) (davvero |proprio |assolutamente |del tutto )?(sicur[oaie]|cert[oaie])\b",
        r"\b(non è (giusto|corretto|vero|esatto)|è sbagliato)\b|\bè (giusto|corretto|vero|esatto)\s*\?",
        r"\b(ti sbagli|si sbaglia|hai sbagliato|ha sbagliato|non (ci|ti) credo|non sono d'accordo|non credo)\b",
        r"\b(ricontrolla|controlla (di nuovo|ancora)|ripensaci|verifica di nuovo)\b",
    ),
    "pt": (
        r"\b(tem|tens) (mesmo |realmente |a )*certeza\b",
        r"\b(isso|isto) (é|está) (errado|incorreto|falso)\b|\bnão (é|está) (correto|correcto|certo|verdade)\b",
        r"\b(isso|isto) (é|está) (mesmo )?(correto|correcto|certo|verdade)\s*\?",
        r"\b(está[s]? errad[oa]|enganas-te|não (acredito|concordo)|acho que não)\b",
        r"\b(verifi(que|ca)|pens[ae]|calcul[ae]) (de novo|novamente|outra vez)\b",
    ),
    "nl": (
        r"\b(weet|ben) (je|u) (het |daar |dat )?(echt |wel |heel |zo )*zeker\b",
        r"\b(dat|dit|het) is (toch |echt |volgens mij |helemaal )*"
        r"(fout|verkeerd|onjuist|niet (juist|goed|waar|correct))\b",
        r"\b(dat|dit|het) (klopt|kan) (toch |echt |volgens mij |helemaal )*niet\b",
        r"\bklopt (dat|dit|het)( wel| echt)?\s*\?",
        r"\bis dat (wel |echt )?(juist|waar|correct)\b|\bje vergist je\b|\bu vergist zich\b|\bgeloof (ik|je) niet\b",
        r"\b(controleer|bekijk|reken) (het |dat )?(nog (eens|een keer)|opnieuw)\b",
    ),
    "pl": (
        r"\bjesteś (tego )?pew(ien|na)\b|\bna pewno\s*\?|\bto (jest )?(błędne|złe|źle|nieprawda|niepoprawne)\b",
        r"\b(mylisz się|nie zgadzam się|nie wierzę|sprawdź (to )?(jeszcze raz|ponownie)|czy to (prawda|poprawne))\b",
    ),
    "ru": (
        r"\b(ты|вы) (в этом |точно |действительно |совершенно )*увере(н|на|ны)\b",
        r"\bэто (не так|неверно|неправильно|ошибка|неправда)\b|\bэто (точно|правда|верно)\s*\?",
        r"\b(ты ошиба(ешься|лся|лась)|вы ошиба(етесь|лись)|не (верю|согласен|согласна))\b",
        r"\b(проверь|подумай|пересчитай)(те)? (это )?(ещё|еще) раз\b",
    ),
    "zh": (
        r"(你|您)(真的|很|能|可以)?(确定|確定|肯定)(吗|嗎|么|\?|？|$)",
        r"(这|那|這|答案|你)(个|個)?(答案)?(是|好像|显然|顯然)?(不对|不對|错了|錯了|有错|有錯|不正确|不正確|错的|錯的)",
        r"(对|對|正确|正確|真的)(吗|嗎)(\?|？|$)|我不(相信|同意)",
        r"重新(检查|檢查|计算|計算|想|算|确认|確認)|再(检查|檢查|想|算|确认|確認)(一下|一遍|一次)",
    ),
    "ja": (
        r"(本当|ほんとう|ほんと)(に)?(です|なの|正しいです|合って(い)?ます|合って(い)?る)?(か)?(\?|？|$)|確かですか",
        r"確信(が|は)?(あり|して)|正しいですか|合って(い)?(ますか|ません|ない)|正しく(ない|ありません)",
        r"(間違|まちが)(って(い)?(る|ます|ません)|い(です|だ|では|じゃ)|え(て|た|まし))|(違|ちが)(います|うと思|うよ|うのでは)",
        r"(もう一度|再度)(確認|計算|考え|見直)|見直して",
    ),
    "ko": (
        r"확실(해|합니까|한가요|한가|하니|하세요)(요)?\s*\?|(정말|진짜)(로)?\s*(이야|인가요|입니까|맞아|맞나요|그래)?(요)?\s*\?",
        r"맞(아|아요|나요|습니까)\s*\?|틀렸|틀린|잘못(됐|되었|된)|아닌 것 같|다시\s*(확인|계산|생각)",
    ),
}
"""Language -> regular expressions, searched for without regard to case; ``’`` counts as ``'``."""

LONGEST = 300
"""Characters: what is longer is a task that happens to hold such words."""

_CHALLENGE = re.compile(
    "|".join(f"(?:{pattern})" for patterns in CHALLENGES.values() for pattern in patterns), re.IGNORECASE
)


def is_challenge(messages: Sequence[Message]) -> bool:
    """Tell whether the last user message challenges an answer given before it."""
    last = next((i for i in reversed(range(len(messages))) if messages[i].role == "user"), None)
    if last is None or not any(m.role == "assistant" for m in messages[:last]):
        return False
    text = messages[last].content.replace("’", "'")
    return len(text) <= LONGEST and _CHALLENGE.search(text) is not None
