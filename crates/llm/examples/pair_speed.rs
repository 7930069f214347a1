//! Measures a pair for speculation: plain and speculative greedy decoding in turn on prompts of five kinds, the cost of the
//! target's passes and of a draft step apart, and the speed-up that theory predicts from those.
//!
//!     cargo run --release -p billion-llm --example pair_speed -- TARGET.gguf DRAFT.gguf|lookup [threads=N] [k=N,N,auto]
//!         [tokens=N] [rounds=N] [prompts=chat,code,...] [cost_rounds=N] [context=N]
//!
//! `k=none` only generates plainly and counts at how many places the draft's first choice is the target's token: the
//! acceptance of greedy decoding, over all places. Theory is Leviathan et al. 2023 (arXiv 2211.17192), theorem 3.8, with the
//! measured cost of a pass of k + 1 rows in place of one of a single row. `billion speculate` is the measurement that users
//! see; this one needs no worker.

use std::error::Error;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, Instant};

use billion_llm::chat_template::Message;
use billion_llm::decoder::{DecodeError, Decoder, Run, TextCodec};
use billion_llm::generate::speculate::{Counts, Draft, Lookup, Target, Width, speculate};
use billion_llm::generate::{GenerateOptions, Generation, Session, generate, greedy};
use billion_llm::load::{LoadOptions, Loaded, ModelFiles, load};

const TEXT: &str = "The lighthouse at Cape Vell was built in 1871, after the wreck of the steamer Aurelia. It stands 34 \
metres high, and its lamp could be seen from 19 sea miles. Until 1932 the lamp burned oil, which two keepers carried up 148 \
steps each evening; then electricity came from the village. The last keeper, Marta Olsen, left in 1978, when the light was \
made automatic. Since 1996 the tower has been a museum, and about 12,000 people climb the 148 steps each year.";

/// Most rows of a pass whose cost is measured.
const MOST_ROWS: usize = 9;

/// Kinds of prompts, as the app's lab has them.
fn prompt(kind: &str) -> Option<String> {
    Some(match kind {
        "chat" => "What should I look for when I buy a used bicycle?".to_owned(),
        "code" => "Write a Python function that returns the n-th Fibonacci number, with a loop, and explain it.".to_owned(),
        "story" => "Tell a short story about a fox who finds a lantern in the forest.".to_owned(),
        "translation" => "Translate to French: The train to the coast leaves at nine, and the children carry their own bags.".to_owned(),
        "summary" => format!("Summarize this text in a few sentences:\n\n{TEXT}"),
        "repeat" => format!("Repeat this text word for word:\n\n{TEXT}"),
        _ => return None,
    })
}

