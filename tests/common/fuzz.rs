//! Bytes drawn from a seed, for programs that must survive any: a hundred seeds, or as many as fit
//! into `READINESS_FUZZ_SECONDS`; with `READINESS_SEED` that one alone.

#![allow(dead_code, reason = "each test file uses a part of what they share")]

use std::env;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

use super::common::measure::aloud;

/// How many seeds are tried where nothing else is asked for.
const SEEDS: u64 = 100;

/// One source of chance (SplitMix64).
pub struct Fuzz {
    seed: u64,
    state: u64,
}

impl Fuzz {
    /// Runs a test with seed after seed, and says which one it fails with.
    pub fn run(mut test: impl FnMut(&mut Fuzz)) {
        let variable = |name: &str| env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
        let time = variable("READINESS_FUZZ_SECONDS").map(Duration::from_secs);
        let start = Instant::now();
        let mut seeds = match variable("READINESS_SEED") {
            Some(seed) => seed..seed + 1,
            None if time.is_some() => 0..u64::MAX,
            None => 0..SEEDS,
        };
        let mut count = 0;
        while let Some(seed) =
            seeds.next().filter(|_| time.is_none_or(|time| start.elapsed() < time))
        {
            let mut fuzz = Self { seed, state: seed };
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| test(&mut fuzz))) {
                aloud(format_args!("replay it with READINESS_SEED={seed}"));
                resume_unwind(panic);
            }
            count += 1;
        }
        if time.is_some() {
            aloud(format_args!("{count} seeds were tried"));
        }
    }

    pub fn seed(&self) -> u64 {
        self.seed
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number from 0 to below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// Returns some bytes: words of a protocol and any others, mostly few, now and then thousands.
    pub fn bytes(&mut self, words: &[&[u8]]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for _ in 0..=self.below(8) {
            match self.below(10) {
                0..5 => bytes.extend_from_slice(words[self.below(words.len())]),
                5..9 => {
                    let count = self.below(12);
                    bytes.extend((0..count).map(|_| self.next() as u8));
                }
                _ => {
                    let (byte, count) = (self.next() as u8, self.below(3000));
                    bytes.resize(bytes.len() + count, byte);
                }
            }
        }
        bytes
    }
}
