//! The server: clients, transactions, what clients are subscribed to, and what they can ask about
//! each other.
//!
//! [`Server::handle`] takes one event of a loop, be it a simulated one. All requests that have
//! arrived are answered at once, and their replies leave together. What a request sends to other
//! clients leaves behind that.
//!
//! A client may send many requests before it reads a reply. With 32 MiB unsent it is answered no
//! further until it has read most of them. A client that reads nothing for a minute is cut. So is
//! one that has 64 MiB unsent at once: a slow subscriber or monitor, which holds up no other
//! client. Those are the output buffer limits of Redis.

use std::collections::{BTreeSet, HashMap};
use std::io::{self, ErrorKind};
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use readiness::{Connection, ConnectionId, Event, EventLoop, Limits, Step, TimerId};

use crate::commands::{COMMANDS, Command, SYNTAX_ERROR, find, number, wrong_number};
use crate::resp::{Outcome, Parser, REQUEST_MAX, Replies, integer};
use crate::store::{Store, matches};

/// Unsent bytes at which a client is cut, and half of which it may cause itself.
const UNSENT_MAX: usize = 64 * 1024 * 1024;
/// How much is sent to others before a client is answered further.
const OUTGOING_MAX: usize = 64;
/// Replies that are gathered before they are sent.
const GATHERED: usize = 64 * 1024;
/// How many expired keys are removed at once, so that clients are served in between.
const EXPIRED_AT_ONCE: usize = 1000;
/// What a client may use while it is subscribed, apart from subscribing.
const FOR_ALL: [&str; 3] = ["ping", "quit", "reset"];
/// What is not part of a transaction.
const AT_ONCE: [&str; 5] = ["multi", "exec", "discard", "quit", "reset"];
/// What is no business of monitors.
const SECRET: [&str; 5] = ["exec", "monitor", "config|get", "client|list", "client|kill"];
const SETTINGS: [[&str; 2]; 3] = [["appendonly", "no"], ["databases", "1"], ["save", ""]];
/// What the loop has done, as `INFO` shows it.
const COUNTED: [&str; 5] = ["waits", "fills", "bytes_in", "flushes", "bytes_out"];

pub(crate) fn limits() -> Limits {
    let mut limits = Limits::default();
    let connection = &mut limits.connection;
    (connection.read_buffer_max, connection.reads_while_unsent) = (REQUEST_MAX, true);
    (connection.high_water, connection.unsent_max) = (UNSENT_MAX / 2, UNSENT_MAX);
    connection.low_water = UNSENT_MAX / 64;
    // For one that goes on sending what is no request.
    connection.close_deadline = Duration::from_secs(5);
    limits
}

pub(crate) type Clients = EventLoop<Client>;

