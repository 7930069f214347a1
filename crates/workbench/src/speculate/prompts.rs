//! The prompts of the pair lab, one of each kind; texts of our own.

use crate::api::{LabPrompt, PromptKind};

/// A text of our own, long enough that a summary repeats its words.
const TEXT: &str = "The tide mill at Carrow stands on a narrow creek that fills twice a day. When the sea comes in, it pushes \
open the gates of the mill pond; when it goes out, the gates close by themselves and the water can leave only under the wheel. \
The miller therefore did not work by the clock but by the moon: his hours moved forward by about fifty minutes a day, and in \
some weeks he ground flour at three in the morning. The wheel is five metres wide and made of oak. It drove two pairs of \
millstones, which could grind about two hundred kilograms of wheat an hour. In 1911 a storm broke the dam, and for ninety years \
the pond was a meadow where cattle grazed. In 2003 the people of the village formed a society, bought the ruin for one pound, \
and began to rebuild the dam stone by stone. The wheel turned again in May 2009. Today the mill makes flour on Saturdays and \
electricity on all other days: a generator behind the wheel feeds about forty households. Visitors can see the gates close at \
high tide and hear the wheel begin to turn about two hours later.";

/// A kind for people.
pub(crate) fn kind_name(kind: PromptKind) -> &'static str {
    match kind {
        PromptKind::Chat => "Chat",
        PromptKind::Code => "Code",
        PromptKind::Summary => "Summary",
        PromptKind::Translation => "Translation",
        PromptKind::Story => "Story",
        PromptKind::Own => "Own prompt",
    }
}

/// The prompt of a kind; none of `Own`.
pub(crate) fn prompt_of(kind: PromptKind) -> Option<String> {
    Some(match kind {
        PromptKind::Chat => {
            "Why is the sky blue, and why are sunsets red? Explain it to a curious twelve-year-old."
                .to_owned()
        }
        PromptKind::Code => {
            "Write a Python function that returns the n-th Fibonacci number without recursion, with a docstring and three asserts."
                .to_owned()
        }
        PromptKind::Summary => format!("Summarize the following text in three sentences.\n\n{TEXT}"),
        PromptKind::Translation => "Translate into French: \"The train to the coast leaves at eight o'clock. Bring a warm coat, \
because the wind from the sea is cold in the evening, and do not forget your camera.\""
            .to_owned(),
        PromptKind::Story => {
            "Write a short story about a lighthouse keeper who finds a letter in a bottle.".to_owned()
        }
        PromptKind::Own => return None,
    })
}

/// Every kind of the lab, in order.
pub(crate) const KINDS: [PromptKind; 5] = [
    PromptKind::Chat,
    PromptKind::Code,
    PromptKind::Summary,
    PromptKind::Translation,
    PromptKind::Story,
];

/// The prompts of the lab.
pub(crate) fn lab_prompts() -> Vec<LabPrompt> {
    KINDS
        .into_iter()
        .filter_map(|kind| {
            Some(LabPrompt {
                kind,
                name: kind_name(kind).to_owned(),
                text: prompt_of(kind)?,
            })
        })
        .collect()
}
