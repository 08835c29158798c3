//! Both directions lent at once, and whole messages taken without copying: however the bytes are
//! cut, what is taken is what a plain search of the whole input finds.

#![allow(clippy::unwrap_used, reason = "a failure, also in a helper, is the test's message")]

mod common;

use std::io::{self, BufRead, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};

use common::{connection_limits, next, pair, pair_with, pattern, reset, turns, until_closed};
use readiness::{CloseReason, ConnectionId, Event, EventLoop, ReadHalf};

/// The read buffer of the connections here.
const BUFFER: usize = 16;

/// What a program takes next.
#[derive(Clone, Copy, Debug)]
enum Take {
    Line(usize),
    Until(u8, usize),
    Exact(usize),
}

/// The result of a read: nothing yet, bytes, or the kind of an error.
type Taken = Result<Option<Vec<u8>>, ErrorKind>;

impl Take {
    fn from(self, read: &mut ReadHalf<'_>) -> Taken {
        let taken = match self {
            Self::Line(max) => read.take_line(max),
            Self::Until(delimiter, max) => read.take_until(delimiter, max),
            Self::Exact(count) => read.take_exact(count),
        };
        taken.map(|bytes| bytes.map(<[u8]>::to_vec)).map_err(|error| error.kind())
    }

    /// Does the same with everything that has arrived, by the plainest search. Also returns how
    /// many bytes are consumed.
    fn plainly(self, arrived: &[u8], at_end: bool) -> (Taken, usize) {
        let (delimiter, max) = match self {
            Self::Exact(count) if count <= arrived.len() => {
                return (Ok(Some(arrived[..count].to_vec())), count);
            }
            Self::Exact(_) if at_end => return (Err(ErrorKind::UnexpectedEof), 0),
            Self::Exact(count) if count > BUFFER => return (Err(ErrorKind::InvalidData), 0),
            Self::Exact(_) => return (Ok(None), 0),
            Self::Line(max) => (b'\n', max),
            Self::Until(delimiter, max) => (delimiter, max),
        };
        if max > BUFFER {
            return (Err(ErrorKind::InvalidInput), 0);
        }
        let count = match arrived.iter().position(|byte| *byte == delimiter) {
            Some(place) => place + 1,
            None if at_end => arrived.len(),
            None if arrived.len() >= max => return (Err(ErrorKind::InvalidData), 0),
            None => 0,
        };
        if count > max {
            return (Err(ErrorKind::InvalidData), 0);
        }
        let mut taken = &arrived[..count];
        if let Self::Line(_) = self {
            taken = taken.strip_suffix(b"\n").unwrap_or(taken);
            taken = taken.strip_suffix(b"\r").unwrap_or(taken);
        }
        (Ok((count > 0).then(|| taken.to_vec())), count)
    }
}

/// A connection whose program takes messages, and what a plain program would have.
struct Fed {
    event_loop: EventLoop,
    id: ConnectionId,
    peer: TcpStream,
    /// What has arrived and was not taken.
    arrived: Vec<u8>,
    at_end: bool,
}

impl Fed {
    fn new() -> Self {
        let limits = connection_limits(|limits| limits.read_buffer_max = BUFFER);
        let (mut event_loop, id, peer) = pair_with(limits);
        event_loop[id].allow_half_open(true);
        Self { event_loop, id, peer, arrived: Vec::new(), at_end: false }
    }

    /// Lets these bytes arrive, for which there is room.
    fn feed(&mut self, bytes: &[u8]) {
        self.arrived.extend(bytes);
        self.peer.write_all(bytes).unwrap();
        while self.event_loop[self.id].received().len() < self.arrived.len() {
            next(&mut self.event_loop);
        }
        assert_eq!(self.event_loop[self.id].received(), self.arrived);
    }

    fn end(&mut self) {
        self.peer.shutdown(Shutdown::Write).unwrap();
        while !self.at_end {
            self.at_end = next(&mut self.event_loop) == Event::PeerFinished(self.id);
        }
    }

    fn room(&self) -> usize {
        BUFFER - self.arrived.len()
    }

    /// Takes once, and checks it against the plain search.
    fn take(&mut self, take: Take) -> Taken {
        let (mut read, _) = self.event_loop[self.id].halves();
        let taken = take.from(&mut read);
        let (expected, count) = take.plainly(&self.arrived, self.at_end);
        let at_end = self.at_end;
        assert_eq!(taken, expected, "{take:?} of {:?}, at the end: {at_end}", self.arrived);
        self.arrived.drain(..count);
        assert_eq!(read.received(), self.arrived, "{take:?}");
        taken
    }