/// The kinds of topics: channels, patterns, and for monitors a single one.
const MONITOR: usize = 2;
type Topic = Vec<u8>;
type Request = (&'static Command, Vec<Vec<u8>>);

/// Each connection's data.
#[derive(Default)]
pub(crate) struct Client {
    parser: Parser,
    session: Session,
}

/// What a client's commands have set.
#[derive(Default)]
struct Session {
    number: i64,
    name: Vec<u8>,
    last_command: &'static str,
    /// What it is sent without asking, by kinds.
    topics: [BTreeSet<Topic>; 3],
    /// The requests of a transaction while there is one, or that it has failed.
    queue: Option<Result<Vec<Request>, ()>>,
    is_leaving: bool,
}

impl Session {
    fn subscription_count(&self) -> usize {
        self.topics[..MONITOR].iter().map(BTreeSet::len).sum()
    }
}

pub(crate) struct Server {
    store: Store,
    /// Which clients want each topic, by kinds.
    topics: [HashMap<Topic, BTreeSet<ConnectionId>>; 3],
    /// What is to be sent to other clients, once a client is answered.
    outgoing: Vec<(Vec<ConnectionId>, Vec<u8>)>,
    /// The one timer, and the time for which it is set.
    timer: Option<(TimerId, Instant)>,
    counters: Arc<[AtomicUsize; 5]>,
    accepted: i64,
    requests: u64,
    /// Kept for their memory.
    replies: Replies,
    words: Vec<&'static [u8]>,
}

impl Server {
    pub(crate) fn new(clients: &mut Clients) -> Self {
        let (topics, outgoing, timer, replies, words) = Default::default();
        let (store, counters) = (Store::new(clients.now()), Arc::default());
        let seen = Arc::clone(&counters);
        clients.set_observer(move |step: Step| count_step(&seen, step));
        let (accepted, requests) = (0, 0);
        Self { store, topics, outgoing, timer, counters, accepted, requests, replies, words }
    }

    /// Handles one event; all are to be passed here.
    pub(crate) fn handle(&mut self, clients: &mut Clients, event: Event) {
        self.store.now = clients.now();
        match event {
            Event::Accepted(_, id) => {
                self.accepted += 1;
                clients[id].data.session.number = self.accepted;
            }
            Event::Received(id) => self.answer_all(clients, id),
            Event::Drained(id) => clients[id].resume(),
            Event::Closed(id, _) => self.forget(&mut clients[id].data.session, id),
            Event::Timer(id) if self.timer.is_some_and(|(timer, _)| timer == id) => {
                self.timer = None;
                self.store.remove_expired(EXPIRED_AT_ONCE);
            }
            _ => return,
        }
        let Some(next) = self.store.next_expiry() else { return };
        if self.timer.is_none_or(|(_, at)| at > next) {
            self.timer.map(|(timer, _)| clients.cancel_timer(timer));
            let after = next.saturating_duration_since(self.store.now);
            self.timer = Some((clients.set_timer(after), next));
        }
    }

    /// Answers the requests of a client that have arrived.
    fn answer_all(&mut self, clients: &mut Clients, id: ConnectionId) {
        let mut outcome = Ok(true);
        // What is left is announced again: at once, or when it has drained.
        while outcome == Ok(true)
            && !clients[id].data.session.is_leaving
            && !clients[id].is_clogged()
            && self.outgoing.len() < OUTGOING_MAX
        {
            outcome = self.answer_next(clients, id);
            if self.replies.0.len() > GATHERED {
                clients[id].send(&self.replies.0);
                self.replies.0.clear();
            }
        }
        let client = &mut clients[id];
        if let Err(why) = &outcome {
            self.replies.error(&[b"ERR Protocol error: ", &**why].concat());
        }
        client.send(&self.replies.0);
        self.replies.0.clear();
        self.replies.0.shrink_to(2 * GATHERED);
        if client.data.session.is_leaving {
            client.close();
        } else if client.is_clogged() && client.unsent() > 0 {
            client.pause();
        }
        client.attend(|_| match outcome {
            Ok(_) => Ok(()),
            Err(why) => Err(io::Error::new(ErrorKind::InvalidData, String::from_utf8_lossy(&why))),
        });
        for (ids, bytes) in self.outgoing.drain(..) {
            clients.send_each(ids, &bytes);
        }
    }

    /// Answers the request at the front of the read buffer. Returns whether it is there, or how it
    /// violates the protocol.
    fn answer_next(&mut self, clients: &mut Clients, id: ConnectionId) -> Outcome<bool> {
        let (client, stream) = clients[id].split();
        let (mut read, _) = stream.halves();
        let Some(length) = client.parser.next(&mut read)? else { return Ok(false) };
        let mut words: Vec<&[u8]> = mem::take(&mut self.words);
        words.extend(client.parser.words(read.received()));
        let left = self.run_on_keys(&words, &mut client.session).unwrap_or_else(|why| {
            self.replies.error(&why);
            None
        });
        let owned = |command| (command, words.iter().map(|word| word.to_vec()).collect());
        let request: Option<Request> = left.map(owned);
        self.words = emptied(words);
        read.consume(length);
        if let Some(request) = request {
            self.run(request, clients, id);
        }
        Ok(true)
    }

    /// Runs a request on its words where they lie, if it needs the keys alone and nobody watches.
    /// Returns the command of any other.
    fn run_on_keys(
        &mut self,
        words: &[&[u8]],
        session: &mut Session,
    ) -> Outcome<Option<&'static Command>> {
        if words.is_empty() {
            return Ok(None);
        }
        let is_subscribed = session.subscription_count() > 0;
        let command = admit(words, is_subscribed)
            .inspect_err(|_| session.queue = session.queue.take().map(|_| Err(())))?;
        self.requests += 1;
        session.last_command = command.0;
        let is_watched = is_subscribed || !self.topics[MONITOR].is_empty();
        let is_done = !is_watched
            && session.queue.is_none()
            && self.store.run(command.0, &words[1..], &mut self.replies)?;
        Ok((!is_done).then_some(command))
    }

    /// Runs a request that may need other clients, or keeps it for the end of a transaction.
    fn run(&mut self, request: Request, clients: &mut Clients, id: ConnectionId) {
        match &mut clients[id].data.session.queue {
            Some(queue) if !AT_ONCE.contains(&request.0.0) => {
                queue.iter_mut().for_each(|requests| requests.push(request.clone()));
                self.replies.simple("QUEUED");
            }
            _ => self.execute(&request, clients, id),
        }
    }

    fn execute(&mut self, (command, words): &Request, clients: &mut Clients, id: ConnectionId) {
        let words: Vec<&[u8]> = words.iter().map(|word| &**word).collect();
        let monitors = self.topics[MONITOR].get(&b""[..]);
        if let Some(monitors) = monitors.filter(|_| !SECRET.contains(&command.0)) {
            let line = monitored(&words, &clients[id]);
            self.outgoing.push((monitors.iter().copied().collect(), line));
        }
        if let Err(why) = self.call(command.0, &words[1..], clients, id) {
            self.replies.error(&why);
        }
    }

    /// Runs a command that is not about keys alone.
    fn call(
        &mut self,
        name: &str,
        words: &[&[u8]],
        clients: &mut Clients,
        id: ConnectionId,
    ) -> Outcome {
        let (out, session) = (&mut self.replies, &mut clients[id].data.session);
        match (name, words) {
            ("ping", [] | [_]) if session.subscription_count() > 0 => {
                out.bulks(&[b"pong", words.first().copied().unwrap_or_default()]);
            }
            ("ping", [_, _, ..]) => return Err(wrong_number(name)),
            ("select", [index]) if number(index)? != 0 => {
                return Err("ERR DB index is out of range".into());
            }
            ("select" | "client|setinfo", _) => out.simple("OK"),
            // Clients then go on with RESP2.
            ("hello", _) => return Err("NOPROTO unsupported protocol version".into()),
            ("quit", _) => {
                session.is_leaving = true;
                out.simple("OK");
            }
            ("reset", _) => {
                out.simple("RESET");
                self.forget(session, id);
                *session = Session { number: session.number, ..Session::default() };
            }
            ("multi", _) if session.queue.is_some() => {
                return Err("ERR MULTI calls can not be nested".into());
            }
            ("multi", _) => {
                session.queue = Some(Ok(Vec::new()));
                out.simple("OK");
            }
            ("discard", _) => {
                session.queue.take().ok_or("ERR DISCARD without MULTI")?.ok();
                out.simple("OK");
            }
            ("exec", _) => self.exec(clients, id)?,
            ("monitor", _) => {
                out.simple("OK");
                self.subscribe(MONITOR, b"", session, id);
            }
            ("publish", [channel, message]) => self.publish(channel, message),
            _ if name.ends_with("subscribe") => self.change_topics(name, words, session, id),
            _ if self.store.run(name, words, out)? => {}
            _ => self.tell(name, words, clients, id)?,
        }
        Ok(())
    }

    /// Runs a command that asks about the server, or about a client.
    fn tell(
        &mut self,
        name: &str,
        words: &[&[u8]],
        clients: &mut Clients,
        id: ConnectionId,
    ) -> Outcome {
        let (out, session) = (&mut self.replies, &mut clients[id].data.session);
        match (name, words) {
            ("client|id", _) => out.number(session.number),
            ("client|getname", _) if session.name.is_empty() => out.nil(),
            ("client|getname", _) => out.bulk(&session.name),
            ("client|setname", [_, name]) if name.iter().all(u8::is_ascii_graphic) => {
                session.name = name.to_vec();
                out.simple("OK");
            }
            ("client|setname", _) => {
                let why = "ERR Client names cannot contain spaces, newlines or special characters.";
                return Err(why.into());
            }
            ("client|list", _) => out.bulk(list(clients)),
            ("client|kill", [_, filter @ ..]) => match (kill(clients, id, filter)?, filter) {
                (0, [_]) => return Err("ERR No such client".into()),
                (_, [_]) => out.simple("OK"),
                (count, _) => out.number(count),
            },
            ("command|count", _) => out.number(COMMANDS.len()),
            ("command|docs" | "command|info", _) => out.array(0),
            ("command", _) => {
                out.array(COMMANDS.len());
                COMMANDS.iter().for_each(|command| describe(out, command));
            }
            ("config|get", [_, names @ ..]) => {
                let is_asked = |name: &str| names.iter().any(|it| matches(it, name.as_bytes()));
                let found = SETTINGS.iter().filter(|[name, _]| is_asked(name)).flatten();
                out.bulks(&found.map(|text| text.as_bytes()).collect::<Vec<_>>());
            }
            ("info", _) => {
                let info = self.info(clients);
                self.replies.bulk(info);
            }
            _ => {}
        }
        Ok(())
    }

    fn exec(&mut self, clients: &mut Clients, id: ConnectionId) -> Outcome {
        let requests = clients[id].data.session.queue.take().ok_or("ERR EXEC without MULTI")?;
        let failed = "EXECABORT Transaction discarded because of previous errors.";
        let requests = requests.map_err(|()| failed)?;
        self.replies.array(requests.len());
        for request in requests {
            self.execute(&request, clients, id);
            if self.replies.0.len() > UNSENT_MAX {
                clients[id].data.session.is_leaving = true;
                break;
            }
        }
        Ok(())
    }

    // Publish and subscribe.

    fn subscribe(&mut self, kind: usize, topic: &[u8], session: &mut Session, id: ConnectionId) {
        session.topics[kind].insert(topic.into());
        self.topics[kind].entry(topic.into()).or_default().insert(id);
    }

    fn unsubscribe(&mut self, kind: usize, topic: &[u8], session: &mut Session, id: ConnectionId) {
        session.topics[kind].remove(topic);
        let Some(listeners) = self.topics[kind].get_mut(topic) else { return };
        listeners.remove(&id);
        if listeners.is_empty() {
            self.topics[kind].remove(topic);
        }
    }

    fn forget(&mut self, session: &mut Session, id: ConnectionId) {
        for (kind, topics) in mem::take(&mut session.topics).iter().enumerate() {
            topics.iter().for_each(|topic| self.unsubscribe(kind, topic, session, id));
        }
    }

    /// Subscribes to topics, or no longer to those named, or to any.
    fn change_topics(
        &mut self,
        name: &str,
        words: &[&[u8]],
        session: &mut Session,
        id: ConnectionId,
    ) {
        let (kind, ends) = (usize::from(name.starts_with('p')), name.ends_with("unsubscribe"));
        let mut topics: Vec<Option<Topic>> = words.iter().map(|word| Some(word.to_vec())).collect();
        if topics.is_empty() {
            topics = session.topics[kind].iter().cloned().map(Some).collect();
            topics.extend(topics.is_empty().then_some(None));
        }
        for topic in topics {
            match &topic {
                Some(topic) if ends => self.unsubscribe(kind, topic, session, id),
                Some(topic) => self.subscribe(kind, topic, session, id),
                None => {}
            }
            self.replies.array(3);
            self.replies.bulk(name);
            self.replies.value(topic.as_deref());
            self.replies.number(session.subscription_count());
        }
    }

    fn publish(&mut self, channel: &[u8], message: &[u8]) {
        let mut number = 0;
        let mut send = |listeners: &BTreeSet<ConnectionId>, words: &[&[u8]]| {
            let mut bytes = Replies::default();
            bytes.bulks(words);
            self.outgoing.push((listeners.iter().copied().collect(), bytes.0));
            number += listeners.len();
        };
        if let Some(listeners) = self.topics[0].get(channel) {
            send(listeners, &[b"message", channel, message]);
        }
        for (pattern, listeners) in &self.topics[1] {
            if matches(pattern, channel) {
                send(listeners, &[b"pmessage", pattern, channel, message]);
            }
        }
        self.replies.number(number);
    }

    fn info(&self, clients: &Clients) -> String {
        let (keys, expires) = self.store.counts();
        let counted = COUNTED.iter().zip(&*self.counters);
        let counted = counted.map(|(name, count)| format!("{name}:{count:?}\r\n"));
        format!(
            "# Server\r\nredis_version:7.0.0\r\nserver_name:kv_server\r\n\
             # Clients\r\nconnected_clients:{}\r\n\
             # Stats\r\ntotal_connections_received:{}\r\ntotal_commands_processed:{}\r\n\
             # Keyspace\r\ndb0:keys={keys},expires={expires}\r\n# Loop\r\n{}",
            clients.connection_count(),
            self.accepted,
            self.requests,
            counted.collect::<String>(),
        )
    }
}

