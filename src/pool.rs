//! The pool: blocks of memory, which fills take and buffers return.
//!
//! A loop serves one connection after the other, so that in most turns one block serves all of
//! them: it is taken for a fill, moves to the write side with the answer, and comes back when the
//! answer has left. The pool is last in, first out, so that this block stays in the processor's
//! cache. Blocks are zeroed once, when they are made, and reused as they are.
//!
//! Invariant: a free block has just [`BLOCK_SIZE`] bytes and holds nothing.
//!
//! It deliberately does not bound how many blocks are in use: the limits of the connections do.

use crate::buffer::{Block, Buffer};

/// The number of bytes in a block. One read fills at most one block, which is also the default
/// limit of a read buffer: large enough to make the cost of a system call negligible.
pub(crate) const BLOCK_SIZE: usize = 64 * 1024;

/// Maximum number of free blocks that are kept: 1 MiB, enough for a burst without the allocator.
const FREE_MAX: usize = 16;

/// Free blocks, the one used last on top. Usually only that one is taken and put back.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    top: Option<Box<Block>>,
    #[expect(
        clippy::vec_box,
        reason = "buffers hold a block by one pointer; it moves here as it is"
    )]
    below: Vec<Box<Block>>,
}

impl Pool {
    /// Lends room in `buffer` to read at most `max` more bytes into; it is empty only if `max` is
    /// 0.
    pub(crate) fn room<'b>(&mut self, buffer: &'b mut Buffer, max: usize) -> &'b mut [u8] {
        if !buffer.has_block() {
            return buffer.put_block(self.take()).room(max);
        }
        // Does it need a larger block?
        let wanted = buffer.len().saturating_add(max);
        if buffer.size() < wanted.min(BLOCK_SIZE) {
            let block = self.take();
            self.give(buffer.move_into(block));
        } else if buffer.len() == buffer.size() {
            // A limit above a block's size: the room doubles each time.
            let size = wanted.min(2 * buffer.size());
            self.give(buffer.move_into(Block::zeroed(size)));
        }
        buffer.room(max)
    }

    #[inline]
    pub(crate) fn take(&mut self) -> Box<Block> {
        self.top.take().unwrap_or_else(|| self.take_below())
    }

    #[cold]
    fn take_below(&mut self) -> Box<Block> {
        self.below.pop().unwrap_or_else(|| Block::zeroed(BLOCK_SIZE))
    }

    /// Takes back what `buffer` does not need: the block of an empty buffer, and a block of which
    /// at most a third is used, for a right-sized one.
    pub(crate) fn reclaim(&mut self, buffer: &mut Buffer) {
        self.reclaim_empty(buffer);
        if buffer.has_block() && buffer.len() <= buffer.capacity() / 3 {
            self.give(buffer.shrink());
        }
    }

    /// Takes back the block of an empty buffer.
    pub(crate) fn reclaim_empty(&mut self, buffer: &mut Buffer) {
        if buffer.has_block() && buffer.is_empty() {
            self.give(buffer.take_block());
        }
    }

    /// Keeps a block for the next fill if it has the pool's size and there is room for it.
    #[inline(always)]
    pub(crate) fn give(&mut self, block: Option<Box<Block>>) {
        let Some(mut block) = block else { return };
        if block.size() != BLOCK_SIZE || block.capacity() != BLOCK_SIZE {
            return discard(block);
        }
        block.clear();
        debug_assert!(block.size() == BLOCK_SIZE && block.live().is_empty(), "a free block");
        match self.top {
            None => self.top = Some(block),
            Some(_) => self.give_another(block),
        }
    }

    #[cold]
    fn give_another(&mut self, block: Box<Block>) {
        let before = self.top.replace(block);
        if self.below.len() < FREE_MAX - 1 {
            self.below.extend(before);
        }
    }
}

