//! Unix-domain sockets: their addresses and files, connecting, and what is different from TCP once
//! they are connected.

#![cfg(unix)]
#![cfg_attr(
    not(target_os = "linux"),
    allow(unused_imports, reason = "some tests are for certain systems only")
)]
#![allow(clippy::unwrap_used, reason = "a failure here is the test's message")]

mod common;

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};

use common::steps::{Steps, assert_rests};
use common::{
    Folder, PATIENCE, accepted, child, connection_limits, drive, next, pattern, turns, until,
    until_closed,
};
use readiness::{
    CloseReason, ConnectionId, ConnectionLimits, Deadline, Event, EventLoop, Limits, Step,
    UnixAddress,
};
use socket2::{Domain, SockAddr, SockRef, Socket, Type};

fn peer(path: &Path) -> UnixStream {
    let peer = UnixStream::connect(path).unwrap();
    peer.set_read_timeout(Some(PATIENCE)).unwrap();
    peer.set_write_timeout(Some(PATIENCE)).unwrap();
    peer
}

/// Returns a loop with one accepted connection, its blocking peer, and where they met.
fn pair_with(limits: Limits) -> (EventLoop, ConnectionId, UnixStream, Folder) {
    let folder = Folder::new();
    let mut event_loop: EventLoop = EventLoop::with_limits(limits).unwrap();
    event_loop.listen_unix(folder.path("socket")).unwrap();
    let peer = peer(&folder.path("socket"));
    let id = accepted(&mut event_loop);
    (event_loop, id, peer, folder)
}

fn pair() -> (EventLoop, ConnectionId, UnixStream, Folder) {
    pair_with(Limits::default())
}

/// Leaves a socket's file behind without a listener, as a process that crashed does.
fn leave_behind(path: &Path) {
    drop(UnixListener::bind(path).unwrap());
    assert!(path.exists());
}

fn echo(event_loop: &mut EventLoop, event: Event) {
    if let Event::Received(id) = event {
        event_loop[id].send_received();
    }
}

/// Lets the loop echo until the peer has read `count` bytes.
fn read_echo(event_loop: &mut EventLoop, peer: &mut UnixStream, count: usize) -> Vec<u8> {
    let mut peer = peer.try_clone().unwrap();
    let reading = std::thread::spawn(move || {
        let mut bytes = vec![0; count];
        peer.read_exact(&mut bytes).map(|()| bytes)
    });
    common::drive_until_joined(event_loop, reading, echo).unwrap()
}

/// Returns a fresh address of each kind that there is here.
fn addresses(folder: &Folder) -> Vec<UnixAddress> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let name = UnixAddress::abstract_name(folder.path("name").to_str().unwrap());
    vec![
        folder.path("socket").into(),
        #[cfg(any(target_os = "linux", target_os = "android"))]
        name,
    ]
}

// Echo.

#[test]
fn echo_over_path_and_name_is_identical_for_either_side() {
    const COUNT: usize = 3_000_000;
    let folder = Folder::new();
    for address in addresses(&folder) {
        let mut event_loop: EventLoop = EventLoop::new().unwrap();
        let listener = event_loop.listen_unix(address).unwrap();
        let listens_at = event_loop.unix_listener_addr(listener).unwrap();
        let client = event_loop.connect_unix(listens_at, ());
        let (mut sent, mut read) = (0, 0);
        until(&mut event_loop, |event_loop, event| {
            match event {
                Event::Connected(id) | Event::Drained(id) | Event::Received(id) if id == client => {
                    let connection = &mut event_loop[client];
                    let received = connection.received().to_vec();
                    assert!(received == pattern(read, received.len()), "bytes went astray");
                    connection.consume(received.len());
                    read += received.len();
                    while sent < COUNT && !connection.is_clogged() {
                        connection.send(&pattern(sent, 50_000));
                        sent += 50_000;
                    }
                }
                Event::Closed(id, reason) => panic!("{id} closed: {reason}"),
                event => echo(event_loop, event),
            }
            (read == COUNT).then_some(())
        });
    }
}

