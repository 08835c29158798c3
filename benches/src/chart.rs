//! The picture: for each scenario a group of bars, in three columns: throughput, processor time and
//! latency, each to the limit's.
//!
//! A bar ends at the median; a thin line goes on from there to the best round. What is too long is
//! cut off, and marked. Figures are next to the bars, where no line runs through them.

use svg::Document;
use svg::node::element::{Line, Polygon, Rectangle, Text, Title};

use crate::conditions::Conditions;
use crate::figures::{Cell, Spread};
use crate::scenarios::{Judge, Unit};
use crate::servers::LIMIT;
use crate::speed::Row;
use crate::table::{limit, reference, shown};

const LABELS: f64 = 170.0;
const COLUMN: f64 = 350.0;
/// The part of a column that the bars may take; behind them are the arrows of the bars that are cut
/// off, and then the figures.
const BARS: f64 = 220.0;
const ARROW: f64 = 8.0;
const BAR: f64 = 11.0;
const GAP: f64 = 12.0;
/// Room for the label of a group: its name, and what its figures are.
const LABEL_HEIGHT: f64 = 38.0;
/// A longer bar is cut off.
const RATIO_MAX: f64 = 2.5;

/// Distinguished also by people who see few colours: neighbours differ in brightness.
const COLOURS: [&str; 18] = [
    "#d1495b", "#1b3a4b", "#66a182", "#edae49", "#00798c", "#9d6b9e", "#8d99ae", "#3f6634",
    "#c97b4a", "#274690", "#f4b6c2", "#7a5c00", "#a3d5ff", "#6f1d1b", "#b8c480", "#444444",
    "#e07be0", "#2fbf71",
];

/// What a column shows.
struct Column {
    title: &'static str,
    unit: &'static str,
    figure: fn(&Cell) -> Option<Spread>,
    digits: usize,
    /// Whether the figure counts units, which are blocks where the table has megabytes.
    counts: bool,
    /// Whether it says something where others than those measured keep the server busy: how many
    /// messages there were follows there from how long each takes.
    beside_others: bool,
}

const COLUMNS: [Column; 3] = [
    Column {
        title: "Throughput (longer is better)",
        unit: "messages, visits or MB a second",
        figure: Cell::rate,
        digits: 0,
        counts: true,
        beside_others: false,
    },
    Column {
        title: "Processor time of the server (shorter is better)",
        unit: "µs for a message, a visit or 64 KiB",
        figure: Cell::server_time,
        digits: 2,
        counts: false,
        beside_others: false,
    },
    Column {
        title: "Latency (shorter is better)",
        unit: "µs that 99 % of the messages do not exceed",
        figure: p99,
        digits: 0,
        counts: false,
        beside_others: true,
    },
];

fn p99(cell: &Cell) -> Option<Spread> {
    cell.latency(|latency| latency.p99)
}

pub(crate) fn draw(rows: &[Row], conditions: &Conditions) -> Document {
    let servers = servers(rows);
    let notes = notes(rows, conditions);
    let legend_top = 40.0 + 15.0 * notes.len() as f64;
    let head = legend_top + 18.0 * servers.len().div_ceil(LEGEND_COLUMNS) as f64 + 52.0;
    let height = head + rows.iter().map(group_height).sum::<f64>();
    let width = LABELS + COLUMN * COLUMNS.len() as f64;
    let background =
        Rectangle::new().set("width", "100%").set("height", "100%").set("fill", "white");
    let mut document = Document::new()
        .set("viewBox", (0, 0, width as i32, height as i32))
        .set("width", width)
        .set("font-family", "sans-serif")
        .set("font-size", 11)
        .add(Title::new(TITLE))
        .add(background)
        .add(text(8.0, 24.0, TITLE).set("font-size", 17).set("font-weight", "bold"));
    for (nth, note) in notes.iter().enumerate() {
        let line = text(8.0, 44.0 + 15.0 * nth as f64, &note.text);
        document = document.add(match note.is_warning {
            true => line.set("fill", "#c00000").set("font-weight", "bold"),
            false => line,
        });
    }
    document = legend(document, &servers, legend_top);
    for (nth, column) in COLUMNS.iter().enumerate() {
        let left = LABELS + COLUMN * nth as f64;
        document = heading(document, column, left, head, height);
        let mut top = head;
        for row in rows {
            if nth == 0 {
                document = label(document, row, top);
            }
            document = group(document, row, column, &servers, left, top);
            top += group_height(row);
        }
    }
    document
}

