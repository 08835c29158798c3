//! Measures the two examples that carry what others send: the chat room against the same on tokio,
//! the proxy against HAProxy.
//!
//! ```text
//! cargo run --release --manifest-path benches/Cargo.toml --bin relays -- chat
//! cargo run --release --manifest-path benches/Cargo.toml --bin relays -- proxy
//! ```
//!
//! Rounds are interleaved: each runs every server once, in rotating order, in a new process on the
//! first core; the load is on the second. The table is printed, and written with a chart to
//! `benches/target/relays/`.

use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use comfy_table::{Table, presets};
use lexopt::{Arg, Parser, ValueExt};
use mio::{Events, Interest, Poll, Token};
use svg::Document;
use svg::node::element::{Rectangle, Text};

#[expect(dead_code, reason = "what the comparison of echo servers needs besides")]
#[path = "../process.rs"]
mod process;

const USAGE: &str = "\
Measures the chat room beside the same on tokio, or the proxy beside HAProxy.

Usage: relays chat|proxy [OPTIONS]

  --rounds COUNT   how often each is measured [default: 7]
  --seconds COUNT  chat: how long in each round [default: 3]
  --mib COUNT      proxy: how much goes through in each round [default: 2048]
  -h, --help       print this";

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// What is asked for.
struct Options {
    rounds: usize,
    seconds: u64,
    mebibytes: usize,
}

/// A server and what was measured of it, round by round.
struct Entry {
    name: &'static str,
    command: Vec<String>,
    rounds: Vec<Vec<f64>>,
}

/// A column of the table.
struct Figure {
    name: &'static str,
    /// Whether the best is the greatest.
    more_is_better: bool,
    decimals: usize,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "relays: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Outcome {
    let mut options = Options { rounds: 7, seconds: 3, mebibytes: 2048 };
    let mut what = None;
    let mut parser = Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Long("rounds") => options.rounds = parser.value()?.parse()?,
            Arg::Long("seconds") => options.seconds = parser.value()?.parse()?,
            Arg::Long("mib") => options.mebibytes = parser.value()?.parse()?,
            Arg::Value(value) if what.is_none() => what = Some(value.string()?),
            Arg::Short('h') | Arg::Long("help") => return Ok(writeln!(io::stdout(), "{USAGE}")?),
            other => return Err(other.unexpected().into()),
        }
    }
    process::end_all_when_interrupted()?;
    process::raise_open_files();
    match what.as_deref() {
        Some("chat") => compare_chats(&options),
        Some("proxy") => compare_proxies(&options),
        _ => Err("it takes chat or proxy (--help tells more)".into()),
    }
}

// Both.

/// Runs all rounds, and shows their results. The first entry is ours, the second what it is
/// compared with.
fn compare(
    title: &str,
    figures: &[Figure],
    mut entries: Vec<Entry>,
    rounds: usize,
    mut measure: impl FnMut(&Entry, Option<usize>) -> Outcome<Vec<f64>>,
) -> Outcome {
    let cores = process::cores()?;
    let (server, load) = (cores.first().copied(), cores.last().copied());
    pin(load)?;
    for round in 0..rounds {
        for place in 0..entries.len() {
            let place = (place + round) % entries.len();
            let measured = measure(&entries[place], server)?;
            entries[place].rounds.push(measured);
        }
        writeln!(io::stderr(), "round {} of {rounds}", round + 1)?;
    }
    let mut text = format!("# {title}\n\n{rounds} rounds, interleaved.\n\n");
    for (column, figure) in figures.iter().enumerate() {
        text += &format!("{}:\n\n{}\n\n", figure.name, table(column, figure, &entries));
    }
    writeln!(io::stdout(), "{text}")?;
    let folder = home().join("target/relays");
    fs::create_dir_all(&folder)?;
    let file = title.split(' ').next().unwrap_or("results").to_lowercase();
    fs::write(folder.join(format!("{file}.md")), text)?;
    Ok(svg::save(folder.join(format!("{file}.svg")), &chart(title, figures, &entries))?)
}

