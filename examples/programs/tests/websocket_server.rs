//! The WebSocket echo server: its sessions on the simulated network, byte by byte, and the program
//! itself against Python, a browser and crowds.

#![allow(clippy::unwrap_used, reason = "a failure, also in a helper, is the test's message")]
#![allow(unreachable_pub, reason = "what is shared is public within each test file")]

#[path = "../../../tests/common/mod.rs"]
mod common;
#[path = "../../../tests/common/programs.rs"]
mod programs;
#[path = "support/simulated.rs"]
mod simulated;
mod support;

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use ::programs::websocket_echo::{
    self, MESSAGE_MAX, OPENING_DEADLINE, PING_PERIOD, REQUEST_MAX, Session,
};
use common::measure::user_memory;
use common::{pattern, peer};
use programs::Program;
use readiness::simulation::{self, Faults, Peer, PeerState, Simulation, try_seeds};
use readiness::{CloseReason, Event, EventLoop};
use simulated::Simulated;
use support::{fuzz, has, server_after};
use tungstenite::{Message, WebSocket};

const REQUEST: &str = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: keep-alive, Upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// The answer that RFC 6455 gives for this key.
const ACCEPT: &str = "sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=";

const CONTINUED: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;
const FINAL: u8 = 0x80;

/// A frame of the echo: its first byte and its payload.
type Frame = (u8, Vec<u8>);

