//! The tutorial's protocol on a simulated network: requests cut anywhere, invalid ones, and client
//! and server against each other on bad networks.

#![allow(clippy::unwrap_used, reason = "a failure, also in a helper, is the test's message")]
#![allow(unreachable_pub, reason = "what is shared is public within each test file")]

#[path = "../../../tests/common/mod.rs"]
mod common;
#[path = "../../../tests/common/programs.rs"]
mod programs;
mod support;

use std::time::Duration;

use ::programs::app::{Incoming, client, server};
use readiness::simulation::{FailedSeed, Faults, PeerState, Program, Simulation, try_seeds};
use readiness::{CloseReason, Event, EventLoop};
use serde_json::Value;
use support::{Random, Server, fuzz};

const MINE: &str = "text/json";

fn new_server() -> Server<Incoming, impl FnMut(&mut EventLoop<Incoming>, Event)> {
    let simulation = Simulation::new(1);
    Server::new(&simulation, simulation.event_loop(), server::handle)
}

/// Returns a message as the tutorial makes it.
fn message(content_type: &str, encoding: &str, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let header = format!(
        r#"{{"byteorder": "little", "content-type": "{content_type}", "content-encoding": "{encoding}", "content-length": {length}}}"#
    );
    framed(header.as_bytes(), content)
}

fn framed(header: &[u8], content: &[u8]) -> Vec<u8> {
    [&u16::try_from(header.len()).unwrap().to_be_bytes(), header, content].concat()
}

