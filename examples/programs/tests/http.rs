//! `http_server` on a simulated network: what each request is answered with, requests cut anywhere,
//! and bad networks.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a failure, also in a helper, is the test's message")]
#![allow(unreachable_pub, reason = "what is shared is public within each test file")]

#[path = "../../../tests/common/mod.rs"]
mod common;
#[path = "../../../tests/common/programs.rs"]
mod programs;
mod support;
#[path = "support/web.rs"]
mod web;

use std::io;
use std::time::Duration;

use ::programs::http::{self, Client, HttpServer};
use common::pattern;
use readiness::simulation::{FailedSeed, Faults, PeerState, Program, Simulation, try_seeds};
use readiness::{Event, EventLoop, Limits};
use support::{Random, Server, fuzz};
use web::{Folder, Response, SECRET, responses};

/// How large the large file is: many pieces.
const LARGE: usize = 40_000;

fn new_server(
    simulation: &Simulation,
    folder: &Folder,
) -> Server<Client, impl FnMut(&mut EventLoop<Client>, Event)> {
    new_server_with(http::limits(), simulation, folder)
}

fn new_server_with(
    limits: Limits,
    simulation: &Simulation,
    folder: &Folder,
) -> Server<Client, impl FnMut(&mut EventLoop<Client>, Event)> {
    let mut server = HttpServer::new(folder.path(), None).unwrap();
    let event_loop = simulation.event_loop_with_limits(limits).unwrap();
    Server::new(simulation, event_loop, move |event_loop, event| server.handle(event_loop, event))
}

fn folder() -> Folder {
    let folder = Folder::new();
    folder.write("small.txt", b"hello, world\n");
    folder.write("large.bin", &pattern(0, LARGE));
    folder.write("empty", b"");
    folder.write("a&b <c>'\"#?%41.txt", b"odd");
    folder.write("with/index.html", b"<p>index</p>");
    folder.write("without/deeper/file.css", b"p {}");
    folder.link("../secret", "out");
    folder.link("..", "up");
    folder.link("small.txt", "inside");
    folder.link(folder.path().join("small.txt").to_str().unwrap(), "inside-from-the-root");
    folder.link("/etc", "etc");
    folder.link("circle", "circle");
    folder
}

/// Returns what a connection is answered that sends this and ends, and whether the server has
/// closed it before that.
fn answer(request: &[u8]) -> (Vec<u8>, bool) {
    let (simulation, folder) = (Simulation::new(1), folder());
    let mut server = new_server(&simulation, &folder);
    let mut peer = server.connect();
    let mut answer = server.answer(&mut peer, &[request]);
    let has_closed = peer.state() == PeerState::Ended;
    peer.finish();
    answer.extend(server.answer(&mut peer, &[]));
    assert_eq!(peer.state(), PeerState::Ended, "{}", request.escape_ascii());
    server.assert_alone();
    (answer, has_closed)
}

fn response(request: &str) -> Response {
    let (bytes, _) = answer(request.as_bytes());
    let method = request.split(' ').next().unwrap();
    let mut all = responses(&bytes, &[method]);
    assert_eq!(all.len(), 1, "{request:?}");
    all.remove(0)
}

fn get(path: &str, fields: &str) -> Response {
    response(&format!("GET {path} HTTP/1.1\r\nHost: x\r\n{fields}\r\n"))
}

// Files.

#[test]
fn file_is_sent_with_its_type_length_and_date() {
    let response = get("/small.txt", "");
    assert_eq!((response.status, &response.body[..]), (200, &b"hello, world\n"[..]));
    assert_eq!(response.field("Content-Type"), Some("text/plain"));
    assert_eq!(response.field("Content-Length"), Some("13"));
    assert_eq!(response.field("Accept-Ranges"), Some("bytes"));
    assert_eq!(response.field("Connection"), None);
    for name in ["Date", "Last-Modified"] {
        let date = response.field(name).unwrap();
        assert!(date.len() == 29 && date.ends_with(" GMT"), "{name}: {date}");
    }
    assert_eq!(get("/large.bin", "").body, pattern(0, LARGE));
    assert_eq!(get("/empty", "").field("Content-Length"), Some("0"));
    assert_eq!(get("/small.txt?x=/../y", "").body, b"hello, world\n");
    assert_eq!(get("http://x/small.txt", "").body, b"hello, world\n");
    assert_eq!(get("/a%26b%20%3Cc%3e'%22%23%3f%2541.txt", "").body, b"odd");
    assert_eq!(get("/inside", "").body, b"hello, world\n");
    assert_eq!(get("/inside-from-the-root", "").body, b"hello, world\n");
}

