//! Where a body has bytes that end a string or stand for something in it: quotation marks,
//! backslashes and control characters.
//!
//! A block of the body is looked at once, all its bytes together, and remembered as bits: a short
//! string then ends where the next bit is, and there is no loop whose length is hard to guess.

const BLOCK: usize = 64;

/// Finds special bytes.
pub(super) struct Specials<'b> {
    blocks: &'b [[u8; BLOCK]],
    /// What is left of the body after the blocks. Made longer with zeros, which are special: a
    /// search ends at the end of the body.
    tail: [u8; BLOCK],
    /// The block that is remembered.
    block: usize,
    /// A bit for each of its bytes, the first byte's lowest: whether it is special.
    bits: u64,
}

impl<'b> Specials<'b> {
    pub(super) fn of(body: &'b [u8]) -> Self {
        let (blocks, rest) = body.as_chunks();
        let mut tail = [0; BLOCK];
        tail[..rest.len()].copy_from_slice(rest);
        let bits = special_bits(blocks.first().unwrap_or(&tail));
        Self { blocks, tail, block: 0, bits }
    }

    /// Where the first special byte is that is not before `at`; the end of the body if there is
    /// none. `at` is in the body or at its end.
    #[inline]
    pub(super) fn next_from(&mut self, at: usize) -> usize {
        if self.block == at / BLOCK {
            let bits = self.bits >> (at % BLOCK);
            if bits != 0 {
                return at + first(bits);
            }
        }
        self.next_in_other_block(at)
    }

    /// Apart, so that a string that ends in the block that is remembered costs little.
    #[inline(never)]
    fn next_in_other_block(&mut self, at: usize) -> usize {
        let mut block = at / BLOCK;
        // In the one that is remembered there was none.
        let mut bits = if block == self.block { 0 } else { self.bits_of(block) };
        let mut later = bits & u64::MAX << (at % BLOCK);
        while later == 0 {
            block += 1;
            bits = self.bits_of(block);
            later = bits;
        }
        (self.block, self.bits) = (block, bits);
        block * BLOCK + first(later)
    }

    #[inline]
    fn bits_of(&self, block: usize) -> u64 {
        special_bits(self.blocks.get(block).unwrap_or(&self.tail))
    }
}

fn first(bits: u64) -> usize {
    bits.trailing_zeros() as usize
}

/// Without branches up to the last, for the compiler to make it as wide as the machine.
#[inline]
fn special_bits(block: &[u8; BLOCK]) -> u64 {
    let mut marks = [0; BLOCK];
    for (at, (mark, byte)) in marks.iter_mut().zip(block).enumerate() {
        let is_special = (*byte == b'"') | (*byte == b'\\') | (*byte < 0x20);
        *mark = if is_special { 1 << (at / 8) } else { 0 };
    }
    let (words, _) = marks.as_chunks();
    let columns = words.iter().fold(0, |all, word| all | u64::from_le_bytes(*word));
    // Most blocks of prose have none.
    if columns == 0 { 0 } else { transposed(columns) }
}

/// Eight by eight bits with rows and columns exchanged.
fn transposed(bits: u64) -> u64 {
    let exchange = |bits: u64, by: u32, which: u64| {
        let differ = (bits ^ (bits >> by)) & which;
        bits ^ differ ^ (differ << by)
    };
    let bits = exchange(bits, 7, 0x00AA_00AA_00AA_00AA);
    let bits = exchange(bits, 14, 0x0000_CCCC_0000_CCCC);
    exchange(bits, 28, 0x0000_0000_F0F0_F0F0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_special(byte: u8) -> bool {
        matches!(byte, b'"' | b'\\' | 0..0x20)
    }

    #[test]
    fn a_special_byte_is_found_wherever_it_is() {
        for length in [0, 1, 63, 64, 65, 127, 128, 200] {
            for special in 0..length {
                let mut bytes = vec![b'a'; length];
                bytes[special] = b'"';
                let mut specials = Specials::of(&bytes);
                for at in (0..=length).chain([special, 0]) {
                    let expected = if at <= special { special } else { length };
                    assert_eq!(specials.next_from(at), expected, "{special} of {length} from {at}");
                }
            }
        }
    }

    #[test]
    fn a_block_has_a_bit_for_each_special_byte_and_no_other() {
        for byte in 0..=u8::MAX {
            for neighbour in [b'a', b'"', b'#', b'\\', 0, 0x1f, 0x20, 0x7f, 0x80, 0xff] {
                let block = std::array::from_fn(|at| if at % 3 == 1 { byte } else { neighbour });
                let expected = (0..BLOCK)
                    .filter(|at| is_special(block[*at]))
                    .fold(0, |bits: u64, at| bits | 1 << at);
                assert_eq!(special_bits(&block), expected, "{byte:#x} beside {neighbour:#x}");
            }
        }
    }
}
