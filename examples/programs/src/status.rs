//! A page that shows a running loop, served by that same loop.
//!
//! | file | |
//! |---|---|
//! | `../request.rs` | bytes → what is asked for, or the status that refuses it |
//! | `host.rs` | whom the page is shown to |
//! | `watcher.rs` | the observer: counts always, and records steps while somebody watches |
//! | `view.rs` | what each connection waits for → the rows of the page, as JSON |
//! | `metrics.rs` | the counts in the text format of Prometheus |
//! | `../status.html` | the page, which also plays recorded runs |
//!
//! Any program on a loop can mount it: [`StatusPage::mount`] opens a listener of its own, and
//! [`StatusPage::handle`] is called with each event. With no viewer nothing is recorded. A viewer is
//! sent a view of the loop four times a second; one that does not read it is dropped by its limits.
//!
//! Nothing can be changed through it. It is served to names and addresses of this machine alone if
//! it listens on loopback, so that no page of a stranger can read it through a browser.

mod host;
mod metrics;
#[path = "../../common/recorder.rs"]
#[allow(dead_code, reason = "the programs that read runs use the rest")]
mod recorder;
mod view;
mod watcher;

use std::collections::hash_map::RandomState;
use std::fmt::Write;
use std::hash::BuildHasher;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use readiness::{
    ConnectionId, ConnectionLimits, Event, EventLoop, ListenerId, Metrics, Stream, TimerId,
};

use crate::request::{FIELDS, HEAD_MAX, Request, Status};
use view::Sample;
use watcher::{Shared, Watcher};

/// How often a viewer is sent a view.
pub const PERIOD: Duration = Duration::from_millis(250);
/// How many bytes may wait for a viewer that does not read.
pub const UNSENT_MAX: usize = 256 * 1024;
/// How many connections to the page are served at once.
pub const VIEWERS_MAX: usize = 16;
/// How long a viewer has to ask for something, and to read on.
const PATIENCE: Duration = Duration::from_secs(10);

/// The page, in which `NONCE` stands for what its script and its style are allowed by.
const PAGE: &str = include_str!("status.html");

/// The runs that can be played, by name.
pub const RUNS: [(&str, &str); 6] = [
    ("slow-reader", include_str!("../../../docs/pictures/runs/slow-reader.run")),
    ("talkers", include_str!("../../../docs/pictures/runs/talkers.run")),
    ("descriptors", include_str!("../../../docs/pictures/runs/descriptors.run")),
    ("shutdown", include_str!("../../../docs/pictures/runs/shutdown.run")),
    ("lost-wake-up", include_str!("../../../docs/pictures/runs/lost-wake-up.run")),
    ("half-close", include_str!("../../../docs/pictures/runs/half-close.run")),
];

/// The page of one loop.
#[derive(Debug)]
pub struct StatusPage {
    listener: ListenerId,
    is_loopback: bool,
    shared: Arc<Shared>,
    viewers: Vec<Viewer>,
    own: OwnBytes,
    /// Set while a feed is open.
    timer: Option<TimerId>,
    sample: Sample,
}

/// The bytes of requests to the page and of its answers, which the loop counts like all others.
#[derive(Debug, Default)]
struct OwnBytes {
    read: u64,
    /// All that was sent. What the kernel has not taken is subtracted when a connection closes.
    sent: u64,
}

/// A connection to the page.
#[derive(Debug)]
struct Viewer {
    id: ConnectionId,
    /// Whether it is sent views.
    is_feed: bool,
}

impl StatusPage {
    /// Listens at the address and becomes the observer of the loop.
    ///
    /// Each connection to the page is one of the loop's, whose data is what the closure returns.
    ///
    /// # Errors
    ///
    /// Returns the operating system's error if it cannot listen there.
    pub fn mount<T>(
        event_loop: &mut EventLoop<T>,
        address: impl ToSocketAddrs,
        make_data: impl FnMut(SocketAddr) -> T + Send + 'static,
    ) -> io::Result<Self> {
        let listener = event_loop.listen_with(address, make_data)?;
        Self::at(event_loop, listener)
    }

    /// Serves the page at a listener that the program has opened, also on a simulated network.
    ///
    /// # Errors
    ///
    /// Returns `NotFound` if the listener was closed, or the operating system's error.
    pub fn at<T>(event_loop: &mut EventLoop<T>, listener: ListenerId) -> io::Result<Self> {
        let is_loopback = event_loop.listener_addr(listener)?.ip().is_loopback();
        let shared = Arc::new(Shared::new(listener));
        event_loop.set_observer(Watcher::new(Arc::clone(&shared)));
        Ok(Self {
            listener,
            is_loopback,
            shared,
            viewers: Vec::new(),
            own: OwnBytes::default(),
            timer: None,
            sample: Sample::default(),
        })
    }

    /// Returns where the page listens.
    #[must_use]
    pub fn listener(&self) -> ListenerId {
        self.listener
    }

