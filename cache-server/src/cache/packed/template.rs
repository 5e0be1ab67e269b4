//! What entries have in common.
//!
//! A template is of one tenant, route, model and status, with these names of fields in this order. What
//! else there is of an entry's head has a place in it, and a place has either the value that all its
//! entries have, or leaves it to each. A place leaves it to each from the first entry on that has
//! another value than those before: so a date or an id comes to be each entry's own, and the fields
//! that a provider gives with all its answers do not, without a list of which is which.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use rapidhash::quality::RandomState;

use super::block::{Cursor, allocated, put_bytes, put_distance, put_id, put_number, put_value};
use crate::cache::entry::{Entry, Selector};
use crate::cache::freshness::Ends;
use crate::clock::Timestamp;

/// Bytes of templates that are found again. At the bound all are forgotten, and learned anew from the
/// entries that come: those that are there keep theirs.
const TEMPLATES_BYTES_MAX: usize = 8 << 20;
/// Room for the fields that a hit adds.
const FIELDS_ADDED: usize = 6;

/// A value that all entries of a template have, or that is each one's own.
type Place<T> = Option<T>;
/// Names of fields in order, and their values.
type Fields = Box<[(HeaderName, Place<HeaderValue>)]>;

/// What entries have in common.
#[derive(Debug)]
pub(super) struct Template {
    pub(super) tenant: Arc<str>,
    pub(super) route: Arc<str>,
    pub(super) model: Option<Arc<str>>,
    pub(super) status: StatusCode,
    pub(super) flags: Flags,
    pub(super) encoding: u8,
    pub(super) key_id: u32,
    lives: Place<Lives>,
    url: Place<Arc<str>>,
    tags: Place<Box<[Box<str>]>>,
    selectors: Box<[Place<Selector>]>,
    headers: Fields,
    trailers: Fields,
    weight: usize,
}

/// How far the ends of an entry are apart in milliseconds: from when it was generated to the fresh end,
/// and from each to the next. They wrap around, so that there is one for whatever ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Lives([u64; 4]);

/// What is so or not of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Flags {
    pub(super) must_revalidate: bool,
    pub(super) negative: bool,
    pub(super) is_variants: bool,
    pub(super) tag_is_ours: bool,
}

/// What an entry has in the places that its template leaves to it, and what the template has there.
pub(super) struct Own {
    pub(super) ends: Ends,
    pub(super) url: Arc<str>,
    pub(super) tags: Box<[Box<str>]>,
    pub(super) selectors: Box<[Selector]>,
    pub(super) upstream_request_id: Option<Box<str>>,
    pub(super) headers: HeaderMap,
    pub(super) trailers: HeaderMap,
}

/// The templates of the entries that came lately.
#[derive(Debug, Default)]
pub struct Templates {
    known: Mutex<Known>,
    hasher: RandomState,
}

#[derive(Debug, Default)]
struct Known {
    by_shape: HashMap<u64, Arc<Template>>,
    /// Bytes of all of them.
    bytes: usize,
}

impl Templates {
    /// The template of an entry: one that is there, or from now on is.
    pub(super) fn of(&self, entry: &Entry) -> Arc<Template> {
        let shape = self.shape(entry);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let found = known.by_shape.get(&shape).filter(|template| template.has_shape_of(entry));
        let template = match found {
            Some(found) if found.has_values_of(entry) => return Arc::clone(found),
            Some(found) => Arc::new(found.left_open_for(entry)),
            None => Arc::new(Template::of(entry)),
        };
        known.keep(shape, Arc::clone(&template));
        template
    }

    /// A hash of what all entries of a template have to have.
    fn shape(&self, entry: &Entry) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        (&entry.tenant, &entry.route, &entry.model, entry.status).hash(&mut hasher);
        (Flags::of(entry), entry.encoding, entry.key_id).hash(&mut hasher);
        (entry.selectors.len(), entry.headers.len()).hash(&mut hasher);
        for (name, _) in entry.headers.iter().chain(&entry.trailers) {
            name.hash(&mut hasher);
        }
        hasher.finish()
    }
}

