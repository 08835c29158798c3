//! The server: clients, transactions, what clients are subscribed to, and what they can ask about
//! each other.
//!
//! [`Server::handle`] takes one event of a loop, be it a simulated one. All requests that have
//! arrived are answered at once, and their replies leave together. What a request does to other
//! clients happens behind that.
//!
//! A client may send many requests before it reads a reply. With 32 MiB unsent it is answered no
//! further until it has read most of them. A client that reads nothing for a minute is cut, and one
//! that has 64 MiB unsent at once: a subscriber or a monitor that is slow, which holds up nobody.
//! Those are the output buffer limits of Redis.

use std::collections::{BTreeSet, HashMap};
use std::io::{self, ErrorKind};
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Instant, SystemTime};

use readiness::{Connection, ConnectionId, Event, EventLoop, Limits, Step, TimerId};

use crate::commands::{COMMANDS, Command, SYNTAX_ERROR, number, wrong_number};
use crate::resp::Reply::{self, Array, Bulk, Done, Integer, Nil, Simple, Text};
use crate::resp::{
    Answer, OK, Parser, REQUEST_MAX, Refusal, append, append_error, append_line, count, integer,
};
use crate::store::{Store, matches};

/// Unsent bytes at which a client is cut, and half of which it may cause itself.
const UNSENT_MAX: usize = 64 * 1024 * 1024;
/// How much is sent to others before a client is answered further.
const OUTGOING_MAX: usize = 64;
/// Replies that are gathered before they are sent.
const GATHERED: usize = 64 * 1024;
/// How many expired keys are removed at once, so that clients are served in between.
const EXPIRED_AT_ONCE: usize = 1000;
/// What a client may use while it is subscribed, besides subscribing.
const FOR_ALL: [&str; 3] = ["ping", "quit", "reset"];
/// What is not part of a transaction.
const AT_ONCE: [&str; 5] = ["multi", "exec", "discard", "quit", "reset"];
/// What is no business of monitors.
const SECRET: [&str; 3] = ["exec", "monitor", "config"];
const SETTINGS: [[&str; 2]; 3] = [["appendonly", "no"], ["databases", "1"], ["save", ""]];
/// What the loop has done, as `INFO` shows it.
const COUNTED: [&str; 5] = ["waits", "fills", "bytes_in", "flushes", "bytes_out"];

pub(crate) fn limits() -> Limits {
    let mut limits = Limits::default();
    let connection = &mut limits.connection;
    (connection.read_buffer_max, connection.reads_while_unsent) = (REQUEST_MAX, true);
    (connection.high_water, connection.unsent_max) = (UNSENT_MAX / 2, UNSENT_MAX);
    connection.low_water = UNSENT_MAX / 64;
    limits
}

/// Each connection's data, but while it is answered: the request at its front, and what its commands
/// have set.
pub(crate) type Client = Option<Box<(Parser, Session)>>;
pub(crate) type Clients = EventLoop<Client>;