#[test]
fn head_is_answered_as_get_is_but_for_the_body() {
    for path in ["/small.txt", "/large.bin", "/without/", "/nothing"] {
        let (head, get) =
            (response(&format!("HEAD {path} HTTP/1.1\r\nHost: x\r\n\r\n")), get(path, ""));
        assert_eq!(head.body, b"");
        assert_eq!(head.status, get.status);
        let names = |response: &Response| -> Vec<String> {
            response.fields.iter().map(|(name, _)| name.clone()).collect()
        };
        assert_eq!(names(&head), names(&get));
        assert_eq!(head.field("Content-Length").unwrap(), get.body.len().to_string());
    }
}

#[test]
fn folder_is_shown_by_its_index_or_a_list_with_escaped_names() {
    assert_eq!(get("/with/", "").body, b"<p>index</p>");
    assert_eq!(get("/with/", "").field("Content-Type"), Some("text/html"));
    let page = get("/", "");
    assert_eq!(page.field("Content-Type"), Some("text/html; charset=utf-8"));
    let page = page.text();
    let odd = "<a href=\"a%26b%20%3Cc%3E%27%22%23%3F%2541.txt\">a&amp;b &lt;c&gt;&#x27;&quot;#?%41.txt</a>";
    assert!(page.contains(odd), "{page}");
    assert!(
        page.contains("<a href=\"without/\">without/</a>") && !page.contains("../\""),
        "{page}"
    );
    assert!(get("/without/", "").text().contains("<a href=\"../\">"));
    for path in ["/without", "//without", "/./without?x"] {
        let moved = get(path, "");
        assert_eq!((moved.status, moved.field("Location")), (301, Some("/without/")), "{path}");
    }
}

#[test]
fn nothing_leads_out_of_the_folder() {
    let paths = [
        ("/../secret", 403),
        ("/without/../../secret", 403),
        ("/without/../small.txt", 403),
        ("/%2e%2e/secret", 403),
        ("/.%2E/secret", 403),
        ("/without/..%2f..%2fsecret", 404),
        ("/..%2fsecret", 404),
        ("/%2fetc%2fpasswd", 404),
        ("/..%5csecret", 404),
        ("/out", 403),
        ("/up/secret", 403),
        ("/up/", 403),
        ("/etc/passwd", 403),
        ("/small.txt%00", 400),
        ("/%", 400),
        ("/%4", 400),
        ("/%zz", 400),
        ("/%+1", 400),
        ("/nothing", 404),
        ("/small.txt/", 404),
        ("/small.txt/x", 404),
        ("/circle", 503),
        ("/%ff", 404),
        ("//etc/passwd", 403),
        ("small.txt", 400),
        ("*", 400),
        ("/x#y", 400),
    ];
    for (path, status) in paths {
        let response = get(path, "");
        assert_eq!(response.status, status, "{path}: {response:?}");
        assert!(!response.text().contains(SECRET), "{path}");
    }
    let name = "a".repeat(300);
    assert_eq!(get(&format!("/{name}"), "").status, 404);
}

#[test]
fn what_is_no_file_is_not_opened() {
    let made = std::process::Command::new("mkfifo").arg(folder().path().join("pipe")).status();
    skip_unless!(made.is_ok_and(|status| status.success()), "mkfifo is not here");
    let (simulation, folder) = (Simulation::new(1), folder());
    let pipe = folder.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(pipe).status().unwrap().success());
    let mut server = new_server(&simulation, &folder);
    let mut peer = server.connect();
    let answer = server.answer(&mut peer, &[b"GET /pipe HTTP/1.1\r\nHost: x\r\n\r\n"]);
    assert_eq!(responses(&answer, &["GET"])[0].status, 403);
}

// Parts, and what is known.