impl Known {
    /// Keeps a template in the place of one of the same shape. One that is too large is kept by its
    /// entry alone.
    fn keep(&mut self, shape: u64, template: Arc<Template>) {
        let bytes = template.weight;
        if let Some(before) = self.by_shape.remove(&shape) {
            self.bytes -= before.weight;
        }
        if self.bytes + bytes > TEMPLATES_BYTES_MAX {
            (self.by_shape, self.bytes) = (HashMap::new(), 0);
        }
        if bytes <= TEMPLATES_BYTES_MAX {
            self.by_shape.insert(shape, template);
            self.bytes += bytes;
        }
    }
}

impl Lives {
    fn of(entry: &Entry) -> Lives {
        let Ends { fresh, stale_while_revalidate, stale_if_error, validate } = entry.ends;
        Lives([
            fresh.0.wrapping_sub(entry.generated.0),
            stale_while_revalidate.0.wrapping_sub(fresh.0),
            stale_if_error.0.wrapping_sub(stale_while_revalidate.0),
            validate.0.wrapping_sub(stale_if_error.0),
        ])
    }

    /// The ends of an entry that was generated then.
    fn from(self, generated: Timestamp) -> Ends {
        let Lives([fresh, stale_while_revalidate, stale_if_error, validate]) = self;
        let after = |time: Timestamp, life| Timestamp(time.0.wrapping_add(life));
        let fresh = after(generated, fresh);
        let stale_while_revalidate = after(fresh, stale_while_revalidate);
        let stale_if_error = after(stale_while_revalidate, stale_if_error);
        let validate = after(stale_if_error, validate);
        Ends { fresh, stale_while_revalidate, stale_if_error, validate }
    }
}

impl Flags {
    fn of(entry: &Entry) -> Flags {
        Flags {
            must_revalidate: entry.must_revalidate,
            negative: entry.negative,
            is_variants: entry.is_variants,
            tag_is_ours: entry.tag_is_ours,
        }
    }
}

impl Template {
    /// One that has all values of this entry.
    fn of(entry: &Entry) -> Template {
        let fields = |fields: &HeaderMap| {
            fields.iter().map(|(name, value)| (name.clone(), Some(copied(value)))).collect()
        };
        Template {
            tenant: Arc::clone(&entry.tenant),
            route: Arc::clone(&entry.route),
            model: entry.model.clone(),
            status: entry.status,
            flags: Flags::of(entry),
            encoding: entry.encoding,
            key_id: entry.key_id,
            lives: Some(Lives::of(entry)),
            url: Some(Arc::clone(&entry.url)),
            tags: Some(entry.tags.clone()),
            selectors: entry.selectors.iter().copied().map(Some).collect(),
            headers: fields(&entry.headers),
            trailers: fields(&entry.trailers),
            weight: 0,
        }
        .weighed()
    }

    /// The same, but with those places left open in which the entry has another value.
    fn left_open_for(&self, entry: &Entry) -> Template {
        let fields = |places: &Fields, values: &HeaderMap| {
            let pairs = places.iter().zip(values.values());
            pairs.map(|((name, place), value)| (name.clone(), kept(place, value))).collect()
        };
        let selectors = self.selectors.iter().zip(&entry.selectors);
        Template {
            tenant: Arc::clone(&self.tenant),
            route: Arc::clone(&self.route),
            model: self.model.clone(),
            lives: kept(&self.lives, &Lives::of(entry)),
            url: kept(&self.url, &entry.url),
            tags: kept(&self.tags, &entry.tags),
            selectors: selectors.map(|(place, value)| kept(place, value)).collect(),
            headers: fields(&self.headers, &entry.headers),
            trailers: fields(&self.trailers, &entry.trailers),
            ..*self
        }
        .weighed()
    }