    /// Takes as long as there is something to take, each message by the next of these.
    fn take_all(&mut self, takes: &[Take], place: &mut usize) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        while let Ok(Some(taken)) = self.take(takes[*place % takes.len()]) {
            all.push(taken);
            *place += 1;
        }
        all
    }
}

// Taking.

#[test]
fn every_cutting_of_an_input_gives_the_same_messages() {
    const INPUT: &[u8; 11] = b"a\nb\r\n;\n\ncde";
    let orders: [&[Take]; 4] = [
        &[Take::Line(8)],
        &[Take::Until(b';', 11), Take::Line(5)],
        &[Take::Exact(2)],
        &[Take::Line(8), Take::Exact(3), Take::Until(b'd', 9), Take::Line(1)],
    ];
    for takes in orders {
        let mut fed = Fed::new();
        let mut whole = None;
        // Bit n of the mask: there is a cut behind byte n.
        for mask in 0..1_u32 << (INPUT.len() - 1) {
            let is_cut = |place: &usize| *place == INPUT.len() || mask >> (place - 1) & 1 == 1;
            let (mut begin, mut place, mut messages) = (0, 0, Vec::new());
            for end in (1..=INPUT.len()).filter(is_cut) {
                fed.feed(&INPUT[begin..end]);
                begin = end;
                messages.extend(fed.take_all(takes, &mut place));
            }
            let rest = fed.arrived.len();
            messages.push(fed.take(Take::Exact(rest)).unwrap().unwrap_or_default());
            // The first mask has no cut.
            let whole = whole.get_or_insert_with(|| messages.clone());
            assert_eq!(&messages, whole, "{takes:?}, mask {mask:b}");
        }
        assert!(whole.is_some_and(|messages| messages.len() >= 3));
    }
}

#[test]
fn limit_below_the_read_buffer_at_it_and_above() {
    for max in [1, BUFFER - 1, BUFFER] {
        for take in [Take::Line(max), Take::Until(b'\n', max)] {
            let mut fed = Fed::new();
            // Just as long as it may be, with its ending.
            fed.feed(&[&vec![b'x'; max - 1][..], b"\n"].concat());
            assert!(fed.take(take).unwrap().is_some(), "{take:?}");
            // Not yet too long, and then with no room for an ending.
            fed.feed(&vec![b'x'; max - 1]);
            assert_eq!(fed.take(take), Ok(None), "{take:?}");
            fed.feed(b"x");
            assert_eq!(fed.take(take), Err(ErrorKind::InvalidData), "{take:?}");
            assert_eq!(fed.take(take), Err(ErrorKind::InvalidData), "{take:?}: nothing is taken");
        }
        // Its ending has arrived, but too far behind.
        if max < BUFFER {
            let mut fed = Fed::new();
            fed.feed(&[&vec![b'x'; max][..], b"\n"].concat());
            assert_eq!(fed.take(Take::Line(max)), Err(ErrorKind::InvalidData));
            assert_eq!(fed.take(Take::Line(max + 1)), Ok(Some(vec![b'x'; max])));
        }
        let mut fed = Fed::new();
        fed.feed(&vec![b'x'; max - 1]);
        assert_eq!(fed.take(Take::Exact(max)), Ok(None));
        fed.feed(b"x");
        assert_eq!(fed.take(Take::Exact(max)), Ok(Some(vec![b'x'; max])));
    }
    let (mut event_loop, id, _peer) = pair::<()>();
    let mut read = event_loop[id].halves().0;
    let buffer = readiness::ConnectionLimits::default().read_buffer_max;
    for error in
        [read.take_line(buffer + 1).unwrap_err(), read.take_until(b';', usize::MAX).unwrap_err()]
    {
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert_eq!(error.to_string(), "max is above read_buffer_max");
    }
    let never = read.take_exact(buffer + 1).unwrap_err();
    assert_eq!(never.kind(), ErrorKind::InvalidData);
    assert!(never.to_string().contains("read_buffer_max"), "{never}");
    assert_eq!(read.take_exact(buffer).unwrap(), None);
    assert_eq!(read.take_exact(0).unwrap(), Some(&b""[..]));
}

/// A small generator, so that each run is the same.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound as u64).unwrap()
    }

    fn take(&mut self) -> Take {
        let max = 1 + self.below(BUFFER + 2);
        match self.below(4) {
            0 => Take::Line(max),
            1 => Take::Until(b"\n;"[self.below(2)], max),
            2 => Take::Until(b'\n', BUFFER),
            _ => Take::Exact(self.below(BUFFER + 3)),
        }
    }
}

