//! Differential test: what is decided here against what the crate `http-cache-semantics` decides,
//! over generated exchanges. Where the two differ by rule, the rule is an [`Exception`] with the
//! section that it rests on; any other difference fails.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::header::{AUTHORIZATION, CACHE_CONTROL, HeaderName};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_cache_semantics::{CacheOptions, CachePolicy};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::cache_control::RequestDirectives;
use super::negative::Negative;
use super::serve::{Decision, Stored, decide};
use super::store::{Exchange, Heuristic, HttpPolicy, Storing, storing};
use crate::clock::Timestamp;

/// Sun, 06 Nov 1994 08:49:37 GMT.
const ANSWERED_S: u64 = 784_111_777;

const CASES: usize = 8000;

/// One answer, and one request that comes for it later.
#[derive(Clone, Debug)]
struct Case {
    method: Method,
    status: u16,
    has_authorization: bool,
    /// The `Cache-Control` of the request that was answered.
    asked: &'static str,
    /// Directives of the answer.
    says: Vec<&'static str>,
    /// Other fields of the answer.
    fields: Vec<(&'static str, String)>,
    /// The `Date` of the answer, in seconds from when it came.
    dated_s: Option<i64>,
    age_s: u64,
    /// Seconds from the answer to the later request.
    later_s: u64,
    /// Directives of the later request.
    wants: Vec<&'static str>,
    /// Whether lifetimes are guessed.
    guesses: bool,
}

/// Why both may differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Exception {
    /// RFC 9111 section 3 allows to store what has no lifetime, and does not ask for it. The crate
    /// says that it may be stored.
    OfNoUse,
    /// RFC 9111 section 3: with a lifetime any final status may be stored. The crate knows a list.
    UnknownStatus,
    /// RFC 9110 section 15.5.6 has 405 stored by default; here no error about one request's form
    /// is.
    AboutOneRequest,
    /// RFC 9110 section 9.3.3: an answer to `POST` needs a `Content-Location`, and answers GET
    /// alone. The crate does not look for it.
    Post,
    /// RFC 9111 section 5.2.2.3; the crate does not know the directive.
    MustUnderstand,
    /// RFC 9111 sections 5.2.2.4 and 5.2.2.7: names narrow a `no-cache` or `private`. The crate
    /// does not look at them.
    Qualified,
    /// RFC 9111 section 5.2.2.4: `no-cache` forbids any use without validation. The crate lets
    /// `max-stale` override it.
    NoCacheAndMaxStale,
    /// RFC 9111 section 5.4: `Pragma` means nothing in an answer. The crate takes it for
    /// `no-cache`.
    PragmaInAnswer,
    /// RFC 9111 section 4.2.3: the crate leaves out the apparent age.
    ApparentAge,
    /// RFC 9111 section 5.2.2.8: `proxy-revalidate` is about stale answers. The crate takes it for
    /// stale at once.
    ProxyRevalidate,
    /// RFC 9111 section 5.2.2.10: `s-maxage` forbids stale answers. The crate lets `max-stale`
    /// override it.
    SharedMaxAgeAndMaxStale,
    /// RFC 9111 section 4.2.1: of repeated bounds the smaller is taken here; the crate takes the
    /// first, and of an answer that repeats them nothing stale.
    Repeated,
    /// RFC 5861 section 3, which the crate does not know.
    WhileRevalidate,
    /// RFC 9111 section 5.2.1.2: "no more than" the bound of `max-stale`. The crate wants less.
    MaxStaleToItsBound,
    /// RFC 9111 section 4.2.4 allows to answer with what is stale, and keeps nobody from dropping
    /// it: here it is not kept without a validator.
    NotKept,
    /// RFC 9111 section 5.2.1.1 has age zero satisfy `max-age=0`; here the upstream is asked.
    AgeZero,
    /// RFC 9111 section 4.2.2 allows to guess for 404, 410, 414 and 501; here errors have no
    /// guessed lifetime.
    NoGuessForErrors,
    /// RFC 8246 says nothing of cookies. The crate takes `immutable` for `public` there.
    CookieOfImmutable,
}

