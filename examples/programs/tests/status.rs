//! The page that shows a running loop: what it answers and refuses, its feed and its metrics on the
//! simulated network, the program that serves it, and the page itself in a browser.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a failure, also in a helper, is the test's message")]
#![allow(unreachable_pub, reason = "what is shared is public within each test file")]

#[path = "support/browser.rs"]
mod browser;
#[path = "../../../tests/common/mod.rs"]
mod common;
#[path = "../../../tests/common/programs.rs"]
mod programs;
mod support;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use ::programs::status::{PERIOD, RUNS, StatusPage, UNSENT_MAX, VIEWERS_MAX};
use browser::{Browser, browser};
use common::{PATIENCE, pattern, peer};
use programs::Program;
use readiness::simulation::{Faults, Peer, PeerState, Simulation, try_seeds};
use readiness::{ConnectionId, Event, EventLoop};
use serde_json::Value;

/// An echo server with a page on a simulated network.
struct Stage {
    simulation: Simulation,
    server: EventLoop,
    status: StatusPage,
    echo: SocketAddr,
    page: SocketAddr,
    accepted: Vec<ConnectionId>,
}

impl Stage {
    fn new(simulation: Simulation) -> Self {
        let mut server: EventLoop = simulation.event_loop();
        let echo = server.listen("127.0.0.1:65432").unwrap();
        let page = server.listen("127.0.0.1:8081").unwrap();
        let status = StatusPage::at(&mut server, page).unwrap();
        let echo = server.listener_addr(echo).unwrap();
        let page = server.listener_addr(status.listener()).unwrap();
        Self { simulation, server, status, echo, page, accepted: Vec::new() }
    }

    /// Lets everything happen that can without time passing.
    fn settle(&mut self) {
        let mut idle = 0;
        while idle < 3 {
            idle += 1;
            if self.simulation.step() {
                idle = 0;
            }
            while let Some(event) = self.server.poll_event(Some(Duration::ZERO)).unwrap() {
                idle = 0;
                if self.status.handle(&mut self.server, event) {
                    continue;
                }
                match event {
                    Event::Accepted(_, id) => self.accepted.push(id),
                    Event::Received(id) => self.server[id].send_received(),
                    _ => {}
                }
            }
        }
    }

    fn pass(&mut self, time: Duration) {
        self.simulation.pass_time(time);
        self.settle();
    }

    /// Writes all of it, and returns what has come back when nothing moves.
    fn ask(&mut self, peer: &mut Peer, request: &[u8]) -> String {
        let (mut written, mut answer) = (0, Vec::new());
        loop {
            written += peer.write(&request[written..]);
            self.settle();
            match peer.read() {
                more if more.is_empty() && written == request.len() => break,
                more => answer.extend(more),
            }
        }
        String::from_utf8(answer).unwrap()
    }

    /// What a peer is answered that asks for something with this host.
    fn answer(&mut self, method: &str, target: &str, host: &str) -> String {
        let mut peer = self.simulation.connect(self.page);
        let request = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        self.ask(&mut peer, request.as_bytes())
    }

    fn watch(&mut self) -> (Peer, String) {
        let mut viewer = self.simulation.connect(self.page);
        let answer = self.ask(&mut viewer, b"GET /feed HTTP/1.1\r\nHost: localhost\r\n\r\n");
        (viewer, answer)
    }

    fn metrics(&mut self) -> BTreeMap<String, f64> {
        let answer = self.answer("GET", "/metrics", "127.0.0.1:8081");
        assert!(answer.contains("Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n"));
        parse_metrics(answer.split_once("\r\n\r\n").unwrap().1)
    }
}

fn stage() -> Stage {
    Stage::new(Simulation::new(1))
}

