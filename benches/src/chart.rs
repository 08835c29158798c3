//! The picture: for each scenario a group of bars, in three columns: throughput, processor time and
//! latency, each to the limit's.
//!
//! A bar ends at the median; a thin line goes on from there to the best round.

use svg::Document;
use svg::node::element::{Line, Rectangle, Text, Title};

use crate::figures::{Cell, Spread};
use crate::scenarios::Judge;
use crate::speed::Row;
use crate::table::{reference, shown};

const LABELS: f64 = 150.0;
const COLUMN: f64 = 330.0;
/// Of a column, what the bars may take; the rest is for their figures.
const BARS: f64 = 220.0;
const BAR: f64 = 11.0;
const GAP: f64 = 12.0;
const HEAD: f64 = 96.0;
/// A longer bar is cut, and its figure tells.
const RATIO_MAX: f64 = 2.5;

/// Told apart also by those who see few colours: neighbours differ in brightness.
const COLOURS: [&str; 17] = [
    "#d1495b", "#1b3a4b", "#66a182", "#edae49", "#00798c", "#9d6b9e", "#8d99ae", "#3f6634",
    "#c97b4a", "#274690", "#f4b6c2", "#7a5c00", "#a3d5ff", "#6f1d1b", "#b8c480", "#444444",
    "#e07be0",
];

/// What a column shows.
struct Column {
    title: &'static str,
    figure: fn(&Cell) -> Option<Spread>,
    digits: usize,
    /// Whether it says something where others than those measured keep the server busy.
    beside_others: bool,
}

const COLUMNS: [Column; 3] = [
    Column {
        title: "throughput (longer is better)",
        figure: Cell::rate,
        digits: 0,
        beside_others: true,
    },
    Column {
        title: "processor time (shorter is better)",
        figure: Cell::server_time,
        digits: 2,
        beside_others: false,
    },
    Column {
        title: "latency at 99 % (shorter is better)",
        figure: p99,
        digits: 0,
        beside_others: true,
    },
];

fn p99(cell: &Cell) -> Option<Spread> {
    cell.latency(|latency| latency.p99)
}

pub(crate) fn draw(rows: &[Row]) -> Document {
    let height = HEAD + rows.iter().map(group_height).sum::<f64>();
    let width = LABELS + COLUMN * COLUMNS.len() as f64;
    let background =
        Rectangle::new().set("width", "100%").set("height", "100%").set("fill", "white");
    let mut document = Document::new()
        .set("viewBox", (0, 0, width as i32, height as i32))
        .set("width", width)
        .set("font-family", "sans-serif")
        .set("font-size", 11)
        .add(Title::new("Servers compared, each figure to the limit's"))
        .add(background);
    let servers = servers(rows);
    document = legend(document, &servers);
    for (nth, column) in COLUMNS.iter().enumerate() {
        let left = LABELS + COLUMN * nth as f64;
        document = heading(document, column.title, left, height);
        let mut top = HEAD;
        for row in rows {
            if nth == 0 {
                document = document.add(text(8.0, top + BAR, row.scenario.name));
            }
            document = group(document, row, column, &servers, left, top);
            top += group_height(row);
        }
    }
    document
}

fn group_height(row: &Row) -> f64 {
    BAR * row.cells.len() as f64 + GAP
}

/// All that take part, in the order of their colours. `lines-x` has the colour of `x`.
fn servers(rows: &[Row]) -> Vec<&str> {
    let mut servers = Vec::new();
    for cell in rows.iter().flat_map(|row| &row.cells) {
        let name = family(&cell.server);
        if !servers.contains(&name) {
            servers.push(name);
        }
    }
    servers
}

fn family(server: &str) -> &str {
    server.strip_prefix("lines-").unwrap_or(server)
}

fn legend(mut document: Document, servers: &[&str]) -> Document {
    let per_line = 8;
    for (nth, server) in servers.iter().enumerate() {
        let left = 8.0 + 135.0 * (nth % per_line) as f64;
        let top = 10.0 + 18.0 * (nth / per_line) as f64;
        document = document.add(rectangle(left, top, 11.0).set("fill", colour(nth))).add(text(
            left + 16.0,
            top + 10.0,
            server,
        ));
    }
    document
}

fn colour(nth: usize) -> &'static str {
    COLOURS[nth % COLOURS.len()]
}

/// A column's title, and the line of the limit.
fn heading(document: Document, title: &str, left: f64, height: f64) -> Document {
    let one = left + BARS / RATIO_MAX;
    let line = Line::new()
        .set("x1", one)
        .set("x2", one)
        .set("y1", HEAD - 8.0)
        .set("y2", height)
        .set("stroke", "#999999")
        .set("stroke-dasharray", "3 3");
    document
        .add(text(left, HEAD - 26.0, title).set("font-weight", "bold"))
        .add(text(one, HEAD - 11.0, "1.00").set("text-anchor", "middle"))
        .add(line)
}

fn group(
    mut document: Document,
    row: &Row,
    column: &Column,
    servers: &[&str],
    left: f64,
    top: f64,
) -> Document {
    let Some(reference) = reference(row).and_then(column.figure) else { return document };
    if !column.beside_others && row.scenario.judged_by == Judge::Latency {
        return document;
    }
    for (nth, cell) in row.cells.iter().enumerate() {
        let Some(figure) = (column.figure)(cell) else { continue };
        let ratio = figure.ratio_to(reference).median;
        // On the same scale, so that the bars of a group can be compared.
        let best = figure.best / reference.median;
        let top = top + BAR * nth as f64;
        let length = |ratio: f64| ratio.min(RATIO_MAX) / RATIO_MAX * BARS;
        let of = servers.iter().position(|name| *name == family(&cell.server)).unwrap_or(0);
        let middle = top + (BAR - 2.0) / 2.0;
        let whisker = Line::new()
            .set("x1", left + length(ratio))
            .set("x2", left + length(best))
            .set("y1", middle)
            .set("y2", middle)
            .set("stroke", "#333333");
        let figures = format!("{ratio:.2}  ({})", shown(Some(figure.median), column.digits));
        let label = left + length(ratio.max(best)) + 4.0;
        document = document
            .add(rectangle(left, top, length(ratio)).set("fill", colour(of)))
            .add(whisker)
            .add(text(label, top + BAR - 3.0, &figures).set("font-size", 9));
    }
    document
}

fn rectangle(left: f64, top: f64, width: f64) -> Rectangle {
    Rectangle::new().set("x", left).set("y", top).set("width", width).set("height", BAR - 2.0)
}

fn text(left: f64, top: f64, text: &str) -> Text {
    Text::new(text).set("x", left).set("y", top)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_server_has_a_colour_of_its_own() {
        let servers = crate::servers::all();
        let families: BTreeSet<&str> = servers.iter().map(|one| family(one.name)).collect();
        let colours: BTreeSet<&str> = COLOURS.into_iter().collect();
        assert!(families.len() <= colours.len(), "{families:?}");
    }
}
