//! The source keeps its layers: each file uses only those above it, and what stands apart stays so.
//!
//! The rules are looked for in the text: in code, that is, without comments, the insides of strings
//! and tests.

#![expect(clippy::unwrap_used, reason = "a failure to read the source is the test's message")]

use std::fs;
use std::path::{Path, PathBuf};

/// The modules in the order of their use: each may use only those above it. Most are a file; a
/// folder counts as one.
const ORDER: [&str; 35] = [
    "cost",
    "attempt",
    "backoff",
    "interest",
    "readiness",
    "buffer",
    "pool",
    "limits",
    "address",
    "slots",
    "event",
    "alarms",
    "pending_events",
    "state",
    "exchange",
    "transfer",
    "deadlines",
    "observer",
    "metrics",
    "system",
    "waker",
    "names",
    "resources",
    "timers",
    "foreign_sources",
    "listener",
    "connection",
    "connections",
    "ready_queues",
    "shutdown",
    "explanation",
    "turn",
    "event_loop",
    "simulation",
    "lib",
];

/// Names that mean a socket, or the kernel behind it.
const SOCKETS: [&str; 12] = [
    "mio",
    "socket2",
    "system",
    "System",
    "Socket",
    "SockRef",
    "ListeningSocket",
    "TcpStream",
    "TcpListener",
    "UnixStream",
    "UnixListener",
    "UdpSocket",
];

/// A file of the source.
struct File {
    /// Below `src/`.
    path: String,
    text: String,
    /// Names and signs of the code, without white space.
    tokens: Vec<String>,
}

impl File {
    fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap();
        let tokens = without_tests(tokens_of(&text));
        let path = path.strip_prefix(source()).unwrap().to_str().unwrap().replace('\\', "/");
        Self { path, text, tokens }
    }

    /// Returns the module that the file is or belongs to.
    fn module(&self) -> &str {
        let first = self.path.split('/').next().unwrap();
        first.strip_suffix(".rs").unwrap_or(first)
    }

    fn place(&self) -> usize {
        let place = ORDER.iter().position(|module| *module == self.module());
        place.unwrap_or_else(|| panic!("{} has no place in the order", self.path))
    }

    fn names(&self, name: &str) -> bool {
        self.tokens.iter().any(|token| token == name)
    }

    /// Returns whether these tokens follow each other somewhere.
    fn has(&self, row: &[&str]) -> bool {
        self.tokens.windows(row.len()).any(|window| window == row)
    }

    /// Returns the modules of this crate that the file names, by `crate::`.
    fn uses(&self) -> Vec<&str> {
        let rows = self.tokens.windows(4).filter(|row| row[..3] == ["crate", ":", ":"]);
        rows.map(|row| row[3].as_str()).collect()
    }

    /// Returns whether the whole file is tests, of which its parent says so.
    fn is_tests(&self) -> bool {
        self.path.ends_with("/tests.rs") || self.path.contains("/tests/")
    }
}

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Returns every file below `src/` that is not tests alone.
fn files() -> Vec<File> {
    all_files().into_iter().filter(|file| !file.is_tests()).collect()
}

fn all_files() -> Vec<File> {
    let mut files = Vec::new();
    let mut folders = vec![source()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.push(File::read(&path));
            }
        }
    }
    assert!(files.len() >= ORDER.len(), "the source was not found");
    files
}

/// Cuts code into names and signs. Comments are left out, and of a string only its quotes stay.
fn tokens_of(text: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => panic!("comments here are lines"),
            '"' => {
                tokens.push("\"".to_owned());
                string_length(rest)
            }
            '\'' => quoted_length(rest),
            _ if is_of_name(first) => {
                let length = rest.find(|sign| !is_of_name(sign)).unwrap_or(rest.len());
                let is_raw = matches!(&rest[..length], "r" | "br");
                let is_string = rest[length..].trim_start_matches('#').starts_with('"');
                assert!(!(is_raw && is_string), "no raw strings here");
                tokens.push(rest[..length].to_owned());
                length
            }
            _ => {
                if !first.is_whitespace() {
                    tokens.push(first.to_string());
                }
                first.len_utf8()
            }
        };
        rest = &rest[length..];
    }
    tokens
}

