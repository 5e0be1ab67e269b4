//! The memo: the meaning of bodies that were read before.
//!
//! Retries and fan-outs send the same bytes again and again. Reading a body (parse, sort, hash)
//! is the dearest step of a hit; finding the same bytes again costs a tenth of it. What is found
//! is compared byte for byte, so that no collision of the quick hash can give one request the
//! meaning of another, and it is never shared between tenants.

use std::hash::BuildHasher;
use std::sync::Arc;

use bytes::Bytes;
use foyer::{Cache, CacheBuilder, S3FifoConfig};
use keyspec::{KeySpec, Meaning, NotKeyable, TenantScope};
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

impl Remembered {
    fn weight(&self) -> usize {
        ENTRY_BYTES + self.body.len() + self.meaning.model.as_ref().map_or(0, |name| name.len())
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

    /// The meaning of `body` by `spec`: remembered, or read and remembered.
    ///
    /// # Errors
    /// When the body has no canonical form. That is not remembered.
    pub fn read(
        &self,
        tenant: &TenantScope,
        spec: &Arc<KeySpec>,
        body: &[u8],
    ) -> Result<Arc<Meaning>, NotKeyable> {
        let Some(remembered) = self.remembered.as_ref().filter(|_| body.len() <= BODY_BYTES_MAX)
        else {
            return spec.read(body).map(Arc::new);
        };
        let slot = self.hasher.hash_one((tenant, body));
        if let Some(found) = remembered.get(&slot)
            && Arc::ptr_eq(&found.spec, spec)
            && found.tenant == *tenant
            && found.body == body
        {
            return Ok(Arc::clone(&found.meaning));
        }
        let meaning = Arc::new(spec.read(body)?);
        let entry = Remembered {
            tenant: tenant.clone(),
            spec: Arc::clone(spec),
            // A copy: the request's own bytes are a slice of a larger network buffer.
            body: Bytes::copy_from_slice(body),
            meaning: Arc::clone(&meaning),
        };
        remembered.insert(slot, Arc::new(entry));
        Ok(meaning)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keyspec::ModelRoute;

    fn spec(route: ModelRoute) -> Arc<KeySpec> {
        Arc::new(KeySpec::preset(route))
    }

    fn is_remembered(memo: &Memo, tenant: &TenantScope, spec: &Arc<KeySpec>, body: &[u8]) -> bool {
        let first = memo.read(tenant, spec, body).unwrap();
        let second = memo.read(tenant, spec, body).unwrap();
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
        let ours = memo.read(&TenantScope::Anonymous, &embeddings, body).unwrap();
        let theirs = memo.read(&TenantScope::Named("b".into()), &embeddings, body).unwrap();
        assert!(!Arc::ptr_eq(&ours, &theirs));
        let keeping = KeySpec::preset(ModelRoute::OpenAiEmbeddings).ignoring(&["input".into()]);
        let other = memo.read(&TenantScope::Anonymous, &Arc::new(keeping), body).unwrap();
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
            memo.read(&TenantScope::Anonymous, &spec, body.as_bytes()).unwrap();
        }
        let held = memo.remembered.as_ref().map_or(0, Cache::usage);
        assert!(held > 0 && held <= 1 << 20, "{held} bytes are held");
    }

    #[test]
    fn what_has_no_meaning_is_not_remembered() {
        let memo = Memo::new(1 << 20);
        let spec = spec(ModelRoute::OpenAiEmbeddings);
        assert!(memo.read(&TenantScope::Anonymous, &spec, b"no json").is_err());
        assert_eq!(memo.remembered.as_ref().map_or(0, Cache::entries), 0);
    }
}
