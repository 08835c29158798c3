//! A buffer: bytes are appended at the back and consumed from the front.
//!
//! Every connection has two of them. A buffer at rest is one empty pointer: its bytes live in a
//! [`Block`] that it holds only while it has some. The pool hands out blocks and takes them back; a
//! buffer itself only grows its block when the program sends.
//!
//! Invariants: the live bytes are `start..end` of the block, and `end` never passes the part of
//! the block that is initialised. A buffer that becomes empty starts again at the block's front.
//!
//! It deliberately never reads, writes, or gives a block away by itself.

use std::io::BufRead;

use crate::cost;

/// Storage for the bytes of one buffer. `bytes` is initialised throughout, `start..end` is live.
#[derive(Debug)]
pub(crate) struct Block {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    /// Invariant: the first `searched` live bytes are not `delimiter`.
    searched: usize,
    delimiter: u8,
    marks: Marks,
}

/// What a connection remembers about the bytes in its read buffer, as long as there are any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Marks {
    /// Some bytes were consumed since the rest was announced.
    progress: bool,
    /// It was noted that there is no room, and there has been none since.
    full: bool,
}

impl Block {
    /// Creates a block of `size` zeroed bytes, ready to be read into.
    #[cold]
    pub(crate) fn zeroed(size: usize) -> Box<Self> {
        Self::new(vec![0; size], 0)
    }

    fn new(bytes: Vec<u8>, end: usize) -> Box<Self> {
        Box::new(Self { bytes, start: 0, end, searched: 0, delimiter: 0, marks: Marks::default() })
    }

    /// Returns the memory that the block takes, in bytes.
    pub(crate) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Returns how many bytes are initialised, and so can be read into.
    pub(crate) fn size(&self) -> usize {
        self.bytes.len()
    }

    /// Lends the room of a block that holds nothing, at most `max` bytes of it.
    #[inline]
    pub(crate) fn room(&mut self, max: usize) -> &mut [u8] {
        debug_assert!(self.end == 0, "a free block holds nothing");
        let end = self.size().min(max);
        &mut self.bytes[..end]
    }

    /// Makes the first `count` bytes of that room live.
    #[inline]
    pub(crate) fn take_in(&mut self, count: usize) {
        debug_assert!(count <= self.size(), "a read reported more bytes than it had room");
        self.end = count;
    }

    /// Forgets the live bytes.
    pub(crate) fn clear(&mut self) {
        self.start = 0;
        self.end = 0;
        self.searched = 0;
        self.marks = Marks::default();
    }

    #[inline]
    pub(crate) fn live(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// Moves the live bytes to the front, so that all the room follows them.
    fn compact(&mut self) {
        if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
    }

    fn append(&mut self, bytes: &[u8]) {
        if bytes.len() > self.bytes.capacity() - self.end {
            self.make_room(bytes.len());
        }
        let overlap = bytes.len().min(self.bytes.len() - self.end);
        let (over, beyond) = bytes.split_at(overlap);
        self.bytes[self.end..self.end + overlap].copy_from_slice(over);
        self.bytes.extend_from_slice(beyond);
        self.end += bytes.len();
    }

    /// Makes room for `count` more bytes by moving the live ones to the front or to a larger block.
    /// It never moves more bytes than were consumed or than there will be room for, so the cost per
    /// byte is constant. A larger block takes at most twice the memory of the bytes it is made for.
    #[cold]
    fn make_room(&mut self, count: usize) {
        let live = self.end - self.start;
        if self.start >= live && live + count <= self.bytes.capacity() {
            return self.compact();
        }
        let mut larger = Vec::with_capacity(2 * (live + count));
        larger.extend_from_slice(self.live());
        (self.bytes, self.start, self.end) = (larger, 0, live);
    }

    fn consume(&mut self, count: usize) {
        self.start += count;
        debug_assert!(self.start <= self.end && self.end <= self.size(), "the live bytes");
        if self.start == self.end {
            self.clear();
        } else if count > 0 {
            self.searched = self.searched.saturating_sub(count);
            self.marks = Marks { progress: true, full: false };
        }
    }

    /// Returns how many live bytes there are up to and including the first delimiter, if there is
    /// one.
    fn find(&mut self, delimiter: u8) -> Option<usize> {
        let searched = if self.delimiter == delimiter { self.searched } else { 0 };
        let mut fresh = &self.live()[searched..];
        // The standard library's own search looks at many bytes at once, and never fails on a
        // slice.
        let count = fresh.skip_until(delimiter).unwrap_or(0);
        cost::steps(count);
        let has_found = count > 0 && self.live()[searched + count - 1] == delimiter;
        self.searched = searched + count - usize::from(has_found);
        self.delimiter = delimiter;
        has_found.then_some(self.searched + 1)
    }

    /// Copies what is known about the same bytes in another block.
    fn remember(&mut self, other: &Self) {
        (self.searched, self.delimiter) = (other.searched, other.delimiter);
        self.marks = other.marks;
    }
}

/// Bytes in order, with a block only while there are any.
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    block: Option<Box<Block>>,
}