    /// Handles an event of the page, and returns whether it was one. Call it with each event.
    pub fn handle<T>(&mut self, event_loop: &mut EventLoop<T>, event: Event) -> bool {
        match event {
            Event::Accepted(listener, id) if listener == self.listener => {
                self.accept(&mut event_loop[id]);
                true
            }
            Event::AcceptFailed(listener, _) => listener == self.listener,
            Event::Timer(timer) if Some(timer) == self.timer => {
                self.feed(event_loop);
                true
            }
            _ => event.connection().is_some_and(|id| self.serve(event_loop, event, id)),
        }
    }

    fn accept(&mut self, stream: &mut Stream) {
        // A viewer more than there may be hears only that.
        if self.viewers.len() >= VIEWERS_MAX {
            return stream.abort();
        }
        // The limits agree with each other, so they are taken.
        let _ = stream.set_limits(limits());
        stream.set_deadline(Some(PATIENCE));
        hold_little(stream);
        self.viewers.push(Viewer { id: stream.id(), is_feed: false });
    }

    /// Serves a viewer, if it is one that the event is about.
    fn serve<T>(&mut self, event_loop: &mut EventLoop<T>, event: Event, id: ConnectionId) -> bool {
        let Some(place) = self.viewers.iter().position(|viewer| viewer.id == id) else {
            // One that was turned away has its end announced too.
            return matches!(event, Event::Closed(..))
                && event_loop.get(id).is_some_and(|it| it.listener() == Some(self.listener));
        };
        match event {
            Event::Received(_) | Event::Full(_) => self.receive(event_loop, place),
            Event::Deadline(_) => event_loop[id].close(),
            Event::Closed(..) => {
                let stream = &mut event_loop[id];
                self.discard(stream);
                self.own.sent = self.own.sent.saturating_sub(unwritten(stream));
                self.viewers.swap_remove(place);
                self.rest_unless_watched(event_loop);
            }
            _ => {}
        }
        true
    }

    fn receive<T>(&mut self, event_loop: &mut EventLoop<T>, place: usize) {
        let Viewer { id, is_feed } = self.viewers[place];
        if is_feed {
            return self.discard(&mut event_loop[id]);
        }
        let mut fields = FIELDS;
        let answer = match Request::parse(event_loop[id].received(), &mut fields) {
            Ok(None) => return,
            Ok(Some(request)) if !host::is_ours(request.field("Host"), self.is_loopback) => {
                refuse("421 Misdirected Request")
            }
            Ok(Some(request)) if request.path == "/feed" && !request.is_head => {
                self.viewers[place].is_feed = true;
                return self.open_feed(event_loop, id);
            }
            Ok(Some(request)) => {
                let body = self.answer(event_loop, request.path);
                body.map_or_else(refuse, |answer| answer.head_and_body(request.is_head))
            }
            Err(refusal) => refuse(refusal),
        };
        let stream = &mut event_loop[id];
        self.discard(stream);
        self.send(stream, answer.as_bytes());
        stream.close();
    }

    fn answer<T>(&self, event_loop: &EventLoop<T>, path: &str) -> Result<Answer, Status> {
        let plain = "text/plain; charset=utf-8";
        match path {
            "/" | "/index.html" => {
                let nonce = nonce();
                let policy = format!(
                    "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; \
                     connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; \
                     frame-ancestors 'none'"
                );
                let body = PAGE.replace("NONCE", &nonce);
                Ok(Answer { content_type: "text/html; charset=utf-8", policy, body })
            }
            "/metrics" => {
                let seen = self.shared.lock();
                let (explanation, metrics) = (event_loop.explain(), self.metrics(event_loop));
                let body = metrics::text(&seen, &metrics, &explanation, self.feeds().count());
                Ok(Answer::new("text/plain; version=0.0.4; charset=utf-8", body))
            }
            path => {
                let name = path.strip_prefix("/runs/").and_then(|name| name.strip_suffix(".run"));
                let run = RUNS.iter().find(|run| Some(run.0) == name).ok_or("404 Not Found")?;
                Ok(Answer::new(plain, run.1.to_owned()))
            }
        }
    }

    fn open_feed<T>(&mut self, event_loop: &mut EventLoop<T>, id: ConnectionId) {
        let stream = &mut event_loop[id];
        self.discard(stream);
        stream.set_deadline(None);
        let head = Answer::new("text/event-stream", String::new()).head("");
        self.send(stream, format!("{head}retry: 1000\n\n").as_bytes());
        if self.timer.is_none() {
            let timer = event_loop.set_repeating_timer(PERIOD);
            self.timer = Some(timer);
            self.shared.watch(timer);
        }
        self.feed(event_loop);
    }

