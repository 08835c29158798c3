//! An echo server.

fn main() -> std::io::Result<()> {
    env_logger::init();
    let mut server: readiness::EventLoop = readiness::EventLoop::new()?;
    let id = server.listen("127.0.0.1:65432")?;
    println!("Listening on {}", server.listener_addr(id)?);
    loop {
        if let readiness::Event::Received(id) = server.next_event()? {
            server[id].send_received();
        }
    }
}