fn pin(core: Option<usize>) -> io::Result<()> {
    let Some(core) = core else { return Ok(()) };
    let mut only = rustix::thread::CpuSet::new();
    only.set(core);
    Ok(rustix::thread::sched_setaffinity(None, &only)?)
}

fn table(column: usize, figure: &Figure, entries: &[Entry]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header(["", "best", "median", "ours to it, by round", "± standard error"]);
    let shown = |value: f64| format!("{value:.*}", figure.decimals);
    for entry in entries {
        let values = sorted(entry, column);
        let best = if figure.more_is_better { values.last() } else { values.first() };
        let ratios = entry.rounds.iter().zip(&entries[0].rounds);
        let logs: Vec<f64> = ratios.map(|(its, ours)| (ours[column] / its[column]).ln()).collect();
        let mean = logs.iter().sum::<f64>() / logs.len() as f64;
        let variance = logs.iter().map(|log| (log - mean).powi(2)).sum::<f64>();
        let error = (variance / (logs.len().max(2) - 1) as f64 / logs.len() as f64).sqrt();
        table.add_row([
            entry.name.to_owned(),
            best.map_or(String::new(), |best| shown(*best)),
            shown(values[values.len() / 2]),
            format!("{:.2}", mean.exp()),
            format!("{:.2}", mean.exp() * error),
        ]);
    }
    table
}

fn sorted(entry: &Entry, column: usize) -> Vec<f64> {
    let mut values: Vec<f64> = entry.rounds.iter().map(|round| round[column]).collect();
    values.sort_by(f64::total_cmp);
    values
}

/// Bars: the median of each figure, the longest one as 1.
fn chart(title: &str, figures: &[Figure], entries: &[Entry]) -> Document {
    const HEIGHT: usize = 22;
    let label = |x: usize, y: usize, text: String| {
        Text::new(text)
            .set("x", x)
            .set("y", y)
            .set("font-family", "sans-serif")
            .set("font-size", 13)
    };
    let mut document = Document::new().add(label(10, 20, title.to_owned()));
    let mut y = 30;
    for (column, figure) in figures.iter().enumerate() {
        y += HEIGHT;
        let better = if figure.more_is_better { "more is better" } else { "less is better" };
        document = document.add(label(10, y, format!("{} ({better})", figure.name)));
        let medians = entries.iter().map(|entry| sorted(entry, column)[entry.rounds.len() / 2]);
        let medians: Vec<f64> = medians.collect();
        let longest = medians.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
        for (place, (entry, median)) in entries.iter().zip(medians).enumerate() {
            let color = if place == 0 { "#2563eb" } else { "#9ca3af" };
            let width = (median / longest * 400.0).max(1.0);
            let bar = Rectangle::new().set("x", 150).set("y", y + 6).set("width", width);
            let value = format!("{median:.*}", figure.decimals);
            document = document
                .add(bar.set("height", HEIGHT - 6).set("fill", color))
                .add(label(10, y + HEIGHT - 3, entry.name.to_owned()))
                .add(label(156 + width as usize, y + HEIGHT - 3, value));
            y += HEIGHT;
        }
    }
    document.set("width", 680).set("height", y + 20).set("style", "background:white")
}

fn home() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn cargo(arguments: &[&str]) -> Outcome {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.arg("build").args(arguments).arg("--locked").stdout(Stdio::null());
    if command.status()?.success() { Ok(()) } else { Err("a server cannot be built".into()) }
}

/// Builds an example of this repository, as anyone would.
fn example(name: &str) -> Outcome<PathBuf> {
    let manifest = home().join("../Cargo.toml").display().to_string();
    let target = home().join("target/readiness");
    let folder = target.display().to_string();
    cargo(&[
        "--release",
        "--manifest-path",
        &manifest,
        "--example",
        name,
        "--target-dir",
        &folder,
    ])?;
    Ok(target.join("release/examples").join(name))
}

