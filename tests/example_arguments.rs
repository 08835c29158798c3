//! The command lines of the examples: addresses as people write them, what is given twice, empty or
//! out of place, and help that fits a terminal.

#![allow(clippy::unwrap_used, reason = "a failure, also in a helper, is the test's message")]
#![allow(unreachable_pub, reason = "what is shared is public within each test file")]

mod common;
#[path = "common/programs.rs"]
mod programs;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::mpsc::{Receiver, channel};

use common::{PATIENCE, peer};
use programs::{
    CLIENTS, Program, SERVERS, SPECIAL_SERVERS, TempFile, all_programs, assert_failed, server,
    serving,
};

// Addresses.

/// What is wrong with each of these, for every program.
#[test]
fn address_that_is_none_is_answered_with_the_reason_and_the_right_spelling() {
    let long = format!("{}:1", "a".repeat(300));
    let bad = [
        ("", "it is empty; write 127.0.0.1:65432"),
        ("nonsense", "it has no port; write nonsense:65432"),
        ("127.0.0.1", "it has no port; write 127.0.0.1:65432"),
        ("65432", "it has no host; write 127.0.0.1:65432"),
        (":80", "it has no host; write 127.0.0.1:80"),
        ("localhost:", "the port after the colon is missing"),
        ("localhost:http", "the port \"http\" is not a number"),
        ("localhost:-1", "the port \"-1\" is not a number"),
        ("localhost:+1", "the port \"+1\" is not a number"),
        ("localhost:65536", "the port 65536 is above 65535"),
        ("127.0.0.1:99999", "the port 99999 is above 65535"),
        ("[::1]:99999", "the port 99999 is above 65535"),
        ("256.0.0.1:1", "\"256.0.0.1\" is not an IPv4 address"),
        ("127.1:1", "\"127.1\" is not an IPv4 address"),
        ("::1", "an IPv6 address goes in brackets before its port; write [::1]:65432"),
        ("::1:1", "an IPv6 address goes in brackets; write [::1]:1"),
        ("::1:65432", "an IPv6 address goes in brackets; write [::1]:65432"),
        ("2001:db8::7:80", "an IPv6 address goes in brackets; write [2001:db8::7]:80"),
        ("a:b:1", "it has several colons; an IPv6 address is written [::1]:1"),
        ("[::1]", "it has no port; write [::1]:65432"),
        ("[::1]65432", "it has no port; write [::1]:65432"),
        ("[::1:65432", "the bracket is not closed; write [::1]:65432"),
        ("[nonsense]:1", "\"nonsense\" is not an IPv6 address"),
        // Too long for a name, so that no resolver is asked.
        (&long, "cannot look up"),
    ];
    for name in all_programs() {
        for (address, why) in bad {
            assert_failed(name, &[address], &format!("bad address {address:?}: {why}"));
        }
    }
}

#[test]
fn name_of_a_host_is_looked_up_by_servers_and_clients() {
    for name in SERVERS.into_iter().chain(SPECIAL_SERVERS) {
        let (_server, address) = Program::start(name, &["localhost:0"]).listening();
        assert!(address.ip().is_loopback(), "{name} listens at {address}");
        drop(peer(address));
    }
    let (_server, address) = Program::start("echo_server", &["localhost:0"]).listening();
    for name in CLIENTS {
        let ended = Program::run(name, &[&format!("localhost:{}", address.port())]);
        assert_eq!((ended.status, ended.stderr.as_str()), (Some(0), ""), "{name}: {ended:?}");
    }
}

// The rest of the command line.

/// Returns a server that gives back what one client sends, and says what that was.
fn hearing() -> (String, Receiver<Vec<u8>>) {
    let (sender, heard) = channel();
    let (address, _) = serving(1, move |mut client: TcpStream| {
        let mut bytes = Vec::new();
        client.read_to_end(&mut bytes).unwrap();
        client.write_all(&bytes).unwrap();
        sender.send(bytes).unwrap();
    });
    (address, heard)
}

#[test]
fn message_that_begins_with_a_dash_is_sent_after_two_of_them() {
    for name in all_programs() {
        let hint = "'-5'; an argument that begins with - goes after --";
        assert_failed(name, &["127.0.0.1:1", "-5 degrees"], hint);
    }
    for arguments in [&["--", "ADDRESS", "-5 degrees"][..], &["ADDRESS", "--", "-5 degrees"]] {
        let (address, heard) = hearing();
        let arguments = arguments.iter().map(|one| one.replace("ADDRESS", &address));
        let arguments: Vec<String> = arguments.collect();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let ended = Program::run("echo_client", &arguments);
        assert_eq!(ended.status, Some(0), "{ended:?}");
        assert_eq!(heard.recv_timeout(PATIENCE).unwrap(), b"-5 degrees");
    }
    let (address, heard) = hearing();
    assert_eq!(Program::run("echo_client", &[&address, "-"]).status, Some(0));
    assert_eq!(heard.recv_timeout(PATIENCE).unwrap(), b"-");
}

#[test]
fn file_given_twice_or_without_a_path_is_an_error_that_says_so() {
    let file = TempFile::new("twice", b"content");
    let twice = ["127.0.0.1:1", "--file", file.path(), "--file", file.path()];
    assert_failed("echo_client", &twice, "--file is given twice");
    for empty in [&["127.0.0.1:1", "--file", ""][..], &["--file=", "127.0.0.1:1"]] {
        assert_failed("echo_client", empty, "--file takes a path, and this one is empty");
    }
    // A path that begins with a dash is one.
    assert_failed("echo_client", &["127.0.0.1:1", "--file", "-no-such"], "cannot send -no-such: ");
}

#[test]
fn help_fits_a_terminal_of_80_columns() {
    let simulated = cfg!(feature = "simulation").then_some("simulated_echo");
    for name in all_programs().chain(simulated) {
        let help = Program::run(name, &["--help"]).stdout;
        let wide = help.lines().find(|line| line.chars().count() > 80);
        assert_eq!(wide, None, "{name}");
    }
}

#[test]
fn error_of_the_command_line_names_help() {
    let (_server, address) = server("echo_server");
    let address = address.to_string();
    for arguments in [&[&*address, "--unknown"][..], &[&address, "--file"], &[&address, "-x"]] {
        assert_failed("echo_client", arguments, " (--help tells more)");
    }
}
