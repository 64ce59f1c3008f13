"""What a spreadsheet makes of the CSV export."""

import csv
import io
import re
import shutil
import subprocess
import sys
import unicodedata
import xml.etree.ElementTree as Xml
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from service.polling.spreadsheets import FORMULA_SIGNS, cell, harmless, quoted

OFFICE = shutil.which("soffice")
needs_office = pytest.mark.skipif(
    OFFICE is None,
    reason="The file is opened in LibreOffice, which is not installed: "
    "apt-get install libreoffice-calc",
)

FORMULAS = ["=1+1", "+1", "-1", "@A1", "\x00=1", "\x85tea", " =1", "\u200b=1", "\u3164=1"]
FORMULAS += ["\u2800-1", "\ufe0f@x", "\uff1d1", "\uff0b1", "\uff0d1", "\uff20A1", "\ufe631"]
FORMULAS += ["\u207a1", "\N{MINUS SIGN}1", " \uff1d1", '=HYPERLINK("x","y")', "\u034f+1"]
NUMBERS = [
    "007",
    "1/2",
    "1E5",
    "1e+5",
    "1-2",
    "2126-01-31",
    "2126-01-31 10:30",
    "10:30",
    "1.2.2026",
]
NUMBERS += ["5.5", "1,234", "1 234", "1\u00a0234 567", "5%", "$5", "5 €", "(5)", "5-", "1 1/2"]
NUMBERS += ["Jan 5", "5 May 2026", "MAR1", "1-Jan-26", "12 pm", "12pm", "TRUE", "false", " 007"]
NUMBERS += ["9007199254740991", "\u0660\u0660\u0667"]
HARMLESS = ["", "tea", "7", "0", "2026", "999999999999999", "a=1", "⭐", "é", "e\u0301", "'=1"]
HARMLESS += ['"=1"', " tea", "?-", "\u2013", "\u2014", "tea, -5", "true enough", "May", "Option 1"]
HARMLESS += ["1 3", "2 144 7", "12 cups", "5 Mayors", "Decaf 2", "Version 1.2", "line\nline", "a;b"]
HARMLESS += [
    "Monday",
    "Mai",
    "Option 12",
    "5 of 6",
    "一二三",
    "\u3007クイズ",
    "A1",
    "Covid-19",
    "G20",
    "5!",
    "5?",
    "I like 5 May",
]
IN_LANGUAGES = {
    1033: [*NUMBERS, "2126-01-31T10:30:00", "2126-01-31t10:30:00Z", "Monday, May 5, 2026", "Sep 5"],
    1031: ["Mai 5", "5. Mai", "Mo, 5. Okt 26", "Montag, 5. März 2026", "wahr", "FALSCH", "5 €"],
    1036: ["5 août", "lundi 5 févr. 2026", "VRAI", "faux"],
    1029: ["5. května", "5. V. 2026", "v1.2", "5 Kč", "PRAVDA", "nepravda"],
    1049: ["5 мая", "пн, 5 мая 2026 г.", "ИСТИНА", "ложь"],  # noqa: RUF001
    3082: ["5 de mayo de 2026", "lunes, 5 de mayo de 2026", "verdadero"],
    1041: [
        "\u3007",
        "一〇",
        "二〇二六",
        "二〇二六年一月一日",
        "2026年1月31日",
        "\uff11\uff0f\uff12",
        "R8.1.5",
    ],
    1025: ["5 ص", "1\u066c234", "صح"],
}
"""By the number of the language, as LibreOffice and Excel have it."""
AMID = {
    "great;=HYPERLINK(1)": "great;'=HYPERLINK(1)",
    "great; \u200b+1": "great;' \u200b+1",
    'great;""=1': 'great;\'""=1',
    "great\t@x\tgreat": "great\t'@x\tgreat",
    "great\r\n-1\n=1": "great\r\n'-1\n'=1",
    "great\u2028=1": "great\u2028'=1",
    "\t=1": "'\t'=1",
    "\n=1": "'\n'=1",
    "=1;=1": "'=1;'=1",
}


@pytest.mark.parametrize(
    "text",
    [*FORMULAS, *NUMBERS, *(text for texts in IN_LANGUAGES.values() for text in texts)],
    ids=ascii,
)
def test_what_a_spreadsheet_may_take_for_something_else_gets_an_apostrophe(text: str) -> None:
    assert harmless(text) == f"'{text}"


@pytest.mark.parametrize("text", HARMLESS, ids=ascii)
def test_text_that_stays_what_it_is_is_unchanged(text: str) -> None:
    assert harmless(text) == text


@pytest.mark.parametrize("text", AMID, ids=ascii)
def test_a_formula_amid_a_text_gets_an_apostrophe_where_a_cell_could_begin(text: str) -> None:
    assert harmless(text) == AMID[text]