#[test]
fn one_range_is_answered_with_the_part() {
    let cases = [
        ("bytes=0-4", 206, "hello", "bytes 0-4/13"),
        ("bytes=7-", 206, "world\n", "bytes 7-12/13"),
        ("bytes=-6", 206, "world\n", "bytes 7-12/13"),
        ("bytes=-99", 206, "hello, world\n", "bytes 0-12/13"),
        ("bytes=12-99", 206, "\n", "bytes 12-12/13"),
        ("bytes=0-18446744073709551615", 206, "hello, world\n", "bytes 0-12/13"),
        ("bytes=13-", 416, "416 Range Not Satisfiable\n", "bytes */13"),
        ("bytes=-0", 416, "416 Range Not Satisfiable\n", "bytes */13"),
        ("bytes=5-99999999999999999999", 200, "hello, world\n", ""),
        ("bytes=4-1", 200, "hello, world\n", ""),
        ("bytes=0-1,3-4", 200, "hello, world\n", ""),
        ("bytes=-", 200, "hello, world\n", ""),
        ("bytes=+1-2", 200, "hello, world\n", ""),
        ("lines=0-4", 200, "hello, world\n", ""),
    ];
    for (range, status, body, part) in cases {
        let response = get("/small.txt", &format!("Range: {range}\r\n"));
        assert_eq!((response.status, response.text().as_str()), (status, body), "{range}");
        assert_eq!(response.field("Content-Range").unwrap_or_default(), part, "{range}");
    }
    let part = get("/large.bin", "Range: bytes=20000-39998\r\n");
    assert_eq!(part.body, pattern(20_000, 19_999));
    assert_eq!(get("/empty", "Range: bytes=0-\r\n").status, 416);
}

#[test]
fn what_the_client_has_is_not_sent_again() {
    let (simulation, folder) = (Simulation::new(1), folder());
    let mut server = new_server(&simulation, &folder);
    let mut get = |fields: &str| {
        let mut peer = server.connect();
        let request = format!("GET /small.txt HTTP/1.1\r\nHost: x\r\n{fields}\r\n");
        let answer = server.answer(&mut peer, &[request.as_bytes()]);
        responses(&answer, &["GET"]).remove(0)
    };
    let whole = get("");
    let (tag, date) = (whole.field("ETag").unwrap(), whole.field("Last-Modified").unwrap());
    let cases = [
        (format!("If-None-Match: {tag}\r\n"), 304),
        (format!("If-None-Match: \"x\", W/{tag}\r\n"), 304),
        ("If-None-Match: *\r\n".into(), 304),
        ("If-None-Match: \"x\"\r\n".into(), 200),
        (format!("If-None-Match: \"x\"\r\nIf-Modified-Since: {date}\r\n"), 200),
        (format!("If-Modified-Since: {date}\r\n"), 304),
        ("If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n".into(), 200),
        ("If-Modified-Since: yesterday\r\n".into(), 200),
        (format!("If-Range: {tag}\r\nRange: bytes=0-1\r\n"), 206),
        (format!("If-Range: {date}\r\nRange: bytes=0-1\r\n"), 206),
        ("If-Range: \"x\"\r\nRange: bytes=0-1\r\n".into(), 200),
    ];
    for (fields, status) in cases {
        let response = get(&fields);
        assert_eq!(response.status, status, "{fields}");
        if status == 304 {
            assert_eq!((response.field("ETag"), &response.body[..]), (Some(tag), &b""[..]));
        }
    }
}

#[test]
fn file_of_a_time_that_http_cannot_name_is_served() {
    use std::time::SystemTime;
    let (simulation, folder) = (Simulation::new(1), folder());
    for time in [
        SystemTime::UNIX_EPOCH - Duration::from_secs(1),
        SystemTime::UNIX_EPOCH + Duration::from_secs(300_000_000_000),
    ] {
        let file =
            std::fs::File::options().write(true).open(folder.path().join("small.txt")).unwrap();
        // Not every file system can have it.
        let _ = file.set_modified(time);
        let mut server = new_server(&simulation, &folder);
        let mut peer = server.connect();
        let answer = server.answer(&mut peer, &[b"GET /small.txt HTTP/1.1\r\nHost: x\r\n\r\n"]);
        assert_eq!(responses(&answer, &["GET"])[0].status, 200);
        server.event_loop.shutdown(Duration::ZERO);
        server.settle();
    }
}

