//! The commands on keys: what they make of the store, and what they answer.

use std::time::{Duration, Instant};

use crate::resp::Reply::{self, Array, Bulk, Integer, Nil, Simple, Text};
use crate::resp::{Answer, OK, Refusal, count, integer};
use crate::store::{Entry, Store, matches};

/// A command: its name; how many words it has with that, or at least has if the number is negative;
/// and the first word that is a key, the last, and the step from one to the next.
pub(crate) type Command = (&'static str, i8, [i8; 3]);

const ONE: [i8; 3] = [1, 1, 1];
const ALL: [i8; 3] = [1, -1, 1];
const NONE: [i8; 3] = [0, 0, 0];

/// All commands; the most used are first.
#[rustfmt::skip]
pub(crate) static COMMANDS: [Command; 42] = [
    ("get", 2, ONE), ("set", -3, ONE), ("incr", 2, ONE), ("ping", -1, NONE), ("del", -2, ALL),
    ("exists", -2, ALL), ("expire", 3, ONE), ("ttl", 2, ONE), ("publish", 3, NONE),
    ("append", 3, ONE), ("client", -2, NONE), ("command", -1, NONE), ("config", -2, NONE),
    ("dbsize", 1, NONE), ("decr", 2, ONE), ("decrby", 3, ONE), ("discard", 1, NONE),
    ("echo", 2, NONE), ("exec", 1, NONE), ("flushall", -1, NONE), ("getdel", 2, ONE),
    ("hello", -1, NONE), ("incrby", 3, ONE), ("info", -1, NONE), ("keys", 2, NONE),
    ("mget", -2, ALL), ("monitor", 1, NONE), ("mset", -3, [1, -1, 2]), ("multi", 1, NONE),
    ("persist", 2, ONE), ("pexpire", 3, ONE), ("psubscribe", -2, NONE), ("pttl", 2, ONE),
    ("punsubscribe", -1, NONE), ("quit", -1, NONE), ("reset", 1, NONE), ("scan", -2, NONE),
    ("select", 2, NONE), ("strlen", 2, ONE), ("subscribe", -2, NONE), ("type", 2, ONE),
    ("unsubscribe", -1, NONE),
];

/// The largest reply to one `MGET`, in bytes: a few words may ask for the same value many times.
const REPLY_MAX: usize = 64 * 1024 * 1024;
const TOO_LARGE: &str = "ERR the reply exceeds 64 MiB";
/// The longest value, as in Redis.
const VALUE_MAX: usize = 512 * 1024 * 1024;
const TOO_LONG: &str = "ERR string exceeds maximum allowed size (proto-max-bulk-len)";
pub(crate) const SYNTAX_ERROR: &str = "ERR syntax error";

pub(crate) fn wrong_number(name: &str) -> Refusal {
    format!("ERR wrong number of arguments for '{name}' command").into()
}

pub(crate) fn number(word: &[u8]) -> Result<i64, Refusal> {
    integer(word).ok_or_else(|| "ERR value is not an integer or out of range".into())
}

/// Returns the time that is this many milliseconds later, or now if the number is negative. Returns
/// `None` beyond the clock of Redis, whose milliseconds count from 1970.
fn later(now: Instant, time: Option<i64>) -> Option<Instant> {
    const SINCE_1970: i64 = 1 << 41;
    time?.checked_add(SINCE_1970)?;
    now.checked_add(Duration::from_millis(time?.max(0).unsigned_abs()))
}

fn value(entry: Option<&Entry>) -> Reply<'_> {
    entry.map_or(Nil, |entry| Bulk(&entry.value))
}

