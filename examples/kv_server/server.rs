//! The server: clients, transactions, what clients are subscribed to, and what they can ask about
//! each other.
//!
//! [`Server::handle`] takes one event of a loop, be it a simulated one. All requests that have
//! arrived are answered at once, and their replies leave together.
//!
//! A client may send many requests before it reads a reply. With 32 MiB unsent it is answered no
//! further until it has read most of them. A client that reads nothing for a minute is cut. So is
//! one that has 64 MiB unsent at once: a slow subscriber or monitor, which holds up no other
//! client. Those are the output buffer limits of Redis.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::mem;
use std::time::{Duration, Instant, SystemTime};

use readiness::{
    Connection, ConnectionId as Id, ConnectionWaits, Event, EventLoop, Limits, Metrics, Stream,
    TimerId,
};

use crate::commands::{Command, SYNTAX_ERROR, commands, find, number};
use crate::resp::{Outcome, Parser, REPLY_MAX, REQUEST_MAX, Replies, integer};
use crate::store::{Store, matches};

/// How many requests of a client are answered before what they send to others leaves.
const ANSWERED_AT_ONCE: usize = 64;
/// How much memory is kept for replies.
const OUT_KEPT: usize = 64 * 1024;
/// What is not part of a transaction.
const AT_ONCE: [&str; 5] = ["multi", "exec", "discard", "quit", "reset"];
/// What is no business of monitors.
const SECRET: [&str; 5] = ["exec", "monitor", "config|get", "client|list", "client|kill"];
const SETTINGS: [[&str; 2]; 3] = [["appendonly", "no"], ["databases", "1"], ["save", ""]];

const NO_DATABASE: &str = "ERR DB index is out of range";
const NESTED: &str = "ERR MULTI calls can not be nested";
const BAD_NAME: &str = "ERR Client names cannot contain spaces, newlines or special characters.";
const ABORTED: &str = "EXECABORT Transaction discarded because of previous errors.";

pub(crate) fn limits() -> Limits {
    let mut limits = Limits::default();
    let connection = &mut limits.connection;
    (connection.read_buffer_max, connection.reads_while_unsent) = (REQUEST_MAX, true);
    // Half of what may be unsent a client may cause itself.
    (connection.high_water, connection.low_water) = (REPLY_MAX / 2, REPLY_MAX / 64);
    connection.unsent_max = REPLY_MAX;
    // For one that goes on sending what is no request.
    connection.close_deadline = Duration::from_secs(5);
    limits
}

pub(crate) type Clients = EventLoop<Client>;

/// A channel, or a pattern of channels (`true`), that a client can subscribe to.
type Topic = (bool, Vec<u8>);

/// Each connection's data: the request that arrives, and what earlier ones have set.
#[derive(Default)]
pub(crate) struct Client {
    parser: Parser,
    number: i64,
    name: Vec<u8>,
    last_command: &'static str,
    topics: BTreeSet<Topic>,
    /// The requests of a transaction while there is one, `None` for each that was refused.
    queue: Option<Vec<Option<Vec<Vec<u8>>>>>,
}

pub(crate) struct Server {
    store: Store,
    monitors: BTreeSet<Id>,
    /// Who is subscribed to each topic, by the number of the client.
    subscribers: BTreeMap<(Topic, i64), Id>,
    /// The replies to the request at hand.
    out: Replies,
    /// The one timer, and the time for which it is set.
    timer: Option<(TimerId, Instant)>,
    accepted: i64,
    requests: u64,
}

impl Server {
    pub(crate) fn new(now: Instant) -> Self {
        let (monitors, subscribers, out, timer, accepted, requests) = Default::default();
        Self { store: Store::new(now), monitors, subscribers, out, timer, accepted, requests }
    }

    /// Handles one event; all are to be passed here.
    pub(crate) fn handle(&mut self, clients: &mut Clients, event: Event) {
        self.store.advance(clients.now());
        match event {
            Event::Accepted(_, id) => {
                self.accepted += 1;
                clients[id].data.number = self.accepted;
            }
            Event::Received(id) => self.answer_all(clients, id),
            Event::Drained(id) => clients[id].resume(),
            Event::Closed(id, _) => self.forget(id, &mut clients[id].data),
            Event::Timer(_) => self.timer = None,
            _ => {}
        }
        if let Some(next) = self.store.expiries.first().map(|(at, _)| *at)
            && self.timer.is_none_or(|(_, at)| at > next)
        {
            self.timer.map(|(timer, _)| clients.cancel_timer(timer));
            let after = next.saturating_duration_since(self.store.now);
            self.timer = Some((clients.set_timer(after), next));
        }
    }

