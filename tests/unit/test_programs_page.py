"""docs/reference/sharing.md: its table of programs is the result of the last `./run test --programs`."""

from __future__ import annotations

import json

from tests.programs.matrix import PAGE, RESULT, with_table
from tests.programs.programs import PROGRAMS


def test_the_table_of_programs_is_made_from_the_last_result() -> None:
    rows = json.loads(RESULT.read_text())
    assert PAGE.read_text() == with_table(PAGE.read_text(), rows)
    assert len(rows) >= 40
    assert {row["program"] for row in rows} <= {program.name for program in PROGRAMS}


def test_each_program_has_a_name_of_its_own_and_a_way_to_run_it() -> None:
    names = [program.name for program in PROGRAMS]
    assert len(names) == len(set(names))
    assert all(program.how.strip() for program in PROGRAMS)