/// Reads the text format of Prometheus, and refuses what breaks its rules or its conventions.
fn parse_metrics(text: &str) -> BTreeMap<String, f64> {
    assert!(text.ends_with('\n'), "the last line has no end");
    let is_name = |name: &str| {
        name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'))
            && !name.starts_with(|first: char| first.is_ascii_digit())
    };
    let (mut help, mut family, mut samples) = (None, None, BTreeMap::new());
    let mut families = Vec::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, words) = rest.split_once(' ').unwrap();
            assert!(is_name(name) && words.ends_with('.') && !words.contains('\\'), "{line}");
            help = Some(name.to_owned());
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert_eq!(help.as_deref(), Some(name), "its help comes first");
            assert!(!families.contains(&name.to_owned()), "{name} is there twice");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
            assert!(matches!(kind, "counter" | "gauge"), "{line}");
            families.push(name.to_owned());
            family = Some(name.to_owned());
        } else {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
            assert_eq!(family.as_deref(), Some(name), "a sample stands below its type");
            let labels = labels.strip_suffix('}').unwrap();
            for label in labels.split(',').filter(|label| !label.is_empty()) {
                let (label, value) = label.split_once('=').unwrap();
                let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
                assert!(is_name(label) && is_name(value.unwrap()), "{line}");
            }
            let value: f64 = value.parse().unwrap();
            assert!(value >= 0.0, "{line}");
            assert_eq!(samples.insert(series.to_owned(), value), None, "{series} is there twice");
        }
    }
    samples
}

/// The whole messages of a feed: the name of each, and its data.
fn messages(feed: &str) -> Vec<(String, String)> {
    let body = feed.split_once("\r\n\r\n").map_or(feed, |(_, body)| body);
    let whole = body.rfind("\n\n").map_or("", |end| &body[..end + 2]);
    let field = |message: &str, name: &str| {
        let lines = message.lines().filter_map(|line| line.strip_prefix(name));
        lines.map(str::to_owned).collect::<Vec<String>>().join("\n")
    };
    let all = whole.split("\n\n").filter(|message| message.contains("event: "));
    all.map(|message| (field(message, "event: "), field(message, "data: "))).collect()
}

fn last_view(feed: &str) -> Value {
    let all = messages(feed);
    let view = all.iter().rev().find(|message| message.0 == "view").expect("a view");
    serde_json::from_str(&view.1).unwrap()
}

#[test]
fn page_is_one_file_that_may_run_its_own_script_alone_and_changes_its_nonce() {
    let mut stage = stage();
    let answers = [0, 1].map(|_| stage.answer("GET", "/", "localhost:8081"));
    let nonces = answers.map(|answer| {
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        let nonce = head.split("script-src 'nonce-").nth(1).unwrap().split('\'').next().unwrap();
        assert!(nonce.len() == 32 && nonce.bytes().all(|byte| byte.is_ascii_hexdigit()));
        for part in ["default-src 'none'", "connect-src 'self'", "frame-ancestors 'none'"] {
            assert!(head.contains(part), "{head}");
        }
        assert!(!head.contains("unsafe") && head.contains("X-Content-Type-Options: nosniff"));
        assert_eq!(body.matches(&format!("nonce=\"{nonce}\"")).count(), 2, "script and style");
        for strange in
            ["http://", "https://", "src=", "@import", "innerHTML", "style=\"", "onclick="]
        {
            assert!(!body.contains(strange), "the page has {strange}");
        }
        nonce.to_owned()
    });
    assert_ne!(nonces[0], nonces[1]);
}

#[test]
fn stranger_hosts_and_everything_but_reading_are_refused() {
    let mut stage = stage();
    for target in ["/", "/feed", "/metrics", "/runs/talkers.run"] {
        for host in ["evil.example", "evil.example:8081", "10.1.2.3"] {
            let answer = stage.answer("GET", target, host);
            assert!(answer.starts_with("HTTP/1.1 421 "), "{target} {host}: {answer}");
            assert!(!answer.contains("data:"), "{answer}");
        }
        for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
            let answer = stage.answer(method, target, "localhost");
            assert!(answer.starts_with("HTTP/1.1 405 ") && answer.contains("Allow: GET, HEAD\r\n"));
        }
    }
    for target in ["/x", "/runs/", "/runs/../status.rs", "/runs/%2e%2e/x.run", "/feeds"] {
        let answer = stage.answer("GET", target, "localhost");
        assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    }
    let mut peer = stage.simulation.connect(stage.page);
    assert!(stage.ask(&mut peer, b"no http\r\n\r\n").starts_with("HTTP/1.1 400 "));
    let mut peer = stage.simulation.connect(stage.page);
    assert!(stage.ask(&mut peer, &[b'a'; 9000]).starts_with("HTTP/1.1 4"));
}

#[test]
fn head_of_each_page_comes_without_a_body() {
    let mut stage = stage();
    for target in ["/", "/metrics", "/runs/talkers.run"] {
        let answer = stage.answer("HEAD", target, "localhost");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains("200 OK") && head.contains("Content-Length: ") && body.is_empty());
    }
}

