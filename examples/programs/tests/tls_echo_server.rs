//! The TLS echo server: its sessions on the simulated network, against a client of rustls, and the
//! program itself against `openssl s_client` and crowds.

#![allow(clippy::unwrap_used, reason = "a failure, also in a helper, is the test's message")]
#![allow(unreachable_pub, reason = "what is shared is public within each test file")]

#[path = "../../../tests/common/mod.rs"]
mod common;
#[path = "../../../tests/common/programs.rs"]
mod programs;
#[path = "support/simulated.rs"]
mod simulated;
mod support;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ::programs::tls_echo::{self, HANDSHAKE_DEADLINE, Session};
use common::measure::user_memory;
use common::{pattern, peer};
use programs::{Program, TempFile};
use readiness::simulation::{self, Faults, Peer, PeerState, Simulation, try_seeds};
use readiness::{CloseReason, Event, EventLoop, Limits};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, RootCertStore, SupportedProtocolVersion};
use simulated::Simulated;
use support::{fuzz, has, server_after};

const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

/// Returns a configuration of clients that trust the server's certificate and keep no sessions, so
/// that every handshake is a whole one.
fn client_config(version: &'static SupportedProtocolVersion) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(data("cert.pem")).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = rustls::client::Resumption::disabled();
    Arc::new(config)
}

fn client_tls(config: &Arc<ClientConfig>) -> ClientConnection {
    ClientConnection::new(config.clone(), "localhost".try_into().unwrap()).unwrap()
}

/// A client on the simulated network.
struct Client {
    tls: ClientConnection,
    peer: Peer,
    /// Records on their way to the network.
    outgoing: Vec<u8>,
    /// How many bytes it still writes.
    budget: usize,
    written: usize,
    received: Vec<u8>,
    /// It has received the notice that nothing more follows.
    was_notified: bool,
    failure: Option<rustls::Error>,
}

impl Client {
    fn new(tls: ClientConnection, peer: Peer) -> Self {
        Self {
            tls,
            peer,
            outgoing: Vec::new(),
            budget: usize::MAX,
            written: 0,
            received: Vec::new(),
            was_notified: false,
            failure: None,
        }
    }

    /// Returns a client that sends a message, and that it is done.
    fn with_message(tls: ClientConnection, peer: Peer, message: &[u8]) -> Self {
        let mut client = Self::new(tls, peer);
        client.tls.writer().write_all(message).unwrap();
        client
    }

    /// Takes what has arrived, and writes what there is to write, at most `piece` bytes. Returns
    /// whether it did anything.
    fn step(&mut self, piece: usize) -> bool {
        let arrived = self.peer.read();
        let mut rest = arrived.as_slice();
        while !rest.is_empty() && self.failure.is_none() && !self.was_notified {
            self.tls.read_tls(&mut rest).unwrap();
            self.failure = self.tls.process_new_packets().err();
            let mut plaintext = [0; 16 * 1024];
            while let Ok(count) = self.tls.reader().read(&mut plaintext) {
                self.was_notified |= count == 0;
                if count == 0 {
                    break;
                }
                self.received.extend_from_slice(&plaintext[..count]);
            }
        }
        while self.tls.wants_write() {
            self.tls.write_tls(&mut self.outgoing).unwrap();
        }
        let count = self.outgoing.len().min(self.budget).min(piece);
        let count = self.peer.write(&self.outgoing[..count]);
        self.outgoing.drain(..count);
        self.budget -= count;
        self.written += count;
        count > 0 || !arrived.is_empty()
    }
}

type Handle = fn(&mut EventLoop<Session>, Event) -> std::io::Result<()>;

fn handle(server: &mut EventLoop<Session>, event: Event) -> std::io::Result<()> {
    tls_echo::handle(server, event);
    Ok(())
}

/// Returns the server on a network without faults, and where it listens.
fn server(simulation: &Simulation) -> (Simulated<Session, Handle>, SocketAddr) {
    server_with(simulation, tls_echo::limits())
}

fn server_with(
    simulation: &Simulation,
    limits: Limits,
) -> (Simulated<Session, Handle>, SocketAddr) {
    let (event_loop, address) = listening(simulation, limits);
    (Simulated::new(simulation.clone(), event_loop, handle as Handle), address)
}