/// Returns a frame as a client sends it: its first byte, and the payload masked.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
    let mut bytes = vec![first];
    match payload.len() {
        length @ 0..126 => bytes.push(0x80 | length as u8),
        length @ 126..65536 => {
            bytes.push(0x80 | 126);
            bytes.extend((length as u16).to_be_bytes());
        }
        length => {
            bytes.push(0x80 | 127);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    bytes.extend(MASK);
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

fn message(opcode: u8, payload: &[u8]) -> Vec<u8> {
    frame(FINAL | opcode, payload)
}

fn close_frame(code: u16) -> Vec<u8> {
    message(CLOSE, &code.to_be_bytes())
}

/// Returns the whole frames at the beginning of what a server has sent: the first byte and the
/// payload of each.
fn frames(mut bytes: &[u8]) -> Vec<Frame> {
    let mut frames = Vec::new();
    while let [first, length, rest @ ..] = bytes {
        assert_eq!(length & 0x80, 0, "a server masks nothing");
        let size = match length {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let Some((extended, rest)) = rest.split_at_checked(size) else { break };
        let extended = extended.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
        let length = if size == 0 { usize::from(*length) } else { extended };
        let Some((payload, rest)) = rest.split_at_checked(length) else { break };
        frames.push((*first, payload.to_vec()));
        bytes = rest;
    }
    frames
}

/// Returns the head of the answer, and the frames behind it.
fn answer(bytes: &[u8]) -> (String, Vec<Frame>) {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
    let Some(end) = end else { return (String::from_utf8_lossy(bytes).into(), Vec::new()) };
    (String::from_utf8_lossy(&bytes[..end]).into(), frames(&bytes[end + 4..]))
}

/// Returns the code of a close frame.
fn code((first, payload): &Frame) -> u16 {
    assert_eq!(*first, FINAL | CLOSE, "{payload:?}");
    u16::from_be_bytes([payload[0], payload[1]])
}

type Handle = fn(&mut EventLoop<Session>, Event) -> std::io::Result<()>;

fn handle(server: &mut EventLoop<Session>, event: Event) -> std::io::Result<()> {
    websocket_echo::handle(server, event);
    Ok(())
}

/// Returns a server on a network without faults, and a client that has connected.
fn connected() -> (Simulated<Session, Handle>, Peer) {
    connected_on(&Simulation::new(1))
}

fn connected_on(simulation: &Simulation) -> (Simulated<Session, Handle>, Peer) {
    let mut event_loop = simulation.event_loop_with_limits(websocket_echo::limits()).unwrap();
    let listener = event_loop.listen("127.0.0.1:0").unwrap();
    let peer = simulation.connect(event_loop.listener_addr(listener).unwrap());
    let mut server = Simulated::new(simulation.clone(), event_loop, handle as Handle);
    server.rest();
    (server, peer)
}

/// Writes all of it, and returns the answers until no more arrive.
fn exchange(server: &mut Simulated<Session, Handle>, peer: &mut Peer, mut bytes: &[u8]) -> Vec<u8> {
    let mut back = Vec::new();
    loop {
        let count = peer.write(bytes);
        bytes = &bytes[count..];
        server.rest();
        let read = peer.read();
        if count == 0 && read.is_empty() {
            return back;
        }
        back.extend(read);
    }
}

/// Returns a client with its connection opened.
fn opened() -> (Simulated<Session, Handle>, Peer) {
    let (mut server, mut peer) = connected();
    let (head, _) = answer(&exchange(&mut server, &mut peer, REQUEST.as_bytes()));
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert!(head.to_lowercase().contains(ACCEPT), "{head}");
    (server, peer)
}

/// Returns a whole conversation: messages of both kinds, fragments with a ping among them, a close.
fn conversation() -> Vec<u8> {
    [
        REQUEST.as_bytes().to_vec(),
        message(TEXT, "héllo".as_bytes()),
        frame(BINARY, b"in "),
        frame(CONTINUED, b""),
        message(PING, b"p"),
        message(CONTINUED, b"pieces"),
        message(PONG, b"unasked"),
        message(BINARY, &pattern(0, 300)),
        close_frame(1000),
    ]
    .concat()
}

fn expected_frames() -> Vec<Frame> {
    vec![
        (FINAL | TEXT, "héllo".as_bytes().to_vec()),
        (FINAL | PONG, b"p".to_vec()),
        (FINAL | BINARY, b"in pieces".to_vec()),
        (FINAL | BINARY, pattern(0, 300)),
        (FINAL | CLOSE, 1000_u16.to_be_bytes().to_vec()),
    ]
}

#[test]
fn conversation_in_every_two_pieces_and_byte_by_byte_is_answered() {
    let bytes = conversation();
    let assert_answered = |pieces: &[&[u8]]| {
        let (mut server, mut peer) = connected();
        let mut back = Vec::new();
        for piece in pieces {
            back.extend(exchange(&mut server, &mut peer, piece));
        }
        assert_eq!(answer(&back).1, expected_frames());
        assert_eq!(peer.state(), PeerState::Ended, "the server closes first");
        drop(peer);
        server.rest();
        assert_eq!(server.only_closed(), CloseReason::Closed);
    };
    for cut in 0..=bytes.len() {
        assert_answered(&[&bytes[..cut], &bytes[cut..]]);
    }
    assert_answered(&bytes.chunks(1).collect::<Vec<_>>());
}

#[test]
fn client_that_ends_or_resets_at_any_byte_has_what_was_whole_and_leaves_nothing() {
    let bytes = conversation();
    for end in 0..bytes.len() {
        let (mut server, mut peer) = connected();
        let back = exchange(&mut server, &mut peer, &bytes[..end]);
        let (_, frames) = answer(&back);
        assert_eq!(frames, expected_frames()[..frames.len()], "at {end}");
        peer.finish();
        server.rest();
        assert_eq!(answer(&peer.read()).1, [], "an end without a close frame is not answered");
        drop(peer);
        server.rest();
        let reason = CloseReason::Rejected(ErrorKind::UnexpectedEof.into());
        assert_eq!(server.only_closed(), reason, "at {end}");

        let (mut server, mut peer) = connected();
        exchange(&mut server, &mut peer, &bytes[..end]);
        peer.reset();
        server.rest();
        assert_eq!(server.only_closed(), CloseReason::Reset, "at {end}");
    }
}

#[test]
fn what_breaks_the_protocol_is_answered_by_its_close_code() {
    let long = (MESSAGE_MAX as u64 + 1).to_be_bytes();
    let cases: [(Vec<u8>, u16); 17] = [
        (message(TEXT, b"\xff"), 1007),
        ([frame(TEXT, b"\xc3"), message(CONTINUED, b"\x28")].concat(), 1007),
        (message(TEXT, b"\xed\xa0\x80"), 1007),
        (vec![FINAL | TEXT, 1, b'x'], 1002), // not masked
        (message(CONTINUED, b"of nothing"), 1002),
        ([frame(TEXT, b"a"), message(TEXT, b"b")].concat(), 1002),
        (message(3, b""), 1002),
        (message(11, b""), 1002),
        (frame(PING, b""), 1002), // in fragments
        (message(PING, &[0; 126]), 1002),
        (message(0x40 | TEXT, b""), 1002), // a reserved bit
        (message(CLOSE, b"\x03"), 1002),
        (close_frame(1005), 1002),
        (close_frame(999), 1002),
        ([&[FINAL | BINARY, 0x80 | 127][..], &long, &[0; 4]].concat(), 1009),
        ([&[FINAL | BINARY, 0x80 | 127][..], &[0xff; 12]].concat(), 1009),
        ([message(TEXT, b"first"), message(CLOSE, b"\x03\xe8\xff")].concat(), 1007),
    ];
    for (bytes, expected) in cases {
        let (mut server, mut peer) = opened();
        let back = frames(&exchange(&mut server, &mut peer, &bytes));
        let (last, before) = back.split_last().unwrap_or_else(|| panic!("no answer to {bytes:x?}"));
        assert_eq!(code(last), expected, "{bytes:x?}");
        assert!(before.is_empty() || before == [(FINAL | TEXT, b"first".to_vec())]);
        assert_eq!(peer.state(), PeerState::Ended, "{bytes:x?}");
    }
}

#[test]
fn close_without_a_code_and_with_one_is_answered_by_the_same() {
    for payload in [&b""[..], b"\x03\xe8", b"\x0f\xa0enough"] {
        let (mut server, mut peer) = opened();
        let back = frames(&exchange(&mut server, &mut peer, &message(CLOSE, payload)));
        assert_eq!(back, [(FINAL | CLOSE, payload.to_vec())]);
    }
}

#[test]
fn longest_message_comes_back_and_one_in_fragments_that_is_longer_does_not() {
    let (mut server, mut peer) = opened();
    let text = vec![b'x'; MESSAGE_MAX];
    let back = frames(&exchange(&mut server, &mut peer, &message(TEXT, &text)));
    assert!(back == [(FINAL | TEXT, text)]);
    let half = vec![0; MESSAGE_MAX / 2];
    let pieces = [frame(BINARY, &half), frame(CONTINUED, &half), message(CONTINUED, b"x")];
    let back = frames(&exchange(&mut server, &mut peer, &pieces.concat()));
    assert_eq!(code(&back[0]), 1009);
}

#[test]
fn longest_message_with_the_end_right_behind_it_comes_back_whole() {
    let mut faults = Faults::none();
    // Kernels that take whatever they are given.
    (faults.send_buffer, faults.receive_buffer) = (64 * MESSAGE_MAX, 64 * MESSAGE_MAX);
    let (mut server, mut peer) = connected_on(&Simulation::with_faults(1, faults));
    let text = vec![b'x'; MESSAGE_MAX];
    let bytes = [REQUEST.as_bytes(), &message(TEXT, &text)].concat();
    assert_eq!(peer.write(&bytes), bytes.len());
    peer.finish();
    server.rest();
    assert!(answer(&peer.read()).1 == [(FINAL | TEXT, text)]);
}

#[test]
fn close_whose_answer_does_not_fit_at_once_is_answered_all_the_same() {
    let (mut server, mut peer) = opened();
    // With its head of ten bytes it leaves room for two.
    let room = websocket_echo::limits().connection.unsent_max;
    let text = vec![b'x'; room - 12];
    let late = message(TEXT, b"too late").repeat(200);
    let bytes = [message(TEXT, &text), close_frame(1000), late].concat();
    let back = frames(&exchange(&mut server, &mut peer, &bytes));
    let close = (FINAL | CLOSE, 1000_u16.to_be_bytes().to_vec());
    assert!(back == [(FINAL | TEXT, text), close], "{} frames", back.len());
}

#[test]
fn requests_that_open_nothing_are_answered_by_their_status() {
    let without = |line: &str| {
        let kept: Vec<&str> = REQUEST.split("\r\n").filter(|kept| !kept.contains(line)).collect();
        kept.join("\r\n")
    };
    let long = format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(REQUEST_MAX));
    let cases = [
        (without("Upgrade"), "200 OK"),
        (without("Upgrade").replace("GET / ", "GET /favicon.ico "), "404 "),
        (REQUEST.replace("GET", "POST"), "405 "),
        (REQUEST.replace("HTTP/1.1", "HTTP/1.0"), "505 "),
        (without("Version"), "426 "),
        (REQUEST.replace("13", "8"), "426 "),
        (without("Key"), "400 "),
        ("\x16\x03\x01\x02\x00\x01\x00".into(), "400 "),
        (REQUEST.replace("Host:", "Ho st:"), "400 "),
        (REQUEST.replace("Host:", &"H: x\r\n".repeat(200)), "431 "),
        (long, "431 "),
    ];
    for (request, status) in cases {
        let (mut server, mut peer) = connected();
        let back = exchange(&mut server, &mut peer, request.as_bytes());
        let text = String::from_utf8(back).unwrap();
        assert!(text.starts_with(&format!("HTTP/1.1 {status}")), "{request:?}: {text:?}");
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}", body.len())), "{head}");
        assert!(status != "426 " || head.contains("Sec-WebSocket-Version: 13"), "{head}");
        assert_eq!(peer.state(), PeerState::Ended);
        drop(peer);
        server.rest();
        server.only_closed();
    }
}

#[test]
fn client_that_opens_nothing_is_closed_at_the_deadline() {
    let (mut server, mut peer) = connected();
    exchange(&mut server, &mut peer, &REQUEST.as_bytes()[..100]);
    server.simulation.pass_time(OPENING_DEADLINE);
    server.rest();
    assert_eq!(peer.state(), PeerState::Ended);
    drop(peer);
    server.rest();
    assert_eq!(server.only_closed(), CloseReason::Rejected(ErrorKind::TimedOut.into()));
}

#[test]
fn client_is_pinged_and_closed_only_if_it_does_not_answer() {
    let (mut server, mut peer) = opened();
    server.simulation.pass_time(OPENING_DEADLINE);
    for _ in 0..5 {
        assert_eq!(frames(&exchange(&mut server, &mut peer, b"")), [(FINAL | PING, vec![])]);
        exchange(&mut server, &mut peer, &message(PONG, b""));
        server.simulation.pass_time(PING_PERIOD);
    }
    assert_eq!(frames(&exchange(&mut server, &mut peer, b"")), [(FINAL | PING, vec![])]);
    server.simulation.pass_time(PING_PERIOD);
    server.rest();
    assert_eq!(peer.state(), PeerState::Ended);
    drop(peer);
    server.rest();
    assert_eq!(server.only_closed(), CloseReason::Rejected(ErrorKind::TimedOut.into()));
}

#[test]
fn servers_goodbye_comes_behind_what_was_received_and_ends_the_connection() {
    let (mut server, mut peer) = opened();
    let back = frames(&exchange(&mut server, &mut peer, &message(TEXT, b"before")));
    assert_eq!(back, [(FINAL | TEXT, b"before".to_vec())]);
    websocket_echo::say_goodbye(&mut server.event_loop);
    // What arrives in between is thrown away, and the client's answer ends it.
    let late = [message(TEXT, b"late"), close_frame(1001)].concat();
    let back = frames(&exchange(&mut server, &mut peer, &late));
    assert_eq!(back.len(), 1, "{back:?}");
    assert_eq!(code(&back[0]), 1001);
    assert_eq!(peer.state(), PeerState::Ended);
    drop(peer);
    server.rest();
    assert_eq!(server.only_closed(), CloseReason::Closed);
}

/// Runs clients that each send a few messages in pieces as they are chosen, and then close. Returns
/// the frames that each is to get back, and those that it got.
fn run_clients(simulation: &Simulation, faults: Faults) -> std::io::Result<Vec<[Vec<Frame>; 2]>> {
    let mut event_loop = simulation.event_loop_with_limits(websocket_echo::limits()).unwrap();
    let listener = event_loop.listen("127.0.0.1:0")?;
    let address = event_loop.listener_addr(listener)?;
    let mut server = simulation::Program::new(event_loop, handle as Handle);
    simulation.set_faults(faults);
    let mut clients = Vec::new();
    for number in 0..3 {
        let (mut bytes, mut expected) = (REQUEST.as_bytes().to_vec(), Vec::new());
        for _ in 0..simulation.below(5) {
            let length = simulation.below([10, 300, 3000][simulation.below(3)]);
            let payload = pattern(number, length);
            let cut = simulation.below(length + 1);
            bytes.extend(frame(BINARY, &payload[..cut]));
            bytes.extend(message(CONTINUED, &payload[cut..]));
            expected.push((FINAL | BINARY, payload));
        }
        bytes.extend(close_frame(1000));
        expected.push((FINAL | CLOSE, 1000_u16.to_be_bytes().to_vec()));
        clients.push((simulation.connect(address), bytes, Vec::new(), expected));
    }
    loop {
        for (peer, bytes, back, _) in &mut clients {
            let piece = bytes.len().min(1 + simulation.below(5000));
            let count = peer.write(&bytes[..piece]);
            bytes.drain(..count);
            back.extend(peer.read());
        }
        if clients.iter().all(|(peer, ..)| peer.state() != PeerState::Open) {
            break;
        }
        simulation.advance(&mut [&mut server])?;
    }
    let outcome = |(mut peer, _, mut back, expected): (Peer, Vec<u8>, Vec<u8>, _)| {
        back.extend(peer.read());
        let mut frames = answer(&back).1;
        frames.retain(|(first, _)| *first != FINAL | PING);
        [expected, frames]
    };
    Ok(clients.into_iter().map(outcome).collect())
}

#[test]
fn clients_on_bad_networks_have_every_message_back() {
    try_seeds(0..150, |simulation| {
        let outcomes = run_clients(simulation, Faults::drawn(simulation.seed()).survivable())?;
        for [expected, frames] in outcomes {
            assert!(expected == frames, "{} of {} frames", frames.len(), expected.len());
        }
        Ok(())
    })
    .unwrap();
}

#[test]
fn clients_on_networks_that_break_have_the_first_messages_back() {
    try_seeds(0..150, |simulation| {
        for [expected, frames] in run_clients(simulation, Faults::drawn(simulation.seed()))? {
            assert!(expected.starts_with(&frames), "{} frames", frames.len());
        }
        Ok(())
    })
    .unwrap();
}

/// Attacks the server by a conversation whose bytes are changed, left out or doubled, or by noise,
/// in pieces.
fn attack(seed: u64) {
    let simulation = Simulation::new(seed);
    let (mut server, mut peer) = connected_on(&simulation);
    let rate = [5, 50, 500][simulation.below(3)];
    let mut bytes = match simulation.below(3) {
        0 => conversation()[REQUEST.len()..].to_vec(),
        1 => conversation(),
        _ => (0..300).map(|_| simulation.below(256) as u8).collect(),
    };
    bytes = bytes
        .iter()
        .flat_map(|byte| match simulation.below(rate) {
            0 => vec![*byte ^ 1 << simulation.below(8)],
            1 => vec![],
            2 => vec![*byte; 2],
            _ => vec![*byte],
        })
        .collect();
    if simulation.below(2) == 0 {
        bytes.splice(..0, REQUEST.bytes());
    }
    let mut back = Vec::new();
    while !bytes.is_empty() {
        let piece: Vec<u8> = bytes.drain(..bytes.len().min(1 + simulation.below(100))).collect();
        back.extend(exchange(&mut server, &mut peer, &piece));
    }
    peer.finish();
    back.extend(exchange(&mut server, &mut peer, b""));
    assert!(back.is_empty() || back.starts_with(b"HTTP/1.1 "), "{back:?}");
    let (_, frames) = answer(&back);
    let closes = frames.iter().filter(|(first, _)| *first == FINAL | CLOSE).count();
    assert!(closes <= 1, "{frames:?}");
    drop(peer);
    server.rest();
    server.only_closed();
}

#[test]
fn conversations_that_were_tampered_with_end() {
    fuzz(attack);
}

// The program itself.

const PATH: &str = env!("CARGO_BIN_EXE_websocket_server");

fn start(before: &str) -> (Program, SocketAddr) {
    server_after(&format!("{before} export RUST_LOG=programs=info;"), PATH, &["127.0.0.1:0"])
}

fn connect(address: SocketAddr) -> WebSocket<TcpStream> {
    open(peer(address))
}

fn open(stream: TcpStream) -> WebSocket<TcpStream> {
    tungstenite::client("ws://localhost/", stream).unwrap().0
}

fn assert_echoed(client: &mut WebSocket<TcpStream>, message: Message) {
    client.send(message.clone()).unwrap();
    assert!(client.read().unwrap() == message);
}

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

#[test]
fn python_speaks_with_it() {
    let mut import = Command::new("python3");
    import.args(["-c", "import websockets"]).stderr(Stdio::null());
    let has_websockets = import.status().is_ok_and(|status| status.success());
    skip_unless!(has_websockets, "python3 with the package websockets is not here");
    let (_server, address) = start("");
    let mut command = Command::new("python3");
    command.arg(data("websocket_client.py")).arg(format!("ws://{address}"));
    let output = command.output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "all is well\n", "{output:?}");
}

