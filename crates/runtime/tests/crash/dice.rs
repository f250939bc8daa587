//! Random choices that a seed repeats.

/// A small generator (xorshift*); good enough to choose moments and verbs.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.max(1))
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(high).unwrap() % bound
    }

    /// 16 bytes for an id.
    pub(crate) fn bytes(&mut self) -> [u8; 16] {
        std::array::from_fn(|_| u8::try_from(self.below(256)).unwrap())
    }
}