const TITLE: &str = "Event loops compared: throughput, processor time and latency";

/// A line under the title.
struct Note {
    text: String,
    is_warning: bool,
}

fn notes(rows: &[Row], conditions: &Conditions) -> Vec<Note> {
    let note = |text: String| Note { text, is_warning: false };
    let warning = conditions.warning();
    let warning = warning.map(|text| Note { text: text.to_owned(), is_warning: true });
    let mut notes: Vec<Note> = warning.into_iter().collect();
    notes.push(note(conditions.machine.to_string()));
    notes.push(note(format!(
        "{}. A bar ends at the median of the rounds, the thin line at the best one.",
        conditions.numbers()
    )));
    notes.push(note(format!("{} Beside each bar: the ratio, and the figure itself.", one(rows))));
    if rows.iter().any(has_cut_off_bar) {
        notes.push(note(format!(
            "A bar that ends in an arrow is cut off at {RATIO_MAX:.2}: its figure says how long it \
             would be."
        )));
    }
    notes
}

/// Returns what 1.00 is, in the scenarios that are shown.
fn one(rows: &[Row]) -> String {
    let rows = || rows.iter().filter(|row| reference(row).is_some());
    let others = rows().filter(|row| limit(row) != LIMIT);
    let others = others.map(|row| format!("in {} it is {}", row.scenario.name, limit(row)));
    let others = others.collect::<Vec<_>>().join("; ");
    match rows().any(|row| limit(row) == LIMIT) {
        true if others.is_empty() => format!("1.00 is C with epoll ({LIMIT})."),
        true => format!("1.00 is C with epoll ({LIMIT}); {others}."),
        false => format!("What 1.00 is: {others}."),
    }
}

fn group_height(row: &Row) -> f64 {
    (BAR * row.cells.len() as f64).max(LABEL_HEIGHT) + GAP
}

/// Returns all that take part, in the order of their colours. `lines-x` has the colour of `x`.
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

const LEGEND_COLUMNS: usize = 8;

fn legend(mut document: Document, servers: &[&str], top: f64) -> Document {
    for (nth, server) in servers.iter().enumerate() {
        let left = 8.0 + 135.0 * (nth % LEGEND_COLUMNS) as f64;
        let top = top + 18.0 * (nth / LEGEND_COLUMNS) as f64;
        document = document.add(rectangle(left, top, 11.0).set("fill", colour(nth))).add(text(
            left + 16.0,
            top + 9.0,
            server,
        ));
    }
    document
}

fn colour(nth: usize) -> &'static str {
    COLOURS[nth % COLOURS.len()]
}

/// Draws a column's title, and the line of the limit.
fn heading(document: Document, column: &Column, left: f64, head: f64, height: f64) -> Document {
    let one = left + length(1.0);
    let line = Line::new()
        .set("x1", one)
        .set("x2", one)
        .set("y1", head - 8.0)
        .set("y2", height)
        .set("stroke", "#999999")
        .set("stroke-dasharray", "3 3");
    document
        .add(text(left, head - 38.0, column.title).set("font-weight", "bold"))
        .add(text(left, head - 25.0, column.unit).set("font-size", 10))
        .add(text(one, head - 11.0, "1.00").set("text-anchor", "middle"))
        .add(line)
}

/// Draws the name of a group, what its figures are, and what is 1.00.
fn label(document: Document, row: &Row, top: f64) -> Document {
    let small = |top, line: &str| text(8.0, top, line).set("font-size", 9).set("fill", "#555555");
    let one = match reference(row) {
        Some(_) => format!("1.00 is {}", limit(row)),
        None => format!("no ratios without {}", limit(row)),
    };
    let unit = match (row.scenario.unit, row.scenario.limited_to) {
        (unit, None) => rate_unit(unit).to_owned(),
        (unit, Some(most)) => format!("{}; {most} connections", rate_unit(unit)),
    };
    document
        .add(text(8.0, top + BAR, row.scenario.name))
        .add(small(top + 2.0 * BAR, &unit))
        .add(small(top + 3.0 * BAR, &one))
}

