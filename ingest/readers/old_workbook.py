"""Spreadsheets of Excel up to 2003: what is shown of them, sheet by sheet."""

import io

import xlrd
from xlrd.biffh import XLRDError, error_text_from_code
from xlrd.sheet import Cell

from ingest.readers.document import Block, Read, locked
from ingest.readers.workbook import cell_text, fill_merged, hidden_cells, hidden_sheet, sheet_blocks, shown

# The day after 9999-12-31; Excel shows ###### for it, and for what is before the first day.
LAST_DAY = 2_957_004


def read_old_workbook(content: bytes) -> Read:
    """Excel up to 2003: a heading per sheet, then its rows with their header."""
    try:
        # What it says of odd files is said to nobody.
        book = xlrd.open_workbook(file_contents=content, formatting_info=True, logfile=io.StringIO())
    except XLRDError as error:
        raise locked() if "encrypted" in str(error) else error from None
    blocks: list[Block] = []
    notes: list[Block] = []
    hidden = 0
    for sheet in book.sheets():
        if sheet.visibility:
            notes.append(hidden_sheet(sheet.name))
            continue
        unseen = {column for column, how in sheet.colinfo_map.items() if how.hidden}
        rows = [[_text(book, cell) for cell in sheet.row(y)] for y in range(sheet.nrows)]
        hidden += sum(bool(cell) for row in rows for x, cell in enumerate(row) if x in unseen)
        rows = [["" if x in unseen else cell for x, cell in enumerate(row)] for row in rows]
        fill_merged(rows, ((top, left, bottom, right) for top, bottom, left, right in sheet.merged_cells))
        blocks += sheet_blocks(sheet.name, rows)
    return "", [*blocks, *notes, *([hidden_cells(hidden)] if hidden else [])]


def _text(book: xlrd.Book, cell: Cell) -> str:
    """Return a cell as Excel shows it."""
    if cell.ctype == xlrd.XL_CELL_DATE:
        if said := shown(cell.value, _format(book, cell)):
            return said
        if not 0 <= cell.value < LAST_DAY:
            return cell_text(cell.value)
        when = xlrd.xldate.xldate_as_datetime(cell.value, book.datemode)
        return cell_text(when if cell.value >= 1 else when.time())
    if cell.ctype == xlrd.XL_CELL_NUMBER:
        return shown(cell.value, _format(book, cell)) or cell_text(cell.value)
    if cell.ctype == xlrd.XL_CELL_BOOLEAN:
        return str(bool(cell.value))
    if cell.ctype == xlrd.XL_CELL_ERROR:
        return str(error_text_from_code.get(cell.value, "#N/A"))
    return cell_text(cell.value)


def _format(book: xlrd.Book, cell: Cell) -> str:
    return str(book.format_map[book.xf_list[cell.xf_index].format_key].format_str)
