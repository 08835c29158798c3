//! What users of other event loops have reported as bugs, where no other file tests it already:
//! ends that cut a peer off, sockets in unusual states, and machines that are stopped, interrupted
//! or short of something.

#![cfg(unix)]
#![cfg_attr(
    not(target_os = "linux"),
    allow(dead_code, unused_imports, reason = "some of the tests are for Linux alone")
)]
#![allow(clippy::unwrap_used, reason = "a failure here is the test's message")]

mod common;

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::panic::{self, AssertUnwindSafe, catch_unwind};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::child::{self, Child};
use common::steps::Steps;
use common::{
    Folder, PATIENCE, accepted, connection_limits, drive_until_joined, has_ipv6, listening, next,
    pair, pair_with, pattern, peer, read_in_thread, turns, until, until_closed,
};
use fork::Fork;
use readiness::mio::unix::SourceFd;
use readiness::{
    CloseReason, ConnectionId, ConnectionLimits, Deadline, Event, EventLoop, Interest,
};
use socket2::{Domain, SockRef, Socket, Type};

fn new() -> EventLoop {
    EventLoop::new().unwrap()
}

fn echo(event_loop: &mut EventLoop, event: Event) {
    if let Event::Received(id) = event {
        event_loop[id].send_received();
    }
}

