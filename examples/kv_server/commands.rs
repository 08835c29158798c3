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

/// All commands; the most used are first.
#[rustfmt::skip]
pub(crate) static COMMANDS: [Command; 43] = [
    ("get", 2, ONE), ("set", -3, ONE), ("incr", 2, ONE), ("ping", -1, NONE), ("del", -2, ALL),
    ("exists", -2, ALL), ("expire", 3, ONE), ("ttl", 2, ONE), ("publish", 3, NONE),
    ("append", 3, ONE), ("client", -2, NONE), ("command", -1, NONE), ("config", -2, NONE),
    ("dbsize", 1, NONE), ("decr", 2, ONE), ("decrby", 3, ONE), ("discard", 1, NONE),
    ("echo", 2, NONE), ("exec", 1, NONE), ("flushall", -1, NONE), ("flushdb", -1, NONE),
    ("getdel", 2, ONE), ("hello", -1, NONE), ("incrby", 3, ONE), ("info", -1, NONE),
    ("keys", 2, NONE), ("mget", -2, ALL), ("monitor", 1, NONE), ("mset", -3, [1, -1, 2]),
    ("multi", 1, NONE), ("persist", 2, ONE), ("pexpire", 3, ONE), ("psubscribe", -2, NONE),
    ("pttl", 2, ONE), ("punsubscribe", -1, NONE), ("quit", -1, NONE), ("reset", 1, NONE),
    ("scan", -2, NONE), ("select", 2, NONE), ("strlen", 2, ONE), ("subscribe", -2, NONE),
    ("type", 2, ONE), ("unsubscribe", -1, NONE),
];
/// The second words of those commands that are several.
#[rustfmt::skip]
static SUBCOMMANDS: [Command; 10] = [
    ("client|getname", 2, NONE), ("client|id", 2, NONE), ("client|kill", -3, NONE),
    ("client|list", 2, NONE), ("client|setinfo", 4, NONE), ("client|setname", 3, NONE),
    ("command|count", 2, NONE), ("command|docs", -2, NONE), ("command|info", -2, NONE),
    ("config|get", -3, NONE),
];

/// The largest reply to one `MGET`, in bytes: a few words may ask for the same value many times.
const REPLY_MAX: usize = 64 * 1024 * 1024;
/// The longest value, as in Redis.
const VALUE_MAX: usize = 512 * 1024 * 1024;
const TOO_LONG: &str = "ERR string exceeds maximum allowed size (proto-max-bulk-len)";
pub(crate) const SYNTAX_ERROR: &str = "ERR syntax error";

/// Finds the command of a request, and checks how many words it has.
pub(crate) fn find(words: &[&[u8]]) -> Outcome<&'static Command> {
    let named = |commands: &'static [Command], name: &[u8]| {
        commands.iter().find(|command| command.0.as_bytes().eq_ignore_ascii_case(name))
    };
    let mut command = named(&COMMANDS, words[0]).ok_or_else(|| unknown(words))?;
    if let ("client" | "command" | "config", [_, what, ..]) = (command.0, words) {
        let found = named(&SUBCOMMANDS, &[words[0], b"|", what].concat());
        command = found.ok_or_else(|| {
            let (what, name) = (String::from_utf8_lossy(what), command.0.to_uppercase());
            format!("ERR unknown subcommand '{what}'. Try {name} HELP.")
        })?;
    }
    let least = usize::from(command.1.unsigned_abs());
    match words.len() {
        fewer if fewer < least => Err(wrong_number(command.0)),
        more if more > least && command.1 > 0 => Err(wrong_number(command.0)),
        _ => Ok(command),
    }
}

fn unknown(words: &[&[u8]]) -> Refusal {
    let name = &words[0][..words[0].len().min(128)];
    let quoted = words[1..].iter().flat_map(|word| [b"'", *word, b"' "].concat());
    let quoted: Vec<u8> = quoted.take(128).collect();
    [b"ERR unknown command '", name, b"', with args beginning with: ", &quoted].concat()
}

