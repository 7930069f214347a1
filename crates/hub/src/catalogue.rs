//! The models that Billion knows by name (a table): their ids and the short names that stand for them, where they come
//! from, and what their publishers say of them.
//!
//! It says nothing of whether they are on this machine. Figures are those of the publishers' model cards.

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
    /// `OWNER/NAME` on the hub.
    pub repository: &'static str,
    /// Number of parameters.
    pub params: u64,
    /// Bytes of a weight as published: 2 or 4.
    pub weight_bytes: u64,
    /// Longest context in tokens.
    pub context_len: usize,
    /// Tokens that it was trained on, repeats included.
    pub training_tokens: u64,
    /// Its publisher gives it to accounts that accepted the licence.
    pub gated: bool,
    /// One of the article's models, base and chat.
    pub contender: bool,
    /// Ids of larger models of the same tokenizer.
    pub drafts_for: &'static [&'static str],
    /// Checkpoints of its training are revisions `stepN` (`checkpoints`).
    pub checkpoints: bool,
}

/// What models of a family share.
#[derive(Clone, Copy)]
struct Family {
    architecture: &'static str,
    publisher: &'static str,
    license: &'static str,
    context_len: usize,
    gated: bool,
    contender: bool,
    checkpoints: bool,
    drafts_for: &'static [&'static str],
}

