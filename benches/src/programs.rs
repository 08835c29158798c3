//! Measures the programs of the repository against what people would use instead, each pair under
//! the load that is made for the other.
//!
//! Both servers of a pair run all the time, held on one core, and the load on another. Each round
//! sets every load upon both, one after the other and in turns first, so that what disturbs one
//! disturbs the other too. A pair that lacks a program on this machine is skipped, and named.
//!
//! A new pair is a function like [`key_values`], and an entry in [`pairs`].

use std::error::Error;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use svg::Document;
use svg::node::element::{Line, Rectangle, Text};

use crate::builder;
use crate::figures::{Cell, Paired};
use crate::load::Report;
use crate::machine::Machine;
use crate::process::{self, Guarded};
use crate::running::Cores;
use crate::table::{self, shown};

/// How long a server has to listen.
const PATIENCE: Duration = Duration::from_secs(10);

/// Two servers that do the same.
struct Pair {
    ours: Contender,
    other: Contender,
    /// What the rate of ours is to be at least, and its processor time at most, to the other's.
    bars: (f64, f64),
    loads: Vec<Load>,
}

struct Contender {
    name: &'static str,
    /// What starts it at a port of this host.
    command: Box<dyn Fn(u16) -> Command>,
}

/// What is set upon a server.
struct Load {
    name: String,
    /// How many requests it makes.
    requests: u64,
    command: Box<dyn Fn(u16) -> Command>,
    /// Reads from its output how many it made a second.
    rate: fn(&str) -> Option<f64>,
}

/// Returns all pairs, or why one cannot be measured here.
fn pairs(quick: bool) -> Result<Vec<Result<Pair, String>>, Box<dyn Error>> {
    Ok(vec![key_values(quick)?])
}

/// `kv_server` and Redis.
fn key_values(quick: bool) -> Result<Result<Pair, String>, Box<dyn Error>> {
    for program in ["redis-server", "redis-benchmark"] {
        if !builder::succeeds(Command::new(program).arg("--version")) {
            return Ok(Err(format!("kv_server and redis-server: there is no {program}")));
        }
    }
    let ours = builder::build_example("kv_server", false)?;
    let ours = move |port| {
        let mut command = Command::new(&ours);
        command.arg(format!("127.0.0.1:{port}"));
        command
    };
    let other = |port: u16| {
        let mut command = Command::new("redis-server");
        command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""]);
        command.args(["--appendonly", "no", "--io-threads", "1"]);
        command
    };
    let mut loads = Vec::new();
    for depth in [1, 16] {
        for test in ["ping_mbulk", "set", "get", "incr"] {
            let requests = if depth == 1 { 100_000 } else { 1_000_000 };
            let requests = if quick { requests / 50 } else { requests };
            loads.push(Load {
                name: format!("{test}, -P {depth}"),
                requests,
                command: Box::new(move |port| benchmark(port, test, depth, requests)),
                rate: rate_of_benchmark,
            });
        }
    }
    Ok(Ok(Pair {
        ours: Contender { name: "kv_server", command: Box::new(ours) },
        other: Contender { name: "redis-server", command: Box::new(other) },
        bars: (1.0, 0.8),
        loads,
    }))
}

fn benchmark(port: u16, test: &str, depth: u32, requests: u64) -> Command {
    let mut command = Command::new("redis-benchmark");
    let [port, depth, requests] = [port.to_string(), depth.to_string(), requests.to_string()];
    command.args(["-p", &port, "-t", test, "-P", &depth, "-n", &requests]);
    // Of many keys, as users have them.
    command.args(["-r", "100000", "--csv"]);
    command
}

/// Reads the second field of the last line: `"SET","123456.78",...`.
fn rate_of_benchmark(output: &str) -> Option<f64> {
    output.lines().last()?.split(',').nth(1)?.trim_matches('"').parse().ok()
}

/// The figures of one load.
struct Row {
    load: String,
    bars: (f64, f64),
    cells: [Cell; 2],
}

impl Row {
    /// Returns the rate of ours to the other's, and its processor time.
    fn ratios(&self) -> (Option<Paired>, Option<Paired>) {
        let [ours, other] = &self.cells;
        (ours.rate_to(other), ours.server_time_to(other))
    }
}