#[test]
fn recorded_runs_are_served_as_they_are() {
    let mut stage = stage();
    for (name, run) in RUNS {
        let answer = stage.answer("GET", &format!("/runs/{name}.run"), "[::1]:8081");
        assert_eq!(answer.split_once("\r\n\r\n").unwrap().1, run);
    }
}

#[test]
fn feed_shows_a_slow_reader_as_stuck_after_a_second_and_not_before() {
    let mut faults = Faults::none();
    (faults.send_buffer, faults.receive_buffer) = (300_000, 300_000);
    let simulation = Simulation::with_faults(1, faults);
    let mut stage = Stage::new(simulation);
    let mut quick = stage.simulation.connect(stage.echo);
    assert_eq!(stage.ask(&mut quick, b"hello"), "hello");
    let mut slow = stage.simulation.connect(stage.echo);
    let (mut viewer, first) = stage.watch();
    assert!(first.contains("Content-Type: text/event-stream\r\n"), "{first}");
    let view = last_view(&first);
    assert_eq!((view["total"].as_u64(), view["stuck"].as_u64()), (Some(2), Some(0)), "{view}");
    // It writes on until nobody takes any more, and reads nothing.
    while slow.write(&pattern(0, 10_000)) > 0 {
        stage.settle();
    }
    let mut feed = String::new();
    for _ in 0..3 {
        stage.pass(PERIOD);
        feed += &String::from_utf8(viewer.read()).unwrap();
    }
    assert_eq!(last_view(&feed)["stuck"], 0, "less than a second has passed");
    stage.pass(PERIOD);
    stage.pass(PERIOD);
    feed += &String::from_utf8(viewer.read()).unwrap();
    let view = last_view(&feed);
    assert_eq!((view["stuck"].as_u64(), view["total"].as_u64()), (Some(1), Some(2)), "{view}");
    let row = view["rows"].as_array().unwrap().iter().find(|row| row["stuck"] == true).unwrap();
    assert_eq!(row["id"], stage.accepted[1].to_string());
    assert_eq!(
        (row["interest"].as_str(), row["waits_for"].as_str()),
        (Some("W"), Some("peer_to_read"))
    );
    assert_eq!(row["peer"], slow.local_addr().to_string());
    assert!(row["unsent"].as_u64().unwrap() > 0, "{row}");
    let id = stage.accepted[1].to_string();
    let steps: Vec<String> = messages(&feed)
        .into_iter()
        .filter(|message| message.0 == "steps")
        .flat_map(|message| message.1.lines().map(str::to_owned).collect::<Vec<_>>())
        .collect();
    let flip = format!("\tinterest\t{id}\tfrom=readable to=writable\t");
    assert!(steps.iter().any(|line| line.contains(&flip)), "{steps:#?}");
    assert!(steps.iter().all(|line| line.split('\t').count() == 6), "they are lines of a run");
}

#[test]
fn metrics_follow_the_format_and_count_without_a_viewer() {
    let mut stage = stage();
    assert_eq!(stage.metrics()["readiness_accepted_total"], 0.0);
    let mut first = stage.simulation.connect(stage.echo);
    let second = stage.simulation.connect(stage.echo);
    assert_eq!(stage.ask(&mut first, b"hello"), "hello");
    first.finish();
    second.reset();
    let _third = stage.simulation.connect(stage.echo);
    stage.settle();
    let metrics = stage.metrics();
    for (name, value) in [
        ("readiness_accepted_total", 3.0),
        ("readiness_connections", 1.0),
        ("readiness_listeners", 1.0),
        ("readiness_viewers", 0.0),
        ("readiness_closed_total{reason=\"finished\"}", 1.0),
        ("readiness_closed_total{reason=\"reset\"}", 1.0),
        ("readiness_waiting_connections{waits_for=\"peer_to_send\"}", 1.0),
        // The page's own are not among them.
        ("readiness_read_bytes_total", 5.0),
        ("readiness_written_bytes_total", 5.0),
        // With no viewer nothing is recorded.
        ("readiness_watched_working_seconds_total", 0.0),
        ("readiness_watched_seconds_total", 0.0),
    ] {
        assert_eq!(metrics.get(name), Some(&value), "{name} in {metrics:#?}");
    }
}