impl Family {
    /// A model of the family, with the figures (parameters, billions of training tokens).
    const fn model(
        self,
        (id, aliases): (&'static str, &'static [&'static str]),
        (name, repository): (&'static str, &'static str),
        (params, training_billions): (u64, u64),
        good_at: &'static str,
    ) -> Known {
        Known {
            id,
            aliases,
            name,
            architecture: self.architecture,
            publisher: self.publisher,
            license: self.license,
            good_at,
            repository,
            params,
            weight_bytes: 2,
            context_len: self.context_len,
            training_tokens: training_billions * 1_000_000_000,
            gated: self.gated,
            contender: self.contender,
            drafts_for: self.drafts_for,
            checkpoints: self.checkpoints,
        }
    }

    const fn contending(self, drafts_for: &'static [&'static str]) -> Self {
        Self {
            contender: true,
            drafts_for,
            ..self
        }
    }
}

const TINYLLAMA: Family = Family {
    architecture: "llama",
    publisher: "TinyLlama project",
    license: "Apache-2.0",
    context_len: 2048,
    gated: false,
    contender: false,
    checkpoints: false,
    drafts_for: &[],
};
const LLAMA_2: Family = Family {
    publisher: "Meta",
    license: "Llama 2 Community License",
    context_len: 4096,
    gated: true,
    ..TINYLLAMA
};
const LLAMA_3_1: Family = Family {
    license: "Llama 3.1 Community License",
    context_len: 131_072,
    ..LLAMA_2
};
const LLAMA_3_2: Family = Family {
    license: "Llama 3.2 Community License",
    ..LLAMA_3_1
};
const STABILITY: Family = Family {
    architecture: "stablelm",
    publisher: "Stability AI",
    license: "Stability AI Community License",
    context_len: 4096,
    ..TINYLLAMA
};
const PYTHIA: Family = Family {
    architecture: "gptneox",
    publisher: "EleutherAI",
    license: "Apache-2.0",
    context_len: 2048,
    checkpoints: true,
    ..TINYLLAMA
};
const SMOLLM2: Family = Family {
    publisher: "Hugging Face",
    context_len: 8192,
    ..TINYLLAMA
};

/// Pythia's tokens: 143,000 steps of 2,097,152 (S. Biderman et al. 2023, <https://arxiv.org/abs/2304.01373>), in billions.
const PYTHIA_TOKENS: u64 = 300;

/// Every known model, the starter first.
pub const CATALOGUE: [Known; 23] = [
    SMOLLM2
        .contending(&["smollm2-360m", "smollm2-1.7b"])
        .model(
            ("starter", &["smollm2-135m-instruct", "smollm2"]),
            ("SmolLM2 135M Instruct", "HuggingFaceTB/SmolLM2-135M-Instruct"),
            (134_515_008, 2_000),
            "Ships with Billion: answers at once, offline, and shows what a very small model can and cannot do.",
        ),
    TINYLLAMA.contending(&["llama-2-7b"]).model(
        ("tinyllama-1.1b-chat", &["tinyllama", "tinyllama-chat"]),
        ("TinyLlama 1.1B Chat v1.0", "TinyLlama/TinyLlama-1.1B-Chat-v1.0"),
        (1_100_048_384, 3_000),
        "A small Llama 2 that chats; drafts for Llama 2 7B.",
    ),
    // The base model is published in F32.
    Known {
        weight_bytes: 4,
        ..TINYLLAMA.contending(&["llama-2-7b"]).model(
            ("tinyllama-1.1b", &[]),
            ("TinyLlama 1.1B", "TinyLlama/TinyLlama-1.1B-intermediate-step-1431k-3T"),
            (1_100_048_384, 3_000),
            "A base model trained on three trillion tokens; a good start for fine-tuning.",
        )
    },
    LLAMA_3_2.contending(&["llama-3.1-8b", "llama-3.2-3b"]).model(
        ("llama-3.2-1b", &["llama3.2-1b"]),
        ("Llama 3.2 1B", "meta-llama/Llama-3.2-1B"),
        (1_235_814_400, 9_000),
        "A base model of the Llama 3 family; drafts for Llama 3.1 8B.",
    ),
    LLAMA_3_2.contending(&["llama-3.1-8b", "llama-3.2-3b"]).model(
        ("llama-3.2-1b-instruct", &["llama3.2-1b-instruct"]),
        ("Llama 3.2 1B Instruct", "meta-llama/Llama-3.2-1B-Instruct"),
        (1_235_814_400, 9_000),
        "Follows instructions and summarises; the strongest here on MMLU.",
    ),
    STABILITY.contending(&["stablelm-2-12b"]).model(
        ("stablelm-2-1.6b", &["stablelm"]),
        ("StableLM 2 1.6B", "stabilityai/stablelm-2-1_6b"),
        (1_644_515_328, 2_000),
        "A multilingual base model.",
    ),
    STABILITY.contending(&["stablelm-2-12b"]).model(
        ("stablelm-2-1.6b-chat", &["stablelm-chat"]),
        ("StableLM 2 1.6B Chat", "stabilityai/stablelm-2-1_6b-chat"),
        (1_644_515_328, 2_000),
        "Chats in several languages.",
    ),
    STABILITY.contending(&["stablelm-2-12b"]).model(
        ("stablelm-2-zephyr-1.6b", &["stablelm-zephyr"]),
        ("StableLM 2 Zephyr 1.6B", "stabilityai/stablelm-2-zephyr-1_6b"),
        (1_644_515_328, 2_000),
        "Follows instructions.",
    ),
    PYTHIA.contending(&["pythia-2.8b", "pythia-6.9b"]).model(
        ("pythia-1b", &["pythia"]),
        ("Pythia 1B", "EleutherAI/pythia-1b"),
        (1_011_781_632, PYTHIA_TOKENS),
        "Made for research: 154 checkpoints of its training are public.",
    ),
    Known {
        drafts_for: &["pythia-1b", "pythia-2.8b", "pythia-6.9b"],
        ..PYTHIA.model(
            ("pythia-70m", &[]),
            ("Pythia 70M", "EleutherAI/pythia-70m"),
            (70_426_624, PYTHIA_TOKENS),
            "The smallest of its family; drafts for the larger ones.",
        )
    },
    PYTHIA.model(
        ("pythia-160m", &[]),
        ("Pythia 160M", "EleutherAI/pythia-160m"),
        (162_322_944, PYTHIA_TOKENS),
        "A point on Pythia's curve of quality over size.",
    ),
    PYTHIA.model(
        ("pythia-410m", &[]),
        ("Pythia 410M", "EleutherAI/pythia-410m"),
        (405_334_016, PYTHIA_TOKENS),
        "A point on Pythia's curve of quality over size.",
    ),
    PYTHIA.model(
        ("pythia-1.4b", &[]),
        ("Pythia 1.4B", "EleutherAI/pythia-1.4b"),
        (1_414_647_808, PYTHIA_TOKENS),
        "A point on Pythia's curve of quality over size.",
    ),
    PYTHIA.model(
        ("pythia-2.8b", &[]),
        ("Pythia 2.8B", "EleutherAI/pythia-2.8b"),
        (2_775_208_960, PYTHIA_TOKENS),
        "A larger target for Pythia drafts.",
    ),
    PYTHIA.model(
        ("pythia-6.9b", &[]),
        ("Pythia 6.9B", "EleutherAI/pythia-6.9b"),
        (6_857_302_016, PYTHIA_TOKENS),
        "The largest target for Pythia drafts.",
    ),
    Known {
        drafts_for: &["smollm2-1.7b"],
        ..SMOLLM2.model(
            ("smollm2-360m", &["smollm2-360m-instruct"]),
            ("SmolLM2 360M Instruct", "HuggingFaceTB/SmolLM2-360M-Instruct"),
            (361_821_120, 4_000),
            "The starter model's larger sister.",
        )
    },
    SMOLLM2.model(
        ("smollm2-1.7b", &["smollm2-1.7b-instruct"]),
        ("SmolLM2 1.7B Instruct", "HuggingFaceTB/SmolLM2-1.7B-Instruct"),
        (1_711_376_384, 11_000),
        "Chats well for its size; the starter model drafts for it.",
    ),
    LLAMA_2.model(
        ("llama-2-7b", &["llama2-7b"]),
        ("Llama 2 7B", "meta-llama/Llama-2-7b-hf"),
        (6_738_415_616, 2_000),
        "A target that TinyLlama drafts for.",
    ),
    LLAMA_2.model(
        ("llama-2-7b-chat", &["llama2-7b-chat"]),
        ("Llama 2 7B Chat", "meta-llama/Llama-2-7b-chat-hf"),
        (6_738_415_616, 2_000),
        "A chatting target that TinyLlama drafts for.",
    ),
    LLAMA_3_1.model(
        ("llama-3.1-8b", &["llama3.1-8b"]),
        ("Llama 3.1 8B", "meta-llama/Llama-3.1-8B"),
        (8_030_261_248, 15_000),
        "A target that Llama 3.2 1B drafts for.",
    ),
    LLAMA_3_1.model(
        ("llama-3.1-8b-instruct", &["llama3.1-8b-instruct"]),
        ("Llama 3.1 8B Instruct", "meta-llama/Llama-3.1-8B-Instruct"),
        (8_030_261_248, 15_000),
        "A target that Llama 3.2 1B Instruct drafts for.",
    ),
    LLAMA_3_2.model(
        ("llama-3.2-3b", &["llama3.2-3b"]),
        ("Llama 3.2 3B", "meta-llama/Llama-3.2-3B"),
        (3_212_749_824, 9_000),
        "A middle-sized target that Llama 3.2 1B drafts for.",
    ),
    STABILITY.model(
        ("stablelm-2-12b", &[]),
        ("StableLM 2 12B", "stabilityai/stablelm-2-12b"),
        (12_143_605_760, 2_000),
        "A target that StableLM 2 1.6B drafts for.",
    ),
];

/// Tokens a parameter that J. Hoffmann et al. 2022 (Chinchilla, <https://arxiv.org/abs/2203.15556>) found best for a given
/// amount of training.
const CHINCHILLA_TOKENS_A_PARAMETER: f64 = 20.0;

/// Steps of Pythia's checkpoints, in order: 0, 1, 2, 4, ... 512, then every 1000 to 143000.
fn steps() -> impl Iterator<Item = u32> {
    std::iter::once(0)
        .chain((0..10).map(|power| 1 << power))
        .chain((1..=143).map(|thousand| thousand * 1000))
}

/// Revisions of the checkpoints of this model's training, in order; none of a model that is not known or has no such
/// revisions. `name` is an id or a short name, and `pythia-1b@step1000` is what commands take.
pub fn checkpoints(name: &str) -> Vec<String> {
    if !Known::find(name).is_some_and(|known| known.checkpoints) {
        return Vec::new();
    }
    steps().map(|step| format!("step{step}")).collect()
}

/// The step of a checkpoint's revision: 1000 of `step1000`.
pub fn checkpoint_step(revision: &str) -> Option<u32> {
    let step = revision.strip_prefix("step")?.parse().ok()?;
    (revision == format!("step{step}") && steps().any(|there| there == step)).then_some(step)
}

/// Whether a revision is one of Pythia's checkpoints.
pub(crate) fn is_checkpoint(revision: &str) -> bool {
    checkpoint_step(revision).is_some()
}

impl Known {
    /// The known model of this id or short name.
    pub fn find(name: &str) -> Option<&'static Self> {
        CATALOGUE
            .iter()
            .find(|known| known.id == name || known.aliases.contains(&name))
    }

