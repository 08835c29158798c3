//! `app_server` and `app_client` as programs: against each other, against peers in Python that were
//! written from the description of the protocol, and against servers that do not answer.

#![allow(clippy::unwrap_used, reason = "a failure, also in a helper, is the test's message")]
#![allow(unreachable_pub, reason = "what is shared is public within each test file")]

#[path = "../../../tests/common/mod.rs"]
mod common;
#[path = "../../../tests/common/programs.rs"]
mod programs;
mod support;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};

use common::{measure, peer, reset};
use programs::{Ended, Program, serving};
use support::{has, server_after};

const SERVER: &str = env!("CARGO_BIN_EXE_app_server");
const CLIENT: &str = env!("CARGO_BIN_EXE_app_client");

/// The protocol in Python: sends a request and prints the answer, or answers one request.
const PYTHON: &str = r#"
import json, socket, struct, sys

def read(connection, count):
    data = b""
    while len(data) < count:
        more = connection.recv(count - len(data))
        if not more:
            sys.exit("the end came early")
        data += more
    return data

def receive(connection):
    (length,) = struct.unpack(">H", read(connection, 2))
    header = json.loads(read(connection, length).decode("utf-8"))
    assert {"byteorder", "content-type", "content-encoding", "content-length"} <= set(header)
    return header, read(connection, header["content-length"])

def send(connection, content_type, encoding, content):
    header = json.dumps({"byteorder": sys.byteorder, "content-type": content_type,
                         "content-encoding": encoding, "content-length": len(content)},
                        ensure_ascii=False).encode("utf-8")
    connection.sendall(struct.pack(">H", len(header)) + header + content)

if sys.argv[1] == "ask":
    _, _, host, port, action, value, encoding = sys.argv
    connection = socket.create_connection((host, int(port)))
    if action == "search":
        text = json.dumps({"action": action, "value": value}, ensure_ascii=False)
        send(connection, "text/json", encoding, text.encode(encoding))
    else:
        send(connection, "binary/custom-client-binary-type", "binary", (action + value).encode())
    header, content = receive(connection)
    assert connection.recv(1) == b"", "closed behind the answer"
    print(header["content-type"], content.decode("utf-8"))
else:
    listener = socket.create_server(("127.0.0.1", 0))
    print("Listening on 127.0.0.1:%d" % listener.getsockname()[1], flush=True)
    connection, _ = listener.accept()
    header, content = receive(connection)
    if header["content-type"] == "text/json":
        request = json.loads(content.decode(header["content-encoding"]))
        result = json.dumps({"result": "%s of %s" % (request["action"], request["value"])})
        send(connection, "text/json", "utf-16", result.encode("utf-16"))
    else:
        send(connection, "binary/of-another-kind", "binary", content[::-1])
    connection.close()
"#;

fn ask(arguments: &[&str]) -> Ended {
    Program::start_at(Path::new(CLIENT), arguments).ended()
}

fn server() -> (Program, SocketAddr) {
    Program::start_at(Path::new(SERVER), &["127.0.0.1:0"]).listening()
}

#[test]
fn client_prints_what_the_server_answers() {
    let (_server, address) = server();
    let address = address.to_string();
    let cases = [
        ("search", "morpheus", "Got result: Follow the white rabbit. 🐰"),
        ("search", "nothing", "Got result: No match for 'nothing'."),
        ("double", "meaning", "Got response: \"First 10 bytes of request: doublemean\""),
    ];
    for (action, value, got) in cases {
        let ended = ask(&[&address, action, value]);
        assert_eq!((ended.status, ended.stderr.as_str()), (Some(0), ""), "{ended:?}");
        let (received, result) = ended.stdout.trim_end().split_once('\n').unwrap();
        assert!(received.starts_with("Received ") && received.ends_with(&address), "{received}");
        assert_eq!(result, got);
    }
}

#[test]
fn python_client_is_answered() {
    skip_unless!(has("python3", "--version"), "python3 is not here");
    let (_server, address) = server();
    let port = address.port().to_string();
    let cases = [
        ["search", "🐶", "utf-8", "text/json {\"result\": \"🐾 Playing ball! 🏐\"}"],
        ["search", "🐶", "utf-16", "text/json {\"result\": \"🐾 Playing ball! 🏐\"}"],
        ["search", "é", "latin-1", "text/json {\"result\": \"No match for 'é'.\"}"],
        ["a", "b", "", "binary/custom-server-binary-type First 10 bytes of request: ab"],
    ];
    for [action, value, encoding, expected] in cases {
        let mut python = Command::new("python3");
        python.env("PYTHONIOENCODING", "utf-8");
        python.args(["-c", PYTHON, "ask", "127.0.0.1", &port, action, value, encoding]);
        let ended = Program::start_with(&mut python, Stdio::piped(), Stdio::piped()).ended();
        assert_eq!((ended.status, ended.stdout.trim_end()), (Some(0), expected), "{ended:?}");
    }
}