fn listening(simulation: &Simulation, limits: Limits) -> (EventLoop<Session>, SocketAddr) {
    let config = tls_echo::configuration(&data("cert.pem"), &data("key.pem")).unwrap();
    let mut event_loop = simulation.event_loop_with_limits(limits).unwrap();
    let listener = event_loop.listen_with("127.0.0.1:0", move |_| Session::new(&config)).unwrap();
    let address = event_loop.listener_addr(listener).unwrap();
    (event_loop, address)
}

/// Runs both until neither does anything more, the client in pieces of at most this many bytes.
fn talk(server: &mut Simulated<Session, Handle>, client: &mut Client, piece: usize) {
    loop {
        server.rest();
        if !client.step(piece) {
            return;
        }
    }
}

/// Checks a client that sends everything, in pieces of `piece` bytes, and receives all of it back.
fn assert_served(server: &mut Simulated<Session, Handle>, client: &mut Client, piece: usize) {
    talk(server, client, piece);
    client.tls.send_close_notify();
    talk(server, client, piece);
    assert_eq!(client.failure, None);
    assert!(client.was_notified, "the server says that nothing more follows");
    client.peer.finish();
    server.rest();
    assert_eq!(server.only_closed(), CloseReason::Closed);
}

#[test]
fn client_hello_in_every_two_pieces_and_byte_by_byte_is_answered() {
    for version in VERSIONS {
        let config = client_config(version);
        let mut hello = Vec::new();
        client_tls(&config).write_tls(&mut hello).unwrap();
        for cut in 1..hello.len() {
            let simulation = Simulation::new(1);
            let (mut server, address) = server(&simulation);
            let mut client =
                Client::with_message(client_tls(&config), simulation.connect(address), b"Hello");
            client.step(cut);
            server.rest();
            assert_served(&mut server, &mut client, usize::MAX);
            assert_eq!(client.received, b"Hello");
        }
        let simulation = Simulation::new(1);
        let (mut server, address) = server(&simulation);
        let message = pattern(0, 200);
        let mut client =
            Client::with_message(client_tls(&config), simulation.connect(address), &message);
        assert_served(&mut server, &mut client, 1);
        assert_eq!(client.received, message);
    }
}

/// Returns how many bytes a client writes up to the end of its handshake, of its message, and in
/// all.
fn extents(config: &Arc<ClientConfig>, message: &[u8]) -> [usize; 3] {
    let simulation = Simulation::new(1);
    let (mut server, address) = server(&simulation);
    let mut client = Client::new(client_tls(config), simulation.connect(address));
    talk(&mut server, &mut client, usize::MAX);
    let handshake = client.written;
    client.tls.writer().write_all(message).unwrap();
    talk(&mut server, &mut client, usize::MAX);
    let said = client.written;
    client.tls.send_close_notify();
    talk(&mut server, &mut client, usize::MAX);
    [handshake, said, client.written]
}

#[test]
fn client_that_ends_at_any_byte_is_cut_short_unless_it_has_said_that_it_is_done() {
    for version in VERSIONS {
        let config = client_config(version);
        let [_, said, all] = extents(&config, b"Hello");
        for end in 0..=all {
            let simulation = Simulation::new(1);
            let (mut server, address) = server(&simulation);
            let peer = simulation.connect(address);
            let mut client = Client::with_message(client_tls(&config), peer, b"Hello");
            client.budget = end;
            talk(&mut server, &mut client, usize::MAX);
            client.tls.send_close_notify();
            talk(&mut server, &mut client, usize::MAX);
            client.peer.finish();
            talk(&mut server, &mut client, usize::MAX);
            let expected = match end == all {
                true => CloseReason::Closed,
                false => CloseReason::Rejected(ErrorKind::UnexpectedEof.into()),
            };
            assert_eq!(server.only_closed(), expected, "at {end} of {all}");
            let expected: &[u8] = if end >= said { b"Hello" } else { b"" };
            assert_eq!(client.received, expected, "at {end} of {all}");
            assert_eq!(client.was_notified, end == all, "at {end} of {all}");
        }
    }
}

#[test]
fn client_that_resets_at_any_byte_leaves_nothing_behind() {
    for version in VERSIONS {
        let config = client_config(version);
        let [.., all] = extents(&config, b"Hello");
        for end in 0..=all {
            let simulation = Simulation::new(1);
            let (mut server, address) = server(&simulation);
            let peer = simulation.connect(address);
            let mut client = Client::with_message(client_tls(&config), peer, b"Hello");
            client.budget = end;
            talk(&mut server, &mut client, usize::MAX);
            client.tls.send_close_notify();
            talk(&mut server, &mut client, usize::MAX);
            client.peer.reset();
            server.rest();
            assert_eq!(server.only_closed(), CloseReason::Reset, "at {end} of {all}");
        }
    }
}

