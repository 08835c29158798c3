//! Many clients in a process of their own, so that their descriptors and memory are not the
//! server's nor the test's.
//!
//! They bind to addresses all over 127.0.0.0/8, a few thousand to each, so that none runs out of
//! ports.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::Receiver;

use socket2::{Domain, Socket, Type};

use super::child::{self, Child};
use super::measure;
use super::{PATIENCE, reset};

/// How many clients share an address of their own.
const TO_EACH_ADDRESS: usize = 2_000;

/// The parent's end of a crowd.
pub struct Crowd {
    child: Child,
}

impl Crowd {
    /// Starts a crowd without members for one test, after the shell has done what `before` says.
    pub fn start(test: &str, before: &str) -> Self {
        let mut child = Child::start(test, before);
        child.say("crowd");
        child.report("gathers");
        Self { child }
    }

    /// Connects `count` more members, each with a receive buffer of `receive_buffer` bytes if
    /// given.
    pub fn connect(&mut self, address: SocketAddr, count: usize, receive_buffer: Option<usize>) {
        let size = receive_buffer.unwrap_or(0);
        self.child.say(&format!("connect {address} {count} {size}"));
        self.child.report("connected");
    }

    /// Sends `count` bytes from each member, none of which ends a line.
    pub fn send(&mut self, count: usize) {
        self.child.say(&format!("send {count}"));
        self.child.report("sent");
    }

    /// Connects `count` members one after the other, each of which leaves at once. Of ten, five
    /// reset without looking at the answer, four look and reset, and one looks and ends as it
    /// should.
    pub fn come_and_go(&mut self, address: SocketAddr, count: usize) {
        self.child.say(&format!("come {address} {count}"));
        self.child.report("gone");
    }

    pub fn descriptors_max(&self) -> usize {
        measure::descriptors_max(self.child.id())
    }
}

/// In the child: does what the parent says until it has ended.
pub fn play(commands: &Receiver<String>) {
    child::report("gathers", "");
    let mut members = Vec::new();
    let mut come = 0;
    for command in commands {
        let words: Vec<&str> = command.split_whitespace().collect();
        let number = |place: usize| words[place].parse::<usize>().unwrap();
        match words[0] {
            "connect" => {
                let address = words[1].parse().unwrap();
                for _ in 0..number(2) {
                    members.push(client(address, members.len(), number(3)));
                }
                child::report("connected", members.len());
            }
            "send" => {
                let bytes = vec![b'x'; number(1)];
                for member in &mut members {
                    member.write_all(&bytes).unwrap();
                }
                child::report("sent", bytes.len());
            }
            "come" => {
                let address = words[1].parse().unwrap();
                for _ in 0..number(2) {
                    come_and_go(address, come);
                    come += 1;
                }
                child::report("gone", come);
            }
            other => panic!("a crowd cannot {other}"),
        }
    }
}

fn client(address: SocketAddr, number: usize, receive_buffer: usize) -> TcpStream {
    let place = u8::try_from(number / TO_EACH_ADDRESS % 250).unwrap();
    let own = SocketAddr::from(([127, 0, 1, 1 + place], 0));
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    if receive_buffer > 0 {
        socket.set_recv_buffer_size(receive_buffer).unwrap();
    }
    socket.bind(&own.into()).unwrap();
    socket.connect(&address.into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn come_and_go(address: SocketAddr, number: usize) {
    const MESSAGE: [u8; 64] = [9; 64];
    let mut stream = client(address, number, 0);
    stream.write_all(&MESSAGE).unwrap();
    if number.is_multiple_of(2) {
        return reset(stream);
    }
    let mut answer = [0; 64];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer, MESSAGE);
    if number % 10 == 1 { drop(stream) } else { reset(stream) }
}