/// Returns whether this machine has a program and lets it do this.
fn can_run(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

// Ends.

/// More than the peer's kernel takes, and with ours less than both hold.
const IN_THE_KERNELS: usize = 200_000;

/// A connection is given up while the kernels hold an answer and some of the peer's bytes that the
/// program has not read. The peer reads the answer only then.
#[track_caller]
fn assert_answer_outlives(
    limits: fn(&mut ConnectionLimits),
    end: fn(&mut EventLoop, ConnectionId),
    deadline: Deadline,
) {
    let (mut event_loop, id, mut peer) = pair_with::<()>(connection_limits(limits));
    SockRef::from(&peer).set_recv_buffer_size(8 * 1024).unwrap();
    SockRef::from(&*event_loop[id]).set_send_buffer_size(4 * IN_THE_KERNELS).unwrap();
    let sent = pattern(0, IN_THE_KERNELS);
    event_loop[id].send(&sent);
    event_loop[id].pause();
    peer.write_all(b"never read").unwrap();
    end(&mut event_loop, id);
    let (events, reason) = until_closed(&mut event_loop, id);
    assert_eq!(reason, CloseReason::TimedOut(deadline));
    assert!(!events.contains(&Event::Received(id)), "{events:?}");
    let mut read = Vec::new();
    peer.read_to_end(&mut read).unwrap();
    assert!(read == sent, "{} bytes of {}", read.len(), sent.len());
}

#[test]
fn close_deadline_passes_with_an_answer_in_the_kernels_and_the_peer_reads_all_of_it() {
    let limits = |limits: &mut ConnectionLimits| {
        limits.close_quiet_deadline = Duration::from_millis(20);
        limits.close_deadline = Duration::from_millis(40);
    };
    assert_answer_outlives(limits, |event_loop, id| event_loop[id].close(), Deadline::Close);
    let shut_down: fn(&mut EventLoop, ConnectionId) = |event_loop, id| {
        event_loop[id].close();
        event_loop.shutdown(PATIENCE);
    };
    assert_answer_outlives(limits, shut_down, Deadline::Close);
}

#[test]
fn idle_timeout_passes_with_an_answer_in_the_kernels_and_the_peer_reads_all_of_it() {
    let limits =
        |limits: &mut ConnectionLimits| limits.idle_timeout = Some(Duration::from_millis(40));
    assert_answer_outlives(limits, |_, _| {}, Deadline::Idle);
}

// Times.

/// What a timeout of 32 bits cannot hold, in milliseconds.
#[test]
fn times_beyond_what_32_bits_hold_neither_overflow_nor_spin() {
    let (mut event_loop, _, address) = listening::<()>();
    let steps = Steps::of(&mut event_loop);
    let bounds = [1_u64 << 31, 1 << 32].map(|bound| [bound - 1, bound, bound + 1]);
    for millis in bounds.into_iter().flatten() {
        let after = Duration::from_millis(millis);
        let timer = event_loop.set_timer(after);
        assert_eq!(event_loop.poll_event(Some(Duration::from_millis(20))).unwrap(), None);
        steps.take();
        // A peer ends the wait, which is the first, or the second after one that was cut short.
        let peer = std::thread::spawn(move || peer(address));
        let event = event_loop.poll_event(Some(after)).unwrap();
        assert!(matches!(event, Some(Event::Accepted(..))), "{event:?} after {millis} ms");
        assert!(steps.waits() < 10, "{} waits for {millis} ms", steps.waits());
        drop(peer.join().unwrap());
        assert!(event_loop.cancel_timer(timer));
        let is_quiet = |_: &mut EventLoop, event| matches!(event, Event::Closed(..)).then_some(());
        until(&mut event_loop, is_quiet);
    }
}

const SIGNALLED: &str = "child_of_wait_among_signals_is_as_long_as_it_should_be";
const WAIT: Duration = Duration::from_millis(200);

/// Not a test by itself: the loop of the test below, in its own process.
#[test]
#[ignore = "it is run by wait_among_signals_is_as_long_as_it_should_be"]
fn child_of_wait_among_signals_is_as_long_as_it_should_be() {
    if !child::is_child(SIGNALLED) {
        return;
    }
    let mut event_loop = new();
    child::report("waits", "");
    let start = Instant::now();
    assert_eq!(event_loop.poll_event(Some(WAIT)).unwrap(), None);
    child::report("waited", start.elapsed() >= WAIT);
    let start = Instant::now();
    let timer = event_loop.set_timer(WAIT);
    assert_eq!(event_loop.next_event().unwrap(), Event::Timer(timer));
    child::report("fired", start.elapsed() >= WAIT);
}

fn signal(child: &Child, name: &str) {
    let number = child.id().to_string();
    assert!(Command::new("kill").args([name, &number]).status().unwrap().success());
}

/// Stops the child, and returns once it is stopped.
#[cfg(target_os = "linux")]
fn stop(child: &Child) {
    signal(child, "-STOP");
    let end = Instant::now() + PATIENCE;
    let state = || fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
    // A process that has ended in the meantime does not move either.
    while !state().rsplit(") ").next().unwrap().starts_with(['T', 'Z']) {
        assert!(Instant::now() < end, "the child does not stop");
        std::thread::yield_now();
    }
}

/// Each signal interrupts the wait. If it began anew then, it would last as long as signals arrive.
#[test]
#[cfg(target_os = "linux")]
fn wait_among_signals_is_as_long_as_it_should_be() {
    let child = Child::start(SIGNALLED, "");
    child.report("waits");
    for done in ["waited true", "fired true"] {
        let end = Instant::now() + PATIENCE;
        while !child.has_reported(done) {
            assert!(Instant::now() < end, "{done} was expected");
            stop(&child);
            signal(&child, "-CONT");
        }
    }
}

const STOPPED: &str =
    "child_of_process_stopped_beyond_its_deadlines_serves_what_has_come_meanwhile";
const IDLE: Duration = Duration::from_millis(300);

/// Not a test by itself: the server of the test below, in its own process.
#[test]
#[ignore = "it is run by process_stopped_beyond_its_deadlines_serves_what_has_come_meanwhile"]
fn child_of_process_stopped_beyond_its_deadlines_serves_what_has_come_meanwhile() {
    if !child::is_child(STOPPED) {
        return;
    }
    let mut event_loop = new();
    let listener = event_loop.listen("127.0.0.1:0").unwrap();
    child::report("address", event_loop.listener_addr(listener).unwrap());
    loop {
        match event_loop.next_event().unwrap() {
            // From the first message on.
            Event::Received(id) => {
                event_loop[id].send_received();
                event_loop[id].set_idle_timeout(Some(IDLE)).unwrap();
            }
            Event::Closed(_, reason) => child::report("closed", reason),
            _ => {}
        }
    }
}

/// A deadline that has passed counts only after one more look at what arrived before the look.
#[test]
#[cfg(target_os = "linux")]
fn process_stopped_beyond_its_deadlines_serves_what_has_come_meanwhile() {
    let child = Child::start(STOPPED, "");
    let mut peer = peer(child.report("address").parse().unwrap());
    let mut answer = [0; 4];
    for _ in 0..3 {
        peer.write_all(b"ping").unwrap();
        peer.read_exact(&mut answer).unwrap();
        stop(&child);
        peer.write_all(b"pong").unwrap();
        // Nothing can be observed of a stopped process: time is all that passes.
        std::thread::sleep(2 * IDLE);
        signal(&child, "-CONT");
        peer.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"pong");
    }
    assert_eq!(peer.read(&mut answer).unwrap(), 0, "an end, and no reset");
    child.report("closed");
}