// What is refused.

#[test]
fn request_that_can_be_read_in_two_ways_or_not_at_all_is_refused_and_closed() {
    let with = |fields: &str| format!("GET / HTTP/1.1\r\nHost: x\r\n{fields}\r\n");
    let long = "x".repeat(9000);
    let cases = [
        (with("Content-Length: 1\r\nContent-Length: 1\r\n"), 400),
        (with("Content-Length: 1, 1\r\n"), 400),
        (with("Content-Length: +1\r\n"), 400),
        (with("Content-Length: 0x1\r\n"), 400),
        (with("Content-Length: \r\n"), 400),
        (with("Content-Length: 99999999999999999999\r\n"), 400),
        (with("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n"), 400),
        (with("Transfer-Encoding: chunked\r\n"), 501),
        (with("Transfer-Encoding: identity\r\n"), 501),
        ("GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n".into(), 400),
        (with("Content-Length : 1\r\n"), 400),
        (with("A: b\r\n folded\r\n"), 400),
        (with("A: b\nC: d\r\n"), 400),
        ("GET / HTTP/1.1\nHost: x\n\n".into(), 400),
        (with("A: b\rC: d\r\n"), 400),
        (with("A: \0\r\n"), 400),
        (with("A b\r\n"), 400),
        (with("Host: y\r\n"), 400),
        ("GET / HTTP/1.1\r\n\r\n".into(), 400),
        ("GET /\r\n\r\n".into(), 400),
        ("GET  / HTTP/1.1\r\nHost: x\r\n\r\n".into(), 400),
        ("GET / HTTP/2.0\r\nHost: x\r\n\r\n".into(), 505),
        ("GET / HTTP/1.2\r\nHost: x\r\n\r\n".into(), 505),
        ("GET / HTP/1.1\r\nHost: x\r\n\r\n".into(), 400),
        ("\x16\x03\x01\x02\x00\x01\n".into(), 400),
        ("POST / HTTP/1.1\r\nHost: x\r\n\r\n".into(), 405),
        ("CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n".into(), 400),
        ("BREW / HTTP/1.1\r\nHost: x\r\n\r\n".into(), 501),
        (with("Content-Length: 1048577\r\n"), 413),
        (format!("GET /{long} HTTP/1.1\r\nHost: x\r\n\r\n"), 414),
        (with(&format!("A: {}\r\n", "x".repeat(33_000))), 431),
        (with(&"A: b\r\n".repeat(65)), 431),
    ];
    for (request, status) in cases {
        // What follows must not be taken for a request.
        let (bytes, has_closed) =
            answer(format!("{request}GET /small.txt HTTP/1.1\r\n\r\n").as_bytes());
        let all = responses(&bytes, &["GET"]);
        assert_eq!(
            (all.len(), all[0].status),
            (1, status),
            "{request:?}: {}",
            bytes.escape_ascii()
        );
        assert!(has_closed && all[0].field("Connection") == Some("close"), "{request:?}");
        assert_eq!(all[0].field("Allow").is_some(), status == 405);
    }
}

#[test]
fn slow_head_and_slow_body_are_answered_with_408_and_an_idle_connection_is_closed() {
    let (simulation, folder) = (Simulation::new(1), folder());
    let mut server = new_server(&simulation, &folder);
    let (mut idle, mut slow, mut body) = (server.connect(), server.connect(), server.connect());
    let with_body = b"GET /empty HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n";
    assert_eq!(responses(&server.answer(&mut body, &[with_body]), &["GET"])[0].status, 200);
    for byte in b"GET / HTT".chunks(1) {
        assert_eq!(server.answer(&mut slow, &[byte]), b"");
        assert_eq!(server.answer(&mut body, &[b"x"]), b"");
        server.pass(Duration::from_secs(1));
    }
    assert_eq!(slow.state(), PeerState::Open, "not early");
    server.pass(Duration::from_millis(1001));
    for peer in [&mut slow, &mut body] {
        let answer = server.answer(peer, &[]);
        assert_eq!(responses(&answer, &["GET"])[0].status, 408);
        assert_eq!(peer.state(), PeerState::Ended);
    }
    assert_eq!(idle.state(), PeerState::Open);
    server.pass(Duration::from_secs(60));
    assert_eq!((server.answer(&mut idle, &[]), idle.state()), (vec![], PeerState::Ended));
}

