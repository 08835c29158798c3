//! The examples with output that goes nowhere: it is no longer read, or the disk is full.
//!
//! A server goes on and drains; a program that prints a result says on standard error that it
//! could not, and ends with status 1. None panics.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a failure, also in a helper, is the test's message")]
#![allow(unreachable_pub, reason = "what is shared is public within each test file")]

mod common;
#[path = "common/programs.rs"]
mod programs;

use std::fs::File;
use std::io::{self, BufRead, BufReader, PipeReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::Stdio;
use std::sync::mpsc::channel;
use std::thread;

use common::{PATIENCE, pattern, peer, reset};
use programs::{
    Program, SERVERS, SPECIAL_SERVERS, TempFile, address_in, all_programs, assert_echoes, command,
    nobody_reads, server, serving,
};

/// Returns outputs to which a line cannot be written: a pipe without a reader, and a full disk
/// where there is such a file.
fn outputs() -> Vec<Stdio> {
    let mut outputs = vec![nobody_reads()];
    if cfg!(target_os = "linux") {
        outputs.push(File::options().write(true).open("/dev/full").unwrap().into());
    }
    outputs
}

/// Returns a program with this as its standard output.
fn started(name: &str, arguments: &[&str], output: Stdio) -> Program {
    Program::start_with(command(name).args(arguments), output, Stdio::piped())
}

/// Returns the examples that leave at Ctrl-C.
fn leaving() -> impl Iterator<Item = &'static str> {
    SPECIAL_SERVERS.into_iter().chain(["echo_server"])
}

/// Returns a client whose first bytes, to which each server has some answer, were answered.
fn served_client(address: SocketAddr) -> TcpStream {
    let mut client = peer(address);
    client.write_all(b"+1\n").unwrap();
    client.read_exact(&mut [0]).unwrap();
    client
}

#[test]
fn server_that_cannot_print_serves_and_leaves_as_any_other() {
    for name in leaving() {
        for output in outputs() {
            let mut server = started(name, &["127.0.0.1:0"], output);
            let address = address_in(&server.stderr.next().unwrap());
            let mut client = served_client(address);
            served_client(address);
            server.signal("INT");
            client.read_to_end(&mut Vec::new()).unwrap();
            drop(client);
            let ended = server.ended();
            assert_eq!((ended.status, ended.stderr.as_str()), (Some(0), ""), "{name}: {ended:?}");
        }
    }
}

#[test]
fn server_of_std_that_cannot_print_serves() {
    for name in SERVERS {
        for output in outputs() {
            let mut server = started(name, &["127.0.0.1:0"], output);
            let address = address_in(&server.stderr.next().unwrap());
            assert_echoes(&mut peer(address), b"Hello");
            assert_echoes(&mut peer(address), b"Hello again");
        }
    }
}

#[test]
fn server_whose_first_line_was_all_that_anybody_read_gives_a_client_everything() {
    // As with `| head -1`.
    let (reader, writer) = io::pipe().unwrap();
    let mut command = command("echo_server");
    command.arg("127.0.0.1:0").env("RUST_LOG", "warn,readiness=trace");
    let mut server = Program::start_with(&mut command, writer, Stdio::piped());
    let client = peer(first_line(reader).strip_prefix("Listening on ").unwrap().parse().unwrap());
    let content = pattern(0, 8 << 20);
    // The last of it may find the server already closing.
    let writer = thread::spawn({
        let (mut client, content) = (client.try_clone().unwrap(), content.clone());
        move || client.write_all(&content)
    });
    let mut filled = 0;
    loop {
        let line = server.stderr.next().expect("the server has more than the kernel takes");
        let count = line.split(" filled ").nth(1);
        filled += count.map_or(0, |count| count.parse::<usize>().unwrap());
        if line.ends_with("interest readable -> writable") {
            break;
        }
    }
    server.signal("INT");
    server.stderr.until_with("cannot print \"Shutting down: 10s for 1 connection to finish");
    let mut back = Vec::new();
    (&client).read_to_end(&mut back).unwrap();
    assert!(content.starts_with(&back) && back.len() >= filled, "{} of {filled}", back.len());
    client.shutdown(Shutdown::Both).unwrap();
    let _ = writer.join().unwrap();
    assert_eq!(server.ended().status, Some(0));
}