// Descriptors.

/// Returns what a program that this process starts has open, in addition to what it was given.
#[test]
#[cfg(target_os = "linux")]
fn program_that_is_started_has_no_descriptor_of_the_loop() {
    let folder = Folder::new();
    let (mut event_loop, _, address) = listening::<()>();
    event_loop.listen_unix(folder.path("socket")).unwrap();
    let _peers = (peer(address), UnixStream::connect(folder.path("socket")).unwrap());
    let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
    let outgoing = event_loop.connect(elsewhere.local_addr().unwrap(), ());
    let named = format!("localhost:{}", elsewhere.local_addr().unwrap().port());
    event_loop.connect_name(&named, ());
    event_loop.connect_unix(folder.path("socket"), ());
    let adopted = TcpStream::connect(elsewhere.local_addr().unwrap()).unwrap();
    event_loop.adopt_stream(adopted, ()).unwrap();
    let mut opened = 0;
    until(&mut event_loop, |_, event| {
        opened += usize::from(matches!(event, Event::Accepted(..) | Event::Connected(_)));
        (opened == 7).then_some(())
    });
    assert!(event_loop[outgoing].try_as_fd().is_ok());
    let mut command = Command::new("ls");
    command.args(["-l", "/proc/self/fd"]).stdin(Stdio::null());
    let listed = String::from_utf8(command.output().unwrap().stdout).unwrap();
    assert!(listed.contains("/dev/null"), "{listed}");
    let is_of_a_loop = |line: &&str| line.contains("socket:") || line.contains("anon_inode:");
    assert_eq!(listed.lines().find(is_of_a_loop), None);
}

/// Serves a client with sockets that take over the number 0, and again when it was given back.
fn serve_with_descriptor_zero(event_loop: &mut EventLoop) {
    for _ in 0..3 {
        let listener = event_loop.listen("127.0.0.1:0").unwrap();
        let address = event_loop.listener_addr(listener).unwrap();
        let mut first = peer(address);
        let id = accepted(event_loop);
        first.write_all(b"hello").unwrap();
        assert_eq!(next(event_loop), Event::Received(id));
        event_loop[id].send_received();
        event_loop[id].finish();
        drop(first);
        until_closed(event_loop, id);
        event_loop.close_listener(listener).unwrap();

        let elsewhere = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        assert_eq!(elsewhere.as_raw_fd(), 0, "the listener had it, and has given it back");
        elsewhere.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        elsewhere.listen(8).unwrap();
        let listener = event_loop.adopt_listener(elsewhere.into(), |_| ()).unwrap();
        let address = event_loop.listener_addr(listener).unwrap();
        event_loop.close_listener(listener).unwrap();

        let outgoing = event_loop.connect(address, ());
        assert_eq!(event_loop[outgoing].as_fd().as_raw_fd(), 0);
        assert_eq!(next(event_loop), Event::Closed(outgoing, CloseReason::Refused));
    }
}