/// Returns the name of a browser that runs without a screen, if one is here.
fn browser() -> Option<&'static str> {
    let names = ["chromium", "chromium-browser", "google-chrome"];
    names.into_iter().find(|name| has(name, "--version"))
}

/// Serves a page to a browser until it asks for `/done`, and returns what it says there.
fn serve_page(listener: &TcpListener, page: &str) -> String {
    loop {
        let mut stream = programs::accept(listener);
        let mut line = String::new();
        // A browser may open a connection and ask nothing.
        if BufReader::new(&stream).read_line(&mut line).unwrap_or(0) == 0 {
            continue;
        }
        let target = line.split(' ').nth(1).unwrap_or_default();
        if let Some(said) = target.strip_prefix("/done?") {
            return said.to_owned();
        }
        let length = page.len();
        let _ = write!(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n\
             Content-Length: {length}\r\nConnection: close\r\n\r\n{page}"
        );
    }
}

#[test]
fn browser_speaks_with_it() {
    let browser = browser();
    skip_unless!(browser.is_some(), "chromium is not here");
    let (_server, address) = start("");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/#ws://{address}", listener.local_addr().unwrap());
    let folder = common::Folder::new();
    let mut command = Command::new(browser.unwrap());
    command.args(["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"]);
    command.arg(format!("--user-data-dir={}", folder.path("profile").display())).arg(url);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let page = std::fs::read_to_string(data("websocket_browser.html")).unwrap();
    let said = std::panic::catch_unwind(|| serve_page(&listener, &page));
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(said.unwrap(), "same%2C%20closed%20with%204001%20enough");
}

