//! The clients among the examples as judges: whether the echo is what was sent, and all of it.
//!
//! The servers are the tests' own. Where a server must know how far a client has got, it reads the
//! trace that the client prints.

#![allow(clippy::unwrap_used, reason = "a failure, also in a helper, is the test's message")]
#![allow(unreachable_pub, reason = "what is shared is public within each test file")]

mod common;
#[path = "common/programs.rs"]
mod programs;
#[path = "../examples/common/progress.rs"]
mod progress;

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, SystemTime};

use common::{pattern, reset};
use indicatif::{ProgressDrawTarget, TermLike};
use programs::{Ended, Program, TempFile, accept, serving};
use progress::progress_bar;

/// It ended with status 1, after this on standard output and this line on standard error.
#[track_caller]
fn assert_judged(ended: &Ended, stdout: &str, verdict: &str) {
    assert_eq!((ended.status, ended.stdout.as_str()), (Some(1), stdout), "{ended:?}");
    assert_eq!(ended.stderr, format!("echo_client: {verdict}\n"));
}

/// Returns a server that sends back what it makes of everything that one client sends.
fn answering(change: impl Fn(&mut Vec<u8>) + Send + 'static) -> (String, thread::JoinHandle<()>) {
    serving(1, move |mut client| {
        let mut bytes = Vec::new();
        client.read_to_end(&mut bytes).unwrap();
        change(&mut bytes);
        // The client may leave before it has taken all.
        let _ = client.write_all(&bytes);
    })
}

type Change = fn(&mut Vec<u8>);

// A message.

#[test]
fn message_that_comes_back_otherwise_is_shown_and_the_first_difference_told() {
    let changes: [(Change, &str, &str); 5] = [
        (
            |bytes| bytes.make_ascii_uppercase(),
            "Received \"HELLO, WORLD\"\n",
            "the first difference is at offset 1: 0x65 was sent, 0x45 came back",
        ),
        (
            |bytes| bytes.truncate(3),
            "Received \"Hel\"\n",
            "only 3 of 12 bytes came back before the end",
        ),
        (Vec::clear, "", "only 0 of 12 bytes came back before the end"),
        (
            |bytes| bytes.push(b'!'),
            "Received \"Hello, world!\"\n",
            "more came back than the 12 bytes that were sent",
        ),
        (
            |bytes| bytes[11] = 0xff,
            "Received \"Hello, worl\u{fffd}\"\n",
            "the first difference is at offset 11: 0x64 was sent, 0xff came back",
        ),
    ];
    for (change, stdout, verdict) in changes {
        let (address, server) = answering(change);
        assert_judged(&Program::run("echo_client", &[&address]), stdout, verdict);
        server.join().unwrap();
    }
}

#[test]
fn what_came_back_before_a_reset_is_shown_and_counted() {
    for count in [0, 3, 12] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let mut client = Program::start_traced("echo_client", &[&address]);
        let mut server = accept(&listener);
        let mut message = [0; 12];
        server.read_exact(&mut message).unwrap();
        server.write_all(&message[..count]).unwrap();
        if count > 0 {
            client.stderr.until(&format!("filled {count}"));
        }
        reset(server);
        let ended = client.ended();
        let shown = match count {
            0 => String::new(),
            _ => format!("Received {:?}\n", str::from_utf8(&message[..count]).unwrap()),
        };
        assert_eq!((ended.status, ended.stdout), (Some(1), shown));
        let verdict = format!(
            "echo_client: {count} of 12 bytes came back before the connection to {address} failed: \
             reset by the peer\n"
        );
        assert!(ended.stderr.ends_with(&verdict), "{}", ended.stderr);
    }
}

// A file.

#[test]
fn file_that_comes_back_otherwise_is_told_with_the_place() {
    let file = TempFile::new("changed", &pattern(0, 300_000));
    let sent = pattern(0, 300_000)[123_456];
    let difference = format!(
        "the first difference is at offset 123456: {sent:#04x} was sent, {:#04x} came back",
        sent ^ 1
    );
    let changes: [(Change, &str); 4] = [
        (|bytes| bytes[123_456] ^= 1, &difference),
        (|bytes| bytes.truncate(299_999), "only 299999 of 300000 bytes came back before the end"),
        (|bytes| bytes.push(0), "more came back than the 300000 bytes that were sent"),
        (Vec::clear, "only 0 of 300000 bytes came back before the end"),
    ];
    for (change, verdict) in changes {
        let (address, server) = answering(change);
        let ended = Program::run("echo_client", &[&address, "--file", file.path()]);
        assert_judged(&ended, "", verdict);
        server.join().unwrap();
    }
}

