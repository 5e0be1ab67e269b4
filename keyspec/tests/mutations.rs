//! Requests as the SDKs send them, changed at every place: the key changes exactly where the
//! table below says that it does.

mod payload;

use http::HeaderMap;
use keyspec::{Key, KeySpec, KeyedRequest, TenantScope};
use payload::{Payload, Tree, payloads};

/// What of a spec's requests is not keyed, and where the order of members counts. It is written
/// out here, not taken from the crate.
struct Expected {
    spec: &'static str,
    left_out: &'static [&'static str],
    ordered: &'static [&'static str],
}

const CACHE_CONTROL: [&str; 8] = [
    "cache_control",
    "system[].cache_control",
    "tools[].cache_control",
    "messages[].content[].cache_control",
    "messages[].content[].source.content[].cache_control",
    "messages[].content[].content[].cache_control",
    "messages[].content[].content[].source.content[].cache_control",
    "messages[].content[].content[].content[].cache_control",
];

const ANTHROPIC_ORDERED: &[&str] =
    &["tools[].input_schema", "output_format.schema", "output_config.format.schema"];

const GEMINI_ORDERED: &[&str] = &[
    "generationConfig.responseSchema",
    "generationConfig.responseJsonSchema",
    "tools[].functionDeclarations[].parameters",
    "tools[].functionDeclarations[].parametersJsonSchema",
    "tools[].functionDeclarations[].response",
    "tools[].functionDeclarations[].responseJsonSchema",
    "generation_config.response_schema",
    "generation_config.response_json_schema",
    "tools[].function_declarations[].parameters",
    "tools[].function_declarations[].parameters_json_schema",
    "tools[].function_declarations[].response",
    "tools[].function_declarations[].response_json_schema",
];

const EXPECTED: &[Expected] = &[
    Expected {
        spec: "openai.chat_completions",
        left_out: &[
            "user",
            "request_id",
            "metadata",
            "safety_identifier",
            "prompt_cache_key",
            "prompt_cache_retention",
        ],
        ordered: &[
            "response_format.json_schema.schema",
            "tools[].function.parameters",
            "functions[].parameters",
            "guided_json",
            "structured_outputs.json",
        ],
    },
    Expected {
        spec: "openai.completions",
        left_out: &["user", "request_id"],
        ordered: &["response_format.json_schema.schema", "guided_json", "structured_outputs.json"],
    },
    Expected {
        spec: "openai.responses",
        left_out: &[],
        ordered: &["text.format.schema", "tools[].parameters"],
    },
    Expected { spec: "openai.embeddings", left_out: &["user", "request_id"], ordered: &[] },
    Expected { spec: "openai.moderations", left_out: &["user", "request_id"], ordered: &[] },
    Expected { spec: "anthropic.messages", left_out: &["metadata"], ordered: ANTHROPIC_ORDERED },
    Expected { spec: "anthropic.count_tokens", left_out: &[], ordered: ANTHROPIC_ORDERED },
    Expected { spec: "gemini.generate_content", left_out: &["labels"], ordered: GEMINI_ORDERED },
    Expected {
        spec: "gemini.stream_generate_content",
        left_out: &["labels"],
        ordered: GEMINI_ORDERED,
    },
    Expected { spec: "gemini.count_tokens", left_out: &[], ordered: GEMINI_ORDERED },
    Expected { spec: "gemini.embed_content", left_out: &[], ordered: &[] },
    Expected { spec: "gemini.batch_embed_contents", left_out: &[], ordered: &[] },
    Expected {
        spec: "mcp",
        left_out: &[
            "id",
            "params._meta.progressToken",
            "params._meta.traceparent",
            "params._meta.tracestate",
            "params._meta.baggage",
        ],
        ordered: &[],
    },
];

impl Expected {
    fn of(spec: &str) -> &'static Expected {
        EXPECTED.iter().find(|expected| expected.spec == spec).expect("every spec is expected")
    }

    /// Whether what stands at `path` or around it is not keyed.
    fn is_left_out(&self, path: &str) -> bool {
        let blocks: &[&str] =
            if self.spec.starts_with("anthropic.") { &CACHE_CONTROL } else { &[] };
        self.left_out.iter().chain(blocks).any(|left_out| is_within(path, left_out))
    }

    /// Whether the order of members counts in what stands at `path`.
    fn is_ordered(&self, path: &str) -> bool {
        let within = |path: &str| self.ordered.iter().any(|ordered| is_within(path, ordered));
        let request = ["generateContentRequest.", "generate_content_request."];
        let in_request = request.iter().find_map(|request| path.strip_prefix(request));
        let is_count = self.spec == "gemini.count_tokens";
        within(path) || (is_count && in_request.is_some_and(within))
    }
}

fn is_within(path: &str, outer: &str) -> bool {
    path.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

type Members = Vec<(String, Tree)>;

/// A request with one change, and whether its key should be another.
struct Mutation {
    what: &'static str,
    path: String,
    changes: bool,
    body: Tree,
}

/// Finds all changes of a request.
struct Mutator<'e> {
    expected: &'e Expected,
    found: Vec<Mutation>,
}