#[test]
fn client_without_a_handshake_is_closed_at_the_deadline_and_one_that_is_silent_later_is_not() {
    let simulation = Simulation::new(1);
    let (mut server, address) = server(&simulation);
    let config = client_config(&TLS13);
    let mut client = Client::new(client_tls(&config), simulation.connect(address));
    talk(&mut server, &mut client, usize::MAX);
    let mute = simulation.connect(address);
    server.rest();
    simulation.pass_time(HANDSHAKE_DEADLINE);
    server.rest();
    assert_eq!(mute.state(), PeerState::Ended);
    drop(mute);
    server.rest();
    let [(_, reason)] = server.closed[..] else { panic!("{:?}", server.closed) };
    assert_eq!(reason, CloseReason::Rejected(ErrorKind::TimedOut.into()));
    server.closed.clear();
    assert_served(&mut server, &mut client, usize::MAX);
}

#[test]
fn plaintext_and_garbage_are_answered_by_an_alert_and_closed() {
    let garbage: [&[u8]; 4] = [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2p1\r\n",
        &[0; 100],
        &[0x16, 3, 1, 0, 5, 1, 0, 0, 1, 0], // a hello too short to be one
    ];
    for bytes in garbage {
        let simulation = Simulation::new(1);
        let (mut server, address) = server(&simulation);
        let mut peer = simulation.connect(address);
        assert_eq!(peer.write(bytes), bytes.len());
        server.rest();
        let answer = peer.read();
        // A record of an alert of two bytes, which is fatal.
        assert_eq!((answer.len(), answer[0], answer[5]), (7, 0x15, 2), "{answer:?}");
        assert_eq!(peer.state(), PeerState::Ended);
        drop(peer);
        server.rest();
        assert_eq!(server.only_closed(), CloseReason::Rejected(ErrorKind::InvalidData.into()));
    }
}

#[test]
fn servers_goodbye_comes_behind_what_has_arrived() {
    let simulation = Simulation::new(1);
    let (mut server, address) = server(&simulation);
    let config = client_config(&TLS13);
    let mut client = Client::new(client_tls(&config), simulation.connect(address));
    talk(&mut server, &mut client, usize::MAX);
    client.tls.writer().write_all(b"the last words").unwrap();
    client.step(usize::MAX);
    while simulation.step() {}
    tls_echo::say_goodbye(&mut server.event_loop);
    server.event_loop.shutdown(Duration::from_secs(10));
    talk(&mut server, &mut client, usize::MAX);
    assert!(client.was_notified);
    // The loop had not read them: they are not echoed, and the client knows that.
    assert!(b"the last words".starts_with(&client.received[..]));
    client.peer.finish();
    server.rest();
    assert_eq!(server.only_closed(), CloseReason::Closed);
}

#[test]
fn write_buffer_smaller_than_a_record_passes_everything_on_piece_by_piece() {
    let mut limits = tls_echo::limits();
    let connection = &mut limits.connection;
    (connection.low_water, connection.high_water, connection.unsent_max) = (100, 1000, 1000);
    connection.reads_while_unsent = true;
    let simulation = Simulation::new(1);
    let (mut server, address) = server_with(&simulation, limits);
    let config = client_config(&TLS13);
    let mut client = Client::new(client_tls(&config), simulation.connect(address));
    let message = pattern(0, 1_000_000);
    let mut said = 0;
    while client.received.len() < message.len() {
        said += client.tls.writer().write(&message[said..]).unwrap();
        client.step(usize::MAX);
        server.rest();
    }
    assert!(client.received == message);
    assert_served(&mut server, &mut client, usize::MAX);
}

#[test]
fn client_that_is_done_before_it_reads_has_all_back() {
    let mut limits = tls_echo::limits();
    let connection = &mut limits.connection;
    (connection.low_water, connection.high_water, connection.unsent_max) = (0, 1000, 1000);
    connection.reads_while_unsent = true;
    let mut faults = Faults::none();
    (faults.send_buffer, faults.receive_buffer) = (60_000, 1000);
    let simulation = Simulation::with_faults(1, faults);
    let (mut server, address) = server_with(&simulation, limits);
    let tls = client_tls(&client_config(&TLS13));
    let mut client = Client::new(tls, simulation.connect(address));
    talk(&mut server, &mut client, usize::MAX);
    let message = pattern(0, 40_000);
    client.tls.writer().write_all(&message).unwrap();
    client.tls.send_close_notify();
    // All of it, and the end of the socket, before anything is read.
    while client.tls.wants_write() {
        client.tls.write_tls(&mut client.outgoing).unwrap();
    }
    let outgoing = std::mem::take(&mut client.outgoing);
    let mut written = 0;
    while written < outgoing.len() {
        written += client.peer.write(&outgoing[written..]);
        server.rest();
    }
    client.peer.finish();
    talk(&mut server, &mut client, usize::MAX);
    assert!(client.received == message);
    assert!(client.was_notified);
    assert_eq!(server.only_closed(), CloseReason::Closed);
}

