"""Three header rows: codings in every spelling people use are read, remarks are not, and Duke's real ones are all right."""

import csv
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robustbench_spur.spreadsheet import Spreadsheet, decode, is_three_header_form, parse_coding, words
from robustbench_spur.types import SpurbenchError

DATA = Path(os.environ.get("SPURBENCH_TEST_DATA", Path(__file__).resolve().parents[1] / ".." / "shared" / "data"))
FOLDER = DATA / "duke_breast_mri_metadata"


@pytest.mark.parametrize(
    ("text", "meanings"),
    [
        ("GE MEDICAL SYSTEMS=0, MPTronic software=1", {"0": "GE MEDICAL SYSTEMS", "1": "MPTronic software"}),
        ("A\\B\\FS=0,FS=1, Agent not stated(but tag was there)=2 ", None),
        ("{0 = N/A\n1 = white,\n7 = hawa,    8 = amer indian}", {"0": "N/A", "1": "white", "7": "hawa"}),
        ("{0 = luminal-like,\n1 = ER/PR pos, HER2 pos, 2 = her2}", {"1": "ER/PR pos, HER2 pos", "2": "her2"}),
        ("1=low 2=intermediate 3=high\n", {"1": "low", "2": "intermediate", "3": "high"}),
        ("Bilateral?\n{ 0=no 1=yes}", {"0": "no", "1": "yes"}),
        ("Side of cancer L=left R=right", {"L": "left", "R": "right"}),
        (" (0=no, 1=yes (sure))", {"0": "no", "1": "yes (sure)"}),
        ("{ -1 = TX;  0 = T0;  5 = Tis (DCIS);  NA = not applicable}", {"-1": "TX", "5": "Tis (DCIS)"}),
        ("{0 = none, 2 = near} \n*Loose means:\n2 = Near complete (noted)\n3 = 95% gone", {"0": "none", "2": "near"}),
        ("1.494=0,1.5=1,2.8936=2,3=3", {"0": "1.494", "1": "1.5", "3": "3"}),
        ("7=0,8=1,10=2,12=3", {"0": "7", "1": "8", "2": "10", "3": "12"}),
        ("0=7,1=8,2=10", {"0": "7", "1": "8", "2": "10"}),
        ("FFP=0,HFP=1", {"0": "FFP", "1": "HFP"}),
        ("0=größer,\n1=Δ", {"0": "größer", "1": "Δ"}),
    ],
)
def test_a_coding_is_read_in_every_spelling(text: str, meanings: dict[str, str] | None) -> None:
    found = parse_coding(text)
    assert len(found) >= 2
    assert found.items() >= (meanings or {"0": "A\\B\\FS", "2": "Agent not stated(but tag was there)"}).items()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "(day zero = diagnosis) [numeric entries only]",
        "Tumor Grade(T)\n(Tubule)",
        "score {#}",
        "1.5 or 3",
        "1.5=1,3=1",
        "0=a, 0=b",
        "0=, 1=yes",
    ],
)
def test_a_remark_or_a_contradiction_is_no_coding(text: str) -> None:
    assert parse_coding(text) == {}


def test_where_both_sides_count_up_the_cells_tell_the_codes() -> None:
    assert parse_coding("7=0,8=1", [0, 1, 0]) == {"0": "7", "1": "8"}
    assert parse_coding("7=0,8=1", [7.0, 8, "8"]) == {"7": "0", "8": "1"}
    with pytest.raises(SpurbenchError, match="tells codes from meanings, found '7=0,8=1'"):
        parse_coding("7=0,8=1", ["NA"])


@given(st.lists(st.text("abcdefg hij-/", min_size=1).map(words).filter(bool), min_size=1, max_size=9), st.booleans())
def test_what_is_written_is_read_back(meanings: list[str], code_first: bool) -> None:
    pairs = [f"{i} = {text}" if code_first else f"{text}={i}" for i, text in enumerate(meanings)]
    text = "{" + ",\n".join(pairs) + "}" if code_first else ", ".join(pairs)
    assert parse_coding(text) == {str(i): meaning.strip(" ,;") for i, meaning in enumerate(meanings)}


