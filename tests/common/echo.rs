//! What every echo server must do, whatever it is built on. Each check takes the address of a
//! running server, and its costs as [`Costs`].

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::talker::Talker;
use crate::common::{PATIENCE, pattern, peer, reset};

/// More than the kernels hold for a connection between them.
const TOO_MUCH: usize = 64 * 1024 * 1024;

/// All checks, as tests of one server: `start` returns something that ends it when dropped, its
/// address, and the number of its process.
#[macro_export]
macro_rules! echo_checks {
    ($start:expr) => {
        $crate::echo_checks! { $start;
            much_comes_back_identical
            every_cutting_of_a_short_message_is_the_same_stream
            hundred_clients_at_once_each_get_back_what_is_theirs
            silent_client_holds_up_nobody
            client_that_never_reads_holds_up_nobody
            client_that_never_reads_does_not_make_the_server_grow
            clients_that_reset_harm_no_other
            client_that_ends_first_gets_its_whole_answer_and_then_the_end
            idle_clients_cost_no_processor_time
        }
    };
    ($start:expr; $($check:ident)*) => {
        $(
            #[test]
            fn $check() {
                let (_running, address, process) = $start;
                $crate::echo::$check($crate::test_name!(), address, process);
            }
        )*
    };
}

fn assert_echoes(client: &mut TcpStream, message: &[u8]) {
    client.write_all(message).unwrap();
    let mut answer = vec![0; message.len()];
    client.read_exact(&mut answer).unwrap();
    assert!(answer == message);
}

/// Goes on with all of them until each has sent `count` bytes and got them back.
fn talk_up_to(talkers: &mut [Talker], count: usize) {
    let end = Instant::now() + PATIENCE;
    while talkers.iter().any(|talker| talker.read < count) {
        assert!(Instant::now() < end, "not every byte is echoed");
        for talker in &mut *talkers {
            talker.write_to(count);
            talker.read_on();
            assert!(!talker.at_end, "the server has ended a client");
        }
    }
}

/// Returns a client that has written until the kernels took no more and reads nothing, and how much
/// it wrote.
fn stuck(address: SocketAddr) -> (TcpStream, usize) {
    let mut client = peer(address);
    client.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    let (piece, mut written) = ([b'x'; 64 * 1024], 0);
    let end = Instant::now() + PATIENCE;
    while written < TOO_MUCH {
        assert!(Instant::now() < end, "the client reaches no end");
        match client.write(&piece) {
            Ok(count) => written += count,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return (client, written);
            }
            Err(error) => panic!("the client cannot write: {error}"),
        }
    }
    panic!("the server reads {written} bytes of a client that reads none");
}

pub fn much_comes_back_identical(_: &str, address: SocketAddr, _: u32) {
    talk_up_to(&mut [Talker::connect(address)], 3_000_000);
}

pub fn every_cutting_of_a_short_message_is_the_same_stream(_: &str, address: SocketAddr, _: u32) {
    const MESSAGE: &[u8; 8] = b"cuttings";
    // Bit n of the mask: there is a cut behind byte n.
    for mask in 0..1_u32 << (MESSAGE.len() - 1) {
        let mut client = peer(address);
        let is_cut = |place: &usize| *place == MESSAGE.len() || mask >> (place - 1) & 1 == 1;
        let mut begin = 0;
        for end in (1..=MESSAGE.len()).filter(is_cut) {
            assert_echoes(&mut client, &MESSAGE[begin..end]);
            begin = end;
        }
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(client.read(&mut [0]).unwrap(), 0, "mask {mask:b}");
    }
}

pub fn hundred_clients_at_once_each_get_back_what_is_theirs(_: &str, address: SocketAddr, _: u32) {
    let mut clients: Vec<TcpStream> = (0..100).map(|_| peer(address)).collect();
    for round in 0..3 {
        for (number, client) in clients.iter_mut().enumerate() {
            client.write_all(&pattern(number, 1000 * round + 1)).unwrap();
        }
        for (number, client) in clients.iter_mut().enumerate() {
            let mut answer = vec![0; 1000 * round + 1];
            client.read_exact(&mut answer).unwrap();
            assert!(answer == pattern(number, 1000 * round + 1), "client {number}");
        }
    }
}

pub fn silent_client_holds_up_nobody(_: &str, address: SocketAddr, _: u32) {
    let mut silent = peer(address);
    assert_echoes(&mut silent, b"here");
    assert_echoes(&mut peer(address), b"meanwhile");
    assert_echoes(&mut silent, b"still here");
}