impl Buffer {
    /// Returns the bytes that were appended and not yet consumed.
    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        self.block.as_ref().map_or(&[], |block| block.live())
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.block.as_ref().map_or(0, |block| block.end - block.start)
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies `bytes` to the back. An empty buffer takes the smallest block that holds them.
    pub(crate) fn append(&mut self, bytes: &[u8]) {
        match &mut self.block {
            Some(block) => block.append(bytes),
            None if bytes.is_empty() => {}
            None => self.block = Some(Block::new(bytes.to_vec(), bytes.len())),
        }
    }

    /// Consumes `count` bytes from the front.
    ///
    /// Panics if the buffer holds fewer.
    pub(crate) fn consume(&mut self, count: usize) {
        let held = self.len();
        assert!(count <= held, "cannot consume {count} bytes of {held}");
        if let Some(block) = &mut self.block {
            block.consume(count);
        }
    }

    /// Consumes the first `count` bytes and returns them.
    ///
    /// Panics if the buffer holds fewer.
    pub(crate) fn take(&mut self, count: usize) -> &[u8] {
        let start = self.block.as_ref().map_or(0, |block| block.start);
        self.consume(count);
        // Consuming leaves the bytes where they are.
        self.block.as_ref().map_or(&[], |block| &block.bytes[start..start + count])
    }

    /// Moves all bytes to the back of `other`: the block itself if `other` is empty.
    pub(crate) fn move_to(&mut self, other: &mut Buffer) {
        if other.is_empty() {
            std::mem::swap(self, other);
        } else {
            self.copy_to(other);
        }
    }

    #[inline(never)]
    fn copy_to(&mut self, other: &mut Buffer) {
        other.append(self.bytes());
        self.consume(self.len());
    }

    /// Returns whether it holds a block, even an empty one.
    pub(crate) fn has_block(&self) -> bool {
        self.block.is_some()
    }

    /// Takes out the block, if there is one; the buffer is empty afterwards.
    pub(crate) fn take_block(&mut self) -> Option<Box<Block>> {
        self.block.take()
    }

    /// Puts a block into a buffer that has none.
    #[inline]
    pub(crate) fn put_block(&mut self, block: Box<Block>) -> &mut Block {
        debug_assert!(self.block.is_none(), "a buffer has one block");
        self.block.get_or_insert(block)
    }

    /// Moves the bytes into `block`, which was empty, and returns the block that held them.
    pub(crate) fn move_into(&mut self, mut block: Box<Block>) -> Option<Box<Block>> {
        debug_assert!(block.live().is_empty(), "bytes move into an empty block");
        if let Some(before) = self.block.as_ref().filter(|before| !before.live().is_empty()) {
            block.append(before.live());
            block.remember(before);
        }
        self.block.replace(block)
    }

    /// Moves the bytes into a block of just their size and returns the one that held them.
    pub(crate) fn shrink(&mut self) -> Option<Box<Block>> {
        self.move_into(Block::new(Vec::with_capacity(self.len()), 0))
    }

    /// Returns how many bytes there are up to and including the first delimiter, if there is one.
    pub(crate) fn find(&mut self, delimiter: u8) -> Option<usize> {
        self.block.as_mut()?.find(delimiter)
    }

    /// Returns whether some bytes were consumed since the rest was last announced.
    #[inline]
    pub(crate) fn has_progress(&self) -> bool {
        self.block.as_ref().is_some_and(|block| block.marks.progress)
    }

    /// Clears the mark of progress: the bytes are announced, or the program knows that they are
    /// incomplete.
    #[inline]
    pub(crate) fn forget_progress(&mut self) {
        if let Some(block) = &mut self.block {
            block.marks.progress = false;
        }
    }

    /// Sets the mark of progress if there are bytes, so that they are announced again.
    pub(crate) fn note_progress(&mut self) {
        if let Some(block) = self.block.as_mut().filter(|block| !block.live().is_empty()) {
            block.marks.progress = true;
        }
    }

    /// Notes that there is no room. Returns whether that was not noted before.
    pub(crate) fn note_full(&mut self) -> bool {
        self.block.as_mut().is_some_and(|block| !std::mem::replace(&mut block.marks.full, true))
    }

