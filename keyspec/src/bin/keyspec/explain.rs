//! `keyspec explain` and `keyspec diff`: what a request's key stands for, and what keeps two
//! apart or joins them.

use std::process::ExitCode;

use keyspec::{Side, Verdict, near_miss};
use serde_json::json;

use crate::Usage;
use crate::arguments::{DiffArguments, ExplainArguments};
use crate::request::{self, Described, Said};

pub(crate) fn run(arguments: &ExplainArguments) -> Result<ExitCode, Usage> {
    let described = Described::of(&arguments.request)?;
    let body = request::body(arguments.body.as_deref())?;
    let declared = described.said() == Said::Reuse;
    let explanation = described.spec.explain(
        &described.keyed(),
        described.content_type(),
        &body,
        arguments.request.reuse,
        declared,
    );
    if arguments.request.json {
        println!("{}", serde_json::to_value(&explanation).map_err(Usage::new)?);
    } else {
        print!("{explanation}");
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn run_diff(arguments: &DiffArguments) -> Result<ExitCode, Usage> {
    let described = Described::of(&arguments.request)?;
    let one = request::body(Some(&arguments.one))?;
    let other = request::body(Some(&arguments.other))?;
    let side =
        |body| Side { request: described.keyed(), content_type: described.content_type(), body };
    let (one, other) = (side(&one), side(&other));
    let difference = described.spec.diff(&one, &other);
    let near = near_miss(&described.spec, &one, &other).ok();
    let near = near.filter(|_| difference.verdict == Verdict::DifferentKeys);
    if arguments.request.json {
        println!("{}", json!({ "difference": difference, "near_miss": near }));
    } else {
        print!("{difference}");
        if let Some(near) = near {
            print!("{near}");
        }
    }
    Ok(match difference.verdict {
        Verdict::DifferentKeys if arguments.exit_code => ExitCode::FAILURE,
        Verdict::Identical | Verdict::SameKey | Verdict::DifferentKeys => ExitCode::SUCCESS,
        Verdict::NotKeyable => ExitCode::from(3),
    })
}
