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
use crate::resp::{Outcome, Parser, REQUEST_MAX, Replies, integer};
use crate::store::{Store, matches};

/// Unsent bytes at which a client is cut, and half of which it may cause itself.
const UNSENT_MAX: usize = 64 * 1024 * 1024;
/// How much memory is kept for replies.
const OUT_KEPT: usize = 64 * 1024;
/// How many requests of a client are answered before what they send to others leaves.
const ANSWERED_AT_ONCE: usize = 64;
/// How many expired keys are removed at once, so that clients are served in between.
const EXPIRED_AT_ONCE: usize = 1000;
/// What is not part of a transaction.
const AT_ONCE: [&str; 5] = ["multi", "exec", "discard", "quit", "reset"];
/// What is no business of monitors.
const SECRET: [&str; 5] = ["exec", "monitor", "config|get", "client|list", "client|kill"];
const SETTINGS: [[&str; 2]; 3] = [["appendonly", "no"], ["databases", "1"], ["save", ""]];

const NO_DATABASE: &str = "ERR DB index is out of range";
const BAD_NAME: &str = "ERR Client names cannot contain spaces, newlines or special characters.";
const NESTED: &str = "ERR MULTI calls can not be nested";
const ABORTED: &str = "EXECABORT Transaction discarded because of previous errors.";

pub(crate) fn limits() -> Limits {
    let mut limits = Limits::default();
    let connection = &mut limits.connection;
    (connection.read_buffer_max, connection.reads_while_unsent) = (REQUEST_MAX, true);
    (connection.high_water, connection.low_water) = (UNSENT_MAX / 2, UNSENT_MAX / 64);
    connection.unsent_max = UNSENT_MAX;
    // For one that goes on sending what is no request.
    connection.close_deadline = Duration::from_secs(5);
    limits
}

pub(crate) type Clients = EventLoop<Client>;

/// Each connection's data: the request that arrives, and what earlier ones have set.
#[derive(Default)]
pub(crate) struct Client {
    parser: Parser,
    number: i64,
    name: Vec<u8>,
    last_command: &'static str,
    /// The channels and the patterns that it is subscribed to.
    topics: [BTreeSet<Vec<u8>>; 2],
    /// The requests of a transaction while there is one, `None` for each that was refused.
    queue: Option<Vec<Option<Vec<Vec<u8>>>>>,
    is_leaving: bool,
}

impl Client {
    fn subscription_count(&self) -> usize {
        self.topics.iter().map(BTreeSet::len).sum()
    }
}