#[test]
fn file_whose_connection_is_reset_is_told_with_how_much_had_come_back() {
    let file = TempFile::new("reset", &pattern(0, 300_000));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut client = Program::start_traced("echo_client", &[&address, "--file", file.path()]);
    let mut server = accept(&listener);
    let mut piece = [0; 1_000];
    server.read_exact(&mut piece).unwrap();
    server.write_all(&piece).unwrap();
    client.stderr.until("filled 1000");
    reset(server);
    let ended = client.ended();
    assert_eq!((ended.status, ended.stdout.as_str()), (Some(1), ""));
    let verdict =
        format!("1000 of 300000 bytes came back before the connection to {address} failed");
    assert!(ended.stderr.contains(&verdict), "{}", ended.stderr);
}

/// Returns the client's last line, for a file that is changed after a part of it was sent, and
/// before anything was echoed.
fn judged_with_a_change(name: &str, change: impl FnOnce(&mut File)) -> (TempFile, String) {
    let file = TempFile::new(name, &pattern(0, 16 << 20)); // more than the kernel holds
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut client = Program::start_traced("echo_client", &[&address, "--file", file.path()]);
    let server = accept(&listener);
    client.stderr.until("has no more room to write (EAGAIN)");
    let mut opened = File::options().write(true).open(file.path()).unwrap();
    change(&mut opened);
    // However coarse the times of this file system are.
    opened.set_modified(SystemTime::now() + Duration::from_secs(3600)).unwrap();
    let echo = thread::spawn(move || {
        let (mut from, mut to) = (&server, &server);
        // The client leaves at the first difference.
        let _ = io::copy(&mut from, &mut to);
    });
    let ended = client.ended();
    echo.join().unwrap();
    assert_eq!((ended.status, ended.stdout.as_str()), (Some(1), ""), "{}", ended.stderr);
    let line = ended.stderr.lines().last().unwrap().to_owned();
    (file, line)
}

#[test]
fn file_that_changes_while_it_is_sent_is_said_to_have_changed() {
    let first = pattern(0, 1)[0];
    type Rewrite = Box<dyn FnOnce(&mut File)>;
    let changes: [(&str, Rewrite, String); 4] = [
        // What was sent before is compared with what is there now.
        (
            "overwritten",
            Box::new(move |file| file.write_all(&[first ^ 1]).unwrap()),
            format!(
                "the first difference is at offset 0: {:#04x} was sent, {first:#04x} came back",
                first ^ 1
            ),
        ),
        (
            "overwritten-behind",
            Box::new(|file| {
                file.seek(SeekFrom::End(-1)).unwrap();
                file.write_all(b"?").unwrap();
            }),
            "16777216 bytes came back identical".into(),
        ),
        (
            "longer",
            Box::new(|file| {
                file.seek(SeekFrom::End(0)).unwrap();
                file.write_all(b"more").unwrap();
            }),
            "16777216 bytes came back identical".into(),
        ),
        (
            "shorter",
            Box::new(|file| file.set_len(1000).unwrap()),
            "more came back than the 1000 bytes that were sent".into(),
        ),
    ];
    for (name, change, verdict) in changes {
        let (file, line) = judged_with_a_change(name, change);
        let path = file.path();
        assert_eq!(line, format!("echo_client: {path} changed while it was sent; {verdict}"));
    }
}

// The progress bar.

/// A terminal of 40 columns, and what is drawn on it.
#[derive(Clone, Debug, Default)]
struct Narrow(Arc<Mutex<Vec<String>>>);

impl TermLike for Narrow {
    fn width(&self) -> u16 {
        40
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        self.0.lock().unwrap().push(text.to_owned());
        Ok(())
    }

    fn write_line(&self, text: &str) -> io::Result<()> {
        self.write_str(text)
    }