/// The kinds of topics: channels, patterns, and for monitors a single one.
const MONITOR: usize = 2;
type Topic = Vec<u8>;
type Request = (&'static Command, Vec<Vec<u8>>);

#[derive(Default)]
pub(crate) struct Session {
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

/// A request's view of the clients.
struct Call<'c> {
    clients: &'c Clients,
    id: ConnectionId,
    session: &'c mut Session,
    replies: &'c mut Vec<u8>,
}

pub(crate) struct Server {
    store: Store,
    /// Which clients want each topic, by kinds.
    topics: [HashMap<Topic, BTreeSet<ConnectionId>>; 3],
    /// What others are to be sent, and who is to be closed, once a client is answered.
    outgoing: Vec<(Vec<ConnectionId>, Vec<u8>)>,
    killed: Vec<ConnectionId>,
    /// The one timer, and the time for which it is set.
    timer: Option<(TimerId, Instant)>,
    counters: Arc<[AtomicUsize; 5]>,
    accepted: i64,
    requests: u64,
    /// Kept for its memory.
    replies: Vec<u8>,
}

impl Server {
    pub(crate) fn new(clients: &mut Clients) -> Self {
        let (topics, outgoing, killed, timer, replies) = Default::default();
        let (store, counters) = (Store::new(clients.now()), Arc::default());
        let seen = Arc::clone(&counters);
        clients.set_observer(move |step: Step| count_step(&seen, step));
        let (accepted, requests) = (0, 0);
        Self { store, topics, outgoing, killed, timer, counters, accepted, requests, replies }
    }

    /// Handles one event; all are to come here.
    pub(crate) fn handle(&mut self, clients: &mut Clients, event: Event) {
        self.store.now = clients.now();
        match event {
            Event::Accepted(_, id) => {
                self.accepted += 1;
                clients[id].data.get_or_insert_default().1.number = self.accepted;
            }
            Event::Received(id) => self.answer(clients, id),
            Event::Drained(id) => clients[id].resume(),
            Event::Closed(id, _) => {
                if let Some(client) = clients[id].data.take() {
                    self.forget(id, &client.1);
                }
            }
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
    fn answer(&mut self, clients: &mut Clients, id: ConnectionId) {
        // Taken out, so that a command can look at all clients.
        let Some(mut client) = clients[id].data.take() else { return };
        let (parser, session) = &mut *client;
        let mut replies = mem::take(&mut self.replies);
        let mut outcome = Ok(());
        // What is left is announced again: at once, or when it has drained.
        while outcome.is_ok()
            && !session.is_leaving
            && !clients[id].is_clogged()
            && self.outgoing.len() < OUTGOING_MAX
        {
            match parser.next(&mut clients[id].halves().0) {
                Ok(None) => break,
                Ok(Some(length)) => {
                    let words = parser.words(clients[id].received());
                    let replies = &mut replies;
                    self.run(&words, &mut Call { clients, id, session, replies });
                    clients[id].consume(length);
                }
                Err(why) => {
                    append_error(&mut replies, &[b"ERR Protocol error: ", &*why].concat());
                    let why = String::from_utf8_lossy(&why);
                    outcome = Err(io::Error::new(ErrorKind::InvalidData, why));
                }
            }
            if replies.len() > GATHERED {
                clients[id].send(&replies);
                replies.clear();
            }
        }
        clients[id].send(&replies);
        if session.is_leaving {
            clients[id].close();
        } else if clients[id].is_clogged() {
            clients[id].pause();
        }
        clients[id].data = Some(client);
        clients[id].attend(|_| outcome);
        replies.clear();
        replies.shrink_to(2 * GATHERED);
        self.replies = replies;
        for (ids, bytes) in self.outgoing.drain(..) {
            clients.send_each(ids, &bytes);
        }
        for id in self.killed.drain(..) {
            if let Some(client) = clients.get_mut(id) {
                client.abort();
            }
        }
    }

    /// Runs one request, or keeps it for the end of a transaction.
    fn run(&mut self, words: &[&[u8]], call: &mut Call<'_>) {
        if words.is_empty() {
            return;
        }
        match (admit(words, call.session), &mut call.session.queue) {
            (Err(why), queue) => {
                *queue = queue.take().map(|_| Err(()));
                append_error(call.replies, &why);
            }
            (Ok(command), Some(queue)) if !AT_ONCE.contains(&command.0) => {
                if let Ok(requests) = queue {
                    requests.push((command, words.iter().map(|word| word.to_vec()).collect()));
                }
                append(call.replies, &Simple("QUEUED"));
            }
            (Ok(command), _) => self.execute(command, words, call),
        }
    }

    fn execute(&mut self, (name, _, keys): &'static Command, words: &[&[u8]], call: &mut Call<'_>) {
        self.requests += 1;
        call.session.last_command = name;
        let monitors = self.topics[MONITOR].get(&b""[..]).filter(|_| !SECRET.contains(name));
        if let Some(monitors) = monitors {
            let line = monitored(words, &call.clients[call.id]);
            self.outgoing.push((monitors.iter().copied().collect(), line));
        }
        let outcome = match keys {
            [0, ..] => self.call(name, &words[1..], call),
            _ => self.store.run(name, &words[1..]),
        };
        match outcome {
            Ok(reply) => append(call.replies, &reply),
            Err(why) => append_error(call.replies, &why),
        }
    }

    /// Runs a command that is not about keys alone.
    fn call<'v>(&'v mut self, name: &str, words: &'v [&[u8]], call: &mut Call<'_>) -> Answer<'v> {
        Ok(match (name, words) {
            ("ping", [] | [_]) if call.session.subscription_count() > 0 => {
                Array(vec![Bulk(b"pong"), Bulk(words.first().copied().unwrap_or_default())])
            }
            ("ping", []) => Simple("PONG"),
            ("ping" | "echo", [text]) => Bulk(text),
            ("ping", _) => return Err(wrong_number(name)),
            ("select", [index]) if number(index)? == 0 => OK,
            ("select", _) => return Err("ERR DB index is out of range".into()),
            // Clients then go on with RESP2.
            ("hello", _) => return Err("NOPROTO unsupported protocol version".into()),
            ("quit", _) => {
                call.session.is_leaving = true;
                OK
            }
            ("reset", _) => {
                self.forget(call.id, call.session);
                let number = call.session.number;
                *call.session = Session { number, ..Session::default() };
                Simple("RESET")
            }
            ("multi", _) if call.session.queue.is_none() => {
                call.session.queue = Some(Ok(Vec::new()));
                OK
            }
            ("multi", _) => return Err("ERR MULTI calls can not be nested".into()),
            ("discard", _) => {
                call.session.queue.take().map(|_| OK).ok_or("ERR DISCARD without MULTI")?
            }
            ("exec", _) => self.exec(call)?,
            ("monitor", _) => {
                self.subscribe(MONITOR, b"", call);
                OK
            }
            ("publish", [channel, message]) => self.publish(channel, message),
            ("command", [b"count" | b"COUNT"]) => count(COMMANDS.len()),
            ("command", []) => Array(COMMANDS.iter().map(described).collect()),
            ("command", _) => Array(Vec::new()),
            ("config", [b"get" | b"GET", names @ ..]) => {
                let is_asked = |name: &str| names.iter().any(|it| matches(it, name.as_bytes()));
                let found = SETTINGS.iter().filter(|[name, _]| is_asked(name));
                Array(found.flatten().map(|text| Bulk(text.as_bytes())).collect())
            }
            ("client", [what, words @ ..]) => {
                self.client(&what.to_ascii_lowercase(), words, call)?
            }
            ("info", _) => Text(self.info(call.clients).into()),
            _ if name.ends_with("subscribe") => self.change_topics(name, words, call),
            _ => self.store.run(name, words)?,
        })
    }

    fn exec(&mut self, call: &mut Call<'_>) -> Answer<'static> {
        let requests = call.session.queue.take().ok_or("ERR EXEC without MULTI")?;
        let failed = "EXECABORT Transaction discarded because of previous errors.";
        let requests = requests.map_err(|()| failed)?;
        append_line(call.replies, b'*', &requests.len().to_string());
        for (command, words) in requests {
            self.execute(command, &words.iter().map(|word| &**word).collect::<Vec<_>>(), call);
        }
        Ok(Done)
    }

    // Publish and subscribe.

    fn subscribe(&mut self, kind: usize, topic: &[u8], call: &mut Call<'_>) {
        call.session.topics[kind].insert(topic.into());
        self.topics[kind].entry(topic.into()).or_default().insert(call.id);
    }

    fn unsubscribe(&mut self, kind: usize, topic: &[u8], id: ConnectionId) {
        if let Some(listeners) = self.topics[kind].get_mut(topic) {
            listeners.remove(&id);
            if listeners.is_empty() {
                self.topics[kind].remove(topic);
            }
        }
    }

    fn forget(&mut self, id: ConnectionId, session: &Session) {
        for (kind, topics) in session.topics.iter().enumerate() {
            topics.iter().for_each(|topic| self.unsubscribe(kind, topic, id));
        }
    }

    /// Subscribes to topics, or no longer to those named, or to any.
    fn change_topics(
        &mut self,
        name: &str,
        words: &[&[u8]],
        call: &mut Call<'_>,
    ) -> Reply<'static> {
        let (kind, ends) = (usize::from(name.starts_with('p')), name.contains("unsubscribe"));
        let mut topics: Vec<Option<Topic>> = words.iter().map(|word| Some(word.to_vec())).collect();
        if topics.is_empty() {
            topics = call.session.topics[kind].iter().cloned().map(Some).collect();
            topics.extend(topics.is_empty().then_some(None));
        }
        for topic in topics.iter().map(Option::as_deref) {
            match topic {
                Some(topic) if ends => {
                    call.session.topics[kind].remove(topic);
                    self.unsubscribe(kind, topic, call.id);
                }
                Some(topic) => self.subscribe(kind, topic, call),
                None => {}
            }
            let number = count(call.session.subscription_count());
            let row = vec![Bulk(name.as_bytes()), topic.map_or(Nil, Bulk), number];
            append(call.replies, &Array(row));
        }
        Done
    }

    fn publish(&mut self, channel: &[u8], message: &[u8]) -> Reply<'static> {
        let named = self.topics[0].get(channel);
        let named = named.map(|ids| (ids, [b"message", channel, message].map(Bulk).into()));
        let fitting = self.topics[1].iter().filter(|(pattern, _)| matches(pattern, channel));
        let fitting = fitting.map(|(pattern, ids)| {
            (ids, [b"pmessage", &**pattern, channel, message].map(Bulk).into())
        });
        let mut number = 0;
        for (ids, frame) in named.into_iter().chain(fitting) {
            let mut bytes = Vec::new();
            append(&mut bytes, &Array(frame));
            self.outgoing.push((ids.iter().copied().collect(), bytes));
            number += ids.len();
        }
        count(number)
    }

    // What clients can ask about each other, and about the server.

    fn client(&mut self, what: &[u8], words: &[&[u8]], call: &mut Call<'_>) -> Answer<'static> {
        Ok(match (what, words) {
            (b"id", []) => Integer(call.session.number),
            (b"getname", []) if call.session.name.is_empty() => Nil,
            (b"getname", []) => Text(call.session.name.clone()),
            (b"setname", [name]) if name.iter().all(u8::is_ascii_graphic) => {
                call.session.name = name.to_vec();
                OK
            }
            (b"setname", [_]) => {
                let why = "ERR Client names cannot contain spaces, newlines or special characters.";
                return Err(why.into());
            }
            (b"setinfo", [_, _]) => OK,
            (b"list", []) => Text(list(call).into()),
            (b"kill", [address]) => match self.kill(b"addr", address, call)? {
                0 => return Err("ERR No such client".into()),
                _ => OK,
            },
            (b"kill", [by, value]) => count(self.kill(&by.to_ascii_lowercase(), value, call)?),
            _ => {
                let what = String::from_utf8_lossy(what);
                let is_known = ["id", "getname", "setname", "setinfo", "list", "kill"];
                return Err(match is_known.contains(&&*what) {
                    true => wrong_number(&format!("client|{what}")),
                    false => format!("ERR unknown subcommand '{what}'. Try CLIENT HELP.").into(),
                });
            }
        })
    }

    /// Closes the clients with this number or address. Returns how many those are.
    fn kill(&mut self, by: &[u8], value: &[u8], call: &mut Call<'_>) -> Result<usize, Refusal> {
        let number = integer(value).filter(|number| *number > 0);
        match by {
            b"id" if number.is_none() => {
                return Err("ERR client-id should be greater than 0".into());
            }
            b"id" | b"addr" => {}
            _ => return Err(SYNTAX_ERROR.into()),
        }
        let fits = |client: &&Connection<Client>| match by {
            b"id" => client.data.as_ref().map(|data| data.1.number) == number,
            _ => address(client).as_bytes() == value,
        };
        let fitting = call.clients.connections().filter(fits).map(|client| client.id());
        let fitting: Vec<ConnectionId> = fitting.collect();
        // Of itself it still has the reply.
        call.session.is_leaving |= fitting.contains(&call.id);
        self.killed.extend(fitting.iter().filter(|id| **id != call.id));
        Ok(fitting.len())
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
fn admit(words: &[&[u8]], session: &Session) -> Result<&'static Command, Refusal> {
    let is_named = |known: &&Command| known.0.as_bytes().eq_ignore_ascii_case(words[0]);
    let Some(command) = COMMANDS.iter().find(is_named) else {
        let quoted = words[1..].iter().flat_map(|word| [b"'", *word, b"' "].concat());
        let quoted: Vec<u8> = quoted.take(128).collect();
        let name = &words[0][..words[0].len().min(128)];
        return Err(
            [b"ERR unknown command '", name, b"', with args beginning with: ", &quoted].concat()
        );
    };
    let (name, arity, _) = command;
    let least = usize::from(arity.unsigned_abs());
    if words.len() < least || *arity > 0 && words.len() > least {
        return Err(wrong_number(name));
    }
    let is_subscribed = session.subscription_count() > 0;
    if is_subscribed && !name.ends_with("subscribe") && !FOR_ALL.contains(name) {
        let why = "only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed";
        return Err(format!("ERR Can't execute '{name}': {why} in this context").into());
    }
    Ok(command)
}

fn described((name, arity, keys): &Command) -> Reply<'_> {
    let mut row = vec![Bulk(name.as_bytes()), Integer((*arity).into()), Array(Vec::new())];
    row.extend(keys.map(|number| Integer(number.into())));
    Array(row)
}

/// A request as monitors see it.
fn monitored(words: &[&[u8]], client: &Connection<Client>) -> Vec<u8> {
    let time = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    let words: String = words.iter().map(|word| format!(" \"{}\"", word.escape_ascii())).collect();
    let (seconds, micros) = (time.as_secs(), time.subsec_micros());
    format!("+{seconds}.{micros:06} [0 {}]{words}\r\n", address(client)).into()
}

/// Shows what each client does, and what its connection waits for.
fn list(call: &Call<'_>) -> String {
    let mut text = String::new();
    for waits in call.clients.explain().connections {
        let Some(client) = call.clients.get(waits.id) else { continue };
        // The data of the one that asks is not in its place now.
        let own = (waits.id == call.id).then_some(&*call.session);
        let session = client.data.as_ref().map(|data| &data.1).or(own);
        let Some(session) = session else { continue };
        let [channels, patterns, monitors] = session.topics.each_ref().map(BTreeSet::len);
        text.push_str(&format!(
            "id={} addr={} name={} idle={} db=0 sub={channels} psub={patterns} monitor={monitors} \
             multi={} qbuf={} omem={} cmd={} waits={:?}\n",
            session.number,
            address(client),
            session.name.escape_ascii(),
            waits.unmoved.as_secs(),
            i32::from(session.queue.is_some()),
            waits.received,
            waits.unsent,
            session.last_command,
            waits.waits_for,
        ));
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
