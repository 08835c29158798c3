//! A half-close as a sequence diagram, made from a run.

use svg::Document;

use crate::recorder::Record;
use crate::style::{line, middle, picture, text};

const PEER: f64 = 90.0;
const LOOP: f64 = 350.0;
const PROGRAM: f64 = 560.0;
const ROW: f64 = 44.0;

/// One arrow, or a word at a life line.
enum Message {
    Arrow(f64, f64, String),
    At(f64, String),
}

/// Draws a run in which the peer half-closes.
pub(crate) fn draw(run: &[Record]) -> String {
    let messages: Vec<Message> = messages(run);
    let height = 84.0 + ROW * messages.len() as f64;
    let words: Vec<&str> = messages
        .iter()
        .map(|message| match message {
            Message::Arrow(_, _, words) | Message::At(_, words) => words.as_str(),
        })
        .collect();
    let mut document =
        picture("A half-close, as a sequence", &format!("{}.", words.join("; ")), height);
    for (x, name) in [(PEER, "peer"), (LOOP, "event loop"), (PROGRAM, "program")] {
        document = document.add(middle(text(x, 26.0, name, "strong"))).add(line(
            (x, 36.0),
            (x, height - 16.0),
            "line",
        ));
    }
    for (number, message) in messages.iter().enumerate() {
        document = draw_message(document, message, 72.0 + ROW * number as f64);
    }
    format!("{document}\n")
}

/// The steps that the peer or the program can see, in order.
fn messages(run: &[Record]) -> Vec<Message> {
    let arrow = |from, to, words: String| Some(Message::Arrow(from, to, words));
    let message = |record: &Record| {
        let count = record.number("count");
        match (record.step.as_str(), record.sentence.as_str()) {
            ("peer", "the peer finishes") => arrow(PEER, LOOP, "FIN: it sends no more".into()),
            ("peer", "the peer reads the end of file") => {
                arrow(LOOP, PEER, "FIN: everything was sent".into())
            }
            ("peer", words) if words.contains("writes") => {
                arrow(PEER, LOOP, format!("{count} bytes"))
            }
            ("event", _) if record.field("event") == "Accepted" => None,
            ("event", _) => arrow(LOOP, PROGRAM, record.field("event").into()),
            ("queued", _) => arrow(PROGRAM, LOOP, "send_received()".into()),
            ("flushed", _) => arrow(LOOP, PEER, format!("{count} bytes")),
            ("peer_ended", _) => Some(Message::At(LOOP, "reads the end of file (EOF)".into())),
            _ => None,
        }
    };
    run.iter().filter_map(message).collect()
}

fn draw_message(document: Document, message: &Message, y: f64) -> Document {
    match message {
        Message::At(x, words) => document.add(text(x + 8.0, y, words, "small")),
        Message::Arrow(from, to, words) => {
            let tip = if to > from { to - 9.0 } else { to + 9.0 };
            document
                .add(middle(text(f64::midpoint(*from, *to), y - 6.0, words, "")))
                .add(line((*from, y), (*to, y), "strong-line"))
                .add(line((tip, y - 5.0), (*to, y), "strong-line"))
                .add(line((tip, y + 5.0), (*to, y), "strong-line"))
        }
    }
}