fn is_of_name(sign: char) -> bool {
    sign.is_alphanumeric() || sign == '_'
}

fn string_length(rest: &str) -> usize {
    let mut is_escaped = false;
    for (place, sign) in rest.char_indices().skip(1) {
        match sign {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '"' => return place + 1,
            _ => {}
        }
    }
    panic!("a string has an end");
}

/// Returns the length of a character in quotes, or of the quote that a lifetime begins with.
fn quoted_length(rest: &str) -> usize {
    let mut signs = rest.char_indices().skip(1);
    let (_, first) = signs.next().unwrap();
    let is_escaped = first == '\\';
    match signs.nth(usize::from(is_escaped)) {
        Some((place, '\'')) => place + 1,
        _ => 1,
    }
}

/// Returns the code without what is built for tests alone.
fn without_tests(mut tokens: Vec<String>) -> Vec<String> {
    let tests = ["#", "[", "cfg", "(", "test", ")", "]"];
    while let Some(place) = tokens.windows(tests.len()).position(|row| row == tests) {
        let behind = place + tests.len();
        let end = behind + item_length(&tokens[behind..]);
        tokens.drain(place..end);
    }
    tokens
}

/// Returns the length of the item that the tokens begin with, with the attributes before it: up to
/// a semicolon or the end of a block in braces, outside of all brackets; of a field, up to its
/// comma.
fn item_length(tokens: &[String]) -> usize {
    if let Some(length) = field_length(tokens) {
        return length;
    }
    let mut depth = 0_usize;
    for (place, token) in tokens.iter().enumerate() {
        match token.as_str() {
            "{" | "(" | "[" => depth += 1,
            "}" | ")" | "]" => {
                depth = depth.checked_sub(1).expect("an item for tests ends by itself");
            }
            _ => {}
        }
        if depth == 0 && token == ";" {
            return place + 1;
        }
        if depth == 0 && token == "}" {
            let has_semicolon = tokens.get(place + 1).is_some_and(|next| next == ";");
            return place + 1 + usize::from(has_semicolon);
        }
    }
    panic!("an item has an end");
}

/// Returns where a field ends, if the tokens begin with one: a name and a colon.
fn field_length(tokens: &[String]) -> Option<usize> {
    let is_restricted = tokens.starts_with(&["pub".to_owned(), "(".to_owned()]);
    let name = if is_restricted { 4 } else { usize::from(tokens[0] == "pub") };
    let is_field = tokens.get(name + 1)? == ":" && tokens.get(name + 2)? != ":";
    let comma = tokens.iter().position(|token| token == ",")?;
    is_field.then_some(comma + 1)
}

/// Returns the paths of the files for which it is true.
fn where_true(mut is_true: impl FnMut(&File) -> bool) -> Vec<String> {
    let mut paths: Vec<String> =
        files().into_iter().filter(|file| is_true(file)).map(|file| file.path).collect();
    paths.sort();
    paths
}

/// Returns whether a module is a folder, whose files name each other by `super`.
fn may_have_files(file: &File) -> bool {
    ["connection", "event_loop", "exchange", "simulation", "system", "turn"]
        .contains(&file.module())
}

fn is_before_the_seam(file: &File) -> bool {
    ORDER[..=place_of("transfer")].contains(&file.module())
}

fn place_of(module: &str) -> usize {
    ORDER.iter().position(|other| *other == module).unwrap()
}

#[test]
fn every_file_has_its_place_in_the_order_and_every_place_its_file() {
    let files = files();
    for (place, module) in ORDER.into_iter().enumerate() {
        assert!(files.iter().any(|file| file.place() == place), "{module} is not there");
    }
    let own_folder = |file: &File| file.path.contains('/') && !may_have_files(file);
    assert_eq!(where_true(own_folder), [""; 0], "only these have several files");
}

#[test]
fn every_file_uses_only_those_above_it() {
    let mut count = 0;
    for file in files() {
        for used in file.uses() {
            assert!(used != "{", "{}: a line for each file that it uses", file.path);
            let place = ORDER.iter().position(|module| *module == used);
            let is_above = place.is_some_and(|place| place < file.place());
            let is_own = used == file.module();
            assert!(is_above || is_own, "{} uses {used}, which is not above it", file.path);
            count += 1;
        }
        // `super` would lead around the names of the files.
        let leads_up = file.names("super") && !may_have_files(&file);
        assert!(!leads_up, "{} names another file by super", file.path);
    }
    assert!(count > 50, "uses are found at all: {count}");
}