#[test]
fn client_prints_what_a_python_server_answers() {
    skip_unless!(has("python3", "--version"), "python3 is not here");
    for (action, got) in
        [("search", "Got result: search of 🐶"), ("x", "Got response: \"\\xb6\\x90\\x9f\\xf0x\"")]
    {
        let mut python = Command::new("python3");
        python.args(["-c", PYTHON, "answer"]);
        let python = Program::start_with(&mut python, Stdio::piped(), Stdio::piped());
        let (_python, address) = python.listening();
        let ended = ask(&[&address.to_string(), action, "🐶"]);
        assert_eq!(ended.status, Some(0), "{ended:?}");
        assert_eq!(ended.stdout.lines().last(), Some(got));
    }
}

#[test]
fn client_that_is_not_answered_says_why_and_fails() {
    let half = b"\x00\x68{\"byteorder\": ".to_vec();
    let no_answer = b"\x00\x02{}".to_vec();
    let header = br#"{"byteorder": 1, "content-type": "text/json", "content-encoding": "utf-8", "content-length": 2}"#;
    let length = u16::try_from(header.len()).unwrap().to_be_bytes();
    let no_result = [&length[..], header, b"{}"].concat();
    let cases: [(Vec<u8>, &str); 4] = [
        (vec![], "no answer: the end came before the whole message"),
        (half, "no answer: the end came before the whole message"),
        (no_answer, "no answer: the header has no field \"byteorder\""),
        (no_result, "no answer: the answer has no result"),
    ];
    for (bytes, why) in cases {
        let (address, server) = serving(1, move |mut client: TcpStream| {
            client.write_all(&bytes).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
            let _ = client.read_to_end(&mut Vec::new());
        });
        let ended = ask(&[&address, "search", "x"]);
        assert_eq!((ended.status, ended.stdout.as_str()), (Some(1), ""), "{ended:?}");
        assert_eq!(ended.stderr, format!("app_client: {why}\n"));
        server.join().unwrap();
    }
    let (address, server) = serving(1, reset);
    let ended = ask(&[&address, "search", "x"]);
    assert_eq!(ended.stderr, "app_client: no answer: reset by the peer\n");
    server.join().unwrap();
}

#[test]
fn client_prints_nothing_of_a_server_that_steers_a_terminal() {
    let hostile = "\u{9b}31m\u{202e}x";
    let header = |length: &str| {
        format!(
            r#"{{"byteorder": 1, "content-type": "{hostile}", "content-encoding": "", "content-length": {length}}}"#
        )
    };
    let broken = format!("\"{hostile}\"");
    for (length, is_answer) in [("0", true), (&*broken, false)] {
        let header = header(length);
        let prefix = u16::try_from(header.len()).unwrap().to_be_bytes();
        let bytes = [&prefix, header.as_bytes()].concat();
        let (address, server) = serving(1, move |mut client: TcpStream| {
            client.write_all(&bytes).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
            let _ = client.read_to_end(&mut Vec::new());
        });
        let ended = ask(&[&address, "search", "x"]);
        assert_eq!(ended.status, Some(i32::from(!is_answer)), "{ended:?}");
        let shown = if is_answer { &ended.stdout } else { &ended.stderr };
        assert!(shown.contains("31m"), "{ended:?}");
        let steers = |one: char| one != '\n' && (one.is_control() || one == '\u{202e}');
        assert!(!shown.contains(steers), "{ended:?}");
        server.join().unwrap();
    }
}

#[test]
fn command_lines_that_are_none_fail_and_help_fits_a_terminal() {
    for (program, path) in [("app_server", SERVER), ("app_client", CLIENT)] {
        let help = Program::start_at(Path::new(path), &["--help"]).ended();
        assert_eq!((help.status, help.stderr.as_str()), (Some(0), ""));
        assert!(help.stdout.lines().all(|line| line.chars().count() <= 80), "{}", help.stdout);
        let ended = Program::start_at(Path::new(path), &["--nonsense"]).ended();
        assert_eq!(ended.status, Some(1));
        assert!(ended.stderr.starts_with(&format!("{program}: ")), "{ended:?}");
    }
    for arguments in [&[][..], &["search"], &["nonsense", "search", "x"], &["a", "b", "c", "d"]] {
        assert_eq!(ask(arguments).status, Some(1), "{arguments:?}");
    }
}

