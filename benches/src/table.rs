//! The results as text: a table for each scenario, ratios to the limit beside the figures.

use comfy_table::presets::ASCII_MARKDOWN;
use comfy_table::{CellAlignment, Table};

use crate::figures::{Cell, Spread};
use crate::load::Latency;
use crate::scenarios::{Protocol, Unit};
use crate::servers::LIMIT;
use crate::speed::Row;

/// Against what a scenario's ratios are.
pub(crate) fn reference(row: &Row) -> Option<&Cell> {
    match row.scenario.protocol {
        Protocol::Echo => row.cell(LIMIT),
        // There the question is what one writes; ours is the measure.
        Protocol::Lines => row.cell("lines-readiness"),
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
        &cpu,
        "ratio",
        "median",
        "ratio",
        "load's",
        "p50 µs",
        "p99 µs",
        "p99.9 µs",
        "worst p99",
        "others MB/s",
    ];
    let mut table = table(&header);
    let reference = reference(row);
    for cell in &row.cells {
        table.add_row(cells(cell, reference, unit));
    }
    // A column in which nobody has anything says nothing.
    let text = drop_empty_columns(table);
    format!("{}: {}\n{text}\n", row.scenario.name, row.scenario.about)
}

fn cells(cell: &Cell, reference: Option<&Cell>, unit: Unit) -> Vec<String> {
    if let Some(failure) = &cell.failure {
        return vec![cell.server.clone(), format!("failed: {failure}")];
    }
    let per_unit = if unit == Unit::Block { 65_536.0 / 1e6 } else { 1.0 };
    let mut cells = vec![cell.server.clone()];
    let rate = cell.rate();
    push_with_ratios(&mut cells, rate, reference.and_then(Cell::rate), per_unit, 0);
    let time = cell.server_time();
    push_with_ratios(&mut cells, time, reference.and_then(Cell::server_time), 1.0, 2);
    cells.push(shown(cell.load_time().map(|time| time.best), 2));
    let quantiles: [fn(Latency) -> u64; 3] = [|one| one.p50, |one| one.p99, |one| one.p999];
    for quantile in quantiles {
        cells.push(shown(cell.latency(quantile).map(|latency| latency.median), 0));
    }
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

/// A number with its thousands apart; nothing for none.
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

/// An empty table; all columns but the first are numbers.
pub(crate) fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN);
    table.set_header(header);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
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
