//! `http_server` as a program: with curl, wrk and ab, its log, and how it ends.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a failure, also in a helper, is the test's message")]
#![allow(unreachable_pub, reason = "what is shared is public within each test file")]

#[path = "../../../tests/common/mod.rs"]
mod common;
#[path = "../../../tests/common/programs.rs"]
mod programs;
mod support;
#[path = "support/web.rs"]
mod web;

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;

use common::{measure, pattern, peer};
use programs::Program;
use support::{has, server_after};
use web::{Folder, SECRET, responses};

const SERVER: &str = env!("CARGO_BIN_EXE_http_server");

/// How large the large file is: more than the kernels hold of it.
const LARGE: usize = 20_000_000;

fn folder() -> Folder {
    let folder = Folder::new();
    folder.write("small.txt", b"hello, world\n");
    folder.write("large.bin", &pattern(0, LARGE));
    folder.link("../secret", "out");
    folder
}

fn server(folder: &Folder, more: &[&str]) -> (Program, SocketAddr) {
    let arguments = [&["127.0.0.1:0", folder.path().to_str().unwrap()], more].concat();
    Program::start_at(Path::new(SERVER), &arguments).listening()
}

/// Returns what a request is answered with by the end of the connection.
fn ask(address: SocketAddr, request: &str) -> Vec<u8> {
    let mut client = peer(address);
    client.write_all(request.as_bytes()).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).unwrap();
    answer
}

fn output(command: &str, arguments: &[&str]) -> Vec<u8> {
    let output = Command::new(command).args(arguments).output().unwrap();
    assert!(output.status.success(), "{command} {arguments:?}: {output:?}");
    output.stdout
}

#[test]
fn curl_has_what_it_asks_for() {
    skip_unless!(has("curl", "--version"), "curl is not here");
    let folder = folder();
    let (_server, address) = server(&folder, &[]);
    let url = |path: &str| format!("http://{address}{path}");
    let curl = |arguments: &[&str]| output("curl", &[&["-s"], arguments].concat());
    let status = |arguments: &[&str]| {
        let write = ["-o", "/dev/null", "-w", "%{http_code}"];
        String::from_utf8(curl(&[&write, arguments].concat())).unwrap()
    };
    let (small, large) = (url("/small.txt"), url("/large.bin"));
    let file = folder.path().join("small.txt");
    assert!(curl(&[&large]) == pattern(0, LARGE));
    assert!(curl(&["-r", "1000000-", &large]) == pattern(1_000_000, LARGE - 1_000_000));
    assert_eq!(curl(&[&small, &small]), b"hello, world\n".repeat(2));
    assert_eq!(curl(&["-0", &small]), b"hello, world\n");
    assert_eq!(curl(&["-d", "x=1", "-X", "GET", &small]), b"hello, world\n");
    assert!(
        String::from_utf8(curl(&["-I", &large])).unwrap().contains("Content-Length: 20000000\r\n")
    );
    assert!(String::from_utf8(curl(&[&url("/")])).unwrap().contains("<a href=\"small.txt\">"));
    assert_eq!(status(&["-z", file.to_str().unwrap(), &small]), "304");
    assert_eq!(status(&["--path-as-is", &url("/../secret")]), "403");
    assert_eq!(status(&[&url("/out")]), "403");
    assert_eq!(status(&["-d", "x", &small]), "405");
    assert_eq!(
        status(&["-H", "Transfer-Encoding: chunked", "-d", "x", "-X", "GET", &small]),
        "501"
    );
    assert_eq!(status(&["-X", "BREW", &small]), "501");
}

#[test]
fn wrk_and_ab_find_no_fault() {
    let folder = folder();
    let (_server, address) = server(&folder, &["--log", "off"]);
    let url = format!("http://{address}/small.txt");
    if common::skipping::can_run(test_name!(), has("wrk", "--version"), "wrk is not here") {
        let said = String::from_utf8(output("wrk", &["-t1", "-c32", "-d1", &url])).unwrap();
        assert!(said.contains("requests in"), "{said}");
        assert!(!said.contains("Socket errors") && !said.contains("Non-2xx"), "{said}");
    }
    if common::skipping::can_run(test_name!(), has("ab", "-V"), "ab is not here") {
        for keeps in [&["-k"][..], &[]] {
            let arguments = [keeps, &["-q", "-n500", "-c8", &url]].concat();
            let said = String::from_utf8(output("ab", &arguments)).unwrap();
            let line = |start: &str| said.lines().any(|line| line.replace(' ', "") == start);
            assert!(line("Completerequests:500") && line("Failedrequests:0"), "{said}");
        }
    }
}