    fn move_cursor_up(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn move_cursor_down(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn move_cursor_right(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn move_cursor_left(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn clear_line(&self) -> io::Result<()> {
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
}

/// Returns the bar as it is drawn at 40 columns.
fn drawn(done: u64, total: u64) -> String {
    let terminal = Narrow::default();
    let bar = progress_bar(total);
    bar.set_draw_target(ProgressDrawTarget::term_like(Box::new(terminal.clone())));
    bar.set_position(done);
    bar.suspend(|| ()); // and draw it anew
    let drawn = terminal.0.lock().unwrap();
    drawn.iter().rfind(|text| !text.trim().is_empty()).expect("a bar").trim_end().to_owned()
}

#[test]
fn progress_is_told_in_human_units_with_rate_and_time_left_within_40_columns() {
    let cases = [
        (0, 0, "0 B/0 B"),
        (999, 999_999, "999 B/999 kB"),
        (1_000, 1_000_000, "1.00 kB/1.00 MB"),
        (12_345_678, 999_999_999, "12.3 MB/999 MB"),
        (500_000_000_000, 999_999_999_999_999, "500 GB/999 TB"),
        (1, u64::MAX, "1 B/18.4 EB"),
    ];
    for (done, total, bytes) in cases {
        let line = drawn(done, total);
        assert!(line.chars().count() <= 40, "{line:?} is wider than 40 columns");
        let (_, rest) = line.split_once(&format!(" {bytes} ")).expect(&line);
        let (rate, left) = rest.split_once(' ').unwrap();
        assert!(rate.ends_with("B/s") || left.contains("B/s"), "{line:?}");
        assert!(left.ends_with(" left"), "{line:?}");
        let bar = line.chars().take_while(|sign| "#-".contains(*sign)).count();
        assert!(bar >= 3, "{line:?}");
    }
}

#[test]
fn progress_is_not_drawn_where_standard_error_is_no_terminal() {
    let file = TempFile::new("silent", &pattern(0, 300_000));
    let (address, server) = answering(|_| ());
    let ended = Program::run("echo_client", &[&address, "--file", file.path()]);
    server.join().unwrap();
    assert_eq!((ended.status, ended.stderr.as_str()), (Some(0), ""));
    assert_eq!(ended.stdout, "300000 bytes came back identical\n");
}

// Many connections.

/// Returns the client's line about its only connection, with a server that treats it like this.
fn line_about(serve: impl FnMut(TcpStream) + Send + 'static) -> String {
    let (address, server) = serving(1, serve);
    let ended = Program::run("multi_connection_client", &[&address, "1"]);
    server.join().unwrap();
    assert_eq!(ended.status, Some(1), "{ended:?}");
    let summary = format!("multi_connection_client: {address}: only 0 of 1 connections got all");
    assert!(ended.stderr.starts_with(&summary), "{ended:?}");
    assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
    ended.stdout
}

fn message(client: &mut TcpStream) -> [u8; 25] {
    let mut message = [0; 25];
    client.read_exact(&mut message).unwrap();
    message
}

#[test]
fn message_of_many_that_comes_back_longer_or_another_is_told_with_the_place() {
    let longer = line_about(|mut client| {
        let mut answer = message(&mut client).to_vec();
        answer.push(b'!');
        client.write_all(&answer).unwrap();
        let _ = client.read(&mut [0]);
    });
    let verdict = "Connection 1: 0 of 3 messages came back, 25 of 75 bytes identical; \
                   more came back than the 25 bytes that were sent\n";
    assert_eq!(longer, verdict);

    let second = line_about(|mut client| {
        let first = message(&mut client);
        client.write_all(&first).unwrap();
        let mut second = message(&mut client);
        second[8] = b'3';
        client.write_all(&second).unwrap();
        let _ = client.read(&mut [0]);
    });
    let verdict = "Connection 1: 1 of 3 messages came back, 33 of 75 bytes identical; \
                   the first difference is at offset 33: 0x32 was sent, 0x33 came back\n";
    assert_eq!(second, verdict);
}

#[test]
fn part_of_a_message_of_many_before_the_end_or_a_reset_is_counted() {
    let ended = line_about(|mut client| {
        let first = message(&mut client);
        client.write_all(&first[..9]).unwrap();
    });
    let verdict = "Connection 1: 0 of 3 messages came back, 9 of 75 bytes identical; \
                   finished by both sides\n";
    assert_eq!(ended, verdict);

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut client = Program::start_traced("multi_connection_client", &[&address, "1"]);
    let mut server = accept(&listener);
    let first = message(&mut server);
    server.write_all(&first[..9]).unwrap();
    client.stderr.until("filled 9");
    reset(server);
    let verdict = "Connection 1: 0 of 3 messages came back, 9 of 75 bytes identical; \
                   reset by the peer\n";
    assert_eq!(client.ended().stdout, verdict);
}