impl Mutator<'_> {
    fn add(&mut self, what: &'static str, path: &str, changes: bool, body: Tree) {
        self.found.push(Mutation { what, path: path.to_owned(), changes, body });
    }

    /// `path` leads to `value`; `whole` is the request with another value there.
    fn everywhere(&mut self, value: &Tree, path: &str, whole: &dyn Fn(Tree) -> Tree) {
        let is_keyed = !self.expected.is_left_out(path);
        self.add("another value", path, is_keyed, whole(changed(value)));
        match value {
            Tree::Leaf(_) => {}
            Tree::Array(elements) => self.elements(elements, path, whole),
            Tree::Object(members) => self.members(members, path, whole),
        }
    }

    fn elements(&mut self, elements: &[Tree], path: &str, whole: &dyn Fn(Tree) -> Tree) {
        let is_keyed = !self.expected.is_left_out(path);
        let inner = format!("{path}[]");
        for (index, element) in elements.iter().enumerate() {
            let with = |change: &dyn Fn(&mut Vec<Tree>)| {
                let mut elements = elements.to_vec();
                change(&mut elements);
                whole(Tree::Array(elements))
            };
            self.everywhere(element, &inner, &|other| {
                with(&|elements| elements[index] = other.clone())
            });
            self.add("an element less", path, is_keyed, with(&|all| drop(all.remove(index))));
            let twice = with(&|all| all.insert(index, element.clone()));
            self.add("an element twice", path, is_keyed, twice);
            if index > 0 && elements[index - 1] != *element {
                let swapped = with(&|all| all.swap(index - 1, index));
                self.add("elements in another order", path, is_keyed, swapped);
            }
        }
    }

    fn members(&mut self, members: &[(String, Tree)], path: &str, whole: &dyn Fn(Tree) -> Tree) {
        let is_keyed = !self.expected.is_left_out(path);
        for (index, (name, value)) in members.iter().enumerate() {
            let inner = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            let with = |change: &dyn Fn(&mut Members)| {
                let mut members = members.to_vec();
                change(&mut members);
                whole(Tree::Object(members))
            };
            self.everywhere(value, &inner, &|other| with(&|all| all[index].1 = other.clone()));
            let is_inner_keyed = !self.expected.is_left_out(&inner);
            self.add("a member less", &inner, is_inner_keyed, with(&|all| drop(all.remove(index))));
            // Under its new name it is a member that nobody has heard of.
            self.add("a name changed", &inner, is_keyed, with(&|all| all[index].0.push('x')));
            let null = with(&|all| all[index].1 = Tree::Leaf(serde_json::Value::Null));
            let changes = is_inner_keyed && *value != Tree::Leaf(serde_json::Value::Null);
            self.add("null instead", &inner, changes, null);
            if index > 0 {
                let swapped = with(&|all| all.swap(index - 1, index));
                self.add("members in another order", path, self.expected.is_ordered(path), swapped);
            }
        }
    }
}

fn changed(value: &Tree) -> Tree {
    use serde_json::Value;
    match value {
        Tree::Leaf(Value::Null) => Tree::Leaf(Value::Bool(false)),
        Tree::Leaf(Value::Bool(value)) => Tree::Leaf(Value::Bool(!value)),
        Tree::Leaf(Value::Number(number)) => {
            Tree::Leaf(Value::from(number.as_f64().expect("a number") + 0.5))
        }
        Tree::Leaf(Value::String(text)) => Tree::Leaf(Value::String(format!("{text} "))),
        Tree::Leaf(_) => unreachable!("arrays and objects are no leaves"),
        Tree::Array(elements) => Tree::Array([&elements[..], &[Tree::Leaf(Value::Null)]].concat()),
        Tree::Object(members) => {
            let more = ("a_member_of_the_future".to_owned(), Tree::Leaf(Value::Null));
            Tree::Object([&members[..], &[more]].concat())
        }
    }
}

fn key(spec: &KeySpec, body: &Tree) -> Key {
    let request = KeyedRequest {
        tenant: &TenantScope::Anonymous,
        upstream: "https://api.example.com",
        method: "POST",
        path: "/v1/x",
        query: None,
        headers: &HeaderMap::new(),
    };
    let meaning = spec.read(body.to_string().as_bytes()).expect("keyable");
    spec.key(&request, &meaning)
}

fn mutations(payload: &Payload) -> Vec<Mutation> {
    let mut mutator = Mutator { expected: Expected::of(&payload.spec), found: Vec::new() };
    mutator.everywhere(&payload.body, "", &|body| body);
    mutator.found
}

#[test]
fn a_key_changes_exactly_with_what_is_keyed() {
    let mut count = 0;
    for payload in payloads() {
        let spec = KeySpec::named_preset(&payload.spec).expect("a preset");
        let before = key(&spec, &payload.body);
        for Mutation { what, path, changes, body } in mutations(&payload) {
            let changed = key(&spec, &body) != before;
            assert_eq!(changed, changes, "{}: {what} at `{path}`", payload.file);
            count += 1;
        }
    }
    assert!(count > 5_000, "{count} changes");
}

#[test]
fn every_expectation_is_met_by_a_payload() {
    let payloads = payloads();
    for expected in EXPECTED {
        let of_spec = payloads.iter().filter(|payload| payload.spec == expected.spec);
        let paths: Vec<String> =
            of_spec.flat_map(mutations).map(|mutation| mutation.path).collect();
        assert!(!paths.is_empty(), "{} has a payload", expected.spec);
        for left_out in expected.left_out {
            assert!(paths.iter().any(|path| path == left_out), "{}: {left_out}", expected.spec);
        }
        // Gemini's spellings are shared out among its routes.
        let ordered = expected.ordered.iter().filter(|_| !expected.spec.starts_with("gemini."));
        for ordered in ordered {
            assert!(paths.iter().any(|path| path == ordered), "{}: {ordered}", expected.spec);
        }
    }
    let names: Vec<_> = KeySpec::preset_names().filter(|name| *name != "http").collect();
    assert_eq!(names, EXPECTED.iter().map(|expected| expected.spec).collect::<Vec<_>>());
}