pub(crate) fn wrong_number(name: &str) -> Refusal {
    format!("ERR wrong number of arguments for '{name}' command").into()
}

pub(crate) fn number(word: &[u8]) -> Outcome<i64> {
    integer(word).ok_or_else(|| "ERR value is not an integer or out of range".into())
}

/// Returns the time that is this many milliseconds later, or now if the number is negative. Returns
/// `None` beyond the clock of Redis, whose milliseconds count from 1970.
fn later(now: Instant, time: Option<i64>) -> Option<Instant> {
    const SINCE_1970: i64 = 1 << 41;
    time?.checked_add(SINCE_1970)?;
    now.checked_add(Duration::from_millis(time?.max(0).unsigned_abs()))
}

impl Store {
    /// Runs a command whose number of words was checked. Returns whether it is one that needs the
    /// keys alone; if it is not, nothing was done.
    pub(crate) fn run(&mut self, name: &str, words: &[&[u8]], out: &mut Replies) -> Outcome<bool> {
        match (name, words) {
            ("get", [key]) => out.value(self.value(key)),
            ("set", [key, value, options @ ..]) => self.set_by(key, value, options, out)?,
            ("incr", [key]) => out.number(self.add(key, 1)?),
            ("decr", [key]) => out.number(self.add(key, -1)?),
            ("incrby", [key, delta]) => out.number(self.add(key, number(delta)?)?),
            ("decrby", [key, delta]) => {
                let delta = number(delta)?.checked_neg().ok_or("ERR decrement would overflow")?;
                out.number(self.add(key, delta)?);
            }
            ("ping", []) => out.simple("PONG"),
            ("ping" | "echo", [text]) => out.bulk(text),
            ("append", [key, more]) => {
                let length = self.length_of(key) + more.len();
                match self.get_mut(key) {
                    _ if length > VALUE_MAX => return Err(TOO_LONG.into()),
                    Some(entry) => entry.value.extend_from_slice(more),
                    None => self.set(key, more, None),
                }
                out.number(length);
            }
            ("strlen", [key]) => out.number(self.length_of(key)),
            ("getdel", [key]) => out.value(self.remove(key).as_ref().map(|entry| &*entry.value)),
            ("mget", keys) => {
                if keys.iter().map(|key| self.length_of(key)).sum::<usize>() > REPLY_MAX {
                    return Err("ERR the reply exceeds 64 MiB".into());
                }
                out.array(keys.len());
                keys.iter().for_each(|key| out.value(self.value(key)));
            }
            ("mset", words) => {
                let (pairs, []) = words.as_chunks() else { return Err(wrong_number(name)) };
                pairs.iter().for_each(|[key, value]| self.set(key, value, None));
                out.simple("OK");
            }
            ("exists", keys) => out.number(keys.iter().filter_map(|key| self.get(key)).count()),
            ("del", keys) => out.number(keys.iter().filter_map(|key| self.remove(key)).count()),
            ("type", [key]) => out.simple(self.get(key).map_or("none", |_| "string")),
            _ => return self.run_on_times(name, words, out),
        }
        Ok(true)
    }