// One after the other.

#[test]
fn connection_is_kept_or_closed_as_the_client_asks() {
    let cases = [
        ("GET /small.txt HTTP/1.1\r\nHost: x\r\n\r\n", false, None),
        ("GET /small.txt HTTP/1.1\r\nHost: x\r\nConnection: a, Close\r\n\r\n", true, Some("close")),
        ("GET /small.txt HTTP/1.0\r\n\r\n", true, Some("close")),
        ("GET /small.txt HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", false, Some("keep-alive")),
        (
            "GET /small.txt HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n",
            true,
            Some("close"),
        ),
        ("GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n", false, None),
    ];
    for (request, closes, field) in cases {
        let (bytes, has_closed) = answer(request.as_bytes());
        let all = responses(&bytes, &["GET"]);
        assert_eq!(
            (all.len(), has_closed, all[0].field("Connection")),
            (1, closes, field),
            "{request:?}"
        );
    }
}

#[test]
fn requests_behind_a_slow_download_wait_for_its_end_however_many_they_are() -> Result<(), FailedSeed>
{
    let folder = folder();
    let small = b"GET /empty HTTP/1.1\r\nHost: x\r\n\r\n".repeat(50);
    let requests = [&b"GET /large.bin HTTP/1.1\r\nHost: x\r\n\r\n"[..], &small].concat();
    try_seeds(0..40, |simulation| {
        let mut faults = Faults::drawn(simulation.seed()).survivable();
        (faults.send_buffer, faults.receive_buffer, faults.clock_rate) = (1000, 1000, 0);
        faults.piece_max = faults.piece_max.max(64);
        simulation.set_faults(faults);
        let mut limits = http::limits();
        limits.connection.read_buffer_max = 300; // which the requests fill
        let mut server = new_server_with(limits, simulation, &folder);
        let mut peer = server.connect();
        let (mut written, mut answer) = (0, Vec::new());
        // Longer than a full read buffer may stand.
        while peer.state() == PeerState::Open && !answer.ends_with(b"Content-Length: 0\r\n\r\n") {
            written += peer.write(&requests[written..]);
            server.pass(Duration::from_secs(1));
            answer.extend(peer.read_at_most(500));
        }
        let rest = server.answer(&mut peer, &[&requests[written..]]);
        answer.extend(rest);
        for _ in 0..5 {
            server.pass(Duration::from_secs(1)); // where something was put off
            answer.extend(server.answer(&mut peer, &[]));
        }
        let all = responses(&answer, &["GET"; 51]);
        assert_eq!(all.len(), 51);
        assert!(all[0].body == pattern(0, LARGE) && all.iter().all(|one| one.status == 200));
        Ok(())
    })
}

/// Several requests at once, with all that can stand between them.
const PIPELINE: &[u8] = b"\r\nGET /small.txt HTTP/1.1\r\nHost: x\r\n\r\n\
    GET /large.bin HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nGET /\
    HEAD /large.bin HTTP/1.1\r\nHost: x\r\n\r\n\
    \r\nGET /nothing HTTP/1.1\r\nHost: x\r\n\r\n\
    GET /large.bin HTTP/1.1\r\nHost: x\r\nRange: bytes=5-6004\r\n\r\n\
    GET /small.txt HTTP/1.0\r\n\r\n\
    GET /small.txt HTTP/1.1\r\nHost: behind the end\r\n\r\n";

fn assert_pipeline_answered(bytes: &[u8]) {
    let all = responses(bytes, &["GET", "GET", "HEAD", "GET", "GET", "GET", "GET"]);
    let statuses: Vec<u16> = all.iter().map(|response| response.status).collect();
    assert_eq!(statuses, [200, 200, 200, 404, 206, 200]);
    assert!(all[1].body == pattern(0, LARGE), "the large file");
    assert!(all[4].body == pattern(5, 6000), "the part");
    assert_eq!(all[5].body, b"hello, world\n");
}

