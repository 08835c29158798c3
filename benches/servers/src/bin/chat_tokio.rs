//! tokio, as a chat room: what the example `chat_server` does, as one would write it with tokio.
//!
//! Each member has two tasks and a bounded queue between the room and the task that writes. What
//! has gathered in the queue leaves in one write. A member that says something waits, for up to a
//! second, where another member's queue is full.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use readiness_benches_servers::listener;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{Receiver, Sender, channel, error::TrySendError};
use tokio::task::{LocalSet, spawn_local};
use tokio::time::timeout;

const LINE_MAX: u64 = 1000;
/// How many lines wait for a member.
const QUEUE: usize = 1024;
const PATIENCE: Duration = Duration::from_secs(1);
const STALLED: Duration = Duration::from_secs(10);

type Line = Rc<[u8]>;

/// The members by their names in lower case.
type Room = Rc<RefCell<BTreeMap<String, (String, Sender<Line>)>>>;

fn main() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async {
        let listener = TcpListener::from_std(listener()?)?;
        let room = Room::default();
        loop {
            let (socket, _) = listener.accept().await?;
            spawn_local(serve(socket, room.clone()));
        }
    })
}

async fn serve(socket: TcpStream, room: Room) -> io::Result<()> {
    let (read, write) = socket.into_split();
    let (to, lines) = channel(QUEUE);
    spawn_local(deliver(write, lines));
    let mut name = None;
    let outcome = hear(BufReader::new(read), &mut name, &to, &room).await;
    if let Some(name) = name {
        room.borrow_mut().remove(&name.to_lowercase());
        tell(&room, &["* ", &name, " left"]).await;
    }
    outcome
}

async fn hear(
    mut read: BufReader<OwnedReadHalf>,
    name: &mut Option<String>,
    to: &Sender<Line>,
    room: &Room,
) -> io::Result<()> {
    let mut line = Vec::new();
    answer(to, "What is your name?").await;
    loop {
        line.clear();
        if (&mut read).take(LINE_MAX).read_until(b'\n', &mut line).await? == 0 {
            return Ok(());
        }
        if !line.ends_with(b"\n") && line.len() as u64 == LINE_MAX {
            answer(to, "! A line has 1000 bytes at most").await;
            return Err(io::ErrorKind::InvalidData.into());
        }
        let text = printable(line.trim_ascii_end());
        let Some(own) = name else {
            rename(text.trim(), name, to, room).await;
            continue;
        };
        match text.split_once(' ').unwrap_or((&text, "")) {
            ("/nick", wanted) => rename(wanted.trim(), name, to, room).await,
            ("/quit", _) => return Ok(()),
            ("/who", _) => {
                let names: Vec<String> =
                    room.borrow().values().map(|(name, _)| name.clone()).collect();
                answer(to, &format!("* {} here: {}", names.len(), names.join(", "))).await;
            }
            (word, _) if word.starts_with('/') => {
                answer(to, "! There are only /who, /nick NAME and /quit").await;
            }
            _ if text.is_empty() => {}
            _ => tell(room, &[own, ": ", &text]).await,
        }
    }
}

async fn rename(wanted: &str, name: &mut Option<String>, to: &Sender<Line>, room: &Room) {
    let is_in_name = |letter: char| letter.is_alphanumeric() || "-_".contains(letter);
    let key = wanted.to_lowercase();
    if !(1..=20).contains(&wanted.chars().count()) || !wanted.chars().all(is_in_name) {
        return answer(to, "! A name has 1 to 20 letters, digits, - and _: try another").await;
    }
    let own = name.as_ref().map(|name| name.to_lowercase());
    if own.as_ref() != Some(&key) && room.borrow().contains_key(&key) {
        return answer(to, "! Somebody here has that name: try another").await;
    }
    let before = name.replace(wanted.to_owned());
    if let Some(own) = own {
        room.borrow_mut().remove(&own);
    }
    room.borrow_mut().insert(key, (wanted.to_owned(), to.clone()));
    match before {
        Some(before) => tell(room, &["* ", &before, " is now ", wanted]).await,
        None => tell(room, &["* ", wanted, " joined"]).await,
    }
}

/// Sends a line to one member.
async fn answer(to: &Sender<Line>, line: &str) {
    let line = [line.as_bytes(), b"\n"].concat();
    let _ = to.send_timeout(line.into(), PATIENCE).await;
}

/// Sends a line to all, and waits for the members whose queue is full.
async fn tell(room: &Room, parts: &[&str]) {
    let mut line = parts.concat().into_bytes();
    line.push(b'\n');
    let line: Line = line.into();
    let full: Vec<Sender<Line>> = room
        .borrow()
        .values()
        .filter(|(_, to)| matches!(to.try_send(line.clone()), Err(TrySendError::Full(_))))
        .map(|(_, to)| to.clone())
        .collect();
    for to in full {
        let _ = to.send_timeout(line.clone(), PATIENCE).await;
    }
}

/// Writes what has gathered for a member, all of it at once.
async fn deliver(mut write: OwnedWriteHalf, mut lines: Receiver<Line>) -> io::Result<()> {
    let (mut batch, mut bytes) = (Vec::new(), Vec::new());
    while lines.recv_many(&mut batch, QUEUE).await > 0 {
        bytes.clear();
        batch.drain(..).for_each(|line| bytes.extend_from_slice(&line));
        timeout(STALLED, write.write_all(&bytes)).await??;
    }
    Ok(())
}

fn printable(line: &[u8]) -> Cow<'_, str> {
    let steers = |letter: char| {
        letter.is_control() || matches!(letter, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let line = String::from_utf8_lossy(line);
    if !line.contains(steers) {
        return line;
    }
    line.replace('\t', " ").replace(steers, "\u{fffd}").into()
}