pub(crate) fn measure(rounds: usize, quick: bool, out: &Path) -> Result<(), Box<dyn Error>> {
    process::end_all_when_interrupted()?;
    let cores = process::cores()?;
    let cores = Cores { server: cores.first().copied(), load: cores.last().copied() };
    let (mut rows, mut skipped) = (Vec::new(), Vec::new());
    for pair in pairs(quick)? {
        match pair {
            Ok(pair) => rows.extend(measure_pair(&pair, rounds, cores)?),
            Err(why) => skipped.push(why),
        }
    }
    let mut text = format!("{}\n", Machine::this());
    if quick {
        text += "QUICK RUN, NO MEASUREMENT: it shows that everything runs\n";
    }
    text += &format!("{rounds} rounds\n\n{}\n", shown_rows(&rows));
    text.extend(skipped.iter().map(|why| format!("Skipped: {why}\n")));
    fs::create_dir_all(out)?;
    fs::write(out.join("programs.md"), &text)?;
    svg::save(out.join("programs.svg"), &draw(&rows))?;
    let written = format!("Written to {}: programs.md, programs.svg", out.display());
    Ok(writeln!(io::stdout(), "{text}{written}")?)
}

fn measure_pair(pair: &Pair, rounds: usize, cores: Cores) -> Result<Vec<Row>, Box<dyn Error>> {
    let contenders = [&pair.ours, &pair.other];
    let servers = [start(&pair.ours, cores)?, start(&pair.other, cores)?];
    let cells = || contenders.map(|one| Cell::new(one.name));
    let row = |load: &Load| Row { load: load.name.clone(), bars: pair.bars, cells: cells() };
    let mut rows: Vec<Row> = pair.loads.iter().map(row).collect();
    let progress = ProgressBar::new((rounds * rows.len()) as u64);
    for round in 0..rounds {
        for (load, row) in pair.loads.iter().zip(&mut rows) {
            let first = round % 2;
            for place in [first, 1 - first] {
                let report = run(load, &servers[place], cores)?;
                row.cells[place].rounds.push(report);
            }
            progress.inc(1);
        }
    }
    progress.finish_and_clear();
    Ok(rows)
}

struct Started {
    process: Guarded,
    port: u16,
}

/// Starts a server, and waits until it listens.
fn start(contender: &Contender, cores: Cores) -> Result<Started, Box<dyn Error>> {
    // Free when it is looked for: not every server can choose one itself.
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let mut command = (contender.command)(port);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let process = process::spawn_on(cores.server, &mut command)?;
    let end = Instant::now() + PATIENCE;
    while TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], port))).is_err() {
        if Instant::now() > end {
            return Err(format!("{} does not listen", contender.name).into());
        }
        thread::sleep(Duration::from_millis(1));
    }
    Ok(Started { process, port })
}

fn run(load: &Load, server: &Started, cores: Cores) -> Result<Report, Box<dyn Error>> {
    let before = process::processor_time(server.process.child.id())?;
    let mut command = (load.command)(server.port);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut process = process::spawn_on(cores.load, &mut command)?;
    let mut output = String::new();
    process.child.stdout.take().ok_or("no standard output")?.read_to_string(&mut output)?;
    if !process.child.wait()?.success() {
        return Err(format!("the load {} failed: {output}", load.name).into());
    }
    let server_time = process::processor_time(server.process.child.id())? - before;
    let rate = (load.rate)(&output).ok_or_else(|| format!("no rate in {output:?}"))?;
    Ok(Report {
        messages: load.requests,
        seconds: load.requests as f64 / rate,
        server_time,
        load_time: 0,
        latency: None,
        background_bytes: 0,
    })
}

fn shown_rows(rows: &[Row]) -> String {
    let header = [
        "load", "program", "a second", "median", "by round", "cpu µs", "median", "by round", "bars",
    ];
    let mut table = table::table(&header);
    table::left_aligned(&mut table, &[1]);
    for row in rows {
        let (rate, time) = row.ratios();
        for (place, cell) in row.cells.iter().enumerate() {
            let ratio = |ratio: Option<Paired>| match ratio.filter(|_| place == 0) {
                Some(ratio) => format!("{:.2} ±{:.2}", ratio.mean, ratio.error),
                None => String::new(),
            };
            let bars = format!("{:.1}; {:.1}", row.bars.0, row.bars.1);
            let (a_second, cpu) = (cell.rate(), cell.server_time());
            table.add_row([
                row.load.clone(),
                cell.server.clone(),
                shown(a_second.map(|rate| rate.best), 0),
                shown(a_second.map(|rate| rate.median), 0),
                ratio(rate),
                shown(cpu.map(|time| time.best), 2),
                shown(cpu.map(|time| time.median), 2),
                ratio(time),
                if place == 0 { bars } else { String::new() },
            ]);
        }
    }
    table.to_string()
}