    /// Answers the requests of a client that have arrived. What is left is announced again: at
    /// once, or when it has drained.
    fn answer_all(&mut self, clients: &mut Clients, id: Id) {
        // Its words are lent while other clients are looked at.
        let mut parser = mem::take(&mut clients[id].data.parser);
        for _ in 0..ANSWERED_AT_ONCE {
            let stream: &mut Stream = &mut clients[id];
            // One that has closed is clogged too.
            if stream.is_clogged() {
                break;
            }
            match parser.next(&mut stream.halves().0) {
                Ok(Some(words)) if !words.is_empty() => self.answer(&words, clients, id),
                Ok(_) => break,
                Err(why) => {
                    self.send(stream, Err(format!("ERR Protocol error: {why}")));
                    stream.close_with(ErrorKind::InvalidData);
                }
            }
        }
        let client = &mut clients[id];
        // Between requests there is nothing to keep, and one reply may have been large.
        self.out.0.shrink_to(OUT_KEPT);
        if parser.missing > 0 {
            client.data.parser = parser;
        }
        if client.is_clogged() && client.unsent() > 0 {
            client.pause();
        }
    }

    /// Answers one request, or keeps it for the end of a transaction.
    fn answer(&mut self, words: &[&[u8]], clients: &mut Clients, id: Id) {
        let client = &mut clients[id].data;
        let found = find(words, !client.topics.is_empty());
        client.last_command = found.as_ref().map_or(client.last_command, |(name, ..)| name);
        let outcome = match (&mut client.queue, found) {
            (Some(queue), found) if !found.as_ref().is_ok_and(|it| AT_ONCE.contains(&it.0)) => {
                let words = words.iter().map(|word| word.to_vec()).collect();
                queue.push(found.is_ok().then_some(words));
                found.and_then(|_| self.out.line(b'+', "QUEUED"))
            }
            (_, Ok(command)) => return self.execute(command, words, clients, id),
            (_, Err(why)) => Err(why),
        };
        self.send(&mut clients[id], outcome);
    }

    /// Executes a command, sends its replies, and shows it to monitors.
    fn execute(&mut self, (name, ..): &Command, words: &[&[u8]], clients: &mut Clients, id: Id) {
        self.requests += 1;
        let outcome = self.run(name, &words[1..], clients, id);
        self.send(&mut clients[id], outcome);
        if !self.monitors.is_empty() && !SECRET.contains(name) {
            let line = monitored(words, &clients[id]);
            clients.send_each(self.monitors.iter().copied(), line.as_bytes());
        }
    }

    /// Sends the replies to a request, or why it was refused.
    fn send(&mut self, stream: &mut Stream, outcome: Outcome) {
        outcome.unwrap_or_else(|why| self.out.refuse(&why));
        stream.send(&self.out.0);
        self.out.0.clear();
    }