    fn has_shape_of(&self, entry: &Entry) -> bool {
        self.tenant == entry.tenant
            && self.route == entry.route
            && self.model == entry.model
            && self.status == entry.status
            && self.flags == Flags::of(entry)
            && (self.encoding, self.key_id) == (entry.encoding, entry.key_id)
            && self.selectors.len() == entry.selectors.len()
            && have_names_of(&self.headers, &entry.headers)
            && have_names_of(&self.trailers, &entry.trailers)
    }

    /// Whether an entry of its shape has its values in all places that are not left open.
    fn has_values_of(&self, entry: &Entry) -> bool {
        let mut selectors = self.selectors.iter().zip(&entry.selectors);
        is(&self.lives, &Lives::of(entry))
            && is(&self.url, &entry.url)
            && is(&self.tags, &entry.tags)
            && selectors.all(|(place, value)| is(place, value))
            && have_values_of(&self.headers, &entry.headers)
            && have_values_of(&self.trailers, &entry.trailers)
    }

    /// Writes what the entry has in the places that are left open.
    pub(super) fn put_own(&self, out: &mut Vec<u8>, entry: &Entry) {
        if self.lives.is_none() {
            Lives::of(entry).0.iter().for_each(|life| put_distance(out, 0, *life));
        }
        if self.url.is_none() {
            put_bytes(out, entry.url.as_bytes());
        }
        if self.tags.is_none() {
            put_number(out, entry.tags.len() as u64);
            entry.tags.iter().for_each(|tag| put_bytes(out, tag.as_bytes()));
        }
        for (place, selector) in self.selectors.iter().zip(&entry.selectors) {
            if place.is_none() {
                out.extend_from_slice(selector.as_bytes());
            }
        }
        // Each has its own: nothing is gained by a place.
        put_id(out, entry.upstream_request_id.as_deref());
        put_own_values(out, entry.stored, &self.headers, &entry.headers);
        put_own_values(out, entry.stored, &self.trailers, &entry.trailers);
    }

    /// Reads what [`Template::put_own`] has written.
    pub(super) fn own(
        &self,
        from: &mut Cursor<'_>,
        [stored, generated]: [Timestamp; 2],
    ) -> Option<Own> {
        let lives = match self.lives {
            Some(lives) => lives,
            None => Lives(from.distances()?),
        };
        let url = match &self.url {
            Some(url) => Arc::clone(url),
            None => from.text()?.into(),
        };
        let tags = match &self.tags {
            Some(tags) => tags.clone(),
            None => {
                let count = from.number()?;
                (0..count).map(|_| from.text().map(Into::into)).collect::<Option<_>>()?
            }
        };
        let selector = |place: &Place<Selector>| match place {
            Some(selector) => Some(*selector),
            None => from.array().map(Selector::of_bytes),
        };
        let selectors = self.selectors.iter().map(selector).collect::<Option<_>>()?;
        Some(Own {
            ends: lives.from(generated),
            url,
            tags,
            selectors,
            upstream_request_id: from.id()?,
            headers: fields(&self.headers, FIELDS_ADDED, from, stored)?,
            trailers: fields(&self.trailers, 0, from, stored)?,
        })
    }

    /// Bytes that it takes in memory.
    pub(super) fn weight(&self) -> usize {
        self.weight
    }

    fn weighed(self) -> Template {
        const COUNTS_BYTES: usize = 16;
        let text = |text: &str| allocated(COUNTS_BYTES + text.len());
        let value = |value: &HeaderValue| allocated(value.len()) + 32;
        let fields = |fields: &Fields| {
            let values = fields.iter().filter_map(|(_, place)| place.as_ref()).map(value);
            values.sum::<usize>() + allocated(size_of_val::<[_]>(fields))
        };
        let tags =
            self.tags.iter().flatten().map(|tag| allocated(tag.len()) + size_of::<Box<str>>());
        // Tenant, route and model are shared by templates as well, or are small beside the rest.
        let weight = allocated(COUNTS_BYTES + size_of::<Template>())
            + self.url.as_deref().map_or(0, text)
            + tags.sum::<usize>()
            + allocated(size_of_val::<[_]>(&self.selectors))
            + fields(&self.headers)
            + fields(&self.trailers)
            + [Some(&self.tenant), Some(&self.route), self.model.as_ref()]
                .into_iter()
                .flatten()
                .map(|name| text(name))
                .sum::<usize>();
        Template { weight, ..self }
    }
}

