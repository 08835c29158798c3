//! The table of clients in a loop of your own. A token names a client; places are used again, so
//! that the table does not grow with every client that comes and goes.
//!
//! A worker thread keeps the token of a client until its answer is ready. Now and then a client is
//! given the answer to somebody else's question.
//!
//! About: the reused key (chapter 8).

/// Names one client, even after it has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    place: usize,
    /// Counts all clients that ever came, so that no two tokens are alike.
    number: u64,
}

/// The clients by their tokens.
#[derive(Debug, Default)]
pub struct Clients {
    places: Vec<Option<(u64, String)>>,
    count: u64,
}

impl Clients {
    /// Adds a client.
    pub fn add(&mut self, name: &str) -> Token {
        let free = self.places.iter().position(Option::is_none);
        let place = free.unwrap_or_else(|| {
            self.places.push(None);
            self.places.len() - 1
        });
        self.count += 1;
        self.places[place] = Some((self.count, name.to_owned()));
        Token { place, number: self.count }
    }

    /// Removes a client.
    pub fn remove(&mut self, token: Token) {
        if self.get(token).is_some() {
            self.places[token.place] = None;
        }
    }

    /// Returns the client that a token names, unless it has left.
    pub fn get(&self, token: Token) -> Option<&str> {
        let (number, name) = self.places.get(token.place)?.as_ref()?;
        (*number == token.number).then_some(name)
    }

    /// Returns how many places the table has, whether they are free or not.
    pub fn place_count(&self) -> usize {
        self.places.len()
    }
}