fn rate_unit(unit: Unit) -> &'static str {
    match unit {
        Unit::Message => "messages",
        Unit::Block => "MB, or 64 KiB",
        Unit::Visit => "visits",
    }
}

fn group(
    mut document: Document,
    row: &Row,
    column: &Column,
    servers: &[&str],
    left: f64,
    top: f64,
) -> Document {
    for (nth, cell) in row.cells.iter().enumerate() {
        let Some(bar) = Bar::of(cell, row, column) else { continue };
        let of = servers.iter().position(|name| *name == family(&cell.server)).unwrap_or(0);
        document = bar.draw(document, colour(of), left, top + BAR * nth as f64);
    }
    document
}

/// One bar.
struct Bar {
    ratio: f64,
    /// On the same scale, so that the bars of a group can be compared.
    best: f64,
    figures: String,
}

impl Bar {
    fn of(cell: &Cell, row: &Row, column: &Column) -> Option<Self> {
        if !column.beside_others && row.scenario.judged_by == Judge::Latency {
            return None;
        }
        let reference = reference(row).and_then(column.figure)?;
        let figure = (column.figure)(cell)?;
        let (ratio, best) = (figure.ratio_to(reference).median, figure.best / reference.median);
        let factor = match (column.counts, row.scenario.unit) {
            (true, Unit::Block) => 65_536.0 / 1e6,
            _ => 1.0,
        };
        let shown = shown(Some(figure.median * factor), column.digits);
        Some(Self { ratio, best, figures: format!("{ratio:.2}  ({shown})") })
    }

    fn is_cut_off(&self) -> bool {
        self.ratio.max(self.best) > RATIO_MAX
    }

    fn draw(&self, document: Document, colour: &str, left: f64, top: f64) -> Document {
        let middle = top + (BAR - 2.0) / 2.0;
        let whisker = Line::new()
            .set("x1", left + length(self.ratio))
            .set("x2", left + length(self.best))
            .set("y1", middle)
            .set("y2", middle)
            .set("stroke", "#333333");
        let figures = text(left + BARS + ARROW + 4.0, top + BAR - 3.0, &self.figures);
        let document = document
            .add(rectangle(left, top, length(self.ratio)).set("fill", colour))
            .add(whisker)
            .add(figures.set("font-size", 9));
        if self.is_cut_off() { document.add(arrow(left + BARS, middle)) } else { document }
    }
}

fn has_cut_off_bar(row: &Row) -> bool {
    COLUMNS.iter().any(|column| {
        row.cells.iter().filter_map(|cell| Bar::of(cell, row, column)).any(|bar| bar.is_cut_off())
    })
}

/// Returns how long the bar of a ratio is.
fn length(ratio: f64) -> f64 {
    ratio.min(RATIO_MAX) / RATIO_MAX * BARS
}

/// Returns what marks a bar that is cut off.
fn arrow(left: f64, middle: f64) -> Polygon {
    let half = BAR / 2.0 - 0.5;
    let (tip, top, bottom) = (left + ARROW, middle - half, middle + half);
    Polygon::new()
        .set("points", format!("{left},{top} {tip},{middle} {left},{bottom}"))
        .set("fill", "#333333")
}

fn rectangle(left: f64, top: f64, width: f64) -> Rectangle {
    Rectangle::new().set("x", left).set("y", top).set("width", width).set("height", BAR - 2.0)
}

