//! Judges whether the echo is what was sent: byte for byte, and all of it.

/// How many bytes are to be echoed, and how many of them have been, as they were sent.
#[derive(Default)]
pub(crate) struct Judge {
    total: u64,
    identical: u64,
}

impl Judge {
    pub(crate) fn new(total: u64) -> Self {
        Self { total, identical: 0 }
    }

    pub(crate) fn identical(&self) -> u64 {
        self.identical
    }

    pub(crate) fn is_whole(&self) -> bool {
        self.identical == self.total
    }

    /// Returns how many bytes have been echoed, in words.
    pub(crate) fn so_far(&self) -> String {
        format!("{} of {} bytes", self.identical, self.total)
    }

    /// Compares the echo with what was sent at its place. `sent` is the shorter one only where it
    /// ends.
    ///
    /// # Errors
    ///
    /// Returns where the first difference is.
    pub(crate) fn compare(&mut self, sent: &[u8], back: &[u8]) -> Result<(), String> {
        let count = match sent.starts_with(back) {
            true => back.len(), // compared as a whole, which is faster
            false => sent.iter().zip(back).take_while(|(sent, back)| sent == back).count(),
        };
        self.identical += count as u64;
        let offset = self.identical;
        match (sent.get(count), back.get(count)) {
            (_, None) => Ok(()),
            (None, Some(_)) => {
                Err(format!("more came back than the {offset} bytes that were sent"))
            }
            (Some(sent), Some(back)) => Err(format!(
                "the first difference is at offset {offset}: {sent:#04x} was sent, {back:#04x} came back"
            )),
        }
    }
}