#[test]
fn descriptor_zero_is_free_and_used_again_and_again_works_as_any_other() {
    const NAME: &str = "descriptor_zero_is_free_and_used_again_and_again_works_as_any_other";
    child::alone(NAME, "", || match fork::fork().unwrap() {
        Fork::Child => {
            // What it said would go to one of its sockets.
            panic::set_hook(Box::new(|_| {}));
            let mut event_loop = new();
            fork::close_fd().unwrap();
            let served =
                catch_unwind(AssertUnwindSafe(|| serve_with_descriptor_zero(&mut event_loop)));
            std::process::exit(i32::from(served.is_err()));
        }
        Fork::Parent(process) => assert_eq!(fork::waitpid(process).unwrap(), 0),
    });
}

#[test]
#[cfg(target_os = "linux")]
fn loops_that_watch_each_other_or_are_watched_twice_are_typed_errors() {
    const TOO_MANY_LEVELS: i32 = 40;
    let (mut one, mut other) = (new(), new());
    let (first, second) = (one.as_fd().as_raw_fd(), other.as_fd().as_raw_fd());
    let id = one.register(&mut SourceFd(&second), Interest::Readable).unwrap();
    let again = one.register(&mut SourceFd(&second), Interest::Readable).unwrap_err();
    assert_eq!(again.kind(), ErrorKind::AlreadyExists);
    let cyclic = other.register(&mut SourceFd(&first), Interest::Readable).unwrap_err();
    assert_eq!(cyclic.raw_os_error(), Some(TOO_MANY_LEVELS), "{cyclic}");
    let itself = one.register(&mut SourceFd(&first), Interest::Readable).unwrap_err();
    assert_eq!(itself.kind(), ErrorKind::InvalidInput);
    // What was refused has changed nothing.
    other.waker().wake().unwrap();
    assert!(matches!(next(&mut one), Event::Ready(ready, _) if ready == id));
    assert_eq!(next(&mut other), Event::Woken);
}

#[test]
#[cfg(target_os = "linux")]
fn socket_of_the_wrong_kind_is_refused_and_closed() {
    const NAME: &str = "socket_of_the_wrong_kind_is_refused_and_closed";
    child::alone(NAME, "", || {
        let folder = Folder::new();
        let (mut event_loop, _, address) = listening::<()>();
        let tcp = || OwnedFd::from(TcpListener::bind("127.0.0.1:0").unwrap());
        let stream = || OwnedFd::from(TcpStream::connect(address).unwrap());
        let udp = || OwnedFd::from(UdpSocket::bind("127.0.0.1:0").unwrap());
        let unix = || OwnedFd::from(UnixListener::bind(folder.path("listener")).unwrap());
        let paired = || OwnedFd::from(UnixStream::pair().unwrap().0);
        let datagrams = || OwnedFd::from(UnixDatagram::unbound().unwrap());
        let before = child::open_descriptors();

        let mut outcomes = Vec::new();
        for descriptor in [tcp(), udp()] {
            outcomes.push(event_loop.adopt_stream(descriptor.into(), ()).map(|_| ()));
        }
        for descriptor in [stream(), udp()] {
            outcomes.push(event_loop.adopt_listener(descriptor.into(), |_| ()).map(|_| ()));
        }
        for descriptor in [unix(), datagrams()] {
            outcomes.push(event_loop.adopt_unix_stream(descriptor.into(), ()).map(|_| ()));
        }
        for descriptor in [paired(), datagrams()] {
            outcomes.push(event_loop.adopt_unix_listener(descriptor.into(), |_| ()).map(|_| ()));
        }
        for outcome in outcomes {
            assert_eq!(outcome.unwrap_err().kind(), ErrorKind::InvalidInput);
        }
        assert_eq!(child::open_descriptors(), before, "nothing is left");
        assert_eq!(event_loop.connection_count(), 0);
        let mut peer = peer(address);
        let id = until(&mut event_loop, |event_loop, event| match event {
            // The first was that of the stream that could not listen.
            Event::Accepted(_, id)
                if event_loop[id].peer_addr().unwrap() == peer.local_addr().unwrap() =>
            {
                Some(id)
            }
            _ => None,
        });
        peer.write_all(b"hello").unwrap();
        until(&mut event_loop, |_, event| (event == Event::Received(id)).then_some(()));
    });
}

