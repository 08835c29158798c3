//! Measures what a process costs, as Linux reports it, and prints what was measured.

use std::fmt::Display;
use std::fs;
use std::io::{Write, stderr};
use std::net::{IpAddr, SocketAddr};
use std::process::{Command, Stdio};

/// Raises the soft limit of descriptors as far as the hard one allows: for the shell that starts
/// a child.
pub const ALL_DESCRIPTORS: &str = "ulimit -S -n $(ulimit -H -n);";

/// Returns whether this system reports what a process costs.
pub fn can_measure() -> bool {
    cfg!(target_os = "linux") && fs::metadata("/proc/self/smaps_rollup").is_ok()
}

/// What is missing where it does not.
pub const NO_MEASURE: &str = "this system does not tell what a process costs";

/// Returns whether `strace` is here and may trace.
pub fn can_trace() -> bool {
    let mut strace = Command::new("strace");
    strace.args(["-o", "/dev/null", "true"]).stdout(Stdio::null()).stderr(Stdio::null());
    cfg!(target_os = "linux") && strace.status().is_ok_and(|status| status.success())
}

/// What is missing where it is not, or may not.
pub const NO_TRACE: &str = "strace is not here, or may not trace";

/// Says something that the harness does not swallow.
pub fn aloud(what: impl Display) {
    let _ = writeln!(stderr(), "{what}");
}

/// Returns the bytes of memory that belong to a process alone and stand behind no file: its heap
/// and its stacks. Counted page by page; the figure of the same kind in `status` may lag behind by
/// more than what a test here looks for.
pub fn user_memory(process: u32) -> i64 {
    let rollup = fs::read_to_string(format!("/proc/{process}/smaps_rollup")).unwrap();
    let kilobytes = |name: &str| {
        let line = rollup.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().trim_end_matches(" kB").parse::<i64>().unwrap()
    };
    assert_eq!(kilobytes("AnonHugePages:"), 0, "huge pages hide what is used of them");
    kilobytes("Anonymous:") * 1024
}

/// Returns how many descriptors a process has open.
pub fn descriptors(process: u32) -> usize {
    fs::read_dir(format!("/proc/{process}/fd")).unwrap().count()
}

/// Returns how many descriptors a process may have open.
pub fn descriptors_max(process: u32) -> usize {
    let limits = fs::read_to_string(format!("/proc/{process}/limits")).unwrap();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap_or(usize::MAX)
}

/// Returns the kernel's table of the TCP sockets of IPv4, where it has one: the fields of each line.
pub fn tcp_table() -> Vec<Vec<String>> {
    let table = fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    table.lines().map(|line| line.split_whitespace().map(str::to_owned).collect()).collect()
}

/// Returns whether the kernel will ask over this connection, from its end at `from`, whether the
/// other end is still there (keepalive): which of a socket's timers runs.
pub fn is_kept_alive(from: SocketAddr, to: SocketAddr) -> bool {
    let end = |address: SocketAddr| {
        let IpAddr::V4(ip) = address.ip() else { panic!("{address} is not of IPv4") };
        format!("{:08X}:{:04X}", u32::from_ne_bytes(ip.octets()), address.port())
    };
    let ends = [end(from), end(to)];
    tcp_table().iter().any(|fields| fields[1..3] == ends && fields[5].starts_with("02:"))
}

/// Plays the part of a test binary as a child. Returns whether this process is one for the test,
/// after it has played its part.
pub fn has_played(test: &str) -> bool {
    if !super::child::is_child(test) {
        return false;
    }
    let commands = super::child::commands();
    let part = commands.recv().expect("the parent says which part to play");
    match part.split_once(' ') {
        Some(("serve", protocol)) => super::server::serve(protocol.parse().unwrap(), commands),
        _ => super::crowd::play(&commands),
    }
    true
}