    /// The known model of this `OWNER/NAME`. The starter is the file that ships, not its repository.
    pub fn of_repository(repository: &str) -> Option<&'static Self> {
        CATALOGUE
            .iter()
            .find(|known| known.repository.eq_ignore_ascii_case(repository))
            .filter(|known| known.id != crate::STARTER_ID)
    }

    /// About what its files take: the weights as published. The hub tells it exactly before a download.
    pub fn about_bytes(&self) -> u64 {
        self.params * self.weight_bytes
    }

    /// How many times Chinchilla's 20 tokens a parameter it was trained on.
    pub fn chinchilla_ratio(&self) -> f64 {
        self.training_tokens as f64 / self.params as f64 / CHINCHILLA_TOKENS_A_PARAMETER
    }
}

/// Of `names`, those a slip of the keyboard away from `asked`, or that contain it; the nearest three.
pub(crate) fn near_misses<'a>(asked: &str, names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let asked = asked.to_lowercase();
    let mut found: Vec<(bool, usize, &str)> = names
        .filter_map(|name| {
            let distance = edit_distance(&asked, name);
            let contained = asked.len() >= 3 && name.contains(&asked);
            let close = distance <= 1 + asked.len() / 4;
            (close || contained).then_some((!contained, distance, name))
        })
        .collect();
    found.sort_unstable();
    found.dedup();
    found
        .into_iter()
        .take(3)
        .map(|(_, _, name)| name.to_owned())
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
    fn every_entry_is_whole_and_drafts_for_what_is_there_and_larger() {
        let mut repositories: Vec<&str> = CATALOGUE.iter().map(|known| known.repository).collect();
        repositories.sort_unstable();
        repositories.dedup();
        assert_eq!(repositories.len(), CATALOGUE.len());
        for known in &CATALOGUE {
            let id = known.id;
            assert_eq!(known.repository.split('/').count(), 2, "{id}");
            assert_eq!(
                known.gated,
                known.repository.starts_with("meta-llama/"),
                "{id}"
            );
            assert_eq!(known.checkpoints, id.starts_with("pythia"), "{id}");
            // The size is part of the name: "1.1B", "135M".
            let size = known
                .name
                .split(' ')
                .find_map(|word| {
                    let million = word.strip_suffix('M').map(|n| (n, 1e6));
                    let (number, unit) = million.or(word.strip_suffix('B').map(|n| (n, 1e9)))?;
                    Some(number.parse::<f64>().ok()? * unit)
                })
                .expect("a size in the name");
            let ratio = known.params as f64 / size;
            assert!((0.9..1.25).contains(&ratio), "{id}: {ratio}");
            for target in known.drafts_for {
                let target = Known::find(target).expect("known");
                assert_eq!(target.architecture, known.architecture);
                assert!(target.params > known.params * 3 / 2, "{id}");
            }
            assert!(Known::find(known.repository).is_none());
        }
        // design.md: FP16 takes 2.2, 2.4 (2.47 exactly), 3.2 (3.29) and 2.2 GB (2.02 without buffers); Chinchilla is 20.
        let gb = |id: &str| Known::find(id).expect("known").about_bytes() as f64 / 1e9;
        assert!((gb("tinyllama") - 2.2).abs() < 0.01);
        assert!((gb("tinyllama-1.1b") - 4.4).abs() < 0.01);
        assert!((gb("llama-3.2-1b") - 2.47).abs() < 0.01);
        let ratio = Known::find("tinyllama").expect("known").chinchilla_ratio();
        assert!((ratio - 136.4).abs() < 0.1, "{ratio}");
        let repository = |id: &str| Known::of_repository(id).map(|known| known.id);
        assert_eq!(repository("eleutherai/Pythia-1B"), Some("pythia-1b"));
        assert_eq!(repository("HuggingFaceTB/SmolLM2-135M-Instruct"), None);
    }

    #[test]
    fn the_contenders_of_the_design_and_their_targets_are_there() {
        let contenders: Vec<&str> = CATALOGUE
            .iter()
            .filter(|known| known.contender)
            .map(|known| known.repository)
            .collect();
        for repository in [
            "HuggingFaceTB/SmolLM2-135M-Instruct",
            "TinyLlama/TinyLlama-1.1B-Chat-v1.0",
            "TinyLlama/TinyLlama-1.1B-intermediate-step-1431k-3T",
            "meta-llama/Llama-3.2-1B",
            "meta-llama/Llama-3.2-1B-Instruct",
            "stabilityai/stablelm-2-1_6b",
            "stabilityai/stablelm-2-1_6b-chat",
            "stabilityai/stablelm-2-zephyr-1_6b",
            "EleutherAI/pythia-1b",
        ] {
            assert!(contenders.contains(&repository), "{repository}");
        }
        for (draft, targets) in [
            ("tinyllama", &["llama-2-7b"][..]),
            ("llama3.2-1b", &["llama-3.1-8b", "llama-3.2-3b"]),
            ("stablelm", &["stablelm-2-12b"]),
            ("pythia", &["pythia-2.8b", "pythia-6.9b"]),
            ("starter", &["smollm2-360m", "smollm2-1.7b"]),
        ] {
            let known = Known::find(draft).expect("known");
            assert_eq!(known.drafts_for, targets);
        }
        for size in ["70m", "160m", "410m", "1b", "1.4b", "2.8b", "6.9b"] {
            assert_eq!(checkpoints(&format!("pythia-{size}")).len(), 154, "{size}");
        }
    }

    #[test]
    fn pythia_has_154_checkpoints() {
        let steps = checkpoints("pythia");
        assert!(checkpoints("tinyllama").is_empty() && checkpoints("x").is_empty());
        assert_eq!(checkpoint_step("step1000"), Some(1000));
        for other in ["step01000", "step3", "main", "step", "step-1"] {
            assert_eq!(checkpoint_step(other), None, "{other}");
        }
        assert_eq!(steps.len(), 154);
        assert_eq!(steps[..4], ["step0", "step1", "step2", "step4"]);
        assert_eq!(
            (steps[10].as_str(), steps[11].as_str()),
            ("step512", "step1000")
        );
        assert_eq!(steps[153], "step143000");
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
