//! Measures the example `http_server` beside nginx: files of 1 KiB and of 1 MiB, asked for by wrk over
//! 32 connections that stay open.
//!
//! Each server has one process for its clients, held on one core, and wrk another. Rounds are
//! interleaved, so that what disturbs one disturbs the other too, and servers are compared round by
//! round. Neither writes an access log. The figure is the processor time of the server for each
//! request; what wrk has used is shown beside it, since a server can make its client's work dearer.

use std::error::Error;
use std::fs;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use comfy_table::Table;
use comfy_table::presets::ASCII_MARKDOWN;
use lexopt::{Arg, Parser, ValueExt};
use serde::Serialize;
use svg::Document;
use svg::node::element::{Rectangle, Text};

#[allow(dead_code, reason = "what this measurement does not need of it")]
#[path = "../machine.rs"]
mod machine;
#[allow(dead_code, reason = "what this measurement does not need of it")]
#[path = "../process.rs"]
mod process;

use machine::Machine;
use process::Guarded;

const USAGE: &str = "\
Measures the example http_server beside nginx, which has to be installed, as wrk has.

Usage: http_server [--rounds COUNT] [--seconds COUNT] [--out DIR]

  --rounds COUNT   how often each is measured [default: 7]
  --seconds COUNT  for how long in each round [default: 3]
  --out DIR        where results are written [default: benches/target/http_server]
  -h, --help       print this";

/// The servers by their names, with what nginx is told.
const SERVERS: [(&str, Option<&str>); 4] = [
    ("http_server", None),
    ("nginx", Some("sendfile on; tcp_nopush on;")),
    ("nginx, no tcp_nopush", Some("sendfile on;")),
    ("nginx, open_file_cache", Some("sendfile on; tcp_nopush on; open_file_cache max=100;")),
];
/// The one to which ratios are: as Debian configures it.
const REFERENCE: usize = 1;

const FILES: [(&str, usize); 2] = [("1 KiB", 1 << 10), ("1 MiB", 1 << 20)];

struct Options {
    rounds: usize,
    seconds: u64,
    out: PathBuf,
}

/// One round of one server.
#[derive(Clone, Copy, Serialize)]
struct Round {
    /// Requests a second.
    rate: f64,
    /// Microseconds of processor time a request, of the server and of wrk.
    server: f64,
    client: f64,
}

#[derive(Serialize)]
struct Row {
    file: &'static str,
    server: &'static str,
    rounds: Vec<Round>,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Where this cannot be written either, the exit status says it alone.
            let _ = writeln!(io::stderr(), "http_server: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let Some(options) = parse()? else {
        return Ok(writeln!(io::stdout(), "{USAGE}")?);
    };
    process::end_all_when_interrupted()?;
    let folder = options.out.join("www");
    fs::create_dir_all(&folder)?;
    let folder = folder.canonicalize()?;
    for (name, size) in FILES {
        fs::write(folder.join(file_name(name)), vec![b'x'; size])?;
    }
    let program = build()?;
    let machine = Machine::this();
    let mut running = Vec::new();
    for (name, settings) in SERVERS {
        running.push(start(name, settings, &program, &folder, &options.out)?);
    }
    let mut rows: Vec<Row> = FILES
        .iter()
        .flat_map(|(file, _)| SERVERS.map(|(server, _)| Row { file, server, rounds: Vec::new() }))
        .collect();
    for round in 0..options.rounds {
        for (place, row) in rows.iter_mut().enumerate() {
            let server = &running[place % SERVERS.len()];
            writeln!(io::stderr(), "round {}: {}, {}", round + 1, row.file, row.server)?;
            row.rounds.push(measure(server, row.file, options.seconds)?);
        }
    }
    publish(&options, &machine, &rows)
}