// Addresses.

/// Returns whether a socket for all addresses of IPv6 takes those of IPv4 too, as most systems have
/// it.
fn is_dual_stack() -> bool {
    let setting = fs::read_to_string("/proc/sys/net/ipv6/bindv6only").unwrap_or_default();
    cfg!(target_os = "linux") && setting.trim() == "0"
}

#[test]
fn listener_at_all_addresses_of_ipv6_accepts_clients_of_both_families() {
    skip_unless!(has_ipv6() && is_dual_stack(), "a listener of IPv6 takes no clients of IPv4 here");
    let mut event_loop = new();
    let listener = event_loop.listen("[::]:0").unwrap();
    let port = event_loop.listener_addr(listener).unwrap().port();
    for (host, seen) in [("[::1]", "[::1]"), ("127.0.0.1", "[::ffff:127.0.0.1]")] {
        let peer = peer(format!("{host}:{port}").parse().unwrap());
        let id = accepted(&mut event_loop);
        let expected = format!("{seen}:{}", peer.local_addr().unwrap().port());
        assert_eq!(event_loop[id].peer_addr().unwrap().to_string(), expected);
    }
}

/// A name may stand for an address of each family, and a server may listen at one of them.
#[test]
fn client_of_a_name_with_two_addresses_finds_a_server_at_either() {
    let addresses: Vec<SocketAddr> = ("localhost", 0).to_socket_addrs().unwrap().collect();
    let has_both = addresses.iter().any(SocketAddr::is_ipv4)
        && addresses.iter().any(|address| address.is_ipv6() && has_ipv6());
    let missing = (!has_both).then(|| "localhost has one address here".to_owned());
    common::skipping::runs_in_part(test_name!(), missing);
    for at in addresses {
        let server = TcpListener::bind(at).unwrap();
        let address = server.local_addr().unwrap();
        let mut event_loop = new();
        let id = event_loop.connect_name(&format!("localhost:{}", address.port()), ());
        assert_eq!(next(&mut event_loop), Event::Connected(id));
        assert_eq!(event_loop[id].peer_addr().unwrap(), address);
    }
}

/// Two sockets that connect to each other at the same moment are connected; so is one that connects
/// to itself.
#[test]
fn socket_that_is_connected_to_itself_hears_itself() {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    socket.connect(&socket.local_addr().unwrap()).unwrap();
    let mut event_loop = new();
    let id = event_loop.adopt_stream(socket.into(), ()).unwrap();
    assert_eq!(next(&mut event_loop), Event::Connected(id));
    assert_eq!(event_loop[id].peer_addr().unwrap(), event_loop[id].local_addr().unwrap());
    event_loop[id].send(b"is anybody there?");
    assert_eq!(next(&mut event_loop), Event::Received(id));
    assert_eq!(event_loop[id].received(), b"is anybody there?");
    event_loop[id].close();
    assert_eq!(next(&mut event_loop), Event::Closed(id, CloseReason::Closed));
}

#[test]
fn server_that_closed_its_connections_first_listens_again_at_once() {
    // An address of its own, where there is one: at the usual one, the client of some other test may be
    // given the port between the two servers.
    let host = if cfg!(target_os = "linux") { "127.77.77.77:0" } else { "127.0.0.1:0" };
    let mut event_loop = new();
    let listener = event_loop.listen(host).unwrap();
    let address = event_loop.listener_addr(listener).unwrap();
    for _ in 0..5 {
        let mut peer = peer(address);
        let id = accepted(&mut event_loop);
        event_loop[id].close();
        turns(&mut event_loop, 1);
        assert_eq!(peer.read(&mut [0]).unwrap(), 0);
        drop(peer);
        // The end that was sent first waits for minutes.
        assert_eq!(until_closed(&mut event_loop, id).1, CloseReason::Closed);
    }
    drop(event_loop);
    let mut event_loop = new();
    let listener = event_loop.listen(address).unwrap();
    assert_eq!(event_loop.listener_addr(listener).unwrap(), address);
    let _peer = peer(address);
    accepted(&mut event_loop);
}

