//! The recorded runs, each on the simulated network, so that they are the same on every machine.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use readiness::simulation::{Faults, Peer, Program, Simulation};
use readiness::{Event, EventLoop, Interest, Step};

use crate::Outcome;
use crate::recorder::{HEADER, Record};

/// The names of the runs.
pub(crate) const NAMES: [&str; 6] =
    ["slow-reader", "talkers", "descriptors", "shutdown", "lost-wake-up", "half-close"];

/// How much time each thing takes that happens on the network.
const TICK: Duration = Duration::from_micros(200);

/// Records a run.
pub(crate) fn record(name: &str) -> Outcome<String> {
    match name {
        "slow-reader" => slow_reader(),
        "talkers" => talkers(),
        "descriptors" => descriptors(),
        "shutdown" => shutdown(),
        "lost-wake-up" => lost_wake_up(),
        "half-close" => half_close(),
        _ => Err(format!("there is no run {name:?}; see --help").into()),
    }
}

/// What handles the events of a server.
trait Handler: FnMut(&mut EventLoop, Event) -> io::Result<()> + 'static {}

impl<H: FnMut(&mut EventLoop, Event) -> io::Result<()> + 'static> Handler for H {}

type Handle = Box<dyn FnMut(&mut EventLoop, Event) -> io::Result<()>>;

/// Locks what one thread alone uses: an observer must be `Send`.
fn lock(run: &Mutex<Run>) -> MutexGuard<'_, Run> {
    run.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A server on a simulated network, with everything that it does recorded.
struct Stage {
    simulation: Simulation,
    server: Program<(), Handle>,
    peers: Vec<Peer>,
    run: Arc<Mutex<Run>>,
}

/// What was recorded so far.
struct Run {
    start: Instant,
    lines: Vec<Record>,
    flows: BTreeMap<String, Flow>,
}

/// How many bytes of one connection went where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Flow {
    peer: String,
    filled: u64,
    flushed: u64,
    written: u64,
    read: u64,
    gauge: [u64; 4],
}

impl Run {
    fn note(&mut self, record: Record) {
        let flow = self.flows.entry(record.id.clone()).or_default();
        match record.step.as_str() {
            "accepted" => record.field("peer").clone_into(&mut flow.peer),
            "filled" | "discarded" => flow.filled += record.number("count"),
            "flushed" => flow.flushed += record.number("count"),
            _ => {}
        }
        self.lines.push(record);
    }

    fn line(&mut self, at: Instant, step: &str, id: &str, fields: &[(&str, u64)], words: &str) {
        let fields = fields.iter().map(|(name, value)| ((*name).into(), value.to_string()));
        self.lines.push(Record {
            at: at - self.start,
            step: step.into(),
            id: id.into(),
            fields: fields.collect(),
            sentence: words.into(),
        });
    }

    fn note_event(&mut self, at: Instant, event: Event) {
        let name = format!("{event:?}");
        let name = name.split('(').next().unwrap_or_default().to_owned();
        let id = event.connection().map_or("loop".to_owned(), |id| id.to_string());
        let words = format!("the program handles {name}");
        self.line(at, "event", &id, &[], &words);
        if let Some(line) = self.lines.last_mut() {
            line.fields.push(("event".into(), name));
        }
    }

    fn flow_of(&mut self, peer: &str) -> Option<(&String, &mut Flow)> {
        self.flows.iter_mut().find(|(_, flow)| flow.peer == peer)
    }
}

impl Stage {
    fn new(faults: Faults, handle: impl Handler) -> Outcome<Self> {
        Self::with_seed(1, faults, handle)
    }

