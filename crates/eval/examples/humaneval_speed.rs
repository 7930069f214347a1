//! Times HumanEval completions one at a time against many at once, on the same model and problems.
//!
//!     cargo run --release -p billion-eval --example humaneval_speed -- MODEL HumanEval.jsonl.gz \
//!         [problems=N] [tokens=N] [rounds=N] [slots=N] [threads=N] [only=0]
//!
//! Problems are put in the base form, in which every model writes on. The two take turns, so that other load on the
//! machine meets both; each round gives a ratio of writing speeds (reading the prompts, which is the same work for both, is
//! told apart), of which the median, least and greatest are printed. Texts are compared too. `only=1` runs the many alone,
//! for a profile.

use std::error::Error;
use std::ops::ControlFlow;
use std::path::Path;

use billion_eval::UnderTest;
use billion_eval::clock::SystemClock;
use billion_eval::tasks::humaneval::{Form, HumanEvalOptions, read_problems, run};
use billion_llm::load::{LoadOptions, ModelFiles, load};

fn main() -> Result<(), Box<dyn Error>> {
    let usage = "usage: humaneval_speed MODEL HumanEval.jsonl.gz [problems=N] [tokens=N] [rounds=N] [slots=N] [threads=N] [only=0]";
    let mut args = std::env::args().skip(1);
    let (model, problems) = (args.next().ok_or(usage)?, args.next().ok_or(usage)?);
    let mut options = HumanEvalOptions {
        limit: Some(24),
        max_tokens: 64,
        form: Form::Base,
        ..HumanEvalOptions::default()
    };
    let (mut rounds, mut only, mut load_options) = (3, false, LoadOptions::default());
    for arg in args {
        let (name, value) = arg.split_once('=').ok_or("NAME=NUMBER")?;
        let value: usize = value.parse()?;
        match name {
            "problems" => options.limit = Some(value),
            "tokens" => options.max_tokens = value,
            "rounds" => rounds = value,
            "slots" => options.slots = value,
            "threads" => load_options.threads = Some(value),
            "only" => only = value > 0,
            _ => return Err(format!("unknown option {name}").into()),
        }
    }
    let problems = read_problems(Path::new(&problems))?;
    let mut loaded = load(&ModelFiles::open(Path::new(&model))?, &load_options)?;
    println!(
        "{}, {} threads, {} slots, {} problems of at most {} tokens",
        loaded.isa,
        loaded.threads,
        options.slots,
        options.limit.unwrap_or(problems.len()),
        options.max_tokens
    );
    let mut complete = |slots: usize| {
        let mut model = UnderTest {
            decoder: loaded.decoder.as_mut(),
            codec: loaded.tokenizer.as_ref(),
            clock: &SystemClock::default(),
        };
        let options = HumanEvalOptions {
            slots,
            ..options.clone()
        };
        let template = loaded.chat_template.as_ref();
        run(&mut model, template, &problems, &options, &[], &mut |_| {
            ControlFlow::Continue(())
        })
    };
    let mut ratios = Vec::new();
    for _ in 0..rounds {
        let many = complete(options.slots)?;
        print!(
            "{} tokens after {:.2} s of reading: many at once {:.1} tokens/s",
            many.tokens, many.reading_seconds, many.tokens_per_s
        );
        if only {
            println!();
            continue;
        }
        let one = complete(1)?;
        if many.completions != one.completions {
            return Err("the texts differ".into());
        }
        let ratio = many.tokens_per_s / one.tokens_per_s;
        println!(", one by one {:.1}: {ratio:.2} times", one.tokens_per_s);
        ratios.push(ratio);
    }
    ratios.sort_by(f64::total_cmp);
    if let (Some(least), Some(most)) = (ratios.first(), ratios.last()) {
        let median = ratios[ratios.len() / 2];
        println!("median ratio {median:.2} ({least:.2} to {most:.2}), the same texts");
    }
    Ok(())
}
