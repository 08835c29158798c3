//! The proxy among the examples: what goes through it, and how what ends on one side ends on the
//! other.
//!
//! `READINESS_FUZZ_SECONDS=60 cargo test --test proxy anything` sends bytes drawn from seeds through
//! it for a minute; `READINESS_SEED=7` replays the one of a seed. `READINESS_MIB=4096 cargo test
//! --release --test proxy constant_memory` carries 4 GiB.

#![allow(clippy::unwrap_used, reason = "a failure, also in a helper, is the test's message")]
#![allow(unreachable_pub, reason = "what is shared is public within each test file")]

mod common;
#[path = "common/fuzz.rs"]
mod fuzz;
#[path = "common/programs.rs"]
mod programs;
#[cfg(feature = "simulation")]
#[path = "proxy/simulated.rs"]
mod simulated;

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
#[cfg(unix)]
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

#[cfg(unix)]
use common::Folder;
use common::measure::{NO_MEASURE, can_measure, user_memory};
use common::{NO_IPV6, PATIENCE, has_ipv6, pattern, peer, refusing_address, reset};
use fuzz::Fuzz;
use programs::{Program, accept, assert_failed, assert_succeeded, serving};

/// A proxy, and the upstream behind it.
struct Between {
    program: Program,
    address: SocketAddr,
    upstream: TcpListener,
}

impl Between {
    fn start(options: &[&str]) -> Self {
        let upstream = TcpListener::bind("127.0.0.1:0").unwrap();
        let target = upstream.local_addr().unwrap().to_string();
        let arguments = [&["127.0.0.1:0", &target][..], options].concat();
        let (program, address) = Program::start("proxy", &arguments).listening();
        Self { program, address, upstream }
    }

    /// Returns a client, and the upstream's end of its connection.
    fn pair(&self) -> (TcpStream, TcpStream) {
        let client = peer(self.address);
        (client, accept(&self.upstream))
    }
}

fn assert_carries(from: &mut (impl Write + ?Sized), to: &mut (impl Read + ?Sized), bytes: &[u8]) {
    from.write_all(bytes).unwrap();
    let mut arrived = vec![0; bytes.len()];
    to.read_exact(&mut arrived).unwrap();
    assert!(arrived == bytes, "what arrived is not what was sent");
}

fn assert_ended(stream: &mut impl Read) {
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
}