/// Clients that say something of some length in pieces as they are chosen.
fn run_clients(
    simulation: &Simulation,
    faults: Faults,
    outcomes: &mut Vec<(usize, Client)>,
) -> std::io::Result<()> {
    let (event_loop, address) = listening(simulation, tls_echo::limits());
    simulation.set_faults(faults);
    let mut server = simulation::Program::new(event_loop, handle as Handle);
    for number in 0..3 {
        let config = client_config(VERSIONS[number % 2]);
        let length = simulation.below(20_000);
        let tls = client_tls(&config);
        let peer = simulation.connect(address);
        outcomes.push((length, Client::with_message(tls, peer, &pattern(number, length))));
    }
    let is_over = |client: &Client| client.was_notified || client.peer.state() != PeerState::Open;
    loop {
        for (length, client) in &mut *outcomes {
            client.step(1 + simulation.below(5000));
            if client.received.len() == *length && !client.tls.is_handshaking() {
                client.tls.send_close_notify();
                client.step(usize::MAX);
            }
        }
        if outcomes.iter().all(|(_, client)| is_over(client)) {
            break;
        }
        simulation.advance(&mut [&mut server])?;
    }
    Ok(())
}

#[test]
fn clients_on_bad_networks_have_all_back_and_a_clean_end() {
    try_seeds(0..60, |simulation| {
        let mut outcomes = Vec::new();
        run_clients(simulation, Faults::drawn(simulation.seed()).survivable(), &mut outcomes)?;
        for (number, (length, client)) in outcomes.iter().enumerate() {
            assert_eq!(client.failure, None);
            assert!(client.was_notified);
            assert!(client.received == pattern(number, *length));
        }
        Ok(())
    })
    .unwrap();
}

#[test]
fn clients_on_networks_that_break_have_a_prefix_back_and_never_a_false_end() {
    try_seeds(0..60, |simulation| {
        let mut outcomes = Vec::new();
        run_clients(simulation, Faults::drawn(simulation.seed()), &mut outcomes)?;
        for (number, (length, client)) in outcomes.iter().enumerate() {
            assert_eq!(client.failure, None);
            assert!(pattern(number, *length).starts_with(&client.received));
            assert!(!client.was_notified || client.received.len() == *length);
        }
        Ok(())
    })
    .unwrap();
}

/// Attacks the server as a client whose bytes are changed, left out or doubled on their way.
fn attack(seed: u64) {
    let simulation = Simulation::new(seed);
    let (mut server, address) = server(&simulation);
    let config = client_config(VERSIONS[simulation.below(2)]);
    let message = pattern(0, simulation.below(300));
    let mut client =
        Client::with_message(client_tls(&config), simulation.connect(address), &message);
    let rate = [20, 200, 2000][simulation.below(3)];
    let mut is_alive = true;
    while is_alive {
        server.rest();
        while client.tls.wants_write() {
            client.tls.write_tls(&mut client.outgoing).unwrap();
        }
        client.outgoing = client
            .outgoing
            .iter()
            .flat_map(|byte| match simulation.below(rate) {
                0 => vec![*byte ^ 1 << simulation.below(8)],
                1 => vec![],
                2 => vec![*byte; 2],
                3 => pattern(simulation.below(1000), simulation.below(300)),
                _ => vec![*byte],
            })
            .collect();
        is_alive = client.step(usize::MAX) && client.failure.is_none();
    }
    assert!(message.starts_with(&client.received), "nothing is taken that was tampered with");
    client.peer.finish();
    server.rest();
    drop(client);
    server.rest();
    server.only_closed();
}

#[test]
fn tampered_sessions_end_and_nothing_of_them_comes_back() {
    fuzz(attack);
}

// The program itself.

const PATH: &str = env!("CARGO_BIN_EXE_tls_echo_server");

fn files() -> [String; 2] {
    ["cert.pem", "key.pem"].map(|name| data(name).to_str().unwrap().to_owned())
}