/// Starts a server, and waits for the line with its address if it prints one.
fn start(entry: &Entry, core: Option<usize>) -> Outcome<(process::Guarded, Option<SocketAddr>)> {
    let mut command = Command::new(&entry.command[0]);
    command.args(&entry.command[1..]).stdin(Stdio::null()).stderr(Stdio::null());
    let mut server = process::spawn_on(core, command.stdout(Stdio::piped()))?;
    let mut line = String::new();
    if let Some(out) = &mut server.child.stdout {
        BufReader::new(out).read_line(&mut line)?;
    }
    let address = line.trim_end().strip_prefix("Listening on ").map(str::parse).transpose()?;
    Ok((server, address))
}

/// Returns the memory of a process that is in the machine's, with what it shares.
fn resident(id: u32) -> Outcome<f64> {
    let text = fs::read_to_string(format!("/proc/{id}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<f64>().ok());
    Ok(kib.ok_or("/proc does not tell memory")? / 1024.0)
}

// The chat room.

const MEMBERS: usize = 1000;
/// How many members talk. Each says a line, and the next when its own has returned to it.
const TALKERS: [usize; 3] = [1, 10, 100];
/// The bytes of a line as the others receive it.
const LINE: usize = 64;
const BEGIN: &[u8] = b": begin\n";

fn compare_chats(options: &Options) -> Outcome {
    let tokio = ["--profile", "server", "--package", "readiness-benches-servers"];
    let manifest = home().join("Cargo.toml").display().to_string();
    let program = ["--bin", "chat-tokio", "--features", "tokio-chat", "--manifest-path", &manifest];
    cargo(&[&tokio[..], &program[..]].concat())?;
    let ours = example("chat_server")?;
    let theirs = home().join("target/server/chat-tokio");
    for talkers in TALKERS {
        let entries = [("chat_server", &ours), ("tokio", &theirs)].map(|(name, program)| {
            let command = vec![program.display().to_string(), "127.0.0.1:0".to_owned()];
            Entry { name, command, rounds: Vec::new() }
        });
        let title = format!("Chat-{talkers} of {MEMBERS} members, {talkers} of whom talk");
        let figures = [
            Figure { name: "Thousand lines delivered a second", more_is_better: true, decimals: 0 },
            Figure { name: "Processor time a line, in ns", more_is_better: false, decimals: 0 },
            Figure { name: "Resident memory, in MiB", more_is_better: false, decimals: 1 },
        ];
        let time = Duration::from_secs(options.seconds);
        compare(&title, &figures, entries.into(), options.rounds, |entry, core| {
            let (server, address) = start(entry, core)?;
            let address = address.ok_or("the server does not say where it listens")?;
            Chat::gather(address)?.talk(server.child.id(), talkers, time)
        })?;
    }
    Ok(())
}

/// All members, and how many bytes of lines each has received.
struct Chat {
    poll: Poll,
    members: Vec<Member>,
    buffer: Vec<u8>,
}

struct Member {
    stream: mio::net::TcpStream,
    /// The bytes since the talk has begun.
    heard: usize,
    has_begun: bool,
    /// What arrived last: before the beginning its last bytes, then those of a part of a line.
    tail: Vec<u8>,
}

impl Chat {
    fn gather(address: SocketAddr) -> Outcome<Self> {
        let poll = Poll::new()?;
        let mut members = Vec::new();
        for number in 0..MEMBERS {
            let mut stream = TcpStream::connect(address)?;
            stream.set_nodelay(true)?;
            stream.write_all(format!("m{number:04}\n").as_bytes())?;
            stream.set_nonblocking(true)?;
            let mut stream = mio::net::TcpStream::from_std(stream);
            poll.registry().register(&mut stream, Token(number), Interest::READABLE)?;
            members.push(Member { stream, heard: 0, has_begun: false, tail: Vec::new() });
        }
        let mut chat = Self { poll, members, buffer: vec![0; 256 * 1024] };
        // The last of them has joined when it receives its own line; then it is the one that
        // begins.
        chat.until(0, |chat| {
            chat.members[MEMBERS - 1]
                .tail
                .ends_with(format!("m{:04} joined\n", MEMBERS - 1).as_bytes())
        })?;
        (&chat.members[MEMBERS - 1].stream).write_all(b"begin\n")?;
        chat.until(0, |chat| chat.members.iter().all(|member| member.has_begun))?;
        Ok(chat)
    }

    fn talk(mut self, server: u32, talkers: usize, time: Duration) -> Outcome<Vec<f64>> {
        for talker in 0..talkers {
            self.say(talker)?;
        }
        let warm = Instant::now() + time / 4;
        self.until(talkers, |_| Instant::now() >= warm)?;
        let (start, heard, used) = (Instant::now(), self.heard(), process::processor_time(server)?);
        self.until(talkers, |_| start.elapsed() >= time)?;
        let used = process::processor_time(server)? - used;
        let lines = (self.heard() - heard) as f64 / LINE as f64;
        let seconds = start.elapsed().as_secs_f64();
        // All receive everything that was said, to the end.
        self.until(0, |chat| {
            let most = chat.members.iter().map(|member| member.heard).max();
            most.is_some_and(|most| {
                most % LINE == 0 && chat.members.iter().all(|member| member.heard == most)
            })
        })?;
        Ok(vec![lines / seconds / 1000.0, used as f64 / lines, resident(server)?])
    }

    fn heard(&self) -> usize {
        self.members.iter().map(|member| member.heard).sum()
    }

    fn say(&mut self, talker: usize) -> io::Result<()> {
        let mut line = vec![b'~'; LINE - "m0000: ".len()];
        line[LINE - "m0000: ".len() - 1] = b'\n';
        (&self.members[talker].stream).write_all(&line)
    }

    /// Reads on until `is_so`. The first `talkers` members talk.
    fn until(&mut self, talkers: usize, is_so: impl Fn(&Self) -> bool) -> Outcome {
        let mut events = Events::with_capacity(1024);
        let patience = Instant::now() + Duration::from_secs(60);
        while !is_so(self) {
            if Instant::now() > patience {
                return Err("a line is lost: what was to come has not come".into());
            }
            self.poll.poll(&mut events, Some(Duration::from_millis(20)))?;
            for event in &events {
                if self.hear(event.token().0, talkers)? {
                    self.say(event.token().0)?;
                }
            }
        }
        Ok(())
    }

    /// Reads what there is for a member, and returns whether its own line is among it.
    fn hear(&mut self, number: usize, talkers: usize) -> Outcome<bool> {
        let member = &mut self.members[number];
        let mut is_own = false;
        loop {
            let count = match member.stream.read(&mut self.buffer) {
                Ok(0) => return Err("the server has ended a connection".into()),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(is_own),
                Err(error) => return Err(error.into()),
            };
            let mut bytes = &self.buffer[..count];
            if !member.has_begun {
                bytes = match member.begin(bytes) {
                    Some(rest) => &bytes[rest..],
                    None => continue,
                };
            }
            member.heard += bytes.len();
            if number < talkers {
                is_own |= member.hears_itself(number, bytes)?;
            }
            // What is shorter than the buffer was all.
            if count < self.buffer.len() {
                return Ok(is_own);
            }
        }
    }
}

impl Member {
    /// Looks for the line that begins the talk; the place behind it, if it is there.
    fn begin(&mut self, bytes: &[u8]) -> Option<usize> {
        let before = self.tail.len();
        self.tail.extend_from_slice(bytes);
        let found = self.tail.windows(BEGIN.len()).position(|window| window == BEGIN);
        if let Some(found) = found {
            self.tail.clear();
            self.has_begun = true;
            return Some(found + BEGIN.len() - before);
        }
        let excess = self.tail.len().saturating_sub(32);
        self.tail.drain(..excess);
        None
    }

    /// Looks at each whole line, and returns whether one is of this member.
    fn hears_itself(&mut self, number: usize, bytes: &[u8]) -> Outcome<bool> {
        self.tail.extend_from_slice(bytes);
        let own = format!("m{number:04}: ~");
        let whole = self.tail.len() / LINE * LINE;
        let mut is_own = false;
        for line in self.tail[..whole].chunks_exact(LINE) {
            if &line[5..8] != b": ~" || !line.ends_with(b"~\n") {
                return Err(format!("not a line: {:?}", line.escape_ascii().to_string()).into());
            }
            is_own |= line.starts_with(own.as_bytes());
        }
        self.tail.drain(..whole);
        Ok(is_own)
    }
}

// The proxy.

fn compare_proxies(options: &Options) -> Outcome {
    if !Command::new("haproxy").arg("-v").stdout(Stdio::null()).status().is_ok_and(|s| s.success())
    {
        return Err("haproxy is not installed".into());
    }
    let upstream = TcpListener::bind("127.0.0.1:0")?;
    let target = upstream.local_addr()?;
    let ours = example("proxy")?.display().to_string();
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let haproxy = |file: &str, option: &str| -> Outcome<Vec<String>> {
        let mut text = String::from("global\n nbthread 1\n maxconn 5000\ndefaults\n mode tcp\n");
        writeln!(text, " timeout connect 5s\n timeout client 60s\n timeout server 60s{option}")?;
        writeln!(text, "listen all\n bind {port}\n server one {target}")?;
        let path = home().join("target").join(file);
        fs::write(&path, text)?;
        Ok(vec!["haproxy".into(), "-db".into(), "-f".into(), path.display().to_string()])
    };
    let commands = [
        ("proxy", vec![ours, port.to_string(), target.to_string()]),
        ("haproxy", haproxy("haproxy.cfg", "")?),
        ("haproxy, splicing", haproxy("haproxy-splice.cfg", "\n option splice-auto")?),
    ];
    let entries = commands.map(|(name, command)| Entry { name, command, rounds: Vec::new() });
    let figures = [
        Figure { name: "Processor time a GiB, in ms", more_is_better: false, decimals: 0 },
        Figure { name: "GiB a second", more_is_better: true, decimals: 2 },
        Figure { name: "Resident memory, in MiB", more_is_better: false, decimals: 1 },
        Figure { name: "The same with 1,000 connections", more_is_better: false, decimals: 1 },
    ];
    let title = format!("Proxy: one stream of {} MiB", options.mebibytes);
    compare(&title, &figures, entries.into(), options.rounds, |entry, core| {
        let mut command = Command::new(&entry.command[0]);
        command.args(&entry.command[1..]).stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let server = process::spawn_on(core, &mut command)?;
        stream(&upstream, port, server.child.id(), options.mebibytes)
    })
}

/// Sends that much through a proxy, and then opens a thousand connections.
fn stream(
    upstream: &TcpListener,
    address: SocketAddr,
    id: u32,
    mebibytes: usize,
) -> Outcome<Vec<f64>> {
    let block = vec![7; 1 << 20];
    let patience = Instant::now() + Duration::from_secs(10);
    let mut source = loop {
        match TcpStream::connect(address) {
            Ok(stream) => break stream,
            Err(error) if Instant::now() > patience => return Err(error.into()),
            Err(_) => thread::sleep(Duration::from_millis(5)),
        }
    };
    let (mut sink, _) = upstream.accept()?;
    let (start, used) = (Instant::now(), process::processor_time(id)?);
    let arrived = thread::scope(|scope| -> Outcome<usize> {
        let reading = scope.spawn(move || -> io::Result<usize> {
            let (mut buffer, mut arrived) = (vec![0; 256 * 1024], 0);
            loop {
                match sink.read(&mut buffer)? {
                    0 => return Ok(arrived),
                    count => arrived += count,
                }
            }
        });
        for _ in 0..mebibytes {
            source.write_all(&block)?;
        }
        source.shutdown(Shutdown::Write)?;
        Ok(reading.join().map_err(|_| "the reading thread panicked")??)
    })?;
    let (seconds, used) = (start.elapsed().as_secs_f64(), process::processor_time(id)? - used);
    if arrived != mebibytes << 20 {
        return Err(format!("{arrived} bytes have arrived").into());
    }
    let gibibytes = mebibytes as f64 / 1024.0;
    let memory = resident(id)?;
    let mut open = Vec::new();
    for _ in 0..MEMBERS {
        let mut client = TcpStream::connect(address)?;
        let (mut server, _) = upstream.accept()?;
        client.write_all(b"hello")?;
        server.read_exact(&mut [0; 5])?;
        open.push((client, server));
    }
    Ok(vec![used as f64 / 1e6 / gibibytes, gibibytes / seconds, memory, resident(id)?])
}
