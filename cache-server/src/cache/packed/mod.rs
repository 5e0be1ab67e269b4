//! The form that entries have in memory: what an entry has alone in one block of bytes, and what it has
//! in common with others once for all of them.
//!
//! Answers of one upstream are alike: the same tenant and route, the same URL, the same fields with
//! mostly the same values, the same names to be purged by. As structures of their own these take more
//! than a small answer itself. Here they are a template that entries share, found through
//! [`Templates`], and an entry of half a kilobyte takes about as much again, where it would take five
//! times as much.
//!
//! A hit makes an [`Entry`] of it, whose body is no copy: it holds the block.
//!
//! ```text
//! key (32 bytes) · times, counts and sizes · what the template leaves to each · body
//! ```
//! Numbers take as many bytes as they need. The block never leaves memory and has no version.

mod block;
mod template;

use std::sync::Arc;

use keyspec::Key;

use crate::cache::entry::{Entry, Usage};
use crate::clock::Timestamp;
use block::{Block, Cursor, allocated, put_distance, put_number};
use template::Template;
pub use template::Templates;

/// A larger body stays the bytes that it is: copying it would cost more than what is around it.
const BODY_COPIED_MAX: usize = 16 << 10;
/// foyer's record of an entry, by its structure.
const RECORD_BYTES: usize = 112;
/// Its place in foyer's table, which is at least half full of what it can take.
const TABLE_BYTES: usize = 16;
/// Its place in the queue of what was evicted lately, of which foyer remembers as many as it holds.
const LATELY_BYTES: usize = 36;

/// An entry as it is in memory.
#[derive(Clone, Debug)]
pub struct Packed {
    template: Arc<Template>,
    block: Block,
}

impl Packed {
    /// This entry, by a template that it shares with those like it.
    #[must_use]
    pub fn of(entry: &Entry, templates: &Templates) -> Packed {
        let template = templates.of(entry);
        let is_copied = entry.body.len() <= BODY_COPIED_MAX;
        let mut bytes = Vec::with_capacity(256 + if is_copied { entry.body.len() } else { 0 });
        bytes.extend_from_slice(entry.key.as_bytes());
        put_numbers(&mut bytes, entry);
        template.put_own(&mut bytes, entry);
        let block = if is_copied {
            bytes.extend_from_slice(&entry.body);
            Block::whole(&bytes)
        } else {
            Block::apart(&bytes, entry.body.clone())
        };
        Packed { template, block }
    }

    /// Whether it is the entry of this key.
    #[must_use]
    pub fn is_of(&self, key: &Key) -> bool {
        self.block.bytes().starts_with(key.as_bytes())
    }

    /// The entry that it was made of. Its body, and the fields that it has alone, keep the block alive.
    /// Nothing if the block is none of ours.
    #[must_use]
    pub fn unpack(&self) -> Option<Entry> {
        let whole = self.block.share();
        let mut from = Cursor::of(&whole);
        let template = &*self.template;
        let key = Key::from_bytes(from.array()?);
        let numbers = Numbers::read(&mut from)?;
        let own = template.own(&mut from, [numbers.stored, numbers.generated])?;
        Some(Entry {
            key,
            tenant: Arc::clone(&template.tenant),
            route: Arc::clone(&template.route),
            model: template.model.clone(),
            status: template.status,
            headers: own.headers,
            tag_is_ours: template.flags.tag_is_ours,
            body: self.block.body(&whole, from.at()),
            trailers: own.trailers,
            stored: numbers.stored,
            generated: numbers.generated,
            initial_age_s: numbers.initial_age_s,
            ends: own.ends,
            must_revalidate: template.flags.must_revalidate,
            negative: template.flags.negative,
            is_variants: template.flags.is_variants,
            url: own.url,
            tags: own.tags,
            selectors: own.selectors,
            purge_sequence: numbers.purge_sequence,
            upstream_request_id: own.upstream_request_id,
            upstream_time_ms: numbers.upstream_time_ms,
            usage: numbers.usage,
            encoding: template.encoding,
            key_id: template.key_id,
        })
    }

    /// Bytes that it takes in memory, with foyer's part, what the allocator rounds up, and its share of
    /// what it has in common with others.
    #[must_use]
    pub fn weight(&self) -> usize {
        let sharing = Arc::strong_count(&self.template);
        allocated(RECORD_BYTES)
            + TABLE_BYTES
            + LATELY_BYTES
            + self.block.weight()
            + self.template.weight() / sharing.max(1)
    }
}