struct Options {
    threads: usize,
    widths: Vec<Width>,
    tokens: usize,
    rounds: usize,
    cost_rounds: usize,
    context: usize,
    prompts: Vec<String>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(target), Some(draft)) = (args.next(), args.next()) else {
        return Err("usage: pair_speed TARGET.gguf DRAFT.gguf|lookup [threads=N] [k=N,N,auto|none] [tokens=N] [rounds=N] \
                    [prompts=chat,code,story,translation,summary,repeat] [cost_rounds=N] [context=N]"
            .into());
    };
    let mut options = Options {
        threads: 2,
        widths: vec![Width::Fixed(4), Width::Auto],
        tokens: 128,
        rounds: 1,
        cost_rounds: 7,
        context: 2048,
        prompts: ["chat", "code", "story", "translation", "summary"]
            .map(str::to_owned)
            .to_vec(),
    };
    for arg in args {
        let (name, value) = arg
            .split_once('=')
            .ok_or(format!("{arg}: expected NAME=VALUE"))?;
        match name {
            "threads" => options.threads = value.parse()?,
            "k" if value == "none" => options.widths.clear(),
            "k" => {
                options.widths = value
                    .split(',')
                    .map(|width| match width {
                        "auto" => Ok(Width::Auto),
                        number => number.parse().map(Width::Fixed),
                    })
                    .collect::<Result<_, _>>()?;
            }
            "tokens" => options.tokens = value.parse()?,
            "rounds" => options.rounds = value.parse()?,
            "cost_rounds" => options.cost_rounds = value.parse()?,
            "context" => options.context = value.parse()?,
            "prompts" => options.prompts = value.split(',').map(str::to_owned).collect(),
            _ => return Err(format!("{name} is no option").into()),
        }
    }
    let mut target = open(&target, &options)?;
    let mut draft = match draft.as_str() {
        "lookup" => None,
        path => Some(open(path, &options)?),
    };
    let costs = costs(&mut target, draft.as_mut(), &options)?;
    costs.print();
    let mut all = vec![Sum::default(); options.widths.len()];
    let (mut agreed, mut places) = (0, 0);
    for kind in &options.prompts {
        let text = prompt(kind).ok_or(format!("{kind} is no kind of prompt"))?;
        let tokens = encode(&target, &text)?;
        let mut sums = vec![Sum::default(); options.widths.len()];
        let mut plain = plain(&mut target, &tokens, &options)?;
        if let Some(draft) = draft.as_mut() {
            let (same, of) = agreement(draft, &tokens, &plain.tokens)?;
            agreed += same;
            places += of;
            println!(
                "{kind}: {of} tokens, the draft's first choice is the target's at {:.3}: {:?}",
                same as f64 / of as f64,
                plain.text
            );
        }
        for round in 0..options.rounds {
            if round > 0 {
                plain = self::plain(&mut target, &tokens, &options)?;
            }
            for (width, sum) in options.widths.iter().zip(&mut sums) {
                let (generation, counts) =
                    speculative(&mut target, draft.as_mut(), *width, &tokens, &options)?;
                if generation.tokens != plain.tokens {
                    return Err(
                        format!("{kind}, {width:?}: other tokens than plain decoding").into(),
                    );
                }
                sum.add(&plain, &generation, &counts);
            }
        }
        for ((width, sum), all) in options.widths.iter().zip(&sums).zip(&mut all) {
            sum.print(kind, *width, &costs);
            all.join(sum);
        }
    }
    if places > 0 {
        println!(
            "all: agreement {:.3} of {places} places",
            agreed as f64 / places as f64
        );
    }
    for (width, all) in options.widths.iter().zip(&all) {
        all.print("all", *width, &costs);
    }
    Ok(())
}

fn open(path: &str, options: &Options) -> Result<Loaded, Box<dyn Error>> {
    let files = ModelFiles::open(Path::new(path))?;
    let loaded = load(
        &files,
        &LoadOptions {
            threads: Some(options.threads),
            context_len: Some(options.context.min(files.spec().context_len)),
            ..LoadOptions::default()
        },
    )?;
    println!(
        "{path}: {} parameters, {}, {} MB, {} threads of {}, loaded in {:.1} s",
        files.params(),
        files.quant(),
        loaded.decoder.weights_bytes() / 1_000_000,
        loaded.threads,
        loaded.isa,
        loaded.load_time.as_secs_f64()
    );
    Ok(loaded)
}

fn encode(model: &Loaded, text: &str) -> Result<Vec<u32>, Box<dyn Error>> {
    if let Some(template) = &model.chat_template {
        let text = template.render(&[Message::new("user", text)], true)?;
        return Ok(model.tokenizer.encode(&text, false, true)?);
    }
    Ok(model.tokenizer.encode(text, true, false)?)
}

fn generation(options: &Options) -> GenerateOptions {
    GenerateOptions {
        max_tokens: options.tokens,
        ..GenerateOptions::default()
    }
}

fn plain(
    target: &mut Loaded,
    prompt: &[u32],
    options: &Options,
) -> Result<Generation, Box<dyn Error>> {
    let mut session = Session::new();
    let generation = generate(
        target.decoder.as_mut(),
        target.tokenizer.as_ref(),
        &mut session,
        prompt,
        &generation(options),
        &mut |_| ControlFlow::Continue(()),
    )?;
    session.close(target.decoder.as_mut());
    Ok(generation)
}