// Networks that lack something.

/// Runs a process in a separate network, in which nothing is up.
const OWN_NETWORK: &str = "exec unshare -rn \"$0\" \"$@\";";
const NO_NETWORK: &str = "no network of one's own can be made here (unshare -rn, ip)";

fn has_own_network() -> bool {
    can_run("unshare", &["-rn", "ip", "link", "set", "lo", "up"])
}

fn set_loopback(state: &str) {
    assert!(can_run("ip", &["link", "set", "lo", state]), "loopback goes {state}");
}

#[test]
#[cfg(target_os = "linux")]
fn loopback_is_down_and_goes_down_again_connects_fail_or_wait_and_nothing_is_lost() {
    const NAME: &str =
        "loopback_is_down_and_goes_down_again_connects_fail_or_wait_and_nothing_is_lost";
    const NETWORK_UNREACHABLE: i32 = 101;
    skip_unless!(has_own_network(), NO_NETWORK);
    child::alone(NAME, OWN_NETWORK, || {
        let (mut event_loop, _, address) = listening::<()>();
        let failing = event_loop.connect(address, ());
        let Event::Closed(id, CloseReason::Failed(failure)) = next(&mut event_loop) else {
            panic!("it fails at once");
        };
        assert_eq!((id, failure.raw_os_error()), (failing, Some(NETWORK_UNREACHABLE)));
        set_loopback("up");
        let mut peer = peer(address);
        let id = accepted(&mut event_loop);
        set_loopback("down");
        let outgoing = event_loop.connect(address, ());
        event_loop[id].send(b"sent while it was down");
        assert_eq!(turns(&mut event_loop, 3), []);
        set_loopback("up");
        until(&mut event_loop, |_, event| (event == Event::Connected(outgoing)).then_some(()));
        let mut received = [0; 22];
        peer.read_exact(&mut received).unwrap();
        assert_eq!(&received, b"sent while it was down");
    });
}

#[test]
#[cfg(target_os = "linux")]
fn no_port_is_left_to_connect_from_is_that_connections_closed_until_one_is_free() {
    const NAME: &str =
        "no_port_is_left_to_connect_from_is_that_connections_closed_until_one_is_free";
    skip_unless!(has_own_network(), NO_NETWORK);
    child::alone(NAME, OWN_NETWORK, || {
        set_loopback("up");
        fs::write("/proc/sys/net/ipv4/ip_local_port_range", "40000 40001").unwrap();
        let mut event_loop = new();
        event_loop.listen("127.0.0.1:50000").unwrap();
        let address = "127.0.0.1:50000".parse().unwrap();
        let mut connect = || {
            let id = event_loop.connect(address, ());
            let outcome = until(&mut event_loop, |_, event| match event {
                Event::Connected(of) if of == id => Some(Ok(id)),
                Event::Closed(of, reason) if of == id => Some(Err(reason)),
                _ => None,
            });
            (outcome, turns(&mut event_loop, 2))
        };
        let first = connect().0.unwrap();
        connect().0.unwrap();
        let Err(CloseReason::Failed(failure)) = connect().0 else { panic!("there is no port") };
        assert_eq!(failure.kind(), ErrorKind::AddrNotAvailable);
        event_loop[first].abort();
        until_closed(&mut event_loop, first);
        let again = event_loop.connect(address, ());
        until(&mut event_loop, |_, event| (event == Event::Connected(again)).then_some(()));
    });
}