/// The numbers of an entry, but for its ends.
struct Numbers {
    stored: Timestamp,
    generated: Timestamp,
    initial_age_s: u32,
    purge_sequence: u64,
    upstream_time_ms: u32,
    usage: Usage,
}

fn put_numbers(out: &mut Vec<u8>, entry: &Entry) {
    put_number(out, entry.stored.0);
    put_distance(out, entry.stored.0, entry.generated.0);
    put_number(out, entry.initial_age_s.into());
    put_number(out, entry.purge_sequence);
    put_number(out, entry.upstream_time_ms.into());
    put_number(out, entry.usage.input_tokens);
    put_number(out, entry.usage.output_tokens);
}

impl Numbers {
    fn read(from: &mut Cursor<'_>) -> Option<Numbers> {
        let stored = from.number()?;
        Some(Numbers {
            stored: Timestamp(stored),
            generated: Timestamp(from.distance_from(stored)?),
            initial_age_s: from.number_u32()?,
            purge_sequence: from.number()?,
            upstream_time_ms: from.number_u32()?,
            usage: Usage { input_tokens: from.number()?, output_tokens: from.number()? },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::entry::Selector;
    use crate::cache::entry::tests::sample;
    use crate::cache::freshness::Ends;
    use bytes::Bytes;
    use http::header::{CONTENT_TYPE, DATE, HeaderValue};
    use http::{HeaderMap, StatusCode};
    use proptest::prelude::*;

    /// An answer as providers give them, whose id, date and key are its own.
    fn usual(number: u32, body_bytes: usize) -> Entry {
        let mut key = [0; 32];
        key[..4].copy_from_slice(&number.to_be_bytes());
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert("openai-version", HeaderValue::from_static("2020-10-01"));
        headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
        headers.insert("server", HeaderValue::from_static("an-edge"));
        let date = format!("Tue, 24 Nov 2026 00:00:{:02} GMT", number % 60);
        headers.insert(DATE, HeaderValue::from_str(&date).unwrap());
        let key = Key::from_bytes(key);
        let url = "https://api.example/v1/chat/completions";
        let selectors = [
            Selector::key(&key),
            Selector::url(url),
            Selector::route("openai.chat_completions"),
            Selector::tenant("team-a"),
            Selector::asked_model("https://api.example", "gpt-4o"),
            Selector::model("gpt-4o-2024"),
        ];
        Entry {
            key,
            route: "openai.chat_completions".into(),
            headers,
            trailers: HeaderMap::new(),
            url: url.into(),
            tags: Box::default(),
            selectors: selectors.into(),
            upstream_request_id: Some(format!("req_{number:032x}").into()),
            ..sample([0; 32], &vec![b'x'; body_bytes])
        }
    }

    fn unpacked(entry: &Entry) -> Option<Entry> {
        Packed::of(entry, &Templates::default()).unpack()
    }

    #[test]
    fn what_is_packed_comes_out_whole_with_a_body_of_any_size() {
        for body in [0, 1, BODY_COPIED_MAX, BODY_COPIED_MAX + 1, 1 << 20] {
            let entry = sample([3; 32], &vec![b'x'; body]);
            assert_eq!(unpacked(&entry).as_ref(), Some(&entry));
        }
        let entry = Entry { upstream_request_id: None, model: None, ..sample([3; 32], b"x") };
        assert_eq!(unpacked(&entry), Some(entry));
    }

    #[test]
    fn entries_keep_their_own_values_while_others_open_the_template() {
        let templates = Templates::default();
        let pages = |number: u8| Entry {
            url: format!("https://site.example/{number}").into(),
            tags: [format!("page-{number}").into()].into(),
            selectors: [Selector::url("same"), Selector::tag(&number.to_string())].into(),
            body: Bytes::from(vec![number; 10]),
            ..sample([number; 32], b"")
        };
        let entries: Vec<Entry> = (0..50).map(pages).collect();
        let packed: Vec<Packed> = entries.iter().map(|of| Packed::of(of, &templates)).collect();
        for (packed, entry) in packed.iter().zip(&entries) {
            assert_eq!(packed.unpack().as_ref(), Some(entry));
        }
        let last = &packed[49].template;
        assert!(packed[2..].iter().all(|packed| Arc::ptr_eq(&packed.template, last)));
    }

    #[test]
    fn it_is_of_its_key_alone() {
        let packed = Packed::of(&sample([3; 32], b"x"), &Templates::default());
        let mut other = [3; 32];
        other[31] = 4;
        assert!(packed.is_of(&Key::from_bytes([3; 32])));
        assert!(!packed.is_of(&Key::from_bytes(other)));
    }

    #[test]
    fn a_body_that_is_read_holds_the_block_and_is_no_copy() {
        let packed = Packed::of(&sample([3; 32], b"an answer"), &Templates::default());
        let entry = packed.unpack().unwrap();
        let block = packed.block.bytes().as_ptr_range();
        assert!(block.contains(&entry.body.as_ptr()));
        drop(packed);
        assert_eq!(entry.body, "an answer");
    }

    #[test]
    fn a_small_entry_takes_less_than_350_bytes_beyond_its_body() {
        let templates = Templates::default();
        let entries = (350..650).map(|bytes| usual(bytes, bytes as usize));
        let packed: Vec<Packed> = entries.map(|entry| Packed::of(&entry, &templates)).collect();
        let weight: usize = packed.iter().map(Packed::weight).sum();
        // While nothing is evicted, nothing was evicted lately.
        let overhead = weight / packed.len() - 500 - LATELY_BYTES;
        assert!(overhead < 350, "{overhead} bytes an entry");
    }

    #[test]
    fn the_weight_is_what_is_allocated() {
        let templates = Templates::default();
        let entries: Vec<Entry> = (350..650).map(|bytes| usual(bytes, bytes as usize)).collect();
        // Those that open the template are beside the point.
        entries.iter().take(100).for_each(|entry| drop(Packed::of(entry, &templates)));
        let mut packed = Vec::with_capacity(entries.len());
        let counted = allocation_counter::measure(|| {
            packed.extend(entries.iter().map(|entry| Packed::of(entry, &templates)));
        });
        let weight: usize = packed.iter().map(|one| one.block.weight()).sum();
        let allocated = usize::try_from(counted.bytes_current).unwrap();
        assert!((allocated..allocated * 5 / 4).contains(&weight), "{allocated} weigh {weight}");
    }

    #[test]
    fn foyers_value_is_three_words() {
        assert_eq!(size_of::<Option<Packed>>(), 3 * size_of::<usize>());
    }

    fn text() -> impl Strategy<Value = String> {
        "[ -~]{0,20}"
    }

    prop_compose! {
        fn entries()(
            names in proptest::collection::vec(0..4_usize, 0..6),
            values in proptest::collection::vec(text(), 6),
            texts in proptest::collection::vec(text(), 0..5),
            times in proptest::array::uniform6(any::<u64>()),
            (url, id) in (text(), proptest::option::of(text())),
            flags: u8,
            status in 200..204_u16,
        ) -> Entry {
            let of = ["date", "etag", "x-own", "content-type"];
            let mut headers = HeaderMap::new();
            for (name, value) in names.iter().zip(values) {
                headers.append(of[*name], HeaderValue::from_str(&value).unwrap());
            }
            Entry {
                status: StatusCode::from_u16(status).unwrap(),
                headers,
                stored: Timestamp(times[0]),
                generated: Timestamp(times[1]),
                ends: Ends {
                    fresh: Timestamp(times[2]),
                    stale_while_revalidate: Timestamp(times[3]),
                    stale_if_error: Timestamp(times[4]),
                    validate: Timestamp(times[5]),
                },
                negative: flags & 1 > 0,
                is_variants: flags & 2 > 0,
                tag_is_ours: flags & 4 > 0,
                must_revalidate: flags & 8 > 0,
                url: url.into(),
                upstream_request_id: id.map(Into::into),
                selectors: texts.iter().map(|text| Selector::tag(text)).collect(),
                tags: texts.into_iter().map(Into::into).collect(),
                ..sample([7; 32], b"body")
            }
        }
    }

    proptest! {
        #[test]
        fn all_entries_come_out_as_they_went_in_whatever_came_before(
            entries in proptest::collection::vec(entries(), 1..12)
        ) {
            let templates = Templates::default();
            let packed: Vec<Packed> =
                entries.iter().map(|entry| Packed::of(entry, &templates)).collect();
            for (packed, entry) in packed.iter().zip(&entries) {
                let unpacked = packed.unpack();
                prop_assert_eq!(unpacked.as_ref(), Some(entry));
            }
        }
    }
}