#[test]
fn thousand_clients_at_once_are_served() {
    common::child::with_descriptors(test_name!(), 1_200, || {
        let (server, address) = start("");
        let mut clients: Vec<_> = (0..1000).map(|_| connect(address)).collect();
        for (number, client) in clients.iter_mut().enumerate() {
            client.send(Message::binary(pattern(number, 1000))).unwrap();
        }
        for (number, client) in clients.iter_mut().enumerate() {
            assert!(client.read().unwrap() == Message::binary(pattern(number, 1000)));
        }
        let memory = user_memory(server.process_id()) / 1000;
        common::measure::aloud(format_args!("1000 WebSocket clients: {memory} bytes each"));
    });
}

#[test]
fn client_that_never_reads_stops_being_read_and_harms_nobody() {
    let (server, address) = start("");
    let before = user_memory(server.process_id());
    let mut greedy = connect(address);
    greedy.get_ref().set_write_timeout(Some(Duration::from_secs(1))).unwrap();
    let mut written = 0;
    // Until the kernels on the way hold all that they can.
    while greedy.send(Message::binary(pattern(0, 64 * 1024))).is_ok() {
        written += 64 * 1024;
        assert!(written < 1 << 30, "the server reads on");
    }
    let grown = user_memory(server.process_id()) - before;
    assert!(grown < 4 * 1024 * 1024, "{grown} bytes behind {written} unread");
    assert_echoed(&mut connect(address), "still there".into());
}