#[test]
fn bytes_are_counted_without_requests_to_the_page_and_its_answers() {
    let mut faults = Faults::none();
    (faults.send_buffer, faults.receive_buffer) = (1000, 1000);
    let mut stage = Stage::new(Simulation::with_faults(2, faults));
    let mut client = stage.simulation.connect(stage.echo);
    let (viewer, _) = stage.watch();
    let mut half = stage.simulation.connect(stage.page);
    assert_eq!(half.write(b"GET /feed HT"), 12);
    let mut count = 0.0;
    let mut assert_counted = |stage: &mut Stage| {
        assert_eq!(stage.ask(&mut client, b"hello"), "hello");
        count += 5.0;
        let metrics = stage.metrics();
        for name in ["readiness_read_bytes_total", "readiness_written_bytes_total"] {
            assert_eq!(metrics[name], count, "{name}");
        }
    };
    for _ in 0..5 {
        stage.pass(PERIOD);
        assert_counted(&mut stage);
    }
    let unsent: usize = stage.server.connections().map(|it| it.unsent()).sum();
    assert!(unsent > 0, "the viewer, which does not read, has nothing unsent");
    viewer.reset();
    half.reset();
    stage.settle();
    assert_counted(&mut stage);
    // The program may say something to all its connections, also to those that the page refuses.
    let silent = stage.simulation.connect(stage.page);
    stage.settle();
    silent.reset();
    stage.server.connections_mut().for_each(|connection| connection.send(b"bye"));
    stage.settle();
    stage.metrics();
}

#[test]
fn steps_are_recorded_only_while_somebody_watches_and_there_is_room() {
    let mut stage = stage();
    let mut client = stage.simulation.connect(stage.echo);
    let (mut viewer, _) = stage.watch();
    stage.pass(PERIOD);
    viewer.read();
    for _ in 0..40 {
        assert_eq!(stage.ask(&mut client, b"hello"), "hello");
    }
    stage.pass(PERIOD);
    let feed = String::from_utf8(viewer.read()).unwrap();
    assert_eq!(last_view(&feed)["skips_steps"], true);
    let steps = || messages(&feed).into_iter().filter(|message| message.0 == "steps");
    assert_eq!(steps().map(|message| message.1.lines().count()).max(), Some(64));
    // The next period has room again.
    assert_eq!(stage.ask(&mut client, b"hello"), "hello");
    stage.pass(PERIOD);
    let feed = String::from_utf8(viewer.read()).unwrap();
    assert_eq!(last_view(&feed)["skips_steps"], false);
    assert!(feed.contains("\tfilled\t"), "{feed}");

    assert_eq!(stage.metrics()["readiness_viewers"], 1.0);
    viewer.reset();
    stage.settle();
    let before = stage.metrics();
    assert_eq!(stage.ask(&mut client, b"hello again"), "hello again");
    let after = stage.metrics();
    for name in ["", "_waiting", "_working"] {
        let name = format!("readiness_watched{name}_seconds_total");
        assert!(before[&name] > 0.0, "{name} has not grown while somebody watched");
        assert_eq!(before[&name], after[&name], "{name} grows with nobody there");
    }
    assert!(after["readiness_turns_total"] > before["readiness_turns_total"]);
    // The timer is gone too: nothing is due once the last answer is done with.
    stage.pass(Duration::from_secs(31));
    assert_eq!(stage.server.next_timeout(), None);
}

#[test]
fn viewer_that_does_not_read_is_dropped_by_its_limit_and_harms_nobody() {
    let mut faults = Faults::none();
    (faults.send_buffer, faults.receive_buffer) = (1000, 1000);
    let mut stage = Stage::new(Simulation::with_faults(2, faults));
    let mut client = stage.simulation.connect(stage.echo);
    let mut viewer = stage.simulation.connect(stage.page);
    let request = b"GET /feed HTTP/1.1\r\nHost: localhost\r\n\r\n";
    assert_eq!(viewer.write(request), request.len());
    stage.settle();
    assert_eq!(stage.metrics()["readiness_viewers"], 1.0);
    let mut most = 0;
    for _ in 0..100 {
        stage.pass(PERIOD);
        let unsent = stage.server.connections().map(|it| it.unsent()).max().unwrap();
        most = most.max(unsent);
    }
    assert!(most > 1000 && most <= UNSENT_MAX, "{most} bytes were kept for it");
    assert_eq!(stage.metrics()["readiness_viewers"], 0.0);
    assert_eq!(viewer.state(), PeerState::Reset);
    assert_eq!(stage.ask(&mut client, b"still there"), "still there");
}

