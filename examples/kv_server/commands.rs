//! The commands: their names, and what those that need the keys alone make of them.

use std::time::{Duration, Instant};

use crate::resp::{Outcome, Refusal, Replies, integer};
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

/// The largest reply to one `MGET`, in bytes: a few words may ask for the same value many times.
const REPLY_MAX: usize = 64 * 1024 * 1024;
/// The longest value, as in Redis.
const VALUE_MAX: usize = 512 * 1024 * 1024;
const TOO_LONG: &str = "ERR string exceeds maximum allowed size (proto-max-bulk-len)";
/// What a client may use while it is subscribed, apart from subscribing.
const FOR_ALL: [&str; 3] = ["ping", "quit", "reset"];
const ONLY_FOR_ALL: &str = "only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are \
                            allowed in this context";
pub(crate) const SYNTAX_ERROR: &str = "ERR syntax error";

/// Finds the command of a request. Checks how many words it has, and whether a client may use it
/// that is subscribed to something.
pub(crate) fn find(words: &[&[u8]], is_subscribed: bool) -> Outcome<&'static Command> {
    let named = |name: &[u8]| COMMANDS.iter().find(|it| it.0.as_bytes().eq_ignore_ascii_case(name));
    let mut command = named(words[0]).ok_or_else(|| unknown(words))?;
    if let ("client" | "command" | "config", [name, what, ..]) = (command.0, words) {
        command = named(&[name, &b"|"[..], what].concat()).ok_or_else(|| {
            let (what, name) = (String::from_utf8_lossy(what), command.0.to_uppercase());
            format!("ERR unknown subcommand '{what}'. Try {name} HELP.")
        })?;
    }
    let (name, arity, _) = *command;
    let (count, least) = (words.len(), usize::from(arity.unsigned_abs()));
    if count < least || (arity > 0 && count > least) {
        return Err(wrong_number(name));
    }
    if is_subscribed && !name.ends_with("subscribe") && !FOR_ALL.contains(&name) {
        return Err(format!("ERR Can't execute '{name}': {ONLY_FOR_ALL}").into());
    }
    Ok(command)
}

/// Returns those that are no second words.
pub(crate) fn commands() -> impl Iterator<Item = &'static Command> {
    COMMANDS.iter().filter(|(name, ..)| !name.contains('|'))
}

fn unknown(words: &[&[u8]]) -> Refusal {
    let name = &words[0][..words[0].len().min(128)];
    let quoted = words[1..].iter().flat_map(|word| [b"'", *word, b"' "].concat());
    let quoted: Vec<u8> = quoted.take(128).collect();
    [b"ERR unknown command '", name, b"', with args beginning with: ", &quoted].concat()
}

fn wrong_number(name: &str) -> Refusal {
    format!("ERR wrong number of arguments for '{name}' command").into()
}

pub(crate) fn number(word: &[u8]) -> Outcome<i64> {
    integer(word).ok_or_else(|| "ERR value is not an integer or out of range".into())
}

impl Store {
    /// Runs a command of which the number of words was checked.
    pub(crate) fn run(&mut self, name: &str, words: &[&[u8]], out: &mut Replies) -> Outcome {
        match (name, words) {
            ("get", [key]) => out.bulk_or_nil(self.value(key)),
            ("set", _) => self.set_by(words, out),
            ("incr", [key]) => self.add(key, 1, out),
            ("decr", [key]) => self.add(key, -1, out),
            ("incrby", [key, delta]) => self.add(key, number(delta)?, out),
            ("decrby", [key, delta]) => {
                let delta = number(delta)?.checked_neg().ok_or("ERR decrement would overflow")?;
                self.add(key, delta, out)
            }
            ("ping", []) => out.simple("PONG"),
            ("ping" | "echo", [text]) => out.bulk(text),
            ("ping", _) => Err(wrong_number(name)),
            ("append", [key, more]) => {
                let length = self.length_of(key) + more.len();
                match self.get_mut(key) {
                    _ if length > VALUE_MAX => return Err(TOO_LONG.into()),
                    Some(entry) => entry.value.extend_from_slice(more),
                    None => self.set(key, more, None),
                }
                out.number(length)
            }
            ("strlen", [key]) => out.number(self.length_of(key)),
            ("getdel", [key]) => out.bulk_or_nil(self.remove(key).map(|entry| entry.value)),
            ("mget", keys) => {
                if keys.iter().map(|key| self.length_of(key)).sum::<usize>() > REPLY_MAX {
                    return Err("ERR the reply exceeds 64 MiB".into());
                }
                out.array(keys.len())?;
                keys.iter().try_for_each(|key| out.bulk_or_nil(self.value(key)))
            }
            ("mset", words) => {
                let (pairs, []) = words.as_chunks() else { return Err(wrong_number(name)) };
                pairs.iter().for_each(|[key, value]| self.set(key, value, None));
                out.simple("OK")
            }
            ("exists", keys) => out.number(keys.iter().filter_map(|key| self.get(key)).count()),
            ("del", keys) => out.number(keys.iter().filter_map(|key| self.remove(key)).count()),
            ("type", [key]) => out.simple(self.get(key).map_or("none", |_| "string")),
            ("keys", [pattern]) => {
                out.bulks(self.scan(0, usize::MAX).0.filter(|key| matches(pattern, key)))
            }
            ("scan", [cursor, options @ ..]) => self.scan_by(cursor, options, out),
            ("dbsize", _) => out.number(self.counts().0),
            ("flushall" | "flushdb", [] | [_]) if words.iter().all(|mode| is_mode(mode)) => {
                *self = Self::new(self.now);
                out.simple("OK")
            }
            ("flushall" | "flushdb", _) => Err(SYNTAX_ERROR.into()),
            _ => self.run_on_times(name, words, out),
        }
    }