#[test]
fn one_file_alone_waits() {
    // The seam passes the call on to the one kernel or the other.
    let waits = |file: &File| file.has(&[".", "wait", "("]) && file.module() != "system";
    assert_eq!(where_true(waits), ["turn/waiting.rs"]);
    let polls = |file: &File| file.has(&[".", "poll", "("]) && file.module() != "simulation";
    assert_eq!(where_true(polls), ["system/kernel.rs"]);
    assert_eq!(where_true(|file| file.names("Poll")), ["system/kernel.rs"]);
    assert_eq!(where_true(|file| file.names("sleep") || file.names("park")), [""; 0]);
}

#[test]
fn only_the_seam_to_the_kernel_names_mio() {
    let names_mio = where_true(|file| file.names("mio") || file.names("socket2"));
    let is_the_kernel =
        |path: &str| path == "system/kernel.rs" || path.starts_with("system/kernel/");
    assert!(names_mio.contains(&"system/kernel.rs".to_owned()));
    let elsewhere: Vec<String> =
        names_mio.into_iter().filter(|path| !is_the_kernel(path)).collect();
    assert_eq!(elsewhere, ["lib.rs"]);
    let re_exports = |file: &File| file.has(&["pub", "use", "mio", ";"]);
    assert_eq!(where_true(re_exports), ["lib.rs"], "for the sources of programs");
}

#[test]
fn what_is_before_the_seam_sees_no_socket() {
    let sees_sockets =
        |file: &File| is_before_the_seam(file) && SOCKETS.iter().any(|name| file.names(name));
    assert_eq!(where_true(sees_sockets), [""; 0]);
    assert!(where_true(is_before_the_seam).len() >= 8);
}

#[test]
fn one_file_alone_names_what_a_socket_returns_when_it_is_not_ready() {
    // Beside it only the simulated kernel, which is the one that says so.
    for name in ["WouldBlock", "Interrupted"] {
        let names = |file: &File| file.names(name) && !file.path.starts_with("system/simulated/");
        assert_eq!(where_true(names), ["attempt.rs"], "{name}");
    }
}

#[test]
fn nothing_is_unsafe() {
    assert_eq!(where_true(|file| file.names("unsafe")), [""; 0]);
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    let manifest = fs::read_to_string(manifest).unwrap();
    assert!(manifest.lines().any(|line| line == "unsafe_code = \"forbid\""));
}

#[test]
fn every_file_begins_with_what_it_is_for() {
    for file in all_files() {
        assert!(file.text.starts_with("//! "), "{}", file.path);
    }
}

#[test]
fn files_of_tests_are_built_for_tests_only() {
    for file in all_files().iter().filter(|file| file.path.ends_with("/tests.rs")) {
        let parent = file.path.replace("/tests.rs", ".rs");
        let parent = fs::read_to_string(source().join(parent)).unwrap();
        assert!(parent.contains("\n#[cfg(test)]\nmod tests;\n"), "{}", file.path);
    }
}

#[test]
fn code_is_told_from_comments_strings_and_tests() {
    let text = "//! mio\nfn a<'s>(b: &'s str) { // mio\n  '\"'; '\\''; \"mio \\\" mio\"; c::d }\n\
                #[cfg(test)]\nuse mio::{b, c};\n#[cfg(test)]\nmod tests;\n\
                struct E { #[cfg(test)]\npub(crate) f: mio,\n g: h }\n\
                #[cfg(test)]\n#[must_use]\nfn mio(a: [u8; 2]) -> u8 { { a[0] } }\nf();\n\
                #[cfg(test)]\nmod tests { use mio; mod e {} }\n";
    let tokens = without_tests(tokens_of(text)).join(" ");
    assert_eq!(
        tokens,
        "fn a < s > ( b : & s str ) { ; ; \" ; c : : d } struct E { g : h } f ( ) ;"
    );
}
