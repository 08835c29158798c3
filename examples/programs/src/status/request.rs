//! Requests: little is understood, and the rest is refused.

use std::net::IpAddr;

use httparse::{EMPTY_HEADER, Header, Status};

/// A status that refuses a request.
pub(super) type Refusal = &'static str;

/// The most bytes and fields of a head.
pub(super) const HEAD_MAX: usize = 8 * 1024;
const FIELDS_MAX: usize = 64;

/// What is asked for.
pub(super) struct Request<'h> {
    pub(super) is_head: bool,
    /// The path without a query.
    pub(super) path: &'h str,
}

impl<'h> Request<'h> {
    /// Returns the request at the front of `received` once it is there.
    pub(super) fn parse(received: &'h [u8], is_loopback: bool) -> Result<Option<Self>, Refusal> {
        let mut fields = [EMPTY_HEADER; FIELDS_MAX];
        let mut parsed = httparse::Request::new(&mut fields);
        match parsed.parse(received).map_err(|_| "400 Bad Request")? {
            Status::Partial if received.len() >= HEAD_MAX => {
                return Err("431 Request Header Fields Too Large");
            }
            Status::Partial => return Ok(None),
            Status::Complete(_) => {}
        }
        let (Some(method), Some(target)) = (parsed.method, parsed.path) else {
            return Err("400 Bad Request");
        };
        if !is_for_us(parsed.headers, is_loopback) {
            return Err("421 Misdirected Request");
        }
        let path = target.split('?').next().unwrap_or(target);
        match method {
            "GET" | "HEAD" => Ok(Some(Self { is_head: method == "HEAD", path })),
            _ => Err("405 Method Not Allowed"),
        }
    }
}

/// Returns whether the one field `Host` is what this machine can be called by.
///
/// A stranger can make a name of its own stand for this machine (DNS rebinding), and its page would
/// then read ours. The browser sends that name; it cannot be an address, or `localhost`.
fn is_for_us(fields: &[Header<'_>], is_loopback: bool) -> bool {
    let mut hosts = fields.iter().filter(|field| field.name.eq_ignore_ascii_case("Host"));
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return false };
    let Ok(host) = std::str::from_utf8(host.value) else { return false };
    let Some(name) = without_port(host) else { return false };
    if name.eq_ignore_ascii_case("localhost") {
        return true;
    }
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    bare.parse().is_ok_and(|address: IpAddr| !is_loopback || address.is_loopback())
}

fn without_port(host: &str) -> Option<&str> {
    let is_bracketed = host.ends_with(']');
    match host.rsplit_once(':') {
        Some((name, port)) if !is_bracketed => {
            port.bytes().all(|byte| byte.is_ascii_digit()).then_some(name)
        }
        _ => Some(host),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(host: &str, is_loopback: bool) -> bool {
        is_for_us(&[Header { name: "hOST", value: host.as_bytes() }], is_loopback)
    }

    #[test]
    fn only_names_of_this_machine_are_answered() {
        for name in ["localhost", "LOCALHOST:1", "127.0.0.1", "127.9.9.9:80", "[::1]", "[::1]:8081"]
        {
            assert!(host(name, true), "{name}");
        }
        let strange =
            ["", "evil.example", "localhost.evil.example", "127.0.0.1.nip.io:8081", "10.0.0.1"];
        for name in strange.into_iter().chain(["localhost:x", "[::2]", "evil@127.0.0.1"]) {
            assert!(!host(name, true), "{name}");
        }
    }

    #[test]
    fn page_that_listens_elsewhere_is_answered_at_addresses_but_never_at_names() {
        assert!(host("10.0.0.1:8081", false));
        assert!(!host("evil.example:8081", false));
    }

    #[test]
    fn host_that_is_missing_or_given_twice_is_refused() {
        let field = Header { name: "Host", value: b"localhost" };
        assert!(!is_for_us(&[], true));
        assert!(!is_for_us(&[field, field], true));
    }
}
