"""LANGUAGES: a text -> the ISO 639-1 code of the language that it is written in.

Before: an answer. After: instructions that ask for a language. By the script that most
letters are of; where several languages share it, by letters that one of them alone has
and by its commonest words. It knows the thirty languages of IFEval
(https://arxiv.org/abs/2311.07911) and no other: a text in Dutch is taken for a
neighbour of it, or for none.
"""

import re

_SCRIPTS = {  # ranges of code points; the languages that are written so
    "latin": (((0x41, 0x24F), (0x1E00, 0x1EFF)), "en es pt fr de it pl vi sw fi"),
    "cyrillic": (((0x400, 0x52F),), "ru uk bg"),
    "arabic": (((0x600, 0x6FF), (0x750, 0x77F)), "ar fa ur"),
    "devanagari": (((0x900, 0x97F),), "hi mr ne"),
    "hebrew": (((0x590, 0x5FF),), "he"),
    "bengali": (((0x980, 0x9FF),), "bn"),
    "gurmukhi": (((0xA00, 0xA7F),), "pa"),
    "gujarati": (((0xA80, 0xAFF),), "gu"),
    "tamil": (((0xB80, 0xBFF),), "ta"),
    "telugu": (((0xC00, 0xC7F),), "te"),
    "kannada": (((0xC80, 0xCFF),), "kn"),
    "malayalam": (((0xD00, 0xD7F),), "ml"),
    "thai": (((0xE00, 0xE7F),), "th"),
    "hangul": (((0x1100, 0x11FF), (0x3130, 0x318F), (0xAC00, 0xD7AF)), "ko"),
    "kana": (((0x3040, 0x30FF),), "ja"),
    "han": (((0x4E00, 0x9FFF),), "zh"),
}
_WORDS = {
    "en": "a the of and to in is that for it as with on be are was this by you at not"
    " or have from an he they which one their has will can your i my we what all there"
    " if more when so no out up into do any our like about how me she her his but"
    " would",
    "es": "de la que el en y los se del las un por con una para es al lo como más su"
    " sus le o este ha está ser son muy pero también hay todo esta no si sobre entre",
    "pt": "de a o que e do da em um para com não uma os no se na por mais as dos como"
    " mas ao ele das seu sua ou quando muito já também só pelo pela até isso você são",
    "fr": "de la le et les des en un du une que est pour qui dans a par plus pas au sur"
    " ne se ce il sont avec mais nous vous cette ou elle être aux je tout leur d l n'a",
    "de": "der die und in den von zu das mit sich des auf für ist im dem nicht ein eine"
    " als auch es an werden aus er hat dass sie nach wird bei einer um am sind noch wie"
    " einem über einen so ich zum war haben nur oder aber vor zur bis mehr durch",
    "it": "di e il la che è un a per in una mi sono ho non ma lo ha le si ti i con cosa"
    " se da come io ci questo qui del della dei delle alla gli nel anche più sul al",
    "pl": "i w na z do się nie że o jest to jak po co za od przez jego oraz dla tym"
    " są ale czy być już tylko ma może który która które każdy prawo lub ich bez",
    "vi": "và của là có các được cho trong không một người với những này đã khi để như"
    " về từ đến ra tôi bạn chúng nhiều cũng năm trên phải sẽ quyền hay mọi đều do",
    "sw": "ya na wa kwa ni katika za la kuwa cha kama hii hiyo vya yake au si ana watu"
    " mtu huu kila lakini wake hakuna haki mimi wewe sana pia hata zaidi nchi kutoka",
    "fi": "ja on ei että se oli hän mutta ovat kun niin myös jos joka tai sen ole olla"
    " kuin hänen jokaisella oikeus sitä minä mitä tämä voi kaikki jotka sekä vain",
    "ru": "и в не на я что он с это по но как а к она из у за от же то для мы вы о"
    " его её быть или при так если который также может все ещё есть они их имеет право",
    "uk": "і в не на що з це по але як до та у за від для ми ви про його її бути або"
    " при так якщо який також може всі ще є вони їх має під час цей ця",
    "bg": "и в не на че с това по но как да се за от са към ще го си като е бъде или"
    " при така ако който също може всички още има те им тези съм сме му със които",
    "ar": "في من على إلى أن هذا التي عن مع هذه الذي كان لا ما هو أو كل لم بعد كما"
    " قد بين ذلك حتى إن هي ثم هناك لكل يمكن",
    "fa": "و در به از که این را با است برای آن یک خود تا کرد بر هم نیز می های شود"
    " شده ما اما یا او باید هر دارد کند بود شما من ها",
    "ur": "کے کی میں ہے اور سے کا کو اس پر نے ہیں کہ یہ ایک بھی کر تو ہو نہیں وہ جو"
    " لئے لیے تھا ہم آپ گا گی رہا ہوں کیا ان ساتھ",
    "hi": "के में है की और से का को कि पर इस यह एक ने हैं भी नहीं हो तो कर लिए ही था"
    " या वह जो साथ अपने किया गया रहा कोई हम आप मैं थी थे जाता होता उसका उसे",
    "mr": "आहे आणि या च्या ला मध्ये तो ती ते हे नाही होते आहेत केला केली होता करून"
    " मी असे त्या त्याच्या साठी एका पण झाला राहिला आपण तुम्ही काय किंवा असतात चा ची",
    "ne": "छ को र मा लाई ले हो छन् गर्न पनि यो तथा भने गरेको भएको हुन्छ गर्ने एक थियो"
    " तपाईं हामी अनि लागि सबै गर्नुहोस् तर हुन् छैन भयो बाट हुने गरी यस स्थानमा आने",
}
_LETTERS = {  # that one of the languages of a script has, and hardly another
    "es": "ñ¿¡",
    "pt": "ãõ",
    "fr": "œùû",
    "de": "ß",
    "pl": "łąęśżźń",
    "vi": "ạảấầẩẫậắằẳẵặẹẻẽếềểễệỉịọỏốồổỗộớờởỡợụủứừửữựỳỵỷỹđơư",
    "ru": "ыэё",
    "uk": "іїєґ",
    "bg": "",
    "fa": "پچژگ",
    "ur": "ٹڈڑںےہ",
    "mr": "ळ",
}
_WORD = re.compile(r"[^\W\d_](?:[^\W\d_]|[\u0300-\u036f\u0900-\u0d7f])*")
_BY_WORDS = {code: frozenset(words.split()) for code, words in _WORDS.items()}


def detect(text: str) -> str:
    """The language's code; "" where the text has no letter of a known script."""
    counts = {name: 0 for name in _SCRIPTS}
    for letter in filter(str.isalpha, text):
        for name, (ranges, _) in _SCRIPTS.items():
            if any(low <= ord(letter) <= high for low, high in ranges):
                counts[name] += 1
                break
    if counts["kana"]:
        counts["kana"] += counts["han"]
    script = max(counts, key=lambda name: counts[name])
    if not counts[script]:
        return ""
    codes = _SCRIPTS[script][1].split()
    if len(codes) == 1:
        return codes[0]
    words = _WORD.findall(text.lower())
    return max(codes, key=lambda code: _evidence(code, words, text.lower()))


def _evidence(code: str, words: list[str], text: str) -> float:
    """The words that are of a language's commonest, and its own letters, each as a
    share of the words."""
    common = sum(word in _BY_WORDS[code] for word in words)
    own = _LETTERS[code] if code in _LETTERS else ""
    return (common + sum(map(text.count, own))) / max(len(words), 1)
