//! Every combination of random outcomes, one after the other, for an exhaustive search.

/// The answers of a kernel that may answer in several ways: a list that runs through every
/// combination, the most friendly answer first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Choices {
    taken: Vec<(usize, usize)>,
    next: usize,
}

impl Choices {
    /// Returns one of `count` answers.
    pub(crate) fn choose(&mut self, count: usize) -> usize {
        if self.next == self.taken.len() {
            self.taken.push((0, count));
        }
        let (choice, counted) = self.taken[self.next];
        assert_eq!(counted, count, "the same choices lead to the same question");
        self.next += 1;
        choice
    }

    /// Goes on to the next combination, if there is one.
    pub(crate) fn advance(&mut self) -> bool {
        self.next = 0;
        while let Some((choice, count)) = self.taken.pop() {
            if choice + 1 < count {
                self.taken.push((choice + 1, count));
                return true;
            }
        }
        false
    }

    /// The same combination, from its start.
    pub(crate) fn again(mut self) -> Self {
        self.next = 0;
        self
    }
}