impl Exception {
    const ALL: [Exception; 18] = [
        Exception::OfNoUse,
        Exception::UnknownStatus,
        Exception::AboutOneRequest,
        Exception::Post,
        Exception::MustUnderstand,
        Exception::Qualified,
        Exception::NoCacheAndMaxStale,
        Exception::PragmaInAnswer,
        Exception::ApparentAge,
        Exception::ProxyRevalidate,
        Exception::SharedMaxAgeAndMaxStale,
        Exception::Repeated,
        Exception::WhileRevalidate,
        Exception::MaxStaleToItsBound,
        Exception::NotKept,
        Exception::AgeZero,
        Exception::NoGuessForErrors,
        Exception::CookieOfImmutable,
    ];

    /// Whether this one is about the case.
    fn covers(self, case: &Case, ours: &Verdict, theirs: &Verdict) -> bool {
        let says = |name: &str| case.says.iter().any(|said| said.split('=').next() == Some(name));
        let repeats = |directives: &[&str], name: &str| {
            directives.iter().filter(|said| said.split('=').next() == Some(name)).count() > 1
        };
        let wants_stale = case.wants.iter().any(|wants| wants.starts_with("max-stale"));
        let has = |name: &str| case.fields.iter().any(|(field, _)| *field == name);
        let has_lifetime = says("max-age") || says("s-maxage") || has("expires");
        match self {
            Exception::OfNoUse => theirs.stores && !ours.stores && theirs.ttl_when_it_came_s == 0,
            Exception::UnknownStatus => case.status == 299,
            Exception::AboutOneRequest => case.status == 405,
            Exception::Post => case.method == Method::POST,
            Exception::MustUnderstand => says("must-understand") && says("no-store"),
            Exception::Qualified => case.says.iter().any(|said| said.ends_with('"')),
            Exception::NoCacheAndMaxStale => says("no-cache") && wants_stale,
            Exception::PragmaInAnswer => has("pragma") && case.says.is_empty(),
            Exception::ApparentAge => {
                case.dated_s.is_some_and(|dated_s| -dated_s > i64::try_from(case.age_s).unwrap())
            }
            Exception::ProxyRevalidate => says("proxy-revalidate"),
            Exception::SharedMaxAgeAndMaxStale => says("s-maxage") && wants_stale,
            Exception::Repeated => {
                repeats(&case.says, "max-age")
                    || repeats(&case.says, "s-maxage")
                    || repeats(&case.wants, "max-stale")
            }
            Exception::WhileRevalidate => {
                matches!(ours.decision, Some(Decision::WhileRevalidate { .. }))
            }
            Exception::MaxStaleToItsBound => {
                let by = Duration::from_secs(100);
                ours.decision == Some(Decision::StaleAccepted { by })
                    && case.wants.contains(&"max-stale=100")
            }
            Exception::NotKept => ours.decision == Some(Decision::Absent) && wants_stale,
            Exception::AgeZero => {
                case.wants.contains(&"max-age=0") && case.age_s == 0 && case.later_s == 0
            }
            Exception::NoGuessForErrors => {
                case.guesses && !has_lifetime && matches!(case.status, 404 | 410 | 414 | 501)
            }
            Exception::CookieOfImmutable => has("set-cookie") && says("immutable"),
        }
    }
}

/// What one of the two has to say of a case.
#[derive(Clone, Copy, Debug)]
struct Verdict {
    stores: bool,
    ttl_when_it_came_s: u64,
    /// Seconds for which it is fresh when the later request comes.
    ttl_s: u64,
    /// Whether the later request is answered without asking the upstream.
    answers: bool,
    /// Ours alone.
    decision: Option<Decision>,
}

impl Verdict {
    fn agrees_with(&self, other: &Verdict) -> bool {
        let said = |verdict: &Verdict| {
            (verdict.stores, verdict.ttl_when_it_came_s, verdict.ttl_s, verdict.answers)
        };
        said(self) == said(other)
    }
}

