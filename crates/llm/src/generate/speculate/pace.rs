//! How many tokens to draft: the number whose expected tokens a second are the most.
//!
//! With a probability `alpha` that a drafted token is kept, a draft of k gives (1 - alpha^(k+1)) / (1 - alpha) tokens on
//! average (Leviathan et al. 2023, equation 1), and costs k steps of the draft and one pass of the target over k + 1 rows.
//! Both costs are measured as they come. Where no k beats plain decoding nothing is drafted, and after ever longer pauses it
//! is tried again, since a text may change its kind.

use std::time::Duration;

use super::{Counts, MOST_DRAFTED, Width};

/// Plain passes at the start, which tell what a token costs without drafts.
const PLAIN_FIRST: usize = 2;
/// Drafted tokens of a try while nothing is known, and most of one that the odds are against.
const FIRST_WIDTH: usize = 3;
const DOUBTFUL_WIDTH: usize = 2;
/// Share that a new measurement of a cost has in the running one.
const FRESH: f64 = 0.2;
/// What a round takes off the weight of earlier rounds in the acceptance: about the last 25 rounds count.
const FADE: f64 = 0.96;
/// Acceptance before anything was tested, and its weight in tested tokens.
const PRIOR: (f64, f64) = (0.6, 2.0);
/// How much better than plain decoding a draft must promise to be, so that noise does not switch it on.
const MARGIN: f64 = 1.02;
/// Plain passes before drafts are tried again; doubled with each try that fails.
const FIRST_PAUSE: usize = 48;
const LONGEST_PAUSE: usize = 768;
/// Rounds of a try that the odds are against: of the first, which must tell chance from acceptance, and of later ones.
const FIRST_TRY_ROUNDS: usize = 8;
const TRY_ROUNDS: usize = 2;
/// Passes with drafts after which a plain one is made, so that its cost is known of this place of the text.
const PLAIN_EVERY: usize = 48;
/// First measurements of a cost of which the least counts: the first passes may still wait for memory.
const SETTLING: u32 = 3;

/// Decides, and learns from what came of it.
pub(super) struct Pace {
    width: Width,
    /// Seconds of a pass of the target by rows (at 0 nothing); none while not measured.
    pass_s: [Option<f64>; MOST_DRAFTED + 2],
    /// How often each was measured.
    measured: [u32; MOST_DRAFTED + 2],
    /// Passes since the last plain one.
    since_plain: usize,
    /// Seconds of a step of the draft; 0 for one that costs nothing.
    draft_s: f64,
    accepted: f64,
    tested: f64,
    /// Counts at the last look.
    seen: (usize, usize),
    plain_left: usize,
    pause: usize,
    tries_left: usize,
    /// The width that was last given was a try.
    trying: bool,
}

impl Pace {
    pub(super) fn new(width: Width) -> Self {
        Self {
            width,
            pass_s: [None; MOST_DRAFTED + 2],
            measured: [0; MOST_DRAFTED + 2],
            since_plain: 0,
            draft_s: 0.0,
            accepted: PRIOR.0 * PRIOR.1,
            tested: PRIOR.1,
            seen: (0, 0),
            plain_left: PLAIN_FIRST,
            pause: FIRST_PAUSE,
            tries_left: FIRST_TRY_ROUNDS,
            trying: false,
        }
    }

    /// How many to draft now.
    pub(super) fn width(&mut self, counts: &Counts) -> usize {
        match self.width {
            Width::Fixed(k) => k,
            Width::Auto => self.choose(counts),
        }
    }

    /// It made a try that did not pay, and does without drafts for a while.
    pub(super) fn rests(&self) -> bool {
        self.width == Width::Auto && self.plain_left > 0 && self.pause > FIRST_PAUSE
    }

    /// There was nothing to draft, which cost nothing: a try that has not been made yet.
    pub(super) fn found_nothing(&mut self) {
        self.tries_left += usize::from(std::mem::take(&mut self.trying));
    }

