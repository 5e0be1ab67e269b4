//! The memo: the meaning of bodies that were read before.
//!
//! Retries and fan-outs send the same bytes again and again. Reading a body (parse, sort, hash)
//! is the dearest step of a hit; finding the same bytes again costs a tenth of it. What is found
//! is compared byte for byte, so that no collision of the quick hash can give one request the
//! meaning of another, and it is never shared between tenants.
//!
//! Of a body whose answers are not reused nothing is remembered: its digest, two thirds of the work,
//! is not taken, and it takes no room from bodies that come again.

use std::hash::BuildHasher;
use std::sync::Arc;

use bytes::Bytes;
use foyer::{Cache, CacheBuilder, S3FifoConfig};
use keyspec::{BodyFacts, KeySpec, Meaning, NotKeyable, TenantScope};
use rapidhash::quality::RandomState;

/// Larger bodies are read anew each time: they are rare, and would push many small ones out.
const BODY_BYTES_MAX: usize = 64 << 10;
/// What an entry takes beside the body and the model's name.
const ENTRY_BYTES: usize = 256;

/// Meanings by tenant, spec and raw body, within a bound on bytes.
#[derive(Debug)]
pub struct Memo {
    /// Absent if the bound is 0.
    remembered: Option<Cache<u64, Arc<Remembered>>>,
    /// Seeded anew in each process, so that nobody can aim at a slot.
    hasher: RandomState,
}

#[derive(Debug)]
struct Remembered {
    tenant: TenantScope,
    /// Held, so that its address stands for it.
    spec: Arc<KeySpec>,
    body: Bytes,
    meaning: Arc<Meaning>,
}

/// What reading a body came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Read<W, U> {
    /// Its meaning, and what is wanted of it.
    Wanted(Arc<Meaning>, W),
    /// What it says, and why no more is wanted.
    Unwanted(BodyFacts, U),
}

impl<W, U> Read<W, U> {
    /// Reads a body, and takes its digest if it is wanted for what the body says.
    ///
    /// # Errors
    /// When the body has no canonical form.
    pub fn anew(
        spec: &KeySpec,
        content_type: Option<&str>,
        body: &[u8],
        wants: impl FnOnce(&BodyFacts) -> Result<W, U>,
    ) -> Result<Read<W, U>, NotKeyable> {
        let open = spec.open(content_type, body)?;
        Ok(match wants(open.facts()) {
            Ok(wanted) => Read::Wanted(Arc::new(open.into_meaning()), wanted),
            Err(unwanted) => Read::Unwanted(open.into_facts(), unwanted),
        })
    }

    /// The same of a body that was read.
    pub fn again(
        meaning: Arc<Meaning>,
        wants: impl FnOnce(&BodyFacts) -> Result<W, U>,
    ) -> Read<W, U> {
        match wants(&meaning.facts) {
            Ok(wanted) => Read::Wanted(meaning, wanted),
            Err(unwanted) => Read::Unwanted(meaning.facts.clone(), unwanted),
        }
    }
}

impl Remembered {
    fn weight(&self) -> usize {
        ENTRY_BYTES
            + self.body.len()
            + self.meaning.facts.model.as_ref().map_or(0, |name| name.len())
    }
}

impl Memo {
    /// A memo that holds at most `bytes_max` bytes; 0 remembers nothing.
    #[must_use]
    pub fn new(bytes_max: usize) -> Memo {
        let remembered = (bytes_max > 0).then(|| {
            CacheBuilder::new(bytes_max)
                .with_eviction_config(S3FifoConfig::default())
                .with_weighter(|_, entry: &Arc<Remembered>| entry.weight())
                .build()
        });
        Memo { remembered, hasher: RandomState::new() }
    }

