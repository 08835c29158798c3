//! The example `kv_server`: what it answers, to which clients, and what it withstands.
//!
//! What Redis answers was recorded: `kv_server/replies.txt` has whole requests, and [`RAW`] what is
//! no request, or not the usual way to write one. Where a Redis of the same version is installed,
//! it is asked again. `redis-cli`, `redis-benchmark` and the client of Python talk to the server too
//! where they are installed.
//!
//! Random bytes are sent for a moment. For longer:
//!
//! ```sh
//! READINESS_FUZZ_SECONDS=60 cargo test --test kv_server random -- --nocapture
//! READINESS_FUZZ_SEED=7 cargo test --test kv_server random     # one run again
//! ```

#![cfg_attr(
    not(target_os = "linux"),
    allow(unused_imports, reason = "some tests are for certain systems only")
)]
#![allow(clippy::unwrap_used, reason = "a failure, also in a helper, is the test's message")]
#![allow(unreachable_pub, reason = "what is shared is public within each test file")]

mod common;
#[path = "common/programs.rs"]
mod programs;

// The server itself, to drive it on a simulated network.
#[cfg(feature = "simulation")]
#[path = "../examples/kv_server/commands.rs"]
mod commands;
#[cfg(feature = "simulation")]
#[path = "../examples/kv_server/resp.rs"]
mod resp;
#[cfg(feature = "simulation")]
#[path = "../examples/kv_server/server.rs"]
mod server;
#[cfg(feature = "simulation")]
#[path = "kv_server/simulated.rs"]
mod simulated;
#[cfg(feature = "simulation")]
#[path = "../examples/kv_server/store.rs"]
mod store;

use std::env;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use common::measure::aloud;
use common::{PATIENCE, peer, reset};
use programs::{Program, command};

/// The version that the answers are of.
const RECORDED: &str = "v=7.0.15";

fn started() -> (Program, SocketAddr) {
    programs::server("kv_server")
}

/// Returns a request of these words.
fn request(words: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend(format!("${}\r\n", word.len()).bytes());
        bytes.extend([word, &b"\r\n"[..]].concat());
    }
    bytes
}

fn words(line: &str) -> Vec<u8> {
    request(&line.split(' ').map(str::as_bytes).collect::<Vec<_>>())
}

/// A client that reads one reply after the other.
struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    fn connect(address: SocketAddr) -> Self {
        Self { stream: BufReader::new(peer(address)) }
    }

    fn send(&mut self, line: &str) {
        self.stream.get_mut().write_all(&words(line)).unwrap();
    }

    /// Sends a request and reads its reply, as text.
    fn ask(&mut self, line: &str) -> String {
        self.send(line);
        self.reply()
    }

    fn reply(&mut self) -> String {
        String::from_utf8_lossy(&self.raw_reply()).into_owned()
    }

    fn raw_reply(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.stream.read_until(b'\n', &mut bytes).unwrap();
        assert!(bytes.ends_with(b"\r\n"), "{:?} is no reply", String::from_utf8_lossy(&bytes));
        let line = String::from_utf8_lossy(&bytes[1..]).trim_end().to_owned();
        match bytes[0] {
            b'$' if line != "-1" => {
                let mut value = vec![0; line.parse::<usize>().unwrap() + 2];
                self.stream.read_exact(&mut value).unwrap();
                bytes.extend(value);
            }
            b'*' => {
                for _ in 0..line.parse::<usize>().unwrap() {
                    bytes.extend(self.raw_reply());
                }
            }
            _ => {}
        }
        bytes
    }

    /// Returns the text of a reply that is a string.
    fn text(&mut self, line: &str) -> String {
        let reply = self.ask(line);
        reply.split_once("\r\n").unwrap().1.to_owned()
    }

    /// Returns the lines of `CLIENT LIST`.
    fn listed(&mut self) -> Vec<String> {
        let lines = self.text("CLIENT LIST");
        lines.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
    }
}

// What it answers.

/// Returns the requests of the record, and their replies.
fn recorded() -> Vec<(String, String)> {
    let text = include_str!("kv_server/replies.txt");
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    lines
        .chunks(2)
        .map(|pair| {
            let request = pair[0].strip_prefix("> ").unwrap();
            let reply = pair[1].strip_prefix("< ").unwrap().replace("\\r\\n", "\r\n");
            (request.to_owned(), reply)
        })
        .collect()
}

