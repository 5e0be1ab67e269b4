//! What a spec says of the members of a JSON body.

use proptest::prelude::*;

use super::{assert_bodies, json, one, specs};

#[test]
fn ignored_members_do_not_count_wherever_their_path_leads() {
    assert_bodies(
        r#"ignore_members = ["trace", "a.b", "list[].id", "p|q", "\"x.y\"", { path = "debug", why = "for the log" }]"#,
        r#"{"a":{},"list":[{},{"n":1}]}"#,
        &[
            r#"{"a":{},"list":[{},{"n":1}],"trace":{"b":[1]}}"#,
            r#"{"a":{"b":1},"list":[{},{"n":1}]}"#,
            r#"{"a":{},"list":[{"id":1},{"n":1,"id":null}]}"#,
            r#"{"a":{},"list":[{},{"n":1}],"p":1,"q":2}"#,
            r#"{"a":{},"list":[{},{"n":1}],"x.y":1,"debug":true,"tr\u0061ce":1}"#,
        ],
        &[
            r#"{"a":{},"list":[{},{"n":1}],"Trace":1}"#,
            r#"{"a":{"trace":1},"list":[{},{"n":1}]}"#,
            r#"{"a":{"c":1},"list":[{},{"n":1}]}"#,
            r#"{"a":[{"b":1}],"list":[{},{"n":1}]}"#,
            r#"{"a":{},"list":[{},{"n":1}],"id":1}"#,
            r#"{"a":{},"list":[[{"id":1}],{"n":1}]}"#,
            r#"{"a":{},"list":[{},{"n":1}],"x":{"y":1}}"#,
            r#"{"list":[{},{"n":1}]}"#,
        ],
    );
}

