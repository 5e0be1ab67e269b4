//! Where a header block of HTTP/2 begins and ends (RFC 9113 sections 4.1 and 6.2), told from the
//! bytes as they pass. The header timeout is for these alone: a PING or a WINDOW_UPDATE is not a
//! request that begins.

/// What a connection begins with (RFC 9113 section 3.4).
pub(super) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const FRAME_HEADER_BYTES: usize = 9;
const HEADERS: u8 = 0x1;
const CONTINUATION: u8 = 0x9;
const END_HEADERS: u8 = 0x4;

/// Follows the frames of one connection; keeps no byte but of a frame's own header.
#[derive(Debug)]
pub(super) struct Frames {
    /// Bytes to come that belong to the preface or to a frame's payload.
    skip: usize,
    /// The frame's own header, as far as it came.
    header: [u8; FRAME_HEADER_BYTES],
    header_filled: usize,
    /// A header block has begun and is not complete.
    open: bool,
    /// The frame whose payload passes ends the block.
    closes: bool,
}

impl Default for Frames {
    fn default() -> Frames {
        Frames {
            skip: PREFACE.len(),
            header: [0; FRAME_HEADER_BYTES],
            header_filled: 0,
            open: false,
            closes: false,
        }
    }
}

impl Frames {
    /// Follows these bytes; `note` hears of each header block that begins (`true`) or ends.
    pub(super) fn follow(&mut self, mut bytes: &[u8], mut note: impl FnMut(bool)) {
        loop {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            if self.skip > 0 {
                return;
            }
            if self.closes {
                (self.open, self.closes) = (false, false);
                note(false);
            }
            let wanted = FRAME_HEADER_BYTES - self.header_filled;
            let taken = wanted.min(bytes.len());
            self.header[self.header_filled..][..taken].copy_from_slice(&bytes[..taken]);
            self.header_filled += taken;
            bytes = &bytes[taken..];
            if taken < wanted {
                return;
            }
            self.header_filled = 0;
            self.frame(&mut note);
        }
    }

    /// A frame begins.
    fn frame(&mut self, note: &mut impl FnMut(bool)) {
        let [high, middle, low, kind, flags, ..] = self.header;
        self.skip = u32::from_be_bytes([0, high, middle, low]) as usize;
        if !matches!(kind, HEADERS | CONTINUATION) {
            return;
        }
        if !self.open {
            self.open = true;
            note(true);
        }
        self.closes = flags & END_HEADERS != 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let length = u32::try_from(payload).unwrap().to_be_bytes();
        let mut frame = length[1..].to_vec();
        frame.extend([kind, flags, 0, 0, 0, 1]);
        frame.extend(vec![0; payload]);
        frame
    }

    fn notes(pieces: &[&[u8]]) -> Vec<bool> {
        let mut notes = Vec::new();
        let mut frames = Frames::default();
        for piece in pieces {
            frames.follow(piece, |open| notes.push(open));
        }
        notes
    }

    #[test]
    fn only_header_blocks_are_noted() {
        let (data, ping, window) = (frame(0, 1, 70_000), frame(6, 0, 8), frame(8, 0, 4));
        let settings = frame(4, 0, 18);
        let quiet = [PREFACE.as_slice(), &settings, &ping, &data, &window, &ping].concat();
        assert_eq!(notes(&[&quiet]), Vec::<bool>::new());
        let whole = [PREFACE.as_slice(), &settings, &frame(1, 0x5, 30), &ping].concat();
        assert_eq!(notes(&[&whole]), [true, false]);
    }

    #[test]
    fn a_block_lasts_until_its_last_continuation_is_complete() {
        let begun = [PREFACE.as_slice(), &frame(1, 0, 10), &frame(9, 0, 10)].concat();
        assert_eq!(notes(&[&begun]), [true]);
        let last = frame(9, END_HEADERS, 10);
        assert_eq!(notes(&[&begun, &last[..18]]), [true], "one byte is missing");
        assert_eq!(notes(&[&begun, &last]), [true, false]);
    }

    #[test]
    fn an_empty_block_ends_at_once() {
        assert_eq!(notes(&[PREFACE, &frame(1, END_HEADERS, 0)]), [true, false]);
    }

    proptest! {
        #[test]
        fn it_does_not_matter_how_the_bytes_are_cut(
            frames in prop::collection::vec((0u8..12, any::<u8>(), 0usize..40), 0..20),
            cuts in prop::collection::vec(1usize..30, 1..200),
        ) {
            let mut bytes = PREFACE.to_vec();
            for (kind, flags, payload) in frames {
                bytes.extend(frame(kind, flags, payload));
            }
            let mut pieces = Vec::new();
            let mut rest = bytes.as_slice();
            for cut in cuts {
                let (piece, after) = rest.split_at(cut.min(rest.len()));
                pieces.push(piece);
                rest = after;
            }
            pieces.push(rest);
            prop_assert_eq!(notes(&pieces), notes(&[&bytes]));
        }
    }
}