#[test]
#[cfg(target_os = "linux")]
fn there_is_no_ipv6_listening_and_connecting_are_typed_errors() {
    const NAME: &str = "there_is_no_ipv6_listening_and_connecting_are_typed_errors";
    const SETTING: &str = "/proc/sys/net/ipv6/conf/all/disable_ipv6";
    skip_unless!(has_own_network() && fs::exists(SETTING).unwrap(), NO_NETWORK);
    child::alone(NAME, OWN_NETWORK, || {
        set_loopback("up");
        fs::write(SETTING, "1").unwrap();
        let mut event_loop = new();
        let error = event_loop.listen("[::1]:0").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrNotAvailable);
        let id = event_loop.connect("[::1]:80".parse().unwrap(), ());
        let event = next(&mut event_loop);
        let is_failed = matches!(event, Event::Closed(of, CloseReason::Failed(_)) if of == id);
        assert!(is_failed, "{event:?}");
        // A listener of both families is still reached.
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = server.local_addr().unwrap();
        let unreachable = SocketAddr::new("::1".parse().unwrap(), address.port());
        let id = event_loop.connect_any([unreachable, address], ());
        assert_eq!(next(&mut event_loop), Event::Connected(id));
    });
}

// Options that only others set.

/// Returns a program that makes a socket, gives it options and becomes this process, with the
/// socket as its standard input. No safe function of this language sets these.
fn with_socket(options: &str, address: SocketAddr) -> String {
    let (host, port) = (address.ip(), address.port());
    let script = format!(
        "import os, socket, sys; s = socket.socket(); {options}; \
         s.connect((\"{host}\", {port})); os.dup2(s.fileno(), 0); \
         os.execv(sys.argv[1], sys.argv[1:])"
    );
    format!("python3 -c '{script}' \"$0\" \"$@\";")
}

const NO_PYTHON: &str = "there is no python3, which sets the option";

/// In that process: a loop with the socket.
fn adopt_standard_input() -> (EventLoop, ConnectionId) {
    let socket: TcpStream = std::io::stdin().as_fd().try_clone_to_owned().unwrap().into();
    let mut event_loop = new();
    let id = event_loop.adopt_stream(socket, ()).unwrap();
    (event_loop, id)
}

/// With TCP fast open a connect begins only when something is sent. In a separate network the
/// kernel can be set to do so at the first connect already.
#[test]
#[cfg(target_os = "linux")]
fn stream_with_fast_open_connects_when_it_is_adopted_and_sends() {
    const NAME: &str = "stream_with_fast_open_connects_when_it_is_adopted_and_sends";
    // TCP_FASTOPEN_CONNECT; data may leave without a cookie.
    const OPTIONS: &str = "os.system(\"ip link set lo up\"); \
         open(\"/proc/sys/net/ipv4/tcp_fastopen\", \"w\").write(\"5\"); \
         s.setsockopt(socket.IPPROTO_TCP, 30, 1)";
    skip_unless!(can_run("python3", &["-c", ""]), NO_PYTHON);
    skip_unless!(has_own_network(), NO_NETWORK);
    let address = SocketAddr::from(([127, 0, 0, 1], 50_000));
    child::alone(NAME, &format!("exec unshare -rn {}", with_socket(OPTIONS, address)), || {
        let server = TcpListener::bind(address).unwrap();
        let (mut event_loop, id) = adopt_standard_input();
        event_loop[id].send(b"hello");
        assert_eq!(next(&mut event_loop), Event::Connected(id));
        let (mut stream, _) = server.accept().unwrap();
        turns(&mut event_loop, 1);
        let mut received = [0; 5];
        stream.read_exact(&mut received).unwrap();
        assert_eq!(&received, b"hello");
        stream.write_all(&received).unwrap();
        assert_eq!(next(&mut event_loop), Event::Received(id));
    });
}

/// With a low-water mark for receiving the kernel reports fewer bytes only at the end.
#[test]
#[cfg(target_os = "linux")]
fn stream_with_a_low_water_mark_for_receiving_gets_the_last_byte_too() {
    const NAME: &str = "stream_with_a_low_water_mark_for_receiving_gets_the_last_byte_too";
    const OPTIONS: &str = "s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1000)";
    skip_unless!(can_run("python3", &["-c", ""]), NO_PYTHON);
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = server.local_addr().unwrap();
    let sender = std::thread::spawn(move || {
        let (mut stream, _) = server.accept().unwrap();
        stream.write_all(&pattern(0, 1001)).unwrap();
    });
    child::alone(NAME, &format!("exec {}", with_socket(OPTIONS, address)), || {
        let (mut event_loop, id) = adopt_standard_input();
        until(&mut event_loop, |_, event| (event == Event::PeerFinished(id)).then_some(()));
        assert!(event_loop[id].received() == pattern(0, 1001));
    });
    if !child::is_child(NAME) {
        sender.join().unwrap();
    }
}