    fn with_seed(seed: u64, faults: Faults, mut handle: impl Handler) -> Outcome<Self> {
        let simulation = Simulation::with_faults(seed, faults);
        let start = simulation.now();
        let run = Run { start, lines: Vec::new(), flows: BTreeMap::new() };
        let run = Arc::new(Mutex::new(run));
        let (clock, seen) = (simulation.clone(), Arc::clone(&run));
        let handle = move |server: &mut EventLoop, event: Event| {
            lock(&seen).note_event(clock.now(), event);
            handle(server, event)
        };
        let mut server = Program::new(simulation.event_loop(), Box::new(handle) as Handle);
        let (clock, seen) = (simulation.clone(), Arc::clone(&run));
        server.event_loop.set_observer(move |step: Step| {
            let mut run = lock(&seen);
            let at = clock.now() - run.start;
            run.note(Record::of(at, &step));
        });
        server.event_loop.listen("127.0.0.1:65432")?;
        Ok(Self { simulation, server, peers: Vec::new(), run })
    }

    /// Connects one more peer, and runs until it is accepted.
    fn connect(&mut self) -> Outcome<usize> {
        self.peers.push(self.simulation.connect("127.0.0.1:65432".parse()?));
        let count = self.server.event_loop.connection_count();
        while self.server.event_loop.connection_count() == count {
            self.advance()?;
        }
        Ok(self.peers.len() - 1)
    }

    /// Lets one thing happen, and notes how many bytes are where then.
    fn advance(&mut self) -> Outcome {
        self.simulation.pass_time(TICK);
        match self.simulation.advance(&mut [&mut self.server]) {
            Err(error) if error.kind() != io::ErrorKind::TimedOut => return Err(error.into()),
            _ => {} // it is the peers' turn if nothing else can happen
        }
        self.gauge();
        Ok(())
    }

    /// Lets things happen until nothing can move without more time.
    fn settle(&mut self) -> Outcome {
        loop {
            if self.server.event_loop.next_timeout() == Some(Duration::ZERO) {
                self.advance()?;
            } else if !self.simulation.step() {
                break;
            }
        }
        self.gauge();
        Ok(())
    }

    /// Lets the loop sleep for this long, in which nothing happens.
    fn sleep(&mut self, time: Duration) -> Outcome {
        self.settle()?;
        self.simulation.pass_time(time);
        match self.server.event_loop.poll_event(Some(Duration::ZERO))? {
            Some(event) => Err(format!("{event:?} ended the sleep").into()),
            None => Ok(()),
        }
    }

    fn gauge(&mut self) {
        let mut run = lock(&self.run);
        for connection in self.server.event_loop.connections() {
            let id = connection.id().to_string();
            let Some(flow) = run.flows.get_mut(&id) else { continue };
            let received = connection.received().len() as u64;
            let unsent = connection.unsent() as u64;
            let gauge = [flow.written - flow.filled, received, unsent, flow.flushed - flow.read];
            if flow.gauge != gauge {
                flow.gauge = gauge;
                let [kernel_in, received, unsent, kernel_out] = gauge;
                let fields = [
                    ("kernel_in", kernel_in),
                    ("received", received),
                    ("unsent", unsent),
                    ("kernel_out", kernel_out),
                ];
                let words = format!(
                    "{id} has {kernel_in} bytes in the kernels towards it, {received} received, \
                     {unsent} unsent, {kernel_out} in the kernels towards its peer"
                );
                run.line(self.simulation.now(), "gauge", &id, &fields, &words);
            }
        }
    }

    /// Notes what a peer did.
    fn note_peer(&mut self, peer: usize, what: &str, count: u64) {
        let address = self.peers[peer].local_addr().to_string();
        let mut run = lock(&self.run);
        let Some((id, flow)) = run.flow_of(&address) else { return };
        match what {
            "writes" => flow.written += count,
            "reads" => flow.read += count,
            _ => {}
        }
        let id = id.clone();
        let fields = [("count", count)];
        let fields = if count > 0 { &fields[..] } else { &[] };
        let bytes = if count > 0 { format!(" {count} bytes") } else { String::new() };
        run.line(self.simulation.now(), "peer", &id, fields, &format!("the peer {what}{bytes}"));
    }

