//! The servers that are compared: where each is from, and what it needs.

use crate::scenarios::{Protocol, SLOW_READER};

#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) name: &'static str,
    pub(crate) protocol: Protocol,
    pub(crate) source: Source,
    /// What is measured without being asked for.
    pub(crate) default: Measured,
    /// A scenario or a part in which it cannot take part, and why.
    pub(crate) unfit: Option<(&'static str, &'static str)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Measured {
    Nothing,
    /// What takes no rounds.
    Counts,
    Everything,
}

impl Measured {
    pub(crate) fn about(self) -> &'static str {
        match self {
            Measured::Nothing => "with --all, or by name",
            Measured::Counts => "its counts; its speed with --all, or by name",
            Measured::Everything => "",
        }
    }
}

#[derive(Clone)]
pub(crate) enum Source {
    /// The repository's own example, built as anyone would, or with the last optimisations.
    Example { optimised: bool },
    /// A program of `servers/`, and the feature that brings its dependencies.
    Rust { program: &'static str, feature: &'static str },
    /// A file of `servers/c/`, and what it is linked with.
    C { file: &'static str, library: Option<Library> },
    /// A file of `servers/scripts/`.
    Script { file: &'static str, interpreter: Interpreter },
}

#[derive(Clone, Copy)]
pub(crate) struct Library {
    pub(crate) name: &'static str,
    pub(crate) header: &'static str,
    /// Debian's package that has the header.
    pub(crate) package: &'static str,
}

#[derive(Clone, Copy)]
pub(crate) struct Interpreter {
    pub(crate) program: &'static str,
    /// Succeeds if everything needed is there.
    pub(crate) probe: &'static [&'static str],
    /// After the address.
    pub(crate) arguments: &'static [&'static str],
    /// What to say if it does not.
    pub(crate) missing: &'static str,
}

/// The one that the others are compared with: nothing but the system calls.
pub(crate) const LIMIT: &str = "c-epoll";

const LIBUV: Library = Library { name: "uv", header: "uv.h", package: "libuv1-dev" };
const LIBEVENT: Library =
    Library { name: "event", header: "event2/event.h", package: "libevent-dev" };
const LIBURING: Library = Library { name: "uring", header: "liburing.h", package: "liburing-dev" };

const NODE: Interpreter = Interpreter {
    program: "node",
    probe: &["--version"],
    arguments: &[],
    missing: "node is not installed",
};
const ASYNCIO: Interpreter = Interpreter {
    program: "python3",
    probe: &["-c", "import asyncio"],
    arguments: &[],
    missing: "python3 is not installed",
};
const UVLOOP: Interpreter = Interpreter {
    program: "python3",
    probe: &["-c", "import uvloop"],
    arguments: &["uvloop"],
    missing: "python3 with uvloop is not installed",
};

/// Returns all servers, in the order of the report: ours, the limit, then the peers.
pub(crate) fn all() -> Vec<Server> {
    vec![
        default(echo("readiness", Source::Example { optimised: false })),
        Server {
            default: Measured::Counts,
            ..echo("readiness-lto", Source::Example { optimised: true })
        },
        echo("readiness-spin", rust("readiness-spin", "readiness")),
        default(echo(LIMIT, c("epoll.c", None))),
        default(echo("mio-tuned", rust("mio-tuned", "mio"))),
        echo("mio-textbook", rust("mio-textbook", "mio")),
        default(echo("tokio", rust("tokio", "tokio"))),
        default(echo("libuv", c("libuv.c", Some(LIBUV)))),
        echo("libevent", c("libevent.c", Some(LIBEVENT))),
        Server {
            unfit: Some(("instructions", "valgrind cannot end its wait")),
            ..echo("liburing", c("liburing.c", Some(LIBURING)))
        },
        echo("calloop", rust("calloop", "calloop")),
        echo("smol", rust("smol", "smol")),
        Server {
            unfit: Some((SLOW_READER, "its send waits for the one that is slow")),
            ..echo("message-io", rust("message-io", "message-io"))
        },
        script("asyncio", "asyncio_server.py", ASYNCIO),
        script("uvloop", "asyncio_server.py", UVLOOP),
        script("node", "node_server.js", NODE),
        default(lines("lines-readiness", rust("lines-readiness", "readiness"))),
        default(lines("lines-readiness-one", rust("lines-readiness-one", "readiness"))),
        default(lines("lines-tokio", rust("lines-tokio", "tokio"))),
        lines("lines-tokio-buffered", rust("lines-tokio-buffered", "tokio")),
        default(lines("lines-libuv", c("lines_libuv.c", Some(LIBUV)))),
    ]
}

fn echo(name: &'static str, source: Source) -> Server {
    Server { name, protocol: Protocol::Echo, source, default: Measured::Nothing, unfit: None }
}

fn lines(name: &'static str, source: Source) -> Server {
    Server { protocol: Protocol::Lines, ..echo(name, source) }
}

fn default(server: Server) -> Server {
    Server { default: Measured::Everything, ..server }
}

fn rust(program: &'static str, feature: &'static str) -> Source {
    Source::Rust { program, feature }
}

fn c(file: &'static str, library: Option<Library>) -> Source {
    Source::C { file, library }
}

fn script(name: &'static str, file: &'static str, interpreter: Interpreter) -> Server {
    Server {
        unfit: Some(("instructions", "those of its interpreter would be counted")),
        ..echo(name, Source::Script { file, interpreter })
    }
}

impl Server {
    /// Returns why it cannot take part in a scenario or a part.
    pub(crate) fn unfit_for(&self, name: &str) -> Option<&'static str> {
        self.unfit.filter(|(unfit, _)| *unfit == name).map(|(_, reason)| reason)
    }
}
