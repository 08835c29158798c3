//! The commands: their names, and what those that need the keys alone make of them.

use std::time::{Duration, Instant};

use crate::resp::{Outcome, Replies, integer};
use crate::store::{Store, matches};

/// A command: its name; how many words it has with that, or at least has if the number is negative;
/// and the first word that is a key, the last, and the step from one to the next.
pub(crate) type Command = (&'static str, i8, [i8; 3]);

const ONE: [i8; 3] = [1, 1, 1];
const ALL: [i8; 3] = [1, -1, 1];
const NONE: [i8; 3] = [0, 0, 0];

/// All commands; those used most are first, and what follows `|` is the second word.
#[rustfmt::skip]
static COMMANDS: [Command; 53] = [
    ("get", 2, ONE), ("set", -3, ONE), ("incr", 2, ONE), ("ping", -1, NONE), ("del", -2, ALL),
    ("append", 3, ONE), ("client", -2, NONE), ("client|getname", 2, NONE), ("client|id", 2, NONE),
    ("client|kill", -3, NONE), ("client|list", 2, NONE), ("client|setinfo", 4, NONE),
    ("client|setname", 3, NONE), ("command", -1, NONE), ("command|count", 2, NONE),
    ("command|docs", -2, NONE), ("command|info", -2, NONE), ("config", -2, NONE),
    ("config|get", -3, NONE), ("dbsize", 1, NONE), ("decr", 2, ONE), ("decrby", 3, ONE),
    ("discard", 1, NONE), ("echo", 2, NONE), ("exec", 1, NONE), ("exists", -2, ALL),
    ("expire", 3, ONE), ("flushall", -1, NONE), ("flushdb", -1, NONE), ("getdel", 2, ONE),
    ("hello", -1, NONE), ("incrby", 3, ONE), ("info", -1, NONE), ("keys", 2, NONE),
    ("mget", -2, ALL), ("monitor", 1, NONE), ("mset", -3, [1, -1, 2]), ("multi", 1, NONE),
    ("persist", 2, ONE), ("pexpire", 3, ONE), ("psubscribe", -2, NONE), ("pttl", 2, ONE),
    ("publish", 3, NONE), ("punsubscribe", -1, NONE), ("quit", -1, NONE), ("reset", 1, NONE),
    ("scan", -2, NONE), ("select", 2, NONE), ("strlen", 2, ONE), ("subscribe", -2, NONE),
    ("ttl", 2, ONE), ("type", 2, ONE), ("unsubscribe", -1, NONE),
];

/// What a client may use while it is subscribed, apart from subscribing.
const FOR_ALL: [&str; 3] = ["ping", "quit", "reset"];
const ONLY_FOR_ALL: &str = "only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are \
                            allowed in this context";
pub(crate) const SYNTAX_ERROR: &str = "ERR syntax error";

/// Finds the command of a request. Checks how many words it has, and whether a client may use it
/// that is subscribed to something.
pub(crate) fn find(words: &[&[u8]], is_subscribed: bool) -> Outcome<&'static Command> {
    let named = |name: &[u8]| COMMANDS.iter().find(|it| it.0.as_bytes().eq_ignore_ascii_case(name));
    let mut command = named(words[0]);
    if let (Some(("client" | "command" | "config", ..)), [name, what, ..]) = (command, words) {
        command = named(&[name, &b"|"[..], what].concat());
    }
    let command = command.ok_or_else(|| unknown(words))?;
    let (name, arity, _) = *command;
    let (count, least) = (words.len(), usize::from(arity.unsigned_abs()));
    if count < least || (arity > 0 && count > least) {
        return Err(wrong_number(name));
    }
    if is_subscribed && !name.ends_with("subscribe") && !FOR_ALL.contains(&name) {
        return Err(format!("ERR Can't execute '{name}': {ONLY_FOR_ALL}"));
    }
    Ok(command)
}

/// Returns the commands themselves, without their second words.
pub(crate) fn commands() -> Vec<&'static Command> {
    COMMANDS.iter().filter(|(name, ..)| !name.contains('|')).collect()
}