fn parse() -> Result<Option<Options>, lexopt::Error> {
    let home = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut options = Options { rounds: 7, seconds: 3, out: home.join("target/http_server") };
    let mut parser = Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Short('h') | Arg::Long("help") => return Ok(None),
            Arg::Long("rounds") => options.rounds = parser.value()?.parse()?,
            Arg::Long("seconds") => options.seconds = parser.value()?.parse()?,
            Arg::Long("out") => options.out = parser.value()?.into(),
            other => return Err(other.unexpected()),
        }
    }
    match options.rounds.min(usize::try_from(options.seconds).unwrap_or(1)) {
        0 => Err("neither rounds nor seconds can be zero".into()),
        _ => Ok(Some(options)),
    }
}

fn file_name(name: &str) -> String {
    name.replace(' ', "")
}

/// Builds the example as all servers in Rust are built here, with link-time optimisation, and tells
/// where it is.
fn build() -> Result<PathBuf, Box<dyn Error>> {
    let home = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (manifest, target) =
        (home.join("../examples/programs/Cargo.toml"), home.join("target/programs"));
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--release", "--locked", "--bin", "http_server"]);
    cargo.arg("--manifest-path").arg(manifest).arg("--target-dir").arg(&target);
    cargo.env("CARGO_PROFILE_RELEASE_LTO", "fat").env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1");
    match cargo.status()?.success() {
        true => Ok(target.join("release/http_server")),
        false => Err("the example does not build".into()),
    }
}

/// A server that runs, and the process that serves.
struct Running {
    address: SocketAddr,
    id: u32,
    _process: Guarded,
}

fn start(
    name: &str,
    settings: Option<&str>,
    program: &Path,
    folder: &Path,
    out: &Path,
) -> Result<Running, Box<dyn Error>> {
    // Nobody else takes the port in the moment in which it is free again.
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let mut command = match settings {
        None => {
            let mut command = Command::new(program);
            command.arg(address.to_string()).arg(folder).args(["--log", "off"]);
            command
        }
        Some(settings) => {
            let out = out.canonicalize()?;
            let file = out.join(format!("nginx-{}.conf", address.port()));
            let (place, root) = (out.display(), folder.display());
            let text = format!(
                "daemon off; worker_processes 1; pid {place}/nginx-{0}.pid; error_log {place}/nginx.log;\n\
                 events {{ worker_connections 512; }}\n\
                 http {{ access_log off; {settings} keepalive_requests 1000000000;\n\
                 server {{ listen {address}; root {root}; }} }}\n",
                address.port(),
            );
            fs::write(&file, text)?;
            let mut command = Command::new("nginx");
            command.arg("-c").arg(file);
            command
        }
    };
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let core = process::cores()?.first().copied();
    let process = process::spawn_on(core, &mut command)
        .map_err(|error| format!("cannot start {name}: {error}"))?;
    let end = Instant::now() + Duration::from_secs(10);
    while TcpStream::connect(address).is_err() {
        if Instant::now() > end {
            return Err(format!("{name} does not listen").into());
        }
        thread::sleep(Duration::from_millis(10));
    }
    let id = process.child.id();
    let worker = process::children(id).first().copied();
    Ok(Running { address, id: worker.unwrap_or(id), _process: process })
}

