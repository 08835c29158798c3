//! Two servers, one in the outer loop and one in the inner.

#[path = "nested_host.rs"]
mod host;

use readiness::{Event, EventLoop};

use super::common::leaving::Leaving;
use super::common::{self, Arguments, Outcome};
use super::signals::CtrlC;
use host::{iterate, unwatch, watch};

pub(crate) fn serve(arguments: Arguments) -> Outcome {
    let address = arguments.address()?;

    let mut outer: EventLoop = EventLoop::new()?;
    let listener = outer.listen(&address).map_err(common::cannot_listen(&address))?;
    let mut inner: EventLoop = EventLoop::new()?;
    let inner_listener = inner.listen((outer.listener_addr(listener)?.ip(), 0))?;
    let source = watch(&mut outer, &inner)?;
    let mut ctrl_c = CtrlC::new(&mut outer)?;
    common::status(format_args!("Listening on {}", outer.listener_addr(listener)?));
    common::status(format_args!("Inner loop at {}", inner.listener_addr(inner_listener)?));

    let (mut outer_leaving, mut inner_leaving) = (Leaving::default(), Leaving::default());
    let mut left = 2;
    while left > 0 {
        if let Some(event) = iterate(&mut outer, &mut inner, source, |inner, event| {
            left -= u32::from(event == Event::ShutDown);
            inner_leaving.watch(inner, event);
            handle_inner(inner, event);
            Ok(())
        })? {
            left -= u32::from(event == Event::ShutDown);
            outer_leaving.watch(&outer, event);
            for _ in 0..ctrl_c.count(event) {
                outer_leaving.shut_down(&mut outer);
                inner_leaving.shut_down(&mut inner);
            }
            handle_outer(&mut outer, event);
        }
    }
    unwatch(&mut outer, &inner, source)?;
    Ok(())
}

fn handle_outer(outer: &mut EventLoop, event: Event) {
    if let Event::Received(id) = event {
        let shouted = outer[id].received().to_ascii_uppercase();
        outer[id].consume(shouted.len());
        outer[id].send(&shouted);
    }
}

fn handle_inner(inner: &mut EventLoop, event: Event) {
    if let Event::Received(id) = event {
        inner[id].send_received();
    }
}