#[test]
fn sockets_with_buffers_of_a_byte_leave_none_behind() {
    const COUNT: usize = 200_000;
    let (mut event_loop, id, peer) = pair::<()>();
    for socket in [SockRef::from(&*event_loop[id]), SockRef::from(&peer)] {
        socket.set_send_buffer_size(1).unwrap();
        socket.set_recv_buffer_size(1).unwrap();
    }
    let mut writing = peer.try_clone().unwrap();
    let writer = std::thread::spawn(move || {
        writing.write_all(&pattern(0, COUNT)).unwrap();
        writing.shutdown(std::net::Shutdown::Write).unwrap();
    });
    let reader = read_in_thread(peer);
    let (bytes, outcome) = drive_until_joined(&mut event_loop, reader, echo);
    outcome.unwrap();
    assert!(bytes == pattern(0, COUNT), "{} bytes", bytes.len());
    writer.join().unwrap();
}

// Much.

/// Returns how much memory this machine has left, in bytes.
fn available_memory() -> Option<usize> {
    let table = fs::read_to_string("/proc/meminfo").ok()?;
    let line = table.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kibibytes: usize = line.trim().trim_end_matches(" kB").parse().ok()?;
    Some(kibibytes * 1024)
}

/// No counter of 31 bits holds it, and no call to the kernel takes it at once.
#[test]
fn send_of_more_than_two_gibibytes_arrives_whole() {
    const COUNT: usize = (1 << 31) + (1 << 20);
    let has_memory = available_memory().is_some_and(|available| available > 4 * COUNT);
    skip_unless!(has_memory, "there are no 8 GiB of memory to spare");
    let limits = connection_limits(|limits| limits.write_budget = usize::MAX);
    let (mut event_loop, id, mut peer) = pair_with::<()>(limits);
    event_loop[id].send(&vec![b'.'; COUNT]);
    event_loop[id].finish();
    let reader = std::thread::spawn(move || {
        let mut piece = vec![0; 1 << 20];
        let mut count = 0;
        loop {
            match peer.read(&mut piece).unwrap() {
                0 => return count,
                read => count += read,
            }
        }
    });
    let read = drive_until_joined(&mut event_loop, reader, |_, _| {});
    assert_eq!(read, COUNT);
}

#[test]
fn storm_of_pauses_and_resumes_holds_up_nobody_and_loses_nothing() {
    const ROUNDS: usize = 20_000;
    let (mut event_loop, restless, mut peer_of_restless) = pair::<()>();
    let address = event_loop[restless].local_addr().unwrap();
    let mut talker = peer(address);
    let other = accepted(&mut event_loop);
    let steps = Steps::of(&mut event_loop);
    peer_of_restless.write_all(b"held back").unwrap();
    event_loop[restless].pause();
    let mut served = 0;
    for round in 0..ROUNDS {
        if round % 100 == 0 {
            talker.write_all(b"?").unwrap();
        }
        event_loop[restless].resume();
        event_loop[restless].pause();
        event_loop[restless].resume();
        while let Some(event) = event_loop.poll_event(Some(Duration::ZERO)).unwrap() {
            let Event::Received(id) = event else { panic!("{event:?} was not expected") };
            if id == other {
                served += event_loop[id].received().len();
                let count = event_loop[id].received().len();
                event_loop[id].consume(count);
            }
        }
        event_loop[restless].pause();
        assert!(event_loop[restless].received().len() <= 9);
        steps.take();
    }
    while served < ROUNDS / 100 {
        assert_eq!(next(&mut event_loop), Event::Received(other));
        served += event_loop[other].received().len();
        let count = event_loop[other].received().len();
        event_loop[other].consume(count);
    }
    assert_eq!(event_loop[restless].received(), b"held back");
}