fn search(value: &str) -> Vec<u8> {
    message(MINE, "utf-8", format!(r#"{{"action": "search", "value": "{value}"}}"#).as_bytes())
}

/// Returns the content of a message, with nothing before or behind it.
fn content(message: &[u8]) -> (Value, &[u8]) {
    let length = u16::from_be_bytes([message[0], message[1]]).into();
    let header: Value = serde_json::from_slice(&message[2..][..length]).unwrap();
    let content = &message[2 + length..];
    assert_eq!(header["content-length"], content.len());
    (header, content)
}

/// Returns the result of a response, which is there exactly as the tutorial writes it.
fn result(response: &[u8]) -> String {
    let (header, content) = content(response);
    assert_eq!(
        (&header["content-type"], &header["content-encoding"]),
        (&"text/json".into(), &"utf-8".into())
    );
    assert_eq!(response, message(MINE, "utf-8", content));
    serde_json::from_slice::<Value>(content).unwrap()["result"].as_str().unwrap().to_owned()
}

// What is answered.

#[test]
fn request_is_answered_byte_for_byte_as_the_tutorial_answers_it() {
    let latin = b"{\"action\": \"search\", \"value\": \"caf\xe9\"}";
    let wide: Vec<u8> = "\u{feff}{\"action\": \"search\", \"value\": \"🐶\"}"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    let cases = [
        (search("morpheus"), "Follow the white rabbit. 🐰"),
        (search("ring"), "In the caves beneath the Misty Mountains. 💍"),
        (search("🐶"), "🐾 Playing ball! 🏐"),
        (search("x"), "No match for 'x'."),
        (search(""), "No match for ''."),
        (search(r#"a\"b\n"#), "No match for 'a\"b\n'."),
        (message(MINE, "latin-1", latin), "No match for 'café'."),
        (message(MINE, "utf-16", &wide), "🐾 Playing ball! 🏐"),
        (message(MINE, "utf-8", br#"{"action": "double", "value": "x"}"#), "Error: invalid action 'double'."),
        // In another order, with what is ignored, and without spaces.
        (
            framed(
                br#"{"content-length":38,"x":[],"content-encoding":"utf-8","byteorder":7,"content-type":"text/json"}"#,
                br#"{"value": "ring", "action": "search" }"#,
            ),
            "In the caves beneath the Misty Mountains. 💍",
        ),
    ];
    for (request, expected) in cases {
        let mut server = new_server();
        let mut peer = server.connect();
        let response = server.answer(&mut peer, &[&request]);
        assert_eq!(result(&response), expected);
        assert_eq!(peer.state(), PeerState::Ended, "closed once the answer is written");
        server.assert_alone();
    }
}

#[test]
fn request_of_another_type_is_answered_with_its_first_ten_bytes() {
    for (sent, first) in
        [(&b"doublemeaning"[..], &b"doublemean"[..]), (b"\xff\x00", b"\xff\x00"), (b"", b"")]
    {
        let mut server = new_server();
        let mut peer = server.connect();
        let request = message("binary/custom-client-binary-type", "binary", sent);
        let response = server.answer(&mut peer, &[&request]);
        let expected = [b"First 10 bytes of request: ", first].concat();
        assert_eq!(response, message("binary/custom-server-binary-type", "binary", &expected));
    }
}

#[test]
fn request_that_is_none_is_answered_with_what_is_wrong_and_closed() {
    let header = |text: &str| framed(text.as_bytes(), b"{}");
    let with = |fields: &str| header(&format!("{{\"byteorder\": \"little\", {fields}}}"));
    let with_length = |length: &str| {
        with(&format!(
            r#""content-type": "text/json", "content-encoding": "utf-8", "content-length": {length}"#
        ))
    };
    let json = |content: &str| message(MINE, "utf-8", content.as_bytes());
    let cases = [
        (header(""), "the header is no JSON object"),
        (header("x"), "the header is no JSON object"),
        (header("[]"), "the header is no JSON object"),
        (framed(b"{\"a\": \"\xff\"}", b""), "the header is no JSON object"),
        (header("{}"), "no field \"byteorder\""),
        (with(r#""content-length": 2"#), "no field \"content-type\""),
        (
            with(r#""content-type": "text/json", "content-length": 2"#),
            "no field \"content-encoding\"",
        ),
        (
            with(r#""content-type": "text/json", "content-encoding": "utf-8""#),
            "no field \"content-length\"",
        ),
        (
            with(r#""content-type": 1, "content-encoding": "utf-8", "content-length": 2"#),
            "is no string",
        ),
        (with_length("-1"), "is no length: -1"),
        (with_length("\"2\""), "is no length: \"2\""),
        (with_length("2.0"), "is no length: 2.0"),
        (with_length("true"), "is no length: true"),
        (with_length("null"), "is no length: null"),
        (with_length("65537"), "65537 bytes of content are more than 65536"),
        (with_length("18446744073709551615"), "are more than 65536"),
        (with_length("99999999999999999999"), "is no length"),
        (json(""), "the content is no JSON object"),
        (json("x"), "the content is no JSON object"),
        (json("[]"), "the content is no JSON object"),
        (json(&"[".repeat(1000)), "the content is no JSON object"),
        (json("{}"), "the request has no \"action\""),
        (json(r#"{"action": "search"}"#), "the request has no \"value\""),
        (json(r#"{"action": "search", "value": 5}"#), "\"value\" is no string: 5"),
        (json(r#"{"action": ["search"]}"#), "\"action\" is no string"),
        (message(MINE, "utf-8", b"\xff"), "the content is not utf-8"),
        (message(MINE, "klingon", b"{}"), "unknown encoding \"klingon\""),
    ];
    for (request, why) in cases {
        let mut server = new_server();
        let mut peer = server.connect();
        let result = result(&server.answer(&mut peer, &[&request]));
        assert!(result.starts_with("Error: ") && result.contains(why), "{result}: not {why}");
        assert_eq!(peer.state(), PeerState::Ended);
        server.assert_alone();
    }
}

#[test]
fn error_repeats_little_of_a_request_and_nothing_that_steers_a_terminal() {
    for hostile in ["\u{9b}31m", "\u{202e}", "\u{7f}", &"x".repeat(10_000)] {
        let header = format!(
            r#"{{"byteorder": 1, "content-type": 1, "content-encoding": 1, "content-length": "{hostile}"}}"#
        );
        let mut server = new_server();
        let mut peer = server.connect();
        let result = result(&server.answer(&mut peer, &[&framed(header.as_bytes(), b"")]));
        assert!(result.starts_with("Error: \"content-length\" is no length: \""), "{result}");
        assert!(result.chars().count() <= 207, "{result}");
        let steers = |one: char| one.is_control() || one == '\u{202e}';
        assert!(!result.contains(steers), "{result:?}");
    }
}

#[test]
fn second_request_ends_the_connection_behind_the_first_answer() {
    let mut reasons = Vec::new();
    let simulation = Simulation::new(1);
    let mut server = Server::new(&simulation, simulation.event_loop(), |event_loop, event| {
        if let Event::Closed(_, reason) = event {
            reasons.push(reason);
        }
        server::handle(event_loop, event);
    });
    let two = [search("ring"), search("morpheus")].concat();
    let mut peer = server.connect();
    let response = server.answer(&mut peer, &[&two]);
    assert_eq!(result(&response), "In the caves beneath the Misty Mountains. 💍");
    drop(peer);
    server.assert_alone();
    drop(server);
    assert!(matches!(reasons[..], [CloseReason::Rejected(_)]), "{reasons:?}");
}

// How it arrives.

#[test]
fn request_is_answered_however_it_is_cut() {
    let request = search("morpheus");
    let single: Vec<&[u8]> = request.chunks(1).collect();
    let mut cuts = vec![single];
    cuts.extend((1..request.len()).map(|cut| vec![&request[..cut], &request[cut..]]));
    for pieces in cuts {
        let mut server = new_server();
        let mut peer = server.connect();
        let response = server.answer(&mut peer, &pieces);
        assert_eq!(result(&response), "Follow the white rabbit. 🐰", "{} pieces", pieces.len());
        server.assert_alone();
    }
}

#[test]
fn peer_that_ends_or_resets_at_any_byte_harms_nobody() {
    let request = search("morpheus");
    for cut in 0..=request.len() {
        let mut server = new_server();
        let (mut other, mut ending, mut resetting) =
            (server.connect(), server.connect(), server.connect());
        server.answer(&mut other, &[&request[..10]]);
        ending.write(&request[..cut]);
        ending.finish();
        let response = server.answer(&mut ending, &[]);
        match cut {
            0 => assert_eq!(response, b""),
            _ if cut < request.len() => {
                assert!(result(&response).starts_with("Error: "), "{cut} bytes");
            }
            _ => assert_eq!(result(&response), "Follow the white rabbit. 🐰"),
        }
        assert_eq!(ending.state(), PeerState::Ended);
        server.answer(&mut resetting, &[&request[..cut]]);
        resetting.reset();
        let response = server.answer(&mut other, &[&request[10..]]);
        assert_eq!(result(&response), "Follow the white rabbit. 🐰");
        server.assert_alone();
    }
}

#[test]
fn peer_that_stops_half_way_or_goes_on_too_slowly_is_told_so_at_the_deadline() {
    let request = search("morpheus");
    let mut server = new_server();
    let mut silent = server.connect();
    let mut slow = server.connect();
    server.settle();
    for byte in request.chunks(1).take(9) {
        assert_eq!(server.answer(&mut slow, &[byte]), b"");
        server.pass(Duration::from_secs(1));
    }
    server.pass(Duration::from_millis(999));
    assert_eq!((silent.read(), slow.read()), (vec![], vec![]), "not early");
    server.pass(Duration::from_millis(2));
    for peer in [&mut silent, &mut slow] {
        assert_eq!(result(&server.answer(peer, &[])), "Error: the request took too long");
        assert_eq!(peer.state(), PeerState::Ended);
    }
    server.assert_alone();
}

// Both programs.

/// Returns a client's answer over a network, or why there is none.
fn ask(simulation: &Simulation, action: &str, value: &str) -> std::io::Result<String> {
    let mut server = Program::new(simulation.event_loop(), |server: &mut EventLoop<_>, event| {
        server::handle(server, event);
        Ok(())
    });
    let mut answer = None;
    let event_loop = simulation.event_loop_with_limits(client::limits())?;
    let mut client = Program::new(event_loop, |client: &mut EventLoop<_>, event| {
        if answer.is_none() {
            answer = client::handle(client, event)?;
        }
        Ok(())
    });
    let listener = server.event_loop.listen("127.0.0.1:65432")?;
    let address = server.event_loop.listener_addr(listener)?;
    client::ask(&mut client.event_loop, &address.to_string(), action, value);
    while client.event_loop.connection_count() > 0 {
        simulation.advance(&mut [&mut server, &mut client])?;
    }
    drop(client);
    Ok(answer.expect("an error would have ended it"))
}

#[test]
fn client_is_answered_on_any_network_that_only_disturbs() -> Result<(), FailedSeed> {
    try_seeds(0..200, |simulation| {
        let (action, value, end) = match simulation.below(4) {
            0 => (
                "search",
                "ring".to_owned(),
                "Got result: In the caves beneath the Misty Mountains. 💍".to_owned(),
            ),
            1 => (
                "search",
                "é".repeat(400),
                format!("Got result: No match for '{}'.", "é".repeat(400)),
            ),
            2 => (
                "search",
                "\u{1b}[2J".to_owned(),
                "Got result: No match for '\\u{1b}[2J'.".to_owned(),
            ),
            _ => (
                "shout",
                "out loud".to_owned(),
                r#"Got response: "First 10 bytes of request: shoutout l""#.to_owned(),
            ),
        };
        // A clock that jumps about reaches the deadline of the slowest networks, which is right.
        let mut faults = Faults::drawn(simulation.seed()).survivable();
        faults.clock_rate = 0;
        simulation.set_faults(faults);
        let answer = ask(simulation, action, &value)?;
        assert!(answer.ends_with(&end), "{answer}");
        Ok(())
    })
}

#[test]
fn client_has_an_answer_or_a_reason_on_any_network() -> Result<(), FailedSeed> {
    let (mut answered, mut failed) = (0, 0);
    try_seeds(0..200, |simulation| {
        let mut faults = Faults::drawn(simulation.seed());
        faults.register_rate = 0; // without which no program could listen
        simulation.set_faults(faults);
        match ask(simulation, "search", "ring") {
            Ok(answer) => {
                answered += 1;
                assert!(answer.ends_with("Misty Mountains. 💍"), "{answer}");
            }
            Err(error) => {
                failed += 1;
                assert!(error.to_string().starts_with("no answer: "), "{error}");
            }
        }
        Ok(())
    })?;
    assert!(answered > 30 && failed > 30, "{answered} answered, {failed} failed");
    Ok(())
}

#[test]
fn whatever_bytes_come_each_connection_is_answered_or_closed_and_the_next_is_served() {
    let requests = [
        search("morpheus"),
        message(MINE, "utf-16", b"\xff\xfeh\0"),
        message("binary/custom-client-binary-type", "binary", b"doublemeaning"),
        framed(b"{}", b""),
    ];
    let cases: Vec<&[u8]> = requests.iter().map(Vec::as_slice).collect();
    fuzz(|seed| {
        let mut random = Random::new(seed);
        let mut server = new_server();
        let bytes = random.mutant(&cases);
        let mut peer = server.connect();
        let pieces: Vec<&[u8]> = bytes.chunks(1 + random.below(bytes.len())).collect();
        let mut response = server.answer(&mut peer, &pieces);
        server.pass(Duration::from_secs(11));
        response.extend(server.answer(&mut peer, &[]));
        let (header, _) = content(&response);
        assert!(header["content-type"].is_string(), "seed {seed}");
        drop(peer);
        let mut next = server.connect();
        assert_eq!(result(&server.answer(&mut next, &[cases[0]])), "Follow the white rabbit. 🐰");
        server.assert_alone();
    });
}
