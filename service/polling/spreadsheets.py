"""Cells of a CSV file that spreadsheets show as they are: no formulas, no text taken for numbers.

A spreadsheet takes text for a formula (OWASP, "CSV Injection"), a number, a date or a time, in
quotes or not. An apostrophe in front keeps it text. It may also be told to split lines at other
characters than commas, which finds the beginning of a cell amid a text.
"""

import re
import unicodedata

MAX_DIGITS = 15
"""A spreadsheet rounds whole numbers that have more."""
FORMULA_SIGNS = frozenset("=+-@⁺⁻⁼₊₋₌−⩵⩶﬩﹢﹣﹦﹫＋－＝＠")  # noqa: RUF001 - lookalikes are meant
"""With those that compatibility normalization turns into one."""
BLANK_LETTERS = frozenset("\u115f\u1160\u2800\u3164\uffa0")
"""Hangul fillers and the empty Braille pattern: invisible, though no space or control."""
SEPARATORS = re.compile("([;\t\n\v\f\r\x1c-\x1e\x85\u2028\u2029])")

_SUSPECT = re.compile(
    rf"[\x00-\x1f\x7f-\x9f\d{re.escape(''.join(FORMULA_SIGNS))}]|true|false", re.IGNORECASE
)
_PLAIN = re.compile(rf"0|[1-9][0-9]{{0,{MAX_DIGITS - 1}}}")
_DIGITS = r"[\d.,:/%()'’$€£¥+\-−]"  # noqa: RUF001
_MONTH = (
    r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?"
    r"|sept?(?:ember)?|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)"
)
_NUMBER_WORD = re.compile(
    rf"{_DIGITS}+(?:e[+\-]?\d{_DIGITS}*|[ap]m?)?|[ap]m?"
    rf"|(?:\d{{1,2}}[./\-]?)?{_MONTH}[.,]?(?:[./\-'’]?\d{{1,4}},?)?",  # noqa: RUF001
    re.IGNORECASE,
)


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
        return text
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


def is_number_like(text: str) -> bool:
    """Whether a spreadsheet may show another value: a number, amount, date, time or truth value."""
    words = text.split()
    if len(words) == 1 and words[0].lower() in ("true", "false"):
        return True
    if _PLAIN.fullmatch(text) or not any(map(str.isdigit, text)):
        return False
    if len(words) > 1 and all(map(str.isdecimal, words)):
        return all(len(word) == 3 for word in words[1:])  # 1 234; but 1 3 are two choices
    return all(map(_NUMBER_WORD.fullmatch, words))
