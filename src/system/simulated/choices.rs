//! All outcomes of chance, one combination after the other, for a search that leaves none out.

/// Where a kernel may answer in several ways, the next answer of a list that is gone through until
/// every combination has been. The kindest answer is the first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Choices {
    taken: Vec<(usize, usize)>,
    next: usize,
}

impl Choices {
    /// One of so many.
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
