//! Reading several numbers that somebody else changes under a lock, without taking that lock. Whose numbers they are, and how they
//! are read, `Unlocked` says.

/// What is read. All of it only grows, or is set once, and is changed only by who holds the lock.
pub trait Unlocked {
    /// Everything that has to fit together.
    type Numbers;
    /// Reads it, one after the other.
    fn numbers(&mut self) -> Self::Numbers;
    /// Reads it again: whether it is the same.
    fn is_still(&mut self, first: &Self::Numbers) -> bool;
    /// Whether nobody holds the lock, or nobody did in some moment while this looked.
    fn is_free(&mut self) -> bool;
    /// What is read in front of this is read before what is read behind it.
    fn barrier(&mut self);
}

/// What the numbers were in a moment in which nobody held the lock; `None` if that cannot be told.
///
/// Between the two readings there was such a moment. What only grows, and is the same before and after it, was that in it. A
/// reading that falls into somebody's changes differs from one on the other side of the moment: by then these are all made.
#[inline(always)]
pub fn read<U: Unlocked>(from: &mut U) -> Option<U::Numbers> {
    let first = from.numbers();
    from.barrier();
    if !from.is_free() {
        return None;
    }
    from.barrier();
    if from.is_still(&first) { Some(first) } else { None }
}

#[cfg(test)]
mod tests {
    use std::vec;
    use std::vec::Vec;

    use super::*;

    /// A connection as TCP changes it (`tcp_rcv_nxt_update` and `tcp_fin`, `tcp_snd_una_update`): `bytes_received`, `rcv_nxt`,
    /// whether the FIN is taken, `bytes_acked`, `snd_una`; and the lock.
    type State = [u64; 6];
    const LOCK: usize = 5;

    /// The steps of who holds the lock, each to the word of the state that it changes, and by how much.
    const STEPS: [(usize, u64); 13] = [
        // A segment comes.
        (LOCK, 1),
        (0, 7),
        (1, 7),
        (LOCK, 0),
        // An acknowledgment of as many bytes.
        (LOCK, 1),
        (3, 7),
        (4, 7),
        (LOCK, 0),
        // The FIN, which counts as a byte until it is known to be one.
        (LOCK, 1),
        (0, 1),
        (1, 1),
        (2, 1),
        (LOCK, 0),
    ];

    /// Who reads, while between any two of its reads any number of steps is made.
    struct Reader {
        state: State,
        step: usize,
        /// How many steps are made in front of each read that is yet to come.
        delays: Vec<usize>,
        reads: usize,
    }

    impl Reader {
        fn word(&mut self, word: usize) -> u64 {
            let steps = self.delays.get(self.reads).copied().unwrap_or(0);
            self.reads += 1;
            for _ in 0..steps {
                apply(&mut self.state, self.step);
                self.step += 1;
            }
            self.state[word]
        }
    }

    fn apply(state: &mut State, step: usize) {
        match STEPS[step] {
            (LOCK, held) => state[LOCK] = held,
            (word, by) => state[word] += by,
        }
    }

    /// A way to read.
    type Way<'a> = &'a dyn Fn(&mut Reader) -> Option<[u64; 2]>;

    /// What is booked of a state.
    fn booked(state: &State) -> [u64; 2] {
        // 20 bytes were sent before any of this, of which none was acknowledged.
        [state[0].wrapping_sub(state[2]), (state[3] + 20).wrapping_sub(state[4])]
    }

    impl Unlocked for Reader {
        type Numbers = (State, [u64; 2]);
        fn numbers(&mut self) -> Self::Numbers {
            let mut seen = [0; 6];
            for (word, slot) in seen.iter_mut().take(LOCK).enumerate() {
                *slot = self.word(word);
            }
            (seen, booked(&seen))
        }
        fn is_still(&mut self, first: &Self::Numbers) -> bool {
            self.numbers() == *first
        }
        fn is_free(&mut self) -> bool {
            self.word(LOCK) == 0
        }
        fn barrier(&mut self) {}
    }

    /// What is booked in each moment in which nobody holds the lock.
    fn right() -> Vec<[u64; 2]> {
        let mut state = State::default();
        let mut right = vec![booked(&state)];
        for step in 0..STEPS.len() {
            apply(&mut state, step);
            if state[LOCK] == 0 {
                right.push(booked(&state));
            }
        }
        right
    }

    /// All ways in which the steps may fall between the reads: how many were read, and how many of those wrong.
    fn all_ways(read: Way<'_>) -> [usize; 2] {
        let right = right();
        let mut counts = [0; 2];
        let mut delays = vec![0; 11];
        fill(&mut delays, 0, STEPS.len(), &mut |delays| {
            let mut reader = Reader { state: State::default(), step: 0, delays: delays.to_vec(), reads: 0 };
            if let Some(found) = read(&mut reader) {
                counts[0] += 1;
                counts[1] += usize::from(!right.contains(&found));
            }
        });
        counts
    }

    fn fill(delays: &mut Vec<usize>, at: usize, left: usize, then: &mut dyn FnMut(&[usize])) {
        if at == delays.len() {
            return then(delays);
        }
        for steps in 0..=left {
            delays[at] = steps;
            fill(delays, at + 1, left - steps, then);
        }
        delays[at] = 0;
    }

    #[test]
    fn what_is_read_was_so_in_a_moment_in_which_nobody_held_the_lock() {
        let [read_at_all, wrong] = all_ways(&|reader| read(reader).map(|(_, booked)| booked));
        assert!(read_at_all > 1_000, "{read_at_all}");
        assert_eq!(wrong, 0);
        // Less will not do.
        let once = |reader: &mut Reader| Some(reader.numbers().1);
        let unheld = |reader: &mut Reader| reader.is_free().then(|| reader.numbers().1);
        let twice = |reader: &mut Reader| {
            let first = reader.numbers();
            (reader.numbers() == first).then_some(first.1)
        };
        let less: [Way<'_>; 3] = [&once, &unheld, &twice];
        for read in less {
            assert_ne!(all_ways(read)[1], 0);
        }
    }
}