fn assert_reset(stream: &mut impl Read) {
    let error = io::copy(stream, &mut io::sink()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

// Ends.

#[test]
fn bytes_go_both_ways_and_each_half_ends_by_itself() {
    let between = Between::start(&[]);
    for client_first in [true, false] {
        let (mut client, mut server) = between.pair();
        assert_carries(&mut client, &mut server, b"question");
        assert_carries(&mut server, &mut client, b"answer");
        let (first, second) =
            if client_first { (&mut client, &mut server) } else { (&mut server, &mut client) };
        assert_carries(first, second, &pattern(1, 10_000));
        first.shutdown(Shutdown::Write).unwrap();
        assert_ended(second);
        // The other half goes on, for as long as it likes.
        for place in 0..20 {
            assert_carries(second, first, &pattern(place, 5_000));
        }
        second.shutdown(Shutdown::Write).unwrap();
        assert_ended(first);
    }
}

#[test]
fn what_was_sent_before_an_end_arrives_also_if_the_client_is_gone_when_it_is_connected() {
    let between = Between::start(&[]);
    let mut client = peer(between.address);
    client.write_all(b"all of it").unwrap();
    client.shutdown(Shutdown::Both).unwrap();
    drop(client);
    let mut server = accept(&between.upstream);
    let mut text = Vec::new();
    server.read_to_end(&mut text).unwrap();
    assert_eq!(text, b"all of it");
}

#[test]
fn reset_of_either_side_at_any_step_is_one_for_the_other() {
    let between = Between::start(&[]);
    for step in 0..5 {
        for client_resets in [true, false] {
            let (mut client, mut server) = between.pair();
            if step > 0 {
                assert_carries(&mut client, &mut server, b"question");
            }
            if step > 1 {
                assert_carries(&mut server, &mut client, b"answer");
            }
            if step == 3 {
                client.shutdown(Shutdown::Write).unwrap();
                assert_ended(&mut server);
            }
            if step == 4 {
                server.shutdown(Shutdown::Write).unwrap();
                assert_ended(&mut client);
            }
            let (gone, mut other) = if client_resets { (client, server) } else { (server, client) };
            reset(gone);
            let is_at_its_end = (step == 4) != client_resets && step > 2;
            if is_at_its_end && step > 2 {
                // It has read the end before: the reset shows when it writes.
                let end = Instant::now() + PATIENCE;
                while other.write_all(b"more").is_ok() {
                    assert!(Instant::now() < end, "no reset arrives");
                }
            } else {
                assert_reset(&mut other);
            }
        }
    }
}

#[test]
fn upstream_that_refuses_has_the_client_reset_and_the_log_says_why() {
    let target = refusing_address();
    let (mut proxy, address) =
        Program::start("proxy", &["127.0.0.1:0", &target.to_string()]).listening();
    let mut client = peer(address);
    assert_reset(&mut client);
    let line = proxy.stderr.next().unwrap();
    let from = client.local_addr().unwrap();
    assert!(line.contains("WARN"), "{line}");
    assert!(line.ends_with(&format!("of {from}: upstream {target}: refused")), "{line}");
}

#[test]
#[cfg(target_os = "linux")]
fn peer_that_has_vanished_without_an_end_is_found_out_on_either_side() {
    let between = Between::start(&[]);
    let (mut client, mut server) = between.pair();
    assert_carries(&mut client, &mut server, b"question");
    assert_carries(&mut server, &mut client, b"answer");
    let (to_client, to_server) = (client.local_addr().unwrap(), server.local_addr().unwrap());
    let end = Instant::now() + PATIENCE;
    while !common::measure::is_kept_alive(between.address, to_client)
        || !common::measure::is_kept_alive(server.peer_addr().unwrap(), to_server)
    {
        assert!(Instant::now() < end, "the kernel would never ask whether they are there");
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn upstream_that_is_lost_is_said_in_the_log() {
    let mut between = Between::start(&[]);
    let (mut client, server) = between.pair();
    reset(server);
    assert_reset(&mut client);
    let line = between.program.stderr.next().unwrap();
    assert!(line.ends_with(": reset by the peer"), "{line}");
}

#[test]
fn name_of_the_upstream_is_looked_up_and_one_that_is_none_is_refused_at_the_start() {
    let upstream = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = format!("localhost:{}", upstream.local_addr().unwrap().port());
    let (_proxy, address) = Program::start("proxy", &["localhost:0", &target]).listening();
    let mut client = peer(address);
    assert_carries(&mut client, &mut accept(&upstream), b"by name");
    assert_failed("proxy", &["127.0.0.1:0", "no-such-host.invalid:80"], "cannot look up");
}

// The Unix domain.

#[test]
#[cfg(unix)]
fn either_side_may_be_in_the_unix_domain() {
    let folder = Folder::new();
    let path = |name: &str| folder.path(name).to_str().unwrap().to_owned();
    // A proxy in the Unix domain before one that leads there.
    let upstream = UnixListener::bind(path("upstream")).unwrap();
    let [inner, target] = ["inner", "upstream"].map(|name| format!("unix:{}", path(name)));
    let mut second = Program::start("proxy", &[&inner, &target]);
    assert_eq!(second.stdout.next(), Some(format!("Listening on {inner}")));
    let (_first, address) = Program::start("proxy", &["127.0.0.1:0", &inner]).listening();

    let mut client = peer(address);
    let (mut server, _) = upstream.accept().unwrap();
    server.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_carries(&mut client, &mut server, &pattern(0, 100_000));
    client.shutdown(Shutdown::Write).unwrap();
    assert_ended(&mut server);
    assert_carries(&mut server, &mut client, &pattern(1, 100_000));
    drop(server);
    assert_ended(&mut client);

    second.signal("INT");
    assert_eq!(second.ended().status, Some(0));
    assert!(!folder.path("inner").exists(), "the file of the socket is removed");
    let mut client = peer(address);
    assert_reset(&mut client);
}

#[test]
#[cfg(target_os = "linux")]
fn either_side_may_have_an_abstract_name() {
    use std::os::linux::net::SocketAddrExt;
    let name = format!("readiness-proxy-{}", std::process::id());
    let upstream = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = upstream.local_addr().unwrap().to_string();
    let mut proxy = Program::start("proxy", &[&format!("unix:@{name}"), &target]);
    assert_eq!(proxy.stdout.next(), Some(format!("Listening on unix:@{name}")));
    let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
    let mut client = UnixStream::connect_addr(&address).unwrap();
    assert_carries(&mut client, &mut accept(&upstream), b"abstract");
}

// The PROXY protocol.

/// The signature, version 2 and PROXY.
const BEGINNING: [u8; 13] = *b"\r\n\r\n\0\r\nQUIT\n\x21";

fn assert_announced(listen: &str, target_listens: &str, kind: u8) {
    let upstream = TcpListener::bind(target_listens).unwrap();
    let target = upstream.local_addr().unwrap().to_string();
    let arguments = [listen, &target, "--proxy-protocol"];
    let (_proxy, address) = Program::start("proxy", &arguments).listening();
    let mut client = peer(address);
    client.write_all(b"behind it").unwrap();
    let mut expected = BEGINNING.to_vec();
    let ends = [client.local_addr().unwrap(), address];
    expected.extend([kind, 0, if kind == 0x11 { 12 } else { 36 }]);
    for end in ends {
        match end {
            SocketAddr::V4(end) => expected.extend(end.ip().octets()),
            SocketAddr::V6(end) => expected.extend(end.ip().octets()),
        }
    }
    ends.iter().for_each(|end| expected.extend(end.port().to_be_bytes()));
    expected.extend(b"behind it");
    let mut arrived = vec![0; expected.len()];
    accept(&upstream).read_exact(&mut arrived).unwrap();
    assert_eq!(arrived, expected);
}

#[test]
fn client_of_ipv4_is_announced_by_28_bytes() {
    assert_announced("127.0.0.1:0", "127.0.0.1:0", 0x11);
}

#[test]
fn client_of_ipv6_is_announced_by_52_bytes() {
    skip_unless!(has_ipv6(), NO_IPV6);
    assert_announced("[::1]:0", "127.0.0.1:0", 0x21);
}

#[test]
fn client_of_ipv4_at_a_listener_of_both_families_is_announced_as_one_of_ipv4() {
    skip_unless!(has_ipv6(), NO_IPV6);
    let upstream = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = upstream.local_addr().unwrap().to_string();
    let arguments = ["[::]:0", &target, "--proxy-protocol"];
    let (_proxy, address) = Program::start("proxy", &arguments).listening();
    let Ok(client) = TcpStream::connect(("127.0.0.1", address.port())) else {
        skip_unless!(false, "a listener of IPv6 takes no clients of IPv4 here");
        return;
    };
    let mut header = [0; 28];
    accept(&upstream).read_exact(&mut header).unwrap();
    let port = client.local_addr().unwrap().port().to_be_bytes();
    assert_eq!(header[12..24], [0x21, 0x11, 0, 12, 127, 0, 0, 1, 127, 0, 0, 1]);
    assert_eq!(header[24..26], port);
}

#[test]
#[cfg(unix)]
fn client_in_the_unix_domain_is_announced_without_an_address() {
    let folder = Folder::new();
    let path = folder.path("proxy").to_str().unwrap().to_owned();
    let upstream = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = upstream.local_addr().unwrap().to_string();
    let mut proxy =
        Program::start("proxy", &[&format!("unix:{path}"), &target, "--proxy-protocol"]);
    proxy.stdout.next().unwrap();
    let mut client = UnixStream::connect(path).unwrap();
    client.write_all(b"behind it").unwrap();
    let expected = [&BEGINNING[..], &[0, 0, 0], b"behind it"].concat();
    let mut arrived = vec![0; expected.len()];
    accept(&upstream).read_exact(&mut arrived).unwrap();
    assert_eq!(arrived, expected);
}

#[test]
#[cfg(unix)]
fn haproxy_takes_the_client_from_the_header() {
    let haproxy = Command::new("haproxy").arg("-v").stdout(Stdio::null()).status();
    skip_unless!(haproxy.is_ok(), "haproxy is not installed");
    let folder = Folder::new();
    let path = folder.path("haproxy").to_str().unwrap().to_owned();
    let config = programs::TempFile::new(
        "haproxy.cfg",
        format!(
            "defaults\n mode http\n timeout client 30s\n timeout connect 5s\n timeout server 30s\n\
             frontend all\n bind unix@{path} accept-proxy\n http-request return status 200 \
             content-type text/plain lf-string \"%[src] %[src_port] %[dst_port]\"\n"
        )
        .as_bytes(),
    );
    let mut command = Command::new("haproxy");
    command.args(["-db", "-f", config.path()]);
    let _haproxy = Program::start_with(&mut command, Stdio::null(), Stdio::null());
    let end = Instant::now() + PATIENCE;
    while UnixStream::connect(&path).is_err() {
        assert!(Instant::now() < end, "haproxy does not listen");
        thread::yield_now();
    }
    let arguments = ["127.0.0.1:0", &format!("unix:{path}"), "--proxy-protocol"];
    let (_proxy, address) = Program::start("proxy", &arguments).listening();
    let mut client = peer(address);
    client.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    let port = client.local_addr().unwrap().port();
    let answer = io::read_to_string(client).unwrap();
    assert!(answer.ends_with(&format!("\r\n\r\n127.0.0.1 {port} {}", address.port())), "{answer}");
}

// Much, and many.

#[test]
fn side_that_does_not_read_stops_the_other_and_gets_everything_when_it_does() {
    let between = Between::start(&[]);
    for client_sends in [true, false] {
        let (client, server) = between.pair();
        let (sender, mut reader) = if client_sends { (client, server) } else { (server, client) };
        sender.set_nonblocking(true).unwrap();
        let mut sent = 0;
        let mut last = Instant::now();
        // Until nothing was taken for some time: the kernels are full, and the proxy is.
        while last.elapsed() < Duration::from_millis(200) {
            match (&sender).write(&pattern(sent, 64 * 1024)) {
                Ok(count) => {
                    sent += count;
                    last = Instant::now();
                }
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
        }
        sender.shutdown(Shutdown::Write).unwrap();
        let mut arrived = Vec::new();
        reader.read_to_end(&mut arrived).unwrap();
        assert!(arrived == pattern(0, sent), "{} of {sent} bytes arrived", arrived.len());
    }
}

#[test]
fn constant_memory_however_much_goes_through() {
    skip_unless!(can_measure(), NO_MEASURE);
    const BLOCK: usize = 1 << 20;
    let mebibytes = std::env::var("READINESS_MIB").map_or(64, |text| text.parse().unwrap());
    let between = Between::start(&[]);
    let (mut client, mut server) = between.pair();
    let block = pattern(0, BLOCK);
    let sent = block.clone();
    let before = user_memory(between.program.process_id());
    let sending = thread::spawn(move || {
        (0..mebibytes).for_each(|_| client.write_all(&sent).unwrap());
        client
    });
    let mut arrived = vec![0; BLOCK];
    let mut most = 0;
    for number in 0..mebibytes {
        server.read_exact(&mut arrived).unwrap();
        assert!(arrived == block, "block {number} is not what was sent");
        if number % 16 == 0 {
            most = most.max(user_memory(between.program.process_id()) - before);
        }
    }
    drop(sending.join().unwrap());
    assert_ended(&mut server);
    assert!(most < 1 << 20, "the proxy has grown by {most} bytes");
}

#[test]
fn thousand_clients_at_once_have_their_own_connections() {
    const COUNT: usize = 1000;
    common::child::with_descriptors(test_name!(), 2 * COUNT + 200, || {
        let between = Between::start(&[]);
        let mut clients: Vec<TcpStream> = Vec::new();
        let upstream = between.upstream.try_clone().unwrap();
        let accepting = thread::spawn(move || (0..COUNT).map(|_| accept(&upstream)).collect());
        for number in 0..COUNT {
            let mut client = peer(between.address);
            client.write_all(&number.to_be_bytes()).unwrap();
            clients.push(client);
        }
        let mut servers: Vec<TcpStream> = accepting.join().unwrap();
        for server in &mut servers {
            let mut number = [0; 8];
            server.read_exact(&mut number).unwrap_or_else(|error| {
                // Both sockets of this connection, and the clients' whose bytes nobody has taken.
                let own = common::sockets_at(server.peer_addr().unwrap().port());
                let waits = |line: &String| !line.contains("00000000:00000000");
                let clients = common::sockets_at(between.address.port()).filter(waits);
                panic!("{error}: {:#?}", own.chain(clients).collect::<Vec<_>>());
            });
            server.write_all(&number).unwrap();
            server.write_all(&pattern(usize::from_be_bytes(number), 1000)).unwrap();
        }
        for (number, client) in clients.iter_mut().enumerate() {
            let mut answer = vec![0; 1008];
            client.read_exact(&mut answer).unwrap();
            assert_eq!(answer[..8], number.to_be_bytes());
            assert_eq!(answer[8..], pattern(number, 1000));
        }
    });
}

#[test]
fn client_that_never_reads_holds_up_nobody() {
    let between = Between::start(&[]);
    let (_silent, sender) = between.pair();
    sender.set_nonblocking(true).unwrap();
    let mut last = Instant::now();
    while last.elapsed() < Duration::from_millis(100) {
        if (&sender).write(&[7; 64 * 1024]).is_ok() {
            last = Instant::now();
        }
    }
    for _ in 0..20 {
        let (mut client, mut server) = between.pair();
        assert_carries(&mut client, &mut server, &pattern(0, 100_000));
        assert_carries(&mut server, &mut client, &pattern(0, 100_000));
    }
}

#[test]
#[cfg(unix)]
fn with_64_descriptors_more_clients_wait_and_none_is_lost() {
    common::child::with_descriptors(test_name!(), 400, || {
        for host in ["127.0.0.1", "localhost"] {
            assert_none_is_lost_with_64_descriptors(host);
        }
    });
}

#[cfg(unix)]
fn assert_none_is_lost_with_64_descriptors(host: &str) {
    const COUNT: usize = 150;
    let (target, server) = serving(COUNT, |mut stream| {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        stream.write_all(&bytes).unwrap();
    });
    let mut command = Command::new("sh");
    let path = programs::command("proxy").get_program().to_owned();
    let target = target.replace("127.0.0.1", host);
    command.args(["-c", "ulimit -n 64; exec \"$0\" 127.0.0.1:0 \"$1\""]).arg(path).arg(target);
    let program = Program::start_with(&mut command, Stdio::piped(), Stdio::piped());
    let (_proxy, address) = program.listening();
    let clients: Vec<TcpStream> = (0..COUNT).map(|_| peer(address)).collect();
    for (number, mut client) in clients.into_iter().enumerate() {
        let text = format!("client {number}");
        client.write_all(text.as_bytes()).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(io::read_to_string(client).unwrap(), text);
    }
    server.join().unwrap();
}

#[test]
fn anything_that_is_sent_arrives_as_it_was_and_any_end_is_survived() {
    let between = Between::start(&[]);
    Fuzz::run(|fuzz| {
        let (client, server) = between.pair();
        let mut sides = [client, server];
        let mut sent = [Vec::new(), Vec::new()];
        let mut arrived = [Vec::new(), Vec::new()];
        for _ in 0..fuzz.below(20) {
            let from = fuzz.below(2);
            let bytes = fuzz.bytes(&[b"\r\n\r\n\0\r\nQUIT\n", b"GET / HTTP/1.1\r\n", b"\0"]);
            sides[from].write_all(&bytes).unwrap();
            sent[from].extend_from_slice(&bytes);
            // What has arrived is read now and then only.
            let to = fuzz.below(2);
            let missing = sent[1 - to].len() - arrived[to].len();
            if fuzz.below(2) == 0 && missing > 0 {
                let mut part = vec![0; 1 + fuzz.below(missing)];
                sides[to].read_exact(&mut part).unwrap();
                arrived[to].extend(part);
            }
        }
        let first = fuzz.below(2);
        let [client, server] = sides;
        let (gone, mut other) = if first == 0 { (client, server) } else { (server, client) };
        let rest = &mut arrived[1 - first];
        match fuzz.below(3) {
            0 => reset(gone),
            1 => drop(gone),
            _ => {
                gone.shutdown(Shutdown::Write).unwrap();
                other.read_to_end(rest).unwrap();
                assert!(*rest == sent[first], "seed {}", fuzz.seed());
                return;
            }
        }
        let _ = other.read_to_end(rest); // a reset may end it
        assert!(sent[first].starts_with(rest), "seed {}", fuzz.seed());
    });
    let (mut client, mut server) = between.pair();
    assert_carries(&mut client, &mut server, b"still there");
}

// The program.

#[test]
#[cfg(unix)]
fn ctrl_c_lets_an_answer_come_that_is_waited_for_and_a_second_one_does_not() {
    let line = "Shutting down: 10s for 2 connections to finish. Ctrl-C again aborts the rest";
    for is_patient in [true, false] {
        let mut between = Between::start(&[]);
        let (mut client, mut server) = between.pair();
        assert_carries(&mut client, &mut server, b"question");
        between.program.signal("INT");
        assert_eq!(between.program.stdout.next().as_deref(), Some(line));
        assert!(TcpStream::connect(between.address).is_err(), "no others are taken");
        assert_carries(&mut server, &mut client, b"answer");
        if is_patient {
            drop(server);
            assert_ended(&mut client);
            drop(client);
        } else {
            between.program.signal("INT");
            assert_reset(&mut client);
            assert_reset(&mut server);
        }
        let ended = between.program.ended();
        assert_eq!((ended.status, ended.stderr.as_str()), (Some(0), ""));
    }
}

#[test]
fn curl_and_netcat_work_through_it() {
    fn answer(mut stream: TcpStream) {
        let mut request = Vec::new();
        while !request.ends_with(b"\n\n") && !request.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            request.extend(byte);
        }
        let body = String::from_utf8(pattern(0, 100_000).escape_ascii().collect()).unwrap();
        write!(stream, "HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
    }
    let through = |tool: &str, arguments: &dyn Fn(SocketAddr) -> Vec<String>| {
        let (target, server) = serving(1, answer);
        let (_proxy, address) = Program::start("proxy", &["127.0.0.1:0", &target]).listening();
        let mut command = Command::new(tool);
        command.args(arguments(address)).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let _ = child.stdin.take().unwrap().write_all(b"GET / HTTP/1.0\n\n");
        let output = child.wait_with_output().unwrap();
        server.join().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let body = String::from_utf8(pattern(0, 100_000).escape_ascii().collect()).unwrap();
    let is_there = |tool: &str| {
        Command::new(tool).arg("-h").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
    };
    skip_unless!(is_there("curl") && is_there("nc"), "curl or nc is not installed");
    let url = |address: SocketAddr| vec!["-s".into(), format!("http://{address}/")];
    assert!(through("curl", &url) == body, "curl got something else");
    let host = |address: SocketAddr| vec![address.ip().to_string(), address.port().to_string()];
    assert!(through("nc", &host).ends_with(&body), "nc got something else");
}

#[test]
fn bad_arguments_are_refused_and_help_fits_a_terminal() {
    let addresses = "it takes two addresses, LISTEN and UPSTREAM";
    assert_failed("proxy", &[], addresses);
    assert_failed("proxy", &["127.0.0.1:0"], addresses);
    assert_failed("proxy", &["127.0.0.1:0", "127.0.0.1:1", "c"], "one argument too many");
    assert_failed("proxy", &["nonsense", "127.0.0.1:1"], "bad address \"nonsense\"");
    assert_failed("proxy", &["127.0.0.1:0", "nonsense"], "bad address \"nonsense\"");
    assert_failed("proxy", &["127.0.0.1:0", "127.0.0.1:1", "--proxy"], "(--help tells more)");
    assert_failed("proxy", &["127.0.0.1:0", "127.0.0.1:1", "--file", "a"], "(--help tells more)");
    if cfg!(unix) {
        assert_failed(
            "proxy",
            &["unix:/no/such/folder/a", "127.0.0.1:1"],
            "cannot listen at unix:",
        );
        let long = format!("unix:/{}", "a".repeat(200));
        for bad in [&long, "unix:", "unix:@"] {
            let refused = format!("bad address {bad:?}: ");
            assert_failed("proxy", &[bad, "127.0.0.1:1"], &refused);
            assert_failed("proxy", &["127.0.0.1:0", bad], &refused);
        }
    }
    let help = Program::run("proxy", &["--help"]);
    assert!(help.stdout.lines().all(|line| line.chars().count() <= 80), "{help:?}");
    assert_succeeded(&help, &help.stdout);
}