/// Returns the first line of what a program writes to a pipe, which is not read from here on.
fn first_line(reader: PipeReader) -> String {
    let (sender, line) = channel();
    thread::spawn(move || {
        let mut line = String::new();
        BufReader::new(reader).read_line(&mut line).unwrap();
        sender.send(line.trim_end().to_owned())
    });
    line.recv_timeout(PATIENCE).expect("a line in time")
}

#[test]
fn command_whose_end_cannot_be_printed_leaves_the_others_theirs() {
    for output in outputs() {
        let arguments = ["127.0.0.1:0", "head -n 1"];
        let mut server = started("child_process", &arguments, output);
        let address = address_in(&server.stderr.next().unwrap());
        for _ in 0..3 {
            let mut client = peer(address);
            assert_echoes(&mut client, b"one line\n");
            assert_eq!(client.read(&mut [0]).unwrap(), 0);
        }
    }
}

#[test]
fn server_that_can_neither_print_nor_complain_serves_on_after_a_reset() {
    for name in SERVERS {
        for output in outputs() {
            let (reader, writer) = io::pipe().unwrap();
            let _server = Program::start_with(command(name).arg("127.0.0.1:0"), output, writer);
            let address = address_in(&first_line(reader));
            let mut client = peer(address);
            assert_echoes(&mut client, b"soon gone");
            reset(client);
            assert_echoes(&mut peer(address), b"next");
            assert_echoes(&mut peer(address), b"and the next");
        }
    }
}

/// Runs a program to its end, with output to nowhere: it must say so in one line.
fn assert_says_that_it_cannot_print(name: &str, arguments: &[&str]) {
    for output in outputs() {
        let ended = started(name, arguments, output).ended();
        assert_eq!(ended.status, Some(1), "{name} {arguments:?}: {ended:?}");
        let line = ended.stderr.strip_suffix('\n').unwrap_or_default();
        let start = format!("{name}: cannot write to standard output: ");
        assert!(
            line.starts_with(&start) && !line.contains('\n'),
            "{name} {arguments:?}: {ended:?}"
        );
    }
}

#[test]
fn program_that_cannot_print_its_result_says_so_and_fails() {
    let (_server, address) = server("echo_server");
    let address = address.to_string();
    let file = TempFile::new("unprinted", b"content");
    assert_says_that_it_cannot_print("echo_client", &[&address]);
    assert_says_that_it_cannot_print("echo_client", &[&address, "--file", file.path()]);
    assert_says_that_it_cannot_print("multi_connection_client", &[&address, "2"]);
    #[cfg(feature = "simulation")]
    assert_says_that_it_cannot_print("simulated_echo", &[]);
}

#[test]
fn program_that_cannot_print_its_help_says_so_and_fails() {
    let simulated = cfg!(feature = "simulation").then_some("simulated_echo");
    for name in all_programs().chain(simulated) {
        assert_says_that_it_cannot_print(name, &["--help"]);
    }
}

#[test]
fn program_that_can_print_nothing_at_all_fails_by_its_status() {
    let (address, server) = serving(outputs().len(), |client| {
        client.shutdown(Shutdown::Both).unwrap();
    });
    for (output, errors) in outputs().into_iter().zip(outputs()) {
        let ended =
            Program::start_with(command("echo_client").args([&*address, "-x"]), output, errors);
        assert_eq!(ended.ended().status, Some(1));
    }
    for (output, errors) in outputs().into_iter().zip(outputs()) {
        let ended =
            Program::start_with(command("echo_client").arg(&address), output, errors).ended();
        assert_eq!(ended.status, Some(1));
    }
    server.join().unwrap();
}