impl Store {
    /// Runs a command whose number of words was checked.
    pub(crate) fn run<'v>(&'v mut self, name: &str, words: &[&[u8]]) -> Answer<'v> {
        Ok(match (name, words) {
            ("get", [key]) => value(self.get(key)),
            ("set", [key, value, options @ ..]) => self.set_by(key, value, options)?,
            ("incr", [key]) => self.add(key, 1)?,
            ("decr", [key]) => self.add(key, -1)?,
            ("incrby", [key, delta]) => self.add(key, number(delta)?)?,
            ("decrby", [key, delta]) => {
                let delta = number(delta)?.checked_neg();
                self.add(key, delta.ok_or("ERR decrement would overflow")?)?
            }
            ("append", [key, more]) => {
                let length = more.len() + self.get(key).map_or(0, |entry| entry.value.len());
                match self.get_mut(key) {
                    _ if length > VALUE_MAX => return Err(TOO_LONG.into()),
                    Some(entry) => entry.value.extend_from_slice(more),
                    None => self.set(key, more, None),
                }
                count(length)
            }
            ("strlen", [key]) => count(self.get(key).map_or(0, |entry| entry.value.len())),
            ("getdel", [key]) => self.remove(key).map_or(Nil, |entry| Text(entry.value)),
            ("mget", keys) if self.size_of(keys) > REPLY_MAX => return Err(TOO_LARGE.into()),
            ("mget", keys) => Array(keys.iter().map(|key| value(self.get(key))).collect()),
            ("mset", words) => match words.as_chunks() {
                (pairs, []) => {
                    pairs.iter().for_each(|[key, value]| self.set(key, value, None));
                    OK
                }
                _ => return Err(wrong_number(name)),
            },
            ("exists", keys) => count(keys.iter().filter_map(|key| self.get(key)).count()),
            ("del", keys) => count(keys.iter().filter_map(|key| self.remove(key)).count()),
            ("type", [key]) => Simple(self.get(key).map_or("none", |_| "string")),
            _ => return self.run_on_times_or_all(name, words),
        })
    }

    fn run_on_times_or_all<'v>(&'v mut self, name: &str, words: &[&[u8]]) -> Answer<'v> {
        Ok(match (name, words) {
            ("expire" | "pexpire", [key, time]) => {
                let unit = if name == "expire" { 1000 } else { 1 };
                let at = later(self.now, number(time)?.checked_mul(unit));
                let at =
                    at.ok_or_else(|| format!("ERR invalid expire time in '{name}' command"))?;
                Integer(self.expire(key, Some(at)).into())
            }
            ("persist", [key]) => {
                let expires = self.get(key).is_some_and(|entry| entry.expires.is_some());
                Integer((expires && self.expire(key, None)).into())
            }
            ("ttl" | "pttl", [key]) => match self.get(key).map(|entry| entry.expires) {
                None => Integer(-2),
                Some(None) => Integer(-1),
                Some(Some(at)) => {
                    let left = (at - self.now).as_micros().div_ceil(1000);
                    let left = if name == "ttl" { (left + 500) / 1000 } else { left };
                    Integer(i64::try_from(left).unwrap_or(i64::MAX))
                }
            },
            ("keys", [pattern]) => {
                let (keys, _) = self.scan(0, usize::MAX);
                Array(keys.filter(|key| matches(pattern, key)).map(Bulk).collect())
            }
            ("scan", [cursor, options @ ..]) => self.scan_by(cursor, options)?,
            ("dbsize", []) => count(self.counts().0),
            ("flushall", [] | [b"async" | b"sync" | b"ASYNC" | b"SYNC"]) => {
                *self = Self::new(self.now);
                OK
            }
            _ => return Err(SYNTAX_ERROR.into()),
        })
    }

    fn set_by(&mut self, key: &[u8], new: &[u8], options: &[&[u8]]) -> Answer<'static> {
        let (mut must_exist, mut expires, mut wants_old) = (None, None, false);
        let mut options = options.iter();
        while let Some(option) = options.next() {
            match (&*option.to_ascii_lowercase(), must_exist, expires) {
                (b"nx", None | Some(false), _) => must_exist = Some(false),
                (b"xx", None | Some(true), _) => must_exist = Some(true),
                (b"get", ..) => wants_old = true,
                (unit @ (b"ex" | b"px"), _, None) => {
                    let time = number(options.next().ok_or(SYNTAX_ERROR)?)?;
                    let time = time.checked_mul(if unit == b"ex" { 1000 } else { 1 });
                    expires = later(self.now, time.filter(|time| *time > 0));
                    expires.ok_or("ERR invalid expire time in 'set' command")?;
                }
                _ => return Err(SYNTAX_ERROR.into()),
            }
        }
        let old = self.get(key);
        let is_allowed = must_exist.is_none_or(|must_exist| must_exist == old.is_some());
        let reply = match (wants_old, is_allowed) {
            (true, _) => old.map_or(Nil, |entry| Text(entry.value.clone())),
            (false, true) => OK,
            (false, false) => Nil,
        };
        if is_allowed {
            self.set(key, new, expires);
        }
        Ok(reply)
    }

    fn add(&mut self, key: &[u8], delta: i64) -> Answer<'static> {
        let entry = self.get_mut(key);
        let before = entry.as_ref().map_or(Ok(0), |entry| number(&entry.value))?;
        let sum = before.checked_add(delta).ok_or("ERR increment or decrement would overflow")?;
        match entry {
            Some(entry) => entry.value = sum.to_string().into(),
            None => self.set(key, sum.to_string().as_bytes(), None),
        }
        Ok(Integer(sum))
    }

    fn scan_by(&self, cursor: &[u8], options: &[&[u8]]) -> Answer<'_> {
        let from = str::from_utf8(cursor).ok().and_then(|cursor| cursor.parse().ok());
        let (mut pattern, mut most) = (&b"*"[..], 10);
        for option in options.chunks(2) {
            match (&*option[0].to_ascii_lowercase(), option.get(1)) {
                (b"match", Some(value)) => pattern = value,
                (b"count", Some(value)) => most = usize::try_from(number(value)?).unwrap_or(0),
                _ => most = 0,
            }
        }
        if most == 0 {
            return Err(SYNTAX_ERROR.into());
        }
        let (keys, next) = self.scan(from.ok_or("ERR invalid cursor")?, most);
        let keys = keys.filter(|key| matches(pattern, key));
        Ok(Array(vec![Text(next.to_string().into()), Array(keys.map(Bulk).collect())]))
    }
}