fn speculative(
    target: &mut Loaded,
    draft: Option<&mut Loaded>,
    width: Width,
    prompt: &[u32],
    options: &Options,
) -> Result<(Generation, Counts), Box<dyn Error>> {
    let (mut session, mut draft_session) = (Session::new(), Session::new());
    let mut draft = draft;
    let done = speculate(
        Target {
            decoder: target.decoder.as_mut(),
            session: &mut session,
            codec: target.tokenizer.as_ref(),
        },
        match draft.as_mut() {
            Some(draft) => Draft::Model {
                decoder: draft.decoder.as_mut(),
                session: &mut draft_session,
            },
            None => Draft::Lookup(Lookup::default()),
        },
        width,
        prompt,
        &generation(options),
        &mut |_, _| ControlFlow::Continue(()),
    )?;
    session.close(target.decoder.as_mut());
    if let Some(draft) = draft {
        draft_session.close(draft.decoder.as_mut());
    }
    Ok((done.generation, done.counts))
}

/// At how many of the generated tokens the draft would have said the same.
fn agreement(
    draft: &mut Loaded,
    prompt: &[u32],
    said: &[u32],
) -> Result<(usize, usize), Box<dyn Error>> {
    let tokens = [prompt, said].concat();
    let tokens = &tokens[..tokens.len() - 1];
    let want: Vec<usize> = (prompt.len() - 1..tokens.len()).collect();
    let seq = draft.decoder.open()?;
    let logits = draft.decoder.forward(&[Run {
        seq,
        tokens,
        want: &want,
    }])?;
    draft.decoder.close(seq);
    let same = said
        .iter()
        .enumerate()
        .filter(|(i, token)| greedy(logits.row(*i)) == **token)
        .count();
    Ok((same, said.len()))
}

/// Medians of single passes behind a prompt.
struct Costs {
    /// Seconds of the target's pass, by rows (at 0 nothing).
    pass_s: [f64; MOST_ROWS + 1],
    /// Seconds of a step of the draft; 0 for lookup.
    draft_s: f64,
}

impl Costs {
    fn print(&self) {
        if self.pass_s[1] == 0.0 {
            return;
        }
        let passes: Vec<String> = (1..=MOST_ROWS)
            .map(|rows| {
                format!(
                    "{rows}: {:.1} ({:.2})",
                    1e3 * self.pass_s[rows],
                    self.pass_s[rows] / self.pass_s[1]
                )
            })
            .collect();
        println!(
            "passes of the target, ms (of one row): {}",
            passes.join(", ")
        );
        println!(
            "a draft step: {:.2} ms ({:.3} of a pass)",
            1e3 * self.draft_s,
            self.draft_s / self.pass_s[1]
        );
    }

    /// Speed-up that theory predicts; none for a width that was not measured.
    fn predicted(&self, k: usize, alpha: f64) -> Option<f64> {
        let pass = *self.pass_s.get(k + 1)?;
        let alpha = alpha.min(0.9999);
        let tokens = (1.0 - alpha.powi(k as i32 + 1)) / (1.0 - alpha);
        Some(tokens * self.pass_s[1] / (pass + k as f64 * self.draft_s))
    }
}

