"""Cells of a CSV file that spreadsheets show as they are: no formulas, no text taken for numbers.

A spreadsheet takes text for a formula (OWASP, "CSV Injection"), a number, a date or a time, in
quotes or not. An apostrophe in front keeps it text. It may also be told to split lines at other
characters than commas, which finds the beginning of a cell amid a text.
"""

import re
import unicodedata
from pathlib import Path

MAX_DIGITS = 15
"""A spreadsheet rounds whole numbers that have more."""
FORMULA_SIGNS = frozenset("=+-@⁺⁻⁼₊₋₌−⩵⩶﬩﹢﹣﹦﹫＋－＝＠")  # noqa: RUF001 - lookalikes are meant
"""With those that compatibility normalization turns into one."""
BLANK_LETTERS = frozenset("\u115f\u1160\u2800\u3164\uffa0")
"""Hangul fillers and the empty Braille pattern: invisible, though no space or control."""
SEPARATORS = re.compile("([;\t\n\v\f\r\x1c-\x1e\x85\u2028\u2029])")
HAN_ZERO = "\N{IDEOGRAPHIC NUMBER ZERO}"
_HAN_DIGITS = str.maketrans("〇一二三四五六七八九", "0123456789")
"""LibreOffice reads these as digits where a zero is among them."""

_SUSPECT = re.compile(rf"[\x00-\x1f\x7f-\x9f\d{HAN_ZERO}{re.escape(''.join(FORMULA_SIGNS))}]")
_PLAIN = re.compile(rf"0|[1-9][0-9]{{0,{MAX_DIGITS - 1}}}")
NUMBER_SIGNS = frozenset(".,:/%()'’+-−٫٬٪")  # noqa: RUF001
"""Beside digits and signs of currencies, what a number, a date or a time may have."""
MAX_LETTERS = 60
"""More than a date has in any language."""
_NO_LETTERS = re.compile(r"[\W\d_]+")
_DOT_AMID_WORD = re.compile(r"(?<=[^\W\d_])\.(?=[^\W\d_])")
"""As in ``a.m.``."""


def _read_words(name: str) -> frozenset[str]:
    """The lines of a file beside this one."""
    return frozenset(Path(__file__).with_name(name).read_text("utf-8").splitlines())


DATE_WORDS = _read_words("date_words.txt")
"""Words beside the digits of a date, a time or an amount: months, weekdays and what joins them.

In lower case, in all languages of LibreOffice, with those that Unicode's CLDR has beside them.
"""
TRUTH_VALUES = _read_words("truth_values.txt")
"""True and false, in lower case and all languages of LibreOffice."""


def cell(value: object) -> str:
    """Empty for None; a number that a spreadsheet keeps as it is; everything else in quotes."""
    if value is None:
        return ""
    if isinstance(value, str):
        return quoted(harmless(value))
    text = str(value)
    return quoted(f"'{text}") if isinstance(value, int) and len(text) > MAX_DIGITS else text


def quoted(text: str) -> str:
    doubled = text.replace('"', '""')
    return f'"{doubled}"'


def harmless(text: str) -> str:
    """The text with an apostrophe wherever a spreadsheet would make something else of it."""
    if not _SUSPECT.search(text):
        return f"'{text}" if _is_truth_value(text) else text
    first, *rest = SEPARATORS.split(text)
    is_control = unicodedata.category(text[0]) == "Cc"
    if is_control or _begins_formula(first) or is_number_like(text):
        first = f"'{first}"
    for place in range(1, len(rest), 2):
        # The quotes would be those around a cell.
        if _begins_formula(rest[place].replace('"', "")):
            rest[place] = f"'{rest[place]}"
    return "".join((first, *rest))


def _begins_formula(text: str) -> bool:
    """Whether the first character that can be seen is a formula sign."""
    for character in text:
        if unicodedata.category(character)[0] not in "CMZ" and character not in BLANK_LETTERS:
            return character in FORMULA_SIGNS
    return False


def _is_truth_value(text: str) -> bool:
    return _folded(text) in TRUTH_VALUES


def _folded(text: str) -> str:
    """In lower case, in characters of usual width, and with one space between words."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def is_number_like(text: str) -> bool:
    """Whether a spreadsheet may show another value: a number, amount, date, time or truth value.

    In any language: what has digits is text only if it has a word or a sign that none of these has.
    """
    if _PLAIN.fullmatch(text):
        return False
    if HAN_ZERO in text:
        text = text.translate(_HAN_DIGITS)
    if not any(map(str.isdecimal, text)):
        return _is_truth_value(text)
    numbers = text.split()
    if len(numbers) > 1 and all(map(str.isdecimal, numbers)):
        return all(len(number) == 3 for number in numbers[1:])  # 1 234; but 1 3 are two choices
    if len(_NO_LETTERS.sub("", text)) > MAX_LETTERS:
        return False
    signs, letters = [], []
    for character in _DOT_AMID_WORD.sub("", _folded(text)):
        is_letter = unicodedata.category(character)[0] in "LM"
        letters.append(character if is_letter else " ")
        signs.append(" " if is_letter else character)
    return all(map(_is_of_number, signs)) and DATE_WORDS.issuperset("".join(letters).split())


def _is_of_number(sign: str) -> bool:
    category = unicodedata.category(sign)
    return sign in NUMBER_SIGNS or category == "Sc" or category[0] in "NZC"
