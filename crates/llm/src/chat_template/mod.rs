//! Chat templates: messages to a prompt, rendered in a sandbox.