    fn run_on_times(&mut self, name: &str, words: &[&[u8]], out: &mut Replies) -> Outcome<bool> {
        match (name, words) {
            ("expire" | "pexpire", [key, time]) => {
                let unit = if name == "expire" { 1000 } else { 1 };
                let at = later(self.now, number(time)?.checked_mul(unit));
                at.ok_or_else(|| format!("ERR invalid expire time in '{name}' command"))?;
                out.number(i32::from(self.expire(key, at)));
            }
            ("persist", [key]) => {
                let expires = self.get(key).is_some_and(|entry| entry.expires.is_some());
                out.number(i32::from(expires && self.expire(key, None)));
            }
            ("ttl" | "pttl", [key]) => match self.get(key).map(|entry| entry.expires) {
                None => out.number(-2),
                Some(None) => out.number(-1),
                Some(Some(at)) => {
                    let left = (at - self.now).as_micros().div_ceil(1000);
                    out.number(if name == "ttl" { (left + 500) / 1000 } else { left });
                }
            },
            ("keys", [pattern]) => {
                let keys = self.scan(0, usize::MAX).0.filter(|key| matches(pattern, key));
                out.bulks(&keys.collect::<Vec<_>>());
            }
            ("scan", [cursor, options @ ..]) => self.scan_by(cursor, options, out)?,
            ("dbsize", []) => out.number(self.counts().0),
            ("flushall" | "flushdb", [] | [b"async" | b"sync" | b"ASYNC" | b"SYNC"]) => {
                *self = Self::new(self.now);
                out.simple("OK");
            }
            ("flushall" | "flushdb", _) => return Err(SYNTAX_ERROR.into()),
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn set_by(&mut self, key: &[u8], new: &[u8], words: &[&[u8]], out: &mut Replies) -> Outcome {
        let (mut must_exist, mut expires, mut wants_old) = (None, None, false);
        let mut words = words.iter();
        while let Some(word) = words.next() {
            match (&*word.to_ascii_lowercase(), must_exist, expires) {
                (b"nx", None | Some(false), _) => must_exist = Some(false),
                (b"xx", None | Some(true), _) => must_exist = Some(true),
                (b"get", ..) => wants_old = true,
                (unit @ (b"ex" | b"px"), _, None) => {
                    let time = number(words.next().ok_or(SYNTAX_ERROR)?)?;
                    let time = time.checked_mul(if unit == b"ex" { 1000 } else { 1 });
                    expires = later(self.now, time.filter(|time| *time > 0));
                    expires.ok_or("ERR invalid expire time in 'set' command")?;
                }
                _ => return Err(SYNTAX_ERROR.into()),
            }
        }
        let exists = must_exist.is_some() && self.get(key).is_some();
        let is_allowed = must_exist.is_none_or(|must_exist| must_exist == exists);
        match (wants_old, is_allowed) {
            (true, _) => out.value(self.value(key)),
            (false, true) => out.simple("OK"),
            (false, false) => out.nil(),
        }
        if is_allowed {
            self.set(key, new, expires);
        }
        Ok(())
    }

    fn add(&mut self, key: &[u8], delta: i64) -> Outcome<i64> {
        let entry = self.get_mut(key);
        let before = entry.as_ref().map_or(Ok(0), |entry| number(&entry.value))?;
        let sum = before.checked_add(delta).ok_or("ERR increment or decrement would overflow")?;
        match entry {
            Some(entry) => entry.value = sum.to_string().into(),
            None => self.set(key, sum.to_string().as_bytes(), None),
        }
        Ok(sum)
    }

    fn scan_by(&self, cursor: &[u8], words: &[&[u8]], out: &mut Replies) -> Outcome {
        let from = str::from_utf8(cursor).ok().and_then(|cursor| cursor.parse().ok());
        let from = from.ok_or("ERR invalid cursor")?;
        let (mut pattern, mut most) = (&b"*"[..], 10);
        for option in words.chunks(2) {
            match (&*option[0].to_ascii_lowercase(), option.get(1)) {
                (b"match", Some(value)) => pattern = value,
                (b"count", Some(value)) => most = usize::try_from(number(value)?).unwrap_or(0),
                _ => most = 0,
            }
        }
        if most == 0 {
            return Err(SYNTAX_ERROR.into());
        }
        let (keys, next) = self.scan(from, most);
        out.array(2);
        out.bulk(next.to_string());
        out.bulks(&keys.filter(|key| matches(pattern, key)).collect::<Vec<_>>());
        Ok(())
    }

    fn value(&self, key: &[u8]) -> Option<&[u8]> {
        self.get(key).map(|entry| &*entry.value)
    }

    fn length_of(&self, key: &[u8]) -> usize {
        self.value(key).map_or(0, <[u8]>::len)
    }
}