fn assert_answers_as_recorded(address: SocketAddr) {
    let recorded = recorded();
    assert!(recorded.len() > 150, "only {} requests", recorded.len());
    let mut client = Client::connect(address);
    for (request, expected) in recorded {
        client.send(&request);
        let mut reply = client.reply();
        while reply.len() < expected.len() {
            reply += &client.reply();
        }
        assert_eq!(reply, expected, "to {request}");
    }
    assert_eq!(client.stream.read(&mut [0]).unwrap(), 0, "the last of them ends the connection");
}

/// What is no request, or is written in an unusual way; the answer; and whether the connection is
/// closed.
const RAW: [(&[u8], &[u8], bool); 42] = [
    (
        b"*3\r\n$3\r\nSET\r\n$1\r\nx\r\nfooz\r\n",
        b"-ERR Protocol error: expected '$', got 'f'\r\n",
        true,
    ),
    (b"*-10\r\n", b"", false),
    (b"*0\r\n", b"", false),
    (b"*3000000000\r\n", b"-ERR Protocol error: invalid multibulk length\r\n", true),
    (b"*x\r\n", b"-ERR Protocol error: invalid multibulk length\r\n", true),
    (b"*\r\n", b"-ERR Protocol error: invalid multibulk length\r\n", true),
    (b"*+1\r\n", b"-ERR Protocol error: invalid multibulk length\r\n", true),
    (b"*01\r\n", b"-ERR Protocol error: invalid multibulk length\r\n", true),
    (b"*1\r\n$-10\r\n", b"-ERR Protocol error: invalid bulk length\r\n", true),
    (b"*1\r\n$2000000000\r\n", b"-ERR Protocol error: invalid bulk length\r\n", true),
    (b"*1\r\n$x\r\n", b"-ERR Protocol error: invalid bulk length\r\n", true),
    (b"*1\r\n$\r\n", b"-ERR Protocol error: invalid bulk length\r\n", true),
    (b"*1\r\n\r\n", b"-ERR Protocol error: expected '$', got ' '\r\n", true),
    (b"*1\r\n:1\r\n", b"-ERR Protocol error: expected '$', got ':'\r\n", true),
    (&[b'*'; 70_000], b"-ERR Protocol error: too big mbulk count string\r\n", true),
    (b"PING\r\n", b"+PONG\r\n", false),
    (b"PING\n", b"+PONG\r\n", false),
    (b"  PING  hello  \r\n", b"$5\r\nhello\r\n", false),
    (b"\r\n", b"", false),
    (b"\n", b"", false),
    (b"   \r\n", b"", false),
    (b"PING\r\nPING\r\n", b"+PONG\r\n+PONG\r\n", false),
    (b"ECHO \"a b\"\r\n", b"$3\r\na b\r\n", false),
    (b"ECHO 'a b'\r\n", b"$3\r\na b\r\n", false),
    (b"ECHO \"a\\nb\\x41\\\"\\q\"\r\n", b"$6\r\na\nbA\"q\r\n", false),
    (b"ECHO 'a\\'b\\n'\r\n", b"$5\r\na'b\\n\r\n", false),
    (b"ECHO a\"b c\"\r\n", b"$4\r\nab c\r\n", false),
    (b"ECHO \"abc\r\n", b"-ERR Protocol error: unbalanced quotes in request\r\n", true),
    (b"ECHO \"a\"b\r\n", b"-ERR Protocol error: unbalanced quotes in request\r\n", true),
    (b"ECHO 'a'b\r\n", b"-ERR Protocol error: unbalanced quotes in request\r\n", true),
    (b"ECHO \"\"\r\n", b"$0\r\n\r\n", false),
    (b"ECHO \"\" ''\r\n", b"-ERR wrong number of arguments for 'echo' command\r\n", false),
    (b"ECHO \"\\x4\"\r\n", b"$2\r\nx4\r\n", false),
    (b"FOO bar\r\n", b"-ERR unknown command 'FOO', with args beginning with: 'bar' \r\n", false),
    (&[b'a'; 70_000], b"-ERR Protocol error: too big inline request\r\n", true),
    (b"*1\r\n$4\r\nPINGxx*1\r\n$4\r\nPING\r\n", b"+PONG\r\n+PONG\r\n", false),
    (b"*1\r\n$4\rxPING\r\n", b"+PONG\r\n", false),
    (
        b"*2\r\n$0\r\n\r\n$1\r\na\r\n",
        b"-ERR unknown command '', with args beginning with: 'a' \r\n",
        false,
    ),
    (b"*1\r\n$4\r\nQUIT\r\n*1\r\n$4\r\nPING\r\n", b"+OK\r\n", true),
    (
        b"*1\r\n$4\r\nPING\r\nPING\r\n*-1\r\n*1\r\n$4\r\nPING\r\n",
        b"+PONG\r\n+PONG\r\n+PONG\r\n",
        false,
    ),
    (
        b"*2\r\n$3\r\nFOO\r\n$4\r\na\r\nb\r\n",
        b"-ERR unknown command 'FOO', with args beginning with: 'a  b' \r\n",
        false,
    ),
    // Cut off by the client's end: no request.
    (b"SET cut off", b"", false),
];