pub(crate) struct Server {
    store: Store,
    monitors: BTreeSet<Id>,
    /// Who is subscribed to each channel, and to each pattern.
    subscribers: [BTreeMap<Vec<u8>, BTreeSet<Id>>; 2],
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
        self.store.now = clients.now();
        match event {
            Event::Accepted(_, id) => {
                self.accepted += 1;
                clients[id].data.number = self.accepted;
            }
            Event::Received(id) => self.answer_all(clients, id),
            Event::Drained(id) => clients[id].resume(),
            Event::Closed(id, _) => self.forget(id, &mut clients[id].data),
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

    /// Answers the requests of a client that have arrived. What is left is announced again: at
    /// once, or when it has drained.
    fn answer_all(&mut self, clients: &mut Clients, id: Id) {
        // Its words are lent while other clients are looked at.
        let mut parser = mem::take(&mut clients[id].data.parser);
        for _ in 0..ANSWERED_AT_ONCE {
            let (client, stream) = clients[id].split();
            if client.is_leaving || stream.is_clogged() {
                break;
            }
            match parser.next(&mut stream.halves().0) {
                Ok(None) => break,
                Ok(Some(words)) if words.is_empty() => {}
                Ok(Some(words)) => {
                    let outcome = self.answer(&words, clients, id);
                    self.send(&mut clients[id], outcome);
                }
                Err(why) => {
                    self.send(stream, Err([b"ERR Protocol error: ", &*why].concat()));
                    return stream.close_with(ErrorKind::InvalidData);
                }
            }
        }
        let client = &mut clients[id];
        // Between requests there is nothing to keep.
        if parser.missing > 0 {
            client.data.parser = parser;
        }
        if client.data.is_leaving {
            client.close();
        } else if client.is_clogged() && client.unsent() > 0 {
            client.pause();
        }
    }

    /// Answers one request, or keeps it for the end of a transaction.
    fn answer(&mut self, words: &[&[u8]], clients: &mut Clients, id: Id) -> Outcome {
        let client = &mut clients[id].data;
        let found = find(words, client.subscription_count() > 0);
        client.last_command = found.as_ref().map_or(client.last_command, |(name, ..)| name);
        let is_for_now = found.as_ref().is_ok_and(|(name, ..)| AT_ONCE.contains(name));
        let Some(queue) = client.queue.as_mut().filter(|_| !is_for_now) else {
            self.execute(found?, words, clients, id);
            return Ok(());
        };
        let words = words.iter().map(|word| word.to_vec()).collect();
        queue.push(found.is_ok().then_some(words));
        found.and_then(|_| self.out.simple("QUEUED"))
    }

    /// Executes a command, sends its replies, and shows it to monitors.
    fn execute(&mut self, command: &Command, words: &[&[u8]], clients: &mut Clients, id: Id) {
        self.requests += 1;
        let (name, _, keys) = command;
        let outcome = match keys[0] {
            0 => self.run(name, &words[1..], clients, id),
            _ => self.store.run(name, &words[1..], &mut self.out),
        };
        self.send(&mut clients[id], outcome);
        if !self.monitors.is_empty() && !SECRET.contains(name) {
            let line = monitored(words, &clients[id]);
            clients.send_each(self.monitors.iter().copied(), &line);
        }
    }

    /// Sends the replies to a request, or why it was refused.
    fn send(&mut self, stream: &mut Stream, outcome: Outcome) {
        outcome.unwrap_or_else(|why| self.out.error(why));
        stream.send(&self.out.0);
        self.out.0.clear();
        self.out.0.shrink_to(OUT_KEPT);
    }

    fn run(&mut self, name: &str, words: &[&[u8]], clients: &mut Clients, id: Id) -> Outcome {
        let (out, client) = (&mut self.out, &mut clients[id].data);
        match (name, words) {
            ("ping", [] | [_]) if client.subscription_count() > 0 => {
                return out.bulks([b"pong".as_slice(), &words.concat()]);
            }
            // Clients then go on with RESP2.
            ("hello", _) => return Err("NOPROTO unsupported protocol version".into()),
            ("select", [index]) if number(index)? != 0 => return Err(NO_DATABASE.into()),
            ("select" | "client|setinfo", _) => {}
            ("client|setname", [_, name]) if !name.iter().all(u8::is_ascii_graphic) => {
                return Err(BAD_NAME.into());
            }
            ("client|setname", [_, name]) => client.name = name.to_vec(),
            ("quit", _) => client.is_leaving = true,
            ("reset", _) => {
                self.forget(id, client);
                *client = Client { number: client.number, ..Client::default() };
                return self.out.simple("RESET");
            }
            ("multi", _) if client.queue.is_some() => return Err(NESTED.into()),
            ("multi", _) => client.queue = Some(Vec::new()),
            ("discard", _) => drop(client.queue.take().ok_or("ERR DISCARD without MULTI")?),
            ("exec", _) => return self.exec(clients, id),
            ("monitor", _) => self.monitors.extend([id]),
            ("publish", [channel, message]) => return self.publish(channel, message, clients),
            ("info", _) => return self.out.bulk(self.info(clients)),
            ("command", _) => {
                out.array(commands().count())?;
                return commands().try_for_each(|command| describe(command, out));
            }
            _ if name.ends_with("subscribe") => return self.change_topics(name, words, client, id),
            _ if name.contains('|') => return self.tell(name, &words[1..], clients, id),
            _ => return self.store.run(name, words, out),
        }
        self.out.simple("OK")
    }

    /// Runs a command that has a second word, which begins the others.
    fn tell(&mut self, name: &str, words: &[&[u8]], clients: &mut Clients, id: Id) -> Outcome {
        let (out, client) = (&mut self.out, &mut clients[id].data);
        match (name, words) {
            ("client|id", _) => out.number(client.number),
            ("client|getname", _) if client.name.is_empty() => out.bulk_or_nil(None::<&str>),
            ("client|getname", _) => out.bulk(&client.name),
            ("client|list", _) => out.bulk(list(clients, &self.monitors)),
            ("client|kill", filter) => match (kill(clients, id, filter)?, filter) {
                (0, [_]) => Err("ERR No such client".into()),
                (_, [_]) => out.simple("OK"),
                (count, _) => out.number(count),
            },
            ("config|get", names) => {
                let is_asked = |name: &str| names.iter().any(|it| matches(it, name.as_bytes()));
                let found = SETTINGS.iter().filter(|[name, _]| is_asked(name)).flatten();
                out.bulks(found.map(|text| text.as_bytes()))
            }
            ("command|count", _) => out.number(commands().count()),
            _ => out.array(0),
        }
    }

    /// Subscribes to topics, or no longer to those named, or to any.
    fn change_topics(
        &mut self,
        name: &str,
        words: &[&[u8]],
        client: &mut Client,
        id: Id,
    ) -> Outcome {
        let (kind, ends) = (usize::from(name.starts_with('p')), name.ends_with("unsubscribe"));
        let all = client.topics[kind].clone();
        let mut topics: Vec<Option<&[u8]>> = words.iter().copied().map(Some).collect();
        if topics.is_empty() {
            topics.extend(all.iter().map(|topic| Some(&**topic)));
            topics.extend(all.is_empty().then_some(None));
        }
        for topic in topics {
            match topic {
                Some(topic) if ends => self.unsubscribe(kind, topic, client, id),
                Some(topic) => {
                    client.topics[kind].insert(topic.to_vec());
                    self.subscribers[kind].entry(topic.to_vec()).or_default().insert(id);
                }
                None => {}
            }
            self.out.array(3)?;
            self.out.bulk(name)?;
            self.out.bulk_or_nil(topic)?;
            self.out.number(client.subscription_count())?;
        }
        Ok(())
    }

    fn unsubscribe(&mut self, kind: usize, topic: &[u8], client: &mut Client, id: Id) {
        client.topics[kind].remove(topic);
        if let Some(ids) = self.subscribers[kind].get_mut(topic) {
            ids.remove(&id);
            if ids.is_empty() {
                self.subscribers[kind].remove(topic);
            }
        }
    }

    /// Sends nothing more to a client of what others do.
    fn forget(&mut self, id: Id, client: &mut Client) {
        self.monitors.remove(&id);
        for (kind, topics) in client.topics.clone().into_iter().enumerate() {
            topics.iter().for_each(|topic| self.unsubscribe(kind, topic, client, id));
        }
    }

    /// Sends a message to those that are subscribed.
    fn publish(&mut self, channel: &[u8], text: &[u8], clients: &mut Clients) -> Outcome {
        let [by_channel, by_pattern] = &self.subscribers;
        let mut message = Replies::default();
        message.bulks([b"message".as_slice(), channel, text])?;
        let mut count =
            clients.send_each(by_channel.get(channel).into_iter().flatten().copied(), &message.0);
        for (pattern, ids) in by_pattern.iter().filter(|(pattern, _)| matches(pattern, channel)) {
            message.0.clear();
            message.bulks([b"pmessage".as_slice(), pattern, channel, text])?;
            count += clients.send_each(ids.iter().copied(), &message.0);
        }
        self.out.number(count)
    }

    fn exec(&mut self, clients: &mut Clients, id: Id) -> Outcome {
        let queue = clients[id].data.queue.take().ok_or("ERR EXEC without MULTI")?;
        let requests: Option<Vec<_>> = queue.into_iter().collect();
        let requests = requests.ok_or(ABORTED)?;
        self.out.array(requests.len())?;
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

    fn info(&self, clients: &Clients) -> String {
        let Self { store, accepted, requests, .. } = self;
        let Metrics { waits, fills, bytes_read, flushes, bytes_written, .. } = clients.metrics();
        let (connected, (keys, expires)) = (clients.connection_count(), store.counts());
        format!(
            "# Server\r\nredis_version:7.0.0\r\nserver_name:kv_server\r\n\
             # Clients\r\nconnected_clients:{connected}\r\n\
             # Stats\r\ntotal_connections_received:{accepted}\r\n\
             total_commands_processed:{requests}\r\n\
             # Keyspace\r\ndb0:keys={keys},expires={expires}\r\n\
             # Loop\r\nwaits:{waits}\r\nfills:{fills}\r\nbytes_read:{bytes_read}\r\n\
             flushes:{flushes}\r\nbytes_written:{bytes_written}\r\n"
        )
    }
}

/// Closes the clients with an address, or with a number or address. Returns how many those are.
fn kill(clients: &mut Clients, own: Id, filter: &[&[u8]]) -> Outcome<usize> {
    let (by_number, value) = match filter {
        [value] => (false, value),
        [by, value] if by.eq_ignore_ascii_case(b"addr") => (false, value),
        [by, value] if by.eq_ignore_ascii_case(b"id") => (true, value),
        _ => return Err(SYNTAX_ERROR.into()),
    };
    if by_number && integer(value).is_none_or(|number| number < 1) {
        return Err("ERR client-id should be greater than 0".into());
    }
    let mut count = 0;
    for client in clients.connections_mut() {
        let number = client.data.number.to_string();
        let name = if by_number { number } else { address(client) };
        // By an address alone a client may close itself, which then still has the reply.
        match client.id() == own {
            _ if name.as_bytes() != *value => continue,
            true if filter.len() > 1 => continue,
            true => client.data.is_leaving = true,
            false => client.abort(),
        }
        count += 1;
    }
    Ok(count)
}

fn describe((name, arity, keys): &Command, out: &mut Replies) -> Outcome {
    out.array(6)?;
    out.bulk(name)?;
    out.number(arity)?;
    out.array(0)?;
    keys.iter().try_for_each(|place| out.number(place))
}

/// Returns a request as monitors see it.
fn monitored(words: &[&[u8]], client: &Connection<Client>) -> Vec<u8> {
    let time = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    let (seconds, micros) = (time.as_secs(), time.subsec_micros());
    let words: String = words.iter().map(|word| format!(" \"{}\"", word.escape_ascii())).collect();
    format!("+{seconds}.{micros:06} [0 {}]{words}\r\n", address(client)).into()
}

/// Shows what each client does, and what its connection waits for.
fn list(clients: &Clients, monitors: &BTreeSet<Id>) -> String {
    let explained = clients.explain().connections;
    let lines = explained.into_iter().map(|explained| {
        let ConnectionWaits { id, unmoved, received, unsent, waits_for, .. } = explained;
        let Client { number, name, last_command, topics, queue, .. } = &clients[id].data;
        let (from, name, idle) = (address(&clients[id]), name.escape_ascii(), unmoved.as_secs());
        let [channels, patterns] = topics.each_ref().map(BTreeSet::len);
        let flags = match (monitors.contains(&id), channels + patterns, queue) {
            (true, ..) => "O",
            (_, 1.., _) => "P",
            (.., Some(_)) => "x",
            _ => "N",
        };
        let multi = u8::from(queue.is_some());
        format!(
            "id={number} addr={from} name={name} idle={idle} flags={flags} db=0 sub={channels} \
             psub={patterns} multi={multi} qbuf={received} omem={unsent} cmd={last_command} \
             waits={waits_for:?}\n"
        )
    });
    lines.collect()
}

fn address(client: &Connection<Client>) -> String {
    client.peer_addr().map_or_else(|error| error.to_string(), |address| address.to_string())
}
