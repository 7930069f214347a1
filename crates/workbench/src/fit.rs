//! Will it run here? Models against memory in words with sums: those on this machine by their headers, those of the
//! catalogue by their shapes, and the table "What runs here?".
//!
//! The arithmetic is `billion-hub`'s; this owns what is held against what.

use billion_hub::{self as hub, CATALOGUE, Facts, Known, ModelReference, Need};
use billion_llm::quantize::Quant;

use crate::api::{ApiError, Fit, FitLevel, MachineKind, RunsHere, RunsRow};
use crate::facade::Workbench;
use crate::machine::{self, bytes_words};
use crate::models::failed;

/// Share of a graphics card's memory that a model may take; the rest goes to the display and the driver.
const CARD_SHARE: f64 = 0.9;
/// Share of an Apple machine's memory that a model may take: what Metal recommends of 8 GB (`recommendedMaxWorkingSetSize`).
const APPLE_SHARE: f64 = 2.0 / 3.0;
/// Free memory of a laptop of 8 GB with its desktop running.
const LAPTOP_FREE_BYTES: u64 = 5_000_000_000;
/// 2^30 bytes, by which memory is sold.
const GIB: u64 = 1 << 30;

impl Workbench {
    /// Whether a model fits with so many tokens of context (none takes 2,048): of one on this machine by its header, of one
    /// of the catalogue estimated.
    pub fn model_fit(&self, id: &str, context: Option<u32>) -> Result<Fit, ApiError> {
        let context = context.map(|tokens| tokens as usize);
        let free = machine::free_memory_bytes();
        match self.library.resolve(id) {
            Ok(resolved) => {
                let (_, facts) = self.library.facts(&resolved.path).map_err(failed)?;
                Ok(fit_of_facts(&facts, context, free))
            }
            Err(error) => {
                let asked = ModelReference::parse(id).ok();
                let known = asked.as_ref().and_then(ModelReference::known);
                match (known, asked.and_then(|asked| asked.quant)) {
                    (Some(known), Some(Quant::Q4_0)) => {
                        Ok(fit(Need::four_bit(known).fit(context, free)))
                    }
                    (Some(known), None) => Ok(fit_of_known(known, context, free)),
                    _ => Err(failed(error)),
                }
            }
        }
    }

    /// "What runs here?": the contenders against kinds of machine, this one's column by its free memory.
    pub fn what_runs_here(&self) -> Result<RunsHere, ApiError> {
        Ok(runs_here(
            machine::free_memory_bytes(),
            cfg!(all(target_os = "macos", target_arch = "aarch64")),
        ))
    }
}

/// A kind of machine, and what a model needs there.
struct Kind {
    machine: MachineKind,
    need: fn(&Known) -> Need,
}

fn runs_here(free_bytes: u64, apple: bool) -> RunsHere {
    let here = |name: &str, of_this: bool, budget: u64| MachineKind {
        name: name.to_owned(),
        budget_bytes: if of_this { free_bytes } else { budget },
        here: of_this,
        note: None,
    };
    let card = |name: &str, gib: u64| MachineKind {
        note: Some("by memory alone: not tried on such a card yet".to_owned()),
        ..here(name, false, ((gib * GIB) as f64 * CARD_SHARE) as u64)
    };
    let apple_budget = ((8 * GIB) as f64 * APPLE_SHARE) as u64;
    let kinds = [
        Kind {
            machine: here("CPU, INT4", !apple, LAPTOP_FREE_BYTES),
            need: Need::four_bit,
        },
        Kind {
            machine: card("4 GB graphics card, INT4", 4),
            need: Need::four_bit,
        },
        Kind {
            machine: card("8 GB graphics card, FP16", 8),
            need: Need::sixteen_bit,
        },
        Kind {
            machine: MachineKind {
                note: Some("by memory alone: not tried on such a machine yet".to_owned()),
                ..here("Apple silicon, 8 GB, FP16", apple, apple_budget)
            },
            need: Need::sixteen_bit,
        },
    ];
    let rows = CATALOGUE
        .iter()
        .filter(|known| known.contender)
        .map(|known| RunsRow {
            model: known.id.to_owned(),
            name: known.name.to_owned(),
            cells: kinds
                .iter()
                .map(|kind| fit((kind.need)(known).fit(None, kind.machine.budget_bytes)))
                .collect(),
        })
        .collect();
    RunsHere {
        basis: format!(
            "Weights by their number (INT4: 4.5 bits each and 6.6 in the head, as Q4_0 files have them; FP16: 16 bits), a cache of {} tokens in 16 bits, and room to work in. This machine: the {} that are free now. Others: 5 GB free on a laptop of 8 GB, {:.0} % of a graphics card, two thirds of an Apple machine.",
            hub::ESTIMATE_CONTEXT,
            bytes_words(free_bytes),
            100.0 * CARD_SHARE
        ),
        columns: kinds.into_iter().map(|kind| kind.machine).collect(),
        rows,
    }
}