#[test]
fn more_viewers_than_there_may_be_are_turned_away() {
    let mut stage = stage();
    let viewers: Vec<Peer> = (0..VIEWERS_MAX).map(|_| stage.watch().0).collect();
    let mut more = stage.simulation.connect(stage.page);
    more.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    stage.settle();
    assert_eq!((more.state(), more.read()), (PeerState::Reset, Vec::new()));
    drop(viewers);
    stage.settle();
    assert!(stage.answer("GET", "/", "localhost").starts_with("HTTP/1.1 200 OK"));
}

#[test]
fn silent_connection_to_the_page_is_closed() {
    let mut stage = stage();
    let silent = stage.simulation.connect(stage.page);
    stage.settle();
    for _ in 0..3 {
        stage.pass(Duration::from_secs(11));
    }
    assert_ne!(silent.state(), PeerState::Open);
    assert_eq!(stage.server.connection_count(), 0);
}

#[test]
fn thousand_connections_are_sampled_and_the_slow_one_is_among_them() {
    let mut stage = stage();
    let mut clients: Vec<Peer> = (0..1000).map(|_| stage.simulation.connect(stage.echo)).collect();
    stage.settle();
    let slow = clients.last_mut().unwrap();
    while slow.write(&pattern(0, 10_000)) > 0 {
        stage.settle();
    }
    let (mut viewer, first) = stage.watch();
    let view = last_view(&first);
    assert_eq!(view["total"], 1000);
    let rows = |view: &Value| -> Vec<String> {
        let rows = view["rows"].as_array().unwrap();
        let mut ids: Vec<_> =
            rows.iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect();
        ids.sort();
        ids
    };
    assert_eq!(rows(&view).len(), 200);
    assert!(rows(&view).contains(&stage.accepted[999].to_string()));
    // The sample stays as it is, also when some have left.
    drop(clients.drain(..5));
    stage.settle();
    stage.pass(PERIOD);
    let next = last_view(&String::from_utf8(viewer.read()).unwrap());
    assert_eq!(next["total"], 995);
    let (before, after) = (rows(&view), rows(&next));
    let same = after.iter().filter(|id| before.contains(id)).count();
    assert!(same >= 190, "the sample has changed: {same} of 200 stay");
}

#[test]
fn page_and_echo_survive_bad_networks() {
    let outcome = try_seeds(0..60, |simulation| {
        let mut stage = Stage::new(simulation.clone());
        let mut viewer = stage.simulation.connect(stage.page);
        let mut client = stage.simulation.connect(stage.echo);
        viewer.write(b"GET /feed HTTP/1.1\r\nHost: localhost\r\n\r\n");
        for _ in 0..20 {
            client.write(b"hello");
            stage.pass(PERIOD);
            client.read();
            viewer.read();
        }
        simulation.set_faults(Faults::none());
        stage.pass(Duration::from_secs(2)); // a pause of accepting ends
        let answer = stage.answer("GET", "/metrics", "localhost");
        let (_, body) = answer.split_once("\r\n\r\n").expect("an answer");
        parse_metrics(body);
        drop((viewer, client));
        for _ in 0..4 {
            stage.pass(Duration::from_secs(61));
        }
        assert_eq!(stage.server.connection_count(), 0, "{}", stage.server.explain());
        Ok(())
    });
    outcome.unwrap();
}

/// The program with its page, and the addresses of both.
fn start(path: &str, arguments: &[&str]) -> (Program, SocketAddr, SocketAddr) {
    let arguments = [arguments, &["--status", "127.0.0.1:0"]].concat();
    let mut program = Program::start_at(path.as_ref(), &arguments);
    let line = program.stdout.next().unwrap();
    let echo = line.strip_prefix("Listening on ").unwrap().parse().unwrap();
    let line = program.stdout.next().unwrap();
    let page = line.strip_prefix("Status at http://").and_then(|line| line.strip_suffix('/'));
    (program, echo, page.unwrap().parse().unwrap())
}

fn start_echo() -> (Program, SocketAddr, SocketAddr) {
    start(env!("CARGO_BIN_EXE_status_echo_server"), &["127.0.0.1:0"])
}

