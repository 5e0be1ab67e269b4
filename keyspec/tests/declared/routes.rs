//! Which spec reads a request: paths, methods, and where two are for one.

use keyspec::{KeySpecs, ModelRoute, Overlap};
use proptest::prelude::*;

use super::{Request, json, refusal, specs};

/// A file of specs, each with a name, a path and more.
fn file(list: &[(&str, &str, &str)]) -> String {
    let one = |(name, path, more): &(&str, &str, &str)| {
        format!("[[key_spec]]\nname = \"{name}\"\nversion = 1\npath = \"{path}\"\n{more}\n")
    };
    format!("version = 1\n{}", list.iter().map(one).collect::<String>())
}

fn found<'a>(specs: &'a KeySpecs, method: &str, path: &'a str) -> Option<&'a str> {
    specs.find(method, path).map(|found| found.spec.name())
}

#[test]
fn a_path_is_matched_segment_by_segment() {
    let table: &[(&str, &[&str], &[&str])] = &[
        ("/a", &["/a"], &["/", "/a/", "/a/b", "/A", "/x/a", "a", ""]),
        ("/", &["/"], &["", "/a"]),
        ("/{x}", &["/a", "/%2F", "/{x}"], &["/", "/a/b"]),
        ("/v1/{index}/search", &["/v1/a%20b/search"], &["/v1//search", "/v1/a/b/search"]),
        ("/m/{model}:run", &["/m/a:run", "/m/a:b:run"], &["/m/:run", "/m/a:runs", "/m/a"]),
        ("/{a}/x-{b}.json", &["/1/x-2.json"], &["/1/x-.json", "/1/y-2.json"]),
        ("/**", &["/", "/a", "/a/b/", "//"], &["", "a"]),
        ("/a/**", &["/a", "/a/", "/a/b/c"], &["/", "/ab", "/x/a"]),
        ("/**/z", &["/z", "/a/z", "/a/b/z", "//z"], &["/az", "/z/", "/z/a"]),
        ("/{t}/**", &["/a", "/a/b"], &["/", "//b"]),
    ];
    for (pattern, fit, others) in table {
        let specs = specs(&file(&[("one", pattern, "methods = [\"PUT\"]")]));
        for path in *fit {
            assert_eq!(found(&specs, "PUT", path), Some("one"), "{pattern} fits {path}");
        }
        for path in *others {
            assert_eq!(found(&specs, "PUT", path), None, "{pattern} does not fit {path}");
        }
    }
}

#[test]
fn a_spec_is_for_its_methods_and_for_post_where_it_names_none() {
    let of = |methods: &str| specs(&file(&[("one", "/x", methods)]));
    let methods = ["GET", "HEAD", "POST", "QUERY", "PUT", "post", ""];
    for (written, expected) in [
        ("", &["POST"][..]),
        ("methods = []", &["POST"]),
        ("methods = [\"GET\", \"HEAD\"]", &["GET", "HEAD"]),
        ("methods = [\"QUERY\"]", &["QUERY"]),
    ] {
        let specs = of(written);
        for method in methods {
            let is_for = found(&specs, method, "/x").is_some();
            assert_eq!(is_for, expected.contains(&method), "{method} under {written}");
        }
    }
}

#[test]
fn the_most_specific_spec_reads_a_request_whatever_their_order() {
    let list = [
        ("any", "/**", ""),
        ("first", "/{a}/**", ""),
        ("two", "/{a}/{b}/**", ""),
        ("end", "/v1/{a}/**", ""),
        ("one", "/v1/{a}/b", ""),
        ("part", "/v1/m-{a}/b", ""),
        ("longer-part", "/v1/m-x{a}/b", ""),
        ("exact", "/v1/m-x1/b", ""),
    ];
    let reversed: Vec<_> = list.iter().rev().copied().collect();
    for order in [&list[..], &reversed] {
        let specs = specs(&file(order));
        for (path, name) in [
            ("/", "any"),
            ("/x", "first"),
            ("/x/y/z", "two"),
            ("/v1/x", "end"),
            ("/v1/x/c", "end"),
            ("/v1/x/b", "one"),
            ("/v1/m-y/b", "part"),
            ("/v1/m-x2/b", "longer-part"),
            ("/v1/m-x1/b", "exact"),
        ] {
            assert_eq!(found(&specs, "POST", path), Some(name), "{path}");
        }
        assert_eq!(specs.declared().next().map(|spec| spec.name()), Some("exact"));
        assert_eq!(specs.declared().count(), list.len());
    }
}