#[test]
fn only_the_members_of_an_allow_list_count() {
    assert_bodies(
        r#"only_members = ["q", "filter.tags", "list[].id"]"#,
        r#"{"q":1,"filter":{"tags":[1]},"list":[{"id":1}]}"#,
        &[r#"{"q":1,"filter":{"tags":[1],"more":2},"list":[{"id":1,"n":3}],"z":{"q":1}}"#],
        &[
            r#"{"filter":{"tags":[1]},"list":[{"id":1}]}"#,
            r#"{"q":{},"filter":{"tags":[1]},"list":[{"id":1}]}"#,
            r#"{"q":1,"filter":{"tags":[2]},"list":[{"id":1}]}"#,
            r#"{"q":1,"filter":{},"list":[{"id":1}]}"#,
            r#"{"q":1,"filter":{"tags":[1]},"list":[{"id":1},{}]}"#,
            r#"{"q":1,"filter":{"tags":[1]},"list":[{"id":2}]}"#,
        ],
    );
    assert_bodies("only_members = []", "{}", &[r#"{"a":1,"b":[{"c":2}]}"#], &["[]", "1"]);
}

#[test]
fn what_is_on_an_allow_list_counts_whole_but_for_what_is_ignored_in_it() {
    assert_bodies(
        "only_members = [\"a\"]\nignore_members = [\"a.trace\", \"b.c\"]",
        r#"{"a":{"x":{"y":1}}}"#,
        &[r#"{"a":{"x":{"y":1},"trace":2}}"#, r#"{"a":{"x":{"y":1}},"b":{"d":1},"c":2}"#],
        &[r#"{"a":{"x":{"y":2}}}"#, r#"{"a":{"x":{"y":1,"z":1}}}"#, r#"{"a":{}}"#],
    );
}

/// Whatever else a spec says of it.
#[test]
fn what_is_not_on_an_allow_list_does_not_count() {
    assert_bodies(
        "only_members = [\"q\"]\nset_members = [\"tags\"]\nordered_members = [\"o.p\"]\n\
         ignore_members = [\"a.b\"]\ndefaults = { \"c.d\" = 1 }",
        r#"{"q":1}"#,
        &[
            r#"{"q":1,"tags":[1,2]}"#,
            r#"{"q":1,"o":{"p":{"z":1,"y":2}}}"#,
            r#"{"q":1,"a":{"c":1}}"#,
            r#"{"q":1,"c":{"d":2}}"#,
        ],
        &[r#"{"q":2}"#],
    );
    // The paths of a preset are no list either.
    assert_bodies(
        "preset = \"anthropic.messages\"\nonly_members = [\"model\"]",
        r#"{"model":"m"}"#,
        &[r#"{"model":"m","messages":[{"content":"a"}],"tools":[1],"output_format":{"b":1}}"#],
        &[r#"{"model":"n"}"#],
    );
}

#[test]
fn two_paths_of_an_allow_list_count_for_both_in_either_order() {
    for only in [r#"["a", "a.b", "a.c.d"]"#, r#"["a.c.d", "a.b", "a"]"#] {
        assert_bodies(
            &format!("only_members = {only}"),
            r#"{"a":{"b":1}}"#,
            &[r#"{"a":{"b":1},"z":1}"#],
            &[r#"{"a":{"b":1,"e":2}}"#, r#"{"a":{"b":1,"c":{"f":2}}}"#, r#"{"a":{}}"#],
        );
    }
}

#[test]
fn a_list_that_is_allowed_whole_is_so_in_its_elements_too() {
    for only in [r#"["a", "a[].b"]"#, r#"["a[].b.c", "a[].b", "a[]"]"#] {
        assert_bodies(
            &format!("only_members = {only}"),
            r#"{"a":[{"b":{"c":1}}]}"#,
            &[r#"{"a":[{"b":{"c":1}}],"z":1}"#],
            &[r#"{"a":[{"b":{"c":1}},{}]}"#, r#"{"a":[{"b":{"c":1},"e":2}]}"#],
        );
    }
    assert_bodies(
        r#"only_members = ["a[].b.c", "a[].b"]"#,
        r#"{"a":[{"b":{"c":1}}]}"#,
        &[r#"{"a":[{"b":{"c":1},"e":2}]}"#],
        &[r#"{"a":[{"b":{"c":1,"d":2}}]}"#],
    );
}

#[test]
fn members_that_a_preset_leaves_out_can_be_kept() {
    let base = r#"{"model":"m"}"#;
    let with = |name: &str| format!(r#"{{"model":"m","{name}":"x"}}"#);
    let preset = r#"preset = "openai.chat_completions""#;
    assert_bodies(preset, base, &[&with("user"), &with("request_id")], &[&with("seed")]);
    let keeping = format!("{preset}\nkeep_members = [\"user\"]");
    assert_bodies(&keeping, base, &[&with("request_id")], &[&with("user"), &with("seed")]);
    let blocks = r#"{"system":[{"text":"a","cache_control":{}}]}"#;
    let plain = r#"{"system":[{"text":"a"}]}"#;
    assert_bodies("preset = \"anthropic.messages\"", plain, &[blocks], &[]);
    let keeping = "preset = \"anthropic.messages\"\nkeep_members = [\"cache_control\"]";
    assert_bodies(keeping, plain, &[], &[blocks]);
}

#[test]
fn the_order_of_members_counts_where_a_spec_says_so() {
    assert_bodies(
        r#"ordered_members = ["schema", "tools[].schema", "steps[]"]"#,
        r#"{"schema":{"b":{"d":1,"c":2},"a":3},"z":1,"tools":[{"schema":{"y":1,"x":2},"n":1}],"steps":[{"f":1,"e":2}]}"#,
        &[
            r#"{"z":1,"schema":{"b":{"d":1,"c":2},"a":3},"tools":[{"n":1,"schema":{"y":1,"x":2}}],"steps":[{"f":1,"e":2}]}"#,
        ],
        &[
            r#"{"schema":{"a":3,"b":{"d":1,"c":2}},"z":1,"tools":[{"schema":{"y":1,"x":2},"n":1}],"steps":[{"f":1,"e":2}]}"#,
            r#"{"schema":{"b":{"c":2,"d":1},"a":3},"z":1,"tools":[{"schema":{"y":1,"x":2},"n":1}],"steps":[{"f":1,"e":2}]}"#,
            r#"{"schema":{"b":{"d":1,"c":2},"a":3},"z":1,"tools":[{"schema":{"x":2,"y":1},"n":1}],"steps":[{"f":1,"e":2}]}"#,
            r#"{"schema":{"b":{"d":1,"c":2},"a":3},"z":1,"tools":[{"schema":{"y":1,"x":2},"n":1}],"steps":[{"e":2,"f":1}]}"#,
        ],
    );
}

#[test]
fn order_and_repeats_do_not_count_in_a_set() {
    assert_bodies(
        r#"set_members = ["tags", "filter.ids"]"#,
        r#"{"tags":["a","b",{"n":1,"m":[1,2]}],"filter":{"ids":[1,2]}}"#,
        &[
            r#"{"tags":["b","a","b",{"m":[1,2],"n":1.0},"a"],"filter":{"ids":[2,1,1]}}"#,
            r#"{"tags":[{"n":1,"m":[1,2]},{"n":1e0,"m":[1,2]},"b","\u0061"],"filter":{"ids":[1,2]}}"#,
        ],
        &[
            r#"{"tags":["a",{"n":1,"m":[1,2]}],"filter":{"ids":[1,2]}}"#,
            r#"{"tags":["a","b",{"n":1,"m":[2,1]}],"filter":{"ids":[1,2]}}"#,
            r#"{"tags":["a","b",{"n":1,"m":[1,2]},null],"filter":{"ids":[1,2]}}"#,
            r#"{"tags":["a","b",{"n":1,"m":[1,2]}],"filter":{"ids":[1]}}"#,
            r#"{"tags":["a","b",{"n":1,"m":[1,2]}],"filter":[1,2]}"#,
        ],
    );
    assert_bodies(r#"set_members = ["t"]"#, r#"{"t":[]}"#, &[], &[r#"{"t":[[]]}"#, r#"{}"#]);
    // What is no array is what it is.
    assert_bodies(
        r#"set_members = ["t"]"#,
        r#"{"t":{"b":[1,2],"a":1}}"#,
        &[r#"{"t":{"a":1,"b":[1,2]}}"#],
        &[r#"{"t":{"a":1,"b":[2,1]}}"#],
    );
}

#[test]
fn sets_nest_and_what_is_ignored_in_an_element_makes_no_difference() {
    assert_bodies(
        "set_members = [\"s\", \"s[].t\", \"m\", \"m[]\"]\nignore_members = [\"s[].id\"]",
        r#"{"s":[{"t":[1,2],"k":1},{"t":[3]}],"m":[[1,2],[3]]}"#,
        &[
            r#"{"s":[{"t":[3,3]},{"k":1,"t":[2,1,2]}],"m":[[3],[2,1],[1,2]]}"#,
            r#"{"s":[{"t":[3],"id":1},{"t":[3],"id":2},{"t":[2,1],"k":1}],"m":[[1,2],[3]]}"#,
        ],
        &[
            r#"{"s":[{"t":[1,2]},{"t":[3]}],"m":[[1,2],[3]]}"#,
            r#"{"s":[{"t":[1,2],"k":1},{"t":[3,4]}],"m":[[1,2],[3]]}"#,
            r#"{"s":[{"t":[1,2],"k":1},{"t":[3]}],"m":[[1,2,3]]}"#,
        ],
    );
}

#[test]
fn the_order_of_members_counts_inside_a_sets_ordered_element() {
    assert_bodies(
        r#"set_members = ["s"]
ordered_members = ["s[].o"]"#,
        r#"{"s":[{"o":{"b":1,"a":2}},1]}"#,
        &[r#"{"s":[1,{"o":{"b":1,"a":2}}]}"#],
        &[r#"{"s":[{"o":{"a":2,"b":1}},1]}"#],
    );
}

#[test]
fn a_member_that_says_its_default_is_as_good_as_none() {
    let defaults = r#"defaults = { limit = 10, "a.b" = true, mode = "fast", rate = 0.5, none = [], obj = { k = [1, 2.50], n = "x" } }"#;
    assert_bodies(
        defaults,
        r#"{"a":{},"q":1}"#,
        &[
            r#"{"a":{},"q":1,"limit":10}"#,
            r#"{"a":{},"q":1,"limit":1e1}"#,
            r#"{"a":{},"q":1,"limit":10.00}"#,
            r#"{"a":{"b":true},"q":1}"#,
            r#"{"a":{},"q":1,"mode":"f\u0061st","rate":5e-1,"none":[ ]}"#,
            r#"{"a":{},"q":1,"obj":{"n":"x","k":[1.0,2.5]}}"#,
        ],
        &[
            r#"{"a":{},"q":1,"limit":11}"#,
            r#"{"a":{},"q":1,"limit":"10"}"#,
            r#"{"a":{},"q":1,"limit":null}"#,
            r#"{"a":{"b":false},"q":1}"#,
            r#"{"a":{"b":null},"q":1}"#,
            r#"{"a":{"limit":10},"q":1}"#,
            r#"{"a":{},"q":1,"mode":"Fast"}"#,
            r#"{"a":{},"q":1,"none":[0]}"#,
            r#"{"a":{},"q":1,"obj":{"n":"x","k":[2.5,1]}}"#,
            r#"{"a":{},"q":1,"obj":{}}"#,
            // The default of a member says nothing of the object around it.
            r#"{"q":1}"#,
        ],
    );
}

#[test]
fn exact_numbers_are_defaults_of_themselves_alone() {
    assert_bodies(
        "defaults = { seed = 9007199254740993 }",
        "{}",
        &[r#"{"seed":9007199254740993}"#, r#"{"seed":9007199254740993.0}"#],
        &[r#"{"seed":9007199254740992}"#, r#"{"seed":9007199254740994}"#],
    );
}

#[test]
fn a_default_is_compared_as_it_comes_out_in_its_place() {
    // A set in any order, a member in it that does not count, and one that has its own default.
    assert_bodies(
        "set_members = [\"tags\", \"a.ids\"]\nignore_members = [\"a.trace\"]\n\
         defaults = { tags = [\"b\", \"a\", \"b\"], a = { ids = [2, 1], n = 1, trace = 0 }, \"a.n\" = 1 }",
        "{}",
        &[
            r#"{"tags":["b","a"]}"#,
            r#"{"tags":["a","b"]}"#,
            r#"{"a":{"ids":[1,2],"n":1}}"#,
            r#"{"a":{"ids":[2,1,1],"trace":7},"tags":["a","a","b"]}"#,
        ],
        &[r#"{"tags":["a"]}"#, r#"{"a":{"ids":[1]}}"#, r#"{"a":{"ids":[1,2],"n":2}}"#],
    );
}

#[test]
fn elements_of_a_set_that_differ_by_a_default_are_one() {
    assert_bodies(
        "set_members = [\"s\"]\ndefaults = { \"s[].boost\" = 1 }",
        r#"{"s":[{"t":"a"}]}"#,
        &[r#"{"s":[{"t":"a","boost":1},{"t":"a"},{"boost":1.0,"t":"a"}]}"#],
        &[r#"{"s":[{"t":"a","boost":2},{"t":"a"}]}"#, r#"{"s":[{"t":"a","boost":null}]}"#],
    );
}

#[test]
fn any_top_level_is_keyed_unless_a_preset_wants_an_object() {
    let specs_of_one = specs(&one(""));
    let keys = ["{}", "[]", "null", "0", "\"\"", "[{}]", "true", "[1,2]", "[2,1]"]
        .map(|body| json(body).key(&specs_of_one).expect("keyable"));
    for (index, key) in keys.iter().enumerate() {
        assert!(!keys[..index].contains(key), "body {index}");
    }
    for preset in ["openai.chat_completions", "mcp"] {
        let specs = specs(&one(&format!("preset = \"{preset}\"")));
        assert_eq!(json("[]").key(&specs).expect_err("refused").code(), "not-an-object");
    }
}

/// Small values, so that some are equal.
fn any_element() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(vec!["0", "1", "\"a\"", "\"\"", "null", "true"]);
    leaf.prop_map(str::to_owned).prop_recursive(2, 6, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3)
                .prop_map(|elements| format!("[{}]", elements.join(","))),
            inner.prop_map(|value| format!("{{\"m\":{value}}}")),
        ]
    })
}

proptest! {
    #[test]
    fn two_sets_have_one_key_exactly_when_they_have_the_same_elements(
        one_set in prop::collection::vec(any_element(), 0..5),
        other_set in prop::collection::vec(any_element(), 0..5),
        shuffled in any::<prop::sample::Index>(),
    ) {
        let specs = specs(&one("set_members = [\"a.s\"]"));
        let key = |elements: &[String]| {
            let body = format!("{{\"a\":{{\"s\":[{}]}}}}", elements.join(","));
            json(&body).key(&specs).expect("keyable")
        };
        let members = |elements: &[String]| {
            let mut elements = elements.to_vec();
            elements.sort();
            elements.dedup();
            elements
        };
        prop_assert_eq!(
            key(&one_set) == key(&other_set),
            members(&one_set) == members(&other_set)
        );
        let mut turned = one_set.clone();
        turned.rotate_left(shuffled.index(one_set.len() + 1).min(one_set.len()));
        turned.extend(one_set.first().cloned());
        turned.reverse();
        prop_assert_eq!(key(&turned), key(&one_set));
    }
}