    /// Runs a command that is about clients or the server itself, or leaves it to the store. One that
    /// says nothing else says OK.
    fn run(&mut self, name: &str, words: &[&[u8]], clients: &mut Clients, id: Id) -> Outcome {
        let (out, client) = (&mut self.out, &mut clients[id].data);
        match (name, words) {
            ("ping", [] | [_]) if !client.topics.is_empty() => {
                return out.bulks(&[b"pong", &*words.concat()]);
            }
            // Clients then go on with RESP2.
            ("hello", _) => return Err("NOPROTO unsupported protocol version".into()),
            ("select", [index]) if number(index)? != 0 => return Err(NO_DATABASE.into()),
            ("select" | "client|setinfo", _) => {}
            ("client|setname", [_, name]) if !name.iter().all(u8::is_ascii_graphic) => {
                return Err(BAD_NAME.into());
            }
            ("client|setname", [_, name]) => client.name = name.to_vec(),
            ("client|getname", _) => {
                return out.bulk_or_nil(Some(&client.name).filter(|name| !name.is_empty()));
            }
            ("client|id", _) => return out.number(b':', client.number),
            ("client|list", _) => return out.bulk(list(clients)),
            ("client|kill", [_, filter @ ..]) => match (kill(clients, id, filter)?, filter.len()) {
                (0, 1) => return Err("ERR No such client".into()),
                (_, 1) => {}
                (count, _) => return out.number(b':', count),
            },
            ("config|get", names) => {
                let is_asked = |name: &str| names.iter().any(|it| matches(it, name.as_bytes()));
                let found = SETTINGS.iter().filter(|[name, _]| is_asked(name)).flatten();
                return out.bulks(&found.collect::<Vec<_>>());
            }
            ("quit", _) => leave(&mut clients[id]),
            ("reset", _) => {
                self.forget(id, client);
                *client = Client { number: client.number, ..Client::default() };
                return self.out.line(b'+', "RESET");
            }
            ("multi", _) if client.queue.is_some() => return Err(NESTED.into()),
            ("multi", _) => client.queue = Some(Vec::new()),
            ("discard", _) => drop(client.queue.take().ok_or("ERR DISCARD without MULTI")?),
            ("exec", _) => return self.exec(clients, id),
            ("monitor", _) => self.monitors.extend([id]),
            ("publish", [channel, message]) => return self.publish(channel, message, clients),
            ("info", _) => return self.out.bulk(self.info(clients)),
            ("command|count", _) => return out.number(b':', commands().len()),
            ("command", _) => {
                let commands = commands();
                out.number(b'*', commands.len())?;
                commands.iter().for_each(|command| out.0.extend(describe(command).bytes()));
                return Ok(());
            }
            ("command|docs" | "command|info", _) => return out.line(b'*', "0"),
            _ if name.ends_with("subscribe") => return self.subscribe(name, words, clients, id),
            _ => return self.store.run(name, words, out),
        }
        self.out.line(b'+', "OK")
    }

    /// Subscribes to topics, or no longer to those named, or to any.
    fn subscribe(&mut self, name: &str, words: &[&[u8]], clients: &mut Clients, id: Id) -> Outcome {
        let client = &mut clients[id].data;
        let (is_pattern, ends) = (name.starts_with('p'), name.ends_with("unsubscribe"));
        let own = client.topics.iter().filter(|topic| topic.0 == is_pattern).cloned();
        let mut topics: Vec<Option<Topic>> = match words {
            [] => own.map(Some).collect(),
            names => names.iter().map(|name| Some((is_pattern, name.to_vec()))).collect(),
        };
        if topics.is_empty() {
            topics.push(None);
        }
        for topic in topics {
            if let Some(topic) = &topic {
                let key = (topic.clone(), client.number);
                if ends {
                    client.topics.remove(topic);
                    self.subscribers.remove(&key);
                } else {
                    client.topics.insert(topic.clone());
                    self.subscribers.insert(key, id);
                }
            }
            self.out.line(b'*', "3")?;
            self.out.bulk(name)?;
            self.out.bulk_or_nil(topic.map(|(_, name)| name))?;
            self.out.number(b':', client.topics.len())?;
        }
        Ok(())
    }

    /// Sends nothing more to a client of what others do.
    fn forget(&mut self, id: Id, client: &mut Client) {
        self.monitors.remove(&id);
        for topic in mem::take(&mut client.topics) {
            self.subscribers.remove(&(topic, client.number));
        }
    }

    /// Sends a message to those that are subscribed.
    fn publish(&mut self, channel: &[u8], text: &[u8], clients: &mut Clients) -> Outcome {
        let mut message = Replies::default();
        message.bulks(&[b"message".as_slice(), channel, text])?;
        let key = |number| ((false, channel.to_vec()), number);
        let ids = self.subscribers.range(key(0)..=key(i64::MAX)).map(|(_, id)| *id);
        let mut count = clients.send_each(ids, &message.0);
        for (((_, pattern), _), id) in self.subscribers.range(((true, Vec::new()), 0)..) {
            if matches(pattern, channel) {
                message.0.clear();
                message.bulks(&[b"pmessage".as_slice(), pattern, channel, text])?;
                count += clients.send_each([*id], &message.0);
            }
        }
        self.out.number(b':', count)
    }