def test_every_character_that_is_compatible_with_a_formula_sign_counts_as_one() -> None:
    signs = tuple("=+-@\N{MINUS SIGN}")
    compatible = [
        character
        for character in map(chr, range(sys.maxunicode + 1))
        if unicodedata.normalize("NFKC", character).startswith(signs)
    ]
    assert frozenset(compatible) == FORMULA_SIGNS


INVISIBLE = "\\s\\x00\\x85\\u034f\\u200b\\u2800\\u3164\\ufe0f"
BEGINS_FORMULA = re.compile(f"[{INVISIBLE}]*[{re.escape(''.join(FORMULA_SIGNS))}]")


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_no_cell_begins_a_formula_whichever_separator_a_program_takes(separator: str) -> None:
    texts = [*FORMULAS, *AMID, *(f"a{mark}=1" for mark in ";\t\n\r"), 'a";=1', '"";=1', '";"=1']
    row = ",".join(map(cell, ("choice", 1, *texts, None, 2.5)))
    lines = io.StringIO(f"{row}\r\n", newline="")
    for fields in csv.reader(lines, delimiter=separator):
        for field in fields:
            assert not BEGINS_FORMULA.match(field), field


def test_numbers_that_a_spreadsheet_would_round_are_text() -> None:
    assert cell(10**15 - 1) == "999999999999999"
    assert cell(2**53 - 1) == '"\'9007199254740991"'
    assert [cell(one) for one in (0, 66.7, None, 'a "b"')] == ["0", "66.7", "", '"a ""b"""']


class Cell(NamedTuple):
    """What LibreOffice made of a cell, of which the file said what it was to be."""

    kind: str
    formula: str | None
    text: str


@needs_office
def test_libreoffice_shows_every_text_as_it_is_and_finds_no_formula(tmp_path: Path) -> None:
    texts = [*FORMULAS, *NUMBERS, *filter(None, HARMLESS), *AMID, '=HYPERLINK("http://x","y")']
    texts = [text for text in texts if not set(text) & set("\x00\x85\u2028\r")]  # not in XML
    rows = "".join(f"{quoted('choice')},1,{cell(text)}\r\n" for text in texts)
    by_commas = opened_in_office(tmp_path, rows, ",")
    for text, (kind, number, shown) in zip(texts, by_commas, strict=True):
        assert (kind.text, number.kind, shown.formula) == ("choice", "float", None)
        # The format of the result keeps spaces and tabs in another way.
        assert "".join(shown.text.split()) == "".join(harmless(text).split())
        assert shown.kind == ("float" if text.isdecimal() and shown.text == text else "string")
    everywhere = [one for row in opened_in_office(tmp_path, rows, ";") for one in row]
    assert [one for one in everywhere if one.formula] == []


@needs_office
@pytest.mark.parametrize("language", IN_LANGUAGES)
def test_nothing_changes_in_libreoffice_in_another_language(tmp_path: Path, language: int) -> None:
    texts = [*IN_LANGUAGES[language], *filter(None, HARMLESS)]
    rows = "".join(f"{quoted('choice')},1,{cell(text)}\r\n" for text in texts)
    opened = opened_in_office(tmp_path, rows, ",", language)
    for text, (_, _, shown) in zip(texts, opened, strict=True):
        assert shown.kind == ("float" if text.isdecimal() and shown.text == text else "string"), (
            text
        )
        assert "".join(shown.text.split()) == "".join(harmless(text).split())


SPACES = {
    "table": "urn:oasis:names:tc:opendocument:xmlns:table:1.0",
    "office": "urn:oasis:names:tc:opendocument:xmlns:office:1.0",
    "text": "urn:oasis:names:tc:opendocument:xmlns:text:1.0",
}


def opened_in_office(
    home: Path, rows: str, separator: str, language: int = 0
) -> list[Sequence[Cell]]:
    """The rows of a CSV file as LibreOffice reads them with a separator, looking for numbers.

    It looks for those of a language, by default that of the system.
    """
    (home / "export.csv").write_bytes(b"\xef\xbb\xbf" + rows.encode())
    options = f"CSV:{ord(separator)},34,76,1,,{language},false,true"
    subprocess.run(
        [
            *(str(OFFICE), f"-env:UserInstallation=file://{home}/profile", "--headless"),
            *(f"--infilter={options}", "--convert-to", "fods", "--outdir", str(home)),
            str(home / "export.csv"),
        ],
        check=True,
        capture_output=True,
        timeout=60,
    )
    rows_found = Xml.parse(home / "export.fods").iter(f"{{{SPACES['table']}}}table-row")
    return [list(cells_of(row)) for row in rows_found]


def cells_of(row: Xml.Element) -> Iterator[Cell]:
    for one in row.findall("table:table-cell", SPACES):
        lines = ["".join(line.itertext()) for line in one.findall("text:p", SPACES)]
        yield Cell(
            one.get(f"{{{SPACES['office']}}}value-type", ""),
            one.get(f"{{{SPACES['table']}}}formula"),
            "\n".join(lines),
        )