/// Bytes of a few kinds, pieces and calls by chance, each call against the plain search.
#[test]
fn bytes_and_calls_by_chance_are_taken_as_by_a_plain_search() {
    const ROUNDS: u64 = 60;
    let (mut whole, mut refused) = (0, 0);
    for seed in 1..=ROUNDS {
        let mut chance = Chance(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let mut fed = Fed::new();
        for step in 0..120 {
            if step == 110 {
                fed.end();
            }
            let count = if fed.at_end { 0 } else { chance.below(fed.room() + 1) };
            let bytes: Vec<u8> = (0..count).map(|_| b"abc\r\n;"[chance.below(6)]).collect();
            fed.feed(&bytes);
            for _ in 0..1 + chance.below(3) {
                let take = chance.take();
                match fed.take(take) {
                    Ok(Some(_)) => whole += 1,
                    Ok(None) => {}
                    Err(_) => refused += 1,
                }
            }
            if fed.room() == 0 {
                // As a program does that meets what it cannot use.
                fed.take(Take::Exact(1 + chance.below(BUFFER))).unwrap();
            }
        }
    }
    assert!(whole > 1_000 && refused > 1_000, "{whole} were whole, {refused} refused");
}

/// Nothing of a length that a peer claims is believed before the bytes are there.
#[test]
fn claimed_length_of_an_exabyte_allocates_nothing() {
    // 2^60, minus one, where a `usize` has 64 bits.
    const CLAIMED: usize = usize::MAX >> 4;
    let (mut event_loop, id, mut peer) = pair::<()>();
    peer.write_all(&CLAIMED.to_be_bytes()).unwrap();
    assert_eq!(next(&mut event_loop), Event::Received(id));
    let mut length = [0; size_of::<usize>()];
    event_loop[id].read_exact(&mut length).unwrap();
    let claimed = usize::from_be_bytes(length);
    let mut read = event_loop[id].halves().0;
    assert_eq!(read.take_exact(claimed).unwrap_err().kind(), ErrorKind::InvalidData);
    // Even where the program lets the read buffer grow without a bound: to allocate as much would
    // end the process.
    let limits = connection_limits(|limits| limits.read_buffer_max = usize::MAX).connection;
    event_loop[id].set_limits(limits).unwrap();
    peer.write_all(b"a few").unwrap();
    assert_eq!(next(&mut event_loop), Event::Received(id));
    let mut read = event_loop[id].halves().0;
    assert_eq!(read.take_exact(claimed).unwrap(), None);
    assert_eq!(read.take_line(claimed).unwrap(), None);
    assert_eq!(read.received(), b"a few");
}

// The ends.

#[test]
fn what_is_behind_the_last_ending_is_a_line_at_the_peers_end() {
    let mut fed = Fed::new();
    fed.feed(b"last\r");
    assert_eq!(fed.take(Take::Line(10)), Ok(None));
    fed.end();
    assert_eq!(fed.take(Take::Exact(6)), Err(ErrorKind::UnexpectedEof));
    assert_eq!(fed.take(Take::Line(4)), Err(ErrorKind::InvalidData));
    assert_eq!(fed.take(Take::Line(5)), Ok(Some(b"last".to_vec())));
    assert_eq!(fed.take(Take::Line(5)), Ok(None), "nothing is no line");
    assert_eq!(fed.take(Take::Exact(1)), Err(ErrorKind::UnexpectedEof));
}

#[test]
fn half_a_message_before_a_reset_is_its_error() {
    let (mut event_loop, id, mut peer) = pair::<()>();
    peer.write_all(b"whole\nhal").unwrap();
    assert_eq!(next(&mut event_loop), Event::Received(id));
    reset(peer);
    assert_eq!(until_closed(&mut event_loop, id).1, CloseReason::Reset);
    let mut read = event_loop[id].halves().0;
    assert_eq!(read.take_line(9).unwrap(), Some(&b"whole"[..]));
    for taken in [read.take_line(9).map(drop), read.take_exact(4).map(drop)] {
        assert_eq!(taken.unwrap_err().kind(), ErrorKind::ConnectionReset);
    }
    assert_eq!(read.take_exact(3).unwrap(), Some(&b"hal"[..]), "the bytes are there");
}

/// What was searched for one ending is not taken as searched for another.
#[test]
fn search_for_one_delimiter_hides_no_other() {
    let mut fed = Fed::new();
    fed.feed(b"ab;cd\nef");
    assert_eq!(fed.take(Take::Until(b'!', 9)), Ok(None));
    assert_eq!(fed.take(Take::Until(b';', 9)), Ok(Some(b"ab;".to_vec())));
    assert_eq!(fed.take(Take::Until(b'!', 9)), Ok(None));
    assert_eq!(fed.take(Take::Line(9)), Ok(Some(b"cd".to_vec())));
    // `read_line` and its kin search in the same way.
    let stream = &mut fed.event_loop[fed.id];
    assert_eq!(stream.read_line(&mut String::new()).unwrap_err().kind(), ErrorKind::WouldBlock);
    fed.feed(b";\n");
    let mut line = String::new();
    fed.event_loop[fed.id].read_line(&mut line).unwrap();
    assert_eq!(line, "ef;\n");
}

// Both directions at once.

/// A filter that compiles only if both directions can be used together.
fn answer(connection: &mut readiness::Connection<Vec<usize>>) -> io::Result<()> {
    let (lengths, stream) = connection.split();
    let (mut read, mut write) = stream.halves();
    while let Some(line) = read.take_line(100)? {
        lengths.push(line.len());
        write.send(line);
        write.write_all(b"\n")?;
    }
    Ok(())
}

#[test]
fn received_bytes_are_sent_while_they_are_borrowed() {
    let (mut event_loop, id, mut peer) = pair::<Vec<usize>>();
    peer.write_all(b"raw").unwrap();
    assert_eq!(next(&mut event_loop), Event::Received(id));
    let (mut read, mut write) = event_loop[id].halves();
    write.send(read.received());
    assert_eq!((read.received(), write.unsent()), (&b"raw"[..], 3));
    let count = read.received().len();
    read.consume(count);
    turns(&mut event_loop, 1);

    peer.write_all(b"one\r\n\nthree\nha").unwrap();
    assert_eq!(next(&mut event_loop), Event::Received(id));
    event_loop[id].attend(answer);
    assert_eq!(event_loop[id].data, [3, 0, 5]);
    assert_eq!(event_loop[id].received(), b"ha");
    turns(&mut event_loop, 1);
    let mut answers = [0; 14];
    peer.read_exact(&mut answers).unwrap();
    assert_eq!(&answers, b"rawone\n\nthree\n");
}

/// What the write half does, the stream does too.
#[test]
fn write_half_ends_and_pauses_the_connection() {
    let (mut event_loop, id, mut peer) = pair::<()>();
    peer.write_all(b"x").unwrap();
    event_loop[id].halves().1.pause();
    assert_eq!(turns(&mut event_loop, 5), []);
    event_loop[id].resume();
    assert_eq!(next(&mut event_loop), Event::Received(id));
    let (_, mut write) = event_loop[id].halves();
    write.send(&pattern(0, 100));
    assert!(!write.is_clogged());
    write.finish();
    assert!(write.is_clogged(), "no more can be sent");
    write.send(b"late");
    assert_eq!(write.lost(), 4);
    turns(&mut event_loop, 1);
    let mut bytes = Vec::new();
    peer.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, pattern(0, 100));
    event_loop[id].halves().1.abort();
    assert_eq!(until_closed(&mut event_loop, id).1, CloseReason::Aborted);

    let (mut event_loop, id, peer) = pair::<()>();
    event_loop[id].halves().1.close();
    drop(peer);
    assert_eq!(until_closed(&mut event_loop, id).1, CloseReason::Closed);

    for end in [true, false] {
        let (mut event_loop, id, peer) = pair::<()>();
        let (_, mut write) = event_loop[id].halves();
        match end {
            true => write.close_with(ErrorKind::PermissionDenied),
            false => write.abort_with(ErrorKind::PermissionDenied),
        }
        drop(peer);
        let expected = CloseReason::Rejected(ErrorKind::PermissionDenied.into());
        assert_eq!(until_closed(&mut event_loop, id).1, expected);
    }
}

/// A full read buffer of which a half has taken something is not full any more, though the half was
/// lent while it was.
#[test]
fn rest_of_a_full_buffer_is_incomplete_and_not_too_long_for_a_half_that_stays_lent() {
    let limits = connection_limits(|limits| limits.read_buffer_max = BUFFER);
    let (mut server, id, mut peer) = pair_with::<()>(limits);
    // Two lines and a piece fill the buffer just so, and the socket holds more.
    peer.write_all(b"one\ntwo\nthree is long\nend\n").unwrap();
    let mut lines = Vec::new();
    while lines.len() < 4 {
        let event = next(&mut server);
        assert_eq!(event, Event::Received(id));
        let (mut read, _) = server[id].halves();
        let outcome = loop {
            let mut line = String::new();
            match read.read_line(&mut line) {
                Ok(_) => lines.push(line),
                Err(error) => break error.kind(),
            }
        };
        assert_eq!(outcome, ErrorKind::WouldBlock, "after {lines:?}");
    }
    assert_eq!(lines, ["one\n", "two\n", "three is long\n", "end\n"]);
}
