"""Duke's clinical spreadsheet: the attributes that are joined from it by patient.

Source: Duke-Breast-Cancer-MRI (Saha et al. 2018, TCIA, doi 10.7937/TCIA.e3sv-re93), Clinical_and_Other_Features.xlsx.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from robustbench_spur import spreadsheet
from robustbench_spur.spreadsheet import HEADER_ROWS, decode, words
from robustbench_spur.types import SpurbenchError

SPREADSHEET = "Clinical_and_Other_Features.xlsx"
SPREADSHEET_SOURCE = "TCIA, Duke-Breast-Cancer-MRI, doi 10.7937/TCIA.e3sv-re93"
PATIENT_COLUMN = ("Patient Information", "Patient ID")


@dataclass(frozen=True)
class Attribute:
    """Where an attribute stands in the spreadsheet, and what its values are called here.

    Args:
        name: of the attribute.
        section: in the first header row.
        column: in the second header row; names repeat across sections.
        code_first: whether the coding in the third header row reads ``0 = pre`` (True) or ``SIEMENS=2`` (False).
        values: the coding's wording, and our name of the value; other wordings are refused.
        order: our names by attribute code, the one tied to tumour last; empty where training tells both.
        tied: whether the value with code 1 must be the one tied to tumour in training.
        rounded: wordings that are merged into a neighbour, which a note then says.
        note: what a record must repeat.
    """

    name: str
    section: str
    column: str
    code_first: bool
    values: Mapping[str, str]
    order: tuple[str, ...] = ()
    tied: bool = True
    rounded: tuple[str, ...] = ()
    note: str = ""


_MRI = "MRI Technical Information"
_FIELD = Attribute(
    name="field strength",
    section=_MRI,
    column="Field Strength (Tesla)",
    code_first=False,
    values={"1.5": "1.5T", "3": "3T"},
    order=("3T", "1.5T"),
)
_BASELINE = replace(
    _FIELD,
    values={"1.494": "1.5T", "1.5": "1.5T", "2.8936": "3T", "3": "3T"},
    tied=False,
    rounded=("1.494", "2.8936"),
)
ATTRIBUTES = {
    "field_strength": _FIELD,
    "vertical_flip": Attribute(
        name="orientation",
        section=_MRI,
        column="Manufacturer",
        code_first=False,
        values={"GE MEDICAL SYSTEMS": "breasts-down", "SIEMENS": "breasts-up"},
        note=(
            "Orientation is inferred from the manufacturer (GE stored breasts-down, Siemens breasts-up), since the"
            " spreadsheet has no column for it: it cannot be told from vendor and native matrix."
        ),
    ),
    "menopause": Attribute(
        name="menopause",
        section="Demographics",
        column="Menopause (at diagnosis)",
        code_first=True,
        values={"pre": "pre", "post": "post"},
    ),
    "race_and_ethnicity": Attribute(
        name="race and ethnicity",
        section="Demographics",
        column="Race and Ethnicity",
        code_first=True,
        values={
            "white": "white",
            "black": "black",
            "asian": "asian",
            "native": "native",
            "hispanic": "hispanic",
            "multi": "multi",
            "hawa": "hawaiian",
            "amer indian": "american-indian",
        },
    ),
    "surgery_type": Attribute(
        name="surgery type",
        section="SURGERY",
        column="Definitive Surgery Type",
        code_first=True,
        values={"BCS": "BCS", "mastectomy": "mastectomy"},
    ),
    "baseline_high": _BASELINE,
    "baseline_mid": _BASELINE,
    "baseline_low": _BASELINE,
}
"""The attribute of each split of SpurBreast; that of a baseline is tied to nothing."""


def patient_id(number: int) -> str:
    """Duke's way to write a patient.

    >>> patient_id(7)
    'Breast_MRI_007'
    """
    return f"Breast_MRI_{number:03d}"


@dataclass(frozen=True)
class Spreadsheet(spreadsheet.Spreadsheet):
    """Duke's clinical table, whose patients are numbered."""

    def column(self, attribute: Attribute) -> dict[int, str]:
        """The meaning of every patient's code; where a cell holds none (blank, NA, NP, 1.5), its text and that remark.

        Returns:
            By Duke's patient number.

        Raises:
            SpurbenchError: a patient id is malformed or occurs twice, or the column or its coding is not there.
        """
        ids, position = self.known(*PATIENT_COLUMN), self.known(attribute.section, attribute.column)
        coding = self.coding(position, code_first=attribute.code_first)
        if not coding:
            text = words(self.cells[2][position])
            raise SpurbenchError(
                f"Expected 'code = meaning' above {attribute.column!r} in {self.path}, found {text!r}."
            )
        out: dict[int, str] = {}
        for line, row in enumerate(self.rows, start=HEADER_ROWS + 1):
            match = re.fullmatch(r"Breast_MRI_(\d+)", words(row[ids]), re.ASCII)
            if match is None or int(match[1]) in out:
                what = "a new id such as Breast_MRI_001"
                raise SpurbenchError(f"Expected {what} in row {line} of {self.path}, found {words(row[ids])!r}.")
            out[int(match[1])] = decode(row[position], coding)
        return out

    def known(self, section: str, column: str) -> int:
        """Position of a column that the published file has.

        Raises:
            SpurbenchError: this file does not have it, or twice.
        """
        try:
            return self.position(section, column)
        except SpurbenchError as error:
            raise SpurbenchError(f"{error} Get the file again ({SPREADSHEET_SOURCE}).") from None