fn unknown(words: &[&[u8]]) -> String {
    let quoted = words[1..].iter().flat_map(|word| [b"'", *word, b"' "].concat());
    let quoted: Vec<u8> = quoted.take(128).collect();
    let [name, quoted] = [words[0], &quoted].map(|text| String::from_utf8_lossy(text));
    format!("ERR unknown command '{name:.128}', with args beginning with: {quoted}")
}

fn wrong_number(name: &str) -> String {
    format!("ERR wrong number of arguments for '{name}' command")
}

pub(crate) fn number(word: &[u8]) -> Outcome<i64> {
    integer(word).ok_or_else(|| "ERR value is not an integer or out of range".into())
}

impl Store {
    /// Runs a command of which the number of words was checked.
    pub(crate) fn run(&mut self, name: &str, words: &[&[u8]], out: &mut Replies) -> Outcome {
        match (name, words) {
            ("get", [key]) => out.bulk_or_nil(self.value(key)),
            ("set", [key, value, options @ ..]) => self.set(key, value, options, out),
            ("incr", [key]) => self.add(key, 1, out),
            ("decr", [key]) => self.add(key, -1, out),
            ("incrby", [key, delta]) => self.add(key, number(delta)?, out),
            ("decrby", [key, delta]) => {
                let delta = number(delta)?.checked_neg().ok_or("ERR decrement would overflow")?;
                self.add(key, delta, out)
            }
            ("ping", []) => out.line(b'+', "PONG"),
            ("ping" | "echo", [text]) => out.bulk(text),
            ("append", [key, more]) => {
                match self.get_mut(key) {
                    Some(entry) => entry.value.extend_from_slice(more),
                    None => self.put(key, more, None),
                }
                out.number(b':', self.value(key).map_or(0, Vec::len))
            }
            ("strlen", [key]) => out.number(b':', self.value(key).map_or(0, Vec::len)),
            ("getdel", [key]) => out.bulk_or_nil(self.remove(key)),
            ("mget", keys) => {
                out.number(b'*', keys.len())?;
                keys.iter().try_for_each(|key| out.bulk_or_nil(self.value(key)))
            }
            ("mset", words) => {
                let (pairs, []) = words.as_chunks() else { return Err(wrong_number(name)) };
                pairs.iter().for_each(|[key, value]| self.put(key, value, None));
                out.line(b'+', "OK")
            }
            ("exists", keys) => out.number(b':', keys.iter().flat_map(|key| self.get(key)).count()),
            ("del", keys) => out.number(b':', keys.iter().flat_map(|key| self.remove(key)).count()),
            ("type", [key]) => out.line(b'+', self.get(key).map_or("none", |_| "string")),
            ("keys", [pattern]) => {
                let keys = self.keys(0..self.places.capacity());
                out.bulks(&keys.filter(|key| matches(pattern, key)).collect::<Vec<_>>())
            }
            ("scan", [cursor, options @ ..]) => self.scan(cursor, options, out),
            ("dbsize", _) => out.number(b':', self.places.len()),
            ("flushall" | "flushdb", modes) => {
                let mode = modes.join(&b' ').to_ascii_lowercase();
                let is_known = [&b""[..], b"async", b"sync"].contains(&&*mode);
                *self = is_known.then(|| Self::new(self.now)).ok_or(SYNTAX_ERROR)?;
                out.line(b'+', "OK")
            }
            ("expire" | "pexpire", [key, time]) => {
                let at = self.later(name, time, name == "pexpire")?;
                out.number(b':', u8::from(self.expire(key, Some(at))))
            }
            ("persist", [key]) => {
                let before = self.get(key).and_then(|entry| entry.expires);
                self.expire(key, None);
                out.number(b':', u8::from(before.is_some()))
            }
            ("ttl", [key]) => out.number(b':', self.time_left(key, 1000)),
            ("pttl", [key]) => out.number(b':', self.time_left(key, 1)),
            // `PING a b`.
            _ => Err(wrong_number(name)),
        }
    }