    /// Hides what was appended after the first `length` bytes, until it is restored.
    pub(crate) fn truncate(&mut self, length: usize) {
        if let Some(block) = &mut self.block {
            debug_assert!(block.start + length <= block.end, "a buffer does not grow by this");
            block.end = block.start + length;
        }
    }

    /// Returns the memory that the buffer's block takes, in bytes; zero at rest.
    pub(crate) fn capacity(&self) -> usize {
        self.block.as_ref().map_or(0, |block| block.capacity())
    }

    /// Returns how many bytes the buffer can hold without a larger block.
    pub(crate) fn size(&self) -> usize {
        self.block.as_ref().map_or(0, |block| block.size())
    }

    /// Lends the room after the live bytes, at most `max` bytes of it, to read into. What was read
    /// there becomes live by [`Buffer::extend`].
    pub(crate) fn room(&mut self, max: usize) -> &mut [u8] {
        let Some(block) = &mut self.block else {
            return &mut [];
        };
        if block.size() - block.end < max {
            block.compact();
        }
        let end = block.size().min(block.end.saturating_add(max));
        &mut block.bytes[block.end..end]
    }

    /// Makes the first `count` bytes of the room live, which were read there or hidden.
    #[inline]
    pub(crate) fn extend(&mut self, count: usize) {
        if let Some(block) = &mut self.block {
            block.end += count;
            block.marks.full = false;
            assert!(block.end <= block.bytes.len(), "a read reported more bytes than it had room");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Buffer {
        pub(crate) fn marks(&self) -> Marks {
            self.block.as_ref().map_or(Marks::default(), |block| block.marks)
        }

        pub(crate) fn set_marks(&mut self, marks: Marks) {
            if let Some(block) = &mut self.block {
                block.marks = marks;
            }
        }
    }

    #[test]
    fn empty_buffer_at_rest_is_one_pointer_without_a_block() {
        assert_eq!(size_of::<Buffer>(), size_of::<usize>());
        let mut buffer = Buffer::default();
        buffer.append(b"");
        assert!(buffer.take_block().is_none());
    }

    #[test]
    fn bytes_come_out_in_the_order_they_went_in() {
        let mut buffer = Buffer::default();
        let mut expected = Vec::new();
        let (mut next, mut consumed) = (0_u8, 0);
        for step in 0..2_000_usize {
            let piece: Vec<u8> = (0..step % 37)
                .map(|_| {
                    next = next.wrapping_add(1);
                    next
                })
                .collect();
            buffer.append(&piece);
            expected.extend_from_slice(&piece);
            let count = (step * 7 % 41).min(buffer.len());
            assert_eq!(buffer.bytes(), &expected[consumed..]);
            buffer.consume(count);
            consumed += count;
        }
        assert_eq!(buffer.bytes(), &expected[consumed..]);
    }

    #[test]
    fn sending_and_consuming_for_ever_does_not_grow_the_block() {
        let mut buffer = Buffer::default();
        buffer.append(&[6; 30]);
        for _ in 0..10_000 {
            buffer.append(&[7; 100]);
            buffer.consume(100);
        }
        assert_eq!(buffer.len(), 30);
        assert!(buffer.capacity() <= 1024, "grew to {}", buffer.capacity());
    }

    #[test]
    fn no_room_is_left_and_half_was_consumed_moves_the_rest_to_the_front() {
        for consumed in [50, 60] {
            let mut buffer = Buffer::default();
            buffer.append(&[7; 100]);
            let front = buffer.bytes().as_ptr();
            buffer.consume(consumed);
            buffer.append(&[8; 10]);
            assert_eq!((buffer.capacity(), buffer.bytes().as_ptr()), (100, front));
        }
    }

    #[test]
    fn no_room_is_left_and_little_was_consumed_takes_a_larger_block() {
        let mut buffer = Buffer::default();
        buffer.append(&[7; 100]);
        buffer.consume(10);
        buffer.append(&[8; 10]);
        assert!(buffer.capacity() > 100, "many bytes were moved for a few");
    }

    #[test]
    fn room_is_left_moves_nothing() {
        let mut buffer = Buffer::default();
        buffer.append(&[7; 100]);
        buffer.move_into(Block::zeroed(110));
        buffer.consume(60);
        let at = buffer.bytes().as_ptr();
        buffer.append(&[8; 10]);
        assert_eq!((buffer.len(), buffer.bytes().as_ptr()), (50, at));
    }

    /// Returns the steps of a search after each byte of a line that arrives byte by byte, through
    /// blocks of the pool and of its own size.
    fn steps_to_find_the_end_of(line: usize) -> u64 {
        let (mut pool, mut buffer) = (crate::pool::Pool::default(), Buffer::default());
        cost::steps_of(|| {
            for place in 0..line {
                pool.room(&mut buffer, 1)[0] = if place + 1 == line { b'\n' } else { b'x' };
                buffer.extend(1);
                let expected = (place + 1 == line).then_some(line);
                assert_eq!(buffer.find(b'\n'), expected);
                pool.reclaim(&mut buffer);
            }
            assert_eq!(buffer.find(b'\n'), Some(line), "it is found again at once");
        })
    }

    #[test]
    fn no_byte_of_a_line_that_comes_byte_by_byte_is_searched_twice() {
        for line in [1, 1_000, 64 * 1024, 200 * 1024] {
            assert!(steps_to_find_the_end_of(line) <= line as u64 + 1, "{line}");
        }
    }

    #[test]
    fn search_finds_the_first_delimiter_whatever_was_searched_and_consumed_before() {
        let mut buffer = Buffer::default();
        assert_eq!(buffer.find(b'a'), None);
        buffer.append(b"..a.b.a.");
        assert_eq!((buffer.find(b'b'), buffer.find(b'a')), (Some(5), Some(3)));
        buffer.consume(2);
        assert_eq!(buffer.find(b'a'), Some(1));
        buffer.consume(1);
        assert_eq!((buffer.find(b'a'), buffer.find(b'z')), (Some(4), None));
        buffer.consume(4);
        assert_eq!((buffer.find(b'z'), buffer.find(b'.')), (None, Some(1)));
        buffer.consume(1);
        buffer.append(b"z");
        assert_eq!((buffer.find(b'z'), buffer.find(b'a')), (Some(1), None));
    }

    #[test]
    fn searched_bytes_that_are_moved_to_another_buffer_are_searched_there_anew() {
        let (mut from, mut to) = (Buffer::default(), Buffer::default());
        from.append(b"none here");
        assert_eq!(from.find(b'\n'), None);
        from.move_to(&mut to);
        from.append(b"\n");
        assert_eq!((from.find(b'\n'), to.find(b'\n')), (Some(1), None));
        to.append(b"\n");
        assert_eq!(to.find(b'\n'), Some(10));
    }

    #[test]
    fn buffer_that_grows_holds_at_most_twice_what_is_in_it() {
        for (piece, consumed) in [(1, 0), (100, 0), (100, 99), (1_000, 999), (65_536, 1)] {
            let mut buffer = Buffer::default();
            let mut most = 0;
            for _ in 0..2_000 {
                buffer.append(&vec![7; piece]);
                most = most.max(buffer.len());
                assert!(buffer.capacity() <= 2 * most, "{} for {most}", buffer.capacity());
                buffer.consume(consumed);
            }
        }
    }

    #[test]
    fn moving_to_an_empty_buffer_moves_the_block_and_copies_nothing() {
        let (mut from, mut to) = (Buffer::default(), Buffer::default());
        from.append(b"hello");
        let at = from.bytes().as_ptr();
        from.move_to(&mut to);
        assert_eq!((to.bytes(), to.bytes().as_ptr()), (&b"hello"[..], at));
        assert!(from.is_empty());
    }

    #[test]
    fn moving_to_a_buffer_with_bytes_appends_behind_them() {
        let (mut from, mut to) = (Buffer::default(), Buffer::default());
        from.append(b" world");
        to.append(b"hello");
        from.move_to(&mut to);
        assert_eq!(to.bytes(), b"hello world");
        assert!(from.is_empty());
    }

    #[test]
    fn room_is_bounded_and_what_was_read_there_becomes_live() {
        let mut buffer = Buffer::default();
        buffer.append(b"half ");
        buffer.move_into(Block::zeroed(16));
        assert_eq!(buffer.room(4).len(), 4);
        assert_eq!(buffer.room(100).len(), 11);
        buffer.room(100)[..4].copy_from_slice(b"line");
        buffer.extend(4);
        assert_eq!(buffer.bytes(), b"half line");
        buffer.consume(5);
        let at = buffer.bytes().as_ptr();
        assert_eq!(buffer.room(7).len(), 7);
        assert_eq!(buffer.bytes().as_ptr(), at, "there was room enough behind");
        assert_eq!(buffer.room(8).len(), 8, "the room in front is given back");
        assert_eq!(buffer.room(100).len(), 12);
        assert_eq!(buffer.bytes(), b"line");
    }

    #[test]
    #[should_panic(expected = "cannot consume 3 bytes of 2")]
    fn consuming_more_than_is_held_panics() {
        let mut buffer = Buffer::default();
        buffer.append(b"ab");
        buffer.consume(3);
    }
}