#[cfg(unix)]
#[test]
fn ctrl_c_lets_the_server_end_when_its_clients_are_done() {
    let (mut server, address) = server();
    let mut client = peer(address);
    client.write_all(b"\0").unwrap();
    // Another that is answered shows that the first was accepted.
    assert_eq!(ask(&[&address.to_string(), "search", "x"]).status, Some(0));
    server.signal("INT");
    server.stdout.until_with("Shutting down: 10s for 1 connection to finish");
    client.write_all(b"\x02{}").unwrap();
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).unwrap();
    assert!(answer.ends_with(b"has no field \\\"byteorder\\\"\"}"), "{}", answer.escape_ascii());
    drop(client);
    assert_eq!(server.ended().status, Some(0));
}

#[test]
fn length_that_is_only_claimed_costs_no_memory() {
    skip_unless!(measure::can_measure(), measure::NO_MEASURE);
    let (server, address) = server_after("ulimit -n 2000;", SERVER, &["127.0.0.1:0"]);
    let ask_once = || assert_eq!(ask(&[&address.to_string(), "search", "x"]).status, Some(0));
    ask_once();
    let before = measure::user_memory(server.process_id());
    let clients: Vec<TcpStream> = (0..500)
        .map(|_| {
            let mut client = peer(address);
            client.write_all(b"\xff\xff{\"byteorder\"").unwrap();
            client
        })
        .collect();
    ask_once();
    let grown = measure::user_memory(server.process_id()) - before;
    assert!(grown < 500 * 4096, "{} bytes for each of {}", grown / 500, clients.len());
}

// Many clients.

/// Returns a whole request, and the end of its answer.
fn request() -> (Vec<u8>, &'static [u8]) {
    let header = br#"{"byteorder": "little", "content-type": "text/json", "content-encoding": "utf-8", "content-length": 37}"#;
    let length = u16::try_from(header.len()).unwrap().to_be_bytes();
    let content = br#"{"action": "search", "value": "ring"}"#;
    ([&length[..], header, content].concat(), "Misty Mountains. 💍\"}".as_bytes())
}

/// All of these send their request, then all read their answer.
fn assert_all_answered(clients: Vec<TcpStream>) {
    let (request, end) = request();
    let mut clients = clients;
    for client in &mut clients {
        client.write_all(&request).unwrap();
    }
    for client in &mut clients {
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).unwrap();
        assert!(answer.ends_with(end), "{}", answer.escape_ascii());
    }
}

#[cfg(unix)]
#[test]
fn thousand_clients_at_once_are_all_answered() {
    common::child::with_descriptors(test_name!(), 1_200, || {
        let (_server, address) = server_after("", SERVER, &["127.0.0.1:0"]);
        assert_all_answered((0..1000).map(|_| peer(address)).collect());
    });
}

#[cfg(unix)]
#[test]
fn server_with_64_descriptors_answers_one_after_the_other() {
    let (_server, address) = server_after("ulimit -n 64;", SERVER, &["127.0.0.1:0"]);
    // Each closes once it is answered, which makes room for the next.
    let clients: Vec<_> = (0..200).map(|_| peer(address)).collect();
    let (request, end) = request();
    for client in &clients {
        (&*client).write_all(&request).unwrap();
    }
    for mut client in clients {
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).unwrap();
        assert!(answer.ends_with(end), "{}", answer.escape_ascii());
    }
}

#[cfg(unix)]
#[test]
fn clients_that_never_read_hold_up_nobody() {
    let (_server, address) = server();
    let long = format!(r#"{{"action": "search", "value": "{}"}}"#, "x".repeat(60_000));
    let header = format!(
        r#"{{"byteorder": "little", "content-type": "text/json", "content-encoding": "utf-8", "content-length": {}}}"#,
        long.len()
    );
    let length = u16::try_from(header.len()).unwrap().to_be_bytes();
    let request = [&length[..], header.as_bytes(), long.as_bytes()].concat();
    let silent: Vec<_> = (0..200).map(|_| peer(address)).collect();
    for client in &silent {
        (&*client).write_all(&request).unwrap();
    }
    assert_all_answered((0..20).map(|_| peer(address)).collect());
}