/// Of a model on this machine.
pub(crate) fn fit_of_facts(facts: &Facts, context: Option<usize>, free_bytes: u64) -> Fit {
    fit(hub::fit(facts, context, free_bytes))
}

/// Of a model of the catalogue, as published and, where that is not comfortable, quantized here to four bits a weight.
pub(crate) fn fit_of_known(known: &Known, context: Option<usize>, free_bytes: u64) -> Fit {
    let published = fit(Need::published(known).fit(context, free_bytes));
    if published.level == FitLevel::Well {
        return published;
    }
    let four = fit(Need::four_bit(known).fit(context, free_bytes));
    if four.level == FitLevel::TooBig {
        return Fit {
            words: format!("{}, even as INT4", four.words),
            ..four
        };
    }
    let sum = four.sum.map(|sum| format!("as INT4: {sum}"));
    Fit {
        words: match four.level {
            FitLevel::Well => "runs well as INT4".to_owned(),
            _ => format!("as INT4 {}", four.words),
        },
        sum: match (sum, published.sum) {
            (Some(four), Some(published)) => Some(format!("{four}; as published: {published}")),
            (four, _) => four,
        },
        level: four.level,
    }
}

/// Of files of which only the size is known.
pub(crate) fn fit_of_files(bytes: u64, free_bytes: u64) -> Fit {
    fit(Need::of_files(bytes).fit(None, free_bytes))
}

/// Of files that cannot be read.
pub(crate) fn unusable() -> Fit {
    Fit {
        level: FitLevel::Unknown,
        words: "cannot be used".to_owned(),
        sum: None,
    }
}

pub(crate) fn fit(fit: hub::Fit) -> Fit {
    Fit {
        level: match fit.level {
            hub::FitLevel::Well => FitLevel::Well,
            hub::FitLevel::Tight => FitLevel::Tight,
            hub::FitLevel::TooBig => FitLevel::TooBig,
        },
        words: fit.words,
        sum: Some(fit.sum),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_marks_this_machine_and_every_contender_runs_on_four_gigabytes() {
        let table = runs_here(3_000_000_000, false);
        let here: Vec<bool> = table.columns.iter().map(|column| column.here).collect();
        assert_eq!(here, [true, false, false, false]);
        assert_eq!(table.columns[0].budget_bytes, 3_000_000_000);
        assert_eq!(table.rows.len(), 9);
        for row in &table.rows {
            assert_eq!(row.cells.len(), 4);
            let on_card = &row.cells[1];
            assert!(
                on_card.level != FitLevel::TooBig,
                "{}: {on_card:?}",
                row.model
            );
        }
        assert!(runs_here(1, true).columns[3].here);
    }

    #[test]
    fn what_is_too_big_as_published_may_run_well_in_four_bits() {
        let llama = Known::find("llama-2-7b").unwrap();
        let words = |free| fit_of_known(llama, None, free).words;
        assert_eq!(words(40_000_000_000), "runs well");
        assert_eq!(words(12_000_000_000), "runs well as INT4");
        assert!(words(6_000_000_000).starts_with("as INT4 tight: needs"));
        let none = fit_of_known(llama, None, 1_000_000_000);
        assert_eq!(none.level, FitLevel::TooBig);
        assert!(none.words.ends_with("even as INT4"), "{}", none.words);
        let sum = fit_of_known(llama, None, 12_000_000_000).sum.unwrap();
        assert!(sum.contains("as published: 13.5 GB weights"), "{sum}");
        // A longer context takes more.
        let long = fit_of_known(llama, Some(4096), 40_000_000_000).sum.unwrap();
        assert!(long.contains("2.1 GB cache of 4096 tokens"), "{long}");
    }
}