/// Checks a request, and returns its command.
fn admit(words: &[&[u8]], is_subscribed: bool) -> Outcome<&'static Command> {
    let command = find(words)?;
    let name = command.0;
    if is_subscribed && !name.ends_with("subscribe") && !FOR_ALL.contains(&name) {
        let why = "only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed";
        return Err(format!("ERR Can't execute '{name}': {why} in this context").into());
    }
    Ok(command)
}

/// Empties a vector and keeps its memory, for words of another life time: it is collected in place.
fn emptied<'n>(mut words: Vec<&[u8]>) -> Vec<&'n [u8]> {
    words.clear();
    words.into_iter().map(|_| &[][..]).collect()
}

/// Closes the clients with an address, or with a number or address. Returns how many those are.
fn kill(clients: &mut Clients, own: ConnectionId, filter: &[&[u8]]) -> Outcome<usize> {
    let (by, value) = match filter {
        [value] => (b"addr".to_vec(), *value),
        [by, value] => (by.to_ascii_lowercase(), *value),
        _ => return Err(SYNTAX_ERROR.into()),
    };
    let number = integer(value).filter(|number| *number > 0);
    match &*by {
        b"id" if number.is_none() => return Err("ERR client-id should be greater than 0".into()),
        b"id" | b"addr" => {}
        _ => return Err(SYNTAX_ERROR.into()),
    }
    let mut count = 0;
    for client in clients.connections_mut() {
        let (is_own, at) = (client.id() == own, address(client));
        let fits = if by == b"id" {
            Some(client.data.session.number) == number
        } else {
            at.as_bytes() == value
        };
        match filter {
            _ if !fits => continue,
            // Of itself it still has the reply.
            [_] if is_own => client.data.session.is_leaving = true,
            _ if is_own => continue,
            _ => client.abort(),
        }
        count += 1;
    }
    Ok(count)
}