    fn write(&mut self, peer: usize, bytes: &[u8]) -> usize {
        let count = self.peers[peer].write(bytes);
        if count > 0 {
            self.note_peer(peer, "writes", count as u64);
        }
        count
    }

    fn read(&mut self, peer: usize, most: usize) -> usize {
        let count = self.peers[peer].read_at_most(most).len();
        if count > 0 {
            self.note_peer(peer, "reads", count as u64);
        }
        count
    }

    fn finish_peer(&mut self, peer: usize) {
        self.note_peer(peer, "finishes", 0);
        self.peers[peer].finish();
    }

    fn interest(&self) -> Interest {
        let mut interests = self.server.event_loop.connections().map(|it| it.interest());
        interests.next().unwrap_or(Interest::None)
    }

    /// Lets things happen until all connections have closed.
    fn close_all(&mut self) -> Outcome {
        while self.server.event_loop.connection_count() > 0 {
            self.advance()?;
        }
        Ok(())
    }

    fn text(self) -> String {
        let run = lock(&self.run);
        let lines: Vec<String> = run.lines.iter().map(ToString::to_string).collect();
        format!("{HEADER}\n{}\n", lines.join("\n"))
    }
}

fn echo(server: &mut EventLoop, event: Event) -> io::Result<()> {
    if let Event::Received(id) = event {
        server[id].send_received();
    }
    Ok(())
}

/// A network whose kernels hold this many bytes in each buffer.
fn network(buffer: usize) -> Faults {
    let mut faults = Faults::none();
    (faults.send_buffer, faults.receive_buffer) = (buffer, buffer);
    faults.piece_max = buffer / 4;
    faults
}

/// A peer that sends much and reads nothing for two and a half seconds.
fn slow_reader() -> Outcome<String> {
    let mut stage = Stage::new(network(64 * 1024), echo)?;
    let peer = stage.connect()?;
    stage.write(peer, b"Hello, world");
    let mut answered = 0;
    while answered < 12 {
        stage.advance()?;
        answered += stage.read(peer, usize::MAX);
    }
    let piece = [b'x'; 16 * 1024];
    let mut in_flight = 0;
    while stage.interest() != Interest::Writable {
        in_flight += stage.write(peer, &piece);
        stage.advance()?;
    }
    for _ in 0..24 {
        in_flight += stage.write(peer, &piece);
        stage.simulation.pass_time(TICK);
        stage.settle()?;
    }
    stage.sleep(Duration::from_millis(2_500))?;
    while in_flight > 0 {
        stage.simulation.pass_time(Duration::from_millis(20));
        in_flight -= stage.read(peer, 24 * 1024);
        stage.advance()?;
    }
    stage.finish_peer(peer);
    stage.close_all()?;
    Ok(stage.text())
}

/// Three small talkers beside a bulk stream.
fn talkers() -> Outcome<String> {
    let mut stage = Stage::new(network(256 * 1024), echo)?;
    let bulk = stage.connect()?;
    let small = [stage.connect()?, stage.connect()?, stage.connect()?];
    for round in 0..60 {
        stage.write(bulk, &[b'x'; 128 * 1024]);
        if round % 4 == 0 {
            stage.write(small[round / 4 % 3], b"a small question");
        }
        stage.advance()?;
        for peer in [bulk, small[0], small[1], small[2]] {
            stage.read(peer, usize::MAX);
        }
    }
    for peer in [bulk, small[0], small[1], small[2]] {
        stage.finish_peer(peer);
    }
    while stage.server.event_loop.connection_count() > 0 {
        stage.advance()?;
        for peer in [bulk, small[0], small[1], small[2]] {
            stage.read(peer, usize::MAX);
        }
    }
    Ok(stage.text())
}