    /// Executes a transaction, unless a part of it was refused.
    fn exec(&mut self, clients: &mut Clients, id: Id) -> Outcome {
        let queue = clients[id].data.queue.take().ok_or("ERR EXEC without MULTI")?;
        let requests = queue.into_iter().collect::<Option<Vec<_>>>().ok_or(ABORTED)?;
        let length = self.out.number(b'*', requests.len());
        self.send(&mut clients[id], length);
        for words in requests {
            let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
            self.execute(find(&words, false)?, &words, clients, id);
            // Its replies are too many, and it will be cut.
            if clients[id].lost() > 0 {
                break;
            }
        }
        Ok(())
    }

    /// Says what the server and its loop have done.
    fn info(&self, clients: &Clients) -> String {
        let Metrics { waits, fills, bytes_read, flushes, bytes_written, .. } = clients.metrics();
        let Self { accepted, requests, .. } = self;
        let connected = clients.connection_count();
        let (keys, expires) = (self.store.places.len(), self.store.expiries.len());
        format!(
            "# Server\r\nredis_version:7.0.0\r\n# Clients\r\nconnected_clients:{connected}\r\n\
             # Stats\r\ntotal_connections_received:{accepted}\r\n\
             total_commands_processed:{requests}\r\n\
             # Keyspace\r\ndb0:keys={keys},expires={expires}\r\n\
             # Loop\r\nwaits:{waits}\r\nfills:{fills}\r\nbytes_read:{bytes_read}\r\n\
             flushes:{flushes}\r\nbytes_written:{bytes_written}\r\n"
        )
    }
}

/// Closes the clients with an address or a number, and returns how many those are.
fn kill(clients: &mut Clients, own: Id, filter: &[&[u8]]) -> Outcome<usize> {
    let names = |client: &Connection<Client>| [address(client), client.data.number.to_string()];
    let (which, value) = match filter {
        [value] => (0, value),
        [by, value] if by.eq_ignore_ascii_case(b"addr") => (0, value),
        [by, value] if by.eq_ignore_ascii_case(b"id") => (1, value),
        _ => return Err(SYNTAX_ERROR.into()),
    };
    if which == 1 && integer(value).is_none_or(|number| number < 1) {
        return Err("ERR client-id should be greater than 0".into());
    }
    let meant = clients.connections().filter(|client| names(client)[which].as_bytes() == *value);
    let mut ids: Vec<Id> = meant.map(|client| client.id()).collect();
    // By an address alone a client may close itself.
    ids.retain(|id| *id != own || filter.len() == 1);
    for id in &ids {
        if *id == own { leave(&mut clients[own]) } else { clients[*id].abort() }
    }
    Ok(ids.len())
}

/// Closes a client once it has the reply. What is sent to it afterwards is lost.
fn leave(client: &mut Stream) {
    client.send(b"+OK\r\n");
    client.close();
}

/// Returns the reply to `COMMAND` about one of them.
fn describe((name, arity, [first, last, step]): &Command) -> String {
    let length = name.len();
    format!("*6\r\n${length}\r\n{name}\r\n:{arity}\r\n*0\r\n:{first}\r\n:{last}\r\n:{step}\r\n")
}

/// Returns a request as monitors see it.
fn monitored(words: &[&[u8]], client: &Connection<Client>) -> String {
    let time = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    let (seconds, micros) = (time.as_secs(), time.subsec_micros());
    let words: String = words.iter().map(|word| format!(" \"{}\"", word.escape_ascii())).collect();
    format!("+{seconds}.{micros:06} [0 {}]{words}\r\n", address(client))
}

/// Shows each client: what it did last, and what its connection waits for.
fn list(clients: &Clients) -> String {
    let lines = clients.explain().connections.into_iter().map(|explained| {
        let ConnectionWaits { id, unmoved, received, unsent, waits_for, .. } = explained;
        let Client { number, name, last_command, topics, .. } = &clients[id].data;
        let (from, name, idle) = (address(&clients[id]), name.escape_ascii(), unmoved.as_secs());
        let patterns = topics.iter().filter(|(is_pattern, _)| *is_pattern).count();
        let channels = topics.len() - patterns;
        format!(
            "id={number} addr={from} name={name} idle={idle} db=0 sub={channels} psub={patterns} \
             qbuf={received} omem={unsent} cmd={last_command} waits={waits_for:?}\n"
        )
    });
    lines.collect()
}

fn address(client: &Connection<Client>) -> String {
    client.peer_addr().map_or_else(|error| error.to_string(), |address| address.to_string())
}