fn describe(out: &mut Replies, (name, arity, keys): &Command) {
    out.array(6);
    out.bulk(name);
    out.number(arity);
    out.array(0);
    keys.iter().for_each(|number| out.number(number));
}

/// Returns a request as monitors see it.
fn monitored(words: &[&[u8]], client: &Connection<Client>) -> Vec<u8> {
    let time = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    let words: String = words.iter().map(|word| format!(" \"{}\"", word.escape_ascii())).collect();
    let (seconds, micros) = (time.as_secs(), time.subsec_micros());
    format!("+{seconds}.{micros:06} [0 {}]{words}\r\n", address(client)).into()
}

/// Shows what each client does, and what its connection waits for.
fn list(clients: &Clients) -> String {
    let mut text = String::new();
    for waits in clients.explain().connections {
        let Some(connection) = clients.get(waits.id) else { continue };
        let session = &connection.data.session;
        let Session { number, name, last_command, .. } = session;
        let [channels, patterns, monitors] = session.topics.each_ref().map(BTreeSet::len);
        let (from, name, idle) =
            (address(connection), name.escape_ascii(), waits.unmoved.as_secs());
        let multi = i32::from(session.queue.is_some());
        let flags = match (monitors, channels + patterns, multi) {
            (1.., ..) => "O",
            (_, 1.., _) => "P",
            (.., 1) => "x",
            _ => "N",
        };
        text += &format!(
            "id={number} addr={from} name={name} idle={idle} flags={flags} db=0 sub={channels} \
             psub={patterns} multi={multi} qbuf={} omem={} cmd={last_command} waits={:?}\n",
            waits.received, waits.unsent, waits.waits_for,
        );
    }
    text
}

fn address(client: &Connection<Client>) -> String {
    client.peer_addr().map_or_else(|error| error.to_string(), |address| address.to_string())
}

fn count_step(counters: &[AtomicUsize; 5], step: Step) {
    let counts = match step {
        Step::Waited { .. } => [1, 0, 0, 0, 0],
        Step::Filled { count, .. } => [0, 1, count, 0, 0],
        Step::Flushed { count, .. } => [0, 0, 0, 1, count],
        _ => return,
    };
    for (counter, count) in counters.iter().zip(counts) {
        // Only this thread writes.
        counter.store(counter.load(Ordering::Relaxed) + count, Ordering::Relaxed);
    }
}