fn assert_answers_raw_bytes_as_recorded(address: SocketAddr) {
    for (bytes, expected, closes) in RAW {
        let shown = bytes[..bytes.len().min(80)].escape_ascii();
        let mut client = peer(address);
        // The server may close before it has read all.
        let written = client.write_all(bytes);
        assert!(written.is_ok() || closes, "{shown}: {written:?}");
        if !closes {
            client.shutdown(Shutdown::Write).unwrap();
        }
        let mut reply = Vec::new();
        let read = client.read_to_end(&mut reply);
        assert!(read.is_ok(), "{shown}: {read:?} behind {}", reply.escape_ascii());
        assert_eq!(
            reply.escape_ascii().to_string(),
            expected.escape_ascii().to_string(),
            "to {shown}"
        );
    }
}

#[test]
fn answers_are_those_of_redis_byte_for_byte() {
    let (_server, address) = started();
    assert_answers_as_recorded(address);
    assert_answers_raw_bytes_as_recorded(address);
    assert_eq!(Client::connect(address).ask("EXISTS cut"), ":0\r\n");
}

#[test]
fn redis_answers_as_it_was_recorded() {
    let version = Command::new("redis-server").arg("--version").output();
    let version = version.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let is_here = version.is_ok_and(|version| version.contains(RECORDED));
    skip_unless!(is_here, "the redis-server whose answers were recorded is not installed");
    let redis = Redis::start();
    assert_answers_as_recorded(redis.address);
    assert_answers_raw_bytes_as_recorded(redis.address);
}

/// A Redis of this test's own, which keeps nothing.
struct Redis {
    process: std::process::Child,
    address: SocketAddr,
}