    /// Sends a view to all that watch.
    fn feed<T>(&mut self, event_loop: &mut EventLoop<T>) {
        let (explanation, metrics) = (event_loop.explain(), self.metrics(event_loop));
        let mut message = String::new();
        {
            let mut seen = self.shared.lock();
            let view = view::of(self.shared.now(), &explanation, &seen, &metrics, &mut self.sample);
            // A string takes all that is written to it.
            let _ = write!(message, "event: view\ndata: {view}\n\n");
            let steps = seen.take_steps();
            if !steps.is_empty() {
                message.push_str("event: steps\n");
                for (at, step) in steps {
                    let _ = writeln!(message, "data: {}", recorder::Record::of(at, &step));
                }
                message.push('\n');
            }
        }
        let feeds = event_loop.send_each(self.feeds(), message.as_bytes());
        self.own.sent += (feeds * message.len()) as u64;
    }

    fn send(&mut self, stream: &mut Stream, bytes: &[u8]) {
        stream.send(bytes);
        self.own.sent += bytes.len() as u64;
    }

    /// Drops what a viewer says that is not a request.
    fn discard(&mut self, stream: &mut Stream) {
        let count = stream.received().len();
        stream.consume(count);
        self.own.read += count as u64;
    }

    /// Returns what the loop has done, without the bytes of requests to the page and of its answers.
    /// What a viewer sends after its answer is discarded by the loop, and counted.
    fn metrics<T>(&self, event_loop: &EventLoop<T>) -> Metrics {
        let mut metrics = event_loop.metrics();
        let (mut read, mut written) = (self.own.read, self.own.sent);
        for viewer in self.viewers.iter().filter_map(|viewer| event_loop.get(viewer.id)) {
            read += viewer.received().len() as u64;
            // The program may have sent something to it, too, as to all its connections.
            written = written.saturating_sub(unwritten(viewer));
        }
        metrics.bytes_read = metrics.bytes_read.saturating_sub(read);
        metrics.bytes_written = metrics.bytes_written.saturating_sub(written);
        metrics
    }

    fn feeds(&self) -> impl Iterator<Item = ConnectionId> {
        self.viewers.iter().filter(|viewer| viewer.is_feed).map(|viewer| viewer.id)
    }

    /// Records nothing more when the last viewer has left.
    fn rest_unless_watched<T>(&mut self, event_loop: &mut EventLoop<T>) {
        if self.feeds().next().is_some() {
            return;
        }
        if let Some(timer) = self.timer.take() {
            event_loop.cancel_timer(timer);
            self.shared.rest();
        }
    }
}

/// Returns how many bytes the page has sent that the kernel has not taken.
fn unwritten(viewer: &Stream) -> u64 {
    viewer.unsent() as u64 + viewer.lost()
}

/// What is answered to a request that is understood.
struct Answer {
    content_type: &'static str,
    policy: String,
    body: String,
}

impl Answer {
    fn new(content_type: &'static str, body: String) -> Self {
        let policy = "default-src 'none'; frame-ancestors 'none'".to_owned();
        Self { content_type, policy, body }
    }

    fn head_and_body(&self, is_head: bool) -> String {
        let head = self.head(&format!("Content-Length: {}\r\n", self.body.len()));
        head + if is_head { "" } else { &self.body }
    }

    fn head(&self, more: &str) -> String {
        format!(
            "HTTP/1.1 200 OK\r\nContent-Type: {}\r\n{more}Content-Security-Policy: {}\r\n{SAFETY}\r\n",
            self.content_type, self.policy
        )
    }
}

/// What every answer says besides.
const SAFETY: &str = "X-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\n\
    Cross-Origin-Resource-Policy: same-origin\r\nCache-Control: no-store\r\nConnection: close\r\n";

fn refuse(refusal: Status) -> String {
    let allow = if refusal.starts_with("405") { "Allow: GET, HEAD\r\n" } else { "" };
    format!(
        "HTTP/1.1 {refusal}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n\
         {allow}{SAFETY}\r\n{refusal}\n",
        refusal.len() + 1
    )
}

/// Returns a word that no page can guess: the keys of the standard hash are random.
fn nonce() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let word = || RandomState::new().hash_one(count);
    format!("{:016x}{:016x}", word(), word())
}

/// The limits of a connection to the page, whatever those of the program are.
fn limits() -> ConnectionLimits {
    let mut limits = ConnectionLimits::default();
    limits.read_buffer_max = HEAD_MAX;
    limits.unsent_max = UNSENT_MAX;
    limits.stalled_write_deadline = PATIENCE;
    // A feed is sent to while its peer sends nothing, and may have bytes unsent at any time.
    limits.reads_while_unsent = true;
    limits
}

/// Has the kernel hold little for a viewer too, so that one that does not read is noticed soon.
#[cfg(unix)]
fn hold_little(stream: &Stream) {
    if let Ok(socket) = stream.try_as_fd() {
        // Without it the kernel holds more, and the viewer is dropped later.
        let _ = rustix::net::sockopt::set_socket_send_buffer_size(socket, UNSENT_MAX / 4);
    }
}

#[cfg(not(unix))]
fn hold_little(_: &Stream) {}
