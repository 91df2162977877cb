//! The store from outside, on real files: what survives kills, what two processes see of each other, what S3 asks.

#![allow(clippy::unwrap_used, reason = "these are tests, helpers and all")]

#[path = "store/by_hand.rs"]
mod by_hand;
#[path = "store/crash.rs"]
mod crash;
#[path = "store/databases.rs"]
mod databases;
#[path = "store/logs.rs"]
mod logs;
#[path = "store/objects.rs"]
mod objects;
#[path = "store/outages.rs"]
mod outages;
#[path = "store/records.rs"]
mod records;
#[path = "store/reports.rs"]
mod reports;
#[path = "store/vault.rs"]
mod vault;

/// A small generator of numbers that look random, the same in every run with the same seed.
#[derive(Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Dice {
        Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound as u64).unwrap()
    }
}