    fn choose(&mut self, counts: &Counts) -> usize {
        self.trying = false;
        if self.plain_left > 0 {
            self.plain_left -= 1;
            if self.plain_left == 0 && counts.checks > 0 {
                self.tries_left = TRY_ROUNDS;
            }
            return 0;
        }
        if self.since_plain >= PLAIN_EVERY {
            return 0;
        }
        let alpha = self.accepted / self.tested;
        let best = self.best(alpha);
        if best > 0 {
            if counts.checks > 0 && self.tries_left == 0 {
                self.pause = FIRST_PAUSE;
            }
            self.tries_left = self.tries_left.saturating_sub(1);
            return best;
        }
        if self.tries_left > 0 {
            self.tries_left -= 1;
            self.trying = true;
            if self.pass(2).is_none() {
                return FIRST_WIDTH;
            }
            // So much better it may be, for all that was seen (one standard error, and half a token for few).
            let error = (alpha * (1.0 - alpha) / self.tested).sqrt() + 0.5 / self.tested;
            let hoped = self.best(alpha + error);
            if hoped > 0 {
                return hoped.min(DOUBTFUL_WIDTH);
            }
        }
        self.plain_left = self.pause - 1;
        self.pause = (2 * self.pause).min(LONGEST_PAUSE);
        0
    }

    /// The width with the most expected tokens a second; 0 where plain decoding has, or while costs are unknown.
    fn best(&self, alpha: f64) -> usize {
        let Some(plain) = self.pass_s[1] else {
            return 0;
        };
        let alpha = alpha.min(0.999);
        let rate = |k: usize| {
            let tokens = (1.0 - alpha.powi(k as i32 + 1)) / (1.0 - alpha);
            let seconds = self.pass(k + 1)? + k as f64 * self.draft_s;
            Some(tokens / seconds)
        };
        let mut best = (0, MARGIN / plain);
        for k in 1..=MOST_DRAFTED {
            if let Some(rate) = rate(k)
                && rate > best.1
            {
                best = (k, rate);
            }
        }
        best.0
    }

    /// Cost of a pass over `rows`: measured, or on the line through the nearest measured ones; none while only one is known.
    fn pass(&self, rows: usize) -> Option<f64> {
        if let Some(cost) = self.pass_s[rows] {
            return Some(cost);
        }
        let known = |at: &usize| self.pass_s[*at].is_some();
        let below = (1..rows).rev().find(known)?;
        let above = (rows + 1..self.pass_s.len()).find(known);
        let (a, b) = match above {
            Some(above) => (below, above),
            None => ((1..below).rev().find(known)?, below),
        };
        let (cost_a, cost_b) = (self.pass_s[a]?, self.pass_s[b]?);
        let slope = ((cost_b - cost_a) / (b - a) as f64).max(0.0);
        Some(cost_b + slope * (rows as f64 - b as f64))
    }

    /// A pass of the target over `rows` rows took so long.
    pub(super) fn passed(&mut self, rows: usize, took: Duration) {
        self.since_plain = if rows == 1 { 0 } else { self.since_plain + 1 };
        let (Some(cost), Some(times)) = (self.pass_s.get_mut(rows), self.measured.get_mut(rows))
        else {
            return;
        };
        let took = took.as_secs_f64();
        *times = times.saturating_add(1);
        *cost = Some(match *cost {
            None => took,
            Some(cost) if *times <= SETTLING => cost.min(took),
            Some(cost) => cost + FRESH * (took - cost),
        });
    }

    /// A draft of `tokens` tokens took so long.
    pub(super) fn drafted(&mut self, tokens: usize, took: Duration) {
        let step = took.as_secs_f64() / tokens.max(1) as f64;
        self.draft_s = if self.draft_s == 0.0 {
            step
        } else {
            self.draft_s + FRESH * (step - self.draft_s)
        };
    }

    /// A draft was checked; the counts hold what came of it.
    pub(super) fn tested(&mut self, counts: &Counts) {
        let (accepted, tested) = (counts.accepted - self.seen.0, counts.tested - self.seen.1);
        self.seen = (counts.accepted, counts.tested);
        self.accepted = FADE * self.accepted + accepted as f64;
        self.tested = FADE * self.tested + tested as f64;
    }
}