#[test]
fn every_cutting_of_a_message_comes_back_as_the_same_stream() {
    let message = pattern(0, 8);
    let (mut event_loop, _, mut peer, _folder) = pair();
    for cuts in 0..1_u8 << 7 {
        let mut start = 0;
        for end in 1..=8 {
            if end == 8 || cuts & (1 << (end - 1)) != 0 {
                peer.write_all(&message[start..end]).unwrap();
                assert_eq!(read_echo(&mut event_loop, &mut peer, end - start), message[start..end]);
                start = end;
            }
        }
    }
}

// Addresses.

#[test]
fn path_in_use_is_an_error_that_names_it_and_leaves_a_usable_loop() {
    let folder = Folder::new();
    let mut event_loop: EventLoop = EventLoop::new().unwrap();
    let (live, left, file) = (folder.path("live"), folder.path("left"), folder.path("file"));
    event_loop.listen_unix(live.clone()).unwrap();
    leave_behind(&left);
    fs::write(&file, "precious").unwrap();
    for path in [&live, &left, &file] {
        let error = event_loop.listen_unix(path.as_path()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
        assert!(path.exists());
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
    let _peer = peer(&live);
    accepted(&mut event_loop);
}

#[test]
#[cfg(target_os = "linux")]
fn addresses_that_cannot_be_listened_at_leave_no_descriptor() {
    let name = "addresses_that_cannot_be_listened_at_leave_no_descriptor";
    child::alone(name, "", || {
        let descriptors = || fs::read_dir("/proc/self/fd").unwrap().count();
        let folder = Folder::new();
        leave_behind(&folder.path("left"));
        let mut event_loop: EventLoop = EventLoop::new().unwrap();
        let before = descriptors();
        for path in ["left", "no folder/socket"] {
            event_loop.listen_unix(folder.path(path)).unwrap_err();
        }
        event_loop.listen_unix("").unwrap_err();
        assert_eq!(descriptors(), before);
    });
}

#[test]
fn what_cannot_be_an_address_is_an_error_for_a_listener() {
    let folder = Folder::new();
    let mut event_loop: EventLoop = EventLoop::new().unwrap();
    let long = folder.path(&"long".repeat(30));
    let bound = if cfg!(target_os = "linux") { "107" } else { "103" };
    for (path, why) in [(long.to_str().unwrap(), bound), ("", "empty"), ("a\0b", "zero byte")] {
        let error = event_loop.listen_unix(path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains(why), "{error}");
    }
    let gone = folder.path("gone/socket");
    let error = event_loop.listen_unix(gone.clone()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains(gone.to_str().unwrap()), "{error}");
}

/// The system would choose a name for such a listener, and no client would find it.
#[test]
#[cfg(any(target_os = "linux", target_os = "android"))]
fn empty_abstract_name_is_an_error_for_a_listener_and_one_closed_for_a_connect() {
    let mut event_loop: EventLoop = EventLoop::new().unwrap();
    let error = event_loop.listen_unix(UnixAddress::abstract_name("")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("empty"), "{error}");
    let id = event_loop.connect_unix(UnixAddress::abstract_name(""), ());
    let Event::Closed(closed, CloseReason::Failed(failure)) = next(&mut event_loop) else {
        panic!("it is closed");
    };
    assert_eq!((closed, failure.kind()), (id, ErrorKind::InvalidInput));
    assert_eq!(turns(&mut event_loop, 3), []);
}

#[test]
fn path_of_the_greatest_length_is_listened_at_and_connected_to() {
    let folder = Folder::new();
    let length = folder.path("").as_os_str().len();
    let most = if cfg!(target_os = "linux") { 107 } else { 103 };
    let path = folder.path(&"p".repeat(most - length));
    assert_eq!(path.as_os_str().len(), most);
    let mut event_loop: EventLoop = EventLoop::new().unwrap();
    event_loop.listen_unix(path.clone()).unwrap();
    let client = event_loop.connect_unix(path.clone(), ());
    until(&mut event_loop, |_, event| (event == Event::Connected(client)).then_some(()));
    drop(event_loop);
    assert!(!path.exists());
}

#[test]
fn replacing_takes_the_place_of_a_socket_that_was_left_behind_or_is_live() {
    let folder = Folder::new();
    let path = folder.path("socket");
    leave_behind(&path);
    let mut first: EventLoop = EventLoop::new().unwrap();
    first.listen_unix(UnixAddress::from(&path).replacing()).unwrap();
    let _first_peer = peer(&path);
    accepted(&mut first);

    let mut second: EventLoop = EventLoop::new().unwrap();
    second.listen_unix(UnixAddress::from(&path).replacing()).unwrap();
    let _second_peer = peer(&path);
    accepted(&mut second);
    assert_eq!(turns(&mut first, 3), []);

    // The first one's file is gone already; the path now has the second one's.
    drop(first);
    assert!(path.exists());
    drop(second);
    assert!(!path.exists());
}

#[test]
fn replacing_a_path_at_which_nothing_stands_just_listens() {
    let folder = Folder::new();
    let mut event_loop: EventLoop = EventLoop::new().unwrap();
    event_loop.listen_unix(UnixAddress::from(folder.path("socket")).replacing()).unwrap();
    let _peer = peer(&folder.path("socket"));
    accepted(&mut event_loop);
}

#[test]
fn replacing_removes_nothing_but_a_socket() {
    let folder = Folder::new();
    let (file, link, directory) = (folder.path("file"), folder.path("link"), folder.path("dir"));
    fs::write(&file, "precious").unwrap();
    leave_behind(&folder.path("left"));
    std::os::unix::fs::symlink(folder.path("left"), &link).unwrap();
    fs::create_dir(&directory).unwrap();
    let mut event_loop: EventLoop = EventLoop::new().unwrap();
    for path in [&file, &link, &directory] {
        let error = event_loop.listen_unix(UnixAddress::from(path).replacing()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyExists);
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
        assert!(path.symlink_metadata().is_ok());
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
    assert!(folder.path("left").exists());
}

#[test]
fn closed_listener_removes_its_file_and_the_path_is_free_again() {
    let folder = Folder::new();
    let path = folder.path("socket");
    let mut event_loop: EventLoop = EventLoop::new().unwrap();
    for _ in 0..3 {
        let listener = event_loop.listen_unix(path.clone()).unwrap();
        let mut peer = peer(&path);
        let id = accepted(&mut event_loop);
        event_loop.close_listener(listener).unwrap();
        assert!(!path.exists());
        assert_eq!(
            event_loop.unix_listener_addr(listener).unwrap_err().kind(),
            ErrorKind::NotFound
        );
        // What it has accepted goes on.
        peer.write_all(b"hello").unwrap();
        assert_eq!(read_echo(&mut event_loop, &mut peer, 5), b"hello");
        drop(peer);
        until_closed(&mut event_loop, id);
    }
}

#[test]
fn file_that_others_have_put_in_place_of_ours_is_not_removed() {
    let folder = Folder::new();
    let path = folder.path("socket");
    for put in [leave_behind as fn(&Path), |path| fs::write(path, "precious").unwrap()] {
        let mut event_loop: EventLoop = EventLoop::new().unwrap();
        let listener = event_loop.listen_unix(path.clone()).unwrap();
        fs::remove_file(&path).unwrap();
        put(&path);
        event_loop.close_listener(listener).unwrap();
        assert!(path.exists());
        fs::remove_file(&path).unwrap();
    }
    // And where nothing stands any more nothing is missed.
    let mut event_loop: EventLoop = EventLoop::new().unwrap();
    event_loop.listen_unix(path.clone()).unwrap();
    fs::remove_file(&path).unwrap();
    drop(event_loop);
    assert!(!path.exists());
}

#[test]
fn relative_path_is_removed_also_from_another_directory() {
    let name = "relative_path_is_removed_also_from_another_directory";
    child::alone(name, "", || {
        let (folder, other) = (Folder::new(), Folder::new());
        std::env::set_current_dir(folder.path("")).unwrap();
        let mut event_loop: EventLoop = EventLoop::new().unwrap();
        event_loop.listen_unix("socket").unwrap();
        std::env::set_current_dir(other.path("")).unwrap();
        fs::write("socket", "another").unwrap();
        drop(event_loop);
        assert!(!folder.path("socket").exists());
        assert!(other.path("socket").exists());
    });
}

#[test]
#[cfg(target_os = "linux")]
fn abstract_name_is_in_use_as_long_as_its_listener_lives() {
    let folder = Folder::new();
    let address = UnixAddress::abstract_name(folder.path("\0\u{ff}name").to_str().unwrap());
    let mut event_loop: EventLoop = EventLoop::new().unwrap();
    let listener = event_loop.listen_unix(address.clone()).unwrap();
    let error = event_loop.listen_unix(address.clone().replacing()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    assert!(error.to_string().contains(&address.to_string()), "{error}");
    let listens_at = event_loop.unix_listener_addr(listener).unwrap();
    assert_eq!(UnixAddress::from(listens_at), address);

    let client = event_loop.connect_unix(address.clone(), ());
    until(&mut event_loop, |_, event| (event == Event::Connected(client)).then_some(()));
    event_loop.close_listener(listener).unwrap();
    let late = event_loop.connect_unix(address.clone(), ());
    let (_, reason) = until_closed(&mut event_loop, late);
    assert_eq!(reason, CloseReason::Refused);
    event_loop.listen_unix(address).unwrap();
}

#[test]
fn addresses_of_the_other_kind_are_unsupported() {
    let (mut event_loop, id, _peer, folder) = pair();
    let unix = event_loop[id].listener().unwrap();
    let tcp = event_loop.listen("127.0.0.1:0").unwrap();
    let client = event_loop.connect(event_loop.listener_addr(tcp).unwrap(), ());
    until(&mut event_loop, |_, event| (event == Event::Connected(client)).then_some(()));
    let failed = event_loop.connect_unix(folder.path("gone"), ());
    let errors = [
        event_loop.listener_addr(unix).unwrap_err(),
        event_loop[id].local_addr().unwrap_err(),
        event_loop[id].peer_addr().unwrap_err(),
        event_loop[failed].peer_addr().unwrap_err(),
        event_loop.unix_listener_addr(tcp).unwrap_err(),
        event_loop[client].unix_local_addr().unwrap_err(),
        event_loop[client].unix_peer_addr().unwrap_err(),
    ];
    assert!(errors.iter().all(|error| error.kind() == ErrorKind::Unsupported), "{errors:?}");

    let path = folder.path("socket");
    let local = event_loop[id].unix_local_addr().unwrap();
    assert_eq!(local.as_pathname(), Some(path.as_path()));
    assert!(event_loop[id].unix_peer_addr().unwrap().is_unnamed());
}

// Connecting.

/// Returns what becomes of a connect that fails.
fn failure_of(address: impl Into<UnixAddress>) -> CloseReason {
    let mut event_loop: EventLoop = EventLoop::new().unwrap();
    let id = event_loop.connect_unix(address, ());
    // It has failed already, so these are too late.
    event_loop[id].send(b"never sent");
    assert_eq!(event_loop.connection_count(), 1);
    let Event::Closed(closed, reason) = next(&mut event_loop) else {
        panic!("it was to fail");
    };
    assert_eq!((closed, event_loop[id].lost()), (id, 10));
    assert_eq!(turns(&mut event_loop, 3), []);
    reason
}

#[test]
fn connect_that_fails_is_one_closed_with_its_reason() {
    let folder = Folder::new();
    let kind = |reason| match reason {
        CloseReason::Failed(failure) => failure.kind(),
        other => panic!("{other} is not a failure of its own"),
    };
    assert_eq!(kind(failure_of(folder.path("gone"))), ErrorKind::NotFound);
    assert_eq!(kind(failure_of(folder.path(&"p".repeat(200)))), ErrorKind::InvalidInput);
    assert_eq!(kind(failure_of("")), ErrorKind::InvalidInput);
    assert_eq!(kind(failure_of("a\0b")), ErrorKind::InvalidInput);
    leave_behind(&folder.path("left"));
    assert_eq!(failure_of(folder.path("left")), CloseReason::Refused);
    fs::write(folder.path("file"), "").unwrap();
    assert_eq!(failure_of(folder.path("file")), CloseReason::Refused);
    #[cfg(target_os = "linux")]
    assert_eq!(
        failure_of(UnixAddress::abstract_name(folder.path("gone").to_str().unwrap())),
        CloseReason::Refused
    );
}

/// Returns a listener whose backlog is full.
#[cfg(target_os = "linux")]
struct Full {
    listener: UnixListener,
    folder: Folder,
    _waiting: UnixStream,
}

#[cfg(target_os = "linux")]
impl Full {
    fn new() -> Self {
        let folder = Folder::new();
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        socket.bind(&SockAddr::unix(folder.path("full")).unwrap()).unwrap();
        // Linux lets one more wait than the backlog asks for.
        socket.listen(0).unwrap();
        let waiting = peer(&folder.path("full"));
        Self { listener: socket.into(), folder, _waiting: waiting }
    }

    fn connect(&self, event_loop: &mut EventLoop) -> ConnectionId {
        event_loop.connect_unix(self.folder.path("full"), ())
    }
}

/// Lets turns pass until a connect has been paused `count` times, and returns the pauses.
#[cfg(target_os = "linux")]
fn pauses(event_loop: &mut EventLoop, steps: &Steps, count: usize) -> Vec<Duration> {
    let pauses = || {
        let steps = steps.all();
        let pause = |step: &Step| match step {
            Step::ConnectPaused { pause, .. } => Some(*pause),
            _ => None,
        };
        steps.iter().filter_map(pause).collect::<Vec<_>>()
    };
    let fail = |_: &mut EventLoop, event| panic!("{event:?} was not expected");
    drive(event_loop, fail, || pauses().len() >= count);
    pauses()
}

#[test]
#[cfg(target_os = "linux")]
fn connect_to_a_full_backlog_is_tried_again_and_gets_through() {
    let full = Full::new();
    let mut event_loop: EventLoop = EventLoop::new().unwrap();
    let steps = Steps::of(&mut event_loop);
    let begin = Instant::now();
    let id = full.connect(&mut event_loop);
    event_loop[id].send(b"hello");
    let pauses = pauses(&mut event_loop, &steps, 4);
    assert_eq!(pauses[..4], [5, 10, 20, 40].map(Duration::from_millis));
    assert!(begin.elapsed() >= Duration::from_millis(5 + 10 + 20));

    let _first = full.listener.accept().unwrap();
    assert_eq!(next(&mut event_loop), Event::Connected(id));
    let (mut second, _) = full.listener.accept().unwrap();
    assert_eq!(turns(&mut event_loop, 3), []);
    let mut bytes = [0; 5];
    second.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"hello");
    second.write_all(b"answer").unwrap();
    assert_eq!(next(&mut event_loop), Event::Received(id));
    drop(second);
    let (_, reason) = until_closed(&mut event_loop, id);
    assert_eq!(reason, CloseReason::Finished);
    assert_rests(&mut event_loop, &steps);
}

#[test]
#[cfg(target_os = "linux")]
fn connect_to_a_full_backlog_is_tried_again_at_its_path_from_another_directory() {
    let name = "connect_to_a_full_backlog_is_tried_again_at_its_path_from_another_directory";
    child::alone(name, "", || {
        let (full, other) = (Full::new(), Folder::new());
        std::env::set_current_dir(full.folder.path("")).unwrap();
        let mut event_loop: EventLoop = EventLoop::new().unwrap();
        let steps = Steps::of(&mut event_loop);
        let id = event_loop.connect_unix("full", ());
        std::env::set_current_dir(other.path("")).unwrap();
        pauses(&mut event_loop, &steps, 2);
        let _first = full.listener.accept().unwrap();
        assert_eq!(next(&mut event_loop), Event::Connected(id));
    });
}

#[test]
#[cfg(target_os = "linux")]
fn connect_to_a_backlog_that_stays_full_passes_its_deadline_without_a_spin() {
    const DEADLINE: Duration = Duration::from_millis(200);
    let full = Full::new();
    let limits = connection_limits(|limits| limits.connect_deadline = DEADLINE);
    let mut event_loop: EventLoop = EventLoop::with_limits(limits).unwrap();
    let steps = Steps::of(&mut event_loop);
    let begin = Instant::now();
    let id = full.connect(&mut event_loop);
    let end = Event::Closed(id, CloseReason::TimedOut(Deadline::Connect));
    assert_eq!(next(&mut event_loop), end);
    assert!(begin.elapsed() >= DEADLINE);
    // Six pauses fit the deadline, with one event of a socket that is not connected, and for each
    // time a wait that is rounded.
    let waits = steps.waits();
    assert!(waits <= 20, "{waits} waits for {:?}", steps.take());
    assert_rests(&mut event_loop, &steps);
}

#[test]
#[cfg(target_os = "linux")]
fn connect_that_waits_for_a_full_backlog_is_given_up_at_once() {
    let full = Full::new();
    type Change = fn(&mut readiness::Stream);
    let changes: [(Change, CloseReason); 2] = [
        (|stream| stream.close(), CloseReason::Closed),
        (|stream| stream.abort(), CloseReason::Aborted),
    ];
    for (change, reason) in changes {
        let mut event_loop: EventLoop = EventLoop::new().unwrap();
        let steps = Steps::of(&mut event_loop);
        let id = full.connect(&mut event_loop);
        pauses(&mut event_loop, &steps, 2);
        change(&mut event_loop[id]);
        assert_eq!(next(&mut event_loop), Event::Closed(id, reason));
        assert_rests(&mut event_loop, &steps);
    }
}

#[test]
#[cfg(target_os = "linux")]
fn connect_that_waits_for_a_full_backlog_hears_when_the_listener_goes() {
    let full = Full::new();
    let mut event_loop: EventLoop = EventLoop::new().unwrap();
    let id = full.connect(&mut event_loop);
    assert_eq!(event_loop.poll_event(Some(Duration::ZERO)).unwrap(), None);
    drop(full.listener);
    assert_eq!(next(&mut event_loop), Event::Closed(id, CloseReason::Refused));
}

#[test]
#[cfg(target_os = "linux")]
fn connect_that_waits_with_bytes_and_a_close_sends_them_when_there_is_room() {
    let full = Full::new();
    let mut event_loop: EventLoop = EventLoop::new().unwrap();
    let steps = Steps::of(&mut event_loop);
    let id = full.connect(&mut event_loop);
    event_loop[id].send(b"last words");
    event_loop[id].close();
    pauses(&mut event_loop, &steps, 2);
    let _first = full.listener.accept().unwrap();
    let second = full.listener.try_clone().unwrap();
    let reading = std::thread::spawn(move || {
        let (mut second, _) = second.accept().unwrap();
        let mut bytes = Vec::new();
        second.read_to_end(&mut bytes).map(|_| bytes)
    });
    let (events, reason) = until_closed(&mut event_loop, id);
    assert_eq!((events.len(), reason), (1, CloseReason::Closed));
    assert_eq!(reading.join().unwrap().unwrap(), b"last words");
}

// Reading and writing.

/// Sends bytes with a descriptor. A read ends behind them, whatever follows: the kernel keeps what
/// goes with a descriptor apart.
#[cfg(target_os = "linux")]
fn send_with_descriptor(peer: &UnixStream, bytes: &[u8]) {
    use std::os::fd::AsRawFd;
    // The header (a length, and two numbers that say that these are descriptors), one of them, and
    // what fills up the word.
    let mut control = 20_usize.to_ne_bytes().to_vec();
    for number in [1, 1, peer.as_raw_fd(), 0] {
        control.extend(number.to_ne_bytes());
    }
    let buffers = [std::io::IoSlice::new(bytes)];
    let message = socket2::MsgHdr::new().with_buffers(&buffers).with_control(&control);
    assert_eq!(SockRef::from(peer).sendmsg(&message, 0).unwrap(), bytes.len());
}

#[test]
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
fn short_read_with_more_behind_it_is_followed_by_another_without_a_new_edge() {
    let (mut event_loop, id, mut peer, _folder) = pair();
    send_with_descriptor(&peer, b"first");
    send_with_descriptor(&peer, b"second");
    peer.write_all(b"third").unwrap();
    // That a read ends so, on another socket of the same kind: this is what the test is about.
    let (one, mut other) = UnixStream::pair().unwrap();
    send_with_descriptor(&one, b"first");
    (&one).write_all(b"second").unwrap();
    assert_eq!(other.read(&mut [0; 64]).unwrap(), 5);

    until(&mut event_loop, |event_loop, event| {
        assert_eq!(event, Event::Received(id));
        (event_loop[id].received() == b"firstsecondthird").then_some(())
    });
}

#[test]
fn bytes_that_come_after_a_read_are_not_missed() {
    let (mut event_loop, id, mut peer, _folder) = pair();
    for round in 0..200 {
        peer.write_all(&pattern(2 * round, 1)).unwrap();
        assert_eq!(next(&mut event_loop), Event::Received(id));
        // It has been read; what arrives now is of another edge.
        peer.write_all(&pattern(2 * round + 1, 1)).unwrap();
        while event_loop[id].received().len() < 2 {
            assert_eq!(next(&mut event_loop), Event::Received(id));
        }
        assert_eq!(event_loop[id].received(), pattern(2 * round, 2));
        event_loop[id].consume(2);
    }
}

#[test]
fn large_answer_to_a_slow_reader_drains_once_and_arrives_whole() {
    const COUNT: usize = 4_000_000;
    let (mut event_loop, id, mut peer, _folder) = pair();
    event_loop[id].send(&pattern(0, COUNT));
    assert!(event_loop[id].is_clogged());
    assert_eq!(turns(&mut event_loop, 3), []);
    assert!(event_loop[id].unsent() > 0, "the kernel does not hold it all");
    let reading = std::thread::spawn(move || {
        let mut bytes = vec![0; COUNT];
        peer.read_exact(&mut bytes).map(|()| (bytes, peer))
    });
    let mut drained = 0;
    let handle = |_: &mut EventLoop, event| {
        assert_eq!(event, Event::Drained(id));
        drained += 1;
    };
    let (bytes, _peer) = common::drive_until_joined(&mut event_loop, reading, handle).unwrap();
    assert!(bytes == pattern(0, COUNT));
    assert_eq!(drained, 1);
    assert_eq!(event_loop[id].unsent(), 0);
}

// Ending.

#[test]
fn peer_that_finishes_is_answered_and_both_have_finished() {
    let (mut event_loop, id, mut peer, _folder) = pair();
    peer.write_all(b"question").unwrap();
    peer.shutdown(Shutdown::Write).unwrap();
    assert_eq!(next(&mut event_loop), Event::Received(id));
    assert_eq!(next(&mut event_loop), Event::PeerFinished(id));
    event_loop[id].send(b"answer");
    assert_eq!(next(&mut event_loop), Event::Closed(id, CloseReason::Finished));
    assert_eq!(turns(&mut event_loop, 1), []);
    let mut answer = String::new();
    peer.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "answer");
}

#[test]
fn finish_lets_the_peer_go_on_sending() {
    let (mut event_loop, id, mut peer, _folder) = pair();
    event_loop[id].finish();
    assert_eq!(turns(&mut event_loop, 1), []);
    assert_eq!(peer.read(&mut [0; 8]).unwrap(), 0);
    peer.write_all(b"more").unwrap();
    assert_eq!(next(&mut event_loop), Event::Received(id));
    assert_eq!(event_loop[id].received(), b"more");
    drop(peer);
    assert_eq!(next(&mut event_loop), Event::PeerFinished(id));
    assert_eq!(next(&mut event_loop), Event::Closed(id, CloseReason::Finished));
}

#[test]
fn close_with_unsent_bytes_the_peer_reads_them_all_and_the_end() {
    const COUNT: usize = 2_000_000;
    let (mut event_loop, id, mut peer, _folder) = pair();
    peer.write_all(b"never read").unwrap();
    event_loop[id].send(&pattern(0, COUNT));
    event_loop[id].close();
    let reading = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        peer.read_to_end(&mut bytes).map(|_| bytes)
    });
    let (events, reason) = until_closed(&mut event_loop, id);
    assert_eq!((events.len(), reason), (1, CloseReason::Closed));
    assert!(reading.join().unwrap().unwrap() == pattern(0, COUNT));
}