#[test]
fn a_less_specific_spec_reads_what_the_other_has_no_method_for() {
    let specs = specs(&file(&[
        ("exact", "/a/b", "methods = [\"GET\"]"),
        ("wide", "/a/{x}", "methods = [\"GET\", \"POST\"]"),
    ]));
    assert_eq!(found(&specs, "GET", "/a/b"), Some("exact"));
    assert_eq!(found(&specs, "POST", "/a/b"), Some("wide"));
}

#[test]
fn declared_specs_come_before_presets_and_leave_them_the_rest() {
    let specs = specs(&file(&[("mine", "/v1/chat/completions", ""), ("tools", "/a/mcp", "")]));
    assert_eq!(found(&specs, "POST", "/v1/chat/completions"), Some("mine"));
    assert_eq!(found(&specs, "POST", "/a/mcp"), Some("tools"));
    assert_eq!(found(&specs, "POST", "/v2/chat/completions"), Some("openai.chat_completions"));
    assert_eq!(found(&specs, "POST", "/b/mcp"), Some("mcp"));
    assert_eq!(found(&specs, "GET", "/v1/chat/completions"), None);
    assert_eq!(found(&specs, "POST", "/elsewhere"), None);
    let preset = specs.preset(ModelRoute::OpenAiChatCompletions);
    assert_eq!(preset.name(), "openai.chat_completions");
}

#[test]
fn the_model_of_a_path_is_known_by_its_parameter_or_by_the_presets_own_path() {
    let specs = specs(&file(&[
        ("own", "/run/{model}/now", ""),
        ("gemini", "/g/{version}/models/{rest}", "preset = \"gemini.generate_content\""),
        ("plain", "/p/{name}", ""),
    ]));
    let model = |path| specs.find("POST", path).expect("found").model_in_path;
    assert_eq!(model("/run/m%3A1/now"), Some("m%3A1"));
    assert_eq!(model("/g/v1/models/pro:generateContent"), Some("pro"));
    assert_eq!(model("/p/m"), None);
    assert_eq!(model("/v1beta/models/flash:countTokens"), Some("flash"));
}

#[test]
fn parameters_of_the_path_count_unless_they_are_ignored() {
    let specs = specs(&file(&[
        ("one", "/s/{session}/{index}/ask", "ignore_parameters = [\"session\"]"),
        ("two", "/**/by-{who}/do", "ignore_parameters = [\"who\"]"),
    ]));
    let key = |path| Request { path, ..json("{}") }.key(&specs).expect("keyable");
    assert_eq!(key("/s/1/a/ask"), key("/s/2/a/ask"));
    assert_ne!(key("/s/1/a/ask"), key("/s/1/b/ask"));
    assert_eq!(key("/x/by-ann/do"), key("/x/by-bob/do"));
    assert_ne!(key("/x/by-ann/do"), key("/y/by-ann/do"));
    assert_ne!(key("/x/by-ann/do"), key("/by-ann/do"));
}

#[test]
fn two_specs_for_one_path_of_which_neither_is_more_specific_are_refused() {
    for (one, other, path) in [
        ("/a/{x}", "/{y}/b", "/a/b"),
        ("/a/{x}", "/a/{y}", "/a/y"),
        ("/same", "/same", "/same"),
        ("/a/**", "/**/b", "/a/b"),
        ("/m-{x}", "/{x}-z", "/m-x-z"),
        ("/{a}/b/**", "/**/c", "/a/b/c"),
    ] {
        let error = refusal(&file(&[("one", one, ""), ("two", other, "")]));
        assert_eq!(error.field, "key_spec[1].path", "{one} and {other}");
        assert_eq!(error.value, other);
        let allowed =
            format!("{path} is also for key_spec[0] ({one}), and neither is more specific");
        assert_eq!(error.allowed, allowed);
        // With different methods they never meet.
        specs(&file(&[("one", one, "methods = [\"GET\"]"), ("two", other, "")]));
    }
}

fn overlap(taken: &str, over: &str, path: &str) -> Overlap {
    Overlap { taken: taken.into(), over: over.into(), path: path.into() }
}

#[test]
fn nested_specs_are_reported_with_a_path_that_both_are_for() {
    let nested = specs(&file(&[
        ("wide", "/acme/{x}", "methods = [\"GET\", \"PUT\"]"),
        ("exact", "/acme/b", "methods = [\"PUT\"]"),
        ("apart", "/acme/c", "methods = [\"QUERY\"]"),
    ]));
    assert_eq!(nested.overlaps(), [overlap("exact", "wide", "/acme/b")]);
    assert_eq!(specs(&file(&[("a", "/acme/a", ""), ("b", "/acme/b", "")])).overlaps(), []);
}