    /// Runs a command about when a key expires.
    fn run_on_times(&mut self, name: &str, words: &[&[u8]], out: &mut Replies) -> Outcome {
        let unit = if name.starts_with('p') { 1 } else { 1000 };
        let expires = self.get(words[0]).map(|entry| entry.expires);
        match (name, words) {
            ("persist", [key]) => {
                self.expire(key, None);
                out.number(u8::from(expires.flatten().is_some()))
            }
            (_, [key, time]) => {
                let at = self.later(number(time)?, unit);
                at.ok_or_else(|| format!("ERR invalid expire time in '{name}' command"))?;
                out.number(u8::from(self.expire(key, at)))
            }
            _ => match expires {
                None => out.number(-2),
                Some(None) => out.number(-1),
                Some(Some(at)) => {
                    let left = (at - self.now).as_micros().div_ceil(1000);
                    out.number(if name == "ttl" { (left + 500) / 1000 } else { left })
                }
            },
        }
    }

    fn set_by(&mut self, words: &[&[u8]], out: &mut Replies) -> Outcome {
        let (key, value, mut options) = (words[0], words[1], words[2..].iter());
        let (mut must_exist, mut expires, mut wants_old) = (None, None, false);
        while let Some(option) = options.next() {
            match &*option.to_ascii_lowercase() {
                b"nx" if must_exist != Some(true) => must_exist = Some(false),
                b"xx" if must_exist != Some(false) => must_exist = Some(true),
                b"get" => wants_old = true,
                unit @ (b"ex" | b"px") if expires.is_none() => {
                    let time = number(options.next().ok_or(SYNTAX_ERROR)?)?;
                    let at = self.later(time, if unit == b"ex" { 1000 } else { 1 });
                    expires = at.filter(|_| time > 0);
                    expires.ok_or("ERR invalid expire time in 'set' command")?;
                }
                _ => return Err(SYNTAX_ERROR.into()),
            }
        }
        if wants_old || must_exist.is_some() {
            let old = self.value(key);
            let is_allowed = must_exist.is_none_or(|must_exist| must_exist == old.is_some());
            if wants_old || !is_allowed {
                out.bulk_or_nil(old.filter(|_| wants_old))?;
            }
            if !is_allowed {
                return Ok(());
            }
        }
        self.set(key, value, expires);
        if wants_old { Ok(()) } else { out.simple("OK") }
    }

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
            None => self.set(key, sum.as_bytes(), None),
        }
        out.line(b':', sum)
    }

    fn scan_by(&self, cursor: &[u8], options: &[&[u8]], out: &mut Replies) -> Outcome {
        let from = str::from_utf8(cursor).ok().and_then(|cursor| cursor.parse().ok());
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
        let (keys, next) = self.scan(from, count);
        out.array(2)?;
        out.bulk(next.to_string())?;
        out.bulks(keys.filter(|key| matches(pattern, key)))
    }

    fn value(&self, key: &[u8]) -> Option<&[u8]> {
        self.get(key).map(|entry| &*entry.value)
    }

    fn length_of(&self, key: &[u8]) -> usize {
        self.value(key).map_or(0, <[u8]>::len)
    }

    /// Returns the time that is this many units of milliseconds later, or now if the number is
    /// negative. Returns `None` beyond the clock of Redis, whose milliseconds count from 1970.
    fn later(&self, time: i64, unit: i64) -> Option<Instant> {
        const SINCE_1970: i64 = 1 << 41;
        let millis = time.checked_mul(unit)?;
        millis.checked_add(SINCE_1970)?;
        self.now.checked_add(Duration::from_millis(millis.max(0).unsigned_abs()))
    }
}

fn is_mode(word: &[u8]) -> bool {
    word.eq_ignore_ascii_case(b"async") || word.eq_ignore_ascii_case(b"sync")
}