#[test]
fn abort_is_an_end_for_the_peer_or_an_error_if_it_had_sent_something_unread() {
    for has_sent in [false, true] {
        let (mut event_loop, id, mut peer, _folder) = pair();
        event_loop[id].send(b"taken");
        assert_eq!(turns(&mut event_loop, 1), []);
        event_loop[id].pause();
        if has_sent {
            peer.write_all(b"unread").unwrap();
        }
        event_loop[id].send(&vec![0; 1_000_000]);
        event_loop[id].abort();
        assert_eq!(next(&mut event_loop), Event::Closed(id, CloseReason::Aborted));
        assert_eq!(turns(&mut event_loop, 1), []);
        let mut bytes = [0; 5];
        peer.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"taken");
        let end = loop {
            match peer.read(&mut [0; 65_536]) {
                Ok(0) => break None,
                Ok(_) => {}
                Err(error) => break Some(error.kind()),
            }
        };
        assert_eq!(end, has_sent.then_some(ErrorKind::ConnectionReset));
    }
}

#[test]
fn peer_that_closes_with_bytes_unread_is_a_reset_and_what_it_sent_comes_first() {
    let (mut event_loop, id, mut peer, _folder) = pair();
    event_loop[id].send(b"never read");
    assert_eq!(turns(&mut event_loop, 1), []);
    peer.write_all(b"last words").unwrap();
    drop(peer);
    assert_eq!(next(&mut event_loop), Event::Received(id));
    assert_eq!(next(&mut event_loop), Event::Closed(id, CloseReason::Reset));
    assert_eq!(event_loop[id].received(), b"last words");
    assert_eq!(turns(&mut event_loop, 3), []);
}