/// Returns a block to the allocator.
#[cold]
fn discard(block: Box<Block>) {
    drop(block);
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Pool {
        pub(crate) fn free_count(&self) -> usize {
            usize::from(self.top.is_some()) + self.below.len()
        }
    }

    #[test]
    fn one_block_serves_fill_after_fill() {
        let (mut pool, mut buffer) = (Pool::default(), Buffer::default());
        let first = pool.room(&mut buffer, 100).as_ptr();
        pool.reclaim(&mut buffer);
        assert_eq!(buffer.capacity(), 0);
        assert_eq!(pool.room(&mut buffer, 100).as_ptr(), first);
    }

    #[test]
    fn a_third_of_a_block_or_less_moves_to_a_right_sized_one() {
        let (mut pool, mut buffer) = (Pool::default(), Buffer::default());
        pool.room(&mut buffer, 5)[..5].copy_from_slice(b"half ");
        buffer.extend(5);
        pool.reclaim(&mut buffer);
        assert_eq!((buffer.bytes(), buffer.capacity()), (&b"half "[..], 5));
        assert_eq!(pool.free_count(), 1);

        pool.room(&mut buffer, 4)[..4].copy_from_slice(b"line");
        buffer.extend(4);
        assert_eq!(buffer.bytes(), b"half line");
        assert_eq!(pool.free_count(), 0, "the next fill reads into a pool block again");
    }

    #[test]
    fn what_is_held_is_at_most_three_times_what_is_used() {
        for (count, capacity) in [
            (1, 1),
            (BLOCK_SIZE / 4 + 1, BLOCK_SIZE / 4 + 1),
            (BLOCK_SIZE / 3, BLOCK_SIZE / 3),
            (BLOCK_SIZE / 3 + 1, BLOCK_SIZE),
        ] {
            let (mut pool, mut buffer) = (Pool::default(), Buffer::default());
            let count = pool.room(&mut buffer, count).len();
            buffer.extend(count);
            pool.reclaim(&mut buffer);
            assert_eq!(buffer.capacity(), capacity, "{count}");
        }
    }

    #[test]
    fn a_limit_above_a_block_doubles_the_room_up_to_the_limit() {
        let (mut pool, mut buffer) = (Pool::default(), Buffer::default());
        let limit = 3 * BLOCK_SIZE;
        while buffer.len() < limit {
            let left = limit - buffer.len();
            let count = pool.room(&mut buffer, left).len();
            assert!(count > 0, "there is room below the limit");
            buffer.extend(count);
        }
        assert_eq!((buffer.len(), buffer.size()), (limit, limit));
        pool.reclaim(&mut buffer);
        assert_eq!(buffer.len(), limit);
    }

    #[test]
    fn block_that_has_room_for_all_that_is_wanted_stays() {
        let (mut pool, mut buffer) = (Pool::default(), Buffer::default());
        let first = pool.room(&mut buffer, 100).as_ptr();
        buffer.extend(100);
        let room = pool.room(&mut buffer, BLOCK_SIZE - 100);
        assert_eq!((room.len(), room.as_ptr()), (BLOCK_SIZE - 100, first.wrapping_add(100)));
        assert_eq!(pool.free_count(), 0);
    }

    #[test]
    fn full_block_doubles_and_not_beyond_the_limit() {
        for (left, room) in [
            (7, 7),
            (BLOCK_SIZE, BLOCK_SIZE),
            (BLOCK_SIZE + 1, BLOCK_SIZE),
            (usize::MAX / 2, BLOCK_SIZE),
        ] {
            let (mut pool, mut buffer) = (Pool::default(), Buffer::default());
            let count = pool.room(&mut buffer, BLOCK_SIZE).len();
            buffer.extend(count);
            assert_eq!(pool.room(&mut buffer, left).len(), room, "{left}");
            assert_eq!(buffer.size(), BLOCK_SIZE + room);
            assert_eq!(pool.free_count(), 1, "the full block came back");
        }
    }

    /// What a program that sends piece by piece makes of a small block.
    fn grown(first: usize, size: usize) -> Option<Box<Block>> {
        let mut buffer = Buffer::default();
        buffer.append(&vec![7; first]);
        buffer.append(&vec![7; size - first]);
        buffer.take_block()
    }

    #[test]
    fn the_pool_keeps_a_bounded_number_of_blocks_and_none_of_another_size() {
        let mut pool = Pool::default();
        pool.give(Some(Block::zeroed(BLOCK_SIZE * 2)));
        let too_small = grown(BLOCK_SIZE / 4, BLOCK_SIZE / 2);
        let too_large = grown(BLOCK_SIZE - 1, BLOCK_SIZE);
        let sizes = |block: &Option<Box<Block>>| {
            block.as_ref().map(|block| (block.size() < BLOCK_SIZE, block.capacity() > BLOCK_SIZE))
        };
        assert_eq!(
            (sizes(&too_small), sizes(&too_large)),
            (Some((true, false)), Some((false, true)))
        );
        pool.give(too_small);
        pool.give(too_large);
        assert_eq!(pool.free_count(), 0);
        let mut last = std::ptr::null();
        for _ in 0..FREE_MAX + 5 {
            let mut block = Block::zeroed(BLOCK_SIZE);
            last = block.room(BLOCK_SIZE).as_ptr();
            pool.give(Some(block));
        }
        assert_eq!(pool.free_count(), FREE_MAX);
        assert_eq!(pool.take().room(BLOCK_SIZE).as_ptr(), last, "what was used last is hot");
    }

    #[test]
    fn blocks_come_back_holding_nothing() {
        let (mut pool, mut buffer) = (Pool::default(), Buffer::default());
        pool.give(grown(BLOCK_SIZE, BLOCK_SIZE));
        assert_eq!(pool.room(&mut buffer, BLOCK_SIZE).len(), BLOCK_SIZE);
        assert!(buffer.is_empty() && pool.free_count() == 0);
    }
}