    fn set(&mut self, key: &[u8], value: &[u8], options: &[&[u8]], out: &mut Replies) -> Outcome {
        let (mut must_exist, mut expires, mut wants_old) = (None, None, false);
        let mut options = options.iter();
        while let Some(option) = options.next() {
            match &*option.to_ascii_lowercase() {
                b"nx" if must_exist != Some(true) => must_exist = Some(false),
                b"xx" if must_exist != Some(false) => must_exist = Some(true),
                b"get" => wants_old = true,
                unit @ (b"ex" | b"px") if expires.is_none() => {
                    let time = options.next().ok_or(SYNTAX_ERROR)?;
                    expires = Some(self.later("set", time, unit == b"px")?);
                }
                _ => return Err(SYNTAX_ERROR.into()),
            }
        }
        let old = if wants_old || must_exist.is_some() { self.value(key) } else { None };
        let is_allowed = must_exist.is_none_or(|must_exist| must_exist == old.is_some());
        match old.filter(|_| wants_old) {
            None if is_allowed && !wants_old => out.line(b'+', "OK")?,
            old => out.bulk_or_nil(old)?,
        }
        if is_allowed {
            self.put(key, value, expires);
        }
        Ok(())
    }

    /// Adds to a number, which is 0 if there was none.
    fn add(&mut self, key: &[u8], delta: i64, out: &mut Replies) -> Outcome {
        let entry = self.get_mut(key);
        let before = entry.as_ref().map_or(Ok(0), |entry| number(&entry.value))?;
        let sum = before.checked_add(delta).ok_or("ERR increment or decrement would overflow")?;
        let sum = sum.to_string();
        match entry {
            Some(entry) => {
                entry.value.clear();
                entry.value.extend_from_slice(sum.as_bytes());
            }
            None => self.put(key, sum.as_bytes(), None),
        }
        out.line(b':', sum)
    }

    fn scan(&self, cursor: &[u8], options: &[&[u8]], out: &mut Replies) -> Outcome {
        let from = integer(cursor).and_then(|from| usize::try_from(from).ok());
        let from = from.ok_or("ERR invalid cursor")?;
        let (mut pattern, mut count) = (&b"*"[..], 10);
        for option in options.chunks(2) {
            match (&*option[0].to_ascii_lowercase(), option.get(1)) {
                (b"match", Some(value)) => pattern = value,
                (b"count", Some(value)) => count = number(value)?,
                _ => count = 0,
            }
        }
        let count = usize::try_from(count).ok().filter(|count| *count > 0).ok_or(SYNTAX_ERROR)?;
        let (places, end) = (self.places.capacity(), from.saturating_add(count));
        let keys = self.keys(from..end.min(places));
        out.number(b'*', 2)?;
        out.bulk(if end < places { end } else { 0 }.to_string())?;
        out.bulks(&keys.filter(|key| matches(pattern, key)).collect::<Vec<_>>())
    }

    /// Returns after how many units of milliseconds a key expires: -1 if never, -2 if it is none.
    fn time_left(&self, key: &[u8], unit: i64) -> i64 {
        match self.get(key).map(|entry| entry.expires) {
            None => -2,
            Some(None) => -1,
            Some(Some(at)) => ((at - self.now).as_micros().div_ceil(1000) as i64 + unit / 2) / unit,
        }
    }

    /// Returns the time that is this much later, or now if it is negative.
    fn later(&self, name: &str, time: &[u8], is_millis: bool) -> Outcome<Instant> {
        // The clock of Redis, whose milliseconds count from 1970, ends earlier than ours.
        let range = if name == "set" { 1 } else { i64::MIN }..i64::MAX - (1 << 41);
        let ms = number(time)?.checked_mul(if is_millis { 1 } else { 1000 });
        let ms = ms.filter(|ms| range.contains(ms));
        let at = ms.and_then(|ms| self.now.checked_add(Duration::from_millis(ms.max(0) as u64)));
        at.ok_or_else(|| format!("ERR invalid expire time in '{name}' command"))
    }
}
