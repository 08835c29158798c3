//! The state machine of a connection: the state of both directions, and what leads from one to the
//! next.
//!
//! Each direction is open or ended. Ours can also be ending: its end of file (FIN) is due after the
//! unsent bytes. The whole connection can be ending too: what arrives is then read and discarded,
//! because two sides that only write must not wait for each other. In the table, `·` means that the
//! state does not change; an empty cell means that the input cannot occur in that state. A test
//! compares the table with [`State::on`], and makes the diagram of the guide from it:
//!
//! | state | connected | peer's end | all sent | `finish` | `close` | write error |
//! |---|---|---|---|---|---|---|
//! | Connecting | Open | | · | ConnectingToFinish | ConnectingToClose ¹ | |
//! | ConnectingToFinish | Finishing | | · | · | ConnectingToClose ¹ | |
//! | ConnectingToClose | Closing | | · | · | · | |
//! | Open | | PeerFinished | · | Finishing | Closing | Broken |
//! | Finishing | | BothFinishing | Finished ⁴ | · | Closing | Broken |
//! | Finished | | BothFinishing | · | · | Lingering | |
//! | Broken | | Closed | · | · | Closed | |
//! | Closing | | BothClosing | Lingering ⁴ | · | · | Closed |
//! | Lingering | | Closed | · | · | · | |
//! | PeerFinished | | | Closed ² ³ | BothFinishing | BothClosing | Closed |
//! | BothFinishing | | | Closed ² | · | BothClosing | Closed |
//! | BothClosing | | | Closed | · | · | Closed |
//! | Closed | | | · | · | · | |
//!
//! - ¹ Closed at once if nothing is unsent.
//! - ² Once the program has handled all pending events, and not while the connection is paused.
//! - ³ Not while half-open is allowed.
//! - ⁴ The end of our direction (FIN) is sent.
//! - From every state a failed connect, a read error, a passed deadline, an abort and an overflow
//!   lead to Closed. A write error does not do so while there may be something to read: the kernel
//!   may hold bytes that arrived before it. Broken reads them; the end behind them is then not the
//!   peer's.
//!
//! This file deliberately leaves the conditions of the footnotes to the exchange.

/// The state of both directions of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum State {
    // Nothing is read yet.
    Connecting,
    ConnectingToFinish,
    ConnectingToClose,
    // Input is received.
    Open,
    Finishing,
    Finished,
    Broken,
    // Input is discarded.
    Closing,
    Lingering,
    // The input has ended.
    PeerFinished,
    BothFinishing,
    BothClosing,
    Closed,
}

/// An input of the state machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    /// The connect has succeeded.
    Connected,
    /// The end of the peer's direction was read.
    PeerEnded,
    /// Nothing is unsent, and nothing else holds the connection in its state.
    AllSent,
    /// The program finishes, or closes.
    Finish,
    Close,
    WriteFailed,
    /// The connection is over, for whatever other reason.
    End,
}

/// What happens to the bytes that arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Intake {
    NotYet,
    /// They go to the read buffer.
    Receives,
    /// They are discarded.
    Discards,
    /// None arrive.
    Over,
}

impl State {
    /// Returns the state that follows from an input, as the table says.
    #[must_use]
    pub(crate) fn on(self, input: Input) -> Self {
        use Input::*;
        use State::*;
        match (self, input) {
            (_, End) => Closed,

            (Connecting, Connected) => Open,
            (ConnectingToFinish, Connected) => Finishing,
            (ConnectingToClose, Connected) => Closing,

            (Open, PeerEnded) => PeerFinished,
            (Finishing | Finished, PeerEnded) => BothFinishing,
            (Closing, PeerEnded) => BothClosing,
            (Broken | Lingering, PeerEnded) => Closed,

            (Finishing, AllSent) => Finished,
            (Closing, AllSent) => Lingering,
            (PeerFinished | BothFinishing | BothClosing, AllSent) => Closed,

            (Connecting, Finish) => ConnectingToFinish,
            (Open, Finish) => Finishing,
            (PeerFinished, Finish) => BothFinishing,

            (Connecting | ConnectingToFinish, Close) => ConnectingToClose,
            (Open | Finishing, Close) => Closing,
            (PeerFinished | BothFinishing, Close) => BothClosing,
            (Finished, Close) => Lingering,
            (Broken, Close) => Closed,

            (Open | Finishing, WriteFailed) => Broken,
            (Closing | PeerFinished | BothFinishing | BothClosing, WriteFailed) => Closed,

            (same, _) => same,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Connecting => "Connecting",
            Self::ConnectingToFinish => "ConnectingToFinish",
            Self::ConnectingToClose => "ConnectingToClose",
            Self::Open => "Open",
            Self::Finishing => "Finishing",
            Self::Finished => "Finished",
            Self::Broken => "Broken",
            Self::Closing => "Closing",
            Self::Lingering => "Lingering",
            Self::PeerFinished => "PeerFinished",
            Self::BothFinishing => "BothFinishing",
            Self::BothClosing => "BothClosing",
            Self::Closed => "Closed",
        }
    }

    pub(crate) fn intake(self) -> Intake {
        use State::*;
        match self {
            Connecting | ConnectingToFinish | ConnectingToClose => Intake::NotYet,
            Open | Finishing | Finished | Broken => Intake::Receives,
            Closing | Lingering => Intake::Discards,
            PeerFinished | BothFinishing | BothClosing | Closed => Intake::Over,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) const STATES: [State; 13] = [
        State::Connecting,
        State::ConnectingToFinish,
        State::ConnectingToClose,
        State::Open,
        State::Finishing,
        State::Finished,
        State::Broken,
        State::Closing,
        State::Lingering,
        State::PeerFinished,
        State::BothFinishing,
        State::BothClosing,
        State::Closed,
    ];

    const COLUMNS: [(&str, Input); 6] = [
        ("connected", Input::Connected),
        ("peer's end", Input::PeerEnded),
        ("all sent", Input::AllSent),
        ("`finish`", Input::Finish),
        ("`close`", Input::Close),
        ("write error", Input::WriteFailed),
    ];

    /// The rows of the table in the module's doc, its head first, each cut into cells.
    pub(crate) fn table() -> Vec<Vec<&'static str>> {
        let lines = include_str!("state.rs").lines();
        let rows = lines.filter_map(|line| line.strip_prefix("//! |")?.strip_suffix('|'));
        let rows = rows.filter(|row| !row.starts_with('-'));
        rows.map(|row| row.split('|').map(str::trim).collect()).collect()
    }

    #[test]
    fn every_input_in_every_state_leads_where_the_table_says() {
        let table = table();
        let head: Vec<&str> = ["state"].into_iter().chain(COLUMNS.map(|column| column.0)).collect();
        assert_eq!(table[0], head);
        assert_eq!(table.len(), 1 + STATES.len());
        for (row, state) in table[1..].iter().zip(STATES) {
            let name = format!("{state:?}");
            assert_eq!([row[0], state.name()], [name.as_str(); 2]);
            for (cell, (_, input)) in row[1..].iter().zip(COLUMNS) {
                let expected = match cell.split(' ').next() {
                    // What cannot occur changes nothing either.
                    Some("" | "·") | None => format!("{state:?}"),
                    Some(name) => name.to_owned(),
                };
                assert_eq!(format!("{:?}", state.on(input)), expected, "{input:?} in {state:?}");
            }
            assert_eq!(state.on(Input::End), State::Closed);
        }
    }
}