impl Redis {
    fn start() -> Self {
        // Free when it is looked for; Redis cannot choose one itself.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let port = address.port().to_string();
        let mut command = Command::new("redis-server");
        command.args(["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
        let process = command.stdout(Stdio::null()).spawn().unwrap();
        let redis = Self { process, address };
        let end = Instant::now() + PATIENCE;
        while TcpStream::connect(address).is_err() {
            assert!(Instant::now() < end, "Redis does not listen");
            thread::yield_now();
        }
        redis
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // Fails only if it has ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn scan_under_changes_yields_each_key_that_stays() {
    let (_server, address) = started();
    let mut client = Client::connect(address);
    for number in 0..500 {
        client.ask(&format!("MSET stays:{number} 1 goes:{number} 1"));
    }
    let (mut cursor, mut seen, mut round) = (String::from("0"), Vec::new(), 0);
    loop {
        let reply = client.ask(&format!("SCAN {cursor} COUNT 7"));
        let lines: Vec<&str> = reply.split("\r\n").collect();
        cursor = lines[2].to_owned();
        seen.extend(
            lines.iter().filter(|line| line.starts_with("stays:")).map(ToString::to_string),
        );
        client.ask(&format!("DEL goes:{round}"));
        client.ask(&format!("SET comes:{round} 1"));
        round += 1;
        if cursor == "0" {
            break;
        }
        assert!(round < 1_000, "it goes on forever");
    }
    seen.sort();
    let mut expected: Vec<String> = (0..500).map(|number| format!("stays:{number}")).collect();
    expected.sort();
    assert_eq!(seen, expected);
}

#[test]
fn command_names_each_command_and_info_the_work_of_the_loop() {
    let (_server, address) = started();
    let mut client = Client::connect(address);
    let commands = client.ask("COMMAND");
    for line in [
        "\r\nget\r\n:2\r\n*0\r\n:1\r\n:1\r\n:1\r\n",
        "\r\nmset\r\n:-3\r\n*0\r\n:1\r\n:-1\r\n:2\r\n",
    ] {
        assert!(commands.contains(line), "{commands}");
    }
    let count = client.ask("COMMAND COUNT");
    assert!(commands.starts_with(&format!("*{}", &count[1..])), "{count} of {commands}");
    client.ask("SET a 1 EX 100");
    let info = client.text("INFO");
    let value = |name: &str| {
        let line = info.lines().find_map(|line| line.strip_prefix(name)).expect(name);
        line.strip_prefix(':').unwrap().to_owned()
    };
    assert_eq!(value("db0"), "keys=1,expires=1");
    assert_eq!(
        (value("connected_clients"), value("total_commands_processed")),
        ("1".into(), "4".into())
    );
    let sent = words("COMMAND").len() + words("COMMAND COUNT").len();
    let sent = sent + words("SET a 1 EX 100").len() + words("INFO").len();
    assert_eq!(value("bytes_read"), sent.to_string());
    let answered = commands.len() + count.len() + "+OK\r\n".len();
    assert_eq!((value("fills"), value("bytes_written")), ("4".into(), answered.to_string()));
}

#[test]
#[cfg(feature = "simulation")]
fn keys_that_expire_at_once_are_removed_in_parts_and_none_is_found_meanwhile() {
    let start = Instant::now();
    let mut store = store::Store::new(start);
    for number in 0..1_500 {
        store.put(format!("key:{number}").as_bytes(), b"1", Some(start + Duration::from_secs(1)));
    }
    store.advance(start + Duration::from_secs(1));
    assert_eq!((store.places.len(), store.expiries.len()), (500, 500));
    assert_eq!(store.keys(0..1_500).count(), 0);
    let expired: Vec<_> = store.places.iter().map(|(_, key)| key.clone()).take(2).collect();
    assert_eq!(store.value(&expired[0]), None);
    assert!(!store.expire(&expired[0], None));
    assert_eq!(store.remove(&expired[0]), None);
    assert!(store.get_mut(&expired[1]).is_none());
    store.put(&expired[1], b"new", None);
    assert_eq!(store.value(&expired[1]), Some(&b"new".to_vec()));
    store.advance(start + Duration::from_secs(1));
    assert_eq!((store.places.len(), store.expiries.len()), (1, 0));
    assert_eq!(store.keys(0..1_500).count(), 1);
}

// Several clients.

#[test]
fn messages_reach_those_that_are_subscribed() {
    let (_server, address) = started();
    let (mut one, mut two, mut all) =
        (Client::connect(address), Client::connect(address), Client::connect(address));
    one.ask("SUBSCRIBE news");
    two.send("SUBSCRIBE news sports");
    assert_eq!(
        two.reply() + &two.reply(),
        "*3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n*3\r\n$9\r\nsubscribe\r\n$6\r\nsports\r\n:2\r\n"
    );
    all.ask("PSUBSCRIBE *s");
    let mut publisher = Client::connect(address);
    assert_eq!(publisher.ask("PUBLISH news hello"), ":3\r\n");
    assert_eq!(publisher.ask("PUBLISH sports goal"), ":2\r\n");
    assert_eq!(publisher.ask("PUBLISH weather rain"), ":0\r\n");
    let news = "*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$5\r\nhello\r\n";
    assert_eq!((one.reply().as_str(), two.reply().as_str()), (news, news));
    assert_eq!(two.reply(), "*3\r\n$7\r\nmessage\r\n$6\r\nsports\r\n$4\r\ngoal\r\n");
    assert_eq!(all.reply(), "*4\r\n$8\r\npmessage\r\n$2\r\n*s\r\n$4\r\nnews\r\n$5\r\nhello\r\n");
    one.ask("UNSUBSCRIBE");
    drop(two);
    // Until the server has seen the end of it.
    let end = Instant::now() + PATIENCE;
    while publisher.ask("PUBLISH news again") != ":1\r\n" {
        assert!(Instant::now() < end, "a closed client is still subscribed");
    }
    assert_eq!(one.ask("PING"), "+PONG\r\n");
}

#[test]
fn monitor_sees_what_is_asked_until_it_resets() {
    let (_server, address) = started();
    let (mut monitor, mut client) = (Client::connect(address), Client::connect(address));
    assert_eq!(monitor.ask("MONITOR"), "+OK\r\n");
    client.ask("SET a \"\u{1}");
    client.ask("CONFIG GET save");
    client.ask("MULTI");
    client.ask("GET a");
    client.ask("EXEC");
    let from = client.stream.get_ref().local_addr().unwrap();
    for words in ["\"SET\" \"a\" \"\\\"\\x01\"", "\"MULTI\"", "\"GET\" \"a\""] {
        let line = monitor.reply();
        let (time, rest) = line[1..].split_once(' ').unwrap();
        assert!(time.parse::<f64>().is_ok_and(|time| time > 1e9), "{line}");
        assert_eq!(rest, format!("[0 {from}] {words}\r\n"));
    }
    assert_eq!(monitor.ask("PING"), "+PONG\r\n");
    assert!(
        monitor.reply().ends_with("\"PING\"\r\n"),
        "its own requests too, once they are answered"
    );
    assert_eq!(monitor.ask("RESET"), "+RESET\r\n");
    client.ask("GET a");
    assert_eq!(monitor.ask("PING"), "+PONG\r\n");
}

#[test]
fn client_list_shows_what_each_waits_for_and_kill_closes_it() {
    let (_server, address) = started();
    let (mut one, mut two) = (Client::connect(address), Client::connect(address));
    one.ask("CLIENT SETNAME first");
    two.ask("SUBSCRIBE a b");
    two.reply();
    let number = one.ask("CLIENT ID");
    let list = one.listed();
    let [own, other] = &list[..] else { panic!("{list:#?}") };
    let address_of = |client: &Client| client.stream.get_ref().local_addr().unwrap();
    let begin = format!("id={} addr={} name=first ", number[1..].trim_end(), address_of(&one));
    assert!(own.starts_with(&begin) && own.contains(" cmd=client|list "), "{own}");
    let begin = format!("id=2 addr={} name= ", address_of(&two));
    assert!(other.starts_with(&begin) && other.contains(" sub=2 psub=0 "), "{other}");
    assert!(other.ends_with(" qbuf=0 omem=0 cmd=subscribe waits=PeerToSend"), "{other}");

    assert_eq!(one.ask("CLIENT KILL ID 2"), ":1\r\n");
    let read = two.stream.read(&mut [0]);
    assert_eq!(read.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(one.ask("PUBLISH a 1"), ":0\r\n");
    assert_eq!(
        one.ask(&format!("CLIENT KILL ID {}", &number[1..].trim_end())),
        ":0\r\n",
        "not itself"
    );
    let own = address_of(&one).to_string();
    assert_eq!(one.ask(&format!("CLIENT KILL {own}")), "+OK\r\n", "and yet by its address");
    assert_eq!(one.stream.read(&mut [0]).unwrap(), 0);
}

#[test]
fn thousand_clients_at_once_are_answered_and_reached() {
    const COUNT: usize = 1_000;
    common::child::with_descriptors(test_name!(), COUNT + 200, || {
        let (_server, address) = started();
        let mut clients: Vec<Client> = (0..COUNT).map(|_| Client::connect(address)).collect();
        clients.iter_mut().for_each(|client| client.send("INCR counter"));
        let mut replies: Vec<String> = clients.iter_mut().map(Client::reply).collect();
        replies.sort_by_key(|reply| reply[1..].trim_end().parse::<usize>().unwrap());
        let expected: Vec<String> = (1..=COUNT).map(|number| format!(":{number}\r\n")).collect();
        assert_eq!(replies, expected);

        clients.iter_mut().for_each(|client| drop(client.ask("SUBSCRIBE all")));
        let mut publisher = Client::connect(address);
        assert_eq!(publisher.ask("PUBLISH all hello"), format!(":{COUNT}\r\n"));
        let message = "*3\r\n$7\r\nmessage\r\n$3\r\nall\r\n$5\r\nhello\r\n";
        assert!(clients.iter_mut().all(|client| client.reply() == message));
    });
}

// What it bears.

#[test]
fn requests_that_arrive_byte_by_byte_are_answered_as_those_that_arrive_at_once() {
    let (_server, address) = started();
    let pipeline =
        [words("SET a 1"), b"INCR a\r\n".to_vec(), words("GET a"), words("QUIT")].concat();
    let mut client = peer(address);
    for byte in &pipeline {
        client.write_all(&[*byte]).unwrap();
    }
    let mut replies = String::new();
    client.read_to_string(&mut replies).unwrap();
    assert_eq!(replies, "+OK\r\n:2\r\n$1\r\n2\r\n+OK\r\n");
}

#[test]
fn client_that_ends_or_resets_at_any_byte_harms_nobody() {
    let (_server, address) = started();
    let mut other = Client::connect(address);
    let pipeline =
        [words("SUBSCRIBE a"), words("RESET"), words("MULTI"), words("SET a 1"), words("EXEC")];
    let pipeline = [pipeline.concat(), words("MONITOR"), b"PING \"x\"\r\n".to_vec()].concat();
    for length in 0..=pipeline.len() {
        let (mut ends, mut resets) = (peer(address), peer(address));
        ends.write_all(&pipeline[..length]).unwrap();
        resets.write_all(&pipeline[..length]).unwrap();
        reset(resets);
        ends.shutdown(Shutdown::Write).unwrap();
        ends.read_to_end(&mut Vec::new()).unwrap();
        assert_eq!(other.ask("PING"), "+PONG\r\n");
    }
    let end = Instant::now() + PATIENCE;
    while other.listed().len() > 1 {
        assert!(Instant::now() < end, "those that have gone are still listed");
    }
    assert_eq!(other.ask("PUBLISH a 1"), ":0\r\n");
}

#[test]
fn client_that_never_reads_is_answered_so_far_and_the_others_are_served() {
    let (_server, address) = started();
    let mut other = Client::connect(address);
    let value = "x".repeat(1 << 20);
    other.ask(&format!("SET value {value}"));
    let mut greedy = peer(address);
    greedy.write_all(&words("GET value").repeat(1_000)).unwrap();
    let end = Instant::now() + PATIENCE;
    let unsent = |listed: &[String]| {
        // It may not have been answered yet.
        let Some(line) = listed.iter().find(|line| line.contains(" cmd=get ")) else { return 0 };
        let (_, rest) = line.split_once(" omem=").unwrap();
        rest.split_once(' ').unwrap().0.parse::<usize>().unwrap()
    };
    // Of the 32 MiB the kernel takes some, for which it is not answered again.
    while unsent(&other.listed()) < 16 << 20 {
        assert!(Instant::now() < end, "{:#?}", other.listed());
    }
    for _ in 0..100 {
        assert!(unsent(&other.listed()) < 34 << 20, "{:#?}", other.listed());
    }
}

#[test]
fn transaction_with_too_large_a_reply_ends_its_client_alone() {
    let (_server, address) = started();
    let mut other = Client::connect(address);
    let value = "x".repeat(1 << 20);
    other.ask(&format!("SET value {value}"));
    for (count, is_answered) in [(50, true), (100, false)] {
        let mut client = Client::connect(address);
        let requests = [words("MULTI"), words("GET value").repeat(count), words("EXEC")].concat();
        client.stream.get_mut().write_all(&requests).unwrap();
        match is_answered {
            true => {
                (0..=count).for_each(|_| drop(client.reply()));
                assert!(client.reply().len() > count << 20);
            }
            false => {
                let read = client.stream.read_to_end(&mut Vec::new());
                assert_eq!(read.unwrap_err().kind(), ErrorKind::ConnectionReset);
            }
        }
        assert_eq!(other.ask("PING"), "+PONG\r\n");
    }
}

#[test]
fn client_that_reads_late_has_all_replies_however_large() {
    let (_server, address) = started();
    let mut client = Client::connect(address);
    let value = "x".repeat(1 << 20);
    client.ask(&format!("SET value {value}"));
    let pipeline = words("GET value").repeat(200);
    client.stream.get_mut().write_all(&pipeline).unwrap();
    let mut other = Client::connect(address);
    let expected = other.ask("GET value");
    for number in 0..200 {
        assert!(client.reply() == expected, "reply {number} is another");
    }
}

#[test]
fn subscriber_or_monitor_that_never_reads_is_cut_and_holds_up_nobody() {
    let (_server, address) = started();
    let (mut subscriber, mut monitor) = (Client::connect(address), Client::connect(address));
    subscriber.ask("SUBSCRIBE a");
    monitor.ask("MONITOR");
    let mut reader = Client::connect(address);
    reader.ask("SUBSCRIBE a");
    let mut publisher = Client::connect(address);
    let message = format!("PUBLISH a {}", "x".repeat(1 << 20));
    let mut count = 0;
    // The reader alone is left, and has missed nothing.
    while publisher.ask(&message) == ":2\r\n" {
        count += 1;
        assert!(reader.reply().ends_with("x\r\n"), "message {count}");
        assert!(count < 1_000, "the server takes any number of bytes for one that does not read");
    }
    let list = publisher.listed();
    assert_eq!(list.len(), 2, "{list:#?}");
}

#[test]
fn request_larger_than_the_read_buffer_is_refused_and_a_large_one_is_not() {
    let (_server, address) = started();
    let mut client = Client::connect(address);
    let value = vec![b'x'; 15 << 20];
    client.stream.get_mut().write_all(&request(&[b"SET", b"large", &value])).unwrap();
    assert_eq!(client.reply(), "+OK\r\n");
    assert_eq!(client.ask("STRLEN large"), format!(":{}\r\n", 15 << 20));
    let mut other = peer(address);
    let sender = thread::spawn(move || {
        let word = vec![b'x'; 1 << 20];
        let words = vec![&word[..]; 17];
        other.write_all(&request(&words)).unwrap();
        let mut reply = String::new();
        other.read_to_string(&mut reply).unwrap();
        reply
    });
    assert_eq!(sender.join().unwrap(), "-ERR Protocol error: too big request\r\n");
    assert_eq!(client.ask("PING"), "+PONG\r\n");
}

#[cfg(unix)]
#[test]
fn server_with_64_descriptors_serves_those_it_can_and_the_others_later() {
    let server = command("kv_server");
    let mut shell = Command::new("sh");
    shell.args(["-c", "ulimit -n 64; exec \"$0\" 127.0.0.1:0"]).arg(server.get_program());
    let (_server, address) =
        Program::start_with(&mut shell, Stdio::piped(), Stdio::piped()).listening();
    let mut clients: Vec<Client> = (0..200).map(|_| Client::connect(address)).collect();
    clients.iter_mut().for_each(|client| client.send("INCR counter"));
    for (place, mut client) in clients.into_iter().enumerate() {
        // Each that leaves makes room for another.
        assert_eq!(client.reply(), format!(":{}\r\n", place + 1));
    }
}

/// A generator of random numbers, so that a run can be had again.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ (mixed >> 31)) % end as u64) as usize
    }
}

/// Requests, some of them whole, with bytes changed, left out and put in.
fn broken_requests(random: &mut Random, recorded: &[(String, String)]) -> Vec<u8> {
    const SIGNS: &[u8] = b"*$\r\n-0129 \"'\\x\0\xff";
    let mut bytes = Vec::new();
    for _ in 0..random.below(8) {
        let (line, _) = &recorded[random.below(recorded.len())];
        match random.below(4) {
            0 => bytes.extend(format!("{line}\r\n").bytes()),
            1 => bytes.extend((0..random.below(40)).map(|_| random.below(256) as u8)),
            _ => bytes.extend(words(line)),
        }
    }
    for _ in 0..random.below(4) {
        let place = random.below(bytes.len() + 1);
        let end = (place + random.below(4)).min(bytes.len());
        let new = (0..random.below(3)).map(|_| SIGNS[random.below(SIGNS.len())]);
        bytes.splice(place..end, new);
    }
    bytes
}

#[test]
fn random_bytes_never_end_the_server() {
    let variable = |name: &str| env::var(name).ok().map(|text| text.parse::<u64>().expect(name));
    let time = Duration::from_secs(variable("READINESS_FUZZ_SECONDS").unwrap_or(0));
    let (end, first) = (Instant::now() + time, variable("READINESS_FUZZ_SEED").unwrap_or(0));
    let (_server, address) = started();
    let recorded = recorded();
    let mut seed = first;
    while seed < first + 300 || Instant::now() < end {
        let mut random = Random(seed);
        let bytes = broken_requests(&mut random, &recorded);
        let mut client = peer(address);
        // The server may close before it has read all.
        let _ = client.write_all(&bytes).and_then(|()| client.shutdown(Shutdown::Write));
        let outcome = client.read_to_end(&mut Vec::new());
        let kind = outcome.err().map(|error| error.kind());
        assert!(matches!(kind, None | Some(ErrorKind::ConnectionReset)), "seed {seed}: {kind:?}");
        let mut other = Client::connect(address);
        assert_eq!(other.ask("PING"), "+PONG\r\n", "after seed {seed}");
        seed += 1;
    }
    if !time.is_zero() {
        aloud(format_args!("{} connections of random bytes", seed - first));
    }
}

// The clients that people use.

fn is_installed(program: &str) -> bool {
    let mut command = Command::new(program);
    command.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Returns what a program prints that is to succeed.
fn output(program: &str, arguments: &[&str], input: &str) -> String {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {said}{complaint}");
    said
}

#[test]
fn redis_cli_works_unchanged() {
    skip_unless!(is_installed("redis-cli"), "redis-cli is not installed");
    let (_server, address) = started();
    let port = address.port().to_string();
    let cli = |arguments: &[&str], input: &str| {
        output("redis-cli", &[&["-p", &port], arguments].concat(), input)
    };
    assert_eq!(cli(&["SET", "greeting", "hello world"], ""), "OK\n");
    assert_eq!(cli(&["GET", "greeting"], ""), "hello world\n");
    let script = "MULTI\nINCR a\nINCR a\nEXEC\nKEYS gr*\n";
    assert_eq!(cli(&[], script), "OK\nQUEUED\nQUEUED\n1\n2\ngreeting\n");
    let pipe = cli(&["--pipe"], &String::from_utf8(words("SET b 1").repeat(10_000)).unwrap());
    assert!(pipe.contains("errors: 0, replies: 10000"), "{pipe}");
    assert_eq!(cli(&["--scan", "--pattern", "gr*"], ""), "greeting\n");
    assert!(cli(&["-3", "PING"], "").ends_with("PONG\n"), "it falls back to RESP2");
}

#[test]
fn redis_benchmark_works_unchanged() {
    skip_unless!(is_installed("redis-benchmark"), "redis-benchmark is not installed");
    let (_server, address) = started();
    let port = address.port().to_string();
    for depth in ["1", "16"] {
        let tests = "ping,set,get,incr,mset";
        let arguments = ["-p", &port, "-t", tests, "-n", "2000", "-P", depth, "--csv"];
        let table = output("redis-benchmark", &arguments, "");
        for name in ["PING_INLINE", "PING_MBULK", "SET", "GET", "INCR", "MSET (10 keys)"] {
            assert!(table.contains(&format!("\n\"{name}\",")), "{table}");
        }
    }
}

#[test]
fn client_of_python_works_unchanged() {
    let has_it = |python: &&str| {
        let mut command = Command::new(python);
        command.args(["-c", "import redis"]).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    let python = ["python3", "python"].into_iter().find(has_it);
    skip_unless!(python.is_some(), "Python has no module redis here");
    let (_server, address) = started();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kv_server/client.py");
    let arguments = [script.to_str().unwrap(), &address.port().to_string()];
    assert_eq!(output(python.unwrap(), &arguments, ""), "all is well\n");
}
