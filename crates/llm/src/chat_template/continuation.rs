//! Prompts that end inside the assistant's last message, so that the model goes on from given words.
//!
//! The cut is made as transformers makes it (`continue_final_message`, v5): a mark after the last message shows where it
//! ends in the rendering, and white space before it goes where the template trims messages.

use super::{ChatTemplate, Message, problem};
use crate::Error;

/// What transformers appends to the message too; the space tells whether the template trims.
const MARK: &str = "CONTINUE_FINAL_MESSAGE_TAG ";

impl ChatTemplate {
    /// The prompt of a conversation that ends with the last of `messages`, and not beyond its text.
    pub fn render_unfinished(&self, messages: &[Message]) -> Result<String, Error> {
        let mut marked = messages.to_vec();
        let Some(last) = marked.last_mut() else {
            return Err(problem("there is no message to go on from".to_owned()));
        };
        let text = last.content.trim().to_owned();
        last.content.push_str(MARK);
        let mut rendered = self.render(&marked, false)?;
        let Some(end) = rendered.rfind(MARK.trim_end()) else {
            return Err(dropped());
        };
        let trims = !rendered[end..].starts_with(MARK);
        rendered.truncate(end);
        if trims {
            rendered.truncate(rendered.trim_end().len());
        }
        if rendered.contains(&text) {
            Ok(rendered)
        } else {
            Err(dropped())
        }
    }
}

fn dropped() -> Error {
    problem(
        "it leaves out parts of the last message, so an answer cannot be begun for the model"
            .to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEEPS: &str = "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}{{ eos_token }}\n{% endfor %}\
                         {% if add_generation_prompt %}<|assistant|>\n{% endif %}";
    const TRIMS: &str = "{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ m.content | trim }}</s>{% endfor %}";
    const DROPS: &str =
        "{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}{% endif %}{% endfor %}";

    fn rendered(source: &str, last: &str) -> Result<String, String> {
        let template = ChatTemplate::new(source, "<s>", "</s>").expect("a template");
        let messages = [
            Message::new("user", "Add. "),
            Message::new("assistant", last),
        ];
        template
            .render_unfinished(&messages)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn the_prompt_ends_where_the_message_does() {
        assert_eq!(
            rendered(KEEPS, "Here:\n\n").expect("rendered"),
            "<|user|>\nAdd. </s>\n<|assistant|>\nHere:\n\n"
        );
        assert_eq!(
            rendered(TRIMS, "Here:\n\n").expect("rendered"),
            "<s>[user]Add.</s>[assistant]Here:"
        );
        assert_eq!(
            rendered(KEEPS, "").expect("rendered"),
            "<|user|>\nAdd. </s>\n<|assistant|>\n"
        );
    }

    #[test]
    fn a_message_that_is_left_out_is_an_error() {
        assert!(
            rendered(DROPS, "Here:")
                .expect_err("dropped")
                .contains("leaves out")
        );
        let template = ChatTemplate::new(KEEPS, "", "").expect("a template");
        assert!(template.render_unfinished(&[]).is_err());
    }
}