/// More peers than the process has descriptors.
fn descriptors() -> Outcome<String> {
    let mut faults = network(64 * 1024);
    faults.descriptors_max = 4; // one is the listener's
    let mut stage = Stage::new(faults, echo)?;
    for _ in 0..3 {
        stage.connect()?;
    }
    for _ in 0..2 {
        stage.peers.push(stage.simulation.connect("127.0.0.1:65432".parse()?));
    }
    for _ in 0..6 {
        stage.advance()?;
    }
    stage.finish_peer(0);
    for _ in 0..12 {
        stage.advance()?;
    }
    for peer in 0..5 {
        stage.finish_peer(peer);
    }
    stage.close_all()?;
    Ok(stage.text())
}

/// A shutdown with an idle client, one that is being answered, and one that never reads.
fn shutdown() -> Outcome<String> {
    let mut stage = Stage::new(network(16 * 1024), echo)?;
    let [idle, slow, never] = [stage.connect()?, stage.connect()?, stage.connect()?];
    let is_writable = |interest| interest == Interest::Writable;
    let mut sent = 0;
    let count = |stage: &Stage| {
        let connections = stage.server.event_loop.connections();
        connections.filter(|it| is_writable(it.interest())).count()
    };
    while count(&stage) < 2 {
        for peer in [slow, never] {
            sent += stage.write(peer, &[b'x'; 4 * 1024]) * usize::from(peer == slow);
        }
        stage.advance()?;
    }
    stage.server.event_loop.shutdown(Duration::from_secs(2));
    while sent > 0 {
        stage.advance()?;
        sent -= stage.read(slow, 8 * 1024);
    }
    stage.finish_peer(idle);
    stage.finish_peer(slow);
    stage.close_all()?;
    stage.advance()?;
    Ok(stage.text())
}

/// A program that is woken before its answer is there, and looks only then.
fn lost_wake_up() -> Outcome<String> {
    let answers = Rc::new(RefCell::new(Vec::new()));
    let queue = Rc::clone(&answers);
    let mut stage = Stage::new(network(16 * 1024), move |server: &mut EventLoop, event| {
        match event {
            Event::Received(id) => {
                let count = server[id].received().len();
                server[id].consume(count);
                server[id].pause(); // until the worker has the answer
            }
            Event::Woken => {
                for (id, answer) in queue.borrow_mut().drain(..) {
                    let connection: &mut readiness::Connection<()> = &mut server[id];
                    connection.send(answer);
                    connection.resume();
                }
            }
            _ => {}
        }
        Ok(())
    })?;
    let peer = stage.connect()?;
    stage.write(peer, b"a question");
    for _ in 0..4 {
        stage.advance()?;
    }
    let id = stage.server.event_loop.connections().next().ok_or("it is open")?.id();
    stage.server.event_loop.waker().wake()?;
    stage.advance()?;
    let put = |stage: &mut Stage| {
        answers.borrow_mut().push((id, &b"an answer"[..]));
        let at = stage.simulation.now();
        let words = "the worker puts its answer into the channel, after its wake";
        lock(&stage.run).line(at, "worker", &id.to_string(), &[], words);
    };
    put(&mut stage);
    stage.sleep(Duration::from_secs(3))?;
    let (at, id) = (stage.simulation.now(), id.to_string());
    let words = "nothing is due, and the answer is still in the channel: the wake-up is lost";
    lock(&stage.run).line(at, "lost", &id, &[], words);
    Ok(stage.text())
}

const HALF_CLOSE_SEED: u64 = 2;

/// A request whose peer half-closes, and its answer.
fn half_close() -> Outcome<String> {
    // With this seed the network delivers the few bytes in one piece.
    let mut stage = Stage::with_seed(HALF_CLOSE_SEED, network(16 * 1024), echo)?;
    let peer = stage.connect()?;
    stage.write(peer, b"a question");
    stage.finish_peer(peer);
    let mut answered = 0;
    while stage.server.event_loop.connection_count() > 0 {
        stage.advance()?;
        answered += stage.read(peer, usize::MAX);
    }
    if answered < 10 {
        while stage.simulation.step() {}
        stage.read(peer, usize::MAX);
    }
    stage.note_peer(peer, "reads the end of file", 0);
    Ok(stage.text())
}