impl Case {
    fn response(&self) -> Response<()> {
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::from_u16(self.status).unwrap();
        let mut append = |name: &'static str, value: &str| {
            let value = HeaderValue::from_str(value).unwrap();
            response.headers_mut().append(HeaderName::from_static(name), value);
        };
        if !self.says.is_empty() {
            append("cache-control", &self.says.join(", "));
        }
        if let Some(dated_s) = self.dated_s {
            append("date", &http_date(dated_s));
        }
        if self.age_s > 0 {
            append("age", &self.age_s.to_string());
        }
        self.fields.iter().for_each(|(name, value)| append(name, value));
        response
    }

    fn request(&self, cache_control: &str) -> Request<()> {
        let mut request = Request::new(());
        *request.method_mut() = self.method.clone();
        let fields = request.headers_mut();
        if !cache_control.is_empty() {
            fields.insert(CACHE_CONTROL, HeaderValue::from_str(cache_control).unwrap());
        }
        if self.has_authorization {
            fields.insert(AUTHORIZATION, HeaderValue::from_static("Bearer k"));
        }
        request
    }

    fn ours(&self) -> Verdict {
        let answered = Timestamp(ANSWERED_S * 1000);
        let now = answered.plus(Duration::from_secs(self.later_s));
        let directives = |line: &str| RequestDirectives::parse(self.request(line).headers());
        let response = self.response();
        let exchange = Exchange {
            method: &self.method,
            request: &directives(self.asked),
            has_authorization: self.has_authorization,
            status: StatusCode::from_u16(self.status).unwrap(),
            fields: response.headers(),
            asked: answered,
            answered,
        };
        let heuristic = Heuristic { share_percent: 10, cap: Duration::MAX };
        let policy = HttpPolicy {
            obey_upstream: true,
            lifetime: None,
            heuristic: self.guesses.then_some(heuristic),
            negative: Negative::AS_SAID,
        };
        let stored = storing(&exchange, &policy).ok().map(stored);
        let decision =
            stored.map(|stored| decide(&stored, &directives(&self.wants.join(",")), now));
        let ttl_s = |at| stored.map_or(0, |stored| stored.ends.fresh.since(at).as_secs());
        Verdict {
            stores: stored.is_some(),
            ttl_when_it_came_s: ttl_s(answered),
            ttl_s: ttl_s(now),
            answers: decision.is_some_and(|decision| {
                !matches!(decision, Decision::Validate { .. } | Decision::Absent)
            }),
            decision,
        }
    }

    fn theirs(&self) -> Verdict {
        let options = CacheOptions {
            shared: true,
            cache_heuristic: if self.guesses { 0.1 } else { 0.0 },
            immutable_min_time_to_live: Duration::ZERO,
            ignore_cargo_cult: false,
        };
        let answered: SystemTime = UNIX_EPOCH + Duration::from_secs(ANSWERED_S);
        let now = answered + Duration::from_secs(self.later_s);
        let policy = CachePolicy::new_options(
            &self.request(self.asked),
            &self.response(),
            answered,
            options,
        );
        let later = policy.before_request(&self.request(&self.wants.join(",")), now);
        Verdict {
            stores: policy.is_storable(),
            ttl_when_it_came_s: policy.time_to_live(answered).as_secs(),
            ttl_s: policy.time_to_live(now).as_secs(),
            answers: policy.is_storable() && later.satisfies_without_revalidation(),
            decision: None,
        }
    }
}

fn stored(storing: Storing) -> Stored {
    let Storing { ends, generated, initial_age_s, must_revalidate, .. } = storing;
    Stored { ends, generated, initial_age_s, must_revalidate }
}

fn http_date(from_answer_s: i64) -> String {
    let at = Duration::from_secs(ANSWERED_S.checked_add_signed(from_answer_s).unwrap());
    httpdate::fmt_http_date(UNIX_EPOCH + at)
}

/// Directives of an answer, each in about as many cases as it is worth.
fn any_says() -> impl Strategy<Value = Vec<&'static str>> {
    const LIFETIMES: &[&str] =
        &["max-age=0", "max-age=60", "max-age=600", "max-age=x", "s-maxage=0", "s-maxage=300"];
    const OTHERS: &[&str] = &[
        "public",
        "must-revalidate",
        "no-cache",
        "no-store",
        "private",
        "proxy-revalidate",
        "must-understand",
        "immutable",
        "no-transform",
        "stale-while-revalidate=100",
        "stale-if-error=100",
        "private=\"x\"",
        "no-cache=\"x\"",
    ];
    let lifetimes = |count: usize| proptest::sample::subsequence(LIFETIMES, count).prop_shuffle();
    let lifetimes = prop_oneof![2 => lifetimes(0), 5 => lifetimes(1), 1 => lifetimes(2)];
    let others = proptest::sample::subsequence(OTHERS, 0..=2);
    (lifetimes, others).prop_map(|(lifetimes, others)| [lifetimes, others].concat())
}