fn costs(
    target: &mut Loaded,
    mut draft: Option<&mut Loaded>,
    options: &Options,
) -> Result<Costs, Box<dyn Error>> {
    let prompt = encode(target, &prompt("summary").ok_or("a kind of prompt")?)?;
    let begin = |decoder: &mut dyn Decoder| -> Result<_, DecodeError> {
        let seq = decoder.open()?;
        decoder.forward(&[Run {
            seq,
            tokens: &prompt,
            want: &[],
        }])?;
        Ok(seq)
    };
    let seq = begin(target.decoder.as_mut())?;
    let draft_seq = match draft.as_mut() {
        Some(draft) => Some(begin(draft.decoder.as_mut())?),
        None => None,
    };
    let time = |decoder: &mut dyn Decoder, seq, rows: usize| -> Result<f64, DecodeError> {
        let want: Vec<usize> = (0..rows).collect();
        let start = Instant::now();
        decoder.forward(&[Run {
            seq,
            tokens: &prompt[prompt.len() - rows..],
            want: &want,
        }])?;
        let took = start.elapsed().as_secs_f64();
        decoder.truncate(seq, prompt.len())?;
        Ok(took)
    };
    let mut passes = vec![Vec::new(); MOST_ROWS + 1];
    let mut steps = Vec::new();
    for _ in 0..options.cost_rounds {
        // In turn, so that other load falls on all alike.
        for (rows, times) in passes.iter_mut().enumerate().skip(1) {
            times.push(time(target.decoder.as_mut(), seq, rows)?);
            if let (Some(draft), Some(seq)) = (draft.as_mut(), draft_seq) {
                // The first brings the draft's weights back into the caches, as in a draft of several tokens.
                for step in 0..4 {
                    let took = time(draft.decoder.as_mut(), seq, 1)?;
                    if step > 0 {
                        steps.push(took);
                    }
                }
            }
        }
    }
    target.decoder.close(seq);
    if let (Some(draft), Some(seq)) = (draft, draft_seq) {
        draft.decoder.close(seq);
    }
    let mut pass_s = [0.0; MOST_ROWS + 1];
    for (pass, times) in pass_s.iter_mut().zip(&mut passes).skip(1) {
        *pass = median(times);
    }
    Ok(Costs {
        pass_s,
        draft_s: median(&mut steps),
    })
}

/// 0 of nothing.
fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or(0.0)
}

/// Of several generations with one width.
#[derive(Clone, Default)]
struct Sum {
    tokens: usize,
    plain: Duration,
    speculative: Duration,
    draft_prefill: Duration,
    accepted: usize,
    tested: usize,
    drafted: usize,
    passes: usize,
    /// Speed-up of each generation.
    ratios: Vec<f64>,
}

impl Sum {
    fn add(&mut self, plain: &Generation, speculative: &Generation, counts: &Counts) {
        // The first token comes from the pass over the prompt.
        self.tokens += plain.tokens.len().saturating_sub(1);
        self.plain += plain.decode;
        let decode = speculative.decode.saturating_sub(counts.draft_prefill);
        self.speculative += decode;
        self.draft_prefill += counts.draft_prefill;
        self.accepted += counts.accepted;
        self.tested += counts.tested;
        self.drafted += counts.drafted;
        self.passes += counts.passes;
        self.ratios
            .push(plain.decode.as_secs_f64() / decode.as_secs_f64());
    }

    fn join(&mut self, other: &Self) {
        self.tokens += other.tokens;
        self.plain += other.plain;
        self.speculative += other.speculative;
        self.draft_prefill += other.draft_prefill;
        self.accepted += other.accepted;
        self.tested += other.tested;
        self.drafted += other.drafted;
        self.passes += other.passes;
        self.ratios.extend(&other.ratios);
    }

    fn print(&self, kind: &str, width: Width, costs: &Costs) {
        let (plain, speculative) = (self.plain.as_secs_f64(), self.speculative.as_secs_f64());
        let alpha = self.accepted as f64 / (self.tested as f64).max(1.0);
        let (name, predicted) = match width {
            Width::Fixed(k) => (k.to_string(), costs.predicted(k, alpha)),
            // Of the best width.
            Width::Auto => (
                "auto".to_owned(),
                (1..MOST_ROWS)
                    .filter_map(|k| costs.predicted(k, alpha))
                    .reduce(f64::max),
            ),
        };
        println!(
            "{kind} k={name}: {:.1} -> {:.1} tokens/s, speed-up {:.2} (median {:.2}, with the draft's prompt pass {:.2}), \
             predicted {}, alpha {alpha:.3}, {:.2} tokens a pass, {} drafted",
            self.tokens as f64 / plain,
            self.tokens as f64 / speculative,
            plain / speculative,
            median(&mut self.ratios.clone()),
            plain / (speculative + self.draft_prefill.as_secs_f64()),
            predicted.map_or("-".to_owned(), |speedup| format!("{speedup:.2}")),
            self.tokens as f64 / self.passes.max(1) as f64,
            self.drafted
        );
    }
}