#[test]
fn http_server_mounts_the_page_beside_its_files() {
    let arguments = ["127.0.0.1:0", "tests/data", "--log", "off"];
    let (_server, files, page) = start(env!("CARGO_BIN_EXE_http_server"), &arguments);
    for (address, target, wanted) in [
        (files, "/cert.pem", "BEGIN CERTIFICATE"),
        (page, "/metrics", "readiness_accepted_total 1"),
    ] {
        let mut peer = peer(address);
        let request =
            format!("GET {target} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        peer.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        peer.read_to_string(&mut answer).unwrap();
        assert!(answer.contains(wanted), "{answer}");
    }
}

#[test]
fn program_ends_gracefully_while_its_page_is_watched() {
    let (program, _, page) = start_echo();
    let mut viewer = peer(page);
    viewer.write_all(b"GET /feed HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut some = [0; 100];
    assert!(viewer.read(&mut some).unwrap() > 0);
    program.signal("INT");
    viewer.read_to_end(&mut Vec::new()).unwrap();
    viewer.shutdown(Shutdown::Both).ok();
    assert_eq!(program.ended().status, Some(0));
}

#[test]
fn browser_shows_a_stalled_connection_and_its_interest() {
    let name = browser();
    skip_unless!(name.is_some(), "chromium is not here");
    let (_server, echo, page) = start_echo();
    let mut quick = peer(echo);
    quick.write_all(b"hello").unwrap();
    let mut browser = Browser::start(name.unwrap());
    browser.look(1200, false);
    browser.open(&format!("http://{page}/"));
    browser.until("document.querySelectorAll('#rows tbody tr').length === 1", PATIENCE);
    let row = "document.querySelector('#rows tbody tr:nth-child(2)')";
    // Two flips between two views are seen too, by their steps.
    let seen = browser.value(
        "(() => { const row = live.rows.values().next().value, now = live.view.at_ms * 1000; \
         takeSteps([[1000, 'writable'], [2000, 'readable']].map(([after, to]) => \
         parseLine(`${now + after}\\tinterest\\t${row.data.id}\\tto=${to}\\t-\\t-`))); \
         return row.changes.slice(-3).map(change => change[1]).join(); })()",
    );
    assert_eq!(seen, "R,W,R");
    let mut slow = TcpStream::connect(echo).unwrap();
    browser.until(&format!("{row}?.dataset.interest === 'R'"), PATIENCE);
    slow.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
    while slow.write(&pattern(0, 64 * 1024)).is_ok_and(|count| count > 0) {}
    let stalled = Instant::now();
    browser.until(&format!("{row}.dataset.interest === 'W'"), PATIENCE);
    browser.until(&format!("{row}.innerText.includes('stuck')"), PATIENCE);
    common::measure::aloud(format_args!("stuck on the page after {:?}", stalled.elapsed()));
    browser.until("document.getElementById('headline').innerText.includes('is slow')", PATIENCE);
    browser.until(
        "document.getElementById('headline').innerText.includes('The loop is at rest')",
        PATIENCE,
    );
    let shows = |letter: &str| {
        format!(
            "(() => {{ const band = {row}.querySelector('canvas'), wanted = paint.{letter}; \
             const pixels = band.getContext('2d').getImageData(band.width - 9, 0, 9, band.height).data; \
             for (let at = 0; at < pixels.length; at += 4) {{ \
             const hex = [...pixels.slice(at, at + 3)].map(it => it.toString(16).padStart(2, '0')).join(''); \
             if ('#' + hex === wanted) return true; }} return false; }})()"
        )
    };
    browser.until(&shows("W"), PATIENCE);
    check_what_is_read_aloud(&mut browser, row);
    // Only what is stuck is left by the filter, which the keyboard reaches.
    browser.value("document.querySelector('[name=filter]').focus()");
    browser.press("ArrowRight");
    browser.until(
        "[...document.querySelectorAll('#rows tbody tr')].filter(row => !row.hidden).length === 1",
        PATIENCE,
    );
    take_pictures(&mut browser, "live");
    // It reads again, and its interest goes back.
    slow.set_nonblocking(true).unwrap();
    let end = Instant::now() + PATIENCE;
    let mut piece = vec![0; 1 << 16];
    while browser.value(&format!("{row}.dataset.interest")) != "R" {
        while slow.read(&mut piece).is_ok_and(|count| count > 0) {}
        assert!(Instant::now() < end, "its interest stays");
    }
    browser.value("document.querySelector('[name=filter]').click()");
    browser.until(&shows("R"), PATIENCE);
    assert_eq!(browser.complaints, [""; 0]);
}

/// The band of the row has its story as a name. A client that reads a little now and then stays
/// named by the headline, and is announced once.
fn check_what_is_read_aloud(browser: &mut Browser, row: &str) {
    let label = browser.value(&format!("{row}.querySelector('canvas').getAttribute('aria-label')"));
    let label = label.as_str().unwrap();
    assert!(label.starts_with("Interest writable; in the last 10 s readable for "), "{label}");
    assert!(label.contains(" s, then writable for "), "{label}");
    let told = browser.value(
        "(() => { const view = structuredClone(live.view), row = view.rows[1], told = []; \
         const look = () => { takeView(structuredClone(view)); \
         told.push(document.getElementById('headline').textContent + '|' + \
         document.getElementById('spoken').textContent); }; \
         look(); view.stuck = 0; row.stuck = false; look(); \
         row.unsent = 0; look(); return told.join('\\n').replaceAll(row.id, 'ID'); })()",
    );
    let told: Vec<&str> = told.as_str().unwrap().lines().collect();
    let spoken: Vec<&str> = told.iter().map(|line| line.split_once('|').unwrap().1).collect();
    assert!(told[0].contains("is slow: its client has not read for"), "{told:#?}");
    assert!(told[1].contains("is slow: its client reads a little at a time"), "{told:#?}");
    assert!(told[2].starts_with("The loop"), "{told:#?}");
    assert!(spoken[0].starts_with("Slow client: ID. ") && spoken[1] == spoken[0], "{spoken:#?}");
    assert_eq!(spoken[2], "ID is not slow any more.");
}

#[test]
fn browser_shows_a_thousand_connections() {
    let name = browser();
    skip_unless!(name.is_some(), "chromium is not here");
    common::child::with_descriptors(test_name!(), 1_200, || {
        let (_server, echo, page) = start_echo();
        let _clients: Vec<TcpStream> = (0..1000).map(|_| peer(echo)).collect();
        let mut browser = Browser::start(name.unwrap());
        browser.look(1200, false);
        browser.open(&format!("http://{page}/"));
        let shown = "document.getElementById('shown').textContent";
        let sample = "those that need it most, and a sample of the rest.";
        let wanted = format!("Showing 200 of 1,000 connections: {sample}");
        browser.until(&format!("{shown} === '{wanted}'"), PATIENCE);
        let took = browser.value(
            "(() => { const start = performance.now(); \
             for (let count = 0; count < 10; count++) takeView(live.view); \
             for (const row of live.visible) drawRow(row); \
             return (performance.now() - start) / 10; })()",
        );
        common::measure::aloud(format_args!("a view of 1,000 connections takes {took} ms"));
        take_pictures(&mut browser, "thousand");
        assert_eq!(browser.complaints, [""; 0]);
    });
}

#[test]
fn browser_plays_each_run_forwards_and_backwards() {
    let name = browser();
    skip_unless!(name.is_some(), "chromium is not here");
    let (_server, _, page) = start_echo();
    let mut browser = Browser::start(name.unwrap());
    browser.look(1200, true);
    for (name, run) in RUNS {
        browser.open(&format!("http://{page}/?run={name}"));
        browser.until(&format!("document.body.dataset.run === '{name}'"), PATIENCE);
        let listed = browser
            .value("[...document.querySelectorAll('#run option')].map(it => it.value).join()");
        assert_eq!(listed, RUNS.map(|run| run.0).join(","));
        // All steps by the buttons, and back by the keyboard's event.
        let told = browser.value(
            "(() => { const told = [], step = () => told.push(document.getElementById('step').textContent); \
             step(); const next = document.getElementById('next'); \
             while (!next.disabled) { next.click(); step(); } return told; })()",
        );
        let told: Vec<&str> =
            told.as_array().unwrap().iter().map(|it| it.as_str().unwrap()).collect();
        let sentences: Vec<&str> =
            run.lines().skip(1).map(|line| line.split('\t').nth(4).unwrap()).collect();
        assert_eq!(told, sentences, "{name}");
        browser.press("Home");
        assert_eq!(browser.value("document.body.dataset.step"), "0");
        browser.press("ArrowRight");
        browser.press("ArrowRight");
        browser.press("ArrowLeft");
        let place = browser.value("document.getElementById('where').textContent");
        let wanted = run.lines().nth(2).unwrap().split('\t').nth(5).unwrap();
        let (file, function) = wanted.split_once(' ').unwrap();
        let wanted = format!("src/{file}, fn {function} · ");
        assert!(place.as_str().unwrap().starts_with(&wanted), "{name}: {place}");
    }
    browser.open(&format!("http://{page}/?run=slow-reader"));
    browser.until("document.body.dataset.run === 'slow-reader'", PATIENCE);
    for _ in 0..90 {
        browser.press("ArrowRight");
    }
    let label =
        browser.value("document.querySelector('#players canvas').getAttribute('aria-label')");
    assert!(label.as_str().unwrap().starts_with("Interest writable"), "{label}");
    // It says why, in the words of the lesson trace.
    let lesson = include_str!("../../../docs/pictures/runs/slow-reader.txt");
    let reasons: Vec<&str> =
        lesson.lines().filter_map(|line| line.split_once(" interest ")).map(|it| it.1).collect();
    let told = browser.value(
        "player.steps.map((step, at) => [step, at]).filter(it => it[0].step === 'interest') \
         .map(([step, at]) => { go(at); return `${step.fields.from} -> ${step.fields.to}: ` + \
         document.getElementById('why').textContent.replace(/^Why: |[.]$/g, ''); })",
    );
    let told: Vec<&str> = told.as_array().unwrap().iter().map(|it| it.as_str().unwrap()).collect();
    assert_eq!(told, reasons);
    browser.value("go(90)");
    take_pictures(&mut browser, "player");
    assert_eq!(browser.complaints, [""; 0]);
}

#[test]
fn page_opened_as_a_file_plays_a_file_that_is_given_to_it() {
    let name = browser();
    skip_unless!(name.is_some(), "chromium is not here");
    let mut browser = Browser::start(name.unwrap());
    let folder = env!("CARGO_MANIFEST_DIR");
    browser.open(&format!("file://{folder}/src/status.html"));
    let drop = "(() => { const data = new DataTransfer(); \
        data.items.add(new File([RUN], 'mine.run')); \
        document.dispatchEvent(new DragEvent('drop', { dataTransfer: data, bubbles: true, cancelable: true })); })()";
    let text = |run: &str| drop.replace("RUN", &serde_json::to_string(run).unwrap());
    assert_eq!(browser.value("document.getElementById('to-live').checkVisibility()"), false);
    browser.value(&text(RUNS[0].1));
    browser.until("document.body.dataset.run === 'mine.run'", PATIENCE);
    browser.press("End");
    let last = RUNS[0].1.lines().last().unwrap().split('\t').nth(4).unwrap();
    assert_eq!(browser.value("document.getElementById('step').textContent"), last);
    browser.value(&text("no run at all"));
    browser.until(
        "document.getElementById('step').textContent === 'This is no recorded run.'",
        PATIENCE,
    );
    // What a run holds is text, whatever it looks like.
    let evil = "# readiness run 1\n0\twoken\tc0.1\t\t<img src=x onerror=alert(1)>\t<b>x</b> y\n";
    browser.value(&text(evil));
    browser.until("document.getElementById('step').textContent.includes('<img')", PATIENCE);
    assert_eq!(browser.value("document.images.length"), 0);
    assert_eq!(browser.complaints, [""; 0]);
}

/// Puts pictures of the page where the variable says, light and dark, wide and narrow. They are
/// looked at by people. Checks that nothing is wider than the page.
fn take_pictures(browser: &mut Browser, name: &str) {
    let folder = std::env::var_os("STATUS_PICTURES");
    for (width, is_dark) in [(1200, false), (1200, true), (360, false), (360, true)] {
        browser.look(width, is_dark);
        browser.value("new Promise(done => setTimeout(done, 300))");
        let wide = browser.value("document.documentElement.scrollWidth");
        assert!(wide.as_u64() <= Some(width.into()), "{name} is {wide} wide at {width}");
        if let Some(folder) = &folder {
            let shade = if is_dark { "dark" } else { "light" };
            let path = std::path::Path::new(folder).join(format!("{name}-{width}-{shade}.base64"));
            std::fs::write(path, browser.picture()).unwrap();
        }
    }
    browser.look(1200, false);
}