#[test]
fn sending_to_a_peer_that_has_gone_ends_with_one_closed_and_no_signal() {
    let (mut event_loop, id, mut peer, _folder) = pair();
    event_loop[id].allow_half_open(true);
    peer.write_all(b"last words").unwrap();
    drop(peer);
    assert_eq!(next(&mut event_loop), Event::Received(id));
    assert_eq!(next(&mut event_loop), Event::PeerFinished(id));
    event_loop[id].send(b"into the void");
    assert_eq!(next(&mut event_loop), Event::Closed(id, CloseReason::Reset));
    assert_eq!(event_loop[id].received(), b"last words");
    assert_eq!(turns(&mut event_loop, 3), []);
}

#[test]
fn listener_closed_with_peers_waiting_ends_them() {
    let folder = Folder::new();
    let mut event_loop: EventLoop = EventLoop::new().unwrap();
    let listener = event_loop.listen_unix(folder.path("socket")).unwrap();
    let mut waiting = peer(&folder.path("socket"));
    event_loop.close_listener(listener).unwrap();
    let read = waiting.read(&mut [0; 8]);
    assert!(read.map_or_else(|error| error.kind() == ErrorKind::ConnectionReset, |n| n == 0));
    assert_eq!(turns(&mut event_loop, 3), []);
}

// Options.

#[test]
fn options_of_tcp_are_passed_over_or_unsupported_and_those_of_the_socket_are_set() {
    let limits = connection_limits(|limits| limits.keepalive = Some(Duration::from_secs(75)));
    let (mut event_loop, id, _peer, folder) = pair_with(limits);
    let client = event_loop.connect_unix(folder.path("socket"), ());
    until(&mut event_loop, |_, event| (event == Event::Connected(client)).then_some(()));
    for id in [id, client] {
        let stream = &mut event_loop[id];
        let error = stream.set_keepalive(Some(Duration::from_secs(75))).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        let limits = ConnectionLimits::default();
        assert!(limits.keepalive.is_none());
        stream.set_limits(limits).unwrap();

        let options = SockRef::from(&**stream);
        let before = options.send_buffer_size().unwrap();
        options.set_send_buffer_size(before / 4).unwrap();
        assert_ne!(options.send_buffer_size().unwrap(), before);
    }
}
