//! The only source of randomness: a run follows from its seed alone.

#[cfg(test)]
use super::choices::Choices;

/// What a search has in place of chance.
#[cfg(test)]
type Instead = Option<Choices>;
#[cfg(not(test))]
type Instead = ();

/// A small generator of pseudo-random numbers (splitmix64).
#[derive(Clone, Debug)]
pub(crate) struct Random {
    state: u64,
    /// In place of chance, for a search that goes through all that can be.
    #[cfg_attr(not(test), expect(dead_code, reason = "only a test searches"))]
    pub(crate) choices: Instead,
}

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self { state: seed, choices: Instead::default() }
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number from 0 to below `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        #[cfg(test)]
        if let Some(choices) = &mut self.choices {
            return if end > 1 { choices.choose(end) } else { 0 };
        }
        (self.next() % end.max(1) as u64) as usize
    }

    /// Returns one of several.
    pub(crate) fn one_of<C: Copy>(&mut self, choices: &[C]) -> C {
        choices[self.below(choices.len())]
    }

    /// Returns whether something happens that happens `per_mille` times in a thousand.
    pub(crate) fn happens(&mut self, per_mille: u16) -> bool {
        #[cfg(test)]
        if let Some(choices) = &mut self.choices {
            return per_mille > 0 && choices.choose(2) == 1;
        }
        per_mille > 0 && self.below(1000) < usize::from(per_mille)
    }

    /// Returns how many things happen between two calls; zero in a search, which makes each happen
    /// by itself.
    pub(crate) fn few(&mut self) -> usize {
        #[cfg(test)]
        if self.choices.is_some() {
            return 0;
        }
        self.below(4)
    }
}