/// Starts the server in its own process, which logs what it has against clients.
fn start(before: &str) -> (Program, SocketAddr) {
    let [cert, key] = files();
    let before = format!("{before} export RUST_LOG=programs=info;");
    server_after(&before, PATH, &["127.0.0.1:0", "--cert", &cert, "--key", &key])
}

/// Returns a client that blocks, with its handshake done.
fn connect(address: SocketAddr) -> rustls::StreamOwned<ClientConnection, TcpStream> {
    handshake(peer(address))
}

fn handshake(stream: TcpStream) -> rustls::StreamOwned<ClientConnection, TcpStream> {
    let tls = client_tls(&client_config(&TLS13));
    let mut client = rustls::StreamOwned::new(tls, stream);
    client.flush().unwrap();
    assert_echoed(&mut client, b"Hello");
    client
}

fn assert_echoed(client: &mut rustls::StreamOwned<ClientConnection, TcpStream>, message: &[u8]) {
    client.write_all(message).unwrap();
    let mut answer = vec![0; message.len()];
    client.read_exact(&mut answer).unwrap();
    assert_eq!(answer, message);
}

const NO_OPENSSL: &str = "openssl is not here";

/// `openssl s_client`, which reads its standard input as it is.
fn s_client(version: &str, address: SocketAddr) -> Command {
    let mut command = Command::new("openssl");
    command.args(["s_client", version, "-quiet", "-verify_return_error", "-CAfile"]);
    command.arg(data("cert.pem")).args(["-partial_chain", "-connect", &address.to_string()]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

#[test]
fn openssl_speaks_both_versions_and_hears_that_the_server_leaves() {
    skip_unless!(has("openssl", "version"), NO_OPENSSL);
    for version in ["-tls1_2", "-tls1_3"] {
        let (server, address) = start("");
        let mut client = s_client(version, address).spawn().unwrap();
        let mut input = client.stdin.take().unwrap();
        input.write_all(b"Hello\n").unwrap();
        let mut answer = [0; 6];
        client.stdout.as_mut().unwrap().read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"Hello\n");
        server.signal("INT");
        let output = client.wait_with_output().unwrap();
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(!complaint.contains("unexpected eof"), "{complaint}");
        assert!(output.status.success(), "{output:?}");
        let ended = server.ended();
        assert_eq!((ended.status, ended.stderr.as_str()), (Some(0), ""));
        drop(input);
    }
}

#[test]
fn hundred_mebibytes_through_openssl_come_back_in_little_memory() {
    skip_unless!(has("openssl", "version"), NO_OPENSSL);
    const LENGTH: usize = 100 * 1024 * 1024;
    let (server, address) = start("");
    let before = user_memory(server.process_id());
    let mut client = s_client("-tls1_3", address).spawn().unwrap();
    let mut input = client.stdin.take().unwrap();
    let mut output = client.stdout.take().unwrap();
    let writer = std::thread::spawn(move || {
        for offset in (0..LENGTH).step_by(1024 * 1024) {
            input.write_all(&pattern(offset, 1024 * 1024)).unwrap();
        }
        input // kept open until all has been echoed
    });
    let mut most = 0;
    for offset in (0..LENGTH).step_by(1024 * 1024) {
        let mut piece = vec![0; 1024 * 1024];
        output.read_exact(&mut piece).unwrap();
        assert!(piece == pattern(offset, piece.len()), "at {offset}");
        most = most.max(user_memory(server.process_id()));
    }
    drop(writer.join().unwrap());
    // With `-quiet` it does not end with its input.
    client.kill().unwrap();
    client.wait().unwrap();
    let grown = most - before;
    common::measure::aloud(format_args!("100 MiB over TLS: {} KiB more memory", grown / 1024));
    assert!(grown < 2 * 1024 * 1024, "{grown} bytes");
}

#[test]
fn thousand_clients_at_once_are_served() {
    common::child::with_descriptors(test_name!(), 1_200, || {
        let (server, address) = start("");
        let mut clients: Vec<_> = (0..1000).map(|_| connect(address)).collect();
        for (number, client) in clients.iter_mut().enumerate() {
            client.write_all(&pattern(number, 1000)).unwrap();
        }
        for (number, client) in clients.iter_mut().enumerate() {
            let mut answer = [0; 1000];
            client.read_exact(&mut answer).unwrap();
            assert!(answer[..] == pattern(number, 1000));
        }
        let memory = user_memory(server.process_id()) / 1000;
        common::measure::aloud(format_args!("1000 TLS clients: {memory} bytes each"));
    });
}

#[test]
fn client_that_never_reads_stops_being_read_and_harms_nobody() {
    let (server, address) = start("");
    let before = user_memory(server.process_id());
    let mut greedy = connect(address);
    greedy.sock.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
    let mut written = 0;
    // Until the kernels on the way hold all that they can.
    let error = loop {
        match greedy.write_all(&pattern(0, 64 * 1024)) {
            Ok(()) => written += 64 * 1024,
            Err(error) => break error,
        }
        assert!(written < 1 << 30, "the server reads on");
    };
    let is_full = matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::WriteZero);
    assert!(is_full, "{error}");
    let grown = user_memory(server.process_id()) - before;
    assert!(grown < 2 * 1024 * 1024, "{grown} bytes behind {written} unread");
    assert_echoed(&mut connect(address), b"still there");
}

