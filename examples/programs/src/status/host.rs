//! Whom the page is shown to: whoever calls this machine by a name that is its own.

use std::net::IpAddr;

/// Returns whether the field `Host` is what this machine can be called by.
///
/// A stranger can make a name of its own stand for this machine (DNS rebinding), and its page would
/// then read ours. The browser sends that name; it cannot be an address, or `localhost`.
pub(super) fn is_ours(host: Option<&str>, is_loopback: bool) -> bool {
    let Some(name) = host.and_then(without_port) else { return false };
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
        is_ours(Some(host), is_loopback)
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
    fn host_that_is_missing_is_refused() {
        assert!(!is_ours(None, true));
    }
}
