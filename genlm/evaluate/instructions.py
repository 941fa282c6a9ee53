"""INSTRUCTIONS: the 25 kinds of IFEval that a program can check, each a function of an
answer and of what the instruction names.

Before: ifeval, a row's ids and arguments. After: whether the answer follows. Source:
"Instruction-Following Evaluation for Large Language Models"
(https://arxiv.org/abs/2311.07911), and its published checker
(https://github.com/google-research/google-research/tree/master/instruction_following_eval),
whose rules these are, its quirks too: «1.» at the head of a line counts as a sentence,
and keywords are found within words. Other than there:
  languages     genlm.evaluate.languages, where it has langdetect
  sentences     `sentences`, where it has nltk's punkt: abbreviations are a short list
  capitals      words by a pattern, where it has nltk's word_tokenize
  names         keywords and section marks are texts, and no regular expressions
"""

import json
import re
from typing import Any, Callable, NamedTuple

from genlm.evaluate import languages

AT_LEAST, LESS_THAN = RELATIONS = ("at least", "less than")
_OPTIONS = ("My answer is yes.", "My answer is no.", "My answer is maybe.")
_ABBREVIATIONS = frozenset(
    "mr mrs ms dr prof sr jr st vs etc e.g i.e inc ltd co corp u.s u.k a.m p.m jan feb"
    " mar apr jun jul aug sept oct nov dec no vol fig gen rep sen gov lt col".split()
)
_END = re.compile(r"(\S*?)([.!?]+)[\"'”’)\]*]*(?=\s|$)")
_CAPITALS = re.compile(r"\w+(?:[-./&]\w+)*|['’]\w+")


class Kind(NamedTuple):
    """What an instruction's arguments are, by their names, and whether it is kept."""

    arguments: dict[str, type]
    check: Callable[..., bool]


def sentences(text: str) -> int:
    """How many sentences a text has: ends of words with . ! or ?, but for initials and
    abbreviations, and what stands after the last."""
    count, last = 0, 0
    for match in _END.finditer(text):
        word, mark = match[1].strip("\"'“‘([*").lower(), match[2]
        is_short = word in _ABBREVIATIONS or (len(word) == 1 and word.isalpha())
        if mark == "." and is_short and match.end() < len(text.rstrip()):
            continue
        count, last = count + 1, match.end()
    return count + bool(text[last:].strip())


def _holds(count: int, relation: str, threshold: int) -> bool:
    return count < threshold if relation == LESS_THAN else count >= threshold


def _has_words(answer: str, keywords: list[str]) -> bool:
    return all(re.search(re.escape(k), answer, re.IGNORECASE) for k in keywords)


def _has_word_often(answer: str, keyword: str, frequency: int, relation: str) -> bool:
    found = re.findall(re.escape(keyword.strip()), answer, re.IGNORECASE)
    return _holds(len(found), relation, frequency)


def _has_none_of(answer: str, forbidden_words: list[str]) -> bool:
    return not any(
        re.search(rf"\b{re.escape(word)}\b", answer, re.IGNORECASE)
        for word in forbidden_words
    )


def _has_letter_often(
    answer: str, letter: str, let_frequency: int, let_relation: str
) -> bool:
    count = answer.lower().count(letter.strip().lower())
    return _holds(count, let_relation, let_frequency)


def _is_in_language(answer: str, language: str) -> bool:
    return languages.detect(answer) in (language, "")  # "": cannot be told, as there


def _has_sentences(answer: str, num_sentences: int, relation: str) -> bool:
    return _holds(sentences(answer), relation, num_sentences)


def _has_paragraphs(answer: str, num_paragraphs: int) -> bool:
    first, *rest = (each.strip() for each in re.split(r"\s?\*\*\*\s?", answer))
    inner, last = rest[:-1], rest[-1:]
    if not all(inner):
        return False
    return bool(first) + len(inner) + sum(map(bool, last)) == num_paragraphs


def _has_num_words(answer: str, num_words: int, relation: str) -> bool:
    return _holds(len(re.findall(r"\w+", answer)), relation, num_words)


def _has_paragraph_with_first_word(
    answer: str, num_paragraphs: int, nth_paragraph: int, first_word: str
) -> bool:
    paragraphs = [each.strip() for each in answer.split("\n\n")]
    count = sum(map(bool, paragraphs))
    if not 1 <= nth_paragraph <= count or not paragraphs[nth_paragraph - 1]:
        return False
    word = paragraphs[nth_paragraph - 1].split()[0].lstrip("'").lstrip('"')
    word = re.split(r"[.,?!'\"]", word)[0].lower()
    return count == num_paragraphs and word == first_word.lower()


def _has_postscript(answer: str, postscript_marker: str) -> bool:
    marks = {"P.P.S": r"p\.\s?p\.\s?s", "P.S.": r"p\.\s?s\."}
    marker = postscript_marker.strip()
    pattern = marks[marker] if marker in marks else re.escape(marker.lower())
    return re.search(pattern, answer.lower()) is not None


