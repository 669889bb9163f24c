//! How a failure is told: a sentence, its causes, a hint, the code and the request's id.

use super::error::CliError;
use super::exit::Exit;
use super::output::{Output, clean};

/// Tells a person on stderr what went wrong; answers the exit code.
pub(super) fn report(error: &CliError, out: &Output) -> Exit {
    let exit = error.exit();
    if exit != Exit::Ok {
        out.say(&told(error, &out.red("error:")));
    }
    exit
}

fn told(error: &CliError, label: &str) -> String {
    let mut text = format!("{label} {}", clean(&error.to_string()));
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(&format!("\n  because: {}", clean(&cause.to_string())));
        source = cause.source();
    }
    if let CliError::Problem(problem) = error {
        for field in &problem.errors {
            let place = clean(&field.pointer);
            // The sentence itself, when there is only one thing wrong.
            if field.detail == problem.detail {
                text.push_str(&format!("\n  at: {place}"));
            } else {
                text.push_str(&format!("\n  {place}: {}", clean(&field.detail)));
            }
        }
    }
    if let Some(hint) = error.hint() {
        text.push_str(&format!("\n  hint: {}", clean(&hint)));
    }
    if let CliError::Problem(problem) = error {
        text.push_str(&format!(
            "\n  code: {}, request: {}",
            clean(&problem.code),
            clean(&problem.instance)
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use hostler_controller::views::Problem;

    use super::*;

    #[test]
    fn a_problem_is_told_with_code_and_request() {
        let problem = CliError::Problem(Box::new(Problem {
            kind: "urn:hostler:problem:not_found".to_owned(),
            title: "No such thing".to_owned(),
            status: 404,
            detail: "No site has this id.".to_owned(),
            instance: "req_01kah2m3n4p5q6r7s8t9v0w1x2".to_owned(),
            code: "NOT_FOUND".to_owned(),
            errors: vec![],
        }));
        assert_eq!(
            told(&problem, "error:"),
            "error: No site has this id.\n  code: NOT_FOUND, request: req_01kah2m3n4p5q6r7s8t9v0w1x2"
        );
    }

    #[test]
    fn an_unknown_name_suggests_one() {
        let error = CliError::UnknownName {
            kind: "environment",
            name: "shop/prodction".to_owned(),
            suggestion: Some("shop/production".to_owned()),
        };
        assert_eq!(
            told(&error, "error:"),
            "error: no environment is called `shop/prodction`\n  hint: did you mean `shop/production`?"
        );
    }
}