#[test]
fn server_with_64_descriptors_serves_a_hundred_clients_by_turns() {
    let (_server, address) = start("ulimit -n 64;");
    let mut waiting: Vec<TcpStream> = (0..100).map(|_| peer(address)).collect();
    let mut first = handshake(waiting.remove(0));
    drop(waiting.drain(..60));
    for stream in waiting {
        drop(handshake(stream));
    }
    assert_echoed(&mut first, b"since the beginning");
}

#[test]
#[cfg(target_os = "linux")]
fn client_that_has_vanished_without_an_end_is_found_out() {
    let (_server, address) = start("");
    let mut client = connect(address);
    client.write_all(b"still here").unwrap();
    client.read_exact(&mut [0; 10]).unwrap();
    let its_address = client.sock.local_addr().unwrap();
    let end = Instant::now() + common::PATIENCE;
    while !common::measure::is_kept_alive(address, its_address) {
        assert!(Instant::now() < end, "the kernel would never ask whether it is there");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn stream_cut_short_and_garbage_are_logged() {
    let (mut server, address) = start("");
    let client = connect(address);
    client.sock.shutdown(std::net::Shutdown::Write).unwrap();
    server.stderr.until_with("truncated: the peer ended without close_notify");
    let mut client = peer(address);
    client.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let mut alert = Vec::new();
    client.read_to_end(&mut alert).unwrap();
    assert_eq!((alert.len(), alert[0]), (7, 0x15));
    server.stderr.until_with("is closed: received corrupt message");
}

#[track_caller]
fn assert_refused(arguments: &[&str], about: &str) {
    let ended = Program::start_at(Path::new(PATH), arguments).ended();
    assert_eq!(ended.status, Some(1), "{arguments:?}: {ended:?}");
    assert!(ended.stderr.starts_with("tls_echo_server: "), "{ended:?}");
    assert!(ended.stderr.contains(about), "{ended:?}");
    assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
}

#[test]
fn command_line_and_files_that_are_wrong_are_refused_by_name() {
    let [cert, key] = files();
    let empty = TempFile::new("empty.pem", b"");
    let broken = TempFile::new(
        "broken.pem",
        b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n",
    );
    assert_refused(&[], "both --cert FILE and --key FILE are needed");
    assert_refused(&["--cert", &cert], "both --cert FILE and --key FILE are needed");
    assert_refused(&["--cert", "", "--key", &key], "--cert takes a path, and this one is empty");
    assert_refused(&["--cert", "/no/such", "--key", &key], "cannot use /no/such: ");
    assert_refused(&["--cert", empty.path(), "--key", &key], "there is no certificate in it");
    assert_refused(&["--cert", &cert, "--key", &cert], &format!("cannot use {cert}: "));
    assert_refused(&["--cert", broken.path(), "--key", &key], "cannot use ");
    assert_refused(&["nowhere", "--cert", &cert, "--key", &key], "bad address \"nowhere\"");
}

#[test]
fn help_fits_80_columns_and_second_ctrl_c_aborts() {
    let help = Program::start_at(Path::new(PATH), &["--help"]).ended();
    assert_eq!(help.status, Some(0));
    assert!(help.stdout.lines().all(|line| line.chars().count() <= 80));

    let (mut server, address) = start("");
    let mut client = connect(address);
    server.signal("INT");
    server.stdout.until("Ctrl-C again aborts the rest");
    assert_eq!(client.read(&mut [0]).unwrap(), 0, "close_notify has arrived");
    server.signal("INT");
    assert_eq!(server.ended().status, Some(0));
}