def test_a_cell_without_a_code_keeps_its_text_and_is_no_meaning() -> None:
    coding = parse_coding("1.5=1,3=3")
    assert [decode(cell, coding) for cell in (1, 1.0, "3", 1.5)] == ["1.5", "1.5", "3", "1.5 (no known code)"]


def test_names_and_sections_of_a_sheet(tmp_path: Path) -> None:
    cells: list[list[object]] = [
        ["Who", "MRI", None, "", "BIRADS"],
        ["ID", " Flip\n Angle ", "Flip Angle", "", None],
        ["", "", "x=0, y=1", "Grade (N)\n{1=low}", ""],
        ["p1", 1, 7, 1, ""],
    ]
    sheet = Spreadsheet(tmp_path / "t.xlsx", cells)
    assert sheet.sections == ("Who", "MRI", "MRI", "MRI", "BIRADS")
    assert sheet.names == ("ID", "Flip Angle", "Flip Angle", "Grade (N)", "BIRADS")
    assert sheet.coding(2) == {}, "no cell follows it, so it is a remark"
    assert sheet.coding(3) == {"1": "low"}
    with pytest.raises(SpurbenchError, match=r"one column 'Flip Angle' in section 'MRI' of .*t\.xlsx, found 2"):
        sheet.position("MRI", "Flip Angle")


def test_a_remark_that_most_cells_do_not_follow_is_no_coding(tmp_path: Path) -> None:
    cells: list[list[object]] = [
        ["", ""],
        ["ID", "Days"],
        ["", "(day 0 = diagnosis)"],
        ["p1", 0],
        ["p2", 12],
        ["p3", -3],
    ]
    assert Spreadsheet(tmp_path, cells).coding(1) == {}
    assert Spreadsheet(tmp_path, [*cells[:4], ["p2", 0], ["p3", "NA"]]).coding(1) == {"0": "diagnosis"}


def test_three_header_rows_are_known_by_their_structure() -> None:
    rows: list[list[object]] = [["Who", "MRI"], ["ID", "Vendor"], [None, "GE=0"], ["p1", 0]]
    assert is_three_header_form(rows, "ID")
    assert not is_three_header_form(rows[1:], "ID")
    assert not is_three_header_form(rows[:2], "ID")
    assert not is_three_header_form([*rows[:2], ["p0", "GE=0"]], "ID"), "a patient, not a coding"


@pytest.fixture(scope="module")
def duke() -> Spreadsheet:
    path = FOLDER / "Clinical_and_Other_Features.xlsx"
    if not path.is_file():
        pytest.skip(f"no Duke spreadsheet at {path}")
    return Spreadsheet.read(path)


def test_dukes_codings_agree_with_the_authors_own_table_of_categories(duke: Spreadsheet) -> None:
    """The table's text holds every pair as written, and inside its braces no other pair."""
    with (FOLDER / "clinical_feature_categories_mazurowski.csv").open(encoding="utf-8-sig", newline="") as file:
        texts = list(csv.reader(file))[1]
    checked = 0
    for position, text in enumerate(texts, start=1):  # that table has no patient column
        coding = duke.coding(position)
        bare = "".join(text.split()).partition("}")[0]
        assert bare.count("=") == len(coding), duke.names[position]
        for code, meaning in coding.items():
            tight = "".join(meaning.split())
            assert f"{code}={tight}" in bare or f"{tight}={code}" in bare
            checked += 1
    assert checked > 300
    assert "7" not in duke.coding(duke.position("MRI Technical Information", "Flip Angle"))


def test_dukes_cells_hold_the_codes_and_not_the_meanings(duke: Spreadsheet) -> None:
    missing = {"", "NA", "NC", "NP"}
    loose = {"Calcifications", "Shape", "Margin", "Echogenicity"}  # cells such as "0 [1]", which no code explains
    for position, name in enumerate(duke.names):
        coding = duke.coding(position)
        strangers = {words(row[position]) for row in duke.rows} - coding.keys() - missing
        assert not coding or not strangers or name in loose, name