def _has_placeholders(answer: str, num_placeholders: int) -> bool:
    return len(re.findall(r"\[.*?\]", answer)) >= num_placeholders


def _has_bullets(answer: str, num_bullets: int) -> bool:
    stars = re.findall(r"^\s*\*[^\*].*$", answer, re.MULTILINE)
    dashes = re.findall(r"^\s*-.*$", answer, re.MULTILINE)
    return len(stars) + len(dashes) == num_bullets


def _is_an_option(answer: str) -> bool:
    return any(option in answer for option in _OPTIONS)


def _has_highlights(answer: str, num_highlights: int) -> bool:
    single = re.findall(r"\*([^\n*]*)\*", answer)
    double = re.findall(r"\*\*([^\n*]*)\*\*", answer)
    return sum(bool(each.strip()) for each in single + double) >= num_highlights


def _has_sections(answer: str, section_spliter: str, num_sections: int) -> bool:
    mark = re.escape(section_spliter.strip())
    return len(re.findall(rf"\s?{mark}\s?\d+\s?", answer)) >= num_sections


def _is_json(answer: str) -> bool:
    text = answer.strip()
    for mark in ("```json", "```Json", "```JSON", "```"):
        text = text.removeprefix(mark)
    try:
        json.loads(text.removesuffix("```").strip())
    except (ValueError, RecursionError):
        return False
    return True


def _has_title(answer: str) -> bool:
    found = re.findall(r"<<[^\n]+>>", answer)
    return any(title.lstrip("<").rstrip(">").strip() for title in found)


def _has_two_responses(answer: str) -> bool:
    parts = [each.strip() for each in answer.split("******")]
    if not all(parts[1:-1]):
        return False
    told = [part for part in parts if part]
    return len(told) == 2 and told[0] != told[1]


def _repeats_prompt(answer: str, prompt_to_repeat: str) -> bool:
    return answer.strip().lower().startswith(prompt_to_repeat.strip().lower())


def _ends_with(answer: str, end_phrase: str) -> bool:
    return answer.strip().strip('"').lower().endswith(end_phrase.strip().lower())


def _is_quoted(answer: str) -> bool:
    text = answer.strip()
    return len(text) > 1 and text[0] == text[-1] == '"'


def _is_capital(answer: str) -> bool:
    return answer.isupper() and _is_in_language(answer, "en")


def _is_lowercase(answer: str) -> bool:
    return answer.islower() and _is_in_language(answer, "en")


def _has_capital_words(
    answer: str, capital_frequency: int, capital_relation: str
) -> bool:
    count = sum(word.isupper() for word in _CAPITALS.findall(answer))
    return _holds(count, capital_relation, capital_frequency)


def _has_no_comma(answer: str) -> bool:
    return "," not in answer


def _kind(check: Callable[..., bool], **arguments: Any) -> Kind:
    return Kind(arguments, check)


KINDS: dict[str, Kind] = {
    "keywords:existence": _kind(_has_words, keywords=list),
    "keywords:frequency": _kind(
        _has_word_often, keyword=str, frequency=int, relation=str
    ),
    "keywords:forbidden_words": _kind(_has_none_of, forbidden_words=list),
    "keywords:letter_frequency": _kind(
        _has_letter_often, letter=str, let_frequency=int, let_relation=str
    ),
    "language:response_language": _kind(_is_in_language, language=str),
    "length_constraints:number_sentences": _kind(
        _has_sentences, num_sentences=int, relation=str
    ),
    "length_constraints:number_paragraphs": _kind(_has_paragraphs, num_paragraphs=int),
    "length_constraints:number_words": _kind(
        _has_num_words, num_words=int, relation=str
    ),
    "length_constraints:nth_paragraph_first_word": _kind(
        _has_paragraph_with_first_word,
        num_paragraphs=int,
        nth_paragraph=int,
        first_word=str,
    ),
    "detectable_content:number_placeholders": _kind(
        _has_placeholders, num_placeholders=int
    ),
    "detectable_content:postscript": _kind(_has_postscript, postscript_marker=str),
    "detectable_format:number_bullet_lists": _kind(_has_bullets, num_bullets=int),
    "detectable_format:constrained_response": _kind(_is_an_option),
    "detectable_format:number_highlighted_sections": _kind(
        _has_highlights, num_highlights=int
    ),
    "detectable_format:multiple_sections": _kind(
        _has_sections, section_spliter=str, num_sections=int
    ),
    "detectable_format:json_format": _kind(_is_json),
    "detectable_format:title": _kind(_has_title),
    "combination:two_responses": _kind(_has_two_responses),
    "combination:repeat_prompt": _kind(_repeats_prompt, prompt_to_repeat=str),
    "startend:end_checker": _kind(_ends_with, end_phrase=str),
    "startend:quotation": _kind(_is_quoted),
    "change_case:english_capital": _kind(_is_capital),
    "change_case:english_lowercase": _kind(_is_lowercase),
    "change_case:capital_word_frequency": _kind(
        _has_capital_words, capital_frequency=int, capital_relation=str
    ),
    "punctuation:no_comma": _kind(_has_no_comma),
}