#[test]
fn requests_are_answered_in_their_order_however_they_are_cut() {
    let (simulation, folder) = (Simulation::new(1), folder());
    let mut server = new_server(&simulation, &folder);
    let mut cuts: Vec<Vec<&[u8]>> =
        vec![PIPELINE.chunks(1).collect(), PIPELINE.chunks(7).collect()];
    cuts.extend((0..PIPELINE.len()).map(|cut| vec![&PIPELINE[..cut], &PIPELINE[cut..]]));
    for pieces in cuts {
        let mut peer = server.connect();
        assert_pipeline_answered(&server.answer(&mut peer, &pieces));
        assert_eq!(peer.state(), PeerState::Ended);
    }
    server.assert_alone();
}

#[test]
fn refused_request_is_refused_alike_however_it_is_cut() {
    let long = [b"GET /", &b"x".repeat(9000)[..], b" HTTP/1.1\r\nHost: x\r\n\r\n"].concat();
    let large = [&b"GET / HTTP/1.1\r\nA: "[..], &b"x".repeat(33_000)[..], b"\r\n\r\n"].concat();
    let (simulation, folder) = (Simulation::new(1), folder());
    let mut server = new_server(&simulation, &folder);
    for (request, status) in
        [(long, 414), (large, 431), (b"GET / HTTP/1.1\nA: b\r\n\r\n".to_vec(), 400)]
    {
        for size in [1, 5, 1000, request.len()] {
            let mut peer = server.connect();
            let pieces: Vec<&[u8]> = request.chunks(size).collect();
            let answer = server.answer(&mut peer, &pieces);
            assert_eq!(responses(&answer, &["GET"])[0].status, status, "pieces of {size}");
        }
    }
    server.assert_alone();
}

#[test]
fn peer_that_ends_or_resets_at_any_byte_harms_nobody() {
    let (simulation, folder) = (Simulation::new(1), folder());
    let mut server = new_server(&simulation, &folder);
    for cut in 0..PIPELINE.len() {
        let (mut ending, mut resetting) = (server.connect(), server.connect());
        ending.write(&PIPELINE[..cut]);
        ending.finish();
        let answer = server.answer(&mut ending, &[]);
        // Whatever was whole is answered, also a file that is sent when the end arrives.
        let asked = String::from_utf8_lossy(&PIPELINE[..cut]).matches("\r\n\r\n").count();
        let answered = responses(&answer, &["GET", "GET", "HEAD", "GET", "GET", "GET"]).len();
        assert_eq!(answered, asked, "{cut} bytes");
        assert_eq!(ending.state(), PeerState::Ended);
        resetting.write(&PIPELINE[..cut]);
        server.settle();
        resetting.read_at_most(1);
        resetting.reset();
    }
    server.assert_alone();
}

/// Returns what a peer is answered that sends this and ends, over a network that only disturbs.
fn answer_over(simulation: &Simulation, folder: &Folder, requests: &[u8]) -> io::Result<Vec<u8>> {
    let mut faults = Faults::drawn(simulation.seed()).survivable();
    faults.clock_rate = 0; // which could reach a deadline
    faults.piece_max = faults.piece_max.max(7);
    faults.send_buffer = faults.send_buffer.max(64);
    faults.receive_buffer = faults.receive_buffer.max(64);
    simulation.set_faults(faults);
    let mut server = HttpServer::new(folder.path(), None)?;
    let event_loop = simulation.event_loop_with_limits(http::limits())?;
    let handle = |event_loop: &mut EventLoop<Client>, event| {
        server.handle(event_loop, event);
        Ok(())
    };
    let mut program = Program::new(event_loop, handle);
    let listener = program.event_loop.listen("127.0.0.1:65432")?;
    let mut peer = simulation.connect(program.event_loop.listener_addr(listener)?);
    let (mut written, mut has_finished, mut answer) = (0, false, Vec::new());
    while peer.state() == PeerState::Open {
        written += peer.write(&requests[written..]);
        if written == requests.len() && !has_finished {
            has_finished = true;
            peer.finish();
        }
        simulation.advance(&mut [&mut program])?;
        answer.extend(peer.read());
    }
    assert_eq!(peer.state(), PeerState::Ended);
    Ok(answer)
}

