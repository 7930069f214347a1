//! Memory of this process: what is resident now and what was at most, and what a model takes when its cache is full.
//!
//! The figures are the system's own (Linux: `VmRSS` and `VmHWM` of proc(5); elsewhere getrusage(2) gives the peak only).
//! A run belongs into a fresh process that holds one model, or its peak is somebody else's.

use std::ops::ControlFlow;

use billion_llm::decoder::{Decoder, Run, SeqId};
use serde::{Deserialize, Serialize};

use crate::{Error, Event};

/// Tokens that one pass of filling the cache takes.
const FILL_CHUNK: usize = 256;

/// Tokens that the cache is filled to unless asked otherwise (or the context, where that is shorter).
pub const DEFAULT_FILL: usize = 2048;

/// What the system says of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rss {
    /// Resident now; none where the system does not say.
    pub now_bytes: Option<u64>,
    /// Most that was resident since the process began.
    pub peak_bytes: u64,
    /// Swapped out now; none where the system does not say.
    pub swapped_bytes: Option<u64>,
}

impl Rss {
    /// Reads this process's figures; `None` where the system has no such counters.
    pub fn read() -> Option<Self> {
        match std::fs::read_to_string("/proc/self/status") {
            Ok(status) => Self::parse(&status),
            Err(_) => peak_by_rusage().map(|peak_bytes| Self {
                now_bytes: None,
                peak_bytes,
                swapped_bytes: None,
            }),
        }
    }

    /// From the text of `/proc/self/status`.
    pub fn parse(status: &str) -> Option<Self> {
        let field = |name: &str| -> Option<u64> {
            let rest = status.lines().find_map(|line| line.strip_prefix(name))?;
            let kib: u64 = rest.trim().strip_suffix("kB")?.trim().parse().ok()?;
            kib.checked_mul(1024)
        };
        let now = field("VmRSS:")?;
        // Both are counted lazily by the kernel, so the peak may lag behind by a few pages.
        Some(Self {
            now_bytes: Some(now),
            peak_bytes: field("VmHWM:")?.max(now),
            swapped_bytes: field("VmSwap:"),
        })
    }
}

/// getrusage(2)'s peak: bytes on Apple systems, KiB elsewhere.
#[cfg(unix)]
fn peak_by_rusage() -> Option<u64> {
    use nix::sys::resource::{UsageWho, getrusage};

    let peak = u64::try_from(getrusage(UsageWho::RUSAGE_SELF).ok()?.max_rss()).ok()?;
    Some(if cfg!(target_vendor = "apple") {
        peak
    } else {
        peak * 1024
    })
}

#[cfg(not(unix))]
fn peak_by_rusage() -> Option<u64> {
    None
}

/// Says so if `resident` bytes cannot be true of a process that holds `needed` bytes of weights and cache.
pub fn below_need(resident: u64, needed: u64) -> Option<String> {
    (resident < needed).then(|| {
        format!(
            "the system reports {:.2} GB resident, but weights and cache alone hold {:.2} GB: part of them was swapped out or is only mapped, so this is not what the model needs",
            resident as f64 / 1e9,
            needed as f64 / 1e9
        )
    })
}

/// A finished run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Bytes of the weights as the executor holds them.
    pub weights_bytes: u64,
    /// Bytes of the KV cache of `ctx` tokens.
    pub kv_bytes: u64,
    /// Bytes that each token takes in the KV cache.
    pub kv_bytes_per_token: u64,
    /// Most that was resident since the process began: loading and a full cache included.
    pub peak_rss_bytes: u64,
    /// Resident with the model loaded, before any token; none where the system does not say.
    pub idle_rss_bytes: Option<u64>,
    /// Tokens the cache was filled to.
    pub ctx: usize,
    /// Why a figure should not be trusted.
    pub notes: Vec<String>,
}