#[test]
fn server_with_64_descriptors_serves_a_hundred_clients_by_turns() {
    let (_server, address) = start("ulimit -n 64;");
    let mut waiting: Vec<TcpStream> = (0..100).map(|_| peer(address)).collect();
    let mut first = open(waiting.remove(0));
    drop(waiting.drain(..60));
    for stream in waiting {
        assert_echoed(&mut open(stream), "my turn".into());
    }
    assert_echoed(&mut first, "since the beginning".into());
}

#[test]
fn ctrl_c_tells_clients_that_the_server_goes_away() {
    let (server, address) = start("");
    let mut client = connect(address);
    assert_echoed(&mut client, "before".into());
    server.signal("INT");
    let Message::Close(Some(frame)) = client.read().unwrap() else { panic!("a close frame") };
    assert_eq!(u16::from(frame.code), 1001);
    assert!(client.read().is_err(), "the connection is closed");
    assert_eq!(client.get_mut().read(&mut [0]).unwrap(), 0);
    drop(client);
    let ended = server.ended();
    assert_eq!((ended.status, ended.stderr.as_str()), (Some(0), ""));
}

#[test]
fn help_fits_80_columns_and_bad_arguments_are_named() {
    let path = Path::new(PATH);
    let help = Program::start_at(path, &["--help"]).ended();
    assert_eq!(help.status, Some(0));
    assert!(help.stdout.lines().all(|line| line.chars().count() <= 80));
    for (arguments, about) in [(&["nowhere"], "bad address"), (&["--cert"], "invalid option")] {
        let ended = Program::start_at(path, arguments).ended();
        assert_eq!(ended.status, Some(1), "{ended:?}");
        assert!(ended.stderr.contains(about), "{ended:?}");
    }
}