    /// The meaning of a JSON `body` by `spec`, if it is wanted: remembered, or read and remembered.
    ///
    /// # Errors
    /// When the body has no canonical form. That is not remembered.
    pub fn read<W, U>(
        &self,
        tenant: &TenantScope,
        spec: &Arc<KeySpec>,
        body: &[u8],
        wants: impl FnOnce(&BodyFacts) -> Result<W, U>,
    ) -> Result<Read<W, U>, NotKeyable> {
        let Some(remembered) = self.remembered.as_ref().filter(|_| body.len() <= BODY_BYTES_MAX)
        else {
            return Read::anew(spec, None, body, wants);
        };
        let slot = self.hasher.hash_one((tenant, body));
        if let Some(found) = remembered.get(&slot)
            && Arc::ptr_eq(&found.spec, spec)
            && found.tenant == *tenant
            && found.body == body
        {
            return Ok(Read::again(Arc::clone(&found.meaning), wants));
        }
        let read = Read::anew(spec, None, body, wants)?;
        if let Read::Wanted(meaning, _) = &read {
            let entry = Remembered {
                tenant: tenant.clone(),
                spec: Arc::clone(spec),
                // A copy: the request's own bytes are a slice of a larger network buffer.
                body: Bytes::copy_from_slice(body),
                meaning: Arc::clone(meaning),
            };
            remembered.insert(slot, Arc::new(entry));
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keyspec::ModelRoute;

    fn spec(route: ModelRoute) -> Arc<KeySpec> {
        Arc::new(KeySpec::preset(route))
    }

    fn meaning(
        memo: &Memo,
        tenant: &TenantScope,
        spec: &Arc<KeySpec>,
        body: &[u8],
    ) -> Result<Arc<Meaning>, NotKeyable> {
        let read = memo.read(tenant, spec, body, |_| Ok::<_, ()>(()))?;
        let Read::Wanted(meaning, ()) = read else { panic!("it is wanted: {read:?}") };
        Ok(meaning)
    }

    fn is_remembered(memo: &Memo, tenant: &TenantScope, spec: &Arc<KeySpec>, body: &[u8]) -> bool {
        let first = meaning(memo, tenant, spec, body).unwrap();
        let second = meaning(memo, tenant, spec, body).unwrap();
        assert_eq!(first, second);
        Arc::ptr_eq(&first, &second)
    }

    #[test]
    fn the_same_bytes_are_read_once() {
        let memo = Memo::new(1 << 20);
        let spec = spec(ModelRoute::OpenAiEmbeddings);
        assert!(is_remembered(&memo, &TenantScope::Anonymous, &spec, br#"{"input":"x"}"#));
    }

    #[test]
    fn nothing_is_shared_between_tenants_or_specs() {
        let memo = Memo::new(1 << 20);
        let embeddings = spec(ModelRoute::OpenAiEmbeddings);
        let body = br#"{"input":"x","metadata":{"a":1}}"#;
        let ours = meaning(&memo, &TenantScope::Anonymous, &embeddings, body).unwrap();
        let theirs = meaning(&memo, &TenantScope::Named("b".into()), &embeddings, body).unwrap();
        assert!(!Arc::ptr_eq(&ours, &theirs));
        let keeping = KeySpec::preset(ModelRoute::OpenAiEmbeddings).ignoring(&["input".into()]);
        let other = meaning(&memo, &TenantScope::Anonymous, &Arc::new(keeping), body).unwrap();
        assert_ne!(ours.digest, other.digest);
    }

    #[test]
    fn large_bodies_and_a_bound_of_nothing_are_read_each_time() {
        let spec = spec(ModelRoute::OpenAiEmbeddings);
        let large = format!("{{\"input\":\"{}\"}}", "x".repeat(BODY_BYTES_MAX));
        let tenant = TenantScope::Anonymous;
        assert!(!is_remembered(&Memo::new(1 << 20), &tenant, &spec, large.as_bytes()));
        assert!(!is_remembered(&Memo::new(0), &tenant, &spec, br#"{"input":"x"}"#));
    }

    #[test]
    fn the_bound_holds_under_a_flood_of_bodies() {
        let memo = Memo::new(1 << 20);
        let spec = spec(ModelRoute::OpenAiEmbeddings);
        for number in 0..20_000 {
            let body = format!("{{\"input\":\"{number}\"}}");
            meaning(&memo, &TenantScope::Anonymous, &spec, body.as_bytes()).unwrap();
        }
        let held = memo.remembered.as_ref().map_or(0, Cache::usage);
        assert!(held > 0 && held <= 1 << 20, "{held} bytes are held");
    }

    #[test]
    fn what_has_no_meaning_is_not_remembered() {
        let memo = Memo::new(1 << 20);
        let spec = spec(ModelRoute::OpenAiEmbeddings);
        assert!(meaning(&memo, &TenantScope::Anonymous, &spec, b"no json").is_err());
        assert_eq!(memo.remembered.as_ref().map_or(0, Cache::entries), 0);
    }

    #[test]
    fn what_is_not_wanted_is_not_remembered_and_may_be_wanted_later() {
        let memo = Memo::new(1 << 20);
        let (spec, tenant) = (spec(ModelRoute::OpenAiEmbeddings), TenantScope::Anonymous);
        let body = br#"{"model":"m","input":"x"}"#;
        let unwanted = || memo.read(&tenant, &spec, body, |_| Err::<(), _>("why")).unwrap();
        let facts = spec.read(body).unwrap().facts;
        assert_eq!(unwanted(), Read::Unwanted(facts.clone(), "why"));
        assert_eq!(memo.remembered.as_ref().map_or(0, Cache::entries), 0);
        assert!(is_remembered(&memo, &tenant, &spec, body));
        assert_eq!(unwanted(), Read::Unwanted(facts, "why"));
    }
}