#[test]
fn pipeline_is_answered_on_any_network_that_only_disturbs() -> Result<(), FailedSeed> {
    let folder = folder();
    try_seeds(0..60, |simulation| {
        assert_pipeline_answered(&answer_over(simulation, &folder, PIPELINE)?);
        Ok(())
    })
}

#[test]
fn download_is_whole_although_its_peer_has_finished_and_what_was_asked_behind_it_comes_too()
-> Result<(), FailedSeed> {
    let folder = folder();
    let small = b"GET /small.txt HTTP/1.1\r\nHost: x\r\n\r\n".repeat(5);
    let requests = [&b"GET /large.bin HTTP/1.1\r\nHost: x\r\n\r\n"[..], &small].concat();
    try_seeds(0..60, |simulation| {
        let all = responses(&answer_over(simulation, &folder, &requests)?, &["GET"; 6]);
        assert!(all.len() == 6 && all[0].body == pattern(0, LARGE), "{} responses", all.len());
        Ok(())
    })
}

#[test]
fn what_arrives_on_any_network_is_a_beginning_of_what_was_to_be_sent() -> Result<(), FailedSeed> {
    let folder = folder();
    let request = b"GET /large.bin HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    try_seeds(0..60, |simulation| {
        let mut faults = Faults::drawn(simulation.seed());
        faults.register_rate = 0; // without which no program could listen
        faults.piece_max = faults.piece_max.max(64);
        faults.send_buffer = faults.send_buffer.max(64);
        simulation.set_faults(faults);
        let mut server = new_server(simulation, &folder);
        let mut peer = server.connect();
        let answer = server.answer(&mut peer, &[request]);
        if let Some(place) = answer.windows(4).position(|four| four == b"\r\n\r\n") {
            let body = &answer[place + 4..];
            assert!(pattern(0, LARGE).starts_with(body) || answer.starts_with(b"HTTP/1.1 408"));
        }
        drop(peer);
        simulation.set_faults(Faults::none());
        let mut next = server.connect();
        for _ in 0..5 {
            server.pass(Duration::from_secs(2)); // until accepting is tried again
        }
        let answer = server.answer(&mut next, &[b"GET /small.txt HTTP/1.1\r\nHost: x\r\n\r\n"]);
        assert!(answer.ends_with(b"hello, world\n"), "{}", answer.escape_ascii());
        Ok(())
    })
}

#[test]
fn whatever_bytes_come_nothing_of_the_outside_leaves_and_the_next_is_served() {
    let cases: [&[u8]; 6] = [
        PIPELINE,
        b"GET /../secret HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /up/%2e%2e/..%2fsecret HTTP/1.1\r\nHost: x\r\nRange: bytes=0-5\r\n\r\n",
        b"HEAD /with/ HTTP/1.0\r\nConnection: keep-alive\r\nIf-None-Match: \"x\", *\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"GET http://x/out HTTP/1.1\r\nHost: x\r\nIf-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n",
    ];
    let (simulation, folder) = (Simulation::new(1), folder());
    let mut server = new_server(&simulation, &folder);
    fuzz(|seed| {
        let mut random = Random::new(seed);
        let bytes = random.mutant(&cases);
        let mut peer = server.connect();
        let pieces: Vec<&[u8]> = bytes.chunks(1 + random.below(bytes.len())).collect();
        let mut answer = server.answer(&mut peer, &pieces);
        server.pass(Duration::from_secs(11));
        answer.extend(server.answer(&mut peer, &[]));
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 "), "seed {seed}");
        let secret = SECRET.as_bytes();
        assert!(!answer.windows(secret.len()).any(|part| part == secret), "seed {seed}");
        drop(peer);
        let mut next = server.connect();
        let answer = server.answer(&mut next, &[b"GET /small.txt HTTP/1.1\r\nHost: x\r\n\r\n"]);
        assert!(answer.ends_with(b"hello, world\n"), "seed {seed}: {}", answer.escape_ascii());
        drop(next);
        server.settle();
    });
    server.assert_alone();
}