/// Reads what is resident, fills a sequence to `ctx` tokens and generates into the last place, and reads again. `read`
/// is `Rss::read`, or a test's own.
pub fn run(
    decoder: &mut dyn Decoder,
    ctx: Option<usize>,
    read: &dyn Fn() -> Option<Rss>,
    on_event: &mut dyn FnMut(Event<()>) -> ControlFlow<()>,
) -> Result<Outcome, Error> {
    let context_len = decoder.context_len();
    let ctx = ctx.unwrap_or(DEFAULT_FILL.min(context_len));
    if ctx == 0 || ctx > context_len {
        return Err(Error::Options(format!(
            "the cache cannot be filled to {ctx} tokens: choose 1 to {context_len}, the context of this model"
        )));
    }
    let unreadable = || {
        Error::Implausible("this system does not say how much memory a process takes".to_owned())
    };
    let idle = read().ok_or_else(unreadable)?;
    let seq = decoder.open()?;
    let filled = fill(decoder, seq, ctx, on_event);
    let after = read();
    decoder.close(seq);
    filled?;
    let after = after.ok_or_else(unreadable)?;
    let weights_bytes = decoder.weights_bytes() as u64;
    let kv_bytes_per_token = decoder.kv_bytes_per_token() as u64;
    let kv_bytes = kv_bytes_per_token * ctx as u64;
    Ok(Outcome {
        weights_bytes,
        kv_bytes,
        kv_bytes_per_token,
        peak_rss_bytes: after.peak_bytes,
        idle_rss_bytes: idle.now_bytes,
        ctx,
        notes: notes(&idle, &after, weights_bytes, kv_bytes),
    })
}

/// Why the figures should not be trusted: less resident than weights and cache take, or a part swapped out.
fn notes(idle: &Rss, after: &Rss, weights_bytes: u64, kv_bytes: u64) -> Vec<String> {
    let full = below_need(after.peak_bytes, weights_bytes + kv_bytes);
    let at_rest = idle
        .now_bytes
        .filter(|&now| full.is_none() && now < weights_bytes)
        .map(|now| {
            format!(
                "after loading, the system reports {:.2} GB resident, less than the {:.2} GB of the weights: part of them was not in memory yet",
                now as f64 / 1e9,
                weights_bytes as f64 / 1e9
            )
        });
    let swapped = [idle, after]
        .iter()
        .filter_map(|rss| rss.swapped_bytes)
        .max()
        .filter(|&bytes| bytes > 0)
        .map(|bytes| {
            format!(
                "{:.2} GB of this process were swapped out and are not in the figures; close other programs and measure again",
                bytes as f64 / 1e9
            )
        });
    [full, at_rest, swapped].into_iter().flatten().collect()
}