const LABELS: f64 = 220.0;
/// The length of a bar whose ratio is 1.
const ONE: f64 = 200.0;
const ROW: f64 = 34.0;
const HEAD: f64 = 50.0;

/// Draws for each load the two ratios, and a mark where each is to be.
fn draw(rows: &[Row]) -> Document {
    let height = HEAD + ROW * rows.len() as f64;
    let text = |left: f64, top: f64, text: &str| Text::new(text).set("x", left).set("y", top);
    let mut document = Document::new()
        .set("viewBox", (0, 0, 760, height as i32))
        .set("width", 760)
        .set("font-family", "sans-serif")
        .set("font-size", 11)
        .add(Rectangle::new().set("width", "100%").set("height", "100%").set("fill", "white"))
        .add(text(8.0, 20.0, "Programs to those that people would use instead"))
        .add(text(
            8.0,
            38.0,
            "upper bar: rate (longer is better); lower: processor time a request",
        ));
    for (place, row) in rows.iter().enumerate() {
        let top = HEAD + ROW * place as f64;
        let [ours, other] = &row.cells;
        let label = format!("{} to {}: {}", ours.server, other.server, row.load);
        document = document.add(text(8.0, top + 14.0, &label).set("font-size", 10));
        let (rate, time) = row.ratios();
        let bars = [(rate, row.bars.0, "#00798c"), (time, row.bars.1, "#d1495b")];
        for (nth, (ratio, bar, colour)) in bars.into_iter().enumerate() {
            let (top, Some(ratio)) = (top + 12.0 * nth as f64, ratio) else { continue };
            let mark = LABELS + ONE * bar;
            let rectangle = Rectangle::new()
                .set("x", LABELS)
                .set("y", top)
                .set("width", ONE * ratio.mean.min(2.2))
                .set("height", 10)
                .set("fill", colour);
            let line = Line::new().set("x1", mark).set("x2", mark).set("stroke", "black");
            let figure = format!("{:.2} ±{:.2}", ratio.mean, ratio.error);
            document = document
                .add(rectangle)
                .add(line.set("y1", top - 1.0).set("y2", top + 11.0))
                .add(text(LABELS + ONE * 2.2 + 8.0, top + 9.0, &figure));
        }
    }
    document
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> Row {
        let cell = |name: &str, messages: u64| {
            let report = |seconds: f64| Report {
                messages,
                seconds,
                server_time: 1_000_000_000,
                load_time: 0,
                latency: None,
                background_bytes: 0,
            };
            let rounds = vec![report(1.0), report(2.0)];
            Cell { server: name.to_owned(), rounds, failure: None }
        };
        let cells = [cell("kv_server", 3_000), cell("redis-server", 2_000)];
        Row { load: "get, -P 1".to_owned(), bars: (1.0, 0.8), cells }
    }

    #[test]
    fn table_and_chart_show_the_ratios_of_the_rounds() {
        let text = shown_rows(&[row()]);
        let line = text.lines().find(|line| line.contains("kv_server")).unwrap();
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let expected = ["3,000", "2,250", "1.50 ±0.00", "333.33", "333.33", "0.67 ±0.00"];
        assert_eq!(cells[3..9], expected, "{text}");
        let chart = draw(&[row()]).to_string();
        assert!(chart.contains("kv_server to redis-server: get, -P 1"), "{chart}");
        assert!(chart.contains("1.50 ±0.00") && chart.contains("0.67 ±0.00"), "{chart}");
    }

    #[test]
    fn rate_is_read_from_the_table_of_the_load() {
        let table = "\"test\",\"rps\",\"avg_latency_ms\"\n\"GET\",\"47619.05\",\"0.527\"\n";
        assert_eq!(rate_of_benchmark(table), Some(47_619.05));
        assert_eq!(rate_of_benchmark("Could not connect\n"), None);
    }
}