fn text(left: f64, top: f64, text: &str) -> Text {
    Text::new(text).set("x", left).set("y", top)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::conditions::tests::conditions;
    use crate::load::{Latency, Report};
    use crate::scenarios;

    /// Rows as of a run: messages, a stream, lines; one server is far slower than the limit.
    pub(crate) fn rows() -> Vec<Row> {
        let cell = |server: &str, messages: u64| {
            let latency = Latency { p50: 1_000, p99: 90_000_000 / messages, p999: 9_000 };
            let round = Report {
                messages,
                seconds: 0.5,
                server_time: 500_000_000,
                load_time: 400_000_000,
                latency: Some(latency),
                background_bytes: 0,
            };
            Cell { server: server.to_owned(), rounds: vec![round], failure: None }
        };
        let row = |name: &str, cells: Vec<Cell>| {
            let scenario = scenarios::all().into_iter().find(|one| one.name == name).unwrap();
            Row { scenario, cells }
        };
        let echoing = || vec![cell("readiness", 98), cell("c-epoll", 100), cell("tokio", 20)];
        vec![
            row("ping-50", echoing()),
            row("stream", echoing()),
            row("small-talker", echoing()),
            row("lines-16", vec![cell("lines-readiness", 10), cell("lines-tokio", 30)]),
        ]
    }

    /// Returns the texts and where they begin.
    fn texts(svg: &str) -> Vec<(f64, String)> {
        let texts = svg.split("<text").skip(1).map(|rest| {
            let (attributes, rest) = rest.split_once('>').unwrap();
            let left = attributes.split_once(" x=\"").unwrap().1.split_once('"').unwrap().0;
            (left.parse().unwrap(), rest.split_once("</text>").unwrap().0.trim().to_owned())
        });
        texts.collect()
    }

    fn drawn(quick: bool) -> String {
        draw(&rows(), &conditions(quick)).to_string()
    }

    #[test]
    fn each_server_has_a_colour_of_its_own() {
        let servers = crate::servers::all();
        let families: BTreeSet<&str> = servers.iter().map(|one| family(one.name)).collect();
        let colours: BTreeSet<&str> = COLOURS.into_iter().collect();
        assert!(families.len() <= colours.len(), "{families:?}");
    }

    #[test]
    fn chart_says_what_it_shows_where_when_and_in_which_units() {
        let texts = texts(&drawn(false));
        let has = |part: &str| texts.iter().any(|(_, text)| text.contains(part));
        for part in [
            TITLE,
            "R&amp;D &lt;1&gt;, 2 cores used",
            "2026-11-28 05:06 UTC",
            "5 rounds of 500 ms, each after 150 ms of warm-up",
            "1.00 is C with epoll (c-epoll); in lines-16 it is lines-readiness.",
            "messages, visits or MB a second",
            "µs for a message, a visit or 64 KiB",
            "µs that 99 % of the messages do not exceed",
            "1.00 is lines-readiness",
        ] {
            assert!(has(part), "{part:?} is not in {texts:?}");
        }
        assert!(!has("NO MEASUREMENT"));
        // A stream is shown in MB, as in the table: 98 blocks in half a second.
        assert!(has("0.98  (13)"), "{texts:?}");
    }

    #[test]
    fn chart_of_a_quick_run_says_that_it_is_no_measurement() {
        let texts = texts(&drawn(true));
        assert!(texts[1].1.starts_with("QUICK RUN, NO MEASUREMENT"), "{texts:?}");
        let numbers = "1 round of 500 ms after 150 ms of warm-up, with at most 500 connections.";
        assert!(texts.iter().any(|(_, text)| text.starts_with(numbers)), "{texts:?}");
    }

    #[test]
    fn bars_that_are_cut_off_are_marked_and_others_are_not() {
        let svg = drawn(false);
        // Tokio's time and latency in ping-50 and stream, its latency beside streams, and its
        // throughput in lines.
        assert_eq!(svg.matches("<polygon").count(), 6);
        assert!(svg.contains("A bar that ends in an arrow is cut off at 2.50"));
        let alone = rows().into_iter().map(|mut row| {
            row.cells.retain(|cell| !cell.server.contains("tokio"));
            row
        });
        let svg = draw(&alone.collect::<Vec<_>>(), &conditions(false)).to_string();
        assert!(!svg.contains("<polygon") && !svg.contains("cut off"));
    }

    #[test]
    fn no_figure_stands_on_a_line() {
        let texts = texts(&drawn(false));
        let ones = (0..COLUMNS.len()).map(|nth| LABELS + COLUMN * nth as f64 + length(1.0));
        let ones: Vec<f64> = ones.collect();
        let figures = texts.iter().filter(|(_, text)| text.contains("  ("));
        let mut count = 0;
        for (left, figure) in figures {
            // No sign is wider than its height.
            let right = left + 9.0 * figure.len() as f64;
            let is_crossed = |one: &&f64| (left - 1.0..right).contains(*one);
            assert_eq!(ones.iter().find(is_crossed), None, "{figure:?} at {left}");
            count += 1;
        }
        assert!(count > 20, "only {count} figures");
    }
}