/// A value that holds no block of an entry, as one that was read from there does.
fn copied(value: &HeaderValue) -> HeaderValue {
    HeaderValue::from_bytes(value.as_bytes()).unwrap_or_else(|_| value.clone())
}

/// Whether a place is open, or has this value.
fn is<T: PartialEq>(place: &Place<T>, value: &T) -> bool {
    place.as_ref().is_none_or(|known| known == value)
}

/// The place, left open if it has another value.
fn kept<T: PartialEq + Clone>(place: &Place<T>, value: &T) -> Place<T> {
    place.clone().filter(|known| known == value)
}

fn have_names_of(places: &Fields, fields: &HeaderMap) -> bool {
    places.len() == fields.len()
        && places.iter().zip(fields).all(|((name, _), (of_entry, _))| name == of_entry)
}

fn have_values_of(places: &Fields, fields: &HeaderMap) -> bool {
    places.iter().zip(fields.values()).all(|((_, place), value)| is(place, value))
}

fn put_own_values(out: &mut Vec<u8>, stored: Timestamp, places: &Fields, fields: &HeaderMap) {
    for ((_, place), value) in places.iter().zip(fields.values()) {
        if place.is_none() {
            put_value(out, stored, value.as_bytes());
        }
    }
}

fn fields(
    places: &Fields,
    more: usize,
    from: &mut Cursor<'_>,
    stored: Timestamp,
) -> Option<HeaderMap> {
    if places.is_empty() {
        return Some(HeaderMap::new());
    }
    let mut fields = HeaderMap::with_capacity(places.len() + more);
    for (name, place) in places {
        let value = match place {
            Some(value) => value.clone(),
            None => from.value(stored)?,
        };
        fields.append(name, value);
    }
    Some(fields)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::entry::tests::sample;

    #[test]
    fn tenants_models_and_other_fields_have_templates_of_their_own() {
        let templates = Templates::default();
        let entry = sample([1; 32], b"x");
        let of_entry = templates.of(&entry);
        assert!(Arc::ptr_eq(&of_entry, &templates.of(&entry)));
        let mut headers = entry.headers.clone();
        headers.insert("x-more", HeaderValue::from_static("1"));
        for other in [
            Entry { tenant: "team-b".into(), ..entry.clone() },
            Entry { model: None, ..entry.clone() },
            Entry { headers, ..entry.clone() },
        ] {
            assert!(!Arc::ptr_eq(&of_entry, &templates.of(&other)));
        }
        assert!(Arc::ptr_eq(&of_entry, &templates.of(&entry)), "nobody has opened it");
    }

    #[test]
    fn at_the_bound_templates_are_forgotten_and_learned_anew() {
        let templates = Templates::default();
        let known = || {
            let known = templates.known.lock().unwrap();
            let bytes: usize = known.by_shape.values().map(|template| template.weight).sum();
            assert_eq!(known.bytes, bytes);
            bytes
        };
        let url: Arc<str> = "x".repeat(900_000).into();
        let of = |tenant: u8| Entry {
            tenant: tenant.to_string().into(),
            url: Arc::clone(&url),
            ..sample([1; 32], b"")
        };
        let first = templates.of(&of(0));
        (1..8).for_each(|tenant| drop(templates.of(&of(tenant))));
        assert!(known() > 7 << 20);
        assert!(Arc::ptr_eq(&first, &templates.of(&of(0))));
        templates.of(&of(8));
        assert!(known() < 2 << 20);
        assert!(!Arc::ptr_eq(&first, &templates.of(&of(0))));
        let huge = Entry { url: "x".repeat(9 << 20).into(), ..of(9) };
        templates.of(&huge);
        assert_eq!(known(), 0, "there was no room for it either");
    }
}