/// Fields of an answer besides `Cache-Control`, `Date` and `Age`.
fn any_fields() -> impl Strategy<Value = Vec<(&'static str, String)>> {
    let sometimes = |share, name: &'static str, value: BoxedStrategy<String>| {
        proptest::option::weighted(share, value.prop_map(move |value| (name, value)))
    };
    let expires = prop_oneof![Just("0".to_owned()), (-200..1000_i64).prop_map(http_date)];
    let text = |text: &'static str| Just(text.to_owned()).boxed();
    let vary = prop_oneof![Just("*".to_owned()), Just("accept".to_owned())];
    let fields = (
        sometimes(0.25, "expires", expires.boxed()),
        sometimes(0.4, "etag", text("\"a\"")),
        sometimes(0.3, "last-modified", Just(http_date(-1000)).boxed()),
        sometimes(0.1, "set-cookie", text("a=b")),
        sometimes(0.1, "vary", vary.boxed()),
        sometimes(0.1, "pragma", text("no-cache")),
    );
    fields.prop_map(|(expires, tag, changed, cookie, vary, pragma)| {
        [expires, tag, changed, cookie, vary, pragma].into_iter().flatten().collect()
    })
}

fn any_case() -> impl Strategy<Value = Case> {
    const STATUSES: &[u16] =
        &[203, 204, 206, 299, 301, 302, 304, 307, 308, 404, 405, 410, 414, 500, 501, 503];
    const WANTS: &[&str] = &[
        "max-age=0",
        "max-age=50",
        "max-age=900",
        "min-fresh=50",
        "max-stale",
        "max-stale=100",
        "no-cache",
    ];
    let method =
        prop_oneof![8 => Just(Method::GET), 2 => Just(Method::HEAD), 1 => Just(Method::POST)];
    let status = prop_oneof![2 => Just(200), 1 => proptest::sample::select(STATUSES)];
    let asked = prop_oneof![12 => Just(""), 1 => Just("no-store")];
    let dated_s =
        prop_oneof![2 => Just(None), 4 => Just(Some(0)), 1 => Just(Some(30)), 1 => Just(Some(-30))];
    let age_s = prop_oneof![2 => Just(0), 1 => Just(40), 1 => Just(100)];
    let later_s = prop_oneof![2 => 0..1000_u64, 1 => Just(0), 1 => Just(160), 1 => Just(700)];
    let wants = proptest::sample::subsequence(WANTS, 0..=2);
    let heads = (method, status, proptest::bool::weighted(0.15), asked);
    let times = (dated_s, age_s, later_s, any::<bool>());
    (heads, any_says(), any_fields(), times, wants).prop_map(
        |(heads, says, fields, times, wants)| {
            let (method, status, has_authorization, asked) = heads;
            let (dated_s, age_s, later_s, guesses) = times;
            Case {
                method,
                status,
                has_authorization,
                asked,
                says,
                fields,
                dated_s,
                age_s,
                later_s,
                wants,
                guesses,
            }
        },
    )
}

#[test]
fn all_is_decided_as_another_cache_does_but_for_the_exceptions() {
    let mut runner = TestRunner::deterministic();
    let cases = any_case();
    let (mut compared, mut stored, mut answered) = (0, 0, 0);
    let mut needed = BTreeSet::new();
    for _ in 0..CASES {
        let case = cases.new_tree(&mut runner).expect("a case").current();
        let (ours, theirs) = (case.ours(), case.theirs());
        let covers = |exception: &Exception| exception.covers(&case, &ours, &theirs);
        let exceptions: Vec<_> = Exception::ALL.into_iter().filter(covers).collect();
        match (ours.agrees_with(&theirs), &*exceptions) {
            (true, []) => {
                compared += 1;
                stored += usize::from(ours.stores);
                answered += usize::from(ours.answers);
            }
            (true, _) => {}
            (false, []) => panic!("{case:#?}\nours: {ours:?}\ntheirs: {theirs:?}"),
            (false, [only]) => {
                needed.insert(*only);
            }
            (false, _) => {}
        }
    }
    assert!(compared > CASES / 3, "only {compared} were compared");
    assert!(stored > CASES / 20 && answered > CASES / 40, "{stored} stored, {answered} answered");
    let unneeded: Vec<_> =
        Exception::ALL.into_iter().filter(|exception| !needed.contains(exception)).collect();
    assert!(unneeded.is_empty(), "no case needs {unneeded:?}");
}
