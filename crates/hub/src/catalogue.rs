//! The models that Billion knows by name (a table): their ids and the short names that stand for them.
//!
//! It says nothing of whether they are on this machine.

/// A known model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// What commands take as MODEL.
    pub id: &'static str,
    /// Short names that mean the same.
    pub aliases: &'static [&'static str],
    /// For people.
    pub name: &'static str,
    /// `general.architecture` of its GGUF files.
    pub architecture: &'static str,
    /// Who published it.
    pub publisher: &'static str,
    /// SPDX id, or the licence's own name.
    pub license: &'static str,
    /// What it is good at, in a sentence.
    pub good_at: &'static str,
}

const fn known(
    id: &'static str,
    aliases: &'static [&'static str],
    name: &'static str,
    (architecture, publisher, license): (&'static str, &'static str, &'static str),
    good_at: &'static str,
) -> Known {
    Known {
        id,
        aliases,
        name,
        architecture,
        publisher,
        license,
        good_at,
    }
}

const TINYLLAMA: (&str, &str, &str) = ("llama", "TinyLlama project", "Apache-2.0");
const META: (&str, &str, &str) = ("llama", "Meta", "Llama 3.2 Community License");
const STABILITY: (&str, &str, &str) =
    ("stablelm", "Stability AI", "Stability AI Community License");
const ELEUTHER: (&str, &str, &str) = ("gptneox", "EleutherAI", "Apache-2.0");
const HUGGING_FACE: (&str, &str, &str) = ("llama", "Hugging Face", "Apache-2.0");

/// Every known model, the starter first.
pub const CATALOGUE: [Known; 13] = [
    known(
        "starter",
        &["smollm2-135m-instruct", "smollm2"],
        "SmolLM2 135M Instruct",
        HUGGING_FACE,
        "Ships with Billion: answers at once, offline, and shows what a very small model can and cannot do.",
    ),
    known(
        "tinyllama-1.1b-chat",
        &["tinyllama", "tinyllama-chat"],
        "TinyLlama 1.1B Chat v1.0",
        TINYLLAMA,
        "A small Llama 2 that chats; drafts for Llama 2 7B.",
    ),
    known(
        "tinyllama-1.1b",
        &[],
        "TinyLlama 1.1B",
        TINYLLAMA,
        "A base model trained on three trillion tokens; a good start for fine-tuning.",
    ),
    known(
        "llama-3.2-1b",
        &["llama3.2-1b"],
        "Llama 3.2 1B",
        META,
        "A base model of the Llama 3 family; drafts for Llama 3.1 8B.",
    ),
    known(
        "llama-3.2-1b-instruct",
        &["llama3.2-1b-instruct"],
        "Llama 3.2 1B Instruct",
        META,
        "Follows instructions and summarises; the strongest here on MMLU.",
    ),
    known(
        "stablelm-2-1.6b",
        &["stablelm"],
        "StableLM 2 1.6B",
        STABILITY,
        "A multilingual base model.",
    ),
    known(
        "stablelm-2-1.6b-chat",
        &["stablelm-chat"],
        "StableLM 2 1.6B Chat",
        STABILITY,
        "Chats in several languages.",
    ),
    known(
        "stablelm-2-zephyr-1.6b",
        &["stablelm-zephyr"],
        "StableLM 2 Zephyr 1.6B",
        STABILITY,
        "Follows instructions.",
    ),
    known(
        "pythia-1b",
        &["pythia"],
        "Pythia 1B",
        ELEUTHER,
        "Made for research: 154 checkpoints of its training are public.",
    ),
    known(
        "pythia-70m",
        &[],
        "Pythia 70M",
        ELEUTHER,
        "The smallest of its family; drafts for the larger ones.",
    ),
    known(
        "pythia-2.8b",
        &[],
        "Pythia 2.8B",
        ELEUTHER,
        "A larger target for Pythia drafts.",
    ),
    known(
        "smollm2-360m",
        &["smollm2-360m-instruct"],
        "SmolLM2 360M Instruct",
        HUGGING_FACE,
        "The starter model's larger sister.",
    ),
    known(
        "smollm2-1.7b",
        &["smollm2-1.7b-instruct"],
        "SmolLM2 1.7B Instruct",
        HUGGING_FACE,
        "Chats well for its size; the starter model drafts for it.",
    ),
];

impl Known {
    /// The known model of this id or short name.
    pub fn find(name: &str) -> Option<&'static Self> {
        CATALOGUE
            .iter()
            .find(|known| known.id == name || known.aliases.contains(&name))
    }
}

/// Of `names`, those a slip of the keyboard away from `asked`, or that contain it; the nearest three.
pub(crate) fn near_misses<'a>(asked: &str, names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let asked = asked.to_lowercase();
    let mut found: Vec<(usize, &str)> = names
        .filter_map(|name| {
            let distance = edit_distance(&asked, name);
            let contained = asked.len() >= 3 && name.contains(&asked);
            let close = distance <= 1 + asked.len() / 4;
            (close || contained).then_some((if contained { 0 } else { distance }, name))
        })
        .collect();
    found.sort_unstable();
    found.dedup();
    found
        .into_iter()
        .take(3)
        .map(|(_, name)| name.to_owned())
        .collect()
}

/// Least insertions, deletions and replacements that turn `a` into `b` (V. Levenshtein 1966).
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(200).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().take(200).enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_the_articles_short_names_are_known() {
        let mut names: Vec<&str> = CATALOGUE
            .iter()
            .flat_map(|known| known.aliases.iter().chain([&known.id]))
            .copied()
            .collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        for (short, id) in [
            ("tinyllama", "tinyllama-1.1b-chat"),
            ("llama3.2-1b", "llama-3.2-1b"),
            ("stablelm", "stablelm-2-1.6b"),
            ("pythia", "pythia-1b"),
            ("starter", "starter"),
        ] {
            assert_eq!(Known::find(short).map(|known| known.id), Some(id));
        }
        assert!(Known::find("gpt-5").is_none());
    }

    #[test]
    fn slips_are_recognised() {
        let names = || CATALOGUE.iter().map(|known| known.id);
        assert_eq!(near_misses("startr", names()), ["starter"]);
        assert_eq!(near_misses("pythia-1", names())[0], "pythia-1b");
        assert!(near_misses("zzzzzz", names()).is_empty());
        assert_eq!(edit_distance("kitten", "sitting"), 3);
    }
}