#[test]
fn presets_that_a_spec_is_taken_over_are_reported() {
    let overs = |path: &str, more: &str| {
        let specs = specs(&file(&[("mine", path, more)]));
        let overlaps = specs.overlaps().into_iter();
        overlaps.map(|overlap| (overlap.over, overlap.path)).collect::<Vec<_>>()
    };
    let one = |over: &str, path: &str| vec![(over.to_owned(), path.to_owned())];
    for (pattern, over, path) in [
        ("/v1/chat/completions", "openai.chat_completions", "/v1/chat/completions"),
        ("/acme/chat/completions", "openai.chat_completions", "/acme/chat/completions"),
        ("/acme/{x}ompletions", "openai.completions", "/acme/completions"),
        ("/messages", "anthropic.messages", "/messages"),
        (
            "/acme/v1/messages/count_tokens",
            "anthropic.count_tokens",
            "/acme/v1/messages/count_tokens",
        ),
        (
            "/tunedModels/{x}:embedContent",
            "gemini.embed_content",
            "/tunedModels/model:embedContent",
        ),
        ("/acme/mcp", "mcp", "/acme/mcp"),
    ] {
        assert_eq!(overs(pattern, ""), one(over, path), "{pattern}");
        assert_eq!(overs(pattern, "methods = [\"GET\"]"), [], "{pattern}");
    }
    assert_eq!(overs("/acme/messages", ""), []);
    assert_eq!(overs("/**", "").len(), ModelRoute::ALL.len() + 1);
}

/// Patterns of few pieces, so that many meet.
fn any_pattern() -> impl Strategy<Value = String> {
    let segment = prop::sample::select(vec!["a", "b", "ab", "{P}", "a{P}", "{P}b", "a{P}b", ""]);
    (prop::collection::vec(segment, 0..4), 0..4_u8).prop_map(|(segments, any)| {
        let mut segments: Vec<String> = segments
            .iter()
            .enumerate()
            .map(|(index, segment)| segment.replace("P", &format!("p{index}")))
            .collect();
        match any {
            0 => segments.insert(0, "**".to_owned()),
            1 => segments.push("**".to_owned()),
            _ => {}
        }
        format!("/{}", segments.join("/"))
    })
}

fn any_path() -> impl Strategy<Value = String> {
    let segment = prop::sample::select(vec!["a", "b", "ab", "aab", "abb", "x", "axb", ""]);
    prop::collection::vec(segment, 1..5).prop_map(|segments| format!("/{}", segments.join("/")))
}

/// The specs of two patterns, one for each way to have them.
fn alone(pattern: &str) -> KeySpecs {
    specs(&file(&[("one", pattern, "methods = [\"PUT\"]")]))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// What is refused, what is reported and who reads a path, all told by who matches it.
    #[test]
    fn of_two_specs_for_a_path_the_narrower_reads_it_and_the_path_shown_is_for_both(
        wide in any_pattern(), narrow in any_pattern(), path in any_path(),
    ) {
        let fits = |pattern: &str, path: &str| found(&alone(pattern), "PUT", path).is_some();
        let both = file(&[
            ("wide", &wide, "methods = [\"PUT\"]"),
            ("narrow", &narrow, "methods = [\"PUT\"]"),
        ]);
        match KeySpecs::from_toml(&both) {
            Err(error) => {
                prop_assert_eq!(&error.field, "key_spec[1].path");
                let shown = error.allowed.split(' ').next().expect("a path");
                prop_assert!(fits(&wide, shown) && fits(&narrow, shown), "{}", shown);
            }
            Ok(both) => {
                let overlaps = both.overlaps();
                let meet = fits(&wide, &path) && fits(&narrow, &path);
                prop_assert!(!meet || overlaps.len() == 1, "{} and {}: {}", wide, narrow, path);
                let Some(Overlap { taken, over, path: shown }) = overlaps.first() else {
                    return Ok(());
                };
                prop_assert!(fits(&wide, shown) && fits(&narrow, shown), "{}", shown);
                prop_assert_eq!(found(&both, "PUT", shown), Some(taken.as_str()));
                let pattern = |name: &str| if name == "wide" { &wide } else { &narrow };
                if fits(pattern(taken), &path) {
                    // The one that is taken is covered by the other.
                    prop_assert!(fits(pattern(over), &path), "{} and {}: {}", wide, narrow, path);
                    prop_assert_eq!(found(&both, "PUT", &path), Some(taken.as_str()));
                }
            }
        }
    }
}