fn fill(
    decoder: &mut dyn Decoder,
    seq: SeqId,
    ctx: usize,
    on_event: &mut dyn FnMut(Event<()>) -> ControlFlow<()>,
) -> Result<(), Error> {
    let tokens: Vec<u32> = super::speed::tokens(0, ctx, decoder.vocab_size());
    // The last token goes alone and its logits are read, as in generation.
    let (last, prompt) = tokens.split_at(1);
    let passes = prompt
        .chunks(FILL_CHUNK)
        .map(|chunk| (chunk, &[][..]))
        .chain([(last, &[0][..])]);
    for (tokens, want) in passes {
        decoder.forward(&[Run { seq, tokens, want }])?;
        let event = Event::Step {
            what: "tokens in the cache".to_owned(),
            done: decoder.len(seq),
            total: ctx,
        };
        if on_event(event).is_break() {
            return Err(Error::Cancelled);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::fakes::FakeDecoder;

    #[test]
    fn parses_the_kernels_text() {
        let status = "Name:\tx\nVmPeak:\t 9999 kB\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\n";
        let mut want = Rss {
            now_bytes: Some(1 << 20),
            peak_bytes: 2 << 20,
            swapped_bytes: None,
        };
        assert_eq!(Rss::parse(status), Some(want));
        want.swapped_bytes = Some(3 << 10);
        assert_eq!(
            Rss::parse(&format!("{status}VmSwap:\t       3 kB\n")),
            Some(want)
        );
        for bad in [
            "",
            "VmRSS:\t1 kB\n",
            "VmHWM: x kB\nVmRSS: 1 kB\n",
            "VmHWM: 1 MB\nVmRSS: 1 MB\n",
        ] {
            assert_eq!(Rss::parse(bad), None);
        }
    }

    #[test]
    fn a_large_allocation_shows_in_both_readers() {
        let before = Rss::read().expect("readable");
        let block = vec![1u8; 64 << 20];
        let after = Rss::read().expect("readable");
        assert!(block.iter().map(|&b| u64::from(b)).sum::<u64>() == 64 << 20);
        assert!(after.peak_bytes >= 64 << 20 && after.peak_bytes >= before.peak_bytes);
        #[cfg(unix)]
        {
            let peak = peak_by_rusage().expect("getrusage works");
            // It may be higher: it also counts what this process was before exec(2).
            assert!(peak + (16 << 20) > after.peak_bytes, "{peak} {after:?}");
        }
    }

    #[test]
    fn fills_the_cache_and_reads_before_and_after() {
        let mut decoder = FakeDecoder::new(10, 700);
        let reads = Cell::new(0);
        let read = || {
            reads.set(reads.get() + 1);
            Some(Rss {
                now_bytes: Some(reads.get() * 5000),
                peak_bytes: reads.get() * 6000,
                swapped_bytes: Some(0),
            })
        };
        let got = run(&mut decoder, Some(600), &read, &mut |_| {
            ControlFlow::Continue(())
        })
        .expect("measured");
        assert_eq!(decoder.tokens_run(), 600);
        assert_eq!(decoder.passes.last(), Some(&(vec![1], 1)));
        assert_eq!(
            (got.idle_rss_bytes, got.peak_rss_bytes),
            (Some(5000), 12_000)
        );
        assert_eq!(
            (got.weights_bytes, got.kv_bytes, got.ctx),
            (1000, 600 * 64, 600)
        );
        assert_eq!(got.kv_bytes_per_token, 64);
        assert!(
            got.notes[0].contains("weights and cache alone"),
            "{:?}",
            got.notes
        );
        assert!(decoder.seqs.is_empty());

        let default = run(
            &mut decoder,
            None,
            &read,
            &mut |_| ControlFlow::Continue(()),
        );
        assert_eq!(default.expect("measured").ctx, 700);
        let error = run(&mut decoder, Some(701), &read, &mut |_| {
            ControlFlow::Continue(())
        });
        assert!(
            error
                .expect_err("too long")
                .to_string()
                .contains("1 to 700")
        );
        let cancelled = run(&mut decoder, None, &read, &mut |_| ControlFlow::Break(()));
        assert!(matches!(cancelled, Err(Error::Cancelled)) && decoder.seqs.is_empty());
    }

    #[test]
    fn an_impossible_figure_is_told() {
        let rss = |now: u64, peak_bytes, swapped| Rss {
            now_bytes: Some(now),
            peak_bytes,
            swapped_bytes: Some(swapped),
        };
        let of = |idle: &Rss, after: &Rss| notes(idle, after, 2_000_000_000, 300_000_000);
        let good = rss(2_000_000_000, 2_300_000_000, 0);
        assert!(of(&good, &good).is_empty());
        let mapped = of(&rss(500_000_000, 1, 0), &good);
        assert!(mapped.len() == 1 && mapped[0].contains("0.50 GB resident, less than the 2.00 GB"));
        let swapped = of(&good, &rss(2_000_000_000, 2_300_000_000, 70_000_000));
        assert!(swapped.len() == 1 && swapped[0].contains("0.07 GB of this process were swapped"));
        assert_eq!(below_need(2_200_000_000, 2_200_000_000), None);
        let says = below_need(500_000_000, 2_200_000_000).expect("impossible");
        assert!(
            says.contains("0.50 GB resident") && says.contains("2.20 GB"),
            "{says}"
        );
    }
}