/// Sets wrk upon a server.
fn measure(server: &Running, file: &str, seconds: u64) -> Result<Round, Box<dyn Error>> {
    let url = format!("http://{}/{}", server.address, file_name(file));
    let mut wrk = Command::new("wrk");
    wrk.args(["-t1", "-c32", "--timeout", "30s", &format!("-d{seconds}"), &url])
        .stdout(Stdio::piped());
    let core = process::cores()?.last().copied();
    let before = process::processor_time(server.id)?;
    let start = Instant::now();
    let mut wrk =
        process::spawn_on(core, &mut wrk).map_err(|error| format!("cannot start wrk: {error}"))?;
    // What it has used, as long as it can be asked.
    let mut client = 0;
    while wrk.child.try_wait()?.is_none() {
        client = process::processor_time(wrk.child.id()).unwrap_or(client).max(client);
        thread::sleep(Duration::from_millis(20));
    }
    let (took, used) = (start.elapsed(), process::processor_time(server.id)? - before);
    let mut said = String::new();
    if let Some(mut output) = wrk.child.stdout.take() {
        io::Read::read_to_string(&mut output, &mut said)?;
    }
    if said.contains("Socket errors") || said.contains("Non-2xx") {
        return Err(format!("wrk was not answered as it should be:\n{said}").into());
    }
    let line = said.lines().find_map(|line| line.split_once(" requests in"));
    let count: f64 =
        line.ok_or("wrk does not say how many requests there were")?.0.trim().parse()?;
    Ok(Round {
        rate: count / took.as_secs_f64(),
        server: used as f64 / 1e3 / count,
        client: client as f64 / 1e3 / count,
    })
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// The processor time of a row to the reference's, round by round: the median.
fn ratio(row: &Row, rows: &[Row]) -> f64 {
    let is_other = |other: &&Row| other.file == row.file && other.server == SERVERS[REFERENCE].0;
    let other = rows.iter().find(is_other).expect("the reference takes part");
    let pairs = row.rounds.iter().zip(&other.rounds);
    median(pairs.map(|(one, other)| one.server / other.server).collect())
}

fn publish(options: &Options, machine: &Machine, rows: &[Row]) -> Result<(), Box<dyn Error>> {
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN);
    table.set_header(["file", "server", "cpu µs/request", "ratio", "wrk's", "requests/s"]);
    for row in rows {
        let of = |figure: fn(&Round) -> f64| median(row.rounds.iter().map(figure).collect());
        table.add_row([
            row.file.to_owned(),
            row.server.to_owned(),
            format!("{:.2}", of(|round| round.server)),
            format!("{:.2}", ratio(row, rows)),
            format!("{:.2}", of(|round| round.client)),
            format!("{:.0}", of(|round| round.rate)),
        ]);
    }
    let Options { rounds, seconds, out } = options;
    let text = format!(
        "{machine}\n{rounds} interleaved rounds of {seconds} s, wrk with 32 connections; medians\n\n{table}\n"
    );
    fs::write(out.join("results.md"), &text)?;
    fs::write(out.join("results.json"), serde_json::to_string_pretty(rows)?)?;
    svg::save(out.join("chart.svg"), &chart(machine, rows))?;
    let written = format!("Written to {}: results.md, results.json, chart.svg", out.display());
    Ok(writeln!(io::stdout(), "{text}\n{written}")?)
}

/// A bar for each row: its processor time to the reference's.
fn chart(machine: &Machine, rows: &[Row]) -> Document {
    let text = |x: f64, y: f64, text: String| {
        Text::new(text)
            .set("x", x)
            .set("y", y)
            .set("font-family", "sans-serif")
            .set("font-size", 13)
    };
    let height = 60.0 + 24.0 * rows.len() as f64;
    let mut chart = Document::new()
        .set("viewBox", (0, 0, 720, height))
        .add(Rectangle::new().set("width", 720).set("height", height).set("fill", "#ffffff"));
    let title = "Processor time a request, to nginx's (shorter is better)";
    chart = chart.add(text(10.0, 20.0, title.to_owned()));
    chart = chart.add(text(10.0, 38.0, machine.to_string().trim().replace('\n', "; ")));
    for (place, row) in rows.iter().enumerate() {
        let (y, ratio) = (54.0 + 24.0 * place as f64, ratio(row, rows));
        let colour = if place % SERVERS.len() == 0 { "#d1495b" } else { "#66a182" };
        let bar = Rectangle::new().set("x", 250).set("y", y).set("height", 16);
        chart = chart
            .add(text(10.0, y + 13.0, format!("{}, {}", row.file, row.server)))
            .add(bar.set("width", (ratio * 200.0).min(400.0)).set("fill", colour))
            .add(text(258.0 + (ratio * 200.0).min(400.0), y + 13.0, format!("{ratio:.2}")));
    }
    chart
}
