//! A folder to be served, with a secret next to it, and responses taken apart.

#![allow(dead_code, reason = "each test file uses a part of what they share")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// The content of a file next to the folder, which is never to be served.
pub const SECRET: &str = "the-secret-of-the-outside";

/// A folder of the test's own, which is removed when this is dropped.
pub struct Folder {
    outer: PathBuf,
    inner: PathBuf,
}

impl Folder {
    pub fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("www-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let outer = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let inner = outer.join("inner");
        fs::create_dir_all(&inner).unwrap();
        fs::write(outer.join("secret"), SECRET).unwrap();
        Self { outer, inner: inner.canonicalize().unwrap() }
    }

    pub fn path(&self) -> &Path {
        &self.inner
    }

    pub fn write(&self, name: &str, content: &[u8]) {
        let path = self.inner.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    #[cfg(unix)]
    pub fn link(&self, target: &str, name: &str) {
        std::os::unix::fs::symlink(target, self.inner.join(name)).unwrap();
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.outer);
    }
}

/// A response taken apart.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Response {
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Returns the responses to requests of these methods, which are whole, with nothing behind them.
pub fn responses(mut bytes: &[u8], methods: &[&str]) -> Vec<Response> {
    let mut all = Vec::new();
    for method in methods {
        if bytes.is_empty() {
            break;
        }
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("a whole head");
        let head = std::str::from_utf8(&bytes[..end]).unwrap();
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().strip_prefix("HTTP/1.1 ").expect("a status line");
        let status = status[..3].parse().unwrap();
        let fields: Vec<(String, String)> = lines
            .map(|line| line.split_once(": ").expect("a field"))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let length = fields.iter().find(|(name, _)| name == "Content-Length");
        let length = length.map_or(0, |(_, value)| value.parse().unwrap());
        let length = if *method == "HEAD" { 0 } else { length };
        assert!(bytes.len() >= end + 4 + length, "a whole body of {length} bytes: {head}");
        let body = bytes[end + 4..][..length].to_vec();
        all.push(Response { status, fields, body });
        bytes = &bytes[end + 4 + length..];
    }
    assert!(bytes.is_empty(), "more arrived: {}", bytes.escape_ascii());
    all
}
