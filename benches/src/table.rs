//! The results as text: a table for each scenario, with ratios to the limit next to the figures.

use comfy_table::presets::ASCII_MARKDOWN;
use comfy_table::{CellAlignment, Table};

use crate::calls::Calls;
use crate::figures::{Cell, Paired, Spread};
use crate::instructions::Instructions;
use crate::load::Latency;
use crate::memory::Memory;
use crate::scenarios::{Judge, Protocol, Unit};
use crate::servers::LIMIT;
use crate::speed::Row;

/// Returns the cell that a scenario's ratios are against, if that one takes part.
pub(crate) fn reference(row: &Row) -> Option<&Cell> {
    row.cell(limit(row))
}

/// Returns the server whose figures are 1.00.
pub(crate) fn limit(row: &Row) -> &'static str {
    match row.scenario.protocol {
        Protocol::Echo => LIMIT,
        // There the question is what one writes; ours is the measure.
        Protocol::Lines => "lines-readiness",
    }
}

pub(crate) fn speed(row: &Row) -> String {
    let unit = row.scenario.unit;
    let rate = match unit {
        Unit::Message => "messages/s",
        Unit::Block => "MB/s",
        Unit::Visit => "visits/s",
    };
    let cpu = format!("cpu µs/{}", unit.name());
    let header = [
        "server",
        rate,
        "ratio",
        "median",
        "ratio",
        "by round",
        &cpu,
        "ratio",
        "median",
        "ratio",
        "by round",
        "load's",
        "p50 µs",
        "p99 µs",
        "ratio",
        "p99.9 µs",
        "worst p99",
        "others MB/s",
    ];
    let mut table = table(&header);
    for cell in &row.cells {
        table.add_row(cells(cell, row));
    }
    // A column without any figure is left out.
    let text = drop_empty_columns(table);
    let note = match reference(row) {
        Some(_) => String::new(),
        None => format!("Without ratios, since {} does not take part\n", limit(row)),
    };
    format!("{}\n{text}\n{note}", row.scenario.title())
}

fn cells(cell: &Cell, row: &Row) -> Vec<String> {
    let (reference, unit) = (reference(row), row.scenario.unit);
    if let Some(failure) = &cell.failure {
        return vec![cell.server.clone(), format!("failed: {failure}")];
    }
    let per_unit = if unit == Unit::Block { 65_536.0 / 1e6 } else { 1.0 };
    let mut cells = vec![cell.server.clone()];
    // Where others keep the server busy, its time is not that of the measured messages, and their
    // number follows from how long each takes.
    let alone = row.scenario.judged_by == Judge::Throughput;
    let compared = reference.filter(|_| alone);
    // There is no ratio to itself.
    let other = compared.filter(|other| other.server != cell.server);
    push_with_ratios(&mut cells, cell.rate(), compared.and_then(Cell::rate), per_unit, 0);
    cells.push(paired(other.and_then(|other| cell.rate_to(other))));
    let server_time = |cell: &Cell| cell.server_time().filter(|_| alone);
    let (time, load_time) = (server_time(cell), cell.load_time().filter(|_| alone));
    push_with_ratios(&mut cells, time, compared.and_then(server_time), 1.0, 2);
    cells.push(paired(other.and_then(|other| cell.server_time_to(other))));
    cells.push(shown(load_time.map(|time| time.best), 2));
    let median = |cell: &Cell, quantile: fn(Latency) -> u64| Some(cell.latency(quantile)?.median);
    cells.push(shown(median(cell, |one| one.p50), 0));
    let p99 = |cell: &Cell| median(cell, |one| one.p99);
    let of_reference = reference.filter(|_| !alone).and_then(p99);
    cells.push(shown(p99(cell), 0));
    cells.push(shown(p99(cell).zip(of_reference).map(|(one, other)| one / other), 2));
    cells.push(shown(median(cell, |one| one.p999), 0));
    cells.push(shown(cell.latency(|one| one.p99).map(|latency| latency.worst), 0));
    cells.push(shown(cell.background().map(|rate| rate.median), 0));
    cells
}

