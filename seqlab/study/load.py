"""The sound results of a store in one table."""

import io
import os
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from seqlab.errors import InputError
from seqlab.report import tidy
from seqlab.study import files
from seqlab.study.run import Folder
from seqlab.study.store import Report, Store
from seqlab.wording import one_of, short_repr

if TYPE_CHECKING:
    import pandas as pd

FORMATS = (".csv", ".parquet")


def load(store: Folder, report: Report = warnings.warn) -> "pd.DataFrame":
    """The table of all sound results in a folder; see `seqlab.report.tidy` for its columns.

    `report(line)` is called for each file that is not sound. Raises InputError where there is no
    such folder, or no result in it.
    """
    table = tidy.frame(Store(Path(store)).results(report))
    if table is None:
        raise InputError(f"store: {store} has no result")
    return table


def export(store: Folder, path: str | os.PathLike[str], report: Report = warnings.warn) -> None:
    """Write the table of a store as CSV or Parquet, whole or not at all.

    Raises InputError for another suffix, for Parquet without pyarrow, for a path that cannot be
    written, and as `load` does.
    """
    path = Path(path)
    if path.suffix not in FORMATS:
        raise InputError(f"output: {short_repr(str(path))} has no known format; {one_of(FORMATS)}")
    if path.suffix == ".parquet" and find_spec("pyarrow") is None:
        raise InputError("output: Parquet needs pyarrow, which is not here; .csv does not")
    if not path.parent.is_dir():
        raise InputError(f"output: {path.parent} is not a folder; make it first")
    files.require_writable("output", path, 0)
    files.write_whole(path, _encoded(load(store, report), path.suffix))


def _encoded(table: "pd.DataFrame", suffix: str) -> bytes:
    if suffix == ".csv":
        return table.to_csv(index=False).encode()
    mixed = [name for name in table.columns if table[name].dtype == object]  # numbers and words
    buffer = io.BytesIO()
    table.astype(dict.fromkeys(mixed, "string")).to_parquet(buffer, index=False)
    return buffer.getvalue()
