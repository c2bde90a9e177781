"""The table of options, and what is derived from it or must agree with it."""

from dataclasses import fields

import pandas as pd
import pytest
from studies import made

from seqlab.cells import CELLS
from seqlab.figures.names import FIELDS as AXES
from seqlab.report import tidy
from seqlab.spec.option import settings
from seqlab.spec.run import RunSpec
from seqlab.spec.table import TABLE


def test_a_spec_has_the_fields_of_the_table_in_its_order():
    assert [field.name for field in fields(RunSpec)] == list(TABLE)
    assert list(made().spec.to_dict()) == list(TABLE)


@pytest.mark.parametrize("name", TABLE.defaults)
def test_defaults_are_in_their_canonical_form(name):
    assert TABLE[name].parse(name, TABLE[name].default) == TABLE[name].default


def test_each_option_of_a_cell_is_in_the_table():
    for cell in CELLS.values():
        assert cell.options <= set(TABLE)
        assert (cell.forget_gate is not None) == ("forget_bias" in cell.options)


def of_these(expected, found):
    """Those found that are expected, in their order: options to come are none of this test's."""
    return [name for name in found if name in expected]


def test_files_and_figures_keep_their_order():
    """What files, tables and figures have is read by others: it stays where it is."""
    draws = ["activation", "init", "gain", "input_scale", "drive", "forget_bias"]
    sizes = ["steps", "hidden", "inputs", "state"]
    spec = ["arch", *sizes, "networks", "seed", *draws]
    files = ["params", "module", "input"]
    everything = [*spec, "clip", "lengths", "spectrum", "dtype", *files]
    assert of_these(everything, TABLE) == everything
    assert of_these([*spec, "dtype", *files], tidy.SPEC) == [*spec, "dtype", *files]
    curves = list(made().to_dataframe().columns)
    assert of_these(everything, curves) == [*spec, "dtype"]
    first = [*sizes, "networks", "seed", "dtype", "drive", "activation", "init", "gain"]
    heading = [*first, "input_scale", "forget_bias", *files]
    assert of_these(everything, settings(TABLE)) == heading
    axes = ["arch", "init", "gain", "forget_bias", "activation", "input_scale", "drive", "clip"]
    axes = [*axes, *sizes, *files, "dtype", "networks", "seed"]
    assert of_these(everything, AXES) == axes


def test_a_column_of_the_table_of_a_store_is_one_of_the_table_of_options():
    table = tidy.frame([made()])
    assert isinstance(table, pd.DataFrame)
    in_table = [name for name, row in TABLE.items() if row.in_table]
    assert [name for name in table.columns if name in in_table] == in_table