pub fn client_that_never_reads_holds_up_nobody(_: &str, address: SocketAddr, _: u32) {
    let (mut stuck, written) = stuck(address);
    for _ in 0..10 {
        assert_echoes(&mut peer(address), &pattern(0, 10_000));
    }
    // And when it reads at last, all of it is there.
    let mut answer = vec![0; written];
    stuck.read_exact(&mut answer).unwrap();
    assert!(answer.iter().all(|byte| *byte == b'x'));
    stuck.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_echoes(&mut stuck, b"as ever");
}

#[cfg(target_os = "linux")]
pub fn client_that_never_reads_does_not_make_the_server_grow(
    _: &str,
    address: SocketAddr,
    process: u32,
) {
    let resident = || {
        let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
    };
    let before = resident();
    let (_stuck, written) = stuck(address);
    let grown = resident().saturating_sub(before);
    assert!(written > 100_000 && grown < 1_500_000, "{grown} bytes for {written}");
}

pub fn clients_that_reset_harm_no_other(_: &str, address: SocketAddr, _: u32) {
    let mut others: Vec<Talker> = (0..4).map(|_| Talker::connect(address)).collect();
    talk_up_to(&mut others, 100_000);
    let mut idle = peer(address);
    assert_echoes(&mut idle, b"soon gone");
    reset(idle);
    reset(peer(address));
    let (stuck, _) = stuck(address);
    reset(stuck);
    talk_up_to(&mut others, 200_000);
    assert_echoes(&mut peer(address), b"next");
}

pub fn client_that_ends_first_gets_its_whole_answer_and_then_the_end(
    _: &str,
    address: SocketAddr,
    _: u32,
) {
    for count in [0, 1, 100_000, 5_000_000] {
        let mut client = peer(address);
        let mut writer = client.try_clone().unwrap();
        let writer = thread::spawn(move || {
            writer.write_all(&pattern(0, count)).unwrap();
            writer.shutdown(Shutdown::Write).unwrap();
        });
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).unwrap();
        writer.join().unwrap();
        assert!(answer == pattern(0, count), "{} of {count} bytes were echoed", answer.len());
    }
}

#[cfg(target_os = "linux")]
pub fn idle_clients_cost_no_processor_time(_: &str, address: SocketAddr, process: u32) {
    let mut clients: Vec<TcpStream> = (0..20).map(|_| peer(address)).collect();
    clients.iter_mut().for_each(|client| assert_echoes(client, b"and now silence"));
    assert_rests(process);
}

/// Fails unless a process comes to rest: it sleeps, and neither uses processor time nor wakes, each
/// time that it is looked at. A process that goes on by itself never does, nor one that waits for
/// its processor.
#[cfg(target_os = "linux")]
pub fn assert_rests(process: u32) {
    let end = Instant::now() + PATIENCE;
    let mut seen = Activity::of(process);
    let mut calm = 0;
    while calm < 10 {
        assert!(Instant::now() < end, "it does not come to rest: {seen:?}");
        thread::sleep(Duration::from_millis(20)); // between two looks
        let now = Activity::of(process);
        calm = if now == seen && now.sleeps { calm + 1 } else { 0 };
        seen = now;
    }
}

/// Fails unless a process goes on using processor time, although nothing happens. One that rests
/// never does.
#[cfg(target_os = "linux")]
pub fn assert_burns(process: u32) {
    let end = Instant::now() + PATIENCE;
    let begin = Activity::of(process).ticks;
    while Activity::of(process).ticks < begin + 20 {
        assert!(Instant::now() < end, "it does not use the processor");
        thread::sleep(Duration::from_millis(20)); // between two looks
    }
}

/// What a process is doing.
#[cfg(target_os = "linux")]
#[derive(Debug, PartialEq)]
struct Activity {
    sleeps: bool,
    /// The processor time that it has used so far.
    ticks: u64,
    /// How often it began to sleep.
    sleep_count: u64,
}

#[cfg(target_os = "linux")]
impl Activity {
    fn of(process: u32) -> Self {
        let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
        let (_, fields) = stat.rsplit_once(')').unwrap();
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let ticks = |at: usize| fields[at].parse::<u64>().unwrap();
        let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        Self {
            sleeps: fields[0] == "S",
            ticks: ticks(11) + ticks(12),
            sleep_count: line.unwrap().trim().parse().unwrap(),
        }
    }
}