fn push_with_ratios(
    cells: &mut Vec<String>,
    figure: Option<Spread>,
    reference: Option<Spread>,
    factor: f64,
    digits: usize,
) {
    let ratio = figure.zip(reference).map(|(figure, reference)| figure.ratio_to(reference));
    cells.push(shown(figure.map(|figure| figure.best * factor), digits));
    cells.push(shown(ratio.map(|ratio| ratio.best), 2));
    cells.push(shown(figure.map(|figure| figure.median * factor), digits));
    cells.push(shown(ratio.map(|ratio| ratio.median), 2));
}

fn paired(ratio: Option<Paired>) -> String {
    ratio.map_or_else(String::new, |ratio| format!("{:.2} ±{:.2}", ratio.mean, ratio.error))
}

pub(crate) fn calls(all: &[Calls]) -> String {
    let mut table = table(&["scenario", "server", "calls/unit", "waits/unit", "calls by name"]);
    left_aligned(&mut table, &[1, 4]);
    for calls in all {
        let by_name = calls.calls.iter().map(|(name, count)| format!("{name} {count:.3}"));
        table.add_row([
            calls.scenario.to_owned(),
            calls.server.clone(),
            shown(Some(calls.others()), 2),
            shown(Some(calls.waits()), 3),
            by_name.collect::<Vec<_>>().join(", "),
        ]);
    }
    format!("System calls a message, or a visit; those that wait apart\n{table}\n")
}

pub(crate) fn instructions(all: &[Instructions]) -> String {
    let mut table = table(&["scenario", "server", "instructions/message"]);
    left_aligned(&mut table, &[1]);
    for count in all {
        let number = shown(Some(count.a_message), 0);
        table.add_row([count.scenario.to_owned(), count.server.clone(), number]);
    }
    format!("Instructions of the server's own a message\n{table}\n")
}

pub(crate) fn memory(all: &[Memory]) -> String {
    let header = ["server", "connections", "fresh", "after use", "all closed", "1 stalled, KiB"];
    let mut table = table(&header);
    for memory in all {
        table.add_row([
            memory.server.clone(),
            shown(Some(memory.connections as f64), 0),
            shown(Some(memory.fresh), 0),
            shown(Some(memory.after_use), 0),
            shown(Some(memory.all_closed), 0),
            shown(memory.stalled.map(|bytes| bytes / 1024.0), 0),
        ]);
    }
    format!("Memory of the server's own, bytes a connection\n{table}\n")
}

/// Returns a number with its thousands apart; nothing for none.
pub(crate) fn shown(number: Option<f64>, digits: usize) -> String {
    let Some(number) = number.filter(|number| number.is_finite()) else { return String::new() };
    let text = format!("{number:.digits$}");
    let (whole, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
    let mut apart = String::new();
    for (nth, digit) in whole.chars().enumerate() {
        if nth > 0 && (whole.len() - nth) % 3 == 0 && !apart.ends_with('-') {
            apart.push(',');
        }
        apart.push(digit);
    }
    apart + rest
}

/// Returns an empty table; all columns but the first are numbers.
pub(crate) fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN);
    table.set_header(header);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

pub(crate) fn left_aligned(table: &mut Table, columns: &[usize]) {
    for column in columns {
        if let Some(column) = table.column_mut(*column) {
            column.set_cell_alignment(CellAlignment::Left);
        }
    }
}

fn drop_empty_columns(mut table: Table) -> String {
    use comfy_table::ColumnConstraint::Hidden;
    let columns = table.column_count();
    let is_empty = |column: usize| {
        table
            .row_iter()
            .all(|row| row.cell_iter().nth(column).is_none_or(|cell| cell.content().is_empty()))
    };
    let empty: Vec<bool> = (0..columns).map(is_empty).collect();
    for (column, _) in table.column_iter_mut().zip(empty).filter(|(_, empty)| *empty) {
        column.set_constraint(Hidden);
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_stand_apart() {
        assert_eq!(shown(Some(1_234_567.0), 0), "1,234,567");
        assert_eq!(shown(Some(123.456), 2), "123.46");
        assert_eq!(shown(Some(-1234.0), 0), "-1,234");
        assert_eq!(shown(Some(-123.0), 0), "-123");
        assert_eq!(shown(None, 2), "");
    }
}