#[test]
fn file_that_becomes_shorter_while_it_is_sent_ends_in_a_reset() {
    let folder = folder();
    let (_server, address) = server(&folder, &[]);
    let mut client = peer(address);
    client.write_all(b"GET /large.bin HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    client.read_exact(&mut [0; 1000]).unwrap();
    fs::File::options()
        .write(true)
        .open(folder.path().join("large.bin"))
        .unwrap()
        .set_len(5)
        .unwrap();
    let mut rest = Vec::new();
    let outcome = client.read_to_end(&mut rest);
    assert!(outcome.is_err() && rest.len() < LARGE, "{outcome:?} and {} bytes", rest.len());
    let answer = ask(address, "GET /large.bin HTTP/1.0\r\n\r\n");
    assert_eq!(responses(&answer, &["GET"])[0].body, pattern(0, 5));
}

#[test]
fn client_that_has_ended_its_side_gets_the_whole_of_a_large_file() {
    let folder = folder();
    let (_server, address) = server(&folder, &[]);
    let answer = ask(address, "GET /large.bin HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(responses(&answer, &["GET"])[0].body == pattern(0, LARGE));
}

#[test]
fn log_has_a_line_of_the_common_format_for_each_response() {
    let folder = folder();
    let log = folder.path().join("../log");
    let (mut server, address) = server(&folder, &[]);
    assert_eq!(
        responses(&ask(address, "GET /small.txt HTTP/1.1\r\nHost: x\r\n\r\n"), &["GET"]).len(),
        1
    );
    let line = server.stdout.next().unwrap();
    let (before, after) = (&line[..line.find('[').unwrap()], &line[line.find(']').unwrap()..]);
    assert_eq!(before, "127.0.0.1 - - ");
    assert_eq!(after, "] \"GET /small.txt HTTP/1.1\" 200 13");
    let date = &line[before.len()..][..28];
    let marks: Vec<char> = date.chars().filter(|one| !one.is_ascii_alphanumeric()).collect();
    assert_eq!(marks.iter().collect::<String>(), "[//::: +]", "{date}");
    ask(address, "GET /\"\x1b[2J\u{e9} HTTP/1.1\r\n\r\n");
    server.stdout.until("\"GET /\\\"\\x1b[2J\\xc3\\xa9 HTTP/1.1\" 400 16");

    let (file, address) = self::server(&folder, &["--log", log.to_str().unwrap()]);
    ask(address, "GET /nothing HTTP/1.0\r\n\r\n");
    file.signal("INT");
    let ended = file.ended();
    assert_eq!((ended.status, ended.stdout.as_str()), (Some(0), "Shutting down\n"));
    let text = fs::read_to_string(log).unwrap();
    assert!(text.ends_with("\"GET /nothing HTTP/1.0\" 404 14\n"), "{text}");
}

#[test]
fn ctrl_c_lets_a_download_finish_and_closes_what_is_idle() {
    let folder = folder();
    let (mut server, address) = server(&folder, &["--log", "off"]);
    let (mut idle, mut busy) = (peer(address), peer(address));
    busy.write_all(b"GET /large.bin HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut answer = vec![0; 1000];
    busy.read_exact(&mut answer).unwrap();
    server.signal("INT");
    server.stdout.until_with("Shutting down: 10s for 2 connections to finish");
    assert_eq!(idle.read(&mut [0]).unwrap(), 0);
    drop(idle);
    busy.read_to_end(&mut answer).unwrap();
    assert!(responses(&answer, &["GET"])[0].body == pattern(0, LARGE));
    drop(busy);
    assert_eq!(server.ended().status, Some(0));
}

#[test]
fn command_lines_that_are_none_fail_and_help_fits_a_terminal() {
    let run = |arguments: &[&str]| Program::start_at(Path::new(SERVER), arguments).ended();
    let help = run(&["--help"]);
    assert_eq!((help.status, help.stderr.as_str()), (Some(0), ""));
    assert!(help.stdout.lines().all(|line| line.chars().count() <= 80), "{}", help.stdout);
    let cases = [
        (&["nonsense"][..], "bad address \"nonsense\""),
        (
            &["127.0.0.1:0", "/nothing/here"],
            "cannot serve the folder \"/nothing/here\": No such file",
        ),
        (&["127.0.0.1:0", SERVER], "cannot serve the folder"),
        (&["127.0.0.1:0", ".", "x"], "one argument too many"),
        (&["--log", "/nothing/here"], "cannot open /nothing/here: No such file"),
        (&["127.0.0.1:0", "--status", "nonsense"], "bad address \"nonsense\""),
        (&["--nonsense"], "--nonsense"),
    ];
    for (arguments, why) in cases {
        let ended = run(arguments);
        assert_eq!((ended.status, ended.stdout.as_str()), (Some(1), ""), "{arguments:?}");
        let is_line =
            ended.stderr.starts_with("http_server: ") && ended.stderr.lines().count() == 1;
        assert!(is_line && ended.stderr.contains(why), "{arguments:?}: {ended:?}");
    }
}

#[test]
fn clients_that_never_read_cost_little_and_hold_up_nobody() {
    skip_unless!(measure::can_measure(), measure::NO_MEASURE);
    let folder = folder();
    let (server, address) = server(&folder, &["--log", "off"]);
    let ask_once = || {
        let answer = ask(address, "GET /small.txt HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!(responses(&answer, &["GET"])[0].body, b"hello, world\n");
    };
    ask_once();
    let before = measure::user_memory(server.process_id());
    let request = b"GET /large.bin HTTP/1.1\r\nHost: x\r\n\r\n".repeat(50);
    let clients: Vec<TcpStream> = (0..100)
        .map(|_| {
            let mut client = peer(address);
            client.write_all(&request).unwrap();
            client
        })
        .collect();
    ask_once();
    let grown = measure::user_memory(server.process_id()) - before;
    assert!(grown < 100 * 20_000, "{} bytes for each of {}", grown / 100, clients.len());
}

#[test]
fn large_file_is_sent_in_constant_memory() {
    skip_unless!(measure::can_measure(), measure::NO_MEASURE);
    let folder = folder();
    // A file with a hole takes no room.
    fs::File::create(folder.path().join("huge")).unwrap().set_len(1 << 30).unwrap();
    let (server, address) = server(&folder, &["--log", "off"]);
    let mut client = peer(address);
    client.write_all(b"GET /huge HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let (mut count, mut bytes) = (client.read(&mut [0; 1]).unwrap(), vec![0; 1 << 20]);
    let before = measure::user_memory(server.process_id());
    loop {
        match client.read(&mut bytes).unwrap() {
            0 => break,
            more => count += more,
        }
        if count % 1000 == 0 {
            assert!(measure::user_memory(server.process_id()) - before < 1 << 20);
        }
    }
    assert!(count > 1 << 30, "{count} bytes");
    assert!(measure::user_memory(server.process_id()) - before < 1 << 20);
}

#[test]
fn secret_beside_the_folder_is_where_the_tests_look_for_it() {
    let folder = folder();
    assert_eq!(fs::read_to_string(folder.path().join("out")).unwrap(), SECRET);
}

// Many clients.

#[test]
fn thousand_clients_at_once_are_all_answered() {
    common::child::with_descriptors(test_name!(), 1_200, || {
        let folder = folder();
        let arguments = ["127.0.0.1:0", folder.path().to_str().unwrap(), "--log", "off"];
        let (_server, address) = server_after("", SERVER, &arguments);
        let mut clients: Vec<TcpStream> = (0..1000).map(|_| peer(address)).collect();
        for round in 0..3 {
            for client in &mut clients {
                client.write_all(b"GET /small.txt HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
            }
            for client in &mut clients {
                let mut answer = Vec::new();
                while !answer.ends_with(b"\r\n\r\nhello, world\n") {
                    let mut byte = [0; 512];
                    let count = client.read(&mut byte).unwrap();
                    assert!(count > 0, "round {round}: {}", answer.escape_ascii());
                    answer.extend_from_slice(&byte[..count]);
                }
            }
        }
    });
}

#[test]
fn server_with_64_descriptors_answers_one_after_the_other() {
    let folder = folder();
    let arguments = ["127.0.0.1:0", folder.path().to_str().unwrap(), "--log", "off"];
    let (server, address) = server_after("ulimit -n 64;", SERVER, &arguments);
    let mut clients: Vec<TcpStream> = (0..200).map(|_| peer(address)).collect();
    for client in &mut clients {
        client.write_all(b"GET /large.bin HTTP/1.1\r\nHost: x\r\nRange: bytes=0-99999\r\nConnection: close\r\n\r\n").unwrap();
    }
    for mut client in clients {
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).unwrap();
        assert_eq!(responses(&answer, &["GET"])[0].status, 206);
    }
    if cfg!(target_os = "linux") {
        assert_eq!(measure::descriptors_max(server.process_id()), 64);
    }
}
